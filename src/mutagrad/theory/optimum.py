"""The best mutation strength of an algorithm, by the law of its selection rule (theory.md 2 and 3)."""

from mutagrad.law import Acceptance, Boltzmann, OrderStatistic, RankWeights
from mutagrad.theory.definition import known, selection_law
from mutagrad.theory.moments import sees_ranks_only
from mutagrad.theory.progress import best_of_mean, optimal_strength
from mutagrad.theory.recombination import recombination_moments
from mutagrad.types import Definition

__all__ = ["OVER_A_RUN", "best_strength", "keeps_the_better", "strength_over_a_run"]

OVER_A_RUN = 1.25
"""s over a run, in units of the s at which a generation gains most."""


def best_strength(definition: Definition) -> float:
    """The normalised mutation strength at which an algorithm gains most per generation.

    Acceptance rules at finite β and Boltzmann selection are given that of their β → ∞ limit. Two parents that mix gain what
    their winners gain, and share their best.

    Parameters
    ----------
    definition : of the algorithm.

    Raises
    ------
    ValueError : for rules without a best σ, and those that state no law.

    >>> import mutagrad
    >>> from mutagrad.theory.optimum import best_strength
    >>> round(best_strength(mutagrad.comma(sigma=0.1, num_offspring=20).definition), 3)       # E[Z_(20)]
    1.867
    """
    definition = known(definition)
    name, num_offspring = definition.selection.name, definition.num_offspring
    if definition.selection.law is None:
        raise ValueError(f"target: got None with {name} selection, which states no law (mutagrad.law); pass target=")
    law = selection_law(definition)
    if isinstance(law, RankWeights):
        moments = recombination_moments(law.weights)
        if moments.first <= 1e-9:
            raise ValueError(
                f"algorithm: got weights whose mean step is {-moments.first:.3g} σ down the slope; give the best offspring the "
                "larger weights"
            )
        return moments.first / moments.transverse
    if not isinstance(law, OrderStatistic) or law.keeps_parent:
        return optimal_strength(num_offspring)
    # The gain is s E[Z] − s²/2 whatever the sign, so its maximum is at s = E[Z].
    strength = best_of_mean(num_offspring, law.num_winners)
    if strength <= 1e-9:
        raise ValueError(
            f"algorithm: got {name} that selects all of its {num_offspring} offspring, a random walk without a best σ; "
            "select fewer"
        )
    return strength


def strength_over_a_run(definition: Definition) -> float:
    r"""The normalised mutation strength to hold over a run: 5/4 of `best_strength`, which gains most in one generation.

    Along steep directions what a σ loses to curvature is regained at once when σ falls, along flat ones what a small σ did not
    gain stays to be done. On quadratics of many curvatures λ_k the squares of the coordinates follow, in the mean,
    $\dot{x_k^2} = -2 D \sigma \lambda_k x_k^2/|\nabla U| + p\sigma^2$, D and p being the mean step down the gradient in σ and the
    probability that an offspring is selected. From an even start to a tenth of the loss at constant s, the best s is 1 to 1.5
    times `best_strength` for λ_k = k^−a with a from 0 to 1.3, the largest that [W26] reports for neural networks. 5/4 takes at
    most 8 % more generations than the best of them for every such a, for (1+M) with M from 1 to 100 and for (1,M);
    `best_strength` itself up to 27 % more. For (1+1) its share of successes is 0.22, for which 1/5 is the customary rule.

    Recombination is given `best_strength`: it holds σ by the curvature along its step too, and more was not tried there.

    Parameters
    ----------
    definition : of the algorithm.

    Raises
    ------
    ValueError : as `best_strength`.

    Source: derived for this project, tested in tests/theory/test_optimum.py; the 1/5: Rechenberg 1973.

    >>> import mutagrad
    >>> from mutagrad.theory.optimum import strength_over_a_run
    >>> strength = strength_over_a_run(mutagrad.greedy(sigma=0.1).definition)
    >>> round(strength, 2), round(float(mutagrad.theory.success_rate(strength)), 2)
    (1.53, 0.22)
    """
    strength = best_strength(definition)
    return strength if isinstance(definition.selection.law, RankWeights) else OVER_A_RUN * strength


def keeps_the_better(definition: Definition) -> bool:
    """Whether a rule is (1+M): the best offspring becomes the parent unless it is worse. A rule without a law is not known to be.

    >>> import math, mutagrad
    >>> from mutagrad.theory.optimum import keeps_the_better
    >>> [keeps_the_better(mutagrad.metropolis(sigma=0.1, beta=beta).definition) for beta in (1.0, math.inf)]
    [False, True]
    """
    law = known(definition).selection.law
    if isinstance(law, Acceptance | Boltzmann):
        return sees_ranks_only(definition)
    return isinstance(law, OrderStatistic) and law.keeps_parent
