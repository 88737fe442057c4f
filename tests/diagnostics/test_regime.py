"""Regimes pooled over a run: bias, coverage of the standard errors, sampling noise, M = 1, and what a run leaves out.

The parent stands still on the loss of tests/test_estimates.py, so that slope, curvature and noise are known and the same in
every generation.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import mutagrad
import mutagrad.report  # the sentences that findings print as
from mutagrad.diagnostics import findings, regime
from mutagrad.diagnostics.plans import promised_decrease
from mutagrad.lab.claims.quadratics import power_law

SIZE, BATCH, TAU, SIGMA = 100, 16, 2.0, 0.05
CURVATURES = np.linspace(0.5, 1.5, SIZE)
POINT = np.linspace(-0.6, 0.9, SIZE)
TRUTH = {
    "hessian_trace": CURVATURES.sum(),
    "squared_grad_norm": np.sum((CURVATURES * POINT) ** 2) + SIGMA**2 * np.sum(CURVATURES**2) / 2,
    "squared_grad_noise": np.sum((CURVATURES * TAU) ** 2) / BATCH,
}
TRUTH["squared_batch_grad_norm"] = TRUTH["squared_grad_norm"] + TRUTH["squared_grad_noise"]
TRUTH["normalized_mutation_strength"] = SIGMA * TRUTH["hessian_trace"] / TRUTH["squared_batch_grad_norm"] ** 0.5
TRUTH["signal"] = (TRUTH["squared_grad_norm"] / TRUTH["squared_batch_grad_norm"]) ** 0.5
# Of a batch's own slope g + n: g·Hg + E[n·Hn], and what the cubes of the curvatures add.
TILT = np.sum(CURVATURES**3 * (POINT**2 + TAU**2 / BATCH)) + SIGMA**2 * np.sum(CURVATURES**3) / 3
TRUTH["skewness"] = 3 * SIGMA * TILT / TRUTH["squared_batch_grad_norm"] ** 1.5
TRUTH["noise_scale"] = BATCH * TRUTH["squared_grad_noise"] / TRUTH["squared_grad_norm"]


def stay(key, losses, parent_loss):
    return jnp.asarray(-1)


def losses(params, centres):
    return jnp.sum(jnp.asarray(CURVATURES, jnp.float32)[None] * jnp.square(params[None] - centres), axis=1) / 2


def fresh(key):
    return TAU * jax.random.normal(key, (BATCH, SIZE))


@pytest.fixture(
    scope="module", params=[(1, 400), (2, 200), (5, 100), (20, 60), (100, 20)], ids=lambda pair: f"M={pair[0]}"
)
def histories(request):
    """200 histories of a parent that stays where it is, of M offspring and so many generations: (200, generations) each."""
    num_offspring, number = request.param
    algorithm = mutagrad.mutation_selection(mutagrad.mutation.gaussian(), stay, num_offspring, sigma=SIGMA)

    @jax.jit
    @jax.vmap
    def run(key):
        def generation(state, key):
            batch_key, step_key = jax.random.split(key)
            state, info = algorithm.step(step_key, state, partial(losses, centres=fresh(batch_key)))
            return state, mutagrad.default_record(state, info)

        return jax.lax.scan(generation, algorithm.init(jnp.asarray(POINT, jnp.float32)), jax.random.split(key, number))[
            1
        ]

    return jax.device_get(run(jax.random.split(jax.random.key(num_offspring), 200)))


def test_bias_and_coverage(histories):
    """Of 200 runs: means within 4.4 standard errors, 95 % intervals by Student's t of 19 degrees that hold the truth."""
    found = [regime({name: values[row] for name, values in histories.items()}) for row in range(200)]
    fewest, most = stats.binom.ppf([1e-6, 1 - 1e-6], 200, 0.95)
    for name, truth in TRUTH.items():
        values = np.array([getattr(one, name).value for one in found])
        errors = np.array([getattr(one, name).error for one in found])
        is_known = np.isfinite(values)
        # Ratios of pooled sums have a bias of the order of their variance, far below one run's error.
        bias = values[is_known].mean() - truth
        assert abs(bias) < 4.4 * values[is_known].std() / 200**0.5 + 0.2 * np.median(errors), (name, bias, truth)
        covered = np.sum(np.abs(values - truth) < stats.t.ppf(0.975, 19) * errors)
        print(
            f"{name}: truth {truth:.4g}, mean {values[is_known].mean():.4g}, error {np.median(errors):.3g}, "
            f"standard deviation {values[is_known].std():.3g}, covered {covered}"
        )
        assert fewest <= covered <= most, (name, covered)
    assert all(one.success.value == pytest.approx(one.predicted_success.value, abs=0.15) for one in found)


def history_of(num_offspring, num_generations, batches=fresh, sigma=SIGMA, loss_fn=losses, seed=0):
    algorithm = mutagrad.elitist(sigma, num_offspring)
    start = jnp.asarray(POINT, jnp.float32)
    return mutagrad.evolve(
        jax.random.key(seed), algorithm, start, loss_fn, num_generations, batches, progress=False
    ).history


