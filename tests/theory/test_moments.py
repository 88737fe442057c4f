"""Drift, diffusion and acceptance: against quadrature at 30 digits, against Monte Carlo, and in their limits."""

import functools
import math

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from scipy import integrate, stats

import mutagrad
from mutagrad import theory

mpmath.mp.dps = 30
SLOPES = [10.0**power for power in range(-8, 9, 2)]
"""b = βσ|g| for rules at β = 1 and σ = 1."""


def two_numbers_equal(found, expected, tolerance):
    np.testing.assert_allclose(np.asarray(found, float), np.asarray([float(one) for one in expected]), rtol=tolerance)


# --- one offspring: every rule, every radial density ------------------------------------------------------------------


def fixation(x, size, factor):
    s = -factor * x
    return mpmath.mpf(1) / size if s == 0 else mpmath.expm1(-s) / mpmath.expm1(-size * s)


RULES = {
    "greedy": (mutagrad.greedy(1.0), lambda x: mpmath.mpf(x <= 0)),
    "metropolis": (mutagrad.metropolis(1.0, 1.0), lambda x: mpmath.exp(-max(x, 0))),
    "logistic": (mutagrad.logistic(1.0, 1.0), lambda x: 1 / (1 + mpmath.exp(x))),
    "moran": (mutagrad.fixation(1.0, 1.0, 50), lambda x: fixation(x, 50, 1)),
    "wright_fisher": (mutagrad.fixation(1.0, 1.0, 50, "wright_fisher"), lambda x: fixation(x, 50, 2)),
}


def normal_density(z):
    return mpmath.npdf(z)


def bounded_density(power, radius):
    constant = mpmath.beta(mpmath.mpf(1) / 2, power + 1) * radius
    return lambda z: (1 - (z / radius) ** 2) ** power / constant


def student_density(nu):
    scale = mpmath.sqrt((nu - 2) / mpmath.mpf(nu))
    constant = mpmath.gamma(mpmath.mpf(nu + 1) / 2) / mpmath.gamma(mpmath.mpf(nu) / 2) / mpmath.sqrt(nu * mpmath.pi)
    return lambda z: constant * (1 + (z / scale) ** 2 / nu) ** (-mpmath.mpf(nu + 1) / 2) / scale


def panels(b, end):
    """Where the integrand changes: at the scale of the density and at that of the rule."""
    inner = {mpmath.mpf(10) ** k / b for k in (-2, -1, 0, 1)} | {mpmath.mpf(2) / (10 * b)}
    points = sorted({p for p in inner | {mpmath.mpf(k) for k in (1, 3, 6)} if p < end})
    return [0, *points, end]


def expected_moments(density, end, transverse, rule, b):
    """E[A], E[zA], E[z²A] and E[u²A] by Gauss–Legendre panels at 30 digits."""

    def integral(weight):
        def both(z):
            return density(z) * (weight(z) * rule(b * z) + weight(-z) * rule(-b * z))

        return mpmath.quad(both, panels(b, end))

    return [integral(weight) for weight in (lambda z: 1, lambda z: z, lambda z: z * z, transverse)]


def found_moments(algorithm, b, number=None):
    step = theory.diffusion(algorithm, b, num_parameters=number)
    rate = theory.acceptance_rate(algorithm, b, num_parameters=number)
    return [rate, theory.drift(algorithm, b, num_parameters=number), step.longitudinal, step.transverse]


@pytest.mark.parametrize("name", RULES)
def test_every_rule_from_tiny_to_huge_slopes(name):
    """b from 10⁻⁸ to 10⁸: to 10⁻⁹ in float64; in float32 to 2·10⁻⁶ (10⁻⁵ for fixation, of a ratio of exponentials)."""
    algorithm, rule = RULES[name]
    expected = np.array([expected_moments(normal_density, 14, lambda z: 1, rule, b) for b in SLOPES], float)
    in_single = np.array([found_moments(algorithm, np.float32(b)) for b in SLOPES], float)
    np.testing.assert_allclose(in_single, expected, rtol=1e-5 if name in ("moran", "wright_fisher") else 2e-6)
    with jax.enable_x64(True):
        in_double = np.stack(found_moments(algorithm, jnp.array(SLOPES)), axis=1)
    np.testing.assert_allclose(in_double, expected, rtol=1e-9)


