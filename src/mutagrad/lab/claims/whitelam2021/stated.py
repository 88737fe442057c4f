"""What W21-1 to W21-3 state before they are run."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

from mutagrad.lab.claims.checks import PLANNED as ERRORS
from mutagrad.lab.claims.checks import Expected, below, near
from mutagrad.lab.claims.tanh_nets import shallow_start
from mutagrad.lab.claims.whitelam2021.orders import PLANNED, TRIALS, Interval, Tried, interval, of_tried

__all__ = [
    "EARLY",
    "EARLY_POINTS",
    "EARLY_RECORDS",
    "EARLY_TIME",
    "FEW",
    "WEIGHTS",
    "expect_loss",
    "expect_ratios",
    "expect_weights",
]

WEIGHTS = ("first", "second", "third", "fourth")
EARLY_TIME, EARLY_RECORDS, EARLY_POINTS = 0.4, 4, 50
"""Where the excess of the loss is measured of many runs on the net of Fig. 1: over its noise it is as large there as later, in a
fifth of the time, and so few points have the same law."""
EARLY, FEW = 50, 4
"""Generations before runs part on the net of Fig. 1; runs of which the means are at the floor on the net of three units."""
_SMALL_TRIALS = "131,072 runs each on that net, λα = 2.5·10⁻³ and 5·10⁻³ (keys 95012, 95011) and led on to 10⁻³"
_SMALL = {
    "excess": (
        "mean loss less gradient descent's on a net of three units, regressed on ∇U·m + ½Tr(HC)",
        Tried(63, 10, 0.241, (0.888, 0.872)),
    ),
    "shift": ("the part of it along ∇U of the runs' mean, regressed on ∇U·m", Tried(16, 4, 0.082, (0.950, 0.870))),
    "curvature": (
        "the part of it of curvature and the runs' spread, regressed on ½Tr(HC)",
        Tried(64, 2, 0.043, (0.854, 0.726)),
    ),
}
"""Of k at 2.5·10⁻³ and 5·10⁻³: 51 ± 5 and 29 ± 2, 21 ± 2 and 30 ± 1, 68 ± 1 and 75.4 ± 0.4."""
NEIGHBOURS = {0.4: (5.82, -0.027), 2.0: (13.6, -0.327), 10.0: (3.34, -0.514), "three units": (5.72, -0.615)}
"""What the regression of the excess would find on the net of Fig. 1 to a time, and on the small net, if the law were ½Tr(HC)
alone, and if it were ½Tr(DH)t."""
SHIFT_OVER_FLOOR = {0.2: 2.766, 0.6: 18.14}
"""|m|²/TrC on the small net: the square of the shift is so many times the floor, times λαn."""
_PARTED = 3.02
"""TrC over TrD·t on the small net at t = 0.6."""


def expect_weights(settings: dict[str, Any]) -> list[Expected]:
    """The intervals of W21-1."""
    stated = [
        near("mean displacement of all weights at the end, along gradient descent's, over it", **_of(settings, "end"))
    ]
    for place in WEIGHTS:
        what = f"mean path of the weight that moves {place} most, regressed on gradient descent's"
        stated.append(near(what.replace("first ", ""), **_of(settings, place)))
    return [
        *stated,
        near("mean path less gradient descent, regressed on the next order", **_of(settings, "shift"), ours=True),
        near("variance over runs, over that of the linear law", **_of(settings, "spread"), ours=True),
    ]


def expect_loss(settings: dict[str, Any]) -> list[Expected]:
    """The intervals of W21-2."""
    stated = [
        near("decrease of the mean loss over time, regressed on gradient descent's", **_of(settings, "loss")),
        near(
            "mean loss less gradient descent's over time, regressed on ∇U·m + ½Tr(HC)",
            **_besides(interval(settings, "excess"), NEIGHBOURS[settings["time"]])._asdict(), ours=True,
        ),
    ]  # fmt: skip
    step, known = settings["alpha"] * settings["ratio"], PLANNED[EARLY_TIME]["excess"]
    assert isinstance(known, Tried)
    found = of_tried(known, step, known.deviation / math.sqrt(step * settings["early_runs"]), TRIALS[EARLY_TIME])
    what = f"the same of {settings['early_runs']:,} runs at {EARLY_POINTS} points to t = {EARLY_TIME:g}"
    stated.append(near(what, **_besides(found, NEIGHBOURS[EARLY_TIME])._asdict(), ours=True))
    step, number = settings["small_step"], settings["small_runs"]
    for name, (what, known) in _SMALL.items():
        found = of_tried(known, step, known.deviation / math.sqrt(step * number), _SMALL_TRIALS)
        if name == "excess":
            found = _besides(found, NEIGHBOURS["three units"])
        stated.append(near(what, **found._asdict(), ours=True))
    return stated


def _of(settings: dict[str, Any], name: str) -> dict[str, Any]:
    return interval(settings, name)._asdict()


def _besides(found: Interval, neighbours: tuple[float, float]) -> Interval:
    """An interval that says where its neighbours are."""
    without, sudden = neighbours
    return found._replace(
        why=f"{found.why}. Without the shift of the mean, ½Tr(HC) alone, it would be {without:.3g}; with ½Tr(DH)t, noise that "
        f"does not build up, {sudden:.2g}"
    )


def _pairs(settings: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Of neighbouring λ, the smaller first: the names of what is compared, of all weights and of one, and the two λ."""
    for large, small in itertools.pairwise(settings["ratios"]):
        yield (
            f"Δ at λ = {small:.3g} over Δ at λ = {large:.3g}, mean over time",
            f"the same of the weight that moves most, λ = {small:.3g} over λ = {large:.3g}",
            f"{small:.3g} and {large:.3g}",
        )


