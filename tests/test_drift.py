"""One generation on a linear loss: the moments of the displacement against quadrature (theory.md 1, 2, 6).

The expected values are those of drift_laws.py, which nothing of the library enters. A displacement Δx from x = 0 on
U = g·x is measured by six moments, with ĝ = g/|g|, a unit vector u transverse to ĝ and σ for the unit of length:

    −ĝ·Δx,   u·Δx,   accepted or not,   (ĝ·Δx)²,   (u·Δx)²,   (ĝ·Δx)(u·Δx).

Each check allows 4 standard errors of the mean over independent keys: a false alarm in 6·10⁻⁵ of the checks, 2 % in all of
this file, and with its fixed seeds the same outcome every time.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drift_laws import (
    accept,
    ball_law,
    best_of,
    greedy_rule,
    logistic_rule,
    low_rank_law,
    mean_of_survivors,
    metropolis_rule,
    moments,
    moran_rule,
    normal,
    scaled_law,
    signs_law,
    softmax,
    sphere_law,
    student_t_law,
)
from scipy import special

import mutagrad
from mutagrad import mutation as density

STATISTICS = ("downhill", "transverse", "acceptance", "downhill²", "transverse²", "cross")
NUM_KEYS = 100_000
CHUNK = 10_000
Z_LIMIT = 4.0
SIGMA = 0.3


# ----------------------------------------------------------------------------------------------------------------------
# Measurement
# ----------------------------------------------------------------------------------------------------------------------


def dot(a, b):
    return sum(jnp.sum(x * y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@functools.partial(jax.jit, static_argnums=(0,))
def _displacements(build, parameters, gradient, transverse, keys):
    """(n, 3): −ĝ·Δx/σ, u·Δx/σ and acceptance of one generation from x = 0 for each key."""
    algorithm = build(*parameters)
    norm = jnp.sqrt(dot(gradient, gradient))
    start = algorithm.init(jax.tree.map(jnp.zeros_like, gradient))

    def one(key):
        state, info = algorithm.step(key, start, lambda x: dot(gradient, x))
        if isinstance(state, mutagrad.PopulationState):
            params = jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), state.parents)
        else:
            params = state.params
        downhill, across = -dot(gradient, params) / norm, dot(transverse, params)
        return jnp.stack([downhill / SIGMA, across / SIGMA, jnp.mean(info.is_accepted.astype(jnp.float32))])

    return jax.lax.map(one, keys, batch_size=CHUNK)


@dataclass(frozen=True)
class Case:
    """An algorithm on a linear loss, and the law of its displacement.

    ``build(sigma, *parameters)`` makes the algorithm inside jit: cases that share it share one compilation.
    """

    name: str
    build: Callable
    parameters: tuple
    gradient: Any
    transverse: Any
    law: Any = field(repr=False)
    rule: Callable = field(repr=False)
    measured: dict = field(default_factory=dict, repr=False)

    @functools.cached_property
    def expected(self):
        return self.rule(self.law)

    def measure(self, seed=0, num_keys=NUM_KEYS):
        """Means of the six statistics and their standard errors, measured once for each seed."""
        if (seed, num_keys) not in self.measured:
            self.measured[seed, num_keys] = self._measure(seed, num_keys)
        return self.measured[seed, num_keys]

    def _measure(self, seed, num_keys):
        keys = jax.random.split(jax.random.key(seed), num_keys)
        parameters = tuple(jnp.float32(p) for p in (SIGMA, *self.parameters))
        samples = np.asarray(_displacements(self.build, parameters, self.gradient, self.transverse, keys), np.float64)
        downhill, across, accepted = samples.T
        statistics = np.stack([downhill, across, accepted, downhill**2, across**2, -downhill * across])
        # The floor is float32 rounding, for statistics that do not vary (a length that is always √N).
        error = statistics.std(axis=1, ddof=1) / np.sqrt(num_keys) + 3e-7 * np.abs(statistics).max(axis=1)
        return statistics.mean(axis=1), error

    def z_scores(self, seed=0, num_keys=NUM_KEYS):
        mean, error = self.measure(seed, num_keys)
        deviation = mean - self.expected
        # A statistic that is 0 in every sample and in the law (comma always accepts: error 0) is no deviation.
        return np.divide(deviation, error, out=np.zeros_like(deviation), where=(error > 0) | (np.abs(deviation) > 0))


def as_tree(vector):
    """A nested tree of two leaves of different rank."""
    vector = jnp.asarray(vector, jnp.float32)
    head = 2 * (vector.size // 3)
    return {"layer": {"w": vector[:head].reshape(2, -1)}, "b": vector[head:]}


def directions(dimension, length=1.7, seed=5):
    """A gradient with unequal entries and a unit vector transverse to it, both over all leaves."""
    rng = np.random.default_rng(seed)
    gradient, transverse = rng.normal(size=(2, dimension))
    gradient /= np.linalg.norm(gradient)
    transverse -= gradient * (gradient @ transverse)
    return length * gradient, transverse / np.linalg.norm(transverse)


def build_metropolis(mutation):
    return lambda sigma, beta: mutagrad.metropolis(sigma, beta, mutation=mutation)


def rule_cases():
    """Every named algorithm, gaussian mutation, N = 20."""
    gradient, transverse = directions(20)
    scale = SIGMA * np.linalg.norm(gradient)
    trees = as_tree(gradient), as_tree(transverse)
    law = normal()
    metropolis = build_metropolis(density.gaussian())

    def case(name, build, rule, b=None):
        """With inverse temperature β = b/(σ|g|), if any."""
        return Case(name, build, () if b is None else (b / scale,), *trees, law, rule)

    def fixation(n, model):
        return lambda sigma, beta: mutagrad.fixation(sigma, beta, n, model)

    def boltzmann(m):
        return lambda sigma, beta: mutagrad.boltzmann(sigma, beta, m)

    yield from (case(f"metropolis b={b}", metropolis, accept(metropolis_rule, b), b) for b in (0.2, 1.5, 40.0))
    yield case("greedy", lambda sigma: mutagrad.greedy(sigma), accept(greedy_rule))
    yield case("logistic", lambda sigma, beta: mutagrad.logistic(sigma, beta), accept(logistic_rule, 1.5), 1.5)
    yield case("moran", fixation(6, "moran"), accept(lambda x: moran_rule(x, 6), 0.7), 0.7)
    wright_fisher = accept(lambda x: moran_rule(x, 4, 2.0), 0.4)
    yield case("wright_fisher", fixation(4, "wright_fisher"), wright_fisher, 0.4)
    yield from (case(f"boltzmann M={m}", boltzmann(m), softmax(m, b), b) for m, b in ((2, 1.5), (8, 3.0)))
    for m in (1, 5, 20):
        yield case(f"elitist M={m}", lambda sigma, m=m: mutagrad.elitist(sigma, m), best_of(m))
    for m in (1, 5):
        yield case(f"comma M={m}", lambda sigma, m=m: mutagrad.comma(sigma, m), best_of(m, beats_parent=False))
    yield case("truncation 3 of 10", lambda sigma: mutagrad.truncation(sigma, 10, 3), mean_of_survivors(10, 3))


def density_cases():
    """Every density under Metropolis, greedy (as β = ∞, which shares its compilation) and the best of five."""

    def cases(name, mutation, gradient, transverse, law, with_elitist=True):
        flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(gradient)])
        beta = 1.5 / (SIGMA * np.linalg.norm(flat))
        metropolis = build_metropolis(mutation)
        place = gradient, transverse, law
        yield Case(f"{name} metropolis", metropolis, (beta,), *place, accept(metropolis_rule, 1.5))
        yield Case(f"{name} greedy", metropolis, (np.inf,), *place, accept(greedy_rule))
        if with_elitist:
            elitist = functools.partial(mutagrad.elitist, num_offspring=5, mutation=mutation)
            yield Case(f"{name} elitist M=5", elitist, (), *place, best_of(5))

    for n in (3, 20):
        trees = tuple(map(as_tree, directions(n)))
        yield from cases(f"sphere N={n}", density.sphere(), *trees, sphere_law(n), n == 3)
        yield from cases(f"ball N={n}", density.ball(), *trees, ball_law(n), n == 3)
        # ν = 12: the squares have a finite fourth moment, so that their standard error means what it says.
        yield from cases(f"student_t N={n}", density.student_t(12.0), *trees, student_t_law(12.0), n == 3)

    gradient, transverse = directions(7)
    trees = as_tree(gradient), as_tree(transverse)
    unit = gradient / np.linalg.norm(gradient)
    yield from cases("rademacher", density.rademacher(), *trees, signs_law(unit, transverse), False)
    # Equal entries tie exactly: in one case of three the loss does not change, and ties are accepted.
    ones, transverse = np.ones(6), np.array([1.0, -1, 0, 0, 2, -2]) / np.sqrt(10)
    law = signs_law(ones / np.sqrt(6), transverse)
    yield from cases("rademacher with ties", density.rademacher(), as_tree(ones), as_tree(transverse), law)

    a, across = directions(4, 1.0)
    b, _ = directions(5, 1.0, seed=6)
    c, _ = directions(3, 1.0, seed=7)
    gradient = {"matrix": jnp.float32(1.7 * 0.8 * np.outer(a, b)), "vector": jnp.float32(1.7 * 0.6 * c)}
    transverse = {"matrix": jnp.float32(np.outer(across, b)), "vector": jnp.zeros(3)}
    for r in (1, 3):
        yield from cases(
            f"low_rank {r}", density.low_rank(r, formed=True), gradient, transverse, low_rank_law(r, 0.8), r == 1
        )

    gradient, transverse = directions(20)
    scale = np.exp(np.random.default_rng(8).normal(size=20) / 2)
    law = scaled_law(gradient / np.linalg.norm(gradient), transverse, scale)
    yield from cases("scaled", density.scaled(as_tree(scale)), as_tree(gradient), as_tree(transverse), law)


ALL_CASES = {case.name: case for case in (*rule_cases(), *density_cases())}
# Left to verification/drift.py: they differ from another case in a number only, and each costs a compilation.
LEFT_OUT = ("ball N=20", "student_t N=20", "low_rank 3", "boltzmann M=2", "comma M=1")
LEFT_OUT += ("ball N=3 elitist", "student_t N=3 elitist")
CASES = {name: case for name, case in ALL_CASES.items() if not name.startswith(LEFT_OUT)}


@pytest.mark.parametrize("name", CASES)
def test_moments(name):
    z = CASES[name].z_scores()
    assert np.all(np.abs(z) < Z_LIMIT), dict(zip(STATISTICS, np.round(z, 1), strict=True))


WRONG = {
    "metropolis b=1.5": ("a temperature 10 % off", accept(metropolis_rule, 1.5 * 1.1)),
    "logistic": ("a temperature 10 % off", accept(logistic_rule, 1.5 * 1.1)),
    "greedy": ("metropolis at b = 40", accept(metropolis_rule, 40.0)),
    "moran": ("one individual more", accept(lambda x: moran_rule(x, 7), 0.7)),
    "elitist M=5": ("comma", best_of(5, beats_parent=False)),
    "elitist M=20": ("one offspring more", best_of(21)),
    "boltzmann M=8": ("one offspring more", softmax(9, 3.0)),
    "truncation 3 of 10": ("one survivor more", mean_of_survivors(10, 4)),
    "rademacher with ties greedy": ("ties refused", accept(lambda x: (x < 0).astype(float))),
}


@pytest.mark.parametrize("name", WRONG)
def test_power(name):
    """The same measurement rejects a law that is wrong by little."""
    case = CASES[name]
    mean, error = case.measure()
    deviation = np.abs(mean - WRONG[name][1](case.law))
    assert np.any(deviation > Z_LIMIT * error), WRONG[name][0]


def test_power_of_densities():
    """At N = 3 each radial density is told from the gaussian, and low rank 1 from low rank 3."""
    for name, law in (
        ("sphere N=3 greedy", normal()),
        ("ball N=3 greedy", normal()),
        ("student_t N=3 greedy", normal()),
        ("low_rank 1 greedy", low_rank_law(3, 0.8)),
        ("rademacher greedy", normal()),
    ):
        case = CASES[name]
        mean, error = case.measure()
        assert np.any(np.abs(mean - case.rule(law)) > Z_LIMIT * error), name


def test_quadrature():
    """The laws have unit variance, and the expected values known in closed form."""
    laws = [normal(), sphere_law(3), sphere_law(20), ball_law(3), ball_law(20), student_t_law(12.0)]
    laws += [low_rank_law(1, 0.8), low_rank_law(3, 0.8)]
    for law in laws:
        total = moments(law, np.ones_like(law.y))
        np.testing.assert_allclose(total[[2, 3, 4]], 1.0, rtol=2e-6)
        np.testing.assert_allclose(best_of(5, beats_parent=False)(law)[2], 1.0, rtol=2e-6)
    for b in (0.2, 1.5, 40.0):
        closed = b * np.exp(b**2 / 2 + special.log_ndtr(-b))
        np.testing.assert_allclose(accept(metropolis_rule, b)(normal())[0], closed, rtol=1e-9)
    # On the sphere in three dimensions cosθ is uniform (Archimedes): E max(0, √3 cosθ) = √3/4.
    np.testing.assert_allclose(accept(greedy_rule)(sphere_law(3))[0], np.sqrt(3) / 4, rtol=1e-9)
    # E|PQ| = 2/π for two normals, half of it downhill.
    np.testing.assert_allclose(accept(greedy_rule)(low_rank_law(1, 1.0))[0], 1 / np.pi, rtol=1e-7)


def test_softmax_quadrature_against_direct_integration():
    """The expected values of boltzmann, M = 2, by a plain two-dimensional Gauss–Hermite rule."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    weights = weights / weights.sum()
    first, second = np.exp(-1.5 * nodes)[:, None], np.exp(-1.5 * nodes)[None, :]
    chance = 2 * first / (1 + first + second) * weights[:, None] * weights
    direct = [np.sum(chance * h[:, None]) for h in (-nodes, np.ones_like(nodes), nodes**2)]
    np.testing.assert_allclose(softmax(2, 1.5)(normal())[[0, 2, 3]], direct, rtol=1e-7)


def test_scaled_drift_is_preconditioned():
    """Small b: the drift of the quadrature that the samples agree with tends to −(β/2) C g, C = σ² diag(scale²)."""
    gradient, transverse = directions(20)
    scale = np.exp(np.random.default_rng(8).normal(size=20) / 2)
    unit = gradient / np.linalg.norm(gradient)
    b = 1e-4
    drift = accept(metropolis_rule, b)(scaled_law(unit, transverse, scale))[:2]
    law = b / 2 * scale**2 * unit
    np.testing.assert_allclose(drift, [law @ unit, -law @ transverse], rtol=1e-3)
    assert abs(drift[1]) > 0.02 * drift[0]  # the direction is not −ĝ
