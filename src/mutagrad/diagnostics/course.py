"""The regime of a run from what it recorded, pooled over generations, with standard errors (theory.md 3 and 8)."""

import itertools
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from mutagrad import check
from mutagrad.diagnostics.measured import Measured
from mutagrad.gauge import is_another_batch

__all__ = ["Regime", "course", "is_resampled", "regime"]

_BLOCKS = 20
"""Blocks of consecutive generations that a standard error comes from."""
_MEASURED = ("hessian_trace", "squared_grad_norm", "squared_grad_noise", "gradient_curvature")
_NEEDED = ("loss", "loss_change", "sigma", "success", *_MEASURED)


class Regime(NamedTuple):
    """Where a run was: slope, curvature, noise and mutation strength over some generations.

    Every quantity is a `Measured`, a value and its standard error; for `course` both are arrays, one entry a window.

    Attributes
    ----------
    generation : the middle of the window, counted from the first generation of the history.
    num_generations : generations in it that told something (those of which every offspring failed do not).
    sigma : root mean square of the mutation strength [parameter]; its error is 0.
    strength : s = σTrH/|g_B|, with |g_B| on the batch.
    success, predicted_success : the share of offspring no worse than their parent, and Φ(−s/2), what s predicts for it.
    hessian_trace : TrH [loss/parameter²].
    squared_batch_grad_norm : |g_B|² of the batches, with their sampling noise [loss²/parameter²].
    squared_grad_noise : TrC/B, the part of it that is sampling noise; 0 if the batch was the same each generation, and 0 for a
        scalar loss, which does not show it.
    squared_grad_norm : |g|² = |g_B|² − TrC/B, without it; negative at times where the noise is most of |g_B|².
    signal : |g|/|g_B|, the share of the drift that goes down the loss itself.
    noise_ratio : TrC/B over |g|²: the gradient noise scale in units of the batch size. NaN where |g|² is not positive.
    decrease : mean decrease of a batch's loss by the generation that met it [loss].
    skewness : of the losses of mutants, κ₃(ΔU)/Var(ΔU)^1.5; 0 for normal ones, for which `strength` is all that counts. Curvature
        along the slope makes it 3σ ĝ·Hĝ/|g_B|, and few dominating curvatures Tr(H³)/Tr(H²)^1.5 far from where they are small.
    """

    generation: Any
    num_generations: Any
    sigma: Measured
    strength: Measured
    success: Measured
    predicted_success: Measured
    hessian_trace: Measured
    squared_batch_grad_norm: Measured
    squared_grad_noise: Measured
    squared_grad_norm: Measured
    signal: Measured
    noise_ratio: Measured
    decrease: Measured
    skewness: Measured


def is_resampled(history: Any) -> bool:
    """Whether a history's generations met batches drawn afresh.

    On one batch a parent has the loss that the generation before left.

    Parameters
    ----------
    history : consecutive generations, as `mutagrad.evolve` returns them; see `regime`.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> algorithm = mutagrad.elitist(sigma=0.1, num_offspring=4)
    >>> result = mutagrad.evolve(jax.random.key(0), algorithm, jnp.ones(9), lambda x: (x - 1) ** 2, 50, progress=False)
    >>> mutagrad.diagnostics.is_resampled(result.history)
    False
    """
    return bool(np.mean(resampled_generations(history)) > 0.5)


