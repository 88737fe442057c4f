"""The regime that a run was in: one number for the summary, the figures and `mutagrad inspect`."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mutagrad import diagnostics
from mutagrad.lab.training.algorithm import num_shared_layers, one_turn
from mutagrad.lab.training.options import TrainConfig
from mutagrad.types import Algorithm

__all__ = ["groups", "last_third", "last_thirds"]


def groups(config: TrainConfig, number: int) -> dict[str, np.ndarray]:
    """Which of so many generations mutated which layers, by their name; all of them, named "", where none take turns."""
    shared = num_shared_layers(config)
    if not shared:
        return {"": np.ones(number, bool)}
    is_late = np.arange(number) % (config.shared_generations + 1) < config.shared_generations
    # A run may have stopped before a group had its turns.
    both = {"the other layers": is_late, f"the first {shared} layers": ~is_late}
    return {name: kept for name, kept in both.items() if kept.sum() > 1} or {"": np.ones(number, bool)}


def last_third(records: Mapping[str, Any], algorithm: Algorithm | None) -> diagnostics.Regime | None:
    """The regime of the last third of a run, or all of one of fewer than six generations; ``None`` of a single one.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> from mutagrad.lab.training.regime import last_third
    >>> algorithm = mutagrad.elitist(sigma=0.1, num_offspring=20)
    >>> result = mutagrad.evolve(jax.random.key(0), algorithm, jnp.ones(99), lambda x: x @ x, 60, progress=False)
    >>> round(float(last_third(result.history, algorithm).sigma.value), 3)
    0.1
    """
    number = len(records["loss"])
    first = 2 * number // 3 if number >= 6 else 0
    if number < 2:
        return None
    ending = {name: np.asarray(values)[first:] for name, values in records.items()}
    return diagnostics.regime(ending, algorithm=algorithm)


def last_thirds(records: Mapping[str, Any], config: TrainConfig) -> dict[str, diagnostics.Regime]:
    """The regime of the last third, of each group of layers that took turns."""
    found = {}
    for name, kept in groups(config, len(records["loss"])).items():
        one = last_third({key: np.asarray(values)[kept] for key, values in records.items()}, one_turn(config))
        if one is not None:
            found[name] = one
    return found
