"""The share of examples that early rejection evaluates, at the ends of its domain."""

import math

import numpy as np
import pytest

from mutagrad.theory import examples_evaluated


def test_without_noise_it_is_the_limit():
    """As B* → 0, and next to it: the share changes like √B*."""
    for number, error in ((1, 0.01), (20, 0.01), (20, 0.3)):
        shares = examples_evaluated(number, 60_000, [0.0, 1e-12, 1e-10], error)
        assert np.all(np.isfinite(shares))
        np.testing.assert_allclose(shares[0], shares[1:], rtol=1e-4)
    assert examples_evaluated(20, 60_000, 0).shape == ()


def test_what_is_not_known_and_all_noise():
    shares = examples_evaluated(20, 60_000, [math.nan, math.inf, 1e15])
    assert np.isnan(shares[0])
    assert shares[1] == pytest.approx(shares[2], rel=1e-6)


def test_without_error_no_candidate_is_dropped():
    np.testing.assert_array_equal(examples_evaluated(20, 60_000, [0.0, 10.0], 0.0), [1.0, 1.0])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"noise_scale": [3.0, -2.0]}, "noise_scale: got -2; pass numbers of 0 or more"),
        ({"error": 0.5}, "error: got 0.5; pass a probability of 0 or more and below 0.5"),
        ({"error": math.nan}, "error: got nan; pass a probability"),
        ({"error": True}, "error: got True; pass a probability"),
    ],
)
def test_arguments_that_are_refused(arguments, words):
    with pytest.raises(ValueError, match=f"^{words}"):
        examples_evaluated(**{"num_offspring": 20, "batch_size": 60_000, "noise_scale": 100.0} | arguments)
