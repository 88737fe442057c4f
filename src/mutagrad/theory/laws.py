"""Drift, diffusion, acceptance and mean loss of one generation, and its mean step as a pytree (theory.md 1, 2, 5)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from mutagrad import tree
from mutagrad.theory.geometry import Geometry
from mutagrad.theory.moments import moments_at
from mutagrad.types import Algorithm, Params

__all__ = ["Diffusion", "acceptance_rate", "diffusion", "drift", "mean_loss_rate", "mean_step"]


class Diffusion(NamedTuple):
    """Second moments of a generation's step [parameter²].

    Attributes
    ----------
    longitudinal : E[(ĝ·Δx)²], along the gradient, about the origin. Subtract the drift squared for the variance.
    transverse : E[(u·Δx)²] in any direction u across the gradient.
    """

    longitudinal: jax.Array
    transverse: jax.Array


def drift(
    algorithm: Algorithm, grad_norm: ArrayLike, sigma: Any = None, num_parameters: int | None = None
) -> jax.Array:
    """Mean step of a generation along the gradient, E[ĝ·Δx] ≤ 0, on a loss that is linear over a mutation.

    Metropolis at b = βσ|g|: −σ b e^{b²/2}Φ(−b), which is −(βσ²/2)|g| for small b (gradient descent) and −σ/√2π for large
    b (normalised gradient descent). (1+M): −c_M σ at any slope. Others by quadrature.

    Parameters
    ----------
    algorithm : its rule and its density state their laws, as all of the library do; see `mutagrad.law` for your own.
    grad_norm : |∇U| ≥ 0, any shape [loss/parameter].
    sigma : σ in place of the algorithm's own, ``state.sigma`` if it changes [parameter]; broadcast against ``grad_norm``.
    num_parameters : N, for the sphere and the ball; the limit of many parameters unless given. Other densities do not need
        it. For independent entries the limit is meant, in which the slope along a mutation is normal because many parameters
        share the gradient. Two parents that mix (`mutagrad.law.OrderStatistic`) are meant in that limit too.

    Returns
    -------
    array of the broadcast shape [parameter]; differentiable, under ``jit`` and ``vmap``.

    Raises
    ------
    ValueError : for a rule or density that states no law; for mutations whose step depends on the gradient's direction
        (scaled, masked: see `mean_step`); for a wrapper without a single definition; without a σ if that changes.

    Domain: s = σTrH/|∇U| ≪ 1 (theory.md 3).

    Source: [W21] eqs. 3 and 6; [W26]; [S22]; theory.md 1 and 2.

    >>> import mutagrad
    >>> round(float(mutagrad.theory.drift(mutagrad.elitist(sigma=0.01, num_offspring=20), 3.0)), 6)
    -0.018675
    >>> metropolis = mutagrad.metropolis(sigma=1e-4, beta=2.0)
    >>> bool(abs(mutagrad.theory.drift(metropolis, 3.0) / (-1.0 * 1e-8 * 3.0) - 1) < 1e-3)   # −(βσ²/2)|g|
    True
    """
    _, sigma, found = moments_at(algorithm.definition, grad_norm, sigma, num_parameters)
    return sigma * found.first


def diffusion(
    algorithm: Algorithm, grad_norm: ArrayLike, sigma: Any = None, num_parameters: int | None = None
) -> Diffusion:
    """Second moments of a generation's step, along the gradient and across it.

    Parameters and errors are those of `drift`.

    Returns
    -------
    Diffusion [parameter²]. For (1+M) with gaussian mutations: σ² m_M and σ²(1 − 2^−M).

    Source: theory.md 1; [W26] for (1+M); two parents that mix are derived in `mutagrad.theory.moments`.

    >>> import mutagrad
    >>> found = mutagrad.theory.diffusion(mutagrad.greedy(sigma=1.0), 2.0)
    >>> round(float(found.longitudinal), 6), round(float(found.transverse), 6)
    (0.5, 0.5)
    """
    _, sigma, found = moments_at(algorithm.definition, grad_norm, sigma, num_parameters)
    return Diffusion(jnp.square(sigma) * found.second, jnp.square(sigma) * found.transverse)


def acceptance_rate(
    algorithm: Algorithm, grad_norm: ArrayLike, sigma: Any = None, num_parameters: int | None = None
) -> jax.Array:
    """Probability that a generation replaces the parent, on a loss that is linear over a mutation.

    Parameters and errors are those of `drift`.

    Source: theory.md 1 and 2.

    >>> import mutagrad
    >>> round(float(mutagrad.theory.acceptance_rate(mutagrad.elitist(sigma=0.1, num_offspring=3), 1.0)), 6)   # 1 − 2⁻³
    0.875
    """
    return moments_at(algorithm.definition, grad_norm, sigma, num_parameters)[2].acceptance


def mean_loss_rate(
    algorithm: Algorithm,
    grad_norm: ArrayLike,
    hessian_trace: ArrayLike = 0.0,
    sigma: Any = None,
    num_parameters: int | None = None,
) -> jax.Array:
    """Mean change of the loss in a generation, to first order in the curvature: drift·|∇U| + ½ TrH · D.

    The curvature acts twice. It bends the step, ½Tr(H E[ΔxΔxᵀ]), and it shifts which mutations are selected. Where many
    eigenvalues share TrH, a mutation pays ½σ²TrH times its own mean square across the gradient. For radial densities an
    integration by parts gives both effects together: D = E[(Σz)Δz] in units of σ², with Σz the sum over all offspring of
    their components along the gradient and Δz that of the step. For one offspring D is E[(ĝ·Δx)²]. For rules that rank it
    is E[(u·Δx)²], u across the gradient, as the best are an extremum. Weighted recombination pays for the length of what it
    makes, so that its D is E[(u·Δx)²] too, though E[(Σz)Δz] is another number. A Langevin equation with the drift of a linear
    loss has E[(u·Δx)²] for all rules; Metropolis at βσ|g| ≈ 1 would then pay a fifth too much.

    Parameters
    ----------
    algorithm, grad_norm, sigma, num_parameters : as in `drift`.
    hessian_trace : TrH [loss/parameter²], broadcast against ``grad_norm``.

    Returns
    -------
    array [loss per generation]. The order σ² of it is positive: the mean loss lies above that of gradient descent.

    Raises
    ------
    ValueError : as in `drift`.

    Domain: s = σTrH/|∇U| ≪ 1; for (1+M) at any s see `expected_gain`. Many parameters share the curvature, so that its share
        along the gradient is small; not the sphere of one.

    Source: leading order [W21] eq. 9; second order derived for this project, tested in tests/theory/test_moments.py
        and tests/theory/test_densities.py.

    >>> import mutagrad
    >>> algorithm = mutagrad.elitist(sigma=0.001, num_offspring=20)
    >>> rate = mutagrad.theory.mean_loss_rate(algorithm, grad_norm=1.0, hessian_trace=100.0)
    >>> exact = -mutagrad.theory.expected_gain(0.1, 20) / 100                       # s = 0.1, in units of |∇U|²/TrH
    >>> bool(abs(rate / exact - 1) < 1e-3)
    True
    """
    norm, sigma, found = moments_at(algorithm.definition, grad_norm, sigma, num_parameters)
    curvature = found.curvature * jnp.asarray(hessian_trace, norm.dtype)
    return sigma * found.first * norm + jnp.square(sigma) * curvature / 2


def mean_step(algorithm: Algorithm, gradient: Params, sigma: Any = None) -> Params:
    """Mean step of a generation on a loss that is linear over a mutation, E[Δx], as a pytree.

    Along −∇U for radial densities. For scaled mutations, of covariance σ² diag(scale²), it is −C∇U times a number, biased
    towards the parameters that mutate more; masked leaves do not move.

    Parameters
    ----------
    algorithm, sigma : as in `drift`, with scaled and masked mutations too.
    gradient : ∇U, a pytree; leaves that are not floating, and ``None``, are passed on as zeros.

    Returns
    -------
    pytree of the structure of ``gradient`` [parameter].

    Raises
    ------
    ValueError : as in `drift`.

    Source: [W21] eqs. 3, 6 and 8; theory.md 1.

    >>> import jax.numpy as jnp, mutagrad
    >>> mutation = mutagrad.mutation.scaled(jnp.array([1.0, 2.0]))
    >>> algorithm = mutagrad.metropolis(sigma=1e-3, beta=1.0, mutation=mutation)
    >>> step = mutagrad.theory.mean_step(algorithm, jnp.array([1.0, 1.0]))      # −(βσ_i²/2) ∂_iU
    >>> round(float(step[1] / step[0]), 3)
    4.0
    """
    geometry = Geometry.of(algorithm.definition, gradient)
    slope, direction = geometry.slope(gradient)
    _, sigma, found = geometry.moments(slope, sigma)
    return geometry.to_params(tree.scale(direction, sigma * found.first))
