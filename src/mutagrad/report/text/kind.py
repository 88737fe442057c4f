"""Which kind of loss it is, in sentences."""

import math

from mutagrad.diagnostics import LossKind, describe
from mutagrad.estimate import Estimate
from mutagrad.report.text.numbers import about, number, percent, percent_about

__all__ = ["kind_text"]

_LEAST_PAIRS = 4
"""By this factor more pairs are asked for where they do not decide."""
_MOST_ERROR = 0.25
"""An exponent of a larger error is not printed: its interval holds most of what may be, from 0 to 1.3."""


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
        "flat": f"The loss is flat: no mutation {_between(low, high)} changes it.",
        "minimum": (
            f"There is no slope here: from σ = {low} to {high} opposite mutations cost the same but for rounding, and more than "
            "the params. The params are at a minimum, or as close as the digits of the loss tell."
        ),
        "rounding": f"The loss changes by its rounding alone {_between(low, high)}. Take a larger σ, or "
        "per-example losses, of which a difference keeps more digits.",
    }.get(kind.name)
    if kind.name == "failing":
        return (
            f"{percent(kind.failed)} of mutants failed from σ = {number(kind.fails_from)} on: their loss is NaN or infinite, and "
            "too few pairs of opposite mutations are left to tell a slope. Pass params further from where the loss fails."
        )
    text = text or _uneven(kind, low, high, pairs)
    if kind.has_slope and sigma is not None and kind.tells_where and kind.name not in ("smooth", "undecided"):
        text += f" At σ = {number(sigma)} {percent_about(kind.signal)} of the variance of a mutant's loss is slope."
    if parent_noise is not None and parent_noise.value > 0:
        text += f" Evaluated again, the loss of the same params differs: its noise is {about(parent_noise)}."
    if math.isfinite(kind.differs_from) and not kind.has_slope:
        text += f" From σ = {number(kind.differs_from)} on mutants differ by more than evaluations of the same one do."
    if kind.failed > 0:
        text += f" {percent(kind.failed)} of mutants failed (NaN or infinite), from σ = {number(kind.fails_from)} on; left out."
    return text


def _between(low: str, high: str) -> str:
    return f"at σ = {low}" if low == high else f"from σ = {low} to {high}"


def _uneven(kind: LossKind, low: str, high: str, pairs: str) -> str:
    ask = f"not told apart with {kind.num_pairs} pairs; pass num_pairs={_LEAST_PAIRS * 2 * kind.num_pairs}"
    if kind.name == "undecided":
        return f"Whether the loss is smooth, rough or noisy is {ask}."
    of = "noise" if kind.name in ("noise", "noisy") else "roughness" if kind.name == "rough" else "roughness or noise"
    is_told = kind.exponent.error < _MOST_ERROR
    growth = (
        f", whose variance goes like σ^{about(kind.exponent)}" if is_told else ", of a growth with σ that is not told"
    )
    if not kind.has_slope:
        if kind.name == "noise":
            return (
                f"The loss is noise: from σ = {low} to {high} mutants differ by {about(kind.noise)} whatever σ is, and no slope "
                f"is told from it {pairs}."
            )
        goes = f"the variance of mutants' losses goes like σ^{about(kind.exponent)}, and " if is_told else ""
        return f"The loss is {kind.name}: from σ = {low} to {high} {goes}no slope is told from {of} {pairs}."
    where = f"below σ = {about(kind.drowns_below)} its slope drowns"
    if not kind.tells_where:
        most = kind.drowns_below.value + 2 * kind.drowns_below.error
        where = f"its slope drowns below some σ, {number(most)} at most,"
    text = f"The loss is {kind.name}: {where} in {of}"
    if kind.name == "noisy" and math.isfinite(kind.noise.value):
        return text + f" of {about(kind.noise)} {pairs}."
    if kind.name == "rough or noisy":
        return f"{text}{growth}; which of the two is {ask}."
    return f"{text}{growth} {pairs}."
