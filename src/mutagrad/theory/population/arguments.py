"""Numbers that the formulas of population genetics accept."""

import math
from typing import Any

import numpy as np

from mutagrad import check

__all__ = ["finite", "generations", "mutations", "not_text", "probability", "shown"]


def shown(value: Any) -> str:
    """``value`` in one line that is not long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def not_text(value: Any) -> Any:
    """``value``, unless it is text: arrays would take "0.1" for a number."""
    many = value.ravel().tolist() if isinstance(value, np.ndarray) and value.dtype.kind in "USO" else value
    if isinstance(many, list | tuple):
        for one in many:
            not_text(one)
    if isinstance(many, str | bytes):
        raise TypeError(f"got {value!r}, which is text")
    return value


def finite(name: str, value: Any, remedy: str = "pass one finite number") -> float:
    """``value`` as a float, if it is one finite number."""
    try:
        number = float(check.concrete(value))
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{name}: got {shown(value)}; {remedy}")
    return number


def generations(value: Any) -> np.ndarray:
    """``value`` as an array of times."""
    try:
        times = np.asarray(not_text(value), np.float64)
    except (TypeError, ValueError, OverflowError):
        times = np.asarray(np.nan)
    if not np.all(times >= 0):
        raise ValueError(f"time: got {shown(value)}; pass generations of 0 or more")
    return times


def mutations(value: Any) -> float:
    """``value`` as a mutation rate: mutations per genome and generation."""
    remedy = "pass a finite number of 0 or more"
    rate = finite("mutation_rate", value, remedy)
    if rate < 0:
        raise ValueError(f"mutation_rate: got {shown(value)}; {remedy}")
    return rate


def probability(name: str, value: Any) -> float:
    """``value`` as a probability."""
    remedy = "pass a probability, from 0 to 1"
    number = finite(name, value, remedy)
    if not 0 <= number <= 1:
        raise ValueError(f"{name}: got {shown(value)}; {remedy}")
    return number
