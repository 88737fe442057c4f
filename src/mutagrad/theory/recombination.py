"""What weighted recombination of M offspring gains: moments of weighted order statistics, and the best σ (theory.md 2, 3)."""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from mutagrad.law import Gaussian
from mutagrad.selection import normal_scores, rank_levels
from mutagrad.theory.density import Density, density_of
from mutagrad.theory.quadrature import Marginal, OnSphere

__all__ = ["RecombinationMoments", "recombination_gain", "recombination_moments"]


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


def recombination_moments(weights: Any) -> RecombinationMoments:
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
    >>> round(found.first, 4), round(found.second, 4), round(found.transverse, 4)
    (0.5642, 1.0, 1.0)
    """
    return recombined(tuple(np.asarray(weights, float).tolist()), Gaussian())


def binomial(k: Any, number: int, upper: Any, lower: Any) -> Any:
    """P(k of ``number`` draws lie above), from P(above) and P(below) of one; an array of k is the last axis."""
    if np.ndim(k):
        return np.stack([binomial(int(one), number, upper, lower) for one in k], axis=-1)
    ways = math.comb(number, k)
    if ways < 1e300:
        return float(ways) * upper**k * lower ** (number - k)
    return np.exp(math.log(ways) + k * np.log(upper) + (number - k) * np.log(lower))


@lru_cache(maxsize=64)
def recombined(weights: tuple[float, ...], law: Marginal) -> RecombinationMoments:
    """`recombination_moments` of mutations of any radial density; ``transverse`` is then Σ w_k² E[u² | rank k]."""
    if law == OnSphere(1):
        return _recombined_signs(weights)
    number, density = len(weights), density_of(law)
    upper, lower, weight = rank_levels(number, min(38 / density.decay, 600.0))
    z = _levels(upper, lower, density)
    across = density.transverse_fn(z, 1 - (z / density.radius) ** 2)
    first = own = transverse = 0.0
    for k, share in enumerate(weights):
        chance = number * weight * binomial(k, number - 1, upper, lower)
        first += share * float(chance @ z)
        own += share**2 * float(chance @ z**2)
        transverse += share**2 * float(chance @ across)
    return RecombinationMoments(first, own + _pairs(np.array(weights), density), transverse)


def _levels(upper: np.ndarray, lower: np.ndarray, density: Density) -> np.ndarray:
    """z with P(Z > z) = ``upper`` = 1 − ``lower``."""
    return np.sign(lower - upper) * density.quantile_fn(np.minimum(upper, lower))


def _pairs(w: np.ndarray, density: Density) -> float:
    """Σ_{i≠j} w_i w_j E[Z_(i) Z_(j)]: of the other M − 2, Binomial(p) lie above x, and of the rest Binomial(r) above y < x.

    P(Z > x) = p and P(Z > y) = p + (1 − p)r, so that the second number does not know of p: both sums over ranks are matrices.
    """
    number = len(w)
    if number < 2:
        return 0.0
    # x and y are two draws: their product has a shorter tail than a square.
    upper, lower, weight = rank_levels(number, 76 / (1 + density.decay))
    x, share = _levels(upper, lower, density), upper
    between, below = np.multiply.outer(lower, share), np.multiply.outer(lower, lower)
    y = _levels(upper[:, None] + between, below, density)
    # E[w_{i + 1 + Binomial(M − 2 − i, r)}] for all i: de Casteljau's scheme, one more draw at a time.
    expected, of_second = np.repeat(w[1:, None], len(share), axis=1), [np.full(len(share), w[-1])]
    for _ in range(number - 2):
        expected = expected[:-1] * lower + expected[1:] * share
        of_second.append(expected[-1])
    of_first = w[:-1] * binomial(np.arange(number - 1), number - 2, upper, lower)
    both = of_first @ np.array(of_second[::-1])
    return 2 * number * (number - 1) * float((weight * lower * x) @ (y * both) @ weight)


def _recombined_signs(weights: tuple[float, ...]) -> RecombinationMoments:
    """`recombination_moments` of mutations that are 1 or −1: those that go the same way share the weights of their ranks."""
    number, total = len(weights), float(np.sum(weights))
    chance = binomial(np.arange(number + 1), number, 0.5, 0.5)
    step = 2 * np.concatenate([[0.0], np.cumsum(weights)]) - total
    return RecombinationMoments(float(chance @ step), float(chance @ step**2), 0.0)


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
