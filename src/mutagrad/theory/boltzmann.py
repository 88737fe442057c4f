"""Boltzmann selection among many offspring, by the Gumbel noise that a softmax is.

It picks the largest of b v_i + G_i, with b = βσ|g|, v = −z how far an offspring goes down (0 for the parent), and independent
Gumbel G_i. Offspring i wins at level q = v_i + G_i/b where all others stay below,

    L(q) = F(q)^{M−1} e^{−e^{−bq}},  F(q) = E[e^{−e^{−b(q − v)}}].
"""

from collections.abc import Callable
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import scipy

from mutagrad.theory import quadrature
from mutagrad.theory.density import Density, density_of
from mutagrad.theory.progress import gauss
from mutagrad.theory.quadrature import Moments
from mutagrad.theory.recombination import binomial

_SHARPEST = 1e8
"""βσ|g| above which Boltzmann selection is taken to be elitist, with a relative error near the inverse."""
_GUMBEL = (-4.0, 40.0)
"""Outside, the Gumbel density is below 10⁻¹⁷."""
_FAR = 1e6
"""z beyond which the tail of a heavy density is alone: no other offspring is there too."""


def _softmax_of_signs(number: int, b: jax.Array) -> Moments:
    """Boltzmann selection of offspring at σ or −σ: a sum over the number k of those that go down."""
    b = jnp.minimum(b, 40)
    k = jnp.asarray(np.arange(number + 1), b.dtype)
    rest, chance = number - k, jnp.asarray(binomial(np.arange(number + 1), number, 0.5, 0.5), b.dtype)
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
    shift = b * nodes.positions(b.dtype)
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
    return nodes.moments(kept, -level @ between, interaction)


@lru_cache
def _levels(radius: float) -> tuple[np.ndarray, ...]:
    """Levels q on (0, R), (R, ∞) and (−∞, 0): bq = share·bR + offset, 1 − share, and dbq = inside·bR + outside.

    By log-odds and logarithms, which resolve all scales from 1/b on next to 0 and to R.
    """
    step = 1 / 12
    odds = np.arange(-26 - np.log(radius), 36, step)
    gap = np.exp(np.arange(-26, np.log(_GUMBEL[1]), step))
    share, rest = scipy.special.expit(odds), scipy.special.expit(-odds)
    under = gap[gap < -1.1 * _GUMBEL[0]]
    rows = [
        (share, rest, 0 * share, share * rest, 0 * share),
        (0 * gap + 1, 0 * gap, gap, 0 * gap, gap),
        (0 * under, 0 * under + 1, -under, 0 * under, under),
    ]
    share, rest, offset, inside, outside = (np.concatenate(column) for column in zip(*rows, strict=True))
    return share, rest, offset, step * inside, step * outside


def _distribution(density: Density, v: jax.Array, rest: jax.Array) -> jax.Array:
    """P(V < v), from v and 1 − (v/R)²: ½ and the integral from 0, whose ends log-odds resolve."""
    odds = np.arange(-26 - np.log(density.radius), 52, 1 / 5)
    share, short = scipy.special.expit(odds), scipy.special.expit(-odds)
    share, short, weight = (jnp.asarray(each, v.dtype) for each in (share, short * (1 + share), share * short / 5))
    log_density = density.log_density_fn(
        jnp.multiply.outer(v, share), short[None] + jnp.multiply.outer(rest, jnp.square(share))
    )
    return 0.5 + v * (jnp.exp(log_density) @ weight)


def _narrow(number: int, b: jax.Array, nodes: quadrature.Nodes, density: Density) -> Moments:
    """Boltzmann selection at b ≥ 1, where the density f is wide: M ∫ dq E_G[vᵏ f(v)] L(q)/F(q) with v = q − G/b."""
    share, complement, offset, inside, outside = (jnp.asarray(each, b.dtype) for each in _levels(density.radius))
    radius = b * density.radius
    x, dx = share * radius + offset, inside * radius + outside
    # b(q − R) < G < b(q + R), in two parts that meet at v = 0, near which f may be sharp; by angles, so that f may be
    # infinite at an end. Distances to both ends are exact.
    start, end = offset - complement * radius, offset + (1 + share) * radius
    low, high = (jnp.clip(each, *_GUMBEL) for each in (start, end))
    middle = jnp.clip(x, low, high)
    angles, angle_weights = (np.pi / 4 * each for each in gauss(80))
    angles = angles + np.pi / 4

    def spread(from_left: np.ndarray, left: jax.Array, right: jax.Array) -> jax.Array:
        shares = jnp.asarray(from_left, b.dtype)
        parts = ((left, middle - low), (right, high - middle))
        return jnp.concatenate([each[:, None] + jnp.multiply.outer(width, shares) for each, width in parts], axis=1)

    gumbel = spread(np.sin(angles) ** 2, low, middle)
    from_start = spread(np.sin(angles) ** 2, low - start, middle - start)
    to_end = spread(np.cos(angles) ** 2, end - middle, end - high)
    weight = spread(np.sin(2 * angles) * angle_weights, 0 * low, 0 * low)
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
    far = number * scipy.special.expit(4 * np.log(nodes.z / _FAR)) @ nodes.powers
    zeroth, first, second, across = (
        jnp.sum(near * moment) + jnp.asarray(tail, b.dtype)
        for moment, tail in zip((zeroth, first, second, across), far, strict=True)
    )
    return Moments(zeroth, -first, second, across, second + interaction)


@lru_cache(maxsize=64)
def _compiled(number: int, law: quadrature.Marginal) -> Callable[[jax.Array], Moments]:
    """`softmax` of a vector of b. What was compiled for a law goes when the law does."""
    nodes = quadrature.nodes(law)

    def of_signs(b: jax.Array) -> Moments:
        return _softmax_of_signs(number, b)

    def of_levels(b: jax.Array) -> Moments:
        return jax.lax.cond(
            b <= 1,
            lambda b: _wide(number, jnp.minimum(b, 2), nodes),
            lambda b: _narrow(number, jnp.clip(b, 0.5, _SHARPEST), nodes, density_of(law)),
            b,
        )

    return jax.jit(lambda b: jax.lax.map(of_signs if nodes.is_sign else of_levels, b))


def softmax(number: int, law: quadrature.Marginal, b: jax.Array) -> Moments:
    """Moments of Boltzmann selection among ``number`` offspring and their parent, at b = βσ|g| of any shape."""
    return Moments(*(moment.reshape(b.shape) for moment in _compiled(number, law)(b.ravel())))
