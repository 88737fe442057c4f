"""The page itself: one file of HTML that needs nothing else."""

import base64
import datetime
import json
from collections.abc import Sequence
from html import escape
from typing import Any

from mutagrad.report.page import charts, style
from mutagrad.report.page.panel import Panel
from mutagrad.report.page.panels import panels
from mutagrad.report.page.summary import GOOD, Verdict, of_regime, verdicts
from mutagrad.report.page.told import Told
from mutagrad.report.text import diagnosis_text

__all__ = ["html_of"]

_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data:; "
    "connect-src {connect}; base-uri 'none'; form-action 'none'"
)
"""The page asks nobody for anything; Vega makes functions of the expressions in its specifications."""
_MARKS = {GOOD: "✓", "attention": "!", "unknown": "?"}


def html_of(runs: Sequence[Told], version: str = "") -> str:
    """A page of one run, or of several that are compared.

    Parameters
    ----------
    runs : one or more. version : of what is shown, for a page that is watched; it then looks whether there is a newer one.
    """
    shown = panels(runs)
    title = runs[0].name if len(runs) == 1 else " · ".join(told.name for told in runs)
    body = [_head(runs, title, bool(version)), "<main id='content'>"]
    body.append(_verdicts(runs[0]) if len(runs) == 1 else _compared(runs))
    body += [_notes(told, runs) for told in runs]
    drawn, said = ([one for one in shown if (one.spec is None) is not_drawn] for not_drawn in (False, True))
    body += ["<h2>Over the run</h2>", _controls(), "<div class='panels'>", *map(_panel, drawn), "</div>"]
    if said:
        body += ["<h2>Without a chart</h2>", "<div class='panels'>", *map(_panel, said), "</div>"]
    body += [_about(told, runs) for told in runs]
    body += ["</main>", _foot()]
    specs = {f"chart-{one.key}": one.spec for one in shown if one.spec is not None}
    scripts = [
        f"<script type='application/json' id='specs'>{_json(specs)}</script>",
        f"<script type='application/json' id='config'>{_json(charts.CONFIG)}</script>",
        f"<script>{_script(charts.script())}</script>",
        f"<script>{style.JAVASCRIPT}</script>",
        f"<script>{style.WATCH}</script>" if version else "",
    ]
    policy = _POLICY.format(connect="'self'" if version else "'none'")
    return "\n".join(
        [
            "<!doctype html>",
            f"<html lang='en' data-version='{escape(version)}'>",
            "<head><meta charset='utf-8'>",
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            "<meta name='viewport' content='width=device-width, initial-scale=1'>",
            "<link rel='icon' href='data:,'>",
            f"<title>{escape(title)} – mutagrad</title>",
            f"<style>{style.CSS}</style>",
            "<noscript><style>.chart, .screen { display: none !important } .paper { display: block }</style></noscript>",
            "</head>",
            "<body>",
            *body,
            *scripts,
            "</body>",
            "</html>",
            "",
        ]
    )


