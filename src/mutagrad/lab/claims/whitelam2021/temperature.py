"""W21-5 and W21-8: finite β. Plain gradient descent with noise, and the distribution that it settles into."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import stats

import mutagrad
from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.lab.claims.ensemble import Experiment, descend, langevin_runs, mean_of, simulate
from mutagrad.lab.claims.tanh_nets import shallow_losses, shallow_start
from mutagrad.lab.claims.unregistered import above, below, near
from mutagrad.report.figures import panels

__all__ = ["CLAIMS"]


def run_finite(job: Job) -> Outcome:
    """Runs of Metropolis on the wide net from two starts, beside plain gradient descent and the Langevin equation."""
    import xarray

    losses_fn, records, number = partial(shallow_losses, points=job["points"]), job["records"], job["runs"]
    rate, time, beta = job["alpha"] * job["ratio"], job["time"], job["beta"]
    algorithm = mutagrad.metropolis(math.sqrt(2 * rate / beta), beta, reevaluate_parent=False)
    generations, scales = round(time / rate), job["starts"]
    found: dict[str, list] = {name: [] for name in ("loss", "langevin_loss", "descent_loss", "z")}
    for index, scale in enumerate(scales):
        start, part = shallow_start(units=job["units"]) * (scale / 0.01), job.part(index / len(scales), 1 / len(scales))
        name = f"net of {job['units']} at {job['points']} points start {scale:g} metropolis β {beta:g} λα {rate:g} t {time:g}"
        experiment = Experiment(name, algorithm, losses_fn, start, number, generations, records)
        runs = simulate(part.part(0, 0.7), experiment)
        paths = langevin_runs(part.part(0.7, 0.3), experiment, round(time / job["langevin_step"]))
        descent = descend(optax.sgd(job["descent_step"]), losses_fn, start, round(time / job["descent_step"]), records)
        errors = np.sqrt((runs.params.var(0, ddof=1) + paths.params.var(0, ddof=1)) / number)
        found["z"].append((runs.params.mean(0) - paths.params.mean(0)) / errors)
        for name, values in (
            ("loss", runs.losses),
            ("langevin_loss", paths.losses),
            ("descent_loss", descent.losses[0]),
        ):
            found[name].append(values)
    dims = {
        "loss": ("start", "run", "time"),
        "langevin_loss": ("start", "run", "time"),
        "descent_loss": ("start", "time"),
    }
    data = xarray.Dataset(
        {name: (dim, np.array(found[name])) for name, dim in dims.items()},
        coords={"start": list(scales), "time": np.arange(1, records + 1) * time / records},
    )
    checks = []
    for index, scale in enumerate(scales):
        losses, paths, descent = (found[name][index] for name in ("loss", "langevin_loss", "descent_loss"))
        begin = float(mean_of(losses_fn)(shallow_start(units=job["units"]) * (scale / 0.01)))
        apart, error = (losses.mean(0) - descent) / begin, losses.std(0, ddof=1) / math.sqrt(number) / begin
        worst, z = np.argmax(np.abs(apart)), found["z"][index]
        both = np.hypot(losses.std(0, ddof=1), paths.std(0, ddof=1)) / math.sqrt(number)
        of_loss = (losses.mean(0) - paths.mean(0)) / both
        where = f"start of deviation {scale:g}"
        text = f"mean loss less gradient descent's over the start's, largest over time, {where}"
        checks.append(near(text, apart[worst], error[worst], 0, 0.15))
        text = f"largest |z| of the mean loss from the Langevin equation's, {where}"
        checks.append(below(text, np.abs(of_loss).max(), 0, 4, ours=True))
        text = f"share of |z| > 2 of the weights' means from the Langevin equation's, {where}"
        expected = 2 * stats.t.sf(2, 2 * number - 2)
        checks.append(near(text, np.mean(np.abs(z) > 2), 0, expected, 0.02, ours=True))
    return Outcome(checks, data, draw_finite)


def draw_finite(data: Any) -> Any:
    """Loss against t from either start."""
    figure, axes = panels(2)
    for axis, start in zip(axes, data.start.values, strict=True):
        one = data.sel(start=start)
        for run in range(min(25, data.sizes["run"])):
            axis.plot(data.time, one.loss[run], color="C0", alpha=0.2, linewidth=0.6)
        axis.plot(data.time, one.loss.mean("run"), color="C0", linewidth=1.8, label="mean of runs")
        axis.plot(data.time, one.langevin_loss.mean("run"), "+", color="C3", label="Langevin equation, mean")
        axis.plot(data.time, one.descent_loss, "k--", linewidth=1.2, label="gradient descent")
        axis.set(xlabel="t = (βσ²/2) · generations", ylabel="loss")
        axis.set_title(f"weights start with deviation {start:g}", fontsize=10)
        axis.legend(frameon=False, fontsize=8)
    return figure


# --- W21-8: the stationary distribution --------------------------------------------------------------------------------


def double_well(x: jax.Array) -> jax.Array:
    """U = (x² − 1)², x of shape (1,)."""
    return jnp.sum(jnp.square(jnp.square(x) - 1))


def small_net(x: jax.Array) -> jax.Array:
    """One tanh unit, amplitude, slope and offset, that is to learn sin 2πθ at 20 points, with weight decay."""
    return jnp.mean(shallow_losses(x, points=20)) + 0.05 * jnp.sum(jnp.square(x))


def _ends(
    job: Job, algorithm: mutagrad.Algorithm, loss_fn: Callable, start: jax.Array, chains: int, steps: int
) -> np.ndarray:
    """Where independent chains end, (chains, N)."""

    @jax.jit
    def run(key):
        def body(i, state):
            return algorithm.step(jax.random.fold_in(key, i), state, loss_fn)[0]

        return jax.lax.fori_loop(0, steps, body, algorithm.init(start, loss_fn)).params

    keys = jax.random.split(jax.random.key(7), chains).reshape(4, -1)
    parts = []
    for index, part in enumerate(keys):
        parts.append(np.asarray(jax.vmap(run)(part)))
        job.progress((index + 1) / len(keys))
    return np.concatenate(parts)


def _exact(loss_fn: Callable, beta: float, size: int, reach: float, points: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Distribution functions of every coordinate under e^{−βU}, on a grid: (edges, values from 0 to 1)."""
    edges = np.linspace(-reach, reach, points + 1)
    middles = jnp.asarray((edges[1:] + edges[:-1]) / 2)
    rest = (
        jnp.stack([axis.ravel() for axis in jnp.meshgrid(*[middles] * (size - 1), indexing="ij")], axis=-1)
        if size > 1
        else None
    )

    @jax.jit
    def plane(first):
        if rest is None:
            return loss_fn(first[None])[None]
        return jax.vmap(lambda one: loss_fn(jnp.concatenate([first[None], one])))(rest)

    losses = np.asarray(jax.lax.map(plane, middles), float).reshape((points,) * size)
    weights = np.exp(-beta * (losses - losses.min()))
    found = []
    for axis in range(size):
        marginal = weights.sum(tuple(other for other in range(size) if other != axis))
        found.append((edges, np.append(0, np.cumsum(marginal)) / marginal.sum()))
    return found


