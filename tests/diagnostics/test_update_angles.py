"""Angles of updates: of batches beside the law of noise, of improving mutations beside theirs, and what a comparison can see."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import mutagrad
import mutagrad.report
from mutagrad.diagnostics.landscape import comparison_power, update_angles
from mutagrad.diagnostics.landscape.comparison import compare_angles, mean_cosine, pair_cosine, pairs_for_power
from mutagrad.diagnostics.landscape.gradients import full_gradient

KEY = jax.random.key(0)
NEAR = 4
"""Standard errors: 1 false alarm in 16,000."""


def is_near(estimate, truth, slack=0.0):
    return abs(estimate.value - truth) < NEAR * estimate.error + slack


@pytest.fixture(scope="module")
def linear():
    """64 parameters, linear: s = 0."""
    slope = jnp.linspace(1.0, 2.0, 64)
    return update_angles(KEY, lambda x: jnp.sum(slope * x), jnp.zeros(64), sigma=1e-2, num_mutations=6000)


def test_improving_mutations_of_a_linear_loss(linear):
    """Half of them improve; pairs have the cosine Γ(N/2)²/(πΓ((N + 1)/2)²), random ones 0 with variance 1/N."""
    assert is_near(linear.beneficial, 0.5)
    assert is_near(linear.strength, 0)
    assert is_near(linear.improving, pair_cosine(64))
    assert abs(linear.predicted / pair_cosine(64) - 1) < 0.2
    assert abs(linear.random_cosines.mean()) < NEAR / math.sqrt(64 * len(linear.random_cosines))
    assert linear.random_cosines.var() * 64 == pytest.approx(1, abs=NEAR * math.sqrt(2 / len(linear.random_cosines)))
    assert len(linear.improving_cosines) == len(linear.random_cosines) == round(3000 * linear.beneficial.value)


def test_means_of_improving_mutations(linear):
    """c√k/√(N + c²(k − 1)) with −∇U, which is not √k where k is no longer small against N; exact for k = 1 by Γ functions."""
    assert [one.number for one in linear.means] == [1, 4, 16, 64, 256]
    for one in linear.means:
        expected = math.sqrt(2 * one.number / math.pi / (64 + 2 / math.pi * (one.number - 1)))
        assert is_near(one.cosine, expected, 0.01 * expected)
        assert one.predicted == pytest.approx(float(mean_cosine(one.number, 64, linear.strength.value)))
    exact = math.exp(math.lgamma(32) - math.lgamma(32.5)) / math.sqrt(math.pi)
    assert is_near(linear.means[0].cosine, exact)
    assert linear.means[-1].cosine.value < 0.9 * 16 * linear.means[0].cosine.value


def test_curvature_selects_sharper():
    """On the sphere at s = 2 improving pairs have c² = (φ(1)/Φ(−1))² = 2.33 in place of 2/π, and means of k as much more."""
    found = update_angles(
        KEY, lambda x: jnp.sum(x**2) / 2, jnp.ones(100), sigma=0.2, num_mutations=20_000, numbers=(1, 16)
    )
    first = stats.norm.pdf(1) / stats.norm.cdf(-1)
    assert is_near(found.improving, first**2 / 100, 0.05 * first**2 / 100)
    assert not is_near(found.improving, 2 / math.pi / 100)
    for one in found.means:
        expected = first * math.sqrt(one.number / (100 + first + first**2 * (one.number - 1)))
        assert is_near(one.cosine, expected, 0.03 * expected)


def test_the_law_of_means_is_that_of_half_normal_sums():
    """S/√(S² + kχ²): its mean is the formula's to a share 1/N."""
    generator = np.random.default_rng(0)
    for number, size in ((3, 30), (50, 100)):
        sums = np.abs(generator.standard_normal((20_000, number))).sum(axis=1)
        cosines = sums / np.sqrt(sums**2 + number * generator.chisquare(size - 1, 20_000))
        assert abs(cosines.mean() / mean_cosine(number, size) - 1) < 1 / size


