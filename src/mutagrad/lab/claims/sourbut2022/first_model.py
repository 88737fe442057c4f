"""S22-1: a mutant is drawn until one is selected, by any rule that prefers lower losses and any radially symmetric density."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import mutagrad
from mutagrad import theory
from mutagrad.lab.claims.checks import ERRORS, PLANNED, Expected, above, near
from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.lab.claims.sourbut2022.families import densities, rules
from mutagrad.lab.claims.sourbut2022.pairs import (
    Measured,
    acceptance_of,
    kept_or_measured,
    measure,
    orthonormal,
    planned,
    squared_tangent,
    tangent_room,
)
from mutagrad.report.figures import panels
from mutagrad.types import Algorithm, Mutation, Selection

__all__ = ["CLAIMS"]

_CHANCE = 4.0
"""Standard errors left for the chance of one of hundreds of values, so that one of them in a hundred runs is beyond them."""


def _algorithm(selection: Selection, mutation: Mutation) -> Algorithm:
    return mutagrad.mutation_selection(mutation, selection, 1, sigma=1.0)


def _selected_step(algorithm: Algorithm, slope: float, size: int) -> float:
    """E[ĝ·Δx]/σ of a step that is selected, at σ|g|: theory.md 1.1 over the acceptance, 1.9."""
    step, rate = (one(algorithm, slope, num_parameters=size) for one in (theory.drift, theory.acceptance_rate))
    return float(step) / float(rate)


def _angle(rule: str, density: str, size: int) -> str:
    return f"squared tangent of the angle from −∇U to the mean selected step, {rule}, {density}, N = {size}"


def _length(rule: str, density: str, size: int) -> str:
    return f"length of the mean selected step over its law, {rule}, {density}, N = {size}"


def _coin(what: str, rule: str, density: str) -> str:
    return f"{what}, {rule}, {density}, mutants drawn until one is selected"


def _rise(rule: str, per: str) -> str:
    return f"least ratio of mean steps per {per} as the slope doubles, {rule}"


def _gradients(settings: dict[str, Any], size: int) -> int:
    return min(size, settings["gradients"])


def _room(size: int) -> float:
    return tangent_room(size, _CHANCE)


def _tangent_error(length: float, across: float, size: int, number: int, gradients: int = 1) -> float:
    """Planned error of a squared tangent: steps of the length, and of a mean square across in each direction."""
    shared = (gradients - 1) * length**4
    return math.sqrt(2 * ((size - 1) * across**2 + shared) / gradients) / number / length**2


def _ratio_error(mean: np.ndarray, covariance: np.ndarray) -> float:
    """Relative, of the first of two means over the second."""
    slope = np.array([1 / mean[0], -1 / mean[1]])
    return math.sqrt(slope @ covariance @ slope)


def _degrees(squared: float) -> str:
    return f"{math.degrees(math.atan(math.sqrt(squared))):.2g}°"


def expect_direction(settings: dict[str, Any]) -> list[Expected]:
    """The intervals of S22-1."""
    stated, number = [], settings["pairs"]
    for density, mutation in densities().items():
        for size in settings["sizes"]:
            for rule, selection in rules().items():
                plan = planned(_algorithm(selection, mutation), 1.0, size)
                error = _tangent_error(plan.mean[0], plan.across, size, number, _gradients(settings, size))
                room = _room(size) * error
                why = (
                    f"0 by symmetry; {_room(size):.1f} planned errors of {error:.1e}, {_CHANCE:g} normal ones of the skew χ² and "
                    f"three: an angle of {_degrees(room)}"
                )
                stated.append(near(_angle(rule, density, size), 0, room, "error", why))
                error = _ratio_error(plan.mean[:2], plan.covariance[:2, :2] / number)
                why = f"the quadrature of theory.md 1.6; seven planned errors of {error:.1e}"
                stated.append(near(_length(rule, density, size), 1, (_CHANCE + ERRORS) * error, "error", why))
    return stated + _expect_coin(settings) + _expect_rise(settings)


def _expect_coin(settings: dict[str, Any]) -> list[Expected]:
    stated: list[Expected] = []
    number, size = settings["selected"], settings["size"]
    if not number:
        return stated
    for (rule, selection), (density, mutation) in zip(rules().items(), densities().items(), strict=True):
        first, rate, second, across = planned(_algorithm(selection, mutation), settings["coin_slope"], size).mean
        length = first / rate
        error = _tangent_error(length, across / rate, size, number)
        why = f"0 by symmetry; {_room(size):.1f} planned errors of {error:.1e}: {_degrees(_room(size) * error)}"
        stated.append(near(_coin("squared tangent of the angle", rule, density), 0, _room(size) * error, "error", why))
        error = math.sqrt((second / rate / length**2 - 1) / number)
        why = f"the quadrature of theory.md 1.6 and 1.9; six planned errors of {error:.1e}"
        stated.append(near(_coin("length over its law", rule, density), 1, PLANNED * error, "error", why))
    return stated


def _expect_rise(settings: dict[str, Any]) -> list[Expected]:
    stated, slopes, size = [], settings["slopes"], settings["size"]
    for rule, selection in rules().items():
        if rule == "greedy":
            continue
        algorithm = _algorithm(selection, mutagrad.mutation.gaussian())
        least = _least([planned(algorithm, slope, size).mean[0] for slope in slopes])
        why = f"E[zA] falls with the slope where A falls (theory.md 1.2); by quadrature the least ratio is {least:.4f}"
        stated.append(above(_rise(rule, "proposal"), 1, "theory", why, ours=True))
        least = _least([_selected_step(algorithm, slope, size) for slope in slopes])
        if least > 1:
            why = f"by quadrature the least ratio is {least:.4f}"
            stated.append(above(_rise(rule, "selected step"), 1, "theory", why, ours=True))
        else:
            plan = planned(algorithm, slopes[-1], size)
            error = _ratio_error(plan.mean[:2], plan.covariance[:2, :2] / settings["pairs"])
            why = (
                f"the acceptance rises with the slope faster than the step: by quadrature the least ratio is {least:.4f}, below "
                f"1; six planned errors of {error:.1e}, those of one step, as both share their mutations"
            )
            stated.append(near(_rise(rule, "selected step"), least, PLANNED * error, "theory", why, ours=True))
    return stated


def _least(steps: list[float]) -> float:
    """The least ratio of one to the one before."""
    return float(np.min(np.array(steps[1:]) / np.array(steps[:-1])))


def run_direction(job: Job) -> Outcome:
    """Mean selected steps of every rule and every density against −∇U and their quadrature."""
    import xarray

    rule_names, density_names, sizes = list(rules()), list(densities()), job["sizes"]
    acceptances = [acceptance_of(_algorithm(one, mutagrad.mutation.gaussian())) for one in rules().values()]
    shape = (len(rule_names), len(density_names), len(sizes))
    tangent, length = np.empty((2, *shape)), np.empty((2, *shape))
    found: dict[str, tuple[float, float]] = {}
    whole = len(density_names) * sum(sizes) * 1.3
    done = 0
    for j, (density, mutation) in enumerate(densities().items()):
        for i, size in enumerate(sizes):
            gradients = _gradients(job.settings, size)
            key = jax.random.fold_in(job.key, 100 * j + i)
            directions = orthonormal(np.random.default_rng((job["key"], size)), size, gradients)

            def make(mutation=mutation, directions=directions, gradients=gradients, key=key):
                return measure(mutation, acceptances, directions, [1.0] * gradients, job["pairs"], key)

            one = kept_or_measured(job, f"{job['pairs']} pairs {density} {size} {gradients} key {job['key']}", make)
            tangent[:, :, j, i] = squared_tangent(one)
            for k, rule in enumerate(rule_names):
                mean, own = _pooled(one, k)
                exact = _selected_step(_algorithm(rules()[rule], mutation), 1.0, size)
                length[:, k, j, i] = mean[0] / mean[1] / exact * np.array([1, _ratio_error(mean, own)])
                found[_angle(rule, density, size)] = tuple(tangent[:, k, j, i])
                found[_length(rule, density, size)] = tuple(length[:, k, j, i])
            done += size
            job.progress(done / whole)
    if job["selected"]:
        found |= _with_coin(job.part(len(density_names) * sum(sizes) / whole, 0.2))
    rises, steps = _rises(job, acceptances)
    found |= rises
    data = xarray.Dataset(
        {
            "tangent": (("what", "rule", "density", "size"), tangent),
            "length": (("what", "rule", "density", "size"), length),
            "steps": (("per", "rule", "slope"), steps),
        },
        coords={
            "what": ["value", "error"], "rule": rule_names, "density": density_names, "size": list(sizes),
            "per": ["proposal", "selected step"], "slope": list(job["slopes"]),
        },
    )  # fmt: skip
    return Outcome(found, data, draw_direction)


def _pooled(found: Measured, rule: int) -> tuple[np.ndarray, np.ndarray]:
    """Means of step and acceptance over all gradients, and their covariance."""
    number = found.mean.shape[1]
    covariance = found.covariance[rule].reshape(number, 4, number, 4)[:, :2, :, :2].sum((0, 2)) / number**2
    return found.mean[rule, :, :2].mean(0), covariance


def _rises(job: Job, acceptances: list[Callable]) -> tuple[dict[str, tuple[float, float]], np.ndarray]:
    """The least ratios of steps as the slope doubles, and the steps, (2, rules, slopes)."""
    slopes, size = job["slopes"], job["size"]
    unit = np.repeat(orthonormal(np.random.default_rng(job["key"]), size, 1), len(slopes), axis=1)
    measured = measure(
        mutagrad.mutation.gaussian(), acceptances, unit, slopes, job["pairs"], jax.random.fold_in(job.key, 10_000)
    )
    found, steps = {}, np.empty((2, len(acceptances), len(slopes)))
    for k, rule in enumerate(rules()):
        mean, covariance = measured.mean[k], measured.covariance[k]
        steps[:, k] = -mean[:, 0], -mean[:, 0] / mean[:, 1]
        for at, per in enumerate(("proposal", "selected step")):
            ratios = steps[at, k, 1:] / steps[at, k, :-1]
            i = int(np.argmin(ratios))
            slope = np.zeros((len(slopes), 4))
            slope[i + 1, 0], slope[i, 0] = 1 / mean[i + 1, 0], -1 / mean[i, 0]
            if at:
                slope[i + 1, 1], slope[i, 1] = -1 / mean[i + 1, 1], 1 / mean[i, 1]
            error = ratios[i] * math.sqrt(slope.ravel() @ covariance @ slope.ravel())
            if rule != "greedy":
                found[_rise(rule, per)] = (float(ratios[i]), error)
    return found, steps


def _until_selected(algorithm: Algorithm, gradient: jax.Array) -> Callable[[jax.Array], jax.Array]:
    """Steps of generations that begin anew at one parent until a mutant is selected, one for each key."""
    start = algorithm.init(jnp.zeros_like(gradient))

    def one(key: jax.Array) -> jax.Array:
        def again(carry: tuple) -> tuple:
            attempt, _, _ = carry
            state, info = algorithm.step(jax.random.fold_in(key, attempt), start, lambda x: jnp.dot(gradient, x))
            return attempt + 1, info.is_accepted, state.params

        return jax.lax.while_loop(lambda carry: ~carry[1], again, (0, jnp.bool_(False), start.params))[2]

    return jax.jit(jax.vmap(one))


def _with_coin(job: Job) -> dict[str, tuple[float, float]]:
    """Angle and length from the library's own generations: one after the other from one parent, until a mutant is selected."""
    size, found = job["size"], {}
    unit = orthonormal(np.random.default_rng((job["key"], 1)), size, 1)[:, 0]
    lanes = 1024
    for index, ((rule, selection), (density, mutation)) in enumerate(
        zip(rules().items(), densities().items(), strict=True)
    ):
        algorithm = _algorithm(selection, mutation)
        select = _until_selected(algorithm, jnp.asarray(job["coin_slope"] * unit, jnp.float32))
        keys = jax.random.split(jax.random.fold_in(job.key, 20_000 + index), (job["selected"] // lanes, lanes))
        steps = np.concatenate([np.asarray(select(one), float) for one in keys])
        number, along = len(steps), steps @ unit
        across = steps - along[:, None] * unit
        squares = np.sum(across**2)
        square = (np.sum(across.sum(0) ** 2) - squares) / (number * (number - 1))
        length, each = along.mean(), squares / number / (size - 1)
        null = 2 * (size - 1) * each**2 / number**2 + 4 * max(square, 0) * each / number
        found[_coin("squared tangent of the angle", rule, density)] = (square / length**2, math.sqrt(null) / length**2)
        exact = _selected_step(algorithm, job["coin_slope"], size)
        error = abs(along.std(ddof=1) / math.sqrt(number) / exact)
        found[_coin("length over its law", rule, density)] = (length / exact, error)
        job.progress((index + 1) / 5)
    return found


def draw_direction(data: Any) -> Any:
    """Squared tangents beside that of 1°, lengths over their law, and the size of steps against the slope."""
    figure, (left, middle, right) = panels(3, 4.4)
    one_degree = math.tan(math.radians(1)) ** 2
    for k, rule in enumerate(data.rule.values):
        for j, density in enumerate(data.density.values):
            place = data["size"].values * 1.5 ** ((j - 2) / 2 + (k - 2) / 12)
            for axis, values, scale in ((left, data.tangent, 1 / one_degree), (middle, data.length, 1)):
                value, error = values.sel(rule=rule, density=density).values * scale
                label = density if k == 0 and axis is left else None
                axis.errorbar(place, value, 3 * error, fmt=".", color=f"C{j}", markersize=3, linewidth=0.8, label=label)
    left.axhline(0, color="k", linestyle="--", linewidth=1)
    left.axhline(1, color="0.5", linewidth=1)
    left.text(2, 1.02, "1°", color="0.4", fontsize=8, va="bottom")
    left.set(xscale="log", xlabel="parameters N", ylabel="tan² of the angle from −∇U, over tan² 1°")
    left.legend(frameon=False, fontsize=8)
    middle.axhline(1, color="k", linestyle="--", linewidth=1)
    middle.set(xscale="log", xlabel="parameters N", ylabel="length of the mean selected step over its law")
    for k, rule in enumerate(data.rule.values):
        for per, line in (("proposal", "o--"), ("selected step", "s-")):
            steps = data.steps.sel(per=per, rule=rule)
            label = rule if per == "selected step" else None
            right.plot(data.slope, steps, line, color=f"C{k}", markersize=4, linewidth=1, label=label)
    right.set_xscale("log", base=2)
    right.set_xticks(data.slope.values, [f"{slope:g}" for slope in data.slope.values])
    right.set(xlabel="slope σ|∇U|", ylabel="mean step [σ]; dashed: per proposal", ylim=(0, None))
    right.legend(frameon=False, fontsize=8)
    return figure


_SIZES = {
    "sizes": (2, 10, 100, 1000),
    "size": 10,
    "slopes": (0.25, 0.5, 1.0, 2.0, 4.0, 8.0),
    "coin_slope": 4.0,
    "gradients": 16,
}
_DIRECTION = {
    "quick": _SIZES | {"pairs": 600_000, "selected": 2**17, "key": 22101},
    "paper": _SIZES | {"pairs": 8_000_000, "selected": 2**21, "key": 22121},
}

CLAIMS = [
    Claim(
        "S22-1",
        "sourbut2022",
        "first model",
        "for any selection function that falls with the loss and any radially symmetric mutation density the mean selected step "
        "is along −∇U; P: its size per proposal rises with |∇U|, but per selected step it need not",
        _DIRECTION,
        run_direction,
        lambda settings: Needs(5.0 * settings["pairs"] * sum(settings["sizes"]), 1e9, 1e7),
        "linear losses, σ|∇U| = 1 but on the right; {pairs} pairs of mutations for each density and N, {gradients} gradients at "
        "right angles; bars are three errors",
        expect_direction,
    ),
]
