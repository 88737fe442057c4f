"""A task: data, a model and a loss as one value, all that an algorithm needs to be tried on it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from mutagrad.lab.tasks.dataset import Dataset
from mutagrad.lab.tasks.losses import cross_entropy, squared_error

__all__ = ["Keyed", "Score", "Task", "make_task"]

_AT_ONCE = 10_000
"""A network is measured on so many examples at a time."""


class Score(NamedTuple):
    """How well a network does on some examples.

    Attributes
    ----------
    score : the share of examples that are classified rightly; for regression R², 1 − mean squared error/variance.
    loss : mean cross-entropy [nat], or root mean squared error [target].
    """

    score: float
    loss: float


class Keyed(NamedTuple):
    """Parameters and the key of what is drawn in their evaluation; a loss of a `Task` takes it in place of the parameters.

    `mutagrad.lab.training.dropout` passes it in a generation, `mutagrad.lab.training.sgd` in a step.

    Attributes
    ----------
    params : as in `Task`.
    key : of the masks of dropout.
    """

    params: Any
    key: jax.Array


class Task(NamedTuple):
    """Data, a model and a loss; see `make_task`.

    Attributes
    ----------
    data : as the network sees them; targets of regression have mean 0 and deviation 1 over the training examples.
    start : the model's parameters, a pytree of arrays.
    loss_fn : ``loss_fn(params, batch) -> (examples,)``, batch being inputs and targets: cross-entropies [nat], or squared
        errors of the scaled targets. Given ``Keyed(params, key)`` a network with dropout drops values, and any other is as
        it is without a key.
    measure_fn : ``measure_fn(params, inputs, targets) -> Score``, without dropout.
    unit : of the targets of regression, in units of which ``data`` has them [target]; 1 for classification.
    """

    data: Dataset
    start: Any
    loss_fn: Callable[[Any, tuple], jax.Array]
    measure_fn: Callable[[Any, np.ndarray, np.ndarray], Score]
    unit: float

    @property
    def score_name(self) -> str:
        """What the score is: "accuracy" or "r2"."""
        return "r2" if self.data.is_regression else "accuracy"


def make_task(data: Dataset, model: Any) -> Task:
    """The task of training a model on data.

    Parameters
    ----------
    data : with the inputs that the model takes.
    model : an Equinox module that maps a batch of inputs to (batch, ``data.num_outputs``); of any size. One whose
        ``has_dropout`` is true is called with a key too, where there is one.

    >>> import jax
    >>> from mutagrad.lab.tasks.data import load
    >>> from mutagrad.lab.tasks.models import MLP
    >>> data = load("digits")
    >>> task = make_task(data, MLP(jax.random.key(0), 64, (8,), data.num_outputs))
    >>> task.loss_fn(task.start, (data.train_inputs[:5], data.train_targets[:5])).shape
    (5,)
    """
    start, static = eqx.partition(model, eqx.is_array)
    has_dropout = getattr(model, "has_dropout", False)
    losses_fn, unit = (squared_error, 1.0) if data.is_regression else (cross_entropy, 1.0)
    if data.is_regression:
        mean, unit = float(np.mean(data.train_targets)), float(np.std(data.train_targets))
        scaled = {
            name: ((getattr(data, name) - mean) / unit).astype(np.float32) for name in ("train_targets", "test_targets")
        }
        data = data._replace(**scaled)

    def loss_fn(params: Any, batch: tuple) -> jax.Array:
        inputs, targets = batch
        params, key = params if isinstance(params, Keyed) else (params, None)
        network = eqx.combine(params, static)
        outputs = network(inputs, key) if key is not None and has_dropout else network(inputs)
        return losses_fn(outputs, targets)

    return Task(data, start, loss_fn, _measure_fn(static, losses_fn, data.is_regression, unit), unit)


def _measure_fn(static: Any, losses_fn: Callable, is_regression: bool, unit: float) -> Callable:
    """Measures a network of this structure; compiled once per number of examples, and in parts if they are many."""

    @jax.jit
    def of_part(params: Any, inputs: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
        outputs = eqx.combine(params, static)(inputs)
        return jnp.sum(jnp.argmax(outputs, axis=1) == targets), jnp.sum(losses_fn(outputs, targets))

    def measure(params: Any, inputs: np.ndarray, targets: np.ndarray) -> Score:
        number = len(targets)
        parts = [slice(first, first + _AT_ONCE) for first in range(0, number, _AT_ONCE)]
        right, total = (
            sum(map(float, sums)) for sums in zip(*(of_part(params, inputs[p], targets[p]) for p in parts), strict=True)
        )
        if not is_regression:
            return Score(right / number, total / number)
        spread = float(np.sum(np.square(targets - np.mean(targets, dtype=np.float64))))
        return Score(1 - total / spread if spread > 0 else float("nan"), unit * (total / number) ** 0.5)

    return measure
