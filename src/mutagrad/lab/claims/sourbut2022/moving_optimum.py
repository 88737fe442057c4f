"""S22-14: behind an optimum that moves the loss stays as it is, while the lineage follows its gradient all the time."""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from mutagrad.lab.claims.checks import PLANNED, Expected, below, near
from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.lab.claims.sourbut2022.following import (
    BINS,
    BLOCKS,
    FALL,
    FLAT,
    RISE,
    Follower,
    at_rest,
    course,
    follower_of,
    part,
    runs_of,
    shorter,
)
from mutagrad.report.figures import panels

__all__ = ["CLAIMS"]

_KINDS = {"lineage": "one lineage", "population": "a population"}
_RUNS = {"lineage": "lineages", "population": "populations"}
_SLOPES = {"lineage": "slopes", "population": "slopes_of_populations"}
_LAG = "lag over v/ηλ, λ = {:g}, {}, b = {:g}"
_LOSS = "mean loss over ½Σv²/η²λ + N/2κ, {}, b = {:g}"
_TREND = "mean loss in the second half of the time over that in the first, less 1, {}"
_ANGLE = "1 − cosine of the mean step with −∇U at the mean genome, mean over {} parts of the time, {}"
_GAIN = "loss that selection gains a generation, on the optimum that it meets, over Σv²/η, one lineage"
_LANDE = "mean of −βG∇U over v, a population"
_FALL_BY = "loss above that at rest {:g}/ηλ after the optimum stops, λ the largest, over that before, {}"
_REST = {
    "lineage": "mean loss long after the optimum stops over N/2κ, one lineage",
    "population": "mean loss long after the optimum stops over N/2κ + ½Tr(HG), a population",
}
_TIMES = (0.5, 2.0)
"""When the fall is looked at, in relaxation times of the steepest direction."""

_LASTING, _RESTING = part(-FLAT, 0), part(FALL - 1, FALL)
_HALVES = part(-FLAT, -FLAT / 2), part(-FLAT / 2, 0)


def _fallen(follower: Follower, time: float) -> int:
    """The bin that begins so many relaxation times of the steepest direction after the stop."""
    return part(time * float(follower.curvatures.min() / follower.curvatures.max()), FALL).start