# --- Batches ---------------------------------------------------------------------------------------------------------


def quadratic_losses(params, batch):
    return jnp.sum((params[None, :] - batch) ** 2, axis=1) / 2


@pytest.fixture(scope="module")
def targets():
    return jax.random.normal(jax.random.key(5), (300, 40)) + 0.5


def test_batches(targets):
    """Gradients of examples are known: slope and TrC of NumPy, and the law of the mean cosine to a share 1/N."""
    found = update_angles(
        KEY,
        quadratic_losses,
        jnp.zeros(40),
        targets,
        sigma=0.01,
        num_mutations=20,
        batch_sizes=(4, 64),
        num_batches=400,
    )
    slope = np.asarray(targets, np.float64).mean(axis=0)
    trace = np.asarray(targets, np.float64).var(axis=0).sum()
    assert found.slope == pytest.approx(np.linalg.norm(slope), rel=1e-5)
    assert is_near(found.gradient_noise, trace)
    assert found.num_examples == 300
    for one in found.batches:
        law = 1 / math.sqrt(1 + trace / one.batch_size / (slope @ slope))
        assert is_near(one.predicted, law)
        assert is_near(one.cosine, law, 2 * law / 40)
        assert is_near(one.angle, math.degrees(math.acos(law)), 2)
        assert is_near(one.predicted_angle, math.degrees(math.acos(law)))
    assert [one.batch_size for one in found.batches] == [4, 64]


def test_the_gradient_in_parts_is_that_of_all(targets):
    """300 examples are a part of 256 and one of 44; integers have no gradient."""
    params = {"n": jnp.arange(3), "x": jnp.ones(40)}
    (found,) = full_gradient(
        lambda p, batch: quadratic_losses(p["x"], batch), mutagrad.mutation.gaussian().sample_fn, params, targets, 300
    )
    np.testing.assert_allclose(found, 1 - np.asarray(targets).mean(axis=0), rtol=1e-4, atol=1e-5)


def test_leaves_that_do_not_mutate_are_no_part_of_the_gradient(targets):
    """Angles are those without them, though their slope is a thousand times as steep."""
    mutation = mutagrad.mutation.masked({"a": True, "frozen": False})
    algorithm = mutagrad.elitist(0.001, 4, mutation=mutation)
    params = {"a": jnp.ones(40), "frozen": jnp.ones(40)}
    found = update_angles(
        KEY, steep_beside, params, targets, algorithm, num_mutations=400, numbers=(4,), batch_sizes=(4,), num_batches=50
    )
    slope = 1 - np.asarray(targets).mean(axis=0)
    assert found.slope == pytest.approx(math.sqrt(slope @ slope), rel=1e-4)
    assert is_near(found.gradient_noise, np.asarray(targets).var(axis=0).sum())
    assert is_near(found.means[0].cosine, found.means[0].predicted, 0.02)
    assert is_near(found.batches[0].cosine, found.batches[0].predicted.value, 0.05)


def steep_beside(params, batch):
    frozen = params["frozen"]
    return quadratic_losses(params["a"], batch) + 1e3 * jnp.sum(frozen - jax.lax.stop_gradient(frozen))


# --- What a comparison sees ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pairs", "cosine"), [(3000, 2 / math.pi / 100), (6000, 2 / math.pi / 100), (2000, 0.0)])
def test_power_beside_simulation(pairs, cosine):
    """Normal cosines of 100 parameters, shifted, 300 times: the power within three and a half errors, the level too."""
    generator = np.random.default_rng(pairs)
    both = generator.standard_normal((2, 300, pairs)) / 10
    found = [stats.ks_2samp(a, b + cosine, method="asymp").pvalue < 0.05 for a, b in zip(*both, strict=True)]
    power = comparison_power(pairs, 100, cosine)
    assert abs(np.mean(found) - power) < 3.5 * math.sqrt(power * (1 - power) / 300) + 0.01


