"""Dropout whose masks do not depend on how images are cut into chunks, and the spectral norm of a weight."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from mutagrad import keys

__all__ = ["check_rate", "dropout", "example_keys", "spectral_norm"]

_SQUARINGS = 20
"""W Wᵀ to the power 2²⁰. From the column of the largest norm σ is then too small by n/(2e·2²¹) of itself at most."""


def check_rate(name: str, rate: Any) -> float:
    """A rate of dropout: a number from 0 to below 1."""
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < 1:
        raise ValueError(f"{name}: got {rate!r}; pass a share from 0 to below 1")
    return float(rate)


def example_keys(key: jax.Array, numbers: jax.Array) -> jax.Array:
    """A key for each example, by its number in the batch: ``fold_in(key, number)``.

    >>> import jax, jax.numpy as jnp
    >>> from mutagrad.lab.tasks.regularization import example_keys
    >>> example_keys(jax.random.key(0), jnp.arange(3)).shape
    (3,)
    """
    return jax.vmap(lambda number: keys.fold_in(key, number))(numbers)


def dropout(own: jax.Array, site: int, values: jax.Array, rate: float) -> jax.Array:
    r"""Each value is 0 with probability p, and otherwise divided by 1 − p: inverted dropout.

    The mean over masks is the value x, and the variance :math:`x^2\,p/(1-p)`. All entries are independent.

    Parameters
    ----------
    own : (examples,) a key for each example, of `example_keys`. With Threefry keys, JAX's default, the mask of an example
        depends on its key, the site and its shape alone.
    site : number of the layer; layers have masks of their own.
    values : (..., examples), the examples last.
    rate : p, from 0 to below 1; 0 leaves the values as they are.

    Source: Srivastava et al. 2014 (J. Mach. Learn. Res. 15, 1929), scaled while training as in PyTorch.

    >>> import jax, jax.numpy as jnp
    >>> from mutagrad.lab.tasks.regularization import dropout, example_keys
    >>> own = example_keys(jax.random.key(0), jnp.arange(1000))
    >>> sorted(set(dropout(own, 0, jnp.ones((3, 1000)), 0.5).ravel().tolist()))
    [0.0, 2.0]
    """
    if rate == 0:
        return values

    is_dropped = _bits(own, site, values.shape[:-1]) < jnp.uint32(round(rate * 2**32))
    return jnp.where(is_dropped, jnp.zeros((), values.dtype), values / jnp.asarray(1 - rate, values.dtype))


def _drawn(own: jax.Array, site: int, shape: tuple[int, ...]) -> jax.Array:
    def of_example(key: jax.Array) -> jax.Array:
        return jax.random.bits(keys.fast(keys.fold_in(key, jnp.asarray(site, jnp.int32))), shape)

    return jax.vmap(of_example, out_axes=-1)(own)


_bits = keys.alone(_drawn, (1, 2))
"""A piece of code of its own: merged with a gradient, the compiler draws the same mask several times."""


def spectral_norm(weight: jax.Array) -> jax.Array:
    r"""The largest singular value σ of a weight, its axes but the first taken together.

    With u, v its singular vectors, :math:`\sigma = u^T W v` and :math:`d\sigma/dW = u v^T`: u and v are held while it is
    differentiated. u is the longest column of :math:`(W W^T)^{2^{20}}`, by repeated squaring; nothing is carried from one
    call to the next, so that a network is a function of its weights. PyTorch's ``spectral_norm`` carries u and makes one
    step a call; its :math:`u^T W v` is never above σ.

    Parameters
    ----------
    weight : (outputs, ...) real, finite and not all 0; NaN otherwise. The cost is 20 products of matrices of the smaller side.

    Returns
    -------
    σ, a scalar [weight]. Of two equal largest singular values either may give the derivative.

    Source: Miyato et al. 2018 (arXiv 1802.05957) for its use; the bound on its error is derived for this project.

    >>> import jax.numpy as jnp
    >>> from mutagrad.lab.tasks.regularization import spectral_norm
    >>> round(float(spectral_norm(jnp.array([[3.0, 0.0], [4.0, 0.0]]))), 5)
    5.0
    """
    matrix = weight.reshape(weight.shape[0], -1)
    if math.prod(matrix.shape[1:]) < matrix.shape[0]:
        matrix = matrix.T
    highest = jax.lax.Precision.HIGHEST
    held = jax.lax.stop_gradient(matrix)
    # Scaled, so that no square leaves the range of float32.
    held = held / jnp.max(jnp.abs(held))

    def squared(_: Any, power: jax.Array) -> jax.Array:
        power = power / jnp.trace(power)
        return jnp.matmul(power, power, precision=highest)

    power = jax.lax.fori_loop(0, _SQUARINGS, squared, jnp.matmul(held, held.T, precision=highest))
    u = power[:, jnp.argmax(jnp.diagonal(power))]
    u = u / jnp.linalg.norm(u)
    v = jnp.matmul(u, held, precision=highest)
    v = v / jnp.linalg.norm(v)
    return jnp.matmul(jnp.matmul(u, matrix, precision=highest), v, precision=highest)
