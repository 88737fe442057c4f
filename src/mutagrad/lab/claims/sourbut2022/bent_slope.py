"""A slope that curvature bends, and how a population whose mutations mix steps on it, to next order."""

from typing import Any, NamedTuple

import numpy as np

from mutagrad.lab.claims.sourbut2022.two_loci import NextOrder, neutral_squares, next_order

__all__ = ["SIZES", "Place", "alone", "place_of", "planned", "step_of"]

SIZES = (1.0, 0.5, 0.25)
"""Squares of σ over that of σ₀; |∇U| is the same, so that effects shrink like σ."""


class Place(NamedTuple):
    """A point of a quadratic: ∇U (N,) and curvatures (N,), β = 1, and σ (3,), largest first."""

    gradient: np.ndarray
    curvatures: np.ndarray
    sigmas: np.ndarray

    @property
    def across(self) -> np.ndarray:
        """The part of H∇U across ∇U."""
        turned = self.curvatures * self.gradient
        return turned - self.gradient * (turned @ self.gradient) / (self.gradient @ self.gradient)


def _parted(settings: dict[str, Any], kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Chances that an offspring has two loci of different parents, and their shares among pairs of loci."""
    if kind != "crossover":
        rate = settings["transfer"]
        return np.array([1 / 2 if kind == "free" else 2 * rate * (1 - rate)]), np.ones(1)
    # The distance of two random places of a chromosome has the density 2(1 − d); Haldane's map.
    nodes, weights = np.polynomial.legendre.leggauss(8)
    distances = (nodes + 1) / 2
    return -np.expm1(-2 * settings["crossovers"] * distances) / 2, weights * (1 - distances)


def _mixed(settings: dict[str, Any], kind: str) -> NextOrder:
    """The next order of fixation where genomes mix so, on average over pairs of loci."""
    parted, shares = _parted(settings, kind)
    return NextOrder(*np.average([next_order(settings["population"], float(one)) for one in parted], 0, shares))


def _background(settings: dict[str, Any], kind: str = "free") -> float:
    """By how many σ²H∇U curvature changes the step: by the mutation's own gain, and by that of the mutations around it."""
    order = _mixed(settings, kind)
    return -2 * order.own - settings["rate"] * order.around


def alone(settings: dict[str, Any], kind: str) -> float:
    """The share of that which a mutation has by its own gain."""
    return -2 * _mixed(settings, kind).own / _background(settings, kind)


def place_of(settings: dict[str, Any]) -> Place:
    """Where νβσ|∇U| of the largest effects is "effect".

    Curvatures are cos(π(k − ½)/N), so that TrH = 0, and |∂_kU|² is as 1 + λ_k: H∇U is at 45° to ∇U.
    """
    curvatures = np.cos(np.pi * (np.arange(settings["size"]) + 0.5) / settings["size"])
    slope = np.sqrt((1 + curvatures) / settings["size"])
    place = Place(slope, curvatures, np.ones(1))
    norm = settings["effect"] / (2 * (settings["population"] - 1) * settings["sigma"])
    return place._replace(gradient=slope * norm, sigmas=settings["sigma"] * np.sqrt(SIZES))


def step_of(settings: dict[str, Any], kind: str, sigma: float) -> tuple[float, float]:
    """The tangent by which the step turns from −∇U, and by which share it is shorter than ½μνβσ²|∇U|.

    The mean of ε over fixed mutations to third order in effects: ε is normal, −∇U·ε is s and ½ε·Hε what bends it. TrH is 0.
    """
    place, order, rate = place_of(settings), _mixed(settings, kind), settings["rate"]
    slope, norm = place.gradient, np.linalg.norm(place.gradient)
    turn = sigma**2 * _background(settings, kind) * np.linalg.norm(place.across) / norm
    curved = _background(settings, kind) * (place.curvatures * slope) @ slope / norm**2
    steep = -(3 * order.cube + rate * order.spread) * norm**2
    return float(turn), float(sigma**2 * (curved + steep))


def planned(settings: dict[str, Any], kind: str, sigma: float, generations: int) -> tuple[float, float]:
    """Errors of the mean step less what chance moves, over its length, across ∇U and along it.

    Of (n − 1)μσ², which is G in the mean, a locus has Σp(1 − p) over its life, whose mean square is that of the neutral chain.
    Two loci are associated by chance with the variance p(1 − p)q(1 − q)/n in each generation, of which 1 − ``parted`` is left
    in the next one. Selection moves −βG∇U − ½βΣλ_jκ(x, x_j, x_j), and of n normal genomes that sum varies by 2G³Σλ²/n. At both
    ends the mean genome differs from the fixed part.
    """
    size, rate = settings["population"], settings["rate"]
    parted, shares = _parted(settings, kind)
    lasts = 1 / (1 - (1 - parted) * (1 - 1 / size)) ** 2
    own, apart = neutral_squares(size)
    lasting, place = float(np.average(lasts, 0, shares)) / size, place_of(settings)
    loci, norm = own * size / (size - 1) ** 2 / rate, float(np.linalg.norm(place.gradient))
    bent = (size - 1) * rate * float(np.sum(place.curvatures**2)) * (sigma / norm) ** 2 / 2
    ends = 2 * size * rate * apart / (generations * (size - 1) * rate * sigma * norm) ** 2
    variances = np.array([loci + lasting * (1 + bent), 3 * loci + lasting * (2 + bent)]) / generations + ends
    across, along = np.sqrt(variances / settings["runs"])
    return float(across), float(along)
