"""S22-8: momentum, where parents pass on a part of their last accepted mutation."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize, special

import mutagrad
from mutagrad.lab.claims.checks import PLANNED, Expected, near
from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.report.figures import panels

__all__ = ["CLAIMS", "heritable"]

_AT_ZERO = {"metropolis": 1.0, "logistic": 0.5}
"""Acceptance of a mutation that changes nothing, A(0)."""
_BLOCKS, _AT_ONCE = 16, 2048
_RATE = "learning rate on a slope over ½βA(0)σ²/(1 − m), {}, m = {:g}"
_MOMENTUM = "1 less the effective momentum over A(0)(1 − m), {}, m = {:g}"
_FIRST = "first step on a slope over that of ½βA(0)σ²/(1 − m²), {}, m = {:g}"
_HEAVY = "mean of x over its start on a quadratic where heavy ball is lowest, m = {:g}"
_LOWEST = "mean of x over its start on a quadratic where the law of moments is lowest, m = {:g}"


def heritable(kept: float, sigma: float) -> mutagrad.Mutation:
    """The mutation of a genome that carries its last mutation v: v' = mv + σz, then x' = x + v'.

    For params {"x": (n,), "v": (n,)}, in an algorithm of that σ, which multiplies the noise. An offspring that is not accepted
    leaves its parent with the v that it had.
    """

    def sample(key: jax.Array, params: Any) -> Any:
        z = jax.random.normal(key, params["x"].shape)
        last = params["v"] / sigma
        return {"x": z + kept * last, "v": z - (1 - kept) * last}

    return mutagrad.Mutation(sample, "heritable", {"kept": kept})


def response(rule: str, kept: float, generations: int) -> np.ndarray:
    """Mean steps on a slope that begins at generation 0, over −½βA(0)σ²g, to first order in β (theory.md 11.7).

    On a flat loss v is normal of variance V = σ²/(1 − m²), and a mutation w = mv + σz has that variance too, and the covariance
    mV with v. A slope adds −½βA(0)(g·w) to an acceptance of A(0), so that with κ = ½βA(0)V

        E[Δx] = A(0) m v̄ − κg,    v̄' = (1 − A(0)(1 − m)) v̄ − κ(1 − m)g.

    The first step is −κg. With μ = 1 − A(0)(1 − m) the steps rise to −κ(1 + m)g as μᵗ falls.
    """
    momentum = 1 - _AT_ZERO[rule] * (1 - kept)
    return (1 + kept * (1 - momentum ** np.arange(generations))) / (1 - kept**2)


def path(kept: float, steepness: float, start: float, generations: int) -> np.ndarray:
    """Mean of x over its start on x²/2 under logistic selection, x and v taken as normal; the start in units of √V.

    The first order of `response` is not enough here: where x relaxes as fast as v is forgotten, x and v become correlated, and
    mutations that are kept for long carry x to where the slope is steep. Means and covariances follow from moments of
    z, x and v of degree two times the acceptance, by quadrature.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(9)
    normal = np.stack(np.meshgrid(nodes, nodes, nodes, indexing="ij"), axis=-1).reshape(-1, 3)
    weight = np.prod(np.stack(np.meshgrid(weights, weights, weights, indexing="ij"), axis=-1).reshape(-1, 3), axis=1)
    weight /= weight.sum()
    # V = 1, so that κ = ¼β.
    sigma, beta = math.sqrt(1 - kept**2), 4 * steepness
    mean, covariance, found = np.array([start, 0.0]), np.diag([1e-9, 1.0]), []
    for _ in range(generations):
        found.append(mean[0])
        before = mean + normal[:, :2] @ np.linalg.cholesky(covariance).T
        step = kept * before[:, 1] + sigma * normal[:, 2]
        after = np.stack([before[:, 0] + step, step], axis=1)
        accepted = special.expit(-beta * (after[:, 0] ** 2 - before[:, 0] ** 2) / 2)
        squares = [np.einsum("ni,nj,n->ij", *(one, one, share)) for one, share in (
            (before, weight * (1 - accepted)), (after, weight * accepted),
        )]  # fmt: skip
        mean = (weight * (1 - accepted)) @ before + (weight * accepted) @ after
        covariance = sum(squares) - np.outer(mean, mean)
    return np.array(found) / start


def heavy_ball(kept: float, steepness: float, generations: int) -> np.ndarray:
    """x over its start of heavy ball with the same learning rate on a slope, and the same momentum a generation."""
    momentum = (1 + kept) / 2
    rate = steepness * (1 + kept) * (1 - momentum)
    x, step, found = 1.0, 0.0, []
    for _ in range(generations):
        found.append(x)
        step = momentum * step - rate * x
        x += step
    return np.array(found)


