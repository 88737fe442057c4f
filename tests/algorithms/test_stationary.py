"""At finite β a chain samples exactly e^{−βU}, at any σ: the last states of many chains against the exact law.

Each chain gives one sample, so that samples are independent and the Kolmogorov–Smirnov test means what it says. It is
used at a false-alarm rate of 10⁻³; with n = 20 000 chains the critical distance is 1.95/√n = 0.0138. The power is
measured in the same tests: laws that are wrong by little are rejected by the same samples.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

import mutagrad

NUM_CHAINS = 20_000
BETA = 3.0
SIGMA = 0.8
FALSE_ALARM = 1e-3
CRITICAL = stats.kstwo.isf(FALSE_ALARM, NUM_CHAINS)


def double_well(x):
    """Minima at ±1, a barrier of height 1 between them, and a tilt so that the wells differ."""
    return (x**2 - 1) ** 2 + 0.2 * x


def exact_cdf(beta, loss=double_well):
    grid = np.linspace(-3.5, 3.5, 20_001)
    density = np.exp(-beta * loss(grid))
    cumulative = integrate.cumulative_simpson(density, x=grid, initial=0)
    return lambda x: np.interp(x, grid, cumulative / cumulative[-1])


def slowest_decay(acceptance, sigma=SIGMA):
    """Second largest eigenvalue of the chain on a grid, in NumPy: how fast it forgets where it started."""
    grid = np.linspace(-2.6, 2.6, 261)
    loss = double_well(grid)
    proposal = np.exp(-((grid[:, None] - grid) ** 2) / (2 * sigma**2)) * (grid[1] - grid[0]) / math.sqrt(2 * np.pi)
    kernel = proposal / sigma * acceptance(loss[None, :] - loss[:, None])
    np.fill_diagonal(kernel, 0)
    np.fill_diagonal(kernel, 1 - kernel.sum(axis=1))
    return np.sort(np.linalg.eigvals(kernel).real)[-2]


def moran(difference, n, beta):
    s = np.where(difference == 0, 1e-9, -beta * difference)
    with np.errstate(over="ignore"):
        return np.expm1(-s) / np.expm1(-n * s)


# Population size is inverse temperature: β(n − 1) = 3 for Moran with n = 4, 2β(n − 1) = 3 for Wright–Fisher.
CHAINS = {
    "metropolis": (mutagrad.metropolis(SIGMA, BETA), lambda d: np.exp(-BETA * np.maximum(d, 0)), 150),
    "logistic": (mutagrad.logistic(SIGMA, BETA), lambda d: 1 / (1 + np.exp(np.minimum(BETA * d, 700))), 200),
    "moran": (mutagrad.fixation(SIGMA, BETA / 3, 4), lambda d: moran(d, 4, BETA / 3), 300),
    "wright_fisher": (
        mutagrad.fixation(SIGMA, BETA / 6, 4, "wright_fisher"),
        lambda d: moran(d, 4, BETA / 3),  # (1 − e^{−2s})/(1 − e^{−2ns})
        300,
    ),
}


def run_chains(algorithm, num_steps, loss_fn=double_well, num_chains=NUM_CHAINS, seed=0):
    """(num_chains,) final states; the starts are uniform over (−1.8, 1.8), wrong within and between the wells."""
    start_key, chain_key = jax.random.split(jax.random.key(seed))
    starts = jax.random.uniform(start_key, (num_chains,), minval=-1.8, maxval=1.8)
    template = algorithm.init(jnp.zeros(()))

    def chain(key, x):
        def body(state, step_key):
            return algorithm.step(step_key, state, loss_fn)[0], None

        return jax.lax.scan(body, template.with_params(x), jax.random.split(key, num_steps))[0].params

    return np.asarray(jax.jit(jax.vmap(chain))(jax.random.split(chain_key, num_chains), starts), float)


@functools.cache
def samples(name):
    algorithm, _, num_steps = CHAINS[name]
    return run_chains(algorithm, num_steps)


def distance(values, cdf):
    return stats.kstest(values, cdf).statistic


@pytest.mark.parametrize("name", CHAINS)
def test_stationary_distribution(name):
    _, acceptance, num_steps = CHAINS[name]
    # What is left of the start is below a tenth of the distance that the test can see.
    assert slowest_decay(acceptance) ** num_steps < CRITICAL / 10
    assert distance(samples(name), exact_cdf(BETA)) < CRITICAL


@pytest.mark.parametrize("name", CHAINS)
def test_power(name):
    """The same samples reject a temperature 20 % off either way, and the mirrored double well."""
    for wrong in (exact_cdf(0.8 * BETA), exact_cdf(1.25 * BETA), exact_cdf(BETA, lambda x: double_well(-x))):
        assert distance(samples(name), wrong) > CRITICAL


def test_smallest_error_in_beta_that_is_seen():
    """Distance of laws alone: 10 % in β lies above the critical value, so that the test above would see it."""
    grid = np.linspace(-3, 3, 4001)
    shift = {factor: np.max(np.abs(exact_cdf(factor * BETA)(grid) - exact_cdf(BETA)(grid))) for factor in (0.9, 1.1)}
    assert min(shift.values()) > CRITICAL


def test_the_start_is_rejected():
    """Nothing is proved by chains that begin in the exact law: the starts are rejected by far."""
    starts = run_chains(CHAINS["metropolis"][0], 0)
    assert distance(starts, exact_cdf(BETA)) > 5 * CRITICAL


def test_greedy_does_not_sample():
    """Greedy selection, by contrast, ends in the minima: rejected at once."""
    values = run_chains(mutagrad.greedy(SIGMA), 150, num_chains=2000)
    assert distance(values, exact_cdf(BETA)) > 5 * stats.kstwo.isf(FALSE_ALARM, 2000)
