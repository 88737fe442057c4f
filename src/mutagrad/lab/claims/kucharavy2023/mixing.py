"""K23-8: angles between improving updates, and what mixing them does (Fig. 5)."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from scipy import stats

from mutagrad.diagnostics.landscape import comparison_power, update_angles
from mutagrad.diagnostics.landscape.comparison import LEVEL, mean_cosine, pair_cosine
from mutagrad.lab.claims.checks import PLANNED, Expected, allowed, below, near
from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.lab.claims.kucharavy2023.networks import network_task
from mutagrad.report.figures import panels

__all__ = ["CLAIMS"]

_CONVNET = 9854
_SPREAD = math.sqrt(math.pi**2 / 12 - math.pi / 2 * math.log(2) ** 2)
"""Deviation of Kolmogorov's law, whose mean is √(π/2) ln 2 = 0.869."""
_IMPROVING = 0.45
"""Share of improving mutations to plan by; a half where s is small."""
_MOST_IMAGES = 60_000


def _power(number: int) -> float:
    """The power of k by which the cosine of means grows from 1 to k: ½, less what k/N takes."""
    return math.log(float(mean_cosine(number, _CONVNET) / mean_cosine(1, _CONVNET))) / math.log(number)


def _pairs(settings: dict[str, Any]) -> tuple[int, int]:
    """Pairs of each kind in a simulated test: as many as all starts have together, and sixty for each parameter."""
    return settings["mutations"] * settings["seeds"] // 4, 60 * _CONVNET


def expect_mixing(settings: dict[str, Any]) -> list[Expected]:
    """The intervals of K23-8."""
    most, seeds, stated = settings["numbers"][-1], settings["seeds"], []
    why = "mixing is undesirable: it does not bring an update nearer to the slope than an improving update is by itself"
    stated.append(below(_name("source", most), 1, "source", why, freedom=seeds - 1))
    bound = float(stats.kstwobign.isf(LEVEL))
    pairs = settings["mutations"] // 4
    # The mean of this statistic is 0.4 times the shift in deviations, where the test sees it.
    shift = bound / 0.4 / math.sqrt(pairs / 2) / math.sqrt(_CONVNET)
    why = (
        f"the source's test at the level {LEVEL:.0%}, about {pairs} pairs of each kind a start. Angles of one law give 0.869; "
        f"pairs whose cosine is larger by {shift / pair_cosine(_CONVNET):.0f} times what theory says would be seen"
    )
    stated.append(below(_name("test", _CONVNET), bound, "source", why))
    for number, tests, factor in zip(_pairs(settings), settings["tests"], (10, 0.7), strict=True):
        power = comparison_power(number, _CONVNET, pair_cosine(_CONVNET))
        error = math.sqrt(power * (1 - power) / tests)
        why = (
            f"theory gives {power:.3f}, to the 0.01 that its paths are right to; six errors of {tests} tests. A difference "
            f"{factor:g} times as large would give {comparison_power(number, _CONVNET, factor * pair_cosine(_CONVNET)):.3f}"
        )
        stated.append(near(_name("seen", number), power, 0.01 + PLANNED * error, "theory", why, ours=True))
    # The cosines of single improving mutations are half-normal: a deviation of 0.60 to a mean of 0.80.
    error = 0.76 / math.sqrt(settings["mutations"] * seeds * _IMPROVING)
    why = "six errors of half-normal cosines. A half of mutations that did not improve would give 0.5"
    stated.append(near(_name("single", 1), 1, PLANNED * error, "error", why, ours=True))
    # One and k have the same mutations, but for the last, about k/2, which fill no group.
    improving = settings["mutations"] * _IMPROVING
    error = 0.76 * math.sqrt(1 / (improving - most / 2) - 1 / improving) / math.log(most) / math.sqrt(seeds)
    room = (PLANNED / 2 + allowed(seeds - 1)) * error + pair_cosine(_CONVNET) * most / 2 / math.log(most)
    why = (
        "√k, less what k/N takes; as much again for mutations that are alike across the slope too, and by Student's t errors of "
        f"{error:.4f}, of those that fill no group of k. k^0.6 and k^0.4 lie outside"
    )
    stated.append(near(_name("growth", most), _power(most), room, "theory", why, ours=True, freedom=seeds - 1))
    return stated


