"""Curvature of a loss: Hessian trace, largest eigenvalue, and the ranks made of them (theory.md 3 and 4).

All of it goes through Hessian-vector products, forward over reverse, one at a time: the Hessian never exists. Random
probes are uniform on the sphere of radius √N, so that the error of an estimate depends on the eigenvalues alone, not on
the coordinates in which the loss is written. (Random signs are exact on a diagonal Hessian; on that of a trained
network of 870 parameters their standard deviation was found to be less by one percent.)
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mutagrad import check
from mutagrad.theory.hessian import Hessian, Pair, Vector, add, dot, evaluate, probes, top_pair
from mutagrad.types import LossFn, Params

__all__ = [
    "EffectiveRank",
    "Estimate",
    "effective_rank",
    "hessian_trace",
    "largest_eigenvalue",
    "participation_ratio",
    "stable_rank",
]


class Estimate(NamedTuple):
    """A number and how far it may be off.

    Attributes
    ----------
    value : the estimate.
    error : its standard error or, where the function that returned it says so, a bound.
    """

    value: jax.Array
    error: jax.Array


class EffectiveRank(NamedTuple):
    """r = TrH/λ_max and what it is made of.

    Attributes
    ----------
    rank : r, dimensionless.
    error : its standard error.
    hessian_trace : TrH with its standard error [loss/parameter²].
    largest_eigenvalue : λ_max with the bound of `largest_eigenvalue` [loss/parameter²].
    """

    rank: jax.Array
    error: jax.Array
    hessian_trace: Estimate
    largest_eigenvalue: Estimate


def mean_of_probes(samples: jax.Array) -> Estimate:
    """Mean of independent samples, and its standard error."""
    number = samples.shape[0]
    return Estimate(jnp.mean(samples), jnp.std(samples, ddof=1) / math.sqrt(number))


def require_matfree() -> None:
    """Refuse to go on without matfree."""
    check.installed("matfree", "the trace and the spectrum of a Hessian")


def count_probes(num_probes: Any) -> int:
    """``num_probes`` as an int of 2 or more."""
    return check.count(
        "num_probes", num_probes, 2, "pass a whole number of 2 or more: a standard error takes two probes"
    )


# --- the trace ----------------------------------------------------------------------------------------------------------


def hessian_trace(loss_fn: LossFn, params: Params, key: jax.Array, num_probes: int = 64) -> Estimate:
    """TrH by Hutchinson's estimator, the mean of v·Hv over random probes v.

    Parameters
    ----------
    loss_fn : ``loss_fn(params)``, a scalar or a vector of per-example losses whose mean is meant.
    params : where; any pytree, of which the floating leaves count.
    key : of the probes.
    num_probes : m ≥ 2, each one Hessian-vector product. They are uniform on the sphere of radius √N: the standard
        deviation of one probe is √(2N/(N+2) · (Tr(H²) − (TrH)²/N)) whatever the coordinates, and 0 if H is a multiple of I.

    Returns
    -------
    Estimate [loss/parameter²], with the standard error over the probes: (value − TrH)/error is close to a Student t of
    m − 1 degrees of freedom. Works under ``jit`` and under ``vmap`` over keys. Every call compiles anew; compile it with
    ``jax.jit`` to call it often.

    Raises
    ------
    ValueError : for params without a floating leaf or not finite; if the loss cannot be differentiated, has a curvature
        that is not finite, or has a gradient and a curvature of exactly zero (the last two are not seen under ``jit``).
    ImportError : if matfree (the ``lab`` extra) is not installed.

    Domain: a loss that is smooth at the params. Where it has kinks (ReLU), the curvature between them is what is
    measured, and a mutation that crosses kinks meets more of it. In bfloat16 a product is good to about a percent.
    Memory: the params, a few vectors of their size, and what one gradient needs.

    Source: Hutchinson 1990; matfree.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> curvatures = 1 / jnp.arange(1.0, 1001.0)
    >>> found = mutagrad.theory.hessian_trace(lambda x: jnp.sum(curvatures * x**2) / 2, jnp.ones(1000), jax.random.key(0))
    >>> bool(abs(found.value - jnp.sum(curvatures)) < 4 * found.error), bool(found.error < 0.4)
    (True, True)
    """
    num_probes = count_probes(num_probes)
    require_matfree()

    def measure(hessian: Hessian, key: jax.Array) -> tuple[Any, jax.Array]:
        from matfree import stochtrace

        quadratic_form = stochtrace.monte_carlo_trace()
        samples = probes(hessian, key, num_probes, lambda probe: quadratic_form(hessian.product, probe))
        return mean_of_probes(samples), jnp.max(jnp.abs(samples))

    return evaluate(loss_fn, params, key, measure)


# --- the largest eigenvalue ---------------------------------------------------------------------------------------------


def largest_eigenvalue(
    loss_fn: LossFn, params: Params, key: jax.Array, num_steps: int = 64, tolerance: float = 1e-4
) -> Estimate:
    """λ_max, the algebraically largest eigenvalue of the Hessian, with an a posteriori bound.

    By Lanczos' recurrence from a random start, run twice so that no more than four vectors are stored: for a given number
    of Hessian-vector products it searches the largest space that there is, where power iteration looks at one vector,
    and where restarts or LOBPCG would look at three. matfree's Lanczos stores ``num_steps`` vectors; see
    `hessian_spectrum`.

    Parameters
    ----------
    loss_fn, params : as in `hessian_trace`.
    key : of the start.
    num_steps : Lanczos steps at most, of two Hessian-vector products each.
    tolerance : residual, in units of λ_max, at which it stops. With leaves of 16 bits it is no less than four roundings.

    Returns
    -------
    Estimate [loss/parameter²]. The error is the residual |Hy − θy| of the unit vector y that was found, θ = y·Hy: an
    eigenvalue lies within it for certain (to rounding), and it is λ_max unless y has found another one, which a random
    start makes improbable. θ is below λ_max, and far closer than the bound: by (error)²/gap, the gap being the distance
    to the next eigenvalue.

    Raises
    ------
    ValueError : as `hessian_trace`; if ``num_steps`` < 1 or ``tolerance`` is not positive.

    Domain: as `hessian_trace`. For an indefinite Hessian it is the largest by sign, not by magnitude. A random start
    has a share of only N^(−1/2) along the eigenvector, so the steps grow like ln N, and like the root of λ_max/gap.

    Source: Paige 1980 on the recurrence without reorthogonalisation; Parlett 1980 on the bounds.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> curvatures = 1 / jnp.arange(1.0, 1001.0)
    >>> found = mutagrad.theory.largest_eigenvalue(lambda x: jnp.sum(curvatures * x**2), jnp.ones(1000), jax.random.key(0))
    >>> round(float(found.value), 3), bool(found.error < 2e-3)
    (2.0, True)
    """
    num_steps = check.count("num_steps", num_steps)
    tolerance = float(check.positive("tolerance", tolerance))

    def measure(hessian: Hessian, key: jax.Array) -> tuple[Any, jax.Array]:
        pair = top_pair(hessian, key, num_steps, tolerance)
        return Estimate(pair.value, pair.residual), jnp.abs(pair.value) + pair.residual

    return evaluate(loss_fn, params, key, measure)


# --- ranks --------------------------------------------------------------------------------------------------------------


class _Moments(NamedTuple):
    """The top pair, and TrH and Tr(H²) by every probe: what all ranks are made of."""

    top: Pair
    trace: jax.Array
    square: jax.Array

    def effective_rank(self) -> EffectiveRank:
        trace, largest = mean_of_probes(self.trace), self.top.value
        rank = trace.value / largest
        error = jnp.hypot(trace.error, rank * self.top.residual) / jnp.abs(largest)
        return EffectiveRank(rank, error, trace, Estimate(largest, self.top.residual))

    def participation_ratio(self) -> Estimate:
        trace, square = jnp.mean(self.trace), jnp.mean(self.square)
        # Multiplied out: TrH may be zero.
        relative = self.square / square
        bias = jnp.var(self.trace - trace * relative, ddof=1) / square
        spread = jnp.std(2 * self.trace * trace - trace**2 * relative, ddof=1) / square
        number = len(relative)
        return Estimate(trace**2 / square - bias / number, spread / math.sqrt(number))

    def stable_rank(self) -> Estimate:
        square, largest = mean_of_probes(self.square), self.top.value
        rank = square.value / jnp.square(largest)
        error = jnp.hypot(square.error / jnp.square(largest), 2 * rank * self.top.residual / jnp.abs(largest))
        return Estimate(rank, error)


def _moments(
    loss_fn: LossFn, params: Params, key: jax.Array, num_probes: Any, num_steps: Any, tolerance: Any, combine: Callable
) -> Any:
    """``combine(moments)``, from the largest eigenvalue and from probes across its eigenvector.

    TrH = y·Hy + Tr PHP with P = I − yyᵀ, and alike for H². The direction of Pv is uniform across y, so
    (N − 1) w·Hw/|w|² with w = Pv is unbiased for Tr PHP, whether or not y has converged; the largest eigenvalue, which
    makes most of the variance, makes none of it here. Exact for H of rank one and for H = cI.
    """
    num_probes, num_steps = count_probes(num_probes), check.count("num_steps", num_steps)
    tolerance = float(check.positive("tolerance", tolerance))

    def measure(hessian: Hessian, key: jax.Array) -> tuple[Any, jax.Array]:
        start_key, probe_key = jax.random.split(key)
        top = top_pair(hessian, start_key, num_steps, tolerance)

        def across(probe: Vector) -> tuple[jax.Array, jax.Array]:
            probe = add(probe, -dot(top.vector, probe), top.vector)
            image = hessian.product(probe)
            length = dot(probe, probe)
            scale = (hessian.size - 1) / jnp.where(length > 0, length, 1)
            return scale * dot(probe, image), scale * dot(image, image)

        trace, square = probes(hessian, probe_key, num_probes, across)
        square_of_top = jnp.square(top.value) + jnp.square(top.residual)
        moments = _Moments(top, top.value + trace, square_of_top + square)
        return combine(moments), jnp.max(moments.square)

    return evaluate(loss_fn, params, key, measure)


def effective_rank(
    loss_fn: LossFn, params: Params, key: jax.Array, num_probes: int = 64, num_steps: int = 64, tolerance: float = 1e-4
) -> EffectiveRank:
    """Effective rank r = TrH/λ_max: by how much curvature slows evolution down, in place of the number of parameters.

    (1+M) at its best σ takes r/(2 G_M(s*)) generations for what a step of gradient descent gains, `expected_gain`.

    Parameters
    ----------
    loss_fn, params : as in `hessian_trace`.
    key : of the start and of the probes.
    num_probes : m ≥ 2 probes for what λ_max leaves of TrH, each one Hessian-vector product.
    num_steps, tolerance : of the search for λ_max, as in `largest_eigenvalue`.

    Returns
    -------
    EffectiveRank. Its standard error is that of TrH over the probes and, added in quadrature as if it were one, the bound
    of λ_max. Works under ``jit`` and under ``vmap`` over keys.

    Raises
    ------
    ValueError : as `hessian_trace` and `largest_eigenvalue`.

    Domain: as `hessian_trace`. λ_max is the largest eigenvalue by sign. Negative eigenvalues lower r, and where TrH ≤ 0 it
    means nothing: it is returned as it is, and the slowdown does not follow from it. A linear loss has r = 0/0, NaN.
    Memory: 6.6 times that of the params, for a perceptron of ten million (benchmarks/results/curvature.md).

    Source: [W26]; theory.md 4. The estimator was derived for this project (a sphere probe across the top eigenvector, like
    the resphering of Epperly 2025), tested in tests/theory/test_curvature.py.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> curvatures = 1 / jnp.arange(1.0, 1001.0)
    >>> found = mutagrad.theory.effective_rank(lambda x: jnp.sum(curvatures * x**2), jnp.ones(1000), jax.random.key(0))
    >>> bool(abs(found.rank - jnp.sum(curvatures)) < 4 * found.error), bool(found.error < 0.3)
    (True, True)
    """

    return _moments(loss_fn, params, key, num_probes, num_steps, tolerance, _Moments.effective_rank)


def participation_ratio(
    loss_fn: LossFn, params: Params, key: jax.Array, num_probes: int = 64, num_steps: int = 64, tolerance: float = 1e-4
) -> Estimate:
    """Participation ratio (TrH)²/Tr(H²): how many eigenvalues share the curvature. It is not the `effective_rank`.

    TrH = E[v·Hv] and Tr(H²) = E|Hv|² come from the same probes across the top eigenvector. The ratio g of the two means is
    too large by g Var(t/T − f/F)/m + O(m⁻²), where t and f are the probes' values of TrH and Tr(H²), and T and F their means;
    so much is taken off.

    Parameters
    ----------
    loss_fn, params, key, num_probes, num_steps, tolerance : as in `effective_rank`.

    Returns
    -------
    Estimate, between 0 and N up to its error: by the delta method g √(Var(2t/T − f/F)/m).

    Raises
    ------
    ValueError : as `effective_rank`.

    Domain: as `hessian_trace`. For a Hessian with eigenvalues of both signs it is small because they cancel in TrH.

    Source: derived for this project, tested in tests/theory/test_curvature.py.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> found = mutagrad.theory.participation_ratio(lambda x: jnp.sum(x[:50] ** 2), jnp.ones(1000), jax.random.key(0))
    >>> bool(abs(found.value - 50) < 4 * found.error), bool(found.error < 5)
    (True, True)
    """

    return _moments(loss_fn, params, key, num_probes, num_steps, tolerance, _Moments.participation_ratio)


def stable_rank(
    loss_fn: LossFn, params: Params, key: jax.Array, num_probes: int = 64, num_steps: int = 64, tolerance: float = 1e-4
) -> Estimate:
    """Stable rank Tr(H²)/λ_max² = |H|_F²/λ_max². It is not the `effective_rank`, which it never exceeds if H ≥ 0.

    Parameters
    ----------
    loss_fn, params, key, num_probes, num_steps, tolerance : as in `effective_rank`.

    Returns
    -------
    Estimate, with the standard error of Tr(H²) over the probes and, added in quadrature, twice the relative bound of λ_max.

    Raises
    ------
    ValueError : as `effective_rank`.

    Domain: as `hessian_trace`. λ_max is the largest eigenvalue by sign; where the largest by magnitude is negative, this is
    not the stable rank of the linear-algebra literature, which has the spectral norm in its place.

    Source: derived for this project, tested in tests/theory/test_curvature.py.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> found = mutagrad.theory.stable_rank(lambda x: jnp.sum(x[:50] ** 2), jnp.ones(1000), jax.random.key(0))
    >>> bool(abs(found.value - 50) < 4 * found.error), bool(found.error < 5)
    (True, True)
    """

    return _moments(loss_fn, params, key, num_probes, num_steps, tolerance, _Moments.stable_rank)
