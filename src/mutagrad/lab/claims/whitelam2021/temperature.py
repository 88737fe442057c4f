"""W21-5 and W21-8: finite β. Plain gradient descent with noise, and the distribution that it settles into."""

import math
from functools import partial
from typing import Any

import numpy as np
import optax
from scipy import stats

import mutagrad
from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.lab.claims.ensemble import Experiment, descend, langevin_runs, mean_of, simulate
from mutagrad.lab.claims.tanh_nets import shallow_losses, shallow_start
from mutagrad.lab.claims.unregistered import below, near
from mutagrad.report.figures import panels

__all__ = ["CLAIMS"]


def run_finite(job: Job) -> Outcome:
    """Runs of Metropolis on the wide net from two starts, beside plain gradient descent and the Langevin equation."""
    import xarray

    losses_fn, records, number = partial(shallow_losses, points=job["points"]), job["records"], job["runs"]
    rate, time, beta = job["alpha"] * job["ratio"], job["time"], job["beta"]
    algorithm = mutagrad.metropolis(math.sqrt(2 * rate / beta), beta, reevaluate_parent=False)
    generations, scales = round(time / rate), job["starts"]
    found: dict[str, list] = {name: [] for name in ("loss", "langevin_loss", "descent_loss", "z")}
    for index, scale in enumerate(scales):
        start, part = shallow_start(units=job["units"]) * (scale / 0.01), job.part(index / len(scales), 1 / len(scales))
        name = f"net of {job['units']} at {job['points']} points start {scale:g} metropolis β {beta:g} λα {rate:g} t {time:g}"
        experiment = Experiment(name, algorithm, losses_fn, start, number, generations, records)
        runs = simulate(part.part(0, 0.7), experiment)
        paths = langevin_runs(part.part(0.7, 0.3), experiment, round(time / job["langevin_step"]))
        descent = descend(optax.sgd(job["descent_step"]), losses_fn, start, round(time / job["descent_step"]), records)
        errors = np.sqrt((runs.params.var(0, ddof=1) + paths.params.var(0, ddof=1)) / number)
        found["z"].append((runs.params.mean(0) - paths.params.mean(0)) / errors)
        for name, values in (
            ("loss", runs.losses),
            ("langevin_loss", paths.losses),
            ("descent_loss", descent.losses[0]),
        ):
            found[name].append(values)
    dims = {
        "loss": ("start", "run", "time"),
        "langevin_loss": ("start", "run", "time"),
        "descent_loss": ("start", "time"),
    }
    data = xarray.Dataset(
        {name: (dim, np.array(found[name])) for name, dim in dims.items()},
        coords={"start": list(scales), "time": np.arange(1, records + 1) * time / records},
    )
    checks = []
    for index, scale in enumerate(scales):
        losses, paths, descent = (found[name][index] for name in ("loss", "langevin_loss", "descent_loss"))
        begin = float(mean_of(losses_fn)(shallow_start(units=job["units"]) * (scale / 0.01)))
        apart, error = (losses.mean(0) - descent) / begin, losses.std(0, ddof=1) / math.sqrt(number) / begin
        worst, z = np.argmax(np.abs(apart)), found["z"][index]
        both = np.hypot(losses.std(0, ddof=1), paths.std(0, ddof=1)) / math.sqrt(number)
        of_loss = (losses.mean(0) - paths.mean(0)) / both
        where = f"start of deviation {scale:g}"
        text = f"mean loss less gradient descent's over the start's, largest over time, {where}"
        checks.append(near(text, apart[worst], error[worst], 0, 0.15))
        text = f"largest |z| of the mean loss from the Langevin equation's, {where}"
        checks.append(below(text, np.abs(of_loss).max(), 0, 4, ours=True))
        text = f"share of |z| > 2 of the weights' means from the Langevin equation's, {where}"
        expected = 2 * stats.t.sf(2, 2 * number - 2)
        checks.append(near(text, np.mean(np.abs(z) > 2), 0, expected, 0.02, ours=True))
    return Outcome(checks, data, draw_finite)


def draw_finite(data: Any) -> Any:
    """Loss against t from either start."""
    figure, axes = panels(2)
    for axis, start in zip(axes, data.start.values, strict=True):
        one = data.sel(start=start)
        for run in range(min(25, data.sizes["run"])):
            axis.plot(data.time, one.loss[run], color="C0", alpha=0.2, linewidth=0.6)
        axis.plot(data.time, one.loss.mean("run"), color="C0", linewidth=1.8, label="mean of runs")
        axis.plot(data.time, one.langevin_loss.mean("run"), "+", color="C3", label="Langevin equation, mean")
        axis.plot(data.time, one.descent_loss, "k--", linewidth=1.2, label="gradient descent")
        axis.set(xlabel="t = (βσ²/2) · generations", ylabel="loss")
        axis.set_title(f"weights start with deviation {start:g}", fontsize=10)
        axis.legend(frameon=False, fontsize=8)
    return figure


_FINITE = {
    "quick": {
        "units": 256, "points": 100, "beta": 1e3, "alpha": 8e-3, "ratio": 0.1, "time": 8.0, "runs": 32, "records": 20,
        "starts": (0.01, 0.1), "descent_step": 1e-2, "langevin_step": 1e-2,
    },
    "paper": {
        "units": 256, "points": 1000, "beta": 1e3, "alpha": 1e-4, "ratio": 0.1, "time": 20.0, "runs": 1000, "records": 100,
        "starts": (0.01, 0.1), "descent_step": 1e-3, "langevin_step": 1e-3,
    },
}  # fmt: skip


def _finite_needs(settings: dict[str, Any]) -> Needs:
    steps = settings["time"] * (1 / (settings["alpha"] * settings["ratio"]) + 3 / settings["langevin_step"])
    kept = 4.0 * settings["runs"] * settings["records"] * (3 * settings["units"] + 1)
    share = settings["points"] * settings["units"] / 30_000  # of an evaluation of the shallow net
    return Needs(2 * settings["runs"] * steps * share, 1e9 + 6 * kept, 3 * kept)


CLAIMS = [
    Claim(
        "W21-5",
        "whitelam2021",
        "finite β",
        "at finite β, with βσ²/2 = λα, the runs follow plain gradient descent; P: with noise, as the Langevin equation says",
        _FINITE,
        run_finite,
        _finite_needs,
        "net of {units} units at {points} points, Metropolis, β = {beta}, α = {alpha}, λ = {ratio}, {runs} runs from each start",
    ),
]
