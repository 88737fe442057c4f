"""Losses of the candidates of one generation, compared with their parent example by example."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mutagrad import tree
from mutagrad.types import Params

__all__ = ["Losses", "check_loss_fn", "compare", "finite_reference", "number_told", "of_values", "per_example", "told"]


class Losses(NamedTuple):
    """Losses of the n candidates of a generation, in the order of ``ask``: what every evaluator returns, and ``tell`` takes.

    Attributes
    ----------
    means : (n,) loss of each [loss].
    differences : (n,) mean of the paired per-example differences from the reference [loss].
    variances : (n,) sampling variance of these means over the examples [loss²]; 0 for a scalar loss.
    values : (n, B) all per-example losses, where they are kept; otherwise ``None``.
    num_examples : B, as an int.
    """

    means: jax.Array
    differences: jax.Array
    variances: jax.Array
    values: jax.Array | None
    num_examples: Any

    def take(self, which: slice) -> "Losses":
        """Those of some of the candidates."""
        values = None if self.values is None else self.values[which]
        return Losses(self.means[which], self.differences[which], self.variances[which], values, self.num_examples)


class NotTraceable(ValueError):
    """A loss that is ordinary Python where JAX must trace it; ``reason`` is JAX's own."""

    def __init__(self, reason: str):
        super().__init__(
            f"loss_fn: JAX cannot trace it ({reason[:100]}); if it is ordinary Python, pass "
            "evaluation=mutagrad.executor() to mutagrad.evolve or mutagrad.diagnose, or use ask and tell"
        )
        self.reason = reason


_TRACED = (jax.errors.JAXTypeError, jax.errors.JAXIndexError, jax.errors.UnexpectedTracerError)


def per_example(loss_fn: Callable[..., Any]) -> Callable[..., jax.Array]:
    """The loss as a vector of per-example losses in at least float32; a scalar loss is one example.

    Raises
    ------
    ValueError : when called, if the loss is not a floating scalar or a floating vector of one example or more, or is
        ordinary Python that JAX cannot trace.
    """

    def values(*candidates: Params) -> jax.Array:
        try:
            loss = loss_fn(*candidates)
        except _TRACED as error:
            raise NotTraceable(str(error).splitlines()[0]) from None
        return check_losses(loss)

    return values


def check_losses(loss: Any) -> jax.Array:
    """What a loss returned, as a vector of per-example losses; a ValueError if it is none."""
    try:
        loss = jnp.asarray(loss)
    except (TypeError, ValueError):
        raise ValueError(
            f"loss_fn: got a {type(loss).__name__} back; return a floating scalar or a vector of per-example losses"
        ) from None
    if not jnp.issubdtype(loss.dtype, jnp.floating):
        raise ValueError(f"loss_fn: got {loss.dtype} back; return floating losses (cast with .astype(jnp.float32))")
    if loss.ndim > 1:
        raise ValueError(
            f"loss_fn: got shape {loss.shape} back; return a scalar or one loss per example, of rank 1 "
            "(average over the other axes)"
        )
    if loss.size == 0:
        raise ValueError("loss_fn: got no losses, shape (0,); pass a batch of at least one example")
    return jnp.atleast_1d(loss).astype(tree.compute_dtype(loss))


def check_loss_fn(loss_fn: Any, has_batch: bool = False, sees_everyone: bool = False) -> None:
    """Refuse a loss that is no function, or takes another number of arguments."""
    names = ["params", *(["everyone"] if sees_everyone else []), *(["batch"] if has_batch else [])]
    wanted = f"loss_fn({', '.join(names)})"
    if not callable(loss_fn):
        raise ValueError(f"loss_fn: got {loss_fn!r}; pass a function {wanted}")
    try:
        signature = inspect.signature(loss_fn)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*([None] * len(names)))
    except TypeError as error:
        hint = "" if has_batch else " (a loss of a batch needs batches=)"
        raise ValueError(
            f"loss_fn: got one that cannot be called as {wanted}: {error}; pass one that can{hint}"
        ) from None


