"""W26-3: the slowdown against gradient descent on power-law quadratics is set by the effective rank, not by N."""

import itertools
import math
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

import mutagrad
from mutagrad import theory
from mutagrad.lab.claims.checks import Expected
from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.lab.claims.quadratics import STARTS, Quadratic, power_law
from mutagrad.lab.claims.whitelam2026.laws import (
    PLANNED,
    best_at_rank,
    between,
    planned_gain_error,
    rounded,
    step_moments,
)
from mutagrad.report.figures import panels

__all__ = ["CLAIMS"]


class _Law(NamedTuple):
    """What is known of a power law before a run: gradient descent itself, and the slowdown that theory gives.

    Attributes
    ----------
    losses : of gradient descent after 0, 1, … steps of 1/λ_max; exact.
    rank : r. along, participation : κ = ĝ·Hĝ/TrH and P at the start.
    """

    losses: np.ndarray
    rank: float
    along: float
    participation: float

    def best(self, number: int) -> tuple[float, float]:
        """The s at which a generation gains most at the start and that gain, with the rank to first order."""
        return best_at_rank(number, self.along, self.participation)

    def ratio(self, number: int) -> float:
        """What the rank makes of the generations: G_M(s*) over the gain with it."""
        return best_at_rank(number)[1] / self.best(number)[1]

    def slowdown(self, number: int) -> float:
        """Generations that have the gain of the first step of gradient descent, by theory.md 4.1, with the rank."""
        return self.rank * (1 - self.along * self.rank / 2) / self.best(number)[1]


@lru_cache
def _law(size: int, exponent: float, start: str, steps: int) -> _Law:
    curvatures = np.arange(1, size + 1, dtype=float) ** -exponent
    # Gradient descent on a diagonal quadratic, from λ_k x_k² = 1 or x_k = 1.
    shares = np.ones(size) if start == "even" else curvatures
    losses = [float(np.sum(shares * (1 - curvatures) ** (2 * step)) / 2) for step in range(steps + 1)]
    slopes = shares * curvatures
    trace = curvatures.sum()
    along = float(np.sum(slopes * curvatures) / np.sum(slopes) / trace)
    return _Law(np.array(losses), float(trace), along, float(trace**2 / np.sum(curvatures**2)))


def _growth_of_size(exponent: float, first: int, last: int) -> float:
    """Growth of N^(1−a), ln N or a constant."""
    return math.log(last) / math.log(first) if exponent == 1 else (last / first) ** max(0.0, 1 - exponent)


def _next_term(exponent: float, size: int) -> float:
    """What the next term of theory.md 4.2 adds to N^(1−a)/(1 − a), ln N or ζ(a), as a share of it."""
    if exponent == 1:
        return np.euler_gamma / math.log(size)
    if exponent < 1:
        return special.zeta(exponent) * (1 - exponent) * size ** (exponent - 1)
    return -(size ** (1 - exponent)) / (exponent - 1) / special.zeta(exponent)


def _form(exponent: float) -> str:
    if exponent == 1:
        return "ln N"
    return f"N^{1 - exponent:g}" if exponent < 1 else "a constant"


def _planned(law: _Law, number: int, runs: int, steps: int) -> float:
    """Relative standard error of the generations to a loss: of the mean gain of as many."""
    generations = max(law.slowdown(number) * steps, 1.0)
    return planned_gain_error(round(theory.optimal_strength(number), 6), number, runs * generations)


def _number_of_runs(settings: dict[str, Any], size: int, exponent: float) -> int:
    """More runs, up to six times as many, where r is smaller than on the first power law of that N."""
    ranks = [_law(size, one, "even", 0).rank for one in (settings["exponents"][0], exponent)]
    return settings["runs"][settings["sizes"].index(size)] * min(6, int(ranks[0] / ranks[1]))


def _grid(settings: dict[str, Any]) -> list[tuple[float, str]]:
    return list(itertools.product(settings["exponents"], STARTS))


def _names(settings: dict[str, Any], exponent: float, start: str) -> tuple[str, str]:
    between_sizes = f"N = {settings['sizes'][0]:,} to {settings['sizes'][-1]:,}"
    where = f"a = {exponent:g}, start {start}, {between_sizes}"
    return (
        f"growth of the slowdown over that of r, {where}",
        f"growth of the slowdown over that of {_form(exponent)}, {where}",
    )


def _own_names(exponent: float, start: str, size: int) -> tuple[str, str]:
    where = f"a = {exponent:g}, start {start}, N = {size:,}"
    return (
        f"generations for the first step over r/G_M(s*), {where}",
        f"generations over those of the mean course, {where}",
    )


