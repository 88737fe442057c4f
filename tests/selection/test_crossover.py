"""Two parents for each child: what is inherited is exact, and drift and second moments are those of the law.

The law's moments come from an integral of our own: given the (K+1)-th best of M standard normals at t, the best K are drawn
independently from beyond t, of mean μ(t) = φ(t)/Q(t) and second moment 1 + tμ(t).
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle_problems import EXACT
from scipy import integrate, special, stats

import mutagrad
from mutagrad import selection

M, K = 12, 4


def moments_of_winners(number, winners):
    """Mean of E[z], of E[z²], and of E[z z'] for two different ones, over the best ``winners`` of ``number``."""
    below = number - winners - 1
    log_weight = special.gammaln(number + 1) - special.gammaln(winners + 1) - special.gammaln(below + 1)

    def expected(value):
        def integrand(t):
            log_density = winners * stats.norm.logsf(t) + below * stats.norm.logcdf(t) + stats.norm.logpdf(t)
            return value(t, math.exp(stats.norm.logpdf(t) - stats.norm.logsf(t))) * math.exp(log_weight + log_density)

        return integrate.quad(integrand, -9, 9, epsabs=1e-11)[0]

    return expected(lambda t, m: m), expected(lambda t, m: 1 + t * m), expected(lambda t, m: m * m)


def test_the_integral_is_right():
    """For the best two of three: E z = (c + 0)/2 with c = 3/2√π, and Σ z² of all three is 3."""
    first, second, crossed = moments_of_winners(3, 2)
    assert first == pytest.approx(3 / (4 * math.sqrt(math.pi)), rel=1e-9)
    worst_square = 1 + math.sqrt(3) / (2 * math.pi)  # E[Z_(1)²] of three
    assert second == pytest.approx((3 - worst_square) / 2, rel=1e-9)
    assert crossed == pytest.approx(math.sqrt(3) / (2 * math.pi), rel=1e-9)  # E[Z_(2) Z_(3)]


def crossed(inheritance, sigma=1.0, number=M, winners=K, mutation=None):
    rule = selection.crossover(winners, inheritance)
    return mutagrad.mutation_selection(mutation or mutagrad.mutation.gaussian(), rule, number, sigma=sigma)


def loss_of(params):
    return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(params) if mutagrad.tree.is_floating(leaf))


START = {"a": jnp.zeros((3, 4)), "b": jnp.zeros(30), "c": jnp.zeros(()), "n": jnp.arange(2)}


@pytest.mark.parametrize("inheritance", ["parameter", "leaf"])
@pytest.mark.parametrize("evaluation", ["vectorized", "mapped"])
def test_every_parameter_is_that_of_one_of_two(inheritance, evaluation):
    algorithm = crossed(inheritance, 0.25, mutation=EXACT)  # any program rounds x + σz alike
    state = algorithm.init(START)
    step = jax.jit(lambda key, state: algorithm.step(key, state, loss_of, evaluation=evaluation))
    sources = set()
    for seed in range(6):
        key = jax.random.key(seed)
        stacked = algorithm.ask(key, state).stacked()
        losses = np.asarray(jax.vmap(loss_of, in_axes=({"a": 0, "b": 0, "c": 0, "n": None},))(stacked))[K:]
        best = np.argsort(losses)[:K]
        state, info = step(key, state)
        mothers, said = info.descent.ancestors.T.tolist()
        assert (mothers, info.descent.inheritance) == (best.tolist(), inheritance)
        assert np.all(info.descent.shares == 0.5)
        np.testing.assert_array_equal(state.parents["n"], np.broadcast_to(START["n"], state.parents["n"].shape))
        for k in range(K):
            mine = {name: np.asarray(state.parents[name][k]) for name in "abc"}
            winners = {name: np.asarray(stacked[name])[K:][best] for name in "abc"}
            of = {name: mine[name][None] == winners[name] for name in "abc"}
            fathers = [f for f in range(K) if f != k and all(np.all(of[name][k] | of[name][f]) for name in "abc")]
            assert best.tolist().index(said[k]) in fathers, "more than two parents, or a parameter of neither"
            if inheritance == "leaf":
                assert all(np.all(of[name][k]) or any(np.all(of[name][f]) for f in fathers) for name in "abc")
            else:
                assert len(fathers) == 1
                assert 0 < np.mean(of["b"][k]) < 1
            sources.add((k, fathers[0] if len(fathers) == 1 else -1))
        assert np.all(info.is_accepted)
    assert len(sources) > K  # fathers change


def test_children_toss_their_own_coins():
    """Two children of the same two parents have half of 2,000 parameters in common, within five standard errors."""
    state = crossed("parameter", number=2, winners=2).init(mutagrad.parents([jnp.zeros(2000)] * 2))
    state, _ = crossed("parameter", number=2, winners=2).step(jax.random.key(0), state, loss_of)
    share = float(jnp.mean(state.parents[0] == state.parents[1]))
    assert abs(share - 0.5) < 5 * 0.5 / 2000**0.5


