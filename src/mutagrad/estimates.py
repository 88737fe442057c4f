r"""Slope, curvature and sampling noise from the losses of offspring, without a gradient (theory.md 3 and 8).

A mutation of covariance σ²I has ΔU = g·ε + ½ε·Hε, so that over the M offspring of a generation

    TrH    ≈ 2 mean(ΔU)/σ²                 unbiased on a quadratic loss, for every density of covariance σ²I
    |g_B|² ≈ Var(ΔU)/σ²                    too large by ½σ²Tr(H²), a share of s²/2P of it
    TrC/B  ≈ mean of Var_i(Δℓ_i)/B, /σ²    too large by the sampling variance of the curvature term, of the same order in σ
    |g|²   ≈ |g_B|² − TrC/B                the loss's own slope, freed of the noise of its batch of B examples
    g·Hg   ≈ κ₃(ΔU)/3σ⁴                    on the batch, of gaussian mutations; too large by ⅓σ²Tr(H³)

with P = (TrH)²/Tr(H²) the participation ratio and s = σTrH/|g_B|. On a sphere the curvature adds a little less, for Student's
t of ν degrees ½σ²((TrH)² + 2Tr(H²))/(ν − 4) more (no bound for ν ≤ 4). With covariance σ²C the estimates are of Tr(CH), g·Cg
and so on: what the mutation meets, and what its σ must be chosen by. Masked mutations see the leaves that they mutate.

All functions take JAX arrays, or NumPy arrays, which keep their precision.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["Estimates", "Moments", "estimates", "moments", "standard_errors"]


def _numpy_of(array: Any) -> Any:
    """NumPy for its own arrays, so that double precision stays; JAX for all others."""
    return np if isinstance(array, np.ndarray | np.generic) else jnp


class Moments(NamedTuple):
    """Additive moments of the loss differences ΔU of n offspring, in units of σ so that no square under- or overflows.

    The moments of two groups of offspring of one loss combine to those of both: ``a + b``.

    Attributes
    ----------
    number : n, the offspring whose ΔU is finite, and the sum of so many of its squares.
    mean : of ΔU/σ [loss/parameter].
    squares : Σ(ΔU/σ − mean)².
    cubes : Σ(ΔU/σ − mean)³ over the third power of the standard deviation, which it would overflow with.
    noise : mean of the sampling variances over σ².
    noise_squares : Σ(sampling variance/σ² − noise)².
    """

    number: jax.Array
    mean: jax.Array
    squares: jax.Array
    cubes: jax.Array
    noise: jax.Array
    noise_squares: jax.Array

    def __add__(self, other: "Moments") -> "Moments":  # type: ignore[override]
        number = self.number + other.number
        some = _numpy_of(number).maximum(number, 1)
        share, both = other.number / some, self.number * other.number / some
        gap, noise_gap = other.mean - self.mean, other.noise - self.noise
        squares = self.squares + other.squares + both * gap**2
        scale = _scale(number, squares)
        own, others, gap_in_scale = _scale(self.number, self.squares), _scale(other.number, other.squares), gap / scale
        cubes = self.cubes * (own / scale) ** 3 + other.cubes * (others / scale) ** 3
        cubes = cubes + both * (self.number - other.number) / some * gap_in_scale**3
        crossed = self.number * other.squares / scale**2 - other.number * self.squares / scale**2
        return Moments(
            number,
            self.mean + share * gap,
            squares,
            cubes + 3 * gap_in_scale * crossed / some,
            self.noise + share * noise_gap,
            self.noise_squares + other.noise_squares + both * noise_gap**2,
        )

    @property
    def variance(self) -> jax.Array:
        """Unbiased, of ΔU/σ; NaN for fewer than two offspring."""
        return _numpy_of(self.number).where(self.number > 1, self.squares / (self.number - 1), jnp.nan)

    @property
    def skewness(self) -> jax.Array:
        """The unbiased third cumulant over that power of the variance; NaN for fewer than three offspring."""
        n = self.number
        return _numpy_of(n).where(n > 2, self.cubes * n / ((n - 1) * (n - 2)), jnp.nan)


def _scale(number: jax.Array, squares: jax.Array) -> jax.Array:
    """The standard deviation, or 1 where there is none."""
    xp = _numpy_of(number)
    variance = squares / xp.maximum(number - 1, 1)
    return xp.sqrt(xp.where(variance > 0, variance, 1))


def moments(differences: Any, variances: Any, sigma: Any) -> Moments:
    """The moments of one generation.

    Parameters
    ----------
    differences : (M,) loss differences ΔU; those that are not finite are left out [loss].
    variances : (M,) sampling variance of each over the examples, Var_i(Δℓ_i)/B [loss²].
    sigma : σ, standard deviation of a mutation per parameter [parameter].

    >>> import jax.numpy as jnp
    >>> from mutagrad.estimates import moments
    >>> found = moments(jnp.array([1.0, 2.0, jnp.nan]), jnp.zeros(3), 0.5)
    >>> float(found.number), float(found.mean), float(found.variance)
    (2.0, 3.0, 2.0)
    """
    xp = _numpy_of(differences)
    sigma = xp.asarray(sigma, differences.dtype)
    # One that is too large to be squared, in σ, says as little as one that failed, and would be remembered for ever.
    largest = float(xp.finfo(differences.dtype).max) ** 0.5 / (4 * max(differences.size, 1)) ** 0.5
    is_finite = xp.isfinite(differences) & (xp.abs(differences / sigma) < largest)
    number = xp.sum(is_finite, dtype=differences.dtype)
    scaled = xp.where(is_finite, differences / sigma, 0)
    some = xp.maximum(number, 1)
    mean = xp.sum(scaled) / some
    apart = xp.where(is_finite, scaled - mean, 0)
    noises = xp.where(is_finite, xp.square(xp.sqrt(variances.astype(differences.dtype)) / sigma), 0)
    noise = xp.sum(noises) / some
    noise_squares = xp.sum(xp.where(is_finite, xp.square(noises - noise), 0))
    squares = xp.sum(xp.square(apart))
    cubes = xp.sum((apart / _scale(number, squares)) ** 3)
    return Moments(number, mean, squares, cubes, noise, noise_squares)


class Estimates(NamedTuple):
    """What the offspring of a generation tell of the loss that they met.

    Attributes
    ----------
    hessian_trace : TrH [loss/parameter²].
    squared_grad_norm : |g_B|², the squared slope of the batch, sampling noise included [loss²/parameter²]; NaN for fewer
        than two finite offspring.
    squared_grad_noise : TrC/B, the part of it that is sampling noise if the batch is a sample [loss²/parameter²].
    strength : s = σTrH/|g_B|, the normalised mutation strength; NaN where |g_B|² is 0 or NaN.
    gradient_curvature : g·Hg on the batch, |g_B|² times the curvature along the slope [loss³/parameter⁴]; NaN for fewer than
        three finite offspring. It makes ΔU skewed, by 3σ g·Hg/|g_B|³.
    """

    hessian_trace: jax.Array
    squared_grad_norm: jax.Array
    squared_grad_noise: jax.Array
    strength: jax.Array
    gradient_curvature: jax.Array


def estimates(found: Moments, sigma: Any) -> Estimates:
    """Slope, curvature and sampling noise from the moments of one generation, or of several of one σ.

    Parameters
    ----------
    found : of `moments`.
    sigma : σ, standard deviation of a mutation per parameter [parameter].

    Returns
    -------
    Estimates of scalars. One generation is noisy; see `standard_errors`, and `mutagrad.diagnostics.regime` for many.

    Domain: mutations of covariance σ²I on a loss that is close to quadratic on the scale of σ; see the module.
    Source: theory.md 3 and 8, derived for this project, tested in tests/test_estimates.py.

    >>> import jax, jax.numpy as jnp
    >>> from mutagrad.estimates import estimates, moments
    >>> mutations = 0.01 * jax.random.normal(jax.random.key(0), (4000, 50))
    >>> losses = jnp.sum((1 + mutations) ** 2 - 1, axis=1)                                     # U = Σx² at x = 1
    >>> found = estimates(moments(losses, jnp.zeros(4000), 0.01), 0.01)
    >>> round(float(found.hessian_trace) / 100, 1), round(float(found.squared_grad_norm) / 200, 1)
    (1.0, 1.0)
    """
    xp, variance = _numpy_of(found.mean), found.variance
    sigma = xp.asarray(sigma, found.mean.dtype)
    # Of no offspring nothing is known.
    mean, noise = (xp.where(found.number > 0, one, jnp.nan) for one in (found.mean, found.noise))
    inverse_root = 1 / np.sqrt(variance) if xp is np else jax.lax.rsqrt(variance)
    strength = xp.where(variance > 0, 2 * mean * inverse_root, jnp.nan)
    curvature = found.skewness * variance * xp.sqrt(variance) / (3 * sigma)
    return Estimates(2 * mean / sigma, variance, noise, strength, curvature)


def standard_errors(found: Moments, sigma: Any) -> Estimates:
    """Standard errors of what `estimates` returns, over the mutations.

    Parameters
    ----------
    found, sigma : as in `estimates`.

    Returns
    -------
    Estimates of scalars: 2 std(ΔU)/σ²√M; |g_B|²√(2/(M − 1)), from a normal ΔU; that of the mean of the sampling variances;
    √(4/M + s²/2(M − 1)) for s; and |g_B|³√(6/M)/3σ for g·Hg, from a normal ΔU again. The batch is taken as given: how TrC/B
    varies between batches is not in them. |g_B|² is distributed like χ² of M − 1 degrees, so that its error means little for M
    below about 10.

    >>> import jax, jax.numpy as jnp
    >>> from mutagrad.estimates import moments, standard_errors
    >>> found = moments(jax.random.normal(jax.random.key(0), (400,)), jnp.zeros(400), 1.0)
    >>> round(float(standard_errors(found, 1.0).strength), 2)
    0.1
    """
    xp, strength = _numpy_of(found.mean), estimates(found, sigma).strength
    sigma = xp.asarray(sigma, found.mean.dtype)
    number, variance = found.number, found.variance
    degrees = xp.where(number > 1, number - 1, jnp.nan)
    return Estimates(
        hessian_trace=2 * xp.sqrt(variance / number) / sigma,
        squared_grad_norm=variance * xp.sqrt(2 / degrees),
        squared_grad_noise=xp.sqrt(found.noise_squares / degrees / number),
        strength=xp.sqrt(4 / number + xp.square(strength) / (2 * degrees)),
        gradient_curvature=xp.where(number > 2, variance * xp.sqrt(variance * 6 / number) / (3 * sigma), jnp.nan),
    )
