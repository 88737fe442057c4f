"""diagnose on losses of which slope, curvature, noise and rank are known; σ found from far off; the sentences; refusals."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import mutagrad
from mutagrad import theory
from mutagrad.diagnostics import findings
from mutagrad.diagnostics.landscape import flatness, update_angles
from mutagrad.diagnostics.plans import optimum
from mutagrad.diagnostics.probes import Prober, landscape

SIZE, BATCH, TAU = 200, 32, 1.5
CURVATURES = np.linspace(0.5, 1.5, SIZE)
POINT = jnp.linspace(-0.6, 0.9, SIZE)
TRACE = CURVATURES.sum()
CENTRES = TAU * jax.random.normal(jax.random.key(1), (BATCH, SIZE))
GRADIENTS = CURVATURES * (np.asarray(POINT) - np.asarray(CENTRES))
SLOPE = np.sum(GRADIENTS.mean(axis=0) ** 2)
NOISE = np.sum(GRADIENTS.var(axis=0, ddof=1)) / BATCH


def losses(params, centres):
    return jnp.sum(jnp.asarray(CURVATURES, jnp.float32)[None] * jnp.square(params[None] - centres), axis=1) / 2


def diagnose(**options):
    return mutagrad.diagnose(jax.random.key(0), losses, POINT, batch=CENTRES, **options)


def test_pairs_are_unbiased_and_their_errors_cover():
    """200 sets of 32 pairs at s = 1.3: neither curvature in the slope nor slope in the curvature."""
    prober = Prober(jax.random.key(3), losses, POINT, mutagrad.mutation.gaussian(), CENTRES)
    sigma = 1.3 * SLOPE**0.5 / TRACE
    found = [landscape(prober.pairs(sigma, 32), BATCH) for _ in range(200)]
    # A Student t of 31 degrees is close; of squares of normals the tail is a little heavier.
    fewest, most = stats.binom.ppf([1e-6, 1 - 1e-6], 200, 0.945)
    truths = {
        "hessian_trace": TRACE,
        "squared_batch_grad_norm": SLOPE,
        "squared_grad_noise": NOISE,
        "squared_grad_norm": SLOPE - NOISE,
        "normalized_mutation_strength": 1.3,
        "curvature_along": np.sum(CURVATURES * GRADIENTS.mean(axis=0) ** 2) / (SLOPE * TRACE),
    }
    for name, truth in truths.items():
        values, errors = np.array([getattr(one, name)[:2] for one in found]).T
        assert abs(values.mean() - truth) < 4.4 * values.std() / 200**0.5 + 0.2 * np.median(errors), name
        covered = np.sum(np.abs(values - truth) < stats.t.ppf(0.975, 31) * errors)
        print(f"{name}: truth {truth:.4g}, mean {values.mean():.4g}, error {np.median(errors):.3g}, covered {covered}")
        assert fewest - 6 <= covered <= most, (name, covered)
    ratio = np.array([one.participation_ratio.value for one in found])
    assert np.median(ratio) == pytest.approx(TRACE**2 / np.sum(CURVATURES**2), rel=0.15)


@pytest.mark.parametrize("start", [1e-4, 1e-2, 1.0, 1e2, 1e4])
def test_sigma_is_found_from_far_off(start):
    best = theory.optimal_strength(20) * SLOPE**0.5 / TRACE
    found = diagnose(sigma=start * best, resampled=False)
    plan = found.plans[0]
    assert found.has_optimum
    assert found.current.sigma.value == pytest.approx(start * best)
    # s has a standard error of an eighth with 32 pairs.
    assert abs(plan.sigma.value - best) < 4.5 * plan.sigma.error
    assert plan.sigma.error < 0.25 * best
    gain = optimum(20)[1] * SLOPE / TRACE
    assert abs(plan.gain.value - gain) < 4.5 * plan.gain.error
    words = {1e-4: "too small", 1e-2: "too small", 1.0: "right", 1e2: "too large", 1e4: "too large"}
    assert {one.name: one.follows for one in findings(found)}["mutation scale"] == words[start]
    assert f"is {words[start]}: the best for (1+20)" in str(found)


def test_noise_makes_the_best_sigma_smaller_and_names_a_batch():
    fixed, drawn = diagnose(resampled=False), diagnose()
    share = 1 - NOISE / SLOPE
    assert drawn.best.signal.value == pytest.approx(share**0.5, abs=4.5 * drawn.best.signal.error)
    assert drawn.plans[0].sigma.value < fixed.plans[0].sigma.value
    assert drawn.plans[0].gain.value < fixed.plans[0].gain.value
    scale = BATCH * NOISE / (SLOPE - NOISE)
    assert abs(drawn.batch_size.value - scale) < 4.5 * drawn.batch_size.error + 0.2 * scale
    assert "Of batches of 32 like this one" in str(drawn)
    assert "If these 32 are a sample" in str(fixed)


def test_gradient_gives_the_effective_rank():
    found = diagnose(use_gradient=True, num_workers=8, resampled=False)
    rank = TRACE / CURVATURES.max()
    # Twelve Lanczos steps come within a few percent of λ_max in a flat spectrum.
    assert found.effective_rank.value == pytest.approx(rank, rel=0.1)
    assert found.slowdown.value == pytest.approx(found.effective_rank.value / (2 * optimum(20)[1]))
    assert "A step of gradient descent gains at least as much as" in str(found)
    assert found.plans[2].num_offspring == 7
    bounded = diagnose(resampled=False)
    assert bounded.largest_eigenvalue is None
    assert bounded.effective_rank.value > 0.8 * rank
    assert "gains at most as much as" in str(bounded)


def test_prediction_of_the_gain_and_of_the_forecast():
    """(1+20) at the recommended σ lowers the loss as predicted, and reaches the forecast decrease in between."""
    found = diagnose(resampled=False)
    algorithm = mutagrad.elitist(found.plans[0].sigma.value, 20)

    def loss_fn(params):
        return losses(params, CENTRES)

    state = algorithm.init(POINT)

    @jax.jit
    @jax.vmap
    def decrease(key):
        after, info = algorithm.step(key, state, loss_fn)
        return info.parent_loss - jnp.mean(loss_fn(after.params))

    gains = np.asarray(decrease(jax.random.split(jax.random.key(5), 400)))
    error = np.hypot(gains.std() / 20, found.plans[0].gain.error)
    assert abs(gains.mean() - found.plans[0].gain.value) < 4.5 * error
    assert found.forecast.decrease == pytest.approx(found.loss / 10)
    assert found.forecast.soonest < found.forecast.latest


@pytest.mark.parametrize(
    ("loss_fn", "words"),
    [
        (jnp.sum, "No curvature was met"),
        (lambda x: jnp.zeros(()) * jnp.sum(x), "The loss is flat"),
        (lambda x: jnp.sum(jnp.where(x > 0, 1.0, 0.0)), "cannot be compared"),
        (lambda x: -jnp.sum(x**2), "No curvature was met"),
    ],
)
def test_losses_without_an_optimum_are_told(loss_fn, words):
    found = mutagrad.diagnose(
        jax.random.key(0), loss_fn, jnp.ones(30), mutagrad.greedy(0.1), use_gradient=words[0] == "c"
    )
    assert words in str(found)
    assert "nan" not in str(found)


def test_mutants_that_fail_make_sigma_smaller():
    def loss_fn(x):
        return jnp.where(jnp.max(jnp.abs(x)) > 3.0, jnp.nan, jnp.sum(x**2) / 2)

    found = mutagrad.diagnose(jax.random.key(0), loss_fn, jnp.ones(100), sigma=1e3)
    assert found.current is None
    assert found.plans[0].sigma.value == pytest.approx(1.892 / 10, rel=0.5)


def test_the_algorithm_says_what_is_meant():
    mutation = mutagrad.mutation.masked({"a": True, "b": False, "n": False})
    algorithm = mutagrad.elitist(sigma=0.02, num_offspring=5, mutation=mutation)
    params = {"a": jnp.ones(50), "b": jnp.ones(50), "n": jnp.arange(3)}

    def loss_fn(p):
        return jnp.sum(p["a"] ** 2) / 2 + 100 * jnp.sum(p["b"] ** 2)

    found = mutagrad.diagnose(jax.random.key(0), loss_fn, params, algorithm, num_pairs=64)
    assert (found.num_offspring, found.current.sigma.value) == (5, 0.02)
    assert abs(found.current.hessian_trace.value - 50) < 4.5 * found.current.hessian_trace.error
    again = mutagrad.diagnose(jax.random.key(0), loss_fn, params, algorithm, num_pairs=64)
    np.testing.assert_array_equal(again.best.hessian_trace[:2], found.best.hessian_trace[:2])


def test_leaves_that_do_not_mutate_have_no_say():
    """The same best σ, rounding and rank as without them, though they are stiff and large."""
    mutation = mutagrad.mutation.masked({"a": True, "frozen": False})
    rule = mutagrad.adapt_sigma(mutagrad.elitist(0.1, 20, mutation=mutation))

    def loss_fn(p):
        return jnp.sum(p["a"] ** 2) / 2 + 100 * jnp.sum((p.get("frozen", 1e6) - 1e6) ** 2)

    both = mutagrad.diagnose(
        jax.random.key(0), loss_fn, {"a": jnp.ones(50), "frozen": jnp.full(50, 1e6)}, rule, use_gradient=True
    )
    alone = mutagrad.diagnose(jax.random.key(0), loss_fn, {"a": jnp.ones(50)})
    assert both.kind.name == "smooth"
    assert both.largest_eigenvalue.value == pytest.approx(1, rel=0.02)
    assert both.effective_rank.value == pytest.approx(alone.best.hessian_trace.value, rel=0.03)
    assert both.plans[0].sigma.value == pytest.approx(alone.plans[0].sigma.value, rel=1e-3)
    assert both.rounds_below == pytest.approx(alone.rounds_below, rel=1e-3)


def test_algorithms_that_take_turns_are_refused_in_one_line():
    one = mutagrad.elitist(sigma=0.1, num_offspring=5)
    turns = mutagrad.rotate(one, lambda x: jnp.roll(x, 1), 3)
    with pytest.raises(ValueError, match="algorithm: got groups of parameters that take turns") as error:
        mutagrad.diagnose(jax.random.key(0), lambda x: jnp.sum(x**2), jnp.ones(3), turns)
    assert "\n" not in str(error.value)


def test_an_adapted_sigma_is_asked_for_as_an_argument():
    algorithm = mutagrad.adapt_sigma(mutagrad.elitist(sigma=0.1, num_offspring=5))
    loss_fn, start = (lambda x: jnp.sum(x**2)), jnp.ones(50)
    without = mutagrad.diagnose(jax.random.key(0), loss_fn, start, algorithm)
    assert without.current is None
    assert str(without).startswith("The best σ for (1+5) is ")
    assert mutagrad.diagnose(jax.random.key(0), loss_fn, start, algorithm, sigma=0.1).current.sigma.value == 0.1


def test_figure_is_an_image(tmp_path):
    path = tmp_path / "diagnosis.png"
    diagnose().figure(path)
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_offspring": 0}, "num_offspring: got 0"),
        ({"sigma": -1.0}, "sigma: got -1.0"),
        ({"num_workers": 0}, "num_workers: got 0"),
        ({"num_pairs": 3}, "num_pairs: got 3"),
        ({"decrease": 0.0}, "decrease: got 0.0"),
        ({"cost_per_evaluation": -2.0}, "cost_per_evaluation: got -2.0"),
        (
            {"algorithm": mutagrad.weighted_recombination(sigma=0.1, num_offspring=20), "num_offspring": 100},
            "num_offspring: got 100 for recombination, whose 20 weights",
        ),
        (
            {"algorithm": mutagrad.truncation(0.1, 20, 5), "num_offspring": 3},
            "num_offspring: got 3 for truncation to 5; pass at least",
        ),
    ],
)
def test_bad_arguments_get_one_line(options, words):
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        mutagrad.diagnose(jax.random.key(0), lambda x: jnp.sum(x**2), jnp.ones(3), **options)
    assert "\n" not in str(error.value)


def of_zeros(loss_fn, offspring):
    return jnp.zeros(len(offspring))


@pytest.mark.parametrize(
    "evaluation", [mutagrad.sharded(), mutagrad.evaluation.Evaluator(of_zeros), mutagrad.contest()]
)
def test_evaluators_that_would_not_be_used_are_refused_in_one_line(evaluation):
    for look, options in ((mutagrad.diagnose, {}), (flatness, {"normalize": "leaf"}), (update_angles, {"sigma": 0.1})):
        with pytest.raises(ValueError, match=r"^evaluation: got an Evaluator that JAX traces, [^\n]*$"):
            look(jax.random.key(0), lambda x: jnp.sum(x**2), jnp.ones(3), evaluation=evaluation, **options)
    found = mutagrad.diagnose(jax.random.key(0), lambda x: jnp.sum(x**2), jnp.ones(30), sigma=0.1, evaluation="mapped")
    assert found.has_optimum


def test_a_loss_that_is_not_finite_at_the_start():
    with pytest.raises(ValueError, match="loss_fn: got nan at the params"):
        mutagrad.diagnose(jax.random.key(0), lambda x: jnp.nan * jnp.sum(x), jnp.ones(3))


# Of 100 curvatures the slope lies along the largest, a quarter of all: recombination of 100 pays for it some 25 times over.
STEEP = jnp.full(100, 1.0).at[0].set(33.0)


def steep(params):
    return jnp.sum(STEEP * jnp.square(params)) / 2


@pytest.mark.parametrize("factor", [0.1, 1.0, 1.0 / 3.0 * 26, 100.0])
def test_best_sigma_of_recombination_counts_curvature_along_the_slope(factor):
    """Best is A|g|/TrH/(W + ρ(A₂ − W)) by theory; without ρ it would be 26 times larger, where every step overshoots."""
    start, weights = jnp.zeros(100).at[0].set(1.0), 100
    trace, slope, along = float(STEEP.sum()), 33.0, 33.0 / float(STEEP.sum())
    strengths = np.geomspace(1e-3, 10, 2000)
    gains = np.asarray(theory.recombination_gain(strengths.astype(np.float32), weights, along))
    best = float(strengths[np.argmax(gains)]) * slope / trace
    algorithm = mutagrad.weighted_recombination(factor * best, weights)
    found = mutagrad.diagnose(jax.random.key(1), steep, start, algorithm, num_pairs=256)
    told = {one.name: one for one in findings(found)}
    most = told["best mutation scale"].estimate.value
    least = told["least best mutation scale"].estimate.value if "least best mutation scale" in told else most
    assert least / 1.5 < best < 1.5 * most
    assert most < 3 * best
    verdict = told["mutation scale"].follows
    assert verdict.endswith({0.1: "too small", 1.0: "right"}.get(factor, "too large"))


def test_where_curvature_along_the_slope_is_hardly_told_there_is_a_range():
    algorithm = mutagrad.weighted_recombination(0.01, 100)
    found = mutagrad.diagnose(jax.random.key(1), lambda x: x @ x, jnp.ones(400), algorithm)
    told = {one.name: one for one in findings(found)}
    assert told["least best mutation scale"].estimate.value < 0.5 * told["best mutation scale"].estimate.value
    assert "is a σ between" in str(found)
    assert "its gains are upper bounds" in str(found)
    assert found.forecast is None
