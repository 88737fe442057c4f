"""One quadrature for all moments: nodes for the component z of a mutation along the gradient, in units of σ.

Every density here is symmetric, and rules change over z ~ 1/b with b = βσ|g| from 10⁻⁸ to 10⁸. The positive half-line is
therefore mapped to the logarithm of z. There the trapezoidal rule converges exponentially and resolves all of these scales
at once. The weights are normalised to ½, the mass of half a symmetric density.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy

from mutagrad import check
from mutagrad.law import Ball, Gaussian, IndependentEntries, Radial, Sphere, StudentT
from mutagrad.theory import radial
from mutagrad.theory.definition import density_law
from mutagrad.types import Definition

_STEP = 1 / 7
_FINE_STEP = 1 / 64
"""The best of many offspring lies in a narrow range of z, however many there are."""
_SMALLEST = -38.0
"""ln z of the first node: what lies below has a weight under 10⁻¹⁶."""


@dataclass(frozen=True)
class OnSphere:
    """The component of a vector of length √n, uniform in direction in n dimensions. A ball in n is a sphere in n + 2."""

    dimensions: int


Marginal = Gaussian | StudentT | OnSphere | Radial
"""The law of the component along the gradient. Moments of radial densities depend on nothing else."""


def marginal(definition: Definition, num_parameters: int | None) -> Marginal:
    """The marginal of an algorithm's density: of N parameters where that matters, of very many if N is not given.

    Raises
    ------
    ValueError : for a density without a law, or one whose component along the gradient depends on the gradient's direction.
    """
    law = density_law(definition)
    size = None if num_parameters is None else check.count("num_parameters", num_parameters)
    match law:
        case Sphere() if size is not None:
            return OnSphere(size)
        case Ball() if size is not None:
            return OnSphere(size + 2)
        case Gaussian() | IndependentEntries() | Sphere() | Ball():
            return Gaussian()
        case StudentT() | Radial():
            return law
    raise ValueError(
        f"algorithm: got {definition.mutation.name} mutations, whose step depends on the gradient's direction; use "
        "theory.mean_step(algorithm, gradient)"
    )


class Moments(NamedTuple):
    """E[A], E[zA], E[z²A] and E[u²A], u a component across the gradient: what is selected, in units of σ.

    ``curvature`` is D of the mean loss, ½σ²TrH·D to first order in TrH: what the selected step pays, and how the mutations'
    own share of it shifts the selection.
    """

    acceptance: jax.Array
    first: jax.Array
    second: jax.Array
    transverse: jax.Array
    curvature: jax.Array


class Nodes(NamedTuple):
    """Nodes on z > 0 of a symmetric marginal density f, in float64.

    Attributes
    ----------
    z : (n,) positions, increasing.
    weight : (n,) f(z) dz, whose sum is ½.
    transverse : (n,) E[u² | z], the mean square of a component across the gradient given the one along it.
    upper : (n,) P(Z > z).
    beyond : (n,) E[Z; Z > z], which for radial densities is E[u² | z] f(z).
    """

    z: np.ndarray
    weight: np.ndarray
    transverse: np.ndarray
    upper: np.ndarray
    beyond: np.ndarray

    @property
    def is_sign(self) -> bool:
        """Whether z is 1 or −1: the sphere of one parameter."""
        return self.z.size == 1

    def positions(self, dtype: Any) -> jax.Array:
        """z in JAX, below what overflows in float32."""
        return jnp.asarray(np.minimum(self.z, 1e30), dtype)

    @property
    def powers(self) -> np.ndarray:
        """(n, 4): weights for the sums of 1, z, z² and u². Multiplied here, in float64: far out z² overflows in float32."""
        return self.weight[:, None] * np.stack([np.ones_like(self.z), self.z, self.z**2, self.transverse], axis=1)

    def moments(self, kept: jax.Array, lost: jax.Array, interaction: Any = 0.0) -> Moments:
        """Moments from P(a parent | z) + P(a parent | −z), and from what the first is short of the second."""
        powers = jnp.asarray(self.powers, kept.dtype)
        shape = kept.shape[:-1] + self.z.shape
        even = jnp.broadcast_to(kept, shape) @ powers
        first = jnp.broadcast_to(lost, shape) @ powers[:, 1]
        return Moments(even[..., 0], first, even[..., 2], even[..., 3], even[..., 2] + interaction)


def _nodes(
    z: np.ndarray, slope: np.ndarray, step: float, log_density: np.ndarray, transverse: np.ndarray, upper: np.ndarray
) -> Nodes:
    """Nodes at equal steps of a variable in which z has this slope."""
    with np.errstate(under="ignore"):
        weight = np.exp(log_density - log_density.max()) * slope
        weight = weight / (2 * weight.sum())
    return Nodes(z, weight, transverse, upper, transverse * weight / (slope * step))


def _of_gaussian(step: float) -> Nodes:
    """Across the gradient the mutation does not know of the component along it."""
    z = np.exp(np.arange(_SMALLEST, 3.8, step))
    return _nodes(z, z, step, -(z**2) / 2, np.ones_like(z), scipy.special.ndtr(-z))


def _of_student_t(nu: float, step: float) -> Nodes:
    """Long mutations are long in every direction."""
    # The weight falls like z^−ν only: go to where z² times it is below 10⁻¹⁷, and stay in range.
    z = np.exp(np.arange(_SMALLEST, min(40 / (nu - 2) + 4, 300.0), step))
    # z²/(ν − 2) by logarithms: at ν near 2 the last nodes lie far out.
    log_density = -(nu + 1) / 2 * np.logaddexp(0, 2 * np.log(z) - np.log(nu - 2))
    upper = scipy.special.stdtr(nu, -z * np.sqrt(nu / (nu - 2)))
    return _nodes(z, z, step, log_density, (nu - 2 + z**2) / (nu - 1), upper)


def _on_sphere(dimensions: int, step: float) -> Nodes:
    """f ∝ (1 − (z/R)²)^p on (0, R), R = √n and p = (n − 3)/2, by z = R/(1 + e^−τ), which also resolves the end."""
    if dimensions == 1:
        one = np.ones(1)
        return Nodes(one, one / 2, 0 * one, 0 * one, one / 2)
    power, radius = (dimensions - 3) / 2, dimensions**0.5
    tau = np.arange(_SMALLEST - np.log(radius), 40 / min(power + 1, 1.0), step)
    share = scipy.special.expit(tau)
    log_rest = -np.logaddexp(0, tau)  # ln(1 − share), exact where share rounds to 1
    upper = scipy.special.betainc(power + 1, 0.5, np.exp(log_rest) * (1 + share)) / 2
    return _nodes(
        radius * share,
        radius * np.exp(log_rest) * share,
        step,
        power * (log_rest + np.log1p(share)),
        # At share → 1 the other components vanish: 1 − share² without its cancellation is not needed for their square.
        dimensions * (1 - share**2) / (dimensions - 1),
        upper,
    )


@lru_cache(maxsize=64)
def nodes(law: Marginal, is_fine: bool = False) -> Nodes:
    """The nodes of a marginal, close together if ``is_fine``."""
    step = _FINE_STEP if is_fine else _STEP
    match law:
        case Gaussian():
            return _of_gaussian(step)
        case StudentT():
            return _of_student_t(float(law.degrees_of_freedom), step)
        case OnSphere():
            return _on_sphere(law.dimensions, step)
    found = radial.table(law)
    return _nodes(found.z, found.slope, radial.STEP, found.log_density, found.transverse, found.upper)
