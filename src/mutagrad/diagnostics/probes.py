r"""Slope, curvature and noise of a loss from pairs of opposite mutations ±ε, without a gradient (theory.md 3 and 8).

On a quadratic loss half the difference of a pair's losses is g·ε, and half the sum of their differences from the parent's
is ½ε·Hε. So neither disturbs the other: TrH has the error of the curvatures alone, and |g|² no share of curvature, at any s.
"""

import copy
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mutagrad import tree
from mutagrad.diagnostics.checks import check_loss, checked_params, computing, jump_scales
from mutagrad.diagnostics.in_python import AGAIN, Evaluated, evaluate_in_python, not_finite
from mutagrad.diagnostics.jackknife import jackknife
from mutagrad.diagnostics.kind import ROUNDINGS, Rung
from mutagrad.diagnostics.regime import Regime, of_values, quantities
from mutagrad.estimates import moments
from mutagrad.evaluation.batches import of_batch
from mutagrad.evaluation.local import Evaluator
from mutagrad.evaluation.losses import finite_reference, per_example
from mutagrad.types import LossFn, Mutation, Params

__all__ = ["Pairs", "Prober", "landscape"]

CHUNK = 8
"""Pairs that one call of the compiled program evaluates, with the parent once."""
_LOST = 3.0
"""σ, in roundings of 16-bit params, below which these are more than a percent of what a mutation changes."""
_MOST_CALLS = 30
"""Calls that the search for σ may take."""
_CLOSE = 1.5
"""The search ends when s is within this factor of its target."""


class Pairs(NamedTuple):
    """Losses of n pairs of opposite mutations of one σ, as NumPy arrays (n,); pairs that failed are left out.

    Attributes
    ----------
    sigma : the mutation scale [parameter].
    odd, even : half the difference of the two losses, and their mean less the parent's loss [loss].
    noise : sampling variance of ``odd`` over the examples; 0 for a scalar loss [loss²].
    """

    sigma: float
    odd: np.ndarray
    even: np.ndarray
    noise: np.ndarray

    def with_more(self, more: "Pairs") -> "Pairs":
        """These and those of the same σ."""
        joined = (np.concatenate(pair) for pair in zip(self[1:], more[1:], strict=True))
        return Pairs(self.sigma, *joined)


