"""What selection keeps of a mutation's component along the gradient, for every rule and density (theory.md 1, 2).

All rules of the library that judge one offspring satisfy detailed balance, A(−x) e^{−κx} = A(x). So the difference of two
acceptances that makes the drift is A(−x)(e^{−κx} − 1), exact however small x is, and one quadrature serves all of them.

Of many offspring one has v = −z, how far it goes down, and all moments follow from P(it becomes a parent | v). Rules that see
ranks have that from P(Z > z) alone. Boltzmann selection picks the largest of b v_i + G_i with b = βσ|g| and Gumbel G_i, the
parent having v = 0: offspring i wins at level q = v_i + G_i/b where the others stay below,

    L(q) = F(q)^{M−1} e^{−e^{−bq}},  F(q) = E[e^{−e^{−b(q − v)}}].
"""

import math
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special, stats

from mutagrad import check
from mutagrad.selection import product
from mutagrad.theory import quadrature
from mutagrad.theory.recombination import RecombinationMoments, recombined, recombined_signs
from mutagrad.types import Definition

_LARGEST_NODE = 1e30
_SHARPEST = 1e8
"""βσ|g| above which Boltzmann selection is taken to be elitist, with a relative error near the inverse."""
_GUMBEL = (-4.0, 40.0)
"""Outside, the Gumbel density is below 10⁻¹⁷."""
_FAR = 1e6
"""z beyond which the tail of a heavy density is alone: no other offspring is there too."""
_RANKED = ("elitist", "comma", "truncation")
_RANKS_ONLY = ("greedy", *_RANKED, "weighted")


class Moments(NamedTuple):
    """E[A], E[zA], E[z²A] and E[u²A], u a component across the gradient: what is selected, in units of σ.

    ``curvature`` is D of the mean loss, ½σ²TrH·D to first order in TrH: what the selected step pays, and how the mutations'
    own share of it shifts the selection.
    """

    acceptance: jax.Array
    first: jax.Array
    second: jax.Array
    transverse: jax.Array
    curvature: jax.Array


def inverse_temperature(parts: Definition) -> Any:
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


def sees_ranks_only(parts: Definition) -> bool:
    """Whether a rule is at infinite inverse temperature."""
    kappa = inverse_temperature(parts)
    return kappa is not None and check.concrete(kappa) == math.inf


def _one_offspring(parts: Definition, nodes: quadrature.Nodes, slope: jax.Array) -> Moments:
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
    return _one_given(better + worse, lost, nodes)


def _one_given(kept: jax.Array, lost: jax.Array, nodes: quadrature.Nodes, interaction: Any = 0.0) -> Moments:
    """Moments from P(a parent | z) + P(a parent | −z), and from what the first is short of the second."""
    powers = jnp.asarray(nodes.powers, kept.dtype)
    shape = kept.shape[:-1] + nodes.z.shape
    even = jnp.broadcast_to(kept, shape) @ powers
    first = jnp.broadcast_to(lost, shape) @ powers[:, 1]
    return Moments(even[..., 0], first, even[..., 2], even[..., 3], even[..., 2] + interaction)


def _selected(parts: Definition, nodes: quadrature.Nodes) -> tuple[np.ndarray, np.ndarray]:
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


def _ranked(parts: Definition, nodes: quadrature.Nodes, slope: jax.Array) -> Moments:
    down, up = _selected(parts, nodes)
    even, odd = (down + up) @ nodes.powers, (down - up) @ nodes.powers
    # The selected loss is an extremum over which of them is selected, so that the shift of the selection costs nothing.
    return _unless_flat(slope, (even[0], -odd[1], even[2], even[3], even[3]))


def _unless_flat(slope: jax.Array, values: tuple[Any, ...]) -> Moments:
    """On a flat loss all are equal: argmin takes the first, whose mutation is any mutation."""
    flat = (1.0, 0.0, 1.0, 1.0, 1.0)
    return Moments(
        *(jnp.where(slope == 0, limit, value).astype(slope.dtype) for value, limit in zip(values, flat, strict=True))
    )


