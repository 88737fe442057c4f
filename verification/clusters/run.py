"""A run through a cluster of local processes, in the environment of `make clusters`: prints what came of it as JSON.

Run by verification/executors.py with the name of a cluster, a number of generations and one of evaluations in a task.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import numpy as np

WORKERS = 2
CANDIDATES = 8


def simulate(params: Any) -> float:
    """A loss in NumPy of about 20 ms, which raises where x leaves its domain."""
    end = time.perf_counter() + 0.02
    while time.perf_counter() < end:
        pass
    if np.abs(params["x"]).max() > 4:
        raise ValueError("outside of the domain")
    return float(np.sum(np.square(params["x"] - 3)))


class Waiting(ThreadPoolExecutor):
    """A pool whose threads wait for the jobs of a cluster that has no ``concurrent.futures``."""

    def __init__(self, run: Callable[..., Any], number: int):
        super().__init__(number)
        self._run = run

    def submit(self, function: Callable[..., Any], /, *args: Any) -> Future:
        return super().submit(self._run, function, *args)


def started(name: str, held: ExitStack) -> Executor:
    """A cluster of two processes."""
    if name == "loky":
        import loky

        return loky.get_reusable_executor(max_workers=WORKERS)
    if name == "dask":
        from dask.distributed import Client, LocalCluster

        cluster = held.enter_context(LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None))
        return held.enter_context(Client(cluster)).get_executor()
    if name == "ray":
        import ray

        ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)
        held.callback(ray.shutdown)
        remote = ray.remote(lambda function, *args: function(*args))
        return Waiting(lambda *args: ray.get(remote.remote(*args)), CANDIDATES)
    import submitit

    jobs = submitit.AutoExecutor(folder=held.enter_context(tempfile.TemporaryDirectory()), cluster="local")
    jobs.update_parameters(timeout_min=5)
    return Waiting(lambda *args: jobs.submit(*args).result(), CANDIDATES)


def main() -> None:
    """Make the run."""
    import jax

    import mutagrad
    from verification.clusters import run as own

    name, generations, per_task = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    algorithm = mutagrad.elitist(sigma=0.5, num_offspring=CANDIDATES - 1)
    with ExitStack() as held:
        pool = None if name == "none" else started(name, held)
        ends = []
        # `own.simulate`, not `simulate`: a function of __main__ is sent whole, one of a module by its name.
        result = mutagrad.evolve(
            jax.random.key(0),
            algorithm,
            {"x": np.zeros(3, np.float32)},
            own.simulate,
            generations,
            evaluation=mutagrad.executor(pool, per_task=per_task),
            observers=[lambda chunk: ends.append((chunk.generation, time.perf_counter()))],
            progress=False,
        )
        (first, start), (last, end) = ends[0], ends[-1]
        print(
            json.dumps(
                {
                    "x": np.asarray(result.params["x"]).tolist(),
                    "losses": result.history["loss"].tolist(),
                    "failed": int(result.history["num_exceptions"].sum()),
                    "seconds": (end - start) / max(last - first, 1),
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
