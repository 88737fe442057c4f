"""A loss in ordinary Python with noise of its own is found out, told of, and only then paid for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mutagrad

KEY = jax.random.key(3)
START = np.ones(4, np.float32)
NAMED = {
    "elitist": lambda: mutagrad.elitist(0.1, 10),
    "comma": lambda: mutagrad.comma(0.1, 10),
    "recombination": lambda: mutagrad.weighted_recombination(0.1, 10),
    "one offspring": lambda: mutagrad.elitist(0.1, 1),
}


def square(params):
    return 0.5 * np.sum(np.square(np.asarray(params, np.float64)))


class Noisy:
    """A loss with noise from its n-th call on, which counts its calls."""

    def __init__(self, noise, first=0, of=None):
        self.noise, self.first, self.calls = noise, first, 0
        self._of = of or np.random.default_rng(0).standard_normal

    def __call__(self, params):
        self.calls += 1
        return float(square(params) + (self.noise * self._of() if self.calls > self.first else 0))


def evolve(algorithm, loss_fn, number=40, start=START, **options):
    own = {"evaluation": mutagrad.executor(), "progress": False} | options
    return mutagrad.evolve(KEY, algorithm, start, loss_fn, number, **own)


@pytest.mark.parametrize("name", NAMED)
def test_noise_is_found_in_the_first_generation_and_every_evaluation_is_counted(name):
    loss_fn = Noisy(0.1)
    result = evolve(mutagrad.adapt_sigma(NAMED[name]()), loss_fn)
    assert result.history["is_resampled"].all()
    assert np.isfinite(result.history["validated_change"][1:]).all()
    assert result.num_evaluations == loss_fn.calls


@pytest.mark.parametrize("name", NAMED)
def test_a_loss_without_noise_is_the_run_that_it_was_for_seven_evaluations_more(name, monkeypatch):
    loss_fn, algorithm = Noisy(0), mutagrad.adapt_sigma(NAMED[name]())
    result = evolve(algorithm, loss_fn)
    assert result.num_evaluations == loss_fn.calls
    monkeypatch.setattr("mutagrad.run.repeats.Repeats.is_due", lambda repeats, generation: False)
    without = evolve(algorithm, loss_fn)
    assert np.array_equal(result.params, without.params)
    assert all(np.array_equal(column, without.history[name], equal_nan=True) for name, column in result.history.items())
    assert not result.history["is_resampled"].any()
    # Generations 0, 1, 2, 4, 8, 16 and 32; recombination evaluates the parent before in any case.
    assert result.num_evaluations - without.num_evaluations == (0 if name == "recombination" else 7)


@pytest.mark.parametrize("first", [1, 9, 120])
def test_noise_that_begins_later_is_found_within_32_generations(first):
    loss_fn = Noisy(0.1, first * 11)
    history = evolve(mutagrad.adapt_sigma(NAMED["elitist"]()), loss_fn, 170).history
    found = int(np.argmax(history["is_resampled"]))
    assert first - 2 <= found <= first + 32
    assert history["is_resampled"][found:].all()


def test_noise_that_is_seldom_seen_is_found_by_another_look():
    """One of three evaluations has another loss: five looks miss it with a probability below (1/3 + 2/9)^5 = 5 %."""
    draws = np.random.default_rng(1)
    loss_fn = Noisy(0.5, of=lambda: float(draws.integers(3) == 0))
    assert evolve(mutagrad.adapt_sigma(NAMED["elitist"]()), loss_fn).history["is_resampled"].any()


def test_rounding_of_sums_in_another_order_is_no_noise():
    loss_fn = Noisy(1e-7)
    assert not evolve(mutagrad.adapt_sigma(NAMED["elitist"]()), loss_fn).history["is_resampled"].any()


@pytest.mark.parametrize("failed", [np.nan, np.inf])
def test_an_evaluation_that_fails_by_chance_is_no_noise(failed):
    """Where the second of two fails, nothing is known; the rest is the same."""
    number = iter(range(10**6))

    def loss_fn(params):
        return failed if next(number) % 12 == 7 else square(params)

    with pytest.warns(UserWarning, match="made again"):
        history = evolve(mutagrad.adapt_sigma(NAMED["elitist"]()), loss_fn).history
    assert not history["is_resampled"].any()


@pytest.mark.parametrize(
    "algorithm",
    [NAMED["elitist"](), mutagrad.metropolis(0.1, 0.1), mutagrad.truncation(0.1, 10, 3)],
    ids=["elitist", "metropolis", "truncation"],
)
def test_an_algorithm_that_asks_for_no_parent_before_pays_nothing(algorithm):
    loss_fn = Noisy(0.1)
    result = evolve(algorithm, loss_fn)
    assert (
        result.num_evaluations
        == loss_fn.calls
        == 40 * len(algorithm.ask(KEY, algorithm.init(jnp.ones(4)), is_resampled=False))
    )


def test_without_being_told_comma_is_not_lost():
    """Of six keys with this noise, two ended above 10⁸ where nothing looked for it."""
    for key in range(1, 3):
        draws = np.random.default_rng(key)
        result = mutagrad.evolve(
            jax.random.key(key),
            mutagrad.adapt_sigma(mutagrad.comma(0.1, 10)),
            np.ones(4, np.float32),
            lambda x, draws=draws: 0.5 * np.sum(x**2, axis=1) + 0.05 * draws.standard_normal(len(x)),
            200,
            progress=False,
            evaluation=mutagrad.executor(is_batched=True),
        )
        assert square(result.params) < 2  # the start


def test_a_run_that_goes_on_knows_the_noise(tmp_path):
    algorithm = mutagrad.adapt_sigma(NAMED["elitist"]())
    evolve(algorithm, Noisy(0.1), 5, checkpoint=tmp_path)
    loss_fn = Noisy(0)  # without noise it would not be found again
    result = evolve(algorithm, loss_fn, 7, checkpoint=tmp_path)
    assert result.history["is_resampled"].all()
    assert loss_fn.calls == 2 * 12
    assert result.num_evaluations == 7 * 12


def test_a_result_that_goes_on_knows_the_noise():
    algorithm = mutagrad.adapt_sigma(NAMED["elitist"]())
    result = evolve(algorithm, Noisy(0.1), 5)
    loss_fn = Noisy(0.1)
    result = evolve(algorithm, loss_fn, 12, start=result)
    assert result.history["is_resampled"].all()
    assert loss_fn.calls == 7 * 12
    assert result.num_evaluations == 12 * 12


def test_an_evaluator_of_ones_own_that_goes_on_knows_the_noise(tmp_path):
    draws = np.random.default_rng(0)

    def evaluate(loss_fn, offspring):
        return [loss_fn(one) + 0.1 * draws.standard_normal() for one in offspring]

    algorithm = mutagrad.adapt_sigma(NAMED["elitist"]())
    for number in (5, 12):
        own = mutagrad.Evaluator(evaluate, is_traceable=False)
        result = evolve(algorithm, square, number, evaluation=own, checkpoint=tmp_path)
    assert result.history["is_resampled"].all()


def test_after_fresh_batches_a_loss_without_noise_is_believed_after_ten_looks():
    algorithm = mutagrad.adapt_sigma(NAMED["elitist"]())
    result = evolve(
        algorithm, lambda x, batch: square(x - batch), 40, batches=[np.full(4, i, np.float32) for i in range(5)]
    )
    assert result.stopped == "batches"
    result = evolve(algorithm, Noisy(0), 40, start=result)
    assert (
        result.history["is_resampled"][5:].tolist() == [True] * 10 + [False] * 25
    )  # in the first of them nothing is to be compared


@pytest.mark.parametrize("second", [True, False], ids=["all adapted", "one at a fixed sigma"])
def test_algorithms_that_take_turns(second):
    """The parent before of a turn is some generations old: its loss then is what it is held against."""

    def only(name, is_adapted=True):
        mutation = mutagrad.mutation.masked({"a": name == "a", "b": name == "b"})
        plain = mutagrad.elitist(0.1, 6, mutation=mutation)
        return mutagrad.adapt_sigma(plain) if is_adapted else plain

    start = {"a": np.ones(3, np.float32), "b": np.ones(2, np.float32)}
    draws = np.random.default_rng(2)
    for noise in (0, 0.1):

        def loss_fn(params, noise=noise):
            return float(sum(np.sum(leaf**2) for leaf in params.values())) + noise * draws.standard_normal()

        algorithm = mutagrad.alternate([only("a"), only("b", second)])
        history = mutagrad.evolve(
            KEY, algorithm, start, loss_fn, 20, evaluation=mutagrad.executor(), progress=False
        ).history
        assert history["is_resampled"].any() == (noise > 0)


def test_a_number_of_losses_that_no_turn_takes_is_refused_in_a_program_too():
    def only(name):
        return mutagrad.elitist(0.1, 6, mutation=mutagrad.mutation.masked({"a": name == "a", "b": name == "b"}))

    algorithm = mutagrad.alternate([mutagrad.adapt_sigma(only("a")), only("b")])
    state = algorithm.init({"a": jnp.ones(3), "b": jnp.ones(2)})
    for number in (6, 7, 8, 9):
        told = jax.jit(algorithm.tell)
        if number in (7, 8):
            told(KEY, state, jnp.zeros(number))
            continue
        with pytest.raises(ValueError, match="losses: got shape"):
            told(KEY, state, jnp.zeros(number))


def test_groups_that_rotate_without_noise():
    algorithm = mutagrad.adapt_sigma(mutagrad.elitist(0.1, 6, mutation=mutagrad.mutation.masked([True, False])))
    algorithm = mutagrad.rotate(algorithm, lambda groups: [groups[1], groups[0]], 2)
    result = mutagrad.evolve(
        KEY,
        algorithm,
        [np.ones(3, np.float32)] * 2,
        lambda groups: float(sum(np.sum(group**2) for group in groups)),
        20,
        evaluation=mutagrad.executor(),
        progress=False,
    )
    assert not result.history["is_resampled"].any()


@pytest.mark.parametrize("hidden", ["a large constant", "a penalty"])
def test_noise_is_seen_beside(hidden):
    draws = np.random.default_rng(0)

    def loss_fn(params):
        if hidden == "a penalty" and np.max(params) > 1.02:
            return 1e6
        return 1e9 * (hidden == "a large constant") + square(params) + 0.3 * draws.standard_normal()

    history = evolve(mutagrad.adapt_sigma(NAMED["elitist"]()), loss_fn, 5).history
    assert history["is_resampled"].any()


def test_losses_of_a_wrong_number_are_refused():
    def evaluate(loss_fn, offspring):
        losses = jnp.zeros(len(offspring) - 1)
        return mutagrad.evaluation.Losses(losses, losses, losses, None, 1)

    with pytest.raises(ValueError, match="losses: got 11 for 12 candidates"):
        evolve(
            mutagrad.adapt_sigma(NAMED["elitist"]()),
            square,
            evaluation=mutagrad.Evaluator(evaluate, is_traceable=False),
        )


def test_the_run_says_so_once(capsys):
    evolve(mutagrad.adapt_sigma(NAMED["elitist"]()), Noisy(0.1), progress=True)
    assert capsys.readouterr().err.count("noise of its own") == 1
    # Without a controller of σ there is nothing to say.
    evolve(NAMED["recombination"](), Noisy(0.1), progress=True)
    assert "noise of its own" not in capsys.readouterr().err