def expect_ratios(settings: dict[str, Any]) -> list[Expected]:
    """The intervals of W21-3."""
    stated = []
    for whole, one, both in _pairs(settings):
        stated.append(below(whole, 1, "source", f"the source's statement: Δ is smaller for the smaller λ of {both}"))
        stated.append(below(one, 1, "source", "the source's statement, of one weight (Fig. 2a)"))
    known, step = PLANNED[settings["time"]]["distance"], settings["alpha"] * settings["ratios"][-1]
    assert isinstance(known, Tried)
    chance = known.deviation / math.sqrt(settings["runs"] * step)
    stated.append(
        near(
            "Δ at the smallest λ over the square of the next order and its floor TrC/nN, mean over time",
            **of_tried(known, step, chance, TRIALS[settings["time"]])._asdict(), ours=True,
        )
    )  # fmt: skip
    size = shallow_start().size
    chance = math.sqrt(2 / size / (settings["early_runs"] - 1))
    stated.append(
        near(
            f"variance of a weight over D⊥t after {EARLY} generations", 1,
            1 / math.pi / size + ERRORS * chance, "theory",
            f"along the gradient it lacks the square of the drift, 1/π of one weight in {size}, and six planned errors of "
            f"{chance:.2g}", ours=True,
        )
    )  # fmt: skip
    return [*stated, *_expect_slopes(settings)]


def _expect_slopes(settings: dict[str, Any]) -> list[Expected]:
    """The exponents of Δ above the floor and at it, and the floor, on the net of three units."""
    steps, number = settings["small_steps"], settings["small_runs"]
    span, tried = (
        math.log(steps[0] / steps[-1]),
        "trials of 131,072 runs at λα = 2.5·10⁻³ and 5·10⁻³ (keys 95012, 95011)",
    )

    def exponent(of_law, errors, k, slope, doubt, seen, why):
        """Between the first and the last λα, of a law over (1 + (k + slope λα)λα)²."""
        law = math.log(of_law(steps[0]) / of_law(steps[-1])) / span
        order = -math.log((1 + (k + slope * steps[0]) * steps[0]) / (1 + (k + slope * steps[-1]) * steps[-1])) / span
        error = math.hypot(*errors) / span
        after = (
            f"{tried} found {seen} of the law and put the order after it at {order:.3f} ± {doubt:g}; six planned errors of "
            f"{error:.2g}"
        )
        return Interval(law + order, doubt + ERRORS * error, "trial", f"{why}: {law:.3f}; {after}")._asdict()

    def of_shift(count, time):
        return lambda step: step + step**2 * count * SHIFT_OVER_FLOOR[time]

    above = [0.19 / math.sqrt(number * step) for step in (steps[0], steps[-1])]
    at_floor = [0.0032 * math.sqrt(131_072 / number)] * 2
    floor, error = 1 / (1 + 36 * steps[-1]), 0.0041 * math.sqrt(131_072 / number)
    return [
        near(
            f"exponent of λ in Δ above the floor: {number:,} runs on a net of three units at t = 0.6",
            **exponent(
                of_shift(number, 0.6), above, 2 * 15.5, 2 * 3080, 0.02, "0.894 and 0.750",
                "2, the square of a shift; 1 would be the floor"
            ), ours=True,
        ),
        near(
            f"exponent of λ in Δ at the floor: means of {FEW} runs on a net of three units at t = 0.2",
            **exponent(
                of_shift(FEW, 0.2), at_floor, 7.2, 400, 0.004, "0.980 and 0.956",
                "1, a variance, and what is left of the shift; 2 would be above it"
            ), ours=True,
        ),
        near(
            f"Δ of means of {FEW} runs over λα(TrC/{FEW} + λα|m|²)/N, smallest λ on a net of three units at t = 0.6",
            floor, 0.003 + ERRORS * error, "trial",
            f"{tried} found 0.908 and 0.807; led on to 10⁻³ that is {floor:.3f} ± 0.003; six planned errors of {error:.2g}. Were "
            f"the floor D⊥t/n here too, it would be {_PARTED:.3g}", ours=True,
        ),
    ]  # fmt: skip
