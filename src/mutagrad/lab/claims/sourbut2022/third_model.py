"""S22-5: many mutations in flight that mix freely; the part of the genome that all share follows the gradient."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import mutagrad
from mutagrad import theory
from mutagrad.lab.claims.checks import PLANNED, Expected, near
from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.lab.claims.quadratics import power_law
from mutagrad.lab.claims.sourbut2022.two_loci import NextOrder, next_order
from mutagrad.report.figures import panels

__all__ = ["CLAIMS"]

_KINDS = ("free", "crossover", "transfer")


class _Place(NamedTuple):
    """A point of a quadratic: ∇U (N,) and curvatures (N,), β = 1, and σ, (S,) smallest last."""

    gradient: np.ndarray
    curvatures: np.ndarray
    sigmas: np.ndarray

    @property
    def across(self) -> np.ndarray:
        """The part of H∇U across ∇U."""
        turned = self.curvatures * self.gradient
        return turned - self.gradient * (turned @ self.gradient) / (self.gradient @ self.gradient)


def _mixed(settings: dict[str, Any], kind: str) -> NextOrder:
    """The next order of fixation where genomes mix so: at two places of a chromosome for crossover, on average over them."""
    size, rate = settings["population"], settings["transfer"]
    if kind != "crossover":
        return next_order(size, 1 / 2 if kind == "free" else 2 * rate * (1 - rate))
    # The distance of two random places has the density 2(1 − d); Haldane's map.
    nodes, weights = np.polynomial.legendre.leggauss(8)
    distances = (nodes + 1) / 2
    orders = [next_order(size, -math.expm1(-2 * settings["crossovers"] * d) / 2) for d in distances]
    return NextOrder(*np.average(orders, axis=0, weights=weights * (1 - distances)))


def _background(settings: dict[str, Any], kind: str = "free") -> float:
    """By how many σ²H∇U curvature changes the step: by the mutation's own gain, and by that of the mutations around it."""
    order = _mixed(settings, kind)
    return -2 * order.own - settings["rate"] * order.around


def _place(settings: dict[str, Any]) -> _Place:
    """The place at which the largest effects turn the step by the angle "turn" and νβσ|∇U| is "effect"."""
    quadratic = power_law(settings["size"], settings["exponent"])
    slope = np.asarray(quadratic.curvatures * quadratic.start, float)
    place = _Place(slope, np.asarray(quadratic.curvatures, float), np.ones(1))
    share = np.linalg.norm(place.across) / np.linalg.norm(slope)
    sigma = math.sqrt(settings["turn"] / _background(settings) / share)
    norm = settings["effect"] / (2 * (settings["population"] - 1) * sigma)
    sigmas = sigma * 2.0 ** -np.arange(settings["sigmas"])
    return place._replace(gradient=slope * norm / np.linalg.norm(slope), sigmas=sigmas)


def _next_order(settings: dict[str, Any], kind: str, sigma: float) -> tuple[float, float]:
    """By which angle the step turns from −∇U, and by which share it is shorter than ½μνβσ²|∇U|.

    The mean of ε over fixed mutations to third order in effects: ε is normal, −∇U·ε is s and ½ε·Hε what bends it.
    """
    place, order, rate = _place(settings), _mixed(settings, kind), settings["rate"]
    slope, norm = place.gradient, np.linalg.norm(place.gradient)
    turn = sigma**2 * _background(settings, kind) * np.linalg.norm(place.across) / norm
    curved = _background(settings, kind) * (place.curvatures * slope) @ slope / norm**2
    curved -= (order.own + rate * order.bend) * place.curvatures.sum()
    steep = -(3 * order.cube + rate * order.spread) * norm**2
    return float(turn), float(sigma**2 * (curved + steep))


def _planned(settings: dict[str, Any], sigma: float) -> float:
    """Error of a component of the mean step over its length: ½νβσ|∇U| of each of the mutations that are fixed, with chance 1."""
    fixed = settings["rate"] * settings["generations"] * settings["runs"]
    norm = np.linalg.norm(_place(settings).gradient)
    return float(1 / ((settings["population"] - 1) * sigma * norm * math.sqrt(fixed)))


def _cases(settings: dict[str, Any]) -> list[tuple[str, int]]:
    """Recombination and σ: all σ of free recombination, the second of the others."""
    return [("free", i) for i in range(settings["sigmas"])] + [(kind, 1) for kind in _KINDS[1:]]


def _name(what: str, kind: str, i: int) -> str:
    of = f"σ = σ₀/{2**i}, {kind}"
    return {
        "angle": f"1 − cosine of the mean step of the fixed part with −∇U, {of}",
        "length": f"mean step of the fixed part along −∇U over ½μνβσ²|∇U|, {of}",
        "turn": f"turn from −∇U, away from steep directions, over its next order, {of}",
    }[what]


