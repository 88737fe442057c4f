"""When a run will have lowered its loss further, from the loss that it recorded."""

import itertools
import math
from typing import Any, NamedTuple

import numpy as np
from scipy import optimize, special

from mutagrad import check
from mutagrad.diagnostics.findings import describe

__all__ = ["RunForecast", "forecast"]

_SPAN = 8.0
"""The fit sees the last generations of a run, from this share of it on: 1/8."""
_WINDOWS = 24
FEWEST = 200
"""Generations with a finite loss that a forecast needs."""
_EXPONENTS = np.concatenate([np.linspace(-0.9, -0.05, 18), np.linspace(0.05, 8, 160)])
_RATES = np.geomspace(0.3, 60, 120)
_PRIOR = np.concatenate([np.gradient(_EXPONENTS) / np.ptp(_EXPONENTS), np.gradient(np.log(_RATES)) / np.log(200)]) / 2
"""Powers uniform in their exponent, exponentials in the logarithm of their rate, as likely as each other."""
_SAMPLES = 4000
_PAST = (0.4, 0.5, 0.6, 0.7)
"""Parts of the run at which forecasts of today's loss are tried, to see how far they are off."""
_MOST = 1.5
"""A forecast that was off by more than this factor's logarithm is counted as off by it."""
_TEMPER = 10.0
"""By so much the evidence against a curve is divided. No run follows one of them: on quadratics intervals of 80 % that took
them at their word held 57 of 80, and 21 of 64 where they were worst (tests/diagnostics/test_forecast.py); with it they hold 74
of 80."""
_LEAST_ERROR = 0.2
"""A forecast is taken to be off by this at least, as a logarithm, however well those of the past did."""
_NOW = 0.05
"""The loss now is the mean over this share of the run, its last."""


class RunForecast(NamedTuple):
    """How many generations more a decrease of the loss takes.

    Attributes
    ----------
    loss : now, the mean over the last twentieth of the history [loss].
    decrease : asked about [loss].
    generations : as many more, as likely too few as too many; infinite if the loss more likely levels off before, or no longer
        changes.
    soonest, latest : the interval that holds the number with probability ``coverage``.
    coverage : as asked.
    """

    loss: float
    decrease: float
    generations: float
    soonest: float
    latest: float
    coverage: float

    def __repr__(self) -> str:
        return describe(self)


