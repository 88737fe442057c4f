"""Genomes: bits and masks against their laws, and what a population of genomes makes of a table of mutations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mutagrad
from mutagrad.algorithms.genomes import bits


@given(seed=st.integers(0, 2**32 - 1), number=st.sampled_from([1, 3]), words=st.sampled_from([1, 2, 5]))
@settings(max_examples=20, deadline=None)
def test_bits_come_back(seed, number, words):
    carried = np.random.default_rng(seed).random((number, 32 * words)) < 0.5
    packed = bits.pack(jnp.asarray(carried))
    assert packed.shape == (number, words)
    np.testing.assert_array_equal(bits.unpack(packed), carried)
    np.testing.assert_array_equal(bits.column_counts(packed), carried.sum(axis=0))
    for slot in (0, 31, 32 * words - 1):
        word, bit = bits.bit_of(jnp.asarray([slot]))
        assert bool(packed[0, word[0]] & bit[0]) == carried[0, slot]


@pytest.mark.parametrize("share", [0.0, 2**-24, 0.01, 0.3, 0.5, 0.75, 1 - 2**-24, 1.0])
def test_bits_of_a_mask_have_their_probability(share):
    """Each by itself: counts of a word and of a place in it, within 4.5 standard errors."""
    mask = np.asarray(bits.unpack(bits.random_mask(jax.random.key(3), (2000, 4), share))).astype(float)
    error = np.sqrt(share * (1 - share) / mask.size)
    assert abs(mask.mean() - share) <= 4.5 * error + 2**-24
    assert np.all(
        np.abs(mask.mean(axis=0) - share)
        <= 4.5 * np.sqrt(share * (1 - share) / 2000) + 2**-24 + 1 / 2000 * (share < 1e-3)
    )
    if 0 < share < 1 and 0.01 <= share <= 0.99:
        pairs = np.mean((mask[:, :-1] - share) * (mask[:, 1:] - share)) / (share * (1 - share))
        assert abs(pairs) < 4.5 / np.sqrt(mask[:, 1:].size)


@pytest.mark.parametrize("rate", [0.0, 0.5, 20.0])
def test_blocks_of_a_chromosome(rate):
    """Two places at a distance d are of different parents with probability ½(1 − e^{−2Rd}); each is of either alike."""
    number = 20_000
    positions = jnp.asarray(np.random.default_rng(0).permutation(np.linspace(0.05, 0.95, 32)))
    mask = np.asarray(bits.unpack(bits.crossover_mask(jax.random.key(1), number, positions, rate)))
    assert np.all(np.abs(mask.mean(axis=0) - 0.5) < 4.5 * 0.5 / np.sqrt(number))
    for first, second in ((0, 1), (3, 30), (7, 20)):
        law = (1 - np.exp(-2 * rate * abs(float(positions[first] - positions[second])))) / 2
        found = np.mean(mask[:, first] != mask[:, second])
        assert abs(found - law) <= 4.5 * np.sqrt(law * (1 - law) / number)


PARAMS = {"w": jnp.ones((2, 3)), "count": jnp.asarray(7), "half": jnp.ones(4, jnp.bfloat16)}


def loss(params):
    return jnp.sum(params["w"] ** 2) + jnp.sum(params["half"].astype(jnp.float32) ** 2)


@pytest.fixture(scope="module")
def populated():
    """An algorithm, and its state after 40 generations."""
    algorithm = mutagrad.population(sigma=0.1, beta=1.0, population_size=30, mutation_rate=0.2)
    state, key = algorithm.init(PARAMS), jax.random.key(0)
    for generation in range(40):
        state, info = algorithm.step(jax.random.fold_in(key, generation), state, loss)
    return algorithm, state, info


def test_genomes_are_ancestor_and_effects(populated):
    """One at a time, all at once, and by hand from the table; leaves that do not mutate are the ancestor's."""
    algorithm, state, _ = populated
    genomes = algorithm.ask(jax.random.key(9), state)
    stacked, carried = genomes.stacked(), np.asarray(bits.unpack(state.carriers), np.float32)
    assert carried.sum() > 0
    assert stacked["w"].shape == (30, 2, 3)
    by_hand = np.asarray(state.ancestor["w"]) + np.einsum("nl,lij->nij", carried, np.asarray(genomes.effects["w"]))
    np.testing.assert_allclose(stacked["w"], by_hand, rtol=1e-5, atol=1e-6)
    assert stacked["half"].dtype == jnp.bfloat16
    assert stacked["count"].tolist() == 7
    assert genomes.effects["count"] is None
    one = genomes[-1]
    np.testing.assert_allclose(one["w"], stacked["w"][29], rtol=1e-6)
    assert len(list(genomes)) == len(genomes) == 30
    assert repr(genomes).startswith("Genomes(30 genomes, room for ")
    np.testing.assert_array_equal(state.genotypes, carried)
    with pytest.raises(ValueError, match="directions: got a tree"):
        genomes.covariance(jnp.eye(30))
    with pytest.raises(IndexError, match="genomes: got index 30; there are 30"):
        genomes[30]
    np.testing.assert_allclose(genomes.mean()["w"], by_hand.mean(axis=0), rtol=1e-5, atol=1e-6)
    directions = {"w": np.random.default_rng(0).standard_normal((4, 2, 3)), "count": None, "half": np.ones((4, 4))}
    values = by_hand.reshape(30, 6) @ directions["w"].reshape(4, 6).T
    values += (carried @ np.asarray(genomes.effects["half"])) @ directions["half"].T
    np.testing.assert_allclose(genomes.covariance(directions), np.cov(values.T, bias=True), rtol=1e-4, atol=1e-6)


