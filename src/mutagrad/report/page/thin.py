"""A long history as few bins, each with its smallest, median and largest value, exact at both ends."""

import itertools
from typing import NamedTuple

import numpy as np

__all__ = ["Bins", "edges", "thin"]

MOST = 300
"""Bins of a course: more than two a pixel of a chart on a phone, and one for two pixels of a chart on a screen."""


class Bins(NamedTuple):
    """Some values in bins of consecutive rows.

    Attributes
    ----------
    first, last : rows of each bin, counted from 0, both in it; (bins,).
    low, middle, high : smallest, median and largest of the finite values of a bin; NaN where it has none.
    number : of finite values in each bin.
    """

    first: np.ndarray
    last: np.ndarray
    low: np.ndarray
    middle: np.ndarray
    high: np.ndarray
    number: np.ndarray


def edges(number: int, most: int = MOST) -> np.ndarray:
    """Where the bins of so many rows begin, and the number of rows at the end.

    Half of the bins are equally long in rows, and half in the logarithm of the row: the fast beginning of a run is seen as well
    as its end. The first and the last row have a bin each. No more rows than bins have a bin each, too.

    Parameters
    ----------
    number : of rows. most : bins, 4 or more.

    >>> from mutagrad.report.page.thin import edges
    >>> edges(5).tolist(), len(edges(10**6)) <= 301, edges(10**6)[[0, 1, -2, -1]].tolist()
    ([0, 1, 2, 3, 4, 5], True, [0, 1, 999999, 1000000])
    """
    if number <= most:
        return np.arange(number + 1)
    share = (most - 2) // 2
    linear = np.linspace(1, number - 1, share + 1)
    logarithmic = np.geomspace(1, number - 1, share + 1)
    inner = np.unique(np.rint(np.concatenate([linear, logarithmic])).astype(np.int64))
    return np.concatenate([[0], inner, [number]])


def thin(values: np.ndarray, at: np.ndarray | None = None) -> Bins:
    """The bins of a column.

    Parameters
    ----------
    values : (rows,) numbers; those that are not finite are in no bin's values.
    at : as `edges` gives them; its own unless given.

    Returns
    -------
    Bins. The smallest of ``low`` is that of the values, the largest of ``high`` theirs, and ``number`` sums to the finite ones.

    >>> import numpy as np
    >>> from mutagrad.report.page.thin import thin
    >>> found = thin(np.arange(1e5))
    >>> found.low[0], found.high[-1], found.number.sum()
    (np.float64(0.0), np.float64(99999.0), np.int64(100000))
    """
    values = np.asarray(values, np.float64)
    at = edges(len(values)) if at is None else at
    rows = np.full((4, len(at) - 1), np.nan)
    for place, (start, stop) in enumerate(itertools.pairwise(at)):
        kept = values[start:stop]
        kept = kept[np.isfinite(kept)]
        rows[3, place] = kept.size
        if kept.size:
            rows[:3, place] = kept.min(), np.median(kept), kept.max()
    return Bins(at[:-1], at[1:] - 1, rows[0], rows[1], rows[2], rows[3].astype(np.int64))
