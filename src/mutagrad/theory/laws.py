"""Drift, diffusion, acceptance and mean loss of one generation, and its mean step as a pytree (theory.md 1, 2, 5)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from mutagrad import tree
from mutagrad.theory.moments import moments
from mutagrad.types import Algorithm, Mutation, Params

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


def _prepare(algorithm: Algorithm, grad_norm: ArrayLike, sigma: Any) -> tuple[jax.Array, jax.Array]:
    dtype = jnp.result_type(float)
    norm = jnp.asarray(grad_norm, dtype)
    sigma = jnp.asarray(algorithm.definition.sigma if sigma is None else sigma, dtype)
    norm, sigma = jnp.broadcast_arrays(norm, sigma)
    return norm, sigma


def drift(
    algorithm: Algorithm, grad_norm: ArrayLike, sigma: Any = None, num_parameters: int | None = None
) -> jax.Array:
    """Mean step of a generation along the gradient, E[ĝ·Δx] ≤ 0, on a loss that is linear over a mutation.

    Metropolis at b = βσ|g|: −σ b e^{b²/2}Φ(−b), which is −(βσ²/2)|g| for small b (gradient descent) and −σ/√2π for large
    b (normalised gradient descent). (1+M): −c_M σ at any slope. Others by quadrature.

    Parameters
    ----------
    algorithm : an algorithm with a rule and a density of the library.
    grad_norm : |∇U| ≥ 0, any shape [loss/parameter].
    sigma : mutation strength in place of the algorithm's own [parameter]; broadcast against ``grad_norm``.
    num_parameters : N, for the sphere and the ball; the limit of many parameters unless given. It does not matter to
        other densities; with rademacher and low-rank mutations the limit is meant, in which the slope along a mutation is
        normal because many parameters share the gradient.

    Returns
    -------
    array of the broadcast shape [parameter]; differentiable, under ``jit`` and ``vmap``.

    Raises
    ------
    ValueError : for mutations whose step depends on the gradient's direction (scaled, masked: see `mean_step`), and for a
        rule or density of the user's own.

    Domain: s = σTrH/|∇U| ≪ 1 (theory.md 3).

    Source: [W21] eqs. 3 and 6; [W26]; [S22]; theory.md 1 and 2.

    >>> import mutagrad
    >>> round(float(mutagrad.theory.drift(mutagrad.elitist(sigma=0.01, num_offspring=20), 3.0)), 6)
    -0.018675
    >>> metropolis = mutagrad.metropolis(sigma=1e-4, beta=2.0)
    >>> bool(abs(mutagrad.theory.drift(metropolis, 3.0) / (-1.0 * 1e-8 * 3.0) - 1) < 1e-3)   # −(βσ²/2)|g|
    True
    """
    norm, sigma = _prepare(algorithm, grad_norm, sigma)
    return sigma * moments(algorithm.definition, sigma * norm, num_parameters).first


def diffusion(
    algorithm: Algorithm, grad_norm: ArrayLike, sigma: Any = None, num_parameters: int | None = None
) -> Diffusion:
    """Second moments of a generation's step, along the gradient and across it.

    Parameters
    ----------
    algorithm, grad_norm, sigma, num_parameters : as in `drift`.

    Returns
    -------
    Diffusion [parameter²]. For (1+M) with gaussian mutations: σ² m_M and σ²(1 − 2^−M).

    Raises
    ------
    ValueError : as in `drift`.

    Source: theory.md 1; [W26] for (1+M).

    >>> import mutagrad
    >>> found = mutagrad.theory.diffusion(mutagrad.greedy(sigma=1.0), 2.0)
    >>> round(float(found.longitudinal), 6), round(float(found.transverse), 6)
    (0.5, 0.5)
    """
    norm, sigma = _prepare(algorithm, grad_norm, sigma)
    found = moments(algorithm.definition, sigma * norm, num_parameters)
    return Diffusion(jnp.square(sigma) * found.second, jnp.square(sigma) * found.transverse)


def acceptance_rate(
    algorithm: Algorithm, grad_norm: ArrayLike, sigma: Any = None, num_parameters: int | None = None
) -> jax.Array:
    """Probability that a generation replaces the parent, on a loss that is linear over a mutation.

    Parameters
    ----------
    algorithm, grad_norm, sigma, num_parameters : as in `drift`.

    Raises
    ------
    ValueError : as in `drift`.

    Source: theory.md 1 and 2.

    >>> import mutagrad
    >>> round(float(mutagrad.theory.acceptance_rate(mutagrad.elitist(sigma=0.1, num_offspring=3), 1.0)), 6)   # 1 − 2⁻³
    0.875
    """
    norm, sigma = _prepare(algorithm, grad_norm, sigma)
    return moments(algorithm.definition, sigma * norm, num_parameters).acceptance


def mean_loss_rate(
    algorithm: Algorithm,
    grad_norm: ArrayLike,
    hessian_trace: ArrayLike = 0.0,
    sigma: Any = None,
    num_parameters: int | None = None,
) -> jax.Array:
    """Mean change of the loss in a generation, to first order in the curvature: drift·|∇U| + ½ TrH · D.

    The curvature acts twice: it bends the step, ½Tr(H E[ΔxΔxᵀ]), and it shifts which mutations are selected. Where many
    eigenvalues share TrH, a mutation pays ½σ²TrH times its own mean square across the gradient. For radial densities an
    integration by parts gives both together: D = E[(Σz)Δz] in units of σ², with Σz the sum over all offspring of their
    components along the gradient and Δz that of the step. For one offspring that is E[(ĝ·Δx)²]; for rules that rank it is
    E[(u·Δx)²], u across the gradient, as the best are an extremum, and what weighted recombination makes of them, which pays
    for its own length and not for theirs, has D = E[(u·Δx)²] too, though E[(Σz)Δz] is another number. With E[(u·Δx)²] for
    all rules, as a Langevin equation with the drift of a linear loss has it, Metropolis at βσ|g| ≈ 1 would pay a fifth too
    much.

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
    norm, sigma = _prepare(algorithm, grad_norm, sigma)
    found = moments(algorithm.definition, sigma * norm, num_parameters)
    curvature = found.curvature * jnp.asarray(hessian_trace, norm.dtype)
    return sigma * found.first * norm + jnp.square(sigma) * curvature / 2


