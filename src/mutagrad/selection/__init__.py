"""Selection rules: who the next parents descend from, and in what shares (theory.md 1, 2).

A rule sees loss differences only, and returns a `mutagrad.Descent`, one shape for all rules; its law is data that theory
reads.
"""

from mutagrad.selection.acceptance import PARENT, fixation, greedy, logistic, metropolis, product
from mutagrad.selection.ranks import boltzmann, comma, elitist, truncation
from mutagrad.selection.recombination import crossover, normal_scores, rank_levels, weighted

__all__ = [
    "PARENT",
    "boltzmann",
    "comma",
    "crossover",
    "elitist",
    "fixation",
    "greedy",
    "logistic",
    "metropolis",
    "normal_scores",
    "product",
    "rank_levels",
    "truncation",
    "weighted",
]
