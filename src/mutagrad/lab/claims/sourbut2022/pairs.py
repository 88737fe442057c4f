"""Moments of a step of one offspring from antithetic pairs of mutations, with the chance of acceptance in place of its coin.

On a linear loss the mutations z and −z have the changes x and −x. Their mean step is z (A(x) − A(−x))/2, and their mean
acceptance (A(x) + A(−x))/2. So all rules and all gradients see the same mutations, and no coin adds noise. That z and −z are
equally likely is all that this takes of a density.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jax import flatten_util

from mutagrad.lab.claims.checks import ERRORS
from mutagrad.lab.claims.claims import Job
from mutagrad.law import Acceptance
from mutagrad.theory import quadrature
from mutagrad.types import Algorithm, Definition, Mutation

__all__ = [
    "Measured",
    "Planned",
    "acceptance_of",
    "kept_or_measured",
    "measure",
    "orthonormal",
    "planned",
    "planned_exponent",
    "squared_tangent",
    "tangent_room",
]

_NUMBERS = 2**20


class Measured(NamedTuple):
    """Sums over n pairs, for R rules and K gradients.

    Attributes
    ----------
    number : n.
    mean : (R, K, 4) means of z_g A, A, z_g² A and u² A: E[ĝ·Δx], the acceptance, E[(ĝ·Δx)²] and E[(u·Δx)²], in units of σ.
    covariance : (R, 4K, 4K) of these means.
    across : (R, K, N) mean step across the gradient.
    own : (R, K) mean square of the steps across, Σ_u E[(u·z)² w²] with w = (A(x) − A(−x))/2.
    """

    number: int
    mean: np.ndarray
    covariance: np.ndarray
    across: np.ndarray
    own: np.ndarray


def acceptance_of(algorithm: Algorithm) -> Callable[[jax.Array], jax.Array]:
    """The chance of acceptance A(ΔU) of an algorithm that judges one offspring."""
    assert isinstance(algorithm.definition, Definition)
    law = algorithm.definition.selection.law
    assert isinstance(law, Acceptance)
    return law.acceptance_fn


def orthonormal(random: np.random.Generator, size: int, number: int) -> np.ndarray:
    """(N, K) random directions at right angles to each other."""
    return np.linalg.qr(random.standard_normal((size, number)))[0]


def measure(
    mutation: Mutation,
    rules: Sequence[Callable[[jax.Array], jax.Array]],
    directions: np.ndarray,
    slopes: Sequence[float],
    pairs: int,
    key: jax.Array,
    like: Any = None,
    precise: bool = False,
) -> Measured:
    """Moments of a step on the linear losses σ|g| ĝ·z.

    Parameters
    ----------
    mutation : its density is called for every pair. rules : R functions A(ΔU).
    directions : (N, K) unit vectors ĝ. slopes : K numbers σ|g|.
    pairs : at least so many. key : of the mutations.
    like : the params that mutate, a pytree of N numbers; a vector unless given.
    precise : whether acceptances are computed in float64. Differences between two small slopes need it.
    """
    size, number = directions.shape
    like = jnp.zeros(size) if like is None else like
    rows = max(1, min(pairs, _NUMBERS // max(size, 16)))
    dtype = np.float64 if precise else np.float32

    @jax.jit
    def draw(key: jax.Array) -> jax.Array:
        one = jax.vmap(lambda key: flatten_util.ravel_pytree(mutation.sample_fn(key, like))[0])
        return one(jax.random.split(key, rows))

    @jax.jit
    def block(z: jax.Array, units: jax.Array, slope: jax.Array) -> tuple[jax.Array, ...]:
        z = z.astype(dtype)
        along = z @ units
        rest = jnp.sum(jnp.square(z), axis=1)[:, None] - jnp.square(along)
        values, sums, squares = [], [], []
        for rule in rules:
            down, up = rule(-slope * along), rule(slope * along)
            odd, even = (up - down) / 2, (up + down) / 2
            parts = [along * odd, even, jnp.square(along) * even, rest / max(size - 1, 1) * even]
            values.append(jnp.stack(parts, axis=2).reshape(rows, -1))
            sums.append(odd.T @ z - jnp.sum(odd * along, axis=0)[:, None] * units.T)
            squares.append(jnp.sum(jnp.square(odd) * rest, axis=0))
        kept = jnp.stack(values)
        return jnp.sum(kept, axis=1), jnp.einsum("rbi,rbj->rij", kept, kept), jnp.stack(sums), jnp.stack(squares)

    blocks = math.ceil(pairs / rows)
    total: list[Any] = [0.0] * 4
    for one_key in jax.random.split(key, blocks):
        z = draw(one_key)
        with jax.enable_x64(precise):
            parts = block(z, np.asarray(directions, dtype), np.asarray(slopes, dtype))
        total = [sofar + np.asarray(part, np.float64) for sofar, part in zip(total, parts, strict=True)]
    n = blocks * rows
    mean, products, across, own = (part / n for part in total)
    covariance = (products - mean[:, :, None] * mean[:, None, :]) / (n - 1)
    return Measured(n, mean.reshape(len(rules), number, 4), covariance, across, own)


def kept_or_measured(job: Job, name: str, make: Callable[[], Measured]) -> Measured:
    """What a job has kept under a name, or else what ``make`` measures."""
    kept = job.load(name)
    if kept is None:
        found = make()
        job.keep(name, found._asdict(), is_last=True)
        return found
    return Measured(int(kept["number"]), *(kept[field] for field in Measured._fields[1:]))


def squared_tangent(found: Measured) -> tuple[np.ndarray, np.ndarray]:
    """(R,) squared tangent of the angle between mean step and −∇U, without bias, and its error: the mean over the gradients.

    Of n steps s_i across the gradient, the square of their mean without the products of a step with itself has the mean |E[s]|².
    Where E[s] = 0 its variance is 2 Tr(Σ²)/n², with Σ = E[s sᵀ]; else 4 E[s]·ΣE[s]/n is added. Steps at gradients at right angles
    share only E[z_k w_k] E[z_l w_l].
    """
    n, (_, number, size) = found.number, found.across.shape
    squares = (n**2 * np.sum(found.across**2, axis=2) - n * found.own) / (n * (n - 1))
    each, length = found.own / max(size - 1, 1), found.mean[:, :, 0]
    shared = (np.sum(length**2, axis=1) ** 2 - np.sum(length**4, axis=1)) * (size > 1)
    null = 2 * (np.sum(max(size - 1, 1) * each**2, axis=1) + shared) / n**2
    moved = 4 * np.sum(np.maximum(squares, 0) * each, axis=1) / n
    scale = np.mean(length**2, axis=1)
    return squares.mean(1) / scale, np.sqrt(null + moved) / number / scale


def tangent_room(size: int, chance: float) -> float:
    """Planned errors about 0 that a squared tangent is allowed: a χ² of N − 1 degrees less its mean, or the sum of several.

    Parameters
    ----------
    size : N. chance : standard errors that are left for chance if a value is normal; its check has `ERRORS` more.
    """
    degrees = size - 1
    skew = (scipy.stats.chi2.isf(scipy.stats.norm.sf(chance), degrees) - degrees) / math.sqrt(2 * degrees)
    return float(skew) + ERRORS


class Planned(NamedTuple):
    """What theory says of one rule, one density and one slope, and the spread of a pair about it, in units of σ.

    Attributes
    ----------
    mean : (4,) as `Measured.mean`. covariance : (4, 4) of one pair. across : E[(u·z)² w²] of one direction across.
    """

    mean: np.ndarray
    covariance: np.ndarray
    across: float


def _halves(algorithm: Algorithm, slope: float, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """z, (A(σ|g|z) − A(−σ|g|z))/2 and (A(σ|g|z) + A(−σ|g|z))/2 at the nodes of a density."""
    assert isinstance(algorithm.definition, Definition)
    z, rule = quadrature.nodes(quadrature.marginal(algorithm.definition, size)).z, acceptance_of(algorithm)
    with jax.enable_x64(True):
        down, up = (np.asarray(rule(jnp.asarray(sign * slope * z)), float) for sign in (-1, 1))
    return z, (up - down) / 2, (up + down) / 2


def planned(algorithm: Algorithm, slope: float, size: int) -> Planned:
    """Moments of a pair by quadrature over z_g; the fourth has its spread over z_g alone.

    Parameters
    ----------
    algorithm : of one offspring. slope : σ|g|. size : N.
    """
    assert isinstance(algorithm.definition, Definition)
    nodes = quadrature.nodes(quadrature.marginal(algorithm.definition, size))
    _, odd, even = _halves(algorithm, slope, size)
    weight = 2 * nodes.weight
    values = np.stack([nodes.z * odd, even, nodes.z**2 * even, nodes.transverse * even])
    mean = values @ weight
    covariance = (values * weight) @ values.T - np.outer(mean, mean)
    return Planned(mean, covariance, float(weight @ (nodes.transverse * odd**2)))


def planned_exponent(algorithm: Algorithm, low: float, high: float, size: int, pairs: int) -> tuple[float, float]:
    """Power of the slope in the learning rate per accepted step between two slopes, and its error where they share mutations.

    Parameters
    ----------
    algorithm : of one offspring. low, high : slopes σ|g|. size : N. pairs : of mutations.
    """
    assert isinstance(algorithm.definition, Definition)
    weight = 2 * quadrature.nodes(quadrature.marginal(algorithm.definition, size)).weight
    rates, deviation = [], np.zeros_like(weight)
    for sign, slope in ((-1, low), (1, high)):
        z, odd, even = _halves(algorithm, slope, size)
        first, rate = (z * odd) @ weight, even @ weight
        rates.append(first / rate / slope)
        deviation += sign * (z * odd / first - even / rate)
    span = math.log(high / low)
    return math.log(rates[1] / rates[0]) / span, math.sqrt(deviation**2 @ weight / pairs) / span
