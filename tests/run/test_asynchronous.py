"""A steady state: who is judged against whom, by NumPy and by `evolve`, and what σ makes of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from steady_pool import KEY, Shuffled, quadratic, slope

import mutagrad


@pytest.mark.parametrize(("number", "in_order"), [(1, True), (3, False), (7, False), (7, True)])
def test_who_is_judged_against_whom(number, in_order):
    """NumPy, told the mutants in the order of their births and who ended when, has the same parents."""
    pool = Shuffled(number, 0, 152, in_order)
    result = mutagrad.evolve_asynchronously(
        KEY,
        mutagrad.elitist(0.5, 5),
        {"x": np.zeros(2), "n": np.arange(3)},
        slope,
        30,
        evaluation=mutagrad.executor(pool),
        num_in_flight=number,
        progress=False,
    )
    pool.is_over = True
    assert result.num_evaluations == len(pool.order) == 152
    assert result.history["loss"].shape == (30,)
    # Nobody is born before the parent is known, and each as soon as somebody has ended.
    assert [born for born, _ in pool.born[2 : 2 + number]] == [2] * number
    assert [born for born, _ in pool.born[2 + number :]] == list(range(3, 153 - number))
    parent, accepted, noise = np.zeros(2, np.float32), 0, {}
    for ended, index in enumerate(pool.order):
        for one, (born, candidate) in enumerate(pool.born):
            if born == ended and one >= 2:
                noise[one] = candidate["x"] - parent
        if index >= 2 and pool.born[index][1]["x"][0] <= parent[0]:
            parent, accepted = pool.born[index][1]["x"], accepted + 1
    np.testing.assert_array_equal(result.params["x"], parent)
    np.testing.assert_array_equal(result.params["n"], np.arange(3))
    assert result.history["num_accepted"].sum() == accepted
    assert result.history["loss"].min() == result.history["loss"][-1] == np.float32(parent[0])
    # Mutations are normal and their σ is 0.5: each is a difference to the parent of the moment of birth.
    drawn = np.concatenate([noise[one] for one in sorted(noise)])
    assert abs(np.mean(drawn**2) / 0.25 - 1) < 5 * np.sqrt(2 / len(drawn))
    assert len(np.unique(drawn)) == len(drawn)


def test_one_at_a_time_is_evolve_bit_for_bit():
    """With one offspring a generation, each is judged against its parent."""
    algorithm, params = mutagrad.elitist(0.3, 1), {"x": np.ones(4, np.float32)}
    ours = mutagrad.evolve_asynchronously(KEY, algorithm, params, quadratic, 60, progress=False)
    theirs = mutagrad.evolve(KEY, algorithm, params, quadratic, 60, evaluation=mutagrad.executor(), progress=False)
    np.testing.assert_array_equal(ours.params["x"], theirs.params["x"])
    np.testing.assert_array_equal(ours.history["success"], theirs.history["success"])
    np.testing.assert_array_equal(ours.history["is_accepted"], theirs.history["is_accepted"])


def test_staleness_is_what_ended_since_birth():
    pool = Shuffled(4, 0, 102, in_order=True)
    result = mutagrad.evolve_asynchronously(
        KEY,
        mutagrad.elitist(0.5, 5),
        {"x": np.zeros(2)},
        slope,
        20,
        evaluation=mutagrad.executor(pool),
        num_in_flight=4,
        progress=False,
    )
    pool.is_over = True
    # In order: three others end between, but for the first four.
    assert result.history["staleness"][0] == np.float32((0 + 1 + 2 + 3 + 3) / 5)
    np.testing.assert_array_equal(result.history["staleness"][1:], 3.0)


@pytest.mark.parametrize("number", [1, 6])
def test_automatic_sigma_finds_its_way(number):
    """From a σ that is 10⁴ times too small, or 10² times too large, to a 200th of the loss; s near the best in the end."""
    for sigma in (1e-5, 30.0):
        pool = Shuffled(number, 1, 2502)
        result = mutagrad.evolve_asynchronously(
            KEY,
            mutagrad.adapt_sigma(mutagrad.elitist(sigma, 10)),
            {"x": np.ones(20, np.float32)},
            quadratic,
            250,
            evaluation=mutagrad.executor(pool) if number > 1 else None,
            num_in_flight=number,
            progress=False,
        )
        pool.is_over = True
        assert quadratic(result.params) < 0.1
        assert 0.3 < np.median(result.history["normalized_mutation_strength"][100:]) < 4


def test_a_plateau_is_left_alone_by_automatic_sigma():
    """σ grows, and the parent stays; with a fixed σ the parent drifts along it."""

    def flat(params):
        return 1.0

    start = {"x": np.zeros(3, np.float32)}
    adapted = mutagrad.adapt_sigma(mutagrad.elitist(0.1, 5))
    kept = mutagrad.evolve_asynchronously(KEY, adapted, start, flat, 20, progress=False)
    np.testing.assert_array_equal(kept.params["x"], 0)
    assert kept.history["sigma"][-1] > 0.1
    drifted = mutagrad.evolve_asynchronously(KEY, mutagrad.elitist(0.1, 5), start, flat, 20, progress=False)
    assert drifted.history["num_accepted"].sum() == 100


def test_per_example_losses_and_other_dtypes():
    params = {"w": jnp.ones(4, jnp.bfloat16), "n": jnp.asarray([3, 4], jnp.int32), "deep": [np.ones((2, 2))]}

    def loss_fn(params):
        assert params["n"].dtype == np.int32
        assert str(params["w"].dtype) == "bfloat16"
        return np.square(np.asarray(params["w"], np.float32)) + np.sum(params["deep"][0] ** 2)

    result = mutagrad.evolve_asynchronously(KEY, mutagrad.elitist(0.1, 5), params, loss_fn, 30, progress=False)
    assert np.mean(loss_fn(jax.tree.map(np.asarray, result.params))) < 4
    assert result.params["w"].dtype == jnp.bfloat16
