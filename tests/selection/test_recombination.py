"""Weighted recombination: its step against plain NumPy, its weights under ties and failures, and σ driven to its best."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mutagrad
from mutagrad.selection import normal_scores, weighted
from mutagrad.selection.recombination import rank_shares

M = 6


def losses_of(params, batch):
    """Per-example losses of a small nonlinear model with float16, float32 and integer leaves."""
    inputs, targets = batch
    hidden = jnp.tanh(inputs @ params["w"] + params["b"].astype(jnp.float32)[None])
    return jnp.square(jnp.sum(hidden, axis=1) - targets)


def setting():
    keys = jax.random.split(jax.random.key(3), 3)
    params = {
        "b": jnp.asarray([0.5, -0.25, 0.0, 1.0], jnp.float16),
        "steps": jnp.arange(3),
        "w": jax.random.normal(keys[0], (3, 4)),
    }
    return params, (jax.random.normal(keys[1], (16, 3)), jax.random.normal(keys[2], (16,)))


def step_in_numpy(params, batch, noises, sigma, weights):
    """Parents and change of the loss of one generation, in float64, from the library's mutations."""

    def losses(b, w):
        inputs, targets = (np.asarray(leaf, float) for leaf in batch)
        return (np.tanh(inputs @ w + b).sum(axis=1) - targets) ** 2

    b, w = (np.asarray(params[name], float) for name in ("b", "w"))
    parent = losses(b, w)
    children = []
    for z in noises:
        rounded = np.float16(b + sigma * z["b"]).astype(float)  # a float16 leaf is rounded before it is evaluated
        children.append(np.mean(losses(rounded, w + sigma * z["w"]) - parent))
    of_rank = np.zeros(len(children))
    of_rank[np.argsort(children)] = weights
    new_b = np.float16(b + sigma * sum(k * z["b"] for k, z in zip(of_rank, noises, strict=True))).astype(float)
    new_w = w + sigma * sum(k * z["w"] for k, z in zip(of_rank, noises, strict=True))
    gap = np.min(np.diff(np.sort(children)))
    return new_b, new_w, np.mean(losses(new_b, new_w) - parent), gap


@pytest.mark.parametrize("evaluation", ["mapped", "vectorized", 2])
@pytest.mark.parametrize(
    "weights", [None, [0.5, 0.5, 0, 0, 0, 0], [2.0, 1, 0.5, 0, 0, -1]], ids=["scores", "best", "own"]
)
def test_a_generation_is_that_of_plain_numpy(evaluation, weights):
    """Thirty keys; ranks agree wherever losses differ by more than float32 resolves, and then so do the parents."""
    params, batch = setting()
    sigma = 0.25
    algorithm = mutagrad.weighted_recombination(sigma, M, weights, evaluation=evaluation)
    values = normal_scores(M) if weights is None else np.array(weights)
    state = algorithm.init(params)
    step = jax.jit(lambda key, state: algorithm.step(key, state, lambda p: losses_of(p, batch)))
    sample = jax.jit(lambda key, i: algorithm.definition.mutation.sample_fn(jax.random.fold_in(key, i), params))
    checked = 0
    for seed in range(30):
        key = jax.random.key(seed)
        after, info = step(key, state)
        mutation_key, _ = jax.random.split(key)
        noises = [jax.tree.map(lambda x: np.asarray(x, float), sample(mutation_key, i)) for i in range(M)]
        b, w, change, gap = step_in_numpy(params, batch, noises, sigma, values)
        if gap < 1e-5:
            continue
        checked += 1
        np.testing.assert_allclose(np.asarray(after.params["w"], float), w, rtol=0, atol=3e-6)
        np.testing.assert_allclose(
            np.asarray(after.params["b"], float), b, rtol=0, atol=2e-3
        )  # one rounding to float16
        assert after.params["b"].dtype == jnp.float16
        np.testing.assert_array_equal(after.params["steps"], params["steps"])
        # The change is that of the float16 weights that the library rounded, which may be the neighbours of ours.
        # What the step was worth is seen a generation later, when the recombinant is a candidate.
        assert np.isnan(info.loss_change)
        assert np.isnan(info.validated_change) or float(info.validated_change) == 0
        validated = float(step(jax.random.key(1000 + seed), after)[1].validated_change)
        assert abs(validated - change) < 0.02 * max(1, abs(change))
        assert int(info.winner) == int(jnp.argmin(info.losses))
    assert checked >= 25


