"""The archetypes of [K23], and three more that tell width, dropout and small batches apart, trained with two digits hidden.

The archetypes of [K23] differ in width, in dropout and in the size of batches all at once. Here all four networks of two widths,
with and without dropout, learn by batches of 4, and those without dropout by batches of 128 too. Figures 3, 8 to 14 and 15 of
[K23] are of the same networks: without corruption they have the accuracies of Fig. 3 and, before transfer, of Fig. 15, all below
the 80.17 % of test images that show none of the digits 8 and 9.
"""

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from mutagrad.lab.claims.claims import Job
from mutagrad.lab.claims.kucharavy2023.networks import ARCHETYPES, Archetype
from mutagrad.lab.tasks.convnet import ConvNet
from mutagrad.lab.tasks.data import load
from mutagrad.lab.tasks.dataset import Dataset
from mutagrad.lab.tasks.task import Task, make_task
from mutagrad.lab.training.sgd import sgd

__all__ = ["HIDDEN", "SIX", "SOURCES", "Network", "labels", "of_structure", "over_seeds", "revealed", "trainings"]

HIDDEN = (8, 9)
"""Digits that are hidden from the loss before transfer."""
SIX = {
    "Robust Wide": ARCHETYPES["Robust Wide"],
    "Plain Wide": ARCHETYPES["Plain Wide"],
    "Brittle Wide": ARCHETYPES["Brittle Wide"],
    "Robust Narrow": Archetype(0.25, 0.1, 4, 12, 4),
    "Plain Narrow": Archetype(0.0, 0.0, 4, 12, 4),
    "Brittle Narrow": ARCHETYPES["Brittle Narrow"],
}
"""Robust: with dropout, batches of 4. Plain: without, batches of 4. Brittle: without, batches of 128."""
SOURCES = ("Robust Wide", "Brittle Wide", "Brittle Narrow")
"""Those of [K23]."""
LEARNED = 0.2
"""Test accuracy of a network that has learned something: twice that of a guess."""


class Network(NamedTuple):
    """A network that was trained with two digits hidden.

    Attributes
    ----------
    name : of `SIX`. seed : number of its training; those of one seed learn and are tested on the same images.
    key : of what is measured on it.
    task : with the images of its seed and their true labels. Its loss is 0 for an image whose label is negative.
    half, whole : params after half of the epochs and after all.
    """

    name: str
    seed: int
    key: jax.Array
    task: Task
    half: Any
    whole: Any

    @property
    def archetype(self) -> Archetype:
        """What it is."""
        return SIX[self.name]


def hide(targets: np.ndarray) -> np.ndarray:
    """Labels with −1 for the hidden digits: their images are in the batch, and count for nothing in its mean."""
    return np.where(np.isin(targets, HIDDEN), -1, targets).astype(targets.dtype)


def of_structure(archetype: Archetype, params: Any, is_normalized: bool = True, rate: float | None = None) -> Any:
    """A network with these params: as it is evaluated, without spectral norms, or with one rate of dropout at every site.

    Parameters
    ----------
    params : of any network as wide.
    is_normalized : whether weights are divided by their spectral norms when it is called.
    rate : of dropout of inputs and of features, for calls with a key; none unless given.
    """
    found = _structure(archetype.num_maps, archetype.num_linear, is_normalized, rate or 0.0)
    return jax.tree.unflatten(found, jax.tree.leaves(params))


@lru_cache(maxsize=64)
def _structure(num_maps: int, num_linear: int, is_normalized: bool, rate: float) -> Any:
    archetype = Archetype(rate, rate, num_maps, num_linear, 1)
    return jax.tree.structure(eqx.filter(_network(archetype, jax.random.key(0), is_normalized), eqx.is_array))


def _network(archetype: Archetype, key: jax.Array, is_normalized: bool = True) -> ConvNet:
    return ConvNet(
        key, num_maps=archetype.num_maps, num_linear=archetype.num_linear, dropout=archetype.dropout,
        input_dropout=archetype.input_dropout, spectral_normalization=is_normalized,
    )  # fmt: skip


@lru_cache(maxsize=1)
def _mnist() -> Dataset:
    return load("mnist")


@lru_cache(maxsize=16)
def _task(archetype: Archetype) -> Task:
    """One task for all seeds, so that each program is compiled once."""
    task = make_task(_mnist(), _network(archetype, jax.random.key(0)))

    def loss_fn(params: Any, batch: tuple) -> jax.Array:
        inputs, targets = batch
        losses = task.loss_fn(params, (inputs, jnp.maximum(targets, 0)))
        return jnp.where(targets >= 0, losses, 0.0)

    return task._replace(loss_fn=loss_fn)


