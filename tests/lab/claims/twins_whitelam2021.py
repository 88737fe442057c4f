"""Twins of the claims of Whitelam et al. 2021."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from twins import Twin, in_place

import mutagrad
from mutagrad.lab.claims.whitelam2021 import local, paths, precision, temperature, three_units, variants


def with_law(change: Callable) -> Callable:
    """What `in_place` puts in the place of `fluctuations`: the same with a change."""
    return lambda right: lambda *arguments: change(right(*arguments))


def faster(right: Callable) -> Callable:
    """`langevin_runs` of one and a half times as many generations."""

    def wrong(job, experiment, steps):
        return right(job, experiment._replace(generations=round(1.5 * experiment.generations)), steps)

    return wrong


SHORT = {"time": 0.4, "records": 4, "alpha": 2e-3, "runs": 32}
SMALL_LOSS = {"early_runs": 128, "small_runs": 4096}
SMALL_RATIOS = {"early_runs": 64, "small_runs": 4096, "ratios": (0.2, 0.1)}
DEEP = {"runs": 6, "alpha": 2e-3, "time": 1.0, "records": 5, "points": 20, "descent_step": 1e-3}
CHAINS = {"generations": 500, "sigmas": (1.0, 3.0), "grid": 61}
POPULATION = {"runs": 16, "generations_alone": 400, "time": 0.01, "records": 10, "population": 20, "parents": 4}

TWINS = [
    Twin(
        "W21-1",
        "mutations larger by half",
        in_place(paths, "greedy", lambda right: lambda step: right(1.5 * step)),
        "mean displacement of all weights",
        SHORT,
    ),
    Twin(
        "W21-1",
        "noise larger by a fifth",
        in_place(paths, "fluctuations", with_law(lambda law: law._replace(covariance=1.2 * law.covariance))),
        "variance over runs",
        SHORT | {"runs": 512},
    ),
    Twin(
        "W21-1",
        "a mean that lags 1.3 times as far",
        in_place(paths, "fluctuations", with_law(lambda law: law._replace(shift=1.3 * law.shift))),
        "mean path less gradient descent",
        SHORT | {"runs": 512},
    ),
    Twin(
        "W21-2",
        "mutations larger by half",
        in_place(paths, "greedy", lambda right: lambda step: right(1.5 * step)),
        "decrease of the mean loss over time",
        SHORT | SMALL_LOSS,
    ),
    Twin(
        "W21-2",
        "a mean that lags a tenth further",
        in_place(paths, "fluctuations", with_law(lambda law: law._replace(shift=1.1 * law.shift))),
        "the same of",
        SHORT | SMALL_LOSS | {"early_runs": 2048},
    ),
    Twin(
        "W21-2",
        "a mean that lags a tenth further, on the small net",
        in_place(three_units, "fluctuations", with_law(lambda law: law._replace(shift=1.1 * law.shift))),
        "mean loss less gradient descent's on a net of three units",
        SHORT | SMALL_LOSS | {"small_runs": 65_536},
    ),
    Twin(
        "W21-2",
        "noise larger by a tenth",
        in_place(three_units, "fluctuations", with_law(lambda law: law._replace(covariance=1.1 * law.covariance))),
        "the part of it of curvature",
        SHORT | SMALL_LOSS | {"small_runs": 65_536},
    ),
    Twin(
        "W21-3",
        "σ larger by a tenth than it is",
        in_place(paths, "sigma_of", lambda right: lambda algorithm: 1.1 * right(algorithm)),
        "variance of a weight over D⊥t",
        SHORT | SMALL_RATIOS | {"early_runs": 256},
    ),
    Twin(
        "W21-3",
        "a shift that falls like λ to the power 0.8",
        in_place(three_units, "greedy", lambda right: lambda step: right(1e-3 * (step / 1e-3) ** 0.8)),
        "exponent of λ in Δ above the floor",
        SHORT | SMALL_RATIOS | {"small_runs": 32_768},
    ),
    Twin(
        "W21-3",
        "a floor that falls like λ to the power 0.9",
        in_place(three_units, "greedy", lambda right: lambda step: right(1e-3 * (step / 1e-3) ** 0.9)),
        "exponent of λ in Δ at the floor",
        SHORT | SMALL_RATIOS | {"small_runs": 32_768},
    ),
    Twin(
        "W21-3",
        "noise larger by a fifth",
        in_place(three_units, "fluctuations", with_law(lambda law: law._replace(covariance=1.2 * law.covariance))),
        "Δ of means of 4 runs",
        SHORT | SMALL_RATIOS | {"small_runs": 32_768},
    ),
    Twin(
        "W21-3",
        "a shift larger by half",
        in_place(paths, "fluctuations", with_law(lambda law: law._replace(shift=1.5 * law.shift))),
        "Δ at the smallest λ over the square",
        SHORT | SMALL_RATIOS | {"runs": 256},
    ),
    Twin(
        "W21-4",
        "mutations that are large in name only",
        in_place(variants, "greedy", lambda right: lambda step: right(min(step, 0.1))),
        "mean loss at the end over the start's, λα = 10",
        {"runs": 24, "generations": 2000, "records": 4, "steps": (1e-3, 0.1, 10.0), "middle": 1, "large": 2},
    ),
    Twin(
        "W21-4",
        "mutations larger by half",
        in_place(variants, "greedy", lambda right: lambda step: right(1.5 * step)),
        "mean loss less gradient descent's at t = 1.2",
        {"runs": 24, "generations": 400, "records": 4, "steps": (1e-3, 0.1, 10.0), "middle": 1, "large": 2},
    ),
    Twin(
        "W21-5",
        "a Langevin equation of one and a half times the rate",
        in_place(temperature, "langevin_runs", faster),
        "decrease of the mean loss over time, over the Langevin equation's",
        {"runs": 16, "alpha": 8e-3, "paths": 32, "records": 5, "points": 25, "langevin_step": 2e-2},
    ),
    Twin(
        "W21-5",
        "β larger by half",
        in_place(mutagrad, "metropolis", lambda right: lambda sigma, beta, **names: right(sigma, 1.5 * beta, **names)),
        "decrease of the mean loss over time, regressed on gradient descent's, start of deviation 0.1",
        {"runs": 16, "alpha": 4e-3, "paths": 32, "records": 5, "points": 25, "langevin_step": 2e-2},
    ),
    Twin(
        "W21-6",
        "mutations larger by a fifth",
        in_place(variants, "greedy", lambda right: lambda step: right(1.2 * step)),
        "variance of a weight there over D⊥t",
        DEEP,
    ),
    Twin(
        "W21-6",
        "mutations larger by half",
        in_place(variants, "greedy", lambda right: lambda step: right(1.5 * step)),
        "decrease of the mean loss over time",
        DEEP,
    ),
    Twin(
        "W21-7",
        "scales to the power 0.8",
        in_place(mutagrad.mutation, "scaled", lambda right: lambda scale: right(scale**0.8)),
        "part of the mean step that isotropic mutations would add to −(βσ_i²/2)∂_iU",
        {"mutations": 20_000},
    ),
    Twin(
        "W21-7",
        "scales to the power 0.8 at β = ∞",
        in_place(mutagrad.mutation, "scaled", lambda right: lambda scale: right(scale**0.8)),
        "part of the mean step that isotropic mutations would add to −(σ/√2π)s_i²∂_iU/|s∇U|",
        {"mutations": 20_000},
    ),
    Twin(
        "W21-7",
        "β larger by a fifth",
        in_place(mutagrad, "metropolis", lambda right: lambda sigma, beta, **names: right(sigma, 1.2 * beta, **names)),
        "regression of the mean step on −(βσ_i²/2)∂_iU",
        {"mutations": 20_000},
    ),
    Twin(
        "W21-8",
        "β larger by a fifth in the well",
        in_place(mutagrad, "metropolis", lambda right: lambda sigma, beta: right(sigma, 1.2 * beta)),
        "mean loss of the chains' ends over that of e^−βU, double well, metropolis",
        CHAINS,
    ),
    Twin(
        "W21-8",
        "β larger by a fifth on the net",
        in_place(mutagrad, "metropolis", lambda right: lambda sigma, beta: right(sigma, 1.2 * beta)),
        "variance of the loss over that of e^−βU, small net, metropolis",
        CHAINS,
    ),
    Twin(
        "W21-8",
        "β that stops at 3",
        in_place(mutagrad, "metropolis", lambda right: lambda sigma, beta: right(sigma, min(beta, 3.0))),
        "mean loss at 1.2 β over that at β",
        CHAINS,
    ),
    Twin(
        "W21-9",
        "b larger by a fifth in the crossover",
        in_place(local.special, "erfcx", lambda right: lambda x: right(1.2 * x)),
        "drift over −σ b exp(b²/2) Φ(−b)",
        {"mutations": 10_000, "slopes": 3},
    ),
    Twin(
        "W21-10",
        "losses that are averaged before they are compared",
        in_place(precision, "shallow_losses", lambda right: lambda x: jnp.mean(right(x))),
        "drift over σ/√2π at the start, σ = 2.5e-06, paired differences",
        {"sigmas": 3, "generations": 1280, "mutations": 1280, "time": 0.002, "runs": 4},
    ),
    Twin(
        "W21-10",
        "rounding that adds noise and moves no threshold",
        in_place(
            precision, "_law", lambda right: lambda steps, losses: -np.corrcoef(steps, losses + 1e-30 * steps)[0, 1]
        ),
        "the same less what the comparison's errors leave of it, the start, σ = 2.5e-06, rounded means",
        {"sigmas": 3, "generations": 12_800, "mutations": 12_800, "time": 0.002, "runs": 4},
    ),
    Twin(
        "W21-11",
        "mutations larger by a fifth, from one parent",
        in_place(mutagrad, "truncation", lambda right: lambda sigma, n, k: right(1.2 * sigma, n, k)),
        "drift of the survivors from one parent",
        POPULATION,
    ),
    Twin(
        "W21-11",
        "mutations larger by a fifth",
        in_place(mutagrad, "truncation", lambda right: lambda sigma, n, k: right(1.2 * sigma, n, k)),
        "drift of the survivors along runs over σ/√2π",
        POPULATION,
    ),
    Twin(
        "W21-12",
        "β larger by a fifth",
        in_place(mutagrad, "metropolis", lambda right: lambda sigma, beta: right(sigma, 1.2 * beta)),
        "share of runs at finite β",
        {"generations": 1000, "records": 10},
    ),
    Twin(
        "W21-12",
        "β = ∞ that is finite",
        in_place(mutagrad, "greedy", lambda right: lambda sigma: mutagrad.metropolis(6 * sigma, 3.0)),
        "share of runs at β = ∞ that end in another well",
        {"runs": 512, "generations": 1000, "records": 10},
    ),
]
