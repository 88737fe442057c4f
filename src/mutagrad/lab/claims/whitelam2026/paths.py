"""W26-2: the mean loss over runs beside noiseless normalised gradient descent, and how it departs as s grows.

Of 20 checks at scale quick one or more stay undecided by chance alone, 3 errors from a law that holds, with a chance of 5 %: each
does once in 370. To say "does not hold" of such a law a value must be 9 planned errors off.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

import mutagrad
from mutagrad import theory
from mutagrad.lab.claims.checks import Expected, near
from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.lab.claims.ensemble import Experiment, descend, langevin_runs, mean_of, simulate
from mutagrad.lab.claims.quadratics import power_law
from mutagrad.lab.claims.tanh_nets import shallow_losses
from mutagrad.lab.claims.whitelam2026.generation import net_point
from mutagrad.lab.claims.whitelam2026.laws import PLANNED, gain_at_rank, rounded, step_moments
from mutagrad.report.figures import panels

__all__ = ["CLAIMS"]

_LENGTH = 0.7
"""How far gradient descent goes on the sphere, over the distance to the minimum."""
_EULER = 1000
"""Steps of Euler's method on the Langevin equation."""


class _Problem(NamedTuple):
    """A loss, where its runs start, how far gradient descent goes, and the σ that is s = 1 at the start."""

    losses_fn: Callable[[jax.Array], jax.Array]
    start: jax.Array
    length: float
    unit: float
    name: str


def _problems(settings: dict[str, Any]) -> dict[str, _Problem]:
    size, points = settings["size"], settings["points"]
    sphere, net = power_law(size, 0.0), net_point(points)
    losses_fn = partial(shallow_losses, points=points)
    length = _LENGTH * math.sqrt(size)
    return {
        "sphere": _Problem(sphere.losses, sphere.start, length, sphere.sigma(1.0), f"sphere of {size}"),
        "shallow net": _Problem(losses_fn, net.x, 1.0, net.sigma(1.0), f"shallow net at {points} points on the way"),
    }


def _generations(length: float, sigma: float, settings: dict[str, Any]) -> int:
    number, records = settings["num_offspring"], settings["records"]
    return records * max(1, round(length / (theory.best_of_moment(number) * sigma * records)))


def _followed(job: Job, problem: _Problem, strength: float, with_langevin: bool) -> dict[str, np.ndarray]:
    """Losses of runs, of gradient descent and of the Langevin equation, at the same generations; over the start's."""
    number, records, seed = job["num_offspring"], job["records"], job["key"]
    sigma = strength * problem.unit
    algorithm = mutagrad.elitist(sigma, number)
    generations = _generations(problem.length, sigma, job.settings)
    name = f"{problem.name} elitist {number} σ {sigma:.6g} generations {generations} records {records} key {seed}"
    experiment = Experiment(
        name, algorithm, problem.losses_fn, problem.start, job["runs"], generations, records, seed=seed
    )
    found = {"loss": simulate(job, experiment).losses}
    descent = theory.equivalent_gradient_descent(algorithm)
    found["descent"] = descend(descent, problem.losses_fn, problem.start, generations, records).losses[0]
    found["langevin"] = (
        langevin_runs(job, experiment, _EULER).losses if with_langevin else np.full_like(found["loss"], np.nan)
    )
    begin = float(mean_of(problem.losses_fn)(problem.start))
    return {key: values / begin for key, values in found.items()} | {"generations": np.array(generations)}


