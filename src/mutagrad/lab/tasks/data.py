"""Labelled data for experiments, read strictly: what is damaged or ambiguous is refused, never repaired."""

import math
import os
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

__all__ = ["Dataset", "load", "principal_components", "read_idx"]

_NPZ_KEYS = ("x_train", "y_train", "x_test", "y_test")
_GZIP_MAGIC = b"\x1f\x8b"
_LARGEST_LABEL = np.iinfo(np.int32).max - 1  # so that the number of classes is an int32 too
_FETCH_AGAIN = "fetch the file again"


class Dataset(NamedTuple):
    """Labelled examples for training and for testing, as NumPy arrays; see `load`.

    Parameters
    ----------
    train_inputs : float32 (n, ...), one example per row.
    train_labels : int32 (n,), in 0 to ``num_classes`` - 1.
    test_inputs, test_labels : the same for the examples held out.
    num_classes : the number of classes.
    name : the name under which the data were loaded.

    >>> import numpy
    >>> inputs, labels = numpy.zeros((2, 3), "float32"), numpy.arange(2, dtype="int32")
    >>> Dataset(inputs, labels, inputs, labels, num_classes=2, name="zeros").train_inputs.shape
    (2, 3)
    """

    train_inputs: np.ndarray
    train_labels: np.ndarray
    test_inputs: np.ndarray
    test_labels: np.ndarray
    num_classes: int
    name: str


