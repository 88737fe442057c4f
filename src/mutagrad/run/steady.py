"""A steady state: one mutant is judged when its evaluation ends, against the parent of that moment.

Mutants that are evaluated at the same time descend from parents of different age. So many births as a generation has offspring
share a key, a σ and a row of the history; when the last of them has been judged, σ is set by what they all showed beside the
parents that they were born from. That is what a generation shows, whatever was accepted meanwhile. See theory.md 2.6.
"""

from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mutagrad.failures import COUNTS
from mutagrad.run import journal
from mutagrad.run.chunks import ByIdentity, keys_of
from mutagrad.run.loop import default_record
from mutagrad.types import Algorithm

__all__ = ["KINDS", "Course", "KeptArrivals"]

KINDS = ("", "exception", "timeout", "worker", "shape")
"""Of failures, as the journal numbers them."""
_DTYPES = {
    "born": np.int64,
    "index": np.int64,
    "loss": np.float64,
    "kind": np.uint8,
    "retries": np.int64,
    "is_kept": np.uint8,
}


class _Born(NamedTuple):
    """A mutant that is being evaluated."""

    mutant: Any
    loss: float
    age: int
    generation: int
    place: int


class _Generation:
    """Births that share a key and a σ: what those that have been judged show."""

    def __init__(self, key: jax.Array, sigma: jax.Array, number: int):
        self.key, self.sigma, self.left = key, sigma, number
        self.differences, self.best = np.full(number, np.nan), np.inf
        self.accepted, self.staleness = 0, 0
        self.counts: Counter[str] = Counter()


class Course:
    """Births, what becomes of them, and the state of the run. It evaluates nothing, so that what is kept can be lived again.

    Parameters
    ----------
    key : of the sitting. algorithm, state : as of `mutagrad.evolve`.
    """

    def __init__(self, key: jax.Array, algorithm: Algorithm, state: Any):
        self._key = key
        definition: Any = algorithm.definition
        self._number = definition.num_offspring
        # A controller remembers what it saw; a schedule, and a fixed σ, do not.
        self._is_adapted = hasattr(state, "memory")
        self._mutant, self._tell = _programs(ByIdentity((algorithm,)))
        self.state, self.loss, self._row_loss = state, np.nan, np.nan
        self.num_born, self.num_judged = 0, 0
        self._under_way: dict[int, _Born] = {}
        self._generations: dict[int, _Generation] = {}

    @property
    def under_way(self) -> list[int]:
        """Births that have not been judged, in their order."""
        return sorted(self._under_way)

    def begin(self, loss: float) -> None:
        """The parent's loss is known."""
        self.loss = self._row_loss = loss

    def mutant(self, birth: int) -> Any:
        """The mutant of a birth, as NumPy arrays: of the parent of now, where it is the next birth."""
        if birth == self.num_born:
            self._bear()
        return self._under_way[birth].mutant

    def _bear(self) -> None:
        generation, place = divmod(self.num_born, self._number)
        if generation not in self._generations:
            key = _key_of(self._key, generation)
            self._generations[generation] = _Generation(key, self.state.sigma, self._number)
        own = self._generations[generation]
        mutant = jax.tree.map(np.asarray, self._mutant(own.key, self.state, own.sigma, place))
        self._under_way[self.num_born] = _Born(mutant, self.loss, self.num_judged, generation, place)
        self.num_born += 1

    def judged(self, birth: int, loss: float, kind: str = "", retries: int = 0) -> dict[str, np.ndarray] | None:
        """Take or leave the mutant of a birth; the row of the history of its generation, where it was the last of it.

        Parameters
        ----------
        loss : NaN if it failed. kind : of the failure. retries : how often it was tried again.
        """
        one = self._under_way.pop(birth)
        own = self._generations[one.generation]
        own.differences[one.place] = loss - one.loss
        own.best = min(own.best, loss) if np.isfinite(loss) else own.best
        own.staleness += self.num_judged - one.age
        own.counts.update({kind: 1} if kind else {}, retry=retries)
        # σ grows on a plateau, and a parent that followed would be lost, as under `mutagrad.adapt_sigma`.
        is_flat = self._is_adapted and loss == one.loss == self.loss
        if loss <= self.loss and not is_flat:
            self.state, self.loss = self.state.with_params(jax.tree.map(jnp.asarray, one.mutant)), loss
            own.accepted += 1
        self.num_judged += 1
        own.left -= 1
        return self._ended(self._generations.pop(one.generation)) if own.left == 0 else None

    def _ended(self, own: _Generation) -> dict[str, np.ndarray]:
        parent, before = self.state.params, self.state.with_sigma(own.sigma)
        with np.errstate(over="ignore"):
            differences = own.differences.astype(jnp.result_type(float))
        state, row = self._tell(own.key, before, jnp.asarray(differences))
        # What falls has been told of a σ that may have fallen meanwhile; what rises has been told where to.
        if self._is_adapted and state.sigma < own.sigma:
            state = state.with_sigma(jnp.minimum(state.sigma, state.sigma * self.state.sigma / own.sigma))
        self.state = state.with_params(parent)
        changed, self._row_loss = self.loss - self._row_loss, self.loss
        dtype = row["loss"].dtype
        losses = {"loss": self.loss, "loss_change": changed, "best_loss": own.best}
        with np.errstate(over="ignore"):
            seen = {name: np.asarray(value).astype(dtype) for name, value in losses.items()}
        own_columns = {
            "is_accepted": np.asarray(own.accepted > 0),
            "num_accepted": np.asarray(own.accepted, np.int32),
            "staleness": np.asarray(own.staleness / self._number, np.float32),
        }
        counts = {name: np.asarray(own.counts[kind], np.int32) for kind, name in COUNTS.items()}
        return {name: np.asarray(value) for name, value in row.items()} | seen | own_columns | counts


