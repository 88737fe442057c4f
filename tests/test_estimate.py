"""A number with its error: what it prints, and that JAX passes through it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mutagrad.estimate import Estimate


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(1.86753, 0.0123), "1.868 ± 0.012"),
        (Estimate(1.86753, 0.0123, "loss"), "1.868 ± 0.012 loss"),
        (Estimate(-123456.7, 2000.0), "-123500 ± 2000"),
        (Estimate(9.996, 0.0996), "10.00 ± 0.10"),
        (Estimate(0.0, 0.5), "0.00 ± 0.50"),
        (Estimate(5.0, 30.0), "5 ± 30"),
        (Estimate(3.21e-7, 4.1e-8), "(3.21 ± 0.41)e-07"),
        (Estimate(1.5e7, 3e4), "(1.5000 ± 0.0030)e+07"),
        (Estimate(1e-9, 3.0), "0.0 ± 3.0"),
        (Estimate(2.0, 0.0), "2 ± 0"),
        (Estimate(float("nan"), 1.0), "nan ± 1"),
        (Estimate(1.0, float("inf")), "1 ± inf"),
        (Estimate(5e-324, 5e-324), "4.94066e-324 ± 4.9e-324"),
        (Estimate(np.array([1.0, 2.0]), np.array([0.1, 0.02]), "m"), "[1.00 ± 0.10, 2.000 ± 0.020] m"),
        (Estimate(jnp.float32(0.25), jnp.float32(0.01)), "0.250 ± 0.010"),
    ],
)
def test_text(estimate, text):
    assert str(estimate) == f"{estimate}" == text


def test_transformations_see_two_numbers_and_keep_the_unit():
    made = jax.jit(jax.vmap(lambda x: Estimate(x, x / 10, "loss")))(jnp.arange(3.0))
    assert made.unit == "loss"
    assert [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(made)] == [".value", ".error"]
    doubled = jax.tree.map(lambda x: 2 * x, made)
    assert isinstance(doubled, Estimate)
    assert doubled.unit == "loss"
    np.testing.assert_allclose(doubled.value, [0, 2, 4])
    assert jax.tree.structure(made) != jax.tree.structure(made._replace(unit="s"))


def test_it_can_be_printed_where_it_is_traced():
    seen = []
    jax.jit(lambda x: (seen.append(str(Estimate(x, x))), x)[1])(1.0)
    assert "Estimate(value=" in seen[0]
