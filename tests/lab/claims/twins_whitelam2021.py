"""Twins of the claims of Whitelam et al. 2021."""

import math
from collections.abc import Callable

import jax.numpy as jnp
from twins import Twin, in_place

import mutagrad
from mutagrad.lab.claims.whitelam2021 import local, paths, precision, temperature, variants


def with_law(change: Callable) -> Callable:
    """What `in_place` puts in the place of `fluctuations`: the same with a change."""
    return lambda right: lambda *arguments: change(right(*arguments))


def twice_as_fast(right: Callable) -> Callable:
    """`langevin_runs` of twice as many generations."""
    return lambda job, experiment, steps: right(job, experiment._replace(generations=2 * experiment.generations), steps)


SHORT = {"time": 0.4, "records": 4, "alpha": 2e-3, "runs": 32}

TWINS = [
    Twin(
        "W21-1",
        "mutations twice as large",
        in_place(paths, "greedy", lambda right: lambda step: right(2 * step)),
        "mean displacement of all weights",
        SHORT,
    ),
    Twin(
        "W21-1",
        "half the noise",
        in_place(paths, "fluctuations", with_law(lambda law: law._replace(covariance=law.covariance / 2))),
        "variance over runs",
        SHORT,
    ),
    Twin(
        "W21-2",
        "a mean that lags twice as far",
        in_place(paths, "fluctuations", with_law(lambda law: law._replace(shift=2 * law.shift))),
        "mean loss less gradient descent's",
        SHORT | {"runs": 128},
    ),
    Twin(
        "W21-3",
        "σ larger by a tenth than it is",
        in_place(paths, "sigma_of", lambda right: lambda algorithm: 1.1 * right(algorithm)),
        "variance of a weight over D⊥t",
        SHORT | {"early_runs": 256},
    ),
    Twin(
        "W21-4",
        "mutations that are large in name only",
        in_place(variants, "greedy", lambda right: lambda step: right(min(step, 0.01))),
        "mean loss at the end over the start's, λα = 10",
        {"runs": 24, "generations": 2000, "records": 4, "steps": (1e-3, 0.1, 10.0), "middle": 1, "large": 2},
    ),
    Twin(
        "W21-5",
        "a Langevin equation of twice the rate",
        in_place(temperature, "langevin_runs", twice_as_fast),
        "decrease of the mean loss over time, over the Langevin equation's",
        {"runs": 8, "alpha": 8e-3, "paths": 16, "records": 5, "points": 25, "langevin_step": 2e-2},
    ),
    Twin(
        "W21-6",
        "mutations twice as large",
        in_place(variants, "greedy", lambda right: lambda step: right(2 * step)),
        "variance of a weight there over D⊥t",
        {"runs": 4, "alpha": 5e-3, "points": 20, "descent_step": 1e-3},
    ),
    Twin(
        "W21-7",
        "scales that count once",
        in_place(mutagrad.mutation, "scaled", lambda right: lambda scale: right(jnp.sqrt(scale))),
        "part of the mean step that isotropic mutations would add",
        {"mutations": 5000},
    ),
    Twin(
        "W21-8",
        "half the temperature",
        in_place(mutagrad, "metropolis", lambda right: lambda sigma, beta: right(sigma, 2 * beta)),
        "mean loss of the chains' ends",
        {"chains": 1024, "generations": 500, "sigmas": (1.0, 3.0), "grid": 61},
    ),
    Twin(
        "W21-9",
        "another crossover with the same limits",
        in_place(local.special, "erfcx", lambda right: lambda x: 1 / (1 + math.sqrt(math.pi) * x)),
        "drift over −σ b exp(b²/2) Φ(−b)",
        {"mutations": 6000, "slopes": 3},
    ),
    Twin(
        "W21-10",
        "losses that are averaged before they are compared",
        in_place(precision, "shallow_losses", lambda right: lambda x: jnp.mean(right(x))),
        "drift over σ/√2π at the start, σ = 2.5e-06, paired differences",
        {"sigmas": 7, "generations": 1280, "time": 0.002, "runs": 4},
    ),
    Twin(
        "W21-11",
        "twice as many survive",
        in_place(mutagrad, "truncation", lambda right: lambda sigma, n, k: right(sigma, n, 2 * k)),
        "drift of the survivors from one parent",
        {"runs": 3, "generations_alone": 200, "time": 0.01, "records": 10, "population": 20, "parents": 4},
    ),
    Twin(
        "W21-12",
        "β = ∞ that is finite",
        in_place(mutagrad, "greedy", lambda right: lambda sigma: mutagrad.metropolis(6 * sigma, 3.0)),
        "share of runs at β = ∞ that end in another well",
        {"runs": 512, "generations": 1000, "records": 10},
    ),
]
