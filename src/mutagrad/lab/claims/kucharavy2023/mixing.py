"""K23-8: angles between improving updates, and what mixing them does (Fig. 5)."""

import math
from typing import Any

import jax
import numpy as np

from mutagrad.diagnostics.landscape import comparison_power, update_angles
from mutagrad.diagnostics.landscape.comparison import mean_cosine, pair_cosine
from mutagrad.lab.claims.checks import PLANNED, Expected, below, near
from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.lab.claims.kucharavy2023.networks import network_task
from mutagrad.lab.tasks.data import load
from mutagrad.lab.tasks.models import MLP
from mutagrad.lab.tasks.task import make_task
from mutagrad.report.figures import panels

__all__ = ["CLAIMS"]

_CONVNET = 9854
_FEWEST_GROUPS = 8


def _numbers(settings: dict[str, Any]) -> tuple[int, ...]:
    """How many improving mutations are averaged: powers of four of which every start has eight groups, about."""
    improving = settings["mutations"] * 0.35
    return tuple(4**power for power in range(8) if 4**power * _FEWEST_GROUPS <= improving)


def expect_mixing(settings: dict[str, Any]) -> list[Expected]:
    """The intervals of K23-8."""
    most, stated = _numbers(settings)[-1], []
    why = "mixing is undesirable: it does not bring an update nearer to the slope than an improving update is by itself"
    stated.append(below(_name("source", most), 1, "source", why))
    # A cosine has the deviation 1/√N; that of a single one is known from all the improving mutations.
    improving = settings["mutations"] * settings["seeds"] * 0.35
    for number in _numbers(settings):
        error = math.sqrt(number / improving) / math.sqrt(_CONVNET) / float(mean_cosine(number, _CONVNET))
        why = f"six errors of about {improving / number:,.0f} means, of which each has the deviation 1/√N"
        stated.append(near(_name("means", number), 1, PLANNED * error, "error", why, ours=True))
    pairs, size = settings["mutations"] // 4, _CONVNET
    why = f"a test with a chance of one in ten to see what theory predicts sees nothing; {pairs:,} pairs a start"
    stated.append(below(_name("power", pairs), 0.1, "theory", why, ours=True, exact=True))
    size = _digits_size(settings)
    error = math.sqrt(2 / size / (settings["digits_mutations"] * 0.35 / 2)) / pair_cosine(size)
    why = "six errors of the pairs, and 1/√N of itself for curvatures that are few"
    stated.append(near(_name("pairs", size), 1, PLANNED * error + 1 / math.sqrt(size), "error", why, ours=True))
    return stated


def _digits_size(settings: dict[str, Any]) -> int:
    """Parameters of the small network on the digits."""
    width = settings["digits_width"]
    return 64 * width + width + 10 * width + 10


def _name(what: str, number: int) -> str:
    return {
        "source": f"cosine with −∇U of the mean of {number} improving mutations, over that of one, ConvNet",
        "means": f"cosine with −∇U of the mean of {number} improving mutations, over c√k/√(N − 1 + m₂ + c²(k − 1)), ConvNet",
        "power": f"power of the comparison of angles by {number} pairs at N = {_CONVNET:,}",
        "pairs": f"cosine of two improving mutations less that of random ones, over c²/N, digits, N = {number:,}",
    }[what]


def run_mixing(job: Job) -> Outcome:
    """Improving mutations of the ConvNet at its start, their pairs and means, and pairs of a network small enough to see them."""
    import xarray

    numbers = _numbers(job.settings)
    cosines, predicted, groups = (np.empty((job["seeds"], len(numbers))) for _ in range(3))
    improving, random = [], []
    for seed in range(job["seeds"]):
        key = jax.random.fold_in(job.key, seed)
        task = network_task("Base", jax.random.fold_in(key, 0), job["images"], first=seed * job["images"])
        images = (task.data.train_inputs, task.data.train_targets)
        found = update_angles(
            jax.random.fold_in(key, 1), task.loss_fn, task.start, images, sigma=job["sigma"], num_mutations=job["mutations"],
            numbers=numbers, batch_sizes=(),
        )  # fmt: skip
        for i, one in enumerate(found.means):
            cosines[seed, i], predicted[seed, i] = one.cosine.value, one.predicted
            groups[seed, i] = len(found.improving_cosines) * 2 // one.number
        improving.append(found.improving_cosines)
        random.append(found.random_cosines)
        job.progress(0.8 * (seed + 1) / job["seeds"])
    # Errors from the groups, whose cosines have the deviation 1/√N about their mean.
    ratios = (cosines / predicted).mean(0)
    errors = np.sqrt((1 / groups / _CONVNET / predicted**2).sum(0)) / job["seeds"]
    checked = {_name("means", number): (ratios[i], errors[i]) for i, number in enumerate(numbers)}
    growth = cosines[:, -1].mean() / cosines[:, 0].mean()
    relative = math.hypot(errors[-1] / ratios[-1], errors[0] / ratios[0])
    checked[_name("source", numbers[-1])] = (growth, growth * relative)
    pairs = job["mutations"] // 4
    checked[_name("power", pairs)] = (comparison_power(pairs, _CONVNET, pair_cosine(_CONVNET)), 0.0)
    small, ratio, error = _digits(job)
    checked[_name("pairs", _digits_size(job.settings))] = (ratio, error)
    data = xarray.Dataset(
        {
            "cosine": (("seed", "number"), cosines), "predicted": (("seed", "number"), predicted),
            "improving": ("pair", np.degrees(np.arccos(np.concatenate(improving)))),
            "random": ("pair_random", np.degrees(np.arccos(np.concatenate(random)))),
            "small_improving": ("small_pair", small.improving_cosines), "small_random": ("small_random", small.random_cosines),
        },
        coords={"number": list(numbers)},
    )  # fmt: skip
    return Outcome(checked, data, draw_mixing)


