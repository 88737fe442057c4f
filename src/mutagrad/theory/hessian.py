"""Hessian-vector products of a loss, and its largest eigenvalue in the memory of a few vectors (theory.md 4)."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mutagrad import check, tree
from mutagrad.evaluation.losses import NotTraceable, per_example
from mutagrad.mutation import sphere
from mutagrad.types import LossFn, Params

Vector = list[jax.Array]
"""A direction in parameter space: one array for every floating leaf, all of one dtype."""

_WITHOUT_DERIVATIVES = (
    "measure TrH ≈ 2 mean(ΔU)/σ² from the losses of offspring instead (info.loss_differences; "
    "info.normalized_mutation_strength is σTrH/|∇U|)"
)


def dot(a: Vector, b: Vector) -> jax.Array:
    """The scalar product a·b."""
    # Products are summed, not contracted: a dot may be rounded to fewer bits on an accelerator.
    return sum((jnp.sum(x * y) for x, y in zip(a, b, strict=True)), jnp.zeros((), a[0].dtype))


def add(a: Vector, factor: jax.Array, b: Vector) -> Vector:
    """The vector a + factor · b."""
    return [x + factor * y for x, y in zip(a, b, strict=True)]


def times(factor: jax.Array, a: Vector) -> Vector:
    """The vector factor · a."""
    return [factor * x for x in a]


def unit(a: Vector) -> Vector:
    """The vector a/|a|."""
    return times(1 / jnp.sqrt(dot(a, a)), a)


class Hessian(NamedTuple):
    """The Hessian of the mean loss at some params, by its products.

    Attributes
    ----------
    size : N.
    zeros : the zero vector, made anew at each use.
    product : v ↦ Hv, summed in at least float32; each leaf's share is computed in the leaf's own dtype.
    gradient : () ↦ ∇U.
    epsilon : rounding unit of the coarsest leaf.
    """

    size: int
    zeros: Callable[[], Vector]
    product: Callable[[Vector], Vector]
    gradient: Callable[[], Vector]
    epsilon: float


def hessian_of(loss_fn: LossFn, params: Params) -> Hessian:
    """The Hessian of the mean of ``loss_fn`` with respect to the floating leaves."""
    leaves, structure = jax.tree.flatten(params)
    places = [place for place, leaf in enumerate(leaves) if tree.is_floating(leaf)]
    point = [leaves[place] for place in places]
    dtype = max((tree.compute_dtype(leaf) for leaf in point), key=lambda dtype: dtype.itemsize)
    values_fn = per_example(loss_fn)

    def loss(floating: Vector) -> jax.Array:
        full = list(leaves)
        for place, leaf in zip(places, floating, strict=True):
            full[place] = leaf
        return jnp.mean(values_fn(jax.tree.unflatten(structure, full)))

    def gradient() -> Vector:
        return [leaf.astype(dtype) for leaf in jax.grad(loss)(point)]

    def product(vector: Vector) -> Vector:
        tangent = [v.astype(leaf.dtype) for v, leaf in zip(vector, point, strict=True)]
        # In full precision: an accelerator's shortened products would hide every residual below their rounding.
        with jax.default_matmul_precision("highest"):
            image = jax.jvp(jax.grad(loss), (point,), (tangent,))[1]
        return [leaf.astype(dtype) for leaf in image]

    return Hessian(
        size=tree.size(params),
        zeros=lambda: [jnp.zeros(leaf.shape, dtype) for leaf in point],
        product=product,
        gradient=gradient,
        epsilon=max(float(jnp.finfo(leaf.dtype).eps) for leaf in point),
    )


def check_derivatives(loss_fn: LossFn, params: Params) -> None:
    """A ValueError if JAX cannot differentiate the loss twice; an error of the loss itself is passed on."""
    try:
        jax.eval_shape(per_example(loss_fn), params)
    except NotTraceable as error:
        raise ValueError(
            f"loss_fn: got a loss that JAX cannot trace ({error.reason}); {_WITHOUT_DERIVATIVES}"
        ) from None
    hessian = hessian_of(loss_fn, params)
    try:
        jax.eval_shape(lambda: hessian.product(hessian.zeros()))
    except (TypeError, ValueError, NotImplementedError) as error:
        # JAX raises the first for what has no derivative, the second for callbacks, the third for rules not written.
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"loss_fn: got a loss that JAX cannot differentiate twice ({reason}); {_WITHOUT_DERIVATIVES}"
        ) from None


def evaluate(loss_fn: LossFn, params: Params, key: jax.Array, measure: Callable[[Hessian, jax.Array], Any]) -> Any:
    """The result of ``measure(hessian, key) -> (result, curvature)``, compiled.

    The ``curvature`` is zero only if the Hessian is, and not finite if the Hessian is not.

    Raises
    ------
    ValueError : for params without a floating leaf or not finite, for a loss that JAX cannot differentiate twice, and,
        where they are known, for a curvature that is not finite and for one of zero without a gradient.
    """
    params = tree.check_params(params)
    check_derivatives(loss_fn, params)

    @jax.jit
    def compiled(params, key):
        hessian = hessian_of(loss_fn, params)
        result, curvature = measure(hessian, key)
        slope = hessian.gradient()
        return result, curvature, dot(slope, slope)

    result, curvature, slope = compiled(params, key)
    if check.is_concrete(curvature) and check.is_concrete(slope):
        if not math.isfinite(curvature):
            raise ValueError(
                f"loss_fn: got a curvature of {float(curvature)} at these params; pass params at which the second "
                "derivatives are finite (a root or a norm has none at zero)"
            )
        if curvature == 0 and slope == 0:
            raise ValueError(
                "loss_fn: got a gradient and a curvature of exactly zero at these params, as of a loss of steps; "
                + _WITHOUT_DERIVATIVES
            )
    return result


def probes(hessian: Hessian, key: jax.Array, num_probes: int, integrand: Callable[[Vector], Any]) -> Any:
    """The integrand of every probe, one after another: no more than one of them is in memory."""
    return jax.lax.map(lambda key: integrand(probe(hessian, key)), jax.random.split(key, num_probes))


def probe(hessian: Hessian, key: jax.Array) -> Vector:
    """A random vector, uniform on the sphere of radius √N."""
    # The library's own mutation: unlike matfree's samplers it makes its noise in blocks, in the memory of one vector.
    return sphere().sample_fn(key, hessian.zeros())


class Pair(NamedTuple):
    """A unit vector y, its Rayleigh quotient θ = y·Hy, and the norm of its residual Hy − θy."""

    vector: Vector
    value: jax.Array
    residual: jax.Array


def _top_ritz(diagonal: jax.Array, off_diagonal: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Largest eigenvalue of the leading block [0, step] of a tridiagonal matrix, its eigenvector, and a norm of the block."""
    index = jnp.arange(len(diagonal), dtype=step.dtype)
    is_known = index <= step
    radius = jnp.max(jnp.where(is_known, jnp.abs(diagonal) + 2 * jnp.abs(off_diagonal), 0))
    # What is not there yet is decoupled and below all that is.
    diagonal = jnp.where(is_known, diagonal, -2 * jnp.where(radius > 0, radius, 1))
    side = jnp.where(index < step, off_diagonal, 0)[:-1]
    values, vectors = jnp.linalg.eigh(jnp.diag(diagonal) + jnp.diag(side, 1) + jnp.diag(side, -1))
    return values[-1], vectors[:, -1], radius


