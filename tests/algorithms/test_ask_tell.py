"""Ask, evaluate and tell by hand against step, bit for bit, for every algorithm and wrapper.

The losses come from outside: one candidate at a time from a loss compiled by itself, or all of them stacked. The loss is exact
(tests/exact_losses.py), so that a difference in the last digit is one of the library.
"""

import exact_losses
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mutagrad
from mutagrad import mutation as density
from mutagrad import selection

SIGMA, M = 0.25, 6
MASK = {"b": False, "n": False, "w": True}


def elitist(**options):
    return mutagrad.elitist(SIGMA, M, **options)


def crossed(inheritance):
    return mutagrad.mutation_selection(density.gaussian(), selection.crossover(3, inheritance), M, sigma=SIGMA)


BATCHES = mutagrad.minibatches(jnp.zeros(64), (4, 16))
ALGORITHMS = {
    "metropolis": lambda: mutagrad.metropolis(SIGMA, 0.1),
    "greedy": lambda: mutagrad.greedy(SIGMA),
    "logistic": lambda: mutagrad.logistic(SIGMA, 0.1),
    "fixation": lambda: mutagrad.fixation(SIGMA, 0.1, 5),
    "boltzmann": lambda: mutagrad.boltzmann(SIGMA, 0.1, M),
    "elitist": elitist,
    "comma": lambda: mutagrad.comma(SIGMA, M),
    "truncation": lambda: mutagrad.truncation(SIGMA, M, 3),
    "weighted": lambda: mutagrad.weighted_recombination(SIGMA, M),
    "kept loss": lambda: elitist(reevaluate_parent=False),
    "crossover of parameters": lambda: crossed("parameter"),
    "crossover of leaves": lambda: crossed("leaf"),
    "masked": lambda: elitist(mutation=density.masked(MASK)),
    "masked weighted": lambda: mutagrad.weighted_recombination(SIGMA, M, mutation=density.masked(MASK)),
    "scaled": lambda: elitist(mutation=density.scaled({"b": 0.0, "n": 1.0, "w": 2.0})),
    "low rank": lambda: elitist(mutation=density.low_rank(1, formed=True)),
    "student t": lambda: elitist(mutation=density.student_t(5.0)),
    "sphere": lambda: elitist(mutation=density.sphere()),
    "rademacher": lambda: elitist(mutation=density.rademacher()),
    "adapt_sigma": lambda: mutagrad.adapt_sigma(elitist()),
    "adapt_sigma success": lambda: mutagrad.adapt_sigma(elitist(), "success", target=0.2),
    "adapt_sigma weighted": lambda: mutagrad.adapt_sigma(mutagrad.weighted_recombination(SIGMA, M)),
    "schedule_sigma": lambda: mutagrad.schedule_sigma(elitist(), lambda t: 0.25 / (1 + t.astype(jnp.float32))),
    "alternate": lambda: mutagrad.alternate([elitist(mutation=density.masked(MASK)), elitist()], [2, 1]),
    "rotate": lambda: mutagrad.rotate(elitist(), lambda p: p | {"b": p["b"][::-1]}, 2),
    "adapt_batch_size": lambda: mutagrad.adapt_batch_size(elitist(), BATCHES),
}
ROUNDED = {"student t"}
"""Two programs may fuse the products of this density with its sum: it is the same but for the last digit of a sum."""

ONE_LOSS = jax.jit(exact_losses.jax_loss)
ALL_LOSSES = jax.jit(jax.vmap(exact_losses.jax_loss, in_axes=({"b": 0, "n": None, "w": 0},)))


def one_by_one(offspring):
    return [ONE_LOSS(params) for params in offspring]


def at_once(offspring):
    return np.asarray(ALL_LOSSES(offspring.stacked()))


def assert_same(mine, theirs):
    assert jax.tree.structure(mine) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_ask_and_tell_are_step(name):
    algorithm = ALGORITHMS[name]()
    state = other = algorithm.init(exact_losses.params(), exact_losses.jax_loss)
    step = jax.jit(lambda key, state: algorithm.step(key, state, exact_losses.jax_loss, is_resampled=False))
    tell = jax.jit(lambda key, state, losses: algorithm.tell(key, state, losses, is_resampled=False))
    accepted = 0
    for generation in range(8):
        key = jax.random.fold_in(jax.random.key(3), generation)
        offspring = algorithm.ask(key, other)
        losses = one_by_one(offspring) if generation % 2 else at_once(offspring)
        assert len(losses) == len(offspring)
        state, info = step(key, state)
        other, told = tell(key, other, jnp.stack(losses))
        if name in ROUNDED:
            np.testing.assert_allclose(other.params["w"], state.params["w"], rtol=0, atol=2.4e-7)  # 2 units at 1
            other = state
        assert_same(other, state)
        assert_same(told.losses, info.losses)
        assert_same(told.loss_differences, info.loss_differences)
        assert_same(told.descent, info.descent)
        assert_same(
            (told.winner, told.is_accepted, told.parent_loss), (info.winner, info.is_accepted, info.parent_loss)
        )
        accepted += int(np.any(info.is_accepted))
    assert accepted > 0
    np.testing.assert_array_equal(other.params["n"], np.arange(3))


