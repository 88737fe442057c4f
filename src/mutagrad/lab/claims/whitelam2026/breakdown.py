"""W26-5: where the small-noise theory ends, |∇U| ≈ σλ_max or σTrH/2."""

import math
from typing import Any

import numpy as np
from scipy import optimize, stats

from mutagrad import theory
from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.lab.claims.unregistered import below, near
from mutagrad.lab.claims.whitelam2026.strength import BLOCKS, mean_gains, mean_over_blocks, on_sphere
from mutagrad.report.figures import panels

__all__ = ["CLAIMS"]


def _half(strengths: np.ndarray, share: np.ndarray) -> float:
    """The s at which a falling share of the first-order gain is one half."""
    after = int(np.argmax(share < 0.5))
    x, y = np.log(strengths[after - 1 : after + 1]), share[after - 1 : after + 1]
    return float(np.exp(np.interp(-0.5, -y, x)))


def _half_law(num_offspring: int) -> float:
    """The same by G_M(s)."""
    first = theory.best_of_moment(num_offspring)
    return float(
        optimize.brentq(lambda s: float(theory.expected_gain(s, num_offspring)) / (first * s) - 0.5, 0.1, 10, xtol=1e-6)
    )


def run_breakdown(job: Job) -> Outcome:
    """Where the gain on the sphere falls to half of c_Mσ|∇U|, for every N, in units of σλ_max and of σTrH/2."""
    import xarray

    strengths, sizes, counts = np.geomspace(0.03, 30, job["strengths"]), job["sizes"], job["offspring"]
    share, error = np.empty((2, len(sizes), len(counts), len(strengths)))
    success = np.empty((len(sizes), len(strengths)))
    half, at_two, at_top = np.empty((2, len(sizes), len(counts))), np.empty((2, len(sizes))), np.empty(len(sizes))
    for i, size in enumerate(sizes):
        slopes, costs = on_sphere(size, job["mutations"])
        success[i] = [np.mean(slopes < -s / 2 * costs) for s in strengths]
        at_two[:, i] = mean_over_blocks(np.mean(slopes < -costs, axis=1))
        at_top[i] = np.mean(slopes < -size / 2 * costs)
        for j, number in enumerate(counts):
            blocks = mean_gains(slopes, costs, strengths, number) / (theory.best_of_moment(number) * strengths)
            share[i, j], error[i, j] = mean_over_blocks(blocks)
            each = [_half(strengths, block) for block in blocks]
            half[:, i, j] = _half(strengths, share[i, j]), np.std(each, ddof=1) / math.sqrt(BLOCKS)
            job.progress((i * len(counts) + j + 1) / (len(sizes) * len(counts)))
    law = [_half_law(number) for number in counts]
    dims = ("size", "offspring", "strength")
    data = xarray.Dataset(
        {
            "share": (dims, share), "share_error": (dims, error), "success": (dims[::2], success),
            "half": (dims[:2], half[0]), "half_error": (dims[:2], half[1]),
        },
        coords={"size": list(sizes), "offspring": list(counts), "strength": strengths},
    )  # fmt: skip
    checks, last = [], len(counts) - 1
    for i, size in enumerate(sizes):
        value, relative = half[0, i, last], half[1, i, last] / half[0, i, last]
        text = f"ln of |∇U|/(σλ_max) where the gain is half of c_Mσ|∇U|, N = {size}, M = {counts[last]}"
        checks.append(near(text, math.log(size / value), relative, 0, math.log(3)))
    for i, size in enumerate(sizes):
        for j, number in enumerate(counts):
            value, relative = half[0, i, j], half[1, i, j] / half[0, i, j]
            text = f"ln of |∇U|/(σTrH/2) where the gain is half of c_Mσ|∇U|, N = {size}, M = {number}"
            checks.append(near(text, math.log(2 / value), relative, 0, math.log(3), ours=True))
    for j, number in enumerate(counts):
        ratio, worst = half[0, -1, j] / law[j], half[1, -1, j] / law[j]
        checks.append(
            near(f"s of half gain over that of G_M(s), N = {sizes[-1]}, M = {number}", ratio, worst, 1, 0.03, ours=True)
        )
    expected = float(stats.norm.cdf(-1))
    text = f"success where |∇U| = σTrH/2, against Φ(−1), N = {sizes[-1]}"
    checks.append(near(text, at_two[0, -1], at_two[1, -1], expected, 0.01, ours=True))
    number = job["mutations"]
    text = f"share of {number:,} mutations that succeed where |∇U| = σλ_max, N = {sizes[0]}"
    checks.append(below(text, at_top[0], math.sqrt(max(at_top[0], 1 / number) / number), 0.01, ours=True))
    return Outcome(checks, data, draw_breakdown)


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
    "quick": {"sizes": (10, 100, 1000, 10_000), "offspring": (1, 20), "mutations": 400_000, "strengths": 31},
    "paper": {
        "sizes": (10, 100, 1000, 10_000, 100_000),
        "offspring": (1, 5, 20, 100),
        "mutations": 10_000_000,
        "strengths": 61,
    },
}

CLAIMS = [
    Claim(
        "W26-5",
        "whitelam2026",
        "breakdown",
        "the correspondence breaks down where |∇U| ≈ σλ_max; P: where |∇U| ≈ σTrH/2, which on the sphere is N/2 times earlier",
        _BREAKDOWN,
        run_breakdown,
        lambda settings: Needs(settings["mutations"] * len(settings["sizes"]), 1e9, 1e6),
        "sphere (λ$_{{max}}$ = 1, TrH = N), {mutations} mutations at one point, N = {sizes}",
    ),
]
