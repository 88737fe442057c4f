"""W21-7, 9 and 10: what one generation does at a point of the shallow net, on average."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

import mutagrad
from mutagrad import theory
from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.lab.claims.ensemble import mean_of, sigma_of
from mutagrad.lab.claims.tanh_nets import shallow_losses, shallow_start
from mutagrad.lab.claims.unregistered import below, near
from mutagrad.law import Acceptance
from mutagrad.report.figures import panels
from mutagrad.types import Definition, Mutation

__all__ = ["CLAIMS"]

_BLOCKS = 50


def _on_the_way(steps: int) -> jax.Array:
    """A point that many normalised steps of 0.01 down from the start, away from the saddle at which that lies."""
    gradient = jax.grad(mean_of(shallow_losses))

    def body(_, x):
        slope = gradient(x)
        return x - 0.01 * slope / jnp.linalg.norm(slope)

    return jax.lax.fori_loop(0, steps, body, shallow_start())


def _mean_steps(
    job: Job, mutation: Mutation, rules: Sequence[Callable], x: jax.Array, sigma: float, number: int
) -> np.ndarray:
    """Mean steps of rules at a point, all from the same mutations: blocks of them, (blocks, rules, N).

    Each mutation is judged together with its mirror image, by the library's acceptance probabilities: the mean over the
    two and over the coin is the mean step, with far less noise than the steps of a chain have.
    """
    values = shallow_losses(x)

    def one(key):
        change = sigma * mutation.sample_fn(key, x)
        up, down = (jnp.mean(shallow_losses(x + sign * change) - values) for sign in (1, -1))
        shares = jnp.stack([(rule(up) - rule(down)) / 2 for rule in rules])
        return jnp.outer(shares, change)

    @jax.jit
    def block(keys):
        def add(total, keys):
            return total + jnp.sum(jax.vmap(one)(keys), axis=0), None

        total, _ = jax.lax.scan(add, jnp.zeros((len(rules), x.size), x.dtype), keys.reshape(-1, 50))
        return total / keys.size

    found = []
    for index in range(_BLOCKS):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(4), index), math.ceil(number / _BLOCKS / 50) * 50)
        found.append(np.asarray(block(keys)))
        job.progress((index + 1) / _BLOCKS)
    return np.stack(found)


def _mean(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of values over blocks, and its standard error."""
    return blocks.mean(0), blocks.std(0, ddof=1) / math.sqrt(len(blocks))


def _rule(algorithm: mutagrad.Algorithm) -> Callable:
    definition = algorithm.definition
    assert isinstance(definition, Definition)
    law = definition.selection.law
    assert isinstance(law, Acceptance)
    return law.acceptance_fn


# --- W21-7: a σ for every weight ---------------------------------------------------------------------------------------


def run_scaled(job: Job) -> Outcome:
    """Mean step of every weight where each has its own σ_i, at small and at infinite β."""
    import xarray

    with jax.enable_x64(True):
        x = jnp.asarray(_on_the_way(100), jnp.float64)
        gradient = jax.grad(mean_of(shallow_losses))(x)
        scale = jnp.exp(jax.random.uniform(jax.random.key(5), x.shape, x.dtype, math.log(0.1), math.log(3)))
        mutation, sigma = mutagrad.mutation.scaled(scale), job["sigma"]
        norm = float(jnp.linalg.norm(scale * gradient))
        beta = job["b"] / (sigma * norm)
        algorithms = [mutagrad.metropolis(sigma, beta, mutation=mutation), mutagrad.greedy(sigma, mutation=mutation)]
        blocks = _mean_steps(job, mutation, [_rule(one) for one in algorithms], x, sigma, job["mutations"])
        expected = np.stack([
            -beta * (sigma * scale) ** 2 / 2 * gradient,
            -sigma / math.sqrt(2 * math.pi) * scale**2 * gradient / norm,
        ])  # fmt: skip
        ours = np.stack([theory.mean_step(one, gradient) for one in algorithms])
    steps, errors = _mean(blocks)
    checks = []
    for index, name in enumerate(("−(βσ_i²/2)∂_iU, small β", "−(σ/√2π)s_i²∂_iU/|s∇U|, β = ∞")):
        # In units of the scales the noise is the same in every direction, so that this slope has the least error.
        weights = expected[index] / np.asarray(scale) ** 2 / np.sum((expected[index] / np.asarray(scale)) ** 2)
        (slope,), (error,) = _mean(blocks[:, index] @ weights[:, None])
        checks.append(near(f"regression of the mean step on {name}", slope, error, 1, 0.04))
        isotropic = -np.asarray(gradient)
        wrong = steps[index] @ isotropic / np.linalg.norm(steps[index]) / np.linalg.norm(isotropic)
        checks.append(below("cosine of the mean step with −∇U, which isotropic mutations follow", wrong, 0, 0.9))
        z = (steps[index] - ours[index]) / errors[index]
        checks.append(
            below("largest |z| of a weight's mean step from theory.mean_step", np.abs(z).max(), 0, 4, ours=True)
        )
    data = xarray.Dataset(
        {
            "step": (("rule", "weight"), steps),
            "error": (("rule", "weight"), errors),
            "expected": (("rule", "weight"), expected),
        }
    )
    return Outcome(checks, data, draw_scaled)


