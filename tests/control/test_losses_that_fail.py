"""σ where losses fail or overflow: batches on which the parent itself fails, and one loss that is larger than all others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mutagrad
from mutagrad import estimates

M, N = 20, 50


def adapted(**options):
    return mutagrad.adapt_sigma(mutagrad.elitist(sigma=0.01, num_offspring=M), **options)


def course(algorithm, loss_of, generations, is_resampled):
    """σ of every generation, of a loss ``loss_of(index, params, offset)``."""

    @jax.jit
    def generation(state, key):
        batch_key, step_key = jax.random.split(key)
        offset = 0.1 * float(is_resampled) * jax.random.normal(batch_key, (N,))
        losses = loss_of(
            state.generation, jax.vmap(lambda x: jnp.sum((x - offset) ** 2))(stacked(algorithm, step_key, state))
        )
        state, _ = algorithm.tell(step_key, state, losses, is_resampled=is_resampled)
        return state, state.sigma

    def stacked(algorithm, key, state):
        return algorithm.ask(key, state, is_resampled=is_resampled).stacked()

    state = algorithm.init(jnp.full(N, 3.0))
    return np.asarray(jax.lax.scan(generation, state, jax.random.split(jax.random.key(1), generations))[1])


@pytest.mark.parametrize("rule", ["success", "strength", "progress"])
def test_batches_on_which_all_fail_leave_sigma_alone(rule):
    """Every third batch fails, for the parent too: σ stays there, and finds its way on the others."""

    def loss_of(generation, losses):
        return jnp.where(generation % 3 == 2, jnp.nan, losses)

    found = course(adapted(rule=rule), loss_of, 90, True)
    np.testing.assert_array_equal(found[2::3], found[1::3])
    assert found[-1] > 2 * found[0]


@pytest.mark.parametrize(
    ("outlier", "is_resampled"),
    [(1e20, True), (np.inf, True), (1e12, False), (1e20, False), (np.inf, False)],
)
def test_one_huge_loss_is_forgotten(outlier, is_resampled):
    """What is too large to be squared is a failure on batches; on one loss the spread is bounded too."""

    def loss_of(generation, losses):
        return losses.at[-1].set(jnp.where(generation == 5, outlier, losses[-1]))

    found = course(adapted(), loss_of, 80, is_resampled)
    assert np.isfinite(found).all()
    assert found.max() > 5 * found[0]


def test_a_loss_too_large_to_be_squared_is_left_out():
    differences = jnp.array([1.0, 2.0, 3e20, 4.0])
    found, without = (
        estimates.moments(one, jnp.zeros(one.size), jnp.float32(0.5))
        for one in (differences, differences[jnp.array([0, 1, 3])])
    )
    np.testing.assert_allclose(np.array(found), np.array(without), rtol=1e-6)
    # In NumPy's doubles there is room for it.
    assert estimates.moments(np.asarray(differences, np.float64), np.zeros(4), 0.5).number == 4


def test_sigma_outside_a_batch_size_sees_what_steps_are_worth():
    """Around `adapt_batch_size` too, the parent before is evaluated on the next batch."""
    data = jnp.asarray(np.random.default_rng(0).standard_normal((256, N)), jnp.float32)
    batches = mutagrad.minibatches(data, (16, 64))
    algorithm = mutagrad.adapt_sigma(mutagrad.adapt_batch_size(mutagrad.elitist(sigma=1e-3, num_offspring=M), batches))
    result = mutagrad.evolve(
        jax.random.key(0),
        algorithm,
        jnp.full(N, 3.0),
        lambda x, b: jnp.sum((x[None] - b) ** 2, 1),
        80,
        batches,
        progress=False,
    )
    assert float(result.state.sigma) > 1e-2


def test_in_rotation_every_group_has_a_parent_before_of_its_own():
    """At its first turn a group is not held against the start of another, which lies elsewhere."""
    algorithm = mutagrad.adapt_sigma(
        mutagrad.elitist(sigma=0.01, num_offspring=M, mutation=mutagrad.mutation.masked([True, False, False]))
    )
    algorithm = mutagrad.rotate(algorithm, lambda groups: [*groups[1:], groups[0]], number=3, generations=2)
    state, steps = algorithm.init([jnp.full(4, value) for value in (1.0, 10.0, 100.0)]), []
    for key in jax.random.split(jax.random.key(0), 6):
        state, info = algorithm.step(key, state, lambda groups: sum(jnp.sum(group**2) for group in groups))
        steps.append(float(info.validated_change))
    # The first generation of a turn comes after no step of its group.
    assert [step == 0 for step in steps] == [True, False] * 3


def test_a_state_made_by_init_may_be_overwritten():
    """Of a large model the state is donated to the program: no array of it is there twice."""
    algorithm = adapted()
    state = algorithm.init(jnp.ones(700_000))
    chunks = mutagrad.generations(jax.random.key(0), algorithm, state, lambda x: jnp.sum(x**2), 2)
    assert sum(chunk.num_generations for chunk in chunks) == 2


@pytest.mark.parametrize("sigma", [1e-6, 1.0, 1e8])
def test_large_losses_at_a_large_sigma_count(sigma):
    """What is squared is the difference in σ: its size alone says nothing."""
    differences = np.float32(sigma) * jnp.linspace(0.5, 1.5, 10, dtype=jnp.float32) * 1e12
    found = estimates.moments(differences, jnp.zeros(10), jnp.float32(sigma))
    assert found.number == 10
    np.testing.assert_allclose(found.mean, 1e12, rtol=1e-5)
