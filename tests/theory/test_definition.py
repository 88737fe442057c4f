"""What theory says where an algorithm has no law, no single definition, or a σ that changes."""

import math
from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest

import mutagrad
from mutagrad import law, theory
from mutagrad.diagnostics.plans import expected_decrease, promised_decrease, yardstick
from mutagrad.theory.moments import inverse_temperature, sees_ranks_only
from mutagrad.theory.optimum import best_strength, keeps_the_better, strength_over_a_run
from mutagrad.types import UnknownDefinition

GRADIENT = {"w": jnp.array([3.0, 4.0])}
OF_ALGORITHMS = {
    "drift": lambda algorithm, **sigma: theory.drift(algorithm, 5.0, **sigma),
    "diffusion": lambda algorithm, **sigma: theory.diffusion(algorithm, 5.0, **sigma).transverse,
    "acceptance_rate": lambda algorithm, **sigma: theory.acceptance_rate(algorithm, 5.0, **sigma),
    "mean_loss_rate": lambda algorithm, **sigma: theory.mean_loss_rate(algorithm, 5.0, 2.0, **sigma),
    "mean_step": lambda algorithm, **sigma: theory.mean_step(algorithm, GRADIENT, **sigma)["w"],
    "learning_rate": lambda algorithm, **sigma: theory.learning_rate(algorithm, "normalized", **sigma),
    "crossover": lambda algorithm, **sigma: descended(algorithm, "crossover", **sigma),
    "normalized": lambda algorithm, **sigma: descended(algorithm, "normalized", **sigma),
    "langevin": lambda algorithm, **sigma: theory.langevin(algorithm, lambda x: x, **sigma).drift(0.0, GRADIENT, None)[
        "w"
    ],
}
OF_DEFINITIONS = {
    "best_strength": best_strength,
    "strength_over_a_run": strength_over_a_run,
    "keeps_the_better": keeps_the_better,
    "inverse_temperature": inverse_temperature,
    "sees_ranks_only": sees_ranks_only,
    "yardstick": yardstick,
    "expected_decrease": partial(expected_decrease, sigma=0.1, slope=1.0, trace=1.0),
    "promised_decrease": partial(promised_decrease, found=None),
}


def descended(algorithm, regime, **sigma):
    optimizer = theory.equivalent_gradient_descent(algorithm, regime, **sigma)
    return optimizer.update(GRADIENT, optimizer.init(GRADIENT))[0]["w"]


def refused(call, words):
    with pytest.raises(ValueError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [*OF_ALGORITHMS, *OF_DEFINITIONS])
def test_a_wrapper_without_a_single_definition_is_refused_in_its_words(name):
    definition = UnknownDefinition("got algorithms that take turns; ask each of them")
    algorithm = mutagrad.elitist(0.1, 5)._replace(definition=definition)
    call = (
        partial(OF_ALGORITHMS[name], algorithm) if name in OF_ALGORITHMS else partial(OF_DEFINITIONS[name], definition)
    )
    refused(call, "^algorithm: got algorithms that take turns; ask each of them$")


@pytest.mark.parametrize("name", OF_ALGORITHMS)
def test_a_sigma_that_changes_must_be_passed(name):
    """With it every answer is that of the algorithm at that σ."""
    fixed = mutagrad.elitist(0.1, 5)
    adapted = fixed._replace(definition=fixed.definition._replace(sigma=None))
    refused(
        partial(OF_ALGORITHMS[name], adapted), r"^sigma: got none with an algorithm whose σ changes while it runs; pass"
    )
    found, expected = OF_ALGORITHMS[name](adapted, sigma=0.3), OF_ALGORITHMS[name](mutagrad.elitist(0.3, 5))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert np.all(np.abs(np.asarray(found) - np.asarray(OF_ALGORITHMS[name](fixed))) > 0) == (name != "acceptance_rate")


def without(algorithm, part):
    """The algorithm with a rule or a density that states no law."""
    definition = algorithm.definition
    return algorithm._replace(definition=definition._replace(**{part: getattr(definition, part)._replace(law=None)}))


@pytest.mark.parametrize("name", OF_ALGORITHMS)
def test_names_are_no_laws(name):
    """A rule named elitist and a density named gaussian have no theory unless they state a law."""
    algorithm = mutagrad.elitist(0.1, 5)
    call = OF_ALGORITHMS[name]
    refused(
        partial(call, without(algorithm, "selection")),
        "^algorithm: got elitist selection, which states no law; give it",
    )
    refused(
        partial(call, without(algorithm, "mutation")),
        "^algorithm: got gaussian mutations, which state no law; give them",
    )


def test_refused_where_the_algorithm_enters():
    """And not in the first update, or at the first step of a path."""
    algorithm = without(mutagrad.elitist(0.1, 5), "mutation")
    refused(lambda: theory.equivalent_gradient_descent(algorithm), "^algorithm: got gaussian mutations")
    refused(lambda: theory.langevin(algorithm, lambda x: x), "^algorithm: got gaussian mutations")


