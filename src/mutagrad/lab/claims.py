"""Claims: what a work says, a simulation that decides it, and a verdict with standard errors.

A claim is settled by one or more checks. A check compares a measured value, with its standard error, with an interval: it
holds if the value ± 3 standard errors lies inside, does not hold if all of it lies outside, and is undecided else. A claim
holds if all of its checks do, and does not hold if one of them does not.
"""

import datetime
import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module, resources
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Check", "Claim", "Outcome", "above", "below", "claims", "find", "near", "reproduce", "table"]

WORKS = ("whitelam2021",)
SCALES = ("quick", "paper")
ERRORS = 3.0
"""Standard errors that a check allows for: one false alarm in 370 checks of normal values."""


class Check(NamedTuple):
    """One measured value beside the interval in which the claim puts it.

    Attributes
    ----------
    what : what was measured.
    value, error : the value and its standard error, 0 for a value without chance.
    low, high : the interval, infinite where it is open.
    """

    what: str
    value: float
    error: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """holds, does not hold or undecided."""
        if not (math.isfinite(self.value) and math.isfinite(self.error)):
            return "undecided"
        low, high = self.value - ERRORS * self.error, self.value + ERRORS * self.error
        if self.low <= low and high <= self.high:
            return "holds"
        return "does not hold" if high < self.low or low > self.high else "undecided"


def near(what: str, value: float, error: float, expected: float, tolerance: float) -> Check:
    """The claim is that the value is ``expected`` ± ``tolerance``."""
    return Check(what, float(value), float(error), float(expected - tolerance), float(expected + tolerance))


def below(what: str, value: float, error: float, bound: float) -> Check:
    """The claim is that the value is no larger than ``bound``."""
    return Check(what, float(value), float(error), -math.inf, float(bound))


def above(what: str, value: float, error: float, bound: float) -> Check:
    """The claim is that the value is no smaller than ``bound``."""
    return Check(what, float(value), float(error), float(bound), math.inf)


class Outcome(NamedTuple):
    """What a claim's simulation found.

    Attributes
    ----------
    checks : the values that decide it.
    data : xarray Dataset of what the figure shows.
    draw : ``draw(data) -> matplotlib Figure``.
    """

    checks: Sequence[Check]
    data: Any
    draw: Callable[[Any], Any]


class Claim(NamedTuple):
    """A claim of a work, and how to decide it.

    Attributes
    ----------
    id : such as "W21-9".
    work : the module that holds it, such as "whitelam2021".
    figure : of the source, or what it is about.
    statement : in one sentence.
    settings : of each scale, a dict; those of "paper" are the source's own.
    run : ``run(settings, progress) -> Outcome``; it calls ``progress(share)`` with shares that grow to 1.
    """

    id: str
    work: str
    figure: str
    statement: str
    settings: dict[str, dict[str, Any]]
    run: Callable[[dict[str, Any], Callable[[float], None]], Outcome]


def claims() -> list[Claim]:
    """All claims, work by work."""
    return [claim for work in WORKS for claim in import_module(f"mutagrad.lab.{work}").CLAIMS]


def find(name: str) -> list[Claim]:
    """The claims that a name stands for: an id, a work, or "all".

    Raises
    ------
    ValueError : if there is none; it lists those that there are.

    >>> from mutagrad.lab.claims import find
    >>> [claim.id for claim in find("W21-9")]
    ['W21-9']
    """
    found = [claim for claim in claims() if name in ("all", claim.work) or name.upper() == claim.id]
    if not found:
        names = ", ".join([*(claim.id for claim in claims()), *WORKS, "all"])
        raise ValueError(f"claim: got {name!r}; pass one of {names}")
    return found


def check_scale(found: Iterable[Claim], scale: str) -> None:
    """Refuse a scale at which one of the claims is not set up, before any is run."""
    for claim in found:
        if scale not in claim.settings:
            raise ValueError(f"scale: got {scale!r} for {claim.id}; pass one of {', '.join(claim.settings)}")


def combine(verdicts: Iterable[str]) -> str:
    """The verdict of a claim from those of its checks."""
    verdicts = list(verdicts)
    if "does not hold" in verdicts:
        return "does not hold"
    return "holds" if verdicts and all(verdict == "holds" for verdict in verdicts) else "undecided"


