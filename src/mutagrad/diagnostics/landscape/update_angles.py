"""Angles of what updates the params: of minibatch gradients, of improving mutations, and of means of those (theory.md 7, 8)."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from os import PathLike
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mutagrad import check, tree
from mutagrad.diagnostics.checks import evaluator_of
from mutagrad.diagnostics.findings import describe, draw
from mutagrad.diagnostics.landscape.comparison import Comparison, compare_angles, mean_cosine, pair_cosine
from mutagrad.diagnostics.landscape.gradients import BatchAngles, batch_angles, dot, full_gradient
from mutagrad.diagnostics.landscape.mutations import mutant_fn, mutation_of, share_of, strength_of
from mutagrad.diagnostics.landscape.points import evaluate_points, fast_options, kept
from mutagrad.estimate import Estimate
from mutagrad.run.minibatches import minibatches
from mutagrad.types import Params

__all__ = ["MeanCosine", "UpdateAngles", "update_angles"]

_SIZES = (4, 32, 128, 1024)
_FEWEST_MEANS = 4


class MeanCosine(NamedTuple):
    """Cosine with −∇U of the mean of k improving mutations, over disjoint groups of k.

    Attributes
    ----------
    number : k.
    cosine : mean over the groups and its standard error.
    predicted : c√k/√(N − 1 + m₂ + c²(k − 1)) of theory.md 7.
    """

    number: int
    cosine: Estimate
    predicted: float


class UpdateAngles(NamedTuple):
    """Angles of updates; `print` says them in sentences.

    Attributes
    ----------
    batches : a `BatchAngles` for each batch size; empty without data or without a gradient.
    slope : |∇U| over all the data, by the params that mutate, as all gradients here; NaN where there is none [loss/parameter].
    gradient_noise : TrC, trace of the covariance of per-example gradients; NaN without data [loss²/parameter²].
    improving_cosines, random_cosines : (n,) each, of independent pairs of improving and of random mutations.
    improving : mean of the first, with its standard error.
    predicted : what theory predicts for it from s: c²/N.
    comparison : the Kolmogorov–Smirnov test of the two, with its power; ``None`` for fewer than two pairs.
    means : a `MeanCosine` for each k; empty where there is no gradient.
    beneficial : share of improving mutations.
    strength : s of the mutations, from their losses.
    sigma : mutation scale [parameter].
    num_mutated : N.
    num_examples : per-example losses.
    """

    batches: tuple[BatchAngles, ...]
    slope: float
    gradient_noise: Estimate
    improving_cosines: np.ndarray
    random_cosines: np.ndarray
    improving: Estimate
    predicted: float
    comparison: Comparison | None
    means: tuple[MeanCosine, ...]
    beneficial: Estimate
    strength: Estimate
    sigma: float
    num_mutated: int
    num_examples: int

    def __repr__(self) -> str:
        return describe(self)

    def figure(self, path: str | PathLike) -> None:
        """Draw the angles and write them as an image (needs the ``lab`` extra)."""
        draw(self, path)


def update_angles(
    key: jax.Array,
    loss_fn: Callable,
    params: Params,
    data: Any = None,
    algorithm: Any = None,
    *,
    sigma: float | None = None,
    num_mutations: int = 1000,
    numbers: Sequence[int] | None = None,
    batch_sizes: Sequence[int] | None = None,
    num_batches: int = 100,
    evaluation: Any = "auto",
) -> UpdateAngles:
    r"""Say at which angles updates stand to the gradient and to each other, beside what theory predicts.

    A gradient of a batch of B examples has the cosine $1/\sqrt{1 + \mathrm{Tr}C/B|g|^2}$ with that of all the data. Improving
    mutations have a mean cosine of about $(2/\pi)/N$ with each other, so little that a comparison of angles
    needs some $70N$ pairs to see it; yet their mean over k has a cosine with $-\nabla U$ that grows like $\sqrt k$.

    Parameters
    ----------
    key : a key; the same key gives the same angles.
    loss_fn : ``loss_fn(params)``, or ``loss_fn(params, batch)`` where there are data: a mean over the examples of the batch, or
        their losses. As with ``jax.jit``, one function is one program.
    params : pytree, where to look.
    data : pytree of arrays that share their first axis, the examples. Mutations are judged on all of them.
    algorithm : whose σ and mutation are meant; or σ itself, for gaussian mutations [parameter].
    sigma : σ, if it is not the algorithm's [parameter].
    num_mutations : that are evaluated; a pair of improving ones needs about four.
    numbers : the k of which means are taken; powers of four of which there are at least four groups, unless given.
    batch_sizes : B; 4, 32, 128 and 1024 as far as they are smaller than the data, unless given.
    num_batches : batches of each size, drawn with replacement.
    evaluation : ``mutagrad.executor(pool)`` for a loss that is ordinary Python; then there is no gradient, and of angles only
        those between mutations.

    Returns
    -------
    UpdateAngles

    Raises
    ------
    ValueError : if an argument is outside its domain, mutations are of discrete parameters, or the loss is not finite.

    Domain: what is predicted for mutations holds for radially symmetric ones, a smooth loss of many curvatures, and N of 20 or
    more; what is predicted for batches, where no few directions dominate the noise. Of a loss whose gradient is 0, or that
    JAX cannot differentiate, the cosines with it are left out.

    Memory: two models for each k, and gradients of 256 examples or of the largest batch.

    Source: [K23] figures 2 and 5 for the comparisons; theory.md 7 and 8; tested in tests/diagnostics/test_update_angles.py.

    >>> import jax, jax.numpy as jnp
    >>> from mutagrad.diagnostics.landscape import update_angles
    >>> found = update_angles(jax.random.key(0), lambda x: jnp.sum(x), jnp.zeros(100), sigma=0.1, num_mutations=400)
    >>> [one.number for one in found.means], found.comparison.power < 0.2
    ([1, 4, 16], True)
    """
    mutation, sigma = mutation_of(algorithm, sigma)
    num_mutations = check.count("num_mutations", num_mutations, 2)
    num_batches = check.count("num_batches", num_batches, 2)
    params = mutation.checked(params)
    number, batch = 0, data
    if data is not None:
        data = minibatches(data).data
        number = jax.tree.leaves(data)[0].shape[0]
    sizes = tuple(size for size in _SIZES if size < number) if batch_sizes is None else tuple(batch_sizes)
    sizes = tuple(check.count("batch_sizes", size) for size in sizes)
    if batch_sizes is not None and data is None:
        raise ValueError(
            f"batch_sizes: got {tuple(batch_sizes)} without data; pass data=, from which batches are drawn"
        )
    noise = jax.eval_shape(mutation.sample_fn, jax.random.key(0), params)
    if any(tree.has_own_change(one) for one in jax.tree.leaves(noise, is_leaf=tree.has_own_change)):
        raise ValueError("algorithm: got mutations of discrete parameters, which have no angles; mask those leaves")

    mutation_key, random_key, batch_key = jax.random.split(check.key(key), 3)
    scale = jnp.asarray(sigma, jnp.result_type(float))
    is_traceable = evaluator_of(evaluation).is_traceable
    batch = data if is_traceable else batch
    found = evaluate_points(
        loss_fn, params, mutant_fn(mutation.sample_fn), (mutation_key, scale), num_mutations,
        noise=noise, batch=batch, evaluation=evaluation,
    )  # fmt: skip
    strength = strength_of(found.changes[np.isfinite(found.changes)], sigma)
    (improving,) = np.nonzero(found.changes < 0)

    batches: tuple[BatchAngles, ...] = ()
    gradient, trace, slope = None, Estimate(math.nan, math.nan, "loss²/parameter²"), math.nan
    if is_traceable:
        gradient = _gradient_or_none(loss_fn, mutation.sample_fn, params, data, number)
        slope = math.nan if gradient is None else math.sqrt(float(dot(gradient, gradient)))
        if gradient is not None and sizes and slope > 0 and math.isfinite(slope):
            batches, trace = batch_angles(
                batch_key, loss_fn, mutation.sample_fn, params, data, number, gradient, sizes, num_batches
            )

    if numbers is None:
        numbers = [4**power for power in range(8) if 4**power * _FEWEST_MEANS <= len(improving)]
    numbers = tuple(check.count("numbers", one) for one in numbers)
    size = mutation.num_mutated(params)
    walk = _walk(mutation.sample_fn, params, sigma, gradient, numbers)
    cosines, with_slope = walk(mutation_key, improving)
    random_cosines, _ = walk(random_key, np.arange(len(improving)))
    s = strength.value if math.isfinite(strength.value) else 0.0
    predicted = pair_cosine(size, s)
    has_slope = slope > 0 and math.isfinite(slope)
    return UpdateAngles(
        batches=batches,
        slope=slope,
        gradient_noise=trace,
        improving_cosines=cosines,
        random_cosines=random_cosines,
        improving=_mean(cosines),
        predicted=predicted,
        comparison=compare_angles(cosines, random_cosines, size, predicted),
        means=tuple(
            MeanCosine(one, _mean(values), float(mean_cosine(one, size, s)))
            for one, values in zip(numbers, with_slope, strict=True)
            if has_slope and len(values)
        ),
        beneficial=share_of(len(improving), num_mutations),
        strength=strength,
        sigma=sigma,
        num_mutated=size,
        num_examples=found.num_examples,
    )


def _gradient_or_none(loss_fn: Callable, sample_fn: Callable, params: Params, data: Any, number: int) -> list | None:
    """The gradient, unless JAX cannot differentiate what it can compute, such as callbacks and loops of unknown length."""
    try:
        return full_gradient(loss_fn, sample_fn, params, data, number)
    except (ValueError, TypeError, NotImplementedError):
        return None


def _mean(values: np.ndarray) -> Estimate:
    if not len(values):
        return Estimate(math.nan, math.nan)
    return Estimate(
        float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan
    )


def _walk(
    sample_fn: Callable, params: Params, sigma: float, gradient: list | None, numbers: tuple[int, ...]
) -> Callable:
    """Makes mutations again, one after another: cosines of successive pairs, and of means of k with −gradient for each k."""
    scale = jnp.asarray(sigma, jnp.result_type(float))
    down = None if gradient is None else [-one for one in gradient]
    slope = None if gradient is None else math.sqrt(float(dot(gradient, gradient)))
    sums = kept(_walk_program, sample_fn)

    def walk(key: jax.Array, indices: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        number = len(indices)
        if number < 2:
            return np.zeros(0), [np.zeros(0) for _ in numbers]
        # Up to a power of two, so that as many programs are compiled as there are powers; what comes last changes nothing before.
        steps = np.pad(indices, (0, 2 ** (number - 1).bit_length() - number), mode="edge")
        found = sums(key, jnp.asarray(steps, jnp.int32), params, scale, down, numbers)
        (products, squares), means = jax.tree.map(lambda one: np.asarray(one, np.float64)[:number], found)
        pairs = products[1::2] / np.sqrt(squares[1::2] * squares[: 2 * (number // 2) : 2])
        with_slope = []
        for one, (along, square) in zip(numbers, means, strict=True):
            with np.errstate(divide="ignore", invalid="ignore"):
                cosines = along[one - 1 :: one] / np.sqrt(square[one - 1 :: one]) / (slope or math.nan)
            with_slope.append(cosines)
        return pairs, with_slope

    return walk


def _walk_program(sample_fn: Callable) -> Callable:
    @partial(jax.jit, compiler_options=fast_options(), static_argnums=5)
    def sums(
        key: jax.Array,
        indices: jax.Array,
        params: Params,
        scale: jax.Array,
        down: list | None,
        numbers: tuple[int, ...],
    ) -> Any:
        leaves = tree.floating_only(params)
        dtypes = [tree.compute_dtype(leaf) for leaf in leaves]

        def own(index: jax.Array) -> list:
            """An update as it is after rounding."""
            noise = sample_fn(jax.random.fold_in(key, index), params)
            mutant = tree.floating_only(tree.add_scaled(params, noise, scale))
            return [a.astype(dtype) - b.astype(dtype) for a, b, dtype in zip(mutant, leaves, dtypes, strict=True)]

        empty = [jnp.zeros(leaf.shape, dtype) for leaf, dtype in zip(leaves, dtypes, strict=True)]

        def body(carry: Any, step: Any) -> Any:
            place, index = step
            before, totals = carry
            noise = own(index)
            pair = dot(noise, before), dot(noise, noise)
            added = [[a + b for a, b in zip(total, noise, strict=True)] for total in totals]
            means = [(jnp.zeros(()) if down is None else dot(total, down), dot(total, total)) for total in added]
            left = [
                [jnp.where((place + 1) % one == 0, 0, leaf) for leaf in total]
                for one, total in zip(numbers, added, strict=True)
            ]
            return (noise, left), (pair, means)

        steps = jnp.arange(len(indices)), indices
        return jax.lax.scan(body, (empty, [empty for _ in numbers]), steps)[1]

    return sums
