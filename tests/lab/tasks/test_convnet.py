"""The ConvNet of [K23] is what it is said to be: sizes, layers, dropout and spectral normalisation, against NumPy."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal

from mutagrad.lab.tasks.convnet import ConvNet, jax_convolution
from mutagrad.lab.tasks.regularization import dropout, example_keys, spectral_norm

pytestmark = pytest.mark.permissive  # the networks have JAX's default promotion

REGULARIZED = {"input_dropout": 0.1, "dropout": 0.25, "spectral_normalization": True}


@pytest.mark.parametrize(
    ("num_maps", "num_linear", "sizes"),
    [
        (8, 24, (208, 3216, 1160, 292, 4728, 250)),
        (16, 48, (416, 12_832, 4624, 1160, 18_864, 490)),
        (4, 12, (104, 808, 292, 74, 1188, 130)),
    ],
)
def test_parameters_layer_by_layer(num_maps, num_linear, sizes):
    """Weights and biases of [K23]'s widths, counted by hand; regularised networks have no more of them."""
    model = eqx.filter_eval_shape(ConvNet, jax.random.key(0), (28, 28), num_maps, num_linear, **REGULARIZED)
    assert model.layer_sizes == sizes
    assert sum(leaf.size for leaf in jax.tree.leaves(model) if hasattr(leaf, "size")) == sum(sizes)


