"""Twins: every registered claim once more on a wrong law, at a size of seconds, where it must say "does not hold"."""

import math
import sys
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import pytest
from scipy import special

import mutagrad
from mutagrad import theory
from mutagrad.diagnostics.landscape import update_angles
from mutagrad.lab.claims.kucharavy2023 import angles, directions, effects, minibatches
from mutagrad.lab.claims.whitelam2021 import local, paths, precision, temperature, variants
from mutagrad.lab.claims.whitelam2026 import speed
from mutagrad.lab.training import go_ea


class Twin(NamedTuple):
    """A wrong law that a claim must tell from the right one.

    Attributes
    ----------
    claim : its id.
    wrong : what is wrong, in words.
    make_wrong : ``make_wrong(monkeypatch)`` puts the wrong law, or the wrong algorithm, in place of the right one.
    caught_by : how the names of the checks begin of which one must not hold.
    small : settings in place of those of "quick".
    """

    claim: str
    wrong: str
    make_wrong: Callable[[pytest.MonkeyPatch], None]
    caught_by: str
    small: dict


def in_place(module: object, name: str, make: Callable) -> Callable[[pytest.MonkeyPatch], None]:
    """Puts ``make(right)`` in the place of a function of a module."""
    return lambda monkeypatch: monkeypatch.setattr(module, name, make(getattr(module, name)))


def with_the_share_of_s(right: Callable) -> Callable:
    """Mutational effects whose share of beneficial ones is held against Φ(−s), where it is Φ(−s/2)."""

    def found(*arguments, **options):
        one = right(*arguments, **options)
        excess = one.beneficial.value - special.ndtr(-one.strength.value)
        return one._replace(excess=one.excess._replace(value=excess))

    return found


def with_twice_the_noise(right: Callable) -> Callable:
    """Angles of updates with a predicted cosine of twice the noise of single gradients."""

    def found(*arguments, **options):
        measured = right(*arguments, **options)
        batches = [
            one._replace(predicted=one.predicted._replace(value=(2 / one.predicted.value**2 - 1) ** -0.5))
            for one in measured.batches
        ]
        return measured._replace(batches=tuple(batches))

    return found


def with_law(change: Callable) -> Callable:
    """What `in_place` puts in the place of `fluctuations`: the same with a change."""
    return lambda right: lambda *arguments: change(right(*arguments))


def twice_as_fast(right: Callable) -> Callable:
    """`langevin_runs` of twice as many generations."""
    return lambda job, experiment, steps: right(job, experiment._replace(generations=2 * experiment.generations), steps)


SHORT = {"time": 0.4, "records": 4, "alpha": 2e-3, "runs": 32}

TWINS = [
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
        "K23-9",
        "one dimension more",
        in_place(directions, "cap_angle", lambda right: lambda share, size: right(share, size + 1)),
        "share of directions within the angle that the formula gives 0.1 at, over 0.1, N up to 10",
        {"dims": (2, 3, 10, 100, 2000), "directions": 10_000},
    ),
    Twin(
        "K23-12",
        "mutations on a sphere",
        in_place(mutagrad.mutation, "ball", lambda right: mutagrad.mutation.sphere),
        "power of N",
        {"dims": (2, 3), "offspring": (16, 64, 256), "runs": 256, "large": 500, "large_runs": 100},
    ),
    Twin(
        "K23-13",
        "every beneficial mutation is fixed",
        in_place(mutagrad, "fixation", lambda right: lambda sigma, beta, size: mutagrad.greedy(sigma)),
        "share of moves to the larger of two effects, 3 to 1: s_j/Σ s_k, fixation",
        {"effect": 0.05, "runs": (2**17, 2**13, 2**13)},
    ),
    Twin(
        "K23-14",
        "the full loss is the sum of the minibatches",
        in_place(minibatches, "_progress", lambda right: lambda k: k * right(k)),
        "decrease of the full loss",
        {"size": 50, "mutations": 50_000},
    ),
    Twin(
        "K23-1",
        "an offspring at random",
        in_place(go_ea, "as_run", lambda right: lambda sigma, number: mutagrad.comma(sigma, 1)),
        "accuracy on the training images at generation 300",
        {"images": 50, "seeds": 3, "every": 50},
    ),
    Twin(
        "K23-2",
        "gradients with twice the noise",
        in_place(angles, "update_angles", with_twice_the_noise),
        "mean cosine of gradients of 32 images less",
        {"images": 400, "train_images": 500, "test_images": 100, "epochs": (0,), "batch_sizes": (4, 32), "seeds": 2},
    ),
    Twin(
        "K23-7",
        "the share of beneficial mutations is Φ(−s)",
        in_place(effects, "mutational_effects", with_the_share_of_s),
        "share of beneficial mutations less Φ(−s/2), start",
        {
            "train_images": 500,
            "test_images": 100,
            "images": 50,
            "epochs": 1,
            "mutations": 400,
            "seeds": 2,
            "sigma": 0.1,
        },
    ),
    Twin(
        "K23-8",
        "the mean of many is no nearer to the slope than one",
        in_place(sys.modules[update_angles.__module__], "mean_cosine", lambda right: lambda k, *rest: right(1, *rest)),
        "cosine with −∇U of the mean of 16",
        {"images": 20, "mutations": 800, "seeds": 2, "digits_mutations": 2000, "digits_images": 50},
    ),
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
