"""Laws of docs/theory.md 10 and 11 without the library's own mutations: exact sums where there are some, else simulation."""

import math

import numpy as np
import pytest
from scipy import special, stats

from mutagrad import selection

BETA = 1e-3
RULES = {"metropolis": (selection.metropolis, 2), "logistic": (selection.logistic, 4)}


def loss(x):
    return x**2 / 2 + x**3 / 10


def lattice_drift(rule, x, h):
    """Mean step of one site that is proposed ±h with probability ½ each, in float64, in units of −βh²."""
    accept = RULES[rule][0](BETA).law.acceptance_fn
    up, down = (float(accept(np.float64(loss(x + step) - loss(x)))) for step in (h, -h))
    return -(up - down) / (2 * BETA * h)


# --- 10: lattices --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("h", [0.4, 0.2])
def test_drift_on_a_lattice(h):
    """Rules smooth at 0: ¼ of the centred difference. Metropolis: ½ of the difference uphill, off by ½hU″ from the slope."""
    import jax

    with jax.enable_x64(True):
        for x in (1.0, 2.0):
            up, down = loss(x + h) - loss(x), loss(x) - loss(x - h)
            assert lattice_drift("logistic", x, h) == pytest.approx((up + down) / (8 * h), rel=1e-5)
            assert lattice_drift("metropolis", x, h) == pytest.approx(up / (2 * h), rel=2e-3)
            slope, curvature, third = x + 3 * x**2 / 10, 1 + 6 * x / 10, 6 / 10
            assert up / h == pytest.approx(slope + h * curvature / 2 + h**2 * third / 6)
            assert (up + down) / (2 * h) == pytest.approx(slope + h**2 * third / 6)
        # Between two uphill neighbours Metropolis has twice the centred difference.
        up, down = loss(0.05 + h) - loss(0.05), loss(0.05) - loss(0.05 - h)
        assert lattice_drift("metropolis", 0.05, h) == pytest.approx((up + down) / (2 * h), rel=2e-3)


@pytest.mark.parametrize("rule", RULES)
def test_stationary_law_on_a_lattice(rule):
    """e^{−βU} exactly if a proposal beyond the end is rejected; not if it is clipped to another site."""
    import jax

    sites, beta = np.arange(-3.0, 4.0), 0.8
    with jax.enable_x64(True):
        accept = np.asarray(RULES[rule][0](beta).law.acceptance_fn(loss(sites)[None] - loss(sites)[:, None]))
    law = np.exp(-beta * loss(sites))
    law /= law.sum()

    def stationary(far):
        """Of jumps by 1 or 2 sites either way, those beyond the end made ``far``."""
        chain = np.zeros((7, 7))
        for i in range(7):
            for jump in (-2, -1, 1, 2):
                j = i + jump
                if not 0 <= j < 7:
                    j = i if far == "rejected" else min(max(j, 0), 6)
                if j != i:
                    chain[i, j] += accept[i, j] / 4
            chain[i, i] = 1 - chain[i].sum()
        return np.linalg.matrix_power(chain, 4096)[0]

    np.testing.assert_allclose(stationary("rejected"), law, rtol=1e-9)
    assert np.max(np.abs(stationary("clipped") / law - 1)) > 0.05


# --- 11: populations -----------------------------------------------------------------------------------------------------


def test_fixed_effects_of_a_move_rule():
    """Probability s_j/Σs_k turns exponential effects into Gamma(2); a uniform choice among the beneficial leaves them."""
    generator = np.random.default_rng(2)
    effects = generator.exponential(1.0, (50_000, 60))
    uniform = generator.random(50_000)
    chosen = np.argmax(np.cumsum(effects, axis=1) > uniform[:, None] * effects.sum(axis=1, keepdims=True), axis=1)
    fixed = effects[np.arange(50_000), chosen]
    # Of 60 effects the choice is by size over a sum that it is a part of: Gamma(2) to a share 1/60.
    assert stats.kstest(fixed, stats.gamma(2).cdf).statistic < 1.95 / math.sqrt(50_000) + 1 / 60
    assert stats.kstest(effects[:, 0], stats.expon.cdf).statistic < 1.95 / math.sqrt(50_000)
    assert fixed.mean() == pytest.approx(2, rel=0.05)


def best_in_ball(number, dimensions):
    """Mean depth below the pole and root mean square distance from it of the best of N, with 4000 quantiles of its law.

    (1 − x₁)/2 is Beta((n + 1)/2, (n + 1)/2), and the rest of the point is uniform in a ball of n − 1 dimensions.
    """
    upper = -np.expm1(np.log((np.arange(4000) + 0.5) / 4000) / number)
    depth = 2 * special.betaincinv((dimensions + 1) / 2, (dimensions + 1) / 2, upper)
    across = (2 * depth - depth**2) * (dimensions - 1) / (dimensions + 1)
    return np.array([np.mean(depth), math.sqrt(np.mean(depth**2 + across))])


def test_the_law_of_the_best_in_a_ball():
    """Against 2000 draws of the best of 50 in five dimensions."""
    points = np.random.default_rng(3).standard_normal((2000, 50, 5))
    points *= np.random.default_rng(4).random((2000, 50, 1)) ** 0.2 / np.linalg.norm(points, axis=2, keepdims=True)
    best = points[np.arange(2000), np.argmax(points[:, :, 0], axis=1)]
    samples = np.stack([1 - best[:, 0], np.sum((best - np.eye(5)[0]) ** 2, axis=1)])
    law = best_in_ball(50, 5) ** (1, 2)
    assert np.all(np.abs(samples.mean(axis=1) - law) < 4.5 * samples.std(axis=1) / math.sqrt(2000))


@pytest.mark.parametrize("dimensions", [2, 5, 10])
def test_the_best_of_many_in_a_ball(dimensions):
    """Depth below the pole falls like N^{−2/(n+1)}, the distance from it like N^{−1/(n+1)}; in high dimension hardly."""
    first, last = (best_in_ball(number, dimensions) for number in (1e10, 1e12))
    exponents = np.log(first / last) / math.log(100)
    np.testing.assert_allclose(exponents, [2 / (dimensions + 1), 1 / (dimensions + 1)], rtol=0.03)
    # At N = 9854 no number of samples comes near: the distance is that of a random direction, √2.
    assert best_in_ball(1e6, 9854)[1] == pytest.approx(math.sqrt(2), rel=0.05)
