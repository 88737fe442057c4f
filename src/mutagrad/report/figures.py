"""Panels for the figures of claims, and the figures of a run, of its regime in windows, and of a diagnosis."""

import itertools
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from mutagrad.diagnostics import Diagnosis, Regime
from mutagrad.diagnostics.diagnosis import SMALLEST_SIGNAL
from mutagrad.diagnostics.findings import draw
from mutagrad.diagnostics.plans import gain_on_batch

__all__ = ["diagnosis", "panels", "training_figure", "windows"]

_POINTS = 400
"""Points drawn of a long run: each is a median, with the 10–90 % range shaded."""


def _summarised(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centres of at most `_POINTS` blocks of generations, and their 10, 50 and 90 % quantiles."""
    edges = np.unique(np.linspace(0, len(values), _POINTS + 1).astype(int))
    blocks = [values[a:b][np.isfinite(values[a:b])] for a, b in itertools.pairwise(edges)]
    quantiles = np.array([np.quantile(block, (0.1, 0.5, 0.9)) if block.size else (np.nan,) * 3 for block in blocks])
    return (edges[:-1] + edges[1:] + 1) / 2, quantiles.T


def panels(columns: int, width: float = 4.8) -> tuple[Any, np.ndarray]:
    """A figure of one row of panels, drawn without a screen: the figure and its axes, (columns,)."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, columns, figsize=(width * columns, 4), layout="constrained", squeeze=False)
    for axis in axes[0]:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes[0]


def training_figure(
    history: Any, path: str | Path, title: str, best_strength: float | None = None, condition: str = ""
) -> None:
    """Draw loss, accuracy, σ and s of a run, and write it as an image.

    Parameters
    ----------
    history : xarray Dataset of a run, as `mutagrad train` writes it to history.zarr.
    path : image file; its suffix chooses the format.
    title : what was trained and how.
    best_strength : the s at which a generation gains most, drawn as a line, or ``None``.
    condition : what that leaves out, such as "without noise".
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(10, 6.4), sharex=True, layout="constrained")
    first = int(history.generation[0]) - 1
    panels = {
        "loss": (axes[0, 0], "training loss of the parent [nat]"),
        "sigma": (axes[1, 0], "mutation scale σ [parameter]"),
        "normalized_mutation_strength": (axes[1, 1], "normalised mutation strength s"),
    }
    for name, (axis, label) in panels.items():
        centres, (low, median, high) = _summarised(np.asarray(history[name], float))
        axis.fill_between(first + centres, low, high, color="C0", alpha=0.25, linewidth=0)
        axis.plot(first + centres, median, color="C0", linewidth=1.5)
        axis.set_ylabel(label)
    axes[0, 0].set_yscale("log")
    axes[1, 0].set_yscale("log")
    if best_strength is not None:
        held = np.asarray(history["normalized_mutation_strength"], float)
        is_above = np.mean(held[len(held) // 2 :] > best_strength) > 0.5  # the label goes where the curve is not
        axes[1, 1].axhline(best_strength, color="C3", linestyle="--", linewidth=1)
        axes[1, 1].annotate(
            f"most gain per generation, s = {best_strength:.2f}\n{condition}".strip(),
            (0.98, best_strength),
            xycoords=("axes fraction", "data"),
            xytext=(0.98, 0.05 if is_above else 0.98),
            textcoords="axes fraction",
            ha="right",
            va="bottom" if is_above else "top",
            color="C3",
            arrowprops={"arrowstyle": "-", "color": "C3", "linewidth": 0.8, "relpos": (1, 1 if is_above else 0)},
        )
        axes[1, 1].set_ylim(0, max(2 * best_strength, 1))
    axis = axes[0, 1]
    measured = history.measured_generation
    for name, label, color in (("test_accuracy", "test", "C1"), ("train_accuracy", "training", "C0")):
        if name in history:
            axis.plot(measured, 100 * history[name], marker=".", markersize=4, color=color, label=label)
    axis.set_ylabel("accuracy [%]")
    axis.legend(loc="lower right", frameon=False)
    for axis in axes[1]:
        axis.set_xlabel("generation")
    per_generation = int(history.attrs["evaluations_per_generation"])
    for axis in axes[0]:
        top = axis.secondary_xaxis("top", functions=(lambda x: x * per_generation, lambda x: x / per_generation))
        top.set_xlabel("loss evaluations (on one batch each)")
    for axis in axes.flat:
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title)
    _save(figure, path)


@draw.register
def diagnosis(found: Diagnosis, path: str | PathLike) -> None:
    """Draw the expected gain against σ for the planned numbers of offspring, per generation and per evaluation.

    Parameters
    ----------
    found : a diagnosis.
    path : image file; its suffix chooses the format.

    Raises
    ------
    ValueError : if no curvature was found, so that there is nothing to draw.
    """
    if not found.plans:
        raise ValueError("found: got a diagnosis that met no curvature, so that gain has no optimum; print it instead")
    sheet, axes = panels(2)
    best = found.best
    signal = float(max(best.signal.value, SMALLEST_SIGNAL)) if found.is_sampled else 1.0
    unit = best.squared_batch_grad_norm.value / best.hessian_trace.value
    scale = best.sigma.value / best.normalized_mutation_strength.value
    for place, one in enumerate(sorted(found.plans, key=lambda one: one.num_offspring)):
        strengths = np.geomspace(one.strength / 100, 3 * one.strength, 300)
        gains = unit * gain_on_batch(strengths, one.num_offspring, signal)
        for axis, share in zip(axes, (1, one.num_offspring + 1), strict=True):
            color = f"C{place}"
            axis.plot(scale * strengths, gains / share, color=color, label=f"M = {one.num_offspring}")
            axis.plot(one.sigma.value, one.gain.value / share, "o", markersize=5, color=color)
    for axis, name in zip(axes, ("per generation", "per evaluation"), strict=True):
        axis.set_xscale("log")
        axis.set_ylim(bottom=0)
        axis.set_xlabel("mutation scale σ [parameter]")
        axis.set_ylabel(f"expected decrease of the loss {name}")
        axis.grid(alpha=0.25)
        if found.current is not None:
            axis.axvline(found.current.sigma.value, color="0.4", linestyle="--", linewidth=1, label="σ asked about")
    axes[0].legend(frameon=False, loc="upper left")
    _save(sheet, path)


def windows(
    groups: dict[str, Regime], path: str | PathLike, title: str, best_strength: float, condition: str = ""
) -> None:
    """Draw s, slope, curvature and the share of signal against generations.

    Parameters
    ----------
    groups : the regime in windows of each group of parameters that took turns, by its name; one, named "", without groups.
    path : image file.
    title : what was trained and how.
    best_strength : the s at which a generation gains most, drawn as a line.
    condition : what that leaves out, such as "without noise".
    """
    sheet, axes = panels(4, width=3.6)
    for place, (name, found) in enumerate(groups.items()):
        shown: list[tuple[Any, Any, Any]] = [
            (axes[0], *found.normalized_mutation_strength[:2]),
            (axes[1], *_root(found.squared_batch_grad_norm)),
            (axes[2], *found.hessian_trace[:2]),
            (axes[3], *found.signal[:2]),
        ]
        for axis, value, error in shown:
            axis.plot(found.generation, value, color=f"C{place}", linewidth=1.5, label=name)
            axis.fill_between(
                found.generation, value - error, value + error, color=f"C{place}", alpha=0.25, linewidth=0
            )
    labels = (
        "s = σTrH/|∇U|",
        "|∇U| on a batch [loss/parameter]",
        "TrH [loss/parameter²]",
        "|∇U|/|∇U_B|, share of signal",
    )
    for axis, label in zip(axes, labels, strict=True):
        axis.set_title(label, fontsize=10)
        axis.set_xlabel("generation")
        axis.grid(alpha=0.25)
    axes[0].axhline(best_strength, color="C3", linestyle="--", linewidth=1)
    axes[0].set_ylim(bottom=min(0, axes[0].get_ylim()[0]))
    axes[1].set_yscale("log")
    axes[3].set_ylim(0, 1.05)
    if len(groups) > 1:
        axes[0].legend(frameon=False)
    line = f"the dashed line is the s of most gain per generation {condition}".rstrip()
    sheet.suptitle(f"{title}; bands are one standard error, {line}", fontsize=10)
    _save(sheet, path)


def _root(square: Any) -> tuple[np.ndarray, np.ndarray]:
    value = np.sqrt(np.maximum(square.value, 1e-300))
    return value, np.minimum(square.error / (2 * value), 0.99 * value)


def _save(sheet: Any, path: str | PathLike) -> None:
    import matplotlib.pyplot as plt

    sheet.savefig(path, dpi=140)
    plt.close(sheet)
