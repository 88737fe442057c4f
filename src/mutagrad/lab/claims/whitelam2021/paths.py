"""W21-1 to W21-3: runs on the shallow net beside gradient descent, and the fluctuations about it (Figs. 1 and 2).

They have 7, 6 and 9 checks. Each is undecided, though its law is right, once in 370 times: one of the 22 once in 17 times. For a
false "does not hold" a value must be nine planned errors off.
"""

import itertools
import math
from functools import partial
from typing import Any

import numpy as np

from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.lab.claims.ensemble import Experiment, Runs, mean_of, sigma_of, simulate
from mutagrad.lab.claims.tanh_nets import shallow_losses, shallow_start
from mutagrad.lab.claims.whitelam2021 import three_units
from mutagrad.lab.claims.whitelam2021.descent import greedy
from mutagrad.lab.claims.whitelam2021.drawings import draw_loss, draw_ratios, draw_weights
from mutagrad.lab.claims.whitelam2021.fluctuations import Fluctuations, fluctuations
from mutagrad.lab.claims.whitelam2021.stated import (
    EARLY,
    EARLY_POINTS,
    EARLY_RECORDS,
    EARLY_TIME,
    FEW,
    WEIGHTS,
    expect_loss,
    expect_ratios,
    expect_weights,
)

__all__ = ["CLAIMS"]


def _mean(values: np.ndarray) -> tuple[float, float]:
    """Mean over runs, and its standard error."""
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))


def _along(values: np.ndarray, law: np.ndarray) -> np.ndarray:
    """Regression of each run's values on a law, through the origin: (runs, …) and (…) to (runs,)."""
    return values.reshape(len(values), -1) @ law.ravel() / np.sum(np.square(law))


def most_moved(law: Fluctuations) -> np.ndarray:
    """The four weights that gradient descent moves most."""
    return np.argsort(-np.abs(law.descent[-1] - law.start))[:4]


def of_weights(params: np.ndarray, law: Fluctuations, step: float) -> dict[str, np.ndarray]:
    """What W21-1 measures of each run, (runs,) each: in the mean 1 by its law."""
    way, moved = law.descent - law.start, params - law.start
    found = {"end": _along(moved[:, -1], way[-1])}
    for place, weight in zip(WEIGHTS, most_moved(law), strict=True):
        found[place] = _along(moved[:, :, weight], way[:, weight])
    found["shift"] = _along(params - law.descent, step * law.shift)
    spread = np.sum(np.square(params - params.mean(0)), axis=(1, 2)) * len(params) / (len(params) - 1)
    found["spread"] = spread / (step * np.einsum("tii->", law.covariance))
    return found


def of_losses(losses: np.ndarray, law: Fluctuations, step: float) -> dict[str, np.ndarray]:
    """What W21-2 measures of each run, (runs,) each: in the mean 1 by its law."""
    begin = float(mean_of(shallow_losses)(shallow_start()))
    return {
        "loss": _along(begin - losses, begin - law.losses),
        "excess": _along(losses - law.losses, step * law.excess),
    }


def _runs(job: Job, step: float, apart: int = 0) -> Runs:
    """Runs of greedy selection from the start of Fig. 1; those of another ``apart`` have other mutations."""
    generations, records, number, seed = round(job["time"] / step), job["records"], job["runs"], job["key"] + apart
    name = f"shallow net greedy λα {step:g} t {job['time']:g} records {records} of {number} seed {seed}"
    return simulate(
        job, Experiment(name, greedy(step), shallow_losses, shallow_start(), number, generations, records, seed)
    )


def _data(job: Job) -> tuple[Any, Runs, Fluctuations, float]:
    """Runs and law at the same times, and what figures show of them."""
    import xarray

    step = job["alpha"] * job["ratio"]
    law = fluctuations(job.part(0, 0.1), shallow_start(), job["time"], job["records"])
    runs = _runs(job.part(0.1, 0.9), step)
    data = xarray.Dataset(
        {
            "weights": (("run", "time", "weight"), runs.params),
            "loss": (("run", "time"), runs.losses),
            "descent": (("time", "weight"), law.descent),
            "descent_loss": ("time", law.losses),
            "expected": (("time", "weight"), law.descent + step * law.shift),
            "expected_spread": (("time", "weight"), np.sqrt(step * np.einsum("tii->ti", law.covariance))),
            "expected_excess": ("time", step * law.excess),
        },
        coords={"time": np.arange(1, job["records"] + 1) * job["time"] / job["records"]},
        attrs={"four": [int(weight) for weight in most_moved(law)]},
    )
    return data, runs, law, step


