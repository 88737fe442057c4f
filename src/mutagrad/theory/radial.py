"""A user's radial density in numbers: what theory computes from ln f of the component along any direction.

z = e^τ, or z = R/(1 + e^−τ) for a density that ends at R. Both resolve all scales of z, the second one the end too. Tails are
summed from above by Gauss's rule between the nodes. Moments of the library's own densities come out to rounding for one
offspring and for ranks, to 2·10⁻⁸ for weights and to 2·10⁻⁷ for Boltzmann selection (tests/theory/test_user_laws.py).
"""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy

from mutagrad.law import Radial
from mutagrad.theory.progress import gauss

STEP = 1 / 64
_LOGS = (-38.0, 300.0)
"""ln z of the first node and of the last one that is tried."""
_FARTHEST = 1e10
"""Beyond, nothing is left of a density of unit variance that competes: it ends there only because ln f overflows."""
_NEGLIGIBLE = 1e-20
_ALLOWED = 4 * float(np.finfo(np.float32).eps)
"""Of a variance: moments are then right to the float32 that theory answers in."""


class Table(NamedTuple):
    """A radial density at τ = index · STEP, where it is positive and not negligible.

    Attributes
    ----------
    radius : R, where the density ends, or where nothing is left of it that competes.
    is_bounded : which of the two it is.
    first : index of the first node.
    z, slope, log_density, transverse, upper : (n,) z, dz/dτ, ln f, E[u² | z] and P(Z > z).
    decay : as in `mutagrad.theory.density.Density`.
    """

    radius: float
    is_bounded: bool
    first: int
    z: np.ndarray
    slope: np.ndarray
    log_density: np.ndarray
    transverse: np.ndarray
    upper: np.ndarray
    decay: float

    def log_density_fn(self, v: Any, rest: Any) -> Any:
        """ln f(v), from v and 1 − (v/R)²; −10⁴ where nothing is left."""
        place = self._place(v, rest)
        return jnp.where(place <= self.first + self.z.size - 1, self._at(self.log_density, place), -1e4)

    def transverse_fn(self, v: Any, rest: Any) -> Any:
        """E[u² | v], from the same two, in JAX or NumPy."""
        return self._at(self.transverse, self._place(v, rest))

    def quantile(self, p: np.ndarray) -> np.ndarray:
        """z ≥ 0 with P(Z > z) = p ≤ ½, by cubics in ln p, whose slopes the density gives."""
        is_used = (self.z > 1e-3) & (self.upper > 0)
        peak, z, upper = np.exp(self.log_density[0]), self.z[is_used], self.upper[is_used]
        logs = np.concatenate([[math.log(2)], -np.log(upper)])
        slopes = np.concatenate([[0.5 / peak], upper / np.exp(self.log_density[is_used])])
        spline = scipy.interpolate.CubicHermiteSpline(logs, np.concatenate([[0.0], z]), slopes)
        return spline(np.minimum(-np.log(p), logs[-1]))

    def _place(self, v: Any, rest: Any) -> Any:
        """τ/STEP."""
        xp = jnp if isinstance(v, jax.Array) else np
        tiny = np.finfo(v.dtype).tiny
        if not self.is_bounded:
            return xp.log(xp.maximum(xp.abs(v), tiny)) / STEP
        share = xp.maximum(xp.abs(v) / self.radius, tiny)
        return (xp.log(share) - xp.log(xp.maximum(rest, tiny) / (1 + share))) / STEP

    def _at(self, values: np.ndarray, place: Any) -> Any:
        """The cubic through the four nodes around a place."""
        xp = jnp if isinstance(place, jax.Array) else np
        values = xp.asarray(np.clip(values, -1e30, 1e30) if xp is jnp else values, place.dtype)
        place = xp.clip(place, self.first, self.first + values.size - 1)
        low = xp.clip(xp.floor(place), self.first + 1, self.first + values.size - 3)
        t = place - low
        index = low.astype(int) - self.first
        before, at, after, last = (values[index + k] for k in (-1, 0, 1, 2))
        ends = (last * (t + 1) - before * (t - 2)) * t * (t - 1) / 3
        return (ends + (at * (t - 1) - after * t) * (t + 1) * (t - 2)) / 2


