"""Twins of the claims of Whitelam 2026."""

from collections.abc import Callable

from twins import Twin, in_place, times

import mutagrad
from mutagrad import theory
from mutagrad.lab.claims.whitelam2026 import breakdown, gain, gauge, paths, rank, spectrum, speed


def with_field(name: str, factor: float) -> Callable:
    """A result of which one field is wrong by a factor."""

    def make(right: Callable) -> Callable:
        def wrong(*arguments, **names):
            found = right(*arguments, **names)
            return found._replace(**{name: factor * getattr(found, name)})

        return wrong

    return make


def squared(right: Callable) -> Callable:
    """Curvatures that are the squares of the right ones."""

    def wrong(*arguments):
        found = right(*arguments)
        return found._replace(eigenvalues=found.eigenvalues**2)

    return wrong


def curved(factor: float) -> Callable:
    """Mutations that meet a curvature that is too large by a factor."""

    def make(right: Callable) -> Callable:
        def wrong(*arguments, **names):
            slopes, costs = right(*arguments, **names)
            return slopes, factor * costs

        return wrong

    return make


def larger_trace(right: Callable) -> Callable:
    """A trace that is a fifth too large."""

    def wrong(*arguments):
        trace, squares = right(*arguments)
        return 1.2 * trace, squares

    return wrong


def larger_gain(right: Callable) -> Callable:
    """A gain that is a fifth too large, and the mean of its power."""
    return lambda s, number, along, participation, order=1: 1.2**order * right(s, number, along, participation, order)


def of_fewer(number: int) -> Callable:
    """The mean course of so many offspring."""
    return lambda right: (
        lambda size, exponent, start, target, strength, _, *more: right(
            size, exponent, start, target, strength, number, *more
        )
    )


def held_at(times_best: float) -> Callable:
    """σ driven to another multiple of s* than 5/4."""
    return lambda right: (
        lambda algorithm: right(
            algorithm, rule="strength", target=times_best * theory.optimal_strength(algorithm.definition.num_offspring)
        )
    )


MOMENTS = {"size": 20, "points": 20, "offspring": (5,), "mutations": 0, "generations": 10_000}
PATHS = {"size": 50, "points": 20, "sphere": (0.1,), "net": (0.03,), "runs": 16, "records": 2}
POWER_LAWS = {"sizes": (30, 3000), "runs": (600, 12), "exponents": (0.5, 0.8), "more": (1, 4), "steps": 1}
SPEED = {"mutations": 200_000, "size": 1000}
SPHERES = {"sizes": (100,), "mutations": 200_000}
SPECTRA = {
    "networks": ("MLP on digits",),
    "parameters": (2410,),
    "images": (200,),
    "last": (100,),
    "steps": ((0, 100, 3000),),
    "share": (1,),
    "seeds": 4,
}
GAINS = {"size": 200, "exponents": (0.0,), "high": 1, "offspring": (1, 20), "mutations": 50_000, "strengths": 3}
CONTROL = {
    "gauge_size": 1000,
    "gauge_generations": (2000, 20, 20, 20),
    "way": (60, 60),
    "way_runs": 8,
    "exponents": (0.0,),
    "size": 30,
    "points": 20,
    "runs": 24,
    "grid": 10,
    "longest": 600,
}

