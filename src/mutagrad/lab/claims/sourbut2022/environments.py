"""S22-7: a fresh batch in every generation, and what a step shows of gradients that are perfectly correlated."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special, stats

import mutagrad
from mutagrad.lab.claims.checks import PLANNED, Expected, near
from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.report.figures import panels

__all__ = ["CLAIMS"]

_RULES = {"metropolis": 1.0, "logistic": 0.5}
"""Acceptance of a mutation that changes nothing, A(0)."""
_AT_ONCE = 2**14
_MEAN = "mean step of a coordinate over σ"
_OF_A_STEP = "correlation of the two coordinates of a step"
_OVER_LAW = "{} over that of theory.md 6.5"
_NEXT_OWN = "correlation of a coordinate's step with its own of the next generation"
_NEXT_OTHER = "correlation of a coordinate's step with the other's of the next generation"
_OF_SUMS = "correlation of the two coordinates of a sum of {} steps"
_STATED = "covariance of the two coordinates of a step over (½βA(0)σ²)² Cov(g_B)"


def _excess(b: Any) -> Any:
    """q = E[z_g²A] − E[A] of Metropolis selection: b²T − b/√2π, T = e^{b²/2}Φ(−b)."""
    return b**2 * special.erfcx(b / math.sqrt(2)) / 2 - b / math.sqrt(2 * math.pi)


def _law(rule: str, b: float, batch: int) -> tuple[float, float]:
    """Variance of a coordinate of a step and covariance of the two, in units of σ²; b is that of the root mean square of |g_B|.

    A batch of B gradients ±(1, 1) has the gradient (2K − B)/B · (1, 1), K binomial, and ĝĝᵀ has the entries ½.
    """
    heads = np.arange(batch + 1)
    chance = stats.binom.pmf(heads, batch, 0.5)
    own = b * np.abs(2 * heads - batch) / math.sqrt(batch)
    if rule == "logistic":
        return 0.5, 0.0
    accepted = 0.5 + special.erfcx(own / math.sqrt(2)) / 2
    covariance = float(chance @ _excess(own)) / 2
    return float(chance @ accepted) + covariance, covariance


def _stated(rule: str, b: float) -> float:
    """(½βA(0)σ²)² of the covariance of the two coordinates of g_B, over σ²: |g_B|² is twice the square of a coordinate."""
    return (_RULES[rule] * b / 2) ** 2 / 2


def expect_environments(settings: dict[str, Any]) -> list[Expected]:
    """The intervals of S22-7."""
    expected, generations, lineages = [], settings["generations"], settings["lineages"]
    steps = generations * lineages
    for rule, at_zero in _RULES.items():
        for b in settings["strengths"]:
            variance, covariance = _law(rule, b, settings["batch"])
            correlation = covariance / variance
            where = f"{rule}, b = {b:g}"
            error = math.sqrt((variance + covariance) / 2 / steps)
            lasting = at_zero * b / 2 / math.sqrt(2)
            why = f"E[g_B] = 0, and six errors of {steps:,} steps; one batch for ever has about {lasting:.2g}"
            expected.append(near(f"{_MEAN}, {where}", 0, PLANNED * error, "error", why))
            # The product of two coordinates has the mean square E[A] where A is even.
            error = 1 / math.sqrt(steps * variance)
            sums = 1 / math.sqrt(lineages)
            for name, own in ((_OF_A_STEP, error), (_OF_SUMS.format(generations), sums)):
                if covariance:
                    room = PLANNED * own / abs(correlation)
                    why = (
                        f"exact on linear losses, {correlation:.4f}; six planned errors. Gradient descent on g_B has 1"
                    )
                    expected.append(near(f"{_OVER_LAW.format(name)}, {where}", 1, room, "error", why))
                else:
                    why = f"0 at any b; six planned errors of {own:.1e}. Gradient descent on g_B has 1"
                    expected.append(near(f"{name}, {where}", 0, PLANNED * own, "error", why))
            between = 1 / math.sqrt(2 * steps * (1 - 1 / generations))
            held = (at_zero * b / 2) ** 2 / 2 / variance
            for name in (_NEXT_OWN, _NEXT_OTHER):
                why = f"batches are independent; six planned errors. One batch for both has about {held:.2g} at small b"
                expected.append(near(f"{name}, {where}", 0, PLANNED * between, "error", why))
            if b <= 1:
                why = (
                    f"P as first stated, to a quarter of itself; theory.md 6.5 has {covariance / _stated(rule, b):.2g}"
                )
                expected.append(near(f"{_STATED}, {where}", 1, 0.25, "theory", why, ours=True))
    return expected


def _batch_of(key: jax.Array, batch: int, generation: jax.Array) -> jax.Array:
    """(B,) signs of the examples that a generation meets."""
    return jax.random.rademacher(jax.random.fold_in(key, generation), (batch,), jnp.float32)


def _measure(job: Job, key: jax.Array, algorithm: mutagrad.Algorithm) -> np.ndarray:
    """(lineages, 5 + 2T): of each lineage means over its steps, in σ, and the products of its sums of 1 … T steps over T."""
    generations, sigma = job["generations"], job["sigma"]
    start = algorithm.init(jnp.zeros(2))

    def one(key: jax.Array) -> jax.Array:
        batch_key, step_key = jax.random.split(key)

        def body(state: Any, generation: jax.Array) -> tuple[Any, jax.Array]:
            signs = _batch_of(batch_key, job["batch"], generation)
            own = jax.random.fold_in(step_key, generation)
            after, _ = algorithm.step(own, state, lambda x: signs * jnp.sum(x))
            return after, (after.params - state.params) / sigma

        steps = jax.lax.scan(body, start, jnp.arange(generations))[1]
        first, other = steps[:-1], steps[1:]
        means = [
            jnp.mean(steps),
            jnp.mean(jnp.square(steps)),
            jnp.mean(jnp.prod(steps, axis=1)),
            jnp.mean(first * other),
            jnp.mean(first * other[:, ::-1]),
        ]
        sums = jnp.cumsum(steps, axis=0)
        return jnp.concatenate([jnp.stack(means), jnp.mean(jnp.square(sums), axis=1), jnp.prod(sums, axis=1)])

    keys = jax.random.split(key, job["lineages"])
    return np.asarray(jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=_AT_ONCE))(keys), float)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """A ratio of means over lineages, and its error by the delta method."""
    value = above.mean() / below.mean()
    return np.array([value, np.std(above - value * below, ddof=1) / math.sqrt(len(above)) / abs(below.mean())])


def run_environments(job: Job) -> Outcome:
    """Lineages under a fresh batch a generation, of two coordinates whose gradients are perfectly correlated."""
    import xarray

    generations, batch, strengths = job["generations"], job["batch"], job["strengths"]
    found: dict[str, Any] = {}
    shown = np.empty((2, len(_RULES), len(strengths), generations))
    of_steps = np.empty((2, len(_RULES), len(strengths)))
    for i, rule in enumerate(_RULES):
        for j, b in enumerate(strengths):
            beta = b / job["sigma"] / math.sqrt(2 / batch)
            algorithm = getattr(mutagrad, rule)(job["sigma"], beta)
            values = _measure(job, jax.random.fold_in(job.key, i * len(strengths) + j), algorithm)
            mean, square, product, own, other = values[:, :5].T
            squares, products = np.split(values[:, 5:], 2, axis=1)
            where, (variance, covariance) = f"{rule}, b = {b:g}", _law(rule, b, batch)
            error = 1 / math.sqrt(len(values))
            found[f"{_MEAN}, {where}"] = (mean.mean(), mean.std(ddof=1) * error)
            found[f"{_NEXT_OWN}, {where}"] = _ratio(own, square)
            found[f"{_NEXT_OTHER}, {where}"] = _ratio(other, square)
            shown[:, i, j] = np.stack([_ratio(*one) for one in zip(products.T, squares.T, strict=True)], axis=1)
            of_steps[:, i, j] = _ratio(product, square)
            for name, one in ((_OF_A_STEP, of_steps[:, i, j]), (_OF_SUMS.format(generations), shown[:, i, j, -1])):
                if covariance:
                    found[f"{_OVER_LAW.format(name)}, {where}"] = one / (covariance / variance) * np.array([1, -1])
                else:
                    found[f"{name}, {where}"] = one
            if b <= 1:
                value = np.array([product.mean(), product.std(ddof=1) * error])
                found[f"{_STATED}, {where}"] = value / _stated(rule, b)
            job.progress((i * len(strengths) + j + 1) / (len(_RULES) * len(strengths)))
    data = xarray.Dataset(
        {
            "of sums": (("part", "rule", "b", "steps"), shown),
            "of a step": (("part", "rule", "b"), of_steps),
        },
        coords={"rule": list(_RULES), "b": list(strengths), "steps": np.arange(1, generations + 1)},
        attrs={"batch": batch},
    )
    return Outcome({name: tuple(value) for name, value in found.items()}, data, draw_environments)


def draw_environments(data: Any) -> Any:
    """Correlation of the coordinates of a step against b, and of sums of steps against their number."""
    figure, (left, right) = panels(2)
    batch, every = int(data.attrs["batch"]), np.geomspace(0.03, 30, 200)
    for colour, rule in enumerate(_RULES):
        laws = np.array([_law(rule, b, batch) for b in every])
        left.plot(every, laws[:, 1] / laws[:, 0], color=f"C{colour}", linewidth=1, label=f"{rule}, theory.md 6.5")
        stated = np.array([_stated(rule, b) for b in every]) / _RULES[rule]
        left.plot(every, stated, ":", color=f"C{colour}", linewidth=1, label=f"{rule}, (½βA(0)σ²)² Cov(g_B)")
        value, error = data["of a step"].sel(rule=rule).values
        left.errorbar(data.b, value, 3 * error, fmt="o", color=f"C{colour}", markersize=4)
        for place, (b, marker) in enumerate(zip(data.b.values, "os^vD", strict=False)):
            value, error = data["of sums"].sel(rule=rule, b=b).values
            x = data.steps + 0.12 * (place - 1) + 0.06 * colour
            label = f"{rule}, b = {b:g}"
            right.errorbar(
                x, value, 3 * error, fmt=marker, color=f"C{colour}", markersize=3, linewidth=0.8, label=label
            )
            variance, covariance = _law(rule, float(b), batch)
            right.axhline(covariance / variance, color=f"C{colour}", linestyle="--", linewidth=0.6)
    left.set(
        xscale="log",
        xlabel="b = βσ times the root mean square of |g_B|",
        ylabel="correlation of the coordinates of a step",
    )
    right.set(xlabel="steps in a sum", ylabel="correlation of the coordinates of a sum")
    for axis in (left, right):
        axis.set_ylim(-0.14, 0.14)
        axis.legend(frameon=False, fontsize=7, loc="upper left", ncols=2 if axis is right else 1)
    return figure


_SETTINGS = {
    "quick": {
        "strengths": (0.3, 1.0, 3.0), "batch": 4, "sigma": 0.5, "generations": 10, "lineages": 458_752, "key": 71207,
    },
    "paper": {
        "strengths": (0.1, 0.3, 1.0, 3.0, 10.0), "batch": 32, "sigma": 0.5, "generations": 20, "lineages": 4_194_304,
        "key": 71207,
    },
}  # fmt: skip

CLAIMS = [
    Claim(
        "S22-7",
        "sourbut2022",
        "comment",
        "two coordinates have gradients that are perfectly correlated and of mean zero: under a fresh batch a generation neither "
        "moves in the mean, and their steps are correlated as theory.md 6.5 has it, negatively with Metropolis selection and not "
        "at all with logistic; steps of different generations are independent; P: a step has the covariance (½βA(0)σ²)² Cov(g_B)",
        _SETTINGS,
        run_environments,
        lambda settings: Needs(
            4.0 * len(settings["strengths"]) * settings["lineages"] * settings["generations"] * settings["batch"],
            2e9,
            1e6,
        ),
        "{lineages} lineages of {generations} generations, batches of {batch} examples of gradient ±(1, 1)",
        expect_environments,
    ),
]
