"""Data for experiments, by name: the digits, MNIST, or a file of the user's own."""

import os
from pathlib import Path

import numpy as np

from mutagrad.lab.tasks.dataset import Dataset
from mutagrad.lab.tasks.mnist import mnist
from mutagrad.lab.tasks.npz import npz

__all__ = ["Dataset", "load"]

TASKS = ("classification", "regression")


def load(
    name: str | os.PathLike[str], data_dir: str | os.PathLike[str] | None = None, task: str | None = None
) -> Dataset:
    """The data set of that name, divided into training and test examples in the same way each time.

    ``digits`` are the 1797 images of 8 × 8 pixels that come with scikit-learn, scaled as (x - 8) / 8 and divided 80 to
    20 with the classes in proportion. ``mnist`` is read from its four IDX files, plain (preferred) or .gz, and scaled
    as (x / 255 - 0.5) / 0.5; both lie in [-1, 1]. An .npz file holds x_train, y_train, x_test and y_test, or only the
    first two, from which a fifth (rounded down, at least one example) is then drawn at random for the test. Its inputs
    are cast to float32 and not scaled here.

    Parameters
    ----------
    name : ``"digits"``, ``"mnist"`` or the path of an .npz file.
    data_dir : folder that holds the MNIST files, itself or in its folder ``mnist``; used for ``mnist`` only. Without it
        the environment variable MUTAGRAD_DATA names the folder, or else ``../shared/data`` is tried, beside the
        current folder and beside the project.
    task : "classification" or "regression". Unless given, whole numbers are labels and real ones are predicted. Labels are
        whole numbers of 0 or more, of any names; the classes are those that occur.

    Returns
    -------
    Dataset.

    Raises
    ------
    ValueError : if the name is unknown, or a file is damaged, ambiguous or holds anything but valid inputs and targets.
    FileNotFoundError : if a file is missing.
    ImportError : if the digits are asked for and scikit-learn is not installed.

    >>> data = load("digits")
    >>> data.train_inputs.shape, data.test_inputs.shape, data.labels
    ((1437, 8, 8), (360, 8, 8), '0 to 9')
    """
    if task is not None and task not in TASKS:
        raise ValueError(f"task: got {task!r}; pass one of {', '.join(TASKS)}")
    if name == "digits":
        return _as_task(_digits(), task)
    if name == "mnist":
        return _as_task(mnist(data_dir), task)
    if Path(str(name)).suffix == ".npz":
        return npz(Path(str(name)), task)
    raise ValueError(f"data: got {str(name)!r}; pass digits, mnist or the path of an .npz file")


def _as_task(data: Dataset, task: str | None) -> Dataset:
    if task != "regression":
        return data
    targets = {name: getattr(data, name).astype(np.float64) for name in ("train_targets", "test_targets")}
    return data._replace(**targets, classes=None)


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
    return Dataset(train_inputs, train_labels, test_inputs, test_labels, tuple(range(10)), "digits")
