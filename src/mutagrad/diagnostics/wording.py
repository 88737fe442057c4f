"""What a diagnosis and a run's course say, in sentences and tables."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from mutagrad.algorithms import elitist
from mutagrad.diagnostics.course import Regime
from mutagrad.diagnostics.forecast import RunForecast
from mutagrad.diagnostics.measured import Measured
from mutagrad.diagnostics.plans import Yardstick, promised_decrease, yardstick
from mutagrad.types import Definition

if TYPE_CHECKING:
    from mutagrad.diagnostics.diagnosis import Diagnosis

__all__ = ["course_sentences", "forecast_sentence", "sentences"]

GRADIENT_REGIME = 0.1
"""The gradient regime ends where curvature takes this share of what the drift gains."""
_FACTOR = 2.0
"""σ is called right within this factor of the best one."""
_TENTH = 0.1
"""Measured and expected decrease are said to differ from this share on."""
_SURE = 4.0
"""Standard errors from which a difference is spoken of."""


def number(value: float) -> str:
    """Three significant digits."""
    if not math.isfinite(value):
        return "∞" if value == math.inf else "unknown"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"


def about(estimate: Measured) -> str:
    """Value ± standard error, as many digits as the error allows."""
    value, error = float(estimate.value), float(estimate.error)
    if not math.isfinite(value):
        return "unknown"
    if not math.isfinite(error) or error <= 0:
        return number(value)
    digits = max(1, min(4, 2 + math.floor(math.log10(max(abs(value), error))) - math.floor(math.log10(error))))
    return f"{_rounded(value, digits)} ± {_rounded(error, 2)}"


def _rounded(value: float, digits: int) -> str:
    text = f"{value:.{digits}g}"
    return f"{float(text):,.0f}" if "e" in text and 1 <= abs(value) < 1e7 else text


def percent(share: float) -> str:
    """A share in percent."""
    return f"{100 * share:.3g} %" if math.isfinite(share) else "unknown"


def root(square: Measured) -> Measured:
    """The root of an estimated square; 0 where that is negative."""
    value = math.sqrt(max(float(square.value), 0.0))
    return Measured(value, float(square.error) / (2 * value) if value > 0 else math.nan)


def strength_words(strength: float, held_against: Yardstick) -> str:
    """Which regime an s is: what curvature takes, and where the best is."""
    best, cost = held_against.strength, held_against.cost_per_strength * strength
    if strength > _FACTOR * best:
        return f"far beyond the best s = {best:.2f}: curvature takes what the slope gives"
    if cost < GRADIENT_REGIME:
        return f"the gradient regime, in which curvature takes {percent(max(cost, 0))} of the drift's gain"
    return f"beyond the gradient regime, since curvature takes {percent(cost)} of the drift's gain"


def success_words(success: Measured, predicted: Measured) -> str:
    """Measured and predicted share of successes, with a warning where they differ."""
    text = (
        f"{percent(success.value)} of mutants do no worse than their parent; Φ(−s/2) = {percent(predicted.value)} is "
        "what s predicts."
    )
    if is_apart(success, predicted):
        text += (
            " The two differ: on the scale of this σ the loss is not smooth, or has a few dominating curvatures, and s is a "
            "rough guide."
        )
    return text


def is_apart(success: Measured, predicted: Measured) -> bool:
    """Whether a share of successes differs from the predicted one by more than its error and a tenth of it."""
    error = math.hypot(float(success.error), float(predicted.error))
    return abs(float(success.value) - float(predicted.value)) > max(_SURE * error, _TENTH * float(predicted.value))


def skewness_counts(promised: float, of_normal: float) -> bool:
    """Whether the skewness of mutants' losses changes the promised decrease by more than a tenth of it."""
    return abs(promised - of_normal) > _TENTH * abs(of_normal)


def sentences(found: "Diagnosis") -> str:
    """A diagnosis as text: sentences, then two tables."""
    lines = [_verdict(found), *_advice(found), _noise(found), _gradient(found), _convergence(found), ""]
    return "\n".join([line for line in lines[:-1] if line] + ["", _landscapes(found), "", _plans(found)]).rstrip()


