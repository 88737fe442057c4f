"""Networks to train: Equinox modules that map a batch of images to logits.

Weights and biases start as in PyTorch, uniform within ±1/√fan_in, which is also Equinox's default; `lecun` enlarges the
weights to the scale at which a layer keeps the variance of its inputs.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from mutagrad import check

__all__ = ["MLP", "ConvNet", "GroupedMLP", "cross_entropy", "lecun"]

_EXAMPLES_AT_ONCE = 32
"""Examples a convolution handles at a time on a CPU, so that its patches stay in the cache."""


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Per-example cross-entropy [nat].

    Parameters
    ----------
    logits : (batch, classes).
    labels : (batch,) integers.

    Returns
    -------
    (batch,) losses.

    >>> import jax.numpy as jnp
    >>> from mutagrad.lab.tasks.models import cross_entropy
    >>> round(float(cross_entropy(jnp.zeros((1, 10)), jnp.array([3]))[0]), 4)
    2.3026
    """
    chosen = jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
    return jax.nn.logsumexp(logits, axis=1) - chosen


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
    """A multilayer perceptron with ReLU: inputs are flattened, the last layer gives logits.

    Parameters
    ----------
    key : a key for the initial weights.
    num_inputs : length of a flattened example.
    widths : numbers of hidden units, one per hidden layer.
    num_classes : number of logits.

    >>> import jax, jax.numpy as jnp
    >>> from mutagrad.lab.tasks.models import MLP
    >>> MLP(jax.random.key(0), 64, (32,), 10)(jnp.zeros((5, 8, 8))).shape
    (5, 10)
    """

    layers: list[eqx.nn.Linear]

    def __init__(self, key: jax.Array, num_inputs: int, widths: tuple[int, ...], num_classes: int):
        sizes = [num_inputs, *widths, num_classes]
        keys = jax.random.split(key, len(sizes) - 1)
        self.layers = [eqx.nn.Linear(a, b, key=k) for a, b, k in zip(sizes[:-1], sizes[1:], keys, strict=True)]

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Logits (batch, classes) of inputs (batch, ...)."""
        values = inputs.reshape(inputs.shape[0], -1)
        for layer in self.layers[:-1]:
            values = jax.nn.relu(_linear(layer, values))
        return _linear(self.layers[-1], values)


class GroupedMLP(eqx.Module):
    """A perceptron of one hidden layer with its units in equal groups: a sum of smaller ones, each with some of the units.

    It is the `MLP` of as many units, but that every group has a bias of its own on the logits. Any order of the groups gives
    the same logits, so that they may take turns in being mutated (`mutagrad.rotate`).

    Parameters
    ----------
    key : a key for the initial weights.
    num_inputs : length of a flattened example.
    width : number of hidden units of all groups together.
    num_classes : number of logits.
    number : of groups; it divides ``width``.

    >>> import jax, jax.numpy as jnp
    >>> from mutagrad.lab.tasks.models import GroupedMLP
    >>> model = GroupedMLP(jax.random.key(0), 64, 32, 10, number=4)
    >>> bool(jnp.allclose(model(jnp.ones((5, 64))), model.rotated()(jnp.ones((5, 64))), atol=1e-6))
    True
    """

    groups: list[MLP]

    def __init__(self, key: jax.Array, num_inputs: int, width: int, num_classes: int, number: int):
        if width % number:
            raise ValueError(f"unit_groups: got {number} for {width} hidden units; pass a divisor of {width}")
        groups = [MLP(one, num_inputs, (width // number,), num_classes) for one in jax.random.split(key, number)]
        # The logits are sums over all units, and over as many biases as there are groups.
        self.groups = [
            eqx.tree_at(
                lambda group: (group.layers[1].weight, group.layers[1].bias),
                group,
                (group.layers[1].weight / math.sqrt(number), _bias(group.layers[1]) / number),
            )
            for group in groups
        ]

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Logits (batch, classes) of inputs (batch, ...)."""
        # The others are summed first, so that mutants of the first share their sum and not only its terms.
        first, *others = self.groups
        return first(inputs) + sum(group(inputs) for group in others)

    def rotated(self) -> "GroupedMLP":
        """The same network with its second group in the first place, and the first in the last."""
        return eqx.tree_at(lambda model: model.groups, self, [*self.groups[1:], self.groups[0]])


