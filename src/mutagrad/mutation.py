"""Mutation densities, each scaled to unit variance per parameter, so that σ means the same for all of them.

A density is a `Mutation`: ``sample_fn(key, params)`` draws the noise of one offspring. The noise of each leaf comes from
a stream of its own. Nothing is stored: the same key makes the same mutation again.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mutagrad import check, keys, law, tree
from mutagrad.noise import draw, draw_with_keys
from mutagrad.types import Mutation, Params

__all__ = ["ball", "gaussian", "low_rank", "masked", "rademacher", "scaled", "sphere", "student_t"]


def _normal_noise(key: jax.Array, params: Params) -> Params:
    return draw_with_keys(jax.random.normal, key, params)


def gaussian() -> Mutation:
    """Independent standard normal mutations, z ~ N(0, I). The default of every algorithm.

    Returns
    -------
    Mutation

    Source: [W21] (text before eq. 1), [W26], [K23].

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> noise = mutagrad.mutation.gaussian().sample_fn(jax.random.key(0), {"w": jnp.zeros((2, 3))})
    >>> noise["w"].shape
    (2, 3)
    """
    return Mutation(_normal_noise, "gaussian", law=law.Gaussian())


_squared_norm = keys.alone(tree.squared_norm)
"""Alone, or the numbers would be drawn once for the norm and once to be scaled."""


def _radial(name: str, radius_fn: Callable[[jax.Array, int], jax.Array], own: law.DensityLaw) -> Mutation:
    def sample(key, params):
        direction = _normal_noise(key, params)
        radius = radius_fn(tree.radius_key(key, params), tree.size(params))
        # The direction is uniform on the sphere because the normal density is radially symmetric.
        square = _squared_norm(direction)
        return tree.scale(direction, radius.astype(square.dtype) * jax.lax.rsqrt(square))

    return Mutation(sample, name, law=own)


def sphere() -> Mutation:
    """Mutations of one length, uniform in direction: |z| = √N with N the number of mutated parameters.

    Every offspring then lies at distance exactly σ√N from its parent.

    Returns
    -------
    Mutation

    Source: [S22] (radially symmetric densities); scaling derived for this project, tested in tests/test_mutation.py.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> noise = mutagrad.mutation.sphere().sample_fn(jax.random.key(0), jnp.zeros(16))
    >>> round(float(jnp.linalg.norm(noise)), 4)
    4.0
    """
    return _radial("sphere", lambda key, size: jnp.asarray(math.sqrt(size)), law.Sphere())


def ball() -> Mutation:
    """Mutations uniform in a ball of radius √(N + 2), which gives unit variance per parameter.

    Returns
    -------
    Mutation

    Source: [S22]; scaling derived for this project, tested in tests/test_mutation.py.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> noise = mutagrad.mutation.ball().sample_fn(jax.random.key(0), jnp.zeros(16))
    >>> bool(jnp.linalg.norm(noise) <= 18 ** 0.5)
    True
    """

    def radius(key, size):
        return math.sqrt(size + 2) * jax.random.uniform(key) ** (1 / size)

    return _radial("ball", radius, law.Ball())


def student_t(degrees_of_freedom: float = 5.0) -> Mutation:
    """Multivariate Student t mutations: a normal direction and length with heavy radial tails, unit variance.

    All parameters share one χ² factor, so the density is radially symmetric (a product of one-dimensional t densities
    would not be).

    Parameters
    ----------
    degrees_of_freedom : ν > 2, so that the variance exists.

    Returns
    -------
    Mutation

    Raises
    ------
    ValueError : if ν ≤ 2.

    Source: [S22] (radially symmetric densities).

    >>> import mutagrad
    >>> mutagrad.mutation.student_t(5.0).name
    'student_t'
    """
    if not degrees_of_freedom > 2:
        raise ValueError(
            f"degrees_of_freedom: got {degrees_of_freedom!r}; pass a number above 2, where the variance is finite"
        )
    nu = float(degrees_of_freedom)

    def sample(key, params):
        chi_square = 2 * jax.random.gamma(tree.radius_key(key, params), nu / 2)
        # Rounded before it is multiplied by σ, wherever it is made.
        return jax.lax.optimization_barrier(tree.scale(_normal_noise(key, params), jnp.sqrt((nu - 2) / chi_square)))

    return Mutation(sample, "student_t", {"degrees_of_freedom": nu}, law.StudentT(nu))


def rademacher() -> Mutation:
    """Independent random signs: every parameter moves by exactly ±σ.

    Not radially symmetric. The drift at small βσ|g| is that of the gaussian (it needs only second moments); the greedy
    drift is so only as far as the gradient is shared by many parameters (theory.md 1).

    Returns
    -------
    Mutation

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> noise = mutagrad.mutation.rademacher().sample_fn(jax.random.key(0), jnp.zeros(8))
    >>> bool(jnp.all(jnp.abs(noise) == 1))
    True
    """

    def signs(key, params):
        return draw_with_keys(jax.random.rademacher, key, params, is_blocked=False)

    return Mutation(signs, "rademacher", law=law.IndependentEntries())


def low_rank(rank: int = 1) -> Mutation:
    """Mutations A Bᵀ/√r of matrix leaves, with A (m, r) and B (n, r) standard normal; gaussian on all other leaves.

    Unit variance per parameter and uncorrelated entries, with r(m + n) random numbers in place of mn. Entries of one
    matrix are uncorrelated but not independent.

    Parameters
    ----------
    rank : r ≥ 1.

    Returns
    -------
    Mutation

    Raises
    ------
    ValueError : if ``rank`` < 1.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> noise = mutagrad.mutation.low_rank(2).sample_fn(jax.random.key(0), {"w": jnp.zeros((6, 5)), "b": jnp.zeros(6)})
    >>> int(jnp.linalg.matrix_rank(noise["w"])), noise["b"].shape
    (2, (6,))
    """
    rank = check.count("rank", rank)

    def product(key, leaf):
        if leaf.ndim != 2:
            return draw(jax.random.normal, key, leaf.shape, tree.compute_dtype(leaf))
        rows, columns = leaf.shape
        dtype = tree.compute_dtype(leaf)
        left = jax.random.normal(jax.random.fold_in(key, 0), (rows, rank), dtype)
        right = jax.random.normal(jax.random.fold_in(key, 1), (columns, rank), dtype)
        return left @ right.T / jnp.asarray(math.sqrt(rank), dtype)

    options = {"rank": rank}
    return Mutation(
        lambda key, params: tree.map_with_keys(product, keys.fast(key), params),
        "low_rank",
        options,
        law.IndependentEntries(),
    )


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
    base = mutation or gaussian()
    for path, leaf in jax.tree_util.tree_leaves_with_path(mask):
        if not isinstance(leaf, bool):
            raise ValueError(f"mask{jax.tree_util.keystr(path)}: got {leaf!r}; pass True (mutate) or False (share)")
    if not any(jax.tree.leaves(mask)):
        raise ValueError("mask: got no True, so there is nothing to mutate; pass True for at least one leaf")

    def sample(key, params):
        is_mutated = tree.broadcast_prefix("mask", mask, params, "boolean")
        # None is an empty tree: the density does not see the leaf, and the noise has none for it.
        return base.sample_fn(key, jax.tree.map(lambda leaf, kept: leaf if kept else None, params, is_mutated))

    return Mutation(sample, f"masked {base.name}", {"mask": mask, "mutation": base}, _law(law.Masked, mask, base))


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
    base = mutation or gaussian()
    for path, leaf in jax.tree_util.tree_leaves_with_path(scale):
        if check.is_concrete(leaf) and not (tree.are_finite([leaf])[0] and bool(np.all(np.asarray(leaf) >= 0))):
            where = jax.tree_util.keystr(path)
            raise ValueError(f"scale{where}: got {leaf!r}; pass finite numbers of 0 or more")

    def sample(key, params):
        noise = base.sample_fn(key, params)
        scales = tree.broadcast_prefix("scale", scale, params, "number or array")

        def multiply(path, leaf, noise_leaf, factor):
            if noise_leaf is None or not tree.is_floating(leaf):
                return noise_leaf
            factor = jnp.asarray(factor, noise_leaf.dtype)
            if factor.ndim and factor.shape != leaf.shape:
                where = jax.tree_util.keystr(path)
                raise ValueError(f"scale{where}: got shape {factor.shape}; pass a number or shape {leaf.shape}")
            return noise_leaf * factor

        return jax.tree_util.tree_map_with_path(multiply, params, noise, scales)

    return Mutation(sample, f"scaled {base.name}", {"scale": scale, "mutation": base}, _law(law.Scaled, scale, base))


def _law(kind: type, argument: Any, base: Mutation) -> Any:
    """The law of a density made of another one; unknown if that is."""
    return None if base.law is None else kind(argument, base.law)
