"""Population genetics at the far ends of its arguments: no digits lost, and what has no answer is refused in one line."""

import math

import numpy as np
import pytest
from scipy import special

from mutagrad import theory

population = theory.population


def test_heterozygosity_of_many_genomes():
    """At n = 10⁸ Moran's 1 − 2/n² is next to 1: after n generations e^{−2} is left, of Wright and Fisher's e^{−1}."""
    for model, left in (("moran", math.exp(-2)), ("wright_fisher", math.exp(-1))):
        assert float(population.expected_heterozygosity(0.5, 10**8, 1e8, model)) == pytest.approx(left / 2, rel=1e-7)
        assert population.expected_heterozygosity(0.5, 1, [0, 1, 2], model).tolist() == [0.5, 0, 0]


def test_equilibrium_of_rare_mutations():
    """2nμ = 2·10⁻⁵ is far below the last digit of 1 − F, were it computed so."""
    theta = 2e-5
    assert population.equilibrium_heterozygosity(10**12, 1e-17) == pytest.approx(theta / (1 + theta), rel=1e-12)


@pytest.mark.parametrize("theta", [1e12, 1e20, 1e300])
def test_ewens_where_all_genomes_differ(theta):
    assert population.ewens_probability((1,) * 10, theta) == pytest.approx(math.exp(-45 / theta), rel=1e-12)
    assert population.ewens_probability((2,), theta) == pytest.approx(1 / theta, rel=1e-12)


def test_ewens_of_huge_counts():
    """One allele of n copies has the probability 1/n at θ = 1, and Γ(n)Γ(1 + θ)/Γ(n + θ) at any: 2/(n(n + 1)) at θ = 2."""
    for number in (10**6, 10**9, 10**15):
        assert population.ewens_probability((number,), 1.0) == pytest.approx(1 / number, rel=1e-10)
        assert population.ewens_probability((number,), 2.0) == pytest.approx(2 / number / (number + 1), rel=1e-10)
    # Two alleles: θn!/(jk(θ + 1)…(θ + n − 1)) times θ, of j ≠ k.
    assert population.ewens_probability((10**9, 3), 1.0) == pytest.approx(1 / 3e9, rel=1e-9)


def test_the_sum_and_the_series_of_ewens_agree(monkeypatch):
    for theta in (1e-3, 0.7, 30.0, 900.0, 4e4):
        summed = population.ewens_probability((1000, 1, 1), theta)
        with monkeypatch.context() as patch:
            patch.setattr("mutagrad.theory.population.diversity.SUMMED", 0)
            assert population.ewens_probability((1000, 1, 1), theta) == pytest.approx(summed, rel=1e-8)


def test_fixation_of_the_strongly_deleterious_takes_as_long_as_of_the_beneficial():
    """Moran's process, from one copy: the times at s and −s are the same."""
    for s, size in ((-1.0, 400), (-20.0, 60), (-700.0, 10)):
        up, down = (population.fixation_time(one, size, "moran") for one in (-s, s))
        assert down == pytest.approx(up, rel=1e-9)


@pytest.mark.parametrize("model", ["moran", "wright_fisher"])
def test_scaled_times_are_those_of_the_chain(model, monkeypatch):
    for s, size, copies in ((-0.3, 30, 1), (-2.0, 20, 4), (-1e-3, 15, 14)):
        plain = population.fixation_time(s, size, model, copies)
        with monkeypatch.context() as patch:
            patch.setattr("mutagrad.theory.population.fixation.TINY", 2.0)
            assert population.fixation_time(s, size, model, copies) == pytest.approx(plain, rel=1e-9)


def test_strongly_deleterious_mutations_of_wright_and_fisher():
    """With |s| ≫ n ln n all that are fixed are so in one generation; two genomes by hand at any s."""
    assert population.fixation_time(-1e5, 20, "wright_fisher") == pytest.approx(1, rel=1e-9)
    # From one of two, with q the share of mutants among parents: each generation ends it unless 2q(1 − q).
    share = 1 / (1 + math.exp(400))
    found = population.fixation_time(-400.0, 2, "wright_fisher")
    assert found == pytest.approx(1 / (1 - 2 * share * (1 - share)), rel=1e-12)
    times = [population.fixation_time(s, 100, "wright_fisher") for s in (-3.0, -3.4, -3.5, -5.0, -20.0)]
    assert np.all(np.diff(times) < 0)
    assert times[-1] > 1


def test_fixation_in_a_huge_population():
    for size in (2**31, 10**18, 10**400):
        assert float(population.fixation_probability(0.1, size, "moran")) == pytest.approx(-math.expm1(-0.1), rel=1e-6)
        assert float(population.fixation_probability(-0.1, size, "moran")) == 0


@pytest.mark.parametrize("model", ["moran", "wright_fisher"])
@pytest.mark.parametrize("size", [2**31, 10**18, 10**400])
def test_temperature_and_rates_of_a_huge_population(size, model):
    factor = 2 if model == "wright_fisher" else 1
    kappa = population.inverse_temperature(size, model, 0.5)
    assert kappa == pytest.approx(factor * (size - 1) / 2 if size < 10**300 else math.inf)
    assert population.inverse_temperature(size, model, 0.0) == 0
    rates = population.learning_rates(0.1, 1.0, size, 0.2, model)
    assert rates.per_proposed == pytest.approx(factor * 0.1**2 / 2, rel=1e-9)


