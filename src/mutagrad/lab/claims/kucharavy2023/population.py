"""K23-3: population and edit distance (Fig. 7)."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import mutagrad
from mutagrad.lab.claims.checks import Expected, above, below, near
from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.lab.claims.kucharavy2023.networks import network_task
from mutagrad.lab.training import go_ea
from mutagrad.report.figures import panels

__all__ = ["CLAIMS"]

EACH_WAY = 8.0
"""By how much the edit distance is multiplied and divided."""
STALL = 1 / 3
"""Of the decrease of the loss at the edit distance itself: less is a stall."""


def speed_law(number: int, middle: int) -> float:
    """Speed of (1+M) over that of (1+M'), a generation, where the slope decides: c_M/c_M', c_M = E max(0, Z_(M))."""
    return mutagrad.theory.best_of_moment(number) / mutagrad.theory.best_of_moment(middle)


def _populations(settings: dict[str, Any]) -> tuple[int, int, int]:
    few, middle, many = settings["populations"]
    return few, middle, many


def _variants(settings: dict[str, Any]) -> dict[str, tuple[int, float]]:
    """Population and edit distance of every variant; the first is the source's."""
    (few, middle, many), sigma = _populations(settings), settings["sigma"]
    return {
        f"M = {middle}, ED = {sigma:g}": (middle, sigma),
        f"M = {few}": (few, sigma),
        f"M = {many}": (many, sigma),
        f"ED × {EACH_WAY:g}": (middle, sigma * EACH_WAY),
        f"ED / {EACH_WAY:g}": (middle, sigma / EACH_WAY),
    }


def _name(what: str, settings: dict[str, Any]) -> str:
    few, middle, many = _populations(settings)
    return {
        "moderate": f"speed with M = {many} over that with M = {few}",
        "law": f"speed with M = {many} over that with M = {few}, over c_{many}/c_{few}",
        "learns": f"decrease of the loss with M = {middle} and ED, over its start",
        "large": f"decrease of the loss at ED × {EACH_WAY:g} over that at ED",
        "small": f"decrease of the loss at ED / {EACH_WAY:g} over that at ED",
    }[what]


def expect_population(settings: dict[str, Any]) -> list[Expected]:
    """The intervals of K23-3."""
    (few, _, many), freedom = _populations(settings), settings["seeds"] - 1
    root = math.sqrt(many / few)
    why = f"a speed like √M, as of a mean over M, would be {root:g} times as high; c_{many}/c_{few} is {speed_law(many, few):.2f}"
    stated = [below(_name("moderate", settings), root, "theory", why, freedom=freedom)]
    why = "the source's population and edit distance train at all: more than a tenth"
    stated.append(above(_name("learns", settings), 0.1, "source", why, freedom=freedom))
    room = 2 / 3 * (1 - 1 / speed_law(many, few))
    none, like_root = 1 / speed_law(many, few), root / speed_law(many, few)
    why = f"the gradient regime, and two thirds of the way to no effect at all, {none:.2f}; √M has {like_root:.2f}"
    stated.append(near(_name("law", settings), 1, room, "theory", why, ours=True, freedom=freedom))
    why = "a stall: under a third; where the slope decides a generation moves by c_M σ, an eighth"
    stated.append(below(_name("small", settings), STALL, "theory", why, ours=True, freedom=freedom))
    why = "a stall: under a third; where s grows past 2 Z_(M) hardly an offspring is better"
    stated.append(below(_name("large", settings), STALL, "theory", why, ours=True, freedom=freedom))
    return stated


def _course(job: Job, name: str, key: jax.Array, task: Any, algorithm: mutagrad.Algorithm, loss_fn: Any) -> np.ndarray:
    """Losses of the parent on all images, (generations,)."""
    kept = job.load(name)
    if kept is None:
        data = (jnp.asarray(task.data.train_inputs), jnp.asarray(task.data.train_targets))
        history = mutagrad.evolve(
            key, algorithm, task.start, loss_fn, job["generations"], mutagrad.minibatches(data, None), progress=False,
            record=lambda state, info: info.parent_loss,
        ).history  # fmt: skip
        kept = {"losses": np.asarray(history)}
        job.keep(name, kept, is_last=True)
    return kept["losses"]


def _speeds(courses: np.ndarray) -> np.ndarray:
    """Generations that the first variant takes to half of its own time, over those that each takes to the loss it has then."""
    half = courses.shape[1] // 2
    target = courses[0, half]
    reached = [np.argmax(one <= target) if np.any(one <= target) else np.inf for one in courses]
    return np.array([half / max(one, 1) for one in reached])


def run_population(job: Job) -> Outcome:
    """GO-EA with other populations and other edit distances, from the same starts on the same images, seed by seed."""
    import xarray

    variants = _variants(job.settings)
    algorithms = {name: go_ea.as_run(sigma, number) for name, (number, sigma) in variants.items()}
    courses = np.empty((len(variants), job["seeds"], job["generations"]))
    loss_fn = None
    for seed in range(job["seeds"]):
        key = jax.random.fold_in(job.key, seed)
        first = 0 if job["images"] == 60_000 else seed * job["images"] % (60_000 - job["images"])
        task = network_task("Base", jax.random.fold_in(key, 0), job["images"], first=first)
        loss_fn = loss_fn or task.loss_fn  # One program for all starts.
        for i, (name, algorithm) in enumerate(algorithms.items()):
            part = f"population {name} seed {seed} " + " ".join(
                f"{one} {job[one]}" for one in ("images", "generations", "sigma", "key")
            )
            own = jax.random.fold_in(jax.random.fold_in(key, 1), i)
            courses[i, seed] = _course(job, part, own, task, algorithm, loss_fn)
            job.progress((seed + (i + 1) / len(variants)) / job["seeds"])
    few, _, many = _populations(job.settings)
    speeds = np.array([_speeds(courses[:, seed]) for seed in range(job["seeds"])])
    decrease = (courses[..., 0] - courses[..., -1]).T
    values = {
        "moderate": speeds[:, 2] / speeds[:, 1],
        "law": speeds[:, 2] / speeds[:, 1] / speed_law(many, few),
        "learns": decrease[:, 0] / courses[0, :, 0],
        "large": decrease[:, 3] / decrease[:, 0],
        "small": decrease[:, 4] / decrease[:, 0],
    }
    root = math.sqrt(job["seeds"])
    found = {_name(what, job.settings): (one.mean(), one.std(ddof=1) / root) for what, one in values.items()}
    data = xarray.Dataset(
        {"loss": (("variant", "seed", "generation"), courses)},
        coords={"variant": list(variants), "generation": np.arange(job["generations"])},
    )
    return Outcome(found, data, draw_population)


def draw_population(data: Any) -> Any:
    """Loss on the training images against the generation: populations, and edit distances."""
    figure, axes = panels(2)
    names = list(data.variant.values)
    for axis, shown in zip(axes, ((1, 0, 2), (3, 0, 4)), strict=True):
        for at in shown:
            one = data.loss.sel(variant=names[at])
            for seed in range(data.sizes["seed"]):
                axis.plot(data.generation, one[seed], color=f"C{at}", alpha=0.3, linewidth=0.8)
            axis.plot(data.generation, one.mean("seed"), color=f"C{at}", linewidth=1.8, label=names[at])
        axis.set(xlabel="generation", ylabel="cross-entropy on the training images [nat]", ylim=(0, None))
        axis.legend(frameon=False, fontsize=8)
    figure.suptitle("thin: seeds; thick: their mean", fontsize=9)
    return figure


_POPULATION = {
    "quick": {
        "images": 100, "generations": 120, "populations": (5, 20, 80), "seeds": 5, "sigma": 0.01, "key": 2303,
    },
    "paper": {
        "images": 60_000, "generations": 764, "populations": (5, 20, 80), "seeds": 5, "sigma": 0.01, "key": 2303,
    },
}  # fmt: skip


def _needs(settings: dict[str, Any]) -> Needs:
    candidates = sum(number + 1 for number, _ in _variants(settings).values())
    return Needs(settings["seeds"] * settings["generations"] * candidates * settings["images"] / 1000, 2e9, 1e6)


CLAIMS = [
    Claim(
        "K23-3",
        "kucharavy2023",
        "Fig. 7",
        "the edit distance of GO-EA carries over, and population has a moderate effect; P: speed grows like c_M, and an edit "
        "distance eight times as large or as small stalls",
        _POPULATION,
        run_population,
        _needs,
        "GO-EA as run on {images} images, {generations} generations, populations {populations}, ED = {sigma}; {seeds} seeds",
        expect_population,
    ),
]
