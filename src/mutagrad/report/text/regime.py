"""A regime and a run's forecast, in sentences."""

import math
from collections.abc import Mapping

import numpy as np

from mutagrad.diagnostics import Finding, Regime, RunForecast, describe, findings
from mutagrad.diagnostics.verdicts import recombines, root
from mutagrad.estimate import Estimate
from mutagrad.report.text.numbers import about, number, percent, percent_about, table
from mutagrad.types import Definition

__all__ = ["along_words", "best_strength_is_without", "best_words", "forecast_text", "regime_text"]

_MOST_WINDOWS = 12

_DIFFER = {
    "as promised": "",
    "": "",
    "curvature along the slope": " Curvature along the slope takes the rest; single offspring hardly show it.",
    "rough": " The two differ: losses of offspring are not normal about a parabola here. See the successes.",
    "skewed": " The two differ: losses of offspring are skewed, and skewness is counted to first order only.",
    "drifting": " The two differ though the successes do not: slope and σ may have changed within the window.",
}


def strength_words(found: Mapping[str, Finding]) -> str:
    """s, the regime that it belongs to, and what curvature takes."""
    strength, cost = found["normalised mutation strength"], found.get("share that curvature takes")
    text = f"s = σTrH/|∇U| = {about(strength.estimate)}"
    if cost is None or not math.isfinite(strength.estimate.value):
        return text + "."
    takes = f"curvature takes {percent_about(cost.estimate)} of the drift's gain"
    return (
        text
        + {
            "far beyond": ", far beyond the best s: curvature takes what the slope gives.",
            "gradient regime": f", the gradient regime: {takes}.",
            "beyond": f", beyond the gradient regime: {takes}.",
            "": "; in which regime that is, is not told.",
        }[strength.follows]
    )


def success_words(success: Finding, found: Regime) -> str:
    """Measured and predicted share of successes, with a warning where they differ."""
    share, predicted = percent_about(success.estimate), found.predicted_success
    text = f"{share} of offspring do no worse than their parent"
    if not math.isfinite(predicted.value):
        return text + "."
    text += f"; s predicts Φ(−s/2) = {percent_about(predicted)}."
    if success.follows == "differs":
        text += " The two differ: at this σ the loss is not smooth, or a few curvatures dominate. s is a rough guide."
    return text


def slope_words(found: Regime, of: str) -> str:
    """Slope and curvature."""
    slope = about(root(found.squared_batch_grad_norm))
    return f"Slope and curvature: |∇U| = {slope} on {of}, TrH = {about(found.hessian_trace)}."


@describe.register
def regime_text(found: Regime) -> str:
    """A regime in sentences; in several windows, as a table of at most 12 of them.

    Parameters
    ----------
    found : of `mutagrad.diagnostics.regime`. What is held against the best needs the algorithm there.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> algorithm = mutagrad.elitist(sigma=0.1, num_offspring=20)
    >>> result = mutagrad.evolve(jax.random.key(0), algorithm, jnp.ones(99), lambda x: x @ x, 40, progress=False)
    >>> print(mutagrad.diagnostics.regime(result.history, algorithm=algorithm))     # doctest: +ELLIPSIS
    Used: the 40 generations, of σ = 0.1.
    σ: s = σTrH/|∇U| = ...
    """
    if np.ndim(found.generation):
        return _windows(found)
    by_name = {one.name: one for one in findings(found)}
    lines = [_used(found), _kind(found)]
    if found.kind not in ("noise", "flat", "rounding"):
        lines += [f"σ: {strength_words(by_name)}", _best(by_name, found)]
    nothing = Estimate(math.nan, math.nan)
    shown = found._replace(predicted_success=nothing) if found.kind in ("noise", "flat", "rounding") else found
    lines.append(f"Successes: {success_words(by_name['success'], shown)}")
    if found.kind not in ("noise", "flat", "rounding"):
        lines += [slope_words(found, "a batch"), _decrease(by_name, found), _noise(by_name, found)]
    lines.append(_real(by_name, found))
    return "\n".join(line for line in lines if line)


