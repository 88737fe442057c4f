"""Candidates evaluated on growing parts of the batch, and dropped as soon as they are known to lose (theory.md 8.5)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri

from mutagrad import keys
from mutagrad.evaluation.batches import parts_of
from mutagrad.evaluation.losses import Losses, compare, finite_reference, per_example
from mutagrad.offspring import Offspring

__all__ = ["Rejecting", "looks", "quantile"]

_ORDER = 2**31 - 1
"""No offspring has this index: its key draws the order in which the examples are looked at."""


def looks(num_parts: int) -> np.ndarray:
    """(num_parts,) whether a candidate is judged when so many parts, and one, are evaluated: 1, 2, 4, …, but not at the end."""
    done = np.arange(1, num_parts + 1)
    return (done & (done - 1) == 0) & (done < num_parts)


def quantile(error: Any, num_parts: int) -> Any:
    """Standard errors by which a candidate must be behind at a look, so that all looks together err with this probability."""
    return -ndtri(error / max(int(looks(num_parts).sum()), 1))


class _Best(NamedTuple):
    """The best candidate so far: its losses in parts, and its mean difference from the parent."""

    values: jax.Array
    difference: jax.Array
    is_there: jax.Array


class _Sums(NamedTuple):
    """Of one candidate as far as it is evaluated."""

    num_parts: jax.Array
    values: jax.Array
    is_rejected: jax.Array


class Rejecting(NamedTuple):
    """The evaluator's function; see `mutagrad.early_rejection`.

    Attributes
    ----------
    error : probability to drop, in all looks at it, a candidate that is no worse on the whole batch.
    part_size : examples evaluated at a time.
    keeps_parent : whether the parent is a candidate that others must beat.
    """

    error: float
    part_size: int
    keeps_parent: bool

    def losses(self, loss_fn: Callable[..., Any], offspring: Offspring) -> Losses:
        """Losses of the candidates of a generation, of those rejected an estimate."""
        inside = parts_of(loss_fn)
        if inside is None:
            raise ValueError(
                "loss_fn: got one without a batch, which has no parts to evaluate early; pass loss_fn(params, batch) and "
                "batches=mutagrad.minibatches(data, …) to mutagrad.evolve, or "
                "mutagrad.evaluation.of_batch(loss_fn, batch) to step; an Optax loop has none: leave early_rejection out"
            )
        loss_fn, batch = inside
        number = _num_examples(batch)
        size = min(self.part_size, number)
        num_parts = -(-number // size)
        order = jax.random.permutation(keys.fold_in(offspring.key, _ORDER), number)
        # The last part is filled up with examples that do not count.
        order = jnp.concatenate([order, order[: num_parts * size - number]])
        parts = jax.tree.map(lambda leaf: leaf[order].reshape(num_parts, size, *leaf.shape[1:]), batch)
        race = _Race(self, loss_fn, parts, number, size, num_parts)
        return race.run(offspring, order[:number])


class _Race:
    """One generation."""

    def __init__(self, rule: Rejecting, loss_fn: Callable, parts: Any, number: int, size: int, num_parts: int):
        self.rule, self.loss_fn, self.parts = rule, loss_fn, parts
        self.number, self.size, self.num_parts = number, size, num_parts
        self.is_look = jnp.asarray(looks(num_parts))
        self.quantile = quantile(rule.error, num_parts)

    def values_of(self, params: Any, part: jax.Array) -> jax.Array:
        """(size,) losses of the examples of a part."""
        batch = jax.tree.map(lambda leaf: leaf[part], self.parts)
        values = per_example(lambda params: self.loss_fn(params, batch))(params)
        if values.shape != (self.size,):
            raise ValueError(
                f"loss_fn: got {values.size} losses for {self.size} examples; return one loss per example, so that a candidate "
                "can be judged by some of them"
            )
        return values

    def flat(self, values: jax.Array) -> jax.Array:
        """(number,) losses in the order in which the examples are looked at."""
        return values.reshape(-1)[: self.number]

    def behind(
        self, values: jax.Array, best: jax.Array, num_parts: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Mean of the differences from the best in the parts evaluated, their variance, and how many examples they are."""
        count = jnp.minimum(num_parts * self.size, self.number)
        is_in = jnp.arange(self.number) < count
        apart = jnp.where(is_in & (values != best), values - best, 0)
        count = count.astype(values.dtype)
        mean = jnp.sum(apart) / count
        squares = jnp.sum(jnp.where(is_in, jnp.square(apart - mean), 0))
        return mean, squares / jnp.maximum(count - 1, 1), count

    def evaluated(self, params: Any, best: _Best, is_judged: jax.Array) -> _Sums:
        """A candidate, until it is rejected or all parts are evaluated."""
        against = self.flat(best.values)

        def goes_on(sums: _Sums) -> jax.Array:
            return (sums.num_parts < self.num_parts) & ~sums.is_rejected

        def further(sums: _Sums) -> _Sums:
            values = sums.values.at[sums.num_parts].set(self.values_of(params, sums.num_parts))
            done = sums.num_parts + 1

            def judged() -> jax.Array:
                mean, variance, count = self.behind(self.flat(values), against, done)
                # Of n examples without replacement: where all are seen there is no error left.
                error = jnp.sqrt(variance * (1 / count - 1 / self.number))
                return jnp.where(jnp.isfinite(mean), (mean > 0) & (mean > self.quantile * error) & best.is_there, True)

            is_rejected = jax.lax.cond(self.is_look[sums.num_parts] & is_judged, judged, lambda: jnp.zeros((), bool))
            return _Sums(done, values, is_rejected)

        start = _Sums(jnp.zeros((), jnp.int32), jnp.zeros_like(best.values), jnp.zeros((), bool))
        return jax.lax.while_loop(goes_on, further, start)

    def run(self, offspring: Offspring, order: jax.Array) -> Losses:
        """All candidates, one after another."""
        kept, before = offspring.parent_losses, offspring.num_before
        shape = jax.eval_shape(self.values_of, offspring.parent(0), jnp.zeros((), jnp.int32))
        blank = jnp.zeros((self.num_parts, self.size), shape.dtype)
        if kept is not None:
            padding = jnp.zeros(self.num_parts * self.size - self.number, blank.dtype)
            blank = jnp.concatenate([kept[order].astype(blank.dtype), padding]).reshape(blank.shape)
        is_there = jnp.isfinite(jnp.mean(self.flat(blank))) & (kept is not None) & self.rule.keeps_parent
        reference = finite_reference(self.flat(blank))

        def body(carry: tuple[jax.Array, _Best], index: jax.Array) -> tuple[tuple[jax.Array, _Best], Any]:
            reference, best = carry
            sums = self.evaluated(offspring.candidate(index), best, index >= before)
            values = self.flat(sums.values)
            mean, whole = jnp.mean(values), sums.num_parts == self.num_parts
            reference = jnp.where((index == 0) & (before > 0), finite_reference(values), reference)
            difference, variance = compare(values, reference)
            # Of one that was rejected: what the best is, and how far it is behind, so that no estimate of a loser wins.
            gap, spread, count = self.behind(values, self.flat(best.values), sums.num_parts)
            from_parent = self.behind(values, reference, sums.num_parts)[1]
            estimate = best.difference + gap
            uncertain = from_parent / self.number + spread * (1 / count - 1 / self.number)
            difference = jnp.where(whole, difference, estimate)
            variance = jnp.where(whole, variance, uncertain)
            mean = jnp.where(whole, mean, jnp.mean(reference) + estimate)
            is_entrant = (index >= before) | ((index == 0) & self.rule.keeps_parent)
            is_better = whole & is_entrant & jnp.isfinite(mean) & (~best.is_there | (difference < best.difference))
            best = _Best(
                jnp.where(is_better, sums.values, best.values),
                jnp.where(is_better, difference, best.difference),
                best.is_there | is_better,
            )
            inverse = jnp.zeros_like(values).at[order].set(values) if kept is not None else None
            return (reference, best), (mean, difference, variance, count, inverse)

        start = reference, _Best(blank, jnp.zeros((), shape.dtype), is_there)
        _, (means, differences, variances, counts, values) = jax.lax.scan(body, start, jnp.arange(len(offspring)))
        return Losses(means, differences, variances, values, jnp.round(jnp.mean(counts)).astype(jnp.int32))


def _num_examples(batch: Any) -> int:
    """Examples of a batch; a ValueError if its arrays do not share their first axis."""
    counts = {np.shape(leaf)[0] if np.ndim(leaf) else 0 for leaf in jax.tree.leaves(batch)}
    if len(counts) != 1 or counts == {0}:
        raise ValueError(
            f"batches: got arrays of {sorted(counts)} examples in one batch; for early rejection pass arrays with one common, "
            "positive number of examples along their first axis"
        )
    return counts.pop()
