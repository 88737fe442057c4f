"""Tree sequences of a population: tskit's genotypes are the carriers, its statistics are ours, its trees those of the parents."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mutagrad
from mutagrad.algorithms.genomes import bits

SIZE, GENERATIONS = 20, 60


def run(generations=GENERATIONS, **options):
    algorithm = mutagrad.population(0.1, 0.5, SIZE, 0.3, **options)
    return mutagrad.evolve(
        jax.random.key(1),
        algorithm,
        jnp.ones(3),
        lambda x: jnp.sum(x**2),
        generations,
        record=mutagrad.record_genealogy,
        progress=False,
    )


CASES = {
    "asexual": {"recombination": "none"},
    "demes": {"recombination": "none", "num_demes": 2, "migration": 0.1},
    "moran": {"recombination": "none", "num_replaced": 4},
    "linked": {"recombination": "crossover", "recombination_rate": 1.5},
}


@pytest.fixture(scope="module", params=CASES)
def both(request):
    pytest.importorskip("tskit")
    result = run(**CASES[request.param])
    return result, mutagrad.tree_sequence(result.history)


def test_genotypes_are_the_carriers(both):
    """Every segregating mutation is found by its seed, carried by the samples that are its genomes; fixed ones by all."""
    result, trees = both
    state = result.state
    carried = np.asarray(bits.unpack(state.carriers))
    slots = {tuple(np.asarray(state.seeds)[slot].tolist()): slot for slot in np.flatnonzero(state.is_segregating)}
    found = 0
    for variant in trees.variants():
        seed = tuple(variant.site.mutations[0].metadata["seed"])
        if seed in slots:
            np.testing.assert_array_equal(variant.genotypes, carried[:, slots[seed]])
            assert variant.site.mutations[0].metadata["sigma"] == pytest.approx(0.1)
            age = int(state.generation) - int(state.births[slots[seed]])
            assert variant.site.mutations[0].time == age
            found += 1
        else:
            assert variant.genotypes.all()
    assert found == len(slots) > 5


def test_statistics_agree(both):
    """tskit's diversity draws two genomes without replacement, ours with it."""
    result, trees = both
    diversity = float(trees.diversity(span_normalise=False)) * (SIZE - 1) / SIZE
    assert diversity == pytest.approx(float(result.state.heterozygosity), rel=1e-5)
    spectrum = trees.allele_frequency_spectrum(span_normalise=False, polarised=True)
    copies = np.asarray(bits.column_counts(result.state.carriers))
    np.testing.assert_allclose(spectrum[1:SIZE], np.bincount(copies, minlength=SIZE)[1:SIZE])


def test_trees_are_those_of_the_parents(both):
    """Where there is one parent, two genomes meet as many generations ago as their parents say."""
    result, trees = both
    parents = result.history["parents"]
    if (parents[..., 0] != parents[..., 1]).any():
        assert trees.num_trees > 1
        return
    assert trees.num_trees == 1
    for first, second in ((0, 1), (3, 17), (8, 9)):
        a, b, met = first, second, 0
        for back in parents[::-1, :, 0]:
            if a == b:
                break
            a, b, met = back[a], back[b], met + 1
        if a == b:
            assert trees.first().tmrca(first, second) == met


def test_effects_are_made_from_the_metadata(both):
    """A mutation's seed and σ make its effect again, by the algorithm's own density."""
    result, trees = both
    algorithm = mutagrad.population(0.1, 0.5, SIZE, 0.3)
    effects = algorithm.ask(jax.random.key(0), result.state).effects
    slots = {
        tuple(np.asarray(result.state.seeds)[slot].tolist()): slot
        for slot in np.flatnonzero(result.state.is_segregating)
    }
    for mutation in list(trees.mutations())[-5:]:
        again = mutagrad.mutation_effect(mutation.metadata["seed"], mutation.metadata["sigma"], jnp.ones(3))
        slot = slots.get(tuple(mutation.metadata["seed"]))
        if slot is not None:
            np.testing.assert_allclose(again, effects[slot], rtol=1e-6)


def test_metadata_hold_what_is_asked_of_the_effect(both):
    history = both[0].history
    trees = mutagrad.tree_sequence(history, lambda seed, sigma: mutagrad.mutation_effect(seed, sigma, jnp.ones(3)))
    for mutation in trees.mutations():
        again = mutagrad.mutation_effect(mutation.metadata["seed"], mutation.metadata["sigma"], jnp.ones(3))
        np.testing.assert_allclose(mutation.metadata["effect"], again, rtol=1e-6)
    assert trees.num_mutations > 0
    with pytest.raises(ValueError, match="^effect_fn: got 'long' back; return a number"):
        mutagrad.tree_sequence(history, lambda seed, sigma: "long")


def test_a_history_without_genealogy():
    pytest.importorskip("tskit")
    with pytest.raises(ValueError, match="history: got one without a genealogy; pass that of a run with record="):
        mutagrad.tree_sequence({"loss": np.zeros(3)})
    late = {name: values[3:] for name, values in run(6, recombination="none").history.items()}
    with pytest.raises(ValueError, match="history: got generations 4 to 6, 3 of them; pass all from the first one on"):
        mutagrad.tree_sequence(late)


def test_the_start_is_one_genome_and_places_are_its_own():
    # Few generations: no sample has one ancestor but the start. Few places: two mutations at each.
    history = dict(run(generations=8, recombination="crossover", recombination_rate=3.0).history)
    history["positions"] = np.round(np.asarray(history["positions"]) * 8) / 16
    trees = mutagrad.tree_sequence(history)
    assert all(tree.num_roots == 1 for tree in trees.trees())
    assert all(len(site.mutations) == 1 for site in trees.sites())
    assert trees.genotype_matrix().min() == 0
    with pytest.raises(ValueError, match="^history: got one of no generations"):
        mutagrad.tree_sequence({name: values[:0] for name, values in history.items()})
