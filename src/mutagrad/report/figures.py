"""Panels for the figures of claims, and the figures of a run, of its regime in windows, and of a diagnosis."""

from os import PathLike
from typing import Any

import numpy as np

from mutagrad.diagnostics import Diagnosis, Regime
from mutagrad.diagnostics.findings import draw
from mutagrad.diagnostics.plans import gain_on_batch
from mutagrad.diagnostics.prospects import SMALLEST_SIGNAL

__all__ = ["diagnosis", "panels", "save", "windows"]


def panels(columns: int, width: float = 4.8, rows: int = 1, height: float = 4) -> tuple[Any, np.ndarray]:
    """A figure of panels, drawn without a screen: the figure and its axes, row after row, (rows·columns,)."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        rows, columns, figsize=(width * columns, height * rows), layout="constrained", squeeze=False
    )
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes.ravel()


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
    save(sheet, path)


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
        ]
        if np.any(found.squared_grad_noise.value > 0):
            shown.append((axes[3], *found.signal[:2]))
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
    if not axes[3].lines:
        axes[3].text(0.5, 0.5, _UNSEEN, ha="center", va="center", transform=axes[3].transAxes, color="0.35")
        axes[3].set_xlim(axes[0].get_xlim())
    if len(groups) > 1:
        axes[0].legend(frameon=False, loc="best", fontsize=9)
    line = f"the dashed line is the s of most gain per generation {condition}".rstrip()
    sheet.suptitle(f"{title}; bands are one standard error, {line}", fontsize=10)
    save(sheet, path)


_UNSEEN = "unmeasured:\nno sampling noise\nis seen in the slope"


def _root(square: Any) -> tuple[np.ndarray, np.ndarray]:
    value = np.sqrt(np.maximum(square.value, 1e-300))
    return value, np.minimum(square.error / (2 * value), 0.99 * value)


def save(sheet: Any, path: str | PathLike) -> None:
    """Write a figure and forget it."""
    import matplotlib.pyplot as plt

    sheet.savefig(path, dpi=140)
    plt.close(sheet)
