"""How well a model does where its inputs, or what it makes of them, are corrupted."""

import math
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mutagrad import check
from mutagrad.diagnostics.findings import describe, draw
from mutagrad.estimate import Estimate
from mutagrad.types import Params

__all__ = ["Robustness", "dropout_corruption", "gaussian_corruption", "robustness"]

Corruption = Callable[[jax.Array, Any, float], Any]
"""``corruption(key, inputs, level) -> inputs`` of the same shape; any Python."""


class Robustness(NamedTuple):
    """Scores under corruption; `print` says them in a table.

    Attributes
    ----------
    clean : score without corruption; its error is over examples, NaN for a score that is one number.
    names : of the corruptions, (c,).
    levels : (l,).
    scores : an `Estimate` of arrays (c, l), means over draws and examples; errors are over examples, of the mean over draws.
    draw_errors : (c, l) standard errors of the same means over draws, examples taken as given; NaN for one draw.
    drops : ``clean`` less ``scores``, paired example by example, with errors over examples.
    num_draws, num_examples : corrupted copies of the inputs, and per-example scores (1 for a score that is one number).
    """

    clean: Estimate
    names: tuple[str, ...]
    levels: tuple[float, ...]
    scores: Estimate
    draw_errors: np.ndarray
    drops: Estimate
    num_draws: int
    num_examples: int

    def __repr__(self) -> str:
        return describe(self)

    def figure(self, path: str | PathLike) -> None:
        """Draw scores against levels and write them as an image (needs the ``lab`` extra)."""
        draw(self, path)


def dropout_corruption(key: jax.Array, inputs: Any, level: float) -> jax.Array:
    """Inputs of which each number is 0 with a probability, the level; the others stay as they are.

    >>> import jax, jax.numpy as jnp
    >>> from mutagrad.diagnostics.landscape import dropout_corruption
    >>> round(float(dropout_corruption(jax.random.key(0), jnp.ones((100, 100)), 0.2).mean()), 1)
    0.8
    """
    inputs = jnp.asarray(inputs)
    return jnp.where(jax.random.bernoulli(key, level, inputs.shape), jnp.zeros((), inputs.dtype), inputs)


def gaussian_corruption(key: jax.Array, inputs: Any, level: float) -> jax.Array:
    """Inputs plus independent normal noise, whose standard deviation is the level [input].

    >>> import jax, jax.numpy as jnp
    >>> from mutagrad.diagnostics.landscape import gaussian_corruption
    >>> round(float(gaussian_corruption(jax.random.key(0), jnp.ones((100, 100)), 0.5).std()), 1)
    0.5
    """
    inputs = jnp.asarray(inputs)
    return inputs + jnp.asarray(level, inputs.dtype) * jax.random.normal(key, inputs.shape, inputs.dtype)


