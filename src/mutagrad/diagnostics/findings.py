"""Findings: numbers and what follows from them, as data; `mutagrad.report` makes words and figures of them."""

from functools import singledispatch
from os import PathLike
from typing import Any, NamedTuple

import numpy as np

from mutagrad.estimate import Estimate

__all__ = ["Finding", "describe", "draw"]


class Finding(NamedTuple):
    """A measured number and what follows from it.

    Attributes
    ----------
    name : of the number.
    estimate : value, standard error and unit.
    follows : a verdict in a word or two, such as "too large" or "gradient regime"; "" where nothing follows.
    """

    name: str
    estimate: Estimate
    follows: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.estimate}" + (f" ({self.follows})" if self.follows else "")


@singledispatch
def describe(found: Any) -> str:
    """Something found, as a text of a few lines; `mutagrad.report` registers sentences, and without it there is a table.

    Parameters
    ----------
    found : a named tuple, such as a Regime.

    >>> from typing import NamedTuple
    >>> from mutagrad.diagnostics.findings import describe
    >>> from mutagrad.estimate import Estimate
    >>> class Pair(NamedTuple):
    ...     slope: Estimate
    ...     number: int
    >>> print(describe(Pair(Estimate(2.0, 0.1, "loss"), 3)))
    slope   2.00 ± 0.10 loss
    number  3
    """
    rows = {name: _short(value) for name, value in found._asdict().items()}
    rows = {name: text for name, text in rows.items() if not text.startswith(("None", "nan"))}
    width = max(map(len, rows))
    return "\n".join(f"{name.ljust(width)}  {text}" for name, text in rows.items())


def _short(value: Any) -> str:
    if isinstance(value, Estimate) and np.ndim(value.value):
        return f"{np.size(value.value)} values {value.unit}"
    if isinstance(value, np.ndarray):
        return f"{value.size} values"
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return f"{len(value)} entries"
    return str(value).split("\n")[0]


@singledispatch
def draw(found: Any, path: str | PathLike) -> None:
    """Draw something found and write it as an image; `mutagrad.report` registers what can be drawn.

    Parameters
    ----------
    found : such as a Diagnosis. path : image file, whose suffix chooses the format.
    """
    raise ValueError(f"found: got {type(found).__name__}, for which no figure is known; import mutagrad.report first")