def _verdict(found: "Diagnosis") -> str:
    current, size = found.current, found.num_offspring
    if current is None:
        if not found.has_optimum:
            return ""
        best = found.plans[0]
        return f"The best σ for (1+{size}) is {about(best.sigma)} (s = {best.strength:.2f})."
    regime = f"s = σTrH/|∇U| = {about(current.strength)}"
    if found.has_optimum:
        ratio = current.sigma / found.plans[0].sigma.value
        word = "right" if 1 / _FACTOR <= ratio <= _FACTOR else "too large" if ratio > 1 else "too small"
        text = f"σ = {number(current.sigma)} is {word}: the best for (1+{size}) is {about(found.plans[0].sigma)}."
    else:
        text = f"σ = {number(current.sigma)}: there is no best σ here."
    if math.isfinite(current.strength.value):
        text += f" {regime}, {strength_words(current.strength.value, yardstick(elitist(1.0, size).definition))}."
    return text + " " + success_words(current.success, current.predicted_success)


def _advice(found: "Diagnosis") -> list[str]:
    if not found.has_optimum:
        if found.best.squared_batch_grad_norm.value == found.best.hessian_trace.value == 0:
            return [f"The loss is flat: no mutation up to σ = {number(found.best.sigma)} changes it."]
        return [
            f"No curvature was met that sets a best σ, up to σ = {number(found.best.sigma)}: the larger the better as far as the "
            "loss is finite. It looks linear, or its curvatures of both signs cancel."
        ]
    asked, serial = found.plans[:2]
    lines = []
    if found.gain is not None:
        lines.append(
            f"A generation is expected to lower the loss by {number(found.gain)} as it is, and by {about(asked.gain)} at the "
            "best σ."
        )
    text = (
        f"One evaluation at a time, M = {serial.num_offspring} with σ = {number(serial.sigma.value)} gains most per "
        f"evaluation, {number(serial.gain_per_evaluation / asked.gain_per_evaluation)} times M = {asked.num_offspring}."
    )
    if found.num_workers > 1:
        parallel = found.plans[2]
        text += (
            f" With {found.num_workers} evaluations at a time it is M = {parallel.num_offspring} with σ = "
            f"{number(parallel.sigma.value)}, {number(parallel.gain_per_second)} per second."
        )
    lines.append(text + " Per generation more offspring always gain more, like ln M.")
    return lines


def _noise(found: "Diagnosis") -> str:
    best, size = found.best, found.num_examples
    if size == 1:
        return "The loss is a scalar, which does not show sampling noise: return per-example losses to see it."
    signal, scale = best.signal, best.noise_scale
    text = (
        f"Of batches of {size:,} like this one, " if found.is_sampled else f"If these {size:,} examples were a sample, "
    )
    if best.squared_grad_norm.value < 2 * best.squared_grad_norm.error:
        return text + (
            "the slope is not told from sampling noise: selection follows the examples that were drawn. Make batches several "
            "times larger."
        )
    text += (
        f"{percent(signal.value)} ± {percent(signal.error)} of the drift goes down the loss, the rest is sampling noise "
        f"(TrC/B = {number(best.squared_grad_noise.value)} beside |∇U|² = {number(best.squared_grad_norm.value)})."
    )
    return text + (
        f" Batches of the gradient noise scale, TrC/|∇U|² = {about(scale)} examples, give half the gain per generation of all "
        "data; far larger ones are not worth their cost, far smaller ones cost generations."
    )


def _gradient(found: "Diagnosis") -> str:
    if found.no_gradient:
        return f"Gradients cannot be compared with: {found.no_gradient}."
    if found.effective_rank is None or found.slowdown is None:
        return ""
    size = found.num_offspring
    generations = (
        f"{about(found.slowdown)} generations of (1+{size}) at their best σ do, or "
        f"{number(found.slowdown.value * (size + 1))} evaluations"
    )
    if found.largest_eigenvalue is None:
        return (
            "What gradients would have bought, if the loss has any: a step of gradient descent gains no more than what "
            f"{generations}, if the curvatures are positive: (TrH)²/Tr(H²) = {about(found.effective_rank)} is at least the "
            "effective rank TrH/λ_max. With use_gradient=True λ_max is measured."
        )
    return (
        f"What gradients would have bought: the effective rank TrH/λ_max is {about(found.effective_rank)} for "
        f"{found.num_parameters:,} parameters, so that a step of gradient descent gains what {generations}."
    )


