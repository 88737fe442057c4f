"""W21-1 to W21-3: runs on the shallow net beside gradient descent and the Langevin equation (Figs. 1 and 2)."""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

import mutagrad
from mutagrad import theory
from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.lab.claims.ensemble import Experiment, Runs, descend, langevin_runs, mean_of, sigma_of, simulate
from mutagrad.lab.claims.tanh_nets import shallow_losses, shallow_start
from mutagrad.lab.claims.unregistered import below, near
from mutagrad.report.figures import panels

__all__ = ["CLAIMS", "greedy", "normalized_descent"]

_LANGEVIN_STEP = 2e-4
"""Length of an Euler step: longer ones overstep the valleys, whose width in x is |g|/λ_max ≈ 0.004."""


def greedy(step: float) -> mutagrad.Algorithm:
    """Greedy selection whose normalised learning rate, per generation, is ``step`` = λα."""
    return mutagrad.greedy(step * math.sqrt(2 * math.pi), reevaluate_parent=False)


def normalized_descent(start: jax.Array, losses_fn: Any, time: float, records: int, step: float = 1e-3) -> Runs:
    """Normalised gradient descent to t = ``time`` by steps of the length ``step``."""
    return descend(theory.equivalent_gradient_descent(greedy(step)), losses_fn, start, round(time / step), records)


def _correspondence(job: Job) -> Any:
    """Evolution, Langevin equation and gradient descent at the same times, as a dataset."""
    import xarray

    start, step, time, records = shallow_start(), job["alpha"] * job["ratio"], job["time"], job["records"]
    algorithm, generations = greedy(step), round(time / step)
    name = f"shallow net greedy λα {step:g} t {time:g} records {records}"
    experiment = Experiment(name, algorithm, shallow_losses, start, job["runs"], generations, records)
    evolved = simulate(job.part(0, 0.6), experiment)
    predicted = langevin_runs(job.part(0.6, 0.3), experiment, round(time / _LANGEVIN_STEP))
    descent = normalized_descent(start, shallow_losses, time, records)
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


def run_weights(job: Job) -> Outcome:
    """Every weight's mean over runs against the Langevin prediction, at every recorded time."""
    data = _correspondence(job.part(0, 0.95))
    number = data.sizes["run"]
    weights = data.weights.values
    errors = np.sqrt(weights.var(0, ddof=1) / number + data.langevin_error.values**2)
    z = (weights.mean(0) - data.langevin_mean.values) / errors
    # Student t with the degrees of freedom of one sample; the weights are independent only roughly.
    expected = 2 * stats.t.sf(2, number - 1)
    end, descent = weights[:, -1].mean(0), data.descent.values[-1]
    apart = np.linalg.norm(end - descent) / np.linalg.norm(descent - np.asarray(shallow_start()))
    spread, spread_error = _spread(job)
    checks = [
        below("distance of the mean path from gradient descent's end, as a share of the way", apart, 0, 0.1),
        below(
            "largest |z| of a weight's mean over runs from the Langevin prediction", np.abs(z).max(), 0, 4, ours=True
        ),
        near("share of |z| > 2", np.mean(np.abs(z) > 2), 0, expected, 0.05, ours=True),
        near("variance of a weight over D⊥t after 50 generations, median", spread, spread_error, 1, 0.05, ours=True),
    ]
    return Outcome(checks, data, draw_weights)


def _spread(job: Job) -> tuple[float, float]:
    """Median over weights of the variance over runs, in units of D_⊥t, and its standard error.

    Over so few generations that the saddle at the start has not yet pulled the runs apart.
    """
    algorithm, generations, number = greedy(job["alpha"] * job["ratio"]), 50, job["early_runs"]
    name = f"shallow net greedy σ {sigma_of(algorithm):g} first {generations}"
    experiment = Experiment(name, algorithm, shallow_losses, shallow_start(), number, generations, 1)
    weights = simulate(job.part(0.95, 0.05), experiment).params[:, 0]
    variances = weights.var(0, ddof=1) / (generations * sigma_of(algorithm) ** 2 / 2)
    return float(np.median(variances)), float(1.25 * variances.std() / math.sqrt(len(variances)))