def expect_gradient(settings: dict[str, Any]) -> list[Expected]:
    """The intervals of S22-5."""
    place, stated = _place(settings), []
    for kind, i in _cases(settings):
        turn, shorter = _next_order(settings, kind, place.sigmas[i])
        error, dimensions = _planned(settings, place.sigmas[i]), settings["size"] - 1
        spread = math.hypot(turn * error, math.sqrt(dimensions / 2) * error**2)
        room = 2 * shorter
        why = f"half of the square of the turn, {turn:.2g}, the order after it, and six planned errors of {spread:.2g}"
        angle = turn**2 / 2
        stated.append(near(_name("angle", kind, i), angle, room * angle + PLANNED * spread, "theory", why))
        why = f"shorter by {shorter:.2g}, the order after it, {shorter**2:.2g}, and six planned errors of {error:.2g}; n for "
        why += f"n − 1 is longer by {1 / (settings['population'] - 1):.2g}"
        room = shorter**2 + PLANNED * error
        stated.append(near(_name("length", kind, i), 1 - shorter, room, "theory", why, ours=True))
    turn, shorter = _next_order(settings, "free", place.sigmas[0])
    error = _planned(settings, place.sigmas[0]) / turn
    why = f"the turn {turn:.2g}, the order after it, {shorter:.2g} of it, and six planned errors of {error:.2g}; one at a "
    why += f"time turns it by {-2 * _mixed(settings, 'free').own / _background(settings):.2g} of that"
    stated.append(near(_name("turn", "free", 0), 1, shorter + PLANNED * error, "theory", why, ours=True))
    return stated


def _moves(settings: dict[str, Any], kind: str, sigma: float, key: jax.Array) -> np.ndarray:
    """(runs, N) by how much the fixed part of each population moves a generation.

    Genomes are judged at the same point all the time: by the loss there of their difference from the mean genome.
    """
    place, rates = _place(settings), {"crossover": settings["crossovers"], "transfer": settings["transfer"]}
    slope, curvatures = jnp.asarray(place.gradient, jnp.float32), jnp.asarray(place.curvatures, jnp.float32)
    algorithm = mutagrad.population(
        float(sigma), 1.0, settings["population"], settings["rate"],
        recombination=kind, recombination_rate=rates.get(kind), capacity=settings["capacity"],
    )  # fmt: skip

    @jax.jit
    def run(keys):
        def one(key):
            def body(i, carry):
                state, dropped = carry
                own = jax.random.fold_in(key, i)
                genomes = algorithm.ask(own, state).stacked()
                apart = genomes - jnp.mean(genomes, axis=0, keepdims=True)
                state, info = algorithm.tell(own, state, apart @ slope + jnp.square(apart) @ curvatures / 2)
                return state, dropped + info.turnover.num_dropped  # type: ignore[attr-defined]  # it is a GenomeInfo

            start = algorithm.init(jnp.zeros(settings["size"])), jnp.int32(0)
            first, _ = before = jax.lax.fori_loop(0, settings["burn"], body, start)
            last, dropped = jax.lax.fori_loop(
                settings["burn"], settings["burn"] + settings["generations"], body, before
            )
            return (last.ancestor - first.ancestor) / settings["generations"], dropped

        return jax.vmap(one)(keys)

    moves, dropped = run(jax.random.split(key, settings["runs"]))
    assert not np.any(dropped), "capacity: a mutation found no place; pass a larger one"
    return np.asarray(moves, float)


def _measured(moves: np.ndarray, place: _Place, unit: float) -> np.ndarray:
    """1 − cosine, step along −∇U over ``unit``, and turn; the square of what is across is without bias."""
    downhill = -place.gradient / np.linalg.norm(place.gradient)
    flat = place.across / np.linalg.norm(place.across)
    mean = moves.mean(0)
    along = mean @ downhill
    off = moves - np.outer(moves @ downhill, downhill)
    across = np.sum(off.mean(0) ** 2) - np.sum(off.var(0, ddof=1)) / len(moves)
    return np.array([across / along**2 / 2 - 3 * (across / along**2) ** 2 / 8, along / unit, mean @ flat / along])


def _with_errors(moves: np.ndarray, place: _Place, unit: float, turn: float) -> tuple[np.ndarray, np.ndarray]:
    """The three, and their errors over runs: of the last two by the jackknife, of the first as it is if the law's turn holds.

    The square of a mean that is near 0 scatters less than a jackknife says of a run in which chance made it large.
    """
    number = len(moves)
    without = np.array([_measured(np.delete(moves, i, axis=0), place, unit) for i in range(number)])
    measured, errors = _measured(moves, place, unit), np.sqrt((number - 1) * without.var(0))
    downhill = -place.gradient / np.linalg.norm(place.gradient)
    along = moves.mean(0) @ downhill
    across = np.cov((moves - np.outer(moves @ downhill, downhill)).T) / number
    law = turn * along * place.across / np.linalg.norm(place.across)
    errors[0] = math.sqrt(2 * np.sum(across**2) + 4 * law @ across @ law) / along**2 / 2
    return measured, errors


