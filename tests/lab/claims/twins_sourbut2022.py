"""Twins of the claims of Sourbut 2022."""

import jax.numpy as jnp
from twins import Twin, in_place, times

from mutagrad.lab.claims.sourbut2022 import environments, lattice, momentum, mutation_rates
from mutagrad.mutation import changes

TWINS = [
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
]
