"""Thinning a history, and who won its generations: exact identities and exact distributions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from mutagrad.report.page.ancestors import winners_of
from mutagrad.report.page.thin import MOST, edges, thin


@given(st.integers(1, 10**7), st.integers(4, 1000))
@settings(deadline=None)
def test_bins_are_a_partition_with_the_ends_by_themselves(number, most):
    at = edges(number, most)
    assert at[0] == 0
    assert at[-1] == number
    assert np.all(np.diff(at) > 0)
    assert len(at) - 1 <= most
    assert at[1] == 1
    assert at[-2] == number - 1


def test_no_bin_is_longer_than_its_share_of_the_rows_or_of_their_logarithm():
    at, share = edges(10**6), (MOST - 2) // 2
    ratio = (10**6) ** (1 / share) - 1
    # Rounded to whole rows at both ends.
    assert np.all(np.diff(at) <= np.minimum(10**6 / share, ratio * at[:-1]) + 2)


@given(arrays(np.float64, st.integers(1, 2000), elements=st.floats(allow_nan=True, allow_infinity=True, width=32)))
@settings(deadline=None, max_examples=60)
def test_each_bin_has_the_smallest_median_and_largest_of_its_finite_rows(values):
    found = thin(values, edges(len(values), 16))
    finite = values[np.isfinite(values)]
    assert found.number.sum() == finite.size
    if finite.size:
        assert np.nanmin(found.low) == finite.min()
        assert np.nanmax(found.high) == finite.max()
    for first, last, low, middle, high, number in zip(*found, strict=True):
        own = np.sort([one for one in values[first : last + 1] if np.isfinite(one)])
        assert number == len(own)
        if number:
            assert low == own[0]
            assert high == own[-1]
            assert np.sum(own <= middle) >= number / 2 <= np.sum(own >= middle)
        else:
            assert np.isnan([low, middle, high]).all()


def test_as_many_rows_as_bins_are_the_rows():
    values = np.random.default_rng(0).standard_normal(MOST)
    found = thin(values)
    for one in (found.low, found.middle, found.high):
        np.testing.assert_array_equal(one, values)


def test_winners_are_counted_and_the_parent_apart():
    winner = np.random.default_rng(1).integers(-2, 7, 5000).astype(np.int8)
    found = winners_of({"winner": winner}, num_offspring=7)
    assert found.stayed == np.sum(winner < 0)
    assert found.stayed + found.wins.sum() == found.number == 5000
    assert [np.sum(winner == one) for one in range(7)] == found.wins.tolist()


def test_of_losses_the_lowest_wins_and_what_is_not_finite_never():
    losses = np.array([[3.0, 1.0, 2.0], [np.nan, np.inf, 5.0], [np.nan, np.nan, np.inf]])
    found = winners_of({"losses": losses})
    assert found.wins.tolist() == [0, 1, 1]
    assert found.stayed == 1


def test_equal_chances_have_a_uniform_p_value_and_unequal_ones_a_small_one():
    generator = np.random.default_rng(2)
    chances = [winners_of({"winner": generator.integers(0, 5, 400)}, 5).p_value for _ in range(200)]
    assert stats.kstest(chances, "uniform").pvalue > 1e-4
    skewed = np.where(generator.random(400) < 0.2, 0, generator.integers(0, 5, 400))
    assert winners_of({"winner": skewed}, 5).p_value < 1e-4


def test_too_few_wins_are_not_tested():
    assert np.isnan(winners_of({"winner": np.arange(10)}, 10).p_value)
    assert winners_of({"winner": np.zeros(0, int)}) is None
    assert winners_of({"checksum": np.zeros(3)}) is None


def test_places_in_windows_scatter_about_equal_chances():
    winner = np.random.default_rng(3).integers(0, 20, 8000)
    found = winners_of({"winner": winner}, 20)
    pull = (found.place - 9.5) / found.error
    # The sum of squares of 40 standard normals, two-sided.
    low, high = stats.chi2.ppf([1e-5, 1 - 1e-5], len(pull))
    assert low < np.sum(pull**2) < high
    assert found.generation[0] == pytest.approx(100.5)
