"""A regime and a run's forecast, in sentences."""

import math
from collections.abc import Mapping

import numpy as np

from mutagrad.diagnostics import Finding, Regime, RunForecast, describe, findings
from mutagrad.diagnostics.verdicts import recombines, root
from mutagrad.report.text.numbers import about, number, percent, table
from mutagrad.types import Definition

__all__ = ["best_strength_is_without", "forecast_text", "regime_text"]

_MOST_WINDOWS = 12

_DIFFER = {
    "as promised": "",
    "curvature along the slope": " Curvature along the slope takes the rest; single offspring hardly show it.",
    "rough": " The two differ: losses of offspring are not normal about a parabola here. See the successes.",
    "skewed": " The two differ: losses of offspring are skewed, and skewness is counted to first order only.",
    "drifting": " The two differ though the successes agree: slope and σ change within the window.",
}


def strength_words(found: Mapping[str, Finding]) -> str:
    """s, the regime that it belongs to, and what curvature takes."""
    strength = found["normalised mutation strength"]
    text = f"s = σTrH/|∇U| = {about(strength.estimate)}"
    if not strength.follows:
        return text + "."
    cost = percent(max(found["share that curvature takes"].estimate.value, 0))
    return (
        text
        + {
            "far beyond": ", far beyond the best s: curvature takes what the slope gives.",
            "gradient regime": f", the gradient regime: curvature takes {cost} of the drift's gain.",
            "beyond": f", beyond the gradient regime: curvature takes {cost} of the drift's gain.",
        }[strength.follows]
    )


def success_words(success: Finding, predicted: float) -> str:
    """Measured and predicted share of successes, with a warning where they differ."""
    share = percent(success.estimate.value)
    text = f"{share} of offspring do no worse than their parent; s predicts Φ(−s/2) = {percent(predicted)}."
    if success.follows == "rough":
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
    σ: s = σTrH/|∇U| = ...
    """
    if np.ndim(found.generation):
        return _windows(found)
    by_name = {one.name: one for one in findings(found)}
    lines = [
        f"σ: {strength_words(by_name)}",
        _best(by_name, found),
        f"Successes: {success_words(by_name['success'], found.predicted_success.value)}",
        slope_words(found, "a batch"),
        _decrease(by_name, found),
        _noise(by_name, found),
    ]
    return "\n".join(line for line in lines if line)


def _best(by_name: Mapping[str, Finding], found: Regime) -> str:
    scale, best = by_name["mutation scale"], by_name.get("best mutation scale")
    text = f"Best: σ = {number(scale.estimate.value)}"
    if best is None:
        text += f" is {scale.follows}" if scale.follows else ""
        return text + ". No curvature is told from zero, so the best σ is not known."
    if not scale.follows:
        return text + f". No best σ is known: {best.follows}."
    gain = number(by_name["decrease at the best"].estimate.value)
    text += f" is {scale.follows}. {best.follows} gains most at σ = {about(best.estimate)}, {gain} per generation"
    is_less = isinstance(found.definition, Definition) and recombines(found.definition)
    return text + ("; both are less if curvature lies along the slope." if is_less else ".")


def _decrease(by_name: Mapping[str, Finding], found: Regime) -> str:
    decrease, promised = by_name["decrease"], by_name.get("promised")
    if not math.isfinite(decrease.estimate.value):
        return ""
    text = f"Decrease: a generation lowers the loss of its batch by {about(decrease.estimate)}"
    if promised is None:
        return text + "."
    text += f"; slope and curvature promise {number(promised.estimate.value)}."
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
        return "Noise: the batch stayed the same, or the loss is a scalar. No noise is seen in the slope."
    if signal.follows == "drowned":
        return "Noise: the slope is not told from sampling noise. Make batches several times larger."
    return (
        f"Noise: {about(signal.estimate)} of the drift goes down the loss, the rest is sampling noise. The gradient noise "
        f"scale is {about(found.noise_scale)} examples."
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
    is_finite = math.isfinite(found.generations)
    middle = f"{found.generations:,.0f} more generations" if is_finite else "more than this run tells"
    return (
        f"Forecast: if it goes on like this, the loss falls from {number(found.loss)} by {number(found.decrease)} in {middle} "
        f"({percent(found.coverage)} of times between {low} and {high})."
    )
