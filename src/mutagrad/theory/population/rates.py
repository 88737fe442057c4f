"""Learning rates of natural selection: per proposed, accepted and fixed mutation, and per generation (theory.md 6)."""

from typing import NamedTuple

from mutagrad import check
from mutagrad.selection.takeover import FACTORS, strength_of_selection
from mutagrad.theory.population import arguments

__all__ = ["LearningRates", "learning_rates"]


class LearningRates(NamedTuple):
    """Learning rates of one process, counted in four ways.

    Attributes
    ----------
    per_proposed : ½νβσ²/n, for every mutation that arises.
    per_fixed : ½νβσ², for every mutation that is accepted: that takes over the population.
    per_generation : μn times that per proposed mutation, for the part of the genome that all share.
    inverse_temperature : νβ [1/loss].
    """

    per_proposed: float
    per_fixed: float
    per_generation: float
    inverse_temperature: float


def learning_rates(
    sigma: float,
    beta: float,
    population_size: int,
    mutation_rate: float = 0.0,
    model: str = "wright_fisher",
    num_demes: int = 1,
) -> LearningRates:
    """Learning rates of a population whose genomes mutate and mix: the part that all share moves by −η∇U.

    Parameters
    ----------
    sigma : standard deviation of a mutation per parameter [parameter].
    beta : strength of selection, fitness e^{−βU} [1/loss].
    population_size : n ≥ 1.
    mutation_rate : μ, mutations per genome and generation.
    model : "wright_fisher", as `mutagrad.population` is unless told otherwise, or "moran".
    num_demes : D demes between which some births migrate, however few, and not all. ν is 2(n − D) then, in place of 2(n − 1), in
        Wright and Fisher's model.

    Returns
    -------
    LearningRates [parameter²/loss].

    Raises
    ------
    ValueError : if a number is out of its range, D does not divide n, or there are several demes of Moran's.

    Domain: free recombination, or one mutation at a time; βσ\\|∇U\\| ≪ 1, and fitness that hardly differs between genomes,
    4nμ(βσ\\|∇U\\|)² ≪ 1, since mutations that segregate together disturb each other. Per fixed mutation the fixation must be
    nearly neutral too, νβσ\\|∇U\\| ≪ 1. The slope is that of about n generations ago: `response_kernel`. Demes that never mix
    fix nothing.

    Source: [S22]; rates derived for this project, theory.md 6.3, 6.4 and 6.9, tested in tests/theory/test_fixation.py and
    tests/theory/test_following.py.

    >>> import mutagrad
    >>> rates = mutagrad.theory.population.learning_rates(0.1, 1.0, 101, mutation_rate=0.02, model="moran")
    >>> [round(rate, 6) for rate in rates]
    [0.00495, 0.5, 0.01, 100.0]
    """
    check.scale("sigma", sigma)
    mutation_rate = arguments.mutations(mutation_rate)
    size, demes = check.count("population_size", population_size), check.count("num_demes", num_demes)
    if size % demes:
        raise ValueError(f"num_demes: got {demes} for {size} genomes; pass one that divides {size}")
    if check.choice("model", model, FACTORS) == "moran" and demes > 1:
        raise ValueError(f"num_demes: got {demes} with model 'moran'; pass 1, or model=\"wright_fisher\"")
    kappa = strength_of_selection(check.inverse_temperature(beta), size - demes, model)
    per_fixed = kappa * sigma**2 / 2
    # κ/n by itself: n may be more than a float holds.
    share = FACTORS[model] * ((size - demes) / size)
    per_proposed = share * beta * sigma**2 / 2 if share else 0.0
    return LearningRates(per_proposed, per_fixed, mutation_rate * per_fixed, kappa)
