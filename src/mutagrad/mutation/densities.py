"""Mutation densities, each scaled to unit variance per parameter, so that σ means the same for all of them.

A density is a `Mutation`: ``sample_fn(key, params)`` draws the noise of one offspring. The noise of each leaf comes from
a stream of its own. Nothing is stored: the same key makes the same mutation again.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from mutagrad import keys, law, tree
from mutagrad.noise import draw_with_keys, signs
from mutagrad.types import Mutation, Params

__all__ = ["ball", "gaussian", "rademacher", "sphere", "student_t"]


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
    degrees_of_freedom : ν > 2, so that the variance exists, and finite: `gaussian` is the limit.

    Returns
    -------
    Mutation

    Raises
    ------
    ValueError : if ν ≤ 2, or infinite.

    Source: [S22] (radially symmetric densities).

    >>> import mutagrad
    >>> mutagrad.mutation.student_t(5.0).name
    'student_t'
    """
    if not 2 < degrees_of_freedom < math.inf:
        raise ValueError(
            f"degrees_of_freedom: got {degrees_of_freedom!r}; pass a finite number above 2, where the variance is finite "
            "(the limit of infinitely many is mutagrad.mutation.gaussian())"
        )
    nu = float(degrees_of_freedom)

    def sample(key, params):
        chi_square = 2 * jax.random.gamma(tree.radius_key(key, params), nu / 2)
        # Rounded before it is multiplied by σ, wherever it is made.
        return jax.lax.optimization_barrier(tree.scale(_normal_noise(key, params), jnp.sqrt((nu - 2) / chi_square)))

    return Mutation(sample, "student_t", {"degrees_of_freedom": nu}, law.StudentT(nu))


def rademacher() -> Mutation:
    """Independent random signs: every parameter moves by exactly ±σ.

    A sign takes one random bit.

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
    return Mutation(signs, "rademacher", law=law.IndependentEntries())
