"""The main job: train a network on images by mutation and selection, and leave a run folder."""

import dataclasses
import math
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

import mutagrad
from mutagrad import check, checkpoint, tree
from mutagrad.lab import run_folder, summary
from mutagrad.lab.datasets import Dataset, load, principal_components
from mutagrad.lab.models import MLP, ConvNet, cross_entropy, lecun
from mutagrad.report.figures import training_figure
from mutagrad.run import generations, interruptible
from mutagrad.step_size import best_strength
from mutagrad.types import Algorithm

__all__ = ["ALGORITHMS", "MODELS", "TrainConfig", "train"]

ALGORITHMS = ("elitist", "comma", "greedy", "metropolis", "logistic", "boltzmann", "fixation", "truncation")
MODELS = ("mlp", "convnet")
INITIAL = ("lecun", "pytorch")

_FULL_BATCH = 4096
"""Data of up to this many examples are used whole each generation, unless told otherwise."""
_DEFAULT_BATCH = {"mlp": 16_384, "convnet": 512}
_DEFAULT_COMPONENTS = 40
_LONG_INPUT = 100
_DEFAULT_GENERATIONS = 2000
_FIRST_SIGMA = 0.01
_CHECKPOINT_SECONDS = 60.0
_MEASURING_SHARE = 0.1
"""Accuracy is measured as often as leaves it this share of the time, once a second at most."""
_TRAIN_SAMPLE = 10_000
"""Training accuracy is measured on so many examples while running, and on all of them at the end."""


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Settings of `train`; those of the command line, with the same names and defaults.

    Attributes
    ----------
    data : "digits", "mnist" or the path of an .npz file. data_dir : where MNIST's files are.
    model : "mlp" or "convnet". widths : hidden units of the MLP, one number per layer. initial : "lecun" or "pytorch", the
        scale of the initial weights (see `mutagrad.lab.models.lecun`).
    algorithm : a named algorithm. sigma : "auto" or a number [parameter]. beta : inverse temperature, for the rules that
        have one [1/loss]. num_offspring : M. num_parents : for truncation. population_size : for fixation.
    shared_layers, shared_generations : so many first layers are mutated in turns with the others, one generation for so
        many of theirs, in which all offspring share what the first layers compute (`mutagrad.alternate`). ``None``: two
        layers of the convnet, which take nine tenths of its arithmetic, and none of the MLP.
    components : so many principal components of the training inputs, of unit variance, in place of the inputs
        (`mutagrad.lab.datasets.principal_components`); 0 leaves them as they are. ``None``: 40 for an MLP on inputs longer
        than 100.
    batch_size : examples per generation; ``None`` is all of them up to 4096; of more, 16384 for the MLP and 512 for the
        convnet.
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
    components: int | None = None
    batch_size: int | None = None
    generations: int | None = None
    seconds: float | None = None
    target_accuracy: float | None = None
    seed: int = 0
    out: str | None = None
    resume: bool = False


_MAY_CHANGE = ("generations", "seconds", "target_accuracy", "resume", "out", "data_dir")
"""Settings that a resumed run may change."""


def make_algorithm(config: TrainConfig, params: Any) -> Algorithm:
    """The algorithm that the settings describe for a network, σ controlled if it is "auto"."""
    shared = _shared_layers(config)
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


def _shared_layers(config: TrainConfig) -> int:
    if config.shared_layers is not None:
        return config.shared_layers
    return 2 if config.model == "convnet" and config.algorithm != "truncation" else 0


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
    }
    algorithm = factories[config.algorithm]()
    return mutagrad.adapt_sigma(algorithm) if is_auto else algorithm


def make_model(config: TrainConfig, data: Dataset, key: jax.Array) -> Any:
    """The network that the settings describe, for the shape of these data."""
    shape = data.train_inputs.shape[1:]
    if config.model == "mlp":
        widths = tuple(check.count("widths", width) for width in config.widths)
        return MLP(key, math.prod(shape), widths, data.num_classes)
    if len(shape) != 2:
        raise ValueError(f"model: got 'convnet' for examples of shape {shape}; pass 'mlp', or images (height, width)")
    return ConvNet(key, image_shape=shape, num_classes=data.num_classes)


def _check(config: TrainConfig) -> None:
    check.choice("initial", config.initial, INITIAL)
    check.choice("model", config.model, MODELS)
    if config.generations is not None:
        check.count("generations", config.generations)
    if config.components:
        check.count("components", config.components)
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


