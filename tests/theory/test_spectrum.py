"""Spectra against exact Hessians, moments and ends, and the power law against deterministic and random ranks."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from curvature_problems import FALSE_ALARM, KEY, agrees, line, network, quadratic, thousand
from scipy import stats

from mutagrad import theory
from mutagrad.theory import hessian


@pytest.fixture(scope="module")
def net():
    return network()


def test_spectrum_of_a_network(net):
    """Moments p = 1 … 4 and the two ends; with every Krylov vector there is no error but that of the probes."""
    size = len(net.eigenvalues)
    found = theory.hessian_spectrum(net.losses, net.params, KEY, num_steps=200, num_probes=500)
    assert found.nodes.shape == found.weights.shape == (500, size)
    assert float(jnp.sum(found.weights)) == pytest.approx(1, abs=1e-5)
    assert bool(jnp.all(found.weights >= 0))
    assert bool(jnp.all(jnp.diff(found.nodes, axis=1) >= 0))
    for power in (1, 2, 3, 4):
        mean = found.mean(lambda nodes, power=power: nodes**power)
        truth = float(np.mean(net.eigenvalues**power))
        assert agrees(mean, truth, 500)
        assert mean.error < 0.15 * truth
    for end, truth in ((found.largest, net.eigenvalues[-1]), (found.smallest, net.eigenvalues[0])):
        assert abs(float(end.value) - truth) <= float(end.error) + 2e-6 * net.eigenvalues[-1]
        assert end.error < 1e-4 * net.eigenvalues[-1]


def test_few_steps_have_the_moments_that_they_must():
    """k steps are exact for polynomials below degree 2k: Σ wᵢθᵢᵖ = v·Hᵖv/N for every probe v; k = 2, p = 0 … 4."""
    curvatures = 1 / jnp.arange(1.0, 101.0)
    found = theory.hessian_spectrum(quadratic(curvatures), jnp.ones(100), KEY, num_steps=2, num_probes=4)
    operator = hessian.hessian_of(quadratic(curvatures), jnp.ones(100))
    probes = jax.vmap(lambda key: hessian.probe(operator, key)[0])(jax.random.split(KEY, 4))
    probes = np.asarray(probes, float)
    np.testing.assert_allclose((probes**2).sum(1), 100, rtol=1e-6)
    for power in range(5):
        by_nodes = 4 * np.sum(np.asarray(found.weights * found.nodes**power), axis=1)
        exact = probes**2 @ np.asarray(curvatures, float) ** power / 100
        assert np.all(np.abs(by_nodes / exact - 1) < 1e-5) == (power < 4)


def test_largest_eigenvalue_agrees_with_stored_lanczos():
    """The recurrence run twice against matfree's with full reorthogonalisation, on a slowly decaying spectrum."""
    found, spectrum = thousand(jnp.arange(1.0, 1001.0) ** -0.3)
    assert abs(float(spectrum.largest.value) - 1) <= float(spectrum.largest.error)
    assert spectrum.largest.error < 2e-3
    assert float(found["largest"].value) == pytest.approx(1, abs=2e-6)
    assert found["largest"].error < 2e-5


def test_indefinite_hessian():
    """Largest by sign, also where the other end is far larger, converges first and leaves its copies in the recurrence."""
    found, spectrum = thousand(
        jnp.concatenate([jnp.array([-100.0, -90.0]), jnp.linspace(-1.0, 1.0, 997), jnp.full(1, 2.0)])
    )
    assert abs(float(found["largest"].value) - 2) < 2e-5
    assert found["largest"].error < 1e-3
    assert agrees(found["rank"], -188 / 2)
    assert abs(float(spectrum.smallest.value) + 100) <= float(spectrum.smallest.error)
    assert abs(float(spectrum.largest.value) - 2) <= float(spectrum.largest.error)


def test_exhausted_krylov_space():
    """Three distinct eigenvalues: three nodes have all of the weight, in the shares of the multiplicities."""
    found, spectrum = thousand(jnp.concatenate([jnp.full(600, 1.0), jnp.full(300, 2.0), jnp.full(100, 5.0)]))
    assert bool(jnp.all(jnp.isfinite(spectrum.nodes)))
    for value, share in ((1.0, 0.6), (2.0, 0.3), (5.0, 0.1)):
        near = spectrum.mean(lambda nodes, value=value: (jnp.abs(nodes - value) < 1e-3).astype(nodes.dtype))
        assert agrees(near, share, 16)
        assert near.error < 0.1 * share
    assert spectrum.largest.error < 1e-4
    assert float(found["largest"].value) == pytest.approx(5, rel=1e-6)
    assert found["largest"].error < 1e-4