TWINS = [
    Twin(
        "W26-1",
        "a drift that is a sixth too large",
        in_place(theory, "drift", times(1.15)),
        "drift over −c_Mσ",
        MOMENTS,
    ),
    Twin(
        "W26-1",
        "noise along the gradient that is 30 % too large",
        in_place(theory, "diffusion", with_field("longitudinal", 1.3)),
        "mean square along ∇U",
        MOMENTS,
    ),
    Twin(
        "W26-1",
        "noise across the gradient that is a tenth too large",
        in_place(theory, "diffusion", with_field("transverse", 1.1)),
        "mean square across ∇U",
        MOMENTS,
    ),
    Twin(
        "W26-2",
        "gradient descent at the speed of ten offspring, four fifths",
        in_place(
            theory,
            "equivalent_gradient_descent",
            lambda right: lambda algorithm: right(mutagrad.elitist(float(algorithm.definition.sigma), 10)),
        ),
        "mean loss less gradient descent's",
        PATHS,
    ),
    Twin(
        "W26-2",
        "a gain that is a fifth too large",
        in_place(paths, "gain_at_rank", larger_gain),
        "mean loss less that by G_M(s)",
        PATHS | {"runs": 64},
    ),
    Twin(
        "W26-3",
        "a slowdown that grows like N^(1−a+0.1)",
        in_place(rank, "_growth_of_size", lambda right: lambda exponent, *sizes: right(exponent - 0.1, *sizes)),
        "growth of the slowdown over that of N^",
        POWER_LAWS,
    ),
    Twin(
        "W26-3",
        "the mean course of ten offspring, two thirds as fast",
        in_place(rank, "mean_course", of_fewer(10)),
        "generations over those of the mean course",
        {"sizes": (200, 400), "runs": (200, 200), "exponents": (0.5,), "more": (1,), "steps": 1},
    ),
    Twin(
        "W26-3",
        "the gain of three offspring",
        in_place(rank, "best_at_rank", lambda right: lambda number, *ranks: right(3, *ranks)),
        "generations for the first step over r/G_M(s*), a = 0.5, start even",
        POWER_LAWS,
    ),
    Twin(
        "W26-4",
        "one offspring fewer",
        in_place(speed, "gains", lambda right: lambda decreases, number: right(decreases, max(1, number - 1))),
        "speed at small σ over c_Mσ|∇U|",
        SPEED,
    ),
    Twin(
        "W26-4",
        "a speed that grows faster by M^0.05",
        in_place(speed, "gains", lambda right: lambda decreases, number: right(decreases, number) * number**0.05),
        "growth of the speed at small σ",
        SPEED,
    ),
    Twin(
        "W26-4",
        "a gain that is a tenth too large",
        in_place(theory, "expected_gain", times(1.1)),
        "gain at the best σ over G_M(s*)",
        SPEED,
    ),
    Twin(
        "W26-5",
        "curvature that is a fifth too large",
        in_place(breakdown, "on_sphere", curved(1.2)),
        "s of half gain",
        SPHERES,
    ),
    Twin(
        "W26-5",
        "the same, by the share that succeeds",
        in_place(breakdown, "on_sphere", curved(1.2)),
        "|∇U|/(σTrH/2) where Φ(−1) of mutations succeed",
        SPHERES,
    ),
    Twin(
        "W26-6",
        "the squares of the curvatures",
        in_place(spectrum, "curvatures", squared),
        "exponent a of λ_k ∝ k^−a from ranks 10 to 100, MLP on digits, trained",
        SPECTRA,
    ),
    Twin(
        "W26-6",
        "half of the trace",
        in_place(spectrum, "curvatures", with_field("trace", 0.5)),
        "effective rank",
        SPECTRA,
    ),
    Twin(
        "W26-7",
        "a gain that is a twentieth too large",
        in_place(theory, "expected_gain", times(1.05)),
        "gain at 1 s* over G_M",
        GAINS,
    ),
    Twin(
        "W26-7",
        "a success that is a tenth too large",
        in_place(theory, "success_rate", times(1.1)),
        "success at 1 s*",
        GAINS,
    ),
    Twin(
        "W26-7",
        "curvature that is a twentieth too large",
        in_place(gain, "mutation_effects", curved(1.05)),
        "best s over s*",
        GAINS,
    ),
    Twin(
        "W26-8",
        "a trace of the Hessian that is a fifth too large",
        in_place(gauge, "exact_traces", larger_trace),
        "s from the pooled moments of the losses, over σTrH/(|∇U|√(1 + s²/2P)) by Hessian-vector products, sphere",
        CONTROL,
    ),
    Twin(
        "W26-8",
        "σ driven to s* instead of 5/4 s*",
        in_place(mutagrad, "adapt_sigma", held_at(1.0)),
        "s that σ driven by losses holds",
        CONTROL,
    ),
    Twin(
        "W26-8",
        "σ driven to three tenths of s*",
        in_place(mutagrad, "adapt_sigma", held_at(0.3)),
        "generations with σ driven by losses, from a tenth of s*, over those of the best fixed σ, sphere",
        CONTROL,
    ),
]
