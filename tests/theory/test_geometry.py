"""Norm and direction of gradients at the ends of the range of their dtype."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mutagrad
from mutagrad import theory
from mutagrad.theory.geometry import Geometry

GREEDY = mutagrad.greedy(0.1)


@pytest.mark.parametrize("size", [1e-30, 1e-24, 1.0, 1e24, 1e37])
def test_gradients_of_every_size_have_a_norm_and_a_direction(size):
    gradient = {"a": jnp.array([3.0 * size]), "b": jnp.array([[0.0, -4.0 * size]])}
    norm, direction = Geometry.of(GREEDY.definition, gradient).slope(gradient)
    assert float(norm) == pytest.approx(5 * size, rel=1e-6)
    np.testing.assert_allclose(direction["b"], [[0.0, -0.8]], rtol=1e-6)
    step = theory.mean_step(GREEDY, gradient)
    np.testing.assert_allclose(step["a"], -0.6 * 0.1 / np.sqrt(2 * np.pi), rtol=1e-6)


def test_a_gradient_of_zero_has_no_direction():
    gradient = {"a": jnp.zeros(3), "number": jnp.arange(2), "half": jnp.zeros(2, jnp.bfloat16)}
    norm, direction = Geometry.of(GREEDY.definition, gradient).slope(gradient)
    assert float(norm) == 0
    assert not any(np.asarray(leaf, float).any() for leaf in jax.tree.leaves(direction))
    assert jax.tree.map(jnp.result_type, direction) == jax.tree.map(jnp.result_type, gradient)


def test_the_norm_has_its_derivative():
    gradient = jnp.array([3.0, -4.0])
    geometry = Geometry.of(GREEDY.definition, gradient)
    np.testing.assert_allclose(jax.grad(lambda g: geometry.slope(g)[0])(gradient), [0.6, -0.8], rtol=1e-6)
    matrix = jax.jacobian(lambda g: geometry.slope(g)[1])(gradient)
    np.testing.assert_allclose(matrix, (np.eye(2) - np.outer([0.6, -0.8], [0.6, -0.8])) / 5, atol=1e-7)
