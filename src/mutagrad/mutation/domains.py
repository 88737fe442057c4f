"""Mutations of parameters that are not free real numbers: integers, categories, and real numbers between walls."""

import math
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mutagrad import check, tree
from mutagrad.mutation.changes import Categories, Jumps, Reflected
from mutagrad.mutation.composed import base_of
from mutagrad.noise import draw
from mutagrad.types import Mutation

__all__ = ["Categories", "bounded", "categories", "discrete"]

_MOST = 2**24
"""Values of a discrete leaf: float32 tells so many apart."""
_STREAM = 0x6C61
"""Folded into the key, so that discrete leaves and real ones draw other numbers."""


def categories(values: int | range) -> Categories:
    """Values without an order, for `discrete`: a mutation replaces one by any other.

    Parameters
    ----------
    values : K ≥ 2 for 0, …, K − 1; or a ``range`` of the values.

    Raises
    ------
    ValueError : if there are fewer than two.

    >>> import mutagrad
    >>> mutagrad.mutation.categories(4)
    categories(range(0, 4))
    """
    if not isinstance(values, range):
        values = range(check.count("values", values, 2))
    return Categories(_values("values", values))


def discrete(domain: Any = True, mutation: Mutation | None = None) -> Mutation:
    """Mutations of integer leaves, and of categories, beside real ones in one pytree.

    σ keeps its meaning, the standard deviation of a mutation. A site whose values are ordered and a step h apart jumps k steps
    with probability ∝ q^|k|, which has variance σ² (two-sided geometric). For σ ≪ h that is one step with probability
    p = (σ/h)²: a mutation probability p is set by σ = h√p. A jump beyond an end of the range is reflected there, so that one
    step out of it is no step. A site of K categories undergoes σ² substitutions in the mean, and so changes with probability
    (K−1)/K · (1 − exp(−Kσ²/(K−1))). All these are symmetric: Metropolis samples exp(−βU) on the values.

    Parameters
    ----------
    domain : a pytree with the structure of the params, or of a part of it seen from the root. An entry speaks for everything
        below a node:

        - a ``range`` of the values, in order: ``range(-127, 128)`` for int8 weights, ``range(-1, 2)`` for ternary ones,
          ``range(-1, 2, 2)`` for signs. The leaf may be floating and hold such values.
        - `categories`.
        - True: by the leaf's dtype. Integers of 4, 8 and 16 bits take all their values in order, booleans are categories, and
          floating leaves are real.
        - False: as if this density were not there. Real leaves mutate by ``mutation``, others stay.
    mutation : the density of the real leaves; `gaussian` unless given. ``scaled`` gives leaves a σ of their own.

    Returns
    -------
    Mutation. It states no law: at an end of its range a site has a mean step of its own. See
    `mutagrad.theory.site_drift` for the drift on a lattice.

    Raises
    ------
    ValueError : if an entry is none of these, or has more than 2²⁴ values; when an algorithm starts, if a leaf holds values
        outside its range, or has a dtype that does not hold them all.

    Source: the jumps: [Ru94], where they have the most entropy of that variance; categories: [JC69]; stationary law:
    theory.md 10, tested in tests/mutation/test_domains.py.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> target = jnp.array([3, -2, 0, 1], jnp.int8)
    >>> algorithm = mutagrad.elitist(sigma=0.5, num_offspring=8, mutation=mutagrad.mutation.discrete())
    >>> loss_fn = lambda x: jnp.sum((x - target).astype(jnp.float32) ** 2)
    >>> result = mutagrad.evolve(jax.random.key(0), algorithm, jnp.zeros(4, jnp.int8), loss_fn, 100, progress=False)
    >>> result.params.tolist(), str(result.params.dtype)
    ([3, -2, 0, 1], 'int8')
    """
    base = base_of(mutation)
    entries = jax.tree_util.tree_leaves_with_path(domain)
    for path, entry in entries:
        name = f"domain{jax.tree_util.keystr(path)}"
        if isinstance(entry, range):
            _values(name, entry)
        elif not isinstance(entry, bool | Categories):
            raise ValueError(f"{name}: got {entry!r}; pass a range, mutagrad.mutation.categories(…), True or False")
    if not any(not isinstance(entry, bool) or entry for _, entry in entries):
        raise ValueError("domain: got nothing that is discrete; pass a range, categories or True for at least one leaf")

    def jumps(params: Any) -> Any:
        entry_of = tree.broadcast_prefix("domain", domain, params, "entry")
        return jax.tree_util.tree_map_with_path(_kind, params, entry_of)

    def sample(key: jax.Array, params: Any) -> Any:
        kinds = jumps(params)
        is_empty = {"is_leaf": lambda leaf: leaf is None}
        reals = jax.tree.map(lambda kind, leaf: leaf if kind is False else None, kinds, params)
        noise = base.sample_fn(key, reals) if jax.tree.leaves(reals) else reals
        own = jax.random.fold_in(key, _STREAM)
        positions = iter(range(len(jax.tree.leaves(params))))

        def one(leaf: Any, kind: Any, real: Any) -> Any:
            if leaf is None:
                return None
            place = jax.random.fold_in(own, next(positions))
            return real if kind is False else _drawn(place, leaf, kind)

        return jax.tree.map(one, params, kinds, noise, **is_empty)

    def check_domain(params: Any) -> None:
        kinds = jumps(params)
        jax.tree_util.tree_map_with_path(_check_values, params, kinds)
        if base.check_fn is not None:
            base.check_fn(jax.tree.map(lambda kind, leaf: leaf if kind is False else None, kinds, params))

    return Mutation(sample, f"discrete {base.name}", {"domain": domain, "mutation": base}, check_fn=check_domain)


