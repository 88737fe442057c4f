"""W26-4, W26-5 and W26-7: speed on quadratics against M and against σ, and where the small-noise theory ends."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import jax
import numpy as np
from scipy import optimize, stats

from mutagrad import theory
from mutagrad.lab.claims import Check, Claim, Job, Needs, Outcome, above, below, near
from mutagrad.lab.quadratics import Quadratic, gains, mutation_effects, power_law, sphere_effects
from mutagrad.report.figures import panels

__all__ = [
    "BLOCKS",
    "CLAIMS",
    "controlled_gains",
    "curvature_along",
    "finite_rank_costs",
    "mean_gains",
    "mean_over_blocks",
]

BLOCKS = 20


def _effects(job: Job, quadratic: Quadratic, number: int) -> tuple[np.ndarray, np.ndarray]:
    """A and B of `mutation_effects` for so many mutations, in blocks from which errors are taken: (blocks, n) each."""
    found = []
    for block in range(BLOCKS):
        key = jax.random.fold_in(jax.random.key(9), block)
        found.append([np.asarray(part, float) for part in mutation_effects(key, quadratic, math.ceil(number / BLOCKS))])
        job.progress((block + 1) / BLOCKS)
    slopes, costs = np.stack(found, axis=1)
    return slopes, costs


def on_sphere(size: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    """The same on the sphere."""
    return sphere_effects(np.random.default_rng(size), size, (BLOCKS, math.ceil(number / BLOCKS)))


def mean_gains(
    slopes: np.ndarray, costs: np.ndarray, strengths: Sequence[float] | np.ndarray, num_offspring: int
) -> np.ndarray:
    """Mean decrease by a generation of (1+M) at every s, block by block: (blocks, strengths) [|∇U|²/TrH]."""
    return np.stack([gains(-s * slopes - s**2 / 2 * costs, num_offspring) for s in strengths], axis=1)


def mean_over_blocks(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over blocks, and its standard error."""
    return blocks.mean(0), blocks.std(0, ddof=1) / math.sqrt(len(blocks))


@lru_cache(maxsize=1)
def _normal_quantiles() -> np.ndarray:
    number = 200_000
    return stats.norm.ppf((np.arange(number) + 0.5) / number)


def controlled_gains(
    slopes: np.ndarray,
    costs: np.ndarray,
    strengths: Sequence[float] | np.ndarray,
    num_offspring: int,
    along: float = 0.0,
) -> np.ndarray:
    """`mean_gains` with less noise, by a control variate: the gains of the same slopes at B = 1 + κ(A² − 1).

    A is exactly normal, so that the mean of these is known from the quantiles of one normal number.

    Parameters
    ----------
    along : κ of `curvature_along`; any other value only leaves more noise.
    """

    def plain(slopes):
        return mean_gains(slopes, 1 + along * (slopes**2 - 1), strengths, num_offspring)

    return mean_gains(slopes, costs, strengths, num_offspring) - plain(slopes) + plain(_normal_quantiles()[None])


def curvature_along(quadratic: Quadratic) -> float:
    """κ = ĝ·Hĝ/TrH, the share of the curvature that lies along the gradient at the start."""
    unit = np.asarray(quadratic.curvatures * quadratic.start, float) / quadratic.gradient_norm
    return float(np.sum(np.asarray(quadratic.curvatures) * unit**2)) / quadratic.trace


def finite_rank_costs(slopes: np.ndarray, quadratic: Quadratic) -> np.ndarray:
    """B where a finite rank is seen to first order: 1 + κ(A² − 1) + √(2(TrH²)/(TrH)²) W with W normal.

    κ is that of `curvature_along`; the last term is the ½σ⁴TrH² of theory.md 3, less what κ has of it.
    """
    along = curvature_along(quadratic)
    across = max(0.0, 1 / quadratic.participation_ratio - along**2)
    noise = np.random.default_rng(0).standard_normal(slopes.shape)
    return 1 + along * (slopes**2 - 1) + math.sqrt(2 * across) * noise


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


# --- W26-4: speed against M --------------------------------------------------------------------------------------------


def run_speed(job: Job) -> Outcome:
    """Decrease of the loss per generation on the sphere, at a small fixed σ and at the best one, for every M."""
    import xarray

    counts = np.array(job["offspring"])
    strengths = np.array([[job["strength"]] * len(counts), [theory.optimal_strength(int(one)) for one in counts]])
    slopes, costs = on_sphere(job["size"], job["mutations"])
    found = np.empty((2, 2, len(counts)))
    for i in range(2):
        for j, number in enumerate(counts):
            found[:, i, j] = mean_over_blocks(mean_gains(slopes, costs, strengths[i, j : j + 1], int(number))[:, 0])
            job.progress((i * len(counts) + j + 1) / (2 * len(counts)))
    data = xarray.Dataset(
        {
            "gain": (("sigma", "offspring"), found[0]),
            "error": (("sigma", "offspring"), found[1]),
            "strength": (("sigma", "offspring"), strengths),
        },
        coords={"sigma": ["fixed", "best"], "offspring": counts},
    )
    mean = np.array([theory.best_of_moment(int(one)) for one in counts])
    most = np.array([float(theory.expected_gain(s, int(one))) for s, one in zip(strengths[1], counts, strict=True)])
    few, many = list(counts).index(job["few"]), len(counts) - 1
    law = math.log(counts[many]) / math.log(counts[few])
    between = f"from M = {counts[few]} to {counts[many]}"
    text = f"growth of the speed at fixed σ over that of √ln M (per evaluation √ln M/M), {between}"
    checks = [
        _furthest("speed at fixed σ over c_Mσ|∇U|", found[:, 0] / (mean * job["strength"]), counts),
        near(text, *_growth(found[:, 0], few, many, law**0.5), 1, 0.2),
        _furthest("gain at the best σ over G_M(s*)", found[:, 1] / most, counts, ours=True),
    ]
    text = f"growth of the gain at the best σ over that of √ln M, {between}: faster"
    checks.append(above(text, *_growth(found[:, 1], few, many, law**0.5), 1.2, ours=True))
    ratio, error = found[:, 1, many] / (mean[many] ** 2 / 2)
    checks.append(near(f"gain at the best σ over c_M²/2 ~ ln M, M = {counts[many]}", ratio, error, 1, 0.05, ours=True))
    return Outcome(checks, data, draw_speed)


