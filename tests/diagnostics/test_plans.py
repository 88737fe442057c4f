"""Gains of (1+M) that sees a batch only, against Monte Carlo; the M that gains most, against the definition."""

import numpy as np
import pytest
from scipy import stats

import mutagrad
from mutagrad import theory
from mutagrad.diagnostics import gain_on_batch
from mutagrad.diagnostics.plans import best_number, expected_decrease, optimum, plan
from mutagrad.estimate import Estimate


@pytest.mark.parametrize("num_offspring", [1, 5, 20])
@pytest.mark.parametrize("signal", [1.0, 0.8, 0.3])
def test_gain_on_batch_by_simulation(num_offspring, signal):
    """ΔU on the batch and on the loss are correlated normals; selection sees the first. Five standard errors."""
    rng, strength = np.random.default_rng(num_offspring), 0.9
    own, noise = rng.standard_normal((2, 200_000, num_offspring))
    # Slopes along the mutation, in units of |g_B|: g = signal · own, and g + n has unit length with n ⊥ g in the mean.
    seen = strength * (signal * own + (1 - signal**2) ** 0.5 * noise) + strength**2 / 2
    true = strength * signal * own + strength**2 / 2
    best = np.argmin(seen, axis=1)[:, None]
    gains = -np.where(np.take_along_axis(seen, best, 1) <= 0, np.take_along_axis(true, best, 1), 0)[:, 0]
    expected = float(gain_on_batch(np.array(strength), num_offspring, signal))
    assert abs(gains.mean() - expected) < 5 * gains.std() / len(gains) ** 0.5


@pytest.mark.parametrize("num_offspring", [1, 4, 20, 300])
def test_without_noise_it_is_the_law_of_theory(num_offspring):
    strengths = np.linspace(0.1, 4, 20, dtype=np.float32)
    expected = np.asarray(theory.expected_gain(strengths, num_offspring))
    np.testing.assert_allclose(gain_on_batch(strengths, num_offspring), expected, rtol=2e-5, atol=2e-6)
    strength, gain = optimum(num_offspring)
    assert strength == pytest.approx(theory.optimal_strength(num_offspring), rel=1e-3)
    assert gain == pytest.approx(expected.max(), rel=0.02)


def test_less_signal_wants_a_smaller_sigma_and_gains_less():
    found = [optimum(20, signal) for signal in (1.0, 0.9, 0.7, 0.5, 0.2)]
    assert np.all(np.diff(found, axis=0) < 0)
    # At small s the gain is c_M ρ² s − ½ s²(1 − 2⁻ᴹ), whose largest value is (c_M ρ²)²/2.
    assert optimum(20, 0.1)[1] == pytest.approx((theory.best_of_moment(20) * 0.1**2) ** 2 / 2, rel=0.05)


def test_batch_of_the_noise_scale_gains_half():
    """ρ² = 1/(1 + B_noise/B), and the gain in units of |g|²/TrH is ρ² of that of all data where s is small."""
    half = optimum(4, 0.5**0.5)[1] * 2  # in units of |g|²/TrH, |g_B|² being twice |g|²
    assert 0.4 < half / optimum(4)[1] < 0.6


@pytest.mark.parametrize("num_offspring", [1, 20])
@pytest.mark.parametrize("strength", [1e-4, 0.5, 2.0])
def test_expected_decrease_of_normal_losses_is_the_law(num_offspring, strength):
    parts, slope, trace = mutagrad.elitist(1.0, num_offspring).definition, 3.0, 7.0
    gain = float(gain_on_batch(np.array(strength), num_offspring)) * slope**2 / trace
    assert expected_decrease(parts, strength * slope / trace, slope, trace) == pytest.approx(gain, rel=1e-6)