def draw_weights(data: Any) -> Any:
    """Four weights against t, and all of them at the end: the layout of Fig. 1a and 1b."""
    figure, (left, right) = panels(2)
    time = data.time.values
    for colour, weight in enumerate(np.argsort(-np.abs(data.descent.values[-1]))[:4]):
        for run in range(min(25, data.sizes["run"])):
            left.plot(time, data.weights.values[run, :, weight], color=f"C{colour}", alpha=0.15, linewidth=0.6)
        left.plot(time, data.weights.values[:, :, weight].mean(0), color=f"C{colour}", linewidth=1.6)
        left.plot(time, data.descent.values[:, weight], color="k", linestyle="--", linewidth=1)
    left.set(xlabel="t", ylabel="weight", title="four weights: runs, their mean, gradient descent (dashed)")
    index = np.arange(data.sizes["weight"])
    last = data.weights.values[:, -1]
    right.errorbar(index, last.mean(0), last.std(0), fmt="none", color="C0", alpha=0.4, label="spread of runs")
    right.plot(index, last.mean(0), "o", color="C0", markersize=3, label="mean of runs")
    right.plot(index, data.langevin_mean.values[-1], "+", color="C3", markersize=6, label="Langevin equation")
    right.plot(index, data.descent.values[-1], "_", color="k", markersize=7, label="gradient descent")
    right.set(xlabel="weight", title=f"all weights at t = {time[-1]:g}")
    right.legend(frameon=False, fontsize=8)
    for axis in (left, right):
        axis.title.set_fontsize(10)
    return figure


# --- W21-2: the mean loss ----------------------------------------------------------------------------------------------


def run_loss(job: Job) -> Outcome:
    """Mean loss against gradient descent's and the Langevin equation's, and the excess that ½Tr(DH) adds to it."""
    data = _correspondence(job.part(0, 0.9))
    losses, predicted = data.loss.values, data.langevin_loss.values
    mean, error = losses.mean(0), losses.std(0, ddof=1) / math.sqrt(len(losses))
    both = np.hypot(error, predicted.std(0, ddof=1) / math.sqrt(len(predicted)))
    z = (mean - predicted.mean(0)) / both
    apart = (mean - data.descent_loss.values) / data.descent_loss.values[0]
    worst = np.argmax(np.abs(apart))
    rates = _second_order(job.part(0.9, 0.1), data)
    between = float(data.time[1] - data.time[0]) / (job["alpha"] * job["ratio"])
    data["excess"], data["excess_error"] = (
        ("time", np.cumsum(rates["measured"]) * between),
        ("time", rates["error"] * between),
    )
    data["expected_excess"] = ("time", np.cumsum(rates["expected"]) * between)
    ratio = rates["measured"].sum() / rates["expected"].sum()
    ratio_error = math.sqrt(np.sum(rates["error"] ** 2)) / abs(rates["expected"].sum())
    checks = [
        near(
            f"mean loss less gradient descent's over its first value, largest over time (t = {float(data.time[worst]):g})",
            apart[worst],
            error[worst] / data.descent_loss.values[0],
            0,
            0.1,
        ),
        below("largest |z| of the mean loss from the Langevin equation's", np.abs(z).max(), 0, 4, ours=True),
        near("second-order part of the loss's rate over ½Tr(DH)", ratio, ratio_error, 1, 0.05, ours=True),
    ]
    return Outcome(checks, data, draw_loss)


