"""The networks whose Hessians W26-6 looks at: their data, their training, and the largest of their curvatures."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from scipy.sparse import linalg

from mutagrad.lab.claims.tanh_nets import deep_losses, deep_start, shallow_losses, shallow_start
from mutagrad.lab.tasks.convnet import ConvNet
from mutagrad.lab.tasks.data import load
from mutagrad.lab.tasks.losses import cross_entropy
from mutagrad.lab.tasks.models import MLP

__all__ = ["NETWORKS", "Curvatures", "Network", "curvatures", "network", "train"]

NETWORKS = ("ConvNet on MNIST", "MLP on MNIST", "MLP on digits", "shallow tanh net", "deep tanh net")
_DENSE = 3000
"""Parameters up to which the whole Hessian is formed."""
_PROBES = 32
"""Random probes for the trace of a larger one."""


class Network(NamedTuple):
    """A network as a function of one vector of weights.

    Attributes
    ----------
    loss_fn : ``loss_fn(x, inputs, targets)``, the mean loss.
    start : ``start(key) -> x``, (N,) weights.
    inputs, targets : of training; whoever measures takes some of them.
    score : ``score(x)``: share of images that are classified right, of the test on MNIST and of all that it learns from on the
        few digits, or of the variance of a curve that is explained.
    rate : of Adam.
    """

    loss_fn: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
    start: Callable[[jax.Array], jax.Array]
    inputs: jax.Array
    targets: jax.Array
    score: Callable[[jax.Array], float]
    rate: float


class Curvatures(NamedTuple):
    """The largest eigenvalues of a Hessian by sign, decreasing, and its trace with a standard error."""

    eigenvalues: np.ndarray
    trace: float
    trace_error: float


def network(name: str) -> Network:
    """A network by its name in `NETWORKS`."""
    if name.endswith("tanh net"):
        return _tanh_net(name.startswith("deep"))
    data = load("digits" if name.endswith("digits") else "mnist")
    size, is_small = math.prod(data.train_inputs.shape[1:]), name.endswith("digits")

    def make(key: jax.Array) -> Any:
        if name.startswith("ConvNet"):
            return ConvNet(key)
        return MLP(key, size, (32,) if is_small else (100,), 10)

    params, static = eqx.partition(make(jax.random.key(0)), eqx.is_inexact_array)
    unravel = ravel_pytree(params)[1]

    def outputs(x: jax.Array, inputs: jax.Array) -> jax.Array:
        return eqx.combine(unravel(x), static)(inputs)

    scored = (data.train_inputs, data.train_targets) if is_small else (data.test_inputs, data.test_targets)
    scored_inputs, scored_targets = map(jnp.asarray, scored)

    @jax.jit
    def score(x: jax.Array) -> jax.Array:
        return jnp.mean(jnp.argmax(outputs(x, scored_inputs), axis=1) == scored_targets)

    return Network(
        lambda x, inputs, targets: jnp.mean(cross_entropy(outputs(x, inputs), targets)),
        lambda key: ravel_pytree(eqx.filter(make(key), eqx.is_inexact_array))[0],
        jnp.asarray(data.train_inputs),
        jnp.asarray(data.train_targets),
        score,
        1e-3,
    )


def _tanh_net(is_deep: bool) -> Network:
    """The shallow or the deep net of [W21], on 200 points of its curve, which has the variance ½."""
    losses_fn, nothing = (deep_losses if is_deep else shallow_losses), jnp.zeros(0)

    def loss_fn(x: jax.Array, *_: jax.Array) -> jax.Array:
        return jnp.mean(losses_fn(x, 200))

    def start(key: jax.Array) -> jax.Array:
        seed = jax.random.randint(key, (), 0, 2**31 - 1)
        return deep_start(int(seed)) if is_deep else shallow_start(int(seed))

    return Network(loss_fn, start, nothing, nothing, jax.jit(lambda x: 1 - 2 * loss_fn(x)), 1e-3 if is_deep else 1e-2)


def train(one: Network, key: jax.Array, stages: tuple[int, ...], batch: int) -> list[jax.Array]:
    """Weights after so many steps of Adam, from a start of the key's own and on minibatches of its own."""
    start_key, batch_key = jax.random.split(key)
    optimizer = optax.adam(one.rate)

    @jax.jit
    def advance(x, state, first, steps, inputs, targets):
        def body(index, carry):
            x, state = carry
            rows: Any = slice(None)
            if len(targets):
                rows = jax.random.randint(jax.random.fold_in(batch_key, first + index), (batch,), 0, len(targets))
            updates, state = optimizer.update(jax.grad(one.loss_fn)(x, inputs[rows], targets[rows]), state, x)
            return optax.apply_updates(x, updates), state

        return jax.lax.fori_loop(0, steps, body, (x, state))

    x, last, found = one.start(start_key), 0, []
    state = optimizer.init(x)
    for steps in stages:
        x, state = advance(x, state, last, steps - last, one.inputs, one.targets)
        last = steps
        found.append(x)
    return found


@partial(jax.jit, static_argnums=0)
def _linearized(gradient: Callable, x: jax.Array, inputs: jax.Array, targets: jax.Array) -> Any:
    # The data are an argument: as constants they would be convolved by the compiler.
    return jax.linearize(lambda x: gradient(x, inputs, targets), x)[1]


@jax.jit
def _apply(product: Any, vector: jax.Array) -> jax.Array:
    return product(vector)


@partial(jax.jit, static_argnums=0)
def _dense(gradient: Callable, x: jax.Array, inputs: jax.Array, targets: jax.Array) -> jax.Array:
    product = jax.linearize(lambda x: gradient(x, inputs, targets), x)[1]
    return jax.lax.map(product, jnp.eye(x.size), batch_size=64)


def curvatures(
    gradient: Callable, x: jax.Array, number: int, key: jax.Array, inputs: jax.Array, targets: jax.Array
) -> Curvatures:
    """The largest curvatures of a loss: all of a small Hessian, or by Lanczos with restarts each to within 1 %.

    Parameters
    ----------
    gradient : ``gradient(x, inputs, targets)``, of which the Hessian is the derivative in x.
    number : how many eigenvalues.
    key : of Lanczos' start and of the probes of the trace.
    """
    if x.size <= _DENSE:
        hessian = np.asarray(_dense(gradient, x, inputs, targets), float)
        values = np.linalg.eigvalsh((hessian + hessian.T) / 2)[::-1]
        return Curvatures(values[:number], float(values.sum()), 0.0)
    linear = _linearized(gradient, x, inputs, targets)

    def product(vector):
        return np.asarray(_apply(linear, jnp.asarray(vector.ravel(), x.dtype)), float)

    hessian = linalg.LinearOperator((x.size, x.size), product, dtype=float)
    random = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    found = linalg.eigsh(
        hessian, number, which="LA", ncv=5 * number // 2, tol=0.01, v0=random.standard_normal(x.size),
        return_eigenvectors=False,
    )  # fmt: skip
    probes = random.choice([-1.0, 1.0], (_PROBES, x.size))
    traces = np.array([probe @ product(probe) for probe in probes])
    return Curvatures(np.sort(found)[::-1], float(traces.mean()), float(traces.std(ddof=1) / math.sqrt(_PROBES)))