def _expect(settings: dict[str, Any], kind: str) -> list[Expected]:
    """The intervals of a kind; all of its runs have the errors of normal coordinates that relax."""
    follower, stated, freedom = follower_of(settings, kind), [], BLOCKS - 1
    curvatures, relaxations, kappa = follower.curvatures, follower.relaxations, follower.kappa
    words, runs, number, rest = _KINDS[kind], settings[_RUNS[kind]], len(curvatures), at_rest(follower)
    lasting = FLAT * follower.unit * runs

    def state(what: str, value: float, room: float, error: float, why: str, ours: bool = True) -> None:
        why = f"{value:.4g} to next order, {room:.1e} for the order after it, six planned errors of {error:.1e}; {why}"
        stated.append(near(what, value, room + PLANNED * error, "theory", why, ours, freedom=freedom))

    for b in settings[_SLOPES[kind]]:
        velocity = follower.velocity(b)
        law, lags = course(follower, velocity), velocity / relaxations
        next_order = float(law.longer.max() ** 2 + law.longer.max() / follower.genomes * (kind == "population"))
        # Squares of the lags that are planned, in units of what e^{−κU} varies by, and rates at which they are forgotten.
        squares, rates = kappa * curvatures * (lags * (1 + law.longer)) ** 2, relaxations / (1 + law.longer)
        errors = np.sqrt(2 / rates / lasting / kappa / curvatures) / lags
        apart = curvatures.max() / curvatures.min()
        why = f"half the rate has twice as much; with lags like 1/√λ these would differ {math.sqrt(apart):.2g}-fold between λ"
        for curvature, more, error in zip(curvatures, law.longer, errors, strict=True):
            state(_LAG.format(curvature, words, b), 1 + more, next_order, error, why)
        value, unit = float(law.loss[_LASTING].mean()), float(number / 2 / kappa + curvatures @ lags**2 / 2)
        area = np.sum((0.5 + 2 * squares) / 2 / rates) / kappa**2
        why = f"noise alone has {rest / unit:.2f}, and a lag without noise {1 - number / 2 / kappa / unit:.2f}"
        state(_LOSS.format(words, b), value / unit, 2 * next_order, math.sqrt(2 * area / lasting) / unit, why)
    # The rest is looked at with the largest v alone.
    gain, error = number * velocity**2 / follower.rate, math.sqrt(8 * area / lasting) / value
    why = (
        f"0, and six planned errors of {error:.1e}; on an optimum that stays, what selection gains in half of the time would "
        f"lower the loss by {gain * FLAT / 2 * follower.unit / value:.0f} times itself"
    )
    stated.append(near(_TREND.format(words), 0, PLANNED * error, "error", why, freedom=freedom))
    turn, error = float(np.std(law.longer)), math.sqrt(3 * FLAT * np.mean(errors**2))
    straight = 1 - (1 / curvatures).sum() / math.sqrt(number * (1 / curvatures**2).sum())
    why = f"an angle of {turn:.1e} by the next order and six planned of {error:.1e}; straight to the optimum has {straight:.2f}"
    stated.append(below(_ANGLE.format(FLAT, words), (turn + PLANNED * error) ** 2 / 2, "error", why, freedom=freedom))
    error = math.sqrt(np.sum(errors**2)) / number
    if kind == "lineage":
        ends = math.sqrt(2 * np.sum(0.5 + squares) / runs) / kappa / (FLAT * follower.unit) / gain
        why = "as much as the motion of the optimum takes, Σvλ(lag − ½v); 0 where nothing is followed"
        value = float(np.mean(1 + law.longer - relaxations / 2))
        state(_GAIN, value, next_order, math.hypot(error, ends), why, ours=False)
    else:
        why = "a normal population responds by less than −βG∇U, by the share ηλ; 0 where G has no part"
        value = 1 + float(relaxations.mean())
        state(_LANDE, value, float(relaxations.mean() * law.longer.max()), error, why)
    excess, parts = law.loss[_LASTING].mean() - rest, squares / squares.sum()
    for time in _TIMES:
        at = _fallen(follower, time)
        left = np.exp(-2 * time * curvatures / curvatures.max())
        error = math.sqrt(np.sum(0.5 + squares * left) / runs) / kappa / excess
        why = f"half of the rate 2ηλ leaves {parts @ np.sqrt(left):.2f}, and twice of it {parts @ left**2:.2f}"
        state(_FALL_BY.format(time, words), (law.loss[at] - rest) / excess, next_order, error, why)
    room = float(shorter(follower, np.zeros(number)).max()) * (kind == "population")
    # Of a mean over one unit of time of fluctuations that are forgotten at the rates 2ηλ.
    forgotten = 2 * relaxations * follower.unit
    error = math.sqrt(np.sum((forgotten + np.expm1(-forgotten)) / forgotten**2) / runs) / kappa / rest
    why = f"with the lag it was {1 + excess / rest:.2g}"
    state(_REST[kind], 1, room, error, why)
    return stated


def expect_following(settings: dict[str, Any]) -> list[Expected]:
    """The intervals of S22-14.

    Checks of a kind share their runs. With about eight of them the others are given: lags at one velocity differ between
    curvatures, and between two velocities, by the next order alone; a loss is made of its lags and of noise; what selection
    gains, and the direction of the mean step, are those of the lags once more.
    """
    return [one for kind in _KINDS for one in _expect(settings, kind)]


def _jackknife(values: np.ndarray, of: Any) -> tuple[float, float]:
    """``of`` the mean over blocks, and its error by leaving out one block at a time."""
    without = np.array([of(np.delete(values, index, axis=0).mean(0)) for index in range(len(values))])
    return float(of(values.mean(0))), float(np.sqrt((len(values) - 1) * without.var()))


