"""W26-1: what a generation of (1+M) does at a point, on average."""

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import mutagrad
from mutagrad import theory
from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.lab.claims.ensemble import mean_of
from mutagrad.lab.claims.quadratics import power_law
from mutagrad.lab.claims.tanh_nets import shallow_losses, shallow_start
from mutagrad.lab.claims.unregistered import near
from mutagrad.lab.claims.whitelam2021.descent import normalized_descent
from mutagrad.report.figures import panels

__all__ = ["CLAIMS", "Point", "measure", "net_point"]

MOMENTS = ("drift", "longitudinal", "transverse", "gain")


class Point(NamedTuple):
    """A loss and a point of it.

    Attributes
    ----------
    losses_fn : per-example losses. x : (N,) parameters.
    gradient : ∇U there. trace : TrH there.
    """

    losses_fn: Callable[[jax.Array], jax.Array]
    x: jax.Array
    gradient: jax.Array
    trace: float

    @property
    def norm(self) -> float:
        """|∇U|."""
        return float(jnp.linalg.norm(self.gradient))

    def sigma(self, strength: float) -> float:
        """The σ at which s = σTrH/|∇U| is the strength."""
        return strength * self.norm / self.trace


def quadratic_point(size: int, exponent: float) -> Point:
    """The power-law quadratic at x = (1, …, 1)."""
    quadratic = power_law(size, exponent)
    return Point(quadratic.losses, quadratic.start, quadratic.curvatures * quadratic.start, quadratic.trace)


@lru_cache
def net_point(points: int, time: float = 1.0) -> Point:
    """The shallow net after normalised gradient descent over a path of length ``time`` from its start, off the saddle there."""
    losses_fn = partial(shallow_losses, points=points)
    x = jnp.asarray(normalized_descent(shallow_start(), losses_fn, time, 1).params[0, -1])
    loss_fn = mean_of(losses_fn)
    return Point(losses_fn, x, jax.grad(loss_fn)(x), float(jnp.trace(jax.hessian(loss_fn)(x))))


