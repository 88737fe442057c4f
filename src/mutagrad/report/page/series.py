"""Courses of a run for its charts: rows of plain numbers, thinned."""

import math
from typing import Any, NamedTuple

import numpy as np

from mutagrad.diagnostics.looks import without_looks
from mutagrad.report.page.thin import thin
from mutagrad.report.page.told import Told

__all__ = ["Course", "measured", "of_windows", "recorded"]


class Course(NamedTuple):
    """A line of a chart.

    Attributes
    ----------
    name : in the legend.
    rows : dictionaries of x, low, mid, high, from and to: what may be drawn of a bin, ``None`` where there is no finite value.
    """

    name: str
    rows: list[dict[str, Any]]

    @property
    def is_known(self) -> bool:
        """Whether it has any value."""
        return any(row["mid"] is not None for row in self.rows)


def _plain(value: Any) -> float | None:
    """A number as JSON has it, to six digits; ``None`` for what is not finite."""
    value = float(value)
    return float(f"{value:.6g}") if math.isfinite(value) else None


def recorded(told: Told, name: str, label: str, positive: bool = False, last: int | None = None) -> Course | None:
    """What was recorded every generation: median, smallest and largest of each bin; ``None`` if it was not.

    Parameters
    ----------
    told : the run. name : of the record. label : in the legend. positive : leave out what a logarithmic axis has not.
    last : so many generations, the last ones; all unless given.
    """
    if name not in told.records:
        return None
    values = told.records[name].astype(np.float64)
    values = without_looks(values) if name == "sigma" else values
    if positive:
        values = np.where(values > 0, values, np.nan)
    skipped = 0 if last is None else max(len(values) - last, 0)
    bins, start = thin(values[skipped:]), told.first + skipped + 1
    rows = [
        {
            "x": float(start + (first + last) / 2),
            "from": int(start + first),
            "to": int(start + last),
            "low": _plain(low),
            "mid": _plain(middle),
            "high": _plain(high),
        }
        for first, last, low, middle, high, _ in zip(*bins, strict=True)
    ]
    return Course(label, rows)


def of_windows(told: Told, name: str, label: str, root: bool = False) -> list[Course]:
    """A quantity of the regime in windows, one standard error on either side, of each group of parameters.

    Parameters
    ----------
    told : the run. name : of the quantity, an `Estimate` of `mutagrad.diagnostics.Regime`. label : in the legend; the group's
    name is put behind it. root : of the quantity.
    """
    found = []
    for group, regime in told.windows.items():
        value, error = (np.asarray(one, np.float64) for one in getattr(regime, name)[:2])
        if root:
            value = np.sqrt(np.where(value > 0, value, np.nan))
            error = error / (2 * value)
        edges_of = np.concatenate(
            [[told.first + 1], (regime.generation[1:] + regime.generation[:-1]) / 2, [told.first + told.number]]
        )
        rows = [
            {
                "x": _plain(x),
                "from": round(start),
                "to": round(stop),
                "low": _plain(v - e if math.isfinite(e) else v),
                "mid": _plain(v),
                "high": _plain(v + e if math.isfinite(e) else v),
            }
            for x, v, e, start, stop in zip(regime.generation, value, error, edges_of[:-1], edges_of[1:], strict=True)
        ]
        found.append(Course(f"{label}, {group}" if group else label, rows))
    return found


def measured(told: Told, name: str, label: str, scale: float = 1.0) -> Course | None:
    """What was measured now and then, as it is; ``None`` if it was not."""
    if name not in told.measured or not len(told.measured[name]):
        return None
    rows = []
    for at, value in zip(told.measured["measured_generation"], scale * told.measured[name], strict=True):
        one = _plain(value)
        rows.append({"x": float(max(at, 1)), "from": int(at), "to": int(at), "low": one, "mid": one, "high": one})
    return Course(label, rows)
