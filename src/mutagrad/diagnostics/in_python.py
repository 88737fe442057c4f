"""Pairs of opposite mutations, as they are evaluated; and how, for a loss that is ordinary Python (`mutagrad.executor`)."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mutagrad import tree
from mutagrad.evaluation.local import Evaluator
from mutagrad.evaluation.losses import Losses, told
from mutagrad.failures import Failure
from mutagrad.types import Mutation, Params

__all__ = ["AGAIN", "Candidates", "Evaluated", "evaluate_in_python", "losses_in_python", "not_finite"]

AGAIN = 4
"""Mutants of a call, the first ones, that are evaluated twice."""


class Evaluated(NamedTuple):
    """What one call of a program that evaluates n pairs tells.

    Attributes
    ----------
    odd, even : half the difference of the losses of each pair, and their mean less the parent's loss, (n,) [loss].
    noise : sampling variance of ``odd`` over the examples, (n,) [loss²].
    num_failed : of the 2n mutants, those of which the loss was not finite.
    loss : of the parent [loss].
    spread : root mean square of the parent's per-example losses [loss].
    again : loss of the params a second time less the first; NaN for a compiled loss [loss].
    mutants_again : the same of the first mutants; empty for a compiled loss [loss].
    num_examples : per-example losses.
    epsilon : rounding unit of the losses.
    """

    odd: Any
    even: Any
    noise: Any
    num_failed: Any
    loss: Any
    spread: Any
    again: Any
    mutants_again: Any
    num_examples: Any
    epsilon: Any


def not_finite(loss: float, what: str = "") -> ValueError:
    """What to raise where the parent itself has no finite loss."""
    why = f"; it {what}" if what else ""
    return ValueError(
        f"loss_fn: got {loss} at the params, before any mutation{why}; pass params at which the loss is finite"
    )


class Candidates:
    """Params to evaluate, made one at a time: what an evaluator asks of the offspring of a generation."""

    def __init__(self, number: int, make_fn: Callable[[int], Params], noise: Any):
        self._number, self._make_fn, self._noise = number, make_fn, noise

    def __len__(self) -> int:
        return self._number

    def __getitem__(self, index: int) -> Params:
        return self._make_fn(index)

    def __iter__(self) -> Iterator[Params]:
        return map(self._make_fn, range(self._number))

    def stacked(self) -> Params:
        """All of them at once: leaves that are mutated or floating with a leading axis (n,), the others as they are."""
        rows = [jax.tree.map(np.asarray, one) for one in self]

        def joined(leaf: Any, noise: Any, *others: Any) -> Any:
            has_axis = tree.is_mutated(leaf, noise) or tree.is_floating(leaf)
            return np.stack([leaf, *others]) if has_axis else leaf

        return jax.tree.map(joined, rows[0], self._noise, *rows[1:])


def _number(loss: Any) -> Any:
    """In double precision, of which per-example losses are kept."""
    if loss is None:
        return np.nan
    loss = np.asarray(loss)
    if np.iscomplexobj(loss):
        raise ValueError(f"loss_fn: got {loss.dtype} back; return floating losses (such as the real part)")
    try:
        return loss.astype(np.float64)
    except (TypeError, ValueError):
        raise ValueError(
            f"loss_fn: got {loss.dtype} back; return a floating number or a vector of per-example losses"
        ) from None


def losses_in_python(evaluator: Evaluator, loss_fn: Callable, candidates: Any, must_tell: bool = True) -> Losses:
    """Losses of candidates, the params themselves first; a ValueError where these raised, if they must tell something.

    Where the evaluator returns numbers, ``values`` are kept in double precision.
    """
    losses = evaluator.evaluate_fn(loss_fn, candidates)
    if isinstance(losses, Losses):
        return losses
    if isinstance(losses[0], Failure) and must_tell:
        raise not_finite(float(losses[0]), losses[0].words)
    numbers = [_number(one) for one in losses]
    found = told(numbers, len(candidates), None)
    values: Any = np.stack([np.broadcast_to(np.ravel(one), (found.num_examples,)) for one in numbers])
    return found._replace(values=values)


def _epsilon(values: np.ndarray) -> float:
    """Rounding unit of losses: that of float32 where none has more digits, whatever type they came in."""
    known = values[np.isfinite(values)]
    with np.errstate(over="ignore"):
        is_single = np.array_equal(known.astype(np.float32), known)
    return float(np.finfo(np.float32 if is_single else np.float64).eps)


def evaluate_in_python(evaluator: Evaluator, loss_fn: Callable, mutation: Mutation, number: int) -> Callable:
    """What evaluates so many pairs, with the parent first, and it and the first mutants once more at the end.

    Returns
    -------
    ``evaluate(params, batch, sigma, key)``, which returns what was `Evaluated`, NaN where a loss failed; a ValueError where the
    parent's raised.
    """

    @jax.jit
    def mutant(params: Params, sigma: jax.Array, key: jax.Array) -> Params:
        return tree.add_scaled(params, mutation.sample_fn(key, params), sigma)

    def candidate(params: Params, sigma: float, key: jax.Array, index: int) -> Params:
        if index in (0, 2 * number + 1):
            return params
        index -= (2 * number + 1) * (index > 2 * number)
        sign = 1.0 if index % 2 == 1 else -1.0
        return mutant(params, jnp.asarray(sign * sigma), jax.random.fold_in(key, (index + 1) // 2))

    has_told = False

    def evaluate(params: Params, batch: Any, sigma: Any, key: jax.Array) -> Evaluated:
        nonlocal has_told
        noise = jax.eval_shape(mutation.sample_fn, key, params)
        candidates: Any = Candidates(2 * number + 2 + AGAIN, partial(candidate, params, float(sigma), key), noise)
        found = losses_in_python(evaluator, loss_fn, candidates, not has_told)
        values = np.asarray(found.values if found.values is not None else found.means[:, None], np.float64)
        has_told, relative = True, values - values[0]
        mutants, again = relative[1 : 2 * number + 1], relative[2 * number + 1 :]
        odd, even = (mutants[::2] - mutants[1::2]) / 2, (mutants[::2] + mutants[1::2]) / 2
        variance = odd.var(axis=1) / max(odd.shape[1] - 1, 1)
        size = np.sqrt(np.mean(values[0] ** 2))
        return Evaluated(
            odd.mean(axis=1),
            even.mean(axis=1),
            variance,
            np.sum(~np.isfinite(values[1 : 2 * number + 1].mean(axis=1))),
            values[0].mean(),
            size,
            again[0].mean(),
            (again[1:] - mutants[:AGAIN]).mean(axis=1),
            values.shape[1],
            _epsilon(values),
        )

    return evaluate