class Prober:
    """A loss, its parent and a mutation, compiled once to evaluate pairs of mutations of any σ."""

    def __init__(
        self,
        key: jax.Array,
        loss_fn: Callable,
        params: Params,
        mutation: Mutation,
        batch: Any = None,
        evaluator: Evaluator | None = None,
    ):
        check_loss(loss_fn, batch is not None)
        self.params = checked_params(mutation, params)
        self.mutated = mutation.mutated(self.params)
        """The params that mutate; ``None`` for other leaves."""
        self.places = _rounding(self.mutated, jnp.result_type)
        """By how much a mutant of the params is rounded, to an order of magnitude [parameter]."""
        self.mutates_from, self.largest_sigma = jump_scales(mutation, self.params)
        """σ from which on a mutant has a mutation in the mean, where all params are discrete; otherwise 0 [parameter]."""
        self.num_mutated = tree.num_entries(self.mutated)
        self.smallest_sigma = max(
            ROUNDINGS * _rounding(self.mutated, tree.compute_dtype), _LOST * self.places, self.mutates_from
        )
        """The σ below which adding a mutation to the params rounds it away, or makes none."""
        self._failed: list[tuple[float, int]] = []
        self.num_evaluations = 0
        self.seconds_per_evaluation = float("nan")
        self._key, self._calls, self._batch = key, 0, batch
        self.loss, self._spread, self._epsilon = float("nan"), float("nan"), float("nan")
        self._repeats: list[float] = []

        def on(batch: Any) -> LossFn:
            # No closure, which workers of another pool could not be sent.
            return loss_fn if batch is None else of_batch(loss_fn, batch)

        self.loss_fn = on(batch)
        self._own_evaluations = 1
        if evaluator is not None and not evaluator.is_traceable:
            self._evaluate = evaluate_in_python(evaluator, self.loss_fn, mutation, CHUNK)
            self.num_examples, self._own_evaluations = 1, 2 + AGAIN
            return
        epsilons = []

        def noting(params: Params) -> Any:
            loss = computing(self.loss_fn)(params)
            epsilons.append(float(jnp.finfo(loss.dtype).eps) if tree.is_floating(loss) else math.nan)
            return loss

        self.num_examples = int(jax.eval_shape(per_example(noting), self.params).shape[0])
        self._epsilon = epsilons[0]

        def evaluate(params: Params, batch: Any, sigma: jax.Array, key: jax.Array) -> Evaluated:
            values_fn = per_example(on(batch))

            # One after another, the parent first, a pair's two mutants next to each other: three vectors of losses and
            # one mutation in memory, and one program that rounds all losses alike.
            def body(carry, index):
                reference, plus = carry
                sign = jnp.where(index == 0, 0, jnp.where(index % 2 == 1, 1, -1)).astype(sigma.dtype)
                noise = mutation.sample_fn(jax.random.fold_in(key, (index + 1) // 2), params)
                values = values_fn(tree.add_scaled(params, noise, sign * sigma))
                reference = jnp.where(index == 0, finite_reference(values), reference)
                relative = jnp.where(values == reference, 0, values - reference)
                odd, even = (plus - relative) / 2, (plus + relative) / 2
                variance = jnp.var(odd) / max(odd.size - 1, 1)
                return (reference, relative), (
                    jnp.mean(odd),
                    jnp.mean(even),
                    variance,
                    jnp.mean(values),
                    size_of(values),
                )

            def size_of(values):
                return jnp.sqrt(jnp.mean(jnp.square(values)))

            shape = jax.eval_shape(values_fn, params)
            empty = jnp.zeros(shape.shape, shape.dtype)
            odd, even, variance, mean, size = jax.lax.scan(body, (empty, empty), jnp.arange(2 * CHUNK + 1))[1]
            failed, none = jnp.sum(~jnp.isfinite(mean[1:])), jnp.full((), jnp.nan)
            pairs = odd[2::2], even[2::2], variance[2::2]
            return Evaluated(*pairs, failed, mean[0], size[0], none, jnp.zeros(0), shape.shape[0], self._epsilon)

        # A program of a few calls is not worth the default's long compilation: of a ConvNet, half as long at equal speed.
        options = {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else {}
        self._evaluate = jax.jit(evaluate, compiler_options=options)

    def _call(self, sigma: float, key: jax.Array | None = None) -> Evaluated:
        start = time.perf_counter()
        if key is None:
            key = jax.random.fold_in(self._key, self._calls)
        found = self._evaluate(self.params, self._batch, jnp.asarray(sigma, jnp.result_type(float)), key)
        found = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), found)
        number = 2 * CHUNK + self._own_evaluations
        if self._calls > 0 or self._own_evaluations > 1:
            # The first call compiles.
            self.seconds_per_evaluation = (time.perf_counter() - start) / number
        self._calls += 1
        if math.isfinite(found.loss):
            self.loss, self._spread = float(found.loss), float(found.spread)
        elif not math.isfinite(self.loss):
            raise not_finite(float(found.loss))
        self.num_examples, self._epsilon = int(found.num_examples), float(found.epsilon)
        self._repeats.append(float(found.again))
        self._failed.append((sigma, int(found.num_failed)))
        self.num_evaluations += number
        return found

    def with_key(self, key: jax.Array) -> "Prober":
        """The same program for mutations of another key."""
        other = copy.copy(self)
        other._key, other._repeats, other._failed = key, [], []
        return other

    def failures(self) -> tuple[float, float]:
        """The share of mutants that failed from the smallest σ on at which one did, and that σ; (0, NaN) if none did."""
        failed = [(sigma, number) for sigma, number in self._failed if sigma >= self.smallest_sigma]
        first = min((sigma for sigma, number in failed if number > 0), default=math.nan)
        shares = [number / (2 * CHUNK) for sigma, number in failed if sigma >= first]
        return (float(np.mean(shares)), first) if shares else (0.0, math.nan)

    @property
    def repeats(self) -> np.ndarray:
        """Loss of the params a second time less the first, one a call; empty for a compiled loss, which repeats itself [loss]."""
        repeats = np.array(self._repeats)
        return repeats[np.isfinite(repeats)]

    @property
    def rounding(self) -> float:
        """What a difference of two losses may be by the rounding of the losses alone, to an order of magnitude [loss]."""
        return self.digits * self._spread

    @property
    def digits(self) -> float:
        """The same in units of the loss."""
        return self._epsilon / math.sqrt(self.num_examples)

    def rung(self, sigma: float, number: int, first: int = 0) -> Rung:
        """Pairs of mutations along directions that are the same for every σ: those of whole calls, after the first ones'."""
        calls = range(-(-first // CHUNK), -(-(first + number) // CHUNK))
        keys = [jax.random.fold_in(self._key, 2**30 + call) for call in calls]
        found = [self._call(sigma, key) for key in keys]
        odd, even, again = (
            np.concatenate(parts)
            for parts in zip(*((one.odd, one.even, one.mutants_again) for one in found), strict=True)
        )
        kept = np.isfinite(odd) & np.isfinite(even)
        is_lost = all(one.num_failed == 2 * CHUNK for one in found)
        return Rung(sigma, odd[kept], even[kept], again[np.isfinite(again)], is_lost)

    def pairs(self, sigma: float, number: int = CHUNK) -> Pairs:
        """At least so many pairs of mutations, less those that failed."""
        found = [self._call(sigma)[:3] for _ in range(-(-number // CHUNK))]
        odd, even, noise = (np.concatenate(parts) for parts in zip(*found, strict=True))
        kept = np.isfinite(odd) & np.isfinite(even)
        return Pairs(sigma, odd[kept], even[kept], noise[kept])

    def search(self, first: Pairs, target: float) -> tuple[Pairs, bool]:
        """Pairs of a σ at which s is within a factor of 1.5 of its target, from any first ones; and whether there is one.

        Without curvature there is none: then σ grows as far as the calls, or losses that are finite, go.
        """
        found, usable, ceiling = first, first, math.inf
        for _ in range(_MOST_CALLS):
            change = _step(found, target)
            if change is None:
                return found, True
            if len(found.odd) < 2:
                ceiling = min(ceiling, found.sigma)
            else:
                usable = found
            sigma = min(found.sigma * change, max(self.largest_sigma, found.sigma / 10))
            if sigma >= ceiling:
                # Halfway to where mutants were seen to fail.
                sigma = math.sqrt(found.sigma * ceiling)
            is_lost = sigma < min(found.sigma, max(1e-30, self.smallest_sigma))
            if is_lost or not 1e-30 < sigma < 1e30 or abs(math.log(sigma / found.sigma)) < 0.2:
                break
            found = self.pairs(sigma)
        return usable, False


def _rounding(params: Params, dtype_of: Callable[[jax.Array], Any]) -> float:
    """By how much params are rounded in these dtypes, to an order of magnitude [parameter]."""

    def rounded(leaf: jax.Array) -> jax.Array:
        return leaf.astype(tree.compute_dtype(leaf)) * float(jnp.finfo(dtype_of(leaf)).eps)

    number = tree.size(params)
    if number == 0:
        return 0.0
    # In one program, which makes no copy of a large model.
    total = jax.jit(lambda params: tree.squared_norm(tree.map_floating(rounded, params)))(params)
    return math.sqrt(float(total) / number)


def _step(found: Pairs, target: float) -> float | None:
    """The factor by which to change σ, or ``None`` if it is right within a factor of 1.5."""
    number = len(found.odd)
    if number < CHUNK / 2:
        return 0.1  # most of them failed
    slope = float(np.sqrt(np.mean(found.odd**2)))
    curvature, error = float(np.mean(found.even)), float(np.std(found.even, ddof=1) / number**0.5)
    success = np.mean([found.even + found.odd <= 0, found.even - found.odd <= 0])
    if slope == 0 and curvature == 0:
        return 10.0  # a plateau: look further away
    if curvature <= 2 * error:
        # Not to be seen yet, in rounding or among curvatures of both signs: s is no more than this.
        most = 2 * (curvature + 2 * error) / slope if slope > 0 else np.inf
        return float(np.clip(target / most, 3, 10)) if most > 0 else 10.0
    strength = 2 * curvature / slope if slope > 0 else np.inf
    if success == 0:
        # Far outside the quadratic domain s may look moderate; that no mutant succeeds tells.
        return float(np.clip(target / strength, 1e-4, 0.2))
    if 1 / _CLOSE < strength / target < _CLOSE:
        return None
    return float(np.clip(target / strength, 1e-4, 10))


def landscape(pairs: Pairs, num_examples: int) -> Regime:
    """What pairs of mutations say, with the standard errors of a jackknife over the pairs.

    Parameters
    ----------
    pairs : of one σ.
    num_examples : B, over which the noise was measured.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> from mutagrad.diagnostics.probes import Prober, landscape
    >>> curvatures = jnp.linspace(0.5, 1.5, 100)
    >>> prober = Prober(
    ...     jax.random.key(0), lambda x: jnp.sum(curvatures * x**2) / 2, jnp.ones(100), mutagrad.mutation.gaussian()
    ... )
    >>> found = landscape(prober.pairs(0.1, 64), 1)
    >>> abs(found.hessian_trace.value - 100) < 4 * found.hessian_trace.error, found.hessian_trace.error < 3
    (True, True)
    """

    def values(rows: dict[str, np.ndarray]) -> np.ndarray:
        even, odd = rows["even"], rows["odd"]
        found = moments(even, rows["noise"], pairs.sigma)
        slope, success = np.mean((odd / pairs.sigma) ** 2), np.mean([even + odd <= 0, even - odd <= 0])
        along = np.mean(odd**2 * (even / pairs.sigma - found.mean)) / (2 * np.mean(odd**2) * found.mean)
        others = (np.nan, np.nan, 2 * found.mean**2 / found.variance, np.nan, along)
        return quantities(pairs.sigma, found.mean / pairs.sigma, slope, found.noise, success, num_examples, *others)

    number = len(pairs.odd)
    measured, errors = jackknife(values, {"even": pairs.even, "odd": pairs.odd, "noise": pairs.noise}, number)
    return of_values(None, number, measured.tolist(), errors.tolist(), None)
