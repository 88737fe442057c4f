"""How many eigenvalues share the curvature of a loss: three ranks of its Hessian, each by its own name (theory.md 4)."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mutagrad import check
from mutagrad.estimate import Estimate
from mutagrad.theory.curvature import UNIT, count_probes, mean_of_probes
from mutagrad.theory.hessian import Hessian, Pair, Vector, add, dot, evaluate, probes, top_pair
from mutagrad.types import LossFn, Params

__all__ = ["EffectiveRank", "effective_rank", "participation_ratio", "stable_rank"]


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


class _Moments(NamedTuple):
    """The top pair, and TrH and Tr(H²) by every probe: what all ranks are made of."""

    top: Pair
    trace: jax.Array
    square: jax.Array

    def effective_rank(self) -> EffectiveRank:
        trace, largest = mean_of_probes(self.trace, UNIT), self.top.value
        rank = trace.value / largest
        error = jnp.hypot(trace.error, rank * self.top.residual) / jnp.abs(largest)
        return EffectiveRank(rank, error, trace, Estimate(largest, self.top.residual, UNIT))

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
    (N − 1) w·Hw/|w|² with w = Pv is unbiased for Tr PHP, whether or not y has converged. The largest eigenvalue makes most of
    the variance of a plain probe and none of it here. Exact for H of rank one and for H = cI.
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

    Domain: as `hessian_trace`. λ_max is the largest eigenvalue by sign. Negative eigenvalues lower r. Where TrH ≤ 0 it is
    returned as it is, and no slowdown follows from it. A linear loss has r = 0/0, NaN.
    Memory: 7.9 times that of the params, for a perceptron of ten million (benchmarks/results/curvature.md).

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
    too large by g Var(t/T − f/F)/m + O(m⁻²), where t and f are the probes' values of TrH and Tr(H²), and T and F their means.
    So much is taken off. Parameters and errors are those of `effective_rank`.

    Returns
    -------
    Estimate, between 0 and N up to its error: by the delta method g √(Var(2t/T − f/F)/m).

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

    Parameters and errors are those of `effective_rank`.

    Returns
    -------
    Estimate, with the standard error of Tr(H²) over the probes and, added in quadrature, twice the relative bound of λ_max.

    Domain: as `hessian_trace`. λ_max is the largest eigenvalue by sign. Where the largest by magnitude is negative, this is
    not the stable rank of the linear-algebra literature, which has the spectral norm in its place.

    Source: derived for this project, tested in tests/theory/test_curvature.py.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> found = mutagrad.theory.stable_rank(lambda x: jnp.sum(x[:50] ** 2), jnp.ones(1000), jax.random.key(0))
    >>> bool(abs(found.value - 50) < 4 * found.error), bool(found.error < 5)
    (True, True)
    """
    return _moments(loss_fn, params, key, num_probes, num_steps, tolerance, _Moments.stable_rank)
