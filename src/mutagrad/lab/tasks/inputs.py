"""Inputs as a network sees them: as they are, standardised, or in their principal components."""

from typing import NamedTuple

import numpy as np

from mutagrad.lab.tasks.dataset import Dataset

__all__ = ["Inputs", "principal_components", "standardized", "unchanged"]


class Inputs(NamedTuple):
    """Data with other inputs, and how they were made.

    Attributes
    ----------
    data : with the inputs that the network sees.
    arrays : what makes them, from training examples alone; ``None`` if they are as they were.
    words : what they are, for a summary.
    """

    data: Dataset
    arrays: dict[str, np.ndarray] | None
    words: str


def unchanged(data: Dataset) -> Inputs:
    """The inputs as they are."""
    return Inputs(data, None, f"{data.train_inputs[0].size} as they are")


def standardized(data: Dataset) -> Inputs:
    """Every input with mean 0 and standard deviation 1 over the training examples; those that do not vary there are 0.

    Mutations have one σ for all weights, so that inputs of very different sizes have slopes and curvatures that no σ suits.

    Returns
    -------
    Inputs of the same shape; ``arrays`` are the float32 ``mean`` and ``factor`` of an example's shape, 1/deviation or 0:
    new = (old − mean) · factor.

    >>> import numpy as np
    >>> from mutagrad.lab.tasks.dataset import Dataset
    >>> inputs, labels = np.array([[1.0, 5.0], [3.0, 5.0]], np.float32), np.arange(2, dtype=np.int32)
    >>> found = standardized(Dataset(inputs, labels, inputs + 1, labels, (0, 1), "two"))
    >>> found.data.train_inputs.tolist(), found.data.test_inputs.tolist()
    ([[-1.0, 0.0], [1.0, 0.0]], [[0.0, 0.0], [2.0, 0.0]])
    """
    train = data.train_inputs
    varies = train.max(axis=0) > train.min(axis=0)
    deviation = train.std(axis=0, dtype=np.float64)
    factor = np.where(varies, 1 / np.where(varies, deviation, 1), 0)
    mean = train.mean(axis=0, dtype=np.float64)
    changed = {
        name: ((getattr(data, name) - mean) * factor).astype(np.float32) for name in ("train_inputs", "test_inputs")
    }
    words = f"{varies.size} standardised to mean 0 and deviation 1"
    if constant := int(np.count_nonzero(~varies)):
        words += f", {constant} of them constant and set to 0"
    arrays = {"mean": mean.astype(np.float32), "factor": factor.astype(np.float32)}
    return Inputs(data._replace(**changed), arrays, words)


def principal_components(data: Dataset, number: int) -> Inputs:
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
    Inputs of shape (n, number), of mean 0, variances in proportion to the deviations of the components and 1 on average over
    the training examples; ``arrays`` are the float32 ``mean`` (length,) and ``directions`` (length, number) of the training
    inputs: new = (flattened − mean) @ directions.

    Raises
    ------
    ValueError : if the number is out of its domain, or the training inputs vary in fewer directions.
    ImportError : if scikit-learn is not installed.

    >>> from mutagrad.lab.tasks.data import load
    >>> data, arrays, _ = principal_components(load("digits"), 20)
    >>> data.train_inputs.shape, arrays["directions"].shape, round(float(data.train_inputs.var(axis=0).mean()), 2)
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
    arrays = {"mean": mean, "directions": directions}
    return Inputs(data._replace(**changed), arrays, f"{number} principal components of {train.shape[1]}")
