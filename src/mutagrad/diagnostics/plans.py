"""How many offspring, at which σ, and what they gain: the laws of (1+M) put to a measured loss (theory.md 3 and 8)."""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import scipy

from mutagrad import check
from mutagrad.diagnostics.regime import Regime
from mutagrad.diagnostics.steps import standing_out, steps_of
from mutagrad.estimate import Estimate
from mutagrad.law import Acceptance, Boltzmann, OrderStatistic, RankWeights
from mutagrad.theory.definition import known
from mutagrad.theory.optimum import keeps_the_better
from mutagrad.theory.progress import best_of_moment, gauss
from mutagrad.types import Definition

__all__ = [
    "Plan",
    "Yardstick",
    "expected_decrease",
    "gain_at",
    "gain_on_batch",
    "plan",
    "promised_decrease",
    "yardstick",
]

_MOST_OFFSPRING = 1000
_UPPER = 9.0
_MOST_SKEWNESS = 2.0


class Plan(NamedTuple):
    """(1+M), or the algorithm that was asked about, at its best σ.

    Attributes
    ----------
    purpose : what M was chosen for.
    num_offspring : M.
    sigma : the σ at which a generation gains most, with its standard error [parameter].
    strength : the s on the batch that this σ has.
    gain : expected decrease of the loss per generation, with its standard error [loss].
    gain_per_evaluation : the same over M + 1, the parent counted [loss].
    gain_per_second : the same over the time that a generation takes, with the workers there are [loss/s].
    """

    purpose: str
    num_offspring: int
    sigma: Estimate
    strength: float
    gain: Estimate
    gain_per_evaluation: float
    gain_per_second: float


def gain_on_batch(strength: np.ndarray, num_offspring: int, signal: float = 1.0) -> np.ndarray:
    r"""Expected decrease of the loss per generation of (1+M) that sees only a batch of it, in units of |g_B|²/TrH.

    The slope is $g_B = g + n$ with $g = \rho |g_B|$ along it in the mean. On the batch $\Delta U_B = s z + s^2/2$ decides;
    the loss itself changes by $\rho^2 s z + s^2/2$. So the gain is $\rho^2 G_M(s) - (1 - \rho^2) \frac{s^2}{2}
    (1 - \Phi(s/2)^M)$: what selection sees of the slope, less the curvature that it pays for noise.

    Parameters
    ----------
    strength : s = σTrH/|g_B| on the batch.
    num_offspring : M ≥ 1.
    signal : ρ = |g|/|g_B| from 0 to 1; 1 is `mutagrad.theory.expected_gain`.

    Source: derived for this project, tested in tests/diagnostics/test_plans.py.

    >>> import numpy as np
    >>> from mutagrad.diagnostics.plans import gain_on_batch
    >>> gain_on_batch(np.array([1.224, 0.6]), 1, 0.7).round(3).tolist()
    [-0.004, 0.043]
    """
    strength = np.asarray(strength, np.float64)
    lower = np.minimum(strength / 2, _UPPER)
    half_width = (_UPPER - lower) / 2
    points, weights = gauss(96)
    nodes = lower[..., None] + half_width[..., None] * (1 + points)
    # `mutagrad.theory.expected_gain` is this integral in JAX, which takes longer to start than to compute it.
    own = strength * half_width * (_tail(nodes, num_offspring) @ weights)
    return signal**2 * own - (1 - signal**2) * strength**2 / 2 * _tail(strength / 2, num_offspring)


def _tail(nodes: np.ndarray, num_offspring: int) -> np.ndarray:
    """Probability that the largest of M standard normals is above the nodes."""
    return -np.expm1(num_offspring * scipy.special.log_ndtr(nodes))


@lru_cache(maxsize=4096)
def optimum(num_offspring: int, signal: float = 1.0) -> tuple[float, float]:
    """The s on the batch at which a generation gains most, and the gain, in units of |g_B|²/TrH."""
    low, high = 0.0, 1.5 + 0.4 * math.log(num_offspring)
    for _ in range(3):
        strengths = np.linspace(low, high, 60)
        gains = gain_on_batch(strengths, num_offspring, signal)
        best = int(np.argmax(gains))
        low, high = strengths[max(best - 1, 0)], strengths[min(best + 1, 59)]
    return float(strengths[best]), float(gains[best])


class Yardstick(NamedTuple):
    """What an algorithm's s is held against.

    Attributes
    ----------
    name : of the algorithm, in symbols.
    strength, gain : the s on the batch at which it gains most, and the gain there in units of |g_B|²/TrH.
    cost_per_strength : the share of the drift's gain that curvature takes, per s, for small s.
    stands_in : why it is that of another algorithm, in words; "" if it is its own.
    """

    name: str
    strength: float
    gain: float
    cost_per_strength: float
    stands_in: str = ""


