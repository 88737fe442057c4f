"""Losses on which a diagnosis is easily wrong: minima of exactly 0, mutants that fail, noise that falls, steps, low rank."""

import pickle
import re
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mutagrad
import mutagrad.report  # sentences in place of tables
from mutagrad import mutation
from mutagrad.diagnostics import findings, forecast, loss_kind, regime
from mutagrad.diagnostics.in_python import Candidates
from mutagrad.diagnostics.kind import Rung, kind_of
from mutagrad.diagnostics.probes import Pairs, Prober
from mutagrad.diagnostics.prospects import measured_gain
from mutagrad.diagnostics.survey import survey

KEY, SIZE = jax.random.key(0), 50
ONES = jnp.ones(SIZE)
ALGORITHM = mutagrad.elitist(0.1, 20)


def in_python(loss_fn, start, algorithm=ALGORITHM, batch=None, **options):
    return mutagrad.diagnose(KEY, loss_fn, start, algorithm, batch=batch, evaluation=mutagrad.executor(**options))


def test_a_minimum_of_exactly_zero_is_one():
    """At params that are 1 the mutants are rounded, though the loss of the parent is 0 and has no digits."""
    prober = Prober(KEY, lambda x: jnp.sum((x - 1) ** 2), ONES, mutation.gaussian())
    for sigma in (1.0, 0.1, 0.01):
        kinds = {survey(prober.with_key(jax.random.key(key)), sigma, None, 16).kind.name for key in range(4)}
        assert kinds == {"minimum"}
    found = mutagrad.diagnose(KEY, lambda x: jnp.sum((x - 1) ** 2), ONES, ALGORITHM)
    assert "There is no slope here" in str(found)
    assert "TrH" not in str(found)
    # A slope of a hundredth of the curvature is none of rounding.
    beside = Prober(KEY, lambda x: jnp.sum((x - 1.001) ** 2), ONES, mutation.gaussian())
    assert survey(beside, 0.1, None, 16).kind.name == "smooth"


class Sending(ThreadPoolExecutor):
    """Threads that are sent what processes would be sent."""

    def submit(self, fn, /, *args, **kwargs):
        fn, args = pickle.loads(pickle.dumps((fn, args)))
        return super().submit(fn, *args, **kwargs)


def apart(x, batch):
    return np.square(np.asarray(x, np.float64) - batch).sum(axis=1)


def test_a_loss_of_a_batch_is_sent_to_workers_as_in_a_run():
    batch = np.linspace(-1, 1, 4)[:, None]
    with Sending(1) as pool:
        sent = in_python(apart, ONES, pool=pool, batch=batch)
    here = in_python(apart, ONES, batch=batch)
    assert sent.kind.name == here.kind.name == "smooth"
    assert sent.plans[0].sigma == here.plans[0].sigma


def half_fails(x):
    return jnp.where(jnp.sum(x - 1) > 0, jnp.nan, jnp.sum(x**2))


def test_mutants_that_fail_are_counted():
    for found in (mutagrad.diagnose(KEY, half_fails, ONES, ALGORITHM), loss_kind(KEY, half_fails, ONES, 0.1)):
        text = str(found)
        assert re.search(r"50 % of mutants failed from σ = (1e-05|1e-05|0.0001) on", text), text
        assert not any(words in text for words in ("pass num_pairs", "The larger σ", "linear", "unknown"))
    # Beyond 1 in one direction a third of the mutants of σ = 1 fail, and none of σ = 0.1.
    some = loss_kind(KEY, lambda x: jnp.where(jnp.abs(x[0]) > 1, jnp.nan, jnp.sum(x**2)), 0 * ONES + 0.1, 1.0)
    assert some.name == "smooth"
    assert some.fails_from == 1.0
    assert 0.1 < some.failed < 0.6
    assert "of mutants failed (NaN or infinite), from σ = 1 on" in str(some)


