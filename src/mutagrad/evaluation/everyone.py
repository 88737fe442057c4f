"""Losses that depend on the others: games, frequency-dependent fitness, self-play."""

from collections.abc import Callable
from typing import Any

import jax

from mutagrad.evaluation.local import Evaluator
from mutagrad.evaluation.losses import Losses, of_values, per_example
from mutagrad.offspring import Offspring

__all__ = ["contest", "sees_everyone"]

_KEPT = (
    "evaluation: got contest() with reevaluate_parent=False; a parent's loss depends on the others of its generation, so pass "
    "reevaluate_parent=True"
)


class _Contest(Evaluator):
    """An evaluator whose loss takes the whole population too."""

    __slots__ = ()


def contest() -> Evaluator:
    """Evaluate each candidate among all of them: a loss that depends on the population.

    ``loss_fn(params, everyone)``, or ``loss_fn(params, everyone, batch)``, is called with one candidate, and with all candidates
    of the generation, leaves with a leading axis: parents first, then offspring, or the genomes of `mutagrad.population`. All of
    them are in memory at once. Where fitness depends on frequencies the mean loss need not fall.

    Returns
    -------
    Evaluator, for the ``evaluation`` argument of `mutagrad.evolve` and of ``step``.

    Source: theory.md 11.2; the question is in [S22].

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> def crowding(x, everyone):                                       # the best place is 0, and where few others are
    ...     return x**2 / 4 + jnp.mean(jnp.exp(-((x - everyone) ** 2)))
    >>> algorithm = mutagrad.population(sigma=0.1, beta=5.0, population_size=100, mutation_rate=0.2)
    >>> result = mutagrad.evolve(
    ...     jax.random.key(0), algorithm, jnp.zeros(()), crowding, 300, evaluation=mutagrad.contest(), progress=False
    ... )
    >>> bool(jnp.std(algorithm.ask(jax.random.key(0), result.state).stacked()) > 0.3)
    True
    """
    return _Contest(_evaluate)


def sees_everyone(evaluator: Evaluator, definition: Any) -> bool:
    """Whether the loss takes the whole population too; a ValueError where the algorithm keeps a parent's loss."""
    is_contest = isinstance(evaluator, _Contest)
    if is_contest and not getattr(definition, "reevaluate_parent", True):
        raise ValueError(_KEPT)
    return is_contest


def _evaluate(loss_fn: Callable, offspring: Offspring) -> Losses:
    # Genomes of a population have no such losses.
    if getattr(offspring, "parent_losses", None) is not None:
        raise ValueError(_KEPT)
    rows, axes = offspring.rows()
    everyone, values_fn = offspring.stacked(), per_example(loss_fn)
    return of_values(jax.vmap(lambda one: values_fn(one, everyone), in_axes=(axes,))(rows))
