"""The evolutionary algorithm GO-EA of [K23], in the three ways that its authors give it.

Their code, their text and their pseudocode differ in who survives. All three add N(0, σ²) to every parameter; σ is their "edit
distance". Their loss is the mean cross-entropy of all 60,000 training images: ``mutagrad.minibatches(data, None)``. With the
masks of `mutagrad.lab.training.dropout` they need their parent evaluated anew.
"""

from typing import Any

import mutagrad
from mutagrad.types import Algorithm

__all__ = ["as_pseudocode", "as_run", "as_text"]


def as_run(sigma: Any = 0.01, num_offspring: int = 20) -> Algorithm:
    """GO-EA as its authors' code ran it: (1+M), the parent evaluated anew each generation.

    Parameters
    ----------
    sigma : standard deviation of a mutation per parameter [parameter].
    num_offspring : M, their population.

    Source: [K23] Fig. 2 and the authors' code.

    >>> from mutagrad.lab.training import go_ea
    >>> go_ea.as_run().definition
    20 offspring, gaussian mutations with σ = 0.01, elitist selection
    """
    return mutagrad.elitist(sigma, num_offspring)


def as_text(sigma: Any = 0.01, num_offspring: int = 20) -> Algorithm:
    """GO-EA as its authors' text says: (1,λ), the best offspring even where it is worse than the parent.

    Parameters
    ----------
    sigma : standard deviation of a mutation per parameter [parameter].
    num_offspring : λ.

    Source: [K23], methods.

    >>> from mutagrad.lab.training import go_ea
    >>> go_ea.as_text().definition
    20 offspring, gaussian mutations with σ = 0.01, comma selection
    """
    return mutagrad.comma(sigma, num_offspring)


def as_pseudocode(sigma: Any = 0.01, reevaluate_parent: bool = True) -> Algorithm:
    """GO-EA as its authors' pseudocode: a hill climb by one mutation after another, each kept at once if it is no worse.

    A generation here is one try. One of theirs, of a population of M, is M of these, in which up to M mutations are kept; at
    small σ each moves by σ/√(2π) down the slope, so that M tries move by M/√(2π) σ, where (1+M) moves by c_M σ.

    Parameters
    ----------
    sigma : standard deviation of a mutation per parameter [parameter].
    reevaluate_parent : False for a loss that never changes: a try is then one evaluation, not two.

    Source: [K23], pseudocode. There a tie keeps the parent; here it does not, as in `mutagrad.greedy`.

    >>> from mutagrad.lab.training import go_ea
    >>> go_ea.as_pseudocode().definition
    1 offspring, gaussian mutations with σ = 0.01, greedy selection
    """
    return mutagrad.greedy(sigma, reevaluate_parent=reevaluate_parent)
