"""Whether a run fits into memory: an estimate from below, made before any is taken."""

import itertools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mutagrad import check
from mutagrad.evaluation.local import VECTORIZED_ON_CPU
from mutagrad.lab.tasks.memory import of_host, words_of
from mutagrad.lab.training.options import TrainConfig

__all__ = ["Shapes", "available", "check_offspring", "check_room", "num_parameters"]

_COPIES = 4
"""Of the parameters in a generation: the parent before and after it, a mutation and an offspring."""
_PER_OFFSPRING = 40
"""Bytes of an offspring's losses, their differences and variances, ranks and weights; 76 were measured with all else."""
_PER_PAIR = 6000
"""Bytes that the law of weighted recombination takes for each pair of ranks: 5.9 GB were measured of 1000 offspring."""
_MEASURED_AT_ONCE = 10_000
_KERNELS = (25, 25, 9, 9)


class Shapes(NamedTuple):
    """What memory depends on beside the settings.

    Attributes
    ----------
    example : shape of an input. num_outputs : of the network. num_train, num_test : examples. batch_size : the largest.
    """

    example: tuple[int, ...]
    num_outputs: int
    num_train: int
    num_test: int
    batch_size: int


def num_parameters(config: TrainConfig, example: tuple[int, ...], num_outputs: int) -> int:
    """Parameters of the network that the settings describe, counted and not made.

    >>> from mutagrad.lab.training.options import TrainConfig
    >>> from mutagrad.lab.training.room import num_parameters
    >>> num_parameters(TrainConfig(model="convnet"), (28, 28), 10), num_parameters(TrainConfig(), (64,), 10)
    (9854, 2410)
    """
    if config.model == "mlp":
        sizes = [math.prod(example), *config.widths, num_outputs]
        return sum((a + 1) * b for a, b in itertools.pairwise(sizes))
    maps = [1, config.num_maps, 2 * config.num_maps, config.num_maps, config.num_maps // 2]
    convolutions = sum((a * k + 1) * b for (a, b), k in zip(itertools.pairwise(maps), _KERNELS, strict=True))
    features = maps[-1] * (example[0] // 4) * (example[1] // 4)
    return convolutions + (features + 1) * config.num_linear + (config.num_linear + 1) * num_outputs


def check_offspring(config: TrainConfig) -> None:
    """Refuse more offspring than memory holds numbers of.

    Raises
    ------
    ValueError : in one line, with the estimate.
    """
    number = check.count("num_offspring", config.num_offspring)
    per_pair = _PER_PAIR if config.algorithm == "weighted_recombination" else 0
    _compare("num_offspring", number, number * _PER_OFFSPRING + number**2 * per_pair, f"{number:,} offspring")


def check_room(config: TrainConfig, shapes: Shapes) -> None:
    """Refuse a network, a batch or a population for which there is not enough memory.

    The estimate is from below: what fits is never refused, and what needs little more than there is may be let in.

    Raises
    ------
    ValueError : in one line, with the estimate.
    """
    item = jnp.result_type(float).itemsize
    size = num_parameters(config, shapes.example, shapes.num_outputs)
    several = 2 * config.num_parents if config.algorithm == "truncation" else 0
    network = item * size * (_COPIES + several)
    inputs = math.prod(shapes.example)
    widest = max((*config.widths, shapes.num_outputs)) if config.model == "mlp" else shapes.num_outputs
    measured = max(min(shapes.num_train, _MEASURED_AT_ONCE), min(shapes.num_test, _MEASURED_AT_ONCE))
    number = config.num_offspring
    takes_turns = config.model == "convnet" or config.shared_layers or (config.unit_groups or 2) > 1
    at_once = 1
    if not takes_turns and (jax.default_backend() != "cpu" or number * size <= VECTORIZED_ON_CPU):
        at_once = number
    examples = item * max(shapes.batch_size * (inputs + at_once * widest), measured * widest)
    name = "widths" if config.model == "mlp" else "num_maps"
    # Of the larger part, the setting that makes it large.
    if network < examples and shapes.batch_size > max(widest, shapes.num_train):
        name = "batch_size"
    words = f"{size:,} parameters and batches of {shapes.batch_size:,} examples"
    _compare(name, shapes.batch_size if name == "batch_size" else getattr(config, name), network + examples, words)


def _compare(name: str, value: object, needed: int, words: str) -> None:
    there = available()
    if needed > there:
        raise ValueError(
            f"{name}: got {value}; {words} need about {words_of(needed)} of memory where {words_of(there)} are free; pass less"
        )


def available() -> float:
    """Bytes of memory that are free: of the accelerator where there is one, or what the system, or its limits, leave."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        told = device.memory_stats() or {}
        return told["bytes_limit"] - told.get("bytes_in_use", 0) if "bytes_limit" in told else math.inf
    return of_host()