def run_weights(job: Job) -> Outcome:
    """Every weight's path over runs beside gradient descent, and what the next order adds."""
    data, runs, law, step = _data(job)
    measured = of_weights(runs.params.astype(float), law, step)
    names = (one.what for one in expect_weights(job.settings))
    found = {name: _mean(values) for name, values in zip(names, measured.values(), strict=True)}
    return Outcome(found, data, draw_weights)


# --- W21-2: the mean loss ----------------------------------------------------------------------------------------------


def run_loss(job: Job) -> Outcome:
    """Mean loss beside gradient descent's, and its excess beside what noise and curvature add, on two nets."""
    data, runs, law, step = _data(job.part(0, 0.8))
    measured = of_losses(runs.losses.astype(float), law, step)
    measured["early"] = _early_losses(job.part(0.8, 0.1))
    part, small_step, number = job.part(0.9, 0.1), job["small_step"], job["small_runs"]
    small, small_law = three_units.runs_of(part, small_step, number, job["key"]), three_units.law_of(part)
    measured |= {f"small {name}": one for name, one in three_units.terms(small, small_law, small_step).items()}
    names = (one.what for one in expect_loss(job.settings))
    found = {name: _mean(values) for name, values in zip(names, measured.values(), strict=True)}
    excess = (small.losses.astype(float) - small_law.losses) / small_step
    data = data.assign(
        small_excess=("small_time", excess.mean(0)),
        small_error=("small_time", excess.std(0, ddof=1) / math.sqrt(number)),
        small_expected=("small_time", small_law.excess),
        small_curvature=("small_time", np.einsum("tij,tij->t", small_law.curvatures, small_law.covariance) / 2),
    ).assign_coords(small_time=three_units.times())
    return Outcome(found, data, draw_loss)


def _early_losses(job: Job) -> np.ndarray:
    """The excess of each of many runs, early and at few points, over its law in the mean."""
    step, number, seed = job["alpha"] * job["ratio"], job["early_runs"], job["key"] + 1
    law = fluctuations(job, shallow_start(), EARLY_TIME, EARLY_RECORDS, EARLY_POINTS)
    losses_fn = partial(shallow_losses, points=EARLY_POINTS)
    name = f"shallow net at {EARLY_POINTS} points greedy λα {step:g} t {EARLY_TIME:g} of {number} seed {seed}"
    generations = round(EARLY_TIME / step)
    experiment = Experiment(name, greedy(step), losses_fn, shallow_start(), number, generations, EARLY_RECORDS, seed)
    return _along(simulate(job, experiment).losses.astype(float) - law.losses, step * law.excess)


# --- W21-3: smaller λ, closer ------------------------------------------------------------------------------------------


def distance(params: np.ndarray, law: Fluctuations) -> np.ndarray:
    """Δ(t), (R,)."""
    return np.mean(np.square(params.mean(0) - law.descent), axis=-1)


def expected_distance(law: Fluctuations, step: float, number: int) -> np.ndarray:
    """Δ(t) by the linear law: the square of the mean's shift, and the floor that n runs have."""
    size = law.shift.shape[1]
    return (step**2 * np.sum(np.square(law.shift), axis=1) + step / number * np.einsum("tii->t", law.covariance)) / size


def _resampled(params: np.ndarray, key: int, measure: Any, number: int = 200) -> np.ndarray:
    """What is measured of samples drawn from the runs with replacement, (number, …)."""
    random = np.random.default_rng(key)
    return np.stack([measure(params[random.integers(len(params), size=len(params))]) for _ in range(number)])


