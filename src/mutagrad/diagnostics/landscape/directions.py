"""Random directions through params, as long as the params themselves: filter by filter, leaf by leaf, or of length 1."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mutagrad import check, tree
from mutagrad.noise import draw_with_keys
from mutagrad.types import Params

__all__ = ["NORMALIZE", "VECTORS", "check_directions", "direction"]

NORMALIZE = ("filter", "leaf", "none")
VECTORS = ("zero", "leaf", "entry")


def check_directions(params: Params, normalize: str, vectors: str, filter_axis: int) -> int:
    """How many parameters a direction moves; a ValueError if none, or for arguments that are none."""
    check.choice("normalize", normalize, NORMALIZE)
    check.choice("vectors", vectors, VECTORS)
    if isinstance(filter_axis, bool) or not isinstance(filter_axis, int):
        raise ValueError(
            f"filter_axis: got {filter_axis!r}; pass a whole number, 0 for (out, in, …) and -1 for (…, in, out)"
        )
    if normalize == "none":
        return tree.size(params)
    moved = [
        leaf
        for leaf in tree.floating_only(params)
        if not (normalize == "filter" and vectors == "zero" and is_vector(leaf, filter_axis))
    ]
    if not moved:
        raise ValueError(
            "normalize: got 'filter' for params that are all vectors, which have no filters; pass normalize='leaf', or "
            "vectors='leaf' or 'entry'"
        )
    if all(not np.any(np.asarray(leaf, np.float64)) for leaf in moved):
        raise ValueError(
            f"normalize: got {normalize!r} for params that are 0, so that directions have no length; pass normalize='none'"
        )
    return tree.num_entries(moved)


def is_vector(leaf: Any, filter_axis: int) -> bool:
    """Whether what belongs to one output is a single number, as of biases: those of (out, 1, 1) for convolutions too."""
    shape = jnp.shape(leaf)
    if len(shape) < 2:
        return True
    if not -len(shape) <= filter_axis < len(shape):
        raise ValueError(f"filter_axis: got {filter_axis} for a leaf of shape {shape}; pass an axis that it has")
    return math.prod(shape) == shape[filter_axis]


def direction(key: jax.Array, params: Params, normalize: str, vectors: str, filter_axis: int) -> Params:
    """A gaussian direction, normalised; ``None`` for leaves that it does not move, as a mutation has it."""
    noise = draw_with_keys(jax.random.normal, key, params)
    if normalize == "none":
        return tree.scale(noise, jax.lax.rsqrt(tree.squared_norm(noise)))

    def scaled(leaf: Any, own: Any) -> Any:
        if not tree.is_floating(leaf):
            return None
        kind: str = normalize
        if normalize == "filter" and is_vector(leaf, filter_axis):
            kind = vectors
        if kind == "zero":
            return None
        axes: tuple[int, ...] = tuple(range(leaf.ndim))
        if kind == "filter":
            axes = tuple(axis for axis in axes if axis != filter_axis % leaf.ndim)
        elif kind == "entry":
            axes = ()
        here, there = (_norm(one.astype(tree.compute_dtype(leaf)), axes) for one in (leaf, own))
        return own * jnp.where(there > 0, here / jnp.where(there > 0, there, 1), 0)

    return jax.tree.map(scaled, params, noise)


def _norm(values: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    return jnp.sqrt(jnp.sum(jnp.square(values), axis=axes, keepdims=True))