def _json(value: Any) -> str:
    """JSON that ends no script and opens no comment in it."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _script(text: str) -> str:
    """JavaScript as it is, but for what would end its element."""
    return text.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _head(runs: Sequence[Told], title: str, is_watched: bool) -> str:
    told = runs[0]
    lines = [f"<h1>{escape(title)}</h1>"]
    if len(runs) == 1:
        lines += [f"<p>{escape(one)}</p>" for one in (told.title, told.how_it_ended) if one]
    else:
        lines.append(f"<p>{len(runs)} runs side by side. Each line of a chart has its run's name.</p>")
    if is_watched:
        lines.append("<p id='watched' class='quiet screen' role='status'></p>")
    return "<header>" + "\n".join(lines) + "</header>"


def _card(one: Verdict) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in one.lines)
    mark = f"<span aria-hidden='true'>{_MARKS[one.tone]}</span> "
    return (
        f"<section class='card verdict {one.tone}'><h2 style='margin:0;font-size:1rem'>{escape(one.question)}</h2>"
        f"<p class='answer'>{mark}{escape(one.answer)}</p><ul>{items}</ul></section>"
    )


def _verdicts(told: Told) -> str:
    return "<div class='verdicts'>" + "".join(map(_card, verdicts(told))) + "</div>"


def _compared(runs: Sequence[Told]) -> str:
    """Verdicts of all runs beside each other, and the settings that differ."""
    found = [verdicts(told) for told in runs]
    head = ("run", *(one.question for one in found[0]))
    rows = [(told.name, *(one.answer for one in own)) for told, own in zip(runs, found, strict=True)]
    parts = ["<h2>Verdicts</h2>", _table((head, *rows), "Verdicts of the runs")]
    facts = [told.defaults | told.settings | told.results for told in runs]
    names = dict.fromkeys(name for told in runs for name in (*told.settings, *told.results))
    differing = [
        (name, *(one.get(name, "–") for one in facts)) for name in names if len({one.get(name) for one in facts}) > 1
    ]
    parts.append("<h2>What differs</h2>")
    if differing:
        parts.append(_table((("", *(told.name for told in runs)), *differing), "Settings and results that differ"))
    else:
        parts.append("<p>No setting differs.</p>")
    for told, own in zip(runs, found, strict=True):
        parts.append(f"<h2>{escape(told.name)}</h2>")
        parts += [f"<p>{escape(one)}</p>" for one in (told.title, told.how_it_ended) if one]
        parts.append("<div class='verdicts'>" + "".join(map(_card, own)) + "</div>")
    return "\n".join(parts)


def _notes(told: Told, runs: Sequence[Told]) -> str:
    if not told.notes:
        return ""
    of = f" of {escape(told.name)}" if len(runs) > 1 else ""
    items = "".join(f"<p>{escape(one)}</p>" for one in told.notes)
    return f"<section class='card note'><h3>What is missing or damaged{of}</h3>{items}</section>"


def _controls() -> str:
    return (
        "<p class='screen' style='margin-top:1.25rem'><label><input type='checkbox' id='log-generations'> generations on a "
        "logarithmic axis</label></p>"
    )


def _panel(one: Panel) -> str:
    parts = [f"<section class='card'><h3>{escape(one.title)}</h3>", f"<p class='why'>{escape(one.why)}</p>"]
    if one.spec is not None:
        title = one.spec.get("title", "")
        label = escape(f"{one.title}: {title}. The numbers are in the table below.", quote=True)
        picture = base64.b64encode(charts.svg(one.spec).encode()).decode()
        parts.append(f'<div class="chart" id="chart-{one.key}" role="img" aria-label="{label}"></div>')
        parts.append(f'<div class="paper"><img alt="{label}" src="data:image/svg+xml;base64,{picture}"></div>')
    parts += [f"<p>{escape(line)}</p>" for line in one.words if line]
    if one.table and one.spec is not None:
        parts.append(f"<details class='screen'><summary>Numbers: {escape(one.title)}</summary>")
        parts.append(_table(one.table, f"Numbers: {one.title}") + "</details>")
    elif one.table:
        parts.append(_table(one.table, one.title))
    return "\n".join([*parts, "</section>"])


def _table(rows: Sequence[Sequence[str]], label: str) -> str:
    """A table, the first row its head; it scrolls by itself where it is too wide."""
    head = "".join(f"<th scope='col'>{escape(cell)}</th>" if cell else "<td></td>" for cell in rows[0])
    body = "".join(
        "<tr>"
        + f"<th scope='row'>{escape(row[0])}</th>"
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows[1:]
    )
    name = escape(label, quote=True)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{name}"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _about(told: Told, runs: Sequence[Told]) -> str:
    """What was found in sentences, how to go on and to reproduce, and the settings."""
    of = f" – {escape(told.name)}" if len(runs) > 1 else ""
    said = []
    for heading, lines in of_regime(told):
        said.append(f"<h3>{escape(heading)}</h3>" + "".join(f"<p>{escape(line)}</p>" for line in lines))
    if not said:
        said.append(f"<p>{escape(told.why_no_regime)}</p>")
    if told.loss_kind:
        said.append(f"<p>At the last parameters: {escape(told.loss_kind)}</p>")
    if told.diagnosis is not None:
        where, found = told.diagnosis
        said.append(f"<h3>{escape(where)}</h3><pre>{escape(diagnosis_text(found))}</pre>")
    parts = [f"<h2>In sentences{of}</h2><section class='card said'>", *said, "</section>"]
    if told.commands:
        parts.append(f"<h2>Go on, and do it again{of}</h2><section class='card'>")
        parts += [f"<p>{escape(what)}</p><pre>{escape(how)}</pre>" for what, how in told.commands.items()]
        parts.append("</section>")
    parts += [f"<h2>Settings, results and versions{of}</h2>", "<div class='panels'>"]
    parts += [_listed(*one, told) for one in (("Results", told.results), ("Versions", told.versions)) if one[1]]
    if told.settings or told.defaults:
        set_here = _table((("setting", "value"), *told.settings.items()), f"Settings of {told.name}")
        others = _table((("setting", "value"), *told.defaults.items()), f"Settings of {told.name} by default")
        parts.append(
            f"<section class='card'><h3>Settings</h3>{set_here if told.settings else '<p>All are as by default.</p>'}"
            f"<details><summary>{len(told.defaults)} settings as by default</summary>{others}</details></section>"
        )
    parts.append("</div>")
    return "\n".join(parts)


def _listed(heading: str, rows: dict[str, str], told: Told) -> str:
    table = _table((("name", "value"), *rows.items()), f"{heading} of {told.name}")
    return f"<section class='card'><h3>{heading}</h3>{table}</section>"


def _foot() -> str:
    today = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    return (
        f"<footer><p>Made by mutagrad on {escape(today)}. What each part says and how it is measured is described in "
        "docs/run_page.md and docs/theory.md of mutagrad.</p></footer>"
    )
