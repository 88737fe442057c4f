"""A run's state on disk, by Orbax: written whole or not at all, read back bit for bit."""

from os import PathLike
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mutagrad import tree

__all__ = ["restore_or", "save"]


def _orbax() -> Any:
    try:
        import orbax.checkpoint as ocp
    except ImportError:
        raise ImportError("checkpoint: needs orbax-checkpoint; pip install 'mutagrad[lab]'") from None
    return ocp


def _by_path(state: Any) -> dict[str, jax.Array]:
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state)}


def _as_dict(key: jax.Array, state: Any) -> dict[str, Any]:
    """Arrays by the path of their leaf, so that no class of ours is part of the format."""
    # Orbax saves no arrays without entries.
    leaves = {name: leaf for name, leaf in _by_path(state).items() if leaf.size}
    return {"state": leaves, "key": jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key}


def save(folder: str | PathLike, key: jax.Array, state: Any, history: Any = None) -> None:
    """Save the state and the history of a run in ``folder``; the newest two are kept.

    Parameters
    ----------
    folder : where the checkpoints of this run live.
    key : key of the run, saved to refuse another one when the run goes on.
    state : the algorithm's state.
    history : what was recorded, a pytree of NumPy arrays, or ``None``.
    """
    ocp = _orbax()
    step = int(state.generation)
    content = _as_dict(key, state)
    if history is not None:
        content["history"] = {name: np.ascontiguousarray(leaf) for name, leaf in tree.by_name(history).items()}
    with ocp.CheckpointManager(Path(folder).resolve(), options=ocp.CheckpointManagerOptions(max_to_keep=2)) as manager:
        if step not in manager.all_steps():
            manager.save(step, args=ocp.args.StandardSave(content))


def restore_or(folder: str | PathLike, key: jax.Array, state: Any, history: Any = None) -> tuple[Any, Any]:
    """The newest saved state and history in ``folder``, or those given if there is none.

    Raises
    ------
    ValueError : if the checkpoint is of a run with another key, or of another model or algorithm.
    """
    ocp = _orbax()
    path = Path(folder).resolve()
    if not path.exists():
        return state, history
    if not path.is_dir():
        raise ValueError(f"checkpoint: got {folder}, which is a file; pass a folder")
    with ocp.CheckpointManager(path) as manager:
        step = manager.latest_step()
        if step is None:
            return state, history
        saved = manager.restore(step, args=ocp.args.StandardRestore())
    wanted = _as_dict(key, state)
    shapes = {name: (np.shape(leaf), str(leaf.dtype)) for name, leaf in wanted["state"].items()}
    found = {name: (np.shape(leaf), str(leaf.dtype)) for name, leaf in saved["state"].items()}
    if shapes != found:
        name = next(name for name in {**shapes, **found} if shapes.get(name) != found.get(name))
        raise ValueError(
            f"checkpoint: got {folder} with {name} {found.get(name, 'missing')} where this run has "
            f"{shapes.get(name, 'none')}; continue with the model and algorithm that it was saved with"
        )
    if not np.array_equal(saved["key"], wanted["key"]):
        raise ValueError(f"checkpoint: got {folder}, saved by a run with another key; pass that run's key")
    leaves = [jnp.asarray(saved["state"].get(name, leaf)) for name, leaf in _by_path(state).items()]
    records = saved.get("history")
    past = None if records is None else {name: np.array(leaf) for name, leaf in records.items()}
    return jax.tree.unflatten(jax.tree.structure(state), leaves), past
