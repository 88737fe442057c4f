"""K23-2: angles between gradients of minibatches and the gradient of all the data (Fig. 1)."""

import math
from typing import Any

import jax
import numpy as np

from mutagrad.diagnostics.landscape import update_angles
from mutagrad.lab.claims.checks import PLANNED, Expected, above, near
from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.lab.claims.kucharavy2023.networks import network_task, trained_by_sgd
from mutagrad.report.figures import panels

__all__ = ["CLAIMS"]

SOURCE = {4: 72.0, 32: 25.0, 128: 12.0, 1024: 2.0}
"""Where the distributions of Fig. 1 peak [degree], by batch size. The text says 80° at 4."""
_READ = math.tan(math.radians(80)) / math.tan(math.radians(72))
"""The factor by which the source's text and its figure differ in noise over slope, the tangent of the angle, at a batch of 4."""
_ORDER = 0.02
"""The next order of the law over the law, of normal noise. With q the square of the cosine it is
(1 − q)(−c + 3cq/2 + 3(1 − q)/4P), c the share of TrC along the slope and P = (TrC)²/Tr(C²). Trials had c of 0.05 to 0.06 and
P of 12 to 13 at the start, which give 0.004 to 0.008."""
_EXCESS = 12.0
"""Variance of the squared gradients of single images over (TrC)², after training, in trials; 0.04 at the start."""


def expect_angles(settings: dict[str, Any]) -> list[Expected]:
    """The intervals of K23-2."""
    last, seeds, stated = settings["epochs"][-1], settings["seeds"], []
    sizes, counts = settings["batch_sizes"], settings["batches"]
    for size in sizes:
        why = (
            f"Fig. 1 has {SOURCE[size]:g}°. Its text and its figure differ by a factor of {_READ:.2f} in the tangent at a "
            "batch of 4, and the source does not say after how much training it measured"
        )
        stated.append(near(_name("source", size, last), 0, math.log(_READ), "source", why, freedom=seeds - 1))
    for size, count, spread in zip(sizes, counts, settings["spreads"], strict=True):
        # The law itself, to plan by: TrC/|∇U|² was 200 to 230 at the start in trials.
        law = 1 / math.sqrt(1 + 215 / size)
        error = spread / law / math.sqrt(count * seeds)
        why = (
            f"{_ORDER:g} for the next order, which trials put at 0.004 to 0.008, and six errors of {count} batches a start, of "
            f"cosines with a deviation of {spread:g} in trials. Noise that is 1.5 times as large would give "
            f"{math.sqrt((1 + 322 / size) / (1 + 215 / size)) ** -1:.2f}"
        )
        stated.append(near(_name("law", size, 0), 1, _ORDER + PLANNED * error, "theory", why, ours=True))
    few, many = min(sizes), max(sizes)
    why = (
        "single images then have squared gradients with a heavy tail, and E[1/|∇U_B|] > 1/√E|∇U_B|² by Jensen; of normal noise "
        f"the ratio is 1 to {_ORDER:g}"
    )
    stated.append(above(_name("law", few, last), 1 + _ORDER, "theory", why, ours=True))
    # Of the tail a batch of B has 1/B. The law's own error is half of TrC's, the larger of the two.
    error = math.sqrt(_EXCESS / max(counts) / seeds) / 4
    room = _ORDER + 3 * _EXCESS / 8 / many + PLANNED * error
    why = (
        f"the tail is averaged: what is left of it, 3/8 of its excess variance, {_EXCESS:g} in trials, over {many}, the next "
        "order, and six errors of TrC"
    )
    stated.append(near(_name("law", many, last), 1, room, "trial", why, ours=True))
    return stated


def _name(what: str, size: int, epochs: int) -> str:
    after = f"after {epochs} epochs" if epochs else "at the start"
    return {
        "source": f"ln of the tangent of the median angle over the source's, gradients of {size} images, {after}",
        "law": f"mean cosine of gradients of {size} images over 1/√(1 + TrC/(B|∇U|²)), {after}",
    }[what]


