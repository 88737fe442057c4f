"""Curvature against exact Hessians and known spectra, and its standard errors against their own claims."""

import importlib.util
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from curvature_problems import FALSE_ALARM, KEY, agrees, compiled, line, network, quadratic, ranks, truth_of
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from mutagrad import theory, tree
from mutagrad.theory import hessian
from mutagrad.theory import ranks as rank_estimates


@pytest.fixture(scope="module")
def net():
    return network()


def test_trace_of_a_network(net):
    """20000 probes: the error is a percent, and what it covers is the exact trace."""
    found = theory.hessian_trace(net.losses, net.params, KEY, num_probes=20_000)
    assert agrees(found, net.eigenvalues.sum(), 20_000)
    assert found.error < 0.01 * net.eigenvalues.sum()


def test_largest_eigenvalue_of_a_network(net):
    """Its error is quadratic in the residual, as the docstring says; rounding of float32 is allowed for."""
    top, second = net.eigenvalues[-1], net.eigenvalues[-2]
    value, error = map(float, theory.largest_eigenvalue(net.losses, net.params, KEY, tolerance=0.03)[:2])
    assert 1e-4 * top < error <= 0.06 * top
    assert abs(value - top) <= min(error, error**2 / (value - second)) + 2e-6 * top


def test_ranks_of_a_network(net):
    number, truth = 5000, truth_of(net.eigenvalues)
    found = ranks(net.losses, net.params, KEY, num_probes=number)
    for name in ("rank", "trace", "participation", "stable"):
        assert agrees(found[name], truth[name], number), name
        assert found[name].error < 0.03 * truth[name]
    assert float(found["largest"].value) == pytest.approx(truth["largest"], rel=1e-5)
    # The three differ by far more than their errors: none passes for another.
    values, errors, _ = zip(*(found[name] for name in ("rank", "participation", "stable")), strict=True)
    assert min(abs(a - b) for i, a in enumerate(values) for b in values[:i]) > 10 * max(errors)


# --- known spectra ------------------------------------------------------------------------------------------------------

LARGE = 100_000
ASYMPTOTIC = {
    0.5: 2 * math.sqrt(LARGE) - 1.4603545,
    1.0: math.log(LARGE) + np.euler_gamma,
    1.3: special.zeta(1.3) - LARGE**-0.3 / 0.3,
}
"""Σ k^(−a) for k ≤ N by Euler and Maclaurin: N^(1−a)/(1−a) + ζ(a), ln N + γ, and ζ(a) less its tail."""


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.3])
def test_power_laws_of_a_hundred_thousand(exponent):
    """[W26]: r ~ N^(1−a)/(1−a), ln N, ζ(a)."""
    spectrum = np.arange(1, LARGE + 1) ** -exponent
    truth = truth_of(spectrum)
    assert truth["rank"] == pytest.approx(ASYMPTOTIC[exponent], rel=1e-5)
    found = compiled(LARGE)(jnp.asarray(spectrum, jnp.float32), jnp.zeros(LARGE), jax.random.key(7))
    for name in ("rank", "trace", "participation", "stable"):
        assert agrees(found[name], truth[name]), name
        assert found[name].error < 0.06 * truth[name]
    # The gap is 1 − 2^(−a), and the value is quadratic in the residual.
    assert found["largest"].error < 2e-4
    assert float(found["largest"].value) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("size", [1, 1000])
def test_rank_one_and_identity(size):
    """r = 1 and r = N up to rounding, all three ranks, without an error to speak of."""
    direction, zeros = jnp.arange(1.0, size + 1.0), jnp.zeros(size)
    cases = ((zeros, direction, 1, float(jnp.sum(direction**2))), (jnp.full(size, 3.0), zeros, size, 3.0 * size))
    for curvatures, direction, rank, trace in cases:
        found = compiled(size, 1e-12)(curvatures, direction, KEY)
        assert float(found["trace"].value) == pytest.approx(trace, rel=3e-6)
        for name in ("rank", "participation", "stable"):
            assert float(found[name].value) == pytest.approx(rank, rel=5e-6), name
            assert found[name].error < 1e-5 * rank, name


