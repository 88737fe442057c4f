"""Greedy selection of a given learning rate, and the normalised gradient descent that it amounts to."""

import math
from typing import Any

import jax

import mutagrad
from mutagrad import theory
from mutagrad.lab.claims.ensemble import Runs, descend

__all__ = ["greedy", "normalized_descent"]


def greedy(step: float) -> mutagrad.Algorithm:
    """Greedy selection whose normalised learning rate, per generation, is ``step`` = λα."""
    return mutagrad.greedy(step * math.sqrt(2 * math.pi), reevaluate_parent=False)


def normalized_descent(start: jax.Array, losses_fn: Any, time: float, records: int, step: float = 1e-3) -> Runs:
    """Normalised gradient descent to t = ``time`` by steps of the length ``step``."""
    return descend(theory.equivalent_gradient_descent(greedy(step)), losses_fn, start, round(time / step), records)
