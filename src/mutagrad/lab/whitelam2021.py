"""Whitelam, Selin, Park, Tamblyn 2021, "Correspondence between neuroevolution and gradient descent": its claims.

The shallow net f_x(θ) = Σ x₁ tanh(x₂θ + x₃) of 30 units learns sin 2πθ at 1000 points. Evolution is greedy with
σ = λα√2π, gradient descent x ← x − αĝ, and time t = α·(its steps) = αλ·(generations).
"""

import itertools
import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special, stats

import mutagrad
from mutagrad import theory
from mutagrad.lab.claims import Claim, Outcome, below, near

__all__ = ["CLAIMS", "shallow_losses", "shallow_start"]

UNITS, POINTS = 30, 1000
_AT_ONCE = 64
"""Runs evaluated together: their per-example losses stay in the cache."""


def shallow_losses(x: jax.Array) -> jax.Array:
    """Squared error of the shallow net at every point.

    Parameters
    ----------
    x : (90,) parameters, (amplitude, slope, offset) of one unit after another.

    Returns
    -------
    (1000,) losses.

    Source: [W21], methods.

    >>> import jax.numpy as jnp
    >>> from mutagrad.lab.whitelam2021 import shallow_losses
    >>> round(float(shallow_losses(jnp.zeros(90)).mean()), 4)
    0.5
    """
    theta = jnp.arange(POINTS, dtype=x.dtype) / POINTS
    amplitude, slope, offset = x.reshape(UNITS, 3).T
    # A sum over the first axis, not a matrix product: XLA fuses it with tanh into one pass.
    hidden = jnp.tanh(jnp.multiply.outer(slope, theta) + offset[:, None] * jnp.ones((1, POINTS), x.dtype))
    output = jnp.sum(amplitude[:, None] * jnp.ones((1, POINTS), x.dtype) * hidden, axis=0)
    return jnp.square(output - jnp.sin(2 * jnp.pi * theta))


def shallow_start(seed: int = 0) -> jax.Array:
    """The start of every run: 90 parameters drawn from N(0, 10⁻⁴), of standard deviation 0.01."""
    return 0.01 * jax.random.normal(jax.random.key(seed), (3 * UNITS,))


def mean_loss(x: jax.Array) -> jax.Array:
    """Mean of `shallow_losses`."""
    return jnp.mean(shallow_losses(x))


class Runs(NamedTuple):
    """Parameters (n, R, N) and losses (n, R) of n runs at R times."""

    params: np.ndarray
    losses: np.ndarray


def simulate(
    algorithm: mutagrad.Algorithm, number: int, generations: int, records: int, progress: Callable[[float], None]
) -> Runs:
    """Independent runs on the shallow net from one start, recorded at equal intervals."""
    start, between = shallow_start(), generations // records

    @jax.jit
    def begin(keys):
        return jax.vmap(lambda key: algorithm.init(start, shallow_losses))(keys)

    # Distance from a record to the next, for many runs at once.
    @partial(jax.jit, donate_argnums=1)
    def advance(keys, states):
        def run(key, state):
            def body(_, state):
                return algorithm.step(jax.random.fold_in(key, state.generation), state, shallow_losses)[0]

            return jax.lax.fori_loop(0, between, body, state)

        states = jax.vmap(run)(keys, states)
        return states, (states.params, jnp.mean(states.parent_loss, axis=-1))

    params, losses = [], []
    at_once = min(number, _AT_ONCE)
    for first in range(0, number, at_once):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(1), first), at_once)
        states = begin(keys)
        found = []
        for record in range(records):
            states, kept = advance(keys, states)
            found.append(jax.tree.map(np.asarray, kept))
            progress((first / at_once + (record + 1) / records) / (number / at_once))
        params.append(np.stack([one[0] for one in found], axis=1))
        losses.append(np.stack([one[1] for one in found], axis=1))
    return Runs(np.concatenate(params), np.concatenate(losses))


