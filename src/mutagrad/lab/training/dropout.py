"""Dropout in a generation: one draw of masks for all its candidates, or one for each.

`shared_dropout` and `separate_dropout` wrap any algorithm. They evaluate it through an `Evaluator` of their own, which hands a
loss ``Keyed(params, key)`` in place of the parameters, and tell it that each generation meets another loss.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mutagrad import check, keys
from mutagrad.evaluation.local import Evaluator, resolve, resolve_mode
from mutagrad.evaluation.losses import per_example
from mutagrad.lab.tasks.task import Keyed
from mutagrad.types import Algorithm, LossFn, UnknownDefinition

__all__ = ["separate_dropout", "shared_dropout"]

_MASKS = np.uint32(0xFFFFFFFF)
"""Offspring i mutates by key i, so that no generation has this one for a mutation."""


def shared_dropout(algorithm: Algorithm) -> Algorithm:
    """The algorithm with one draw of masks a generation, which parent and offspring share.

    Masks are then to losses what a minibatch is: what two candidates differ by is their parameters alone, and candidates that
    are alike tie exactly. Selection follows the gradient of the loss under these masks, whose mean over generations is that of
    the mean loss.

    Parameters
    ----------
    algorithm : any; its losses are evaluated inside the compiled program, not by `mutagrad.executor`.

    Returns
    -------
    Algorithm, with the states and the definition of ``algorithm``. Its ``loss_fn`` gets `Keyed`; the generation's key is
    derived from that of its mutations. It is always told that the batch is another one, so that `mutagrad.adapt_sigma` counts
    the noise of the masks.

    Raises
    ------
    ValueError : if it is no algorithm, or keeps the loss of its parent.

    Source: derived for this project; [K23] does not say whether dropout was on, nor how masks were drawn.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> from mutagrad.lab.training.dropout import shared_dropout
    >>> def loss_fn(drawn):
    ...     return jnp.sum(drawn.params**2) + jax.random.normal(drawn.key)
    >>> algorithm = shared_dropout(mutagrad.elitist(sigma=1e-3, num_offspring=8))
    >>> step = jax.jit(algorithm.step, static_argnums=2)
    >>> state, info = step(jax.random.key(0), algorithm.init(jnp.ones(3)), loss_fn)
    >>> bool(jnp.all(jnp.abs(info.loss_differences) < 0.02))
    True
    """
    return _drawn(algorithm, _shared)


def separate_dropout(algorithm: Algorithm) -> Algorithm:
    """The algorithm with a draw of masks for every candidate, the parent among them.

    Losses of candidates that are alike then differ by the noise of their masks, and the best of M is in part the luckiest: the
    noise that selection sees is √2 times that of one loss. Masks are drawn so where each candidate is evaluated by itself.

    Parameters
    ----------
    algorithm : as in `shared_dropout`.

    Returns
    -------
    Algorithm, as of `shared_dropout`.

    Raises
    ------
    ValueError : as `shared_dropout`.

    Source: derived for this project.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> from mutagrad.lab.training.dropout import separate_dropout
    >>> def loss_fn(drawn):
    ...     return jnp.sum(drawn.params**2) + jax.random.normal(drawn.key)
    >>> algorithm = separate_dropout(mutagrad.elitist(sigma=1e-3, num_offspring=8))
    >>> step = jax.jit(algorithm.step, static_argnums=2)
    >>> state, info = step(jax.random.key(0), algorithm.init(jnp.ones(3)), loss_fn)
    >>> bool(jnp.all(jnp.abs(info.loss_differences) < 0.02))
    False
    """
    return _drawn(algorithm, _separate)


def _drawn(algorithm: Algorithm, evaluator_of: Callable[[Evaluator], Evaluator]) -> Algorithm:
    definition = check.algorithm(algorithm).definition
    own = "auto" if isinstance(definition, UnknownDefinition) else definition.evaluation
    if not isinstance(definition, UnknownDefinition) and not definition.reevaluate_parent:
        raise ValueError(
            "reevaluate_parent: got False with dropout, whose masks change; build the algorithm with reevaluate_parent=True"
        )

    def ask(key: jax.Array, state: Any, *, is_resampled: Any = True) -> Any:
        return algorithm.ask(key, state, is_resampled=True)

    def tell(key: jax.Array, state: Any, losses: Any, *, is_resampled: Any = True) -> Any:
        return algorithm.tell(key, state, losses, is_resampled=True)

    def step(
        key: jax.Array, state: Any, loss_fn: LossFn, *, is_resampled: Any = True, evaluation: Any = None
    ) -> tuple[Any, Any]:
        evaluator = evaluator_of(resolve(evaluation, own))
        return algorithm.step(key, state, loss_fn, is_resampled=True, evaluation=evaluator)

    return algorithm._replace(ask=ask, tell=tell, step=step)


def _shared(inner: Evaluator) -> Evaluator:
    def evaluate(loss_fn: LossFn, offspring: Any) -> Any:
        key = keys.fold_in(offspring.key, _MASKS)
        return inner.evaluate_fn(lambda params: loss_fn(Keyed(params, key)), offspring)

    return inner._replace(evaluate_fn=evaluate)


def _separate(inner: Evaluator) -> Evaluator:
    mode = inner.mode
    if mode is None:
        raise ValueError(
            f"evaluation: got {inner!r} with masks for every candidate; pass 'mapped', 'vectorized' or a whole number"
        )

    def evaluate(loss_fn: LossFn, offspring: Any) -> jax.Array:
        key, values_fn = keys.fold_in(offspring.key, _MASKS), per_example(loss_fn)

        def values_of(candidate: jax.Array) -> jax.Array:
            return values_fn(Keyed(offspring.candidate(candidate), keys.fold_in(key, candidate)))

        size = resolve_mode(mode, offspring.parent(0), offspring.num_offspring)
        at_once = len(offspring) if size == "vectorized" else size if isinstance(size, int) else None
        return jax.lax.map(values_of, jnp.arange(len(offspring)), batch_size=at_once)

    return inner._replace(evaluate_fn=evaluate)
