"""Algorithms: a generation from any parts, and the named assemblies of them, a line each."""

from mutagrad.algorithms.generation import mutation_selection
from mutagrad.algorithms.genomes.effects import mutation_effect
from mutagrad.algorithms.genomes.genealogy import record_genealogy, tree_sequence
from mutagrad.algorithms.genomes.genomes import Genomes, GenomeState
from mutagrad.algorithms.genomes.population import GenomeInfo, population
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
    "GenomeInfo",
    "GenomeState",
    "Genomes",
    "Parents",
    "boltzmann",
    "comma",
    "elitist",
    "fixation",
    "greedy",
    "logistic",
    "metropolis",
    "mutation_effect",
    "mutation_selection",
    "parents",
    "population",
    "record_genealogy",
    "tree_sequence",
    "truncation",
    "weighted_recombination",
]