def _used(found: Regime) -> str:
    if not found.num_given:
        return ""
    low, high = (number(one) for one in found.sigma_range)
    of = f"the last {found.number} of {found.num_given}" if found.number < found.num_given else f"the {found.number}"
    spread = f"of σ = {low}" if low == high else f"over which σ went from {low} to {high}"
    text = f"Used: {of} generations, {spread}."
    if found.num_failed:
        text += f" In {found.num_failed} generations an offspring, or the parent, had a NaN or infinite loss."
    return text


def _kind(found: Regime) -> str:
    if found.kind == "noise":
        return (
            f"Loss: noise alone is seen. The variance of offspring's losses goes like σ^{about(found.spread_exponent)}, where a "
            "slope gives σ². So there is no s and no best σ."
        )
    if found.kind == "rounding":
        return (
            "Loss: offspring differ by the rounding of their losses alone, so there is no s. Take a larger σ, or per-example "
            "losses, of which a difference keeps more digits."
        )
    if found.kind == "rough or of low rank":
        return (
            "Loss: rough, or few curvatures dominate. The chosen parent is better than its surroundings by luck, "
            f"{about(found.luck)} standard deviations of its offspring's losses, which s counts as curvature. "
            "`mutagrad.diagnose` tells the two apart."
        )
    return "Loss: flat. No offspring's loss differed from its parent's." if found.kind == "flat" else ""


def _real(by_name: Mapping[str, Finding], found: Regime) -> str:
    """What was real of the gain, by batches that did not select."""
    share = found.validated_share
    if not (math.isfinite(share.value) and math.isfinite(share.error)):
        return ""
    return (
        f"Of what steps gained by the losses that chose them, {percent_about(share)} was real, by those of the next generation."
        + " Whether steps lower the loss is not told." * (abs(share.value) < 2 * share.error)
    )


def _best(by_name: Mapping[str, Finding], found: Regime) -> str:
    scale, best, stands_in = by_name["mutation scale"], by_name.get("best mutation scale"), by_name.get("stands in")
    verdict = scale.follows if scale.follows.startswith("may be") else f"is {scale.follows}"
    text = f"Best: σ = {number(scale.estimate.value)}"
    if best is None:
        unknown = "o curvature is told from zero, so the best σ is not known."
        return f"{text} {verdict}: s is far below the best one. N{unknown}" if scale.follows else f"Best: n{unknown}"
    if not scale.follows:
        return text + f" cannot be judged. No best σ is known: {best.follows}."
    gain = by_name["decrease at the best"].estimate
    is_range = "least best mutation scale" in by_name
    at = best_words(by_name) if is_range else f"σ = {best_words(by_name)}"
    of = f"{number(gain.value)} per generation at most" if is_range else f"{about(gain)} per generation"
    text += f" {verdict}. {best.follows} gains most at {at}, {of}{along_words(by_name)}"
    return text + (f" It stands in for {stands_in.follows}." if stands_in is not None else "")


def along_words(by_name: Mapping[str, Finding]) -> str:
    """The end of a sentence about the best σ of recombination: how much of the curvature lies along the slope."""
    along = by_name.get("share of curvature along the slope")
    if along is None:
        return "."
    if not math.isfinite(along.estimate.error):
        return "; both are less if curvature lies along the slope."
    if "least best mutation scale" in by_name:
        return "; the more of the curvature lies along the slope, the less, and offspring hardly tell."
    return f", where {percent_about(along.estimate)} of the curvature lies along the slope."


def best_words(by_name: Mapping[str, Finding]) -> str:
    """The best σ, or between which two it is."""
    best, least = by_name["best mutation scale"].estimate, by_name.get("least best mutation scale")
    if least is None:
        return about(best)
    return f"a σ between {number(least.estimate.value)} and {number(best.value)}"


