"""Generations of a history that looked at a smaller σ than the one that was held, as automatic σ does on batches."""

import numpy as np

__all__ = ["looks", "without_looks"]


def looks(sigma: np.ndarray) -> np.ndarray:
    """Which generations did: those whose σ is below half of that of both neighbours.

    >>> looks(np.array([0.1, 0.02, 0.1, 0.01, 0.01]))
    array([False,  True, False, False, False])
    """
    around = np.concatenate([[0], sigma, [np.inf]])
    return (sigma < around[:-2] / 2) & (sigma < around[2:] / 2)


def without_looks(sigma: np.ndarray) -> np.ndarray:
    """The same with the σ of the generation before in place of a look's.

    >>> without_looks(np.array([0.1, 0.02, 0.1, 0.01, 0.01]))
    array([0.1 , 0.1 , 0.1 , 0.01, 0.01])
    """
    return np.where(looks(sigma), np.concatenate([sigma[:1], sigma[:-1]]), sigma)
