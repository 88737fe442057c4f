"""K23-7: the mutational landscape at the start, at the start of transfer and at the optimum (Fig. 4)."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mutagrad.diagnostics.landscape import mutational_effects
from mutagrad.lab.claims.checks import PLANNED, Expected, below, near
from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.lab.claims.kucharavy2023.networks import network_task, trained_by_sgd
from mutagrad.lab.tasks.task import Task
from mutagrad.report.figures import panels

__all__ = ["CLAIMS", "HIDDEN", "without_hidden"]

HIDDEN = 8
"""Digits from this one on are hidden from the loss before transfer."""
PLACES = ("start", "start of transfer", "optimum")


def expect_effects(settings: dict[str, Any]) -> list[Expected]:
    """The intervals of K23-7."""
    number = settings["mutations"] * settings["seeds"]
    error = math.sqrt(0.25 / number)
    # The error is the larger of two, of which one is the spread over the starts.
    few = settings["seeds"] - 1
    stated = [
        near(
            _name("share", "start"),
            0.5,
            0.05,
            "source",
            "≈ 50 %, to the 5 % that the figure can be read to",
            freedom=few,
        ),
        below(
            _name("share", "start of transfer"),
            0.25,
            "source",
            "few: less than half of those at the start",
            freedom=few,
        ),
        below(
            _name("share", "optimum"),
            0.01,
            "source",
            "none: less than one in a hundred",
            freedom=few,
        ),
        near(
            _name("shape", "start"),
            0,
            0.1,
            "source",
            "exponential, ξ = 0, to the 0.1 that a few hundred values tell",
            freedom=few,
        ),
    ]
    for place in PLACES:
        why = f"six errors, and the next order, a skewness of ΔU of {settings['skewness']:g}; trials had up to 0.4"
        room = PLANNED * error + _skewness_room(settings)
        stated.append(near(_name("excess", place), 0, room, "error", why, ours=True, freedom=few))
    why = "six errors of the shape that as many effects of a normal ΔU of the same s have"
    stated.append(
        near(_name("normal", "start"), 0, PLANNED * 0.9 / math.sqrt(number / 2), "error", why, ours=True, freedom=few)
    )
    return stated


def _skewness_room(settings: dict[str, Any]) -> float:
    """By Edgeworth's next term a share differs by skewness · (1 − z²)φ(z)/6, 0.067 times the skewness at most."""
    return 0.067 * settings["skewness"]


def _name(what: str, place: str) -> str:
    return {
        "share": f"share of beneficial mutations, {place}",
        "shape": f"shape of the generalised Pareto law of their effects, {place}",
        "excess": f"share of beneficial mutations less Φ(−s/2), {place}",
        "normal": f"shape of the generalised Pareto law less that of normal ΔU, {place}",
    }[what]


def without_hidden(task: Task) -> Any:
    """The loss of a task in which the hidden digits count for nothing, though their images are in the batch."""

    def loss_fn(params: Any, batch: tuple) -> jax.Array:
        losses = task.loss_fn(params, batch)
        return jnp.where(batch[1] < HIDDEN, losses, 0.0)

    return loss_fn


def run_effects(job: Job) -> Outcome:
    """Mutations of the base ConvNet before training, after training without two digits, and after training on all."""
    import xarray

    found: dict[str, list] = {place: [] for place in PLACES}
    steps = 0
    for seed in range(job["seeds"]):
        key = jax.random.fold_in(job.key, seed)
        task = network_task("Base", jax.random.fold_in(key, 0), job["train_images"], job["test_images"])
        name = f"seed {seed} key {job['key']} images {job['train_images']}"
        options = {"num_epochs": job["epochs"], "learning_rate": job["learning_rate"]}
        optimum, _ = trained_by_sgd(job, f"all {name}", "Base", jax.random.fold_in(key, 1), task, **options)
        hidden = without_hidden(task)
        own = jax.random.fold_in(key, 2)
        before, _ = trained_by_sgd(job, f"hidden {name}", "Base", own, task, loss_fn=hidden, **options)
        some = slice(job["images"])
        images = (task.data.train_inputs[some], task.data.train_targets[some])
        for i, (place, params) in enumerate(zip(PLACES, (task.start, before, optimum), strict=True)):
            found[place].append(
                mutational_effects(
                    jax.random.fold_in(key, 10 + i), task.loss_fn, params, sigma=job["sigma"],
                    num_mutations=job["mutations"], batch=images,
                )
            )  # fmt: skip
            steps += 1
            job.progress(steps / len(PLACES) / job["seeds"])
    checked = {}
    for place, every in found.items():
        for what, values in (("share", [one.beneficial for one in every]), ("excess", [one.excess for one in every])):
            checked[_name(what, place)] = _over_starts([one.value for one in values], [one.error for one in values])
    shapes = [(one.pareto.shape, one.normal_shape) for one in found["start"] if one.pareto]
    errors = [shape.error for shape, _ in shapes]
    checked[_name("shape", "start")] = _over_starts([shape.value for shape, _ in shapes], errors)
    checked[_name("normal", "start")] = _over_starts([shape.value - normal for shape, normal in shapes], errors)
    data = xarray.Dataset(
        {
            "changes": (
                ("place", "seed", "mutation"),
                np.array([[one.changes for one in found[place]] for place in PLACES]),
            ),
            "predicted": (
                ("place", "seed"),
                np.array([[one.predicted.value for one in found[place]] for place in PLACES]),
            ),
            "strength": (
                ("place", "seed"),
                np.array([[one.strength.value for one in found[place]] for place in PLACES]),
            ),
            "loss": (("place", "seed"), np.array([[one.loss for one in found[place]] for place in PLACES])),
        },
        coords={"place": list(PLACES)},
    )
    kept = {name: checked[name] for name in (one.what for one in expect_effects(job.settings))}
    return Outcome(kept, data, draw_effects)


