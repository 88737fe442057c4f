"""Variation that a population holds: heterozygosity, numbers of alleles and of segregating mutations (theory.md 6)."""

import math
from collections.abc import Sequence

import numpy as np
from jax.typing import ArrayLike
from scipy import special

from mutagrad import check
from mutagrad.theory.population import arguments
from mutagrad.theory.population.fixation import MODELS

__all__ = [
    "equilibrium_heterozygosity",
    "ewens_probability",
    "expected_heterozygosity",
    "expected_num_alleles",
    "expected_num_segregating",
]

SUMMED = 10**7
"""Largest sample whose logarithms are added one by one."""
SERIES = 256
"""Inverses that are added one by one, before those that a series adds."""


def expected_heterozygosity(
    start: ArrayLike, population_size: int, time: ArrayLike, model: str = "wright_fisher"
) -> np.ndarray:
    """Expected heterozygosity of neutral variation, which no mutation renews: it falls by 1 − 1/n a generation.

    Heterozygosity is 2p(1 − p), the chance that two genomes drawn with replacement differ. Moran's falls by 1 − 2/n² a birth and
    death, of which a generation has n.

    Parameters
    ----------
    start : heterozygosity at the start. population_size : n ≥ 1. time : generations ≥ 0. model : "moran" or "wright_fisher".

    Raises
    ------
    ValueError : for a start that is none from 0 to 1, or times below 0.

    Source: [E04] 1.4, 3.4; theory.md 6.4, tested in tests/theory/test_diversity.py.

    >>> import mutagrad
    >>> round(float(mutagrad.theory.population.expected_heterozygosity(0.5, 100, 100)), 4)
    0.183
    """
    size = check.count("population_size", population_size)
    is_moran = check.choice("model", model, MODELS) == "moran"
    times = arguments.generations(time)
    try:
        begin = np.asarray(arguments.not_text(start), np.float64)
    except (TypeError, ValueError):
        begin = np.asarray(np.nan)
    if not np.all((begin >= 0) & (begin <= 1)):
        raise ValueError(f"start: got {arguments.shown(start)}; pass a heterozygosity, from 0 to 1")
    if size == 1:
        return begin * (times == 0)  # one genome does not differ from itself
    # A logarithm, since 1 − 2/n² keeps few digits of 2/n².
    lost = size * times * math.log1p(-2 / size**2) if is_moran else times * math.log1p(-1 / size)
    return begin * np.exp(lost)


def equilibrium_heterozygosity(population_size: int, mutation_rate: float) -> float:
    """Chance that two genomes drawn without replacement differ, where every mutation makes a new allele: Wright and Fisher.

    The exact 1 − F with F = (1 − μ)²/(n − (n − 1)(1 − μ)²), about θ/(1 + θ) with θ = 2nμ.

    Parameters
    ----------
    population_size : n ≥ 1. mutation_rate : μ per genome and generation, from 0 to 1: the chance that one mutates at all.

    Source: [E04] 3.6; theory.md 6.7, tested in tests/theory/test_diversity.py.

    >>> import mutagrad
    >>> round(mutagrad.theory.population.equilibrium_heterozygosity(1000, 5e-4), 3)
    0.5
    """
    size, rate = check.count("population_size", population_size), arguments.probability("mutation_rate", mutation_rate)
    # n(1 − (1 − μ)²) over n − (n − 1)(1 − μ)², without a difference of numbers that are nearly the same.
    differ = rate * (2 - rate)
    return size * differ / (1 + (size - 1) * differ)


def ewens_probability(counts: Sequence[int], theta: float) -> float:
    """Ewens' sampling formula: probability that a sample of n genomes has these numbers of copies of its alleles.

    n!/(θ(θ + 1)…(θ + n − 1)) ∏_j θ^{a_j}/(j^{a_j} a_j!), a_j the number of alleles with j copies.

    Parameters
    ----------
    counts : copies of every allele in the sample, in any order, such as (5, 3, 1, 1).
    theta : θ > 0; 2nμ for a haploid Wright–Fisher population of n with the rate μ.

    Raises
    ------
    ValueError : for counts below 1, or a θ that is not positive.

    Domain: neutral alleles, each mutation a new one, equilibrium, a sample small against n; exact for Moran's whole population
    with θ = nμ/(1 − μ).

    Source: [E72]; theory.md 6.7, tested in tests/theory/test_diversity.py.

    >>> import mutagrad
    >>> round(mutagrad.theory.population.ewens_probability((2,), 1.0), 6)
    0.5
    """
    copies = np.asarray(counts)
    if copies.ndim != 1 or copies.size == 0 or copies.dtype.kind not in "iu" or copies.min() < 1:
        raise ValueError(f"counts: got {counts!r}; pass a whole number of copies, 1 or more, for every allele")
    theta = float(check.positive("theta", theta))
    sizes, repeated = np.unique(copies, return_counts=True)
    logarithm = (
        _log_orders(sum(int(one) * int(times) for one, times in zip(sizes, repeated, strict=True)), len(copies), theta)
        - np.sum(repeated * np.log(sizes))
        - np.sum(special.gammaln(repeated + 1))
    )
    return float(np.exp(logarithm))


