"""Charts of courses by Vega-Altair: as specifications that a browser draws, and as SVG for paper."""

import math
from collections.abc import Sequence
from copy import deepcopy
from functools import lru_cache
from typing import Any

from mutagrad.report.page.series import Course

__all__ = ["CONFIG", "bars", "courses", "extra", "interval", "script", "svg"]

_LIGHT = ["#0072B2", "#C24E00", "#00795A", "#A8447E", "#8A6A00", "#3B6FD4"]
_DARK = ["#56B4E9", "#E69F00", "#2BC49A", "#E39BC4", "#F0E442", "#A9BBFF"]
"""Colours after Okabe and Ito, which the colour-blind tell apart, darker on white and lighter on black."""
_WIDTH, _HEIGHT = 620, 240
_NARROW = 3.0
"""A logarithmic axis spans this factor at least."""
_FEW = 12
"""Values of a line, below which each is a dot."""
_PRINTED = "ui-sans-serif, system-ui, sans-serif"


def _config(ink: str, faint: str, colours: list[str]) -> dict[str, Any]:
    axis = {
        "labelColor": ink,
        "titleColor": ink,
        "gridColor": faint,
        "domainColor": ink,
        "tickColor": ink,
        "aria": False,
    }
    return {
        "background": "transparent",
        "font": _PRINTED,
        "aria": False,
        "mark": {"aria": False},
        "view": {"stroke": None},
        "title": {
            "color": ink,
            "fontSize": 12,
            "fontWeight": "normal",
            "anchor": "start",
            "frame": "group",
            "offset": 8,
        },
        "axis": axis | {"labelFontSize": 11, "titleFontSize": 12, "titleFontWeight": "normal", "labelOverlap": True},
        "legend": {
            **{"labelColor": ink, "titleColor": ink, "labelFontSize": 12, "labelLimit": 270, "orient": "top"},
            "aria": False,
            **{"direction": "vertical", "title": None, "offset": 4, "symbolType": "square", "symbolOpacity": 1},
        },
        "range": {"category": colours},
    }


CONFIG = {
    "light": _config("#1f2328", "#d9dde3", _LIGHT),
    "dark": _config("#e8eaed", "#3a4048", _DARK),
}


def extra() -> Any:
    """Altair.

    Raises
    ------
    ImportError : in one line that names the extra, if Altair or vl-convert is missing.
    """
    try:
        import altair
        import vl_convert  # noqa: F401
    except ImportError as error:
        raise ImportError(f"page: needs {error.name}; pip install 'mutagrad[report]'") from None
    return altair


def courses(
    lines: Sequence[Course],
    title: str,
    *,
    logarithmic: bool = False,
    marks: Sequence[tuple[str, float]] = (),
    domain: tuple[float, float] | None = None,
    zero: bool = False,
    points: bool = False,
    middle: str = "median",
) -> dict[str, Any]:
    """Lines over generations with their bands, and values where the pointer is.

    Parameters
    ----------
    lines : what to draw; one without a value is left out. title : quantity and unit. logarithmic : the axis of the values.
    marks : names and values of horizontal lines. domain : of the values. zero : the axis of the values shows it.
    points : draw a dot at each value. middle : what the line is, for the values shown.

    Returns
    -------
    A Vega-Lite specification.
    """
    alt = extra()
    rows = [{"series": one.name, **row} for one in lines if one.is_known for row in one.rows]
    names = [*dict.fromkeys(row["series"] for row in rows), *(name for name, _ in marks)]
    scale, axis = _scale(alt, [*_values(rows), *(value for _, value in marks)], logarithmic, zero, domain)
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=_generation(alt, rows),
        color=alt.Color("series:N", scale=alt.Scale(domain=names), legend=alt.Legend()),
    )
    band = base.mark_area(opacity=0.25).encode(y=alt.Y("low:Q", scale=scale, axis=axis), y2="high:Q")
    # Of few values each is seen as a dot, and a single one has no band but a rod.
    has_few = min(sum(row["mid"] is not None for row in one.rows) for one in lines if one.is_known) < _FEW
    line = base.mark_line(strokeWidth=2, point={"size": 30} if points or has_few else False).encode(
        y=alt.Y("mid:Q", scale=scale, axis=axis)
    )
    near = alt.selection_point(
        name="near", nearest=True, on="pointerover", clear="pointerout", fields=["from", "series"], empty=False
    )
    extremes = (
        []
        if points
        else [alt.Tooltip("low:Q", title="from", format=".4~g"), alt.Tooltip("high:Q", title="to", format=".4~g")]
    )
    dots = (
        base.mark_point(filled=True, size=70)
        .encode(
            y=alt.Y("mid:Q", scale=scale, axis=axis),
            opacity=alt.condition(near, alt.value(1), alt.value(0)),
            tooltip=[
                alt.Tooltip("series:N", title="line"),
                alt.Tooltip("from:Q", title="generation", format=","),
                *([] if points else [alt.Tooltip("to:Q", title="up to", format=",")]),
                alt.Tooltip("mid:Q", title="value" if points else middle, format=".4~g"),
                *extremes,
            ],
        )
        .add_params(near)
        .transform_filter("isValid(datum.mid)")
    )
    layers = [band, line]
    if alone := [{"series": one.name, **one.rows[0]} for one in lines if one.is_known and len(one.rows) == 1]:
        rod = alt.Chart(alt.Data(values=alone)).mark_rule(strokeWidth=2)
        layers.append(rod.encode(x="x:Q", y=alt.Y("low:Q", scale=scale, axis=axis), y2="high:Q", color="series:N"))
    for name, value in marks:
        layers.append(
            alt.Chart(alt.Data(values=[{"series": name, "mid": value}]))
            .mark_rule(strokeDash=[6, 4], strokeWidth=1.5)
            .encode(y=alt.Y("mid:Q", scale=scale, axis=axis), color="series:N")
        )
    return _whole(alt.layer(*layers, dots), title)


