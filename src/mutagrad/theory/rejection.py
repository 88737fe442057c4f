"""What early rejection saves: the share of examples on which candidates must be evaluated to find the best (theory.md 8.5)."""

from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

from mutagrad import check

__all__ = ["examples_evaluated"]

_NODES, _WIDEST = 200, 10.0
"""Of the quadrature over how far the best is ahead, in standard deviations of a loss difference."""


def examples_evaluated(
    num_offspring: int, batch_size: int, noise_scale: Any, error: float = 0.01, part_size: int = 256
) -> np.ndarray:
    """Examples on which `mutagrad.early_rejection` evaluates the mean candidate of (1+M), as a share of the batch.

    Parameters
    ----------
    num_offspring : M.
    batch_size : n, the examples of the whole batch.
    noise_scale : B* = TrC/|∇U|² ≥ 0, the gradient noise scale, an array of any shape; 0 where there is no noise, NaN where it
        is not known [examples].
    error, part_size : as for `mutagrad.early_rejection`.

    Returns
    -------
    Array of the shape of ``noise_scale``, between the share of a part and 1; the parent, evaluated whole, counted in. It does not
    depend on σ.

    Raises
    ------
    ValueError : for a negative noise scale, as an estimate may be; for an ``error`` outside its domain.

    Domain: mutations small enough that losses are linear, many parameters, no few directions that dominate C. The probability to
    pass all looks is taken as that of the last one, which is a bound from above; by simulation the share is too large by less
    than 0.02. In runs of an MLP on MNIST it was too large by up to 0.064 (benchmarks/results/early_rejection.md).

    Source: theory.md 8.5, derived for this project.

    >>> from mutagrad.theory import examples_evaluated
    >>> [round(float(share), 2) for share in examples_evaluated(20, 60_000, [60_000, 6_000, 600])]
    [0.91, 0.66, 0.37]
    """
    number, size = check.count("num_offspring", num_offspring), check.count("batch_size", batch_size)
    part = min(check.count("part_size", part_size), size)
    scale = np.asarray(noise_scale, float)
    if np.any(scale < 0):
        raise ValueError(
            f"noise_scale: got {np.nanmin(scale):.4g}; pass numbers of 0 or more, and NaN for what is not known"
        )
    error = check.error_probability(error)
    num_parts = -(-size // part)
    done = np.array([count for count in 2 ** np.arange(32) if count < num_parts]) * part
    if len(done) == 0 or error == 0:
        return np.ones(scale.shape)
    needed = -ndtri(error / len(done))
    with np.errstate(divide="ignore"):
        noise = (1 / (size / scale + 1))[..., None, None]
    # In units of σ|g|: how far the best is ahead of the parent when a candidate comes, in the mean over the candidates.
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    ahead = _WIDEST / 2 * (nodes + 1)
    before = np.arange(number)[:, None]
    density = np.where(
        before > 0, before * ndtr(ahead) ** np.maximum(before - 1, 0) * np.exp(-(ahead**2) / 2) / np.sqrt(2 * np.pi), 0
    )
    weight, at_parent = _WIDEST / 2 * weights * density.mean(axis=0), np.mean(0.5 ** np.arange(number))

    def passes(ahead: np.ndarray, spread: float) -> np.ndarray:
        """Probability of a candidate to be judged no worse at a look; the last axis is looks."""
        blur = np.sqrt(noise * spread * (size / done - 1))
        return ndtr((needed * blur - ahead[:, None]) / np.sqrt(1 + blur**2))

    passed = at_parent * passes(np.zeros(1), 1.0)[..., 0, :]
    passed = passed + np.einsum("...al,a->...l", passes(ahead, 2.0), weight)
    following = np.append(done[1:], size)
    share = done[0] / size + np.sum(passed * (following - done) / size, axis=-1)
    return (1 + number * share) / (1 + number)
