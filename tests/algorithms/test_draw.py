"""Draws by weight: exact chances, however many weights there are and however they are divided."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mutagrad
from mutagrad.algorithms.genomes import draw

by_weight = jax.jit(draw.by_weight)


def whole(pair):
    high, low = (np.asarray(word).astype(object) for word in pair)
    return high * 2**32 + low


def chances(weights):
    """(D, m) the chance of each weight in its row: the length of its interval, exact, over that of the row."""
    ends = whole(draw._sums(jnp.asarray(weights, jnp.float32)))
    lengths = np.diff(ends, axis=1, prepend=0)
    return np.asarray(lengths / ends[:, -1:], float)


@pytest.mark.parametrize("rows", [1, 1024])
@pytest.mark.parametrize("spread", [1e-4, 1e-2])
def test_chances_follow_small_differences_of_large_populations(rows, spread):
    """131,072 weights: differences of 10⁻⁴ are told as they are, to the digits that float32 has of the weights."""
    weights = np.exp(spread * np.random.default_rng(0).standard_normal((rows, 2**17 // rows))).astype(np.float32)
    law = weights / weights.sum(axis=1, keepdims=True, dtype=float)
    np.testing.assert_allclose(chances(weights), law, rtol=3e-7)


def test_the_smallest_difference_of_float32_is_told():
    weights = np.ones((1, 2**17), np.float32)
    weights[0, 77_777] = 1 - 2.0**-24
    found = chances(weights)[0]
    assert abs((1 - found[77_777] / found[0]) * 2**24 - 1) < 1e-6


def test_a_weight_of_zero_is_never_drawn():
    rng = np.random.default_rng(1)
    weights = rng.random((4, 2**15)).astype(np.float32) * (rng.random((4, 2**15)) < 0.8)
    np.testing.assert_array_equal(chances(weights) == 0, weights == 0)


def test_genomes_that_failed_have_no_offspring():
    """131,072 genomes of small differences, a fifth of which failed. Their number of births was 26 in 40 generations."""
    number = 2**17
    algorithm = mutagrad.population(0.1, 1e-3, number, 0.0, capacity=32)
    losses = np.random.default_rng(2).random(number).astype(np.float32)
    losses[np.random.default_rng(3).random(number) < 0.2] = np.nan
    state = algorithm.init(jnp.zeros(1))
    for generation in range(2):
        _, info = algorithm.tell(jax.random.key(generation), state, losses)
        assert np.isfinite(losses[np.asarray(info.turnover.parents)]).all()


def test_draws_have_their_chances():
    """Counts of 20,000 draws from each of three rows by Pearson's χ² of 14 degrees of freedom: false alarms 10⁻⁵."""
    weights = jnp.array([[1.0, 0, 2, 3, 1e-12, 4], [5, 1, 0, 0, 1, 1], [1, 1, 1, 1, 1, 1]]) * jnp.array(
        [[1e-20], [1], [1e20]]
    )
    rows = jnp.repeat(jnp.arange(3), 20_000)
    drawn = by_weight(jax.random.key(0), weights, rows)
    np.testing.assert_array_equal(drawn // 6, rows)
    counts = np.bincount(drawn, minlength=18)
    law = 20_000 * chances(weights).ravel()
    assert not counts[law == 0].any()
    assert np.sum((counts - law)[law > 0] ** 2 / law[law > 0]) < 49.0


@pytest.mark.parametrize(("word", "expected"), [(0, [2, 5]), (2**32 - 1, [2, 6])])
def test_the_ends_have_no_more_than_their_fitness(monkeypatch, word, expected):
    """The lowest number that can be drawn and the highest: neither is of a genome without fitness to speak of."""
    monkeypatch.setattr(draw.jax.random, "bits", lambda key, shape, dtype: jnp.full(shape, word, dtype))
    weights = jnp.array([[1e-30, 0.0, 1.0, 1e-30], [1e-30, 1.0, 1.0, 0.0]])
    assert draw.by_weight(jax.random.key(0), weights, jnp.array([0, 1])).tolist() == expected


def test_the_part_of_a_total_is_that_of_whole_numbers():
    rng = np.random.default_rng(4)
    pairs = rng.integers(0, 2**32, (2, 2, 1000), dtype=np.uint32)
    pairs[0, :, :4] = [[0, 0, 2**32 - 1, 2**32 - 1], [1, 2**32 - 1, 0, 2**32 - 1]]
    pairs[1, :, :4] = 2**32 - 1
    total, chance = (tuple(map(jnp.asarray, pair)) for pair in pairs)
    found = draw._part(total, chance)
    assert (whole(found) == whole(total) * whole(chance) // 2**64).all()


@pytest.mark.parametrize("size", [1, 64, 65])
def test_every_weight_can_be_drawn(size):
    weights = jnp.ones((2, size))
    drawn = by_weight(jax.random.key(5), weights, jnp.repeat(jnp.arange(2), 40 * size))
    assert len(np.unique(drawn)) == 2 * size


def test_draws_in_double_precision_are_those_in_single():
    weights = np.random.default_rng(6).random((2, 50)).astype(np.float32)
    rows = np.repeat([0, 1], 100)
    single = by_weight(jax.random.key(7), jnp.asarray(weights), jnp.asarray(rows))
    with jax.enable_x64(True):
        double = by_weight(jax.random.key(7), jnp.asarray(weights, float), jnp.asarray(rows))
    assert double.dtype == single.dtype == np.int32
    np.testing.assert_array_equal(double, single)
