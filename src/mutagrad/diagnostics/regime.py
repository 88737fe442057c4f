"""The regime of a run from what it recorded, pooled over generations, with standard errors (theory.md 3 and 8)."""

import itertools
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from mutagrad import check
from mutagrad.diagnostics.findings import describe
from mutagrad.diagnostics.jackknife import BLOCKS, jackknife
from mutagrad.diagnostics.kind import ROUNDINGS
from mutagrad.diagnostics.looks import looks
from mutagrad.diagnostics.luck import luck_of
from mutagrad.estimate import Estimate
from mutagrad.estimates import moments
from mutagrad.types import Algorithm, Definition, UnknownDefinition

__all__ = ["Regime", "regime"]

_RECORDS = (
    "sigma success loss_change validated_change num_examples is_resampled "
    "hessian_trace squared_grad_norm squared_grad_noise gradient_curvature"
)


_COMPARABLE = 3.0
"""Generations whose σ differ by no more than this factor are pooled."""
_APART = 10.0
"""By so much σ must have changed to tell how the spread of the losses goes with it."""
_OF_NOISE = 0.5
"""Exponents that are surely less are those of noise."""
_CERTAIN = 4.0
"""Standard errors of luck from which on it is spoken of, as in `mutagrad.adapt_sigma`."""


class Regime(NamedTuple):
    """Slope, curvature, noise and normalised mutation strength, over some generations or from pairs of mutations at one place.

    Every quantity is an `Estimate`; one that was not measured is NaN. Values and errors are arrays, one entry a window, if
    windows were asked for.

    Attributes
    ----------
    generation : the middle of the window, counted from the first generation of the history; ``None`` for pairs.
    number : generations, or pairs, that told something; generations of which every offspring failed do not.
    sigma : root mean square of the mutation scale [parameter]; its error is 0.
    normalized_mutation_strength : s = σTrH/|g_B|, with |g_B| on the batch or the examples at hand.
    success, predicted_success : the share of offspring no worse than their parent, and Φ(−s/2), what s predicts for it.
    hessian_trace : TrH [loss/parameter²].
    squared_batch_grad_norm : |g_B|² of the batches, with their sampling noise [loss²/parameter²].
    squared_grad_noise : TrC/B, the part of it that is sampling noise [loss²/parameter²]. It is 0 where the batch was the same
        each generation, and 0 for a scalar loss, which does not show it.
    squared_grad_norm : |g|² = |g_B|² − TrC/B, without it; negative at times where the noise is most of |g_B|².
    signal : |g|/|g_B|, the share of the drift that goes down the loss itself.
    noise_scale : TrC/|g|², the gradient noise scale [examples]; NaN where there is no noise, or |g|² is not positive.
    decrease : mean decrease of a batch's loss by the generation that met it [loss]. Where the next parent is none of the
        candidates it is the decrease on the batch after.
    skewness : of the losses of offspring, κ₃(ΔU)/Var(ΔU)^1.5; 0 for normal ones. Curvature along the slope makes it
        3σ ĝ·Hĝ/|g_B|, and few dominating curvatures √8 Tr(H³)/Tr(H²)^1.5 far from where they are small.
    participation_ratio : (TrH)²/Tr(H²), from pairs of gaussian mutations alone; too large by about a share 2/n + 4/n P of
        itself for n pairs.
    validated_share : what the steps were worth on the batches after, in units of what they gained on the batches that selected
        them; NaN unless batches changed and the algorithm evaluates the parent before.
    curvature_along : ρ = ĝ·Hĝ/TrH, the share of the curvature that lies along the slope of the batch, by the third moment of
        offspring's losses, to which dominating curvatures add. It shortens the best step of weighted recombination.
    num_given : generations that the history holds, of which the last ones with a comparable σ were used.
    sigma_range : the smallest and the largest σ of those that were used [parameter].
    spread_exponent : p of Var(ΔU) ∝ σ^p over the offspring of all generations given; NaN unless their σ differ by a factor of
        10. Since σ follows the loss it is no measure of roughness; that it is near 0 tells noise.
    kind : of the loss, where a history tells: "noise", "rounding", "flat", "rough or of low rank" by the luck; otherwise "", and
        `mutagrad.diagnose` tells.
    luck : of the chosen parent, in standard deviations of its offspring's losses; s counts it as curvature. NaN where unknown.
    is_resampled : whether batches changed.
    num_failed : generations, of the last ones that σ was comparable in, with an offspring or a parent without a finite loss.
    definition : of the algorithm, if it was passed; what the regime is held against.
    """

    generation: Any
    number: Any
    sigma: Estimate
    normalized_mutation_strength: Estimate
    success: Estimate
    predicted_success: Estimate
    hessian_trace: Estimate
    squared_batch_grad_norm: Estimate
    squared_grad_noise: Estimate
    squared_grad_norm: Estimate
    signal: Estimate
    noise_scale: Estimate
    decrease: Estimate
    skewness: Estimate
    participation_ratio: Estimate
    validated_share: Estimate = Estimate(np.nan, np.nan)
    curvature_along: Estimate = Estimate(np.nan, np.nan)
    num_given: int = 0
    sigma_range: tuple[float, float] = (np.nan, np.nan)
    spread_exponent: Estimate = Estimate(np.nan, np.nan)
    kind: str = ""
    luck: Estimate = Estimate(np.nan, np.nan)
    is_resampled: bool = False
    num_failed: int = 0
    definition: Definition | UnknownDefinition | None = None

    def __repr__(self) -> str:
        return describe(self)


