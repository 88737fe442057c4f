"""Checks whose interval was written where the value was measured: those of claims that are still to be registered."""

from typing import SupportsFloat

from mutagrad.lab.claims.checks import Check

__all__ = ["above", "below", "near"]


def near(
    what: str, value: SupportsFloat, error: SupportsFloat, expected: float, tolerance: float, ours: bool = False
) -> Check:
    """The claim is that the value is ``expected`` ± ``tolerance``."""
    return Check(what, float(value), float(error), float(expected - tolerance), float(expected + tolerance), ours)


def below(what: str, value: SupportsFloat, error: SupportsFloat, bound: float, ours: bool = False) -> Check:
    """The claim is that the value is no larger than ``bound``."""
    return Check(what, float(value), float(error), float("-inf"), float(bound), ours)


def above(what: str, value: SupportsFloat, error: SupportsFloat, bound: float, ours: bool = False) -> Check:
    """The claim is that the value is no smaller than ``bound``."""
    return Check(what, float(value), float(error), float(bound), float("inf"), ours)
