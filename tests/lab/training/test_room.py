"""Whether a run fits into memory: parameters are counted as they are made, and the estimate names what is too large."""

import jax
import pytest

from mutagrad.lab.tasks.data import load
from mutagrad.lab.training import room
from mutagrad.lab.training.options import TrainConfig
from mutagrad.lab.training.problem import _model
from mutagrad.lab.training.room import Shapes, check_offspring, check_room, num_parameters

pytestmark = pytest.mark.permissive  # the networks have JAX's default promotion


@pytest.mark.parametrize(
    "settings",
    [
        {"widths": ()},
        {"widths": (3,)},
        {"widths": (7, 5, 2)},
        {"model": "convnet"},
        {"model": "convnet", "num_maps": 5, "num_linear": 3},
    ],
)
def test_parameters_are_counted_as_they_are_made(settings):
    data, config = load("digits"), TrainConfig(**settings)
    made = jax.eval_shape(lambda key: jax.tree.leaves(_model(config, data, key)), jax.random.key(0))
    assert num_parameters(config, (8, 8), 10) == sum(leaf.size for leaf in made)


def test_what_is_too_large_is_named(monkeypatch):
    monkeypatch.setattr(room, "available", lambda: 1e9)
    small = Shapes((64,), 10, 1437, 360, 1437)
    check_room(TrainConfig(), small)
    for config, shapes, words in (
        (
            TrainConfig(),
            small._replace(batch_size=10**8),
            "batch_size: got 100000000; 2,410 parameters and",
        ),
        (TrainConfig(widths=(10**6,)), small, "widths: got (1000000,); 75,000,010 parameters"),
        (TrainConfig(model="convnet", num_maps=10**4), small._replace(example=(8, 8)), "num_maps: got 10000"),
        (TrainConfig(algorithm="truncation", widths=(10**5,), num_parents=20), small, "widths: got (100000,)"),
    ):
        with pytest.raises(ValueError, match="of memory where 1 GB are free; pass less") as caught:
            check_room(config, shapes)
        assert str(caught.value).startswith(words)
        assert "\n" not in str(caught.value)
    check_offspring(TrainConfig(num_offspring=10**6))
    for config in (
        TrainConfig(num_offspring=10**8),
        TrainConfig(num_offspring=10**4, algorithm="weighted_recombination"),
    ):
        with pytest.raises(ValueError, match="num_offspring: got"):
            check_offspring(config)


def test_there_is_memory_to_speak_of():
    assert 1e8 < room.available() < 1e16
