"""What settings stand for: groups, batches and inputs by default."""

import numpy as np
import pytest

from mutagrad.lab.tasks.dataset import Dataset
from mutagrad.lab.training.algorithm import num_unit_groups
from mutagrad.lab.training.options import TrainConfig
from mutagrad.lab.training.problem import set_up

pytestmark = pytest.mark.permissive  # the networks have JAX's default promotion


def images(number, shape=(4, 4)):
    values = np.random.default_rng(0).normal(3, 2, (number, *shape)).astype(np.float32)
    labels = np.arange(number, dtype=np.int32) % 2
    return Dataset(values, labels, values[:4], labels[:4], (0, 1), "noise")


def test_groups_by_default_where_offspring_share_something():
    assert num_unit_groups(TrainConfig(widths=(128,)), 60_000) == 8
    for one in (
        TrainConfig(widths=(128,), num_offspring=1),
        TrainConfig(widths=(128,), algorithm="truncation", num_parents=2),
        TrainConfig(widths=(100,)),
        TrainConfig(widths=(64, 64)),
        TrainConfig(model="convnet"),
    ):
        assert num_unit_groups(one, 60_000) == 1
    assert num_unit_groups(TrainConfig(widths=(128,)), 1437) == 1


@pytest.mark.parametrize(
    ("number", "settings", "sizes"),
    [
        (1437, {}, (1437,)),
        (6000, {}, (4096, 6000)),
        (60_000, {}, (4096, 8192, 60_000)),
        (60_000, {"turn_generations": 1}, (4096, 8192, 16_384, 32_768, 60_000)),
        (60_000, {"algorithm": "weighted_recombination"}, (4096, 8192, 16_384, 32_768, 60_000)),
        (60_000, {"algorithm": "greedy"}, (16_384,)),
        (60_000, {"model": "convnet"}, (512, 2048, 8192)),
        (6000, {"model": "convnet"}, (512, 2048, 6000)),
    ],
)
def test_sizes_of_batches_by_default(number, settings, sizes):
    """Where turns are long, all the data are a batch after a fifth of them."""
    assert set_up(TrainConfig(**settings), images(number)).batches.sizes == sizes


@pytest.mark.parametrize(
    ("shape", "settings", "words"),
    [
        ((4, 4), {"data": "own.npz"}, "16 standardised to mean 0 and deviation 1"),
        ((4, 4), {"data": "digits"}, "16 as they are"),
        ((4, 4), {"standardize": False}, "16 as they are"),
        ((8, 16), {}, "40 principal components of 128"),
        ((8, 16), {"standardize": True}, "128 standardised to mean 0 and deviation 1"),
        ((8, 16), {"components": 3}, "3 principal components of 128"),
        ((8, 8), {"model": "convnet"}, "64 as they are"),
        ((8, 8), {"model": "convnet", "standardize": True}, "64 standardised to mean 0 and deviation 1"),
    ],
)
def test_inputs_by_default(shape, settings, words):
    data = images(60, shape)
    problem = set_up(TrainConfig(widths=(4,), **settings), data)
    assert problem.inputs.words == words
    same = problem.task.data.train_inputs is data.train_inputs
    assert same == (problem.inputs.arrays is None) == ("as they are" in words)


def test_components_and_standardised_inputs_exclude_each_other():
    with pytest.raises(ValueError, match="components: got 3 with standardised inputs; pass --no-standardize or 0"):
        set_up(TrainConfig(components=3, standardize=True), images(20))
