"""Rules and densities of a user's own that state a law: closed forms, the library's own laws, and generations as measured."""

import functools
import gc
import itertools
import math
import weakref

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from scipy import integrate

import mutagrad
from mutagrad import law, theory
from mutagrad.theory import boltzmann, quadrature, radial, recombination
from mutagrad.theory.density import density_of
from mutagrad.theory.moments import moments

SLOPES = np.array([1e-3, 0.3, 1.0, 1.3, 10.0, 1e4])


def rule(acceptance_fn, **stated):
    """A rule that never selects: theory reads its law alone."""
    return mutagrad.Selection(lambda key, losses, parent_loss: -1, "own", law=law.Acceptance(acceptance_fn, **stated))


def density(log_density_fn, **stated):
    return mutagrad.Mutation(lambda key, params: params, "own", law=law.Radial(log_density_fn, **stated))


def of(selection, mutation, number=1, slopes=SLOPES, size=None):
    """All five moments in float64."""
    algorithm = mutagrad.mutation_selection(mutation, selection, number)
    with jax.enable_x64(True):
        return np.stack(moments(algorithm.definition, jnp.asarray(slopes, jnp.float64), size))


# --- acceptance rules -------------------------------------------------------------------------------------------------


def squared_logistic(x):
    return jax.nn.sigmoid(-x) ** 2


def by_thirty_digits(b):
    """E[A], E[zA] and E[z²A] of a squared logistic, z normal."""
    ends = [-14, *sorted(s * p for s in (-1, 1) for p in {1.0, 4.0, 1 / b, 10 / b} if p < 14), 0, 14]
    return [
        mpmath.quad(lambda z, k=k: mpmath.npdf(z) * z**k / (1 + mpmath.exp(b * z)) ** 2, sorted(ends)) for k in range(3)
    ]


def test_a_rule_without_detailed_balance():
    """Against 30 digits to 10⁻⁹: drift, acceptance and second moment; a rule ten times colder is the same at a tenth."""
    slopes = np.array([1e-3, 0.3, 2.0, 30.0])
    expected = np.array([by_thirty_digits(b) for b in slopes], float).T
    found = of(rule(squared_logistic), mutagrad.mutation.gaussian(), slopes=slopes)
    np.testing.assert_allclose(found[:3], expected, rtol=1e-9)
    colder = of(rule(lambda x: squared_logistic(10 * x)), mutagrad.mutation.gaussian(), slopes=slopes / 10)
    np.testing.assert_allclose(colder, found, rtol=1e-12)


@pytest.mark.parametrize("stated", [{}, {"inverse_temperature": 2.0}])
def test_a_rule_that_the_library_has_too(stated):
    """Logistic at β = 2. With its κ to all digits; without it the difference of acceptances costs them as 1/b."""
    own = rule(lambda x: jax.nn.sigmoid(-2 * x), **stated)
    expected = of(mutagrad.selection.logistic(2.0), mutagrad.mutation.gaussian())
    for found, value in zip(of(own, mutagrad.mutation.gaussian()), expected, strict=True):
        np.testing.assert_allclose(found, value, rtol=1e-13 if stated else 1e-12 / SLOPES[0])


def test_limits_of_a_rule():
    """An inverse temperature gives a learning rate; without one there is a crossover, but no limit is known."""
    with_kappa = mutagrad.mutation_selection(
        mutagrad.mutation.gaussian(), rule(lambda x: jax.nn.sigmoid(-3 * x), inverse_temperature=3.0), 1, sigma=0.1
    )
    assert float(theory.learning_rate(with_kappa)) == pytest.approx(3 * 0.1**2 / 4, rel=1e-5)
    without = mutagrad.mutation_selection(mutagrad.mutation.gaussian(), rule(squared_logistic), 1, sigma=0.1)
    with pytest.raises(ValueError, match=r"^regime: got 'plain' with own selection, whose law has no inverse temp"):
        theory.learning_rate(without)
    gradient = jnp.array([3.0, 4.0])
    updates, _ = theory.equivalent_gradient_descent(without).update(gradient, None)
    expected = float(theory.drift(without, 5.0)) * np.array([0.6, 0.8])
    np.testing.assert_allclose(updates, expected, rtol=1e-6)


