"""What the claims of Whitelam 2026 are made of: effects of mutations, gains, next orders, curvatures and a test of power laws."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mutagrad import theory
from mutagrad.lab.claims.quadratics import gains, mutation_effects, power_law, sphere_effects
from mutagrad.lab.claims.whitelam2026 import course, gauge, laws, networks, rank, spectrum, strength

pytestmark = pytest.mark.permissive


def test_gains_are_the_mean_over_all_choices():
    """Against disjoint generations of the same normal numbers, and exactly where there is one choice."""
    values = np.random.default_rng(0).standard_normal((50, 2000))
    mean = gains(values, 5).mean()
    error = gains(values, 5).std(ddof=1) / math.sqrt(50)
    assert abs(mean - theory.best_of_moment(5)) < 4 * error
    assert gains(values[0], 2000) == pytest.approx(values[0].max())
    assert gains(values[0], 1) == pytest.approx(np.maximum(values[0], 0).mean())


def test_effects_are_those_of_mutations():
    """s A + ½s²B is the change of the loss in its unit, on a quadratic far from round."""
    quadratic = power_law(20, 1.0)
    slopes, costs = mutation_effects(jax.random.key(0), quadratic, 3)
    sigma, s = quadratic.sigma(0.7), 0.7
    for index, key in enumerate(jax.random.split(jax.random.key(0), 3)):
        z = jax.random.normal(key, (20,))
        change = quadratic.loss(quadratic.start + sigma * z) - quadratic.loss(quadratic.start)
        expected = s * slopes[index] + s**2 / 2 * costs[index]
        assert float(change / quadratic.unit_of_gain) == pytest.approx(float(expected), rel=1e-4)


def test_the_law_of_the_sphere_is_that_of_mutations():
    drawn = mutation_effects(jax.random.key(1), power_law(30, 0.0), 20_000)
    law = sphere_effects(np.random.default_rng(1), 30, (20_000,))
    for one, other in zip(drawn, law, strict=True):
        assert stats.ks_2samp(np.asarray(one), other).pvalue > 1e-3


def test_an_even_start_shares_the_loss():
    quadratic = power_law(50, 1.3, "even")
    shares = quadratic.curvatures * quadratic.start**2
    np.testing.assert_allclose(shares, 1, rtol=1e-5)
    assert quadratic.gradient_norm**2 == pytest.approx(quadratic.trace, rel=1e-5)
    with pytest.raises(ValueError, match="start: got 'flat'; pass one of even, ones"):
        power_law(5, 1.0, "flat")


def test_the_control_variate_does_not_move_the_mean():
    quadratic = power_law(100, 1.0)
    slopes, costs = (
        np.asarray(part, float).reshape(20, -1) for part in mutation_effects(jax.random.key(2), quadratic, 20_000)
    )
    plain = strength.mean_gains(slopes, costs, [1.0], 5)[:, 0]
    controlled = strength.controlled_gains(slopes, costs, [1.0], 5, strength.curvature_along(quadratic))[:, 0]
    difference = plain - controlled
    assert abs(difference.mean()) < 4 * difference.std(ddof=1) / math.sqrt(20)
    assert controlled.std() < plain.std() / 2


def test_gain_at_rank_is_that_of_its_model():
    """Against choices among drawn mutations with the curvatures that the model gives them; G_M(s) without them."""
    random = np.random.default_rng(3)
    slopes, noise = random.standard_normal((2, 20, 20_000))
    along, participation = 0.1, 10.0
    costs = 1 + along * (slopes**2 - 1) + math.sqrt(2 * (1 / participation - along**2)) * noise
    blocks = strength.mean_gains(slopes, costs, [0.5, 1.5], 5)
    expected = [laws.gain_at_rank(s, 5, along, participation) for s in (0.5, 1.5)]
    mean, error = strength.mean_over_blocks(blocks)
    assert np.all(np.abs(mean - expected) < 4 * error)
    for number in (1, 20):
        assert laws.gain_at_rank(1.3, number) == pytest.approx(float(theory.expected_gain(1.3, number)), rel=1e-5)


def test_s_from_losses_is_unbiased():
    """On the sphere at s = 1 both estimates are the s that was set; without its correction the ratio is 4 % too large."""
    sphere = power_law(100, 0.0)
    trace, squares = gauge.exact_traces(sphere.loss, sphere.start)
    assert (trace, squares) == pytest.approx((100, 100))
    place = gauge.Place(sphere.losses, sphere.start, sphere.gradient_norm, trace, trace**2 / squares)
    values, errors = gauge.measured_at(place, sphere.sigma(1.0), 20, 2000, jax.random.key(11)).T
    assert gauge.ratio_bias(20) == pytest.approx(1.0414, abs=1e-3)
    # A hundred coordinates: the variance of ΔU has s⁴/(2N) in it.
    expected = 1 / math.sqrt(1 + 1 / 200)
    assert abs(values[0] - expected) < 4 * errors[0]
    assert abs(values[1] / gauge.ratio_bias(20) - expected) < 4 * errors[1] + 0.003


def test_lanczos_finds_what_the_whole_hessian_has(monkeypatch):
    curvatures = jnp.concatenate([jnp.arange(1.0, 201.0) ** -1.0, -jnp.ones(20)])
    nothing = jnp.zeros(0)

    def found():
        return networks.curvatures(lambda x, *_: curvatures * x, jnp.ones(220), 10, jax.random.key(0), nothing, nothing)

    whole = found()
    np.testing.assert_allclose(whole.eigenvalues, 1 / np.arange(1, 11), rtol=1e-5)
    assert whole.trace == pytest.approx(float(curvatures.sum()), abs=1e-3)
    monkeypatch.setattr(networks, "_DENSE", 100)
    by_lanczos = found()
    np.testing.assert_allclose(by_lanczos.eigenvalues, whole.eigenvalues, rtol=1e-2)
    # Of a diagonal Hessian every probe of signs is the trace.
    assert by_lanczos.trace == pytest.approx(whole.trace, abs=1e-3)


def test_the_distance_of_spacings_is_kolmogorovs_and_sees_a_bend():
    """Shares of spacings are uniform for a power law of independent values, whatever the exponent; a bend of them is seen."""
    spacings = np.random.default_rng(5).standard_exponential(90)
    shares = (np.cumsum(spacings) / spacings.sum())[:-1]
    assert spectrum.distance(spacings) == pytest.approx(stats.kstest(shares, "uniform").statistic)
    assert spectrum.distance(3 * spacings) == pytest.approx(spectrum.distance(spacings))
    null = spectrum.null_distances(90, 2000)
    assert abs(np.quantile(null, 0.95) - stats.kstwo.ppf(0.95, 89)) < 0.01
    weak, error = spectrum.power_against(10, 100, 1000)
    assert 0.05 + 3 * error < weak < 1


def test_exact_gradient_descent_and_the_mean_course():
    """The losses of gradient descent are those of its steps, and the mean course of a sphere gains G_M(s) a generation."""
    law, quadratic = rank._law(30, 0.5, "ones", 3), power_law(30, 0.5)
    x = np.asarray(quadratic.start, float)
    for loss in law.losses:
        assert float(quadratic.loss(x)) == pytest.approx(loss, rel=1e-5)
        x = x - np.asarray(quadratic.curvatures) * x
    sphere = power_law(10_000, 0.0)
    s, number = 1.0, 20
    fall = 10 * float(theory.expected_gain(s, number)) * sphere.unit_of_gain
    start = float(sphere.loss(sphere.start))
    found = course.mean_course(10_000, 0.0, "ones", start - fall, s, number, 100)
    assert found.generations == pytest.approx(10, rel=0.01)


def test_the_mean_course_sees_the_rank_and_how_far_runs_scatter():
    """Against runs on λ = k^−0.8 of 30 coordinates, where the rank moves the mean by a tenth: nearer to it than without."""
    settings = rank._SLOWDOWN["quick"] | {"sizes": (30,), "runs": (400,), "steps": 2}
    law, quadratic = rank._law(30, 0.8, "even", 2), power_law(30, 0.8, "even")
    keys = jax.random.split(jax.random.key(17), 1600)
    most, s = rank._most(settings, 30, 0.8, "even"), round(law.best(20)[0], 6)
    losses = np.asarray(jax.vmap(lambda key: rank._run(key, *quadratic, s, 20, most))(keys), float)
    generations, error = course.measured_crossing(losses, law.losses[2])
    ranked, plain = (rank._course(settings, 30, 0.8, "even", 2, one) for one in (True, False))
    assert abs(generations - ranked.generations) < abs(generations - plain.generations) / 3
    assert abs(generations - plain.generations) > 6 * error
    assert error * 40 == pytest.approx(ranked.error, rel=0.2)


def test_growths_exclude_an_exponent_off_by_a_tenth():
    """The intervals of W26-3 at scale quick are narrower than the factor N^0.1 of its sizes, on either side."""
    settings = rank._SLOWDOWN["quick"]
    for exponent, start in rank._grid(settings):
        _, room, _ = rank._growth_interval(settings, exponent, start)
        assert room < math.log(settings["sizes"][-1] / settings["sizes"][0]) / 10


def test_laws_of_spheres_are_those_of_mutations():
    """Gain and success on spheres of few dimensions are exact, those of many are G_M(s) and Φ(−s/2)."""
    slopes, costs = sphere_effects(np.random.default_rng(3), 8, (20, 20_000))
    for s, number in ((1.0, 1), (2.0, 20)):
        blocks = gains(-s * slopes - s**2 / 2 * costs, number)
        error = blocks.std(ddof=1) / math.sqrt(20)
        assert abs(laws.gain_on_sphere(s, number, 8) - blocks.mean()) < 4 * error
        assert abs(laws.success_on_sphere(s, 8) - np.mean(slopes < -s / 2 * costs)) < 4 / math.sqrt(4 * slopes.size)
        assert laws.gain_on_sphere(s, number, 10**6) == pytest.approx(float(theory.expected_gain(s, number)), rel=1e-4)