def load(name: str | os.PathLike[str], data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """The data set of that name, divided into training and test examples in the same way each time.

    ``digits`` are the 1797 images of 8 × 8 pixels that come with scikit-learn, scaled as (x - 8) / 8 and divided 80 to
    20 with the classes in proportion. ``mnist`` is read from its four IDX files, plain (preferred) or .gz, and scaled
    as (x / 255 - 0.5) / 0.5; both lie in [-1, 1]. An .npz file holds x_train, y_train, x_test and y_test, or only the
    first two, from which a fifth (rounded down, at least one example) is then drawn at random for the test. Its inputs
    are cast to float32 but used as they are: integers such as uint8 pixels are not scaled, that is the user's part.
    Its number of classes is the largest label, of training and test together, plus one.

    Parameters
    ----------
    name : ``"digits"``, ``"mnist"`` or the path of an .npz file.
    data_dir : folder that holds the MNIST files, itself or in its folder ``mnist``; used for ``mnist`` only. Without it
        the environment variable MUTAGRAD_DATA names the folder, or else ``../shared/data`` is tried, beside the
        current folder and beside the project.

    Returns
    -------
    Dataset.

    Raises
    ------
    ValueError : if the name is unknown, or a file is damaged or holds anything but valid inputs and labels.
    FileNotFoundError : if a file is missing.
    ImportError : if the digits are asked for and scikit-learn is not installed.

    >>> data = load("digits")
    >>> data.train_inputs.shape, data.test_inputs.shape, data.num_classes
    ((1437, 8, 8), (360, 8, 8), 10)
    """
    if name == "digits":
        return _digits()
    if name == "mnist":
        return _mnist(_data_folders(data_dir))
    if Path(str(name)).suffix == ".npz":
        return _npz(Path(str(name)))
    raise ValueError(f"data: got {str(name)!r}; pass digits, mnist or the path of an .npz file")


def principal_components(data: Dataset, number: int) -> tuple[Dataset, dict[str, np.ndarray]]:
    """The data set in its first principal components, each divided by the root of its standard deviation.

    Mutation and selection pay TrH where gradient descent pays λ_max (theory.md 4): inputs that are centred and vary more
    alike, and few of them, lower TrH at the same slope. Divided by the whole deviation, so that all varied alike, the last
    components would count as much as the first, and the network would learn their noise.

    Parameters
    ----------
    data : examples of any shape, flattened.
    number : how many components, from 1 to the length of a flattened example, and no more than training examples.

    Returns
    -------
    The data set with inputs (n, number), of mean 0, variances in proportion to the deviations of the components and 1 on
    average over the training examples; and the float32 ``mean`` (length,) and ``directions`` (length, number) of the
    training inputs with which it was made: new = (flattened − mean) @ directions.

    Raises
    ------
    ValueError : if the number is out of its domain, or the training inputs vary in fewer directions.
    ImportError : if scikit-learn is not installed.

    >>> data, transform = principal_components(load("digits"), 20)
    >>> data.train_inputs.shape, transform["directions"].shape, round(float(data.train_inputs.var(axis=0).mean()), 2)
    ((1437, 20), (64, 20), 1.0)
    """
    from sklearn.decomposition import PCA

    train, test = (inputs.reshape(len(inputs), -1) for inputs in (data.train_inputs, data.test_inputs))
    largest = min(train.shape)
    if not 1 <= number <= largest:
        raise ValueError(f"components: got {number}; pass 1 to {largest} for {len(train)} examples of {train.shape[1]}")
    found = PCA(number, svd_solver="covariance_eigh").fit(train)
    deviations = np.sqrt(found.explained_variance_)
    if not deviations[-1] > 1e-6 * deviations[0]:
        raise ValueError(f"components: got {number}, but the inputs vary in fewer directions; pass fewer")
    scales = np.sqrt(deviations * deviations.mean())
    mean, directions = found.mean_.astype(np.float32), (found.components_.T / scales).astype(np.float32)
    changed = {"train_inputs": (train - mean) @ directions, "test_inputs": (test - mean) @ directions}
    return data._replace(**changed), {"mean": mean, "directions": directions}


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """The array of unsigned bytes in an IDX file, plain or compressed by gzip.

    An IDX file is two zero bytes, the type (8 for unsigned bytes), the number of dimensions, each dimension as a
    big-endian 32-bit number, and the data, the last dimension running fastest; nothing may be missing or follow.

    Parameters
    ----------
    path : the file, decompressed if its name ends in .gz or it begins as gzip data do.

    Returns
    -------
    uint8 array of the shape that the header gives.

    Raises
    ------
    ValueError : if the file is not IDX of unsigned bytes, is cut short, damaged or too long, or a dimension is zero.
    FileNotFoundError : if there is no such file.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "labels")
    ...     _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1]))
    ...     read_idx(path)
    array([7, 2, 1], dtype=uint8)
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"data: got {str(path)!r}, which is not a file; pass the path of an IDX file")
    content = path.read_bytes()
    if path.suffix == ".gz" or content.startswith(_GZIP_MAGIC):
        content = _gunzip(path, content)
    magic = content[:4]
    dimensions = int.from_bytes(magic[3:])
    if magic[:3] != b"\0\0\x08" or not 1 <= dimensions <= 64:  # NumPy has no more than 64
        raise _refusal(path, f"magic number '{magic.hex()}'", "expected 00000801 to 00000840, IDX of unsigned bytes")
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise _refusal(path, f"{len(content)} bytes", f"expected an IDX header of {start}; {_FETCH_AGAIN}")
    shape = tuple(np.frombuffer(content[4:start], ">u4").tolist())
    if 0 in shape:
        raise _refusal(path, f"shape {shape}", f"expected dimensions of 1 or more; {_FETCH_AGAIN}")
    if len(content) - start != math.prod(shape):
        found = f"{len(content) - start} bytes of data"
        raise _refusal(path, found, f"expected {math.prod(shape)} for the shape {shape} in its header; {_FETCH_AGAIN}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()


def _refusal(path: Path, found: str, remedy: str) -> ValueError:
    return ValueError(f"data: got {str(path)!r} with {found}; {remedy}")


def _gunzip(path: Path, content: bytes) -> bytes:
    """The one member of a gzip file; unlike the gzip module, strict about what follows it, zeros included."""
    stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        plain = stream.decompress(content)
    except zlib.error as error:
        raise _refusal(path, f"damaged gzip data ({error})", f"expected valid gzip data; {_FETCH_AGAIN}") from None
    if not stream.eof:
        raise _refusal(path, f"gzip data cut short at {len(content)} bytes", f"expected their end; {_FETCH_AGAIN}")
    if stream.unused_data:
        found = f"{len(stream.unused_data)} bytes after the end of its gzip data"
        raise _refusal(path, found, f"expected none; {_FETCH_AGAIN}")
    return plain


def _digits() -> Dataset:
    try:  # here, because this import takes seconds
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ModuleNotFoundError:
        raise ImportError("data: got 'digits', which need scikit-learn; pip install 'mutagrad[lab]'") from None
    digits = load_digits()
    inputs = ((digits.images - 8) / 8).astype(np.float32)
    labels = digits.target.astype(np.int32)
    train_inputs, test_inputs, train_labels, test_labels = train_test_split(
        inputs, labels, test_size=0.2, random_state=0, stratify=labels
    )
    return Dataset(train_inputs, train_labels, test_inputs, test_labels, num_classes=10, name="digits")


def _data_folders(data_dir: str | os.PathLike[str] | None) -> list[Path]:
    """Every folder in which to look for data, in order."""
    chosen = data_dir if data_dir is not None else os.environ.get("MUTAGRAD_DATA") or None
    if chosen is not None:
        roots = [Path(chosen).expanduser()]
    else:
        project = Path(__file__).resolve().parents[3]
        roots = [beside.parent / "shared" / "data" for beside in (Path.cwd(), project)]
    return list(dict.fromkeys(folder for root in roots for folder in (root, root / "mnist")))


def _mnist(folders: list[Path]) -> Dataset:
    train = _mnist_part(folders, "train")
    test = _mnist_part(folders, "t10k")
    return Dataset(*train, *test, num_classes=10, name="mnist")


def _mnist_part(folders: list[Path], part: str) -> tuple[np.ndarray, np.ndarray]:
    images_path = _find(folders, f"{part}-images-idx3-ubyte")
    labels_path = _find(folders, f"{part}-labels-idx1-ubyte")
    images = read_idx(images_path)
    if images.ndim != 3 or images.shape[1:] != (28, 28):
        raise _refusal(images_path, f"shape {images.shape}", "expected (n, 28, 28), the images of MNIST")
    labels = _labels(labels_path, "labels", read_idx(labels_path), largest=9)
    if len(images) != len(labels):
        remedy = f"expected {len(labels)}, one for each label in {str(labels_path)!r}; {_FETCH_AGAIN}"
        raise _refusal(images_path, f"{len(images)} images", remedy)
    scaled = ((np.arange(256) / 255 - 0.5) / 0.5).astype(np.float32)
    return scaled[images], labels


def _find(folders: list[Path], file_name: str) -> Path:
    for folder in folders:
        for path in (folder / file_name, folder / f"{file_name}.gz"):
            if path.is_file():
                return path
    looked = ", ".join(repr(str(folder)) for folder in folders)
    raise FileNotFoundError(
        f"data: got 'mnist', but {file_name} (plain or .gz) is not in {looked}; "
        "name its folder by --data-dir or the environment variable MUTAGRAD_DATA"
    )


def _npz(path: Path) -> Dataset:
    arrays = _read_npz(path)
    inputs = {key: _inputs(path, key, array) for key, array in arrays.items() if key.startswith("x")}
    labels = {key: _labels(path, key, array, _LARGEST_LABEL) for key, array in arrays.items() if key.startswith("y")}
    for (x, examples), (y, classes) in zip(inputs.items(), labels.items(), strict=True):
        if len(examples) != len(classes):
            found = f"{len(examples)} examples in {x} and {len(classes)} labels in {y}"
            raise _refusal(path, found, "pass one label for each example")
    shapes = [examples.shape[1:] for examples in inputs.values()]
    if len(set(shapes)) != 1:
        found = f"examples of shape {shapes[0]} in x_train and {shapes[1]} in x_test"
        raise _refusal(path, found, "pass examples of one shape")
    present = np.unique(np.concatenate(list(labels.values())))
    if len(present) < 2:
        raise _refusal(path, f"{present[0]} as its only label", "pass examples of two classes or more")
    if "x_test" not in inputs:
        order = np.random.default_rng(0).permutation(len(labels["y_train"]))
        test, train = np.split(order, [max(1, len(order) // 5)])
        inputs = {"x_train": inputs["x_train"][train], "x_test": inputs["x_train"][test]}
        labels = {"y_train": labels["y_train"][train], "y_test": labels["y_train"][test]}
    num_classes = int(present[-1]) + 1
    return Dataset(inputs["x_train"], labels["y_train"], inputs["x_test"], labels["y_test"], num_classes, str(path))


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file in the order of ``_NPZ_KEYS``: all four, or the first two."""
    if not path.is_file():
        raise FileNotFoundError(f"data: got {str(path)!r}, which is not a file; pass the path of an .npz file")
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
        raise _refusal(path, f"contents that cannot be read ({reason})", remedy) from None
    if set(arrays) not in (set(_NPZ_KEYS), set(_NPZ_KEYS[:2])):
        found = f"arrays named {', '.join(map(repr, sorted(arrays))) or 'nothing'}"
        raise _refusal(path, found, f"pass {', '.join(_NPZ_KEYS)}, or the first two alone to have them divided")
    return {key: arrays[key] for key in _NPZ_KEYS if key in arrays}


def _inputs(path: Path, key: str, array: np.ndarray) -> np.ndarray:
    """``array`` as float32 if it holds examples of finite real numbers."""
    if array.dtype.kind not in "uif":
        raise _refusal(path, f"{key} of dtype {array.dtype}", f"pass real numbers, {key}.astype(numpy.float32)")
    if array.ndim == 0 or array.size == 0:
        raise _refusal(path, f"{key} of shape {array.shape}", "pass at least one example, of at least one number")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused just below
        inputs = array.astype(np.float32)
    invalid = inputs.size - np.count_nonzero(np.isfinite(inputs))
    if invalid:
        found = f"{invalid} of {inputs.size} numbers in {key} NaN, infinite or too large for float32"
        raise _refusal(path, found, "pass finite inputs")
    return inputs


def _labels(path: Path, key: str, array: np.ndarray, largest: int) -> np.ndarray:
    """``array`` as int32 if it holds one integer from 0 to ``largest`` for each example."""
    if array.dtype.kind not in "ui":
        remedy = f"pass integers, {key}.astype(numpy.int32) if they are whole numbers"
        raise _refusal(path, f"{key} of dtype {array.dtype}", remedy)
    if array.ndim != 1 or array.size == 0:
        raise _refusal(path, f"{key} of shape {array.shape}", "pass one label for each example, shape (n,), n ≥ 1")
    outside = array[(array < 0) | (array > largest)]
    if len(outside):
        found = f"label {outside[0]} in {key}, the first of {len(outside)} (of {len(array)}) outside 0 to {largest}"
        raise _refusal(path, found, f"pass labels from 0 to {largest}")
    return array.astype(np.int32)
