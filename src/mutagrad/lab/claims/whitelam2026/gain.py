"""W26-7: gain and success at any σ, on quadratics of high and of low effective rank."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from mutagrad import theory
from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.lab.claims.quadratics import mutation_effects, power_law
from mutagrad.lab.claims.unregistered import above, below, near
from mutagrad.lab.claims.whitelam2026.strength import (
    controlled_gains,
    curvature_along,
    finite_rank_gains,
    in_blocks,
    mean_over_blocks,
)
from mutagrad.report.figures import panels

__all__ = ["CLAIMS"]


def _small_noise(strength: Any, num_offspring: int) -> Any:
    """c_M s − ½(1 − 2^−M)s²."""
    return theory.best_of_moment(num_offspring) * strength - (1 - 0.5**num_offspring) * strength**2 / 2


def _best(strengths: np.ndarray, blocks: np.ndarray) -> tuple[float, float]:
    """The s at which the mean gain is largest, by a parabola through the three largest, and its standard error."""

    def peak(values):
        top = int(np.clip(np.argmax(values), 1, len(values) - 2))
        before, at, after = values[top - 1 : top + 2]
        curve = before - 2 * at + after
        shift = (before - after) / (2 * curve) if curve < 0 else 0.0
        return strengths[top] + shift * (strengths[1] - strengths[0])

    # The jackknife: each block's own optimum would be biased by its noise.
    rest = [peak(np.delete(blocks, index, axis=0).mean(0)) for index in range(len(blocks))]
    return float(peak(blocks.mean(0))), float(np.std(rest) * math.sqrt(len(blocks) - 1))


def run_gain(job: Job) -> Outcome:
    """Gain and success against s on quadratics of high and of low effective rank, all s from the same mutations."""
    import xarray

    strengths, counts, exponents = np.geomspace(0.05, 5, job["strengths"]), job["offspring"], job["exponents"]
    problems = [power_law(job["size"], exponent) for exponent in exponents]
    shape = (len(problems), len(counts))
    found, success = np.empty((2, *shape, len(strengths))), np.empty((2, len(problems), len(strengths)))
    best, top = np.empty((2, *shape)), np.empty((2, *shape))
    finite = []
    for i, quadratic in enumerate(problems):
        part = job.part(i / len(problems), 0.6 / len(problems))
        draw = partial(mutation_effects, quadratic=quadratic)
        slopes, costs = in_blocks(part, 9, draw, job["mutations"])
        success[:, i] = mean_over_blocks(
            np.stack([np.mean(slopes < -s / 2 * costs, axis=1) for s in strengths], axis=1)
        )
        along = curvature_along(quadratic)
        finite.append(np.array([finite_rank_gains(slopes, quadratic, strengths, number) for number in counts]))
        for j, number in enumerate(counts):
            found[:, i, j] = mean_over_blocks(controlled_gains(slopes, costs, strengths, number, along))
            around = theory.optimal_strength(number) * np.linspace(0.7, 1.5, 17)
            near_best = controlled_gains(slopes, costs, around, number, along)
            best[:, i, j] = _best(around, near_best)
            top[:, i, j] = mean_over_blocks(
                controlled_gains(slopes, costs, [theory.optimal_strength(number)], number, along)[:, 0]
            )
            job.progress((i + 0.6 + 0.4 * (j + 1) / len(counts)) / len(problems))
    exact = np.array([np.asarray(theory.expected_gain(strengths, number)) for number in counts])
    most = np.array([float(theory.expected_gain(theory.optimal_strength(number), number)) for number in counts])
    optimal = np.array([theory.optimal_strength(number) for number in counts])
    dims = ("exponent", "offspring", "strength")
    data = xarray.Dataset(
        {
            "gain": (dims, found[0]), "gain_error": (dims, found[1]),
            "success": (dims[::2], success[0]), "success_error": (dims[::2], success[1]),
            "exact": (dims[1:], exact),
            "best": (dims[:2], best[0]), "best_error": (dims[:2], best[1]),
            "participation_ratio": ("exponent", [one.participation_ratio for one in problems]),
        },
        coords={"exponent": list(exponents), "offspring": list(counts), "strength": strengths},
    )  # fmt: skip
    apart, error = (found[0] - exact) / most[:, None], found[1] / most[:, None]
    rates = success[0] - np.asarray(theory.success_rate(strengths))
    checks = []
    for i, quadratic in enumerate(problems):
        where = f"λ = k^−{exponents[i]:g}" if exponents[i] else "sphere"
        name = f"{where}, (TrH)²/TrH² = {quadratic.participation_ratio:,.3g}"
        j, k = (int(at) for at in np.unravel_index(np.argmax(np.abs(apart[i])), apart[i].shape))
        text = f"gain less G_M(s), over its maximum, furthest from 0 (M = {counts[j]}, s = {strengths[k]:.2g}), {name}"
        if i >= job["high"]:
            text = f"{text}: not normal, {'less' if apart[i, j, k] < 0 else 'more'}"
            checks.append(above(text, abs(apart[i, j, k]), error[i, j, k], 0.03, ours=True))
            continue
        checks.append(near(text, apart[i, j, k], error[i, j, k], 0, 0.03, ours=True))
        if exponents[i]:
            text = f"the same with ĝ·Hĝ and ½σ⁴TrH² in the law (M = {counts[j]}, s = {strengths[k]:.2g}), {name}"
            rest = (found[0, i, j, k] - finite[i][j, k]) / most[j]
            checks.append(near(text, rest, error[i, j, k], 0, 0.03, ours=True))
        k = int(np.argmax(np.abs(rates[i])))
        text = f"success less Φ(−s/2), furthest from 0 (s = {strengths[k]:.2g}), {name}"
        checks.append(near(text, rates[i, k], success[1, i, k], 0, 0.01, ours=True))
        ratio = best[0, i] / optimal
        j = int(np.argmax(np.abs(ratio - 1)))
        text = f"best s over s*, furthest from 1 (M = {counts[j]}), {name}"
        checks.append(near(text, ratio[j], best[1, i, j] / optimal[j], 1, 0.05, ours=True))
    checks += _beyond(best, top, counts)
    return Outcome(checks, data, draw_gain)


def _name(exponent: float) -> str:
    return f"$λ_k = k^{{−{exponent:g}}}$" if exponent else "sphere"


def _beyond(best: np.ndarray, top: np.ndarray, counts: Sequence[int]) -> list:
    """The small-noise optimum against the measured one on the sphere: outside its domain for M = 1, inside for M = 20."""
    checks = []
    for number, is_outside in ((1, True), (20, False)):
        j = list(counts).index(number)
        own = theory.best_of_moment(number) / (1 - 0.5**number)
        text = f"small-noise optimum c_M/(1 − 2^−M) over the best s, M = {number}"
        ratio, error = own / best[0, 0, j], own * best[1, 0, j] / best[0, 0, j] ** 2
        checks.append(
            below(text, ratio, error, 0.9, ours=True) if is_outside else near(text, ratio, error, 1, 0.1, ours=True)
        )
        text = f"largest gain over that of the small-noise formula, M = {number}"
        most = _small_noise(own, number)
        ratio, error = top[0, 0, j] / most, top[1, 0, j] / most
        checks.append(
            above(text, ratio, error, 1.1, ours=True) if is_outside else near(text, ratio, error, 1, 0.1, ours=True)
        )
    return checks


def draw_gain(data: Any) -> Any:
    """Gain over its maximum for each M, and the gain by rank."""
    figure, axes = panels(3, 4.2)
    s = np.geomspace(0.05, 5, 200)
    for colour, number in enumerate(data.offspring.values):
        number = int(number)
        axes[0].plot(s, theory.expected_gain(s, number), color=f"C{colour}", label=f"M = {number}")
        axes[0].plot(s, _small_noise(s, number), color=f"C{colour}", linestyle=":", linewidth=1)
        one = data.isel(exponent=0).sel(offspring=number)
        axes[0].errorbar(data.strength, one.gain, 3 * one.gain_error, fmt="o", markersize=3, color=f"C{colour}")
    axes[0].set(
        xscale="log", yscale="log", ylim=(0.01, 6), ylabel="gain per generation [|∇U|²/TrH]",
        title="sphere; dotted: $c_M s − (1 − 2^{−M})s^2/2$",
    )  # fmt: skip
    axes[0].legend(frameon=False, fontsize=8, loc="lower center")
    axes[1].plot(s, theory.success_rate(s), "k--", linewidth=1.2, label="Φ(−s/2)")
    for marker, exponent, ratio in zip("osx^", data.exponent.values, data.participation_ratio.values, strict=False):
        one = data.sel(exponent=exponent)
        label = f"{_name(exponent)}, (TrH)²/TrH² = {round(ratio, 1 if ratio < 100 else None):,}"
        axes[1].plot(data.strength, one.success, marker, markersize=4, label=label)
        one = one.isel(offspring=0)
        axes[2].errorbar(data.strength, one.gain, 3 * one.gain_error, fmt=marker, markersize=4, label=label)
    number = int(data.offspring.values[0])
    axes[2].plot(s, theory.expected_gain(s, number), "k--", linewidth=1.2, label=f"$G_{{{number}}}(s)$")
    axes[1].set(xscale="log", ylabel="share of mutations that lower the loss", ylim=(0, 0.55))
    axes[2].set(xscale="log", ylabel=f"gain per generation, M = {number} [|∇U|²/TrH]", ylim=(0, None))
    axes[1].legend(frameon=False, fontsize=8)
    for axis in axes:
        axis.set_xlabel("s = σTrH/|∇U|")
        axis.title.set_fontsize(10)
    return figure


_GAIN = {
    "quick": {
        "size": 1000, "exponents": (0.0, 0.5, 1.3, 2.0), "high": 2, "offspring": (1, 5, 20, 100), "mutations": 200_000,
        "strengths": 20,
    },
    "paper": {
        "size": 10_000, "exponents": (0.0, 0.5, 1.3, 2.0), "high": 2, "offspring": (1, 5, 20, 100), "mutations": 4_000_000,
        "strengths": 40,
    },
}  # fmt: skip

CLAIMS = [
    Claim(
        "W26-7",
        "whitelam2026",
        "finite σ",
        "P: (1+M) gains G_M(s) = E[max(0, sZ_(M) − s²/2)] with success Φ(−s/2) and optimum s* at any σ; the small-noise theory "
        "is outside its domain at its own optimum for small M",
        _GAIN,
        run_gain,
        lambda settings: Needs(
            settings["mutations"] * len(settings["exponents"]) * settings["size"] / 1000,
            1e9 + 160.0 * settings["mutations"],
            1e6,
        ),
        "N = {size}, start x = (1, …, 1), {mutations} mutations, all σ from the same ones",
    ),
]