def _images(settings: dict[str, Any], seed: int) -> Dataset:
    """Images of a seed: other ones for each seed as long as there are enough, for training and for the test."""
    data, cut = _mnist(), []
    for number, there in ((settings["images"], 60_000), (settings["test_images"], 10_000)):
        first = seed * number % (there - number) if number < there else 0
        cut.append(slice(first, first + number))
    return data._replace(
        train_inputs=data.train_inputs[cut[0]], train_targets=data.train_targets[cut[0]],
        test_inputs=data.test_inputs[cut[1]], test_targets=data.test_targets[cut[1]],
    )  # fmt: skip


def trainings(job: Job, share: float = 1.0) -> Iterator[dict[str, Network]]:
    """Networks of the settings' archetypes by name, seed by seed; what was trained is kept.

    A seed of which one network has learned nothing is left out, and the next takes its place: in the source all have learned.
    That is told by the accuracy alone, before anything else is measured. They take a share of the job's progress.

    Raises
    ------
    RuntimeError : if more seeds are left out than are asked for.
    """
    # Narrow ones first: they are cheap, and the ones that may learn nothing.
    names, done = sorted(job["archetypes"], key=lambda name: SIX[name].num_maps), 0
    for seed in range(2 * job["seeds"]):
        data, found = _images(job.settings, seed), {}
        for name in names:
            one = _trained(job, name, seed, data)
            score = one.task.measure_fn(one.whole, data.test_inputs, data.test_targets)
            if score.score < LEARNED:
                break
            found[name] = one
            job.progress(share * (done + len(found) / len(names)) / job["seeds"])
        if len(found) == len(names):
            done += 1
            yield found
        if done == job["seeds"]:
            return
    raise RuntimeError(
        f"seeds: got {done} of {job['seeds']} whose networks learn, of twice as many; pass a longer training"
    )


def _trained(job: Job, name: str, seed: int, data: Dataset) -> Network:
    archetype, key = SIX[name], jax.random.fold_in(job.key, seed)
    start = eqx.filter(_network(archetype, jax.random.fold_in(key, 0)), eqx.is_array)
    task = _task(archetype)._replace(data=data, start=start)
    said = " ".join(f"{setting} {job[setting]}" for setting in ("key", "images", "epochs", "learning_rate"))
    kept = job.load(f"archetype {name} seed {seed} {said}")
    unravel = ravel_pytree(start)[1]
    if kept is None:
        hidden = task._replace(data=data._replace(train_targets=hide(data.train_targets)))
        # Two halves, with keys of their own, so that the network of half the epochs is on the way to the other.
        halves, params, halfway = [], start, job["epochs"] // 2
        for half, epochs in enumerate((halfway, job["epochs"] - halfway)):
            params = _sgd(job, jax.random.fold_in(key, 1 + half), archetype, hidden, params, epochs).params
            halves.append(np.asarray(ravel_pytree(params)[0]))
        kept = {"params": np.stack(halves)}
        job.keep(f"archetype {name} seed {seed} {said}", kept, is_last=True)
    half, whole = (unravel(jnp.asarray(one)) for one in kept["params"])
    return Network(name, seed, jax.random.fold_in(key, 4), task, half, whole)


def _sgd(job: Job, key: jax.Array, archetype: Archetype, task: Task, params: Any, epochs: int) -> Any:
    options = {"batch_size": archetype.batch_size, "learning_rate": job["learning_rate"], "loss_fn": task.loss_fn}
    return sgd(key, task, params, num_epochs=epochs, **options)


def revealed(job: Job, network: Network) -> np.ndarray:
    """Test accuracies from the end of training on, after each epoch with all digits revealed: (transfer_epochs + 1,)."""
    key = jax.random.fold_in(jax.random.fold_in(job.key, network.seed), 3)
    found = _sgd(job, key, network.archetype, network.task, network.whole, job["transfer_epochs"])
    return np.array([one.score for one in found.test])


def labels(network: Network) -> np.ndarray:
    """The digits that it sees in its test images, (test_images,)."""
    whole = of_structure(network.archetype, network.whole)
    return np.asarray(_labels(whole, jnp.asarray(network.task.data.test_inputs)))


@jax.jit
def _labels(network: Any, images: jax.Array) -> jax.Array:
    return jnp.argmax(network(images), axis=1)


def over_seeds(values: Any) -> tuple[float, float]:
    """Mean over seeds, and its standard error."""
    values = np.asarray(values, np.float64)
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))
