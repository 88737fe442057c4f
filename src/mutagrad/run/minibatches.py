"""Batches drawn inside the compiled loop, from data that stay on the device."""

import inspect
import itertools
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mutagrad import check, keys
from mutagrad.evaluation.batches import of_batch
from mutagrad.types import Algorithm, UnknownDefinition

__all__ = ["Minibatches", "changes", "check_kept_loss", "constant_loss", "later", "minibatches", "takes_generation"]

PERIOD = 100
"""Where there are several sizes, one of them is chosen for so many generations."""


class Minibatches(NamedTuple):
    """Data and how to draw a batch from them; see `minibatches`."""

    data: Any
    batch_size: int | tuple | None

    def __repr__(self) -> str:
        return (
            f"Minibatches({_number(self.data):,} examples, batches of {', '.join(f'{size:,}' for size in self.sizes)})"
        )

    @property
    def sizes(self) -> tuple[int, ...]:
        """Examples in a batch of each of the sizes that there are."""
        sizes = self.batch_size if isinstance(self.batch_size, tuple) else (self.batch_size,)
        return tuple(_number(self.data) if size is None else size for size in sizes)

    def draw(self, key: jax.Array, data: Any, level: int = 0) -> Any:
        """A batch of ``data`` (passed in, so that a compiled loop does not hold them as a constant), of one of the sizes."""
        size = self.batch_size[level] if isinstance(self.batch_size, tuple) else self.batch_size
        if size is None:
            return data
        rows = jax.random.randint(keys.fast(key), (size,), 0, _number(data))
        return jax.tree.map(lambda leaf: jnp.take(leaf, rows, axis=0, mode="clip"), data)


def _number(data: Any) -> int:
    return jax.tree.leaves(data)[0].shape[0]


def changes(batches: Any) -> bool:
    """Whether generations of a run meet other batches than those before."""
    return batches is not None and not (isinstance(batches, Minibatches) and batches.batch_size is None)


def check_kept_loss(algorithm: Algorithm, batches: Any) -> bool:
    """Whether an algorithm keeps the loss of its parent; a ValueError if it does and the batches change."""
    definition = algorithm.definition
    if isinstance(definition, UnknownDefinition) or definition.reevaluate_parent:
        return False
    if changes(batches):
        raise ValueError(
            "reevaluate_parent: got False with batches that change, so the parent's kept loss would be of another batch; "
            "build the algorithm with reevaluate_parent=True, or use minibatches(data, None)"
        )
    return True


def constant_loss(loss_fn: Callable, batches: Any) -> Callable:
    """The loss where batches do not change, as a function of params alone."""
    return loss_fn if batches is None else of_batch(loss_fn, batches.data)


def later(batches: Any, completed: int) -> Any:
    """An iterable of batches as it stands after so many generations."""
    if batches is None or isinstance(batches, Minibatches) or callable(batches) or completed == 0:
        return batches
    iterator = iter(batches)
    if iterator is batches:
        raise ValueError(
            f"batches: got an iterator for a run that goes on after {completed} generations, and where it stands is not known; "
            "pass an iterable that starts anew, such as a list, which is skipped forward"
        )
    return islice(iterator, completed, None)


def takes_generation(batches: Callable) -> bool:
    """Whether a function of batches asks for the generation too: it takes two arguments, and not one."""
    try:
        signature = inspect.signature(batches)
        signature.bind(None, None)
    except (TypeError, ValueError):
        return False
    try:
        signature.bind(None)
    except TypeError:
        return True
    return False


def minibatches(data: Any, batch_size: int | Sequence[int | None] | None = None) -> Minibatches:
    """Uniform batches from data on the device, a fresh one each generation, shared by parent and offspring.

    Examples are drawn with replacement, so that the gradient of a batch has covariance C/B exactly (theory.md 8).

    Parameters
    ----------
    data : pytree of arrays that share their first axis, the examples.
    batch_size : B ≥ 1, or ``None`` for all the data each generation; or several in increasing order, ``None`` last if at
        all, among which `mutagrad.adapt_batch_size` chooses.

    Returns
    -------
    Minibatches, for the ``batches`` argument of `mutagrad.evolve`.

    Raises
    ------
    ValueError : if a batch size is below 1, several are not in increasing order, or the arrays are empty or differ in
        their number of examples.

    >>> import jax.numpy as jnp, mutagrad
    >>> mutagrad.minibatches((jnp.zeros((10, 3)), jnp.zeros(10)), batch_size=4).batch_size
    4
    """
    data = jax.tree.map(jnp.asarray, data)
    counts = {leaf.shape[0] if leaf.ndim else 0 for leaf in jax.tree.leaves(data)}
    if len(counts) != 1 or counts == {0}:
        raise ValueError(
            f"data: got arrays of {sorted(counts)} examples; pass arrays with one common, positive number of examples"
        )
    if isinstance(batch_size, Sequence):
        several = tuple(size if size is None else check.count("batch_size", size) for size in batch_size)
        found = Minibatches(data, several)
        if len(several) < 2 or any(a >= b for a, b in itertools.pairwise(found.sizes)):
            raise ValueError(
                f"batch_size: got {tuple(batch_size)} for {_number(data)} examples; pass two sizes or more in increasing "
                "order (None is all the examples)"
            )
        return found
    if batch_size is not None:
        batch_size = check.count("batch_size", batch_size)
    return Minibatches(data, batch_size)
