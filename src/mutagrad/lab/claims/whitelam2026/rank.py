"""W26-3: the slowdown against gradient descent on power-law quadratics is set by the effective rank, not by N."""

import itertools
import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mutagrad import theory
from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.lab.claims.quadratics import STARTS, Quadratic, power_law
from mutagrad.lab.claims.unregistered import near
from mutagrad.lab.claims.whitelam2026.generation import Point, measure
from mutagrad.lab.claims.whitelam2026.strength import (
    controlled_gains,
    curvature_along,
    finite_rank_gains,
    in_blocks,
    mean_over_blocks,
)
from mutagrad.report.figures import panels

__all__ = ["CLAIMS"]


@partial(jax.jit, static_argnames="number")
def _effects(key: jax.Array, units: jax.Array, shares: jax.Array, number: int) -> tuple[jax.Array, jax.Array]:
    """A and B of `mutation_effects` on many quadratics from the same mutations: (n, problems) each.

    ``units`` and ``shares`` hold ĝ and λ/TrH in their columns, zero beyond the N of the problem.
    """

    def some(key):
        z = jax.random.normal(key, (50, len(units)))
        return z @ units, jnp.square(z) @ shares

    slopes, costs = jax.lax.map(some, jax.random.split(key, math.ceil(number / 50)))
    return slopes.reshape(-1, units.shape[1]), costs.reshape(-1, shares.shape[1])


def _sampled(job: Job, problems: list[Quadratic]) -> tuple[np.ndarray, np.ndarray]:
    """A and B of every problem, in blocks: (problems, blocks, n) each."""
    largest = max(one.curvatures.size for one in problems)
    units, shares = np.zeros((2, largest, len(problems)), np.float32)
    for column, one in enumerate(problems):
        size = one.curvatures.size
        units[:size, column] = np.asarray(one.curvatures * one.start) / one.gradient_norm
        shares[:size, column] = np.asarray(one.curvatures) / one.trace
    draw = partial(_effects, units=jnp.asarray(units), shares=jnp.asarray(shares))
    slopes, costs = (np.moveaxis(part, -1, 0) for part in in_blocks(job, 10, draw, job["mutations"]))
    return slopes, costs


def run_slowdown(job: Job) -> Outcome:
    """Gain of a generation at its best σ beside that of gradient descent, for every exponent, N and start."""
    import xarray

    exponents, sizes, number = job["exponents"], job["sizes"], job["num_offspring"]
    grid = list(itertools.product(exponents, sizes, STARTS))
    problems = [power_law(size, exponent, start) for exponent, size, start in grid]
    slopes, costs = _sampled(job.part(0, 0.6), problems)
    strengths = theory.optimal_strength(number) * np.linspace(0.5, 1.4, 10)
    found, finite = np.empty((3, len(grid))), np.empty(len(grid))
    for i, quadratic in enumerate(problems):
        along = curvature_along(quadratic)
        blocks = controlled_gains(slopes[i], costs[i], strengths, number, along)
        mean, error = mean_over_blocks(blocks)
        best = np.argmax(mean)
        found[:, i] = mean[best], error[best], strengths[best]
        finite[i] = finite_rank_gains(slopes[i], quadratic, strengths, number).max()
        job.progress(0.6 + 0.3 * (i + 1) / len(grid))
    shape = (len(exponents), len(sizes), len(STARTS))
    rank = np.array([one.effective_rank for one in problems])
    law = rank / (2 * float(theory.expected_gain(theory.optimal_strength(number), number)))
    slowdown = rank / (2 * found[0])
    dims = ("exponent", "size", "start")
    data = xarray.Dataset(
        {
            "slowdown": (dims, slowdown.reshape(shape)),
            "slowdown_error": (dims, (slowdown * found[1] / found[0]).reshape(shape)),
            "law": (dims, law.reshape(shape)),
            "finite_rank_law": (dims, (rank / (2 * finite)).reshape(shape)),
            "best_strength": (dims, found[2].reshape(shape)),
            "effective_rank": (dims, rank.reshape(shape)),
            "along": (dims, np.array([curvature_along(one) for one in problems]).reshape(shape)),
            "participation_ratio": (dims, np.array([one.participation_ratio for one in problems]).reshape(shape)),
        },
        coords={"exponent": list(exponents), "size": list(sizes), "start": list(STARTS)},
        attrs={"num_offspring": number},
    )
    checks = _growth(data) + _law(data)
    index = grid.index((1.0, job["checked_size"], "ones"))
    quadratic = problems[index]
    gradient = quadratic.curvatures * quadratic.start
    point = Point(quadratic.losses, quadratic.start, gradient, quadratic.trace)
    means, errors = measure(point, quadratic.sigma(found[2, index]), number, job["generations"])
    unit = quadratic.unit_of_gain * found[0, index]
    text = f"gain of generations run one by one over that from mutations shared by all σ, λ = 1/k, N = {job['checked_size']}"
    checks.append(near(text, means[3] / unit, errors[3] / unit, 1, 0.1, ours=True))
    return Outcome(checks, data, draw_slowdown)


