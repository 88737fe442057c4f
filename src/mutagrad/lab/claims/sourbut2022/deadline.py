"""S22-13: fixation by a time as selection: it is monotone in the selection coefficient at every time."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mutagrad.lab.claims.checks import PLANNED, Expected, above, below, near
from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.lab.claims.sourbut2022.populations import Population, constant, with_one_mutation
from mutagrad.report.figures import panels
from mutagrad.theory.population import fixation_by

__all__ = ["CLAIMS", "exact", "simulated"]

MODELS = ("moran", "wright_fisher")
_NAMES = {"moran": "Moran", "wright_fisher": "Wright and Fisher"}
_IN_S = "least ratio of P(fixed by t) from one selection coefficient to the next, n up to {}, {}"
_IN_TIME = "least ratio of P(fixed by t) from one time to the next, n up to {}, {}"
_AT_ONCE = "least ratio of P(fixed between two times) from one selection coefficient to the next, n up to {}, {}"
_SIMULATED = "P(fixed by {:g} n generations), s = {:g}, {}, n = {}"


def _rounding(settings: dict[str, Any]) -> float:
    """What powers of a matrix of numbers of 0 or more lose at most: so many steps, each a sum of n + 1 of them."""
    most = max(settings["sizes"])
    return 10 * most * most * (most + 1) * 2.0**-53


def _times(settings: dict[str, Any], number: int) -> np.ndarray:
    """Generations from 2 to 10 n, and any time at all."""
    return np.append(np.unique(np.round(np.geomspace(2, 10 * number, settings["times"]))), math.inf)


def exact(settings: dict[str, Any], model: str, number: int) -> np.ndarray:
    """(S, T) P(fixed by t) of one mutant, over the selection coefficients and the times."""
    return np.array(
        [fixation_by(_times(settings, number).tolist(), s, number, model) for s in settings["coefficients"]]
    )


def expect_deadline(settings: dict[str, Any]) -> list[Expected]:
    """The intervals of S22-13."""
    stated, most, rounding = [], max(settings["sizes"]), _rounding(settings)
    for model in MODELS:
        name = _NAMES[model]
        why = "a larger s makes every p_i larger and the chain is stochastically monotone (theory.md 6.6), so above 1"
        stated.append(above(_IN_S.format(most, name), 1 + rounding, "theory", why, exact=True))
        why = f"n is an end of the chain; {rounding:.1g} for rounding"
        stated.append(above(_IN_TIME.format(most, name), 1 - rounding, "identity", why, exact=True))
        why = "beneficial mutations are fixed early, so that few of them are left for later times: below 1"
        stated.append(below(_AT_ONCE.format(most, name), 1 - rounding, "theory", why, ours=True, exact=True))
        for s in settings["simulated"]:
            for share in settings["shares"]:
                number, runs = settings["population"], settings["runs"]
                chance = float(fixation_by(share * number, s, number, model))
                error = math.sqrt(chance * (1 - chance) / runs)
                why = f"{chance:.4f} from the exact chain; six planned errors of {error:.1e}, those of {runs:,} populations"
                what = _SIMULATED.format(share, s, name, number)
                stated.append(near(what, chance, PLANNED * error, "error", why))
    return stated


def simulated(job: Job, model: str) -> np.ndarray:
    """(S, runs) generation at which the mutant of a real population was fixed; infinity where it was not by the last time."""
    number, runs = job["population"], job["runs"]
    population = Population.of(1.0, 1.0, number, 0.0, model, False, constant())
    births = number if model == "moran" else 1
    steps = round(max(job["shares"]) * number * births)

    @jax.jit
    def run(keys, s):
        def one(key):
            def body(i, carry):
                state, fixed = carry
                state, told = population.step(jax.random.fold_in(key, i), state, lambda x: -s * x[0])
                return state, jnp.where(told.is_fixed, i + 1, fixed)

            start = with_one_mutation(population.resting.init(jnp.zeros(1)), jnp.zeros(2, jnp.uint32))
            return jax.lax.fori_loop(0, steps, body, (start, 0))[1]

        return jax.vmap(one)(keys)

    found = np.empty((len(job["simulated"]), runs))
    for j, s in enumerate(job["simulated"]):
        keys = jax.random.split(jax.random.fold_in(job.key, 10 * MODELS.index(model) + j), runs)
        parts = [np.asarray(run(part, jnp.float32(s)), float) for part in keys.reshape(-1, min(runs, 1024))]
        found[j] = np.concatenate(parts)
        job.progress((j + 1) / len(found))
    return np.where(found == 0, math.inf, found / births)


def run_deadline(job: Job) -> Outcome:
    """Exact chains of n up to 200 genomes, and real populations beside them."""
    import xarray

    found: dict[str, tuple[float, float]] = {}
    most, curves = max(job["sizes"]), {}
    for i, model in enumerate(MODELS):
        in_s, in_time, at_once = [], [], []
        for j, number in enumerate(job["sizes"]):
            name = f"exact {model} {number} {job['times']} {job['coefficients']}"
            kept = job.load(name)
            chances = exact(job.settings, model, number) if kept is None else kept["chances"]
            job.keep(name, {"chances": chances}, is_last=True)
            between = np.diff(chances[:, :-1], axis=1)
            ever, by = chances[:, -1:], chances[:, :-1]
            # Fixation at all is the solution of linear equations, without the digits of what is very small.
            in_s.append(min(_least(by[1:], by[:-1]), _least(ever[1:], ever[:-1], 1e-6)))
            in_time.append(min(_least(by[:, 1:], by[:, :-1]), _least(ever, by[:, -1:], 1e-6)))
            at_once.append(_least(between[1:], between[:-1], 1e-6))
            curves[model, number] = chances
            job.progress(0.5 * (i + (j + 1) / len(job["sizes"])) / 2)
        for what, ratios in ((_IN_S, in_s), (_IN_TIME, in_time), (_AT_ONCE, at_once)):
            found[what.format(most, _NAMES[model])] = (min(ratios), 0.0)
    number, shares = job["population"], np.array(job["shares"])
    shown = np.empty((2, len(MODELS), len(job["simulated"]), len(shares)))
    for i, model in enumerate(MODELS):
        name = f"{job['runs']} of {number} {model} {job['simulated']} {job['shares']} key {job['key']}"
        kept = job.load(name)
        times = simulated(job.part(0.5 + i / 4, 0.25), model) if kept is None else kept["times"]
        job.keep(name, {"times": times}, is_last=True)
        for j, s in enumerate(job["simulated"]):
            for k, share in enumerate(shares):
                chance = np.mean(times[j] <= share * number)
                # One more of each, so that none of many has an error too.
                usual = (chance * job["runs"] + 1) / (job["runs"] + 2)
                error = math.sqrt(usual * (1 - usual) / job["runs"])
                found[_SIMULATED.format(share, s, _NAMES[model], number)] = (float(chance), error)
                shown[:, i, j, k] = chance, error
    data = xarray.Dataset(
        {
            "simulated": (("what", "model", "s", "share"), shown),
            "exact": (("model", "coefficient", "time"), np.stack([curves[model, most] for model in MODELS])),
        },
        coords={
            "what": ["value", "error"], "model": list(MODELS), "s": list(job["simulated"]), "share": shares,
            "coefficient": list(job["coefficients"]), "time": _times(job.settings, most),
        },
        attrs={"population": number, "largest": most},
    )  # fmt: skip
    return Outcome(found, data, draw_deadline)


def _least(after: np.ndarray, before: np.ndarray, smallest: float = 1e-280) -> float:
    """The least ratio of two, where the second has its digits."""
    known = before > smallest
    return float(np.min(after[known] / before[known])) if known.any() else math.inf


def draw_deadline(data: Any) -> Any:
    """Fixation by a time against the selection coefficient, exact, and populations beside their chains."""
    figure, axes = panels(2 * len(data.model), 4)
    times = data.time.values
    for axis, model in zip(axes, data.model.values, strict=False):
        # Dark to light in the order of time.
        for shade, k in enumerate(np.linspace(len(times) // 3, len(times) - 1, 5).astype(int)):
            label = "ever" if math.isinf(times[k]) else f"by {times[k]:g}"
            one = data.exact.sel(model=model).isel(time=k)
            colour = (0.1 + 0.16 * shade, 0.25 + 0.13 * shade, 0.5 - 0.05 * shade)
            axis.plot(
                data.coefficient, one.where(one > 1e-9), ".-", markersize=4, linewidth=1, color=colour, label=label
            )
        axis.set(yscale="log", ylim=(1e-9, 2), xlabel="selection coefficient s", ylabel="P(fixed by a generation)")
        axis.set_title(f"{_NAMES[str(model)]}, n = {data.attrs['largest']}, exact", fontsize=10)
        axis.legend(frameon=False, fontsize=8)
    number = data.attrs["population"]
    every = np.arange(1, round(float(data.share.values[-1]) * number) + 1)
    for axis, model in zip(axes[len(data.model) :], data.model.values, strict=False):
        for j, s in enumerate(data.s.values):
            axis.plot(every, fixation_by(every.tolist(), float(s), number, str(model)), color=f"C{j}", linewidth=1)
            value, error = data.simulated.sel(model=model, s=s).values
            place = data.share.values * number
            axis.errorbar(place, value, 3 * error, fmt="o", color=f"C{j}", markersize=4, label=f"s = {s:g}")
        axis.set(xlabel="generation", ylabel="P(fixed by a generation)")
        axis.set_title(f"{_NAMES[str(model)]}, n = {number}, populations", fontsize=10)
        axis.legend(frameon=False, fontsize=8)
    return figure


_GRID = {
    "sizes": (2, 5, 20, 50, 200), "times": 10,
    "coefficients": (-0.5, -0.2, -0.1, -0.05, -0.02, -0.01, 0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0),
    "population": 12, "simulated": (-0.1, 0.0, 0.3), "shares": (1.0, 2.0, 4.0),
}  # fmt: skip
_DEADLINES = {
    "quick": _GRID | {"runs": 32_768, "key": 22134},
    "paper": _GRID | {"runs": 2**18, "key": 22135},
}

CLAIMS = [
    Claim(
        "S22-13",
        "sourbut2022",
        "footnote 5",
        "the probability of fixation by a time rises with the selection coefficient at every time, and does not fall in time; P: "
        "the probability of fixation between two times does not rise with it",
        _DEADLINES,
        run_deadline,
        lambda settings: Needs(6.0 * settings["runs"] * settings["population"] ** 3 * 4, 1e9, 1e6),
        "exact chains of up to {sizes} genomes; {runs} populations of {population}, bars are three errors",
        expect_deadline,
    ),
]
