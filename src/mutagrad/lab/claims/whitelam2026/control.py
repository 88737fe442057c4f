"""W26-8: s measured from the losses of offspring alone, and σ driven to s* beside every fixed σ."""

import math
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

import mutagrad
from mutagrad import theory
from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.lab.claims.ensemble import mean_of
from mutagrad.lab.claims.quadratics import power_law
from mutagrad.lab.claims.tanh_nets import shallow_losses
from mutagrad.lab.claims.unregistered import below, near
from mutagrad.lab.claims.whitelam2026.generation import Point, net_point, quadratic_point
from mutagrad.report.figures import panels

__all__ = ["CLAIMS"]


# --- s from losses -----------------------------------------------------------------------------------------------------


def _measured(point: Point, sigma: float, num_offspring: int, number: int) -> tuple[np.ndarray, np.ndarray, int]:
    """s from the losses of many generations at one point: pooled, and as the mean of their estimates; with errors.

    Returns
    -------
    values and errors, (2,), and how many generations had no estimate (NaN).
    """
    algorithm = mutagrad.elitist(sigma, num_offspring)

    @jax.jit
    def generations(keys):
        def one(key):
            _, info = algorithm.step(key, algorithm.init(point.x), point.losses_fn)
            differences = info.loss_differences
            return jnp.mean(differences), jnp.var(differences, ddof=1), info.normalized_mutation_strength

        return jax.lax.map(one, keys, batch_size=4)

    keys = jax.random.split(jax.random.key(11), number)
    means, variances, strengths = (np.asarray(part, float) for part in generations(keys))
    pooled = 2 * means.mean() / math.sqrt(variances.mean())
    relative = means / means.mean() - variances / variances.mean() / 2
    finite = strengths[np.isfinite(strengths)]
    values = np.array([pooled, finite.mean()])
    errors = np.array([pooled * relative.std(ddof=1), finite.std(ddof=1)]) / math.sqrt(number)
    return values, errors, number - len(finite)


def _ratio_bias(num_offspring: int) -> float:
    """E[mean/std] over mean/std for M normal numbers: Student's noncentral t has this mean."""
    degrees = num_offspring - 1
    logs = special.gammaln((degrees - 1) / 2) - special.gammaln(degrees / 2)
    return math.sqrt(degrees / 2) * math.exp(logs)


def _gauge(job: Job) -> tuple[list, dict[str, Any]]:
    """Checks of s from losses against Hessian-vector products, and what the figure shows of it."""
    number, generations = job["num_offspring"], job["gauge_generations"]
    points = {
        "sphere": quadratic_point(job["gauge_size"], 0.0),
        "λ = k^−0.8": quadratic_point(job["gauge_size"], 0.8),
        "shallow net": net_point(job["points"]),
    }
    strengths = (job["gauge_strength"], theory.optimal_strength(number))
    found, checks = np.empty((len(points), len(strengths), 3, 2)), []
    for i, (name, point) in enumerate(points.items()):
        trace = theory.hessian_trace(point.losses_fn, point.x, jax.random.key(12), job["probes"])
        norm = float(jnp.linalg.norm(jax.grad(mean_of(point.losses_fn))(point.x)))
        for j, strength in enumerate(strengths):
            sigma = point.sigma(strength)
            exact, exact_error = (float(sigma * part / norm) for part in (trace.value, trace.error))
            values, errors, missing = _measured(point, sigma, number, generations)
            found[i, j] = [[exact, exact_error], *np.stack([values, errors], axis=1)]
            for k, (text, bias) in enumerate((
                ("s from the pooled moments of the losses", 1.0),
                ("mean of info.normalized_mutation_strength over its bias at M offspring", _ratio_bias(number)),
            )):  # fmt: skip
                ratio = values[k] / bias / exact
                error = ratio * math.hypot(errors[k] / values[k], exact_error / exact)
                where = f"{name}, s = {strength:.2g}" + (f", {missing} without an estimate" if missing else "")
                checks.append(
                    near(
                        f"{text}, over σTrH/|∇U| by Hessian-vector products, {where}", ratio, error, 1, 0.05, ours=True
                    )
                )
            job.progress((i * len(strengths) + j + 1) / (len(points) * len(strengths)))
    shown = {
        "measured_strength": (("gauge", "size_of_s", "estimate", "value_error"), found),
        "ratio_bias": ((), _ratio_bias(number)),
    }
    return checks, shown | {"gauge": list(points)}


