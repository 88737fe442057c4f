"""Losses of every example: what a network is trained on."""

import jax
import jax.numpy as jnp

__all__ = ["cross_entropy", "squared_error"]


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Per-example cross-entropy [nat].

    Parameters
    ----------
    logits : (batch, classes).
    labels : (batch,) integers.

    Returns
    -------
    (batch,) losses.

    >>> import jax.numpy as jnp
    >>> from mutagrad.lab.tasks.losses import cross_entropy
    >>> round(float(cross_entropy(jnp.zeros((1, 10)), jnp.array([3]))[0]), 4)
    2.3026
    """
    chosen = jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
    return jax.nn.logsumexp(logits, axis=1) - chosen


def squared_error(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Per-example squared error [target²].

    Parameters
    ----------
    outputs : (batch, 1).
    targets : (batch,).

    Returns
    -------
    (batch,) losses.

    >>> import jax.numpy as jnp
    >>> from mutagrad.lab.tasks.losses import squared_error
    >>> squared_error(jnp.ones((2, 1)), jnp.array([1.0, 3.0])).tolist()
    [0.0, 4.0]
    """
    return jnp.square(outputs[:, 0] - targets)
