"""Haploids and diploids, forwards in time, with free recombination: NumPy alone, and no code of the library."""

import numpy as np

SLOTS = 400


def population(
    seed: int, is_diploid: bool, number: int, rate: float, effect: float, share: float, generations: int
) -> dict[str, np.ndarray]:
    """Ages and effects of mutations that were fixed in the second half, and frequencies of those that segregate at the end.

    Fitness is e^{sum of effects}, of both genomes in a diploid; ``share`` of a gamete is from the second genome.
    """
    random = np.random.default_rng(seed)
    genomes, effects, is_free = np.zeros((number, SLOTS), bool), np.zeros(SLOTS), np.ones(SLOTS, bool)
    births, fixed = np.zeros(SLOTS, int), []
    for generation in range(1, generations + 1):
        fitness = np.exp(genomes @ effects)
        if is_diploid:
            pairs = fitness[0::2] * fitness[1::2]
            parents = random.choice(number // 2, number, p=pairs / pairs.sum())
            which = random.integers(0, 2, number)
            first, second = 2 * parents + which, 2 * parents + 1 - which
        else:
            first, second = random.choice(number, (2, number), p=fitness / fitness.sum())
        genomes = np.where(random.random(genomes.shape) < share, genomes[second], genomes[first])
        slots = np.flatnonzero(is_free)[: random.poisson(rate * number)]
        genomes[random.integers(0, number, len(slots)), slots] = True
        effects[slots], births[slots], is_free[slots] = effect * random.normal(size=len(slots)), generation, False
        counts = genomes.sum(0)
        is_fixed = counts == number
        if generation > generations // 2:
            fixed += list(zip(generation - births[is_fixed], effects[is_fixed], strict=True))
        is_gone = is_fixed | (counts == 0)
        genomes[:, is_fixed], effects[is_gone], is_free[is_gone] = False, 0, True
    times, kept = np.array(fixed, float).reshape(-1, 2).T
    counts = genomes.sum(0)
    return {"times": times, "effects": kept, "frequencies": counts[counts > 0] / number}