def test_metropolis_has_the_closed_form_of_the_theory():
    """−σ b e^{b²/2} Φ(−b) and acceptance ½ + e^{b²/2} Φ(−b)."""
    with jax.enable_x64(True):
        b = jnp.array(SLOPES)
        tail = np.array([float(mpmath.exp(mpmath.mpf(one) ** 2 / 2) * mpmath.ncdf(-one)) for one in SLOPES])
        algorithm = RULES["metropolis"][0]
        np.testing.assert_allclose(theory.drift(algorithm, b), -np.array(SLOPES) * tail, rtol=1e-9)
        np.testing.assert_allclose(theory.acceptance_rate(algorithm, b), 0.5 + tail, rtol=1e-9)


def sphere(n):
    return bounded_density(mpmath.mpf(n - 3) / 2, mpmath.sqrt(n)), mpmath.sqrt(n), lambda z: (n - z * z) / (n - 1)


def ball(n):
    radius = mpmath.sqrt(n + 2)
    return bounded_density(mpmath.mpf(n - 1) / 2, radius), radius, lambda z: (n + 2 - z * z) / mpmath.mpf(n + 1)


def student(nu):
    end = mpmath.mpf(10) ** (3 if nu > 20 else 6)
    return student_density(nu), end, lambda z: (nu - 2 + z * z) / mpmath.mpf(nu - 1)


DENSITIES = (
    [(mutagrad.mutation.sphere(), sphere(n), n) for n in (3, 4, 10, 1000)]
    + [(mutagrad.mutation.ball(), ball(n), n) for n in (1, 2, 5, 1000)]
    + [(mutagrad.mutation.student_t(nu), student(nu), None) for nu in (5, 9, 30)]
)


@pytest.mark.parametrize(
    ("mutation", "law", "number"), DENSITIES, ids=lambda part: str(getattr(part, "name", part))[:12]
)
@pytest.mark.parametrize("rule", ["metropolis", "greedy"])
def test_every_radial_density(mutation, law, number, rule):
    build = {"metropolis": lambda: mutagrad.metropolis(1.0, 1.0, mutation=mutation)}
    algorithm = build.get(rule, lambda: mutagrad.greedy(1.0, mutation=mutation))()
    density, end, transverse = law
    with jax.enable_x64(True):
        for b in (1e-6, 0.03, 1.0, 30.0, 1e6):
            if number is None:
                ends = [*panels(b, 20), *(mpmath.mpf(10) ** k for k in (2, 3, 6) if 10**k <= end), mpmath.inf]
                expected = [
                    mpmath.quad(
                        lambda z, w=w, b=b: (
                            density(z) * (w(z) * RULES[rule][1](b * z) + w(-z) * RULES[rule][1](-b * z))
                        ),
                        sorted(set(ends)),
                    )
                    for w in (lambda z: 1, lambda z: z, lambda z: z * z, transverse)
                ]
            else:
                expected = expected_moments(density, end, transverse, RULES[rule][1], b)
            two_numbers_equal(found_moments(algorithm, b, number), expected, 2e-8)


def test_sphere_of_one_parameter_is_a_sign():
    algorithm = mutagrad.metropolis(1.0, 1.0, mutation=mutagrad.mutation.sphere())
    with jax.enable_x64(True):
        drift = theory.drift(algorithm, 2.0, num_parameters=1)
    assert float(drift) == pytest.approx((math.exp(-2) - 1) / 2, rel=1e-12)


def test_sphere_becomes_normal_like_one_over_n():
    """Greedy drift on the sphere differs from −σ/√2π by a share that falls like 1/N: measured order 1 within 2 %."""
    algorithm = mutagrad.greedy(1.0, mutation=mutagrad.mutation.sphere())
    with jax.enable_x64(True):
        sizes = np.array([30, 100, 300, 1000, 3000])
        shares = [
            float(-theory.drift(algorithm, 1.0, num_parameters=int(n)) * math.sqrt(2 * math.pi) - 1) for n in sizes
        ]
    order = -np.polyfit(np.log(sizes), np.log(np.abs(shares)), 1)[0]
    assert order == pytest.approx(1, abs=0.02)


