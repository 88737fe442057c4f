"""s measured from the losses of offspring at a point, beside what Hessian-vector products say there: a part of W26-8."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

import mutagrad
from mutagrad import theory
from mutagrad.lab.claims.claims import Job
from mutagrad.lab.claims.quadratics import power_law
from mutagrad.lab.claims.whitelam2026.networks import network

__all__ = ["ESTIMATES", "PLACES", "Place", "gauge", "gauge_name", "measured_at", "place_of", "ratio_bias"]


def ratio_bias(num_offspring: int) -> float:
    """E[mean/std] over mean/std for M normal numbers: Student's noncentral t has this mean."""
    degrees = num_offspring - 1
    logs = special.gammaln((degrees - 1) / 2) - special.gammaln(degrees / 2)
    return math.sqrt(degrees / 2) * math.exp(logs)


class Place(NamedTuple):
    """A loss and a point of it, with what Hessian-vector products say there: |∇U|, TrH and P, an error of the last two."""

    losses_fn: Callable[[jax.Array], jax.Array]
    x: jax.Array
    norm: float
    trace: np.ndarray
    participation: np.ndarray


PLACES = ("sphere", "λ = k^−0.8", "MLP on digits")
ESTIMATES = ("s from the pooled moments of the losses", "mean of info.normalized_mutation_strength over its bias")


def place_of(name: str, size: int, probes: int, key: jax.Array) -> Place:
    """One of `PLACES`, with so many probes of its Hessian."""
    if name == "MLP on digits":
        one, (start_key, key) = network(name), jax.random.split(key)
        x = one.start(start_key)

        def losses_fn(x):
            # One loss: the differences are well above its rounding.
            return one.loss_fn(x, one.inputs, one.targets)
    else:
        quadratic = power_law(size, 0.8 if "0.8" in name else 0.0)
        x, losses_fn = quadratic.start, quadratic.losses

    def loss_fn(x):
        return jnp.mean(losses_fn(x))

    norm = float(jnp.linalg.norm(jax.grad(loss_fn)(x)))
    trace = theory.hessian_trace(loss_fn, x, key, probes)
    rank = theory.participation_ratio(loss_fn, x, key, probes)
    return Place(losses_fn, x, norm, np.array(trace[:2], float), np.array(rank[:2], float))


def measured_at(place: Place, sigma: float, num_offspring: int, number: int, key: jax.Array) -> np.ndarray:
    """s from the losses of many generations at one point, pooled and as the mean of their estimates, with errors: (2, 2)."""
    algorithm = mutagrad.elitist(sigma, num_offspring)

    @jax.jit
    def generations(keys):
        def one(key):
            _, info = algorithm.step(key, algorithm.init(place.x), place.losses_fn)
            differences = info.loss_differences
            return jnp.mean(differences), jnp.var(differences, ddof=1), info.normalized_mutation_strength

        return jax.lax.map(one, keys, batch_size=4)

    found = generations(jax.random.split(key, number))
    means, variances, strengths = (np.asarray(part, float) for part in found)
    pooled = 2 * means.mean() / math.sqrt(variances.mean())
    relative = means / means.mean() - variances / variances.mean() / 2
    errors = np.array([pooled * relative.std(ddof=1), strengths.std(ddof=1)]) / math.sqrt(number)
    return np.stack([[pooled, strengths.mean()], errors], axis=1)


def gauge(job: Job) -> tuple[dict, dict[str, Any]]:
    """s from losses over that from Hessian-vector products at a point, and what the figure shows of it."""
    number, found = job["num_offspring"], {}
    strengths = (job["gauge_strength"], theory.optimal_strength(number))
    ratios = np.empty((len(PLACES), len(strengths), 2, 2))
    for i, name in enumerate(PLACES):
        generations = job["gauge_generations"][i]
        key = jax.random.fold_in(job.key, i)
        place = place_of(name, job["gauge_size"], job["probes"], key)
        for j, strength in enumerate(strengths):
            sigma = strength * place.norm / place.trace[0]
            measured = measured_at(place, sigma, number, generations, jax.random.fold_in(key, j))
            measured[1] /= ratio_bias(number)
            share = strength**2 / 2 / place.participation[0]
            expected = strength / math.sqrt(1 + share)
            error = math.hypot(
                place.trace[1] / place.trace[0],
                share / (1 + share) / 2 * place.participation[1] / place.participation[0],
            )
            for k, text in enumerate(ESTIMATES):
                value = measured[k, 0] / expected
                ratios[i, j, k] = value, value * math.hypot(measured[k, 1] / measured[k, 0], error)
                found[gauge_name(text, name, strength)] = tuple(ratios[i, j, k])
            job.progress((i * len(strengths) + j + 1) / (len(PLACES) * len(strengths)))
    shown = {
        "gauge_ratio": (("place", "strength_at_place", "estimate", "value_error"), ratios),
        "place": list(PLACES),
        "strength_at_place": list(strengths),
    }
    return found, shown


def gauge_name(text: str, place: str, strength: float) -> str:
    """The name of a check."""
    return f"{text}, over σTrH/(|∇U|√(1 + s²/2P)) by Hessian-vector products, {place}, s = {strength:.2g}"
