"""What a steady state gains (theory.md 2.6): the law against the process itself, which NumPy follows on a slope."""

import numpy as np
import pytest
from scipy.special import ndtr

from mutagrad import theory
from verification.steady_state import process


@pytest.mark.parametrize("is_equal", [False, True])
@pytest.mark.parametrize("width", [1, 2, 4, 16, 64])
@pytest.mark.parametrize("strength", [0.0, 1.5])
def test_the_law_is_a_bound_that_is_less_than_a_fifth_too_small(width, strength, is_equal):
    """At one it is exact. Above, what fluctuates gains more than its mean, for gains are convex in what was gained meanwhile."""
    gain, error = process(width, strength, is_equal, 600)
    law = theory.steady_state_gain(width, strength, is_equal=is_equal)
    if width == 1:
        assert abs(law - gain) < 4 * error
    else:
        assert 0.8 * (gain - 4 * error) < law < gain


def test_one_is_greedy_and_many_gain_as_one_over_the_root():
    half = 0.6
    alone = np.exp(-(half**2) / 2) / np.sqrt(2 * np.pi) - half * ndtr(-half)
    np.testing.assert_allclose(theory.steady_state_gain(1, 1.2), alone, rtol=1e-12)
    for width in (100, 10_000):
        assert abs(theory.steady_state_gain(width) * 2 * np.sqrt(width) - 1) < 3 / np.sqrt(width)
    # Where times are equal it falls faster, but for a logarithm like 1/W.
    assert theory.steady_state_gain(10_000, is_equal=True) < 4 * np.sqrt(2 * np.log(10_000)) / 10_000
    for strength in (-80.0, -5.0, 21.0, 30.0, 60.0, 80.0, 1e6):
        for width in (1, 2, 64):
            gain = theory.steady_state_gain(width, strength)
            # As long as nobody is replaced everybody gains what one alone does.
            assert gain == pytest.approx(theory.steady_state_gain(1, strength), rel=1e-3) or strength < 10
            assert max(-strength, 0) / (2 * width) <= gain * 1.0001


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "^num_in_flight: got 0"),
        ((2, np.nan), "^strength: got nan"),
        ((2.5,), "^num_in_flight: got 2.5"),
        ((10**6,), "^num_in_flight: got 1000000"),
        ((2, "x"), "^strength: got 'x'"),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        theory.steady_state_gain(*arguments)
