"""Pytree arithmetic on the floating leaves, and one independent random stream for each of them."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mutagrad import check

Tree = Any


def is_floating(leaf: Any) -> bool:
    """Whether a leaf is a floating array (real): one that densities mutate unless they say otherwise."""
    return isinstance(leaf, jax.Array | np.ndarray | np.generic | float) and jnp.issubdtype(
        jnp.result_type(leaf), jnp.floating
    )


def has_own_change(noise: Any) -> bool:
    """Whether the noise of a leaf says itself how it changes the leaf, as ``noise.applied(leaf, sigma)``."""
    return hasattr(noise, "applied")


def is_mutated(leaf: Any, noise: Any) -> bool:
    """Whether a leaf is changed by this noise."""
    return noise is not None and (is_floating(leaf) or has_own_change(noise))


def compute_dtype(leaf: Any) -> jnp.dtype:
    """The dtype in which a leaf is mutated: its own, but float32 for 16-bit leaves (the sum is rounded once)."""
    dtype = jnp.result_type(leaf)
    return dtype if dtype.itemsize >= 4 else jnp.dtype(jnp.float32)


def map_floating(fn: Callable, tree: Tree, *rest: Tree) -> Tree:
    """``jax.tree.map`` over the floating leaves; all others are passed on untouched."""
    return jax.tree.map(lambda leaf, *others: fn(leaf, *others) if is_floating(leaf) else leaf, tree, *rest)


def floating_only(tree: Tree) -> list[jax.Array]:
    """The floating leaves."""
    return [leaf for leaf in jax.tree.leaves(tree) if is_floating(leaf)]


def with_floating(tree: Tree, leaves: list[jax.Array]) -> Tree:
    """The tree with other floating leaves, in the order of `floating_only`."""
    replacement = iter(leaves)
    return map_floating(lambda _: next(replacement), tree)


def by_name(tree: Tree) -> dict[str, Any]:
    """The leaves by their path; those of a flat dictionary by their name."""
    named = ((jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree))
    return {path.removeprefix("['").removesuffix("']"): leaf for path, leaf in named}


def from_names(leaves: Tree, like: Tree) -> Tree:
    """Leaves by name, as `by_name` made them, in the structure of ``like``; a tree of that structure is returned as it is."""
    own, wanted = jax.tree.structure(leaves), jax.tree.structure(like)
    if own == wanted:  # type: ignore[operator]
        return leaves
    return jax.tree.unflatten(jax.tree.structure(like), [leaves[name] for name in by_name(like)])


def map_with_keys(fn: Callable, key: jax.Array, tree: Tree) -> Tree:
    """Map ``fn(key_of_leaf, leaf)`` over the floating leaves, each with a random stream of its own.

    The stream of a leaf is ``fold_in(key, position of the leaf)``, so that leaves of the same shape never share noise
    and one leaf can be made again without the others. Leaves that are not floating become scalar zeros.
    """
    leaves, structure = jax.tree.flatten(tree)
    mapped = [
        fn(jax.random.fold_in(key, position), leaf) if is_floating(leaf) else jnp.zeros(())
        for position, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(structure, mapped)


def radius_key(key: jax.Array, tree: Tree) -> jax.Array:
    """A stream that no leaf of ``tree`` uses, for what all leaves share (the length of a radial mutation)."""
    return jax.random.fold_in(key, len(jax.tree.leaves(tree)))


def add_scaled(params: Tree, noise: Tree, sigma: jax.Array) -> Tree:
    """``params + sigma * noise`` on the floating leaves, summed in `compute_dtype` and rounded once.

    Where the noise is ``None`` the leaf itself is passed on: no arithmetic ties it to one offspring. Noise that says how it
    changes a leaf is asked.
    """

    def add(leaf, noise_leaf):
        if not is_mutated(leaf, noise_leaf):
            return leaf
        if has_own_change(noise_leaf):
            return noise_leaf.applied(leaf, sigma)
        dtype, scale = compute_dtype(leaf), sigma
        if leaf.dtype != dtype:
            # Or a loop over offspring would hold the leaf converted as a whole, outside of it.
            leaf, scale = jax.lax.optimization_barrier((leaf, sigma))
        total = leaf.astype(dtype) + scale.astype(dtype) * jnp.asarray(noise_leaf).astype(dtype)
        return total.astype(leaf.dtype)

    return jax.tree.map(add, params, noise)


def scale(tree: Tree, factor: jax.Array) -> Tree:
    """Every floating leaf times one number, multiplied in `compute_dtype` and rounded once."""

    def multiply(leaf):
        dtype = compute_dtype(leaf)
        return (leaf.astype(dtype) * factor.astype(dtype)).astype(leaf.dtype)

    return map_floating(multiply, tree)


def where(condition: jax.Array, if_true: Tree, if_false: Tree) -> Tree:
    """Leaf by leaf ``jnp.where``; a leaf that both trees share is passed on."""
    return jax.tree.map(lambda a, b: a if a is b else jnp.where(condition, a, b), if_true, if_false)


def broadcast_prefix(name: str, prefix: Any, tree: Tree, entry: str) -> Tree:
    """``prefix``, the argument ``name``, with one entry for every leaf of ``tree``; a ValueError if it does not fit."""
    try:
        return jax.tree.broadcast(prefix, tree)
    except ValueError:
        raise ValueError(
            f"{name}: got a tree {jax.tree.structure(prefix)}, which is no prefix of the params "
            f"{jax.tree.structure(tree)}; give one {entry} for every leaf, or one for all below a node"
        ) from None


def size(tree: Tree) -> int:
    """How many parameters are mutated: the number N of entries in floating leaves."""
    return sum(int(np.prod(jnp.shape(leaf))) for leaf in jax.tree.leaves(tree) if is_floating(leaf))


def num_entries(tree: Tree) -> int:
    """Entries of all leaves, mutated or not."""
    return sum(int(np.prod(jnp.shape(leaf))) for leaf in jax.tree.leaves(tree))


def squared_norm(tree: Tree) -> jax.Array:
    """Sum of squares over the floating leaves, in their `compute_dtype`."""
    squares = [
        jnp.sum(jnp.square(leaf.astype(compute_dtype(leaf)))) for leaf in jax.tree.leaves(tree) if is_floating(leaf)
    ]
    dtype = jnp.result_type(*squares)
    return sum((square.astype(dtype) for square in squares), jnp.zeros((), dtype))


def root_mean_square(tree: Tree) -> float:
    """Of the entries of floating leaves; 0 if there are none."""
    number = size(tree)
    return math.sqrt(float(jax.jit(squared_norm)(tree)) / number) if number else 0.0


def as_arrays(tree: Tree) -> Tree:
    """Every leaf as a JAX array (Python and NumPy numbers included), or a ValueError that names the leaf."""

    def convert(path, leaf):
        try:
            if isinstance(leaf, bool | int | float | complex):
                leaf = jax.device_put(np.asarray(leaf, jnp.result_type(leaf)))
            array = jnp.asarray(leaf)
        except (TypeError, ValueError):
            raise ValueError(
                f"params{jax.tree_util.keystr(path)}: got {type(leaf).__name__}, which is not an array; "
                "keep arrays only (equinox.partition(model, equinox.is_array) splits them off)"
            ) from None
        if jnp.issubdtype(array.dtype, jnp.complexfloating):
            raise ValueError(
                f"params{jax.tree_util.keystr(path)}: got {array.dtype}, which is not mutated; "
                "hold the real and the imaginary part as two leaves"
            )
        # A number of Python has a weak type, and what is computed from it a strong one: a program for each.
        if not getattr(array, "weak_type", False):
            return array
        return jnp.asarray(np.asarray(array)) if check.is_concrete(array) else array.astype(array.dtype)

    return jax.tree_util.tree_map_with_path(convert, tree)


@jax.jit
def _are_finite(leaves: list) -> list[jax.Array]:
    return [jnp.all(jnp.isfinite(leaf)) for leaf in leaves]


def are_finite(leaves: list) -> list[bool]:
    """Which concrete leaves are finite throughout, also while something else is traced; one program for all of them."""
    with jax.ensure_compile_time_eval():
        return [bool(one) for one in _are_finite(leaves)]


def check_params(params: Tree, is_discrete: bool = False) -> Tree:
    """The params as arrays, refused with a ValueError if nothing can be mutated or a value is not finite."""
    params = as_arrays(params)
    if not is_discrete and not any(is_floating(leaf) for leaf in jax.tree.leaves(params)):
        dtypes = sorted({str(leaf.dtype) for leaf in jax.tree.leaves(params)})
        raise ValueError(
            f"params: got no floating leaf (leaf dtypes: {', '.join(dtypes) or 'none, the tree is empty'}), so there "
            "is nothing to mutate; pass at least one float array, or mutation=mutagrad.mutation.discrete()"
        )
    checked = [
        (path, leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        if is_floating(leaf) and check.is_concrete(leaf)
    ]
    for (path, leaf), is_finite in zip(checked, are_finite([leaf for _, leaf in checked]), strict=True):
        if not is_finite:
            count = int(np.sum(~np.isfinite(np.asarray(leaf))))
            raise ValueError(
                f"params{jax.tree_util.keystr(path)}: got {count} of {leaf.size} values NaN or infinite; "
                "start from finite parameters"
            )
    return params
