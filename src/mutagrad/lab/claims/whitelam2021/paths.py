"""W21-1 to W21-3: runs on the shallow net beside gradient descent, and the fluctuations about it (Figs. 1 and 2)."""

import itertools
import math
from typing import Any

import numpy as np

from mutagrad.lab.claims.checks import Expected, below, near
from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.lab.claims.ensemble import Experiment, Runs, mean_of, sigma_of, simulate
from mutagrad.lab.claims.tanh_nets import shallow_losses, shallow_start
from mutagrad.lab.claims.whitelam2021.descent import greedy
from mutagrad.lab.claims.whitelam2021.drawings import draw_loss, draw_ratios, draw_weights
from mutagrad.lab.claims.whitelam2021.fluctuations import Fluctuations, fluctuations
from mutagrad.lab.claims.whitelam2021.orders import PLANNED, STANDARD_ERRORS, room

__all__ = ["CLAIMS"]

_WEIGHTS = ("first", "second", "third", "fourth")
_EARLY = 50


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
    for place, weight in zip(_WEIGHTS, most_moved(law), strict=True):
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


def expect_weights(settings: dict[str, Any]) -> list[Expected]:
    """The intervals of W21-1."""
    width, why = room(settings, "end")
    stated = [
        near("mean displacement of all weights at the end, along gradient descent's, over it", 1, width, "theory", why)
    ]
    for place in _WEIGHTS:
        width, why = room(settings, place)
        what = f"mean path of the weight that moves {place} most, regressed on gradient descent's"
        stated.append(near(what.replace("first ", ""), 1, width, "theory", why))
    width, why = room(settings, "shift", of_law=True)
    stated.append(
        near("mean path less gradient descent, regressed on the next order", 1, width, "theory", why, ours=True)
    )
    width, why = room(settings, "spread", of_law=True)
    stated.append(near("variance over runs, over that of the linear law", 1, width, "theory", why, ours=True))
    return stated


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


def expect_loss(settings: dict[str, Any]) -> list[Expected]:
    """The intervals of W21-2."""
    width, why = room(settings, "loss")
    stated = [near("decrease of the mean loss over time, regressed on gradient descent's", 1, width, "theory", why)]
    width, why = room(settings, "excess", of_law=True)
    what = "mean loss less gradient descent's over time, regressed on ∇U·m + ½Tr(HC)"
    return [*stated, near(what, 1, width, "theory", why, ours=True)]


def run_loss(job: Job) -> Outcome:
    """Mean loss beside gradient descent's, and its excess beside what noise and curvature add."""
    data, runs, law, step = _data(job)
    measured = of_losses(runs.losses.astype(float), law, step)
    names = (one.what for one in expect_loss(job.settings))
    return Outcome(
        {name: _mean(values) for name, values in zip(names, measured.values(), strict=True)}, data, draw_loss
    )


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


def _pairs(settings: dict[str, Any]) -> list[tuple[str, str]]:
    return [(f"{small:.3g}", f"{large:.3g}") for large, small in itertools.pairwise(settings["ratios"])]