def test_one_genome_is_at_no_temperature():
    """Any mutation takes over one genome: νβ is 0 at β = ∞ too, and nothing moves along the slope."""
    for model in ("moran", "wright_fisher"):
        assert population.inverse_temperature(1, model, math.inf) == 0
        assert population.learning_rates(0.1, math.inf, 1, 0.3, model) == (0, 0, 0, 0)


def plain_alleles(number, theta):
    return math.fsum(theta / (theta + i) for i in range(number))


@pytest.mark.parametrize("theta", [1e-12, 1e-3, 0.5, 1.0, 30.0, 1e4, 1e15])
@pytest.mark.parametrize("number", [1, 2, 63, 64, 65, 1000, 30_000])
def test_alleles_are_the_sum(number, theta):
    assert population.expected_num_alleles(number, theta) == pytest.approx(plain_alleles(number, theta), rel=1e-13)


def test_alleles_and_segregating_mutations_of_huge_samples():
    """θ(ln n − ψ(θ)) + O(1/n), and 2nμ(ln n + γ), to the last digits and without n numbers."""
    number = 10**15
    for theta in (0.1, 3.0):
        law = theta * (math.log(number) - float(special.digamma(theta)))
        assert population.expected_num_alleles(number, theta) == pytest.approx(law, rel=1e-13)
    # Of a θ that is as large as the sample θ ln 2 are different, and one of 10³⁰ makes all so.
    assert population.expected_num_alleles(number, 1e15) == pytest.approx(number * math.log(2), rel=1e-13)
    assert population.expected_num_alleles(number, 1e30) == pytest.approx(number, rel=1e-13)
    law = 2 * number * 1e-9 * (math.log(number) + np.euler_gamma)
    assert population.expected_num_segregating(number, 1e-9) == pytest.approx(law, rel=1e-13)
    plain = 2 * 3000 * 0.1 * math.fsum(1 / i for i in range(1, 3000))
    assert population.expected_num_segregating(3000, 0.1) == pytest.approx(plain, rel=1e-13)


def test_only_the_shape_of_a_slope_counts_in_truncation():
    law = np.asarray(population.truncation_response([1.0, 4.0], [3.0, 2.0], 0.5))
    for scale in (1e-30, 1e30):
        found = population.truncation_response([1.0, 4.0], [3 * scale, 2 * scale], 0.5)
        np.testing.assert_allclose(found, law, rtol=1e-6)
    assert population.truncation_response([1.0, 4.0], [0.0, 0.0], 0.5).tolist() == [0, 0]
    assert float(population.selection_intensity(1.0)) == 0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: population.expected_heterozygosity(0.5, 10, -1), "time: got -1"),
        (lambda: population.expected_heterozygosity(0.5, 10, math.nan), "time: got nan"),
        (lambda: population.expected_heterozygosity(1.5, 10, 1), "start: got 1.5"),
        (lambda: population.expected_heterozygosity("half", 10, 1), "start: got 'half'"),
        (lambda: population.expected_heterozygosity(0.5, 0, 1), "population_size: got 0"),
        (lambda: population.equilibrium_heterozygosity(10, "0.1"), "mutation_rate: got '0.1'"),
        (lambda: population.equilibrium_heterozygosity(10, np.ones(2)), "mutation_rate: got array"),
        (lambda: population.expected_num_segregating(10, math.inf), "mutation_rate: got inf"),
        (lambda: population.expected_num_segregating(10, [0.1, 0.2]), "mutation_rate: got"),
        (lambda: population.learning_rates(0.1, 1.0, 10, math.inf), "mutation_rate: got inf"),
        (lambda: population.shahshahani_gradient([0.5, 0.5], 1.0), "derivative: got shape"),
        (lambda: population.truncation_response([1.0], [1.0], 0.0), "share: got 0.0"),
        (lambda: population.selection_intensity([0.5, 1.1]), "share: got"),
        (lambda: population.selection_intensity(math.nan), "share: got nan"),
        (lambda: population.price([], []), "num_offspring: got"),
        (lambda: population.price([0, 0], [1.0, 2.0]), "num_offspring: got"),
        (lambda: population.price([-1, 2], [1.0, 2.0]), "num_offspring: got"),
        (lambda: population.price([math.inf, 2], [1.0, 2.0]), "num_offspring: got"),
        (lambda: population.fixation_probability("0.1", 10, "moran"), "s: got '0.1'"),
        (lambda: population.fixation_by("late", 0.1, 10, "moran"), "time: got 'late'"),
        (lambda: population.fixation_by(["1", 2], 0.1, 10, "moran"), "time: got"),
        (lambda: population.expected_heterozygosity("0.5", 10, 1), "start: got"),
        (lambda: population.selection_intensity(np.array(["0.5"])), "share: got"),
        (lambda: population.fixation_by(1, "0.1", 10, "moran"), "s: got '0.1'"),
        (lambda: population.transition_matrix(np.ones((20, 20)), 10, "moran"), "s: got array"),
    ],
)
def test_what_has_no_answer_is_refused_in_one_line(call, words):
    with pytest.raises(ValueError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200