def _convergence(found: "Diagnosis") -> str:
    ahead = found.forecast
    if ahead is None:
        return ""
    text = (
        f"To lower the loss from {number(found.loss)} by {number(ahead.decrease)} (1+{ahead.num_offspring}), its σ kept at the "
        f"best, takes {number(ahead.soonest)} generations if |∇U|²/TrH stays as it is"
    )
    if math.isfinite(ahead.latest):
        text += f", and {number(ahead.latest)} if it falls in proportion to the loss"
    elif ahead.decrease < found.loss:
        text += "; the gain is not told from zero, so that there is no upper bound"
    return text + ". Both are assumptions: of steep and flat directions the steep go first, and then it takes longer."


def _table(head: list[str], rows: list[list[str]]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(head, *rows, strict=True)]
    return "\n".join(
        "  ".join(
            [cells[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True)]
        ).rstrip()
        for cells in [head, *rows]
    )


def _landscapes(found: "Diagnosis") -> str:
    columns = [(f"at σ = {number(one.sigma)}", one) for one in (found.current, found.best) if one is not None]
    if len(columns) == 2 and found.current is not None and found.current.sigma == found.best.sigma:
        columns = columns[1:]
    shown: list[tuple[str, Any]] = [
        ("s = σTrH/|∇U|", lambda one: about(one.strength)),
        ("mutants no worse", lambda one: about(one.success)),
        ("Φ(−s/2)", lambda one: about(one.predicted_success)),
        ("TrH", lambda one: about(one.hessian_trace)),
        ("|∇U| on these examples", lambda one: about(root(one.squared_batch_grad_norm))),
        ("|∇U| without their noise", lambda one: about(root(one.squared_grad_norm))),
        ("(TrH)²/Tr(H²)", lambda one: about(one.participation_ratio)),
    ]
    if found.num_examples == 1:
        del shown[5]
    return _table(
        ["measured", *(name for name, _ in columns)], [[n, *(fn(one) for _, one in columns)] for n, fn in shown]
    )


def _plans(found: "Diagnosis") -> str:
    if not found.plans:
        return ""
    rows = [
        [
            f"{one.num_offspring} {one.purpose}",
            number(one.sigma.value),
            number(one.gain.value),
            number(one.gain_per_evaluation),
            number(one.gain_per_second),
        ]
        for one in found.plans
    ]
    return _table(["M", "best σ", "gain per generation", "per evaluation", "per second"], rows)


def course_sentences(found: Regime, whole: Regime, parts: Definition, batch_size: int | None) -> str:
    """A run's course as text: where it began and where it ended, from its history alone.

    Parameters
    ----------
    found : the course, windows of the run. whole : the last third of it, as one window.
    parts : of the algorithm. batch_size : examples of a batch, if the loss shows them.
    """
    lines = []
    strength = whole.strength
    if math.isfinite(strength.value):
        first = _first_finite(np.asarray(found.strength.value))
        lines.append(
            f"σ: s = σTrH/|∇U| = {about(strength)} in the last third of the run ({first:.3g} at its start), "
            f"{strength_words(strength.value, yardstick(parts))}; σ = {number(whole.sigma.value)}."
        )
    lines.append("Successes: " + success_words(whole.success, whole.predicted_success))
    slope, trace = root(whole.squared_batch_grad_norm), whole.hessian_trace
    lines.append(
        f"Slope and curvature: |∇U| = {about(slope)} on a batch, TrH = {about(trace)}, both in the last third."
    )
    if trace.value > 2 * trace.error and slope.value > 0:
        signal = whole.signal.value if whole.squared_grad_noise.value > 0 else 1.0
        best = yardstick(parts, round(signal, 3))
        unit = slope.value / trace.value
        lines.append(
            f"Best: {best.name} gains most at σ = {number(best.strength * unit)}, {number(best.gain * unit * slope.value)} per "
            "generation" + (", both less if curvature lies along the gradient." if _recombines(parts) else ".")
        )
    lines += _decrease(whole, parts)
    if whole.squared_grad_noise.value > 0:
        lines.append(_course_noise(whole, batch_size))
    else:
        lines.append(
            "Noise: the batch stayed the same, or the loss is a scalar: nothing of the slope is known to be noise."
        )
    return "\n".join(lines)


