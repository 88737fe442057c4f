"""What a diagnosis refuses: losses that are none, and mutations that have no opposite."""

import math
from typing import Any

import jax
import numpy as np

from mutagrad import tree
from mutagrad.evaluation.local import Evaluator, resolve
from mutagrad.evaluation.losses import check_loss_fn
from mutagrad.mutation.changes import Jumps, jumps_of
from mutagrad.types import LossFn, Mutation, Params

__all__ = ["check_loss", "checked_params", "computing", "evaluator_of", "is_unordered", "jump_scales"]


def check_loss(loss_fn: Any, has_batch: bool) -> None:
    """Refuse a loss that is no function, or takes another number of arguments."""
    try:
        check_loss_fn(loss_fn, has_batch)
    except ValueError as error:
        raise ValueError(str(error).replace("batches=", "batch=")) from None


def evaluator_of(evaluation: Any) -> Evaluator:
    """The evaluator of ordinary Python that was passed, or what stands for the program's own way; others are refused."""
    evaluator = resolve(evaluation)
    if evaluator.is_traceable and evaluator.mode is None:
        raise ValueError(
            "evaluation: got an Evaluator that JAX traces, where such losses are evaluated in one way, one after another; leave "
            "it out, or pass mutagrad.executor() for ordinary Python"
        )
    return evaluator


def checked_params(mutation: Any, params: Params) -> Params:
    """The params as arrays, of which every mutation has an opposite."""
    if not isinstance(mutation, Mutation):
        raise ValueError(f"mutation: got {mutation!r}; pass a mutation, such as mutagrad.mutation.gaussian()")
    params = mutation.checked(params)
    _check_opposites(mutation, params)
    return params


def computing(loss_fn: LossFn) -> LossFn:
    """The loss, refused where JAX sees a constant in place of a computation."""

    def watched(params: Params) -> Any:
        loss = loss_fn(params)
        if loss is None or isinstance(loss, tuple | list | dict):
            raise ValueError(
                f"loss_fn: got a {type(loss).__name__} back; return a floating scalar or a vector of per-example losses, alone"
            )
        if not isinstance(loss, jax.core.Tracer):
            raise ValueError(
                f"loss_fn: got {type(loss).__name__} back that does not depend on the params where JAX traces it; if it is "
                "ordinary Python, pass evaluation=mutagrad.executor()"
            )
        return loss

    return watched


def _check_opposites(mutation: Mutation, params: Params) -> None:
    """Refuse categories: a mutation of them has no opposite."""
    noise = jax.eval_shape(mutation.sample_fn, jax.random.key(0), params)
    have_no_order = jax.tree.leaves(
        jax.tree.map(lambda leaf, kind: is_unordered(kind) if tree.is_mutated(leaf, kind) else None, params, noise)
    )
    remedy = "mask that leaf (mutagrad.mutation.masked) to diagnose the others"
    if all(have_no_order):
        remedy = "there are no other params to diagnose, so judge σ by runs (mutagrad.adapt_sigma chooses it)"

    def check(path: Any, leaf: Any, kind: Any) -> None:
        if is_unordered(kind):
            raise ValueError(
                f"algorithm: got mutations of categories at params{jax.tree_util.keystr(path)}, which have no slope; {remedy}"
            )

    jax.tree_util.tree_map_with_path(check, params, noise)


def is_unordered(kind: Any) -> bool:
    """Whether the noise of a leaf is that of categories."""
    return isinstance(kind, Jumps) and not kind.is_ordered


def jump_scales(mutation: Mutation, params: Params) -> tuple[float, float]:
    """Where all that is mutated is discrete: σ at which a mutant has one mutation in the mean, and σ of an eighth of the range.

    Beyond the second mutants say nothing of the place. (0, ∞) where real params mutate.
    """
    noise = mutation.sample_fn(jax.random.key(0), params)
    jumps = jumps_of(noise)
    if sum(math.prod(leaf.shape) for leaf in jumps) < mutation.num_mutated(params):
        return 0.0, math.inf
    rate = float(sum(leaf.rate for leaf in jumps))
    if not 0 < rate < math.inf:
        return 0.0, math.inf
    widths = [
        leaf.number / 8 / max(float(np.max(np.asarray(leaf.scale), initial=0)) / abs(leaf.step), 1e-30)
        for leaf in jumps
    ]
    first = 1 / math.sqrt(rate)
    return first, max(min(widths), 4 * first)
