"""One evaluation of an ordinary Python loss, and the process that evaluates for another. A worker imports this, and no JAX."""

import multiprocessing
import os
import pickle
import signal
import site
import sysconfig
import threading
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

from mutagrad.failures import RETURNED_NONE, Failure

__all__ = ["call", "call_many", "serve"]

_LIBRARIES = tuple(
    os.path.join(path, "")
    for path in {
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        *site.getsitepackages(),
        site.getusersitepackages(),
        os.path.dirname(os.path.abspath(__file__)),
    }
)


def call(loss_fn: Callable, rank: int, params: Any) -> "np.ndarray | Failure":
    """What a loss returns, as an array of that rank at most, or why it is none."""
    try:
        found = loss_fn(params)
        if found is None:
            return Failure(RETURNED_NONE)
        # What is masked is no loss; and an array may be one that the loss fills anew at each call.
        array = np.array(np.ma.filled(1.0 * found, np.nan) if np.ma.isMaskedArray(found) else found)
    except (Exception, SystemExit) as error:
        # A simulator that ends its program ends its evaluation alone.
        return Failure(_words(error) + _place(error))
    # Of other kinds are bfloat16 and its like, which have names of their own.
    if array.dtype.kind not in "biuf" and not array.dtype.name.startswith(("bfloat", "float")):
        what = f"a {type(found).__name__}" if array.dtype.kind == "O" else array.dtype
        return Failure(f"got {what} back", "shape")
    if array.ndim > rank or not array.size:
        return Failure(f"got shape {array.shape} back", "shape")
    return array


def call_many(loss_fn: Callable, rank: int, candidates: "list[Any]") -> "list[np.ndarray | Failure]":
    """What a loss returns for each of several candidates."""
    return [call(loss_fn, rank, params) for params in candidates]


def _words(error: BaseException) -> str:
    """The kind of an error and the first line of what it says."""
    try:
        first = str(error).strip().splitlines()[:1]
    except Exception:
        first = []
    return f"{type(error).__name__}: {first[0][:200] if first else ''}"


def _place(error: BaseException) -> str:
    """The innermost line of the loss, and of what it calls, that is in no library, in brackets."""
    frames = [one for one in traceback.extract_tb(error.__traceback__)[1:] if not one.filename.startswith("<frozen ")]
    own = [one for one in frames if not one.filename.startswith(_LIBRARIES)] or frames[:1]
    if not own:
        return ""
    # What was sent with its code, and not imported, has lost the name of its file.
    name = os.path.basename(own[-1].filename)
    where = own[-1].name if not name or name.startswith("<") else name
    return f" ({' '.join(where.split())[:80]}, line {own[-1].lineno})"


def serve(pipe: Any) -> None:
    """Evaluate what comes through a pipe, until it closes: a pickled (loss_fn,), or (rank, params) for the last one.

    Each has an answer, (outcome, why it could not be loaded); so has the beginning.
    """
    # Ctrl-C in a terminal goes to all processes of a run; its first process decides what to do.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setpgid"):
        # What a loss starts is ended with its worker.
        os.setpgid(0, 0)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    loss_fn: Any = None
    outcome, refused = None, ""
    try:
        while True:
            pipe.send_bytes(pickle.dumps((outcome, refused)))
            message = pipe.recv_bytes()
            outcome, refused = None, ""
            try:
                given = pickle.loads(message)
                if len(given) == 1:
                    (loss_fn,) = given
                else:
                    outcome = call(loss_fn, *given)
            except Exception as error:
                refused = _words(error)
    except (EOFError, OSError):
        return


def _end_with_parent() -> None:
    """Whatever is evaluated, nobody waits for it any more."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    if hasattr(os, "killpg"):
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
