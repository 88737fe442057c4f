"""The luck of the chosen parent, from what a run recorded: where there is any, s counts it as curvature (theory.md 9)."""

from typing import Any

import numpy as np

from mutagrad.control.response import Response
from mutagrad.estimate import Estimate

__all__ = ["luck_of"]

_ACCEPTED = 40
"""Accepted generations that are looked at, the last ones: as many as `mutagrad.adapt_sigma` remembers."""
_FEWEST = 9
_OUTLIER = 8.0


def luck_of(columns: dict[str, np.ndarray]) -> Estimate:
    """By how much the parent is better than its surroundings by chance, in standard deviations of its offspring's losses.

    With S the selection differential, R the response to it in the next generation, L by how much the mean offspring is worse,
    and h² the regression of R on S, luck is R + L − h²S: what the mean offspring is worse by, and selection does not explain.

    Parameters
    ----------
    columns : sigma, hessian_trace, squared_grad_norm, loss_change, is_resampled of the generations of a run, (n,) each.

    Returns
    -------
    Estimate; NaN for fewer than nine accepted generations, where batches change, or with fewer than three offspring.

    Domain: smooth losses of which few curvatures dominate show luck too, where σ is large for them.
    """
    sigma, change = columns["sigma"][:-1], columns["loss_change"][:-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = columns["hessian_trace"] * columns["sigma"] ** 2 / 2
        spread = np.sqrt(columns["squared_grad_norm"][:-1]) * sigma
        load = mean[:-1] / spread
        differential = np.clip(load - change / spread, 0, _OUTLIER)
        after = mean[1:] * (sigma / columns["sigma"][1:]) ** 2 / spread
        response = np.clip(load - change / spread - after, -_OUTLIER, _OUTLIER)
    kept = np.isfinite(differential) & np.isfinite(response) & (change < 0) & ~(columns["is_resampled"][1:] > 0)
    differential, response, load = (one[kept][-_ACCEPTED:] for one in (differential, response, load))
    number = len(load)
    if number < _FEWEST:
        return Estimate(np.nan, np.nan)
    sums = (differential, response, np.clip(load, -_OUTLIER, _OUTLIER))
    squares = (differential**2, differential * response, response**2)
    totals: list[Any] = [np.sum(one) for one in (np.ones(number), *sums, *squares)]
    value, error = Response(*totals).estimate()
    return Estimate(float(value), float(error))
