"""Laws that the claims of Kucharavy et al. 2023 state, against plain sampling."""

import math

import numpy as np
import pytest
from scipy import stats

from mutagrad.lab.claims.kucharavy2023.limit import mean_distance
from mutagrad.lab.claims.kucharavy2023.mixing import linear_cosines


def points(random, shape, size, is_sphere):
    """Uniform points of the unit ball, or sphere, without a line of the library: (shape, size)."""
    drawn = random.standard_normal((*shape, size))
    drawn /= np.linalg.norm(drawn, axis=-1, keepdims=True)
    return drawn if is_sphere else drawn * random.uniform(size=(*shape, 1)) ** (1 / size)


@pytest.mark.parametrize("is_sphere", [False, True])
@pytest.mark.parametrize(("size", "number"), [(2, 1), (2, 20), (3, 7), (10, 50)])
def test_distance_of_the_best_from_the_step(size, number, is_sphere):
    random = np.random.default_rng(size)
    drawn = points(random, (4000, number), size, is_sphere)
    best = np.take_along_axis(drawn, drawn[..., 0].argmax(1)[:, None, None], 1)[:, 0]
    best[:, 0] -= 1
    for power in (1, 2):
        found = np.linalg.norm(best, axis=1) ** power
        # Four errors: one false alarm in 16,000.
        error = 4 * found.std(ddof=1) / math.sqrt(len(found))
        assert abs(found.mean() - mean_distance(size, number, is_sphere, power)) < error


@pytest.mark.parametrize(
    ("size", "is_sphere", "power"), [(2, False, 3), (3, False, 4), (5, False, 6), (3, True, 2), (5, True, 4)]
)
def test_the_distance_falls_like_a_root_of_the_mutations(size, is_sphere, power):
    few, many = (mean_distance(size, number, is_sphere) for number in (1e9, 1e12))
    assert math.log(many / few) / math.log(1e3) == pytest.approx(-1 / power, rel=2e-3)


def test_in_many_dimensions_it_stays_a_right_angle_away():
    for number in (20, 1e9):
        assert mean_distance(9854, number) ** 2 == pytest.approx(2 - 2 * _largest(number) / math.sqrt(9854), rel=0.01)


def _largest(number):
    """E of the largest of so many normals, from its quantiles."""
    u = (np.arange(20_000) + 0.5) / 20_000
    return float(stats.norm.isf(-np.expm1(np.log(u) / number)).mean())


@pytest.mark.parametrize("is_improving", [False, True])
@pytest.mark.parametrize("size", [3, 30])
def test_cosines_of_two_mutations_from_five_numbers(size, is_improving):
    random = np.random.default_rng(size)
    first, second = random.standard_normal((2, 20_000, size))
    if is_improving:
        first[:, 0], second[:, 0] = np.abs(first[:, 0]), np.abs(second[:, 0])
    plain = np.sum(first * second, 1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
    # One false alarm in 10,000.
    assert stats.ks_2samp(plain, linear_cosines(random, 20_000, size, is_improving)).pvalue > 1e-4
