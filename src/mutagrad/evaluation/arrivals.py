"""Evaluations in no order: candidates that are made when a worker is free, and outcomes as they come."""

import math
from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np

from mutagrad.evaluation.pool import Outside
from mutagrad.failures import Failure

__all__ = ["Arrivals", "mean_of"]


class Arrivals(Outside):
    """What `mutagrad.executor` evaluates, one candidate at a time and without generations.

    Parameters
    ----------
    outside : the ``evaluate_fn`` of an executor, whose pool and policies these are.
    """

    def __init__(self, outside: Outside):
        self.__dict__.update(vars(outside))

    @property
    def has_pool(self) -> bool:
        """Whether evaluations leave this process."""
        return self._pool is not None

    @property
    def is_batched(self) -> bool:
        """Whether the loss takes all candidates of a generation at once."""
        return self._is_batched

    def stream(
        self, loss_fn: Callable, candidates: Sequence[Any], todo: deque[int], num_parents: int
    ) -> Generator[tuple[int, Any, int]]:
        """Index, outcome and number of attempts of candidates as they end; at least once a second index −1.

        Parameters
        ----------
        candidates : ``candidates[index]`` is asked for when it is sent, and again where it is tried again.
        todo : indices to evaluate; what is added meanwhile is evaluated too.
        num_parents : indices below are parents, which are tried again where others are skipped.

        Raises
        ------
        ValueError : where a failure is one that stops.
        """
        attempts: Counter[int] = Counter()
        shape: tuple[int, ...] | None = None
        for index, outcome in self._outcomes(loss_fn, 1, candidates, todo):
            if index < 0:
                yield -1, None, 0
                continue
            attempts[index] += 1
            if isinstance(outcome, np.ndarray):
                shape = outcome.shape if shape is None else shape
                if outcome.shape != shape:
                    text = f"got {outcome.size} losses back where the first evaluation gave {math.prod(shape)}"
                    outcome = Failure(text, "shape")
            if self._is_to_be_tried_again(outcome, attempts[index], index < num_parents):
                todo.append(index)
            else:
                yield index, outcome, attempts.pop(index)


def mean_of(outcome: Any) -> float:
    """The loss of an evaluation; NaN of one that failed."""
    if isinstance(outcome, Failure):
        return float("nan")
    mean = float(np.mean(np.asarray(outcome, np.float64)))
    return mean if np.isfinite(mean) else float("nan")
