"""Gains of (1+M) from the slopes and curvatures that mutations of a quadratic meet, for every s at once."""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import jax
import numpy as np
from scipy import stats

from mutagrad.lab.claims.claims import Job
from mutagrad.lab.claims.quadratics import Quadratic, gains, sphere_effects

__all__ = [
    "BLOCKS",
    "controlled_gains",
    "curvature_along",
    "in_blocks",
    "mean_gains",
    "mean_over_blocks",
    "on_sphere",
]

BLOCKS = 40


def on_sphere(key: int, size: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    """A and B of `sphere_effects` for so many mutations, in blocks from which errors are taken: (blocks, n) each."""
    return sphere_effects(np.random.default_rng((key, size)), size, (BLOCKS, math.ceil(number / BLOCKS)))


def in_blocks(job: Job, key: jax.Array, draw: Callable[..., Sequence], number: int) -> list[np.ndarray]:
    """What ``draw(key, number=n)`` returns for so many mutations, in blocks from which errors are taken: (blocks, ...) each."""
    found = []
    for block in range(BLOCKS):
        drawn = draw(jax.random.fold_in(key, block), number=math.ceil(number / BLOCKS))
        found.append([np.asarray(part, float) for part in drawn])
        job.progress((block + 1) / BLOCKS)
    return [np.stack(part) for part in zip(*found, strict=True)]


def mean_gains(
    slopes: np.ndarray, costs: np.ndarray, strengths: Sequence[float] | np.ndarray, num_offspring: int
) -> np.ndarray:
    """Mean decrease by a generation of (1+M) at every s, block by block: (blocks, strengths) [|∇U|²/TrH]."""
    return np.stack([gains(-s * slopes - s**2 / 2 * costs, num_offspring) for s in strengths], axis=1)


def mean_over_blocks(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over blocks, and its standard error."""
    return blocks.mean(0), blocks.std(0, ddof=1) / math.sqrt(len(blocks))


@lru_cache(maxsize=1)
def _normal_quantiles() -> np.ndarray:
    number = 200_000
    return stats.norm.ppf((np.arange(number) + 0.5) / number)


def controlled_gains(
    slopes: np.ndarray,
    costs: np.ndarray,
    strengths: Sequence[float] | np.ndarray,
    num_offspring: int,
    along: float = 0.0,
) -> np.ndarray:
    """`mean_gains` with less noise, by a control variate: the gains of the same slopes at B = 1 + κ(A² − 1).

    A is exactly normal, so that the mean of these is known from the quantiles of one normal number.

    Parameters
    ----------
    along : κ of `curvature_along`; any other value only leaves more noise.
    """

    def plain(slopes):
        return mean_gains(slopes, 1 + along * (slopes**2 - 1), strengths, num_offspring)

    return mean_gains(slopes, costs, strengths, num_offspring) - plain(slopes) + plain(_normal_quantiles()[None])


def curvature_along(quadratic: Quadratic) -> float:
    """κ = ĝ·Hĝ/TrH, the share of the curvature that lies along the gradient at the start."""
    unit = np.asarray(quadratic.curvatures * quadratic.start, float) / quadratic.gradient_norm
    return float(np.sum(np.asarray(quadratic.curvatures) * unit**2)) / quadratic.trace
