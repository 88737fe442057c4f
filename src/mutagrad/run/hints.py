"""What a run says once: when it starts, what it leaves alone and what it cannot see; at its end, what its state remarks."""

import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from mutagrad import notice
from mutagrad.run.loop import Chunk
from mutagrad.run.minibatches import Minibatches, changes
from mutagrad.run.signals import EXIT_STATUS, NAMES, is_heard
from mutagrad.types import Algorithm, Params, UnknownDefinition

__all__ = ["Hints", "warn_at_the_end"]

_MOST = 5
"""Leaves that are named."""
_NOISY = (
    "the loss has noise of its own: the same params gave another number. From here on σ follows what steps are worth in "
    "evaluations that did not select them. If the loss can take its random numbers from a seed, pass seeds as batches: the "
    "candidates of a generation then share their luck"
)
"""Of a loss in ordinary Python, and an algorithm that adapts σ."""


class Hints:
    """Writes what is worth knowing above the progress bar: after the first chunk of a run, and where noise is found."""

    def __init__(self, algorithm: Algorithm, params: Params, batches: Any):
        self._lines = _left_alone(algorithm, params)
        self._batches = batches
        self._is_first, self._has_noise = True, False
        self._is_adapted = getattr(algorithm.definition, "sigma", None) is None

    def __call__(self, chunk: Chunk) -> None:
        """Write them, once."""
        lines: list[str] = []
        if self._is_first:
            self._is_first = False
            lines = self._lines + _unseen(chunk, self._batches)
        if chunk.has_noise and self._is_adapted and not self._has_noise:
            self._has_noise = True
            lines.append(_NOISY)
        for line in lines:
            tqdm.write(f"note: {line}", file=sys.stderr)


def say_if_done(generation: int, num_generations: int) -> None:
    """A note where a run that goes on has all of its generations already: nothing would be seen to happen."""
    if 0 < num_generations <= generation:
        tqdm.write(
            f"note: the run has {generation:,} generations, and num_generations={num_generations:,} counts them in: there is "
            "nothing to do; pass a larger one to go on",
            file=sys.stderr,
        )


def warn_at_the_end(state: Any, stopped: str) -> None:
    """Warn of what went otherwise than was asked for: the lines of ``state.remarks``, where a state, or what it wraps, has them.

    A warning and not a note, since the result is not that of the run that was meant, whether or not anybody watched it. So too
    where a signal ended the run that nobody typed, in a program that goes on: SIGTERM or SIGHUP would have ended it.
    """
    if stopped in EXIT_STATUS and stopped != "interrupted" and not is_heard():
        notice.warn(
            f"evolve: {NAMES[stopped]} ended the run after generation {int(state.generation):,}, and not the program; look at "
            f"result.stopped, which is {stopped!r}"
        )
    while hasattr(state, "inner"):
        state = state.inner
    for line in getattr(state, "remarks", ()):
        notice.warn(line)


def _left_alone(algorithm: Algorithm, params: Params) -> list[str]:
    """Integer leaves that no mutation changes."""
    definition = algorithm.definition
    if isinstance(definition, UnknownDefinition):
        return []
    own = definition.mutation.mutated(params)
    named: list[str] = []

    def name(path: Any, leaf: Any, mutated: Any) -> None:
        is_integer = jnp.issubdtype(leaf.dtype, jnp.integer) or jnp.issubdtype(leaf.dtype, jnp.bool_)
        if mutated is None and is_integer:
            named.append(f"params{jax.tree_util.keystr(path)} ({leaf.dtype})")

    jax.tree_util.tree_map_with_path(name, params, own)
    if not named:
        return []
    more = f" and {len(named) - _MOST} more" if len(named) > _MOST else ""
    return [
        f"not mutated: {', '.join(named[:_MOST])}{more}; mutation=mutagrad.mutation.discrete(…) mutates integers and categories"
    ]


def _unseen(chunk: Chunk, batches: Any) -> list[str]:
    """Sampling noise that a mean hides."""
    records = chunk.records if isinstance(chunk.records, dict) else {}
    is_of_one = not isinstance(batches, Minibatches) or max(batches.sizes) == 1
    if is_of_one or not changes(batches) or "num_examples" not in records:
        return []
    if int(np.max(np.asarray(records["num_examples"]))) > 1:
        return []
    return [
        "the loss is one number a batch, so that sampling noise shows only in what a step is worth on the next batch; return one "
        "loss per example (leave the mean out), and every generation shows it"
    ]
