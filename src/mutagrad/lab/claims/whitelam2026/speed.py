"""W26-4: speed against M, per generation and per evaluation.

Of 15 checks at scale quick one or more stay undecided by chance alone, 3 errors from a law that holds, with a chance of 4 %: each
does once in 370. To say "does not hold" of such a law a value must be 9 planned errors off.
"""

import math
from typing import Any

import numpy as np
from scipy import integrate, stats

from mutagrad import theory
from mutagrad.lab.claims.checks import PLANNED, Expected, above, near
from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.lab.claims.quadratics import gains, sphere_effects
from mutagrad.lab.claims.whitelam2026.strength import BLOCKS, mean_over_blocks
from mutagrad.report.figures import panels

__all__ = ["CLAIMS"]


def _planned_error(settings: dict[str, Any], number: int) -> float:
    """Relative standard error of the mean of max(0, Z_(M)) over the generations that the mutations make."""
    mean, square = theory.best_of_moment(number), theory.best_of_moment(number, 2)
    return math.sqrt(square / mean**2 - 1) / math.sqrt(settings["mutations"] / number)


def _planned_best_error(settings: dict[str, Any], number: int) -> float:
    """The same of max(0, s*Z_(M) − s*²/2)."""
    s = theory.optimal_strength(number)

    def moment(order: int) -> float:
        def integrand(z):
            return (s * z - s**2 / 2) ** order * number * stats.norm.pdf(z) * stats.norm.cdf(z) ** (number - 1)

        return integrate.quad(integrand, s / 2, np.inf, limit=200)[0]

    return math.sqrt(moment(2) / moment(1) ** 2 - 1) / math.sqrt(settings["mutations"] / number)


def _next_order(number: int) -> float:
    """What the largest of M normals lacks of √(2 ln M), as a share of it: (ln ln M + ln 4π − 2γ)/(4 ln M)."""
    return (math.log(math.log(number)) + math.log(4 * math.pi) - 2 * np.euler_gamma) / (4 * math.log(number))


def expect_speed(settings: dict[str, Any]) -> list[Expected]:
    """The intervals of W26-4."""
    small, many = settings["strength"], settings["offspring"][-1]
    stated, freedom = [], BLOCKS - 1
    for number in settings["offspring"]:
        cost = abs(float(theory.expected_gain(small, number)) / (theory.best_of_moment(number) * small) - 1)
        room = cost + PLANNED * _planned_error(settings, number)
        why = f"what curvature takes at s = {small:g}, {cost:.1e}, and six planned errors"
        stated.append(near(f"speed at small σ over c_Mσ|∇U|, M = {number}", 1, room, "theory", why, freedom=freedom))
    order = _next_order(many)
    stated.append(
        near(
            f"speed at small σ over √(2 ln M)σ|∇U|, M = {many}", 1 - order, order**2, "theory",
            f"the largest of M normals: 1 less (ln ln M + ln 4π − 2γ)/(4 ln M) = {order:.3f}, within the square of that",
            freedom=freedom,
        )
    )  # fmt: skip
    few = settings["few"]
    first = _next_order(few)
    stated.append(
        near(
            f"growth of the speed at small σ over that of √ln M (per evaluation √ln M/M), M = {few} to {many}",
            (1 - order) / (1 - first), first**2 + order**2, "theory",
            f"the same order at either end, {order:.3f} and {first:.3f}, within their squares: above 1, since small M lack more",
            freedom=freedom,
        )
    )  # fmt: skip
    for number in settings["offspring"]:
        room = PLANNED * _planned_best_error(settings, number)
        # The sphere of N dimensions has a curvature that differs by √(2/N) from mutation to mutation.
        room += theory.optimal_strength(number) ** 2 / settings["size"]
        why = "six planned errors, and s²/N, to which a sphere of N dimensions has the curvature of its mean"
        stated.append(
            near(f"gain at the best σ over G_M(s*), M = {number}", 1, room, "error", why, ours=True, freedom=freedom)
        )
    law = math.sqrt(math.log(many) / math.log(few))
    why = "the growth of √ln M itself: P says that the best σ, which grows with M, adds to it"
    stated.append(
        above(f"gain at the best σ, M = {many} over M = {few}", law, "source", why, ours=True, freedom=freedom)
    )
    return stated


def run_speed(job: Job) -> Outcome:
    """Decrease of the loss per generation on the sphere, at a small fixed σ and at the best one, for every M."""
    import xarray

    counts = np.array(job["offspring"])
    strengths = np.array([[job["strength"]] * len(counts), [theory.optimal_strength(int(one)) for one in counts]])
    gain = np.empty((2, 2, len(counts)))
    for j, number in enumerate(counts):
        # Mutations of their own for every M, and as many whole generations of it in every block.
        random = np.random.default_rng((job["key"], int(number)))
        a_block = math.ceil(job["mutations"] / BLOCKS / number) * int(number)
        slopes, costs = sphere_effects(random, job["size"], (BLOCKS, a_block))
        for i in range(2):
            differences = -strengths[i, j] * slopes - strengths[i, j] ** 2 / 2 * costs
            gain[:, i, j] = mean_over_blocks(gains(differences, int(number)))
        job.progress((j + 1) / len(counts))
    data = xarray.Dataset(
        {
            "gain": (("sigma", "offspring"), gain[0]),
            "error": (("sigma", "offspring"), gain[1]),
            "strength": (("sigma", "offspring"), strengths),
        },
        coords={"sigma": ["fixed", "best"], "offspring": counts},
    )
    (small, best), found = np.moveaxis(gain, 1, 0), {}
    for j, number in enumerate(map(int, counts)):
        law = theory.best_of_moment(number) * job["strength"]
        found[f"speed at small σ over c_Mσ|∇U|, M = {number}"] = small[:, j] / law
        most = float(theory.expected_gain(strengths[1, j], number))
        found[f"gain at the best σ over G_M(s*), M = {number}"] = best[:, j] / most
    many, few = len(counts) - 1, list(counts).index(job["few"])
    law = math.sqrt(2 * math.log(counts[many])) * job["strength"]
    found[f"speed at small σ over √(2 ln M)σ|∇U|, M = {counts[many]}"] = small[:, many] / law
    growth, error = _ratio(small, many, few)
    law = math.sqrt(math.log(counts[many]) / math.log(counts[few]))
    text = f"growth of the speed at small σ over that of √ln M (per evaluation √ln M/M), M = {counts[few]} to {counts[many]}"
    found[text] = (growth / law, error / law)
    found[f"gain at the best σ, M = {counts[many]} over M = {job['few']}"] = _ratio(best, many, few)
    return Outcome({name: tuple(value) for name, value in found.items()}, data, draw_speed)


def _ratio(measured: np.ndarray, over: int, under: int) -> tuple[float, float]:
    """Ratio of two measured values of (2, M) values and errors, and its standard error."""
    ratio = measured[0, over] / measured[0, under]
    return ratio, ratio * math.hypot(*(measured[1, [over, under]] / measured[0, [over, under]]))


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
        "size": 10_000, "strength": 0.01, "offspring": (1, 2, 5, 20, 100, 1000), "few": 20,
        "mutations": 12_000_000, "key": 26451,
    },
    "paper": {
        "size": 100_000, "strength": 0.01, "offspring": (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000), "few": 20,
        "mutations": 40_000_000, "key": 26451,
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
        "sphere, N = {size}, {mutations} mutations for each M; the small σ: s = {strength}",
        expect_speed,
    ),
]
