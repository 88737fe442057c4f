"""The laws of weighted recombination: order-statistic moments, and what a generation gains on quadratics of any rank."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from scipy import integrate, stats

import mutagrad
from mutagrad.selection import normal_scores
from mutagrad.theory.recombination import binomial

WEIGHTS = {
    "scores of 2": normal_scores(2),
    "scores of 9": normal_scores(9),
    "best of 5": np.array([1.0, 0, 0, 0, 0]),
    "best 2 of 6": np.array([0.5, 0.5, 0, 0, 0, 0]),
    "own": np.array([2.0, 1.0, 0.5, -3.0]),
}


@pytest.mark.parametrize("number", [2, 3, 7, 40])
def test_normal_scores_are_those_of_direct_integration(number):
    """Against adaptive integration of the density of the k-th largest, to 10⁻⁹; their sum is 0, that of all squares below M."""
    scores = normal_scores(number)
    for k in sorted({0, 1, number // 2, number - 1}):

        def integrand(z, k=k):
            return z * number * stats.binom.pmf(k, number - 1, stats.norm.sf(z)) * stats.norm.pdf(z)

        exact = integrate.quad(integrand, -10, 10, epsabs=1e-12, limit=200, points=[0])[0]
        assert abs(scores[k] - exact) < 1e-9
    assert abs(scores.sum()) < 1e-9
    assert np.sum(scores**2) < number


@pytest.mark.parametrize("name", WEIGHTS)
def test_moments_against_monte_carlo(name):
    """10⁶ sorted samples: both moments within 4.5 standard errors (false alarm 10⁻⁵ each); errors of 1 % are seen."""
    weights = WEIGHTS[name]
    found = mutagrad.theory.recombination_moments(weights)
    rng = np.random.default_rng(1)
    steps = np.concatenate([-np.sort(-rng.normal(size=(100_000, len(weights))), axis=1) @ weights for _ in range(10)])
    for value, samples in ((found.first, steps), (found.second, steps**2)):
        error = samples.std() / 1000
        assert abs(samples.mean() - value) < 4.5 * error
        assert error < 0.01 * abs(value) / 2
    assert found.transverse == pytest.approx(np.sum(weights**2))


@pytest.mark.parametrize("number", [1, 20, 300, 1200])
def test_binomial_probabilities(number):
    """Against 30 digits, to 10⁻¹⁵ a draw: also where the number of ways is no float, and where p is near 0 and 1."""
    upper = np.array([1e-12, 0.01, 0.3, 0.5, 1 - 1e-9])
    lower = np.array([1 - 1e-12, 0.99, 0.7, 0.5, 1e-9])
    with mpmath.workdps(30):
        for k in {0, 1, number // 3, number // 2, number}:
            pairs = zip(map(mpmath.mpf, upper.tolist()), map(mpmath.mpf, lower.tolist()), strict=True)
            exact = [float(mpmath.binomial(number, k) * up**k * down ** (number - k)) for up, down in pairs]
            np.testing.assert_allclose(binomial(k, number, upper, lower), exact, rtol=1e-15 * (number + 4), atol=1e-290)
    assert np.sum(binomial(np.arange(number + 1), number, 0.3, 0.7)) == pytest.approx(1, rel=1e-12)


def test_the_best_of_five_is_comma():
    """With all weight on the best, the law is that of (1,M)."""
    recombined = mutagrad.weighted_recombination(0.3, 5, [1.0, 0, 0, 0, 0])
    comma = mutagrad.comma(0.3, 5)
    for law in (mutagrad.theory.drift, mutagrad.theory.acceptance_rate):
        np.testing.assert_allclose(law(recombined, 2.0), law(comma, 2.0), rtol=1e-5)
    np.testing.assert_allclose(
        mutagrad.theory.diffusion(recombined, 2.0), mutagrad.theory.diffusion(comma, 2.0), rtol=1e-5
    )


def test_drift_and_diffusion_are_measured():
    """40,000 generations on a linear loss of 20 parameters: three moments within 4.5 standard errors of the law."""
    gradient = jnp.asarray(np.random.default_rng(2).normal(size=20), jnp.float32)
    slope = jnp.linalg.norm(gradient)
    across = jnp.zeros(20).at[0].set(gradient[1]).at[1].set(-gradient[0])
    directions = jnp.stack([gradient / slope, across / jnp.linalg.norm(across)])
    algorithm = mutagrad.weighted_recombination(0.5, 7)
    state = algorithm.init(jnp.zeros(20))

    @jax.jit
    def steps(keys):
        return jax.vmap(lambda key: directions @ algorithm.step(key, state, lambda x: gradient @ x)[0].params)(keys)

    moved = np.asarray(steps(jax.random.split(jax.random.key(4), 40_000)), float)
    drift = float(mutagrad.theory.drift(algorithm, slope))
    diffusion = mutagrad.theory.diffusion(algorithm, slope)
    laws = [(moved[:, 0], drift), (moved[:, 0] ** 2, diffusion.longitudinal), (moved[:, 1] ** 2, diffusion.transverse)]
    for samples, law in laws:
        assert abs(samples.mean() - float(law)) < 4.5 * samples.std() / 200
    assert abs(moved[:, 1].mean()) < 4.5 * moved[:, 1].std() / 200


@pytest.mark.parametrize(("number", "exponent"), [(8, 0.0), (32, 0.0), (32, 0.5), (32, 1.0)])
def test_gain_on_quadratics(number, exponent):
    """Measured decrease at half, once and 1.5 times the best s, N = 2000, within 3 % + 4 standard errors.

    λ_k ∝ k^−a from x = 1: at a = 1 the gradient has ρM = 2.9, and the law without ρ would be wrong by
    more than half of its value; ranks are those of the linear loss to s²/2P ≤ 2 %.
    """
    eigenvalues = jnp.arange(1.0, 2001.0) ** -exponent
    gradient = eigenvalues
    trace, slope = float(eigenvalues.sum()), float(jnp.linalg.norm(gradient))
    along = float(gradient @ (eigenvalues * gradient)) / slope**2 / trace
    moments = mutagrad.theory.recombination_moments(normal_scores(number))
    best = moments.first / (moments.transverse + along * (moments.second - moments.transverse))
    base = mutagrad.weighted_recombination(1.0, number)
    start = base.init(jnp.ones(2000))

    @jax.jit
    def changes(keys, sigma):
        def one(key):
            after, _ = base.step(key, start.with_sigma(sigma), lambda x: eigenvalues * x**2 / 2)
            return jnp.sum(eigenvalues * (after.params**2 - 1) / 2)

        return jax.lax.map(one, keys)

    for factor in (0.5, 1.0, 1.5):
        strength = factor * best
        found = np.asarray(
            changes(jax.random.split(jax.random.key(6), 150), jnp.float32(strength * slope / trace)), float
        )
        law = float(mutagrad.theory.recombination_gain(strength, number, along)) * slope**2 / trace
        assert abs(-found.mean() - law) < 0.03 * law + 4 * found.std() / 150**0.5, factor
    if exponent == 1.0:
        without = float(mutagrad.theory.recombination_gain(best, number))
        assert without > 1.5 * float(mutagrad.theory.recombination_gain(best, number, along))


def test_mean_loss_rate_is_the_gain_at_small_strength():
    """Drift and curvature of the mean loss, to second order in σ, are those of the gain with no curvature along the slope."""
    algorithm = mutagrad.weighted_recombination(0.01, 12)
    rate = float(mutagrad.theory.mean_loss_rate(algorithm, grad_norm=2.0, hessian_trace=50.0))
    gain = float(mutagrad.theory.recombination_gain(0.01 * 50 / 2, 12)) * 4 / 50
    np.testing.assert_allclose(rate, -gain, rtol=1e-5)


def test_no_number_of_offspring_beats_steepest_descent():
    """The best gain rises with M to ½|∇U|²/ĝ·Hĝ, that of the best step along the gradient: 1/2ρ in these units."""
    along, gains = 0.05, []
    for number in (2, 10, 100, 400):
        found = mutagrad.theory.recombination_moments(normal_scores(number))
        gains.append(found.first**2 / (2 * (found.transverse + along * (found.second - found.transverse))))
    assert np.all(np.diff(gains) > 0)
    assert gains[-1] < 1 / (2 * along)
    assert gains[-1] > 0.93 / (2 * along)


def test_other_components_have_laws_of_their_own():
    """Student t, ν = 5: long mutations are long in every direction. 4·10⁵ sorted samples, 4.5 standard errors."""
    algorithm = mutagrad.weighted_recombination(1.0, 4, mutation=mutagrad.mutation.student_t(5.0))
    weights = normal_scores(4)
    z = -np.sort(-np.random.default_rng(5).standard_t(5, (400_000, 4)) * (3 / 5) ** 0.5, axis=1)
    law = mutagrad.theory.diffusion(algorithm, 1.0)
    drift = mutagrad.theory.drift(algorithm, 1.0)
    pairs = (
        (-z @ weights, drift),
        ((z @ weights) ** 2, law.longitudinal),
        ((3 + z**2) / 4 @ weights**2, law.transverse),
    )
    for samples, value in pairs:
        assert abs(samples.mean() - float(value)) < 4.5 * samples.std() / 400_000**0.5
