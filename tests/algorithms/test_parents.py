"""Several parents to start from: each is a candidate as it was given, and offspring descend from all of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mutagrad

SEVERAL = [{"n": jnp.arange(2), "w": jnp.full(5, 10.0 * k)} for k in range(3)]
ALGORITHM = mutagrad.truncation(0.01, 40, 3)


def test_candidates_are_the_parents_and_their_offspring():
    state = ALGORITHM.init(mutagrad.parents(SEVERAL))
    every = list(ALGORITHM.ask(jax.random.key(0), state))
    for given, candidate in zip(SEVERAL, every[:3], strict=True):
        jax.tree.map(np.testing.assert_array_equal, candidate, given)
    # At σ = 0.01 nobody is mistaken for a child of another parent.
    mothers = [round(float(jnp.mean(child["w"])) / 10) for child in every[3:]]
    assert set(mothers) == {0, 1, 2}
    for mother, child in zip(mothers, every[3:], strict=True):
        assert 0 < float(jnp.max(jnp.abs(child["w"] - 10 * mother))) < 0.1
        np.testing.assert_array_equal(child["n"], jnp.arange(2))


def test_stacking_them_makes_no_program_of_as_many_arguments():
    """Known arrays of all dtypes on the device where they are, keys of random numbers, and traced arrays."""
    kinds = {"w": jnp.ones(2, jnp.bfloat16), "n": jnp.int4(3), "z": jnp.zeros((0, 2))}
    several = [kinds | {"w": kinds["w"] * k} for k in range(3)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jnp, "stack", lambda arrays: pytest.fail("it was stacked by a program"))
        known = mutagrad.parents(several).stacked
    for name, leaf in known.items():
        expected = jnp.stack([one[name] for one in several])
        np.testing.assert_array_equal(leaf, expected)
        assert (leaf.dtype, leaf.committed) == (expected.dtype, False)
    here = jax.device_put(jnp.ones(2), jax.devices()[0])
    assert mutagrad.parents([here, here]).stacked.committed
    random = mutagrad.parents([{"w": jnp.ones(1), "k": jax.random.key(seed)} for seed in range(3)]).stacked["k"]
    np.testing.assert_array_equal(jax.random.key_data(random)[:, 1], np.arange(3))
    traced = jax.jit(lambda w: mutagrad.parents([w, 2 * w]).stacked)(jnp.ones(2))
    np.testing.assert_array_equal(traced, [[1, 1], [2, 2]])


def test_differences_are_from_the_own_parent():
    """A loss linear in w: an offspring differs from its own parent by its mutation, not by what parents differ."""
    state = ALGORITHM.init(mutagrad.parents(SEVERAL))
    after, info = ALGORITHM.step(jax.random.key(0), state, lambda p: jnp.sum(p["w"]))
    assert float(jnp.max(jnp.abs(info.loss_differences))) < 0.01 * 5**0.5 * 5
    assert float(info.parent_loss) == 0
    # The best three are children of the best parent, if it has as many.
    assert after.parents["w"].shape == (3, 5)
    assert float(jnp.max(jnp.abs(after.parents["w"]))) < 0.1


def test_parents_are_drawn_uniformly():
    keys = jax.random.split(jax.random.key(1), 500)
    state = ALGORITHM.init(mutagrad.parents(SEVERAL))
    drawn = jax.jit(jax.vmap(lambda key: ALGORITHM.ask(key, state).parent_of))(keys)
    counts = np.bincount(np.asarray(drawn).ravel(), minlength=3)
    expected = 500 * 40 / 3
    # χ² with 2 degrees of freedom exceeds 13.8 once in a thousand.
    assert np.sum((counts - expected) ** 2 / expected) < 13.8


def test_one_of_several_is_one():
    algorithm = mutagrad.elitist(0.1, 4)
    state = algorithm.init(mutagrad.parents(SEVERAL[1:2]))
    jax.tree.map(np.testing.assert_array_equal, state.params, SEVERAL[1])
    assert type(state) is mutagrad.State


@pytest.mark.parametrize("number", [2, 4])
def test_a_state_of_another_number_is_refused(number):
    """By `evolve` with a Result, and by `ask` and `step`."""

    def loss_fn(params):
        return jnp.sum(params["w"] ** 2)

    result = mutagrad.evolve(jax.random.key(0), ALGORITHM, mutagrad.parents(SEVERAL), loss_fn, 1, progress=False)
    other = mutagrad.truncation(0.01, 40, number)
    message = rf"^state: got 3 parents for an algorithm with num_parents={number}; "
    with pytest.raises(ValueError, match=message):
        mutagrad.evolve(jax.random.key(0), other, result, loss_fn, 2, progress=False)
    with pytest.raises(ValueError, match=message):
        other.step(jax.random.key(0), result.state, loss_fn)


def test_evolve_starts_from_them():
    result = mutagrad.evolve(
        jax.random.key(0), ALGORITHM, mutagrad.parents(SEVERAL), lambda p: jnp.sum(p["w"] ** 2), 3, progress=False
    )
    assert float(result.history["loss"][0]) == 0.0
    assert result.state.parents["w"].shape == (3, 5)


def test_values_that_are_not_finite_are_refused():
    bad = [SEVERAL[0], SEVERAL[1] | {"w": jnp.full(5, jnp.nan)}, SEVERAL[2]]
    with pytest.raises(ValueError, match=r"^params\['w'\]: got 5 of 5 values NaN"):
        mutagrad.parents(bad)