def test_limits_of_metropolis_and_their_orders():
    """Plain gradient descent as b → 0 (error ∝ b), normalised as b → ∞ (error ∝ b⁻²)."""
    algorithm = mutagrad.metropolis(1.0, 1.0)
    with jax.enable_x64(True):
        small, large = np.array([1e-4, 1e-3, 1e-2]), np.array([30.0, 100.0, 300.0])
        plain = np.asarray(theory.drift(algorithm, jnp.array(small))) / (-small / 2) - 1
        normalised = np.asarray(theory.drift(algorithm, jnp.array(large))) * -math.sqrt(2 * math.pi) - 1
    assert np.polyfit(np.log(small), np.log(-plain), 1)[0] == pytest.approx(1, abs=0.01)
    assert np.polyfit(np.log(large), np.log(-normalised), 1)[0] == pytest.approx(-2, abs=0.01)


@pytest.mark.parametrize("name", ["metropolis", "logistic", "moran", "wright_fisher"])
def test_one_learning_rate_per_accepted_step(name):
    """Detailed balance at νβ: drift −(νβσ²/2)|g| per accepted step, at b = 10⁻⁶ (theory.md 6)."""
    nu = {"moran": 49, "wright_fisher": 98}.get(name, 1)
    with jax.enable_x64(True):
        algorithm = RULES[name][0]
        per_accepted = theory.drift(algorithm, 1e-6) / theory.acceptance_rate(algorithm, 1e-6)
    assert float(per_accepted) == pytest.approx(-nu * 1e-6 / 2, rel=2e-4)


# --- several offspring ------------------------------------------------------------------------------------------------


def normal_rank_moments(number, lowest):
    """E of 1, Z, Z² for the largest of M normals, over Z > lowest, by adaptive quadrature at double precision."""

    def integrand(z, k):
        return z**k * number * np.exp(stats.norm.logpdf(z) + (number - 1) * stats.norm.logcdf(z))

    return [
        integrate.quad(integrand, lowest, 9, args=(k,), epsabs=1e-13, limit=400, points=[0, 3])[0] for k in range(3)
    ]


@pytest.mark.parametrize("number", [1, 2, 5, 20, 100, 1000])
def test_best_of_many(number):
    with jax.enable_x64(True):
        zeroth, first, second = normal_rank_moments(number, 0)
        expected = [zeroth, -first, second, zeroth]
        two_numbers_equal(found_moments(mutagrad.elitist(1.0, number), 2.0), expected, 1e-7)
        zeroth, first, second = normal_rank_moments(number, -9)
        found = found_moments(mutagrad.comma(1.0, number), 2.0)
        np.testing.assert_allclose(np.array(found, float), [zeroth, -first, second, zeroth], rtol=1e-7, atol=1e-12)


def test_named_moments_agree_with_the_theory_of_progress():
    with jax.enable_x64(True):
        found = found_moments(mutagrad.elitist(1.0, 20), 1.0)
        two_numbers_equal(found[1:3], [-theory.best_of_moment(20), theory.best_of_moment(20, 2)], 1e-8)
        drift = theory.drift(mutagrad.truncation(1.0, 20, 5), 1.0)
    assert float(drift) == pytest.approx(-theory.best_of_mean(20, 5), rel=1e-8)


@functools.cache
def draws(number):
    return np.random.default_rng(number).normal(size=(400_000, number))


@pytest.mark.parametrize("number", [1, 5, 20])
@pytest.mark.parametrize("b", [0.003, 0.1, 0.9, 1.1, 10.0, 1e3, 1e5])
def test_boltzmann_against_monte_carlo(number, b):
    """Softmax weights of 4·10⁵ generations; each moment within 4.5 standard errors (one false alarm in 1800 runs of 84)."""
    z = draws(number)
    weights = np.exp(-b * z - np.maximum(0, (-b * z).max(1))[:, None])
    weights /= weights.sum(1, keepdims=True) + np.exp(-np.maximum(0, (-b * z).max(1)))[:, None]
    found = found_moments(mutagrad.boltzmann(1.0, b, number), 1.0)
    for value, samples in zip(found, [weights, weights * z, weights * z**2, weights], strict=True):
        means = samples.sum(1)
        assert abs(float(value) - means.mean()) < 4.5 * means.std() / math.sqrt(len(means)) + 1e-6


