"""A run on disk: config.json, history.zarr, a checkpoint, the final parameters and a figure."""

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["append_history", "create", "read_config", "read_history", "write_arrays", "write_json"]

_REPLACED = ".old"


def create(folder: Path) -> None:
    """Make a new run folder.

    Raises
    ------
    FileExistsError : if it exists; nothing in it is touched.
    OSError : if it cannot be made or written.
    """
    if folder.exists():
        raise FileExistsError(
            f"out: got {str(folder)!r}, which exists; pass a new folder, or --resume to go on with it"
        )
    try:
        folder.mkdir(parents=True)
        (folder / ".writable").touch()
        (folder / ".writable").unlink()
    except OSError as error:
        raise OSError(
            f"out: got {str(folder)!r}, which cannot be written ({error.strerror}); pass another folder"
        ) from None


def read_config(folder: Path) -> dict[str, Any]:
    """The settings of a run.

    Raises
    ------
    FileNotFoundError : if there is no run in the folder.
    ValueError : if its config.json is damaged.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"out: got {str(folder)!r}, which holds no run to resume (no config.json); check the path"
        )
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"out: got {str(path)!r}, which is damaged ({error}); start a new run") from None


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    temporary.replace(path)


def append_history(
    folder: Path, records: dict[str, np.ndarray], measured: dict[str, list], attributes: dict, last_generation: int
) -> Any:
    """Write history.zarr: what was recorded every generation, and what was measured now and then; returns it as xarray.

    The records end at ``last_generation``. What was written before of the same run comes first, up to the generation at
    which these begin: a sitting that was killed may have written records later than the checkpoint that it left.
    """
    import xarray

    earlier = read_history(folder)
    number = len(next(iter(records.values())))
    if earlier is not None:
        first = last_generation - number
        earlier = earlier.sel(generation=earlier.generation <= first)
        earlier = earlier.isel(measurement=earlier.measured_generation.values < measured["measured_generation"][0])
    history = xarray.Dataset(
        {name: ("generation", values) for name, values in records.items()}
        | {name: ("measurement", np.asarray(values)) for name, values in measured.items()},
        coords={"generation": np.arange(last_generation - number, last_generation) + 1},
        attrs=attributes,
    )
    if earlier is not None:
        # A run that an earlier version began may lack what is recorded now.
        missing = np.full(earlier.sizes["generation"], np.nan)
        earlier = earlier.assign({name: ("generation", missing) for name in records if name not in earlier})
        parts = [
            xarray.concat([earlier[names], history[names]], dim)
            for dim, names in (("generation", list(records)), ("measurement", list(measured)))
        ]
        history = xarray.merge(parts).assign_attrs(attributes)
    path, temporary, replaced = (folder / f"history.zarr{ending}" for ending in ("", ".tmp", _REPLACED))
    shutil.rmtree(temporary, ignore_errors=True)
    history.to_zarr(temporary, mode="w", zarr_format=2, consolidated=True)
    # A folder cannot be replaced in one step: killed between the two, a run still has the earlier history.
    if path.exists():
        shutil.rmtree(replaced, ignore_errors=True)
        path.rename(replaced)
    temporary.rename(path)
    shutil.rmtree(replaced, ignore_errors=True)
    return history


def read_history(folder: Path) -> Any:
    """history.zarr as an xarray Dataset in memory, or ``None`` if the run has none yet."""
    import xarray

    path, replaced = folder / "history.zarr", folder / f"history.zarr{_REPLACED}"
    if not path.exists() and replaced.exists():
        replaced.rename(path)
    if not path.exists():
        return None
    with xarray.open_zarr(path, consolidated=True) as history:
        return history.load()


def write_arrays(folder: Path, name: str, tree: Any) -> None:
    """Write NAME.safetensors, a flat file of arrays by the path of their leaf."""
    from safetensors.flax import save_file

    arrays = {jax.tree_util.keystr(path): jnp.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
    temporary = folder / f"{name}.tmp"
    save_file(arrays, str(temporary))
    temporary.replace(folder / f"{name}.safetensors")
