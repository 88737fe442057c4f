"""S22-6: what breaks the third model: demes that never mix, games, large mutations, a loss that moves."""

import math
from typing import Any

import numpy as np

from mutagrad.lab.claims.checks import PLANNED, Expected, near
from mutagrad.lab.claims.claims import Claim, Needs
from mutagrad.lab.claims.sourbut2022 import failing, moving_parts, strategies
from mutagrad.lab.claims.sourbut2022.moving_parts import Sloping

__all__ = ["CLAIMS"]


def _law(number: int, rate: float, slope: float) -> tuple[Sloping, float, float]:
    """What is fixed on a slope, its step with what mutations in flight slow, and by which share the step is shorter."""
    one, slowed = moving_parts.along_a_slope(number, slope), moving_parts.crowding(number, rate, slope)
    return one, one.step * (1 - slowed), slowed


def _planned(settings: dict[str, Any], factor: float, slope: float, square: float) -> float:
    """Error of a component of the step over its law: each mutation that is fixed has a variance σ² of its own."""
    return math.sqrt(square / (settings["rate"] * settings["generations"] * settings["runs"])) / (factor * slope)


def _expect_demes(settings: dict[str, Any]) -> list[Expected]:
    size, demes, rate = settings["genomes"], settings["demes"], settings["rate"]
    why = "a mutation arises in one genome, and its copies are of that genome's deme"
    stated = [near(failing.NONE.format(demes), 0, 0, "identity", why, exact=True)]
    own = size // demes
    slope = settings["effect"] / 2 / (own - 1)
    one, value, slowed = _law(own, rate, slope)
    error = _planned(settings | settings["apart"], own - 1, slope, one.square / demes)
    why = f"{one.step:.3f} from the exact chain of {own}, {slowed:.3f} for mutations in flight, and six planned errors of "
    why += f"{error:.1g}; n − D would be {demes}"
    stated.append(near(failing.APART, value, slowed + PLANNED * error, "theory", why, ours=True))
    slope = settings["effect"] / 2 / (size - 1)
    one, value, slowed = _law(size, rate, slope)
    for migration in failing.migrations_of(settings):
        factor = moving_parts.of_mixing(size, 1 if migration is None else demes)
        share = (factor / (size - 1)) ** 2
        error = _planned(settings, factor, slope, one.square)
        room = slowed + (0 if migration is None else 1 - one.step)
        why = f"{one.step:.3f} from the exact chain of {size}, {room:.3f} for the order after it, and six planned errors of "
        other, longer = ("n", 1 / factor) if migration is None else ("n − 1", (demes - 1) / factor)
        why += f"{error:.1g}; were the law's factor {other}, it would be {longer:.2g} larger"
        where = failing.where_of(settings, migration)
        stated.append(near(failing.MIXING.format(where), value, room + PLANNED * error, "theory", why, ours=True))
        more = share * (one.number - 1)
        error = math.sqrt((1 + more) / rate / settings["generations"] / settings["runs"])
        room = slowed + (1 - share) * (one.number - 1)
        why = f"1 for neutral ones; {more:.3f} more by selection, known to {room:.3f}, and six planned errors of {error:.1g}"
        stated.append(near(failing.NUMBER.format(where), 1 + more, room + PLANNED * error, "theory", why))
    return stated


def _climb(settings: dict[str, Any], share: float, against: str) -> float:
    """Slope of payoff against the population over that of mean payoff, ½(V − Cq)/(−Cq)."""
    return (settings["value"] / share / settings["cost"] - 1) / -2 if against == failing.EVERYONE else 1.0


def _expect_games(settings: dict[str, Any]) -> list[Expected]:
    stated = []
    for kind, payoffs in failing.games_of(settings).items():
        law = strategies.shares_after(payoffs, settings["players"], settings["first_hawks"], settings["waiting"])
        lost = law[0] + law[-1]
        error = math.sqrt(lost * (1 - lost) / settings["paths"])
        why = f"exact chain of {settings['players']}, {lost:.4f}; six planned errors of {error:.1g}"
        stated.append(near(failing.LOST.format(kind), lost, PLANNED * error, "error", why))
    size, slope = settings["small"], settings["small_effect"] / 2 / (settings["small"] - 1)
    for share, against in failing.plays_of(settings):
        climb = _climb(settings, share, against)
        one, value, slowed = _law(size, settings["rate"], climb * slope)
        error = _planned(settings, size - 1, slope, one.square)
        why = f"{climb:.3f} by the slopes, {one.step:.3f} of it from the exact chain of {size}, {slowed:.4f} for mutations in "
        why += f"flight, and six planned errors of {error:.1g}"
        room = slowed * abs(climb) + PLANNED * error
        stated.append(near(failing.PLAY.format(share, against), climb * value, room, "theory", why, ours=True))
    return stated


