"""Laws of docs/theory.md 6 on fixation: formulas against exact chains, chains against simulation, limits that do not overflow."""

import itertools
import math

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mutagrad import theory

population = theory.population
MODELS = ("moran", "wright_fisher")


@pytest.mark.parametrize("size", [1, 2, 3, 10, 60])
def test_moran_is_exact(size):
    """(1 − e^{−s})/(1 − e^{−ns}) is what the chain says, to the precision of float32."""
    for s in (-0.5, -0.01, 0.0, 1e-3, 0.2, 3.0):
        exact = float(population.fixation_by(math.inf, s, size, "moran"))
        assert float(population.fixation_probability(s, size, "moran")) == pytest.approx(exact, rel=2e-5)


@pytest.mark.parametrize("size", [10, 100])
def test_kimura_is_right_to_first_order_in_s(size):
    """The diffusion is off by a factor 1 + O(s): halving s halves the distance, where ns is large enough to see it."""
    off = []
    for s in (0.2, 0.1, 0.05):
        exact = float(population.fixation_by(math.inf, s, size, "wright_fisher"))
        off.append(float(population.fixation_probability(s, size, "wright_fisher")) / exact - 1)
    assert abs(off[0]) < 0.2
    assert abs(off[0]) > 1.3 * abs(off[1])
    assert abs(off[2]) < 0.05


@given(s=st.floats(-(2.0**99), 2.0**99, width=32), size=st.integers(1, 10**9), model=st.sampled_from(MODELS))
@settings(max_examples=60, deadline=None)
def test_fixation_is_a_probability_at_any_ns(s, size, model):
    found = float(population.fixation_probability(s, size, model))
    assert 0 <= found <= 1
    if s > 0:
        assert found >= 1 / size * (1 - 1e-6)
    if s < 0:
        assert found <= 1 / size * (1 + 1e-6)


def test_limits():
    """About s, or 2s, for 1/n ≪ s ≪ 1; 1/n when neutral; e^{−(n−1)s} of the beneficial one when deleterious."""
    assert float(population.fixation_probability(1e-3, 10**7, "moran")) == pytest.approx(1e-3, rel=1e-3)
    assert float(population.fixation_probability(1e-3, 10**7, "wright_fisher")) == pytest.approx(2e-3, rel=2e-3)
    assert float(population.fixation_probability(1e-30, 1000, "moran")) == pytest.approx(1e-3)
    up, down = (float(population.fixation_probability(s, 20, "moran")) for s in (0.1, -0.1))
    assert down / up == pytest.approx(math.exp(-1.9), rel=1e-5)
    assert population.fixation_probability(jnp.zeros((2, 3)), 5, "moran").shape == (2, 3)


@pytest.mark.parametrize("model", MODELS)
def test_fixation_by_a_time_rises_with_time_and_with_s(model):
    """At every time it is monotone in s, and in time it rises to the probability of fixation at all (footnote 5 of [S22])."""
    coefficients, times = np.linspace(-0.3, 0.5, 9), [0, 1, 5, 20, 100, 400]
    found = np.array([population.fixation_by(times, s, 30, model) for s in coefficients])
    assert np.all(found[:, 0] == 0)
    assert np.all(np.diff(found, axis=1) >= -1e-15)
    # In one generation none of one copy is fixed but by a chance of 30⁻³⁰, in which rounding would decide.
    assert np.all(np.diff(found[:, 2:], axis=0) > 0)
    for s, row in zip(coefficients, found, strict=True):
        assert row[-1] <= population.fixation_by(math.inf, s, 30, model) * (1 + 1e-9)
    assert found[-1, -1] == pytest.approx(float(population.fixation_by(math.inf, 0.5, 30, model)), rel=1e-6)


