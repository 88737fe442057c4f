"""Many independent runs of one algorithm from one start, and the gradient descent and Langevin paths beside them."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mutagrad import theory
from mutagrad.lab.claims.claims import Job
from mutagrad.types import Algorithm, Definition

__all__ = ["Experiment", "Runs", "descend", "langevin_runs", "mean_of", "sigma_of", "simulate"]


class Runs(NamedTuple):
    """n runs, recorded at R times.

    Attributes
    ----------
    params : (n, R, N).
    losses : (n, R).
    """

    params: np.ndarray
    losses: np.ndarray


def mean_of(losses_fn: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array], jax.Array]:
    """The mean of per-example losses, as a loss."""
    return lambda x: jnp.mean(losses_fn(x))


def sigma_of(algorithm: Algorithm) -> float:
    """The mutation scale of an algorithm that keeps one."""
    assert isinstance(algorithm.definition, Definition)
    return float(algorithm.definition.sigma)


def at_once() -> int:
    """Runs that are evaluated together: on a CPU their per-example losses stay in the cache."""
    return 64 if jax.default_backend() == "cpu" else 1024


class Experiment(NamedTuple):
    """Independent runs of an algorithm from one start.

    Attributes
    ----------
    name : with all that the runs depend on; kept parts of the same name are the same.
    algorithm, losses_fn, start : what runs, on which per-example losses, and from where, (N,).
    number : n runs. generations : of each. records : R times at which parameters and losses are kept, equally far apart.
    seed : of all of them.
    """

    name: str
    algorithm: Algorithm
    losses_fn: Callable[[jax.Array], jax.Array]
    start: jax.Array
    number: int
    generations: int
    records: int
    seed: int = 1


def simulate(job: Job, experiment: Experiment) -> Runs:
    """The runs of an experiment.

    Every block of runs is kept by the job at each record, so that a run that was interrupted goes on from there.

    Parameters
    ----------
    job : shows progress and keeps what is done.
    experiment : see `Experiment`.

    Raises
    ------
    ValueError : if the generations are not a multiple of the records.
    """
    name, algorithm, losses_fn, start, number, generations, records, seed = experiment
    between, rest = divmod(generations, records)
    if rest or not between:
        raise ValueError(f"generations: got {generations} with {records} records; pass a multiple of the records")

    # The program ends a record in plain arrays: what a block needs to go on is its parameters and generation.
    @partial(jax.jit, static_argnums=3)
    def advance(keys, params, generation, steps):
        def run(key, x):
            def body(i, state):
                return algorithm.step(jax.random.fold_in(key, generation + i), state, losses_fn)[0]

            state = jax.lax.fori_loop(0, steps, body, algorithm.init(x, losses_fn))
            return state.params, jnp.mean(losses_fn(state.params))

        return jax.vmap(run)(keys, params)

    size = min(number, at_once())
    blocks = []
    for first in range(0, number, size):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), first), min(size, number - first))
        part = f"{name} runs {first} to {first + len(keys)}"
        kept = job.load(part) or {"params": np.empty((len(keys), 0, start.size)), "losses": np.empty((len(keys), 0))}
        kept = {key: values.astype(start.dtype) for key, values in kept.items()}
        for record in range(kept["losses"].shape[1], records):
            x = kept["params"][:, -1] if record else np.broadcast_to(start, (len(keys), start.size))
            params, losses = advance(keys, jnp.asarray(x), jnp.int32(record * between), between)
            kept["params"] = np.concatenate([kept["params"], np.asarray(params)[:, None]], axis=1)
            kept["losses"] = np.concatenate([kept["losses"], np.asarray(losses)[:, None]], axis=1)
            job.keep(part, kept, is_last=record + 1 == records)
            job.progress((first + len(keys) * (record + 1) / records) / number)
        blocks.append(kept)
    return Runs(*(np.concatenate([block[field] for block in blocks]) for field in Runs._fields))


def descend(
    optimizer: optax.GradientTransformation,
    losses_fn: Callable[[jax.Array], jax.Array],
    start: jax.Array,
    steps: int,
    records: int,
) -> Runs:
    """One descent by an optimiser, at the same times as the runs beside it; one "run"."""
    loss_fn, between = mean_of(losses_fn), steps // records

    @jax.jit
    def advance(x, state):
        def body(_, carry):
            x, state = carry
            updates, state = optimizer.update(jax.grad(loss_fn)(x), state, x)
            return optax.apply_updates(x, updates), state

        return jax.lax.fori_loop(0, between, body, (x, state))

    x, state, found = start, optimizer.init(start), []
    for _ in range(records):
        x, state = advance(x, state)
        found.append((np.asarray(x), float(loss_fn(x))))
    return Runs(np.stack([one[0] for one in found])[None], np.array([[one[1] for one in found]]))


def langevin_runs(job: Job, experiment: Experiment, steps: int) -> Runs:
    """Paths of the Langevin equation of an experiment's algorithm at the same times, by Euler's method in so many steps."""
    name, algorithm, losses_fn, start, number, generations, records, seed = experiment
    equation = theory.langevin(algorithm, jax.grad(mean_of(losses_fn)))
    times = jnp.linspace(0, generations, records + 1)[1:]
    solve = jax.jit(jax.vmap(lambda key: equation.solve(key, start, generations, steps, times)))
    losses_of = jax.jit(jax.vmap(jax.vmap(mean_of(losses_fn))))
    size = min(number, at_once() // 2)
    blocks = []
    for first in range(0, number, size):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed + 1), first), min(size, number - first))
        part = f"{name} langevin {steps} runs {first} to {first + len(keys)}"
        kept = job.load(part)
        if kept is None:
            params = solve(keys)
            kept = {"params": np.asarray(params), "losses": np.asarray(losses_of(params))}
            job.keep(part, kept, is_last=True)
        job.progress((first + len(keys)) / number)
        blocks.append(kept)
    return Runs(*(np.concatenate([block[field] for block in blocks]) for field in Runs._fields))