def _found(follower: Follower, velocity: float, b: float, blocks: np.ndarray, is_last: bool) -> dict[str, Any]:
    """What one run says of its checks: of a lag and of the loss, and of the rest where it is the last, with the largest v."""
    number, words, lags = len(follower.curvatures), _KINDS[follower.kind], velocity / follower.relaxations
    curvatures, rest = follower.curvatures, at_rest(follower)
    measures: dict[str, Callable[..., float]] = {}
    for index, curvature in enumerate(curvatures):
        what = _LAG.format(curvature, words, b)
        measures[what] = lambda mean, index=index: -mean[_LASTING, index].mean() / lags[index]
    unit = number / 2 / follower.kappa + curvatures @ lags**2 / 2
    measures[_LOSS.format(words, b)] = lambda mean: mean[_LASTING, number].mean() / unit
    if is_last:
        early, late = _HALVES
        measures[_TREND.format(words)] = lambda mean: mean[late, number].mean() / mean[early, number].mean() - 1

        def off(mean: np.ndarray) -> float:
            ends = mean[_LASTING.start - 1 : _LASTING.stop : BINS, :number]
            steps = np.diff(ends, axis=0) + velocity * follower.unit
            slopes = curvatures * mean[_LASTING, :number].reshape(FLAT, BINS, number).mean(1)
            cosines = -np.sum(steps * slopes, axis=1) / np.linalg.norm(steps, axis=1) / np.linalg.norm(slopes, axis=1)
            return 1 - cosines.mean()

        measures[_ANGLE.format(FLAT, words)] = off
        what, one = (_GAIN, number * velocity**2 / follower.rate) if words == _KINDS["lineage"] else (_LANDE, velocity)
        measures[what] = lambda mean: mean[_LASTING, -1].mean() / one
        for time in _TIMES:
            at = _fallen(follower, time)
            measures[_FALL_BY.format(time, words)] = lambda mean, at=at: (
                (mean[at, number] - rest) / (mean[_LASTING, number].mean() - rest)
            )
        measures[_REST[follower.kind]] = lambda mean: mean[_RESTING, number].mean() / rest
    return {what: _jackknife(blocks, of) for what, of in measures.items()}


def run_following(job: Job) -> Outcome:
    """Lineages and populations on a quadratic whose optimum moves at one velocity after the other, and then stops."""
    import xarray

    found: dict[str, Any] = {}
    shown: dict[str, Any] = {}
    lags = []
    todo = [(kind, b) for kind in _KINDS for b in job[_SLOPES[kind]]]
    for index, (kind, b) in enumerate(todo):
        follower, is_last = follower_of(job.settings, kind), b == job[_SLOPES[kind]][-1]
        velocity, name = follower.velocity(b), f"{kind} {b:g} of {sorted(job.settings.items())}"
        own, key = job.part(index / len(todo), 1 / len(todo)), jax.random.fold_in(job.key, index)
        kept = job.load(name) or {"blocks": runs_of(own, key, follower, velocity, job[_RUNS[kind]])}
        job.keep(name, kept, is_last=True)
        blocks = kept["blocks"]
        found |= _found(follower, velocity, b, blocks, is_last)
        mean = blocks.mean(0)
        first = velocity / follower.relaxations / follower.sigma
        for curvature, one, lag in zip(follower.curvatures, first, mean[_LASTING].mean(0), strict=False):
            of = _LAG.format(curvature, _KINDS[kind], b)
            lags.append((kind == "lineage", one, -lag / follower.sigma, found[of][1] * one))
        if is_last:
            law = course(follower, velocity)
            times = (np.arange(len(mean)) + 0.5) / BINS - RISE - FLAT
            places = velocity * np.minimum(times, 0) * follower.unit
            shown[kind] = ("what", "bin"), follower.kappa * np.stack([mean[:, -2], law.loss])
            unit = velocity / follower.relaxations.max()
            shown[f"{kind} path"] = ("coordinate", "bin"), ((mean[:, :-2].T + places) / unit)
            shown[f"{kind} optimum"] = "bin", places / unit
            shown[f"{kind} rest"] = (), follower.kappa * at_rest(follower)
    data = xarray.Dataset(
        shown | {"lags": (("case", "part"), np.array(lags, float))},
        coords={"bin": times, "what": ["measured", "law"], "coordinate": list(job["curvatures"])},
    )
    return Outcome(found, data, draw_following)


