"""Automatic σ where parameters are discrete: on the problem whose best mutation rate is known, one site an offspring."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mutagrad

NUM_SITES, NUM_RUNS, NUM_GENERATIONS = 128, 24, 600
BEST = 1 / math.sqrt(NUM_SITES)
"""σ of one mutation an offspring: p = 1/N, the best rate of (1+M) for M well below N ln N (Jansen, De Jong and Wegener 2005)."""


def loss_fn(bits):
    return jnp.mean(1 - bits.astype(jnp.float32))


@functools.cache
def generations_until_all_are_one(sigma, num_offspring, is_adapted):
    """(runs,) generations that the count of ones takes from none to all."""
    algorithm = mutagrad.elitist(sigma, num_offspring, mutation=mutagrad.mutation.discrete())
    algorithm = mutagrad.adapt_sigma(algorithm) if is_adapted else algorithm

    def run(key):
        def body(state, key):
            state, _ = algorithm.step(key, state, loss_fn, is_resampled=False)
            return state, loss_fn(state.params) > 0

        start = algorithm.init(jnp.zeros(NUM_SITES, bool))
        return jnp.sum(jax.lax.scan(body, start, jax.random.split(key, NUM_GENERATIONS))[1])

    return np.asarray(jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(5), NUM_RUNS)))


def mean_and_error(numbers):
    return numbers.mean(), numbers.std() / math.sqrt(len(numbers))


@pytest.mark.parametrize("num_offspring", [8, 20])
@pytest.mark.parametrize("start", [1e-5, 10.0])
def test_automatic_sigma_is_as_fast_as_the_known_best(num_offspring, start):
    """Within a tenth and 4 standard errors; half and twice that σ would be found out by the same runs."""
    best, error = mean_and_error(generations_until_all_are_one(BEST, num_offspring, False))
    found, own = mean_and_error(generations_until_all_are_one(start, num_offspring, True))
    bound = 1.1 * best + 4 * math.hypot(own, error)
    assert found < bound
    for wrong in (BEST / 4, 3 * BEST):
        assert generations_until_all_are_one(wrong, num_offspring, False).mean() > bound


def test_sigma_stays_where_an_offspring_has_a_mutation():
    """On a loss that is solved, for leaves of several steps; where most parameters are real there is no such bound."""
    mutation = mutagrad.mutation.discrete({"a": range(0, 40, 4), "b": mutagrad.mutation.categories(3), "c": False})
    params = {"a": jnp.zeros(20, jnp.int32), "b": jnp.zeros(30, jnp.int32), "c": jnp.ones(10)}
    algorithm = mutagrad.adapt_sigma(mutagrad.elitist(1e-6, 8, mutation=mutation))
    expected = 1 / math.sqrt(20 / 16 + 30)

    def solved(x):
        return jnp.sum(jnp.square(x["c"])) + jnp.sum(x["a"]).astype(jnp.float32)

    sigmas = mutagrad.evolve(jax.random.key(0), algorithm, params, solved, 300, progress=False).history["sigma"]
    assert np.all(sigmas[1:] >= expected * (1 - 1e-6))
    assert sigmas[-1] < 3 * expected
    mostly_real = params | {"c": jnp.ones(100)}
    sigmas = mutagrad.evolve(jax.random.key(0), algorithm, mostly_real, solved, 300, progress=False).history["sigma"]
    assert sigmas[-1] < expected / 3


def test_the_least_sigma_knows_scales():
    """Where one unit of a leaf counts 32-fold less, an offspring has one mutation at a σ 32 times smaller."""
    mutation = mutagrad.mutation.scaled(32.0, mutagrad.mutation.discrete())
    algorithm = mutagrad.adapt_sigma(mutagrad.elitist(1e-6, 8, mutation=mutation))
    state = algorithm.init(jnp.zeros(100, jnp.int8))
    state, _ = algorithm.step(
        jax.random.key(0), state, lambda x: jnp.sum(jnp.square(x.astype(jnp.float32))), is_resampled=False
    )
    assert float(state.sigma) == pytest.approx(1 / (32 * 10), rel=1e-5)
