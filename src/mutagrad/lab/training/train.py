"""The main job: train a network by mutation and selection, and leave a run folder."""

import dataclasses
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from mutagrad.lab.tasks.data import load
from mutagrad.lab.tasks.dataset import Dataset
from mutagrad.lab.training import figure, observers, resume, run_folder, summary
from mutagrad.lab.training.options import MAY_CHANGE, TrainConfig, to_saved
from mutagrad.lab.training.problem import Problem, check_settings, set_up
from mutagrad.run.evolve import Result, RunError, evolve
from mutagrad.run.files import check_name
from mutagrad.run.identity import versions
from mutagrad.run.lock import locked
from mutagrad.run.observers import stop_after, stop_on_failures
from mutagrad.run.signals import interruptible

__all__ = ["resumed", "train"]

_UNLIMITED = 2**31 - 1


def resumed(folder: str | Path, given: dict[str, Any]) -> TrainConfig:
    """The settings of a run to go on with: its own, but for those that are given and may change.

    Parameters
    ----------
    folder : of the run.
    given : settings by name; those that may not change must be the run's.

    Raises
    ------
    FileNotFoundError, ValueError : if there is no run, or a setting is given that differs and may not.
    """
    folder = Path(os.path.expanduser(folder))
    if resume.is_blank(folder):
        raise FileNotFoundError(f"run: got {str(folder)!r}, where nothing has been saved; begin with --out {folder}")
    saved = run_folder.read_settings(folder)
    config = dataclasses.replace(saved, **(given | {"out": str(folder), "resume": True}))
    _check_same(config, saved)
    return config


def train(config: TrainConfig, progress: bool = True) -> dict[str, Any]:
    """Train a network by mutation and selection, write a run folder, and say what happened.

    Parameters
    ----------
    config : see `mutagrad.lab.training.options.TrainConfig`.
    progress : whether to show a progress bar.

    Returns
    -------
    dict : scores, generations, evaluations, seconds, why it stopped, and the regime; see `summary.outcome`. With ``out`` the
    folder then holds config.json (settings, versions and this outcome), history.zarr, checkpoint (Orbax), params.safetensors,
    training.png and, where the inputs were changed, inputs.safetensors, which says how. Ctrl-C, SIGTERM and SIGHUP end
    the run cleanly with all of that written; the outcome's "stopped" is then one of these names. A figure that cannot be
    written is no error: the outcome has the reason as "not_drawn".

    Raises
    ------
    ValueError, FileNotFoundError, FileExistsError, OSError : for arguments out of their domain, data that are missing or
        malformed, and a folder that exists or cannot be written; one line that names the argument.
    RunError : if something fails on the way; everything up to it is written.

    >>> from mutagrad.lab.training.options import TrainConfig
    >>> from mutagrad.lab.training.train import train
    >>> outcome = train(TrainConfig(sigma=0.01, generations=20), progress=False)
    >>> outcome["generations"], outcome["evaluations"]
    (20, 420)
    """
    check_settings(config)
    data = load(config.data, config.data_dir, config.task)
    folder = Path(config.out) if config.out is not None else None
    problem = set_up(config, data, run_folder.read_inputs(folder) if folder is not None and config.resume else None)
    settings = {
        "settings": to_saved(config),
        "versions": versions(),
        "device": resume.device(),
        "examples": resume.examples(data),
    }
    with interruptible(), ExitStack() as held:
        if folder is not None:
            held.enter_context(_opened(folder, config, data, problem, settings))
        start = time.perf_counter()
        run, measurements, failure = _run(config, problem, folder, progress)
        outcome = summary.outcome(config, problem, run, measurements.columns, time.perf_counter() - start)
        if folder is not None:
            _finish(folder, config, problem, run, measurements, settings, outcome)
    if failure is not None:
        raise failure
    return outcome


@contextmanager
def _opened(
    folder: Path, config: TrainConfig, data: Dataset, problem: Problem, settings: dict[str, Any]
) -> Iterator[None]:
    """The folder of a new run, or of an old one, which nobody else writes to."""
    check_name(folder.absolute(), "out")
    if config.resume:
        saved = run_folder.read_config(folder)
        _check_same(config, run_folder.read_settings(folder))
        if resume.are_others(saved, data, problem.task.data):
            raise ValueError(
                f"data: got {config.data!r}, whose examples are others than those of the run in {str(folder)!r}; restore "
                "them, or start a new run"
            )
    elif not resume.is_blank(folder):
        run_folder.create(folder)
    with locked(folder, "out"):
        run_folder.write_config(folder, settings)
        if problem.inputs.arrays is not None:
            run_folder.write_arrays(folder, "inputs", problem.inputs.arrays)
        run_folder.seal(folder)
        yield


def _finish(
    folder: Path,
    config: TrainConfig,
    problem: Problem,
    run: Result,
    measurements: observers.Measurements,
    settings: dict[str, Any],
    outcome: dict[str, Any],
) -> None:
    """What a run leaves at its end, and last the sums of it."""
    run_folder.write_config(folder, settings | {"outcome": outcome})
    run_folder.write_arrays(folder, "params", run.params)
    if run.history is not None:
        history = run_folder.as_dataset(run.history, measurements.columns)
        run_folder.write_history(folder, history, observers.attributes(problem))
        try:
            figure.draw(folder / "training.png", config, problem, run.history, measurements.columns, outcome)
        except OSError as error:
            outcome["not_drawn"] = str(error)
    run_folder.seal(folder)


def _run(
    config: TrainConfig, problem: Problem, folder: Path | None, progress: bool
) -> tuple[Result, observers.Measurements, RunError | None]:
    """Generations until something stops them, with everything saved."""
    measurements = observers.Measurements(problem, folder)
    if not measurements.columns["measured_generation"]:
        measurements.measure(problem.state)
    watching: list[Any] = [measurements, stop_on_failures()]
    if config.seconds is not None:
        watching.append(stop_after(config.seconds))
    if config.target is not None:
        watching.append(observers.stop_at_score(config.target, measurements, problem.task.score_name))
    wanted = resume.wanted_generations(config)
    if progress:
        watching.append(observers.TrainingProgress(wanted, measurements))
    task, failure = problem.task, None
    try:
        run = evolve(
            problem.key,
            problem.algorithm,
            Result(problem.state.params, problem.state, None, ""),
            task.loss_fn,
            wanted or _UNLIMITED,
            problem.batches,
            observers=watching,
            checkpoint=None if folder is None else folder / "checkpoint",
            progress=False,
        )
    except RunError as error:
        run, failure = error.result, error
    measurements.measure(run.state)
    return run, measurements, failure


def _check_same(config: TrainConfig, saved: TrainConfig) -> None:
    now, then = to_saved(config), to_saved(saved)
    for name in now:
        if name not in MAY_CHANGE and now[name] != then[name]:
            raise ValueError(
                f"{name}: got {now[name]!r} where the run in {config.out!r} has {then[name]!r}; leave it out, or start a new run"
            )
