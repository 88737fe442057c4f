"""Laws of docs/theory.md 11: Price as an identity, Lande and truncation on normal genomes, replicators as natural gradients."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from mutagrad import theory

population = theory.population


@pytest.fixture(scope="module")
def genomes():
    """400,000 normal genomes of three loci with covariance G, and a gradient."""
    generator = np.random.default_rng(0)
    root = np.array([[1.0, 0, 0], [0.5, 0.8, 0], [-0.3, 0.2, 0.4]])
    return generator.standard_normal((400_000, 3)) @ root.T, root @ root.T, np.array([1.0, -0.5, 2.0])


def errors(values):
    return values.std(axis=0) / math.sqrt(len(values))


@given(seed=st.integers(0, 2**32 - 1), number=st.sampled_from([1, 2, 30]))
@settings(max_examples=40, deadline=None)
def test_price_is_an_identity(seed, number):
    """Offspring counted one by one, each with a trait of its own: the change of the mean is the sum of the two parts."""
    random = np.random.default_rng(seed)
    before = random.standard_normal((number, 2)).astype(np.float32) + 3
    parent_of = random.integers(0, number, 1 + number * 2)
    after = before[parent_of] + random.standard_normal((len(parent_of), 2)).astype(np.float32)
    counts = np.bincount(parent_of, minlength=number)
    means = np.stack([np.bincount(parent_of, one, number) / np.maximum(counts, 1) for one in after.T], axis=1)
    means[counts == 0] = np.inf  # of no matter what
    found = population.price(counts, before, means)
    np.testing.assert_allclose(found.change, after.mean(axis=0) - before.mean(axis=0), rtol=2e-5, atol=2e-5)
    kept = population.price(counts, before)
    np.testing.assert_array_equal(kept.transmission, 0)
    covariance = np.mean((counts - counts.mean())[:, None] * (before - before.mean(axis=0)), axis=0) / counts.mean()
    np.testing.assert_allclose(kept.selection, covariance, rtol=2e-4, atol=2e-5)


def test_lande(genomes):
    """Offspring in proportion to e^{−βU} on a linear loss: the mean of normal genomes moves by −βGg at any β."""
    values, covariance, gradient = genomes
    for beta in (0.01, 0.2):
        weights = np.exp(-beta * values @ gradient)
        moved = weights @ values / weights.sum() - values.mean(axis=0)
        spread = errors((weights / weights.mean() - 1)[:, None] * values)
        law = np.asarray(population.breeders_equation(covariance, gradient, beta))
        assert np.all(np.abs(moved - law) < 4.5 * spread)
    diagonal = population.breeders_equation(np.diag(covariance), gradient, 0.3)
    np.testing.assert_allclose(diagonal, population.breeders_equation(np.diag(np.diag(covariance)), gradient, 0.3))


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_truncation_of_a_population(genomes, share):
    """−i(p) Gg/√(g·Gg), i(p) = φ(z_p)/p."""
    values, covariance, gradient = genomes
    losses = values @ gradient
    kept = values[losses <= np.quantile(losses, share)]
    law = np.asarray(population.truncation_response(covariance, gradient, share))
    # The quantile is that of the sample, which multiplies the error by 1.5 at most.
    assert np.all(np.abs(kept.mean(axis=0) - law) < 4.5 * 1.5 * errors(kept))
    below = stats.norm.ppf(share)
    mean = integrate.quad(lambda z: -z * stats.norm.pdf(z), -12, below)[0] / share
    assert float(population.selection_intensity(share)) == pytest.approx(mean, rel=1e-5)


def test_replicator_dynamics_is_a_natural_gradient():
    """ṗ is ½ of the gradient of f̄ in the metric Σ dp²/p on Σp = 1, for symmetric payoffs; not for others."""
    generator = np.random.default_rng(1)
    payoff = generator.standard_normal((4, 4))
    p = generator.dirichlet(np.ones(4))
    for is_symmetric in (True, False):
        matrix = (payoff + payoff.T) / 2 if is_symmetric else payoff
        velocity = np.asarray(population.replicator(p, matrix))
        gradient = np.asarray(population.shahshahani_gradient(p, matrix @ p + matrix.T @ p))
        assert velocity.sum() == pytest.approx(0, abs=1e-6)
        assert np.allclose(velocity, gradient / 2, atol=1e-6) == is_symmetric
        # The gradient v in the metric: Σ v_i w_i/p_i = df̄(w) for every w with Σw = 0.
        change = generator.standard_normal(4)
        change -= change.mean()
        slope = (matrix @ p + matrix.T @ p) @ change
        assert np.sum(gradient * change / p) == pytest.approx(slope, rel=1e-4, abs=1e-5)


def test_moments_of_frequencies():
    """20,000 generations of 50 genomes drawn by payoff."""
    random, p, matrix = (
        np.random.default_rng(2),
        np.array([0.2, 0.3, 0.5]),
        np.array([[2.0, 1, 3], [1, 4, 1], [2, 2, 1]]),
    )
    share = p * (matrix @ p)
    changes = random.multinomial(50, share / share.sum(), 20_000) / 50 - p
    mean, variance = population.replicator_moments(p, matrix, 50)
    assert np.all(np.abs(changes.mean(axis=0) - np.asarray(mean)) < 4 * errors(changes))
    spread = np.sqrt(np.var((changes - changes.mean(axis=0)) ** 2, axis=0) / len(changes))
    assert np.all(np.abs(changes.var(axis=0) - np.asarray(variance)) < 4 * spread)


def test_hawks_and_doves_rest_at_their_mixture():
    """V = 2 and C = 3: two thirds of hawks, where neither fares better, and to which all mixtures go."""
    payoffs = [[-0.5, 2.0], [0.0, 1.0]]
    np.testing.assert_allclose(population.replicator([2 / 3, 1 / 3], payoffs), 0, atol=1e-6)
    for share in (0.1, 0.9):
        assert float(population.replicator([share, 1 - share], payoffs)[0]) * (2 / 3 - share) > 0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: population.price([1, 2], [[1.0]]), "traits: got shape"),
        (lambda: population.breeders_equation(np.eye(3), [1.0, 2.0]), "genetic_covariance: got shape"),
        (lambda: population.replicator([0.5, 0.6], [1.0, 2.0]), "frequencies: got"),
        (lambda: population.replicator([0.5, 0.5], [1.0, 2.0, 3.0]), "payoffs: got shape"),
        (lambda: population.replicator_moments([0.5, 0.5], [1.0, 0.0], 5), "payoffs: got fitness"),
    ],
)
def test_what_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
