"""Stochastic gradient descent on a task, as [K23] trained: what evolution is held against."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mutagrad import check
from mutagrad.lab.tasks.task import Keyed, Score, Task

__all__ = ["Trained", "sgd"]


class Trained(NamedTuple):
    """What a training by gradient descent leaves.

    Attributes
    ----------
    params : after the last epoch.
    test : scores on the test examples, without dropout, at the start and after each epoch.
    """

    params: Any
    test: list[Score]


def sgd(
    key: jax.Array,
    task: Task,
    params: Any = None,
    *,
    num_epochs: int = 10,
    batch_size: int = 32,
    learning_rate: float = 0.002,
    loss_fn: Callable[[Any, tuple], jax.Array] | None = None,
    progress: Callable[[int, Score], Any] | None = None,
) -> Trained:
    """Gradient descent on minibatches: x ← x − α ∇U_B(x), no momentum, dropout on where the network has it.

    Every epoch goes once through the training examples in an order of its own, in batches of B; what is left is a smaller batch,
    the last of the epoch. The defaults are those of [K23]: 1875 steps an epoch on MNIST.

    Parameters
    ----------
    key : the same key gives the same training. Epoch e uses ``fold_in(key, e)``, so that two halves, with keys of their own,
        are another training than the whole.
    task : data and loss; its start unless there are ``params``.
    params : to start from.
    num_epochs : how many epochs; 0 measures the start.
    batch_size : B, no more than there are training examples.
    learning_rate : α [parameter²/loss].
    loss_fn : in place of the task's, ``loss_fn(Keyed(params, key), (inputs, targets)) -> (examples,)``; as with ``jax.jit``
        one function is one program.
    progress : ``progress(epoch, score)``, called with epoch 0 for the start.

    Returns
    -------
    Trained

    Raises
    ------
    ValueError : for a number out of its domain.

    Source: [K23], methods; the step is ``optax.sgd``.

    >>> import jax
    >>> from mutagrad.lab.tasks.data import load
    >>> from mutagrad.lab.tasks.models import MLP
    >>> from mutagrad.lab.tasks.task import make_task
    >>> from mutagrad.lab.training.sgd import sgd
    >>> task = make_task(load("digits"), MLP(jax.random.key(0), 64, (8,), 10))
    >>> trained = sgd(jax.random.key(1), task, num_epochs=2, learning_rate=0.1)
    >>> [score.score > 0.7 for score in trained.test]
    [False, False, True]
    """
    key, data = check.key(key), task.data
    number = len(data.train_targets)
    check.count("num_epochs", num_epochs, 0)
    if check.count("batch_size", batch_size) > number:
        raise ValueError(f"batch_size: got {batch_size}; pass no more than the {number} training examples")
    check.positive("learning_rate", learning_rate)
    params = task.start if params is None else params
    epoch_fn = _epoch_program(loss_fn or task.loss_fn, batch_size)
    train = (jnp.asarray(data.train_inputs), jnp.asarray(data.train_targets))
    test: list[Score] = []
    for epoch in range(num_epochs + 1):
        if epoch:
            params = epoch_fn(jax.random.fold_in(key, epoch - 1), params, train, jnp.float32(learning_rate))
        test.append(task.measure_fn(params, data.test_inputs, data.test_targets))
        if progress is not None:
            progress(epoch, test[-1])
    return Trained(params, test)


@lru_cache(maxsize=16)
def _epoch_program(loss_fn: Callable, batch_size: int) -> Callable:
    def mean_loss(params: Any, key: jax.Array, batch: tuple) -> jax.Array:
        return jnp.mean(loss_fn(Keyed(params, key), batch))

    # The data are an argument: as constants they would be copied into the program.
    @jax.jit
    def epoch(key: jax.Array, params: Any, data: tuple, learning_rate: jax.Array) -> Any:
        optimizer, number = optax.sgd(learning_rate), data[1].shape[0]
        order_key, masks_key = jax.random.split(key)
        order = jax.random.permutation(order_key, number)

        def step(rows: jax.Array, index: Any, params: Any, state: Any) -> tuple[Any, Any]:
            batch = jax.tree.map(lambda leaf: leaf[rows], data)
            gradient = jax.grad(mean_loss)(params, jax.random.fold_in(masks_key, index), batch)
            updates, state = optimizer.update(gradient, state, params)
            return optax.apply_updates(params, updates), state

        def body(index: jax.Array, carry: tuple) -> tuple:
            rows = jax.lax.dynamic_slice(order, (index * batch_size,), (batch_size,))
            return step(rows, index, *carry)

        whole = number // batch_size
        carry = jax.lax.fori_loop(0, whole, body, (params, optimizer.init(params)))
        if number % batch_size:
            carry = step(order[whole * batch_size :], whole, *carry)
        return carry[0]

    return epoch
