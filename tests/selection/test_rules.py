"""Acceptance probabilities against exact formulas, and what each rule does with ties, failures and bad arguments."""

import itertools
import math

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from scipy import stats

import mutagrad
from mutagrad import selection
from mutagrad.selection import acceptance

# |βΔU| over 18 decades, both signs; exactly the float32 numbers that the library is given.
MAGNITUDES = np.logspace(-12, 6, 400).astype(np.float32)
DIFFERENCES = np.concatenate([-MAGNITUDES[::-1], MAGNITUDES])
BETAS = (1.0, 0.37)
SIZES = (1, 2, 5, 1000)
KEY = jax.random.key(8)


def exact_metropolis(x):
    return np.exp(-np.maximum(x, 0))


def exact_logistic(x):
    return np.where(x > 0, np.exp(-np.maximum(x, 0)), 1) / (1 + np.exp(-np.abs(x)))


def exact_fixation(x, n, factor):
    """(1 − e^{−s})/(1 − e^{−ns}), s = −factor·x, multiplied by e^{ns}/e^{ns} where s < 0."""
    a = factor * np.abs(x)
    beneficial = np.expm1(-a) / np.expm1(-n * a)
    return np.where(x > 0, beneficial * np.exp(-(n - 1) * a), beneficial)


RULES = {"metropolis": (selection.metropolis, exact_metropolis), "logistic": (selection.logistic, exact_logistic)}
for n, (model, factor) in itertools.product(SIZES, (("moran", 1), ("wright_fisher", 2))):
    RULES[f"{model} n={n}"] = (
        lambda beta, n=n, model=model: selection.fixation(beta, n, model),
        lambda x, n=n, factor=factor: exact_fixation(x, n, factor),
    )


def accept(rule, difference):
    return np.asarray(jax.jit(rule.law.acceptance_fn)(jnp.asarray(difference, jnp.float32)))


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("name", RULES)
def test_acceptance_is_exact(name, beta):
    """Relative error below 10⁻⁵ over |βΔU| from 10⁻¹² to 10⁶, as far down as float32 has normal numbers.

    The exponent βΔU, up to 88 before underflow, is itself rounded: 88 · 6·10⁻⁸ · a few = 10⁻⁵.
    """
    build, exact = RULES[name]
    measured = accept(build(beta), DIFFERENCES)
    expected = exact(np.longdouble(np.float32(beta)) * DIFFERENCES.astype(np.longdouble)).astype(float)
    assert measured.dtype == np.float32
    assert np.all((measured >= 0) & (measured <= 1))
    np.testing.assert_allclose(measured, expected, rtol=1e-5, atol=2e-38)


@pytest.mark.parametrize("model", ["moran", "wright_fisher"])
@pytest.mark.parametrize("size", [2**31, 10**12])
def test_fixation_in_a_population_of_more_than_an_integer_of_jax(size, model):
    """Against 40 digits, from βΔU whose neutral mutants are many to where all is fixed or lost."""
    rule, factor = selection.fixation(1.0, size, model), {"moran": 1, "wright_fisher": 2}[model]
    magnitudes = np.logspace(-16, 1, 60).astype(np.float32)
    differences = np.concatenate([-magnitudes, [np.float32(0)], magnitudes])
    with mpmath.workdps(40):
        exact = []
        for a in (mpmath.mpf(-factor * float(one)) for one in differences):
            exact.append(float(mpmath.expm1(-a) / mpmath.expm1(-size * a)) if a else 1 / size)
    measured = accept(rule, differences)
    np.testing.assert_allclose(measured, exact, rtol=1e-5, atol=2e-38)
    assert np.ptp(measured[60:]) > 0.9 / size
    assert rule.law.inverse_temperature == factor * (size - 1)
    assert winner(rule, jax.random.key(0), jnp.array([-20.0])) == 0


