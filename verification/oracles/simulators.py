"""Independent simulators, run in an environment of their own (make oracle): JSON settings in, JSON out.

fwdpy11 is under the GPL, and so is this script's output no part of the library and fwdpy11 no dependency of it.
"""

import json
import sys
import time

import numpy as np


def _fwdpy11(size, rate, morgans, generations, seed, effect, is_counted=False):
    """A diploid population after so many generations, and the seconds that they took."""
    import fwdpy11

    population = fwdpy11.DiploidPopulation(size, 1.0)
    params = fwdpy11.ModelParams(
        nregions=[],
        sregions=[fwdpy11.GaussianS(0, 1, 1, effect)] if effect else [fwdpy11.ConstantS(0, 1, 1, 1e-12)],
        recregions=[fwdpy11.PoissonInterval(0, 1, morgans)] if morgans else [],
        rates=(0, rate, None),
        gvalue=fwdpy11.Multiplicative(2.0),
        prune_selected=True,
        simlen=generations,
        demography=fwdpy11.ForwardDemesGraph.tubes([size], burnin=generations, burnin_is_exact=True),
    )
    start = time.perf_counter()
    fwdpy11.evolvets(
        fwdpy11.GSLrng(seed), population, params, 100, suppress_table_indexing=True, track_mutation_counts=is_counted
    )
    return population, time.perf_counter() - start


def speed(size, rate, morgans, generations, seed, effect):
    """Generations per second of 2n genomes, and how many mutations segregate at the end."""
    population, seconds = _fwdpy11(size, rate, morgans, generations, seed, effect)
    counts = np.array(population.mcounts)
    return {"rate": generations / seconds, "segregating": int(np.sum((counts > 0) & (counts < 2 * size)))}


def fixations(size, rate, morgans, generations, seeds):
    """Times to fixation [generations] of neutral mutations of 2n genomes, by population, after a burn-in of half."""
    found = []
    for seed in seeds:
        population, _ = _fwdpy11(size, rate, morgans, generations, seed, 0.0, is_counted=True)
        times, births = np.array(population.fixation_times), np.array([one.g for one in population.fixations])
        late = times > generations // 2
        found.append((times - births)[late].tolist())
    return {"times": found}


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
