"""What a training run is made of: settings in, task, algorithm and batches out."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import mutagrad
from mutagrad import check
from mutagrad.lab.tasks.convnet import ConvNet
from mutagrad.lab.tasks.dataset import Dataset
from mutagrad.lab.tasks.inputs import Inputs, principal_components, standardized, unchanged
from mutagrad.lab.tasks.models import MLP, GroupedMLP, lecun
from mutagrad.lab.tasks.regularization import check_rate
from mutagrad.lab.tasks.task import Task, make_task
from mutagrad.lab.training.algorithm import (
    FULL_BATCH,
    definition_of,
    make_algorithm,
    num_turn_generations,
    num_unit_groups,
)
from mutagrad.lab.training.options import ALGORITHMS, INITIAL, LARGEST, MASKS, MODELS, OF_CONVNET, TrainConfig
from mutagrad.lab.training.room import Shapes, check_offspring, check_room
from mutagrad.types import Algorithm, Definition

__all__ = ["Problem", "check_settings", "set_up"]

_CONVNET_SIZES = (512, 2048, 8192)
"""Of more examples, the convnet's batches have one of these sizes."""
_SIGNAL = 0.3
"""The share of signal to hold. A generation gains in proportion to B/(B + TrC/|∇U|²), so an example the more, the smaller the
batch; at this share 1.4 times the examples are spent that the smallest batches would need, at ½ twice as many."""
_MOST_DRAWN = 0.2
"""In turns of several generations batches double up to this share of the examples; after that they are all of them. All
together have no sampling noise, and take 0.6 to 0.7 of the time of as many that are drawn (measured
on 2026-11-23, when resting groups were computed once a turn; not measured since)."""
_DEFAULT_BATCH = {"mlp": 16_384, "convnet": 512}
"""And of one size where one offspring, or several parents, do not tell how much of the slope is signal."""
_DEFAULT_COMPONENTS = 40
_LONG_INPUT = 100


class Problem(NamedTuple):
    """What the settings describe for given data: all that a run needs; see `set_up`.

    Attributes
    ----------
    task : data as the network sees them, the start, the loss and how to measure.
    inputs : how its inputs were made.
    key : of the run.
    algorithm : with its state's type. definition : of it, or of one turn where parts of the network take turns.
    state : the algorithm's first state, of arrays of its own that a run may consume.
    batches : the training examples of a generation, of one of ``batches.sizes``.
    """

    task: Task
    inputs: Inputs
    key: jax.Array
    algorithm: Algorithm
    definition: Definition
    state: Any
    batches: mutagrad.Minibatches


def set_up(config: TrainConfig, data: Dataset, kept: dict[str, np.ndarray] | None = None) -> Problem:
    """The task, the algorithm and the batches that the settings describe.

    Parameters
    ----------
    config : see `TrainConfig`.
    data : inputs of any shape for an MLP, images (height, width) for the convnet.
    kept : what made the inputs in an earlier sitting, as `run_folder.read_inputs` has it. Principal components are taken from
        there: on another kind of CPU they would differ in their last digits.

    Raises
    ------
    ValueError : if the settings do not fit the data or each other, or ask for more memory than there is.

    >>> from mutagrad.lab.tasks.data import load
    >>> from mutagrad.lab.training.options import TrainConfig
    >>> from mutagrad.lab.training.problem import set_up
    >>> problem = set_up(TrainConfig(sigma=0.01), load("digits"))
    >>> problem.batches.sizes, problem.inputs.words
    ((1437,), '64 as they are')
    """
    inputs = _inputs(config, data, kept or {})
    _check_room(config, inputs.data)
    model_key, run_key = jax.random.split(jax.random.key(config.seed))
    task = make_task(inputs.data, _model(config, inputs.data, model_key))
    if config.initial == "lecun":
        task = task._replace(start=lecun(task.start))
    algorithm, definition = make_algorithm(config, task.start), definition_of(config)
    data = task.data
    batches = mutagrad.minibatches((data.train_inputs, data.train_targets), _batch_size(config, data, definition))
    if isinstance(batches.batch_size, tuple):
        algorithm = mutagrad.adapt_batch_size(algorithm, batches, _SIGNAL)
    state = jax.tree.map(jnp.copy, algorithm.init(task.start))
    return Problem(task, inputs, run_key, algorithm, definition, state, batches)


def _inputs(config: TrainConfig, data: Dataset, kept: dict[str, np.ndarray]) -> Inputs:
    """The inputs that the settings ask for."""
    components, size = config.components, math.prod(data.train_inputs.shape[1:])
    if components is None:
        components = _DEFAULT_COMPONENTS if config.model == "mlp" and size > _LONG_INPUT else 0
        components = 0 if config.standardize else min(components, len(data.train_inputs) - 1)
    if components:
        if config.standardize:
            raise ValueError(
                f"components: got {components} with standardised inputs; pass --no-standardize or 0 components"
            )
        kinds = {name: (array.dtype.name, array.shape) for name, array in kept.items()}
        if kinds == {"mean": ("float32", (size,)), "directions": ("float32", (size, components))}:
            return _projected(data, kept)
        return principal_components(data, components)
    # The digits come with all inputs between −1 and 1; standardised, their rare pixels are blown up and learnt by heart.
    is_standardized = (
        config.model == "mlp" and config.data != "digits" if config.standardize is None else config.standardize
    )
    return standardized(data) if is_standardized else unchanged(data)


