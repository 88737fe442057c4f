"""The natural gradient of mean payoff by its definition, with nothing of the replicator equation or of a metric of shares."""

from typing import NamedTuple

import numpy as np
from scipy import special

__all__ = ["Natural", "information", "natural"]


def information(logits: np.ndarray) -> np.ndarray:
    """Fisher's information (k, k) of one genome whose strategy i has the probability ∝ e^{z_i}, by differences.

    It is the second derivative, taken negative, of the mean logarithm of the likelihood of other logits.
    """
    number, step = len(logits), 1e-3

    def likelihood(others: np.ndarray) -> float:
        return float(special.softmax(logits) @ special.log_softmax(others))

    units = step * np.eye(number)

    def slope_along(a: np.ndarray, others: np.ndarray) -> float:
        return (likelihood(others + a) - likelihood(others - a)) / (2 * step)

    second = [[slope_along(a, logits + b) - slope_along(a, logits - b) for b in units] for a in units]
    return -np.array(second) / (2 * step)


class Natural(NamedTuple):
    """Natural gradient of mean payoff at given shares, and the metric.

    Attributes
    ----------
    gradient : (k,) of shares. metric : (k, k), by which a change of shares has a length.
    """

    gradient: np.ndarray
    metric: np.ndarray


def natural(shares: tuple, payoffs: np.ndarray) -> Natural:
    """The natural gradient by its definition: the slope over logits, over Fisher's information there, all by differences.

    Nothing of the replicator equation, nor of a metric of shares, is used.
    """
    logits, step = np.log(np.array(shares)), 1e-5
    units = step * np.eye(len(logits))
    to_shares = np.array([special.softmax(logits + a) - special.softmax(logits - a) for a in units]).T / (2 * step)

    def mean_payoff(z: np.ndarray) -> float:
        p = special.softmax(z)
        return float(p @ payoffs @ p)

    slope = np.array([mean_payoff(logits + a) - mean_payoff(logits - a) for a in units]) / (2 * step)
    # One direction of logits does not change the shares.
    inverse = np.linalg.pinv(information(logits), rcond=1e-4)
    back = np.linalg.pinv(to_shares, rcond=1e-4)
    return Natural(to_shares @ inverse @ slope, back.T @ information(logits) @ back)