def test_pairs_that_are_needed():
    """The power of as many pairs as are needed is 90 %: some 70 N for a linear loss."""
    needed = pairs_for_power(9854, pair_cosine(9854))
    assert comparison_power(round(needed), 9854, pair_cosine(9854)) == pytest.approx(0.9, abs=0.01)
    assert 65 < needed / 9854 < 75
    assert compare_angles(np.zeros(1), np.zeros(1), 10, 0.1) is None


# --- Other losses and arguments --------------------------------------------------------------------------------------


def test_other_losses_and_params(targets):
    """Ordinary Python has angles but no gradient; bfloat16 and integers; a flat loss of one parameter says what is missing."""
    numbers = np.asarray(targets[:20])

    def plain(params, batch):
        return np.mean((params["x"][0] - batch) ** 2, axis=1)

    found = update_angles(
        KEY,
        plain,
        {"x": [np.zeros(40, np.float32)]},
        numbers,
        sigma=0.1,
        num_mutations=40,
        evaluation=mutagrad.executor(),
    )
    assert found.batches == found.means == ()
    assert math.isnan(found.slope)
    assert len(found.improving_cosines) == len(found.random_cosines) > 2
    assert "There is no gradient here" in str(found)
    mixed = {"a": [jnp.ones((4, 8), jnp.bfloat16)], "n": jnp.arange(3), "w": jnp.ones(8)}
    found = update_angles(
        KEY, lambda p: jnp.sum(p["a"][0].astype(jnp.float32)) + jnp.sum(p["w"]), mixed, sigma=0.1, num_mutations=64
    )
    assert found.slope == pytest.approx(math.sqrt(40), rel=1e-3)
    assert found.num_mutated == 40
    flat = update_angles(KEY, lambda x: 0 * x[0], jnp.ones(1), sigma=0.1, num_mutations=10)
    assert (flat.comparison, flat.means) == (None, ())
    assert "Too few improve" in str(flat)


def test_a_loss_that_jax_computes_and_does_not_differentiate():
    def loss_fn(x):
        return jax.lax.while_loop(lambda v: v[0] < 3, lambda v: (v[0] + 1, v[1] + jnp.sum(x)), (0, jnp.float32(0)))[1]

    found = update_angles(KEY, loss_fn, jnp.ones(5), sigma=0.1, num_mutations=20)
    assert found.means == ()
    assert math.isnan(found.slope)


def test_failed_mutants_do_not_improve():
    found = update_angles(KEY, lambda x: jnp.sum(jnp.sqrt(x)), jnp.full(3, 1e-3), sigma=0.01, num_mutations=50)
    assert found.beneficial.value < 0.1


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"sigma": None}, "sigma: got none"),
        ({"num_mutations": 1}, "num_mutations: got 1"),
        ({"num_batches": 1}, "num_batches: got 1"),
        ({"batch_sizes": (4,)}, "batch_sizes: got (4,) without data"),
        ({"data": jnp.zeros(0)}, "data: got arrays of [0] examples"),
        ({"data": jnp.zeros(5), "batch_sizes": (0,)}, "batch_sizes: got 0"),
        ({"data": jnp.zeros(5)}, "loss_fn: got one that cannot be called as loss_fn(params, batch)"),
        ({"numbers": (0,)}, "numbers: got 0"),
        (
            {"algorithm": mutagrad.greedy(0.1, mutation=mutagrad.mutation.discrete()), "params": jnp.ones(4, bool)},
            "algorithm: got mutations of discrete parameters, which have no angles",
        ),
    ],
)
def test_refusals(kwargs, words):
    given = {"sigma": 0.1, "params": jnp.ones(3)} | kwargs
    with pytest.raises(ValueError) as refused:
        update_angles(KEY, lambda x: jnp.sum(x), given.pop("params"), given.pop("data", None), **given)
    assert words in str(refused.value)