def test_where_no_mutant_is_finite_it_is_refused():
    def loss_fn(x):
        return jnp.where(jnp.all(x == 1), 1.0, jnp.nan) * jnp.sum(x)

    for ask in (lambda: mutagrad.diagnose(KEY, loss_fn, ONES, ALGORITHM), lambda: loss_kind(KEY, loss_fn, ONES, 0.1)):
        with pytest.raises(ValueError, match=r"loss_fn: got no finite loss of a mutant, from σ = .* to 0\.1; check"):
            ask()


def simulate(rng):
    """Noise that shrinks with the distance from 1, and a landscape that differs with it."""
    along = np.random.default_rng(5).normal(size=8)

    def loss_fn(x):
        distance = np.linalg.norm(x - 1) / 8**0.5
        return float(100 + 45 * np.tanh(3 * distance) * np.sin(7 * along @ x) + 27 / (1 + distance) ** 2 * rng.normal())

    return loss_fn


def test_noise_that_falls_with_the_distance_is_not_all_there_is():
    found = in_python(simulate(np.random.default_rng(0)), np.ones(8, np.float32), mutagrad.elitist(0.3, 20))
    assert found.kind.name != "noise"
    assert "whatever σ is" not in str(found)
    assert 0.3 <= found.kind.differs_from <= 10
    rng = np.random.default_rng(1)
    alone = in_python(lambda x: float(rng.normal()), np.ones(8, np.float32), mutagrad.elitist(0.3, 20))
    assert alone.kind.name == "noise"
    assert np.isnan(alone.kind.differs_from)


@pytest.mark.parametrize("growth", [1.0, 2.0])
def test_spreads_that_grow_are_not_whatever_sigma_is(growth):
    rng, sigmas = np.random.default_rng(0), np.geomspace(1e-3, 1, 4)
    sizes = np.linspace(1, growth, 4)
    rungs = [
        Rung(sigma, size * rng.standard_normal(64), rng.standard_normal(64))
        for sigma, size in zip(sigmas, sizes, strict=True)
    ]
    kind, _ = kind_of(rungs, 0.0, 1.0)
    assert (kind.name == "noise") == (growth == 1)


def test_scores_in_steps_are_not_contradicted():
    """Where σ_r is not told from 0 it is not printed, nor a share of slope, nor a place where the slope shows."""
    rng = np.random.default_rng(0)
    inputs, weights = rng.normal(size=(178, 10)), rng.normal(size=10)
    labels = np.sign(inputs @ weights + 0.5 * rng.normal(size=178))
    start = (weights + 0.5).astype(np.float32)
    found = in_python(lambda x: float(np.mean(np.sign(inputs @ x) != labels)), start)
    assert found.kind.name == "rough"
    told = {one.name: one.follows for one in findings(found)}
    text = str(found)
    assert (told["slope drowns below"] == "not told") == ("below some σ" in text)
    for value, error in ((0.0, 0.008), (0.08, 0.15), (0.08, 0.01)):
        drowns = found.kind.drowns_below._replace(value=value, error=error)
        kind = found.kind._replace(drowns_below=drowns, has_slope=True)
        text = str(found._replace(kind=kind, plans=(), has_optimum=False, effective_rank=None, forecast=None))
        is_told = value > 2 * error
        assert ("below some σ" in text) != is_told
        assert ("of the variance of a mutant's loss is slope" in text) == is_told
        assert ("above σ = " in text) == is_told
        assert "= 0 ± " not in text.split("\n")[1]


def test_a_mean_over_one_of_many_batches_has_no_best_sigma():
    def mean(x, rows):
        return jnp.mean(jnp.sum((x[None] - rows) ** 2, axis=1))

    rows = jax.random.normal(KEY, (16, SIZE))
    found = mutagrad.diagnose(KEY, mean, ONES, ALGORITHM, batch=rows)
    assert found.plans == ()
    assert found.gain is None
    assert found.forecast is None
    assert str(found).startswith("No best σ is known: the loss is a mean over a batch")
    assert "No best σ" not in str(mutagrad.diagnose(KEY, mean, ONES, ALGORITHM, batch=rows, resampled=False))


