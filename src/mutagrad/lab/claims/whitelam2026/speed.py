"""W26-4: speed against M, per generation and per evaluation."""

import math
from typing import Any

import numpy as np

from mutagrad import theory
from mutagrad.lab.claims.claims import Check, Claim, Job, Needs, Outcome, above, near
from mutagrad.lab.claims.whitelam2026.strength import mean_gains, mean_over_blocks, on_sphere
from mutagrad.report.figures import panels

__all__ = ["CLAIMS"]


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


_SPEED = {
    "quick": {
        "size": 10_000, "strength": 0.01, "offspring": (1, 2, 5, 20, 100, 1000), "few": 20, "mutations": 2_000_000,
    },
    "paper": {
        "size": 100_000, "strength": 0.01, "offspring": (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000), "few": 20,
        "mutations": 40_000_000,
    },
}  # fmt: skip

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
]
