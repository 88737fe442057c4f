"""Selection rules: who becomes the next parent, given the losses of the offspring and of their parent.

Rules that judge one offspring are an acceptance probability A(ΔU), which theory integrates (theory.md 1); rules for many
offspring pick a winner. Only loss differences matter to any rule. Ties go to the offspring, so that a population drifts
on a plateau; an infinite loss loses to every finite one.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special, stats

from mutagrad import check, law
from mutagrad.types import Selection

__all__ = [
    "boltzmann",
    "comma",
    "elitist",
    "fixation",
    "greedy",
    "logistic",
    "metropolis",
    "truncation",
    "weighted",
]

PARENT = -1
"""The index of the winner when the parent stays."""


def product(beta: Any, difference: Any) -> jax.Array:
    """β ΔU, with 0 · ∞ = 0: a tie at β = ∞ is a tie, and at β = 0 no loss counts, however large."""
    is_zero = (jnp.asarray(beta) == 0) | (jnp.asarray(difference) == 0)
    return jnp.where(is_zero, 0.0, jnp.where(is_zero, 1.0, beta) * jnp.where(is_zero, 1.0, difference))


def _accept(
    name: str, acceptance_fn: Callable[[jax.Array], jax.Array], options: dict[str, Any], kappa: Any
) -> Selection:
    def select(key, losses, parent_loss):
        probability = acceptance_fn(losses[0] - parent_loss)
        # uniform is in [0, 1): a probability of 1 always accepts and one of 0 never does.
        return jnp.where(jax.random.uniform(key, dtype=losses.dtype) < probability, 0, PARENT)

    return Selection(select, name, options, acceptance_fn, law=law.Acceptance(acceptance_fn, kappa))


def metropolis(beta: Any) -> Selection:
    """Accept with probability min(1, exp(−β ΔU)): detailed balance with exp(−βU).

    Parameters
    ----------
    beta : inverse temperature β ≥ 0 [1/loss]; infinity is `greedy`.

    Source: [W21] eq. 1.

    >>> import mutagrad
    >>> float(mutagrad.selection.metropolis(2.0).acceptance_fn(0.0))
    1.0
    """
    beta = check.inverse_temperature(beta)

    def acceptance(difference):
        return jnp.exp(-product(beta, jnp.maximum(difference, 0)))

    return _accept("metropolis", acceptance, {"beta": beta}, beta)


def greedy() -> Selection:
    """Accept if the offspring is no worse than the parent (ties included): Metropolis at β = ∞.

    Source: [W21] eq. 6.

    >>> import mutagrad
    >>> mutagrad.selection.greedy().acceptance_fn(0.0).item()
    1.0
    """
    return _accept("greedy", lambda difference: jnp.where(jnp.asarray(difference) <= 0, 1.0, 0.0), {}, math.inf)


def logistic(beta: Any) -> Selection:
    """Accept with probability 1/(1 + exp(β ΔU)): Barker's rule, detailed balance with exp(−βU).

    Parameters
    ----------
    beta : inverse temperature β ≥ 0 [1/loss].

    Source: theory.md 1.

    >>> import mutagrad
    >>> float(mutagrad.selection.logistic(2.0).acceptance_fn(0.0))
    0.5
    """
    beta = check.inverse_temperature(beta)

    def acceptance(difference):
        return jax.nn.sigmoid(-product(beta, difference))

    return _accept("logistic", acceptance, {"beta": beta}, beta)


def fixation(beta: Any, population_size: int, model: str = "moran") -> Selection:
    """Accept with the probability that one mutant takes over a population of n: selection as population genetics.

    With fitness exp(−βU) and selection coefficient s = −β ΔU: Moran (1 − e^{−s})/(1 − e^{−ns}); Wright–Fisher, haploid,
    by Kimura's diffusion, (1 − e^{−2s})/(1 − e^{−2ns}). At s = 0 both are 1/n.

    Parameters
    ----------
    beta : strength of selection β ≥ 0 [1/loss].
    population_size : n ≥ 1.
    model : "moran" or "wright_fisher".

    Source: [SH05], [S22]; theory.md 6.

    >>> import mutagrad
    >>> round(float(mutagrad.selection.fixation(1.0, 10).acceptance_fn(0.0)), 6)
    0.1
    """
    beta = check.inverse_temperature(beta)
    size = check.count("population_size", population_size)
    factor = {"moran": 1.0, "wright_fisher": 2.0}[check.choice("model", model, ("moran", "wright_fisher"))]

    def acceptance(difference):
        advantage = -factor * product(beta, difference)
        strength = jnp.abs(advantage)
        tiny = strength < 1e-30
        safe = jnp.where(tiny, 1.0, strength)
        # (1 − e^{−a})/(1 − e^{−na}) for a > 0; a deleterious mutant has e^{−(n−1)a} times that, which cannot overflow.
        beneficial = jnp.where(tiny, 1 / size, jnp.expm1(-safe) / jnp.expm1(-size * safe))
        decay = -(size - 1) * strength if size > 1 else jnp.zeros_like(strength)
        return beneficial * jnp.where(advantage < 0, jnp.exp(decay), 1.0)

    options = {"beta": beta, "population_size": size, "model": model}
    return _accept("fixation", acceptance, options, beta * (size - 1) * factor)


def boltzmann(beta: Any) -> Selection:
    """Pick one of the offspring and the parent with probability ∝ exp(−β loss).

    Parameters
    ----------
    beta : inverse temperature β ≥ 0 [1/loss]; infinity is `elitist`.

    Source: [S22] (softmax selection); theory.md 2.

    >>> import mutagrad
    >>> mutagrad.selection.boltzmann(2.0).name
    'boltzmann'
    """
    beta = check.inverse_temperature(beta)

    def select(key, losses, parent_loss):
        candidates = jnp.append(losses, parent_loss)
        excess = candidates - jnp.min(candidates)
        # At β = ∞ the best candidate has 0 · ∞; at β = 0 a failed one has ∞ · 0.
        logits = jnp.where(excess == 0, 0.0, jnp.where(jnp.isfinite(excess), -beta * excess, -jnp.inf))
        index = jax.random.categorical(key, logits)
        return jnp.where(index == losses.size, PARENT, index)

    return Selection(select, "boltzmann", {"beta": beta}, law=law.Boltzmann(beta))


def elitist() -> Selection:
    """The best offspring, if it is no worse than the parent: (1+M).

    Source: [W26].

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> select = mutagrad.selection.elitist().select_fn
    >>> int(select(jax.random.key(0), jnp.array([0.5, -0.2]), jnp.array(0.0)))
    1
    """

    def select(key, losses, parent_loss):
        best = jnp.argmin(losses)
        return jnp.where(losses[best] <= parent_loss, best, PARENT)

    return Selection(select, "elitist", law=law.OrderStatistic(keeps_parent=True))


def comma() -> Selection:
    """The best offspring, whether or not it beats the parent: (1,M).

    Source: [B01].

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> select = mutagrad.selection.comma().select_fn
    >>> int(select(jax.random.key(0), jnp.array([0.5, 0.2]), jnp.array(0.0)))
    1
    """
    return Selection(lambda key, losses, parent_loss: jnp.argmin(losses), "comma", law=law.OrderStatistic())


def truncation(num_parents: int) -> Selection:
    """The best ``num_parents`` offspring, best first; the parents die.

    Parameters
    ----------
    num_parents : how many survive, K ≥ 1.

    Source: [B01], as (K, M); the truncation selection of Such et al. 2017 (arXiv 1712.06567) without its elite.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> select = mutagrad.selection.truncation(2).select_fn
    >>> select(jax.random.key(0), jnp.array([0.5, -0.2, 0.1]), jnp.array(0.0)).tolist()
    [1, 2]
    """
    num_parents = check.count("num_parents", num_parents)

    def select(key, losses, parent_loss):
        return jnp.argsort(losses)[:num_parents]

    options = {"num_parents": num_parents}
    return Selection(select, "truncation", options, num_winners=num_parents, law=law.OrderStatistic(num_parents))


@lru_cache
def rank_levels(number: int, reach: float = 38.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """p = P(Z > z), 1 − p and dp for integrals over one of ``number`` draws from any density, with all of their ranks.

    The trapezoidal rule in the logit of p, up to ``reach``, converges exponentially; ranks narrow like 1/√number.
    """
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

    >>> import jax.numpy as jnp, mutagrad
    >>> rule = mutagrad.selection.weighted([1.0, 0.0, -1.0])
    >>> rule.weights_fn(jnp.array([0.5, -0.2, 0.1])).tolist()
    [-1.0, 1.0, 0.0]
    """
    values = np.asarray(weights, float)
    if values.ndim != 1 or values.size == 0 or not np.all(np.isfinite(values)) or not np.any(values):
        raise ValueError(
            f"weights: got {weights!r}; pass one finite number per offspring, that of the best first, not all of them 0"
        )
    of_rank = jnp.asarray(values, jnp.result_type(float))
    up_to = jnp.asarray(np.concatenate([[0.0], np.cumsum(values)]), of_rank.dtype)

    def weights_fn(losses):
        if losses.size != values.size:
            raise ValueError(f"weights: got {values.size} for {losses.size} offspring; pass one for each")
        is_finite = jnp.isfinite(losses)
        rank = jnp.sum(losses[None] < losses[:, None], axis=1)
        number = jnp.maximum(jnp.sum(losses[None] == losses[:, None], axis=1), 1)
        shared = jnp.where(
            number == 1, of_rank[rank], (up_to[rank + number] - up_to[rank]) / number.astype(of_rank.dtype)
        )
        return jnp.where(is_finite, shared, 0)

    def select(key, losses, parent_loss):
        best = jnp.argmin(losses)
        return jnp.where(jnp.isfinite(losses[best]), best, PARENT)

    own = tuple(values.tolist())
    return Selection(select, "weighted", {"weights": own}, weights_fn=weights_fn, law=law.RankWeights(own))
