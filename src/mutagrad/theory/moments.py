"""Drift, diffusion and acceptance of one generation on a linear loss, for every rule and radial density (theory.md 1, 2).

All rules of the library that judge one offspring satisfy detailed balance, A(−x) e^{−κx} = A(x). So the difference of two
acceptances that makes the drift is A(−x)(e^{−κx} − 1), exact however small x is, and one quadrature serves all of them.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from scipy import special

from mutagrad import tree
from mutagrad.theory import quadrature
from mutagrad.types import Algorithm, Params, Parts

__all__ = ["Diffusion", "acceptance_rate", "diffusion", "drift", "mean_loss_rate", "mean_step"]

_LARGEST_NODE = 1e30
_PLAIN_BELOW, _SHARP_ABOVE = 1e-3, 1e6
"""βσ|g| outside which Boltzmann selection has the moments of its limits, with a relative error near βσ|g| or its inverse."""
_LEVEL_STEP = 1 / 24


class Diffusion(NamedTuple):
    """Second moments of a generation's step [parameter²].

    Attributes
    ----------
    longitudinal : E[(ĝ·Δx)²], along the gradient, about the origin. Subtract the drift squared for the variance.
    transverse : E[(u·Δx)²] in any direction u across the gradient.
    """

    longitudinal: jax.Array
    transverse: jax.Array


class _Moments(NamedTuple):
    """E[A], E[zA], E[z²A], E[u²A]: what is selected, in units of σ."""

    acceptance: jax.Array
    first: jax.Array
    second: jax.Array
    transverse: jax.Array


def _balance(parts: Parts) -> Any:
    """κ of detailed balance, A(x) = A(−x) e^{−κx}; ``None`` for a rule whose balance is not known."""
    name, options = parts.selection.name, parts.selection.options
    if name == "greedy":
        return math.inf
    if name in ("metropolis", "logistic"):
        return options["beta"]
    if name == "fixation":
        return options["beta"] * (options["population_size"] - 1) * (1 if options["model"] == "moran" else 2)
    return None


def _sums(nodes: quadrature.Nodes, value: jax.Array, powers: tuple[int, ...] = (0, 1, 2)) -> list[jax.Array]:
    """Sums over the nodes of value times weight·zᵏ for each k, and times weight·E[u²|z]."""
    # Multiplied in float64: far out z² overflows in float32 where its weight vanishes.
    weights = [nodes.weight * nodes.z**power for power in powers] + [nodes.weight * nodes.transverse]
    return [value @ jnp.asarray(weight, value.dtype) for weight in weights]


def _one_offspring(parts: Parts, nodes: quadrature.Nodes, slope: jax.Array) -> _Moments:
    acceptance_fn = parts.selection.acceptance_fn
    assert acceptance_fn is not None
    z = jnp.asarray(np.minimum(nodes.z, _LARGEST_NODE), slope.dtype)
    x = jnp.multiply.outer(slope, z)
    better = acceptance_fn(-x)
    kappa = _balance(parts)
    if kappa is None:
        worse = acceptance_fn(x)
        lost = worse - better
    else:
        is_zero = (x == 0) | (jnp.asarray(kappa) == 0)
        exponent = jnp.where(is_zero, 0, jnp.where(is_zero, 0, kappa) * x)
        worse, lost = better * jnp.exp(-exponent), better * jnp.expm1(-exponent)
    total = jnp.broadcast_to(better + worse, x.shape)
    acceptance, _, second, transverse = _sums(nodes, total)
    first = _sums(nodes, jnp.broadcast_to(lost, x.shape))[1]
    return _Moments(acceptance, first, second, transverse)


def _selected(parts: Parts, nodes: quadrature.Nodes) -> tuple[np.ndarray, np.ndarray]:
    """P(this offspring becomes a parent | v), times the number of offspring per parent, at v = z > 0 and at v = −z.

    v = −z is how far an offspring goes down; selection then sees only ranks, whatever the slope.
    """
    name, number = parts.selection.name, parts.num_offspring
    above = nodes.upper
    if name == "elitist":
        return number * np.exp((number - 1) * np.log1p(-above)), np.zeros_like(above)
    winners = parts.selection.num_winners

    def among_best(upper: np.ndarray) -> np.ndarray:
        # Fewer than K of the other M − 1 lie above.
        return special.bdtr(winners - 1, number - 1, upper) if winners < number else np.ones_like(upper)

    return number / winners * among_best(above), number / winners * among_best(1 - above)


def _ranked(parts: Parts, nodes: quadrature.Nodes, slope: jax.Array) -> _Moments:
    down, up = _selected(parts, nodes)
    weights = nodes.weight, nodes.weight * nodes.z, nodes.weight * nodes.z**2, nodes.weight * nodes.transverse
    acceptance, _, second, transverse = (float(np.sum(weight * (down + up))) for weight in weights)
    first = -float(np.sum(weights[1] * (down - up)))
    # On a flat loss all are equal: argmin takes the first, whose mutation is any mutation.
    is_flat = slope == 0

    def where(value: float, flat: float) -> jax.Array:
        return jnp.where(is_flat, flat, value).astype(slope.dtype)

    return _Moments(where(acceptance, 1.0), where(first, 0.0), where(second, 1.0), where(transverse, 1.0))


def _softmax(number: int, b: jax.Array, nodes: quadrature.Nodes) -> _Moments:
    """Boltzmann selection of M offspring and the parent at one b = βσ|g|, for a normal component z.

    The winner is the largest of b v_i + G_i with v = −z and Gumbel G_i, the parent having v = 0. Over its level q, in
    units of z: M ∫ dq E_G[vᵏ f(v)] F(q)^{M−1} F_parent(q), with v = q − G/b. The convolution with the Gumbel density is done
    over v where that density is wide (b ≤ 1), over G where it is narrow.
    """
    dtype = b.dtype
    safe = jnp.clip(b, _PLAIN_BELOW, _SHARP_ABOVE)
    reach = np.exp(np.arange(-18.0, 4.2, _LEVEL_STEP))
    reach = np.concatenate([-reach[::-1], reach])
    q = jnp.maximum(1, 1 / safe) * jnp.asarray(reach, dtype)
    dq = jnp.abs(q) * _LEVEL_STEP

    def density(gap: jax.Array) -> jax.Array:
        return jnp.exp(-gap) * below(gap)

    def below(gap: jax.Array) -> jax.Array:
        return jnp.exp(-jnp.exp(-gap))

    def wide() -> list[jax.Array]:
        v = jnp.asarray(np.concatenate([-nodes.z[::-1], nodes.z]), dtype)
        weight = jnp.asarray(np.concatenate([nodes.weight[::-1], nodes.weight]), dtype)
        gap = jnp.maximum(safe * jnp.subtract.outer(q, v), -4)  # exp(−exp(4)) is 0
        kernel = safe * density(gap)
        return [kernel @ weight, kernel @ (-v * weight), kernel @ (v**2 * weight), below(gap) @ weight]

    def narrow() -> list[jax.Array]:
        gumbel = np.arange(-4.0, 40.0, 0.1)
        weight = jnp.asarray(0.1 * np.exp(-gumbel - np.exp(-gumbel)), dtype)
        v = jnp.subtract.outer(q, jnp.asarray(gumbel, dtype) / safe)
        kernel = jnp.exp(-jnp.square(v) / 2) / math.sqrt(2 * math.pi)
        is_below = jax.scipy.stats.norm.cdf(v)
        return [kernel @ weight, (kernel * -v) @ weight, (kernel * v**2) @ weight, is_below @ weight]

    zeroth, first, second, others = jax.lax.cond(safe <= 1, wide, narrow)
    selected = number * dq * others ** (number - 1) * below(jnp.maximum(safe * q, -4))
    acceptance, first, second = (jnp.sum(selected * moment) for moment in (zeroth, first, second))
    is_small = b < _PLAIN_BELOW
    share = number / (number + 1)
    acceptance = jnp.where(is_small, share, acceptance)
    return _Moments(
        acceptance, jnp.where(is_small, -(share**2) * b, first), jnp.where(is_small, share, second), acceptance
    )


def _moments(parts: Parts, slope: jax.Array, num_parameters: int | None) -> _Moments:
    name = parts.selection.name
    nodes = quadrature.nodes(parts.mutation, num_parameters, is_fine=name in ("elitist", "comma", "truncation"))
    if parts.selection.acceptance_fn is not None:
        return _one_offspring(parts, nodes, slope)
    beta = parts.selection.options.get("beta", math.inf)
    if name == "boltzmann" and not (isinstance(beta, float) and math.isinf(beta)):
        if parts.mutation.name not in quadrature.NORMAL_IN_MANY_DIMENSIONS or (
            parts.mutation.name in ("sphere", "ball") and num_parameters is not None
        ):
            raise ValueError(
                f"algorithm: got boltzmann selection with {parts.mutation.name} mutations, whose moments are known for "
                "a normal component only; use gaussian mutations or leave num_parameters out"
            )
        b = (beta * slope).astype(slope.dtype)
        found = jax.lax.map(lambda one: _softmax(parts.num_offspring, one, nodes), b.ravel())
        return _Moments(*(moment.reshape(b.shape) for moment in found))
    if name == "boltzmann":
        sharp = parts._replace(selection=parts.selection._replace(name="elitist"))
        return _moments(sharp, slope, num_parameters)
    if name in ("elitist", "comma", "truncation"):
        return _ranked(parts, nodes, slope)
    raise ValueError(f"algorithm: got {name} selection, whose law is not known; use a rule of the library")


def _prepare(algorithm: Algorithm, grad_norm: ArrayLike, sigma: Any) -> tuple[jax.Array, jax.Array]:
    dtype = jnp.result_type(float)
    norm = jnp.asarray(grad_norm, dtype)
    sigma = jnp.asarray(algorithm.parts.sigma if sigma is None else sigma, dtype)
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
    return sigma * _moments(algorithm.parts, sigma * norm, num_parameters).first


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
    moments = _moments(algorithm.parts, sigma * norm, num_parameters)
    return Diffusion(jnp.square(sigma) * moments.second, jnp.square(sigma) * moments.transverse)


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
    return _moments(algorithm.parts, sigma * norm, num_parameters).acceptance


def mean_loss_rate(
    algorithm: Algorithm,
    grad_norm: ArrayLike,
    hessian_trace: ArrayLike = 0.0,
    sigma: Any = None,
    num_parameters: int | None = None,
) -> jax.Array:
    """Mean change of the loss in a generation, to first order in the curvature: drift·|∇U| + ½ TrH · D.

    The curvature acts twice: it bends the step, ½Tr(H E[ΔxΔxᵀ]), and it shifts which mutations are accepted. Where many
    eigenvalues share TrH, every mutation pays the same ½σ²TrH, and the sum of both has D = E[(ĝ·Δx)²] for the rules that
    judge one gaussian offspring (an integration by parts: E[A + xA'(x)] = E[z²A]) and D = σ²P(accepted) for those that
    rank several. The two agree for greedy selection only; with D = E[(u·Δx)²] for all rules, as a Langevin equation with
    the drift of a linear loss has it, Metropolis at βσ|g| ≈ 1 would pay a fifth too much.

    Parameters
    ----------
    algorithm, grad_norm, sigma, num_parameters : as in `drift`.
    hessian_trace : TrH [loss/parameter²], broadcast against ``grad_norm``.

    Returns
    -------
    array [loss per generation]. The order σ² of it is positive: the mean loss lies above that of gradient descent.

    Raises
    ------
    ValueError : as in `drift`; with a ``hessian_trace`` for Boltzmann selection at finite β or a density whose component along
        the gradient is not normal, for which the second term was not derived.

    Domain: s = σTrH/|∇U| ≪ 1; for (1+M) at any s see `expected_gain`.

    Source: leading order [W21] eq. 9; second order derived for this project, tested in tests/theory/test_moments.py.

    >>> import mutagrad
    >>> algorithm = mutagrad.elitist(sigma=0.001, num_offspring=20)
    >>> rate = mutagrad.theory.mean_loss_rate(algorithm, grad_norm=1.0, hessian_trace=100.0)
    >>> exact = -mutagrad.theory.expected_gain(0.1, 20) / 100                       # s = 0.1, in units of |∇U|²/TrH
    >>> bool(abs(rate / exact - 1) < 1e-3)
    True
    """
    norm, sigma = _prepare(algorithm, grad_norm, sigma)
    parts = algorithm.parts
    moments = _moments(parts, sigma * norm, num_parameters)
    first = sigma * moments.first * norm
    if isinstance(hessian_trace, int | float) and hessian_trace == 0:
        return first
    is_normal = parts.mutation.name in quadrature.NORMAL_IN_MANY_DIMENSIONS and num_parameters is None
    if not is_normal or (parts.selection.name == "boltzmann" and not math.isinf(parts.selection.options["beta"])):
        raise ValueError(
            f"hessian_trace: got one with {parts.selection.name} selection and {parts.mutation.name} mutations, for "
            "which the second-order term is not known; leave it out for the leading order"
        )
    kept = moments.second if parts.selection.acceptance_fn is not None else moments.acceptance
    return first + jnp.square(sigma) * kept * jnp.asarray(hessian_trace, first.dtype) / 2


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
        scales, base = _shape(algorithm.parts.mutation, params)
        number = tree.size(params) if base.name in ("sphere", "ball") else None
        return cls(scales, algorithm._replace(parts=algorithm.parts._replace(mutation=base)), number)

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


def _shape(mutation: Any, params: Params) -> tuple[Params, Any]:
    """Standard deviation of every parameter in units of σ, and the radial density under it."""
    if mutation.name.startswith("scaled"):
        scale, base = mutation.options["scale"], mutation.options["mutation"]
    elif mutation.name.startswith("masked"):
        # A radial density sees the mutated leaves only, so its number of dimensions is not that of the tree.
        base = mutation.options["mutation"]
        if base.name in ("sphere", "ball"):
            raise ValueError(
                f"algorithm: got masked {base.name} mutations; use gaussian ones, the limit of many parameters"
            )
        scale = jax.tree.map(float, mutation.options["mask"])
    else:
        return jax.tree.map(lambda _: 1.0, params), mutation
    inner, radial = _shape(base, params)
    outer = jax.tree.broadcast(scale, params)
    return jax.tree.map(lambda a, b: jnp.asarray(a) * b, outer, inner), radial
