"""What runs and diagnoses cannot know, they say: of noise, rounding, scalar means on batches, and algorithms other than (1+M)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kinds_of_loss import hashed, quadratic

import mutagrad
import mutagrad.report  # sentences in place of tables
from mutagrad.diagnostics import findings, regime
from mutagrad.diagnostics.luck import luck_of
from mutagrad.diagnostics.verdicts import _of_sigma
from mutagrad.estimate import Estimate
from mutagrad.theory.recombination import recombination_moments

SIZE = 100
START = jnp.ones(SIZE)


def falling(loss_fn):
    """A run of 120 generations while σ falls a hundredfold, whatever the loss does."""
    algorithm = mutagrad.schedule_sigma(mutagrad.elitist(0.1, 20), lambda t: 0.02 * 0.962 ** t.astype(jnp.float32))
    return algorithm, mutagrad.evolve(jax.random.key(1), algorithm, START, loss_fn, 120, progress=False).history


def test_a_run_on_noise_is_named_and_one_with_a_slope_is_not():
    algorithm, history = falling(hashed)
    found = regime(history, algorithm=algorithm)
    assert found.kind == "noise"
    assert abs(found.spread_exponent.value) < 4.4 * found.spread_exponent.error
    text = str(found)
    assert "noise alone is seen" in text
    assert not any(words in text for words in ("gains most", "promise", "TrH"))
    algorithm, history = falling(quadratic)
    found = regime(history, algorithm=algorithm)
    assert found.kind == ""
    assert found.spread_exponent.value > 1.5
    assert abs(found.luck.value) < 4 * found.luck.error


@pytest.mark.parametrize(
    ("loss_fn", "kind"), [(lambda x: 2 + quadratic(x), "rounding"), (lambda x: 0 * jnp.sum(x), "flat")]
)
def test_rounding_and_plateaus_have_no_s(loss_fn, kind):
    algorithm = mutagrad.elitist(1e-9, 20)
    result = mutagrad.evolve(jax.random.key(0), algorithm, START, loss_fn, 60, progress=False)
    found = regime(result.history, algorithm=algorithm)
    # 10⁻⁹ is lost in the digits of parameters that are 1: nothing changes.
    assert found.kind in (kind, "flat")
    assert "gains most" not in str(found)


@pytest.mark.parametrize(("of", "kind"), [(float, ""), (np.float32, "rounding")])
def test_losses_of_python_have_the_digits_that_they_are_compared_in(of, kind):
    """Changes of a thousandth of 10⁶ are seen in doubles; of single precision they are rounding."""

    def loss_fn(x):
        return of(1e6 + np.square(x, dtype=np.float64).sum() / 2)

    algorithm = mutagrad.elitist(1e-3, 20)
    run = mutagrad.evolve(
        jax.random.key(0), algorithm, START, loss_fn, 40, evaluation=mutagrad.executor(), progress=False
    )
    found = regime(run.history, algorithm=algorithm)
    assert found.kind == kind


def test_luck_of_a_chosen_parent_is_seen():
    """A step of c makes the next mean offspring worse by c: L = 1 + c before, R = L − 1, S = L + c; h² is ½ and luck is 1."""
    number = 200
    steps = np.random.default_rng(0).normal(0.5, 0.1, number)
    columns = {
        "sigma": np.ones(number),
        "hessian_trace": 2 * (1 + np.concatenate([[0.5], steps[:-1]])),
        "squared_grad_norm": np.ones(number),
        "loss_change": -steps,
        "is_resampled": np.zeros(number),
    }
    rough = luck_of(columns)
    assert abs(rough.value - 1) < 4.4 * rough.error
    assert rough.value > 4 * rough.error
    assert np.isnan(luck_of(columns | {"is_resampled": np.ones(number)}).value)


def test_scalar_means_on_batches_give_no_best_sigma_but_what_was_real():
    rows = jnp.asarray(np.random.default_rng(0).normal(size=(400, SIZE)), jnp.float32)
    algorithm = mutagrad.adapt_sigma(mutagrad.elitist(0.05, 20))

    def mean(x, rows):
        return jnp.mean(jnp.sum((x[None] - rows) ** 2, axis=1))

    run = mutagrad.evolve(jax.random.key(1), algorithm, START, mean, 150, mutagrad.minibatches(rows, 8), progress=False)
    found = regime(run.history, algorithm=algorithm)
    assert "was real, by those of the next generation" in str(found)
    assert "scalar on changing batches" in str(found)
    assert found.validated_share.value < 1 + 2 * found.validated_share.error


@pytest.mark.parametrize(
    ("algorithm", "name", "is_own"),
    [
        (mutagrad.elitist(0.01, 20), "(1+20)", True),
        (mutagrad.greedy(0.01), "(1+1)", True),
        (mutagrad.comma(0.01, 20), "(1,20)", True),
        (mutagrad.truncation(0.01, 20, 5), "truncation to 5 of 20", True),
        (mutagrad.weighted_recombination(sigma=0.01, num_offspring=20), "recombination of 20", True),
        (mutagrad.metropolis(0.01, 10.0), "(1+1)", False),
        (mutagrad.boltzmann(0.01, 1.0, 20), "(1+20)", False),
    ],
    ids=["elitist", "greedy", "comma", "truncation", "recombination", "metropolis", "boltzmann"],
)
def test_the_best_sigma_is_that_of_the_algorithm_or_said_to_stand_in(algorithm, name, is_own):
    found = mutagrad.diagnose(jax.random.key(0), quadratic, START, algorithm)
    told = {one.name: one for one in findings(found)}
    assert told["best mutation scale"].follows == name
    assert ("stands in" in told) == (not is_own) == ("It stands in for" in str(found))
    strength = mutagrad.theory.optimum.best_strength(algorithm.definition)
    if "share of curvature along the slope" in told:
        of = recombination_moments(algorithm.definition.selection.law.weights)
        along = told["share of curvature along the slope"].estimate.value
        strength *= of.transverse / (of.transverse + along * (of.second - of.transverse))
    assert found.plans[0].strength == pytest.approx(strength, rel=1e-3)
    if not is_own:
        assert found.gain is None
        assert "To lower the loss" not in str(found)


@pytest.mark.parametrize(
    ("ratio", "error", "verdict"),
    [
        (1.0, 0.1, "right"),
        (1.0, 0.5, "may be right"),
        (1.8, 0.1, "may be right"),
        (2.2, 0.1, "may be too large"),
        (3.0, 0.1, "too large"),
        (0.3, 0.1, "too small"),
        (0.3, 0.5, "may be too small"),
    ],
)
def test_a_verdict_holds_for_two_standard_errors(ratio, error, verdict):
    assert _of_sigma(ratio, Estimate(1.0, error)) == verdict
