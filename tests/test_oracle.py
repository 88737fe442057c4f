"""The library against a plain NumPy oracle, winner by winner and bit by bit, and against itself by other routes."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest

import mutagrad
from mutagrad import mutation as density

BETA = 1.3
SIZE = 6

# Each algorithm, how many offspring it has, and its rule in the oracle: ``rule(draws) -> decide(losses, parent_loss)``.


def one(probability):
    return lambda draws: lambda losses, parent: oracle.judge_one(losses[0], parent, draws["uniform"], probability)


ALGORITHMS = {
    "metropolis": (functools.partial(mutagrad.metropolis, beta=BETA), 1, one(oracle.metropolis(BETA))),
    "greedy": (mutagrad.greedy, 1, one(oracle.greedy())),
    "logistic": (functools.partial(mutagrad.logistic, beta=BETA), 1, one(oracle.logistic(BETA))),
    "moran": (
        functools.partial(mutagrad.fixation, beta=BETA, population_size=4),
        1,
        one(oracle.fixation(BETA, 4, "moran")),
    ),
    "wright_fisher": (
        functools.partial(mutagrad.fixation, beta=BETA, population_size=4, model="wright_fisher"),
        1,
        one(oracle.fixation(BETA, 4, "wright_fisher")),
    ),
    "boltzmann": (
        functools.partial(mutagrad.boltzmann, beta=BETA, num_offspring=SIZE),
        SIZE,
        lambda draws: lambda losses, parent: oracle.boltzmann(losses, parent, draws["gumbel"], BETA),
    ),
    "elitist": (
        functools.partial(mutagrad.elitist, num_offspring=SIZE),
        SIZE,
        lambda draws: oracle.elitist,
    ),
    "comma": (
        functools.partial(mutagrad.comma, num_offspring=SIZE),
        SIZE,
        lambda draws: lambda losses, parent: oracle.comma(losses),
    ),
    "truncation": (
        functools.partial(mutagrad.truncation, population_size=SIZE, num_parents=3),
        SIZE,
        lambda draws: lambda losses, parent: oracle.truncation(losses, 3),
    ),
}


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


def leaves_of(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def parents_of(state):
    """The library's parents as the oracle holds them: a list of lists of arrays."""
    if not isinstance(state, mutagrad.PopulationState):
        return [leaves_of(state.params)]
    number = state.parents["b"].shape[0]
    floating = [jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(state.parents)]
    leaves = leaves_of(state.parents)
    return [[leaf[k] if split else leaf for leaf, split in zip(leaves, floating, strict=True)] for k in range(number)]


# ----------------------------------------------------------------------------------------------------------------------
# A small nonlinear regression, in float32 by the library and in float64 by the oracle
# ----------------------------------------------------------------------------------------------------------------------

RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(16, 3)).astype(np.float32)
TARGETS = np.sin(INPUTS @ np.array([1.0, -2.0, 0.5])).astype(np.float32)


def network_params():
    """Leaves in the order of their names: b (float16), steps (int), w."""
    return {
        "b": jnp.asarray([0.5, -0.25, 0.0, 1.0], jnp.float16),
        "steps": jnp.arange(3),
        "w": jax.random.normal(jax.random.key(9), (3, 4)),
    }


def network_loss(params):
    """Per-example squared errors (16,)."""
    hidden = jnp.tanh(jnp.asarray(INPUTS) @ params["w"] + params["b"].astype(jnp.float32)[None])
    return jnp.square(jnp.sum(hidden, axis=1) - jnp.asarray(TARGETS))


def network_values_in_numpy(params):
    b, _, w = (values.astype(np.float64) for values in params)
    return (np.tanh(INPUTS.astype(np.float64) @ w + b).sum(axis=1) - TARGETS.astype(np.float64)) ** 2


def network_loss_in_numpy(params):
    return float(np.mean(network_values_in_numpy(params)))


# float32 rounding of a mean of 16 losses of order 1; a margin above it decides alike in any precision.
ROUNDING = 2e-6