def expect_ratios(settings: dict[str, Any]) -> list[Expected]:
    """The intervals of W21-3."""
    stated = []
    for small, large in _pairs(settings):
        why = "the source's statement: Δ is smaller for the smaller λ"
        stated.append(below(f"Δ at λ = {small} over Δ at λ = {large}, mean over time", 1, "source", why))
        what = f"the same of the weight that moves most, λ = {small} over λ = {large}"
        stated.append(below(what, 1, "source", "the source's statement, of one weight (Fig. 2a)"))
    known, step = PLANNED[settings["time"]]["distance"], settings["alpha"] * settings["ratios"][-1]
    order, chance = abs(known.shift) * step, known.deviation
    stated.append(
        near(
            "Δ at the smallest λ over the square of the next order and its floor TrC/nN, mean over time", 1,
            order + STANDARD_ERRORS * chance, "theory",
            f"trials with other keys and α put the order after it at {known.shift:,.0f}λα = {known.shift * step:.2g}, and six "
            f"planned errors of {chance:.2g}", ours=True,
        )
    )  # fmt: skip
    size = shallow_start().size
    chance = math.sqrt(2 / size / (settings["early_runs"] - 1))
    stated.append(
        near(
            f"variance of a weight over D⊥t after {_EARLY} generations", 1,
            1 / math.pi / size + STANDARD_ERRORS * chance, "theory",
            f"along the gradient it lacks the square of the drift, 1/π of one weight in {size}, and six planned errors of "
            f"{chance:.2g}", ours=True,
        )
    )  # fmt: skip
    return stated


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
        part = job.part(0.1 + 0.85 * done, 0.85 * (then - done))
        runs = _runs(part, alpha * ratio, 10 * (len(ratios) - 1 - len(values)))
        params = runs.params.astype(float)
        values.append(measure(params))
        samples.append(_resampled(params, job["key"], measure))
        paths.append(params[:, :, weight].mean(0))
        losses.append(runs.losses.mean(0))
    delta, drawn = np.array(values), np.array(samples)  # (λ, 2, R) and (λ, samples, 2, R)
    means, mean_samples = delta.mean(-1), drawn.mean(-1)
    law_delta = np.array([expected_distance(law, alpha * ratio, number) for ratio in ratios])
    found = {}
    for at, (small, large) in enumerate(_pairs(job.settings)):
        ratio = means[at + 1] / means[at]
        errors = (mean_samples[at + 1] / mean_samples[at]).std(0, ddof=1)
        found[f"Δ at λ = {small} over Δ at λ = {large}, mean over time"] = (ratio[0], errors[0])
        found[f"the same of the weight that moves most, λ = {small} over λ = {large}"] = (ratio[1], errors[1])
    whole = law_delta[-1].mean()
    what = "Δ at the smallest λ over the square of the next order and its floor TrC/nN, mean over time"
    found[what] = (means[-1, 0] / whole, mean_samples[-1, :, 0].std(ddof=1) / whole)
    found[f"variance of a weight over D⊥t after {_EARLY} generations"] = _early(job.part(0.95, 0.05))
    data = xarray.Dataset(
        {
            "delta": (("ratio", "time"), delta[:, 0]),
            "error": (("ratio", "time"), drawn[:, :, 0].std(1, ddof=1)),
            "expected": (("ratio", "time"), law_delta),
            "weight": (("ratio", "time"), np.array(paths)),
            "loss": (("ratio", "time"), np.array(losses)),
            "descent": ("time", law.descent[:, weight]),
            "descent_loss": ("time", law.losses),
        },
        coords={"time": np.arange(1, job["records"] + 1) * job["time"] / job["records"], "ratio": list(ratios)},
        attrs={"floor": math.pi * alpha * ratios[-1] / number},
    )
    return Outcome(found, data, draw_ratios)


def _early(job: Job) -> tuple[float, float]:
    """Variance of a weight over runs in units of D_⊥t, and its standard error, before the saddle has pulled runs apart."""
    algorithm, number = greedy(job["alpha"] * job["ratios"][-1]), job["early_runs"]
    name = f"shallow net greedy σ {sigma_of(algorithm):g} first {_EARLY} of {number} key {job['key']}"
    experiment = Experiment(name, algorithm, shallow_losses, shallow_start(), number, _EARLY, 1, job["key"] + 1)
    weights = simulate(job, experiment).params[:, 0].astype(float)
    variances = weights.var(0, ddof=1) / (_EARLY * sigma_of(algorithm) ** 2 / 2)
    return _mean(variances)


_QUICK = {"alpha": 1e-3, "ratio": 0.1, "time": 2.0, "runs": 512, "records": 20, "key": 21010}
_LONG = {"alpha": 1e-4, "ratio": 0.1, "time": 10.0, "runs": 200, "records": 50, "key": 21110}
_PAPER = {"alpha": 1e-5, "ratio": 0.1, "time": 10.0, "runs": 1000, "records": 50, "key": 21210}
_CORRESPONDENCE = {"quick": _QUICK, "long": _LONG, "paper": _PAPER}


def _with_ratios(settings: dict[str, Any], early_runs: int) -> dict[str, Any]:
    """The same runs, and those of larger λ beside them."""
    shared = {name: settings[name] for name in ("alpha", "time", "runs", "records", "key")}
    return shared | {"ratios": (1.0, 1 / 3, settings["ratio"]), "early_runs": early_runs}


_RATIOS = {
    "quick": _with_ratios(_QUICK, 2048),
    "long": _with_ratios(_LONG, 4096),
    "paper": _with_ratios(_PAPER, 20_480),
}


def _needs(settings: dict[str, Any], ratios: tuple[float, ...]) -> Needs:
    generations = sum(settings["time"] / (settings["alpha"] * ratio) for ratio in ratios)
    kept = 4.0 * settings["runs"] * settings["records"] * 91
    return Needs(settings["runs"] * generations, 1e9 + 12 * kept, (len(ratios) + 1) * kept + 1e7)


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
        _CORRESPONDENCE,
        run_loss,
        lambda settings: _needs(settings, (settings["ratio"],)),
        "shallow net, greedy, α = {alpha}, λ = {ratio}, {runs} runs from one start",
        expect_loss,
    ),
    Claim(
        "W21-3",
        "whitelam2021",
        "Fig. 2a, 2b",
        "the smaller λ, the closer the mean of the runs is to gradient descent; P: down to a floor that is D⊥t/n until the runs "
        "part, and TrC/nN after that",
        _RATIOS,
        run_ratios,
        lambda settings: _needs(settings, settings["ratios"]),
        "shallow net, greedy, α = {alpha}, {runs} runs for each λ",
        expect_ratios,
    ),
]
