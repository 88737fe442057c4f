r"""Which kind of loss it is: smooth, rough, noisy or flat, by how opposite mutations part as σ grows (theory.md 9).

Half the difference of the losses of a pair of opposite mutations has no even term, and so neither curvature nor the luck of
the parent. Its mean square over pairs, the structure function, is

    E[a²] = A σ² + B σ^p,    A = |g|²,    p = 2H where the loss is rough (1 for many independent jumps), 0 where it is noisy

The second term is larger below σ_r = (B/A)^{1/(2−p)}: there the slope drowns.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy import special

from mutagrad.diagnostics.findings import describe
from mutagrad.estimate import Estimate

__all__ = ["ROUNDINGS", "Fit", "LossKind", "Rung", "fit_of", "kind_of"]

_STEP = 0.1
_EXPONENTS = np.arange(0, 1.31, _STEP)
"""Values of p that are tried; many independent jumps have 1. A loss of a larger p passes for one with a slope."""
_PER_DECADE = 24
_BEYOND = 100.0
"""σ_r is looked for so far beyond the scales that were seen; at the ends one of the two terms is all there is."""
SURE = 9.0
"""Twice the difference of log-likelihoods from which on a kind is excluded: by chance in 3 of 1000."""
_TWO_ERRORS = 4.0
ROUNDINGS = 30.0
"""Differences below so many roundings of the loss are taken to be rounding."""
_TIES = 0.1
"""Share of pairs that cost exactly the same from which on a loss has steps."""
_CHANCE = 1e-4
"""Of a false alarm, at each σ, that mutants evaluated twice differ by more than noise."""
_NOISE, _ROUGH = 0.5, 0.25
"""p is that of noise if two errors above it are below the first, of roughness if two errors below it are above the second."""


class Rung(NamedTuple):
    """Pairs of one σ: half the differences and half the sums, less the parent's loss, of their losses, (n,) [loss].

    ``again`` is by how much the losses of some mutants differed when they were evaluated twice (k,), and ``is_lost`` whether
    every mutant failed.
    """

    sigma: float
    odd: np.ndarray
    even: np.ndarray
    again: np.ndarray = np.zeros(0)
    is_lost: bool = False


class LossKind(NamedTuple):
    """Which kind of loss the mutations met.

    Attributes
    ----------
    name : "smooth", as far down as was looked; "rough", piecewise constant or with kinks at all scales; "noisy", another
        value each time, or one without relation to the value next to it, beside a slope; "noise", the same without a slope;
        "rough or noisy", "undecided", where these are not told apart, or smooth not from the others; "minimum", where
        opposite mutations cost the same; "flat", where nothing changes it; "rounding", where its changes are no larger than
        those of its digits; "failing", where fewer than four pairs of mutants had two finite losses.
    exponent : p, with which what is not slope grows, Var ∝ σ^p; NaN where there is none. Errors of this fit are a quarter of
        a 95 % likelihood interval.
    drowns_below : σ_r, below which more of the difference of two mutants is roughness or noise than slope; 0 for a smooth
        loss, with the largest that is not excluded as error; infinite where no slope was seen [parameter].
    has_slope : whether a slope was told from roughness and noise, at any σ.
    signal : the share of slope in the variance of a mutant's loss, at the σ asked about, or the best one.
    noise : standard deviation of a mutant's loss that is noise; NaN unless the loss is noisy [loss].
    sigmas : the smallest and the largest σ that were looked at [parameter].
    num_pairs : pairs of opposite mutations for each σ.
    failed, fails_from : the share of mutants that failed, from the smallest σ on at which one did; NaN where none did.
    differs_from : σ from which on mutants that were evaluated twice differ by more than their noise; NaN where that was not
        seen, or not looked for, as of a compiled loss [parameter].
    """

    name: str
    exponent: Estimate
    drowns_below: Estimate
    has_slope: bool
    signal: Estimate
    noise: Estimate
    sigmas: tuple[float, float]
    num_pairs: int
    failed: float = math.nan
    fails_from: float = math.nan
    differs_from: float = math.nan

    def __repr__(self) -> str:
        return describe(self)

    @property
    def tells_where(self) -> bool:
        """Whether the σ below which the slope drowns is told from 0."""
        return self.drowns_below.value > 2 * self.drowns_below.error and math.isfinite(self.drowns_below.value)


class Fit(NamedTuple):
    """All (p, σ_r) that were tried, (points,): how well they fit, and A for each.

    Attributes
    ----------
    exponent, scale : p and σ_r; 0 and infinity stand for no second, or no first, term.
    slope : A, the squared slope [loss²/parameter²].
    log_likelihood : of each, less that of the best.
    largest : the largest σ that was fitted [parameter].
    """

    exponent: np.ndarray
    scale: np.ndarray
    slope: np.ndarray
    log_likelihood: np.ndarray
    largest: float

    def interval(self, values: np.ndarray) -> tuple[float, float, float]:
        """Of what is computed for each point: at the best point, and the ends of a 95 % likelihood interval."""
        kept = values[2 * self.log_likelihood > -_TWO_ERRORS]
        return float(values[int(np.argmax(self.log_likelihood))]), float(kept.min()), float(kept.max())

    def signal(self, sigma: float) -> Estimate:
        """The share of slope at a σ."""
        with np.errstate(over="ignore"):
            return _estimate(*self.interval(1 / (1 + (self.scale / sigma) ** (2 - self.exponent))))

    def excluded(self, scale: float) -> float:
        """How surely a σ_r of 0, all slope, or infinity, no slope, is excluded: twice the difference of log-likelihoods."""
        return -2 * float(self.log_likelihood[self.scale == scale].max())

    def excludes(self, scale: float) -> bool:
        """Whether it is."""
        return self.excluded(scale) > SURE


def _estimate(value: float, low: float, high: float, unit: str = "") -> Estimate:
    return Estimate(value, (high - low) / 4, unit)


def fit_of(sigmas: np.ndarray, odd: list[np.ndarray]) -> Fit:
    """Fit A σ² + B σ^p to the mean squares of ``odd`` at each σ, by the likelihood of normal differences.

    Heavier tails than normal ones count as fewer pairs.

    >>> import numpy as np
    >>> from mutagrad.diagnostics.kind import fit_of
    >>> sigmas, rng = np.geomspace(1e-4, 1e-1, 4), np.random.default_rng(0)
    >>> fit = fit_of(sigmas, [np.sqrt(s**2 + 0.01**2) * rng.standard_normal(200) for s in sigmas])     # noise of 0.01
    >>> value, low, high = fit.interval(fit.scale)
    >>> low < 0.01 < high, fit.excludes(0.0), fit.excludes(np.inf)
    (True, True, True)
    """
    squares = np.array([np.mean(np.square(one)) for one in odd])
    numbers = []
    for one, square in zip(odd, squares, strict=True):
        fourth = np.mean(one**4) / square**2 if square > 0 else 3.0
        numbers.append(len(one) * 2 / max(fourth - 1, 2))
    number, middle = np.array(numbers), float(np.exp(np.mean(np.log(sigmas))))
    shape, decades = sigmas / middle, math.log10(sigmas.max() / sigmas.min() * _BEYOND**2)
    grid = np.geomspace(shape.min() / _BEYOND, shape.max() * _BEYOND, max(2, round(_PER_DECADE * decades)))
    exponents, scales = (one.ravel() for one in np.meshgrid(_EXPONENTS, np.concatenate([[0.0], grid, [np.inf]])))
    is_all = np.isinf(scales)[:, None]
    with np.errstate(over="ignore", invalid="ignore"):
        rest = np.where(scales > 0, scales, 0)[:, None] ** (2 - exponents[:, None]) * shape ** exponents[:, None]
    model = np.where(is_all, shape ** exponents[:, None], shape**2 + np.where(is_all, 0, rest))
    amplitude = (squares / model) @ number / number.sum()
    value = -0.5 * (np.log(amplitude[:, None] * model) + squares / (amplitude[:, None] * model)) @ number
    slope = np.where(is_all[:, 0], 0.0, amplitude / middle**2)
    return Fit(exponents, scales * middle, slope, value - value.max(), float(sigmas.max()))


def _fit(rungs: list[Rung]) -> Fit:
    return fit_of(np.array([one.sigma for one in rungs]), [one.odd for one in rungs])


def _apart(rung: Rung) -> bool:
    """Whether mutants of a σ differ by more than two evaluations of one of them do."""
    number, repeats = len(rung.odd), len(rung.again)
    if repeats < 4 or number < 4:
        return False
    # Half the difference of two evaluations has half the variance of one; two evaluations of one mutant have twice that.
    noise, size = np.mean(rung.again**2) / 4, np.mean(rung.odd**2)
    return bool(size > noise * special.fdtri(number, repeats, 1 - _CHANCE))


def kind_of(
    rungs: list[Rung],
    floor: float,
    sigma: float,
    digits: float = 0.0,
    places: float = 0.0,
    is_discrete: bool = False,
) -> tuple[LossKind, Fit | None]:
    """Which kind of loss pairs of several σ met.

    Parameters
    ----------
    rungs : of different σ, in any order, with pairs along the same directions or not.
    floor : what a difference of two losses may be by rounding alone [loss].
    sigma : where the share of signal is wanted [parameter].
    digits : the same in units of the loss, for mutants whose loss is far larger than the parent's.
    places : by how much the params of a mutant are rounded [parameter].
    is_discrete : whether mutants may tie because they have no mutation, and not because the loss has steps.
    """
    unknown = Estimate(math.nan, math.nan)
    rungs = sorted(rungs, key=lambda one: one.sigma)
    if not any(len(one.odd) > 3 for one in rungs):
        return _named("failing", rungs), None
    rungs = [one for one in rungs if len(one.odd) > 3]
    sizes = np.array([math.sqrt(np.mean(one.odd**2)) for one in rungs])
    if not any(one.odd.any() or one.even.any() for one in rungs):
        return _named("flat", rungs), None
    evens = np.array([np.mean(one.even) for one in rungs])
    # Where there is curvature a mutant has a slope of its own, √Tr(H²)σ, along which its params are rounded.
    curvature = math.sqrt(2) * float(np.median([np.std(one.even) / one.sigma**2 for one in rungs]))
    floors = ROUNDINGS * (floor + digits * np.abs(evens) + places * curvature * np.array([one.sigma for one in rungs]))
    # Of a loss with steps pairs may tie, where a slope that is seen further up would not be rounded away.
    largest = int(np.argmax(sizes))
    expected = sizes[largest] / rungs[largest].sigma
    has_steps = not is_discrete and any(
        np.mean(one.odd == 0) > _TIES and one.sigma * expected > least
        for one, least in zip(rungs[:largest], floors[:largest], strict=True)
    )
    told = [one for one, size, least in zip(rungs, sizes, floors, strict=True) if size > least]
    if len(told) < 2:
        is_minimum = bool(np.any(evens > ROUNDINGS * floor) and evens[-1] > ROUNDINGS * sizes[-1])
        return _named("minimum" if is_minimum else "rounding", rungs), None
    fit = _fit(told)
    is_smooth = not fit.excludes(0.0) and not has_steps
    has_slope = is_smooth
    if not is_smooth:
        # Far up a loss saturates, and its slope is no longer that of here.
        fits = [_fit(told[:number]) for number in range(3, len(told) + 1)]
        strongest = max(fits, key=lambda one: one.excluded(math.inf), default=fit)
        has_slope = strongest.excluded(math.inf) > SURE + 2 * math.log(max(1, len(fits)))
        # A slope that is more than the rest at one σ alone, the largest, is a scatter of that one.
        fitted = [one.sigma for one in told if one.sigma <= strongest.largest]
        has_slope = has_slope and strongest.interval(strongest.scale)[0] < fitted[-2]
        fit = strongest if has_slope else fit
    exponent, low, high = fit.interval(fit.exponent)
    scale, scale_low, scale_high = fit.interval(fit.scale)
    if is_smooth:
        kind = _named("smooth" if scale_high < told[-1].sigma else "undecided", told)
        signal = fit.signal(sigma)._replace(value=1.0)
        return kind._replace(drowns_below=Estimate(0.0, scale_high, "parameter"), has_slope=True, signal=signal), fit
    name = "rough or noisy"
    if has_steps or low > _ROUGH:
        name = "rough"
    elif high < _NOISE:
        name = "noisy"
    differs = min((one.sigma for one in told if _apart(one)), default=math.nan)
    if name == "noisy" and not has_slope:
        # Noise is of one size; if it is not, or if mutants differ by more, then it is not all there is.
        spreads = np.array([np.mean(one.odd**2) for one in told])
        grows = spreads[-1] > spreads[0] * special.fdtri(len(told[-1].odd), len(told[0].odd), 1 - _CHANCE)
        name = "rough or noisy" if grows or math.isfinite(differs) else "noise"
    # The directions are the same at every σ, and so is the error of their slope.
    shared = math.sqrt(2 / len(told[0].odd))
    drowns, signal = Estimate(math.inf, math.nan, "parameter"), Estimate(0.0, math.nan)
    if has_slope:
        seen = fit.signal(sigma)
        signal = seen._replace(error=math.hypot(seen.error, seen.value * (1 - seen.value) * shared))
        error = math.hypot((scale_high - scale_low) / 4, scale * shared / (2 - exponent))
        drowns = Estimate(scale, error, "parameter")
    noise = unknown
    if name in ("noisy", "noise"):
        first = told[0].odd * math.sqrt(2)
        size = math.sqrt(np.mean(first**2))
        noise = Estimate(size, size / math.sqrt(2 * len(first)), "loss")
    kind = _named(name, told)
    return kind._replace(
        exponent=Estimate(exponent, max((high - low) / 4, _STEP / 2)),
        drowns_below=drowns,
        has_slope=has_slope,
        signal=signal,
        noise=noise,
        differs_from=differs,
    ), fit


def _named(name: str, rungs: list[Rung]) -> LossKind:
    unknown = Estimate(math.nan, math.nan)
    ends = (rungs[0].sigma, rungs[-1].sigma)
    return LossKind(
        name,
        unknown,
        unknown._replace(unit="parameter"),
        False,
        unknown,
        unknown._replace(unit="loss"),
        ends,
        len(rungs[0].odd),
    )
