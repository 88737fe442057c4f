"""Data of the user's own from .npz files, read strictly: what is damaged or ambiguous is refused, never repaired."""

import zipfile
from pathlib import Path

import numpy as np

from mutagrad.lab.tasks.dataset import Dataset
from mutagrad.lab.tasks.guards import check_npz, refusal

__all__ = ["npz"]

_NPZ_KEYS = ("x_train", "y_train", "x_test", "y_test")
_MOST_CLASSES = 100_000
_FEW = 20
"""Whole numbers stored as floats may be labels if they are no more than so many different ones."""


def npz(path: Path, task: str | None = None) -> Dataset:
    """The examples of an .npz file; see `mutagrad.lab.tasks.data.load`."""
    arrays = _read_npz(path)
    inputs = {key: _inputs(path, key, array) for key, array in arrays.items() if key.startswith("x")}
    raw = {key: array for key, array in arrays.items() if key.startswith("y")}
    for key, array in raw.items():
        _check_targets(path, key, array)
    for (x, examples), (y, values) in zip(inputs.items(), raw.items(), strict=True):
        if len(examples) != len(values):
            found = f"{len(examples)} examples in {x} and {len(values)} targets in {y}"
            raise refusal(path, found, "pass one target for each example")
    shapes = [examples.shape[1:] for examples in inputs.values()]
    if len(set(shapes)) != 1:
        what = f"examples of shape {shapes[0]} in x_train and {shapes[1]} in x_test"
        raise refusal(path, what, "pass examples of one shape")
    if _is_regression(path, raw, task):
        targets, classes = {key: array.astype(np.float64) for key, array in raw.items()}, None
    else:
        targets, classes = _classes(path, raw)
    if "x_test" not in inputs:
        order = np.random.default_rng(0).permutation(len(targets["y_train"]))
        test, train = np.split(order, [max(1, len(order) // 5)])
        inputs = {"x_train": inputs["x_train"][train], "x_test": inputs["x_train"][test]}
        targets = {"y_train": targets["y_train"][train], "y_test": targets["y_train"][test]}
    if classes is None and np.ptp(targets["y_train"]) == 0:
        what = f"{targets['y_train'][0]:g} as the only target of its training examples"
        raise refusal(path, what, "pass targets that differ")
    return Dataset(inputs["x_train"], targets["y_train"], inputs["x_test"], targets["y_test"], classes, str(path))


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file in the order of ``_NPZ_KEYS``: all four, or the first two."""
    if not path.is_file():
        raise FileNotFoundError(f"data: got {str(path)!r}, which is not a file; pass the path of an .npz file")
    check_npz(path)
    try:
        with zipfile.ZipFile(path) as members:
            damaged = members.testzip()
            commented = [member.filename for member in members.infolist() if member.comment]
        if damaged is not None:
            raise zipfile.BadZipFile(f"{damaged} fails its checksum")
        if commented:  # numpy writes none, and a damaged comment length hides the members that follow
            raise zipfile.BadZipFile(f"{commented[0]} has a comment in the archive's directory")
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: np.asarray(archive[key]) for key in archive.files}
    except Exception as error:  # zipfile, zlib and NumPy each fail in ways of their own on a damaged file
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        remedy = "pass a file written by numpy.savez from arrays of numbers"
        raise refusal(path, f"contents that cannot be read ({reason})", remedy) from None
    if set(arrays) not in (set(_NPZ_KEYS), set(_NPZ_KEYS[:2])):
        found = f"arrays named {', '.join(map(repr, sorted(arrays))) or 'nothing'}"
        raise refusal(path, found, f"pass {', '.join(_NPZ_KEYS)}, or the first two alone to have them divided")
    return {key: arrays[key] for key in _NPZ_KEYS if key in arrays}


def _inputs(path: Path, key: str, array: np.ndarray) -> np.ndarray:
    """``array`` as float32 if it holds examples of finite real numbers."""
    if array.dtype.kind not in "uif":
        raise refusal(path, f"{key} of dtype {array.dtype}", f"pass real numbers, {key}.astype(numpy.float32)")
    if array.ndim == 0 or array.size == 0:
        raise refusal(path, f"{key} of shape {array.shape}", "pass at least one example, of at least one number")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused just below
        inputs = array.astype(np.float32)
    invalid = inputs.size - np.count_nonzero(np.isfinite(inputs))
    if invalid:
        found = f"{invalid} of {inputs.size} numbers in {key} NaN, infinite or too large for float32"
        raise refusal(path, found, "pass finite inputs")
    return inputs


def _check_targets(path: Path, key: str, array: np.ndarray) -> None:
    if array.dtype.kind not in "uif":
        remedy = f"pass whole numbers for classes, {key}.astype(numpy.int32), or real ones for regression"
        raise refusal(path, f"{key} of dtype {array.dtype}", remedy)
    if array.ndim != 1 or array.size == 0:
        raise refusal(path, f"{key} of shape {array.shape}", "pass one target for each example, shape (n,), n ≥ 1")
    invalid = array.size - np.count_nonzero(np.isfinite(array))
    if invalid:
        raise refusal(path, f"{invalid} of {array.size} numbers in {key} NaN or infinite", "pass finite targets")


def _is_regression(path: Path, targets: dict[str, np.ndarray], task: str | None) -> bool:
    """Whether the targets are numbers to predict: real ones are, whole ones are not, unless the task is named."""
    if task is not None:
        return task == "regression"
    floats = [key for key, array in targets.items() if array.dtype.kind == "f"]
    if not floats:
        return False
    different = {key: np.unique(array) for key, array in targets.items()}
    if all(len(found) <= _FEW and np.all(found == np.floor(found)) for found in different.values()):
        key = floats[0]
        raise refusal(
            path,
            f"{key} of dtype {targets[key].dtype}, which holds {len(different[key])} different whole numbers",
            "say --task classification if they are labels, or --task regression",
        )
    return True


def _classes(path: Path, targets: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], tuple[int, ...]]:
    """Targets as places in the sorted labels, and these."""
    found = set()
    for key, array in targets.items():
        is_broken = array != np.floor(array) if array.dtype.kind == "f" else np.zeros(len(array), bool)
        if is_broken.any():
            shown = (
                f"label {array[is_broken][0]:g} in {key}, the first of {is_broken.sum()} (of {len(array)}) not whole"
            )
            raise refusal(path, shown, "pass whole numbers, or --task regression")
        negative = array[array < 0]
        if len(negative):
            shown = f"label {negative[0]:g} in {key}, the first of {len(negative)} (of {len(array)}) below 0"
            raise refusal(path, shown, "pass labels of 0 or more, or --task regression")
        if array.dtype.kind == "f" and array.max() > 2.0**53:
            raise refusal(path, f"label {array.max():g} in {key}, which is not exact", "pass labels as integers")
        different = np.unique(array)
        if len(different) > _MOST_CLASSES:
            shown = f"{len(different):,} different labels in {key}"
            raise refusal(path, shown, f"pass {_MOST_CLASSES:,} at most, or --task regression")
        found |= {int(label) for label in different}
    classes = tuple(sorted(found))
    if len(classes) < 2:
        raise refusal(path, f"{classes[0]} as its only label", "pass examples of two classes or more")
    if len(classes) > _MOST_CLASSES:
        raise refusal(
            path, f"{len(classes):,} different labels", f"pass {_MOST_CLASSES:,} at most, or --task regression"
        )
    known = np.array(classes, np.uint64)
    places = {key: np.searchsorted(known, array.astype(np.uint64)).astype(np.int32) for key, array in targets.items()}
    return places, classes
