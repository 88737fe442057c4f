"""Panels for the figures of claims, and the figure of a run: loss, accuracy, σ and s."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["panels", "training_figure"]

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
        "sigma": (axes[1, 0], "mutation strength σ [parameter]"),
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
    figure.savefig(path, dpi=140)
    plt.close(figure)
