"""What selection keeps of a mutation's component along the gradient, for every law of a rule and of a density (theory.md 1, 2).

Rules of the library that judge one offspring satisfy detailed balance, A(−x) e^{−κx} = A(x). The difference of two
acceptances that makes the drift is then A(−x)(e^{−κx} − 1), exact however small x is.

Of many offspring one has v = −z, how far it goes down, and all moments follow from P(it becomes a parent | v). Rules that see
ranks have that from P(Z > z) alone.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from mutagrad import check
from mutagrad.law import Acceptance, Boltzmann, OrderStatistic, RankWeights
from mutagrad.selection import product
from mutagrad.theory import quadrature
from mutagrad.theory.boltzmann import softmax
from mutagrad.theory.definition import selection_law, sigma_of
from mutagrad.theory.progress import among_best
from mutagrad.theory.quadrature import Moments, Nodes
from mutagrad.theory.recombination import binomial, recombined
from mutagrad.types import Definition


def inverse_temperature(definition: Definition) -> Any:
    """What multiplies loss differences in a rule: κ of its detailed balance, or β; ∞ for rules that see ranks only.

    ``None`` for a rule that has no such number.
    """
    law = selection_law(definition)
    return law.inverse_temperature if isinstance(law, Acceptance | Boltzmann) else math.inf


def sees_ranks_only(definition: Definition) -> bool:
    """Whether a rule is at infinite inverse temperature."""
    kappa = inverse_temperature(definition)
    return kappa is not None and check.concrete(kappa) == math.inf


def _one_offspring(law: Acceptance, nodes: Nodes, slope: jax.Array) -> Moments:
    kappa = law.inverse_temperature
    x = jnp.multiply.outer(slope, nodes.positions(slope.dtype))
    better = law.acceptance_fn(-x)
    if kappa is None:
        worse = law.acceptance_fn(x)
        lost = worse - better
    else:
        exponent = product(kappa, x)
        worse, lost = better * jnp.exp(-exponent), better * jnp.expm1(-exponent)
    return nodes.moments(better + worse, lost)


def _selected(law: OrderStatistic, number: int, nodes: Nodes) -> tuple[np.ndarray, np.ndarray]:
    """P(this offspring becomes a parent | v), times the number of offspring per parent, at v = z > 0 and at v = −z.

    v = −z is how far an offspring goes down; selection then sees only ranks, whatever the slope.
    """
    above, winners = nodes.upper, law.num_winners
    if law.keeps_parent:
        return number * np.exp((number - 1) * np.log1p(-above)), np.zeros_like(above)
    return tuple(number / winners * among_best(number, winners, each) for each in (above, 1 - above))


def _ranked(law: OrderStatistic, number: int, nodes: Nodes, slope: jax.Array) -> Moments:
    """Moments of a next parent where ranks decide, or of one that two winners a and b make by a coin for each parameter.

    The child c has the mean of a and b, and about it half of a − b with a sign of its own for every parameter. Where many
    parameters share the gradient, Σĝ⁴ ≪ 1, these signs leave E[(ĝ·c)²] = ¼E[(z + z′)²] + ¼E[(u·(a − b))²], which is
    ½(m₂ + m_u + E[zz′]) with the second moments m₂ and m_u of a winner along and across; m_u is 1 for gaussian mutations. Drift
    and E[(u·c)²] = m_u are those of a winner. So is the curvature: a child has the mean loss of its parents.
    """
    down, up = _selected(law, number, nodes)
    even, odd = (down + up) @ nodes.powers, (down - up) @ nodes.powers
    second = even[2]
    if law.mixes:
        second = (even[2] + even[3] + product_of_winners(law, number, nodes)) / 2
    # The selected loss is an extremum over which of them is selected, so that the shift of the selection costs nothing.
    return _unless_flat(slope, (even[0], -odd[1], second, even[3], even[3]))


def product_of_winners(law: OrderStatistic, number: int, nodes: Nodes) -> float:
    r"""E[z z′] of two different winners among the best K of M.

    Given the (K + 1)-th best, at $v = t$, the best K are independent draws from the tail beyond t. So it is
    $\int \mu(t)^2\,dP(t)$ with $\mu(t) = E[Z \mid Z > t]$ and $dP(t) = M \binom{M-1}{K} P(Z > t)^K P(Z < t)^{M-K-1} f(t)\,dt$.
    Without selection, K = M, it is 0.
    """
    if law.num_winners >= number:
        return 0.0
    above, beyond, weight = (each[nodes.upper > 0] for each in (nodes.upper, nodes.beyond, nodes.weight))
    # At t = z and at t = −z; E[Z; Z > t] is even in t.
    sides = ((above, 1 - above), (1 - above, above))
    of_next = (weight * binomial(law.num_winners, number - 1, up, down) * (beyond / up) ** 2 for up, down in sides)
    return number * float(sum(map(np.sum, of_next)))


def _unless_flat(
    slope: jax.Array, values: tuple[Any, ...], flat: tuple[Any, ...] = (1.0, 0.0, 1.0, 1.0, 1.0)
) -> Moments:
    """On a flat loss all are equal: argmin takes the first, whose mutation is any mutation."""
    return Moments(
        *(jnp.where(slope == 0, limit, value).astype(slope.dtype) for value, limit in zip(values, flat, strict=True))
    )


def _ranked_signs(law: OrderStatistic, number: int, slope: jax.Array) -> Moments:
    """Mutations that are all σ or −σ: a sum over the number k of offspring that go down."""
    k = np.arange(number + 1)
    chance = binomial(k, number, 0.5, 0.5)
    down = np.minimum(k, law.num_winners) / law.num_winners
    up = 0 * down if law.keeps_parent else 1 - down
    kept, step = chance @ (down + up), chance * (down - up)
    return _unless_flat(slope, (kept, -np.sum(step), kept, 0.0, step @ (2 * k - number)))


def _recombined(weights: tuple[float, ...], marginal: quadrature.Marginal, slope: jax.Array) -> Moments:
    found = recombined(weights, marginal)
    # On a flat loss all offspring are equal and share the mean weight.
    flat = float(np.sum(weights) ** 2 / len(weights))
    # Ranks shift as in `_ranked`; what they recombine to pays for its own length.
    values = (1.0, -found.first, found.second, found.transverse, found.transverse)
    return _unless_flat(slope, values, (1.0, 0.0, flat, flat, flat))


def moments(definition: Definition, slope: jax.Array, num_parameters: int | None) -> Moments:
    """The moments of one generation at slopes σ|g|, each of the shape of ``slope``.

    Raises
    ------
    ValueError : for rules and densities that state no law.
    """
    law, number = selection_law(definition), definition.num_offspring
    marginal = quadrature.marginal(definition, num_parameters)
    if isinstance(law, Acceptance):
        return _one_offspring(law, quadrature.nodes(marginal), slope)
    if isinstance(law, RankWeights):
        return _recombined(tuple(np.asarray(law.weights, float).tolist()), marginal, slope)
    if isinstance(law, Boltzmann):
        if not sees_ranks_only(definition):
            return softmax(number, marginal, (law.inverse_temperature * slope).astype(slope.dtype))
        law = OrderStatistic(keeps_parent=True)
    nodes = quadrature.nodes(marginal, is_fine=True)
    return _ranked_signs(law, number, slope) if nodes.is_sign else _ranked(law, number, nodes, slope)


def moments_at(
    definition: Any, grad_norm: ArrayLike, sigma: Any, num_parameters: int | None
) -> tuple[jax.Array, jax.Array, Moments]:
    """|∇U| and σ as arrays of one shape, σ being the algorithm's own unless given, and the moments there in units of σ."""
    sigma = sigma_of(definition, sigma)
    norm, sigma = jnp.broadcast_arrays(jnp.asarray(grad_norm, sigma.dtype), sigma)
    return norm, sigma, moments(definition, sigma * norm, num_parameters)
