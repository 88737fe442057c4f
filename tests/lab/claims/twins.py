"""Twins: every registered claim once more on a wrong law, at a size of seconds, where it must say "does not hold"."""

from collections.abc import Callable
from typing import NamedTuple

import pytest


class Twin(NamedTuple):
    """A wrong law that a claim must tell from the right one.

    Attributes
    ----------
    claim : its id.
    wrong : what is wrong, in words.
    make_wrong : ``make_wrong(monkeypatch)`` puts the wrong law, or the wrong algorithm, in place of the right one.
    caught_by : how the names of the checks begin of which one must not hold.
    small : settings in place of those of "quick".
    """

    claim: str
    wrong: str
    make_wrong: Callable[[pytest.MonkeyPatch], None]
    caught_by: str
    small: dict


def in_place(module: object, name: str, make: Callable) -> Callable[[pytest.MonkeyPatch], None]:
    """Puts ``make(right)`` in the place of a function of a module."""
    return lambda monkeypatch: monkeypatch.setattr(module, name, make(getattr(module, name)))


def times(factor: float) -> Callable:
    """A law that is wrong by a factor."""
    return lambda right: lambda *arguments, **names: factor * right(*arguments, **names)
