"""What a training run is made of: settings in, network, algorithm, loss and batches out."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import mutagrad
from mutagrad import check
from mutagrad.lab.tasks.data import Dataset, principal_components
from mutagrad.lab.tasks.models import MLP, ConvNet, GroupedMLP, cross_entropy, lecun
from mutagrad.types import Algorithm

__all__ = ["ALGORITHMS", "MODELS", "Problem", "TrainConfig", "set_up"]

ALGORITHMS = (
    *("elitist", "comma", "greedy", "metropolis", "logistic", "boltzmann", "fixation", "truncation"),
    "weighted_recombination",
)
MODELS = ("mlp", "convnet")
INITIAL = ("lecun", "pytorch")

_FULL_BATCH = 4096
"""Data of up to this many examples are used whole each generation, unless told otherwise."""
_CONVNET_SIZES = (512, 2048, 8192)
"""Of more examples, the convnet's batches have one of these sizes."""
_SIGNAL = 0.3
"""The share of signal to hold. A generation gains in proportion to B/(B + TrC/|∇U|²), so an example the more, the smaller the
batch; at this share 1.4 times the examples are spent that the smallest batches would need, at ½ twice as many."""
_MOST_DRAWN = 0.2
"""In turns of several generations batches double up to this share of the examples; after that they are all of them. All
together have no sampling noise, and take 0.6 to 0.7 of the time of as many that are drawn (benchmarks/results/turns.md): where
the share of signal is 0.3, a second buys as much with them as with batches of 0.3 · 0.65 of them."""
_DEFAULT_BATCH = {"mlp": 16_384, "convnet": 512}
"""And of one size where one offspring, or several parents, do not tell how much of the slope is signal."""
_DEFAULT_COMPONENTS = 40
_LONG_INPUT = 100
_FIRST_SIGMA = 0.01
_GROUP = 16
"""Hidden units in a group: with fewer, most of the time goes into what an offspring does not share, its cross-entropy."""
_TURN = 4
"""Generations of a group's turn: as many share what the other groups compute, and fewer than the 9 to 12 of (1+8) that are worth
a step of gradient descent. A generation that recombines is worth most of such a step by itself."""
_AT_ONCE = 10_000
"""Accuracy is measured on so many examples at a time."""


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Settings of `mutagrad.lab.train.train`; those of the command line, with the same names and defaults.

    Attributes
    ----------
    data : "digits", "mnist" or the path of an .npz file. data_dir : where MNIST's files are.
    model : "mlp" or "convnet". widths : hidden units of the MLP, one number per layer. initial : "lecun" or "pytorch", the
        scale of the initial weights (see `mutagrad.lab.tasks.models.lecun`).
    algorithm : a named algorithm. sigma : "auto" or a number [parameter]. beta : inverse temperature, for the rules that
        have one [1/loss]. num_offspring : M. num_parents : for truncation. population_size : for fixation.
    shared_layers, shared_generations : so many first layers are mutated in turns with the others, one generation for so
        many of theirs, in which all offspring share what the first layers compute (`mutagrad.alternate`). ``None``: two
        layers of the convnet, which take nine tenths of its arithmetic, and none of the MLP.
    unit_groups : the hidden units of an MLP with one hidden layer in so many groups, which are mutated in turns and share what
        the others compute (`mutagrad.rotate`); 1 for all at once. ``None``: groups of 16, where they divide the layer and
        there are more than 4096 examples and several offspring of one parent. turn_generations : how many generations a
        group has in a turn. ``None``: 4, and 1 where offspring recombine.
    components : so many principal components of the training inputs, scaled, in place of the inputs
        (`mutagrad.lab.tasks.data.principal_components`); 0 leaves them as they are. ``None``: 40 for an MLP on inputs longer
        than 100.
    batch_size : examples per generation; ``None`` is all of them up to 4096; of more, a size that grows as sampling noise
        hides the slope (`mutagrad.adapt_batch_size`): from 512 to 8192 for the convnet, from 4096 to all for the MLP. Where
        groups have turns of several generations, all follow at once after a fifth of them.
    generations, seconds, target_accuracy : stop at whichever comes first; 2000 generations if none is given. The target
        is on the test set, from 0 to 1.
    seed : of initial weights, mutations and batches. out : the run folder. resume : go on with the run in ``out``.
    """

    data: str = "digits"
    data_dir: str | None = None
    model: str = "mlp"
    widths: tuple[int, ...] = (32,)
    initial: str = "lecun"
    algorithm: str = "elitist"
    sigma: str | float = "auto"
    beta: float = math.inf
    num_offspring: int = 20
    num_parents: int = 1
    population_size: int = 100
    shared_layers: int | None = None
    shared_generations: int = 9
    unit_groups: int | None = None
    turn_generations: int | None = None
    components: int | None = None
    batch_size: int | None = None
    generations: int | None = None
    seconds: float | None = None
    target_accuracy: float | None = None
    seed: int = 0
    out: str | None = None
    resume: bool = False


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
    parts = _algorithm(config, {}).definition
    if not takes_turns or num_examples <= _FULL_BATCH or parts.num_offspring == 1 or parts.selection.num_winners > 1:
        return 1
    return 1 if config.widths[0] % _GROUP else config.widths[0] // _GROUP


def num_turn_generations(config: TrainConfig) -> int:
    """How many generations a group of hidden units has in a turn."""
    if config.turn_generations is not None:
        return check.count("turn_generations", config.turn_generations)
    return 1 if config.algorithm == "weighted_recombination" else _TURN


def _algorithm(config: TrainConfig, options: dict[str, Any]) -> Algorithm:
    check.choice("algorithm", config.algorithm, ALGORITHMS)
    is_auto = config.sigma == "auto"
    if not is_auto and isinstance(config.sigma, str):
        raise ValueError(f"sigma: got {config.sigma!r}; pass 'auto' or a positive number")
    sigma = _FIRST_SIGMA if is_auto else config.sigma
    beta, num_offspring = config.beta, config.num_offspring
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
    return mutagrad.adapt_sigma(algorithm) if is_auto else algorithm


def make_model(config: TrainConfig, data: Dataset, key: jax.Array) -> Any:
    """The network that the settings describe, for the shape of these data."""
    shape = data.train_inputs.shape[1:]
    if config.model == "mlp":
        widths = tuple(check.count("widths", width) for width in config.widths)
        groups = num_unit_groups(config, len(data.train_labels))
        if groups > 1:
            return GroupedMLP(key, math.prod(shape), widths[0], data.num_classes, groups)
        return MLP(key, math.prod(shape), widths, data.num_classes)
    if len(shape) != 2:
        raise ValueError(f"model: got 'convnet' for examples of shape {shape}; pass 'mlp', or images (height, width)")
    return ConvNet(key, image_shape=shape, num_classes=data.num_classes)


def check_settings(config: TrainConfig) -> None:
    """Refuse what can be refused before the data are read."""
    check.choice("initial", config.initial, INITIAL)
    check.choice("model", config.model, MODELS)
    if config.generations is not None:
        check.count("generations", config.generations)
    if config.components:
        check.count("components", config.components)
    if config.unit_groups is not None and check.count("unit_groups", config.unit_groups) > 1:
        has_one_layer = config.model == "mlp" and len(config.widths) == 1
        if not has_one_layer or config.shared_layers:
            raise ValueError(
                f"unit_groups: got {config.unit_groups}; pass 1, or an mlp of one hidden layer without shared layers"
            )
    num_turn_generations(config)
    if config.seconds is not None:
        check.positive("seconds", config.seconds)
    if config.batch_size is not None:
        check.count("batch_size", config.batch_size)
    if config.target_accuracy is not None and not 0 < config.target_accuracy <= 1:
        raise ValueError(f"target_accuracy: got {config.target_accuracy}; pass a share above 0 and up to 1")
    if not 0 <= config.seed < 2**32:
        raise ValueError(f"seed: got {config.seed}; pass a whole number from 0 to 2³² − 1")
    if config.resume and config.out is None:
        raise ValueError("out: got none with --resume; pass the folder of the run to go on with")
    _algorithm(config, {})


class Problem(NamedTuple):
    """What the settings describe for given data: all that a run needs; see `set_up`.

    Attributes
    ----------
    data : as the network sees them, in their principal components if there are any.
    components, transform : how many there are (0 for none), and the arrays that make them.
    key : of the run.
    algorithm, state : the algorithm and its first state, of arrays of its own that a run may consume.
    loss_fn : ``loss_fn(params, batch) -> (examples,)`` cross-entropies [nat].
    accuracy_fn : ``accuracy_fn(params, inputs, labels)``, the share of examples that are classified rightly.
    batches : the training examples of a generation, of one of ``batches.sizes``.
    """

    data: Dataset
    components: int
    transform: dict[str, np.ndarray] | None
    key: jax.Array
    algorithm: Algorithm
    state: Any
    loss_fn: Callable[[Any, tuple], jax.Array]
    accuracy_fn: Callable[[Any, np.ndarray, np.ndarray], float]
    batches: mutagrad.Minibatches


def set_up(config: TrainConfig, data: Dataset) -> Problem:
    """The network, its start, the algorithm, the loss and the batches that the settings describe.

    Parameters
    ----------
    config : see `TrainConfig`.
    data : images of any shape for an MLP, (height, width) for the convnet.

    Raises
    ------
    ValueError : if the settings do not fit the data or each other.

    >>> from mutagrad.lab.tasks.data import load
    >>> from mutagrad.lab.problem import TrainConfig, set_up
    >>> problem = set_up(TrainConfig(), load("digits"))
    >>> problem.batches.sizes, problem.components
    ((1437,), 0)
    """
    components = config.components
    if components is None:
        input_size = math.prod(data.train_inputs.shape[1:])
        components = _DEFAULT_COMPONENTS if config.model == "mlp" and input_size > _LONG_INPUT else 0
    transform = None
    if components:
        data, transform = principal_components(data, components)
    model_key, run_key = jax.random.split(jax.random.key(config.seed))
    params, static = eqx.partition(make_model(config, data, model_key), eqx.is_array)
    if config.initial == "lecun":
        params = lecun(params)
    algorithm = make_algorithm(config, params)

    def loss_fn(params, batch):
        inputs, labels = batch
        return cross_entropy(eqx.combine(params, static)(inputs), labels)

    batches = mutagrad.minibatches((data.train_inputs, data.train_labels), _batch_size(config, data, algorithm))
    if isinstance(batches.batch_size, tuple):
        algorithm = mutagrad.adapt_batch_size(algorithm, batches, _SIGNAL)
    return Problem(
        data=data,
        components=components,
        transform=transform,
        key=run_key,
        algorithm=algorithm,
        state=jax.tree.map(jnp.copy, algorithm.init(params)),
        loss_fn=loss_fn,
        accuracy_fn=_accuracy_fn(static),
        batches=batches,
    )


def _batch_size(config: TrainConfig, data: Dataset, algorithm: Algorithm) -> int | tuple[int | None, ...] | None:
    """Of a batch, or several to choose among."""
    number = len(data.train_labels)
    if config.batch_size is not None or number <= _FULL_BATCH:
        return config.batch_size
    if algorithm.definition.num_offspring == 1 or algorithm.definition.selection.num_winners > 1:
        return min(_DEFAULT_BATCH[config.model], number)
    if config.model == "convnet":
        smaller = tuple(size for size in _CONVNET_SIZES if size < number)
        return smaller if smaller == _CONVNET_SIZES else (*smaller, None)
    has_long_turns = num_unit_groups(config, number) > 1 and num_turn_generations(config) > 1
    largest = max(_FULL_BATCH, _MOST_DRAWN * number if has_long_turns else number - 1)
    doublings = int(math.log2(largest / _FULL_BATCH))
    return (*(_FULL_BATCH << power for power in range(doublings + 1)), None)


def _accuracy_fn(static: Any) -> Callable[[Any, np.ndarray, np.ndarray], float]:
    """Accuracy of the network with this structure, compiled once per number of examples and in parts if they are many."""

    @jax.jit
    def of_part(params, inputs, labels):
        return jnp.mean(jnp.argmax(eqx.combine(params, static)(inputs), axis=1) == labels)

    def accuracy(params, inputs, labels):
        parts = [slice(first, first + _AT_ONCE) for first in range(0, len(labels), _AT_ONCE)]
        return sum(float(of_part(params, inputs[p], labels[p])) * len(labels[p]) for p in parts) / len(labels)

    return accuracy
