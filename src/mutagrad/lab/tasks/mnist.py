"""MNIST, read from its four IDX files."""

import os
from pathlib import Path

import numpy as np

from mutagrad.lab.tasks.dataset import Dataset
from mutagrad.lab.tasks.guards import FETCH_AGAIN, refusal
from mutagrad.lab.tasks.idx import read_idx

__all__ = ["mnist"]


def mnist(data_dir: str | os.PathLike[str] | None) -> Dataset:
    """The 70,000 images of handwritten digits; see `mutagrad.lab.tasks.data.load`."""
    folders = _data_folders(data_dir)
    train = _mnist_part(folders, "train")
    test = _mnist_part(folders, "t10k")
    return Dataset(*train, *test, tuple(range(10)), "mnist")


def _mnist_part(folders: list[Path], part: str) -> tuple[np.ndarray, np.ndarray]:
    images_path = _find(folders, f"{part}-images-idx3-ubyte")
    labels_path = _find(folders, f"{part}-labels-idx1-ubyte")
    images = read_idx(images_path)
    if images.ndim != 3 or images.shape[1:] != (28, 28):
        raise refusal(images_path, f"shape {images.shape}", "expected (n, 28, 28), the images of MNIST")
    labels = read_idx(labels_path)
    if labels.ndim != 1:
        raise refusal(
            labels_path, f"labels of shape {labels.shape}", "pass one label for each example, shape (n,), n ≥ 1"
        )
    outside = labels[labels > 9]
    if len(outside):
        found = f"label {outside[0]}, the first of {len(outside)} (of {len(labels)}) outside 0 to 9"
        raise refusal(labels_path, found, "pass labels from 0 to 9")
    if len(images) != len(labels):
        remedy = f"expected {len(labels)}, one for each label in {str(labels_path)!r}; {FETCH_AGAIN}"
        raise refusal(images_path, f"{len(images)} images", remedy)
    scaled = ((np.arange(256) / 255 - 0.5) / 0.5).astype(np.float32)
    return scaled[images], labels.astype(np.int32)


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


def _data_folders(data_dir: str | os.PathLike[str] | None) -> list[Path]:
    """Every folder in which to look for data, in order."""
    chosen = data_dir if data_dir is not None else os.environ.get("MUTAGRAD_DATA") or None
    if chosen is not None:
        roots = [Path(chosen).expanduser()]
    else:
        project = Path(__file__).resolve().parents[4]
        roots = [beside.parent / "shared" / "data" for beside in (Path.cwd(), project)]
    return list(dict.fromkeys(folder for root in roots for folder in (root, root / "mnist")))