def test_laws_are_read_whatever_the_names():
    """An elitist rule under another name, without options: the same floats."""
    own = mutagrad.Selection(
        mutagrad.selection.elitist().select_fn, "truncation", law=law.OrderStatistic(keeps_parent=True)
    )
    density = mutagrad.Mutation(mutagrad.mutation.ball().sample_fn, "scaled", law=law.Ball())
    named = mutagrad.mutation_selection(density, own, 5, sigma=0.1)
    plain = mutagrad.elitist(0.1, 5, mutation=mutagrad.mutation.ball())
    for number in (None, 4):
        assert float(theory.drift(named, 2.0, num_parameters=number)) == float(
            theory.drift(plain, 2.0, num_parameters=number)
        )
    assert best_strength(named.definition) == best_strength(plain.definition)
    assert keeps_the_better(named.definition)


def test_the_best_strength_asks_for_the_rule_alone():
    """σ can be adapted with any density."""
    algorithm = without(mutagrad.elitist(0.1, 5), "mutation")
    assert best_strength(algorithm.definition) == theory.optimal_strength(5)
    refused(
        partial(best_strength, without(algorithm, "selection").definition),
        "^target: got None with elitist selection, which",
    )


def test_two_parents_that_mix_have_the_best_strength_of_their_winners():
    mixing = mutagrad.Selection(lambda key, losses, parent_loss: 0, "mixing", law=law.OrderStatistic(3, mixes=True))
    algorithm = mutagrad.mutation_selection(mutagrad.mutation.gaussian(), mixing, 10)
    assert best_strength(algorithm.definition) == theory.best_of_mean(10, 3)
    assert strength_over_a_run(algorithm.definition) == 1.25 * theory.best_of_mean(10, 3)


@pytest.mark.parametrize(
    ("part", "stated", "words"),
    [
        ("selection", "elitist", "^algorithm: got elitist selection, which states a str in place of a law"),
        (
            "selection",
            law.Gaussian(),
            "^algorithm: got elitist selection, which states a Gaussian in place of a law",
        ),
        ("mutation", law.Boltzmann(1.0), "^algorithm: got gaussian mutations, which state a Boltzmann in place"),
        (
            "mutation",
            law.Scaled(2.0, law.Gaussian()),
            "^algorithm: got gaussian mutations, whose step depends on the gradient",
        ),
        ("selection", law.RankWeights((1.0, 0.5)), "^algorithm: got 5 offspring with a law of 2; state one"),
        ("selection", law.Acceptance(jnp.sign), "^algorithm: got 5 offspring with a law of 1; state one"),
    ],
)
def test_laws_that_do_not_fit(part, stated, words):
    algorithm = mutagrad.elitist(0.1, 5)
    definition = algorithm.definition
    changed = definition._replace(**{part: getattr(definition, part)._replace(law=stated)})
    refused(lambda: theory.drift(algorithm._replace(definition=changed), 1.0), words)


def test_what_plans_say_of_rules_without_a_law():
    """No promise, and the yardstick of (1+M)."""
    definition = without(mutagrad.comma(0.1, 5), "selection").definition
    assert yardstick(definition).name == "(1+5)"
    assert expected_decrease(definition, 0.1, 1.0, 1.0) is None
    assert promised_decrease(definition, None) is None


def test_plans_of_ranked_weights_are_those_of_the_law():
    definition = mutagrad.weighted_recombination(0.1, 4, [2.0, 1.0, 0.0, -1.0]).definition
    found = theory.recombination_moments([2.0, 1.0, 0.0, -1.0])
    best = found.first / found.transverse
    assert yardstick(definition)[1:4] == pytest.approx((best, best * found.first / 2, 1 / (2 * best)))
    assert yardstick(definition, 0.7)[1:3] == pytest.approx((0.49 * best, 0.7**4 * best * found.first / 2))
    assert expected_decrease(definition, 0.1, 2.0, 3.0) == pytest.approx(0.2 * found.first - 0.015 * found.transverse)


def test_masked_densities_of_known_dimension_are_refused():
    masked = mutagrad.mutation.masked({"w": True}, mutagrad.mutation.sphere())
    for mutation in (masked, mutagrad.mutation.scaled(2.0, masked)):
        refused(
            lambda mutation=mutation: theory.mean_step(mutagrad.greedy(0.1, mutation=mutation), GRADIENT),
            "masked sphere mutations, whose number of dimensions",
        )


def test_the_inverse_temperature_is_that_of_the_law():
    cases = [
        (mutagrad.fixation(0.1, 2.0, 10), 18.0),
        (mutagrad.boltzmann(0.1, 2.0, 3), 2.0),
        (mutagrad.comma(0.1, 3), math.inf),
        (mutagrad.weighted_recombination(0.1, 3), math.inf),
    ]
    for algorithm, expected in cases:
        assert inverse_temperature(algorithm.definition) == expected
        assert sees_ranks_only(algorithm.definition) == (expected == math.inf)
