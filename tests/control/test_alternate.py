"""Masked mutations and algorithms that take turns: both are exactly what they are made of."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mutagrad
from mutagrad.mutation import masked

PARAMS = {"a": jnp.linspace(0.5, 2, 6).reshape(2, 3), "b": jnp.ones(4), "n": jnp.arange(3)}
ONLY_A = masked({"a": True, "b": False, "n": False})
ONLY_B = masked({"a": False, "b": True, "n": True})


def loss_fn(params):
    return jnp.sum(jnp.square(params["a"])) + jnp.sum(jnp.square(params["b"] - 0.2)) * jnp.mean(params["a"])


def mutated(mutation, **options):
    return mutagrad.elitist(sigma=0.1, num_offspring=6, mutation=mutation, **options)


@pytest.mark.parametrize("evaluation", ["vectorized", "mapped", 3])
def test_masked_is_the_algorithm_on_the_mutated_leaves_alone(evaluation):
    """Parameters bit for bit, whichever way offspring are evaluated; losses of two programs to their last digit."""
    whole, part = mutated(ONLY_B, evaluation=evaluation), mutated(mutagrad.mutation.gaussian(), evaluation=evaluation)
    others = {"a": PARAMS["a"], "n": PARAMS["n"]}
    state, alone = whole.init(PARAMS), part.init({"b": PARAMS["b"]})
    step = jax.jit(lambda key, state: whole.step(key, state, loss_fn))
    step_alone = jax.jit(lambda key, state: part.step(key, state, lambda params: loss_fn(others | params)))
    for generation in range(8):
        key = jax.random.fold_in(jax.random.key(0), generation)
        state, info = step(key, state)
        alone, expected = step_alone(key, alone)
        # In one program the shared leaves are constants, and their part of the sum is added up beforehand.
        np.testing.assert_allclose(info.losses, expected.losses, rtol=4 * np.finfo(np.float32).eps)
        np.testing.assert_array_equal(state.params["b"], alone.params["b"])
        np.testing.assert_array_equal(state.params["a"], PARAMS["a"])
    assert float(loss_fn(state.params)) < float(loss_fn(PARAMS))


def test_masked_sphere_has_the_radius_of_the_mutated_parameters():
    noise = masked({"a": False, "b": True, "n": False}, mutagrad.mutation.sphere()).sample_fn(jax.random.key(0), PARAMS)
    assert noise["a"] is None
    assert float(jnp.linalg.norm(noise["b"])) == pytest.approx(2.0, rel=1e-6)  # √4


def test_a_node_of_the_mask_speaks_for_all_below_it():
    tree = {"early": {"w": jnp.ones(2), "b": jnp.ones(1)}, "late": jnp.ones(3)}
    noise = masked({"early": False, "late": True}).sample_fn(jax.random.key(0), tree)
    assert noise["early"] == {"w": None, "b": None}
    assert noise["late"].shape == (3,)


def test_scaled_masked_leaves_the_shared_leaves_alone():
    mutation = mutagrad.mutation.scaled(3.0, ONLY_B)
    noise, base = (one.sample_fn(jax.random.key(0), PARAMS) for one in (mutation, ONLY_B))
    assert noise["a"] is None
    np.testing.assert_array_equal(noise["b"], 3 * base["b"])


def test_what_offspring_share_is_computed_once():
    """Arithmetic that XLA counts in a generation of 20: the early product once, not 21 times."""
    params = {"early": jnp.ones((64, 64)), "late": jnp.ones((64, 2))}
    inputs = jnp.ones((128, 64))

    def loss(params):
        return jnp.sum(jnp.tanh(inputs @ params["early"]) @ params["late"], axis=1)

    def operations(mutation):
        algorithm = mutagrad.elitist(0.1, 20, mutation=mutation, evaluation="vectorized")
        step = jax.jit(lambda key, state: algorithm.step(key, state, loss))
        return step.lower(jax.random.key(0), algorithm.init(params)).compile().cost_analysis()["flops"]

    early_once = 2 * 128 * 64 * 64
    assert operations(mutagrad.mutation.gaussian()) > 21 * early_once
    late = 21 * (2 * 128 * 64 * 2)
    assert operations(masked({"early": False, "late": True})) < 2 * (early_once + late)


def test_alternate_is_its_algorithms_by_turns():
    """Bit for bit: σ and the controllers' memory are each algorithm's own, the parent is common."""
    algorithms = [mutagrad.adapt_sigma(mutated(ONLY_A)), mutagrad.adapt_sigma(mutated(ONLY_B))]
    together = mutagrad.alternate(algorithms, [2, 1])

    def compiled(algorithm):
        return jax.jit(lambda key, state: algorithm.step(key, state, loss_fn))

    step, steps = compiled(together), [compiled(algorithm) for algorithm in algorithms]
    state = together.init(PARAMS)
    own = [algorithm.init(PARAMS) for algorithm in algorithms]
    params = state.params
    for generation in range(30):
        key, turn = jax.random.fold_in(jax.random.key(1), generation), (0, 0, 1)[generation % 3]
        state, info = step(key, state)
        own[turn], expected = steps[turn](key, own[turn].with_params(params))
        params = own[turn].params
        np.testing.assert_array_equal(info.losses, expected.losses)
        jax.tree.map(np.testing.assert_array_equal, state.params, params)
    for mine, theirs in zip(state.states, own, strict=True):
        jax.tree.map(np.testing.assert_array_equal, mine, theirs.with_params(None))
    assert int(state.generation) == 30
    assert float(state.states[0].sigma) != float(state.states[1].sigma)


def test_alternate_under_vmap_scan_and_evolve():
    algorithm = mutagrad.alternate([mutated(ONLY_A), mutated(ONLY_B)])

    def run(key):
        def body(state, generation):
            state, info = algorithm.step(jax.random.fold_in(key, generation), state, loss_fn)
            return state, info.parent_loss

        return jax.lax.scan(body, algorithm.init(PARAMS), jnp.arange(10))[1]

    keys = jax.random.split(jax.random.key(0), 3)
    np.testing.assert_allclose(jax.jit(jax.vmap(run))(keys)[1], jax.jit(run)(keys[1]), rtol=1e-6)
    whole = mutagrad.evolve(keys[0], algorithm, PARAMS, loss_fn, 12, progress=False)
    part = mutagrad.evolve(keys[0], algorithm, PARAMS, loss_fn, 5, progress=False)
    parts = mutagrad.evolve(keys[0], algorithm, part, loss_fn, 12, progress=False)
    jax.tree.map(np.testing.assert_array_equal, whole.params, parts.params)


def test_a_result_of_turns_is_gone_on_with():
    """Whose turn it is is known, also where the run has nothing to do."""
    algorithm = mutagrad.alternate([A, B])
    state = algorithm.init(PARAMS)._replace(generation=jnp.asarray(1, jnp.int32))
    result = mutagrad.Result(state.params, state, None, "generations")
    again = mutagrad.evolve(jax.random.key(0), algorithm, result, loss_fn, 1, progress=False)
    jax.tree.map(np.testing.assert_array_equal, again.params, PARAMS)


def test_turns_with_other_numbers_of_ancestors():
    """One program returns what has room for any of them; where the turn is known, each says its own."""

    def leaves_of(number):
        def select(key, losses, parent_losses):
            best = jnp.argsort(losses)[:number].astype(jnp.int32)
            return mutagrad.Descent(best[None], jnp.full((1, number), 1 / number), "leaf" if number == 3 else "blend")

        return mutagrad.mutation_selection(mutagrad.mutation.gaussian(), select, 4, sigma=0.1)

    algorithm, losses = mutagrad.alternate([leaves_of(1), leaves_of(3), leaves_of(2)]), jnp.array([0.0, 3, 1, 2, 4])
    tell = jax.jit(lambda key, state: algorithm.tell(key, state, losses))
    state = algorithm.init(PARAMS)
    for own, room, inheritance in (
        ([[1]], [[1, -1, -1]], "blend"),
        ([[1, 2, 0]], [[1, 2, 0]], "leaf"),
        ([[1, 2]], [[1, 2, -1]], "blend"),
    ):
        key = jax.random.fold_in(jax.random.key(0), state.generation)
        after, told = algorithm.tell(key, state, losses)
        state, info = tell(key, state)
        jax.tree.map(np.testing.assert_array_equal, after.params, state.params)
        assert (told.descent.ancestors.tolist(), told.descent.inheritance) == (own, inheritance)
        assert (info.descent.ancestors.tolist(), info.descent.inheritance) == (room, "mixed")
        np.testing.assert_array_equal(info.descent.shares, np.where(np.array(room) < 0, 0, told.descent.shares[0, 0]))


def test_ask_needs_to_know_whose_turn_it_is():
    """Candidates of two algorithms are of two kinds: which of them cannot depend on a traced number."""
    algorithm = mutagrad.alternate([A, B])
    with pytest.raises(ValueError, match="^ask: got a traced state of algorithms that take turns"):
        jax.jit(lambda state: algorithm.ask(jax.random.key(0), state).stacked())(algorithm.init(PARAMS))


@pytest.mark.parametrize("build", [lambda: mutagrad.alternate([A, B]), lambda: mutagrad.rotate(FIRST, turn, 3)])
def test_theory_and_one_sigma_for_all_are_refused(build):
    """What takes turns has no single law, and no single strength; what it wraps has."""
    algorithm = build()
    assert isinstance(algorithm.definition, mutagrad.UnknownDefinition)
    assert algorithm.definition.reason in repr(algorithm)
    with pytest.raises(ValueError, match="^algorithm: got .* take turns.*; adapt the σ of each algorithm inside it$"):
        mutagrad.adapt_sigma(algorithm)


def test_with_sigma_sets_all_of_them():
    state = mutagrad.alternate([mutated(ONLY_A), mutated(ONLY_B)]).init(PARAMS).with_sigma(jnp.asarray(0.5))
    assert [float(one.sigma) for one in (state, *state.states)] == [0.5, 0.5, 0.5]


GROUPS = [jnp.linspace(0.5, 2, 6), jnp.linspace(-1, 1, 6), jnp.full(6, 0.3)]
FIRST = mutated(masked([True, False, False]))


def turn(groups):
    return [*groups[1:], groups[0]]


def sum_of_groups(groups):
    return sum(jnp.sum(jnp.square(group - 0.2)) + jnp.sum(group) ** 2 for group in groups)


@pytest.mark.parametrize("generations", [1, 4])
@jax.enable_x64(True)
def test_rotate_is_one_algorithm_for_each_group_by_turns(generations):
    """The same parents, losses and memories as of as many algorithms, each for its own group, that alternate."""
    together = mutagrad.rotate(mutagrad.adapt_sigma(FIRST), turn, 3, generations)

    def only(position):
        """With the random stream of the leaf in the first place, whichever it is."""

        def sample(key, groups):
            noise = FIRST.definition.mutation.sample_fn(key, groups)[0]
            return [noise if one == position else None for one in range(3)]

        return mutagrad.adapt_sigma(mutated(mutagrad.Mutation(sample)))

    # In float32 the two programs round differently, and σ feeds that back.
    groups = [group.astype(jnp.float64) for group in GROUPS]
    apart = mutagrad.alternate([only(position) for position in range(3)], [generations] * 3)
    state, expected = together.init(groups), apart.init(groups)
    step, other = (
        jax.jit(lambda key, state, algorithm=algorithm: algorithm.step(key, state, sum_of_groups))
        for algorithm in (together, apart)
    )
    for generation in range(31):
        key = jax.random.fold_in(jax.random.key(2), generation)
        (state, info), (expected, wanted) = step(key, state), other(key, expected)
        np.testing.assert_allclose(info.losses, wanted.losses, rtol=1e-9)
        # A turn's rotation is done when the next begins.
        places = [(place - generation // generations) % 3 for place in range(3)]
        for place, group in zip(places, expected.params, strict=True):
            np.testing.assert_allclose(state.params[place], group, rtol=1e-9, atol=1e-9)
    assert int(state.generation) == 31
    sigmas = [float(one.sigma) for one in expected.states]
    np.testing.assert_allclose([float(state.states[place].sigma) for place in places], sigmas, rtol=1e-9)
    assert len(set(sigmas)) == 3


def per_example(groups, batch):
    return sum(jnp.sum(jnp.square(group[None] - batch), axis=1) for group in groups)


CENTRES = jax.random.normal(jax.random.key(4), (64, 6))
WRAPPED = {
    "rotate": (lambda rotated: rotated, mutagrad.minibatches(CENTRES, 8)),
    "schedule": (
        lambda rotated: mutagrad.schedule_sigma(rotated, lambda generation: 0.1 / (1 + generation.astype(jnp.float32))),
        mutagrad.minibatches(CENTRES),
    ),
    "batch size": (
        lambda rotated: mutagrad.adapt_batch_size(rotated, mutagrad.minibatches(CENTRES, (4, 16, None))),
        mutagrad.minibatches(CENTRES, (4, 16, None)),
    ),
}


@pytest.mark.parametrize(("wrapper", "generations"), [("rotate", 4), ("schedule", 3), ("batch size", 7)])
def test_evolve_is_the_loop_over_step(wrapper, generations):
    """Whatever is wrapped around the turns; and a run that stops within a turn goes on bit for bit."""
    wrap, batches = WRAPPED[wrapper]
    algorithm = wrap(mutagrad.rotate(FIRST, turn, 3, generations))
    key, number = jax.random.key(5), 117  # past the first choice of a batch size

    def evolved(number, start=GROUPS):
        return mutagrad.evolve(key, algorithm, start, per_example, number, batches, progress=False)

    result = evolved(number)

    @partial(jax.jit, static_argnums=1)
    def step(state, level):
        step_key, batch_key = jax.random.split(jax.random.fold_in(key, state.generation))
        batch = batches.draw(batch_key, batches.data, level)
        return algorithm.step(step_key, state, lambda groups: per_example(groups, batch))

    state, losses = algorithm.init(GROUPS), []
    for _ in range(number):
        state, info = step(state, int(getattr(state, "level", 0)))
        losses.append(info.parent_loss)
    # The same arithmetic in two programs; a tie that rounding breaks would show as a jump.
    np.testing.assert_allclose(result.history["loss"], jnp.stack(losses), rtol=1e-4)
    for mine, theirs in zip(result.params, state.params, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-3)
    resumed = evolved(number, evolved(11))
    for mine, theirs in zip(jax.tree.leaves(resumed.state), jax.tree.leaves(result.state), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(resumed.history["loss"], result.history["loss"])


def test_a_group_gains_what_all_of_them_gain():
    """theory.md 3 per group: on a sphere |g_l|²/TrH_l is |g|²/TrH, so at the same s a group of 100 gains like all 800."""
    groups, size, num_offspring, strength, runs = 8, 100, 20, 0.5, 1000
    params = [jnp.ones(size)] * groups

    def loss_fn(params):
        return sum(jnp.sum(jnp.square(group)) for group in params) / 2

    def gains(mutation, sigma):
        algorithm = mutagrad.elitist(sigma, num_offspring, mutation=mutation)
        state = algorithm.init(params)
        keys = jax.random.split(jax.random.key(0), runs)
        changes = jax.lax.map(lambda key: algorithm.step(key, state, loss_fn)[1].loss_change, keys)
        return -float(jnp.mean(changes)), float(jnp.std(changes)) / runs**0.5

    one, all_of = (
        gains(masked([True] + [False] * (groups - 1)), strength / size**0.5),
        gains(mutagrad.mutation.gaussian(), strength / (groups * size) ** 0.5),
    )
    predicted = float(mutagrad.theory.expected_gain(strength, num_offspring))
    # |g|²/TrH is 1 for both; three errors, and 2 % for a length of a mutation that varies by 1/√50 of itself.
    for gain, error in (one, all_of):
        assert abs(gain - predicted) < 3 * error + 0.02 * predicted


@pytest.mark.parametrize("is_resampled", [False, True])
def test_each_group_is_told_whether_the_batch_is_another_one(is_resampled):
    """Where nothing is drawn, the spread of the examples is no noise; where it is, every group's memory holds some."""
    centres = jax.random.normal(jax.random.key(3), (2, 64, 6))

    def loss(generation, groups):
        batch = centres[generation % 2 if is_resampled else 0]
        return sum(jnp.sum(jnp.square(group[None] - batch), axis=1) for group in groups)

    algorithm = mutagrad.rotate(mutagrad.adapt_sigma(FIRST, "strength"), turn, 3, 2)

    @jax.jit
    def step(key, state):
        return algorithm.step(key, state, lambda groups: loss(state.generation, groups), is_resampled=is_resampled)

    state = algorithm.init(GROUPS)
    for generation in range(30):
        state, info = step(jax.random.fold_in(jax.random.key(0), generation), state)
        assert bool(info.is_resampled) == is_resampled
    noise = [float(one.memory.noise_long) for one in state.states]
    assert all(value > 0 for value in noise) if is_resampled else max(noise) == 0


