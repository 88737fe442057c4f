"""Registrations: what a claim states, written down before it is run.

A registration holds the statement, the settings of each scale with their key, every interval with its reason, and a digest of the
code that measures. Registrations are kept, oldest first, in registrations/ID.json; a claim that is changed after its result was
seen is registered anew, with a fresh key and the reason.
"""

import datetime
import json
import math
from pathlib import Path
from typing import Any

from mutagrad.lab.claims.checks import BASES, Expected
from mutagrad.lab.claims.claims import Claim
from mutagrad.lab.claims.digest import digest, modules_of

__all__ = ["intervals", "is_registered", "register", "registrations", "settings_of", "source_of", "stated"]

FOLDER = Path(__file__).parent / "registrations"
VERDICTS = Path(__file__).parent / "verdicts"
_CLAIMS = "mutagrad.lab.claims."
_FRAME = ("mutagrad.lab.claims.checks", "mutagrad.lab.claims.claims")


def stated(claim: Claim, scale: str) -> dict[str, Any]:
    """What a claim states at a scale, as JSON holds it: its settings and its intervals.

    Raises
    ------
    ValueError : if an interval rests on nothing that is known, has no reason or no width, or two share a name.
    """
    expected = list(claim.expected(claim.settings[scale]))
    for one in expected:
        if one.basis not in BASES:
            raise ValueError(f"basis: got {one.basis!r} for {one.what!r} of {claim.id}; pass one of {', '.join(BASES)}")
        if not one.why.strip():
            raise ValueError(f"why: got {one.why!r} for {one.what!r} of {claim.id}; pass how the interval was derived")
        if not one.low <= one.high or (not one.is_exact and one.low == one.high):
            raise ValueError(
                f"interval: got {one.low:g} to {one.high:g} for {one.what!r} of {claim.id}; pass one with room"
            )
    names = [one.what for one in expected]
    if len(set(names)) != len(names):
        raise ValueError(f"expected: got two values of one name for {claim.id}; pass a name for each")
    return {"settings": settings_of(claim, scale), "expected": _plain([_written(one) for one in expected])}


def settings_of(claim: Claim, scale: str) -> dict[str, Any] | None:
    """The settings of a claim at a scale, as JSON holds them; ``None`` where it is not set up at that scale."""
    return _plain(claim.settings.get(scale))


def source_of(claim: Claim) -> str:
    """Digest of the modules of claims that measure a claim, without the frame and what they use of the library."""
    used = modules_of(claim.run.__module__)
    return digest(*(name for name in used if name.startswith(_CLAIMS) and name not in _FRAME), follow=False)


def registrations(claim: Claim) -> list[dict[str, Any]]:
    """The registrations of a claim, oldest first."""
    path = FOLDER / f"{claim.id}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def is_registered(claim: Claim, scale: str) -> int:
    """The number of the registration that is what the claim states at a scale now, by the code of now; 0 if there is none.

    >>> from mutagrad.lab.claims.reproduction import find
    >>> from mutagrad.lab.claims.registration import is_registered
    >>> is_registered(find("W26-4")[0], "quick") > 0
    True
    """
    kept = registrations(claim)
    if not kept:
        return 0
    last = kept[-1]
    if last["source"] != source_of(claim) or last["statement"] != claim.statement:
        return 0
    same = _alike(last["scales"].get(scale), stated(claim, scale))
    return last["number"] if same else 0


def intervals(claim: Claim, scale: str) -> list[Expected]:
    """The intervals of the last registration at a scale, to the very digits that were written down."""
    kept = registrations(claim)[-1]["scales"][scale]["expected"]
    # JSON has no infinity.
    ends = ({"low": _or(one["low"], -math.inf), "high": _or(one["high"], math.inf)} for one in kept)
    return [Expected(**(one | both)) for one, both in zip(kept, ends, strict=True)]


def _or(value: float | None, other: float) -> float:
    return other if value is None else value


def register(claim: Claim, reason: str = "") -> dict[str, Any]:
    """Write down what a claim states now, at every scale, beside its earlier registrations.

    Parameters
    ----------
    claim : that is to be run later, and with keys that no run was seen with.
    reason : why it is registered anew; needed where it was registered before, or has a verdict.

    Raises
    ------
    ValueError : if it is registered as it is, if the reason is missing, or if a key is that of an earlier registration.
    """
    kept = registrations(claim)
    scales = {scale: stated(claim, scale) for scale in claim.settings}
    if not kept and any((VERDICTS / f"{claim.id}.{scale}.json").exists() for scale in scales) and not reason.strip():
        raise ValueError(f"reason: got {reason!r}; pass why {claim.id}, which has a verdict, is registered now")
    if kept:
        last = kept[-1]
        if last["scales"] == scales and last["source"] == source_of(claim) and last["statement"] == claim.statement:
            raise ValueError(f"claim: got {claim.id}, which is registered as it is; nothing is to be done")
        if not reason.strip():
            raise ValueError(f"reason: got {reason!r}; pass why {claim.id} is registered anew")
        for scale, one in scales.items():
            before = {past["scales"][scale]["settings"].get("key") for past in kept if scale in past["scales"]}
            if one["settings"].get("key") in before:
                raise ValueError(
                    f"key: got {one['settings'].get('key')} for {claim.id} at {scale}, which was used before; pass a fresh one"
                )
    new = {
        "number": len(kept) + 1,
        "date": datetime.date.today().isoformat(),
        "reason": reason,
        "statement": claim.statement,
        "source": source_of(claim),
        "digest": digest(claim.run.__module__),
        "scales": scales,
    }
    FOLDER.mkdir(exist_ok=True)
    text = json.dumps([*kept, new], indent=1, ensure_ascii=False) + "\n"
    (FOLDER / f"{claim.id}.json").write_text(text, encoding="utf-8")
    return new


def _alike(one: Any, other: Any) -> bool:
    """Whether two values of JSON are the same, numbers up to the rounding of another machine or another order of sums."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_alike(value, other[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(_alike(*pair) for pair in zip(one, other, strict=True))
    return one == other


def _written(one: Expected) -> dict[str, Any]:
    # JSON has no infinity.
    fields = {key: None if value in (math.inf, -math.inf) else value for key, value in one._asdict().items()}
    if one.freedom is None:
        del fields["freedom"]
    return fields


def _plain(value: Any) -> Any:
    """A value as it comes back from JSON."""
    return json.loads(json.dumps(value))
