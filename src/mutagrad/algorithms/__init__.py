"""Algorithms: a generation from any parts, and the named assemblies of them, a line each."""

from mutagrad.algorithms.generation import mutation_selection
from mutagrad.algorithms.named import (
    boltzmann,
    comma,
    elitist,
    fixation,
    greedy,
    logistic,
    metropolis,
    truncation,
    weighted_recombination,
)
from mutagrad.algorithms.start import Parents, parents

__all__ = [
    "Parents",
    "boltzmann",
    "comma",
    "elitist",
    "fixation",
    "greedy",
    "logistic",
    "metropolis",
    "mutation_selection",
    "parents",
    "truncation",
    "weighted_recombination",
]
