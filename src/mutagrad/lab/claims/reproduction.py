"""Claims decided: found by name, planned, run, and written down."""

import datetime
import json
import math
import os
import shutil
import textwrap
import time
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from mutagrad.lab.claims import registration
from mutagrad.lab.claims.checks import Check, combine, compare
from mutagrad.lab.claims.claims import Claim, Job
from mutagrad.lab.claims.digest import digest
from mutagrad.lab.claims.verdicts import committed, read

__all__ = ["check_scale", "claims", "find", "plan", "reproduce", "with_key"]

WORKS = ("whitelam2021", "whitelam2026", "kucharavy2023", "sourbut2022")
_PER_INCH = 16
"""Letters of a caption to an inch."""
LARGEST = 100_000
"""Bytes of the small figure, at most."""


def claims() -> list[Claim]:
    """All claims, work by work."""
    return [claim for work in WORKS for claim in import_module(f"mutagrad.lab.claims.{work}").CLAIMS]


def find(name: str) -> list[Claim]:
    """The claims that a name stands for: an id, a work, or "all".

    Raises
    ------
    ValueError : if there is none; it lists those that there are.

    >>> from mutagrad.lab.claims.reproduction import find
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


def with_key(claim: Claim, key: int) -> Claim:
    """A trial of a claim: the same with another key, which nobody registered.

    Raises
    ------
    ValueError : for a key that is not from 0 to 2³² − 1.
    """
    if not 0 <= key < 2**32:
        raise ValueError(f"key: got {key}; pass a whole number from 0 to 2³² − 1")
    return claim._replace(settings={scale: settings | {"key": key} for scale, settings in claim.settings.items()})


def reproduce(claim: Claim, folder: Path, scale: str = "quick", progress: bool = True) -> dict[str, Any]:
    """Decide a claim, and write its figure (PNG and SVG), data (Zarr) and verdict into FOLDER/ID.

    A claim that has a verdict there, of the same settings and code, is not run again, so that a series that was interrupted
    goes on where it was. Parts of a simulation are kept too, and used again by the same code.

    Parameters
    ----------
    claim : see `find`.
    folder : where the claims are written.
    scale : "quick" (minutes on two cores), "long" (a night) or "paper" (the source's own size).
    progress : whether to show a progress bar.

    Returns
    -------
    The verdict, as verdict.json holds it. Its "registration" is 0 where what was run is not what was registered: a trial.

    Raises
    ------
    ValueError : if the claim is not set up at that scale, or needs more memory or disk than there is.
    """
    from tqdm import tqdm

    check_scale([claim], scale)
    _check_room(claim, scale, folder)
    own, code = folder / claim.id, digest(claim.run.__module__)
    settings = {"scale": scale} | claim.settings[scale]
    done = own / "verdict.json"
    if done.exists():
        earlier = read(done)
        if earlier["settings"] == json.loads(json.dumps(settings)) and earlier.get("digest") == code:
            return earlier
    # What is stated stands before the run.
    number = registration.is_registered(claim, scale)
    expected = registration.intervals(claim, scale) if number else claim.expected(claim.settings[scale])
    started = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    # What a trial has seen is not used by a registered run.
    parts = folder / "parts" / f"{code}-{number or 'trial'}"
    start = time.perf_counter()
    with tqdm(
        total=100, desc=claim.id, unit="%", disable=not progress, bar_format="{desc} {bar} {n:.0f}% {elapsed}"
    ) as bar:
        job = Job(claim.settings[scale], parts, lambda share: bar.update(100 * share - bar.n))
        outcome = claim.run(job)
        bar.update(100 - bar.n)
    seconds = time.perf_counter() - start
    checks = compare(expected, dict(outcome.found))
    own.mkdir(parents=True, exist_ok=True)
    outcome.data.attrs.update(claim=claim.id, settings=json.dumps(settings))
    outcome.data.to_zarr(own / "data.zarr", mode="w", zarr_format=2, consolidated=True)
    _write_figures(claim, scale, outcome.draw(outcome.data), own)
    verdict = {
        "id": claim.id,
        "figure": claim.figure,
        "statement": claim.statement,
        **_verdicts(checks),
        "checks": [_written(check) for check in checks],
        "settings": settings,
        "registration": number,
        "digest": code,
        "seconds": round(seconds, 1),
        "reused": bool(job.reused),
        "started": started,
        "date": datetime.date.today().isoformat(),
    }
    temporary = done.with_suffix(".tmp")
    temporary.write_text(json.dumps(verdict, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(done)
    return verdict


def _write_figures(claim: Claim, scale: str, figure: Any, own: Path) -> None:
    """The figure in full, and once more as small as a page of many needs it."""
    words = f"{claim.id}: {_caption(claim, scale)}"
    figure.supxlabel(textwrap.fill(words, int(_PER_INCH * figure.get_figwidth())), fontsize=8, color="0.35")
    for suffix in ("png", "svg"):
        figure.savefig(own / f"figure.{suffix}", dpi=150)
    from PIL import Image

    small = own / "small.png"
    for dpi in (100, 80, 65, 50):
        figure.savefig(small, dpi=dpi)
        # A palette: a figure has few colours.
        Image.open(small).convert("RGB").quantize(128).save(small, optimize=True)
        if small.stat().st_size < LARGEST:
            return


def _verdicts(checks: Sequence[Check]) -> dict[str, str]:
    """The verdict of the source's claim, and of the addition to it if there are both."""
    ours, theirs = ([check.verdict for check in checks if check.is_ours == is_ours] for is_ours in (True, False))
    return (
        {"verdict": combine(theirs), "addition": combine(ours)}
        if ours and theirs
        else {"verdict": combine(ours or theirs)}
    )


class _Shown:
    """A setting as a caption shows it: in words, or by the format that the caption gives."""

    def __init__(self, value: Any):
        self._value = value

    def __format__(self, form: str) -> str:
        return format(self._value, form) if form else _shown(self._value)

    def __getitem__(self, place: Any) -> "_Shown":
        return _Shown(self._value[place])


def _caption(claim: Claim, scale: str) -> str:
    return claim.caption.format(**{name: _Shown(value) for name, value in claim.settings[scale].items()})


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(one)}" for name, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_shown(one) for one in value)
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def plan(claim: Claim, scale: str) -> str:
    """What a claim needs at a scale, and how long it takes at the rate of its committed verdict.

    >>> from mutagrad.lab.claims.reproduction import find, plan
    >>> plan(find("W21-1")[0], "paper").split(", ")[0]
    'W21-1 at scale paper: 1e+10 loss evaluations'
    """
    needs = claim.needs(claim.settings[scale])
    text = (
        f"{claim.id} at scale {scale}: {needs.evaluations:.3g} loss evaluations, {_bytes(needs.memory)} of memory, "
        f"{_bytes(needs.disk)} on disk"
    )
    last = _timed(claim)
    if last is None:
        return text
    then = claim.settings[last["settings"]["scale"]]
    rate = claim.needs(then).evaluations / last["seconds"]
    duration = _duration(needs.evaluations / rate)
    return f"{text}; {duration} at the {rate:,.0f} evaluations/s of its committed run ({last['date']})"


