"""Evaluations to a given loss with σ automatic, beside every σ of a grid of 12 held fixed, and beside two other controllers.

Ten problems; the loss to reach is 10 % of the start's. The other controllers are the
success rule of (1+20) (Rechenberg's, at the share of successes that is best for M = 20) and cumulative step-size adaptation
of (1,20) with the constants of Hansen 2016 (arXiv 1604.00772). All start at the same σ. Counts do not depend on the machine's
load. Run with ``python -m benchmarks.sigma``; ``--only "tanh net"`` runs those problems whose names have it, and writes a table
of its own.
"""

import math
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
from mutagrad.lab.claims.quadratics import power_law
from mutagrad.lab.claims.tanh_nets import deep_losses, deep_start, shallow_losses, shallow_start
from mutagrad.lab.tasks.data import load
from mutagrad.lab.tasks.losses import cross_entropy
from mutagrad.lab.tasks.models import MLP, lecun

M = 20
GRID = np.logspace(-4, -0.5, 12)
FIRST_SIGMA = 0.01
CHUNK = 50


class Problem(NamedTuple):
    """Per-example losses, a start, and the loss to reach."""

    losses: Callable
    start: Any
    target: float


def to_a_tenth(losses: Callable, start: Any) -> Problem:
    return Problem(losses, start, 0.1 * float(jnp.mean(losses(start))))


def quadratic(size: int, exponent: float) -> Problem:
    one = power_law(size, exponent, "even")
    return to_a_tenth(one.losses, one.start)


def digits(widths: tuple[int, ...]) -> Problem:
    data = load("digits")
    params, static = eqx.partition(MLP(jax.random.key(0), 64, widths, 10), eqx.is_array)
    inputs, labels = jnp.asarray(data.train_inputs), jnp.asarray(data.train_targets)

    def losses(params):
        return cross_entropy(eqx.combine(params, static)(inputs), labels)

    return to_a_tenth(losses, lecun(params))


def problems() -> dict[str, Callable[[], Problem]]:
    return {
        "sphere, N = 100": lambda: quadratic(100, 0.0),
        "sphere, N = 1000": lambda: quadratic(1000, 0.0),
        "power law a = 0.5, N = 1000": lambda: quadratic(1000, 0.5),
        "power law a = 0.8, N = 1000": lambda: quadratic(1000, 0.8),
        "power law a = 1, N = 3000": lambda: quadratic(3000, 1.0),
        "power law a = 1.3, N = 1000": lambda: quadratic(1000, 1.3),
        "shallow tanh net": lambda: to_a_tenth(partial(shallow_losses, points=200), shallow_start()),
        "deep tanh net": lambda: to_a_tenth(partial(deep_losses, points=50), deep_start()),
        "digits, linear": lambda: digits(()),
        "digits, MLP 64-32-10": lambda: digits((32,)),
    }


class CumulativeState(NamedTuple):
    """A parent, its σ, and the path of its last steps."""

    inner: Any
    path: Any

    def with_sigma(self, sigma: jax.Array) -> "CumulativeState":
        return self._replace(inner=self.inner.with_sigma(sigma))

    @property
    def params(self) -> Any:
        return self.inner.params

    @property
    def sigma(self) -> jax.Array:
        return self.inner.sigma

    @property
    def generation(self) -> jax.Array:
        return self.inner.generation


def cumulative(num_offspring: int, size: int) -> mutagrad.Algorithm:
    """(1,M) with cumulative step-size adaptation."""
    algorithm = mutagrad.comma(FIRST_SIGMA, num_offspring)
    memory = 3 / (size + 6)
    expected = math.sqrt(size) * (1 - 1 / (4 * size) + 1 / (21 * size**2))

    def init(params, loss_fn=None):
        return CumulativeState(algorithm.init(params, loss_fn), jax.tree.map(jnp.zeros_like, params))

    def after(state, inner, info):
        path = jax.tree.map(
            lambda p, new, old: (1 - memory) * p + math.sqrt(memory * (2 - memory)) * (new - old) / info.sigma,
            state.path,
            inner.params,
            state.inner.params,
        )
        length = jnp.sqrt(mutagrad.tree.squared_norm(path))
        sigma = info.sigma * jnp.exp(memory / (1 + memory) * (length / expected - 1))
        return CumulativeState(inner.with_sigma(sigma), path), info

    return algorithm.wrapped(init, lambda state: state.inner, after)


