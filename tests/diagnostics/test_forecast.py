"""Forecasts of a run's loss: coverage on curves that they assume, honesty about levels, and bad input."""

import numpy as np
import pytest
from scipy import stats

from mutagrad.diagnostics import forecast


def curve(level, amplitude, exponent, number):
    return level + amplitude * np.arange(1, number + 1) ** -float(exponent)


@pytest.mark.parametrize(("level", "exponent"), [(0.0, 0.5), (0.3, 1.0), (-2.0, 0.2)])
def test_coverage_on_power_laws(level, exponent):
    """100 histories of independent noise, 80 % intervals: the number that hold the truth is within binomial chance of 10⁻⁴.

    From above only by half of that: intervals may be wider, since errors are enlarged to fit.
    """
    number, rng, inside = 1000, np.random.default_rng(3), 0
    clean = curve(level, 1.0, exponent, number)
    decrease = clean[-1] - (level + (4 * number) ** -exponent)
    for _ in range(100):
        found = forecast({"loss": clean + 0.01 * np.ptp(clean[125:]) * rng.standard_normal(number)}, decrease)
        # The loss now is the mean of a twentieth of the run, with its noise: the truth is when the curve is that much lower.
        target = found.loss - decrease
        truth = ((target - level) / 1.0) ** (-1 / exponent) - number if target > level else np.inf
        inside += found.soonest <= truth <= found.latest
    assert stats.binom.ppf(1e-4, 100, 0.8) <= inside <= 100, inside
    assert inside <= 98 or exponent != 1.0, inside


def test_an_exponential_is_forecast():
    """ln 2 times the time constant to half the loss, from a noiseless run of four time constants; within a third."""
    found = forecast({"loss": np.exp(-np.arange(2000) / 500)}, decrease=None)
    assert found.decrease == pytest.approx(found.loss / 10)
    half = forecast({"loss": np.exp(-np.arange(2000) / 500)}, found.loss / 2)
    assert 0.67 < half.generations / (500 * np.log(2)) < 1.5


def test_below_its_level_is_never():
    """A loss that has levelled off at 1 is not forecast to fall to ½."""
    loss = curve(1.0, 5.0, 2.0, 2000) + 1e-3 * np.random.default_rng(0).standard_normal(2000)
    found = forecast({"loss": loss}, 0.5)
    assert found.generations == np.inf
    assert found.latest == np.inf


def test_failed_generations_are_left_out():
    loss = curve(0.0, 1.0, 0.5, 800)
    damaged = loss.copy()
    damaged[::7] = np.nan
    damaged[3::50] = np.inf
    whole, holed = forecast({"loss": loss}), forecast({"loss": damaged})
    assert holed.generations == pytest.approx(whole.generations, rel=0.1)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (({"loss": np.ones(100)},), "history"),
        (({"loss": np.full(500, np.nan)},), "history"),
        (({"loss": np.ones(500)}, -1.0), "decrease"),
        (({"loss": np.ones(500)}, 0.1, 1.0), "coverage"),
        (({"loss": np.ones(500)}, 0.1, 0.0), "coverage"),
    ],
)
def test_bad_input_is_one_line(arguments, name):
    with pytest.raises(ValueError, match=f"^{name}: got") as error:
        forecast(*arguments)
    assert "\n" not in str(error.value)
