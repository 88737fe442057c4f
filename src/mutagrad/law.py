"""The laws of selection rules and of mutation densities, as data: what theory must know of them, and all that it reads.

A rule or a density of your own may state one of these, and `mutagrad.theory` then answers for it; without a law there is no
theory, and theory says so.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

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


class Acceptance(NamedTuple):
    """One offspring is judged: it is accepted with probability A(ΔU), ΔU = loss of the offspring minus that of its parent.

    Attributes
    ----------
    acceptance_fn : A(ΔU), falling, from 0 to 1; works on arrays of any shape.
    inverse_temperature : κ of detailed balance, A(−x) e^{−κx} = A(x), if there is one [1/loss]: β for Metropolis, infinity
        for a rule that sees only which loss is lower. ``None`` if there is none; then differences of acceptances are taken
        as they are, which costs digits at small slopes.
    """

    acceptance_fn: Callable[[jax.Array], jax.Array]
    inverse_temperature: Any = None


class OrderStatistic(NamedTuple):
    """Ranks decide: the best ``num_winners`` of the offspring become parents.

    Attributes
    ----------
    num_winners : K ≥ 1.
    keeps_parent : whether the parent competes, and stays if no offspring is as good (K = 1 only): (1+M), not (1,M).
    mixes : whether every parameter of a next parent comes from one of two different winners, drawn by a fair coin.
    """

    num_winners: int = 1
    keeps_parent: bool = False
    mixes: bool = False


class Boltzmann(NamedTuple):
    """One of the offspring and their parent, with probability ∝ exp(−β loss).

    Attributes
    ----------
    inverse_temperature : β ≥ 0 [1/loss].
    """

    inverse_temperature: Any


class RankWeights(NamedTuple):
    """All offspring recombine: the parent moves by the sum of their mutations, each times the weight of its rank.

    Attributes
    ----------
    weights : M numbers, that of the best offspring first.
    """

    weights: tuple[float, ...]


SelectionLaw = Acceptance | OrderStatistic | Boltzmann | RankWeights


class Gaussian(NamedTuple):
    """z ~ N(0, I)."""


class Sphere(NamedTuple):
    """|z| = √N, uniform in direction."""


class Ball(NamedTuple):
    """Uniform in the ball of radius √(N + 2)."""


class StudentT(NamedTuple):
    """Multivariate Student t of unit variance.

    Attributes
    ----------
    degrees_of_freedom : ν > 2.
    """

    degrees_of_freedom: float


class IndependentEntries(NamedTuple):
    """Uncorrelated entries of mean 0 and variance 1 that are not radially symmetric, such as random signs.

    Along a gradient that many parameters share their sum is normal, and theory means that limit.
    """


class Radial(NamedTuple):
    """A radially symmetric density with unit variance per parameter, by its component z along any direction.

    Attributes
    ----------
    log_density_fn : ln f(z) of the component, up to a constant, for z ≥ 0; f is symmetric. NumPy arrays in and out.
    transverse_fn : E[u² | z] of a component u across, given the one along; 1 unless the length of a mutation ties them.
    """

    log_density_fn: Callable[[Any], Any]
    transverse_fn: Callable[[Any], Any] = lambda z: 1.0 + 0 * z


class Scaled(NamedTuple):
    """Another density, multiplied per leaf or per parameter.

    Attributes
    ----------
    scale : a prefix of the params, as in `mutagrad.mutation.scaled`.
    law : of the density that is scaled.
    """

    scale: Any
    law: Any


class Masked(NamedTuple):
    """Another density, on some of the leaves.

    Attributes
    ----------
    mask : a prefix of the params, as in `mutagrad.mutation.masked`.
    law : of the density of those leaves.
    """

    mask: Any
    law: Any


DensityLaw = Gaussian | Sphere | Ball | StudentT | IndependentEntries | Radial | Scaled | Masked