class DriftingState(NamedTuple):
    """A parent with its loss, σ, the mean of its mutations, and how many of them in a row were worse."""

    params: Any
    loss: jax.Array
    sigma: jax.Array
    mean: Any
    rejections: jax.Array

    def with_sigma(self, sigma: jax.Array) -> "DriftingState":
        return self._replace(sigma=sigma)


class AdaptiveMetropolis:
    """aMC of Whitelam et al. 2022 (arXiv 2205.07408) at zero temperature: one mutation, taken unless the loss rises.

    The mean of the mutations follows those that were taken; after 50 in a row that were not it is forgotten, and σ falls by 5 %.
    These rates are not tuned, and may differ from those that the source used on a problem.
    """

    _FOLLOWS, _PATIENCE, _FALL = 0.01, 50, 0.95

    def init(self, params: Any, loss_fn: Callable | None = None) -> DriftingState:
        infinite, zero = jnp.asarray(jnp.inf, jnp.float32), jnp.zeros((), jnp.int32)
        return DriftingState(params, infinite, jnp.asarray(FIRST_SIGMA), jax.tree.map(jnp.zeros_like, params), zero)

    def ask(self, key: jax.Array, state: DriftingState, *, is_resampled: bool) -> list:
        """As many candidates as it evaluates: its parent too, where batches change."""
        return [state.params] * (2 if is_resampled else 1)

    def step(
        self, key: jax.Array, state: DriftingState, loss_fn: Callable, *, is_resampled: bool
    ) -> tuple[DriftingState, None]:
        noise = mutagrad.mutation.gaussian().sample_fn(key, state.params)
        moved = jax.tree.map(lambda mean, one: mean + state.sigma * one, state.mean, noise)
        loss_of_parent = jnp.mean(loss_fn(state.params)) if is_resampled else state.loss
        candidate = jax.tree.map(jnp.add, state.params, moved)
        loss = jnp.mean(loss_fn(candidate))
        is_taken = loss <= loss_of_parent
        rejections = jnp.where(is_taken, 0, state.rejections + 1)
        is_stuck = rejections >= self._PATIENCE
        mean = jax.tree.map(
            lambda old, one: jnp.where(
                is_stuck, jnp.zeros_like(old), old + jnp.where(is_taken, self._FOLLOWS, 0.0) * (one - old)
            ),
            state.mean,
            moved,
        )
        following = DriftingState(
            mutagrad.tree.where(is_taken, candidate, state.params),
            jnp.where(is_taken, loss, loss_of_parent),
            jnp.where(is_stuck, self._FALL, 1.0) * state.sigma,
            mean,
            jnp.where(is_stuck, 0, rejections),
        )
        return following, None


def runner(algorithm: mutagrad.Algorithm, problem: Problem, sigmas: np.ndarray, keys: jax.Array) -> Callable:
    """Chunks of generations of every σ and key: call it for the generation at which each reached the target, or 0."""
    seeds = len(keys)

    def begin(sigma):
        state = algorithm.init(problem.start, problem.losses)
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (seeds, *leaf.shape)), state.with_sigma(sigma))

    @jax.jit
    def advance(states, reached):
        def run(key, state, reached):
            def body(carry, _):
                state, reached = carry
                generation = state.generation
                key_now = jax.random.fold_in(key, generation)
                state, info = algorithm.step(key_now, state, problem.losses, is_resampled=False)
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


