"""W26-2: the mean loss over runs beside noiseless normalised gradient descent, and how it departs as s grows."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import mutagrad
from mutagrad import theory
from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.lab.claims.ensemble import Experiment, descend, mean_of, simulate
from mutagrad.lab.claims.quadratics import power_law
from mutagrad.lab.claims.tanh_nets import shallow_losses
from mutagrad.lab.claims.unregistered import above, near
from mutagrad.lab.claims.whitelam2026.generation import net_point
from mutagrad.report.figures import panels

__all__ = ["CLAIMS"]


class _Problem(NamedTuple):
    """A loss, where its runs start, how far gradient descent goes, and the σ that is s = 1 at the start."""

    losses_fn: Callable[[jax.Array], jax.Array]
    start: jax.Array
    length: float
    unit: float
    name: str


def _problems(job: Job) -> dict[str, _Problem]:
    sphere, net = power_law(job["size"], 0.0), net_point(job["points"])
    losses_fn = partial(shallow_losses, points=job["points"])
    return {
        "sphere": _Problem(
            sphere.losses, sphere.start, 0.7 * math.sqrt(job["size"]), sphere.sigma(1.0), f"sphere of {job['size']}"
        ),
        "shallow net": _Problem(
            losses_fn, net.x, 1.0, net.sigma(1.0), f"shallow net at {job['points']} points on the way"
        ),
    }


def _followed(job: Job, problem: _Problem, strength: float) -> dict[str, np.ndarray]:
    """Losses of runs and of gradient descent, at the same generations, from s at the start; over the start's loss."""
    number, records = job["num_offspring"], job["records"]
    sigma = strength * problem.unit
    algorithm = mutagrad.elitist(sigma, number)
    generations = records * max(1, round(problem.length / (theory.best_of_moment(number) * sigma * records)))
    name = f"{problem.name} elitist {number} σ {sigma:.6g} generations {generations} records {records} seed 202"
    experiment = Experiment(
        name, algorithm, problem.losses_fn, problem.start, job["runs"], generations, records, seed=202
    )
    runs = simulate(job, experiment).losses
    descent = descend(
        theory.equivalent_gradient_descent(algorithm), problem.losses_fn, problem.start, generations, records
    )
    begin = float(mean_of(problem.losses_fn)(problem.start))
    return {"loss": runs / begin, "descent": descent.losses[0] / begin, "generations": np.array(generations)}


def _by_gain(size: int, strength: float, num_offspring: int, generations: int, records: int) -> np.ndarray:
    """The sphere's loss by G_M(s): U falls by G_M(s)|∇U|²/TrH, with |∇U|² = 2U and TrH = N; over the start's."""

    def body(loss, _):
        loss = loss - theory.expected_gain(strength / jnp.sqrt(loss), num_offspring) * 2 * loss / size
        return loss, loss

    return np.asarray(jax.lax.scan(body, jnp.ones(()), length=generations)[1])[
        generations // records - 1 :: generations // records
    ]


