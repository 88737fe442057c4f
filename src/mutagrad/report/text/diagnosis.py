"""A diagnosis, in sentences and a table."""

import math
from collections.abc import Mapping

from mutagrad.diagnostics import Diagnosis, Finding, describe, findings
from mutagrad.estimate import Estimate
from mutagrad.report.text.kind import kind_text
from mutagrad.report.text.numbers import about, number, percent_about, table
from mutagrad.report.text.regime import along_words, best_words, slope_words, strength_words, success_words

__all__ = ["diagnosis_text"]


@describe.register
def diagnosis_text(found: Diagnosis) -> str:
    """A diagnosis as text: sentences, then a table of plans.

    Parameters
    ----------
    found : of `mutagrad.diagnose`.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> from mutagrad.report.text import diagnosis_text
    >>> found = mutagrad.diagnose(jax.random.key(0), lambda x: x @ x, jnp.ones(99), sigma=10.0)
    >>> diagnosis_text(found).split(":")[0]
    'σ = 10 is too large'
    """
    by_name = {one.name: one for one in findings(found)}
    sigma = found.current.sigma.value if found.current is not None else found.best.sigma.value
    # Of a rough or noisy loss slope and curvature are known only where a best σ is.
    is_told = bool(found.plans) or (found.kind.has_slope and found.kind.name in ("smooth", "undecided"))
    lines = [
        _verdict(by_name, found),
        kind_text(found.kind, sigma, found.parent_noise),
        _rounds(found),
        *_advice(by_name, found),
        slope_words(found.best, "these examples" if found.num_examples > 1 else "this loss") if is_told else "",
        _noise(by_name, found) if is_told else "",
        _gradient(by_name, found),
        _forecast(by_name, found),
    ]
    return "\n".join([line for line in lines if line] + ["", _plans(by_name, found)]).rstrip()


def _verdict(by_name: Mapping[str, Finding], found: Diagnosis) -> str:
    scale, best, stands_in = by_name.get("mutation scale"), by_name.get("best mutation scale"), by_name.get("stands in")
    if found.hides_noise:
        return (
            "No best σ is known: the loss is a mean over a batch, which hides its sampling noise, and generations draw other "
            "batches. Return per-example losses, or pass resampled=False if every generation sees this batch."
        )
    instead = f" It stands in for that of {stands_in.follows}." if stands_in is not None and best is not None else ""
    if scale is None or found.current is None:
        if best is None:
            return "No best σ is known."
        own = f"{best_words(by_name)} (s = {found.plans[0].strength:.2f})"
        return f"The best σ for {best.follows} is {own}{along_words(by_name)}{instead}"
    text = f"σ = {number(scale.estimate.value)}"
    if best is None:
        return f"{text}: no best σ is known."
    own = best_words(by_name) + along_words(by_name)
    text += f" {_is(scale.follows)}: the best for {best.follows} is {own}{instead}"
    if found.kind.name != "smooth" or found.current.sigma.value < found.rounds_below:
        return text
    return f"{text} {strength_words(by_name)} {success_words(by_name['success'], found.current)}"


def _is(verdict: str) -> str:
    """ "is right", "may be right"."""
    return verdict if verdict.startswith("may be") else f"is {verdict}"


def _rounds(found: Diagnosis) -> str:
    if found.current is None:
        return ""
    if found.current.sigma.value < found.mutates_from:
        return (
            f"At σ = {number(found.current.sigma.value)} hardly a mutant differs from its parent: σ is too small for a "
            f"mutation, of which a mutant has one in the mean at σ = {number(found.mutates_from)}."
        )
    if found.current.sigma.value >= found.rounds_below or not found.kind.has_slope:
        return ""
    per_example = (
        "" if found.num_examples > 1 else " Per-example losses keep more digits of a difference than their mean."
    )
    return (
        f"At σ = {number(found.current.sigma.value)} rounding decides: below about σ = {number(found.rounds_below)} losses "
        f"differ by their digits or the mutation is lost in those of the params, and successes say nothing.{per_example}"
    )


