"""Laws that docs/theory.md states and that no code of the library computes, against integrals and simulation.

Every simulation allows 4.5 standard errors, a false alarm in 1.5·10⁵ checks, and its seed is fixed.
"""

import math

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from scipy import integrate, special, stats

import mutagrad
from mutagrad import selection, theory

Z = 4.5


def is_near(samples, expected, largest_error=math.inf):
    """Whether the mean of samples is the expected number; the error must be small enough to tell."""
    error = np.std(samples, ddof=1) / math.sqrt(len(samples))
    assert error < largest_error
    return abs(np.mean(samples) - expected) < Z * error


# --- 4: what gradient descent gains --------------------------------------------------------------------------------------


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.3])
def test_a_step_of_gradient_descent_gains_half_to_all_of_its_slope(exponent):
    """With rate 1/λ_max: |g|²/2λ_max along the top eigenvector, less than |g|²/λ_max along all others."""
    curvatures = np.arange(1, 101.0) ** -exponent
    for x in (np.ones(100), np.eye(100)[0], np.eye(100)[-1], curvatures**-0.5):
        gradient = curvatures * x
        after = x - gradient / curvatures[0]
        gain = (curvatures @ x**2 - curvatures @ after**2) / 2 / (gradient @ gradient / curvatures[0])
        along = curvatures @ gradient**2 / (gradient @ gradient)
        assert gain == pytest.approx(1 - along / curvatures[0] / 2)
        assert 0.5 - 1e-12 <= gain < 1


@pytest.mark.parametrize("exponent", [0.5, 0.8, 1.0, 1.3])
def test_effective_rank_of_a_power_law(exponent):
    """Σ k^−a is its integral, plus ζ(a) (γ for a = 1) and N^−a/2, to the order aN^−(a+1)/12 of Euler and Maclaurin."""
    constant = np.euler_gamma if exponent == 1 else float(mpmath.zeta(exponent))
    for size in (100, 10_000):
        rank = np.sum(np.arange(1, size + 1.0) ** -exponent)
        growth = math.log(size) if exponent == 1 else size ** (1 - exponent) / (1 - exponent)
        assert rank == pytest.approx(
            growth + constant + size**-exponent / 2, abs=exponent * size ** (-1 - exponent) / 6
        )


# --- 5: the mean of many runs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("curvature", [-1.0, 0.0, 1.0])
def test_distance_of_the_mean_of_runs_from_gradient_descent(curvature):
    """(1/N)Σ(x^GD − mean)² is D_⊥t/n on a linear loss, more at a saddle and less in a valley, as ηλt says."""
    size, number, generations, sigma, beta = 8, 8000, 400, 0.04, 10.0
    rate = beta * sigma**2 / 4  # of the logistic rule, whose noise is σ²/2
    curvatures = jnp.full(size, curvature * 0.8 / (rate * generations)).at[0].set(0.0)
    slope = jnp.zeros(size).at[0].set(0.1)
    algorithm = mutagrad.logistic(sigma, beta)

    def losses(x):
        return size * (slope * x + curvatures * jnp.square(x) / 2)

    def run(key):
        def body(t, state):
            return algorithm.step(jax.random.fold_in(key, t), state, losses)[0]

        return jax.lax.fori_loop(0, generations, body, algorithm.init(jnp.zeros(size))).params

    ends = np.asarray(jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), number)), float)[:, 1:]
    growth = -2 * rate * float(curvatures[1])
    factor = math.expm1(growth * generations) / (growth * generations) if curvature else 1.0
    law = sigma**2 / 2 * generations * factor
    # Of coordinates across the gradient, which start at their minimum or saddle: gradient descent stays at 0.
    squares = np.square(ends).mean(axis=1)
    assert abs(squares.mean() / law - 1) < 0.03 + Z * squares.std() / law / math.sqrt(number)
    mean_of_runs = np.square(ends.reshape(400, 20, -1).mean(axis=1)).mean(axis=1)
    assert abs(mean_of_runs.mean() * 20 / law - 1) < 0.03 + Z * mean_of_runs.std() * 20 / law / 20
    assert curvature == 0 or abs(factor - 1) > 0.25