def test_boltzmann_of_one_is_logistic_and_of_many_at_zero_temperature_elitist():
    with jax.enable_x64(True):
        for b in (1e-2, 0.5, 3.0, 100.0):
            found, expected = (
                found_moments(a, b) for a in (mutagrad.boltzmann(1.0, 1.0, 1), mutagrad.logistic(1.0, 1.0))
            )
            np.testing.assert_allclose(np.array(found, float), np.array(expected, float), rtol=1e-5)
        for beta in (1e8, math.inf):
            found = found_moments(mutagrad.boltzmann(1.0, beta, 20), 1.0)
            two_numbers_equal(found, found_moments(mutagrad.elitist(1.0, 20), 1.0), 1e-5)


def test_measured_drift_of_the_library_itself():
    """10⁵ generations of the algorithms on a linear loss of 40 parameters: 4.5 standard errors."""
    gradient = jnp.linspace(-1, 1, 40)
    unit = gradient / jnp.linalg.norm(gradient)
    for algorithm in (
        mutagrad.metropolis(0.3, 2.0, mutation=mutagrad.mutation.student_t(6.0)),
        mutagrad.elitist(0.3, 4, mutation=mutagrad.mutation.sphere()),
        mutagrad.fixation(0.3, 1.0, 10, mutation=mutagrad.mutation.ball()),
    ):
        state = algorithm.init(jnp.zeros(40))

        def moved(key, algorithm=algorithm, state=state):
            return unit @ algorithm.step(key, state, lambda x: x @ gradient)[0].params

        steps = np.asarray(jax.jit(jax.vmap(moved))(jax.random.split(jax.random.key(0), 100_000)), float)
        expected = theory.drift(algorithm, jnp.linalg.norm(gradient), num_parameters=40)
        second = theory.diffusion(algorithm, jnp.linalg.norm(gradient), num_parameters=40).longitudinal
        assert abs(steps.mean() - float(expected)) < 4.5 * steps.std() / math.sqrt(len(steps))
        squares = steps**2
        assert abs(squares.mean() - float(second)) < 4.5 * squares.std() / math.sqrt(len(steps))


# --- curvature --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["metropolis", "logistic", "greedy", "elitist"])
@pytest.mark.parametrize("b", [0.3, 1.0, 3.0])
def test_mean_loss_to_second_order(name, b):
    """The remainder falls like c² with c = ½σ²TrH, at fixed slope.

    For Metropolis the drift of a linear loss with ½Tr(DH) of its transverse noise leaves one of order c.

    Expected: E[(x + c)A(x + c)] over x ~ N(0, b²), every mutation paying the same c (many eigenvalues).
    """
    algorithm = mutagrad.elitist(1.0, 5) if name == "elitist" else RULES[name][0]
    number = 5 if name == "elitist" else 1
    rule = RULES["greedy" if name == "elitist" else name][1]

    def exact(c):
        def integrand(v):  # the best offspring has x = −b v
            density = number * mpmath.npdf(v) * mpmath.ncdf(v) ** (number - 1)
            return density * (c - b * v) * rule(c - b * v)

        return mpmath.quad(integrand, [-12, -5, -2, 0, c / b, 2, 5, 12])

    costs = [0.02, 0.01, 0.005]
    with jax.enable_x64(True):
        rates = [float(theory.mean_loss_rate(algorithm, b, 2 * c)) for c in costs]
        step = theory.diffusion(algorithm, b)
        langevin = float(theory.drift(algorithm, b)) * b + costs[-1] * float(step.transverse)
    remainders = [abs(float(exact(mpmath.mpf(c))) - rate) for c, rate in zip(costs, rates, strict=True)]
    assert np.polyfit(np.log(costs), np.log(remainders), 1)[0] == pytest.approx(2, abs=0.15)
    if name == "metropolis":
        assert abs(float(exact(mpmath.mpf(costs[-1]))) - langevin) > 5 * remainders[-1]


# --- arrays, transformations, pytrees, refusals -----------------------------------------------------------------------