def mean_step(algorithm: Algorithm, gradient: Params, sigma: Any = None) -> Params:
    """Mean step of a generation on a loss that is linear over a mutation, E[Δx], as a pytree.

    Along −∇U for radial densities. For scaled mutations, of covariance σ² diag(scale²), it is −C∇U times a number, biased
    towards the parameters that mutate more; masked leaves do not move.

    Parameters
    ----------
    algorithm : as in `drift`, with scaled and masked mutations too.
    gradient : ∇U, a pytree; leaves that are not floating, and ``None``, are passed on as zeros.
    sigma : mutation strength in place of the algorithm's own [parameter].

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
    geometry = Geometry.of(algorithm, gradient)
    slope, direction = geometry.slope(gradient)
    along = drift(geometry.algorithm, slope, sigma, geometry.num_parameters)
    return geometry.to_params(tree.scale(direction, along))


class Geometry(NamedTuple):
    """Coordinates in which the mutations of an algorithm are radial: parameters in units of their scale.

    Attributes
    ----------
    scales : pytree of the params' structure, the scale of each parameter; 0 where it is not mutated.
    algorithm : the algorithm with the radial density.
    num_parameters : N where the density asks for it.
    """

    scales: Params
    algorithm: Algorithm
    num_parameters: int | None

    @classmethod
    def of(cls, algorithm: Algorithm, params: Params) -> "Geometry":
        """The geometry of an algorithm on these params (or a gradient of their structure)."""
        scales, base = _scales(algorithm.definition.mutation, params), radial(algorithm.definition.mutation)
        number = tree.size(params) if base.name in ("sphere", "ball") else None
        return cls(scales, with_mutation(algorithm, base), number)

    def slope(self, gradient: Params) -> tuple[jax.Array, Params]:
        """Norm of the gradient in these coordinates, and its direction (zeros where the norm is 0)."""
        scaled = self.to_params(gradient)
        norm = jnp.sqrt(tree.squared_norm(scaled))
        return norm, tree.scale(scaled, jnp.where(norm > 0, 1 / jnp.where(norm > 0, norm, 1), 0))

    def to_params(self, vector: Params) -> Params:
        """A vector of these coordinates as a change of the params; leaves that are not floating become zeros."""

        def multiply(leaf, scale):
            if not tree.is_floating(leaf):
                return jnp.zeros_like(leaf)
            return leaf * jnp.asarray(scale, leaf.dtype)

        return jax.tree.map(multiply, vector, self.scales)


def with_mutation(algorithm: Algorithm, mutation: Mutation) -> Algorithm:
    """An algorithm for theory to read, with another density among its parts."""
    return algorithm._replace(definition=algorithm.definition._replace(mutation=mutation))


def radial(mutation: Mutation) -> Mutation:
    """The density under scales and masks."""
    while mutation.name.startswith(("scaled", "masked")):
        mutation = mutation.options["mutation"]
    return mutation


def _scales(mutation: Mutation, params: Params) -> Params:
    """Standard deviation of every parameter in units of σ, a number or an array for each leaf."""
    if mutation.name.startswith("scaled"):
        own = tree.broadcast_prefix("scale", mutation.options["scale"], params, "number or array")
    elif mutation.name.startswith("masked"):
        # A radial density sees the mutated leaves only, so its number of dimensions is not that of the tree.
        if radial(mutation).name in ("sphere", "ball"):
            raise ValueError(
                f"algorithm: got {mutation.name} mutations, whose law is not known; use gaussian ones, the limit of many "
                "parameters"
            )
        own = jax.tree.map(float, tree.broadcast_prefix("mask", mutation.options["mask"], params, "boolean"))
    else:
        return jax.tree.map(lambda _: 1.0, params)
    return jax.tree.map(lambda a, b: jnp.asarray(a) * b, own, _scales(mutation.options["mutation"], params))
