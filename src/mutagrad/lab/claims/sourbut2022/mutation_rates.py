"""S22-10: mutation rates are selected too, where every genome carries its own and mutates it first."""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import linalg, special

import mutagrad
from mutagrad import theory
from mutagrad.lab.claims.checks import PLANNED, Expected, below, near
from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.report.figures import panels

__all__ = ["CLAIMS", "carried"]

_RULES = {"comma": "(1,{})", "elitist": "(1+{})"}
_PACE = 0.5
"""τ²N, for τ = 1/√(2N)."""
_FACTOR = "geometric mean of s over the best s, {}, N = {}"
_LAW = "geometric mean of s over that of the law of many parameters, {}, N = {}"
_START = "mean ln s from a small start less that from a large one, {}, N = {}"
_ALONE_LAW = "geometric mean of s over that of the law of many parameters after {:g}N generations, (1+1)"
_ALONE = "geometric mean of s over the best s after {:g}N generations, (1+1)"


def carried(tau: float) -> mutagrad.Mutation:
    """The mutation of a genome that carries ln σ: σ' = σe^{τξ} first, then x' = x + σ'z.

    For params {"x": (N,), "log_sigma": ()}, in an algorithm of σ = 1.
    """

    def sample(key: jax.Array, params: Any) -> Any:
        own, others = jax.random.split(key)
        change = tau * jax.random.normal(own)
        z = jax.random.normal(others, params["x"].shape)
        return {"x": _scale(params["log_sigma"], change) * z, "log_sigma": change}

    return mutagrad.Mutation(sample, "carried", {"tau": tau})


def _scale(log_sigma: jax.Array, change: jax.Array) -> jax.Array:
    """σ of the mutation of x: the offspring's own."""
    return jnp.exp(log_sigma + change)


class Walk(NamedTuple):
    """What u = ln s does in the limit of many parameters: a diffusion in the time t = generations/N, on a grid.

    Attributes
    ----------
    u : (n,) the grid. settled : (n,) the law that it settles in.
    rates : (n, n) those of the chain that stands for the diffusion, from row to column.
    """

    u: np.ndarray
    settled: np.ndarray
    rates: np.ndarray


@lru_cache
def walk(rule: str, number: int) -> Walk:
    """The diffusion of ln s where σ is carried (theory.md 11.8).

    An offspring gains sz − ½s², with se^{τξ} in place of s, so that for small τ the one selected has y = z + τξ(z − s) largest:
    y is the largest of M normal numbers, and E[ξ | y] = τ(y² − sy − 1). With θ = τ²N the mean change of ln σ is
    θ(y² − sy − 1) a unit of time and that of −ln R is sy − ½s², averaged over y; under (1+M) where y > ½s alone. The variance D
    is θ times the share of generations that are accepted. With f the mean change, u settles in exp(∫2f/D du)/D.
    """
    y, u = np.linspace(-8, 10, 1801), np.linspace(math.log(1e-4), math.log(14), 400)
    share = number * np.exp(-(y**2) / 2 + (number - 1) * special.log_ndtr(y)) / math.sqrt(2 * math.pi) * (y[1] - y[0])
    s, width = np.exp(u)[:, None], u[1] - u[0]
    # A cell of y that the threshold cuts counts with what is above it.
    taken = np.clip((y - s / 2) / (y[1] - y[0]) + 0.5, 0, 1) if rule == "elitist" else np.ones((len(u), len(y)))
    change = (taken * (_PACE * (y**2 - s * y - 1) + s * y - s**2 / 2)) @ share
    noise = np.maximum(_PACE * (taken @ share), 1e-9)
    force = 2 * change / noise
    weight = np.concatenate([[0], np.cumsum((force[1:] + force[:-1]) / 2)]) * width - np.log(noise)
    settled = np.exp(weight - weight.max())
    settled /= settled.sum()
    up = np.sqrt(noise[1:] * noise[:-1]) / (2 * width**2) * np.exp(np.diff(weight) / 2)
    down = np.sqrt(noise[1:] * noise[:-1]) / (2 * width**2) * np.exp(-np.diff(weight) / 2)
    rates = np.diag(up, 1) + np.diag(down, -1)
    rates -= np.diag(rates.sum(1))
    return Walk(u, settled, rates)