def _projected(data: Dataset, kept: dict[str, np.ndarray]) -> Inputs:
    """The inputs in principal components that are known; see `principal_components`."""
    size, number = kept["directions"].shape
    changed = {
        name: (getattr(data, name).reshape(-1, size) - kept["mean"]) @ kept["directions"]
        for name in ("train_inputs", "test_inputs")
    }
    return Inputs(data._replace(**changed), kept, f"{number} principal components of {size}")


def _check_room(config: TrainConfig, data: Dataset) -> None:
    """Refuse what does not fit into memory."""
    shape, numbers = data.train_inputs.shape[1:], (len(data.train_inputs), len(data.test_inputs))
    if config.model != "mlp":
        _check_images(shape)
    # Where batches have several sizes all of the examples may be one.
    batch_size = config.batch_size or numbers[0]
    check_room(config, Shapes(shape, data.num_outputs, *numbers, batch_size))


def _check_images(shape: tuple[int, ...]) -> None:
    if len(shape) != 2:
        raise ValueError(f"model: got 'convnet' for examples of shape {shape}; pass 'mlp', or images (height, width)")


def _model(config: TrainConfig, data: Dataset, key: jax.Array) -> Any:
    """The network that the settings describe, for the shape of these data."""
    shape = data.train_inputs.shape[1:]
    if config.model == "mlp":
        widths = tuple(check.count("widths", width) for width in config.widths)
        groups = num_unit_groups(config, len(data.train_targets))
        if groups > 1:
            return GroupedMLP(key, math.prod(shape), widths[0], data.num_outputs, groups)
        return MLP(key, math.prod(shape), widths, data.num_outputs)
    _check_images(shape)
    of_convnet = {name: getattr(config, name) for name in OF_CONVNET if name != "masks"}
    return ConvNet(key, image_shape=shape, num_outputs=data.num_outputs, **of_convnet)


def _batch_size(config: TrainConfig, data: Dataset, definition: Definition) -> int | tuple[int | None, ...] | None:
    """Of a batch, or several to choose among."""
    number = len(data.train_targets)
    if config.batch_size is not None or number <= FULL_BATCH:
        return config.batch_size
    if definition.num_offspring == 1 or definition.selection.num_parents > 1:
        return min(_DEFAULT_BATCH[config.model], number)
    if config.model == "convnet":
        smaller = tuple(size for size in _CONVNET_SIZES if size < number)
        return smaller if smaller == _CONVNET_SIZES else (*smaller, None)
    has_long_turns = num_unit_groups(config, number) > 1 and num_turn_generations(config) > 1
    largest = max(FULL_BATCH, _MOST_DRAWN * number if has_long_turns else number - 1)
    doublings = int(math.log2(largest / FULL_BATCH))
    return (*(FULL_BATCH << power for power in range(doublings + 1)), None)


def check_settings(config: TrainConfig) -> None:
    """Refuse what can be refused before the data are read, in one line that names the setting.

    Raises
    ------
    ValueError : if a setting is out of its domain, whether or not the algorithm has a use for it.
    """
    for field in dataclasses.fields(config):
        numbers = getattr(config, field.name)
        for value in numbers if isinstance(numbers, tuple) else (numbers,):
            if isinstance(value, int) and field.name != "seed" and abs(value) > LARGEST:
                raise ValueError(f"{field.name}: got {value}; pass a whole number up to {LARGEST:,}")
    check.choice("initial", config.initial, INITIAL)
    check.choice("model", config.model, MODELS)
    check.choice("masks", config.masks, MASKS)
    for name in ("input_dropout", "dropout"):
        check_rate(name, getattr(config, name))
    check.count("num_maps", config.num_maps, 2)
    check.count("num_linear", config.num_linear)
    for name in OF_CONVNET if config.model != "convnet" else ():
        value, default = getattr(config, name), getattr(TrainConfig, name)
        if value != default:
            raise ValueError(f"{name}: got {value} for an {config.model}; pass {default}, or --model convnet")
    for width in config.widths:
        check.count("widths", width)
    for name in ("num_parents", "population_size", "shared_generations"):
        check.count(name, getattr(config, name))
    check.inverse_temperature(config.beta)
    if config.shared_layers is not None:
        check.count("shared_layers", config.shared_layers, 0)
    for name in ("generations", "batch_size"):
        if (value := getattr(config, name)) is not None:
            check.count(name, value)
    if config.components is not None:
        check.count("components", config.components, 0)
    if config.unit_groups is not None and check.count("unit_groups", config.unit_groups) > 1:
        has_one_layer = config.model == "mlp" and len(config.widths) == 1
        if not has_one_layer or config.shared_layers:
            raise ValueError(
                f"unit_groups: got {config.unit_groups}; pass 1, or an mlp of one hidden layer without shared layers"
            )
    num_turn_generations(config)
    if config.seconds is not None:
        check.positive("seconds", config.seconds)
    if config.target is not None and not 0 < config.target <= 1:
        raise ValueError(f"target: got {config.target}; pass a share above 0 and up to 1")
    if not 0 <= config.seed < 2**32:
        raise ValueError(f"seed: got {config.seed}; pass a whole number from 0 to 2³² − 1")
    if config.resume and config.out is None:
        raise ValueError("out: got none with --resume; pass the folder of the run to go on with")
    check.choice("algorithm", config.algorithm, ALGORITHMS)
    check_offspring(config)
    definition_of(config)
