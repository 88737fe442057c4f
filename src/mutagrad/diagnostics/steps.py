"""Steps of rules that have no winner to fall back on, and the curvature along the slope that they pay for (theory.md 3.5)."""

import math
from typing import NamedTuple

from mutagrad.diagnostics.regime import Regime
from mutagrad.law import OrderStatistic, RankWeights
from mutagrad.theory.progress import best_of_mean
from mutagrad.theory.recombination import recombination_moments
from mutagrad.types import Definition

__all__ = ["Along", "Steps", "along_of", "standing_out", "steps_of"]

_TOLD = 0.5
"""Up to this relative error of the best σ by curvature along the slope there is a best σ; beyond it, a range."""
_SPAN = 2.0
"""Standard errors on either side of a range."""
_LEAST = 1e-9
"""A mean step down the slope that is no larger is none, in σ."""


class Steps(NamedTuple):
    """Steps of rules whose next parent never is the parent before: mean and mean square along the slope, and variance across it.

    In units of σ and σ²; where the mean square is not known, it is taken to be the variance.
    """

    first: float
    transverse: float
    second: float

    def cost(self, along: float) -> float:
        """What curvature takes, in units of σ²TrH/2, if this share of it lies along the slope."""
        return self.transverse + along * (self.second - self.transverse)


def steps_of(parts: Definition) -> Steps | None:
    """The steps of a rule whose next parent never is the parent before, if they go down the slope; otherwise ``None``."""
    law = parts.selection.law
    if isinstance(law, RankWeights):
        moments = recombination_moments(law.weights)
        return Steps(moments.first, moments.transverse, moments.second) if moments.first > _LEAST else None
    if isinstance(law, OrderStatistic) and not law.keeps_parent:
        first = best_of_mean(parts.num_offspring, law.num_winners)
        return Steps(first, 1.0, 1.0) if first > _LEAST else None
    return None


class Along(NamedTuple):
    """How much of the curvature lies along the slope, and what that leaves open.

    Attributes
    ----------
    counted : of ρ = ĝ·Hĝ/TrH, ρ ± e, the part that stands out of its error; where there is a range, the least that two errors
        allow, so that best σ and gain are the most that they may be.
    error : e; NaN where ρ was not measured.
    relative_error : of best σ and gain, by that of ρ; 0 where there is a range.
    is_range : whether ρ leaves the best σ open by more than half of itself.
    least : the least best σ that two errors allow, in units of that at ``counted``.
    """

    counted: float = 0.0
    error: float = math.nan
    relative_error: float = 0.0
    is_range: bool = False
    least: float = 1.0


def along_of(found: Regime, parts: Definition) -> Along:
    """The curvature along the slope that weighted recombination pays for; other rules hardly feel it.

    >>> from mutagrad.diagnostics.steps import along_of
    >>> from mutagrad.diagnostics.regime import unknown_regime
    >>> import mutagrad
    >>> along_of(unknown_regime(0.1), mutagrad.elitist(sigma=0.1, num_offspring=20).definition).counted
    0.0
    """
    value, error = float(found.curvature_along.value), float(found.curvature_along.error)
    steps = steps_of(parts) if isinstance(parts.selection.law, RankWeights) else None
    if steps is None or not (math.isfinite(value) and math.isfinite(error)):
        return Along()
    share = min(max(value, 0.0), 1.0)
    counted = standing_out(share, error)
    relative = (steps.second - steps.transverse) * error / steps.cost(counted)
    is_range = relative > _TOLD
    if is_range:
        counted, relative = max(share - _SPAN * error, 0.0), 0.0
    least = steps.cost(counted) / steps.cost(min(share + _SPAN * error, 1.0))
    return Along(counted, error, relative, is_range, least)


def standing_out(value: float, error: float) -> float:
    """The part of value ± error that stands out of its error, value³/(value² + error²): of what is not told from 0, little."""
    return value / (1 + (error / value) ** 2) if value else 0.0
