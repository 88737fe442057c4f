"""Stochastic gradient descent, held against steps by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mutagrad.lab.tasks.dataset import Dataset
from mutagrad.lab.tasks.models import MLP
from mutagrad.lab.tasks.task import Task, make_task
from mutagrad.lab.training.sgd import sgd

pytestmark = pytest.mark.permissive  # the networks have JAX's default promotion


def blobs(number=10):
    rng = np.random.default_rng(0)
    inputs, labels = rng.normal(size=(number, 3)).astype(np.float32), np.arange(number, dtype=np.int32) % 3
    return Dataset(inputs, labels, inputs, labels, (0, 1, 2), "blobs")


def orders(key, num_epochs, number):
    """The order of the examples in each epoch, and the key of its masks."""
    for epoch in range(num_epochs):
        order_key, masks_key = jax.random.split(jax.random.fold_in(key, epoch))
        yield np.asarray(jax.random.permutation(order_key, number)), masks_key


def test_steps_by_hand():
    """Two epochs of softmax regression in NumPy: batches of 4, 4 and 2 of 10 examples, each example once an epoch."""
    data, key, rate = blobs(), jax.random.key(1), 0.5
    task = make_task(data, MLP(jax.random.key(0), 3, (), 3))
    weight, bias = (np.asarray(leaf, float) for leaf in jax.tree.leaves(task.start))
    accuracies, epochs = [], []

    def accuracy():
        return np.mean(np.argmax(data.test_inputs @ weight.T + bias, axis=1) == data.test_targets)

    accuracies.append(accuracy())
    for order, _ in orders(key, 2, 10):
        assert sorted(order) == list(range(10))
        for rows in (order[:4], order[4:8], order[8:]):
            inputs, targets = data.train_inputs[rows].astype(float), data.train_targets[rows]
            shares = np.exp(inputs @ weight.T + bias)
            error = shares / shares.sum(axis=1, keepdims=True) - np.eye(3)[targets]
            weight, bias = weight - rate * error.T @ inputs / len(rows), bias - rate * error.mean(axis=0)
        accuracies.append(accuracy())

    trained = sgd(
        key,
        task,
        num_epochs=2,
        batch_size=4,
        learning_rate=rate,
        progress=lambda epoch, score: epochs.append((epoch, score)),
    )
    found = jax.tree.leaves(trained.params)
    np.testing.assert_allclose(found[0], weight, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[1], bias, rtol=1e-5, atol=1e-6)
    assert [score.score for score in trained.test] == pytest.approx(accuracies)
    assert epochs == list(enumerate(trained.test))
    again = sgd(key, task, num_epochs=2, batch_size=4, learning_rate=rate)
    assert all(np.array_equal(a, b) for a, b in zip(found, jax.tree.leaves(again.params), strict=True))


def test_each_step_has_masks_of_its_own():
    """A loss x·ξ of the step's key alone: x moves by −α Σ ξ, step i of an epoch having ``fold_in(masks, i)``."""
    task, key = make_task(blobs(), MLP(jax.random.key(0), 3, (), 3)), jax.random.key(2)
    task = Task(task.data, jnp.zeros(()), task.loss_fn, lambda *_: None, 1.0)

    def loss_fn(drawn, batch):
        return drawn.params * jax.random.normal(drawn.key, batch[1].shape)

    trained = sgd(key, task, jnp.float32(3.0), num_epochs=2, batch_size=4, learning_rate=0.1, loss_fn=loss_fn)
    expected = 3.0
    for _, masks_key in orders(key, 2, 10):
        for index, size in enumerate((4, 4, 2)):
            expected -= 0.1 * float(jnp.mean(jax.random.normal(jax.random.fold_in(masks_key, index), (size,))))
    assert float(trained.params) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 11}, "batch_size: got 11; pass no more than the 10 training examples"),
        ({"batch_size": 0}, "batch_size: got 0; pass a whole number of 1 or more"),
        ({"num_epochs": -1}, "num_epochs: got -1; pass a whole number of 0 or more"),
        ({"learning_rate": 0.0}, "learning_rate: got 0.0; pass a positive finite number"),
        ({"key": 3}, "key: got 3; pass one key"),
    ],
)
def test_refusals(options, words):
    task = make_task(blobs(), MLP(jax.random.key(0), 3, (), 3))
    with pytest.raises(ValueError, match=words):
        sgd(**({"key": jax.random.key(0), "task": task, "batch_size": 4} | options))