def yardstick(parts: Definition, signal: float = 1.0, along: float = 0.0) -> Yardstick:
    """Of (1+M); of weighted recombination; of (1,M) and of truncation, where no curvature lies along the gradient.

    Rules at finite β, and those of which no law of the gain is known, are given that of (1+M), which stands in.

    Parameters
    ----------
    parts : of the algorithm.
    signal : |g|/|g_B|.
    along : ĝ·Hĝ/TrH, which weighted recombination of M pays for M times over (theory.md 3.5).

    >>> import mutagrad
    >>> from mutagrad.diagnostics.plans import yardstick
    >>> found = yardstick(mutagrad.comma(sigma=0.1, num_offspring=20).definition)
    >>> found.name, round(found.strength, 3), round(found.gain, 3)                  # E[Z] and E[Z]²/2
    ('(1,20)', 1.867, 1.744)
    """
    number, law, name = known(parts).num_offspring, parts.selection.law, parts.selection.name
    steps = steps_of(parts)
    if steps is not None:
        first, cost = steps.first, steps.cost(along)
        own = f"recombination of {number}" if isinstance(law, RankWeights) else f"(1,{number})"
        if isinstance(law, OrderStatistic) and law.num_winners > 1:
            own = f"truncation to {law.num_winners} of {number}"
        best = first / cost
        return Yardstick(own, signal**2 * best, signal**4 * best * first / 2, cost / (2 * first))
    strength, gain = optimum(number, signal)
    cost = (1 - 2.0**-number) / (2 * best_of_moment(number))
    reason = "" if keeps_the_better(parts) else f"{name}, of which no best σ is known"
    if not keeps_the_better(parts) and isinstance(law, Acceptance | Boltzmann):
        reason = f"{name} at finite β, whose best σ depends on βσ|∇U|"
    return Yardstick(f"(1+{number})", strength, gain, cost, reason)


def gain_at(parts: Definition, strength: float, signal: float = 1.0, along: float = 0.0) -> float:
    """Expected decrease of the loss per generation at any s on the batch, in units of |g_B|²/TrH; NaN where no law is known.

    Parameters
    ----------
    parts : of the algorithm. strength : s on the batch. signal : |g|/|g_B|. along : as `yardstick` has it.
    """
    if keeps_the_better(parts):
        return float(gain_on_batch(np.array(strength), parts.num_offspring, signal))
    steps = steps_of(parts)
    if steps is None:
        return math.nan
    return signal**2 * steps.first * strength - steps.cost(along) * strength**2 / 2


def promises(parts: Definition) -> bool:
    """Whether slope and curvature say what a generation gains: for (1+M), (1,M) and weighted recombination."""
    law = known(parts).selection.law
    has_steps = isinstance(law, RankWeights) or (isinstance(law, OrderStatistic) and law.num_winners == 1)
    return keeps_the_better(parts) or (has_steps and steps_of(parts) is not None)


def expected_decrease(
    parts: Definition, sigma: float, slope: float, trace: float, skewness: float = 0.0, along: float = 0.0
) -> float | None:
    r"""Decrease of a batch's loss by the generation of (1+M), (1,M) or weighted recombination that meets it [loss].

    In units of σ|g_B| the losses of mutants have mean $h = s/2$ and variance 1, and are below $-x$ with probability
    $\Phi(-w(x + h))$, $w(y) = y + \gamma (y^2 - 1)/6$, of Cornish and Fisher. The decrease is
    $\sigma |g_B| \int_0^\infty 1 - (1 - \Phi(-w(x + h)))^M\,dx$; without skewness γ it is |g_B|²/TrH times
    `mutagrad.theory.expected_gain`.

    Parameters
    ----------
    parts : of the algorithm; its own σ is not used.
    sigma : σ [parameter]. slope, trace : |g_B| and TrH, as the offspring show them.
    skewness : γ of the losses of mutants, as `mutagrad.diagnostics.Regime` has it.
    along : the share of the curvature along the gradient, which counts for recombination in place of γ.

    Returns
    -------
    The decrease, for (1,M) without curvature along the gradient; ``None`` for other rules.

    Domain: the first order in γ, of which more than ±2 counts as ±2. For gamma laws of γ = 0.4 it is within 9 % up to s = 2 and
    18 % at s = 3; where it takes more than half of the decrease that normal losses would have, only its direction is right.
    Source: Cornish and Fisher 1938; derived for this project, tested in tests/diagnostics/test_plans.py.

    >>> import mutagrad
    >>> from mutagrad.diagnostics.plans import expected_decrease
    >>> parts = mutagrad.greedy(sigma=1.0).definition
    >>> round(expected_decrease(parts, 0.1, 1.0, 1e-9), 5), round(expected_decrease(parts, 1.224, 2.0, 2.0), 3)  # c₁σ|g|; G₁(s*)
    (0.03989, 0.405)
    """
    if not promises(parts):
        return None
    steps = steps_of(parts)
    if steps is not None:
        return steps.first * sigma * slope - steps.cost(along) * sigma**2 * trace / 2
    depth = sigma * trace / (2 * slope)
    points, weights = gauss(96)
    nodes = depth + _UPPER / 2 * (1 + points)
    return sigma * slope * _UPPER / 2 * float(_tail(_normalised(nodes, skewness), parts.num_offspring) @ weights)