def _from(law: Walk, start: float) -> np.ndarray:
    """All the probability at a start s, shared by the two places of the grid beside it."""
    at = np.interp(math.log(start), law.u, np.arange(len(law.u)))
    return np.maximum(0, 1 - np.abs(np.arange(len(law.u)) - at))


def course(rule: str, number: int, start: float, times: np.ndarray) -> np.ndarray:
    """(times, 2) mean and variance of ln s at evenly spaced times t, from a start s."""
    law = walk(rule, number)
    propagator, found = linalg.expm(law.rates * times[0]), np.empty((len(times), 2))
    density = _from(law, start)
    for index in range(len(times)):
        density = density @ propagator
        mean = density @ law.u
        found[index] = mean, density @ (law.u - mean) ** 2
    return found


def _best(rule: str, number: int) -> float:
    """The s at which a generation gains most (theory.md 3.4): of (1,M) it is E[ζ₁]."""
    return float(theory.best_of_mean(number, 1) if rule == "comma" else theory.optimal_strength(number))


@lru_cache
def _window(rule: str, number: int, start: float, burn_in: float, end: float) -> tuple[float, float]:
    """Mean and standard deviation over runs of the mean of ln s between two times, by the law; the start over the best s."""
    law, step, count = walk(rule, number), 0.5, 0
    propagator = linalg.expm(law.rates * step)
    # Of a sum over time: its moments of order 0, 1 and 2 where u is where it is.
    moments = np.zeros((3, len(law.u)))
    moments[0] = _from(law, start * _best(rule, number))
    for index in range(round(end / step)):
        moments = moments @ propagator
        if (index + 1) * step > burn_in:
            moments[2] += 2 * law.u * moments[1] + law.u**2 * moments[0]
            moments[1] += law.u * moments[0]
            count += 1
    mean = moments[1].sum() / count
    return float(mean), math.sqrt(moments[2].sum() / count**2 - mean**2)


def _windows(settings: dict[str, Any], rule: str) -> list[tuple[float, float]]:
    """Of the low and of the high start."""
    number, span = settings["offspring"], (settings["burn_in"], settings["time"])
    return [_window(rule, number, start, *span) for start in settings["starts"]]


def expect_rates(settings: dict[str, Any]) -> list[Expected]:
    """The intervals of S22-10."""
    number, runs, stated = settings["offspring"], settings["runs"], []
    for rule, words in _RULES.items():
        name, best = words.format(number), _best(rule, number)
        (low, one), (high, other) = _windows(settings, rule)
        error, mean = math.sqrt((one**2 + other**2) / 2 / runs), (low + high) / 2
        for size in settings["sizes"]:
            room = settings["next_order"][rule] / size
            next_order = (
                f"and {settings['next_order'][rule]:g}/N for the next order, as trials with other keys found it"
            )
            first = math.log(settings["starts"][1] / settings["starts"][0])
            why = f"at first it is {-first:.2f}; the law has {low - high:.3f} at last, six planned errors, {next_order}"
            room_of_two = PLANNED * 2 * error + room
            stated.append(near(_START.format(name, size), low - high, room_of_two, "trial", why, freedom=runs - 2))
            why = (
                f"law {math.exp(mean):.3f}; six planned errors of {error:.1e}, {next_order}. Where σ' is not the σ of the "
                "offspring's own mutation s rises to where nothing is gained"
            )
            stated.append(near(_LAW.format(name, size), 1, PLANNED * error + room, "trial", why, freedom=runs - 1))
            ratio = f"of the best s, {best:.3f}; the law has {math.exp(mean) / best:.2f}"
            what = _FACTOR.format(name, size)
            if rule == "comma":
                stated.append(
                    near(what, 1.25, 0.75, "source", f"P: within a factor of 2 {ratio}", True, freedom=runs - 1)
                )
            else:
                why = f"P: σ collapses, to less than one half {ratio}"
                stated.append(below(what, 0.5, "source", why, True, freedom=runs - 1))
    best = _best("elitist", 1)
    means, variances = _alone(settings).T
    for time, mean, variance in zip(settings["times"], means, variances, strict=True):
        error = math.sqrt(variance / settings["walks"])
        room = settings["next_order"]["elitist"] / settings["walk_size"]
        why = f"law {math.exp(mean):.3f}; six planned errors of {error:.1e}, and {room:.2g} for the next order"
        stated.append(near(_ALONE_LAW.format(time), 1, PLANNED * error + room, "trial", why))
    why = (
        f"P: σ collapses, to less than one half of the best s, {best:.3f}; the law has {math.exp(means[-1]) / best:.2f}"
    )
    stated.append(below(_ALONE.format(settings["times"][-1]), 0.5, "source", why, ours=True))
    return stated


