"""Going on with a run: whether there is anything left to do, what a run is of, and folders that hold nothing yet."""

import hashlib
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mutagrad.lab.tasks.dataset import Dataset
from mutagrad.lab.training.options import TrainConfig
from mutagrad.lab.training.run_folder import is_ended, read_config

__all__ = ["are_others", "device", "examples", "is_blank", "nothing_left", "wanted_generations"]

_DEFAULT_GENERATIONS = 2000
_OF_NO_WORTH = (".writable", ".lock", "config.json.tmp", "manifest.json", "manifest.json.tmp")
"""What a run may leave that ended before its config.json was there."""
_WRITTEN = ("checkpoint", "history.zarr", "params.safetensors", "training.png")


def wanted_generations(config: TrainConfig) -> int | None:
    """After how many generations a run stops; ``None`` where time or a target alone stop it."""
    if config.generations is None and config.seconds is None and config.target is None:
        return _DEFAULT_GENERATIONS
    return config.generations


def is_blank(folder: Path) -> bool:
    """Whether a folder is there and holds nothing of worth: it is empty, or a run ended in it before it had begun."""
    if not folder.is_dir():
        return False
    return all(path.name in _OF_NO_WORTH or (path.is_dir() and not path.is_symlink()) for path in folder.rglob("*"))


def nothing_left(config: TrainConfig) -> str:
    """Why a run has nothing left to do, in a sentence; "" where it has, or where its folder is not whole.

    Parameters
    ----------
    config : of the run to go on with, as `mutagrad.lab.training.train.resumed` has it.
    """
    folder = Path(str(config.out))
    outcome = read_config(folder).get("outcome")
    is_whole = is_ended(folder) and all((folder / name).exists() for name in _WRITTEN)
    if not isinstance(outcome, dict) or not is_whole:
        return ""
    done, wanted = outcome.get("generations"), wanted_generations(config)
    if wanted is not None and isinstance(done, int) and done >= wanted:
        return f"nothing to do: the run in {folder} has its {done:,} generations; pass --generations for more"
    for name, words in (("test_accuracy", "test accuracy"), ("test_r2", "test R²")):
        score = outcome.get(name)
        if config.target is not None and isinstance(score, float) and score >= config.target:
            return f"nothing to do: the run in {folder} has a {words} of {score:.4f}; pass --target for more"
    return ""


def are_others(saved: dict[str, Any], data: Dataset, seen: Dataset) -> bool:
    """Whether a run had other examples.

    Parameters
    ----------
    saved : its config.json. data : the examples as they were loaded. seen : as the network sees them, of which earlier versions
        of this library kept the sum.
    """
    return saved.get("examples") not in (None, examples(data)) and saved["examples"] != examples(seen)


def device() -> str:
    """What JAX computes on."""
    return jax.devices()[0].device_kind


def examples(data: Dataset) -> str:
    """A sum of the training examples as they were loaded, by which others are told from them."""
    digest = hashlib.sha256()
    for values in (data.train_inputs, data.train_targets):
        array = np.ascontiguousarray(values)
        digest.update(f"{array.dtype} {array.shape} ".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
