"""Mutation densities: their distributions against exact laws, their independence, and the arguments they refuse.

Sums are checked within 4 standard errors (a false alarm in 6·10⁻⁵ of the checks), distributions by a Kolmogorov–Smirnov
test at p > 10⁻⁴; all seeds are fixed.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import mutagrad
from mutagrad import mutation as density

NUM_KEYS = 20_000
PARAMS = {"a": jnp.ones((3, 2)), "b": jnp.ones((3, 2)), "c": {"d": jnp.ones(4), "e": jnp.ones(())}}
SIZE = 17
NU = 10.0
# A matrix, its double and a vector, for low rank; scales that differ by parameter.
SCALE = {"a": 0.5, "b": jnp.arange(6.0).reshape(3, 2), "c": 2.0}
DENSITIES = {
    "gaussian": density.gaussian(),
    "sphere": density.sphere(),
    "ball": density.ball(),
    "student_t": density.student_t(NU),
    "rademacher": density.rademacher(),
    "low_rank": density.low_rank(1, formed=True),
    "low_rank of two": density.low_rank(2),
    "scaled": density.scaled(SCALE),
    "scaled sphere": density.scaled(SCALE, density.sphere()),
}
RADIAL = ["gaussian", "sphere", "ball", "student_t"]


@functools.cache
def flat_noise(name):
    """(NUM_KEYS, N) noise of the offspring of one generation, the leaves one after another."""
    key, sample_fn = jax.random.key(0), DENSITIES[name].sample_fn
    noise = jax.jit(jax.vmap(lambda i: sample_fn(jax.random.fold_in(key, i), PARAMS)))(jnp.arange(NUM_KEYS))
    return np.concatenate([np.asarray(leaf, float).reshape(NUM_KEYS, -1) for leaf in jax.tree.leaves(noise)], axis=1)


def expected_scale(name):
    if not name.startswith("scaled"):
        return np.ones(SIZE)
    return np.concatenate([np.full(6, 0.5), np.arange(6.0), np.full(5, 2.0)])


@pytest.mark.parametrize("name", DENSITIES)
def test_mean_and_covariance(name):
    """Mean 0 and covariance I (or diag(scale²)), each of the 17 + 153 entries within its standard error.

    Among 170 entries 4.8 standard errors are passed by chance in 3·10⁻⁴ of the runs.
    """
    z = flat_noise(name)
    products = np.concatenate([z, (z[:, :, None] * z[:, None, :])[:, *np.triu_indices(SIZE)]], axis=1)
    scale = expected_scale(name)
    expected = np.concatenate([np.zeros(SIZE), np.diag(scale**2)[np.triu_indices(SIZE)]])
    error = products.std(axis=0, ddof=1) / math.sqrt(NUM_KEYS)
    deviation = np.abs(products.mean(axis=0) - expected)
    assert np.all(deviation <= 4.8 * error + 1e-6)
    assert np.max(error) < 0.05 * np.max(scale**2)  # an entry wrong by a quarter would be seen


@pytest.mark.parametrize("name", RADIAL)
def test_radial_symmetry(name):
    """The direction is uniform: (1 + ĝ·z/|z|)/2 ~ Beta((N−1)/2, (N−1)/2) for any ĝ, and it tells nothing of |z|."""
    z = flat_noise(name)
    radius = np.linalg.norm(z, axis=1)
    for seed in range(3):
        direction = np.random.default_rng(seed).normal(size=SIZE)
        cosine = z @ direction / np.linalg.norm(direction) / radius
        law = stats.beta((SIZE - 1) / 2, (SIZE - 1) / 2)
        assert stats.kstest((1 + cosine) / 2, law.cdf).pvalue > 1e-4
        if name != "sphere":
            correlation = np.corrcoef(cosine**2, radius)[0, 1]
            assert abs(correlation) < 4 / math.sqrt(NUM_KEYS)


def test_a_product_density_is_not_radial():
    """The power of the test above: random signs, of the same covariance, are rejected along an axis."""
    z = flat_noise("rademacher")
    cosine = z[:, 0] / np.linalg.norm(z, axis=1)
    assert stats.kstest((1 + cosine) / 2, stats.beta((SIZE - 1) / 2, (SIZE - 1) / 2).cdf).pvalue < 1e-10


def test_radii():
    radius = {name: np.linalg.norm(flat_noise(name), axis=1) for name in RADIAL}
    np.testing.assert_allclose(radius["sphere"], math.sqrt(SIZE), rtol=1e-6)
    assert np.all(radius["ball"] <= math.sqrt(SIZE + 2) * (1 + 1e-6))
    laws = {
        "gaussian": (radius["gaussian"] ** 2, stats.chi2(SIZE)),
        "ball": ((radius["ball"] / math.sqrt(SIZE + 2)) ** SIZE, stats.uniform()),
        "student_t": (radius["student_t"] ** 2 / SIZE * NU / (NU - 2), stats.f(SIZE, NU)),
    }
    for name, (values, law) in laws.items():
        assert stats.kstest(values, law.cdf).pvalue > 1e-4, name
    # Power: the same samples tell ν = 10 from ν = 12.
    wrong = radius["student_t"] ** 2 / SIZE * 12 / 10
    assert stats.kstest(wrong, stats.f(SIZE, 12).cdf).pvalue < 1e-4


def test_student_t_is_heavier_than_gaussian_along_each_axis():
    """Each parameter is t_ν √((ν−2)/ν): Kolmogorov–Smirnov, with the gaussian rejected by the same samples."""
    z = flat_noise("student_t")[:, 3]
    assert stats.kstest(z / math.sqrt((NU - 2) / NU), stats.t(NU).cdf).pvalue > 1e-4
    assert stats.kstest(z, stats.norm.cdf).pvalue < 1e-4


def test_rademacher_values():
    z = flat_noise("rademacher")
    np.testing.assert_array_equal(np.abs(z), 1.0)
    assert 0 < np.sum(z > 0) < z.size


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_low_rank(rank):
    """Rank r on matrices, gaussian on the rest, and fourth moments E[z⁴] = 3(1 + 2/r), where a gaussian has 3.

    A tensor is a matrix of its first axis, or its last, against the others; one that this saves nothing is gaussian.
    """
    params = {
        "matrix": jnp.ones((5, 4)),
        "vector": jnp.ones(6),
        "tensor": jnp.ones((1, 2, 1)),
        "kernel": jnp.ones((3, 3, 2, 8)),
    }
    sample_fn = density.low_rank(rank).sample_fn
    noise = jax.jit(jax.vmap(lambda key: sample_fn(key, params)))(jax.random.split(jax.random.key(1), NUM_KEYS))
    singular = np.linalg.svd(np.asarray(noise["matrix"][:50], float), compute_uv=False)
    assert np.all(singular[:, rank - 1] > 1e-4)
    assert np.all(singular[:, rank:] < 1e-5 * singular[:, :1])
    kernel = np.asarray(noise["kernel"][:50], float).reshape(50, 18, 8)
    singular = np.linalg.svd(kernel, compute_uv=False)
    assert np.all(singular[:, rank - 1] > 1e-4)
    assert np.all(singular[:, rank:] < 1e-5 * singular[:, :1])
    for other in ("vector", "tensor"):
        values = np.asarray(noise[other]).reshape(NUM_KEYS, -1)[:, 0]
        assert stats.kstest(values, stats.norm.cdf).pvalue > 1e-4
    fourth = np.mean(np.asarray(noise["matrix"], float) ** 4, axis=(1, 2))
    error = fourth.std(ddof=1) / math.sqrt(NUM_KEYS)
    assert abs(fourth.mean() - 3 * (1 + 2 / rank)) < 4 * error


@pytest.mark.parametrize("name", DENSITIES)
def test_same_shaped_leaves_never_share_noise(name):
    """Leaves a and b have one shape: bitwise different in every entry that can be, and uncorrelated entry by entry."""
    z = flat_noise(name) / np.where(expected_scale(name) == 0, 1, expected_scale(name))
    a, b = z[:, 1:6], z[:, 7:12]
    if name != "rademacher":
        assert np.mean(a == b) < 1e-4
    products = np.mean(a * b, axis=1)
    assert abs(products.mean()) < 4 * products.std(ddof=1) / math.sqrt(NUM_KEYS)
    # A shared stream would make the product 1, hundreds of standard errors away.
    assert products.std(ddof=1) / math.sqrt(NUM_KEYS) < 0.03


@pytest.mark.parametrize("name", DENSITIES)
def test_offspring_are_independent(name):
    """Neighbouring offspring of one generation: never equal, no correlation, and no correlation of lengths."""
    z = flat_noise(name)
    if name != "rademacher":
        assert len(np.unique(z, axis=0)) == NUM_KEYS
    products = np.sum(z[:-1] * z[1:], axis=1)
    assert abs(products.mean()) < 4 * products.std(ddof=1) / math.sqrt(products.size)
    squares = np.sum(z**2, axis=1)
    if squares.std() > 1e-3:
        assert abs(np.corrcoef(squares[:-1], squares[1:])[0, 1]) < 4 / math.sqrt(NUM_KEYS)


@pytest.mark.parametrize("name", ["gaussian", "student_t", "scaled sphere"])
def test_the_same_key_makes_the_same_noise(name):
    sample_fn = jax.jit(DENSITIES[name].sample_fn)
    once, again = (sample_fn(jax.random.key(2), PARAMS) for _ in range(2))
    other = sample_fn(jax.random.key(3), PARAMS)
    jax.tree.map(np.testing.assert_array_equal, once, again)
    assert not np.array_equal(once["a"], other["a"])


@pytest.mark.parametrize("name", ["gaussian", "rademacher", "low_rank"])
def test_the_stream_of_a_leaf_ignores_the_size_of_the_others(name):
    sample_fn = DENSITIES[name].sample_fn
    small = sample_fn(jax.random.key(0), {"a": jnp.ones((2, 2)), "b": jnp.ones((3, 4))})
    large = sample_fn(jax.random.key(0), {"a": jnp.ones((20, 3)), "b": jnp.ones((3, 4))})
    np.testing.assert_array_equal(small["b"], large["b"])


@pytest.mark.parametrize("name", ["sphere", "ball", "student_t"])
def test_the_direction_of_a_leaf_ignores_the_size_of_the_others(name):
    """For radial densities only the common length depends on the other leaves."""
    sample_fn = DENSITIES[name].sample_fn
    small = np.asarray(sample_fn(jax.random.key(0), {"a": jnp.ones((2, 2)), "b": jnp.ones(12)})["b"], float)
    large = np.asarray(sample_fn(jax.random.key(0), {"a": jnp.ones((20, 3)), "b": jnp.ones(12)})["b"], float)
    np.testing.assert_allclose(small / np.linalg.norm(small), large / np.linalg.norm(large), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["gaussian", "sphere", "rademacher", "low_rank", "scaled"])
def test_other_leaves_are_left_alone(name):
    """Integer, boolean and key leaves pass through a generation, and do not count as parameters."""
    params = PARAMS | {"mask": jnp.array([True, False]), "n": jnp.arange(3), "z_key": jax.random.key(5)}
    scale = SCALE | {"mask": 1.0, "n": 1.0, "z_key": 1.0}
    mutation = density.scaled(scale) if name == "scaled" else DENSITIES[name]
    algorithm = mutagrad.comma(0.5, 3, mutation=mutation)
    state, _ = jax.jit(lambda key, state: algorithm.step(key, state, lambda p: jnp.sum(p["a"])))(
        jax.random.key(0), algorithm.init(params)
    )
    np.testing.assert_array_equal(state.params["mask"], params["mask"])
    np.testing.assert_array_equal(state.params["n"], params["n"])
    assert state.params["n"].dtype == params["n"].dtype
    assert state.params["mask"].dtype == bool
    np.testing.assert_array_equal(jax.random.key_data(state.params["z_key"]), jax.random.key_data(params["z_key"]))
    moved = np.concatenate([np.ravel(state.params[leaf] - PARAMS[leaf]) for leaf in "ab"])
    assert np.sum(moved != 0) >= 11  # all but the entry of scale zero
    if name == "sphere":
        total = sum(float(jnp.sum((state.params[leaf] - PARAMS[leaf]) ** 2)) for leaf in "ab")
        total += sum(float(jnp.sum((state.params["c"][leaf] - PARAMS["c"][leaf]) ** 2)) for leaf in "de")
        np.testing.assert_allclose(total, 0.25 * SIZE, rtol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_narrow_leaves_are_mutated_in_float32(dtype):
    """The noise of 16-bit leaves is float32, and its sum with the leaf is rounded once, to the leaf's dtype."""
    params = jnp.linspace(0.1, 3.0, 50).astype(dtype)
    noise = density.gaussian().sample_fn(jax.random.key(0), params)
    assert noise.dtype == jnp.float32
    algorithm = mutagrad.comma(0.25, 1)
    key = jax.random.key(1)
    state, _ = algorithm.step(key, algorithm.init(params), lambda x: jnp.sum(x.astype(jnp.float32)))
    z = density.gaussian().sample_fn(jax.random.fold_in(jax.random.split(key)[0], 0), params)
    expected = (np.asarray(params, np.float32) + np.float32(0.25) * np.asarray(z)).astype(params.dtype)
    assert state.params.dtype == dtype
    np.testing.assert_array_equal(np.asarray(state.params), expected)


