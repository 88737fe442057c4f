"""What tools of this room share: whose σ and mutation are meant, and what the effects of mutations tell."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mutagrad import check, tree
from mutagrad.diagnostics.landscape.points import MakeFn, kept
from mutagrad.estimate import Estimate
from mutagrad.estimates import estimates, moments, standard_errors
from mutagrad.mutation import gaussian
from mutagrad.types import Mutation, Params, UnknownDefinition

__all__ = ["mutant_fn", "mutation_of", "share_of", "strength_of"]


def mutation_of(algorithm: Any, sigma: Any) -> tuple[Mutation, float]:
    """The mutation and the σ that an algorithm, a number, or both name; gaussian unless said otherwise."""
    if isinstance(algorithm, int | float | np.number) and not isinstance(algorithm, bool):
        if sigma is not None:
            raise ValueError(f"sigma: got {sigma!r} beside {algorithm!r}; pass one of them")
        algorithm, sigma = None, algorithm
    definition = None if algorithm is None else check.algorithm(algorithm).definition
    if isinstance(definition, UnknownDefinition):
        raise ValueError(f"algorithm: {definition.reason}; here pass one of them, or sigma= alone")
    if sigma is None and definition is not None:
        sigma = definition.sigma
    if sigma is None:
        remedy = (
            "the σ of an algorithm whose σ changes is in its state: sigma=result.state.sigma"
            if definition
            else "sigma="
        )
        raise ValueError(f"sigma: got none; pass {remedy}")
    return gaussian() if definition is None else definition.mutation, float(check.scale("sigma", sigma))


def mutant_fn(sample_fn: Callable) -> MakeFn:
    """Makes mutant ``index`` of a key and a σ, passed as a pair; one function for each density, so that it is compiled once."""
    return kept(_mutant_fn, sample_fn)


def _mutant_fn(sample_fn: Callable) -> MakeFn:
    def make(params: Params, drawn: Any, index: jax.Array, is_params: jax.Array) -> Params:
        key, sigma = drawn
        own = jnp.where(is_params, 0, sigma).astype(jnp.result_type(float))
        return tree.add_scaled(params, sample_fn(jax.random.fold_in(key, index), params), own)

    return make


def share_of(count: int, number: int) -> Estimate:
    """A share with its error: the standard deviation of Jeffreys' posterior, √(p(1 − p)/n) for many, and never 0."""
    if number == 0:
        return Estimate(math.nan, math.nan)
    center = (count + 0.5) / (number + 1)
    return Estimate(count / number, math.sqrt(center * (1 - center) / (number + 2)))


def strength_of(changes: np.ndarray, sigma: float) -> Estimate:
    """s = σTrH/|∇U| from the effects of mutations, as `mutagrad.estimates` measures it."""
    found = moments(changes, np.zeros_like(changes), sigma)
    with np.errstate(divide="ignore", invalid="ignore"):
        value, error = (float(one.strength) for one in (estimates(found, sigma), standard_errors(found, sigma)))
    return Estimate(value, error)