def forecast(history: Any, decrease: float | None = None, coverage: float = 0.8) -> RunForecast:
    r"""Forecast how many generations more it takes to lower the loss, with an interval.

    From an eighth of the run on the loss is taken to follow a power law $c + A t^{-b}$ in the generation t, or an exponential
    $c + A e^{-kt}$, to a level c that need not be 0. The interval comes from all of these that the loss allows: b and k weighted
    by their likelihood, c and A by their covariance, with errors enlarged until the best of them fits (the more, the further
    the loss was from now), and by how long its deviations hold on. It is widened to the factor by which forecasts of today's
    loss, made in the same way at 0.4 to 0.7 of the run, are off, a fifth at least. Since no run follows one of these curves, the
    evidence against each counts a tenth.

    Parameters
    ----------
    history : what `mutagrad.evolve` recorded, from its first generation on, or the history of a run folder; its ``loss`` is used.
    decrease : of the loss, from now; a tenth of the loss unless given [loss].
    coverage : of the interval, between 0 and 1.

    Returns
    -------
    RunForecast

    Raises
    ------
    ValueError : if there are fewer than 200 finite losses, or an argument is outside its domain.

    Domain: σ, batch and everything else go on as over the last seven eighths. Calibration: verification/results/forecast.md.
    Source: derived for this project.

    >>> import numpy as np
    >>> from mutagrad.diagnostics import forecast
    >>> t = np.arange(1, 1001)
    >>> noise = 1e-4 * np.random.default_rng(0).standard_normal(1000)
    >>> found = forecast({"loss": 0.5 + 10 / t + noise}, decrease=0.005)             # from 0.5103 to 0.5053: t = 1900
    >>> 650 < found.soonest < 890 < found.latest < 1250
    True
    """
    if not 0 < check.positive("coverage", coverage) < 1:
        raise ValueError(f"coverage: got {coverage!r}; pass a probability between 0 and 1, such as 0.8")
    loss = np.asarray(history["loss"], np.float64)
    time = np.arange(1, len(loss) + 1)
    is_known = np.isfinite(loss)
    if is_known.sum() < FEWEST:
        raise ValueError(f"history: got {is_known.sum()} generations with a finite loss; pass {FEWEST} or more")
    last = len(loss)
    now = float(np.mean(loss[is_known & (time > (1 - _NOW) * last)]))
    if decrease is not None:
        check.positive("decrease", decrease)
    time, loss = time[is_known], loss[is_known]
    windows = _windows(time, loss)
    is_level = _is_level(windows[1])
    if decrease is None:
        decrease = abs(now) / 10
        if decrease == 0 and not is_level:
            raise ValueError("decrease: got none for a loss that is 0 now, of which a tenth is 0; pass one")
    if is_level:
        return RunForecast(now, float(decrease), math.inf, math.inf, math.inf, coverage)
    reached = _times_to(now - decrease, *_samples(*windows), last)
    low, middle, high = np.quantile(reached - last, [(1 - coverage) / 2, 0.5, (1 + coverage) / 2], method="nearest")
    # As far off as it would have been in the past, in proportion.
    past = math.hypot(_LEAST_ERROR, _past_error(time, loss, now))
    factor = math.exp(special.ndtri((1 + coverage) / 2) * past)
    return RunForecast(
        now,
        float(decrease),
        float(middle),
        float(min(low, middle / factor)),
        float(max(high, middle * factor)),
        coverage,
    )


def _past_error(time: np.ndarray, loss: np.ndarray, now: float) -> float:
    """Root mean square of ln(time taken / time forecast) of forecasts of today's loss, made at parts of the run."""
    last, errors = int(time[-1]), []
    for share in _PAST:
        kept = time <= share * last
        before = np.mean(loss[kept & (time > (1 - _NOW) * share * last)])
        if kept.sum() < FEWEST // 4 or not before > now:
            continue
        made, windows = int(time[kept][-1]), _windows(time[kept], loss[kept])
        if _is_level(windows[1]):
            errors.append(_MOST)
            continue
        found = np.median(_times_to(now, *_samples(*windows), made)) - made
        # Nothing, or never, is off by the most that is counted.
        took = (1 - _NOW / 2) * last - made
        errors.append(np.clip(math.log(took / found), -_MOST, _MOST) if 0 < found < math.inf else _MOST)
    return math.sqrt(np.mean(np.square(errors))) if errors else _MOST


def _is_level(means: np.ndarray) -> bool:
    """Whether means are alike but for rounding: those of one number, taken so many times, differ in their last digits."""
    return bool(np.ptp(means) <= 16 * np.finfo(float).eps * np.max(np.abs(means)))