_PLANNED_ERRORS = np.array([0.0025, 0.01, 0.028])
_PLANNED_STEPS = 24e6
"""Errors of learning rate, first step and 1 − momentum that trials with other keys had, of so many generations in all."""
_PLANNED_COURSE, _PLANNED_PAIRS = 0.005, 196_608
"""Error of the mean on a quadratic, of so many pairs of lineages, likewise."""


def _lineages(settings: dict[str, Any], rule: str, kept: float) -> int:
    """Lineages whose generations are as many as stated, in whole blocks."""
    return max(1, round(settings["steps"] / _generations(rule, kept) / _BLOCKS / _AT_ONCE)) * _BLOCKS * _AT_ONCE


def _generations(rule: str, kept: float) -> int:
    """Six times the memory of the slower rule."""
    return math.ceil(6 / (_AT_ZERO[rule] * (1 - kept)))


def _next_orders(rule: str, b: float) -> tuple[float, float, float]:
    """What learning rate, first step and 1 − momentum are over their first order in b, by the next one.

    A(y) − A(−y) is −y(1 − |y|/2) for Metropolis selection, for y > 0 or not, and −½y(1 − y²/12) for logistic. A normal y of
    variance b² has E|y|³/E[y²] = √(8/π)b and E[y⁴]/E[y²] = 3b². Metropolis accepts a share 1 − b/√2π of what a flat loss would,
    and prefers short mutations, so that V is less by the share b/√2π.
    """
    if rule == "logistic":
        return 1 - b**2 / 4, 1 - b**2 / 4, 1.0
    share = b / math.sqrt(2 * math.pi)
    return 1 - 3 * share, 1 - 2 * share, 1 - share


def expect_momentum(settings: dict[str, Any]) -> list[Expected]:
    """The intervals of S22-8."""
    stated, freedom = [], _BLOCKS - 1
    for rule, at_zero in _AT_ZERO.items():
        b = settings["slopes"][rule]
        orders, errors = _next_orders(rule, b), _PLANNED_ERRORS * math.sqrt(_PLANNED_STEPS / settings["steps"])
        for kept in settings["kept"]:
            others = (
                f"without memory it is {1 - kept:.2g}",
                f"heavy ball has {1 - kept**2:.2g}",
                f"the memory of unselected mutations has {1 / at_zero:g}, and none has {1 / (at_zero * (1 - kept)):.2g}",
            )
            for name, value, error, other in zip((_RATE, _FIRST, _MOMENTUM), orders, errors, others, strict=True):
                # Of logistic selection all orders are even.
                following = 5 * b**2 if rule == "metropolis" else b**4
                room = following + PLANNED * error
                why = (
                    f"{value:.3f} with the first correction in b = {b:g}; {following:.1e} for the next, 5b² with Metropolis as "
                    f"trials with other keys found it, and six errors of {error:.1e}; {other}"
                )
                what = name.format(rule, kept)
                stated.append(near(what, value, room, "trial", why, ours=name == _FIRST, freedom=freedom))
    kept, generations = settings["kept_on_quadratic"], _long(settings["kept_on_quadratic"])
    lowest = float(path(kept, (1 - kept) / 2, settings["start"], generations).min())
    heavy = float(heavy_ball(kept, (1 - kept) / 2, generations).min())
    error, room = _PLANNED_COURSE * math.sqrt(_PLANNED_PAIRS / settings["pairs"]), settings["not_normal"]
    why = f"{heavy:.3f}, and six errors of {error:.1e}"
    stated.append(near(_HEAVY.format(kept), heavy, PLANNED * error, "error", why, freedom=freedom))
    why = (
        f"{lowest:.3f}, were x and v normal; {room:.2g} since they are not quite, as trials with other keys found it, and six "
        f"errors of {error:.1e}; heavy ball has {heavy:.2f} at its lowest"
    )
    stated.append(near(_LOWEST.format(kept), lowest, room + PLANNED * error, "trial", why, ours=True, freedom=freedom))
    return stated


def _long(kept: float) -> int:
    """Generations in which the mean goes through its lowest value."""
    return math.ceil(12 / (1 - kept))


