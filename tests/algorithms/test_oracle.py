"""The library against a plain NumPy oracle, winner by winner and bit by bit."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from oracle_problems import (
    ALGORITHMS,
    EXACT,
    TARGETS,
    leaves_of,
    network_loss,
    network_loss_in_numpy,
    network_params,
    network_values_in_numpy,
)

import mutagrad
from mutagrad import mutation as density


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def chance(sample_fn, num_offspring, num_parents, key, params):
    """What the library draws in one generation from ``key``: noise of every offspring, and the selection's draws."""
    mutation_key, selection_key, *rest = jax.random.split(key, 2 if num_parents == 1 else 3)
    draws = {
        "uniform": jax.random.uniform(selection_key),
        "gumbel": jax.random.gumbel(selection_key, (num_offspring + 1,)),
        "parent_of": jnp.zeros(num_offspring, jnp.int32),
    }
    if rest:
        draws["parent_of"] = jax.random.randint(rest[0], (num_offspring,), 0, num_parents)
    return jax.vmap(lambda i: sample_fn(jax.random.fold_in(mutation_key, i), params))(jnp.arange(num_offspring)), draws


def parents_of(state):
    """The library's parents as the oracle holds them: a list of lists of arrays."""
    if not isinstance(state, mutagrad.PopulationState):
        return [leaves_of(state.params)]
    number = state.parents["b"].shape[0]
    floating = [jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(state.parents)]
    leaves = leaves_of(state.parents)
    return [[leaf[k] if split else leaf for leaf, split in zip(leaves, floating, strict=True)] for k in range(number)]


# float32 rounding of a mean of 16 losses of order 1; a margin above it decides alike in any precision.
ROUNDING = 2e-6


def assert_bitwise(leaf, expected, sigma_noise):
    np.testing.assert_array_equal(leaf, expected)


def assert_two_roundings(leaf, expected, sigma_noise):
    """The compiler may fuse the noise's last product with the sum: 2 units in the last place of the larger term."""
    if leaf.dtype.kind == "f":
        larger = np.maximum(np.abs(expected.astype(float)), sigma_noise)
        assert np.all(np.abs(leaf.astype(float) - expected.astype(float)) <= 2 * np.finfo(leaf.dtype).eps * larger)
    else:
        np.testing.assert_array_equal(leaf, expected)


def follow(name, mutation, assert_leaf, resynchronise):
    """Thirty generations of library and oracle, compared in winners, parents and losses."""
    build, num_offspring, rule = ALGORITHMS[name]
    algorithm = build(sigma=0.25, mutation=mutation)
    step = jax.jit(lambda key, state: algorithm.step(key, state, network_loss))
    state = algorithm.init(network_params())
    lineage = oracle.Lineage(parents_of(state), 0.25, network_loss_in_numpy)
    num_parents, num_accepted = len(lineage.parents), 0

    for generation in range(30):
        key = jax.random.fold_in(jax.random.key(11), generation)
        noise, draws = chance(mutation.sample_fn, num_offspring, num_parents, key, network_params())
        noises = [[leaf[i] for leaf in leaves_of(noise)] for i in range(num_offspring)]
        draws = jax.tree.map(np.asarray, draws)
        parent = lineage.parents[0]
        decision = lineage.advance(noises, rule(draws), draws["parent_of"])
        assert decision.margin > ROUNDING, "this seed decides by rounding: take another"
        state, info = step(key, state)

        assert np.atleast_1d(info.winner).tolist() == decision.winners
        assert info.descent.ancestors.tolist() == [[winner] for winner in decision.winners]
        assert np.atleast_1d(info.is_accepted).tolist() == [winner >= 0 for winner in decision.winners]
        for mine, theirs, winner in zip(parents_of(state), lineage.parents, decision.winners, strict=True):
            for leaf, expected, z in zip(mine, theirs, noises[max(winner, 0)], strict=True):
                assert leaf.dtype == expected.dtype
                assert_leaf(leaf, expected, 0.25 * np.abs(z))
        own = [lineage.parent_losses[p] for p in draws["parent_of"]]
        np.testing.assert_allclose(info.losses, lineage.losses, rtol=2e-6, atol=ROUNDING)
        np.testing.assert_allclose(info.parent_loss, lineage.parent_losses[0], rtol=2e-6, atol=ROUNDING)
        np.testing.assert_allclose(info.loss_differences, np.subtract(lineage.losses, own), atol=ROUNDING, rtol=2e-5)
        if num_parents == 1:
            differences = [network_values_in_numpy(x) - network_values_in_numpy(parent) for x in lineage.offspring]
            variances = np.var(differences, axis=1, ddof=1) / len(TARGETS)
            np.testing.assert_allclose(info.loss_difference_variances, variances, rtol=1e-4)
        num_accepted += sum(np.atleast_1d(info.is_accepted))
        if resynchronise:
            lineage.parents = parents_of(state)
    assert num_accepted > 2
    assert int(state.generation) == 30
    np.testing.assert_array_equal(state.params["steps"], np.arange(3))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_thirty_generations_bit_for_bit(name):
    follow(name, EXACT, assert_bitwise, resynchronise=False)


