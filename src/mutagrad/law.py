"""The laws of selection rules and of mutation densities, as values.

A law is all that `mutagrad.theory` reads of a rule or of a density, and it is read by its type. A rule or a density of your
own may state one of them; theory then answers for it. Without a law there is no theory.

Two laws are equal if they are of one kind and their numbers are equal. A function is equal to itself alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from mutagrad import check

__all__ = [
    "Acceptance",
    "Ball",
    "Boltzmann",
    "DensityLaw",
    "Gaussian",
    "IndependentEntries",
    "Masked",
    "OrderStatistic",
    "Radial",
    "RankWeights",
    "Scaled",
    "SelectionLaw",
    "Sphere",
    "StudentT",
]


@dataclass(frozen=True)
class Acceptance:
    """One offspring is judged: it is accepted with probability A(ΔU), ΔU = loss of the offspring minus that of its parent.

    Attributes
    ----------
    acceptance_fn : A(ΔU), falling, from 0 to 1; works on arrays of any shape. Theory resolves a jump or a kink at ΔU = 0;
        elsewhere A must be smooth on the scale of ΔU itself.
    inverse_temperature : κ of detailed balance, A(−x) e^{−κx} = A(x), if there is one [1/loss]: β for Metropolis, infinity
        for a rule that sees only which loss is lower. ``None`` if there is none. Differences of acceptances are then taken
        as they are, which costs digits at small slopes.
    """

    acceptance_fn: Callable[[jax.Array], jax.Array]
    inverse_temperature: Any = None


@dataclass(frozen=True)
class OrderStatistic:
    """Ranks decide: the best ``num_winners`` of the offspring become parents.

    Attributes
    ----------
    num_winners : K ≥ 1.
    keeps_parent : whether the parent competes, and stays if no offspring is as good (K = 1 only): (1+M), not (1,M).
    mixes : whether each parameter of a next parent comes from one of two different winners, by a fair coin (K ≥ 2).
    """

    num_winners: int = 1
    keeps_parent: bool = False
    mixes: bool = False

    def __post_init__(self) -> None:
        number = check.count("num_winners", self.num_winners)
        if self.keeps_parent and number > 1:
            raise ValueError(f"num_winners: got {number} with a parent that competes; pass 1, or keeps_parent=False")
        if self.mixes and number < 2:
            raise ValueError("num_winners: got 1 with two parents that mix; pass 2 or more, or mixes=False")


@dataclass(frozen=True)
class Boltzmann:
    """One of the offspring and their parent, with probability ∝ exp(−β loss).

    Attributes
    ----------
    inverse_temperature : β ≥ 0 [1/loss].
    """

    inverse_temperature: Any


@dataclass(frozen=True)
class RankWeights:
    """All offspring recombine: the parent moves by the sum of their mutations, each times the weight of its rank.

    Attributes
    ----------
    weights : M numbers, that of the best offspring first.
    """

    weights: tuple[float, ...]


SelectionLaw = Acceptance | OrderStatistic | Boltzmann | RankWeights


@dataclass(frozen=True)
class Gaussian:
    """z ~ N(0, I)."""


@dataclass(frozen=True)
class Sphere:
    """|z| = √N, uniform in direction."""


@dataclass(frozen=True)
class Ball:
    """Uniform in the ball of radius √(N + 2)."""


@dataclass(frozen=True)
class StudentT:
    """Multivariate Student t of unit variance.

    Attributes
    ----------
    degrees_of_freedom : ν > 2.
    """

    degrees_of_freedom: float


@dataclass(frozen=True)
class IndependentEntries:
    """Uncorrelated entries of mean 0 and variance 1 that are not radially symmetric, such as random signs.

    Their sum along a gradient that many parameters share is normal. Theory answers for that limit.
    """


@dataclass(frozen=True)
class Radial:
    """A radially symmetric density with unit variance per parameter, by its component z along any direction.

    Attributes
    ----------
    log_density_fn : ln f(z) of the component, up to a constant, for z ≥ 0; f is symmetric. NumPy arrays in and out. −∞ or
        NaN beyond the end of a bounded density, and smooth before it.
    transverse_fn : E[u² | z] of a component u across, given the one along. ``None`` computes it from f: for every radial
        density E[u² | z] f(z) = ∫_z^∞ t f(t) dt.
    """

    log_density_fn: Callable[[Any], Any]
    transverse_fn: Callable[[Any], Any] | None = None


@dataclass(frozen=True)
class Scaled:
    """Another density, multiplied per leaf or per parameter.

    Attributes
    ----------
    scale : a prefix of the params, as in `mutagrad.mutation.scaled`.
    law : of the density that is scaled.
    """

    scale: Any
    law: "DensityLaw"


@dataclass(frozen=True)
class Masked:
    """Another density, on some of the leaves.

    Attributes
    ----------
    mask : a prefix of the params, as in `mutagrad.mutation.masked`.
    law : of the density of those leaves.
    """

    mask: Any
    law: "DensityLaw"


DensityLaw = Gaussian | Sphere | Ball | StudentT | IndependentEntries | Radial | Scaled | Masked
