"""Mean times to fixation of mutations whose probability of fixation is too small for a float."""

import math

import numpy as np
from scipy import special

__all__ = ["moran", "wright_fisher"]


def moran(s: float, size: int, copies: int) -> float:
    """Births and deaths to fixation from some copies, s < 0, of the lineages that are fixed.

    Their chain rises with T[i, i + 1] u[i + 1]/u[i] and u[i] ∝ e^{|s|i} − 1. A rise from i takes m[i] = (1 + down m[i − 1])/up in
    the mean: no subtraction, and no number that can overflow.
    """
    number = np.arange(1, size)
    ratio = np.expm1(s * (number + 1)) / np.expm1(s * number)  # of u[i + 1] to u[i], but for e^{|s|}
    common = number * (size - number) / size / (math.exp(s) * number + size - number)
    up = common * ratio
    down = np.concatenate([[0.0], common[1:] * math.exp(s) / ratio[:-1]])
    waited, rise = 0.0, 0.0
    for state in range(1, size):
        rise = (1 + down[state - 1] * rise) / up[state - 1]
        if state >= copies:
            waited += rise
    return float(waited)


def wright_fisher(s: float, size: int, copies: int) -> float:
    """Generations to fixation from some copies, s < 0, of the lineages that are fixed.

    The logarithms of u come from u ← Tu until they hardly change. With these the chain T[i, j]u[j]/u[i] is nearly one of
    probabilities, in which the rest is linear algebra.
    """
    # Any path but the one of a single generation is rarer than it by e^{−|s|} n^{2n}: beyond this the time is 1.
    s = max(s, -(2 * (size + 1) * math.log(size) + 40))
    number = np.arange(1, size)
    odds = (np.log(number) - np.log(size - number) + s)[:, None]
    to = np.arange(1, size + 1)
    choose = special.gammaln(size + 1) - special.gammaln(to + 1) - special.gammaln(size - to + 1)
    chain = choose + to * odds - size * np.logaddexp(0, odds)  # ln T[i, j]
    ever = chain[:, -1]
    for _ in range(100_000):
        before, ever = ever, _log_sum(chain + np.append(ever, 0.0))
        if np.max(ever - before) < 1e-4:
            break
    else:
        raise ValueError(f"s: got {s}; pass one nearer to 0, since the time to fixation could not be found")
    unit = np.eye(size - 1)
    fixing = np.exp(chain + np.append(ever, 0.0) - ever[:, None])
    ever = ever + np.log(np.linalg.solve(unit - fixing[:, :-1], fixing[:, -1]))
    fixing = np.exp(chain + np.append(ever, 0.0) - ever[:, None])
    to_go = np.linalg.solve(unit - fixing[:, :-1], np.ones(size - 1))
    return float(to_go[copies - 1])


def _log_sum(terms: np.ndarray) -> np.ndarray:
    largest = terms.max(axis=1, keepdims=True)
    return (largest + np.log(np.sum(np.exp(terms - largest), axis=1, keepdims=True)))[:, 0]
