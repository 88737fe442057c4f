"""Discrete parameters: jumps against their exact laws (theory.md 10).

A mutation is a function of the random bits. Fed with evenly spaced bits it gives the transition matrix of a site without
sampling error. Sums are checked within 4 standard errors, distributions by χ² at p > 10⁻⁴; all seeds are fixed.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import mutagrad
from mutagrad import mutation as density
from mutagrad.mutation.changes import Jumps

FALSE_ALARM = 1e-4
NUM_BITS = 2**18


def even_bits():
    """All signs and magnitudes, evenly spaced."""
    return (np.arange(NUM_BITS, dtype=np.uint64) * (2**32 // NUM_BITS) + np.arange(NUM_BITS) % 2).astype(np.uint32)


def transitions(number, sigma, is_ordered, start):
    """P(start → each value), by quadrature over the bits."""
    jumps = Jumps(jnp.asarray(even_bits()), jnp.ones(()), 0, 1, number, is_ordered)
    after = jumps.applied(jnp.full(NUM_BITS, start, jnp.int32), jnp.float32(sigma))
    return np.bincount(np.asarray(after), minlength=number) / NUM_BITS


def matrix(number, sigma, is_ordered):
    return np.stack([transitions(number, sigma, is_ordered, start) for start in range(number)])


def two_sided_geometric(jumps, sigma):
    """P(k) of variance σ², from its definition, in float64."""
    mean_square = sigma**2
    q = 1 + 1 / mean_square - math.sqrt((1 + 1 / mean_square) ** 2 - 1)
    return (1 - q) / (1 + q) * q ** np.abs(jumps)


# --- integers ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.05, 0.3, 1.0, 6.0])
def test_jumps_are_two_sided_geometric_with_variance_sigma_squared(sigma):
    found = transitions(2001, sigma, True, 1000)
    jumps = np.arange(-1000, 1001)
    law = two_sided_geometric(jumps, sigma)
    assert np.sum(law * jumps**2) == pytest.approx(sigma**2)
    np.testing.assert_allclose(found, law, atol=3 / NUM_BITS)
    assert 1 - found[1000] == pytest.approx(float(mutagrad.theory.mutation_probability(sigma)), abs=3 / NUM_BITS)


def test_rare_mutations_are_as_rare_as_they_should_be():
    """2·10⁶ sites at p = 5·10⁻⁵: about 100 change. The number is Poisson."""
    start = jnp.zeros(2 * 10**6, jnp.int8)
    noise = density.discrete(range(-100, 101)).sample_fn(jax.random.key(0), start)
    number = int(jnp.sum(noise.applied(start, jnp.float32(math.sqrt(5e-5))) != 0))
    assert stats.poisson.cdf(number, 100) > FALSE_ALARM / 2
    assert stats.poisson.sf(number - 1, 100) > FALSE_ALARM / 2


@pytest.mark.parametrize("is_ordered", [True, False])
@pytest.mark.parametrize("number", [2, 3, 5, 16])
@pytest.mark.parametrize("sigma", [0.1, 1.0, 1e3, 1e30])
def test_mutations_of_a_site_are_symmetric(number, is_ordered, sigma):
    """As probable there as back, at the ends too; at a large σ all values are equally likely."""
    found = matrix(number, sigma, is_ordered)
    # Every jump is an interval of bits, off by one at most, and so many of them are reflected to one value.
    largest = min(sigma, 4 * number) / math.sqrt(2) * math.log(NUM_BITS)
    np.testing.assert_allclose(found, found.T, rtol=0, atol=(4 + 2 * largest / number) / NUM_BITS)
    if sigma > 10:
        # A geometric of mean 4n places, reflected; categories are uniform to rounding.
        np.testing.assert_allclose(found, 1 / number, rtol=0.05 if is_ordered else 1e-3)


@pytest.mark.parametrize("number", [2, 3, 7])
@pytest.mark.parametrize("sigma", [0.1, 0.7, 2.0])
def test_categories_are_substituted_as_by_jukes_and_cantor(number, sigma):
    """exp(Qσ²) of the matrix of equal rates of substitution, one substitution a unit of time."""
    from scipy.linalg import expm

    rates = (np.ones((number, number)) - number * np.eye(number)) / (number - 1)
    np.testing.assert_allclose(matrix(number, sigma, False), expm(rates * sigma**2), atol=4 / NUM_BITS)


@pytest.mark.parametrize("is_ordered", [True, False])
def test_minus_sigma_is_the_opposite_mutation(is_ordered):
    jumps = Jumps(jnp.asarray(even_bits()), jnp.ones(()), -50, 1, 101, is_ordered)
    leaf = jnp.zeros(NUM_BITS, jnp.int32)
    there, back = jumps.applied(leaf, jnp.float32(1.5)), jumps.applied(leaf, jnp.float32(-1.5))
    assert bool(jnp.any(there != 0))
    if is_ordered:
        is_inner = jnp.abs(there) < 40
        assert bool(jnp.all(jnp.where(is_inner, there + back == 0, True)))
    else:
        assert bool(jnp.all(jnp.mod(there + back - 2 * -50, 101) == jnp.mod(2 * 50, 101)))


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("int32", range(10**9, 10**9 + 100)),
        ("int32", range(-(2**31), -(2**31) + 100)),
        ("int32", range(2**31 - 100, 2**31)),
        ("uint32", range(3 * 10**9, 3 * 10**9 + 100)),
        ("int32", range(10**9, 10**9 - 700, -7)),
        ("int8", range(100, -100, -2)),
        ("float32", range(2**23, 2**23 + 100)),
    ],
)
def test_ranges_anywhere_jump_as_those_at_zero(dtype, values):
    """The same bits make the same jumps, however far from 0 the values are."""
    jumps = density.discrete(range(100)).sample_fn(jax.random.key(0), jnp.zeros(2000, jnp.int32))
    places = np.random.default_rng(0).integers(0, 100, 2000)
    expected = np.asarray(jumps.applied(jnp.asarray(places, jnp.int32), jnp.float32(1.5)))
    start = jnp.asarray(np.asarray(values)[places].astype(dtype))
    noise = density.discrete(values).sample_fn(jax.random.key(0), start)
    after = np.asarray(noise.applied(start, jnp.float32(1.5 * abs(values.step))))
    assert after.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(after.astype(np.float64), np.asarray(values)[expected])


def test_integers_of_64_bits():
    with jax.enable_x64(True):
        values = range(2**40, 2**40 + 10)
        start = jnp.full(200, 2**40 + 5)
        noise = density.discrete(values).sample_fn(jax.random.key(0), start)
        after = np.asarray(noise.applied(start, jnp.float64(1.0)))
    assert set(after.tolist()) <= set(values)
    assert len(set(after.tolist())) > 3


VALUES = st.integers(-300, 300)


@given(VALUES, st.integers(1, 9), st.integers(2, 40), st.sampled_from([1e-30, 0.1, 2.0, 1e30]), st.booleans())
def test_values_stay_in_their_domain(first, step, number, sigma, is_ordered):
    values = range(first, first + step * number, step)
    domain = values if is_ordered else density.categories(values)
    start = jnp.asarray(np.resize(np.asarray(values), 64), jnp.int32)
    noise = density.discrete(domain).sample_fn(jax.random.key(number), start)
    after = noise.applied(start, jnp.float32(sigma))
    assert after.dtype == start.dtype
    assert set(np.asarray(after).tolist()) <= set(values)
    assert bool(jnp.all(noise.applied(start, jnp.float32(0)) == start))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "bool", "float32", "bfloat16", "int4"])
def test_dtypes(dtype):
    """Of every dtype a leaf keeps its own, and a search over it ends at the target."""
    domain = range(-1, 2) if dtype in ("float32", "bfloat16") else True
    target = jnp.asarray([1, 0, 1, 1, 0], dtype)
    algorithm = mutagrad.elitist(sigma=0.5, num_offspring=8, mutation=density.discrete(domain))
    state = algorithm.init(jnp.zeros(5, dtype))

    def loss_fn(x):
        return jnp.sum(jnp.abs(x.astype(jnp.float32) - target.astype(jnp.float32)))

    def body(state, key):
        return algorithm.step(key, state, loss_fn)[0], None

    params = jax.jit(lambda: jax.lax.scan(body, state, jax.random.split(jax.random.key(0), 200)))()[0].params
    assert params.dtype == target.dtype
    np.testing.assert_array_equal(np.asarray(params).astype(float), np.asarray(target).astype(float))


MIXED = {"w": jnp.ones(3), "b": jnp.zeros((2, 2), jnp.int8), "s": jnp.ones(4), "c": jnp.zeros(5, jnp.int32), "n": 7}
DOMAIN = {"w": False, "b": True, "s": range(-1, 2, 2), "c": density.categories(3), "n": False}


def mixed_loss(x):
    far = jnp.sum((x["w"] - 2) ** 2) + jnp.sum((x["b"].astype(jnp.float32) - 3) ** 2) + jnp.sum(x["s"])
    return far + jnp.mean(x["c"] != 2) * 5


@pytest.mark.parametrize("evaluation", ["mapped", "vectorized", 3])
def test_real_and_discrete_leaves_in_one_tree(evaluation):
    algorithm = mutagrad.elitist(sigma=0.4, num_offspring=16, mutation=density.discrete(DOMAIN), evaluation=evaluation)
    end = mutagrad.evolve(jax.random.key(1), algorithm, MIXED, mixed_loss, 300, progress=False).params
    assert end["n"] == 7
    assert float(jnp.max(jnp.abs(end["w"] - 2))) < 0.5
    np.testing.assert_array_equal(end["b"], jnp.full((2, 2), 3, jnp.int8))
    np.testing.assert_array_equal(end["s"], -jnp.ones(4))
    np.testing.assert_array_equal(end["c"], jnp.full(5, 2))


def test_leaves_draw_other_numbers():
    """Leaves of one shape are independent of one another, and discrete ones of real ones."""
    params = {"a": jnp.zeros(4000, jnp.int8), "b": jnp.zeros(4000, jnp.int8), "c": jnp.zeros(4000)}
    noise = density.discrete().sample_fn(jax.random.key(0), params)
    after = [np.asarray(noise[name].applied(params[name], jnp.float32(1.0)), float) for name in "ab"]
    after.append(np.asarray(noise["c"]))
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert abs(np.corrcoef(after[first], after[second])[0, 1]) < 4 / math.sqrt(4000)


@pytest.mark.parametrize("name", ["truncation", "crossover", "metropolis", "comma", "adapted"])
def test_every_kind_of_descent(name):
    mutation = density.discrete(DOMAIN)
    algorithm = {
        "truncation": lambda: mutagrad.truncation(0.4, 24, 4, mutation=mutation),
        "crossover": lambda: mutagrad.mutation_selection(mutation, mutagrad.selection.crossover(4), 24, sigma=0.4),
        "metropolis": lambda: mutagrad.metropolis(0.4, 20.0, mutation=mutation),
        "comma": lambda: mutagrad.comma(0.4, 24, mutation=mutation),
        "adapted": lambda: mutagrad.adapt_sigma(mutagrad.elitist(0.4, 24, mutation=mutation)),
    }[name]()
    end = mutagrad.evolve(jax.random.key(2), algorithm, MIXED, mixed_loss, 400, progress=False).params
    assert float(mixed_loss(end)) < float(mixed_loss(MIXED)) - 30
    assert set(np.asarray(end["s"]).tolist()) <= {-1.0, 1.0}
    assert end["b"].dtype == jnp.int8
    assert end["n"] == 7


def test_optax_adds_what_was_selected():
    import optax

    algorithm = mutagrad.elitist(0.4, 16, mutation=density.discrete({**DOMAIN, "f": True}))
    optimizer = mutagrad.as_gradient_transformation(algorithm, jax.random.key(0))
    params = jax.tree.map(jnp.asarray, {**MIXED, "f": jnp.zeros(3, bool)})
    state, reference = optimizer.init(params), algorithm.init(params)

    def loss_fn(x):
        return mixed_loss(x) - jnp.mean(x["f"])

    update = jax.jit(lambda state, params: optimizer.update(None, state, params, value_fn=loss_fn))
    step = jax.jit(lambda key, state: algorithm.step(key, state, loss_fn)[0])
    for generation in range(20):
        updates, state = update(state, params)
        with jax.numpy_dtype_promotion("standard"):
            params = optax.apply_updates(params, updates)  # it adds integers to booleans
        reference = step(jax.random.fold_in(jax.random.key(0), generation), reference)
        for name in ("b", "s", "c", "n", "f"):
            np.testing.assert_array_equal(params[name], reference.params[name])
    assert bool(jnp.any(params["f"]))


# --- laws ----------------------------------------------------------------------------------------------------------------

NUM_CHAINS = 40_000
HEIGHTS = jnp.asarray([0.0, 0.7, 0.2, 1.5, 0.4])
BETA = 2.0


@functools.cache
def chain_ends(kind, rule):
    domain = range(5) if kind == "lattice" else density.categories(5)
    algorithm = getattr(mutagrad, rule)(0.9, BETA, mutation=density.discrete(domain))
    start = algorithm.init(jnp.zeros((), jnp.int32))

    def chain(key):
        def body(state, key):
            return algorithm.step(key, state, lambda x: HEIGHTS[x])[0], None

        return jax.lax.scan(body, start, jax.random.split(key, 300))[0].params

    return np.bincount(
        np.asarray(jax.jit(jax.vmap(chain))(jax.random.split(jax.random.key(3), NUM_CHAINS))), minlength=5
    )


@pytest.mark.parametrize("kind", ["lattice", "categories"])
@pytest.mark.parametrize("rule", ["metropolis", "logistic"])
def test_stationary_law_of_discrete_parameters(kind, rule):
    """e^{−βU} on the values, one sample a chain; a law with β off by 5 % is rejected by the same samples."""
    counts = chain_ends(kind, rule)
    law = np.exp(-BETA * np.asarray(HEIGHTS, float))
    assert stats.chisquare(counts, NUM_CHAINS * law / law.sum()).pvalue > FALSE_ALARM
    wrong = law**1.05
    assert stats.chisquare(counts, NUM_CHAINS * wrong / wrong.sum()).pvalue < FALSE_ALARM


@pytest.mark.parametrize("rule", ["metropolis", "logistic"])
def test_drift_of_sites(rule):
    """Mean step of a site where one of 8 moves at a time, against ½ph(A(Δ₊) − A(Δ₋)), within 4 standard errors."""
    number, size, sigma, beta = 2**21, 8, 0.05, 3.0
    start = jnp.asarray([0, 1, 2, 3, 4, 4, 3, 0], jnp.int32)
    algorithm = getattr(mutagrad, rule)(sigma, beta, mutation=density.discrete(range(5)))

    def loss_fn(x):
        return jnp.sum(HEIGHTS[x])

    def step(key):
        return algorithm.step(key, algorithm.init(start), loss_fn)[0].params - start

    steps = np.asarray(
        jax.jit(lambda keys: jax.lax.map(step, keys, batch_size=2**15))(jax.random.split(jax.random.key(4), number))
    )
    padded = jnp.concatenate([jnp.asarray([jnp.inf]), HEIGHTS, jnp.asarray([jnp.inf])])
    up, down = padded[start + 2] - padded[start + 1], padded[start] - padded[start + 1]
    predicted = np.asarray(mutagrad.theory.site_drift(algorithm, up, down))
    error = steps.std(axis=0) / math.sqrt(number)
    assert steps.shape == (number, size)
    # Two sites that move at once, and jumps by two, are a share of the order of p·N = 0.02.
    assert np.all(np.abs(steps.mean(axis=0) - predicted) < 4 * error + 0.03 * np.abs(predicted))
    assert np.sum(np.square(predicted / error)) > 300
