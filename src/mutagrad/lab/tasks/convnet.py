"""The convolutional network of [K23], with convolutions that are fast on a CPU."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from mutagrad import check
from mutagrad.lab.tasks.models import bias, linear
from mutagrad.lab.tasks.regularization import check_rate, dropout, example_keys, spectral_norm

__all__ = ["ConvNet"]

_EXAMPLES_AT_ONCE = 32
"""Examples a convolution handles at a time on a CPU, so that its patches stay in the cache."""


class ConvNet(eqx.Module):
    """The convolutional network of [K23]: 9854 parameters at base size.

    Convolutions 1→8 5×5, 8→16 5×5, 16→8 3×3, 8→4 3×3, ReLU after each, 2×2 max pooling after the first two; then
    196→24, ReLU, 24→10 on 28×28 images.

    Parameters
    ----------
    key : a key for the initial weights.
    image_shape : (height, width), multiples of 4.
    num_maps : maps of the first and third convolution (LM in [K23]); the second has twice, the fourth half as many.
    num_linear : units of the first linear layer (LW in [K23]).
    num_outputs : number of outputs, logits or predictions.
    input_dropout : share of the pixels that a call with a key drops (DI in [K23]).
    dropout : share of the values before each further convolution and the first linear layer that it drops (DO in [K23]).
    spectral_normalization : whether the weights of every layer but the last are divided by their `spectral_norm`.

    [K23] has 0.1, 0.1 and True at base size. Single values are dropped, not whole maps.

    Source: [K23], methods.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> from mutagrad.lab.tasks.convnet import ConvNet
    >>> model = ConvNet(jax.random.key(0))
    >>> model(jnp.zeros((5, 28, 28))).shape, model.layer_sizes, mutagrad.tree.size(model)
    ((5, 10), (208, 3216, 1160, 292, 4728, 250), 9854)
    >>> ConvNet(jax.random.key(0), input_dropout=0.1, dropout=0.1, spectral_normalization=True).has_dropout
    True
    """

    convolutions: list[eqx.nn.Conv2d]
    linear: list[eqx.nn.Linear]
    input_dropout: float = eqx.field(static=True)
    dropout: float = eqx.field(static=True)
    spectral_normalization: bool = eqx.field(static=True)

    def __init__(
        self,
        key: jax.Array,
        image_shape: tuple[int, int] = (28, 28),
        num_maps: int = 8,
        num_linear: int = 24,
        num_outputs: int = 10,
        input_dropout: float = 0.0,
        dropout: float = 0.0,
        spectral_normalization: bool = False,
    ):
        height, width = image_shape
        if height % 4 or width % 4:
            raise ValueError(f"image_shape: got {tuple(image_shape)}; pass a height and a width that 4 divides")
        num_maps, num_linear = check.count("num_maps", num_maps, 2), check.count("num_linear", num_linear)
        self.input_dropout = check_rate("input_dropout", input_dropout)
        self.dropout = check_rate("dropout", dropout)
        self.spectral_normalization = bool(spectral_normalization)
        keys = jax.random.split(key, 6)
        maps = [1, num_maps, 2 * num_maps, num_maps, num_maps // 2]
        kernels = [5, 5, 3, 3]
        self.convolutions = [
            eqx.nn.Conv2d(maps[i], maps[i + 1], kernels[i], padding=kernels[i] // 2, key=keys[i]) for i in range(4)
        ]
        features = maps[-1] * (height // 4) * (width // 4)
        self.linear = [
            eqx.nn.Linear(features, num_linear, key=keys[4]),
            eqx.nn.Linear(num_linear, num_outputs, key=keys[5]),
        ]

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """Parameters of each layer, weights and biases."""
        layers: list[Any] = [*self.convolutions, *self.linear]
        return tuple(layer.weight.size + bias(layer).size for layer in layers)

    @property
    def has_dropout(self) -> bool:
        """Whether a key changes what a call returns."""
        return self.input_dropout > 0 or self.dropout > 0

    def __call__(self, images: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Outputs (batch, num_outputs) of images (batch, height, width).

        With a key values are dropped. The masks of image i depend on the key and on i alone, wherever they are drawn.
        """
        network = self.normalized() if self.spectral_normalization else self
        key = key if self.has_dropout else None
        number = images.shape[0]
        if jax.default_backend() != "cpu":
            return network._forward(images, jax_convolution, _keys(key, jnp.arange(number)))
        chunk = min(number, _EXAMPLES_AT_ONCE)
        padding = -number % chunk
        chunks = jnp.pad(images, ((0, padding), (0, 0), (0, 0))).reshape(-1, chunk, *images.shape[1:])
        places = None if key is None else jnp.arange(number + padding).reshape(-1, chunk)

        def of_chunk(part: tuple) -> jax.Array:
            return network._forward(part[0], patch_convolution, _keys(key, part[1]))

        outputs = jax.lax.map(of_chunk, (chunks, places))
        return outputs.reshape(-1, outputs.shape[-1])[:number]

    def normalized(self) -> "ConvNet":
        """The network with the weights of every layer but the last divided by their spectral norms; biases stay."""
        layers: list[Any] = [*self.convolutions, self.linear[0]]
        return eqx.tree_at(
            lambda network: [layer.weight for layer in (*network.convolutions, network.linear[0])],
            self,
            [layer.weight / spectral_norm(layer.weight) for layer in layers],
        )

    def _forward(self, images: jax.Array, convolution: Any, own: jax.Array | None = None) -> jax.Array:
        # Maps first and examples last: patches are then copied, and pooled, in long contiguous runs.
        values = jnp.moveaxis(images, 0, -1)[None]
        for position, layer in enumerate(self.convolutions):
            if own is not None:
                values = dropout(own, position, values, self.dropout if position else self.input_dropout)
            values = jax.nn.relu(convolution(layer.weight, values, position < 2) + bias(layer)[..., None])
        if own is not None:
            values = dropout(own, len(self.convolutions), values, self.dropout)
        values = values.reshape(-1, values.shape[-1]).T
        return linear(self.linear[1], jax.nn.relu(linear(self.linear[0], values)))


def _keys(key: jax.Array | None, numbers: jax.Array) -> jax.Array | None:
    return None if key is None else example_keys(key, numbers)


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
