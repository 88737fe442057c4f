"""K23-1: the training curve of GO-EA on MNIST (Fig. 2)."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import mutagrad
from mutagrad.lab.claims.checks import Expected, below, near
from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.lab.claims.kucharavy2023.networks import network_task
from mutagrad.lab.tasks.task import Task
from mutagrad.lab.training import go_ea
from mutagrad.lab.training.dropout import shared_dropout
from mutagrad.report.figures import panels

__all__ = ["CLAIMS"]

SOURCE = {50: 16.6, 100: 20.4, 200: 33.1, 300: 41.4, 400: 47.7, 500: 55.0, 600: 57.2, 700: 59.5, 764: 61.5}
"""Accuracy on the training images [%] against the generation, read off Fig. 2 to 0.3 points."""
VARIANTS = {"without dropout": False, "with dropout, shared in a generation": True}


def _name(what: str, generation: int) -> str:
    return {
        "accuracy": f"accuracy on the training images at generation {generation} [%]",
        "dropout": f"accuracy at generation {generation} with dropout, shared, over that without",
    }[what]


def expect_curve(settings: dict[str, Any]) -> list[Expected]:
    """The intervals of K23-1."""
    spread, stated = settings["spread"], []
    for generation, value in SOURCE.items():
        if generation in _measured(settings):
            why = (
                f"Fig. 2, one run, read to 0.3 points; runs of other keys and images lay {spread:g} points apart (deviation), of "
                "which one run has three"
            )
            stated.append(near(_name("accuracy", generation), value, 3 * spread + 0.3, "source", why))
    last = _measured(settings)[-1]
    why = "masks are noise to selection: what they add cannot help in the mean"
    stated.append(below(_name("dropout", last), 1, "theory", why, ours=True))
    return stated


def _measured(settings: dict[str, Any]) -> list[int]:
    return [generation for generation in SOURCE if generation <= settings["generations"]]


@partial(jax.jit, static_argnums=(0, 1))
def _advance(algorithm: mutagrad.Algorithm, loss_fn: Any, key: jax.Array, flat: Any, first: Any, count: Any, data: Any) -> Any:
    """Params after some generations, by the keys of their numbers."""

    def body(index: Any, state: Any) -> Any:
        return algorithm.step(mutagrad.generation_key(key, first + index), state, lambda params: loss_fn(params, data))[0]

    return jax.lax.fori_loop(0, count, body, algorithm.init(flat)).params


def _course(job: Job, task: Task, algorithm: mutagrad.Algorithm, key: jax.Array, name: str) -> np.ndarray:
    """Accuracy on the training images [%] at each recorded generation; what is done is kept."""
    start, unravel = ravel_pytree(task.start)
    data = (jnp.asarray(task.data.train_inputs), jnp.asarray(task.data.train_targets))
    kept = job.load(name) or {"params": np.asarray(start), "accuracy": np.empty(0)}
    params, found = unravel(jnp.asarray(kept["params"], start.dtype)), list(kept["accuracy"])
    records = range(job["every"], job["generations"] + 1, job["every"])
    for position in range(len(found), len(records)):
        first = records[position] - job["every"]
        params = _advance(algorithm, task.loss_fn, key, params, first, job["every"], data)
        found.append(100 * task.measure_fn(params, *map(np.asarray, data)).score)
        job.keep(
            name, {"params": np.asarray(ravel_pytree(params)[0]), "accuracy": np.array(found)}, is_last=len(found) == len(records)
        )
        job.progress(len(found) / len(records))
    return np.array(found)


def run_curve(job: Job) -> Outcome:
    """GO-EA as its authors' code ran it, on so many images, from several starts, without and with dropout."""
    import xarray

    records = np.arange(job["every"], job["generations"] + 1, job["every"])
    courses = np.empty((len(VARIANTS), job["seeds"], len(records)))
    for i, (variant, has_dropout) in enumerate(VARIANTS.items()):
        for seed in range(job["seeds"]):
            key = jax.random.fold_in(job.key, seed)
            # Other images for every start, so that runs differ in all that the source's run could have differed in.
            first = seed * job["images"] % 60_000 if job["images"] < 60_000 else 0
            task = network_task("Base", jax.random.fold_in(key, 0), job["images"], first=first)
            algorithm = go_ea.as_run(job["sigma"], job["num_offspring"])
            algorithm = shared_dropout(algorithm) if has_dropout else algorithm
            if not has_dropout:
                task = task._replace(loss_fn=_plain(task.loss_fn))
            part = job.part((i + seed / job["seeds"]) / len(VARIANTS), 1 / len(VARIANTS) / job["seeds"])
            settings = ("images", "generations", "every", "sigma", "num_offspring", "key")
            name = f"go-ea {variant} seed {seed} " + " ".join(f"{one} {job[one]}" for one in settings)
            courses[i, seed] = _course(part, task, algorithm, jax.random.fold_in(key, 1), name)
    means, errors = courses.mean(1), courses.std(1, ddof=1) / math.sqrt(job["seeds"])
    found = {}
    for generation in _measured(job.settings):
        at = int(np.argmin(np.abs(records - generation)))
        found[_name("accuracy", generation)] = (means[0, at], errors[0, at])
    ratio = means[1, at] / means[0, at]
    found[_name("dropout", generation)] = (ratio, ratio * math.hypot(*(errors[:, at] / means[:, at])))
    data = xarray.Dataset(
        {"accuracy": (("variant", "seed", "generation"), courses)},
        coords={"variant": list(VARIANTS), "generation": records},
    )
    return Outcome(found, data, draw_curve)


def _plain(loss_fn: Any) -> Any:
    """The loss without masks, whatever the network."""
    return lambda params, batch: loss_fn(params, batch)


def draw_curve(data: Any) -> Any:
    """Accuracy against the generation, with the points of the source's run: the layout of Fig. 2."""
    figure, (axis,) = panels(1, width=7)
    for colour, variant in enumerate(data.variant.values):
        one = data.accuracy.sel(variant=variant)
        for seed in range(data.sizes["seed"]):
            axis.plot(data.generation, one[seed], color=f"C{colour}", alpha=0.3, linewidth=0.8)
        axis.plot(data.generation, one.mean("seed"), color=f"C{colour}", linewidth=1.8, label=variant)
    last = float(data.generation[-1])
    points = {generation: value for generation, value in SOURCE.items() if generation <= last * 1.05}
    axis.plot(list(points), list(points.values()), "k.", markersize=7, label="Kucharavy et al., Fig. 2")
    axis.set(xlabel="generation", ylabel="accuracy on the training images [%]", ylim=(0, None))
    axis.legend(frameon=False, fontsize=8)
    return figure
