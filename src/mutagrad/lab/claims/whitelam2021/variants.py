"""W21-4 and W21-6: large mutations on the shallow net (Fig. 3), and the correspondence in a deep one."""

import math
from functools import partial
from typing import Any

import jax
import numpy as np

from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.lab.claims.ensemble import Experiment, mean_of, simulate
from mutagrad.lab.claims.tanh_nets import deep_losses, deep_start, shallow_losses, shallow_start
from mutagrad.lab.claims.unregistered import above, below, near
from mutagrad.lab.claims.whitelam2021.descent import greedy, normalized_descent
from mutagrad.report.figures import panels

__all__ = ["CLAIMS"]


def run_large(job: Job) -> Outcome:
    """Loss under mutations of growing size, beside gradient descent at the same times."""
    import xarray

    start, records, number = shallow_start(), job["records"], job["generations"]
    descent = normalized_descent(start, shallow_losses, job["time"], records)
    losses = []
    for index, step in enumerate(job["steps"]):
        name = f"shallow net greedy λα {step:g} generations {number} records {records}"
        part = job.part(index / len(job["steps"]), 1 / len(job["steps"]))
        experiment = Experiment(name, greedy(step), shallow_losses, start, job["runs"], number, records)
        losses.append(simulate(part, experiment).losses)
    begin = float(mean_of(shallow_losses)(start))
    generations = np.arange(1, records + 1) * number / records
    data = xarray.Dataset(
        {
            "loss": (("step", "run", "generation"), np.array(losses)),
            "descent_loss": ("time", descent.losses[0]),
        },
        coords={
            "step": list(job["steps"]),
            "generation": generations,
            "time": np.arange(1, records + 1) * job["time"] / records,
        },
        attrs={"begin": begin},
    )
    final = data.loss.values[:, :, -1]
    means, errors = final.mean(1) / begin, final.std(1, ddof=1) / math.sqrt(job["runs"]) / begin
    small, middle, large = job["small"], job["middle"], len(job["steps"]) - 1
    slow = []  # how much loss is left at the time at which gradient descent has ended
    for index in (small, middle):
        record = np.argmin(np.abs(generations * job["steps"][index] - job["time"]))
        own = data.loss.values[index, :, record]
        at = np.argmin(np.abs(data.time.values - generations[record] * job["steps"][index]))
        expected = data.descent_loss.values[at]
        slow.append(((own.mean() - expected) / begin, own.std(ddof=1) / math.sqrt(job["runs"]) / begin))
    checks = [
        near(
            f"mean loss less gradient descent's at the same t, over the start's, λα = {job['steps'][small]:g}",
            *slow[0],
            0,
            0.1,
        ),
        above(f"the same at λα = {job['steps'][middle]:g}: the dynamics differ", *slow[1], 0.1),
        below(
            f"mean loss left at the end, over the start's, λα = {job['steps'][middle]:g}: it learns",
            means[middle],
            errors[middle],
            0.2,
        ),
        above(
            f"mean loss left at the end, over the start's, λα = {job['steps'][large]:g}: it does not",
            means[large],
            errors[large],
            0.9,
        ),
    ]
    return Outcome(checks, data, draw_large)


def draw_large(data: Any) -> Any:
    """Loss against t and against generations: the layout of Fig. 3."""
    figure, (left, right) = panels(2)
    for colour, step in enumerate(data.step.values):
        mean = data.loss.sel(step=step).mean("run")
        label = f"λα = {step:g}, σ = {step * math.sqrt(2 * math.pi):.2g}"
        for axis, at in ((left, data.generation * step), (right, data.generation)):
            axis.plot(at, mean, color=f"C{colour}", marker=".", markersize=3, label=label)
    left.plot(data.time, data.descent_loss, "k--", label="gradient descent")
    left.set(xlabel="t = λα · generations", ylabel="mean loss", xscale="log", ylim=(0, None))
    right.set(xlabel="generation", ylabel="mean loss", ylim=(0, None))
    for axis in (left, right):
        axis.axhline(data.attrs["begin"], color="0.7", linewidth=0.8)
    left.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(0.3, 0.96))
    return figure


# --- W21-6: a deep net -------------------------------------------------------------------------------------------------


