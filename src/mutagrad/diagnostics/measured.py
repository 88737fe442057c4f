"""A measured number."""

from typing import Any, NamedTuple

__all__ = ["Measured"]


class Measured(NamedTuple):
    """A measured number and how far it may be off: Python floats, or NumPy arrays of one shape.

    Attributes
    ----------
    value : the estimate.
    error : its standard error.
    """

    value: Any
    error: Any