def test_rotate_under_vmap_and_jit():
    algorithm = mutagrad.rotate(FIRST, turn, 3)
    keys = jax.random.split(jax.random.key(0), 3)

    def run(key):
        return algorithm.step(key, algorithm.init(GROUPS), sum_of_groups)[1].losses

    np.testing.assert_allclose(jax.jit(jax.vmap(run))(keys)[1], jax.jit(run)(keys[1]), rtol=1e-6)


A, B = mutated(ONLY_A), mutated(ONLY_B)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: mutagrad.alternate([A, "b"]), "algorithms: got 'b'; pass an algorithm"),
        (lambda: mutagrad.alternate([mutagrad.alternate([A, B]), A]), "algorithms: got one in which others take turns"),
        (lambda: masked({"a": 1}), r"mask\['a'\]: got 1; pass True"),
        (lambda: masked({"a": False}), "mask: got no True"),
        (lambda: masked({"x": True}).sample_fn(jax.random.key(0), PARAMS), "mask: got a tree"),
        (lambda: mutagrad.alternate([A]), "algorithms: got 1; pass two"),
        (lambda: mutagrad.alternate([A, B], [1]), "generations: got 1 numbers for 2 algorithms"),
        (lambda: mutagrad.alternate([A, B], [1, 0]), "generations: got 0"),
        (lambda: mutagrad.alternate([A, mutagrad.greedy(0.1)]), "algorithms: got 6, 1 offspring"),
        (lambda: mutagrad.alternate([mutagrad.truncation(0.1, 4, 2)] * 2), "algorithms: got truncation with 2 parents"),
        (lambda: mutagrad.rotate(mutagrad.truncation(0.1, 4, 2), turn, 3), "algorithm: got truncation with 2 parents"),
        (lambda: mutagrad.rotate(FIRST, turn, 0), "number: got 0"),
        (lambda: mutagrad.rotate(FIRST, turn, 3, 0), "generations: got 0"),
        (lambda: mutagrad.rotate(FIRST, turn, 2).init(GROUPS), "number: got 2, and rotate_fn so many times"),
        (lambda: mutagrad.rotate(FIRST, lambda groups: groups[1:], 3).init(GROUPS), "rotate_fn: got other params"),
        (lambda: mutagrad.alternate([A, mutated(ONLY_B, reevaluate_parent=False)]), "algorithms: got one with reev"),
    ],
)
def test_refused_arguments(build, words):
    with pytest.raises(ValueError, match=f"^{words}") as caught:
        build()
    assert "\n" not in str(caught.value)
