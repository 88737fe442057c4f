"""The figure of a run: loss, score, σ and s over its generations."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from mutagrad.diagnostics.looks import without_looks
from mutagrad.lab.training.options import TrainConfig
from mutagrad.lab.training.problem import Problem
from mutagrad.lab.training.summary import batches
from mutagrad.report.text import best_strength_is_without
from mutagrad.theory.optimum import best_strength

__all__ = ["draw", "title"]

_POINTS = 400
"""Points drawn of a long run: each is a median, with the 10–90 % range shaded."""


def title(config: TrainConfig, num_offspring: int) -> str:
    """What was trained, and how."""
    return f"{config.data}, {config.model}, {config.algorithm} with M = {num_offspring}, σ {config.sigma}"


def draw(path: Path, config: TrainConfig, problem: Problem, history: Any, measured: dict, outcome: dict) -> None:
    """Draw training.png.

    Parameters
    ----------
    path : image file. config, problem : what was run. history : its records. measured : the columns of `Measurements`.
    outcome : as `mutagrad.lab.training.summary.outcome` has it.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(10, 6.4), sharex=True, layout="constrained")
    is_regression = problem.task.data.is_regression
    unit = "squared error of the scaled target" if is_regression else "nat"
    for name, axis, label in (
        ("loss", axes[0, 0], f"training loss of the parent [{unit}]"),
        ("sigma", axes[1, 0], "mutation scale σ [parameter]"),
        ("normalized_mutation_strength", axes[1, 1], "normalised mutation strength s"),
    ):
        values = np.asarray(history[name], float)
        centres, (low, median, high) = _summarised(without_looks(values) if name == "sigma" else values)
        axis.fill_between(centres, low, high, color="C0", alpha=0.25, linewidth=0)
        axis.plot(centres, median, color="C0", linewidth=1.5)
        axis.set_ylabel(label)
    axes[0, 0].set_yscale("log")
    axes[1, 0].set_yscale("log")
    if config.sigma == "auto":
        is_resampled = bool(np.any(history["is_resampled"]))
        condition = best_strength_is_without(problem.definition, is_resampled)
        _mark_best(axes[1, 1], best_strength(problem.definition), condition)
    _draw_scores(axes[0, 1], measured, problem.task.score_name)
    for axis in axes[1]:
        axis.set_xlabel("generation")
    per_generation = outcome["evaluations"] / max(outcome["generations"], 1)
    for axis in axes[0]:
        top = axis.secondary_xaxis("top", functions=(lambda x: x * per_generation, lambda x: x / per_generation))
        top.set_xlabel("loss evaluations (on one batch each)")
    for axis in axes.flat:
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    number = problem.definition.num_offspring
    parameters = f"{outcome['num_parameters']:,} parameters"
    figure.suptitle(f"{title(config, number)}, {parameters}, {batches(outcome)}, seed {config.seed}")
    figure.savefig(path, dpi=140)
    plt.close(figure)


def _draw_scores(axis: Any, measured: dict[str, list], name: str) -> None:
    scale, label = (1, "R²") if name == "r2" else (100, "accuracy [%]")
    for part, words, color in (("test", "test", "C1"), ("train", "training", "C0")):
        values = scale * np.asarray(measured[f"{part}_{name}"])
        axis.plot(measured["measured_generation"], values, marker=".", markersize=4, color=color, label=words)
    axis.set_ylabel(label)
    axis.legend(loc="best", frameon=False)


def _mark_best(axis: Any, best: float, condition: str) -> None:
    """A line at the s of most gain, and its label above the panel, where no curve is."""
    label = f"most gain per generation, s = {best:.2f} {condition}".rstrip()
    axis.axhline(best, color="C3", linestyle="--", linewidth=1, label=label)
    axis.legend(loc="lower right", bbox_to_anchor=(1, 1), frameon=False, fontsize=9, labelcolor="C3")
    axis.set_ylim(0, max(2 * best, 1))


def _summarised(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centres of at most `_POINTS` blocks of generations, and their 10, 50 and 90 % quantiles."""
    edges = np.unique(np.linspace(0, len(values), _POINTS + 1).astype(int))
    blocks = [values[a:b][np.isfinite(values[a:b])] for a, b in itertools.pairwise(edges)]
    quantiles = np.array([np.quantile(block, (0.1, 0.5, 0.9)) if block.size else (np.nan,) * 3 for block in blocks])
    return (edges[:-1] + edges[1:] + 1) / 2, quantiles.T
