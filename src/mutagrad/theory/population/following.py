"""How the fixed part of a population follows a slope that changes: by what fixation takes in time (theory.md 6.10)."""

import numpy as np

from mutagrad import check
from mutagrad.theory.population import arguments
from mutagrad.theory.population.fixation import transition_matrix

__all__ = ["response_kernel", "turning_response"]


def response_kernel(population_size: int, num_generations: int) -> np.ndarray:
    r"""How much of a generation's slope the fixed part follows so many generations later.

    With the learning rate η a generation of `learning_rates`, the fixed part moves in generation t by
    $-\eta\sum_l k_l\nabla U_{t-l}$ in the mean, and the mean genome by $-\eta\nabla U_t$. All $k_l$ sum up to 1. Their mean lag
    $\sum_l lk_l$ is about n generations, half of the time of fixation.

    Parameters
    ----------
    population_size : n, from 2 to 2000. num_generations : how many k there are, from that of the same generation on.

    Returns
    -------
    array (num_generations,) of float64: k_0, k_1, …

    Raises
    ------
    ValueError : for another size, or no generations.

    Domain: that of `learning_rates`, Wright and Fisher, one deme; a population in neutral equilibrium, which has run for some
    2n generations.

    Source: derived for this project, theory.md 6.10, tested in tests/theory/test_following.py.

    >>> import mutagrad
    >>> kernel = mutagrad.theory.population.response_kernel(50, 1000)
    >>> round(float(kernel.sum()), 4), round(float(kernel @ range(1000)), 1)
    (1.0, 47.0)
    """
    number = check.count("num_generations", num_generations)
    felt, stay, end = _felt(population_size)
    kernel = np.empty(number)
    kernel[0], inside = felt[-1], felt[1:-1]
    for lag in range(1, number):
        kernel[lag] = inside @ end
        inside = inside @ stay
    return kernel


def turning_response(population_size: int, turn: float) -> complex:
    r"""Mean step of the fixed part where the slope turns, over that on a slope that stays: $\sum_l k_l e^{-i\omega l}$.

    The real part is the step along the momentary −∇U. Less the imaginary part is the step a quarter turn behind it. Both are 0
    for a slope that turns many times while a mutation is fixed: then nothing is followed but its mean. The mean genome has 1 at
    any ω.

    Parameters
    ----------
    population_size : n, from 2 to 2000. turn : ω, by which the slope turns, or its phase if it oscillates [rad/generation].

    Raises
    ------
    ValueError : for another size, or a turn that is not finite.

    Domain: that of `response_kernel`, whose transform it is.

    Source: derived for this project, theory.md 6.10, tested in tests/theory/test_following.py.

    >>> import mutagrad
    >>> found = mutagrad.theory.population.turning_response(50, 0.02)
    >>> round(found.real, 2), round(-found.imag, 2)
    (0.53, 0.48)
    """
    turn = arguments.finite("turn", turn, "pass a finite angle per generation")
    felt, stay, end = _felt(population_size)
    later = np.exp(-1j * turn)
    return complex(felt[-1] + felt[1:-1] @ (later * np.linalg.solve(np.eye(len(end)) - later * stay, end)))


def _felt(population_size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By how much selection in one generation moves each number of carriers, (n + 1,); the chain between its ends, and to n.

    T without selection, Q between its ends. All mutations that segregate are in the states e₁(I − Q)⁻¹, over those that arise in
    a generation, and T_ij(j − i) is the derivative of T in a selection coefficient.
    """
    size = check.count("population_size", population_size, 2)
    chain, copies = transition_matrix(0.0, size, "wright_fisher"), np.arange(size + 1)
    stay, first = chain[1:-1, 1:-1], np.eye(size - 1)[0]
    visits = np.linalg.solve((np.eye(size - 1) - stay).T, first)
    change = (chain * (copies[None] - copies[:, None]))[1:-1]
    return visits @ change * size / (size - 1), stay, chain[1:-1, -1]