def run_angles(job: Job) -> Outcome:
    """Gradients of batches of the base ConvNet, before and after training by SGD as in the source."""
    import xarray

    epochs, sizes, counts, seeds = job["epochs"], job["batch_sizes"], job["batches"], job["seeds"]
    # Where there are fewer batches of a size, the others are not measured.
    cosines = np.full((seeds, len(epochs), len(sizes), max(counts)), np.nan)
    predicted, errors = np.empty((2, seeds, len(epochs), len(sizes)))
    loss_fn = None
    for seed in range(seeds):
        key = jax.random.fold_in(job.key, seed)
        task = network_task("Base", jax.random.fold_in(key, 0), job["train_images"], job["test_images"])
        # One function is one program: networks of other seeds differ in their params alone.
        loss_fn = loss_fn or task.loss_fn
        some = slice(job["images"])
        images = (task.data.train_inputs[some], task.data.train_targets[some])
        for i, number in enumerate(epochs):
            name = f"seed {seed} key {job['key']} images {job['train_images']}"
            params, _ = trained_by_sgd(
                job, name, "Base", jax.random.fold_in(key, 1), task, num_epochs=number, loss_fn=loss_fn,
                learning_rate=job["learning_rate"],
            )  # fmt: skip
            for count in sorted(set(counts)):
                (own,) = np.nonzero(np.equal(counts, count))
                found = update_angles(
                    jax.random.fold_in(jax.random.fold_in(key, 2 + i), count), loss_fn, params, images, sigma=1e-3,
                    num_mutations=2, numbers=(), batch_sizes=[sizes[j] for j in own], num_batches=count,
                )  # fmt: skip
                for j, one in zip(own.tolist(), found.batches, strict=True):
                    cosines[seed, i, j, :count] = one.cosines
                    predicted[seed, i, j], errors[seed, i, j] = one.predicted.value, one.predicted.error
            job.progress((seed + (i + 1) / len(epochs)) / seeds)
    angles, means = np.degrees(np.arccos(cosines)), np.nanmean(cosines, axis=-1)
    ratios = means / predicted
    own = np.nanvar(cosines, axis=-1, ddof=1) / np.array(counts) / means**2 + (errors / predicted) ** 2
    relative = ratios * np.sqrt(own)
    checked = {}
    for j, size in enumerate(sizes):
        tangents = np.tan(np.radians(np.nanmedian(angles[:, -1, j], axis=-1)))
        logs = np.log(tangents / math.tan(math.radians(SOURCE[size])))
        checked[_name("source", size, epochs[-1])] = (logs.mean(), logs.std(ddof=1) / math.sqrt(seeds))
        for i, number in enumerate(epochs):
            checked[_name("law", size, number)] = (
                ratios[:, i, j].mean(), math.sqrt(np.sum(relative[:, i, j] ** 2)) / seeds,
            )  # fmt: skip
    data = xarray.Dataset(
        {
            "angle": (("seed", "epochs", "size", "batch"), angles),
            "predicted": (("seed", "epochs", "size"), np.degrees(np.arccos(predicted))),
        },
        coords={"epochs": list(epochs), "size": list(sizes)},
    )
    return Outcome({one.what: checked[one.what] for one in expect_angles(job.settings)}, data, draw_angles)


def draw_angles(data: Any) -> Any:
    """Distribution of the angles for each batch size, at each place: the layout of Fig. 1."""
    figure, axes = panels(data.sizes["epochs"], width=4.2)
    bins = np.linspace(0, 100, 61)
    for axis, epochs in zip(axes, data.epochs.values, strict=True):
        for colour, size in enumerate(data["size"].values):
            one = data.sel(epochs=epochs, size=size)
            angles = one.angle.values.ravel()
            axis.hist(
                angles[np.isfinite(angles)],
                bins,
                density=True,
                histtype="step",
                color=f"C{colour}",
                label=f"batch of {size}",
            )
            axis.axvline(float(one.predicted.mean()), color=f"C{colour}", linewidth=1, linestyle="--")
            axis.plot(SOURCE[int(size)], -0.005, "^", color=f"C{colour}", markersize=6, clip_on=False)
        title = f"after {epochs} epochs" if epochs else "at the start"
        axis.set(xlabel="angle to the gradient of all images [°]", ylabel="density", title=title, ylim=(0, None))
        axis.title.set_fontsize(10)
    axes[0].legend(frameon=False, fontsize=8, title="dashed: law; triangle: source", title_fontsize=8)
    return figure


_ANGLES = {
    "quick": {
        "train_images": 60_000, "test_images": 1000, "images": 4096, "epochs": (0, 2), "learning_rate": 0.004,
        "batch_sizes": (4, 32, 128, 1024), "batches": (400, 400, 40, 40), "spreads": (0.21, 0.19, 0.16, 0.05), "seeds": 5,
        "key": 23217,
    },
    "paper": {
        "train_images": 60_000, "test_images": 10_000, "images": 60_000, "epochs": (0, 10), "learning_rate": 0.002,
        "batch_sizes": (4, 32, 128, 1024), "batches": (2000, 2000, 400, 400), "spreads": (0.21, 0.19, 0.16, 0.05), "seeds": 8,
        "key": 23217,
    },
}  # fmt: skip


def _needs(settings: dict[str, Any]) -> Needs:
    batches = float(np.dot(settings["batches"], settings["batch_sizes"])) + 2 * settings["images"]
    trained = sum(settings["epochs"]) * settings["train_images"]
    return Needs(3.0 * settings["seeds"] * (len(settings["epochs"]) * batches + trained) / 100, 2e9, 1e6)


CLAIMS = [
    Claim(
        "K23-2",
        "kucharavy2023",
        "Fig. 1",
        "gradients of 4, 32, 128 and 1024 images lie at angles of about 72°, 25°, 12° and 2° to that of all; P: at those of "
        "1/√(1 + TrC/(B|∇U|²)) at the start, and nearer than that after training where batches are small",
        _ANGLES,
        run_angles,
        _needs,
        "ConvNet, {seeds} starts, ({batches}) batches of ({batch_sizes}) images against the gradient of {images}",
        expect_angles,
    ),
]
