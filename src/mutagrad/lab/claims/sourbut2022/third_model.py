"""S22-5: many mutations in flight that mix freely; the part of the genome that all share follows the gradient."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import mutagrad
from mutagrad import theory
from mutagrad.lab.claims.checks import PLANNED, Expected, below, near
from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.lab.claims.sourbut2022.bent_slope import SIZES, Place, alone, place_of, planned, step_of
from mutagrad.lab.claims.sourbut2022.turnover import turnover_of
from mutagrad.report.figures import panels

__all__ = ["CLAIMS"]

_TO_NOTHING = np.array([1 / 3, -2.0, 8 / 3])
"""Weights at which a parabola through the values at the three sizes is at 0."""
_LIMIT = {
    "turn": "tangent of the turn from −∇U, away from steep directions, three sizes extrapolated to σ = 0, free",
    "length": "mean step of the fixed part along −∇U over ½μνβσ²|∇U|, three sizes extrapolated to σ = 0, free",
}
_ORDER = {
    "turn": "turn per σ² over that of the next order, three sizes extrapolated to σ = 0, free",
    "length": "shortening per σ² over that of the next order, three sizes extrapolated to σ = 0, free",
}
_CHANCE = "what births by chance move the mean genome by, over its error: mean square over all components"


def _cases(settings: dict[str, Any]) -> list[tuple[str, int, int]]:
    """Recombination, size and generations: all sizes of free recombination, which is the first, and the second of the others."""
    free = [("free", i, number) for i, number in enumerate(settings["generations"])]
    return free + [(kind, 1, settings["other_generations"]) for kind in settings["mixing"][1:]]


def _name(what: str, kind: str, i: int) -> str:
    of = f"σ² = σ₀²/{2**i}, {kind}"
    return {
        "turn": f"tangent of the turn from −∇U, away from steep directions, {of}",
        "length": f"mean step of the fixed part along −∇U over ½μνβσ²|∇U|, {of}",
        "off": f"square of the mean step off the plane of ∇U and H∇U, over that along −∇U, {of}",
    }[what]


def expect_gradient(settings: dict[str, Any]) -> list[Expected]:
    """The intervals of S22-5."""
    place, stated, errors = place_of(settings), [], []
    for kind, i, generations in _cases(settings):
        turn, shorter = step_of(settings, kind, place.sigmas[i])
        across, along = planned(settings, kind, place.sigmas[i], generations)
        errors.append((across, along))
        own = alone(settings, kind)
        why = f"{turn:.3g} to next order, known to {shorter:.2g} of it, and six planned errors of {across:.2g}; "
        why += f"{turn * (1 + own) / 2:.2g} without associations, and {turn * own:.2g} if mutations came one at a time"
        room = turn * shorter + PLANNED * across
        stated.append(near(_name("turn", kind, i), turn, room, "theory", why, ours=True))
        why = f"shorter by {shorter:.2g}, the order after it, {shorter**2:.2g}, and six planned errors of {along:.2g}; n for "
        why += f"n − 1 is longer by {1 / (settings['population'] - 1):.2g}"
        room = shorter**2 + PLANNED * along
        stated.append(near(_name("length", kind, i), 1 - shorter, room, "theory", why, ours=True))
        spread = math.sqrt(2 * (settings["size"] - 2)) * across**2
        why = f"curvature leaves the plane by the order after the next, {shorter**2:.2g}; six planned errors of {spread:.2g}"
        stated.append(near(_name("off", kind, i), 0, shorter**4 + PLANNED * spread, "theory", why))
    # A parabola through three sizes leaves the fourth order, by the product of the sizes.
    own = alone(settings, "free")
    turn, shorter = step_of(settings, "free", place.sigmas[0])
    left, over = shorter**3 * math.prod(SIZES), _TO_NOTHING / np.array(SIZES)
    across, along = np.array(errors[: len(SIZES)]).T
    for what, one, first, source in (("turn", across, turn, "−∇U"), ("length", along, shorter, "")):
        error, value = float(np.linalg.norm(_TO_NOTHING * one)), 0.0 if source else 1.0
        why = f"{left:.2g} for the fourth order and six planned errors of {error:.2g}"
        why += "" if source else f"; n for n − 1 is longer by {1 / (settings['population'] - 1):.2g}"
        stated.append(near(_LIMIT[what], value, left + PLANNED * error, "theory", why, ours=not source))
        error = float(np.linalg.norm(over * one)) / first
        why = f"{left:.2g} for the order after that of a parabola, and six planned errors of {error:.2g}; "
        why += f"{(1 + own) / 2:.2g} for a turn without associations, and {own:.2g} one at a time"
        stated.append(near(_ORDER[what], 1, left + PLANNED * error, "theory", why, ours=True))
    number = settings["size"] * len(errors)
    why = f"1 if parents are drawn by fitness; then what it leaves has the mean of the fixed part; {number} components"
    stated.append(below(_CHANCE, 1 + PLANNED * math.sqrt(2 / number), "error", why))
    return stated


def _runs(settings: dict[str, Any], kind: str) -> Callable[[jax.Array, float, int], tuple[np.ndarray, np.ndarray]]:
    """``run(key, sigma, generations)`` of many populations, by how much a generation moves the fixed part, and chance.

    Genomes are judged at the same point all the time: by the loss there of their difference from the mean genome. Chance is what
    the mean genome moves by beyond what it must in the mean: that of its parents, weighed by fitness. Its mean is 0. Both are
    (runs, N).
    """
    place, rates = place_of(settings), {"crossover": settings["crossovers"], "transfer": settings["transfer"]}
    slope, curvatures = jnp.asarray(place.gradient, jnp.float32), jnp.asarray(place.curvatures, jnp.float32)
    algorithm = mutagrad.population(
        1.0, 1.0, settings["population"], settings["rate"], recombination=kind, recombination_rate=rates.get(kind),
        capacity=settings["capacity"],
    )  # fmt: skip

    @jax.jit
    def run(keys, sigma, generations):
        def one(key):
            def body(i, carry):
                state, selected, dropped = carry
                own = jax.random.fold_in(key, i)
                genomes = algorithm.ask(own, state).stacked()
                apart = genomes - jnp.mean(genomes, axis=0, keepdims=True)
                losses = apart @ slope + jnp.square(apart) @ curvatures / 2
                state, info = algorithm.tell(own, state, losses)
                selected += jax.nn.softmax(-losses) @ apart
                return state, selected, dropped + turnover_of(info).num_dropped

            def beyond(state):
                return jnp.mean(algorithm.ask(key, state).stacked(), axis=0) - state.ancestor

            size = settings["size"]
            start = algorithm.init(jnp.zeros(size)).with_sigma(sigma), jnp.zeros(size), jnp.int32(0)
            first, early, _ = before = jax.lax.fori_loop(0, settings["burn"], body, start)
            last, late, dropped = jax.lax.fori_loop(settings["burn"], settings["burn"] + generations, body, before)
            moved = last.ancestor - first.ancestor
            chance = moved + beyond(last) - beyond(first) - (late - early)
            return moved / generations, chance / generations, dropped

        return jax.vmap(one)(keys)

    def moves(key: jax.Array, sigma: float, generations: int) -> tuple[np.ndarray, np.ndarray]:
        moved, chance, dropped = run(jax.random.split(key, settings["runs"]), jnp.float32(sigma), generations)
        assert not np.any(dropped), "capacity: a mutation found no place; pass a larger one"
        return np.asarray(moved, float), np.asarray(chance, float)

    return moves


def _measured(moves: np.ndarray, place: Place, unit: float) -> tuple[np.ndarray, np.ndarray]:
    """Turn, step along −∇U over ``unit``, and square off the plane, and their errors over runs.

    The square of what is off is without bias. It is near 0, so that its error is that of a square about 0.
    """
    downhill, flat = -place.gradient / np.linalg.norm(place.gradient), place.across / np.linalg.norm(place.across)
    number, along, turned = len(moves), moves @ downhill, moves @ flat
    off = moves - np.outer(along, downhill) - np.outer(turned, flat)
    length, spread = along.mean(), np.cov(off.T) / number
    tangent = turned.mean() / length
    values = tangent, length / unit, (np.sum(off.mean(0) ** 2) - np.trace(spread)) / length**2
    rest = turned - tangent * along
    errors = (
        rest.std(ddof=1) / length / math.sqrt(number),
        along.std(ddof=1) / unit / math.sqrt(number),
        math.sqrt(2 * np.sum(spread**2) + 4 * off.mean(0) @ spread @ off.mean(0)) / length**2,
    )
    return np.array(values), np.array(errors)


def run_gradient(job: Job) -> Outcome:
    """Mean steps of the fixed part of independent populations at one point, for every σ and way to mix."""
    import xarray

    settings, place = job.settings, place_of(job.settings)
    cases, found, squares = _cases(settings), {}, []
    values, errors = np.empty((2, len(cases), 3))
    every = sum(generations for _, _, generations in cases)
    done, runs = 0, {kind: _runs(settings, kind) for kind in settings["mixing"]}
    for row, (kind, i, generations) in enumerate(cases):
        name = f"moves {kind} {i} of {sorted(settings.items())}"
        kept = job.load(name)
        if kept is None:
            both = runs[kind](jax.random.fold_in(job.key, row), place.sigmas[i], generations)
            kept = dict(zip(("moves", "chance"), both, strict=True))
        job.keep(name, kept, is_last=True)
        chance = kept["chance"]
        squares.append(len(chance) * chance.mean(0) ** 2 / chance.var(0, ddof=1))
        rates = theory.population.learning_rates(
            float(place.sigmas[i]), 1.0, settings["population"], settings["rate"], "wright_fisher"
        )
        unit = rates.per_generation * float(np.linalg.norm(place.gradient))
        values[row], errors[row] = _measured(kept["moves"] - chance, place, unit)
        for column, what in enumerate(("turn", "length", "off")):
            found[_name(what, kind, i)] = (values[row, column], errors[row, column])
        done += generations
        job.progress(done / every)
    found |= _limits(settings, values, errors)
    found[_CHANCE] = (np.mean(squares), math.sqrt(2 / np.size(squares)))
    data = xarray.Dataset(
        {
            "value": (("case", "what"), values),
            "error": (("case", "what"), errors),
            "size": ("case", [SIZES[i] for _, i, _ in cases]),
            "order": ("part", list(step_of(settings, "free", place.sigmas[0]))),
            "limit": (("part", "what_of"), [found[_LIMIT[what]] for what in _LIMIT]),
        },
        coords={
            "case": [f"{kind} {i}" for kind, i, _ in cases],
            "what": ["turn", "length", "off"],
            "part": ["turn", "length"],
            "what_of": ["mean", "error"],
        },
    )
    return Outcome(found, data, draw_gradient)


def _limits(settings: dict[str, Any], values: np.ndarray, errors: np.ndarray) -> dict[str, tuple[float, float]]:
    """What a parabola through the three sizes has at σ = 0, and what it and its slope there have of the next order."""
    found = {}
    orders, sizes = step_of(settings, "free", place_of(settings).sigmas[0]), np.array(SIZES)
    for column, (what, order) in enumerate(zip(_LIMIT, orders, strict=True)):
        one, error = values[: len(sizes), column], errors[: len(sizes), column]
        found[_LIMIT[what]] = (float(_TO_NOTHING @ one), float(np.linalg.norm(_TO_NOTHING * error)))
        # The next order is what vanishes like σ²: of the turn itself, and of 1 less the length.
        off, weights = one if column == 0 else 1 - one, _TO_NOTHING / sizes / order
        found[_ORDER[what]] = (float(weights @ off), float(np.linalg.norm(weights * error)))
    return found


def draw_gradient(data: Any) -> Any:
    """Turn and length of the mean step against the square of σ."""
    figure, axes = panels(2)
    sizes = np.linspace(0, 1.1, 50)
    for axis, what in zip(axes, ("turn", "length"), strict=True):
        kinds = dict.fromkeys(case.split()[0] for case in data.case.values)
        for kind, marker, shift in zip(kinds, "osD", (0, -0.02, 0.02), strict=False):
            one = data.isel(case=[i for i, case in enumerate(data.case.values) if case.startswith(kind)]).sel(what=what)
            axis.errorbar(one["size"] + shift, one.value, 3 * one.error, fmt=marker, markersize=4, label=kind)
        free = data.sel(what=what).isel(case=slice(0, len(SIZES)))
        axis.plot(
            sizes, np.polyval(np.polyfit(free["size"], free.value, 2), sizes), "C0", linewidth=1, label="parabola"
        )
        mean, error = data.limit.sel(part=what).values
        axis.errorbar(0, mean, 3 * error, fmt="o", color="C0", markersize=4, fillstyle="none", label="extrapolated")
        order = float(data.order.sel(part=what)) * sizes
        axis.plot(sizes, order if what == "turn" else 1 - order, "k--", linewidth=1, label="next order")
        axis.set(xlabel="σ²/σ₀²")
    axes[0].set(ylabel="tangent of the turn from −∇U")
    axes[1].set(ylabel="mean step over ½μνβσ²|∇U|")
    axes[0].legend(frameon=False, fontsize=8, loc="upper left")
    return figure


_SETTINGS = {
    "quick": {
        "mixing": ("free", "crossover", "transfer"), "size": 4, "population": 8, "rate": 1.0, "effect": 0.8, "sigma": 0.23,
        "crossovers": 10.0, "transfer": 0.3, "runs": 128,
        "generations": (1600, 6000, 16_000), "other_generations": 4000, "burn": 100, "capacity": 96, "key": 225_071,
    },
    "paper": {
        "mixing": ("free", "crossover", "transfer"), "size": 4, "population": 12, "rate": 1.0, "effect": 0.6, "sigma": 0.15,
        "crossovers": 10.0, "transfer": 0.3, "runs": 256,
        "generations": (16_000, 60_000, 160_000), "other_generations": 40_000, "burn": 200, "capacity": 192, "key": 225_072,
    },
}  # fmt: skip

CLAIMS = [
    Claim(
        "S22-5",
        "sourbut2022",
        "third model",
        "many mutations in flight that recombine freely: the part that all genomes share moves along −∇U as effects shrink; P: "
        "by ½μνβσ²|∇U| a generation, and the mutations around it shorten the step and turn it by a next order in σ²",
        _SETTINGS,
        run_gradient,
        lambda settings: Needs(
            float(sum(one for *_, one in _cases(settings)) * settings["runs"] * settings["population"]), 1e9, 1e6
        ),
        "quadratic with $λ_k = \\cos(π(k − ½)/N)$, N = {size}; n = {population}, μ = {rate}, {runs} populations of {generations} "
        "generations; bars are three errors",
        expect_gradient,
    ),
]
