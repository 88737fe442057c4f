"""Random numbers for every floating leaf of a pytree, each leaf from a stream of its own."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mutagrad import keys, tree

__all__ = ["draw", "draw_with_keys", "signs"]

_BLOCK = 2**18
"""Numbers drawn at a time: the generator's counters and bits take several times the memory of what it makes."""
_FEW = 16
"""Leaves up to which each is drawn by code of its own."""
_NARROWEST = 64
"""Numbers in a row, at least."""


def draw_with_keys(draw_fn: Callable, key: jax.Array, params: Any) -> Any:
    """Random numbers of the shape of each floating leaf, each with a key of its own as in `tree.map_with_keys`.

    Large leaves are drawn in blocks. Many leaves are drawn as rows of one width by one piece of code, so that a network of
    hundreds of leaves compiles in seconds. The numbers are the same either way: the i-th number of a leaf depends on the key
    of the leaf and on i alone (``jax_threefry_partitionable``, JAX's default).

    Parameters
    ----------
    draw_fn : ``draw_fn(key, shape, dtype)``, whose i-th number depends on the i-th random bits of the key alone.
    key, params : as `tree.map_with_keys` takes them.
    """
    leaves, structure = jax.tree.flatten(params)
    leaves = [np.asarray(leaf) if isinstance(leaf, bool | int | float) else leaf for leaf in leaves]
    drawn = [jnp.zeros(jnp.shape(leaf) if jnp.size(leaf) == 0 else ()) for leaf in leaves]
    key = keys.fast(key)
    for dtype, positions in _together(leaves, keys.is_fast(key)):
        if len(positions) == 1:
            position = positions[0]
            own = jax.random.fold_in(key, position)
            drawn[position] = draw(draw_fn, own, leaves[position].shape, dtype)
            continue
        rows = _rows(draw_fn, key, dtype, [(position, leaves[position].size) for position in positions])
        for position, row in zip(positions, rows, strict=True):
            drawn[position] = row.reshape(leaves[position].shape)
    return jax.tree.unflatten(structure, drawn)


def signs(key: jax.Array, params: Any) -> Any:
    """Random signs, −1 or 1, of the shape of each floating leaf, each leaf with a key of its own as in `draw_with_keys`.

    One random bit is one sign: sign i of a leaf is bit ``i % 32`` of word ``i // 32`` of its stream.
    """
    words = tree.map_floating(lambda leaf: np.broadcast_to(np.float32(0), -(-jnp.size(leaf) // 32)), params)

    def spread(leaf: Any, own: jax.Array) -> jax.Array:
        if not tree.is_floating(leaf):
            return own
        # Stored before they are used: a word that fuses would be drawn again for each of its 32 signs.
        drawn = jax.lax.optimization_barrier(own.astype(jnp.uint32))
        is_set = drawn[:, None] >> jnp.arange(32, dtype=jnp.uint32)[None] & 1 == 1
        one = jnp.ones((), tree.compute_dtype(leaf))
        return jnp.where(is_set, one, -one).ravel()[: jnp.size(leaf)].reshape(jnp.shape(leaf))

    return jax.tree.map(spread, params, draw_with_keys(_bits, key, words))


def _bits(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    return jax.random.bits(key, shape, jnp.uint32)


def draw(draw_fn: Callable, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """``draw_fn(key, shape, dtype)``, in blocks where that is large."""
    size = math.prod(shape)
    key = keys.fast(key)
    if size <= _BLOCK:
        return draw_fn(key, shape, dtype)
    block_keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(-(-size // _BLOCK)))

    def one(block_key: jax.Array) -> jax.Array:
        return draw_fn(block_key, (_BLOCK,), dtype)

    # Bits that fuse take no memory.
    noise = jax.vmap(one)(block_keys) if keys.is_fast(key) else jax.lax.map(one, block_keys)
    return noise.ravel()[:size].reshape(shape)


def _together(leaves: list, can_start_anywhere: bool) -> list[tuple[Any, list[int]]]:
    """Positions of leaves that are drawn together, and their dtype."""
    groups: dict[Any, list[int]] = {}
    for position, leaf in enumerate(leaves):
        if tree.is_floating(leaf) and leaf.size:
            groups.setdefault(tree.compute_dtype(leaf), []).append(position)
    # As many leaves at a time as take little memory beside all of them, and no more than an int32 finds its place in.
    most = min(max(16 * _BLOCK, sum(leaf.size for leaf in leaves) // 4), 2**30)
    together: list[tuple[Any, list[int]]] = []
    for dtype, positions in groups.items():
        is_row = can_start_anywhere and len(positions) > _FEW
        alone = [position for position in positions if not is_row or leaves[position].size >= keys.COUNTERS]
        together += [(dtype, [position]) for position in alone]
        total = most
        for position in (one for one in positions if one not in alone):
            total += leaves[position].size
            if total > most:
                together.append((dtype, []))
                total = leaves[position].size
            together[-1][1].append(position)
    return together


def _width(sizes: list[int]) -> int:
    """The largest power of two by which rows of these sizes are filled up with little that is not used."""
    width = _BLOCK
    while width > _NARROWEST and sum(-size % width for size in sizes) * 16 > sum(sizes):
        width //= 2
    return width


def _rows(draw_fn: Callable, key: jax.Array, dtype: Any, sized: list[tuple[int, int]]) -> list[jax.Array]:
    """The numbers of several leaves, given by position and size, each as one vector."""
    sizes = [size for _, size in sized]
    width = _width(sizes)
    starts = np.concatenate([np.arange(0, size, width) for size in sizes])
    counts = [-(-size // width) for size in sizes]
    position = np.repeat([position for position, _ in sized], counts)
    is_block = np.repeat([size > _BLOCK for size in sizes], counts)
    own = jax.vmap(jax.random.fold_in, (None, 0))(key, position.astype(np.uint32))
    if is_block.any():
        inner = jax.vmap(jax.random.fold_in)(own, (starts // _BLOCK).astype(np.uint32))
        own = jnp.where(is_block, inner, own)
    own = jax.vmap(keys.starting_at)(own, np.where(is_block, starts % _BLOCK, starts).astype(np.uint32))
    # A zero that the compiler does not know: leaves of one shape, each read from a place that its code does not name, share
    # their code.
    flat, zero = _drawn(draw_fn, width, dtype, own), _zero()
    offsets = np.cumsum([0, *counts[:-1]]) * width
    places = [jax.lax.dynamic_slice(jnp.asarray([offset, 0], jnp.int32), (zero,), (1,))[0] for offset in offsets]
    return [jax.lax.dynamic_slice(flat, (place,), (size,)) for place, size in zip(places, sizes, strict=True)]


@partial(keys.alone, static_argnums=(0, 1, 2))
def _drawn(draw_fn: Callable, width: int, dtype: Any, row_keys: jax.Array) -> jax.Array:
    return jax.vmap(lambda one: draw_fn(one, (width,), dtype))(row_keys).ravel()


@keys.alone
def _zero() -> jax.Array:
    return jnp.zeros((), jnp.int32)
