"""The loss on a batch, as a function of the parameters alone that still knows its batch."""

from collections.abc import Callable
from functools import partial
from typing import Any

__all__ = ["of_batch", "parts_of"]


def of_batch(loss_fn: Callable[..., Any], batch: Any) -> Callable[..., Any]:
    """``loss_fn(params, batch)`` on one batch: what `mutagrad.evolve` evaluates, and what ``step`` takes.

    Parameters
    ----------
    loss_fn : ``loss_fn(params, batch)``.
    batch : pytree of arrays; for `mutagrad.early_rejection` their first axis is the examples.

    Returns
    -------
    A function of the parameters, from which an evaluator can take loss and batch apart.

    >>> import jax.numpy as jnp
    >>> from mutagrad.evaluation import of_batch
    >>> loss_fn = of_batch(lambda x, batch: (x - batch) ** 2, jnp.arange(3.0))
    >>> loss_fn(1.0).tolist()
    [1.0, 0.0, 1.0]
    """
    return partial(_called, loss_fn, batch)


def _called(loss_fn: Callable[..., Any], batch: Any, *candidates: Any) -> Any:
    return loss_fn(*candidates, batch)


def parts_of(loss_fn: Callable[..., Any]) -> tuple[Callable[..., Any], Any] | None:
    """Loss and batch of what `of_batch` made; ``None`` for any other loss."""
    if isinstance(loss_fn, partial) and loss_fn.func is _called:
        return loss_fn.args
    return None