@pytest.mark.parametrize("name", RULES)
def test_acceptance_falls_with_the_loss(name):
    """Monotone: no worse offspring has the better chance, up to 10⁻⁶ of itself (rounding)."""
    measured = accept(RULES[name][0](1.0), DIFFERENCES).astype(float)
    assert np.all(np.diff(measured) <= 1e-6 * measured[:-1])
    assert "n=1" in name.split() or measured[0] > measured[-1]


@pytest.mark.parametrize("beta", [0.0, 1e-30, 1.0, 1e30, math.inf])
@pytest.mark.parametrize("name", RULES)
def test_acceptance_is_never_nan(name, beta):
    """A number in [0, 1] for every difference, infinite ones included, at every temperature."""
    differences = [-np.inf, -3e38, -1.0, -1e-40, -0.0, 0.0, 1e-40, 1.0, 3e38, np.inf]
    measured = accept(RULES[name][0](beta), differences)
    assert np.all((measured >= 0) & (measured <= 1)), dict(zip(differences, measured, strict=True))


@pytest.mark.parametrize("name", RULES)
def test_infinite_temperature_ignores_the_loss(name):
    """β = 0: A(ΔU) = A(0) for every finite ΔU."""
    rule = RULES[name][0](0.0)
    np.testing.assert_allclose(accept(rule, [-1e6, -1.0, 0.0, 1.0, 1e6]), RULES[name][1](np.zeros(5)[:1] + 1e-15)[0])


@pytest.mark.parametrize("name", RULES)
def test_zero_temperature_is_greedy_but_for_ties(name):
    """β = ∞: 1 downhill, 0 uphill, and A(0) at a tie."""
    measured = accept(RULES[name][0](math.inf), [-1e-6, 0.0, 1e-6])
    tie = RULES[name][1](np.array([1e-15]))[0]
    uphill = 1.0 if name.endswith("n=1") else 0.0  # a population of one takes any mutant
    np.testing.assert_allclose(measured, [1.0, tie, uphill], rtol=1e-6)


@pytest.mark.parametrize(
    ("rule", "exponent"),
    [
        (selection.metropolis(1.0), 1),
        (selection.logistic(1.0), 1),
        (selection.fixation(1.0, 2), 1),
        (selection.fixation(1.0, 7), 6),
        (selection.fixation(1.0, 2, "wright_fisher"), 2),
        (selection.fixation(1.0, 7, "wright_fisher"), 12),
    ],
    ids=["metropolis", "logistic", "moran 2", "moran 7", "wright_fisher 2", "wright_fisher 7"],
)
def test_detailed_balance(rule, exponent):
    """A(−Δ)/A(Δ) = e^{νΔ}: population size is inverse temperature, ν = n − 1 (Moran), 2(n − 1) (Wright–Fisher)."""
    x = np.logspace(-3, math.log10(80 / exponent), 100).astype(np.float32)
    ratio = np.log(accept(rule, -x).astype(float)) - np.log(accept(rule, x).astype(float))
    np.testing.assert_allclose(ratio, exponent * x.astype(float), rtol=1e-6, atol=5e-7)


def test_greedy_acceptance():
    measured = accept(selection.greedy(), [-np.inf, -2e-38, -0.0, 0.0, 2e-38, np.inf, np.nan])
    np.testing.assert_array_equal(measured, [1, 1, 1, 1, 0, 0, 0])


def winner(rule, key, losses, parent_loss=0.0):
    """The only ancestor of the only next parent, which has the whole share."""
    descent = rule.select_fn(key, losses, jnp.asarray([parent_loss], jnp.float32))
    assert descent.ancestors.shape == descent.shares.shape == (1, 1)
    assert descent.shares[0, 0] == 1
    return int(descent.ancestors[0, 0])


@pytest.mark.parametrize("seed", range(3))
def test_ties_go_to_the_offspring(seed):
    key = jax.random.key(seed)
    for rule in (selection.greedy(), selection.metropolis(3.0), selection.elitist()):
        assert winner(rule, key, jnp.zeros(1)) == 0
    assert winner(selection.elitist(), key, jnp.array([1.0, 0.0, 0.0])) == 1
    assert winner(selection.elitist(), key, jnp.array([1.0, 1e-6, 2.0])) == -1


