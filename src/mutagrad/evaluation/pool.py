"""Evaluation of ordinary Python losses, one by one or through any pool of ``concurrent.futures``."""

from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor
from functools import partial
from typing import Any

import jax
import numpy as np

from mutagrad.evaluation.local import Evaluator
from mutagrad.offspring import Offspring

__all__ = ["Failure", "executor"]


class Failure(float):
    """The NaN of an evaluation that raised, with the words of what it raised."""

    reason: str

    def __new__(cls, reason: str) -> "Failure":
        """A NaN with a reason."""
        self = super().__new__(cls, "nan")
        self.reason = reason
        return self

    def __reduce__(self) -> tuple:
        return Failure, (self.reason,)


def executor(pool: Executor | None = None, *, is_batched: bool = False) -> Evaluator:
    """Evaluate an ordinary Python loss: NumPy, a simulator, a subprocess.

    ``loss_fn(params)``, or ``loss_fn(params, batch)``, is called with NumPy arrays and returns a number, or a vector of
    per-example losses. A call that raises is a failed evaluation, of loss NaN; it loses, and `mutagrad.evolve` counts it.

    Parameters
    ----------
    pool : any ``concurrent.futures.Executor``: processes, threads, or a cluster's. For processes the loss must be a function
        that they can import. Without one, candidates are evaluated one by one in this process.
    is_batched : whether the loss takes all candidates of a generation at once, floating leaves with a leading axis (n,), and
        returns (n,) losses, or (n, examples). It is then called once a generation.

    Returns
    -------
    Evaluator, for the ``evaluation`` argument of `mutagrad.evolve`.

    Raises
    ------
    ValueError : if ``pool`` has no ``submit``.

    >>> import jax, numpy as np, mutagrad
    >>> def simulate(params):                                            # any Python: no JAX in it
    ...     return float(np.abs(params["x"] - 3.0).sum())
    >>> algorithm = mutagrad.elitist(sigma=0.3, num_offspring=10)
    >>> result = mutagrad.evolve(
    ...     jax.random.key(0), algorithm, {"x": np.zeros(3)}, simulate, 60, evaluation=mutagrad.executor(), progress=False
    ... )
    >>> simulate(result.params) < 1.5
    True
    """
    if pool is not None and not hasattr(pool, "submit"):
        raise ValueError(
            f"pool: got {pool!r}; pass a concurrent.futures.Executor such as ProcessPoolExecutor(), or None for this process"
        )

    def evaluate(loss_fn: Callable, offspring: Offspring) -> list | np.ndarray:
        if is_batched:
            params = jax.tree.map(np.asarray, offspring.stacked())
            found = _result(pool, partial(_call, loss_fn, params))
            return [found] * len(offspring) if isinstance(found, Failure) else found
        candidates = (jax.tree.map(np.asarray, params) for params in offspring)
        if pool is None:
            return [_call(loss_fn, params) for params in candidates]
        # In order, whichever ends first.
        futures = [pool.submit(_call, loss_fn, params) for params in candidates]
        return [_outcome(future) for future in futures]

    return Evaluator(evaluate, is_traceable=False)


def _result(pool: Executor | None, task: Callable[[], Any]) -> Any:
    return task() if pool is None else _outcome(pool.submit(task))


def _outcome(future: Any) -> Any:
    try:
        return future.result()
    except BrokenExecutor as error:
        raise RuntimeError(f"pool: a worker died ({error}); pass a new pool and go on from the last result") from None
    except Exception as error:
        # The call itself is guarded: what is left could not be sent to a worker.
        raise ValueError(
            f"loss_fn: could not be sent to the pool ({type(error).__name__}: {error}); pass a function that the workers can "
            "import, and data that can be sent"
        ) from None


def _call(loss_fn: Callable, params: Any) -> Any:
    try:
        found = loss_fn(params)
        return Failure("nothing: it returned None") if found is None else np.asarray(found)
    except Exception as error:
        first = str(error).strip().splitlines()[:1]
        return Failure(f"{type(error).__name__}: {first[0][:200] if first else ''}")
