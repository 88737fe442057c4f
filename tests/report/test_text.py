"""Findings in words: the assumption that failed is named, unknown definitions are said in a line, and `print` is short."""

import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mutagrad
import mutagrad.report  # sentences in place of tables
from mutagrad.diagnostics import findings, forecast, regime
from mutagrad.diagnostics.plans import promised_decrease
from mutagrad.estimate import Estimate
from mutagrad.types import Selection

ALGORITHM = mutagrad.elitist(0.02, 20)


def run(algorithm):
    return mutagrad.evolve(jax.random.key(0), algorithm, jnp.ones(1000), lambda x: 500 * x**2, 100, progress=False)


@pytest.fixture(scope="module")
def result():
    """A run on a sphere of 1000 parameters, which gains what it is promised."""
    return run(ALGORITHM)


@pytest.fixture(scope="module")
def measured(result):
    return regime(result.history, algorithm=ALGORITHM)


@pytest.mark.parametrize(
    ("share", "success", "skewness", "verdict", "words"),
    [
        (1.0, 1.0, 0.05, "as promised", ""),
        (0.5, 0.5, 2.0, "rough", "not normal about a parabola here. See the successes."),
        (0.5, 1.0, 0.6, "skewed", "skewness is counted to first order only."),
        (0.5, 1.0, -0.6, "skewed", "skewness is counted to first order only."),
        (0.5, 1.0, 0.05, "drifting", "slope and σ may have changed within the window."),
    ],
)
def test_the_assumption_that_failed_is_named(measured, share, success, skewness, verdict, words):
    """The run as it was but for its gain, in units of the promised one, its successes, in those of Φ(−s/2), and its skewness."""
    found = measured._replace(
        skewness=Estimate(skewness, 0.01), success=Estimate(success * measured.predicted_success.value, 1e-4)
    )
    promised = float(promised_decrease(ALGORITHM.definition, found))
    found = found._replace(decrease=Estimate(share * promised, 1e-3 * promised))
    assert {one.name: one.follows for one in findings(found)}["decrease"] == verdict
    text = next(line for line in str(found).split("\n") if line.startswith("Decrease"))
    assert ("The two differ" in text) == (words != "")
    assert text.endswith(words)


@pytest.mark.parametrize(
    ("factor", "verdict", "of_strength"),
    [(0.01, "too small", "gradient regime"), (1.0, "right", "beyond"), (3.0, "too large", "far beyond")],
)
def test_verdicts_on_sigma_and_s(measured, factor, verdict, of_strength):
    """The same slope and curvature met by another σ, in units of the best: s and σ are in proportion."""
    best = {one.name: one.estimate.value for one in findings(measured)}["best mutation scale"]
    sigma = factor * best
    strength = measured.normalized_mutation_strength.value * sigma / measured.sigma.value
    found = measured._replace(
        sigma=Estimate(sigma, 0.0), normalized_mutation_strength=Estimate(strength, 0.01), luck=Estimate(0.0, 0.005)
    )
    follows = {one.name: one.follows for one in findings(found)}
    assert (follows["mutation scale"], follows["normalised mutation strength"]) == (verdict, of_strength)
    assert f"is {verdict}." in str(found)


def test_a_sigma_may_be_too_small_to_show_curvature(measured):
    """s is known to be far below the best though TrH is not told from 0; one that is not known is not judged."""
    for error, verdict in ((0.02, "too small"), (2.0, "")):
        strength, trace = Estimate(0.004, error), Estimate(800.0, 4000.0)
        found = measured._replace(normalized_mutation_strength=strength, hessian_trace=trace)
        follows = {one.name: one.follows for one in findings(found)}
        assert follows["mutation scale"] == verdict
        assert "best mutation scale" not in follows
        assert "so the best σ is not known." in str(found)


def follow(key, losses, parent_losses):
    return jnp.argmin(losses)


@pytest.mark.parametrize(
    ("algorithm", "words"),
    [
        (None, "pass algorithm= to hold it against the best"),
        (mutagrad.rotate(ALGORITHM, lambda x: jnp.roll(x, 1), 4), "got groups of parameters that take turns"),
        (mutagrad.alternate([ALGORITHM, ALGORITHM]), "got algorithms that take turns"),
        (
            mutagrad.mutation_selection(mutagrad.mutation.gaussian(), Selection(follow, "mine"), 20, sigma=0.02),
            "mine selection states no law",
        ),
    ],
    ids=["none", "rotate", "alternate", "no law"],
)
def test_what_cannot_be_held_against_a_law_is_said_in_a_line(result, measured, algorithm, words):
    found = regime(result.history, algorithm=algorithm)
    line = next(line for line in str(found).split("\n") if line.startswith("Best"))
    assert f"No best σ is known: {words}" in line
    assert found.hessian_trace == measured.hessian_trace


def test_an_adapted_sigma_has_a_regime(result):
    found = regime(result.history, algorithm=mutagrad.adapt_sigma(ALGORITHM))
    assert "(1+20) gains most at σ = " in str(found)


def test_windows_are_judged_one_by_one(result):
    windows = regime(result.history, 5, ALGORITHM)
    assert len(str(windows).split("\n")) == 6
    with pytest.raises(ValueError, match="found: got a regime of 5 windows; pass") as error:
        findings(windows)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="found: got int; pass"):
        findings(3)


def public_objects(result, measured):
    mutation = mutagrad.mutation.gaussian()
    yield from (ALGORITHM, ALGORITHM.definition, ALGORITHM.definition.selection, mutation, result, measured)
    yield from (
        mutagrad.weighted_recombination(sigma=0.1, num_offspring=40),
        mutagrad.alternate([ALGORITHM, ALGORITHM]),
    )
    yield from (regime(result.history, 5), mutagrad.minibatches(jnp.ones((500, 30)), 20), measured.hessian_trace)
    yield from (forecast({"loss": 1 / np.arange(1.0, 999)}), *findings(measured))
    yield mutagrad.diagnose(jax.random.key(0), lambda x: 500 * x**2, jnp.ones(1000), ALGORITHM)


def test_print_is_short_and_shows_no_arrays(result, measured):
    for one in public_objects(result, measured):
        for text in (str(one), repr(one)):
            assert len(text.split("\n")) <= 25, text
            assert "rray(" not in text, text
            assert "<function" not in text, text
            assert not re.search(r"\[\[|\d\.?\s+-?\d\S*\s+-?\d\S*\]", text), text  # rows of numbers in brackets


def test_diagnostics_needs_no_matplotlib_and_no_words():
    """Imports go one way: the findings know neither sentences nor figures, and print as a table without them."""
    code = (
        "import sys, numpy as np, mutagrad.diagnostics as d\n"
        "assert not any(name.startswith(('matplotlib', 'mutagrad.report')) for name in sys.modules)\n"
        "print(d.forecast({'loss': 1 / np.arange(1.0, 999)}, 0.0005))\n"
        "import mutagrad; mutagrad.diagnose\n"
        "assert 'matplotlib' not in sys.modules\n"
        "print(d.forecast({'loss': 1 / np.arange(1.0, 999)}, 0.0005))\n"
    )
    text = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert text.startswith("loss ")
    assert text.split("\n")[-2].startswith("Forecast: if it goes on like this")
