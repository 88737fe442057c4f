"""What selection changes in one generation: Price, Lande, truncation, replicators (theory.md 11)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm
from jax.typing import ArrayLike

from mutagrad import check
from mutagrad.theory.population import arguments

__all__ = [
    "Price",
    "breeders_equation",
    "price",
    "replicator",
    "replicator_moments",
    "selection_intensity",
    "shahshahani_gradient",
    "truncation_response",
]


class Price(NamedTuple):
    """The change of a mean trait in one generation, in the two parts of Price's equation; they add up to it exactly.

    Attributes
    ----------
    selection : Cov(w, z)/w̄: parents with another trait have more offspring.
    transmission : E[w Δz]/w̄: offspring differ from their parents.
    """

    selection: jax.Array
    transmission: jax.Array

    @property
    def change(self) -> jax.Array:
        """The whole change of the mean."""
        return self.selection + self.transmission


def price(num_offspring: ArrayLike, traits: ArrayLike, offspring_traits: ArrayLike | None = None) -> Price:
    """Price's equation: Δz̄ = Cov(w, z)/w̄ + E[w Δz]/w̄, an identity in the realised numbers of offspring.

    Parameters
    ----------
    num_offspring : (n,) w, how many offspring each parent had; where an offspring has two parents, half of one for each.
    traits : (n, …) z of the parents.
    offspring_traits : (n, …) mean trait of each parent's offspring, anything where it has none; unless given, that of the parent.

    Returns
    -------
    Price, arrays of the shape of one trait.

    Raises
    ------
    ValueError : if the arrays do not fit together, for no parents, or for numbers of offspring that are negative or all 0.

    Source: [P70]; theory.md 11.1, tested in tests/theory/test_response.py.

    >>> import mutagrad
    >>> found = mutagrad.theory.population.price([2, 0, 1], [1.0, 2.0, 3.0], [1.5, 0.0, 3.0])
    >>> round(float(found.selection), 4), round(float(found.transmission), 4)
    (-0.3333, 0.3333)
    """
    weights, before = jnp.asarray(num_offspring, float), jnp.asarray(traits, float)
    after = before if offspring_traits is None else jnp.asarray(offspring_traits, float)
    if weights.ndim != 1 or before.shape[:1] != weights.shape or after.shape != before.shape:
        raise ValueError(
            f"traits: got shape {before.shape} and {after.shape} for {weights.shape} parents; pass a first axis of parents to all"
        )
    if weights.size == 0:
        raise ValueError(f"num_offspring: got {arguments.shown(num_offspring)}; pass the numbers of one parent or more")
    if check.is_concrete(weights) and not bool(jnp.all((weights >= 0) & jnp.isfinite(weights)) & jnp.any(weights > 0)):
        raise ValueError(
            f"num_offspring: got {arguments.shown(num_offspring)}; pass finite numbers of 0 or more, one of them above 0"
        )
    share = (weights / jnp.sum(weights)).reshape(-1, *[1] * (before.ndim - 1))
    # Centred, so that a large mean trait costs no digits.
    mean = jnp.mean(before, axis=0, keepdims=True)
    moved = jnp.where(share > 0, after - before, 0)
    return Price(jnp.sum(share * (before - mean), axis=0), jnp.sum(share * moved, axis=0))


def breeders_equation(genetic_covariance: ArrayLike, gradient: ArrayLike, beta: float = 1.0) -> jax.Array:
    """Lande's form of the breeder's equation: the mean genome moves by −βG∇U, gradient descent preconditioned by G.

    Parameters
    ----------
    genetic_covariance : G, (N, N), or (N,) in linkage equilibrium, where it is diagonal [parameter²].
    gradient : (N,) ∇U at the mean genome [loss/parameter].
    beta : strength of selection, fitness e^{−βU} [1/loss].

    Returns
    -------
    (N,) change of the mean in one generation of selection [parameter].

    Raises
    ------
    ValueError : if the shapes do not fit.

    Domain: β\\|∇U·δx\\| ≪ 1 over the spread of the population; normal genomes on a linear loss at any β.

    Source: [La79]; theory.md 11.1, tested in tests/theory/test_response.py.

    >>> import mutagrad
    >>> mutagrad.theory.population.breeders_equation([1.0, 4.0], [1.0, 1.0], beta=0.5).tolist()
    [-0.5, -2.0]
    """
    check.inverse_temperature(beta)
    return -beta * _preconditioned(genetic_covariance, gradient)


def _preconditioned(genetic_covariance: ArrayLike, gradient: ArrayLike) -> jax.Array:
    covariance, slope = jnp.asarray(genetic_covariance, float), jnp.asarray(gradient, float)
    if slope.ndim != 1 or covariance.shape not in ((len(slope),), (len(slope), len(slope))):
        raise ValueError(
            f"genetic_covariance: got shape {covariance.shape} with a gradient of {slope.shape}; pass (N,) or (N, N) for (N,)"
        )
    return covariance * slope if covariance.ndim == 1 else covariance @ slope


def selection_intensity(share: ArrayLike) -> jax.Array:
    """i(p) = φ(z_p)/p with Φ(z_p) = p: how far the best share p of normal values lies from the mean, in standard deviations.

    Parameters
    ----------
    share : p, above 0 and 1 at most, any shape.

    Raises
    ------
    ValueError : for another share.

    Source: [La79]; theory.md 11.3, tested in tests/theory/test_response.py.

    >>> import mutagrad
    >>> round(float(mutagrad.theory.population.selection_intensity(0.1)), 3)
    1.755
    """
    try:
        p = jnp.asarray(arguments.not_text(share), jnp.result_type(float))
    except (TypeError, ValueError):
        raise ValueError(f"share: got {arguments.shown(share)}; pass numbers above 0, 1 at most") from None
    if check.is_concrete(p) and not bool(jnp.all((p > 0) & (p <= 1))):
        raise ValueError(f"share: got {arguments.shown(share)}; pass numbers above 0, 1 at most")
    return norm.pdf(norm.ppf(p)) / p


def truncation_response(genetic_covariance: ArrayLike, gradient: ArrayLike, share: float) -> jax.Array:
    """Mean step where the best share p become parents: −i(p) G∇U/√(∇U·G∇U), normalised gradient descent preconditioned by G.

    Parameters
    ----------
    genetic_covariance, gradient : as in `breeders_equation`. share : p, above 0 and 1 at most.

    Returns
    -------
    (N,) [parameter]; zeros where the loss does not vary.

    Raises
    ------
    ValueError : for another share, or if the shapes do not fit.

    Domain: normal genomes, a loss that is linear over them, many of them.

    Source: [La79]; theory.md 11.3, tested in tests/theory/test_response.py.

    >>> import mutagrad
    >>> step = mutagrad.theory.population.truncation_response([1.0, 4.0], [3.0, 2.0], share=0.5)
    >>> [round(float(one), 4) for one in step]
    [-0.4787, -1.2766]
    """
    intensity, slope = selection_intensity(share), jnp.asarray(gradient, float)
    # Of the slope only the direction counts; without its size nothing under- or overflows.
    largest = jnp.max(jnp.abs(slope), initial=0.0)
    slope = slope / jnp.where(largest == 0, 1.0, largest)
    moved = _preconditioned(genetic_covariance, slope)
    variance = jnp.dot(slope, moved)
    return -intensity * moved / jnp.where(variance == 0, 1.0, jnp.sqrt(variance))


def shahshahani_gradient(frequencies: ArrayLike, derivative: ArrayLike) -> jax.Array:
    """Natural gradient on the simplex, in the metric Σ dp_i²/p_i: p_i (∂_i F − Σ_j p_j ∂_j F).

    Parameters
    ----------
    frequencies : (k,) p, of sum 1. derivative : (k,) ∂F/∂p.

    Raises
    ------
    ValueError : if the shapes do not fit.

    Source: [Sh79]; theory.md 11.2, tested in tests/theory/test_response.py.

    >>> import mutagrad
    >>> mutagrad.theory.population.shahshahani_gradient([0.5, 0.5], [2.0, 0.0]).tolist()
    [0.5, -0.5]
    """
    p, slope = _frequencies(frequencies), jnp.asarray(derivative, float)
    if slope.shape != p.shape:
        raise ValueError(f"derivative: got shape {slope.shape} for {len(p)} frequencies; pass (k,)")
    return p * (slope - jnp.dot(p, slope))


def replicator(frequencies: ArrayLike, payoffs: ArrayLike) -> jax.Array:
    """Replicator dynamics ṗ_i = p_i (f_i − f̄) with payoffs f = A p; half of the natural gradient of f̄ if A is symmetric.

    Parameters
    ----------
    frequencies : (k,) p, of sum 1. payoffs : (k, k) A, of the strategy of a row against that of a column; or (k,) f.

    Source: [Sh79]; theory.md 11.2, tested in tests/theory/test_response.py.

    >>> import mutagrad
    >>> hawk_dove = [[-1.0, 2.0], [0.0, 1.0]]                                            # V = 2, C = 4: half of all are hawks
    >>> mutagrad.theory.population.replicator([0.5, 0.5], hawk_dove).tolist()
    [0.0, 0.0]
    """
    p = _frequencies(frequencies)
    return shahshahani_gradient(p, _fitness(p, payoffs))


def replicator_moments(frequencies: ArrayLike, payoffs: ArrayLike, population_size: int) -> tuple[jax.Array, jax.Array]:
    """Mean and variance of the change of frequencies in one generation of Wright and Fisher, fitness = payoff > 0.

    The mean is p_i (f_i − f̄)/f̄, exactly. The variance is p′_i(1 − p′_i)/n with p′ the mean frequency after selection.

    Parameters
    ----------
    frequencies, payoffs : as in `replicator`. population_size : n ≥ 1.

    Returns
    -------
    mean, variance : (k,) each.

    Raises
    ------
    ValueError : if a fitness is not positive.

    Source: theory.md 11.2, tested in tests/theory/test_response.py.

    >>> import mutagrad
    >>> mean, variance = mutagrad.theory.population.replicator_moments([0.5, 0.5], [3.0, 1.0], 100)
    >>> mean.tolist(), round(float(variance[0]), 6)
    ([0.25, -0.25], 0.001875)
    """
    p, size = _frequencies(frequencies), check.count("population_size", population_size)
    fitness = _fitness(p, payoffs)
    if check.is_concrete(fitness) and not bool(jnp.all(fitness > 0)):
        raise ValueError(f"payoffs: got fitness {fitness.tolist()}; pass payoffs that make it positive")
    after = p * fitness / jnp.dot(p, fitness)
    return after - p, after * (1 - after) / size


def _frequencies(value: ArrayLike) -> jax.Array:
    p = jnp.asarray(value, float)
    if p.ndim != 1 or (check.is_concrete(p) and not bool(jnp.all(p >= 0) & (jnp.abs(jnp.sum(p) - 1) < 1e-4))):
        raise ValueError(f"frequencies: got {value!r}; pass numbers of 0 or more whose sum is 1")
    return p


def _fitness(p: jax.Array, payoffs: Any) -> jax.Array:
    table = jnp.asarray(payoffs, float)
    if table.shape not in (p.shape, p.shape * 2):
        raise ValueError(f"payoffs: got shape {table.shape} for {len(p)} strategies; pass (k,) or (k, k)")
    return table @ p if table.ndim == 2 else table