# --- standard errors ----------------------------------------------------------------------------------------------------

NUM_SEEDS, NUM_PROBES, SIZE = 200, 64, 100
ESTIMATES = ("hutchinson", "trace", "rank", "participation", "stable")


@pytest.fixture(scope="module")
def replicates():
    """200 seeds of everything on λ_k = 1/k, N = 100, and the truth."""
    curvatures = 1 / jnp.arange(1.0, SIZE + 1.0)
    loss, start = quadratic(curvatures), jnp.ones(SIZE)

    @jax.jit
    @jax.vmap
    def measured(key):
        return {"hutchinson": theory.hessian_trace(loss, start, key)} | ranks(loss, start, key, num_steps=32)

    truth = truth_of(np.asarray(curvatures, float))
    found = measured(jax.random.split(jax.random.key(3), NUM_SEEDS))
    return jax.tree.map(np.asarray, found), truth | {"hutchinson": truth["trace"]}


def test_standard_errors_cover_the_truth_as_often_as_they_claim(replicates):
    """Within two standard errors as often as a Student t of 63 degrees of freedom, by a two-sided binomial bound."""
    claimed = 1 - 2 * stats.t.sf(2, NUM_PROBES - 1)
    low, high = stats.binom.ppf([FALSE_ALARM / 2, 1 - FALSE_ALARM / 2], NUM_SEEDS, claimed)
    assert (low, high) == (176, 199)
    found, truth = replicates
    counts = {name: int(np.sum(np.abs(found[name].value - truth[name]) <= 2 * found[name].error)) for name in ESTIMATES}
    assert all(low <= count <= high for count in counts.values()), counts


def test_standard_errors_are_the_spread_of_the_estimates(replicates):
    """The mean squared error that is claimed over the variance that is found, and no bias.

    The variance of 200 normal values is a χ² of 199 degrees of freedom: it is off by a factor outside (0.65, 1.45) with
    probability 10⁻⁴.
    """
    found, truth = replicates
    low, high = (NUM_SEEDS - 1) / stats.chi2.ppf([1 - FALSE_ALARM / 2, FALSE_ALARM / 2], NUM_SEEDS - 1)
    for name in ESTIMATES:
        values, errors = found[name][:2]
        ratio = np.mean(errors**2) / np.var(values, ddof=1)
        assert low < ratio < high, (name, ratio)
        bias = (values.mean() - truth[name]) / (values.std(ddof=1) / math.sqrt(NUM_SEEDS))
        assert abs(bias) < stats.norm.isf(FALSE_ALARM / 2), (name, bias)


def test_the_error_of_a_probe_is_that_of_the_spectrum(replicates):
    """2N/(N + 2) (Tr(H²) − (TrH)²/N), by 12800 probes; four standard errors of the mean over the seeds."""
    found, truth = replicates

    def variance(trace, square, size):
        return 2 * size / (size + 2) * (square - trace**2 / size)

    trace, square = truth["trace"], truth["stable"]
    for name, expected in (
        ("hutchinson", variance(trace, square, SIZE)),
        ("trace", variance(trace - 1, square - 1, SIZE - 1)),  # across the top eigenvector, λ = 1, less is left to vary
    ):
        measured = found[name].error ** 2 * NUM_PROBES
        allowed = 4 * measured.std(ddof=1) / math.sqrt(NUM_SEEDS)
        assert abs(measured.mean() - expected) < allowed
        assert allowed < 0.1 * expected


def test_the_bound_of_the_largest_eigenvalue_never_fails(replicates):
    found, _ = replicates
    assert np.all(np.abs(found["largest"].value - 1) <= found["largest"].error + 1e-6)
    assert np.all(found["largest"].error <= 2e-4)
    assert np.all(np.abs(found["largest"].value - 1) < 2e-6)


