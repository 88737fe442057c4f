"""Runs of S22-6: populations in which an assumption of the third model fails, and what they show."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import mutagrad
from mutagrad.lab.claims.claims import Job, Outcome
from mutagrad.lab.claims.sourbut2022 import moving_parts, strategies
from mutagrad.lab.claims.sourbut2022.moving_parts import Moves, travel
from mutagrad.report.figures import panels
from mutagrad.theory.population import fixation_time

__all__ = [
    "APART",
    "BEHIND",
    "CONSTANT",
    "EVERYONE",
    "FIXED",
    "FREQUENT",
    "IN_PHASE",
    "ITSELF",
    "LENGTH",
    "LOST",
    "MIXING",
    "NONE",
    "NUMBER",
    "PLAY",
    "TURN",
    "WHOLE",
    "frequencies_of",
    "games_of",
    "migrations_of",
    "plays_of",
    "run_failures",
    "where_of",
]

NONE = "mutations that all genomes share, {} demes that never mix"
APART = "demes that never mix: step of the mean genome over μ(n/D − 1)βσ²|∇U|"
MIXING = "step of the fixed part over μ(n − D)βσ²|∇U|, {}"
NUMBER = "mutations that all genomes share, over μ, {}"
LOST = "share of populations that lost hawks or doves, {}"
PLAY = "step of the fixed part over that along the slope of mean payoff, share of hawks {:g}, payoff against {}"
TURN = "tangent of the turn from −∇U to the mean fixed mutation, σ = {:g}"
LENGTH = "mean fixed mutation along −∇U over its linear law, σ = {:g}"
IN_PHASE = "{} along the momentary −∇U over its linear law, a turn of {:g} rad in a time of fixation"
BEHIND = "{} a quarter turn behind −∇U over its linear law, a turn of {:g} rad in a time of fixation"
FIXED, WHOLE = "step of the fixed part", "step of the mean genome"
FREQUENT, CONSTANT = "hawks and doves", "a constant advantage"
EVERYONE, ITSELF = "everyone", "itself"


def where_of(settings: dict[str, Any], migration: float | None) -> str:
    """Demes that mix, by their migration, or ``None``: one deme."""
    if migration is None:
        return "one deme"
    return f"{settings['demes']} demes, a share {migration:g} of births migrates"


def migrations_of(settings: dict[str, Any]) -> list[float | None]:
    """Of populations that mix: one deme, and demes with migration."""
    return [None, *settings["migrations"]]


def games_of(settings: dict[str, Any]) -> dict[str, np.ndarray]:
    """Payoffs of hawks and doves, and constant ones in the ratio that they have where a run begins."""
    payoffs = strategies.hawks_and_doves(settings)
    p = settings["first_hawks"] / settings["players"]
    hawk, dove = payoffs @ np.array([p, 1 - p])
    return {FREQUENT: payoffs, CONSTANT: np.array([[hawk, hawk], [dove, dove]]) / dove}


def plays_of(settings: dict[str, Any]) -> list[tuple[float, str]]:
    """Shares of hawks, and against whom."""
    rest = settings["value"] / settings["cost"]
    return [(part * rest, EVERYONE) for part in settings["parts_of_rest"]] + [(rest, ITSELF)]


def frequencies_of(settings: dict[str, Any]) -> list[float]:
    """ω, so that it turns by so much while a neutral mutation is fixed."""
    return [turn / fixation_time(0.0, settings["small"], moving_parts.MODEL) for turn in settings["turns"]]


def _kept(job: Job, name: str, run: Callable[..., Moves], key: int, *given: Any) -> Moves:
    """What a job has kept under a name, or else what populations move."""
    name = f"{name} of {sorted(job.settings.items())}"
    kept = job.load(name)
    moves = run(jax.random.fold_in(job.key, key), *given) if kept is None else Moves(**kept)
    job.keep(name, moves._asdict(), is_last=True)
    return moves


def _over(values: np.ndarray, unit: float) -> tuple[float, float]:
    """Mean over runs, in a unit, and its error."""
    return float(values.mean() / unit), float(values.std(ddof=1) / math.sqrt(len(values)) / abs(unit))


def _along(apart: jax.Array, generation: jax.Array, numbers: jax.Array) -> jax.Array:
    """Losses on a slope that turns by ω a generation."""
    slope, frequency = numbers
    angle = frequency * generation
    return slope * (apart[:, 0] * jnp.cos(angle) + apart[:, 1] * jnp.sin(angle))


def _run_demes(job: Job) -> dict[str, tuple[float, float]]:
    size, demes, rate, found = job["genomes"], job["demes"], job["rate"], {}
    for place, migration in enumerate([0.0, *migrations_of(job.settings)]):
        is_apart = migration == 0
        number = size // demes if is_apart else size
        slope = job["effect"] / 2 / (number - 1)
        settings = job.settings | (job["apart"] if is_apart else {})
        parts: dict[str, Any] = {} if migration is None else {"num_demes": demes, "migration": migration}
        algorithm = mutagrad.population(1.0, 1.0, size, rate, capacity=settings["capacity"], **parts)
        moves = _kept(job, f"demes {migration}", travel(algorithm, _along, settings), place, [slope, 0.0])
        if is_apart:
            found[NONE.format(demes)] = (float(np.sum(moves.number) * settings["generations"]), 0.0)
            found[APART] = _over(-moves.mean[:, 0], rate * (number - 1) * slope)
        else:
            where = where_of(settings, migration)
            factor = moving_parts.of_mixing(size, 1 if migration is None else demes)
            found[MIXING.format(where)] = _over(-moves.fixed[:, 0], rate * factor * slope)
            found[NUMBER.format(where)] = _over(moves.number, rate)
        job.progress(0.06 * (place + 1))
    return found


def _run_games(job: Job) -> dict[str, tuple[float, float]]:
    settings, found = job.settings, {}
    copies = strategies.copies_of_two(settings["first_hawks"], settings["players"])
    for place, (kind, payoffs) in enumerate(games_of(settings).items()):
        key = jax.random.fold_in(job.key, 10 + place)
        paths = strategies.paths_of_shares(key, payoffs, copies, settings["paths"], settings["waiting"])
        lost = float(np.mean(paths[:, -1].max(-1) == 1))
        usual = (lost * settings["paths"] + 1) / (settings["paths"] + 2)
        found[LOST.format(kind)] = (lost, math.sqrt(usual * (1 - usual) / settings["paths"]))
    size, sigma = settings["small"], settings["small_sigma"]
    slope = settings["small_effect"] / 2 / (size - 1)
    algorithm = mutagrad.population(sigma, 1.0, size, settings["rate"], capacity=settings["small_capacity"])
    table = jnp.asarray(strategies.hawks_and_doves(settings), jnp.float32)

    def losses_fn(apart, generation, numbers):
        share, beta, is_everyone = numbers
        q = share + apart[:, 0]
        own = jnp.stack([q, 1 - q], axis=1)
        others = jnp.where(is_everyone, jnp.mean(own, axis=0, keepdims=True), own)
        return -beta * jnp.sum(own * (others @ table.T), axis=1)

    run = travel(algorithm, losses_fn, settings)
    for place, (share, against) in enumerate(plays_of(settings)):
        # β that gives the slope −Cq of mean payoff the effect.
        beta = slope / sigma / settings["cost"] / share
        moves = _kept(job, f"play {share} {against}", run, 20 + place, [share, beta, against == EVERYONE])
        found[PLAY.format(share, against)] = _over(-moves.fixed[:, 0], settings["rate"] * (size - 1) * slope * sigma)
        job.progress(0.25 + 0.05 * (place + 1))
    return found


def _run_large(job: Job) -> dict[str, tuple[float, float]]:
    size, found = job["few"], {}
    run = moving_parts.of_large(size, job["curvatures"], job["large_runs"], job["large_generations"])
    for place, sigma in enumerate(job["sigmas"]):
        name = f"large {sigma} of {sorted(job.settings.items())}"
        kept = job.load(name) or {"sums": run(jax.random.fold_in(job.key, 30 + place), sigma)}
        job.keep(name, kept, is_last=True)
        sums = kept["sums"]
        total, root = sums.sum(0), math.sqrt(len(sums))
        tangent, length = total[1] / total[0], total[0] / total[2]
        error = (sums[:, 1] - tangent * sums[:, 0]).std(ddof=1) * root / total[0]
        found[TURN.format(sigma)] = (tangent, abs(error))
        error = (sums[:, 0] - length * sums[:, 2]).std(ddof=1) * root / total[2]
        linear = (size - 1) / size * sigma
        found[LENGTH.format(sigma)] = (length / linear, error / linear)
        job.progress(0.45 + 0.2 * (place + 1) / len(job["sigmas"]))
    return found


def _run_moving(job: Job) -> dict[str, tuple[float, float]]:
    size, found = job["small"], {}
    slope, turns = job["small_effect"] / 2 / (size - 1), job["turns"]
    unit = -job["rate"] * (size - 1) * slope
    algorithm = mutagrad.population(1.0, 1.0, size, job["rate"], capacity=job["small_capacity"])
    run = travel(algorithm, _along, job.settings)
    for place, (turn, frequency) in enumerate(zip(turns, frequencies_of(job.settings), strict=True)):
        moves = _kept(job, f"moving {turn}", run, 40 + place, [slope, frequency], frequency)
        for what, values in ((FIXED, moves.fixed), (WHOLE, moves.mean)):
            found[IN_PHASE.format(what, turn)] = _over(values[:, 0], unit)
            found[BEHIND.format(what, turn)] = _over(-values[:, 1], unit)
        job.progress(0.65 + 0.35 * (place + 1) / len(turns))
    return found


def run_failures(job: Job) -> Outcome:
    """Populations of all four failures, each beside one in which the assumption holds."""
    import xarray

    runs = {"demes": _run_demes, "games": _run_games, "large": _run_large, "moving": _run_moving}
    found: dict[str, tuple[float, float]] = {}
    for part in job["parts"]:
        found |= runs[part](job)
    names = list(found)
    values = np.array([found[name] for name in names])
    kept = ("demes", "genomes", "effect", "rate", "value", "cost", "few", "curvatures", "small")
    data = xarray.Dataset(
        {"value": ("check", values[:, 0]), "error": ("check", values[:, 1])},
        coords={"check": names},
        attrs={name: job[name] for name in kept}
        | {name: list(job[name]) for name in ("migrations", "parts_of_rest", "sigmas", "turns")},
    )
    return Outcome(found, data, draw_failures)


def draw_failures(data: Any) -> Any:
    """Four panels: what each failure does to the step, against its knob."""
    figure, axes = panels(2, 5.2, 2, 3.9)
    for axis, draw in zip(axes, (_draw_demes, _draw_games, _draw_large, _draw_moving), strict=True):
        draw(axis, data)
        axis.legend(frameon=False, fontsize=8)
        if axis.get_xscale() == "log":
            axis.set_xticks(marks := sorted(data.attrs["sigmas"]), [f"{one:g}" for one in marks])
            axis.minorticks_off()
    return figure


def _point(axis: Any, data: Any, x: float, name: str, times: float = 1.0, **style: Any) -> None:
    one = data.sel(check=name)
    axis.errorbar(x, one.value * times, 3 * one.error * times, markersize=5, **({"fmt": "o"} | style))


def _draw_demes(axis: Any, data: Any) -> None:
    settings = data.attrs
    size, demes = settings["genomes"], settings["demes"]
    places = np.arange(len(settings["migrations"]) + 2)
    labels = ["0", *(f"{one:g}" for one in settings["migrations"]), "one deme"]
    own = (size // demes - 1) / (size - 1)
    _point(axis, data, 0, APART.format(demes), own, color="C1", label="mean genome")
    axis.plot(0, 0, "s", color="C0", markersize=5)
    for place, migration in zip(places[1:], [*settings["migrations"], None], strict=True):
        factor = moving_parts.of_mixing(size, 1 if migration is None else demes) / (size - 1)
        name = MIXING.format(where_of(settings, migration))
        _point(axis, data, place, name, factor, fmt="s", color="C0", label="fixed part" if migration is None else None)
        axis.plot([place - 0.3, place + 0.3], [factor] * 2, "k--", linewidth=1)
    axis.plot([-0.3, 0.3], [own] * 2, "k--", linewidth=1, label="n/D − 1, n − D and n − 1, over n − 1")
    axis.set_xticks(places, labels)
    axis.set(
        xlabel=f"share of births that migrates between {demes} demes",
        ylabel="step over μ(n − 1)βσ²|∇U|",
        ylim=(-0.05, 1.15),
    )


def _draw_games(axis: Any, data: Any) -> None:
    rest = data.attrs["value"] / data.attrs["cost"]
    shares = np.linspace(0.15, 0.9, 100)
    axis.plot(shares, (rest / shares - 1) / -2, "k--", linewidth=1, label="½(V − Cq)/(−Cq)")
    for part in data.attrs["parts_of_rest"]:
        label = "payoff against everyone" if part == 1 else None
        _point(axis, data, part * rest, PLAY.format(part * rest, EVERYONE), color="C0", label=label)
    _point(axis, data, rest, PLAY.format(rest, ITSELF), fmt="s", color="C1", label="payoff against itself")
    axis.axhline(0, color="0.7", linewidth=0.8)
    lost = [float(data.value.sel(check=LOST.format(kind))) for kind in (FREQUENT, CONSTANT)]
    axis.set_title(f"lost a strategy: {lost[0]:.3f} of games, {lost[1]:.3f} under a constant advantage", fontsize=8)
    axis.set(xlabel="share of hawks q", ylabel="step over that up the mean payoff")


def _draw_large(axis: Any, data: Any) -> None:
    size, curvatures = data.attrs["few"], data.attrs["curvatures"]
    sigmas = np.geomspace(min(data.attrs["sigmas"]) / 1.5, max(data.attrs["sigmas"]) * 1.5, 12)
    steps = np.array([moving_parts.large(size, float(sigma), tuple(curvatures)).step for sigma in sigmas])
    axis.plot(sigmas, np.cos(np.arctan2(steps[:, 1], steps[:, 0])), "C0--", linewidth=1)
    axis.plot(sigmas, steps[:, 0] * size / (size - 1) / sigmas, "C1--", linewidth=1)
    for place, sigma in enumerate(data.attrs["sigmas"]):
        value, error = (float(data[part].sel(check=TURN.format(sigma))) for part in ("value", "error"))
        cosine = 1 / math.hypot(1, value)
        label = "cosine of the mean step with −∇U" if place == 0 else None
        axis.errorbar(sigma, cosine, 3 * error * abs(value) * cosine**3, fmt="o", color="C0", markersize=5, label=label)
        label = "length over its linear law" if place == 0 else None
        _point(axis, data, sigma, LENGTH.format(sigma), fmt="s", color="C1", label=label)
    axis.plot([], [], "k--", linewidth=1, label="quadrature over the exact chain")
    axis.set(xscale="log", xlabel="σ, where |∇U| = β = 1", ylabel="mean step", ylim=(0, 1.25))


def _draw_moving(axis: Any, data: Any) -> None:
    size, turns = data.attrs["small"], data.attrs["turns"]
    every = np.linspace(0, 1.1 * turns[-1], 200)
    unit = fixation_time(0.0, size, moving_parts.MODEL)
    laws = np.array([moving_parts.response(size, turn / unit) for turn in every])
    axis.plot(every, laws.real, "C0--", linewidth=1)
    axis.plot(every, -laws.imag, "C1--", linewidth=1)
    for place, turn in enumerate(turns):
        for what, marker, fill in ((FIXED, "o", "full"), (WHOLE, "D", "none")):
            part = "fixed part" if what == FIXED else "mean genome"
            label = None if place else f"{part}, along the momentary −∇U"
            _point(axis, data, turn, IN_PHASE.format(what, turn), color="C0", label=label, fmt=marker, fillstyle=fill)
            label = None if place else f"{part}, a quarter turn behind"
            _point(axis, data, turn, BEHIND.format(what, turn), color="C1", label=label, fmt=marker, fillstyle=fill)
    axis.plot([], [], "k--", linewidth=1, label="exact chain")
    axis.set(
        xlabel="turn of the slope in the time of fixation [rad]", ylabel="step over its linear law", ylim=(-0.1, 1.5)
    )
