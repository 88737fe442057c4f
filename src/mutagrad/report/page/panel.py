"""A part of a page, and how those of courses are made."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mutagrad.report.page import charts
from mutagrad.report.page.series import Course
from mutagrad.report.page.told import Told
from mutagrad.report.text.numbers import number

__all__ = ["Panel", "course_panel", "is_positive", "label_of", "of_run"]

_ROWS = 12
"""Rows of the table that stands below a chart."""


class Panel(NamedTuple):
    """A part of the page.

    Attributes
    ----------
    key : a word, for the place in the page. title : a heading. why : a sentence for who does not know it.
    spec : a Vega-Lite specification, or ``None``. words : sentences beside the chart, or in place of it.
    table : rows of cells, the head first; empty without one.
    """

    key: str
    title: str
    why: str
    spec: dict[str, Any] | None
    words: tuple[str, ...] = ()
    table: tuple[tuple[str, ...], ...] = ()


_WITH = {"bins": " and range of some generations", "error": " ± one standard error", "": ""}
"""What a line shows beside its middle, for the legend."""


def label_of(told: Told, runs: Sequence[Told], words: str, band: str = "", only: bool = True) -> str:
    """A name for the legend: what the line is or, of several runs, whose it is; ``only`` if each run has one such line."""
    if len(runs) == 1:
        return words + (_WITH[band] if len(told.groups) == 1 else "")
    return told.name if only else f"{told.name}, {words}"


def of_run(told: Told, runs: Sequence[Told]) -> str:
    """The name of a run behind a heading, where there are several."""
    return "" if len(runs) == 1 else f", {told.name}"


def _table(lines: Sequence[Course], head: tuple[str, ...] = ("smallest", "median", "largest")) -> tuple:
    """Some rows of each line, first and last among them."""
    known = [one for one in lines if one.is_known]
    rows = [("line", "generations", *head)]
    for one in known:
        each = max(2, _ROWS // len(known))
        for place in np.unique(np.linspace(0, len(one.rows) - 1, min(len(one.rows), each)).astype(int)):
            row = one.rows[place]
            span = f"{row['from']:,}" if row["from"] == row["to"] else f"{row['from']:,} to {row['to']:,}"
            rows.append((one.name, span, *(_cell(row[name]) for name in ("low", "mid", "high"))))
    return tuple(rows)


def _cell(value: float | None) -> str:
    return "none finite" if value is None else number(value)


def course_panel(
    key: str,
    title: str,
    why: str,
    lines: Sequence[Course | None],
    quantity: str,
    unknown: str,
    head: tuple[str, ...] = ("smallest", "median", "largest"),
    words: tuple[str, ...] = (),
    **options: Any,
) -> Panel:
    """A chart of lines; where none has a value, the words that say so."""
    known = [one for one in lines if one is not None and one.is_known]
    if not known:
        return Panel(key, title, why, None, (unknown, *words))
    return Panel(
        key, title, why, charts.courses(known, quantity, middle=head[1], **options), words, _table(known, head)
    )


def is_positive(runs: Sequence[Told], name: str) -> bool:
    """Whether every finite value of a record is, so that it has a logarithm."""
    columns = [told.records[name] for told in runs if name in told.records]
    return bool(columns) and all(not np.any(one[np.isfinite(one)] <= 0) for one in columns)