# --- σ driven to s* ----------------------------------------------------------------------------------------------------


def _generations_to(
    algorithm: mutagrad.Algorithm, losses_fn: Callable, start: jax.Array, target: float, longest: int, runs: int
) -> Callable[[float], np.ndarray]:
    """A function of σ: generations until the loss is at the target, for every run; infinite where they are too many."""
    loss_fn = mean_of(losses_fn)

    @jax.jit
    def all_runs(sigma):
        def one(key):
            def going(carry):
                index, _, loss = carry
                return (index < longest) & (loss > target)

            def body(carry):
                index, state, _ = carry
                state, _ = algorithm.step(jax.random.fold_in(key, index), state, losses_fn)
                return index + 1, state, loss_fn(state.params)

            state = algorithm.init(start).with_sigma(sigma)
            index, _, loss = jax.lax.while_loop(going, body, (jnp.int32(0), state, loss_fn(start)))
            return jnp.where(loss > target, jnp.inf, index)

        return jax.vmap(one)(jax.random.split(jax.random.key(13), runs))

    return lambda sigma: np.asarray(all_runs(jnp.asarray(sigma, jnp.result_type(float))), float)


def _race(job: Job) -> tuple[list, dict[str, Any]]:
    """Checks of σ driven to s* against a grid of fixed σ, and what the figure shows of it."""
    problems: dict[str, tuple] = {}
    for exponent in job["exponents"]:
        quadratic = power_law(job["size"], exponent)
        target = job["share"] * float(quadratic.loss(quadratic.start))
        name = f"λ = k^−{exponent:g}" if exponent else "sphere"
        problems[name] = (quadratic.losses, quadratic.start, target, quadratic.sigma(1.0))
    net = net_point(job["points"])
    losses_fn = partial(shallow_losses, points=job["points"])
    problems["shallow net"] = (losses_fn, net.x, job["net_target"], net.sigma(1.0))
    number, runs = job["num_offspring"], job["runs"]
    factors = 2.0 ** (np.arange(job["grid"]) / 2 - 5)
    strengths = theory.optimal_strength(number) * factors
    fixed, adapted, checks = np.full((len(problems), len(factors), runs), np.inf), np.empty((len(problems), runs)), []
    elitist = mutagrad.elitist(1.0, number)
    for i, (name, (losses_fn, start, target, unit)) in enumerate(problems.items()):
        first = 0.1 * theory.optimal_strength(number) * unit
        driven = _generations_to(
            mutagrad.adapt_sigma(elitist, target=theory.optimal_strength(number)),
            losses_fn,
            start,
            target,
            job["longest"],
            runs,
        )
        adapted[i] = driven(first)
        # A fixed σ that takes longer than this is not the best one.
        mean = adapted[i].mean()
        longest = int(min(job["longest"], 3 * mean)) if math.isfinite(mean) else job["longest"]
        held = _generations_to(elitist, losses_fn, start, target, longest, runs)
        for j, strength in enumerate(strengths):
            fixed[i, j] = held(strength * unit)
            job.progress((i + (j + 1) / len(strengths)) / len(problems))
        means = fixed[i].mean(1)
        best = int(np.argmin(means))
        ratio = mean / means[best]
        relative = math.hypot(*(one.std(ddof=1) / one.mean() for one in (adapted[i], fixed[i, best]))) / math.sqrt(runs)
        text = "evaluations with σ driven to s*, from a tenth of it, over those of the best fixed σ"
        checks.append(
            below(f"{text}, s = {strengths[best]:.2g} at the start, {name}", ratio, ratio * relative, 1, ours=True)
        )
    shown = {
        "fixed": (("problem", "strength", "run"), fixed * number),
        "adapted": (("problem", "run"), adapted * number),
        "problem": list(problems),
        "strength": strengths,
    }
    return checks, shown


def run_control(job: Job) -> Outcome:
    """s from losses beside Hessian-vector products, and evaluations to a loss with σ driven to s* or held."""
    import xarray

    gauge_checks, gauge = _gauge(job.part(0, 0.4))
    race_checks, race = _race(job.part(0.4, 0.6))
    everything = gauge | race
    coords = {name: everything.pop(name) for name in ("gauge", "problem", "strength")}
    return Outcome(gauge_checks + race_checks, xarray.Dataset(everything, coords=coords), draw_control)


