"""Two parents that mix: the law of their next parent against a simulation of the process in NumPy."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special

import mutagrad
from mutagrad import law, theory
from mutagrad.theory import quadrature
from mutagrad.theory.density import density_of
from mutagrad.theory.moments import product_of_winners
from mutagrad.theory.recombination import _pairs

SIZE, GENERATIONS, CHUNK = 60, 200_000, 10_000
DENSITIES = {"normal": mutagrad.mutation.gaussian(), "t": mutagrad.mutation.student_t(6.0)}


def mixing(winners, number, mutation=None, sigma=1.0):
    rule = mutagrad.Selection(lambda key, losses, parent_loss: 0, "mixing", law=law.OrderStatistic(winners, mixes=True))
    return mutagrad.mutation_selection(mutation or mutagrad.mutation.gaussian(), rule, number, sigma=sigma)


@functools.cache
def simulated(density, winners, number):
    """(n, 4): ĝ·c and u·c of next parents c, and z, z′ of the two winners that they are mixed from.

    A mutation is z ĝ + rest. Selection sees z, the rest is drawn for the two winners alone. ĝ and u have equal squares.
    """
    rng = np.random.default_rng(winners + 100 * number)
    along = np.full(SIZE, SIZE**-0.5)
    across = np.tile([1.0, -1.0], SIZE // 2) / SIZE**0.5
    chunks = []
    for _ in range(GENERATIONS // CHUNK):
        length = np.ones((CHUNK, number)) if density == "normal" else np.sqrt(4 / rng.chisquare(6, (CHUNK, number)))
        z = length * rng.normal(size=(CHUNK, number))
        best = np.argsort(-z, axis=1)[:, :winners]
        pair = np.take_along_axis(best, rng.permuted(np.tile(np.arange(winners), (CHUNK, 1)), axis=1)[:, :2], 1)
        z, length = np.take_along_axis(z, pair, 1), np.take_along_axis(length, pair, 1)
        rest = length[..., None] * rng.normal(size=(CHUNK, 2, SIZE))
        rest += (z - rest @ along)[..., None] * along
        child = np.where(rng.random((CHUNK, SIZE)) < 0.5, rest[:, 0], rest[:, 1])
        chunks.append(np.stack([child @ along, child @ across, z[:, 0], z[:, 1]], axis=1))
    return np.concatenate(chunks)


CASES = [("normal", 2, 3), ("normal", 4, 10), ("normal", 5, 5), ("t", 3, 20)]


@pytest.mark.parametrize(("density", "winners", "number"), CASES)
def test_against_simulated_generations(density, winners, number):
    """Drift, both second moments and E[z z′], 2·10⁵ generations, 4.5 standard errors: a false alarm in 9000 runs of all 16."""
    mutation = DENSITIES[density]
    algorithm = mixing(winners, number, mutation)
    along, across, one, other = simulated(density, winners, number).T
    step, plain = (
        theory.diffusion(one, 1.0) for one in (algorithm, mutagrad.truncation(1.0, number, winners, mutation=mutation))
    )
    product = product_of_winners(algorithm.definition.selection.law, number, quadrature.nodes(mutation.law, True))
    # What the limit of many parameters leaves out.
    short = (plain.longitudinal - plain.transverse - product) / (2 * SIZE)
    checks = (
        (-along, theory.drift(algorithm, 1.0)),
        (along**2, step.longitudinal + short),
        (across**2, step.transverse + short),
        (one * other, product),
    )
    for samples, value in checks:
        error = samples.std() / math.sqrt(len(samples))
        assert abs(samples.mean() - float(value)) < 4.5 * error
        assert error < 0.01


def test_power():
    """The simulation rejects the second moment of one winner, that of two independent ones, and a drift twice as large."""
    along = simulated("normal", 4, 10)[:, 0]
    truncation = mutagrad.truncation(1.0, 10, 4)
    second = float(theory.diffusion(truncation, 1.0).longitudinal)
    drift = -float(theory.drift(truncation, 1.0))
    for wrong in (second, 1 + (second - 1) / 2, 1 + (second - 1) / 2 + drift**2 / 2):
        assert abs(np.mean(along**2) - wrong) > 4.5 * np.std(along**2) / math.sqrt(GENERATIONS)
    assert abs(np.mean(along) - 2 * drift) > 100 * np.std(along) / math.sqrt(GENERATIONS)


@pytest.mark.parametrize(("winners", "number"), [(2, 3), (2, 20), (5, 20), (20, 100)])
@pytest.mark.parametrize("density", ["normal", "t", "ball"])
def test_product_of_two_winners_by_another_quadrature(density, winners, number):
    """One integral over the best that is not selected, against a double one over two ranks: to 10⁻⁹."""
    marginal = {"normal": law.Gaussian(), "t": law.StudentT(12.0), "ball": quadrature.OnSphere(6)}[density]
    found = product_of_winners(law.OrderStatistic(winners, mixes=True), number, quadrature.nodes(marginal, True))
    weights = (np.arange(number) < winners).astype(float)
    expected = _pairs(weights, density_of(marginal)) / (winners * (winners - 1))
    assert found == pytest.approx(expected, rel=1e-9)


def test_known_products():
    """E[Z₍₁₎Z₍₂₎] of three normals is √3/2π; of a sample that is not selected it is 0."""
    nodes = quadrature.nodes(law.Gaussian(), True)
    assert product_of_winners(law.OrderStatistic(2, mixes=True), 3, nodes) == pytest.approx(
        math.sqrt(3) / (2 * math.pi)
    )
    assert product_of_winners(law.OrderStatistic(7, mixes=True), 7, nodes) == 0

    def hazard_squared(t):
        tail = special.ndtr(-t)
        density = math.exp(-(t**2) / 2) / math.sqrt(2 * math.pi)
        return 9 * 56 * tail * (1 - tail) ** 5 * density**3  # M C(M − 1, K) with M = 9 and K = 3

    expected = integrate.quad(hazard_squared, -9, 9, epsabs=1e-13)[0]
    assert product_of_winners(law.OrderStatistic(3, mixes=True), 9, nodes) == pytest.approx(expected, rel=1e-9)


def test_the_stated_formula_and_its_neighbours():
    """1 + ½(m₂ − 1) + ½m₁₁; drift, acceptance and noise across are those of truncation; one parameter does not mix."""
    with jax.enable_x64(True):
        mixed, plain = mixing(4, 10), mutagrad.truncation(1.0, 10, 4)
        step, other = theory.diffusion(mixed, 1.0), theory.diffusion(plain, 1.0)
        product = product_of_winners(law.OrderStatistic(4, mixes=True), 10, quadrature.nodes(law.Gaussian(), True))
        expected = 1 + (float(other.longitudinal) - 1) / 2 + product / 2
        assert float(step.longitudinal) == pytest.approx(expected, rel=1e-12)
        assert float(step.transverse) == pytest.approx(1, rel=1e-12) == float(other.transverse)
        assert float(theory.drift(mixed, 1.0)) == float(theory.drift(plain, 1.0))
        assert float(theory.diffusion(mixed, 0.0).longitudinal) == 1
        sign = theory.diffusion(mixing(4, 10, mutagrad.mutation.sphere()), 1.0, num_parameters=1)
        assert (float(sign.longitudinal), float(sign.transverse)) == (pytest.approx(1), 0)


def test_mean_loss_on_an_isotropic_quadratic():
    """Student t, N = 100, 2·10⁵ generations with mirrored slopes: 4.5 standard errors, and 2 % of the second order.

    Selection sees the curvature, and the next parent is made of parameters; both with the coins that it has without curvature.
    """
    size, number, winners, trace = 100, 4, 2, 0.08
    rng, gradient = np.random.default_rng(3), np.zeros(size)
    gradient[:] = size**-0.5
    algorithm = mixing(winners, number, mutagrad.mutation.student_t(12.0))
    changes = []
    for _ in range(200):
        length = np.sqrt(10 / rng.chisquare(12, (1000, number, 1)))
        mutations = length * rng.normal(size=(1000, number, size))
        coins = rng.random((1000, size)) < 0.5

        def change(slope, curvature, mutations=mutations, coins=coins):
            losses = mutations @ slope + curvature / 2 * np.sum(mutations**2, axis=2)
            best = np.argsort(losses, axis=1)[:, :winners]
            one, other = (np.take_along_axis(mutations, best[:, k, None, None], 1)[:, 0] for k in range(2))
            child = np.where(coins, one, other)
            return child @ slope + curvature / 2 * np.sum(child**2, axis=1)

        changes.append(sum(change(slope, trace / size) - change(slope, 0.0) for slope in (gradient, -gradient)) / 2)
    second = np.concatenate(changes)
    expected = float(theory.mean_loss_rate(algorithm, 1.0, trace)) - float(theory.mean_loss_rate(algorithm, 1.0))
    error = second.std() / math.sqrt(len(second))
    assert error < 0.01 * expected
    assert abs(second.mean() - expected) < 4.5 * error + 0.02 * expected
    wrong = float(theory.diffusion(algorithm, 1.0).longitudinal) * trace / 2
    assert abs(second.mean() - wrong) > 4.5 * error + 0.02 * expected


def test_it_is_differentiable_and_vectorised():
    algorithm = mixing(3, 10)
    table = jax.jit(lambda sigma: theory.diffusion(algorithm, jnp.ones(3), sigma).longitudinal)(jnp.full(3, 0.5))
    np.testing.assert_allclose(
        table, 0.25 * float(theory.diffusion(algorithm, 1.0).longitudinal) * np.ones(3), rtol=1e-6
    )
