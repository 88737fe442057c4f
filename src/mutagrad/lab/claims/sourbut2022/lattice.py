"""S22-11: a discrete genome, parameters on a lattice of spacing h that mutate by a step."""

import math
from collections.abc import Callable
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

_AT_ZERO = {"metropolis": 1.0, "logistic": 0.5}
"""Acceptance of a mutation that changes nothing, A(0)."""
_ORDER = {"metropolis": 1, "logistic": 2}
_FARTHEST = 20
_AT_ONCE = 2**14
_DRIFT = "drift over Σ_k hk P(k) A(U(x + hk) − U(x)), {}, h = {:g}"
_BIAS = {
    "metropolis": "drift over −½βσ², less U', over ½hU'', metropolis, h = {:g}",
    "logistic": "drift over −¼βσ², less U', over (h²/6 + σ²)U''', logistic, h = {:g}",
}
_STATED = "drift over −½βA(0)σ² times the centred difference, {}, h = {:g}"
_SLOPE = "slope of the logarithm of that bias on ln h, {}"
_DISTANCE = "Σ(n_i/n − p_i)²/p_i of {} cells, less its mean by chance, p ∝ e^−βU, {}"


def _jumps(mean_square: float) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of steps and their probabilities, of variance μ (theory.md 10.3)."""
    q = mean_square / (mean_square + 1 + math.sqrt(1 + 2 * mean_square))
    k = np.arange(-_FARTHEST, _FARTHEST + 1)
    return k, (1 - q) / (1 + q) * q ** np.abs(k)


def _accepted(rule: str, rise: np.ndarray) -> np.ndarray:
    """A(ΔU), for β = 1."""
    return np.exp(-np.maximum(rise, 0)) if rule == "metropolis" else special.expit(-rise)


def _loss(settings: dict[str, Any], rule: str, x: Any) -> Any:
    """U = x + ½U''x² + ⅙U'''x³, whose slope at 0 is 1."""
    return x * (1 + x * (settings["second"][rule] / 2 + x * settings["third"][rule] / 6))


def _parting(settings: dict[str, Any], rule: str, h: float, is_line: bool) -> tuple[float, float]:
    """Drift over −½βA(0)σ² on U less that on a line of slope 1, or on a flat loss, where it is 0; and its planned error.

    With the same random numbers they part where one accepts a mutation that the other does not.
    """
    k, chance = _jumps(settings["mean_square"])
    beta = settings["steepness"][rule] / h
    more = _accepted(rule, beta * _loss(settings, rule, h * k)) - _accepted(rule, beta * is_line * h * k)
    unit = _unit(settings, rule)
    error = math.sqrt(chance @ (k**2 * np.abs(more)) / _number(settings, h))
    return -chance @ (k * more) / unit, error / unit


def _unit(settings: dict[str, Any], rule: str) -> float:
    """½βA(0)σ² for a slope of 1, in units of h."""
    return settings["steepness"][rule] * _AT_ZERO[rule] * settings["mean_square"] / 2


def _bias(settings: dict[str, Any], rule: str, h: float) -> float:
    """What the lattice adds to the slope of 1, in leading order.

    Jumps of variance σ² = μh² have E[k⁴]/E[k²] = 1 + 6μ, so that h²U'''/6 of single steps becomes (h²/6 + σ²)U'''.
    """
    if rule == "metropolis":
        return h * settings["second"][rule] / 2
    return h**2 * settings["third"][rule] * (1 / 6 + settings["mean_square"])


def _centred(settings: dict[str, Any], rule: str, h: float) -> float:
    """(U(x + h) − U(x − h))/2h."""
    return (_loss(settings, rule, h) - _loss(settings, rule, -h)) / (2 * h)


def _number(settings: dict[str, Any], h: float) -> int:
    """Mutations at this spacing: the smaller it is, the more."""
    return math.ceil(settings["mutations"] * min(settings["spacings"]) / h / _AT_ONCE) * _AT_ONCE


def _heights(settings: dict[str, Any]) -> np.ndarray:
    """(K, K) βU of two sites: two wells along one, of unequal depth, and a valley that leans."""
    x = settings["spacing"] * (np.arange(settings["values"]) - (settings["values"] - 1) / 2)
    x, y = np.meshgrid(x, x, indexing="ij")
    return settings["beta"] * ((x**2 - 1) ** 2 + 0.3 * x + 0.5 * (y - 0.6 * x) ** 2)


def _boltzmann(heights: np.ndarray) -> np.ndarray:
    weights = np.exp(-(heights - heights.min())).ravel()
    return weights / weights.sum()


def expect_lattice(settings: dict[str, Any]) -> list[Expected]:
    """The intervals of S22-11."""
    stated = []
    for rule in _AT_ZERO:
        biases = []
        for h in settings["spacings"]:
            own, error = _parting(settings, rule, h, False)
            why = f"exact, where one site jumps; six planned errors of {error / own:.1e}"
            stated.append(near(_DRIFT.format(rule, h), 1, PLANNED * error / own, "error", why))
            own, error = _parting(settings, rule, h, True)
            biases.append((own, error / own))
            own, error = own / _bias(settings, rule, h), error / _bias(settings, rule, h)
            why = f"1 in leading order, {own:.3f} with all orders in h and β; six planned errors of {error:.1e}"
            stated.append(near(_BIAS[rule].format(h), own, PLANNED * error, "theory", why))
        h = max(settings["spacings"])
        own, error = (one / _centred(settings, rule, h) for one in _parting(settings, rule, h, False))
        room = settings["steepness"][rule] + PLANNED * error
        why = f"P as first stated; βh|U'| for orders above β, and six planned errors of {error:.1e}; the law has {own:.2f}"
        stated.append(near(_STATED.format(rule, h), 1, room, "theory", why, ours=True))
        logarithms, errors = np.log([own for own, _ in biases]), np.array([error for _, error in biases])
        slope, error = _line(settings["spacings"], logarithms, errors)
        order, other = _ORDER[rule], 3 - _ORDER[rule]
        why = f"all orders make it {slope:.3f}; six planned errors of {error:.1e}. The other rule has about {other}"
        stated.append(near(_SLOPE.format(rule), order, abs(slope - order) + PLANNED * error, "theory", why))
    heights = _heights(settings)
    freedom, law = heights.size - 1, _boltzmann(heights)
    error = math.sqrt(2 * freedom) / settings["chains"]
    colder = np.sum((_boltzmann(1.05 * heights) - law) ** 2 / law)
    alarm = stats.chi2.sf(freedom + 9 * math.sqrt(2 * freedom), freedom)
    why = f"χ² of {freedom} degrees of freedom: six errors, and a false alarm in {1 / alarm:.0e}; β off by 5 % has {colder:.1e}"
    for rule in _AT_ZERO:
        stated.append(near(_DISTANCE.format(heights.size, rule), 0, PLANNED * error, "error", why))
    return stated


def _line(spacings: tuple[float, ...], logarithms: np.ndarray, errors: np.ndarray) -> tuple[float, float]:
    """Slope of a line through logarithms with errors, and its error."""
    x, weights = np.log(spacings), errors**-2.0
    centred = x - weights @ x / weights.sum()
    return weights * centred @ logarithms / (weights @ centred**2), (weights @ centred**2) ** -0.5


def _step(settings: dict[str, Any], rule: str, h: float) -> Callable[[jax.Array], jax.Array]:
    """Of a key: the step of a site at 0 on U less that on a flat loss and on a line, with the same random numbers [h]."""
    mutation = mutagrad.mutation.discrete(range(-_FARTHEST, _FARTHEST + 1))
    beta, sigma = settings["steepness"][rule] / h, math.sqrt(settings["mean_square"])
    algorithm = getattr(mutagrad, rule)(sigma, beta, mutation=mutation)
    start = algorithm.init(jnp.zeros((), jnp.int32))

    def steps(key: jax.Array) -> jax.Array:
        def after(loss_of: Callable) -> jax.Array:
            return algorithm.step(key, start, lambda place: loss_of(h * place.astype(jnp.float32)))[0].params

        curved = after(lambda x: _loss(settings, rule, x))
        return jnp.stack([curved - after(lambda x: 0 * x), curved - after(lambda x: x)])

    return steps


def _moments(settings: dict[str, Any], rule: str, h: float, key: jax.Array) -> np.ndarray:
    """(2, 2): value and error of the slope that the drift shows, and of what is beyond that of a line."""
    steps, number = jax.vmap(_step(settings, rule, h)), _number(settings, h)

    @jax.jit
    def sums(key: jax.Array) -> jax.Array:
        def block(index: jax.Array) -> jax.Array:
            found = steps(jax.random.split(jax.random.fold_in(key, index), _AT_ONCE))
            return jnp.stack([jnp.sum(found, axis=0), jnp.sum(jnp.square(found), axis=0)])

        return jax.lax.map(block, jnp.arange(number // _AT_ONCE))

    first, second = np.asarray(sums(key), float).sum(0) / number
    unit = _unit(settings, rule)
    return np.stack([-first / unit, np.sqrt((second - first**2) / number) / unit], axis=1)


def _counts(settings: dict[str, Any], rule: str, key: jax.Array) -> np.ndarray:
    """(K, K) how many chains of two sites end in which cell; they start anywhere."""
    number, heights = settings["values"], jnp.asarray(_heights(settings), jnp.float32)
    mutation = mutagrad.mutation.discrete(range(number))
    algorithm = getattr(mutagrad, rule)(settings["jump"], 1.0, mutation=mutation)
    start = algorithm.init(jnp.zeros(2, jnp.int32))

    def chain(key: jax.Array) -> jax.Array:
        first = jax.random.randint(jax.random.fold_in(key, settings["generations"]), (2,), 0, number)

        def body(generation: jax.Array, state: Any) -> Any:
            own = jax.random.fold_in(key, generation)
            return algorithm.step(own, state, lambda x: heights[x[0], x[1]])[0]

        return jax.lax.fori_loop(0, settings["generations"], body, start.with_params(first)).params

    keys = jax.random.split(key, settings["chains"])
    ends = np.asarray(jax.jit(lambda keys: jax.lax.map(chain, keys, batch_size=_AT_ONCE))(keys))
    return np.bincount(ends @ [number, 1], minlength=number**2).reshape(number, number)


def run_lattice(job: Job) -> Outcome:
    """Mean steps from a site at three spacings, and where chains of two sites end."""
    import xarray

    spacings, found = job["spacings"], {}
    slopes, counts = np.empty((len(_AT_ZERO), len(spacings), 2, 2)), []
    parts = len(_AT_ZERO) * (len(spacings) + 1)
    law = _boltzmann(_heights(job.settings))
    for i, rule in enumerate(_AT_ZERO):
        for j, h in enumerate(spacings):
            slopes[i, j] = _moments(job.settings, rule, h, jax.random.fold_in(job.key, 100 * i + j))
            found[_DRIFT.format(rule, h)] = slopes[i, j, 0] / _parting(job.settings, rule, h, False)[0]
            found[_BIAS[rule].format(h)] = slopes[i, j, 1] / _bias(job.settings, rule, h)
            job.progress((i * (len(spacings) + 1) + j + 1) / parts)
        widest = int(np.argmax(spacings))
        found[_STATED.format(rule, spacings[widest])] = slopes[i, widest, 0] / _centred(
            job.settings, rule, spacings[widest]
        )
        bias, error = slopes[i, :, 1].T
        found[_SLOPE.format(rule)] = _line(spacings, np.log(np.maximum(bias, 1e-9)), error / np.abs(bias))
        counts.append(_counts(job.settings, rule, jax.random.fold_in(job.key, 100 * i + len(spacings))))
        share, freedom = counts[i].ravel() / job["chains"], law.size - 1
        distance = np.sum((share - law) ** 2 / law) - freedom / job["chains"]
        error = math.sqrt(2 * freedom + 4 * job["chains"] * max(distance, 0)) / job["chains"]
        found[_DISTANCE.format(law.size, rule)] = np.array([distance, error])
        job.progress((i + 1) / len(_AT_ZERO))
    data = xarray.Dataset(
        {
            "slope": (("rule", "h", "what", "part"), slopes),
            "leading": (("rule", "h"), [[_bias(job.settings, rule, h) for h in spacings] for rule in _AT_ZERO]),
            "exact": (("rule", "h"), [[_parting(job.settings, rule, h, True)[0] for h in spacings] for rule in _AT_ZERO]),
            "counts": (("rule", "x", "y"), np.stack(counts)),
            "law": (("x", "y"), law.reshape(counts[0].shape)),
        },
        coords={"rule": list(_AT_ZERO), "h": list(spacings), "what": ["slope", "bias"], "part": ["value", "error"]},
    )  # fmt: skip
    return Outcome({name: tuple(value) for name, value in found.items()}, data, draw_lattice)


def draw_lattice(data: Any) -> Any:
    """The bias against the spacing, and counts of cells over e^{−βU}."""
    figure, (left, right) = panels(2)
    for colour, rule in enumerate(data.rule.values):
        one = data.sel(rule=rule)
        value, error = one.slope.sel(what="bias").values.T
        left.errorbar(data.h, value, 3 * error, fmt="o", markersize=4, color=f"C{colour}", label=f"{rule}, ±3 errors")
        left.plot(
            data.h,
            one.leading,
            "--",
            linewidth=1,
            color=f"C{colour}",
            label="½hU''" if colour == 0 else "(h²/6 + σ²)U'''",
        )
        left.plot(data.h, one.exact, linewidth=1, color=f"C{colour}", label="with next orders")
        law, counts = data.law.values.ravel(), one.counts.values.ravel()
        expected = law * counts.sum()
        place = np.argsort(law)
        right.errorbar(
            expected[place] * (1 + 0.03 * colour), (counts / expected)[place], 3 / np.sqrt(expected[place]), fmt="os"[colour],
            markersize=3, linewidth=0.8, color=f"C{colour}", label=rule,
        )  # fmt: skip
    left.set(
        xscale="log", yscale="log", xlabel="spacing h of the lattice", ylabel="slope that the drift shows, less U' = 1"
    )
    right.axhline(1, color="k", linestyle="--", linewidth=1)
    right.set(
        xscale="log",
        xlabel="chains expected in a cell by $e^{−βU}$",
        ylabel="chains found over those expected, ±3 errors",
    )
    for axis in (left, right):
        axis.legend(frameon=False, fontsize=8)
    return figure