def _course(settings: dict[str, Any], strength: float, is_ranked: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """The sphere's loss by G_M(s) and the standard deviation of one run about it, at the records; over the start's.

    U falls by G_M(s)|∇U|²/TrH, with |∇U|² = 2U and TrH = N. The variance is what the gains of generations add, carried on by
    the course; with ``is_ranked`` the rank N is seen to first order.
    """
    size, number, records = settings["size"], settings["num_offspring"], settings["records"]
    table = strength * np.geomspace(0.9, 6, 60)
    along, participation = (1 / size, float(size)) if is_ranked else (0.0, 1e9)
    gain, square = (
        np.array([gain_at_rank(round(s, 9), number, along, participation, k) for s in table]) for k in (1, 2)
    )
    loss, variance, found = 1.0, 0.0, []
    generations = _generations(_LENGTH * math.sqrt(size), strength / math.sqrt(size), settings)

    def fall(at: float, of: np.ndarray) -> float:
        return float(np.interp(strength / math.sqrt(at), table, of))

    for index in range(generations):
        unit, step = 2 * loss / size, 1e-4 * loss
        mean = fall(loss, gain)
        slope = (fall(loss + step, gain) * 2 * (loss + step) - mean * 2 * loss) / step / size
        variance = variance * (1 - slope) ** 2 + unit**2 * (fall(loss, square) - mean**2)
        loss -= unit * mean
        if (index + 1) % (generations // records) == 0:
            found.append((loss, math.sqrt(variance)))
    losses, spreads = np.array(found).T
    return losses, spreads


def _places(records: int) -> dict[str, int]:
    return {"halfway": records // 2 - 1, "at the end": records - 1}


def _descent_name(problem: str, strength: float, place: str) -> str:
    return f"mean loss less gradient descent's, over the start's, {place}, {problem}, s = {strength:g}"


def _law_name(problem: str, strength: float, place: str) -> str:
    law = "by G_M(s)" if problem == "sphere" else "of the Langevin equation"
    return f"mean loss less that {law}, over the start's, {place}, {problem}, s = {strength:g}"


def expect_loss(settings: dict[str, Any]) -> list[Expected]:
    """The intervals of W26-2."""
    stated, runs, records = [], settings["runs"], settings["records"]
    descent = (1 - _LENGTH * np.arange(1, records + 1) / records) ** 2
    for strength in settings["sphere"]:
        (course, spread), (ranked, _) = (_course(settings, strength, is_ranked) for is_ranked in (False, True))
        for place, at in _places(records).items():
            error, apart = spread[at] / math.sqrt(runs), abs(course[at] - descent[at])
            if strength == settings["sphere"][0]:
                why = f"what curvature takes by G_M(s), {apart:.1e}, within its square, and six planned errors of {error:.1e}"
                room = rounded(apart + apart**2 + PLANNED * error)
                stated.append(near(_descent_name("sphere", strength, place), 0, room, "theory", why))
            shift = abs(ranked[at] - course[at])
            # A loss that scatters about the course falls by another mean: half the variance times the curvature of the fall.
            why = (
                f"the rank N, {shift:.1e}, the variance of the loss, {spread[at] ** 2:.1e}, "
                f"and six planned errors of {error:.1e}"
            )
            room = rounded(shift + spread[at] ** 2 + PLANNED * error)
            stated.append(near(_law_name("sphere", strength, place), 0, room, "theory", why, ours=True))
    share = step_moments(0.0, settings["num_offspring"])
    for strength in settings["net"]:
        cost = strength * settings["net_growth"] * share[2] / (2 * share[0])
        for place, spread in zip(_places(records), settings["net_spread"], strict=True):
            error = spread * math.sqrt(strength / settings["net"][0] / runs)
            if strength == settings["net"][0]:
                why = (
                    f"the share s(1 − 2^−M)/2c_M that curvature takes of what gradient descent gains, {cost:.1e} of the "
                    f"start's loss with the s of its path, and six errors as a trial had them, {error:.1e}"
                )
                room = rounded(cost + PLANNED * error)
                stated.append(near(_descent_name("shallow net", strength, place), 0, room, "theory", why))
            why = (
                f"the square of the share that curvature takes, {cost**2:.1e}, and six errors of a difference of two means as "
                f"a trial had them, {error * math.sqrt(2):.1e}"
            )
            room = rounded(cost**2 + PLANNED * error * math.sqrt(2))
            stated.append(near(_law_name("shallow net", strength, place), 0, room, "theory", why, ours=True))
    return stated


def run_loss(job: Job) -> Outcome:
    """Mean loss beside gradient descent, G_M(s) and the Langevin equation, for several s, on the sphere and on the net."""
    import xarray

    records, found = job["records"], {}
    parts: dict[str, list] = {name: [] for name in ("loss", "descent", "langevin", "generations")}
    for i, (name, problem) in enumerate(_problems(job.settings).items()):
        strengths = job[name.split()[-1]]
        for kept in parts.values():
            kept.append([])
        costs = np.cumsum([0.0, *(1 / s for s in strengths)]) / sum(1 / s for s in strengths)
        for j, strength in enumerate(strengths):
            part = job.part((i + costs[j]) / 2, (costs[j + 1] - costs[j]) / 2)
            one = _followed(part, problem, strength, with_langevin=name != "sphere")
            for key, values in one.items():
                parts[key][i].append(values)
            law, law_error = _mean(one["langevin"])
            if name == "sphere":
                law, law_error = _course(job.settings, strength)[0], np.zeros(records)
            mean, error = _mean(one["loss"])
            for place, at in _places(records).items():
                if not j:
                    found[_descent_name(name, strength, place)] = (mean[at] - one["descent"][at], error[at])
                apart = (mean[at] - law[at], math.hypot(error[at], law_error[at]))
                found[_law_name(name, strength, place)] = apart
    dims = ("problem", "strength", "run", "record")
    data = xarray.Dataset(
        {
            "loss": (dims, np.array(parts["loss"])),
            "langevin": (dims, np.array(parts["langevin"])),
            "descent": (("problem", "strength", "record"), np.array(parts["descent"])),
            "by_gain": (("strength", "record"), np.array([_course(job.settings, s)[0] for s in job["sphere"]])),
            "initial_strength": (("problem", "strength"), np.array([job["sphere"], job["net"]])),
            "generations": (("problem", "strength"), np.array(parts["generations"])),
        },
        coords={"problem": ["sphere", "shallow net"]},
    )
    return Outcome(found, data, draw_loss)


def _mean(losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over runs and its standard error."""
    return losses.mean(0), losses.std(0, ddof=1) / math.sqrt(len(losses))


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
            law = data.by_gain[j] if problem == "sphere" else one.langevin[j].mean("run")
            label = "by G$_M$(s)" if problem == "sphere" else "Langevin equation"
            axis.plot(time, law, color=f"C{j}", linewidth=1, label=label if j == 0 else None)
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
        "runs": 64, "records": 10, "net_growth": 1.12, "net_spread": (0.0075, 0.0105), "key": 26221,
    },
    "paper": {
        "size": 2000, "points": 1000, "num_offspring": 20, "sphere": (0.01, 0.1, 0.3, 1.0), "net": (0.001, 0.01, 0.1, 0.2),
        "runs": 1000, "records": 10, "net_growth": 1.12, "net_spread": (0.0024, 0.0034), "key": 26221,
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
        "averaged over runs the loss follows noiseless normalised gradient descent at small s; P: as s grows it leaves "
        "it as G_M(s) says on the sphere, and the Langevin equation on a net",
        _LOSS,
        run_loss,
        _needs,
        "(1+{num_offspring}) at fixed σ, {runs} runs from one start, mean and standard deviation, s at the start; sphere "
        "of N = {size}, shallow net at {points} points",
        expect_loss,
    ),
]