def _name(what: str, number: int) -> str:
    return {
        "source": f"cosine with −∇U of the mean of {number} improving mutations, over that of one, ConvNet",
        "test": "√(n/2) times the Kolmogorov–Smirnov distance of angles, improving against random, mean over starts, ConvNet",
        "seen": f"share of simulated tests of {number:,} pairs of each kind that see the difference, N = {_CONVNET:,}",
        "single": "cosine with −∇U of one improving mutation, over c/√(N − 1 + m₂), ConvNet",
        "growth": f"power of k by which the cosine with −∇U of means of k grows, 1 to {number}, ConvNet",
    }[what]


def run_mixing(job: Job) -> Outcome:
    """Improving mutations of the ConvNet at its start, their pairs and means, and comparisons of a size that sees them."""
    import xarray

    numbers, seeds = job["numbers"], job["seeds"]
    cosines, predicted, errors = (np.empty((seeds, len(numbers))) for _ in range(3))
    improving, random = [], []
    loss_fn = None
    for seed in range(seeds):
        key = jax.random.fold_in(job.key, seed)
        first = seed * job["images"] % (_MOST_IMAGES - job["images"] + 1)
        task = network_task("Base", jax.random.fold_in(key, 0), job["images"], 100, first)
        # One function is one program: networks of other seeds differ in their params and images alone.
        loss_fn = loss_fn or task.loss_fn
        images = (task.data.train_inputs, task.data.train_targets)
        found = update_angles(
            jax.random.fold_in(key, 1), loss_fn, task.start, images, sigma=job["sigma"], num_mutations=job["mutations"],
            numbers=numbers, batch_sizes=(),
        )  # fmt: skip
        for i, one in enumerate(found.means):
            cosines[seed, i], predicted[seed, i], errors[seed, i] = one.cosine.value, one.predicted, one.cosine.error
        improving.append(found.improving_cosines)
        random.append(found.random_cosines)
        job.progress(0.7 * (seed + 1) / seeds)
    growth = cosines[:, -1] / cosines[:, 0]
    powers = np.log(growth) / math.log(numbers[-1])
    single = (cosines / predicted)[:, 0].mean(), math.sqrt(np.sum((errors / predicted)[:, 0] ** 2)) / seeds
    distances = [_distance(*both) for both in zip(improving, random, strict=True)]
    checked = {
        _name("source", numbers[-1]): (growth.mean(), growth.std(ddof=1) / math.sqrt(seeds)),
        _name("test", _CONVNET): (np.mean(distances), _SPREAD / math.sqrt(seeds)),
        _name("single", 1): single,
        _name("growth", numbers[-1]): (powers.mean(), powers.std(ddof=1) / math.sqrt(seeds)),
    }
    generator, bound = np.random.default_rng(job["key"]), stats.kstwobign.isf(LEVEL)
    for pairs, tests in zip(_pairs(job.settings), job["tests"], strict=True):
        seen = 0
        for _ in range(tests):
            both = [linear_cosines(generator, pairs, _CONVNET, is_improving) for is_improving in (True, False)]
            seen += _distance(*both) > bound
        share = seen / tests
        # A share of 0 or 1 has the error of one count.
        checked[_name("seen", pairs)] = share, math.sqrt(max(share * (1 - share), 1 / tests) / tests)
    # The pairs of the last test are enough to be told apart.
    pooled = np.concatenate(improving), np.concatenate(random)
    grid = np.linspace(88, 92, 401)
    data = xarray.Dataset(
        {
            "cosine": (("seed", "number"), cosines), "predicted": (("seed", "number"), predicted),
            "improving": ("pair", np.degrees(np.arccos(pooled[0]))), "random": ("pair", np.degrees(np.arccos(pooled[1]))),
            "apart": (("case", "angle"), np.array([_apart(pooled, grid), _apart(both, grid)])),
            "size": ("case", [len(pooled[0]), len(both[0])]),
        },
        coords={"number": list(numbers), "angle": grid, "case": ["ConvNet", "simulated"]},
    )  # fmt: skip
    return Outcome({one.what: checked[one.what] for one in expect_mixing(job.settings)}, data, draw_mixing)


def linear_cosines(random: np.random.Generator, pairs: int, size: int, is_improving: bool) -> np.ndarray:
    """Cosines of independent pairs of gaussian mutations of a linear loss, both improving or not: exact, (pairs,).

    Along the slope a mutation is a normal number, or a half-normal one if it improves. Across it are a length, the root of a χ²
    of N − 1, and a direction; two directions have a cosine that is a normal over itself and a χ² of N − 2.
    """
    along = random.standard_normal((2, pairs))
    if is_improving:
        along = np.abs(along)
    squares = random.chisquare(size - 1, (2, pairs))
    normal = random.standard_normal(pairs)
    across = normal / np.sqrt(normal**2 + random.chisquare(size - 2, pairs))
    products = along.prod(0) + across * np.sqrt(squares.prod(0))
    return products / np.sqrt((along**2 + squares).prod(0))


