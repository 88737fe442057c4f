"""The moments of a displacement by quadrature: the law of the noise along and across the gradient, and the rule.

NumPy and SciPy alone, from the definition of each density and each rule; nothing of the library enters them. Every law is
a statement about y = ĝ·z of the raw noise z, and about u·z given y: its mean `slope`·y and its second moment about that
mean, `spread`.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

# ----------------------------------------------------------------------------------------------------------------------
# Laws of the noise, as quadrature nodes
# ----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Law:
    """The joint law of y = ĝ·z and u·z: nodes (probability, y, spread), the slope of E[u·z | y], and P(Y ≤ y)."""

    weight: np.ndarray
    y: np.ndarray
    spread: np.ndarray
    cdf: Callable[[np.ndarray], np.ndarray]
    slope: float = 0.0


def interval(low, high, num_nodes):
    nodes, weights = np.polynomial.legendre.leggauss(num_nodes)
    return (low + high) / 2 + (high - low) / 2 * nodes, (high - low) / 2 * weights


def mirrored(weight, y, spread):
    """Nodes on both sides of y = 0, where greedy and Metropolis acceptance have their kink."""
    halves = [np.concatenate([a.ravel(), b.ravel()]) for a, b in ((weight, weight), (-y, y), (spread, spread))]
    return halves[0] / 2, halves[1], halves[2]


def normal_mixture(variance, weight, spread, slope=0.0):
    """y ~ Normal(0, variance_k) with probability weight_k."""
    variance, weight, spread = (np.atleast_1d(np.asarray(a, float)) for a in (variance, weight, spread))
    z, dz = interval(0.0, 12.0, 160)
    pdf = 2 * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) * dz
    y = np.sqrt(variance)[:, None] * z
    nodes = mirrored(weight[:, None] * pdf, y, np.broadcast_to(spread[:, None], y.shape))

    def cdf(y):
        return special.ndtr(y[:, None] / np.sqrt(variance)) @ weight

    return Law(*nodes, cdf, slope)


def normal():
    return normal_mixture(1.0, 1.0, 1.0)


def radial(dimension, radius, radius_weight):
    """Uniform direction in N dimensions: the angle to ĝ has density ∝ sin^(N−2), and u·z gets R² sin²/(N−1)."""
    theta, dtheta = interval(0.0, np.pi / 2, 64)
    angle_weight = np.sin(theta) ** (dimension - 2) * dtheta
    angle_weight /= angle_weight.sum()
    radius, radius_weight = np.atleast_1d(radius), np.atleast_1d(radius_weight)
    y = radius[:, None] * np.cos(theta)
    spread = (radius[:, None] * np.sin(theta)) ** 2 / (dimension - 1)

    def cdf(y):
        cosine = np.clip(y[:, None] / radius, -1, 1)
        beyond = special.betainc(0.5, (dimension - 1) / 2, cosine**2) / 2
        return (0.5 + np.sign(cosine) * beyond) @ radius_weight

    return Law(*mirrored(radius_weight[:, None] * angle_weight, y, spread), cdf)


def sphere_law(dimension):
    return radial(dimension, np.sqrt(dimension), 1.0)


def ball_law(dimension):
    radius, weight = interval(0.0, np.sqrt(dimension + 2), 48)
    weight = weight * dimension * radius ** (dimension - 1) / (dimension + 2) ** (dimension / 2)
    return radial(dimension, radius, weight)


def student_t_law(nu):
    """Normal with variance (ν − 2)/χ²_ν, given which all directions are independent: the law is the same in any N."""
    chi, dchi = interval(0.0, 15.0, 120)
    variance = (nu - 2) / chi**2
    return normal_mixture(variance, stats.chi.pdf(chi, nu) * dchi, variance)


def low_rank_law(rank, share):
    """g = share · abᵀ on the matrix and the rest on a vector leaf; u = a′bᵀ with a′ ⟂ a.

    ĝ·z = share Σ_k (a·A_k)(b·B_k)/√r + rest · normal: normal given q² = Σ_k (b·B_k)² ~ χ²_r, as is u·z ~ N(0, q²/r).
    """
    q, dq = interval(0.0, 12.0, 100)
    weight = stats.chi.pdf(q, rank) * dq
    return normal_mixture(share**2 * q**2 / rank + 1 - share**2, weight, q**2 / rank)


def scaled_law(gradient, transverse, scale):
    """Noise s∘z: y = ĝ·(s∘z) and u·(s∘z) are jointly normal, with a slope where C = diag(s²) turns ĝ."""
    variance, covariance = np.sum((gradient * scale) ** 2), np.sum(gradient * transverse * scale**2)
    slope = covariance / variance
    return normal_mixture(variance, 1.0, np.sum((transverse * scale) ** 2) - slope * covariance, slope)


def signs_law(gradient, transverse):
    """All 2^N signs, grouped by y: equal values of y tie in the loss, and then the first offspring wins."""
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=gradient.size)))
    y, across = np.round(signs @ gradient, 9), signs @ transverse
    values, group = np.unique(y, return_inverse=True)
    number = np.bincount(group)
    weight, mean = number / len(signs), np.bincount(group, across) / number
    second = np.bincount(group, across**2) / number
    return DiscreteLaw(weight, values, second, mean)


@dataclass(frozen=True)
class DiscreteLaw:
    """Atoms of y, with E[u·z | y] and E[(u·z)² | y]."""

    weight: np.ndarray
    y: np.ndarray
    second: np.ndarray
    mean: np.ndarray


# ----------------------------------------------------------------------------------------------------------------------
# Rules, as a weight on each node: the chance that an offspring with this y becomes the parent
# ----------------------------------------------------------------------------------------------------------------------


def moments(law, chance):
    """The six expected moments, where ``chance`` is E[number of winners with y at this node] per unit of its weight."""
    if isinstance(law, DiscreteLaw):
        mean, second = law.mean, law.second
    else:
        mean, second = law.slope * law.y, law.spread + (law.slope * law.y) ** 2
    weight = law.weight * chance
    integrands = (-law.y, mean, np.ones_like(law.y), law.y**2, second, law.y * mean)
    return np.array([np.sum(weight * integrand) for integrand in integrands])


def accept(rule, scale=1.0):
    """One offspring accepted with probability rule(βΔU), βΔU = scale · y."""
    return lambda law: moments(law, rule(scale * law.y))


def metropolis_rule(x):
    return np.minimum(1.0, np.exp(-np.maximum(x, 0)))


def greedy_rule(x):
    return (x <= 0).astype(float)


def logistic_rule(x):
    return special.expit(-x)


def moran_rule(x, n, factor=1.0):
    s = -factor * x
    with np.errstate(all="ignore"):
        direct = np.where(s > 0, np.expm1(-s) / np.expm1(-n * s), np.exp((n - 1) * s) * np.expm1(s) / np.expm1(n * s))
    return np.where(np.abs(s) < 1e-12, 1 / n, direct)


def best_of(num_offspring, beats_parent=True):
    """The offspring with the smallest y of M, if y ≤ 0 (elitist) or whatever it is (comma)."""

    def expected(law):
        if isinstance(law, DiscreteLaw):
            above_or_at = np.cumsum(law.weight[::-1])[::-1]
            above = np.append(above_or_at[1:], 0.0)
            chance = (above_or_at**num_offspring - above**num_offspring) / law.weight
        else:
            chance = num_offspring * (1 - law.cdf(law.y)) ** (num_offspring - 1)
        return moments(law, np.where(law.y <= 0, chance, 0.0) if beats_parent else chance)

    return expected


def softmax(num_offspring, scale):
    """One of M offspring and the parent, ∝ e^{−βU}: 1/S = ∫ e^{−τS} dτ makes the M offspring independent given τ."""

    def expected(law):
        weight = np.exp(-scale * law.y)
        # τ = e^v spreads the nodes over all scales of S.
        v, dv = interval(-40.0, 5.0, 400)
        tau = np.exp(v)
        others = np.exp(-np.outer(tau, weight)) @ law.weight
        kernel = (dv * tau * np.exp(-tau) * others ** (num_offspring - 1)) @ np.exp(-np.outer(tau, weight))
        return moments(law, num_offspring * weight * kernel)

    return expected


def mean_of_survivors(num_offspring, num_parents):
    """The mean of the K largest of M standard normals, given the (K+1)-th, is that of K independent tails above it."""
    t, dt = interval(-12.0, 12.0, 400)
    n, k = num_offspring, num_parents
    order = n * special.comb(n - 1, k) * stats.norm.sf(t) ** k * stats.norm.cdf(t) ** (n - k - 1) * stats.norm.pdf(t)
    hazard = np.exp(stats.norm.logpdf(t) - stats.norm.logsf(t))
    mean, variance = hazard, 1 + t * hazard - hazard**2
    first, second = np.sum(dt * order * mean), np.sum(dt * order * (mean**2 + variance / k))
    return lambda law: np.array([first, 0.0, 1.0, second, 1 / k, 0.0])
