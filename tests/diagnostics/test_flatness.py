"""Profiles along random directions: exact on quadratics, directions as long as they should be, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mutagrad
from mutagrad.diagnostics.landscape import flatness
from mutagrad.diagnostics.landscape.directions import direction

KEY = jax.random.key(0)
PARAMS = {
    "conv": {"weight": jax.random.normal(jax.random.key(1), (3, 2, 2, 2)), "bias": jnp.ones((3, 1, 1))},
    "linear": [jax.random.normal(jax.random.key(2), (4, 5)), jnp.arange(1.0, 5.0)],
    "steps": jnp.arange(3),
}


def squares(params):
    return sum(jnp.sum(leaf**2) for leaf in mutagrad.tree.floating_only(params))


def test_exact_on_a_quadratic_with_a_slope():
    """U = a + b·x + c|x|²/2: even rises c|d|²t²/2, curvature c|d|² and width √(2 rise/c)/|d|, whatever b is, without error."""
    slope = jax.random.normal(jax.random.key(3), (6, 5))

    def loss_fn(params):
        return 7 + jnp.sum(slope * params) + 1.5 * jnp.sum(params**2)

    params = jax.random.normal(jax.random.key(4), (6, 5))
    square = float(jnp.sum(params**2))
    found = flatness(KEY, loss_fn, params, num_points=9, rise=0.3 * square, num_directions=4)
    np.testing.assert_allclose(found.curvature.value, 3 * square, rtol=1e-4)
    np.testing.assert_allclose(found.rises.value, 1.5 * square * found.distances[5:] ** 2, rtol=1e-4)
    np.testing.assert_allclose(found.width.value, np.sqrt(0.3 / 1.5), rtol=1e-4)
    assert max(found.curvature.error / found.curvature.value, found.width.error) < 1e-4
    # Single directions go down on one side: they are no means of both.
    assert np.abs(found.changes[:, -1] - found.changes[:, 0]).max() > 0.1
    np.testing.assert_allclose(found.loss, float(loss_fn(params)), rtol=1e-6)
    assert (found.changes[:, 4] == 0).all()


def test_two_dimensions_have_the_profiles_of_one_on_their_axes():
    """The plane of a quadratic is |t₁d₁ + t₂d₂|²; along the axes it is the profile of a direction."""
    params = jax.random.normal(jax.random.key(4), (6, 5))
    found = flatness(KEY, lambda x: jnp.sum(x**2), params, dims=2, num_points=5, num_directions=2)
    assert found.changes.shape == (2, 5, 5)
    assert found.profiles.shape == (4, 5)
    assert found.num_directions == 4
    assert found.num_evaluations == 2 * 24 + 1
    keys = [jax.random.fold_in(KEY, index) for index in range(4)]
    first, second = (np.array(direction(keys[2 + axis], params, "filter", "zero", 0)) for axis in range(2))
    places = found.distances
    expected = [[np.sum((params + a * first + b * second) ** 2) for b in places] for a in places]
    np.testing.assert_allclose(found.changes[1], np.array(expected) - found.loss, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.curvature.value, 2 * float(jnp.sum(params**2)), rtol=1e-4)


def lengths(leaf, axis):
    return np.linalg.norm(np.moveaxis(np.asarray(leaf), axis, 0).reshape(leaf.shape[axis], -1), axis=1)


@pytest.mark.parametrize("vectors", ["zero", "leaf", "entry"])
def test_filters_are_as_long_as_those_of_the_params(vectors):
    """One by one, for outputs first; vectors as asked; integers never."""
    found = direction(KEY, PARAMS, "filter", vectors, 0)
    for own, leaf in (
        (found["conv"]["weight"], PARAMS["conv"]["weight"]),
        (found["linear"][0], PARAMS["linear"][0]),
    ):
        np.testing.assert_allclose(lengths(own, 0), lengths(leaf, 0), rtol=1e-5)
        assert abs(np.corrcoef(np.ravel(own), np.ravel(leaf))[0, 1]) < 0.9
    assert found["steps"] is None
    bias = found["linear"][1]
    if vectors == "zero":
        assert bias is None
        assert found["conv"]["bias"] is None
    elif vectors == "leaf":
        np.testing.assert_allclose(np.linalg.norm(bias), np.linalg.norm(PARAMS["linear"][1]), rtol=1e-5)
    else:
        np.testing.assert_allclose(np.abs(bias), PARAMS["linear"][1], rtol=1e-5)


def test_outputs_last():
    found = direction(KEY, PARAMS["linear"][0], "filter", "zero", -1)
    np.testing.assert_allclose(lengths(found, 1), lengths(PARAMS["linear"][0], 1), rtol=1e-5)
    assert not np.allclose(lengths(found, 0), lengths(PARAMS["linear"][0], 0), rtol=1e-2)


def test_leaves_and_no_normalisation():
    leaves = direction(KEY, PARAMS, "leaf", "zero", 0)
    for own, leaf in zip(jax.tree.leaves(leaves), mutagrad.tree.floating_only(PARAMS), strict=True):
        np.testing.assert_allclose(np.linalg.norm(own), np.linalg.norm(leaf), rtol=1e-5)
    whole = direction(KEY, PARAMS, "none", "zero", 0)
    np.testing.assert_allclose(float(mutagrad.tree.squared_norm(whole)), 1, rtol=1e-5)


def test_directions_of_length_one_see_the_mean_curvature():
    """E[d·Hd] = TrH/N, within four of the errors that it says."""
    curvatures = jnp.linspace(0.1, 3, 40)
    found = flatness(
        KEY, lambda x: jnp.sum(curvatures * x**2) / 2, jnp.zeros(40), normalize="none", num_directions=60, num_points=3
    )
    assert abs(found.curvature.value - 1.55) < 4 * found.curvature.error
    # Of a uniform direction d·Hd has the variance 2/(N + 2) of the spread of curvatures.
    spread = float(jnp.var(curvatures)) * 2 / 42
    assert 0.6 < found.curvature.error / (spread / 60) ** 0.5 < 1.6


def test_how_a_unit_is_scaled_does_not_matter():
    """Weights into a ReLU unit times 8 and out of it over 8: the same profile but for rounding."""
    inputs = jax.random.normal(jax.random.key(5), (20, 4))

    def loss_fn(params):
        return jnp.mean((jax.nn.relu(inputs @ params[0].T) @ params[1].T) ** 2)

    params = [jax.random.normal(jax.random.key(6), (1, 4)), jnp.ones((1, 1))]
    scaled = [params[0] * 8, params[1] / 8]
    kwargs = {"num_points": 3, "num_directions": 3, "rise": 1.0, "vectors": "entry"}
    own, other = (flatness(KEY, loss_fn, one, **kwargs) for one in (params, scaled))
    np.testing.assert_allclose(own.changes, other.changes, rtol=1e-3, atol=1e-5)


def test_every_kind_of_loss_and_params():
    """bfloat16, integers and nesting; per-example losses of a batch; ordinary Python; all of them the same profile."""
    params = {"a": [jnp.ones((4, 3), jnp.bfloat16)], "n": jnp.arange(2), "w": jnp.ones((4, 3))}
    targets = jnp.linspace(0.0, 1.0, 6)

    def loss_fn(params, batch):
        assert params["n"].dtype == jnp.int32
        return (jnp.sum(params["w"]) + jnp.sum(params["a"][0]).astype(jnp.float32) - batch) ** 2

    kwargs = {"num_points": 5, "num_directions": 2, "rise": 1.0}
    found = flatness(KEY, loss_fn, params, batch=targets, **kwargs)
    assert found.num_examples == 6
    assert (found.num_moved, found.num_parameters) == (24, 24)

    def plain(params, batch):
        total = np.sum(params["w"]) + np.float32(jnp.sum(jnp.asarray(params["a"][0])))
        return np.array([(total - one) ** 2 for one in np.asarray(batch)])

    in_python = flatness(KEY, plain, params, batch=targets, evaluation=mutagrad.executor(), **kwargs)
    np.testing.assert_allclose(in_python.changes, found.changes, rtol=1e-3, atol=1e-2)


def test_paired_differences_keep_their_digits():
    """One example changes by 4·10⁻⁴ beside 63 of 10⁶: differences of examples are exact, of means they would be rounding."""
    offsets = jnp.full(64, 2.0**20)

    def loss_fn(params):
        return jnp.where(jnp.arange(64) == 0, jnp.sum(params**2), offsets)

    found = flatness(KEY, loss_fn, jnp.full((2, 2), 0.01), num_points=3, num_directions=2)
    np.testing.assert_allclose(found.rises.value, 4e-4 / 64, rtol=1e-4)


def test_failures_and_plateaus():
    """NaN beyond a wall is left out and counted; a constant has no curvature, and its loss does not rise."""
    found = flatness(KEY, lambda x: jnp.sum(jnp.log(x)), jnp.ones((1, 20)), num_points=5, rise=1.0)
    assert 0 < found.num_failed == np.isnan(found.changes).sum() < found.changes.size
    assert "failed (NaN or infinite)" in str_of(found)
    flat = flatness(KEY, lambda x: 0 * jnp.sum(x) + 3, jnp.ones((2, 2)), num_points=3)
    assert (flat.curvature.value, flat.curvature.error) == (0, 0)
    assert flat.width.value == np.inf
    assert "does not rise by 3" in str_of(flat)
    one = flatness(KEY, lambda x: x[0] ** 2, jnp.zeros(1), normalize="none", num_directions=1, num_points=3)
    assert one.curvature.value == pytest.approx(2, rel=1e-5)
    assert np.isnan(one.curvature.error)
    assert np.isnan(one.width.value)
    assert "pass rise=" in str_of(one)


def str_of(found):
    import mutagrad.report

    assert mutagrad.report
    return str(found)


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"num_points": 4}, "num_points: got 4; pass an odd number"),
        ({"num_directions": 0}, "num_directions: got 0"),
        ({"distance": 0.0}, "distance: got 0.0; pass a positive finite number"),
        ({"dims": 3}, "dims: got 3; pass one of 1, 2"),
        ({"normalize": "layer"}, "normalize: got 'layer'; pass one of filter, leaf, none"),
        ({"vectors": "skip"}, "vectors: got 'skip'"),
        ({"filter_axis": 5}, "filter_axis: got 5 for a leaf of shape (2, 2); pass an axis that it has"),
        ({"rise": -1.0}, "rise: got -1.0"),
        ({"params": jnp.ones(3)}, "normalize: got 'filter' for params that are all vectors"),
        ({"params": jnp.zeros((2, 2))}, "normalize: got 'filter' for params that are 0"),
        ({"params": jnp.arange(3)}, "params: got no floating leaf"),
        ({"params": jnp.full((2, 2), jnp.nan)}, "values NaN or infinite"),
        ({"loss_fn": lambda x: jnp.sum(x) * jnp.nan}, "loss_fn: got nan at the params"),
        ({"loss_fn": lambda x: x}, "loss_fn: got shape (2, 2) back"),
        ({"loss_fn": 3.0}, "loss_fn: got 3.0; pass a function loss_fn(params)"),
        ({"key": 0}, "key: got 0"),
    ],
)
def test_refusals(kwargs, words):
    given = {"key": KEY, "loss_fn": squares, "params": jnp.ones((2, 2)), "num_points": 3} | kwargs
    with pytest.raises(ValueError) as refused:
        flatness(given.pop("key"), given.pop("loss_fn"), given.pop("params"), **given)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