def robustness(
    key: jax.Array,
    score_fn: Callable,
    params: Params,
    batch: Any,
    corruptions: Mapping[str, Corruption] | None = None,
    levels: Sequence[float] = (0.1, 0.25, 0.5),
    *,
    measures: Mapping[str, Callable] | None = None,
    num_draws: int = 3,
    compiled: bool = True,
) -> Robustness:
    """Measure a score under corruption of the inputs, or of features, at several levels.

    Parameters
    ----------
    key : a key; each draw of each corruption at each level has one of its own.
    score_fn : ``score_fn(params, batch)``: an accuracy, a loss, or any number; of each example, or one.
    params : of the model.
    batch : inputs and what else ``score_fn`` takes, a tuple whose first entry is corrupted; or the inputs alone, an array.
    corruptions : by name, ``corruption(key, inputs, level) -> inputs``; dropout unless given, if no measures are.
    levels : passed on to the corruptions, and what they mean by it.
    measures : by name, ``measure_fn(params, batch, key, level)``, a score in place of ``score_fn`` that corrupts what it will,
        such as the features of a hidden layer.
    num_draws : corrupted copies that a score is a mean over.
    compiled : whether JAX compiles scores and measures; False for ordinary Python. Corruptions are called as they are.

    Returns
    -------
    Robustness. A score that is not finite is not left out: its mean is not finite either.

    Raises
    ------
    ValueError : if an argument is outside its domain, or corrupted inputs have another number of scores.

    Domain: errors over examples hold for corruptions that are independent between examples; otherwise look at both errors.

    Source: the levels 10, 25 and 50 % of dropout are those of [K23]; tested in tests/diagnostics/test_robustness.py.

    >>> import jax, jax.numpy as jnp
    >>> from mutagrad.diagnostics.landscape import dropout_corruption, robustness
    >>> score_fn = lambda params, inputs: inputs.mean(axis=1)
    >>> found = robustness(jax.random.key(0), score_fn, None, jnp.ones((200, 50)), {"dropout": dropout_corruption})
    >>> abs(found.scores.value[0] - (1 - jnp.array([0.1, 0.25, 0.5]))).max() < 0.02
    Array(True, dtype=bool)
    """
    check.key(key)
    num_draws = check.count("num_draws", num_draws)
    if not callable(score_fn):
        raise ValueError(f"score_fn: got {score_fn!r}; pass a function score_fn(params, batch)")
    levels = tuple(float(level) for level in levels)
    if not levels or not all(math.isfinite(level) for level in levels):
        raise ValueError(f"levels: got {levels}; pass one finite number or more")
    if corruptions is None and not measures:
        corruptions = {"dropout": dropout_corruption}
    named = [(name, fn, False) for name, fn in (corruptions or {}).items()]
    named += [(name, fn, True) for name, fn in (measures or {}).items()]
    for name, fn, _ in named:
        if not callable(fn):
            raise ValueError(f"corruptions: got {fn!r} for {name!r}; pass a function corruption(key, inputs, level)")
    if not named:
        raise ValueError("corruptions: got none; pass one or more by name, or measures")

    prepared = jax.jit if compiled else lambda fn: fn
    score = prepared(score_fn)
    clean = _values(score(params, batch))
    found = np.empty((len(named), len(levels), num_draws, len(clean)))
    for place, (name, fn, is_measure) in enumerate(named):
        measure = prepared(fn) if is_measure else None
        own = jax.random.fold_in(key, place)
        for step, level in enumerate(levels):
            for draw_number in range(num_draws):
                one = jax.random.fold_in(own, step * num_draws + draw_number)
                if measure is not None:
                    values = _values(measure(params, batch, one, level))
                else:
                    values = _values(score(params, _corrupted(fn, one, batch, level)))
                if values.shape != clean.shape:
                    raise ValueError(
                        f"corruptions: got {len(values)} scores under {name!r} and {len(clean)} without; keep the examples"
                    )
                found[place, step, draw_number] = values
    by_example, by_draw = found.mean(axis=2), found.mean(axis=3)
    return Robustness(
        clean=Estimate(float(clean.mean()), float(_error(clean))),
        names=tuple(name for name, _, _ in named),
        levels=levels,
        scores=Estimate(by_example.mean(axis=-1), _error(by_example)),
        draw_errors=_error(by_draw),
        drops=Estimate((clean - by_example).mean(axis=-1), _error(clean - by_example)),
        num_draws=num_draws,
        num_examples=len(clean),
    )


def _corrupted(fn: Corruption, key: jax.Array, batch: Any, level: float) -> Any:
    if isinstance(batch, tuple):
        return (fn(key, batch[0], level), *batch[1:])
    return fn(key, batch, level)


def _values(score: Any) -> np.ndarray:
    values = np.atleast_1d(np.asarray(score))
    if values.ndim != 1 or values.size == 0 or not np.issubdtype(np.result_type(values, np.float64), np.floating):
        raise ValueError(
            f"score_fn: got shape {np.shape(score)}, {values.dtype} back; return one real number, or one for each example"
        )
    return values.astype(np.float64)


def _error(values: np.ndarray) -> np.ndarray:
    """Standard error of the mean over the last axis; NaN for one value."""
    number = values.shape[-1]
    if number == 1:
        return np.full(values.shape[:-1], np.nan)
    return values.std(axis=-1, ddof=1) / math.sqrt(number)