@pytest.mark.parametrize("name", ["elitist"])
def test_thirty_generations_of_gaussian_noise(name):
    """Each generation from the library's parents, so that roundings do not add up."""
    follow(name, density.gaussian(), assert_two_roundings, resynchronise=True)


# ----------------------------------------------------------------------------------------------------------------------
# Losses handed in as tables: failures and ties
# ----------------------------------------------------------------------------------------------------------------------

NUM_TABLES = 300
ENTRIES = np.array([-1.0, 0.0, 0.0, 0.5, 1.0, np.nan, np.inf, -np.inf], np.float32)


def tables(num_offspring):
    """(NUM_TABLES, M + 1) losses, the parent's last: random, after cases that chance may miss."""
    rng = np.random.default_rng(3)
    table = rng.choice(ENTRIES, size=(NUM_TABLES, num_offspring + 1))
    for row, (offspring, parent) in enumerate(
        [(o, p) for o in (0.0, np.nan, np.inf, -np.inf) for p in (0.0, np.nan, np.inf, -np.inf, -1.0)]
    ):
        table[row, :-1], table[row, -1] = offspring, parent
    return table


def index_of_offspring(key, params):
    """Noise that is all zero but for a tag: the offspring is known by its value, whatever order it is evaluated in."""
    return jax.random.uniform(key, (), minval=1.0, maxval=2.0)


@pytest.mark.parametrize("evaluation", ["vectorized", "mapped"])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_failures_and_ties(name, evaluation):
    """Losses NaN, +∞, −∞ and tied, in offspring and parent: the winner is the oracle's in every table."""
    build, num_offspring, rule = ALGORITHMS[name]
    if evaluation == "mapped" and num_offspring == 1:
        pytest.skip("one offspring has one way of evaluation")
    algorithm = build(sigma=1.0, mutation=index_of_offspring, evaluation=evaluation)
    num_parents = algorithm.definition.selection.num_parents
    table = tables(num_offspring)
    keys = jax.random.split(jax.random.key(4), NUM_TABLES)

    def generation(key, row):
        noise, draws = chance(index_of_offspring, num_offspring, num_parents, key, jnp.zeros(()))
        places = jnp.append(noise, 0.0)

        def loss(x):
            return row[jnp.argmin(jnp.abs(places - x))]

        state, info = algorithm.step(key, algorithm.init(jnp.zeros(())), loss)
        parents = state.parents if num_parents > 1 else state.params[None]
        return draws, info, parents, places

    draws, info, parents, places = jax.tree.map(np.asarray, jax.jit(jax.vmap(generation))(keys, jnp.asarray(table)))
    for row in range(NUM_TABLES):
        losses, parent_loss = table[row, :-1].astype(float).tolist(), float(table[row, -1])
        decision = rule({name: draw[row] for name, draw in draws.items()})(losses, parent_loss)
        assert decision.margin > 1e-6
        case = f"losses {losses}, parent {parent_loss}"
        assert np.atleast_1d(info.winner[row]).tolist() == decision.winners, case
        expected = [places[row, winner] if winner >= 0 else 0.0 for winner in decision.winners]
        assert parents[row].tolist() == expected, case
        assert info.num_nonfinite[row] == sum(map(oracle.has_failed, losses)), case
        np.testing.assert_array_equal(info.losses[row], table[row, :-1])
        np.testing.assert_array_equal(info.parent_loss[row], table[row, -1])
        np.testing.assert_array_equal(info.loss_difference_variances[row][np.isfinite(table[row, :-1])], 0.0)
        for loss, difference in zip(losses, info.loss_differences[row], strict=True):
            if oracle.has_failed(loss) or oracle.has_failed(parent_loss):
                assert not np.isfinite(difference), case
            else:
                assert difference == loss - parent_loss, case
        finite = [loss - parent_loss for loss in losses if math.isfinite(loss - parent_loss)]
        strength = 2 * np.mean(finite) / np.std(finite, ddof=1) if len(set(finite)) > 1 else np.nan
        np.testing.assert_allclose(info.normalized_mutation_strength[row], strength, rtol=1e-5, atol=1e-6)


def test_one_failed_example_fails_the_offspring():
    """A vector of losses with one NaN has no mean, however good the others are."""
    algorithm = mutagrad.elitist(1.0, 4, mutation=index_of_offspring)

    def loss(x):
        return jnp.where(x > 0, jnp.array([-1.0, -1.0, jnp.nan]), jnp.zeros(3))

    state, info = algorithm.step(jax.random.key(0), algorithm.init(jnp.zeros(())), loss)
    assert int(info.winner) == -1
    assert int(info.num_nonfinite) == 4
    assert float(state.params) == 0.0
