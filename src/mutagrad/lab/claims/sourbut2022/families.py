"""Selection functions and radially symmetric densities: those of the library, and a user's own of each."""

import math
from typing import Any

import jax
import jax.numpy as jnp

import mutagrad
from mutagrad import law
from mutagrad.types import Mutation, Selection

__all__ = ["densities", "rules"]


def rules() -> dict[str, Selection]:
    """Five selection functions; the last is a user's own, which knows no detailed balance."""

    def chance(difference: Any) -> jax.Array:
        return jax.scipy.special.ndtr(-jnp.asarray(difference))

    def select(key: jax.Array, losses: jax.Array, parent_losses: jax.Array) -> jax.Array:
        return jnp.where(jax.random.uniform(key) < chance(losses[0] - parent_losses[0]), 0, -1)

    return {
        "Metropolis": mutagrad.selection.metropolis(1.0),
        "greedy": mutagrad.selection.greedy(),
        "logistic": mutagrad.selection.logistic(2.0),
        "Moran": mutagrad.selection.fixation(0.5, 10),
        "probit": Selection(select, "probit", law=law.Acceptance(chance)),
    }


def densities() -> dict[str, Mutation]:
    """Five radially symmetric densities; the last is a user's own, whose component in any direction has Laplace's law."""

    def laplace(key: jax.Array, params: jax.Array) -> jax.Array:
        direction, length = jax.random.split(key)
        return jax.random.normal(direction, params.shape) * jnp.sqrt(jax.random.exponential(length))

    return {
        "normal": mutagrad.mutation.gaussian(),
        "sphere": mutagrad.mutation.sphere(),
        "ball": mutagrad.mutation.ball(),
        "Student t": mutagrad.mutation.student_t(5.0),
        "Laplace": Mutation(laplace, "laplace", law=law.Radial(lambda z: -math.sqrt(2) * z)),
    }