def _values(name: str, values: range) -> range:
    ends = (values.start, values.stop)
    if any(abs(end) > 2**64 for end in ends):
        raise ValueError(f"{name}: got a range beyond 2⁶⁴; pass values that an integer of 64 bits holds")
    if not 2 <= len(values) <= _MOST:
        raise ValueError(f"{name}: got {values!r} of {len(values):,} values; pass 2 to {_MOST:,} of them")
    return values


def _kind(path: Any, leaf: Any, entry: Any) -> Any:
    """The values of a leaf, or False if it is not discrete."""
    dtype = jnp.result_type(leaf)
    is_bool = jnp.issubdtype(dtype, jnp.bool_)
    if entry is False or isinstance(entry, range | Categories):
        if entry is not False and not (jnp.issubdtype(dtype, jnp.number) or is_bool):
            raise ValueError(f"domain{jax.tree_util.keystr(path)}: got {entry!r} for a leaf of {dtype}; pass False")
        return entry
    if is_bool:
        return Categories(range(2))
    if not jnp.issubdtype(dtype, jnp.integer):
        return False
    limits = jnp.iinfo(dtype)
    if limits.bits > 16:
        raise ValueError(
            f"domain{jax.tree_util.keystr(path)}: got True for a leaf of {dtype}; pass a range of its values, such as "
            "range(0, 100), to mutate it, or False to leave it"
        )
    return range(int(limits.min), int(limits.max) + 1)


def _drawn(key: jax.Array, leaf: Any, kind: Any) -> Jumps:
    values = kind.values if isinstance(kind, Categories) else kind
    bits = draw(jax.random.bits, key, jnp.shape(leaf), jnp.uint32)
    return Jumps(bits, jnp.ones((), jnp.float32), values.start, values.step, len(values), isinstance(kind, range))


def _check_values(path: Any, leaf: Any, kind: Any) -> None:
    if kind is False:
        return
    values, where = kind.values if isinstance(kind, Categories) else kind, f"params{jax.tree_util.keystr(path)}"
    dtype = jnp.result_type(leaf)
    some = np.asarray(values if len(values) <= 2**16 else [values[0], values[1], values[-2], values[-1]], np.float64)
    if not np.array_equal(some.astype(dtype).astype(np.float64), some):
        raise ValueError(
            f"{where}: got {dtype}, which does not hold the values {values!r}; pass another dtype or range"
        )
    if not check.is_concrete(leaf):
        return
    array = np.asarray(leaf).astype(np.float64)
    place = (array - values.start) / values.step
    is_outside = ~((place >= 0) & (place <= len(values) - 1) & (place == np.round(place)))
    if is_outside.any():
        raise ValueError(
            f"{where}: got {int(is_outside.sum()):,} of {array.size:,} values outside {kind!r}, such as "
            f"{array[is_outside].flat[0]:g}; start from values of the domain"
        )