def draw_scaled(data: Any) -> Any:
    """Mean step of every weight against its prediction."""
    figure, axes = panels(2)
    titles = ("Metropolis at small β: −(βσ$_i$²/2) ∂$_i$U", "greedy: −σ$_i$² ∂$_i$U / (√2π |σ∇U|)")
    for axis, rule, title in zip(axes, range(2), titles, strict=True):
        expected, step, error = (data[name].values[rule] for name in ("expected", "step", "error"))
        unit = np.abs(expected).max()
        axis.errorbar(expected / unit, step / unit, 2 * error / unit, fmt="o", markersize=3, elinewidth=0.8)
        axis.plot([-1, 1], [-1, 1], "k--", linewidth=1)
        axis.set(xlabel="predicted step of a weight, over the largest", ylabel="measured, ±2 errors")
        axis.set_title(title, fontsize=10)
        axis.locator_params(nbins=5)
    return figure


# --- W21-9: the crossover ----------------------------------------------------------------------------------------------


def run_crossover(job: Job) -> Outcome:
    """Drift of Metropolis on the shallow net against the closed form, for every b from the same mutations."""
    import xarray

    with jax.enable_x64(True):
        x = jnp.asarray(_on_the_way(100), jnp.float64)
        gradient = jax.grad(mean_of(shallow_losses))(x)
        norm, sigma = float(jnp.linalg.norm(gradient)), job["sigma"]
        b = np.logspace(-3, 3, job["slopes"])
        rules = [_rule(mutagrad.metropolis(sigma, one / (sigma * norm))) for one in b]
        blocks = _mean_steps(job, mutagrad.mutation.gaussian(), rules, x, sigma, job["mutations"])
    drift, error = _mean(blocks @ np.asarray(gradient) / norm / sigma)
    closed = -b * special.erfcx(b / math.sqrt(2)) / 2
    data = xarray.Dataset(
        {"drift": ("b", drift), "error": ("b", error), "closed_form": ("b", closed)},
        coords={"b": b},
        attrs={"norm": norm},
    )
    checks = [
        near(f"drift over −σ b exp(b²/2) Φ(−b) at b = {one:.3g}", ratio, relative, 1, 0.04)
        for one, ratio, relative in zip(b, drift / closed, error / np.abs(closed), strict=True)
    ]
    return Outcome(checks, data, draw_crossover)


def draw_crossover(data: Any) -> Any:
    """The drift between its two limits."""
    figure, (axis,) = panels(1, 5.6)
    b = np.logspace(-3, 3, 200)
    axis.plot(b, b * special.erfcx(b / math.sqrt(2)) / 2, color="C0", label="b exp(b²/2) Φ(−b)")
    axis.plot(b, b / 2, "k:", linewidth=1, label="b/2: gradient descent")
    axis.axhline(1 / math.sqrt(2 * math.pi), color="k", linestyle="--", linewidth=1, label="1/√2π: normalised")
    axis.errorbar(data.b, -data.drift, 3 * data.error, fmt="o", color="C3", markersize=4, label="measured, ±3 errors")
    axis.set(xscale="log", yscale="log", xlabel="b = βσ|∇U|", ylabel="drift / σ, along −∇U", ylim=(3e-4, 1))
    axis.legend(frameon=False)
    return figure


# --- W21-10: paired differences ----------------------------------------------------------------------------------------


def _rounded(x: jax.Array) -> jax.Array:
    return jnp.mean(shallow_losses(x))


