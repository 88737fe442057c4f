"""Of forecasts with 80 % intervals, how many hold what then happened?

The ten problems of benchmarks/sigma.py, four seeds each, (1+20) with σ automatic. A run is stopped where its loss is at the
geometric mean of the start's and the loss to reach there, after 200 generations at least; the forecast is of half the loss
that it has then; and it goes on until it gets there, or for seven times as long. All of this was set before any was run.

    python -m verification.forecast

writes verification/results/forecast.md; with --no-write it only prints.
"""

import math
import time

import jax
import numpy as np

import mutagrad
from benchmarks.common import table
from benchmarks.sigma import FIRST_SIGMA, M, problems
from mutagrad.diagnostics import forecast
from mutagrad.diagnostics.forecast import FEWEST
from mutagrad.run.loop import generations
from verification.common import arguments, report, versions

SEEDS = 4
LONGEST = 40_000
"""Generations before the forecast, at most: a run that is not half way by then is forecast from there."""


def losses_of(seed, problem, algorithm):
    """The loss of every generation, as long as it is asked for."""
    state = jax.tree.map(jax.numpy.copy, algorithm.init(problem.start))  # a run consumes its state
    for chunk in generations(jax.random.key(seed), algorithm, state, problem.losses, 10**7):
        yield np.asarray(chunk.records["loss"])


def one(seed, problem):
    """The generation of the forecast, the forecast, and how many generations it took (infinite if longer than was waited)."""
    algorithm = mutagrad.adapt_sigma(mutagrad.elitist(FIRST_SIGMA, M))
    run, loss = losses_of(seed, problem, algorithm), np.empty(0)
    stop = 0
    while not stop:
        loss = np.concatenate([loss, next(run)])
        half_way = np.flatnonzero(loss <= math.sqrt(loss[0] * problem.target))
        if len(half_way) or len(loss) >= LONGEST:
            stop = max(FEWEST, half_way[0] + 1 if len(half_way) else LONGEST)
    while len(loss) < stop:
        loss = np.concatenate([loss, next(run)])
    found = forecast({"loss": loss[:stop]}, decrease=float(np.mean(loss[int(0.95 * stop) : stop])) / 2)
    while loss.min() > found.loss - found.decrease and len(loss) < 8 * stop:
        loss = np.concatenate([loss, next(run)])
    there = np.flatnonzero(loss <= found.loss - found.decrease)
    return stop, found, float(there[0] + 1 - stop) if len(there) and there[0] < 8 * stop else math.inf


def main() -> None:
    args = arguments(__doc__)
    begin, rows, inside, total = time.perf_counter(), [], 0, 0
    for name, make in problems().items():
        problem = make()
        for seed in range(SEEDS):
            stop, found, took = one(200 + seed, problem)
            holds = found.soonest <= took <= found.latest if math.isfinite(took) else found.latest >= 7 * stop
            inside, total = inside + holds, total + 1
            interval = [f"{value:,.0f}" if math.isfinite(value) else "never" for value in found[2:5]]
            rows.append(
                [
                    name,
                    f"{stop:,}",
                    f"{interval[0]} ({interval[1]} to {interval[2]})",
                    f"{took:,.0f}" if math.isfinite(took) else f"over {7 * stop:,}",
                    "yes" if holds else "no",
                ]
            )
            print(rows[-1], f"{time.perf_counter() - begin:.0f} s", flush=True)
    head = ["problem", "made at generation", "forecast of generations to half the loss", "it took", "held"]
    held = f"{inside} of {total} intervals of 80 % hold what then happened."
    seconds = time.perf_counter() - begin
    report("forecast", [held, table(head, rows)], args, machine=f"; {versions('jax')}", seconds=seconds)


if __name__ == "__main__":
    main()
