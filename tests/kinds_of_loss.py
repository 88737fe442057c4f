"""A smooth loss and a noisy one, for tests of what a diagnosis calls them."""

import jax
import jax.numpy as jnp


def hashed(x):
    """A normal number without relation to that of another point: noise for a program that repeats itself."""
    bits = jax.lax.bitcast_convert_type(jnp.sum(x * jnp.arange(1.0, x.size + 1)), jnp.int32)
    return jax.random.normal(jax.random.fold_in(jax.random.key(0), bits))


def quadratic(x):
    """Curvatures from ½ to 3/2."""
    return jnp.sum(jnp.linspace(0.5, 1.5, x.size) * x**2) / 2