def _windows(time: np.ndarray, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean time, mean loss and its standard error, in windows equally long in ln t."""
    edges = np.geomspace(time[-1] / _SPAN, time[-1], _WINDOWS + 1)
    edges[-1] += 1
    rows = []
    for start, end in itertools.pairwise(edges):
        kept = (time >= start) & (time < end)
        if kept.sum() < 3:
            continue
        x, y = time[kept], loss[kept]
        # The scatter about a line, so that the descent within a window is no noise.
        slope = np.polynomial.polynomial.polyfit(x - x.mean(), y, 1)
        residual = y - np.polynomial.polynomial.polyval(x - x.mean(), slope)
        rows.append((x.mean(), y.mean(), math.sqrt(np.sum(residual**2) / (kept.sum() - 2) / kept.sum())))
    columns = np.array(rows).T
    return columns[0], columns[1], columns[2]


class _Fits(NamedTuple):
    """Weighted least squares of c + A φ(t/T), for every curve φ.

    Chi squared (curves,), the best (c, A) (curves, 2), their covariance (curves, 2, 2), the residuals (curves, windows).
    """

    chi: np.ndarray
    best: np.ndarray
    covariance: np.ndarray
    residual: np.ndarray


def _basis(share: np.ndarray) -> np.ndarray:
    """(curves, n): powers and exponentials of t/T."""
    powers = share[None] ** -_EXPONENTS[:, None]
    return np.concatenate([powers, np.exp(_RATES[:, None] * (1 - share[None]))])


def _fit(basis: np.ndarray, means: np.ndarray, variances: np.ndarray) -> _Fits:
    weight = 1 / variances
    center = basis @ weight / weight.sum()
    apart = basis - center[:, None]
    square = np.square(apart) @ weight
    amplitude = apart @ (weight * means) / square
    middle = float(weight @ means / weight.sum())
    residual = (means - middle - amplitude[:, None] * apart) * np.sqrt(weight)
    # c = middle − A center, and middle and A are uncorrelated.
    own, other = 1 / weight.sum(), 1 / square
    covariance = np.array([[own + center**2 * other, -center * other], [-center * other, other]]).transpose(2, 0, 1)
    return _Fits(
        np.sum(residual**2, axis=1), np.stack([middle - amplitude * center, amplitude], axis=1), covariance, residual
    )


def _samples(times: np.ndarray, means: np.ndarray, errors: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Curves and coefficients (samples, …) that the windows allow, and the time that scales them."""
    degrees, basis = len(times) - 3, _basis(times / times[-1])
    # No curve is a run's whole course, and the nearer to now the loss is, the better it should fit.
    away = np.abs(means - means[-1]) + np.abs(means[-2] - means[-1]) / 2
    floor = (1e-9 * np.ptp(means)) ** 2 + np.finfo(float).tiny

    def fits_of(share: float) -> _Fits:
        return _fit(basis, means, errors**2 + floor + (share * away) ** 2)

    def excess(log_share: float) -> float:
        return fits_of(math.exp(log_share)).chi.min() / degrees - 1

    # Enlarge the errors by as much as the best of the curves needs to fit.
    low, high = math.log(1e-6), math.log(10.0)
    share = math.exp(low)
    if excess(low) > 0:
        share = math.exp(optimize.brentq(excess, low, high, xtol=0.05)) if excess(high) < 0 else math.exp(high)
    fits = fits_of(share)
    residual = fits.residual[int(np.argmin(fits.chi))]
    # Deviations that hold on over windows count as fewer.
    correlation = float(np.clip(np.sum(residual[1:] * residual[:-1]) / np.sum(residual**2), 0, 0.9))
    inflation = _TEMPER * (1 + correlation) / (1 - correlation)
    weights = np.exp(-(fits.chi - fits.chi.min()) / (2 * inflation)) * _PRIOR
    generator = np.random.default_rng(0)
    chosen = generator.choice(len(weights), _SAMPLES, p=weights / weights.sum())
    normal = generator.standard_normal((_SAMPLES, 2)) * math.sqrt(inflation)
    roots = np.linalg.cholesky(fits.covariance)
    return chosen, fits.best[chosen] + np.einsum("sij,sj->si", roots[chosen], normal), float(times[-1])


def _times_to(target: float, curves: np.ndarray, coefficients: np.ndarray, scale: float, last: int) -> np.ndarray:
    """When each curve is at the target: now or later, or never."""
    level, amplitude = coefficients.T
    is_power = curves < len(_EXPONENTS)
    exponents = _EXPONENTS[np.where(is_power, curves, 0)]
    rates = _RATES[np.where(is_power, 0, curves - len(_EXPONENTS))]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        share = (target - level) / amplitude
        reached = scale * np.where(is_power, share ** (-1 / exponents), 1 - np.log(share) / rates)
    falls = amplitude * np.where(is_power, exponents, rates) > 0
    return np.where(falls & (share > 0) & np.isfinite(reached), np.maximum(reached, last), np.inf)
