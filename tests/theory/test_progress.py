"""Gain at finite σ and its order statistics, against SciPy in float64 and against Monte Carlo."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, optimize, special, stats

from mutagrad.theory import (
    best_of_mean,
    best_of_moment,
    expected_gain,
    normalized_mutation_strength,
    optimal_strength,
    success_rate,
)


def gain_by_density(s, num_offspring):
    """E[max(0, sZ − s²/2)] over the density M Φ^{M−1} φ of the largest: not the integral that the library uses."""

    def integrand(z):
        log_density = math.log(num_offspring) + (num_offspring - 1) * special.log_ndtr(z) - z**2 / 2
        return (s * z - s**2 / 2) * math.exp(log_density) / math.sqrt(2 * math.pi)

    low = s / 2
    points = np.clip([low + 0.5, low + 1, low + 2, low + 4], low, 38)
    pieces = [low, *points, 38]
    return sum(
        integrate.quad(integrand, a, b, epsabs=1e-15, epsrel=1e-12)[0] for a, b in itertools.pairwise(pieces) if b > a
    )


# theory.md 3: M, s*, G_M(s*), success per offspring.
TABLE = [(1, 1.224, 0.2025, 0.270), (20, 1.892, 1.7495, 0.172)]


@pytest.mark.parametrize(("num_offspring", "best", "gain", "success"), TABLE)
def test_table(num_offspring, best, gain, success):
    s = optimal_strength(num_offspring)
    assert round(s, 3) == best
    assert round(float(expected_gain(s, num_offspring)), 4) == gain
    assert round(float(success_rate(s)), 3) == success


@pytest.mark.parametrize("num_offspring", [1, 2, 5, 20, 100, 1000])
def test_expected_gain_is_exact_in_float32(num_offspring):
    """To 10⁻⁶ of the gain, or of the unit |g|²/TrH where it is smaller, as the docstring says: s from 10⁻⁶ to 10."""
    strengths = np.logspace(-6, 1, 60).astype(np.float32)
    expected = np.array([gain_by_density(float(s), num_offspring) for s in strengths])
    np.testing.assert_allclose(expected_gain(strengths, num_offspring), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("num_offspring", [1, 20, 1000])
def test_expected_gain_to_a_few_roundings(num_offspring):
    """Relative error below 2·10⁻⁵ as far as s = 6, whatever the size of the gain."""
    strengths = np.logspace(-6, math.log10(6), 40).astype(np.float32)
    expected = np.array([gain_by_density(float(s), num_offspring) for s in strengths])
    np.testing.assert_allclose(expected_gain(strengths, num_offspring), expected, rtol=2e-5)


@pytest.mark.parametrize(("s", "num_offspring"), [(0.1, 1), (1.2, 1), (1.9, 20), (4.0, 20)])
def test_expected_gain_by_monte_carlo(s, num_offspring):
    """10⁶ generations in NumPy, within 4 standard errors (6·10⁻⁵)."""
    rng = np.random.default_rng(num_offspring)
    best = stats.norm.ppf(rng.uniform(size=1_000_000) ** (1 / num_offspring))
    gains = np.maximum(0, s * best - s**2 / 2)
    error = gains.std(ddof=1) / 1000
    assert abs(float(expected_gain(s, num_offspring)) - gains.mean()) < 4 * error
    assert error < 0.01 * gains.mean()


def test_expected_gain_on_a_quadratic_of_many_dimensions():
    """The model behind it: a sphere of N = 400, mutated in NumPy, best of 5, at s = 1.

    ½σ²|z|² varies about its mean by σ²√(N/2), which theory leaves out: a relative N^(−1) effect, below the 4 standard
    errors (2.4 %) that are allowed.
    """
    dimension, num_offspring, s, num_runs = 400, 5, 1.0, 20_000
    rng = np.random.default_rng(0)
    # |x| = N/s puts σ = 1: ΔU = x·z + |z|²/2 depends on z through one component and the χ² of the others.
    radius = dimension / s
    along = rng.normal(size=(num_runs, num_offspring))
    change = radius * along + (along**2 + rng.chisquare(dimension - 1, size=along.shape)) / 2
    gains = np.maximum(0, -change.min(axis=1)) / (radius**2 / dimension)
    error = gains.std(ddof=1) / math.sqrt(num_runs)
    assert abs(float(expected_gain(s, num_offspring)) - gains.mean()) < 4 * error
    assert error < 0.01 * gains.mean()


@pytest.mark.parametrize("num_offspring", [1, 5, 20, 1000])
def test_small_noise_limit(num_offspring):
    """G_M(s) = c_M s − ½(1 − 2^{−M}) s² + O(s³): the remainder falls as s³ in SciPy, the library follows in float32."""
    c, half = best_of_moment(num_offspring), (1 - 2.0**-num_offspring) / 2
    for s in (1e-6, 1e-4, 1e-3):
        np.testing.assert_allclose(float(expected_gain(s, num_offspring)), c * s - half * s**2, rtol=3e-6)
    remainders = [abs(gain_by_density(s, num_offspring) - (c * s - half * s**2)) for s in (0.02, 0.04)]
    if num_offspring < 1000:
        order = math.log2(remainders[1] / remainders[0])
        assert order > 2.9


def test_large_strength_gains_nothing():
    values = np.asarray(expected_gain(jnp.array([0.0, 12.0, 18.0, 100.0, 1e6]), 20))
    assert values[0] == 0
    assert np.all((values >= 0) & (values < 1e-5))


def test_known_constants():
    assert best_of_moment(1) == pytest.approx(1 / math.sqrt(2 * math.pi), rel=1e-12)
    assert best_of_moment(1, 2) == pytest.approx(0.5, rel=1e-12)
    assert round(best_of_moment(20), 4) == 1.8675
    for m, order in itertools.product((2, 3, 20, 1000), (1, 2, 3)):
        direct = integrate.quad(
            lambda z, m=m, order=order: z**order * m * stats.norm.cdf(z) ** (m - 1) * stats.norm.pdf(z),
            0, 30, epsabs=1e-14, epsrel=1e-12, limit=200, points=[1, 2, 3, 4, 6],
        )[0]  # fmt: skip
        assert best_of_moment(m, order) == pytest.approx(direct, rel=1e-9)


def test_constants_grow_like_the_root_of_twice_the_log():
    """c_M/√(2 ln M) → 1 from below, slowly; the law of extremes comes ever closer."""
    sizes = np.array([10, 100, 1000, 10_000, 1_000_000])
    root = np.sqrt(2 * np.log(sizes))
    ratio = np.array([best_of_moment(int(m)) for m in sizes]) / root
    assert np.all(np.diff(ratio) > 0)
    assert np.all(ratio < 1)
    # E[max] ≈ a + γ/a with Φ(a) = 1 − 1/M (extreme-value theory).
    a = stats.norm.isf(1 / sizes)
    error = np.abs(ratio * root / (a + np.euler_gamma / a) - 1)
    assert np.all(error < [0.15, 0.03, 0.012, 0.007, 0.003])


def test_best_of_mean_known_values():
    """E[Z_(2)] = 1/√π, E[Z_(3)] = 3/(2√π), and the mean of all is 0."""
    assert best_of_mean(1) == pytest.approx(0, abs=1e-12)
    assert best_of_mean(2) == pytest.approx(1 / math.sqrt(math.pi), rel=1e-10)
    assert best_of_mean(3) == pytest.approx(1.5 / math.sqrt(math.pi), rel=1e-10)
    assert best_of_mean(7, 7) == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize(("num_offspring", "num_parents"), [(5, 2), (10, 3), (20, 10), (100, 25)])
def test_best_of_mean_against_order_statistics(num_offspring, num_parents):
    """The average of E[Z_(j)], j = M … M − K + 1, each over the density of its own order statistic."""

    def order_statistic(j):
        log_constant = special.gammaln(num_offspring + 1) - special.gammaln(j) - special.gammaln(num_offspring - j + 1)

        def integrand(z):
            log_density = (j - 1) * special.log_ndtr(z) + (num_offspring - j) * special.log_ndtr(-z)
            return z * math.exp(log_constant + log_density - z**2 / 2) / math.sqrt(2 * math.pi)

        return integrate.quad(integrand, -12, 12, epsabs=1e-13, epsrel=1e-11, limit=200, points=[-1, 0, 1, 2, 3])[0]

    ranks = range(num_offspring - num_parents + 1, num_offspring + 1)
    expected = np.mean([order_statistic(j) for j in ranks])
    assert best_of_mean(num_offspring, num_parents) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("num_offspring", [1, 2, 5, 20, 100, 10_000])
def test_optimal_strength_is_the_argmax(num_offspring):
    """Against a search on an independent quadrature; at a maximum s is known to the root of the gain's precision."""
    found = optimize.minimize_scalar(
        lambda s: -gain_by_density(s, num_offspring), bounds=(0.1, 10), method="bounded", options={"xatol": 1e-9}
    )
    assert optimal_strength(num_offspring) == pytest.approx(found.x, abs=1e-5)
    best = gain_by_density(optimal_strength(num_offspring), num_offspring)
    for factor in (0.99, 1.01):
        assert gain_by_density(factor * optimal_strength(num_offspring), num_offspring) < best


