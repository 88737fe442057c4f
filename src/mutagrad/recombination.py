"""Recombination: a next parent made of several offspring."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mutagrad import tree
from mutagrad.types import Params


def recombine(
    params: Params, noise_fn: Callable[[jax.Array], Params], weights: jax.Array, sigma: jax.Array, mode: str | int
) -> Params:
    """``params + σ Σ w_k z_k``, the mutations made again, one at a time unless offspring are vectorised.

    Parameters
    ----------
    params : the parent.
    noise_fn : ``noise_fn(index) -> z``, the mutation of an offspring.
    weights : (M,) weights of the offspring.
    sigma : mutation strength [parameter].
    mode : how the offspring were evaluated, "vectorized", "mapped" or the size of a chunk.

    Returns
    -------
    pytree like ``params``; summed in `tree.compute_dtype` and rounded once.
    """

    def body(totals, one):
        index, weight = one

        def add(total, noise):
            if noise is None:
                return total
            return total + weight.astype(total.dtype) * jnp.asarray(noise).astype(total.dtype)

        return tree.map_floating(add, totals, noise_fn(index)), None

    zeros = tree.map_floating(lambda leaf: jnp.zeros(leaf.shape, tree.compute_dtype(leaf)), params)
    indices = jnp.arange(weights.size)
    totals = jax.lax.scan(body, zeros, (indices, weights), unroll=weights.size if mode == "vectorized" else 1)[0]
    return tree.add_scaled(params, totals, sigma)
