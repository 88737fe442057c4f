"""The main job: train a network by mutation and selection, and leave a run folder."""

import dataclasses
import os
import time
from pathlib import Path
from typing import Any

from mutagrad.lab.tasks.data import load
from mutagrad.lab.training import figure, observers, resume, run_folder, summary
from mutagrad.lab.training.options import MAY_CHANGE, TrainConfig, to_saved
from mutagrad.lab.training.problem import Problem, check_settings, set_up
from mutagrad.run import checkpoint
from mutagrad.run.evolve import Result, RunError, evolve
from mutagrad.run.observers import History, stop_after
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
    training.png and, where the inputs were changed, inputs.safetensors, which says how. Ctrl-C and SIGTERM end the run
    cleanly with all of that written; the outcome's "stopped" is then "Ctrl-C" or "SIGTERM". A figure that cannot be
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
    problem = set_up(config, load(config.data, config.data_dir, config.task))
    folder = Path(config.out) if config.out is not None else None
    settings = {"settings": to_saved(config), "versions": resume.versions(), "device": resume.device()}
    with interruptible():
        if folder is not None:
            _open(folder, config, problem, settings)
        start = time.perf_counter()
        run, measurements, failure = _run(config, problem, folder, progress)
        outcome = summary.outcome(config, problem, run, measurements.columns, time.perf_counter() - start)
        if folder is not None:
            run_folder.write_json(folder / "config.json", settings | {"outcome": outcome})
    if folder is not None and run.history is not None:
        try:
            figure.draw(folder / "training.png", config, problem, run.history, measurements.columns, outcome)
        except OSError as error:
            outcome["not_drawn"] = str(error)
    if failure is not None:
        raise failure
    return outcome


def _open(folder: Path, config: TrainConfig, problem: Problem, settings: dict[str, Any]) -> None:
    """Make the folder of a new run, or find that of an old one."""
    if config.resume:
        _check_same(config, run_folder.read_settings(folder))
    elif not resume.is_blank(folder):
        run_folder.create(folder)
    run_folder.write_json(folder / "config.json", settings)
    if problem.inputs.arrays is not None:
        run_folder.write_arrays(folder, "inputs", problem.inputs.arrays)


def _run(
    config: TrainConfig, problem: Problem, folder: Path | None, progress: bool
) -> tuple[Result, observers.Measurements, RunError | None]:
    """Generations until something stops them, with everything saved."""
    state, past, measured = problem.state, None, None
    if folder is not None and config.resume:
        state, past = checkpoint.restore_or(folder / "checkpoint", problem.key, state)
        earlier = run_folder.read_history(folder)
        measured = {name: values.values.tolist() for name, values in (earlier or {}).items()}
    history, measurements = History(past), observers.Measurements(problem, measured)
    measurements.measure(state)
    watching: list[Any] = [history, measurements]
    saving = None if folder is None else observers.Saving(folder, problem, history, measurements)
    if saving is not None:
        watching.append(saving)
    if config.seconds is not None:
        watching.append(stop_after(config.seconds))
    if config.target is not None:
        watching.append(observers.stop_at_score(config.target, measurements, problem.task.score_name))
    wanted = resume.wanted_generations(config)
    if progress:
        watching.append(observers.TrainingProgress(wanted, measurements))
    evaluations, task = int(state.generation) * observers.evaluations(problem), problem.task
    failure = None
    try:
        run = evolve(
            problem.key,
            problem.algorithm,
            Result(state.params, state, past, "", evaluations),
            task.loss_fn,
            wanted or _UNLIMITED,
            problem.batches,
            observers=watching,
            progress=False,
        )
    except RunError as error:
        run, failure = error.result, error
    measurements.measure(run.state)
    if saving is not None:
        saving.save(run.state)
    return run, measurements, failure


def _check_same(config: TrainConfig, saved: TrainConfig) -> None:
    now, then = to_saved(config), to_saved(saved)
    for name in now:
        if name not in MAY_CHANGE and now[name] != then[name]:
            raise ValueError(
                f"{name}: got {now[name]!r} where the run in {config.out!r} has {then[name]!r}; leave it out, or start a new run"
            )
