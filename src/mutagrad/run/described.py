"""What STEP.json, beside a checkpoint, may say; anything else was written by another version, or by somebody else."""

import math
from typing import Any

import numpy as np

__all__ = ["is_description"]

_NUMBERS, _TEXTS = ("generation", "first", "evaluations"), ("identity", "versions", "files")
"""What STEP.json says, beside its leaves, run, start and records."""
_MOST_RECORDED = 2**33
"""Bytes of the largest history; no journal that is larger is read."""


def is_description(found: dict[str, Any]) -> bool:
    """Whether STEP.json holds what `Checkpoints.save` writes, each of its kind, with a history that can be had."""
    try:
        shapes = [*(shape for _, shape in found["records"].values()), *(shape for shape, _ in found["leaves"].values())]
        is_known = (
            isinstance(found["run"], str)
            and isinstance(found["start"], dict)
            and all(type(found[name]) is int for name in _NUMBERS)
            and all(isinstance(one, str) for name in _TEXTS for one in found[name].values())
            and all(isinstance(dtype, str) and len(dtype) < 64 for dtype, _ in found["records"].values())
            and all(type(size) is int and 0 <= size < 2**40 for shape in shapes for size in shape)
            and math.isfinite(float(found["identity"]["sigma"]))
        )
        row = (
            sum(np.dtype(dtype).itemsize * math.prod(shape) for dtype, shape in found["records"].values())
            if is_known
            else 0
        )
        return is_known and 0 <= (found["generation"] - found["first"]) * row < _MOST_RECORDED
    except (KeyError, TypeError, ValueError, AttributeError):
        return False
