"""What the claims of Sourbut 2022 rest on: pairs of mutations, planned errors, and exact chains."""

import math

import jax
import numpy as np
import pytest
import scipy.stats

import mutagrad
from mutagrad import law, theory
from mutagrad.lab.claims.sourbut2022 import momentum, mutation_rates, natural, pairs, populations, two_loci
from mutagrad.types import Mutation

pytestmark = pytest.mark.permissive


@pytest.mark.parametrize("slope", [0.1, 1.0, 8.0])
def test_planned_moments_are_those_of_theory(slope):
    algorithm = mutagrad.metropolis(1.0, 1.0)
    noise = theory.diffusion(algorithm, slope)
    expected = [theory.drift(algorithm, slope), theory.acceptance_rate(algorithm, slope), *noise]
    np.testing.assert_allclose(pairs.planned(algorithm, slope, 10).mean, np.array(expected, float), rtol=2e-6)


def test_the_squared_tangent_has_the_mean_of_a_known_angle():
    # Mutations of covariance C on a greedy rule step along −Cg: the angle from −g is known.
    covariance = np.diag([1.5, 1.0])
    root = np.sqrt(covariance)

    def sample(key, params):
        return jax.numpy.asarray(root, jax.numpy.float32) @ jax.random.normal(key, params.shape)

    gradient = np.array([[0.6], [0.8]])
    rule = pairs.acceptance_of(mutagrad.greedy(1.0))
    found = pairs.measure(Mutation(sample, "sheared"), [rule], gradient, [1.0], 2**17, jax.random.key(3))
    value, error = pairs.squared_tangent(found)
    turned = covariance @ gradient[:, 0]
    exact = (turned @ turned) / (turned @ gradient[:, 0]) ** 2 - 1
    # One false alarm in 10⁴.
    assert abs(value[0] - exact) < 3.9 * error[0]
    assert exact > 20 * error[0]


def test_measured_pairs_are_planned():
    algorithm = mutagrad.logistic(1.0, 2.0)
    unit = pairs.orthonormal(np.random.default_rng(1), 5, 1)
    density = algorithm.definition.mutation
    found = pairs.measure(density, [pairs.acceptance_of(algorithm)], unit, [1.0], 2**16, jax.random.key(4))
    plan = pairs.planned(algorithm, 1.0, 5)
    error = np.sqrt(found.covariance[0, 0, 0])
    assert abs(found.mean[0, 0, 0] - plan.mean[0]) < 3.9 * error
    assert error**2 * found.number == pytest.approx(plan.covariance[0, 0], rel=0.03)
    assert found.own[0, 0] / 4 == pytest.approx(plan.across, rel=0.03)
    # The acceptance of a logistic rule is ½ for every pair.
    np.testing.assert_allclose(found.mean[0, 0, 1], 0.5, rtol=1e-6)


@pytest.mark.parametrize("number", [5, 20])
def test_a_population_of_moran_has_its_law_exactly(number):
    variance, inside = populations.stationary_of_chain("moran", number, 2.0, 1.5)
    # The sum over a grid of spacing 0.04 is exact but for the end of the interval.
    assert variance == pytest.approx(1, abs=1e-4)
    assert inside == pytest.approx(scipy.stats.chi2.cdf(1, 1), abs=1e-3)


def test_the_power_of_a_rule_that_sees_signs_is_minus_one():
    power, _ = pairs.planned_exponent(mutagrad.greedy(1.0), 0.02, 5.0, 10, 1000)
    assert power == pytest.approx(-1, abs=1e-12)


def test_the_users_density_has_its_law():
    from mutagrad.lab.claims.sourbut2022.families import densities

    laplace = densities()["Laplace"]
    assert isinstance(laplace.law, law.Radial)
    z = np.asarray(
        jax.vmap(lambda key: laplace.sample_fn(key, jax.numpy.zeros(2)))(jax.random.split(jax.random.key(5), 4000))
    )
    # Any direction has Laplace's law of variance 1.
    assert scipy.stats.kstest(z @ [0.6, 0.8], scipy.stats.laplace(scale=0.5**0.5).cdf).pvalue > 1e-4


