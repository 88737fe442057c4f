"""Slope, curvature and noise from one generation of offspring, on losses of which all three are known.

U(x) = mean over a batch of ½ Σ_j h_j (x_j − c_ij)², c_ij of variance τ² about 0: g = hx, TrH = Σh, C = diag(h²τ²), and every
example has the same Hessian. Bounds are stated in standard errors, so that a test fails by chance once in about 10⁵ runs.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import mutagrad
from mutagrad.estimates import Estimates, estimates, moments, standard_errors

SIZE, BATCH, TAU = 100, 16, 0.6
CURVATURES = jnp.linspace(0.5, 1.5, SIZE)
POINT = jnp.linspace(-0.6, 0.9, SIZE)
SIGMA = 0.04

TRACE = float(jnp.sum(CURVATURES))
SQUARE = float(jnp.sum((CURVATURES * POINT) ** 2))
NOISE = float(jnp.sum((CURVATURES * TAU) ** 2)) / BATCH
TILT = float(jnp.sum(CURVATURES * (CURVATURES * POINT) ** 2))
CUBES = float(jnp.sum(CURVATURES**3))
CURVATURE_SHARE = SIGMA**2 * float(jnp.sum(CURVATURES**2)) / 2


def losses(centres, x):
    return jnp.sum(CURVATURES[None] * jnp.square(x[None] - centres), axis=1) / 2


def one_generation(key, num_offspring, mutation=None, sigma=SIGMA, centres=None):
    """Loss differences, their sampling variances and σ, on a fresh batch unless there are centres."""
    batch_key, mutation_key = jax.random.split(key)
    if centres is None:
        centres = TAU * jax.random.normal(batch_key, (BATCH, SIZE))
    if mutation is None:
        noise = jax.random.normal(mutation_key, (num_offspring, SIZE))
    else:
        noise = jax.vmap(lambda k: mutation.sample_fn(k, POINT))(jax.random.split(mutation_key, num_offspring))
    differences = jax.vmap(lambda z: losses(centres, POINT + sigma * z) - losses(centres, POINT))(noise)
    return differences.mean(axis=1), differences.var(axis=1, ddof=1) / BATCH, jnp.asarray(sigma)


def generations(number, seed, **options):
    """What `estimates` and `standard_errors` say of many."""

    @jax.jit
    @jax.vmap
    def run(key):
        differences, variances, sigma = one_generation(key, **options)
        found = moments(differences, variances, sigma)
        return estimates(found, sigma), standard_errors(found, sigma)

    return run(jax.random.split(jax.random.key(seed), number))


def measured(differences, variances, sigma):
    return estimates(moments(differences, variances, sigma), sigma)


@pytest.mark.parametrize("num_offspring", [1, 2, 5, 20, 100])
def test_means_over_many_generations(num_offspring):
    number = max(200, 6000 // num_offspring)
    found = generations(number, num_offspring, num_offspring=num_offspring)[0]
    expected = {"hessian_trace": TRACE, "squared_grad_noise": NOISE}
    if num_offspring > 1:
        expected["squared_grad_norm"] = SQUARE + NOISE + CURVATURE_SHARE
    for name, value in expected.items():
        sample = np.asarray(getattr(found, name), np.float64)
        allowed = 4.4 * sample.std() / number**0.5
        # The sampling variance has a curvature share of its own, zero here: every example has the same Hessian.
        assert abs(sample.mean() - value) < allowed, (name, sample.mean(), value)
        assert allowed < 0.2 * value, name
    if num_offspring == 1:
        assert np.all(np.isnan(found.squared_grad_norm))
        assert np.all(np.isnan(found.strength))


@pytest.mark.parametrize("num_offspring", [3, 5, 20, 100])
def test_curvature_along_the_gradient(num_offspring):
    """Unbiased for every M from 3 on: g·Hg + ⅓σ²Tr(H³), at a σ where the second is a sixth of it; 4.4 standard errors."""
    sigma, number = 1.2, 400_000 // num_offspring
    centres = jnp.zeros((BATCH, SIZE))
    found = generations(number, 11, num_offspring=num_offspring, sigma=sigma, centres=centres)[0]
    sample = np.asarray(found.gradient_curvature, np.float64)
    truth = TILT + sigma**2 * CUBES / 3
    error = sample.std() / number**0.5
    assert abs(sample.mean() - truth) < 4.4 * error
    assert 10 * error < truth
    few = generations(4, 11, num_offspring=2, centres=centres)[0]
    assert np.all(np.isnan(few.gradient_curvature))


def test_sampling_noise_is_removed():
    """|g_B|² − TrC/B is the slope of the loss itself, less what curvature adds."""
    found = generations(2000, 3, num_offspring=50)[0]
    sample = np.asarray(found.squared_grad_norm - found.squared_grad_noise, np.float64) - CURVATURE_SHARE
    error = sample.std() / len(sample) ** 0.5
    assert 10 * error < NOISE
    assert abs(sample.mean() - SQUARE) < 4.4 * error


@pytest.mark.parametrize("num_offspring", [20, 100])
def test_standard_errors_cover(num_offspring):
    """Over 200 generations on one batch, so that nothing but the mutations differs."""
    centres = TAU * jax.random.normal(jax.random.key(7), (BATCH, SIZE))
    values, errors = generations(200, 8, num_offspring=num_offspring, centres=centres)
    slope = float(jnp.sum((CURVATURES * (POINT - centres.mean(axis=0))) ** 2)) + CURVATURE_SHARE
    gradients = CURVATURES[None] * (POINT[None] - centres)
    noise = float(jnp.sum(jnp.var(gradients, axis=0, ddof=1))) / BATCH
    tilt = float(jnp.sum(CURVATURES**3 * (POINT - centres.mean(axis=0)) ** 2)) + SIGMA**2 * CUBES / 3
    truth = Estimates(TRACE, slope, noise, SIGMA * TRACE / slope**0.5, tilt)
    # The estimates with a normal or t law cover as they should; a variance is χ², whose tails are lighter below.
    low, high = stats.binom.ppf([1e-5, 1 - 1e-5], 200, 0.95)
    for name in Estimates._fields:
        z = (np.asarray(getattr(values, name)) - getattr(truth, name)) / np.asarray(getattr(errors, name))
        covered = np.sum(np.abs(z) < stats.t.ppf(0.975, num_offspring - 1))
        slack = 8 if name in ("squared_grad_norm", "squared_grad_noise") else 0
        assert low - slack <= covered <= min(high, 200), (name, covered)


def test_what_failed_is_left_out():
    differences = jnp.array([0.3, jnp.nan, -0.1, jnp.inf, 0.2, -jnp.inf, 0.9])
    variances = jnp.array([0.1, jnp.nan, 0.3, 0.2, 0.2, jnp.inf, 0.4])
    kept = jnp.array([0, 2, 4, 6])
    for function in (measured, lambda *of: standard_errors(moments(*of), of[-1])):
        some = function(differences, variances, jnp.array(0.5))
        for got, expected in zip(some, function(differences[kept], variances[kept], jnp.array(0.5)), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-6)
    values = np.array([0.3, -0.1, 0.2, 0.9])
    found = measured(differences, variances, jnp.array(0.5))
    np.testing.assert_allclose(found.hessian_trace, 2 * values.mean() / 0.25, rtol=1e-6)
    np.testing.assert_allclose(found.squared_grad_norm, values.var(ddof=1) / 0.25, rtol=1e-6)
    np.testing.assert_allclose(found.squared_grad_noise, 0.25 / 0.25, rtol=1e-6)
    np.testing.assert_allclose(found.strength, 2 * values.mean() / values.std(ddof=1), rtol=1e-6)
    third = stats.kstat(values, 3)
    np.testing.assert_allclose(found.gradient_curvature, third / (3 * 0.5**4), rtol=1e-5)


@pytest.mark.parametrize("sizes", [(5, 3), (1, 7), (2, 1), (4, 0), (0, 0)])
@pytest.mark.parametrize("scale", [1.0, 1e-24, 1e15])
def test_moments_are_additive(sizes, scale):
    """Those of two groups of offspring of one loss add up to those of both, in either order, failures among them."""
    rng = np.random.default_rng(5)
    sigma = jnp.float32(scale)
    groups = [
        (
            jnp.asarray(scale * rng.gamma(2.0, size=n + 1), jnp.float32).at[0].set(jnp.nan),
            scale * jnp.ones(n + 1) * scale,
        )
        for n in sizes
    ]
    first, second = (moments(*group, sigma) for group in groups)
    both = moments(*(jnp.concatenate(parts) for parts in zip(*groups, strict=True)), sigma)
    for name, expected in both._asdict().items():
        if sum(sizes) == 0 and name in ("mean", "noise"):
            continue  # of none there is no mean
        for total in (first + second, second + first):
            np.testing.assert_allclose(getattr(total, name), expected, rtol=2e-5, atol=2e-5, err_msg=name)


def test_moments_of_a_chain_of_generations():
    """Four hundred generations of five, added one by one in float32, against NumPy on all of them at once."""
    rng = np.random.default_rng(6)
    differences = rng.gamma(3.0, size=(400, 5)).astype(np.float32)
    variances = rng.uniform(0.5, 1, (400, 5)).astype(np.float32)
    sigma = jnp.float32(0.5)
    rows = jax.vmap(moments, in_axes=(0, 0, None))(jnp.asarray(differences), jnp.asarray(variances), sigma)
    first, rest = jax.tree.map(lambda x: x[0], rows), jax.tree.map(lambda x: x[1:], rows)
    total = jax.lax.scan(lambda a, b: (a + b, None), first, rest)[0]
    z = differences.astype(float).ravel() / 0.5
    assert float(total.number) == 2000
    np.testing.assert_allclose(total.mean, z.mean(), rtol=1e-5)
    np.testing.assert_allclose(total.variance, z.var(ddof=1), rtol=1e-4)
    np.testing.assert_allclose(total.skewness, stats.kstat(z, 3) / z.var(ddof=1) ** 1.5, rtol=1e-3)
    noises = variances.astype(float).ravel() / 0.25
    np.testing.assert_allclose(total.noise, noises.mean(), rtol=1e-5)
    np.testing.assert_allclose(total.noise_squares, noises.var() * 2000, rtol=1e-3)


@pytest.mark.parametrize("finite", [0, 1])
def test_too_few_to_tell(finite):
    differences = jnp.where(jnp.arange(5) < finite, 1.0, jnp.nan)
    found = measured(differences, jnp.zeros(5), jnp.array(0.1))
    assert bool(jnp.isfinite(found.hessian_trace)) == (finite == 1)
    assert jnp.isnan(found.squared_grad_norm)
    assert jnp.isnan(found.strength)


def test_on_a_plateau_there_is_no_strength():
    found = measured(jnp.zeros(5), jnp.zeros(5), jnp.array(0.1))
    assert float(found.squared_grad_norm) == 0
    assert jnp.isnan(found.strength)


@pytest.mark.parametrize("sigma", [1e-6, 1e-25])
def test_tiny_sigma_in_float32(sigma):
    """At the origin of a linear loss float32 resolves any σ; the square of ΔU is far below its smallest number."""
    slopes = jnp.linspace(1.0, 2.0, 50)
    algorithm = mutagrad.elitist(sigma, 500)
    state = algorithm.init(jnp.zeros(50))
    info = algorithm.step(jax.random.key(0), state, lambda x: jnp.stack([slopes @ x, 2 * slopes @ x]))[1]
    assert info.loss_differences.dtype == jnp.float32
    expected = 2.25 * float(slopes @ slopes)
    assert abs(float(info.squared_grad_norm) / expected - 1) < 4.4 * (2 / 499) ** 0.5
    assert float(info.squared_grad_noise) > 0 or sigma < 1e-15
    assert abs(float(info.normalized_mutation_strength)) < 4.4 * 2 / 500**0.5


@pytest.mark.parametrize("name", ["sphere", "rademacher", "student_t"])
def test_other_densities(name):
    """TrH and TrC/B hold for every density of covariance σ²I; what curvature adds to |g_B|² is as documented."""
    nu = 9.0
    mutation = mutagrad.mutation.student_t(nu) if name == "student_t" else getattr(mutagrad.mutation, name)()
    found = generations(3000, 5, num_offspring=10, mutation=mutation, sigma=0.2)[0]
    square = float(jnp.sum(CURVATURES**2))
    curvature = {
        "sphere": 0.2**2 / 2 * SIZE / (SIZE + 2) * (square - TRACE**2 / SIZE),
        "rademacher": 0.0,  # H is diagonal: ε·Hε is constant
        "student_t": 0.2**2 / 2 * (square + (TRACE**2 + 2 * square) / (nu - 4)),
    }[name]
    expected = {
        "hessian_trace": TRACE,
        "squared_grad_noise": NOISE,
        "squared_grad_norm": SQUARE + NOISE + curvature,
    }
    for field, value in expected.items():
        sample = np.asarray(getattr(found, field), np.float64)
        assert abs(sample.mean() - value) < 4.6 * sample.std() / len(sample) ** 0.5, (field, sample.mean(), value)


def test_info_holds_what_the_estimates_say():
    centres = TAU * jax.random.normal(jax.random.key(7), (BATCH, SIZE))
    algorithm = mutagrad.elitist(SIGMA, 6)
    info = jax.jit(lambda key: algorithm.step(key, algorithm.init(POINT), partial(losses, centres))[1])(
        jax.random.key(0)
    )
    found = measured(info.loss_differences, info.loss_difference_variances, info.sigma)
    np.testing.assert_allclose(info.hessian_trace, found.hessian_trace, rtol=1e-6)
    np.testing.assert_allclose(info.squared_grad_norm, found.squared_grad_norm, rtol=1e-6)
    np.testing.assert_allclose(info.squared_grad_noise, found.squared_grad_noise, rtol=1e-6)
    np.testing.assert_allclose(info.normalized_mutation_strength, found.strength, rtol=1e-6)
    np.testing.assert_allclose(info.gradient_curvature, found.gradient_curvature, rtol=1e-6)


@pytest.mark.parametrize("split", [1, 2, 7])
def test_two_groups_together_in_both_precisions(split):
    """Two groups together, in double precision and in single: against all of them at once, and against SciPy."""
    rng = np.random.default_rng(split)
    values, noises = rng.gamma(2.0, size=20), rng.uniform(1, 2, 20)
    for convert, tolerance in ((np.asarray, 1e-12), (jnp.asarray, 1e-5)):
        first, second = (
            moments(convert(values[part]), convert(noises[part]), 0.3) for part in (slice(split), slice(split, None))
        )
        both = moments(convert(values), convert(noises), 0.3)
        for got, expected in zip(first + second, both, strict=True):
            np.testing.assert_allclose(got, expected, rtol=tolerance)
            assert np.asarray(got).dtype == convert(values).dtype
        np.testing.assert_allclose(both.variance, stats.kstat(values, 2) / 0.09, rtol=tolerance)
        np.testing.assert_allclose(
            both.skewness, stats.kstat(values, 3) / stats.kstat(values, 2) ** 1.5, rtol=10 * tolerance
        )
