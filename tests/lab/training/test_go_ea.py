"""The three GO-EA of [K23]: how far each moves down a slope, and what it evaluates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

import mutagrad
from mutagrad.lab.training import go_ea

SIGMA, PARAMETERS, RUNS = 0.01, 20, 4000


def drop(algorithm, number):
    """Decrease of the linear loss −x₀ over so many generations, in units of σ: its mean over runs, and standard error."""
    start = algorithm.init(jnp.zeros(PARAMETERS), lambda x: -x[0])

    @jax.jit
    def of_runs(keys):
        def run(key):
            def body(state, key):
                return algorithm.step(key, state, lambda x: -x[0])[0], None

            return jax.lax.scan(body, start, jax.random.split(key, number))[0].params[0]

        return jax.vmap(run)(keys)

    moved = np.asarray(of_runs(jax.random.split(jax.random.key(7), RUNS)), float) / SIGMA
    return moved.mean(), moved.std() / RUNS**0.5


def expected(function, number):
    """E f(Z), Z the largest of so many standard normals."""

    def integrand(z):
        return function(z) * number * stats.norm.pdf(z) * stats.norm.cdf(z) ** (number - 1)

    return integrate.quad(integrand, -8, 8)[0]


def test_each_moves_down_a_slope_as_its_selection_says():
    """Per two offspring, where the three differ most: E max(0, Z₍₂₎) = 0.681, E Z₍₂₎ = 0.564 and 2/√(2π) = 0.798.

    Within 4.5 standard errors of 4000 runs (false alarm 7·10⁻⁶ each); they differ by 9 and more.
    """
    cases = {
        "as_run": (go_ea.as_run(SIGMA, 2), 1, expected(lambda z: max(0, z), 2)),
        "as_text": (go_ea.as_text(SIGMA, 2), 1, expected(lambda z: z, 2)),
        "as_pseudocode": (go_ea.as_pseudocode(SIGMA), 2, 2 / (2 * np.pi) ** 0.5),
        "of a loss that stays": (go_ea.as_pseudocode(SIGMA, reevaluate_parent=False), 2, 2 / (2 * np.pi) ** 0.5),
    }
    for name, (algorithm, number, law) in cases.items():
        found, error = drop(algorithm, number)
        assert abs(found - law) < 4.5 * error, name
        assert error < 0.02


@pytest.mark.parametrize(
    ("algorithm", "selection", "num_offspring", "num_evaluations"),
    [
        (go_ea.as_run(), "elitist", 20, 21),
        (go_ea.as_text(), "comma", 20, 21),
        (go_ea.as_pseudocode(), "greedy", 1, 2),
        (go_ea.as_pseudocode(reevaluate_parent=False), "greedy", 1, 1),
    ],
)
def test_what_each_is_made_of(algorithm, selection, num_offspring, num_evaluations):
    """N(0, 0.01²) on every parameter, and the parent anew each generation unless the loss stays."""
    definition = algorithm.definition
    assert (definition.selection.name, definition.num_offspring) == (selection, num_offspring)
    assert (definition.sigma, definition.mutation.name) == (0.01, mutagrad.mutation.gaussian().name)
    state = algorithm.init(jnp.zeros(PARAMETERS), lambda x: -x[0])
    assert len(algorithm.ask(jax.random.key(0), state)) == num_evaluations