class ConvNet(eqx.Module):
    """The convolutional network of [K23], without its dropout and spectral normalisation: 9854 parameters at base size.

    Convolutions 1→8 5×5, 8→16 5×5, 16→8 3×3, 8→4 3×3, ReLU after each, 2×2 max pooling after the first two; then
    196→24, ReLU, 24→10 on 28×28 images.

    Parameters
    ----------
    key : a key for the initial weights.
    image_shape : (height, width), multiples of 4.
    num_maps : maps of the first and third convolution (LM in [K23]); the second has twice, the fourth half as many.
    num_linear : units of the first linear layer (LW in [K23]).
    num_classes : number of logits.

    Source: [K23], methods.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> from mutagrad.lab.tasks.models import ConvNet
    >>> model = ConvNet(jax.random.key(0))
    >>> model(jnp.zeros((5, 28, 28))).shape, mutagrad.tree.size(model)
    ((5, 10), 9854)
    """

    convolutions: list[eqx.nn.Conv2d]
    linear: list[eqx.nn.Linear]

    def __init__(
        self,
        key: jax.Array,
        image_shape: tuple[int, int] = (28, 28),
        num_maps: int = 8,
        num_linear: int = 24,
        num_classes: int = 10,
    ):
        height, width = image_shape
        if height % 4 or width % 4:
            raise ValueError(f"image_shape: got {tuple(image_shape)}; pass a height and a width that 4 divides")
        num_maps = check.count("num_maps", num_maps, 2)
        keys = jax.random.split(key, 6)
        maps = [1, num_maps, 2 * num_maps, num_maps, num_maps // 2]
        kernels = [5, 5, 3, 3]
        self.convolutions = [
            eqx.nn.Conv2d(maps[i], maps[i + 1], kernels[i], padding=kernels[i] // 2, key=keys[i]) for i in range(4)
        ]
        features = maps[-1] * (height // 4) * (width // 4)
        self.linear = [
            eqx.nn.Linear(features, num_linear, key=keys[4]),
            eqx.nn.Linear(num_linear, num_classes, key=keys[5]),
        ]

    def __call__(self, images: jax.Array) -> jax.Array:
        """Logits (batch, classes) of images (batch, height, width)."""
        if jax.default_backend() != "cpu":
            return self._forward(images, jax_convolution)
        number = images.shape[0]
        chunk = min(number, _EXAMPLES_AT_ONCE)
        padding = -number % chunk
        chunks = jnp.pad(images, ((0, padding), (0, 0), (0, 0))).reshape(-1, chunk, *images.shape[1:])
        logits = jax.lax.map(lambda part: self._forward(part, patch_convolution), chunks)
        return logits.reshape(-1, logits.shape[-1])[:number]

    def _forward(self, images: jax.Array, convolution: Any) -> jax.Array:
        # Maps first and examples last: patches are then copied, and pooled, in long contiguous runs.
        values = jnp.moveaxis(images, 0, -1)[None]
        for position, layer in enumerate(self.convolutions):
            values = jax.nn.relu(convolution(layer.weight, values, position < 2) + _bias(layer)[..., None])
        values = values.reshape(-1, values.shape[-1]).T
        return _linear(self.linear[1], jax.nn.relu(_linear(self.linear[0], values)))


def _bias(layer: eqx.nn.Conv2d | eqx.nn.Linear) -> jax.Array:
    assert layer.bias is not None
    return layer.bias


def _linear(layer: eqx.nn.Linear, values: jax.Array) -> jax.Array:
    return values @ layer.weight.T + _bias(layer)


def jax_convolution(weight: jax.Array, values: jax.Array, pool: bool = False) -> jax.Array:
    """Same-padded convolution of (maps, height, width, batch) values, by XLA's own operator; 2×2 max pooling after it."""
    layout = jax.lax.conv_dimension_numbers(values.shape, weight.shape, ("CHWN", "OIHW", "CHWN"))
    values = jax.lax.conv_general_dilated(values, weight, (1, 1), "SAME", dimension_numbers=layout)
    if not pool:
        return values
    maps, height, width, number = values.shape
    return values.reshape(maps, height // 2, 2, width // 2, 2, number).max((2, 4))


def patch_convolution(weight: jax.Array, values: jax.Array, pool: bool = False) -> jax.Array:
    """The same as one matrix product of weights and patches; the four places of a pool share one patch.

    On a CPU, inside a loop over offspring, it was measured eight times faster than XLA's operator.
    """
    outputs, inputs, size, _ = weight.shape
    _, height, width, number = values.shape
    margin, stride = size // 2, 1 + pool
    padded = jnp.pad(values, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    shifts = [
        padded[:, row : row + height + 1 - stride : stride, column : column + width + 1 - stride : stride]
        for row in range(size + pool)
        for column in range(size + pool)
    ]
    patches = jnp.stack(shifts, axis=1).reshape(inputs * len(shifts), -1)
    if not pool:
        return (weight.reshape(outputs, -1) @ patches).reshape(outputs, height, width, number)
    places = [jnp.pad(weight, ((0, 0), (0, 0), (i, 1 - i), (j, 1 - j))) for i in (0, 1) for j in (0, 1)]
    values = (jnp.stack(places).reshape(4 * outputs, -1) @ patches).reshape(4, outputs, -1)
    # Pairwise: XLA's reduction over the first axis takes longer than the product itself.
    largest = jnp.maximum(jnp.maximum(values[0], values[1]), jnp.maximum(values[2], values[3]))
    return largest.reshape(outputs, height // 2, width // 2, number)
