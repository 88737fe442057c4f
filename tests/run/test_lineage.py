"""A lineage makes every generation again, bit for bit, for every algorithm and wrapper, and knows when it does not."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import mutagrad
from mutagrad.run import ancestry, journal

NUMBER = 40
START = {"w": jnp.linspace(-1, 1, 5), "b": jnp.zeros((2, 2), jnp.bfloat16), "n": jnp.arange(3)}
GROUPS = [jnp.linspace(0, 1, 3)] * 3


def loss_fn(params):
    leaves = jax.tree.leaves(params)
    return sum(jnp.sum((leaf.astype(jnp.float32) - 0.3) ** 2) for leaf in leaves)


def rough(params, batch):
    return jnp.abs(jnp.sin(7 * params["w"]).sum() - batch) + loss_fn(params)


def several(rule):
    return mutagrad.mutation_selection(mutagrad.mutation.gaussian(), rule, 8, sigma=0.1)


def blend_of_two(key, losses, parent_losses):
    """The best three, each a quarter and more of a parent too; the shares depend on the losses."""
    best = jnp.argsort(losses)[:3].astype(jnp.int32)
    share = 0.5 + 0.25 * jax.nn.sigmoid(losses[best])
    return mutagrad.Descent(jnp.stack([best, -1 - jnp.arange(3, dtype=jnp.int32)], 1), jnp.stack([share, 1 - share], 1))


def mated(key, losses, parent_losses):
    """One next parent, each parameter from the best offspring, or from the parent."""
    return mutagrad.Descent(jnp.stack([jnp.argmin(losses), -1])[None], jnp.array([[0.7, 0.3]]), "parameter")


def of_three(key, losses, parent_losses):
    """One next parent, each leaf from one of the best three."""
    return mutagrad.Descent(jnp.argsort(losses)[None, :3].astype(jnp.int32), jnp.full((1, 3), 1 / 3), "leaf")


BATCHES = mutagrad.minibatches(jnp.arange(64.0), 8)
ALGORITHMS = {
    "elitist": lambda: mutagrad.elitist(0.1, 8),
    "comma": lambda: mutagrad.comma(0.1, 8),
    "greedy": lambda: mutagrad.greedy(0.1),
    "metropolis": lambda: mutagrad.metropolis(0.1, 1.0),
    "logistic": lambda: mutagrad.logistic(0.1, 1.0),
    "boltzmann": lambda: mutagrad.boltzmann(0.1, 1.0, 8),
    "fixation": lambda: mutagrad.fixation(0.1, 1.0, 10),
    "truncation": lambda: mutagrad.truncation(0.1, 8, 3),
    "recombination": lambda: mutagrad.weighted_recombination(0.1, 8),
    "crossover": lambda: several(mutagrad.selection.crossover(3)),
    "crossover of leaves": lambda: several(mutagrad.selection.crossover(3, "leaf")),
    "blend of two": lambda: several(mutagrad.Selection(blend_of_two, num_parents=3)),
    "adapt_sigma of crossover": lambda: mutagrad.adapt_sigma(several(mutagrad.selection.crossover(3)), target=1.0),
    "alternate with crossover": lambda: mutagrad.alternate(
        [mutagrad.elitist(0.1, 8), several(mutagrad.Selection(mated)), several(mutagrad.Selection(of_three))], [2, 1, 1]
    ),
    "rotate recombination": lambda: mutagrad.rotate(
        mutagrad.weighted_recombination(0.1, 8, mutation=mutagrad.mutation.masked([True, False, False])),
        lambda groups: [*groups[1:], groups[0]],
        3,
    ),
    "population": lambda: mutagrad.population(0.05, 2.0, 20, 0.3),
    "adapt_sigma": lambda: mutagrad.adapt_sigma(mutagrad.elitist(0.1, 8)),
    "adapt_sigma of recombination": lambda: mutagrad.adapt_sigma(mutagrad.weighted_recombination(0.1, 8)),
    "schedule_sigma": lambda: mutagrad.schedule_sigma(mutagrad.elitist(0.1, 8), optax.exponential_decay(0.1, 10, 0.5)),
    "kept loss": lambda: mutagrad.mutation_selection(
        mutagrad.mutation.gaussian(), mutagrad.selection.elitist(), 8, sigma=0.1, reevaluate_parent=False
    ),
    "alternate": lambda: mutagrad.alternate([mutagrad.elitist(0.1, 8), mutagrad.elitist(0.01, 8)], [2, 3]),
    "rotate": lambda: mutagrad.rotate(
        mutagrad.adapt_sigma(mutagrad.elitist(0.1, 8, mutation=mutagrad.mutation.masked([True, False, False]))),
        lambda groups: [*groups[1:], groups[0]],
        3,
    ),
}  # fmt: skip


def run(folder, algorithm, number=NUMBER, start=START, generator=None, **options):
    return mutagrad.evolve(
        jax.random.key(3, impl=generator), algorithm, start, options.pop("loss_fn", loss_fn), number, checkpoint=folder,
        progress=False, **options,
    )  # fmt: skip


def assert_same(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("generator", ["threefry2x32", "rbg", "unsafe_rbg"])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_generation_is_made_again(name, generator, tmp_path):
    """Two sittings, the second continued; the last generation and one in between are those of the run."""
    algorithm, start = ALGORITHMS[name](), GROUPS if name.startswith("rotate") else START
    between = run(tmp_path, algorithm, 17, start, generator)
    result = run(tmp_path, algorithm, NUMBER, start, generator)
    again = mutagrad.replay(tmp_path, algorithm, start)
    assert (again.generation, again.num_generations) == (NUMBER, NUMBER)
    assert_same(again.params, result.params)
    assert_same(mutagrad.replay(tmp_path, algorithm, start, 17).params, between.params)
    if hasattr(again.parents, "keys") and hasattr(result.state, "parents"):
        assert_same(again.parents, result.state.parents)
    if name == "population":
        assert_same(again.parents, result.state)


@pytest.mark.parametrize("evaluation", ["mapped", "vectorized", 3, mutagrad.executor()])
def test_whatever_evaluates(evaluation, tmp_path):
    """On batches, where the parent before is evaluated too, and by Python."""
    algorithm = mutagrad.adapt_sigma(mutagrad.elitist(0.1, 8))
    result = run(tmp_path, algorithm, loss_fn=rough, batches=BATCHES, evaluation=evaluation)
    assert_same(mutagrad.replay(tmp_path, algorithm, START).params, result.params)


@pytest.mark.parametrize("evaluation", ["mapped", "vectorized", 3, mutagrad.executor()])
@pytest.mark.parametrize("name", ["blend of two", "alternate with crossover"])
def test_several_ancestors_whatever_evaluates(name, evaluation, tmp_path):
    algorithm = ALGORITHMS[name]()
    result = run(tmp_path, algorithm, loss_fn=rough, batches=BATCHES, evaluation=evaluation)
    assert_same(mutagrad.replay(tmp_path, algorithm, START).params, result.params)


def test_bytes_of_a_generation():
    """Mother and father of three parents are six bytes, of which nobody need know that each has a half."""
    sizes = {}
    for name in ("elitist", "truncation", "crossover", "blend of two", "recombination", "alternate with crossover"):
        algorithm = ALGORITHMS[name]()
        state = algorithm.init(START)
        losses = jnp.zeros(len(algorithm.ask(jax.random.key(0), state)))
        told = jax.eval_shape(lambda state, a=algorithm, losses=losses: a.tell(jax.random.key(0), state, losses), state)
        row = jax.eval_shape(ancestry.recorder(algorithm, state), *told)
        assert ancestry.are_of(algorithm, state, jax.tree.map(lambda one: np.zeros((5, *one.shape), one.dtype), row))
        sizes[name] = sum(one.size * one.dtype.itemsize for one in row.values()) - 8  # σ and the checksum
    three = {"elitist": 1, "truncation": 3, "crossover": 6, "blend of two": 6 * (1 + 4)}
    assert sizes == three | {"recombination": 4 * (8 + 1), "alternate with crossover": 3 * (1 + 4)}


def test_a_step_that_is_taken_back_is_replayed(tmp_path):
    """Under batches half of which fail, steps to where the loss is not finite are taken back."""
    algorithm, taken_back = mutagrad.adapt_sigma(mutagrad.elitist(0.3, 8)), []

    def loss_fn(params, batch):
        w = params["w"][0]
        return jnp.where(
            (batch > 32) & (jnp.abs(jnp.sin(40 * w)) < 0.6), jnp.nan, jnp.sum(params["w"] ** 2) + 0 * batch
        )

    def watch(chunk):
        taken_back.append(np.sum(~np.isfinite(chunk.records["loss"])))

    result = run(
        tmp_path, algorithm, 300, loss_fn=loss_fn, batches=mutagrad.minibatches(jnp.arange(64.0), 1), observers=[watch]
    )
    assert sum(taken_back) > 10
    assert_same(mutagrad.replay(tmp_path, algorithm, START).params, result.params)


def test_a_result_that_went_on_is_where_its_lineage_starts(tmp_path):
    algorithm = mutagrad.truncation(0.1, 8, 3)
    first = run(None, algorithm, 10)
    last = run(tmp_path, algorithm, 30, first)
    again = mutagrad.replay(tmp_path, algorithm, first)
    assert_same(again.parents, last.state.parents)
    with pytest.raises(ValueError, match=r"^generation: got 5; the lineage holds those from 10 to 30$"):
        mutagrad.replay(tmp_path, algorithm, first, 5)


def test_the_state_of_a_population_is_where_its_lineage_starts(tmp_path):
    algorithm = ALGORITHMS["population"]()
    start = run(None, algorithm, 10).state
    last = run(tmp_path, algorithm, 30, start)
    again = mutagrad.replay(tmp_path, algorithm, start)
    assert_same(again.parents, last.state)


@pytest.mark.parametrize("name", ["elitist", "truncation", "population"])
def test_a_new_run_starts_from_what_was_replayed(name, tmp_path):
    """With all parents, or with all the variation of a population, whose generations go on."""
    algorithm = ALGORITHMS[name]()
    run(tmp_path, algorithm)
    again = mutagrad.replay(tmp_path, algorithm, START, 20)
    new = run(None, algorithm, 21 if name == "population" else 1, again)
    if name == "population":
        whole = run(None, algorithm, 21)
        assert_same(new.state, whole.state)
        assert_same(run(None, algorithm, 21, again.parents).state, whole.state)
    else:
        assert_same(
            mutagrad.evolve(jax.random.key(3), algorithm, again.to_start_from(), loss_fn, 1, progress=False).params,
            new.params,
        )
        assert loss_fn(new.params) <= loss_fn(again.params) or name == "truncation"


def test_what_is_not_the_run_is_refused(tmp_path):
    algorithm = mutagrad.elitist(0.1, 8)
    for number in (17, NUMBER):
        run(tmp_path / "run", algorithm, number)
    lineage = tmp_path / "run" / "lineage.journal"
    other = {**START, "w": START["w"] + 1e-7}
    with pytest.raises(ValueError, match=r"^params: got others than the run started from"):
        mutagrad.replay(tmp_path / "run", algorithm, other)
    sphere = mutagrad.elitist(0.1, 8, mutation=mutagrad.mutation.sphere())
    with pytest.raises(
        ValueError, match=r"^lineage: got '.*', whose generation \d+ is not made again by this algorithm"
    ):
        mutagrad.replay(tmp_path / "run", sphere, START)
    mated = several(mutagrad.Selection(of_three))
    with pytest.raises(ValueError, match=r"^lineage: got '.*', whose rows are not those of this algorithm; pass the"):
        mutagrad.replay(tmp_path / "run", mated, START)
    with pytest.raises(ValueError, match=r"^lineage: got '.*', which holds none"):
        mutagrad.replay(tmp_path, algorithm, START)
    whole = lineage.read_bytes()
    # A damaged tail costs the tail alone, and damage further up what follows it.
    lineage.write_bytes(whole[:-3])
    kept = mutagrad.replay(tmp_path / "run", algorithm, START)
    assert 17 <= kept.generation < NUMBER
    middle = next(block for block in journal._blocks(whole) if block.first == 1)
    lineage.write_bytes(whole[: middle.start] + b"?" + whole[middle.start + 1 :])
    refused = r"^lineage: got '.*', in which generations 2 to \d+ are damaged; replay up to 1, or take a checkpoint$"
    with pytest.raises(ValueError, match=refused):
        mutagrad.replay(tmp_path / "run", algorithm, START)


def test_a_damaged_lineage_begins_anew_where_the_run_goes_on(tmp_path):
    algorithm = mutagrad.elitist(0.1, 8)
    first = run(tmp_path, algorithm, 10)
    (tmp_path / "lineage.journal").write_bytes(b"MGJ1")
    with pytest.warns(UserWarning, match="its lineage is damaged or missing, and begins anew here"):
        last = run(tmp_path, algorithm, 30)
    assert (tmp_path / "damaged-lineage.journal").exists()
    assert_same(mutagrad.replay(tmp_path, algorithm, first).params, last.params)


class WithState(NamedTuple):
    """Params of a user, as of a network with a memory."""

    weights: jax.Array
    state: jax.Array


def test_params_with_a_field_named_state_are_replayed(tmp_path):
    algorithm, start = mutagrad.elitist(0.1, 4), WithState(jnp.ones(3), jnp.ones(2))

    def loss_fn(params):
        return jnp.sum(params.weights**2) + jnp.sum(params.state**2)

    result = mutagrad.evolve(jax.random.key(0), algorithm, start, loss_fn, 5, checkpoint=tmp_path, progress=False)
    again = mutagrad.replay(tmp_path, algorithm, start)
    np.testing.assert_array_equal(again.params.state, result.params.state)
