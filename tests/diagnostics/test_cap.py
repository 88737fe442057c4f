"""Caps of directions: against exact shares, an integral of many digits, and sampling."""

import math

import mpmath
import numpy as np
import pytest

from mutagrad.diagnostics.landscape import cap_angle, cap_probability

ANGLES = [1e-3, 0.3, 1.0, 1.4, 1.55, 1.57]


def exact_log(angle, dims):
    """ln of Γ(N/2)/(√π Γ((N − 1)/2)) ∫ sin^{N−2}, with 30 digits; the integral in units of its largest value."""
    with mpmath.workdps(30):
        angle = mpmath.mpf(angle)
        log_sine, width = mpmath.log(mpmath.sin(angle)), mpmath.tan(angle) / (dims - 1)
        ends = sorted({mpmath.mpf(0), *(max(mpmath.mpf(0), angle - k * width) for k in (200, 60, 20, 5, 0))})
        inner = mpmath.quad(
            lambda t: mpmath.exp((dims - 2) * (mpmath.log(mpmath.sin(t)) - log_sine)) if t > 0 else 0, ends
        )
        constant = mpmath.loggamma(mpmath.mpf(dims) / 2) - mpmath.loggamma(mpmath.mpf(dims - 1) / 2)
        return float(constant - mpmath.log(mpmath.pi) / 2 + (dims - 2) * log_sine + mpmath.log(inner))


def test_in_a_plane_and_in_space():
    """α/π on a circle, (1 − cos α)/2 on a sphere, beyond 90° too."""
    angles = np.linspace(0, np.pi, 41)
    np.testing.assert_allclose(cap_probability(angles, 2), angles / np.pi, rtol=1e-13, atol=0)
    np.testing.assert_allclose(cap_probability(angles, 3), np.sin(angles / 2) ** 2, rtol=1e-13, atol=0)


@pytest.mark.parametrize("dims", [3, 10, 10_000, 1_000_000])
def test_logarithms_to_many_digits(dims):
    for angle in ANGLES:
        expected = exact_log(angle, dims)
        assert cap_probability(angle, dims, log=True) == pytest.approx(expected, abs=1e-13 * abs(expected) + 1e-12)
        if expected > -700:
            assert cap_probability(angle, dims) == pytest.approx(math.exp(expected), rel=1e-11)


@pytest.mark.parametrize("dims", [2, 3, 9854, 1_000_000])
def test_the_inverse_goes_back(dims):
    angles = np.array(ANGLES)
    np.testing.assert_allclose(cap_angle(cap_probability(angles, dims, log=True), dims, log=True), angles, rtol=1e-12)
    seen = angles[cap_probability(angles, dims) > 1e-290]
    np.testing.assert_allclose(cap_angle(cap_probability(seen, dims), dims), seen, rtol=1e-12)
    wide = np.pi / 2 + 0.3 / math.sqrt(dims)
    assert cap_angle(cap_probability(wide, dims), dims) == pytest.approx(wide, rel=1e-12)


def test_ends():
    np.testing.assert_allclose(cap_probability([0, np.pi / 2, np.pi], 7), [0, 0.5, 1], rtol=1e-15)
    assert cap_probability([0, np.pi], 7, log=True).tolist() == [-np.inf, 0]
    np.testing.assert_allclose(cap_angle([0, 0.5, 1], 7), [0, np.pi / 2, np.pi], atol=1e-15)
    assert cap_angle(-np.inf, 7, log=True) == 0


@pytest.mark.parametrize("dims", [2, 5, 50])
def test_against_sampling(dims):
    """Counts of 20,000 directions within four standard errors: 1 false alarm in 16,000."""
    directions = np.random.default_rng(dims).standard_normal((20_000, dims))
    angles = np.arccos(directions[:, 0] / np.linalg.norm(directions, axis=1))
    for angle in (1.2, np.pi / 2, 1.8):
        share = cap_probability(angle, dims)
        assert abs(np.mean(angles <= angle) - share) < 4 * math.sqrt(share * (1 - share) / 20_000)


def test_refusals():
    for call, words in (
        (lambda: cap_probability(-0.1, 3), "angle: got -0.1; pass angles from 0 to π"),
        (lambda: cap_probability(math.nan, 3), "angle: got nan"),
        (lambda: cap_probability(1.0, 1), "dims: got 1; pass a whole number of 2 or more"),
        (lambda: cap_angle(1.5, 3), "probability: got 1.5; pass a share from 0 to 1"),
        (lambda: cap_angle(0.5, 3, log=True), "probability: got 0.5; pass logarithms up to 0"),
    ):
        with pytest.raises(ValueError) as refused:
            call()
        assert words in str(refused.value)
