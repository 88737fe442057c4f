"""Checks: where a claim puts a number, why there, and what the number that was measured says.

An interval stands before the run, with its reason. A check holds if the value ± 3 standard errors lies inside the interval, does
not hold if all of it lies outside, and is undecided else. An error that is the spread over few runs is itself uncertain: it
states its degrees of freedom, and Student's t takes the place of the 3.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple, SupportsFloat

import scipy.stats

__all__ = ["BASES", "PLANNED", "Check", "Expected", "above", "allowed", "below", "combine", "compare", "near"]

ERRORS = 3.0
"""Standard errors that a check allows for: one false alarm in 370 checks of normal values."""
PLANNED = 6.0
"""Planned errors about a law that has no other room: 3 for the chance of the value and 3 for its check, so that it holds."""
BASES = ("theory", "error", "trial", "source", "identity")
"""What an interval may rest on: the next order of theory, a standard error, the next order as trials with other keys found it,
the precision that a source prints, or arithmetic."""


def allowed(freedom: int | None = None) -> float:
    """Standard errors that a check allows for, so that it raises one false alarm in 370.

    Parameters
    ----------
    freedom : degrees of freedom of the error: runs less one, where it is their spread; ``None`` where they are many.

    >>> from mutagrad.lab.claims.checks import allowed
    >>> allowed(), round(allowed(4), 2), round(allowed(30), 2)
    (3.0, 6.62, 3.27)
    """
    return ERRORS if freedom is None else float(scipy.stats.t.isf(scipy.stats.norm.sf(ERRORS), freedom))


class Expected(NamedTuple):
    """Where a claim puts a number, before it is measured.

    Attributes
    ----------
    what : what is measured.
    low, high : the interval, infinite where it is open.
    basis : what the interval rests on, one of `BASES`.
    why : how it was derived, with the numbers.
    is_ours : whether it belongs to an addition of this project (P) to what the source claims.
    is_exact : whether the value is without chance, so that its error is 0.
    freedom : degrees of freedom of the error, where it is the spread over few runs; see `allowed`.
    """

    what: str
    low: float
    high: float
    basis: str
    why: str
    is_ours: bool = False
    is_exact: bool = False
    freedom: int | None = None


def near(
    what: str,
    value: float,
    tolerance: float,
    basis: str,
    why: str,
    ours: bool = False,
    exact: bool = False,
    freedom: int | None = None,
) -> Expected:
    """The claim is that the number is ``value`` ± ``tolerance``.

    >>> from mutagrad.lab.claims.checks import near
    >>> near("slope over the gradient", 1.0, 0.02, "theory", "s²/2 at s = 0.2")[1:3]
    (0.98, 1.02)
    """
    return Expected(what, float(value - tolerance), float(value + tolerance), basis, why, ours, exact, freedom)


def below(
    what: str,
    bound: float,
    basis: str,
    why: str,
    ours: bool = False,
    exact: bool = False,
    freedom: int | None = None,
) -> Expected:
    """The claim is that the number is no larger than ``bound``."""
    return Expected(what, -math.inf, float(bound), basis, why, ours, exact, freedom)


def above(
    what: str,
    bound: float,
    basis: str,
    why: str,
    ours: bool = False,
    exact: bool = False,
    freedom: int | None = None,
) -> Expected:
    """The claim is that the number is no smaller than ``bound``."""
    return Expected(what, float(bound), math.inf, basis, why, ours, exact, freedom)


class Check(NamedTuple):
    """One measured value beside the interval in which the claim puts it.

    Attributes
    ----------
    what : what was measured.
    value, error : the value and its standard error, 0 for a value without chance.
    low, high : the interval, infinite where it is open.
    is_ours : whether it checks an addition of this project (P) to what the source claims.
    freedom : degrees of freedom of the error, where it is the spread over few runs; see `allowed`.
    """

    what: str
    value: float
    error: float
    low: float
    high: float
    is_ours: bool = False
    freedom: int | None = None

    @property
    def verdict(self) -> str:
        """holds, does not hold or undecided."""
        if not (math.isfinite(self.value) and math.isfinite(self.error)):
            return "undecided"
        room = allowed(self.freedom) * self.error
        low, high = self.value - room, self.value + room
        if self.low <= low and high <= self.high:
            return "holds"
        return "does not hold" if high < self.low or low > self.high else "undecided"

    @property
    def missing(self) -> float:
        """How many times as many samples decide it, should the value stay: 1 or less where it is decided, NaN where unknown.

        An error falls like one over the root of the samples; of few runs, more runs tell it better too, so that fewer do.
        """
        if not (math.isfinite(self.value) and math.isfinite(self.error)):
            return math.nan
        room = min(abs(self.value - self.low), abs(self.value - self.high))
        if not self.error:
            return 0.0
        return (allowed(self.freedom) * self.error / room) ** 2 if room else math.inf


def compare(expected: Iterable[Expected], found: dict[str, tuple[SupportsFloat, SupportsFloat]]) -> list[Check]:
    """Measured values beside the intervals that were stated for them.

    Parameters
    ----------
    expected : what was stated.
    found : value and standard error under every name that was stated, and no other.

    Raises
    ------
    ValueError : if a name is missing or was never stated, if a value with chance has no error, or one without chance has one.

    >>> from mutagrad.lab.claims.checks import compare, near
    >>> stated = [near("ratio", 1.0, 0.1, "theory", "the next order")]
    >>> [check.verdict for check in compare(stated, {"ratio": (1.02, 0.01)})]
    ['holds']
    """
    expected = list(expected)
    stated = [one.what for one in expected]
    if sorted(stated) != sorted(found):
        apart = sorted(set(stated).symmetric_difference(found)) or stated
        raise ValueError(f"found: got {sorted(found)}; pass a value for each that was stated ({apart} differ)")
    checks = []
    for one in expected:
        value, error = (float(part) for part in found[one.what])
        if (one.is_exact and error != 0) or (not one.is_exact and error == 0):
            raise ValueError(
                f"found: got error {error:g} for {one.what!r}; pass "
                + (
                    "0, since it was stated without chance"
                    if one.is_exact
                    else "its standard error, since it has chance"
                )
            )
        checks.append(Check(one.what, value, error, one.low, one.high, one.is_ours, one.freedom))
    return checks


def combine(verdicts: Iterable[str]) -> str:
    """The verdict of a claim from those of its checks: it holds if all do, and does not hold if one of them does not."""
    verdicts = list(verdicts)
    if "does not hold" in verdicts:
        return "does not hold"
    return "holds" if verdicts and all(verdict == "holds" for verdict in verdicts) else "undecided"
