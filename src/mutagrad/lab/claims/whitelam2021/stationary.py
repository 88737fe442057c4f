"""W21-8: the distribution that finite β settles into.

28 checks, each undecided once in 370 times though its law is right, and one of them once in 14 times.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import mutagrad
from mutagrad.lab.claims.checks import PLANNED, Expected, near
from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.lab.claims.tanh_nets import shallow_losses
from mutagrad.report.figures import panels

__all__ = ["CLAIMS"]

_COLDER = 1.2
"""The second temperature: β times this."""
_SPREAD = {"double well": (1.276, 2.45), "small net": (0.145, 2.06)}
"""Standard deviation of the loss over its mean, and of its square from the mean over the variance, under e^−βU at β = 3 and 20:
from the grids that `run_stationary` uses."""
_AT_COLDER = {"double well": (0.834, 0.759), "small net": (0.966, 0.736)}
"""Mean and variance of the loss at 1.2 β, over those at β. A chain in the double well forgets in 126 generations or fewer."""
_LOSS = "mean loss of the chains' ends over that of e^−βU, {}, {}, σ = {:g}"
_PLACE = "mean of F(x₁) at the chains' ends, F exact, {}, {}, σ = {:g}"
_VARIANCE = "variance of the loss over that of e^−βU, {}, {}, σ = {:g}"
_RATIO = "mean loss at 1.2 β over that at β, over what e^−βU says, {}, {}, σ = {:g}"


def double_well(x: jax.Array) -> jax.Array:
    """U = (x² − 1)², x of shape (1,)."""
    return jnp.sum(jnp.square(jnp.square(x) - 1))


def small_net(x: jax.Array) -> jax.Array:
    """One tanh unit, amplitude, slope and offset, that is to learn sin 2πθ at 20 points, with weight decay."""
    return jnp.mean(shallow_losses(x, points=20)) + 0.05 * jnp.sum(jnp.square(x))


def _ends(
    job: Job,
    key: jax.Array,
    algorithm: mutagrad.Algorithm,
    loss_fn: Callable,
    start: jax.Array,
    chains: int,
    steps: int,
) -> np.ndarray:
    """Where independent chains end, (chains, N)."""

    @jax.jit
    def run(key):
        def body(i, state):
            return algorithm.step(jax.random.fold_in(key, i), state, loss_fn)[0]

        return jax.lax.fori_loop(0, steps, body, algorithm.init(start, loss_fn)).params

    keys = jax.random.split(key, chains).reshape(4, -1)
    parts = []
    for index, part in enumerate(keys):
        parts.append(np.asarray(jax.vmap(run)(part)))
        job.progress((index + 1) / len(keys))
    return np.concatenate(parts)


def _exact(
    loss_fn: Callable, beta: float, size: int, reach: float, points: int
) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Of e^{−βU} on a grid: edges, distribution function of the first coordinate there, mean loss and its variance."""
    edges = np.linspace(-reach, reach, points + 1)
    middles = jnp.asarray((edges[1:] + edges[:-1]) / 2)
    grid = (
        jnp.stack([axis.ravel() for axis in jnp.meshgrid(*[middles] * (size - 1), indexing="ij")], -1)
        if size > 1
        else None
    )

    @jax.jit
    def plane(first):
        if grid is None:
            return loss_fn(first[None])[None]
        return jax.vmap(lambda one: loss_fn(jnp.concatenate([first[None], one])))(grid)

    losses = np.asarray(jax.lax.map(plane, middles), float)
    weights = np.exp(-beta * (losses - losses.min()))
    marginal = weights.sum(1)
    mean = float((losses * weights).sum() / weights.sum())
    variance = float((np.square(losses - mean) * weights).sum() / weights.sum())
    return edges, np.append(0, np.cumsum(marginal)) / marginal.sum(), mean, variance


def _algorithms(settings: dict[str, Any]) -> list[tuple[str, float]]:
    return [("metropolis", sigma) for sigma in settings["sigmas"]] + [("logistic", settings["sigmas"][1])]


