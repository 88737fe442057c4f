"""Generations per second of `mutagrad.population`, beside fwdpy11 on the problem nearest to what both can do.

n = 10,000 genomes, about 1,000 segregating mutations, multiplicative fitness of normal effects: ours haploid on a linear loss,
fwdpy11's 5,000 diploids. Free recombination has no chromosome; fwdpy11 comes near to it with 50 Morgans. Then a loss that is not
additive, of 1,000 parameters, on every genome, beside the matrix product that makes the genomes.
Run with ``python -m benchmarks.genomes`` after ``make oracle``.
"""

import json
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import mutagrad
from benchmarks import common

ORACLE = Path(__file__).parent.parent / ".oracle" / "bin" / "python"
SCRIPT = Path(__file__).parent.parent / "verification" / "oracles" / "simulators.py"
NUMBER, RATE, EFFECT = 10_000, 0.0051, 0.01


def linear(x, data=None):
    return jnp.sum(x)


def valley(x, data=None):
    """Rosenbrock's function of N parameters: no sum over them."""
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def ours(algorithm: mutagrad.Algorithm, params: Any, loss_fn: Callable, generations: int, burn: int) -> Callable:
    """A run of so many generations after a burn-in, from where the last one stopped."""

    @jax.jit
    def loop(key, state, number):
        def body(index, state):
            return algorithm.step(jax.random.fold_in(key, index), state, loss_fn)[0]

        return jax.lax.fori_loop(0, number, body, state)

    held = {"state": loop(jax.random.key(1), algorithm.init(params), burn), "key": jax.random.key(0)}

    def run() -> dict[str, float]:
        held["key"], key = jax.random.split(held["key"])
        start = time.perf_counter()
        held["state"] = jax.block_until_ready(loop(key, held["state"], generations))
        seconds = time.perf_counter() - start
        return {"rate": generations / seconds, "segregating": float(jnp.sum(held["state"].is_segregating))}

    return run


def theirs(morgans: float, generations: int) -> Callable:
    seed = iter(range(1, 10**6))

    def run() -> dict[str, float]:
        settings = {
            "size": NUMBER // 2,
            "rate": RATE,
            "morgans": morgans,
            "generations": generations,
            "seed": next(seed),
            "effect": EFFECT,
        }
        done = subprocess.run(
            [ORACLE, SCRIPT, "speed", json.dumps(settings)], capture_output=True, text=True, check=True
        )
        return json.loads(done.stdout)

    return run


def product(number: int, slots: int, size: int) -> Callable:
    """(n, L) by (L, N): the product that makes all genomes."""
    multiply = jax.jit(lambda a, b: (a.astype(jnp.float32) @ b).sum(axis=1))
    left = jax.random.bernoulli(jax.random.key(0), 0.1, (number, slots))
    right = jax.random.normal(jax.random.key(1), (slots, size))

    def run() -> dict[str, float]:
        start = time.perf_counter()
        jax.block_until_ready(multiply(left, right))
        return {"rate": 1 / (time.perf_counter() - start), "segregating": float(slots)}

    return run


def main() -> None:
    args = common.arguments(__doc__, repetitions=5, generations=100, burn=3000)
    if not ORACLE.exists():
        raise SystemExit("benchmarks.genomes: no environment with fwdpy11; run make oracle first")
    few = max(args.generations // 5, 2)

    def additive(recombination: str, rate: float | None = None) -> mutagrad.Algorithm:
        return mutagrad.population(
            EFFECT, 1.0, NUMBER, RATE, recombination=recombination, recombination_rate=rate, capacity=1600
        )

    large = mutagrad.population(1e-4, 1e-3, NUMBER, RATE, capacity=1216)
    start = jnp.zeros(1)
    slots = large.init(jnp.zeros(1000)).births.shape[0]
    runs = {
        "fwdpy11, no recombination": theirs(0.0, args.generations * 3),
        "mutagrad, no recombination": ours(additive("none"), start, linear, args.generations, args.burn),
        "fwdpy11, 50 Morgans": theirs(50.0, few),
        "mutagrad, 50 crossovers": ours(additive("crossover", 50.0), start, linear, few, 200),
        "mutagrad, free recombination": ours(additive("free"), start, linear, args.generations, args.burn),
        "mutagrad, Rosenbrock of 1,000 parameters": ours(large, jnp.zeros(1000), valley, few, 200),
        "the product of genomes and effects alone": product(NUMBER, slots, 1000),
    }
    found = common.interleaved(runs, args.repetitions, rounds_before=1)
    rates = {name: [one["rate"] for one in values] for name, values in found.items()}
    beside = {
        "mutagrad, no recombination": "fwdpy11, no recombination",
        "mutagrad, 50 crossovers": "fwdpy11, 50 Morgans",
        "mutagrad, free recombination": "fwdpy11, 50 Morgans",
        "mutagrad, Rosenbrock of 1,000 parameters": "the product of genomes and effects alone",
    }
    rows = [
        [
            name,
            common.spread(values),
            f"{statistics.median(one['segregating'] for one in found[name]):,.0f}",
            f"{common.ratio(values, rates[beside[name]])} × {beside[name]}" if name in beside else "",
        ]
        for name, values in rates.items()
    ]
    free, valley_rate = rates["mutagrad, free recombination"], rates["mutagrad, Rosenbrock of 1,000 parameters"]
    met = statistics.median(free) >= statistics.median(rates["fwdpy11, 50 Morgans"])
    sections = [
        f"n = {NUMBER:,} genomes, {RATE} mutations of each a generation, effects of standard deviation {EFFECT} in fitness.",
        common.table(["run", "generations/s: median (min to max)", "segregating", "ratio"], rows),
        f"Demanded with free recombination: as many as fwdpy11 with 50 Morgans ({'met' if met else 'NOT MET'}).",
        "Demanded with 1,000 parameters: 5 generations/s "
        f"({'met' if statistics.median(valley_rate) >= 5 else 'NOT MET'}); its bound is the product.",
    ]
    common.report("genomes", sections, args)


if __name__ == "__main__":
    main()
