"""Figures of a loss landscape: profiles, effects of mutations, angles of updates, scores under corruption."""

import math
from os import PathLike
from typing import Any

import numpy as np
from scipy import stats

from mutagrad.diagnostics.findings import draw
from mutagrad.diagnostics.landscape import Flatness, MutationalEffects, Robustness, UpdateAngles
from mutagrad.diagnostics.landscape.comparison import mean_cosine
from mutagrad.report.figures import panels, save

__all__ = ["angles", "effects", "flatness", "overview", "robustness"]

_GRID = 0.25
_MOST_PLANES = 4


@draw.register
def flatness(found: Flatness, path: str | PathLike) -> None:
    """Draw the loss along directions with its mean, or over planes as level lines."""
    if found.dims == 1:
        sheet, axes = panels(1, width=5.6)
        _profiles(axes[0], found)
        save(sheet, path)
        return
    shown = found.changes[:_MOST_PLANES]
    sheet, axes = panels(len(shown), width=4.6)
    values = found.loss + shown
    low, high = np.nanmin(values), np.nanmax(values)
    levels: Any = np.linspace(low, high, 21) if high > low else 1
    for axis, plane in zip(axes, values, strict=True):
        drawn = axis.contourf(found.distances, found.distances, plane.T, levels, cmap="viridis")
        axis.plot(0, 0, "+", color="white", markersize=10)
        axis.set_aspect("equal")
        axis.set_xlabel(f"first direction [{found.unit}]")
        axis.set_ylabel(f"second direction [{found.unit}]")
    sheet.colorbar(drawn, ax=axes.tolist(), label="loss", shrink=0.85, ticks=np.linspace(low, high, 5), format="%.3g")
    save(sheet, path)


def _profiles(axis: Any, found: Flatness) -> None:
    profiles = found.loss + found.profiles
    axis.plot(found.distances, profiles.T, color="C0", linewidth=0.8, alpha=0.5)
    with np.errstate(invalid="ignore"):
        number = np.isfinite(profiles).sum(axis=0)
        mean = np.where(number > 0, np.nansum(profiles, axis=0) / np.maximum(number, 1), np.nan)
    axis.plot(found.distances, mean, color="C0", linewidth=2, label=f"mean of {found.num_directions} directions")
    if math.isfinite(found.width.value):
        for sign in (-1, 1):
            axis.axvline(sign * found.width.value, color="C3", linestyle="--", linewidth=1)
        axis.plot([], [], color="C3", linestyle="--", linewidth=1, label=f"mean rise of {found.rise:.3g}")
    axis.set_xlabel(f"distance [{found.unit}]")
    axis.set_ylabel("loss")
    axis.grid(alpha=_GRID)
    axis.legend(frameon=False)


@draw.register
def effects(found: MutationalEffects, path: str | PathLike) -> None:
    """Draw the distribution of ΔU beside the normal one, and how many beneficial effects exceed a size."""
    sheet, axes = panels(2, width=5)
    _histogram(axes[0], found)
    _exceedance(axes[1], found)
    save(sheet, path)


def _histogram(axis: Any, found: MutationalEffects) -> None:
    changes = found.changes[np.isfinite(found.changes)]
    if len(changes) and np.ptp(changes) > 0:
        low, high = np.quantile(changes, [0.005, 0.995])
        low, high = min(low, 0.0), max(high, 0.0)
        edges = np.linspace(low, high, 41)
        # An edge at 0, so that no bar holds both kinds.
        edges = edges - edges[np.argmin(np.abs(edges))]
        counts, _ = np.histogram(changes, edges)
        colors = np.where(edges[:-1] < -1e-12 * (high - low), "C2", "0.7")
        axis.bar(edges[:-1], counts, np.diff(edges), align="edge", color=colors)
        places = np.linspace(edges[0], edges[-1], 300)
        normal = stats.norm.pdf(places, changes.mean(), changes.std()) * len(changes) * (edges[1] - edges[0])
        axis.plot(places, normal, color="C0", linewidth=1.5, label="normal, same mean and spread")
        axis.set_ylim(0, 1.2 * max(counts.max(), normal.max()))
        axis.legend(frameon=False, fontsize=9, loc="upper right")
    axis.axvline(0, color="0.3", linewidth=1)
    title = f"{100 * found.beneficial.value:.3g} % lower the loss"
    if math.isfinite(found.predicted.value):
        title += f"; Φ(−s/2) is {100 * found.predicted.value:.3g} %"
    axis.set_title(title, fontsize=10)
    axis.set_xlabel("ΔU of a mutation [loss]")
    axis.set_ylabel("mutations")


def _exceedance(axis: Any, found: MutationalEffects) -> None:
    fit = found.pareto
    axis.set_xlabel("effect −ΔU of beneficial mutations [loss]")
    axis.set_ylabel("share that exceeds it")
    if fit is None:
        axis.set_title("too few beneficial mutations", fontsize=10)
        return
    excesses = np.sort(found.effects[found.effects > fit.threshold])
    axis.step(excesses, 1 - np.arange(len(excesses)) / len(excesses), where="pre", color="0.4", label="measured")
    places = np.linspace(fit.threshold, excesses[-1], 300)
    above = places - fit.threshold
    curves = [
        (stats.genpareto.sf(above, fit.shape.value, scale=fit.scale.value), "C3", f"Pareto, ξ = {fit.shape.value:.2f}"),
        (stats.expon.sf(above, scale=np.mean(excesses - fit.threshold)), "C1", "exponential"),
    ]
    if math.isfinite(found.strength.value):
        spread = np.nanstd(found.changes)
        bound = found.strength.value / 2
        start = stats.norm.logsf(bound + fit.threshold / spread)
        curves.append((np.exp(stats.norm.logsf(bound + places / spread) - start), "C0", "normal losses of this s"))
    for values, color, name in curves:
        axis.plot(places, values, color=color, linewidth=1.5, label=name)
    axis.set_yscale("log")
    axis.set_ylim(0.5 / len(excesses), 1.3)
    axis.grid(alpha=_GRID)
    axis.legend(frameon=False, fontsize=9)


