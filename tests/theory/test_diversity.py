"""Laws of docs/theory.md 6 on variation: exact chains, sums over all partitions, and urns."""

import math
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from mutagrad import theory

population = theory.population


@pytest.mark.parametrize("model", ["moran", "wright_fisher"])
@pytest.mark.parametrize("size", [1, 2, 30])
def test_heterozygosity_decays(model, size):
    """The mean of 2p(1 − p) over the exact chain, generation by generation."""
    chain = population.transition_matrix(0.0, size, model)
    counts = np.arange(size + 1)
    diversity = 2 * counts / size * (1 - counts / size)
    start = size // 3 or 1
    for time in (0, 1, 7):
        steps = time * (size if model == "moran" else 1)
        exact = np.linalg.matrix_power(chain, steps)[start] @ diversity
        law = population.expected_heterozygosity(diversity[start], size, time, model)
        assert float(law) == pytest.approx(exact, rel=1e-9, abs=1e-15)


def test_heterozygosity_in_equilibrium():
    """1 − F of the recursion F′ = (1 − μ)²(1/n + (1 − 1/n)F), and near θ/(1 + θ)."""
    size, rate, same = 200, 0.003, 0.0
    for _ in range(20_000):
        same = (1 - rate) ** 2 * (1 / size + (1 - 1 / size) * same)
    assert population.equilibrium_heterozygosity(size, rate) == pytest.approx(1 - same, rel=1e-9)
    theta = 2 * size * rate
    assert population.equilibrium_heterozygosity(size, rate) == pytest.approx(theta / (1 + theta), rel=0.01)
    assert population.equilibrium_heterozygosity(size, 0.0) == 0
    assert population.equilibrium_heterozygosity(size, 1.0) == 1


def partitions(number, largest=None):
    """All ways to write a number as a sum, as tuples of falling parts."""
    largest = number if largest is None else largest
    if number == 0:
        yield ()
    for part in range(min(number, largest), 0, -1):
        for rest in partitions(number - part, part):
            yield (part, *rest)


@pytest.mark.parametrize("theta", [0.01, 1.0, 7.5])
def test_ewens_sums_to_one(theta):
    chances = {one: population.ewens_probability(one, theta) for one in partitions(9)}
    assert sum(chances.values()) == pytest.approx(1, rel=1e-9)
    alleles = sum(len(one) * chance for one, chance in chances.items())
    assert alleles == pytest.approx(population.expected_num_alleles(9, theta), rel=1e-9)


def test_ewens_is_the_law_of_an_urn():
    """Hoppe's urn: the i-th genome is a new allele with probability θ/(θ + i), else a copy of one before. 20,000 urns of 5."""
    random, theta, number = np.random.default_rng(6), 1.5, 20_000
    seen = Counter()
    for _ in range(number):
        copies = []
        for i in range(5):
            if random.random() < theta / (theta + i):
                copies.append(1)
            else:
                copies[random.choice(len(copies), p=np.array(copies) / i)] += 1
        seen[tuple(sorted(copies, reverse=True))] += 1
    law = {one: population.ewens_probability(one, theta) for one in partitions(5)}
    found = stats.chisquare([seen[one] for one in law], [number * chance for chance in law.values()])
    assert found.pvalue > 1e-4  # a false alarm in 10,000


def test_number_of_segregating_mutations():
    """nμ mutations a generation, each for as long as the exact chain keeps it: the sum over a sample is near."""
    size, rate = 200, 0.05
    chain = population.transition_matrix(0.0, size, "wright_fisher")[1:-1, 1:-1]
    stay = np.linalg.solve(np.eye(size - 1) - chain, np.ones(size - 1))[0]
    assert population.expected_num_segregating(size, rate) == pytest.approx(size * rate * stay, rel=0.03)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: population.ewens_probability((2, 0), 1.0), "counts: got"),
        (lambda: population.ewens_probability((), 1.0), "counts: got"),
        (lambda: population.ewens_probability((1.5,), 1.0), "counts: got"),
        (lambda: population.ewens_probability((2,), 0.0), "theta: got 0.0"),
        (lambda: population.expected_num_alleles(0, 1.0), "num_genomes: got 0"),
        (lambda: population.equilibrium_heterozygosity(10, 1.5), "mutation_rate: got 1.5"),
        (lambda: population.expected_num_segregating(10, -0.1), "mutation_rate: got -0.1"),
        (lambda: population.expected_heterozygosity(0.5, 10, 1, "fisher"), "model: got 'fisher'"),
    ],
)
def test_what_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_a_large_sample_does_not_overflow():
    assert 0 < population.ewens_probability((400, 300, 200, 100), 2.0) < 1
    assert math.isfinite(population.expected_num_alleles(10**6, 0.5))
