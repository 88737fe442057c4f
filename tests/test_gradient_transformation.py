"""The Optax face: an ordinary training loop, on a dict, an Equinox and a Flax model."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import mutagrad

pytestmark = pytest.mark.permissive  # a user's loop has JAX's default promotion

INPUTS = jax.random.normal(jax.random.key(1), (64, 5))
TARGETS = jnp.sin(INPUTS[:, 0]) + 0.5 * INPUTS[:, 1]


def fit(optimizer, params, loss_fn, num_steps):
    """The loop that any Optax user writes."""
    opt_state = optimizer.init(params)

    @jax.jit
    def train_step(params, opt_state):
        updates, opt_state = optimizer.update(None, opt_state, params, value_fn=loss_fn)
        return optax.apply_updates(params, updates), opt_state

    for _ in range(num_steps):
        params, opt_state = train_step(params, opt_state)
    return params, opt_state


def optimizer(num_offspring=20):
    algorithm = mutagrad.adapt_sigma(mutagrad.elitist(sigma=0.1, num_offspring=num_offspring))
    return mutagrad.as_gradient_transformation(algorithm, jax.random.key(0))


def test_plain_dict():
    params = {"w": jnp.zeros(5), "b": jnp.zeros(()), "steps": jnp.int32(7)}
    params, opt_state = fit(optimizer(), params, lambda p: (INPUTS @ p["w"] + p["b"] - TARGETS) ** 2, 150)
    _, residual, *_ = np.linalg.lstsq(np.c_[INPUTS, np.ones(64)], np.asarray(TARGETS), rcond=None)
    loss = np.mean((INPUTS @ params["w"] + params["b"] - TARGETS) ** 2)
    assert loss == pytest.approx(float(residual[0]) / 64, rel=1e-2)
    assert params["steps"] == 7
    assert opt_state.state.generation == 150


def test_equinox_model():
    model = eqx.nn.MLP(5, "scalar", 8, 1, key=jax.random.key(2))
    params, static = eqx.partition(model, eqx.is_array)

    def loss_fn(params):
        return (jax.vmap(eqx.combine(params, static))(INPUTS) - TARGETS) ** 2

    fitted, _ = fit(optimizer(), params, loss_fn, 200)
    assert jnp.mean(loss_fn(fitted)) < 0.3 * jnp.mean(loss_fn(params))


def test_flax_model():
    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(1)(nn.tanh(nn.Dense(8)(x)))[..., 0]

    model = Model()
    params = model.init(jax.random.key(3), INPUTS)

    def loss_fn(params):
        return (model.apply(params, INPUTS) - TARGETS) ** 2

    fitted, _ = fit(optimizer(), params, loss_fn, 200)
    assert jnp.mean(loss_fn(fitted)) < 0.3 * jnp.mean(loss_fn(params))


def test_update_is_the_step_of_the_algorithm():
    algorithm = mutagrad.elitist(sigma=0.1, num_offspring=8)
    key, params = jax.random.key(5), {"a": jnp.arange(4.0)}

    def loss_fn(p):
        return jnp.sum(p["a"] ** 2)

    state = algorithm.init(params)
    fitted, _ = fit(mutagrad.as_gradient_transformation(algorithm, key), params, loss_fn, 10)
    for generation in range(10):
        state, _ = algorithm.step(jax.random.fold_in(key, generation), state, loss_fn)
    # old + (new − old) is rounded once more than new.
    np.testing.assert_allclose(fitted["a"], state.params["a"], rtol=1e-6)


def test_composes_with_chain():
    algorithm = mutagrad.comma(sigma=0.1, num_offspring=8)
    key, params = jax.random.key(5), jnp.arange(4.0)
    plain = mutagrad.as_gradient_transformation(algorithm, key)
    halved = optax.chain(mutagrad.as_gradient_transformation(algorithm, key), optax.scale(0.5))

    def loss_fn(x):
        return jnp.sum(x**2)

    whole, _ = plain.update(None, plain.init(params), params, value_fn=loss_fn)
    half, _ = halved.update(None, halved.init(params), params, value_fn=loss_fn)
    np.testing.assert_allclose(half, whole / 2, rtol=1e-6)
    # The parent of the next generation is what the loop made of it, not the winner.
    fitted, _ = fit(halved, params, loss_fn, 300)
    assert loss_fn(fitted) < 0.5


def test_truncation_keeps_its_other_parents():
    algorithm = mutagrad.truncation(sigma=0.1, population_size=20, num_parents=4)
    params, opt_state = fit(
        mutagrad.as_gradient_transformation(algorithm, jax.random.key(0)), jnp.ones(6), lambda x: jnp.sum(x**2), 60
    )
    assert jnp.sum(params**2) < 1.0
    assert opt_state.state.parents.shape == (4, 6)


def test_scan_and_minibatches():
    transformation = optimizer()

    def body(carry, key):
        params, opt_state = carry
        rows = jax.random.randint(key, (16,), 0, 64)
        updates, opt_state = transformation.update(
            None, opt_state, params, value_fn=lambda w: (INPUTS[rows] @ w - TARGETS[rows]) ** 2
        )
        return (optax.apply_updates(params, updates), opt_state), opt_state.info.parent_loss

    params = jnp.zeros(5)
    _, losses = jax.lax.scan(body, (params, transformation.init(params)), jax.random.split(jax.random.key(0), 200))
    assert jnp.mean(losses[-50:]) < 0.5 * losses[0]


def test_bad_use():
    transformation = optimizer()
    state = transformation.init(jnp.zeros(2))
    with pytest.raises(ValueError, match="value_fn: got None"):
        transformation.update(None, state, jnp.zeros(2))
    with pytest.raises(ValueError, match="params: got None"):
        transformation.update(None, state, value_fn=jnp.sum)
    with pytest.raises(ValueError, match="reevaluate_parent=False"):
        mutagrad.as_gradient_transformation(mutagrad.greedy(0.1, reevaluate_parent=False), jax.random.key(0))