def _ranked_signs(parts: Definition, slope: jax.Array) -> Moments:
    """Mutations that are all σ or −σ: a sum over the number k of offspring that go down."""
    number, winners = parts.num_offspring, parts.selection.num_winners
    k = np.arange(number + 1)
    chance = stats.binom.pmf(k, number, 0.5)
    down = np.minimum(k, winners) / winners
    up = 0 * down if parts.selection.name == "elitist" else 1 - down
    kept, step = chance @ (down + up), chance * (down - up)
    return _unless_flat(slope, (kept, -np.sum(step), kept, 0.0, step @ (2 * k - number)))


def _softmax_of_signs(number: int, b: jax.Array) -> Moments:
    """Boltzmann selection of offspring at σ or −σ, as in `_ranked_signs`."""
    b = jnp.minimum(b, 40)
    k = jnp.asarray(np.arange(number + 1), b.dtype)
    rest, chance = number - k, jnp.asarray(stats.binom.pmf(np.arange(number + 1), number, 0.5), b.dtype)
    once, twice = jnp.exp(-b), jnp.exp(-2 * b)
    # Σ e^{bv} over all candidates, times e^{−b}, where k go down and where k go up.
    low, high = k + rest * twice + once, rest + k * twice + once
    kept = jnp.sum(chance * (k + rest * twice) / low)
    lost = jnp.sum(chance * k / (low * high) * (rest * jnp.expm1(-4 * b) + once * jnp.expm1(-2 * b)))
    curvature = jnp.sum(chance * (k - rest) * (k - rest * twice) / low)
    return Moments(kept, lost, kept, jnp.zeros_like(kept), curvature)


def _below(gap: jax.Array) -> jax.Array:
    return jnp.exp(-jnp.exp(-gap))


def _wide(number: int, b: jax.Array, nodes: quadrature.Nodes) -> Moments:
    """Boltzmann selection at b ≤ 1, where the Gumbel density is wide: P(wins | v) = ∫ (1 − e^{−e^{−b(q − v)}}) dL(q)."""
    # bq = 2 sinh y: even at the scale of the Gumbel density, and far enough for the heaviest tails.
    y = np.arange(np.arcsinh(_GUMBEL[0] / 2), 21, 1 / 32)
    x, dx = (jnp.asarray(each, b.dtype) for each in (2 * np.sinh(y), np.cosh(y) / 16))
    weight, odd_weight = (jnp.asarray(nodes.powers[:, k], b.dtype) for k in range(2))
    shift = b * jnp.asarray(np.minimum(nodes.z, _LARGEST_NODE), b.dtype)
    near, far = (jnp.exp(-jnp.maximum(jnp.add.outer(x, by), _GUMBEL[0])) for by in (-shift, shift))
    above, beneath = jnp.exp(-near), jnp.exp(-far)
    # Between the two, by what e^{−far} is short of e^{−near}.
    between = -beneath * jnp.expm1(near * jnp.expm1(-2 * shift)[None])
    others, parent = (above + beneath) @ weight, _below(x)
    slope = (near * above + far * beneath) @ weight
    rise = jnp.exp(-x) * parent * others ** (number - 1)
    pairs = (number - 1) * parent * others ** max(number - 2, 0)
    level = number * dx * (rise + pairs * slope)
    mean, mean_slope = -between @ odd_weight, (near * above - far * beneath) @ odd_weight
    interaction = number * jnp.sum(dx * pairs * mean * mean_slope)
    kept = level @ -(jnp.expm1(-near) + jnp.expm1(-far))
    return _one_given(kept, -level @ between, nodes, interaction)


