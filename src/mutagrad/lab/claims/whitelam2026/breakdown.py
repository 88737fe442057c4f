"""W26-5: where the small-noise theory ends, |∇U| ≈ σλ_max or σTrH/2."""

import math
from typing import Any

import numpy as np
from scipy import interpolate, optimize

from mutagrad import theory
from mutagrad.lab.claims.checks import Expected, below, near
from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.lab.claims.whitelam2026.laws import (
    PLANNED,
    between,
    gain_at_rank,
    planned_gain_error,
    rounded,
    success_at_rank,
)
from mutagrad.lab.claims.whitelam2026.strength import BLOCKS, mean_gains, mean_over_blocks, on_sphere
from mutagrad.report.figures import panels

__all__ = ["CLAIMS"]


def _half(strengths: np.ndarray, share: np.ndarray) -> float:
    """The s at which a falling share of the first-order gain is one half, by a cubic through the four nearest."""
    after = int(np.argmax(share < 0.5))
    near_by = slice(max(after - 2, 0), after + 2)
    return float(np.exp(interpolate.CubicSpline(-share[near_by], np.log(strengths[near_by]))(-0.5)))


def _half_law(num_offspring: int, size: float = 1e9) -> float:
    """The same by G_M(s), with the rank of a sphere of N dimensions seen to first order."""
    first = theory.best_of_moment(num_offspring)

    def apart(s):
        return gain_at_rank(s, num_offspring, 1 / size, size) / (first * s) - 0.5

    return float(optimize.brentq(apart, 0.3, 6, xtol=1e-6))


def _success(size: int) -> float:
    """Share of mutations that lower the loss of the sphere at s = 2, with the rank seen to first order."""
    return success_at_rank(2.0, 1 / size, size)


def _names(size: int, number: int) -> tuple[str, str, str]:
    where = f"N = {size:,}, M = {number}"
    return (
        f"ln of |∇U|/(σλ_max) where the gain is half of c_Mσ|∇U|, {where}",
        f"ln of |∇U|/(σTrH/2) where the gain is half of c_Mσ|∇U|, {where}",
        f"s of half gain over that of G_M(s), {where}",
    )


def _slope(strength: float, number: int) -> float:
    """−d ln s of the share of the first-order gain: what an error of the gain does to the s where it is one half."""
    share = [gain_at_rank(s, number) / s for s in (0.99 * strength, 1.01 * strength)]
    return math.log(share[0] / share[1]) / math.log(1.01 / 0.99)


def expect_breakdown(settings: dict[str, Any]) -> list[Expected]:
    """The intervals of W26-5."""
    counts, stated = settings["offspring"], []
    half = {number: _half_law(number) for number in counts}
    factor = max(abs(math.log(2 / one)) for one in half.values())
    about = (
        f"'about' is as wide as where the gain is half moves between the M that are asked about, a factor of "
        f"{math.exp(factor):.3f}, and the error"
    )
    rank = "of a rank N instead of an infinite one (its share beyond is the skewness of χ²)"
    for size in settings["sizes"]:
        for number in counts:
            top, trace, law = _names(size, number)
            order = _half_law(number, size) / half[number]
            shift = abs(order - 1)
            error = planned_gain_error(half[number], number, settings["mutations"] / number)
            error /= _slope(half[number], number)
            room = rounded(factor + shift + PLANNED * error)
            stated.append(near(top, 0, room, "theory", about))
            stated.append(near(trace, 0, room, "theory", about, ours=True))
            stated.append(between(law, order, shift * _skewness(size), error, rank))
        share, first = float(theory.success_rate(2.0)), _success(size)
        error = math.sqrt(share * (1 - share) / settings["mutations"])
        order, error = first / share, error / share
        stated.append(between(_success_name(size), order, abs(order - 1) * _skewness(size), error, rank))
        if size == settings["sizes"][0]:
            why = "fewer than the Φ(−1) that succeed by P at |∇U| = σTrH/2: the correspondence has ended long before"
            stated.append(below(_top_name(size), rounded(share), "theory", why, ours=True))
    return stated


def _success_name(size: int) -> str:
    return f"success over Φ(−1) where |∇U| = σTrH/2, N = {size:,}"


def _top_name(size: int) -> str:
    return f"share of mutations that succeed where |∇U| = σλ_max, N = {size:,}"


def _skewness(size: int) -> float:
    """Of a χ² of N degrees of freedom, the curvature that a mutation of the sphere meets; `gain_at_rank` takes it as normal."""
    return math.sqrt(8 / size)


