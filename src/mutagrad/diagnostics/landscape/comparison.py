r"""Can angles between improving mutations be told from angles between random ones? (theory.md 7)

Improving mutations of a smooth loss have z > s/2 along −∇U and are random across it. With h = s/2, c = φ(h)/Φ(−h) and
m₂ = 1 + hc, two of them have the mean cosine c²/N, and the mean of k of them has the cosine

    c√k / √(N − 1 + m₂ + c²(k − 1))

with −∇U. On a linear loss s = 0, c² = 2/π and m₂ = 1.
"""

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from scipy import special, stats

__all__ = ["Comparison", "compare_angles", "comparison_power", "mean_cosine", "pair_cosine", "pairs_for_power"]

_PATHS, _PLACES = 4000, 400
_MOST_SHIFT = 10.0
LEVEL = 0.05


class Comparison(NamedTuple):
    """A two-sample Kolmogorov–Smirnov test of angles between improving mutations against those between random ones.

    Attributes
    ----------
    statistic, p_value : of the test.
    power : probability that a test of so many pairs finds the shift that theory predicts, at the level 5 %.
    num_pairs : independent pairs in each sample.
    num_needed : pairs in each sample with which the power is 90 %.
    """

    statistic: float
    p_value: float
    power: float
    num_pairs: int
    num_needed: float


def _truncated(strength: float) -> tuple[float, float]:
    """c and m₂: the first two moments of a normal variable above s/2."""
    bound = strength / 2
    first = math.exp(-(bound**2) / 2 - 0.5 * math.log(2 * math.pi) - special.log_ndtr(-bound))
    return first, 1 + bound * first


def pair_cosine(dims: int, strength: float = 0.0) -> float:
    """Mean cosine of two improving mutations: exact on a linear loss, s = 0; c²/N for many parameters.

    >>> import math
    >>> from mutagrad.diagnostics.landscape.comparison import pair_cosine
    >>> round(pair_cosine(1000) * 1000 / (2 / math.pi), 3)
    1.001
    """
    exact = math.exp(2 * (special.gammaln(dims / 2) - special.gammaln((dims + 1) / 2))) / 2
    return _truncated(strength)[0] ** 2 * exact


def mean_cosine(number: Any, dims: int, strength: float = 0.0) -> Any:
    """Cosine with −∇U of the mean of k improving mutations, for many parameters.

    On a linear loss its law is exactly that of S/√(S² + k χ²), with S the sum of k half-normal variables and χ² of N − 1
    degrees: for k = 1 it has the mean Γ(N/2)/(√π Γ((N + 1)/2)), and for any k that of the formula to a share 1/N of it.

    >>> from mutagrad.diagnostics.landscape.comparison import mean_cosine
    >>> round(float(mean_cosine(400, 10_000) / mean_cosine(4, 10_000)), 2)                              # √100, nearly
    9.88
    """
    first, second = _truncated(strength)
    return first * np.sqrt(number / (dims - 1 + second + first**2 * (np.asarray(number) - 1)))


@cache
def _power_table() -> tuple[np.ndarray, np.ndarray]:
    """Shifts √(n/2)δ in standard deviations, and the power of the test there.

    The difference of two empirical distributions times √(n/2) is a Brownian bridge about √(n/2)δφ(Φ⁻¹(u)).
    """
    generator = np.random.default_rng(0)
    steps = generator.standard_normal((_PATHS, _PLACES)) / math.sqrt(_PLACES)
    places = np.arange(1, _PLACES + 1) / _PLACES
    bridges = np.cumsum(steps, axis=1)
    bridges -= places * bridges[:, -1:]
    mean = np.append(stats.norm.pdf(stats.norm.ppf(places[:-1])), 0.0)
    critical = np.quantile(np.abs(bridges).max(axis=1), 1 - LEVEL)
    shifts = np.linspace(0, _MOST_SHIFT, 41)
    return shifts, np.array([np.mean(np.abs(bridges + shift * mean).max(axis=1) > critical) for shift in shifts])


def comparison_power(num_pairs: int, dims: int, cosine: float) -> float:
    """Power at the level 5 % of a comparison of so many pairs in each sample, where cosines of one are larger in the mean.

    Parameters
    ----------
    num_pairs : n. dims : N. cosine : by how much.

    Domain: cosines near normal, N of 20 or more; tens of pairs. An error of 0.01, of the paths that it is computed with.

    >>> from mutagrad.diagnostics.landscape.comparison import comparison_power, pair_cosine
    >>> round(comparison_power(30 * 9854, 9854, pair_cosine(9854)), 1)
    0.6
    """
    shifts, powers = _power_table()
    return float(np.interp(math.sqrt(num_pairs / 2 * dims) * abs(cosine), shifts, powers))


def pairs_for_power(dims: int, cosine: float, power: float = 0.9) -> float:
    """Pairs in each sample with which the comparison has this power; infinite without a shift."""
    shifts, powers = _power_table()
    shift = float(np.interp(power, np.maximum.accumulate(powers), shifts))
    return 2 * shift**2 / (dims * cosine**2) if cosine else math.inf


def compare_angles(improving: np.ndarray, random: np.ndarray, dims: int, cosine: float) -> Comparison | None:
    """Compare cosines of improving pairs with those of random ones; ``None`` where there are fewer than two of either."""
    if min(len(improving), len(random)) < 2:
        return None
    found = stats.ks_2samp(improving, random, method="asymp" if len(random) > 1000 else "exact")
    number = min(len(improving), len(random))
    power, needed = comparison_power(number, dims, cosine), pairs_for_power(dims, cosine)
    return Comparison(float(found.statistic), float(found.pvalue), power, number, needed)