def _advice(by_name: Mapping[str, Finding], found: Diagnosis) -> list[str]:
    if not found.plans:
        return _without_plan(by_name, found)
    asked, serial = found.plans[:2]
    lines = []
    best = f"by {_gain(asked.gain)} at the best σ"
    if "stands in" in by_name:
        lines.append(
            f"A generation of {by_name['best mutation scale'].follows} lowers the loss {best}; what one of the algorithm does, "
            "is not known."
        )
    elif found.gain is not None:
        lines.append(f"A generation lowers the loss by {_gain(found.gain)} as it is, and {best}.")
    elif found.current is not None:
        lines.append(f"A generation lowers the loss {best}; what it gains as it is, is not known.")
    few = by_name.get("participation ratio")
    if few is not None and few.follows:
        lines.append(
            f"Few curvatures dominate, about {about(few.estimate)}: losses of mutants are not normal, the best σ and the gains "
            "are guides that are likely too large, and no forecast is given."
        )
    elif "least best mutation scale" in by_name:
        lines.append("So its gains are upper bounds, and no forecast is given. More pairs (num_pairs=) tell.")
    elif found.gains_are_bounds:
        lines.append(
            "Mutants gained less than normal losses would: the gains are upper bounds, and no forecast is given."
        )
    text = f"One evaluation at a time, (1+{serial.num_offspring}) with σ = {number(serial.sigma.value)} gains most per evaluation"
    if not found.gains_are_bounds:
        times = number(serial.gain_per_evaluation / asked.gain_per_evaluation)
        text += f", {times} times what {by_name['best mutation scale'].follows} does"
    text += "."
    if found.num_workers > 1:
        parallel = found.plans[2]
        text += (
            f" {found.num_workers} evaluations at a time, it is M = {parallel.num_offspring} with σ = "
            f"{number(parallel.sigma.value)}, {number(parallel.gain_per_second)} per second."
        )
    return [*lines, text + " Per generation more offspring gain more."]


def _gain(gain: Estimate) -> str:
    """Without an error it is a bound."""
    return about(gain) if math.isfinite(gain.error) else f"at most {number(gain.value)}"


def _without_plan(by_name: Mapping[str, Finding], found: Diagnosis) -> list[str]:
    """What to do where there is no best σ."""
    kind = found.kind
    if found.hides_noise:
        return []
    if by_name["curvature"].follows != "none":
        return ["Average the loss over repeats, or over examples, until a slope shows."] if kind.name == "noise" else []
    if kind.name not in ("smooth", "undecided"):
        if not kind.has_slope:
            return ["A larger σ, or more pairs, may show one."]
        above = f", above σ = {number(kind.drowns_below.value)}," if kind.tells_where else ""
        return [f"Where the slope shows{above} curvature is not told or takes what the slope gives."]
    if found.mutates_from > 0:
        return ["No curvature that sets a best σ is told up to mutations of an eighth of the range."]
    reached = found.best.sigma.value
    where = f" to σ = {number(reached)}"
    if found.current is not None and reached != found.current.sigma.value:
        where = f" on the way {'up' if reached > found.current.sigma.value else 'down'} to σ = {number(reached)}"
    return [
        f"No curvature was met that sets a best σ,{where}. The larger σ the better, as far as the loss is finite. The loss looks "
        "linear, or its curvatures of both signs cancel."
    ]


