"""A number that was measured, and how far it may be off."""

import math
from typing import Any, NamedTuple

import jax
import numpy as np

__all__ = ["Estimate"]


class Estimate(NamedTuple):
    """A number and how far it may be off. JAX transformations pass through value and error; the unit is static.

    Attributes
    ----------
    value : the estimate: a number, or an array.
    error : its standard error or, where the function that returned it says so, a bound. Of the shape of ``value``.
    unit : of both, as text.

    >>> from mutagrad.estimate import Estimate
    >>> print(Estimate(1.86753, 0.0123, "loss"))
    1.868 ± 0.012 loss
    >>> print(Estimate(3.21e-7, 4.1e-8))
    (3.21 ± 0.41)e-07
    """

    value: Any
    error: Any
    unit: str = ""

    def __str__(self) -> str:
        if any(isinstance(one, jax.core.Tracer) for one in self):
            return repr(self)
        values, errors = np.broadcast_arrays(*(np.asarray(one, float) for one in self[:2]))
        words = [_with_error(float(value), float(error)) for value, error in zip(values.flat, errors.flat, strict=True)]
        text = words[0] if values.ndim == 0 else f"[{', '.join(words)}]"
        return f"{text} {self.unit}".rstrip()


def _with_error(value: float, error: float) -> str:
    """Both to the second digit of the error."""
    if not (math.isfinite(value) and math.isfinite(error) and error > 1e-300):
        return f"{value:.6g} ± {error:.2g}"
    exponent = math.floor(math.log10(max(abs(value), error)))
    # A number, or an error, that begins with four zeros is not read.
    is_small_or_large = not -4 <= exponent < 6 or (exponent < -2 and error < 1e-4)
    scale = 10.0**exponent if is_small_or_large else 1.0
    digits = 1 - int(f"{error / scale:.1e}".partition("e")[2])
    text = " ± ".join(f"{round(number / scale, digits):.{max(0, digits)}f}" for number in (value, error))
    return f"({text})e{exponent:+03d}" if is_small_or_large else text


def _flatten(one: Estimate) -> tuple[Any, str]:
    return tuple((jax.tree_util.GetAttrKey(name), getattr(one, name)) for name in ("value", "error")), one.unit


def _unflatten(unit: str, children: Any) -> Estimate:
    value, error = children
    return Estimate(value, error, unit)


jax.tree_util.register_pytree_with_keys(Estimate, _flatten, _unflatten)