def frequencies(rule, losses, parent_loss, num_keys=40_000):
    keys = jax.random.split(jax.random.key(0), num_keys)

    def named(key, losses, parent_losses):
        return rule.select_fn(key, losses, parent_losses)._replace(inheritance=0)  # a name is no output of jit

    select = jax.jit(jax.vmap(named, in_axes=(0, None, None)))
    descents = select(keys, jnp.asarray(losses, jnp.float32), jnp.asarray([parent_loss], jnp.float32))
    winners = np.asarray(descents.ancestors).ravel()
    return np.bincount(winners + 1, minlength=len(losses) + 1)


def test_boltzmann_frequencies():
    """χ² of 40 000 winners against the softmax of parent and offspring, p > 10⁻⁴; a loss 5 % off is rejected."""
    losses, beta = [0.5, -0.3, 1.2, -0.3], 2.0
    counts = frequencies(selection.boltzmann(beta), losses, 0.1)
    weights = np.exp(-beta * np.array([0.1, *losses]))
    expected = counts.sum() * weights / weights.sum()
    assert stats.chisquare(counts, expected).pvalue > 1e-4
    wrong = np.exp(-beta * 1.05 * np.array([0.1, *losses]))
    assert stats.chisquare(counts, counts.sum() * wrong / wrong.sum()).pvalue < 1e-4


def test_boltzmann_limits():
    """β = ∞ is the best of all, β = 0 any of those with a finite loss, and a failed candidate is never picked."""
    counts = frequencies(selection.boltzmann(math.inf), [0.5, -0.3, 1.2], 0.0, 200)
    assert counts.tolist() == [0, 0, 200, 0]
    counts = frequencies(selection.boltzmann(0.0), [0.5, math.inf, 1.2], 0.0)
    assert counts[2] == 0
    assert stats.chisquare(counts[[0, 1, 3]]).pvalue > 1e-4
    counts = frequencies(selection.boltzmann(1.0), [0.5, math.inf, 1.2], math.inf)
    assert counts[0] == counts[2] == 0
    assert stats.binomtest(int(counts[1]), int(counts.sum()), 1 / (1 + math.exp(-0.7))).pvalue > 1e-4


def test_a_boltzmann_of_two_is_logistic():
    counts = frequencies(selection.boltzmann(1.7), [0.4], 0.0)
    chance = float(selection.logistic(1.7).law.acceptance_fn(jnp.float32(0.4)))
    assert stats.binomtest(int(counts[1]), int(counts.sum()), chance).pvalue > 1e-4


def test_single_offspring_frequencies():
    """The coin is thrown with the probability that ``acceptance_fn`` states."""
    for rule in (selection.metropolis(1.0), selection.logistic(1.0), selection.fixation(1.0, 5)):
        counts = frequencies(rule, [0.9], 0.2)
        chance = float(rule.law.acceptance_fn(jnp.float32(0.7)))
        assert stats.binomtest(int(counts[1]), int(counts.sum()), chance).pvalue > 1e-4, rule.name


