"""What next parents are made of: shares of one ancestor, indices that no candidate has, losses that were kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mutagrad
from mutagrad import mutation, selection
from mutagrad.types import Descent, Selection

KEY = jax.random.key(5)
START = jnp.array([1.0, -2.0, 0.5])


def sphere(x):
    return jnp.sum(x**2)


def of_one(share):
    def rule(key, losses, parent_losses):
        return Descent(jnp.zeros((1, 1), jnp.int32), jnp.full((1, 1), share))

    return rule


@pytest.mark.parametrize("rule", [of_one(0.5), selection.weighted([0.5]), of_one(-1.0), of_one(0.0), of_one(1.0)])
def test_one_ancestor_gives_its_share(rule):
    """The next parent is the parent plus the share of the mutation, whatever the share."""
    algorithm = mutagrad.mutation_selection(mutation.gaussian(), rule, 1, sigma=0.5)
    state = algorithm.init(START)
    noise = algorithm.ask(KEY, state).noise(0)
    select_fn = rule.select_fn if isinstance(rule, Selection) else rule
    share = float(select_fn(KEY, jnp.zeros(1), jnp.zeros(1)).shares[0, 0])
    after, info = algorithm.step(KEY, state, sphere)
    np.testing.assert_allclose(after.params, START + 0.5 * share * noise, rtol=1e-6)
    assert bool(info.is_accepted) == (share != 0)
    assert bool(jnp.isfinite(info.loss_change)) == (share == 1)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
def test_a_whole_share_is_the_candidate_bit_for_bit(dtype):
    def chosen(key, losses, parent_losses):
        return selection.elitist().select_fn(key, losses, parent_losses)._replace(shares=jnp.ones((1, 1)))

    def run(rule):
        algorithm = mutagrad.mutation_selection(mutation.gaussian(), rule, 4, sigma=0.25)
        state, step = algorithm.init(jnp.ones((3, 4), dtype)), jax.jit(algorithm.step, static_argnums=2)
        for key in jax.random.split(KEY, 10):
            state, info = step(key, state, lambda x: jnp.sum(jnp.square(x.astype(jnp.float32))))
        return state.params, info.loss_change

    jax.tree.map(np.testing.assert_array_equal, run(chosen), run(selection.elitist()))


def test_an_index_that_no_candidate_has_is_the_parent():
    """The best of offspring and parent, written as NumPy users do, leaves the parent where it is best."""

    def best_of_all(key, losses, parent_losses):
        return jnp.argmin(jnp.append(losses, parent_losses))

    algorithm = mutagrad.mutation_selection(mutation.gaussian(), best_of_all, 2, sigma=5.0)
    after, info = algorithm.step(KEY, algorithm.init(jnp.zeros(3)), sphere)
    assert (int(info.winner), bool(info.is_accepted), float(info.loss_change)) == (-1, False, 0.0)
    np.testing.assert_array_equal(after.params, jnp.zeros(3))


def test_a_kept_loss_of_nobody_is_refused():
    def mean_of_two(key, losses, parent_losses):
        return Descent(jnp.argsort(losses)[:2][None].astype(jnp.int32), jnp.full((1, 2), 0.5))

    algorithm = mutagrad.mutation_selection(mutation.gaussian(), mean_of_two, 4, sigma=0.5, reevaluate_parent=False)
    with pytest.raises(ValueError, match=r"reevaluate_parent: got False with user selection.*leave it True"):
        algorithm.step(KEY, algorithm.init(START, sphere), sphere)


def test_a_loss_that_another_algorithm_kept_is_not_used():
    kept = mutagrad.elitist(sigma=0.1, num_offspring=4, reevaluate_parent=False)
    state = kept.init(START, lambda x: sphere(x) - 100)
    _, info = mutagrad.elitist(sigma=0.1, num_offspring=4).step(KEY, state, sphere)
    assert float(info.parent_loss) == float(sphere(START))


@pytest.mark.parametrize("constant", [0.1, 0.7])
def test_doubles_tie_with_a_kept_loss(constant):
    """A kept loss is rounded to float32, and what is compared with it too: on a plateau every offspring ties."""
    algorithm = mutagrad.elitist(sigma=0.1, num_offspring=3, reevaluate_parent=False)
    state = algorithm.init(START, lambda x: jnp.float32(constant))
    _, info = algorithm.tell(KEY, state, [constant] * 3)
    np.testing.assert_array_equal(info.loss_differences, 0)
    assert bool(info.is_accepted)


def test_losses_of_one_example_and_a_failure():
    """A failed evaluation is one NaN beside losses of shape (1,) too."""
    algorithm = mutagrad.elitist(sigma=0.1, num_offspring=2)
    state, losses = algorithm.init(START), [np.ones(1), None, np.zeros(1)]
    _, info = algorithm.tell(KEY, state, losses)
    assert (int(info.winner), int(info.num_nonfinite)) == (1, 1)


def test_losses_of_too_few_candidates_are_refused():
    algorithm = mutagrad.elitist(sigma=0.1, num_offspring=2)
    state = algorithm.init(START)
    told = mutagrad.evaluation.Losses(jnp.zeros(2), jnp.zeros(2), jnp.zeros(2), None, 1)
    with pytest.raises(ValueError, match="losses: got 2 for 3 candidates"):
        algorithm.tell(KEY, state, told)


def by_hand(key, losses, parent_losses):
    return Descent(jnp.argmin(losses).reshape(1, 1).astype(jnp.int32), jnp.ones((1, 1)))


def by_list(key, losses, parent_losses):
    return Descent(jnp.argmin(losses).reshape(1, 1).astype(jnp.int32), [[1.0]])


@jax.jit
def compiled(key, losses, parent_losses):
    return Descent.of(jnp.argmin(losses))


def by_cases(key, losses, parent_losses):
    best = jnp.argmin(losses)
    return jax.lax.cond(losses[best] < 1e9, lambda: Descent.of(best), lambda: Descent.of(jnp.int32(0)))


@pytest.mark.parametrize("rule", [by_hand, by_list, compiled, by_cases])
@pytest.mark.parametrize("density", [mutation.discrete(), mutation.gaussian()], ids=lambda one: one.name)
def test_rules_of_ones_own_inherit_whole_candidates(rule, density):
    """However the share of 1 is written, of values that have no mean too, they are `selection.comma`."""
    start = jnp.full(5, 4, jnp.int8) if density.name.startswith("discrete") else jnp.ones(5)

    def run(rule):
        algorithm = mutagrad.mutation_selection(density, rule, 4, sigma=0.5)
        state = algorithm.init(start)
        for key in jax.random.split(KEY, 3):
            state, info = algorithm.step(key, state, lambda x: jnp.sum(jnp.square(x.astype(jnp.float32) - 2)))
        return state.params, info.loss_change

    jax.tree.map(np.testing.assert_array_equal, run(rule), run(selection.comma()))


@pytest.mark.parametrize("rule", [compiled, by_cases])
def test_a_candidate_may_keep_its_loss(rule):
    algorithm = mutagrad.mutation_selection(mutation.gaussian(), rule, 4, sigma=0.5, reevaluate_parent=False)
    state, _ = algorithm.step(KEY, algorithm.init(START, sphere), sphere)
    np.testing.assert_allclose(state.parent_loss, sphere(state.params), rtol=1e-6)


def test_turns_of_a_partial_share_are_replayed(tmp_path):
    half = mutagrad.mutation_selection(mutation.gaussian(), of_one(0.5), 4, sigma=0.1)
    algorithm = mutagrad.alternate([half, mutagrad.elitist(sigma=0.1, num_offspring=4)])
    result = mutagrad.evolve(KEY, algorithm, START, sphere, 6, checkpoint=tmp_path / "run", progress=False)
    replayed = mutagrad.replay(tmp_path / "run", algorithm, START)
    np.testing.assert_array_equal(replayed.params, result.params)


def test_one_copy_has_one_ancestor():
    def two(key, losses, parent_losses):
        return Descent(jnp.zeros((1, 2), jnp.int32), jnp.ones((1, 2)), "copy")

    algorithm = mutagrad.mutation_selection(mutation.gaussian(), two, 4, sigma=0.1)
    with pytest.raises(ValueError, match="got 2 ancestors with inheritance 'copy'"):
        algorithm.step(KEY, algorithm.init(START), sphere)
