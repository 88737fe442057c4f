"""Figures of a diagnosis and of the course of a run."""

from os import PathLike
from typing import Any

import numpy as np

from mutagrad.diagnostics import Diagnosis, Regime
from mutagrad.diagnostics.plans import gain_on_batch
from mutagrad.report.figures import panels

__all__ = ["course_figure", "figure"]


def figure(found: Diagnosis, path: str | PathLike) -> None:
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
        raise ValueError("figure: got a diagnosis that met no curvature, so that gain has no optimum; print it instead")
    sheet, axes = panels(2)
    best = found.best
    signal = float(max(best.signal.value, 0.1)) if found.is_sampled else 1.0
    unit = best.squared_batch_grad_norm.value / best.hessian_trace.value
    scale = best.sigma / best.strength.value
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
        axis.set_xlabel("mutation strength σ [parameter]")
        axis.set_ylabel(f"expected decrease of the loss {name}")
        axis.grid(alpha=0.25)
        if found.current is not None:
            axis.axvline(found.current.sigma, color="0.4", linestyle="--", linewidth=1, label="σ asked about")
    axes[0].legend(frameon=False, loc="upper left")
    _save(sheet, path)


def course_figure(
    courses: dict[str, Regime], path: str | PathLike, title: str, best_strength: float, condition: str = ""
) -> None:
    """Draw s, slope, curvature and the share of signal against generations.

    Parameters
    ----------
    courses : the course of each group of parameters that took turns, by its name; one, named "", where there are none.
    path : image file.
    title : what was trained and how.
    best_strength : the s at which a generation gains most, drawn as a line.
    condition : what that leaves out, such as "without noise".
    """
    sheet, axes = panels(4, width=3.6)
    for place, (name, found) in enumerate(courses.items()):
        shown: list[tuple[Any, Any, Any]] = [
            (axes[0], found.strength.value, found.strength.error),
            (axes[1], *_root(found.squared_batch_grad_norm)),
            (axes[2], found.hessian_trace.value, found.hessian_trace.error),
            (axes[3], found.signal.value, found.signal.error),
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
    if len(courses) > 1:
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
