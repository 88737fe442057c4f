"""What is known of W21-1 to W21-3 before they are run: orders of the law, errors of one run, and the room that they make."""

import math
from typing import Any, NamedTuple

__all__ = ["PLANNED", "STANDARD_ERRORS", "room"]

STANDARD_ERRORS = 6.0
"""Planned standard errors on either side of a law: three for chance, three for the power."""


class Planned(NamedTuple):
    """What is known of a number before it is measured.

    Attributes
    ----------
    shift : its next order over λα, by `fluctuations`; of a ratio to that law, what trials with other keys found.
    deviation : of one run, over √(λα) for a number and over 1/√(λα) for a ratio to the next order; from trials.
    """

    shift: float
    deviation: float


PLANNED = {
    0.4: {
        "end": Planned(-872, 3.9), "first": Planned(-801, 16), "second": Planned(-888, 18), "third": Planned(-835, 30),
        "fourth": Planned(-862, 32), "shift": Planned(-960, 0.0047), "spread": Planned(-850, 0.21),
        "loss": Planned(286, 4.2), "excess": Planned(-960, 0.0145), "distance": Planned(-1920, 0.2),
    },
    2.0: {
        "end": Planned(-1023, 3.2), "first": Planned(-956, 15), "second": Planned(-974, 15), "third": Planned(-985, 25),
        "fourth": Planned(-985, 26), "shift": Planned(-1260, 0.0033), "spread": Planned(-1460, 0.27),
        "loss": Planned(61, 1.06), "excess": Planned(-1260, 0.016), "distance": Planned(-2520, 0.03),
    },
    10.0: {
        "end": Planned(-5703, 29), "first": Planned(-896, 28), "second": Planned(2087, 58), "third": Planned(-936, 29),
        "fourth": Planned(-15_551, 90), "shift": Planned(-37_000, 0.001), "spread": Planned(-6500, 1.1),
        "loss": Planned(236, 0.74), "excess": Planned(-39_000, 0.0018), "distance": Planned(-53_000, 0.07),
    },
}  # fmt: skip
"""By time of the end. Trials: 64 runs, λα = 5·10⁻⁵ and 10⁻⁴; from them alone the errors, and the order after the linear law. At
t = 10, where that order is not small in the trials, it is k of a ratio 1/(1 + kλα)."""


def room(settings: dict[str, Any], name: str, of_law: bool = False) -> tuple[float, str]:
    """Half the width of an interval about 1, and why."""
    step, number, known = settings["alpha"] * settings["ratio"], settings["runs"], PLANNED[settings["time"]][name]
    order = abs(known.shift) * step
    chance = known.deviation * (1 / math.sqrt(step) if of_law else math.sqrt(step)) / math.sqrt(number)
    if name == "spread":
        chance = known.deviation / math.sqrt(number)
    where = "trials with other keys and α put the order after it" if of_law else "the linear law puts the next order"
    return (
        order + STANDARD_ERRORS * chance,
        f"{where} at {known.shift:,.0f}λα = {known.shift * step:.2g}, and six planned errors of {chance:.2g}",
    )
