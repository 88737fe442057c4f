"""`mutagrad.population` against independent simulators: msprime backwards in time, fwdpy11 and NumPy forwards.

- Neutral, without recombination: segregating mutations and site-frequency spectra of samples of 10 of 100 genomes, against
  msprime's discrete-time Wright and Fisher model of 50 diploids.
- Neutral with free recombination, and selected without any: frequencies, times to fixation, effects that were fixed and how many,
  against 50 diploids of fwdpy11, with 50 Morgans for free recombination. Fitness is e^{effects}.
- Selected with free recombination: the same, against haploids in NumPy (verification/oracles/forward.py). A mutation in a diploid
  is chosen with its partner's effects too, so that mutations that recombine disturb each other more: by Robertson's argument as
  if there were n/(1 + 8V) genomes and not n/(1 + 4V), V the variance of ln w among genomes. fwdpy11's diploids stand beside
  those of NumPy in a line of their own, and nothing is decided by them.

Mutations of one population are not independent, so populations are what is drawn anew: a distribution is compared by the largest
distance between the two distribution functions of all mutations, with the p of populations that change sides at random. Controls
say what would be seen: NumPy with effects a fifth larger, and with a genome that takes a twentieth from its second parent. The
band of a quantile plot is that of 95 % of these changes, point by point, so that some points leave it. Run with
``python -m verification.genomes`` after ``make oracle``; it draws into verification/results.
"""

import json
import multiprocessing
import os
import subprocess
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

import mutagrad
from mutagrad.algorithms.genomes import bits
from mutagrad.report.figures import panels, save
from verification import common
from verification.oracles import forward

ORACLE = Path(__file__).parent.parent / ".oracle" / "bin" / "python"
SCRIPT = Path(__file__).parent / "oracles" / "simulators.py"
NUMBER, RATE, SAMPLES, EFFECT = 100, 0.05, 10, 0.03
MORGANS = 50.0
MOST_FIXED = 1024
"""Fixed mutations of one population that are kept; more are an error."""
LEVELS = np.linspace(0.005, 0.995, 100)
CHANGES = 4000
FALSE_ALARM = 0.01
"""Of the whole comparison, shared out among its distributions."""
KINDS = {
    "neutral, free recombination": (0.0, "free"),
    "selected, no recombination": (EFFECT, "none"),
    (AGAINST_NUMPY := "selected, free recombination"): (EFFECT, "free"),
}
"""Standard deviation of effects [ln w], and recombination."""
COLUMNS = {
    "times": "times to fixation [generations]",
    "effects": "effects that were fixed [ln w]",
    "frequencies": "frequencies",
}


class Pair(NamedTuple):
    """A distribution, ours and theirs: a list of values for every population."""

    name: str
    ours: list[np.ndarray]
    theirs: list[np.ndarray]


class Verdict(NamedTuple):
    """p : of the largest distance. band : (2, levels), 95 % of differences of quantiles when populations change sides."""

    p: float
    band: np.ndarray


