"""The Optax face: an algorithm of mutation and selection where an Optax optimiser is expected."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mutagrad import check, tree
from mutagrad.types import Algorithm, Info, UnknownDefinition

__all__ = ["GradientTransformationState", "as_gradient_transformation"]


class GradientTransformationState(NamedTuple):
    """Optimiser state.

    Attributes
    ----------
    key : key of the run; generation t uses ``fold_in(key, t)``.
    state : the algorithm's state without the parent, which the training loop holds.
    info : what the last generation did; NaN losses before the first.
    """

    key: jax.Array
    state: Any
    info: Info


def as_gradient_transformation(algorithm: Algorithm, key: jax.Array) -> optax.GradientTransformationExtraArgs:
    """An Optax optimiser whose update is the winning mutation.

    ``update(grads, state, params, value_fn=loss_fn)`` runs one generation from ``params`` and returns new minus old
    params (zeros if the parent stays). Pass ``is_resampled=False`` where the loss is of all the data each time: then nothing of
    the slope is taken for sampling noise. Gradients are not used: pass ``None`` or whatever the loop has. The parent is the
    ``params`` passed in, so the transformation composes with ``optax.chain``.

    Parameters
    ----------
    algorithm : any algorithm, with ``reevaluate_parent=True``.
    key : a key, from which all generations draw.

    Returns
    -------
    optax.GradientTransformationExtraArgs

    Raises
    ------
    ValueError : if the algorithm caches its parent's loss; when updating, if ``params`` or ``value_fn`` is missing.

    >>> import jax, jax.numpy as jnp, optax, mutagrad
    >>> loss_fn = lambda params: jnp.sum((params["w"] - 3.0) ** 2)
    >>> params = {"w": jnp.zeros(4)}
    >>> algorithm = mutagrad.adapt_sigma(mutagrad.elitist(sigma=0.1, num_offspring=20))
    >>> optimizer = mutagrad.as_gradient_transformation(algorithm, jax.random.key(0))
    >>> opt_state = optimizer.init(params)
    >>> @jax.jit
    ... def train_step(params, opt_state):
    ...     updates, opt_state = optimizer.update(None, opt_state, params, value_fn=loss_fn, is_resampled=False)
    ...     return optax.apply_updates(params, updates), opt_state
    >>> for _ in range(60):
    ...     params, opt_state = train_step(params, opt_state)
    >>> bool(loss_fn(params) < 0.1)
    True
    """
    key, definition = check.key(key), check.algorithm(algorithm).definition
    if not isinstance(definition, UnknownDefinition) and not definition.reevaluate_parent:
        raise ValueError(
            "algorithm: got reevaluate_parent=False, but a training loop may change loss and params between updates; "
            "build it with reevaluate_parent=True"
        )

    def init(params):
        state = algorithm.init(params)
        # The state must have one structure for all updates: learn Info's shapes from a loss of the right type.
        shapes = jax.eval_shape(lambda: algorithm.step(key, state, lambda _: jnp.zeros(()))[1])
        info = jax.tree.map(
            lambda leaf: jnp.full(leaf.shape, jnp.nan if jnp.issubdtype(leaf.dtype, jnp.floating) else 0, leaf.dtype),
            shapes,
        )
        return GradientTransformationState(key, state.with_params(None), info)

    def update(updates, state, params=None, *, value_fn=None, is_resampled=True, **extra_args):
        del updates, extra_args
        if params is None:
            raise ValueError("params: got None; pass the current params, update(grads, state, params, value_fn=...)")
        if value_fn is None:
            raise ValueError("value_fn: got None; pass the loss as a function of the params, value_fn=loss_fn")
        params = tree.as_arrays(params)
        run_key = state.key
        parent = state.state.with_params(params)
        new_state, info = algorithm.step(
            jax.random.fold_in(run_key, parent.generation), parent, value_fn, is_resampled=is_resampled
        )
        info = jax.tree.map(lambda new, old: new.astype(old.dtype), info, state.info)
        difference = jax.tree.map(_difference, new_state.params, params)
        return difference, GradientTransformationState(run_key, new_state.with_params(None), info)

    return optax.GradientTransformationExtraArgs(init, update)


def _difference(new: jax.Array, old: jax.Array) -> jax.Array:
    """What `optax.apply_updates` adds to the old leaf to make the new one."""
    if jnp.issubdtype(old.dtype, jnp.number):
        return new - old
    return new.astype(jnp.int8) - old.astype(jnp.int8) if old.dtype == bool else jnp.zeros_like(old)
