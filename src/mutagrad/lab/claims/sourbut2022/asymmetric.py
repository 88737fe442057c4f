"""S22-3: mutations that are not radially symmetric: the bias of correlated ones, and those whose covariance is σ²I."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jax import flatten_util

import mutagrad
from mutagrad.lab.claims.checks import ERRORS, PLANNED, Expected, near
from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.lab.claims.sourbut2022.pairs import acceptance_of
from mutagrad.report.figures import panels
from mutagrad.types import Algorithm, Mutation

__all__ = ["CLAIMS", "correlated_law", "covariance"]

_AT_ONCE = 2**15
_CASES = ("correlated, small slope", "correlated, greedy", "signs", "signs, greedy", "rank 1", "rank 2")
_ASTRAY = "squared tangent of the angle from {} to the mean step, {}"
_LENGTH = "length of the mean step over {}, {}"
_COSINE = "cosine between the mean step and −∇U, {}"


class Case(NamedTuple):
    """Mutations, a rule and a gradient.

    Attributes
    ----------
    mutation, like : the density, and the params that mutate.
    algorithm : whose rule judges. slope : |∇U| at σ = β = 1.
    gradient : (N,) unit vector. direction : (N,) where the law has the mean step, a unit vector.
    length : of the mean step, by the law. name : of the direction. law : of the length.
    """

    mutation: Mutation
    like: Any
    algorithm: Algorithm
    slope: float
    gradient: np.ndarray
    direction: np.ndarray
    length: float
    name: str
    law: str


def covariance(size: int) -> np.ndarray:
    """C of the correlated mutations: variances from ¼ to 4 in directions that are no axes."""
    turned = np.linalg.qr(np.random.default_rng(3).standard_normal((size, size)))[0]
    return (turned * np.geomspace(0.25, 4, size)) @ turned.T


def correlated_law(gradient: np.ndarray) -> np.ndarray:
    """C g: what a mean step of correlated mutations is along, uphill."""
    return covariance(len(gradient)) @ gradient


def _correlated(size: int) -> Mutation:
    root = jnp.asarray(np.linalg.cholesky(covariance(size)), jnp.float32)

    def sample(key: jax.Array, params: jax.Array) -> jax.Array:
        return root @ jax.random.normal(key, params.shape)

    return Mutation(sample, "correlated")


def _signs(size: int) -> np.ndarray:
    """All 2^N vectors of signs."""
    return 1.0 - 2 * ((np.arange(2**size)[:, None] >> np.arange(size)) & 1)


def _gradients(settings: dict[str, Any]) -> dict[str, np.ndarray]:
    """A gradient for each kind of mutation, the same for all keys; for signs one whose first parameters have most of it."""
    random, rows, columns = np.random.default_rng(4), settings["rows"], settings["columns"]
    found = {
        "correlated": random.standard_normal(settings["size"]),
        "signs": 1 / np.arange(1, settings["signs"] + 1.0),
        "rank 1": random.standard_normal(rows * columns),
        "rank 2": random.standard_normal(rows * columns),
    }
    return {name: one / np.linalg.norm(one) for name, one in found.items()}


def cases(settings: dict[str, Any]) -> dict[str, Case]:
    """What is measured; directions and lengths by docs/theory.md 1.7 and 1.8."""
    slope, gradients = settings["slope"], _gradients(settings)
    metropolis, greedy = mutagrad.metropolis(1.0, 1.0), mutagrad.greedy(1.0)
    g = gradients["correlated"]
    law, width = correlated_law(g), math.sqrt(g @ covariance(len(g)) @ g)
    along, like = -law / np.linalg.norm(law), jnp.zeros(len(g))
    mutation = _correlated(len(g))
    # The slope of correlated mutations is that along a mutation, β√(g·Cg).
    small = float(np.linalg.norm(law)) * slope / width / 2
    found = {
        "correlated, small slope": Case(
            mutation, like, metropolis, slope / width, g, along, small, "−C∇U", "½β|C∇U|"
        ),
        "correlated, greedy": Case(
            mutation, like, greedy, 1.0, g, along, float(np.linalg.norm(law)) / width / math.sqrt(2 * math.pi), "−C∇U",
            "|C∇U|/√(2π ∇U·C∇U)",
        ),
    }  # fmt: skip
    g = gradients["signs"]
    signs, mutation = jnp.zeros(len(g)), mutagrad.mutation.rademacher()
    every = _signs(len(g))
    exact = -(every * np.sign(every @ g)[:, None]).mean(0) / 2
    length = float(np.linalg.norm(exact))
    found["signs"] = Case(mutation, signs, metropolis, slope, g, -g, slope / 2, "−∇U", "½βσ²|∇U|")
    found["signs, greedy"] = Case(
        mutation, signs, greedy, 1.0, g, exact / length, length, "its law", "its law, over all signs"
    )
    for rank in (1, 2):
        g = gradients[f"rank {rank}"]
        matrix = {"w": jnp.zeros((settings["rows"], settings["columns"]))}
        mutation = mutagrad.mutation.low_rank(rank)
        found[f"rank {rank}"] = Case(mutation, matrix, metropolis, slope, g, -g, slope / 2, "−∇U", "½βσ²|∇U|")
    return found


def _orders(name: str, case: Case, settings: dict[str, Any]) -> tuple[float, float, str]:
    """By how much the next order in the slope b turns a mean step (tangent) and changes its length (relative), and why."""
    b = settings["slope"]
    if name == "correlated, small slope":
        normal = scipy.stats.norm
        factor = 2 * math.exp(b**2 / 2) * normal.cdf(-b)
        return (
            0.0,
            abs(factor - 1),
            f"exact in direction for normal mutations; the factor of the length is {factor:.4f}",
        )
    if name == "signs":
        every = _signs(len(case.gradient))
        x = case.slope * every @ case.gradient
        weights = (np.exp(-np.maximum(x, 0)) - np.exp(-np.maximum(-x, 0))) / 2
        exact = (every * weights[:, None]).mean(0)
        along = float(exact @ case.direction)
        turn = math.sqrt(max(exact @ exact - along**2, 0)) / along
        return turn, abs(along / case.length - 1), f"over all signs the next order turns the step by {turn:.1e}"
    if name.startswith("rank"):
        # |E[(u·ε) x|x|]| ≤ √(E[(u·ε)²] E[x⁴]), and E[x⁴] ≤ 3(1 + 2/r) for a gradient of length 1.
        most = b / 2 * math.sqrt(3 * (1 + 2 / int(name[-1])))
        return most, most, f"the next order turns the step by ½b√E[x⁴] = {most:.1e} at most"
    return 0.0, 0.0, "exact at every slope"


def _errors(name: str, case: Case, settings: dict[str, Any]) -> tuple[float, float, float]:
    """Planned errors of squared tangent, length (relative) and cosine."""
    size, number = len(case.gradient), settings["pairs"]
    if not name.startswith("correlated"):
        # E[(u·ε)² w²] over the square of the length: 1 for normal mutations at small slopes, and what trials found.
        spread, along = next(rest for first, *rest in _SPREADS if first == name)
        each = np.full(size - 1, spread)
        turned = math.sqrt(max(1 - (case.direction @ case.gradient) ** 2, 0))
        return math.sqrt(2 * each @ each) / number, along / math.sqrt(number), turned * math.sqrt(spread / number)
    c, g = covariance(size), case.gradient
    law, variance = c @ g, float(g @ c @ g)
    # E[z zᵀ w²] with w = −x/2 at small slopes, and with w = −sign(x)/2.
    square = (c * variance + 2 * np.outer(law, law)) / 4 * case.slope**2 if "small" in name else c / 4
    across = np.eye(size) - np.outer(case.direction, case.direction)
    rest = across @ square @ across / case.length**2
    error = math.sqrt(case.direction @ square @ case.direction / case.length**2 - 1) / math.sqrt(number)
    of_cosine = math.sqrt(g @ rest @ g / number)
    return math.sqrt(2 * np.sum(rest**2)) / number, error, of_cosine


def expect_bias(settings: dict[str, Any]) -> list[Expected]:
    """The intervals of S22-3."""
    stated = []
    for name, case in cases(settings).items():
        turn, change, order = _orders(name, case, settings)
        errors = _errors(name, case, settings)
        # A χ² of fewer degrees is more skew.
        room = ERRORS + 6.6
        # Of a step that is turned the squared tangent also has the error 2 turn √(E[(u·ε)² w²]/n).
        moved = 2 * turn * math.sqrt(errors[0] / math.sqrt(2 * (len(case.gradient) - 1)))
        allowed = turn**2 + PLANNED * moved + room * errors[0]
        why = (
            f"{order}; {room:g} planned errors of {errors[0]:.1e}, so many for the skew χ²: "
            f"{math.degrees(math.atan(math.sqrt(allowed))):.2g}°"
        )
        stated.append(near(_ASTRAY.format(case.name, name), 0, allowed, "theory", why))
        why = f"{order}; the length changes by {change:.1e} at most, and six planned errors of {errors[1]:.1e}"
        stated.append(near(_LENGTH.format(case.law, name), 1, change + PLANNED * errors[1], "theory", why))
        cosine = float(case.direction @ -case.gradient)
        if cosine < 1 - 1e-9:
            why = f"{cosine:.4f} by the law, so that the step is biased; six planned errors of {errors[2]:.1e}"
            stated.append(near(_COSINE.format(name), cosine, PLANNED * errors[2], "error", why))
    return stated


def _steps(job: Job, case: Case, key: jax.Array) -> tuple[np.ndarray, np.ndarray, int]:
    """Mean of z (A(x) − A(−x))/2 over pairs of mutations, the covariance of one, and their number."""
    slope, rule = jnp.asarray(case.slope * case.gradient, jnp.float32), acceptance_of(case.algorithm)

    @jax.jit
    def block(key):
        def one(key):
            return flatten_util.ravel_pytree(case.mutation.sample_fn(key, case.like))[0]

        z = jax.vmap(one)(jax.random.split(key, _AT_ONCE))
        x = z @ slope
        steps = z * ((rule(x) - rule(-x)) / 2)[:, None]
        return jnp.sum(steps, axis=0), steps.T @ steps

    blocks = math.ceil(job["pairs"] / _AT_ONCE)
    size = len(case.gradient)
    sums, products = np.zeros(size), np.zeros((size, size))
    for one_key in jax.random.split(key, blocks):
        first, second = block(one_key)
        sums, products = sums + np.asarray(first, float), products + np.asarray(second, float)
    number = blocks * _AT_ONCE
    mean = sums / number
    return mean, products / number - np.outer(mean, mean), number


def run_bias(job: Job) -> Outcome:
    """Mean steps of mutations that are not radially symmetric, against their laws."""
    import xarray

    found: dict[str, tuple[float, float]] = {}
    shown = np.empty((len(_CASES), 4))
    for index, (name, case) in enumerate(cases(job.settings).items()):
        mean, spread, number = _steps(job, case, jax.random.fold_in(job.key, index))
        length = float(mean @ case.direction)
        off = mean - length * case.direction
        across = np.eye(len(mean)) - np.outer(case.direction, case.direction)
        rest = across @ spread @ across
        square = off @ off - np.trace(rest) / number
        error = math.sqrt(2 * np.sum(rest**2) / number**2 + 4 * max(off @ rest @ off, 0) / number)
        found[_ASTRAY.format(case.name, name)] = (float(square / length**2), error / length**2)
        error = math.sqrt(case.direction @ spread @ case.direction / number)
        found[_LENGTH.format(case.law, name)] = (length / case.length, error / case.length)
        size = float(np.linalg.norm(mean))
        cosine = float(-mean @ case.gradient) / size
        slope = (-case.gradient - cosine * mean / size) / size
        of_cosine = math.sqrt(max(slope @ spread @ slope, 0) / number)
        exact = float(case.direction @ -case.gradient)
        if exact < 1 - 1e-9:
            found[_COSINE.format(name)] = (cosine, of_cosine)
        shown[index] = cosine, of_cosine, exact, length / case.length
        job.progress((index + 1) / len(_CASES))
    data = xarray.Dataset(
        {"shown": (("case", "what"), shown)},
        coords={"case": list(_CASES), "what": ["cosine", "error", "exact", "length"]},
    )
    return Outcome(found, data, draw_bias)


def draw_bias(data: Any) -> Any:
    """Angles from −∇U, measured and by the law, and lengths over the law."""
    figure, (left, right) = panels(2, 4.8)
    place = np.arange(len(data.case))
    angle, exact = (np.degrees(np.arccos(np.clip(data.shown.sel(what=one), -1, 1))) for one in ("cosine", "exact"))
    left.plot(angle, place, "o", color="C0", label="measured")
    left.plot(exact, place, "|", color="k", markersize=16, label="law")
    left.set_yticks(place, data.case.values, fontsize=8)
    left.invert_yaxis()
    left.set(xlabel="angle from −∇U to the mean step [degrees]")
    left.legend(frameon=False, fontsize=8)
    right.plot(data.shown.sel(what="length"), place, "o", color="C0")
    right.axvline(1, color="k", linestyle="--", linewidth=1)
    right.set_yticks(place, [""] * len(place))
    right.invert_yaxis()
    right.set(xlabel="length of the mean step over its law")
    return figure


_SHAPES = {"size": 10, "signs": 12, "rows": 6, "columns": 5, "slope": 0.01}
_SPREADS = (("signs", 1.0, 1.1), ("signs, greedy", 1.2, 0.6), ("rank 1", 1.3, 2.1), ("rank 2", 1.2, 1.8))
_BIAS = {
    "quick": _SHAPES | {"pairs": 1_000_000, "key": 22103},
    "paper": _SHAPES | {"pairs": 20_000_000, "key": 22123},
}

CLAIMS = [
    Claim(
        "S22-3",
        "sourbut2022",
        "first model",
        "without radial symmetry the mean step is biased: along −C∇U for correlated mutations of covariance C; random signs and "
        "low-rank mutations, of covariance σ²I, are not biased at small slopes, and signs are at large ones",
        _BIAS,
        run_bias,
        lambda settings: Needs(12.0 * settings["pairs"], 1e9, 1e6),
        "linear losses; N = {size} correlated, {signs} signs, matrices of {rows} × {columns}; {pairs} pairs; βσ|∇U| = {slope} "
        "where the slope is small",
        expect_bias,
    ),
]