@pytest.mark.parametrize(("model", "copies"), [("moran", 1), ("wright_fisher", 3)])
def test_chains_are_what_simulation_does(model, copies):
    """20,000 lineages of 12 genomes with s = 0.3, drawn genome by genome: fixed by 8 generations, and mean time to fixation."""
    random, size, s, runs = np.random.default_rng(5), 12, 0.3, 20_000
    number, fixed_at = np.full(runs, copies), np.full(runs, np.inf)
    steps = size if model == "moran" else 1
    for time in range(1, 60 * steps + 1):
        share = number * math.exp(s) / (number * math.exp(s) + size - number)
        if model == "moran":
            number = number + (random.random(runs) < share) - (random.random(runs) < number / size)
        else:
            number = random.binomial(size, share)
        fixed_at = np.where((number == size) & np.isinf(fixed_at), time / steps, fixed_at)
    by, ever = np.mean(fixed_at <= 8), np.mean(np.isfinite(fixed_at))
    for found, time in ((by, 8), (ever, math.inf)):
        law = float(population.fixation_by(time, s, size, model, copies))
        assert abs(found - law) < 4 * math.sqrt(law * (1 - law) / runs)
    waited = fixed_at[np.isfinite(fixed_at)]
    law = population.fixation_time(s, size, model, copies)
    assert abs(waited.mean() - law) < 4 * waited.std() / math.sqrt(len(waited))


def test_a_chain_by_hand():
    """Two genomes, e^s = 2. Moran: from one mutant up 2/3·1/2, down 1/3·1/2. Wright and Fisher: binomial of 2/3."""
    s = math.log(2)
    np.testing.assert_allclose(population.transition_matrix(s, 2, "moran")[1], [1 / 6, 1 / 2, 1 / 3])
    np.testing.assert_allclose(population.transition_matrix(s, 2, "wright_fisher")[1], [1 / 9, 4 / 9, 4 / 9])
    for s, model in itertools.product((-1e4, -800.0, 800.0, 1e4), MODELS):
        chain = population.transition_matrix(s, 5, model)
        np.testing.assert_allclose(chain.sum(axis=1), 1)
        assert np.all(chain >= 0)


def test_small_probabilities_keep_their_digits():
    """Moran's formula at s = −0.5 and n = 200 is 10⁻⁴³, and the chain says so; in a chain of two by hand."""
    for s, size in ((-0.5, 200), (-2.0, 50), (0.3, 100)):
        exact = math.expm1(-s) / math.expm1(-size * s)
        assert float(population.fixation_by(math.inf, s, size, "moran")) == pytest.approx(exact, rel=1e-10)
    share = math.exp(-40) / (math.exp(-40) + 1)  # of one mutant in two
    both, none = share**2, (1 - share) ** 2
    found = float(population.fixation_by(math.inf, -40.0, 2, "wright_fisher"))
    assert found == pytest.approx(both / (both + none), rel=1e-10)


def test_neutral_times():
    """Moran's is n − 1 generations exactly; Wright and Fisher's is near the 2n of the diffusion."""
    assert population.fixation_time(0.0, 40, "moran") == pytest.approx(39)
    assert population.fixation_time(0.0, 300, "wright_fisher") == pytest.approx(600, rel=0.02)
    assert population.fixation_time(0.0, 7, "moran", copies=7) == 0
    # A harmful mutation that is fixed takes as long as a useful one: a walk that is conditioned on its end forgets its slope.
    assert population.fixation_time(-0.5, 200, "moran") == pytest.approx(
        population.fixation_time(0.5, 200, "moran"), rel=1e-8
    )


@pytest.mark.parametrize("model", MODELS)
def test_population_size_is_inverse_temperature(model):
    """The ratio of fixation there and back is e^{νβΔU}."""
    size, beta, rise = 12, 0.4, 0.3
    up, down = (float(population.fixation_probability(beta * change, size, model)) for change in (rise, -rise))
    kappa = population.inverse_temperature(size, model, beta)
    assert math.log(up / down) == pytest.approx(kappa * rise, rel=1e-4)