def best_strength_is_without(parts: Definition, is_sampled: bool) -> str:
    """What the s at which a rule gains most leaves out, as `yardstick` has it: "", or words such as "without noise".

    >>> import mutagrad
    >>> from mutagrad.diagnostics.wording import best_strength_is_without
    >>> best_strength_is_without(mutagrad.weighted_recombination(sigma=0.1, num_offspring=4).definition, is_sampled=True)
    'without noise or curvature along the slope'
    """
    absent = ["noise"] * is_sampled + ["curvature along the slope"] * _recombines(parts)
    return f"without {' or '.join(absent)}" if absent else ""


def _recombines(parts: Definition) -> bool:
    return parts.selection.weights_fn is not None


def _decrease(whole: Regime, parts: Definition) -> list[str]:
    """What generations gained beside what slope, curvature and skewness promise, and which assumption failed if they differ."""
    found, skewness = whole.decrease, whole.skewness
    promised, of_normal = promised_decrease(parts, whole), promised_decrease(parts, whole, normal=True)
    if promised is None or of_normal is None or not np.isfinite([found.value, promised]).all():
        return []
    expected, plain = float(promised), float(of_normal)
    text = (
        f"Decrease: a generation lowers the loss of its batch by {about(found)}; slope and curvature promise "
        f"{number(plain)}"
    )
    if skewness_counts(expected, plain):
        along = skewness.value * root(whole.squared_batch_grad_norm).value / (3 * whole.sigma.value)
        text += (
            f", and {number(expected)} with the skewness of mutants' losses, {about(skewness)}: some curvatures dominate, and "
            f"along the slope it is up to ĝ·Hĝ = {number(along)}"
        )
        if not plain / 2 < expected < 2 * plain:
            text += " (so skewed that only the direction of this is sure)"
    text += "."
    gap = abs(found.value - expected)
    if gap > max(_TENTH * abs(expected), _SURE * float(found.error)):
        if _recombines(parts) and found.value < expected:
            text += " The rest is taken by curvature along the gradient, which single offspring hardly see."
        elif is_apart(whole.success, whole.predicted_success):
            text += " They differ because losses of mutants are not normal about a parabola here: see the successes."
        elif skewness_counts(expected, plain):
            text += " They differ because losses of mutants are skewed, which is counted to first order only."
        else:
            text += " They differ though the successes agree: slope and σ change within the window."
    return [text]


def _course_noise(whole: Regime, batch_size: int | None) -> str:
    own = whole.squared_grad_norm
    if own.value < 2 * own.error:
        return "Noise: the slope is not told from sampling noise; make batches several times larger."
    text = f"Noise: {about(whole.signal)} of the drift goes down the loss, the rest is sampling noise"
    if batch_size is not None:
        scale = Measured(batch_size * whole.noise_ratio.value, batch_size * whole.noise_ratio.error)
        text += f"; the gradient noise scale is {about(scale)} examples beside batches of {batch_size:,}"
    return text + "."


def _first_finite(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite[0]) if finite.size else math.nan


def forecast_sentence(found: RunForecast) -> str:
    """When the loss will be lower, as text."""
    low, high = (f"{one:,.0f}" if math.isfinite(one) else "never" for one in (found.soonest, found.latest))
    middle = (
        f"{found.generations:,.0f} more generations" if math.isfinite(found.generations) else "more than this run tells"
    )
    return (
        f"Forecast: if it goes on like this, the loss falls from {number(found.loss)} by {number(found.decrease)} in {middle} "
        f"({percent(found.coverage)} of times between {low} and {high})."
    )
