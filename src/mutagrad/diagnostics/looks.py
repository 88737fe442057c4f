"""Generations of a history that looked at a smaller σ than the one that was held, as automatic σ does on batches."""

import numpy as np

__all__ = ["looks", "without_looks"]


def looks(sigma: np.ndarray) -> np.ndarray:
    """Which generations did: those whose σ alone is about a quarter of that of both neighbours.

    A σ that takes turns with another is none.

    >>> looks(np.array([0.1, 0.025, 0.1, 0.1, 0.01, 0.01]))
    array([False,  True, False, False, False, False])
    >>> looks(np.array([0.1, 0.025, 0.1, 0.025, 0.1, 0.025])).any()
    np.False_
    """
    before, after = np.concatenate([sigma[:1], sigma[:-1]]), np.concatenate([sigma[1:], [np.nan]])
    high, low = np.fmax(before, after), np.fmin(before, after)
    dips = np.concatenate([[False] * 2, (sigma < 0.5 * low) & (sigma > 0.12 * high), [False] * 2])
    return dips[2:-2] & ~dips[:-4] & ~dips[4:]


def without_looks(sigma: np.ndarray) -> np.ndarray:
    """The same with the σ of the generation before in place of a look's.

    >>> without_looks(np.array([0.1, 0.025, 0.1, 0.01, 0.01]))
    array([0.1 , 0.1 , 0.1 , 0.01, 0.01])
    """
    return np.where(looks(sigma), np.concatenate([sigma[:1], sigma[:-1]]), sigma)