@pytest.mark.parametrize("size", [5, 20, 50, 100])
@pytest.mark.parametrize("scaled", [0.5, 2.0])
def test_inverse_temperature_of_exact_chains(size, scaled):
    """νs is the logarithm of fixation at s over that at −s: ν = n − 1 in Moran's chain to rounding, 2(n − 1) in the other to
    order s². With n in place of n − 1 it would be off by 1/n, fifty times these bounds or more."""
    s = scaled / size
    for model, bound in (("moran", 1e-12), ("wright_fisher", 0.02 * s**2)):
        up, down = (population.fixation_by(math.inf, sign * s, size, model) for sign in (1, -1))
        assert math.log(up / down) == pytest.approx(s * population.inverse_temperature(size, model), rel=bound)


@pytest.mark.parametrize("model", MODELS)
def test_learning_rates(model):
    """E[z A(−βσ|g|z)] over normal z, by quadrature: per proposed mutation; over the mean of A: per fixed one."""
    size, beta, sigma, slope = 50, 1e-3, 0.1, 0.2
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    weights = weights / weights.sum()
    chance = np.asarray(population.fixation_probability(-beta * sigma * slope * nodes, size, model), float)
    step, accepted = sigma * weights @ (nodes * chance), weights @ chance
    rates = population.learning_rates(sigma, beta, size, 0.3, model)
    assert step / slope == pytest.approx(-rates.per_proposed, rel=2e-3)
    assert step / accepted / slope == pytest.approx(-rates.per_fixed, rel=2e-3)
    assert rates.per_generation == pytest.approx(0.3 * size * rates.per_proposed)


@pytest.mark.parametrize(("model", "factor"), [("moran", 1), ("wright_fisher", 2)])
def test_the_learning_rate_holds_where_selection_is_strong(model, factor):
    """A(y) − A(−y) over yν/n is 1 to O(y) from neutral to ny = 200: what counts is that y is small."""
    size, y = 10_000, np.array([1e-6, 1e-4, 1e-3, 0.02])
    up, down = (np.asarray(population.fixation_probability(s, size, model), float) for s in (y, -y))
    np.testing.assert_allclose((up - down) / (y * factor * (size - 1) / size), 1, atol=0.03)
    assert up[-1] > 1e10 * down[-1]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: population.fixation_probability(0.1, 0, "moran"), "population_size: got 0"),
        (
            lambda: population.fixation_probability(0.1, 5, "fisher"),
            "model: got 'fisher'; pass one of moran, wright_fisher",
        ),
        (lambda: population.transition_matrix(0.1, 2001, "moran"), "population_size: got 2001; pass 2000 at most"),
        (lambda: population.transition_matrix(math.nan, 5, "moran"), "s: got nan"),
        (lambda: population.fixation_by(-1, 0.1, 5, "moran"), "time: got -1; pass generations of 0 or more"),
        (lambda: population.fixation_by(1, 0.1, 5, "moran", copies=6), "copies: got 6 of 5 genomes"),
        (lambda: population.fixation_time(0.1, 5, "moran", copies=0), "copies: got 0"),
        (lambda: population.learning_rates(0.1, 1.0, 5, -1), "mutation_rate: got -1"),
        (lambda: population.inverse_temperature(5, "moran", beta=-1), "beta: got -1"),
    ],
)
def test_what_is_refused(call, words):
    with pytest.raises(ValueError, match=words.replace("(", r"\(")):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: population.fixation_probability(0.1, 5),
        lambda: population.inverse_temperature(5),
        lambda: population.transition_matrix(0.1, 5),
        lambda: population.fixation_by(1, 0.1, 5),
        lambda: population.fixation_time(0.1, 5),
    ],
)
def test_a_model_is_named(call):
    """Runs of `mutagrad.population` and of `mutagrad.fixation` differ in theirs, so that either default would mislead by 2."""
    with pytest.raises(TypeError, match="'model'"):
        call()
