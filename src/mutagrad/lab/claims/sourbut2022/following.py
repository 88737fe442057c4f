"""Lineages and populations behind an optimum that moves at a constant velocity and then stops, and the law of their course."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import mutagrad
from mutagrad import theory
from mutagrad.lab.claims.claims import Job
from mutagrad.lab.claims.sourbut2022.turnover import turnover_of

__all__ = [
    "BINS",
    "BLOCKS",
    "FALL",
    "FLAT",
    "RISE",
    "Follower",
    "Law",
    "at_rest",
    "course",
    "follower_of",
    "optimum",
    "part",
    "runs_of",
    "shorter",
]

BLOCKS, BINS, _PARTS = 64, 16, 4
RISE, FLAT, FALL = 6, 12, 6
"""Parts of a run, in relaxation times 1/ηλ of the flattest direction; a bin is a sixteenth of one."""


class Follower(NamedTuple):
    """What follows the optimum, and how by first order.

    Attributes
    ----------
    kind : "lineage" or "population". algorithm : the library's. curvatures : (N,) λ.
    sigma : of a mutation. rate : η, of a generation. kappa : inverse temperature κ of what is fixed. genomes : n. arising : μ.
    """

    kind: str
    algorithm: mutagrad.Algorithm
    curvatures: np.ndarray
    sigma: float
    rate: float
    kappa: float
    genomes: int
    arising: float

    @property
    def relaxations(self) -> np.ndarray:
        """(N,) ηλ."""
        return self.rate * self.curvatures

    @property
    def unit(self) -> int:
        """Generations of the relaxation of the flattest direction, in whole bins."""
        return BINS * math.ceil(1 / self.relaxations.min() / BINS)

    def velocity(self, b: float) -> float:
        """v of every coordinate, such that κσ|∇U| is b at the lag of first order, where ∇U = −v/η."""
        return b * self.rate / (self.kappa * self.sigma * math.sqrt(len(self.curvatures)))


def follower_of(settings: dict[str, Any], kind: str) -> Follower:
    """One lineage of logistic selection, or a population whose genomes mix freely; β = 1."""
    curvatures, number, arising = np.array(settings["curvatures"]), settings["genomes"], settings["arising"]
    if kind == "lineage":
        sigma = math.sqrt(settings["strength"])
        algorithm = mutagrad.logistic(sigma, 1.0)
        rate = float(theory.learning_rate(algorithm, "plain"))
        return Follower(kind, algorithm, curvatures, sigma, rate, 1.0, 1, 1.0)
    sigma = math.sqrt(settings["strength_of_population"] / number)
    algorithm = mutagrad.population(sigma, 1.0, number, arising, capacity=settings["capacity"])
    rates = theory.population.learning_rates(sigma, 1.0, number, arising)
    return Follower(
        kind, algorithm, curvatures, sigma, rates.per_generation, rates.inverse_temperature, number, arising
    )


def optimum(velocity: Any, generation: Any, stop: int) -> Any:
    """Where the optimum is: it moves until a generation, and stays there."""
    return velocity * jnp.minimum(generation, stop)


class Law(NamedTuple):
    """The mean course from the optimum on, in bins of time, to next order.

    Attributes
    ----------
    mean : (bins, N) of x less the optimum. loss : (bins,) mean loss, of all genomes where there are many.
    longer : (N,) share by which a lasting lag is longer than v/ηλ.
    """

    mean: np.ndarray
    loss: np.ndarray
    longer: np.ndarray


def shorter(follower: Follower, mean: np.ndarray) -> np.ndarray:
    """By which share steps are shorter than −ηλȳ, and lags longer than v/ηλ, to next order, at a mean ȳ of x less the optimum.

    One lineage: acceptance is ½ − ¼βΔU + (βΔU)³/48, and x is normal about its mean with the variances 1/βλ of e^{−βU}. Then
    E[Δx] = −ηλȳ(1 − ¼(b² + βσ²(TrH + 2λ))), b = βσ|∇U| at the mean (theory.md 11.6).

    A population: selection for the optimum takes the share nβσ²(TrH + 2λ)/6 of the genetic variance G = (n − 1)μσ², and the
    associations that it makes take ηλ. The response of a normal population is less by ηλ. Where G is large by chance the lag is
    short, which takes Σ_jVar(G_ij)/G² · nηλ_j/(1 + nηλ_j), the variance being 1/6nμ, and 1/2nμ for i = j. The logarithm of
    fitness varies by V = β²∇U·G∇U, which leaves n/(1 + 4V) genomes (theory.md 6.4). Selection in exact chains of Wright and
    Fisher is weaker than in the diffusion by ¾n(βσ|∇U|)².
    """
    curvatures, sigma, genomes = follower.curvatures, follower.sigma, follower.genomes
    spread, slope = sigma**2 * (curvatures.sum() + 2 * curvatures), sigma**2 * np.sum((curvatures * mean) ** 2)
    if follower.kind == "lineage":
        return (slope + spread) / 4
    known = genomes * follower.relaxations / (1 + genomes * follower.relaxations)
    fluctuating = (known.sum() + 2 * known) / (6 * genomes * follower.arising)
    drifting = (4 * (genomes - 1) * follower.arising + 0.75 * genomes) * slope
    return genomes * spread / 6 + 2 * follower.relaxations + fluctuating + drifting


def _within(follower: Follower) -> float:
    """Loss of what genomes differ by, ½Tr(HG), to next order."""
    if follower.kind == "lineage":
        return 0.0
    less = follower.genomes * follower.sigma**2 * (follower.curvatures.sum() + 2 * follower.curvatures) / 6
    return float(follower.rate * (1 - less - follower.relaxations) @ follower.curvatures / 2)


def at_rest(follower: Follower) -> float:
    """Mean loss where nothing moves: N/2κ of the law e^{−κU}, and what genomes differ by."""
    return len(follower.curvatures) / 2 / follower.kappa + _within(follower)


def course(follower: Follower, velocity: float) -> Law:
    """The law of a lineage or population that starts on the optimum.

    Variances are 1/κλ. Those of one lineage that lags are larger by the shares b²/4 + 3b_i²/8, b_i = βσ|∂_iU|.
    """
    number, every = len(follower.curvatures), follower.unit // BINS
    lags = -velocity / follower.relaxations
    longer, means, losses = shorter(follower, lags), [], []
    mean, variance = np.zeros((2, number))
    for generation in range((RISE + FLAT + FALL) * follower.unit):
        means.append(mean)
        losses.append(follower.curvatures @ (mean**2 + variance) / 2 + _within(follower))
        relaxing = follower.relaxations / (1 + shorter(follower, mean))
        slopes = (follower.sigma * follower.curvatures * mean) ** 2 * (follower.kind == "lineage")
        settled = (1 + slopes.sum() / 4 + 3 * slopes / 8) / follower.kappa / follower.curvatures
        variance = variance + 2 * relaxing * (settled - variance)
        mean = mean * (1 - relaxing) - velocity * (generation < (RISE + FLAT) * follower.unit)
    return Law(np.reshape(means, (-1, every, number)).mean(1), np.reshape(losses, (-1, every)).mean(1), longer)


def part(first: float, last: float) -> slice:
    """Bins from one time to another, in relaxation times after the optimum has stopped."""
    return slice(*(round((time + RISE + FLAT) * BINS) for time in (first, last)))


def runs_of(job: Job, key: jax.Array, follower: Follower, velocity: float, runs: int) -> np.ndarray:
    """(blocks, bins, N + 2) means over bins of time and blocks of runs, all of which start on the optimum.

    Of x less the optimum, the mean genome where there are many; of the loss; of what a generation of one lineage gains on the
    optimum that it met, or of −βG∇U in the mean over coordinates.
    """
    curvatures, stop = jnp.asarray(follower.curvatures, jnp.float32), (RISE + FLAT) * follower.unit
    number, algorithm, directions = len(follower.curvatures), follower.algorithm, jnp.eye(len(follower.curvatures))

    def lineage(key: jax.Array, state: Any, place: jax.Array) -> tuple[Any, jax.Array]:
        apart = state.params - place
        after, info = algorithm.step(key, state, lambda x: number / 2 * curvatures * jnp.square(x - place))
        return after, jnp.append(apart, jnp.stack([info.parent_loss, -info.loss_change]))

    def population(key: jax.Array, state: Any, place: jax.Array) -> tuple[Any, jax.Array]:
        genomes = algorithm.ask(key, state)
        losses = jnp.square(genomes.stacked() - place) @ curvatures / 2
        apart = genomes.mean() - place
        response = theory.population.breeders_equation(genomes.covariance(directions), curvatures * apart)
        after, info = algorithm.tell(key, state, losses)
        # Of a mutation that found no place nothing is known.
        is_whole = turnover_of(info).num_dropped == 0
        told = jnp.stack([jnp.mean(losses), jnp.mean(response)])
        return after, jnp.where(is_whole, jnp.append(apart, told), jnp.nan)

    advance = {"lineage": lineage, "population": population}[follower.kind]

    def one(key: jax.Array) -> jax.Array:
        def body(i: Any, carry: Any) -> Any:
            state, sums, first = carry
            place = optimum(jnp.full(number, velocity), first + i, stop)
            state, told = advance(jax.random.fold_in(key, first + i), state, place)
            return state, sums + told, first

        def record(state: Any, first: jax.Array) -> tuple[Any, jax.Array]:
            state, sums, _ = jax.lax.fori_loop(0, every, body, (state, jnp.zeros(number + 2), first))
            return state, sums / every

        return jax.lax.scan(record, algorithm.init(jnp.zeros(number)), every * jnp.arange(bins))[1]

    every, bins = follower.unit // BINS, (RISE + FLAT + FALL) * BINS
    some = jax.jit(lambda keys: jnp.mean(jax.vmap(jax.vmap(one))(keys), axis=1))
    found = []
    for index in range(_PARTS):
        keys = jax.random.split(jax.random.fold_in(key, index), (BLOCKS // _PARTS, runs // BLOCKS))
        found.append(some(keys))
        job.progress((index + 1) / _PARTS)
    return np.concatenate(found).astype(float)