def _noise(by_name: Mapping[str, Finding], found: Diagnosis) -> str:
    best, size, signal = found.best, found.num_examples, by_name["signal"]
    if found.hides_noise:
        return ""
    if signal.follows == "unseen":
        return "The loss is a scalar, which does not show the sampling noise of examples. Return per-example losses to see it."
    text = (
        f"Of batches of {size:,} like this one, " if found.is_sampled else f"If these {size:,} are a sample of more, "
    )
    if signal.follows in ("drowned", "not told"):
        verdict = "drowns in" if signal.follows == "drowned" else "is not told from"
        text += f"the slope {verdict} sampling noise: of |∇U|² = {about(best.squared_batch_grad_norm)} on these examples TrC/B = "
        text += f"{number(best.squared_grad_noise.value)} is noise, which leaves {about(best.squared_grad_norm)}."
        if not found.is_sampled:
            return text + " As all the data there are, they have no such noise, and selection follows their loss."
        return text + (
            " Make batches several times larger."
            if signal.follows == "drowned"
            else " More pairs (num_pairs=) tell, or larger batches."
        )
    return text + (
        f"{percent_about(best.signal)} of the drift goes down the loss, the rest is sampling noise (TrC/B = "
        f"{number(best.squared_grad_noise.value)} of |∇U|² = {number(best.squared_batch_grad_norm.value)}). Batches of the "
        f"gradient noise scale, {about(best.noise_scale)} examples, give half the gain per generation of all data."
    )


def _gradient(by_name: Mapping[str, Finding], found: Diagnosis) -> str:
    if found.no_gradient:
        return f"Gradients cannot be compared with: {found.no_gradient}."
    rank, slowdown = by_name.get("effective rank"), by_name.get("slowdown")
    if rank is None or slowdown is None:
        return ""
    size, value = found.num_offspring, about(rank.estimate)
    rule = f"generations of {by_name['best mutation scale'].follows} at their best σ"
    if rank.follows == "measured":
        return (
            f"A step of gradient descent gains at least as much as {about(slowdown.estimate)} {rule}, or "
            f"{number(slowdown.estimate.value * (size + 1))} evaluations, and at most twice that: the effective rank TrH/λ_max "
            f"is {value} for {found.num_parameters:,} parameters."
        )
    if found.gains_are_bounds:
        return ""
    most = Estimate(2 * slowdown.estimate.value, 2 * slowdown.estimate.error)
    return (
        f"A step of gradient descent gains at most as much as {about(most)} {rule}, or {number(most.value * (size + 1))} "
        f"evaluations, if the curvatures are positive: the effective rank TrH/λ_max is at most (TrH)²/Tr(H²) = {value}. With "
        "use_gradient=True λ_max is measured."
    )


def _forecast(by_name: Mapping[str, Finding], found: Diagnosis) -> str:
    ahead = found.forecast
    few = by_name.get("participation ratio")
    if ahead is None or "stands in" in by_name or (few is not None and few.follows):
        return ""
    low, high = (f"{one:.3g}" if one < 1000 else number(one) for one in (ahead.soonest, ahead.latest))
    text = (
        f"To lower the loss from {number(found.loss)} by {number(ahead.decrease)} at the best σ takes at least {low} "
        f"generation{'s' * (low != '1')} if |∇U|²/TrH stays as it is"
    )
    if math.isfinite(ahead.latest):
        text += f", and {high} if it falls in proportion to the loss"
    elif ahead.decrease < found.loss:
        text += "; the gain is not told from zero, so there is no upper figure"
    return text + (
        ". This is a range between two assumptions, not an interval that holds with some probability: steep directions go first, "
        "and with flat ones left it takes longer."
    )


def _plans(by_name: Mapping[str, Finding], found: Diagnosis) -> str:
    if not found.plans:
        return ""
    own = by_name["best mutation scale"].follows
    rows = [
        [
            f"{own if one is found.plans[0] else f'(1+{one.num_offspring})'} {one.purpose}",
            number(one.sigma.value),
            *(
                "≤ " * (not math.isfinite(one.gain.error)) + number(value)
                for value in (one.gain.value, one.gain_per_evaluation, one.gain_per_second)
            ),
        ]
        for one in found.plans
    ]
    return table([["algorithm", "best σ", "gain per generation", "per evaluation", "per second"], *rows])
