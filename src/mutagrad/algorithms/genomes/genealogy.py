"""Genealogies of a population, as a tree sequence for those who have tools for them."""

import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from mutagrad import check
from mutagrad.algorithms.genomes.genomes import GenomeState

__all__ = ["record_genealogy", "tree_sequence"]


def record_genealogy(state: GenomeState, info: Any) -> dict[str, jax.Array]:
    """What `tree_sequence` needs of a generation: pass it as ``record``, or join it to what you record.

    Parents of each genome, what it has from the second of them, and the mutations that arose, with seed, σ and owner: about
    n (L/32 + 2) + 4L words a generation.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> algorithm = mutagrad.population(0.1, 1.0, 8, 0.2, recombination="none")
    >>> state, info = algorithm.step(jax.random.key(0), algorithm.init(jnp.zeros(2)), lambda x: jnp.sum(x**2))
    >>> mutagrad.record_genealogy(state, info)["parents"].shape
    (8, 2)
    """
    return {
        "generation": state.generation,
        "parents": info.turnover.parents,
        "from_second": info.turnover.from_second,
        "owners": info.turnover.owners,
        "seeds": state.seeds,
        "scales": state.scales,
        "positions": state.positions,
    }


def tree_sequence(history: Any, effect_fn: Callable[[list[int], float], Any] | None = None) -> Any:
    """The ancestry of the last genomes of a run, as a ``tskit.TreeSequence``, with the mutations on it.

    Samples are the genomes of the last generation, in their order. Sites are mutations that segregate, and those that were fixed.
    Time is generations ago. A site is a mutation's place on the chromosome, from 0 to 1; the mutation's metadata are JSON: its
    seed (two words), σ, the generation in which it arose, and its effect, if you say what to write of it.
    Between two mutations of different parents the chromosome is cut half way: where exactly, nothing in the run says.

    Parameters
    ----------
    history : of a whole run, from its first generation on, with what `record_genealogy` returns.
    effect_fn : ``effect_fn(seed, sigma)`` returns what the metadata say of the effect, a number or a list of numbers:
        `mutation_effect` of these two, as a list, or its component along a trait.

    Returns
    -------
    ``tskit.TreeSequence``, simplified.

    Raises
    ------
    ValueError : if the history holds no genealogy, or not all of it.
    ImportError : without tskit; install ``mutagrad[genealogy]``.

    Domain: recombination "none" or "crossover". With "free" and "transfer" nearly every mutation has a tree of its own, and the
    tables grow like n times their number in every generation.

    Source: Kelleher et al. 2018 (PLoS Comput. Biol. 14, e1006581), for the tables; tested in tests/algorithms/test_genealogy.py.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> algorithm = mutagrad.population(0.1, 1.0, 8, 0.2, recombination="none")
    >>> loss_fn, record = lambda x: jnp.sum(x**2), mutagrad.record_genealogy
    >>> result = mutagrad.evolve(jax.random.key(0), algorithm, jnp.zeros(2), loss_fn, 50, record=record, progress=False)
    >>> mutagrad.tree_sequence(result.history).num_samples
    8
    """
    check.installed("tskit", "tree sequences (pip install tskit)")
    import tskit

    names = ("generation", "parents", "from_second", "owners", "seeds", "scales", "positions")
    if not isinstance(history, dict) or not set(names) <= set(history):
        raise ValueError(
            "history: got one without a genealogy; pass that of a run with record=mutagrad.record_genealogy"
        )
    numbers, parents, from_second, owners, seeds, scales, positions = (np.asarray(history[name]) for name in names)
    if not numbers.size:
        raise ValueError("history: got one of no generations; pass that of a run of one or more")
    if not np.array_equal(numbers, np.arange(1, len(numbers) + 1)):
        raise ValueError(
            f"history: got generations {numbers[0]} to {numbers[-1]}, {len(numbers)} of them; pass all from the first one on"
        )
    generations, number = parents.shape[:2]
    tables = tskit.TableCollection(sequence_length=1.0)
    tables.time_units = "generations"
    tables.mutations.metadata_schema = tskit.MetadataSchema({"codec": "json"})
    for generation in range(generations + 1):
        is_last = generation == generations
        tables.nodes.append_columns(
            flags=np.full(number, tskit.NODE_IS_SAMPLE if is_last else 0, np.uint32),
            time=np.full(number, float(generations - generation)),
        )
    # All genomes of the start are copies of one: it is their parent, so that no sample is without an ancestor.
    root = tables.nodes.add_row(time=float(generations + 1))
    for founder in range(number):
        tables.edges.add_row(0.0, 1.0, root, founder)
    is_present, taken = np.zeros(owners.shape[1], bool), set()
    for generation in range(generations):
        children = (generation + 1) * number + np.arange(number)
        # What is known of where a genome was cut are the mutations that there were.
        known = np.flatnonzero(is_present)
        known = known[np.argsort(positions[generation - 1][known])] if generation else known
        places = positions[generation - 1][known] if generation else np.zeros(0)
        from_bits = np.unpackbits(from_second[generation].view(np.uint8), axis=1, bitorder="little")[:, known]
        for i, (pair, cuts) in enumerate(zip(parents[generation], from_bits, strict=True)):
            if pair[0] == pair[1] or not len(cuts) or not (cuts != cuts[0]).any():
                source = pair[int(cuts[0]) if len(cuts) else 0]
                tables.edges.add_row(0.0, 1.0, generation * number + source, children[i])
                continue
            changes = np.flatnonzero(np.diff(cuts)) + 1
            ends = [0.0, *((places[changes - 1] + places[changes]) / 2), 1.0]
            for left, right, start in zip(ends, ends[1:], [0, *changes], strict=False):
                if right > left:
                    tables.edges.add_row(left, right, generation * number + pair[cuts[start]], children[i])
        for slot in np.flatnonzero(owners[generation] >= 0):
            # Two mutations at one place would share a site, and hide each other there.
            place = float(positions[generation][slot])
            while place in taken:
                place = float(np.nextafter(place, 1.0))
            taken.add(place)
            site = tables.sites.add_row(place, "0")
            tables.mutations.add_row(
                site=site,
                node=int(children[owners[generation][slot]]),
                derived_state="1",
                time=float(generations - generation - 1),
                metadata=_described(seeds[generation][slot], scales[generation][slot], generation + 1, effect_fn),
            )
            is_present[slot] = True
    tables.provenances.add_row(json.dumps({"software": {"name": "mutagrad"}}))
    tables.sort()
    tables.deduplicate_sites()
    tables.build_index()
    tables.compute_mutation_parents()
    tables.simplify()
    return tables.tree_sequence()


def _described(
    seed: Any, sigma: Any, generation: int, effect_fn: Callable[[list[int], float], Any] | None
) -> dict[str, Any]:
    words, scale = [int(word) for word in seed], float(sigma)
    found: dict[str, Any] = {"seed": words, "sigma": scale, "generation": generation}
    if effect_fn is not None:
        effect = effect_fn(words, scale)
        try:
            found["effect"] = np.asarray(effect, np.float64).tolist()
        except (TypeError, ValueError):
            raise ValueError(f"effect_fn: got {effect!r} back; return a number or a list of numbers") from None
    return found
