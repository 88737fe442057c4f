"""W21-4 and W21-6: large mutations on the shallow net (Fig. 3), and the correspondence in a deep one.

The deep net is run to the source's time, t = 5, and its loss compared up to there. At quick its weights are compared at t = 0.6,
a time that the source does not name. At λα = 10⁻⁴, a hundred times the source's, s = σTrH/|∇U| is 0.12 there and 1.5 at t = 1,
after which no law says that weights follow gradient descent. At the source's λα s is 0.015 at t = 1, the time of paper.

Of 4 checks of either claim each is undecided once in 370 times though its law is right, and one of the 8 once in 47 times.
"""

import math
from functools import partial
from typing import Any

import jax
import numpy as np
from scipy import stats

from mutagrad.lab.claims.checks import PLANNED, Expected, above, below, near
from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.lab.claims.ensemble import Experiment, mean_of, simulate
from mutagrad.lab.claims.tanh_nets import deep_losses, deep_start, shallow_losses, shallow_start
from mutagrad.lab.claims.whitelam2021.descent import greedy, normalized_descent
from mutagrad.report.figures import panels

__all__ = ["CLAIMS"]


_PLATEAU, _EARLY_EXCESS, _LATE = 0.387, 22.9, 0.055
"""Loss over the start's where gradient descent rests between t = 2 and 3; the largest distance of the mean loss from gradient
descent's before that, over λα, to first order (W21-2); loss over the start's that gradient descent has at t = 8."""
_SPREAD = 0.65
"""Standard deviation of the loss at t = 1.2 over the start's, of one run over √(λα); from trials."""
_APART = "mean loss less gradient descent's at t = {:g}, over the start's, λα = {:g}"
_LEFT = "mean loss at the end over the start's, λα = {:g}"


def expect_large(settings: dict[str, Any]) -> list[Expected]:
    """The intervals of W21-4."""
    small, middle, large = (settings["steps"][settings[name]] for name in ("small", "middle", "large"))
    begin, early = 0.5, settings["early"]
    order, error = _EARLY_EXCESS * small / begin, _SPREAD * math.sqrt(small / settings["runs"])
    room = order + PLANNED * error
    why = f"the first order in λα of W21-2, {order:.2g}, and six planned errors of {error:.2g}, at the small λα"
    plateau = f"the plateau of gradient descent, {_PLATEAU:g} of the start's loss"
    return [
        near(_APART.format(early, small), 0, room, "theory", why),
        above(
            _APART.format(settings["late"], middle), (1 - _LATE) / 10, "theory",
            "the dynamics differ: curvature takes more than a tenth of what the drift gains, where the gradient regime ends "
            "(theory.md 3.11)",
        ),
        below(_LEFT.format(middle), _PLATEAU, "source", f"it learns: it gets below {plateau}"),
        above(_LEFT.format(large), _PLATEAU, "source", f"it does not learn: it does not reach {plateau}"),
    ]  # fmt: skip


def run_large(job: Job) -> Outcome:
    """Loss under mutations of growing size, beside gradient descent at the same times, early on and at the end."""
    import xarray

    start, records, number = shallow_start(), job["records"], job["generations"]
    descent = normalized_descent(start, shallow_losses, job["time"], records)
    begin = float(mean_of(shallow_losses)(start))

    def losses(part, index, generations, records):
        step, seed = job["steps"][index], job["key"] + 10 * index + (generations != number)
        name = (
            f"shallow net greedy λα {step:g} generations {generations} records {records} of {job['runs']} seed {seed}"
        )
        experiment = Experiment(name, greedy(step), shallow_losses, start, job["runs"], generations, records, seed)
        return simulate(part, experiment).losses.astype(float)

    share = 0.9 / len(job["steps"])
    found_losses = [
        losses(job.part(index * share, share), index, number, records) for index in range(len(job["steps"]))
    ]
    found = {}
    for at, (name, time) in enumerate((("small", job["early"]), ("middle", job["late"]))):
        step, expected = job["steps"][job[name]], normalized_descent(start, shallow_losses, time, 1).losses[0, 0]
        own = losses(job.part(0.9 + at / 20, 0.05), job[name], round(time / step), 1)[:, 0]
        found[_APART.format(time, step)] = ((own.mean() - expected) / begin, _error(own) / begin)
    for name in ("middle", "large"):
        final = found_losses[job[name]][:, -1]
        # Where every run ends alike, one more of them might have learnt.
        error = max(_error(final) / begin, 1 / job["runs"])
        found[_LEFT.format(job["steps"][job[name]])] = (final.mean() / begin, error)
    data = xarray.Dataset(
        {
            "loss": (("step", "run", "generation"), np.array(found_losses)),
            "descent_loss": ("time", descent.losses[0]),
        },
        coords={
            "step": list(job["steps"]),
            "generation": np.arange(1, records + 1) * number / records,
            "time": np.arange(1, records + 1) * job["time"] / records,
        },
        attrs={"begin": begin},
    )
    return Outcome(found, data, draw_large)


