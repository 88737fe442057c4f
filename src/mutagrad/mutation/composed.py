"""Mutation densities made of another one: on some leaves only, or of another size for each."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mutagrad import check, law, tree
from mutagrad.mutation.densities import gaussian
from mutagrad.mutation.low_rank import Factored
from mutagrad.types import Mutation

__all__ = ["masked", "scaled"]


def masked(mask: Any, mutation: Mutation | None = None) -> Mutation:
    """Mutations of some leaves only; all offspring share the others with their parent.

    What a loss computes from shared leaves alone is computed once a generation, whatever M, where offspring are evaluated
    with ``evaluation="vectorized"``: mutating only the late layers of a network then costs little more than one forward
    pass through the early ones.

    Parameters
    ----------
    mask : a pytree of booleans with the structure of the params, or of a part of it seen from the root (one boolean then
        speaks for everything below a node). True mutates.
    mutation : the density of the mutated leaves; `gaussian` unless given. A radial one sees only their parameters.

    Returns
    -------
    Mutation

    Raises
    ------
    ValueError : if the mask holds something else than booleans, is False everywhere, or does not fit the params.

    See Also
    --------
    mutagrad.alternate : mutate one group of leaves in some generations, and another in the next.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> mutation = mutagrad.mutation.masked({"early": False, "late": True})
    >>> algorithm = mutagrad.elitist(sigma=0.1, num_offspring=8, mutation=mutation)
    >>> state = algorithm.init({"early": jnp.ones(2), "late": jnp.ones(3)})
    >>> state, info = algorithm.step(jax.random.key(0), state, lambda p: jnp.sum(p["early"]) + jnp.sum(p["late"] ** 2))
    >>> bool(jnp.all(state.params["early"] == 1)), bool(jnp.any(state.params["late"] == 1))
    (True, False)
    """
    base = base_of(mutation)
    for path, leaf in jax.tree_util.tree_leaves_with_path(mask):
        if not isinstance(leaf, bool):
            raise ValueError(f"mask{jax.tree_util.keystr(path)}: got {leaf!r}; pass True (mutate) or False (share)")
    if not any(jax.tree.leaves(mask)):
        raise ValueError("mask: got no True, so there is nothing to mutate; pass True for at least one leaf")

    def seen(params):
        is_mutated = tree.broadcast_prefix("mask", mask, params, "boolean")
        # None is an empty tree: the density does not see the leaf, and the noise has none for it.
        return jax.tree.map(lambda leaf, kept: leaf if kept else None, params, is_mutated)

    def restricted(sample_fn):
        return lambda key, params: sample_fn(key, seen(params))

    own = base.check_fn
    check_fn = None if own is None else lambda params: own(seen(params))
    options = {"mask": mask, "mutation": base}
    return Mutation(_of_base(restricted, base), f"masked {base.name}", options, _law(law.Masked, mask, base), check_fn)


def scaled(scale: Any, mutation: Mutation | None = None) -> Mutation:
    """Mutations of another density, multiplied per leaf or per parameter: σ_i = σ · scale_i.

    The covariance is then C = σ² diag(scale²), and the drift at small βσ|g| is −(β/2) C g ([W21] eq. 8; theory.md 1).

    Parameters
    ----------
    scale : a pytree with the structure of the params, or of a part of it seen from the root: a number for a leaf (or for
        everything below a node), or an array of the leaf's shape. Zero freezes a parameter.
    mutation : the density to scale; `gaussian` unless given.

    Returns
    -------
    Mutation

    Raises
    ------
    ValueError : if a scale is negative or not finite, or does not fit the params.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> mutation = mutagrad.mutation.scaled({"w": 1.0, "b": 0.0})
    >>> noise = mutation.sample_fn(jax.random.key(0), {"w": jnp.zeros(3), "b": jnp.zeros(2)})
    >>> bool(jnp.all(noise["b"] == 0))
    True
    """
    base = base_of(mutation)
    for path, leaf in jax.tree_util.tree_leaves_with_path(scale):
        if check.is_concrete(leaf) and not (tree.are_finite([leaf])[0] and bool(np.all(np.asarray(leaf) >= 0))):
            where = jax.tree_util.keystr(path)
            raise ValueError(f"scale{where}: got {leaf!r}; pass finite numbers of 0 or more")

    def multiplied(key, params, sample_fn):
        noise = sample_fn(key, params)
        scales = tree.broadcast_prefix("scale", scale, params, "number or array")

        def multiply(path, leaf, noise_leaf, factor):
            if not tree.is_mutated(leaf, noise_leaf):
                return noise_leaf
            is_own = tree.has_own_change(noise_leaf)
            factor = jnp.asarray(factor, jnp.float32 if is_own else noise_leaf.dtype)
            if factor.ndim and factor.shape != leaf.shape:
                where = jax.tree_util.keystr(path)
                raise ValueError(f"scale{where}: got shape {factor.shape}; pass a number or shape {leaf.shape}")
            return noise_leaf.scaled(factor) if is_own else noise_leaf * factor

        return jax.tree_util.tree_map_with_path(multiply, params, noise, scales)

    def of(sample_fn):
        return lambda key, params: multiplied(key, params, sample_fn)

    options = {"scale": scale, "mutation": base}
    return Mutation(_of_base(of, base), f"scaled {base.name}", options, _law(law.Scaled, scale, base), base.check_fn)


def base_of(mutation: Any) -> Mutation:
    """The density that another one is made of: `gaussian` unless given; a ValueError if it is none."""
    if mutation is None:
        return gaussian()
    is_factory = getattr(mutation, "__module__", "").startswith("mutagrad.")
    if isinstance(mutation, Mutation) or not callable(mutation) or is_factory:
        if isinstance(mutation, Mutation):
            return mutation
        raise ValueError(
            f"mutation: got {mutation!r}; pass one such as mutagrad.mutation.gaussian(), or a function of your own"
        )
    return Mutation(mutation)


def _of_base(changed: Callable[[Callable], Callable], base: Mutation) -> Callable:
    """A density's ``sample_fn``, changed; its factors too, where it has them."""
    if isinstance(base.sample_fn, Factored):
        return Factored(changed(base.sample_fn.sample_fn), changed(base.sample_fn.factors))
    return changed(base.sample_fn)


def _law(kind: type, argument: Any, base: Mutation) -> Any:
    """The law of a density made of another one; unknown if that is."""
    return None if base.law is None else kind(argument, base.law)