@lru_cache
def _levels(radius: float) -> tuple[np.ndarray, ...]:
    """Levels q on (0, R), (R, ∞) and (−∞, 0): bq = share·bR + offset, 1 − share, and dbq = inside·bR + outside.

    By log-odds and logarithms, which resolve all scales from 1/b on next to 0 and to R.
    """
    step = 1 / 12
    odds = np.arange(-26 - np.log(radius), 36, step)
    gap = np.exp(np.arange(-26, np.log(_GUMBEL[1]), step))
    share, rest = special.expit(odds), special.expit(-odds)
    under = gap[gap < -1.1 * _GUMBEL[0]]
    rows = [
        (share, rest, 0 * share, share * rest, 0 * share),
        (0 * gap + 1, 0 * gap, gap, 0 * gap, gap),
        (0 * under, 0 * under + 1, -under, 0 * under, under),
    ]
    share, rest, offset, inside, outside = (np.concatenate(column) for column in zip(*rows, strict=True))
    return share, rest, offset, step * inside, step * outside


_ANGLES, _ANGLE_WEIGHTS = (np.pi / 4 * each for each in np.polynomial.legendre.leggauss(80))
_ANGLES = _ANGLES + np.pi / 4


def _distribution(density: quadrature.Density, v: jax.Array, rest: jax.Array) -> jax.Array:
    """P(V < v), from v and 1 − (v/R)²: ½ and the integral from 0, whose ends log-odds resolve."""
    odds = np.arange(-26 - np.log(density.radius), 52, 1 / 5)
    share, short = special.expit(odds), special.expit(-odds)
    share, short, weight = (jnp.asarray(each, v.dtype) for each in (share, short * (1 + share), share * short / 5))
    log_density = density.log_density_fn(
        jnp.multiply.outer(v, share), short[None] + jnp.multiply.outer(rest, jnp.square(share))
    )
    return 0.5 + v * (jnp.exp(log_density) @ weight)


def _narrow(number: int, b: jax.Array, nodes: quadrature.Nodes, density: quadrature.Density) -> Moments:
    """Boltzmann selection at b ≥ 1, where the density f is wide: M ∫ dq E_G[vᵏ f(v)] L(q)/F(q) with v = q − G/b."""
    share, complement, offset, inside, outside = (jnp.asarray(each, b.dtype) for each in _levels(density.radius))
    radius = b * density.radius
    x, dx = share * radius + offset, inside * radius + outside
    # b(q − R) < G < b(q + R), in two parts that meet at v = 0, near which f may be sharp; by angles, so that f may be
    # infinite at an end. Distances to both ends are exact.
    start, end = offset - complement * radius, offset + (1 + share) * radius
    low, high = (jnp.clip(each, *_GUMBEL) for each in (start, end))
    middle = jnp.clip(x, low, high)

    def spread(from_left: np.ndarray, left: jax.Array, right: jax.Array) -> jax.Array:
        shares = jnp.asarray(from_left, b.dtype)
        parts = ((left, middle - low), (right, high - middle))
        return jnp.concatenate([each[:, None] + jnp.multiply.outer(width, shares) for each, width in parts], axis=1)

    gumbel = spread(np.sin(_ANGLES) ** 2, low, middle)
    from_start = spread(np.sin(_ANGLES) ** 2, low - start, middle - start)
    to_end = spread(np.cos(_ANGLES) ** 2, end - middle, end - high)
    weight = spread(np.sin(2 * _ANGLES) * _ANGLE_WEIGHTS, 0 * low, 0 * low)
    v, rest = (x[:, None] - gumbel) / b, from_start / radius * (to_end / radius)
    mass = jnp.exp(density.log_density_fn(v, rest)) * weight
    kernel = mass * jnp.exp(-gumbel) * _below(gumbel)
    across = jnp.sum(kernel * density.transverse_fn(v, rest), axis=1)
    zeroth, first, second = (jnp.sum(kernel * v**k, axis=1) for k in range(3))
    lowest = jnp.clip((x - high) / b, -density.radius, density.radius)
    # By cases and not by a maximum: at an end with infinite density the slope of what is constant there must be 0.
    above, under = (jnp.where(each > 0, each / radius, 0) for each in (high - start, end - high))
    lowest_rest = above * under
    others = _distribution(density, lowest, lowest_rest) + jnp.sum(mass * _below(gumbel), axis=1) / b
    parent = _below(jnp.maximum(x, 1.2 * _GUMBEL[0]))
    pairs = number * (number - 1) / b * dx * parent * others ** max(number - 2, 0)
    # E[v; below q] = −E_G[E[u² | v] f(v)], as for every radial density.
    interaction = -jnp.sum(pairs * first * across)
    near = number / b * dx * others ** (number - 1) * parent / (1 + (x / b / _FAR) ** 4)
    far = number * special.expit(4 * np.log(nodes.z / _FAR)) @ nodes.powers
    zeroth, first, second, across = (
        jnp.sum(near * moment) + jnp.asarray(tail, b.dtype)
        for moment, tail in zip((zeroth, first, second, across), far, strict=True)
    )
    return Moments(zeroth, -first, second, across, second + interaction)


