"""One evaluation of an ordinary Python loss, and the process that evaluates for another. A worker imports this, and no JAX."""

import pickle
import signal
from collections.abc import Callable
from typing import Any

import numpy as np

from mutagrad.failures import Failure

__all__ = ["call", "serve"]


def call(loss_fn: Callable, rank: int, params: Any) -> "np.ndarray | Failure":
    """What a loss returns, as an array of that rank at most, or why it is none."""
    try:
        found = loss_fn(params)
        if found is None:
            return Failure("nothing: it returned None")
        array = np.asarray(found)
    except Exception as error:
        first = str(error).strip().splitlines()[:1]
        return Failure(f"{type(error).__name__}: {first[0][:200] if first else ''}")
    # Of other kinds are bfloat16 and its like, which have names of their own.
    if array.dtype.kind not in "biuf" and not array.dtype.name.startswith(("bfloat", "float")):
        what = f"a {type(found).__name__}" if array.dtype.kind == "O" else array.dtype
        return Failure(f"got {what} back", "shape")
    if array.ndim > rank or not array.size:
        return Failure(f"got shape {array.shape} back", "shape")
    return array


def serve(pipe: Any) -> None:
    """Evaluate what comes through a pipe, until it closes: a pickled (loss_fn or ``None`` for the last, rank, params) each."""
    # Ctrl-C in a terminal goes to all processes of a run; its first process decides what to do.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    loss_fn: Any = None
    try:
        pipe.send_bytes(b"")
        while True:
            message = pipe.recv_bytes()
            try:
                function, rank, params = pickle.loads(message)
                loss_fn = loss_fn if function is None else pickle.loads(function)
                outcome, refused = call(loss_fn, rank, params), ""
            except Exception as error:
                outcome, refused = None, f"{type(error).__name__}: {error}"
            pipe.send_bytes(pickle.dumps((outcome, refused)))
    except (EOFError, OSError):
        return
