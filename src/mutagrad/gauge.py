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
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

__all__ = ["Gauge", "is_another_batch", "measure", "standard_errors"]

_SAME_BATCH = 1e-4


class Gauge(NamedTuple):
    """What the offspring of one generation tell of the loss that they met.

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


class _Moments(NamedTuple):
    """Of the finite offspring, with ΔU in units of σ, so that no square under- or overflows."""

    number: jax.Array
    mean: jax.Array
    variance: jax.Array
    skewness: jax.Array
    noise: jax.Array
    spread_of_noise: jax.Array


def _moments(differences: jax.Array, variances: jax.Array, sigma: jax.Array) -> _Moments:
    sigma = jnp.asarray(sigma, differences.dtype)
    is_finite = jnp.isfinite(differences)
    number = jnp.sum(is_finite, dtype=differences.dtype)
    scaled = jnp.where(is_finite, differences / sigma, 0)
    mean = jnp.sum(scaled) / number
    apart = jnp.where(is_finite, scaled - mean, 0)
    variance = jnp.sum(jnp.square(apart)) / (number - 1)
    # Of the unbiased third cumulant, over that power of the variance.
    unit = apart * jax.lax.rsqrt(jnp.where(variance > 0, variance, 1))
    skewness = jnp.where(number > 2, jnp.sum(unit**3) * number / ((number - 1) * (number - 2)), jnp.nan)
    noises = jnp.where(is_finite, jnp.square(jnp.sqrt(variances.astype(differences.dtype)) / sigma), 0)
    noise = jnp.sum(noises) / number
    spread = jnp.sum(jnp.where(is_finite, jnp.square(noises - noise), 0)) / (number - 1)
    return _Moments(number, mean, jnp.where(number > 1, variance, jnp.nan), skewness, noise, spread)


def measure(differences: jax.Array, variances: jax.Array, sigma: jax.Array) -> Gauge:
    """Slope, curvature and sampling noise from one generation.

    Parameters
    ----------
    differences : (M,) loss differences ΔU; those that are not finite are left out [loss].
    variances : (M,) sampling variance of each over the examples, Var_i(Δℓ_i)/B [loss²].
    sigma : σ, standard deviation of a mutation per parameter [parameter].

    Returns
    -------
    Gauge of scalars. One generation is noisy; see `standard_errors`, and `mutagrad.diagnostics.regime` for many.

    Domain: mutations of covariance σ²I on a loss that is close to quadratic on the scale of σ; see the module.
    Source: theory.md 3 and 8, derived for this project, tested in tests/test_gauge.py.

    >>> import jax, jax.numpy as jnp
    >>> from mutagrad.gauge import measure
    >>> mutations = 0.01 * jax.random.normal(jax.random.key(0), (4000, 50))
    >>> found = measure(jnp.sum((1 + mutations) ** 2 - 1, axis=1), jnp.zeros(4000), 0.01)      # U = Σx² at x = 1
    >>> round(float(found.hessian_trace) / 100, 1), round(float(found.squared_grad_norm) / 200, 1)
    (1.0, 1.0)
    """
    found = _moments(differences, variances, sigma)
    sigma = jnp.asarray(sigma, differences.dtype)
    is_known = found.variance > 0
    strength = jnp.where(is_known, 2 * found.mean * jax.lax.rsqrt(found.variance), jnp.nan)
    curvature = found.skewness * found.variance * jnp.sqrt(found.variance) / (3 * sigma)
    return Gauge(2 * found.mean / sigma, found.variance, found.noise, strength, curvature)


def standard_errors(differences: jax.Array, variances: jax.Array, sigma: jax.Array) -> Gauge:
    """Standard errors of what `measure` returns, over the mutations of one generation.

    Parameters
    ----------
    differences, variances, sigma : as in `measure`.

    Returns
    -------
    Gauge of scalars: 2 std(ΔU)/σ²√M; |g_B|²√(2/(M − 1)), from a normal ΔU; that of the mean of the sampling variances;
    √(4/M + s²/2(M − 1)) for s; and |g_B|³√(6/M)/3σ for g·Hg, from a normal ΔU again. The batch is taken as given: how TrC/B
    varies between batches is not in them. |g_B|² is distributed like χ² of M − 1 degrees, so that its error means little for M
    below about 10.

    >>> import jax, jax.numpy as jnp
    >>> from mutagrad.gauge import standard_errors
    >>> errors = standard_errors(jax.random.normal(jax.random.key(0), (400,)), jnp.zeros(400), 1.0)
    >>> round(float(errors.strength), 2)
    0.1
    """
    found, gauge = _moments(differences, variances, sigma), measure(differences, variances, sigma)
    sigma = jnp.asarray(sigma, differences.dtype)
    degrees = jnp.where(found.number > 1, found.number - 1, jnp.nan)
    return Gauge(
        hessian_trace=2 * jnp.sqrt(found.variance / found.number) / sigma,
        squared_grad_norm=found.variance * jnp.sqrt(2 / degrees),
        squared_grad_noise=jnp.where(found.number > 1, jnp.sqrt(found.spread_of_noise / found.number), jnp.nan),
        strength=jnp.sqrt(4 / found.number + jnp.square(gauge.strength) / (2 * degrees)),
        gradient_curvature=jnp.where(
            found.number > 2, found.variance * jnp.sqrt(found.variance * 6 / found.number) / (3 * sigma), jnp.nan
        ),
    )


def is_another_batch(loss: Any, expected: Any) -> Any:
    """Whether a parent met another batch than the generation before did: its loss is off by more than a share of 10⁻⁴.

    Parameters
    ----------
    loss, expected : the parent's loss, and the one that it had on the batch before; arrays of one shape, of JAX or NumPy.

    >>> import numpy as np
    >>> from mutagrad.gauge import is_another_batch
    >>> is_another_batch(np.array([1.0, 1.0]), np.array([1.00001, 1.1])).tolist()
    [False, True]
    """
    return abs(loss - expected) > _SAME_BATCH * abs(loss)
