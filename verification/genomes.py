"""`mutagrad.population` against independent simulators: msprime backwards in time, fwdpy11 forwards.

- Without recombination: numbers of segregating mutations in samples of 10 of 100 genomes, and their site-frequency
  spectra, against msprime's discrete-time Wright and Fisher model of 50 diploids.
- With free recombination: times to fixation of neutral mutations of 100 genomes, against fwdpy11's 50 diploids with 50 Morgans.

Distributions are compared by quantiles and by a Kolmogorov–Smirnov test (of mutations that fixed in one population, by one at
random, since neighbours share their fate); means by their standard errors. Run with ``python -m verification.genomes`` after
``make oracle``; it draws into verification/results.
"""

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

import mutagrad
from mutagrad.algorithms.genomes import bits
from mutagrad.report.figures import panels, save
from verification import common

ORACLE = Path(__file__).parent.parent / ".oracle" / "bin" / "python"
SCRIPT = Path(__file__).parent / "oracles" / "simulators.py"
NUMBER, RATE, SAMPLES = 100, 0.05, 10


def oracle(name: str, **settings: Any) -> Any:
    done = subprocess.run([ORACLE, SCRIPT, name, json.dumps(settings)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def constant(x: jax.Array) -> jax.Array:
    return 0.0 * jnp.sum(x)


def our_spectra(replicates: int, generations: int) -> np.ndarray:
    """(replicates, samples − 1): mutations that 1, 2, … of the sampled genomes carry, after so many generations."""
    algorithm = mutagrad.population(0.1, 0.0, NUMBER, RATE, recombination="none", capacity=512)

    def run(key):
        def body(index, state):
            return algorithm.step(jax.random.fold_in(key, index), state, constant)[0]

        state = jax.lax.fori_loop(0, generations, body, algorithm.init(jnp.zeros(1)))
        copies = bits.column_counts(state.carriers[:SAMPLES])
        return jnp.sum(copies[None] == jnp.arange(1, SAMPLES)[:, None], axis=1)

    return np.asarray(jax.lax.map(jax.jit(run), jax.random.split(jax.random.key(11), replicates), batch_size=50))


def our_fixations(replicates: int, generations: int) -> list[np.ndarray]:
    """Times to fixation in each population, after a burn-in of half."""
    algorithm = mutagrad.population(0.1, 0.0, NUMBER, RATE, capacity=256)

    def run(key):
        def body(state, index):
            state, info = algorithm.step(jax.random.fold_in(key, index), state, constant)
            return state, jnp.where(info.turnover.is_fixed, info.turnover.ages, -1).astype(jnp.int16)

        return jax.lax.scan(body, algorithm.init(jnp.zeros(1)), jnp.arange(generations))[1][generations // 2 :]

    ages = np.asarray(jax.lax.map(jax.jit(run), jax.random.split(jax.random.key(12), replicates), batch_size=20))
    return [one[one >= 0] for one in ages]


def z_scores(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Difference of means over its standard error, column by column."""
    error = np.sqrt(ours.var(axis=0, ddof=1) / len(ours) + theirs.var(axis=0, ddof=1) / len(theirs))
    return (ours.mean(axis=0) - theirs.mean(axis=0)) / error


def draw(pairs: list[tuple[str, np.ndarray, np.ndarray]]) -> None:
    """Quantiles of ours against theirs."""
    sheet, axes = panels(len(pairs))
    for axis, (name, ours, theirs) in zip(axes, pairs, strict=True):
        at = np.linspace(0.005, 0.995, 100)
        x, y = np.quantile(theirs, at), np.quantile(ours, at)
        axis.plot(x, y, "o", markersize=3)
        ends = [min(x[0], y[0]), max(x[-1], y[-1])]
        axis.plot(ends, ends, "k--", linewidth=1)
        axis.set(title=name, xlabel="independent simulator", ylabel="mutagrad.population")
    save(sheet, common.RESULTS / "genomes.png")


def main() -> None:
    args = common.arguments(__doc__, replicates=1000, populations=100, generations=2000)
    if not ORACLE.exists():
        raise SystemExit("verification.genomes: no environment with msprime and fwdpy11; run make oracle first")
    start = time.perf_counter()
    ours = our_spectra(args.replicates, 15 * NUMBER)
    found = oracle("spectra", size=NUMBER, rate=RATE, samples=SAMPLES, replicates=args.replicates, seed=7)
    theirs = np.array(found["spectra"])
    sums, their_sums = ours.sum(axis=1), theirs.sum(axis=1)
    scores = z_scores(ours, theirs)
    waits = our_fixations(args.populations, args.generations)
    their_waits = oracle(
        "fixations",
        size=NUMBER // 2,
        rate=RATE,
        morgans=50.0,
        generations=args.generations,
        seeds=list(range(1, args.populations + 1)),
    )["times"]
    # One of each population at random: the two list them in different orders, and neighbours share their fate.
    random = np.random.default_rng(13)
    ones, their_ones = (np.array([random.choice(one) for one in many if len(one)]) for many in (waits, their_waits))
    means, their_means = (np.array([np.mean(one) for one in many if len(one)]) for many in (waits, their_waits))
    law = mutagrad.theory.population.fixation_time(0.0, NUMBER, "wright_fisher")
    rows = [
        ("segregating in a sample of 10", sums, their_sums, sums, their_sums),
        ("time to fixation", ones, their_ones, means, their_means),
    ]
    table = ["| what | ours | theirs | difference of means, in errors | Kolmogorov–Smirnov p |", "| --- " * 5 + "|"]
    for name, one, other, mean, their_mean in rows:
        score, p = float(z_scores(mean, their_mean)), stats.ks_2samp(one, other).pvalue
        table.append(f"| {name} | {mean.mean():.4g} | {their_mean.mean():.4g} | {score:.2f} | {p:.3g} |")
    spectrum = ", ".join(f"{score:.2f}" for score in scores)
    worst = max(abs(float(score)) for score in scores)
    if not args.no_write:
        draw([("segregating mutations in a sample", sums, their_sums), ("time to fixation", ones, their_ones)])
    sections = [
        f"{args.replicates:,} samples of {SAMPLES} of {NUMBER} genomes, {RATE} mutations a genome; {args.populations} "
        f"populations of {args.generations:,} generations.",
        "\n".join(table),
        f"Site-frequency spectrum, 1 to {SAMPLES - 1} carriers, difference of means in errors: {spectrum}. The largest of nine "
        f"passes 4 by chance once in 1,800: {'agrees' if worst < 4 else 'DOES NOT AGREE'}.",
        f"The exact chain says {law:.4g} generations to fixation; ours {means.mean():.4g} ± {stats.sem(means):.2g}.",
        "![quantiles](genomes.png)",
    ]
    common.report("genomes", sections, args, "", time.perf_counter() - start)


if __name__ == "__main__":
    main()