def descend(time: float, records: int, step: float = 1e-3) -> Runs:
    """Normalised gradient descent by steps of length ``step``, at the same times; one "run"."""
    between = round(time / records / step)
    optimizer = theory.equivalent_gradient_descent(mutagrad.greedy(step * math.sqrt(2 * math.pi)))

    @jax.jit
    def advance(x):
        def body(_, x):
            return x + optimizer.update(jax.grad(mean_loss)(x), optimizer.init(x))[0]

        return jax.lax.fori_loop(0, between, body, x)

    x, found = shallow_start(), []
    for _ in range(records):
        x = advance(x)
        found.append((np.asarray(x), float(mean_loss(x))))
    return Runs(np.stack([one[0] for one in found])[None], np.array([[one[1] for one in found]]))


def langevin_runs(algorithm: mutagrad.Algorithm, number: int, generations: int, records: int, steps: int) -> Runs:
    """Paths of the Langevin equation at the same times."""
    equation = theory.langevin(algorithm, jax.grad(mean_loss))
    times = jnp.linspace(0, generations, records + 1)[1:]
    solve = jax.jit(jax.vmap(lambda key: equation.solve(key, shallow_start(), generations, steps, times)))
    parts = [solve(jax.random.split(key, 32)) for key in jax.random.split(jax.random.key(2), -(-number // 32))]
    params = np.concatenate([np.asarray(part) for part in parts])
    losses = np.asarray(jax.lax.map(mean_loss, jnp.asarray(params).reshape(-1, 3 * UNITS))).reshape(params.shape[:2])
    return Runs(params, losses)


def _greedy(settings: dict[str, Any], ratio: float) -> tuple[mutagrad.Algorithm, int]:
    """The algorithm at λ, and its generations."""
    step = settings["alpha"] * ratio
    return mutagrad.greedy(step * math.sqrt(2 * math.pi), reevaluate_parent=False), round(settings["time"] / step)


@lru_cache(maxsize=4)
def _correspondence(alpha: float, ratio: float, time: float, runs: int, records: int, progress: Callable) -> tuple:
    """Evolution, Langevin equation and gradient descent at the same times."""
    algorithm, generations = _greedy({"alpha": alpha, "time": time}, ratio)
    evolved = simulate(algorithm, runs, generations, records, lambda share: progress(0.6 * share))
    # Steps of length 2·10⁻⁴ on the way: longer ones overstep the valleys, whose width in x is |g|/λ_max ≈ 0.004.
    predicted = langevin_runs(algorithm, runs, generations, records, steps=round(time / 2e-4))
    progress(0.95)
    return evolved, predicted, descend(time, records)


def _within(progress: Callable[[float], None], start: float, share: float) -> Callable[[float], None]:
    """Progress of one part of a claim."""
    return lambda part: progress(start + share * part)


class _Progress:
    """A progress function that counts as equal to any other, so that a cached simulation is found again."""

    def __init__(self, call: Callable[[float], None]):
        self.call = call

    def __call__(self, share: float) -> None:
        self.call(share)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Progress)

    def __hash__(self) -> int:
        return 0


def _dataset(time: float, evolved: Runs, predicted: Runs, descent: Runs) -> Any:
    import xarray

    records = evolved.losses.shape[1]
    return xarray.Dataset(
        {
            "weights": (("run", "time", "weight"), evolved.params),
            "loss": (("run", "time"), evolved.losses),
            "langevin_mean": (("time", "weight"), predicted.params.mean(0)),
            "langevin_error": (("time", "weight"), predicted.params.std(0, ddof=1) / math.sqrt(len(predicted.params))),
            "langevin_loss": (("path", "time"), predicted.losses),
            "descent": (("time", "weight"), descent.params[0]),
            "descent_loss": ("time", descent.losses[0]),
        },
        coords={"time": np.arange(1, records + 1) * time / records},
    )


def _both(settings: dict[str, Any], progress: Callable[[float], None]) -> Any:
    names = ("alpha", "ratio", "time", "runs", "records")
    return _dataset(settings["time"], *_correspondence(*(settings[name] for name in names), _Progress(progress)))


def _figure(columns: int, width: float = 4.6) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt.subplots(1, columns, figsize=(width * columns, 3.8), layout="constrained", squeeze=False)


def _caption(figure: Any, data: Any) -> None:
    import json

    settings = json.loads(data.attrs["settings"])
    text = ", ".join(f"{name} {value}" for name, value in settings.items())
    figure.supxlabel(f"{data.attrs['claim']}: {text}", fontsize=7, color="0.35")


# --- W21-1, 2: weights and loss follow gradient descent -----------------------------------------------------------------


def run_weights(settings: dict[str, Any], progress: Callable[[float], None]) -> Outcome:
    """Every weight's mean over runs against the Langevin prediction, at every recorded time."""
    data = _both(settings, progress)
    number = data.sizes["run"]
    weights = data.weights.values
    errors = np.sqrt(weights.var(0, ddof=1) / number + data.langevin_error.values**2)
    z = (weights.mean(0) - data.langevin_mean.values) / errors
    share = float(np.mean(np.abs(z) > 2))
    # Student t with the degrees of freedom of the smaller sample; the weights are independent only roughly.
    expected = 2 * stats.t.sf(2, number - 1)
    end, descent = data.weights.values[:, -1].mean(0), data.descent.values[-1]
    apart = float(np.linalg.norm(end - descent) / np.linalg.norm(descent - np.asarray(shallow_start())))
    spread, spread_error = _spread(settings)
    checks = [
        below("largest |z| of a weight's mean over runs from the Langevin prediction", float(np.abs(z).max()), 0, 5.0),
        near("share of |z| > 2", share, 0, expected, 0.05),
        below("distance of the mean path from gradient descent's end, as a share of the way", apart, 0, 0.1),
        near("variance of a weight over D_⊥t after 50 generations, median weight", spread, spread_error, 1, 0.05),
    ]
    return Outcome(checks, data, draw_weights)


def _spread(settings: dict[str, Any]) -> tuple[float, float]:
    """Median over weights of the variance over runs, in units of D_⊥t, and its standard error.

    Over so few generations that the saddle at the start has not yet pulled the runs apart.
    """
    algorithm, generations = _greedy(settings, settings["ratio"])[0], 50
    weights = simulate(algorithm, settings["early_runs"], generations, 1, lambda share: None).params[:, 0]
    sigma = float(algorithm.parts.sigma)
    variances = weights.var(0, ddof=1) / (generations * sigma**2 / 2)
    return float(np.median(variances)), float(1.25 * variances.std() / math.sqrt(len(variances)))


def draw_weights(data: Any) -> Any:
    """Four weights against t, and all of them at the end: the layout of Fig. 1a and 1b."""
    figure, axes = _figure(2)
    left, right = axes[0]
    time = data.time.values
    for colour, weight in enumerate(np.argsort(-np.abs(data.descent.values[-1]))[:4]):
        for run in range(min(25, data.sizes["run"])):
            left.plot(time, data.weights.values[run, :, weight], color=f"C{colour}", alpha=0.15, linewidth=0.6)
        left.plot(time, data.weights.values[:, :, weight].mean(0), color=f"C{colour}", linewidth=1.6)
        left.plot(time, data.descent.values[:, weight], color="k", linestyle="--", linewidth=1)
    left.set(xlabel="t", ylabel="weight", title="25 runs, their mean, gradient descent (dashed)")
    index = np.arange(data.sizes["weight"])
    last = data.weights.values[:, -1]
    right.errorbar(index, last.mean(0), last.std(0), fmt="none", color="C0", alpha=0.4, label="spread of runs")
    right.plot(index, last.mean(0), "o", color="C0", markersize=3, label="mean of runs")
    right.plot(index, data.langevin_mean.values[-1], "+", color="C3", markersize=6, label="Langevin")
    right.plot(index, data.descent.values[-1], "_", color="k", markersize=7, label="gradient descent")
    right.set(xlabel="weight", title=f"all weights at t = {time[-1]:g}")
    right.legend(frameon=False, fontsize=8)
    _caption(figure, data)
    return figure


def run_loss(settings: dict[str, Any], progress: Callable[[float], None]) -> Outcome:
    """Mean loss against gradient descent's, and its excess against that of the Langevin equation."""
    data = _both(settings, progress)
    losses, predicted = data.loss.values, data.langevin_loss.values
    mean, error = losses.mean(0), losses.std(0, ddof=1) / math.sqrt(len(losses))
    expected = predicted.mean(0)
    both = np.hypot(error, predicted.std(0, ddof=1) / math.sqrt(len(predicted)))
    z = (mean - expected) / both
    middle = data.sizes["time"] // 2
    excess = (mean - data.descent_loss.values) / data.descent_loss.values[0]
    ours, theirs = ((one - data.descent_loss.values).sum(1) for one in (losses, predicted))
    ratio = ours.mean() / theirs.mean()
    relative = [one.std(ddof=1) / math.sqrt(len(one)) / theirs.mean() for one in (ours, theirs)]
    spread = math.hypot(relative[0], ratio * relative[1])
    checks = [
        below("largest |z| of the mean loss from that of the Langevin equation", float(np.abs(z).max()), 0, 4.0),
        near(
            "mean loss less gradient descent's, halfway, in units of the loss at the first record",
            excess[middle],
            error[middle] / data.descent_loss.values[0],
            0,
            0.1,
        ),
        near(
            "mean loss less gradient descent's, over all times, in units of the Langevin equation's",
            ratio,
            spread,
            1,
            0.3,
        ),
    ]
    return Outcome(checks, data, draw_loss)


def draw_loss(data: Any) -> Any:
    """Loss against t: the layout of Fig. 1c."""
    figure, axes = _figure(1, 5.6)
    axis = axes[0, 0]
    time = data.time.values
    for run in range(min(25, data.sizes["run"])):
        axis.plot(time, data.loss.values[run], color="C0", alpha=0.2, linewidth=0.6)
    axis.plot(time, data.loss.values.mean(0), color="C0", linewidth=1.8, label="mean of runs")
    axis.plot(time, data.langevin_loss.values.mean(0), "+", color="C3", label="Langevin, mean")
    axis.plot(time, data.descent_loss.values, "k--", linewidth=1.2, label="gradient descent")
    axis.set(xlabel="t", ylabel="loss", yscale="log")
    axis.legend(frameon=False)
    _caption(figure, data)
    return figure


# --- W21-3: smaller λ, closer ------------------------------------------------------------------------------------------


def run_ratios(settings: dict[str, Any], progress: Callable[[float], None]) -> Outcome:
    """Δ(t) for several λ, and its floor D_⊥t/n."""
    import xarray

    ratios, number, records = settings["ratios"], settings["runs"], settings["records"]
    descent = descend(settings["time"], records)
    costs = np.cumsum([0.0, *(1 / ratio for ratio in ratios)])
    delta, spread, losses = [], [], []
    for position, ratio in enumerate(ratios):
        algorithm, generations = _greedy(settings, ratio)
        done, total = costs[position], costs[-1]
        share = (costs[position + 1] - done) / total
        runs = simulate(algorithm, number, generations, records, _within(progress, done / total, share))
        delta.append(np.mean((runs.params.mean(0) - descent.params[0]) ** 2, axis=-1))
        spread.append(np.mean(runs.params.var(0, ddof=1), axis=-1))
        losses.append(runs.losses.mean(0))
    time = np.arange(1, records + 1) * settings["time"] / records
    # D_⊥ per generation is σ²/2 = π(λα)²; there are t/(λα) generations.
    floors = np.array([math.pi * settings["alpha"] * ratio * time / number for ratio in ratios])
    data = xarray.Dataset(
        {
            "delta": (("ratio", "time"), np.array(delta)),
            "floor": (("ratio", "time"), floors),
            "variance": (("ratio", "time"), np.array(spread)),
            "loss": (("ratio", "time"), np.array(losses)),
            "descent_loss": ("time", descent.losses[0]),
        },
        coords={"time": time, "ratio": list(ratios)},
    )
    early = records // 8
    checks = [
        below(
            f"Δ at λ = {small:g} over Δ at λ = {large:g}, mean over time",
            data.delta.values[i + 1].mean() / data.delta.values[i].mean(),
            0,
            1.0,
        )
        for i, (large, small) in enumerate(itertools.pairwise(ratios))
    ]
    ratio_to_floor = data.delta.values[-1][early] / floors[-1][early]
    # A mean of 90 squares of normal deviations has a relative standard error √(2/90) if all are independent.
    checks.append(
        near(
            f"Δ over D_⊥t/n at t = {time[early]:g}, smallest λ",
            ratio_to_floor,
            ratio_to_floor * math.sqrt(2 / 90),
            1,
            1.0,
        )
    )
    variance = data.variance.values[-1][early] / (floors[-1][early] * number)
    checks.append(
        near(
            f"variance of a weight over D_⊥t at t = {time[early]:g}, smallest λ",
            variance,
            variance * math.sqrt(2 / 90 / number),
            1,
            0.1,
        )
    )
    return Outcome(checks, data, draw_ratios)


def draw_ratios(data: Any) -> Any:
    """Δ(t) and the loss for each λ: the layout of Fig. 2."""
    figure, axes = _figure(2)
    left, right = axes[0]
    for colour, ratio in enumerate(data.ratio.values):
        left.plot(data.time, data.delta.sel(ratio=ratio), color=f"C{colour}", label=f"λ = {ratio:.3g}")
        left.plot(data.time, data.floor.sel(ratio=ratio), color=f"C{colour}", linestyle=":", linewidth=1)
        right.plot(data.time, data.loss.sel(ratio=ratio), color=f"C{colour}")
    right.plot(data.time, data.descent_loss, "k--", label="gradient descent")
    left.set(
        xlabel="t", ylabel="Δ(t)", yscale="log", title="distance of the mean from gradient descent (dotted: D⊥t/n)"
    )
    left.title.set_fontsize(9)
    right.set(xlabel="t", ylabel="mean loss", yscale="log")
    left.legend(frameon=False)
    right.legend(frameon=False)
    _caption(figure, data)
    return figure


# --- W21-9: the crossover ----------------------------------------------------------------------------------------------


def run_crossover(settings: dict[str, Any], progress: Callable[[float], None]) -> Outcome:
    """Drift of Metropolis on the shallow net against the closed form, for every b from the same mutations.

    Each mutation is judged together with its mirror image, by the library's acceptance probability: the mean over the
    two and over the coin is the drift, with far less noise than steps of a chain have.
    """
    import xarray

    with jax.enable_x64(True):
        x = jnp.asarray(shallow_start(), jnp.float64)
        for _ in range(100):  # away from the saddle at which the start lies
            slope = jax.grad(mean_loss)(x)
            x = x - 0.01 * slope / jnp.linalg.norm(slope)
        norm, sigma = float(jnp.linalg.norm(slope)), settings["sigma"]
        unit, parent = slope / norm, shallow_losses(x)
        sample_fn = mutagrad.mutation.gaussian().sample_fn

        @jax.jit
        def differences(keys):
            def one(key):
                mutation = sigma * sample_fn(key, x)
                up, down = (jnp.mean(shallow_losses(x + sign * mutation) - parent) for sign in (1, -1))
                return mutation @ unit / sigma, up, down

            return jax.lax.map(one, keys, batch_size=_AT_ONCE)

        parts, blocks = [], 20
        for block in range(blocks):
            keys = jax.random.split(jax.random.key(block), settings["mutations"] // blocks)
            parts.append([np.asarray(part) for part in differences(keys)])
            progress((block + 1) / blocks)
        z, up, down = (np.concatenate(column) for column in zip(*parts, strict=True))
        b = np.logspace(-3, 3, settings["slopes"])
        drift, error = np.empty((2, len(b)))
        for index, one in enumerate(b):
            acceptance_fn = mutagrad.selection.metropolis(one / (sigma * norm)).acceptance_fn
            assert acceptance_fn is not None
            accepted_up, accepted_down = (np.asarray(acceptance_fn(jnp.asarray(one))) for one in (up, down))
            values = z * (accepted_up - accepted_down) / 2
            drift[index], error[index] = values.mean(), values.std(ddof=1) / math.sqrt(len(values))
    closed = -b * special.erfcx(b / math.sqrt(2)) / 2
    data = xarray.Dataset(
        {"drift": ("b", drift), "error": ("b", error), "closed_form": ("b", closed)},
        coords={"b": b},
        attrs={"norm": norm},
    )
    checks = [
        near(
            f"drift over −σ b exp(b²/2) Φ(−b) at b = {one:.3g}",
            drift[i] / closed[i],
            error[i] / abs(closed[i]),
            1,
            0.04,
        )
        for i, one in enumerate(b)
    ]
    return Outcome(checks, data, draw_crossover)


def draw_crossover(data: Any) -> Any:
    """The drift between its two limits."""
    figure, axes = _figure(1, 5.6)
    axis = axes[0, 0]
    b = np.logspace(-3, 3, 200)
    axis.plot(b, b * special.erfcx(b / math.sqrt(2)) / 2, color="C0", label="b exp(b²/2) Φ(−b)")
    axis.plot(b, b / 2, "k:", linewidth=1, label="b/2: gradient descent")
    axis.axhline(1 / math.sqrt(2 * math.pi), color="k", linestyle="--", linewidth=1, label="1/√2π: normalised")
    axis.errorbar(data.b, -data.drift, 3 * data.error, fmt="o", color="C3", markersize=4, label="measured, ±3 errors")
    axis.set(xscale="log", yscale="log", xlabel="b = βσ|∇U|", ylabel="drift / σ, along −∇U", ylim=(3e-4, 1))
    axis.legend(frameon=False)
    _caption(figure, data)
    return figure


_CORRESPONDENCE = {
    "quick": {"alpha": 2e-4, "ratio": 0.1, "time": 2.0, "runs": 32, "records": 20, "early_runs": 2048},
    "paper": {"alpha": 1e-5, "ratio": 0.1, "time": 10.0, "runs": 1000, "records": 100, "early_runs": 20480},
}
_RATIOS = {
    "quick": {"alpha": 2e-3, "ratios": (1.0, 1 / 3, 0.1), "time": 4.0, "runs": 64, "records": 40},
    "paper": {"alpha": 1e-5, "ratios": (1.0, 1 / 3, 0.1), "time": 10.0, "runs": 1000, "records": 100},
}
_CROSSOVER = {
    "quick": {"sigma": 1e-5, "mutations": 20_000, "slopes": 13},
    "paper": {"sigma": 1e-5, "mutations": 400_000, "slopes": 25},
}

CLAIMS = [
    Claim(
        "W21-1",
        "whitelam2021",
        "Fig. 1a, 1b",
        "weights fluctuate about gradient descent, and their mean over runs follows it",
        _CORRESPONDENCE,
        run_weights,
    ),
    Claim(
        "W21-2",
        "whitelam2021",
        "Fig. 1c",
        "the mean loss is that of gradient descent to leading order; P: its excess is the curvature's share of the noise",
        _CORRESPONDENCE,
        run_loss,
    ),
    Claim(
        "W21-3",
        "whitelam2021",
        "Fig. 2",
        "the smaller λ, the closer the mean of the runs is to gradient descent, down to the sampling floor",
        _RATIOS,
        run_ratios,
    ),
    Claim(
        "W21-9",
        "whitelam2021",
        "crossover",
        "the drift of Metropolis is −σ b exp(b²/2) Φ(−b) from plain to normalised gradient descent",
        _CROSSOVER,
        run_crossover,
    ),
]