def _distance(first: np.ndarray, second: np.ndarray) -> float:
    """√(nm/(n + m)) times the Kolmogorov–Smirnov distance of two samples."""
    numbers = len(first), len(second)
    found = stats.ks_2samp(first, second, method="asymp").statistic
    return float(found * math.sqrt(math.prod(numbers) / sum(numbers)))


def _apart(both: Sequence[np.ndarray], grid: np.ndarray) -> np.ndarray:
    """√(n/2) times the difference of the distribution functions of angles, at the angles of a grid [degree]."""
    shares = [np.searchsorted(np.sort(np.degrees(np.arccos(one))), grid) / len(one) for one in both]
    return math.sqrt(len(both[0]) / 2) * (shares[0] - shares[1])


def draw_mixing(data: Any) -> Any:
    """Angles of improving and of random pairs: Fig. 5; what its test sees of them; the cosine of means against k."""
    figure, (left, middle, right) = panels(3, width=4.2)
    bins = np.linspace(88, 92, 33)
    for name in ("improving", "random"):
        left.hist(data[name].values, bins, density=True, histtype="step", label=f"both {name}")
    left.set(xlabel="angle between two mutations [°]", ylabel="density", title="ConvNet, N = 9854", ylim=(0, 0.95))
    for case, colour in zip(data.case.values, ("C0", "C3"), strict=True):
        one = data.sel(case=case)
        label = f"{'ConvNet' if case == 'ConvNet' else 'a linear loss'}, {int(one['size']):,} pairs"
        middle.plot(data.angle, one.apart, color=colour, linewidth=1.2, label=label)
    bound = float(stats.kstwobign.isf(LEVEL))
    for sign in (-1, 1):
        middle.axhline(
            sign * bound, color="0.5", linewidth=0.8, linestyle="--", label=None if sign > 0 else "seen at 5 %"
        )
    middle.set(
        xlabel="angle between two mutations [°]", ylabel="√(n/2) (F improving − F random)", ylim=(-2.2, 4.2),
        title="what the Kolmogorov–Smirnov test sees",
    )  # fmt: skip
    number = data.number.values
    for seed in range(data.sizes["seed"]):
        said = None if seed else "measured, each start"
        right.plot(number, data.cosine[seed], "o", color="C0", markersize=4, label=said)
    right.plot(number, data.predicted.mean("seed"), color="k", linewidth=1, label="√k, predicted")
    right.set(
        xscale="log", yscale="log", xlabel="k, improving mutations in a mean", ylabel="cosine of the mean with −∇U",
        title="ConvNet, means of k",
    )  # fmt: skip
    right.set_xticks(number, [str(one) for one in number])
    right.set_yticks([0.01, 0.02, 0.05, 0.1], ["0.01", "0.02", "0.05", "0.1"])
    right.minorticks_off()
    for axis in (left, middle, right):
        axis.title.set_fontsize(10)
        axis.legend(frameon=False, fontsize=8)
    return figure


_MIXING = {
    "quick": {
        "images": 300, "sigma": 0.001, "mutations": 1000, "seeds": 8, "numbers": (1, 4, 16, 64), "tests": (2000, 100),
        "key": 2388417,
    },
    "paper": {
        "images": 60_000, "sigma": 0.01, "mutations": 10_000, "seeds": 8, "numbers": (1, 4, 16, 64, 256), "tests": (2000, 400),
        "key": 2388417,
    },
}  # fmt: skip


def _needs(settings: dict[str, Any]) -> Needs:
    return Needs(settings["seeds"] * settings["mutations"] * settings["images"] / 300, 2e9, 1e6)


CLAIMS = [
    Claim(
        "K23-8",
        "kucharavy2023",
        "Fig. 5",
        "angles between improving updates are those between random ones, so that mixing them is undesirable; P: the test sees no "
        "more there than its level, and the mean of k improving mutations is nearer to the slope like √k",
        _MIXING,
        run_mixing,
        _needs,
        "ConvNet at its start, σ = {sigma}, {images} images, {mutations} mutations of each of {seeds} starts",
        expect_mixing,
    ),
]