def _over_starts(values: list[float], errors: list[float]) -> tuple[float, float]:
    """Mean over starts; its error is the larger of that of the mutations and that of the starts."""
    number = len(values)
    own = math.sqrt(sum(error**2 for error in errors)) / number
    return float(np.mean(values)), max(own, float(np.std(values, ddof=1)) / math.sqrt(number))


def draw_effects(data: Any) -> Any:
    """Distribution of ΔU at each place, the layout of Fig. 4, and the share of beneficial mutations beside Φ(−s/2)."""
    figure, axes = panels(4, width=3.4)
    for axis, place in zip(axes, PLACES, strict=False):
        one = data.sel(place=place)
        values = one.changes.values.ravel()
        low, high = np.quantile(values[np.isfinite(values)], [0.005, 0.98])
        width = (max(high, 0) - min(low, 0)) / 50
        axis.hist(values[values < 0], width * np.arange(min(low / width, 0) // 1, 1), color="C2", label="beneficial")
        axis.hist(values[values >= 0], width * np.arange(0, max(high / width, 0) + 1), color="0.7", label="others")
        axis.axvline(0, color="k", linewidth=0.8)
        axis.set(xlabel="change of the loss ΔU [nat]", yticks=[], title=f"{place}: loss {float(one.loss.mean()):.3g}")
        axis.title.set_fontsize(10)
    axes[0].legend(frameon=False, fontsize=8)
    shares = np.mean(data.changes.values < 0, axis=2)
    for i in range(len(PLACES)):
        x = i + np.linspace(-0.15, 0.15, shares.shape[1])
        axes[3].plot(x, shares[i], "o", color="C2", markersize=5, label=None if i else "measured")
        axes[3].plot(x, data.predicted.values[i], "k_", markersize=10, label=None if i else "Φ(−s/2)")
    axes[3].set_xticks(range(len(PLACES)), ["start", "transfer", "optimum"])
    axes[3].set(ylabel="share of beneficial mutations", ylim=(-0.03, 1.05))
    axes[3].legend(frameon=False, fontsize=8)
    return figure


_EFFECTS = {
    "quick": {
        "train_images": 60_000, "test_images": 2000, "images": 300, "epochs": 5, "learning_rate": 0.004, "sigma": 0.01,
        "mutations": 1000, "seeds": 3, "skewness": 0.5, "key": 23717,
    },
    "paper": {
        "train_images": 60_000, "test_images": 10_000, "images": 60_000, "epochs": 10, "learning_rate": 0.002, "sigma": 0.01,
        "mutations": 1000, "seeds": 5, "skewness": 0.5, "key": 23717,
    },
}  # fmt: skip


def _needs(settings: dict[str, Any]) -> Needs:
    trained = 2 * settings["epochs"] * settings["train_images"] / 100
    mutated = len(PLACES) * settings["mutations"] * settings["images"] / 300
    return Needs(settings["seeds"] * (trained + mutated), 2e9, 1e6)


CLAIMS = [
    Claim(
        "K23-7",
        "kucharavy2023",
        "Fig. 4",
        "half of the mutations are beneficial at the start, few at the start of transfer and none at the optimum, and their "
        "effects are exponential; P: the share is Φ(−s/2), and effects are those of a normal ΔU",
        _EFFECTS,
        run_effects,
        _needs,
        "ConvNet, σ = {sigma}, {mutations} mutations of each of {seeds} starts, on {images} images; SGD for {epochs} epochs",
        expect_effects,
    ),
]
