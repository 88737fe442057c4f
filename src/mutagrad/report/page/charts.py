"""Charts of courses by Vega-Altair: as specifications that a browser draws, and as SVG for paper."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from mutagrad.report.page.series import Course

__all__ = ["CONFIG", "bars", "courses", "extra", "interval", "script", "svg"]

_LIGHT = ["#0072B2", "#C24E00", "#00795A", "#A8447E", "#8A6A00", "#3B6FD4"]
_DARK = ["#56B4E9", "#E69F00", "#2BC49A", "#E39BC4", "#F0E442", "#A9BBFF"]
"""Colours after Okabe and Ito, which the colour-blind tell apart, darker on white and lighter on black."""
_WIDTH, _HEIGHT = 620, 240
_PRINTED = "ui-sans-serif, system-ui, sans-serif"


def _config(ink: str, faint: str, colours: list[str]) -> dict[str, Any]:
    axis = {"labelColor": ink, "titleColor": ink, "gridColor": faint, "domainColor": ink, "tickColor": ink}
    return {
        "background": "transparent",
        "font": _PRINTED,
        "aria": False,
        "view": {"stroke": None},
        "title": {"color": ink, "fontSize": 12, "fontWeight": "normal", "anchor": "start", "frame": "group", "offset": 8},
        "axis": axis | {"labelFontSize": 11, "titleFontSize": 12, "titleFontWeight": "normal", "labelOverlap": True},
        "legend": {
            **{"labelColor": ink, "titleColor": ink, "labelFontSize": 12, "labelLimit": 300, "orient": "top"},
            **{"direction": "vertical", "title": None, "offset": 4, "symbolStrokeWidth": 3},
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
    points: bool = False,
    middle: str = "median",
) -> dict[str, Any]:
    """Lines over generations with their bands, and values where the pointer is.

    Parameters
    ----------
    lines : what to draw; one without a value is left out. title : quantity and unit. logarithmic : the axis of the values.
    marks : names and values of horizontal lines. domain : of the values. points : draw a dot at each value.
    middle : what the line is, for the values shown.

    Returns
    -------
    A Vega-Lite specification.
    """
    alt = extra()
    rows = [{"series": one.name, **row} for one in lines if one.is_known for row in one.rows]
    names = [*dict.fromkeys(row["series"] for row in rows), *(name for name, _ in marks)]
    scale = alt.Scale(type="log" if logarithmic else "linear", zero=False, nice=True)
    if domain is not None:
        scale = alt.Scale(domain=list(domain), zero=False)
    axis = alt.Axis(title=None, format="~g", tickCount=5)
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("x:Q", title="generation", scale=alt.Scale(nice=False), axis=alt.Axis(format="~s", tickCount=5, grid=False)),
        color=alt.Color("series:N", scale=alt.Scale(domain=names), legend=alt.Legend()),
    )
    band = base.mark_area(opacity=0.25, clip=True).encode(
        y=alt.Y("low:Q", scale=scale, axis=axis), y2="high:Q"
    )
    line = base.mark_line(strokeWidth=2, point={"size": 30} if points else False, clip=True).encode(
        y=alt.Y("mid:Q", scale=scale, axis=axis)
    )
    near = alt.selection_point(name="near", nearest=True, on="pointerover", clear="pointerout", fields=["from", "series"], empty=False)
    extremes = [] if points else [alt.Tooltip("low:Q", title="from", format=".4~g"), alt.Tooltip("high:Q", title="to", format=".4~g")]
    dots = (
        base.mark_point(filled=True, size=70, clip=True)
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
    for name, value in marks:
        layers.append(
            alt.Chart(alt.Data(values=[{"series": name, "mid": value}]))
            .mark_rule(strokeDash=[6, 4], strokeWidth=1.5, clip=True)
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
        .mark_bar()
        .encode(
            x=alt.X("left:Q", title="place of the offspring", axis=alt.Axis(format="~s", tickMinStep=1, grid=False)),
            x2="right:Q",
            y=alt.Y("wins:Q", axis=alt.Axis(title=None, format="~s", tickCount=5)),
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
    scale = alt.Scale(type="log" if logarithmic else "linear", zero=False)
    x = alt.X("x:Q", title="generation", scale=alt.Scale(nice=False), axis=alt.Axis(format="~s", tickCount=5, grid=False))
    y = alt.Y("mid:Q", scale=scale, axis=alt.Axis(title=None, format="~g", tickCount=5))
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


def _whole(chart: Any, title: str) -> dict[str, Any]:
    sized = chart.properties(
        title=title, width="container", height=_HEIGHT, autosize=extra().AutoSizeParams(type="fit-x", contains="padding")
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


def script() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script without imports."""
    extra()
    import vl_convert

    return vl_convert.javascript_bundle()
