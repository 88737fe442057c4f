"""Generations of a history that looked at a smaller σ than the one that was held, as automatic σ does on batches."""

import numpy as np

__all__ = ["last_held", "looks", "without_looks"]


def looks(sigma: np.ndarray) -> np.ndarray:
    """Which generations did: those whose σ is below that of both neighbours, and about a quarter of that of one.

    The other may be of another σ that takes turns with it. A σ that takes turns every generation is none.

    >>> looks(np.array([0.1, 0.025, 0.1, 0.1, 0.01, 0.01]))
    array([False,  True, False, False, False, False])
    >>> looks(np.array([0.1, 0.025, 0.1, 0.025, 0.1, 0.025])).any()
    np.False_
    >>> looks(np.array([0.1, 0.1, 0.025, 0.04, 0.04, 0.1, 0.1]))
    array([False, False,  True, False, False, False, False])
    """
    before, after = np.concatenate([sigma[:1], sigma[:-1]]), np.concatenate([sigma[1:], [np.nan]])
    is_quarter = np.logical_or(*[(0.18 * one < sigma) & (sigma < 0.33 * one) for one in (before, after)])
    dips = np.concatenate([[False] * 2, is_quarter & (sigma < 0.8 * np.fmin(before, after)), [False] * 2])
    return dips[2:-2] & ~dips[:-4] & ~dips[4:]


def without_looks(sigma: np.ndarray) -> np.ndarray:
    """The same with the σ of the generation before in place of a look's.

    >>> without_looks(np.array([0.1, 0.025, 0.1, 0.01, 0.01]))
    array([0.1 , 0.1 , 0.1 , 0.01, 0.01])
    """
    return np.where(looks(sigma), np.concatenate([sigma[:1], sigma[:-1]]), sigma)


def last_held(sigma: np.ndarray) -> float:
    """The last σ that was held.

    >>> last_held(np.array([0.1, 0.1, 0.025]))
    0.1
    """
    return float(without_looks(np.asarray(sigma[-5:]))[-1])