def test_one_of_them_is_what_the_public_function_returns(replicates):
    """Neither jit nor vmap changes it."""
    found, _ = replicates
    key = jax.random.split(jax.random.key(3), NUM_SEEDS)[17]
    alone = theory.effective_rank(quadratic(1 / jnp.arange(1.0, SIZE + 1.0)), jnp.ones(SIZE), key, num_steps=32)
    assert float(alone.rank) == pytest.approx(found["rank"].value[17], rel=1e-5)
    assert float(alone.error) == pytest.approx(found["rank"].error[17], rel=1e-3)


def test_the_bias_of_the_participation_ratio_is_taken_off():
    """Four probes whose traces scatter with their squares: the plain ratio is off by an eighth, the corrected one is not."""
    rng = np.random.default_rng(0)
    square = rng.gamma(25, 4, (20_000, 4))
    trace = 20 + 14 * rng.normal(size=square.shape) + 0.3 * (square - 100)
    corrected = jax.vmap(lambda *probes: rank_estimates._Moments(None, *probes).participation_ratio().value)(
        trace, square
    )
    plain = trace.mean(1) ** 2 / square.mean(1)
    # 4 (1 + Var(t/T − f/F)/m), to the next order in 1/m.
    bias = ((14 / 20) ** 2 + (0.3 / 20 - 1 / 100) ** 2 * 25 * 16) / 4
    error = plain.std() / math.sqrt(20_000)
    assert abs(float(np.mean(corrected)) - 4) < 0.05 * 4 * bias + 4 * error
    assert abs(plain.mean() - 4 * (1 + bias)) < 0.05 * 4 * bias + 4 * error
    assert bias > 0.12


# --- any tree -----------------------------------------------------------------------------------------------------------


SHAPES = st.sampled_from([(), (1,), (3,), (2, 3), (0,), (2, 1, 2)])
LEAVES = st.one_of(
    SHAPES.map(lambda shape: jnp.full(shape, 0.5)),
    SHAPES.map(lambda shape: np.full(shape, 0.5, np.float32)),
    st.sampled_from([jnp.int32(3), jnp.array([True]), 7, jax.random.key(1)]),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner) | st.tuples(inner, inner)
    ),
    max_leaves=6,
)


def floating(params):
    return [jnp.asarray(leaf) for leaf in jax.tree.leaves(params) if tree.is_floating(leaf)]


def coupled(params):
    """½·3|x|² + S⁴ with S = Σx: H = 3I + 12 S² 11ᵀ, whatever holds the numbers."""
    leaves = floating(params)
    total = sum((jnp.sum(leaf) for leaf in leaves), jnp.float32(0))
    return 3 * sum((jnp.sum(leaf**2) for leaf in leaves), jnp.float32(0)) / 2 + total**4


@settings(max_examples=8)
@given(inner=TREES)
def test_products_and_probes_on_any_tree(inner):
    params = {"always": jnp.full((2,), 0.5), "rest": inner}
    params = tree.check_params(params)
    size = tree.size(params)
    operator = hessian.hessian_of(coupled, params)
    assert operator.size == size
    vector = hessian.probe(operator, KEY)
    flat = np.concatenate([np.ravel(leaf) for leaf in vector]).astype(float)
    assert np.sum(flat**2) == pytest.approx(size, rel=1e-5)
    assert len(vector) == len(floating(params))
    image = np.concatenate([np.ravel(leaf) for leaf in operator.product(vector)])
    np.testing.assert_allclose(image, 3 * flat + 12 * (size / 2) ** 2 * flat.sum(), rtol=1e-4, atol=1e-4 * size**3)