@pytest.mark.parametrize("num_offspring", [1, 20])
def test_derivative(num_offspring):
    """dG/ds by automatic differentiation against central differences of the independent quadrature in float64."""
    for s in (0.3, 1.2, 3.0):
        slope = float(jax.grad(lambda x: expected_gain(x, num_offspring))(s))
        h = 1e-4
        finite = (gain_by_density(s + h, num_offspring) - gain_by_density(s - h, num_offspring)) / (2 * h)
        assert slope == pytest.approx(finite, abs=3e-6, rel=1e-5)
    flat = float(jax.grad(lambda x: expected_gain(x, num_offspring))(optimal_strength(num_offspring)))
    assert abs(flat) < 1e-5


def test_shapes_jit_and_vmap():
    strengths = jnp.linspace(0.1, 3.0, 6).reshape(2, 3)
    values = expected_gain(strengths, 5)
    assert values.shape == (2, 3)
    one_by_one = [[float(expected_gain(s, 5)) for s in row] for row in strengths]
    np.testing.assert_allclose(values, one_by_one, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(lambda s: expected_gain(s, 5))(strengths), values, rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(lambda s: expected_gain(s, 5))(strengths), values, rtol=1e-6)
    assert success_rate(strengths).shape == (2, 3)
    assert expected_gain(1.0, 5).shape == ()


def test_success_rate():
    s = np.array([0.0, 0.1, 1.0, 5.0], np.float32)
    np.testing.assert_allclose(success_rate(s), stats.norm.sf(s.astype(float) / 2), rtol=1e-6)


def test_normalized_mutation_strength_on_the_sphere():
    """U = |x|²/2 at distance R: TrH = N, |g| = R, so that s is Beyer's σN/R."""
    assert float(normalized_mutation_strength(0.02, 100.0, 4.0)) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: best_of_moment(0), "num_offspring: got 0"),
        (lambda: best_of_moment(3, 0), "order: got 0"),
        (lambda: best_of_mean(3, 4), "num_parents: got 4"),
        (lambda: expected_gain(1.0, 2.5), "num_offspring: got 2.5"),
        (lambda: optimal_strength(-1), "num_offspring: got -1"),
    ],
)
def test_refused_arguments(call, named):
    with pytest.raises(ValueError, match=f"^{named}") as caught:
        call()
    assert "\n" not in str(caught.value)