def run_deep(job: Job) -> Outcome:
    """Mean loss and mean weights of runs on the deep net beside gradient descent."""
    import xarray

    losses_fn, start, records = partial(deep_losses, points=job["points"]), deep_start(), job["records"]
    step, time, number = job["alpha"] * job["ratio"], job["time"], job["runs"]
    name = f"deep net {job['points']} points greedy λα {step:g} t {time:g} records {records}"
    runs = simulate(job, Experiment(name, greedy(step), losses_fn, start, number, round(time / step), records))
    descent = normalized_descent(start, losses_fn, time, records, job["descent_step"])
    begin = float(mean_of(losses_fn)(start))
    mean, way = runs.params.mean(0), descent.params[0] - np.asarray(start)
    variance = runs.params.var(0, ddof=1)
    weights = np.argsort(-np.abs(way[-1]))[:4]
    # Drift seen through the noise: the mean displacement projected on gradient descent's, which is 1 if they agree.
    projected = (runs.params - np.asarray(start)) @ (way[-1] / (way[-1] @ way[-1]))
    data = xarray.Dataset(
        {
            "loss": (("run", "time"), runs.losses),
            "descent_loss": ("time", descent.losses[0]),
            "delta": ("time", np.mean((mean - descent.params[0]) ** 2, axis=1)),
            "floor": ("time", variance.mean(1) / number),
            "weights": (("run", "time", "weight"), runs.params[:, :, weights]),
            "descent": (("time", "weight"), descent.params[0][:, weights]),
        },
        coords={"time": np.arange(1, records + 1) * time / records, "weight": weights},
    )
    apart = (runs.losses.mean(0) - descent.losses[0]) / begin
    errors = runs.losses.std(0, ddof=1) / math.sqrt(number) / begin
    worst = np.argmax(np.abs(apart))
    ratio = data.delta.values[-1] / data.floor.values[-1]
    end, end_error = projected[:, -1], projected[:, -1].std(ddof=1) / math.sqrt(number)
    sigma = step * math.sqrt(2 * math.pi)
    early = variance[0].mean() / (time / records / step * sigma**2 / 2)
    checks = [
        near("mean loss less gradient descent's over the start's, largest over time", apart[worst], errors[worst], 0, 0.05),
        near("mean displacement along gradient descent's, over its length", end.mean(), end_error, 1, 0.1),
        near("Δ at the end over the sampling floor, variance/n", ratio, ratio * math.sqrt(2 / start.size), 1, 0.2, ours=True),
        near(
            f"variance of a weight over D⊥t at t = {time / records:g}",
            early, early * math.sqrt(2 / start.size / (number - 1)), 1, 0.05, ours=True,
        ),
    ]  # fmt: skip
    return Outcome(checks, data, draw_deep)


def draw_deep(data: Any) -> Any:
    """Loss and the four weights that move most, against t."""
    figure, (left, right) = panels(2)
    for run in range(min(25, data.sizes["run"])):
        left.plot(data.time, data.loss[run], color="C0", alpha=0.2, linewidth=0.6)
    left.plot(data.time, data.loss.mean("run"), color="C0", linewidth=1.8, label="mean of runs")
    left.plot(data.time, data.descent_loss, "k--", linewidth=1.2, label="gradient descent")
    left.set(xlabel="t", ylabel="loss", yscale="log")
    left.legend(frameon=False)
    for colour in range(data.sizes["weight"]):
        for run in range(min(25, data.sizes["run"])):
            right.plot(data.time, data.weights[run, :, colour], color=f"C{colour}", alpha=0.15, linewidth=0.6)
        right.plot(data.time, data.weights[:, :, colour].mean("run"), color=f"C{colour}", linewidth=1.6)
        right.plot(data.time, data.descent[:, colour], "k--", linewidth=1)
    right.set(xlabel="t", ylabel="weight", title="the four weights that move most")
    right.title.set_fontsize(10)
    return figure


_LARGE = {
    "quick": {
        "steps": (1e-3, 1e-2, 1e-1, 1.0, 10.0), "small": 0, "middle": 2, "generations": 8000, "runs": 32, "records": 40,
        "time": 8.0,
    },
    "paper": {
        "steps": (1e-5, 1e-3, 1e-2, 1e-1, 1.0, 10.0), "small": 1, "middle": 3, "generations": 100_000, "runs": 1000,
        "records": 100, "time": 10.0,
    },
}  # fmt: skip
_DEEP = {
    "quick": {"alpha": 1e-3, "ratio": 0.1, "time": 1.0, "runs": 32, "records": 20, "points": 50, "descent_step": 1e-4},
    "paper": {
        "alpha": 1e-5,
        "ratio": 0.1,
        "time": 5.0,
        "runs": 100,
        "records": 100,
        "points": 1000,
        "descent_step": 1e-5,
    },
}


def _large_needs(settings: dict[str, Any]) -> Needs:
    kept = 4.0 * settings["runs"] * settings["records"] * 91
    return Needs(
        len(settings["steps"]) * settings["runs"] * settings["generations"], 1e9 + kept, len(settings["steps"]) * kept
    )


def _deep_needs(settings: dict[str, Any]) -> Needs:
    generations = settings["time"] / (settings["alpha"] * settings["ratio"])
    kept = 4.0 * settings["runs"] * settings["records"] * jax.eval_shape(deep_start).size
    return Needs(settings["runs"] * generations * settings["points"] / 50, 1e9 + 6 * kept, 2 * kept)


CLAIMS = [
    Claim(
        "W21-4",
        "whitelam2021",
        "Fig. 3",
        "large mutations: the dynamics is not that of gradient descent, but learns; larger still, it stops learning",
        _LARGE,
        run_large,
        _large_needs,
        "shallow net, greedy, {runs} runs of {generations} generations for each σ",
    ),
    Claim(
        "W21-6",
        "whitelam2021",
        "deep net",
        "the correspondence holds for a net of eight hidden layers; P: to the sampling floor",
        _DEEP,
        run_deep,
        _deep_needs,
        "8 layers of 32 tanh at {points} points, greedy, α = {alpha}, λ = {ratio}, {runs} runs from one start",
    ),
]
