"""Boltzmann selection and recombination with every density, against sums at 30 digits that share no code with the library.

Boltzmann: the winner's level q is summed over with Gauss's rule in panels, and so are, for each q, the offspring that could be
there. Recombination: the ranks of one offspring, and of two for the second moment, are binomial in its own upper tail. Densities
are those whose ends Gauss's rule resolves: the normal, Student t and spheres of an odd number of dimensions, of which a ball in N
dimensions is that in N + 2.

    python -m verification.densities

writes verification/results/densities.md; with --no-write it only prints.
"""

import itertools
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from multiprocessing import get_context
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np

import mutagrad
from benchmarks.common import table
from mutagrad.selection import normal_scores
from mutagrad.theory.moments import moments
from verification.common import arguments, report, versions

DIGITS, ORDER = 30, 14
SLOPES = (1e-3, 1.0, 10.0, 1e4)
OFFSPRING = (1, 2, 20)
NAMES = ("acceptance", "first", "second", "transverse", "curvature")


class Marginal(NamedTuple):
    """Density f, E[u² | v] and P(V < v) of a component, its support ±R, and the library's mutation and N."""

    density: Callable
    across: Callable
    below: Callable
    radius: mp.mpf
    mutation: mutagrad.Mutation
    num_parameters: int | None


def normal() -> Marginal:
    return Marginal(mp.npdf, lambda v: mp.mpf(1), mp.ncdf, mp.mpf(14), mutagrad.mutation.gaussian(), None)


def student_t(nu: int) -> Marginal:
    peak = mp.gamma(mp.mpf(nu + 1) / 2) / mp.sqrt(mp.pi * (nu - 2)) / mp.gamma(mp.mpf(nu) / 2)

    def below(v):
        tail = mp.betainc(mp.mpf(nu) / 2, 0.5, 0, 1 / (1 + v**2 / (nu - 2)), regularized=True) / 2
        return tail if v < 0 else 1 - tail

    return Marginal(
        lambda v: peak * (1 + v**2 / (nu - 2)) ** (-mp.mpf(nu + 1) / 2),
        lambda v: (nu - 2 + v**2) / (nu - 1),
        below,
        mp.mpf(10) ** (mp.mpf(3) / 2 + mp.mpf(12) / (nu - 2)),  # E[v²] beyond is below 10⁻¹²
        mutagrad.mutation.student_t(float(nu)),
        None,
    )


