"""Twins of the claims of Whitelam 2026."""

from collections.abc import Callable

from twins import Twin, in_place, times

import mutagrad
from mutagrad import theory
from mutagrad.lab.claims.whitelam2026 import breakdown, rank, spectrum, speed


def squared(right: Callable) -> Callable:
    """Curvatures that are the squares of the right ones."""

    def wrong(*arguments):
        found = right(*arguments)
        return found._replace(eigenvalues=found.eigenvalues**2)

    return wrong


def larger_trace(right: Callable) -> Callable:
    """A trace that is half as large again."""

    def wrong(*arguments):
        found = right(*arguments)
        return found._replace(value=1.5 * found.value)

    return wrong


POWER_LAWS = {"sizes": (50, 400), "runs": (40, 10), "steps": 1}

TWINS = [
    Twin(
        "W26-1",
        "a drift that is a quarter too large",
        in_place(theory, "drift", times(1.25)),
        "drift over −c_Mσ",
        {"size": 20, "points": 20, "offspring": (5,), "mutations": 0, "generations": 4000},
    ),
    Twin(
        "W26-2",
        "gradient descent at the speed of one offspring",
        in_place(
            theory,
            "equivalent_gradient_descent",
            lambda right: lambda algorithm: right(mutagrad.elitist(float(algorithm.definition.sigma), 1)),
        ),
        "mean loss less gradient descent's",
        {"size": 50, "points": 20, "sphere": (0.3,), "net": (0.03,), "runs": 8, "records": 2},
    ),
    Twin(
        "W26-3",
        "the gain of one offspring",
        in_place(rank, "best_at_rank", lambda right: lambda number, *ranks: right(1, *ranks)),
        "generations for the first step over r/G_M(s*)",
        POWER_LAWS,
    ),
    Twin(
        "W26-3",
        "the slowdown grows like N",
        in_place(rank, "_growth_of_size", lambda right: lambda exponent, first, last: last / first),
        "growth of the slowdown over that of N^",
        POWER_LAWS,
    ),
    Twin(
        "W26-4",
        "one offspring fewer",
        in_place(speed, "gains", lambda right: lambda decreases, number: right(decreases, max(1, number - 1))),
        "speed at small σ over c_Mσ|∇U|",
        {"mutations": 200_000, "size": 1000},
    ),
    Twin(
        "W26-4",
        "curvature takes nothing of the gain",
        in_place(theory, "expected_gain", lambda right: lambda s, number: theory.best_of_moment(number) * s),
        "gain at the best σ over G_M(s*)",
        {"mutations": 200_000, "size": 1000},
    ),
    Twin(
        "W26-5",
        "half of the gain at an s that is half as large again",
        in_place(breakdown, "_half_law", times(1.5)),
        "s of half gain over that of G_M(s)",
        {"sizes": (100,), "mutations": 100_000},
    ),
    Twin(
        "W26-6",
        "the squares of the curvatures",
        in_place(spectrum, "curvatures", squared),
        "exponent a of λ_k ∝ k^−a from ranks 10 to 100, MLP on digits, trained",
        {
            "networks": ("MLP on digits",),
            "parameters": (2410,),
            "images": (200,),
            "last": (100,),
            "steps": ((0, 100, 3000),),
            "share": (1,),
            "seeds": 2,
        },
    ),
    Twin(
        "W26-7",
        "a gain that is a quarter too large",
        in_place(theory, "expected_gain", times(1.25)),
        "gain at 1 s* over G_M",
        {
            "size": 200,
            "exponents": (0.0,),
            "high": 1,
            "offspring": (1, 20),
            "mutations": 50_000,
            "strengths": 3,
        },
    ),
    Twin(
        "W26-8",
        "a trace of the Hessian that is half as large again",
        in_place(theory, "hessian_trace", larger_trace),
        "s from the pooled moments of the losses",
        {
            "gauge_size": 50,
            "gauge_generations": (600, 600, 20, 20),
            "probes": 32,
            "way": (50, 50),
            "way_runs": 2,
            "exponents": (0.0,),
            "size": 30,
            "points": 20,
            "runs": 4,
            "grid": 2,
            "longest": 300,
        },
    ),
]
