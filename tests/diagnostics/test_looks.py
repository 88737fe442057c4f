"""Looks of automatic σ at a smaller one, in a history."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mutagrad
from mutagrad.diagnostics.looks import looks, without_looks

pytestmark = pytest.mark.permissive  # the losses are a user's


def test_looks_do_not_break_the_stretch_of_one_sigma():
    """σ is within a factor of 3 for longer than between two looks, and the regime is of that σ."""

    def loss_fn(x, batch):
        return 0.5 * jnp.mean(jnp.sum(jnp.square(x - batch), axis=-1))

    def draw(key):
        return jax.random.normal(key, (16, 50))

    algorithm = mutagrad.adapt_sigma(mutagrad.elitist(0.1, 20))
    result = mutagrad.evolve(jax.random.key(0), algorithm, jnp.ones(50), loss_fn, 200, draw, progress=False)
    sigma = np.asarray(result.history["sigma"])
    # 3, 7, 11, 15, 23, … of the first 64, then every 16th.
    assert list(np.flatnonzero(looks(sigma))) == [3, 7, 11, 15, 23, 31, 39, 47, 55, 63, *range(79, 200, 16)]
    found = mutagrad.diagnostics.regime(result.history, algorithm=algorithm)
    assert found.number > 30  # 20 where a look ends the stretch
    steady = without_looks(sigma)
    assert found.sigma_range[0] >= steady.min()
    assert found.sigma_range[1] <= 3 * found.sigma_range[0]
    assert float(result.state.sigma) == pytest.approx(steady[-1], rel=0.2)
