"""K23-2: angles between gradients of minibatches and the gradient of all the data (Fig. 1)."""

import math
from typing import Any

import jax
import numpy as np

from mutagrad.diagnostics.landscape import update_angles
from mutagrad.lab.claims.checks import PLANNED, Expected, near
from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.lab.claims.kucharavy2023.networks import network_task, trained_by_sgd
from mutagrad.report.figures import panels

__all__ = ["CLAIMS"]

SOURCE = {4: 72.0, 32: 25.0, 128: 12.0, 1024: 2.0}
"""Where the distributions of Fig. 1 peak [degree], by batch size. The text says 80° at 4."""
_READ = 8.0
"""By how much the source's figure and text differ at a batch of 4 [degree]."""


def expect_angles(settings: dict[str, Any]) -> list[Expected]:
    """The intervals of K23-2."""
    last, stated = settings["epochs"][-1], []
    for size in settings["batch_sizes"]:
        why = f"Fig. 1 to the {_READ:g}° by which its text differs from it at 4"
        stated.append(near(_name("source", size, last), SOURCE[size], _READ, "source", why))
    for epochs in settings["epochs"]:
        for size in settings["batch_sizes"]:
            error = settings["spread"] / math.sqrt(settings["batches"] * settings["seeds"])
            why = (
                f"six errors of {settings['batches']} batches, whose cosines had a deviation of up to {settings['spread']:g} in "
                "trials, and 0.02 for noise that lies along few directions"
            )
            stated.append(near(_name("law", size, epochs), 0, PLANNED * error + 0.02, "error", why, ours=True))
    return stated


def _name(what: str, size: int, epochs: int) -> str:
    after = f"after {epochs} epochs" if epochs else "at the start"
    return {
        "source": f"median angle of gradients of {size} images to that of all [°], {after}",
        "law": f"mean cosine of gradients of {size} images less 1/√(1 + TrC/(B|∇U|²)), {after}",
    }[what]


def run_angles(job: Job) -> Outcome:
    """Gradients of batches of the base ConvNet, before and in training by SGD as in the source."""
    import xarray

    epochs, sizes = job["epochs"], job["batch_sizes"]
    shape = (job["seeds"], len(epochs), len(sizes), job["batches"])
    cosines, predicted, errors = np.empty(shape), np.empty(shape[:-1]), np.empty(shape[:-1])
    for seed in range(job["seeds"]):
        key = jax.random.fold_in(job.key, seed)
        task = network_task("Base", jax.random.fold_in(key, 0), job["train_images"], job["test_images"])
        some = slice(job["images"])
        images = (task.data.train_inputs[some], task.data.train_targets[some])
        for i, number in enumerate(epochs):
            name = f"seed {seed} key {job['key']} images {job['train_images']}"
            params, _ = trained_by_sgd(job, name, "Base", jax.random.fold_in(key, 1), task, num_epochs=number)
            found = update_angles(
                jax.random.fold_in(key, 2 + i), task.loss_fn, params, images, sigma=1e-3, num_mutations=2, numbers=(),
                batch_sizes=sizes, num_batches=job["batches"],
            )  # fmt: skip
            for j, one in enumerate(found.batches):
                cosines[seed, i, j] = one.cosines
                predicted[seed, i, j], errors[seed, i, j] = one.predicted.value, one.predicted.error
            job.progress((seed + (i + 1) / len(epochs)) / job["seeds"])
    checked = {}
    for j, size in enumerate(sizes):
        medians = np.median(np.degrees(np.arccos(cosines[:, -1, j])), axis=-1)
        checked[_name("source", size, epochs[-1])] = (medians.mean(), medians.std(ddof=1) / math.sqrt(len(medians)))
        for i, number in enumerate(epochs):
            apart = cosines[:, i, j].mean(-1) - predicted[:, i, j]
            own = np.sqrt(cosines[:, i, j].var(-1, ddof=1) / job["batches"] + errors[:, i, j] ** 2)
            checked[_name("law", size, number)] = (apart.mean(), math.sqrt(np.sum(own**2)) / len(apart))
    data = xarray.Dataset(
        {
            "angle": (("seed", "epochs", "size", "batch"), np.degrees(np.arccos(cosines))),
            "predicted": (("seed", "epochs", "size"), np.degrees(np.arccos(predicted))),
        },
        coords={"epochs": list(epochs), "size": list(sizes)},
    )
    return Outcome(checked, data, draw_angles)


def draw_angles(data: Any) -> Any:
    """Distribution of the angles for each batch size, at each place: the layout of Fig. 1."""
    figure, axes = panels(data.sizes["epochs"], width=4.2)
    bins = np.linspace(0, 100, 61)
    for axis, epochs in zip(axes, data.epochs.values, strict=True):
        for colour, size in enumerate(data["size"].values):
            one = data.sel(epochs=epochs, size=size)
            axis.hist(
                one.angle.values.ravel(),
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
        "train_images": 60_000, "test_images": 2000, "images": 8000, "epochs": (0, 1, 5), "batch_sizes": (4, 32, 128, 1024),
        "batches": 200, "seeds": 3, "spread": 0.2, "key": 232,
    },
    "paper": {
        "train_images": 60_000, "test_images": 10_000, "images": 60_000, "epochs": (0, 1, 10), "batch_sizes": (4, 32, 128, 1024),
        "batches": 1000, "seeds": 3, "spread": 0.2, "key": 232,
    },
}  # fmt: skip


def _needs(settings: dict[str, Any]) -> Needs:
    batches = settings["batches"] * sum(settings["batch_sizes"]) + settings["images"]
    trained = max(settings["epochs"]) * settings["train_images"]
    return Needs(3.0 * settings["seeds"] * (len(settings["epochs"]) * batches + trained) / 100, 2e9, 1e6)


CLAIMS = [
    Claim(
        "K23-2",
        "kucharavy2023",
        "Fig. 1",
        "gradients of 4, 32, 128 and 1024 images lie at angles of about 72°, 25°, 12° and 2° to that of all; P: at those of "
        "1/√(1 + TrC/(B|∇U|²))",
        _ANGLES,
        run_angles,
        _needs,
        "ConvNet, {batches} batches of each size at each of {seeds} starts, against the gradient of {images} images",
        expect_angles,
    ),
]