def _second_order(job: Job, data: Any) -> dict[str, np.ndarray]:
    """Second-order part of the mean change of the loss in a generation along the runs: measured, its error, ½Tr(DH).

    A mutation and its mirror image, of loss differences u and v, change the loss by ½(min(0, u) + min(0, v)) on average.
    Its first order is −¼|u − v|, whose mean is the drift's; what is left is of second order, without the first one's noise.
    """
    number, pairs, algorithm = job["excess_runs"], job["pairs"], greedy(job["alpha"] * job["ratio"])
    sigma = sigma_of(algorithm)
    with jax.enable_x64(True):

        @jax.jit
        def excess(key, x):
            values = shallow_losses(x)

            def one(key):
                mutation = sigma * jax.random.normal(key, x.shape, x.dtype)
                up, down = (jnp.mean(shallow_losses(x + sign * mutation) - values) for sign in (1, -1))
                return (jnp.minimum(up, 0) + jnp.minimum(down, 0)) / 2 + jnp.abs(up - down) / 4

            trace = jnp.trace(jax.hessian(mean_of(shallow_losses))(x))
            expected = theory.mean_loss_rate(algorithm, 1.0, trace) - theory.mean_loss_rate(algorithm, 1.0, 0.0)
            return jnp.mean(jax.lax.map(one, jax.random.split(key, pairs), batch_size=64)), expected

        found = []
        for record in range(data.sizes["time"]):
            keys = jax.random.split(jax.random.fold_in(jax.random.key(3), record), number)
            points = jnp.asarray(data.weights.values[:number, record], jnp.float64)
            found.append(
                [
                    np.asarray(part)
                    for part in zip(*(excess(k, x) for k, x in zip(keys, points, strict=True)), strict=True)
                ]
            )
            job.progress((record + 1) / data.sizes["time"])
    measured, expected = np.array(found).transpose(1, 0, 2)
    # The error is that of the mutations: the points are the same on both sides.
    error = (measured - expected).std(1, ddof=1) / math.sqrt(number)
    return {"measured": measured.mean(1), "expected": expected.mean(1), "error": error}


def draw_loss(data: Any) -> Any:
    """Loss against t, the layout of Fig. 1c, and the part of it that curvature adds."""
    figure, (left, right) = panels(2)
    time = data.time.values
    for run in range(min(25, data.sizes["run"])):
        left.plot(time, data.loss.values[run], color="C0", alpha=0.2, linewidth=0.6)
    left.plot(time, data.loss.values.mean(0), color="C0", linewidth=1.8, label="mean of runs")
    left.plot(time, data.langevin_loss.values.mean(0), "+", color="C3", label="Langevin equation, mean")
    left.plot(time, data.descent_loss.values, "k--", linewidth=1.2, label="gradient descent")
    left.set(xlabel="t", ylabel="loss")
    left.legend(frameon=False, fontsize=8)
    errors = 3 * np.sqrt(np.cumsum(data.excess_error.values**2))
    right.errorbar(time, data.excess, errors, fmt="o", markersize=3, color="C0", label="measured, ±3 errors")
    right.plot(time, data.expected_excess, color="C3", label="½Tr(DH), summed over generations")
    right.set(xlabel="t", ylabel="loss added by curvature", ylim=(None, None))
    right.ticklabel_format(axis="y", scilimits=(-2, 3))
    right.legend(frameon=False, fontsize=8)
    return figure


# --- W21-3: smaller λ, closer ------------------------------------------------------------------------------------------


def run_ratios(job: Job) -> Outcome:
    """Δ(t) for several λ, and its floor D_⊥t/n."""
    import xarray

    ratios, number, records, alpha = job["ratios"], job["runs"], job["records"], job["alpha"]
    start = shallow_start()
    descent = normalized_descent(start, shallow_losses, job["time"], records)
    costs = np.cumsum([0.0, *(1 / ratio for ratio in ratios)]) / sum(1 / ratio for ratio in ratios)
    delta, spread, losses = [], [], []
    for ratio, (done, then) in zip(ratios, itertools.pairwise(costs), strict=True):
        step = alpha * ratio
        name = f"shallow net greedy λα {step:g} t {job['time']:g} records {records}"
        generations = round(job["time"] / step / records) * records
        experiment = Experiment(name, greedy(step), shallow_losses, start, number, generations, records)
        runs = simulate(job.part(done, then - done), experiment)
        delta.append(np.mean((runs.params.mean(0) - descent.params[0]) ** 2, axis=-1))
        spread.append(np.mean(runs.params.var(0, ddof=1), axis=-1))
        losses.append(runs.losses.mean(0))
    time = np.arange(1, records + 1) * job["time"] / records
    # D_⊥ per generation is σ²/2 = π(λα)²; there are t/(λα) generations.
    floors = np.array([math.pi * alpha * ratio * time / number for ratio in ratios])
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
    checks = [
        below(
            f"Δ at λ = {small:.3g} over Δ at λ = {large:.3g}, mean over time",
            data.delta.values[i + 1].mean() / data.delta.values[i].mean(),
            0,
            1,
        )
        for i, (large, small) in enumerate(itertools.pairwise(ratios))
    ]
    early = records // 8
    # A mean of 90 squares of normal deviations has a relative standard error √(2/90) if all are independent.
    for what, value, samples in (
        ("Δ over D⊥t/n", data.delta.values[-1][early] / floors[-1][early], 1),
        ("variance of a weight over D⊥t", data.variance.values[-1][early] / (floors[-1][early] * number), number),
    ):
        error = value * math.sqrt(2 / start.size / samples)
        checks.append(near(f"{what} at t = {time[early]:g}, λ = {ratios[-1]:.3g}", value, error, 1, 1, ours=True))
    return Outcome(checks, data, draw_ratios)


