"""Discrete parameters: how often a site mutates, and the drift of a site on a lattice (theory.md 10)."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from mutagrad import check
from mutagrad.law import Acceptance
from mutagrad.theory.definition import selection_law, sigma_of
from mutagrad.types import Algorithm

__all__ = ["mutation_probability", "site_drift"]


def mutation_probability(sigma: ArrayLike, step: float = 1.0) -> jax.Array:
    """Probability that a site of ordered values mutates: 2q/(1 + q) with q = μ/(μ + 1 + √(1 + 2μ)), μ = (σ/h)².

    For small σ it is (σ/h)². A jump that is reflected at an end of the range back to where it began counts as a mutation.

    Parameters
    ----------
    sigma : σ ≥ 0, any shape [parameter].
    step : h > 0, the distance of neighbouring values [parameter].

    Returns
    -------
    array of the shape of ``sigma``.

    Raises
    ------
    ValueError : if the step is not positive and finite.

    Source: [Ru94]; theory.md 10, tested in tests/mutation/test_domains.py.

    >>> import mutagrad
    >>> round(float(mutagrad.theory.mutation_probability(0.1)), 4)
    0.0099
    """
    check.positive("step", step)
    scale = _array("sigma", sigma)
    if check.is_concrete(scale) and not bool(np.all(np.asarray(scale) >= 0)):
        raise ValueError(f"sigma: got {sigma!r}; pass numbers of 0 or more")
    # Divided by μ, so that large σ do not overflow.
    inverse = jnp.square(step / scale)
    ratio = jnp.where(scale > 0, 1 / (1 + inverse + jnp.sqrt(inverse) * jnp.sqrt(inverse + 2)), 0)
    return 2 * ratio / (1 + ratio)


def _array(name: str, value: ArrayLike) -> jax.Array:
    """Real numbers, or a ValueError."""
    try:
        if not np.issubdtype(jnp.result_type(value), np.complexfloating):
            return jnp.asarray(value, jnp.result_type(float))
    except (TypeError, ValueError):
        pass
    raise ValueError(f"{name}: got {value!r}; pass numbers")


def site_drift(
    algorithm: Algorithm, loss_up: ArrayLike, loss_down: ArrayLike, sigma: ArrayLike | None = None, step: float = 1.0
) -> jax.Array:
    """Mean step of a site on a lattice whose mutations are accepted with a probability: ½ph (A(Δ₊) − A(Δ₋)).

    For small differences and a rule that is smooth at 0 it is gradient descent on centred differences,
    −¼βph² (Δ₊ − Δ₋)/2h for `mutagrad.logistic`. `mutagrad.metropolis` accepts all that is downhill, and so sees the difference
    uphill alone: −½βph² Δ₊/h, or +½βph² Δ₋/h. ph² takes the place of σ².

    Parameters
    ----------
    algorithm : one offspring, accepted with a probability: metropolis, logistic, greedy, fixation, or a rule of your own that
        states `mutagrad.law.Acceptance`.
    loss_up, loss_down : Δ₊ and Δ₋, the loss one step up and one step down less that of the parent, arrays of one shape
        [loss]; infinite at the ends of the range, where a step out of it is no step.
    sigma : σ in place of the algorithm's own [parameter].
    step : h > 0 [parameter].

    Returns
    -------
    array of the shape of the losses [parameter per generation].

    Raises
    ------
    ValueError : for a rule of another law, or a step that is not positive.

    Domain: one site moves at a time, σ²N/h² ≪ 1 for N sites; with more of them, small β(Δ₊ − Δ₋).

    Source: theory.md 10, derived for this project, tested in tests/mutation/test_domains.py.

    >>> import mutagrad
    >>> algorithm = mutagrad.logistic(sigma=0.01, beta=0.1)                             # p = 10⁻⁴
    >>> found = mutagrad.theory.site_drift(algorithm, loss_up=0.3, loss_down=-0.1)
    >>> bool(abs(found / (-0.1 * 1e-4 / 4 * 0.2) - 1) < 1e-3)                           # −¼βph² (Δ₊ − Δ₋)/2h
    True
    """
    law = selection_law(check.algorithm(algorithm).definition)
    if not isinstance(law, Acceptance):
        raise ValueError(
            "algorithm: got one whose rule ranks its offspring, so that a site's fate hangs on all others; pass one that accepts "
            "one offspring with a probability, such as mutagrad.logistic"
        )
    scale = sigma_of(algorithm.definition, sigma)
    up, down = _array("loss_up", loss_up), _array("loss_down", loss_down)
    if up.shape != down.shape and () not in (up.shape, down.shape):
        raise ValueError(f"loss_down: got shape {down.shape} with loss_up of {up.shape}; pass one shape")
    rises, falls = (jnp.where(one == jnp.inf, 0, law.acceptance_fn(one)) for one in (up, down))
    return mutation_probability(scale, step) * step * (rises - falls) / 2