def _decrease(by_name: Mapping[str, Finding], found: Regime) -> str:
    decrease, promised = by_name["decrease"], by_name.get("promised")
    if not math.isfinite(decrease.estimate.value):
        return ""
    text = f"Decrease: a generation lowers the loss of its batch by {about(decrease.estimate)}"
    if promised is None:
        return text + "."
    text += f"; slope and curvature promise {about(promised.estimate)}."
    skewed = by_name.get("promised with skewness")
    if skewed is not None:
        text += (
            f" With the skewness of offspring's losses, {about(found.skewness)}, it is {number(skewed.estimate.value)}: some "
            f"curvatures dominate, and along the slope it is up to ĝ·Hĝ = "
            f"{number(by_name['curvature along the slope'].estimate.value)}."
        )
        if skewed.follows == "direction only":
            text += " At so large a skewness only the direction of this is sure."
    return text + _DIFFER[decrease.follows]


def _noise(by_name: Mapping[str, Finding], found: Regime) -> str:
    signal = by_name["signal"]
    if signal.follows == "unseen":
        if math.isfinite(found.validated_share.value):
            return "Noise: the loss is a scalar, so that |∇U| holds the noise of batches, or of the loss itself."
        return "Noise: the batch stayed the same, or the loss is a scalar. No sampling noise is seen in the slope."
    if signal.follows == "drowned":
        return "Noise: the slope drowns in sampling noise. Make batches several times larger."
    if signal.follows == "not told":
        return "Noise: the slope is not told from sampling noise in these generations. More of them tell, or larger batches."
    return (
        f"Noise: {percent_about(signal.estimate)} of the drift goes down the loss, the rest is sampling noise. The gradient "
        f"noise scale is {about(found.noise_scale)} examples."
    )


def _windows(found: Regime) -> str:
    number_of = len(found.generation)
    shown = np.unique(np.linspace(0, number_of - 1, min(number_of, _MOST_WINDOWS)).astype(int))
    columns = [found.sigma, found.normalized_mutation_strength, found.squared_batch_grad_norm, found.hessian_trace]
    columns += [found.signal, found.decrease]
    head = ["generation", "σ", "s", "|∇U|² on a batch", "TrH", "signal", "decrease"]
    rows = [[number(found.generation[i]), *(number(column.value[i]) for column in columns)] for i in shown]
    return table([head, *rows])


def best_strength_is_without(definition: Definition, is_sampled: bool) -> str:
    """What the s at which a rule gains most leaves out: "", or words such as "without noise".

    >>> import mutagrad
    >>> from mutagrad.report.text import best_strength_is_without
    >>> best_strength_is_without(mutagrad.weighted_recombination(sigma=0.1, num_offspring=4).definition, is_sampled=True)
    'without noise or curvature along the slope'
    """
    absent = ["noise"] * is_sampled + ["curvature along the slope"] * recombines(definition)
    return f"without {' or '.join(absent)}" if absent else ""


@describe.register
def forecast_text(found: RunForecast) -> str:
    """When the loss of a run will be lower, in a sentence.

    >>> import numpy as np
    >>> from mutagrad.diagnostics import forecast
    >>> from mutagrad.report.text import forecast_text
    >>> forecast_text(forecast({"loss": np.exp(-np.arange(2000) / 500)}))[:50]
    'Forecast: if it goes on like this, the loss falls '
    """
    low, high = (f"{one:,.0f}" if math.isfinite(one) else "never" for one in (found.soonest, found.latest))
    decrease = f"from {number(found.loss)} by {number(found.decrease)}"
    if found.soonest == math.inf:
        return f"Forecast: the loss has levelled off at {number(found.loss)}, so that it is not expected to fall."
    if found.soonest < 1 and found.latest == math.inf:
        return f"Forecast: when the loss will have fallen {decrease}, this run does not tell."
    if found.generations == math.inf:
        return (
            f"Forecast: if it goes on like this, the loss more likely levels off before it has fallen {decrease}; if it does "
            f"fall, then in {low} generations or more ({percent(found.coverage)} of times, never included)."
        )
    return (
        f"Forecast: if it goes on like this, the loss falls {decrease} in {found.generations:,.0f} more generations "
        f"({percent(found.coverage)} of times between {low} and {high})."
    )