def bounded(low: Any, high: Any, mutation: Mutation | None = None) -> Mutation:
    """Mutations of real parameters between walls: what would pass a wall is reflected there.

    Reflection keeps a density symmetric between any two points that is symmetric in each parameter by itself, so that Metropolis
    still samples exp(−βU), within the walls; clipping would pile parameters up at them. `low_rank` is not: of a matrix of rank 1
    the sign of one entry follows from the others. Parameters keep within the walls with it, and Metropolis samples another law.

    Parameters
    ----------
    low, high : numbers, or pytrees of numbers with the structure of the params, or of a part of it seen from the root;
        ``-math.inf`` and ``math.inf`` for no wall.
    mutation : the density between the walls; `gaussian` unless given.

    Returns
    -------
    Mutation, with the law of the density: theory speaks of parameters some σ away from the walls.

    Raises
    ------
    ValueError : if a lower wall is not below the upper one; when an algorithm starts, if a parameter is outside.

    Source: derived for this project, tested in tests/mutation/test_walls.py.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> mutation = mutagrad.mutation.bounded(0.0, 1.0)
    >>> algorithm = mutagrad.elitist(sigma=0.1, num_offspring=20, mutation=mutation)
    >>> loss_fn = lambda x: jnp.sum((x - jnp.array([0.5, 2.0])) ** 2)
    >>> result = mutagrad.evolve(jax.random.key(0), algorithm, jnp.full(2, 0.1), loss_fn, 200, progress=False)
    >>> [round(float(x), 1) for x in result.params], bool(jnp.max(result.params) <= 1)
    ([0.5, 1.0], True)
    """
    base = base_of(mutation)
    walls = [_numbers(name, value) for name, value in (("low", low), ("high", high))]
    for path, lowest in walls[0]:
        for other, highest in walls[1]:
            if (path[: len(other)] == other or other[: len(path)] == path) and not lowest < highest:
                where = jax.tree_util.keystr(path)
                raise ValueError(f"low{where}: got {lowest:g} with high = {highest:g}; pass low below high")

    def of(params: Any) -> tuple[Any, Any]:
        return tree.broadcast_prefix("low", low, params, "number"), tree.broadcast_prefix(
            "high", high, params, "number"
        )

    def sample(key: jax.Array, params: Any) -> Any:
        def between(leaf: Any, noise: Any, lowest: Any, highest: Any) -> Any:
            is_free = math.isinf(lowest) and math.isinf(highest)
            if noise is None or is_free or not tree.is_floating(leaf) or tree.has_own_change(noise):
                return noise
            return Reflected(noise, jnp.ones((), jnp.float32), float(lowest), float(highest))

        return jax.tree.map(between, params, base.sample_fn(key, params), *of(params))

    def check_walls(params: Any) -> None:
        def inside(path: Any, leaf: Any, lowest: Any, highest: Any) -> None:
            if not (tree.is_floating(leaf) and check.is_concrete(leaf)):
                return
            array = np.asarray(leaf).astype(np.float64)
            dtype = jnp.result_type(leaf)
            most = float(jnp.finfo(dtype).max)
            edges = np.clip([lowest, highest], -most, most).astype(dtype).astype(np.float64)
            where = jax.tree_util.keystr(path)
            if not edges[0] < edges[1]:
                raise ValueError(
                    f"params{where}: got walls {lowest:g} and {highest:g}, which are one number in {dtype}; pass walls "
                    "that differ there"
                )
            outside = (array < edges[0]) | (array > edges[1])
            if outside.any():
                raise ValueError(
                    f"params{where}: got {int(outside.sum()):,} of {array.size:,} values outside "
                    f"[{lowest:g}, {highest:g}], such as {array[outside].flat[0]:g}; start between the walls"
                )

        jax.tree_util.tree_map_with_path(inside, params, *of(params))
        if base.check_fn is not None:
            base.check_fn(params)

    options = {"low": low, "high": high, "mutation": base}
    return Mutation(sample, f"bounded {base.name}", options, base.law, check_walls)


def _numbers(name: str, tree_of: Any) -> list[tuple[Any, float]]:
    found = []
    for path, value in jax.tree_util.tree_leaves_with_path(tree_of):
        is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        is_huge = isinstance(value, int) and abs(value) > sys.float_info.max
        if not is_number or value != value or is_huge:
            raise ValueError(
                f"{name}{jax.tree_util.keystr(path)}: got {value!r}; pass a number, or infinity for no wall"
            )
        found.append((path, float(value)))
    if not found:
        raise ValueError(f"{name}: got {tree_of!r}; pass a number, or infinity for no wall")
    return found
