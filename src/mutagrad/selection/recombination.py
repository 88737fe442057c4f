"""Rules by which several offspring have shares in a next parent (theory.md 2)."""

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mutagrad import check, keys, law
from mutagrad.types import Descent, Selection

__all__ = ["crossover", "normal_scores", "rank_levels", "rank_shares", "weighted"]

_NOTHING = 1e-12
"""A sum of weights, in units of the largest, that is rounding."""


@lru_cache
def rank_levels(number: int, reach: float = 38.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """p = P(Z > z), 1 − p and dp for integrals over one of ``number`` draws from any density, with all of their ranks.

    The trapezoidal rule in the logit of p, up to ``reach``, converges exponentially; ranks narrow like 1/√number.
    """
    from scipy import special

    step = min(0.25, 1.5 / number**0.5)
    logit = step * np.arange(-np.ceil(reach / step), np.ceil(reach / step) + 1)
    upper, lower = special.expit(-logit), special.expit(logit)
    return upper, lower, step * upper * lower


@lru_cache
def normal_scores(number: int) -> np.ndarray:
    """E[Z_(k)] of ``number`` standard normals, largest first: the weights of best recombination.

    >>> from mutagrad.selection import normal_scores
    >>> [round(float(score), 4) for score in normal_scores(3)]
    [0.8463, 0.0, -0.8463]
    """
    from scipy import special, stats

    upper, lower, weight = rank_levels(number)
    z = -np.sign(lower - upper) * special.ndtri(np.minimum(upper, lower))
    # The rank of one draw, best first, is that of p: k of the other draws lie above it.
    of_rank = (number * np.sum(z * weight * stats.binom.pmf(k, number - 1, upper)) for k in range(number // 2))
    half = np.fromiter(of_rank, float, number // 2)
    return np.concatenate([half, np.zeros(number % 2), -half[::-1]])


def weighted(weights: Any) -> Selection:
    """All offspring recombine: the parent moves by the sum of their mutations, each times the weight of its rank.

    Offspring of equal loss share the mean weight of their ranks; one whose loss is not finite has weight 0.

    Parameters
    ----------
    weights : (M,) numbers, the weight of the best offspring first; negative ones move away from an offspring.

    Source: Arnold 2006 (Theor. Comput. Sci. 361, 18).

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> rule = mutagrad.selection.weighted([1.0, 0.0, -1.0])
    >>> rule.select_fn(jax.random.key(0), jnp.array([0.5, -0.2, 0.1]), jnp.zeros(1)).shares.tolist()
    [[-1.0, 1.0, 0.0]]
    """
    values = np.asarray(weights, float)
    if values.ndim != 1 or values.size == 0 or not np.all(np.isfinite(values)) or not np.any(values):
        raise ValueError(
            f"weights: got {weights!r}; pass one finite number per offspring, that of the best first, not all of them 0"
        )
    own = tuple(values.tolist())

    def select(key: jax.Array, losses: jax.Array, parent_losses: jax.Array) -> Descent:
        return Descent(jnp.arange(losses.size, dtype=jnp.int32)[None], rank_shares(own, losses)[None])

    return Selection(select, "weighted", {"weights": own}, law=law.RankWeights(own))


def rank_shares(weights: tuple[float, ...], losses: jax.Array) -> jax.Array:
    """The weight of each offspring (M,), by the rank of its loss; equal losses share, and failed ones have 0."""
    if losses.size != len(weights):
        raise ValueError(f"weights: got {len(weights)} for {losses.size} offspring; pass one for each")
    of_rank = jnp.asarray(weights, jnp.result_type(float))
    sums = np.concatenate([[0.0], np.cumsum(weights)])
    # Weights that add up to 0 do so but for rounding, and offspring that are all alike move nothing.
    up_to = jnp.asarray(np.where(np.abs(sums) < _NOTHING * np.max(np.abs(weights)), 0, sums), of_rank.dtype)
    rank = jnp.sum(losses[None] < losses[:, None], axis=1)
    number = jnp.maximum(jnp.sum(losses[None] == losses[:, None], axis=1), 1)
    mean = (up_to[rank + number] - up_to[rank]) / number.astype(of_rank.dtype)
    return jnp.where(jnp.isfinite(losses), jnp.where(number == 1, of_rank[rank], mean), 0)


def crossover(num_parents: int, inheritance: str = "parameter") -> Selection:
    """The best K offspring mate: each next parent inherits every parameter, or every leaf, from one of two of them.

    The mother of the k-th next parent is the k-th best offspring; the father is another of the best K, drawn uniformly. A
    fair coin decides for each parameter, or leaf, from whom it comes.

    Parameters
    ----------
    num_parents : K ≥ 2.
    inheritance : "parameter" (free recombination) or "leaf" (the leaves are linkage groups).

    Source: the drift is that of truncation selection, since a coin shifts no mean; the second moments are in
    `mutagrad.law.OrderStatistic`, derived for this project, tested in tests/selection/test_crossover.py.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> rule = mutagrad.selection.crossover(2)
    >>> rule.select_fn(jax.random.key(0), jnp.array([0.5, -0.2, 0.1]), jnp.zeros(1)).ancestors.tolist()
    [[1, 2], [2, 1]]
    """
    number = check.count("num_parents", num_parents, 2)
    check.choice("inheritance", inheritance, ("parameter", "leaf"))

    def select(key: jax.Array, losses: jax.Array, parent_losses: jax.Array) -> Descent:
        best = jnp.argsort(losses)[:number].astype(jnp.int32)
        further = jax.random.randint(keys.fast(key), (number,), 1, number)
        fathers = best[(jnp.arange(number) + further) % number]
        ancestors = jnp.stack([best, fathers], axis=1)
        return Descent(ancestors, jnp.full(ancestors.shape, 0.5), inheritance)

    options = {"num_parents": number, "inheritance": inheritance}
    # Leaves are too few for the law of many independent coins.
    own = law.OrderStatistic(number, mixes=True) if inheritance == "parameter" else None
    return Selection(select, "crossover", options, num_parents=number, law=own)