_UNITS = ("parameter", "", "", "", "loss/parameter²", *["loss²/parameter²"] * 3, "", "examples", "loss", *[""] * 4)


def regime(history: Any, num_windows: int | None = None, algorithm: Algorithm | None = None) -> Regime:
    """The regime that a run was in at its end, or in windows.

    Unless windows are asked for it is that of the last generations over which σ stayed within a factor of 3, 20 at least.
    Numerators and denominators are pooled over the generations, and ratios taken last: TrH = 2ΣΔU/Σσ², the least squares
    of ΔU on ½σ²; |g_B|² is the mean over generations, for M = 1 the variance of the residuals of that fit. Standard errors
    are those of a jackknife over 20 blocks of consecutive generations. They hold for correlated generations, and widen with
    what changes in the window.

    Parameters
    ----------
    history : what `mutagrad.default_record` recorded (a dict of arrays), or the history of a run folder (xarray); any M.
        To judge an earlier part of a run, pass a part of its arrays.
    num_windows : K ≥ 1 windows of all of the run, of as many generations each; fewer where a window would hold fewer than
        20 generations. One window, and scalars, unless given.
    algorithm : what the run was of. With it, `print` and `mutagrad.diagnostics.findings` hold s against the best one, and the
        decrease against what slope and curvature promise.

    Returns
    -------
    Regime. (value − truth)/error is close to a Student t of 19 degrees, from 20 generations on.

    Raises
    ------
    ValueError : if the history lacks a record that is needed, or holds fewer than two generations.

    Domain: mutations of covariance σ²I, and a window in which the loss's slope and curvature change little: of quantities
    that change, what is estimated is their mean over the window. |g_B|² contains a share s²/2P of curvature
    (`mutagrad.estimates`), and s is too small by half of that. For M = 1 and 2 the skewness is that of the mean of a
    generation's losses over the window.

    Source: theory.md 3 and 8, derived for this project, tested in tests/diagnostics/test_regime.py.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> algorithm = mutagrad.greedy(sigma=0.001)                                    # M = 1
    >>> loss_fn = lambda x: 100 * jnp.sum(x) + jnp.sum(x**2) / 2
    >>> result = mutagrad.evolve(jax.random.key(0), algorithm, jnp.zeros(64), loss_fn, 400, progress=False)
    >>> found = mutagrad.diagnostics.regime(result.history)
    >>> abs(found.squared_grad_norm.value / (64 * 100**2) - 1) < 4 * found.squared_grad_norm.error / (64 * 100**2)
    True
    >>> mutagrad.diagnostics.regime(result.history, num_windows=8).generation.shape
    (8,)
    """
    columns = {name: _column(history, name) for name in _RECORDS.split()}
    number = len(columns["sigma"])
    if number < 2:
        raise ValueError(f"history: got {number} generations; pass two or more")
    definition = None if algorithm is None else check.algorithm(algorithm).definition
    columns["is_look"] = looks(columns["sigma"]) & (columns["is_resampled"] > 0)
    # The step of a generation is judged by the batch of the next.
    columns["claimed"] = np.concatenate([[np.nan], -columns["loss_change"][:-1]])
    if num_windows is None:
        held = np.flatnonzero(~columns["is_look"])
        held = held[_comparable(columns["sigma"][held]) :]
        first, used = int(held[0]), columns["sigma"][held]
        whole = _window(columns, first, number)
        found = of_values(*whole[2:], whole[0].tolist(), whole[1].tolist(), definition)
        exponent, luck = _spread_exponent(columns), luck_of(columns)
        return found._replace(
            num_given=number,
            sigma_range=(float(used.min()), float(used.max())),
            spread_exponent=exponent,
            kind=_kind(found, exponent, luck, history, first),
            luck=luck,
            is_resampled=bool(np.any(columns["is_resampled"][first:] > 0)),
            num_failed=_num_failed(history, first),
        )
    num_windows = max(1, min(check.count("num_windows", num_windows), number // BLOCKS))
    edges = np.linspace(0, number, num_windows + 1).astype(int)
    windows = [_window(columns, a, b) for a, b in itertools.pairwise(edges)]
    values, errors, middles, told = (np.array(part) for part in zip(*windows, strict=True))
    return of_values(middles, told, values.T, errors.T, definition)


def _num_failed(history: Any, first: int) -> int:
    """Generations from the first on in which a parent or an offspring had no finite loss, as far as that was recorded."""
    number = len(np.asarray(history["sigma"])[first:])
    loss, failed = (history.get(name) for name in ("loss", "num_nonfinite"))
    has_failed = np.zeros(number, bool)
    if loss is not None:
        has_failed |= ~np.isfinite(np.asarray(loss, np.float64)[first:])
    if failed is not None:
        has_failed |= np.asarray(failed)[first:] > 0
    return int(has_failed.sum())


def _spread_exponent(columns: dict[str, np.ndarray]) -> Estimate:
    """The regression of ln Var(ΔU) on ln σ."""
    with np.errstate(divide="ignore", invalid="ignore"):
        rows = {"x": np.log(columns["sigma"]), "y": np.log(columns["squared_grad_norm"] * columns["sigma"] ** 2)}
    is_known = np.isfinite(rows["x"]) & np.isfinite(rows["y"])
    rows = {name: one[is_known] for name, one in rows.items()}
    if len(rows["x"]) < 2 * BLOCKS or np.ptp(rows["x"]) < np.log(_APART):
        return Estimate(np.nan, np.nan)

    def slope(rows: dict[str, np.ndarray]) -> np.ndarray:
        x = rows["x"] - rows["x"].mean()
        return np.array([x @ rows["y"] / (x @ x)])

    (value,), (error,) = jackknife(slope, rows)
    return Estimate(float(value), float(error))


def _kind(found: Regime, exponent: Estimate, luck: Estimate, history: Any, first: int) -> str:
    # A user's own record may leave the loss out.
    loss = np.asarray(history.get("loss", []))[first:]
    sizes = np.abs(loss[np.isfinite(loss)].astype(np.float64))
    if not found.squared_batch_grad_norm.value > 0:
        return "flat" if found.hessian_trace.value == 0 else ""
    spread = found.sigma.value * np.sqrt(found.squared_batch_grad_norm.value)
    number = np.mean(np.asarray(history["num_examples"], np.float64)[first:])
    if len(sizes) and spread < ROUNDINGS * _epsilon(loss, history, first) * np.median(sizes) / np.sqrt(number):
        return "rounding"
    if exponent.value + 2 * exponent.error < _OF_NOISE:
        return "noise"
    return "rough or of low rank" if luck.value > _CERTAIN * luck.error else ""


def _epsilon(loss: np.ndarray, history: Any, first: int) -> float:
    """Rounding unit of the losses of a run; 0 where it is not known."""
    if not np.issubdtype(loss.dtype, np.floating):
        return 0.0
    # Losses of ordinary Python are compared before they are rounded to what is recorded.
    if history.get("num_exceptions") is not None and loss.dtype == np.float32:
        change, number = (np.asarray(history[name], np.float64)[first:] for name in ("loss_change", "num_examples"))
        is_told = np.isfinite(loss) & (np.abs(change) < np.abs(loss) / 4) & (number == 1)
        # The difference of two numbers of single precision as near as that is a multiple of their spacing.
        if np.any(np.mod(change[is_told], np.spacing(np.abs(loss[is_told])) / 4)):
            return float(np.finfo(np.float64).eps)
    return float(np.finfo(loss.dtype).eps)


def _comparable(sigma: np.ndarray) -> int:
    """Where the last stretch begins over which σ stayed within a factor of 3; it holds at least 20 generations if there are."""
    low, high = np.minimum.accumulate(sigma[::-1]), np.maximum.accumulate(sigma[::-1])
    number = int(np.sum(high <= _COMPARABLE * low))
    return max(0, len(sigma) - max(number, BLOCKS))


def of_values(generation: Any, number: Any, values: Any, errors: Any, definition: Any) -> Regime:
    """A regime from the values of `quantities` and their errors."""
    errors = [0 * values[0], *errors[1:]]  # σ is known
    fields: list[Any] = [generation, number, *map(Estimate, values, errors, _UNITS)]
    return Regime(*fields)._replace(definition=definition)


def unknown_regime(sigma: float) -> Regime:
    """The regime at a σ of which nothing was told."""
    return of_values(None, 0, [sigma, *[np.nan] * 14], [np.nan] * 15, None)


def quantities(
    sigma: Any, half_trace: Any, batch_slope: Any, noise: Any, success: Any, num_examples: Any, *others: Any
) -> np.ndarray:
    """All quantities of `Regime` from ``sigma`` on; ``others`` are its last five."""
    strength, own_slope = 2 * half_trace * sigma / np.sqrt(batch_slope), batch_slope - noise
    predicted, signal = special.ndtr(-strength / 2), np.sqrt(np.maximum(own_slope, 0) / batch_slope)
    scale = noise * num_examples / own_slope if noise > 0 and own_slope > 0 else np.nan
    values = [sigma, strength, success, predicted, 2 * half_trace, batch_slope, noise, own_slope, signal, scale]
    return np.array([*values, *others])


def _column(history: Any, name: str) -> np.ndarray:
    try:
        return np.asarray(history[name], np.float64)
    except (KeyError, TypeError, IndexError):
        raise ValueError(
            f"history: got one without {name!r}; record what mutagrad.default_record does (runs of earlier versions lack it)"
        ) from None


def _window(columns: dict[str, np.ndarray], first: int, last: int) -> tuple[np.ndarray, np.ndarray, float, int]:
    rows = {name: values[first:last] for name, values in columns.items()}
    noise = rows["squared_grad_noise"]
    usable = np.isfinite(rows["hessian_trace"]) & np.isfinite(noise) & (rows["sigma"] > 0) & ~rows["is_look"]
    for name in ("squared_grad_norm", "gradient_curvature"):
        # A generation of one offspring shows no variance, and one of two no third moment.
        is_known = np.isfinite(rows[name])
        usable &= is_known | ~is_known.any()
    rows["squared_grad_noise"] = np.where(rows["is_resampled"], noise, 0)
    rows["decrease"] = -np.where(np.isfinite(rows["loss_change"]), rows["loss_change"], rows["validated_change"])
    rows = {name: values[usable] for name, values in rows.items()}
    return *jackknife(_values, rows), (first + last) / 2, int(usable.sum())


def _values(rows: dict[str, np.ndarray]) -> np.ndarray:
    sigma = rows["sigma"]
    number = np.float64(len(sigma))
    scaled = rows["hessian_trace"] * sigma / 2  # mean ΔU of a generation, in units of σ
    half_trace = np.sum(sigma * scaled) / np.sum(sigma**2)
    # Where a generation does not show its moments, the residuals of the generations' means do.
    residual = moments(scaled - half_trace * sigma, np.zeros_like(sigma), 1.0)
    batch_slope, num_offspring = np.sum(rows["squared_grad_norm"]) / number, 2
    if not np.isfinite(batch_slope):
        batch_slope, num_offspring = residual.variance, 1
    third = np.sum(3 * sigma * rows["gradient_curvature"]) / number
    if not np.isfinite(third):
        third = num_offspring**2 * residual.skewness * residual.variance**1.5
    is_known = np.isfinite(rows["decrease"])
    # TrC/B is averaged over generations, so that the number of examples that belongs to it is the harmonic mean.
    num_examples = number / np.sum(rows["is_resampled"] / rows["num_examples"])
    noise, success = np.sum(rows["squared_grad_noise"]) / number, np.sum(rows["success"]) / number
    decrease = np.sum(rows["decrease"][is_known]) / np.float64(is_known.sum())
    judged = np.isfinite(rows["claimed"]) & np.isfinite(rows["validated_change"]) & (rows["is_resampled"] > 0)
    share = -np.sum(rows["validated_change"][judged]) / np.sum(rows["claimed"][judged])
    scale = np.sqrt(np.sum(sigma**2) / number)
    others = (decrease, third / batch_slope**1.5, np.nan, share, third / (6 * scale * batch_slope * half_trace))
    return quantities(scale, half_trace, batch_slope, noise, success, num_examples, *others)