def _distance(samples: np.ndarray, law: tuple[np.ndarray, np.ndarray]) -> float:
    """Kolmogorov's distance of samples from a law, times √n."""
    return float(stats.kstest(samples, lambda x: np.interp(x, *law)).statistic * math.sqrt(len(samples)))


def run_stationary(job: Job) -> Outcome:
    """Ends of independent chains against e^{−βU}/Z, at several σ, by Kolmogorov and Smirnov."""
    import xarray

    chains, bound = job["chains"], float(stats.kstwobign.isf(0.001))
    problems = {
        "double well": (double_well, job["well_beta"], jnp.ones(1), 3.0, 4000),
        "small net": (small_net, job["net_beta"], jnp.array([0.5, 1.0, -0.5]), 6.0, job["grid"]),
    }
    algorithms = [("metropolis", sigma) for sigma in job["sigmas"]] + [("logistic", job["sigmas"][1])]
    checks, ends, laws = [], {}, {}
    for index, (name, (loss_fn, beta, start, reach, points)) in enumerate(problems.items()):
        law = _exact(loss_fn, beta, start.size, reach, points)
        wrong = _exact(loss_fn, job["power"] * beta, start.size, reach, points)
        for at, (rule, sigma) in enumerate(algorithms):
            part = job.part((index + at / len(algorithms)) / 2, 0.5 / len(algorithms))
            found = _ends(part, getattr(mutagrad, rule)(sigma, beta), loss_fn, start, chains, job["generations"])
            distance = max(_distance(found[:, i], law[i]) for i in range(start.size))
            checks.append(
                below(
                    f"√n times the distance of the ends from e^−βU, {name}, {rule}, σ = {sigma:g}", distance, 0, bound
                )
            )
            ends[name, rule, sigma] = found[:, 0]
        power = max(_distance(found[:, i], wrong[i]) for i in range(start.size))
        checks.append(above(f"the same at {job['power']:g} β, which it must tell apart, {name}", power, 0, bound))
        laws[name] = law[0]
    data = xarray.Dataset(
        {f"{name} {rule} {sigma:g}": ("chain", values) for (name, rule, sigma), values in ends.items()}
        | {f"{name} law": (f"{name} edge", values) for name, (_, values) in laws.items()},
        coords={f"{name} edge": edges for name, (edges, _) in laws.items()},
        attrs={"betas": [job["well_beta"], job["net_beta"]]},
    )
    return Outcome(checks, data, draw_stationary)


