"""Orbax's own words on a write that failed: tracebacks of its threads, where the run says in one line what failed."""

import logging
import sys
from typing import Any

__all__ = ["silence_orbax"]

_before: Any = None


def silence_orbax() -> None:
    """Let what Orbax and TensorStore write to standard error pass away; what others log or raise is left alone."""
    global _before
    logging.getLogger("absl").addFilter(_is_of_others)
    if sys.unraisablehook is not _unraisable:
        _before, sys.unraisablehook = sys.unraisablehook, _unraisable


def _is_of_others(record: logging.LogRecord) -> bool:
    # absl logs under one name for all; a filter runs where the record was made.
    frame: Any = sys._getframe()
    while frame is not None:
        if str(frame.f_globals.get("__name__")).startswith("orbax."):
            return False
        frame = frame.f_back
    return True


def _unraisable(what: Any) -> None:
    # After one write failed, others of TensorStore's end in a loop of asyncio that Orbax has closed.
    if what.object is not None or str(what.exc_value) != "Event loop is closed":
        _before(what)