def run_breakdown(job: Job) -> Outcome:
    """Where the gain on the sphere falls to half of c_Mσ|∇U|, for every N, in units of σλ_max and of σTrH/2."""
    import xarray

    strengths, sizes, counts = np.geomspace(0.03, 30, job["strengths"]), job["sizes"], job["offspring"]
    share, error = np.empty((2, len(sizes), len(counts), len(strengths)))
    success = np.empty((len(sizes), len(strengths)))
    half: dict[int, float] = {number: _half_law(number) for number in counts}
    found: dict[str, Any] = {}
    for i, size in enumerate(sizes):
        slopes, costs = on_sphere(job["key"], size, job["mutations"])
        success[i] = [np.mean(slopes < -s / 2 * costs) for s in strengths]
        law = float(theory.success_rate(2.0))
        found[_success_name(size)] = tuple(np.array(mean_over_blocks(np.mean(slopes < -costs, axis=1))) / law)
        if not i:
            at_top, number = np.mean(slopes < -size / 2 * costs), slopes.size
            found[_top_name(size)] = (at_top, math.sqrt(max(at_top, 1 / number) / number))
        for j, number in enumerate(counts):
            blocks = mean_gains(slopes, costs, strengths, number) / (theory.best_of_moment(number) * strengths)
            share[i, j], error[i, j] = mean_over_blocks(blocks)
            # The jackknife: each block's own root would be biased by its noise.
            rest = [_half(strengths, np.delete(blocks, one, axis=0).mean(0)) for one in range(BLOCKS)]
            at = _half(strengths, share[i, j])
            relative = float(np.std(rest) * math.sqrt(BLOCKS - 1)) / at
            values = math.log(size / at), math.log(2 / at), at / half[number]
            for name, value, one in zip(_names(size, number), values, (1.0, 1.0, values[2]), strict=True):
                found[name] = (value, one * relative)
            job.progress((i * len(counts) + j + 1) / (len(sizes) * len(counts)))
    dims = ("size", "offspring", "strength")
    data = xarray.Dataset(
        {"share": (dims, share), "share_error": (dims, error), "success": (dims[::2], success)},
        coords={"size": list(sizes), "offspring": list(counts), "strength": strengths},
    )
    return Outcome(found, data, draw_breakdown)


def draw_breakdown(data: Any) -> Any:
    """The share of the first-order gain against either criterion's ratio."""
    figure, (left, right) = panels(2)
    number = int(data.offspring.values[-1])
    for colour, size in enumerate(data.size.values):
        one = data.sel(size=size, offspring=number)
        for axis, ratio in ((left, size / data.strength), (right, 2 / data.strength)):
            axis.errorbar(
                ratio,
                one.share,
                3 * one.share_error,
                color=f"C{colour}",
                marker="o",
                markersize=3,
                linewidth=1,
                label=f"N = {size:,}",
            )
        right.plot(2 / data.strength, 2 * data.success.sel(size=size), "x", color=f"C{colour}", markersize=4)
    s = data.strength.values
    law = np.asarray(theory.expected_gain(s, number)) / (theory.best_of_moment(number) * s)
    right.plot(2 / s, law, "k--", linewidth=1.2, label=f"$G_{{{number}}}(s)/(c_{{{number}}}s)$")
    right.plot(2 / s, 2 * np.asarray(theory.success_rate(s)), "k:", linewidth=1.2, label="2Φ(−s/2); ×: 2 × success")
    for axis, label in ((left, "|∇U| / (σ λ$_{max}$)"), (right, "|∇U| / (½ σ TrH) = 2/s")):
        axis.axvline(1, color="0.6", linewidth=1)
        axis.axhline(0.5, color="0.8", linewidth=0.8)
        axis.set(xscale="log", xlabel=label, ylabel=f"gain over $c_M$σ|∇U|, M = {number}", ylim=(0, 1.05))
    left.legend(frameon=False, fontsize=8)
    right.legend(frameon=False, fontsize=8)
    return figure


_BREAKDOWN = {
    "quick": {
        "sizes": (10, 100, 1000, 10_000),
        "offspring": (1, 20),
        "mutations": 1_000_000,
        "strengths": 31,
        "key": 2651,
    },
    "paper": {
        "sizes": (10, 100, 1000, 10_000, 100_000),
        "offspring": (1, 5, 20, 100),
        "mutations": 10_000_000,
        "strengths": 61,
        "key": 2651,
    },
}

CLAIMS = [
    Claim(
        "W26-5",
        "whitelam2026",
        "breakdown",
        "the correspondence breaks down where |∇U| ≈ σλ_max; P: where |∇U| ≈ σTrH/2, which on the sphere of N dimensions is N/2 "
        "times earlier",
        _BREAKDOWN,
        run_breakdown,
        lambda settings: Needs(settings["mutations"] * len(settings["sizes"]), 1e9, 1e6),
        "sphere (λ$_{{max}}$ = 1, TrH = N), {mutations} mutations at one point, N = {sizes}",
        expect_breakdown,
    ),
]