class _Accuracy:
    """Accuracy on given examples, compiled once per number of examples."""

    def __init__(self, static: Any):
        def correct(params, inputs, labels):
            return jnp.mean(jnp.argmax(eqx.combine(params, static)(inputs), axis=1) == labels)

        self._compiled = jax.jit(correct)

    def __call__(self, params: Any, inputs: np.ndarray, labels: np.ndarray) -> float:
        return float(self._compiled(params, inputs, labels))


def train(config: TrainConfig, progress: bool = True) -> dict[str, Any]:
    """Train a network by mutation and selection, write a run folder, and say what happened.

    Parameters
    ----------
    config : see `TrainConfig`.
    progress : whether to show a progress bar.

    Returns
    -------
    dict : accuracies, generations, evaluations, seconds, why it stopped, and the regime (see `summary.regime`). With
    ``out`` the folder then holds config.json (settings, versions and this outcome), history.zarr, checkpoint (Orbax),
    params.safetensors, training.png and, where there are ``components``, inputs.safetensors, which makes them. Ctrl-C ends
    the run cleanly with all of that written.

    Raises
    ------
    ValueError, FileNotFoundError, FileExistsError, OSError : for arguments out of their domain, data that are missing or
        malformed, and a folder that exists or cannot be written; one line that names the argument.

    >>> from mutagrad.lab.train import TrainConfig, train
    >>> outcome = train(TrainConfig(generations=20), progress=False)
    >>> outcome["generations"], outcome["evaluations"]
    (20, 420)
    """
    _check(config)
    _algorithm(config, {})  # refuses bad arguments before the data are read
    data = load(config.data, config.data_dir)
    input_size = math.prod(data.train_inputs.shape[1:])
    components = config.components
    if components is None:
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

    num_examples = len(data.train_labels)
    batch_size = config.batch_size
    if batch_size is None and num_examples > _FULL_BATCH:
        batch_size = _DEFAULT_BATCH[config.model]
    batches = mutagrad.minibatches((data.train_inputs, data.train_labels), batch_size)
    state = jax.tree.map(jnp.copy, algorithm.init(params))

    folder = Path(config.out) if config.out is not None else None
    if folder is not None and config.resume:
        _check_same(config, run_folder.read_config(folder))
        state = checkpoint.restore_or(folder / "checkpoint", run_key, state)
    elif folder is not None:
        run_folder.create(folder)
    settings = {"settings": dataclasses.asdict(config), "versions": _versions()}
    if folder is not None:
        run_folder.write_json(folder / "config.json", settings)
        if transform is not None:
            run_folder.write_arrays(folder, "inputs", transform)

    first = int(state.generation)
    wanted = config.generations
    if wanted is None and config.seconds is None and config.target_accuracy is None:
        wanted = _DEFAULT_GENERATIONS
    remaining = max(0, wanted - first) if wanted is not None else 2**31 - 1 - first
    accuracy = _Accuracy(static)
    sample = slice(0, _TRAIN_SAMPLE)
    measured: dict[str, list] = {"measured_generation": [], "test_accuracy": [], "train_accuracy": []}

    def measure(state: Any) -> float:
        test = accuracy(state.params, data.test_inputs, data.test_labels)
        measured["measured_generation"].append(int(state.generation))
        measured["test_accuracy"].append(test)
        measured["train_accuracy"].append(accuracy(state.params, data.train_inputs[sample], data.train_labels[sample]))
        return test

    measure(state)
    attributes = {"evaluations_per_generation": _evaluations(algorithm), "batch_size": batch_size or num_examples}
    records: list[dict[str, np.ndarray]] = []
    stopped = "generations"
    start = last_saved = last_measured = time.perf_counter()
    pause = 1.0
    bar = tqdm(total=wanted, initial=first, disable=not progress, unit="gen", dynamic_ncols=True)
    with bar, interruptible() as interrupted:
        for chunk in generations(run_key, algorithm, state, loss_fn, remaining, batches):
            state = chunk.state
            records.append(chunk.records)
            now = time.perf_counter()
            if now - last_measured > pause:
                measure(state)
                last_measured = time.perf_counter()
                pause = max(1.0, (last_measured - now) / _MEASURING_SHARE)
            bar.set_postfix(_postfix(chunk.records, measured["test_accuracy"][-1]), refresh=False)
            bar.update(chunk.num_generations)
            if folder is not None and time.perf_counter() - last_saved > _CHECKPOINT_SECONDS:
                # The history first: a resumed run drops records later than its checkpoint, and cannot make up missing ones.
                _append(folder, records, measured, attributes, int(state.generation))
                records, measured = [], {name: values[-1:] for name, values in measured.items()}
                checkpoint.save(folder / "checkpoint", run_key, state)
                last_saved = time.perf_counter()
            if interrupted.is_set():
                stopped = "Ctrl-C"
            elif config.seconds is not None and time.perf_counter() - start > config.seconds:
                stopped = f"{config.seconds:g} seconds"
            elif config.target_accuracy is not None and measured["test_accuracy"][-1] >= config.target_accuracy:
                stopped = f"test accuracy {config.target_accuracy:g}"
            else:
                continue
            break
    seconds = time.perf_counter() - start
    if measured["measured_generation"][-1] != int(state.generation):
        measure(state)
    outcome = {
        "test_accuracy": measured["test_accuracy"][-1],
        "train_accuracy": _in_parts(accuracy, state.params, data.train_inputs, data.train_labels),
        "generations": int(state.generation),
        "evaluations": int(state.generation) * _evaluations(algorithm),
        "batch_size": batch_size or num_examples,
        "num_parameters": tree.size(params),
        "seconds": seconds,
        "stopped": stopped,
        "drift": summary.drift_per_sigma(algorithm.parts),
        "components": components,
        "input_size": input_size,
        "shared_layers": _shared_layers(config),
        "shared_generations": config.shared_generations,
    }
    return _finish(config, folder, settings, algorithm, run_key, state, records, measured, attributes, outcome)


