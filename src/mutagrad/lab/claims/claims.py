"""Claims: what a work says, a simulation that decides it, and a verdict with standard errors.

A claim is settled by one or more checks. A check compares a measured value, with its standard error, with an interval: it
holds if the value ± 3 standard errors lies inside, does not hold if all of it lies outside, and is undecided else. A claim
holds if all of its checks do, and does not hold if one of them does not. Where this project adds something to what the
source claims, the checks of the addition (P) have a verdict of their own.
"""

import hashlib
import math
import re
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, SupportsFloat

import numpy as np

__all__ = ["Check", "Claim", "Job", "Needs", "Outcome", "above", "below", "combine", "near"]

ERRORS = 3.0
"""Standard errors that a check allows for: one false alarm in 370 checks of normal values."""
_KEEP_SECONDS = 30.0


class Check(NamedTuple):
    """One measured value beside the interval in which the claim puts it.

    Attributes
    ----------
    what : what was measured.
    value, error : the value and its standard error, 0 for a value without chance.
    low, high : the interval, infinite where it is open.
    is_ours : whether it checks an addition of this project (P) to what the source claims.
    """

    what: str
    value: float
    error: float
    low: float
    high: float
    is_ours: bool = False

    @property
    def verdict(self) -> str:
        """holds, does not hold or undecided."""
        if not (math.isfinite(self.value) and math.isfinite(self.error)):
            return "undecided"
        low, high = self.value - ERRORS * self.error, self.value + ERRORS * self.error
        if self.low <= low and high <= self.high:
            return "holds"
        return "does not hold" if high < self.low or low > self.high else "undecided"


def near(
    what: str, value: SupportsFloat, error: SupportsFloat, expected: float, tolerance: float, ours: bool = False
) -> Check:
    """The claim is that the value is ``expected`` ± ``tolerance``."""
    return Check(what, float(value), float(error), float(expected - tolerance), float(expected + tolerance), ours)


def below(what: str, value: SupportsFloat, error: SupportsFloat, bound: float, ours: bool = False) -> Check:
    """The claim is that the value is no larger than ``bound``."""
    return Check(what, float(value), float(error), -math.inf, float(bound), ours)


def above(what: str, value: SupportsFloat, error: SupportsFloat, bound: float, ours: bool = False) -> Check:
    """The claim is that the value is no smaller than ``bound``."""
    return Check(what, float(value), float(error), float(bound), math.inf, ours)


class Job:
    """What the simulation of a claim is given: its settings, a progress bar, and a place to keep what is done.

    Parameters
    ----------
    settings : of the claim at its scale.
    folder : where parts are kept; ``None`` keeps nothing.
    report : called with the share that is done, from 0 to 1.

    Attributes
    ----------
    reused : names of the parts that were found kept.
    """

    def __init__(
        self,
        settings: dict[str, Any],
        folder: Path | None = None,
        report: Callable[[float], None] = lambda share: None,
    ):
        self.settings = settings
        self._folder = folder
        self._report = report
        self._last_kept = time.perf_counter()
        self.reused: list[str] = []

    def __getitem__(self, name: str) -> Any:
        return self.settings[name]

    def progress(self, share: float) -> None:
        """Say which share is done."""
        self._report(share)

    def part(self, start: float, share: float) -> "Job":
        """A part of the job, which begins at ``start`` and is ``share`` of the whole."""
        part = Job(self.settings, self._folder, lambda done: self._report(start + share * done))
        part.reused = self.reused
        return part

    def load(self, name: str) -> dict[str, np.ndarray] | None:
        """What was kept under a name, or ``None``."""
        if self._folder is None or not self._path(name).exists():
            return None
        self.reused.append(name)
        with np.load(self._path(name), allow_pickle=False) as kept:
            return dict(kept)

    def keep(self, name: str, arrays: dict[str, Any], is_last: bool) -> None:
        """Keep arrays under a name: when they are complete, and before that every half a minute."""
        if self._folder is None or not (is_last or time.perf_counter() - self._last_kept > _KEEP_SECONDS):
            return
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp.npz")
        np.savez(temporary, **arrays)
        temporary.replace(path)
        self._last_kept = time.perf_counter()

    def _path(self, name: str) -> Path:
        assert self._folder is not None
        words = re.sub(r"[^\w.+-]+", "-", name)
        return self._folder / "parts" / f"{words[:80]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}.npz"


class Needs(NamedTuple):
    """What a claim needs at a scale.

    Attributes
    ----------
    evaluations : of the loss, a gradient counting as three.
    memory : bytes at once. disk : bytes of what is kept.
    """

    evaluations: float
    memory: float = 0.0
    disk: float = 0.0


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
    run : ``run(job) -> Outcome``.
    needs : ``needs(settings) -> Needs``.
    caption : of the figure, a format string of the settings.
    """

    id: str
    work: str
    figure: str
    statement: str
    settings: dict[str, dict[str, Any]]
    run: Callable[[Job], Outcome]
    needs: Callable[[dict[str, Any]], Needs]
    caption: str


def combine(verdicts: Iterable[str]) -> str:
    """The verdict of a claim from those of its checks."""
    verdicts = list(verdicts)
    if "does not hold" in verdicts:
        return "does not hold"
    return "holds" if verdicts and all(verdict == "holds" for verdict in verdicts) else "undecided"
