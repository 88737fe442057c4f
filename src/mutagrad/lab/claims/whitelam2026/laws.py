"""Next orders and planned errors of the laws of (1+M): what the intervals of these claims rest on. NumPy, without chance."""

import math
from functools import lru_cache

import numpy as np
from scipy import integrate, optimize, special, stats

from mutagrad.lab.claims.checks import Expected
from mutagrad.theory.progress import best_of_moment, optimal_strength

__all__ = [
    "PLANNED",
    "at_order",
    "best_at_rank",
    "gain_at_rank",
    "gain_on_sphere",
    "planned_controlled_error",
    "planned_gain_error",
    "planned_moment_errors",
    "rounded",
    "step_moments",
    "success_at_rank",
    "success_on_sphere",
]

PLANNED = 6.0
"""Planned standard errors on either side of a law: three for chance, three for the power to tell another one."""
_NORMAL = np.linspace(-8, 8, 201)
_WEIGHTS = stats.norm.pdf(_NORMAL) * (_NORMAL[1] - _NORMAL[0])


def rounded(number: float, digits: int = 5) -> float:
    """A bound with so many digits, so that the last bits of a machine's arithmetic are not stated."""
    return float(f"{number:.{digits}g}")


def at_order(
    what: str, order: float, beyond: float, error: float, why: str, ours: bool = True, freedom: int | None = None
) -> Expected:
    """A ratio to a law as the next order makes it, give or take what is beyond that and six errors.

    Parameters
    ----------
    order : the ratio by the next order. beyond : what is neglected then. error : planned, of the ratio.
    why : where the next order comes from. ours, freedom : of `mutagrad.lab.claims.checks.Expected`.

    >>> from mutagrad.lab.claims.whitelam2026.laws import at_order
    >>> at_order("gain over its law", 0.9, 0.01, 0.002, "of the rank")[1:3]
    (0.878, 0.922)
    """
    room = beyond + PLANNED * error
    text = (
        f"the next order, {why}, makes it {order:.5g}; beyond that {beyond:.1e}, and six planned errors of {error:.1e}"
    )
    return Expected(what, rounded(order - room), rounded(order + room), "theory", text, ours, freedom=freedom)


def step_moments(strength: float, num_offspring: int) -> tuple[float, float, float]:
    """Moments of a step of (1+M) at a strength s where every mutation pays s/2: E[Z;·], E[Z²;·] and P(Z > s/2), Z the largest.

    >>> from mutagrad.lab.claims.whitelam2026.laws import step_moments
    >>> [round(one, 4) for one in step_moments(0.0, 20)]                                   # c_M, m_M and 1 − 2^−M
    [1.8675, 3.7632, 1.0]
    """
    lowest = strength / 2
    z, share = np.linspace(lowest, lowest + 12, 24_001), 0.0
    beyond = -np.expm1(num_offspring * special.log_ndtr(z))
    share = float(beyond[0])
    first = lowest * share + np.trapezoid(beyond, z)
    return float(first), float(lowest**2 * share + np.trapezoid(2 * z * beyond, z)), share


@lru_cache(maxsize=256)
def _above(strength: float, along: float, participation: float) -> tuple[np.ndarray, np.ndarray]:
    """Decreases q of the loss by one mutation, and the probability of a larger one, by theory.md 3.10."""
    across = math.sqrt(2 * max(1 / participation - along**2, 0.0))
    q = np.linspace(0, 8 * strength, 401)
    # s a − ½s²(1 + κ(a² − 1) + τy) exceeds q for the a between the roots of a quadratic equation.
    cost = q[:, None] + strength**2 / 2 * (1 - along + across * _NORMAL)
    root = np.sqrt(np.maximum(1 - 2 * along * cost, 0.0))
    low = 2 * cost / (strength * (1 + root))
    high = (1 + root) / (strength * max(along, 1e-12))
    above = np.where(2 * along * cost < 1, special.ndtr(-low) - special.ndtr(-high), 0.0)
    return q, np.maximum(above, 0.0) @ _WEIGHTS


def gain_at_rank(
    strength: float, num_offspring: int, along: float = 0.0, participation: float = 1e9, order: int = 1
) -> float:
    """Gain of (1+M) where a finite rank is seen to first order (theory.md 3.10); its mean square for ``order=2``.

    Parameters
    ----------
    strength : s. num_offspring : M.
    along : κ = ĝ·Hĝ/TrH. participation : P = (TrH)²/TrH²; G_M(s) of theory.md 3.3 for κ = 0 and P = ∞.

    >>> from mutagrad.lab.claims.whitelam2026.laws import gain_at_rank
    >>> round(gain_at_rank(1.892, 20), 3), gain_at_rank(1.892, 20, 0.1, 10.0) < 1.749
    (1.749, True)
    """
    q, above = _above(float(strength), float(along), float(participation))
    return float(integrate.simpson(order * q ** (order - 1) * -np.expm1(num_offspring * np.log1p(-above)), x=q))


