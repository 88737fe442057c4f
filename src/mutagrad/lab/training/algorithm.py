"""The algorithm that the settings of a run describe, and which parts of a network take turns."""

from typing import Any

import equinox as eqx
import jax

import mutagrad
from mutagrad import check
from mutagrad.lab.tasks.models import GroupedMLP
from mutagrad.lab.training.dropout import separate_dropout, shared_dropout
from mutagrad.lab.training.options import ALGORITHMS, TrainConfig
from mutagrad.types import Algorithm, Definition

__all__ = [
    "definition_of",
    "make_algorithm",
    "num_shared_layers",
    "num_turn_generations",
    "num_unit_groups",
    "one_turn",
]

FULL_BATCH = 4096
"""Data of up to this many examples are used whole each generation, unless told otherwise."""
_FIRST_SIGMA = 0.01
_GROUP = 16
"""Hidden units in a group: with fewer, most of the time goes into what an offspring does not share, its cross-entropy."""
_TURN = 4
"""Generations of a group's turn: fewer than the 9 to 12 of (1+8) that are worth a step of gradient descent. A generation that
recombines is worth most of such a step by itself."""


def make_algorithm(config: TrainConfig, params: Any) -> Algorithm:
    """The algorithm that the settings describe for a network, σ controlled if it is "auto"."""
    if isinstance(params, GroupedMLP):
        mask = jax.tree.map(lambda _: False, params)
        mask = eqx.tree_at(lambda model: model.groups[0], mask, jax.tree.map(lambda _: True, params.groups[0]))
        first = _algorithm(config, {"mutation": mutagrad.mutation.masked(mask), "evaluation": "mapped"})
        return mutagrad.rotate(first, GroupedMLP.rotated, len(params.groups), num_turn_generations(config))
    shared = num_shared_layers(config)
    if shared == 0:
        return _algorithm(config, {})
    leaves, structure = jax.tree.flatten(params)
    num_layers = len(leaves) // 2  # a weight and a bias each
    if not 0 < shared < num_layers:
        raise ValueError(f"shared_layers: got {shared} of {num_layers} layers; pass 0 to {num_layers - 1}")
    is_early = [position // 2 < shared for position in range(len(leaves))]
    early = mutagrad.mutation.masked(jax.tree.unflatten(structure, is_early))
    late = mutagrad.mutation.masked(jax.tree.unflatten(structure, [not one for one in is_early]))
    turns = [
        _algorithm(config, {"mutation": late, "evaluation": "vectorized"}),
        _algorithm(config, {"mutation": early}),
    ]
    return mutagrad.alternate(turns, [check.count("shared_generations", config.shared_generations), 1])


def one_turn(config: TrainConfig) -> Algorithm:
    """The algorithm without turns: where parts of the network take turns, each of them is mutated by one like it."""
    return _algorithm(config, {})


def definition_of(config: TrainConfig) -> Definition:
    """What the algorithm is assembled from; where parts of the network take turns, that of one turn."""
    definition = one_turn(config).definition
    assert isinstance(definition, Definition)
    return definition


def num_shared_layers(config: TrainConfig) -> int:
    """How many first layers are mutated in turns with the others; 0 for none."""
    if config.shared_layers is not None:
        return config.shared_layers
    return 2 if config.model == "convnet" and config.algorithm != "truncation" else 0


def num_unit_groups(config: TrainConfig, num_examples: int) -> int:
    """In how many groups the hidden units take turns; 1 for all at once."""
    if config.unit_groups is not None:
        return config.unit_groups
    takes_turns = config.model == "mlp" and len(config.widths) == 1 and not config.shared_layers
    definition = definition_of(config)
    has_one = definition.num_offspring == 1 or definition.selection.num_parents > 1
    if not takes_turns or num_examples <= FULL_BATCH or has_one or config.widths[0] % _GROUP:
        return 1
    return config.widths[0] // _GROUP


def num_turn_generations(config: TrainConfig) -> int:
    """How many generations a group of hidden units has in a turn."""
    if config.turn_generations is not None:
        return check.count("turn_generations", config.turn_generations)
    return 1 if config.algorithm == "weighted_recombination" else _TURN


_OF_ONE = ("greedy", "metropolis", "logistic", "fixation")
"""Algorithms whose generation has one offspring."""


def _algorithm(config: TrainConfig, options: dict[str, Any]) -> Algorithm:
    check.choice("algorithm", config.algorithm, ALGORITHMS)
    is_auto = config.sigma == "auto"
    if not is_auto and isinstance(config.sigma, str):
        raise ValueError(f"sigma: got {config.sigma!r}; pass 'auto' or a positive number")
    sigma = _FIRST_SIGMA if is_auto else config.sigma
    beta, num_offspring = config.beta, config.num_offspring
    if config.algorithm in _OF_ONE and num_offspring not in (1, type(config)().num_offspring):
        raise ValueError(
            f"num_offspring: got {num_offspring} with {config.algorithm}, which judges one offspring; leave it out, or pass "
            "elitist, comma or boltzmann"
        )
    factories = {
        "elitist": lambda: mutagrad.elitist(sigma, num_offspring, **options),
        "comma": lambda: mutagrad.comma(sigma, num_offspring, **options),
        "greedy": lambda: mutagrad.greedy(sigma, **options),
        "metropolis": lambda: mutagrad.metropolis(sigma, beta, **options),
        "logistic": lambda: mutagrad.logistic(sigma, beta, **options),
        "boltzmann": lambda: mutagrad.boltzmann(sigma, beta, num_offspring, **options),
        "fixation": lambda: mutagrad.fixation(sigma, beta, config.population_size, **options),
        "truncation": lambda: mutagrad.truncation(sigma, num_offspring, config.num_parents, **options),
        "weighted_recombination": lambda: mutagrad.weighted_recombination(sigma, num_offspring, **options),
    }
    algorithm = factories[config.algorithm]()
    algorithm = mutagrad.adapt_sigma(algorithm) if is_auto else algorithm
    if not (config.input_dropout or config.dropout):
        return algorithm
    return shared_dropout(algorithm) if config.masks == "shared" else separate_dropout(algorithm)
