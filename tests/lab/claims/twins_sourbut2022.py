"""Twins of the claims of Sourbut 2022."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from twins import Twin, in_place, times

import mutagrad
from mutagrad import law, theory
from mutagrad.lab.claims.sourbut2022 import (
    asymmetric,
    bent_slope,
    deadline,
    emergent_rate,
    environments,
    failures,
    first_model,
    following,
    lattice,
    momentum,
    moving_optimum,
    moving_parts,
    mutation_rates,
    natural,
    response,
    second_model,
    strategies,
)
from mutagrad.mutation import changes
from mutagrad.types import Mutation


def with_one_parameter_that_mutates_more(right: Callable) -> Callable:
    """The densities, normal mutations having 5 % more in the first parameter."""

    def sample(key, params):
        noise = jax.random.normal(key, params.shape)
        return noise.at[0].multiply(1.05)

    return lambda: right() | {"normal": Mutation(sample, "normal", law=law.Gaussian())}


def with_alike_signs(right: Callable) -> Callable:
    """Random signs of which the second is the first in a tenth of the mutations."""

    def sample(key, params):
        first, second = jax.random.split(key)
        signs = right().sample_fn(first, params)
        return signs.at[1].set(jax.numpy.where(jax.random.uniform(second) < 0.1, signs[0], signs[1]))

    return lambda: Mutation(sample, "signs")


def with_noise_alike_in_all_directions(right: Callable) -> Callable:
    """Second moments of a step that are those across the gradient in every direction."""
    return lambda *arguments: right(*arguments)._replace(longitudinal=right(*arguments).transverse)


def with_n_for_its_inverse_temperature(right: Callable) -> Callable:
    """The rules, selection by fixation among 20 having κ = νβ with ν = n."""
    return lambda: right() | {"Moran": mutagrad.fixation(1.0, 1 / 20, 20)}


def with_the_root_of_the_fall(right: Callable) -> Callable:
    """The rules, probit selection falling like ΔU^0.9 at 0, which has no slope."""

    def found():
        rules = right()
        chance = emergent_rate.acceptance_of(rules["probit"])
        wrong = law.Acceptance(lambda x: chance(jax.numpy.sign(x) * jax.numpy.abs(x) ** 0.9))
        selection = rules["probit"].definition.selection._replace(law=wrong)
        definition = rules["probit"].definition._replace(selection=selection)
        return rules | {"probit": rules["probit"]._replace(definition=definition)}

    return found


def to_a_power_of_the_covariance(right: Callable) -> Callable:
    """The law of correlated mutations with C to the power 0.9."""

    def found(gradient):
        values, vectors = np.linalg.eigh(asymmetric.covariance(len(gradient)))
        return (vectors * values**0.9) @ vectors.T @ gradient

    return found


def with_stronger_selection(right: Callable) -> Callable:
    """Real populations whose selection is 1.5 times as strong as they say."""

    class Stronger(right):
        @classmethod
        def of(cls, sigma, beta, *rest):
            return right.of(sigma, 1.5 * beta, *rest)

    return Stronger


def of_those_that_are_fixed(right: Callable) -> Callable:
    """Fixation by a time among mutations that are fixed."""

    def found(times, s, number, model):
        return right(times, s, number, model) / max(right(np.inf, s, number, model), 1e-300)

    return found


FEW = {"sizes": (2,), "pairs": 200_000, "selected": 0, "gradients": 2, "key": 1}
CHAINS = {
    "chains": 256,
    "steps_per_genome": 100,
    "populations": 256,
    "births": 2000,
    "long_births": 2000,
    "step_births": 500,
    "fixed": 3500,
    "chain_spreads": ((0.5, 0.4, 0.2),) * 4,
    "population_spreads": ((0.6, 0.2), (3.0, 2.0), (1.0, 0.3), (9.0, 6.0)),
    "key": 1,
}


def a_tenth_larger(right):
    """Learning rates that are a tenth larger."""

    def rates(*arguments, **options):
        found = right(*arguments, **options)
        return found._replace(per_generation=1.1 * found.per_generation)

    return rates


def without_associations(right):
    """The next order of fixation where neighbours select a mutation by half as much: they do the other half by associations."""
    return lambda *given: right(*given)._replace(around=right(*given).around / 2)


def towards_steep_directions(right):
    """The next order of fixation where curvature makes a mutation fitter by what it makes it less fit."""
    return lambda *given: right(*given)._replace(own=-right(*given).own, around=-right(*given).around)


def without_a_turn(right):
    """The law of large mutations along −∇U."""

    def law(*given):
        found = right(*given)
        return found._replace(step=found.step * np.array([1, 0]))

    return law


def of_next_order(right):
    """The law of large mutations whose turn is that of the next order."""

    def law(*given):
        found = right(*given)
        return found._replace(step=found.step[0] * np.array([1, moving_parts.turn_of_next_order(*given)]))

    return law


def of_plain_slope(right):
    """The natural gradient with the slope of shares in its place, as long as it."""

    def found(shares, payoffs):
        one = right(shares, payoffs)
        slope = (payoffs + payoffs.T) @ np.array(shares)
        slope = slope - slope.mean()
        return one._replace(gradient=slope * np.linalg.norm(one.gradient) / np.linalg.norm(slope))

    return found


def speeding_up(right):
    """An optimum that moves a tenth faster at the end than at first."""

    def place(velocity, generation, stop):
        return right(velocity, generation, stop) * (1 + 0.05 * jnp.minimum(generation, stop) / stop)

    return place


ONE_FOLLOWS = {
    "curvatures": (1.0, 0.5),
    "strength": 0.08,
    "slopes": (0.7,),
    "lineages": 8192,
    "strength_of_population": 0.08,
    "genomes": 10,
    "capacity": 128,
    "slopes_of_populations": (0.8,),
    "populations": 64,
    "key": 1,
}
MANY_FOLLOW = ONE_FOLLOWS | {
    "lineages": 64,
    "strength_of_population": 0.02,
    "genomes": 20,
    "capacity": 256,
    "populations": 128,
}
MIXING = {
    "mixing": ("free",),
    "runs": 32,
    "generations": (100, 1000, 100),
    "other_generations": 100,
    "burn": 50,
    "key": 1,
}


def with_a_little_migration(right):
    """Populations of which a share 0.02 of births migrates where none should."""

    def made(*arguments, **options):
        is_apart = "num_demes" in options and not options["migration"]
        return right(*arguments, **(options | ({"migration": 0.02} if is_apart else {})))

    return made


def of_larger_curvatures(right):
    """The law of large mutations where curvatures are a fifth larger."""
    return lambda number, sigma, curvatures: right(number, sigma, tuple(1.2 * one for one in curvatures))


FEW_DEMES = {
    "key": 1,
    "parts": ("demes",),
    "migrations": (0.5,),
    "runs": 256,
    "generations": 1200,
    "burn": 200,
    "apart": {"runs": 64, "burn": 60, "generations": 200, "capacity": 192},
}


TWINS = [
    Twin(
        "S22-1",
        "a parameter that mutates 5 % more",
        in_place(first_model, "densities", with_one_parameter_that_mutates_more),
        "squared tangent of the angle from −∇U",
        FEW,
    ),
    Twin(
        "S22-1",
        "steps 3 % longer",
        in_place(first_model, "_selected_step", times(1.03)),
        "length of the mean selected step over its law",
        FEW,
    ),
    Twin(
        "S22-2",
        "noise alike in all directions",
        in_place(theory, "diffusion", with_noise_alike_in_all_directions),
        "variance of a step along ∇U over its law, slope 1, Metropolis",
        {"pairs": 50_000, "key": 1},
    ),
    Twin(
        "S22-2",
        "n for the inverse temperature of fixation",
        in_place(emergent_rate, "algorithms", with_n_for_its_inverse_temperature),
        "learning rate per accepted step over ½κσ², κσ|∇U| = 0.02, Moran",
        {"pairs": 200_000, "key": 1},
    ),
    Twin(
        "S22-2",
        "selection that falls like ΔU^0.9",
        in_place(emergent_rate, "algorithms", with_the_root_of_the_fall),
        "power of |∇U| in the learning rate, slopes 0.02 to 0.04, probit",
        {"pairs": 50_000, "key": 1},
    ),
    Twin(
        "S22-3",
        "C to the power 0.9",
        in_place(asymmetric, "correlated_law", to_a_power_of_the_covariance),
        "squared tangent of the angle from −C∇U",
        {"pairs": 100_000, "key": 1},
    ),
    Twin(
        "S22-3",
        "signs of which two are often alike",
        in_place(mutagrad.mutation, "rademacher", with_alike_signs),
        "squared tangent of the angle from −∇U to the mean step, signs",
        {"pairs": 100_000, "key": 1},
    ),
    Twin(
        "S22-4",
        "n for n − 1",
        in_place(second_model, "inverse_temperature", lambda right: lambda number, *rest: right(number + 1, *rest)),
        "variance of x on ½x² times νβ, Moran, n = 5, chain of the formula",
        CHAINS,
    ),
    Twin(
        "S22-4",
        "populations with stronger selection",
        in_place(second_model, "Population", with_stronger_selection),
        "variance of x on ½x² times νβ, Moran, n = 5, the next mutation waits",
        CHAINS,
    ),
    Twin(
        "S22-13",
        "populations with stronger selection",
        in_place(deadline, "Population", with_stronger_selection),
        "P(fixed by",
        {"sizes": (2, 5), "runs": 2048, "key": 1},
    ),
    Twin(
        "S22-13",
        "fixation by a time of those that are fixed",
        in_place(deadline, "fixation_by", of_those_that_are_fixed),
        "least ratio of P(fixed by t) from one selection coefficient",
        {"sizes": (2, 5), "runs": 1024, "shares": (1.0,), "key": 1},
    ),
    Twin(
        "S22-7",
        "a batch lasts for two generations",
        in_place(
            environments, "_batch_of", lambda right: lambda key, batch, generation: right(key, batch, generation // 2)
        ),
        "correlation of a coordinate's step with its own of the next generation",
        {"strengths": (1.0,), "lineages": 2**15},
    ),
    Twin(
        "S22-7",
        "the batch's gradients show by half as much again",
        in_place(environments, "_excess", times(1.5)),
        "correlation of the two coordinates of a step over that of theory.md 6.5",
        {"strengths": (1.0,), "lineages": 2**16},
    ),
    Twin(
        "S22-8",
        "parents pass on a tenth less",
        in_place(momentum, "heritable", lambda right: lambda kept, sigma: right(0.9 * kept, sigma)),
        "learning rate on a slope",
        {"kept": (0.9,), "steps": 2_000_000, "kept_on_quadratic": 0.5, "pairs": 2**15},
    ),
    Twin(
        "S22-10",
        "offspring mutate by the σ of their parent",
        in_place(mutation_rates, "_scale", lambda right: lambda log_sigma, change: right(log_sigma, 0 * change)),
        "geometric mean of s over that of the law of many parameters, (1,10)",
        {"sizes": (30,), "starts": (1.0, 3.0), "walks": 32},
    ),
    Twin(
        "S22-11",
        "jumps beyond the ends stop there",
        in_place(changes, "mirrored", lambda right: lambda place, number: jnp.clip(place, 0, number - 1)),
        "Σ(n_i/n − p_i)²/p_i",
        {"spacings": (0.6, 1.2), "mutations": 2**14, "chains": 2**14, "generations": 60},
    ),
    Twin(
        "S22-11",
        "a loss that is half as steep again",
        in_place(lattice, "_accepted", lambda right: lambda rule, rise: right(rule, 1.5 * rise)),
        "drift over Σ_k hk P(k) A(U(x + hk) − U(x))",
        {"spacings": (0.6, 1.2), "mutations": 1_000_000, "chains": 2**14, "generations": 1},
    ),
    Twin(
        "S22-14",
        "a lineage's learning rate that is a tenth larger",
        in_place(theory, "learning_rate", times(1.1)),
        "lag over v/ηλ, λ = 1, one lineage",
        ONE_FOLLOWS,
    ),
    Twin(
        "S22-14",
        "a population's learning rate that is a tenth larger",
        in_place(theory.population, "learning_rates", a_tenth_larger),
        "lag over v/ηλ, λ = 1, a population",
        MANY_FOLLOW,
    ),
    Twin(
        "S22-14",
        "an optimum that becomes a tenth faster",
        in_place(following, "optimum", speeding_up),
        "mean loss in the second half of the time over that in the first, less 1, one lineage",
        ONE_FOLLOWS,
    ),
    Twin(
        "S22-14",
        "noise of a temperature that is a tenth higher",
        in_place(moving_optimum, "at_rest", times(1.1)),
        "mean loss long after the optimum stops over N/2κ, one lineage",
        ONE_FOLLOWS,
    ),
    Twin(
        "S22-5",
        "a learning rate that is a tenth larger",
        in_place(theory.population, "learning_rates", a_tenth_larger),
        "mean step of the fixed part along −∇U over ½μνβσ²|∇U|, σ² = σ₀²/4, free",
        MIXING | {"generations": (100, 100, 4000)},
    ),
    Twin(
        "S22-5",
        "neighbours without associations",
        in_place(bent_slope, "next_order", without_associations),
        "tangent of the turn from −∇U, away from steep directions, σ² = σ₀²/4, free",
        MIXING | {"generations": (100, 100, 12_000)},
    ),
    Twin(
        "S22-5",
        "a turn towards steep directions",
        in_place(bent_slope, "next_order", towards_steep_directions),
        "tangent of the turn from −∇U, away from steep directions, σ² = σ₀²/2, free",
        MIXING,
    ),
    Twin(
        "S22-9",
        "what offspring have is what their parents have",
        in_place(theory.population, "price", lambda right: lambda weights, traits, others=None: right(weights, traits)),
        "largest difference of Price's two parts from the change of the mean, over its bound by rounding, free",
        {"runs": 4, "generations": 100, "burn": 20, "price_generations": 20},
    ),
    Twin(
        "S22-9",
        "parents that are recorded one genome off",
        in_place(response, "parents_of", lambda right: lambda info: np.roll(right(info), 1, axis=0)),
        "largest difference of Price's two parts from the change of the mean, over its bound by rounding, free",
        {"runs": 4, "generations": 100, "burn": 20, "price_generations": 20},
    ),
    Twin(
        "S22-9",
        "a covariance over n − 1",
        in_place(theory.population, "breeders_equation", times(10 / 9)),
        "selection along −βG∇U, less the next order in β: slope over 1, free recombination",
        {"runs": 32, "generations": 2500, "burn": 50, "price_generations": 2, "key": 1},
    ),
    Twin(
        "S22-12",
        "changes that are a quarter larger",
        in_place(
            theory.population,
            "replicator_moments",
            lambda right: lambda *given: (1.25 * right(*given)[0], right(*given)[1]),
        ),
        "mean change of strategy 1",
        {"draws": 4000, "paths": 50, "settling": 5, "waiting": 5},
    ),
    Twin(
        "S22-12",
        "half of the slope of shares",
        in_place(strategies, "natural", of_plain_slope),
        "mean change times f̄ at right angles to the natural gradient of f̄",
        {"draws": 1000, "paths": 50, "settling": 5, "waiting": 5},
    ),
    Twin(
        "S22-12",
        "an information that is a tenth larger",
        in_place(natural, "information", times(1.1)),
        "mean change times f̄ along the natural gradient of f̄",
        {"draws": 4000, "paths": 50, "settling": 5, "waiting": 5},
    ),
    Twin(
        "S22-12",
        "a mixture that lasts as long as a neutral allele",
        in_place(strategies, "shares_after", lambda right: lambda payoffs, *rest: right(payoffs * 0 + 1, *rest)),
        "share of populations that lost a strategy, hawks and doves",
        {"draws": 100, "paths": 200, "settling": 5},
    ),
    Twin(
        "S22-6",
        "demes of which a few births migrate",
        in_place(mutagrad, "population", with_a_little_migration),
        "mutations that all genomes share, 4 demes that never mix",
        FEW_DEMES | {"migrations": (), "runs": 16, "generations": 50, "burn": 20},
    ),
    Twin(
        "S22-6",
        "n − 1 in place of n − D",
        in_place(moving_parts, "of_mixing", lambda right: lambda number, demes: number - 1),
        "step of the fixed part over μ(n − D)βσ²|∇U|, 4 demes",
        FEW_DEMES,
    ),
    Twin(
        "S22-6",
        "selection among hawks and doves that is 0.8 times as strong",
        in_place(strategies, "shares_after", lambda right: lambda payoffs, *rest: right(payoffs**0.8, *rest)),
        "share of populations that lost hawks or doves, hawks and doves",
        {"key": 1, "parts": ("games",), "paths": 4000, "parts_of_rest": (), "runs": 16, "generations": 50, "burn": 20},
    ),
    Twin(
        "S22-6",
        "slopes of payoff that are 1.4 times as steep",
        in_place(failures, "_climb", times(1.4)),
        "step of the fixed part over that along the slope of mean payoff, share of hawks 0.5, payoff against itself",
        {
            "key": 1,
            "parts": ("games",),
            "paths": 100,
            "parts_of_rest": (1.0,),
            "runs": 128,
            "generations": 1000,
            "burn": 100,
        },
    ),
    Twin(
        "S22-6",
        "curvatures that are a fifth larger",
        in_place(moving_parts, "large", of_larger_curvatures),
        "mean fixed mutation along −∇U over its linear law, σ = 2",
        {"key": 1, "parts": ("large",), "sigmas": (2.0,), "large_runs": 256, "large_generations": 1000},
    ),
    Twin(
        "S22-6",
        "mutations that do not turn",
        in_place(moving_parts, "large", without_a_turn),
        "tangent of the turn from −∇U to the mean fixed mutation, σ = 0.25",
        {"key": 1, "parts": ("large",), "sigmas": (0.25,), "large_runs": 512, "large_generations": 4000},
    ),
    Twin(
        "S22-6",
        "a turn of the next order",
        in_place(moving_parts, "large", of_next_order),
        "tangent of the turn from −∇U to the mean fixed mutation, σ = 0.5",
        {"key": 1, "parts": ("large",), "sigmas": (0.5,), "large_runs": 256, "large_generations": 2000},
    ),
    Twin(
        "S22-6",
        "a response without its lag",
        in_place(moving_parts, "response", lambda right: lambda *arguments: complex(abs(right(*arguments)))),
        "step of the fixed part a quarter turn behind −∇U",
        {"key": 1, "parts": ("moving",), "turns": (2.0,), "runs": 128, "generations": 1500, "burn": 200},
    ),
]
