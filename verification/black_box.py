"""A black-box loss whose workers are killed, stopped and made to fail, and whose run is killed: the course of one without that.

The loss is a simulation in NumPy of about 10 ms: the range of a throw with drag, of four parameters. (1+8) with automatic σ,
on two workers, what fails is tried again. In the first part a thread kills a worker at random moments, by SIGKILL, or stops one
by SIGSTOP, so that it takes longer than its time. In the second the run itself is killed, again and again until it has ended; the
loss counts its calls, so that it is seen how many were made twice.
Run with ``python -m verification.black_box``.
"""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import mutagrad
from verification import common

ALGORITHM = mutagrad.adapt_sigma(mutagrad.elitist(sigma=0.05, num_offspring=8))
START = jnp.asarray([0.2, 0.0, 0.1, 0.0])
CANDIDATES = 9
TIMEOUT = 3.0


def simulate(params: Any) -> float:
    """Less the range of a throw; the two last parameters tilt it in flight."""
    angle, lift, tilt, late = np.asarray(params, np.float64)
    position, velocity = np.zeros(2), 20 * np.array([np.cos(angle), np.sin(angle)])
    for step in range(2000):
        turn = 0.02 * (lift + tilt * np.sin(step / 200) + late * (step > 500))
        velocity = velocity + 0.005 * (np.array([-turn * velocity[1], turn * velocity[0] - 9.81]) - 0.1 * velocity)
        position = position + 0.005 * velocity
        if position[1] < 0:
            break
    return float(-position[0] + 0.1 * np.sum(np.square([lift, tilt, late])))


class Counted:
    """`simulate`, each call a line in a file."""

    def __init__(self, path: str):
        self.path = path

    def __call__(self, params: Any) -> float:
        """The loss."""
        found = simulate(params)
        with open(self.path, "ab", buffering=0) as file:
            file.write(b"x")
        return found


def evolved(number: int, evaluation: Any, loss_fn: Any = simulate, **options: Any) -> Any:
    return mutagrad.evolve(
        jax.random.key(0), ALGORITHM, START, loss_fn, number, evaluation=evaluation, progress=False, **options
    )


def is_same(one: Any, other: Any) -> bool:
    names = ("loss", "sigma", "best_loss", "num_nonfinite")
    return np.array_equal(one.params, other.params) and all(
        np.array_equal(one.history[name], other.history[name]) for name in names
    )


def failing_workers(number: int, seed: int) -> str:
    """Kill and stop workers while a run goes on."""
    rng, done = random.Random(seed), {"kill": 0, "stop": 0}
    stop = threading.Event()

    def harm() -> None:
        while not stop.wait(rng.uniform(0.2, 4.0)):
            workers = [one for one in multiprocessing.active_children() if one.name == "mutagrad worker"]
            if not workers:
                continue
            what = "kill" if rng.random() < 0.9 else "stop"
            try:
                os.kill(rng.choice(workers).pid or 0, signal.SIGKILL if what == "kill" else signal.SIGSTOP)
            except ProcessLookupError:
                continue
            done[what] += 1

    whole = evolved(number, mutagrad.executor())
    thread = threading.Thread(target=harm)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        thread.start()
        try:
            evaluation = mutagrad.executor(
                2, timeout=TIMEOUT, on_failure={"worker": "retry", "timeout": "retry"}, retries=20
            )
            found = evolved(number, evaluation)
        finally:
            stop.set()
            thread.join()
    again = int(found.history["num_retries"].sum())
    return (
        f"{number:,} generations while workers were killed {done['kill']} times and stopped {done['stop']} times: the course is "
        f"{'that' if is_same(found, whole) else 'NOT THAT'} of the run without; {again} evaluations were made again, "
        f"{int(found.history['num_dead_workers'].sum() + found.history['num_timeouts'].sum())} failed in the end. It said: "
        f"{'; '.join(str(one.message) for one in said)}"
    )


def child(folder: str, number: int) -> None:
    """The run that is killed."""
    from mutagrad.run import saved

    saved._SECONDS = 1.0
    warnings.simplefilter("ignore")
    evolved(number, mutagrad.executor(2), Counted(f"{folder}.calls"), checkpoint=folder)


def killed_runs(number: int, kills: int, seed: int) -> str:
    """Kill a run with its workers until so many kills have been."""
    rng, done, runs, same, twice = random.Random(seed), 0, 0, 0, []
    whole = evolved(number, mutagrad.executor())
    with tempfile.TemporaryDirectory() as place:
        while done < kills:
            folder, own, runs = Path(place) / f"run{runs}", 0, runs + 1
            while True:
                code = f"from verification.black_box import child; child({str(folder)!r}, {number})"
                command = [sys.executable, "-c", code]
                with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
                    try:
                        _, text = process.communicate(timeout=rng.uniform(3.0, 15.0) if done < kills else None)
                    except subprocess.TimeoutExpired:
                        process.kill()
                        process.communicate()
                        done, own = done + 1, own + 1
                        continue
                assert process.returncode == 0, text
                break
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = evolved(number, mutagrad.executor(2), Counted(f"{folder}.calls"), checkpoint=folder)
            same += is_same(found, whole)
            calls = Path(f"{folder}.calls").stat().st_size
            twice.append((calls - number * CANDIDATES) / max(own, 1))
    return (
        f"{done} kills of {runs} runs of {number:,} generations on two workers, a checkpoint a second: {same} of {runs} ended as "
        f"the run that was never killed. Of {number * CANDIDATES:,} evaluations {np.mean(twice):.1f} a kill were made twice in "
        f"the mean, {max(twice):.1f} at most: those that were being made, one for each worker, and what a kill cut off."
    )


def main() -> None:
    args = common.arguments(__doc__, generations=400, kills=30, seed=0)
    start, sections = time.monotonic(), []
    for section in (
        lambda: failing_workers(args.generations, args.seed),
        lambda: killed_runs(args.generations, args.kills, args.seed),
    ):
        sections.append(section())
        print(sections[-1], flush=True)
    common.report("black_box", sections, args, "", time.monotonic() - start)


if __name__ == "__main__":
    main()
