"""The records of a run that goes on: those that it had before, or a refusal."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mutagrad import tree
from mutagrad.types import Algorithm, Info

__all__ = ["same_records"]


def same_records(
    past: Any,
    key: jax.Array,
    algorithm: Algorithm,
    state: Any,
    number: int,
    record: Callable[[Any, Info], Any],
    is_saved: bool,
) -> Any:
    """The history so far, in the structure of what is recorded; a ValueError if that is something else.

    A journal has its dtypes for good; a history in memory takes others in.
    """

    def recorded(key: jax.Array, state: Any) -> Any:
        return jax.tree.map(jnp.asarray, record(*algorithm.tell(key, state, jnp.zeros(number))))

    wanted = jax.eval_shape(recorded, key, state)
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
