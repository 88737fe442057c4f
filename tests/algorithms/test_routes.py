"""The library against itself by other routes: evaluated, compiled, built and cached in other ways; and its random keys."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle_problems import ALGORITHMS, EXACT, leaves_of, network_loss, network_loss_in_numpy, network_params

import mutagrad
from mutagrad import mutation as density


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
    ("name", "kind"),
    [
        ("elitist", "scalar"),
        ("elitist", "vector"),
        ("metropolis", "scalar"),
    ],
)
def test_cached_parent_loss_equals_reevaluation(name, kind):
    """On a loss that never changes, twenty generations are the same with one evaluation less in each."""
    build, _, _ = ALGORITHMS[name]
    loss = network_loss if kind == "vector" else lambda params: jnp.mean(network_loss(params))
    runs = []
    for reevaluate in (True, False):
        algorithm = build(sigma=0.25, mutation=EXACT, reevaluate_parent=reevaluate)
        state = algorithm.init(network_params(), None if reevaluate else loss)

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
    assert cached.parent_loss.shape == ((16,) if kind == "vector" else (1,))
    np.testing.assert_allclose(jnp.mean(cached.parent_loss), network_loss_in_numpy(leaves_of(cached.params)), rtol=1e-5)
    assert 0 < int(jnp.sum(fresh_info.is_accepted)) < 20


def test_a_kept_loss_must_be_given_at_init():
    with pytest.raises(ValueError, match="^loss_fn: got None with reevaluate_parent=False; pass init"):
        mutagrad.elitist(0.1, 5, reevaluate_parent=False).init(jnp.ones(3))


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
        state, _ = step(jax.random.key(0), algorithm.init(jnp.ones(3), loss))
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
