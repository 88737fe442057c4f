"""K23-12: the best of N mutations uniform in a ball, and the step of gradient descent of the ball's radius (Theorem 1)."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

import mutagrad
from mutagrad import theory
from mutagrad.lab.claims.checks import PLANNED, Expected, above, below, near
from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.report.figures import panels

__all__ = ["CLAIMS", "mean_distance"]

_AT_ONCE = 2**22
"""Numbers in the mutations that are held at a time."""


def mean_distance(size: int, number: float, is_sphere: bool = False, power: int = 1) -> float:
    """E of the distance, to a power, between the best of N uniform in a unit ball and the unit step down the slope.

    The first coordinate t of a point in the ball of n ≥ 2 dimensions has P(≤ t) = I((1 + t)/2; (n + 1)/2, (n + 1)/2), that of the
    best P^N; across, the point is uniform in a ball of n − 1 dimensions and radius √(1 − t²). On the sphere n − 1 stands for
    n + 1, and the radius is met exactly. Derived for this project, tested in tests/lab/claims/test_kucharavy2023.py.

    >>> from mutagrad.lab.claims.kucharavy2023.limit import mean_distance
    >>> round(mean_distance(2, 1), 2), round(mean_distance(9854, 20), 3)                # a random point is √2 away
    (1.13, 1.401)
    """
    half = (size - 1) / 2 if is_sphere else (size + 1) / 2
    # Quantiles of the best: u^(1/N) is its P, at the nodes of a rule for u on (0, 1).
    nodes, weights = np.polynomial.legendre.leggauss(400)
    u, weights = (nodes + 1) / 2, weights / 2
    # 1 − u^(1/N), the share above, without cancellation; the first coordinate as seen from the tip.
    upper = -np.expm1(np.log(u) / number)
    depth = 2 * special.betaincinv(half, half, np.minimum(upper, 1))
    across = np.sqrt(depth * (2 - depth))
    if is_sphere:
        return float(weights @ (depth**2 + across**2) ** (power / 2))
    radii = u[:, None] ** (1 / (size - 1)) * across
    return float(weights @ ((depth**2 + radii**2) ** (power / 2)).T @ weights)


def expect_limit(settings: dict[str, Any]) -> list[Expected]:
    """The intervals of K23-12."""
    few, many, stated = settings["offspring"][0], settings["offspring"][-1], []
    for size in settings["dims"]:
        ratio = mean_distance(size, many) / mean_distance(size, few)
        why = f"the theorem: the distance falls as N grows, here from {few} to {many}"
        stated.append(below(_name("falls", size), 1, "source", why))
        law, error = (
            math.log(many / few),
            PLANNED * _planned(size, many, settings) * math.sqrt(2) / math.log(many / few),
        )
        why = "the exact law between these N, and six planned errors"
        stated.append(near(_name("power", size), math.log(ratio) / law, error, "theory", why, ours=True))
        why = "−1/(n + 1): the next order of the exact law there is below a hundredth of it"
        power = -1 / (size + 1)
        stated.append(near(_name("limit", size), power, abs(power) / 100, "theory", why, ours=True, exact=True))
    size, count = settings["large"], settings["large_offspring"]
    # The square of the distance is 2 − 2t, and the best of 20 normals has the deviation 0.53.
    error = PLANNED * 0.53 / math.sqrt(2 * size * settings["large_runs"])
    law = mean_distance(size, count)
    stated.append(
        near(
            _name("large", size, count),
            law,
            max(error, 1e-4),
            "error",
            "the exact law, six errors and float32",
            ours=True,
        )
    )
    most = math.sqrt(2 * math.log(settings["any_offspring"]) / size)
    why = f"√2·√(1 − t), t at most √(2 ln N/n) = {most:.3f}: the largest of N normals"
    stated.append(
        above(
            _name("any", size, settings["any_offspring"]),
            math.sqrt(2 * (1 - most)),
            "theory",
            why,
            ours=True,
            exact=True,
        )
    )
    error = PLANNED * 0.53 / theory.best_of_mean(count) / math.sqrt(settings["large_runs"])
    why = "six errors; a ball of n dimensions differs from normal mutations by 1/n"
    stated.append(near(_name("drift", size, count), 1, error + 1 / size, "error", why, ours=True))
    return stated


def _planned(size: int, number: int, settings: dict[str, Any]) -> float:
    """Relative standard error of the mean distance."""
    mean, square = mean_distance(size, number), mean_distance(size, number, power=2)
    return math.sqrt((square / mean**2 - 1) / settings["runs"])


def _name(what: str, size: int, count: float = 0) -> str:
    return {
        "falls": f"distance from the step of gradient descent at the most mutations over that at the fewest, n = {size}",
        "power": f"power of N at which the distance falls, n = {size}",
        "limit": f"the same by the exact law from N = 1e11 to 1e12, n = {size}",
        "large": f"distance over the radius of the ball, n = {size}, best of {count}",
        "any": f"distance over the radius by the exact law, n = {size}, best of {count:g}",
        "drift": f"mean step down the slope over that of the drift, b_Nσ, n = {size}, best of {count}",
    }[what]


def _steps(size: int, count: int, runs: int, key: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """Of the best of so many in a ball on a linear loss: distances from the unit step, and steps down, over the radius."""
    algorithm = mutagrad.comma(1.0, count, mutation=mutagrad.mutation.ball())
    radius = math.sqrt(size + 2)

    @jax.jit
    def run(keys):
        def one(key):
            state, _ = algorithm.step(key, algorithm.init(jnp.zeros(size)), lambda x: x[0])
            step = state.params / radius
            return jnp.linalg.norm(step.at[0].add(1.0)), -step[0]

        return jax.lax.map(one, keys, batch_size=max(1, min(256, _AT_ONCE // (size * count))))

    apart, down = run(jax.random.split(key, runs))
    return np.asarray(apart, float), np.asarray(down, float)


def run_limit(job: Job) -> Outcome:
    """One generation of (1,N) with mutations uniform in a ball, on a linear loss, many times for every n and N."""
    import xarray

    counts, sizes = job["offspring"], job["dims"]
    distance = np.empty((2, len(sizes), len(counts)))
    for i, size in enumerate(sizes):
        for j, count in enumerate(counts):
            key = jax.random.fold_in(jax.random.fold_in(job.key, size), count)
            apart, _ = _steps(size, count, job["runs"], key)
            distance[:, i, j] = apart.mean(), apart.std(ddof=1) / math.sqrt(job["runs"])
            job.progress(0.7 * (i * len(counts) + j + 1) / (len(sizes) * len(counts)))
    law = math.log(counts[-1] / counts[0])
    found: dict[str, tuple[float, float]] = {}
    for i, size in enumerate(sizes):
        ratio = distance[0, i, -1] / distance[0, i, 0]
        relative = math.hypot(*(distance[1, i, [0, -1]] / distance[0, i, [0, -1]]))
        found[_name("falls", size)] = (ratio, ratio * relative)
        found[_name("power", size)] = (math.log(ratio) / law, relative / law)
        last = math.log(mean_distance(size, 1e12) / mean_distance(size, 1e11)) / math.log(10)
        found[_name("limit", size)] = (last, 0.0)
    size, count, runs = job["large"], job["large_offspring"], job["large_runs"]
    apart, down = _steps(size, count, runs, jax.random.fold_in(job.key, 0))
    found[_name("large", size, count)] = (apart.mean(), apart.std(ddof=1) / math.sqrt(runs))
    found[_name("any", size, job["any_offspring"])] = (mean_distance(size, job["any_offspring"]), 0.0)
    drift = theory.best_of_mean(count) / math.sqrt(size + 2)
    found[_name("drift", size, count)] = (down.mean() / drift, down.std(ddof=1) / math.sqrt(runs) / drift)
    data = xarray.Dataset(
        {"distance": (("what", "size", "offspring"), distance)},
        coords={"what": ["mean", "error"], "size": list(sizes), "offspring": list(counts)},
        attrs={"large": size, "large_offspring": count, "large_distance": float(apart.mean())},
    )
    return Outcome(found, data, draw_limit)


def draw_limit(data: Any) -> Any:
    """Distance from the step of gradient descent against N, for every n."""
    figure, (axis,) = panels(1, width=7)
    every = np.geomspace(1, 1e9, 60)
    for colour, size in enumerate(data["size"].values):
        mean, error = (data.distance.sel(size=size, what=what) for what in ("mean", "error"))
        axis.plot(every, [mean_distance(int(size), one) for one in every], color=f"C{colour}", label=f"n = {size}")
        axis.errorbar(data.offspring, mean, 3 * error, fmt="o", markersize=4, color=f"C{colour}")
    size = data.attrs["large"]
    axis.plot(every, [mean_distance(int(size), one) for one in every], color="k", label=f"n = {size}, the ConvNet")
    axis.plot(data.attrs["large_offspring"], data.attrs["large_distance"], "ko", markersize=4)
    axis.axhline(math.sqrt(2), color="0.6", linestyle=":", linewidth=1)
    axis.set(
        xscale="log",
        yscale="log",
        xlabel="mutations N",
        ylabel="distance from the step, over its length",
    )
    axis.set_title("lines: exact law; dots: (1,N) on a slope, ±3 errors", fontsize=10)
    axis.legend(frameon=False, fontsize=8)
    return figure


_LIMIT = {
    "quick": {
        "dims": (2, 3, 5, 10), "offspring": (16, 64, 256, 1024, 4096), "runs": 2048, "large": 9854, "large_offspring": 20,
        "large_runs": 400, "any_offspring": 1e9, "key": 231217,
    },
    "paper": {
        "dims": (2, 3, 5, 10, 20), "offspring": (16, 64, 256, 1024, 4096, 65_536), "runs": 20_000, "large": 9854,
        "large_offspring": 20, "large_runs": 4000, "any_offspring": 1e9, "key": 231217,
    },
}  # fmt: skip


def _needs(settings: dict[str, Any]) -> Needs:
    small = settings["runs"] * sum(settings["offspring"]) * len(settings["dims"])
    large = settings["large_runs"] * settings["large_offspring"] * settings["large"] / 10
    return Needs(small + large, 2e9, 1e6)


CLAIMS = [
    Claim(
        "K23-12",
        "kucharavy2023",
        "Theorem 1",
        "the best of N uniform in a ball nears the step of gradient descent of the ball's radius; P: like N^(−1/(n+1)), so that "
        "at n = 9854 it stays √2 radii away, and what trains is the drift",
        _LIMIT,
        run_limit,
        _needs,
        "(1,N) on a linear loss, {runs} generations for each n and N; {large_runs} at n = {large}",
        expect_limit,
    ),
]
