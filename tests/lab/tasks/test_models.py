"""Networks that are fast in their own ways are the plain networks, and a task measures what it says."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mutagrad.lab.tasks.convnet import jax_convolution, patch_convolution
from mutagrad.lab.tasks.dataset import Dataset
from mutagrad.lab.tasks.models import MLP, GroupedMLP
from mutagrad.lab.tasks.task import make_task

pytestmark = pytest.mark.permissive  # the networks have JAX's default promotion


def test_patch_convolution_is_the_convolution():
    keys = jax.random.split(jax.random.key(0))
    values = jax.random.normal(keys[0], (3, 8, 12, 5))
    weight = jax.random.normal(keys[1], (4, 3, 5, 5))
    for pool in (False, True):
        expected = jax_convolution(weight, values, pool)
        np.testing.assert_allclose(patch_convolution(weight, values, pool), expected, rtol=1e-4, atol=1e-4)


def test_groups_of_hidden_units_are_the_layer_that_they_make_up():
    """The logits of an MLP with the same units, however often the groups are turned round; the start has its variance."""
    grouped = GroupedMLP(jax.random.key(0), 300, 600, 10, number=6)
    whole = MLP(jax.random.key(1), 300, (600,), 10)
    layers = [group.layers for group in grouped.groups]
    joined = eqx.tree_at(
        lambda model: [leaf for layer in model.layers for leaf in (layer.weight, layer.bias)],
        whole,
        [
            jnp.concatenate([first.weight for first, _ in layers]),
            jnp.concatenate([first.bias for first, _ in layers]),
            jnp.concatenate([second.weight for _, second in layers], axis=1),
            sum(second.bias for _, second in layers),
        ],
    )
    inputs = jax.random.normal(jax.random.key(2), (20, 300))
    for turned in (grouped, grouped.rotated(), grouped.rotated().rotated()):
        np.testing.assert_allclose(turned(inputs), joined(inputs), rtol=1e-4, atol=1e-5)
    assert not np.array_equal(grouped.groups[0].layers[0].weight, grouped.rotated().groups[0].layers[0].weight)
    # Variances of 3000 weights or more, each within 5 errors of a uniform one's √(4/5n).
    for position in (0, 1):
        found, wanted = (float(jnp.var(model.layers[position].weight)) for model in (joined, whole))
        size = whole.layers[position].weight.size
        assert abs(found / wanted - 1) < 5 * (2 * 0.8 / size) ** 0.5


def test_a_task_of_regression_measures_in_the_unit_of_the_target():
    """Against NumPy: R², the root mean square error, and the squared errors of targets of mean 0 and deviation 1."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(50, 3)).astype(np.float32)
    targets = 1e6 + 5 * inputs @ [1.0, 2.0, 3.0] + rng.normal(size=50)
    data = Dataset(inputs[:30], targets[:30], inputs[30:], targets[30:], None, "line")
    model = MLP(jax.random.key(0), 3, (), 1)
    task = make_task(data, model)
    mean, deviation = targets[:30].mean(), targets[:30].std()
    assert task.unit == pytest.approx(deviation)
    assert (task.score_name, task.data.train_targets.dtype) == ("r2", np.float32)
    np.testing.assert_allclose(task.data.test_targets, (targets[30:] - mean) / deviation, rtol=1e-4, atol=1e-5)
    predicted = mean + deviation * np.asarray(model(inputs[30:]), float)[:, 0]
    residual = np.sum((predicted - targets[30:]) ** 2)
    found = task.measure_fn(task.start, task.data.test_inputs, task.data.test_targets)
    assert found.score == pytest.approx(1 - residual / np.sum((targets[30:] - targets[30:].mean()) ** 2), rel=1e-4)
    assert found.loss == pytest.approx((residual / 20) ** 0.5, rel=1e-4)
    losses = task.loss_fn(task.start, (task.data.test_inputs, task.data.test_targets))
    np.testing.assert_allclose(losses, (predicted - targets[30:]) ** 2 / deviation**2, rtol=1e-3, atol=1e-4)


def test_many_examples_are_measured_in_parts():
    """More than are measured at once, the last part shorter: as if they were all measured together."""
    inputs = np.random.default_rng(1).normal(size=(20_005, 2)).astype(np.float32)
    labels = (inputs[:, 0] > 0).astype(np.int32)
    model = MLP(jax.random.key(1), 2, (), 2)
    task = make_task(Dataset(inputs, labels, inputs, labels, (0, 1), "plane"), model)
    found, outputs = task.measure_fn(task.start, inputs, labels), np.asarray(model(inputs), float)
    assert found.score == np.mean(outputs.argmax(axis=1) == labels)
    chosen = np.take_along_axis(outputs, labels[:, None], axis=1)[:, 0]
    assert found.loss == pytest.approx(np.mean(np.logaddexp(*outputs.T) - chosen), rel=1e-5)