def test_effects_are_standard_normal_times_sigma(populated):
    """The effects of mutations that segregate neutrally are mutations: 4.5 errors of the variance."""
    algorithm = mutagrad.population(sigma=0.3, beta=0.0, population_size=50, mutation_rate=0.5)
    state = algorithm.init(jnp.zeros(500))
    state, _ = algorithm.step(jax.random.key(2), state, lambda x: jnp.sum(x))
    effects = np.asarray(algorithm.ask(jax.random.key(0), state).effects)[np.asarray(state.is_segregating)]
    assert len(effects) > 10
    assert effects.std() == pytest.approx(0.3, rel=4.5 / np.sqrt(2 * effects.size))
    free = np.asarray(algorithm.ask(jax.random.key(0), state).effects)[~np.asarray(state.is_segregating)]
    assert not free.any()


def test_sums_of_state(populated):
    _, state, info = populated
    p = np.asarray(bits.unpack(state.carriers)).mean(axis=0)
    np.testing.assert_allclose(state.frequencies, p, rtol=1e-6)
    assert float(state.heterozygosity) == pytest.approx(float(np.sum(2 * p * (1 - p))), rel=1e-5)
    assert np.all((p > 0) & (p < 1) == np.asarray(state.is_segregating))
    assert int(info.num_segregating) == np.sum(p > 0)
    assert np.all((np.asarray(state.positions) >= 0) & (np.asarray(state.positions) < 1))
    assert state.params is state.ancestor
    assert float(state.with_sigma(jnp.asarray(2.0)).sigma) == 2.0
    assert state.with_params(None) is state


@pytest.mark.parametrize("evaluation", ["mapped", 7, "vectorized"])
def test_ways_of_evaluation_agree(populated, evaluation):
    algorithm, state, _ = populated
    (_, usual), (_, other) = (
        algorithm.step(jax.random.key(4), state, loss, evaluation=one) for one in (None, evaluation)
    )
    np.testing.assert_allclose(usual.losses, other.losses, rtol=1e-5)
    np.testing.assert_array_equal(usual.turnover.parents, other.turnover.parents)
