"""Networks to train: Equinox modules that map a batch of inputs to outputs, logits or predictions.

Weights and biases start as in PyTorch, uniform within ±1/√fan_in, which is also Equinox's default; `lecun` enlarges the
weights to the scale at which a layer keeps the variance of its inputs.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

__all__ = ["MLP", "GroupedMLP", "lecun"]


def lecun(params: Any) -> Any:
    """Weights of variance 1/fan_in and biases of zero, from those of PyTorch's start.

    PyTorch's weights have variance 1/(3 fan_in), so that the signal shrinks from layer to layer, |∇U|²/TrH with it, and the
    first hundred generations with that.

    Parameters
    ----------
    params : weights and biases of a network as it starts; what has more than one axis is a weight.

    >>> import jax, equinox as eqx
    >>> from mutagrad.lab.tasks.models import MLP, lecun
    >>> layer = lecun(eqx.filter(MLP(jax.random.key(0), 300, (300,), 10), eqx.is_array)).layers[0]
    >>> round(float(layer.weight.var() * 300), 1), float(abs(layer.bias).max())
    (1.0, 0.0)
    """
    return jax.tree.map(lambda leaf: leaf * math.sqrt(3) if leaf.ndim > 1 else jnp.zeros_like(leaf), params)


class MLP(eqx.Module):
    """A multilayer perceptron with ReLU: inputs are flattened, the last layer is linear.

    Parameters
    ----------
    key : a key for the initial weights.
    num_inputs : length of a flattened example.
    widths : numbers of hidden units, one per hidden layer.
    num_outputs : number of outputs.

    >>> import jax, jax.numpy as jnp
    >>> from mutagrad.lab.tasks.models import MLP
    >>> MLP(jax.random.key(0), 64, (32,), 10)(jnp.zeros((5, 8, 8))).shape
    (5, 10)
    """

    layers: list[eqx.nn.Linear]

    def __init__(self, key: jax.Array, num_inputs: int, widths: tuple[int, ...], num_outputs: int):
        sizes = [num_inputs, *widths, num_outputs]
        keys = jax.random.split(key, len(sizes) - 1)
        self.layers = [eqx.nn.Linear(a, b, key=k) for a, b, k in zip(sizes[:-1], sizes[1:], keys, strict=True)]

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Outputs (batch, num_outputs) of inputs (batch, ...)."""
        values = inputs.reshape(inputs.shape[0], -1)
        for layer in self.layers[:-1]:
            values = jax.nn.relu(linear(layer, values))
        return linear(self.layers[-1], values)


class GroupedMLP(eqx.Module):
    """A perceptron of one hidden layer with its units in equal groups: a sum of smaller ones, each with some of the units.

    It is the `MLP` of as many units, but that every group has a bias of its own on the outputs. Any order of the groups gives
    the same outputs, so that they may take turns in being mutated (`mutagrad.rotate`).

    Parameters
    ----------
    key : a key for the initial weights.
    num_inputs : length of a flattened example.
    width : number of hidden units of all groups together.
    num_outputs : number of outputs.
    number : of groups; it divides ``width``.

    >>> import jax, jax.numpy as jnp
    >>> from mutagrad.lab.tasks.models import GroupedMLP
    >>> model = GroupedMLP(jax.random.key(0), 64, 32, 10, number=4)
    >>> bool(jnp.allclose(model(jnp.ones((5, 64))), model.rotated()(jnp.ones((5, 64))), atol=1e-6))
    True
    """

    groups: list[MLP]

    def __init__(self, key: jax.Array, num_inputs: int, width: int, num_outputs: int, number: int):
        if width % number:
            raise ValueError(f"unit_groups: got {number} for {width} hidden units; pass a divisor of {width}")
        groups = [MLP(one, num_inputs, (width // number,), num_outputs) for one in jax.random.split(key, number)]
        # The outputs are sums over all units, and over as many biases as there are groups.
        self.groups = [
            eqx.tree_at(
                lambda group: (group.layers[1].weight, group.layers[1].bias),
                group,
                (group.layers[1].weight / math.sqrt(number), bias(group.layers[1]) / number),
            )
            for group in groups
        ]

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Outputs (batch, num_outputs) of inputs (batch, ...)."""
        # The others are summed first, so that mutants of the first share their sum and not only its terms.
        first, *others = self.groups
        return first(inputs) + sum(group(inputs) for group in others)

    def rotated(self) -> "GroupedMLP":
        """The same network with its second group in the first place, and the first in the last."""
        return eqx.tree_at(lambda model: model.groups, self, [*self.groups[1:], self.groups[0]])


def bias(layer: eqx.nn.Conv2d | eqx.nn.Linear) -> jax.Array:
    """The bias of a layer that has one."""
    assert layer.bias is not None
    return layer.bias


def linear(layer: eqx.nn.Linear, values: jax.Array) -> jax.Array:
    """The layer applied to (batch, fan_in) values at once."""
    return values @ layer.weight.T + bias(layer)
