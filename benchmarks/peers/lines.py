"""What is minimised: one model a line, written as its user would, the same for all."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import common
from benchmarks.low_rank import transformer

__all__ = ["LINES", "Line"]


class Line(NamedTuple):
    """A loss and where to start.

    Attributes
    ----------
    params : pytree to start from.
    losses : ``losses(params, data) -> (B,)`` per-example losses.
    data : passed in, the same every generation.
    sigma : where mutations start.
    num_offspring : candidates a generation.
    target : a mean loss to reach; ``None`` where speed alone is measured.
    has_gradient : whether optax is asked too.
    """

    params: Any
    losses: Callable
    data: Any
    sigma: float
    num_offspring: int = 20
    target: float | None = None
    has_gradient: bool = True


def shallow_net() -> Line:
    """90 parameters, 1000 points of a sine, tanh: the matrix form that a user writes first."""
    params, losses, data = common.sine_net()
    return Line(params, losses, data, 0.1, target=0.1)


def convnet() -> Line:
    """9,854 parameters on a batch of 256 images, of Equinox's own layers."""
    params, losses = common.classifier(common.PlainConvNet(jax.random.key(0)))
    return Line(params, losses, common.random_images(256), 0.01)


def perceptron(width: int, number: int, batch: int) -> Line:
    """An MLP of Equinox with two hidden layers, on images of 784 numbers."""
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = [(784, width), (width, number), (number, 10)]
    layers = [eqx.nn.Linear(*shape, key=key) for shape, key in zip(shapes, keys, strict=True)]
    activations = [layers[0], eqx.nn.Lambda(jnp.tanh), layers[1], eqx.nn.Lambda(jnp.tanh), layers[2]]
    params, static = eqx.partition(eqx.nn.Sequential(activations), eqx.is_array)

    def losses(params, data):
        images, labels = data
        logits = jax.vmap(eqx.combine(params, static))(images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)

    images, labels = common.random_images(batch)
    return Line(params, losses, (images.reshape(batch, 784), labels), 0.01, 16)


def small_transformer() -> Line:
    """10.9 million parameters, 8 sequences of 64 tokens."""
    params, losses, data = transformer(8, 64)
    return Line(params, losses, data, 0.01, 16)


def sphere() -> Line:
    """½|x|² in 1000 dimensions."""
    return Line(jnp.ones(1000), lambda x, _: 0.5 * jnp.sum(x**2)[None], None, 0.1, target=0.5)


def power_law() -> Line:
    """½Σ hᵢxᵢ² in 1000 dimensions, hᵢ = 1/i: of curvatures over three decades."""
    curvatures = 1 / np.arange(1.0, 1001.0, dtype=np.float32)
    return Line(jnp.ones(1000), lambda x, _: 0.5 * jnp.sum(curvatures * x**2)[None], None, 0.1, target=0.4)


def bbob(name: str) -> Line:
    """A function of BBOB in 20 dimensions, as evosax has it; the loss is above its optimum's."""
    from evosax.problems import BBOBProblem

    problem = BBOBProblem(name, 20, f_opt=0.0, seed=1)
    state = problem.init(jax.random.key(1))

    def losses(x, data):
        return problem.eval(jax.random.key(0), x[None], state)[0]

    target = {"rosenbrock": 20.0, "ellipsoidal": 1e3, "rastrigin": 100.0}[name]
    return Line(jnp.zeros(20), losses, None, 0.5, target=target, has_gradient=False)


def cartpole() -> Line:
    """Four episodes of 500 steps, the same ones every generation; a policy of 16 hidden units; minus the mean return."""
    import gymnax

    env, env_params = gymnax.make("CartPole-v1")

    def episode(params, key):
        first, last = params
        observation, state = env.reset(key, env_params)

        def move(carry, key):
            observation, state, alive = carry
            action = jnp.argmax(jnp.tanh(observation @ first) @ last)
            observation, state, reward, terminated, truncated, _ = env.step(key, state, action, env_params)
            done = terminated | truncated
            return (observation, state, alive * (1.0 - done)), alive * reward

        start = observation, state, jnp.float32(1)
        return -jnp.sum(jax.lax.scan(move, start, jax.random.split(key, 500))[1])

    def losses(params, keys):
        return jax.vmap(episode, in_axes=(None, 0))(params, keys)

    params = (jnp.zeros((4, 16)), jnp.zeros((16, 2)))
    return Line(params, losses, jax.random.split(jax.random.key(0), 4), 0.5, target=-499.0, has_gradient=False)


LINES: dict[str, Callable[[], Line]] = {
    "tanh net, 90": shallow_net,
    "sphere, 1000": sphere,
    "power law, 1000": power_law,
    "rosenbrock, 20": lambda: bbob("rosenbrock"),
    "rastrigin, 20": lambda: bbob("rastrigin"),
    "CartPole": cartpole,
    "ConvNet, 9,854": convnet,
    "MLP, 1 million": lambda: perceptron(700, 620, 32),
    "MLP, 10 million": lambda: perceptron(2800, 2780, 32),
    "MLP, 100 million": lambda: perceptron(9600, 9600, 32),
    "transformer, 10.9 million": small_transformer,
}
