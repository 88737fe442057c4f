"""Steps of rules that have no winner to fall back on, and the curvature along the slope that they pay for (theory.md 3.5)."""

import math
from typing import NamedTuple

from mutagrad.diagnostics.regime import Regime
from mutagrad.estimate import Estimate
from mutagrad.law import OrderStatistic, RankWeights
from mutagrad.theory.progress import best_of_mean
from mutagrad.theory.recombination import recombination_moments
from mutagrad.types import Definition

__all__ = ["Steps", "along_of", "counted", "least_share", "relative_error", "steps_of"]

TOLD = 0.5
"""Up to this relative error of the best σ by curvature along the slope there is a best σ; beyond it, a range."""
_SPAN = 2.0

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


def along_of(found: Regime, parts: Definition) -> Estimate:
    """ρ = ĝ·Hĝ/TrH as far as it counts: of ρ ± e the part ρ³/(ρ² + e²); 0 for rules that hardly feel it, NaN where not measured.

    >>> from mutagrad.diagnostics.steps import along_of
    >>> from mutagrad.diagnostics.regime import unknown_regime
    >>> import mutagrad
    >>> along_of(unknown_regime(0.1), mutagrad.elitist(sigma=0.1, num_offspring=20).definition).value
    0.0
    """
    if not isinstance(parts.selection.law, RankWeights):
        return Estimate(0.0, 0.0)
    value, error = float(found.curvature_along.value), float(found.curvature_along.error)
    if not (math.isfinite(value) and math.isfinite(error)):
        return Estimate(math.nan, math.nan)
    plain = min(max(value, 0.0), 1.0)
    return Estimate(plain * plain**2 / (plain**2 + error**2) if plain > 0 else 0.0, error)


def relative_error(parts: Definition, along: Estimate) -> float:
    """Of best σ and gain, by that of the curvature along the slope."""
    steps = steps_of(parts)
    if steps is None or not math.isfinite(along.value):
        return 0.0
    return (steps.second - steps.transverse) * along.error / steps.cost(along.value)


def counted(along: Estimate) -> float:
    """The share of curvature along the slope to reckon with; 0 where it was not measured."""
    return float(along.value) if math.isfinite(along.value) else 0.0


def least_share(parts: Definition, along: Estimate) -> float:
    """The least best σ that two errors of the curvature along the slope allow, in units of that at the counted one."""
    steps = steps_of(parts)
    if steps is None or not math.isfinite(along.value):
        return 1.0
    return steps.cost(along.value) / steps.cost(min(along.value + _SPAN * along.error, 1.0))