def test_neutral_neighbours_do_not_change_fixation():
    for bend in (0.0, 0.3):
        changed = two_loci._fixed_with_neighbour(5, 0.5, (0.4, 0.0, bend, 0.0, 0.0))
        assert abs(changed) < 1e-12


@pytest.mark.parametrize("parted", [0.5, 0.2])
def test_the_chain_of_two_loci_is_one_of_probabilities(parted):
    chain = two_loci._chain(6, parted, (0.3, -0.2, 0.1, 0.4, 0.2))
    np.testing.assert_allclose(chain.sum(1), 1, rtol=1e-13)
    counts, _, place = two_loci._states(6)
    # What is fixed stays so, and the shares of two neutral loci do not change in the mean.
    assert chain[place[6, 0, 0, 0], place[6, 0, 0, 0]] == pytest.approx(1)
    neutral = two_loci._chain(6, parted, (0.0,) * 5)
    carriers = counts[:, :2].sum(1)
    np.testing.assert_allclose(neutral @ carriers, carriers, atol=1e-12)
    # Associations fall by 1 − parted by recombination, and by 1 − 1/n by drift.
    association = counts[:, 0] / 6 - carriers / 6 * (counts[:, 0] + counts[:, 2]) / 6
    np.testing.assert_allclose(neutral @ association, (1 - parted) * (1 - 1 / 6) * association, atol=1e-12)


def test_neighbours_slow_fixation_as_robertson_says():
    # [Ro61]: n/(1 + 4V) with V the variance of log fitness, of which each of the neighbours has (n − 1)s_j² in equilibrium.
    shares = [two_loci.next_order(number, 0.5).spread / (-4 * (number - 1)) for number in (4, 6, 8, 10)]
    # Corrections fall like 1/n.
    assert np.all(np.diff(shares) > 0)
    assert np.polyfit([1 / 6, 1 / 8, 1 / 10], shares[1:], 1)[1] == pytest.approx(1, abs=0.1)


def test_parents_that_pass_on_mutations_respond_at_once():
    """Mean steps on a slope that begins: −κg(1 + m(1 − μᵗ)), from −κg at once; heavy ball begins with (1 − μ)(1 + m) of it."""
    kept, b, lineages = 0.5, 0.2, 2**15
    spread = 1 / math.sqrt(1 - kept**2)
    beta = b / spread
    algorithm = mutagrad.logistic(1.0, beta, mutation=momentum.heritable(kept, 1.0))
    losses, generations = (lambda x: x, lambda x: -x), 12
    courses = momentum._courses(jax.random.key(0), algorithm, losses, 0.0, spread, lineages, generations)
    steps = -np.diff(courses, axis=1) / (beta / 4)
    error = steps.std(axis=0, ddof=1) / math.sqrt(len(steps))
    # With 15 degrees of freedom one false alarm in 4·10⁴. Logistic selection is weaker by b²/4 to next order.
    law = momentum.response("logistic", kept, generations) * (1 - b**2 / 4)
    assert np.all(np.abs(steps.mean(axis=0) - law) < 6 * error)
    assert error.max() < 0.06
    memory = 1 - (1 - kept) / 2
    heavy = (1 - memory ** np.arange(1, generations + 1)) / (1 - kept)
    assert law[-1] == pytest.approx(heavy[-1], rel=0.06)
    assert law[0] - heavy[0] > 10 * error[0]