def _furthest(text: str, ratios: np.ndarray, counts: np.ndarray, ours: bool = False) -> Check:
    """That the ratio furthest from 1 over M is 1 ± 0.03."""
    worst = np.argmax(np.abs(ratios[0] - 1))
    value, error = ratios[:, worst]
    return near(f"{text}, furthest from 1 over M (M = {counts[worst]})", value, error, 1, 0.03, ours=ours)


def _growth(found: np.ndarray, few: int, many: int, law: float) -> tuple[float, float]:
    """Ratio of two measured values over that of a law, and its standard error."""
    ratio = found[0, many] / found[0, few]
    return ratio / law, ratio / law * math.hypot(*(found[1, [few, many]] / found[0, [few, many]]))


def draw_speed(data: Any) -> Any:
    """Speed against M: per generation, and per evaluation."""
    figure, (left, right) = panels(2)
    every = np.unique(np.round(np.geomspace(1, data.offspring.values[-1], 60)).astype(int))
    mean = np.array([theory.best_of_moment(int(one)) for one in every])
    strength = float(data.strength.values[0, 0])
    gain = [float(theory.expected_gain(theory.optimal_strength(int(one)), int(one))) for one in every]
    counts = data.offspring.values
    for axis, power in ((left, 0), (right, 1)):
        axis.plot(every, mean / every**power, color="C0", label="c$_M$")
        axis.plot(every, gain / every**power, color="C1", label="G$_M$(s*)")
        axis.plot(
            every[1:],
            np.sqrt(2 * np.log(every[1:])) / every[1:] ** power,
            "k--",
            linewidth=1,
            label="√(2 ln M)" if power == 0 else "√(2 ln M)/M",
        )
        axis.plot(
            every[1:],
            np.log(every[1:]) / every[1:] ** power,
            "k:",
            linewidth=1,
            label="ln M" if power == 0 else "ln M/M",
        )
        for name, scale, colour, label in (
            ("fixed", strength, "C0", "at a small σ, over σ|∇U|"),
            ("best", 1.0, "C1", "at the best σ, over |∇U|²/TrH"),
        ):
            one = data.sel(sigma=name)
            values, errors = (one[key] / scale / counts**power for key in ("gain", "error"))
            axis.errorbar(counts, values, 3 * errors, fmt="o", markersize=4, color=colour, label=label)
        axis.set(xscale="log", yscale="log", xlabel="offspring M")
    left.set(ylabel="decrease of the loss per generation", ylim=(0.1, 20))
    right.set(ylabel="decrease of the loss per evaluation")
    left.legend(frameon=False, fontsize=8)
    return figure


# --- W26-7: gain at finite σ -------------------------------------------------------------------------------------------


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
        slopes, costs = _effects(job.part(i / len(problems), 0.6 / len(problems)), quadratic, job["mutations"])
        success[:, i] = mean_over_blocks(
            np.stack([np.mean(slopes < -s / 2 * costs, axis=1) for s in strengths], axis=1)
        )
        likely, along = finite_rank_costs(slopes, quadratic), curvature_along(quadratic)
        finite.append(
            np.array([controlled_gains(slopes, likely, strengths, number, along).mean(0) for number in counts])
        )
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


# --- W26-5: breakdown --------------------------------------------------------------------------------------------------


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


_SPEED = {
    "quick": {
        "size": 10_000, "strength": 0.01, "offspring": (1, 2, 5, 20, 100, 1000), "few": 20, "mutations": 2_000_000,
    },
    "paper": {
        "size": 100_000, "strength": 0.01, "offspring": (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000), "few": 20,
        "mutations": 40_000_000,
    },
}  # fmt: skip
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
        "W26-4",
        "whitelam2026",
        "speed and M",
        "at fixed σ speed grows like √ln M per generation and falls like √ln M/M per evaluation; P: at the best σ it grows "
        "faster, like c_M²/2 ~ ln M",
        _SPEED,
        run_speed,
        lambda settings: Needs(settings["mutations"], 1e9 + 80.0 * settings["mutations"], 1e6),
        "sphere, N = {size}, {mutations} mutations at one point; the small σ: s = {strength}",
    ),
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