def _courses(
    key: jax.Array,
    algorithm: mutagrad.Algorithm,
    losses: Any,
    start: float,
    spread: float,
    lineages: int,
    generations: int,
) -> np.ndarray:
    """(16, T + 1) mean of x in blocks of lineages, half the difference of two with the same random numbers.

    One has the loss ``losses[0]`` and starts at ``start``, the other ``losses[1]`` and at −start, so that what is even in the
    slope and most of the noise go out. v starts as it is on a flat loss.
    """

    def one(key: jax.Array) -> jax.Array:
        own, first = jax.random.split(key)
        v = spread * jax.random.normal(first, (1,))

        def ends(sign: int, loss_fn: Any) -> jax.Array:
            def body(state: Any, generation: jax.Array) -> tuple[Any, jax.Array]:
                state = algorithm.step(
                    jax.random.fold_in(own, generation), state, lambda params: loss_fn(params["x"][0])
                )[0]
                return state, state.params["x"][0]

            state = algorithm.init({"x": jnp.full(1, sign * start), "v": v})
            return jax.lax.scan(body, state, jnp.arange(generations))[1]

        half = (ends(1, losses[0]) - ends(-1, losses[1])) / 2
        return jnp.concatenate([jnp.full(1, start), half])

    def block(key: jax.Array) -> jax.Array:
        keys = jax.random.split(key, (lineages // _BLOCKS // _AT_ONCE, _AT_ONCE))
        return jnp.mean(jax.lax.map(lambda some: jnp.mean(jax.vmap(one)(some), axis=0), keys), axis=0)

    return np.asarray(jax.jit(lambda keys: jax.lax.map(block, keys))(jax.random.split(key, _BLOCKS)), float)


def _fitted(steps: np.ndarray) -> np.ndarray:
    """First step, last step and 1 − momentum of steps that rise as momentum^t falls, by least squares of the mean of x."""
    time = np.arange(1, len(steps) + 1)

    def law(time: np.ndarray, first: float, last: float, memory: float) -> np.ndarray:
        return last * time - (last - first) * -np.expm1(time * np.log1p(-memory)) / memory

    guess = (steps[0], steps[len(steps) // 2 :].mean(), 6 / len(steps))
    bounds = ([-np.inf, -np.inf, 1e-4], [np.inf, np.inf, 0.999])
    return optimize.curve_fit(law, time, np.cumsum(steps), guess, sigma=np.sqrt(time), bounds=bounds)[0]


def _jackknife(values: np.ndarray, of: Any) -> np.ndarray:
    """``of`` the mean over blocks, and its error by leaving out one block at a time."""
    without = np.stack([of(np.delete(values, index, axis=0).mean(0)) for index in range(len(values))])
    spread = without - without.mean(0)
    return np.stack([of(values.mean(0)), np.sqrt((len(values) - 1) / len(values) * np.sum(spread**2, axis=0))])


def run_momentum(job: Job) -> Outcome:
    """Mean steps on a slope that begins at once, and the mean course on a quadratic."""
    import xarray

    found: dict[str, Any] = {}
    shown, sigma = {}, 1.0
    parts = len(_AT_ZERO) * len(job["kept"]) + 1
    for i, (rule, at_zero) in enumerate(_AT_ZERO.items()):
        for j, kept in enumerate(job["kept"]):
            spread = sigma / math.sqrt(1 - kept**2)
            # b is the slope that a mutation meets, of the part that is kept too.
            beta = job["slopes"][rule] / spread
            algorithm = getattr(mutagrad, rule)(sigma, beta, mutation=heritable(kept, sigma))
            losses, key = (lambda x: x, lambda x: -x), jax.random.fold_in(job.key, 10 * i + j)
            generations = _generations(rule, kept)
            courses = _courses(key, algorithm, losses, 0.0, spread, _lineages(job.settings, rule, kept), generations)
            steps = -np.diff(courses, axis=1) / (beta * at_zero * sigma**2 / 2)
            unit = np.array([1 / (1 - kept**2), 1 / (1 - kept), at_zero * (1 - kept)])
            fits = _jackknife(steps, _fitted) / unit
            first = _jackknife(steps, lambda one: one[0]) / unit[0]
            found[_FIRST.format(rule, kept)] = first
            found[_RATE.format(rule, kept)] = fits[:, 1]
            found[_MOMENTUM.format(rule, kept)] = fits[:, 2]
            shown[f"{rule} {kept:g}"] = steps.mean(0)
            job.progress((i * len(job["kept"]) + j + 1) / parts)
    kept = job["kept_on_quadratic"]
    steepness, spread, generations = (1 - kept) / 2, sigma / math.sqrt(1 - kept**2), _long(kept)
    # κλ = ¼βλV is the steepness, with λ = 1.
    algorithm = mutagrad.logistic(sigma, 4 * steepness / spread**2, mutation=heritable(kept, sigma))
    losses, start = (lambda x: x**2 / 2,) * 2, job["start"] * spread
    courses = (
        _courses(jax.random.fold_in(job.key, 100), algorithm, losses, start, spread, job["pairs"], generations) / start
    )
    # Where a law has it lowest: the lowest of noisy values would be too low.
    laws = path(kept, steepness, job["start"], generations), heavy_ball(kept, steepness, generations)
    for name, law in zip((_LOWEST, _HEAVY), laws, strict=True):
        found[name.format(kept)] = _jackknife(courses[:, np.argmin(law)], lambda one: one)
    data = xarray.Dataset(
        {name: (f"generation {name}", steps) for name, steps in shown.items()}
        | {"course": (("block", "time"), courses)}
        | {"law of the course": (("which", "time"), np.stack([np.append(law, np.nan) for law in laws]))},
        attrs={"kept": list(job["kept"]), "on quadratic": kept},
    )
    return Outcome({name: tuple(value) for name, value in found.items()}, data, draw_momentum)


def draw_momentum(data: Any) -> Any:
    """Mean steps after a slope begins, and the mean of x on a quadratic beside heavy ball."""
    figure, (left, right) = panels(2)
    for colour, kept in enumerate(data.attrs["kept"]):
        for rule, marker in zip(_AT_ZERO, "os", strict=True):
            steps = data[f"{rule} {kept:g}"].values
            law = response(rule, kept, len(steps))
            left.plot(
                steps * (1 - kept),
                marker,
                markersize=3,
                fillstyle="none",
                color=f"C{colour}",
                label=f"{rule}, m = {kept:g}",
            )
            left.plot(law * (1 - kept), color=f"C{colour}", linewidth=1)
            momentum = 1 - _AT_ZERO[rule] * (1 - kept)
            left.plot(1 - momentum ** np.arange(1, len(steps) + 1), ":", color=f"C{colour}", linewidth=0.8)
    left.plot([], [], "k", linewidth=1, label="law")
    left.plot([], [], "k:", linewidth=0.8, label="heavy ball of that momentum")
    left.set(xlabel="generations since the slope began", ylabel="mean step over −½βA(0)σ²g/(1 − m)", ylim=(0, 1.2))
    kept = float(data.attrs["on quadratic"])
    course, time = data.course.values, np.arange(data.course.shape[1])
    error = course.std(0, ddof=1) / math.sqrt(_BLOCKS)
    right.fill_between(time, course.mean(0) - 3 * error, course.mean(0) + 3 * error, alpha=0.3, linewidth=0)
    right.plot(time, course.mean(0), linewidth=1.5, label="measured, ±3 errors")
    for law, style, label in zip(
        data["law of the course"].values, ("k--", "k:"), ("law of moments", "heavy ball"), strict=True
    ):
        right.plot(time, law, style, linewidth=1, label=label)
    right.axhline(0, color="0.7", linewidth=0.8)
    right.set(xlabel="generations", ylabel="mean of x over its start")
    right.set_title(f"quadratic, logistic, m = {kept:g}", fontsize=10)
    for axis in (left, right):
        axis.legend(frameon=False, fontsize=8)
    return figure


_COMMON = {
    "kept": (0.5, 0.9), "slopes": {"metropolis": 0.05, "logistic": 0.2}, "kept_on_quadratic": 0.95, "start": 1.5,
    "not_normal": 0.015,
}  # fmt: skip

_SETTINGS = {
    "quick": _COMMON | {"steps": 24_000_000, "pairs": 196_608, "key": 71208},
    "paper": _COMMON | {"steps": 600_000_000, "pairs": 4_194_304, "key": 71208},
}


def _evaluations(settings: dict[str, Any]) -> float:
    slopes = len(_AT_ZERO) * len(settings["kept"]) * settings["steps"]
    return 4.0 * (slopes + settings["pairs"] * _long(settings["kept_on_quadratic"]))


CLAIMS = [
    Claim(
        "S22-8",
        "sourbut2022",
        "momentum",
        "parents that pass on a share m of their last accepted mutation have the learning rate of heavy ball, ½βA(0)σ²/(1 − m), "
        "and its momentum, m an accepted step, on a slope, and go its way on a quadratic; P: mutations that are longer by "
        "1/√(1 − m²) show a share 1/(1 + m) of the response at once, and on a quadratic the mean overshoots by less than half",
        _SETTINGS,
        run_momentum,
        lambda settings: Needs(_evaluations(settings), 2e9, 1e6),
        "pairs of lineages, of {steps} generations in all on each slope, and {pairs} on a quadratic",
        expect_momentum,
    ),
]