def test_rank_rules():
    losses, key = jnp.array([0.3, -0.1, 0.2, -0.1, jnp.inf]), jax.random.key(0)
    assert winner(selection.comma(), key, losses) == 1
    assert winner(selection.comma(), key, losses + 5) == 1
    assert winner(selection.elitist(), key, losses) == 1
    assert winner(selection.elitist(), key, losses + 5) == -1
    descent = selection.truncation(3).select_fn(key, losses, jnp.zeros(1))
    assert descent.ancestors.tolist() == [[1], [3], [2]]
    assert descent.shares.tolist() == [[1.0]] * 3


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("beta", [0.0, 1.0])
@pytest.mark.parametrize("name", ["metropolis", "logistic", "moran n=5"])
def test_a_failed_parent_is_replaced(name, beta, cached):
    """Whatever the temperature, a chain does not stay for ever at a parent whose loss is NaN."""
    algorithm = mutagrad.mutation_selection(
        mutagrad.mutation.gaussian(), RULES[name][0](beta), 1, sigma=1.0, reevaluate_parent=not cached
    )

    def loss(x):
        return jnp.where(x == 0, jnp.nan, jnp.square(x))

    state = algorithm.init(jnp.zeros(()), loss)
    keys = jax.random.split(jax.random.key(0), 50)
    state, info = jax.jit(lambda s: jax.lax.scan(lambda s, key: algorithm.step(key, s, loss), s, keys))(state)
    assert bool(jnp.any(info.is_accepted))


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: selection.metropolis(-1.0), "beta: got -1.0"),
        (lambda: selection.metropolis(math.nan), "beta: got nan"),
        (lambda: selection.logistic("hot"), "beta: got 'hot'"),
        (lambda: selection.boltzmann([1.0, 2.0]), r"beta: got \[1.0, 2.0\]"),
        (lambda: selection.fixation(1.0, 0), "population_size: got 0"),
        (lambda: selection.fixation(1.0, 2.5), "population_size: got 2.5"),
        (lambda: selection.fixation(1.0, 3, "fisher"), "model: got 'fisher'"),
        (lambda: selection.truncation(0), "num_parents: got 0"),
        (lambda: mutagrad.truncation(0.1, 3, 4), "num_parents: got 4"),
        (lambda: mutagrad.elitist(0.0, 4), "sigma: got 0.0"),
        (lambda: mutagrad.elitist(math.inf, 4), "sigma: got inf"),
        (lambda: mutagrad.elitist(0.1, 0), "num_offspring: got 0"),
        (
            lambda: mutagrad.mutation_selection(mutagrad.mutation.gaussian(), selection.greedy(), 2),
            "num_offspring: got 2",
        ),
        (lambda: mutagrad.elitist(0.1, 2, evaluation="fast"), "evaluation: got 'fast'"),
        (lambda: mutagrad.elitist(0.1, 2, evaluation=0), "evaluation: got 0"),
        (lambda: mutagrad.truncation(0.1, 5, 2, reevaluate_parent=False), "reevaluate_parent: got False"),
    ],
)
def test_refused_arguments(build, named):
    """One line that names the argument first."""
    with pytest.raises(ValueError, match=f"^{named}") as caught:
        build()
    assert "\n" not in str(caught.value)


def test_small_probabilities_are_what_they_say():
    """The number that a probability is held against is uniform far below JAX's own step of 2⁻²³: false alarm below 10⁻⁶."""
    drawn = np.asarray(jax.vmap(lambda key: acceptance._uniform(key, jnp.float32))(jax.random.split(KEY, 2**21)), float)
    assert drawn.max() < 1
    small = drawn[drawn < 2**-11]
    assert stats.kstest(small * 2**11, "uniform").pvalue > 1e-7
    # Of JAX's own all would be multiples; of these one in thousands is.
    assert np.mean(small * 2**23 % 1 == 0) < 0.02
    assert stats.kstest(drawn, "uniform").pvalue > 1e-7


def test_infinite_boltzmann_takes_the_offspring_of_a_tie():
    """As `elitist` does, and as theory says of both."""
    select = jax.jit(selection.boltzmann(math.inf).select_fn)
    picked = [
        int(select(key, jnp.array([0.0, 1.0, 0.0]), jnp.zeros(1)).ancestors[0, 0]) for key in jax.random.split(KEY, 40)
    ]
    assert set(picked) == {0, 2}
    assert int(select(KEY, jnp.ones(3), jnp.zeros(1)).ancestors[0, 0]) == -1
    assert int(select(KEY, jnp.full(3, jnp.inf), jnp.full(1, jnp.inf)).ancestors[0, 0]) >= 0