def _timed(claim: Claim) -> dict[str, Any] | None:
    """A committed verdict that tells how long this simulation takes: its own, or that of a claim which shares it."""
    alike = [claim.id, *(other.id for other in claims() if other.settings is claim.settings and other.id != claim.id)]
    found = committed()
    whole = [found[key] for id in alike for key in found if key[0] == id and not found[key]["reused"]]
    return next((last for last in whole if last["settings"]["scale"] in claim.settings), None)


def _check_room(claim: Claim, scale: str, folder: Path) -> None:
    """Refuse what does not fit, before it starts."""
    needs = claim.needs(claim.settings[scale])
    parent = next(path for path in [folder.absolute(), *folder.absolute().parents] if path.exists())
    disk = shutil.disk_usage(parent).free
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for name, needed, there in (("memory", needs.memory, memory), ("disk", needs.disk, disk)):
        if needed > there:
            raise ValueError(
                f"scale: got {scale!r} for {claim.id}, which needs {_bytes(needed)} of {name} where there are "
                f"{_bytes(there)}; pass quick, or use a larger machine"
            )


def _bytes(number: float) -> str:
    return f"{number / 1e9:.3g} GB" if number >= 1e9 else f"{number / 1e6:.3g} MB"


def _duration(seconds: float) -> str:
    for unit, name in ((3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds:.3g} seconds"


def _written(check: Check) -> dict[str, Any]:
    # JSON has no infinity and no NaN.
    fields = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in check._asdict().items()
    }
    if check.freedom is None:
        del fields["freedom"]
    missing = check.missing
    return fields | {"verdict": check.verdict, "missing": round(missing, 2) if math.isfinite(missing) else None}