def test_on_a_quadratic_the_mean_follows_the_response_and_overshoots_less_than_heavy_ball():
    kept, steepness = 0.9, 1e-3
    mean, carried, expected = 1.0, 0.0, []
    for _ in range(200):
        # Means of x and v by the law of a slope, which is x here; κ is the steepness.
        expected.append(mean)
        mean, carried = (
            mean + kept * carried / 2 - steepness * mean,
            carried * (1 + kept) / 2 - steepness * (1 - kept) * mean,
        )
    found = momentum.path(kept, steepness, 0.05, 200)
    np.testing.assert_allclose(found, expected, atol=5 * steepness)
    assert expected[-1] < 0.8
    kept = 0.95
    steepness, generations = (1 - kept) / 2, momentum._long(kept)
    # As docs/theory.md 11.7 has them.
    assert momentum.path(kept, steepness, 1.5, generations).min() == pytest.approx(-0.13, abs=0.005)
    assert momentum.heavy_ball(kept, steepness, generations).min() == pytest.approx(-0.30, abs=0.005)


@pytest.mark.parametrize("rule", ["comma", "elitist"])
def test_carried_mutation_rates_change_as_their_diffusion_does(rule):
    """One generation of (1,10) and (1+10) on the sphere in plain numpy: mean and variance of the change of ln s, times N."""
    random, size, number, runs = np.random.default_rng(1), 200, 10, 200_000
    law = mutation_rates.walk(rule, number)
    drift = law.rates @ law.u
    diffusion = law.rates @ law.u**2 - 2 * law.u * drift
    for strength in (0.5, 2.0, 4.0):
        xi, z = random.standard_normal((2, runs, number))
        others = random.chisquare(size - 1, (runs, number))
        change = xi * math.sqrt(mutation_rates._PACE / size)
        scale = strength / size * np.exp(change)
        # Squares of the distance from the minimum, over that of the parent.
        squares = 1 - 2 * scale * z + scale**2 * (z**2 + others)
        best = np.arange(runs), squares.argmin(axis=1)
        moved = change[best] - np.log(squares[best]) / 2
        if rule == "elitist":
            moved = np.where(squares[best] < 1, moved, 0)
        error = moved.std() / math.sqrt(runs) * size
        # The next order is a share of about 5/N.
        law_here, noise = (np.interp(math.log(strength), law.u, one) for one in (drift, diffusion))
        assert abs(moved.mean() * size - law_here) < 4.5 * error + 5 / size * max(abs(law_here), 1)
        assert moved.var() * size == pytest.approx(noise, rel=0.04)
        assert error < 0.05


def test_where_carried_mutation_rates_settle():
    """The law is at rest in its chain; its geometric means of s over the best s are those of docs/theory.md 11.8."""
    for rule, number, ratio in (("comma", 10, 1.34), ("comma", 100, 1.51), ("elitist", 10, 2.49), ("elitist", 1, 2.59)):
        law = mutation_rates.walk(rule, number)
        assert law.settled.sum() == pytest.approx(1)
        assert np.abs(law.settled @ law.rates).max() < 1e-12
        found = math.exp(law.settled @ law.u) / mutation_rates._best(rule, number)
        assert found == pytest.approx(ratio, abs=0.005)


def test_neutral_squares_of_two_genomes():
    # One of two genomes carries the mutation for a number of generations T that is geometric with ½: E[T] = 2, E[T²] = 6.
    assert two_loci.neutral_squares(2) == pytest.approx((6 / 16, 2 / 4))


def test_the_natural_gradient_by_its_definition_is_that_of_shahshahani():
    rng = np.random.default_rng(3)
    for number in (2, 3, 5):
        p, payoffs = rng.dirichlet(np.full(number, 3.0)), rng.uniform(0.5, 2, (number, number))
        one = natural.natural(tuple(p), payoffs)
        closed = theory.population.shahshahani_gradient(p, (payoffs + payoffs.T) @ p)
        np.testing.assert_allclose(one.gradient, closed, atol=1e-5)
        # Of changes that add up to 0 the metric is Σ dp²/p.
        change = rng.normal(size=number)
        change -= change.mean()
        assert change @ one.metric @ change == pytest.approx(np.sum(change**2 / p), rel=1e-4)