_DOMAIN = 0.1
"""What a rank may take of the gain where the mean course, which sees none, is asked about: the tenth of theory.md 3.11."""


def expect_slowdown(settings: dict[str, Any]) -> list[Expected]:
    """The intervals of W26-3."""
    stated, sizes, number, steps = [], settings["sizes"], settings["num_offspring"], settings["steps"]
    for exponent, start in _grid(settings):
        runs = {size: _number_of_runs(settings, size, exponent) for size in sizes}
        laws = {size: _law(size, exponent, start, steps) for size in (sizes[0], sizes[-1])}
        error = math.hypot(*(_planned(law, number, runs[size], steps) for size, law in laws.items()))
        terms = [1 + _next_term(exponent, size) for size in (sizes[0], sizes[-1])]
        for name, order in zip(_names(settings, exponent, start), (1.0, terms[1] / terms[0]), strict=True):
            why = (
                f"the next term of r (docs/theory.md 4.2) makes it {order:.4g}, and the slowdown lies between r/2G and r/G "
                f"(4.1), perhaps at other ends for other N; six planned errors of {error:.1e}"
            )
            low, high = min(1.0, order) / 2, 2 * max(1.0, order)
            room = 1 + PLANNED * error
            stated.append(Expected(name, rounded(low / room), rounded(high * room), "theory", why))
        for size in sizes:
            law = _law(size, exponent, start, steps)
            name, course = _own_names(exponent, start, size)
            ratio, error = law.ratio(number), _planned(law, number, runs[size], 1)
            share = 1 - law.losses[1] / law.losses[0]
            falling = -math.log1p(-share) / share
            why = (
                "docs/theory.md 4.1: from ½ to 1, as the curvature lies along the gradient or not; the rank makes it "
                f"{ratio:.3g} times as much, within the square of what that is beyond 1, and that the loss falls by {share:.2g} "
                f"on the way makes it {falling:.3g} times as much (3.15); six planned errors of {error:.1e}"
            )
            low, high = 0.5 - PLANNED * error, (ratio + (ratio - 1) ** 2) * falling + PLANNED * error
            stated.append(Expected(name, rounded(low), rounded(high), "theory", why, True))
            if ratio - 1 < _DOMAIN:
                why = f"of a rank at the start of ĝ·Hĝ/TrH = {law.along:.2g} and (TrH)²/TrH² = {law.participation:.3g}"
                why += ", and half a generation"
                beyond = (ratio - 1) ** 2 + 0.5 / (law.slowdown(number) * steps)
                stated.append(between(course, ratio, beyond, _planned(law, number, runs[size], steps), why))
    return stated


def _crossing(losses: np.ndarray, target: float) -> float:
    """Generations after which a falling loss, from its value at 0 on, is at the target; between two by the logarithm."""
    after = int(np.argmax(losses <= target))
    if losses[after] > target or not after:
        return math.nan
    before, at = np.log(losses[after - 1]), np.log(losses[after])
    return float(after - 1 + (before - math.log(target)) / (before - at))


def _mean_course(quadratic: Quadratic, target: float, strength: float, number: int, most: int) -> float:
    """Generations to the target by theory.md 3.12: of the squares of the coordinates at a held s, no rank in the gain."""
    curvatures = np.asarray(quadratic.curvatures, float)
    squares = np.asarray(quadratic.start, float) ** 2
    trace = curvatures.sum()
    first, _, accepted = step_moments(strength, number)
    losses = [curvatures @ squares / 2]
    while losses[-1] > target and len(losses) <= most:
        norm = math.sqrt(np.sum(curvatures**2 * squares))
        sigma = strength * norm / trace
        # Exactly over one generation, at the σ and the |∇U| of its beginning.
        rate = 2 * first * sigma / norm * curvatures
        squares = squares * np.exp(-rate) - accepted * sigma**2 * np.expm1(-rate) / rate
        losses.append(curvatures @ squares / 2)
    return _crossing(np.array(losses), target)


