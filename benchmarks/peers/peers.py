"""Who minimises: each with its own defaults, but for the population and the first σ, which the line gives."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

import mutagrad
from benchmarks import common
from benchmarks.peers.lines import Line

__all__ = ["PEERS", "Advance"]

Advance = Callable[[], tuple[int, float]]
"""A call runs some generations, and returns how many, and the best loss that was seen in the last of them."""
_SMALL = 2000
"""Parameters up to which a full covariance matrix is asked for."""


def _scanned(generation: Callable, state: Any, data: Any) -> Advance:
    """Generations of a JAX library in a scan, of a length that takes a quarter of a second; the state is donated."""
    held: dict[str, Any] = {"state": jax.tree.map(jnp.copy, state), "key": jax.random.key(0), "length": 1, "calls": 0}

    @partial(jax.jit, donate_argnums=1, static_argnums=3)
    def loop(key, state, data, length):
        keys = jax.random.split(key, length)
        state, losses = jax.lax.scan(lambda state, key: generation(key, state, data), state, keys)
        return state, losses[-1]

    def advance() -> tuple[int, float]:
        held["key"], key = jax.random.split(held["key"])
        held["state"], loss = loop(key, held["state"], data, held["length"])
        return held["length"], float(loss)

    def longer(length: int) -> None:
        held["length"] = length

    advance.longer = longer  # type: ignore[attr-defined]
    return advance


def ours(line: Line, make: Callable, **options: Any) -> Advance:
    """``algorithm.step`` in a scan."""
    algorithm = mutagrad.adapt_sigma(make(sigma=line.sigma, num_offspring=line.num_offspring, **options))
    state = algorithm.init(line.params, lambda params: line.losses(params, line.data))

    def generation(key, state, data):
        state, info = algorithm.step(key, state, partial(_with, line.losses, data), is_resampled=False)
        return state, jnp.minimum(info.parent_loss, jnp.min(info.losses))

    return _scanned(generation, state, line.data)


def _with(losses: Callable, data: Any, params: Any) -> Any:
    return losses(params, data)


def ours_evolve(line: Line) -> Advance:
    """`mutagrad.generations`, which `evolve` runs: history, chunks and all."""
    algorithm = mutagrad.adapt_sigma(mutagrad.elitist(sigma=line.sigma, num_offspring=line.num_offspring))

    def losses(params, data):
        return line.losses(params, data[0])

    batches = (lambda key: (line.data,)) if line.data is not None else (lambda key: (jnp.zeros(()),))
    chunks: Iterator = mutagrad.generations(
        jax.random.key(0), algorithm, algorithm.init(line.params), losses, 10**9, batches=batches
    )

    def advance() -> tuple[int, float]:
        chunk = next(chunks)
        return chunk.num_generations, float(np.min(chunk.records["loss"]))

    return advance


def evosax_hill_climbing(line: Line) -> Advance:
    """The algorithm that (1+M) is, with its fixed σ."""
    generation, state = common.evosax_hill_climbing(
        line.params, common.mean_of(line.losses), line.sigma, line.num_offspring
    )
    return _scanned(generation, state, line.data)


def evosax_other(line: Line, name: str) -> Advance:
    """Another algorithm of evosax with its own defaults."""
    from evosax import algorithms

    options: dict[str, Any] = {}
    if name == "Open_ES":
        options["std_schedule"] = optax.constant_schedule(line.sigma)
    strategy = getattr(algorithms, name)(line.num_offspring, line.params, **options)
    settings = strategy.default_params
    if hasattr(settings, "std_init"):
        settings = settings.replace(std_init=line.sigma)

    def generation(key, state, data):
        ask_key, tell_key = jax.random.split(key)
        population, state = strategy.ask(ask_key, state, settings)
        fitness = jax.vmap(lambda params: jnp.mean(line.losses(params, data)))(population)
        state, _ = strategy.tell(tell_key, population, fitness, state, settings)
        return state, jnp.min(fitness)

    state = strategy.init(jax.random.key(0), line.params, settings)
    state = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.asarray(leaf).dtype), state)
    return _scanned(generation, state, line.data)


def gradients(line: Line, name: str) -> Advance:
    """optax: one gradient a generation, at a learning rate of 10⁻² for sgd and 10⁻³ for adam."""
    rule = optax.sgd(1e-2) if name == "sgd" else optax.adam(1e-3)

    def generation(key, state, data):
        params, inner = state
        loss, slope = jax.value_and_grad(lambda params: jnp.mean(line.losses(params, data)))(params)
        updates, inner = rule.update(slope, inner, params)
        return (optax.apply_updates(params, updates), inner), loss

    return _scanned(generation, (line.params, rule.init(line.params)), line.data)


def _on_vectors(line: Line) -> tuple[np.ndarray, Callable[[np.ndarray], float]]:
    """The start and the loss as functions of NumPy vectors: the same model, compiled."""
    start, unravel = ravel_pytree(line.params)
    compiled = jax.jit(lambda x, data: jnp.mean(line.losses(unravel(x), data)))
    return np.asarray(start, np.float64), lambda x: float(compiled(np.asarray(x, np.float32), line.data))


def pycma(line: Line) -> Advance:
    """CMA-ES of pycma, ask and tell."""
    import cma

    start, loss = _on_vectors(line)
    if start.size > _SMALL:
        raise MemoryError(f"a covariance of {start.size:,}² numbers")
    strategy = cma.CMAEvolutionStrategy(
        start, line.sigma, {"popsize": line.num_offspring, "verbose": -9, "seed": 1, "maxiter": 10**9, "tolfun": 0}
    )

    def advance() -> tuple[int, float]:
        candidates = strategy.ask()
        found = [loss(one) for one in candidates]
        strategy.tell(candidates, found)
        return 1, min(found)

    return advance


def nevergrad_other(line: Line, name: str) -> Advance:
    """An optimiser of nevergrad, ask and tell."""
    import nevergrad

    start, loss = _on_vectors(line)
    space = nevergrad.p.Array(init=start).set_mutation(sigma=line.sigma)
    space.random_state.seed(1)
    optimizer = nevergrad.optimizers.registry[name](parametrization=space, budget=10**9)

    def advance() -> tuple[int, float]:
        found = []
        for _ in range(line.num_offspring):
            candidate = optimizer.ask()
            found.append(loss(candidate.value))
            optimizer.tell(candidate, found[-1])
        return 1, min(found)

    return advance


def pygad(line: Line) -> Advance:
    """A genetic algorithm of PyGAD: its defaults, gaussian-like mutations of ±σ, one parent kept."""
    import pygad as library

    start, loss = _on_vectors(line)
    rng = np.random.default_rng(1)
    first = start + line.sigma * rng.standard_normal((line.num_offspring, start.size))
    held = {"population": first}

    def advance() -> tuple[int, float]:
        run = library.GA(
            num_generations=1,
            num_parents_mating=2,
            fitness_func=lambda ga, solution, index: -loss(solution),
            initial_population=held["population"],
            random_mutation_min_val=-line.sigma,
            random_mutation_max_val=line.sigma,
            mutation_percent_genes=10,
            suppress_warnings=True,
        )
        run.run()
        held["population"] = run.population
        return 1, float(-np.max(run.last_generation_fitness))

    return advance


PEERS: dict[str, Callable[[Line], Advance]] = {
    "mutagrad elitist": lambda line: ours(line, mutagrad.elitist),
    "mutagrad elitist, evolve": ours_evolve,
    "mutagrad elitist, low rank": lambda line: ours(line, mutagrad.elitist, mutation=mutagrad.mutation.low_rank(1)),
    "mutagrad weighted_recombination": lambda line: ours(line, mutagrad.weighted_recombination),
    "evosax HillClimbing": evosax_hill_climbing,
    "evosax Open_ES": lambda line: evosax_other(line, "Open_ES"),
    "evosax CMA_ES": lambda line: evosax_other(line, "CMA_ES"),
    "pycma CMA-ES": pycma,
    "nevergrad OnePlusOne": lambda line: nevergrad_other(line, "OnePlusOne"),
    "nevergrad CMA": lambda line: nevergrad_other(line, "CMA"),
    "PyGAD GA": pygad,
    "optax sgd": lambda line: gradients(line, "sgd"),
    "optax adam": lambda line: gradients(line, "adam"),
}
