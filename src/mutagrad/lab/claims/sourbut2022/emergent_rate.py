"""S22-2: the learning rate and the noise that emerge from selection, against the slope."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import mutagrad
from mutagrad import law, theory
from mutagrad.lab.claims.checks import PLANNED, Expected, near
from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.lab.claims.sourbut2022.pairs import (
    acceptance_of,
    kept_or_measured,
    measure,
    orthonormal,
    planned,
    planned_exponent,
)
from mutagrad.report.figures import panels
from mutagrad.types import Algorithm, Selection

__all__ = ["CLAIMS", "algorithms"]

_BALANCED = ("Metropolis", "logistic", "Moran")
_POWERS = {"Metropolis": 0.0, "logistic": 0.0, "Moran": 0.0, "probit": 0.0, "square root": -0.5}
"""Power of |∇U| in the learning rate at small slopes: 0 with a derivative at 0 from one side."""
_RATE = "learning rate per accepted step over ½κσ², κσ|∇U| = {:g}, {}"
_SMALL = "power of |∇U| in the learning rate, slopes {:g} to {:g}, {}"
_LARGE = "power of |∇U| in the learning rate less that of the quadrature, slopes {:g} to {:g}, {}"
_ALONG = "variance of a step along ∇U over its law, slope {:g}, {}"
_ACROSS = "variance of a step across ∇U over its law, slope {:g}, {}"


def algorithms() -> dict[str, Algorithm]:
    """Rules of inverse temperature 1 at σ = 1: the slope σ|∇U| is then κσ|∇U|. Two of them know no detailed balance."""

    def own(chance: Any) -> Algorithm:
        def select(key: jax.Array, losses: jax.Array, parent_losses: jax.Array) -> jax.Array:
            return jnp.where(jax.random.uniform(key) < chance(losses[0] - parent_losses[0]), 0, -1)

        selection = Selection(select, "user", law=law.Acceptance(chance))
        return mutagrad.mutation_selection(mutagrad.mutation.gaussian(), selection, 1, sigma=1.0)

    return {
        "Metropolis": mutagrad.metropolis(1.0, 1.0),
        "logistic": mutagrad.logistic(1.0, 1.0),
        "Moran": mutagrad.fixation(1.0, 1 / 19, 20),
        "probit": own(lambda x: jax.scipy.special.ndtr(-jnp.asarray(x))),
        "square root": own(lambda x: jnp.exp(-jnp.sqrt(jnp.maximum(jnp.asarray(x), 0)))),
        "greedy": mutagrad.greedy(1.0),
    }


def expect_rate(settings: dict[str, Any]) -> list[Expected]:
    """The intervals of S22-2."""
    stated, size, number, slopes = [], settings["size"], settings["pairs"], settings["slopes"]
    for name, algorithm in algorithms().items():
        if name in _BALANCED:
            plan = planned(algorithm, slopes[0], size)
            # 2T/(½ + T) with T = ½ − b/√(2π) for Metropolis (theory.md 1.4); a smooth rule has no term of first order in b.
            order = slopes[0] / math.sqrt(2 * math.pi) if name == "Metropolis" else slopes[0] ** 2
            gradient = np.array([1 / plan.mean[0], -1 / plan.mean[1]])
            error = math.sqrt(gradient @ plan.covariance[:2, :2] @ gradient / number)
            why = f"theory.md 6.3; the next order takes {order:.1e}, and six planned errors of {error:.1e}"
            what = _RATE.format(slopes[0], name)
            stated.append(near(what, 1, order + PLANNED * error, "theory", why, ours=True))
        if name in _POWERS:
            power, _ = planned_exponent(algorithm, slopes[0], slopes[1], size, number)
            # The next order of A is √(κ|ΔU|) or κΔU against the first, and it bends the power by a share of that.
            room = math.sqrt(slopes[1]) if _POWERS[name] else slopes[1]
            why = (
                f"A falls {'like |ΔU|^½' if _POWERS[name] else 'with a slope'} at 0; the next order is {room:g} of the first at "
                f"most (by quadrature the power is {power:.4f})"
            )
            what = _SMALL.format(slopes[0], slopes[1], name)
            stated.append(near(what, _POWERS[name], room, "theory", why, ours=True))
            power, error = planned_exponent(algorithm, slopes[-2], slopes[-1], size, number)
            why = f"the quadrature of theory.md 1.3, {power:.4f}; six planned errors of {error:.1e}"
            stated.append(near(_LARGE.format(slopes[-2], slopes[-1], name), 0, PLANNED * error, "error", why))
        else:
            why = "A depends on the sign of ΔU alone, so that the same mutations make the same step at every slope"
            what = _SMALL.format(slopes[0], slopes[-1], name)
            stated.append(near(what, -1, 1e-4, "identity", why, ours=True, exact=True))
        for slope in settings["noise_slopes"]:
            along, across = _planned_noise(algorithm, slope, size, number)
            why = f"theory.diffusion less the square of theory.drift; six planned errors of {along:.1e}"
            stated.append(near(_ALONG.format(slope, name), 1, PLANNED * along, "error", why))
            why = f"theory.diffusion; six planned errors of {across:.1e}"
            stated.append(near(_ACROSS.format(slope, name), 1, PLANNED * across, "error", why))
    return stated


def _planned_noise(algorithm: Algorithm, slope: float, size: int, number: int) -> tuple[float, float]:
    """Relative errors of the two variances of a step."""
    plan = planned(algorithm, slope, size)
    mean, covariance = plan.mean, plan.covariance
    gradient = np.array([-2 * mean[0], 1.0])
    along = math.sqrt(gradient @ covariance[np.ix_([0, 2], [0, 2])] @ gradient / number) / (mean[2] - mean[0] ** 2)
    # The mean square of N − 1 normal components varies too.
    square = (covariance[1, 1] + mean[1] ** 2) * (1 + 2 / (size - 1))
    return along, math.sqrt((square - mean[3] ** 2) / number) / mean[3]


def run_rate(job: Job) -> Outcome:
    """Learning rates over the slopes, all rules and slopes with the same mutations, and the covariance of a step."""
    import xarray

    names, slopes, size = list(algorithms()), list(job["slopes"]), job["size"]
    unit = np.repeat(orthonormal(np.random.default_rng(job["key"]), size, 1), len(slopes), axis=1)
    rules = [acceptance_of(one) for one in algorithms().values()]
    measured = kept_or_measured(
        job,
        f"{job['pairs']} pairs at {slopes}, N = {size}, key {job['key']}",
        lambda: measure(mutagrad.mutation.gaussian(), rules, unit, slopes, job["pairs"], job.key, precise=True),
    )
    found: dict[str, tuple[float, float]] = {}
    rates = np.empty((2, len(names), len(slopes)))
    for k, (name, algorithm) in enumerate(algorithms().items()):
        mean, covariance = measured.mean[k], measured.covariance[k]
        rates[0, k] = -mean[:, 0] / mean[:, 1] / slopes
        logs = [_of_log(mean, i) for i in range(len(slopes))]
        rates[1, k] = [rate * math.sqrt(one @ covariance @ one) for rate, one in zip(rates[0, k], logs, strict=True)]
        if name in _BALANCED:
            found[_RATE.format(slopes[0], name)] = tuple(2 * rates[:, k, 0])
        if name in _POWERS:
            for what, (i, j), law_of in ((_SMALL, (0, 1), None), (_LARGE, (-2, -1), algorithm)):
                ratio = math.log(slopes[j] / slopes[i])
                power = math.log(rates[0, k, j] / rates[0, k, i]) / ratio
                apart = logs[j] - logs[i]
                error = math.sqrt(apart @ covariance @ apart) / ratio
                if law_of is not None:
                    power -= _power(law_of, slopes[i], slopes[j], size)
                found[what.format(slopes[i], slopes[j], name)] = (power, error)
        else:
            power = math.log(rates[0, k, -1] / rates[0, k, 0]) / math.log(slopes[-1] / slopes[0])
            found[_SMALL.format(slopes[0], slopes[-1], name)] = (power, 0.0)
        for slope in job["noise_slopes"]:
            i = slopes.index(slope)
            noise, drift = theory.diffusion(algorithm, slope), float(theory.drift(algorithm, slope))
            gradient = np.zeros((len(slopes), 4))
            gradient[i, 0], gradient[i, 2] = -2 * mean[i, 0], 1
            exact = float(noise.longitudinal) - drift**2
            error = math.sqrt(gradient.ravel() @ covariance @ gradient.ravel())
            found[_ALONG.format(slope, name)] = ((mean[i, 2] - mean[i, 0] ** 2) / exact, error / exact)
            error, exact = math.sqrt(covariance[4 * i + 3, 4 * i + 3]), float(noise.transverse)
            found[_ACROSS.format(slope, name)] = (mean[i, 3] / exact, error / exact)
    data = xarray.Dataset(
        {
            "rate": (("what", "rule", "slope"), rates),
            "along": (("rule", "slope"), measured.mean[:, :, 2] - measured.mean[:, :, 0] ** 2),
            "across": (("rule", "slope"), measured.mean[:, :, 3]),
        },
        coords={"what": ["value", "error"], "rule": names, "slope": slopes},
    )
    return Outcome(found, data, draw_rate)


def _power(algorithm: Algorithm, low: float, high: float, size: int) -> float:
    """Power of the slope in the learning rate per accepted step between two slopes, by theory."""
    rates = [
        abs(float(theory.drift(algorithm, slope, num_parameters=size)))
        / float(theory.acceptance_rate(algorithm, slope, num_parameters=size))
        / slope
        for slope in (low, high)
    ]
    return math.log(rates[1] / rates[0]) / math.log(high / low)


def _of_log(mean: np.ndarray, index: int) -> np.ndarray:
    """Derivative of the logarithm of the learning rate at a slope, by all means."""
    gradient = np.zeros_like(mean)
    gradient[index, 0], gradient[index, 1] = 1 / mean[index, 0], -1 / mean[index, 1]
    return gradient.ravel()


def draw_rate(data: Any) -> Any:
    """Learning rates and variances of a step against the slope."""
    figure, (left, right) = panels(2, 5.2)
    slopes = np.geomspace(data.slope.values[0], data.slope.values[-1], 60)
    for k, (name, algorithm) in enumerate(algorithms().items()):
        color, one = f"C{k}", data.sel(rule=name)
        step, rate = (np.asarray(law_of(algorithm, slopes)) for law_of in (theory.drift, theory.acceptance_rate))
        left.plot(slopes, -step / rate / slopes, color=color, linewidth=1)
        left.plot(data.slope, one.rate.sel(what="value"), "o", color=color, markersize=4, label=name)
        noise = theory.diffusion(algorithm, slopes)
        right.plot(slopes, np.asarray(noise.longitudinal) - step**2, color=color, linewidth=1)
        right.plot(slopes, np.asarray(noise.transverse), color=color, linewidth=1, linestyle="--")
        right.plot(data.slope, one.along, "o", color=color, markersize=4)
        right.plot(data.slope, one.across, "s", color=color, markersize=4, fillstyle="none")
    left.axhline(0.5, color="k", linestyle=":", linewidth=1)
    left.set(xscale="log", yscale="log", xlabel="slope κσ|∇U|", ylabel="learning rate per accepted step [κσ²]")
    left.legend(frameon=False, fontsize=8)
    right.set(xscale="log", yscale="log", xlabel="slope κσ|∇U|", ylabel="variance of a step [σ²]; dashed: across ∇U")
    return figure


_COMMON = {"size": 10, "slopes": (0.02, 0.04, 0.1, 0.3, 1.0, 2.5, 5.0), "noise_slopes": (1.0, 5.0)}
_RATES = {
    "quick": _COMMON | {"pairs": 400_000, "key": 22102},
    "paper": _COMMON | {"pairs": 20_000_000, "key": 22122},
}

CLAIMS = [
    Claim(
        "S22-2",
        "sourbut2022",
        "further work",
        "the learning rate and the noise of a step that emerge from selection are those of theory; P: the rate is constant at "
        "small slopes exactly where the selection function has a derivative at 0 from one side, and ½κσ² per accepted step for "
        "all rules with detailed balance at κ",
        _RATES,
        run_rate,
        lambda settings: Needs(12.0 * settings["pairs"] * len(settings["slopes"]), 1e9, 1e6),
        "linear losses, N = {size}, normal mutations, {pairs} pairs of them; lines are quadratures",
        expect_rate,
    ),
]