def test_a_lineage_lags_behind_an_optimum_that_moves():
    """By v/ηλ and the share ¼(b² + βσ²(TrH + 2λ)) more; the loss is ½Σv²/η²λ + N/2β, and selection gains |v|²/η."""
    sigma, curvatures, number = 0.2, np.array([1.0, 0.5], np.float32), 4096
    rate = sigma**2 / 4
    velocity = 0.3 * rate / sigma / math.sqrt(2)
    lags = velocity / rate / curvatures
    algorithm = mutagrad.logistic(sigma, 1.0)

    def run(key):
        start, move = jax.random.split(key)

        def body(state, generation):
            place = velocity * generation.astype(jnp.float32)
            before = state.params - place
            own = jax.random.fold_in(move, generation)
            state, info = algorithm.step(own, state, lambda x: curvatures * jnp.square(x - place))
            return state, jnp.append(before, jnp.stack([info.parent_loss, -info.loss_change]))

        # From the law: one relaxation time is then enough to forget what the law left out.
        x = jax.random.normal(start, (2,)) / np.sqrt(curvatures) - lags
        told = jax.lax.scan(body, algorithm.init(x), jnp.arange(800))[1]
        return told[200:].mean(axis=0)

    told = np.asarray(jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(5), number)), float)
    longer = (0.3**2 + sigma**2 * (curvatures.sum() + 2 * curvatures)) / 4
    for found, share in zip((-told[:, :2] / lags).T, longer, strict=True):
        assert is_near(found, 1 + share, share / 4)
    assert is_near(told[:, 3] * rate / velocity**2 / 2, 1 + longer.mean(), longer.mean() / 4)
    # Variances are larger where x lags, by b²/4 + 3b_i²/8 with b_i² = b²/2.
    loss = curvatures @ (lags**2 * (1 + 2 * longer)) / 2 + 1 + 0.3**2 * (1 / 4 + 3 / 16)
    assert is_near(told[:, 2], loss, (loss - curvatures @ lags**2 / 2 - 1) / 4)


# --- 6: environments, and many mutations ---------------------------------------------------------------------------------


def batch_steps(algorithm, number=200_000):
    """Steps of two parameters under a batch whose gradient is (1, 1) or (−1, −1): perfectly correlated, of mean 0."""
    start = algorithm.init(jnp.zeros(2))

    def one(key):
        batch_key, step_key = jax.random.split(key)
        sign = jnp.where(jax.random.bernoulli(batch_key), 1.0, -1.0)
        return algorithm.step(step_key, start, lambda x: sign * jnp.sum(x))[0].params

    return np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(1), number)), float)


@pytest.mark.parametrize("beta", [0.2, 1.0])
def test_what_a_step_shows_of_correlated_gradients(beta):
    """Metropolis: σ²q(b)ĝĝᵀ, first order in b and negative; logistic: nothing. Not (βσ²/2)² Cov(g_B)."""
    sigma = 0.7
    b = beta * sigma * math.sqrt(2)
    second = b**2 * math.exp(b**2 / 2 + special.log_ndtr(-b)) - b / math.sqrt(2 * math.pi)
    metropolis = batch_steps(mutagrad.metropolis(sigma, beta))
    logistic = batch_steps(mutagrad.logistic(sigma, beta))
    for steps in (metropolis, logistic):
        assert is_near(steps[:, 0], 0)
    assert is_near(metropolis.prod(axis=1), sigma**2 * second / 2)
    assert is_near(logistic.prod(axis=1), 0)
    error = metropolis.prod(axis=1).std() / math.sqrt(len(metropolis))
    assert metropolis.prod(axis=1).mean() < -10 * error
    assert second == pytest.approx(-b / math.sqrt(2 * math.pi) + b**2 / 2, abs=0.6 * b**3)


