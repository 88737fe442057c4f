"""S22-4: selection by fixation in a population, where population size is inverse temperature."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

import mutagrad
from mutagrad.lab.claims.checks import ERRORS, PLANNED, Expected, near
from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.lab.claims.sourbut2022.pairs import planned, tangent_room
from mutagrad.lab.claims.sourbut2022.populations import Population, averages, means, stationary_of_chain, time_to_an_end
from mutagrad.report.figures import panels
from mutagrad.theory.population import inverse_temperature

__all__ = ["CLAIMS"]

_CHAINS = (("moran", 5), ("moran", 20), ("moran", 100), ("wright_fisher", 20))
_WAITING, _PLAIN = "the next mutation waits", "few mutations"
_POPULATIONS = (
    ("moran", 5, _WAITING),
    ("moran", 5, _PLAIN),
    ("wright_fisher", 10, _WAITING),
    ("wright_fisher", 10, _PLAIN),
)
_VARIANCE = "variance of x on ½x² times νβ, {}"
_INSIDE = "share of |x| below one standard deviation of e^−νβU, on ½x², {}"
_LOSS = "mean loss on the double well over that of e^−νβU, {}"
_LEFT = "share of the lower of two wells, {}"
_ANGLE = "squared tangent of the angle from −∇U to the mean fixed mutation, a population of Moran"
_LENGTH = "length of the mean fixed mutation over that of the formula, a population of Moran"
_ONE_INSIDE = float(scipy.stats.chi2.cdf(1, 1))


def double_well(x: jax.Array) -> jax.Array:
    """U = (x² − 1)² + 0.15 x, x of shape (1,): the left well is the lower one."""
    return jnp.sum(jnp.square(jnp.square(x) - 1) + 0.15 * x)


def quadratic(x: jax.Array) -> jax.Array:
    """U = ½ x², x of shape (1,)."""
    return jnp.sum(jnp.square(x)) / 2


def _name(model: str, number: int, how: str = "chain of the formula") -> str:
    return f"{'Moran' if model == 'moran' else 'Wright and Fisher'}, n = {number}, {how}"


def _of_double_well(kappa: float) -> tuple[float, float]:
    """Mean loss and share of x < 0 under e^{−κU}."""
    x = np.linspace(-6, 6, 40_001)
    loss = (x**2 - 1) ** 2 + 0.15 * x
    weight = np.exp(-kappa * (loss - loss.min()))
    return float(loss @ weight / weight.sum()), float(weight[x < 0].sum() / weight.sum())


def _neighbour(number: int, room: float) -> str:
    """What n in place of n − 1 would give, and whether an interval of so much room and half as much of an error excludes it."""
    apart = (number - 1) / number
    return f"n in place of n − 1 would make it {apart:.2f}" + (
        "" if 1 - apart > 1.5 * room else ", which this does not tell"
    )


def expect_second(settings: dict[str, Any]) -> list[Expected]:
    """The intervals of S22-4."""
    stated = []
    for (model, number), spreads in zip(_CHAINS, settings["chain_spreads"], strict=True):
        name, kappa = _name(model, number), inverse_temperature(number, model, settings["beta"])
        room = PLANNED / math.sqrt(settings["chains"])
        why = (
            f"exact (theory.md 6.2); six planned errors, a chain's mean having the spread {spreads[0]:g} as trials found it; "
            + _neighbour(number, room * spreads[0])
        )
        stated.append(near(_VARIANCE.format(name), 1, room * spreads[0], "error", why, ours=True))
        _, left = _of_double_well(kappa)
        why = f"exact; six planned errors, the spread of a chain being {spreads[1]:g} of it"
        stated.append(near(_LOSS.format(name), 1, room * spreads[1], "error", why, ours=True))
        why = f"exact, {left:.4f} at νβ = {kappa:.3g}; six planned errors, the spread of a chain being {spreads[2]:g}"
        stated.append(near(_LEFT.format(name), left, room * spreads[2], "error", why, ours=True))
    for (model, number, how), spreads in zip(_POPULATIONS, settings["population_spreads"], strict=True):
        name, kappa = _name(model, number, how), inverse_temperature(number, model, settings["population_beta"])
        wait = math.inf if how == _WAITING else 1 / settings["small_rate"]
        exact, inside = stationary_of_chain(model, number, kappa, settings["spread"], wait)
        room = PLANNED / math.sqrt(settings["populations"])
        # Mutations that meet another one, to first order; a combination of two is fixed or lost as one.
        shared = 0.0 if how == _WAITING else settings["small_rate"] * time_to_an_end(0.0, number, model)
        why = (
            f"1 by theory.md 6.2, {exact:.4f} from the exact chain of mutants; {shared:.3f} for as many that meet another; six "
            f"planned errors, spread {spreads[0]:g} as trials found it; {_neighbour(number, shared + room * spreads[0])}"
        )
        stated.append(
            near(_VARIANCE.format(name), 1, abs(exact - 1) + shared + room * spreads[0], "theory", why, ours=True)
        )
        why = (
            f"{_ONE_INSIDE:.4f} of a normal law, {inside:.4f} from the exact chain, and the same; spread {spreads[1]:g}"
        )
        allowed = abs(inside - _ONE_INSIDE) + shared * _ONE_INSIDE + room * spreads[1]
        stated.append(near(_INSIDE.format(name), _ONE_INSIDE, allowed, "theory", why, ours=True))
    return stated + _expect_step(settings)


def _fixed_moments(settings: dict[str, Any]) -> np.ndarray:
    """E[z_g A], E[A], E[z_g² A] and E[u² A] of the formula for the population of `_step_of_population`."""
    algorithm = mutagrad.fixation(1.0, settings["step_beta"], settings["step_genomes"])
    return planned(algorithm, 1.0, settings["size"]).mean


def _expect_step(settings: dict[str, Any]) -> list[Expected]:
    first, rate, second, across = _fixed_moments(settings)
    # At least so many are fixed, as trials found.
    number, size = settings["fixed"], settings["size"]
    length = first / rate
    error = math.sqrt(2 * (size - 1)) * across / rate / number / length**2
    room = tangent_room(size, ERRORS)
    why = (
        f"0 by symmetry; {room:.1f} planned errors of {error:.1e}, so many for the skew χ²: an angle of "
        f"{math.degrees(math.atan(math.sqrt(room * error))):.2g}°"
    )
    stated = [near(_ANGLE, 0, room * error, "error", why)]
    error = math.sqrt((second / rate / length**2 - 1) / number)
    why = f"Moran's formula is exact (theory.md 6.1), integrated as in 1.1 and 1.9; six planned errors of {error:.1e}"
    return [*stated, near(_LENGTH, 1, PLANNED * error, "error", why)]


def _of_chain(job: Job, model: str, number: int, key: jax.Array) -> list[tuple[float, float]]:
    """κE[x²] on the quadratic, and mean loss and share of x < 0 on the double well, of chains of the formula."""
    beta, found = job["beta"], []
    kappa = inverse_temperature(number, model, beta)

    def on_quadratic(x: jax.Array) -> jax.Array:
        return jnp.stack([kappa * x[0] ** 2, x[0]])

    def on_well(x: jax.Array) -> jax.Array:
        return jnp.stack([double_well(x), jnp.where(x[0] < 0, 1.0, 0.0)])

    for which, (loss_fn, observe, sigma) in enumerate(
        ((quadratic, on_quadratic, job["spread"] / math.sqrt(kappa)), (double_well, on_well, job["well_sigma"]))
    ):
        algorithm = mutagrad.fixation(sigma, beta, number, model)

        def advance(key, state, algorithm=algorithm, loss_fn=loss_fn):
            return algorithm.step(key, state, loss_fn)[0], 1.0

        sums = averages(
            job.part(which / 2, 0.5), f"chain {model} {number} {which}", advance, observe, algorithm.init(jnp.zeros(1)),
            job["chains"], job["steps_per_genome"] * number, jax.random.fold_in(key, which),
        )  # fmt: skip
        found += means(sums)
    return [found[0], found[2], found[3]]


def _of_population(job: Job, model: str, number: int, how: str, key: jax.Array) -> list[tuple[float, float]]:
    """κE[x²] and P(κx² < 1) of the fixed part of real populations on the quadratic."""
    beta, waits = job["population_beta"], how == _WAITING
    kappa = inverse_temperature(number, model, beta)
    # Mutations per birth; a generation of Wright and Fisher has n births.
    rate = job["small_rate"] / (1 if model == "moran" else number)
    population = Population.of(job["spread"] / math.sqrt(kappa), beta, number, rate, model, waits)

    def advance(key, state):
        after, told = population.step(key, state, quadratic)
        # Where the next mutation waits, what is weighed is the fixed part that it meets, not how long the last one segregates.
        return after, jnp.where(told.is_new, 1.0, 0.0) if waits else 1.0

    def observe(x):
        return jnp.stack([kappa * x[0] ** 2, jnp.where(kappa * x[0] ** 2 < 1, 1.0, 0.0)])

    sums = averages(
        job, f"population {model} {how}", advance, observe, population.mutating.init(jnp.zeros(1)), job["populations"],
        job["births" if waits else "long_births"], key,
    )  # fmt: skip
    return means(sums)


def run_second(job: Job) -> Outcome:
    """Chains of the formula and real populations against e^{−νβU}, and the mean of what a real population fixes."""
    import xarray

    found: dict[str, tuple[float, float]] = {}
    for index, (model, number) in enumerate(_CHAINS):
        name, kappa = _name(model, number), inverse_temperature(number, model, job["beta"])
        variance, loss, left = _of_chain(job.part(index / 9, 1 / 9), model, number, jax.random.fold_in(job.key, index))
        mean, _ = _of_double_well(kappa)
        found |= {_VARIANCE.format(name): variance, _LEFT.format(name): left}
        found[_LOSS.format(name)] = (loss[0] / mean, abs(loss[1] / mean))
    for index, (model, number, how) in enumerate(_POPULATIONS):
        part, key = job.part((4 + index) / 9, 1 / 9), jax.random.fold_in(job.key, 100 + index)
        variance, inside = _of_population(part, model, number, how, key)
        name = _name(model, number, how)
        found |= {_VARIANCE.format(name): variance, _INSIDE.format(name): inside}
    found |= _step_of_population(job)
    job.progress(1)
    names = list(found)
    data = xarray.Dataset(
        {
            "value": ("check", [found[name][0] for name in names]),
            "error": ("check", [found[name][1] for name in names]),
        },
        coords={"check": names},
        attrs={"beta": job["beta"], "population_beta": job["population_beta"]},
    )
    return Outcome(found, data, draw_second)


def _step_of_population(job: Job) -> dict[str, tuple[float, float]]:
    """Mean of the fixed mutations of a population of Moran on a linear loss, against −∇U and the formula."""
    size, runs = job["size"], job["populations"]
    unit = np.random.default_rng(job["key"]).standard_normal(size)
    unit /= np.linalg.norm(unit)
    gradient = jnp.asarray(unit, jnp.float32)
    population = Population.of(1.0, job["step_beta"], job["step_genomes"], 0.0, "moran", True)

    @jax.jit
    def run(keys):
        def one(key):
            def body(i, carry):
                state, fixed = carry
                after, told = population.step(jax.random.fold_in(key, i), state, lambda x: jnp.dot(gradient, x))
                moved = after.ancestor - state.ancestor
                # Back to the start, so that the fixed part keeps its digits.
                return after._replace(ancestor=jnp.zeros(size)), (fixed[0] + moved, fixed[1] + told.is_fixed)

            start = (population.mutating.init(jnp.zeros(size)), (jnp.zeros(size), 0))
            return jax.lax.fori_loop(0, job["step_births"], body, start)[1]

        return jax.vmap(one)(keys)

    keys = jax.random.split(jax.random.fold_in(job.key, 200), runs)
    total, number = (np.asarray(one, float) for one in run(keys))
    along = total @ unit
    across = total - along[:, None] * unit
    mean = number.sum() / runs
    length = along.sum() / number.sum()
    error = np.std(along - length * number, ddof=1) / math.sqrt(runs) / mean
    square = (np.sum(across.sum(0) ** 2) - np.sum(across**2)) / (runs * (runs - 1))
    each = np.sum(across**2) / runs / (size - 1)
    null = 2 * (size - 1) * each**2 / runs**2 + 4 * max(square, 0) * each / runs
    first, rate = _fixed_moments(job.settings)[:2]
    scale = (length * mean) ** 2
    return {
        _ANGLE: (float(square / scale), float(math.sqrt(null) / scale)),
        _LENGTH: (float(length / (first / rate)), float(abs(error / (first / rate)))),
    }


def draw_second(data: Any) -> Any:
    """Variances times νβ, and the share of the lower well against νβ."""
    figure, (left, right) = panels(2, 5.4)
    names = [str(name) for name in data.check.values if str(name).startswith("variance")]
    for place, name in enumerate(names):
        one = data.sel(check=name)
        left.errorbar(
            one.value, place, xerr=3 * one.error, fmt="o", color="C0" if "formula" in name else "C1", markersize=4
        )
    left.axvline(1, color="k", linestyle="--", linewidth=1)
    for place, name in enumerate(names):
        number = int(name.split("n = ")[1].split(",")[0])
        left.plot([(number - 1) / number], [place], "|", color="0.5", markersize=12)
    left.set_yticks(range(len(names)), [name.split("νβ, ")[1] for name in names], fontsize=8)
    left.invert_yaxis()
    left.set(xlabel="variance of x on ½x², times νβ; grey: with n in place of n − 1")
    kappas = np.geomspace(0.2, 30, 200)
    right.plot(kappas, [_of_double_well(kappa)[1] for kappa in kappas], "k--", linewidth=1, label="$e^{−νβU}/Z$")
    for place, (model, number) in enumerate(_CHAINS):
        one = data.sel(check=_LEFT.format(_name(model, number)))
        kappa = inverse_temperature(number, model, data.attrs["beta"])
        right.errorbar(
            kappa, one.value, 3 * one.error, fmt="o", color=f"C{place}", markersize=5,
            label=_name(model, number).removesuffix(", chain of the formula"),
        )  # fmt: skip
    right.set(xscale="log", xlabel="νβ", ylabel="share of the lower well", ylim=(0.45, 1.02))
    right.legend(frameon=False, fontsize=8)
    return figure


_COMMON = {
    "beta": 0.1, "spread": 1.5, "well_sigma": 1.5, "steps_per_genome": 200,
    "chain_spreads": ((0.2, 0.19, 0.09), (0.2, 0.25, 0.1), (0.2, 0.33, 0.06), (0.19, 0.6, 0.11)),
    "population_beta": 0.5, "births": 20_000, "long_births": 100_000, "small_rate": 0.003,
    "population_spreads": ((0.16, 0.055), (0.36, 0.13), (0.18, 0.06), (0.47, 0.17)),
    "size": 5, "step_beta": 1.0, "step_genomes": 5, "step_births": 4000,
}  # fmt: skip
_SECOND = {
    "quick": _COMMON | {"chains": 1024, "populations": 512, "fixed": 60_000, "key": 22104},
    "paper": _COMMON | {"chains": 20_480, "populations": 10_240, "fixed": 1_200_000, "key": 22124},
}


def _needs(settings: dict[str, Any]) -> Needs:
    genomes = sum(number for _, number in _CHAINS)
    chains = 2.0 * settings["chains"] * settings["steps_per_genome"] * genomes
    births = 2.0 * (settings["births"] + settings["long_births"]) + settings["step_births"]
    return Needs(chains + 10 * settings["populations"] * births, 1e9, 1e7)


CLAIMS = [
    Claim(
        "S22-4",
        "sourbut2022",
        "second model",
        "selection by fixation in a population of n is a selection function: what is fixed is along −∇U in the mean; P: "
        "population size is inverse temperature, so that what is fixed samples exp(−νβU) with ν = n − 1 (Moran) or 2(n − 1) "
        "(Wright and Fisher)",
        _SECOND,
        run_second,
        _needs,
        "{chains} chains of the formula at β = {beta}, {populations} real populations at β = {population_beta}; bars are three "
        "errors",
        expect_second,
    ),
]
