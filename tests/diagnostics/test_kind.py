"""Which kind of loss it is: smooth of full and of low rank, rough, noisy, noise alone, flat, a minimum, rounding.

Every kind is met on two losses or more, each with the fixed keys 0 to KEYS − 1. `EXCLUDED` allows a loss to be taken for
another kind by chance in 3 of 1000, so that one key of the five of a loss is wrong in 1.5 % of choices of keys, and two in
9 · 10⁻⁵: at most one may be. What must never be said, such as a best σ on noise, no key may say.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kinds_of_loss import hashed, quadratic
from scipy import stats

import mutagrad
from mutagrad.diagnostics import findings, loss_kind
from mutagrad.diagnostics.kind import fit_of
from mutagrad.diagnostics.probes import Prober
from mutagrad.diagnostics.survey import survey

KEYS, SIZE = 5, 100
POINT = jnp.ones(SIZE)
INPUTS = jax.random.normal(jax.random.key(9), (256, SIZE)) / 10
LABELS = jax.random.randint(jax.random.key(10), (256,), 0, 4)
LAYER = {
    "a": jax.random.normal(jax.random.key(11), (SIZE, 16)) / 10,
    "b": jax.random.normal(jax.random.key(12), (16, 4)) / 4,
}


def low_rank(x):
    return jnp.sum(jnp.arange(1.0, x.size + 1) ** -2 * x**2) / 2


def of_net(activation):
    def losses(layer):
        scores = jax.nn.log_softmax(activation(INPUTS @ layer["a"]) @ layer["b"])
        return -jnp.take_along_axis(scores, LABELS[:, None], 1)[:, 0]

    return losses


def rounded(layer):
    return of_net(jnp.tanh)(jax.tree.map(lambda one: jnp.round(one / 0.05) * 0.05, layer))


def errors(layer):
    scores = jnp.tanh(INPUTS @ layer["a"]) @ layer["b"]
    return (jnp.argmax(scores, axis=1) != LABELS).astype(jnp.float32)


LOSSES = {
    "sphere": ("smooth", quadratic, POINT, 0.1),
    "rank of k⁻², N = 50": ("smooth", low_rank, jnp.ones(50), 0.3),
    "rank of k⁻², σ too large": ("smooth", low_rank, jnp.ones(50), 10.0),
    "tanh network": ("smooth", of_net(jnp.tanh), LAYER, 0.1),
    "sign network": ("rough", of_net(jnp.sign), LAYER, 0.1),
    "4-bit weights": ("rough", rounded, LAYER, 0.01),
    "counted errors": ("rough", errors, LAYER, 0.01),
    "simulator": ("noisy", lambda x: quadratic(x) + 0.3 * hashed(x), POINT, 0.1),
    "large noise": ("noisy", lambda x: 100 * jnp.sum(x) + 20 * hashed(x), POINT, 0.1),
    "noise alone": ("noise", hashed, POINT, 0.1),
    "noise on a plateau": ("noise", lambda x: 5.0 + 1e-3 * hashed(x), POINT, 0.01),
    "constant": ("flat", lambda x: 0 * jnp.sum(x) + 2, POINT, 0.1),
    "a plateau": ("flat", lambda x: jnp.where(x[:7] > -99, 2.0, x[:7]), POINT, 1.0),
    "at a minimum": ("minimum", quadratic, 0 * POINT, 0.1),
    "at the mean": ("minimum", lambda x: jnp.sum((x[None] - INPUTS) ** 2, axis=1), INPUTS.mean(axis=0), 0.1),
    "less than its digits": ("rounding", lambda x: 1e3 + 1e-3 * quadratic(x), POINT, 1e-3),
    "a sine under its digits": ("rounding", lambda x: 1e4 + jnp.sin(x[0]), POINT, 1e-3),
}


@pytest.mark.parametrize("name", LOSSES)
def test_the_kind_is_named(name):
    kind, loss_fn, start, sigma = LOSSES[name]
    prober = Prober(jax.random.key(0), loss_fn, start, mutagrad.mutation.gaussian())
    found = [survey(prober.with_key(jax.random.key(key)), sigma, None, 16).kind for key in range(KEYS)]
    names = [one.name for one in found]
    print(name, names, [(one.drowns_below[:2], one.exponent[:2]) for one in found[:2]])
    # Of little roughness, which of the two it is may be left open, never a third.
    also = ("rough or noisy",) if kind == "rough" else ()
    assert sum(one != kind for one in names if one not in also) <= 1, names
    assert sum(one == kind for one in names) >= KEYS / 2, names


@pytest.mark.parametrize("exponent", [0.0, 1.0])
def test_the_scale_below_which_the_slope_drowns(exponent):
    """Exact differences of σ_r = 0.01: its likelihood interval holds it in 95 of 100, within binomial chance of 10⁻³."""
    rng, sigmas, inside, excluded = np.random.default_rng(0), np.geomspace(1e-4, 1e-1, 7), 0, 0
    for _ in range(60):
        odd = [np.sqrt(s**2 + 0.01 ** (2 - exponent) * s**exponent) * rng.standard_normal(32) for s in sigmas]
        fit = fit_of(sigmas, odd)
        _, low, high = fit.interval(fit.scale)
        inside += low <= 0.01 <= high
        excluded += fit.excludes(0.0)
    print(inside, excluded)
    # Profiled over p, and on a grid: a little wider than 95 %.
    assert inside >= stats.binom.ppf(1e-3, 60, 0.95)
    assert excluded == 60


@pytest.mark.parametrize("name", ["noise alone", "noise on a plateau"])
@pytest.mark.parametrize("key", [0, 1])
def test_noise_has_no_best_sigma_and_no_forecast(name, key):
    _, loss_fn, start, _ = LOSSES[name]
    found = mutagrad.diagnose(jax.random.key(key), loss_fn, start, mutagrad.elitist(sigma=0.01, num_offspring=20))
    assert found.kind.name == "noise"
    assert found.plans == ()
    assert found.forecast is None
    assert found.gain is None
    text = str(found)
    assert "The loss is noise: " in text
    assert not any(
        words in text for words in ("the best for", "To lower the loss", " is right", "too small", "promise")
    )
    size = float(np.std([loss_fn(start + 0.01 * i) for i in range(64)]))
    assert abs(found.kind.noise.value - size) < 4.4 * np.hypot(found.kind.noise.error, size / 128**0.5)


def test_a_simulator_keeps_its_best_sigma_and_says_how_much_is_slope():
    """Slope and curvature are those below the noise; where they drown, no best σ is known."""
    _, loss_fn, start, _ = LOSSES["simulator"]
    best = 1.892 * float(jnp.linalg.norm(jnp.linspace(0.5, 1.5, SIZE))) / SIZE
    sigma = 1e-3
    found = mutagrad.diagnose(jax.random.key(2), loss_fn, start, mutagrad.elitist(sigma, 20))
    assert found.kind.name == "noisy"
    assert abs(found.plans[0].sigma.value - best) < 4.4 * found.plans[0].sigma.error
    slope = (best * SIZE / 1.892) ** 2 * sigma**2
    # Half the difference of two has half the variance of one.
    share = slope / (slope + 0.3**2 / 2)
    assert abs(found.kind.signal.value - share) < 4.4 * found.kind.signal.error
    near = mutagrad.diagnose(jax.random.key(2), loss_fn, 0.01 * start, mutagrad.elitist(0.1, 20))
    assert near.plans == ()
    assert "no best σ is known" in str(near)
    assert "|∇U|" not in str(near)


def test_a_loss_in_ordinary_python_shows_its_noise():
    rng = np.random.default_rng(3)

    def simulate(x):
        return float(np.sum(x**2) / 2 + 0.3 * rng.normal())

    def exact(x):
        return float(np.sum(x**2) / 2)

    algorithm, start = mutagrad.elitist(0.05, 20), np.ones(SIZE, np.float32)
    noisy = mutagrad.diagnose(jax.random.key(0), simulate, start, algorithm, evaluation=mutagrad.executor())
    assert abs(noisy.parent_noise.value - 0.3) < 4.4 * noisy.parent_noise.error
    assert noisy.kind.name == "noisy"
    plain = mutagrad.diagnose(jax.random.key(0), exact, start, algorithm, evaluation=mutagrad.executor())
    assert plain.parent_noise.value == 0
    assert plain.kind.name == "smooth"
    assert abs(plain.plans[0].sigma.value - 0.1892) < 4.4 * plain.plans[0].sigma.error
    with pytest.raises(ValueError, match=r"pass evaluation=mutagrad.executor\(\)"):
        mutagrad.diagnose(jax.random.key(0), simulate, start, algorithm)
    with pytest.raises(ValueError, match="does not depend on the params"):
        mutagrad.diagnose(jax.random.key(0), lambda x: float(rng.normal()), start, algorithm)


def test_rounding_is_named_at_a_tiny_sigma_and_tiny_numbers_are_written_as_such():
    def mean(x):
        return 3 + 1e-6 * quadratic(x)

    found = mutagrad.diagnose(jax.random.key(0), lambda x: 1e-6 * quadratic(x), POINT, mutagrad.elitist(0.1, 20))
    assert found.kind.name == "smooth"
    assert "e-07" in str(found)
    assert not re.search(r"\b0\.0000\d*[1-9]", str(found))
    tiny = mutagrad.diagnose(jax.random.key(0), of_net(jnp.tanh), LAYER, mutagrad.elitist(1e-9, 20))
    assert tiny.gain is None
    # One compiler leaves differences of some size at this σ, another none but rounding.
    assert re.search("At σ = 1e-09 rounding decides|changes by its rounding alone at σ = 1e-09", str(tiny))
    assert loss_kind(jax.random.key(0), mean, POINT, 0.01).name == "rounding"


@pytest.mark.parametrize("centre", [0.0, 0.01])
def test_the_batch_that_is_all_the_data_is_not_asked_to_grow(centre):
    """At the mean of the data, and beside it, the slope drowns in what would be sampling noise if the data were a sample."""
    start = INPUTS.mean(axis=0) + centre
    found = mutagrad.diagnose(
        jax.random.key(0), lambda x, rows: jnp.sum((x[None] - rows) ** 2, axis=1), start, batch=INPUTS, resampled=False
    )
    assert "larger" not in str(found).split("\n\n")[0].replace("likely too large", "")
    assert "e batches" not in str(found)
    told = {one.name: one for one in findings(found)}
    assert told["kind of loss"].follows == ("smooth" if centre else "minimum")


def test_a_second_half_of_pairs_has_none_of_the_first():
    """Together they are those of twice as many at once, whatever the number."""
    prober = Prober(jax.random.key(0), lambda x: jnp.sum(x**2), jnp.ones(30), mutagrad.mutation.gaussian())
    for number in (16, 17, 23):
        halves = [prober.rung(0.1, number).odd, prober.rung(0.1, number, number).odd]
        np.testing.assert_array_equal(np.concatenate(halves), prober.rung(0.1, 2 * number).odd)


SPHERE = 1.892 / 10
"""Best σ of (1+20) on |x|²/2, or |x|², at 100 parameters that are 1."""


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_params_of_few_digits_are_not_taken_for_a_rough_loss(dtype):
    """A loss in float32 has its best σ, above the rounding of the params; one of few digits of its own is rounding."""
    start = POINT.astype(dtype)
    found = mutagrad.diagnose(jax.random.key(0), lambda x: jnp.sum(x.astype(jnp.float32) ** 2), start, sigma=0.1)
    assert found.kind.name == "smooth"
    assert abs(found.plans[0].sigma.value - SPHERE) < 4.4 * found.plans[0].sigma.error
    assert found.rounds_below == pytest.approx(3 * float(jnp.finfo(dtype).eps))
    short = loss_kind(jax.random.key(0), lambda x: jnp.sum(x**2).astype(jnp.bfloat16), start, 0.1)
    assert short.name == "rounding"


def test_rounding_is_that_of_the_loss_and_not_of_the_default_float():
    with jax.enable_x64(True):
        start = POINT.astype(jnp.float32)
        found = mutagrad.diagnose(jax.random.key(0), lambda x: jnp.sum(x**2) / 2 + 1e5, start, sigma=0.1)
    assert found.kind.name == "smooth"
    # 30 roundings of 10⁵ over a slope of 10.
    assert found.rounds_below == pytest.approx(30 * 2.0**-23 * 1e5 / 10, rel=0.2)


def test_a_loss_of_python_has_the_digits_that_it_returns():
    def loss_fn(x):
        return float(np.square(x, dtype=np.float64).sum() / 2 + 1e6)

    found = mutagrad.diagnose(jax.random.key(0), loss_fn, POINT, sigma=0.1, evaluation=mutagrad.executor())
    assert found.kind.name == "smooth"
    assert abs(found.plans[0].sigma.value - SPHERE) < 4.4 * found.plans[0].sigma.error
    assert found.rounds_below < 1e-5
