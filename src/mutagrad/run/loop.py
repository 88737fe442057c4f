"""The loop around an algorithm: an iterator of chunks of generations, which observers look at."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from mutagrad import check
from mutagrad.evaluation.everyone import sees_everyone
from mutagrad.evaluation.local import resolve
from mutagrad.evaluation.losses import check_loss_fn
from mutagrad.run.chunks import Chunk, compiled, keys_of, one_by_one
from mutagrad.run.minibatches import Minibatches, check_kept_loss
from mutagrad.types import Algorithm, Info, UnknownDefinition

__all__ = ["Chunk", "default_record", "generation_key", "generations"]


def default_record(state: Any, info: Info) -> dict[str, jax.Array]:
    """What `mutagrad.evolve` keeps of every generation unless told otherwise: scalars only.

    ``loss`` of the parent; ``loss_change`` and ``validated_change``, by how much the next parent's differs, and this one's
    from the one before; ``best_loss`` of the offspring, ``sigma``, ``normalized_mutation_strength``, ``success`` (the share
    of offspring no worse than the parent), ``is_accepted``, ``num_nonfinite``, ``num_examples``, ``is_resampled``, and what
    `mutagrad.diagnostics.regime` pools: ``hessian_trace``, ``squared_grad_norm``, ``squared_grad_noise``,
    ``gradient_curvature``.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> algorithm = mutagrad.elitist(sigma=0.1, num_offspring=4)
    >>> state, info = algorithm.step(jax.random.key(0), algorithm.init(jnp.ones(3)), lambda x: jnp.sum(x**2))
    >>> sorted(mutagrad.default_record(state, info))[:3]
    ['best_loss', 'gradient_curvature', 'hessian_trace']
    """
    return {
        "loss": info.parent_loss,
        "loss_change": info.loss_change,
        "validated_change": info.validated_change,
        "best_loss": jnp.min(jnp.where(jnp.isfinite(info.losses), info.losses, jnp.inf)),
        "sigma": info.sigma,
        "normalized_mutation_strength": info.normalized_mutation_strength,
        "success": jnp.mean(info.loss_differences <= 0),
        "is_accepted": jnp.any(info.is_accepted),
        "num_nonfinite": info.num_nonfinite,
        "num_examples": info.num_examples,
        "is_resampled": info.is_resampled,
        "hessian_trace": info.hessian_trace,
        "squared_grad_norm": info.squared_grad_norm,
        "squared_grad_noise": info.squared_grad_noise,
        "gradient_curvature": info.gradient_curvature,
    }


def generation_key(key: jax.Array, generation: Any) -> jax.Array:
    """The key with which a run steps in a generation: for ``ask``, ``tell`` and ``step`` by hand as `mutagrad.evolve` has them.

    Parameters
    ----------
    key : of the run.
    generation : t = 0, 1, …, the ``generation`` of the state that the step starts from.

    Returns
    -------
    ``jax.random.split(jax.random.fold_in(key, t))[0]``. The other half draws the batch, where batches are drawn.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> algorithm, key = mutagrad.elitist(sigma=0.1, num_offspring=4), jax.random.key(0)
    >>> state, loss_fn = algorithm.init(jnp.ones(3)), lambda x: jnp.sum(x**2)
    >>> for generation in range(5):
    ...     own = mutagrad.generation_key(key, generation)
    ...     state, info = algorithm.step(own, state, loss_fn, is_resampled=False)
    >>> bool(jnp.all(state.params == mutagrad.evolve(key, algorithm, jnp.ones(3), loss_fn, 5, progress=False).params))
    True
    """
    return keys_of(check.key(key), generation)[0]


def generations(
    key: jax.Array,
    algorithm: Algorithm,
    state: Any,
    loss_fn: Callable,
    num_generations: int,
    *,
    batches: Any = None,
    record: Callable[[Any, Info], Any] = default_record,
    evaluation: Any = "auto",
) -> Iterator[Chunk]:
    """Run generations, and yield what happened about every quarter of a second.

    Generation t uses the key `generation_key(key, t)`, so that a run continued from a state is the run that was never stopped.
    A state of more than a million numbers is donated to the next chunk: do not use it after asking for that.

    Parameters
    ----------
    key, algorithm, loss_fn, batches, record, evaluation : as in `mutagrad.evolve`.
    state : of the algorithm, from ``algorithm.init(params)`` or from an earlier chunk.
    num_generations : how many generations more.

    Yields
    ------
    Chunk

    Raises
    ------
    ValueError : as `mutagrad.evolve`.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> algorithm = mutagrad.elitist(sigma=0.1, num_offspring=4)
    >>> run = mutagrad.generations(jax.random.key(0), algorithm, algorithm.init(jnp.ones(3)), lambda x: jnp.sum(x**2), 50)
    >>> sum(chunk.num_generations for chunk in run)
    50
    """
    key, has_batches = check.key(key), batches is not None
    definition = check.algorithm(algorithm).definition
    own = "auto" if isinstance(definition, UnknownDefinition) else definition.evaluation
    evaluator = resolve(evaluation, own)
    check_loss_fn(loss_fn, has_batches, sees_everyone(evaluator, definition))
    has_levels = isinstance(batches, Minibatches) and isinstance(batches.batch_size, tuple)
    if has_levels and not hasattr(state, "level"):
        raise ValueError(
            f"batches: got sizes {batches.batch_size} with an algorithm that does not choose among them; wrap it in "
            "mutagrad.adapt_batch_size(algorithm, batches)"
        )
    check_kept_loss(algorithm, batches)
    inside = evaluator.is_traceable and (batches is None or isinstance(batches, Minibatches) or callable(batches))
    arguments = (algorithm, loss_fn, record, evaluation if evaluator.mode is None else None, evaluator.mode)
    if inside:
        yield from compiled(key, arguments, state, num_generations, batches)
    else:
        yield from one_by_one(key, arguments, evaluator, state, num_generations, batches)