def projections(inheritance, size, runs=6000):
    """Displacements of the next parents along −ĝ and across it, in units of σ, from one parent on a linear loss."""
    algorithm = crossed(inheritance)
    state = algorithm.init(jnp.zeros(size))
    across = jnp.where(jnp.arange(size) % 2 == 0, 1.0, -1.0) / size**0.5

    def run(key):
        parents = algorithm.step(key, state, lambda x: jnp.sum(x))[0].parents
        return -jnp.sum(parents, axis=1) / size**0.5, parents @ across

    keys = jax.random.split(jax.random.key(7), runs)
    return tuple(np.asarray(x, float) for x in jax.jit(lambda k: jax.lax.map(run, k, batch_size=200))(keys))


@pytest.mark.parametrize("runs", [3000, pytest.param(60_000, marks=pytest.mark.verify)])
def test_drift_and_second_moments(runs):
    """Within 4 standard errors, a false alarm in 5,000 runs of the three.

    A law without crossing, or without the coin's own variance, is rejected.
    """
    size = 64
    law = crossed("parameter").definition.selection.law
    assert law == mutagrad.law.OrderStatistic(K, mixes=True)
    along, across = projections("parameter", size, runs)
    first, second, m11 = moments_of_winners(M, K)

    def check(values, expected, power_against):
        of_run = values.mean(axis=1)  # the next parents of one run are not independent
        error = of_run.std(ddof=1) / math.sqrt(runs)
        assert abs(of_run.mean() - expected) < 4 * error
        for wrong in power_against:
            assert abs(of_run.mean() - wrong) > 5 * error

    check(along, first, [0.9 * first])
    limit = 1 + (second - 1) / 2 + m11 / 2
    # N parameters share the gradient equally: the coin's part is that of N − 1 unselected and one selected direction.
    exact = (second + m11) / 2 + (2 * (size - 1) + 2 * second - 2 * m11) / (4 * size)
    assert abs(exact - limit) < 1 / size
    check(along**2, exact, [second, (second + m11) / 2])
    # Across, a child is nearly as far from its grandparent as an offspring is: the slope is a share of every parameter.
    check(across**2, 1 + (second - m11 - 1) / (2 * size), [0.9])


def test_leaves_state_no_law_and_theory_says_so():
    algorithm = crossed("leaf")
    assert algorithm.definition.selection.law is None
    with pytest.raises(ValueError, match="crossover"):
        mutagrad.theory.drift(algorithm, jnp.ones(4))


@pytest.mark.parametrize("inheritance", ["parameter", "leaf"])
def test_shares_are_frequencies(inheritance):
    """A rule of one's own, three ancestors in shares 0.2, 0.3, 0.5, the parent among them: χ² at p > 10⁻⁴."""

    def rule(key, losses, parent_losses):
        return mutagrad.Descent(jnp.array([[0, -1, 2]]), jnp.array([[0.2, 0.3, 0.5]]), inheritance)

    size = 3000 if inheritance == "parameter" else 1
    start = [jnp.zeros(size)] * (1 if inheritance == "parameter" else 20)
    algorithm = mutagrad.mutation_selection(mutagrad.mutation.gaussian(), rule, 3, sigma=1.0)
    state = algorithm.init(start)

    def sources(key):
        stacked = jnp.concatenate(algorithm.ask(key, state).stacked(), axis=1)  # parent, then three offspring
        child = jnp.concatenate(algorithm.step(key, state, loss_of)[0].params)
        return jnp.argmax(stacked == child[None], axis=0)

    keys = jax.random.split(jax.random.key(0), 4 if inheritance == "parameter" else 400)
    counts = np.bincount(np.asarray(jax.jit(jax.vmap(sources))(keys)).ravel(), minlength=4)
    assert counts[2] == 0
    assert stats.chisquare(counts[[1, 0, 3]], counts.sum() * np.array([0.2, 0.3, 0.5])).pvalue > 1e-4


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: selection.crossover(1), "num_parents: got 1"),
        (lambda: selection.crossover(2, "gene"), "inheritance: got 'gene'; pass one of parameter, leaf"),
        (lambda: crossed("leaf", number=3, winners=4), "num_parents: got 4, more than the 3 offspring"),
    ],
)
def test_refused_arguments(build, words):
    with pytest.raises(ValueError, match=f"^{words}") as caught:
        build()
    assert "\n" not in str(caught.value)


BAD = {
    "shape": (
        lambda: mutagrad.Descent(jnp.zeros((2, 2), jnp.int32), jnp.ones((2, 2))),
        r"select_fn: got ancestors \(2, 2\)",
    ),
    "shares": (lambda: mutagrad.Descent(jnp.zeros((1, 2), jnp.int32), jnp.ones((1, 3))), "select_fn: got ancestors"),
    "inheritance": (
        lambda: mutagrad.Descent(jnp.zeros((1, 2), jnp.int32), jnp.ones((1, 2)), "mix"),
        "select_fn: got inher",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_rule_that_returns_no_descent_is_refused(name):
    descent, words = BAD[name]
    algorithm = mutagrad.mutation_selection(mutagrad.mutation.gaussian(), lambda *of: descent(), 4, sigma=0.1)
    with pytest.raises(ValueError, match=f"^{words}") as caught:
        algorithm.step(jax.random.key(0), algorithm.init(START), loss_of)
    assert "\n" not in str(caught.value)
