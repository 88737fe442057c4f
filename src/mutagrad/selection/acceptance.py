"""Rules that judge one offspring: it is accepted with a probability A(ΔU), which theory integrates (theory.md 1)."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mutagrad import check, keys, law
from mutagrad.selection.takeover import FACTORS, strength_of_selection, takeover
from mutagrad.types import Descent, Selection

__all__ = ["fixation", "greedy", "logistic", "metropolis", "product"]

PARENT = -1
"""The ancestor of a next parent that is the parent."""


def product(beta: Any, difference: Any) -> jax.Array:
    """β ΔU, with 0 · ∞ = 0: a tie at β = ∞ is a tie, and at β = 0 no loss counts, however large."""
    is_zero = (jnp.asarray(beta) == 0) | (jnp.asarray(difference) == 0)
    return jnp.where(is_zero, 0.0, jnp.where(is_zero, 1.0, beta) * jnp.where(is_zero, 1.0, difference))


def _uniform(key: jax.Array, dtype: Any) -> jax.Array:
    """Uniform in [0, 1): a probability of 1 always accepts and one of 0 never does.

    JAX's own are multiples of 2⁻²³, and one in eight million of them is 0, which is below every probability. Here they are what
    lies before the first digits of another one.
    """
    step = float(jnp.finfo(dtype).eps)
    below = jax.random.uniform(jax.random.fold_in(key, 1), dtype=dtype)
    return jnp.minimum(jax.random.uniform(key, dtype=dtype) + step * below, 1 - step / 2)


def _accept(
    name: str, acceptance_fn: Callable[[jax.Array], jax.Array], options: dict[str, Any], kappa: Any
) -> Selection:
    def select(key: jax.Array, losses: jax.Array, parent_losses: jax.Array) -> Descent:
        probability = acceptance_fn(losses[0] - parent_losses[0])
        return Descent.of(jnp.where(_uniform(keys.fast(key), losses.dtype) < probability, 0, PARENT))

    return Selection(select, name, options, law=law.Acceptance(acceptance_fn, kappa))


def metropolis(beta: Any) -> Selection:
    """Accept with probability min(1, exp(−β ΔU)): detailed balance with exp(−βU).

    Parameters
    ----------
    beta : inverse temperature β ≥ 0 [1/loss]; infinity is `greedy`.

    Source: [W21] eq. 1.

    >>> import mutagrad
    >>> float(mutagrad.selection.metropolis(2.0).law.acceptance_fn(0.0))
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
    >>> mutagrad.selection.greedy().law.acceptance_fn(0.0).item()
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
    >>> float(mutagrad.selection.logistic(2.0).law.acceptance_fn(0.0))
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
    >>> round(float(mutagrad.selection.fixation(1.0, 10).law.acceptance_fn(0.0)), 6)
    0.1
    """
    beta = check.inverse_temperature(beta)
    size = check.count("population_size", population_size)
    factor = FACTORS[check.choice("model", model, tuple(FACTORS))]

    def acceptance(difference):
        return takeover(-factor * product(beta, difference), size)

    options = {"beta": beta, "population_size": size, "model": model}
    return _accept("fixation", acceptance, options, strength_of_selection(beta, size - 1, model))