def draw_ratios(data: Any) -> Any:
    """Δ(t) and the loss for each λ: the layout of Fig. 2."""
    figure, (left, right) = panels(2)
    for colour, ratio in enumerate(data.ratio.values):
        left.plot(data.time, data.delta.sel(ratio=ratio), color=f"C{colour}", label=f"λ = {ratio:.3g}")
        left.plot(data.time, data.floor.sel(ratio=ratio), color=f"C{colour}", linestyle=":", linewidth=1)
        right.plot(data.time, data.loss.sel(ratio=ratio), color=f"C{colour}")
    right.plot(data.time, data.descent_loss, "k--", label="gradient descent")
    left.set(xlabel="t", ylabel="Δ(t)", yscale="log", title="mean of runs from gradient descent (dotted: $D_⊥t/n$)")
    left.title.set_fontsize(10)
    right.set(xlabel="t", ylabel="mean loss", ylim=(0, None))
    left.legend(frameon=False)
    right.legend(frameon=False)
    return figure


_CORRESPONDENCE = {
    "quick": {
        "alpha": 2e-4, "ratio": 0.1, "time": 2.0, "runs": 32, "records": 20, "early_runs": 2048, "excess_runs": 8, "pairs": 512,
    },
    "paper": {
        "alpha": 1e-5, "ratio": 0.1, "time": 10.0, "runs": 1000, "records": 100, "early_runs": 20480, "excess_runs": 32,
        "pairs": 2048,
    },
}  # fmt: skip
_RATIOS = {
    "quick": {"alpha": 2e-3, "ratios": (1.0, 1 / 3, 0.1), "time": 4.0, "runs": 64, "records": 40},
    "paper": {"alpha": 1e-5, "ratios": (1.0, 1 / 3, 0.1), "time": 10.0, "runs": 1000, "records": 100},
}


def _correspondence_needs(settings: dict[str, Any]) -> Needs:
    generations = settings["time"] / (settings["alpha"] * settings["ratio"])
    kept = 4.0 * settings["runs"] * settings["records"] * 91
    langevin = 3 * settings["time"] / _LANGEVIN_STEP
    return Needs(settings["runs"] * (generations + langevin), 1e9 + 6 * kept, 3 * kept)


def _ratio_needs(settings: dict[str, Any]) -> Needs:
    generations = sum(settings["time"] / (settings["alpha"] * ratio) for ratio in settings["ratios"])
    kept = 4.0 * settings["runs"] * settings["records"] * 91
    return Needs(settings["runs"] * generations, 1e9 + 6 * kept, len(settings["ratios"]) * kept)


CLAIMS = [
    Claim(
        "W21-1",
        "whitelam2021",
        "Fig. 1a, 1b",
        "weights fluctuate about gradient descent, and their mean over runs follows it; P: as the Langevin equation says",
        _CORRESPONDENCE,
        run_weights,
        _correspondence_needs,
        "shallow net, greedy, α = {alpha}, λ = {ratio}, {runs} runs from one start",
    ),
    Claim(
        "W21-2",
        "whitelam2021",
        "Fig. 1c",
        "the mean loss is that of gradient descent to leading order; P: curvature adds ½Tr(DH)",
        _CORRESPONDENCE,
        run_loss,
        _correspondence_needs,
        "shallow net, greedy, α = {alpha}, λ = {ratio}, {runs} runs from one start",
    ),
    Claim(
        "W21-3",
        "whitelam2021",
        "Fig. 2",
        "the smaller λ, the closer the mean of the runs is to gradient descent; P: down to the sampling floor D⊥t/n",
        _RATIOS,
        run_ratios,
        _ratio_needs,
        "shallow net, greedy, α = {alpha}, {runs} runs for each λ",
    ),
]
