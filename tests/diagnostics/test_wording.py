"""What a run is told when it did not gain what slope and curvature promise: which assumption failed, and only then."""

import jax
import jax.numpy as jnp
import pytest

import mutagrad
from mutagrad.diagnostics import Measured, regime
from mutagrad.diagnostics.plans import promised_decrease
from mutagrad.diagnostics.wording import course_sentences

ALGORITHM = mutagrad.elitist(0.02, 20)


@pytest.fixture(scope="module")
def measured():
    """A run on a sphere of 1000 parameters, which gains what it is promised."""
    history = mutagrad.evolve(
        jax.random.key(0), ALGORITHM, jnp.ones(1000), lambda x: 500 * x**2, 100, progress=False
    ).history
    return regime(history)


@pytest.mark.parametrize(
    ("share", "success", "skewness", "reason"),
    [
        (1.0, 1.0, 0.05, ""),
        (
            0.5,
            0.5,
            2.0,
            "They differ because losses of mutants are not normal about a parabola here: see the successes.",
        ),
        (0.5, 1.0, 0.6, "They differ because losses of mutants are skewed, which is counted to first order only."),
        (0.5, 1.0, -0.6, "They differ because losses of mutants are skewed, which is counted to first order only."),
        (0.5, 1.0, 0.05, "They differ though the successes agree: slope and σ change within the window."),
    ],
)
def test_the_assumption_that_failed_is_named(measured, share, success, skewness, reason):
    """The run as it was but for its gain, in units of the promised one, its successes, in those of Φ(−s/2), and its skewness."""
    found = measured._replace(
        skewness=Measured(skewness, 0.01), success=Measured(success * measured.predicted_success.value, 1e-4)
    )
    promised = float(promised_decrease(ALGORITHM.definition, found))
    found = found._replace(decrease=Measured(share * promised, 1e-3 * promised))
    text = next(
        line for line in course_sentences(found, found, ALGORITHM.definition, None).split("\n") if "Decrease" in line
    )
    differ = text[text.index("They differ") :] if "They differ" in text else ""
    assert differ == reason