# --- radial densities -------------------------------------------------------------------------------------------------

T_5 = law.Radial(lambda z: -3 * np.log1p(z**2 / 3))
BALL_OF_10 = law.Radial(lambda z: 4.5 * np.log1p(-(z**2) / 12))
NORMAL = law.Radial(lambda z: -(z**2) / 2 + 7)
PAIRS = {
    "normal": (NORMAL, mutagrad.mutation.gaussian(), None),
    "t": (T_5, mutagrad.mutation.student_t(5.0), None),
    "ball": (BALL_OF_10, mutagrad.mutation.ball(), 10),
}
RULES = {
    "metropolis": (mutagrad.selection.metropolis(1.0), 1, 1e-12),
    "elitist": (mutagrad.selection.elitist(), 20, 1e-12),
    "truncation": (mutagrad.selection.truncation(5), 20, 1e-12),
    "weighted": (mutagrad.selection.weighted([2.0, 1.0, 0.5, -3.0]), 4, 2e-8),
    "boltzmann": (mutagrad.selection.boltzmann(1.0), 6, 2e-7),
}


@pytest.mark.parametrize(
    ("name", "pair"), [one for one in itertools.product(RULES, PAIRS) if one != ("boltzmann", "normal")]
)
def test_a_density_that_the_library_has_too(name, pair):
    """ln f alone gives the library's moments, E[u² | z] included: to rounding, or to the cubics between the nodes."""
    own, mutation, size = PAIRS[pair]
    selection, number, tolerance = RULES[name]
    expected = of(selection, mutation, number, size=size)
    found = of(selection, mutation._replace(law=own), number)
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=1e-12)


def test_boltzmann_in_float32():
    """Moments as in float64 to 10⁻⁵, and the derivative of the drift as a central difference of it to 10⁻³."""
    selection, mutation = mutagrad.selection.boltzmann(1.0), mutagrad.Mutation(lambda key, x: x, law=T_5)
    definition = mutagrad.mutation_selection(mutation, selection, 6).definition
    slopes = np.array([0.3, 30.0])
    found, derivative = jax.vjp(lambda b: jnp.stack(moments(definition, b, None)), jnp.asarray(slopes, jnp.float32))
    expected = of(selection, mutation, 6, slopes=np.concatenate([slopes, slopes * 1.0001, slopes * 0.9999]))
    np.testing.assert_allclose(found, expected[:, :2], rtol=1e-5)
    of_drift = jnp.zeros_like(found).at[1].set(1)
    difference = (expected[1, 2:4] - expected[1, 4:]) / (2e-4 * slopes)
    np.testing.assert_allclose(derivative(of_drift)[0], difference, rtol=1e-3, atol=1e-4)


def laplace(z):
    return -math.sqrt(2) * z


def test_laplace():
    """f ∝ e^{−√2 z}, a density that the library lacks: E|z| = 1/√2, E[u² | z] = z/√2 + ½, the better of two 3/(4√2)."""
    greedy = of(mutagrad.selection.greedy(), density(laplace))[:, 0]
    np.testing.assert_allclose(greedy[:4], [0.5, -1 / (2 * math.sqrt(2)), 0.5, 0.5], rtol=1e-9)
    comma = of(mutagrad.selection.comma(), density(laplace), 2)[:, 0]
    np.testing.assert_allclose(comma[:4], [1, -3 / (4 * math.sqrt(2)), 1, 1], rtol=1e-9)

    def integrand(z):
        return (
            0.5
            * math.sqrt(2)
            * math.exp(laplace(z))
            * (z / math.sqrt(2) + 0.5)
            * 3
            * (1 - math.exp(laplace(z)) / 2) ** 2
        )

    across = of(mutagrad.selection.elitist(), density(laplace), 3)[3, 0]
    assert across == pytest.approx(integrate.quad(integrand, 0, 40, epsabs=1e-12)[0], rel=1e-9)


