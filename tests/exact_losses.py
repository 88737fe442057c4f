"""One loss in JAX and in plain NumPy whose every digit is exact, so that no order of summation can tell one from the other.

Per-example losses are rounded to multiples of 2⁻⁶ and lie below 2⁸: sums and means over 16 of them are exact in float32,
whatever compiles them. A worker of a process pool imports this module; it needs no JAX.
"""

import numpy as np

TARGETS = np.linspace(-1.5, 1.5, 16).astype(np.float32)
CELLS = np.float32(64)


def params():
    """A matrix, 16-bit numbers, and integers that nothing changes."""
    w = np.linspace(-1, 1, 12).astype(np.float32).reshape(3, 4)
    return {"b": np.array([0.5, -0.25, 0.0, 1.0], np.float16), "n": np.arange(3), "w": w}


def numpy_loss(params):
    """(16,) losses; exact sums of cells."""
    cells = np.round(params["w"] * CELLS).sum() + np.round(params["b"].astype(np.float32) * CELLS).sum()
    apart = np.round(cells / CELLS - TARGETS * np.float32(4))
    return np.minimum(apart * apart, np.float32(255)) + np.abs(np.round(params["w"] * CELLS)).sum() / CELLS


def numpy_losses(params):
    """The same of a whole generation, floating leaves with a leading axis."""
    rows = range(len(params["w"]))
    return np.stack([numpy_loss({"w": params["w"][i], "b": params["b"][i]}) for i in rows])


def failing_loss(params):
    """Raises wherever a parameter is above 1.2."""
    if params["w"].max() > 1.2:
        raise ArithmeticError("outside\nof the domain")
    return numpy_loss(params)


def dying_loss(params):
    """Ends its process where all parameters are below 0.9."""
    if params["w"].max() < 0.9:
        import os

        os._exit(1)
    return numpy_loss(params)


def jax_loss(params):
    """`numpy_loss` in JAX."""
    import jax.numpy as jnp

    cells = jnp.sum(jnp.round(params["w"] * CELLS)) + jnp.sum(jnp.round(params["b"].astype(jnp.float32) * CELLS))
    apart = jnp.round(cells / CELLS - jnp.asarray(TARGETS) * jnp.float32(4))
    far = jnp.sum(jnp.abs(jnp.round(params["w"] * CELLS))) / CELLS
    return jnp.minimum(apart * apart, jnp.float32(255)) + far