def draw_control(data: Any) -> Any:
    """Measured s over the exact one, and evaluations against the fixed σ with those of the driven σ as lines."""
    figure, (left, right) = panels(2)
    found = data.measured_strength.values
    for k, label in ((1, "pooled over generations"), (2, "mean of one generation's, over its bias")):
        scale = 1.0 if k == 1 else float(data.ratio_bias)
        for j, marker in enumerate("ox"):
            x = np.arange(found.shape[0]) + 0.12 * (k - 1.5) + 0.3 * (j - 0.5)
            ratio = found[:, j, k, 0] / scale / found[:, j, 0, 0]
            error = ratio * np.hypot(found[:, j, k, 1] / found[:, j, k, 0], found[:, j, 0, 1] / found[:, j, 0, 0])
            text = f"{label}, s = {found[0, j, 0, 0]:.2g}"
            left.errorbar(x, ratio, 3 * error, fmt=marker, color=f"C{k - 1}", markersize=5, label=text)
    left.axhline(1, color="k", linestyle="--", linewidth=1)
    left.set_xticks(range(found.shape[0]), [_math(name) for name in data.gauge.values])
    left.set(ylabel="s from losses over σTrH/|∇U|, ±3 errors", ylim=(None, None))
    left.legend(frameon=False, fontsize=8)
    for colour, problem in enumerate(data.problem.values):
        one = data.sel(problem=problem)
        arrived = one.fixed.isel(strength=np.isfinite(one.fixed.values).all(1))
        mean, error = arrived.mean("run"), arrived.std("run") / math.sqrt(data.sizes["run"])
        right.errorbar(
            arrived.strength, mean, error, fmt="o-", markersize=4, linewidth=1, color=f"C{colour}", label=_math(problem)
        )
        right.axhline(float(one.adapted.mean("run")), color=f"C{colour}", linestyle="--", linewidth=1)
    right.set(xscale="log", yscale="log", xlabel="fixed σ, as s at the start", ylabel="evaluations to the target")
    right.set_xticks([0.1, 0.3, 1, 3], ["0.1", "0.3", "1", "3"])
    right.set_yticks([1000, 2000, 4000, 8000], ["1,000", "2,000", "4,000", "8,000"])
    right.minorticks_off()
    right.set_title("dashed: σ driven to s*", fontsize=10)
    right.legend(frameon=False, fontsize=8)
    return figure


def _math(name: str) -> str:
    """A problem's name with its exponent raised."""
    return re.sub(r"λ = k\^(.*)", r"$λ_k = k^{\1}$", str(name))


_CONTROL = {
    "quick": {
        "num_offspring": 20, "gauge_size": 1000, "gauge_strength": 0.5, "gauge_generations": 6000, "probes": 40_000,
        "points": 50, "exponents": (0.0, 0.5, 1.0), "size": 100, "share": 0.05, "net_target": 0.1, "runs": 48, "grid": 14,
        "longest": 3000,
    },
    "paper": {
        "num_offspring": 20, "gauge_size": 10_000, "gauge_strength": 0.5, "gauge_generations": 60_000, "probes": 40_000,
        "points": 1000, "exponents": (0.0, 0.5, 0.8, 1.0, 1.3), "size": 1000, "share": 0.05, "net_target": 0.1, "runs": 100,
        "grid": 14, "longest": 30_000,
    },
}  # fmt: skip


def _needs(settings: dict[str, Any]) -> Needs:
    gauge = 6 * settings["gauge_generations"] * settings["gauge_size"] / 1000
    race = settings["grid"] * settings["runs"] * (len(settings["exponents"]) + 1) * 0.2 * settings["longest"]
    return Needs(settings["num_offspring"] * (gauge + race * settings["size"] / 1000), 1e9, 1e6)


CLAIMS = [
    Claim(
        "W26-8",
        "whitelam2026",
        "σ from losses",
        "P: s measured from the losses of offspring alone agrees with Hessian-vector products, and σ driven to s* beats every "
        "fixed σ",
        _CONTROL,
        run_control,
        _needs,
        "(1+{num_offspring}); left: N = {gauge_size}, {gauge_generations} generations at a point; right: N = {size}, to {share} "
        "of the loss at x = (1, …, 1), net to {net_target}, {runs} runs",
    ),
]
