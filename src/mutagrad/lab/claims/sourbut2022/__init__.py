"""Claims of Sourbut 2022, "Conditions for mathematical equivalence of stochastic gradient descent and natural selection"."""

from mutagrad.lab.claims.sourbut2022 import (
    asymmetric,
    deadline,
    emergent_rate,
    environments,
    failures,
    first_model,
    lattice,
    momentum,
    moving_optimum,
    mutation_rates,
    response,
    second_model,
    strategies,
    third_model,
)

__all__ = ["CLAIMS"]

_MODULES = (
    asymmetric,
    deadline,
    emergent_rate,
    environments,
    failures,
    first_model,
    lattice,
    momentum,
    moving_optimum,
    mutation_rates,
    response,
    second_model,
    strategies,
    third_model,
)
CLAIMS = sorted(
    (claim for module in _MODULES for claim in module.CLAIMS),
    key=lambda claim: int(claim.id.split("-")[1]),
)