@partial(jax.jit, static_argnums=(0, 1))
def _softmax(number: int, key: tuple[str, Any], b: jax.Array) -> Moments:
    nodes = quadrature.nodes(*key)

    def of_signs(b: jax.Array) -> Moments:
        return _softmax_of_signs(number, b)

    def of_levels(b: jax.Array) -> Moments:
        return jax.lax.cond(
            b <= 1,
            lambda b: _wide(number, jnp.minimum(b, 2), nodes),
            lambda b: _narrow(number, jnp.clip(b, 0.5, _SHARPEST), nodes, quadrature.density(*key)),
            b,
        )

    found = jax.lax.map(of_signs if nodes.is_sign else of_levels, b.ravel())
    return Moments(*(moment.reshape(b.shape) for moment in found))


def _recombined(parts: Definition, found: RecombinationMoments, slope: jax.Array) -> Moments:
    # On a flat loss all offspring are equal and share the mean weight.
    weights = np.asarray(parts.selection.options["weights"])
    flat = float(np.sum(weights) ** 2 / len(weights))
    # Ranks shift as in `_ranked`; what they recombine to pays for its own length.
    pairs = ((-found.first, 0.0), (found.second, flat), (found.transverse, flat), (found.transverse, flat))
    ones = jnp.ones_like(slope)
    return Moments(ones, *(jnp.where(slope == 0, limit, value).astype(slope.dtype) for value, limit in pairs))


def moments(parts: Definition, slope: jax.Array, num_parameters: int | None) -> Moments:
    """The moments of one generation at slopes σ|g|, each of the shape of ``slope``.

    Raises
    ------
    ValueError : for rules and densities whose law is not known.
    """
    name = parts.selection.name
    if name == "boltzmann" and sees_ranks_only(parts):
        return moments(parts._replace(selection=parts.selection._replace(name="elitist")), slope, num_parameters)
    key = quadrature.key(parts.mutation, num_parameters)
    nodes = quadrature.nodes(*key, is_fine=name in _RANKED)
    if parts.selection.acceptance_fn is not None:
        return _one_offspring(parts, nodes, slope)
    if name not in (*_RANKED, "weighted", "boltzmann"):
        raise ValueError(f"algorithm: got {name} selection, whose law is not known; use a rule of the library")
    if name == "weighted":
        weights = parts.selection.options["weights"]
        if nodes.is_sign:
            return _recombined(parts, recombined_signs(weights), slope)
        return _recombined(parts, recombined(weights, quadrature.density(*key)), slope)
    if name == "boltzmann":
        b = inverse_temperature(parts) * slope
        return _softmax(parts.num_offspring, key, b.astype(slope.dtype))
    return _ranked_signs(parts, slope) if nodes.is_sign else _ranked(parts, nodes, slope)