def run_gradient(job: Job) -> Outcome:
    """Mean steps of the fixed part of independent populations at one point, for every σ and way to mix."""
    import xarray

    settings, place = job.settings, _place(job.settings)
    cases, found = _cases(settings), {}
    values, errors = np.empty((2, len(cases), 3))
    for row, (kind, i) in enumerate(cases):
        name = f"moves {kind} {i} of {sorted(settings.items())}"
        kept = job.load(name) or {
            "moves": _moves(settings, kind, place.sigmas[i], jax.random.fold_in(job.key, row)),
        }
        job.keep(name, kept, is_last=True)
        rates = theory.population.learning_rates(float(place.sigmas[i]), 1.0, settings["population"], settings["rate"])
        unit = rates.per_generation * float(np.linalg.norm(place.gradient))
        values[row], errors[row] = _with_errors(
            kept["moves"], place, unit, _next_order(settings, kind, place.sigmas[i])[0]
        )
        found[_name("angle", kind, i)] = (values[row, 0], errors[row, 0])
        found[_name("length", kind, i)] = (values[row, 1], errors[row, 1])
        job.progress((row + 1) / len(cases))
    turn, _ = _next_order(settings, "free", place.sigmas[0])
    found[_name("turn", "free", 0)] = (values[0, 2] / turn, errors[0, 2] / turn)
    orders = np.array([_next_order(settings, kind, place.sigmas[i]) for kind, i in cases])
    data = xarray.Dataset(
        {
            "value": (("case", "what"), values),
            "error": (("case", "what"), errors),
            "order": (("case", "part"), orders),
            "effect": ("case", [settings["effect"] / 2**i for _, i in cases]),
        },
        coords={
            "case": [f"{kind} {i}" for kind, i in cases],
            "what": ["angle", "length", "turn"],
            "part": ["turn", "shorter"],
        },
    )
    return Outcome(found, data, draw_gradient)


def draw_gradient(data: Any) -> Any:
    """1 − cosine and length of the mean step against the size of the effects."""
    figure, (left, right) = panels(2)
    effects = np.geomspace(float(data.effect.min()) / 1.5, float(data.effect.max()) * 1.5, 50)
    turn, shorter = data.order.values[0] / float(data.effect[0]) ** 2
    for kind, marker, shift in zip(_KINDS, "osD", (1, 0.9, 1.1), strict=True):
        rows = [i for i, case in enumerate(data.case.values) if case.startswith(kind)]
        one = data.isel(case=rows)
        for axis, what in ((left, 0), (right, 1)):
            axis.errorbar(
                one.effect * shift, one.value[:, what], 3 * one.error[:, what], fmt=marker, markersize=4, label=kind
            )
    left.plot(effects, (turn * effects**2) ** 2 / 2, "k--", linewidth=1, label="next order")
    right.plot(effects, 1 - shorter * effects**2, "k--", linewidth=1, label="next order")
    left.set_yscale("symlog", linthresh=1e-4)
    left.set(xscale="log", xlabel="νβσ|∇U|", ylabel="1 − cosine of the mean step with −∇U")
    right.set(xscale="log", xlabel="νβσ|∇U|", ylabel="mean step over ½μνβσ²|∇U|")
    for axis in (left, right):
        axis.set_xticks(marks := sorted(set(data.effect.values.tolist())), [f"{one:g}" for one in marks])
        axis.minorticks_off()
    right.legend(frameon=False, fontsize=8, loc="lower left")
    return figure


_SETTINGS = {
    "quick": {
        "size": 10, "exponent": 1.0, "population": 10, "rate": 0.5, "effect": 1.0, "turn": 0.05, "sigmas": 3, "crossovers": 10.0,
        "transfer": 0.3, "runs": 640, "generations": 1600, "burn": 100, "capacity": 96, "key": 225051,
    },
    "paper": {
        "size": 10, "exponent": 1.0, "population": 12, "rate": 0.5, "effect": 1.0, "turn": 0.05, "sigmas": 4, "crossovers": 10.0,
        "transfer": 0.3, "runs": 1024, "generations": 20_000, "burn": 200, "capacity": 192, "key": 225052,
    },
}  # fmt: skip

CLAIMS = [
    Claim(
        "S22-5",
        "sourbut2022",
        "third model",
        "many mutations in flight that recombine freely: the part that all genomes share moves along −∇U as effects shrink; P: "
        "by ½μνβσ²|∇U| a generation, and curvature turns it by a next order in σ²",
        _SETTINGS,
        run_gradient,
        lambda settings: Needs(
            float(len(_cases(settings)) * settings["runs"] * settings["generations"] * settings["population"]), 1e9, 1e6
        ),
        "quadratic with $λ_k = k^{{−{exponent}}}$, N = {size}; n = {population}, μ = {rate}, {runs} populations of {generations} "
        "generations",
        expect_gradient,
    ),
]