def run_ratios(job: Job) -> Outcome:
    """Δ(t) for several λ beside its law, and the spread of runs where they have not parted."""
    import xarray

    ratios, number, alpha = job["ratios"], job["runs"], job["alpha"]
    law = fluctuations(job.part(0, 0.1), shallow_start(), job["time"], job["records"])
    costs = np.cumsum([0.0, *(1 / ratio for ratio in ratios)]) / sum(1 / ratio for ratio in ratios)
    weight = most_moved(law)[0]
    values: list[np.ndarray] = []
    samples, paths, losses = [], [], []

    def measure(params):
        return np.stack([distance(params, law), np.square(params[:, :, weight].mean(0) - law.descent[:, weight])])

    for ratio, (done, then) in zip(ratios, itertools.pairwise(costs), strict=True):
        part = job.part(0.1 + 0.65 * done, 0.65 * (then - done))
        runs = _runs(part, alpha * ratio, 10 * (len(ratios) - 1 - len(values)))
        params = runs.params.astype(float)
        values.append(measure(params))
        samples.append(_resampled(params, job["key"], measure))
        paths.append(params[:, :, weight].mean(0))
        losses.append(runs.losses.mean(0))
    delta, drawn = np.array(values), np.array(samples)  # (λ, 2, R) and (λ, samples, 2, R)
    means, mean_samples = delta.mean(-1), drawn.mean(-1)
    law_delta = np.array([expected_distance(law, alpha * ratio, number) for ratio in ratios])
    found = []
    for at in range(1, len(ratios)):
        ratio, errors = means[at] / means[at - 1], (mean_samples[at] / mean_samples[at - 1]).std(0, ddof=1)
        found += list(zip(ratio, errors, strict=True))
    whole = law_delta[-1].mean()
    found += [(means[-1, 0] / whole, mean_samples[-1, :, 0].std(ddof=1) / whole), _early(job.part(0.75, 0.05))]
    slopes, small = _slopes(job.part(0.8, 0.2))
    names = (one.what for one in expect_ratios(job.settings))
    data = xarray.Dataset(
        {
            "delta": (("ratio", "time"), delta[:, 0]),
            "error": (("ratio", "time"), drawn[:, :, 0].std(1, ddof=1)),
            "expected": (("ratio", "time"), law_delta),
            "weight": (("ratio", "time"), np.array(paths)),
            "loss": (("ratio", "time"), np.array(losses)),
            "descent": ("time", law.descent[:, weight]),
            "descent_loss": ("time", law.losses),
        }
        | small,
        coords={
            "time": np.arange(1, job["records"] + 1) * job["time"] / job["records"],
            "ratio": list(ratios),
            "step": list(job["small_steps"]),
        },
        attrs={"floor": math.pi * alpha * ratios[-1] / number, "few": FEW, "small_runs": job["small_runs"]},
    )
    return Outcome(dict(zip(names, [*found, *slopes], strict=True)), data, draw_ratios)


def _slopes(job: Job) -> tuple[list[tuple[float, float]], dict[str, Any]]:
    """On the net of three units: the exponents of λ in Δ above its floor and at it, the floor over its law, and what to draw."""
    steps, number = job["small_steps"], job["small_runs"]
    law, found, laws = three_units.law_of(job), [], []
    for index, step in enumerate(steps):
        part = job.part(index / len(steps), 1 / len(steps))
        runs = three_units.runs_of(part, step, number, job["key"] + 100 + index)
        found.append(three_units.distances(runs, law, FEW))
        laws.append([three_units.expected(law, step, count) for count in (number, FEW)])
    last, at_floor = found[-1], laws[-1][1][-1]
    slopes = [
        three_units.slope(steps, [one.whole[-1] for one in found], [one.whole_errors[-1] for one in found]),
        three_units.slope(
            steps, [np.log(one.few[0]) for one in found], [one.few_errors[0] / one.few[0] for one in found]
        ),
        (last.few[-1] / at_floor, last.few_errors[-1] / at_floor),
    ]
    drawn = {
        "whole": ("step", [np.exp(one.whole[-1]) for one in found]),
        "few": ("step", [one.few[0] for one in found]),
        "whole_law": ("step", [one[0][-1] for one in laws]),
        "few_law": ("step", [one[1][0] for one in laws]),
    }
    return slopes, drawn