def exact_noise(key, params):
    """Uniform noise in [−2, 2) on a grid: with σ = 1/4 products are exact, and any compilation rounds x + σz alike."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    noise = [4 * jax.random.uniform(k, jnp.shape(leaf)) - 2 for k, leaf in zip(keys, leaves, strict=True)]
    return structure.unflatten(noise)


EXACT = mutagrad.Mutation(exact_noise, "exact")


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
    num_parents = algorithm.parts.selection.num_winners
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


# ----------------------------------------------------------------------------------------------------------------------
# The library against itself by other routes
# ----------------------------------------------------------------------------------------------------------------------


def assert_same(a, b, ulp=1):
    """Equal structure and non-floating values; floating values within ``ulp`` units in the last place."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(leaves_of(a), leaves_of(b), strict=True):
        assert x.dtype == y.dtype
        if x.dtype.kind == "f":
            np.testing.assert_array_max_ulp(x, y, maxulp=ulp)
        else:
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("name", ["elitist", "truncation"])
def test_evaluation_modes_agree(name):
    """Same winner and parents; chunks of 4 leave a remainder of 2."""
    build, _, _ = ALGORITHMS[name]
    results = {}
    for mode in ("vectorized", "mapped", 4):
        algorithm = build(sigma=0.25, evaluation=mode, mutation=EXACT)
        state = algorithm.init(network_params())
        results[mode] = jax.jit(lambda key, state, step=algorithm.step: step(key, state, network_loss))(
            jax.random.key(2), state
        )
    for state, info in results.values():
        assert_same(state, results["vectorized"][0])
        np.testing.assert_array_equal(info.winner, results["vectorized"][1].winner)
        np.testing.assert_allclose(info.losses, results["vectorized"][1].losses, rtol=1e-6)
    assert np.any(results["mapped"][1].is_accepted)


@pytest.mark.parametrize("name", ["metropolis", "elitist", "truncation"])
def test_jit_scan_and_vmap_equal_the_loop(name):
    """Ten generations: jitted loop, plain loop, scan; then vmap over keys, states and σ against one at a time."""
    build, _, _ = ALGORITHMS[name]
    algorithm = build(sigma=0.25, mutation=EXACT)
    keys = jax.random.split(jax.random.key(1), 10)
    start = algorithm.init(network_params())

    def step(key, state):
        return algorithm.step(key, state, network_loss)

    jitted = jax.jit(step)
    looped, infos = start, []
    for key in keys:
        looped, info = jitted(key, looped)
        infos.append(info)
    scanned, scanned_infos = jax.jit(lambda s: jax.lax.scan(lambda s, key: step(key, s), s, keys))(start)
    assert_same(scanned, looped)
    np.testing.assert_array_equal(scanned_infos.winner, np.stack([info.winner for info in infos]))
    assert np.any(scanned_infos.is_accepted)

    if name == "elitist":
        plain = start
        for key in keys[:2]:
            plain, plain_info = step(key, plain)
        np.testing.assert_array_equal(plain_info.winner, infos[1].winner)
        assert_same(plain, jitted(keys[1], jitted(keys[0], start)[0])[0])

    sigmas = jnp.array([0.125, 0.25, 0.5])
    starts = [
        start.with_sigma(sigma).with_params(network_params() | {"b": jnp.full(4, sigma, jnp.float16)})
        for sigma in sigmas
    ]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts)
    batched, batched_info = jax.jit(jax.vmap(step))(keys[:3], stacked)
    for index, state in enumerate(starts):
        alone, info = jitted(keys[index], state)
        assert_same(jax.tree.map(lambda leaf, i=index: leaf[i], batched), alone)
        np.testing.assert_array_equal(batched_info.winner[index], info.winner)
        np.testing.assert_array_equal(batched_info.sigma[index], sigmas[index])


@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_algorithm_can_be_built_inside_jit(name):
    """Constants given inside a jitted function are numbers, as they are outside: the same program comes of them."""
    build, _, _ = ALGORITHMS[name]
    outside = build(sigma=0.25, mutation=EXACT)

    def built_inside(key, params):
        algorithm = build(sigma=0.25, mutation=EXACT)
        return algorithm.step(key, algorithm.init(params), network_loss)

    def built_outside(key, params):
        return outside.step(key, outside.init(params), network_loss)

    arguments = jax.random.key(3), network_params()
    inside, expected = (jax.jit(fn).trace(*arguments).out_info for fn in (built_inside, built_outside))
    assert inside == expected
    if name == "metropolis":
        assert_same(jax.jit(built_inside)(*arguments)[0], jax.jit(built_outside)(*arguments)[0])


