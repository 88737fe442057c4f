"""Matrices of low rank that are not formed: the same losses as formed ones, for what models do with their weights."""

from functools import partial

import equinox as eqx
import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mutagrad
from mutagrad import mutation
from mutagrad.evaluation.low_rank import candidates

KEY = jax.random.key(0)


def normal(*shape, place=0):
    draws = np.random.default_rng(place).normal(size=shape) / np.sqrt(shape[0])
    return jnp.asarray(draws, jnp.float32)


def dense(params, x):
    return jnp.sum(jnp.tanh(x[:, :5] @ params["w"] + params["b"]) @ params["v"].T, axis=1)


def one_example_at_a_time(params, x):
    return jax.vmap(lambda row: jnp.sum(jnp.tanh(params["w"].T @ row[:5] + params["b"]) @ params["v"].T))(x)


def embedding(params, x):
    tokens = jnp.arange(12).reshape(4, 3) % 7
    return jnp.sum(
        jnp.tanh(params["table"][tokens] + jnp.take(params["places"], jnp.arange(3), axis=0)) @ params["w"], axis=(1, 2)
    )


def attention(params, x):
    y = x.reshape(4, 2, 4)
    q, k, v = (jnp.einsum("btd,dhk->bthk", y, params[name]) for name in "qkv")
    weights = jax.nn.softmax(jnp.einsum("bthk,bshk->bhts", q, k))
    mixed = jnp.einsum("bhts,bshk->bthk", weights, v)
    return jnp.sum(jnp.einsum("bthk,hkd->btd", mixed, params["o"]) ** 2, axis=(1, 2))


def fused_attention(params, x):
    q, k, v = jnp.split(x @ params["qkv"], 3, axis=1)
    return jnp.sum(jax.nn.softmax(q @ k.T) @ v, axis=1)


def sliced(params, x):
    first, second = params["w"][:, :3], params["w"][:, 3:]
    return jnp.sum(jnp.tanh(x @ first) ** 2, axis=1) + jnp.sum(x @ second, axis=1)


def layers_in_a_loop(params, x):
    def layer(y, own):
        return jax.nn.relu(y + y @ own["w"] + own["b"]), None

    return jnp.sum(jax.lax.scan(layer, x, params)[0], axis=1)


def recurrent(params, x):
    def cell(h, column):
        return jnp.tanh(h @ params["w"] + column[:, None] * params["b"]), None

    return jnp.sum(jax.lax.scan(cell, jnp.ones((4, 5)), x.T)[0], axis=1)


def rematerialised(params, x):
    return jax.checkpoint(dense)(params, x)


@jax.custom_vjp
def hard(x):
    return jnp.where(x > 0, 1.0, -1.0).astype(x.dtype)


hard.defvjp(lambda x: (hard(x), None), lambda _, g: (g,))


def straight_through(params, x):
    return jnp.sum(hard(x[:, :5] @ params["w"] + params["b"]) @ params["v"].T, axis=1)


def straight_through_in_a_loop(params, x):
    def layer(y, own):
        return hard(y @ own["w"] + own["b"]) * y, None

    return jnp.sum(jax.lax.scan(layer, x, params)[0], axis=1)


def convolution(params, x, layout=("NHWC", "HWIO", "NHWC")):
    images = jnp.reshape(jnp.tile(x, (1, 9)), (4, 6, 6, 2))
    if layout[0] == "NCHW":
        images = jnp.moveaxis(images, -1, 1)
    out = jax.lax.conv_general_dilated(images, params["w"], (1, 1), "SAME", dimension_numbers=layout)
    return jnp.sum(jnp.tanh(out), axis=(1, 2, 3))


def reshaped_and_scaled(params, x):
    w = jax.lax.optimization_barrier(jax.lax.stop_gradient(params["w"]))
    w = (0.5 - (2 * w / 3 - 0.1)).reshape(2, 4, 6)[0].T.astype(x.dtype)[::-1]
    return jnp.sum(jnp.tanh(x[:, :4] @ -w.T + w[1, :1]), axis=1)