@lru_cache
def best_at_rank(num_offspring: int, along: float = 0.0, participation: float = 1e9) -> tuple[float, float]:
    """The s up to s* at which `gain_at_rank` is largest, and the gain there: a rank lowers both.

    Far above s* the first order would let curvatures be negative.
    """
    most = optimal_strength(num_offspring) * (1 + 1e-3)
    found = optimize.minimize_scalar(
        lambda s: -gain_at_rank(round(s, 6), num_offspring, along, participation), bounds=(0.2, most), method="bounded",
        options={"xatol": 1e-3},
    )  # fmt: skip
    return float(found.x), float(-found.fun)


def success_at_rank(strength: float, along: float = 0.0, participation: float = 1e9) -> float:
    """Share of mutations that lower the loss, to the same order."""
    return float(_above(float(strength), float(along), float(participation))[1][0])


@lru_cache(maxsize=256)
def _above_on_sphere(strength: float, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Decreases q of the loss of the sphere by one mutation, and the probability of a larger one: exact, theory.md 3.10."""
    ends = stats.chi2.ppf(1e-14, size - 1), stats.chi2.isf(1e-14, size - 1)
    rest = np.linspace(*ends, 401)
    weights = stats.chi2.pdf(rest, size - 1) * (rest[1] - rest[0])
    q = np.linspace(0, min(8 * strength, size / 2), 401)
    # s a − ½s²(a² + χ²)/N exceeds q for the a between the roots of a quadratic equation.
    left = 1 - (2 * q[:, None] + strength**2 * rest / size) / size
    root = np.sqrt(np.maximum(left, 0.0))
    low, high = (size / strength * (1 + sign * root) for sign in (-1, 1))
    return q, np.where(left > 0, special.ndtr(-low) - special.ndtr(-high), 0.0) @ weights


def gain_on_sphere(strength: float, num_offspring: int, size: int) -> float:
    """Gain of (1+M) on the sphere of N dimensions, exact; G_M(s) of theory.md 3.3 for N = ∞.

    >>> from mutagrad.lab.claims.whitelam2026.laws import gain_on_sphere
    >>> round(gain_on_sphere(1.892, 20, 100_000), 3), round(gain_on_sphere(1.892, 20, 10), 2)
    (1.749, 1.55)
    """
    q, above = _above_on_sphere(float(strength), size)
    return float(integrate.simpson(-np.expm1(num_offspring * np.log1p(-np.minimum(above, 1 - 1e-15))), x=q))


def success_on_sphere(strength: float, size: int) -> float:
    """Share of mutations that lower the loss of the sphere of N dimensions, exact; Φ(−s/2) for N = ∞."""
    return float(_above_on_sphere(float(strength), size)[1][0])


def planned_controlled_error(
    strength: float, num_offspring: int, generations: float, along: float, participation: float
) -> float:
    """Relative standard error of a mean gain from which `strength.controlled_gains` takes the noise of the slopes.

    What is left is the curvature that the mutation which is taken meets beside its slope's, ½s²√(2(1/P − κ²)) times a normal
    number.

    Parameters
    ----------
    along, participation : κ and P of `gain_at_rank`.
    """
    rest = strength**2 / 2 * math.sqrt(2 * max(1 / participation - along**2, 0.0))
    accepted = -math.expm1(num_offspring * math.log1p(-float(special.ndtr(-strength / 2))))
    gain = gain_at_rank(strength, num_offspring, along, participation)
    return rest * math.sqrt(accepted / generations) / gain


def planned_gain_error(strength: float, num_offspring: int, generations: float) -> float:
    """Relative standard error of the mean gain of so many generations of many curvatures."""
    mean, square = (gain_at_rank(strength, num_offspring, order=order) for order in (1, 2))
    return math.sqrt((square / mean**2 - 1) / generations)


def planned_moment_errors(num_offspring: int, number: int, size: int) -> tuple[float, float, float]:
    """Relative standard errors of drift, mean square along and mean square across the gradient over so many generations."""
    first, second, fourth = (best_of_moment(num_offspring, order) for order in (1, 2, 4))
    share = 1 - 0.5**num_offspring
    across = share * (1 + 2 / (size - 1)) - share**2
    drift, along, mean = second / first**2 - 1, fourth / second**2 - 1, across / share**2
    return math.sqrt(drift / number), math.sqrt(along / number), math.sqrt(mean / number)