def oracle(name: str, **settings: Any) -> Any:
    done = subprocess.run([ORACLE, SCRIPT, name, json.dumps(settings)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def fwdpy11_populations(seeds: list[int], effect: float, recombination: str, generations: int) -> list[dict]:
    """As many at once as there are cores."""
    number, morgans = len(os.sched_getaffinity(0)), MORGANS * (recombination == "free")
    settings = {"size": NUMBER // 2, "rate": RATE, "morgans": morgans, "generations": generations, "effect": effect}
    with ThreadPoolExecutor(number) as pool:
        parts = pool.map(
            lambda some: oracle("populations", seeds=some, **settings), [seeds[i::number] for i in range(number)]
        )
        return [one for part in parts for one in part["populations"]]


def numpy_populations(
    seeds: list[int], generations: int, is_diploid: bool = False, effect: float = EFFECT, share: float = 0.5
) -> list[dict]:
    """As many at once as there are cores."""
    settings = [(seed, is_diploid, NUMBER, RATE, effect, share, generations) for seed in seeds]
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(forward.population, *zip(*settings, strict=True)))


def fitness_is_exponential(x: jax.Array) -> jax.Array:
    """−Σx, so that β = 1 gives fitness e^{Σx}."""
    return -jnp.sum(x)


def our_spectra(replicates: int, generations: int) -> np.ndarray:
    """(replicates, samples − 1): mutations that 1, 2, … of the sampled genomes carry, after so many generations."""
    algorithm = mutagrad.population(0.1, 0.0, NUMBER, RATE, recombination="none", capacity=512)

    def run(key):
        def body(index, state):
            return algorithm.step(jax.random.fold_in(key, index), state, fitness_is_exponential)[0]

        state = jax.lax.fori_loop(0, generations, body, algorithm.init(jnp.zeros(1)))
        copies = bits.column_counts(state.carriers[:SAMPLES])
        return jnp.sum(copies[None] == jnp.arange(1, SAMPLES)[:, None], axis=1)

    return np.asarray(jax.lax.map(jax.jit(run), jax.random.split(jax.random.key(51), replicates), batch_size=50))


def our_populations(seed: int, effect: float, recombination: str, number: int, generations: int) -> list[dict]:
    """What was fixed in the second half of each population, and the frequencies at its end."""
    algorithm = mutagrad.population(
        effect or 0.1, float(effect > 0), NUMBER, RATE, recombination=recombination, capacity=320
    )

    def run(key):
        def body(index, carry):
            state, kept, count = carry
            before = algorithm.ask(key, state).effects[:, 0]
            state, info = algorithm.step(jax.random.fold_in(key, index), state, fitness_is_exponential)
            turnover = cast(mutagrad.GenomeInfo, info).turnover
            is_kept = turnover.is_fixed & (index >= generations // 2)
            place = jnp.where(is_kept, count + jnp.cumsum(is_kept) - 1, MOST_FIXED)
            kept = kept.at[place].set(jnp.stack([turnover.ages.astype(before.dtype), before], 1), mode="drop")
            return state, kept, count + jnp.sum(is_kept)

        start = algorithm.init(jnp.zeros(1)), jnp.zeros((MOST_FIXED, 2)), 0
        state, kept, count = jax.lax.fori_loop(0, generations, body, start)
        copies = jnp.where(state.is_segregating, bits.column_counts(state.carriers), 0)
        return kept, count, copies, state.num_dropped

    found = jax.lax.map(jax.jit(run), jax.random.split(jax.random.key(seed), number), batch_size=20)
    kept, counts, copies, dropped = map(np.asarray, found)
    if counts.max() > MOST_FIXED or dropped.max():
        raise SystemExit(f"verification.genomes: {counts.max()} fixed and {dropped.max()} dropped; give them more room")
    return [
        {"times": one[:count, 0], "effects": one[:count, 1], "frequencies": some[some > 0] / NUMBER}
        for one, count, some in zip(kept, counts, copies, strict=True)
    ]


def compared(pair: Pair, random: np.random.Generator) -> Verdict:
    """The largest distance of the two distribution functions among those of populations that change sides."""
    groups = [*pair.ours, *pair.theirs]
    values, owner = np.concatenate(groups), np.repeat(np.arange(len(groups)), [len(one) for one in groups])
    order = np.argsort(values, kind="stable")
    values, owner = values[order], owner[order]
    last = np.append(values[1:] != values[:-1], True)
    sides = np.arange(len(groups)) < len(pair.ours)
    distances, gaps = [], []
    for change in range(CHANGES):
        is_ours = (sides if change == 0 else random.permutation(sides))[owner]
        shares = np.cumsum(is_ours) / is_ours.sum() - np.cumsum(~is_ours) / (~is_ours).sum()
        distances.append(np.abs(shares[last]).max())
        gaps.append(np.quantile(values[is_ours], LEVELS) - np.quantile(values[~is_ours], LEVELS))
    band = np.quantile(gaps[1:], [0.025, 0.975], axis=0)
    return Verdict(float(np.mean(np.array(distances) >= distances[0] - 1e-12)), band)


def draw(pairs: list[Pair], verdicts: list[Verdict]) -> None:
    """Quantiles of ours against theirs, with the band of chance."""
    sheet, axes = panels(4, width=3.1, rows=-(-len(pairs) // 4), height=2.9)
    for axis, pair, verdict in zip(axes, pairs, verdicts, strict=False):
        x, y = (np.quantile(np.concatenate(side), LEVELS) for side in (pair.theirs, pair.ours))
        axis.fill_between(
            x, x + verdict.band[0], x + verdict.band[1], color="0.85", linewidth=0, label="95 % of chance"
        )
        axis.plot(x, y, "o", markersize=2.5, label="quantiles")
        ends = [min(x[0], y[0]), max(x[-1], y[-1])]
        axis.plot(ends, ends, "k--", linewidth=0.8, label="alike")
        axis.set_title(pair.name.replace(": ", ":\n"), fontsize="medium")
        axis.set(xlabel="independent simulator", ylabel="mutagrad.population")
    for axis in axes[len(pairs) :]:
        axis.axis("off")
        axis.legend(*axes[0].get_legend_handles_labels(), loc="center")
    save(sheet, common.RESULTS / "genomes.png")


def pairs_of(kind: str, ours: list[dict], theirs: list[dict]) -> list[Pair]:
    """The distributions of one kind."""
    found = [
        Pair(
            f"{kind}: mutations fixed in a population",
            *([np.array([len(one["times"])]) for one in many] for many in (ours, theirs)),
        )
    ]
    for column, words in COLUMNS.items():
        if KINDS[kind][0] or column != "effects":
            sides = ([np.asarray(one[column]) for one in many] for many in (ours, theirs))
            found.append(Pair(f"{kind}: {words}", *sides))
    return found


def table(pairs: list[Pair], verdicts: list[Verdict]) -> str:
    heads = [
        "what",
        "values, ours and theirs",
        "mean, ours",
        "mean, theirs",
        "difference, in errors",
        "p of the distributions",
    ]
    return "\n".join([f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|", *map(row, pairs, verdicts)])


def number_fixed(many: list[dict]) -> str:
    found = [len(one["times"]) for one in many]
    return f"{np.mean(found):.2f} ± {stats.sem(found):.2f}"


def row(pair: Pair, verdict: Verdict) -> str:
    """A line of the table: means are over populations."""
    means = [np.array([one.mean() for one in side if len(one)]) for side in (pair.ours, pair.theirs)]
    numbers = [sum(map(len, side)) for side in (pair.ours, pair.theirs)]
    score = (means[0].mean() - means[1].mean()) / np.hypot(*map(stats.sem, means))
    cells = [f"{mean.mean():.4g} ± {stats.sem(mean):.2g}" for mean in means]
    return f"| {pair.name} | {numbers[0]:,}, {numbers[1]:,} | {' | '.join(cells)} | {score:.2f} | {verdict.p:.3g} |"


def main() -> None:
    args = common.arguments(__doc__, replicates=1000, populations=200, diploids=100, generations=1500, seed=51)
    if not ORACLE.exists():
        raise SystemExit("verification.genomes: no environment with msprime and fwdpy11; run make oracle first")
    start = time.perf_counter()
    random = np.random.default_rng(args.seed)
    ours = our_spectra(args.replicates, 15 * NUMBER)
    found = oracle("spectra", size=NUMBER, rate=RATE, samples=SAMPLES, replicates=args.replicates, seed=args.seed)
    theirs = np.array(found["spectra"])
    pairs = [Pair("segregating in a sample of 10", list(ours.sum(1)[:, None]), list(theirs.sum(1)[:, None]))]
    for carriers in (1, 3, 9):
        sides = (list(side[:, carriers - 1 : carriers]) for side in (ours, theirs))
        pairs.append(Pair(f"mutations that {carriers} of 10 carry", *sides))
    numpy_seeds, seeds = ([1000 * (args.seed + i) + j for j in range(args.populations)] for i in (10, 20))
    ours_of, theirs_of = {}, {}
    for place, (kind, (effect, recombination)) in enumerate(KINDS.items(), start=1):
        ours_of[kind] = our_populations(args.seed + place, effect, recombination, args.populations, args.generations)
        if kind == AGAINST_NUMPY:
            theirs_of[kind] = numpy_populations(numpy_seeds, args.generations)
        else:
            theirs_of[kind] = fwdpy11_populations(seeds, effect, recombination, args.generations)
        pairs += pairs_of(kind, ours_of[kind], theirs_of[kind])
        print(f"{kind}: {time.perf_counter() - start:.0f} s", flush=True)
    verdicts = [compared(pair, random) for pair in pairs]
    controls = {
        "effects a fifth larger": numpy_populations(numpy_seeds, args.generations, effect=1.2 * EFFECT),
        "a twentieth from the second parent": numpy_populations(numpy_seeds, args.generations, share=0.05),
    }
    haploids = ours_of[AGAINST_NUMPY]
    bound = FALSE_ALARM / len(pairs)
    told = [
        f"{name}: {min(compared(one, random).p for one in pairs_of(AGAINST_NUMPY, haploids, many)):.3g}"
        for name, many in controls.items()
    ]
    diploids = {
        "fwdpy11, 50 Morgans": fwdpy11_populations(seeds[: args.diploids], EFFECT, "free", args.generations),
        "NumPy, free recombination": numpy_populations(seeds, args.generations, is_diploid=True),
    }
    if not args.no_write:
        draw(pairs, verdicts)
    means = (ours.mean(0) - theirs.mean(0)) / np.hypot(stats.sem(ours), stats.sem(theirs))
    worst, least = float(np.abs(means).max()), min(one.p for one in verdicts)
    neutral = mutagrad.theory.population.fixation_time(0.0, NUMBER, "wright_fisher")
    sections = [
        f"{args.replicates:,} samples of {SAMPLES} of {NUMBER} genomes, {RATE} mutations a genome; {args.populations} "
        f"populations of {args.generations:,} generations, the second half of which is counted; effects under selection are "
        f"normal, {EFFECT}.",
        table(pairs, verdicts),
        f"The smallest of {len(pairs)} p is {least:.3g}; one below {bound:.2g} is met by chance in at most {FALSE_ALARM:.0%} of "
        f"such tables: {'agrees' if least > bound else 'DOES NOT AGREE'}.",
        f"Controls, selected with free recombination, smallest of four p: {'; '.join(told)}. Below {bound:.2g} is told apart.",
        f"Site-frequency spectrum, 1 to {SAMPLES - 1} carriers, difference of means in errors: "
        f"{', '.join(f'{score:.2f}' for score in means)}. The largest of nine passes 4 by chance once in 1,800: "
        f"{'agrees' if worst < 4 else 'DOES NOT AGREE'}.",
        f"Exact: {neutral:.4g} generations to the fixation of a neutral mutation, and {RATE * args.generations / 2:g} of them "
        "fixed in the second half of a population.",
        "Diploids, selected with recombination, mutations fixed in a population: "
        + "; ".join(f"{name}: {number_fixed(many)}" for name, many in diploids.items())
        + f". Haploids: {number_fixed(haploids)} here, {number_fixed(theirs_of[AGAINST_NUMPY])} in NumPy.",
        "![quantiles](genomes.png)",
    ]
    common.report("genomes", sections, args, "", time.perf_counter() - start)


if __name__ == "__main__":
    main()
