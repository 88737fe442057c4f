"""Whether a loss in ordinary Python gives other numbers for the same parameters: noise of its own, of which nobody told.

A controller of σ that takes the luck of a winner for progress ends anywhere. So in some generations the parent before is
evaluated once more; where its loss is another one than in its own generation, all that follow are told as if on a fresh batch.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from mutagrad.evaluation.losses import Losses
from mutagrad.offspring import Offspring

__all__ = ["Repeats", "was_noisy"]

_OFTEN = 32
"""Generations between two looks, after the first ones."""
_VISIBLE = 0.01
"""Noise counts from this share of the spread of the offspring's losses on: less is the rounding of sums in another order."""


class Repeats:
    """Looks for noise in the losses of a run.

    Parameters
    ----------
    is_noisy : whether noise was found in an earlier sitting.

    Attributes
    ----------
    is_noisy : whether it has been found; it then stays.
    """

    def __init__(self, is_noisy: bool = False):
        self.is_noisy = is_noisy
        self._before: float | None = None

    def is_due(self, generation: int) -> bool:
        """Whether the parent before is to be a candidate: in generations 0, 1, 2, 4, …, 32, 64, 96, …; with noise in all.

        It depends on nothing else, so that a run that goes on has the candidates that it had.
        """
        is_early = generation < _OFTEN and generation & (generation - 1) == 0
        return self.is_noisy or is_early or generation % _OFTEN == 0

    def seen(self, generation: int, losses: Losses, offspring: Offspring, is_extra: bool) -> Losses:
        """What is to be told of the losses of a generation: all, or those without an extra one of the parent before."""
        parent = float(losses.means[0])
        # In generation 0 the parent before is the parent.
        before, self._before = parent if generation == 0 else self._before, parent
        if before is not None and offspring.num_before > offspring.num_parents and not self.is_noisy:
            difference = abs(float(losses.means[1]) - before)
            # The parent is 0 among the differences.
            candidates = np.append(np.asarray(losses.differences, np.float64)[offspring.num_before :], 0.0)
            spread = np.std(candidates[np.isfinite(candidates)])
            self.is_noisy = bool(np.isfinite(difference) and difference > _VISIBLE * spread)
        return _without_second(losses) if is_extra and not self.is_noisy else losses


def _without_second(losses: Losses) -> Losses:
    values = None if losses.values is None else jnp.delete(losses.values, 1, axis=0)
    means, differences, variances = (
        jnp.delete(one, 1, axis=0) for one in (losses.means, losses.differences, losses.variances)
    )
    return Losses(means, differences, variances, values, losses.num_examples)


def was_noisy(history: Any) -> bool:
    """Whether the last generation of a history was told as on a fresh batch."""
    column = history.get("is_resampled") if isinstance(history, dict) else None
    return column is not None and np.ndim(column) == 1 and len(column) > 0 and bool(column[-1])
