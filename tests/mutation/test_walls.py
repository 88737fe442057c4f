"""Real parameters between walls: reflection, its stationary law, and walls that are far away (theory.md 10).

Distributions are checked by Kolmogorov–Smirnov at p > 10⁻⁴; all seeds are fixed.
"""

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
from mutagrad.mutation.changes import Reflected

FALSE_ALARM = 1e-4


@given(st.floats(-5, 5), st.floats(0.1, 8), st.floats(-100, 100), st.sampled_from([1e-20, 1.0, 1e10]))
def test_walls_are_kept(low, width, z, sigma):
    low, high = np.float32(low), np.float32(low + width)
    start = jnp.float32(low + np.float32(0.3) * (high - low))
    for walls in ((low, high), (low, math.inf), (-math.inf, high)):
        change = Reflected(jnp.float32(z), jnp.ones(()), float(walls[0]), float(walls[1]))
        moved = float(change.applied(start, jnp.float32(sigma)))
        assert walls[0] <= moved <= walls[1]
        assert float(change.applied(start, jnp.float32(0))) == float(start)


def test_a_wall_reflects():
    change = Reflected(jnp.asarray([-1.5, 0.5, 2.5, 4.5]), jnp.ones(()), 0.0, 2.0)
    np.testing.assert_allclose(change.applied(jnp.ones(4), jnp.float32(1.0)), [0.5, 1.5, 0.5, 1.5])


BIG = float(np.finfo(np.float32).max)


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [
        (0.0, BIG, "float32"),
        (0.0, 1e39, "float32"),
        (-1e39, 1.0, "float32"),
        (0.0, 1e5, "float16"),
        (-BIG, BIG, "float32"),
    ],
)
def test_walls_that_are_far_away(low, high, dtype):
    """A wall that the dtype does not reach is none."""
    start = jnp.full(2000, 0.5, dtype)
    noise = density.bounded(low, high).sample_fn(jax.random.key(0), start)
    after = noise.applied(start, jnp.float32(1.0)).astype(jnp.float32)
    assert bool(jnp.all(jnp.isfinite(after) & (after >= low) & (after <= high)))
    free = density.gaussian().sample_fn(jax.random.key(0), start).astype(jnp.float32) + 0.5
    near = after - jnp.abs(free) if low == 0 else after - (1 - jnp.abs(1 - free)) if high == 1 else after - free
    assert float(jnp.max(jnp.abs(near))) < 0.01


@pytest.mark.parametrize("sigma", [1e2, 1e9, 1e30])
def test_a_huge_sigma_is_uniform_between_walls(sigma):
    start = jnp.full(4000, 0.5)
    noise = density.scaled(2.0, density.bounded(0.0, 1.0)).sample_fn(jax.random.key(0), start)
    after = np.asarray(noise.applied(start, jnp.float32(sigma)), float)
    assert stats.kstest(after, "uniform").pvalue > FALSE_ALARM
    assert len(np.unique(after)) > 3900


@pytest.mark.parametrize("sigma", [0.3, 3.0])
def test_stationary_law_between_walls(sigma):
    """Metropolis between two walls and beside one: e^{−βU} there, by Kolmogorov–Smirnov; clipping would be seen."""
    algorithm = mutagrad.metropolis(
        sigma, 1.0, mutation=density.bounded({"a": 0.0, "b": -0.5}, {"a": 1.0, "b": math.inf})
    )

    def loss_fn(x):
        return x["a"] + 2 * x["b"]

    start = algorithm.init({"a": jnp.float32(0.5), "b": jnp.float32(0.0)})

    def chain(key):
        def body(state, key):
            return algorithm.step(key, state, loss_fn)[0], None

        return jax.lax.scan(body, start, jax.random.split(key, 300))[0].params

    ends = jax.jit(jax.vmap(chain))(jax.random.split(jax.random.key(5), 10_000))
    laws = {"a": stats.truncexpon(b=1.0), "b": stats.expon(loc=-0.5, scale=0.5)}
    for name, own in laws.items():
        assert stats.kstest(np.asarray(ends[name], float), own.cdf).pvalue > FALSE_ALARM
    assert stats.kstest(np.asarray(ends["a"], float), stats.truncexpon(b=1.2).cdf).pvalue < FALSE_ALARM


def test_recombination_between_walls():
    """The weighted mean of mutations is reflected like a mutation."""
    algorithm = mutagrad.weighted_recombination(0.1, 20, mutation=density.bounded(0.0, 1.0))

    def loss_fn(x):
        return jnp.sum((x - jnp.asarray([0.3, 2, -1])) ** 2)

    end = mutagrad.evolve(jax.random.key(0), algorithm, jnp.full(3, 0.5), loss_fn, 200, progress=False).params
    assert float(jnp.min(end)) >= 0
    assert float(jnp.max(end)) <= 1
    assert abs(float(end[0]) - 0.3) < 0.5
