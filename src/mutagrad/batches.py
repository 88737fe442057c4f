"""Batches drawn inside the compiled loop, from data that stay on the device."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mutagrad import check

__all__ = ["Minibatches", "minibatches"]


class Minibatches(NamedTuple):
    """Data and how to draw a batch from them; see `minibatches`."""

    data: Any
    batch_size: int | None

    def draw(self, key: jax.Array, data: Any) -> Any:
        """A batch of ``data`` (passed in, so that a compiled loop does not hold them as a constant)."""
        if self.batch_size is None:
            return data
        number = jax.tree.leaves(data)[0].shape[0]
        rows = jax.random.randint(key, (self.batch_size,), 0, number)
        return jax.tree.map(lambda leaf: jnp.take(leaf, rows, axis=0, mode="clip"), data)


def minibatches(data: Any, batch_size: int | None = None) -> Minibatches:
    """Uniform batches from data on the device, a fresh one each generation, shared by parent and offspring.

    Examples are drawn with replacement, so that the gradient of a batch has covariance C/B exactly (theory.md 8).

    Parameters
    ----------
    data : pytree of arrays that share their first axis, the examples.
    batch_size : B ≥ 1, or ``None`` for all the data each generation.

    Returns
    -------
    Minibatches, for the ``batches`` argument of `mutagrad.evolve`.

    Raises
    ------
    ValueError : if the batch size is below 1, or the arrays are empty or differ in their number of examples.

    >>> import jax.numpy as jnp, mutagrad
    >>> mutagrad.minibatches((jnp.zeros((10, 3)), jnp.zeros(10)), batch_size=4).batch_size
    4
    """
    data = jax.tree.map(jnp.asarray, data)
    counts = {leaf.shape[0] if leaf.ndim else 0 for leaf in jax.tree.leaves(data)}
    if len(counts) != 1 or counts == {0}:
        raise ValueError(
            f"data: got arrays of {sorted(counts)} examples; pass arrays with one common, positive number of examples"
        )
    if batch_size is not None:
        batch_size = check.count("batch_size", batch_size)
    return Minibatches(data, batch_size)