def branches(params, x):
    return jax.lax.cond(x[0, 0] > 10, lambda w: jnp.sum(x @ w, 1), lambda w: jnp.sum(jnp.tanh(x @ w), 1), params["w"])


def outside_the_table(params, x):
    rows = params["w"].at[jnp.array([1, 20])].get(mode="fill", fill_value=7.0)
    return jnp.sum(jnp.tanh(x[:, :1, None] * rows[None]), axis=(1, 2))


FORMING = {
    "carried": lambda p, x: jnp.sum(
        jax.lax.scan(lambda c, row: (c * 0.9 + row, c), jnp.zeros(6), p["w"], reverse=True)[1] ** 2
    ),
    "carried whole": lambda p, x: jnp.sum(
        x @ jax.lax.fori_loop(0, 3, lambda i, w: jnp.tanh(w) + 0.1 * w, p["w"]), axis=1
    ),
    "of one branch": lambda p, x: jnp.sum(x @ jax.lax.cond(x[0, 0] > 9, lambda w: w, jnp.zeros_like, p["w"]), axis=1),
    "plus a larger array": lambda p, x: jnp.sum(jnp.tanh(x[:, :, None, None] + p["w"][:, None]), axis=(1, 2, 3)),
    "of two matrices": lambda p, x: jnp.sum(x @ (p["w"] @ p["w"].T), axis=1),
}
"""Losses for which a matrix is formed, and said to be."""


WEIGHTS = {"w": normal(5, 6), "b": normal(6), "v": normal(3, 6, place=1)}
LAYERS = {"w": normal(3, 8, 8), "b": normal(3, 8)}
MODELS = {
    "dense": (dense, WEIGHTS),
    "vmap over examples": (one_example_at_a_time, WEIGHTS),
    "embedding": (embedding, {"table": normal(7, 5), "places": normal(3, 5), "w": normal(5, 2)}),
    "attention": (attention, {**{n: normal(4, 2, 3, place=i) for i, n in enumerate("qkv")}, "o": normal(2, 3, 4)}),
    "fused attention": (fused_attention, {"qkv": normal(8, 9)}),
    "slices": (sliced, {"w": normal(8, 7)}),
    "layers in a loop": (layers_in_a_loop, LAYERS),
    "recurrent": (recurrent, {"w": normal(5, 5), "b": normal(5)}),
    "checkpoint": (rematerialised, WEIGHTS),
    "custom_vjp": (straight_through, WEIGHTS),
    "custom_vjp in a loop": (straight_through_in_a_loop, LAYERS),
    "convolution": (convolution, {"w": normal(3, 3, 2, 4)}),
    "convolution, channels first": (partial(convolution, layout=("NCHW", "OIHW", "NCHW")), {"w": normal(4, 2, 3, 3)}),
    "outside the table": (outside_the_table, {"w": normal(8, 6)}),
    "reshape, scale, cast": (reshaped_and_scaled, {"w": normal(8, 6)}),
    "cond": (branches, {"w": normal(8, 6)}),
}


