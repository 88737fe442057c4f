"""What a run folder says of the run's regime, from its history alone."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mutagrad import checkpoint
from mutagrad.diagnostics import course, diagnose, forecast, regime
from mutagrad.diagnostics.course import Regime, resampled_generations
from mutagrad.diagnostics.forecast import FEWEST
from mutagrad.diagnostics.plans import yardstick
from mutagrad.diagnostics.wording import best_strength_is_without, course_sentences, forecast_sentence
from mutagrad.lab.tasks.data import load
from mutagrad.lab.problem import TrainConfig, make_algorithm, num_shared_layers, num_unit_groups, set_up
from mutagrad.lab.run_folder import read_config, read_history
from mutagrad.report.diagnosis import course_figure
from mutagrad.types import Definition

__all__ = ["diagnosis", "inspect"]

_WINDOWS = 40
_MOST_EXAMPLES = 10_000
"""Examples that a diagnosis looks at: Hessian-vector products keep what the network computes for all of them."""


def inspect(folder: str | Path) -> str:
    """Draw inspect.png into a run folder, and return in sentences in which regime the run was.

    Parameters
    ----------
    folder : as `mutagrad train` wrote it. Nothing in it but inspect.png is written.

    Raises
    ------
    FileNotFoundError, ValueError : if it holds no run, or one whose history lacks what is needed.
    """
    folder = Path(folder)
    config, history = _read(folder)
    settings = _settings(config)
    parts = _parts(settings)
    records = {name: values.values for name, values in history.items() if values.dims == ("generation",)}
    records["generation"] = history.generation.values
    number = len(records["generation"])
    ending = {key: values[2 * number // 3 :] for key, values in records.items()}
    # Batches may have grown to all examples, which have no noise.
    resampled = resampled_generations(records)
    # TrC/B is averaged over generations, so that the batch size that belongs to it is the harmonic mean.
    batch_size = round(1 / float(np.mean(1 / ending["batch_size"]))) if "batch_size" in ending else None
    courses: dict[str, Regime] = {}
    lines = []
    for name, kept in _groups(config.get("outcome", {}), settings, records["generation"]).items():
        own = {key: values[kept] for key, values in records.items()}
        found = course(own, _WINDOWS, resampled[kept])
        # Of windows of turns: the generations that they stand for.
        courses[name] = found._replace(generation=np.interp(found.generation, np.arange(kept.sum()), own["generation"]))
        last = slice(2 * int(kept.sum()) // 3, None)
        whole = regime({key: values[last] for key, values in own.items()}, resampled[kept][last])
        text = course_sentences(found, whole, parts, batch_size)
        lines.append(f"{name[0].upper()}{name[1:]}\n{text}" if name else text)
    if np.isfinite(records["loss"]).sum() >= FEWEST:
        lines.append(forecast_sentence(forecast(records)))
    title = f"{settings.data}, {settings.model}, {settings.algorithm} with M = {parts.num_offspring}"
    condition = best_strength_is_without(parts, bool(resampled.any()))
    course_figure(courses, folder / "inspect.png", title, yardstick(parts).strength, condition)
    return "\n".join([*lines, f"figure: {folder / 'inspect.png'}"])


def diagnosis(folder: str | Path, num_workers: int = 1) -> str:
    """Diagnose the loss at a run's last parameters, gradient included, draw diagnosis.png, and return the text.

    Parameters
    ----------
    folder : as `mutagrad train` wrote it; its data are read again. Nothing in it but diagnosis.png is written.
    num_workers : evaluations at the same time.

    Returns
    -------
    What `mutagrad.diagnose` says of the σ of the last generation on as many examples as its batch had, 10,000 at most. Where
    parts of the network took turns it is of all parameters at once, and of their best σ.

    Raises
    ------
    FileNotFoundError, ValueError : as `inspect`, and if the data are not found or the run has saved no state.
    """
    folder = Path(folder)
    config, history = _read(folder)
    settings = _settings(config)
    if not (folder / "checkpoint").exists():
        raise FileNotFoundError(f"run: got {str(folder)!r}, which holds no checkpoint; let the run save itself first")
    problem = set_up(settings, load(settings.data, settings.data_dir))
    params = checkpoint.restore_or(folder / "checkpoint", problem.key, problem.state).params
    number = len(problem.data.train_labels)
    size = int(history.batch_size[-1]) if "batch_size" in history else problem.batches.sizes[-1]
    chosen = np.random.default_rng(0).permutation(number)[: min(size, _MOST_EXAMPLES)]
    takes_turns = num_shared_layers(settings) > 0 or num_unit_groups(settings, number) > 1
    found = diagnose(
        jax.random.key(0),
        problem.loss_fn,
        params,
        None if takes_turns else problem.algorithm,
        problem.algorithm.definition.num_offspring,
        sigma=None if takes_turns else float(history.sigma[-1]),
        batch=(problem.data.train_inputs[chosen], problem.data.train_labels[chosen]),
        resampled=size < number,
        num_workers=num_workers,
        use_gradient=True,
    )
    found.figure(folder / "diagnosis.png")
    where = f"At the last parameters, on {len(chosen):,} examples" + ", all parameters at once" * takes_turns
    return f"{where}:\n{found}\nfigure: {folder / 'diagnosis.png'}"


def _read(folder: Path) -> tuple[dict[str, Any], Any]:
    """config.json and history.zarr of a run."""
    try:
        config, history = read_config(folder), read_history(folder)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(
            f"run: got {str(folder)!r}, which holds no run (no config.json); pass a folder that mutagrad train --out wrote"
        ) from None
    except KeyError as error:
        raise ValueError(f"run: got {str(folder)!r}, whose history.zarr is damaged ({error})") from None
    if history is None:
        raise FileNotFoundError(
            f"run: got {str(folder)!r}, which holds no history.zarr yet; let the run save itself first"
        )
    return config, history


def _settings(config: dict[str, Any]) -> TrainConfig:
    """The settings of the run, those that this version does not have left out."""
    known = {field.name for field in dataclasses.fields(TrainConfig)}
    return TrainConfig(**{name: value for name, value in config.get("settings", {}).items() if name in known})


def _parts(settings: TrainConfig) -> Definition:
    """What the run's algorithm was assembled from; no layer mutated in turns, because there are none without params."""
    return make_algorithm(dataclasses.replace(settings, shared_layers=0), None).definition


def _groups(outcome: dict[str, Any], settings: TrainConfig, generation: np.ndarray) -> dict[str, np.ndarray]:
    """Generations by the group of parameters that mutated in them."""
    # The outcome is written at the end of a run.
    shared = outcome.get("shared_layers", num_shared_layers(settings))
    if not shared:
        return {"": np.ones(len(generation), bool)}
    period = settings.shared_generations + 1
    is_late = (generation - 1) % period < settings.shared_generations
    return {"the other layers": is_late, f"the first {shared} layers": ~is_late}