def test_a_bounded_density():
    """Uniform on ±√3, which is the sphere of three: greedy √3/4, the best of M √3 (M − 1)/(M + 1), E[u² | z] = (3 − z²)/2."""
    own = density(lambda z: np.where(z < math.sqrt(3), 0.0, -np.inf))
    assert of(mutagrad.selection.greedy(), own)[1, 0] == pytest.approx(-math.sqrt(3) / 4, rel=1e-9)
    for number in (2, 9, 100):
        best = of(mutagrad.selection.comma(), own, number)[:, 0]
        assert best[1] == pytest.approx(-math.sqrt(3) * (number - 1) / (number + 1), rel=1e-9)
        assert best[3] == pytest.approx((3 - best[2]) / 2, rel=1e-9)


@pytest.mark.parametrize("power", [4, 40])
def test_a_density_whose_logarithm_overflows(power):
    """ln f = −(z/a)ᵖ becomes −∞ far out, where it does not end: moments are those of what is cut where nothing is left."""
    a = math.sqrt(math.gamma(1 / power) / math.gamma(3 / power))
    endless, cut = (
        mutagrad.Mutation(lambda key, x: x, law=law.Radial(log_density_fn))
        for log_density_fn in (lambda z: -((z / a) ** power), lambda z: -((np.minimum(z, 50) / a) ** power))
    )
    boltzmann_rule, slopes = mutagrad.selection.boltzmann(1.0), jnp.array([0.5, 3.0, 100.0], jnp.float32)

    def found(mutation):
        return jnp.stack(moments(mutagrad.mutation_selection(mutation, boltzmann_rule, 5).definition, slopes, None))

    np.testing.assert_allclose(found(endless), found(cut), rtol=2e-5)


def test_a_mean_square_across_of_ones_own():
    """In place of the one that f has: it is what the moments across are made of."""
    own = density(NORMAL.log_density_fn, transverse_fn=lambda z: (1 + z**2) / 2)
    plain, stated = (
        of(mutagrad.selection.elitist(), mutation, 5)[:, 0] for mutation in (density(NORMAL.log_density_fn), own)
    )
    assert stated[3] == pytest.approx((plain[0] + plain[2]) / 2, rel=1e-9)
    np.testing.assert_allclose(stated[:3], plain[:3], rtol=1e-12)


def shared_length(key, params):
    """Multivariate Laplace: normal, times the root of one exponential number."""
    radius_key, key = jax.random.split(key)
    return jnp.sqrt(jax.random.exponential(radius_key)) * jax.random.normal(key, params.shape)


def one_of_two(key, losses, parent_loss):
    """A fair coin among the best two."""
    return jnp.argsort(losses)[jax.random.randint(key, (), 0, 2)]


def test_generations_with_a_density_and_a_rule_of_ones_own():
    """10⁵ generations on a linear loss of 8 parameters: five moments within 4.5 standard errors (false alarm 3·10⁻⁵)."""
    selection = mutagrad.Selection(one_of_two, "one of two", law=law.OrderStatistic(num_winners=2))
    mutation = mutagrad.Mutation(shared_length, "laplace", law=law.Radial(laplace))
    gradient = jnp.linspace(-1, 1, 8)
    directions = jnp.stack([gradient / jnp.linalg.norm(gradient), jnp.ones(8) / math.sqrt(8)])
    for algorithm in (
        mutagrad.mutation_selection(mutation, selection, 5, sigma=0.3),
        mutagrad.elitist(0.3, 5, mutation=mutation),
    ):
        state = algorithm.init(jnp.zeros(8))

        def moved(key, algorithm=algorithm, state=state):
            return directions @ algorithm.step(key, state, lambda x: x @ gradient)[0].params

        along, across = np.asarray(jax.jit(jax.vmap(moved))(jax.random.split(jax.random.key(0), 100_000)), float).T
        step = theory.diffusion(algorithm, 2.0)
        expected = (theory.drift(algorithm, 2.0), step.longitudinal, step.transverse)
        for samples, value in zip((along, along**2, across**2), expected, strict=True):
            error = samples.std() / math.sqrt(len(samples))
            assert abs(samples.mean() - float(value)) < 4.5 * error
            assert error < 0.02 * abs(float(value))