def test_a_batch_that_stays_has_no_noise():
    fixed = fresh(jax.random.key(0))
    still = history_of(4, 300, batches=None, loss_fn=partial(losses, centres=fixed))
    found = regime(still)
    assert found.squared_grad_noise.value == 0
    assert found.signal.value == 1
    assert np.isnan(found.noise_scale.value)
    assert regime(history_of(4, 300)).squared_grad_noise.value > 0


def test_windows_follow_the_run():
    found = regime(history_of(20, 400, sigma=0.02), num_windows=10)
    assert found.generation.tolist() == [20 + 40 * window for window in range(10)]
    slopes = found.squared_grad_norm.value
    assert np.all(np.diff(slopes[:3]) < 0)
    # TrH is constant, whatever else changes; ten windows, a false alarm in 10⁴ runs.
    trace = found.hessian_trace
    assert np.all(np.abs(trace.value - CURVATURES.sum()) < stats.t.ppf(1 - 1e-5, 19) * trace.error)
    assert regime(history_of(20, 50), num_windows=40).generation.shape == (2,)


def test_generations_without_offspring_are_left_out():
    history = {name: np.array(values) for name, values in history_of(20, 200).items()}
    kept = np.arange(200) % 7 != 0
    damaged = {name: values.astype(float) for name, values in history.items()}
    for name in (
        "hessian_trace",
        "squared_grad_norm",
        "squared_grad_noise",
        "gradient_curvature",
        "normalized_mutation_strength",
    ):
        damaged[name][~kept] = np.nan
    found, expected = regime(damaged), regime({name: values[kept] for name, values in history.items()})
    assert found.number == kept.sum()
    for name in ("normalized_mutation_strength", "squared_grad_norm"):
        np.testing.assert_allclose(getattr(found, name)[:2], getattr(expected, name)[:2], rtol=1e-12)


@pytest.mark.parametrize("num_offspring", [1, 10])
def test_mutation_strengths_may_differ(num_offspring):
    """Asked for one window, TrH is fitted to all generations, those of large σ weighing most, while σ falls a hundredfold."""
    algorithm = mutagrad.mutation_selection(mutagrad.mutation.gaussian(), stay, num_offspring)
    algorithm = mutagrad.schedule_sigma(algorithm, lambda t: 0.1 * 0.99 ** t.astype(jnp.float32))
    start = jnp.asarray(POINT, jnp.float32)
    run = mutagrad.evolve(jax.random.key(1), algorithm, start, losses, 460, fresh, progress=False)
    found = regime(run.history, 1)
    for name in ("hessian_trace", "squared_batch_grad_norm"):
        (value,), (error,), _ = getattr(found, name)
        truth = TRUTH[name] - (name != "hessian_trace") * SIGMA**2 * np.sum(CURVATURES**2) / 2
        assert abs(value - truth) < stats.t.ppf(1 - 1e-5, 19) * error
        assert error < 0.35 * truth
    assert abs(found.skewness.value[0]) < 0.1 + stats.t.ppf(1 - 1e-5, 19) * found.skewness.error[0]
    # Otherwise the last generations over which σ falls by a factor of 3: ln 3/ln(1/0.99) of them.
    ending = regime(run.history)
    assert (ending.number, ending.num_given) == (110, 460)
    assert ending.sigma_range[1] <= 3 * ending.sigma_range[0]
    assert f"Used: the last {ending.number} of 460 generations" in str(ending)


def test_bad_histories_get_one_line():
    history = history_of(2, 5)
    for wrong, words in (
        (
            {name: values for name, values in history.items() if name != "hessian_trace"},
            "history: got one without 'hessian_trace'",
        ),
        ({name: values[:1] for name, values in history.items()}, "history: got 1 generations; pass two or more"),
        (3, "history: got one without 'sigma'"),
    ):
        with pytest.raises(ValueError, match=words) as error:
            regime(wrong)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="num_windows: got 0"):
        regime(history, num_windows=0)


@pytest.mark.parametrize("num_offspring", [1, 5, 20, 100])
@pytest.mark.parametrize("strength", [0.01, 0.3, 1.5, 5.0])
def test_decrease_is_what_slope_and_curvature_promise(num_offspring, strength):
    """On a quadratic of 1000 curvatures from ½ to 3/2: within 10 % of the promise, or 4.4 errors where few succeed.

    200 generations at fixed σ, the promise from the run's own losses; the slope, and with it s, changes by 5 % or less but for
    M = 20 and 100 at s = 0.3 and 1.5, where windows of 25 generations follow it.
    """
    curvatures = jnp.linspace(0.5, 1.5, 1000)
    start = jnp.ones(1000)
    sigma = strength * float(jnp.linalg.norm(curvatures)) / 1000
    algorithm = mutagrad.elitist(sigma, num_offspring)
    result = mutagrad.evolve(
        jax.random.key(int(100 * strength)),
        algorithm,
        start,
        lambda x: curvatures * x**2 / 2 * 1000,
        200,
        progress=False,
    )
    found = regime(result.history, num_windows=8)
    promised = promised_decrease(algorithm.definition, found)
    measured, error = found.decrease.value.sum(), np.sqrt(np.sum(found.decrease.error**2))
    assert abs(measured - promised.sum()) < max(0.1 * promised.sum(), 4.4 * error)
    first = result.history["loss"][0]
    np.testing.assert_allclose(
        200 * measured / 8, first - (result.history["loss"][-1] + result.history["loss_change"][-1]), rtol=1e-3
    )


