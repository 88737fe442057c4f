"""The main job: train a network on images by mutation and selection, and leave a run folder."""

import dataclasses
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mutagrad import checkpoint, tree
from mutagrad.diagnostics import is_resampled
from mutagrad.diagnostics.wording import best_strength_is_without
from mutagrad.lab import run_folder, summary
from mutagrad.lab.tasks.data import load
from mutagrad.lab.problem import (
    Problem,
    TrainConfig,
    check_settings,
    num_shared_layers,
    num_turn_generations,
    num_unit_groups,
    set_up,
)
from mutagrad.report.figures import training_figure
from mutagrad.run import Chunk, generations, interruptible
from mutagrad.theory.optimum import best_strength
from mutagrad.types import Algorithm

__all__ = ["train"]

_DEFAULT_GENERATIONS = 2000
_CHECKPOINT_SECONDS = 60.0
_MEASURING_SHARE = 0.1
"""Accuracy is measured as often as leaves it this share of the time, once a second at most."""
_TRAIN_SAMPLE = 10_000
"""Training accuracy is measured on so many examples while running, and on all of them at the end."""
_MAY_CHANGE = ("generations", "seconds", "target_accuracy", "resume", "out", "data_dir")
"""Settings that a resumed run may change."""


class _Recorder:
    """What a run has recorded and measured, and the folder, if any, that it is saved in.

    In a folder, what has been saved is let go; without one, everything is kept to the end.
    """

    def __init__(self, problem: Problem, folder: Path | None):
        self._problem = problem
        self._folder = folder
        self._records: list[dict[str, np.ndarray]] = []
        self._measured: dict[str, list] = {"measured_generation": [], "test_accuracy": [], "train_accuracy": []}
        self._last_saved = self._last_measured = time.perf_counter()
        self._pause = 1.0

    @property
    def test_accuracy(self) -> float:
        """As it was measured last."""
        return self._measured["test_accuracy"][-1]

    def add(self, chunk: Chunk) -> None:
        """Take the records of a chunk; measure and save if it is time to."""
        # A run of one size records it too, so that all histories have it.
        size = np.full(chunk.num_generations, self._problem.batches.sizes[0], np.int32)
        self._records.append({"batch_size": size} | chunk.records)
        now = time.perf_counter()
        if now - self._last_measured > self._pause:
            self.measure(chunk.state)
            self._pause = max(1.0, (self._last_measured - now) / _MEASURING_SHARE)
        if self._folder is not None and time.perf_counter() - self._last_saved > _CHECKPOINT_SECONDS:
            self.save(chunk.state)

    def measure(self, state: Any) -> None:
        """Measure accuracy, unless it has been at this generation."""
        generation = int(state.generation)
        if self._measured["measured_generation"][-1:] == [generation]:
            return
        data, accuracy_fn = self._problem.data, self._problem.accuracy_fn
        some = slice(0, _TRAIN_SAMPLE)
        self._measured["measured_generation"].append(generation)
        self._measured["test_accuracy"].append(accuracy_fn(state.params, data.test_inputs, data.test_labels))
        self._measured["train_accuracy"].append(
            accuracy_fn(state.params, data.train_inputs[some], data.train_labels[some])
        )
        self._last_measured = time.perf_counter()

    def save(self, state: Any) -> Any:
        """Bring history, checkpoint and parameters in the folder to this state; the history so far, as xarray."""
        records = _joined(self._records)
        if self._folder is None:
            import xarray

            return xarray.Dataset(
                {name: ("generation", values) for name, values in records.items()}
                | {name: ("measurement", values) for name, values in self._measured.items()}
            )
        attributes = {"evaluations_per_generation": _evaluations(self._problem.algorithm)}
        # The history first: a resumed run drops records later than its checkpoint, and cannot make up missing ones.
        history = run_folder.append_history(
            self._folder, records or _no_records(self._folder), self._measured, attributes, int(state.generation)
        )
        checkpoint.save(self._folder / "checkpoint", self._problem.key, state)
        run_folder.write_arrays(self._folder, "params", state.params)
        self._records = []
        self._measured = {name: values[-1:] for name, values in self._measured.items()}
        self._last_saved = time.perf_counter()
        return history


def _joined(records: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in records]) for name in records[0]} if records else {}


def _no_records(folder: Path) -> dict[str, np.ndarray]:
    """Records of no generation, for a run that has been saved since its last one."""
    history = run_folder.read_history(folder)
    if history is None:
        raise FileNotFoundError(
            f"out: got {str(folder)!r}, which has lost its history.zarr; pass more generations, or start a new run"
        )
    return {name: values.values[:0] for name, values in history.items() if values.dims == ("generation",)}


