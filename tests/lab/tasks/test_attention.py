"""Attention reads what it says and nothing else, and its estimators have the gradients that they say."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from mutagrad.lab.tasks.attention import Attention
from mutagrad.lab.tasks.losses import cross_entropy

pytestmark = pytest.mark.permissive  # the networks have JAX's default promotion

MODEL = Attention(jax.random.key(0), (6, 7), glimpse=2, grid=3, num_glimpses=3, num_hidden=8)
IMAGES = jax.random.normal(jax.random.key(1), (20, 6, 7))
TINY = Attention(
    jax.random.key(2), (4, 4), glimpse=2, grid=2, num_glimpses=2, num_hidden=3, num_outputs=2, mode="reinforce"
)


@eqx.filter_jit
def looked(model, images, key=None):
    """Logits, places and weights: one program, and not one for every operation."""
    return model(images, key), model.places(images, key), model.weights(images, key)


@eqx.filter_jit
def gradient(model, image, label):
    return eqx.filter_grad(lambda one: one.losses(image, label)[0])(model)


def tail(model, state):
    return np.maximum(state, 0) @ np.asarray(model.answer.weight).T + np.asarray(model.answer.bias)


def squares_of(image, side, grid):
    """The squares of an image and their corners, one after the other, by slicing."""
    down, across = (np.rint(np.linspace(0, length - side, grid)).astype(int) for length in image.shape)
    corners = [(i, j) for i in down for j in across]
    return corners, [image[i : i + side, j : j + side].ravel() for i, j in corners]


def test_hard_attention_is_that_of_plain_numpy():
    """Image by image: the place of the largest score is read, and the next scores are of what was read."""
    what, where, look, preference = (
        np.asarray(leaf) for leaf in (MODEL.what, MODEL.where, MODEL.look, MODEL.preference)
    )
    logits, places, weights = (np.asarray(found) for found in looked(MODEL, IMAGES))
    for number, image in enumerate(np.asarray(IMAGES)):
        corners, squares = squares_of(image, 2, 3)
        state = np.zeros(8, np.float32)
        for step in range(3):
            chosen = int(np.argmax(np.maximum(state, 0) @ look + preference[step]))
            assert tuple(places[number, step]) == corners[chosen]
            assert np.flatnonzero(weights[number, step]).tolist() == [chosen]
            state = state + squares[chosen] @ what[step] + where[chosen]
        np.testing.assert_allclose(logits[number], tail(MODEL, state), rtol=1e-4, atol=1e-5)
    # Otherwise the last glimpse would not depend on the first ones.
    assert len({tuple(place) for place in places[:, 2]}) > 1


@pytest.mark.parametrize("mode", ["hard", "straight_through", "gumbel", "reinforce"])
def test_a_place_is_not_read_again(mode):
    """All four places in four glimpses, in the order of plain NumPy; where rereading is allowed, some image reads one twice."""
    shape = {"image_shape": (4, 4), "glimpse": 2, "grid": 2, "num_glimpses": 4, "num_hidden": 5}
    model = Attention(jax.random.key(7), **shape, mode=mode, reread=False)
    images = jax.random.normal(jax.random.key(8), (30, 4, 4))
    key = jax.random.key(9) if mode in ("gumbel", "reinforce") else None
    _, places, weights = looked(model, images, key)
    np.testing.assert_array_equal(np.asarray(weights).sum(1), 1.0)
    again = looked(Attention(jax.random.key(7), **shape, mode=mode), images, key)[2]
    assert np.max(np.asarray(again).sum(1)) > 1
    if key is None:
        what, where, look, preference = (
            np.asarray(leaf) for leaf in (model.what, model.where, model.look, model.preference)
        )
        for number, image in enumerate(np.asarray(images)):
            corners, squares = squares_of(image, 2, 2)
            state, left = np.zeros(5, np.float32), [0, 1, 2, 3]
            for step in range(4):
                scores = np.maximum(state, 0) @ look + preference[step]
                chosen = max(left, key=lambda place, scores=scores: scores[place])
                left.remove(chosen)
                assert tuple(np.asarray(places)[number, step]) == corners[chosen]
                state = state + squares[chosen] @ what[step] + where[chosen]
    slope = eqx.filter_jit(eqx.filter_grad(lambda one: jnp.mean(one.losses(images, jnp.zeros(30, int), key))))(model)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(slope))


def test_places_reach_both_ends_of_an_image():
    model = eqx.filter_eval_shape(Attention, jax.random.key(0), (28, 28), glimpse=8)
    assert model._corners.min() == 0
    assert model._corners.max() == 20
    assert eqx.filter_eval_shape(model, jnp.zeros((2, 28, 28))).shape == (2, 10)


def test_what_is_not_attended_is_not_seen():
    """Pixels that no glimpse read may be anything, and nothing changes by a bit; one that was read does change it."""
    read = np.zeros(IMAGES.shape, bool)
    logits, places, _ = looked(MODEL, IMAGES)
    for number, corners in enumerate(np.asarray(places)):
        for row, column in corners:
            read[number, row : row + 2, column : column + 2] = True
    assert 0.1 < read.mean() < 0.5
    of_others = looked(MODEL, jnp.where(read, IMAGES, jnp.nan))
    np.testing.assert_array_equal(of_others[0], logits)
    np.testing.assert_array_equal(of_others[1], places)
    of_others = looked(MODEL, jnp.where(read, IMAGES + 0.01, IMAGES))
    assert np.all(np.any(np.asarray(of_others[0] != logits), axis=1))


def test_soft_attention_tends_to_hard_as_it_cools():
    """The weights of two places of the first glimpse are as e^(−difference/τ); cold, all glimpses are hard."""
    first, second = jnp.argsort(-MODEL.preference[0])[:2]
    hard, (first, second) = looked(MODEL, IMAGES)[0], np.argsort(-MODEL.preference[0])[:2]
    far = []
    for tau in (1.0, 0.1, 1e-5):
        logits, _, weights = looked(MODEL.with_mode("soft", tau), IMAGES)
        far.append(float(jnp.max(jnp.abs(logits - hard))))
        difference = float(MODEL.preference[0, first] - MODEL.preference[0, second])
        ratio = weights[0, 0].ravel()[second] / weights[0, 0].ravel()[first]
        np.testing.assert_allclose(ratio, np.exp(-difference / tau), rtol=1e-4)
    assert far[0] > 0.1
    assert far[2] < 1e-5


@pytest.mark.parametrize("mode", ["straight_through", "gumbel"])
def test_estimators_read_as_hard_attention_does(mode):
    other, hard = MODEL.with_mode(mode, 0.3), looked(MODEL, IMAGES)
    for found, wanted in zip(looked(other, IMAGES), hard, strict=True):
        np.testing.assert_array_equal(found, wanted)
    drawn = looked(other, IMAGES, jax.random.key(5))[2]
    assert set(np.unique(drawn)) == {0.0, 1.0}
    np.testing.assert_array_equal(drawn.sum((2, 3)), 1.0)
    assert bool(jnp.any(drawn != hard[2])) == (mode != "straight_through")


@pytest.mark.parametrize("mode", ["gumbel", "reinforce"])
def test_places_are_drawn_with_their_probabilities(mode):
    """The first glimpse of 20,000 images by a χ² test, at a false-alarm rate of 10⁻⁶."""
    drawn = np.asarray(looked(TINY.with_mode(mode), jnp.zeros((20_000, 4, 4)), jax.random.key(3))[2][:, 0], float)
    right, wrong = (20_000 * special.softmax(factor * np.asarray(TINY.preference[0], float)) for factor in (1, 2))
    assert stats.chisquare(drawn.sum(0).ravel(), right).pvalue > 1e-6
    assert stats.chisquare(drawn.sum(0).ravel(), wrong).pvalue < 1e-6  # scores twice as large are seen


def test_gradients_of_hard_and_straight_through_attention():
    """None with respect to scores; and Jᵀ∂U/∂w, J the derivative of a softmax at τ, with one glimpse."""
    model = Attention(jax.random.key(4), (4, 4), glimpse=2, grid=2, num_glimpses=1, num_hidden=5, num_outputs=3)
    image, label, tau = jax.random.normal(jax.random.key(5), (1, 4, 4)), jnp.array([1]), 0.5
    assert not np.any(gradient(model, image, label).preference)
    _, squares = squares_of(np.asarray(image[0]), 2, 2)
    features = jnp.stack(squares) @ model.what[0] + model.where

    def of_weights(weights):
        hidden = jax.nn.relu(weights @ features)
        return cross_entropy((model.answer.weight @ hidden + model.answer.bias)[None], label)[0]

    slope = jax.jit(jax.grad(of_weights))(jax.nn.one_hot(jnp.argmax(model.preference[0]), 4))
    p = jax.nn.softmax(model.preference[0] / tau)
    expected = p * (slope - p @ slope) / tau
    assert float(jnp.max(jnp.abs(expected))) > 1e-2
    found = gradient(model.with_mode("straight_through", tau), image, label).preference[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)


def test_reinforce_is_unbiased():
    """The mean of 20,000 gradients is that of the loss averaged over all 16 ways to look, within 6 standard errors each."""
    images, labels = 2 * jax.random.normal(jax.random.key(6), (2, 4, 4)), jnp.array([0, 1])
    model = eqx.tree_at(lambda m: m.look, TINY, 3 * TINY.look)

    def of_path(model, path, image, label):
        squares = jnp.stack([image[i : i + 2, j : j + 2].ravel() for i in (0, 2) for j in (0, 2)])
        state, probability = jnp.zeros(3), 1.0
        for step in range(2):
            scores = jax.nn.relu(state) @ model.look + model.preference[step]
            probability = probability * jax.nn.softmax(scores)[path[step]]
            state = state + squares[path[step]] @ model.what[step] + model.where[path[step]]
        logits = model.answer.weight @ jax.nn.relu(state) + model.answer.bias
        return probability * cross_entropy(logits[None], label[None])[0]

    def expected_loss(model):
        paths = jnp.array(list(itertools.product(range(4), repeat=2)))
        of_image = jax.vmap(of_path, (None, None, 0, 0))
        return jnp.sum(jax.vmap(of_image, (None, 0, None, None))(model, paths, images, labels)) / 2

    def mean_loss(model, key):
        return jnp.mean(model.losses(images, labels, key))

    loss, exact = eqx.filter_jit(eqx.filter_value_and_grad(expected_loss))(model)
    sample = jax.jit(jax.vmap(lambda key: eqx.filter_value_and_grad(mean_loss)(model, key)))
    losses, drawn = sample(jax.random.split(jax.random.key(7), 20_000))
    for name in ("what", "where", "look", "preference"):
        values, wanted = np.asarray(getattr(drawn, name), np.float64), np.asarray(getattr(exact, name))
        errors = values.std(0) / len(values) ** 0.5
        assert np.all(np.abs(values.mean(0) - wanted) <= 6 * errors + 1e-6), name
        # Half of it, as with an image in its own baseline, would be seen.
        assert np.max(np.abs(wanted) / np.maximum(errors, 1e-9)) > 15, name
    # Their value is the loss.
    assert abs(float(jnp.mean(losses) - loss)) < 6 * float(jnp.std(losses)) / 20_000**0.5


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"glimpse": 9}, r"glimpse: got 9 for images of 8 × 8; pass at most 8"),
        ({"glimpse": 0}, "glimpse: got 0; pass a whole number of 1 or more"),
        ({"grid": 1.5}, "grid: got 1.5; pass a whole number of 1 or more"),
        ({"num_glimpses": 0}, "num_glimpses: got 0; pass a whole number of 1 or more"),
        ({"mode": "loud"}, "mode: got 'loud'; pass one of hard, soft, straight_through, gumbel, reinforce"),
        ({"temperature": 0.0}, "temperature: got 0.0; pass a positive finite number"),
        (
            {"grid": 2, "num_glimpses": 5, "reread": False},
            "num_glimpses: got 5 of 4 places with reread=False; pass at most 4",
        ),
        ({"image_shape": (8, 8, 1)}, r"image_shape: got \(8, 8, 1\); pass a height and a width"),
    ],
)
def test_bad_arguments_get_one_line(arguments, line):
    with pytest.raises(ValueError, match=f"^{line}$"):
        Attention(jax.random.key(0), **arguments)


def test_images_of_another_shape_get_one_line():
    with pytest.raises(ValueError, match=r"^images: got shape \(3, 8, 8\); pass \(batch, 6, 7\)$"):
        MODEL(jnp.zeros((3, 8, 8)))
