"""Early rejection: its decisions, its error, what it saves, and what it refuses."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mutagrad
from mutagrad.evaluation import of_batch
from mutagrad.evaluation.rejection import looks, quantile
from mutagrad.theory import examples_evaluated

NUM_PARAMETERS = 40


def linear(params, batch):
    """Linear losses: per-example gradients are the rows of the batch."""
    return batch @ params


def gradients(key, number, noise_scale):
    """(number, N) gradients of mean e₁ and TrC = noise_scale: |g| = 1, so that the noise scale is what its name says."""
    noise = jax.random.normal(key, (number, NUM_PARAMETERS)) * jnp.sqrt(noise_scale / NUM_PARAMETERS)
    return noise.at[:, 0].add(1.0)


def jitted(algorithm, loss_fn):
    return jax.jit(lambda key, state: algorithm.step(key, state, loss_fn, is_resampled=False))


def stepped(algorithm, loss_fn, params, key):
    state = algorithm.init(params)
    return algorithm.step(key, state, loss_fn, is_resampled=False)


def quadratic(params, batch):
    return jnp.sum((params[None] - batch) ** 2, axis=1)


TARGETS = jax.random.normal(jax.random.key(9), (1000, 5))


@pytest.mark.parametrize("rule", [mutagrad.elitist, mutagrad.comma])
def test_with_no_error_allowed_it_is_the_run_without(rule):
    plain = rule(sigma=0.1, num_offspring=6)
    early = mutagrad.early_rejection(plain, error=0, part_size=64)
    data = mutagrad.minibatches(TARGETS)

    def record(state, info):
        return {"winner": info.winner, "loss": info.parent_loss, "num_examples": info.num_examples}

    def run(algorithm):
        return mutagrad.evolve(
            jax.random.key(0), algorithm, jnp.ones(5), quadratic, 30, data, record=record, progress=False
        )

    a, b = run(plain), run(early)
    np.testing.assert_array_equal(a.history["winner"], b.history["winner"])
    # Sums in another order: 30 roundings of a mean of about 6.
    np.testing.assert_allclose(a.params, b.params, rtol=1e-5)
    np.testing.assert_allclose(a.history["loss"], b.history["loss"], rtol=1e-5)
    assert set(b.history["num_examples"]) == {1000}


def test_a_kept_parent_is_compared_example_by_example():
    plain = mutagrad.elitist(sigma=0.1, num_offspring=6, reevaluate_parent=False)
    early = mutagrad.early_rejection(plain, error=0.01, part_size=64)
    state = early.init(jnp.ones(5), lambda x: quadratic(x, TARGETS))
    step = jitted(early, of_batch(quadratic, TARGETS))
    for generation in range(20):
        state, _ = step(jax.random.key(generation), state)
        np.testing.assert_allclose(state.parent_loss, quadratic(state.params, TARGETS), rtol=1e-5, atol=1e-5)


def test_what_becomes_a_parent_is_no_worse_on_the_whole_batch():
    early = mutagrad.early_rejection(mutagrad.elitist(sigma=0.3, num_offspring=20), error=0.2, part_size=32)
    state, losses, step = early.init(jnp.ones(5)), [], jitted(early, of_batch(quadratic, TARGETS))
    for generation in range(30):
        losses.append(float(jnp.mean(quadratic(state.params, TARGETS))))
        state, info = step(jax.random.key(generation), state)
        # No estimate of one that was rejected is below the winner.
        if info.is_accepted:
            assert int(jnp.argmin(info.loss_differences)) == int(info.winner)
    assert all(after <= before + 1e-5 for before, after in pairwise(losses))


def test_looks_and_quantile():
    assert np.flatnonzero(looks(8)).tolist() == [0, 1, 3]
    assert not looks(1).any()
    # Three looks at a twentieth of 5 % each: Φ⁻¹(1 − 0.05/3), by tables.
    np.testing.assert_allclose(quantile(0.05, 8), 2.128, atol=1e-3)


def test_a_tie_is_dropped_no_more_often_than_stated():
    """Offspring whose mean difference on the whole batch is exactly that of the parent, in random order, 4000 times."""
    number, part, error = 1024, 64, 0.1
    noise = jax.random.normal(jax.random.key(1), (number,))
    noise = noise - jnp.mean(noise)
    # A mutation of one parameter: the mean loss never changes.
    early = mutagrad.early_rejection(mutagrad.elitist(sigma=1.0, num_offspring=1), error=error, part_size=part)
    loss_fn = of_batch(lambda x, batch: x * batch, noise)

    @jax.jit
    def dropped(key):
        _, info = early.step(key, early.init(jnp.zeros(())), loss_fn, is_resampled=False)
        return info.num_examples < number

    share = float(jnp.mean(jax.lax.map(dropped, jax.random.split(jax.random.key(2), 4000))))
    # False-alarm rate 10⁻⁴ (3.7 standard errors); looks overlap, so that the share is below the sum over them.
    slack = 3.7 * np.sqrt(error * (1 - error) / 4000)
    assert share <= error + slack
    # Correlated looks share errors, but half of the bound is used: it does not hold by never dropping anything.
    assert share >= error / 2 - slack


@pytest.mark.parametrize(("num_offspring", "noise_scale"), [(20, 200.0), (4, 20.0)])
def test_share_of_examples_is_that_of_the_law(num_offspring, noise_scale):
    number, part = 2000, 64
    early = mutagrad.early_rejection(mutagrad.elitist(sigma=0.01, num_offspring=num_offspring), part_size=part)

    @jax.jit
    def share(key):
        data_key, step_key = jax.random.split(key)
        loss_fn = of_batch(linear, gradients(data_key, number, noise_scale))
        _, info = early.step(step_key, early.init(jnp.zeros(NUM_PARAMETERS)), loss_fn, is_resampled=False)
        return info.num_examples / number

    found = np.asarray(jax.lax.map(share, jax.random.split(jax.random.key(3), 200)))
    law = float(examples_evaluated(num_offspring, number, noise_scale, part_size=part))
    # 0.02 is what the law says of its own error; 4 standard errors: false-alarm rate 10⁻⁴.
    assert abs(found.mean() - law) < 0.02 + 4 * found.std() / np.sqrt(len(found))


def test_law_at_its_ends():
    assert examples_evaluated(20, 256, 10.0) == 1
    shares = examples_evaluated(20, 60_000, np.geomspace(1e7, 1, 9))
    assert np.all(np.diff(shares) < 0)
    # Of a batch that is all noise the offspring still differ on that batch.
    assert 0.95 < shares[0] < 1
    # With no noise each offspring is judged by one part, but those that are ahead when they come: M harmonic of them.
    assert shares[-1] == pytest.approx((1 + np.sum(1 / np.arange(2, 22))) / 21, abs=0.03)


def test_offspring_that_are_not_finite_are_dropped_at_once():
    def loss_fn(params, batch):
        return jnp.where(params[0] == 1, 0.0, jnp.nan) * batch

    early = mutagrad.early_rejection(mutagrad.elitist(sigma=0.1, num_offspring=4), part_size=50)
    _, info = stepped(early, of_batch(loss_fn, jnp.ones(1000)), jnp.ones(2), jax.random.key(0))
    assert not info.is_accepted
    assert int(info.num_nonfinite) == 4
    assert int(info.num_examples) == (1000 + 4 * 50) // 5


def test_sigma_finds_its_way():
    """Half of the examples, and as far down as the run without."""
    targets = 0.1 * jax.random.normal(jax.random.key(5), (4000, 10))
    plain = mutagrad.elitist(sigma=1e-3, num_offspring=20)
    adapted = {
        early: mutagrad.adapt_sigma(mutagrad.early_rejection(plain, part_size=128) if early else plain)
        for early in (0, 1)
    }

    def final(early, seed):
        result = mutagrad.evolve(
            jax.random.key(seed),
            adapted[early],
            10 * jnp.ones(10),
            quadratic,
            100,
            mutagrad.minibatches(targets),
            progress=False,
        )
        excess = float(jnp.sum((result.params - jnp.mean(targets, axis=0)) ** 2))
        return excess, float(np.mean(result.history["num_examples"]))

    with_early, without = [final(1, seed) for seed in range(2)], [final(0, seed) for seed in range(2)]
    assert np.mean([examples for _, examples in with_early]) < 2000
    # From 1000: both fall by a factor of 10⁴ and more.
    assert max(excess for excess, _ in with_early + without) < 0.1


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: mutagrad.early_rejection(mutagrad.metropolis(sigma=0.1, beta=1.0)), "needs the losses of offspring"),
        (lambda: mutagrad.early_rejection(mutagrad.weighted_recombination(sigma=0.1, num_offspring=8)), "do not win"),
        (
            lambda: mutagrad.early_rejection(mutagrad.adapt_sigma(mutagrad.elitist(sigma=0.1, num_offspring=4))),
            "wrapped already",
        ),
        (lambda: mutagrad.early_rejection(mutagrad.elitist(sigma=0.1, num_offspring=4), error=0.5), "error: got 0.5"),
        (lambda: mutagrad.early_rejection(mutagrad.elitist(sigma=0.1, num_offspring=4), error=True), "error: got True"),
        (
            lambda: mutagrad.early_rejection(mutagrad.elitist(sigma=0.1, num_offspring=4), part_size=8),
            "part_size: got 8",
        ),
        (lambda: mutagrad.early_rejection("elitist"), "algorithm: got 'elitist'"),
    ],
)
def test_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(
    ("loss_fn", "message"),
    [
        (lambda x: jnp.sum(x**2), "without a batch"),
        (of_batch(lambda x, batch: jnp.mean((x[None] - batch) ** 2), jnp.ones((100, 2))), "one loss per example"),
        (of_batch(lambda x, batch: batch[0], (jnp.ones(100), jnp.ones(99))), "got arrays of .99, 100. examples"),
    ],
)
def test_losses_refused(loss_fn, message):
    early = mutagrad.early_rejection(mutagrad.elitist(sigma=0.1, num_offspring=4), part_size=32)
    with pytest.raises(ValueError, match=message):
        stepped(early, loss_fn, jnp.ones(2), jax.random.key(0))


def test_the_algorithm_says_its_settings_and_a_checkpoint_is_of_them(tmp_path):
    def run(number, **settings):
        early = mutagrad.early_rejection(mutagrad.elitist(sigma=0.1, num_offspring=4), **settings)
        assert f"early rejection with error {settings['error']} in parts of {settings['part_size']}" in repr(early)
        batches = mutagrad.minibatches(jnp.ones((100, 2)))
        return mutagrad.evolve(
            jax.random.key(0),
            early,
            jnp.zeros(2),
            lambda x, batch: jnp.sum((x[None] - batch) ** 2, axis=1),
            number,
            batches,
            checkpoint=tmp_path,
            progress=False,
        )

    run(2, error=0.01, part_size=32)
    with pytest.raises(ValueError, match="early rejection with error 0.01"):
        run(4, error=0.1, part_size=32)
    run(4, error=0.01, part_size=32)