@partial(jax.jit, static_argnames=("number", "most"))
def _run(
    key: jax.Array, curvatures: jax.Array, start: jax.Array, target: Any, strength: Any, number: int, most: int
) -> jax.Array:
    """Losses of (1+M) with σ = s|∇U|/TrH in every generation, until 5 % under the target and held there: (most + 1,)."""
    algorithm, quadratic = mutagrad.elitist(1.0, number), Quadratic(curvatures, start)
    trace = jnp.sum(curvatures)

    def going(carry):
        index, _, losses = carry
        return (index < most) & (losses[index] > 0.95 * target)

    def body(carry):
        index, state, losses = carry
        norm = jnp.linalg.norm(curvatures * state.params)
        state = state.with_sigma(strength / trace * norm)
        state, _ = algorithm.step(jax.random.fold_in(key, index), state, quadratic.losses)
        return index + 1, state, losses.at[index + 1].set(quadratic.loss(state.params))

    losses = jnp.zeros(most + 1).at[0].set(quadratic.loss(start))
    index, _, losses = jax.lax.while_loop(going, body, (jnp.int32(0), algorithm.init(start), losses))
    return jnp.where(jnp.arange(most + 1) > index, losses[index], losses)


def _measured(losses: np.ndarray, target: float) -> tuple[float, float]:
    """Generations after which the mean loss over runs is at the target, and its standard error.

    The error is that of the sum of so many relative gains, which are independent: their variance is half the mean square
    difference of successive ones, which a slow fall of the mean does not touch.
    """
    generations = _crossing(losses.mean(0), target)
    if not math.isfinite(generations):
        return math.nan, math.nan
    gains = -np.diff(np.log(losses[:, : max(math.ceil(generations), 3) + 1]), axis=1)
    variance = np.mean(np.diff(gains, axis=1) ** 2) / 2
    last = gains[:, max(math.ceil(generations) - 3, 0) : math.ceil(generations)].mean()
    return generations, float(math.sqrt(variance * generations / len(losses)) / last)


def run_slowdown(job: Job) -> Outcome:
    """Generations of (1+M) to the loss that gradient descent has after its steps, for every exponent, N and start."""
    import xarray

    sizes, steps, number = job["sizes"], job["steps"], job["num_offspring"]
    grid, found = _grid(job.settings), {}
    slowdown, error, first, first_error, course, upper = np.empty((6, len(grid), len(sizes)))
    costs = np.empty((len(grid), len(sizes)))
    for (i, (exponent, start)), (j, size) in itertools.product(enumerate(grid), enumerate(sizes)):
        law = _law(size, exponent, start, 0)
        costs[i, j] = law.slowdown(number) * size * _number_of_runs(job.settings, size, exponent)
        upper[i, j] = law.rank / best_at_rank(number)[1]
    for (i, (exponent, start)), (j, size) in itertools.product(enumerate(grid), enumerate(sizes)):
        law, quadratic = _law(size, exponent, start, steps), power_law(size, exponent, start)
        strength, target = law.best(number)[0], law.losses[-1]
        most = math.ceil(job["room"] * steps * upper[:, j].max())
        count = _number_of_runs(job.settings, size, exponent)
        name = f"power law {exponent:g} {start} N {size} elitist {number} steps {steps} runs {count} key {job['key']}"
        kept = job.load(name)
        if kept is None:
            key = jax.random.fold_in(jax.random.fold_in(job.key, i), j)
            held = jnp.float32(target), jnp.float32(strength), number, most
            runs = [_run(one, *quadratic, *held) for one in jax.random.split(key, count)]
            kept = {"losses": np.stack(runs).astype(float)}
            job.keep(name, kept, is_last=True)
        slowdown[i, j], error[i, j] = np.array(_measured(kept["losses"], target)) / steps
        first[i, j], first_error[i, j] = _measured(kept["losses"], law.losses[1])
        course[i, j] = _mean_course(quadratic, target, strength, number, most) / steps
        name, by_course = _own_names(exponent, start, size)
        found[name] = (first[i, j] / upper[i, j], first_error[i, j] / upper[i, j])
        if law.ratio(number) - 1 < _DOMAIN:
            found[by_course] = (slowdown[i, j] / course[i, j], error[i, j] / course[i, j])
        done = costs[:i].sum() + costs[i, : j + 1].sum()
        job.progress(done / costs.sum())
    for i, (exponent, start) in enumerate(grid):
        growth = slowdown[i, -1] / slowdown[i, 0]
        relative = math.hypot(error[i, -1] / slowdown[i, -1], error[i, 0] / slowdown[i, 0])
        # r is G_M(s*) times the upper end of its law.
        growths = upper[i, -1] / upper[i, 0], _growth_of_size(exponent, sizes[0], sizes[-1])
        for name, of in zip(_names(job.settings, exponent, start), growths, strict=True):
            found[name] = (growth / of, growth / of * relative)
    shape, dims = (len(job["exponents"]), len(STARTS), len(sizes)), ("exponent", "start", "size")
    values = {"slowdown": slowdown, "slowdown_error": error, "first": first, "first_error": first_error}
    data = xarray.Dataset(
        {name: (dims, one.reshape(shape)) for name, one in (values | {"course": course, "upper": upper}).items()},
        coords={"exponent": list(job["exponents"]), "start": list(STARTS), "size": list(sizes)},
        attrs={"num_offspring": number, "steps": steps},
    )
    return Outcome(found, data, draw_slowdown)


