"""Claims of Sourbut 2022, "Conditions for mathematical equivalence of stochastic gradient descent and natural selection"."""

from mutagrad.lab.claims.claims import Claim
from mutagrad.lab.claims.sourbut2022 import environments, lattice, momentum, mutation_rates

__all__ = ["CLAIMS"]

CLAIMS: list[Claim] = [
    *environments.CLAIMS,
    *momentum.CLAIMS,
    *mutation_rates.CLAIMS,
    *lattice.CLAIMS,
]