@pytest.mark.parametrize("argument", ["sigma", "beta"])
def test_refused_arguments_are_refused_inside_jit(argument):
    """A constant is checked under jit too; only a traced number is taken on trust."""
    good = {"sigma": 0.1, "beta": 1.0}
    with pytest.raises(ValueError, match=f"^{argument}: got -1.0; pass a (positive|number of 0)"):
        jax.jit(lambda x: x + mutagrad.metropolis(**good | {argument: -1.0}).init(x).sigma)(jnp.ones(2))
    traced = jax.jit(lambda x, value: mutagrad.metropolis(**good | {argument: value}).init(x).sigma)
    assert float(traced(jnp.ones(2), jnp.float32(0.5))) == pytest.approx(0.5 if argument == "sigma" else 0.1)


@pytest.mark.parametrize(
    ("name", "init_with"),
    [
        ("elitist", "scalar, at the first step"),
        ("elitist", "scalar, at init"),
        ("elitist", "vector, at init"),
        ("metropolis", "scalar, at the first step"),
    ],
)
def test_cached_parent_loss_equals_reevaluation(name, init_with):
    """On a loss that never changes, twenty generations are the same with one evaluation less in each."""
    build, _, _ = ALGORITHMS[name]
    loss = network_loss if init_with.startswith("vector") else lambda params: jnp.mean(network_loss(params))
    runs = []
    for reevaluate in (True, False):
        algorithm = build(sigma=0.25, mutation=EXACT, reevaluate_parent=reevaluate)
        state = algorithm.init(network_params(), None if init_with.endswith("first step") else loss)

        def scan(state, step=algorithm.step):
            def body(state, key):
                return step(key, state, loss)

            return jax.lax.scan(body, state, jax.random.split(jax.random.key(6), 20))

        runs.append(jax.jit(scan)(state))
    (fresh, fresh_info), (cached, cached_info) = runs
    assert_same(cached.params, fresh.params)
    np.testing.assert_array_equal(cached_info.winner, fresh_info.winner)
    np.testing.assert_allclose(cached_info.parent_loss, fresh_info.parent_loss, rtol=1e-6)
    assert fresh.parent_loss is None
    np.testing.assert_allclose(jnp.mean(cached.parent_loss), network_loss_in_numpy(leaves_of(cached.params)), rtol=1e-5)
    assert 0 < int(jnp.sum(fresh_info.is_accepted)) < 20


def test_cached_parent_loss_saves_an_evaluation():
    """Counted by a callback, not believed: M + 1 evaluations a generation become M."""
    counts = {}
    for reevaluate in (True, False):
        calls = []

        def loss(x, calls=calls):
            jax.debug.callback(lambda _: calls.append(1), x[0])
            return jnp.sum(jnp.square(x))

        algorithm = mutagrad.elitist(0.1, 5, reevaluate_parent=reevaluate, evaluation="mapped")
        step = jax.jit(lambda key, state, step=algorithm.step, loss=loss: step(key, state, loss))
        state, _ = step(jax.random.key(0), algorithm.init(jnp.ones(3)))
        jax.effects_barrier()
        calls.clear()
        step(jax.random.key(1), state)
        jax.effects_barrier()
        counts[reevaluate] = len(calls)
    assert counts == {True: 6, False: 5}


# ----------------------------------------------------------------------------------------------------------------------
# Random keys
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALGORITHMS)
def test_no_key_is_used_twice(name):
    """JAX's own checker follows every key through the program of one generation; it need not run for that."""
    algorithm = ALGORITHMS[name][0](sigma=0.1)
    state = algorithm.init(network_params())
    with jax.debug_key_reuse(True):
        jax.jit(lambda key, state: algorithm.step(key, state, network_loss)).trace(jax.random.key(0), state)


@pytest.mark.parametrize("name", ["gaussian", "sphere", "ball", "student_t", "rademacher", "low_rank"])
def test_no_density_uses_a_key_twice(name):
    params = {"a": jnp.zeros((3, 2)), "b": jnp.zeros((3, 2)), "c": jnp.zeros(4)}
    with jax.debug_key_reuse(True):
        jax.jit(getattr(density, name)().sample_fn).trace(jax.random.key(0), params)


def test_key_reuse_is_detected():
    """The checker that the two tests above rely on sees a density that gives two leaves one key."""

    def careless(key, params):
        return jax.tree.map(lambda leaf: jax.random.normal(key, leaf.shape), params)

    algorithm = mutagrad.greedy(0.1, mutation=careless)
    state = algorithm.init([jnp.zeros(3), jnp.zeros(3)])
    with jax.debug_key_reuse(True), pytest.raises(jax.errors.KeyReuseError):
        jax.jit(lambda key: algorithm.step(key, state, lambda x: jnp.sum(x[0] + x[1]))).trace(jax.random.key(0))