def sphere(size: int, mutation: mutagrad.Mutation, num_parameters: int) -> Marginal:
    """Of a sphere in ``size`` dimensions, odd: a polynomial."""
    peak = mp.gamma(mp.mpf(size) / 2) / mp.sqrt(mp.pi * size) / mp.gamma(mp.mpf(size - 1) / 2)

    def below(v):
        tail = mp.betainc(mp.mpf(size - 1) / 2, 0.5, 0, 1 - v**2 / size, regularized=True) / 2
        return tail if v < 0 else 1 - tail

    return Marginal(
        lambda v: peak * (1 - v**2 / size) ** ((size - 3) // 2),
        lambda v: (size - v**2) / (size - 1),
        below,
        mp.sqrt(size),
        mutation,
        num_parameters,
    )


@lru_cache
def gauss() -> list[tuple[mp.mpf, mp.mpf]]:
    """Nodes and weights of Gauss's rule on (0, 1), by Newton's method from those of float64."""
    found = []
    for start in np.polynomial.legendre.leggauss(ORDER)[0]:
        x = mp.mpf(float(start))
        for _ in range(4):
            value, before = mp.legendre(ORDER, x), mp.legendre(ORDER - 1, x)
            slope = ORDER * (x * value - before) / (x**2 - 1)
            x -= value / slope
        slope = ORDER * (x * mp.legendre(ORDER, x) - mp.legendre(ORDER - 1, x)) / (x**2 - 1)
        found.append(((1 + x) / 2, 1 / ((1 - x**2) * slope**2)))
    return found


def panels(edges: list) -> list[tuple[mp.mpf, mp.mpf]]:
    """Nodes and weights between consecutive edges."""
    return [
        (low + (high - low) * x, (high - low) * weight)
        for low, high in itertools.pairwise(edges)
        for x, weight in gauss()
        if high > low
    ]


def edges(one: Marginal, b: mp.mpf) -> list:
    """Where panels of levels end: around 0 on all scales from 1/b to the density's own, and around R."""
    end, tail = one.radius, 75 / b
    scales = [mp.mpf(2) ** k for k in range(-4, 140)]
    around = [s / b for s in scales if s / b < end + tail] + [s / 4 for s in scales if s / 4 < end + tail]
    at_end = [end + sign * s / b for s in (0, 0.5, 1, 2, 4, 8, 16, 32, 64) for sign in (-1, 1)]
    inside = [q for q in [*around, *at_end, end + tail] if 0 < q <= end + tail]
    return [-5 / b, -3 / b, -2 / b, -1 / b, mp.mpf(0), *sorted(set(inside))]


def of_level(one: Marginal, b: mp.mpf, q: mp.mpf) -> list:
    """∫ f(v) b g(b(q − v)) of 1, v, v² and E[u² | v], g the Gumbel density; ∫ f(v) of its distribution times 1 and v."""
    near = [q - s / b for s in (75, 40, 20, 10, 5, 2, 0, -1, -2, -3, -4.5)]
    own = [s * mp.mpf(2) ** k for k in range(-2, 140) for s in (-1, 1) if mp.mpf(2) ** k < one.radius]
    low, high = max(near[0], -one.radius), min(near[-1], one.radius)
    if high <= low:
        whole = one.below(min(max(low, -one.radius), one.radius)) if near[0] < one.radius else mp.mpf(1)
        return [mp.mpf(0)] * 4 + [whole, mp.mpf(0)]
    cuts = sorted({low, high, *(v for v in [*near, *own, mp.mpf(0)] if low < v < high)})
    sums = [mp.mpf(0)] * 6
    for v, weight in panels(cuts):
        faint = mp.exp(-b * (q - v))
        under = mp.exp(-faint)
        mass, f = weight * one.density(v), one.across(v)
        kernel = mass * b * faint * under
        for k, each in enumerate((kernel, kernel * v, kernel * v**2, kernel * f, mass * under, mass * under * v)):
            sums[k] += each
    sums[4] += one.below(low)
    # E[v; v < low] = −E[u² | low] f(low), as for every radial density.
    sums[5] -= one.across(low) * one.density(low) if low > -one.radius else 0
    return sums


def boltzmann(one: Marginal, b: float) -> dict[int, list]:
    """The five moments of `mutagrad.theory.moments` for each number of offspring."""
    b = mp.mpf(b)
    totals = {number: [mp.mpf(0)] * 5 for number in OFFSPRING}
    for q, weight in panels(edges(one, b)):
        zeroth, first, second, across, below, below_first = of_level(one, b, q)
        weight *= mp.exp(-mp.exp(-b * q))
        for number, total in totals.items():
            level = weight * number * below ** (number - 1)
            for k, each in enumerate((zeroth, -first, second, across, second)):
                total[k] += level * each
            if number > 1:
                total[4] += weight * number * (number - 1) * below ** (number - 2) * first * below_first
    return totals


def recombination(one: Marginal, weights: np.ndarray) -> list:
    """−Σ w_k E[Z_(k)], E[(Σ w_k Z_(k))²] and Σ w_k² E[u² | rank k]."""
    number, w = len(weights), [mp.mpf(float(each)) for each in weights]
    scale = [mp.mpf(2) ** k for k in range(-1, 140) if mp.mpf(2) ** k < one.radius]
    cuts = sorted({-one.radius, mp.mpf(0), one.radius, *scale, *(-s for s in scale)})
    nodes = [(v, weight * one.density(v), one.below(v)) for v, weight in panels(cuts)]

    def chance(count, of, p):
        return mp.binomial(of, count) * p**count * (1 - p) ** (of - count)

    first = second = transverse = mp.mpf(0)
    for v, mass, below in nodes:
        ranks = [number * mass * chance(k, number - 1, 1 - below) for k in range(number)]
        first -= sum(share * rank for share, rank in zip(w, ranks, strict=True)) * v
        own = sum(share**2 * rank for share, rank in zip(w, ranks, strict=True))
        second += own * v**2
        transverse += own * one.across(v)
    # E[Z_(i) Z_(j)], i above j, by panels for the lower of the two that end at the higher.
    for x, mass, below in nodes:
        inside = [cut for cut in cuts if cut < x]
        for y, weight in panels([*inside, x]):
            beneath, joint = one.below(y), weight * one.density(y) * mass * x * y
            between = 1 - beneath / below
            pairs = sum(
                w[i] * w[j] * chance(i, number - 2, 1 - below) * chance(j - i - 1, number - 2 - i, between)
                for i in range(number - 1)
                for j in range(i + 1, number)
            )
            second += 2 * number * (number - 1) * joint * pairs
    return [first, second, transverse]


def largest(found: np.ndarray, expected: list) -> float:
    """Largest relative deviation; of what vanishes, the largest itself."""
    pairs = zip(found, (float(each) for each in expected), strict=True)
    return max(abs(a - e) / max(abs(e), 1e-300) if abs(e) > 1e-12 else abs(a - e) for a, e in pairs)


DENSITIES: dict[str, Callable[[], Marginal]] = {
    "Student t, ν = 5": lambda: student_t(5),
    "Student t, ν = 30": lambda: student_t(30),
    "normal": normal,
    "sphere, N = 3": lambda: sphere(3, mutagrad.mutation.sphere(), 3),
    "sphere, N = 11": lambda: sphere(11, mutagrad.mutation.sphere(), 11),
    "ball, N = 3": lambda: sphere(5, mutagrad.mutation.ball(), 3),
}


def row(name: str) -> list[str]:
    """Largest deviations of one density."""
    mp.mp.dps = DIGITS
    one = DENSITIES[name]()

    def library(algorithm: mutagrad.Algorithm, b: float) -> np.ndarray:
        with jax.enable_x64(True):
            return np.array(moments(algorithm.definition, jnp.asarray(b, jnp.float64), one.num_parameters))

    worst: dict[int, list[float]] = {number: [] for number in OFFSPRING}
    for b in SLOPES:
        for number, expected in boltzmann(one, b).items():
            found = library(mutagrad.boltzmann(1.0, 1.0, number, mutation=one.mutation), b)
            worst[number].append(largest(found, expected))
        print(name, b, [f"{each[-1]:.0e}" for each in worst.values()], flush=True)
    weights = normal_scores(6)
    found = library(mutagrad.weighted_recombination(1.0, 6, weights, mutation=one.mutation), 1.0)[1:4]
    cells = (f"{max(each):.0e} (b = {SLOPES[int(np.argmax(each))]:g})" for each in worst.values())
    return [name, *cells, f"{largest(found, recombination(one, weights)):.0e}"]


def main() -> None:
    args = arguments(__doc__)
    begin = time.perf_counter()
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        rows = list(pool.map(row, DENSITIES))
    head = ["density", *(f"Boltzmann, M = {number}" for number in OFFSPRING), "recombination, M = 6"]
    text = (
        f"Largest relative deviation of the library's {', '.join(NAMES)} in float64 from {DIGITS} digits, over b = βσ|∇U| of "
        f"{', '.join(f'{b:g}' for b in SLOPES)}, and the b where it is; of recombination of first, second and transverse."
    )
    report(
        "densities",
        [text, table(head, rows)],
        args,
        machine=f"; {versions('jax', 'mpmath')}",
        seconds=time.perf_counter() - begin,
    )


if __name__ == "__main__":
    main()
