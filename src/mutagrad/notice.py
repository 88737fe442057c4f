"""Warnings that point at the line of the user's program that called the library. It needs no JAX."""

import sys
import warnings

__all__ = ["warn"]


def warn(message: str) -> None:
    """Warn at the innermost line that is not the library's."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "mutagrad":
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)