@pytest.mark.parametrize("name", FORMING)
def test_what_is_formed_has_the_same_losses(name):
    """Where a matrix changes from round to round of a loop, or two are multiplied; the warning says so."""
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        params = {"w": jnp.asarray(np.random.default_rng(1).normal(size=(8, 6)))}
        x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 8)))
        algorithm = mutagrad.comma(0.3, 4, mutation=mutation.low_rank(2))
        offspring = algorithm.ask(jax.random.key(1), algorithm.init(params))
        with pytest.warns(UserWarning, match="low-rank mutations are formed for"):
            own = candidates.evaluate(lambda p: FORMING[name](p, x), offspring, "vectorized").means
        formed = [np.mean(FORMING[name](one, x)) for one in offspring]
        np.testing.assert_allclose(own, formed, rtol=1e-12)


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("name", MODELS)
def test_losses_are_those_of_formed_matrices(name, rank):
    """In double precision to 10⁻¹², and no operation of these models forms a matrix: a warning would be an error."""
    loss_fn, params = MODELS[name]
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        params = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), np.float64), params)
        x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 8)))
        algorithm = mutagrad.comma(0.3, 4, mutation=mutation.low_rank(rank))
        state = algorithm.init(params)

        @jax.jit
        def both(key):
            offspring = algorithm.ask(key, state)
            own = candidates.evaluate(lambda p: loss_fn(p, x), offspring, "vectorized")
            rows, axes = offspring.rows()
            return own.means, jnp.mean(jax.vmap(lambda p: loss_fn(p, x), in_axes=(axes,))(rows), axis=1)

        own, formed = both(jax.random.key(1))
        assert np.std(formed) > 1e-3
        np.testing.assert_allclose(own, formed, rtol=1e-12, atol=1e-12)


def test_models_of_flax_and_equinox_need_no_change():
    """A convolutional network of Flax NNX and a transformer block of Equinox, as their users write them."""
    graph, state = nnx.split(
        nnx.Sequential(
            nnx.Conv(1, 16, (3, 3), rngs=nnx.Rngs(0)),
            nnx.relu,
            lambda y: nnx.avg_pool(y, (2, 2), (2, 2)).reshape(len(y), -1),
            nnx.Linear(16 * 16, 10, rngs=nnx.Rngs(1)),
        )
    )
    block = eqx.nn.MultiheadAttention(2, 16, key=KEY)
    arrays, static = eqx.partition(block, eqx.is_array)

    def of_flax(params):
        return jnp.mean(nnx.merge(graph, params)(jnp.ones((2, 8, 8, 1))) ** 2, axis=1)

    def of_equinox(params):
        x = jnp.sin(jnp.arange(5 * 16.0)).reshape(5, 16)
        return jnp.mean(eqx.combine(params, static)(x, x, x) ** 2, axis=1)

    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        for loss_fn, params in ((of_flax, state), (of_equinox, arrays)):
            algorithm = mutagrad.elitist(0.1, 3, mutation=mutation.low_rank(1))
            offspring = algorithm.ask(KEY, algorithm.init(params))
            own, formed = jax.jit(
                lambda offspring, loss_fn=loss_fn: (
                    candidates.evaluate(loss_fn, offspring, "vectorized").means,
                    jax.lax.map(lambda i: jnp.mean(loss_fn(offspring.candidate(i))), jnp.arange(4)),
                )
            )(offspring)
            np.testing.assert_allclose(own, formed, rtol=1e-5)
            assert len(set(np.asarray(own).tolist())) == 4


def quadratic(params):
    return jnp.sum((params["w"] @ jnp.linspace(0, 1, 6) - 1) ** 2) + jnp.sum(params["b"] ** 2)


def run(algorithm, params, number=5, evaluation="auto"):
    state = algorithm.init(params)
    step = jax.jit(lambda key, state: algorithm.step(key, state, quadratic, evaluation=evaluation))
    for generation in range(number):
        state, info = step(jax.random.key(generation), state)
    return state, info


QUADRATIC = {"w": jnp.zeros((5, 6)), "b": jnp.ones(5)}


