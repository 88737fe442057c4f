"""The size of batches, driven by how much of the slope that they show is sampling noise (theory.md 8)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mutagrad import check
from mutagrad.run.minibatches import PERIOD, Minibatches
from mutagrad.types import Algorithm, Info, LossFn, Params, UnknownDefinition, WrappedState

__all__ = ["BatchSizeState", "adapt_batch_size"]

_CAUTION = 0.5
"""A smaller size is taken only if it would be as far from the target share of signal as this part of the way to 1."""


class _Fields(NamedTuple):
    inner: Any
    level: jax.Array
    squared_slope: jax.Array
    squared_noise: jax.Array
    promised: jax.Array
    delivered: jax.Array
    last_differential: jax.Array
    last_load: jax.Array


class BatchSizeState(_Fields, WrappedState):
    """The wrapped algorithm's state, and the controller's memory.

    Attributes
    ----------
    inner : state of the wrapped algorithm; ``params``, ``sigma`` and ``generation`` read through to it.
    level : int32 scalar, which of the sizes the next generation draws.
    squared_slope, squared_noise : |∇U|² on the batch and the part of it that is noise, summed since the last decision.
    promised, delivered : selection differentials of accepted steps, and what of them the next batch confirmed, summed likewise.
    last_differential, last_load : of the last generation; 0 if no offspring was accepted.
    """

    __slots__ = ()


def adapt_batch_size(algorithm: Algorithm, batches: Minibatches, signal: float = 0.5) -> Algorithm:
    """Draw larger batches when sampling noise hides the slope, and smaller ones when it does not.

    Selection follows the slope of the batch, of which |∇U|²/(|∇U|² + TrC/B) is signal: the share of the drift's gain that is
    real. At B = TrC/|∇U|², the gradient noise scale, it is ½: a smaller batch wastes generations, a larger one examples.
    Every 100 generations the share is known, and the next size is taken if it is below ``signal``; the size before, if it
    would still be well above there. With per-example losses it is read off the offspring's paired differences. With one number
    a batch, it is the part of the selection differential that the next batch confirms, h² of the breeder's equation, within
    about 0.1/c_M; that needs an algorithm that evaluates the parent before (`mutagrad.adapt_sigma`).

    Parameters
    ----------
    algorithm : any with two offspring or more that evaluates its parent anew each generation, such as
        ``mutagrad.adapt_sigma(...)``, whose σ follows the share of signal too.
    batches : `mutagrad.minibatches` of several sizes; the same must be passed to `mutagrad.evolve`. Each size that comes
        into use compiles once.
    signal : the share of signal to hold, between 0 and 1.

    Returns
    -------
    Algorithm, whose state is a `BatchSizeState`; its ``level`` says which size is in use. Where neither measure is to be had,
    the first size stays.

    Raises
    ------
    ValueError : if the batches have one size, the algorithm one offspring or a kept parent's loss, or ``signal`` is not
        between 0 and 1.

    Source: theory.md 8 and 9, derived for this project; noise scale: McCandlish et al. 2018 (arXiv 1812.06162).

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> targets = jax.random.normal(jax.random.key(1), (10_000, 5))
    >>> batches = mutagrad.minibatches(targets, (16, 256, 4096))
    >>> algorithm = mutagrad.adapt_sigma(mutagrad.elitist(sigma=0.1, num_offspring=20))
    >>> algorithm = mutagrad.adapt_batch_size(algorithm, batches)
    >>> loss_fn = lambda x, batch: jnp.sum((x - batch) ** 2, axis=1)
    >>> result = mutagrad.evolve(jax.random.key(0), algorithm, 10 * jnp.ones(5), loss_fn, 500, batches, progress=False)
    >>> int(result.history["num_examples"][0]), int(result.history["num_examples"][-1])
    (16, 4096)
    """
    if not isinstance(batches, Minibatches) or not isinstance(batches.batch_size, tuple):
        raise ValueError("batches: got none of several sizes; pass mutagrad.minibatches(data, (1024, 4096, …))")
    if not 0 < check.positive("signal", signal) < 1:
        raise ValueError(f"signal: got {signal!r}; pass a share between 0 and 1")
    definition = check.algorithm(algorithm).definition
    if not isinstance(definition, UnknownDefinition):
        if definition.num_offspring < 2:
            raise ValueError(
                "algorithm: got one offspring a generation, which does not show the slope of its batch; pass two or more, or "
                "batches of one size"
            )
        if not definition.reevaluate_parent:
            raise ValueError(
                "algorithm: got reevaluate_parent=False with batches that change; build it with reevaluate_parent=True"
            )
    sizes = jnp.asarray(batches.sizes, jnp.int32)

    def init(params: Params, loss_fn: LossFn | None = None) -> BatchSizeState:
        inner = algorithm.init(params, loss_fn)
        zero = jnp.zeros_like(inner.sigma)
        return BatchSizeState(inner, jnp.zeros((), jnp.int32), *[zero] * 6)

    def after(state: BatchSizeState, inner: Any, info: Info) -> tuple[BatchSizeState, Info]:
        is_usable = jnp.isfinite(info.squared_grad_norm) & jnp.isfinite(info.squared_grad_noise)
        slope = state.squared_slope + jnp.where(is_usable, info.squared_grad_norm, 0).astype(state.squared_slope.dtype)
        noise = state.squared_noise + jnp.where(is_usable, info.squared_grad_noise, 0).astype(state.squared_noise.dtype)
        confirmed, differential, load = _confirmed(state, info)
        promised, delivered = (
            sum_of + one for sum_of, one in zip((state.promised, state.delivered), confirmed, strict=True)
        )
        # Noise over signal is TrC/(B|∇U|²); where the slope is lost in the noise it is above any bound.
        ratio = jnp.where(
            noise > 0, noise / jnp.maximum(slope - noise, 0), (promised - delivered) / jnp.maximum(delivered, 0)
        )
        is_known = jnp.where(noise > 0, slope > 0, promised > 0)
        level = _decided(state.level, sizes, jnp.maximum(ratio, 0), is_known, signal)
        is_due = inner.generation % PERIOD == 0
        following = BatchSizeState(
            inner=inner,
            level=jnp.where(is_due, level, state.level),
            squared_slope=jnp.where(is_due, 0, slope),
            squared_noise=jnp.where(is_due, 0, noise),
            promised=jnp.where(is_due, 0, promised),
            delivered=jnp.where(is_due, 0, delivered),
            # The next batch may be of another size, which says nothing of this one.
            last_differential=jnp.where(is_due, 0, differential),
            last_load=load,
        )
        return following, info

    return algorithm.wrapped(init, lambda state: state.inner, after)


def _confirmed(state: BatchSizeState, info: Info) -> tuple[tuple[jax.Array, jax.Array], jax.Array, jax.Array]:
    """What the last step promised and what this batch confirms of it; the differential and the load of this generation."""
    dtype = state.promised.dtype
    is_finite = jnp.isfinite(info.loss_differences)
    load = jnp.nan_to_num(jnp.mean(info.loss_differences, where=is_finite), nan=0.0)
    is_step = jnp.any(info.is_accepted) & jnp.isfinite(info.loss_change) & jnp.any(is_finite)
    differential = jnp.where(is_step, load - info.loss_change, 0).astype(dtype)
    is_told = jnp.isfinite(info.validated_change) & (state.last_differential > 0)
    delivered = jnp.where(is_told, state.last_load - info.validated_change, 0).astype(dtype)
    return (jnp.where(is_told, state.last_differential, 0), delivered), differential, load.astype(dtype)


def _decided(level: jax.Array, sizes: jax.Array, ratio: jax.Array, is_known: jax.Array, signal: float) -> jax.Array:
    """The level that noise over signal calls for: one up, one down, or the same."""
    smaller = sizes[jnp.maximum(level - 1, 0)]
    ratio_below = ratio * (sizes[level] / smaller).astype(ratio.dtype)
    is_up = is_known & (1 / (1 + ratio) < signal) & (level < sizes.size - 1)
    is_down = is_known & (1 / (1 + ratio_below) > signal + _CAUTION * (1 - signal)) & (level > 0)
    return level + is_up.astype(level.dtype) - is_down.astype(level.dtype)