def draw_following(data: Any) -> Any:
    """The loss in the course of time, paths behind the optimum, and lags against v/ηλ."""
    figure, (left, middle, right) = panels(3, width=4.4)
    for colour, (kind, words) in enumerate(_KINDS.items()):
        left.plot(data.bin, data[kind].sel(what="measured"), color=f"C{colour}", label=words)
        left.plot(data.bin, data[kind].sel(what="law"), "k--", linewidth=0.8, label="law" if colour else None)
        one = data.lags.values[data.lags.values[:, 0] == (kind == "lineage")]
        right.errorbar(
            one[:, 1], one[:, 2], 3 * one[:, 3], fmt="os"[colour], color=f"C{colour}", markersize=4, label=words
        )
    left.axvline(0, color="0.7", linewidth=0.8)
    left.text(0.1, 0.97, "the optimum\nstops", fontsize=8, color="0.4", va="top", transform=left.get_xaxis_transform())
    left.set(yscale="log", xlabel="time, in 1/ηλ of the flattest direction", ylabel="κ times the mean loss")
    near_stop = data.sel(bin=slice(-5, 4))
    middle.plot(near_stop.bin, near_stop["lineage optimum"], "k", linewidth=1.2, label="optimum")
    for colour, curvature in enumerate(data.coordinate.values):
        one = near_stop["lineage path"].sel(coordinate=curvature)
        middle.plot(near_stop.bin, one, color=f"C{colour + 2}", label=f"mean of x, λ = {curvature:g}")
    middle.set(xlabel="time, in 1/ηλ of the flattest direction", ylabel="place, in v/ηλ of the steepest direction")
    middle.set_title(_KINDS["lineage"], fontsize=10)
    ends = data.lags.values[:, 1].min() / 1.3, data.lags.values[:, 1].max() * 1.3
    right.plot(ends, ends, "k--", linewidth=1, label="lag = v/ηλ")
    right.set(xscale="log", yscale="log", xlabel="v/ηλ, in σ", ylabel="lag, in σ")
    for which in (right.xaxis, right.yaxis):
        which.set_ticks([3, 10, 30], ["3", "10", "30"])
        which.set_ticks([], minor=True)
    for axis in (left, middle, right):
        axis.legend(frameon=False, fontsize=8, loc="lower left" if axis is left else "upper left")
    return figure


_COMMON = {
    "curvatures": (1.0, 0.5, 0.25), "strength": 0.02, "slopes": (0.1, 0.2, 0.35), "strength_of_population": 0.02, "genomes": 20,
    "arising": 1.0, "capacity": 256, "slopes_of_populations": (0.4, 0.8),
}  # fmt: skip

_SETTINGS = {
    "quick": _COMMON | {"lineages": 5120, "populations": 256, "key": 2_214_331},
    "paper": _COMMON | {"lineages": 131_072, "populations": 4096, "key": 2_214_332},
}


def _evaluations(settings: dict[str, Any]) -> float:
    total = 0.0
    for kind, each in (("lineage", 2), ("population", settings["genomes"])):
        generations = (RISE + FLAT + FALL) * follower_of(settings, kind).unit
        total += each * len(settings[_SLOPES[kind]]) * settings[_RUNS[kind]] * generations
    return total


CLAIMS = [
    Claim(
        "S22-14",
        "sourbut2022",
        "review",
        "relative fitness need not rise while a lineage follows the latent gradient: behind an optimum that moves the loss is "
        "flat, though the mean step is along −∇U and selection gains in every generation; P: the lag is v/ηλ and the loss "
        "½Σv²/η²λ + N/2κ, of one lineage and of the mean of a population, and where the optimum stops it falls at the rates 2ηλ",
        _SETTINGS,
        run_following,
        lambda settings: Needs(_evaluations(settings), 1e9, 1e7),
        "λ = {curvatures}; {lineages} lineages of logistic selection, βσ² = {strength}; {populations} populations, "
        "n = {genomes}, μ = {arising}, nβσ² = {strength_of_population}",
        expect_following,
    ),
]
