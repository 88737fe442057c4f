"""The equivalent gradient descents against NumPy, and the Langevin equation against the algorithm."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import lineax
import numpy as np
import optax
import pytest
from scipy import special, stats

import mutagrad
from mutagrad import theory

CURVATURES = np.array([1.0, 0.3, 0.1])
START = np.array([1.0, -2.0, 1.5])


def slope(x):
    """Of ½Σ λ x² + ¼Σ x⁴."""
    return CURVATURES * x + x**3


def descend(algorithm, regime, steps=200):
    optimizer = theory.equivalent_gradient_descent(algorithm, regime)

    @jax.jit
    def step(x, state):
        updates, state = optimizer.update(jnp.asarray(CURVATURES) * x + x**3, state, x)
        return optax.apply_updates(x, updates), state

    x = jnp.asarray(START)
    state = optimizer.init(x)
    for _ in range(steps):
        x, state = step(x, state)
    return np.asarray(x)


def integrate(rate, steps=200):
    """The same descent in plain NumPy: x ← x + rate(|g|) g/|g|."""
    x = START.copy()
    for _ in range(steps):
        g = slope(x)
        norm = np.linalg.norm(g)
        x = x + rate(norm) * g / norm
    return x


def crossover(sigma, beta):
    """−σ b e^{b²/2} Φ(−b), by the scaled complementary error function."""
    return lambda norm: -sigma * beta * sigma * norm * special.erfcx(beta * sigma * norm / math.sqrt(2)) / 2


CASES = {
    "metropolis": (mutagrad.metropolis(0.1, 3.0), "crossover", crossover(0.1, 3.0)),
    "metropolis, large β": (mutagrad.metropolis(0.03, 1e4), "crossover", crossover(0.03, 1e4)),
    "metropolis, plain": (mutagrad.metropolis(0.1, 3.0), "plain", lambda norm: -3.0 * 0.1**2 / 2 * norm),
    "metropolis, normalized": (mutagrad.metropolis(0.03, 3.0), "normalized", lambda _: -0.03 / math.sqrt(2 * math.pi)),
    "logistic, plain": (mutagrad.logistic(0.1, 3.0), "plain", lambda norm: -3.0 * 0.1**2 / 4 * norm),
    "greedy": (mutagrad.greedy(0.03), "crossover", lambda _: -0.03 / math.sqrt(2 * math.pi)),
    "elitist": (mutagrad.elitist(0.01, 20), "normalized", lambda _: -0.01 * theory.best_of_moment(20)),
    "comma": (mutagrad.comma(0.01, 2), "crossover", lambda _: -0.01 / math.sqrt(math.pi)),
}


@pytest.mark.parametrize("name", CASES)
def test_gradient_descent_is_that_of_numpy(name):
    algorithm, regime, rate = CASES[name]
    with jax.enable_x64(True):
        np.testing.assert_allclose(descend(algorithm, regime), integrate(rate), atol=1e-6)


def test_scaled_mutations_descend_with_their_covariance():
    """[W21] eq. 8: −(βσ_i²/2) ∂_iU, whatever the norm, in the plain limit."""
    scale = np.array([1.0, 0.5, 2.0])
    algorithm = mutagrad.metropolis(0.1, 2.0, mutation=mutagrad.mutation.scaled(jnp.asarray(scale)))
    x = START.copy()
    for _ in range(200):
        x = x - 2.0 * (0.1 * scale) ** 2 / 2 * slope(x)
    with jax.enable_x64(True):
        np.testing.assert_allclose(descend(algorithm, "plain"), x, atol=1e-6)


def test_composes_with_optax_on_a_tree():
    params = {"a": jnp.ones(3), "b": jnp.ones((2, 2), jnp.bfloat16)}
    optimizer = optax.chain(
        theory.equivalent_gradient_descent(mutagrad.greedy(0.1)), optax.scale_by_schedule(lambda count: 2.0)
    )
    updates, _ = optimizer.update(jax.tree.map(jnp.ones_like, params), optimizer.init(params), params)
    assert updates["b"].dtype == jnp.bfloat16
    assert float(updates["a"][0]) == pytest.approx(-2 * 0.1 / math.sqrt(2 * math.pi) / math.sqrt(7), rel=1e-3)


@pytest.mark.parametrize(
    "algorithm", [mutagrad.greedy(0.1), mutagrad.elitist(0.1, 5), mutagrad.metropolis(0.1, math.inf)]
)
def test_rules_that_see_ranks_have_no_plain_limit(algorithm):
    with pytest.raises(ValueError, match=r"^regime: got 'plain' with"):
        theory.equivalent_gradient_descent(algorithm, "plain")
    with pytest.raises(ValueError, match=r"^regime: got 'clipped'"):
        theory.equivalent_gradient_descent(algorithm, "clipped")


@pytest.mark.parametrize(("size", "rate"), [(1, 0.5), (2, math.sqrt(2) / math.pi), (3, math.sqrt(3) / 4)])
@pytest.mark.parametrize("algorithm", ["greedy", "metropolis"])
def test_normalized_on_a_sphere_of_few_parameters(algorithm, size, rate):
    """E|z|/2 of a component of the sphere in N dimensions, and of a ball that of N + 2; the rates of many are 1/√2π."""
    for mutation, number in ((mutagrad.mutation.sphere(), size), (mutagrad.mutation.ball(), size - 2)):
        if number < 1:
            continue
        own = mutagrad.greedy(0.1, mutation=mutation)
        if algorithm == "metropolis":
            own = mutagrad.metropolis(0.1, 3.0, mutation=mutation)
        found = theory.learning_rate(own, "normalized", num_parameters=number)
        assert float(found) == pytest.approx(0.1 * rate, rel=1e-5)
        gradient = jnp.arange(1.0, number + 1)
        updates, _ = theory.equivalent_gradient_descent(own, "normalized").update(gradient, optax.EmptyState())
        np.testing.assert_allclose(updates, -0.1 * rate * gradient / jnp.linalg.norm(gradient), rtol=1e-5)
    many = theory.learning_rate(mutagrad.greedy(0.1, mutation=mutagrad.mutation.sphere()), "normalized")
    assert float(many) == pytest.approx(0.1 / math.sqrt(2 * math.pi), rel=1e-5)


# --- Langevin ---------------------------------------------------------------------------------------------------------


def test_the_noise_has_the_covariance_of_a_step():
    """√D(√D)ᵀ = second moments of 4·10⁵ generations less drift², entry by entry within 4.5 standard errors."""
    gradient, scale = jnp.array([1.0, -2.0, 0.5]), jnp.array([1.0, 0.3, 2.0])
    algorithm = mutagrad.elitist(0.4, 5, mutation=mutagrad.mutation.scaled(scale))
    equation = theory.langevin(algorithm, lambda x: gradient)
    root = np.asarray(equation.diffusion(0.0, jnp.zeros(3), None).as_matrix(), float)
    state = algorithm.init(jnp.zeros(3))
    keys = jax.random.split(jax.random.key(0), 400_000)
    moved = jax.jit(jax.vmap(lambda key: algorithm.step(key, state, lambda x: x @ gradient)[0].params))(keys)
    centred = np.asarray(moved, float) - np.asarray(equation.drift(0.0, jnp.zeros(3), None), float)
    products = centred[:, :, None] * centred[:, None, :]
    errors = products.std(0) / math.sqrt(len(products))
    assert np.all(np.abs(products.mean(0) - root @ root.T) < 4.5 * errors)


def test_a_tree_of_parameters_has_one_operator():
    params = {"a": jnp.ones(2), "b": jnp.ones((2, 1))}
    equation = theory.langevin(mutagrad.greedy(0.1), lambda x: jax.tree.map(lambda leaf: 2 * leaf, x))
    operator = equation.diffusion(0.0, params, None)
    assert isinstance(operator, lineax.AbstractLinearOperator)
    path = equation.solve(jax.random.key(0), params, 10, 10, save_at=[5.0, 10.0])
    assert path["a"].shape == (2, 2)
    assert path["b"].shape == (2, 2, 1)


@pytest.mark.parametrize("name", ["metropolis", "elitist"])
def test_mean_and_variance_of_runs_are_those_of_the_equation(name):
    """4000 runs of each on a quadratic, small σ: mean and variance of |x|² and x₀ within 4.5 standard errors."""
    algorithm = {"metropolis": mutagrad.metropolis(0.02, 50.0), "elitist": mutagrad.elitist(0.004, 5)}[name]
    curvatures = jnp.asarray(CURVATURES, jnp.float32)
    start, number, generations = jnp.asarray(START, jnp.float32), 4000, 300

    def losses(x):
        return curvatures * jnp.square(x) / 2

    def run(key):
        def body(state, t):
            return algorithm.step(jax.random.fold_in(key, t), state, losses)[0], None

        return jax.lax.scan(body, algorithm.init(start), jnp.arange(generations))[0].params

    equation = theory.langevin(algorithm, lambda x: curvatures * x / 3)  # the loss is the mean of three
    runs = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), number))
    solve = jax.jit(jax.vmap(lambda key: equation.solve(key, start, generations, 100)[0]))
    paths = solve(jax.random.split(jax.random.key(1), number))
    for value in (lambda x: x[:, 0], lambda x: (x**2).sum(1), lambda x: (x[:, 1] - START[1]) ** 2):
        ours, theirs = value(np.asarray(runs, float)), value(np.asarray(paths, float))
        error = math.sqrt((ours.var() + theirs.var()) / number)
        assert abs(ours.mean() - theirs.mean()) < 4.5 * error
        assert abs(ours.std() / theirs.std() - 1) < 4.5 / math.sqrt(number)


def test_a_loss_of_steps_has_no_langevin_equation():
    equation = theory.langevin(mutagrad.greedy(0.1), jax.grad(lambda x: jnp.sum(jnp.round(x))))
    with pytest.raises(ValueError, match=r"^grad_fn: got a gradient of exactly zero"):
        equation.solve(jax.random.key(0), jnp.full(3, 0.3), 10, 10)


def evolved(transition, density, times):
    for _ in range(times):
        density = density @ transition
    return density


def fields(equation, y):
    """Drift and noise of a Langevin equation of one parameter."""
    return equation.drift(0.0, y, None), equation.diffusion(0.0, y, None).mv(jnp.ones(1))


def test_langevin_is_the_weak_limit_of_metropolis():
    """Means of the chain and of its Langevin equation at βσ²n/2 = ½ differ like σ, on U = x²/2, without sampling.

    Both laws are carried on a grid: the chain's by its transition probabilities, the equation's by Euler steps, two grids of
    which cancel their own error to the first order.
    """
    errors = []
    for sigma in (0.25, 0.125, 0.0625, 0.03125):
        algorithm, generations = mutagrad.metropolis(sigma, beta=2.0), round(0.5 / sigma**2)
        x = np.linspace(-2.5, 4, round(6.5 / (sigma / 3)) + 1)
        start = stats.norm.pdf(x, 1.5, 0.3)
        start /= start.sum()
        proposal = stats.norm.pdf(x[None], x[:, None], sigma)
        accepted = np.exp(np.minimum(0, -2.0 * (x[None] ** 2 - x[:, None] ** 2) / 2))
        chain = proposal / proposal.sum(1, keepdims=True) * accepted
        chain += np.diag(1 - chain.sum(1))
        equation = mutagrad.theory.langevin(algorithm, lambda y: y)
        points = jnp.asarray(x)[:, None]
        drift, noise = (np.asarray(field)[:, 0] for field in jax.vmap(partial(fields, equation))(points))
        laws = []
        for parts in (4, 8):
            step = stats.norm.pdf(x[None], (x + drift / parts)[:, None], noise[:, None] / parts**0.5)
            laws.append(evolved(step / step.sum(1, keepdims=True), start, generations * parts))
        difference = evolved(chain, start, generations) - (2 * laws[1] - laws[0])
        errors.append([difference @ x, difference @ x**2])
    orders = np.log2(np.abs(errors[:-1]) / np.abs(errors[1:]))
    assert np.all(np.diff(orders, axis=0) > 0)
    np.testing.assert_allclose(2 * orders[-1] - orders[-2], 1, atol=0.1)  # extrapolated to σ = 0