def measure(problem: Problem, keys: jax.Array, limit: int) -> dict[str, Any]:
    """Generations to the target: of each controller, and of the grid until its best is known."""
    elitist, first = mutagrad.elitist(0.1, M), np.array([FIRST_SIGMA])
    fixed = runner(elitist, problem, GRID, keys)
    controllers = {
        "automatic": runner(mutagrad.adapt_sigma(elitist), problem, first, keys),
        "success rule": runner(mutagrad.adapt_sigma(elitist, rule="success"), problem, first, keys),
        "cumulative": runner(cumulative(M, mutagrad.tree.size(problem.start)), problem, first, keys),
    }
    reached: dict[str, np.ndarray] = {}
    of_grid = np.zeros((len(GRID), len(keys)))
    for generation in range(CHUNK, limit + 1, CHUNK):
        # Whoever has arrived stops; a σ that is overtaken by nobody any more could only be later than now.
        if not np.isfinite(median_generation(of_grid)).any():
            of_grid = fixed()
        for name, run in controllers.items():
            if name not in reached or (reached[name] == 0).any():
                reached[name] = run()
        counts = ", ".join(f"{name} {int((one > 0).sum())}" for name, one in {"grid": of_grid, **reached}.items())
        print(f"  {generation} {counts}", file=sys.stderr, flush=True)
        if np.isfinite(median_generation(of_grid)).any() and all((one > 0).all() for one in reached.values()):
            break
    medians = median_generation(of_grid)
    return {"reached": reached, "best": medians.min(), "sigma": GRID[medians.argmin()]}


def evaluations(reached: np.ndarray, per_generation: int) -> str:
    """Median, smallest and largest number over seeds."""
    low, middle, high = np.quantile(np.where(reached > 0, reached, np.inf), [0, 0.5, 1], method="nearest")
    counts = [f"{per_generation * one:,.0f}" if np.isfinite(one) else "not reached" for one in (middle, low, high)]
    return f"{counts[0]} ({counts[1]} to {counts[2]})"


def main() -> None:
    args = common.arguments(__doc__, repetitions=5, limit=30_000, only="", key=1)
    keys = jax.random.split(jax.random.key(args.key), args.repetitions)
    rows, ratios = [], []
    for name, make in problems().items():
        if args.only not in name:
            continue
        problem = make()
        found = measure(problem, keys, args.limit)
        own = median_generation(found["reached"]["automatic"])[0]
        ratios.append(own / found["best"])
        rows.append(
            [
                name,
                f"{problem.target:.3g}",
                # (1,M) has no use for the loss of its parent.
                *(evaluations(one[0], M + (k != "cumulative")) for k, one in found["reached"].items()),
                f"{(M + 1) * found['best']:,.0f}" if np.isfinite(found["best"]) else "not reached",
                f"{found['sigma']:.2g}",
                f"{ratios[-1]:.2f}",
            ]
        )
        print(rows[-1], flush=True)
    head = [
        "problem",
        "loss to reach",
        "evaluations, automatic: median (min to max)",
        "success rule",
        "cumulative, (1,20)",
        "best fixed σ",
        "which σ",
        "automatic over best fixed",
    ]
    text = (
        f"Median over {args.repetitions} seeds, M = {M}, at most {args.limit:,} generations of {M + 1} evaluations; fixed: the "
        f"best of {len(GRID)} from {GRID[0]:g} to {GRID[-1]:.2g}; controllers start at σ = {FIRST_SIGMA}. Automatic needs no "
        f"more than the best fixed σ on {sum(ratio <= 1 for ratio in ratios)} of {len(ratios)} problems; largest ratio "
        f"{max(ratios):.2f}, median {statistics.median(ratios):.2f}."
    )
    name = "sigma" + ("_" + args.only.replace(" ", "_") if args.only else "")
    common.report(name, [common.table(head, rows), text], args, "one seed after another")


if __name__ == "__main__":
    main()
