"""Masks of dropout in a generation: who shares them, what selection then sees, and what σ's control is told."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mutagrad
from mutagrad.evaluation.local import Evaluator
from mutagrad.lab.tasks.regularization import dropout, example_keys
from mutagrad.lab.tasks.task import Keyed
from mutagrad.lab.training.algorithm import make_algorithm
from mutagrad.lab.training.dropout import separate_dropout, shared_dropout
from mutagrad.lab.training.options import TrainConfig

RATE = 0.25
WEIGHTS = jnp.array([[1.0, -2.0, 0.5], [3.0, 0.25, -1.0]])
"""Two examples of three numbers."""


def loss_fn(drawn):
    """One loss per example: Σ w x, with dropout of w x."""
    assert isinstance(drawn, Keyed)
    own = example_keys(drawn.key, jnp.arange(2))
    return jnp.sum(dropout(own, 0, (WEIGHTS * drawn.params[None]).T, RATE), axis=0)


def unchanged(key, params):
    return jnp.zeros_like(params)


def alike(wrap, evaluation="auto"):
    """(1+4) whose offspring are their parent."""
    return wrap(mutagrad.mutation_selection(unchanged, mutagrad.selection.elitist(), 4, evaluation=evaluation))


@pytest.mark.parametrize("evaluation", ["mapped", 2])
def test_candidates_that_are_alike(evaluation):
    """With shared masks all losses are equal, and differ by exactly 0; with separate ones no two are."""
    key, start = jax.random.key(1), jnp.array([1.0, 1.3, 1.7])
    for wrap, distinct in ((shared_dropout, 1), (separate_dropout, 5)):
        algorithm = alike(wrap, evaluation)
        state = algorithm.init(start)
        step = jax.jit(lambda key, algorithm=algorithm, state=state: algorithm.step(key, state, loss_fn)[1])
        info = step(key)
        losses = np.append(info.losses, info.parent_loss)
        assert len(np.unique(losses)) == distinct
        assert (np.asarray(info.loss_differences) == 0).all() == (distinct == 1)
        assert not np.isin(step(jax.random.key(2)).parent_loss, losses)  # masks of another generation are others


def test_means_are_those_of_the_loss_and_selection_sees_the_noise_twice():
    """Over 4000 generations: the mean of all candidates' losses is that without dropout for both; the difference of two has
    variance 0, and 2 p/(1 − p) Σ(w x)²/4 for the mean of two examples.

    A mean is within 4.5 standard errors (false alarm 7·10⁻⁶ each); a variance of 4000 differences within 4.5 √((κ − 1)/n), with
    the kurtosis κ of a normal, above that of these sums.
    """
    start, number = jnp.array([1.0, 1.3, 1.7]), 4000
    exact = float(jnp.mean(WEIGHTS @ start))
    variance = RATE / (1 - RATE) * float(jnp.sum((WEIGHTS * start[None]) ** 2)) / 4
    for wrap, noise in ((shared_dropout, 0.0), (separate_dropout, 2 * variance)):
        algorithm = alike(wrap, "vectorized")
        state = algorithm.init(start)

        @jax.jit
        def of_generations(keys, algorithm=algorithm, state=state):
            return jax.vmap(lambda key: algorithm.step(key, state, loss_fn)[1])(keys)

        info = of_generations(jax.random.split(jax.random.key(3), number))
        for losses in (info.parent_loss, info.losses[:, 3]):
            assert abs(np.mean(losses, dtype=float) - exact) < 4.5 * (variance / number) ** 0.5
        found = np.mean(np.square(np.asarray(info.loss_differences[:, 1], float)))
        assert found == pytest.approx(noise, rel=4.5 * (2 / number) ** 0.5)


def test_a_run_counts_masks_as_another_batch():
    """On the same data each generation, σ's control is told that the loss is another one, and evaluates the parent before."""
    data = mutagrad.minibatches(WEIGHTS)

    def on_batch(drawn, batch):
        own = example_keys(drawn.key, jnp.arange(2))
        return jnp.sum(dropout(own, 0, (batch * drawn.params[None]).T, RATE) ** 2, axis=0)

    inner = mutagrad.adapt_sigma(mutagrad.elitist(0.01, 6))
    algorithm = shared_dropout(inner)
    result = mutagrad.evolve(jax.random.key(4), algorithm, jnp.ones(3), on_batch, 5, data, progress=False)
    assert result.history["is_resampled"].all()
    assert np.isfinite(result.history["validated_change"]).all()
    assert result.num_evaluations == 5 * 8
    assert algorithm.definition == inner.definition
    # By hand too: the losses of ask, told.
    candidates = algorithm.ask(jax.random.key(5), result.state, is_resampled=False)
    told = algorithm.tell(jax.random.key(5), result.state, jnp.ones(len(candidates)), is_resampled=False)
    assert bool(told[1].is_resampled)


def stepped(algorithm, loss_fn):
    """A generation that is told that its batch is that of before."""
    step = jax.jit(lambda key: algorithm.step(key, algorithm.init(jnp.ones(3)), loss_fn, is_resampled=False)[1])
    return step(jax.random.key(6))


def test_settings_of_a_run_choose_the_masks():
    """A loss that is the key's alone: equal for all where masks are shared; without dropout it gets the params themselves."""

    def loss(drawn):
        return jax.random.normal(drawn.key) + 0 * drawn.params[0]

    for settings, is_alike in (({"dropout": 0.1}, True), ({"input_dropout": 0.1, "masks": "separate"}, False)):
        config = TrainConfig(model="convnet", sigma=0.1, num_offspring=3, shared_layers=0, **settings)
        algorithm = make_algorithm(config, jnp.ones(3))
        info = stepped(algorithm, loss)
        assert bool(info.is_resampled)
        assert (np.asarray(info.loss_differences) == 0).all() == is_alike
    algorithm = make_algorithm(TrainConfig(model="convnet", sigma=0.1, shared_layers=0), jnp.ones(3))
    info = stepped(algorithm, jnp.sum)
    assert not bool(info.is_resampled)


def test_refusals():
    kept = mutagrad.elitist(0.1, 4, reevaluate_parent=False)
    for wrap in (shared_dropout, separate_dropout):
        with pytest.raises(ValueError, match="reevaluate_parent: got False with dropout, whose masks change; build"):
            wrap(kept)
        with pytest.raises(ValueError, match="algorithm: got 3; pass an algorithm"):
            wrap(3)
    algorithm = separate_dropout(mutagrad.elitist(0.1, 4))
    own = Evaluator(lambda loss_fn, offspring: jnp.ones(5))
    with pytest.raises(
        ValueError, match=r"evaluation: got Evaluator\(.*; pass 'mapped', 'vectorized' or a whole number"
    ):
        algorithm.step(jax.random.key(0), algorithm.init(jnp.ones(3)), loss_fn, evaluation=own)
