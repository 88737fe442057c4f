"""What a neighbour does to the fixation of a mutation: the exact chain of two loci in a small population of Wright and Fisher."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import special, stats

__all__ = ["NextOrder", "neutral_squares", "next_order"]

# Who carries the focal mutation and the neighbour: both, the focal one, the neighbour, none.
_CARRIED = np.array([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])


class NextOrder(NamedTuple):
    """Coefficients of a mutation's fixation probability beyond u₁s_k, over u₁; those of neighbours for a mutation rate of 1.

    A genome has the log fitness s_k y_k + s_j y_j − ½h_kk y_k² − h_kj y_k y_j − ½h_jj y_j²; y is what it carries less the mean.

    Attributes
    ----------
    slope : u₁. own : of s_k h_kk. cube : of s_k³. around : of s_j h_kj. bend : of s_k h_jj. spread : of s_k s_j².
    """

    slope: float
    own: float
    cube: float
    around: float
    bend: float
    spread: float


@functools.cache
def _states(size: int) -> tuple[np.ndarray, np.ndarray, dict[tuple, int]]:
    """(S, 4) how many genomes carry what; (S,) logarithms of the multinomial coefficients; the place of each."""
    counts = np.array(
        [
            (a, b, c, size - a - b - c)
            for a in range(size + 1)
            for b in range(size + 1 - a)
            for c in range(size + 1 - a - b)
        ]
    )
    ways = special.gammaln(size + 1) - special.gammaln(counts + 1).sum(1)
    return counts, ways, {tuple(one.tolist()): i for i, one in enumerate(counts)}


def _chain(size: int, parted: float, effects: tuple[float, ...]) -> np.ndarray:
    """(S, S) one generation: two parents by fitness, of which an offspring has both loci from one with 1 − ``parted``.

    effects : s_k, s_j, h_kk, h_kj, h_jj.
    """
    counts, ways, _ = _states(size)
    shares = counts / size
    focal, neighbour = (_CARRIED[None, :, i] - (shares @ _CARRIED[:, i])[:, None] for i in (0, 1))
    s_k, s_j, h_kk, h_kj, h_jj = effects
    log_fitness = (
        s_k * focal + s_j * neighbour - h_kk * focal**2 / 2 - h_jj * neighbour**2 / 2 - h_kj * focal * neighbour
    )
    parents = shares * np.exp(log_fitness)
    parents /= parents.sum(1, keepdims=True)
    # Rounding leaves no share below 0 or above 1.
    p, q = (np.clip(parents @ _CARRIED[:, i], 0, 1) for i in (0, 1))
    apart = np.stack([p * q, p * (1 - q), (1 - p) * q, (1 - p) * (1 - q)], axis=1)
    born = (1 - parted) * parents + parted * apart
    return np.exp(ways[None] + sum(special.xlogy(counts[None, :, i], born[:, None, i]) for i in range(4)))


def _alone(size: int, s: float, h: float) -> tuple[np.ndarray, np.ndarray]:
    """(n + 1,) fixation probability of a mutation alone by its carriers, and (n + 1,) generations that a new one has so many."""
    carriers = np.arange(size + 1)
    share = carriers / size
    odds = s - h / 2 * ((1 - share) ** 2 - share**2)
    chain = stats.binom.pmf(carriers[None], size, (share * np.exp(odds) / (share * np.exp(odds) + 1 - share))[:, None])
    between = np.eye(size - 1) - chain[1:size, 1:size]
    fixed, times = np.zeros(size + 1), np.zeros(size + 1)
    fixed[size] = 1.0
    fixed[1:size] = np.linalg.solve(between, chain[1:size, size])
    times[1:size] = np.linalg.solve(between.T, np.eye(size - 1)[0])
    return fixed, times


def _fixed_with_neighbour(size: int, parted: float, effects: tuple[float, ...]) -> float:
    """By how much neighbours that arise once a genome and generation change the fixation probability."""
    counts, _, place = _states(size)
    chain, carriers = _chain(size, parted, effects), counts[:, 0] + counts[:, 1]
    between = (carriers > 0) & (carriers < size)
    fixed = np.where(carriers == size, 1.0, 0.0)
    inside = np.eye(between.sum()) - chain[np.ix_(between, between)]
    fixed[between] = np.linalg.solve(inside, chain[np.ix_(between, carriers == size)].sum(1))
    alone, times = _alone(size, effects[0], effects[2])
    _, others = _alone(size, effects[1], effects[4])
    others[1] -= 1.0  # The two that arise in one generation are counted with the first.
    total = 0.0
    for c in range(1, size):
        # A neighbour arises in one of n genomes, c of which carry the focal mutation; or the other way round.
        on, off = fixed[place[1, c - 1, 0, size - c]], fixed[place[0, c, 1, size - c - 1]]
        total += times[c] * (c / size * on + (1 - c / size) * off - alone[c])
        on, off = fixed[place[1, 0, c - 1, size - c]], fixed[place[0, 1, c, size - c - 1]]
        total += others[c] * (c / size * on + (1 - c / size) * off - alone[1])
    return size * total


@functools.cache
def neutral_squares(size: int) -> tuple[float, float]:
    """Of a new neutral mutation among n genomes, p its share: the mean of (Σp(1 − p))² over its life, and that of Σp²."""
    share = np.arange(1, size) / size
    between = np.eye(size - 1) - stats.binom.pmf(np.arange(1, size)[None], size, share[:, None])
    one = share * (1 - share)
    times = np.linalg.solve(between.T, np.eye(size - 1)[0])
    return float(times @ (2 * one * np.linalg.solve(between, one) - one**2)), float(times @ share**2)


@functools.cache
def next_order(population_size: int, parted: float) -> NextOrder:
    """The coefficients for n genomes of Wright and Fisher, of which two parents are chosen by fitness.

    Parameters
    ----------
    population_size : n, from 3 to 20; the chain has (n + 1)(n + 2)(n + 3)/6 states.
    parted : probability that an offspring has two loci from different parents: ½ where they mix freely.

    Source: derivatives, by differences of 0.02/n and to six digits, of the exact chain of two loci; derived for this project.
    """
    step, size = 0.02 / population_size, population_size

    def at(**given: float) -> tuple[float, ...]:
        return tuple(given.get(one, 0.0) for one in ("s_k", "s_j", "h_kk", "h_kj", "h_jj"))

    def around(**given: float) -> float:
        return _fixed_with_neighbour(size, parted, at(**given))

    def own(s: float, h: float = 0.0) -> float:
        return float(_alone(size, s, h)[0][1])

    def mixed(function: Callable[..., float], first: str, second: str) -> float:
        signs = ((1, 1), (1, -1), (-1, 1), (-1, -1))
        return sum(a * b * function(**{first: a * step, second: b * step}) for a, b in signs) / (4 * step**2)

    slope = float(f"{(8 * (own(step) - own(-step)) - (own(2 * step) - own(-2 * step))) / (12 * step):.6g}")
    cube = (own(2 * step) - 2 * own(step) + 2 * own(-step) - own(-2 * step)) / (12 * step**3)
    # The mixed third derivative, half of it: the second in s_j of the first in s_k.
    sides = [
        around(s_k=a * step, s_j=step) + around(s_k=a * step, s_j=-step) - 2 * around(s_k=a * step) for a in (1, -1)
    ]
    found = (
        mixed(own, "s", "h"),
        cube,
        mixed(around, "s_j", "h_kj"),
        mixed(around, "s_k", "h_jj"),
        (sides[0] - sides[1]) / (4 * step**3),
    )
    assert math.isfinite(sum(found))
    # Differences of differences lose digits, not the same ones everywhere: six are kept.
    return NextOrder(slope, *(float(f"{one / slope:.6g}") for one in found))
