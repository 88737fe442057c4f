"""Problems on which σ is to be found: rough, noisy, batched, discrete; those that are reported, and others to try things on.

Nothing that is reported here was used to choose a constant of a controller: `TRIALS` were.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn import datasets

from mutagrad.lab.claims.quadratics import power_law
from mutagrad.lab.claims.tanh_nets import deep_losses, deep_start
from mutagrad.lab.tasks.data import load


class Problem(NamedTuple):
    """A loss to train on, and what is reported of the result.

    Attributes
    ----------
    loss_fn : ``loss_fn(params, batch)``, a scalar or per-example losses.
    start : params.
    draw_fn : ``draw_fn(key) -> batch``, another one for each generation; ``None`` if the loss never changes.
    measure_fn : ``measure_fn(params)``, the scalar loss on all the data, or without noise.
    num_generations : of a run.
    """

    loss_fn: Callable
    start: Any
    draw_fn: Callable | None
    measure_fn: Callable
    num_generations: int = 1500


# --- data -------------------------------------------------------------------------------------------------------------


def tabular(name: str) -> tuple[jax.Array, jax.Array]:
    """Standardised inputs and labels of a data set that comes with scikit-learn."""
    data = getattr(datasets, f"load_{name}")()
    spread = data.data.std(axis=0)
    inputs = (data.data - data.data.mean(axis=0)) / np.where(spread > 0, spread, 1)
    return jnp.asarray(inputs, jnp.float32), jnp.asarray(data.target, jnp.int32)


def digits(count: int | None = None) -> tuple[jax.Array, jax.Array]:
    data = load("digits")
    inputs = jnp.asarray(data.train_inputs).reshape(len(data.train_inputs), -1)
    return inputs[:count], jnp.asarray(data.train_targets)[:count]


def mnist(pool: int = 1, count: int = 10_000) -> tuple[jax.Array, jax.Array]:
    """Images of MNIST, averaged over squares of ``pool`` pixels."""
    data = load("mnist")
    side = 28 // pool
    images = np.asarray(data.train_inputs[:count]).reshape(-1, side, pool, side, pool).mean(axis=(2, 4))
    return jnp.asarray(images.reshape(len(images), -1)), jnp.asarray(data.train_targets[:count])


# --- models -----------------------------------------------------------------------------------------------------------


def weights(*widths: int, seed: int = 0) -> list:
    """Weights of variance 1/fan-in, and biases of 0."""
    keys = jax.random.split(jax.random.key(seed), len(widths) - 1)
    pairs = zip(widths[:-1], widths[1:], keys, strict=True)
    return [(jax.random.normal(key, (fan, out)) / math.sqrt(fan), jnp.zeros(out)) for fan, out, key in pairs]


def network(activation: Callable, params: list, inputs: jax.Array) -> jax.Array:
    *hidden, last = params
    for weight, bias in hidden:
        inputs = activation(inputs @ weight + bias)
    return inputs @ last[0] + last[1]


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def errors(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return (jnp.argmax(logits, axis=1) != labels).astype(jnp.float32)


def rounded(levels: int, params: list) -> list:
    """Weights on ``levels`` levels between −2 and 2 standard deviations of the start of their layer; biases as they are."""
    return [
        (jnp.round(jnp.clip(w * math.sqrt(w.shape[0]) / 4 + 0.5, 0, 1) * (levels - 1)) * 4 / (levels - 1) - 2, b)
        for w, b in params
    ]


def supervised(
    data: tuple,
    widths: tuple[int, ...],
    *,
    activation: Callable = jnp.tanh,
    loss: Callable = cross_entropy,
    change: Callable = lambda params: params,
    batch: int | None = None,
    as_mean: bool = False,
    num_generations: int = 1500,
) -> Problem:
    """A network on labelled data: all of it, or batches of it drawn at random."""
    inputs, labels = data
    start = weights(inputs.shape[1], *widths)

    def losses(params: Any, part: tuple) -> jax.Array:
        found = loss(network(activation, change(params), part[0]), part[1])
        return jnp.mean(found) if as_mean else found

    def draw(key: jax.Array) -> tuple:
        chosen = jax.random.randint(key, (batch,), 0, len(labels))
        return inputs[chosen], labels[chosen]

    def measure(params: Any) -> jax.Array:
        return jnp.mean(loss(network(activation, change(params), inputs), labels))

    if batch is None:
        return Problem(lambda params, _: losses(params, (inputs, labels)), start, None, measure, num_generations)
    return Problem(losses, start, draw, measure, num_generations)


def sampled(problem: Problem, number: int, batch: int) -> Problem:
    """The same on batches of the ``number`` examples, drawn anew each generation; of a problem with losses per example."""

    def draw(key: jax.Array) -> jax.Array:
        return jax.random.randint(key, (batch,), 0, number)

    return problem._replace(loss_fn=lambda params, chosen: problem.loss_fn(params, None)[chosen], draw_fn=draw)


def untold(problem: Problem) -> Problem:
    """One loss in a loop that does not say that it stays the same."""
    return problem._replace(draw_fn=lambda key: key, loss_fn=lambda params, key: problem.loss_fn(params, None))


def attention(pairs: int, size: int, width: int, count: int, seed: int) -> Problem:
    """Associative recall by one head of hard attention: the value whose key is the query, among ``pairs`` of them."""
    keys = jax.random.split(jax.random.key(seed), 3)
    names = jnp.argsort(jax.random.uniform(keys[0], (count, size)), axis=1)[:, :pairs]
    values = jax.random.randint(keys[1], (count, pairs), 0, size)
    asked = jax.random.randint(keys[2], (count,), 0, pairs)
    rows = jnp.arange(count)
    queries, targets = names[rows, asked], values[rows, asked]
    start = {
        "query": jax.random.normal(jax.random.key(seed + 1), (size, width)) / math.sqrt(width),
        "key": jax.random.normal(jax.random.key(seed + 2), (size, width)) / math.sqrt(width),
        "value": jax.random.normal(jax.random.key(seed + 3), (size, size)) / math.sqrt(size),
    }

    def losses(params: dict, _: Any) -> jax.Array:
        scores = jnp.einsum("nd,npd->np", params["query"][queries], params["key"][names])
        return cross_entropy(params["value"][values[rows, jnp.argmax(scores, axis=1)]], targets)

    return Problem(losses, start, None, lambda params: jnp.mean(losses(params, None)))


def spiking(data: tuple, hidden: int, steps: int = 10) -> Problem:
    """A layer of leaky integrate-and-fire neurons that meets a constant input; the numbers of spikes are read out."""
    inputs, labels = data
    start = weights(inputs.shape[1], hidden, int(labels.max()) + 1)

    def losses(params: Any, _: Any) -> jax.Array:
        (w, b), (read, offset) = params
        current, potential, counts = inputs @ w + b, 0.0, 0.0
        for _ in range(steps):
            potential = 0.9 * potential + 0.3 * current
            spikes = (potential > 1).astype(jnp.float32)
            potential, counts = potential * (1 - spikes), counts + spikes
        return cross_entropy(counts / steps @ read + offset, labels)

    return Problem(losses, start, None, lambda params: jnp.mean(losses(params, None)))


def cart_pole(hidden: int, episodes: int, steps: int = 200) -> Problem:
    """The share of steps for which a policy of two actions lets the pole fall; equations and limits of Gymnasium's CartPole-v1.

    Source: Barto, Sutton and Anderson 1983. Episodes start alike for all candidates of a generation, anew each generation.
    """

    def balanced(params: Any, first: jax.Array) -> jax.Array:
        def move(carry: tuple, _: None) -> tuple:
            (x, v, angle, spin), alive = carry
            logit = network(jnp.tanh, params, jnp.stack([x, v, angle, spin])[None])[0]
            force = jnp.where(logit[1] > logit[0], 10.0, -10.0)
            sine, cosine = jnp.sin(angle), jnp.cos(angle)
            push = (force + 0.05 * spin**2 * sine) / 1.1
            turn = (9.8 * sine - cosine * push) / (0.5 * (4 / 3 - 0.1 * cosine**2 / 1.1))
            pull = push - 0.05 * turn * cosine / 1.1
            following = jnp.stack([x + 0.02 * v, v + 0.02 * pull, angle + 0.02 * spin, spin + 0.02 * turn])
            alive = alive & (jnp.abs(following[0]) < 2.4) & (jnp.abs(following[2]) < 12 * math.pi / 180)
            return (jnp.where(alive, following, 0), alive), alive

        return 1 - jnp.mean(jax.lax.scan(move, (first, jnp.bool_(True)), length=steps)[1].astype(jnp.float32))

    def starts(key: jax.Array, number: int = episodes) -> jax.Array:
        return jax.random.uniform(key, (number, 4), minval=-0.05, maxval=0.05)

    def losses(params: Any, batch: jax.Array) -> jax.Array:
        return jax.vmap(partial(balanced, params))(batch)

    fixed = starts(jax.random.key(99), 64)
    start = jax.tree.map(lambda leaf: 0.3 * leaf, weights(4, hidden, 2))
    return Problem(losses, start, starts, lambda params: jnp.mean(losses(params, fixed)), 500)


def queue(size: int, noise: str, seed: int = 0) -> Problem:
    """A simulator: the mean squared distance from a target of a noisy linear process that ``size`` gains steer.

    noise : "common", where all candidates of a generation meet the same random numbers; "fresh", where each has its own,
        drawn from its parameters' bits, so that no two candidates that differ share them.
    """
    targets = jax.random.normal(jax.random.key(seed), (size,))
    mixing = jax.random.normal(jax.random.key(seed + 1), (size, size)) / math.sqrt(size)

    def outcome(params: jax.Array, disturbance: jax.Array) -> jax.Array:
        reached = jnp.tanh(mixing @ params + 0.5 * disturbance)
        return jnp.mean(jnp.square(reached - jnp.tanh(targets)))

    def loss(params: jax.Array, key: jax.Array) -> jax.Array:
        if noise == "fresh":
            words = jax.lax.bitcast_convert_type(params, jnp.uint32)
            key = jax.random.fold_in(key, jnp.sum(words * (2 * jnp.arange(size, dtype=jnp.uint32) + 1)))
        return jnp.mean(jax.vmap(partial(outcome, params))(jax.random.normal(key, (4, size))))

    many = jax.random.normal(jax.random.key(98), (256, size))
    return Problem(
        loss, jnp.zeros(size), lambda key: key, lambda params: jnp.mean(jax.vmap(partial(outcome, params))(many))
    )


def quadratic(size: int, exponent: float, noise: float = 0.0) -> Problem:
    """½Σλx², its candidates' losses blurred by noise of their own in proportion to ``noise``."""
    one = power_law(size, exponent, "even")

    def loss(params: jax.Array, key: Any) -> jax.Array:
        if not noise:
            return one.losses(params)
        words = jax.lax.bitcast_convert_type(params, jnp.uint32)
        own = jax.random.fold_in(key, jnp.sum(words * (2 * jnp.arange(size, dtype=jnp.uint32) + 1)))
        return one.loss(params) + noise * jax.random.normal(own)

    return Problem(loss, one.start, (lambda key: key) if noise else None, one.loss, 1000)