@pytest.mark.parametrize("evaluation", ["vectorized", "mapped", 3])
def test_who_wins_is_inherited_as_it_is_formed(evaluation):
    """Where no losses are close, the run with formed matrices, bit for bit; the parent's loss is that of its parameters."""
    runs = [
        run(mutagrad.elitist(0.1, 7, mutation=mutation.low_rank(2, formed=formed)), QUADRATIC, evaluation=evaluation)
        for formed in (False, True)
    ]
    jax.tree.map(np.testing.assert_array_equal, runs[0][0].params, runs[1][0].params)
    np.testing.assert_allclose(runs[0][1].losses, runs[1][1].losses, rtol=1e-5)


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda density: mutagrad.elitist(0.1, 7, mutation=mutation.masked({"w": True, "b": False}, density)),
        lambda density: mutagrad.elitist(0.1, 7, mutation=mutation.scaled({"w": 0.5, "b": 2.0}, density)),
        lambda density: mutagrad.elitist(0.1, 7, mutation=mutation.scaled({"w": jnp.ones((5, 6)), "b": 1.0}, density)),
        lambda density: mutagrad.adapt_sigma(mutagrad.weighted_recombination(0.1, 7, mutation=density)),
        lambda density: mutagrad.metropolis(0.1, 5.0, mutation=density),
        lambda density: mutagrad.elitist(0.1, 7, mutation=density, reevaluate_parent=True),
    ],
    ids=["masked", "scaled", "scaled by parameter", "recombination", "one offspring", "elitist"],
)
def test_wrappers_hand_the_factors_on(wrapped):
    pairs = [run(wrapped(mutation.low_rank(1, formed=formed)), QUADRATIC, 3) for formed in (False, True)]
    for one, other in zip(*(jax.tree.leaves(pair[0]) for pair in pairs), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5)


def test_what_is_formed_is_said_by_name():
    def decayed(params):
        return quadratic(params) + jnp.sum(jnp.abs(params["w"]))

    algorithm = mutagrad.elitist(0.1, 3, mutation=mutation.low_rank(1))
    with pytest.warns(UserWarning, match="low-rank mutations are formed for abs, a whole matrix"):
        own = algorithm.step(KEY, algorithm.init(QUADRATIC), decayed)[1].losses
    formed = mutagrad.elitist(0.1, 3, mutation=mutation.low_rank(1, formed=True))
    np.testing.assert_allclose(own, formed.step(KEY, formed.init(QUADRATIC), decayed)[1].losses, rtol=1e-6)


def test_without_quax_the_matrices_are_formed_and_it_is_said(monkeypatch):
    monkeypatch.setattr(candidates.importlib.util, "find_spec", lambda name: None)
    algorithm = mutagrad.elitist(0.1, 3, mutation=mutation.low_rank(1))
    with pytest.warns(UserWarning, match=r"quax is not installed; install mutagrad\[low-rank\], or pass formed=True"):
        algorithm.step(KEY, algorithm.init(QUADRATIC), quadratic)


def test_a_loss_that_cannot_be_followed_is_refused_in_one_line():
    def outside(params):
        own = jax.pure_callback(lambda w: np.float32(w.sum()), jax.ShapeDtypeStruct((), np.float32), params["w"])
        return own + jnp.sum(params["b"])

    algorithm = mutagrad.elitist(0.1, 3, mutation=mutation.low_rank(1))
    with pytest.warns(UserWarning, match="formed for pure_callback"):
        algorithm.step(KEY, algorithm.init(QUADRATIC), outside, evaluation="mapped")
    with pytest.raises(ValueError, match=r"^loss_fn: got shape \(2, 5\) back"):
        algorithm.step(KEY, algorithm.init(QUADRATIC), lambda params: jnp.ones((2, 5)))
    with pytest.raises(ValueError, match="^formed: got 1; pass True or False"):
        mutation.low_rank(1, formed=1)


def test_narrow_leaves_are_evaluated_as_they_are_inherited():
    """Rounded to bfloat16, most of a small mutation is lost: so it is where it is evaluated."""
    params = {"w": jnp.ones((8, 6), jnp.bfloat16), "b": jnp.ones(5)}
    algorithm = mutagrad.comma(1e-3, 4, mutation=mutation.low_rank(1))
    offspring = algorithm.ask(KEY, algorithm.init(params))
    own = candidates.evaluate(lambda p: jnp.sum(p["w"].astype(jnp.float32) ** 2), offspring, "vectorized").means
    wanted = [np.sum(np.asarray(one["w"], np.float64) ** 2) for one in offspring]
    np.testing.assert_allclose(own, wanted, rtol=1e-6)


