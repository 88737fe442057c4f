"""Twins: every registered claim once more on a wrong law, at a size of seconds, where it must say "does not hold"."""

from collections.abc import Callable
from typing import NamedTuple

import pytest

import mutagrad
from mutagrad import theory
from mutagrad.lab.claims.kucharavy2023 import directions, minibatches
from mutagrad.lab.claims.whitelam2026 import speed


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


TWINS = [
    Twin(
        "W26-4",
        "one offspring fewer",
        in_place(speed, "gains", lambda right: lambda decreases, number: right(decreases, max(1, number - 1))),
        "speed at small σ over c_Mσ|∇U|",
        {"mutations": 200_000, "size": 1000},
    ),
    Twin(
        "W26-4",
        "curvature takes nothing of the gain",
        in_place(theory, "expected_gain", lambda right: lambda s, number: theory.best_of_moment(number) * s),
        "gain at the best σ over G_M(s*)",
        {"mutations": 200_000, "size": 1000},
    ),
    Twin(
        "K23-9",
        "one dimension more",
        in_place(directions, "cap_angle", lambda right: lambda share, size: right(share, size + 1)),
        "share of directions within the angle that the formula gives 0.1 at, over 0.1, N up to 10",
        {"dims": (2, 3, 10, 100, 2000), "directions": 10_000},
    ),
    Twin(
        "K23-12",
        "mutations on a sphere",
        in_place(mutagrad.mutation, "ball", lambda right: mutagrad.mutation.sphere),
        "power of N",
        {"dims": (2, 3), "offspring": (16, 64, 256), "runs": 256, "large": 500, "large_runs": 100},
    ),
    Twin(
        "K23-13",
        "every beneficial mutation is fixed",
        in_place(mutagrad, "fixation", lambda right: lambda sigma, beta, size: mutagrad.greedy(sigma)),
        "share of moves to the larger of two effects, 3 to 1: s_j/Σ s_k, fixation",
        {"effect": 0.05, "runs": (2**17, 2**13, 2**13)},
    ),
    Twin(
        "K23-14",
        "the full loss is the sum of the minibatches",
        in_place(minibatches, "_progress", lambda right: lambda k: k * right(k)),
        "decrease of the full loss",
        {"size": 50, "mutations": 50_000},
    ),
]