def resampled_generations(history: Any) -> np.ndarray:
    """Which of a history's generations met batches drawn afresh, (generations,), by the most of the 21 around each.

    Parameters
    ----------
    history : as in `is_resampled`; batches may have grown to all the data on the way.

    >>> import numpy as np
    >>> from mutagrad.diagnostics.course import resampled_generations
    >>> loss = np.concatenate([np.random.default_rng(0).uniform(1, 2, 50), np.ones(50)])
    >>> found = resampled_generations({"loss": loss, "loss_change": np.zeros(100)})
    >>> bool(found[:40].all()), bool(found[60:].any())
    (True, False)
    """
    loss, change = _column(history, "loss"), _column(history, "loss_change")
    now, expected = loss[1:], loss[:-1] + change[:-1]
    known = np.isfinite(now) & np.isfinite(expected)
    is_other = np.zeros(len(loss))
    is_other[1:][known] = is_another_batch(now[known], expected[known])
    around = np.ones(_BLOCKS + 1)
    found = np.convolve(is_other, around)[len(around) // 2 :][: len(loss)]
    number = np.convolve(np.concatenate([[0.0], known]), around)[len(around) // 2 :][: len(loss)]
    return found > number / 2


def regime(history: Any, resampled: bool | np.ndarray | None = None) -> Regime:
    """The regime that a run, or a part of it, was in.

    Numerators and denominators are pooled over the generations, and ratios taken last: TrH = 2ΣΔU/Σσ², the least squares
    of ΔU on ½σ²; |g_B|² the mean over generations, for M = 1 that of the residuals of that fit. Standard errors are those of
    a jackknife over 20 blocks of consecutive generations, so that they hold for correlated generations too, and widen with
    what changes in the window.

    Parameters
    ----------
    history : what `mutagrad.evolve` recorded by default (a dict of arrays), or the history of a run folder (xarray); any M.
        To judge a part of a run, pass a part of its arrays.
    resampled : whether generations met batches drawn afresh, all of them or each; found out by `resampled_generations` unless
        given. Of one that did not, the slope is the loss's own, without noise.

    Returns
    -------
    Regime of scalars. (value − truth)/error is close to a Student t of 19 degrees, from 20 generations on.

    Raises
    ------
    ValueError : if the history lacks a record that is needed, or holds fewer than two generations.

    Domain: mutations of covariance σ²I, and a window in which the loss's slope and curvature change little: of quantities
    that change, what is estimated is their mean over the window. |g_B|² contains a share s²/2P of curvature
    (`mutagrad.gauge`), and s is too small by half of that. For M = 1 and 2 the skewness is that of the mean of a generation's
    losses over the window.

    Source: theory.md 3 and 8, derived for this project, tested in tests/diagnostics/test_course.py.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> algorithm = mutagrad.greedy(sigma=0.001)                                    # M = 1
    >>> loss_fn = lambda x: 100 * jnp.sum(x) + jnp.sum(x**2) / 2
    >>> result = mutagrad.evolve(jax.random.key(0), algorithm, jnp.zeros(64), loss_fn, 400, progress=False)
    >>> found = mutagrad.diagnostics.regime(result.history)
    >>> abs(found.squared_grad_norm.value / (64 * 100**2) - 1) < 4 * found.squared_grad_norm.error / (64 * 100**2)
    True
    """
    columns = _columns(history, resampled)
    return _window(columns, 0, len(columns["loss"]))


def course(history: Any, num_windows: int = 40, resampled: bool | np.ndarray | None = None) -> Regime:
    """The regime of a run over its course, in windows of as many generations each.

    Parameters
    ----------
    history, resampled : as in `regime`.
    num_windows : K ≥ 1; fewer where a window would hold fewer than 20 generations.

    Returns
    -------
    Regime of arrays, an entry for each window.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> algorithm = mutagrad.adapt_sigma(mutagrad.elitist(sigma=0.01, num_offspring=20))
    >>> result = mutagrad.evolve(jax.random.key(0), algorithm, jnp.ones(100), lambda x: jnp.sum(x**2), 400, progress=False)
    >>> found = mutagrad.diagnostics.course(result.history, num_windows=8)
    >>> found.generation.shape, bool(found.squared_grad_norm.value[-1] < found.squared_grad_norm.value[0])
    ((8,), True)
    """
    columns = _columns(history, resampled)
    number = len(columns["loss"])
    num_windows = max(1, min(check.count("num_windows", num_windows), number // _BLOCKS))
    edges = np.linspace(0, number, num_windows + 1).astype(int)
    windows = [_window(columns, a, b) for a, b in itertools.pairwise(edges)]
    stacked = [np.array(field) for field in zip(*windows, strict=True)]
    fields: list[Any] = [Measured(*field.T) if field.ndim == 2 else field for field in stacked]
    return Regime(*fields)


def _column(history: Any, name: str) -> np.ndarray:
    try:
        return np.asarray(history[name], np.float64)
    except (KeyError, TypeError, IndexError):
        raise ValueError(
            f"history: got one without {name!r}; record what mutagrad.default_record does (runs of earlier versions lack it)"
        ) from None


def _columns(history: Any, resampled: bool | np.ndarray | None) -> dict[str, np.ndarray]:
    columns = {name: _column(history, name) for name in _NEEDED}
    number = len(columns["loss"])
    if number < 2:
        raise ValueError(f"history: got {number} generations; pass two or more")
    is_noise = np.asarray(resampled_generations(history) if resampled is None else resampled)
    if is_noise.shape not in ((), (number,)):
        raise ValueError(
            f"resampled: got shape {is_noise.shape} for {number} generations; pass one for each, or one for all"
        )
    noise = columns["squared_grad_noise"]
    return columns | {"squared_grad_noise": np.where(is_noise | ~np.isfinite(noise), noise, 0)}


def _window(columns: dict[str, np.ndarray], first: int, last: int) -> Regime:
    columns = {name: values[first:last] for name, values in columns.items()}
    # A generation of one offspring shows no variance, and one of two no third moment.
    num_offspring = 1 if not np.isfinite(columns["squared_grad_norm"]).any() else 2
    shows_third = np.isfinite(columns["gradient_curvature"]).any()
    sums, number = _block_sums(columns, num_offspring == 1, shows_third)
    # Leaving out one block after the other, and none.
    totals = sums.sum(axis=0) - np.concatenate([np.zeros((1, sums.shape[1])), sums])
    values = _pooled(totals, num_offspring == 1, 0 if shows_third else num_offspring)
    whole, without = values[:, 0], values[:, 1:]
    count = without.shape[1]
    with np.errstate(invalid="ignore"):
        errors = np.sqrt((count - 1) / count * np.sum((without - without.mean(axis=1, keepdims=True)) ** 2, axis=1))
    estimates = [Measured(float(value), float(error)) for value, error in zip(whole, errors, strict=True)]
    return Regime((first + last) / 2, number, *estimates)


def _block_sums(columns: dict[str, np.ndarray], has_one: bool, shows_third: bool) -> tuple[np.ndarray, int]:
    """Sums over blocks of consecutive generations, (blocks, sums); and how many generations."""
    sigma, trace, slope = columns["sigma"], columns["hessian_trace"], columns["squared_grad_norm"]
    curvature = columns["gradient_curvature"]
    usable = np.isfinite(trace) & np.isfinite(columns["squared_grad_noise"]) & (sigma > 0)
    usable &= (np.isfinite(slope) | has_one) & (np.isfinite(curvature) | (not shows_third))
    sigma, number = sigma[usable], int(usable.sum())
    scaled = trace[usable] * sigma / 2  # mean ΔU in units of σ
    each = np.stack(
        [
            np.ones(number),
            sigma**2,
            scaled * sigma,
            scaled**2 if has_one else slope[usable],
            columns["squared_grad_noise"][usable],
            columns["success"][usable],
            scaled,
            -columns["loss_change"][usable],
            3 * sigma * curvature[usable] if shows_third else scaled**3,
            sigma**3,
            scaled**2 * sigma,
            scaled * sigma**2,
        ]
    )
    parts = np.array_split(each, min(_BLOCKS, max(number, 1)), axis=1)
    return np.stack([part.sum(axis=1) for part in parts]), number


def _pooled(totals: np.ndarray, has_one: bool, third_of: int) -> np.ndarray:
    """All estimates, (estimates, columns), from sums (columns, sums): those of `Regime` from ``sigma`` on.

    ``third_of`` is M if the third cumulant has to come from the means of generations.
    """
    number, square, product, slope, noise, success, scaled, decrease, third, cube, mixed, linear = totals.T
    with np.errstate(divide="ignore", invalid="ignore"):
        half_trace = product / square
        trace = 2 * half_trace
        # For M = 1 the residual square of ΔU/σ = ½σTrH + noise, over its degrees of freedom.
        batch_slope = (slope - product * half_trace) / (number - 1) if has_one else slope / number
        if third_of:
            residual = third - 3 * half_trace * mixed + 3 * half_trace**2 * linear - half_trace**3 * cube
            third = third_of**2 * residual * number**2 / ((number - 1) * (number - 2))
        skewness = third / number / batch_slope**1.5
        noise = noise / number
        own_slope = batch_slope - noise
        strength = 2 * scaled / number / np.sqrt(batch_slope)
        signal = np.sqrt(np.maximum(own_slope, 0) / batch_slope)
        ratio = np.where(own_slope > 0, noise / own_slope, np.nan)
    predicted = stats.norm.cdf(-strength / 2)
    sigma = np.sqrt(square / number)
    values = [sigma, strength, success / number, predicted, trace, batch_slope, noise, own_slope, signal, ratio]
    values += [decrease / number, skewness]
    values[0] = np.broadcast_to(sigma[:1], sigma.shape)  # σ is known, not estimated
    return np.stack(values)
