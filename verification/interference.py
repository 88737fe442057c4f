"""How much slower a population descends than one mutation at a time would: numbers of docs/populations.md.

Mutations that segregate at once disturb each other; without recombination they compete; around an optimum selection takes
variation away. Each number is a mean over independent populations, with its standard error.

    python -m verification.interference

writes verification/results/interference.md; with --no-write it only prints.
"""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

import mutagrad
from benchmarks.common import table
from mutagrad.theory import population as genetics
from verification.common import arguments, report, versions

BURN = 1000
"""Generations that do not count."""


def _means(args: Any, key: int, algorithm: Any, loss_fn: Any, record: Any) -> np.ndarray:
    """What is recorded in each generation of each population, after the first ones."""
    found = []
    for own in jax.random.split(jax.random.key(key), args.populations):
        start, number = jnp.zeros(1), BURN + args.generations
        result = mutagrad.evolve(own, algorithm, start, loss_fn, number, record=record, progress=False)
        found.append(np.asarray(result.history, np.float64)[BURN:])
    return np.stack(found)


def _mean(values: np.ndarray) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))


def _slope(x: jax.Array) -> jax.Array:
    return -x[0]


def on_a_slope(args: Any, mutation_rate: float) -> tuple[float, float]:
    """The rate of the fixed part on a constant slope, over that of mutations which are fixed one at a time."""
    size, strength = 200, 0.1
    algorithm = mutagrad.population(strength, 1.0, size, mutation_rate)
    z = np.linspace(-8, 8, 16_001)
    fixed = np.asarray(genetics.fixation_probability(strength * z, size, "wright_fisher"), np.float64)
    mean = np.trapezoid(z * fixed * stats.norm.pdf(z), z)
    places = _means(args, 11, algorithm, _slope, lambda state, info: state.params[0])
    rates = (places[:, -1] - places[:, 0]) / (places.shape[1] - 1)
    return _mean(rates / (size * mutation_rate * strength * mean))


def fixed_with(args: Any, recombination: str, rate: float | None) -> tuple[float, float]:
    """Mutations of one advantage that are fixed in a generation, of ten that arise."""
    density = mutagrad.Mutation(lambda key, params: jnp.ones_like(params), "one effect")
    algorithm = mutagrad.population(
        0.05, 1.0, 500, 0.02, recombination=recombination, recombination_rate=rate, mutation=density, capacity=4096
    )
    found = _means(args, 12, algorithm, _slope, lambda state, info: info.turnover.num_fixed)
    return _mean(found.mean(axis=1))


def variance_around(args: Any, pull: float) -> tuple[float, float]:
    """The genetic variance around an optimum over the neutral one."""
    size, rate, sigma = 100, 0.1, 0.1
    curvature = pull / (size * sigma**2)
    algorithm = mutagrad.population(sigma, 1.0, size, rate)

    def variance(state: Any, info: Any) -> jax.Array:
        return jnp.var(algorithm.ask(jax.random.key(0), state).stacked()[:, 0], ddof=1)

    found = _means(args, 13, algorithm, lambda x: 0.5 * curvature * x[0] ** 2, variance)
    return _mean(found.mean(axis=1) / (rate * (size - 1) * sigma**2))


def main() -> None:
    args = arguments(__doc__, populations=8, generations=4000)
    start = time.perf_counter()
    slope = [on_a_slope(args, rate) for rate in (0.1, 0.01)]
    free, crossover, none = (fixed_with(args, *one) for one in (("free", None), ("crossover", 1.0), ("none", None)))
    around = [(pull, variance_around(args, pull)) for pull in (0.0, 1.0, 5.0)]
    rows = [
        ["rate on a slope, μ = 0.1", *_shown(slope[0]), "n = 200, βσ|∇U| = 0.1, over the law of single mutations"],
        ["rate on a slope, μ = 0.01", *_shown(slope[1]), "the same"],
        ["fixed of ten a generation, free recombination", *_shown(free), "n = 500, s = 0.05"],
        ["one crossover", *_shown(_over(crossover, free)), "over free recombination"],
        ["no recombination", *_shown(_over(none, free)), "over free recombination"],
        *(
            [f"genetic variance, nβσ²λ = {pull:g}", *_shown(found), "n = 100, over μ(n − 1)σ²"]
            for pull, found in around
        ),
    ]
    words = (
        f"{args.populations} populations of {args.generations:,} generations each, after {BURN:,} that do not count."
    )
    sections = [words, table(["what", "value", "standard error", "of what"], rows)]
    report("interference", sections, args, "; " + versions("jax"), time.perf_counter() - start)


def _over(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    ratio = one[0] / other[0]
    return ratio, ratio * float(np.hypot(one[1] / one[0], other[1] / other[0]))


def _shown(found: tuple[float, float]) -> list[str]:
    return [f"{found[0]:.3g}", f"{found[1]:.2g}"]


if __name__ == "__main__":
    main()
