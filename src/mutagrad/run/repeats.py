"""Whether a loss in ordinary Python gives other numbers for the same parameters: noise of its own, of which nobody told.

A controller of σ that takes the luck of a winner for progress ends anywhere. So in some generations the parent before is
evaluated once more; where its loss is another one than in its own generation, all that follow are told as if on a fresh batch.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mutagrad.evaluation.losses import Losses
from mutagrad.offspring import Offspring
from mutagrad.run.identity import mark

__all__ = ["Believed", "Repeats", "was_noisy"]

_OFTEN = 32
"""Generations between two looks, after the first ones."""
_VISIBLE = 0.01
"""Noise counts from this share of the spread of the best candidates on: less is the rounding of sums in another order."""
_BEST = 4
"""The best of so many are one: by their spread, which penalties do not reach."""
_PATIENCE = 10
"""Looks that see nothing, until noise of which only an earlier history tells is no more believed in."""
_REMEMBERED = 64
"""Parents whose losses are known; those of algorithms that take turns are some generations old."""


class Believed:
    """An ``evaluate_fn`` whose losses are believed to be noisy, since an earlier sitting found them so."""

    is_noisy = True

    def __init__(self, evaluate_fn: Callable[..., Any]):
        self._evaluate_fn = evaluate_fn

    def __call__(self, loss_fn: Callable[..., Any], offspring: Offspring) -> Any:
        """What it returns."""
        return self._evaluate_fn(loss_fn, offspring)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._evaluate_fn, name)


class Repeats:
    """Looks for noise in the losses of a run.

    Parameters
    ----------
    is_noisy : what is believed at first, such as by the history of an earlier sitting.

    Attributes
    ----------
    is_noisy : what is believed now. Once noise is found, it stays.
    is_found : whether this run has found it.
    """

    def __init__(self, is_noisy: bool = False):
        self.is_noisy, self.is_found = is_noisy, False
        self._looks = 0
        self._losses: dict[bytes, float] = {}

    def is_due(self, generation: int) -> bool:
        """Whether the parent before is to be a candidate: in generations 0, 1, 2, 4, …, 32, 64, 96, …; with noise in all.

        It depends on nothing else, so that a run that goes on has the candidates that it had.
        """
        is_early = generation < _OFTEN and generation & (generation - 1) == 0
        return self.is_noisy or is_early or generation % _OFTEN == 0

    def seen(self, raw: Any, losses: Losses, offspring: Offspring, is_extra: bool) -> Losses:
        """What is to be told of the losses of a generation: all, or those without an extra one of the parent before.

        Parameters
        ----------
        raw : losses in the digits that they came in; their moments are in ``losses``.
        """
        has_before = offspring.num_before > offspring.num_parents == 1
        if not self.is_found and (has_before or self._losses):
            while len(self._losses) >= _REMEMBERED:
                self._losses.pop(next(iter(self._losses)))
            self._losses[mark(offspring.parents)] = _mean(raw, 0)
            if has_before:
                self._look(abs(_mean(raw, 1) - self._losses.get(mark(_before(offspring)), math.nan)), losses, offspring)
        return _without_second(losses) if is_extra and not self.is_noisy else losses

    def _look(self, difference: float, losses: Losses, offspring: Offspring) -> None:
        # The parent is 0 among the differences.
        candidates = np.append(np.asarray(losses.differences, np.float64)[offspring.num_before :], 0.0)
        best = np.sort(candidates[np.isfinite(candidates)])
        spread = np.ptp(best[: max(2, math.ceil(len(best) / _BEST))])
        if not math.isfinite(difference):
            return
        if difference > _VISIBLE * spread:
            self.is_noisy = self.is_found = True
        elif self.is_noisy:
            self._looks += 1
            self.is_noisy = self._looks < _PATIENCE


def _before(offspring: Offspring) -> Any:
    """The parent before: its mutated leaves, and others that it shares with the parent."""

    def leaf_of(leaf: Any, own: Any) -> Any:
        return own if leaf is None else leaf

    return jax.tree.map(leaf_of, offspring.previous, offspring.parents, is_leaf=lambda leaf: leaf is None)


def _mean(raw: Any, index: int) -> float:
    """Of the examples of a candidate; NaN for an evaluation that failed."""
    loss = (raw.means if isinstance(raw, Losses) else raw)[index]
    return math.nan if loss is None else float(np.mean(np.asarray(loss, np.float64)))


def _without_second(losses: Losses) -> Losses:
    def shorter(column: Any) -> jax.Array:
        return jnp.delete(jnp.asarray(column), 1, axis=0)

    values = None if losses.values is None else shorter(losses.values)
    means, differences, variances = map(shorter, (losses.means, losses.differences, losses.variances))
    return Losses(means, differences, variances, values, losses.num_examples)


def was_noisy(history: Any) -> bool:
    """Whether the last generation of a history was told as on a fresh batch."""
    column = history.get("is_resampled") if isinstance(history, dict) else None
    return column is not None and np.ndim(column) == 1 and len(column) > 0 and bool(column[-1])