def test_the_gain_of_few_curvatures_is_the_measured_one():
    """Of 300 sets of 64 pairs on s = 2 and three equal curvatures: unbiased, and two errors hold the truth."""
    rng, rule = np.random.default_rng(0), mutagrad.elitist(1.0, 20).definition

    def change(noise):
        return 2 * noise.sum(-1) / 3**0.5 + np.square(noise).sum(-1) / 3

    truth = np.maximum(0, -change(rng.normal(size=(4000, 20, 3))).min(axis=1)).mean()
    found = []
    for _ in range(300):
        noise = rng.normal(size=(64, 3))
        plus, minus = change(noise), change(-noise)
        pairs = Pairs(1.0, (plus - minus) / 2, (plus + minus) / 2, 0 * plus)
        found.append(measured_gain(pairs, rule)[:2])
    values, errors = np.array(found).T
    assert abs(values.mean() - truth) < 4.4 * values.std() / 300**0.5 + 0.01 * truth
    # Binomial, of 300 at 0.95, by chance in 10⁻⁴.
    assert np.sum(np.abs(values - truth) < 2 * errors) >= 269
    assert measured_gain(pairs, rule._replace(num_offspring=50)) is None


def test_gains_of_a_loss_that_is_positive_are_no_larger_than_it():
    inputs = jax.random.normal(jax.random.key(3), (200, 4))
    labels = jnp.sign(inputs @ jnp.array([1.0, 2.0, -1.0, 0.5]))
    algorithm = mutagrad.elitist(0.5, 20)

    def loss_fn(x):
        return jnp.mean(jnp.logaddexp(0, -labels * (inputs @ x)))

    found = mutagrad.diagnose(KEY, loss_fn, jnp.zeros(4), algorithm)
    state = algorithm.init(jnp.zeros(4))
    step = jax.jit(jax.vmap(lambda key: algorithm.step(key, state, loss_fn)[1].loss_change))
    truth = -float(np.mean(step(jax.random.split(jax.random.key(1), 400))))
    assert abs(found.gain.value - truth) < 3 * found.gain.error
    assert found.gains_are_bounds
    assert all(one.gain.value <= found.loss for one in found.plans)
    assert found.forecast is None
    assert "at most" in str(found)
    # With no more than 64 mutants of σ what a hundred gain is bounded, not measured.
    many = mutagrad.diagnose(KEY, loss_fn, jnp.zeros(4), algorithm, 100)
    assert np.isnan(many.gain.error)
    assert truth < many.gain.value <= many.loss


def test_a_run_of_categories_has_no_best_sigma():
    algorithm = mutagrad.elitist(0.3, 20, mutation=mutation.discrete(mutation.categories(range(5))))
    start = jnp.zeros(40, jnp.int32)
    run = mutagrad.evolve(KEY, algorithm, start, lambda x: jnp.sum(x != 3).astype(float), 60, progress=False)
    text = str(regime(run.history, algorithm=algorithm))
    assert "No best σ is known: " in text
    assert "mutations state no law" in text
    assert "gains most" not in text
    with pytest.raises(ValueError, match="there are no other params to diagnose"):
        loss_kind(KEY, lambda x: jnp.sum(x != 3).astype(float), start, 0.3, mutation=algorithm.definition.mutation)


def test_discrete_params_are_looked_at_from_one_mutation_a_mutant_on():
    own, start = mutation.discrete(range(-50, 51)), jnp.full(100, 20, jnp.int32)

    def loss_fn(x):
        return jnp.sum(jnp.square(x.astype(float) / 10))

    found = loss_kind(KEY, loss_fn, start, 1e-3, mutation=own)
    assert found.name == "smooth"
    assert found.sigmas[0] == pytest.approx(0.1)
    told = mutagrad.diagnose(KEY, loss_fn, start, mutagrad.elitist(1e-4, 20, mutation=own))
    assert "hardly a mutant differs from its parent: σ is too small for a mutation" in str(told)
    assert loss_kind(KEY, loss_fn, jnp.ones(100), 1e-9).name == "rounding"


