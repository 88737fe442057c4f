"""Claims: what a work says, where it puts which number and why, and a simulation that measures it.

A claim states its intervals before it is run (`mutagrad.lab.claims.checks`), and holds if all of its checks do. Where this
project adds something to what the source claims, the checks of the addition (P) have a verdict of their own.
"""

import hashlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, SupportsFloat

import jax
import numpy as np

from mutagrad.lab.claims.checks import Expected

__all__ = ["Claim", "Job", "Needs", "Outcome"]

_KEEP_SECONDS = 30.0


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

    @property
    def key(self) -> jax.Array:
        """The random key of the claim: its setting "key"."""
        return jax.random.key(self.settings["key"])

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
        return self._folder / f"{words[:80]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}.npz"


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
    found : value and standard error of every number that the claim states, by its name.
    data : xarray Dataset of what the figure shows.
    draw : ``draw(data) -> matplotlib Figure``.
    """

    found: Mapping[str, tuple[SupportsFloat, SupportsFloat]]
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
    settings : of each scale, "quick", "long" or "paper", a dict; those of "paper" are the source's own. "key" is the seed.
    run : ``run(job) -> Outcome``.
    needs : ``needs(settings) -> Needs``.
    caption : of the figure, a format string of the settings.
    expected : ``expected(settings) -> [Expected, ...]``, known before anything is run.
    """

    id: str
    work: str
    figure: str
    statement: str
    settings: dict[str, dict[str, Any]]
    run: Callable[[Job], Outcome]
    needs: Callable[[dict[str, Any]], Needs]
    caption: str
    expected: Callable[[dict[str, Any]], Sequence[Expected]]
