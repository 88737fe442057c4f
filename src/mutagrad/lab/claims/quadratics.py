"""Quadratic losses of known curvatures, λ_k = k^(−a): the sphere (a = 0) and power laws, and where a run on them starts."""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

__all__ = ["Quadratic", "gains", "mutation_effects", "power_law", "sphere_effects"]

STARTS = ("even", "ones")


class Quadratic(NamedTuple):
    """U(x) = ½ Σ λ_k x_k², and a start.

    Attributes
    ----------
    curvatures : (N,) λ_k, largest first [loss/parameter²].
    start : (N,) parameters.
    """

    curvatures: jax.Array
    start: jax.Array

    def losses(self, x: jax.Array) -> jax.Array:
        """(N,) values of which the loss is the mean, N λ_k x_k²/2: parent and offspring are compared coordinate by coordinate."""
        return self.curvatures.size / 2 * self.curvatures * jnp.square(x)

    def loss(self, x: jax.Array) -> jax.Array:
        """U(x)."""
        return jnp.sum(self.curvatures * jnp.square(x)) / 2

    @property
    def trace(self) -> float:
        """TrH."""
        return float(np.sum(self.curvatures, dtype=float))

    @property
    def effective_rank(self) -> float:
        """r = TrH/λ_max."""
        return self.trace / float(self.curvatures[0])

    @property
    def participation_ratio(self) -> float:
        """(TrH)²/Tr(H²)."""
        return self.trace**2 / float(np.sum(np.square(self.curvatures, dtype=float)))

    @property
    def gradient_norm(self) -> float:
        """|∇U| at the start."""
        return float(np.linalg.norm(np.asarray(self.curvatures * self.start, float)))

    @property
    def unit_of_gain(self) -> float:
        """|∇U|²/TrH at the start, in which `mutagrad.theory.expected_gain` measures [loss]."""
        return self.gradient_norm**2 / self.trace

    def sigma(self, strength: float) -> float:
        """The σ whose normalised mutation strength at the start is s = σTrH/|∇U|."""
        return strength * self.gradient_norm / self.trace


def power_law(size: int, exponent: float, start: str = "ones") -> Quadratic:
    """The quadratic with λ_k = k^(−a), k = 1 … N; the sphere for a = 0.

    Parameters
    ----------
    size : N. exponent : a.
    start : "ones", x_k = 1, with the gradient λ_k; or "even", x_k = λ_k^(−½), where every coordinate has the same share of
        the loss and |∇U|² = TrH.

    >>> from mutagrad.lab.claims.quadratics import power_law
    >>> round(power_law(1000, 1.0).effective_rank, 3), round(power_law(1000, 0.0).participation_ratio, 3)
    (7.485, 1000.0)
    """
    if start not in STARTS:
        raise ValueError(f"start: got {start!r}; pass one of {', '.join(STARTS)}")
    curvatures = np.arange(1, size + 1, dtype=float) ** -exponent
    x = np.ones(size) if start == "ones" else curvatures**-0.5
    dtype = jnp.result_type(float)
    return Quadratic(jnp.asarray(curvatures, dtype), jnp.asarray(x, dtype))


@partial(jax.jit, static_argnums=2)
def mutation_effects(key: jax.Array, quadratic: Quadratic, number: int) -> tuple[jax.Array, jax.Array]:
    """What slope and curvature make of mutations at the start, for every σ at once.

    A mutation σz changes the loss by |∇U|²/TrH · (s A + ½s² B) exactly, with A = ĝ·z and B = z·Hz/TrH of mean 1; where many
    eigenvalues share TrH, A is normal and B = 1.

    Returns
    -------
    A and B, (number,) each.
    """
    gradient = quadratic.curvatures * quadratic.start
    unit, share = gradient / jnp.linalg.norm(gradient), quadratic.curvatures / jnp.sum(quadratic.curvatures)

    def one(key):
        z = jax.random.normal(key, unit.shape, unit.dtype)
        return jnp.sum(unit * z), jnp.sum(share * jnp.square(z))

    return jax.lax.map(one, jax.random.split(key, number), batch_size=64)


def sphere_effects(generator: np.random.Generator, size: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """A and B of `mutation_effects` on the sphere, where N·B is A² and a χ² of N − 1 degrees of freedom: at no cost in N.

    >>> import numpy as np
    >>> from mutagrad.lab.claims.quadratics import sphere_effects
    >>> slopes, costs = sphere_effects(np.random.default_rng(0), 100, (100_000,))
    >>> bool(abs(costs.mean() - 1) < 2e-3), bool(abs(costs.var() * 50 - 1) < 0.05)                # 2/N
    (True, True)
    """
    slopes = generator.standard_normal(shape)
    return slopes, (slopes**2 + generator.chisquare(size - 1, shape)) / size


def gains(decreases: np.ndarray, num_offspring: int) -> np.ndarray:
    """Mean decrease of the loss by a generation of (1+M), from the decreases −ΔU by single mutations.

    The unbiased mean of max(0, largest) over all choices of M of the n mutations, from their order statistics.

    Parameters
    ----------
    decreases : (..., n). num_offspring : M ≤ n.

    Returns
    -------
    (...) means, in the unit of the decreases.

    >>> import numpy as np
    >>> from mutagrad.lab.claims.quadratics import gains
    >>> [float(gains(np.array([3.0, -1.0, 1.0]), number).round(6)) for number in (1, 2, 3)]    # 4/3, (3 + 3 + 1)/3, 3
    [1.333333, 2.333333, 3.0]
    """
    number = decreases.shape[-1]
    rank = np.arange(num_offspring, number + 1)
    # The i-th smallest is the largest of M in C(i − 1, M − 1) choices.
    log_share = special.gammaln(rank) - special.gammaln(rank - num_offspring + 1)
    log_share += math.log(num_offspring) + special.gammaln(number - num_offspring + 1) - special.gammaln(number + 1)
    ordered = np.maximum(0, np.sort(decreases, axis=-1)[..., num_offspring - 1 :])
    return ordered @ np.exp(log_share)
