"""Keys of every kind: the same mutation wherever it is made; ties decided by no rounding; what is no key is refused."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mutagrad

KEYS = {
    "threefry": lambda: jax.random.key(0),
    "rbg": lambda: jax.random.key(0, impl="rbg"),
    "unsafe_rbg": lambda: jax.random.key(0, impl="unsafe_rbg"),
    "raw uint32": lambda: jax.random.PRNGKey(0),
    "raw NumPy": lambda: np.asarray(jax.random.PRNGKey(0)),
}
SIGNS = mutagrad.mutation.rademacher()  # σ = 1/8 on a grid: sums, squares and losses are exact


def sphere(x):
    return jnp.square(x)


def generation_keys(key, number):
    return [
        jax.random.fold_in(jax.random.wrap_key_data(jnp.asarray(key)) if key.dtype == np.uint32 else key, t)
        for t in range(number)
    ]


def trajectory(key, evaluation, mutation, number=30):
    algorithm = mutagrad.elitist(0.125, 5, mutation=mutation, evaluation=evaluation)
    step = jax.jit(lambda key, state: algorithm.step(key, state, sphere))
    state, losses, params = algorithm.init(jnp.ones((3, 4)).ravel()), [], []
    for one in generation_keys(key, number):
        state, info = step(one, state)
        losses.append(float(info.parent_loss))
        params.append(np.asarray(state.params))
    return losses, np.stack(params)


def by_hand(key, mutation, number=30):
    algorithm = mutagrad.elitist(0.125, 5, mutation=mutation)
    state, params = algorithm.init(jnp.ones(12)), []
    for one in generation_keys(key, number):
        losses = [np.asarray(sphere(candidate)) for candidate in algorithm.ask(one, state)]
        state, _ = algorithm.tell(one, state, losses)
        params.append(np.asarray(state.params))
    return np.stack(params)


@pytest.mark.parametrize("name", KEYS)
def test_the_mutation_that_won_is_the_one_that_was_evaluated(name):
    """On a deterministic loss the parent's never rises, and four ways to evaluate give one trajectory, bit for bit."""
    key = KEYS[name]()
    losses, params = trajectory(key, "vectorized", SIGNS)
    assert all(later <= earlier for earlier, later in itertools.pairwise(losses))
    assert losses[-1] < losses[0]
    for evaluation in ("mapped", 4):
        np.testing.assert_array_equal(trajectory(key, evaluation, SIGNS)[1], params)
    np.testing.assert_array_equal(by_hand(key, SIGNS), params)


@pytest.mark.parametrize("evaluation", ["vectorized", "mapped"])
@pytest.mark.parametrize("name", ["rbg", "unsafe_rbg"])
def test_gaussian_mutations_too(name, evaluation):
    losses, _ = trajectory(KEYS[name](), evaluation, mutagrad.mutation.gaussian())
    # A sum of twelve squares of order 1 is rounded by 10⁻⁷ of itself.
    assert all(later <= earlier * (1 + 1e-6) for earlier, later in itertools.pairwise(losses))
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("name", ["rbg", "unsafe_rbg"])
def test_several_parents(name):
    """The parents are the offspring whose losses were the lowest: what was made again is what was evaluated."""
    algorithm = mutagrad.truncation(0.125, 6, 2, mutation=SIGNS)
    keys = jax.random.split(KEYS[name](), 3)

    def run(key):
        def body(state, t):
            state, info = algorithm.step(jax.random.fold_in(key, t), state, sphere)
            return state, info.losses

        state, losses = jax.lax.scan(body, algorithm.init(jnp.ones(4)), jnp.arange(4))
        return state.parents, losses

    parents, losses = jax.jit(run)(keys[1])
    lowest = np.sort(np.mean(np.square(parents), axis=1))
    np.testing.assert_array_equal(lowest, np.sort(losses[-1])[:2])


def test_evolve_takes_them_all():
    for name, make in KEYS.items():
        algorithm = mutagrad.elitist(0.125, 5, mutation=SIGNS)
        result = mutagrad.evolve(make(), algorithm, jnp.ones(12), sphere, 20, progress=False)
        loss = result.history["loss"]
        assert np.all(np.diff(loss) <= 0), name
        assert loss[-1] < loss[0], name


