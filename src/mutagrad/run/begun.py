"""What the file of a lineage may say: how its run began, and which rows it has; anything else is refused."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mutagrad.evaluation.local import check_mode

__all__ = ["Begun", "are_rows", "begun"]

_COLUMNS = (
    {"winner", "sigma", "checksum"},
    {"ancestors", "sigma", "checksum"},
    {"ancestors", "shares", "sigma", "checksum"},
    {"losses", "parent_loss", "sigma", "checksum"},
    {"losses", "checksum"},
)


class Begun(NamedTuple):
    """How a run began: what `start_of` says."""

    key: jax.Array
    generation: int
    checksum: int
    evaluation: str | int | None


def begun(said: dict[str, Any]) -> Begun:
    """What a lineage says of how its run began, each of its kind; a ValueError if it says anything else."""
    try:
        key = jax.random.wrap_key_data(jnp.asarray(np.asarray(said["key"], np.uint32)), impl=said["generator"])
        mode = None if said["evaluation"] is None else check_mode(said["evaluation"])
        found = Begun(key, said["generation"], said["checksum"], mode)
        is_known = len(said) == 5 and type(found.generation) is int and type(found.checksum) is int and key.shape == ()
    except (KeyError, TypeError, ValueError, OverflowError):
        is_known = False
    if not is_known or found.generation < 0:
        raise ValueError("lineage: got one that does not say how its run began; restore it")
    return found


def are_rows(columns: dict[str, np.ndarray]) -> bool:
    """Whether the columns are those of a lineage, by names, dtypes and axes."""
    kinds = {"winner": jnp.signedinteger, "ancestors": jnp.signedinteger, "checksum": jnp.uint32}
    # Several parents have as many winners.
    axes = {"losses": (2,), "winner": (1, 2), "ancestors": (3,), "shares": (3,)}
    are_right = all(
        column.ndim in axes.get(name, (1,)) and jnp.issubdtype(column.dtype, kinds.get(name, jnp.floating))
        for name, column in columns.items()
    )
    return are_right and columns.keys() in _COLUMNS