def run_loss(job: Job) -> Outcome:
    """Mean loss less gradient descent's for several s, on the sphere and on the shallow net."""
    import xarray

    number, records, count = job["num_offspring"], job["records"], len(job["sphere"])
    problems = _problems(job)
    found: dict[str, list] = {name: [] for name in ("loss", "descent", "generations")}
    for i, (name, problem) in enumerate(problems.items()):
        strengths = job[name.split()[-1]]
        for key in found:
            found[key].append([])
        costs = np.cumsum([0.0, *(1 / s for s in strengths)]) / sum(1 / s for s in strengths)
        for j, strength in enumerate(strengths):
            part = job.part((i + costs[j]) / 2, (costs[j + 1] - costs[j]) / 2)
            for key, values in _followed(part, problem, strength).items():
                found[key][-1].append(values)
    sphere = [
        _by_gain(job["size"], s, number, int(generations), records)
        for s, generations in zip(job["sphere"], found["generations"][0], strict=True)
    ]
    dims = ("problem", "strength", "run", "record")
    data = xarray.Dataset(
        {
            "loss": (dims, np.array(found["loss"])),
            "descent": (("problem", "strength", "record"), np.array(found["descent"])),
            "by_gain": (("strength", "record"), np.array(sphere)),
            "initial_strength": (("problem", "strength"), np.array([job["sphere"], job["net"]])),
            "generations": (("problem", "strength"), np.array(found["generations"])),
        },
        coords={"problem": list(problems)},
    )
    mean, error = data.loss.mean("run"), data.loss.std("run", ddof=1) / math.sqrt(job["runs"])
    apart, checks = mean - data.descent, []
    for name in problems:
        for j in (0, count - 1):
            one = apart.sel(problem=name).isel(strength=j)
            worst = int(np.argmax(np.abs(one.values)))
            strength = float(data.initial_strength.sel(problem=name)[j])
            value, own = float(one[worst]), float(error.sel(problem=name).isel(strength=j)[worst])
            text = f"mean loss less gradient descent's over the start's, largest over time, {name}, s = {strength:g} at the start"
            if j == 0:
                checks.append(near(text, value, own, 0, 0.05))
            else:
                checks.append(above(f"{text}: it departs upwards", value, own, 0.1, ours=True))
    for j, strength in enumerate(job["sphere"]):
        one = (mean.sel(problem="sphere") - data.by_gain).isel(strength=j)
        worst = int(np.argmax(np.abs(one.values)))
        own = float(error.sel(problem="sphere").isel(strength=j)[worst])
        text = (
            f"mean loss less that by G_M(s), over the start's, largest over time, sphere, s = {strength:g} at the start"
        )
        checks.append(near(text, float(one[worst]), own, 0, 0.02, ours=True))
    return Outcome(checks, data, draw_loss)


def draw_loss(data: Any) -> Any:
    """Mean loss against the length of gradient descent's path, for each s."""
    figure, axes = panels(2)
    time = np.arange(1, data.sizes["record"] + 1) / data.sizes["record"]
    for axis, problem in zip(axes, data.problem.values, strict=True):
        one = data.sel(problem=problem)
        for j, strength in enumerate(one.initial_strength.values):
            mean, spread = one.loss[j].mean("run"), one.loss[j].std("run")
            axis.plot(
                time,
                mean,
                color=f"C{j}",
                marker="o",
                markersize=4,
                linestyle="none",
                label=f"s = {strength:g} at the start",
            )
            axis.fill_between(time, mean - spread, mean + spread, color=f"C{j}", alpha=0.2, linewidth=0)
            if problem == "sphere":
                axis.plot(time, data.by_gain[j], color=f"C{j}", linewidth=1, label="by G$_M$(s)" if j == 0 else None)
        axis.plot(time, one.descent[0], "k--", linewidth=1.2, label="gradient descent, shortest steps")
        axis.set(
            xlabel="generations, over those in which gradient descent ends",
            ylabel="loss over the start's",
            ylim=(0, None),
        )
        axis.set_title(problem, fontsize=10)
        axis.legend(frameon=False, fontsize=8)
    return figure


_LOSS = {
    "quick": {
        "size": 200, "points": 50, "num_offspring": 20, "sphere": (0.03, 0.1, 0.3, 1.0), "net": (0.01, 0.03, 0.1, 0.2),
        "runs": 64, "records": 10,
    },
    "paper": {
        "size": 2000, "points": 1000, "num_offspring": 20, "sphere": (0.01, 0.1, 0.3, 1.0), "net": (0.001, 0.01, 0.1, 0.2),
        "runs": 1000, "records": 10,
    },
}  # fmt: skip


def _needs(settings: dict[str, Any]) -> Needs:
    generations = sum(0.4 * settings["size"] / s for s in settings["sphere"]) * settings["size"] / 2000
    generations += sum(4.5 / s for s in settings["net"]) * settings["points"] / 50
    kept = 4.0 * settings["runs"] * settings["records"] * (settings["size"] + 91)
    return Needs(settings["runs"] * settings["num_offspring"] * generations, 1e9 + 6 * kept, 4 * kept)


CLAIMS = [
    Claim(
        "W26-2",
        "whitelam2026",
        "mean loss",
        "averaged over runs the loss follows noiseless normalised gradient descent at small s; P: it lies above it as s grows, "
        "on the sphere by G_M(s)",
        _LOSS,
        run_loss,
        _needs,
        "(1+{num_offspring}) at fixed σ, {runs} runs from one start, mean and standard deviation; sphere of N = {size}, shallow "
        "net at {points} points",
    ),
]
