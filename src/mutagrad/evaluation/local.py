"""Evaluation inside the compiled program. Three ways give the same losses up to the rounding of differently compiled sums:

- "vectorized": all candidates at once by ``vmap``; M models in memory. Fastest on an accelerator and for tiny models.
- "mapped": one after another by ``lax.scan``; one model and one mutation in memory, whatever M.
- a whole number: mapped in chunks of so many.

"auto" chooses by the measurements of benchmarks/results/evaluation.md.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mutagrad import check, tree
from mutagrad.evaluation.losses import Losses, compare, finite_reference, of_values, per_example
from mutagrad.evaluation.low_rank.candidates import evaluate as evaluate_factored
from mutagrad.evaluation.low_rank.candidates import is_factored
from mutagrad.offspring import Offspring
from mutagrad.types import LossFn, Params

__all__ = ["VECTORIZED_ON_CPU", "Evaluator", "resolve", "resolve_mode"]

VECTORIZED_ON_CPU = 65_536
"""On a CPU, "auto" vectorises while M × N, the numbers in a population, is no larger than this."""


class Evaluator(NamedTuple):
    """How the candidates of a generation are evaluated.

    Attributes
    ----------
    evaluate_fn : ``evaluate_fn(loss_fn, offspring) -> losses`` in the order of ``offspring``: `Losses`, or what ``tell``
        takes, (n,) or (n, B) numbers.
    is_traceable : whether JAX can trace it, so that a whole run is one program. Otherwise it is called from Python once a
        generation.
    mode : "auto", "mapped", "vectorized" or the size of a chunk, for the library's own ways inside the program.
    name : what the algorithm says of it where it belongs to its definition; a checkpoint is of one name.
    """

    evaluate_fn: Callable[[LossFn, Offspring], Any]
    is_traceable: bool = True
    mode: str | int | None = None
    name: str = ""

    def prepared(self, offspring: Offspring) -> Offspring:
        """The candidates, made at once where all of them, or the only mutant, are in memory anyway."""
        if self.mode is None or is_factored(offspring):
            return offspring
        is_whole = resolve_mode(self.mode, offspring.parent(0), offspring.num_offspring) == "vectorized"
        return offspring.made() if is_whole or offspring.num_offspring == 1 else offspring


def resolve(evaluation: Any, definition_evaluation: Any = "auto") -> Evaluator:
    """The ``evaluation`` argument as an `Evaluator`; "auto" defers to the algorithm's own.

    Raises
    ------
    ValueError : if it is none.
    """
    if evaluation is None or (isinstance(evaluation, str) and evaluation == "auto"):
        evaluation = definition_evaluation
    if isinstance(evaluation, Evaluator):
        return evaluation
    mode = check_mode(evaluation)
    return Evaluator(lambda loss_fn, offspring: _evaluate(loss_fn, offspring, mode), mode=mode)


def check_mode(evaluation: Any) -> str | int:
    """A way to evaluate inside the program, or a ValueError."""
    if isinstance(evaluation, str) and evaluation in ("auto", "mapped", "vectorized"):
        return evaluation
    remedy = "pass 'auto', 'mapped', 'vectorized', a whole number (the size of a chunk) or mutagrad.executor(pool)"
    return check.count("evaluation", evaluation, 1, remedy)


def resolve_mode(mode: str | int, params: Params, num_offspring: int) -> str | int:
    """What "auto" stands for on this machine, for this model and population."""
    if mode != "auto":
        return mode
    on_cpu = jax.default_backend() == "cpu"
    return "mapped" if on_cpu and num_offspring * tree.num_entries(params) > VECTORIZED_ON_CPU else "vectorized"


def _evaluate(loss_fn: LossFn, offspring: Offspring, mode: str | int) -> Losses:
    """Losses of the candidates, and mean and sampling variance of their paired differences from the parent.

    The parent is a candidate like its offspring, so that one compiled program evaluates both: two programs may round
    differently, and at small σ that offset would drown the differences.
    """
    if is_factored(offspring):
        return evaluate_factored(loss_fn, offspring, mode)
    values_fn, reference = per_example(loss_fn), offspring.parent_losses
    mode = resolve_mode(mode, offspring.parent(0), offspring.num_offspring)
    if mode == "vectorized" or len(offspring) == 1:
        rows, axes = offspring.rows()
        return of_values(jax.vmap(values_fn, in_axes=(axes,))(rows), reference, reference is not None)
    candidates = jnp.arange(len(offspring))

    def values_of(candidate: jax.Array) -> jax.Array:
        return values_fn(offspring.candidate(candidate))

    if mode != "mapped" or reference is not None:
        size = mode if isinstance(mode, int) else None
        return of_values(jax.lax.map(values_of, candidates, batch_size=size), reference, reference is not None)

    # One after another, reduced at once: no more than two vectors of losses in memory.
    def body(reference: jax.Array, candidate: jax.Array) -> tuple[jax.Array, Any]:
        values = values_of(candidate)
        reference = jnp.where(candidate == 0, finite_reference(values), reference)
        return reference, (jnp.mean(values), *compare(values, reference))

    shape = jax.eval_shape(values_fn, offspring.parent(0))
    means, differences, variances = jax.lax.scan(body, jnp.zeros(shape.shape, shape.dtype), candidates)[1]
    return Losses(means, differences, variances, None, shape.shape[0])
