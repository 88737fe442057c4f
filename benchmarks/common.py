"""What the benchmarks share: interleaved timing, ratios with their spread, tables and the record of a run."""

import argparse
import datetime
import importlib.metadata
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from evosax.algorithms import HillClimbing

import mutagrad

RESULTS = Path(__file__).parent / "results"


def arguments(description: str, repetitions: int = 7, **defaults: Any) -> argparse.Namespace:
    """The command line: ``--repetitions`` and whatever numbers or texts the benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--repetitions", type=int, default=repetitions, help="measurements of each row, interleaved")
    parser.add_argument("--no-write", action="store_true", help="print only; leave benchmarks/results alone")
    for name, default in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    return parser.parse_args()


# --- timing -----------------------------------------------------------------------------------------------------------


def interleaved(runs: dict[str, Callable[[], Any]], repetitions: int, rounds_before: int = 2) -> dict[str, list]:
    """What each run returns, measured A, B, C, A, B, C, … after two rounds that do not count.

    Two, because what the first one returns may differ in type from what it was given, and compiles once more.

    A run does its own timing, so that preparation and compilation can be left out of it.
    """
    measured: dict[str, list] = {name: [] for name in runs}
    for repetition in range(1 - rounds_before, repetitions + 1):
        for name, run in runs.items():
            value = run()
            print(
                f"  {repetition}/{repetitions} {name}: {value if isinstance(value, dict) else number(value)}",
                file=sys.stderr,
                flush=True,
            )
            if repetition > 0:
                measured[name].append(value)
    return measured


def looped(generation: Callable, state: Any, data: Any, number: int) -> Callable[[], float]:
    """A run of ``number`` generations in one compiled scan, from where the last one stopped: generations per second.

    ``generation(key, state, data) -> (state, scalar)``; the data are an argument of the compiled function, and the
    state is donated to it. Keys are split beforehand, in the scan's inputs, alike for whoever is measured.
    """

    @partial(jax.jit, donate_argnums=1)
    def loop(key, state, data):
        return jax.lax.scan(lambda state, key: generation(key, state, data), state, jax.random.split(key, number))

    # A copy, because the state is donated and shares its arrays with the caller's parameters.
    held = {"state": jax.tree.map(jnp.copy, state), "key": jax.random.key(0)}

    def run() -> float:
        held["key"], key = jax.random.split(held["key"])
        jax.block_until_ready((held["state"], data, key))
        start = time.perf_counter()
        held["state"], record = jax.block_until_ready(loop(key, held["state"], data))
        seconds = time.perf_counter() - start
        assert bool(jnp.all(jnp.isfinite(record)))
        return number / seconds

    return run


def our_generation(algorithm: mutagrad.Algorithm, loss_fn: Callable) -> Callable:
    """``algorithm.step`` on ``loss_fn(params, data)``, recording the best loss of the generation."""

    def generation(key, state, data):
        state, info = algorithm.step(key, state, lambda params: loss_fn(params, data))
        return state, jnp.min(info.losses)

    return generation


def evosax_hill_climbing(
    params: Any, loss_fn: Callable, sigma: float, population_size: int, map_fn: Callable | None = None
) -> tuple[Callable, Any]:
    """A generation and the first state of evosax's HillClimbing, evaluated as its documentation does.

    ``loss_fn(params, data)`` is a scalar. ``map_fn(loss, population)`` replaces ``vmap`` where it is given.
    """
    strategy = HillClimbing(population_size, params, std_schedule=optax.constant_schedule(sigma))
    options = strategy.default_params

    def generation(key, state, data):
        ask_key, tell_key = jax.random.split(key)
        population, state = strategy.ask(ask_key, state, options)

        def loss(params):
            return loss_fn(params, data)

        fitness = jax.vmap(loss)(population) if map_fn is None else map_fn(loss, population)
        state, metrics = strategy.tell(tell_key, population, fitness, state, options)
        return state, metrics["best_fitness_in_generation"]

    # Python numbers in its first state would be weakly typed and change their type in a loop.
    state = strategy.init(jax.random.key(0), params, options)
    state = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.asarray(leaf).dtype), state)
    return generation, state


def evolved(
    algorithm: mutagrad.Algorithm, params: Any, loss_fn: Callable, data: Any, number: int
) -> Callable[[], float]:
    """A run of `mutagrad.evolve`, from its first compiled generation to its return: generations per second.

    Everything evolve does for every generation is counted (records, copies to the host, chunks that start short and
    grow); only its first chunk, one generation that compiles the program, is not.
    """
    batches = None if data is None else mutagrad.minibatches(data, None)

    def run() -> float:
        chunks_end = []

        def note(chunk):
            chunks_end.append(time.perf_counter())

        mutagrad.evolve(
            jax.random.key(0), algorithm, params, loss_fn, number + 1, batches, observers=[note], progress=False
        )
        return number / (time.perf_counter() - chunks_end[0])

    return run


# --- models -----------------------------------------------------------------------------------------------------------


class PlainConvNet(eqx.Module):
    """The 9854-parameter ConvNet as a user would write it: Equinox's layers on one image, vmapped over the batch."""

    layers: eqx.nn.Sequential

    def __init__(self, key: jax.Array):
        keys = iter(jax.random.split(key, 6))
        nn = eqx.nn
        relu = nn.Lambda(jax.nn.relu)
        self.layers = nn.Sequential(
            [
                *(nn.Conv2d(1, 8, 5, padding=2, key=next(keys)), relu, nn.MaxPool2d(2, 2)),
                *(nn.Conv2d(8, 16, 5, padding=2, key=next(keys)), relu, nn.MaxPool2d(2, 2)),
                *(nn.Conv2d(16, 8, 3, padding=1, key=next(keys)), relu),
                *(nn.Conv2d(8, 4, 3, padding=1, key=next(keys)), relu),
                *(nn.Lambda(jnp.ravel), nn.Linear(196, 24, key=next(keys)), relu, nn.Linear(24, 10, key=next(keys))),
            ]
        )

    def __call__(self, images: jax.Array) -> jax.Array:
        return jax.vmap(lambda image: self.layers(image[None]))(images)