def _digits(job: Job) -> tuple[Any, float, float]:
    """Pairs of improving and of random mutations of a small network on the digits, and their difference over c²/N."""
    key = jax.random.fold_in(job.key, 1000)
    data = load("digits")
    task = make_task(data, MLP(jax.random.fold_in(key, 0), 64, (job["digits_width"],), data.num_outputs))
    some = slice(job["digits_images"])
    found = update_angles(
        jax.random.fold_in(key, 1), task.loss_fn, task.start, (data.train_inputs[some], data.train_targets[some]),
        sigma=job["digits_sigma"], num_mutations=job["digits_mutations"], numbers=(1,), batch_sizes=(),
    )  # fmt: skip
    one, other = found.improving_cosines, found.random_cosines
    difference = one.mean() - other.mean()
    error = math.hypot(one.std(ddof=1) / math.sqrt(len(one)), other.std(ddof=1) / math.sqrt(len(other)))
    return found, difference / found.predicted, error / found.predicted


def draw_mixing(data: Any) -> Any:
    """Angles of improving and of random pairs, and the cosine of means against k: Fig. 5, and what it could not see."""
    figure, (left, middle, right) = panels(3, width=4.2)
    bins = np.linspace(86, 94, 41)
    for name, label in (("improving", "improving"), ("random", "random")):
        left.hist(data[name].values, bins, density=True, histtype="step", label=label)
    left.set(xlabel="angle between two mutations [°]", ylabel="density", title="ConvNet, N = 9854")
    number = data.number.values
    for seed in range(data.sizes["seed"]):
        middle.plot(
            number, data.cosine[seed], "o", color="C0", markersize=4, label=None if seed else "measured, three starts"
        )
    middle.plot(number, data.predicted.mean("seed"), color="k", linewidth=1, label="predicted")
    middle.set(
        xscale="log",
        yscale="log",
        xlabel="improving mutations that are averaged",
        ylabel="cosine of their mean with −∇U",
    )
    for name, label in (("small_improving", "improving"), ("small_random", "random")):
        values = np.sort(np.degrees(np.arccos(data[name].values)))
        right.plot(values, (np.arange(len(values)) + 0.5) / len(values), label=label)
    right.set(
        xlabel="angle between two mutations [°]", ylabel="share below", xlim=(85, 95), title="digits, a small network"
    )
    for axis in (left, middle, right):
        axis.title.set_fontsize(10)
        axis.legend(frameon=False, fontsize=8)
    return figure


_MIXING = {
    "quick": {
        "images": 300, "sigma": 0.001, "mutations": 3000, "seeds": 3, "digits_width": 4, "digits_images": 300,
        "digits_sigma": 0.01, "digits_mutations": 800_000, "key": 23817,
    },
    "paper": {
        "images": 60_000, "sigma": 0.01, "mutations": 10_000, "seeds": 3, "digits_width": 4, "digits_images": 1437,
        "digits_sigma": 0.01, "digits_mutations": 1_000_000, "key": 23817,
    },
}  # fmt: skip


def _needs(settings: dict[str, Any]) -> Needs:
    return Needs(
        settings["seeds"] * settings["mutations"] * settings["images"] / 300 + settings["digits_mutations"] / 50,
        2e9,
        1e6,
    )


CLAIMS = [
    Claim(
        "K23-8",
        "kucharavy2023",
        "Fig. 5",
        "angles between improving updates are those between random ones, so that mixing them is undesirable; P: the comparison "
        "has no power there, and the mean of k improving mutations is nearer to the slope like √k",
        _MIXING,
        run_mixing,
        _needs,
        "ConvNet at its start, σ = {sigma}, {images} images, {mutations} mutations of each of {seeds} starts",
        expect_mixing,
    ),
]