def _normalised(depth: np.ndarray, skewness: float) -> np.ndarray:
    """How far below its mean a normal law has the lower tail that a skewed one has at ``depth``, in standard deviations."""
    skewness = float(np.clip(skewness, -_MOST_SKEWNESS, _MOST_SKEWNESS))
    if skewness >= 0:
        return depth + skewness * (depth**2 - 1) / 6
    # The inverse expansion, which rises for ever where the other one turns back: depth = w − γ(w² − 1)/6.
    return 3 / skewness * (1 - np.sqrt(np.maximum(1 - 2 * skewness / 3 * (depth - skewness / 6), 0)))


def promised_decrease(parts: Definition, found: Regime, normal: bool = False) -> np.ndarray | None:
    """`expected_decrease` of what a regime measured; as many values as it has windows [loss].

    Of the skewness γ ± e the part γ³/(γ² + e²) is used, so that one that cannot be told from 0 counts for little; of
    recombination the curvature along the slope likewise.

    Parameters
    ----------
    parts : of the algorithm.
    found : of `mutagrad.diagnostics.regime`, of one window or of several.
    normal : to take losses of mutants to be normal whatever their skewness is.

    Returns
    -------
    Array of the shape of ``found.generation``, NaN where no slope was found; ``None`` as `expected_decrease`.
    """
    if not promises(parts):
        return None
    own = found.curvature_along if isinstance(parts.selection.law, RankWeights) else found.skewness
    columns = [found.sigma.value, found.squared_batch_grad_norm.value, found.hessian_trace.value, *own[:2]]
    values = []
    for sigma, square, trace, skewness, error in np.nditer([np.asarray(one, float) for one in columns]):
        is_known = not normal and np.isfinite(skewness) and np.isfinite(error)
        slope = math.sqrt(square) if square > 0 else math.nan
        counted = standing_out(float(skewness), float(error)) if is_known else 0.0
        of_steps = {"along": min(max(counted, 0.0), 1.0)} if own is found.curvature_along else {"skewness": counted}
        values.append(expected_decrease(parts, float(sigma), slope, float(trace), **of_steps))
    return np.array(values).reshape(np.shape(found.generation))


def plan(
    purpose: str,
    num_offspring: int,
    unit_sigma: Estimate,
    unit_gain: Estimate,
    signal: float = 1.0,
    num_workers: int = 1,
    cost_per_evaluation: float = 1.0,
    held: Yardstick | None = None,
) -> Plan:
    """(1+M), or another algorithm, at its best σ on a loss of known slope and curvature.

    Parameters
    ----------
    purpose : what M was chosen for, in words.
    num_offspring : M ≥ 1.
    unit_sigma, unit_gain : |g_B|/TrH [parameter] and |g_B|²/TrH [loss], with standard errors.
    signal : ρ = |g|/|g_B|.
    num_workers : evaluations that run at the same time.
    cost_per_evaluation : seconds of each.
    held : of an algorithm that is not (1+M), what its s is held against; the signal is in it.

    >>> from mutagrad.diagnostics.plans import plan
    >>> from mutagrad.estimate import Estimate
    >>> found = plan("an example", 20, Estimate(0.01, 0.0), Estimate(0.5, 0.1))
    >>> round(found.sigma.value, 4), round(found.gain.value, 3)
    (0.0189, 0.875)
    """
    num_offspring = check.count("num_offspring", num_offspring)
    strength, gain = optimum(num_offspring, round(float(signal), 3)) if held is None else (held.strength, held.gain)
    seconds = _rounds(num_offspring, num_workers) * cost_per_evaluation
    return Plan(
        purpose,
        num_offspring,
        Estimate(strength * unit_sigma.value, strength * unit_sigma.error, "parameter"),
        strength,
        Estimate(gain * unit_gain.value, gain * unit_gain.error, "loss"),
        gain * unit_gain.value / (num_offspring + 1),
        gain * unit_gain.value / seconds,
    )


def _rounds(num_offspring: int, num_workers: int) -> int:
    """Evaluations one after another in a generation: of M offspring and the parent, by so many workers."""
    return -(-(num_offspring + 1) // num_workers)


@lru_cache(maxsize=256)
def best_number(num_workers: int, signal: float = 1.0) -> int:
    """The M that gains most per second with so many workers; with one, per evaluation."""
    signal = round(signal, 3)
    last = min(max(12, 4 * num_workers), _MOST_OFFSPRING)
    # Every M that fills its rounds of workers; with few of them all M of interest.
    numbers = [m for m in range(1, last + 1) if (m + 1) % num_workers == 0] or [last]
    return max(numbers, key=lambda m: optimum(m, signal)[1] / _rounds(m, num_workers))
