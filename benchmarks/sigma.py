"""Evaluations to a given loss with σ automatic, beside every σ of a grid of 12 held fixed, on ten problems.

Counts do not depend on the machine's load. Run with ``python -m benchmarks.sigma``.
"""

import statistics
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import mutagrad
from benchmarks import common
from mutagrad.lab.datasets import load
from mutagrad.lab.models import MLP, cross_entropy, lecun
from mutagrad.lab.quadratics import power_law
from mutagrad.lab.tanh_nets import deep_losses, deep_start, shallow_losses, shallow_start

M = 20
GRID = np.logspace(-4, -0.5, 12)
FIRST_SIGMA = 0.01
CHUNK = 50


class Problem(NamedTuple):
    """Per-example losses, a start, and the loss to reach."""

    losses: Callable
    start: Any
    target: float


def quadratic(size: int, exponent: float) -> Problem:
    one = power_law(size, exponent, "even")
    return Problem(one.losses, one.start, 0.01 * float(one.loss(one.start)))


def digits(widths: tuple[int, ...], target: float) -> Problem:
    data = load("digits")
    params, static = eqx.partition(MLP(jax.random.key(0), 64, widths, 10), eqx.is_array)
    inputs, labels = jnp.asarray(data.train_inputs), jnp.asarray(data.train_labels)

    def losses(params):
        return cross_entropy(eqx.combine(params, static)(inputs), labels)

    return Problem(losses, lecun(params), target)


def problems() -> dict[str, Callable[[], Problem]]:
    return {
        "sphere, N = 100": lambda: quadratic(100, 0.0),
        "sphere, N = 1000": lambda: quadratic(1000, 0.0),
        "power law a = 0.5, N = 1000": lambda: quadratic(1000, 0.5),
        "power law a = 0.8, N = 1000": lambda: quadratic(1000, 0.8),
        "power law a = 1, N = 3000": lambda: quadratic(3000, 1.0),
        "power law a = 1.3, N = 1000": lambda: quadratic(1000, 1.3),
        "shallow tanh net": lambda: Problem(partial(shallow_losses, points=200), shallow_start(), 0.05),
        "deep tanh net": lambda: Problem(partial(deep_losses, points=50), deep_start(), 0.02),
        "digits, linear": lambda: digits((), 0.3),
        "digits, MLP 64-32-10": lambda: digits((32,), 0.15),
    }


def runner(algorithm: mutagrad.Algorithm, problem: Problem, sigmas: np.ndarray, seeds: int) -> Callable:
    """Chunks of generations of every σ and seed: call it for the generation at which each reached the target, or 0."""
    keys = jax.random.split(jax.random.key(0), seeds)

    def begin(sigma):
        state = algorithm.init(problem.start, problem.losses)
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (seeds, *leaf.shape)), state.with_sigma(sigma))

    @jax.jit
    def advance(states, reached):
        def run(key, state, reached):
            def body(carry, _):
                state, reached = carry
                generation = state.generation
                state, info = algorithm.step(jax.random.fold_in(key, generation), state, problem.losses)
                is_there = (info.parent_loss <= problem.target) & (reached == 0)
                return (state, jnp.where(is_there, generation, reached)), None

            return jax.lax.scan(body, (state, reached), length=CHUNK)[0]

        # One σ after another: all of them at once would not fit the cache.
        return jax.lax.map(lambda args: jax.vmap(run)(keys, *args), (states, reached))

    held = {
        "states": jax.vmap(begin)(jnp.asarray(sigmas, jnp.float32)),
        "reached": jnp.zeros((len(sigmas), seeds), jnp.int32),
    }

    def call() -> np.ndarray:
        held["states"], held["reached"] = advance(held["states"], held["reached"])
        return np.asarray(held["reached"])

    return call


def median_generation(reached: np.ndarray) -> np.ndarray:
    """Median over seeds, (σ,), infinite where half of them or more have not arrived."""
    return np.median(np.where(reached > 0, reached, np.inf), axis=1)


def measure(problem: Problem, seeds: int, limit: int) -> dict[str, Any]:
    """Generations to the target: automatic, and of the grid until its best is known."""
    fixed = runner(mutagrad.elitist(0.1, M), problem, GRID, seeds)
    automatic = runner(mutagrad.adapt_sigma(mutagrad.elitist(0.1, M)), problem, np.array([FIRST_SIGMA]), seeds)
    for generation in range(CHUNK, limit + 1, CHUNK):
        of_grid, own = fixed(), automatic()
        print(
            f"  {generation} {int((of_grid > 0).sum())} of {of_grid.size}, {int((own > 0).sum())} of {own.size}",
            file=sys.stderr,
        )
        # A σ that is overtaken by nobody any more: the median of the others can only be later than now.
        if np.isfinite(median_generation(of_grid)).any() and np.isfinite(median_generation(own)).all():
            break
    medians = median_generation(of_grid)
    return {"own": median_generation(own)[0], "spread": own[0], "best": medians.min(), "sigma": GRID[medians.argmin()]}


def main() -> None:
    args = common.arguments(__doc__, repetitions=5, limit=6000, only="")
    rows, ratios = [], []
    for name, make in problems().items():
        if args.only not in name:
            continue
        problem = make()
        found = measure(problem, args.repetitions, args.limit)
        ratios.append(found["own"] / found["best"])
        arrived = np.where(found["spread"] > 0, found["spread"], np.inf)
        rows.append(
            [
                name,
                f"{problem.target:.3g}",
                f"{(M + 1) * found['own']:,.0f} ({(M + 1) * arrived.min():,.0f} to {(M + 1) * arrived.max():,.0f})",
                f"{(M + 1) * found['best']:,.0f}",
                f"{found['sigma']:.2g}",
                f"{ratios[-1]:.2f}",
            ]
        )
        print(rows[-1], flush=True)
    head = [
        "problem",
        "loss to reach",
        "evaluations, σ automatic: median (min to max)",
        "best fixed σ",
        "which σ",
        "ratio",
    ]
    text = (
        f"Median over {args.repetitions} seeds of (1+{M}); fixed: the best of {len(GRID)} from {GRID[0]:g} to {GRID[-1]:.2g}; "
        f"automatic starts at σ = {FIRST_SIGMA}. Ratio: automatic over the best fixed, at most 1 on "
        f"{sum(ratio <= 1 for ratio in ratios)} of {len(ratios)} problems; largest {max(ratios):.2f}, median "
        f"{statistics.median(ratios):.2f}."
    )
    common.report("sigma", [common.table(head, rows), text], args)


if __name__ == "__main__":
    main()