def draw_stationary(data: Any) -> Any:
    """Histograms of the chains' ends over the exact density."""
    figure, axes = panels(2)
    for axis, problem, label in zip(axes, ("double well", "small net"), ("x", "amplitude"), strict=True):
        edges, law = data[f"{problem} edge"].values, data[f"{problem} law"].values
        bins = np.linspace(np.interp(5e-4, law, edges), np.interp(1 - 5e-4, law, edges), 41)
        names = [name for name in data.data_vars if name.startswith(problem) and not name.endswith("law")]
        for colour, name in enumerate(names):
            _, rule, sigma = name.rsplit(" ", 2)
            axis.hist(data[name], bins, density=True, histtype="step", color=f"C{colour}", label=f"{rule}, σ = {sigma}")
        middles = (bins[1:] + bins[:-1]) / 2
        axis.plot(
            middles, np.diff(np.interp(bins, edges, law)) / np.diff(bins), "k--", linewidth=1.2, label="exp(−βU)/Z"
        )
        axis.set(xlabel=label, ylabel="density", title=problem)
        axis.title.set_fontsize(10)
    axes[1].legend(frameon=False, fontsize=8)
    return figure


_FINITE = {
    "quick": {
        "units": 256, "points": 100, "beta": 1e3, "alpha": 8e-3, "ratio": 0.1, "time": 8.0, "runs": 32, "records": 20,
        "starts": (0.01, 0.1), "descent_step": 1e-2, "langevin_step": 1e-2,
    },
    "paper": {
        "units": 256, "points": 1000, "beta": 1e3, "alpha": 1e-4, "ratio": 0.1, "time": 20.0, "runs": 1000, "records": 100,
        "starts": (0.01, 0.1), "descent_step": 1e-3, "langevin_step": 1e-3,
    },
}  # fmt: skip
_STATIONARY = {
    "quick": {
        "chains": 4096, "generations": 6000, "sigmas": (0.3, 1.0, 3.0), "well_beta": 3.0, "net_beta": 20.0, "grid": 121,
        "power": 1.25,
    },
    "paper": {
        "chains": 100_000, "generations": 20_000, "sigmas": (0.3, 1.0, 3.0), "well_beta": 3.0, "net_beta": 20.0, "grid": 241,
        "power": 1.05,
    },
}  # fmt: skip


def _finite_needs(settings: dict[str, Any]) -> Needs:
    steps = settings["time"] * (1 / (settings["alpha"] * settings["ratio"]) + 3 / settings["langevin_step"])
    kept = 4.0 * settings["runs"] * settings["records"] * (3 * settings["units"] + 1)
    share = settings["points"] * settings["units"] / 30_000  # of an evaluation of the shallow net
    return Needs(2 * settings["runs"] * steps * share, 1e9 + 6 * kept, 3 * kept)


CLAIMS = [
    Claim(
        "W21-5",
        "whitelam2021",
        "finite β",
        "at finite β, with βσ²/2 = λα, the runs follow plain gradient descent; P: with noise, as the Langevin equation says",
        _FINITE,
        run_finite,
        _finite_needs,
        "net of {units} units at {points} points, Metropolis, β = {beta}, α = {alpha}, λ = {ratio}, {runs} runs from each start",
    ),
    Claim(
        "W21-8",
        "whitelam2021",
        "stationary",
        "at finite β the chain samples exp(−βU), at any σ",
        _STATIONARY,
        run_stationary,
        lambda settings: Needs(8.0 * settings["chains"] * settings["generations"], 4e9, 1e7),
        "{chains} chains of {generations} generations, β = {well_beta} and {net_beta}",
    ),
]
