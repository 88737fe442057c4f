"""Losses of many examples, each computed from the example alone: what XLA compiles against what NumPy computes.

All data are small integers. Every product and every partial sum is then exact in float32, whatever its order, and the mean
of two or four numbers is exact too: no tolerance is needed.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from mutagrad.compiler import WRONG_VERSION, check_compiler

ROWS = [32_769, 60_000]
"""One row more than 128 KiB of float32; and MNIST. Both are multiples of three."""


def integers(seed, *shape):
    """Random integers from −2 to 2."""
    return np.random.default_rng(seed).integers(-2, 3, shape).astype(np.float32)


def convolved(rows, filters):
    """What (n, 4, 4) images and (k, 2, 2) filters make: (n, k, 3, 3)."""
    patches = np.lib.stride_tricks.sliding_window_view(rows, (2, 2), axis=(1, 2))
    return np.einsum("nijab,kab->nkij", patches, filters)


# Name: shape of the parameters, shape of an example, the loss of one example in JAX, the losses of all in NumPy.
LOSSES = {
    "squares of a product, 3 × 3": (
        (3, 3),
        (3,),
        lambda w, row: jnp.sum((w @ row) ** 2),
        lambda w, rows: np.sum((rows @ w.T) ** 2, axis=1),
    ),
    "absolute values of a product, 8 × 16": (
        (8, 16),
        (16,),
        lambda w, row: jnp.sum(jnp.abs(w @ row)),
        lambda w, rows: np.sum(np.abs(rows @ w.T), axis=1),
    ),
    "mean of a product": (
        (2, 3),
        (3,),
        lambda w, row: jnp.mean(jnp.abs(w @ row)),
        lambda w, rows: np.mean(np.abs(rows @ w.T), axis=1),
    ),
    "two layers": (
        (4, 4),
        (4,),
        lambda w, row: jnp.sum(jnp.abs(w.T @ jax.nn.relu(w @ row))),
        lambda w, rows: np.sum(np.abs(np.maximum(rows @ w.T, 0) @ w), axis=1),
    ),
    "argmax of a product": (
        (8, 16),
        (16,),
        lambda w, row: jnp.argmax(w @ row),
        lambda w, rows: np.argmax(rows @ w.T, axis=1),
    ),
    "argmax of weighted sums": (
        (8, 3),
        (8, 3),
        lambda w, row: jnp.argmax(jnp.abs(jnp.sum(w * row, axis=1))),
        lambda w, rows: np.argmax(np.abs(np.sum(w * rows, axis=2)), axis=1),
    ),
    "sum of weighted sums": (
        (8, 5),
        (8, 5),
        lambda w, row: jnp.sum(jnp.abs(jnp.sum(w * row, axis=1))),
        lambda w, rows: np.sum(np.abs(np.sum(w * rows, axis=2)), axis=1),
    ),
    "mean of weighted sums": (
        (4, 3),
        (4, 3),
        lambda w, row: jnp.mean(jax.nn.relu(jnp.sum(w * row, axis=1))),
        lambda w, rows: np.mean(np.maximum(np.sum(w * rows, axis=2), 0), axis=1),
    ),
    "sum of a difference": (
        (8,),
        (8,),
        lambda w, row: jnp.sum((row - w) ** 2),
        lambda w, rows: np.sum((rows - w) ** 2, axis=1),
    ),
    "convolution": (
        (2, 2, 2),
        (4, 4),
        lambda w, row: jnp.sum(jax.nn.relu(lax.conv(row[None, None], w[:, None], (1, 1), "VALID"))),
        lambda w, rows: np.sum(np.maximum(convolved(rows, w), 0), axis=(1, 2, 3)),
    ),
}


def thirds(w, rows, loss):
    """The losses of three equal parts of the rows, one part after the other in a loop."""
    parts = rows.reshape(3, -1, *rows.shape[1:])
    step = lambda count, part: (count + 1, jax.vmap(lambda row: loss(w, row))(part))  # noqa: E731
    return lax.scan(step, 0, parts)[1].reshape(-1)


# All take parameters, rows and the loss of one row.
EVALUATIONS = {
    "vmap": lambda w, rows, loss: jax.vmap(lambda row: loss(w, row))(rows),
    "jit": jax.jit(lambda w, rows, loss: jax.vmap(lambda row: loss(w, row))(rows), static_argnums=2),
    "map": jax.jit(lambda w, rows, loss: lax.map(lambda row: loss(w, row), rows), static_argnums=2),
    "map in batches": jax.jit(
        lambda w, rows, loss: lax.map(lambda row: loss(w, row), rows, batch_size=32_769), static_argnums=2
    ),
    "scan": jax.jit(thirds, static_argnums=2),
}


@pytest.mark.parametrize("num_rows", ROWS)
@pytest.mark.parametrize("evaluation", EVALUATIONS)
@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_many_examples_are_those_of_numpy(name, evaluation, num_rows):
    shape, row_shape, loss, losses = LOSSES[name]
    w, rows = integers(0, *shape), integers(1, num_rows, *row_shape)
    expected = losses(w, rows)
    # The losses differ from row to row: a wrong row shows.
    assert len(np.unique(expected)) > 2
    np.testing.assert_array_equal(EVALUATIONS[evaluation](w, rows, loss), expected)


@pytest.mark.parametrize("num_rows", ROWS)
@pytest.mark.parametrize("name", LOSSES)
def test_sums_over_many_examples_are_those_of_numpy(name, num_rows):
    shape, row_shape, loss, losses = LOSSES[name]
    w, rows = integers(0, *shape), integers(1, num_rows, *row_shape)
    expected = losses(w, rows)
    # Multiples of a quarter below 2²²: every partial sum is exact in float32.
    assert np.sum(np.abs(expected), dtype=np.float64) < 2**22
    total = jax.jit(lambda w, rows: jnp.sum(jax.vmap(lambda row: loss(w, row))(rows)))(w, rows)
    assert float(total) == np.sum(expected, dtype=np.float64)


def test_the_wrong_version_is_refused_on_a_cpu_in_one_line(monkeypatch):
    monkeypatch.setattr(jax, "__version__", WRONG_VERSION)
    with pytest.raises(RuntimeError, match=r"^JAX 0\.10\.2 .* on a CPU .*pip install \"jax!=0\.10\.2\"$") as error:
        check_compiler()
    assert "\n" not in str(error.value)


def test_the_wrong_version_is_accepted_on_an_accelerator(monkeypatch):
    monkeypatch.setattr(jax, "__version__", WRONG_VERSION)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    check_compiler()


@pytest.mark.parametrize("version", ["0.10.0", "0.10.1", "0.10.20", "0.11.0", "0.12.0.1"])
def test_other_versions_are_accepted_and_no_backend_is_started(monkeypatch, version):
    monkeypatch.setattr(jax, "__version__", version)
    monkeypatch.setattr(jax, "default_backend", lambda: pytest.fail("the backend was started"))
    check_compiler()


def test_the_installed_version_is_a_right_one():
    check_compiler()