def _finish(
    config: TrainConfig,
    folder: Path | None,
    settings: dict[str, Any],
    algorithm: Algorithm,
    run_key: jax.Array,
    state: Any,
    records: list[dict[str, np.ndarray]],
    measured: dict[str, list],
    attributes: dict[str, Any],
    outcome: dict[str, Any],
) -> dict[str, Any]:
    """Write everything, and complete the outcome with the regime."""
    import xarray

    if folder is None:
        history = xarray.Dataset({name: ("generation", values) for name, values in _joined(records).items()})
    elif records:
        history = _append(folder, records, measured, attributes, outcome["generations"])
        checkpoint.save(folder / "checkpoint", run_key, state)
        run_folder.write_arrays(folder, "params", state.params)
    else:
        history = run_folder.read_history(folder)
    outcome["num_nonfinite"] = int(history.num_nonfinite.sum())
    outcome["regime"] = summary.regime(algorithm.parts, history)
    if folder is not None:
        run_folder.write_json(folder / "config.json", settings | {"outcome": outcome})
        title = (
            f"{config.data}, {config.model} of {outcome['num_parameters']:,} parameters, "
            f"{config.algorithm} with M = {algorithm.parts.num_offspring}, σ {config.sigma}, "
            f"batch {outcome['batch_size']:,}, seed {config.seed}"
        )
        best = best_strength(algorithm.parts) if config.sigma == "auto" else None
        training_figure(history, folder / "training.png", title, best)
    return outcome


def _joined(records: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in records]) for name in records[0]} if records else {}


def _append(
    folder: Path, records: list[dict[str, np.ndarray]], measured: dict[str, list], attributes: dict, generation: int
) -> Any:
    return run_folder.append_history(folder, _joined(records), measured, attributes, generation)


def _evaluations(algorithm: Algorithm) -> int:
    """Loss evaluations in a generation: the offspring and the parents."""
    return algorithm.parts.num_offspring + algorithm.parts.selection.num_winners


def _in_parts(accuracy: _Accuracy, params: Any, inputs: np.ndarray, labels: np.ndarray) -> float:
    starts = range(0, len(labels), _TRAIN_SAMPLE)
    parts = [(inputs[i : i + _TRAIN_SAMPLE], labels[i : i + _TRAIN_SAMPLE]) for i in starts]
    return sum(accuracy(params, *part) * len(part[1]) for part in parts) / len(labels)


def _postfix(records: dict[str, np.ndarray], test_accuracy: float) -> dict[str, str]:
    return {
        "loss": f"{records['loss'][-1]:.4f}",
        "accuracy": f"{100 * test_accuracy:.2f}%",
        "σ": f"{records['sigma'][-1]:.2g}",
        "s": f"{records['normalized_mutation_strength'][-1]:.2f}",
    }


def _check_same(config: TrainConfig, saved: dict[str, Any]) -> None:
    settings = saved.get("settings", {})
    for field in dataclasses.fields(config):
        if field.name in _MAY_CHANGE:
            continue
        now, then = getattr(config, field.name), settings.get(field.name)
        if (list(now) if isinstance(now, tuple) else now) != then:
            raise ValueError(
                f"{field.name}: got {now!r} where the run in {config.out!r} has {then!r}; resume with the settings that "
                "it was started with"
            )


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("mutagrad", "jax", "jaxlib", "numpy", "equinox")}