def reproduce(claim: Claim, folder: Path, scale: str = "quick", progress: bool = True) -> dict[str, Any]:
    """Decide a claim, and write its figure (PNG and SVG), data (Zarr) and verdict into FOLDER/ID.

    A claim that has a verdict there for the same settings is not run again, so that a series that was interrupted goes on
    where it was.

    Parameters
    ----------
    claim : see `find`.
    folder : where the claims are written.
    scale : "quick" (minutes on two cores) or "paper" (the source's own size).
    progress : whether to show a progress bar.

    Returns
    -------
    The verdict, as verdict.json holds it.

    Raises
    ------
    ValueError : if the claim is not set up at that scale.
    """
    from tqdm import tqdm

    check_scale([claim], scale)
    own = folder / claim.id
    settings = {"scale": scale} | claim.settings[scale]
    done = own / "verdict.json"
    if done.exists():
        earlier = json.loads(done.read_text())
        if earlier["settings"] == json.loads(json.dumps(settings)):
            return earlier
    start = time.perf_counter()
    with tqdm(
        total=100, desc=claim.id, unit="%", disable=not progress, bar_format="{desc} {bar} {n:.0f}% {elapsed}"
    ) as bar:
        outcome = claim.run(settings, lambda share: bar.update(100 * share - bar.n))
        bar.update(100 - bar.n)
    seconds = time.perf_counter() - start
    own.mkdir(parents=True, exist_ok=True)
    outcome.data.attrs.update(claim=claim.id, settings=json.dumps(settings))
    outcome.data.to_zarr(own / "data.zarr", mode="w", zarr_format=2, consolidated=True)
    figure = outcome.draw(outcome.data)
    for suffix in ("png", "svg"):
        figure.savefig(own / f"figure.{suffix}", dpi=150)
    verdict = {
        "id": claim.id,
        "figure": claim.figure,
        "statement": claim.statement,
        "verdict": combine(check.verdict for check in outcome.checks),
        "checks": [_written(check) for check in outcome.checks],
        "settings": settings,
        "seconds": round(seconds, 1),
        "date": datetime.date.today().isoformat(),
    }
    temporary = done.with_suffix(".tmp")
    temporary.write_text(json.dumps(verdict, indent=2, ensure_ascii=False) + "\n")
    temporary.replace(done)
    return verdict


def _written(check: Check) -> dict[str, Any]:
    # JSON has no infinity.
    fields = {key: None if value in (math.inf, -math.inf) else value for key, value in check._asdict().items()}
    return fields | {"verdict": check.verdict}


def committed() -> dict[str, dict[str, Any]]:
    """The verdicts that come with the package, by id."""
    folder = resources.files("mutagrad.lab") / "verdicts"
    if not folder.is_dir():
        return {}
    found = (json.loads(path.read_text()) for path in folder.iterdir() if path.name.endswith(".json"))
    return {verdict["id"]: verdict for verdict in found}


def table() -> str:
    """All claims with their last committed verdicts, one per line."""
    verdicts = committed()
    lines = [f"{'claim':8} {'figure':14} {'verdict':14} {'scale':6} {'date':11} statement"]
    for claim in claims():
        last = verdicts.get(claim.id)
        verdict, scale, date = (
            (last["verdict"], last["settings"]["scale"], last["date"]) if last else ("not run", "", "")
        )
        lines.append(f"{claim.id:8} {claim.figure:14} {verdict:14} {scale:6} {date:11} {claim.statement}")
    return "\n".join(lines)


def sentences(verdict: dict[str, Any]) -> str:
    """A verdict as text: the claim, and every check with its value, error and interval."""
    lines = [f"{verdict['id']} {verdict['verdict']}: {verdict['statement']} ({verdict['seconds']} s)"]
    for check in verdict["checks"]:
        low, high = check["low"], check["high"]
        interval = (
            f"{low:.4g} to {high:.4g}"
            if None not in (low, high)
            else f"≥ {low:.4g}"
            if high is None
            else f"≤ {high:.4g}"
        )
        lines.append(
            f"  {check['verdict']:13} {check['what']}: {check['value']:.4g} ± {check['error']:.2g}, expected {interval}"
        )
    return "\n".join(lines)
