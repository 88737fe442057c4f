"""The batch-size controller: levels against the exact noise scale, the same run however it is cut, and bad arguments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import mutagrad
from mutagrad.run import chunks

SIZES = (16, 128, 1024)
NUMBER, DIMENSIONS = 20_000, 20
CENTERS = jax.random.normal(jax.random.key(1), (NUMBER, DIMENSIONS))
NOISE = float(jnp.sum(jnp.var(CENTERS, axis=0)))
"""TrC: a per-example gradient is x − center."""


def loss_fn(x, centers):
    return jnp.sum(jnp.square(x[None] - centers), axis=1) / 2


def controlled(sizes=SIZES, num_offspring=20, **options):
    batches = mutagrad.minibatches(CENTERS, sizes)
    strength = mutagrad.theory.optimal_strength(num_offspring)
    algorithm = mutagrad.adapt_sigma(mutagrad.elitist(sigma=0.1, num_offspring=num_offspring), target=strength)
    return mutagrad.adapt_batch_size(algorithm, batches, **options), batches


def run(algorithm, batches, generations=600, start=10.0, **options):
    return mutagrad.evolve(
        jax.random.key(0),
        algorithm,
        jnp.full(DIMENSIONS, start),
        loss_fn,
        generations,
        batches,
        progress=False,
        **options,
    )


def signal(x, size):
    """The exact share of signal at x."""
    squared = np.sum(np.square(np.asarray(x) - np.asarray(CENTERS.mean(0))), axis=-1)
    return 1 / (1 + NOISE / size / squared)


def test_the_size_is_that_of_the_exact_noise_scale():
    """The true share of signal over each period says up below ½ and stay above, outside the errors of the estimate."""
    algorithm, batches = controlled()

    def record(state, info):
        return {"x": state.params, "size": info.num_examples, "loss": info.parent_loss}

    history = run(algorithm, batches, record=record).history
    sizes = history["size"]
    assert sizes[0] == SIZES[0]
    assert set(sizes) == set(SIZES)
    decided = 0
    for end in range(100, len(sizes), 100):
        period = slice(end - 100, end)
        assert len(set(sizes[period])) == 1
        level = SIZES.index(sizes[end - 1])
        squared = np.sum(np.square(history["x"][period] - np.asarray(CENTERS.mean(0))), axis=1).mean()
        share = 1 / (1 + NOISE / SIZES[level] / squared)
        # 100 generations of 19 degrees of freedom know |∇U|² within 3.2 %; x moves a little before it is recorded.
        if share < 0.4 and level < 2:
            assert sizes[end] == SIZES[level + 1]
            decided += 1
        elif share > 0.6:
            assert sizes[end] <= SIZES[level]
            decided += 1
    assert decided >= 3


def test_it_comes_down_again_while_the_slope_is_steep():
    batches = mutagrad.minibatches(CENTERS, SIZES)
    algorithm = mutagrad.adapt_batch_size(mutagrad.elitist(0.01, 20), batches)
    state = jax.tree.map(jnp.copy, algorithm.init(jnp.full(DIMENSIONS, 30.0)))._replace(level=jnp.int32(2))
    chunks = list(mutagrad.generations(jax.random.key(0), algorithm, state, loss_fn, 201, batches=batches))
    sizes = np.concatenate([chunk.records["num_examples"] for chunk in chunks])
    assert [sizes[0], sizes[100], sizes[200]] == [1024, 128, 16]


def test_it_ends_lower_than_the_smallest_and_cheaper_than_the_largest():
    algorithm, batches = controlled()
    inner = mutagrad.adapt_sigma(mutagrad.elitist(sigma=0.1, num_offspring=20))
    adapted = run(algorithm, batches)
    small = run(inner, mutagrad.minibatches(CENTERS, SIZES[0]))
    excess = [float(jnp.sum(jnp.square(one.params - CENTERS.mean(0)))) for one in (adapted, small)]
    assert excess[0] < excess[1] / 4
    assert adapted.history["num_examples"].sum() < 600 * SIZES[-1]


@pytest.fixture(scope="module")
def uninterrupted():
    """A run over several periods, its chunks ending where they do by default."""
    return run(*controlled(), 330)


@pytest.mark.parametrize("seconds", [1e-6, 10.0])
def test_the_run_is_the_same_wherever_its_chunks_end(uninterrupted, seconds, monkeypatch):
    monkeypatch.setattr(chunks, "_CHUNK_SECONDS", seconds)
    np.testing.assert_array_equal(run(*controlled(), 330).params, uninterrupted.params)


def test_a_resumed_run_is_the_run_that_was_never_stopped(uninterrupted, tmp_path):
    algorithm, batches = controlled()
    run(algorithm, batches, 150, checkpoint=tmp_path / "run")
    resumed = run(algorithm, batches, 330, checkpoint=tmp_path / "run")
    for one, other in zip(jax.tree.leaves(resumed.state), jax.tree.leaves(uninterrupted.state), strict=True):
        np.testing.assert_array_equal(one, other)


def test_without_losses_of_examples_the_first_size_stays():
    batches = mutagrad.minibatches(CENTERS, SIZES)
    algorithm = mutagrad.adapt_batch_size(mutagrad.elitist(0.01, 8), batches)
    result = mutagrad.evolve(
        jax.random.key(0),
        algorithm,
        jnp.ones(DIMENSIONS),
        lambda x, c: jnp.mean(loss_fn(x, c)),
        250,
        batches,
        progress=False,
    )
    assert int(result.state.level) == 0
    assert set(result.history["num_examples"]) == {1}  # of a mean there is one


def test_several_parents():
    batches = mutagrad.minibatches(CENTERS, (16, 1024))
    algorithm = mutagrad.adapt_batch_size(mutagrad.truncation(0.01, 8, 2), batches)
    result = mutagrad.evolve(
        jax.random.key(0), algorithm, jnp.full(DIMENSIONS, 0.05), loss_fn, 150, batches, progress=False
    )
    assert set(result.history["num_examples"]) == {16, 1024}


def test_all_the_data_may_be_the_last_size():
    batches = mutagrad.minibatches(CENTERS, (16, None))
    assert batches.sizes == (16, NUMBER)
    algorithm = mutagrad.adapt_batch_size(mutagrad.elitist(0.01, 8), batches)
    result = mutagrad.evolve(jax.random.key(0), algorithm, CENTERS.mean(0), loss_fn, 101, batches, progress=False)
    assert result.history["num_examples"][-1] == NUMBER
    np.testing.assert_allclose(result.history["loss"][-1], np.mean(loss_fn(result.params, CENTERS)), rtol=0.01)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: controlled((16,)), r"batch_size: got \(16,\) for 20000 examples; pass two sizes or more"),
        (lambda: controlled((64, 16)), r"batch_size: got \(64, 16\)"),
        (lambda: controlled((16, 0)), "batch_size: got 0"),
        (lambda: controlled((None, 16)), "batch_size: got"),
        (lambda: controlled(16), "batches: got none of several sizes"),
        (lambda: controlled(signal=1.0), "signal: got 1.0; pass a share between 0 and 1"),
        (lambda: controlled(num_offspring=1), "algorithm: got one offspring"),
        (
            lambda: mutagrad.adapt_batch_size(
                mutagrad.elitist(0.1, 4, reevaluate_parent=False), mutagrad.minibatches(CENTERS, SIZES)
            ),
            "algorithm: got reevaluate_parent=False",
        ),
        (
            lambda: run(mutagrad.elitist(0.1, 4), mutagrad.minibatches(CENTERS, SIZES), 1),
            r"batches: got sizes \(16, 128, 1024\) with an algorithm that does not choose among them",
        ),
    ],
)
def test_bad_arguments_are_one_line(make, words):
    with pytest.raises(ValueError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)


def mean_loss(x, centers):
    return jnp.mean(loss_fn(x, centers))


@pytest.mark.parametrize("seeds", [(10,), (10, 11, 12)])
def test_the_next_batch_tells_the_share_of_signal_of_a_mean_loss(seeds):
    """What the next batch confirms of selection differentials, against the exact share, over periods of 100 generations.

    A confirmation has the sampling noise √(1 − share) in units of the spread, and a differential the mean c′₂₀ = 1.87: an error
    of √(1 − share)/18.7. The sum of squared deviations is χ². A measure that is off by a tenth of the spread would be seen.
    """
    batches = mutagrad.minibatches(CENTERS, SIZES)
    algorithm = mutagrad.adapt_batch_size(mutagrad.adapt_sigma(mutagrad.elitist(0.1, 20)), batches)

    def record(state, info):
        share = state.delivered / state.promised
        return {"x": state.params, "level": state.level, "share": share, "noise": state.squared_noise}

    deviations, levels = [], set()
    for seed in seeds:
        history = mutagrad.evolve(
            jax.random.key(seed),
            algorithm,
            jnp.full(DIMENSIONS, 10.0),
            mean_loss,
            1000,
            batches,
            record=record,
            progress=False,
        ).history
        assert np.all(history["noise"] == 0)
        for end in range(100, 1000, 100):
            # The last generation of a period is the one that decides, and forgets.
            level = history["level"][end - 2]
            squared = np.sum(np.square(history["x"][end - 100 : end] - np.asarray(CENTERS.mean(0))), axis=1).mean()
            exact = 1 / (1 + NOISE / SIZES[level] / squared)
            if exact < 0.6:
                levels.add(int(level))
                deviations.append((history["share"][end - 2] - exact) / (np.sqrt(1 - exact) / 18.7))
    assert levels == {0, 1, 2}
    deviations = np.array(deviations)
    assert stats.chi2.sf(np.sum(deviations**2), len(deviations)) > 1e-4
    if len(seeds) > 1:
        assert stats.chi2.sf(np.sum((deviations + 1.87) ** 2), len(deviations)) < 1e-4