class _Lanczos(NamedTuple):
    """Lanczos between two steps: the vectors β_{j−1} q_{j−1}, q_j and y, the coefficients of y in the basis, and T."""

    step: jax.Array
    before: Vector
    current: Vector
    vector: Vector
    coefficients: jax.Array
    diagonal: jax.Array
    off_diagonal: jax.Array
    num_runs: jax.Array


def top_pair(hessian: Hessian, key: jax.Array, num_steps: int, tolerance: float) -> Pair:
    """The largest eigenvalue by Lanczos' three-term recurrence, run twice.

    The first run makes the tridiagonal matrix, the second one the Ritz vector, from the same start: the Krylov space is
    searched as well as if it had been stored, in the memory of four vectors. Without reorthogonalisation vectors lose
    their orthogonality only along Ritz vectors that have converged (Paige), and there it stops.

    Both runs are one loop: compiled once they round alike, and step 0 forgets whatever was carried to it.
    """
    dtype = hessian.zeros()[0].dtype
    rounding = 8 * float(jnp.finfo(dtype).eps)
    tolerance = max(tolerance, 4 * hessian.epsilon)

    def body(state: _Lanczos) -> _Lanczos:
        step = state.step
        is_start, carried = step == 0, jnp.where(step == 0, 0, 1).astype(dtype)
        current = jax.lax.cond(is_start, lambda _: unit(probe(hessian, key)), lambda vector: vector, state.current)
        vector = add(times(carried, state.vector), state.coefficients[step], current)
        image = add(hessian.product(current), -carried, state.before)
        alpha = dot(current, image)
        image = add(image, -alpha, current)
        beta = jnp.sqrt(dot(image, image))
        diagonal, off_diagonal = state.diagonal.at[step].set(alpha), state.off_diagonal.at[step].set(beta)
        value, ritz, radius = _top_ritz(diagonal, off_diagonal, step)
        is_converged = beta * jnp.abs(ritz[step]) <= tolerance * jnp.abs(value) + rounding * radius
        is_done = is_converged | (step + 1 == num_steps)
        return _Lanczos(
            step=jnp.where(is_done, jnp.zeros_like(step), step + 1),
            # Carried with its factor: a plain exchange of two vectors would be copied, and the copies kept.
            before=times(beta, current),
            current=times(1 / jnp.where(beta > 0, beta, 1), image),
            vector=vector,
            coefficients=jnp.where(is_done, ritz, state.coefficients),
            diagonal=diagonal,
            off_diagonal=off_diagonal,
            num_runs=state.num_runs + is_done.astype(jnp.int32),
        )

    zeros, empty = hessian.zeros, jnp.zeros(num_steps, dtype)
    start = _Lanczos(jnp.int32(0), zeros(), zeros(), zeros(), empty, empty, empty, jnp.int32(0))
    vector = unit(jax.lax.while_loop(lambda state: state.num_runs < 2, body, start).vector)
    image = hessian.product(vector)
    value = dot(vector, image)
    residual = add(image, -value, vector)
    return Pair(vector, value, jnp.sqrt(dot(residual, residual)))
