"""What stands on a page of a single run: its forecast, who won its generations, and how many directions curve."""

import math
from collections.abc import Sequence

import numpy as np

from mutagrad.diagnostics import RunForecast
from mutagrad.report.page import charts
from mutagrad.report.page.panel import Panel, course_panel, is_positive, of_run
from mutagrad.report.page.series import Course, recorded
from mutagrad.report.page.told import Told
from mutagrad.report.text import forecast_text
from mutagrad.report.text.numbers import about, number, percent

__all__ = ["forecast", "rank", "winners"]

_RARE = 0.001
"""Probability below which chance is not taken to explain who won."""


def forecast(told: Told, runs: Sequence[Told]) -> Panel:
    """When the loss of a run will be a tenth lower, with the interval where it has an end."""
    title, why = f"Forecast{of_run(told, runs)}", "When the loss will be a tenth lower, if the run goes on as it does."
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
        line, f"training loss [{told.loss_unit}]", last, target, *ahead, is_positive([told], "loss") and target > 0
    )
    rows = (
        ("", "generation"),
        ("not before", f"{last + found.soonest:,.0f}"),
        ("as likely before as after", f"{last + found.generations:,.0f}"),
        ("not after", f"{last + found.latest:,.0f}"),
    )
    return Panel(f"forecast-{runs.index(told)}", title, why, spec, (words,), rows)


def winners(told: Told, runs: Sequence[Told]) -> list[Panel]:
    """Which places of offspring won, and whether that changed over the run."""
    title, key = f"Lineage: who won{of_run(told, runs)}", f"winners-{runs.index(told)}"
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
            "low": float(place - error), "mid": float(place), "high": float(place + error),
        }
        for x, place, error in zip(found.generation, found.place + 1, found.error, strict=True)
    ]  # fmt: skip
    course = Course("mean place ± one standard error", drift)
    made.append(
        course_panel(
            f"drift-{runs.index(told)}",
            f"Drift of the winner's place{of_run(told, runs)}",
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


def rank(told: Told, runs: Sequence[Told]) -> Panel:
    """Effective rank and slowdown, of a diagnosis."""
    title, key = f"Effective rank and slowdown{of_run(told, runs)}", f"rank-{runs.index(told)}"
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
