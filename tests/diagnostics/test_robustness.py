"""Scores under corruption: exact where the corruption is known, with errors over draws and over examples apart."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mutagrad.report
from mutagrad.diagnostics.landscape import dropout_corruption, gaussian_corruption, robustness

KEY = jax.random.key(0)
INPUTS = jnp.linspace(0.5, 1.5, 300)[:, None] * jnp.ones((1, 20))


def scores(params, batch):
    inputs, weights = batch
    return params["scale"] * jnp.mean(inputs, axis=1) * weights


PARAMS = {"scale": jnp.float32(2.0)}
BATCH = (INPUTS, jnp.ones(300))


def test_scores_and_their_errors():
    """A known corruption gives a known score; dropout of a share p takes that share; errors are those of NumPy."""
    found = robustness(
        KEY, scores, PARAMS, BATCH, {"add": lambda key, x, level: x + level, "dropout": dropout_corruption}, (0.1, 0.5)
    )
    assert (found.names, found.levels, found.num_draws, found.num_examples) == (("add", "dropout"), (0.1, 0.5), 3, 300)
    clean = 2 * np.asarray(INPUTS[:, 0], np.float64)
    assert found.clean.value == pytest.approx(2, rel=1e-6)
    assert found.clean.error == pytest.approx(clean.std(ddof=1) / math.sqrt(300), rel=1e-5)
    np.testing.assert_allclose(found.scores.value[0], [2.2, 3.0], rtol=1e-6)
    # Without chance there is no error over draws; examples differ, but not in what they lose.
    np.testing.assert_allclose(found.draw_errors[0], 0, atol=1e-7)
    np.testing.assert_allclose(found.scores.error[0], found.clean.error, rtol=1e-5)
    np.testing.assert_allclose(found.drops.error[0], 0, atol=1e-7)
    np.testing.assert_allclose(found.drops.value, 2 - found.scores.value, rtol=1e-5)
    for step, share in enumerate((0.1, 0.5)):
        assert abs(found.drops.value[1, step] - 2 * share) < 4 * found.drops.error[1, step]
        # Of three draws: a factor of four either way is beyond χ² of 2 degrees once in about 500.
        exact = 2 * math.sqrt(share * (1 - share) / 20 / 300 / 3 * float(jnp.mean(INPUTS**2)))
        assert exact / 30 < found.draw_errors[1, step] < 4 * exact


def test_draws_differ_and_levels_too_but_keys_repeat():
    seen = []

    def corruption(key, inputs, level):
        seen.append(float(jax.random.uniform(key)))
        return inputs

    both = {"a": corruption, "b": corruption}
    robustness(KEY, scores, PARAMS, BATCH, both, (0.1, 0.2), num_draws=2)
    assert len(set(seen)) == 8
    first = seen.copy()
    seen.clear()
    robustness(KEY, scores, PARAMS, BATCH, both, (0.1, 0.2), num_draws=2)
    assert seen == first


def test_features_are_corrupted_by_a_measure():
    def measure(params, batch, key, level):
        hidden = jnp.mean(batch[0], axis=1)
        return params["scale"] * jnp.where(jax.random.bernoulli(key, level, hidden.shape), 0.0, hidden) * batch[1]

    found = robustness(KEY, scores, PARAMS, BATCH, None, (0.25,), measures={"hidden": measure}, num_draws=20)
    assert found.names == ("hidden",)
    assert abs(found.drops.value[0, 0] - 0.5) < 4 * found.drops.error[0, 0]


def test_other_scores():
    """Right or wrong; one number, of which no error over examples is known; ordinary Python; a NaN that is not hidden."""
    right = robustness(
        KEY, lambda params, x: x[:, 0] > 1, None, INPUTS, {"add": lambda key, x, level: x + level}, (0.5, 1.0)
    )
    np.testing.assert_allclose(right.scores.value, [[1 - 1 / 300 * (0.5 == 1), 1]], atol=0.01)
    assert right.clean.value == pytest.approx(0.5, abs=0.01)
    whole = robustness(KEY, lambda params, x: jnp.mean(x), None, INPUTS, {"noise": gaussian_corruption}, (0.1,))
    assert whole.num_examples == 1
    assert math.isnan(whole.clean.error)
    assert whole.draw_errors[0, 0] > 0
    assert "nan" not in str(whole)
    plain = robustness(
        KEY, lambda params, x: [float(one) for one in np.asarray(x)[:, 0]], None, INPUTS, compiled=False, num_draws=1
    )
    assert plain.names == ("dropout",)
    assert np.isnan(plain.draw_errors).all()
    assert mutagrad.report.text.robustness_text(plain).count("\n") == 2
    failed = robustness(KEY, lambda params, x: jnp.log(x[:, 0]), None, INPUTS, {"zero": lambda k, x, level: 0 * x - 1})
    assert np.isnan(failed.scores.value).all()


def test_corruptions():
    """Of 10⁴ numbers: the share that is 0, mean and spread of the noise; dtype and shape are kept."""
    ones = jnp.ones((100, 100), jnp.bfloat16)
    dropped = dropout_corruption(KEY, ones, 0.3)
    assert abs(float(jnp.mean(dropped == 0)) - 0.3) < 4 * math.sqrt(0.21) / 100
    noisy = gaussian_corruption(KEY, ones.astype(jnp.float32), 0.5)
    assert abs(float(noisy.mean()) - 1) < 4 * 0.5 / 100
    assert abs(float(noisy.std()) / 0.5 - 1) < 4 / math.sqrt(2e4)
    assert dropped.dtype == gaussian_corruption(KEY, ones, 0.5).dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"levels": ()}, "levels: got (); pass one finite number or more"),
        ({"levels": (math.nan,)}, "levels: got (nan,)"),
        ({"num_draws": 0}, "num_draws: got 0"),
        ({"corruptions": {"a": 3}}, "corruptions: got 3 for 'a'; pass a function"),
        ({"corruptions": {}}, "corruptions: got none; pass one or more by name"),
        (
            {"corruptions": {"half": lambda key, x, level: x[:100]}},
            "corruptions: got 100 scores under 'half' and 300 without",
        ),
        ({"score_fn": None}, "score_fn: got None; pass a function"),
        ({"score_fn": lambda params, x: x}, "score_fn: got shape (300, 20)"),
        ({"key": 1}, "key: got 1"),
    ],
)
def test_refusals(kwargs, words):
    given = {"key": KEY, "score_fn": lambda params, x: x[:, 0], "corruptions": {"d": dropout_corruption}} | kwargs
    if kwargs.get("corruptions") == {}:
        given["measures"] = {}
    with pytest.raises(ValueError) as refused:
        robustness(given.pop("key"), given.pop("score_fn"), None, INPUTS, given.pop("corruptions"), **given)
    assert words in str(refused.value)
