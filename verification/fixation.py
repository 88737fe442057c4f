"""Fixation in large populations, and the genomes of a sample, by `mutagrad.population` against exact laws.

- One mutation at a time: as soon as one is fixed or lost the next arises. The share that is fixed against the exact chain, and
  against Kimura's formula: Wright and Fisher's model of 1,000 genomes, Moran's of 100.
- Without recombination and selection: how many of ten sampled genomes differ, and how often none do, against Ewens, whose formula
  is exact in Moran's model with θ = nu/(1 − u), u the chance that a birth mutates.
- Memory of 10,000 genomes of 10,000 parameters, with room for 2,048 mutations.

A difference passes 4 standard errors by chance once in 16,000.

    python -m verification.fixation

writes verification/results/fixation.md; with --no-write it only prints.
"""

import math
import resource
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import mutagrad
from benchmarks.common import table
from mutagrad.lab.claims.sourbut2022.moving_parts import followed
from mutagrad.lab.claims.sourbut2022.populations import Population, constant
from mutagrad.theory import population as genetics
from verification.common import arguments, report, versions

LANES = 64
"""Populations beside each other."""
SELECTION = (-1.0, 0.0, 2.0, 10.0)
"""n times the selection coefficient."""
SAMPLE, MORAN = 10, 20


def fixed_of(model: str, number: int, s: float, generations: int, key: int) -> tuple[int, int]:
    """Mutations that were fixed, of how many; each is followed to its end."""
    population = Population.of(1.0, 1.0, number, 0.0, model, True, constant())

    @jax.jit
    def run(key: jax.Array) -> Any:
        def step(i: Any, state: Any) -> Any:
            # Mutations change the parameter by 1, and the logarithm of fitness by s.
            after, told = population.step(jax.random.fold_in(key, i), state, lambda x: -s * x[0])
            return after, told.is_fixed.astype(int), told.is_new

        return followed(step, population.resting.init(jnp.zeros(1)), 0, generations)

    fixed, arisen = jax.vmap(run)(jax.random.split(jax.random.key(key), LANES))
    return int(np.sum(arisen)), int(np.sum(fixed))


def fixation(model: str, number: int, generations: int) -> list[list[str]]:
    rows = []
    for place, scaled in enumerate(SELECTION):
        s = scaled / number
        arisen, fixed = fixed_of(model, number, s, generations, 7000 + 100 * number + place)
        exact = float(genetics.fixation_by(math.inf, s, number, model))
        kimura = float(genetics.fixation_probability(s, number, model))
        error = math.sqrt(exact * (1 - exact) / arisen)
        share = fixed / arisen
        rows.append(
            [
                f"{model}, n = {number:,}, ns = {scaled:g}",
                f"{fixed:,} of {arisen:,}",
                f"{share:.5f}",
                f"{exact:.5f}",
                f"{kimura:.5f}",
                f"{(share - exact) / error:+.2f}",
            ]
        )
    return rows


def alleles(rate: float, populations: int, births: int) -> list[list[str]]:
    """Different genomes in samples of Moran's populations, without selection."""
    algorithm = mutagrad.population(1.0, 0.0, MORAN, rate, recombination="none", num_replaced=1, capacity=128)

    @jax.jit
    def run(key: jax.Array) -> jax.Array:
        def body(i: Any, state: Any) -> Any:
            return algorithm.step(jax.random.fold_in(key, i), state, lambda x: 0.0 * x[0])[0]

        state = jax.lax.fori_loop(0, births, body, algorithm.init(jnp.zeros(1)))
        sample = state.carriers[:SAMPLE]
        is_same = jnp.all(sample[:, None] == sample[None], axis=2)
        return jnp.sum(~jnp.any(jnp.tril(is_same, -1), axis=1))

    keys = jax.random.split(jax.random.key(23), populations)
    numbers = np.asarray(jax.lax.map(run, keys, batch_size=LANES))
    u = -math.expm1(-rate)
    theta = MORAN * u / (1 - u)
    mean = genetics.expected_num_alleles(SAMPLE, theta)
    alike = genetics.ewens_probability([SAMPLE], theta)
    own = [
        ("different genomes", numbers.mean(), numbers.std(ddof=1), mean),
        ("all ten alike", np.mean(numbers == 1), math.sqrt(alike * (1 - alike)), alike),
    ]
    return [
        [
            f"{what}, θ = {theta:.3g}",
            f"{populations:,}",
            f"{found:.4f}",
            f"{law:.4f}",
            f"{(found - law) / spread * math.sqrt(populations):+.2f}",
        ]
        for what, found, spread, law in own
    ]


def memory(generations: int) -> str:
    algorithm = mutagrad.population(0.01, 1.0, 10_000, 0.01, capacity=2048)
    start, began = jnp.ones(10_000), time.perf_counter()
    result = mutagrad.evolve(
        jax.random.key(0), algorithm, start, lambda x: jnp.mean(jnp.square(x)), generations, progress=False
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    segregating = int(jnp.sum(result.state.is_segregating))
    seconds = (time.perf_counter() - began) / generations
    return (
        f"10,000 genomes of 10,000 parameters with room for 2,048 mutations, {segregating:,} of which segregate after "
        f"{generations} generations: {peak:.2f} GiB at most with the interpreter and JAX, {seconds:.1f} s a generation, "
        "compilation counted in."
    )


def main() -> None:
    args = arguments(__doc__, generations=10_000, births=50_000, populations=4000)
    start = time.perf_counter()
    words = memory(10)
    fixed = fixation("wright_fisher", 1000, args.generations) + fixation("moran", 100, args.births)
    sampled = [row for rate in (0.02, 0.1) for row in alleles(rate, args.populations, 20 * MORAN**2)]
    sections = [
        table(["model", "fixed", "share", "exact chain", "Kimura, or Moran's formula", "difference, in errors"], fixed),
        table(
            [f"{SAMPLE} of {MORAN} genomes, Moran", "populations", "found", "Ewens", "difference, in errors"], sampled
        ),
        words,
    ]
    report("fixation", sections, args, "; " + versions("jax"), time.perf_counter() - start)


if __name__ == "__main__":
    main()