def deep_tanh() -> Problem:
    losses = partial(deep_losses, points=50)
    return Problem(lambda params, _: losses(params), deep_start(), None, lambda params: jnp.mean(losses(params)), 300)


# --- what is reported -------------------------------------------------------------------------------------------------

REPORTED: dict[str, Callable[[], Problem]] = {
    # Rough: piecewise constant, or of many small jumps.
    "sign units, digits 64-8-10": lambda: supervised(digits(200), (8, 10), activation=jnp.sign),
    "argmax attention, 8 pairs of 16": lambda: attention(8, 16, 8, 128, seed=0),
    "counted errors, wine 13-8-3": lambda: supervised(tabular("wine"), (8, 3), loss=errors),
    "4-bit weights, breast cancer 30-8-2": lambda: supervised(
        tabular("breast_cancer"), (8, 2), change=partial(rounded, 16)
    ),
    "ternary weights, digits 64-10": lambda: supervised(digits(200), (10,), change=partial(rounded, 3)),
    "spiking, wine 13-16-3": lambda: spiking(tabular("wine"), 16),
    # Noisy: a simulator.
    "CartPole return, 4 episodes": lambda: cart_pole(8, 4),
    "simulator, common random numbers": lambda: queue(50, "common"),
    "simulator, fresh random numbers": lambda: queue(50, "fresh"),
    # Batched: another batch each generation.
    "batches of 32, mean, MNIST 196-16-10": lambda: supervised(mnist(2), (16, 10), batch=32, as_mean=True),
    "batches of 32, per example, MNIST 196-16-10": lambda: supervised(mnist(2), (16, 10), batch=32),
    "batches of 128, mean, digits 64-16-10": lambda: supervised(digits(), (16, 10), batch=128, as_mean=True),
    "batches of 128, per example, digits 64-16-10": lambda: supervised(digits(), (16, 10), batch=128),
    "batches of 1024, mean, MNIST 49-10-10": lambda: supervised(mnist(4), (10, 10), batch=1024, as_mean=True),
    "batches of 1024, per example, MNIST 49-10-10": lambda: supervised(mnist(4), (10, 10), batch=1024),
    "batches of 32, mean, MNIST 784-128-10": lambda: supervised(
        mnist(), (128, 10), batch=32, as_mean=True, num_generations=300
    ),
    # Rough, and another batch each generation.
    "sign units, batches of 128, MNIST 196-12-10": lambda: supervised(
        mnist(2), (12, 10), activation=jnp.sign, batch=128
    ),
    "ternary weights, batches of 128, breast cancer 30-8-2": lambda: supervised(
        tabular("breast_cancer"), (8, 2), change=partial(rounded, 3), batch=128
    ),
    "4-bit weights, batches of 64, wine 13-8-3": lambda: supervised(
        tabular("wine"), (8, 3), change=partial(rounded, 16), batch=64
    ),
    "counted errors, batches of 128, MNIST 49-10": lambda: supervised(mnist(4), (10,), loss=errors, batch=128),
    "argmax attention, batches of 64, 4 pairs of 8": lambda: sampled(attention(4, 8, 6, 512, seed=21), 512, 64),
    "spiking, batches of 64, breast cancer 30-12-2": lambda: sampled(spiking(tabular("breast_cancer"), 12), 569, 64),
    "sign units, all the data and not said, digits 64-8-10": lambda: untold(
        supervised(digits(200), (8, 10), activation=jnp.sign)
    ),
}
"""Those of which the table is made, with their targets: the final loss at most 1.25 times that of the best of 12 fixed σ on 11
of 12, and never above 2 times."""

