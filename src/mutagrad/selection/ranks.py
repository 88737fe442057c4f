"""Rules that choose among many offspring: by rank, or by Boltzmann weight (theory.md 2).

Ties go to the offspring, so that a population drifts on a plateau; an infinite loss loses to every finite one.
"""

from typing import Any

import jax
import jax.numpy as jnp

from mutagrad import check, keys, law
from mutagrad.selection.acceptance import PARENT
from mutagrad.types import Descent, Selection

__all__ = ["boltzmann", "comma", "elitist", "truncation"]


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

    def select(key: jax.Array, losses: jax.Array, parent_losses: jax.Array) -> Descent:
        candidates = jnp.append(losses, parent_losses[0])
        excess = candidates - jnp.min(candidates)
        # At β = ∞ the best candidate has 0 · ∞; at β = 0 a failed one has ∞ · 0.
        logits = jnp.where(excess == 0, 0.0, jnp.where(jnp.isfinite(excess), -beta * excess, -jnp.inf))
        loses_tie = jnp.isinf(beta) & jnp.any(excess[:-1] == 0)
        logits = logits.at[-1].set(jnp.where(loses_tie, -jnp.inf, logits[-1]))
        index = jax.random.categorical(keys.fast(key), logits)
        return Descent.of(jnp.where(index == losses.size, PARENT, index))

    return Selection(select, "boltzmann", {"beta": beta}, law=law.Boltzmann(beta))


def elitist() -> Selection:
    """The best offspring, if it is no worse than the parent: (1+M).

    Source: [W26].

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> select = mutagrad.selection.elitist().select_fn
    >>> int(select(jax.random.key(0), jnp.array([0.5, -0.2]), jnp.zeros(1)).ancestors[0, 0])
    1
    """

    def select(key: jax.Array, losses: jax.Array, parent_losses: jax.Array) -> Descent:
        best = jnp.argmin(losses)
        return Descent.of(jnp.where(losses[best] <= parent_losses[0], best, PARENT))

    return Selection(select, "elitist", law=law.OrderStatistic(keeps_parent=True))


def comma() -> Selection:
    """The best offspring, whether or not it beats the parent: (1,M).

    Source: [B01].

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> select = mutagrad.selection.comma().select_fn
    >>> int(select(jax.random.key(0), jnp.array([0.5, 0.2]), jnp.zeros(1)).ancestors[0, 0])
    1
    """

    def select(key: jax.Array, losses: jax.Array, parent_losses: jax.Array) -> Descent:
        return Descent.of(jnp.argmin(losses))

    return Selection(select, "comma", law=law.OrderStatistic())


def truncation(num_parents: int) -> Selection:
    """The best ``num_parents`` offspring, best first; the parents die.

    Parameters
    ----------
    num_parents : how many survive, K ≥ 1.

    Source: [B01], as (K, M); the truncation selection of Such et al. 2017 (arXiv 1712.06567) without its elite.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> select = mutagrad.selection.truncation(2).select_fn
    >>> select(jax.random.key(0), jnp.array([0.5, -0.2, 0.1]), jnp.zeros(1)).ancestors[:, 0].tolist()
    [1, 2]
    """
    num_parents = check.count("num_parents", num_parents)

    def select(key: jax.Array, losses: jax.Array, parent_losses: jax.Array) -> Descent:
        return Descent.of(jnp.argsort(losses)[:num_parents])

    options = {"num_parents": num_parents}
    return Selection(select, "truncation", options, num_parents=num_parents, law=law.OrderStatistic(num_parents))