# --- the power law ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 1.3, 4.0])
@pytest.mark.parametrize("window", [(1, None), (1, 11), (10, 300), (7, 977)])
def test_a_deterministic_power_law_comes_out_exactly(exponent, window):
    spectrum = 2.5 * np.arange(1, 1001) ** -exponent
    shuffled = np.random.default_rng(0).permutation(spectrum)
    first, last = window
    found = theory.fit_power_law(shuffled, first, last)
    assert found.exponent == pytest.approx(exponent, abs=1e-11)
    assert found.prefactor == pytest.approx(2.5, rel=1e-10)
    assert found.error < 1e-10
    assert found.local_exponents.shape == (10,)


def test_the_fit_is_least_squares():
    rng = np.random.default_rng(1)
    spectrum = np.sort(rng.pareto(2.0, 500) + 1)[::-1]
    slope, intercept = np.polyfit(np.log(np.arange(20, 301)), np.log(spectrum[19:300]), 1)
    found = theory.fit_power_law(spectrum, 20, 300)
    assert found.exponent == pytest.approx(-slope, rel=1e-10)
    assert found.prefactor == pytest.approx(math.exp(intercept), rel=1e-10)


def test_the_error_of_the_fit_covers_the_truth():
    """Independent Pareto values with a = 0.8, 400 times: the rank-size law whose neighbours are most correlated.

    Coverage by a two-sided binomial bound, the error against the spread and against a√(2/n); the textbook error is five
    times too small.
    """
    rng = np.random.default_rng(2)
    number, num_blocks, first, last = 400, 10, 10, 1000
    fits, naive = [], []
    for _ in range(number):
        spectrum = np.sort(rng.uniform(size=1000) ** -0.8)[::-1]
        fits.append(theory.fit_power_law(spectrum, first, last, num_blocks))
        naive.append(stats.linregress(np.log(np.arange(first, last + 1)), np.log(spectrum[first - 1 :])).stderr)
    values, errors = np.array([fit.exponent for fit in fits]), np.array([fit.error for fit in fits])
    covered = np.sum(np.abs(values - 0.8) <= stats.t.isf(0.025, num_blocks - 1) * errors)
    low, high = stats.binom.ppf([FALSE_ALARM / 2, 1 - FALSE_ALARM / 2], number, 0.95)
    assert low <= covered <= high
    spread = values.std(ddof=1)
    assert abs(values.mean() - 0.8) < 0.3 * spread
    assert math.sqrt(np.mean(errors**2)) == pytest.approx(spread, rel=0.15)
    assert spread == pytest.approx(0.8 * math.sqrt(2 / 1000), rel=0.2)
    assert np.mean(naive) < spread / 5


def test_a_spectrum_without_a_power_law_shows_it():
    """A cut-off: the local exponents climb, and the error holds the difference between the window's halves."""
    ranks = np.arange(1, 1001)
    found = theory.fit_power_law(ranks**-1.0 * np.exp(-ranks / 300), first=10)
    assert np.all(np.diff(found.local_exponents) > 0)
    assert found.error > 0.1


def test_exponents_of_measured_spectra(net):
    """Of a network's Hessian there is an exponent for the window asked for; the negative end is refused."""
    positive = int(np.sum(net.eigenvalues > 0))
    found = theory.fit_power_law(net.eigenvalues, last=positive, num_blocks=4)
    assert found.exponent > 0
    assert found.error > 0
    if positive < len(net.eigenvalues):
        with pytest.raises(ValueError, match=rf"^eigenvalues: got .* at rank \d+; pass last = {positive} or less"):
            theory.fit_power_law(net.eigenvalues)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"eigenvalues": np.ones((3, 3))}, "eigenvalues: got shape (3, 3)"),
        ({"eigenvalues": np.array([1.0, np.nan])}, "eigenvalues: got 1 values NaN or infinite"),
        ({"eigenvalues": np.array([1.0] * 20 + [-1.0])}, "eigenvalues: got -1 at rank 21; pass last = 20 or less"),
        ({"first": 0}, "first: got 0"),
        ({"last": 31}, "last: got 31; pass at most the number of eigenvalues, 30"),
        ({"first": 25}, "num_blocks: got 10 for the ranks 25 to 30; widen the window or pass at most 5"),
        ({"num_blocks": 1}, "num_blocks: got 1"),
    ],
)
def test_bad_windows(arguments, message):
    with pytest.raises(ValueError) as error:
        theory.fit_power_law(**{"eigenvalues": 1 / np.arange(1, 31)} | arguments)
    assert line(error).startswith(message)
