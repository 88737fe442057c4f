r"""Share of directions within an angle of a given one, and the angle of a share (theory.md 7).

The direction is uniform on the unit sphere of N dimensions, and its angle θ has a density proportional to sin^{N−2}θ:

    P(θ ≤ α) = ½ I_{sin²α}((N−1)/2, ½)  for α ≤ 90°,    1 − P(θ ≤ π − α)  beyond,

I the regularised incomplete beta function. In thousands of dimensions shares leave the range of a float a few degrees below
90°, so that logarithms are given too.
"""

from typing import Any

import numpy as np
from scipy import special

from mutagrad import check

__all__ = ["cap_angle", "cap_probability"]

_DEEP = -600.0
"""Logarithm below which the incomplete beta function is not left to SciPy: it underflows."""
_NODES, _WEIGHTS = np.polynomial.laguerre.laggauss(48)
_HALVINGS = 70


def cap_probability(angle: Any, dims: int, *, log: bool = False) -> Any:
    r"""Chance that a uniform direction lies within an angle of a given one.

    Parameters
    ----------
    angle : α from 0 to π, number or array [rad].
    dims : N ≥ 2.
    log : whether to return its natural logarithm, which does not underflow.

    Returns
    -------
    Probability, or its logarithm, of the shape of ``angle``. Relative errors are below 1e-12. Errors of a logarithm are below
    1e-9 for N up to 10⁶.

    Raises
    ------
    ValueError : if an angle is outside 0 to π, or there are fewer than two dimensions.

    Source: [K23] for the formula up to 90°, theory.md 7; tested in tests/diagnostics/test_cap.py.

    >>> import math
    >>> from mutagrad.diagnostics.landscape import cap_probability
    >>> round(float(cap_probability(math.pi / 3, 3)), 12)                                    # a quarter of a sphere
    0.25
    >>> round(float(cap_probability(math.radians(60), 10_000, log=True)))                    # e^{−1443}
    -1443
    """
    dims = check.count("dims", dims, 2)
    angle = np.asarray(angle, np.float64)
    if not np.all((angle >= 0) & (angle <= np.pi)):
        raise ValueError(f"angle: got {angle}; pass angles from 0 to π [rad]")
    near = np.minimum(angle, np.pi - angle)
    half = (dims - 1) / 2
    # Of sine and cosine the smaller one keeps its digits when it is squared.
    narrow, wide = special.betainc(half, 0.5, np.sin(near) ** 2), special.betaincc(0.5, half, np.cos(near) ** 2)
    small = np.where(near < np.pi / 4, narrow, wide) / 2
    if not log:
        return np.where(angle > np.pi / 2, 1 - small, small)[()]
    with np.errstate(divide="ignore", invalid="ignore"):
        direct = np.log(small)
        deep = _log_deep(np.log(np.sin(near)), half)
    return np.where(angle > np.pi / 2, np.log1p(-small), np.where(direct < _DEEP, deep, direct))[()]


def _log_deep(log_sine: np.ndarray, half: float) -> np.ndarray:
    """ln(½ I_x(a, ½)), x = sin², a = ``half``, for caps that are narrow: a(1 − x) ≫ 1.

    With t = x e^{−v/a}, I_x = x^a ∫ e^{−v} (1 − x e^{−v/a})^{−1/2} dv / (a B(a, ½)), whose integrand is smooth.
    """
    shifted = 2 * log_sine[..., None] - _NODES / half
    integral = np.sum(_WEIGHTS / np.sqrt(-np.expm1(shifted)), axis=-1)
    return half * 2 * log_sine + np.log(integral / 2) - np.log(half) - special.betaln(half, 0.5)


def cap_angle(probability: Any, dims: int, *, log: bool = False) -> Any:
    """The angle within which a share of uniform directions lies: the inverse of `cap_probability`.

    Parameters
    ----------
    probability : from 0 to 1, number or array; its natural logarithm if ``log``.
    dims : N ≥ 2.
    log : whether the logarithm is passed.

    Returns
    -------
    Angle [rad], of the shape of ``probability``.

    Raises
    ------
    ValueError : if a probability is outside 0 to 1, or there are fewer than two dimensions.

    Source: theory.md 7; tested in tests/diagnostics/test_cap.py.

    >>> import math
    >>> from mutagrad.diagnostics.landscape import cap_angle
    >>> round(math.degrees(cap_angle(0.25, 3)), 6)
    60.0
    >>> round(math.degrees(cap_angle(1e-9, 9854)), 2)                        # the best of a billion directions
    86.54
    """
    dims = check.count("dims", dims, 2)
    given = np.asarray(probability, np.float64)
    with np.errstate(divide="ignore", over="ignore"):
        share = np.exp(given) if log else given
        logarithm = given if log else np.log(given)
    if not np.all((share >= 0) & (share <= 1)):
        range_ = "logarithms up to 0" if log else "a share from 0 to 1"
        raise ValueError(f"probability: got {given}; pass {range_}")
    half = (dims - 1) / 2
    above = -np.expm1(logarithm) if log else 1 - share
    small = np.minimum(share, above)
    narrow = np.arcsin(np.sqrt(special.betaincinv(half, 0.5, 2 * small)))
    wide = np.arccos(np.sqrt(special.betainccinv(0.5, half, 2 * small)))
    direct = np.where(narrow < np.pi / 4, narrow, wide)
    angle = np.where(share > 0.5, np.pi - direct, direct)
    is_deep = logarithm < _DEEP
    if np.any(is_deep):
        angle = np.where(is_deep, _deep_angle(np.where(is_deep, logarithm, 2 * _DEEP), half), angle)
    return np.where(np.isneginf(logarithm), 0.0, angle)[()]


def _deep_angle(logarithm: np.ndarray, half: float) -> np.ndarray:
    """By bisection in ln sin α, which is no smaller than ln(2P)/(N − 1)."""
    low = np.minimum((logarithm + np.log(2)) / (2 * half), -1e-300) - 1e-12
    low, high = np.broadcast_arrays(low, np.zeros_like(low))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        with np.errstate(divide="ignore"):
            is_below = _log_deep(middle, half) < logarithm
        low, high = np.where(is_below, middle, low), np.where(is_below, high, middle)
    return np.arcsin(np.exp((low + high) / 2))
