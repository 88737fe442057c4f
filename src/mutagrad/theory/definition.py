"""What theory reads of an algorithm: its definition, and the laws that its parts state."""

from typing import Any

import jax
import jax.numpy as jnp

from mutagrad.law import Acceptance, DensityLaw, RankWeights, SelectionLaw
from mutagrad.types import Definition, UnknownDefinition


def known(definition: Definition | UnknownDefinition) -> Definition:
    """The definition, unless a wrapper says that there is no single one."""
    if isinstance(definition, UnknownDefinition):
        raise ValueError(f"algorithm: {definition.reason}")
    return definition


def selection_law(definition: Definition | UnknownDefinition) -> SelectionLaw:
    """The law of the selection rule, if it states one that fits the number of offspring."""
    definition = known(definition)
    selection, number = definition.selection, definition.num_offspring
    law = selection.law
    if not isinstance(law, SelectionLaw):
        raise ValueError(
            f"algorithm: got {selection.name} selection, which states {_instead(law)}; give it one (mutagrad.law), as "
            "Selection(..., law=...)"
        )
    expected = len(law.weights) if isinstance(law, RankWeights) else 1 if isinstance(law, Acceptance) else number
    if number != expected:
        raise ValueError(f"algorithm: got {number} offspring with a law of {expected}; state one for that many")
    return law


def density_law(definition: Definition | UnknownDefinition) -> DensityLaw:
    """The law of the mutation density, if it states one."""
    mutation = known(definition).mutation
    if not isinstance(mutation.law, DensityLaw):
        raise ValueError(
            f"algorithm: got {mutation.name} mutations, which state {_instead(mutation.law)}; give them one "
            "(mutagrad.law), as Mutation(..., law=...)"
        )
    return mutation.law


def _instead(law: Any) -> str:
    return "no law" if law is None else f"a {type(law).__name__} in place of a law"


def sigma_of(definition: Definition | UnknownDefinition, sigma: Any = None) -> jax.Array:
    """The σ that is given, or else that of the algorithm, if it has one throughout."""
    sigma = known(definition).sigma if sigma is None else sigma
    if sigma is None:
        raise ValueError("sigma: got none with an algorithm whose σ changes while it runs; pass sigma=state.sigma")
    return jnp.asarray(sigma, jnp.result_type(float))


def sigma_of_readable(definition: Definition | UnknownDefinition, sigma: Any = None) -> jax.Array:
    """`sigma_of` an algorithm whose parts state their laws: refused where it enters, and not at its first use."""
    selection_law(definition)
    density_law(definition)
    return sigma_of(definition, sigma)