def test_a_tree_with_everything_in_it():
    """Exact, because the Hessian is a multiple of I and a matrix of rank one."""
    params = {
        "a": [jnp.full((2, 3), 0.5), (jnp.float32(0.5), 0.5)],
        "b": {"mask": jnp.array([True, False]), "count": 7, "none": None, "empty": jnp.zeros((0, 3))},
        "key": jax.random.key(1),
        "numpy": np.full((2, 1, 2), 0.5, np.float32),
    }
    found = theory.effective_rank(coupled, params, KEY, num_probes=2)
    curvature_of_sum = 12 * 6.0**2 * 12
    assert float(found.hessian_trace.value) == pytest.approx(3 * 12 + curvature_of_sum, rel=1e-5)
    assert float(found.largest_eigenvalue.value) == pytest.approx(3 + curvature_of_sum, rel=1e-5)


def test_leaves_of_sixteen_bits():
    """bfloat16 beside float32: products good to a percent, sums in float32."""
    params = {"a": jnp.ones(300, jnp.bfloat16), "b": jnp.ones(700)}
    curvatures = 1 / jnp.arange(1.0, 1001.0)

    def loss(params):
        low = jnp.sum(curvatures[:300].astype(jnp.bfloat16) * params["a"] ** 2)
        return (low.astype(jnp.float32) + jnp.sum(curvatures[300:] * params["b"] ** 2)) / 2

    trace = float(jnp.sum(curvatures))
    found = theory.effective_rank(loss, params, KEY)
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype(jnp.float32)}
    assert agrees(found.hessian_trace, trace, allowance=0.01)
    assert agrees(theory.Estimate(found.rank, found.error), trace, allowance=0.01)
    value, error = map(float, found.largest_eigenvalue[:2])
    assert abs(value - 1) <= error + 0.01
    assert 0 < error < 0.04


def test_double_precision():
    with jax.enable_x64(True):
        found = theory.largest_eigenvalue(lambda x: jnp.sum(x**4), 1 / jnp.arange(1.0, 51.0), KEY, tolerance=1e-9)
        assert found.value.dtype == jnp.float64
        assert float(found.value) == pytest.approx(12, abs=1e-12)
        assert float(found.error) < 2e-8
        params = [jnp.ones(2), jnp.ones(3, jnp.float32)]
        operator = hessian.hessian_of(lambda p: jnp.sum(p[0] ** 2) + jnp.sum(p[1] ** 2).astype(jnp.float64), params)
        image = operator.product([jnp.ones_like(leaf) for leaf in operator.zeros()])
        assert [(leaf.dtype, float(leaf[0])) for leaf in image] == [(jnp.float64, 2.0)] * 2


def test_memory_is_that_of_a_few_models():
    """By the compiler's own count, for a perceptron of 10⁶ parameters: 64 probes and 64 steps, 8 times the params at most."""
    sizes = [784, 1000, 200, 10]
    params = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in itertools.pairwise(sizes)]
    images, labels = jnp.ones((8, 784)), jnp.zeros(8, jnp.int32)

    def loss(params):
        hidden = images
        for weight in params[:-1]:
            hidden = jax.nn.relu(hidden @ weight)
        logits = jax.nn.log_softmax(hidden @ params[-1])
        return -jnp.take_along_axis(logits, labels.reshape(8, 1), axis=1)[:, 0]

    program = jax.jit(lambda params, key: theory.effective_rank(loss, params, key)).lower(params, KEY).compile()
    memory = program.memory_analysis()
    used = memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
    assert used <= 8 * 4 * sum(math.prod(leaf.shape) for leaf in params)


# --- what is refused ----------------------------------------------------------------------------------------------------

EVERY = [
    theory.hessian_trace,
    theory.hessian_spectrum,
    theory.largest_eigenvalue,
    theory.effective_rank,
    theory.participation_ratio,
    theory.stable_rank,
]


@pytest.mark.parametrize("function", [theory.hessian_trace, theory.effective_rank])
def test_a_loss_of_steps_has_no_curvature(function):
    with pytest.raises(ValueError, match=r"^loss_fn: got a gradient and a curvature of exactly zero") as error:
        function(lambda x: jnp.mean(jnp.sign(x)), jnp.full(3, 0.3), KEY)
    assert "2 mean(ΔU)/σ²" in line(error)
    assert "info.normalized_mutation_strength" in line(error)


