"""Populations of genomes against population genetics: neutral and selected fixation, heterozygosity, Price, gradient descent."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mutagrad
from mutagrad import theory
from mutagrad.algorithms.genomes import bits

genetics = theory.population


def replicates(algorithm, params, loss_fn, generations, number, seed=0):
    """(number, generations) of num_fixed, ages and heterozygosity, and the last states, of independent populations."""

    def run(key):
        def body(state, generation):
            state, info = algorithm.step(jax.random.fold_in(key, generation), state, loss_fn)
            ages = jnp.sum(jnp.where(info.turnover.is_fixed, info.turnover.ages, 0))
            counts = info.turnover.num_fixed, info.turnover.num_new, info.turnover.num_dropped
            return state, (*counts, ages, info.heterozygosity)

        return jax.lax.scan(body, algorithm.init(params), jnp.arange(generations))

    states, rows = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(seed), number))
    return states, [np.asarray(row) for row in rows]


def constant(x):
    return 0.0 * jnp.sum(x)


@pytest.mark.parametrize(("model", "replaced"), [("wright_fisher", None), ("moran", 1)])
def test_neutral_mutations(model, replaced):
    """Of μn that arise 1/n is fixed, after as long as the exact chain says; the others are as diverse as the law says."""
    size, rate, number = 10, 0.2, 64
    steps = size if model == "moran" else 1
    algorithm = mutagrad.population(0.1, 1.0, size, rate, num_replaced=replaced)
    long, burn = 400 * steps, 60 * steps
    _, (fixed, new, dropped, ages, diversity) = replicates(algorithm, jnp.zeros(2), constant, long, number)
    assert not dropped.any()
    born = size // steps * rate
    assert abs(new.mean() - born) < 4 * math.sqrt(born / new.size)
    per_run = fixed[:, burn:].sum(axis=1)
    law = born / size * (long - burn)
    assert abs(per_run.mean() - law) < 4 * per_run.std(ddof=1) / math.sqrt(number)
    # The ratio of two sums over runs, by the delta method.
    waited = genetics.fixation_time(0.0, size, model) * steps
    spread = (ages[:, burn:].sum(axis=1) - waited * per_run).std(ddof=1) / math.sqrt(number) / per_run.mean()
    assert abs(ages[:, burn:].sum() / per_run.sum() - waited) < 4 * spread
    # Σ over ages of the heterozygosity that is left of 2(1/n)(1 − 1/n).
    fall = float(genetics.expected_heterozygosity(1.0, size, 1 / steps, model))
    law = born * 2 / size * (1 - 1 / size) / (1 - fall)
    means = diversity[:, burn:].mean(axis=1)
    assert abs(means.mean() - law) < 4 * means.std(ddof=1) / math.sqrt(number)


@pytest.mark.parametrize("replaced", [1, 4, 10])
def test_heterozygosity_where_generations_overlap(replaced):
    """Of n = 10 genomes 1, 4 or all are replaced at a time: 2μn(n − 1)(1 − 1/n)/(2n − k − 1) (theory.md 6.7)."""
    size, rate, burn, long = 10, 0.2, 600 // replaced, 4000 // replaced
    algorithm = mutagrad.population(0.1, 0.0, size, rate, num_replaced=replaced)
    *_, diversity = replicates(algorithm, jnp.zeros(1), constant, long, 128, seed=3)[1]
    means = diversity[:, burn:].mean(axis=1)
    law = 2 * rate * size * (size - 1) * (1 - 1 / size) / (2 * size - replaced - 1)
    assert abs(means.mean() - law) < 4 * means.std(ddof=1) / math.sqrt(128)
    assert means.std(ddof=1) / math.sqrt(128) < 0.03 * law


@pytest.mark.parametrize("recombination", ["free", "none"])
@pytest.mark.parametrize(("model", "replaced"), [("wright_fisher", None), ("moran", 1)])
def test_selected_mutations(model, replaced, recombination):
    """Effects ±σ on a linear loss, one mutation at a time: each sign is fixed as often as the exact chain says."""
    size, s, rate, number = 10, 0.2, 0.004, 256
    steps = size if model == "moran" else 1
    algorithm = mutagrad.population(
        s, 1.0, size, rate, num_replaced=replaced, recombination=recombination, mutation=mutagrad.mutation.rademacher()
    )
    generations = 1500 * steps
    states, (fixed, _, dropped, _, _) = replicates(algorithm, jnp.zeros(()), lambda x: x, generations, number, 1)
    assert not dropped.any()
    sums = np.round(np.asarray(states.ancestor) / s)  # harmful less beneficial ones, by run
    totals = fixed.sum(axis=1)
    half = generations * rate * (size // steps) / 2
    for sign, found in ((1, (totals - sums) / 2), (-1, (totals + sums) / 2)):
        chance = float(genetics.fixation_by(math.inf, sign * s, size, model))
        # A few meet another one, which changes the chance by a few per cent.
        assert abs(found.mean() - half * chance) < 4 * found.std(ddof=1) / math.sqrt(number) + 0.03 * half * chance


def test_the_fixed_part_descends_the_gradient():
    """Mean step of the fixed part on a linear loss: −½μνβσ²g, and nothing across; 4 errors, and 3 % of the next order."""
    size, beta, sigma, rate, number, long = 20, 1.0, 0.02, 0.3, 256, 600
    gradient = jnp.array([0.6, -0.8, 0.0])
    algorithm = mutagrad.population(sigma, beta, size, rate)
    states, _ = replicates(algorithm, jnp.zeros(3), lambda x: x @ gradient, long, number, 2)
    genomes = jax.vmap(lambda state: algorithm.ask(jax.random.key(0), state).mean())(states)
    steps = np.asarray(genomes)
    law = -genetics.learning_rates(sigma, beta, size, rate).per_generation * long * np.asarray(gradient)
    error = steps.std(axis=0, ddof=1) / math.sqrt(number)
    # The mean genome runs ahead of the fixed part, and is what moves from the first generation on: half of ν = 2(n − 1) is felt
    # by 1 − 1/n of the pairs of genomes that are two.
    assert np.all(np.abs(steps.mean(axis=0) - law) < 4 * error + 0.03 * np.abs(law))


def test_price_holds_in_every_generation():
    """The mean genome moves by selection, Cov(w, z)/w̄, and by transmission: recombination and new mutations; to rounding."""
    algorithm = mutagrad.population(0.2, 0.5, 24, 0.3, num_demes=3, migration=0.1)
    state = algorithm.init(jnp.ones(4))
    step = jax.jit(partial(algorithm.step, loss_fn=lambda x: jnp.sum(x**2)))
    for generation in range(25):
        before = np.asarray(algorithm.ask(jax.random.key(0), state).stacked())
        state, info = step(jax.random.key(generation), state)
        after = np.asarray(algorithm.ask(jax.random.key(0), state).stacked())
        parents = np.asarray(info.turnover.parents)
        halves = np.bincount(parents.reshape(-1), minlength=24) / 2
        sums = np.zeros_like(before)
        for column in range(2):
            np.add.at(sums, parents[:, column], after / 2)
        traits = sums / np.maximum(halves, 0.5)[:, None]
        found = genetics.price(halves, before, traits)
        np.testing.assert_allclose(found.change, after.mean(axis=0) - before.mean(axis=0), atol=2e-6)
        assert np.abs(found.selection).max() > 0 or generation == 0


def test_parents_are_drawn_by_fitness_within_demes():
    """One generation of 4000 from known losses: births against e^{−βU} in each deme, and migrants from all others alike."""
    size, demes, migration = 4000, 4, 0.3
    algorithm = mutagrad.population(0.1, 1.0, size, 0.0, num_demes=demes, migration=migration)
    losses = np.tile([0.0, 1.0, 2.0, np.nan], size // 4)
    _, info = algorithm.tell(jax.random.key(1), algorithm.init(jnp.zeros(1)), losses)
    for column in range(2):
        parents = np.asarray(info.turnover.parents)[:, column]
        law = np.exp(-np.array([0.0, 1.0, 2.0]))
        counts = np.bincount(parents % 4, minlength=4)
        assert counts[3] == 0
        law *= size / law.sum()
        assert np.all(np.abs(counts[:3] - law) < 4 * np.sqrt(law))
        moved = parents // 1000 != np.arange(size) // 1000
        assert abs(moved.mean() - migration) < 4 * math.sqrt(migration * (1 - migration) / size)
        jumps = np.bincount((parents // 1000 - np.arange(size) // 1000)[moved] % demes, minlength=demes)[1:]
        assert np.all(np.abs(jumps - size * migration / 3) < 4 * math.sqrt(size * migration / 3))


def test_demes_that_do_not_mix_fix_nothing():
    """Nothing reaches all genomes where demes are apart, and something does where they mix."""
    for migration, is_fixed in ((0.0, False), (0.2, True)):
        algorithm = mutagrad.population(0.1, 1.0, 12, 0.3, num_demes=2, migration=migration, capacity=256)
        _, (fixed, *_) = replicates(algorithm, jnp.zeros(2), constant, 60, 8)
        assert fixed.any() == is_fixed


@pytest.mark.parametrize("recombination", [("transfer", 0.1), ("crossover", 1.0), ("free", None)])
def test_mixing_breaks_associations(recombination):
    """Two neutral mutations that all carriers share: the association of their places falls by (1 − r)(1 − 1/n) a generation."""
    kind, rate = recombination
    size, number = 400, 400
    algorithm = mutagrad.population(0.1, 1.0, size, 0.0, recombination=kind, recombination_rate=rate, capacity=32)
    state = algorithm.init(jnp.zeros(1))
    seeds = jnp.arange(64, dtype=jnp.uint32).reshape(32, 2)
    carriers = jnp.where(jnp.arange(size) < size // 2, 3, 0).astype(jnp.uint32)[:, None]
    state = state._replace(carriers=carriers, seeds=seeds, births=jnp.where(jnp.arange(32) < 2, 0, -1))
    distance = float(jnp.abs(state.positions[0] - state.positions[1]))
    # Two places are of different parents: twice r(1 − r) by transfer, and half of that breaks an association.
    odd = {
        "transfer": 2 * (rate or 0) * (1 - (rate or 0)),
        "crossover": (1 - math.exp(-2 * distance)) / 2,
        "free": 0.5,
    }[kind]

    def association(key):
        after, _ = algorithm.tell(key, state, jnp.zeros(size))
        first, second = (bits.unpack(after.carriers)[:, place].astype(float) for place in (0, 1))
        return jnp.mean(first * second) - jnp.mean(first) * jnp.mean(second)

    found = np.asarray(jax.vmap(association)(jax.random.split(jax.random.key(0), number)))
    law = 0.25 * (1 - odd) * (1 - 1 / size)
    assert abs(found.mean() - law) < 4 * found.std(ddof=1) / math.sqrt(number)


def loss(x):
    return jnp.sum(x**2)


def test_ask_and_tell_are_step():
    algorithm = mutagrad.population(0.1, 1.0, 20, 0.2)
    state = one = algorithm.init(jnp.ones(3))
    for generation in range(12):
        key = jax.random.key(generation)
        losses = [float(loss(genome)) for genome in algorithm.ask(key, one)]
        one, _ = algorithm.tell(key, one, losses)
        state, _ = algorithm.step(key, state, loss)
    for ours, other in zip(jax.tree.leaves(state), jax.tree.leaves(one), strict=True):
        np.testing.assert_allclose(ours, other, rtol=1e-6)


def test_evolve_goes_on_and_records(tmp_path):
    """A run of 60 generations is one of 30 that goes on from its checkpoint; its history has losses and whatever is recorded."""
    algorithm = mutagrad.population(0.1, 1.0, 20, 0.2)

    def record(state, info):
        return mutagrad.default_record(state, info) | {
            "heterozygosity": info.heterozygosity,
            "num_fixed": info.turnover.num_fixed,
        }

    run = partial(mutagrad.evolve, jax.random.key(0), algorithm, jnp.ones(3), loss, record=record, progress=False)
    whole = run(60)
    run(30, checkpoint=tmp_path / "run")
    again = run(60, checkpoint=tmp_path / "run")
    for ours, other in zip(jax.tree.leaves(whole.state), jax.tree.leaves(again.state), strict=True):
        np.testing.assert_array_equal(ours, other)
    assert whole.history["heterozygosity"].shape == (60,)
    np.testing.assert_array_equal(whole.history["num_fixed"], again.history["num_fixed"])
    assert whole.num_evaluations == 60 * 20
    assert whole.history["loss"][-1] < whole.history["loss"][0]


@pytest.mark.parametrize("kind", ["rbg", "unsafe_rbg", "threefry2x32"])
def test_keys_of_every_kind(kind):
    algorithm = mutagrad.population(0.1, 1.0, 20, 0.2, recombination="crossover", recombination_rate=1.0)
    result = mutagrad.evolve(jax.random.key(0, impl=kind), algorithm, jnp.ones(3), loss, 200, progress=False)
    assert float(loss(result.params)) < 3


def test_python_losses_and_wrappers():
    """NumPy losses of an executor, σ by a schedule; σ by adapt_sigma is refused."""
    algorithm = mutagrad.population(0.1, 1.0, 10, 0.5)
    result = mutagrad.evolve(
        jax.random.key(0),
        algorithm,
        np.ones(3),
        lambda x: float(np.sum(x**2)),
        20,
        evaluation=mutagrad.executor(),
        progress=False,
    )
    inside = mutagrad.evolve(jax.random.key(0), algorithm, np.ones(3), loss, 20, progress=False)
    np.testing.assert_allclose(result.params, inside.params, rtol=1e-5)
    scheduled = mutagrad.schedule_sigma(algorithm, lambda generation: 0.1 / (1.0 + generation.astype(float)))
    state = scheduled.init(jnp.ones(3))
    for generation in range(5):
        state, info = scheduled.step(jax.random.key(generation), state, loss)
    assert float(info.sigma) == pytest.approx(0.02)
    assert len(np.unique(np.asarray(state.scales)[np.asarray(state.is_segregating)])) > 1
    with pytest.raises(
        ValueError, match="algorithm: a population of genomes has no single mutation that selection judges"
    ):
        mutagrad.adapt_sigma(algorithm)
    with pytest.raises(ValueError, match="mutagrad.theory.population has its laws"):
        theory.drift(algorithm, 1.0)


def test_failed_evaluations_and_a_full_table():
    """A genome whose loss is not finite has no offspring; if none is finite all reproduce alike; what does not fit is counted."""
    algorithm = mutagrad.population(0.1, 1.0, 8, 0.0)
    state = algorithm.init(jnp.zeros(2))
    losses = np.array([np.nan, 0, np.inf, 0, 0, 0, 0, np.nan])
    _, info = algorithm.tell(jax.random.key(0), state, losses)
    assert not set(np.unique(info.turnover.parents)) & {0, 2, 7}
    assert int(info.num_nonfinite) == 3
    _, info = algorithm.tell(jax.random.key(0), state, np.full(8, np.nan))
    assert len(np.unique(info.turnover.parents)) > 1
    full = mutagrad.population(0.1, 0.0, 8, 20.0, capacity=32)
    state, info = full.step(jax.random.key(0), full.init(jnp.zeros(2)), constant)
    assert int(info.turnover.num_new) == 32
    assert int(info.turnover.num_dropped) > 80


def test_huge_and_tiny_selection():
    """β = ∞ leaves offspring to the best alone; β = 0 to all; a loss of 10³⁰ is no overflow."""
    for beta, scale, alive in ((math.inf, 1.0, {3}), (1e30, 1.0, {3}), (1.0, 1e30, {3})):
        algorithm = mutagrad.population(0.1, beta, 8, 0.0)
        losses = scale * np.array([5.0, 4, 3, -2, 7, 8, 9, 1], np.float32)
        _, info = algorithm.tell(jax.random.key(0), algorithm.init(jnp.zeros(2)), losses)
        assert set(np.unique(info.turnover.parents)) == alive
    one = mutagrad.population(0.1, 1.0, 1, 3.0)
    state, info = one.step(jax.random.key(0), one.init(jnp.zeros(2)), loss)
    assert int(info.turnover.num_fixed) == int(info.turnover.num_new) > 0
    assert bool(jnp.any(state.params != 0))


def test_selection_within_a_deme_that_is_far_behind():
    # The second deme is behind the best of all by more than float32 can tell as a fitness.
    algorithm = mutagrad.population(0.1, 1.0, 200, 0.0, num_demes=2)
    losses = np.zeros(200, np.float32)
    losses[100:] = 200
    losses[150:] = 220
    losses[199] = np.nan
    _, info = algorithm.tell(jax.random.key(0), algorithm.init(jnp.zeros(2)), jnp.asarray(losses))
    parents = np.asarray(info.turnover.parents)[100:]
    assert parents.min() >= 100
    assert parents.max() < 150
    assert float(info.fitness[:100].min()) == 1.0


@pytest.mark.parametrize(("kind", "rate"), [("none", None), ("crossover", 0.0), ("transfer", 0.0)])
def test_linked_mutations_find_room(kind, rate):
    """Watterson's variance is that of the tree: there is room for six standard deviations, and all of 400 generations fit."""
    size, arising = 50, 4.0
    linked = mutagrad.population(0.1, 0.0, size, arising, recombination=kind, recombination_rate=rate)
    start = linked.init(jnp.zeros(1))
    theta, i = 2 * size * arising, np.arange(1, size)
    mean, spread = theta * np.sum(1 / i), math.sqrt(theta * np.sum(1 / i) + theta**2 * np.sum(1 / i**2))
    assert mean + 6 * spread < start.capacity < 1.5 * (mean + 6 * spread)
    if kind != "none":
        return

    def body(state, key):
        return linked.tell(key, state, jnp.zeros(size))[0], None

    after, _ = jax.lax.scan(body, start, jax.random.split(jax.random.key(0), 400))
    assert int(after.num_dropped) == 0