def test_candidates_singly_iterated_and_stacked_are_the_same():
    algorithm = mutagrad.truncation(SIGMA, M, 3)
    state, _ = algorithm.step(jax.random.key(0), algorithm.init(exact_losses.params()), exact_losses.jax_loss)
    offspring = algorithm.ask(jax.random.key(1), state)
    stacked, every = offspring.stacked(), list(offspring)
    assert len(offspring) == len(every) == 3 + M
    for index, candidate in enumerate(every):
        assert_same(candidate, jax.tree.map(lambda leaf, i=index: leaf[i], stacked) | {"n": stacked["n"]})
        assert_same(candidate, offspring[index - len(offspring)])
        if index < 3:
            assert_same(candidate["w"], state.parents["w"][index])
    with pytest.raises(IndexError, match="^offspring: got index 9; there are 9 candidates"):
        offspring[9]


def test_no_mutation_is_made_before_it_is_asked_for():
    calls = []

    def counted(key, params):
        jax.debug.callback(lambda: calls.append(1))
        return jax.random.normal(key, params.shape)

    algorithm = mutagrad.elitist(0.1, 1000, mutation=counted)
    offspring = algorithm.ask(jax.random.key(0), algorithm.init(jnp.ones(3)))
    assert len(offspring) == 1001
    jax.effects_barrier()
    assert not calls
    jax.block_until_ready(offspring[5])
    jax.effects_barrier()
    assert len(calls) == 1


FAILED = [None, float("nan"), float("inf"), np.float32("nan")]


@pytest.mark.parametrize("failure", FAILED, ids=str)
@pytest.mark.parametrize("per_example", [False, True])
def test_a_failed_evaluation_loses_and_is_counted(failure, per_example):
    algorithm = elitist()
    state = algorithm.init(exact_losses.params())
    key = jax.random.key(0)
    good = one_by_one(algorithm.ask(key, state))
    losses = [np.asarray(loss) if per_example else float(np.mean(loss)) - 100 * (i == 2) for i, loss in enumerate(good)]
    losses[2] = losses[5] = failure
    _, info = algorithm.tell(key, state, losses)
    assert int(info.num_nonfinite) == 2
    assert int(info.winner) not in (1, 4)
    assert info.descent.ancestors.tolist() == [[int(info.winner)]]
    assert not np.isfinite(info.loss_differences[1])


def test_if_all_fail_the_parent_stays():
    for build in (elitist, ALGORITHMS["comma"], ALGORITHMS["truncation"], ALGORITHMS["crossover of parameters"]):
        algorithm = build()
        state = algorithm.init(exact_losses.params())
        number = len(algorithm.ask(jax.random.key(0), state))
        after, info = algorithm.tell(jax.random.key(0), state, [1.0] + [None] * (number - 1))
        assert_same(after.params, state.params)
        assert not np.any(info.is_accepted)
        assert np.all(info.descent.ancestors == -1)


def test_losses_of_more_digits_than_float32_are_compared_in_all_of_them():
    algorithm = mutagrad.elitist(0.1, 3)
    state = algorithm.init(jnp.ones(2))
    _, info = algorithm.tell(jax.random.key(0), state, [1e8, 1e8 + 1e-3, 1e8 - 1e-3, 1e8])
    np.testing.assert_allclose(info.loss_differences, [1e-3, -1e-3, 0], rtol=1e-4, atol=1e-8)
    assert int(info.winner) == 1


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        ([1.0] * 3, r"losses: got shape \(3,\) for 4 candidates; pass one loss for each"),
        ([1.0] * 5, r"losses: got shape \(5,\) for 4 candidates"),
        (np.ones((4, 2, 2)), r"losses: got shape \(4, 2, 2\)"),
        (1.0, "losses: got something else than numbers"),
        (["a"] * 4, "losses: got something else than numbers|losses: got <U"),
        ([np.ones(2), np.ones(3), np.ones(2), np.ones(2)], "losses: got something else than numbers"),
        (jnp.arange(4), "losses: got int32; pass floating numbers"),
        ([], "losses: got something else than numbers"),
        (np.ones((4, 0)), r"losses: got shape \(4, 0\)"),
        (np.ones(4) * 1j, "losses: got something else|losses: got complex"),
    ],
)
def test_what_is_no_losses_is_refused(losses, words):
    algorithm = mutagrad.elitist(0.1, 3)
    with pytest.raises(ValueError, match=f"^({words})") as caught:
        algorithm.tell(jax.random.key(0), algorithm.init(jnp.ones(2)), losses)
    assert "\n" not in str(caught.value)