def _expect_large(settings: dict[str, Any]) -> list[Expected]:
    """Every σ is one at which the turn is beyond nine planned errors; where effects vanish it is that of the next order."""
    stated, size = [], settings["few"]
    for sigma in settings["sigmas"]:
        next_order = moving_parts.turn_of_next_order(size, sigma, settings["curvatures"])
        law = moving_parts.large(size, sigma, settings["curvatures"])
        linear = (size - 1) / size * sigma
        along, across = law.step
        tangent = across / along
        weights = np.array([-tangent, 1]) / along
        number = settings["large_runs"] * settings["large_generations"] / law.time
        error = math.sqrt(weights @ law.covariance @ weights / number)
        angle = math.atan(tangent)
        why = f"exact chain of {size}: {math.degrees(angle):.2g}°, a cosine of 1 − {1 - math.cos(angle):.2g}; "
        why += (
            f"six planned errors of {error:.1g}; without a turn it would be 0, and by the next order {next_order:.3g}"
        )
        stated.append(near(failing.TURN.format(sigma), tangent, PLANNED * error, "error", why))
        error = math.sqrt(law.covariance[0, 0] / number) / linear
        why = f"exact chain of {size}; six planned errors of {error:.1g}"
        stated.append(near(failing.LENGTH.format(sigma), along / linear, PLANNED * error, "error", why, ours=True))
    return stated


def _expect_moving(settings: dict[str, Any]) -> list[Expected]:
    stated, size = [], settings["small"]
    slope = settings["small_effect"] / 2 / (size - 1)
    one, value, slowed = _law(size, settings["rate"], slope)
    error = _planned(settings, size - 1, slope, one.square)
    shorter = 1 - value
    for turn, frequency in zip(settings["turns"], failing.frequencies_of(settings), strict=True):
        law = moving_parts.response(size, frequency)
        room = shorter * abs(law) if turn else slowed
        for name, part in ((failing.IN_PHASE, law.real), (failing.BEHIND, -law.imag)):
            why = f"{part:.3f} by the exact chain of {size}, less {shorter:.3f} of it for the next orders, known to {room:.3f}, "
            why += f"and six planned errors of {error:.1g}"
            room_of_all = room + PLANNED * error
            stated.append(near(name.format(failing.FIXED, turn), part * value, room_of_all, "theory", why))
    for turn in settings["turns"]:
        for name, part in ((failing.IN_PHASE, 1), (failing.BEHIND, 0)):
            why = f"{part}: selection moves at once what segregates; {shorter:.3f} for next orders, and six planned errors of "
            why += f"{error:.1g}"
            room = shorter + PLANNED * error
            stated.append(near(name.format(failing.WHOLE, turn), part * value, room, "theory", why, ours=True))
    return stated


def expect_failures(settings: dict[str, Any]) -> list[Expected]:
    """The intervals of S22-6."""
    parts = {"demes": _expect_demes, "games": _expect_games, "large": _expect_large, "moving": _expect_moving}
    return [one for part in settings["parts"] for one in parts[part](settings)]


_COMMON = {
    "parts": ("demes", "games", "large", "moving"),
    "demes": 4, "genomes": 20, "migrations": (0.05, 0.5), "effect": 1.0, "rate": 0.1, "capacity": 96, "burn": 400,
    "value": 2.0, "cost": 4.0, "base": 1.2, "players": 30, "first_hawks": 8, "waiting": 50, "parts_of_rest": (0.5, 1.0, 1.5),
    "small": 10, "small_effect": 0.7, "small_sigma": 0.005, "small_capacity": 32,
    "few": 5, "curvatures": (1.0, 0.1), "sigmas": (0.25, 0.5, 2.0), "turns": (0.0, 1.0, 4.0, 16.0),
}  # fmt: skip
_SETTINGS = {
    "quick": _COMMON | {
        "runs": 512, "generations": 2000, "apart": {"runs": 1024, "burn": 60, "generations": 240, "capacity": 192},
        "paths": 4000, "large_runs": 1024, "large_generations": 2000, "key": 226_091,
    },
    "paper": _COMMON | {
        "runs": 2048, "generations": 20_000, "apart": {"runs": 20_480, "burn": 60, "generations": 240, "capacity": 192},
        "paths": 40_000, "large_runs": 8192, "large_generations": 20_000, "key": 226_092,
    },
}  # fmt: skip


def _needs(settings: dict[str, Any]) -> Needs:
    generations = settings["runs"] * settings["generations"]
    demes = (len(settings["migrations"]) + 1) * generations * settings["genomes"]
    small = (len(settings["parts_of_rest"]) + 1 + len(settings["turns"])) * generations * settings["small"]
    large = len(settings["sigmas"]) * settings["large_runs"] * settings["large_generations"] * settings["few"]
    return Needs(float(demes + small + large), 1e9, 1e6)


CLAIMS = [
    Claim(
        "S22-6",
        "sourbut2022",
        "third model, where it fails",
        "demes that never mix fix nothing; hawks and doves outlast what a constant advantage fixes; large mutations turn the "
        "mean step from −∇U; the fixed part does not follow a slope that turns faster than fixation; P: any migration makes the "
        "learning rate D times as large, selection in a game does not climb mean payoff, large mutations shorten the step, and "
        "the mean genome follows the slope that the fixed part does not",
        _SETTINGS,
        failing.run_failures,
        _needs,
        "n = {genomes} in {demes} demes, else {small}; large mutations: n = {few}, curvatures {curvatures}; μ = {rate}; {runs} "
        "populations of {generations} generations, bars are three errors",
        expect_failures,
    ),
]