def _log_orders(number: int, alleles: int, theta: float) -> float:
    """ln of n! θ^k/(θ(θ + 1)…(θ + n − 1)), without differences of large logarithms."""
    if theta > number:
        # n!θ^{k − n}/∏(1 + i/θ)
        rising = float(np.sum(np.log1p(np.arange(number) / theta))) if number <= SUMMED else _log_rise(theta, number)
        return float(special.gammaln(number + 1)) + (alleles - number) * math.log(theta) - rising
    if number <= SUMMED:
        # θ^{k − 1} ∏(i + 1)/(i + θ), i from 1 to n − 1
        rising = float(np.sum(np.log1p((theta - 1) / np.arange(2, number + 1))))
        return (alleles - 1) * math.log(theta) - rising
    rising = _log_rise(number + 1, theta - 1) + (theta - 1) * math.log(number + 1)
    return alleles * math.log(theta) + float(special.gammaln(theta)) - rising


def _log_rise(x: float, step: float) -> float:
    """ln of Γ(x + d)/(Γ(x) x^d) by Stirling's series, for a large x and −1 ≤ d ≤ x."""
    part = step / x
    bend = (
        (1 + part) * math.log1p(part) - part
        if abs(part) > 1e-3
        else part**2 * (1 / 2 - part * (1 / 6 - part * (1 / 12 - part * (1 / 20 - part / 30))))
    )
    return x * bend - math.log1p(part) / 2 + (1 / (x + step) - 1 / x) / 12


def expected_num_alleles(num_genomes: int, theta: float) -> float:
    """Expected number of alleles in a sample of n genomes: Σ θ/(θ + i) for i from 0 to n − 1.

    Parameters
    ----------
    num_genomes : n ≥ 1. theta : θ > 0, as in `ewens_probability`.

    Source: [E72]; theory.md 6.7, tested in tests/theory/test_diversity.py.

    >>> import mutagrad
    >>> mutagrad.theory.population.expected_num_alleles(2, 1.0)
    1.5
    """
    number = check.count("num_genomes", num_genomes)
    theta = float(check.positive("theta", theta))
    return theta * _sum_of_inverses(theta, number)


def expected_num_segregating(population_size: int, mutation_rate: float) -> float:
    """Expected number of mutations that some and not all of n genomes carry, all neutral: about 2nμ Σ 1/i, i from 1 to n − 1.

    Parameters
    ----------
    population_size : n ≥ 2. mutation_rate : μ, mutations per genome and generation.

    Domain: Wright and Fisher, neutral, equilibrium; recombination does not matter. The sum takes the whole population for a
    sample, which is right to a few per cent.

    Source: [Wa75]; theory.md 6.7, tested in tests/theory/test_diversity.py.

    >>> import mutagrad
    >>> round(mutagrad.theory.population.expected_num_segregating(1000, 0.05), 1)
    748.4
    """
    size = check.count("population_size", population_size, 2)
    return 2 * size * arguments.mutations(mutation_rate) * _sum_of_inverses(1.0, size - 1)


def _sum_of_inverses(x: float, number: int) -> float:
    """Σ 1/(x + i), i from 0 to n − 1, which is ψ(x + n) − ψ(x): no n numbers, and no difference of large ones."""
    near = min(number, SERIES)
    total = float(np.sum(1 / (x + np.arange(near))))
    if number == near:
        return total
    # The rest by the asymptotic series of ψ, term by term from x to y: the first that is left out is below 10⁻¹².
    x, number = x + near, number - near
    y, part = x + number, number / (x + number)
    inverse_squares = part * (1 + x / y) / x**2
    return (
        total
        + math.log1p(number / x)
        + part / x / 2
        + inverse_squares / 12
        - inverse_squares * (1 / x**2 + 1 / y**2) / 120
    )
