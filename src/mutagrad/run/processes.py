"""Several processes that run the same program: what depends on the clock of one is decided once for all."""

import jax
import numpy as np

__all__ = ["agreed_number", "agreed_text"]

_LONGEST = 200
"""Bytes of a text that is sent."""


def agreed_number(number: int) -> int:
    """The number of process 0."""
    if jax.process_count() == 1:
        return number
    from jax.experimental import multihost_utils

    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


def agreed_text(text: str) -> str:
    """The first text that is not empty, in the order of the processes."""
    if jax.process_count() == 1:
        return text
    from jax.experimental import multihost_utils

    own = np.zeros(_LONGEST, np.uint8)
    encoded = text.encode()[:_LONGEST]
    own[: len(encoded)] = np.frombuffer(encoded, np.uint8)
    texts = [
        bytes(row).rstrip(b"\0").decode(errors="ignore") for row in np.asarray(multihost_utils.process_allgather(own))
    ]
    return next((one for one in texts if one), "")
