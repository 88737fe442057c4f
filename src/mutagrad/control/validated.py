"""By how much ln σ is to change where batches change: half of the rule "progress" of `mutagrad.adapt_sigma`; theory.md 9."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mutagrad.control.response import Running

__all__ = ["OnBatches", "on_batches", "window_of"]

_SHARE_OF_LOAD = 0.6
"""On batches L counts for this much. Less than 1, since a run gains more than its generations: what a large σ loses along steep
directions is regained when σ falls (theory.md 3)."""
_SLOWEST, _FASTEST = 0.02, 0.15
"""Speed at which ln σ follows R − L, on batches: where its sign is noise, and where it is plain."""
_PLAIN = 8.0
"""The squared ratio of the mean direction to its error at which the speed is halfway."""
_SHORTEST, _LONGEST = 30, 600
"""Generations that are remembered where batches change: a third of those that have passed, within these."""
_BLIND_AFTER = 1.6
"""The same above a σ that has made progress."""
_WON = 4.0
"""Standard errors by which validated progress must stand above 0 for a σ to have won: chance does so once in 30,000 windows."""
_DRIFT = 0.5
"""Rise of ln σ per window below the scale of a rough loss."""
_FORGOTTEN = 0.3
"""Fall per window of the ln σ that was last found to be below that scale."""


class OnBatches(NamedTuple):
    """What R and L say where batches change: by how much ln σ is to change, and what is remembered of it."""

    change: jax.Array
    direction: Running
    progress: Running
    load: Running
    ceiling: jax.Array
    ground: jax.Array


def window_of(generation: jax.Array) -> jax.Array:
    """Generations that are remembered in this one."""
    return jnp.clip(generation / 3, _SHORTEST, _LONGEST)


def on_batches(
    old: Any, won: jax.Array, log_sigma: jax.Array, speed: float, best: float, longest: float = math.inf
) -> OnBatches:
    """What the last step says; at most ``longest`` generations are remembered.

    Gates and speeds depend on what was known before the step that they weigh: with the step in them, rare losses would be
    weighed less than frequent gains.
    """
    generation = old.generation + 1
    slow = window_of(generation)
    window = jnp.minimum(slow, longest)
    share = jnp.where(old.may_be_rough > 0, old.exponents.share(old.load.mean, old.load.ratio, best), 1)
    # Only while steps are worth something.
    below = jnp.where(old.progress.mean > 0, old.exponents.below(old.load.mean, old.load.ratio, best), 0)
    progress = old.progress.with_(won, window)
    load = old.load.with_(jnp.clip(old.last.load, -4, 4), window)
    if speed < 1:
        # In units of the spread L grows like σ. Few offspring see it late, and it must not be forgotten as σ falls.
        grown = jnp.where(old.last.is_known > 0, jnp.exp(log_sigma) / old.last.sigma, 1)
        load = load.carried(grown ** (1 - speed))

    # Progress gets the credit that stands out of its noise.
    stands_out = jnp.clip(1 - 0.25 / jnp.maximum(old.progress.ratio, 1e-9), 0, 1)
    credit = jnp.where((old.progress.mean > 0) & (generation > 3), stands_out, 1)
    direction = jnp.clip(credit * won - _SHARE_OF_LOAD * share * old.last.load, -4, 4)
    clear = jnp.maximum(jnp.square(old.direction.ratio) - 2, 0)
    slowest = _SLOWEST * jnp.sqrt(jnp.minimum(1, 300 / generation))
    rate = slowest + (_FASTEST - slowest) * clear / (clear + _PLAIN)

    # Where noise hides progress: up while the load is hidden too, or luck, and down while it is seen and counts.
    has_won = (old.progress.ratio > _WON) & (generation > 10)
    ceiling = jnp.where(has_won, log_sigma + _BLIND_AFTER, old.ceiling)
    hidden = jnp.maximum(0.05 * jnp.clip(1 - load.ratio, 0, 1), _DRIFT * below / slow)
    up = jnp.where(log_sigma < ceiling, hidden * speed, 0)
    down = 6 / (generation + 30) * jnp.clip(1 - old.progress.ratio, 0, 1) * jnp.clip(load.ratio - 1, 0, 1) * share
    change = rate * direction * speed + up - down

    # Never up while steps are worth nothing.
    evidence = jnp.maximum(jnp.square(progress.ratio) - 2, 0)
    is_losing = (progress.mean <= 0) & (generation > 10)
    change = jnp.where(is_losing, jnp.minimum(change, 0) - 0.05 * evidence / (evidence + 4), change)

    # Never below what was looked at, nor below where σ was too small on a rough loss.
    ground = jnp.maximum(old.ground - _FORGOTTEN / slow, jnp.where(below > 0.5, log_sigma, -jnp.inf))
    least = jnp.maximum(ground, old.looked)
    if longest < math.inf:
        # On one loss what steps are worth is known.
        least = jnp.where(is_losing, old.looked, least)
        ground = jnp.where(is_losing, -jnp.inf, ground)
    change = jnp.maximum(change, jnp.minimum(least - log_sigma, 0))
    return OnBatches(change, old.direction.with_(direction, window), progress, load, ceiling, ground)
