"""What the best of M gains: order-statistic moments, gain at finite σ, and the optimal normalised strength (theory.md 2, 3)."""

from functools import cache, lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jax.typing import ArrayLike

from mutagrad import check

__all__ = [
    "best_of_mean",
    "best_of_moment",
    "expected_gain",
    "normalized_mutation_strength",
    "optimal_strength",
    "success_rate",
]

# max(0, Z_(M)) is below 9 but for a probability of M · 10⁻¹⁹.
_UPPER = 9.0


@cache
def gauss(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of Gauss's rule on (−1, 1). Computed at its first use: importing must not wait for it."""
    return np.polynomial.legendre.leggauss(number)


def among_best(number: int, winners: int, upper: Any) -> Any:
    """P(one draw is among the K best of M), given P(another lies above it): fewer than K of the other M − 1 do."""
    return scipy.special.bdtr(winners - 1, number - 1, upper) if winners < number else np.ones_like(upper)


def normalized_mutation_strength(sigma: Any, hessian_trace: Any, grad_norm: Any) -> Any:
    """s = σ TrH / |∇U|: mutation strength in units of the curvature and slope that it meets.

    The gradient regime is s ≪ 1; the best σ has s = `optimal_strength`. On the sphere it is Beyer's σ* = σN/R.

    Parameters
    ----------
    sigma : σ, standard deviation of a mutation per parameter [parameter].
    hessian_trace : TrH [loss / parameter²].
    grad_norm : |∇U| [loss / parameter].

    Returns
    -------
    s, dimensionless, of the arguments' broadcast shape.

    Source: [B01] for the sphere; theory.md 3.

    >>> import mutagrad
    >>> float(mutagrad.theory.normalized_mutation_strength(0.5, 10.0, 2.0))
    2.5
    """
    return sigma * hessian_trace / grad_norm


@lru_cache
def best_of_moment(num_offspring: int, order: int = 1) -> float:
    """E[max(0, Z_(M))ᵏ], Z_(M) the largest of M standard normals: c_M for k = 1, m_M for k = 2.

    Parameters
    ----------
    num_offspring : M ≥ 1.
    order : k ≥ 1.

    Source: [W26]; theory.md 2.

    >>> import mutagrad
    >>> round(mutagrad.theory.best_of_moment(20), 4)
    1.8675
    """
    num_offspring = check.count("num_offspring", num_offspring)
    order = check.count("order", order)

    def integrand(z):
        return order * z ** (order - 1) * -np.expm1(num_offspring * scipy.special.log_ndtr(z))

    return float(scipy.integrate.quad(integrand, 0, np.inf, epsabs=1e-13, epsrel=1e-12)[0])


@lru_cache
def best_of_mean(num_offspring: int, num_parents: int = 1) -> float:
    """E of the mean of the K largest of M standard normals: the drift of (K,M) selection in units of σ.

    With K = 1 it is E[Z_(M)], the drift of the (1,M) strategy.

    Parameters
    ----------
    num_offspring : M ≥ 1.
    num_parents : K, 1 ≤ K ≤ M.

    Source: [B01]; theory.md 2.

    >>> import mutagrad
    >>> round(mutagrad.theory.best_of_mean(2), 6)
    0.56419
    """
    num_offspring = check.count("num_offspring", num_offspring)
    num_parents = check.count("num_parents", num_parents)
    if num_parents > num_offspring:
        raise ValueError(f"num_parents: got {num_parents}; pass at most num_offspring = {num_offspring}")

    def integrand(z):
        return (
            z
            * np.exp(-(z**2) / 2)
            / np.sqrt(2 * np.pi)
            * among_best(num_offspring, num_parents, scipy.special.ndtr(-z))
        )

    integral = scipy.integrate.quad(integrand, -12, 12, points=[0], epsabs=1e-13, epsrel=1e-11, limit=200)[0]
    return num_offspring / num_parents * float(integral)


def expected_gain(strength: ArrayLike, num_offspring: int) -> jax.Array:
    r"""Expected decrease of the loss per generation of (1+M), G_M(s) = E[max(0, s Z_(M) − s²/2)].

    In units of |∇U|²/TrH, for a Hessian with many eigenvalues. It includes the finite-σ cost that the drift alone,
    c_M s, leaves out: with $\Delta U \sim s z + s^2/2$, $G_M(s) = s \int_{s/2}^\infty (1 - \Phi(z)^M)\,dz$.

    Parameters
    ----------
    strength : s ≥ 0, any shape; see `normalized_mutation_strength`.
    num_offspring : M ≥ 1.

    Returns
    -------
    array of the shape of ``strength``; differentiable, under ``jit`` and ``vmap``. Exact to 10⁻⁶ in float32.

    Source: [B01] for M = 1 on the sphere; theory.md 3, tested in tests/theory/test_progress.py.

    >>> import mutagrad
    >>> round(float(mutagrad.theory.expected_gain(1.892, 20)), 4)
    1.7495
    """
    num_offspring = check.count("num_offspring", num_offspring)
    strength = jnp.asarray(strength, jnp.result_type(float))[..., None]
    lower = jnp.minimum(strength / 2, _UPPER)
    half_width = (_UPPER - lower) / 2
    shape = (1,) * (strength.ndim - 1) + (-1,)
    points, weights = (jnp.asarray(each, strength.dtype).reshape(shape) for each in gauss(96))
    nodes = lower + half_width * (1 + points)
    # ln Φ from the upper tail: close to Φ = 1 the library's logcdf has lost its digits.
    tail = -jnp.expm1(num_offspring * jnp.log1p(-jax.scipy.stats.norm.sf(nodes)))
    return strength[..., 0] * jnp.sum(half_width * weights * tail, axis=-1)


@lru_cache
def optimal_strength(num_offspring: int) -> float:
    """The s at which (1+M) gains most per generation: argmax of `expected_gain`.

    Parameters
    ----------
    num_offspring : M ≥ 1.

    Source: theory.md 3 (M = 1: Rechenberg's optimum, s = 1.224).

    >>> import mutagrad
    >>> round(mutagrad.theory.optimal_strength(20), 3)
    1.892
    """
    num_offspring = check.count("num_offspring", num_offspring)

    def tail(z):
        return -np.expm1(num_offspring * scipy.special.log_ndtr(z))

    def slope(s):
        # dG/ds = ∫_{s/2}^∞ (1 − Φᴹ) dz − (s/2)(1 − Φ(s/2)ᴹ), which falls from c_M through zero.
        integral = scipy.integrate.quad(tail, s / 2, np.inf, epsabs=1e-13, epsrel=1e-12)[0]
        return integral - s / 2 * tail(s / 2)

    # The small-noise optimum c_M/(1 − 2^−M) is below the exact one, which stays below its double.
    return float(scipy.optimize.brentq(slope, 1e-3, 2 * best_of_moment(num_offspring) + 2, xtol=1e-12))


def success_rate(strength: ArrayLike) -> jax.Array:
    """Fraction of mutations that lower the loss, Φ(−s/2): ½ far from a minimum, 0 at it.

    Parameters
    ----------
    strength : s ≥ 0, any shape; see `normalized_mutation_strength`.

    Source: [F30]; theory.md 3.

    >>> import mutagrad
    >>> round(float(mutagrad.theory.success_rate(1.224)), 3)
    0.27
    """
    return jax.scipy.stats.norm.cdf(-jnp.asarray(strength, jnp.result_type(float)) / 2)
