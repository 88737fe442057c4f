"""Which kind of loss it is, in sentences."""

import math

from mutagrad.diagnostics import LossKind, describe
from mutagrad.estimate import Estimate
from mutagrad.report.text.numbers import about, number, percent_about

__all__ = ["kind_text"]

_LEAST_PAIRS = 4
"""By this factor more pairs are asked for where they do not decide."""


@describe.register
def kind_text(kind: LossKind, sigma: float | None = None, parent_noise: Estimate | None = None) -> str:
    """The kind of a loss, from which σ on, and how much of a mutant's loss is slope.

    Parameters
    ----------
    kind : of `mutagrad.diagnose` or `mutagrad.diagnostics.loss_kind`.
    sigma : where the share of slope is meant, if it is to be said [parameter].
    parent_noise : of a loss that was evaluated again at the same params [loss].

    >>> import jax, jax.numpy as jnp
    >>> from mutagrad.diagnostics import loss_kind
    >>> print(loss_kind(jax.random.key(0), lambda x: jnp.sum(x**2), jnp.ones(100), 0.1))
    The loss is smooth from σ = 0.0001 to 0.1: no roughness and no noise is told from its slope (16 pairs for each σ).
    """
    low, high = (number(one) for one in kind.sigmas)
    pairs = f"({kind.num_pairs} pairs for each σ)"
    text = {
        "smooth": f"The loss is smooth from σ = {low} to {high}: no roughness and no noise is told from its slope {pairs}.",
        "flat": f"The loss is flat: no mutation from σ = {low} to {high} changes it.",
        "minimum": (
            f"There is no slope here: from σ = {low} to {high} opposite mutations cost the same but for rounding, and more than "
            "the params. The params are at a minimum, or as close as the digits of the loss tell."
        ),
        "rounding": f"The loss changes by its rounding alone from σ = {low} to {high}. Pass per-example losses, or more digits.",
    }.get(kind.name)
    text = text or _uneven(kind, low, high, pairs)
    if kind.has_slope and sigma is not None and kind.name not in ("smooth", "undecided"):
        text += f" At σ = {number(sigma)} {percent_about(kind.signal)} of the variance of a mutant's loss is slope."
    if parent_noise is not None and parent_noise.value > 0:
        text += f" Evaluated again, the loss of the same params differs: its noise is {about(parent_noise)}."
    return text


def _uneven(kind: LossKind, low: str, high: str, pairs: str) -> str:
    ask = f"not told apart with {kind.num_pairs} pairs; pass num_pairs={_LEAST_PAIRS * 2 * kind.num_pairs}"
    if kind.name == "undecided":
        return f"Whether the loss is smooth, rough or noisy is {ask}."
    of = "noise" if kind.name in ("noise", "noisy") else "roughness" if kind.name == "rough" else "roughness or noise"
    growth = f"σ^{about(kind.exponent)}"
    if not kind.has_slope:
        if kind.name == "noise":
            return (
                f"The loss is noise: from σ = {low} to {high} mutants differ by {about(kind.noise)} whatever σ is, and no slope "
                f"is told from it {pairs}."
            )
        return (
            f"The loss is {kind.name}: from σ = {low} to {high} the variance of mutants' losses goes like {growth}, and no slope "
            f"is told from it {pairs}."
        )
    text = f"The loss is {kind.name}: below σ = {about(kind.drowns_below)} its slope drowns in {of}"
    if kind.name == "noisy" and math.isfinite(kind.noise.value):
        return text + f" of {about(kind.noise)} {pairs}."
    if kind.name == "rough or noisy":
        return f"{text}, whose variance goes like {growth}; which of the two is {ask}."
    return f"{text}, whose variance goes like {growth} {pairs}."
