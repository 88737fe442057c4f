"""Kucharavy, Guerraoui, Dolamic 2023, "Evolutionary Algorithms in the Light of SGD": its claims.

Gillespie–Orr evolutionary algorithms (GO-EA): the best of a parent and its mutants, on the ConvNet of MNIST
(`mutagrad.lab.tasks.convnet`), and what is said of their search in high dimension.
"""

from mutagrad.lab.claims.kucharavy2023 import (
    angles,
    comparison,
    curve,
    directions,
    effects,
    glimpses,
    limit,
    minibatches,
    mixing,
    moves,
    population,
    seeds,
)

__all__ = ["CLAIMS"]

_MODULES = (
    angles,
    comparison,
    curve,
    directions,
    effects,
    glimpses,
    limit,
    minibatches,
    mixing,
    moves,
    population,
    seeds,
)
CLAIMS = sorted(
    (claim for module in _MODULES for claim in module.CLAIMS),
    key=lambda claim: int(claim.id.split("-")[1]),
)
