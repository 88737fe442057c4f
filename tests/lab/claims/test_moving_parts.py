"""The laws of S22-6 against plain sums over chains."""

import numpy as np
import pytest

from mutagrad.lab.claims.sourbut2022.moving_parts import (
    along_a_slope,
    large,
    of_mixing,
    response,
    turn_of_next_order,
)
from mutagrad.theory.population import transition_matrix


@pytest.mark.parametrize("migration", [0.01, 0.1, 0.75])
@pytest.mark.parametrize(("size", "demes"), [(20, 4), (20, 2), (6, 3)])
def test_migration_does_not_matter(size, demes, migration):
    """n times the sum of the mean p_j(1 − p_j) of one neutral mutation is n − D: the second moments, generation by generation."""
    own, first = size // demes, 1 / size
    mixing = np.full((demes, demes), migration / (demes - 1))
    np.fill_diagonal(mixing, 1 - migration)
    # E[p_j p_k] of a mutation that arises in the first deme; its mean share of deme j is that of the genomes it comes from.
    mean = np.zeros(demes)
    mean[0] = 1 / own
    squares = np.diag(mean**2)
    total = 0.0
    for _ in range(20_000):
        left = np.mean(mean - np.diag(squares))
        total += left
        if left < 1e-12 * first:
            break
        mean, squares = mixing @ mean, mixing @ squares @ mixing.T
        squares[np.diag_indices(demes)] += (mean - np.diag(squares)) / own
    assert np.isclose(size * total, of_mixing(size, demes), rtol=1e-6)


@pytest.mark.parametrize("frequency", [0.0, 0.1, 0.9])
def test_the_response_is_the_derivative_of_what_is_fixed(frequency):
    """Mutations of one sign and of the other, each under the slope of its time: half the difference of what they fix."""
    size, step, latest = 6, 1e-4, 150
    now = 0.0
    for part in (1, 1j):
        for sign in (1, -1):
            slopes = [(part * np.exp(1j * frequency * lag)).real for lag in range(latest)]
            chains = [transition_matrix(sign * step * slope, size, "wright_fisher") for slope in slopes]
            for age in range(1, latest):
                # Arisen so long ago and fixed now: through the chains of its generations, and not fixed before.
                law = np.eye(size + 1)[1]
                for chain in chains[age - 1 :: -1]:
                    law[-1] = 0
                    law = law @ chain
                # (1, i) times the slopes cos and −sin of lags before now.
                now += part * sign * law[-1] / (2 * step)
    assert np.isclose(now * size / (size - 1), response(size, frequency), rtol=1e-5, atol=1e-6)


def test_at_rest_the_response_is_whole_and_the_lag_is_about_n():
    """At ω = 0 it is that of a constant slope, and it lags by n generations of many genomes, half of the time of fixation."""
    assert np.isclose(response(40, 0.0), 1)
    lags = [-np.angle(response(size, 1e-5)) / 1e-5 for size in (50, 100, 200)]
    assert np.allclose(np.diff(lags) / np.array([50, 100]), 1, atol=0.02)


def test_small_mutations_follow_the_gradient():
    """Of tiny mutations the mean is along −∇U and has the length of the linear law, and a slope alone gives the same."""
    size, sigma = 5, 0.02
    along, across = large(size, sigma, (1.0, 0.1)).step
    assert abs(across / along) < 1e-3
    assert np.isclose(along * size / (size - 1) / sigma, 1, atol=5e-3)
    assert np.isclose(along_a_slope(size, sigma).step, 1, atol=2e-3)


def test_the_turn_of_small_mutations_is_like_the_square_of_sigma():
    """The turn over that of the next order nears 1, and what it lacks falls like σ²: three sizes extrapolate to 1."""
    size, curvatures = 5, (1.0, 0.1)
    sizes = np.array([0.0025, 0.005, 0.01])
    over = []
    for square in sizes:
        along, across = large(size, np.sqrt(square), curvatures).step
        over.append(across / along / turn_of_next_order(size, np.sqrt(square), curvatures))
    assert np.isclose(np.polyval(np.polyfit(sizes, over, 2), 0.0), 1, atol=2e-3)
    assert over[2] < over[1] < over[0] < 1
