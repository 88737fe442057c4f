"""Laws 6.9 and 6.10 of docs/theory.md: demes that mix, and a slope that changes, against exact chains and populations."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import mutagrad
from mutagrad import theory

population = theory.population


def chance_in_demes(s, own, demes, migration):
    """Fixation of one mutant among demes of so many, from the chain of all their numbers; parents are of one deme each."""
    mixing = np.full((demes, demes), migration / (demes - 1))
    np.fill_diagonal(mixing, 1 - migration)
    states = list(itertools.product(range(own + 1), repeat=demes))
    chain = np.empty((len(states), len(states)))
    for i, state in enumerate(states):
        copies = np.array(state)
        share = mixing @ (copies * math.exp(s) / (copies * math.exp(s) + own - copies))
        rows = [stats.binom.pmf(np.arange(own + 1), own, one) for one in share]
        chain[i] = [math.prod(row[j] for row, j in zip(rows, other, strict=True)) for other in states]
    inner = chain[1:-1, 1:-1]
    ever = np.linalg.solve(np.eye(len(inner)) - inner, chain[1:-1, -1])
    first = [states.index(tuple(int(j == deme) for j in range(demes))) - 1 for deme in range(demes)]
    return float(np.mean(ever[first]))


@pytest.mark.parametrize("migration", [0.02, 0.3, 0.75])
@pytest.mark.parametrize(("own", "demes"), [(4, 2), (2, 3), (3, 2)])
def test_demes_that_mix_have_one_learning_rate(own, demes, migration):
    """The derivative of fixation in s, exactly, is (n − D)/n: half of ν over n. Migration does not matter, n − 1 is excluded."""
    size, step = own * demes, 1e-4
    up, down = (chance_in_demes(sign * step, own, demes, migration) for sign in (1, -1))
    found = (up - down) / (2 * step)
    rates = population.learning_rates(1.0, 1.0, size, 0.1, num_demes=demes)
    assert found == pytest.approx(rates.per_proposed, rel=1e-5)
    assert found == pytest.approx((size - demes) / size, rel=1e-5)
    assert rates.per_fixed == rates.inverse_temperature / 2 == size - demes
    assert rates.per_generation == pytest.approx(0.1 * (size - demes))


def test_demes_of_one_genome_follow_nothing():
    """All parents of a deme are one: nobody is selected, at β = ∞ neither."""
    assert population.learning_rates(0.1, math.inf, 8, 0.1, num_demes=8) == (0, 0, 0, 0)


@pytest.mark.parametrize("size", [3, 6])
def test_the_kernel_is_the_derivative_of_what_is_fixed(size):
    """Mutations of every age under one generation of selection so many generations ago, through the chains of their lives."""
    step, latest = 1e-4, 160
    neutral = population.transition_matrix(0.0, size, "wright_fisher")
    chains = [population.transition_matrix(sign * step, size, "wright_fisher") for sign in (1, -1)]
    kernel = population.response_kernel(size, 12)
    for lag, law in enumerate(kernel):
        now = 0.0
        for sign, selected in zip((1, -1), chains, strict=True):
            for age in range(lag + 1, latest):
                copies = np.eye(size + 1)[1]
                for generation in range(age - 1, -1, -1):
                    copies[-1] = 0  # those that were fixed before now
                    copies = copies @ (selected if generation == lag else neutral)
                now += sign * copies[-1] / (2 * step)
        assert now * size / (size - 1) == pytest.approx(law, rel=1e-6)


def test_the_whole_kernel_is_one_and_lags_by_about_n():
    """It sums up to 1, lags by n of many genomes, half of the time of fixation, and its transform is the response to a turn."""
    lags = []
    for size in (20, 60, 120):
        kernel = population.response_kernel(size, 40 * size)
        assert kernel.sum() == pytest.approx(1, abs=1e-9)
        assert np.all(kernel >= 0)
        lags.append(kernel @ np.arange(len(kernel)))
        for turn in (0.0, 0.3 / size, 2.0):
            law = kernel @ np.exp(-1j * turn * np.arange(len(kernel)))
            assert population.turning_response(size, turn) == pytest.approx(law, abs=1e-8)
    assert np.diff(lags) / np.array([40, 60]) == pytest.approx(1, abs=0.01)
    assert lags[-1] == pytest.approx(population.fixation_time(0.0, 120, "wright_fisher") / 2, rel=0.03)
    assert population.turning_response(20, 0.0) == pytest.approx(1, abs=1e-12)


def test_the_fixed_part_follows_a_slope_that_begins():
    """Populations in equilibrium meet a slope: after n, 2n and 3n generations the fixed part is where the kernel says.

    4 errors of 2,048 runs, and 4 % for neighbours. A fixed part that follows at once would be 1.3 to 2.6 times as far.
    """
    size, rate, effect, runs, burn = 10, 0.3, 0.05, 2048, 60
    algorithm = mutagrad.population(effect, 1.0, size, rate)
    begins = [size, 2 * size, 3 * size]

    @jax.jit
    @jax.vmap
    def run(key):
        def body(state, generation):
            state, info = algorithm.step(
                jax.random.fold_in(key, generation), state, lambda x: jnp.where(generation >= burn, 1.0, 0.0) * x
            )
            return state, (state.ancestor, info.turnover.num_dropped)

        return jax.lax.scan(body, algorithm.init(jnp.zeros(())), jnp.arange(burn + begins[-1]))[1]

    fixed, dropped = (np.asarray(one, float) for one in run(jax.random.split(jax.random.key(7), runs)))
    assert not dropped.any()
    rates = population.learning_rates(effect, 1.0, size, rate)
    course = -rates.per_generation * np.cumsum(np.cumsum(population.response_kernel(size, begins[-1])))
    for time in begins:
        moved = fixed[:, burn + time - 1] - fixed[:, burn - 1]
        error = moved.std(ddof=1) / math.sqrt(runs)
        law = course[time - 1]
        assert abs(moved.mean() - law) < 4 * error + 0.04 * abs(law)
        at_once = -rates.per_generation * time
        assert abs(at_once - law) > 4 * error + 0.04 * abs(law)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: population.response_kernel(1, 5), "population_size: got 1; pass a whole number of 2 or more"),
        (lambda: population.response_kernel(2001, 5), "population_size: got 2001; pass 2000 at most"),
        (lambda: population.response_kernel(5, 0), "num_generations: got 0"),
        (lambda: population.turning_response(5, math.nan), "turn: got nan; pass a finite angle"),
        (lambda: population.learning_rates(0.1, 1.0, 10, num_demes=3), "num_demes: got 3 for 10 genomes"),
        (lambda: population.learning_rates(0.1, 1.0, 10, 0.1, "moran", 2), "num_demes: got 2 with model 'moran'"),
    ],
)
def test_what_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