@pytest.mark.parametrize(
    "algorithm",
    [
        mutagrad.weighted_recombination(0.1, 4),
        mutagrad.elitist(0.1, 4),
        mutagrad.comma(0.1, 4),
        mutagrad.greedy(0.1),
        mutagrad.metropolis(0.1, 1.0),
        mutagrad.truncation(0.1, 6, 2),
    ],
    ids=lambda algorithm: algorithm.definition.selection.name,
)
def test_changes_are_those_of_the_parents_loss(algorithm):
    """parent_loss + loss_change is what the next generation finds on the same batch, or that one says what it was worth."""
    params, batch = setting()
    step = jax.jit(lambda key, state: algorithm.step(key, state, lambda p: losses_of(p, batch)))
    state, old = algorithm.init(params), None
    recombines = algorithm.definition.validate
    assert recombines == (algorithm.definition.selection.name == "weighted")
    for seed in range(10):
        number = len(algorithm.ask(jax.random.key(seed), state))
        state, info = step(jax.random.key(seed), state)
        assert number == info.losses.size + algorithm.definition.selection.num_parents + recombines
        if old is not None and recombines:
            np.testing.assert_allclose(info.validated_change, info.parent_loss - old.parent_loss, rtol=1e-4, atol=1e-6)
        elif old is not None:
            np.testing.assert_allclose(info.parent_loss, old.parent_loss + old.loss_change, rtol=1e-5)
        assert np.isnan(info.loss_change) == recombines
        assert recombines or np.isnan(info.validated_change)
        old = info


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.one_of(st.integers(-3, 3).map(float), st.just(float("inf")), st.just(float("nan"))), min_size=2, max_size=9
    ),
    st.randoms(),
)
def test_weights_follow_ranks_alone(losses, random):
    """Equal losses get equal weights, failures none, the sum over finite ones is that of their ranks, in any order."""
    losses = [float("inf") if loss != loss else loss for loss in losses]  # selection sees failures as +inf
    values = np.arange(len(losses), 0, -1.0) ** 2

    def shares(losses):
        return np.asarray(rank_shares(tuple(values.tolist()), jnp.array(losses)))

    found = shares(losses)
    finite = [i for i, loss in enumerate(losses) if np.isfinite(loss)]
    np.testing.assert_allclose(found.sum(), values[: len(finite)].sum(), rtol=1e-5)
    for i in range(len(losses)):
        if i not in finite:
            assert found[i] == 0
        for j in finite:
            if i in finite:
                assert (found[i] > found[j]) == (losses[i] < losses[j])
    order = list(range(len(losses)))
    random.shuffle(order)
    again = shares([losses[i] for i in order])
    np.testing.assert_array_equal(again, found[order])


def test_a_plateau_and_failures_leave_the_parent():
    params = jnp.ones(5)
    algorithm = mutagrad.weighted_recombination(0.1, 5)
    for loss_fn in (lambda x: jnp.zeros(3) + 0 * x[0], lambda x: jnp.where(jnp.all(x == 1), 0.0, jnp.nan)):
        state, info = algorithm.step(jax.random.key(0), algorithm.init(params), loss_fn)
        np.testing.assert_array_equal(state.params, params)
    assert int(info.num_nonfinite) == 5
    assert not bool(info.is_accepted)
    assert int(info.winner) == -1


@pytest.mark.parametrize("number", [2, 20, 101, 1000])
def test_offspring_that_are_all_alike_move_nothing(number):
    """Normal scores add up to 0 but for rounding; a tie of all is exactly no step."""
    shares = rank_shares(tuple(normal_scores(number).tolist()), jnp.zeros(number))
    assert not np.any(shares)


def test_the_program_does_not_grow_with_the_offspring():
    """Its compilation takes no longer with many offspring than with few."""

    def length(number):
        algorithm = mutagrad.weighted_recombination(0.1, number)
        key, state = jax.random.key(0), algorithm.init(jnp.ones(5))
        tell = jax.jit(lambda key, state, losses: algorithm.tell(key, state, losses)[0])
        lowered = tell.lower(key, state, jnp.zeros(len(algorithm.ask(key, state))))
        return lowered.as_text().count("\n")

    assert length(1000) == pytest.approx(length(100), rel=0.02)


def test_a_step_to_where_the_loss_fails_is_taken_back():
    """Finite for the offspring, which are near, and not where they recombine to, four mutations off."""

    def fails_far_away(x):
        return jnp.where(jnp.linalg.norm(x - 1) > 2, jnp.inf, jnp.sum(x))

    algorithm = mutagrad.weighted_recombination(0.1, 40)
    step = jax.jit(lambda key, state: algorithm.step(key, state, fails_far_away))
    start = algorithm.init(jnp.ones(100))
    away, info = step(jax.random.key(0), start)
    assert int(info.num_nonfinite) == 0
    assert bool(info.is_accepted)
    assert float(jnp.linalg.norm(away.params - 1)) > 2
    back, info = step(jax.random.key(1), away)
    assert np.isinf(info.parent_loss)
    assert np.isnan(info.validated_change)
    assert int(info.num_nonfinite) == 40
    assert not bool(info.is_accepted)
    np.testing.assert_array_equal(back.params, jnp.ones(100))