def finite_reference(values: jax.Array) -> jax.Array:
    """Per-example losses to subtract: zeros in place of a parent whose own loss is not finite."""
    return jnp.where(jnp.isfinite(jnp.mean(values)), values, 0)


def compare(values: jax.Array, reference: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean of the paired differences of per-example losses (B,) from a reference (B,), and its sampling variance."""
    reference = reference.astype(values.dtype)
    # Fused with the sum behind a loss, a subtraction keeps more digits than the reference has, and candidates that are alike
    # would differ by its rounding. A comparison sees both rounded.
    differences = jnp.where(values == reference, 0, values - reference)
    difference = jnp.mean(differences)
    # A float: the product of two large sizes is no int32.
    variance = jnp.sum(jnp.square(differences - difference)) / float(values.size * max(values.size - 1, 1))
    return difference, variance


def of_values(values: jax.Array, reference: jax.Array | None = None, keep_values: bool = False) -> Losses:
    """Losses from all per-example losses (n, B), compared with a reference (B,) or with those of the first candidate."""
    first = finite_reference(values[0] if reference is None else reference)
    differences, variances = jax.vmap(lambda one: compare(one, first))(values)
    return Losses(jnp.mean(values, axis=1), differences, variances, values if keep_values else None, values.shape[1])


def number_told(losses: Any) -> int:
    """Of the candidates whose losses a caller of ``tell`` passes; −1 if there is no saying."""
    try:
        return len(losses.means if isinstance(losses, Losses) else losses)
    except TypeError:
        return -1


def told(losses: Any, number: int, reference: jax.Array | None) -> Losses:
    """What a caller of ``tell`` passes, as `Losses`.

    Numbers of more digits than JAX's are compared before they are rounded, unless the parent's loss was kept, which is rounded.

    Raises
    ------
    ValueError : if there are not as many as candidates, or they are no losses.
    """
    if isinstance(losses, Losses):
        if len(losses.means) != number:
            raise ValueError(
                f"losses: got {len(losses.means)} for {number} candidates; pass one for each, in the order of ask"
            )
        return losses
    if not isinstance(losses, jax.Array):
        losses = _as_numbers(losses)
    if losses.ndim not in (1, 2) or losses.shape[0] != number or losses.size == 0:
        raise ValueError(
            f"losses: got shape {tuple(losses.shape)} for {number} candidates; pass one loss for each, or (n, examples), in "
            "the order of ask (parents first)"
        )
    if not jnp.issubdtype(losses.dtype, jnp.floating):
        raise ValueError(f"losses: got {losses.dtype}; pass floating numbers")
    values = losses[:, None] if losses.ndim == 1 else losses
    keep = reference is not None
    is_double = isinstance(values, np.ndarray) and values.dtype == np.float64
    if is_double and not keep and not jax.config.read("jax_enable_x64"):
        return _in_full_precision(values)
    values = jnp.asarray(values)
    return of_values(values.astype(tree.compute_dtype(values)), reference, keep)


def _as_numbers(losses: Any) -> np.ndarray:
    try:
        rows = [np.nan if one is None else np.asarray(one) for one in losses]
        width = max((np.size(row) for row in rows), default=0)
        has_examples = any(np.ndim(row) for row in rows)
        # A failed evaluation is one NaN, however many examples there are.
        alike = [np.full(width, row) if has_examples and np.size(row) == 1 else row for row in rows]
        return np.stack(alike).astype(np.result_type(np.float32, *rows))
    except (TypeError, ValueError):
        raise ValueError(
            "losses: got something else than numbers of one shape; pass a sequence of floats, or of arrays of per-example losses"
        ) from None


def _in_full_precision(values: np.ndarray) -> Losses:
    with np.errstate(invalid="ignore", over="ignore"):
        means = values.mean(axis=1)
        reference = values[0] if np.isfinite(means[0]) else np.zeros_like(values[0])
        apart = values - reference
        differences = apart.mean(axis=1)
        count = values.shape[1]
        variances = np.square(apart - differences[:, None]).sum(axis=1) / float(count * max(count - 1, 1))
    return Losses(jnp.asarray(means), jnp.asarray(differences), jnp.asarray(variances), jnp.asarray(values), count)
