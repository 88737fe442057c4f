"""The nets of Whitelam et al. 2021: curves through one hidden layer of tanh, or through many, in a flat vector of weights.

All losses are vectors, one squared error per point, so that parent and offspring are compared point by point.
"""

import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp

__all__ = ["deep_losses", "deep_start", "shallow_losses", "shallow_start"]

UNITS, POINTS = 30, 1000
DEPTH, WIDTH = 8, 32


def shallow_losses(x: jax.Array, points: int = POINTS) -> jax.Array:
    """Squared errors of a net of one hidden layer, f(θ) = Σ x₁ tanh(x₂θ + x₃), that is to learn sin 2πθ on [0, 1).

    Parameters
    ----------
    x : (3n,) weights of n units, (amplitude, slope, offset) of one unit after another.
    points : K, their number; θ = j/K.

    Returns
    -------
    (K,) losses.

    Source: [W21], methods.

    >>> import jax.numpy as jnp
    >>> from mutagrad.lab.claims.tanh_nets import shallow_losses
    >>> round(float(shallow_losses(jnp.zeros(90)).mean()), 4)
    0.5
    """
    theta = jnp.arange(points, dtype=x.dtype) / points

    # Unit by unit: the running sum stays in the cache, where all units at once would not.
    def add(output, unit):
        amplitude, slope, offset = unit
        return output + amplitude * jnp.tanh(slope * theta + offset), None

    output, _ = jax.lax.scan(add, jnp.zeros_like(theta), x.reshape(-1, 3))
    return jnp.square(output - jnp.sin(2 * jnp.pi * theta))


def shallow_start(seed: int = 0, units: int = UNITS) -> jax.Array:
    """The start of every run on the shallow net: (3 · units,) weights drawn from N(0, 10⁻⁴), of standard deviation 0.01.

    Source: [W21], methods.

    >>> from mutagrad.lab.claims.tanh_nets import shallow_start
    >>> shallow_start().shape
    (90,)
    """
    return 0.01 * jax.random.normal(jax.random.key(seed), (3 * units,))


def deep_losses(x: jax.Array, points: int = POINTS) -> jax.Array:
    """Squared errors of a net of 8 hidden layers of 32 tanh that is to learn sin πθ on [−1, 1].

    Parameters
    ----------
    x : (7489,) weights: of each layer its matrix, then its offsets.
    points : K, their number, at equal distances with both ends.

    Returns
    -------
    (K,) losses.

    Source: [W21], the deep net.

    >>> from mutagrad.lab.claims.tanh_nets import deep_losses, deep_start
    >>> deep_start().shape, deep_losses(deep_start(), points=50).shape
    ((7489,), (50,))
    """
    theta = jnp.linspace(-1, 1, points, dtype=x.dtype)
    layers = list(_layers(x))
    hidden = theta[:, None]
    for matrix, offset in layers[:-1]:
        hidden = jnp.tanh(hidden @ matrix + jnp.broadcast_to(offset, (points, WIDTH)))
    matrix, offset = layers[-1]
    output = hidden @ matrix + jnp.broadcast_to(offset, (points, 1))
    return jnp.square(output[:, 0] - jnp.sin(jnp.pi * theta))


def deep_start(seed: int = 0) -> jax.Array:
    """A start for the deep net: weights drawn from N(0, 1/inputs of their layer), offsets 0.

    At N(0, 10⁻⁴), the start of the shallow net, eight layers pass nothing on and the gradient is zero to rounding.
    """
    drawn = jax.random.normal(jax.random.key(seed), (sum((fan_in + 1) * fan_out for fan_in, fan_out in _SHAPES),))
    scales = [
        jnp.concatenate([jnp.full(fan_in * fan_out, 1 / math.sqrt(fan_in)), jnp.zeros(fan_out)])
        for fan_in, fan_out in _SHAPES
    ]
    return drawn * jnp.concatenate(scales)


_SHAPES = [(1, WIDTH), *[(WIDTH, WIDTH)] * (DEPTH - 1), (WIDTH, 1)]


def _layers(x: jax.Array) -> Iterator[tuple[jax.Array, jax.Array]]:
    """Matrix and offsets of each layer."""
    first = 0
    for fan_in, fan_out in _SHAPES:
        middle, last = first + fan_in * fan_out, first + (fan_in + 1) * fan_out
        yield x[first:middle].reshape(fan_in, fan_out), x[middle:last]
        first = last
