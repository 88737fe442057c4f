"""Arguments refused at the door: one line that names the argument, the value and the remedy."""

import importlib.util
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def is_concrete(value: Any) -> bool:
    """Whether a value can be looked at: not while it is traced by ``jit``, ``vmap`` or ``grad``."""
    return not isinstance(value, jax.core.Tracer)


def concrete(value: Any) -> Any:
    """The value as a Python number, or ``None`` where it is not known before the program runs (under jit or vmap)."""
    if not is_concrete(value):
        return None
    # NumPy, not JAX: inside jit a JAX array of a plain number is not yet known.
    array = np.asarray(value)
    if array.ndim != 0 or not jnp.issubdtype(array.dtype, jnp.number):
        raise ValueError(f"got {value!r}; pass one number")
    return array.item()


def _number(name: str, value: Any) -> Any:
    try:
        return concrete(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: got {value!r}; pass one number") from None


def positive(name: str, value: Any) -> Any:
    """``value`` if it is positive and finite, or not yet known."""
    number = _number(name, value)
    if number is not None and not (number > 0 and math.isfinite(number)):
        raise ValueError(f"{name}: got {number!r}; pass a positive finite number")
    return value


def inverse_temperature(value: Any) -> Any:
    """``value`` if it is an inverse temperature: zero or more, infinity included."""
    number = _number("beta", value)
    if number is not None and not number >= 0:
        raise ValueError(f"beta: got {number!r}; pass a number of 0 or more (math.inf for greedy selection)")
    return value


def count(name: str, value: Any, at_least: int = 1, remedy: str = "") -> int:
    """``value`` as an int of ``at_least`` or more."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or int(value) < at_least:
        raise ValueError(f"{name}: got {value!r}; {remedy or f'pass a whole number of {at_least} or more'}")
    return int(value)


def error_probability(value: Any) -> float:
    """The argument ``error`` of early rejection if it is 0 or more and below a half."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 0.5:
        raise ValueError(f"error: got {value!r}; pass a probability of 0 or more and below 0.5, such as 0.01")
    return float(value)


def flag(name: str, value: Any) -> bool:
    """``value`` if it is true or false."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name}: got {value!r}; pass True or False")
    return bool(value)


def choice(name: str, value: Any, known: Any) -> Any:
    """``value`` if it is one of the ``known`` names."""
    if value not in known:
        raise ValueError(f"{name}: got {value!r}; pass one of {', '.join(map(str, known))}")
    return value


def installed(name: str, purpose: str) -> None:
    """Refuse to go on without a library of the lab extra."""
    if importlib.util.find_spec(name) is None:
        raise ImportError(f"{name}: not installed; install mutagrad[lab] for {purpose}")


def scale(name: str, value: Any) -> Any:
    """``value`` if it is a mutation scale: positive and finite, as a number of JAX's default precision too."""
    number = _number(name, positive(name, value))
    limits = jnp.finfo(jnp.result_type(float))
    if number is not None and not float(limits.tiny) <= number <= float(limits.max):
        raise ValueError(
            f"{name}: got {number!r}; pass a number from {float(limits.tiny):.1e} to {float(limits.max):.1e}"
        )
    return value


def key(value: Any) -> jax.Array:
    """``value`` as a typed key, if it is a key."""
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key) and value.ndim == 0:
        return value
    if isinstance(value, jax.Array | np.ndarray) and value.dtype == jnp.uint32 and value.ndim == 1:
        try:
            return jax.random.wrap_key_data(jnp.asarray(value))
        except (TypeError, ValueError):
            pass
    shown = f"an array of shape {value.shape}, {value.dtype}" if hasattr(value, "dtype") else repr(value)
    raise ValueError(f"key: got {shown}; pass one key, such as jax.random.key(0)")


def algorithm(value: Any, name: str = "algorithm") -> Any:
    """``value`` if it is an algorithm."""
    if not all(hasattr(value, part) for part in ("init", "ask", "tell", "step", "definition")):
        raise ValueError(
            f"{name}: got {value!r}; pass an algorithm, such as mutagrad.elitist(sigma=0.01, num_offspring=20)"
        )
    return value