def test_scaled_and_masked_densities_of_ones_own():
    gradient = {"a": jnp.array([3.0, 4.0]), "b": jnp.ones(2)}
    own = density(laplace)
    masked = theory.mean_step(
        mutagrad.greedy(0.1, mutation=mutagrad.mutation.masked({"a": True, "b": False}, own)), gradient
    )
    np.testing.assert_allclose(masked["a"], -0.1 / (2 * math.sqrt(2)) * np.array([0.6, 0.8]), rtol=1e-5)
    assert not np.any(masked["b"])
    scaled = theory.mean_step(mutagrad.greedy(0.1, mutation=mutagrad.mutation.scaled(3.0, own)), gradient)
    plain = theory.mean_step(mutagrad.greedy(0.1, mutation=own), gradient)
    np.testing.assert_allclose(scaled["a"], 3 * plain["a"], rtol=1e-5)


@pytest.mark.parametrize(
    ("mutation", "words"),
    [
        (density(lambda z: -(z**2)), r"^log_density_fn: got a variance of 0.5; scale it to 1, as ln f\(0.7071068 z\)"),
        (density(lambda z: -(z**2) / 2 * 1.00001), r"^log_density_fn: got a variance of 0.99999; scale"),
        (density(lambda z: -np.log1p(z**2)), r"^log_density_fn: got a density whose variance is not found"),
        (density(lambda z: 0.0), r"^log_density_fn: got a density whose variance is not found"),
        (density(lambda z: np.where(z < 0.1, -np.inf, -z)), r"^log_density_fn: got none next to z = 0"),
        (
            density(NORMAL.log_density_fn, transverse_fn=lambda z: z**2 + 1),
            r"^transverse_fn: got E\[u² \| z\] whose mean is 2;",
        ),
    ],
)
def test_densities_that_are_refused(mutation, words):
    with pytest.raises(ValueError, match=words) as caught:
        theory.drift(mutagrad.greedy(1.0, mutation=mutation), 1.0)
    assert "\n" not in str(caught.value)


def test_the_scale_that_a_refusal_names_is_right():
    """As said: ln f(√V z) has variance 1."""
    found = of(mutagrad.selection.greedy(), density(lambda z: -((0.5**0.5 * z) ** 2)))
    np.testing.assert_allclose(found, of(mutagrad.selection.greedy(), mutagrad.mutation.gaussian()), rtol=1e-12)


CACHES = (quadrature.nodes, density_of, radial.table, recombination.recombined, boltzmann._compiled)


def test_what_is_kept_for_a_law_is_bounded():
    """A law made anew for every call is a new one every time; it is gone when these caches have let go of it."""
    assert all(1 <= cached.cache_info().maxsize <= 64 for cached in CACHES)

    def used():
        own = density(lambda z: -(z**2) / 2)
        for selection, number, _ in RULES.values():
            if selection.name != "boltzmann":
                of(selection, own, number)
        boltzmann._compiled(3, own.law)
        return weakref.ref(own.law.log_density_fn)

    reference = used()
    gc.collect()
    assert reference() is not None
    for cached in CACHES:
        cached.cache_clear()
    gc.collect()
    assert reference() is None


def test_laws_of_different_kinds_differ():
    """Or one would be given the numbers of the other."""
    kinds = [law.Gaussian(), law.Sphere(), law.Ball(), law.IndependentEntries(), law.StudentT(5.0), law.Boltzmann(5.0)]
    assert all((a == b) == (i == j) for i, a in enumerate(kinds) for j, b in enumerate(kinds))
    assert law.Radial(laplace) == law.Radial(laplace) != law.Radial(functools.partial(laplace))


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ({"num_winners": 0}, "num_winners: got 0"),
        ({"num_winners": 3, "keeps_parent": True}, "num_winners: got 3 with a parent that competes"),
        ({"mixes": True}, "num_winners: got 1 with two parents that mix"),
    ],
)
def test_order_statistics_that_are_refused(stated, words):
    with pytest.raises(ValueError, match=f"^{words}"):
        law.OrderStatistic(**stated)