def _alone(settings: dict[str, Any]) -> np.ndarray:
    """Mean and variance of ln s of (1+1) at the times that are looked at, by the law."""
    times = settings["times"]
    grid = np.arange(1, round(times[-1] / times[0]) + 1) * times[0]
    return course("elitist", 1, _best("elitist", 1), grid)[[round(time / times[0]) - 1 for time in times]]


def _courses(key: jax.Array, rule: str, number: int, size: int, starts: np.ndarray, time: float) -> np.ndarray:
    """(runs, records) ln s of runs on the sphere, at every N/10 generations; ``starts`` are their first s."""
    every = max(1, size // 10)
    algorithm = getattr(mutagrad, rule)(1.0, number, mutation=carried(math.sqrt(_PACE / size)))
    # Far from 0, so that a run stays within the numbers of float32.
    x = jnp.full(size, 1e3)

    def losses(params: Any) -> jax.Array:
        return size / 2 * jnp.square(params["x"])

    def log_strength(params: Any) -> jax.Array:
        largest = jnp.max(jnp.abs(params["x"]))
        length = jnp.log(largest) + jnp.log(jnp.sum(jnp.square(params["x"] / largest))) / 2
        return params["log_sigma"] + math.log(size) - length

    @jax.jit
    def run(key: jax.Array, start: jax.Array) -> jax.Array:
        log_sigma = jnp.log(start * 1e3 / math.sqrt(size))

        def record(state: Any, key: jax.Array) -> tuple[Any, jax.Array]:
            def body(state: Any, key: jax.Array) -> tuple[Any, None]:
                return algorithm.step(key, state, losses)[0], None

            state = jax.lax.scan(body, state, jax.random.split(key, every))[0]
            return state, log_strength(state.params)

        records = round(time * size / every)
        state = algorithm.init({"x": x, "log_sigma": log_sigma})
        return jax.lax.scan(record, state, jax.random.split(key, records))[1]

    keys = jax.random.split(key, len(starts))
    return np.asarray(jax.vmap(run)(keys, jnp.asarray(starts, jnp.float32)), float)


def run_rates(job: Job) -> Outcome:
    """ln s in the course of runs whose genomes carry σ, from a start below and one above the best s."""
    import xarray

    number, half, found = job["offspring"], job["runs"] // 2, {}
    shown, todo = {}, [(size, rule) for size in job["sizes"] for rule in _RULES]
    work = np.cumsum([size**2 for size, _ in todo]) / sum(size**2 for size, _ in todo)
    for done, (size, rule) in zip(work, todo, strict=True):
        name, best = _RULES[rule].format(number), _best(rule, number)
        key = jax.random.fold_in(job.key, 2 * size + (rule == "comma"))
        courses = _courses(key, rule, number, size, best * np.repeat(job["starts"], half), job["time"])
        means = courses[:, round(job["burn_in"] * courses.shape[1] / job["time"]) :].mean(1)
        low, high = means[:half], means[half:]
        error = math.sqrt((low.var(ddof=1) + high.var(ddof=1)) / half)
        found[_START.format(name, size)] = (low.mean() - high.mean(), error)
        law = np.mean([mean for mean, _ in _windows(job.settings, rule)])
        for what, unit in ((_LAW, math.exp(law)), (_FACTOR, best)):
            value = math.exp(means.mean()) / unit
            found[what.format(name, size)] = (value, value * error / 2)
        shown[f"{rule} {size}"] = courses[[0, half]] - math.log(best)
        job.progress(0.9 * done)
    times, best = job["times"], _best("elitist", 1)
    key, starts = jax.random.fold_in(job.key, 1), np.full(job["walks"], best)
    walks = _courses(key, "elitist", 1, job["walk_size"], starts, times[-1])
    laws = _alone(job.settings)[:, 0]
    for time, law in zip(times, laws, strict=True):
        now = walks[:, round(time * walks.shape[1] / times[-1]) - 1]
        error = now.std(ddof=1) / math.sqrt(len(now))
        value = math.exp(now.mean() - law)
        found[_ALONE_LAW.format(time)] = (value, value * error)
    value = math.exp(now.mean()) / best
    found[_ALONE.format(times[-1])] = (value, value * error)
    every = np.arange(1, walks.shape[1] + 1) * times[-1] / walks.shape[1]
    data = xarray.Dataset(
        {name: (("start", f"record {name}"), one) for name, one in shown.items()}
        | {
            "walk": ("walk time", walks.mean(0) - math.log(best)),
            "walks": (("few", "walk time"), walks[:5] - math.log(best)),
        },
        coords={"walk time": every},
        attrs={"sizes": list(job["sizes"]), "starts": list(job["starts"]), "time": job["time"], "offspring": number},
    )
    return Outcome(found, data, draw_rates)


def draw_rates(data: Any) -> Any:
    """s over the best s in the course of runs: two starts under (1,M) and (1+M), and (1+1)."""
    figure, axes = panels(3, width=4)
    number = int(data.attrs["offspring"])
    for axis, (rule, words) in zip(axes, _RULES.items(), strict=False):
        for colour, size in enumerate(data.attrs["sizes"]):
            courses = np.exp(data[f"{rule} {size}"].values)
            time = np.linspace(0, data.attrs["time"], courses.shape[1] + 1)[1:]
            for start, one in enumerate(courses):
                label = f"N = {size}" if start == 0 else None
                axis.plot(time, one, color=f"C{colour}", linewidth=0.6, label=label)
        time = np.linspace(0, data.attrs["time"], 81)[1:]
        for start in data.attrs["starts"]:
            law = course(rule, number, start * _best(rule, number), time)[:, 0] - math.log(_best(rule, number))
            axis.plot(time, np.exp(law), "k--", linewidth=1.2, label="geometric mean, law" if start < 1 else None)
        axis.set_title(words.format(number), fontsize=10)
    every = data["walk time"].values
    axes[2].plot(every, np.exp(data.walks.values.T), color="0.7", linewidth=0.5)
    axes[2].plot(every, np.exp(data.walk), color="C0", linewidth=1.5, label="geometric mean of all runs")
    time = np.linspace(0, every[-1], 129)[1:]
    law = course("elitist", 1, _best("elitist", 1), time)[:, 0] - math.log(_best("elitist", 1))
    axes[2].plot(time, np.exp(law), "k--", linewidth=1.2, label="geometric mean, law")
    axes[2].set_title("(1+1)", fontsize=10)
    for axis in axes:
        axis.axhspan(0.5, 2, color="0.9", zorder=0)
        axis.set(yscale="log", xlabel="generations over N", ylabel="s over the best s of a generation", ylim=(0.03, 10))
        axis.legend(frameon=False, fontsize=8, loc="lower right")
    return figure


_COMMON = {
    "offspring": 10, "starts": (0.05, 3.0), "time": 40.0, "burn_in": 10.0, "times": (4.0, 16.0, 64.0), "walk_size": 100,
    "next_order": {"comma": 2.0, "elitist": 5.0},
}  # fmt: skip

_SETTINGS = {
    "quick": _COMMON | {"sizes": (30, 100, 300), "runs": 32, "walks": 1024, "key": 71210},
    "paper": _COMMON | {"sizes": (30, 100, 300, 1000), "runs": 64, "walks": 16_384, "key": 71210},
}

CLAIMS = [
    Claim(
        "S22-10",
        "sourbut2022",
        "mutation rates",
        "where every genome carries its own ln σ and mutates it first, mutation rates are selected: s forgets its start and goes "
        "where selection of σ and the fall of the distance from the minimum balance; P: under (1,λ) with τ = 1/√(2N) that is "
        "within a factor of 2 of the best s, while under (1+λ) σ collapses",
        _SETTINGS,
        run_rates,
        lambda settings: Needs(
            2.0 * settings["runs"] * settings["offspring"] * settings["time"] * sum(settings["sizes"])
            + settings["walks"] * settings["times"][-1] * settings["walk_size"],
            1e9,
            1e6,
        ),
        "sphere, λ = {offspring}, {runs} runs of {time:g}N generations from {starts[0]} and {starts[1]} times the best s; "
        "{walks} runs of (1+1)",
        expect_rates,
    ),
]
