"""What is known of W21-1 to W21-3 before they are run: orders of the law, errors of one run, and the intervals that they make.

Numbers that the linear law gives have its next order for their room. Ratios to that next order have the order after it, which no
law gives: trials found it, at other λα than those of the claims and with other keys, as r = (1 + kλα)^−p. The form has the limit
1 at λα = 0, so that a law that is wrong by a factor does not fit it: a trial that is followed is the law and its next order.
"""

import math
from typing import Any, NamedTuple

from mutagrad.lab.claims.checks import PLANNED as ERRORS

__all__ = ["PLANNED", "Interval", "Planned", "Tried", "interval", "of_tried"]


class Interval(NamedTuple):
    """Where a number is put: value ± tolerance, what that rests on, and why, as `mutagrad.lab.claims.checks.near` takes them."""

    value: float
    tolerance: float
    basis: str
    why: str


class Planned(NamedTuple):
    """A number that is 1 by gradient descent.

    Attributes
    ----------
    order : its next order over λα, by `fluctuations`.
    deviation : of one run, over √(λα); from trials.
    """

    order: float
    deviation: float


class Tried(NamedTuple):
    """A ratio to the next order.

    Attributes
    ----------
    k : in (1 + kλα)^−p, and doubt : how far the trials are apart in it, or its standard error where that is more.
    deviation : of one run, times √(λα), or as it is for "spread", of which the error does not depend on λα.
    seen : the ratios that trials found, in the order of their λα.
    power : p, 2 of a square.
    """

    k: float
    doubt: float
    deviation: float
    seen: tuple[float, ...] = ()
    power: int = 1


TRIALS = {
    0.4: "4,096 runs each at 50 points, λα = 4·10⁻⁴ and 8·10⁻⁴ (keys 95022, 95021)",
    2.0: "1,024 runs each at 50 points, λα = 2·10⁻⁴, 4·10⁻⁴ and 8·10⁻⁴ (keys 95001 to 95003)",
    10.0: "64 runs each at 1,000 points, λα = 5·10⁻⁵ and 10⁻⁴ (keys not kept)",
}
"""By time of the end: what `PLANNED` takes from trials. To t = 2 the law at 50 points is that at 1,000 within 0.4 %."""
PLANNED: dict[float, dict[str, Planned | Tried]] = {
    0.4: {
        "end": Planned(-872, 3.9), "first": Planned(-801, 16), "second": Planned(-888, 18), "third": Planned(-835, 30),
        "fourth": Planned(-862, 32), "shift": Tried(930, 20, 0.0057, (0.729, 0.573)),
        "spread": Tried(800, 90, 0.21, (0.767, 0.651)),
        "loss": Planned(286, 4.2), "excess": Tried(185, 35, 0.0155, (0.929, 0.878)),
        "distance": Tried(930, 20, 0.0083, (0.533, 0.328), 2),
    },
    2.0: {
        "end": Planned(-1023, 3.2), "first": Planned(-956, 15), "second": Planned(-974, 15), "third": Planned(-985, 25),
        "fourth": Planned(-985, 26), "shift": Tried(1000, 30, 0.0034, (0.836, 0.712, 0.557)),
        "spread": Tried(1330, 45, 0.22, (0.788, 0.653, 0.491)),
        "loss": Planned(61, 1.06), "excess": Tried(215, 150, 0.0165, (0.933, 0.919, 0.855)),
        "distance": Tried(1000, 30, 0.0061, (0.698, 0.508, 0.310), 2),
    },
    10.0: {
        "end": Planned(-5703, 29), "first": Planned(-896, 28), "second": Planned(2087, 58), "third": Planned(-936, 29),
        "fourth": Planned(-15_551, 90), "shift": Tried(37_000, 3000, 0.001),
        "spread": Tried(6500, 5000, 1.1),
        "loss": Planned(236, 0.74), "excess": Tried(39_000, 6000, 0.0018),
        "distance": Tried(53_000, 10_000, 0.0031),
    },
}  # fmt: skip
"""By time of the end."""


def of_tried(known: Tried, step: float, chance: float, trials: str) -> Interval:
    """Where trials put a ratio to the next order.

    Parameters
    ----------
    known : what they found. step : λα. chance : planned standard error. trials : their settings, keys and values, in words.
    """
    value = (1 + known.k * step) ** -known.power
    doubt = known.power * known.doubt * step * value
    found = f" found {', '.join(f'{one:.3f}' for one in known.seen)} and" if known.seen else ""
    return Interval(
        value, doubt + ERRORS * chance, "trial",
        f"1 for λα → 0; trials, {trials},{found} put the order after it at (1 + kλα)^−{known.power}, k = {known.k:,.5g} ± "
        f"{known.doubt:,.3g}: {value:.3f} ± {doubt:.1g} here, and six planned errors of {chance:.2g}",
    )  # fmt: skip


def interval(settings: dict[str, Any], name: str) -> Interval:
    """The interval of a number of runs on the net of Fig. 1; ``settings`` tell alpha, ratio, runs and time."""
    step, number, known = settings["alpha"] * settings["ratio"], settings["runs"], PLANNED[settings["time"]][name]
    if isinstance(known, Tried):
        scale = 1.0 if name == "spread" else 1 / math.sqrt(step)
        return of_tried(known, step, known.deviation * scale / math.sqrt(number), TRIALS[settings["time"]])
    chance = known.deviation * math.sqrt(step / number)
    return Interval(
        1, abs(known.order) * step + ERRORS * chance, "theory",
        f"the linear law puts the next order at {known.order:,.0f}λα = {known.order * step:.2g}; six planned errors of "
        f"{chance:.2g}",
    )  # fmt: skip