def _error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values)))


def draw_large(data: Any) -> Any:
    """Loss against t and against generations: the layout of Fig. 3."""
    figure, (left, right) = panels(2)
    for colour, step in enumerate(data.step.values):
        mean = data.loss.sel(step=step).mean("run")
        label = f"λα = {step:g}, σ = {step * math.sqrt(2 * math.pi):.2g}"
        for axis, at in ((left, data.generation * step), (right, data.generation)):
            axis.plot(at, mean, color=f"C{colour}", marker=".", markersize=3, label=label)
    left.plot(data.time, data.descent_loss, "k--", label="gradient descent")
    left.set(xlabel="t = λα · generations", ylabel="mean loss", xscale="log", ylim=(0, 0.75))
    right.set(xlabel="generation", ylabel="mean loss", ylim=(0, None))
    for axis in (left, right):
        axis.axhline(data.attrs["begin"], color="0.7", linewidth=0.8)
    left.legend(frameon=False, fontsize=8, loc="upper center", ncols=2)
    return figure


# --- W21-6: a deep net -------------------------------------------------------------------------------------------------


_DEEP_NAMES = (
    "decrease of the mean loss over time, regressed on gradient descent's",
    "mean displacement along gradient descent's, over its length, where s ends to be small",
    "Δ there over the sampling floor, variance/n",
    "variance of a weight there over D⊥t",
)
_CURVATURE = {0.6: 482.0, 1.0: 5890.0}
"""TrH/|∇U| on the deep net where gradient descent is at a time; 32 while most of the loss falls."""
_WAY = {0.6: 0.3, 1.0: 0.64}
"""How far gradient descent has moved by then."""


def expect_deep(settings: dict[str, Any]) -> list[Expected]:
    """The intervals of W21-6."""
    step, until, number, size = (
        settings["alpha"] * settings["ratio"],
        settings["until"],
        settings["runs"],
        deep_start_size(),
    )
    # Curvature takes s√2π/4 of what the drift gains (theory.md 3.11).
    of_loss, of_way = (math.pi * step / 2 * one for one in (32.0, _CURVATURE[until]))
    strength = step * math.sqrt(2 * math.pi) * _CURVATURE[until]
    errors = 5 * step / math.sqrt(number), 4.3 * math.sqrt(step / number)
    freedom = number - 1
    floor = number * (of_way * _WAY[until]) ** 2 / (math.pi * step * until * size)
    chance = math.sqrt(2 / size)
    spread = chance / math.sqrt(number - 1)
    accepted = 1 - 2 * stats.norm.cdf(-strength / 2)
    pulled = _CURVATURE[until] * until / size
    return [
        near(
            _DEEP_NAMES[0], 1, of_loss + PLANNED * errors[0], "theory",
            f"curvature takes πλα/2·TrH/|∇U| = {of_loss:.2g} of the rate while the loss falls; six planned errors of "
            f"{errors[0]:.2g}, 5λα of a run by the spread over 16 runs of a trial (key 777006)", freedom=freedom,
        ),
        near(
            _DEEP_NAMES[1], 1, of_way + PLANNED * errors[1], "theory",
            f"at s = {strength:.2g} curvature takes {of_way:.2g} of the gain; six planned errors of {errors[1]:.2g}, 4.3√(λα) of "
            "a run by the same spread", freedom=freedom,
        ),
        near(
            _DEEP_NAMES[2], 1, floor + PLANNED * chance, "theory",
            f"a mean that lags by {of_way:.2g} of the way adds {floor:.2g}; six planned errors of {chance:.2g}, √(2/N); the "
            "error is the spread over weights", ours=True,
        ),
        near(
            _DEEP_NAMES[3], 1, accepted + pulled + PLANNED * spread, "theory",
            f"2Φ(−s/2) is less than 1 by {accepted:.2g}, and curvature pulls runs together by t·TrH/N|∇U| = {pulled:.2g}; six "
            f"planned errors of {spread:.2g}", ours=True, freedom=freedom,
        ),
    ]  # fmt: skip