TRIALS: dict[str, Callable[[], Problem]] = {
    "signs, cancer": lambda: supervised(tabular("breast_cancer"), (10, 2), activation=jnp.sign),
    "signs, wine deep": lambda: supervised(tabular("wine"), (12, 12, 3), activation=jnp.sign),
    "attention, 4 of 10": lambda: attention(4, 10, 6, 100, seed=7),
    "errors, digits": lambda: supervised(digits(150), (10,), loss=errors),
    "errors, cancer": lambda: supervised(tabular("breast_cancer"), (6, 2), loss=errors),
    "4-bit, wine": lambda: supervised(tabular("wine"), (8, 3), change=partial(rounded, 16)),
    "4-bit, digits": lambda: supervised(digits(150), (10,), change=partial(rounded, 16)),
    "quadratic, noise": lambda: quadratic(100, 0.5, 3.0),
    "quadratic, less noise": lambda: quadratic(300, 0.0, 1.0),
    "mean 32, cancer": lambda: supervised(tabular("breast_cancer"), (8, 2), batch=32, as_mean=True),
    "mean 32, digits": lambda: supervised(digits(), (10,), batch=32, as_mean=True),
    "each 32, digits": lambda: supervised(digits(), (10,), batch=32),
    "each 64, wine": lambda: supervised(tabular("wine"), (8, 3), batch=64),
    "signs, mean 64, cancer": lambda: supervised(
        tabular("breast_cancer"), (10, 2), activation=jnp.sign, batch=64, as_mean=True
    ),
    "mean 8, wine": lambda: supervised(tabular("wine"), (6, 3), batch=8, as_mean=True),
    "mean 256, digits": lambda: supervised(digits(), (10,), batch=256, as_mean=True),
    "signs, 256, digits": lambda: supervised(digits(), (8, 10), activation=jnp.sign, batch=256),
    "signs, 1024, digits": lambda: supervised(digits(), (8, 10), activation=jnp.sign, batch=1024),
    "ternary, 256, digits": lambda: supervised(digits(), (10,), change=partial(rounded, 3), batch=256),
    "ternary, 1024, digits": lambda: supervised(digits(), (10,), change=partial(rounded, 3), batch=1024),
    "4-bit, 256, digits": lambda: supervised(digits(), (10,), change=partial(rounded, 16), batch=256),
    "errors, 256, digits": lambda: supervised(digits(), (10,), loss=errors, batch=256),
    "tanh, 128, digits": lambda: supervised(digits(), (12, 10), batch=128),
    "4-bit, digits, not said": lambda: untold(supervised(digits(150), (10,), change=partial(rounded, 16))),
    "smooth, sphere": lambda: quadratic(100, 0.0),
    "smooth, power 1": lambda: quadratic(1000, 1.0),
    "smooth, power 2": lambda: quadratic(100, 2.0),
    "smooth, digits": lambda: supervised(digits(200), (10,)),
    "smooth, deep tanh": deep_tanh,
}
"""Those on which controllers were tried."""
