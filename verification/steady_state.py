"""`mutagrad.evolve_asynchronously`: what staleness does to the drift, and what waiting costs.

- Law: the course of a run on a slope, births and ends in order or at random, against NumPy's process of the same rule, which
  shares no code with it, and against `mutagrad.theory.steady_state_gain`. Both kinds of times have the same mutations.
  Registered: none of the differences between course and process is beyond 4 errors (false alarm of one in a hundred for the
  table, by Student's t of 20 parts).
- Clock: eight threads that sleep as long as an evaluation takes, exponentially distributed or always the same; seconds and
  evaluations to a hundredth of the loss at the start, here and by `mutagrad.evolve` with the same threads.

Run with ``python -m verification.steady_state``.
"""

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np

import mutagrad
from mutagrad import theory
from mutagrad.run.steady import Course
from verification import common

WIDTHS = (1, 2, 4, 8, 16, 32, 64)
THREADS, MEAN_SECONDS, DIRECTIONS, REPEATS = 8, 0.05, 30, 5


def process(width: int, strength: float, is_equal: bool, number: int, runs: int = 400) -> tuple[float, float]:
    """NumPy: mean decrease an evaluation and its error, in units of σ|∇U|."""
    rng, each = np.random.default_rng(width), np.arange(runs)
    reached, born, first = np.zeros(runs), np.zeros((runs, width)), np.zeros(runs)
    before = 20 * width + 200
    for ended in range(before + number):
        if ended == before:
            first = reached.copy()
        place = np.full(runs, ended % width) if is_equal else rng.integers(0, width, runs)
        reached = np.maximum(reached, born[each, place] - rng.standard_normal(runs) - strength / 2)
        born[each, place] = reached
    gains = (reached - first) / number
    return float(gains.mean()), float(gains.std() / np.sqrt(runs))


def course(width: int, is_equal: bool, number: int) -> tuple[float, float]:
    """The library: the same of one run on a slope, with the error from parts of it that follow one another."""
    rng = np.random.default_rng(1000 + width)
    algorithm = mutagrad.elitist(1.0, 20)
    own = Course(jax.random.key(width), algorithm, algorithm.init({"x": np.zeros(1, np.float32)}))
    own.begin(0.0)
    losses, levels, before = {}, [], 5 * width + 50
    for ended in range(before + number):
        while own.num_born < width + ended:
            birth = own.num_born
            losses[birth] = float(own.mutant(birth)["x"][0])
        waiting = own.under_way
        birth = waiting[0 if is_equal else int(rng.integers(len(waiting)))]
        own.judged(birth, losses.pop(birth))
        levels.append(own.loss)
    parts = -np.diff(np.asarray(levels)[before - 1 :: number // 20]) / (number // 20)
    return float(parts.mean()), float(parts.std(ddof=1) / np.sqrt(len(parts)))


def of_law(number: int, drawn: int) -> tuple[str, bool]:
    lines = [
        "| in flight | times | process: r at s = 0 | r√W | this library | apart, in errors | law / process | at s = 1.5 | "
        "(1+W) an evaluation |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    is_right = True
    for is_equal in (False, True):
        for width in WIDTHS:
            gain, error = process(width, 0.0, is_equal, drawn)
            ours, own_error = course(width, is_equal, number)
            apart = (ours - gain) / np.hypot(error, own_error)
            curved = theory.steady_state_gain(width, 1.5, is_equal=is_equal) / process(width, 1.5, is_equal, drawn)[0]
            law = theory.steady_state_gain(width, is_equal=is_equal) / gain
            generation = float(theory.learning_rate(mutagrad.elitist(1.0, width), "normalized")) / (width + 1)
            is_right &= abs(apart) < 4
            times = "equal" if is_equal else "exponential"
            lines.append(
                f"| {width} | {times} | {gain:.4f} ± {error:.4f} | {gain * np.sqrt(width):.3f} | "
                f"{ours:.4f} ± {own_error:.4f} | {apart:.1f} | {law:.3f} | {curved:.3f} | {generation:.4f} |"
            )
    return "\n".join(lines), is_right


def simulate(is_equal: bool):
    """A sphere whose evaluation takes a time that its parameters decide: the same, whoever evaluates it."""

    def loss_fn(params):
        digest = hashlib.blake2b(np.ascontiguousarray(params["x"]).tobytes(), digest_size=8).digest()
        uniform = (int.from_bytes(digest, "little") + 1) / 2**64
        time.sleep(MEAN_SECONDS * (1.0 if is_equal else -np.log(uniform)))
        return float(np.sum(np.square(params["x"])))

    return loss_fn


def to_target(kind: str, num_offspring: int, is_equal: bool, seed: int) -> tuple[float, int]:
    """Seconds and evaluations."""
    algorithm = mutagrad.adapt_sigma(mutagrad.elitist(0.01, num_offspring))
    start, loss_fn = {"x": np.ones(DIRECTIONS, np.float32)}, simulate(is_equal)
    options = {"observers": [mutagrad.stop_at_loss(DIRECTIONS / 100)], "progress": False}
    began = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        evaluation = mutagrad.executor(pool)
        if kind == "evolve":
            run = mutagrad.evolve(
                jax.random.key(seed), algorithm, start, loss_fn, 5000, evaluation=evaluation, **options
            )
        else:
            run = mutagrad.evolve_asynchronously(
                jax.random.key(seed),
                algorithm,
                start,
                loss_fn,
                5000,
                evaluation=evaluation,
                num_in_flight=THREADS,
                **options,
            )
    return time.perf_counter() - began, run.num_evaluations


def of_clock(repeats: int) -> str:
    def told(values):
        return f"{np.median(values):.4g} ({min(values):.4g} to {max(values):.4g})"

    lines = [
        "| times | run | seconds | evaluations | evaluations at a time, of 8 |",
        "| --- | --- | --- | --- | --- |",
    ]
    for is_equal in (False, True):
        for kind, number in (
            ("evolve", 7),
            ("evolve", 20),
            ("evolve_asynchronously", 8),
            ("evolve_asynchronously", 20),
        ):
            to_target(kind, number, is_equal, 99)  # compiles
            found = [to_target(kind, number, is_equal, seed) for seed in range(repeats)]
            busy = [evaluations * MEAN_SECONDS / seconds for seconds, evaluations in found]
            lines.append(
                f"| {'equal' if is_equal else 'exponential'} | `{kind}`, M = {number} | {told([one for one, _ in found])} | "
                f"{told([number for _, number in found])} | {told(busy)} |"
            )
    return "\n".join(lines)


def main() -> None:
    args = common.arguments(__doc__, number=8000, drawn=1500, repeats=REPEATS)
    began = time.perf_counter()
    law, is_right = of_law(args.number, args.drawn)
    sections = [
        f"## What staleness does to the drift\n\n{law}\n\nNone beyond 4 errors: {'yes' if is_right else 'NO'}.",
        "## What waiting costs\n\n"
        f"A sphere of {DIRECTIONS} parameters, σ automatic from 0.01, to a hundredth of the loss; eight threads that sleep, "
        f"{MEAN_SECONDS} s in the mean. Median (smallest to largest) of {args.repeats} keys.\n\n{of_clock(args.repeats)}",
    ]
    common.report("steady_state", sections, args, "", time.perf_counter() - began, [common.versions("jax", "numpy")])


if __name__ == "__main__":
    main()
