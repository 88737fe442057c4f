"""Real populations in which one mutation at a time segregates: births and deaths, and no formula for what they fix."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

import mutagrad
from mutagrad.lab.claims.claims import Job
from mutagrad.theory.population import fixation_by, inverse_temperature, transition_matrix
from mutagrad.types import Algorithm, Mutation

__all__ = [
    "Population",
    "Told",
    "averages",
    "constant",
    "means",
    "stationary_of_chain",
    "time_to_an_end",
    "with_one_mutation",
]


class Told(NamedTuple):
    """What a birth and death, or a generation, did.

    Attributes
    ----------
    is_new : whether a mutation arose. is_fixed : whether one was fixed.
    """

    is_new: jax.Array
    is_fixed: jax.Array


class Population(NamedTuple):
    """`mutagrad.population` without recombination.

    Attributes
    ----------
    mutating : mutations arise in it. resting : the same without mutations.
    waits : whether the next mutation arises as soon as the one before is fixed or lost, and not before; else they arise at
        their own rate.
    """

    mutating: Algorithm
    resting: Algorithm
    waits: bool

    @classmethod
    def of(
        cls, sigma: float, beta: float, number: int, rate: float, model: str, waits: bool, mutation: Any = None
    ) -> "Population":
        """A population of n genomes.

        Parameters
        ----------
        sigma, beta : as in `mutagrad.population`. number : n. rate : mutations per birth.
        model : "moran", a birth and death at a time, or "wright_fisher", n births at a time.
        """

        def algorithm(rate: float) -> Algorithm:
            replaced = 1 if model == "moran" else None
            return mutagrad.population(
                sigma, beta, number, rate, recombination="none", num_replaced=replaced, capacity=32, mutation=mutation
            )

        return cls(algorithm(rate), algorithm(0.0), waits)

    def step(self, key: jax.Array, state: Any, loss_fn: Callable) -> tuple[Any, Told]:
        """The next state."""
        if not self.waits:
            after, info = _plain(self.mutating.step(key, state, loss_fn))
            return after, Told(info.turnover.num_new > 0, info.turnover.num_fixed > 0)
        arising, key = jax.random.split(key)
        is_idle = ~jnp.any(state.is_segregating)
        seed = jax.random.bits(arising, (2,), jnp.uint32)
        new = with_one_mutation(state, seed)
        state = jax.tree.map(lambda one, other: jnp.where(is_idle, one, other), new, state)
        after, info = _plain(self.resting.step(key, state, loss_fn))
        return after, Told(is_idle, info.turnover.num_fixed > 0)


def _plain(told: Any) -> Any:
    """State and `GenomeInfo`, which is no `Info`."""
    return told


def with_one_mutation(state: Any, seed: jax.Array) -> Any:
    """The state of a population with a new mutation of one genome.

    Parameters
    ----------
    state : of `mutagrad.population`, in which nothing segregates. seed : (2,) uint32, of the mutation's effect.
    """
    return state._replace(
        seeds=state.seeds.at[0].set(seed),
        carriers=state.carriers.at[0, 0].set(1),
        scales=state.scales.at[0].set(state.sigma),
        births=state.births.at[0].set(state.generation),
    )


def constant() -> Mutation:
    """Mutations that are all alike: every parameter changes by σ."""
    return Mutation(lambda key, params: jax.tree.map(jnp.ones_like, params), "constant")


def stationary_of_chain(
    model: str, number: int, kappa: float, spread: float, wait: float = math.inf
) -> tuple[float, float]:
    """κ E[x²] and P(κx² < 1) of the chain on ½x² whose acceptance is the exact fixation probability of a chain of n genomes.

    Parameters
    ----------
    model, number : of the population. kappa : νβ. spread : √κσ of the mutations.
    wait : mean time to the next mutation, in steps of the chain of mutants. The fixed part is then weighed by how long it stays,
        while it waits and while a mutation segregates; else by how many mutations it meets.
    """
    x, step = np.linspace(-6, 6, 301, retstep=True)
    beta = kappa / inverse_temperature(number, model)
    advantage = -beta * (x[None] ** 2 - x[:, None] ** 2) / 2 / kappa
    grid = np.linspace(advantage.min(), advantage.max(), 801)
    fixed = np.array([fixation_by(math.inf, s, number, model) for s in grid])
    proposed = scipy.stats.norm.pdf(x[None], x[:, None], spread) * step
    kernel = proposed * np.exp(np.interp(advantage, grid, np.log(fixed)))
    kernel[np.diag_indices_from(kernel)] = 0
    kernel[np.diag_indices_from(kernel)] = 1 - kernel.sum(1)
    equations = np.vstack([kernel.T - np.eye(len(x)), np.ones(len(x))])
    law = np.linalg.lstsq(equations, np.append(np.zeros(len(x)), 1.0), rcond=None)[0]
    if math.isfinite(wait):
        stays = np.array([time_to_an_end(s, number, model) for s in grid])
        law = law * (wait + np.sum(proposed * np.interp(advantage, grid, stays), axis=1))
        law /= law.sum()
    # The ends of the interval hold half a step each.
    inside = np.clip((1 - np.abs(x)) / step + 0.5, 0, 1)
    return float(law @ x**2), float(law @ inside)


def time_to_an_end(s: float, number: int, model: str) -> float:
    """Mean number of steps until one mutant is fixed or lost."""
    inner = transition_matrix(s, number, model)[1:-1, 1:-1]
    return float(np.linalg.solve(np.eye(len(inner)) - inner, np.ones(len(inner)))[0])


def averages(
    job: Job,
    name: str,
    advance: Callable,
    observe: Callable,
    start: Any,
    runs: int,
    steps: int,
    key: jax.Array,
) -> np.ndarray:
    """(runs, 3) sums of two observables and of their weights over the last three quarters of independent runs.

    Parameters
    ----------
    advance : ``advance(key, state) -> (state, weight)``. observe : ``observe(params) -> (2,)``.
    """
    name = f"{name}, {runs} runs of {steps}, key {job['key']}"
    kept = job.load(name)
    if kept is not None:
        return kept["sums"]

    @jax.jit
    def run(keys):
        def one(key):
            def body(i, carry):
                state, sums = carry
                after, weight = advance(jax.random.fold_in(key, i), state)
                weight = jnp.where(i >= steps // 4, weight, 0.0)
                seen = jnp.append(observe(state.params), 1.0)
                return after, sums + weight * seen

            return jax.lax.fori_loop(0, steps, body, (start, jnp.zeros(3)))[1]

        return jax.vmap(one)(keys)

    parts = []
    for part in jax.random.split(key, runs).reshape(-1, min(runs, 256)):
        parts.append(np.asarray(run(part), float))
        job.progress(len(parts) * len(part) / runs)
    sums = np.concatenate(parts)
    job.keep(name, {"sums": sums}, is_last=True)
    return sums


def means(sums: np.ndarray) -> list[tuple[float, float]]:
    """Two means over all runs, each with its error from the spread of the runs."""
    weight, found = sums[:, 2], []
    for values in sums[:, :2].T:
        mean = values.sum() / weight.sum()
        found.append((float(mean), float(np.std(values - mean * weight, ddof=1) * math.sqrt(len(sums)) / weight.sum())))
    return found
