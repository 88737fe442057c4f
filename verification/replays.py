"""Lineages of long runs: every named algorithm and wrapper is replayed to its last generation, bit for bit.

A run of 100,000 generations on a dozen parameters of two dtypes is saved, and its last generation made again from its start and
its lineage alone; every generation is held against its checksum on the way. Bytes are those of lineage.journal.
Run with ``python -m verification.replays``.
"""

import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import mutagrad
from verification import common

START = {"w": jnp.linspace(-1, 1, 9), "b": jnp.zeros((2, 2), jnp.bfloat16)}
GROUPS = [jnp.linspace(0, 1, 4)] * 3


def rule(selection: mutagrad.Selection) -> mutagrad.Algorithm:
    """An algorithm of eight offspring with a rule of its own."""
    return mutagrad.mutation_selection(mutagrad.mutation.gaussian(), selection, 8, sigma=0.05)


def crossed(inheritance: str) -> mutagrad.Algorithm:
    """Three parents, each with a mother and a father."""
    return rule(mutagrad.selection.crossover(3, inheritance))


def blend_of_two(key: jax.Array, losses: jax.Array, parent_losses: jax.Array) -> mutagrad.Descent:
    """Each of the best three, and a parent, with shares that depend on the losses."""
    best = jnp.argsort(losses)[:3].astype(jnp.int32)
    share = 0.5 + 0.25 * jax.nn.sigmoid(losses[best])
    return mutagrad.Descent(jnp.stack([best, -1 - jnp.arange(3, dtype=jnp.int32)], 1), jnp.stack([share, 1 - share], 1))


def mated(key: jax.Array, losses: jax.Array, parent_losses: jax.Array) -> mutagrad.Descent:
    """Each parameter from the best offspring, or from the parent."""
    return mutagrad.Descent(jnp.stack([jnp.argmin(losses), -1])[None], jnp.array([[0.7, 0.3]]), "parameter")


ALGORITHMS: dict[str, Callable[[], Any]] = {
    "elitist": lambda: mutagrad.elitist(0.05, 8),
    "comma": lambda: mutagrad.comma(0.05, 8),
    "greedy": lambda: mutagrad.greedy(0.05),
    "metropolis": lambda: mutagrad.metropolis(0.05, 10.0),
    "logistic": lambda: mutagrad.logistic(0.05, 10.0),
    "boltzmann": lambda: mutagrad.boltzmann(0.05, 10.0, 8),
    "fixation": lambda: mutagrad.fixation(0.05, 10.0, 10),
    "truncation": lambda: mutagrad.truncation(0.05, 8, 3),
    "weighted_recombination": lambda: mutagrad.weighted_recombination(0.05, 8),
    "crossover": lambda: crossed("parameter"),
    "crossover of leaves": lambda: crossed("leaf"),
    "blend of two, three parents": lambda: rule(mutagrad.Selection(blend_of_two, num_parents=3)),
    "adapt_sigma(crossover)": lambda: mutagrad.adapt_sigma(crossed("parameter"), target=1.0),
    "population": lambda: mutagrad.population(0.02, 2.0, 20, 0.3),
    "adapt_sigma(elitist)": lambda: mutagrad.adapt_sigma(mutagrad.elitist(0.05, 8)),
    "adapt_sigma(weighted_recombination)": lambda: mutagrad.adapt_sigma(mutagrad.weighted_recombination(0.05, 8)),
    "schedule_sigma(elitist)": lambda: mutagrad.schedule_sigma(
        mutagrad.elitist(0.05, 8), optax.exponential_decay(0.05, 20_000, 0.5)
    ),
    "metropolis, kept loss": lambda: mutagrad.mutation_selection(
        mutagrad.mutation.gaussian(), mutagrad.selection.metropolis(10.0), 1, sigma=0.05, reevaluate_parent=False
    ),
    "alternate": lambda: mutagrad.alternate([mutagrad.elitist(0.05, 8), mutagrad.elitist(0.01, 8)], [2, 3]),
    "alternate, one ancestor and two": lambda: mutagrad.alternate(
        [mutagrad.elitist(0.05, 8), rule(mutagrad.Selection(mated))], [2, 3]
    ),
    "rotate(weighted_recombination)": lambda: mutagrad.rotate(
        mutagrad.weighted_recombination(0.05, 8, mutation=mutagrad.mutation.masked([True, False, False])),
        lambda groups: [*groups[1:], groups[0]],
        3,
    ),
    "rotate": lambda: mutagrad.rotate(
        mutagrad.adapt_sigma(mutagrad.elitist(0.05, 8, mutation=mutagrad.mutation.masked([True, False, False]))),
        lambda groups: [*groups[1:], groups[0]],
        3,
    ),
}
STILL = ("metropolis, kept loss",)
"""Runs whose loss stays as it is, since they keep the parent's; Metropolis never comes to rest."""
SLOW = {"alternate": 10, "alternate, one ancestor and two": 10}
"""Runs whose turns are known to Python alone pass through it in every generation, and are shorter by that."""


def targets(key: jax.Array) -> jax.Array:
    """The batch of a generation: where its valley lies, so that a run never comes to rest."""
    return 0.3 * jax.random.normal(key, (13,))


def loss_fn(params: Any, target: jax.Array) -> jax.Array:
    """Squared distance from the target of the generation."""
    numbers = jnp.concatenate([jnp.ravel(leaf).astype(jnp.float32) for leaf in jax.tree.leaves(params)])
    return jnp.sum(jnp.square(numbers - target[: numbers.size]))


def one(name: str, generator: str, number: int) -> list[str]:
    """A row: the generations, whether they were made again, the bytes and the times."""
    start, number = (GROUPS if name.startswith("rotate") else START), number // SLOW.get(name, 1)
    algorithm, moving = ALGORITHMS[name](), {} if name in STILL else {"batches": targets}
    own = partial(loss_fn, target=jnp.zeros(13)) if name in STILL else loss_fn
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        began = time.monotonic()
        result = mutagrad.evolve(
            jax.random.key(1, impl=generator),
            algorithm,
            start,
            own,
            number,
            checkpoint=folder,
            progress=False,
            **moving,
        )
        ran = time.monotonic() - began
        try:
            again = mutagrad.replay(folder, algorithm, start)
        except ValueError as error:
            return [name, generator, f"{number:,}", f"NO: {error}", "", "", ""]
        took = time.monotonic() - began - ran
        size = (Path(folder) / "lineage.journal").stat().st_size
    pairs = zip(jax.tree.leaves(again.params), jax.tree.leaves(result.params), strict=True)
    is_same = again.generation == number and all(np.array_equal(a, b) for a, b in pairs)
    accepted = np.mean(result.history["is_accepted"]) if "is_accepted" in result.history else np.nan
    words = "all" if is_same else "NO: other parameters"
    return [name, generator, f"{number:,}", words, f"{accepted:.2f}", f"{size / number:.1f}", f"{ran:.0f} / {took:.0f}"]


def main() -> None:
    args = common.arguments(__doc__, generations=100_000)
    start = time.monotonic()
    rows = []
    for name in ALGORITHMS:
        for generator in ("threefry2x32", "rbg"):
            rows.append(one(name, generator, args.generations))
            print(*rows[-1], flush=True)
    head = ["algorithm", "keys", "generations", "made again", "accepted", "bytes a generation", "run / replay [s]"]
    lines = ["| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows]]
    common.report("replays", ["\n".join(lines)], args, "", time.monotonic() - start)


if __name__ == "__main__":
    main()