def test_masked_leaves_stay():
    mutation = mutagrad.mutation.masked({"early": False, "late": True})
    algorithm = mutagrad.weighted_recombination(0.1, 4, mutation=mutation)
    params = {"early": jnp.ones(3, jnp.bfloat16), "late": jnp.ones(3)}
    state, _ = algorithm.step(
        jax.random.key(0), algorithm.init(params), lambda p: jnp.sum(p["late"]) + jnp.sum(p["early"]).astype(float)
    )
    np.testing.assert_array_equal(state.params["early"], params["early"])
    assert bool(jnp.any(state.params["late"] != 1))


@pytest.mark.parametrize(
    ("exponent", "wrong"),
    [
        (1.0, 1e-2),
        pytest.param(0.0, 1e-2, marks=pytest.mark.verify),
        pytest.param(0.0, 1e2, marks=pytest.mark.verify),
        pytest.param(1.0, 1e2, marks=pytest.mark.verify),
    ],
)
def test_sigma_is_driven_to_the_best(exponent, wrong):
    """A generation gains at least 85 % of the most that any σ would, from a start wrong a hundredfold.

    On ½Σλ_k x_k² with λ_k ∝ k^−a, N = 500, M = 20: the expected decrease at the controller's σ, generations 60 to 90, beside
    its largest value over σ, both from the exact quadratic: Mσ|g|·… − ½σ²(W(TrH − ĝ·Hĝ) + A₂ĝ·Hĝ).
    """
    eigenvalues = jnp.arange(1.0, 501.0) ** -exponent
    moments = mutagrad.theory.recombination_moments(normal_scores(20))
    best_sigma = float(jnp.sqrt(jnp.sum(eigenvalues**2)) / jnp.sum(eigenvalues))
    algorithm = mutagrad.adapt_sigma(mutagrad.weighted_recombination(wrong * best_sigma, 20), "strength")

    def losses(x):
        return eigenvalues * x**2 / 2

    def record(state, info):
        return info.sigma, state.params

    shares = []
    for seed in range(3):
        result = mutagrad.evolve(
            jax.random.key(seed), algorithm, jnp.ones(500), losses, 90, record=record, progress=False
        )
        sigmas, parents = (np.asarray(values, float) for values in result.history)
        values = np.asarray(eigenvalues, float)
        for generation in range(60, 90):
            gradient = values * parents[generation - 1]
            slope = np.linalg.norm(gradient)
            along = gradient @ (values * gradient) / slope**2
            linear = slope * moments.first
            cost = moments.transverse * (values.sum() - along) + moments.second * along
            sigma = sigmas[generation]
            shares.append((sigma * linear - sigma**2 * cost / 2) / (linear**2 / (2 * cost)))
    assert np.mean(shares) > 0.85, np.mean(shares)


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: mutagrad.weighted_recombination(0.1, 1), "num_offspring"),
        (lambda: mutagrad.weighted_recombination(0.1, 3, [1.0, 0.0]), "weights"),
        (lambda: mutagrad.weighted_recombination(0.1, 2, [0.0, 0.0]), "weights"),
        (lambda: mutagrad.weighted_recombination(0.1, 2, [np.nan, 0.0]), "weights"),
        (lambda: mutagrad.weighted_recombination(0.1, 2, [[1.0, 0.0]]), "weights"),
        (lambda: mutagrad.weighted_recombination(0.1, 2, reevaluate_parent=False), "reevaluate_parent"),
        (lambda: mutagrad.adapt_sigma(mutagrad.weighted_recombination(0.1, 2, [-1.0, 1.0])), "algorithm"),
        (lambda: weighted([1.0, 0.0]).select_fn(jax.random.key(0), jnp.zeros(3), jnp.zeros(1)), "weights"),
        (
            lambda: mutagrad.mutation_selection(mutagrad.mutation.gaussian(), weighted([1.0, 0.0]), 3),
            "weights",
        ),
    ],
)
def test_bad_input_is_one_line(build, name):
    with pytest.raises(ValueError, match=f"^{name}: got") as error:
        build()
    assert "\n" not in str(error.value)
