"""The verdicts that a page opens with: did it learn, is σ right, what to change."""

import math
from typing import Any, NamedTuple

import numpy as np

from mutagrad.diagnostics import Regime, RunForecast, findings
from mutagrad.report.page.told import Told
from mutagrad.report.text import forecast_text, regime_text
from mutagrad.report.text.numbers import about, number, percent

__all__ = ["Verdict", "learned", "of_regime", "sigma_verdict", "verdicts", "what_to_change"]

GOOD, ATTENTION, UNKNOWN = "good", "attention", "unknown"
_SPAN = 2.0
"""Standard errors that a difference of losses must exceed."""


class Verdict(NamedTuple):
    """An answer.

    Attributes
    ----------
    question : such as "Did it learn?".
    answer : in a word or a few.
    tone : "good", "attention" or "unknown".
    lines : sentences that bear it out.
    """

    question: str
    answer: str
    tone: str
    lines: tuple[str, ...]


def verdicts(told: Told) -> tuple[Verdict, ...]:
    """The three verdicts of a run, in the order of the page."""
    return learned(told), sigma_verdict(told), what_to_change(told)


def learned(told: Told) -> Verdict:
    """Whether the training loss fell, by the means of its first and last twentieth.

    It fell, or rose, if the two differ by more than two standard errors, generations taken as independent.
    """
    question, loss = "Did it learn?", told.records.get("loss")
    scores = tuple(_scores(told))
    if loss is None:
        return Verdict(question, "Not told", UNKNOWN, ("The history holds no loss.", *scores))
    loss = np.asarray(loss, np.float64)
    failed = int(np.sum(~np.isfinite(loss)))
    lines = []
    if failed:
        lines.append(f"In {failed:,} of {len(loss):,} generations the parent's loss was NaN, infinite or lost.")
    known = loss[np.isfinite(loss)]
    if len(known) < 2:
        words = "It takes two generations with a finite loss to tell."
        return Verdict(question, "Not told", UNKNOWN, (words, *lines, *scores))
    share = max(len(known) // 20, 1)
    before, after = known[:share], known[-share:]
    fall, error = before.mean() - after.mean(), _SPAN * math.hypot(*(_error(one) for one in (before, after)))
    ends = f"the first and the last {share:,} generations" if share > 1 else "the first and the last generation"
    unit = "" if told.loss_unit == "loss" else f" {told.loss_unit}"
    change = f"The training loss went from {_apart(before.mean(), after.mean())}{unit}"
    by = (
        f" ({percent(abs(fall) / before.mean())} {'less' if fall > 0 else 'more'})"
        if before.mean() > 0 and fall
        else ""
    )
    lines.insert(0, f"{change}{by}: means of {ends}.")
    if fall > error:
        return Verdict(question, "Yes", GOOD, (*lines, *scores))
    if fall < -error:
        return Verdict(question, "No, the loss rose", ATTENTION, (*lines, *scores))
    return Verdict(question, "No change is told", ATTENTION, (*lines, *scores))


def _apart(before: float, after: float) -> str:
    """Two numbers with as many digits as show that they differ."""
    for digits in range(3, 9):
        words = [
            f"{one:,.0f}" if 1000 <= abs(one) < 1e7 and digits == 3 else f"{one:.{digits}g}" for one in (before, after)
        ]
        if words[0] != words[1]:
            break
    return " to ".join(words)


def _error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else 0.0


def _scores(told: Told) -> Any:
    """What was measured on examples, first and last."""
    for name, words in (("accuracy", "accuracy"), ("r2", "R²")):
        for part, where in (("test", "test"), ("train", "training")):
            values = told.measured.get(f"{part}_{name}", np.zeros(0))
            if not len(values):
                continue
            first, last = (score_words(name, float(values[place])) for place in (0, -1))
            best = int(np.nanargmax(values)) if np.isfinite(values).any() else len(values) - 1
            peak = ""
            if part == "test" and score_words(name, float(values[best])) != last:
                at = int(told.measured["measured_generation"][best])
                peak = f" The best measured was {score_words(name, float(values[best]))}, after generation {at:,}."
            yield f"The {where} {words} went from {first} to {last}.{peak}"


def score_words(name: str, value: float) -> str:
    """An accuracy in percent, or R²."""
    return (f"{100 * value:.2f} %" if name == "accuracy" else f"{value:.4f}") if math.isfinite(value) else "NaN"


def of_regime(told: Told) -> list[tuple[str, list[str]]]:
    """What `mutagrad inspect` says of the regime, line for line: a heading and lines for each group of parameters."""
    return [
        (
            f"The last third of the run{name and ', ' + name}" if told.of else "The end of the run",
            regime_text(found).split("\n"),
        )
        for name, found in told.regimes.items()
    ]


_OF_SIGMA = {
    "right": ("Yes", GOOD),
    "too small": ("No, too small", ATTENTION),
    "too large": ("No, too large", ATTENTION),
    "may be right": ("It may be", UNKNOWN),
    "may be too small": ("It may be too small", ATTENTION),
    "may be too large": ("It may be too large", ATTENTION),
}


def sigma_verdict(told: Told) -> Verdict:
    """Whether σ was right, in the words of the findings of the regime; the first group that is not right speaks for all."""
    question = "Is σ right?"
    if not told.regimes:
        return Verdict(question, "Not told", UNKNOWN, (told.why_no_regime,))
    answers, lines = [], []
    for name, found in told.regimes.items():
        scale = {one.name: one for one in findings(found)}["mutation scale"]
        answers.append(_OF_SIGMA.get(scale.follows, ("Not told", UNKNOWN)))
        own = _chosen(found)
        lines += [f"{name.capitalize()}: {one}" if name else one for one in own]
    order = (ATTENTION, UNKNOWN, GOOD)
    answer, tone = min(answers, key=lambda one: order.index(one[1]))
    return Verdict(question, answer, tone, tuple(lines))


def _chosen(found: Regime) -> list[str]:
    """The lines of the regime's text on σ, the best σ and the kind of loss."""
    lines = regime_text(found).split("\n")
    return [line.removeprefix("σ: ") for line in lines if line.startswith(("σ:", "Best:", "Loss:"))]


_OF_KIND = {
    "noise": "Average several evaluations of the loss, or mutate more widely: at this σ losses differ by noise alone.",
    "rounding": "Take a larger σ, or return per-example losses: offspring differ by rounding alone.",
    "flat": "Take a larger σ: no offspring's loss differed from its parent's.",
    "rough or of low rank": "Have the loss diagnosed: roughness and a few dominating curvatures look alike in a history.",
}


def what_to_change(told: Told) -> Verdict:
    """What the findings ask for, each in a sentence."""
    changes, keep = [], []
    for name, found in told.regimes.items():
        of = f"{name.capitalize()}: " if name else ""
        by_name = {one.name: one for one in findings(found)}
        if found.kind:
            changes.append(of + _OF_KIND[found.kind])
        scale, best = by_name["mutation scale"], by_name.get("best mutation scale")
        side = next((side for side in ("too small", "too large") if scale.follows.endswith(side)), "")
        if side:
            verb = "Raise" if side == "too small" else "Lower"
            if side == "too small" and "least best mutation scale" in by_name:
                best = by_name["least best mutation scale"]
            toward = (
                f" towards {about(best.estimate)}" if best is not None and math.isfinite(best.estimate.value) else ""
            )
            changes.append(f"{of}{verb} σ from {number(scale.estimate.value)}{toward}.")
        elif scale.follows:
            keep.append(f"{of}Leave σ as it is.")
        if by_name["signal"].follows == "drowned":
            changes.append(f"{of}Make batches several times larger: the slope drowns in sampling noise.")
        if found.num_failed:
            changes.append(
                f"{of}See why losses are NaN or infinite: {found.num_failed:,} generations of those used had one."
            )
    if told.diagnosis is not None and (plans := told.diagnosis[1].plans):
        cheap = next((one for one in plans if one.purpose == "most per evaluation"), None)
        if cheap is not None:
            keep.append(
                f"Evaluated one by one, M = {cheap.num_offspring} at σ = {about(cheap.sigma)} gains most per evaluation."
            )
    keep += _of_forecast(told)
    if not told.regimes:
        return Verdict("What to change?", "Not told", UNKNOWN, (told.why_no_regime, *keep))
    if not changes and sigma_verdict(told).answer == "Not told":
        return Verdict("What to change?", "Nothing is told", UNKNOWN, tuple(keep))
    answer = (
        ("Nothing stands out", GOOD) if not changes else (f"{len(changes)} thing{'s' * (len(changes) > 1)}", ATTENTION)
    )
    return Verdict("What to change?", *answer, (*changes, *keep))


def _of_forecast(told: Told) -> list[str]:
    found = told.forecast
    if not isinstance(found, RunForecast):
        return []
    words = forecast_text(found).removeprefix("Forecast: ")
    return [words[0].upper() + words[1:]]
