"""Independent simulators, run in an environment of their own (make oracle): JSON settings in, JSON out.

fwdpy11 is under the GPL, and so is this script's output no part of the library and fwdpy11 no dependency of it.
"""

import json
import sys
import time

import numpy as np

FAR = 1000.0
"""An optimum whose distance is its variance: fitness e^{−(g − FAR)²/(2 FAR)} is e^g but for a constant and g²/(2 FAR)."""


class _Fixed:
    """When each mutation was first of all 2n genomes, by the counts of every generation.

    The population's own list of fixations is not asked: of 672 mutations that reached the count 2n in four runs it had 627.
    """

    def __init__(self, size):
        self.size, self.at = size, {}

    def __call__(self, population, _):
        for key in np.flatnonzero(np.array(population.mcounts, copy=False) == 2 * self.size):
            one = population.mutations[int(key)]
            self.at.setdefault((one.g, one.pos, one.s), population.generation)


def _fwdpy11(size, rate, morgans, generations, seed, effect, fixed=None, is_exponential=False):
    """A diploid population after so many generations, and the seconds that they took."""
    import fwdpy11

    value = fwdpy11.Multiplicative(2.0)
    if is_exponential:
        far = fwdpy11.GaussianStabilizingSelection.single_trait([fwdpy11.Optimum(when=0, optimum=FAR, VS=FAR)])
        # That fixed mutations are pruned changes such a fitness by a constant.
        value = fwdpy11.Additive(2.0, far)
    population = fwdpy11.DiploidPopulation(size, 1.0)
    params = fwdpy11.ModelParams(
        nregions=[],
        sregions=[fwdpy11.GaussianS(0, 1, 1, effect)] if effect else [fwdpy11.ConstantS(0, 1, 1, 1e-12)],
        recregions=[fwdpy11.PoissonInterval(0, 1, morgans)] if morgans else [],
        rates=(0, rate, None),
        gvalue=value,
        prune_selected=True,
        simlen=generations,
        demography=fwdpy11.ForwardDemesGraph.tubes([size], burnin=generations, burnin_is_exact=True),
    )
    start = time.perf_counter()
    settings = {"suppress_table_indexing": True, "track_mutation_counts": fixed is not None}
    fwdpy11.evolvets(fwdpy11.GSLrng(seed), population, params, 100, fixed, **settings)
    return population, time.perf_counter() - start


def speed(size, rate, morgans, generations, seed, effect):
    """Generations per second of 2n genomes, and how many mutations segregate at the end."""
    population, seconds = _fwdpy11(size, rate, morgans, generations, seed, effect)
    counts = np.array(population.mcounts)
    return {"rate": generations / seconds, "segregating": int(np.sum((counts > 0) & (counts < 2 * size)))}


def populations(size, rate, morgans, generations, seeds, effect):
    """Of each population of 2n genomes with fitness e^{sum of effects}: ages [generations] and effects of the mutations that were
    fixed in the second half, and frequencies of those that segregate at the end."""
    found = []
    for seed in seeds:
        fixed = _Fixed(size)
        population, _ = _fwdpy11(size, rate, morgans, generations, seed, effect, fixed, is_exponential=True)
        (births, _, effects), times = np.array(list(fixed.at)).T, np.array(list(fixed.at.values()))
        late, counts = times > generations // 2, np.array(population.mcounts)
        frequencies = counts[(counts > 0) & (counts < 2 * size)] / (2 * size)
        kept = {"times": (times - births)[late], "effects": effects[late], "frequencies": frequencies}
        found.append({name: values.tolist() for name, values in kept.items()})
    return {"populations": found}


def spectra(size, rate, samples, replicates, seed):
    """Site-frequency spectra of samples of n genomes, those of n/2 diploids, without recombination, backwards."""
    import msprime

    rows = []
    ancestries = msprime.sim_ancestry(
        samples=[msprime.SampleSet(samples, ploidy=1)],
        population_size=size // 2,
        model="dtwf",
        sequence_length=1,
        discrete_genome=False,
        num_replicates=replicates,
        random_seed=seed,
    )
    for i, tree in enumerate(ancestries):
        mutated = msprime.sim_mutations(tree, rate=rate, discrete_genome=False, random_seed=seed + 1 + i)
        rows.append(mutated.allele_frequency_spectrum(span_normalise=False, polarised=True)[1:samples].tolist())
    return {"spectra": rows}


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](**json.loads(sys.argv[2]))))
