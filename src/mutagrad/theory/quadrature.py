"""One quadrature for all moments: nodes for the component z of a mutation along the gradient, in units of σ.

Every density of the library is symmetric, and the rules change over z ~ 1/b with b = βσ|g| from 10⁻⁸ to 10⁸. So the positive
half-line is mapped to the logarithm of z, where the trapezoidal rule converges exponentially and resolves all of these
scales at once; the weights are normalised to ½, the mass of half a symmetric density.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

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


@lru_cache(maxsize=64)
def _cached(name: str, argument: Any, is_fine: bool) -> Nodes:
    builders: dict[str, Callable] = {"sphere": sphere, "ball": ball, "student_t": student_t}
    step = _FINE_STEP if is_fine else _STEP
    return gaussian(step) if argument is None else builders[name](argument, step)


_NORMAL_IN_MANY_DIMENSIONS = ("gaussian", "rademacher", "low_rank", "sphere", "ball")


def is_normal(mutation: Mutation, num_parameters: int | None) -> bool:
    """Whether a density's component along the gradient is taken to be normal."""
    is_finite = mutation.name in ("sphere", "ball") and num_parameters is not None
    return mutation.name in _NORMAL_IN_MANY_DIMENSIONS and not is_finite


def nodes(mutation: Mutation, num_parameters: int | None, is_fine: bool = False) -> Nodes:
    """The nodes of a density of the library, close together if ``is_fine``.

    Raises
    ------
    ValueError : for a density whose component along the gradient depends on more than the gradient's norm.
    """
    name = mutation.name
    if name == "student_t":
        return _cached(name, float(mutation.options["degrees_of_freedom"]), is_fine)
    if name in ("sphere", "ball") and num_parameters is not None:
        return _cached(name, num_parameters, is_fine)
    if is_normal(mutation, num_parameters):
        return _cached("gaussian", None, is_fine)
    if name.startswith(("scaled", "masked")):
        raise ValueError(
            f"algorithm: got {name} mutations, whose step depends on the gradient's direction; use "
            "theory.mean_step(algorithm, gradient)"
        )
    raise ValueError(
        f"algorithm: got mutations named {name!r}, whose law is not known; use one of gaussian, sphere, ball, student_t"
    )
