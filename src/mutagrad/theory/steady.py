"""What a steady state gains: a mutant may be born from a parent that has been replaced when it is judged (theory.md 2.6)."""

import math
import numbers

import numpy as np
from scipy.optimize import brentq
from scipy.special import erfcx

from mutagrad import check

__all__ = ["steady_state_gain"]

_MOST, _SMALLEST = 100_000, 1e-200
_TAIL = 60
"""So many times the mean number of evaluations between birth and end are summed over."""


def steady_state_gain(num_in_flight: int, strength: float = 0.0, *, is_equal: bool = False) -> float:
    """By how much an evaluation of a steady state lowers the loss in the mean, in units of σ|∇U|.

    Parameters
    ----------
    num_in_flight : W, mutants that are evaluated at a time, up to 10⁵; 1 is (1+1).
    strength : s = σTrH/|∇U|, the normalised mutation strength.
    is_equal : whether all evaluations take the same time; otherwise any of those in flight ends next, with equal chances, as
        where times are exponential.

    Returns
    -------
    r: the drift is −rσ∇U/|∇U| an evaluation. 0.399 with W = 1 and s = 0; near 1/(2√W) for large W.

    Domain: losses that are linear, or of many curvatures, over what is gained while a mutant is in flight. What is gained between
    its birth and its end is taken as its mean, which makes r too small, by less than a fifth of what it is up to W = 64
    (verification/results/steady_state.md).

    Source: theory.md 2.6, derived for this project.

    >>> from mutagrad.theory import steady_state_gain
    >>> [round(steady_state_gain(number), 3) for number in (1, 4, 16, 64)]
    [0.399, 0.219, 0.116, 0.06]
    """
    width = check.count("num_in_flight", num_in_flight)
    if width > _MOST:
        raise ValueError(f"num_in_flight: got {width}; pass a number up to {_MOST:,}, or take 1/(2√W)")
    if not isinstance(strength, numbers.Real) or not math.isfinite(strength):
        raise ValueError(f"strength: got {strength!r}; pass a finite number")
    half = float(strength) / 2
    check.flag("is_equal", is_equal)
    ended = np.asarray([width - 1.0]) if is_equal else np.arange(_TAIL * width, dtype=float)
    chances = np.ones(1) if is_equal else (1 - 1 / width) ** ended / width

    # The gain of one alone is the largest there is.
    alone = float(_beyond(np.asarray(half)))
    if width == 1 or alone < _SMALLEST:
        return alone

    def excess(share: float) -> float:
        return float(np.sum(chances * (_beyond(ended * alone * share + half) / alone))) - share

    return alone * float(brentq(excess, 0.0, 1 + 1e-9, xtol=1e-14, rtol=1e-12))


def _beyond(threshold: np.ndarray) -> np.ndarray:
    """E[(ζ − a)₊] of a normal ζ, to digits that its two terms do not have where a is large."""
    # Far on the other side it is −a.
    near = np.maximum(threshold, -30.0)
    share = 1 - math.sqrt(math.pi / 2) * near * erfcx(near / math.sqrt(2))
    density = np.exp(-(near**2) / 2) / math.sqrt(2 * math.pi)
    return density * np.maximum(share, 0) + (near - threshold)