@jax.jit
def _key_of(key: jax.Array, generation: Any) -> jax.Array:
    return keys_of(key, generation)[0]


@lru_cache(maxsize=8)
def _programs(arguments: ByIdentity) -> tuple[Callable, Callable]:
    """One that makes a mutant, and one that tells what a generation has shown."""
    (algorithm,) = arguments.objects

    @jax.jit
    def mutant(key: jax.Array, state: Any, sigma: jax.Array, place: Any) -> Any:
        offspring = algorithm.ask(key, state.with_sigma(sigma), is_resampled=False)
        return offspring[offspring.num_before + place]

    @jax.jit
    def tell(key: jax.Array, state: Any, differences: jax.Array) -> tuple[Any, dict[str, jax.Array]]:
        before = jnp.zeros(algorithm.ask(key, state, is_resampled=False).num_before, differences.dtype)
        state, info = algorithm.tell(key, state, jnp.concatenate([before, differences]), is_resampled=False)
        return state, {name: jnp.asarray(value) for name, value in default_record(state, info).items()}

    return mutant, tell


class KeptArrivals:
    """Evaluations on the disk, in the order in which they ended: births before, index, loss, kind of failure, tries."""

    def __init__(self, path: Path, of: dict[str, str]):
        columns = {name: np.zeros(1, dtype) for name, dtype in _DTYPES.items()}
        try:
            self._journal = journal.Journal(path, columns, {"of": of}, sync_seconds=0.1)
        except ValueError:
            raise ValueError(
                f"checkpoint: got {str(path.parent)!r}, whose run is damaged at its head, or began otherwise (key, algorithm, σ, "
                "params, loss); pass what it began with, which is not its Result, or another folder"
            ) from None
        found = self._journal.read().columns
        # Rows that were lost are zeros; what followed them has become of parents that are not known.
        self._number = int(np.argmin(np.append(found["is_kept"], 0)))
        names = list(_DTYPES)[:-1]
        self.rows = list(zip(*(found[name][: self._number].tolist() for name in names), strict=True))

    def add(self, born: int, index: int, loss: float, kind: str, retries: int) -> None:
        """Keep one more."""
        values = born, index, loss, KINDS.index(kind), retries, 1
        row = {name: np.asarray([value], dtype) for (name, dtype), value in zip(_DTYPES.items(), values, strict=True)}
        self._journal.append(self._number, row)
        self._number += 1

    def __enter__(self) -> "KeptArrivals":
        return self

    def __exit__(self, *_: object) -> None:
        self._journal.close()