def test_a_fresh_batch_gives_the_gradient_without_bias():
    """−(βσ²/2) E[g_B] at small βσ|g_B|, for batches whose gradients differ in length and direction."""
    gradients = np.array([[3.0, 0.0], [-1.0, 1.0], [0.5, -2.0], [0.2, 0.4]])
    algorithm = mutagrad.metropolis(1e-3, 1.0)
    with jax.enable_x64(True):
        steps = np.array([theory.mean_step(algorithm, jnp.asarray(gradient)) for gradient in gradients])
        greedy = np.array([theory.mean_step(mutagrad.greedy(1e-3), jnp.asarray(gradient)) for gradient in gradients])
    # The next order is a share b√(2/π) of each.
    np.testing.assert_allclose(steps.mean(axis=0), -1e-6 / 2 * gradients.mean(axis=0), rtol=5e-3)
    unit = (gradients / np.linalg.norm(gradients, axis=1, keepdims=True)).mean(axis=0)
    np.testing.assert_allclose(greedy.mean(axis=0), -1e-3 / math.sqrt(2 * math.pi) * unit, rtol=1e-6)


@pytest.mark.parametrize(("model", "factor"), [("moran", 1), ("wright_fisher", 2)])
def test_a_mutation_in_flight_is_fixed_in_proportion_to_its_effect(model, factor):
    """A(ΔU) = (1/n)(1 − νβΔU/2), ν = n − 1 or 2(n − 1), and 1/n where it is neutral."""
    for size in (2, 10, 1000):
        with jax.enable_x64(True):
            accept = selection.fixation(1.0, size, model).law.acceptance_fn
            chance, step = float(accept(0.0)), 1e-6 / size
            slope = (float(accept(step)) - float(accept(-step))) / (2 * step)
        assert chance == pytest.approx(1 / size)
        assert slope == pytest.approx(-factor * (size - 1) / (2 * size), rel=1e-4)


# --- 7: geometry ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 3, 10, 100])
def test_share_of_a_cap(size):
    """½ I_{sin²α}((N − 1)/2, ½), against an integral over the density of the angle, sin^{N−2}."""
    for angle in (0.3, 1.0, math.pi / 2):
        cap = integrate.quad(lambda t: math.sin(t) ** (size - 2), 0, angle)[0]
        whole = integrate.quad(lambda t: math.sin(t) ** (size - 2), 0, math.pi)[0]
        assert special.betainc((size - 1) / 2, 0.5, math.sin(angle) ** 2) / 2 == pytest.approx(cap / whole, rel=1e-6)


@pytest.mark.parametrize("size", [20, 300])
def test_angles_of_random_and_of_improving_directions(size):
    """Mean cosine 0 and variance 1/N; of two improving ones (2/π)/N, to a share 1/N of it."""
    directions = np.random.default_rng(0).standard_normal((2, 40_000, size))
    directions /= np.linalg.norm(directions, axis=2, keepdims=True)
    cosines = np.sum(directions[0] * directions[1], axis=1)
    assert is_near(cosines, 0)
    assert is_near(cosines**2, 1 / size)
    assert is_near((np.arccos(cosines) - math.pi / 2) ** 2, 1 / size + 1 / size**2)
    # The mirror image of a direction that does not improve does.
    signs = np.prod(np.sign(directions[:, :, 0]), axis=0)
    exact = math.exp(2 * (special.gammaln(size / 2) - special.gammaln((size + 1) / 2))) / math.pi
    assert is_near(signs * cosines, exact)
    assert exact == pytest.approx(2 / math.pi / size, rel=1 / size)


