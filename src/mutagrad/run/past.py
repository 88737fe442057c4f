"""What a run recorded up to a checkpoint, as far as it can be read."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from mutagrad.run import journal

__all__ = ["HISTORY", "first_of", "history_of", "spans"]

HISTORY = "history.journal"


def history_of(folder: Any, described: dict[str, Any]) -> journal.Rows:
    """What was recorded up to a checkpoint; what is damaged or of another run is lost."""
    number = described["generation"] - described["first"]
    return first_of(partial(journal.read, folder / HISTORY), described["run"], described["records"], number)


def first_of(read_fn: Callable[[], journal.Rows], run: str, records: dict[str, list], number: int) -> journal.Rows:
    """The first generations of a history, in columns of these kinds, as far as they can be read."""
    kinds = {name: (np.dtype(dtype), tuple(shape)) for name, (dtype, shape) in records.items()}
    columns = {name: np.zeros((number, *shape), dtype) for name, (dtype, shape) in kinds.items()}
    known, lost = 0, []
    try:
        found = read_fn().first(number)
        own = {name: (one.dtype, one.shape[1:]) for name, one in found.columns.items()}
        if found.attributes.get("run") == run and own == kinds:
            known, lost = max((len(one) for one in found.columns.values()), default=0), list(found.lost)
    except (OSError, ValueError):
        pass
    for name, column in columns.items():
        column[:known] = found.columns[name] if known else 0
        if np.issubdtype(column.dtype, np.inexact) or column.dtype.name == "bfloat16":
            column[known:] = np.nan
    if known < number and columns:
        lost.append(range(known, number))
    return journal.Rows(columns, {}, lost)


def spans(lost: list[range], first: int) -> str:
    """Generations that are lost, in words."""
    spans = ", ".join(f"{first + one.start + 1} to {first + one.stop}" for one in lost[:5])
    return f"generations {spans}{' …' if lost[5:] else ''}"