def plain(model, images, masks):
    """The network in NumPy, image by image and map by map, in double precision; masks by site, examples last."""

    def pooled(values):
        maps, height, width = values.shape
        return values.reshape(maps, height // 2, 2, width // 2, 2).max((2, 4))

    def weight(layer):
        values = np.asarray(layer.weight, float)
        if not model.spectral_normalization:
            return values
        return values / np.linalg.svd(values.reshape(len(values), -1), compute_uv=False)[0]

    outputs = []
    for number, image in enumerate(np.asarray(images, float)):
        values = image[None]
        for position, layer in enumerate(model.convolutions):
            values = values * masks[position][..., number]
            kernels, biases = weight(layer), np.asarray(layer.bias, float)
            values = np.stack(
                [
                    sum(signal.correlate(one, kernel, "same") for one, kernel in zip(values, own, strict=True))
                    for own in kernels
                ]
            )
            values = np.maximum(values + biases, 0)
            values = pooled(values) if position < 2 else values
        values = (values * masks[4][..., number]).ravel()
        first, last = model.linear
        hidden = np.maximum(weight(first) @ values + np.asarray(first.bias, float), 0)
        outputs.append(np.asarray(last.weight, float) @ hidden + np.asarray(last.bias, float))
    return np.stack(outputs)


SITES = [(1, 8, 8), (2, 4, 4), (4, 2, 2), (2, 2, 2), (1, 2, 2)]
"""What enters each convolution and the first linear layer, for 8×8 images and two maps."""


def small(**options):
    """A network of two maps whose units are alive: its biases are positive, so that outputs depend on every pixel."""
    model = eqx.filter_eval_shape(ConvNet, jax.random.key(0), (8, 8), 2, 5, 3, **options)
    rng = np.random.default_rng(3)

    def drawn(leaf):
        if len(leaf.shape) in (1, 3):
            return jnp.asarray(rng.uniform(0.1, 0.5, leaf.shape), jnp.float32)
        return jnp.asarray(rng.normal(0.2, 1, leaf.shape) / np.sqrt(np.prod(leaf.shape[1:])), jnp.float32)

    return jax.tree.map(drawn, model)


@eqx.filter_jit
def outputs_of(model, images, key=None):
    return model(images, key)


def test_regularised_network_is_the_plain_one():
    """Order of layers, where values are dropped and which weights are normalised; none of it without a key or the option."""
    number, key = 4, jax.random.key(5)
    images = jax.random.normal(jax.random.key(4), (number, 8, 8))
    own = example_keys(key, jnp.arange(number))
    rates = [0.1, *[0.25] * 4]
    drawn = [
        np.asarray(dropout(own, site, jnp.ones((*shape, number)), rate))
        for site, (shape, rate) in enumerate(zip(SITES, rates, strict=True))
    ]
    nothing = [np.ones_like(mask) for mask in drawn]
    regularized, other = small(**REGULARIZED), small(input_dropout=0.1, dropout=0.25)
    expected = plain(regularized, images, drawn)
    np.testing.assert_allclose(outputs_of(regularized, images, key), expected, rtol=1e-4, atol=1e-5)
    for site in range(5):  # and each mask is seen
        others = [nothing[site] if one == site else drawn[one] for one in range(5)]
        assert np.max(np.abs(plain(regularized, images, others) - expected)) > 1e-3
    expected = plain(other, images, nothing)
    np.testing.assert_allclose(outputs_of(other, images), expected, rtol=1e-4, atol=1e-5)
    assert (regularized.has_dropout, small().has_dropout) == (True, False)


def test_masks_of_an_image_depend_on_its_place_alone():
    """In chunks of 32 on a CPU, and in one on an accelerator; images that are alike have masks of their own."""
    model, key = small(**REGULARIZED), jax.random.key(6)
    images = jnp.broadcast_to(jax.random.normal(jax.random.key(7), (8, 8)), (37, 8, 8))
    many = outputs_of(model, images, key)

    @jax.jit
    def at_once():
        return model.normalized()._forward(images, jax_convolution, example_keys(key, jnp.arange(37)))

    np.testing.assert_allclose(at_once(), many, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(outputs_of(model, images[:4], key), many[:4], rtol=1e-5, atol=1e-6)
    # One mask for a chunk would give two outputs; where the last values are all dropped, some are equal.
    assert len(np.unique(np.asarray(many)[:, 0])) > 20


def test_dropout_has_the_mean_and_variance_of_its_law():
    """Values are 0 or x/(1 − p), independent between entries, examples, sites and keys.

    40,000 masks a rate: shares within 4.5 standard errors (false alarm 7·10⁻⁶ each), and correlations within 4.5/√n.
    """
    number, values = 10_000, jnp.array([[1.0, -2.0], [3.0, 0.5]])
    many = jnp.broadcast_to(values[..., None], (2, 2, number))
    for rate in (0.1, 0.25):
        own = example_keys(jax.random.key(8), jnp.arange(number))
        found = np.asarray(dropout(own, 0, many, rate), float)
        kept = found != 0
        np.testing.assert_allclose(found[kept], np.broadcast_to(many, found.shape)[kept] / (1 - rate), rtol=1e-6)
        assert abs(kept.mean() - (1 - rate)) < 4.5 * (rate * (1 - rate) / kept.size) ** 0.5
        others = [
            np.asarray(dropout(own, 1, many, rate)) != 0,
            np.asarray(dropout(example_keys(jax.random.key(9), jnp.arange(number)), 0, many, rate)) != 0,
        ]
        rows = np.concatenate(
            [kept.reshape(4, -1), kept.reshape(4, -1)[:, ::-1], *[one.reshape(4, -1) for one in others]]
        )
        correlations = np.corrcoef(rows)[np.triu_indices(16, 1)]
        # A row against itself turned round has pairs twice over, hence √2.
        assert np.max(np.abs(correlations)) < 4.5 * 2**0.5 / number**0.5
        np.testing.assert_allclose(found.mean(-1), values, rtol=4.5 * (rate / (1 - rate) / number) ** 0.5)
    np.testing.assert_array_equal(dropout(own, 0, many, 0.0), many)


def matrix_of(values, shape):
    """A matrix with these singular values, and the first pair of vectors."""
    rng, number = np.random.default_rng(0), len(values)
    left, right = (np.linalg.qr(rng.normal(size=(size, number)))[0] for size in shape)
    return (left * values) @ right.T, np.outer(left[:, 0], right[:, 0])


@pytest.mark.parametrize(
    ("values", "shape"),
    [
        ([2.0, 1.0, 0.5], (8, 25)),
        ([2.0, 1.0, 0.5], (25, 8)),
        ([1.0, 1 - 1e-3, 1 - 2e-3, 0.1], (16, 200)),
        ([1e-25, 1e-26], (4, 72)),
        ([1e25, 1e24], (4, 72)),
        ([3.0], (5, 7)),
    ],
)
def test_spectral_norm_is_the_largest_singular_value(values, shape):
    """Of known singular values, close ones and those whose squares float32 has not; its derivative is u vᵀ."""
    matrix, outer = matrix_of(np.array(values), shape)
    found, gradient = jax.value_and_grad(spectral_norm)(jnp.asarray(matrix, jnp.float32))
    assert float(found) == pytest.approx(np.linalg.svd(matrix, compute_uv=False)[0], rel=3e-6)
    # Rounding of 10⁻⁷ turns u by 10⁻⁷ over the gap.
    np.testing.assert_allclose(gradient, outer, atol=1e-5 if values[-1] < 0.9 * values[0] and len(values) < 4 else 1e-3)


def test_equal_singular_values_and_kernels():
    """Where u is not unique σ still is; a kernel's axes but the first are one."""
    orthogonal = np.linalg.qr(np.random.default_rng(1).normal(size=(24, 24)))[0]
    assert float(spectral_norm(jnp.asarray(orthogonal, jnp.float32))) == pytest.approx(1, abs=1e-6)
    kernel = np.random.default_rng(2).normal(size=(6, 3, 5, 5))
    exact = np.linalg.svd(kernel.reshape(6, 75), compute_uv=False)[0]
    assert float(spectral_norm(jnp.asarray(kernel, jnp.float32))) == pytest.approx(exact, rel=1e-6)
    assert np.isnan(spectral_norm(jnp.zeros((3, 4))))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_maps": 1}, "num_maps: got 1; pass a whole number of 2 or more"),
        ({"num_linear": 0}, "num_linear: got 0; pass a whole number of 1 or more"),
        ({"dropout": 1.0}, "dropout: got 1.0; pass a share from 0 to below 1"),
        ({"input_dropout": -0.1}, "input_dropout: got -0.1; pass a share from 0 to below 1"),
        ({"dropout": "0.1"}, "dropout: got '0.1'; pass a share"),
        ({"image_shape": (28, 30)}, r"image_shape: got \(28, 30\); pass a height and a width that 4 divides"),
    ],
)
def test_refusals(options, words):
    with pytest.raises(ValueError, match=words):
        ConvNet(jax.random.key(0), **options)