try:
    from mutagrad.lab.tasks.convnet import ConvNet

    CONVNET = "mutagrad.lab.tasks.convnet.ConvNet"
except ImportError:
    ConvNet, CONVNET = PlainConvNet, "STAND-IN for mutagrad.lab.tasks.convnet.ConvNet: the plain formulation"


def classifier(model: Any) -> tuple[Any, Callable]:
    """The arrays of an Equinox model, and its cross-entropy for every example of ``(images, labels)``."""
    params, static = eqx.partition(model, eqx.is_array)

    def losses(params, data):
        images, labels = data
        logits = eqx.combine(params, static)(images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)

    return params, losses


def random_images(number: int) -> tuple[jax.Array, jax.Array]:
    """Standard normal images of MNIST's shape with random labels: the time does not depend on what they show."""
    images_key, labels_key = jax.random.split(jax.random.key(1))
    return jax.random.normal(images_key, (number, 28, 28)), jax.random.randint(labels_key, (number,), 0, 10)


def mlp(sizes: list[int]) -> list[tuple[jax.Array, jax.Array]]:
    """Weights and biases of a multilayer perceptron."""
    keys = jax.random.split(jax.random.key(2), len(sizes) - 1)
    pairs = zip(sizes[:-1], sizes[1:], keys, strict=True)
    return [(jax.random.normal(key, (fan_in, out)) / fan_in**0.5, jnp.zeros(out)) for fan_in, out, key in pairs]


def mlp_losses(params: Any, data: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Cross-entropy of the multilayer perceptron for every example."""
    x, labels = data
    for weight, bias in params[:-1]:
        x = jax.nn.relu(x @ weight + bias)
    weight, bias = params[-1]
    return optax.softmax_cross_entropy_with_integer_labels(x @ weight + bias, labels)


def sine_net() -> tuple[jax.Array, Callable, tuple[jax.Array, jax.Array]]:
    """The 90 parameters of Σ x₁ tanh(x₂θ + x₃), its squared error for every θ, and the data (θ, sin 2πθ)."""

    def losses(x, data):
        theta, target = data
        amplitude, slope, offset = x.reshape(30, 3).T
        return jnp.square(jnp.tanh(theta[:, None] * slope + offset) @ amplitude - target)

    theta = jnp.arange(1000) / 1000
    return 0.1 * jax.random.normal(jax.random.key(3), (90,)), losses, (theta, jnp.sin(2 * jnp.pi * theta))


def mean_of(losses: Callable) -> Callable:
    """The scalar loss of per-example losses."""
    return lambda *args: jnp.mean(losses(*args))


# --- tables -----------------------------------------------------------------------------------------------------------


def number(value: float) -> str:
    """Three significant digits, without an exponent where it reads better so."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.3g}"


def spread(values: list[float]) -> str:
    """Median (smallest to largest)."""
    return f"{number(statistics.median(values))} ({number(min(values))} to {number(max(values))})"


def ratio(values: list[float], reference: list[float]) -> str:
    """Median (smallest to largest) of the ratios within each round, which share the machine's mood."""
    return spread([value / other for value, other in zip(values, reference, strict=True)])


def table(head: list[str], rows: list[list[str]]) -> str:
    """A markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def rate_table(rates: dict[str, list[float]], reference: str) -> str:
    """Generations per second of every run, and how many times those of the reference."""
    rows = [[name, spread(values), ratio(values, rates[reference])] for name, values in rates.items()]
    return table(["run", "generations/s: median (min to max)", f"times {reference}"], rows)


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


INTERLEAVED = (
    "interleaved, after two rounds of warming up; ratios are taken within each round: median (smallest to largest)"
)


def report(name: str, sections: list[str], args: argparse.Namespace, how: str = INTERLEAVED) -> None:
    """Print the sections under a header that says when, on what and how they were measured, and write them down."""
    path = Path(sys.argv[0])
    script = path.parent.name if path.stem == "__main__" else path.stem
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in ("jax", "evosax", "numpy"))
    header = [
        f"# benchmarks/{script if path.stem == '__main__' else path.name}",
        f"- date: {datetime.date.today().isoformat()}",
        f"- machine: {_cpu()}, {len(os.sched_getaffinity(0))} cores, load before/now "
        f"{_LOAD:.2f}/{os.getloadavg()[0]:.2f}; backend {jax.default_backend()}",
        f"- python {platform.python_version()}, {versions}, mutagrad {mutagrad.__version__}",
        f"- command: `{shlex.join(['python', '-m', f'benchmarks.{script}', *sys.argv[1:]])}`",
        f"- repetitions: {args.repetitions}, {how}",
    ]
    text = header[0] + "\n\n" + "\n".join(header[1:]) + "\n\n" + "\n\n".join(sections) + "\n"
    print(text)
    if not args.no_write:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.md").write_text(text)


_LOAD = os.getloadavg()[0]