@draw.register
def angles(found: UpdateAngles, path: str | PathLike) -> None:
    """Draw angles of batches, of pairs of mutations, and cosines of means of improving ones, beside theory."""
    sheet, axes = panels(2 + bool(found.batches), width=4.8)
    if found.batches:
        _batches(axes[0], found)
    _pairs(axes[-2], found)
    _means(axes[-1], found)
    save(sheet, path)


def _batches(axis: Any, found: UpdateAngles) -> None:
    sizes = [one.batch_size for one in found.batches]
    for one in found.batches:
        spread = np.degrees(np.arccos(one.cosines))
        axis.plot(np.full(len(spread), one.batch_size), spread, ".", color="0.75", markersize=3, zorder=1)
    axis.errorbar(
        sizes,
        [b.angle.value for b in found.batches],
        [b.angle.error for b in found.batches],
        fmt="o",
        color="C0",
        label="mean",
    )
    square = found.slope**2
    ends = np.geomspace(min(sizes) / 1.5, max(sizes) * 1.5, 200)
    law = np.degrees(np.arctan(np.sqrt(max(found.gradient_noise.value, 0) / (ends * square))))
    axis.plot(ends, law, color="C3", linewidth=1.5, label="by theory")
    axis.set_xscale("log")
    axis.set_ylim(bottom=0)
    axis.set_xlabel("batch size [examples]")
    axis.set_ylabel("angle to the gradient of all the data [degree]")
    axis.grid(alpha=_GRID)
    axis.legend(frameon=False)


def _pairs(axis: Any, found: UpdateAngles) -> None:
    axis.set_xlabel("angle of two mutations [degree]")
    axis.set_ylabel("density")
    if found.comparison is None:
        axis.set_title("too few improving mutations", fontsize=10)
        return
    both = [np.degrees(np.arccos(np.clip(one, -1, 1))) for one in (found.random_cosines, found.improving_cosines)]
    edges = np.histogram_bin_edges(np.concatenate(both), 30)
    for values, color, name in zip(both, ("0.6", "C2"), ("random", "improving"), strict=True):
        axis.hist(values, edges, density=True, histtype="step", color=color, linewidth=1.8, label=name)
    one = found.comparison
    axis.set_title(f"p = {one.p_value:.2g}, power {100 * one.power:.2g} %, {one.num_pairs:,} pairs", fontsize=10)
    axis.legend(frameon=False)


def _means(axis: Any, found: UpdateAngles) -> None:
    axis.set_xlabel("improving mutations in the mean, k")
    axis.set_ylabel("cosine of the mean with −∇U")
    if not found.means:
        axis.set_title("no gradient, or too few improving mutations", fontsize=10)
        return
    numbers = [one.number for one in found.means]
    errors = [np.nan_to_num(one.cosine.error) for one in found.means]
    strength = found.strength.value if math.isfinite(found.strength.value) else 0.0
    law = mean_cosine(np.array(numbers), found.num_mutated, strength)
    axis.errorbar(numbers, [one.cosine.value for one in found.means], errors, fmt="o", color="C0", label="measured")
    axis.plot(numbers, law, color="C3", linewidth=1.5, label="by theory")
    axis.plot(numbers, law[0] * np.sqrt(np.array(numbers) / numbers[0]), color="C3", linestyle=":", label="√k")
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.grid(alpha=_GRID)
    axis.legend(frameon=False)


@draw.register
def robustness(found: Robustness, path: str | PathLike) -> None:
    """Draw the score against the level for each corruption; bands of the errors over examples and draws."""
    sheet, axes = panels(1, width=5.6)
    order = np.argsort(found.levels)
    levels = np.array(found.levels)[order]
    for place, name in enumerate(found.names):
        value = found.scores.value[place, order]
        error = np.hypot(*(np.nan_to_num(one[place, order]) for one in (found.scores.error, found.draw_errors)))
        color = f"C{place % 10}" if place < 10 else None
        (line,) = axes[0].plot(levels, value, "o-", color=color, markersize=4, label=name)
        axes[0].fill_between(levels, value - error, value + error, color=line.get_color(), alpha=0.2, linewidth=0)
    axes[0].axhline(found.clean.value, color="0.4", linestyle="--", linewidth=1, label="none")
    axes[0].set_xlabel("level of corruption")
    axes[0].set_ylabel("score")
    axes[0].grid(alpha=_GRID)
    axes[0].legend(frameon=False, fontsize=9)
    save(sheet, path)


def overview(flat: Flatness, effect: MutationalEffects, path: str | PathLike, title: str) -> None:
    """Draw profiles and effects of mutations of one place on one sheet.

    Parameters
    ----------
    flat : of one dimension. effect : at the same params. path : image file. title : what was trained.
    """
    sheet, axes = panels(3, width=4.8)
    _profiles(axes[0], flat)
    _histogram(axes[1], effect)
    _exceedance(axes[2], effect)
    sheet.suptitle(title, fontsize=10)
    save(sheet, path)
