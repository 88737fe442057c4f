"""σ by itself for recombination on batches: the share of signal against its law, and what the controller must never do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mutagrad
from mutagrad.control.recombination import held_strength, signal_of

pytestmark = pytest.mark.permissive  # the losses are a user's

SIZE, NUMBER = 200, 20


def linear(x, batch):
    return x[0] + batch @ x


def memories(loss_fn, batch_fn, num_generations=1500, sigma=1e-4):
    """The controller's memory after each generation, at one σ."""
    algorithm = mutagrad.adapt_sigma(mutagrad.weighted_recombination(sigma, NUMBER), "strength")

    def generation(state, key):
        key, batch_key = jax.random.split(key)
        batch = batch_fn(batch_key)
        state, _ = algorithm.step(key, state, lambda x: loss_fn(x, batch))
        return state.with_sigma(jnp.float32(sigma)), state.memory

    keys = jax.random.split(jax.random.key(3), num_generations)
    start = algorithm.init(jnp.zeros(SIZE))
    return jax.jit(lambda keys: jax.lax.scan(generation, start, keys))(keys)[1]


@pytest.mark.parametrize("ratio", [0.3, 3.0])
def test_steps_deliver_the_share_of_signal(ratio):
    """One loss a batch, TrC/B = ratio·|∇U|²: of what steps promise, 1/(1 + ratio) arrives on the next batch (theory.md 8).

    1,500 generations: promise and delivery of one have standard deviations of 1/√M·√(1 + ratio) or less, in units of the mean
    promise; five standard errors, and 2 % for TrH, which is measured a little too large while it is 0.
    """
    found = memories(linear, lambda key: jax.random.normal(key, (SIZE,)) * (ratio / SIZE) ** 0.5)
    share = np.mean(found.delivered[50:]) / np.mean(found.promised[50:])
    error = (1 + ratio) ** 0.5 / (NUMBER * 1450) ** 0.5
    assert abs(share - 1 / (1 + ratio)) < 5 * error + 0.02
    assert float(signal_of(jax.tree.map(lambda leaf: leaf[-1], found))) == pytest.approx(1 / (1 + ratio), abs=0.2)


def test_where_examples_tell_the_noise_steps_are_not_asked():
    ratio, num_examples = 1.0, 8

    def examples(key):
        return jax.random.normal(key, (num_examples, SIZE)) * (num_examples * ratio / SIZE) ** 0.5

    found = memories(linear, examples)
    assert not np.any(found.response_count)
    share = np.mean(np.asarray(jax.vmap(signal_of)(found))[100:])
    assert share == pytest.approx(1 / (1 + ratio), abs=0.05)


def test_a_loss_that_stays_the_same_is_allsignal_of():
    """No batch, so no noise: the share is exactly 1, and nothing is averaged for it."""
    algorithm = mutagrad.adapt_sigma(mutagrad.weighted_recombination(0.1, NUMBER), "strength")
    result = mutagrad.evolve(jax.random.key(0), algorithm, jnp.ones(SIZE), lambda x: jnp.vdot(x, x), 50, progress=False)
    memory = result.state.memory
    assert float(memory.response_count) == float(memory.promised) == float(memory.delivered) == 0
    assert float(signal_of(memory)) == 1


def test_curvature_along_steps_counts_as_far_as_it_is_known():
    """All of the excess without an error, half of it where it is one standard error, none of it where nothing is known."""
    excess = jnp.array([2.0, -0.5, 3.0])
    assert held_strength(1.0, 1 + excess, 0.0, 1).tolist() == pytest.approx((1 + excess).tolist())
    assert held_strength(1.0, 1 + excess, excess**2, 1).tolist() == pytest.approx((1 + excess / 2).tolist())
    assert held_strength(1.0, 1 + excess, jnp.inf, 1).tolist() == [1, 1, 1]
    assert held_strength(1.0, jnp.nan, jnp.nan, 0).tolist() == 1


def mean_loss(x, batch):
    return jnp.mean(losses(x, batch))


def losses(x, batch):
    """A network that tells on which side of a curved border a point lies."""
    points, sides = batch
    hidden = jnp.tanh(points @ x["in"] + x["bias"])
    return jax.nn.softplus(-sides * (hidden @ x["out"]))