@pytest.mark.parametrize("num_offspring", [1, 20])
@pytest.mark.parametrize("degrees", [2000, -2000, 200, -200])
def test_expected_decrease_of_skewed_losses(num_offspring, degrees):
    """Losses whose law is known, ±χ² of n degrees: skewness ±√(8/n). The first order leaves a share of the order of γ²."""
    strength, law, sign = 1.0, stats.chi2(abs(degrees)), np.sign(degrees)
    depth = np.linspace(0, 12, 40_001) + strength / 2
    quantile = abs(degrees) - sign * depth * (2 * abs(degrees)) ** 0.5
    share = law.cdf(quantile) if degrees > 0 else law.sf(quantile)
    truth = np.trapezoid(1 - (1 - share) ** num_offspring, depth)
    skewness = sign * (8 / abs(degrees)) ** 0.5
    parts = mutagrad.elitist(1.0, num_offspring).definition
    found = expected_decrease(parts, 1.0, 1.0, strength, skewness)
    plain = expected_decrease(parts, 1.0, 1.0, strength)
    assert abs(found / truth - 1) < skewness**2 / 2
    assert abs(found - truth) < abs(plain - truth) / 3


@pytest.mark.parametrize("num_offspring", [1, 5, 20, 100])
@pytest.mark.parametrize(("strength", "allowed"), [(0.1, 0.09), (1.0, 0.09), (2.0, 0.09), (3.0, 0.18)])
def test_how_far_the_first_order_in_the_skewness_reaches(num_offspring, strength, allowed):
    """Gamma laws of skewness 0.4, whose decrease is an exact integral: what the docstring states as its domain."""
    shape, depth = 4 / 0.4**2, np.linspace(0, 10, 20_001)
    share = stats.gamma(shape, loc=-(shape**0.5), scale=shape**-0.5).cdf(-depth - strength / 2)
    truth = np.trapezoid(1 - (1 - share) ** num_offspring, depth)
    found = expected_decrease(mutagrad.elitist(1.0, num_offspring).definition, 1.0, 1.0, strength, 0.4)
    assert abs(found / truth - 1) < allowed


def test_skewness_of_any_size_gives_a_decrease():
    parts = mutagrad.elitist(1.0, 5).definition
    found = [expected_decrease(parts, 1.0, 1.0, 2.0, skewness) for skewness in np.linspace(-30, 30, 61)]
    assert np.all(np.diff(found) <= 0)
    assert 0 < found[-1] < found[0] < 10
    assert expected_decrease(parts, 1.0, 1.0, 2.0, 1e-9) == pytest.approx(
        expected_decrease(parts, 1.0, 1.0, 2.0), rel=1e-8
    )
    assert expected_decrease(parts, 1.0, 1.0, 2.0, -1e-9) == pytest.approx(
        expected_decrease(parts, 1.0, 1.0, 2.0), rel=1e-6
    )


def test_best_number_is_the_largest_gain_per_round():
    assert best_number(1) == max(range(1, 60), key=lambda m: optimum(m)[1] / (m + 1)) == 4
    for workers in (2, 8, 32):
        rounds = {m: -(-(m + 1) // workers) for m in range(1, 4 * workers + 13)}
        gains = {m: optimum(m)[1] / number for m, number in rounds.items()}
        assert gains[best_number(workers)] == pytest.approx(max(gains.values()))


def test_plan_scales():
    found = plan("an example", 7, Estimate(0.01, 0.001), Estimate(2.0, 0.2), num_workers=4, cost_per_evaluation=0.5)
    strength, gain = optimum(7)
    assert found.sigma[:2] == pytest.approx((0.01 * strength, 0.001 * strength))
    assert found.gain[:2] == pytest.approx((2 * gain, 0.2 * gain))
    assert found.gain_per_evaluation == pytest.approx(2 * gain / 8)
    assert found.gain_per_second == pytest.approx(2 * gain / (2 * 0.5))
    with pytest.raises(ValueError, match="num_offspring: got 0"):
        plan("", 0, Estimate(1, 0), Estimate(1, 0))
