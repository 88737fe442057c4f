"""Populations that go on: from neutral variation, through a bottleneck, with more room, and what a full table says."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mutagrad
from mutagrad import theory

SIZE, RATE, SIGMA, SLOPE = 20, 0.5, 0.1, jnp.array([0.6, -0.8])
NEUTRAL = mutagrad.population(SIGMA, 0.0, SIZE, RATE)
SELECTED = mutagrad.population(SIGMA, 1.0, SIZE, RATE)


def slope(x):
    return x @ SLOPE


def test_a_neutral_run_goes_on_under_selection():
    """The mutations that segregate stay, with seeds and births; the next generation is that of the algorithm that goes on."""
    first = mutagrad.evolve(jax.random.key(0), NEUTRAL, jnp.zeros(2), slope, 100, progress=False)
    for start in (first, first._replace(state=first.state.with_params(jnp.ones(2)), history=None)):
        key = jax.random.key(1)
        then = mutagrad.evolve(key, SELECTED, start, slope, 101, progress=False)
        state, info = SELECTED.step(mutagrad.generation_key(key, 100), start.state, slope, is_resampled=False)
        for ours, other in zip(jax.tree.leaves(then.state), jax.tree.leaves(state), strict=True):
            np.testing.assert_allclose(ours, other, rtol=1e-6)
        assert len(then.history["loss"]) == (1 if start.history is None else 101)
        before, after = start.state, then.state
        old = np.asarray(after.is_segregating & (after.births <= 100))
        assert old.sum() > 10
        assert np.any(np.asarray(after.births)[old] < 90)
        for name in ("seeds", "scales", "births"):
            np.testing.assert_array_equal(np.asarray(getattr(after, name))[old], np.asarray(getattr(before, name))[old])
        ages = np.asarray(info.turnover.ages)[old]
        np.testing.assert_array_equal(ages, 101 - np.asarray(after.births)[old])


def test_standing_variation_answers_at_once():
    """From neutral variation the mean genome has the learning rate of the theory in the first generation, from a clone none."""
    runs, burn = 1024, 80

    @jax.jit
    @jax.vmap
    def run(key):
        def body(state, generation):
            return NEUTRAL.step(jax.random.fold_in(key, generation), state, slope)[0], None

        state, _ = jax.lax.scan(body, NEUTRAL.init(jnp.zeros(2)), jnp.arange(burn))
        before = SELECTED.ask(key, state).mean()
        after, _ = SELECTED.step(jax.random.fold_in(key, burn), state, slope)
        return SELECTED.ask(key, after).mean() - before

    moved = np.asarray(run(jax.random.split(jax.random.key(3), runs)))
    law = -theory.population.learning_rates(SIGMA, 1.0, SIZE, RATE).per_generation * np.asarray(SLOPE)
    error = moved.std(axis=0, ddof=1) / np.sqrt(runs)
    # Selection of βσ|∇U| = 0.1 is linear to its square.
    assert np.all(np.abs(moved.mean(axis=0) - law) < 4 * error + 0.02 * np.abs(law))
    assert np.all(np.abs(law) > 8 * error)


def test_a_bottleneck_keeps_the_share_of_variation_that_sampling_leaves():
    """Over all pairs of founders the heterozygosity is in the mean ½n/(n − 1) of what it was, exactly."""
    size, key = 8, jax.random.key(4)
    eight = mutagrad.population(SIGMA, 0.0, size, RATE)
    state = mutagrad.evolve(key, eight, jnp.zeros(2), slope, 60, progress=False).state
    pairs = [state.with_genomes(pair) for pair in itertools.combinations(range(size), 2)]
    left = np.mean([float(pair.heterozygosity) for pair in pairs])
    np.testing.assert_allclose(left, float(state.heterozygosity) * size / (size - 1) / 2, rtol=1e-5)
    for pair in pairs[:5]:
        copies = np.asarray(pair.genotypes).sum(0)
        np.testing.assert_array_equal(np.asarray(pair.is_segregating), copies > 0)
        few = mutagrad.population(SIGMA, 0.0, 2, RATE)
        old, new = few.ask(key, pair), eight.ask(key, state)
        assert any(np.array_equal(old[0], new[index]) for index in range(size))
        after, info = few.step(jax.random.key(5), pair, slope)
        # What both carried is fixed now, or was before.
        assert int(info.turnover.num_fixed) >= (copies == 2).sum()
        assert after.population_size == 2
    grown = state.with_genomes(np.arange(4 * size) % size)
    np.testing.assert_allclose(float(grown.heterozygosity), float(state.heterozygosity), rtol=1e-6)


def test_a_fixed_mutation_leaves_genomes_what_they_were():
    """Without new mutations or recombination each genome is that of its parent, also where the params take an effect up."""
    asexual = mutagrad.population(SIGMA, 1.0, 8, RATE, recombination="none")
    state = mutagrad.evolve(jax.random.key(6), asexual, jnp.zeros(2), slope, 40, progress=False).state
    copying = mutagrad.population(SIGMA, 1.0, 8, 0.0, recombination="none")
    step, fixed = jax.jit(lambda key, state: copying.step(key, state, slope)), 0
    for generation in range(30):
        genomes = np.asarray(copying.ask(jax.random.key(0), state).stacked())
        state, info = step(jax.random.key(generation), state)
        after = np.asarray(copying.ask(jax.random.key(0), state).stacked())
        np.testing.assert_allclose(after, genomes[np.asarray(info.turnover.parents)[:, 0]], atol=1e-6)
        fixed += int(info.turnover.num_fixed)
    assert fixed > 0
    assert int(info.num_segregating) == 0


def test_another_sigma_than_the_states_is_said():
    first = mutagrad.evolve(jax.random.key(0), NEUTRAL, jnp.zeros(2), slope, 10, progress=False)
    wide = mutagrad.population(3 * SIGMA, 0.0, SIZE, RATE)
    with pytest.warns(UserWarning, match=r"^sigma: the run goes on with 0.1, which its state has, and not with 0.3"):
        mutagrad.evolve(jax.random.key(1), wide, first, slope, 12, progress=False)
    start = first._replace(state=first.state.with_sigma(3 * SIGMA))
    then = mutagrad.evolve(jax.random.key(1), wide, start, slope, 12, progress=False)
    is_new = np.asarray(then.state.is_segregating & (then.state.births > 10))
    assert set(np.asarray(then.state.scales)[is_new].tolist()) == {np.float32(3 * SIGMA)}


CROWDED = mutagrad.population(SIGMA, 0.0, 8, 3.0, capacity=32)


@pytest.mark.parametrize("kind", ["plain", "wrapped", "python"])
def test_a_full_table_is_said_at_the_end(kind):
    """Once, with number, room and remedy; the number is the sum of what generations dropped, where a run goes on too."""
    algorithm = mutagrad.schedule_sigma(CROWDED, lambda generation: 0.1) if kind == "wrapped" else CROWDED

    def record(state, info):
        return {"dropped": info.turnover.num_dropped}

    options = {"evaluation": mutagrad.executor()} if kind == "python" else {}
    loss_fn = (lambda x: float(np.sum(x))) if kind == "python" else jnp.sum
    start = jnp.zeros(2)
    for generations in (6, 12):
        with pytest.warns(UserWarning, match="did not arise") as said:
            start = mutagrad.evolve(
                jax.random.key(0), algorithm, start, loss_fn, generations, record=record, progress=False, **options
            )
        dropped = int(start.history["dropped"].sum())
        assert dropped > 0
        assert [str(one.message) for one in said] == [
            f"capacity: {dropped} mutations did not arise, since there is room for 32 at once; pass mutagrad.population a larger "
            "one (a run that goes on: result.state.with_capacity)"
        ]
        assert said[0].filename == __file__


def test_more_room():
    """The same genomes; what found no place does now, and none was dropped since; the count does not run over."""
    state = CROWDED.init(jnp.zeros(2))
    for generation in range(3):
        state, _ = CROWDED.tell(jax.random.key(generation), state, jnp.zeros(8))
    assert int(state.num_dropped) > 0
    assert len(state.remarks) == 1
    larger = state.with_capacity(100)
    assert (state.capacity, larger.capacity, int(larger.num_dropped), larger.remarks) == (32, 128, 0, [])
    wide = mutagrad.population(SIGMA, 0.0, 8, 3.0, capacity=128)
    np.testing.assert_array_equal(
        wide.ask(jax.random.key(0), larger).stacked(), CROWDED.ask(jax.random.key(0), state).stacked()
    )
    after, info = wide.tell(jax.random.key(9), larger, jnp.zeros(8))
    assert int(info.turnover.num_new) > 32 - int(state.is_segregating.sum())
    assert int(after.num_dropped) == 0
    with pytest.raises(
        ValueError, match=r"^state: got one with room for 32 mutations and capacity=128; pass state.with"
    ):
        wide.ask(jax.random.key(0), state)
    with pytest.raises(ValueError, match=r"^capacity: got 64 for a state with room for 128; pass 128 or more$"):
        larger.with_capacity(64)
    full = state._replace(num_dropped=jnp.int32(2**31 - 2))
    assert int(CROWDED.tell(jax.random.key(9), full, jnp.zeros(8))[0].num_dropped) == 2**31 - 1
