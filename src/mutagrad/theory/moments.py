"""What selection keeps of a mutation's component along the gradient, for every rule and density (theory.md 1, 2).

All rules of the library that judge one offspring satisfy detailed balance, A(−x) e^{−κx} = A(x). So the difference of two
acceptances that makes the drift is A(−x)(e^{−κx} − 1), exact however small x is, and one quadrature serves all of them.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from mutagrad import check
from mutagrad.selection import product
from mutagrad.theory import quadrature
from mutagrad.theory.recombination import recombination_moments
from mutagrad.types import Parts

_LARGEST_NODE = 1e30
_PLAIN_BELOW, _SHARP_ABOVE = 1e-3, 1e6
"""βσ|g| outside which Boltzmann selection has the moments of its limits, with a relative error near βσ|g| or its inverse."""
_LEVEL_STEP = 1 / 24
_RANKED = ("elitist", "comma", "truncation")
_RANKS_ONLY = ("greedy", *_RANKED, "weighted")


class Moments(NamedTuple):
    """E[A], E[zA], E[z²A] and E[u²A], u a component across the gradient: what is selected, in units of σ."""

    acceptance: jax.Array
    first: jax.Array
    second: jax.Array
    transverse: jax.Array


def inverse_temperature(parts: Parts) -> Any:
    """What multiplies loss differences in a rule: κ of its detailed balance, or β; ∞ for rules that see ranks only.

    ``None`` for a rule of the user's own.
    """
    name, options = parts.selection.name, parts.selection.options
    if name in _RANKS_ONLY:
        return math.inf
    if name in ("metropolis", "logistic", "boltzmann"):
        return options["beta"]
    if name == "fixation":
        return options["beta"] * (options["population_size"] - 1) * (1 if options["model"] == "moran" else 2)
    return None


def sees_ranks_only(parts: Parts) -> bool:
    """Whether a rule is at infinite inverse temperature."""
    kappa = inverse_temperature(parts)
    return kappa is not None and check.concrete(kappa) == math.inf


def _one_offspring(parts: Parts, nodes: quadrature.Nodes, slope: jax.Array) -> Moments:
    acceptance_fn = parts.selection.acceptance_fn
    assert acceptance_fn is not None
    x = jnp.multiply.outer(slope, jnp.asarray(np.minimum(nodes.z, _LARGEST_NODE), slope.dtype))
    better, kappa = acceptance_fn(-x), inverse_temperature(parts)
    if kappa is None:
        worse = acceptance_fn(x)
        lost = worse - better
    else:
        exponent = product(kappa, x)
        worse, lost = better * jnp.exp(-exponent), better * jnp.expm1(-exponent)
    powers = jnp.asarray(nodes.powers, slope.dtype)
    kept = jnp.broadcast_to(better + worse, x.shape) @ powers
    return Moments(kept[..., 0], jnp.broadcast_to(lost, x.shape) @ powers[:, 1], kept[..., 2], kept[..., 3])


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


def _ranked(parts: Parts, nodes: quadrature.Nodes, slope: jax.Array) -> Moments:
    down, up = _selected(parts, nodes)
    even, odd = (down + up) @ nodes.powers, (down - up) @ nodes.powers
    # On a flat loss all are equal: argmin takes the first, whose mutation is any mutation.
    pairs = ((even[0], 1.0), (-odd[1], 0.0), (even[2], 1.0), (even[3], 1.0))
    return Moments(*(jnp.where(slope == 0, flat, value).astype(slope.dtype) for value, flat in pairs))


def _softmax(number: int, b: jax.Array, nodes: quadrature.Nodes) -> Moments:
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
    return Moments(
        acceptance, jnp.where(is_small, -(share**2) * b, first), jnp.where(is_small, share, second), acceptance
    )


def _recombined(parts: Parts, slope: jax.Array, is_normal: bool) -> Moments:
    if not is_normal:
        raise ValueError(
            f"algorithm: got weighted recombination with {parts.mutation.name} mutations, whose moments are known for a "
            "normal component only; use gaussian mutations or leave num_parameters out"
        )
    found = recombination_moments(parts.selection.options["weights"])
    # On a flat loss all offspring are equal and share the mean weight.
    weights = np.asarray(parts.selection.options["weights"])
    flat = float(np.sum(weights) ** 2 / len(weights))
    pairs = ((-found.first, 0.0), (found.second, flat), (found.transverse, flat))
    ones = jnp.ones_like(slope)
    return Moments(ones, *(jnp.where(slope == 0, limit, value).astype(slope.dtype) for value, limit in pairs))


def moments(parts: Parts, slope: jax.Array, num_parameters: int | None) -> Moments:
    """The moments of one generation at slopes σ|g|, each of the shape of ``slope``.

    Raises
    ------
    ValueError : for rules and densities whose law is not known.
    """
    name = parts.selection.name
    if name == "boltzmann" and sees_ranks_only(parts):
        return moments(parts._replace(selection=parts.selection._replace(name="elitist")), slope, num_parameters)
    nodes = quadrature.nodes(parts.mutation, num_parameters, is_fine=name in _RANKED)
    if parts.selection.acceptance_fn is not None:
        return _one_offspring(parts, nodes, slope)
    if name in _RANKED:
        return _ranked(parts, nodes, slope)
    if name == "weighted":
        return _recombined(parts, slope, quadrature.is_normal(parts.mutation, num_parameters))
    if name != "boltzmann":
        raise ValueError(f"algorithm: got {name} selection, whose law is not known; use a rule of the library")
    if not quadrature.is_normal(parts.mutation, num_parameters):
        raise ValueError(
            f"algorithm: got boltzmann selection with {parts.mutation.name} mutations, whose moments are known for a "
            "normal component only; use gaussian mutations or leave num_parameters out"
        )
    b = (inverse_temperature(parts) * slope).astype(slope.dtype)
    found = jax.lax.map(lambda one: _softmax(parts.num_offspring, one, nodes), b.ravel())
    return Moments(*(moment.reshape(b.shape) for moment in found))
