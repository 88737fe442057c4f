"""The chance that one mutant among n takes over, at any advantage and any n, without overflow or cancellation."""

import math
from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["FACTORS", "strength_of_selection", "takeover"]

FACTORS = {"moran": 1, "wright_fisher": 2}
"""How much a selection coefficient counts in each model: s in Moran's, 2s in Wright and Fisher's."""
LARGEST = 10**37
"""Genomes beyond which the formula is that of a larger population in float32: all but the neutral are fixed or lost."""


def takeover(advantage: jax.Array, size: int) -> jax.Array:
    """(1 − e^{−a})/(1 − e^{−na}), 1/n at a = 0; floating ``advantage`` a of any shape, n ≥ 1."""
    # A float, since an integer of JAX ends at 2³¹.
    number, others = (float(min(one, LARGEST)) for one in (size, size - 1))
    strength = jnp.abs(advantage)
    tiny = strength < 1e-30
    safe = jnp.where(tiny, 1.0, strength)
    # For a > 0; a deleterious mutant has e^{−(n−1)|a|} times that, which cannot overflow.
    beneficial = jnp.where(tiny, 1 / size, jnp.expm1(-safe) / jnp.expm1(-number * safe))
    decay = -others * strength if size > 1 else jnp.zeros_like(strength)
    return beneficial * jnp.where(advantage < 0, jnp.exp(decay), 1.0)


def strength_of_selection(beta: Any, others: int, model: str) -> Any:
    """νβ, with ν the factor of the model times n − 1 other genomes [1/loss]; 0 where there are none, whatever β, and at β = 0."""
    if others == 0 or (isinstance(beta, int | float) and beta == 0):
        return 0.0
    times = FACTORS[model] * others
    return (math.inf if times > 1e300 else float(times)) * beta
