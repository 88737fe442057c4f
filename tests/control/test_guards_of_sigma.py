"""The guards of the controllers of σ, one by one: each is asked in the place where it alone decides."""

import jax
import jax.numpy as jnp
import pytest

import mutagrad
from mutagrad.control.progress import ProgressMemory
from mutagrad.control.recombination import StepMemory, recombination_rule
from mutagrad.control.strength import StrengthMemory, forgotten, wanted_change
from mutagrad.control.validated import on_batches

NUMBER = 20
SIGMA = jnp.float32(0.1)


def strength_memory(**known):
    return StrengthMemory.first(SIGMA)._replace(**{name: jnp.float32(value) for name, value in known.items()})


def test_that_nobody_succeeds_shows_a_sigma_that_is_too_large():
    """s seems to be 1, below the goal, and not one of 200 offspring succeeded: σ must fall."""
    few = wanted_change(jnp.float32(1.0), strength_memory(success=0, trace_count=200), jnp.float32(2.4))
    some = wanted_change(jnp.float32(1.0), strength_memory(success=0.31, trace_count=200), jnp.float32(2.4))
    assert float(few) < 0 < float(some)


def test_the_trend_is_that_of_the_slope():
    """|g|² falls by e^−0.02 in a generation, |g| by e^−0.01; of 200 offspring nothing older counts."""
    old = strength_memory(squared_slope=1.0)
    new = strength_memory(squared_slope=jnp.exp(-0.02))
    assert float(forgotten(old, new, jnp.float32(0.0), 200)[1].slope_trend) == pytest.approx(-0.01, rel=1e-3)


def change_of_recombination(half_trace=1e-3, **known):
    """Δ ln σ in a generation that is like those before, in which offspring alone ask for a larger σ."""
    algorithm = mutagrad.weighted_recombination(0.1, NUMBER)
    params = jnp.ones(50)
    _, info = algorithm.step(jax.random.key(0), algorithm.init(params), lambda x: jnp.sum(x) + 1e-3 * jnp.vdot(x, x))
    offspring = strength_memory(
        half_trace=half_trace, success=0.5, trace_count=2e4, squared_slope=50, slope_count=20, squared_slope_long=50
    )
    memory = StepMemory.first(SIGMA)._replace(offspring=offspring, gain=jnp.float32(125.0))
    memory = memory._replace(**{name: jnp.float32(value) for name, value in known.items()})
    update = recombination_rule(algorithm.definition, 1.0)
    sigma, _, _ = update(info._replace(is_resampled=jnp.asarray(True)), memory)
    return float(jnp.log(sigma / SIGMA))


def test_sigma_does_not_rise_while_steps_are_worth_nothing():
    """On batches that did not select them; a progress of 1 ± 0.003 lets σ rise, and one of −1 makes it fall."""
    known = {"squared_progress": 1.01, "progress_count": 1000}
    assert change_of_recombination(progress=1, **known) > 0.05
    assert change_of_recombination(progress=0, **known) <= 0
    assert change_of_recombination(progress=-1, **known) < 0


def test_a_rise_must_be_safe_along_steps():
    """Curvature that only steps see: where one error more of it than is measured is above the target, σ does not rise."""
    assert change_of_recombination() > 0.05
    known = {"half_curvature": 0.0, "squared_curvature": 1e8, "step_count": 100}
    assert change_of_recombination(**known) <= 0


def test_sigma_does_not_rise_while_progress_is_lost_on_batches():
    """The rule "progress": the direction of the last steps asks for more, and the mean of all is a loss."""

    def change(mean):
        old = ProgressMemory.first(SIGMA)
        some = old.progress._replace(mean=jnp.float32(mean), number=jnp.float32(50))
        up = old.direction._replace(mean=jnp.float32(1), number=jnp.float32(50))
        old = old._replace(generation=jnp.float32(50), progress=some, direction=up)
        return float(on_batches(old, jnp.float32(1.0), jnp.log(SIGMA), 1.0, 1.87).change)

    assert change(-1.0) <= 0 < change(1.0)
