"""Losses at many points around the params, compared with the params example by example in one program."""

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mutagrad.diagnostics.checks import check_loss, computing, evaluator_of
from mutagrad.diagnostics.in_python import Candidates, losses_in_python, not_finite
from mutagrad.evaluation.losses import compare, finite_reference, per_example
from mutagrad.types import Params

__all__ = ["MakeFn", "Points", "evaluate_points", "fast_options", "kept"]

MakeFn = Callable[[Params, Any, jax.Array, jax.Array], Params]
"""``make_fn(params, key, index, is_params)``: point ``index``, or the params themselves, made by the same operations. The key
may be a pytree of all that the points depend on, so that one function makes the points of any σ."""


class Points(NamedTuple):
    """What was found at n points, as NumPy arrays of double precision.

    Attributes
    ----------
    loss : at the params [loss].
    changes : (n,) mean of the paired per-example differences from the params; NaN where a loss is not finite [loss].
    variances : (n,) sampling variance of ``changes`` over the examples; 0 for a scalar loss [loss²].
    score : of the params, if one was measured.
    score_changes : (n,) its paired differences; NaN where it is not finite.
    num_examples : per-example losses.
    """

    loss: float
    changes: np.ndarray
    variances: np.ndarray
    score: float | None
    score_changes: np.ndarray | None
    num_examples: int


def fast_options() -> dict:
    """A program of a few calls is not worth the default's long compilation: of a ConvNet, half as long at equal speed."""
    return {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else {}


class _ByIdentity:
    """Objects that are the same as others if each one is the same object: functions need not be hashable."""

    def __init__(self, objects: tuple):
        self.objects = objects

    def __hash__(self) -> int:
        return hash(tuple(map(id, self.objects)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByIdentity) and all(a is b for a, b in zip(self.objects, other.objects, strict=True))


def kept(build: Callable, *functions: Any) -> Any:
    """``build(*functions)``, the same one for the same functions, so that what it compiles is compiled once.

    As with ``jax.jit``, one function is one program.
    """
    return _built(build, _ByIdentity(functions))


@lru_cache(maxsize=16)
def _built(build: Callable, functions: _ByIdentity) -> Any:
    return build(*functions.objects)


def evaluate_points(
    loss_fn: Callable,
    params: Params,
    make_fn: MakeFn,
    key: Any,
    number: int,
    *,
    noise: Any,
    batch: Any = None,
    evaluation: Any = "auto",
    score_fn: Callable | None = None,
) -> Points:
    """Evaluate the params and a number of points, one after another: one model and one mutation in memory.

    Parameters
    ----------
    loss_fn, batch, evaluation : as `mutagrad.diagnose` takes them.
    params : as arrays.
    make_fn, key : make a point. number : of points.
    noise : of the structure of the params, what says which leaves points change.
    score_fn : measured at the same points, called like ``loss_fn``; numbers of any kind, of examples or one.
    """
    check_loss(loss_fn, batch is not None)
    if score_fn is not None:
        check_score(score_fn, batch is not None)
    evaluator = evaluator_of(evaluation)
    functions = [loss_fn] if score_fn is None else [loss_fn, as_losses(score_fn)]
    if not evaluator.is_traceable:
        found = [_in_python(evaluator, one, params, make_fn, key, number, noise, batch) for one in functions]
    else:
        found = _compiled(functions, params, make_fn, key, number, batch)
    means, changes, variances, num_examples = found[0]
    if not math.isfinite(means[0]):
        raise not_finite(float(means[0]))
    # A change that overflowed is as good as failed.
    changes = np.where(np.isfinite(means[1:]) & np.isfinite(changes[1:]), changes[1:], np.nan)
    if score_fn is None:
        return Points(float(means[0]), changes, variances[1:], None, None, num_examples)
    scores, score_changes = found[1][:2]
    return Points(float(means[0]), changes, variances[1:], float(scores[0]), score_changes[1:], num_examples)


def check_score(score_fn: Any, has_batch: bool) -> None:
    """Refuse a score that is no function, or takes another number of arguments."""
    try:
        check_loss(score_fn, has_batch)
    except ValueError as error:
        raise ValueError(str(error).replace("loss_fn", "accuracy_fn")) from None


def as_losses(score_fn: Callable) -> Callable:
    """A score as floating numbers: accuracies are often booleans."""

    def score(*arguments: Any) -> Any:
        found = score_fn(*arguments)
        found = jnp.asarray(found) if isinstance(found, jax.core.Tracer) else np.asarray(found)
        return found if jnp.issubdtype(found.dtype, jnp.inexact) else found.astype(jnp.result_type(float))

    return score


def _compiled(functions: list, params: Params, make_fn: MakeFn, key: Any, number: int, batch: Any) -> list:
    found, sizes = kept(_points_program, make_fn, *functions)(params, batch, key, number)
    return [
        (*(np.asarray(part, np.float64) for part in one), int(size)) for one, size in zip(found, sizes, strict=True)
    ]


def _points_program(make_fn: MakeFn, *functions: Callable) -> Callable:
    def of_batch(function: Callable, batch: Any) -> Callable:
        return per_example(computing(function if batch is None else lambda params: function(params, batch)))

    @partial(jax.jit, compiler_options=fast_options(), static_argnums=3)
    def evaluate(params: Params, batch: Any, key: Any, number: int) -> Any:
        values_fns = [of_batch(one, batch) for one in functions]

        def body(references: list, index: jax.Array) -> Any:
            point = make_fn(params, key, jnp.maximum(index - 1, 0), index == 0)
            all_values = [values_fn(point) for values_fn in values_fns]
            references = [
                jnp.where(index == 0, finite_reference(values), reference)
                for values, reference in zip(all_values, references, strict=True)
            ]
            found = [
                (jnp.mean(values), *compare(values, one)) for values, one in zip(all_values, references, strict=True)
            ]
            return references, found

        empty = [jnp.zeros(shape.shape, shape.dtype) for shape in (jax.eval_shape(one, params) for one in values_fns)]
        return jax.lax.scan(body, empty, jnp.arange(number + 1))[1], [jnp.asarray(one.size) for one in empty]

    return evaluate


def _in_python(
    evaluator: Any, function: Callable, params: Params, make_fn: MakeFn, key: Any, number: int, noise: Any, batch: Any
) -> tuple:
    make = jax.jit(make_fn)

    def candidate(index: int) -> Params:
        return make(params, key, jnp.asarray(max(index - 1, 0)), jnp.asarray(index == 0))

    called = function if batch is None else partial(_with_batch, function, batch)
    found = losses_in_python(evaluator, called, Candidates(number + 1, candidate, noise))
    parts = (np.asarray(one, np.float64) for one in (found.means, found.differences, found.variances))
    return (*parts, int(found.num_examples))


def _with_batch(function: Callable, batch: Any, params: Params) -> Any:
    return function(params, batch)