def bars(wins: Sequence[dict[str, Any]], title: str, expected: float) -> dict[str, Any]:
    """How often each place won, with the number that equal chances give.

    Parameters
    ----------
    wins : dictionaries of from, to (places) and wins (of one place on average). title : quantity and unit.
    expected : wins of a place if all have equal chances.
    """
    alt = extra()
    names, colour = ["won", "equal chances"], alt.Color("series:N", scale=alt.Scale(domain=["won", "equal chances"]))
    drawn = (
        alt.Chart(alt.Data(values=[{"series": names[0], **row} for row in wins]))
        .mark_rect()
        .encode(
            x=alt.X(
                "left:Q",
                title="place of the offspring",
                scale=alt.Scale(domain=[wins[0]["from"] - 0.5, wins[-1]["to"] + 0.5], nice=False),
                axis=alt.Axis(labelExpr=_WHOLE, tickMinStep=1, grid=False),
            ),
            x2="right:Q",
            y=alt.Y("wins:Q", scale=alt.Scale(zero=True), axis=alt.Axis(title=None, labelExpr=_NUMBER, tickCount=5)),
            y2=alt.datum(0),
            color=colour,
            tooltip=[
                alt.Tooltip("from:Q", title="place"),
                alt.Tooltip("to:Q", title="up to"),
                alt.Tooltip("wins:Q", title="wins of a place", format=",.4~g"),
            ],
        )
    )
    rule = (
        alt.Chart(alt.Data(values=[{"series": names[1], "wins": expected}]))
        .mark_rule(strokeDash=[6, 4], strokeWidth=2)
        .encode(y="wins:Q", color=colour)
    )
    return _whole(alt.layer(drawn, rule), title)


def interval(
    line: Course, title: str, now: float, target: float, low: float, middle: float, high: float, logarithmic: bool
) -> dict[str, Any]:
    """The loss, and the generations in which it may be lower, on one axis.

    Parameters
    ----------
    line : the loss so far. title : quantity and unit. now : generation of the last loss. target : the loss forecast.
    low, middle, high : generations more; finite. logarithmic : the axis of the loss.
    """
    alt = extra()
    names = [line.name, "forecast, with its interval"]
    colour = alt.Color("series:N", scale=alt.Scale(domain=names))
    scale, axis = _scale(alt, [*_values(line.rows), target], logarithmic)
    ends = [*line.rows, {"from": now, "to": now + high}]
    x, y = _generation(alt, ends), alt.Y("mid:Q", scale=scale, axis=axis)
    past = alt.Chart(alt.Data(values=[{"series": names[0], **row} for row in line.rows]))
    ahead = {"series": names[1], "mid": target, "x": now + middle, "soonest": now + low, "latest": now + high}
    future = alt.Chart(alt.Data(values=[ahead])).encode(
        color=colour,
        y=y,
        tooltip=[
            alt.Tooltip("mid:Q", title="loss", format=".4~g"),
            *(alt.Tooltip(f"{name}:Q", title=words, format=",.0f") for name, words in _AHEAD.items()),
        ],
    )
    return _whole(
        alt.layer(
            past.mark_line(strokeWidth=2).encode(x=x, y=y, color=colour),
            future.mark_rule(strokeWidth=3).encode(x="soonest:Q", x2="latest:Q"),
            future.mark_point(filled=True, size=90).encode(x="x:Q"),
        ),
        title,
    )


