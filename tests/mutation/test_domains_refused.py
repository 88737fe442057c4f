"""Compositions of discrete and bounded mutations, and what they refuse: one line each."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mutagrad
from mutagrad import mutation as density


def test_scaled_and_masked():
    params = {"a": jnp.zeros(50_000, jnp.int8), "b": jnp.zeros(50_000, jnp.int8), "c": jnp.zeros(5, jnp.int8)}
    mutation = density.masked(
        {"a": True, "b": True, "c": False}, density.scaled({"a": 1.0, "b": 3.0, "c": 1.0}, density.discrete())
    )
    noise = mutation.sample_fn(jax.random.key(0), params)
    assert noise["c"] is None
    for name, sigma in (("a", 0.1), ("b", 0.3)):
        share = float(jnp.mean(noise[name].applied(params[name], jnp.float32(0.1)) != 0))
        p = float(mutagrad.theory.mutation_probability(sigma))
        assert abs(share - p) < 4 * math.sqrt(p / 50_000)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: density.discrete("int8"), r"domain: got 'int8'; pass a range"),
        (lambda: density.discrete({"a": 3}), r"domain\['a'\]: got 3; pass a range"),
        (lambda: density.discrete(range(1)), r"domain: got range\(0, 1\) of 1 values"),
        (lambda: density.discrete({"a": False}), r"domain: got nothing that is discrete"),
        (lambda: density.categories(1), r"values: got 1; pass a whole number of 2 or more"),
        (lambda: density.bounded(1.0, 1.0), r"low: got 1 with high = 1; pass low below high"),
        (lambda: density.bounded({"a": 0.0}, {"a": -1.0}), r"low\['a'\]: got 0 with high = -1"),
        (lambda: density.bounded("0", 1.0), r"low: got '0'; pass a number"),
        (lambda: density.bounded(None, 1.0), r"low: got None; pass a number"),
        (lambda: density.bounded(0.0, math.nan), r"high: got nan; pass a number"),
        (lambda: density.bounded(0, 10**400), r"high: got 1000.*; pass a number"),
        (lambda: density.discrete(range(10**400)), r"domain: got a range beyond 2⁶⁴"),
        (lambda: density.discrete(range(10**400, 10**400 + 4)), r"domain: got a range beyond 2⁶⁴"),
        (lambda: density.discrete(True, "gaussian"), r"mutation: got 'gaussian'; pass one such as"),
        (lambda: density.bounded(0, 1, density.gaussian), r"mutation: got <function gaussian .*; pass one such as"),
    ],
)
def test_bad_domains_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(
    ("mutation", "params", "message"),
    [
        (density.discrete(), jnp.zeros(3, jnp.int32), r"got True for a leaf of int32; pass a range"),
        (
            density.discrete(range(3)),
            jnp.asarray([0, 3, 5]),
            r"params: got 2 of 3 values outside range\(0, 3\), such as 3",
        ),
        (
            density.discrete(range(3)),
            jnp.asarray([0.5]),
            r"params: got 1 of 1 values outside range\(0, 3\), such as 0.5",
        ),
        (density.discrete(range(300)), jnp.zeros(2, jnp.int8), r"params: got int8, which does not hold the values"),
        (density.discrete(range(300)), jnp.zeros(2, jnp.bfloat16), r"params: got bfloat16, which does not hold"),
        (density.discrete({"b": range(3)}), {"a": jnp.zeros(2)}, r"domain: got a tree"),
        (
            density.bounded(0.0, 1.0),
            jnp.asarray([0.5, 1.5]),
            r"params: got 1 of 2 values outside \[0, 1\], such as 1.5",
        ),
        (density.gaussian(), jnp.zeros(3, jnp.int8), r"params: got no floating leaf .*mutation.discrete"),
        (density.discrete(range(3)), jnp.asarray([jnp.nan]), r"params: got 1 of 1 values NaN"),
        (
            density.bounded(1.0, 1.001),
            jnp.ones(2, jnp.bfloat16),
            r"params: got walls 1 and 1.001, which are one number in bfloat16",
        ),
        (
            density.bounded(0.0, 1.0),
            jnp.ones(2, jnp.int8),
            r"params: got no leaf that bounded gaussian mutations change",
        ),
        (density.discrete(), {"k": jax.random.key(0)}, r"params: got no leaf that discrete gaussian mutations change"),
    ],
)
def test_bad_params_are_refused(mutation, params, message):
    algorithm = mutagrad.elitist(0.1, 4, mutation=mutation)
    with pytest.raises(ValueError, match=message):
        algorithm.init(params)
    with pytest.raises(ValueError, match=message):
        mutagrad.diagnose(jax.random.key(0), lambda x: jnp.zeros(()), params, algorithm)


def test_bad_parents_are_refused():
    algorithm = mutagrad.truncation(0.1, 4, 2, mutation=density.discrete(range(3)))
    with pytest.raises(ValueError, match=r"params: got 1 of 4 values outside range\(0, 3\), such as 9"):
        algorithm.init(mutagrad.parents([jnp.asarray([0, 1]), jnp.asarray([9, 1])]))


def test_parents_share_what_does_not_mutate():
    several = [{"x": jnp.asarray([i, 1]), "n": jnp.asarray(i)} for i in (0, 2)]
    algorithm = mutagrad.truncation(0.1, 4, 2, mutation=density.discrete({"x": range(3), "n": False}))
    state = algorithm.init(mutagrad.parents(several))
    np.testing.assert_array_equal(state.parents["x"], [[0, 1], [2, 1]])
    np.testing.assert_array_equal(state.parents["n"], [0, 0])


def test_discrete_values_have_no_mean():
    algorithm = mutagrad.weighted_recombination(0.1, 10, mutation=density.discrete())
    with pytest.raises(ValueError, match=r"selection: got shares that blend, and params is discrete"):
        algorithm.init(jnp.zeros(3, jnp.int8))

    def halves(key, losses, parent_losses):
        return mutagrad.Descent(jnp.asarray([[0, 1]]), jnp.asarray([[0.5, 0.5]]))

    own = mutagrad.mutation_selection(density.discrete(), halves, 4, sigma=0.1)
    with pytest.raises(ValueError, match=r"selection: got shares that blend, and params is discrete"):
        own.step(jax.random.key(0), own.init(jnp.zeros(3, jnp.int8)), lambda x: jnp.sum(x.astype(jnp.float32)))


def test_rates_of_any_sigma():
    found = mutagrad.theory.mutation_probability(jnp.asarray([0.0, 1e-12, 1e-3, 1.0, 1e20, jnp.inf]))
    np.testing.assert_allclose(found, [0, 1e-24, 1e-6, 0.4226497, 1, 1], rtol=1e-5)
    for sigma, words in ((-1.0, "sigma: got -1.0; pass numbers of 0 or more"), (1j, "sigma: got 1j; pass numbers")):
        with pytest.raises(ValueError, match=words):
            mutagrad.theory.mutation_probability(sigma)
    with pytest.raises(ValueError, match=r"loss_down: got shape \(3,\) with loss_up of \(2,\)"):
        mutagrad.theory.site_drift(mutagrad.greedy(0.1), jnp.ones(2), jnp.ones(3))


def test_site_drift_is_of_rules_that_accept():
    with pytest.raises(ValueError, match="whose rule ranks its offspring"):
        mutagrad.theory.site_drift(mutagrad.elitist(0.1, 20), 1.0, -1.0)
    with pytest.raises(ValueError, match=r"discrete gaussian mutations, which state no law"):
        mutagrad.theory.drift(mutagrad.greedy(0.1, mutation=density.discrete()), 1.0)


def test_a_diagnosis_of_integers():
    """Slope and curvature of a quadratic on int8 parameters, within 4 errors; categories have no slope."""
    target = jnp.asarray(np.random.default_rng(0).integers(-40, 40, 200), jnp.float32)

    def loss_fn(x):
        return jnp.mean(jnp.square(x.astype(jnp.float32) - target))

    algorithm = mutagrad.elitist(2.0, 20, mutation=density.discrete())
    found = mutagrad.diagnose(jax.random.key(0), loss_fn, jnp.zeros(200, jnp.int8), algorithm)
    assert found.num_parameters == 200
    slope, trace = found.best.squared_grad_norm, found.best.hessian_trace
    assert abs(slope.value - float(jnp.sum(jnp.square(2 * target / 200)))) < 4 * slope.error
    assert abs(trace.value - 2) < 4 * trace.error
    mutation = density.discrete(density.categories(range(-128, 128)))
    with pytest.raises(ValueError, match="categories at params, which have no slope"):
        mutagrad.diagnose(
            jax.random.key(0), loss_fn, jnp.zeros(200, jnp.int8), mutagrad.elitist(2.0, 20, mutation=mutation)
        )