def deep_start_size() -> int:
    """N of the deep net."""
    return jax.eval_shape(deep_start).size


def run_deep(job: Job) -> Outcome:
    """Mean loss and mean weights of runs on the deep net beside gradient descent."""
    import xarray

    losses_fn, start, records = partial(deep_losses, points=job["points"]), deep_start(), job["records"]
    step, time, number = job["alpha"] * job["ratio"], job["time"], job["runs"]
    name = (
        f"deep net {job['points']} points greedy λα {step:g} t {time:g} records {records} of {number} key {job['key']}"
    )
    experiment = Experiment(name, greedy(step), losses_fn, start, number, round(time / step), records, job["key"])
    runs = simulate(job, experiment)
    descent = normalized_descent(start, losses_fn, time, records, job["descent_step"])
    begin, at = float(mean_of(losses_fn)(start)), round(job["until"] / time * records) - 1
    fell = begin - descent.losses[0]
    slopes = (begin - runs.losses.astype(float)) @ fell / np.sum(np.square(fell))
    params = runs.params[:, at].astype(float)
    way = descent.params[0, at].astype(float) - np.asarray(start)
    along = (params - np.asarray(start)) @ way / (way @ way)
    middle = np.mean(np.square(params - params.mean(0)), axis=1) * number / (number - 1)
    delta = np.square(params.mean(0) - descent.params[0, at]) / (middle.mean() / number)
    spread = middle / (math.pi * step * job["until"])
    found = {
        name: (one.mean(), _error(one)) for name, one in zip(_DEEP_NAMES, (slopes, along, delta, spread), strict=True)
    }
    weights = np.argsort(-np.abs(descent.params[0, -1] - np.asarray(start)))[:4]
    data = xarray.Dataset(
        {
            "loss": (("run", "time"), runs.losses),
            "descent_loss": ("time", descent.losses[0]),
            "weights": (("run", "time", "weight"), runs.params[:, :, weights]),
            "descent": (("time", "weight"), descent.params[0][:, weights]),
        },
        coords={"time": np.arange(1, records + 1) * time / records, "weight": weights},
        attrs={"until": job["until"]},
    )
    return Outcome(found, data, draw_deep)


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
    for axis in (left, right):
        axis.axvline(data.attrs["until"], color="0.7", linewidth=0.8)
    right.set(xlabel="t", ylabel="weight", title="four weights; s is small left of the line")
    right.title.set_fontsize(10)
    return figure


_LARGE = {
    "quick": {
        "steps": (1e-3, 1e-2, 1e-1, 1.0, 10.0), "small": 0, "middle": 2, "large": 4, "generations": 8000, "runs": 64,
        "records": 40, "time": 8.0, "early": 1.2, "late": 8.0, "key": 210304,
    },
    "paper": {
        "steps": (1e-5, 1e-3, 1e-2, 1e-1, 1.0, 10.0), "small": 1, "middle": 3, "large": 5, "generations": 100_000, "runs": 1000,
        "records": 100, "time": 10.0, "early": 1.2, "late": 8.0, "key": 212304,
    },
}  # fmt: skip
_DEEP = {
    "quick": {
        "alpha": 1e-3, "ratio": 0.1, "time": 5.0, "until": 0.6, "runs": 16, "records": 25, "points": 50, "descent_step": 1e-4,
        "key": 210306,
    },
    "paper": {
        "alpha": 1e-5, "ratio": 0.1, "time": 5.0, "until": 1.0, "runs": 100, "records": 100, "points": 1000,
        "descent_step": 1e-5, "key": 212306,
    },
}  # fmt: skip


def _large_needs(settings: dict[str, Any]) -> Needs:
    kept = 4.0 * settings["runs"] * settings["records"] * 91
    return Needs(
        len(settings["steps"]) * settings["runs"] * settings["generations"], 1e9 + kept, len(settings["steps"]) * kept
    )


def _deep_needs(settings: dict[str, Any]) -> Needs:
    generations = settings["time"] / (settings["alpha"] * settings["ratio"])
    kept = 4.0 * settings["runs"] * settings["records"] * deep_start_size()
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
        expect_large,
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
        expect_deep,
    ),
]
