"""Records packed as rows of words come back as they were."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mutagrad.run.rows import Rows

RECORDS = [
    {"loss": jnp.float32(1.5), "won": jnp.asarray(True), "index": jnp.int32(-3), "seed": jnp.uint32(2**32 - 1)},
    {"nan": jnp.float32(jnp.nan), "tiny": jnp.float32(1e-45), "minus": jnp.float32(-0.0)},
    {"vector": jnp.arange(3.0), "small": jnp.int8(-5), "half": jnp.bfloat16(0.1), "loss": jnp.float32(2)},
    [jnp.zeros((2, 0)), (), None],
    jnp.float32(3),
    {},
]


@pytest.mark.parametrize("record", RECORDS)
def test_first_of_many(record):
    def chunk(record):
        row = Rows.of(record)
        return jax.tree.map(lambda leaf: jnp.stack([leaf, jnp.zeros_like(leaf), leaf]), row)

    found = jax.jit(chunk)(record).first(2)
    wanted = jax.tree.map(lambda leaf: np.stack([np.asarray(leaf), np.zeros_like(leaf)]), record)
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for own, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert own.dtype == other.dtype
        assert own.shape == other.shape
        assert own.tobytes() == other.tobytes()
