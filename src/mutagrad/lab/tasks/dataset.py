"""Examples to train on and to test with."""

from typing import NamedTuple

import numpy as np

__all__ = ["Dataset"]


class Dataset(NamedTuple):
    """Examples for training and for testing, as NumPy arrays; see `mutagrad.lab.tasks.data.load`.

    Attributes
    ----------
    train_inputs : float32 (n, ...), one example per row.
    train_targets : int32 (n,), the place of each label in ``classes``; or float64 (n,) numbers to predict.
    test_inputs, test_targets : the same for the examples held out.
    classes : the labels that there are, in increasing order; ``None`` if the targets are numbers (regression).
    name : the name under which the data were loaded.

    >>> import numpy as np
    >>> inputs, labels = np.zeros((2, 3), "float32"), np.arange(2, dtype="int32")
    >>> data = Dataset(inputs, labels, inputs, labels, (1, 2), "zeros")
    >>> data.num_outputs, data.labels
    (2, '1 to 2')
    """

    train_inputs: np.ndarray
    train_targets: np.ndarray
    test_inputs: np.ndarray
    test_targets: np.ndarray
    classes: tuple[int, ...] | None
    name: str

    @property
    def is_regression(self) -> bool:
        """Whether numbers are predicted, not classes."""
        return self.classes is None

    @property
    def num_outputs(self) -> int:
        """How many outputs a network for these data has: a logit for each class, or one number."""
        return 1 if self.classes is None else len(self.classes)

    @property
    def labels(self) -> str:
        """The labels as text, such as "1 to 3" or "0, 4, 7"; "" for regression."""
        if self.classes is None:
            return ""
        first, last, number = self.classes[0], self.classes[-1], len(self.classes)
        if last - first + 1 == number:
            return f"{first:,} to {last:,}"
        shown = self.classes if number <= 5 else (*self.classes[:3], "…", last)
        return ", ".join(str(one) for one in shown)
