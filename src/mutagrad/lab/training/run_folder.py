"""A run on disk: config.json, journals, checkpoints, and at the end history.zarr, parameters, figures and their sums."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mutagrad.lab.training.options import TrainConfig, from_saved
from mutagrad.run import journal, sums
from mutagrad.run.saved import HISTORY

__all__ = [
    "MEASUREMENTS",
    "create",
    "damage",
    "is_ended",
    "read_config",
    "read_history",
    "read_measurements",
    "read_settings",
    "seal",
    "write_arrays",
    "write_config",
    "write_history",
]

MEASUREMENTS = "measurements.journal"
_CONFIG = "config.json"
_MANIFEST = "manifest.json"
_SEALED = ("config.json", "inputs.safetensors", "params.safetensors", "training.png")
_REPLACED = ".old"
_CHUNK = 65_536
"""Generations of a chunk of history.zarr."""


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
    path = folder / _CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"run: got {str(folder)!r}, which holds no run (no config.json); check the path")
    if why := [one for one in damage(folder) if one.startswith((_CONFIG, _MANIFEST))]:
        raise ValueError(
            f"run: got {str(folder)!r}, whose {why[0]} since the run wrote it; restore it, or start a new run"
        )
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


def write_config(folder: Path, content: dict[str, Any]) -> None:
    """Write config.json whole or not at all; what is not finite becomes null, which JSON has.

    Until `seal` is called, manifest.json knows this one and the one before, and nothing of what is to be written anew.
    """
    text = json.dumps(_finite(content), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    before = (sums.read_signed(folder / _MANIFEST) or {"files": {}})["files"]
    listed = {name: before[name] for name in ("inputs.safetensors",) if name in before}
    listed[_CONFIG] = sorted({sums.sum_of_text(text), *before.get(_CONFIG, ())})
    sums.write_signed(folder / _MANIFEST, {"files": listed})
    sums.write_whole(folder / _CONFIG, text)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_history(folder: Path, history: Any, attributes: dict[str, Any]) -> None:
    """Write history.zarr, for other tools to open: an xarray Dataset as `read_history` gives it.

    Zarr of format 3; each of its chunks has a checksum (CRC-32C).
    """
    from zarr.codecs import Crc32cCodec, ZstdCodec

    path, temporary, replaced = (folder / f"history.zarr{ending}" for ending in ("", ".tmp", _REPLACED))
    shutil.rmtree(temporary, ignore_errors=True)
    codecs = (ZstdCodec(level=3), Crc32cCodec())
    encoding = {name: {"compressors": codecs, "chunks": (_CHUNK,)} for name in history.variables}
    for values in history.variables.values():
        values.encoding = {}
    history = history.assign_attrs(attributes)
    history.to_zarr(temporary, mode="w", zarr_format=3, consolidated=False, encoding=encoding)
    # A folder cannot be replaced in one step: killed between the two, a run still has the earlier one.
    if path.exists():
        shutil.rmtree(replaced, ignore_errors=True)
        path.rename(replaced)
    temporary.rename(path)
    shutil.rmtree(replaced, ignore_errors=True)


def as_dataset(records: dict[str, np.ndarray], measured: dict[str, Any]) -> Any:
    """A history as an xarray Dataset, with the dimensions ``generation`` and ``measurement``."""
    import xarray

    number = len(next(iter(records.values())))
    return xarray.Dataset(
        {name: ("generation", values) for name, values in records.items()}
        | {name: ("measurement", np.asarray(values)) for name, values in measured.items()},
        coords={"generation": np.arange(number) + 1},
    )


def read_history(folder: Path) -> Any:
    """What was recorded every generation, and what was measured now and then, as far as it is whole; ``None`` if nothing was.

    A run may go on meanwhile. Returns an xarray Dataset in memory.

    Raises
    ------
    ValueError : if what is there is damaged throughout.
    """
    try:
        records = journal.read(folder / "checkpoint" / HISTORY).columns
    except FileNotFoundError:
        return _exported(folder)
    if not records or not len(next(iter(records.values()))):
        return None
    number = len(next(iter(records.values())))
    measured = read_measurements(folder)
    if measured:
        # What was measured is of the generations that are recorded.
        known = int(np.searchsorted(measured["measured_generation"], number, side="right"))
        measured = {name: values[:known] for name, values in measured.items()}
    return as_dataset(records, measured)


def _exported(folder: Path) -> Any:
    """history.zarr, where the journals are not at hand."""
    import xarray

    path = next(
        (path for path in (folder / "history.zarr", folder / f"history.zarr{_REPLACED}") if path.exists()), None
    )
    if path is None:
        return None
    with xarray.open_zarr(path, consolidated=False) as history:
        return history.load()


def read_measurements(folder: Path) -> dict[str, np.ndarray]:
    """What was measured now and then, as far as it is whole; nothing if it is damaged at its head."""
    try:
        return journal.read(folder / MEASUREMENTS).columns
    except (FileNotFoundError, ValueError):
        return {}


def seal(folder: Path) -> None:
    """Write manifest.json, the SHA-256 sums of all that a run has written to its end.

    Journals and checkpoints, which have sums of their own, are not in it.
    """
    found = sums.sums_of(folder, [name for name in sums.files_of(folder) if _is_sealed(name)], sync=True)
    sums.write_signed(folder / _MANIFEST, {"files": {name: [one] for name, one in found.items()}})


def _is_sealed(name: str) -> bool:
    top = name.split("/")[0]
    return top in _SEALED or top == "history.zarr"


def is_ended(folder: Path) -> bool:
    """Whether a sitting has ended in a folder with all that it writes at its end, and that is as it was written."""
    manifest = sums.read_signed(folder / _MANIFEST)
    return manifest is not None and "params.safetensors" in manifest["files"] and not damage(folder)


def damage(folder: Path) -> list[str]:
    """What is damaged in a run folder, apart from journals and checkpoints, each in words; nothing if there is no manifest."""
    if not (folder / _MANIFEST).exists():
        return []
    manifest = sums.read_signed(folder / _MANIFEST)
    if manifest is None:
        return [f"{_MANIFEST} was altered"]
    present = {name for name in manifest["files"] if (folder / name).is_file()}
    own = sums.sums_of(folder, sorted(present))
    return [
        f"{name} {'was altered' if name in present else 'is missing'}"
        for name, allowed in sorted(manifest["files"].items())
        if own.get(name) not in allowed
    ]


def write_arrays(folder: Path, name: str, tree: Any) -> None:
    """Write NAME.safetensors, a flat file of arrays by the path of their leaf."""
    from safetensors.flax import save_file

    arrays = {jax.tree_util.keystr(path): jnp.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
    temporary = folder / f"{name}.tmp"
    temporary.unlink(missing_ok=True)
    save_file(arrays, str(temporary))
    temporary.replace(folder / f"{name}.safetensors")
