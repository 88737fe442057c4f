"""Many offspring with mutations of any radial density: against plain quadrature, in their limits, and as measured."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mutagrad
from mutagrad import theory
from mutagrad.selection import normal_scores
from mutagrad.theory.moments import moments

sphere, ball, student_t = mutagrad.mutation.sphere(), mutagrad.mutation.ball(), mutagrad.mutation.student_t
DENSITIES = {
    "normal": (mutagrad.mutation.gaussian(), None),
    "t 3": (student_t(3.0), None),
    "t 30": (student_t(30.0), None),
    "sphere 2": (sphere, 2),
    "sphere 3": (sphere, 3),
    "ball 10": (ball, 10),
}
B = np.array([1e-8, 1e-4, 0.3, 1.0, 1.0000001, 10.0, 1e4, 1e6, 1e8])


@functools.cache
def plain_nodes(name, number=3000):
    """v, weights and E[u² | v], by Gauss's rule in an angle (bounded) or the midpoint rule in asinh z."""
    mutation, size = DENSITIES[name]
    if name.startswith(("sphere", "ball")):
        size += 2 * name.startswith("ball")
        angle, weight = np.polynomial.legendre.leggauss(number // 8)
        angle = np.pi / 2 * (angle + 1)
        weight = weight * np.sin(angle) ** (size - 2)
        return np.sqrt(size) * np.cos(angle), weight / weight.sum(), size * np.sin(angle) ** 2 / (size - 1)
    y = (np.arange(number) + 0.5) / number * 60 - 30
    v = np.sinh(y)
    if name == "normal":
        weight, across = np.cosh(y) * np.exp(-np.minimum(v**2 / 2, 700)), np.ones(number)
    else:
        nu = mutation.options["degrees_of_freedom"]
        weight = np.exp(np.log(np.cosh(y)) - (nu + 1) / 2 * np.log1p(v**2 / (nu - 2)))
        across = (nu - 2 + v**2) / (nu - 1)
    return v, weight / weight.sum(), across


def of_all(build, b, name):
    """All five moments in float64 at slopes b."""
    mutation, size = DENSITIES[name]
    with jax.enable_x64(True):
        return np.stack(moments(build(mutation).definition, jnp.asarray(b, jnp.float64), size))


def softmax(number):
    return lambda mutation: mutagrad.boltzmann(1.0, 1.0, number, mutation=mutation)


def assert_close(found, expected, tolerance):
    np.testing.assert_allclose(found, np.asarray(expected, float), rtol=tolerance, atol=1e-14)


@pytest.mark.parametrize("name", ["t 3", "sphere 2", "sphere 3"])
def test_one_offspring_is_logistic(name):
    """To 10⁻¹⁰, b from 10⁻⁸ to 10⁸: of the two quadratures that of one offspring has no level and no Gumbel noise."""
    expected = of_all(lambda mutation: mutagrad.logistic(1.0, 1.0, mutation=mutation), B, name)
    assert_close(of_all(softmax(1), B, name), expected, 1e-10)


def plain_softmax_of_two(name, b, cost=0.0):
    """All moments as sums over both offspring, and what they gain if each pays ``cost`` times E[u² | v], in units of σ|g|."""
    v, weight, across = plain_nodes(name)
    level = v - cost * across
    low = np.maximum(np.maximum(level[:, None], level), 0)
    chance = np.exp(b * (level[:, None] - low))
    chance /= chance + np.exp(b * (level - low)) + np.exp(-b * low)
    mean = chance @ weight
    sums = [2 * np.sum(weight * mean * each) for each in (1 + 0 * v, -v, v**2, across)]
    return [*sums, sums[2] + 2 * (v * weight) @ chance @ (v * weight)], 2 * np.sum(weight * mean * level)


@pytest.mark.parametrize("name", ["normal", "t 3", "sphere 2", "sphere 3", "ball 10"])
def test_two_offspring(name):
    """Against plain sums to 2·10⁻⁹ on both sides of b = 1; in float32 to 10⁻⁵ of float64; at b = 10⁸ elitist to 10⁻⁷."""
    found = of_all(softmax(2), B, name)
    resolved = slice(1, 6)
    expected = np.array([plain_softmax_of_two(name, one)[0] for one in B[resolved]]).T
    assert_close(found[:, resolved], expected, 2e-9)
    assert found[1, 0] == pytest.approx(-4e-8 / 9, rel=1e-6)  # −(M/(M + 1))² b
    mutation, size = DENSITIES[name]
    single = moments(softmax(2)(mutation).definition, jnp.asarray(B, jnp.float32), size)
    np.testing.assert_allclose(np.stack(single), found, rtol=1e-5)
    ranked = of_all(lambda mutation: mutagrad.elitist(1.0, 2, mutation=mutation), B[-1:], name)
    assert_close(found[:, -1:], ranked, 1e-7)


@pytest.mark.parametrize("name", ["t 3", "sphere 2", "normal"])
def test_twenty_offspring(name):
    """Elitist as b → ∞ with an error that falls like 1/b or faster, indifferent as b → 0, and no step at b = 1."""
    found = of_all(softmax(20), B, name)
    ranked = of_all(lambda mutation: mutagrad.elitist(1.0, 20, mutation=mutation), B, name)
    assert_close(found[:, -1], ranked[:, -1], 2e-7)
    errors = np.abs(found[2] / ranked[2] - 1)
    assert errors[7] < 0.03 * errors[6] + 1e-7
    assert_close(found[[0, 2, 3], 0], [20 / 21] * 3, 1e-6)
    assert found[1, 0] == pytest.approx(-((20 / 21) ** 2) * 1e-8, rel=1e-6)
    np.testing.assert_allclose(found[:, 3], found[:, 4], rtol=3e-5)


def signs(number):
    """All 2ᴹ generations of offspring that go down (1) or up (−1)."""
    return np.stack(np.meshgrid(*[[1.0, -1.0]] * number), axis=-1).reshape(-1, number)


@pytest.mark.parametrize("b", [1e-8, 0.3, 2.0, 50.0])
def test_sphere_of_one_parameter(b):
    """Against a sum over all 2⁵ generations; the first moment to 10⁻⁷ at b = 10⁻⁸, where the plain sum cancels."""
    v = signs(5)
    chance = np.exp(b * (v - 1)) / (np.exp(b * (v - 1)).sum(1, keepdims=True) + np.exp(-b))
    step = (chance * v).sum(1)
    expected = [chance.sum(1).mean(), -step.mean(), chance.sum(1).mean(), 0.0, (v.sum(1) * step).mean()]
    build = functools.partial(mutagrad.boltzmann, 1.0, 1.0, 5, mutation=sphere)
    with jax.enable_x64(True):
        assert_close(np.stack(moments(build().definition, jnp.asarray(b, jnp.float64), 1)), expected, 1e-7)
        best = moments(mutagrad.elitist(1.0, 5, mutation=sphere).definition, jnp.asarray(b, jnp.float64), 1)
        assert_close(np.stack(best)[:4], [31 / 32, -31 / 32, 31 / 32, 0.0], 1e-12)
        middle = moments(mutagrad.truncation(1.0, 5, 2, mutation=sphere).definition, jnp.asarray(b, jnp.float64), 1)
        assert_close(middle.first, -np.sort(v, axis=1)[:, 3:].mean(), 1e-12)
        weights = np.array([2.0, 1.0, 0.5, 0.0, -3.0])
        sums = np.sort(v, axis=1)[:, ::-1] @ weights
        recombined = mutagrad.weighted_recombination(1.0, 5, weights, mutation=sphere)
        found = moments(recombined.definition, jnp.asarray(b, jnp.float64), 1)
        assert_close(np.stack(found)[1:4], [-sums.mean(), np.mean(sums**2), 0.0], 1e-12)


@pytest.mark.parametrize("name", ["t 3", "sphere 2", "ball 10"])
def test_recombination(name):
    """All equal: Σz, to 10⁻¹⁰. The best: comma, to 10⁻¹⁰. Any weights: 4·10⁵ samples, 5 standard errors."""

    def of(weights):
        found = of_all(lambda m: mutagrad.weighted_recombination(1.0, len(weights), weights, mutation=m), 1.0, name)
        return found[1:4]

    np.testing.assert_allclose(of([1.0] * 7), [0, 7, 7], rtol=1e-10, atol=1e-10)
    assert_close(of([1.0] + [0.0] * 6), of_all(lambda m: mutagrad.comma(1.0, 7, mutation=m), 1.0, name)[1:4], 1e-10)
    v, weight, across = plain_nodes(name)
    order = np.argsort(v)
    weights, rng = np.array([2.0, 1.0, 0.0, -1.5]), np.random.default_rng(0)
    levels = np.cumsum(weight[order])
    picked = np.minimum(np.searchsorted(levels, rng.uniform(size=(400_000, 4))), len(v) - 1)
    picked = -np.sort(-picked, axis=1)
    z, squares = v[order][picked], across[order][picked]
    samples = [-(z @ weights), squares @ weights**2]
    for value, sample in zip(of(weights)[[0, 2]], samples, strict=True):
        assert abs(sample.mean() - value) < 5 * sample.std() / math.sqrt(len(sample)) + 2e-3


@pytest.mark.parametrize("name", ["boltzmann", "weighted"])
def test_normal_limits(name):
    """N → ∞ and ν → ∞: the drift tends to the normal's like 1/N and 1/ν, orders measured within 0.05."""
    build = {
        "boltzmann": lambda mutation: mutagrad.boltzmann(1.0, 5.0, 4, mutation=mutation),
        "weighted": lambda mutation: mutagrad.weighted_recombination(1.0, 6, mutation=mutation),
    }[name]

    def drift(mutation, number=None):
        return float(theory.drift(build(mutation), 1.0, num_parameters=number))

    with jax.enable_x64(True):
        normal = drift(mutagrad.mutation.gaussian())
        families = {"N": lambda n: drift(sphere, n), "ν": lambda n: drift(student_t(float(n)))}
        for of_size in families.values():
            errors = [of_size(size) - normal for size in (100, 1000)]
            assert math.log10(errors[0] / errors[1]) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("name", ["normal", "sphere 2"])
@pytest.mark.parametrize("b", [1.0, 30.0])
def test_gradients_in_float32(name, b):
    """Against central differences in float64, to 10⁻³: where the two forms meet, and with an infinite density at the ends."""
    mutation, size = DENSITIES[name]
    algorithm = softmax(4)(mutation)

    def drift(slope):
        return theory.drift(algorithm, slope, num_parameters=size)

    found = float(jax.grad(drift)(jnp.float32(b)))
    with jax.enable_x64(True):
        step = 1e-4 * b
        expected = float(drift(jnp.float64(b + step)) - drift(jnp.float64(b - step))) / (2 * step)
    assert found == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("mutation", [student_t(8.0), sphere], ids=["t", "sphere"])
@pytest.mark.parametrize("name", ["boltzmann", "weighted"])
def test_measured_generations(name, mutation):
    """60,000 generations on a linear loss of 5 parameters: 12 moments within 4.5 standard errors (a false alarm in 12,000)."""
    build = {
        "boltzmann": lambda: mutagrad.boltzmann(0.5, 2.0, 6, mutation=mutation),
        "weighted": lambda: mutagrad.weighted_recombination(0.5, 6, normal_scores(6), mutation=mutation),
    }
    algorithm, gradient = build[name](), jnp.array([1.0, -2.0, 0.5, 0.0, 1.0])
    across = jnp.array([2.0, 1.0, 0.0, 0.0, 0.0]) / math.sqrt(5)
    slope, state = jnp.linalg.norm(gradient), algorithm.init(jnp.zeros(5))
    directions = jnp.stack([gradient / slope, across])

    @jax.jit
    def steps(keys):
        return jax.vmap(lambda key: directions @ algorithm.step(key, state, lambda x: gradient @ x)[0].params)(keys)

    moved = np.asarray(steps(jax.random.split(jax.random.key(7), 60_000)), float)
    law = theory.diffusion(algorithm, slope, num_parameters=5)
    drift = theory.drift(algorithm, slope, num_parameters=5)
    pairs = ((moved[:, 0], drift), (moved[:, 0] ** 2, law.longitudinal), (moved[:, 1] ** 2, law.transverse))
    for samples, expected in pairs:
        assert abs(samples.mean() - float(expected)) < 4.5 * samples.std() / math.sqrt(len(samples))


@pytest.mark.parametrize("name", ["normal", "t 30", "ball 10"])
def test_mean_loss_of_boltzmann_to_second_order(name):
    """Two offspring that each pay c E[u² | z]: what mean_loss_rate leaves falls like c², measured order within 0.1."""
    mutation, size = DENSITIES[name]
    algorithm, b, costs = mutagrad.boltzmann(1.0, 1.0, 2, mutation=mutation), 2.0, [0.02, 0.01, 0.005]
    with jax.enable_x64(True):
        rates = [float(theory.mean_loss_rate(algorithm, b, 2 * b * c, num_parameters=size)) for c in costs]
    left = [-b * plain_softmax_of_two(name, b, c)[1] - rate for c, rate in zip(costs, rates, strict=True)]
    assert np.polyfit(np.log(costs), np.log(np.abs(left)), 1)[0] == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("name", ["t 30", "sphere 3", "ball 10"])
def test_two_forms_of_the_curvature_agree(name):
    """Ranking: E[(Σz)Δz] is E[u²A], to 10⁻⁴; plain sums with a kink need thousands of nodes for that."""
    v, weight, _ = plain_nodes(name, 60_000 if name.startswith("t") else 8000)
    order = np.argsort(v)
    v, weight = v[order], weight[order]
    below, tail = (np.cumsum(each) - each / 2 for each in (weight, v * weight))
    for build, lowest in ((mutagrad.elitist, 0.0), (mutagrad.comma, -np.inf)):
        kept = 4 * weight * (v > lowest)
        both = np.sum(kept * v * (v * below**3 + 3 * below**2 * tail))
        found = of_all(lambda m, build=build: build(1.0, 4, mutation=m), 1.0, name)
        assert found[4] == pytest.approx(both, rel=1e-4)
        assert found[4] == found[3]


@pytest.mark.parametrize("name", ["metropolis", "elitist", "weighted", "boltzmann"])
def test_mean_loss_on_an_isotropic_quadratic(name):
    """Student t, 400 parameters, 2·10⁵ generations with mirrored slopes: 4.5 standard errors, of 2 % of the second order."""
    rng, number, total, (sigma, trace) = np.random.default_rng(3), 4, 200_000, (1.0, 0.02)
    build = {
        "metropolis": lambda m: mutagrad.metropolis(sigma, 2.0, mutation=m),
        "elitist": lambda m: mutagrad.elitist(sigma, number, mutation=m),
        "weighted": lambda m: mutagrad.weighted_recombination(sigma, number, [1.0, 0.5, 0.0, -0.5], mutation=m),
        "boltzmann": lambda m: mutagrad.boltzmann(sigma, 2.0, number, mutation=m),
    }
    algorithm = build[name](student_t(12.0))
    size = algorithm.definition.num_offspring
    scale = np.sqrt(10 / rng.chisquare(12, (total, size)))
    z, squares = scale * rng.normal(size=(total, size)), scale**2 * rng.chisquare(399, (total, size)) / 399

    def change(x, cost):
        loss = x + cost
        if name == "metropolis":
            return (loss * np.exp(-2 * np.maximum(loss, 0)))[:, 0]
        if name == "elitist":
            return np.minimum(loss.min(1), 0)
        if name == "boltzmann":
            share = np.exp(-2 * (loss - np.minimum(loss.min(1), 0)[:, None]))
            stay = np.exp(2 * np.minimum(loss.min(1), 0))
            return (share * loss).sum(1) / (share.sum(1) + stay)
        weights = np.array([1.0, 0.5, 0.0, -0.5])
        order = np.argsort(loss, axis=1)
        own = (np.take_along_axis(cost, order, 1) * weights**2).sum(1)
        return (np.take_along_axis(x, order, 1) * weights).sum(1) + own

    cost = trace / 2 * squares
    second = sum(change(x, cost) - change(x, 0 * cost) for x in (z, -z)) / 2
    law = float(theory.mean_loss_rate(algorithm, 1.0, trace)) - float(theory.mean_loss_rate(algorithm, 1.0))
    error = second.std() / math.sqrt(total)
    assert error < 0.01 * abs(law)
    assert abs(second.mean() - law) < 4.5 * error + 0.02 * abs(law)