def run_precision(job: Job) -> Outcome:
    """Drift of greedy selection in float32, from rounded mean losses and from paired differences, for many σ."""
    import xarray

    sigmas, number = np.logspace(-8, -2, job["sigmas"]), job["generations"]
    points = {"start": shallow_start(), "way": _on_the_way(100)}
    own = sigma_of(mutagrad.greedy(job["alpha"] * job["ratio"] * math.sqrt(2 * math.pi)))
    every = np.append(sigmas, own)
    found = np.empty((len(points), 2, len(every), 4))
    for i, x in enumerate(points.values()):
        gradient = jax.grad(_rounded)(x)
        unit = gradient / jnp.linalg.norm(gradient)
        for j, loss_fn in enumerate((shallow_losses, _rounded)):

            @jax.jit
            def generation(keys, sigma, x=x, unit=unit, loss_fn=loss_fn):
                algorithm = mutagrad.greedy(1.0)

                def one(key):
                    state = algorithm.init(x)._replace(sigma=sigma)
                    after, info = algorithm.step(key, state, loss_fn)
                    return -jnp.vdot(after.params - x, unit) / sigma * math.sqrt(2 * math.pi), info.is_accepted

                return jax.lax.map(one, keys, batch_size=64)

            for k, sigma in enumerate(every):
                steps, is_accepted = generation(jax.random.split(jax.random.key(210), number), jnp.float32(sigma))
                for at, values in ((0, np.asarray(steps)), (2, np.asarray(is_accepted, float))):
                    found[i, j, k, at], found[i, j, k, at + 1] = values.mean(), values.std(ddof=1) / math.sqrt(number)
                job.progress(((i * 2 + j) * len(every) + k + 1) / (4 * len(every)))
    names = ("drift", "drift_error", "acceptance", "acceptance_error")
    data = xarray.Dataset(
        {name: (("point", "comparison", "sigma"), found[..., :-1, at]) for at, name in enumerate(names)},
        coords={"point": list(points), "comparison": ["paired", "rounded"], "sigma": sigmas},
        attrs={"own_sigma": float(own)},
    )
    # At t = 1 the slope is fifteen times that of the start, and rounding drowns only smaller mutations.
    checks = []
    for sigma, k, i in ((own, -1, 0), (own, -1, 1), (sigmas[1], 1, 0), (sigmas[1], 1, 1)):
        text = f"drift over σ/√2π at {('the start', 't = 1')[i]}, σ = {float(sigma):.2g}"
        (paired, paired_error), (rounded, rounded_error) = found[i, :, k, :2]
        checks.append(near(f"{text}, paired differences", paired, paired_error, 1, 0.1))
        checks.append(below(f"{text}, rounded means", rounded, rounded_error, 0.9))
    return Outcome(checks, data, draw_precision)


def draw_precision(data: Any) -> Any:
    """Drift and acceptance against σ: the failure and its cure."""
    figure, axes = panels(2)
    for axis, name, label in zip(
        axes, ("drift", "acceptance"), ("drift over σ/√2π", "share of mutations accepted"), strict=True
    ):
        for colour, (comparison, title) in enumerate((("paired", "paired differences"), ("rounded", "rounded means"))):
            for point, style, where in (("start", "-", "start"), ("way", "--", "t = 1")):
                one = data.sel(point=point, comparison=comparison)
                axis.errorbar(
                    data.sigma,
                    one[name],
                    2 * one[f"{name}_error"],
                    color=f"C{colour}",
                    linestyle=style,
                    marker="o",
                    markersize=3,
                    label=f"{title}, {where}",
                )
        axis.axvline(data.attrs["own_sigma"], color="0.6", linewidth=1)
        axis.annotate(
            "σ of Fig. 1", (data.attrs["own_sigma"], 0.02), xycoords=("data", "axes fraction"), xytext=(3, 0),
            textcoords="offset points", color="0.4", fontsize=8,
        )  # fmt: skip
        axis.set(xscale="log", xlabel="σ", ylabel=label)
    axes[0].axhline(1, color="k", linewidth=0.8, linestyle=":")
    axes[1].axhline(0.5, color="k", linewidth=0.8, linestyle=":")
    axes[0].legend(frameon=False, fontsize=8)
    return figure


_SCALED = {
    "quick": {"sigma": 1e-5, "b": 0.01, "mutations": 100_000},
    "paper": {"sigma": 1e-5, "b": 0.01, "mutations": 2_000_000},
}
_CROSSOVER = {
    "quick": {"sigma": 1e-5, "mutations": 50_000, "slopes": 13},
    "paper": {"sigma": 1e-5, "mutations": 400_000, "slopes": 25},
}
_PRECISION = {
    "quick": {"alpha": 1e-5, "ratio": 0.1, "generations": 12_800, "sigmas": 13},
    "paper": {"alpha": 1e-5, "ratio": 0.1, "generations": 128_000, "sigmas": 25},
}


def _pair_needs(settings: dict[str, Any]) -> Needs:
    return Needs(2 * settings["mutations"], 1e9, 1e6)


CLAIMS = [
    Claim(
        "W21-7",
        "whitelam2021",
        "non-isotropic",
        "with a σ_i for every weight the drift is −(βσ_i²/2)∂_iU, or that normalised by |σ∇U|",
        _SCALED,
        run_scaled,
        _pair_needs,
        "shallow net, σ = {sigma}, scales from 0.1 to 3, b = {b} for Metropolis, {mutations} pairs of mutations",
    ),
    Claim(
        "W21-9",
        "whitelam2021",
        "crossover",
        "P: the drift of Metropolis is −σ b exp(b²/2) Φ(−b) from plain to normalised gradient descent",
        _CROSSOVER,
        run_crossover,
        _pair_needs,
        "shallow net, Metropolis, σ = {sigma}, {mutations} pairs of mutations",
    ),
    Claim(
        "W21-10",
        "whitelam2021",
        "precision",
        "P: in float32 with λ = 1/10, comparing rounded means breaks the correspondence; paired differences keep it",
        _PRECISION,
        run_precision,
        lambda settings: Needs(8.0 * (settings["sigmas"] + 1) * settings["generations"], 1e9, 1e6),
        "shallow net, greedy, float32, {generations} generations from one point for each σ",
    ),
]