def test_vectorised_compiled_and_differentiable():
    norms = jnp.linspace(0, 5, 7).reshape(7, 1)
    sigmas = jnp.array([0.1, 0.2])
    for algorithm in (mutagrad.metropolis(0.1, 3.0), mutagrad.elitist(0.1, 5), mutagrad.boltzmann(0.1, 3.0, 5)):
        table = jax.jit(lambda n, s, a=algorithm: theory.drift(a, n, s))(norms, sigmas)
        assert table.shape == (7, 2)
        assert float(table[3, 1]) == pytest.approx(float(theory.drift(algorithm, norms[3, 0], 0.2)), rel=1e-5)
        assert np.all(np.asarray(table) <= 0)
    slope = jax.grad(lambda norm: theory.drift(mutagrad.metropolis(0.01, 1.0), norm))(1.0)
    assert float(slope) == pytest.approx(-0.00005, rel=0.02)  # −βσ²/2, up to b = 0.01


def test_a_flat_loss_drifts_nowhere_and_a_sigma_is_a_sigma():
    for algorithm in (
        mutagrad.greedy(0.5),
        mutagrad.elitist(0.5, 4),
        mutagrad.comma(0.5, 4),
        mutagrad.metropolis(0.5, 1.0),
    ):
        assert float(theory.drift(algorithm, 0.0)) == 0
        assert float(theory.diffusion(algorithm, 0.0).transverse) == pytest.approx(0.25, rel=1e-5)


def test_mean_step_of_a_tree():
    gradient = {"a": jnp.array([3.0, 0.0]), "b": jnp.full((2, 2), 2.0), "n": jnp.arange(3)}
    step = theory.mean_step(mutagrad.elitist(0.1, 5), gradient)
    rate = -0.1 * theory.best_of_moment(5) / 5.0  # |g| = 5
    np.testing.assert_allclose(step["b"], rate * 2.0 * np.ones((2, 2)), rtol=1e-5)
    assert step["n"].dtype == jnp.int32
    assert not np.any(step["n"])
    masked = mutagrad.mutation.masked({"a": True, "b": False, "n": False})
    step = theory.mean_step(mutagrad.elitist(0.1, 5, mutation=masked), gradient)
    np.testing.assert_allclose(step["a"], [-0.1 * theory.best_of_moment(5), 0], rtol=1e-5)
    assert not np.any(step["b"])


def test_mean_step_of_scaled_mutations_is_that_of_the_library():
    """4·10⁵ generations, 4.5 standard errors per parameter."""
    gradient, scale = jnp.array([1.0, -2.0, 0.5]), jnp.array([1.0, 0.3, 2.0])
    algorithm = mutagrad.metropolis(0.4, 1.5, mutation=mutagrad.mutation.scaled(scale))
    state = algorithm.init(jnp.zeros(3))
    keys = jax.random.split(jax.random.key(0), 400_000)
    moved = jax.jit(jax.vmap(lambda key: algorithm.step(key, state, lambda x: x @ gradient)[0].params))(keys)
    moved = np.asarray(moved, float)
    errors = moved.std(0) / math.sqrt(len(moved))
    assert np.all(np.abs(moved.mean(0) - np.asarray(theory.mean_step(algorithm, gradient))) < 4.5 * errors)


def worst(key, losses, parent_loss):
    return jnp.argmax(losses)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: theory.drift(mutagrad.greedy(1.0, mutation=mutagrad.mutation.scaled(2.0)), 1.0),
            "got scaled gaussian",
        ),
        (
            lambda: theory.drift(mutagrad.mutation_selection(mutagrad.mutation.gaussian(), worst, 3), 1.0),
            "got user selection, which states no law",
        ),
        (
            lambda: theory.drift(mutagrad.greedy(1.0, mutation=lambda key, x: x), 1.0),
            "got user mutations, which state no law",
        ),
        (
            lambda: theory.mean_loss_rate(
                mutagrad.mutation_selection(mutagrad.mutation.gaussian(), worst, 3), 1.0, hessian_trace=2.0
            ),
            "got user selection, which states no law",
        ),
    ],
)
def test_what_has_no_known_law_is_refused(call, words):
    with pytest.raises(ValueError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
