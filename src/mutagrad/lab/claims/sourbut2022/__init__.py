"""Claims of Sourbut 2022, "Conditions for mathematical equivalence of stochastic gradient descent and natural selection"."""

from mutagrad.lab.claims.claims import Claim

__all__ = ["CLAIMS"]

CLAIMS: list[Claim] = []