def train(config: TrainConfig, progress: bool = True) -> dict[str, Any]:
    """Train a network by mutation and selection, write a run folder, and say what happened.

    Parameters
    ----------
    config : see `mutagrad.lab.problem.TrainConfig`.
    progress : whether to show a progress bar.

    Returns
    -------
    dict : accuracies, generations, evaluations, seconds, why it stopped, and the regime (see `summary.regime`). With
    ``out`` the folder then holds config.json (settings, versions and this outcome), history.zarr, checkpoint (Orbax),
    params.safetensors, training.png and, where there are ``components``, inputs.safetensors, which makes them. Ctrl-C ends
    the run cleanly with all of that written.

    Raises
    ------
    ValueError, FileNotFoundError, FileExistsError, OSError : for arguments out of their domain, data that are missing or
        malformed, and a folder that exists or cannot be written; one line that names the argument.

    >>> from mutagrad.lab.problem import TrainConfig
    >>> from mutagrad.lab.train import train
    >>> outcome = train(TrainConfig(generations=20), progress=False)
    >>> outcome["generations"], outcome["evaluations"]
    (20, 420)
    """
    check_settings(config)
    data = load(config.data, config.data_dir)
    problem = set_up(config, data)
    folder = Path(config.out) if config.out is not None else None
    settings = {"settings": dataclasses.asdict(config), "versions": _versions()}
    state = problem.state if folder is None else _open(folder, config, problem, settings)
    recorder = _Recorder(problem, folder)
    recorder.measure(state)
    start = time.perf_counter()
    state, stopped = _run(config, problem, state, recorder, progress)
    seconds = time.perf_counter() - start
    recorder.measure(state)
    history = recorder.save(state)
    outcome = {
        "test_accuracy": recorder.test_accuracy,
        "train_accuracy": problem.accuracy_fn(state.params, problem.data.train_inputs, problem.data.train_labels),
        "generations": int(state.generation),
        "evaluations": int(state.generation) * _evaluations(problem.algorithm),
        "batch_sizes": [int(history.batch_size.min()), int(history.batch_size.max())],
        "num_parameters": tree.size(state.params),
        "seconds": seconds,
        "stopped": stopped,
        "drift": summary.drift_per_sigma(problem.algorithm.definition),
        "components": problem.components,
        "input_size": math.prod(data.train_inputs.shape[1:]),
        "shared_layers": num_shared_layers(config),
        "shared_generations": config.shared_generations,
        "unit_groups": num_unit_groups(config, len(data.train_labels)),
        "turn_generations": num_turn_generations(config),
        "num_nonfinite": int(history.num_nonfinite.sum()),
        "regime": summary.regime(problem.algorithm.definition, history),
    }
    if folder is not None:
        run_folder.write_json(folder / "config.json", settings | {"outcome": outcome})
        _draw(folder, config, problem.algorithm, history, outcome)
    return outcome


def _open(folder: Path, config: TrainConfig, problem: Problem, settings: dict[str, Any]) -> Any:
    """Make the folder of a new run, or find that of an old one: the state to go on from."""
    state = problem.state
    if config.resume:
        _check_same(config, run_folder.read_config(folder))
        state = checkpoint.restore_or(folder / "checkpoint", problem.key, state)
    else:
        run_folder.create(folder)
    run_folder.write_json(folder / "config.json", settings)
    if problem.transform is not None:
        run_folder.write_arrays(folder, "inputs", problem.transform)
    return state


def _run(config: TrainConfig, problem: Problem, state: Any, recorder: _Recorder, progress: bool) -> tuple[Any, str]:
    """Generations until something stops them: the last state, and what it was."""
    first = int(state.generation)
    wanted = config.generations
    if wanted is None and config.seconds is None and config.target_accuracy is None:
        wanted = _DEFAULT_GENERATIONS
    remaining = max(0, wanted - first) if wanted is not None else 2**31 - 1 - first
    start = time.perf_counter()
    bar = tqdm(total=wanted, initial=first, disable=not progress, unit="gen", dynamic_ncols=True)
    with bar, interruptible() as interrupted:
        for chunk in generations(problem.key, problem.algorithm, state, problem.loss_fn, remaining, problem.batches):
            state = chunk.state
            recorder.add(chunk)
            bar.set_postfix(_postfix(chunk.records, recorder.test_accuracy), refresh=False)
            bar.update(chunk.num_generations)
            if interrupted.is_set():
                return state, "Ctrl-C"
            if config.seconds is not None and time.perf_counter() - start > config.seconds:
                return state, f"{config.seconds:g} seconds"
            if config.target_accuracy is not None and recorder.test_accuracy >= config.target_accuracy:
                return state, f"test accuracy {config.target_accuracy:g}"
    return state, "generations"


def _draw(folder: Path, config: TrainConfig, algorithm: Algorithm, history: Any, outcome: dict[str, Any]) -> None:
    title = (
        f"{config.data}, {config.model} of {outcome['num_parameters']:,} parameters, "
        f"{config.algorithm} with M = {algorithm.definition.num_offspring}, σ {config.sigma}, "
        f"{summary.batches(outcome)}, seed {config.seed}"
    )
    best = best_strength(algorithm.definition) if config.sigma == "auto" else None
    condition = best_strength_is_without(algorithm.definition, is_resampled(history))
    training_figure(history, folder / "training.png", title, best, condition)


def _evaluations(algorithm: Algorithm) -> int:
    """Loss evaluations in a generation: the offspring, the parents, and what they recombine to."""
    selection = algorithm.definition.selection
    return algorithm.definition.num_offspring + selection.num_winners + (selection.weights_fn is not None)


def _postfix(records: dict[str, np.ndarray], test_accuracy: float) -> dict[str, str]:
    return {
        "loss": f"{records['loss'][-1]:.4f}",
        "accuracy": f"{100 * test_accuracy:.2f}%",
        "σ": f"{records['sigma'][-1]:.2g}",
        "s": f"{records['normalized_mutation_strength'][-1]:.2f}",
    }


def _check_same(config: TrainConfig, saved: dict[str, Any]) -> None:
    settings = saved.get("settings", {})
    for field in dataclasses.fields(config):
        if field.name in _MAY_CHANGE:
            continue
        now, then = getattr(config, field.name), settings.get(field.name)
        if (list(now) if isinstance(now, tuple) else now) != then:
            raise ValueError(
                f"{field.name}: got {now!r} where the run in {config.out!r} has {then!r}; resume with the settings that "
                "it was started with"
            )


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("mutagrad", "jax", "jaxlib", "numpy", "equinox")}
