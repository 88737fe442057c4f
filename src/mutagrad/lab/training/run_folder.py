"""A run on disk: config.json, history.zarr, a checkpoint, the final parameters and figures."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mutagrad.lab.training.options import TrainConfig, from_saved

__all__ = ["create", "read_config", "read_history", "read_settings", "write_arrays", "write_history", "write_json"]

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
    """config.json of a run: its settings, the versions that ran it, and its outcome once it has ended.

    Raises
    ------
    FileNotFoundError : if there is no run in the folder.
    ValueError : if its config.json is damaged.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"run: got {str(folder)!r}, which holds no run (no config.json); check the path")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError(f"it holds a {type(found).__name__} where names and values belong")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"run: got {str(path)!r}, which is damaged ({error}); start a new run") from None
    return found


def read_settings(folder: Path) -> TrainConfig:
    """The settings of a run; see `read_config`."""
    try:
        return from_saved(read_config(folder).get("settings", {}))
    except ValueError as error:
        raise ValueError(f"run: got {str(folder)!r}; {error}" if "settings:" in str(error) else str(error)) from None


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file whole or not at all; what is not finite becomes null, which JSON has."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(
        json.dumps(_finite(content), indent=2, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    temporary.replace(path)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_history(
    folder: Path, records: dict[str, np.ndarray], measured: dict[str, list], attributes: dict[str, Any]
) -> None:
    """Write history.zarr: what was recorded every generation, and what was measured now and then."""
    history = as_dataset(records, measured, attributes)
    path, temporary, replaced = (folder / f"history.zarr{ending}" for ending in ("", ".tmp", _REPLACED))
    shutil.rmtree(temporary, ignore_errors=True)
    history.to_zarr(temporary, mode="w", zarr_format=2, consolidated=True)
    # A folder cannot be replaced in one step: killed between the two, a run still has the earlier history.
    if path.exists():
        shutil.rmtree(replaced, ignore_errors=True)
        path.rename(replaced)
    temporary.rename(path)
    shutil.rmtree(replaced, ignore_errors=True)


def as_dataset(records: dict[str, np.ndarray], measured: dict[str, list], attributes: dict[str, Any]) -> Any:
    """A history as an xarray Dataset, with the dimensions ``generation`` and ``measurement``."""
    import xarray

    number = len(next(iter(records.values())))
    return xarray.Dataset(
        {name: ("generation", values) for name, values in records.items()}
        | {name: ("measurement", np.asarray(values)) for name, values in measured.items()},
        coords={"generation": np.arange(number) + 1},
        attrs=attributes,
    )


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