def black_box(x):
    return jax.pure_callback(lambda x: np.float32(np.sum(x)), jax.ShapeDtypeStruct((), jnp.float32), x)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (black_box, "JAX cannot differentiate twice (Pure callbacks"),
        (
            lambda x: jax.lax.while_loop(lambda y: jnp.sum(y) < 9, lambda y: 2 * y, x)[0],
            "JAX cannot differentiate twice",
        ),
        (lambda x: float(jnp.sum(x)), "JAX cannot trace"),
        (lambda x: np.sum(np.asarray(x)), "JAX cannot trace"),
    ],
)
def test_a_loss_without_derivatives(loss, message):
    with pytest.raises(ValueError, match=r"^loss_fn: got a loss that JAX cannot") as error:
        theory.effective_rank(loss, jnp.ones(3), KEY)
    assert message in line(error)
    assert "2 mean(ΔU)/σ²" in line(error)


def test_an_error_of_the_loss_is_its_own():
    def loss(x):
        raise KeyError("weights")

    with pytest.raises(KeyError, match="weights"):
        theory.hessian_trace(loss, jnp.ones(3), KEY)
    with pytest.raises(ValueError, match=r"^loss_fn: got int32 back"):
        theory.hessian_trace(lambda x: jnp.argmax(x), jnp.ones(3), KEY)


def test_a_minimum_is_no_step():
    """The gradient is exactly zero, the curvature is not."""
    assert float(theory.hessian_trace(lambda x: jnp.sum(x**2), jnp.zeros(4), KEY).value) == pytest.approx(8)


def test_no_curvature_is_a_trace_of_zero_and_no_rank():
    found = theory.hessian_trace(lambda x: jnp.sum(x), jnp.ones(4), KEY)
    assert [float(value) for value in found[:2]] == [0, 0]
    assert math.isnan(float(compiled(1000, 1e-12)(jnp.zeros(1000), jnp.zeros(1000), KEY)["rank"].value))


@pytest.mark.parametrize("function", [theory.largest_eigenvalue, theory.hessian_spectrum])
def test_a_curvature_that_is_not_finite(function):
    with pytest.raises(ValueError, match=r"^loss_fn: got a curvature of (nan|inf|-inf) at these params; ") as error:
        function(lambda x: jnp.sum(jnp.sqrt(x)), jnp.array([0.0, 1.0]), KEY)
    line(error)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_probes": 1}, "num_probes: got 1; pass a whole number of 2 or more"),
        ({"num_probes": 2.0}, "num_probes: got 2.0; pass a whole number of 2 or more"),
        ({"num_steps": 0}, "num_steps: got 0; pass a whole number of 1 or more"),
        ({"tolerance": 0.0}, "tolerance: got 0.0; pass a positive"),
        ({"params": jnp.arange(3)}, "params: got no floating leaf (leaf dtypes: int32)"),
        ({"params": {"w": jnp.array([1.0, np.inf])}}, "params['w']: got 1 of 2 values NaN or infinite"),
    ],
)
def test_bad_arguments(arguments, message):
    for function in EVERY:
        names = function.__code__.co_varnames[: function.__code__.co_argcount]
        if set(arguments) <= set(names):
            with pytest.raises(ValueError) as error:
                function(**{"loss_fn": lambda x: jnp.sum(x**2), "params": jnp.ones(3), "key": KEY} | arguments)
            assert line(error).startswith(message)


def test_what_needs_matfree_says_so(monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matfree" else find_spec(name))
    for function in (theory.hessian_trace, theory.hessian_spectrum):
        with pytest.raises(ImportError, match=r"^matfree: not installed; install mutagrad\[lab\]"):
            function(lambda x: jnp.sum(x**2), jnp.ones(3), KEY)
    assert float(theory.largest_eigenvalue(lambda x: jnp.sum(x**2), jnp.ones(3), KEY).value) == pytest.approx(2)
