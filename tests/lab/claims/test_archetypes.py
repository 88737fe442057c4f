"""What the claims about the archetypes of Kucharavy et al. 2023 measure, against the library's own measures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mutagrad.diagnostics.landscape import flatness
from mutagrad.lab.claims.kucharavy2023 import archetypes, robustness
from mutagrad.lab.claims.kucharavy2023.archetypes import SIX, Network, of_structure
from mutagrad.lab.claims.kucharavy2023.flatness import parabola, profiles
from mutagrad.lab.tasks.convnet import ConvNet
from mutagrad.lab.tasks.dataset import Dataset
from mutagrad.lab.tasks.losses import cross_entropy
from mutagrad.lab.tasks.task import make_task

pytestmark = pytest.mark.permissive


@pytest.fixture(scope="module")
def network():
    """A narrow network at its start, with forty images of noise."""
    images = jax.random.normal(jax.random.key(1), (40, 28, 28))
    targets = np.arange(40, dtype=np.int32) % 10
    data = Dataset(np.asarray(images), targets, np.asarray(images), targets, tuple(range(10)), "noise")
    model = ConvNet(jax.random.key(0), num_maps=4, num_linear=12, spectral_normalization=True)
    task = make_task(data, model)
    return Network("Plain Narrow", 0, jax.random.key(2), task, task.start, task.start)


def test_profiles_are_those_of_flatness(network):
    found = profiles(network, network.whole, (0.5, 1.0), 2, 20)
    plain = of_structure(network.archetype, network.whole.normalized(), is_normalized=False)
    data = network.task.data
    shown = data.train_targets < 8
    batch = (jnp.asarray(data.train_inputs[shown][:20]), jnp.asarray(data.train_targets[shown][:20]))
    same = flatness(
        network.key,
        lambda params, batch: cross_entropy(params(batch[0]), batch[1]),
        plain,
        num_directions=2,
        num_points=5,
        batch=batch,
    )
    assert found.loss == pytest.approx(same.loss, rel=1e-5)
    sides = np.stack([same.changes[:, [1, 0]], same.changes[:, [3, 4]]], axis=1)
    np.testing.assert_allclose(found.changes, sides, rtol=2e-3, atol=1e-6)


def test_rise_of_a_parabola():
    # U = 3t²: its slope at 0.1 is 0.6, and its second derivative is 6.
    assert parabola(0.1, 0.6) == pytest.approx(0.03)
    assert parabola(0.1, 0.1 * 6) == pytest.approx(0.03)


def test_corruption_is_the_dropout_of_training(network):
    own = SIX["Robust Narrow"]
    robust = ConvNet(jax.random.key(0), num_maps=4, num_linear=12, input_dropout=0.25, dropout=0.25)
    images = jnp.asarray(network.task.data.test_inputs)
    plain = of_structure(own, robust, is_normalized=False, rate=0.25)
    np.testing.assert_array_equal(plain(images, jax.random.key(3)), robust(images, jax.random.key(3)))
    assert robustness.kept("Brittle Wide", 0.5) == pytest.approx(25.8 / 78.3)


def test_hidden_digits_count_for_nothing():
    hidden = archetypes.hide(np.arange(10, dtype=np.int32))
    assert hidden.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, -1, -1]
    assert hidden.dtype == np.int32