@pytest.mark.parametrize(("rows", "columns", "rank"), [(3, 5, 1), (4, 4, 2), (2, 7, 3)])
def test_length_varies_more_than_that_of_gaussian_mutations(rows, columns, rank):
    """Var |z|² = 2mn(m + n + r + 1)/r, where gaussian mutations have 2mn: theory.md 1."""
    number = 40_000
    sample_fn = mutation.low_rank(rank).sample_fn
    keys = jax.random.split(jax.random.key(3), number)
    z = np.asarray(jax.jit(jax.vmap(lambda key: sample_fn(key, jnp.zeros((rows, columns)))))(keys), np.float64)
    squares = np.sum(z**2, axis=(1, 2))
    size = rows * columns
    wanted = 2 * size * (rows + columns + rank + 1) / rank
    own = (squares - size) ** 2
    assert abs(own.mean() - wanted) < 4 * own.std() / np.sqrt(number)
    assert abs(squares.mean() - size) < 4 * squares.std() / np.sqrt(number)


@pytest.mark.parametrize("rank", [1, 3])
def test_kurtosis_along_a_gradient(rank):
    """E(z·g)⁴ = 3|g|⁴(1 + 2/(rρ)) with ρ = (Tr GᵀG)²/Tr(GᵀG)²: normal where the gradient has many directions."""
    number = 40_000
    gradient = np.random.default_rng(1).normal(size=(6, 5)) * np.array([3, 1, 1, 0.5, 0.2])
    sample_fn = mutation.low_rank(rank).sample_fn
    keys = jax.random.split(jax.random.key(4), number)
    z = np.asarray(jax.jit(jax.vmap(lambda key: sample_fn(key, jnp.zeros((6, 5)))))(keys), np.float64)
    along = np.einsum("kij,ij->k", z, gradient) / np.linalg.norm(gradient)
    squares = np.linalg.svd(gradient, compute_uv=False) ** 2
    wanted = 3 * (1 + 2 * np.sum(squares**2) / np.sum(squares) ** 2 / rank)
    assert abs(np.mean(along**4) - wanted) < 4 * np.std(along**4) / np.sqrt(number)


def test_slope_and_curvature_that_a_run_measures():
    """On U = h|W|²/2: TrH = hmn without bias, and |∇U|² with what the variance of the length adds, σ²h² Var|z|²/4."""
    rows, columns, rank, h, sigma = 4, 6, 1, 3.0, 0.3
    params = jnp.asarray(np.random.default_rng(2).normal(size=(rows, columns)), jnp.float32)
    algorithm = mutagrad.elitist(sigma, 8, mutation=mutation.low_rank(rank))
    state = algorithm.init(params)
    step = jax.jit(jax.vmap(lambda key: algorithm.step(key, state, lambda w: h * jnp.sum(w**2) / 2)[1]))
    with pytest.warns(UserWarning, match="formed for"):
        info = step(jax.random.split(jax.random.key(5), 4000))
    size = rows * columns
    length = 2 * size * (rows + columns + rank + 1) / rank
    wanted = {
        "hessian_trace": h * size,
        "squared_grad_norm": h**2 * float(jnp.sum(params**2)) + sigma**2 * h**2 * length / 4,
    }
    for name, value in wanted.items():
        sample = np.asarray(getattr(info, name), np.float64)
        assert abs(sample.mean() - value) < 4.4 * sample.std() / np.sqrt(len(sample)), (name, sample.mean(), value)
    # Without that term, or with that of gaussian mutations, it would be many errors off.
    error = sample.std() / np.sqrt(len(sample))
    assert sigma**2 * h**2 * (length - 2 * size) / 4 > 20 * error
