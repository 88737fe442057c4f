"""Marginal densities at levels that follow the slope or a rank, where the nodes of `quadrature` are at fixed ones."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy

from mutagrad.law import Gaussian, StudentT
from mutagrad.theory import radial
from mutagrad.theory.quadrature import Marginal, OnSphere


class Density(NamedTuple):
    """A symmetric marginal density f.

    Attributes
    ----------
    radius : R, where f ends; a finite one is put where nothing is left of it, or of its part that competes (Student t).
    log_density_fn : ln f(v) in JAX, from v and 1 − (v/R)², which v does not resolve at the end.
    transverse_fn : E[u² | v], from the same two, in JAX or NumPy.
    quantile_fn : z ≥ 0 with P(Z > z) = p, for p ≤ ½, in NumPy.
    decay : a with z² dP falling like pᵃ dp/p as p = P(Z > z) → 0.
    """

    radius: float
    log_density_fn: Callable[[Any, Any], Any]
    transverse_fn: Callable[[Any, Any], Any]
    quantile_fn: Callable[[np.ndarray], np.ndarray]
    decay: float = 1.0


def _normal_density() -> Density:
    return Density(
        40.0,
        lambda v, rest: jax.scipy.stats.norm.logpdf(v),
        lambda v, rest: v * 0 + 1,
        lambda p: -scipy.special.ndtri(p),
    )


def _student_t_density(nu: float) -> Density:
    log_peak = float(scipy.special.gammaln((nu + 1) / 2) - scipy.special.gammaln(nu / 2) - np.log(np.pi * (nu - 2)) / 2)
    return Density(
        1e10,
        lambda v, rest: log_peak - (nu + 1) / 2 * jnp.log1p(jnp.square(v) / (nu - 2)),
        lambda v, rest: (nu - 2 + v**2) / (nu - 1),
        lambda p: np.sqrt((nu - 2) * (1 / np.maximum(scipy.special.betaincinv(nu / 2, 0.5, 2 * p), 1e-290) - 1)),
        1 - 2 / nu,
    )


def _sphere_density(dimensions: int) -> Density:
    """f ∝ (1 − z²/n)^((n−3)/2), n ≥ 2."""
    power, square = (dimensions - 3) / 2, float(dimensions)
    log_peak = float(-scipy.special.betaln(0.5, power + 1) - np.log(square) / 2)

    def log_density(v: jax.Array, rest: jax.Array) -> jax.Array:
        # Each where it has its digits: 1 − (v/R)² at the end, (v/R)² at the centre, where many dimensions need them.
        near_end = jnp.log(jnp.clip(rest, jnp.finfo(rest.dtype).tiny, 1))
        near_centre = jnp.log1p(-jnp.minimum(jnp.square(v) / square, 0.75))
        return log_peak + power * jnp.where(rest < 0.5, near_end, near_centre)

    return Density(
        square**0.5,
        log_density,
        lambda v, rest: square * rest / (square - 1),
        lambda p: np.sqrt(square * (1 - scipy.special.betaincinv(power + 1, 0.5, 2 * p))),
    )


@lru_cache(maxsize=64)
def density_of(law: Marginal) -> Density:
    """The density of a marginal; the sphere of one parameter, of two signs, has none."""
    match law:
        case Gaussian():
            return _normal_density()
        case StudentT():
            return _student_t_density(float(law.degrees_of_freedom))
        case OnSphere():
            return _sphere_density(law.dimensions)
    found = radial.table(law)
    return Density(found.radius, found.log_density_fn, found.transverse_fn, found.quantile, found.decay)
