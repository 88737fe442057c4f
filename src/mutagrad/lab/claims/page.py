"""All claims on one page: what is claimed, the figure, the verdict with its numbers, and how to run it."""

import base64
from html import escape
from pathlib import Path
from typing import Any

import mutagrad
from mutagrad.lab.claims.claims import Claim
from mutagrad.lab.claims.registration import registrations
from mutagrad.lab.claims.reproduction import claims
from mutagrad.lab.claims.verdicts import committed, last_of, superseded
from mutagrad.lab.claims.words import from_runs, interval, number, standing

__all__ = ["FIGURES", "write"]

FIGURES = Path(mutagrad.__file__).parents[2] / "docs" / "claims"
"""Where a checkout of the project keeps the small figures of committed verdicts."""
_WORKS = {
    "whitelam2021": "Whitelam, Selin, Park, Tamblyn 2021: Correspondence between neuroevolution and gradient descent",
    "whitelam2026": "Whitelam 2026: Why can genetic algorithms work in high-dimensional search spaces?",
    "kucharavy2023": "Kucharavy, Guerraoui, Dolamic 2023: Evolutionary algorithms in the light of SGD",
    "sourbut2022": "Sourbut 2022: Natural selection is stochastic gradient descent",
}
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff }
h1 { font-size: 1.5rem } h2 { margin-top: 3rem; border-bottom: 1px solid #ccc } h3 { margin: 2.2rem 0 .3rem }
table { border-collapse: collapse; width: 100%; font-size: .85rem; margin: .6rem 0 }
th, td { text-align: left; vertical-align: top; padding: .25rem .6rem .25rem 0; border-bottom: 1px solid #eee }
img { max-width: 100%; height: auto } code { background: #f4f4f4; padding: .1rem .3rem }
.mark { font-weight: 600 } .holds { color: #17692a } .does { color: #a11 } .undecided { color: #8a5a00 } .plain { color: #666 }
details { font-size: .85rem } summary { cursor: pointer }
nav td:first-child { white-space: nowrap }
"""


def write(path: Path, figures: Path = FIGURES) -> None:
    """Write the page of all claims.

    Parameters
    ----------
    path : HTML file; it stands alone, figures and all. figures : folder of ID.SCALE.png, where there is one.

    Raises
    ------
    OSError : if the file cannot be written.
    """
    found = claims()
    works = list(dict.fromkeys(claim.work for claim in found))
    body = [
        "<h1>Claims and verdicts</h1>",
        "<p>A claim states its intervals before it is run. A check holds if the measured value ± 3 standard errors lies inside "
        "the interval, does not hold if all of it lies outside, and is undecided else. An error from few runs counts by "
        "Student's t. A claim holds if all its checks do. "
        "<em>P</em> marks what this project adds to the source. <em>Registered</em>: stated before the run, measured by the "
        "code of now. <em>Stale</em>: the code, or what is stated, has changed since. <em>Unregistered</em>: the intervals "
        "were written with the result.</p>",
        _contents(found),
    ]
    for work in works:
        body.append(f"<h2>{escape(_WORKS[work])}</h2>")
        body += [_section(claim, figures) for claim in found if claim.work == work]
    text = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>mutagrad: claims</title><style>{_STYLE}</style></head><body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )
    path.write_text(text, encoding="utf-8")


def _contents(found: list[Claim]) -> str:
    rows = []
    for claim in found:
        last = last_of(claim)
        verdict = _mark(last["verdict"]) if last else _mark("not run")
        addition = _mark(last["addition"]) if last and "addition" in last else ""
        cells = (
            f'<a href="#{claim.id}">{claim.id}</a>',
            verdict,
            addition,
            standing(claim, last),
            escape(claim.statement),
        )
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    head = "<tr><th>claim</th><th>verdict</th><th>P</th><th>as</th><th>statement</th></tr>"
    return f"<nav><table>{head}{''.join(rows)}</table></nav>"


def _section(claim: Claim, figures: Path) -> str:
    parts = [f'<h3 id="{claim.id}">{claim.id}, {escape(claim.figure)}</h3>', f"<p>{escape(claim.statement)}</p>"]
    every = committed()
    own = [every[claim.id, scale] for scale in claim.settings if (claim.id, scale) in every]
    for verdict in own:
        parts.append(_verdict(claim, verdict, figures))
    scales = ", ".join(f"<code>mutagrad reproduce {claim.id} --scale {scale}</code>" for scale in claim.settings)
    parts.append(f"<p>Run it: {scales}</p>")
    if not own:
        parts.append(_stated(claim))
    parts += [
        f"<details><summary>replaced: {_mark(one['verdict'])} on {one['date']}, since {escape(one['superseded'])}</summary>"
        f"{_checks(one, {})}</details>"
        for one in superseded(claim)
    ]
    return "\n".join(part for part in parts if part)


def _verdict(claim: Claim, verdict: dict[str, Any], figures: Path) -> str:
    scale = verdict["settings"]["scale"]
    addition = f", P: {_mark(verdict['addition'])}" if "addition" in verdict else ""
    text = (
        f"<p>{_mark(verdict['verdict'])}{addition} at scale {scale}, {verdict['date']}, {verdict['seconds']:g} s, "
        f"{standing(claim, verdict)}</p>"
    )
    path = figures / f"{claim.id}.{scale}.png"
    if path.exists():
        data = base64.b64encode(path.read_bytes()).decode()
        text += f'<img alt="{escape(claim.statement)}" src="data:image/png;base64,{data}">'
    reasons = {
        one["what"]: f"{one['basis']}: {one['why']}"
        for kept in registrations(claim)
        if kept["number"] == verdict.get("registration")
        for one in kept["scales"][scale]["expected"]
    }
    return text + _checks(verdict, reasons)


def _checks(verdict: dict[str, Any], reasons: dict[str, str]) -> str:
    rows = []
    for check in verdict["checks"]:
        what = ("P: " if check["is_ours"] else "") + check["what"]
        value = f"{number(check['value'])} ± {number(check['error'], 2)}{from_runs(check)}"
        cells = (escape(what), value, interval(check["low"], check["high"]), _mark(check["verdict"]))
        rows.append(_row([*cells, escape(reasons.get(check["what"], ""))] if reasons else list(cells)))
    head = ["what", "measured ± standard error", "interval", "verdict", *(["why there"] if reasons else [])]
    return f"<table>{_row(head, 'th')}{''.join(rows)}</table>"


def _stated(claim: Claim) -> str:
    """What a claim states that has no verdict yet."""
    kept = registrations(claim)
    if not kept:
        return ""
    scale, one = next(iter(kept[-1]["scales"].items()))
    rows = [
        _row([escape(item["what"]), interval(item["low"], item["high"]), escape(f"{item['basis']}: {item['why']}")])
        for item in one["expected"]
    ]
    head = _row(["what", "interval", "why there"], "th")
    return f"<p>Stated on {kept[-1]['date']} at scale {scale}, not run yet:</p><table>{head}{''.join(rows)}</table>"


def _row(cells: list[str], tag: str = "td") -> str:
    return "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>"


def _mark(verdict: str) -> str:
    kind = {"holds": "holds", "does not hold": "does", "undecided": "undecided"}.get(verdict, "plain")
    return f'<span class="mark {kind}">{escape(verdict)}</span>'