def _growth(data: Any) -> list:
    """Growth of the slowdown from the smallest N to the largest, beside that of r and of its asymptotic form."""
    first, last = (int(data.size[at]) for at in (0, -1))
    between, checks = f"from N = {first} to {last}", []
    for start in STARTS:
        for exponent in data.exponent.values:
            one = data.sel(exponent=exponent, start=start)
            growth = float(one.slowdown[-1] / one.slowdown[0])
            relative = float(np.hypot(*(one.slowdown_error / one.slowdown).values[[0, -1]]))
            ratio = growth / float(one.effective_rank[-1] / one.effective_rank[0])
            where = f"λ = k^−{exponent:g}, start {start}"
            text = f"growth of the slowdown over that of r, {between}, {where}"
            checks.append(near(text, ratio, ratio * relative, 1, 0.1))
            decades = math.log(last / first)
            if exponent == 1:
                expected = math.log(last) / math.log(first)
                text = f"growth of the slowdown over that of ln N, {between}, {where}"
                checks.append(near(text, growth / expected, growth / expected * relative, 1, 0.2))
            else:
                text = f"exponent of the slowdown in N, max(0, 1 − a), {between}, {where}"
                checks.append(near(text, math.log(growth) / decades, relative / decades, max(0.0, 1 - exponent), 0.1))
    return checks


def _law(data: Any) -> list:
    """The slowdown at the largest N over r/(2G_M(s*)), and over the same with a finite rank seen to first order."""
    checks, last = [], data.isel(size=-1)
    for start in STARTS:
        for exponent in data.exponent.values:
            one = last.sel(exponent=exponent, start=start)
            where = f"λ = k^−{exponent:g}, start {start}, N = {int(one['size'])}"
            ratio, error = float(one.slowdown / one.law), float(one.slowdown_error / one.law)
            along = f"ĝ·Hĝ/TrH = {float(one.along):.2g}, (TrH)²/TrH² = {float(one.participation_ratio):.3g}"
            checks.append(near(f"slowdown over r/(2G_M(s*)), {where}, {along}", ratio, error, 1, 0.05, ours=True))
            ratio, error = float(one.slowdown / one.finite_rank_law), float(one.slowdown_error / one.finite_rank_law)
            text = f"the same with ĝ·Hĝ and ½σ⁴TrH² in the law, {where}"
            checks.append(near(text, ratio, error, 1, 0.05, ours=True))
    return checks


def draw_slowdown(data: Any) -> Any:
    """Slowdown against N for every exponent, and over its law against the participation ratio."""
    figure, (left, right) = panels(2)
    number = data.attrs["num_offspring"]
    sizes = np.unique(np.round(np.geomspace(data.size.values[0], data.size.values[-1], 30)).astype(int))
    gain = 2 * float(theory.expected_gain(theory.optimal_strength(number), number))
    for colour, exponent in enumerate(data.exponent.values):
        law = [power_law(int(size), exponent).effective_rank / gain for size in sizes]
        left.plot(sizes, law, color=f"C{colour}", linewidth=1.2, label=f"a = {exponent:g}")
        for start, marker in zip(STARTS, "ox", strict=True):
            one = data.sel(exponent=exponent, start=start)
            left.errorbar(data.size, one.slowdown, 3 * one.slowdown_error, fmt=marker, color=f"C{colour}", markersize=5)
            right.errorbar(
                one.along, one.slowdown / one.law, 3 * one.slowdown_error / one.law,
                fmt=marker, color=f"C{colour}", markersize=5,
            )  # fmt: skip
            style = "-" if start == STARTS[0] else ":"
            right.plot(one.along, one.finite_rank_law / one.law, style, color=f"C{colour}", linewidth=1)
    left.plot(sizes, sizes / gain, color="0.6", linestyle="--", linewidth=1, label="N (a = 0)")
    left.set(xscale="log", yscale="log", xlabel="parameters N", ylabel="generations per step of gradient descent")
    for marker, start in (("ko", "x$_k$ = λ$_k^{-1/2}$"), ("kx", "x$_k$ = 1")):
        left.plot([], [], marker, markersize=5, label=start)
    left.legend(frameon=False, fontsize=8)
    right.axhline(1, color="k", linestyle="--", linewidth=1)
    right.set(
        xscale="log",
        xlabel="share of the curvature along the gradient, ĝ·Hĝ/TrH",
        ylabel="slowdown over r/(2G$_M$(s*))",
    )
    right.set_title("lines: with ĝ·Hĝ and ½σ⁴TrH² in the law", fontsize=10)
    return figure


_SLOWDOWN = {
    "quick": {
        "exponents": (0.5, 0.8, 1.0, 1.3), "sizes": (100, 1000, 10_000), "num_offspring": 20, "mutations": 120_000,
        "checked_size": 1000, "generations": 2000,
    },
    "paper": {
        "exponents": (0.5, 0.8, 1.0, 1.3), "sizes": (100, 300, 1000, 3000, 10_000, 30_000, 100_000), "num_offspring": 20,
        "mutations": 400_000, "checked_size": 1000, "generations": 20_000,
    },
}  # fmt: skip


def _needs(settings: dict[str, Any]) -> Needs:
    problems = len(settings["exponents"]) * len(settings["sizes"]) * len(STARTS)
    return Needs(
        settings["mutations"] * max(settings["sizes"]) / 1000, 1e9 + 64.0 * problems * settings["mutations"], 1e6
    )


CLAIMS = [
    Claim(
        "W26-3",
        "whitelam2026",
        "slowdown",
        "the slowdown against gradient descent is set by r = TrH/λ_max, not by N: on power laws N^(1−a), ln N, constant; P: it "
        "is r/(2G_M(s*))",
        _SLOWDOWN,
        run_slowdown,
        _needs,
        "one generation of (1+{num_offspring}) at its best σ against |∇U|²/(2λ$_{{max}}$), {mutations} mutations, "
        "λ$_k$ = k$^{{−a}}$",
    ),
]