@lru_cache(maxsize=16)
def table(law: Radial) -> Table:
    """The density of a law, normalised.

    Raises
    ------
    ValueError : if its variance is not 1, or cannot be told to 10⁻⁴.
    """

    def log_density(z: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            found = np.asarray(law.log_density_fn(z), float)
        return np.broadcast_to(np.where(np.isfinite(found), found, -np.inf), z.shape)

    radius = _end(log_density)
    is_bounded = radius < _FARTHEST

    def position(tau: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """z and dz/dτ."""
        if not is_bounded:
            return np.exp(tau), np.exp(tau)
        rest = np.exp(-np.logaddexp(0, tau))
        share = np.exp(-np.logaddexp(0, -tau))
        return radius * share, radius * share * rest

    shift = math.log(radius) if is_bounded else 0.0
    index = np.arange(math.ceil((_LOGS[0] - shift) / STEP), math.floor(_LOGS[1] / STEP))
    z, slope = position(index * STEP)
    points, weights = (each / 2 for each in gauss(8))
    inner, inner_slope = position((index[:, None] + 0.5 + points) * STEP)
    logs = log_density(z)
    peak = logs.max()
    with np.errstate(all="ignore"):
        density = np.exp(logs - peak)
        mass = np.exp(log_density(inner) - peak) * inner_slope * STEP
        spread = density * slope * np.maximum(z, 1.0) ** 2
    # From above: P(Z > z) and E[Z; Z > z], and what of E[Z²] lies beyond a node.
    upper, beyond, rest = (np.cumsum(each[::-1])[::-1] for each in (mass @ weights, (mass * inner) @ weights, spread))
    number = int(np.argmin((spread > 0) & (rest > _NEGLIGIBLE * rest[0]))) or len(z)
    first, total = int(index[0]), 2 * upper[0]
    z, slope, density, upper, beyond = (each[:number] for each in (z, slope, density, upper, beyond))
    weight = density * slope
    variance, error = _mean(weight, z**2)
    if not error <= 1e-4 * variance:
        raise ValueError(
            f"log_density_fn: got a density whose variance is not found ({variance:.3g} ± {error:.1g}); pass ln f of one that "
            "is smooth and falls off faster than z⁻³"
        )
    if abs(variance - 1) > _ALLOWED + error:
        raise ValueError(
            f"log_density_fn: got a variance of {variance:.7g}; scale it to 1, as ln f({variance**0.5:.7g} z)"
        )
    own = law.transverse_fn
    across = beyond / density if own is None else np.broadcast_to(np.asarray(own(z), float), z.shape)
    variance, error = _mean(weight, across)
    if not abs(variance - 1) <= _ALLOWED + error:
        raise ValueError(
            f"transverse_fn: got E[u² | z] whose mean is {variance:.7g}; pass None, or one whose mean is 1"
        )
    # P(Z > z) ∝ z^−ν has a = 1 − 2/ν with ν = f z/P; before f and P underflow.
    far = np.flatnonzero(density > 1e-150)[-1]
    decay = float(np.clip(1 - 2 * upper[far] / (z[far] * density[far]), 0.02, 1))
    end = radius if is_bounded else min(float(z[-1]), _FARTHEST)
    return Table(end, is_bounded, first, z, slope, np.log(density / total), across, upper / total, decay)


def _end(log_density: Any) -> float:
    """Where a density ends; infinity, or beyond _FARTHEST, if it does not."""
    logs = np.arange(*_LOGS, 0.25)
    values = log_density(np.exp(logs))
    is_inside = np.isfinite(values)
    if not is_inside[0]:
        raise ValueError("log_density_fn: got none next to z = 0; pass ln f(z) of a component, finite from z = 0 on")
    if is_inside.all():
        return math.inf
    low, high = logs[np.argmin(is_inside) - 1], logs[np.argmin(is_inside)]
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if np.isfinite(log_density(np.exp(np.array([middle])))).all() else (low, middle)
    # What of E[Z²] lies at ln z: none of it is next to an end where ln f merely overflows.
    spread = values + logs + 2 * np.maximum(logs, 0)
    is_left = spread[logs > high - 1].max() > spread.max() + math.log(_NEGLIGIBLE)
    return float(np.exp(high)) if is_left else math.inf


def _mean(weight: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """A mean, and what it differs from that of every second node: more than its error, since the rule converges fast."""
    with np.errstate(all="ignore"):
        means = [float(np.sum(weight[::k] * values[::k]) / np.sum(weight[::k])) for k in (1, 2)]
    return means[0], abs(means[0] - means[1])