def test_power_of_a_comparison_of_angles():
    """30·N pairs in each sample tell improving from random directions six times in ten at the level 5 %, 60·N nine times."""
    size, generator, found = 100, np.random.default_rng(1), []
    for pairs in (30 * size, 60 * size):
        shifted = generator.standard_normal((300, pairs)) + 2 / math.pi / math.sqrt(size)
        random = generator.standard_normal((300, pairs))
        values = [stats.ks_2samp(*both, method="asymp").pvalue for both in zip(random, shifted, strict=True)]
        found.append(np.mean(np.array(values) < 0.05))
    # Two standard errors of 300 trials are 0.06 and 0.04.
    assert 0.5 < found[0] < 0.7
    assert 0.8 < found[1] < 0.95


@pytest.mark.parametrize("number", [1, 10, 100])
def test_mean_of_improving_directions(number):
    """Its cosine with −g is √(2k/πN) / √(1 + (2/π)(k − 1)/N): the root of k, until k ~ N."""
    size = 400
    directions = np.random.default_rng(2).standard_normal((1000, number, size))
    directions[:, :, 0] = -np.abs(directions[:, :, 0])
    directions /= np.linalg.norm(directions, axis=2, keepdims=True)
    mean = directions.mean(axis=1)
    cosines = -mean[:, 0] / np.linalg.norm(mean, axis=1)
    law = math.sqrt(2 * number / math.pi / size / (1 + 2 / math.pi * (number - 1) / size))
    assert abs(cosines.mean() - law) < Z * cosines.std() / math.sqrt(1000) + law / size


def test_filter_normalised_slices_do_not_see_the_scale_of_a_unit():
    """Weights into a ReLU unit times c and out of it over c: the same function, and the same slice."""
    generator = np.random.default_rng(3)
    inputs, into, out = (generator.standard_normal(shape) for shape in ((50, 4), (4, 6), (6, 1)))
    noise_into, noise_out = generator.standard_normal((4, 6)), generator.standard_normal((6, 1))
    scale = np.exp(generator.standard_normal(6))

    def slice_of(into, out, is_normalised):
        """Losses along a direction of which each unit's incoming and each outgoing weight has the length of its own."""
        share = np.linalg.norm(into, axis=0) / np.linalg.norm(noise_into, axis=0) if is_normalised else 1.0
        ahead = noise_into * share, noise_out * (np.abs(out) / np.abs(noise_out) if is_normalised else 1.0)
        return [
            np.mean((np.maximum(inputs @ (into + t * ahead[0]), 0) @ (out + t * ahead[1])) ** 2)
            for t in (-1, -0.3, 0, 0.5)
        ]

    for is_normalised in (True, False):
        same = np.allclose(
            slice_of(into, out, is_normalised), slice_of(into * scale, out / scale[:, None], is_normalised)
        )
        assert same == is_normalised


# --- 8 and 9: batches ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [0.5, 1.0, 5.0])
def test_share_of_the_drift_along_the_gradient(noise):
    """E[ĝ_B·ĝ] = |g|/√(|g|² + TrC/B), to a share of 1/N, with |g| = 1 and TrC/B = noise."""
    size = 400
    gradients = np.random.default_rng(4).standard_normal((2000, size)) * math.sqrt(noise / size)
    gradients[:, 0] += 1
    shares = gradients[:, 0] / np.linalg.norm(gradients, axis=1)
    assert abs(shares.mean() - 1 / math.sqrt(1 + noise)) < Z * shares.std() / math.sqrt(2000) + 1 / size


@pytest.mark.parametrize("number", [1, 5, 20])
def test_validated_progress_at_the_best_strength(number):
    """On all the data E[v] = G_M(s)/s is (s/2)(1 − Φ(s/2)^M) at s*: not s/2, which for M = 1 holds s = 0.55."""
    best = theory.optimal_strength(number)
    progress = float(theory.expected_gain(best, number)) / best
    chance = -math.expm1(number * special.log_ndtr(best / 2))
    assert progress == pytest.approx(best / 2 * chance, rel=1e-5)
    if number == 1:
        assert float(theory.expected_gain(0.55, 1)) / 0.55 == pytest.approx(0.275, rel=0.02)
