"""A diagnosis, in sentences and a table."""

import math
from collections.abc import Mapping

from mutagrad.diagnostics import Diagnosis, Finding, describe, findings
from mutagrad.report.text.numbers import about, number, percent, table
from mutagrad.report.text.regime import slope_words, strength_words, success_words

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
    lines = [
        _verdict(by_name, found),
        *_advice(by_name, found),
        slope_words(found.best, "these examples"),
        _noise(by_name, found),
        _gradient(by_name, found),
        _forecast(found),
    ]
    return "\n".join([line for line in lines if line] + ["", _plans(found)]).rstrip()


def _verdict(by_name: Mapping[str, Finding], found: Diagnosis) -> str:
    scale, best = by_name.get("mutation scale"), by_name.get("best mutation scale")
    if scale is None or found.current is None:
        return (
            f"The best σ for {best.follows} is {about(best.estimate)} (s = {found.plans[0].strength:.2f})."
            if best
            else ""
        )
    text = f"σ = {number(scale.estimate.value)}"
    text += (
        f" is {scale.follows}: the best for {best.follows} is {about(best.estimate)}."
        if best
        else ": there is no best σ here."
    )
    if by_name["normalised mutation strength"].follows:
        text += " " + strength_words(by_name)
    return text + " " + success_words(by_name["success"], found.current.predicted_success.value)


def _advice(by_name: Mapping[str, Finding], found: Diagnosis) -> list[str]:
    if not found.plans:
        if by_name["curvature"].follows == "flat":
            return [f"The loss is flat: no mutation up to σ = {number(found.best.sigma.value)} changes it."]
        return [
            f"No curvature was met that sets a best σ, up to σ = {number(found.best.sigma.value)}. The larger σ the better, as "
            "far as the loss is finite. The loss looks linear, or its curvatures of both signs cancel."
        ]
    asked, serial = found.plans[:2]
    lines = []
    if found.gain is not None:
        gains = f"{number(found.gain)} as it is, and by {about(asked.gain)} at the best σ"
        lines.append(f"A generation lowers the loss by {gains}.")
    text = (
        f"One evaluation at a time, M = {serial.num_offspring} with σ = {number(serial.sigma.value)} gains most per "
        f"evaluation, {number(serial.gain_per_evaluation / asked.gain_per_evaluation)} times M = {asked.num_offspring}."
    )
    if found.num_workers > 1:
        parallel = found.plans[2]
        text += (
            f" {found.num_workers} evaluations at a time, it is M = {parallel.num_offspring} with σ = "
            f"{number(parallel.sigma.value)}, {number(parallel.gain_per_second)} per second."
        )
    return [*lines, text + " Per generation more offspring always gain more, like ln M."]


def _noise(by_name: Mapping[str, Finding], found: Diagnosis) -> str:
    best, size, signal = found.best, found.num_examples, by_name["signal"]
    if signal.follows == "unseen":
        return "The loss is a scalar, which does not show sampling noise. Return per-example losses to see it."
    text = f"Of batches of {size:,} like this one, " if found.is_sampled else f"If these {size:,} are a sample, "
    if signal.follows == "drowned":
        return text + (
            "the slope is not told from sampling noise: selection follows the examples that were drawn. Make batches several "
            "times larger."
        )
    return text + (
        f"{percent(best.signal.value)} ± {percent(best.signal.error)} of the drift goes down the loss, the rest is sampling "
        f"noise (TrC/B = {number(best.squared_grad_noise.value)} beside |∇U|² = {number(best.squared_grad_norm.value)}). Batches "
        f"of the gradient noise scale, {about(best.noise_scale)} examples, give half the gain per generation of all data."
    )


def _gradient(by_name: Mapping[str, Finding], found: Diagnosis) -> str:
    if found.no_gradient:
        return f"Gradients cannot be compared with: {found.no_gradient}."
    rank, slowdown = by_name.get("effective rank"), by_name.get("slowdown")
    if rank is None or slowdown is None:
        return ""
    size, value = found.num_offspring, about(rank.estimate)
    generations = (
        f"{about(slowdown.estimate)} generations of (1+{size}) at their best σ, or "
        f"{number(slowdown.estimate.value * (size + 1))} evaluations"
    )
    if rank.follows == "measured":
        return (
            f"A step of gradient descent gains as much as {generations}: the effective rank TrH/λ_max is {value} for "
            f"{found.num_parameters:,} parameters."
        )
    return (
        f"A step of gradient descent gains at most as much as {generations}, if the curvatures are positive: the effective rank "
        f"TrH/λ_max is at most (TrH)²/Tr(H²) = {value}. With use_gradient=True λ_max is measured."
    )


def _forecast(found: Diagnosis) -> str:
    ahead = found.forecast
    if ahead is None:
        return ""
    text = (
        f"To lower the loss from {number(found.loss)} by {number(ahead.decrease)}, (1+{ahead.num_offspring}) at its best σ takes "
        f"{number(ahead.soonest)} generations if |∇U|²/TrH stays as it is"
    )
    if math.isfinite(ahead.latest):
        text += f", and {number(ahead.latest)} if it falls in proportion to the loss"
    elif ahead.decrease < found.loss:
        text += "; the gain is not told from zero, so there is no upper bound"
    return text + ". Both are assumptions. Steep directions go first, and with flat ones left it takes longer."


def _plans(found: Diagnosis) -> str:
    if not found.plans:
        return ""
    rows = [
        [
            f"{one.num_offspring} {one.purpose}",
            *map(number, (one.sigma.value, one.gain.value, one.gain_per_evaluation, one.gain_per_second)),
        ]
        for one in found.plans
    ]
    return table([["M", "best σ", "gain per generation", "per evaluation", "per second"], *rows])
