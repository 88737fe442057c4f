"""Fixation of a mutation in a population of n: formulas that hold at any ns, and exact chains for small n (theory.md 6).

No function here has a model by default: runs of `mutagrad.population` are Wright and Fisher's, `mutagrad.fixation` is Moran's.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jax.typing import ArrayLike
from scipy import special

from mutagrad import check
from mutagrad.selection.takeover import FACTORS, strength_of_selection, takeover
from mutagrad.theory.population import arguments, waiting

__all__ = ["fixation_by", "fixation_probability", "fixation_time", "inverse_temperature", "transition_matrix"]

MODELS = tuple(FACTORS)
LARGEST = 2000
"""Genomes of the largest exact chain: its matrix has (n + 1)² numbers, and solving it takes n³ operations."""
TINY = 1e-290
"""Least probability of fixation that the chain is solved with as it is: floats lose digits below 10⁻³⁰⁷."""


def fixation_probability(s: ArrayLike, population_size: int, model: str) -> jax.Array:
    """Probability that one mutant of n takes over: (1 − e^{−s})/(1 − e^{−ns}), with 2s for Wright and Fisher.

    Computed without overflow or cancellation at any ns. It is 1/n at s = 0, and about s, or 2s, for 1/n ≪ s ≪ 1.

    Parameters
    ----------
    s : selection coefficient, ln of the mutant's fitness over that of the others, any shape; −βΔU for fitness e^{−βU}.
    population_size : n ≥ 1.
    model : "wright_fisher", haploid, as `mutagrad.population` is unless told otherwise: here it is Kimura's diffusion. Or
        "moran", as `mutagrad.fixation` is unless told otherwise: here it is exact.

    Returns
    -------
    array of the shape of ``s``.

    Raises
    ------
    ValueError : for n < 1, another model, or an s that is no number.

    Domain: Moran, any s; Wright and Fisher, \\|s\\| ≪ 1. `fixation_by` is exact for both.

    Source: [Mo58], [Ki62]; theory.md 6.1, tested in tests/theory/test_fixation.py.

    >>> import mutagrad
    >>> population = mutagrad.theory.population
    >>> [round(float(population.fixation_probability(s, 100, "moran")), 4) for s in (-0.1, 0.0, 0.1)]
    [0.0, 0.01, 0.0952]
    """
    size = check.count("population_size", population_size)
    factor = float(FACTORS[check.choice("model", model, MODELS)])
    try:
        advantage = factor * jnp.asarray(arguments.not_text(s), jnp.result_type(float))
    except (TypeError, ValueError):
        raise ValueError(f"s: got {arguments.shown(s)}; pass a number or an array of numbers") from None
    return takeover(advantage, size)


def inverse_temperature(population_size: int, model: str, beta: float = 1.0) -> float:
    """νβ at which the chain of fixed genomes samples e^{−νβU}: ν = n − 1, or 2(n − 1) for Wright and Fisher.

    Population size is inverse temperature: a larger population finds lower losses, and fluctuates less about them.

    Parameters
    ----------
    population_size : n ≥ 1.
    model : "wright_fisher", as `mutagrad.population` is unless told otherwise, or "moran", as `mutagrad.fixation` is.
    beta : strength of selection, fitness e^{−βU} [1/loss].

    Returns
    -------
    νβ [1/loss]; 0 for one genome, which any mutation takes over.

    Domain: one mutation at a time; Wright and Fisher with weak selection.

    Source: [SH05]; theory.md 6.2, tested in tests/theory/test_fixation.py.

    >>> import mutagrad
    >>> mutagrad.theory.population.inverse_temperature(101, "moran", beta=0.5)
    50.0
    """
    check.choice("model", model, MODELS)
    check.inverse_temperature(beta)
    return strength_of_selection(beta, check.count("population_size", population_size) - 1, model)


def transition_matrix(s: float, population_size: int, model: str) -> np.ndarray:
    """Chain of the number of mutants, from 0 to n: T[i, j] is the probability that i become j.

    A step is one birth and death (Moran: a parent by fitness, the dead one of all n), or a generation (Wright and Fisher: n
    offspring, each of a parent by fitness).

    Parameters
    ----------
    s : selection coefficient. population_size : n, from 1 to 2000. model : "moran" or "wright_fisher".

    Returns
    -------
    array (n + 1, n + 1) of float64, rows of sum 1.

    Raises
    ------
    ValueError : for another size or model, or an s that is not finite.

    Source: [Mo58]; [E04] 3; theory.md 6.1.

    >>> import mutagrad
    >>> mutagrad.theory.population.transition_matrix(0.0, 2, "moran").tolist()
    [[1.0, 0.0, 0.0], [0.25, 0.5, 0.25], [0.0, 0.0, 1.0]]
    """
    size = _size(population_size)
    check.choice("model", model, MODELS)
    s = arguments.finite("s", s, "pass a finite selection coefficient")
    mutants = np.arange(size + 1)
    # Share of mutants among parents, e^s i/(e^s i + n − i), without overflow.
    odds = np.log(np.maximum(mutants, 1) / np.maximum(size - mutants, 1)) + s
    share = np.where(mutants == 0, 0.0, np.where(mutants == size, 1.0, special.expit(odds)))
    if model == "wright_fisher":
        return scipy.stats.binom.pmf(mutants[None], size, share[:, None])
    chain = np.zeros((size + 1, size + 1))
    up, down = share * (size - mutants) / size, (1 - share) * mutants / size
    chain[mutants[:-1], mutants[1:]] = up[:-1]
    chain[mutants[1:], mutants[:-1]] = down[1:]
    chain[mutants, mutants] = 1 - up - down
    return chain


def fixation_by(
    time: float | Sequence[float], s: float, population_size: int, model: str, copies: int = 1
) -> np.ndarray:
    """Probability that a mutation is fixed by a time, exactly, from the chain of its number.

    Parameters
    ----------
    time : generations, a number or several; infinity is fixation at all. A generation of Moran is n births and deaths; between
        steps the time is rounded down.
    s, population_size, model : as in `transition_matrix`.
    copies : mutants at the start, from 0 to n.

    Returns
    -------
    float64, of the shape of ``time``.

    Raises
    ------
    ValueError : as `transition_matrix`, for times below 0, or for copies that are none of 0 to n.

    Source: theory.md 6.6, tested in tests/theory/test_fixation.py.

    >>> import math, mutagrad
    >>> found = mutagrad.theory.population.fixation_by([0, 10, math.inf], 0.5, 20, "moran")
    >>> found.round(4).tolist()
    [0.0, 0.2155, 0.3935]
    """
    chain = transition_matrix(s, population_size, model)
    size = len(chain) - 1
    copies = _copies(copies, size)
    times = arguments.generations(time)
    found = np.empty(times.shape)
    for place, one in np.ndenumerate(times):
        if math.isinf(one):
            found[place] = _ever(chain)[copies]
        else:
            steps = math.floor(one * (size if model == "moran" else 1) + 1e-9)
            found[place] = np.linalg.matrix_power(chain, steps)[copies, size]
    return found


def fixation_time(s: float, population_size: int, model: str, copies: int = 1) -> float:
    """Mean time to fixation of the mutations that are fixed, exactly [generations].

    For a neutral one it is about n generations of Moran, and 2n of Wright and Fisher.

    Parameters
    ----------
    s, population_size, model, copies : as in `fixation_by`, with at least one copy.

    Raises
    ------
    ValueError : as `fixation_by`.

    Source: [E04] 2.12, 3.3; theory.md 6.6, tested in tests/theory/test_fixation.py.

    >>> import mutagrad
    >>> round(mutagrad.theory.population.fixation_time(0.0, 100, "moran"), 6)
    99.0
    """
    chain = transition_matrix(s, population_size, model)
    size, copies = len(chain) - 1, _copies(copies, len(chain) - 1, at_least=1)
    if copies == size:
        return 0.0
    ever = _ever(chain)[1:-1]
    if s < 0 and np.min(ever) < TINY:
        found = getattr(waiting, model)(float(s), size, copies)
        return found / (size if model == "moran" else 1)
    # The chain of those that will be fixed (Doob's transform) has T[i, j] u[j]/u[i].
    fixing = chain[1:-1, 1:-1] * (ever[None] / ever[:, None])
    to_go = np.linalg.solve(np.eye(size - 1) - fixing, np.ones(size - 1))
    return float(to_go[copies - 1]) / (size if model == "moran" else 1)


def _ever(chain: np.ndarray) -> np.ndarray:
    """Probability of fixation from every number of mutants, each to its last digits, however small.

    States are taken out one after the other, from the highest down. Every step adds and divides, and none subtracts
    (Grassmann, Taksar, Heyman 1985).
    """
    left = chain.copy()
    size = len(chain) - 1
    for state in range(size - 1, 1, -1):
        others = left[state].copy()
        others[state] = 0
        others /= others.sum()
        left[:state] += left[:state, state : state + 1] * others
        left[:state, state] = 0
        left[state] = others
    found = np.zeros(size + 1)
    found[size] = 1
    for state in range(1, size):
        row = left[state].copy()
        row[state] = 0
        found[state] = row @ found / row.sum()
    return found


def _size(population_size: int) -> int:
    size = check.count("population_size", population_size)
    if size > LARGEST:
        raise ValueError(
            f"population_size: got {size}; pass {LARGEST} at most, or use fixation_probability, which needs no chain"
        )
    return size


def _copies(copies: int, size: int, at_least: int = 0) -> int:
    copies = check.count("copies", copies, at_least)
    if copies > size:
        raise ValueError(f"copies: got {copies} of {size} genomes; pass {size} at most")
    return copies