def _early(job: Job) -> tuple[float, float]:
    """Variance of a weight over runs in units of D_⊥t, and its standard error, before the saddle has pulled runs apart."""
    algorithm, number = greedy(job["alpha"] * job["ratios"][-1]), job["early_runs"]
    name = f"shallow net greedy σ {sigma_of(algorithm):g} first {EARLY} of {number} key {job['key']}"
    experiment = Experiment(name, algorithm, shallow_losses, shallow_start(), number, EARLY, 1, job["key"] + 1)
    weights = simulate(job, experiment).params[:, 0].astype(float)
    variances = weights.var(0, ddof=1) / (EARLY * sigma_of(algorithm) ** 2 / 2)
    return _mean(variances)


_QUICK = {"alpha": 1e-3, "ratio": 0.1, "time": 2.0, "runs": 512, "records": 20, "key": 210301}
_LONG = {"alpha": 1e-4, "ratio": 0.1, "time": 10.0, "runs": 200, "records": 50, "key": 211301}
_PAPER = {"alpha": 1e-5, "ratio": 0.1, "time": 10.0, "runs": 1000, "records": 50, "key": 212301}
_CORRESPONDENCE = {"quick": _QUICK, "long": _LONG, "paper": _PAPER}
_LOSS = {
    name: one | {"early_runs": 8192, "small_step": 1e-3, "small_runs": 131_072} for name, one in _CORRESPONDENCE.items()
}


def _with_ratios(settings: dict[str, Any], early_runs: int) -> dict[str, Any]:
    """The same runs, and those of larger λ beside them."""
    shared = {name: settings[name] for name in ("alpha", "time", "runs", "records", "key")}
    return shared | {
        "ratios": (1.0, 1 / 3, settings["ratio"]), "early_runs": early_runs, "small_steps": (4e-3, 2e-3, 1e-3),
        "small_runs": 131_072,
    }  # fmt: skip


_RATIOS = {
    "quick": _with_ratios(_QUICK, 2048),
    "long": _with_ratios(_LONG, 4096),
    "paper": _with_ratios(_PAPER, 20_480),
}


def _needs(settings: dict[str, Any], ratios: tuple[float, ...], small_steps: tuple[float, ...] = ()) -> Needs:
    generations = sum(settings["time"] / (settings["alpha"] * ratio) for ratio in ratios)
    kept = 4.0 * settings["runs"] * settings["records"] * 91
    # An evaluation of the small net takes a hundredth of the time of one of the large one, with all that goes with it.
    small = sum(settings["small_runs"] * three_units.TIME / step / 100 for step in small_steps)
    return Needs(settings["runs"] * generations + small, 1e9 + 12 * kept, (len(ratios) + 1) * kept + 1e8)


CLAIMS = [
    Claim(
        "W21-1",
        "whitelam2021",
        "Fig. 1a, 1b",
        "weights fluctuate about gradient descent, and their mean over runs follows it; P: spread and distance are those of the "
        "Langevin equation to next order in λα",
        _CORRESPONDENCE,
        run_weights,
        lambda settings: _needs(settings, (settings["ratio"],)),
        "shallow net, greedy, α = {alpha}, λ = {ratio}, {runs} runs from one start",
        expect_weights,
    ),
    Claim(
        "W21-2",
        "whitelam2021",
        "Fig. 1c",
        "the mean loss is that of gradient descent to leading order; P: it differs by ∇U·m + ½Tr(HC), with C the covariance of "
        "runs to which D builds up, and m the shift of their mean",
        _LOSS,
        run_loss,
        lambda settings: _needs(settings, (settings["ratio"],), (settings["small_step"],)),
        "greedy; left and middle {runs} runs of the shallow net, α = {alpha}, λ = {ratio}; right {small_runs} of three units",
        expect_loss,
    ),
    Claim(
        "W21-3",
        "whitelam2021",
        "Fig. 2a, 2b",
        "the smaller λ, the closer the mean of the runs is to gradient descent; P: Δ falls like λ² down to a floor that falls "
        "like λ, D⊥t/n until the runs part, and TrC/nN after that",
        _RATIOS,
        run_ratios,
        lambda settings: _needs(settings, settings["ratios"], settings["small_steps"]),
        "greedy; {runs} runs of the shallow net for each λ, α = {alpha}; last {small_runs} of three units",
        expect_ratios,
    ),
]
