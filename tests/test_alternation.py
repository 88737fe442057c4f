"""Masked mutations and algorithms that take turns: both are exactly what they are made of."""

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
    """Bit for bit, whichever way offspring are evaluated."""
    whole, part = mutated(ONLY_B, evaluation=evaluation), mutated(mutagrad.mutation.gaussian(), evaluation=evaluation)
    others = {"a": PARAMS["a"], "n": PARAMS["n"]}
    state, alone = whole.init(PARAMS), part.init({"b": PARAMS["b"]})
    for generation in range(20):
        key = jax.random.fold_in(jax.random.key(0), generation)
        state, info = whole.step(key, state, loss_fn)
        alone, expected = part.step(key, alone, lambda params: loss_fn(others | params))
        np.testing.assert_array_equal(info.losses, expected.losses)
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


def test_alternate_under_vmap_scan_and_evolve(tmp_path):
    algorithm = mutagrad.alternate([mutated(ONLY_A), mutated(ONLY_B)])

    def run(key):
        def body(state, generation):
            state, info = algorithm.step(jax.random.fold_in(key, generation), state, loss_fn)
            return state, info.parent_loss

        return jax.lax.scan(body, algorithm.init(PARAMS), jnp.arange(10))[1]

    keys = jax.random.split(jax.random.key(0), 3)
    np.testing.assert_allclose(jax.vmap(run)(keys)[1], run(keys[1]), rtol=1e-6)
    whole = mutagrad.evolve(keys[0], algorithm, PARAMS, loss_fn, 12, progress=False)
    mutagrad.evolve(keys[0], algorithm, PARAMS, loss_fn, 5, progress=False, checkpoint=tmp_path / "run")
    parts = mutagrad.evolve(keys[0], algorithm, PARAMS, loss_fn, 12, progress=False, checkpoint=tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, whole.params, parts.params)


def test_with_sigma_sets_all_of_them():
    state = mutagrad.alternate([mutated(ONLY_A), mutated(ONLY_B)]).init(PARAMS).with_sigma(jnp.asarray(0.5))
    assert [float(one.sigma) for one in (state, *state.states)] == [0.5, 0.5, 0.5]


A, B = mutated(ONLY_A), mutated(ONLY_B)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: masked({"a": 1}), r"mask\['a'\]: got 1; pass True"),
        (lambda: masked({"a": False}), "mask: got no True"),
        (lambda: masked({"x": True}).sample_fn(jax.random.key(0), PARAMS), "mask: got a tree"),
        (lambda: mutagrad.alternate([A]), "algorithms: got 1; pass two"),
        (lambda: mutagrad.alternate([A, B], [1]), "generations: got 1 numbers for 2 algorithms"),
        (lambda: mutagrad.alternate([A, B], [1, 0]), "generations: got 0"),
        (lambda: mutagrad.alternate([A, mutagrad.greedy(0.1)]), "algorithms: got 6 and 1 offspring"),
        (lambda: mutagrad.alternate([mutagrad.truncation(0.1, 4, 2)] * 2), "algorithms: got truncation with 2 parents"),
        (lambda: mutagrad.alternate([A, mutated(ONLY_B, reevaluate_parent=False)]), "algorithms: got one with reev"),
    ],
)
def test_refused_arguments(build, words):
    with pytest.raises(ValueError, match=f"^{words}") as caught:
        build()
    assert "\n" not in str(caught.value)
