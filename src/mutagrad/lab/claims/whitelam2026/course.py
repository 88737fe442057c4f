"""The mean course of (1+M) at a held s on power laws, with the rank to first order, and how far runs scatter about it.

With σ = s|∇U|/TrH in every generation the mean squares of the coordinates obey a linear recursion (theory.md 3.12). Selection
sees the curvature of every mutation too, which a finite rank leaves unequal (theory.md 3.10): the first order of that is here.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy import special

__all__ = ["Course", "crossing", "freedom_of", "mean_course", "measured_crossing", "next_term"]

_FEW = 10
"""Runs below which their scatter is no error: that of their generations is, of which few runs have hundreds."""
_GRID = np.linspace(-2.0, 9.0, 2201)


class Course(NamedTuple):
    """What is known of the generations to a loss before a run.

    Attributes
    ----------
    generations : to the target, by the mean loss; NaN where it is not met.
    error : standard deviation of one run's generations about them, by the noise that each generation adds to the loss there.
    """

    generations: float
    error: float


class _Spectrum(NamedTuple):
    """λ_k = k^−a in groups of neighbours at most a hundredth apart: curvatures, how many each stands for, and x_k²."""

    curvatures: np.ndarray
    counts: np.ndarray
    squares: np.ndarray


@lru_cache
def _spectrum(size: int, exponent: float, start: str) -> _Spectrum:
    every = np.arange(1, size + 1, dtype=float) ** -exponent
    edges = np.unique(np.concatenate([np.arange(min(size, 100)), np.geomspace(100, max(size, 101), 700).astype(int)]))
    edges = edges[edges < size]
    counts = np.diff(np.append(edges, size)).astype(float)
    curvatures = np.add.reduceat(every, edges) / counts
    return _Spectrum(curvatures, counts, 1 / curvatures if start == "even" else np.ones(len(counts)))


@lru_cache
def _moments(number: int) -> np.ndarray:
    """P(w > w_0), E[w; w > w_0] and E[w²; w > w_0] of the largest w of M normal numbers, at every w_0 of a grid: (3, grid)."""
    beyond = -np.expm1(number * special.log_ndtr(_GRID))
    steps = np.diff(_GRID)

    def tail(values: np.ndarray) -> np.ndarray:
        parts = (values[1:] + values[:-1]) / 2 * steps
        return np.append(np.cumsum(parts[::-1])[::-1], 0.0)

    return np.stack([beyond, _GRID * beyond + tail(beyond), _GRID**2 * beyond + tail(2 * _GRID * beyond)])


def crossing(losses: np.ndarray, target: float) -> float:
    """Generations after which a falling loss, from its value at 0 on, is at the target; between two by the logarithm."""
    after = int(np.argmax(losses <= target))
    if losses[after] > target or not after:
        return math.nan
    before, at = np.log(losses[after - 1]), np.log(losses[after])
    return float(after - 1 + (before - math.log(target)) / (before - at))


@lru_cache(maxsize=512)
def mean_course(
    size: int,
    exponent: float,
    start: str,
    target: float,
    strength: float,
    number: int,
    most: int,
    is_ranked: bool = True,
) -> Course:
    """Generations of (1+M) at a held s from a start of `power_law` to a loss, in the mean.

    An offspring gains v = s a − ½s² c in units of |∇U|²/TrH (theory.md 3.10), of variance V = s² + s⁴/2P and skewness γ. Let w be
    the normal number with the same quantile as v. To first order in the rank, given w,

        ĝ_k z_k has the mean ĝ_k² (s w/√V + s(κ − λ_k/TrH)(w² − 1)), downhill, and
        z_k² has the mean 1 − (s²λ_k/(TrH √V)) w + (s²/V) ĝ_k² (w² − 1).

    The best offspring has the largest w of M, and is taken where v > 0.

    Parameters
    ----------
    size, exponent, start : N, a and the start of `mutagrad.lab.claims.quadratics.power_law`.
    target : the loss. strength : s. number : M. most : generations that are tried.
    is_ranked : without it all mutations meet the same curvature, as in theory.md 3.12.

    Notes
    -----
    The variance of a run's loss at the target is the sum of what the generations add, each carried on to the end by the adjoint
    of the recursion: the gradient of the end's mean loss with respect to the squares.
    """
    curvatures, counts, squares = _spectrum(size, exponent, start)
    trace = float(counts @ curvatures)
    second, third = (float(counts @ curvatures**power) / trace**power for power in (2, 3))
    if not is_ranked:
        second = third = 0.0
    scale = math.sqrt(strength**2 + strength**4 / 2 * second)
    table, step = _moments(number), strength / trace
    losses, path = [float(counts @ (curvatures * squares)) / 2], []
    while losses[-1] > target and len(losses) <= most:
        slopes = curvatures**2 * squares
        norm = float(counts @ slopes)
        along = float(counts @ (slopes * curvatures)) / norm / trace if is_ranked else 0.0
        bend = (-3 * strength**4 * along - strength**6 * third) / scale**3 / 6
        # v > 0 from the root of m + √V (w + γ/6 (w² − 1)) on that is near −m/√V.
        cost = strength**2 / 2 / scale + bend
        lowest = 2 * cost / (1 + math.sqrt(max(1 + 4 * bend * cost, 0.0)))
        share, first, square = (float(np.interp(lowest, _GRID, one)) for one in table)
        rank = curvatures / trace if is_ranked else np.zeros_like(curvatures)
        down = strength / scale * first + (strength * (along - rank) if is_ranked else 0.0) * (square - share)
        across = share - strength**2 / scale * rank * first
        more = (strength / scale) ** 2 * (square - share)
        path.append((squares, norm, share, first, square, down, across, more, bend))
        # E[(x_k + Δ)²] for a step σ z_k, with σ = s|∇U|/TrH.
        squares = squares * (1 - 2 * step * curvatures * down) + step**2 * (norm * across + slopes * more)
        losses.append(float(counts @ (curvatures * squares)) / 2)
    generations = crossing(np.array(losses), target)
    if not math.isfinite(generations):
        return Course(math.nan, math.nan)
    carried, variance = curvatures / 2, 0.0
    for squares, norm, share, first, square, down, across, more, bend in reversed(path):
        # A mutation σz changes the loss at the end by 2σ u·z + σ²q·z², u_k = q_k x_k: what goes with w as selection has it, the
        # rest at random.
        sigma = step * math.sqrt(norm)
        spread = sigma**2 * norm + sigma**4 / 2 * float(counts @ curvatures**2)
        pull = 2 * sigma**2 * float(counts @ (carried * curvatures * squares))
        pull = (pull + sigma**4 * float(counts @ (carried * curvatures))) / math.sqrt(spread)
        whole = sigma**2 * float(counts @ carried)
        rest = (
            4 * sigma**2 * float(counts @ (carried**2 * squares)) + 2 * sigma**4 * float(counts @ carried**2) - pull**2
        )
        variance += max(rest, 0.0) * share
        # Where v is skewed a change of w moves it less at its upper end.
        pull *= max(1 + 2 * bend * first / share, 0.0)
        mean = whole * share - pull * first
        variance += whole**2 * share - 2 * whole * pull * first + pull**2 * square - mean**2
        carried = carried * (
            1 - 2 * step * curvatures * down + step**2 * curvatures**2 * more
        ) + step**2 * curvatures**2 * float(counts @ (carried * across))
    return Course(generations, math.sqrt(max(variance, 0.0)) / (losses[-2] - losses[-1]))


def freedom_of(runs: int) -> int | None:
    """Degrees of freedom of an error: from the scatter of runs, or from that of all generations where runs are few."""
    return runs - 1 if runs >= _FEW else None


def measured_crossing(losses: np.ndarray, target: float) -> tuple[float, float]:
    """Generations after which the mean loss over runs is at the target, and its standard error.

    The error is the scatter of the runs' losses there over the slope of their mean. Few runs have that of the sum of so many
    relative gains, which are independent: their variance is half the mean square difference of successive ones, which a slow
    fall of the mean does not touch.
    """
    mean = losses.mean(0)
    generations = crossing(mean, target)
    if not math.isfinite(generations):
        return math.nan, math.nan
    after = max(math.ceil(generations), 1)
    if len(losses) >= _FEW:
        share = generations - (after - 1)
        there = (1 - share) * losses[:, after - 1] + share * losses[:, after]
        return generations, float(there.std(ddof=1) / math.sqrt(len(losses)) / (mean[after - 1] - mean[after]))
    gains = -np.diff(np.log(losses[:, : max(after, 3) + 1]), axis=1)
    variance = np.mean(np.diff(gains, axis=1) ** 2) / 2
    last = gains[:, max(after - 3, 0) : after].mean()
    return generations, float(math.sqrt(variance * generations / len(losses)) / last)


def next_term(exponent: float, size: int) -> float:
    """What the next term of theory.md 4.2 adds to N^(1−a)/(1 − a), ln N or ζ(a), as a share of it."""
    if exponent == 1:
        return np.euler_gamma / math.log(size)
    if exponent < 1:
        return special.zeta(exponent) * (1 - exponent) * size ** (exponent - 1)
    return -(size ** (1 - exponent)) / (exponent - 1) / special.zeta(exponent)