def test_scaled_is_the_base_times_the_scale():
    z, scaled = flat_noise("sphere"), flat_noise("scaled sphere")
    # Compiled differently, a sphere's length and the scale may be multiplied in another order: two roundings.
    np.testing.assert_allclose(scaled, z * expected_scale("scaled"), rtol=2.5e-7)


def test_scaled_by_a_single_number_or_a_node():
    key = jax.random.key(0)
    base = density.gaussian().sample_fn(key, PARAMS)
    doubled = density.scaled(2.0).sample_fn(key, PARAMS)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(2 * a, b), base, doubled)
    by_node = density.scaled({"a": 1.0, "b": 1.0, "c": 3.0}).sample_fn(key, PARAMS)
    np.testing.assert_array_equal(by_node["c"]["d"], 3 * base["c"]["d"])
    np.testing.assert_array_equal(by_node["c"]["e"], 3 * base["c"]["e"])


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: density.student_t(2.0), "degrees_of_freedom: got 2.0"),
        (lambda: density.student_t(math.nan), "degrees_of_freedom: got nan"),
        (lambda: density.low_rank(0), "rank: got 0"),
        (lambda: density.low_rank(1.5), "rank: got 1.5"),
        (lambda: density.low_rank(True), "rank: got True"),
        (lambda: density.scaled({"a": -1.0}), r"scale\['a'\]: got -1.0"),
        (lambda: density.scaled({"a": math.nan}), r"scale\['a'\]: got nan"),
        (lambda: density.scaled({"a": math.inf}), r"scale\['a'\]: got inf"),
        (lambda: density.scaled(jnp.array([1.0, -2.0])), "scale: got"),
        (lambda: density.scaled({"x": 1.0}).sample_fn(jax.random.key(0), PARAMS), "scale: got a tree"),
        (lambda: density.scaled(SCALE | {"b": jnp.ones(6)}).sample_fn(jax.random.key(0), PARAMS), r"scale\['b'\]"),
        (lambda: density.scaled(SCALE | {"b": jnp.ones((1, 2))}).sample_fn(jax.random.key(0), PARAMS), r"scale\['b'\]"),
    ],
)
def test_refused_arguments(build, named):
    """One line that names the argument first."""
    with pytest.raises(ValueError, match=f"^{named}") as caught:
        build()
    assert "\n" not in str(caught.value)