@pytest.mark.parametrize("name", ["threefry", "rbg", "unsafe_rbg"])
def test_a_mutant_made_alone_is_the_one_made_among_all(name):
    """Of a density whose numbers are no powers of two, to the last digit."""
    algorithm = mutagrad.elitist(0.1, 8)
    state = algorithm.init(jnp.linspace(-1, 1, 50))
    together, alone = jax.jit(lambda offspring: offspring.made().mutants), jax.jit(lambda one, k: one.mutant(k))
    for key in generation_keys(KEYS[name](), 4):
        offspring = algorithm.ask(key, state)
        np.testing.assert_array_equal(together(offspring), [alone(offspring, k) for k in range(8)])


NO_KEYS = {
    "a float": 0.5,
    "an int": 0,
    "None": None,
    "a string": "0",
    "a batch of keys": jax.random.split(jax.random.key(0), 2),
    "a batch of raw keys": jax.random.split(jax.random.PRNGKey(0), 2),
    "int32": np.array([0, 1], np.int32),
    "a float array": jnp.zeros(2),
    "three numbers": np.zeros(3, np.uint32),
    "a scalar": np.uint32(3),
}


@pytest.mark.parametrize("name", NO_KEYS)
def test_what_is_no_key_is_refused(name):
    algorithm = mutagrad.elitist(0.1, 4)
    state, value = algorithm.init(jnp.ones(2)), NO_KEYS[name]
    doors = [
        lambda: algorithm.ask(value, state),
        lambda: algorithm.tell(value, state, [0.0] * 5),
        lambda: algorithm.step(value, state, sphere),
        lambda: mutagrad.evolve(value, algorithm, jnp.ones(2), sphere, 3, progress=False),
        lambda: next(mutagrad.generations(value, algorithm, state, sphere, 3)),
        lambda: mutagrad.as_gradient_transformation(algorithm, value),
    ]
    for door in doors:
        with pytest.raises(ValueError, match="^key: got .*; pass one key, such as jax.random.key") as caught:
            door()
        assert "\n" not in str(caught.value)


# ----------------------------------------------------------------------------------------------------------------------
# Ties
# ----------------------------------------------------------------------------------------------------------------------

DATA = jax.random.normal(jax.random.key(8), (300, 5))


@pytest.mark.parametrize(
    ("evaluation", "product"), [("vectorized", False), ("mapped", False), (3, False), ("mapped", True)]
)
@pytest.mark.parametrize("kind", ["scalar", "per example"])
@pytest.mark.parametrize("build", [mutagrad.elitist, mutagrad.weighted_recombination])
def test_candidates_that_are_alike_tie(evaluation, product, kind, build):
    """σ so small that no parameter moves: all differences are 0, not a rounding of the mean over 300 examples.

    Of several matrix–vector products at once the compiler rounds some otherwise than others; one after another it does not.
    """

    def losses(x):
        hidden = DATA @ x if product else sum(DATA[:, i] * x[i] for i in range(5))
        values = jnp.log1p(jnp.square(jnp.tanh(hidden) - 0.3))
        return jnp.mean(values) if kind == "scalar" else values

    algorithm = build(1e-12, 20, evaluation=evaluation)
    step = jax.jit(lambda key, state: algorithm.step(key, state, losses))
    for seed in range(3):
        state = algorithm.init(jax.random.normal(jax.random.key(seed), (5,)))
        _, info = step(jax.random.key(seed), state)
        np.testing.assert_array_equal(info.loss_differences, np.zeros(20))
        np.testing.assert_array_equal(info.losses, np.full(20, info.parent_loss))
        assert np.isnan(info.normalized_mutation_strength)


def test_the_same_losses_told_tie_too():
    algorithm = mutagrad.elitist(1e-12, 3)
    _, info = algorithm.tell(jax.random.key(0), algorithm.init(jnp.ones(2)), [0.1] * 4)
    np.testing.assert_array_equal(info.loss_differences, np.zeros(3))
    assert int(info.winner) == 0
