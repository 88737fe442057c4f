"""Pairs of opposite mutations of a loss that is ordinary Python, evaluated as `mutagrad.executor` does."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mutagrad import tree
from mutagrad.evaluation.local import Evaluator
from mutagrad.evaluation.losses import Losses, told
from mutagrad.types import Mutation, Params

__all__ = ["Candidates", "evaluate_in_python"]


class Candidates:
    """Params to evaluate, made one at a time: what an evaluator asks of the offspring of a generation."""

    def __init__(self, number: int, make_fn: Callable[[int], Params]):
        self._number, self._make_fn = number, make_fn

    def __len__(self) -> int:
        return self._number

    def __getitem__(self, index: int) -> Params:
        return self._make_fn(index)

    def __iter__(self) -> Iterator[Params]:
        return map(self._make_fn, range(self._number))

    def stacked(self) -> Params:
        """All of them; leaves that are floating or differ with a leading axis."""
        rows = [jax.tree.map(np.asarray, one) for one in self]
        is_shared = jax.tree.map(lambda *leaves: not tree.is_floating(leaves[0]) and _are_equal(leaves), *rows)
        return jax.tree.map(lambda shared, *leaves: leaves[0] if shared else np.stack(leaves), is_shared, *rows)


def _are_equal(leaves: tuple) -> bool:
    return all(np.array_equal(leaves[0], leaf) for leaf in leaves)


def evaluate_in_python(evaluator: Evaluator, loss_fn: Callable, mutation: Mutation, number: int) -> Callable:
    """What evaluates so many pairs, with the parent first and once more at the end.

    Returns
    -------
    ``evaluate(params, batch, sigma, key)``, which returns half the differences and half the sums of the pairs, the sampling
    variances of the former, the parent's loss, the root mean square of its per-example losses, how much more it was the
    second time, and how many examples there were. NaN where a loss failed.
    """

    @jax.jit
    def mutant(params: Params, sigma: jax.Array, key: jax.Array) -> Params:
        return tree.add_scaled(params, mutation.sample_fn(key, params), sigma)

    def candidate(params: Params, sigma: float, key: jax.Array, index: int) -> Params:
        if index in (0, 2 * number + 1):
            return params
        sign = 1.0 if index % 2 == 1 else -1.0
        return mutant(params, jnp.asarray(sign * sigma), jax.random.fold_in(key, (index + 1) // 2))

    def evaluate(params: Params, batch: Any, sigma: Any, key: jax.Array) -> tuple[Any, ...]:
        candidates: Any = Candidates(2 * number + 2, partial(candidate, params, float(sigma), key))
        losses = evaluator.evaluate_fn(loss_fn, candidates)
        if not isinstance(losses, Losses):
            # In double precision, of which per-example losses are kept.
            losses = [np.nan if one is None else np.asarray(one, np.float64) for one in losses]
        found = told(losses, len(candidates), None)
        values = np.asarray(found.values if found.values is not None else found.means[:, None], np.float64)
        relative = values - values[0]
        odd, even = (relative[1:-1:2] - relative[2::2]) / 2, (relative[1:-1:2] + relative[2::2]) / 2
        variance = odd.var(axis=1) / max(odd.shape[1] - 1, 1)
        size = np.sqrt(np.mean(values[0] ** 2))
        again = relative[-1].mean()
        return odd.mean(axis=1), even.mean(axis=1), variance, values[0].mean(), size, again, values.shape[1]

    return evaluate
