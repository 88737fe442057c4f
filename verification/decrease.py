"""The decrease that slope and curvature promise a generation, beside what it was, over training.

(1+M) at fixed σ, chosen for an s at the start; slope, curvature and skewness are those that the run's own losses show, window by
window, as `mutagrad inspect` reads them, and so is the decrease, on the batch that the generation met. Within 10 % unless marked;
a mark says what the tool tells it by: the share of successes over the run, by which losses of mutants are not normal about a
parabola, or their skewness, where it changes the promise by more than a tenth and may do so beyond its first order.

    python -m verification.decrease

writes verification/results/decrease.md; with --no-write it only prints.
"""

import math
import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import mutagrad
from benchmarks.common import table
from mutagrad.diagnostics.plans import promised_decrease
from mutagrad.diagnostics.verdicts import is_apart, skewness_counts
from mutagrad.lab.claims.quadratics import power_law
from mutagrad.lab.tasks.data import load
from mutagrad.lab.training.options import TrainConfig
from mutagrad.lab.training.problem import set_up
from verification.common import arguments, report, versions

STRENGTHS = (0.01, 0.1, 1.0, 2.0, 5.0)
OFFSPRING = (1, 5, 20, 100)
WINDOW = 25


class Landscape(NamedTuple):
    """A loss, where to start, its batches, the σ of s = 1 there, and how many generations of M offspring to run."""

    loss_fn: Callable
    start: Any
    batches: Any
    unit: float
    generations: Callable[[int], int]


def quadratic(exponent: float) -> Landscape:
    one = power_law(1000, exponent, "even")
    return Landscape(one.losses, one.start, None, one.sigma(1.0), lambda _: 1000)


def convnet() -> Landscape:
    problem = set_up(TrainConfig("mnist", model="convnet", batch_size=512, shared_layers=0), load("mnist"))
    params = problem.state.params
    images, labels = problem.batches.data
    found = mutagrad.diagnose(jax.random.key(0), problem.task.loss_fn, params, batch=(images[:512], labels[:512]))
    unit = found.plans[0].sigma.value / found.plans[0].strength
    number = {1: 400, 5: 150, 20: 75, 100: 25}
    return Landscape(problem.task.loss_fn, params, problem.batches, unit, number.__getitem__)


def row(name: str, one: Landscape, num_offspring: int, strength: float, key: jax.Array) -> list[str]:
    """Measured over promised decrease, and what the tool says of it."""
    algorithm = mutagrad.elitist(strength * one.unit, num_offspring)
    number = one.generations(num_offspring)
    start = jax.tree.map(jnp.copy, one.start)
    history = mutagrad.evolve(
        jax.random.fold_in(key, num_offspring), algorithm, start, one.loss_fn, number, one.batches, progress=False
    ).history
    found = mutagrad.diagnostics.regime(history, max(1, number // WINDOW))
    promised = promised_decrease(algorithm.definition, found).sum()
    of_normal = promised_decrease(algorithm.definition, found, normal=True).sum()
    measured, error = found.decrease.value.sum(), math.sqrt(np.sum(found.decrease.error**2))
    ratio, uncertain = measured / promised, error / abs(promised)
    whole = mutagrad.diagnostics.regime(history)
    verdict = "within 10 %"
    if abs(ratio - 1) > 0.1:
        verdict = "undecided" if abs(ratio - 1) < 0.1 + 3 * uncertain else "off, not told"
        told = {
            "the successes": is_apart(whole.success, whole.predicted_success),
            "the skewness": skewness_counts(promised, of_normal),
        }
        if verdict != "undecided" and any(told.values()):
            verdict = f"off, told by {' and '.join(name for name, does in told.items() if does)}"
    first, last = found.normalized_mutation_strength.value[[0, -1]]
    return [
        name,
        str(num_offspring),
        f"{first:.2g} to {last:.2g}",
        f"{whole.skewness.value:.2f} ± {whole.skewness.error:.2f}",
        f"{measured / of_normal:.3f}",
        f"{ratio:.3f} ± {uncertain:.3f}",
        f"{100 * whole.success.value:.2g} % ({100 * whole.predicted_success.value:.2g} %)",
        verdict,
    ]


def main() -> None:
    args = arguments(__doc__, key=0)
    begin, load_before = time.perf_counter(), os.getloadavg()[0]
    landscapes = {
        "sphere, N = 1000": quadratic(0.0),
        "λ = k^−0.5, N = 1000": quadratic(0.5),
        "λ = k^−1, N = 1000": quadratic(1.0),
        "ConvNet, MNIST, batches of 512": convnet(),
    }
    rows = []
    for name, one in landscapes.items():
        for num_offspring in OFFSPRING:
            for strength in STRENGTHS:
                rows.append(row(name, one, num_offspring, strength, jax.random.key(args.key)))
                print(rows[-1], f"{time.perf_counter() - begin:.0f} s", flush=True)
    head = [
        "loss",
        "M",
        "s, first to last window",
        "skewness",
        "measured over promised to normal losses",
        "with their skewness",
        "successes (Φ(−s/2))",
        "verdict",
    ]
    report(
        "decrease",
        [__doc__.split("\n\n")[1], table(head, rows)],
        args,
        machine=f", load before {load_before:.2f}; {versions('jax')}",
        seconds=time.perf_counter() - begin,
    )


if __name__ == "__main__":
    main()
