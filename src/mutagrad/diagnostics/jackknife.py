"""Standard errors of anything that is computed from rows, by leaving out blocks of them."""

import itertools
from collections.abc import Callable

import numpy as np

__all__ = ["BLOCKS", "jackknife"]

BLOCKS = 20
"""Blocks of consecutive generations that a standard error comes from."""


def jackknife(
    values_fn: Callable[[dict[str, np.ndarray]], np.ndarray], rows: dict[str, np.ndarray], blocks: int = BLOCKS
) -> tuple[np.ndarray, np.ndarray]:
    """Values and their standard errors, by leaving out one block of consecutive rows after the other.

    Parameters
    ----------
    values_fn : from columns of rows to an array of values, (values,).
    rows : columns of one length n.
    blocks : at most n of them.

    Returns
    -------
    Values and errors, (values,) each. Errors hold for correlated rows, too, if blocks are longer than the correlation lasts.

    >>> import numpy as np
    >>> from mutagrad.diagnostics.jackknife import jackknife
    >>> rows = {"x": np.arange(8.0)}
    >>> value, error = jackknife(lambda rows: rows["x"].mean(keepdims=True), rows, 8)
    >>> bool(np.isclose(error, rows["x"].std(ddof=1) / 8**0.5)[0])
    True
    """
    number = len(next(iter(rows.values())))
    count = max(1, min(blocks, number))
    edges = np.linspace(0, number, count + 1).astype(int)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        whole = values_fn(rows)
        without = np.array(
            [
                values_fn({name: np.concatenate([column[:a], column[b:]]) for name, column in rows.items()})
                for a, b in itertools.pairwise(edges)
            ]
        )
        errors = np.sqrt((count - 1) / count * np.sum((without - without.mean(axis=0)) ** 2, axis=0))
    return whole, errors
