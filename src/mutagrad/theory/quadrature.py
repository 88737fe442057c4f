"""One quadrature for all moments: nodes for the component z of a mutation along the gradient, in units of σ.

Every density of the library is symmetric, and the rules change over z ~ 1/b with b = βσ|g| from 10⁻⁸ to 10⁸. So the positive
half-line is mapped to the logarithm of z, where the trapezoidal rule converges exponentially and resolves all of these
scales at once; the weights are normalised to ½, the mass of half a symmetric density.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special, stats

from mutagrad.types import Mutation

_STEP = 1 / 7
_FINE_STEP = 1 / 64
"""The best of many offspring lies in a narrow range of z, however many there are."""
_SMALLEST = -38.0
"""ln z of the first node: what lies below has a weight under 10⁻¹⁶."""


class Nodes(NamedTuple):
    """Nodes on z > 0 of a symmetric marginal density f, in float64.

    Attributes
    ----------
    z : (n,) positions, increasing.
    weight : (n,) f(z) dz, whose sum is ½.
    transverse : (n,) E[u² | z], the mean square of a component across the gradient given the one along it.
    upper : (n,) P(Z > z).
    """

    z: np.ndarray
    weight: np.ndarray
    transverse: np.ndarray
    upper: np.ndarray

    @property
    def is_sign(self) -> bool:
        """Whether z is 1 or −1: the sphere of one parameter."""
        return self.z.size == 1

    @property
    def powers(self) -> np.ndarray:
        """(n, 4): weights for the sums of 1, z, z² and u². Multiplied here, in float64: far out z² overflows in float32."""
        return self.weight[:, None] * np.stack([np.ones_like(self.z), self.z, self.z**2, self.transverse], axis=1)


def _nodes(
    position: np.ndarray, jacobian: np.ndarray, log_density: np.ndarray, transverse: np.ndarray, upper: np.ndarray
) -> Nodes:
    with np.errstate(under="ignore"):
        weight = np.exp(log_density - log_density.max()) * jacobian
    return Nodes(position, weight / (2 * weight.sum()), transverse, upper)


def gaussian(step: float = _STEP) -> Nodes:
    """A normal component; across the gradient the mutation does not know of it."""
    z = np.exp(np.arange(_SMALLEST, 3.8, step))
    return _nodes(z, z, -(z**2) / 2, np.ones_like(z), stats.norm.sf(z))


def student_t(degrees_of_freedom: float, step: float = _STEP) -> Nodes:
    """A component of a multivariate Student t of unit variance: long mutations are long in every direction."""
    nu = degrees_of_freedom
    # The weight falls like z^−ν only: go to where z² times it is below 10⁻¹⁷, and stay in range.
    z = np.exp(np.arange(_SMALLEST, min(40 / (nu - 2) + 4, 300.0), step))
    # z²/(ν − 2) by logarithms: at ν near 2 the last nodes lie far out.
    log_density = -(nu + 1) / 2 * np.logaddexp(0, 2 * np.log(z) - np.log(nu - 2))
    transverse = (nu - 2 + z**2) / (nu - 1)
    return _nodes(z, z, log_density, transverse, stats.t.sf(z * np.sqrt(nu / (nu - 2)), nu))


def _bounded(power: float, radius: float, transverse_fn: Callable[[np.ndarray], np.ndarray], step: float) -> Nodes:
    """Density ∝ (1 − (z/R)²)^power on (0, R), by z = R/(1 + e^−τ), which also resolves the end."""
    tau = np.arange(_SMALLEST - np.log(radius), 40 / min(power + 1, 1.0), step)
    share = special.expit(tau)
    log_rest = -np.logaddexp(0, tau)  # ln(1 − share), exact where share rounds to 1
    log_density = power * (log_rest + np.log1p(share))
    jacobian = radius * np.exp(log_rest) * share
    upper = special.betainc(power + 1, 0.5, np.exp(log_rest) * (1 + share)) / 2
    return _nodes(radius * share, jacobian, log_density, transverse_fn(share), upper)


def sphere(num_parameters: int, step: float = _STEP) -> Nodes:
    """A component of a vector of length √N, uniform in direction."""
    number = num_parameters
    if number == 1:
        one = np.ones(1)
        return Nodes(one, one / 2, np.zeros(1), np.zeros(1))
    # At share → 1 the other components vanish: 1 − share² without its cancellation is not needed for their mean square.
    return _bounded((number - 3) / 2, number**0.5, lambda share: number * (1 - share**2) / (number - 1), step)


def ball(num_parameters: int, step: float = _STEP) -> Nodes:
    """A component of a vector uniform in the ball of radius √(N + 2): that of a sphere in N + 2 dimensions."""
    number = num_parameters
    return _bounded(
        (number - 1) / 2, (number + 2) ** 0.5, lambda share: (number + 2) * (1 - share**2) / (number + 1), step
    )


class Density(NamedTuple):
    """A symmetric marginal density f at levels that follow the slope or a rank, where `Nodes` are at fixed ones.

    Attributes
    ----------
    radius : R, where f ends; a finite one is put where nothing is left of it, or of its part that competes (Student t).
    log_density_fn : ln f(v) in JAX, from v and 1 − (v/R)², which v does not resolve at the end.
    transverse_fn : E[u² | v], from the same two.
    quantile_fn : z ≥ 0 with P(Z > z) = p, for p ≤ ½, in NumPy.
    decay : a with z² dP falling like pᵃ dp/p as p = P(Z > z) → 0.
    """

    radius: float
    log_density_fn: Callable[[jax.Array, jax.Array], jax.Array]
    transverse_fn: Callable[[Any, Any], Any]
    quantile_fn: Callable[[np.ndarray], np.ndarray]
    decay: float = 1.0


def _normal_density() -> Density:
    return Density(40.0, lambda v, rest: jax.scipy.stats.norm.logpdf(v), lambda v, rest: v * 0 + 1, stats.norm.isf)


def _student_t_density(degrees_of_freedom: float) -> Density:
    nu = degrees_of_freedom
    log_peak = float(special.gammaln((nu + 1) / 2) - special.gammaln(nu / 2) - np.log(np.pi * (nu - 2)) / 2)
    return Density(
        1e10,
        lambda v, rest: log_peak - (nu + 1) / 2 * jnp.log1p(jnp.square(v) / (nu - 2)),
        lambda v, rest: (nu - 2 + v**2) / (nu - 1),
        lambda p: np.sqrt((nu - 2) * (1 / np.maximum(special.betaincinv(nu / 2, 0.5, 2 * p), 1e-290) - 1)),
        1 - 2 / nu,
    )


def _sphere_density(dimensions: int) -> Density:
    """f ∝ (1 − z²/N)^((N−3)/2), N ≥ 2."""
    power, square = (dimensions - 3) / 2, float(dimensions)
    log_peak = float(-special.betaln(0.5, power + 1) - np.log(square) / 2)

    def log_density(v: jax.Array, rest: jax.Array) -> jax.Array:
        # Each where it has its digits: 1 − (v/R)² at the end, (v/R)² at the centre, where many dimensions need them.
        near_end = jnp.log(jnp.clip(rest, jnp.finfo(rest.dtype).tiny, 1))
        near_centre = jnp.log1p(-jnp.minimum(jnp.square(v) / square, 0.75))
        return log_peak + power * jnp.where(rest < 0.5, near_end, near_centre)

    return Density(
        square**0.5,
        log_density,
        lambda v, rest: square * rest / (square - 1),
        lambda p: np.sqrt(square * (1 - special.betaincinv(power + 1, 0.5, 2 * p))),
    )


_NORMAL_IN_MANY_DIMENSIONS = ("gaussian", "rademacher", "low_rank", "sphere", "ball")


def key(mutation: Mutation, num_parameters: int | None) -> tuple[str, Any]:
    """Name and argument of the density of the component along the gradient, which is all that its moments depend on.

    Raises
    ------
    ValueError : for a density whose component along the gradient depends on more than the gradient's norm.
    """
    name = mutation.name
    if name == "student_t":
        return name, float(mutation.options["degrees_of_freedom"])
    if name in ("sphere", "ball") and num_parameters is not None:
        return name, num_parameters
    if name in _NORMAL_IN_MANY_DIMENSIONS:
        return "gaussian", None
    if name.startswith(("scaled", "masked")):
        raise ValueError(
            f"algorithm: got {name} mutations, whose step depends on the gradient's direction; use "
            "theory.mean_step(algorithm, gradient)"
        )
    raise ValueError(
        f"algorithm: got mutations named {name!r}, whose law is not known; use one of gaussian, sphere, ball, student_t"
    )


@lru_cache(maxsize=64)
def nodes(name: str, argument: Any, is_fine: bool = False) -> Nodes:
    """The nodes of the density of a `key`, close together if ``is_fine``."""
    builders: dict[str, Callable] = {"sphere": sphere, "ball": ball, "student_t": student_t}
    step = _FINE_STEP if is_fine else _STEP
    return gaussian(step) if argument is None else builders[name](argument, step)


@lru_cache(maxsize=64)
def density(name: str, argument: Any) -> Density:
    """The density of a `key`; the sphere of one parameter, of two signs, has none."""
    if name == "student_t":
        return _student_t_density(argument)
    if name == "gaussian":
        return _normal_density()
    return _sphere_density(argument + 2 if name == "ball" else argument)
