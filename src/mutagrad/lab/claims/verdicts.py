"""Verdicts that come with the package: the last of every claim and scale, whether it is stale, and those that it replaced.

verdicts/ID.SCALE.json is the last verdict; verdicts/superseded holds the others, each with the reason why it was replaced.
"""

import json
import math
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mutagrad.lab.claims.claims import Claim
from mutagrad.lab.claims.digest import digest
from mutagrad.lab.claims.registration import VERDICTS as FOLDER
from mutagrad.lab.claims.registration import registrations, settings_of

__all__ = ["committed", "is_stale", "keep", "last_of", "read", "superseded"]

_SCALES = ("paper", "long", "quick")
_KINDS = {
    "id": str,
    "verdict": str,
    "statement": str,
    "checks": list,
    "settings": dict,
    "date": str,
    "seconds": int | float,
}
_OF_CHECKS = {"what": str, "verdict": str, "is_ours": bool}


def committed() -> dict[tuple[str, str], dict[str, Any]]:
    """The last verdicts, by claim and scale."""
    return {(one["id"], one["settings"]["scale"]): one for one in _read(FOLDER)}


def superseded(claim: Claim) -> list[dict[str, Any]]:
    """The verdicts of a claim that others replaced, oldest first, each with its "superseded" reason."""
    found = [one for one in _read(FOLDER / "superseded") if one["id"] == claim.id]
    return sorted(found, key=lambda one: (one["date"], one.get("registration", 0)))


def last_of(claim: Claim) -> dict[str, Any] | None:
    """The last verdict of a claim, at the largest scale that decides it, or at the largest where none does."""
    found = committed()
    own = [found[claim.id, scale] for scale in _SCALES if (claim.id, scale) in found]
    return next((verdict for verdict in own if verdict["verdict"] != "undecided"), own[0] if own else None)


def is_stale(claim: Claim, verdict: dict[str, Any]) -> bool:
    """Whether the code that a verdict came from has changed since, or what the claim states.

    Intervals follow from code and settings, and need not be derived again.
    """
    kept = registrations(claim)
    if not kept or verdict.get("registration") != kept[-1]["number"]:
        return True
    scale, last = verdict["settings"]["scale"], kept[-1]
    is_same = last["statement"] == claim.statement and last["scales"].get(scale, {}).get("settings") == settings_of(
        claim, scale
    )
    return not is_same or verdict.get("digest") != digest(claim.run.__module__)


_ROUNDING = 1e-6
_OF_ERROR = 1e-3
"""Numbers of two runs are the same if they differ by so little, relatively, or by so little of their standard error."""


def keep(claim: Claim, folder: Path, figures: Path) -> dict[str, Any]:
    """Take a verdict of `reproduce` into the package, its figure beside the documents, and put the one before it aside.

    Parameters
    ----------
    claim : whose verdict it is.
    folder : ``FOLDER/ID`` as `reproduce` wrote it.
    figures : where the small figure is written, as ID.SCALE.png.

    Raises
    ------
    ValueError : if the verdict is of a trial, or of code that has changed since.
    """
    verdict = read(folder / "verdict.json")
    if not verdict.get("registration"):
        raise ValueError(
            f"verdict: got a trial of {claim.id}, which was not registered as it was run; register it and run it"
        )
    if is_stale(claim, verdict):
        raise ValueError(f"verdict: got one of {claim.id} whose code has changed since; run it again")
    name = f"{claim.id}.{verdict['settings']['scale']}"
    path = FOLDER / f"{name}.json"
    if path.exists():
        before = read(path)
        if not _agree(before["checks"], verdict["checks"]) or before.get("registration") != verdict["registration"]:
            _put_aside(before, _reason(claim, before.get("registration") or 0))
    _write(path, verdict)
    figures.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder / "small.png", figures / f"{name}.png")
    return verdict


def _agree(checks: list[dict[str, Any]], others: list[dict[str, Any]]) -> bool:
    """Whether two verdicts say the same: their words, and their numbers up to what is rounded otherwise elsewhere."""

    def same(name: str, one: dict[str, Any], other: dict[str, Any]) -> bool:
        a, b = one.get(name), other.get(name)
        if not (isinstance(a, float) and isinstance(b, float)):
            return bool(a == b)
        return math.isclose(a, b, rel_tol=_ROUNDING, abs_tol=_OF_ERROR * abs(one.get("error") or 0)) or (
            a != a and b != b
        )

    return len(checks) == len(others) and all(
        one.keys() == other.keys() and all(same(name, one, other) for name in one)
        for one, other in zip(checks, others, strict=True)
    )


def _reason(claim: Claim, number: int) -> str:
    """Why a verdict of a registration was replaced: the reasons of all that came after it."""
    later = [one["reason"] for one in registrations(claim) if one["number"] > number]
    return "; ".join(later) or "run again by other code, with other numbers"


def _put_aside(verdict: dict[str, Any], reason: str) -> None:
    code = f".{verdict['digest'][:6]}" if "digest" in verdict else ""
    name = f"{verdict['id']}.{verdict['settings']['scale']}.{verdict.get('registration', 0)}{code}"
    _write(FOLDER / "superseded" / f"{name}.json", verdict | {"superseded": reason})


def _write(path: Path, verdict: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(verdict, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read(path: Path) -> dict[str, Any]:
    """A verdict from its file.

    Raises
    ------
    ValueError : if the file is damaged; one line that names it.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        _check_kinds(found, _KINDS, "verdict")
        _check_kinds(found["settings"], {"scale": str}, "settings")
        for one in found["checks"]:
            _check_kinds(one, _OF_CHECKS, "check")
            if not {"value", "error", "low", "high"} <= set(one):
                raise ValueError("a check has no value, error, low or high")
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"verdict: got {str(path)!r}, which is damaged ({error}); delete it and run the claim"
        ) from None
    return found


def _check_kinds(found: Any, kinds: dict[str, Any], what: str) -> None:
    if not isinstance(found, dict):
        raise ValueError(f"a {what} is a {type(found).__name__} where names and values belong")
    for name, kind in kinds.items():
        if not isinstance(found.get(name), kind):
            raise ValueError(f"{name} of a {what} is {type(found.get(name)).__name__}")


def _read(folder: Path) -> Iterable[dict[str, Any]]:
    paths = sorted(folder.glob("*.json")) if folder.is_dir() else []
    return [read(path) for path in paths]