_COMMON = {
    "spacings": (0.3, 0.6, 1.2), "mean_square": 0.02, "steepness": {"metropolis": 0.05, "logistic": 0.2},
    "second": {"metropolis": 1.0, "logistic": 0.3}, "third": {"metropolis": 0.3, "logistic": 6.0},
    "values": 8, "spacing": 0.5, "beta": 1.0, "jump": 1.0,
}  # fmt: skip

_SETTINGS = {
    "quick": _COMMON | {"mutations": 40_000_000, "chains": 262_144, "generations": 200, "key": 711212},
    "paper": _COMMON | {"mutations": 400_000_000, "chains": 1_048_576, "generations": 400, "key": 711213},
}

CLAIMS = [
    Claim(
        "S22-11",
        "sourbut2022",
        "assumption 2",
        "on a lattice of spacing h the drift follows differences of the loss between neighbours: centred ones with logistic "
        "selection, off from the slope by h²U'''/6 for single steps, and one-sided ones with Metropolis, off by ½hU''; the chain "
        "samples e^−βU on the lattice; P: both follow centred differences",
        _SETTINGS,
        run_lattice,
        lambda settings: Needs(
            16.0 * settings["mutations"] + 4.0 * settings["chains"] * settings["generations"], 1e9, 1e6
        ),
        "one site whose jumps have the variance {mean_square} h², {mutations} mutations at the smallest spacing; {chains} chains "
        "of two sites of {values} values",
        expect_lattice,
    ),
]
