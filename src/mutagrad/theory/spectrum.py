"""The eigenvalues of a Hessian together: their density, and the power law that they follow (theory.md 4)."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from mutagrad import check
from mutagrad.estimate import Estimate
from mutagrad.theory.curvature import UNIT, count_probes, mean_of_probes, require_matfree
from mutagrad.theory.hessian import Hessian, Vector, dot, evaluate, probes
from mutagrad.types import LossFn, Params

__all__ = ["PowerLaw", "Spectrum", "fit_power_law", "hessian_spectrum"]


class Spectrum(NamedTuple):
    """Eigenvalue density of a Hessian as a quadrature: (1/N) Σ_k f(λ_k) ≈ Σ weights · f(nodes).

    Attributes
    ----------
    nodes : (num_probes, num_steps) Ritz values of every probe, increasing [loss/parameter²].
    weights : (num_probes, num_steps), nonnegative, of sum 1.
    largest, smallest : the extreme Ritz values of all probes [loss/parameter²]. The error is a bound: an eigenvalue lies
        within it.
    """

    nodes: jax.Array
    weights: jax.Array
    largest: Estimate
    smallest: Estimate

    def mean(self, fn: Callable[[jax.Array], jax.Array]) -> Estimate:
        """(1/N) Σ_k fn(λ_k), with its standard error over the probes.

        Parameters
        ----------
        fn : a function of the eigenvalue, elementwise; a smooth one converges in few Lanczos steps, and a polynomial of
            degree below 2 num_steps has no error but that of the probes.
        """
        return mean_of_probes(len(self.nodes) * jnp.sum(self.weights * fn(self.nodes), axis=1))


class PowerLaw(NamedTuple):
    """λ_k = prefactor · k^(−exponent), fitted to a window of ranks.

    Attributes
    ----------
    exponent : a.
    error : its standard error over the blocks.
    prefactor : λ of rank 1 by the fit, in the unit of the eigenvalues.
    local_exponents : (num_blocks,) the exponent in each block of ranks, from the first ranks to the last. A trend in
        them says that the window holds no power law.
    """

    exponent: float
    error: float
    prefactor: float
    local_exponents: np.ndarray


def _quadrature(diagonal: jax.Array, off_diagonal: jax.Array, residual: jax.Array) -> tuple[jax.Array, ...]:
    """Nodes and weights of a Lanczos run, and the distance within which an eigenvalue lies of every node.

    Where the Krylov space was exhausted the run goes on with directions of rounding, or with NaN; that is cut off.
    """
    betas = jnp.append(off_diagonal, residual)
    scale = jnp.max(jnp.where(jnp.isfinite(diagonal), jnp.abs(diagonal), 0))
    scale += 2 * jnp.max(jnp.where(jnp.isfinite(betas), jnp.abs(betas), 0))
    is_coupled = betas > 16 * jnp.finfo(betas.dtype).eps * scale
    is_kept = jnp.cumprod(jnp.append(True, is_coupled[:-1])).astype(bool)
    # One Ritz value, so inside the spectrum: it has no weight.
    diagonal = jnp.where(is_kept, diagonal, diagonal[0])
    side = jnp.where(is_kept[1:], off_diagonal, 0)
    nodes, vectors = jnp.linalg.eigh(jnp.diag(diagonal) + jnp.diag(side, 1) + jnp.diag(side, -1))
    last = jnp.sum(is_kept) - 1
    beta = jnp.where(is_coupled[last], betas[last], 0)
    return nodes, jnp.square(vectors[0]), beta * jnp.abs(vectors[last])


def hessian_spectrum(
    loss_fn: LossFn, params: Params, key: jax.Array, num_steps: int = 32, num_probes: int = 8
) -> Spectrum:
    """Eigenvalue density of the Hessian by stochastic Lanczos quadrature, and its two ends.

    Parameters
    ----------
    loss_fn, params : as in `hessian_trace`.
    key : of the probes.
    num_steps : Lanczos steps of each probe, N at most; so many Hessian-vector products.
    num_probes : m ≥ 2, one after another.

    Returns
    -------
    Spectrum. Its nodes are no eigenvalues, but for the outermost ones, which converge to them; the bounds of these two are
    residuals plus the rounding of sums over N terms. For `fit_power_law` take eigenvalues.

    Raises
    ------
    ValueError : as `hessian_trace`; if ``num_steps`` < 1.
    ImportError : if matfree (the ``lab`` extra) is not installed.

    Domain: as `hessian_trace`. Memory: matfree's Lanczos, with full reorthogonalisation, stores ``num_steps`` vectors of
    the size of the params. `largest_eigenvalue` and `effective_rank` store few.

    Source: Golub and Welsch 1969; Ubaru, Chen and Saad 2017; matfree.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> curvatures = 1 / jnp.arange(1.0, 1001.0)
    >>> found = mutagrad.theory.hessian_spectrum(lambda x: jnp.sum(curvatures * x**2), jnp.ones(1000), jax.random.key(0))
    >>> round(float(found.largest.value), 3), round(float(jnp.sum(found.weights)), 3)
    (2.0, 1.0)
    >>> mean = found.mean(lambda curvature: curvature**2)                          # Tr H²/N
    >>> bool(abs(mean.value - jnp.mean(4 * curvatures**2)) < 4 * mean.error)
    True
    """
    num_steps, num_probes = check.count("num_steps", num_steps), count_probes(num_probes)
    require_matfree()

    def measure(hessian: Hessian, key: jax.Array) -> tuple[Any, jax.Array]:
        from matfree import decomp

        run = decomp.tridiag_sym(min(num_steps, hessian.size), reortho="full", materialize=False)

        def quadrature(probe: Vector) -> tuple[jax.Array, ...]:
            found = run(hessian.product, probe)
            diagonal, off_diagonal = found.J_small
            return _quadrature(diagonal, off_diagonal, jnp.sqrt(dot(found.residual, found.residual)))

        nodes, weights, bounds = probes(hessian, key, num_probes, quadrature)
        radius = jnp.max(jnp.abs(nodes))
        # The bounds of a tridiagonal matrix do not see the rounding of the sums over N terms that made it.
        bounds += (math.sqrt(hessian.size) * float(jnp.finfo(nodes.dtype).eps) + hessian.epsilon) * radius
        top, bottom = jnp.argmax(nodes[:, -1]), jnp.argmin(nodes[:, 0])
        spectrum = Spectrum(
            nodes,
            weights / num_probes,
            Estimate(nodes[top, -1], bounds[top, -1], UNIT),
            Estimate(nodes[bottom, 0], bounds[bottom, 0], UNIT),
        )
        return spectrum, radius

    return evaluate(loss_fn, params, key, measure)


def fit_power_law(eigenvalues: ArrayLike, first: int = 1, last: int | None = None, num_blocks: int = 10) -> PowerLaw:
    """Exponent a of λ_k ∝ k^(−a) from the ranks k = first … last, by least squares on ln λ_k against ln k.

    The slope of a regression is a weighted mean of the local exponents D_k = ln(λ_k/λ_{k+1})/ln((k + 1)/k). Its
    error is taken from them: the window is cut into blocks of consecutive ranks of about equal weight, and the error is
    the standard error of the blocks' means. The textbook error of a regression takes ln λ_k to scatter independently
    about the line, and is far too small, since sorted values share what came before them.

    Parameters
    ----------
    eigenvalues : (n,) eigenvalues in any order [loss/parameter²]: all of them, or the largest ones. Rank 1 is the largest.
        Quadrature nodes are no eigenvalues.
    first, last : the window of ranks, both ends included; ``last`` is n unless given. Least squares weighs ranks alike:
        of the ranks 1 to 1000, half lie above 500.
    num_blocks : B ≥ 2, at most last − first.

    Returns
    -------
    PowerLaw; (exponent − a)/error is about a Student t of B − 1 degrees of freedom.

    Raises
    ------
    ValueError : if an eigenvalue is not finite, or not positive inside the window; if the window does not fit.

    Domain: assumes that blocks scatter independently about one exponent, not that eigenvalues do. A spectrum without
    scatter has error 0. Values drawn independently from a Pareto law have D_k that are independent, with a the truth and
    a√(2/n) the error (Gabaix and Ibragimov 2011), and an exponent that is too large by a third of its error unless the
    first ranks are left out; repelling eigenvalues scatter less. Where the exponent drifts through the window, the error
    contains the drift.

    Source: derived for this project, tested in tests/theory/test_spectrum.py.

    >>> import numpy as np, mutagrad
    >>> found = mutagrad.theory.fit_power_law(3.0 * np.arange(1, 1001) ** -0.8, first=10)
    >>> round(found.exponent, 6), round(found.prefactor, 6), found.error < 1e-10
    (0.8, 3.0, True)
    """
    values = np.asarray(eigenvalues, float)
    if values.ndim != 1 or not np.all(np.isfinite(values)):
        what = f"shape {values.shape}" if values.ndim != 1 else f"{np.sum(~np.isfinite(values))} values NaN or infinite"
        raise ValueError(f"eigenvalues: got {what}; pass a vector of finite numbers")
    first, num_blocks = check.count("first", first), check.count("num_blocks", num_blocks, 2)
    last = len(values) if last is None else check.count("last", last)
    if last > len(values):
        raise ValueError(f"last: got {last}; pass at most the number of eigenvalues, {len(values)}")
    if last - first < num_blocks:
        raise ValueError(
            f"num_blocks: got {num_blocks} for the ranks {first} to {last}; widen the window or pass at most {last - first}"
        )
    window = np.sort(values)[::-1][first - 1 : last]
    if not window[-1] > 0:
        positive = int(np.sum(values > 0))
        raise ValueError(
            f"eigenvalues: got {window[-1]:g} at rank {last}; pass last = {positive} or less, where they end"
        )
    x, y = np.log(np.arange(first, last + 1)), np.log(window)
    slopes = -np.diff(y) / np.diff(x)
    centred = x - x.mean()
    weights = -np.diff(x) * np.cumsum(centred)[:-1] / np.sum(centred**2)
    block = _blocks(weights, num_blocks)
    shares = np.bincount(block, weights)
    local = np.bincount(block, weights * slopes) / shares
    exponent = float(np.sum(shares * local))
    error = math.sqrt(np.sum(shares**2 * (local - exponent) ** 2) * num_blocks / (num_blocks - 1))
    return PowerLaw(exponent, error, float(np.exp(y.mean() + exponent * x.mean())), local)


def _blocks(weights: np.ndarray, number: int) -> np.ndarray:
    """The block of every spacing: ``number`` blocks of about equal weight, none of them empty."""
    middle = np.cumsum(weights) - weights / 2
    ends = np.searchsorted(middle, np.arange(1, number) / number)
    step = np.arange(1, number)
    # At least one spacing for every block before and after each end.
    ends = np.minimum(np.maximum.accumulate(np.maximum(ends, step) - step) + step, len(weights) - number + step)
    return np.repeat(np.arange(number), np.diff([0, *ends, len(weights)]))
