"""What looks at a run while it goes on. An observer is a function of a chunk; what it returns, if anything, stops the run."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from mutagrad import check, tree
from mutagrad.run.loop import Chunk
from mutagrad.run.records import FAILED

__all__ = [
    "History",
    "Observer",
    "Progress",
    "checked_observers",
    "reason_to_stop",
    "stop_after",
    "stop_at_loss",
    "stop_on_failures",
    "stop_on_plateau",
]

Observer = Callable[[Chunk], str | None]
"""``observer(chunk) -> None``, or why to stop, in words. A method ``close()``, if there is one, is called at the end."""


def checked_observers(observers: Any) -> list[Observer]:
    """The observers as a list; refused if they are none."""
    # A generator would be used up by the check.
    found: list[Any] = list(observers) if hasattr(observers, "__iter__") else [None]
    if not all(callable(observer) for observer in found):
        raise ValueError(
            "observers: got something else than a list of functions of a chunk; pass such as [mutagrad.stop_after(60)]"
        )
    return found


def reason_to_stop(observers: Sequence[Observer], chunk: Chunk) -> str:
    """Show a chunk to all; what the first says that stops the run, "" if none does."""
    reasons = [reason for observer in observers if (reason := observer(chunk)) is not None]
    if not all(isinstance(reason, str) for reason in reasons):
        raise ValueError(f"observers: got {reasons!r} back; return a text, which stops the run, or None")
    return reasons[0] if reasons else ""


class History:
    """Keeps what was recorded, in buffers that grow: ``history.records`` has a first axis of generations."""

    def __init__(self, records: Any = None):
        self._buffers = records
        self._number = max((len(leaf) for leaf in jax.tree.leaves(records)), default=0)

    def __call__(self, chunk: Chunk) -> None:
        """Append the records of a chunk."""
        if self._buffers is None:
            self._buffers = chunk.records
        else:
            past = tree.from_names(self._buffers, chunk.records)
            self._buffers = jax.tree.map(self._appended, past, chunk.records)
        self._number += chunk.num_generations

    def _appended(self, buffer: np.ndarray, rows: np.ndarray) -> np.ndarray:
        number = self._number + len(rows)
        if number > len(buffer):
            larger = np.empty((max(number, 2 * len(buffer)), *buffer.shape[1:]), np.result_type(buffer, rows))
            larger[: self._number] = buffer[: self._number]
            buffer = larger
        buffer[self._number : number] = rows
        return buffer

    @property
    def records(self) -> Any:
        """Everything so far; ``None`` before the first chunk."""
        return None if self._buffers is None else jax.tree.map(lambda buffer: buffer[: self._number], self._buffers)


class Progress:
    """A progress bar with loss, σ and s, as far as they are recorded; it shows itself after two seconds."""

    def __init__(self, total: int | None, initial: int = 0):
        self._bar = tqdm(total=total, initial=initial, delay=2.0, unit="gen", dynamic_ncols=True)

    def __call__(self, chunk: Chunk) -> None:
        """Go on by a chunk."""
        self._bar.set_postfix(self.shown(chunk), refresh=False)
        self._bar.update(chunk.num_generations)

    def shown(self, chunk: Chunk) -> dict[str, str]:
        """What stands behind the bar."""
        names = {"loss": "loss", "sigma": "σ", "normalized_mutation_strength": "s"}
        records = chunk.records if isinstance(chunk.records, dict) else {}
        last = {short: np.asarray(records[name])[-1] for name, short in names.items() if name in records}
        return {short: f"{float(value):.3g}" for short, value in last.items() if np.ndim(value) == 0}

    def close(self) -> None:
        """End the bar."""
        self._bar.close()


def stop_at_loss(loss: float) -> Observer:
    """Stop when the parent's loss is no higher than ``loss``; of a loss on batches, the mean over a chunk.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> algorithm = mutagrad.adapt_sigma(mutagrad.elitist(sigma=0.1, num_offspring=8))
    >>> run = mutagrad.evolve(
    ...     jax.random.key(0), algorithm, jnp.ones(9), lambda x: jnp.sum(x**2), observers=[mutagrad.stop_at_loss(0.1)],
    ...     progress=False,
    ... )
    >>> run.stopped
    'loss 0.1'
    """

    def observe(chunk: Chunk) -> str | None:
        mean = float(np.mean(np.asarray(_column(chunk, "stop_at_loss"))))
        return f"loss {loss:g}" if mean <= loss else None

    return observe


def stop_on_plateau(num_generations: int, decrease: float = 0.01) -> Observer:
    """Stop when the mean loss of so many generations is not lower than before by a share ``decrease``.

    The means are of the losses that are finite.

    Parameters
    ----------
    num_generations : of each of the two spans that are compared.
    decrease : share of the earlier loss, between 0 and 1.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> run = mutagrad.evolve(
    ...     jax.random.key(0), mutagrad.elitist(sigma=0.3, num_offspring=8), jnp.ones(9), lambda x: jnp.sum(x**2), 50_000,
    ...     observers=[mutagrad.stop_on_plateau(50)], progress=False,
    ... )
    >>> run.stopped
    'a plateau of 50 generations'
    """
    number = check.count("num_generations", num_generations)
    losses: list[np.ndarray] = []

    def observe(chunk: Chunk) -> str | None:
        losses.append(np.asarray(_column(chunk, "stop_on_plateau"), np.float64))
        both = np.concatenate(losses)[-2 * number :]
        losses[:] = [both]
        if len(both) < 2 * number:
            return None
        before, now = _finite_mean(both[:number]), _finite_mean(both[number:])
        is_lower = now < before - decrease * abs(before) if math.isfinite(before) else math.isfinite(now)
        return None if is_lower else f"a plateau of {number} generations"

    return observe


def stop_after(seconds: float) -> Observer:
    """Stop at the first chunk that ends later than ``seconds`` after this call.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> run = mutagrad.evolve(
    ...     jax.random.key(0), mutagrad.elitist(sigma=0.3, num_offspring=8), jnp.ones(9), lambda x: jnp.sum(x**2), 10**8,
    ...     observers=[mutagrad.stop_after(1.0)], progress=False,
    ... )
    >>> run.stopped
    '1 seconds'
    """
    check.positive("seconds", seconds)
    start = time.monotonic()
    return lambda chunk: f"{seconds:g} seconds" if time.monotonic() - start > seconds else None


def stop_on_failures(num_generations: int = 100) -> Observer:
    """Stop when for so many generations on end no offspring had a finite loss: nothing can be selected then.

    `mutagrad train` does so by itself.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> loss_fn = lambda x: jnp.where(jnp.all(x == 1), 1.0, jnp.nan)  # finite at the start alone
    >>> run = mutagrad.evolve(
    ...     jax.random.key(0), mutagrad.elitist(sigma=0.1, num_offspring=8), jnp.ones(3), loss_fn, 100_000,
    ...     observers=[mutagrad.stop_on_failures(20)], progress=False,
    ... )
    >>> run.stopped
    'no offspring had a finite loss for 20 generations; try a smaller σ, and look at what the loss does beside the parent'
    """
    number = check.count("num_generations", num_generations)
    failed = 0

    def observe(chunk: Chunk) -> str | None:
        nonlocal failed
        if not isinstance(chunk.records, dict) or "best_loss" not in chunk.records:
            raise ValueError(
                "record: got records without 'best_loss', which stop_on_failures reads; record what mutagrad.default_record does"
            )
        has_any = np.isfinite(np.asarray(chunk.records["best_loss"]))
        # How many failed on end before, between and after those that did not.
        spans = np.diff(np.flatnonzero(np.r_[True, has_any, True])) - 1
        spans[0] += failed
        failed = int(spans[-1])
        if spans.max() < number:
            return None
        kinds = {words: int(np.sum(chunk.records.get(name, 0))) for name, words in FAILED.items()}
        told = ", ".join(f"{total:,} {words}" for words, total in kinds.items() if total)
        seen = f" (of the last evaluations {told})" if told else ""
        return (
            f"no offspring had a finite loss for {number} generations{seen}; try a smaller σ, and look at what the loss does "
            "beside the parent"
        )

    return observe


def _finite_mean(losses: np.ndarray) -> float:
    finite = losses[np.isfinite(losses)]
    return float(finite.mean()) if len(finite) else math.inf


def _column(chunk: Chunk, who: str) -> Any:
    if not isinstance(chunk.records, dict) or "loss" not in chunk.records:
        raise ValueError(
            f"record: got records without 'loss', which {who} reads; record what mutagrad.default_record does"
        )
    column = chunk.records["loss"]
    return np.where(np.isfinite(column), column, math.inf)