def expect_stationary(settings: dict[str, Any]) -> list[Expected]:
    """The intervals of W21-8."""
    stated, root = [], math.sqrt(settings["chains"])
    for problem, (spread, of_square) in _SPREAD.items():
        colder, narrower = _AT_COLDER[problem]
        for rule, sigma in _algorithms(settings):
            error = spread / root
            why = f"exact; six planned errors of {error:.2g} of the exact law. At 1.2 β it is {colder:.3f}"
            stated.append(near(_LOSS.format(problem, rule, sigma), 1, PLANNED * error, "error", why))
            error = 1 / math.sqrt(12) / root
            why = f"exact; six planned errors of {error:.2g} of a uniform number. It sees wells, not β"
            stated.append(near(_PLACE.format(problem, rule, sigma), 0.5, PLANNED * error, "error", why))
            error = of_square / root
            why = f"exact; six planned errors of {error:.2g} of the exact law. At 1.2 β it is {narrower:.2f}"
            stated.append(near(_VARIANCE.format(problem, rule, sigma), 1, PLANNED * error, "error", why))
        for rule, sigma in _algorithms(settings)[1::2]:
            error = math.sqrt(2) * spread / root
            why = f"exact; six planned errors of {error:.2g}. Without β it would be {1 / colder:.3f}"
            stated.append(near(_RATIO.format(problem, rule, sigma), 1, PLANNED * error, "error", why))
    return stated


def run_stationary(job: Job) -> Outcome:
    """Ends of independent chains against e^{−βU}/Z, at several σ: their mean loss, and where they are."""
    import xarray

    chains, root = job["chains"], math.sqrt(job["chains"])
    problems = {
        "double well": (double_well, job["well_beta"], jnp.ones(1), 3.0, 4000),
        "small net": (small_net, job["net_beta"], jnp.array([0.5, 1.0, -0.5]), 6.0, job["grid"]),
    }
    found, ends, laws = {}, {}, {}
    algorithms = _algorithms(job.settings)
    for index, (name, (loss_fn, beta, start, reach, points)) in enumerate(problems.items()):
        edges, law, mean, variance = _exact(loss_fn, beta, start.size, reach, points)
        colder = _exact(loss_fn, _COLDER * beta, start.size, reach, points)[2] / mean
        for at, (rule, sigma) in enumerate(algorithms):
            part = job.part((index + at / len(algorithms)) / 2, 0.5 / len(algorithms))
            key = jax.random.fold_in(job.key, index * len(algorithms) + at)
            algorithm = getattr(mutagrad, rule)(sigma, beta)
            at_end = _ends(part, key, algorithm, loss_fn, start, chains, job["generations"])
            losses = np.asarray(jax.vmap(loss_fn)(jnp.asarray(at_end))).astype(float) / mean
            places = np.interp(at_end[:, 0], edges, law)
            found[_LOSS.format(name, rule, sigma)] = (losses.mean(), losses.std(ddof=1) / root)
            found[_PLACE.format(name, rule, sigma)] = (places.mean(), places.std(ddof=1) / root)
            squares = np.square(losses * mean - (losses * mean).mean()) / variance * chains / (chains - 1)
            found[_VARIANCE.format(name, rule, sigma)] = (squares.mean(), squares.std(ddof=1) / root)
            ends[name, rule, sigma] = at_end[:, 0]
            if at % 2:
                algorithm = getattr(mutagrad, rule)(sigma, _COLDER * beta)
                other = _ends(part, jax.random.fold_in(key, 1), algorithm, loss_fn, start, chains, job["generations"])
                cold = np.asarray(jax.vmap(loss_fn)(jnp.asarray(other))).astype(float) / mean / colder
                ratio, (own, its) = cold.mean() / losses.mean(), found[_LOSS.format(name, rule, sigma)]
                error = ratio * math.hypot(its / own, cold.std(ddof=1) / root / cold.mean())
                found[_RATIO.format(name, rule, sigma)] = (ratio, error)
        laws[name] = (edges, law)
    data = xarray.Dataset(
        {f"{name} {rule} {sigma:g}": ("chain", values) for (name, rule, sigma), values in ends.items()}
        | {f"{name} law": (f"{name} edge", law) for name, (_, law) in laws.items()},
        coords={f"{name} edge": edges for name, (edges, _) in laws.items()},
        attrs={"betas": [job["well_beta"], job["net_beta"]]},
    )
    return Outcome(found, data, draw_stationary)


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


_STATIONARY = {
    "quick": {
        "chains": 16_384, "generations": 2500, "sigmas": (0.3, 1.0, 3.0), "well_beta": 3.0, "net_beta": 20.0, "grid": 121,
        "key": 210318,
    },
    "paper": {
        "chains": 100_000, "generations": 20_000, "sigmas": (0.3, 1.0, 3.0), "well_beta": 3.0, "net_beta": 20.0, "grid": 241,
        "key": 212318,
    },
}  # fmt: skip

CLAIMS = [
    Claim(
        "W21-8",
        "whitelam2021",
        "stationary",
        "at finite β the chain samples exp(−βU), at any σ",
        _STATIONARY,
        run_stationary,
        lambda settings: Needs(12.0 * settings["chains"] * settings["generations"], 4e9, 1e7),
        "{chains} chains of {generations} generations, β = {well_beta} and {net_beta}",
        expect_stationary,
    ),
]
