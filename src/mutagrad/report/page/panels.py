"""What stands on a page, part by part: a heading, a sentence for who does not know it, a chart or why there is none, its numbers."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mutagrad.diagnostics import RunForecast
from mutagrad.report.page import charts
from mutagrad.report.page.series import Course, measured, of_windows, recorded
from mutagrad.report.page.told import Told
from mutagrad.report.text import forecast_text
from mutagrad.report.text.numbers import about, number, percent

__all__ = ["Panel", "panels"]

_RARE = 0.001
"""Probability below which chance is not taken to explain who won."""
_ROWS = 12
"""Rows of the table that stands below a chart."""


class Panel(NamedTuple):
    """A part of the page.

    Attributes
    ----------
    key : a word, for the place in the page. title : a heading. why : a sentence for who does not know it.
    spec : a Vega-Lite specification, or ``None``. words : sentences beside the chart, or in place of it.
    table : rows of cells, the head first; empty without one.
    """

    key: str
    title: str
    why: str
    spec: dict[str, Any] | None
    words: tuple[str, ...] = ()
    table: tuple[tuple[str, ...], ...] = ()


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
        made += [_forecast(told, runs), *_winners(told, runs), _rank(told, runs)]
    return made


_WITH = {"bins": " of some generations, with the range", "error": " ± one standard error", "": ""}
"""What a line shows beside its middle, for the legend."""


def _label(told: Told, runs: Sequence[Told], words: str, band: str = "", only: bool = True) -> str:
    """A name for the legend: what the line is or, of several runs, whose it is; ``only`` if each run has one such line."""
    if len(runs) == 1:
        return words + (_WITH[band] if len(told.groups) == 1 else "")
    return told.name if only else f"{told.name}, {words}"


def _of(told: Told, runs: Sequence[Told]) -> str:
    return "" if len(runs) == 1 else f", {told.name}"


def _table(lines: Sequence[Course], head: tuple[str, ...] = ("smallest", "median", "largest")) -> tuple:
    """Some rows of each line, first and last among them."""
    known = [one for one in lines if one.is_known]
    rows = [("line", "generations", *head)]
    for one in known:
        each = max(2, _ROWS // len(known))
        for place in np.unique(np.linspace(0, len(one.rows) - 1, min(len(one.rows), each)).astype(int)):
            row = one.rows[place]
            span = f"{row['from']:,}" if row["from"] == row["to"] else f"{row['from']:,} to {row['to']:,}"
            rows.append((one.name, span, *(_cell(row[name]) for name in ("low", "mid", "high"))))
    return tuple(rows)


def _cell(value: float | None) -> str:
    return "none finite" if value is None else number(value)


def _course(
    key: str,
    title: str,
    why: str,
    lines: Sequence[Course | None],
    quantity: str,
    unknown: str,
    head: tuple[str, ...] = ("smallest", "median", "largest"),
    words: tuple[str, ...] = (),
    **options: Any,
) -> Panel:
    """A chart of lines; where none has a value, the words that say so."""
    known = [one for one in lines if one is not None and one.is_known]
    if not known:
        return Panel(key, title, why, None, (unknown, *words))
    return Panel(
        key, title, why, charts.courses(known, quantity, middle=head[1], **options), words, _table(known, head)
    )


def _is_positive(runs: Sequence[Told], name: str) -> bool:
    columns = [told.records[name] for told in runs if name in told.records]
    return bool(columns) and all(not np.any(one[np.isfinite(one)] <= 0) for one in columns)


def _loss(runs: Sequence[Told]) -> Panel:
    is_log, failed = _is_positive(runs, "loss"), []
    for told in runs:
        loss = told.records.get("loss")
        if loss is not None and (bad := int(np.sum(~np.isfinite(loss)))):
            failed.append(
                f"In {bad:,} generations{_of(told, runs)} the loss was NaN, infinite or lost: gaps of the line."
            )
    return _course(
        "loss",
        "Loss",
        "The loss of the parent on the batch of its generation, which selection lowers: fitness, read upside down. "
        "The line is the median of some generations, the band reaches from their smallest to their largest value.",
        [recorded(told, "loss", _label(told, runs, "median", "bins")) for told in runs],
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
            measured(told, f"{part}_{name}", _label(told, runs, words), scale)
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
            _course(
                "score", title + " on test examples" * (len(runs) > 1), why, lines, unit, "It was not measured.",
                head=("value", "value", "value"), points=True,
            )
        )  # fmt: skip
    return found


def _sigma(runs: Sequence[Told]) -> Panel:
    return _course(
        "sigma",
        "Mutation scale σ",
        "σ is the standard deviation of a mutation in each parameter. It has the part of a learning rate in gradient descent, and "
        "of the size of mutational effects in population genetics.",
        [recorded(told, "sigma", _label(told, runs, "median", "bins"), positive=True) for told in runs],
        "σ [parameter]",
        "The history holds no σ.",
        logarithmic=True,
    )


def _strength(runs: Sequence[Told]) -> Panel:
    marks, lines = {}, []
    for told in runs:
        lines += of_windows(told, "normalized_mutation_strength", _label(told, runs, "s", "error"))
        if told.best is not None:
            value, condition = told.best
            marks[f"most gain, s = {value:.2f}{condition and ' ' + condition}"] = value
    return _course(
        "strength",
        "Normalised mutation strength s",
        "s = σ·TrH/|∇U| holds the curvature that a mutation meets against the slope that it can use. Near the dashed line a "
        "generation gains most. Far below it the run is gradient descent in small steps, safe and slow. Above twice it "
        "curvature takes what the slope gives. The band is one standard error.",
        lines,
        "s [1]",
        "s is unmeasured: the history does not tell slope and curvature.",
        head=("s − error", "s", "s + error"),
        zero=True,
        marks=list(marks.items()),
    )


def _signal(runs: Sequence[Told]) -> Panel:
    lines = []
    for told in runs:
        if any(np.any(one.squared_grad_noise.value > 0) for one in told.windows.values()):
            lines += of_windows(told, "signal", _label(told, runs, "share of signal", "error"))
    silent = [
        told.name for told in runs if not any(np.any(w.squared_grad_noise.value > 0) for w in told.windows.values())
    ]
    words = (f"Unmeasured in {', '.join(silent)}.",) if silent and lines else ()
    return _course(
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
        lines += of_windows(told, "success", _label(told, runs, "measured", "error", only=False))
        lines += of_windows(told, "predicted_success", _label(told, runs, "predicted, Φ(−s/2)", "error", only=False))
    return _course(
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
        for line in of_windows(told, "squared_batch_grad_norm", _label(told, runs, "|∇U|", "error"), root=True)
    ]
    return _course(
        "slope",
        "Slope",
        "|∇U| is the length of the gradient of a batch's loss, read from how much the losses of offspring differ: no gradient was "
        "taken. The band is one standard error.",
        lines,
        "|∇U| on a batch [loss/parameter]",
        "Unmeasured: no offspring's loss differed from its parent's, or the history does not tell.",
        logarithmic=True,
        head=("|∇U| − error", "|∇U|", "|∇U| + error"),
    )


def _curvature(runs: Sequence[Told]) -> Panel:
    lines = [line for told in runs for line in of_windows(told, "hessian_trace", _label(told, runs, "TrH", "error"))]
    return _course(
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


def _forecast(told: Told, runs: Sequence[Told]) -> Panel:
    title, why = f"Forecast{_of(told, runs)}", "When the loss will be a tenth lower, if the run goes on as it does."
    found = told.forecast
    if not isinstance(found, RunForecast):
        return Panel(f"forecast-{runs.index(told)}", title, why, None, (found,))
    words, ahead = forecast_text(found).removeprefix("Forecast: "), (found.soonest, found.generations, found.latest)
    words = words[0].upper() + words[1:]
    if not all(map(math.isfinite, ahead)):
        return Panel(f"forecast-{runs.index(told)}", title, why, None, (words,))
    target, last = found.loss - found.decrease, told.first + told.number
    line = recorded(told, "loss", "loss so far", last=max(50, math.ceil(4 * found.latest)))
    assert line is not None
    spec = charts.interval(
        line, f"training loss [{told.loss_unit}]", last, target, *ahead, _is_positive([told], "loss") and target > 0
    )
    rows = (
        ("", "generation"),
        ("not before", f"{last + found.soonest:,.0f}"),
        ("as likely before as after", f"{last + found.generations:,.0f}"),
        ("not after", f"{last + found.latest:,.0f}"),
    )
    return Panel(f"forecast-{runs.index(told)}", title, why, spec, (words,), rows)


def _winners(told: Told, runs: Sequence[Told]) -> list[Panel]:
    title, key = f"Lineage: who won{_of(told, runs)}", f"winners-{runs.index(told)}"
    why = (
        "Each generation has one winner, an offspring or the parent. Offspring are alike before they are evaluated, so each "
        "place should win as often as the others. Of equal losses the first place wins."
    )
    found = told.winners
    if found is None:
        return [Panel(key, title, why, None, ("No lineage that can be read is in the folder.",))]
    stayed = f"The parent stayed in {found.stayed:,} of {found.number:,} generations ({percent(found.stayed / found.number)})."
    won = int(found.wins.sum())
    if found.num_offspring == 1 or not won:
        return [Panel(key, title, why, None, (stayed, "One offspring has no other to be held against." * (won > 0)))]
    groups = np.array_split(np.arange(found.num_offspring), min(found.num_offspring, 40))
    rows = [
        {
            **{"from": int(one[0]) + 1, "to": int(one[-1]) + 1, "wins": float(found.wins[one].mean())},
            **{"left": float(one[0]) + 0.55, "right": float(one[-1]) + 1.45},
        }
        for one in groups
    ]
    test = "Too few wins for a test of equal chances."
    if math.isfinite(found.p_value):
        verdict = "as chance has it."
        if found.p_value < _RARE:
            verdict = "which chance does not explain. See whether losses tie, as rounded ones do."
        test = f"χ² against equal chances: p = {found.p_value:.2g}, {verdict}"
    expected = won / found.num_offspring
    table = (
        ("places", "wins of a place"),
        *(
            (f"{row['from']} to {row['to']}" if row["to"] > row["from"] else f"{row['from']}", number(row["wins"]))
            for row in rows[:40]
        ),
    )
    made = [Panel(key, title, why, charts.bars(rows, "generations won by a place", expected), (stayed, test), table)]
    drift = [
        {
            "x": float(x), "from": round(float(x)), "to": round(float(x)),
            "low": float(index - error), "mid": float(index), "high": float(index + error),
        }
        for x, index, error in zip(found.generation, found.index + 1, found.error, strict=True)
    ]  # fmt: skip
    course = Course("mean place ± one standard error", drift)
    made.append(
        _course(
            f"drift-{runs.index(told)}",
            f"Drift of the winner's place{_of(told, runs)}",
            "The mean place of the winners of some generations, with one standard error. A trend away from the dashed line would "
            "be a fault of the random numbers or of the selection, not of the loss.",
            [course],
            "place of the winner [1]",
            "Too few wins.",
            head=("place − error", "place", "place + error"),
            marks=[(f"equal chances, {(found.num_offspring + 1) / 2:g}", (found.num_offspring + 1) / 2)],
        )
    )
    return made


def _rank(told: Told, runs: Sequence[Told]) -> Panel:
    title, key = f"Effective rank and slowdown{_of(told, runs)}", f"rank-{runs.index(told)}"
    why = (
        "The effective rank r = TrH/λ_max counts the directions that curve. The slowdown is how many generations gain what one "
        "step of gradient descent gains."
    )
    if told.diagnosis is None:
        how = f" To measure it: {told.how_to_diagnose}" if told.how_to_diagnose else ""
        return Panel(key, title, why, None, (f"Unmeasured: a history does not tell λ_max.{how}",))
    where, found = told.diagnosis
    if found.effective_rank is None or found.slowdown is None:
        reason = found.no_gradient or "no curvature was told from zero"
        return Panel(key, title, why, None, (f"{where}: unmeasured, {reason}.",))
    bound = "at most " if found.largest_eigenvalue is None else ""
    rows = (
        (where, ""),
        ("effective rank r", bound + about(found.effective_rank)),
        ("slowdown [generations per gradient step]", bound + about(found.slowdown)),
        ("parameters", f"{found.num_parameters:,}"),
    )
    return Panel(key, title, why, None, (), rows)