@pytest.mark.parametrize(
    "loss", [np.ones(300), np.zeros(300), np.concatenate([np.ones(60), np.full(900, 0.5)])], ids=["1", "0", "levelled"]
)
def test_a_constant_loss_has_levelled_off(loss):
    found = forecast({"loss": loss})
    assert found.generations == np.inf
    assert "has levelled off at" in str(found)


def test_a_forecast_that_tells_nothing_says_so():
    found = forecast({"loss": np.concatenate([np.ones(200), np.linspace(1, 0.5, 300)])})
    assert (found.soonest < 1 and found.latest == np.inf) == ("this run does not tell" in str(found))
    never = found._replace(soonest=300.0, generations=np.inf, latest=np.inf)
    assert "more likely levels off before" in str(never)
    assert "0 and never" not in str(found) + str(never)
    with pytest.raises(ValueError, match="decrease: got none for a loss that is 0 now"):
        forecast({"loss": np.concatenate([np.linspace(1, 0.01, 400), np.zeros(100)])})


def test_generations_that_failed_are_counted():
    run = mutagrad.evolve(KEY, ALGORITHM, ONES, lambda x: jnp.sum(x**2), 40, progress=False)
    history = dict(run.history)
    failed, loss = np.array(history["num_nonfinite"]), np.array(history["loss"])
    failed[3:6], loss[5:8] = 2, np.nan
    found = regime(history | {"num_nonfinite": failed, "loss": loss}, algorithm=ALGORITHM)
    assert found.num_failed == 5
    assert "In 5 generations an offspring, or the parent, had a NaN or infinite loss." in str(found)
    assert "NaN" not in str(regime(history, algorithm=ALGORITHM))


def test_stacked_candidates_have_the_axes_of_offspring():
    """A mutated integer has an axis even where no mutant differs, and one that stays has none."""
    start = {"x": np.ones(3, np.float32), "n": np.arange(2), "fixed": np.asarray(7)}
    own = mutation.discrete({"x": False, "n": range(9), "fixed": False})
    noise = jax.eval_shape(own.sample_fn, KEY, start)
    stacked = Candidates(5, lambda index: start, noise).stacked()
    algorithm = mutagrad.elitist(1e-3, 4, mutation=own)
    expected = algorithm.ask(KEY, algorithm.init(start)).stacked()
    assert jax.tree.map(np.shape, stacked) == jax.tree.map(np.shape, expected)


def boom(x):
    raise RuntimeError("boom")


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (
            lambda: in_python(boom, ONES),
            "loss_fn: got nan at the params, before any mutation; it raised RuntimeError: boom",
        ),
        (lambda: in_python(lambda x: 1j, ONES), "loss_fn: got complex128 back; return floating losses"),
        (
            lambda: mutagrad.diagnose(KEY, lambda x: (jnp.sum(x), 1), ONES),
            "loss_fn: got a tuple back; return a floating",
        ),
        (lambda: mutagrad.diagnose(KEY, 3, ONES), "loss_fn: got 3; pass a function"),
        (
            lambda: mutagrad.diagnose(KEY, lambda x, y: 0, ONES),
            "loss_fn: got one that cannot be called as loss_fn(params)",
        ),
        (lambda: mutagrad.diagnose(KEY, jnp.sum, ONES, sigma=1e39), "sigma: got 1e+39; pass a number from"),
        (lambda: loss_kind(KEY, jnp.sum, ONES, 1e-50), "sigma: got 1e-50; pass a number from"),
        (lambda: loss_kind(KEY, jnp.sum, ONES, 0.1, mutation="g"), "mutation: got 'g'; pass a mutation"),
        (lambda: loss_kind(KEY, jnp.sum, ONES, 0.1, mutation=ALGORITHM), "mutation: got Algorithm("),
        (lambda: loss_kind(KEY, lambda x: jnp.sum(x) * jnp.nan, ONES, 0.1), "loss_fn: got nan at the params"),
    ],
    ids=["raises", "complex", "tuple", "3", "arity", "large σ", "small σ", "word", "algorithm", "NaN"],
)
def test_bad_input_gets_one_line(ask, words):
    with pytest.raises(ValueError, match="^" + re.escape(words)) as error:
        ask()
    assert "\n" not in str(error.value)
