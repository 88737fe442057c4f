"""Twins of the claims of Sourbut 2022."""

from twins import Twin, in_place, times

from mutagrad import theory
from mutagrad.lab.claims.sourbut2022 import strategies


def half_as_much_again(right):
    """Learning rates that are half as large again."""

    def rates(*arguments, **options):
        found = right(*arguments, **options)
        return found._replace(per_generation=1.5 * found.per_generation)

    return rates


TWINS: list[Twin] = [
    Twin(
        "S22-5",
        "a learning rate that is half as large again",
        in_place(theory.population, "learning_rates", half_as_much_again),
        "mean step of the fixed part along −∇U over ½μνβσ²|∇U|, σ = σ₀/2, free",
        {"effect": 2.0, "sigmas": 2, "runs": 32, "generations": 500, "burn": 50},
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
        "a response that is half as large again",
        in_place(theory.population, "breeders_equation", times(1.5)),
        "selection along −βG∇U: slope over 1, free recombination",
        {"runs": 32, "generations": 500, "burn": 50, "price_generations": 2},
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
        "a mixture that lasts as long as a neutral allele",
        in_place(strategies, "_after", lambda right: lambda payoffs, *rest: right(payoffs * 0 + 1, *rest)),
        "share of populations that lost a strategy, hawks and doves",
        {"draws": 100, "paths": 200, "settling": 5},
    ),
]