_AHEAD = {"x": "generation", "soonest": "not before", "latest": "not after"}


_NUMBER = (
    "datum.value == 0 ? '0' : abs(datum.value) < 1e-3 || abs(datum.value) >= 1e6 ? format(datum.value, '.2~e') "
    ": format(datum.value, ',.6~r')"
)
_WHOLE = "datum.value >= 1e4 ? format(datum.value, '.3~s') : format(datum.value, ',')"
"""How axes write numbers: as one reads them, and powers of ten where that would be too long."""


def _generation(alt: Any, rows: Sequence[dict[str, Any]]) -> Any:
    """The axis of generations, from the first to the last of any line."""
    ends = [max(min(row["from"] for row in rows), 1), max(row["to"] for row in rows)]
    if ends[0] == ends[1]:
        ends[1] += 1
    axis = alt.Axis(labelExpr=_WHOLE, tickCount=5, tickMinStep=1, grid=False)
    return alt.X("x:Q", title="generation", scale=alt.Scale(domain=ends, nice=False), axis=axis)


def _scale(
    alt: Any, values: Sequence[float], logarithmic: bool, zero: bool = False, domain: tuple[float, float] | None = None
) -> tuple[Any, Any]:
    """Scale and axis of the values, which all have room; a logarithmic one has a few ticks where numbers are round."""
    low, high = min(values), max(values)
    # Within a factor of three a logarithmic axis has no round numbers to show.
    if logarithmic and low > 0 and high > _NARROW * low:
        ends, ticks = [low / 1.05, high * 1.05], _round_numbers(low, high)
        return alt.Scale(type="log", domain=ends, nice=False), alt.Axis(title=None, labelExpr=_NUMBER, values=ticks)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    # A line that is level is in the middle.
    room = 0.04 * (high - low) or 0.1 * abs(high) or 1.0
    if domain is None:
        domain = (low if zero and low == 0 else low - room, high if zero and high == 0 else high + room)
    return alt.Scale(domain=list(domain), zero=False), alt.Axis(title=None, labelExpr=_NUMBER, tickCount=5)


def _values(rows: Sequence[dict[str, Any]]) -> list[float]:
    return [row[name] for row in rows for name in ("low", "mid", "high") if row[name] is not None]


def _round_numbers(low: float, high: float) -> list[float]:
    """Six or so round numbers between two positive ones: powers of ten, with 2 and 5 times as much where there are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    every = max(1, (last - first) // 6)
    heads = (1,) if last - first > 3 else (1, 2, 5)
    found = [float(f"{head}e{power}") for power in range(first, last + 1, every) for head in heads]
    return [one for one in found if low / 1.05 <= one <= high * 1.05]


def _whole(chart: Any, title: str) -> dict[str, Any]:
    sized = chart.properties(
        title=title,
        width="container",
        height=_HEIGHT,
        autosize=extra().AutoSizeParams(type="fit-x", contains="padding"),
    )
    return sized.to_dict()


def _for_paper(spec: dict[str, Any]) -> dict[str, Any]:
    """At a width of its own, and without what waits for a pointer."""
    spec = deepcopy(spec) | {"width": _WIDTH}
    spec.pop("autosize", None)
    spec["layer"] = [one for one in spec["layer"] if not isinstance(one.get("encoding", {}).get("opacity"), dict)]
    spec.pop("params", None)
    return spec


def svg(spec: dict[str, Any]) -> str:
    """A specification drawn, in the colours of paper."""
    extra()
    import vl_convert

    return vl_convert.vegalite_to_svg(_for_paper(spec), config=CONFIG["light"], allowed_base_urls=[])


@lru_cache(maxsize=1)
def script() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script without imports."""
    extra()
    import vl_convert

    return vl_convert.javascript_bundle()  # type: ignore[call-arg]  # its stub forgets the default
