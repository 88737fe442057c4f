"""Final loss with σ automatic over that of the best of 12 fixed σ, on rough, noisy and batched losses.

Every run of a problem has the same number of generations; a candidate more a generation is paid with generations. The loss that
is reported is on all the data, or without noise. One that is below 1 % of the start's counts as 1 %: such a problem is solved.
Beside the automatic σ stand the 1/5 rule of (1+1), the share of successes that is best for M = 20, the rule "strength",
cumulative step-size adaptation of (1,20), and the adaptive Metropolis of Whitelam et al. 2022; all start at σ = 0.01. Problems
and targets are those of benchmarks/sigma_problems.py. Run with ``python -m benchmarks.sigma_kinds``; ``--only argmax`` runs those
problems whose names have it, ``--same-loss 1`` those whose loss stays the same, with σ fixed and automatic alone,
``--batches 1`` the others so. ``--recombination 1`` runs all of them with `mutagrad.weighted_recombination`, whose σ by the
rules "progress" and "strength" stands beside the best fixed σ of the same algorithm.
"""

import math
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import mutagrad
from benchmarks import common
from benchmarks.sigma import AdaptiveMetropolis, cumulative
from benchmarks.sigma_problems import REPORTED, TRIALS, Problem

M = 20
GRID = np.logspace(-4, 0, 12)
FIRST_SIGMA = 0.01
SOLVED = 0.01


class Runs(NamedTuple):
    """What became of one run for each σ and key.

    Attributes
    ----------
    losses : (σ, keys), the loss that is reported, after the run [loss].
    sigmas : (σ, keys), σ after the run [parameter].
    course : (σ, keys, generations), σ after each generation, and
    params : after the run, leaves (σ, keys, …); both ``None`` unless recorded.
    """

    losses: np.ndarray
    sigmas: np.ndarray
    course: np.ndarray | None
    params: Any


def runs(algorithm: Any, problem: Problem, sigmas: np.ndarray, keys: jax.Array, is_recorded: bool = False) -> Runs:
    """Runs from each σ with each key, all of as many evaluations.

    A program that records rounds otherwise, and the automatic σ of a rough loss then takes another course.
    """
    is_resampled = problem.draw_fn is not None
    state = algorithm.init(problem.start)
    # What the other runs evaluate in as many generations, (1+M) with its parent; all but one candidate.
    candidates = len(algorithm.ask(keys[0], state, is_resampled=is_resampled))
    number = math.ceil(problem.num_generations * (M + 1) / max(candidates, 1))

    def run(sigma, key):
        def generation(state, key):
            step_key, batch_key = jax.random.split(key)
            batch = problem.draw_fn(batch_key) if is_resampled else None
            step = algorithm.step(
                step_key, state, lambda params: problem.loss_fn(params, batch), is_resampled=is_resampled
            )
            return step[0], step[0].sigma if is_recorded else None

        end, course = jax.lax.scan(generation, state.with_sigma(sigma), jax.random.split(key, number))
        return Runs(problem.measure_fn(end.params), end.sigma, course, end.params if is_recorded else None)

    run_all = jax.jit(lambda sigmas: jax.lax.map(lambda one: jax.lax.map(lambda key: run(one, key), keys), sigmas))
    return jax.tree.map(np.asarray, run_all(jnp.asarray(sigmas, jnp.float32)))


def controllers(size: int) -> dict[str, Callable[[], Any]]:
    def elitist(number: int = M) -> mutagrad.Algorithm:
        return mutagrad.elitist(FIRST_SIGMA, number)

    return {
        "automatic": lambda: mutagrad.adapt_sigma(elitist()),
        "strength": lambda: mutagrad.adapt_sigma(elitist(), rule="strength"),
        "successes": lambda: mutagrad.adapt_sigma(elitist(), rule="success"),
        "1/5 rule, (1+1)": lambda: mutagrad.adapt_sigma(elitist(1), rule="success", target=0.2),
        "cumulative, (1,20)": lambda: cumulative(M, size),
        "adaptive Metropolis": AdaptiveMetropolis,
    }


