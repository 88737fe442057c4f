"""Records of a generation as rows of 32-bit words: one write to memory in place of one for each scalar."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["Rows"]

_WORDS = ("bool", "float32", "int32", "uint32")


@partial(jax.tree_util.register_dataclass, data_fields=("words", "others"), meta_fields=("structure", "dtypes"))
@dataclasses.dataclass(frozen=True)
class Rows:
    """A record, or many along a first axis: scalars of 32 bits as one row of words, and the other leaves.

    Attributes
    ----------
    words : (scalars,) uint32.
    others : the other leaves, in their order.
    structure : of the record.
    dtypes : of each leaf that is a word; ``None`` for the others.
    """

    words: jax.Array
    others: list[Any]
    structure: Any
    dtypes: tuple[str | None, ...]

    @classmethod
    def of(cls, record: Any) -> "Rows":
        """The record of one generation."""
        leaves, structure = jax.tree.flatten(record)
        leaves = [jnp.asarray(leaf) for leaf in leaves]
        dtypes = tuple(str(leaf.dtype) if leaf.shape == () and str(leaf.dtype) in _WORDS else None for leaf in leaves)
        words, others = [], []
        for leaf, dtype in zip(leaves, dtypes, strict=True):
            if dtype is None:
                others.append(leaf)
            else:
                leaf = leaf.astype(np.uint32) if dtype == "bool" else leaf
                words.append(jax.lax.bitcast_convert_type(leaf, np.uint32))
        return cls(jnp.stack(words) if words else jnp.zeros(0, np.uint32), others, structure, dtypes)

    def first(self, number: int) -> Any:
        """The first of many records, stacked along a first axis, as NumPy arrays in the structure of the record."""
        # Cut in NumPy: JAX would compile a slice for every length of chunk.
        columns = iter(np.asarray(self.words)[:number].T)
        others = iter(self.others)

        def leaf(dtype: str | None) -> np.ndarray:
            if dtype is None:
                return np.array(np.asarray(next(others))[:number])
            column = next(columns).copy()
            return column.astype(bool) if dtype == "bool" else column.view(dtype)

        return jax.tree.unflatten(self.structure, [leaf(dtype) for dtype in self.dtypes])