def measure(point: Point, sigma: float, num_offspring: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Means over independent generations of (1+M) from one point, and their standard errors.

    Returns
    -------
    (4,) each: E[ĝ·Δx]/σ, E[(ĝ·Δx)²]/σ², the mean of E[(u·Δx)²]/σ² over the directions u across ĝ, and the mean decrease of
    the loss.
    """
    algorithm = mutagrad.elitist(sigma, num_offspring)
    unit = point.gradient / jnp.linalg.norm(point.gradient)
    at_once = max(1, 64 // num_offspring)

    @jax.jit
    def generations(keys):
        def one(key):
            state, info = algorithm.step(key, algorithm.init(point.x), point.losses_fn)
            step = (state.params - point.x) / sigma
            along = jnp.sum(unit * step)
            across = (jnp.sum(jnp.square(step)) - jnp.square(along)) / (step.size - 1)
            decrease = jnp.where(info.is_accepted, -info.loss_differences[info.winner], 0)
            return jnp.stack([along, jnp.square(along), across, decrease])

        return jax.lax.map(one, keys, batch_size=at_once)

    found = np.asarray(
        generations(jax.random.split(jax.random.fold_in(jax.random.key(201), num_offspring), number)), float
    )
    return found.mean(0), found.std(0, ddof=1) / math.sqrt(number)


def _number(job: Job, num_offspring: int) -> int:
    return max(job["generations"], job["mutations"] // num_offspring)


# --- W26-1: drift and noise --------------------------------------------------------------------------------------------


def run_moments(job: Job) -> Outcome:
    """First and second moments of a step against theory.drift and theory.diffusion, for every M."""
    import xarray

    problems = {"quadratic": quadratic_point(job["size"], job["exponent"]), "shallow net": net_point(job["points"])}
    counts = job["offspring"]
    found = np.empty((2, len(problems), len(counts), 3))
    for i, point in enumerate(problems.values()):
        for j, number in enumerate(counts):
            means, errors = measure(point, point.sigma(job["strength"]), number, _number(job, number))
            found[:, i, j] = means[:3], errors[:3]
            job.progress((i * len(counts) + j + 1) / (len(problems) * len(counts)))
    expected = np.array([_law(number) for number in counts])
    data = xarray.Dataset(
        {
            "value": (("problem", "offspring", "moment"), found[0]),
            "error": (("problem", "offspring", "moment"), found[1]),
            "expected": (("offspring", "moment"), expected),
        },
        coords={"problem": list(problems), "offspring": list(counts), "moment": list(MOMENTS[:3])},
    )
    names = ("drift over −c_Mσ", "longitudinal second moment over m_Mσ²", "transverse variance over (1 − 2^−M)σ²")
    checks = []
    for i, problem in enumerate(problems):
        for k, name in enumerate(names):
            ratio, error = found[0, i, :, k] / expected[:, k], found[1, i, :, k] / np.abs(expected[:, k])
            worst = np.argmax(np.abs(ratio - 1))
            text = f"{name}, {problem}, furthest from 1 over M (M = {counts[worst]})"
            checks.append(near(text, ratio[worst], error[worst], 1, 0.03))
    return Outcome(checks, data, draw_moments)


def _law(num_offspring: int) -> list[float]:
    algorithm = mutagrad.elitist(1.0, num_offspring)
    noise = theory.diffusion(algorithm, 1.0)
    return [float(theory.drift(algorithm, 1.0)), float(noise.longitudinal), float(noise.transverse)]


def draw_moments(data: Any) -> Any:
    """Moments against M, the laws as lines, and their ratios."""
    figure, (left, right) = panels(2)
    counts = np.unique(np.round(np.geomspace(1, data.offspring.values[-1], 60)).astype(int))
    laws = np.array([_law(int(number)) for number in counts])
    labels = ("drift −c$_M$", "second moment along ∇U, m$_M$", "variance across, 1 − 2$^{−M}$")
    for k, label in enumerate(labels):
        left.plot(counts, np.abs(laws[:, k]), color=f"C{k}", linewidth=1, label=label)
        for problem, marker, offset in (("quadratic", "o", 0.88), ("shallow net", "x", 1.0)):
            one = data.sel(problem=problem).isel(moment=k)
            left.plot(data.offspring, np.abs(one.value), marker, color=f"C{k}", markersize=5 + 3 * (marker == "x"))
            right.errorbar(
                data.offspring * offset * 1.04**k,
                one.value / data.expected.isel(moment=k),
                3 * one.error / np.abs(data.expected.isel(moment=k)),
                fmt=marker,
                color=f"C{k}",
                markersize=4,
            )
    for marker, problem in (("ko", "quadratic"), ("kx", "shallow net")):
        left.plot([], [], marker, markersize=5, label=problem)
    left.set(xscale="log", yscale="log", xlabel="offspring M", ylabel="moment of a step, in units of σ, σ²")
    left.legend(frameon=False, fontsize=8)
    right.axhline(1, color="k", linestyle="--", linewidth=1)
    right.set(xscale="log", xlabel="offspring M", ylabel="measured over law, ±3 errors", ylim=(0.94, 1.06))
    return figure


_MOMENTS = {
    "quick": {
        "size": 100, "exponent": 0.5, "points": 50, "strength": 0.01, "offspring": (1, 2, 5, 20, 100, 1000),
        "mutations": 300_000, "generations": 2000,
    },
    "paper": {
        "size": 1000, "exponent": 0.5, "points": 1000, "strength": 0.01, "offspring": (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
        "mutations": 4_000_000, "generations": 20_000,
    },
}  # fmt: skip


def _evaluations(settings: dict[str, Any]) -> float:
    return sum(max(settings["mutations"], settings["generations"] * one) for one in settings["offspring"])


CLAIMS = [
    Claim(
        "W26-1",
        "whitelam2026",
        "drift and noise",
        "(1+M) selection drifts by −c_Mσ along the gradient, with anisotropic noise: m_Mσ² along it, (1 − 2^−M)σ² across it",
        _MOMENTS,
        run_moments,
        lambda settings: Needs(2 * _evaluations(settings) * settings["points"] / 100, 1e9, 1e6),
        "one generation from one point, s = {strength}; quadratic with $λ_k = k^{{−{exponent}}}$, N = {size}; shallow net "
        "at {points} points",
    ),
]