def ratios(losses: np.ndarray, best: float, start: float) -> str:
    counted = np.maximum(np.where(np.isfinite(losses), losses, np.inf), SOLVED * start) / best
    return common.spread([float(one) for one in counted.ravel()])


def recombined(size: int) -> dict[str, Callable[[], Any]]:
    def recombination() -> mutagrad.Algorithm:
        return mutagrad.weighted_recombination(FIRST_SIGMA, M)

    return {
        "progress": lambda: mutagrad.adapt_sigma(recombination(), rule="progress"),
        "strength": lambda: mutagrad.adapt_sigma(recombination()),
    }


def measure(
    name: str, problem: Problem, keys: jax.Array, algorithm: mutagrad.Algorithm, chosen: dict[str, Callable[[], Any]]
) -> tuple[list[str], float, float]:
    start = float(problem.measure_fn(problem.start))
    fixed = runs(algorithm, problem, GRID, keys).losses
    medians = np.median(np.maximum(np.where(np.isfinite(fixed), fixed, np.inf), SOLVED * start), axis=1)
    best = float(medians.min())
    found = [runs(make(), problem, np.array([FIRST_SIGMA]), keys) for make in chosen.values()]
    own, ends = found[0].losses[0], found[0].sigmas[0]
    counted = np.maximum(own, SOLVED * start) / best
    low, middle, high = np.quantile(ends, [0, 0.5, 1], method="nearest")
    row = [
        name,
        f"{start:.3g}",
        f"{best:.3g}",
        f"{GRID[medians.argmin()]:.2g}",
        *[ratios(one.losses, best, start) for one in found],
        f"{middle:.2g} ({low:.2g} to {high:.2g})",
    ]
    return row, float(np.median(counted)), float((own / start).max())


def main() -> None:
    args = common.arguments(__doc__, repetitions=5, only="", key=1, trials=0, same_loss=0, batches=0, recombination=0)
    keys = jax.random.split(jax.random.key(args.key), args.repetitions)
    rows, medians, worst = [], [], []
    of_size, algorithm = controllers, mutagrad.elitist(FIRST_SIGMA, M)
    if args.recombination:
        of_size, algorithm = recombined, mutagrad.weighted_recombination(FIRST_SIGMA, M)
    is_short = (args.same_loss or args.batches) and not args.recombination
    names = ["automatic"] if is_short else list(of_size(1))
    for name, make in (TRIALS if args.trials else REPORTED).items():
        if args.only not in name:
            continue
        problem = make()
        if (args.same_loss and problem.draw_fn is not None) or (args.batches and problem.draw_fn is None):
            continue
        of_this = of_size(mutagrad.tree.size(problem.start))
        row, median, of_start = measure(name, problem, keys, algorithm, {title: of_this[title] for title in names})
        rows.append(row)
        medians.append(median)
        worst.append(of_start)
        print(row, file=sys.stderr, flush=True)
    own = names[0]
    head = ["problem", "loss at the start", "best fixed σ's", "which σ", *names, f"σ at the end, {own}"]
    text = (
        f"Final loss over that of the best fixed σ: median (min to max) over {args.repetitions} keys; M = {M}; fixed: "
        f"{len(GRID)} σ from {GRID[0]:g} to {GRID[-1]:g}, by the median of their losses. A loss below "
        f"{100 * SOLVED:g} % of the start's counts as {100 * SOLVED:g} %, in every column. {own.capitalize()} is at most 1.25 on "
        f"{sum(one <= 1.25 for one in medians)} of {len(medians)} problems; largest median {max(medians):.2f}. The worst run of "
        f"any problem ends at {max(worst):.2g} of its starting loss."
    )
    name = (
        "sigma_kinds"
        + ("_same_loss" if args.same_loss else "")
        + ("_batches" if args.batches else "")
        + ("_recombination" if args.recombination else "")
        + ("_trials" if args.trials else "")
        + ("_" + args.only.strip(" ,").replace(" ", "_") if args.only else "")
    )
    common.report(name, [common.table(head, rows), text], args, "one key after another")


if __name__ == "__main__":
    main()
