"""The ConvNet of [K23] on MNIST: its archetypes, as tasks of any number of images, and trainings that are kept."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from mutagrad.lab.claims.claims import Job
from mutagrad.lab.tasks.convnet import ConvNet
from mutagrad.lab.tasks.data import load
from mutagrad.lab.tasks.task import Task, make_task
from mutagrad.lab.training.sgd import sgd

__all__ = ["ARCHETYPES", "Archetype", "network_task", "trained_by_sgd"]


class Archetype(NamedTuple):
    """A network of [K23] and how it is trained.

    Attributes
    ----------
    dropout, input_dropout : DO and DI. num_maps, num_linear : LM and LW. batch_size : of SGD.
    """

    dropout: float
    input_dropout: float
    num_maps: int
    num_linear: int
    batch_size: int


ARCHETYPES = {
    "Base": Archetype(0.1, 0.1, 8, 24, 32),
    "Robust Wide": Archetype(0.25, 0.1, 16, 48, 4),
    "Brittle Narrow": Archetype(0.0, 0.0, 4, 12, 128),
    "Brittle Wide": Archetype(0.0, 0.0, 16, 48, 128),
    # Ours: as wide, and by batches as small, as the robust one, without its dropout.
    "Plain Wide": Archetype(0.0, 0.0, 16, 48, 4),
}


def network_task(name: str, key: jax.Array, images: int, test_images: int = 10_000, first: int = 0) -> Task:
    """The task of an archetype on so many of the training images, from the first of them on.

    Parameters
    ----------
    name : of `ARCHETYPES`. key : of the initial weights. images, test_images : how many, up to 60,000 and 10,000.

    Raises
    ------
    ValueError : where MNIST is not found; it says where it was looked for.
    """
    one, data = ARCHETYPES[name], load("mnist")
    some, few = slice(first, first + images), slice(test_images)
    data = data._replace(
        train_inputs=data.train_inputs[some], train_targets=data.train_targets[some],
        test_inputs=data.test_inputs[few], test_targets=data.test_targets[few],
    )  # fmt: skip
    model = ConvNet(
        key, num_maps=one.num_maps, num_linear=one.num_linear, input_dropout=one.input_dropout, dropout=one.dropout,
        spectral_normalization=True,
    )  # fmt: skip
    return make_task(data, model)


def trained_by_sgd(
    job: Job, name: str, archetype: str, key: jax.Array, task: Task, **options: Any
) -> tuple[Any, np.ndarray]:
    """Params and test accuracies after each epoch of SGD as in [K23]; kept under a name, which says all that they depend on.

    Parameters
    ----------
    options : of `mutagrad.lab.training.sgd.sgd`.
    """
    flat, unravel = ravel_pytree(task.start)
    said = {option: getattr(value, "__name__", value) for option, value in sorted(options.items())}
    part = f"sgd {archetype} {name} {said}"
    kept = job.load(part)
    if kept is None or kept["params"].shape != flat.shape:
        found = sgd(key, task, batch_size=ARCHETYPES[archetype].batch_size, **options)
        kept = {
            "params": np.asarray(ravel_pytree(found.params)[0]),
            "scores": np.array([one.score for one in found.test]),
        }
        job.keep(part, kept, is_last=True)
    return unravel(jnp.asarray(kept["params"], flat.dtype)), kept["scores"]
