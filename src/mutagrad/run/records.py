"""The history of a run: whether it goes on with what was recorded before, and the failed evaluations that are beside it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mutagrad import notice, tree
from mutagrad.evaluation.local import Evaluator
from mutagrad.failures import COUNTS
from mutagrad.run.loop import Chunk
from mutagrad.types import Algorithm, Info

__all__ = ["FAILED", "Failures", "recorded", "same_records"]

FAILED = {
    "num_exceptions": "raised",
    "num_timeouts": "took longer than their timeout",
    "num_dead_workers": "lost their process",
    "num_misshapen": "returned no losses of the right shape",
}
"""What evaluations did that failed, by the name under which the history counts them."""


def recorded(
    key: jax.Array, algorithm: Algorithm, state: Any, number: int, record: Callable[[Any, Info], Any], past: Any = None
) -> Any:
    """What is recorded of a generation of that number of candidates: its structure, shapes and dtypes.

    Where losses may be of two dtypes, in JAX's x64 mode, they are of the one with which ``past``, a history, is such records.
    """

    def recorded(key: jax.Array, state: Any, losses: Any) -> Any:
        return jax.tree.map(jnp.asarray, record(*algorithm.tell(key, state, losses)))

    dtypes = dict.fromkeys((jnp.zeros(()).dtype, jnp.dtype(jnp.float32)))
    found = [jax.eval_shape(recorded, key, state, jax.ShapeDtypeStruct((number,), dtype)) for dtype in dtypes]
    # A history from a checkpoint has names, and no structure.
    names = past if isinstance(past, dict) else tree.by_name(past)
    held = {name: np.asarray(leaf).dtype for name, leaf in names.items()}

    def is_held(one: Any) -> bool:
        return all(held.get(name) == leaf.dtype for name, leaf in tree.by_name(one).items())

    return next(filter(is_held, found), found[0])


def same_records(past: Any, wanted: Any, is_saved: bool) -> Any:
    """The history so far, in the structure of what is recorded; a ValueError if that is something else.

    A journal has its dtypes for good; a history in memory takes others in.
    """
    if jax.tree.structure(past) == jax.tree.structure(wanted):  # type: ignore[operator]
        return _of_kinds(past, wanted, is_saved)
    # A checkpoint knows the names of what was recorded, and no structure.
    names, found = set(tree.by_name(wanted)), set(past if isinstance(past, dict) else tree.by_name(past))
    if names != found:
        other = ", ".join(sorted(names ^ found))
        raise ValueError(
            f"record: got other records than the history that it goes on with ({other}); record what was recorded before"
        )
    return _of_kinds(tree.from_names(past, wanted), wanted, is_saved)


def _of_kinds(past: Any, wanted: Any, is_saved: bool) -> Any:
    for (path, leaf), one in zip(jax.tree_util.tree_leaves_with_path(past), jax.tree.leaves(wanted), strict=True):
        own, other = (one.shape, np.shape(leaf)[1:])
        if is_saved and own == other:
            own, other = one.dtype, np.asarray(leaf).dtype
        if own != other:
            what = "shape" if isinstance(own, tuple) else "dtype"
            raise ValueError(
                f"record{jax.tree_util.keystr(path)}: got {what} {own} where the history that it goes on with has {other}; "
                "record what was recorded before"
            )
    return past


class Failures:
    """Puts the numbers of failed evaluations beside what is recorded, where that is a dictionary, and sums them.

    Parameters
    ----------
    evaluator : of the run. past : its history so far, or ``None``. wanted : what is recorded, as `recorded` has it.
    """

    def __init__(self, evaluator: Evaluator, past: Any, wanted: Any):
        has_counts = isinstance(past, dict) and bool(past.keys() & set(COUNTS.values()))
        is_outside = getattr(evaluator.evaluate_fn, "counts_failures", False)
        self._is_counting = (is_outside or has_counts) and isinstance(wanted, dict)
        self._totals = dict.fromkeys(COUNTS.values(), 0)

    def wanted(self, wanted: Any) -> Any:
        """What the history then has of a generation."""
        if not self._is_counting:
            return wanted
        return wanted | {name: jax.ShapeDtypeStruct((), np.dtype(np.int32)) for name in COUNTS.values()}

    def before(self, past: Any) -> Any:
        """A history in memory that had no such numbers, with zeros."""
        if not self._is_counting or not isinstance(past, dict):
            return past
        number = max((len(column) for column in jax.tree.leaves(past)), default=0)
        return {name: np.zeros(number, np.int32) for name in COUNTS.values()} | past

    def beside(self, records: Any, chunk: Chunk) -> Any:
        """The records of a chunk, with the numbers of failures."""
        counts = chunk.failures or {}
        for name, column in counts.items():
            self._totals[name] += int(np.sum(column))
        if not self._is_counting:
            return records
        zeros = np.zeros(chunk.num_generations, np.int32)
        return records | {name: counts.get(name, zeros) for name in COUNTS.values()}

    def warn(self) -> None:
        """Say how many failed, if any did."""
        failed = {name: total for name, total in self._totals.items() if total and name in FAILED}
        again = self._totals[COUNTS["retry"]]
        if not failed and not again:
            return
        each = ", ".join(f"{total:,} {FAILED[name]}" for name, total in failed.items())
        number = sum(failed.values())
        lost = f"{number:,} evaluation{'s' * (number > 1)} failed ({each})" if failed else "no evaluation was given up"
        more = f"; {again:,} {'was' if again == 1 else 'were'} made again" if again else ""
        notice.warn(f"loss_fn: {lost}{more}; the history counts them")
