"""What a generation costs when the loss costs nothing: f(x) = Σx², N = 100.

Run with ``python -m benchmarks.overhead``. Demanded: 20,000 generations per second of `mutagrad.evolve` at M = 1.
"""

import statistics

import jax.numpy as jnp

import mutagrad
from benchmarks import common

SIGMA = 0.01
DEMANDED = 20_000


def loss(x, data=None):
    return jnp.sum(jnp.square(x))


def main() -> None:
    args = common.arguments(__doc__, num_parameters=100, generations=40_000)
    params = jnp.ones(args.num_parameters)
    references = {}
    for size in (1, 20):
        generation, state = common.evosax_hill_climbing(params, loss, SIGMA, size)
        references[size] = common.looped(generation, state, None, args.generations)
    algorithms = {
        "greedy": mutagrad.greedy(SIGMA),
        "adapt_sigma(greedy)": mutagrad.adapt_sigma(mutagrad.greedy(SIGMA)),
        "elitist, M = 20": mutagrad.elitist(SIGMA, 20),
        "adapt_sigma(elitist, M = 20)": mutagrad.adapt_sigma(mutagrad.elitist(SIGMA, 20)),
    }
    runs = {"evosax HillClimbing, M = 1": references[1], "evosax HillClimbing, M = 20": references[20]}
    for name, algorithm in algorithms.items():
        generation = common.our_generation(algorithm, loss)
        runs[f"{name}: step in a scan"] = common.looped(generation, algorithm.init(params), None, args.generations)
        runs[f"{name}: evolve"] = common.evolved(algorithm, params, loss, None, args.generations)
    rates = common.interleaved(runs, args.repetitions)
    rows = []
    for name, values in rates.items():
        reference = "evosax HillClimbing, M = 20" if "M = 20" in name else "evosax HillClimbing, M = 1"
        rows.append([name, common.spread(values), common.ratio(values, rates[reference])])
    reached = statistics.median(rates["greedy: evolve"])
    sections = [
        f"Loss Σx², N = {args.num_parameters}, {args.generations} generations a run.",
        common.table(["run", "generations/s: median (min to max)", "times evosax with the same M"], rows),
        f"Demanded of `evolve` with greedy: {DEMANDED} generations/s. Reached: {reached:.0f} "
        f"({'met' if reached >= DEMANDED else 'NOT MET'}).",
    ]
    common.report("overhead", sections, args)


if __name__ == "__main__":
    main()
