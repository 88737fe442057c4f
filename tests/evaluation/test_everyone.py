"""Losses that see the whole population: payoffs by hand, hawks and doves at their mixture, and batches beside them."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mutagrad


def payoff(x, everyone):
    return jnp.mean(jnp.tanh(x - everyone))


def test_losses_are_those_against_everyone():
    """Parent and offspring of (1+4), each against all five, by hand."""
    algorithm = mutagrad.elitist(sigma=1.0, num_offspring=4)
    state, key = algorithm.init(jnp.asarray(0.5)), jax.random.key(0)
    everyone = np.asarray(algorithm.ask(key, state).stacked())
    by_hand = np.tanh(everyone[:, None] - everyone[None]).mean(axis=1)
    _, info = algorithm.step(key, state, payoff, evaluation=mutagrad.contest())
    np.testing.assert_allclose(info.losses, by_hand[1:], rtol=1e-5, atol=1e-6)
    assert float(info.parent_loss) == pytest.approx(by_hand[0], rel=1e-5, abs=1e-6)
    after, _ = algorithm.tell(key, state, by_hand)
    direct, _ = algorithm.step(key, state, payoff, evaluation=mutagrad.contest())
    assert float(after.params) == pytest.approx(float(direct.params))


def test_a_frequency_that_rests_and_never_fixes():
    """Genomes play hawk with probability x; payoffs V = 2, C = 4. The mean play is drawn to ½ from both sides, and stays."""

    def fight(x, everyone):
        play, others = jax.nn.sigmoid(x), jnp.mean(jax.nn.sigmoid(everyone))
        hawk, dove = 2 - 3 * others, 1 - others  # (V − C)/2 = −1 of hawks, V = 2 of doves; V/2 = 1 of doves
        return -(play * hawk + (1 - play) * dove)

    algorithm = mutagrad.population(sigma=0.3, beta=2.0, population_size=200, mutation_rate=0.05)
    run = jax.jit(lambda key, start: mutagrad_run(algorithm, key, start, fight), static_argnums=())
    for start in (-2.0, 2.0):
        means = np.asarray(jax.vmap(run, in_axes=(0, None))(jax.random.split(jax.random.key(3), 8), jnp.asarray(start)))
        late = means[:, -100:].mean(axis=1)
        assert abs(late.mean() - 0.5) < 4 * late.std(ddof=1) / math.sqrt(8) + 0.03
        assert abs(means[:, 0].mean() - 0.5) > 0.3


def mutagrad_run(algorithm, key, start, fight):
    """Mean play of 400 generations."""

    def body(state, generation):
        state, _ = algorithm.step(jax.random.fold_in(key, generation), state, fight, evaluation=mutagrad.contest())
        play = jnp.mean(jax.nn.sigmoid(algorithm.ask(key, state).stacked()))
        return state, play

    return jax.lax.scan(body, algorithm.init(start), jnp.arange(400))[1]


def test_it_takes_batches_and_names_what_it_wants():
    algorithm = mutagrad.elitist(sigma=0.1, num_offspring=4)

    def loss_fn(x, everyone, batch):
        return jnp.sum((x - batch) ** 2) + 0 * jnp.sum(everyone)

    def run(loss_fn, batches):
        return mutagrad.evolve(
            jax.random.key(0),
            algorithm,
            jnp.zeros(2),
            loss_fn,
            30,
            batches,
            evaluation=mutagrad.contest(),
            progress=False,
        )

    found = run(loss_fn, [jnp.ones(2)] * 30)
    assert float(jnp.sum((found.params - 1) ** 2)) < 2
    with pytest.raises(ValueError, match=r"one that cannot be called as loss_fn\(params, everyone, batch\)"):
        run(lambda x, everyone: 0.0, [jnp.ones(2)] * 30)
    with pytest.raises(ValueError, match=r"one that cannot be called as loss_fn\(params, everyone\)"):
        run(lambda x: 0.0, None)


def test_as_the_algorithms_own_evaluation_it_is_that_of_the_argument():
    def algorithm(**options):
        return mutagrad.elitist(sigma=0.1, num_offspring=4, **options)

    key, start, own = jax.random.key(0), jnp.asarray(0.5), algorithm(evaluation=mutagrad.contest())
    with_argument = mutagrad.evolve(key, algorithm(), start, payoff, 5, evaluation=mutagrad.contest(), progress=False)
    assert mutagrad.evolve(key, own, start, payoff, 5, progress=False).params == with_argument.params
    *_, chunk = mutagrad.generations(key, own, own.init(start), payoff, 5)
    assert chunk.state.params == with_argument.params
    with pytest.raises(ValueError, match=r"one that cannot be called as loss_fn\(params, everyone\)"):
        mutagrad.evolve(key, own, start, lambda x: 0.0 * x, 5, progress=False)


def test_a_parents_kept_loss_is_refused():
    """It was that among the others of an earlier generation."""
    algorithm = mutagrad.elitist(sigma=0.1, num_offspring=4, reevaluate_parent=False)
    state, key, options = (
        algorithm.init(jnp.ones(()), jnp.square),
        jax.random.key(0),
        {"evaluation": mutagrad.contest()},
    )
    words = r"^evaluation: got contest\(\) with reevaluate_parent=False; [^\n]*$"
    with pytest.raises(ValueError, match=words):
        algorithm.step(key, state, payoff, **options)
    with pytest.raises(ValueError, match=words):
        mutagrad.evolve(key, algorithm, jnp.ones(()), payoff, 5, progress=False, **options)
