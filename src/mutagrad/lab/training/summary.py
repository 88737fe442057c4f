"""What a finished run says of itself: how well it did, in which regime it was, and which gradient descent it was."""

import math
from typing import Any

import numpy as np

from mutagrad import theory
from mutagrad.diagnostics.wording import GRADIENT_REGIME
from mutagrad.generation import mutation_selection
from mutagrad.mutation import gaussian
from mutagrad.theory.moments import sees_ranks_only
from mutagrad.types import Algorithm, Definition

__all__ = ["batches", "drift_per_sigma", "regime", "sentences"]


def drift_per_sigma(parts: Definition) -> float | None:
    """The learning rate, in units of σ, of the normalised gradient descent that an algorithm amounts to at small σ.

    c_M for (1+M), E[Z_(M)] for (1,M), its mean over the K best for truncation, Σ w_k E[Z_(k)] for weighted recombination;
    ``None`` for rules at finite β, whose drift also depends on βσ|∇U|.
    """
    return float(theory.learning_rate(_of_unit_sigma(parts), "normalized")) if sees_ranks_only(parts) else None


def _of_unit_sigma(parts: Definition) -> Algorithm:
    """The algorithm with gaussian mutations of σ = 1, so that its laws are in units of σ."""
    return mutation_selection(gaussian(), parts.selection, parts.num_offspring, sigma=1.0)


def regime(parts: Definition, history: Any) -> dict[str, float]:
    """s, σ and the shares of beneficial mutations, measured and predicted, over the last third of a run.

    Returns
    -------
    dict with ``sigma`` and ``strength`` (medians), ``success`` (the measured share of offspring no worse than their
    parent), ``predicted_success`` (the mean of Φ(−s/2)) and, where `drift_per_sigma` is known, ``learning_rate`` (c_Mσ)
    and ``curvature_cost`` (½ s²(1 − 2^−M) over c_M s for (1+M): the share of the drift's gain that curvature takes).
    """
    number = history.sizes["generation"]
    last = history.isel(generation=slice(2 * number // 3, None))
    strengths = np.asarray(last.normalized_mutation_strength, float)
    finite = strengths[np.isfinite(strengths)]
    strength = float(np.median(finite)) if finite.size else math.nan
    sigma = float(np.median(np.asarray(last.sigma, float)))
    found = {
        "sigma": sigma,
        "strength": strength,
        "success": float(np.mean(np.asarray(last.success, float))),
        "predicted_success": float(np.mean(np.asarray(theory.success_rate(finite)))) if finite.size else math.nan,
    }
    drift = drift_per_sigma(parts)
    if drift:
        kept = float(theory.diffusion(_of_unit_sigma(parts), 1.0).transverse)
        found["learning_rate"] = drift * sigma
        found["curvature_cost"] = kept * strength / (2 * drift)
    return found


def batches(outcome: dict[str, Any]) -> str:
    """How large the batches were.

    >>> from mutagrad.lab.summary import batches
    >>> batches({"batch_sizes": [2048, 8192]})
    'batches of 2,048 to 8,192'
    """
    smallest, largest = outcome["batch_sizes"]
    return f"batches of {largest:,}" if smallest == largest else f"batches of {smallest:,} to {largest:,}"


def sentences(outcome: dict[str, Any]) -> str:
    """The closing summary of a run as text."""
    measured = outcome["regime"]
    lines = [
        f"test accuracy    {100 * outcome['test_accuracy']:.2f} %   (training {100 * outcome['train_accuracy']:.2f} %)",
        f"cost             {outcome['generations']:,} generations, {outcome['evaluations']:,} loss evaluations on "
        f"{batches(outcome)}, {outcome['seconds']:.1f} s",
    ]
    if outcome["components"]:
        lines.append(f"inputs           {outcome['components']} principal components of {outcome['input_size']}")
    if outcome["shared_layers"]:
        number, period = outcome["shared_layers"], outcome["shared_generations"] + 1
        lines.append(
            f"layers           the first {number} mutated in one generation of {period}, the others in "
            f"{outcome['shared_generations']}; what follows is of both together"
        )
    if outcome["unit_groups"] > 1:
        turn = outcome["turn_generations"]
        lines.append(
            f"hidden units     in {outcome['unit_groups']} groups that are mutated in turns"
            + f" of {turn} generations" * (turn > 1)
            + "; what follows is of one of them"
        )
    cost = measured.get("curvature_cost")
    if math.isnan(measured["strength"]):
        lines.append("regime           s could not be measured: one offspring a generation and a fixed σ")
    else:
        text = f"regime           s = σTrH/|∇U| = {measured['strength']:.2f}"
        if cost is not None:
            is_gradient = cost < GRADIENT_REGIME
            text += (
                f": {'in' if is_gradient else 'beyond'} the gradient regime, since curvature takes {100 * cost:.0f} % of "
                f"the drift's gain (gradient regime: under {100 * GRADIENT_REGIME:.0f} %)"
            )
        lines.append(text)
        lines.append(
            f"                 {100 * measured['success']:.1f} % of offspring no worse than their parent; "
            f"Φ(−s/2) = {100 * measured['predicted_success']:.1f} %"
        )
    if "learning_rate" in measured:
        lines.append(
            f"gradient descent normalised, x ← x − {measured['learning_rate']:.3g} ∇U/|∇U| per generation "
            f"(learning rate {outcome['drift']:.4f} σ, σ = {measured['sigma']:.3g})"
        )
    else:
        lines.append(f"gradient descent depends on βσ|∇U| at finite β (theory.md 1); σ = {measured['sigma']:.3g}")
    if outcome["num_nonfinite"]:
        lines.append(f"failures         {outcome['num_nonfinite']:,} offspring had a NaN or infinite loss, and lost")
    lines.append(f"stopped by       {outcome['stopped']}")
    return "\n".join(lines)
