"""What stands on a page over the course of a run, part by part, each with a sentence for who does not know it."""

from collections.abc import Sequence

import numpy as np

from mutagrad.report.page.outlook import forecast, rank, winners
from mutagrad.report.page.panel import Panel, course_panel, is_positive, label_of, of_run
from mutagrad.report.page.series import Course, measured, of_windows, recorded
from mutagrad.report.page.told import Told

__all__ = ["panels"]


def panels(runs: Sequence[Told]) -> list[Panel]:
    """All panels, in the order of the page; of several runs each line has its run's name."""
    made = [
        _loss(runs),
        *_scores(runs),
        _sigma(runs),
        _strength(runs),
        _signal(runs),
        _success(runs),
        _slope(runs),
        _curvature(runs),
    ]
    for told in runs:
        made += [forecast(told, runs), *winners(told, runs), rank(told, runs)]
    return made


def _loss(runs: Sequence[Told]) -> Panel:
    is_log, failed = is_positive(runs, "loss"), []
    for told in runs:
        loss = told.records.get("loss")
        if loss is not None and (bad := int(np.sum(~np.isfinite(loss)))):
            failed.append(
                f"In {bad:,} generations{of_run(told, runs)} the loss was NaN, infinite or lost: gaps of the line."
            )
    return course_panel(
        "loss",
        "Loss",
        "The loss of the parent on the batch of its generation, which selection lowers: fitness, read upside down. "
        "The line is the median of some generations, the band reaches from their smallest to their largest value.",
        [recorded(told, "loss", label_of(told, runs, "median", "bins")) for told in runs],
        f"training loss [{runs[0].loss_unit}]",
        "The history holds no loss with a finite value.",
        words=tuple(failed),
        logarithmic=is_log,
    )


def _scores(runs: Sequence[Told]) -> list[Panel]:
    found = []
    for name, title, unit, scale in (("accuracy", "Accuracy", "accuracy [%]", 100.0), ("r2", "R²", "R² [1]", 1.0)):
        if not any(f"test_{name}" in told.measured for told in runs):
            continue
        parts = (("test", "test"), ("train", "training"))
        lines = [
            measured(told, f"{part}_{name}", label_of(told, runs, words), scale)
            for told in runs
            for part, words in (parts if len(runs) == 1 else parts[:1])
        ]
        why = (
            "The share of examples that the network classifies correctly."
            if name == "accuracy"
            else "The share of the target's variance that the network explains; 0 is no better than the mean."
        )
        why += " Test examples are never trained on: a gap between the two lines is overfitting."
        found.append(
            course_panel(
                "score", title + " on test examples" * (len(runs) > 1), why, lines, unit, "It was not measured.",
                head=("value", "value", "value"), points=True,
            )
        )  # fmt: skip
    return found


def _sigma(runs: Sequence[Told]) -> Panel:
    return course_panel(
        "sigma",
        "Mutation scale σ",
        "σ is the standard deviation of a mutation in each parameter. It has the part of a learning rate in gradient descent, "
        "and of the size of mutational effects in population genetics.",
        [recorded(told, "sigma", label_of(told, runs, "median", "bins"), positive=True) for told in runs],
        "σ [parameter]",
        "The history holds no σ.",
        logarithmic=True,
    )


def _strength(runs: Sequence[Told]) -> Panel:
    marks: dict[str, float] = {}
    lines: list[Course] = []
    conditions: list[str] = []
    for told in runs:
        lines += of_windows(told, "normalized_mutation_strength", label_of(told, runs, "s", "error"))
        if told.best is not None:
            value, condition = told.best
            marks[f"most gain, s = {value:.2f}"] = value
            conditions += [f"The s of most gain{of_run(told, runs)} is that {condition}."] * bool(condition)
    return course_panel(
        "strength",
        "Normalised mutation strength s",
        "s = σ·TrH/|∇U| holds the curvature that a mutation meets against the slope that it can use. Near the dashed line a "
        "generation gains most. Far below it the run is gradient descent in small steps, safe and slow. Above twice it "
        "curvature takes what the slope gives. The band is one standard error.",
        lines,
        "s [1]",
        "s is unmeasured: the history does not tell slope and curvature.",
        head=("s − error", "s", "s + error"),
        words=tuple(conditions),
        zero=True,
        marks=list(marks.items()),
    )


def _signal(runs: Sequence[Told]) -> Panel:
    lines = []
    for told in runs:
        if any(np.any(one.squared_grad_noise.value > 0) for one in told.windows.values()):
            lines += of_windows(told, "signal", label_of(told, runs, "share of signal", "error"))
    silent = [
        told.name for told in runs if not any(np.any(w.squared_grad_noise.value > 0) for w in told.windows.values())
    ]
    words = (f"Unmeasured in {', '.join(silent)}.",) if silent and lines else ()
    return course_panel(
        "signal",
        "Share of signal",
        "|∇U|/|∇U_B| is the share of a generation's drift that goes down the loss itself and does not follow the sampling noise "
        "of its batch. Near 1 batches are large enough; below 0.71 more than half of |∇U_B|² is noise.",
        lines,
        "share of signal [1]",
        "Unmeasured: the batch stayed the same, or the loss is a scalar, so that no sampling noise is seen in the slope.",
        head=("share − error", "share", "share + error"),
        words=words,
        domain=(0, 1.05),
    )


def _success(runs: Sequence[Told]) -> Panel:
    lines = []
    for told in runs:
        lines += of_windows(told, "success", label_of(told, runs, "measured", "error", only=False))
        lines += of_windows(told, "predicted_success", label_of(told, runs, "predicted, Φ(−s/2)", "error", only=False))
    return course_panel(
        "success",
        "Successes",
        "The share of offspring that do no worse than their parent: beneficial mutations. Φ(−s/2) is what s predicts. Where the "
        "two part the loss is rough or a few curvatures dominate, and s is a rough guide. The bands are one standard error.",
        lines,
        "share of offspring [1]",
        "Unmeasured: the history does not tell successes.",
        zero=True,
        head=("share − error", "share", "share + error"),
    )


def _slope(runs: Sequence[Told]) -> Panel:
    lines = [
        line
        for told in runs
        for line in of_windows(told, "squared_batch_grad_norm", label_of(told, runs, "|∇U|", "error"), root=True)
    ]
    return course_panel(
        "slope",
        "Slope",
        "|∇U| is the length of the gradient of a batch's loss, read from how much the losses of offspring differ: no gradient "
        "was taken. The band is one standard error.",
        lines,
        "|∇U| on a batch [loss/parameter]",
        "Unmeasured: no offspring's loss differed from its parent's, or the history does not tell.",
        logarithmic=True,
        head=("|∇U| − error", "|∇U|", "|∇U| + error"),
    )


def _curvature(runs: Sequence[Told]) -> Panel:
    lines = [line for told in runs for line in of_windows(told, "hessian_trace", label_of(told, runs, "TrH", "error"))]
    return course_panel(
        "curvature",
        "Curvature",
        "TrH is the sum of the curvatures of the loss in all directions, the load that mutations carry in the mean. The band is "
        "one standard error.",
        lines,
        "TrH [loss/parameter²]",
        "Unmeasured: the history does not tell.",
        zero=True,
        head=("TrH − error", "TrH", "TrH + error"),
    )
