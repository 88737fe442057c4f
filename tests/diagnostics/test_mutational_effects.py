"""Effects of mutations: shares beside Φ(−s/2), half-normal effects, and a Pareto fit whose interval holds what it says."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats

import mutagrad
import mutagrad.report
from mutagrad.diagnostics.landscape import fit_pareto, mutational_effects, normal_shape
from mutagrad.diagnostics.landscape.mutations import share_of, strength_of

KEY = jax.random.key(0)


def half_square(x):
    return jnp.sum(x**2) / 2


@pytest.fixture(scope="module")
def linear():
    """A linear loss of 50 examples that differ, so that ΔU is normal and s is 0."""
    return mutational_effects(
        KEY, lambda x: jnp.sum(x) + jnp.arange(50.0), jnp.zeros((4, 25)), 0.1, num_mutations=2000, quantile=0.0
    )


def test_a_linear_loss(linear):
    """Half of all mutations are beneficial; s is 0; effects are half-normal with spread σ|g| = 1."""
    assert abs(linear.beneficial.value - 0.5) < 4 * linear.beneficial.error
    assert linear.beneficial.error == pytest.approx(math.sqrt(0.25 / 2000), rel=0.01)
    assert abs(linear.strength.value) < 4 * linear.strength.error
    assert stats.kstest(linear.effects, stats.halfnorm.cdf).pvalue > 1e-3
    assert (linear.num_examples, linear.num_mutated) == (50, 100)
    low, high = linear.pareto.interval
    assert low < linear.normal_shape < high < 0
    assert linear.neutral.value == linear.failed.value == 0
    assert linear.neutral.error > 0


def test_a_quadratic_at_s_of_two():
    """On the sphere of 400 parameters at s = 2: Φ(−1) of the mutations, s itself, and the difference of both within its error."""
    found = mutational_effects(KEY, half_square, jnp.ones(400), sigma=0.1, num_mutations=2000)
    for value, truth in (
        (found.beneficial, stats.norm.cdf(-1)),
        (found.predicted, stats.norm.cdf(-1)),
        (found.strength, 2),
    ):
        assert abs(value.value - truth) < 4 * value.error
    assert abs(found.excess.value) < 4 * found.excess.error
    # The two shares come from the same mutations: their difference is known better than either.
    assert found.excess.error < found.beneficial.error
    assert found.normal_shape == normal_shape(found.strength.value, 0.0, found.pareto.number)


def test_losses_that_are_not_normal_are_found_out():
    """One curvature alone: ΔU = x·z + z²/2·big is no normal variable, and the share is not Φ(−s/2)."""
    found = mutational_effects(KEY, lambda x: jnp.sum(x) + 10 * x[0] ** 2, jnp.zeros(2), 0.3, num_mutations=2000)
    assert abs(found.excess.value) > 4 * found.excess.error


def test_it_is_what_a_generation_sees():
    """The same keys, mutations and comparisons as those of a generation of offspring."""
    params, algorithm = jnp.ones((3, 10)), mutagrad.elitist(sigma=0.05, num_offspring=16)

    def loss_fn(x):
        return jnp.sum(x**2, axis=1)

    found = mutational_effects(KEY, loss_fn, params, algorithm, num_mutations=16)
    mutants = [
        mutagrad.tree.add_scaled(
            params, algorithm.definition.mutation.sample_fn(jax.random.fold_in(KEY, index), params), jnp.float32(0.05)
        )
        for index in range(16)
    ]
    expected = [float(jnp.mean(loss_fn(one) - loss_fn(params))) for one in mutants]
    np.testing.assert_allclose(found.changes, expected, rtol=1e-4, atol=1e-6)


def test_accuracy_neutral_and_failed():
    """Counted exactly: steps leave many as they are, a wall makes some fail, and accuracy is paired."""

    def loss_fn(params):
        assert params["n"].dtype == jnp.bfloat16
        return jnp.where(params["w"][0] > 0.1, jnp.nan, jnp.floor(10 * params["w"]))

    params = {"w": jnp.full(3, 0.05), "n": jnp.zeros(1, jnp.bfloat16)}
    mutation = mutagrad.mutation.masked({"w": True, "n": False}, mutagrad.mutation.gaussian())
    algorithm = mutagrad.greedy(sigma=0.02, mutation=mutation)
    found = mutational_effects(
        KEY,
        loss_fn,
        params,
        algorithm,
        num_mutations=500,
        accuracy_fn=lambda p: p["w"] > 0.05,
    )
    finite = found.changes[np.isfinite(found.changes)]
    assert found.failed.value == (500 - len(finite)) / 500
    assert found.neutral.value == np.mean(found.changes == 0)
    assert 0 < found.failed.value < 0.02
    assert found.neutral.value > 0.9
    assert found.num_mutated == 3
    assert found.accuracy == 0
    assert abs(np.mean(found.accuracy_changes) - 0.5) < 4 * math.sqrt(0.25 / 1500)


def test_other_losses_and_params():
    """Ordinary Python, one parameter, bfloat16 with integers, a constant, discrete parameters."""
    simple = mutational_effects(
        KEY,
        lambda x: float(np.sum(x**2)),
        np.ones(1),
        0.1,
        num_mutations=40,
        evaluation=mutagrad.executor(),
        accuracy_fn=lambda x: bool(x[0] > 1),
    )
    assert simple.beneficial.value == np.mean(simple.changes < 0)
    assert set(simple.accuracy_changes) == {0, 1}
    params = {"a": [jnp.ones((3, 2), jnp.bfloat16)], "n": jnp.arange(4)}
    coarse = mutational_effects(
        KEY, lambda p: jnp.sum(p["a"][0].astype(jnp.float32)), params, sigma=1e-3, num_mutations=50
    )
    # Mutations below the rounding of bfloat16 at 1 are no mutations.
    assert coarse.neutral.value > 0.2
    flat = mutational_effects(KEY, lambda x: 0 * jnp.sum(x), jnp.ones(3), 0.1, num_mutations=20)
    assert (flat.neutral.value, flat.beneficial.value, flat.pareto) == (1, 0, None)
    assert math.isnan(flat.strength.value)
    assert mutagrad.report.text
    assert "Fewer than ten" in str(flat)
    assert "nan" not in str(flat)
    bits = mutagrad.greedy(sigma=0.5, mutation=mutagrad.mutation.discrete())
    ones = mutational_effects(KEY, lambda x: jnp.sum(x).astype(jnp.float32), jnp.ones(30, bool), bits, num_mutations=50)
    assert ones.beneficial.value + ones.neutral.value == 1


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"sigma": None}, "sigma: got none; pass sigma="),
        ({"sigma": 0.0}, "sigma: got 0.0"),
        ({"algorithm": 0.1}, "sigma: got 0.1 beside 0.1; pass one of them"),
        ({"algorithm": "greedy"}, "algorithm: got 'greedy'; pass an algorithm"),
        ({"num_mutations": 1}, "num_mutations: got 1"),
        ({"quantile": 1.0}, "quantile: got 1.0; pass a share"),
        ({"level": 95}, "level: got 95; pass a share"),
        ({"accuracy_fn": 1}, "accuracy_fn: got 1; pass a function accuracy_fn(params)"),
        ({"algorithm": mutagrad.adapt_sigma(mutagrad.greedy(0.1)), "sigma": None}, "sigma=result.state.sigma"),
    ],
)
def test_refusals(kwargs, words):
    given = {"sigma": 0.1} | kwargs
    with pytest.raises(ValueError) as refused:
        mutational_effects(KEY, half_square, jnp.ones(3), given.pop("algorithm", None), **given)
    assert words in str(refused.value)


# --- The Pareto fit --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [-0.3, 0.0, 0.3])
def test_the_fit_is_the_greatest_likelihood(shape):
    """No pair of shape and scale that a general optimiser finds is likelier; scaling the values scales the scale alone."""
    values = stats.genpareto.rvs(shape, scale=2, size=300, random_state=1)
    found = fit_pareto(values)

    def cost(point):
        return -np.sum(stats.genpareto.logpdf(values, point[0], scale=math.exp(point[1])))

    best = optimize.minimize(cost, [0.01, 0.5], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-8})
    assert found.shape.value == pytest.approx(best.x[0], abs=2e-4)
    assert found.scale.value == pytest.approx(math.exp(best.x[1]), rel=2e-4)
    scaled = fit_pareto(1e-6 * values + 3, threshold=3.0)
    assert scaled.shape.value == pytest.approx(found.shape.value, abs=1e-3)
    assert scaled.scale.value == pytest.approx(1e-6 * found.scale.value, rel=1e-3)


def misses(shape, number, repetitions):
    """Of 95 % intervals, how many do not hold the shape; and how many errors of shape and scale the truth is off by."""
    generator = np.random.default_rng([number, round(100 * (shape + 1))])
    missed, apart = 0, []
    for _ in range(repetitions):
        found = fit_pareto(stats.genpareto.rvs(shape, size=number, random_state=generator))
        missed += not found.interval[0] <= shape <= found.interval[1]
        apart.append([(found.shape.value - shape) / found.shape.error, (found.scale.value - 1) / found.scale.error])
    return missed, np.array(apart)


CASES = [(shape, number) for shape in (-0.3, 0.0, 0.3) for number in (50, 500)]


@pytest.mark.parametrize(("shape", "number"), CASES)
def test_the_interval_holds_the_shape(shape, number):
    """Misses of 100 are binomial of 5 %: fewer than 0 or more than 13 happen once in 1000."""
    missed, apart = misses(shape, number, 100)
    low, high = stats.binom.ppf([1e-3, 1 - 1e-3], 100, 0.05)
    assert low <= missed <= high
    if number == 500:
        assert (np.abs(apart.std(axis=0) - 1) < 0.3).all()


@pytest.mark.verify
@pytest.mark.parametrize(("shape", "number"), CASES)
def test_the_interval_holds_the_shape_in_many_trials(shape, number):
    """Of 4000: 5 % less or more 1 %, beyond which three errors of the binomial law lie."""
    missed, _ = misses(shape, number, 4000)
    assert abs(missed / 4000 - 0.05) < 0.01


@pytest.mark.parametrize(("strength", "quantile"), [(0.0, 0.0), (2.0, 0.5)])
def test_the_shape_of_normal_effects(strength, quantile):
    """It is the mean of fits to what normal variables exceed a bound by, within four errors and the stated bias."""
    bound = stats.norm.isf(stats.norm.sf(strength / 2) * (1 - quantile))
    draws = stats.truncnorm.rvs(bound, np.inf, size=(150, 200), random_state=1) - bound
    shapes = np.array([fit_pareto(one).shape.value for one in draws])
    expected = normal_shape(strength, quantile, 200)
    assert abs(shapes.mean() + 0.005 - expected) < 4 * shapes.std() / math.sqrt(150) + 0.005
    assert expected < 0


def test_effects_are_nearer_to_exponential_near_a_minimum_and_above_a_threshold():
    shapes = [normal_shape(float(strength)) for strength in (0, 1, 2, 4, 8)]
    assert (np.diff(shapes) > 0).all()
    assert [round(normal_shape(0.0, q), 2) for q in (0.0, 0.9, 0.99)] == [-0.27, -0.13, -0.08]


def test_few_values_have_no_fit():
    assert fit_pareto(np.arange(1.0, 10.0)) is None
    assert fit_pareto(np.ones(50)) is None
    assert fit_pareto(np.arange(1.0, 30.0), threshold=25.0) is None
    uniform = fit_pareto(np.linspace(0.01, 1, 100))
    assert uniform.interval[0] == -1


def test_shares_and_strength():
    assert share_of(0, 100).error == pytest.approx(math.sqrt(0.5 / 101 * (1 - 0.5 / 101) / 102))
    changes = np.random.default_rng(0).normal(1.0, 2.0, 400)
    assert strength_of(changes, 0.1).value == pytest.approx(2 * changes.mean() / changes.std(ddof=1))
