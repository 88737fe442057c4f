"""What moves in a population where an assumption of the third model fails: laws of one mutation at a time, and populations."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mutagrad.lab.claims.sourbut2022.populations import Population, time_to_an_end
from mutagrad.lab.claims.sourbut2022.turnover import turnover_of
from mutagrad.theory.population import fixation_by, transition_matrix
from mutagrad.types import Algorithm

__all__ = [
    "Large",
    "Moves",
    "Sloping",
    "along_a_slope",
    "crowding",
    "large",
    "of_large",
    "of_mixing",
    "response",
    "travel",
    "turn_of_next_order",
]

MODEL = "wright_fisher"


@cache
def _fixed(number: int, s: float) -> float:
    """Probability that one mutant among n is fixed, from the exact chain."""
    return float(fixation_by(math.inf, s, number, MODEL))


def of_mixing(number: int, demes: int) -> int:
    """n − D: the mean step of the fixed part is μβσ²|∇U| times it, whatever share of births migrates, if any does.

    A mutation of selection coefficient s has the share p_j of deme j and p̄ of all. A generation changes p̄ by s times the mean of
    p_j(1 − p_j), and by chance with the variance of the mean of p'_j(1 − p'_j)/n, where p'_j is what deme j draws its parents
    from. Chance takes p̄ from 1/n to 0 or 1, so that these variances sum up to (1 − 1/n)/n. Drawing n/D genomes from p'_j leaves
    the share 1 − D/n of p'_j(1 − p'_j). With the first generation, (1 − D/n)/n, the means of p_j(1 − p_j) sum up to 1 − D/n. The
    chance of fixation is 1/n + s times that. For D = 1 it is theory.md 6.4; that migration does not matter was found by
    Maruyama (1970).
    """
    return number - demes


class Sloping(NamedTuple):
    """What is fixed on a slope in one deme, one mutation at a time.

    Attributes
    ----------
    step : mean step over μ(n − 1)βσ²|∇U|. number : of mutations, over μ. square : their mean square along ∇U, over μσ².
    """

    step: float
    number: float
    square: float


def along_a_slope(number: int, slope: float) -> Sloping:
    """Moments of what is fixed, from the exact chain.

    Parameters
    ----------
    number : n. slope : βσ|∇U|.
    """
    z, weight = np.polynomial.hermite_e.hermegauss(24)
    weight = weight / weight.sum()
    fixed = np.array([_fixed(number, slope * one) for one in z])
    step = number * (weight * z) @ fixed / slope / (number - 1) if slope else 1.0
    return Sloping(float(step), float(number * weight @ fixed), float(number * (weight * z**2) @ fixed))


def crowding(number: int, rate: float, slope: float) -> float:
    """By which share mutations in flight slow each other: 4V, V = (n − 1)μ(βσ|∇U|)² (theory.md 6.4)."""
    return 4 * (number - 1) * rate * slope**2


class Large(NamedTuple):
    """What one mutation of a quadratic moves in the mean, in units of σ, by quadrature of the exact chain.

    Attributes
    ----------
    step : (2,) E[zA], along −∇U and at right angles to it, away from the steep axis. covariance : (2, 2) of one mutation.
    time : mean number of generations until it is fixed or lost.
    """

    step: np.ndarray
    covariance: np.ndarray
    time: float


def large(number: int, sigma: float, curvatures: tuple[float, float]) -> Large:
    """The law of U = ½Σλ_i x_i² where ∇U = (1, 1)/√2 and β = 1.

    Parameters
    ----------
    number : n. sigma : σ. curvatures : λ, the larger one first.
    """
    lowest = -10.0
    highest = sum(1 / one for one in curvatures) / 4
    grid = np.linspace(lowest, highest, 1200)
    chances = np.log([_fixed(number, float(s)) for s in grid])
    times = np.array([time_to_an_end(float(s), number, MODEL) for s in grid[::8]])
    z = np.linspace(-7, 7, 561)
    one = np.exp(-(z**2) / 2)
    weight = np.outer(one, one) / one.sum() ** 2
    along, across = (z[:, None] + sign * z[None] for sign in (1, -1))
    falls = (
        -sigma * along / math.sqrt(2) - sigma**2 * (curvatures[0] * z[:, None] ** 2 + curvatures[1] * z[None] ** 2) / 2
    )
    fixed = weight * np.where(falls < lowest, 0, np.exp(np.interp(falls, grid, chances)))
    moved = np.stack([-along, across]) / math.sqrt(2)
    step = np.einsum("xy,ixy->i", fixed, moved)
    squares = np.einsum("xy,ixy,jxy->ij", fixed, moved, moved)
    # What is hopeless is lost in the generation after the first.
    time = float(np.sum(weight * np.interp(falls, grid[::8], times)))
    return Large(step, squares - np.outer(step, step), time)


def turn_of_next_order(number: int, sigma: float, curvatures: tuple[float, float]) -> float:
    """The tangent of the turn in `large` to first order in σ².

    Let fixation be of the probability 1/n + u₁s + u₂s², s = −∇U·ε − ½ε·Hε. Then the mean of ε is along
    −∇U + (u₂/u₁)σ²(2H∇U + ∇U TrH).
    """
    up, none, down = (_fixed(number, s) for s in (0.01, 0.0, -0.01))
    first, second = (up - down) / 0.02, (up + down - 2 * none) / (2 * 0.01**2)
    return second / first * sigma**2 * (curvatures[0] - curvatures[1])


def followed(
    step_fn: Callable[[Any, Any], tuple[Any, Any, jax.Array]], state: Any, nothing: Any, generations: int
) -> tuple[Any, jax.Array]:
    """Sums over the mutations that arise in so many generations, one at a time, and their number.

    Each is followed to its end, which the next one shows: of those that are still there at a given time more will be fixed than
    of all. ``step_fn(i, state) -> (state, what is summed, whether a mutation arose)``.
    """

    def body(i, carry):
        state, total, count = carry
        after, what, is_new = step_fn(i, state)
        return after, total + what, count + is_new

    def last(carry):
        i, state, total, _ = carry
        after, what, is_new = step_fn(i, state)
        return i + 1, after, total + jnp.where(is_new, 0, what), is_new

    state, total, count = jax.lax.fori_loop(0, generations, body, (state, nothing, 0))
    end = jax.lax.while_loop(lambda carry: ~carry[3], last, (generations, state, total, jnp.bool_(False)))
    return end[2], count


def of_large(number: int, curvatures: tuple, runs: int, generations: int) -> Callable[[jax.Array, float], np.ndarray]:
    """``run(key, sigma) -> (runs, 3)`` sums in populations where one mutation at a time segregates.

    They are those of the steps as in `Large.step`, and the number of mutations. Genomes are judged at the same place all the
    time, by their difference from the fixed part.
    """
    population = Population.of(1.0, 1.0, number, 0.0, MODEL, True)

    @jax.jit
    def run(keys, sigma):
        def one(key):
            def loss_fn(x):
                return jnp.sum(x) / math.sqrt(2) + jnp.sum(jnp.asarray(curvatures) * jnp.square(x)) / 2

            def step(i, state):
                after, told = population.step(jax.random.fold_in(key, i), state, loss_fn)
                x, y = after.ancestor / sigma / math.sqrt(2)
                # Back to the start, which is the place.
                return after._replace(ancestor=jnp.zeros(2)), jnp.stack([-(x + y), x - y]), told.is_new

            start = population.resting.init(jnp.zeros(2)).with_sigma(sigma)
            steps, count = followed(step, start, jnp.zeros(2), generations)
            return jnp.append(steps, count)

        return jax.vmap(one)(keys)

    return lambda key, sigma: np.asarray(run(jax.random.split(key, runs), jnp.float32(sigma)), float)


def response(number: int, frequency: float) -> complex:
    """Mean step of the fixed part over its linear law, where the slope turns by ω radians a generation, as a complex number.

    A mutation feels the slopes of all generations from its first to its fixation. T is the chain of its carriers without
    selection, Q that between the ends, and T_ij(j − i) the derivative of T in a selection coefficient. Over all that arise, they
    are in the states e₁(I − Q)⁻¹. So selection in one generation adds e₁(I − Q)⁻¹T'v_l to what is fixed l generations later,
    v_l the chance to be fixed in just so many. The sum over l of that times e^{−iωl} is the response; at ω = 0 it is (n − 1)/n.

    Parameters
    ----------
    number : n. frequency : ω [rad/generation].
    """
    chain, copies = transition_matrix(0.0, number, MODEL), np.arange(number + 1)
    inner, turn, unit = chain[1:-1, 1:-1], np.exp(-1j * frequency), np.eye(number - 1)
    visits = np.linalg.solve((unit - inner).T, unit[0])
    later = turn * np.linalg.solve(unit - turn * inner, chain[1:-1, -1])
    change = (chain * (copies[None] - copies[:, None]))[1:-1]
    return complex(visits @ change @ np.concatenate([[0], later, [1]])) * number / (number - 1)


class Moves(NamedTuple):
    """What many populations moved by a generation, in directions that turn with the slope.

    Attributes
    ----------
    fixed, mean : (runs, 2) of the fixed part and of the mean genome. number : (runs,) mutations that were fixed, a generation.
    """

    fixed: np.ndarray
    mean: np.ndarray
    number: np.ndarray


def travel(
    algorithm: Algorithm, losses_fn: Callable[[jax.Array, jax.Array, jax.Array], jax.Array], settings: dict[str, Any]
) -> Callable[..., Moves]:
    """``run(key, numbers, frequency)`` of populations whose genomes are judged at the same place all the time.

    Parameters
    ----------
    losses_fn : ``losses_fn(apart, generation, numbers) -> (n,)`` of the differences (n, 2) of all genomes from the fixed part.
    settings : has "runs", "burn" and "generations".

    Returns
    -------
    function of a key, of numbers that the losses take, and of ω by which directions turn [rad/generation].
    """
    first, last = settings["burn"], settings["burn"] + settings["generations"]

    def turned(step, angle):
        (x, y), cosine, sine = step, jnp.cos(angle), jnp.sin(angle)
        return jnp.stack([cosine * x + sine * y, cosine * y - sine * x])

    @jax.jit
    def run(keys, numbers, frequency):
        def one(key):
            def body(i, carry):
                state, before, sums = carry
                own = jax.random.fold_in(key, i)
                everyone = algorithm.ask(own, state).stacked()
                mean = jnp.mean(everyone, axis=0)
                after, info = algorithm.tell(own, state, losses_fn(everyone - state.ancestor, i, numbers))
                turnover = turnover_of(info)
                is_now = (first <= i) & (i < last)
                moved = jnp.where(is_now, turned(after.ancestor - state.ancestor, frequency * i), 0)
                # What the mean genome did in the generation before is known now.
                shifted = jnp.where((first < i) & (i <= last), turned(mean - before, frequency * (i - 1)), 0)
                told = jnp.stack([jnp.where(is_now, turnover.num_fixed, 0), turnover.num_dropped])
                return after, mean, sums + jnp.concatenate([moved, shifted, told.astype(moved.dtype)])

            start = algorithm.init(jnp.zeros(2)), jnp.zeros(2), jnp.zeros(6)
            return jax.lax.fori_loop(0, last + 1, body, start)[2]

        return jax.vmap(one)(keys)

    def moves(key: jax.Array, numbers: Any, frequency: float = 0.0) -> Moves:
        keys = jax.random.split(key, settings["runs"])
        found = np.asarray(run(keys, jnp.asarray(numbers, jnp.float32), jnp.float32(frequency)), float)
        assert not found[:, 5].any(), "capacity: a mutation found no place; pass a larger one"
        found /= settings["generations"]
        return Moves(found[:, :2], found[:, 2:4], found[:, 4])

    return moves
