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
from mutagrad.lab.claims.whitelam2026.networks import network, train

__all__ = ["ESTIMATES", "PLACES", "Place", "gauge", "gauge_name", "measured_at", "orders", "place_of", "ratio_bias"]


def ratio_bias(num_offspring: int) -> float:
    """E[mean/std] over mean/std for M normal numbers: Student's noncentral t has this mean."""
    degrees = num_offspring - 1
    logs = special.gammaln((degrees - 1) / 2) - special.gammaln(degrees / 2)
    return math.sqrt(degrees / 2) * math.exp(logs)


class Place(NamedTuple):
    """A loss and a point of it, with what Hessian-vector products say there: |∇U|, TrH and P."""

    losses_fn: Callable[[jax.Array], jax.Array]
    x: jax.Array
    norm: float
    trace: float
    participation: float


PLACES = ("sphere", "λ = k^−0.8", "MLP on digits at its start", "MLP on digits in training")
ESTIMATES = ("s from the pooled moments of the losses", "mean of info.normalized_mutation_strength over its bias")


def exact_traces(loss_fn: Callable[[jax.Array], jax.Array], x: jax.Array) -> tuple[float, float]:
    """TrH and TrH² at a point, from a Hessian-vector product along every coordinate: without chance."""
    product = jax.linearize(jax.grad(loss_fn), x)[1]

    def column(index):
        found = product(jnp.zeros_like(x).at[index].set(1))
        return found[index], jnp.sum(jnp.square(found))

    diagonal, squares = jax.jit(lambda: jax.lax.map(column, jnp.arange(x.size), batch_size=64))()
    return float(np.sum(np.asarray(diagonal, float))), float(np.sum(np.asarray(squares, float)))


def place_of(name: str, size: int, key: jax.Array) -> Place:
    """One of `PLACES`."""
    if name.startswith("MLP on digits"):
        one, start_key = network("MLP on digits"), jax.random.split(key)[0]
        x = train(one, start_key, (100 if name.endswith("training") else 0,), 64)[0]

        def losses_fn(x):
            # One loss: the differences are well above its rounding.
            return one.loss_fn(x, one.inputs, one.targets)
    else:
        quadratic = power_law(size, 0.8 if "0.8" in name else 0.0)
        x, losses_fn = quadratic.start, quadratic.losses

    def loss_fn(x):
        return jnp.mean(losses_fn(x))

    norm = float(jnp.linalg.norm(jax.grad(loss_fn)(x)))
    trace, squares = exact_traces(loss_fn, x)
    return Place(losses_fn, x, norm, trace, trace**2 / squares)


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


def orders(strength: float, num_offspring: int, size: int, exponent: float) -> tuple[float, float]:
    """On a power law from (1, …, 1): the mean of one generation's s over its bias and law, and its error from one offspring.

    From the cumulants of ΔU, which is a quadratic form of normal numbers, to the order 1/M; of one where ΔU is normal.
    """
    curvatures = np.arange(1, size + 1, dtype=float) ** -exponent
    shares, slopes = curvatures / curvatures.sum(), curvatures**2 / np.sum(curvatures**2)
    mean, second = strength / 2, 1 + strength**2 / 2 * np.sum(shares**2)
    third = 3 * strength * np.sum(slopes * shares) + strength**3 * np.sum(shares**3)
    fourth = 12 * strength**2 * np.sum(slopes * shares**2) + 3 * strength**4 * np.sum(shares**4)
    bias = 1 - third / (2 * mean * second * num_offspring) + 3 * fourth / (8 * second**2 * num_offspring)
    relative = second / mean**2 - third / (mean * second) + fourth / (4 * second**2)
    return float(bias), math.sqrt(relative + num_offspring / (2 * (num_offspring - 1)))


def gauge(job: Job) -> tuple[dict, dict[str, Any]]:
    """s from losses over that from Hessian-vector products at a point, and what the figure shows of it."""
    number, found = job["num_offspring"], {}
    strengths = (job["gauge_strength"], theory.optimal_strength(number))
    ratios = np.empty((len(PLACES), len(strengths), 2, 2))
    for i, name in enumerate(PLACES):
        generations = job["gauge_generations"][i]
        key = jax.random.fold_in(job.key, i)
        place = place_of(name, job["gauge_size"], key)
        for j, strength in enumerate(strengths):
            sigma = strength * place.norm / place.trace
            measured = measured_at(place, sigma, number, generations, jax.random.fold_in(key, j))
            measured[1] /= ratio_bias(number)
            expected = strength / math.sqrt(1 + strength**2 / 2 / place.participation)
            for k, text in enumerate(ESTIMATES):
                ratios[i, j, k] = measured[k] / expected
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
