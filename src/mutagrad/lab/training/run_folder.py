"""A run on disk: config.json, journals, checkpoints, and at the end history.zarr, parameters, figures and their sums."""

import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mutagrad import notice
from mutagrad.lab.training import exported
from mutagrad.lab.training.options import TrainConfig, from_saved
from mutagrad.run import journal, sums
from mutagrad.run.files import aside, check_plain, read_json
from mutagrad.run.past import HISTORY

__all__ = [
    "MEASUREMENTS",
    "create",
    "damage",
    "is_ended",
    "read_config",
    "read_history",
    "read_inputs",
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
_USED = (
    *("config.", "manifest.", "measurements.", "checkpoint", "history.", "params.", "inputs.", "training."),
    *("inspect.", "diagnosis.", "landscape."),
)
"""How the names begin of what a run, or a look at it, reads or writes."""
_NEEDED = {"generation", "loss", "sigma", "num_examples", "is_resampled"}
"""What a history has whatever the settings."""
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
    check_plain(folder, "run", lambda name: name.startswith(_USED))
    if not path.is_file():
        raise FileNotFoundError(f"run: got {str(folder)!r}, which holds no run (no config.json); check the path")
    if why := damage(folder, [_CONFIG]):
        raise ValueError(
            f"run: got {str(folder)!r}, whose {why[0]} since the run wrote it; restore it, or start a new run"
        )
    found = read_json(path, "run")
    if not isinstance(found, dict):
        what = f"it holds a {type(found).__name__} where names and values belong"
        raise ValueError(f"run: got {str(path)!r}, which is damaged ({what}); restore it")
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
    before = _listed(folder) or {}
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
    _remove(temporary)
    codecs = (ZstdCodec(level=3), Crc32cCodec())
    encoding = {name: {"compressors": codecs, "chunks": (_CHUNK,)} for name in history.variables}
    for values in history.variables.values():
        values.encoding = {}
    history = history.assign_attrs(attributes)
    history.to_zarr(temporary, mode="w", zarr_format=3, consolidated=False, encoding=encoding)
    # A folder cannot be replaced in one step: killed between the two, a run still has the earlier one.
    if path.exists():
        _remove(replaced)
        path.rename(replaced)
    temporary.rename(path)
    _remove(replaced)


def _remove(path: Path) -> None:
    """Remove a folder, or the file or the link in its place."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


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
    if not _are_plain(records) or records.keys() & (measured.keys() | {"generation", "measurement"}):
        raise _strange(folder)
    return _checked(folder, as_dataset(records, measured))


def _are_plain(columns: dict[str, np.ndarray]) -> bool:
    return all(one.ndim == 1 and one.dtype.kind in "biuf" for one in columns.values())


def _strange(folder: Path) -> ValueError:
    return ValueError(f"run: got {str(folder)!r}, whose history has other columns than a run records; restore it")


def _checked(folder: Path, history: Any) -> Any:
    """A history that has what is needed of every generation."""
    of_generations = {name: one.values for name, one in history.variables.items() if one.dims == ("generation",)}
    if not of_generations.keys() >= _NEEDED or not _are_plain(of_generations):
        raise _strange(folder)
    return history


def _exported(folder: Path) -> Any:
    """history.zarr, where the journals are not at hand."""
    path = next(
        (path for path in (folder / "history.zarr", folder / f"history.zarr{_REPLACED}") if path.exists()), None
    )
    if path is None:
        return None
    # A whole chunk of another run has a right checksum of its own.
    own = [name for name in _listed(folder) or {} if name.startswith(f"{path.name}/")]
    if own and (found := damage(folder, own)):
        raise ValueError(f"run: got {str(folder)!r}, in which {found[0]}; restore it, or the journals of the run")
    return _checked(folder, exported.read(path))


def read_inputs(folder: Path) -> dict[str, np.ndarray] | None:
    """What makes a run's inputs, from inputs.safetensors; ``None`` if it is not there, or not as the run wrote it."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    name = "inputs.safetensors"
    if name not in (_listed(folder) or {}) or damage(folder, [name]):
        return None
    try:
        return {key[2:-2]: array for key, array in load_file(folder / name).items()}
    except (OSError, SafetensorError):
        return None


def read_measurements(folder: Path) -> dict[str, np.ndarray]:
    """What was measured now and then, as far as it is whole; what is lost, or damaged at its head, is said."""
    try:
        found = journal.read(folder / MEASUREMENTS)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        return _lost(folder, "its measurements are damaged at their head, and begin anew")
    is_there = np.ones(max((len(one) for one in found.columns.values()), default=0), bool)
    for gap in found.lost:
        is_there[gap.start : gap.stop] = False
    whole = {name: one[is_there] for name, one in found.columns.items()}
    generations = whole.get("measured_generation", np.zeros(2))
    if not _are_plain(whole) or generations.dtype.kind != "i" or np.any(np.diff(generations, prepend=-1) <= 0):
        return _lost(folder, "its measurements are damaged, and begin anew")
    if not is_there.all():
        _lost(folder, f"{(~is_there).sum()} of its measurements are lost to damage")
    return whole


def _lost(folder: Path, what: str) -> dict[str, np.ndarray]:
    notice.warn(f"run: got {str(folder)!r}: {what}")
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
    return "params.safetensors" in (_listed(folder) or {}) and not damage(folder)


def damage(folder: Path, names: list[str] | None = None) -> list[str]:
    """What is damaged in a run folder, apart from journals and checkpoints, each in words; nothing if there is no manifest.

    Parameters
    ----------
    folder : of the run. names : of the files to look at; all that the manifest names unless given.
    """
    if not os.path.lexists(folder / _MANIFEST):
        return []
    listed = _listed(folder)
    if listed is None:
        return [f"{_MANIFEST} was altered"]
    listed = {name: allowed for name, allowed in listed.items() if names is None or name in names}
    return sums.damaged(folder, listed, is_all=False)


def _listed(folder: Path) -> dict[str, list[str]] | None:
    """The files of the manifest with the sums that they may have; ``None`` if no run wrote it like that."""
    listed = (sums.read_signed(folder / _MANIFEST) or {}).get("files")
    if not isinstance(listed, dict) or not all(map(_is_sealed, listed)):
        return None
    are_sums = all(isinstance(one, list) and all(isinstance(own, str) for own in one) for one in listed.values())
    return listed if are_sums else None


def write_arrays(folder: Path, name: str, tree: Any) -> None:
    """Write NAME.safetensors, a flat file of arrays by the path of their leaf."""
    from safetensors import SafetensorError
    from safetensors.flax import save_file

    arrays = {jax.tree_util.keystr(path): jnp.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
    # A name that is free: the folder may be anyone's.
    temporary = aside(folder / f"{name}.tmp", "unfinished")
    try:
        save_file(arrays, str(temporary))
        temporary.replace(folder / f"{name}.safetensors")
    except SafetensorError as error:  # its word for a disk that is full
        raise OSError(f"{name}.safetensors: cannot be written ({error}); make room, and go on with --resume") from None
    finally:
        temporary.unlink(missing_ok=True)
