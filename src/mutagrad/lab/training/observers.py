"""What looks at a training run while it goes on: measurements on test examples, and the progress bar."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from mutagrad.lab.tasks.task import Score
from mutagrad.lab.training import run_folder
from mutagrad.lab.training.problem import Problem
from mutagrad.run import journal
from mutagrad.run.files import aside
from mutagrad.run.loop import Chunk
from mutagrad.run.minibatches import changes
from mutagrad.run.observers import Observer, Progress

__all__ = ["Measurements", "TrainingProgress", "stop_at_score"]

_MEASURING_SHARE = 0.1
"""The network is measured as often as leaves it this share of the time."""
_APART = 1 / 200
"""Measurements are this share of the time so far apart: a curve of a short run, and a file that does not grow with a long one."""
_TRAIN_SAMPLE = 10_000
"""While running it is measured on so many of the training examples, and on all of them at the end."""


class Measurements:
    """Scores on the test examples, and on some of those that are trained on, now and then.

    Attributes
    ----------
    columns : lists of what was measured, by name, with the generation that it was measured after.
    test : the last Score on the test examples.
    """

    def __init__(self, problem: Problem, folder: Path | None = None):
        past = {} if folder is None else run_folder.read_measurements(folder)
        self._path, self._num_written = None if folder is None else folder / run_folder.MEASUREMENTS, 0
        self._task = problem.task
        name = self._task.score_name
        names = ("measured_generation", f"test_{name}", f"train_{name}", "test_loss", "train_loss")
        # Of other columns, the file is moved aside when it is written to.
        past = past if past.keys() == set(names) else {}
        self.columns: dict[str, list] = {one: np.asarray(past.get(one, ())).tolist() for one in names}
        self.test: Score | None = None
        self._start = self._last = time.perf_counter()
        self._pause = 0.0

    def __call__(self, chunk: Chunk) -> None:
        """Measure if it is time to."""
        now = time.perf_counter()
        if now - self._last > self._pause:
            # The first of a sitting compiles, which says nothing of what the others take.
            is_first = self.test is None
            self.measure(chunk.state)
            taken = 0.0 if is_first else self._last - now
            self._pause = max((self._last - self._start) * _APART, taken / _MEASURING_SHARE)

    def measure(self, state: Any) -> None:
        """Measure, unless that has been done at this generation."""
        generation, data = int(state.generation), self._task.data
        if self.test is not None and self.columns["measured_generation"][-1:] == [generation]:
            return
        for column in self.columns.values():
            del column[np.searchsorted(self.columns["measured_generation"], generation) :]
        some = slice(0, _TRAIN_SAMPLE)
        self.test = self._task.measure_fn(state.params, data.test_inputs, data.test_targets)
        train = self._task.measure_fn(state.params, data.train_inputs[some], data.train_targets[some])
        found = (generation, self.test.score, train.score, self.test.loss, train.loss)
        for column, value in zip(self.columns.values(), found, strict=True):
            column.append(value)
        self._write()
        self._last = time.perf_counter()

    def _write(self) -> None:
        """Append what has not been written; what cannot be is tried again next time."""
        if self._path is None:
            return
        number = len(self.columns["measured_generation"])
        first = min(self._num_written, number - 1)
        columns = {name: np.asarray(column[first:]) for name, column in self.columns.items()}
        try:
            with journal.Journal(self._path, columns) as file:
                file.append(first, columns)
            self._num_written = number
        except ValueError:
            # It is damaged at its head.
            self._path.rename(aside(self._path, "damaged"))
        except OSError:
            pass


def attributes(problem: Problem) -> dict[str, Any]:
    """What a history says of itself."""
    return {"evaluations_per_generation": evaluations(problem), "score": problem.task.score_name}


def evaluations(problem: Problem) -> int:
    """Loss evaluations in a generation, parents included."""
    is_resampled = changes(problem.batches)
    return len(problem.algorithm.ask(problem.key, problem.state, is_resampled=is_resampled))


class TrainingProgress:
    """A progress bar that shows the last test score too."""

    def __init__(self, total: int | None, measurements: Measurements):
        self._total, self._measurements = total, measurements
        self._bar: _Bar | None = None

    def __call__(self, chunk: Chunk) -> None:
        """Go on by a chunk."""
        if self._bar is None:
            self._bar = _Bar(self._total, chunk.generation - chunk.num_generations, self._measurements)
        self._bar(chunk)

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()


class _Bar(Progress):
    def __init__(self, total: int | None, initial: int, measurements: Measurements):
        super().__init__(total, initial)
        self._measurements = measurements

    def shown(self, chunk: Chunk) -> dict[str, str]:
        """Loss, σ and s, and how well the network did last."""
        test = self._measurements.test
        return super().shown(chunk) | ({} if test is None else {"test": f"{test.score:.4f}"})


def stop_at_score(target: float, measurements: Measurements, name: str) -> Observer:
    """Stop when the last score on the test examples is no lower than the target."""

    def observe(chunk: Chunk) -> str | None:
        test = measurements.test
        return f"test {name} {target:g}" if test is not None and test.score >= target else None

    return observe
