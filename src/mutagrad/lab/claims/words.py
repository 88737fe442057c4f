"""Claims and verdicts in words: a table of all, and a verdict with its checks."""

from typing import Any

from mutagrad.lab.claims.claims import Claim
from mutagrad.lab.claims.registration import registrations
from mutagrad.lab.claims.reproduction import claims
from mutagrad.lab.claims.verdicts import is_stale, last_of, superseded

__all__ = ["from_runs", "interval", "number", "sentences", "standing", "table"]


def table() -> str:
    """All claims with their last committed verdicts, one per line; P is what this project adds to the source's claim."""
    lines = [f"{'claim':8} {'figure':14} {'verdict':14} {'P':14} {'scale':6} {'date':11} {'as':12} statement"]
    for claim in claims():
        last = last_of(claim)
        scale, date = (last["settings"]["scale"], last["date"]) if last else ("", "")
        cells = (
            last["verdict"] if last else "not run",
            (last or {}).get("addition", ""),
            scale,
            date,
            standing(claim, last),
        )
        lines.append(
            "{:8} {:14} {:14} {:14} {:6} {:11} {:12} {}".format(claim.id, claim.figure, *cells, claim.statement)
        )
    lines += [
        "",
        "as: registered (stated before the run, by the code of now), stale (that code, or what it states, has changed since), "
        "unregistered (stated with the result).",
        "P: what this project adds to the source's claim, with a verdict of its own.",
    ]
    return "\n".join(lines)


def standing(claim: Claim, verdict: dict[str, Any] | None) -> str:
    """How a verdict stands: registered, stale, unregistered, or nothing where there is none."""
    if verdict is None:
        return "registered" if registrations(claim) else ""
    if not verdict.get("registration"):
        return "unregistered"
    return "stale" if is_stale(claim, verdict) else "registered"


def sentences(verdict: dict[str, Any]) -> str:
    """A verdict as text: the claim, and every check with its value, error and interval, and what was missing to decide it."""
    addition = f" (P: {verdict['addition']})" if "addition" in verdict else ""
    lines = [f"{verdict['id']} {verdict['verdict']}{addition}: {verdict['statement']} ({verdict['seconds']} s)"]
    if not verdict.get("registration"):
        lines.append("  a trial: what was run is not what was registered")
    for check in verdict["checks"]:
        what = f"{'P: ' if check['is_ours'] else ''}{check['what']}"
        found = (
            f"{number(check['value'])} ± {number(check['error'], 2)}{from_runs(check)}, "
            f"expected {interval(check['low'], check['high'])}"
        )
        lines.append(f"  {check['verdict']:13} {what}: {found}{_power(check)}")
    lines += [f"  replaced: {one['verdict']} on {one['date']}; {one['superseded']}" for one in _replaced(verdict)]
    return "\n".join(lines)


def from_runs(check: dict[str, Any]) -> str:
    """How many runs the error of a check comes from, where they are few."""
    return f" from {check['freedom'] + 1} runs" if "freedom" in check else ""


def _power(check: dict[str, Any]) -> str:
    missing = check.get("missing")
    if check["verdict"] != "undecided" or check["value"] is None:
        return ""
    return f"; {missing:.3g} times as many samples would decide it" if missing else "; it lies on its bound"


def _replaced(verdict: dict[str, Any]) -> list[dict[str, Any]]:
    owner = next((claim for claim in claims() if claim.id == verdict["id"]), None)
    return superseded(owner) if owner else []


def number(value: float | None, digits: int = 4) -> str:
    """A number as a verdict holds it."""
    return "nan" if value is None else f"{value:.{digits}g}"


def interval(low: float | None, high: float | None) -> str:
    """An interval in words."""
    if low is None or high is None:
        return f"≤ {high:.4g}" if low is None else f"≥ {low:.4g}"
    return f"{low:.4g} to {high:.4g}"