@pytest.mark.parametrize("loss_fn", [losses, mean_loss])
def test_batches_drive_sigma_neither_to_nothing_nor_away(loss_fn):
    """Batches of 32 of 2,000 points, 800 generations: below 1.2 times the better of the two best σ of a grid of threes.

    Before, mean losses drove σ to 1e-9, and losses of examples drove it to nothing and then away.
    """
    keys = jax.random.split(jax.random.key(7), 4)
    points = jax.random.normal(keys[0], (2000, 10))
    sides = jnp.sign(points[:, 0] + points[:, 1] * points[:, 2] + 0.2 * jax.random.normal(keys[1], (2000,)))
    start = {"in": jax.random.normal(keys[2], (10, 16)) / 3, "bias": jnp.zeros(16)}
    start = start | {"out": jax.random.normal(keys[3], (16,)) / 4}
    batches = mutagrad.minibatches((points, sides), 32)

    def last(algorithm):
        result = mutagrad.evolve(jax.random.key(1), algorithm, start, loss_fn, 800, batches, progress=False)
        return float(mean_loss(result.params, (points, sides)))

    fixed = [last(mutagrad.weighted_recombination(sigma, NUMBER)) for sigma in (0.01, 0.03)]
    found = last(mutagrad.adapt_sigma(mutagrad.weighted_recombination(0.01, NUMBER)))
    assert found < 1.2 * min(fixed), (found, fixed)


INPUTS = jax.random.normal(jax.random.key(1), (500, 10))
TARGETS = INPUTS @ jnp.linspace(-1, 1, 10) + 0.3 * jax.random.normal(jax.random.key(2), (500,))


def squared(x, rows):
    return jnp.mean((INPUTS[rows] @ x - TARGETS[rows]) ** 2)


def zero_in_half(x, rows):
    return jnp.where(INPUTS[rows[0], 0] > 0, squared(x, rows), 0.0)


def nan_in_half(x, rows):
    return jnp.where(INPUTS[rows[0], 0] > 0, squared(x, rows), jnp.nan)


def hinge(x, rows):
    return jnp.mean(jnp.maximum(0, 1 - jnp.sign(TARGETS[rows]) * (INPUTS[rows] @ x)))


def ended(loss_fn, sigma, size, num_generations=800, num_offspring=20):
    """σ of each generation, and the parameters at the end, of batches of a size; on all the data if it is 0."""
    algorithm = mutagrad.adapt_sigma(mutagrad.weighted_recombination(sigma, num_offspring))

    def generation(state, key):
        key, batch_key = jax.random.split(key)
        rows = jax.random.randint(batch_key, (size or 1,), 0, 500) if size else jnp.arange(500)
        state, info = algorithm.step(key, state, lambda x: loss_fn(x, rows), is_resampled=size > 0)
        return state, info.sigma

    keys = jax.random.split(jax.random.key(5), num_generations)
    state, sigmas = jax.jit(lambda keys: jax.lax.scan(generation, algorithm.init(jnp.zeros(10)), keys))(keys)
    return np.asarray(sigmas), state.params


@pytest.mark.parametrize(
    ("loss_fn", "sigma", "size"),
    [(zero_in_half, 0.01, 8), (nan_in_half, 0.01, 8), (hinge, 0.01, 8), (squared, 1e-8, 64), (squared, 0.01, 2)],
    ids=["zero in half", "nan in half", "hinge", "from a tiny σ", "two examples"],
)
def test_batches_that_tell_nothing_or_little_do_no_harm(loss_fn, sigma, size):
    """The loss on all the data ends below a tenth of the start's (a quarter of a hinge loss, which no parameters bring to 0)."""
    of_all = hinge if loss_fn is hinge else squared
    start, (_, params) = of_all(jnp.zeros(10), jnp.arange(500)), ended(loss_fn, sigma, size)
    share = 0.25 if loss_fn is hinge else 0.1
    assert float(of_all(params, jnp.arange(500))) < share * float(start)


@pytest.mark.parametrize("size", [0, 8])
def test_on_a_plateau_sigma_grows_ten_thousand_fold_at_most(size):
    sigmas, _ = ended(lambda x, rows: 1.0 + 0 * jnp.sum(x), 0.01, size, 200)
    assert 50 < sigmas[-1] < 1.3e2
    assert np.all(np.diff(sigmas) >= 0)
    sigmas, _ = ended(lambda x, rows: 0 * jnp.sum(x), 0.01, size, 50)
    np.testing.assert_array_equal(sigmas, np.float32(0.01))
