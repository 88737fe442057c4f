"""The effect of one mutation, made again from its seed, and the densities whose effects add up."""

import zlib
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mutagrad import check, tree
from mutagrad.algorithms.genomes.genomes import effect_of
from mutagrad.mutation import densities
from mutagrad.types import Mutation, Params

__all__ = ["checked_params", "checksum_of", "density_of", "mutation_effect"]


_CHECKED = 64
"""Numbers of each leaf that tell one density from another."""


def density_of(mutation: Any) -> Mutation:
    """``mutation``, gaussian unless given, or a ValueError if it is none whose effects add up."""
    density = densities.gaussian() if mutation is None else mutation
    if not isinstance(density, Mutation):
        raise ValueError(f"mutation: got {mutation!r}; pass one such as mutagrad.mutation.gaussian()")
    if density.check_fn is not None:
        raise ValueError(
            f"mutation: got {density.name}, whose mutations depend on the value that they change, so that several do not add up; "
            "pass one such as mutagrad.mutation.gaussian()"
        )
    return density


def checked_params(density: Mutation, params: Params) -> Params:
    """The params as arrays, or a ValueError if effects of this density on them do not add up.

    The noise is drawn beside the params and beside zeros: where it reads them, an effect cannot be made again from its seed.
    """
    params = density.checked(params)
    noise = jax.eval_shape(density.sample_fn, jax.random.key(0), params)

    def check_shape(path: Any, leaf: Any, change: Any) -> None:
        if tree.is_mutated(leaf, change) and getattr(change, "shape", leaf.shape) != leaf.shape:
            raise ValueError(
                f"mutation: got {density!r} with noise of shape {change.shape} for params{jax.tree_util.keystr(path)}; return "
                f"one of shape {leaf.shape}"
            )

    jax.tree_util.tree_map_with_path(check_shape, params, noise, is_leaf=lambda leaf: leaf is None)
    if all(map(check.is_concrete, jax.tree.leaves(params))):
        with jax.ensure_compile_time_eval():
            drawn = jax.tree.leaves(_noise(density.sample_fn, params))
        if not all(map(np.array_equal, drawn, _beside_zeros(density.sample_fn, params))):
            raise ValueError(
                f"mutation: got {density!r}, whose noise depends on the params, so that an effect cannot be made again from its "
                "seed; pass a density that reads their shapes and dtypes alone"
            )
    return params


def checksum_of(density: Mutation, params: Params) -> int:
    """Of noise that a density draws beside params of these shapes and dtypes, to two digits, which no compiler changes."""
    leaves, structure = jax.tree.flatten(params)
    return _checksum(density.sample_fn, structure, tuple(jax.ShapeDtypeStruct(one.shape, one.dtype) for one in leaves))


@lru_cache(maxsize=64)
def _checksum(sample_fn: Any, structure: Any, kinds: tuple) -> int:
    noise = _beside_zeros(sample_fn, jax.tree.unflatten(structure, kinds))
    first = [np.asarray(leaf).ravel()[:_CHECKED].astype(np.float64) for leaf in noise]
    return zlib.crc32(b"".join(np.round(leaf, 2).tobytes() for leaf in first))


def _beside_zeros(sample_fn: Any, like: Params) -> list[Any]:
    # At once, where the algorithm is begun within a program too.
    with jax.ensure_compile_time_eval():
        return jax.tree.leaves(_noise(sample_fn, jax.tree.map(jnp.zeros_like, like)))


@partial(jax.jit, static_argnums=0)
def _noise(sample_fn: Any, params: Params) -> Params:
    return sample_fn(jax.random.key(0), params)


def mutation_effect(seed: Any, sigma: Any, params: Params, mutation: Mutation | None = None) -> Params:
    """The effect of a mutation of `mutagrad.population`, made again from its seed: what it adds to each parameter.

    Parameters
    ----------
    seed : its two words, such as those of ``state.seeds``, or of the metadata of `mutagrad.tree_sequence`.
    sigma : σ with which it arose, of ``state.scales`` or of the metadata [parameter].
    params : any of the shapes and dtypes of the run's; their values do not matter.
    mutation : the density of the run; `mutagrad.mutation.gaussian` unless given.

    Returns
    -------
    pytree of the structure of ``params``; ``None`` for leaves that do not mutate.

    Raises
    ------
    ValueError : for a seed that is not two words of 32 bits, a σ that is not positive, or another kind of mutation.

    Source: tested in tests/algorithms/test_genealogy.py.

    >>> import jax.numpy as jnp, mutagrad
    >>> effect = mutagrad.mutation_effect(seed=[2718281828, 1828459045], sigma=0.1, params=jnp.zeros(1000))
    >>> round(float(jnp.std(effect)), 2)
    0.1
    """
    density = density_of(mutation)
    check.scale("sigma", sigma)
    words = np.asarray(seed)
    if words.shape != (2,) or words.dtype.kind not in "iu" or not all(0 <= int(word) < 2**32 for word in words):
        shown = " ".join(repr(seed).split())[:80]
        raise ValueError(f"seed: got {shown}; pass the two words of one mutation, whole numbers from 0 to 2**32 - 1")
    scale = jnp.asarray(sigma, jnp.result_type(float))
    return _effect(density.sample_fn, jnp.asarray(words, jnp.uint32), scale, density.checked(params))


_effect = jax.jit(effect_of, static_argnums=0)