def draw_slowdown(data: Any) -> Any:
    """Slowdown against N for every exponent, over all steps of gradient descent and over the first."""
    figure, axes = panels(2)
    number, steps = data.attrs["num_offspring"], data.attrs["steps"]
    gain = float(theory.expected_gain(theory.optimal_strength(number), number))
    sizes = np.unique(np.round(np.geomspace(data["size"].values[0], data["size"].values[-1], 30)).astype(int))
    for axis, what, title in zip(
        axes, ("slowdown", "first"), (f"{steps} steps of gradient descent", "first step"), strict=True
    ):
        for colour, exponent in enumerate(data.exponent.values):
            rank = np.array([np.sum(np.arange(1, size + 1, dtype=float) ** -exponent) for size in sizes])
            label = f"a = {exponent:g}"
            axis.fill_between(
                sizes, rank / (2 * gain), rank / gain, color=f"C{colour}", alpha=0.25, linewidth=0, label=label
            )
            for start, marker, shift in zip(STARTS, "ox", (0.94, 1.06), strict=True):
                one = data.sel(exponent=exponent, start=start)
                place, errors = one["size"] * shift, 3 * one[f"{what}_error"]
                axis.errorbar(place, one[what], errors, fmt=marker, color=f"C{colour}", markersize=5, linewidth=1)
        axis.plot(sizes, sizes / gain, color="0.6", linestyle="--", linewidth=1, label="N/G$_M$(s*)")
        for marker, start in (("ko", "start x$_k$ = λ$_k^{-1/2}$"), ("kx", "start x$_k$ = 1")):
            axis.plot([], [], marker, linestyle="none", markersize=5, label=start)
        axis.set(xscale="log", yscale="log", xlabel="parameters N", ylabel="generations per step of gradient descent")
        axis.set(ylim=(0.3, 2 * float(data.slowdown.max())))
        axis.set_title(f"{title}; bands: r/2G$_M$(s*) to r/G$_M$(s*)", fontsize=10)
    axes[0].legend(frameon=False, fontsize=8)
    return figure


_SLOWDOWN = {
    "quick": {
        "exponents": (0.5, 0.8, 1.0, 1.3), "sizes": (100, 1000, 10_000, 100_000), "runs": (400, 100, 8, 1), "steps": 3,
        "num_offspring": 20, "room": 4.0, "key": 2632,
    },
    "long": {
        "exponents": (0.5, 0.8, 1.0, 1.3), "sizes": (100, 1000, 10_000, 100_000), "runs": (400, 200, 100, 20), "steps": 30,
        "num_offspring": 20, "room": 4.0, "key": 2632,
    },
    "paper": {
        "exponents": (0.5, 0.8, 1.0, 1.3), "sizes": (100, 300, 1000, 3000, 10_000, 30_000, 100_000),
        "runs": (1000, 1000, 300, 300, 100, 100, 50), "steps": 30, "num_offspring": 20, "room": 4.0, "key": 2632,
    },
}  # fmt: skip


def _needs(settings: dict[str, Any]) -> Needs:
    """Coordinates that are mutated, a million of them counting as one evaluation."""
    cost = 0.0
    for exponent, _ in _grid(settings):
        for size, runs in zip(settings["sizes"], settings["runs"], strict=True):
            rank = size ** max(0.0, 1 - exponent) / max(1 - exponent, 0.2)
            more = min(6.0, 2 * math.sqrt(size) / rank)
            cost += rank * settings["steps"] * settings["num_offspring"] * size * runs * more / 1e6
    return Needs(cost, 1e9, 1e7)


CLAIMS = [
    Claim(
        "W26-3",
        "whitelam2026",
        "slowdown",
        "the slowdown against gradient descent is set by r = TrH/λ_max, not by N: on power laws N^(1−a), ln N, constant; P: for "
        "one step of it lies between r/(2G_M(s*)) and r/G_M(s*), and for more it is that of the mean course",
        _SLOWDOWN,
        run_slowdown,
        _needs,
        "generations of (1+{num_offspring}) at the best s of its start to the loss of {steps} steps of gradient descent of rate "
        "1/λ$_{{max}}$, over {steps}; λ$_k$ = k$^{{−a}}$",
        expect_slowdown,
    ),
]
