"""What weighted recombination of M offspring gains: moments of weighted order statistics, and the best σ (theory.md 2, 3)."""

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from scipy import special, stats

from mutagrad.selection import normal_scores

__all__ = ["RecombinationMoments", "recombination_gain", "recombination_moments"]

_REACH = 8.5
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(80)


class RecombinationMoments(NamedTuple):
    """Moments of a step Σ w_k z_(k) of M normal mutations, best first, in units of σ.

    Attributes
    ----------
    first : Σ w_k E[Z_(k)], the mean step down the slope.
    second : E[(Σ w_k Z_(k))²], along the slope, about the origin.
    transverse : Σ w_k², across it.
    """

    first: float
    second: float
    transverse: float


def recombination_moments(weights: ArrayLike) -> RecombinationMoments:
    """Moments of the step of weighted recombination.

    Parameters
    ----------
    weights : (M,) weights, that of the best offspring first.

    Returns
    -------
    RecombinationMoments. With the normal scores as weights all but the second are Σ E[Z_(k)]², which is M − O(ln M).

    Source: order statistics, David and Nagaraja 2003; used for steps by Arnold 2006.

    >>> import mutagrad
    >>> found = mutagrad.theory.recombination_moments([1.0, 0.0])         # the better of two: E[Z_(2)] = 1/√π, E[Z²] = 1
    >>> round(found.first, 4), round(found.second, 4), found.transverse
    (0.5642, 1.0, 1.0)
    """
    return _moments(tuple(np.asarray(weights, float).tolist()))


@lru_cache
def _moments(weights: tuple[float, ...]) -> RecombinationMoments:
    w, number = np.array(weights), len(weights)
    transverse = float(np.sum(w**2))
    first = float(w @ normal_scores(number))
    # One offspring at z: its rank is 1 + Binomial(M − 1, P(Z > z)).
    z = np.linspace(-12, 12, 2401)
    density = stats.norm.pdf(z) * (z[1] - z[0])
    own = sum(square * stats.binom.pmf(k, number - 1, stats.norm.sf(z)) for k, square in enumerate(w**2))
    second = number * float(np.sum(z**2 * density * own))
    return RecombinationMoments(first, float(second + _pairs(w)), transverse)


def _pairs(w: np.ndarray) -> float:
    """Σ_{i≠j} w_i w_j E[Z_(i) Z_(j)]: two offspring at x > y, the numbers above, between and below multinomial."""
    number = len(w)
    if number < 2:
        return 0.0
    above, below = np.triu_indices(number, 1)
    between = below - above - 1
    factor = special.gammaln(number + 1) - sum(
        special.gammaln(count + 1) for count in (above, between, number - 1 - below)
    )
    pair_weight, total = 2 * w[above] * w[below], 0.0
    # y from −∞ to x, so that no node straddles the diagonal, where the ranks change.
    for x, weight in zip(_REACH * _NODES, _REACH * _WEIGHTS, strict=True):
        y = (x - _REACH) / 2 + (x + _REACH) / 2 * _NODES
        log_between = stats.norm.logcdf(x) + np.log(-np.expm1(stats.norm.logcdf(y) - stats.norm.logcdf(x)))
        log_share = (
            factor
            + above * stats.norm.logsf(x)
            + np.multiply.outer(log_between, between)
            + np.multiply.outer(stats.norm.logcdf(y), number - 1 - below)
        )
        inner = _WEIGHTS * (x + _REACH) / 2 * y * stats.norm.pdf(y)
        total += weight * x * stats.norm.pdf(x) * float(inner @ (np.exp(log_share) @ pair_weight))
    return total


def recombination_gain(strength: ArrayLike, weights: Any, curvature_along: ArrayLike = 0.0) -> jax.Array:
    r"""Expected decrease of the loss per generation of weighted recombination, in units of |∇U|²/TrH.

    $s A - \tfrac12 s^2 (W + \rho (A_2 - W))$ with the moments A, A₂ and W of `recombination_moments` and ρ = ĝ·Hĝ/TrH. The best
    is ½A²/(W + ρ(A₂ − W)) at s = A/(W + ρ(A₂ − W)). With normal scores that is about ½M/(1 + ρM): M/2 while M is far
    below 1/ρ, and beyond it that of steepest descent, ½|∇U|²/ĝ·Hĝ, which no number of offspring exceeds.

    Parameters
    ----------
    strength : s = σTrH/|∇U| ≥ 0.
    weights : (M,) weights, that of the best offspring first; or a number M ≥ 2, for M normal scores.
    curvature_along : ρ = ĝ·Hĝ/TrH, the share of the curvature that lies along the gradient; broadcast against ``strength``.

    Domain: ranks are those of a linear loss, s²/2P ≪ 1 with P the participation ratio; quadratic on the scale of a step.
    Source: Arnold 2006 for the sphere; ρ derived for this project, tested in tests/theory/test_recombination_laws.py.

    >>> import mutagrad
    >>> round(float(mutagrad.theory.recombination_gain(1.0, 20)), 1)                 # ½ Σ E[Z_(k)]²
    8.8
    """
    values = normal_scores(int(weights)) if np.ndim(weights) == 0 else weights
    moments = recombination_moments(values)
    strength, along = jnp.broadcast_arrays(
        *(jnp.asarray(x, jnp.result_type(float)) for x in (strength, curvature_along))
    )
    cost = moments.transverse + along * (moments.second - moments.transverse)
    return strength * moments.first - jnp.square(strength) * cost / 2
