"""Mutations that are fixed in haploids and in diploids, with free recombination: NumPy alone, and no code of the library.

In a diploid a mutation is chosen with its partner's effects, so that mutations disturb each other more: by the argument of
Robertson (1961) as if there were n/(1 + 8V) genomes in place of n/(1 + 4V), V the variance of ln w among haploid genomes. Run
with ``python -m verification.oracles.diploids --populations 500``: 100 genomes, 0.05 mutations of each a generation, normal
effects of 0.03 in ln w, the second half of 1,500 generations. On 2026-11-29: haploids 93.5 ± 0.4, diploids 91.4 ± 0.4 fixed
mutations.
"""

import argparse

import numpy as np

NUMBER, RATE, EFFECT, GENERATIONS, SLOTS = 100, 0.05, 0.03, 1500, 400


def fixed(random: np.random.Generator, is_diploid: bool) -> int:
    """How many mutations are fixed in the second half of one population."""
    genomes, effects, is_free = np.zeros((NUMBER, SLOTS), bool), np.zeros(SLOTS), np.ones(SLOTS, bool)
    total = 0
    for generation in range(GENERATIONS):
        fitness = np.exp(genomes @ effects)
        if is_diploid:
            pairs = fitness[0::2] * fitness[1::2]
            parents = random.choice(NUMBER // 2, NUMBER, p=pairs / pairs.sum())
            first, second = 2 * parents, 2 * parents + 1
        else:
            first, second = random.choice(NUMBER, (2, NUMBER), p=fitness / fitness.sum())
        genomes = np.where(random.random(genomes.shape) < 0.5, genomes[first], genomes[second])
        slots = np.flatnonzero(is_free)[: random.poisson(RATE * NUMBER)]
        genomes[random.integers(0, NUMBER, len(slots)), slots] = True
        effects[slots], is_free[slots] = EFFECT * random.normal(size=len(slots)), False
        counts = genomes.sum(0)
        is_fixed = counts == NUMBER
        total += int(is_fixed.sum()) if generation >= GENERATIONS // 2 else 0
        is_gone = is_fixed | (counts == 0)
        genomes[:, is_fixed], effects[is_gone], is_free[is_gone] = False, 0, True
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--populations", type=int, default=500)
    number = parser.parse_args().populations
    for is_diploid in (False, True):
        found = [fixed(np.random.default_rng(1000 * is_diploid + seed), is_diploid) for seed in range(number)]
        error = np.std(found, ddof=1) / number**0.5
        print(f"{'diploids' if is_diploid else 'haploids'}: {np.mean(found):.2f} ± {error:.2f} fixed in a population")


if __name__ == "__main__":
    main()