@pytest.mark.parametrize("strength", [0.3, 2.0, 5.0])
def test_skewness_takes_its_share_of_the_decrease(strength):
    """With curvatures 1/k a few dominate. What 100 offspring show promises their decrease within 10 % or 4.4 errors.

    Normal losses would promise up to three times as much. All 400 generations are the first one.
    """
    one = power_law(1000, 1.0, "even")
    algorithm = mutagrad.elitist(one.sigma(strength), 100)
    keys = jax.random.split(jax.random.key(int(10 * strength)), 400)
    state = algorithm.init(one.start)
    step = jax.jit(lambda key: mutagrad.default_record(*algorithm.step(key, state, one.losses, is_resampled=False)))
    found = regime(jax.device_get(jax.lax.map(step, keys)))
    promised = float(promised_decrease(algorithm.definition, found))
    normal = float(promised_decrease(algorithm.definition, found, normal=True))
    allowed = 4.4 * found.decrease.error
    assert abs(found.decrease.value - promised) < max(0.1 * promised, allowed)
    if strength > 1:
        assert found.skewness.value > 4.4 * found.skewness.error
        assert found.decrease.value < normal - allowed


def test_the_loop_tells_whether_noise_counts():
    """Examples differ all along, but a generation on all the data, as the record says, has the loss's own slope."""
    number = 400
    constant = {"sigma": 0.1, "success": 0.4, "hessian_trace": 1.0, "squared_grad_norm": 4.0, "squared_grad_noise": 1.0}
    constant |= {"gradient_curvature": 1.0, "loss_change": 0.0, "validated_change": np.nan, "num_examples": 8}
    history = {name: np.full(number, value) for name, value in constant.items()}
    history["is_resampled"] = np.arange(number) < number // 2
    found = regime(history, 4)
    np.testing.assert_allclose(found.squared_grad_noise.value, [1, 1, 0, 0])
    np.testing.assert_allclose(found.squared_grad_norm.value, [3, 3, 4, 4])
    np.testing.assert_allclose(found.noise_scale.value, [8 / 3, 8 / 3, np.nan, np.nan])


def test_batches_of_two_sizes_count_by_their_harmonic_mean():
    """TrC = 24 and |g|² = 3 whatever B is: the noise scale is 8."""
    examples = np.where(np.arange(100) % 2 == 0, 4, 12)
    history = {
        name: np.ones(100) for name in ("sigma", "success", "hessian_trace", "gradient_curvature", "loss_change")
    }
    history |= {"squared_grad_noise": 24 / examples, "squared_grad_norm": 3 + 24 / examples, "num_examples": examples}
    history |= {"validated_change": np.full(100, np.nan), "is_resampled": np.ones(100, bool)}
    assert regime(history).noise_scale.value == pytest.approx(8)


def test_decrease_of_recombination_is_the_validated_one():
    """The next parent is no candidate: on one batch the losses of parents tell what the record must say, step for step."""
    fixed = fresh(jax.random.key(0))
    algorithm = mutagrad.weighted_recombination(0.05, 6)
    start = jnp.asarray(POINT, jnp.float32)
    run = mutagrad.evolve(jax.random.key(1), algorithm, start, partial(losses, centres=fixed), 60, progress=False)
    assert not np.isfinite(run.history["loss_change"]).any()
    fell = run.history["loss"][0] - run.history["loss"][-1]
    later = {name: values[1:] for name, values in run.history.items()}  # the first generation has none before it
    assert regime(later).decrease.value == pytest.approx(fell / 59, rel=1e-4)


@pytest.mark.parametrize("sigma", [1.0, 50.0])
def test_where_hardly_any_offspring_succeeds_no_best_sigma_is_named(sigma):
    """Far out curvature is all that the losses show, and σTrH/|∇U| no longer grows with σ: s looks moderate."""
    curvatures = jnp.arange(1.0, 31.0) ** -0.5
    algorithm = mutagrad.elitist(sigma=sigma, num_offspring=20)
    result = mutagrad.evolve(
        jax.random.key(0), algorithm, jnp.zeros(30), lambda x: jnp.sum((x - 1.0) ** 2 * curvatures), 200, progress=False
    )
    found = {one.name: one for one in findings(regime(result.history, algorithm=algorithm))}
    assert math.isnan(found["best mutation scale"].estimate.value)
    assert "far fewer offspring succeed" in found["best mutation scale"].follows
    assert found["mutation scale"].follows == ""
