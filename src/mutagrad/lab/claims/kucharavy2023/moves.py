"""K23-13: which of the beneficial mutations at hand is fixed, and what the fixed ones are like."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

import mutagrad
from mutagrad.lab.claims.checks import PLANNED, Expected, near
from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.report.figures import panels

__all__ = ["CLAIMS"]

_RULES = ("fixation", "greedy", "elitist")
_BENEFICIAL = 0.5
"""Share of mutations that lower the loss: as far from a minimum."""
_LARGER = 3.0
"""The larger of two beneficial mutations over the smaller one."""


def _algorithm(rule: str, settings: dict[str, Any]) -> mutagrad.Algorithm:
    """One parameter, whose mutation is a standard normal number."""
    match rule:
        case "fixation":
            return mutagrad.fixation(1.0, 1.0, settings["population"])
        case "greedy":
            return mutagrad.greedy(1.0)
        case _:
            return mutagrad.elitist(1.0, settings["num_offspring"])


def exponential_loss(scale: float) -> Any:
    """A loss whose mutations from 0 have exponential effects of that mean, half of them beneficial."""

    def loss_fn(x: jax.Array) -> jax.Array:
        # The quantile of a normal number is uniform, and its logarithm exponential.
        better = jax.scipy.special.log_ndtr(x[0]) + math.log(1 / _BENEFICIAL)
        worse = -(jax.scipy.special.log_ndtr(-x[0]) + math.log(1 / (1 - _BENEFICIAL)))
        return scale * jnp.where(x[0] < 0, better, jnp.where(x[0] > 0, worse, 0.0))

    return loss_fn


def two_losses(scale: float) -> Any:
    """A loss with two beneficial mutations of equal chance, of effects s and 3s; all others are lethal."""
    limits = stats.norm.ppf([_BENEFICIAL / 2, _BENEFICIAL])

    def loss_fn(x: jax.Array) -> jax.Array:
        effect = jnp.where(x[0] < limits[0], -_LARGER * scale, jnp.where(x[0] < limits[1], -scale, 1e3))
        return jnp.where(x[0] == 0, 0.0, effect)

    return loss_fn


def _share_of_larger(rule: str, settings: dict[str, Any]) -> float:
    """Chance that the fixed one of two is the larger."""
    scale = settings["effect"]
    match rule:
        case "fixation":
            return float(1 / (1 + np.expm1(-scale) / np.expm1(-_LARGER * scale)))
        case "greedy":
            return 0.5
        case _:
            number, each = settings["num_offspring"], _BENEFICIAL / 2
            return (1 - (1 - each) ** number) / (1 - (1 - 2 * each) ** number)


def _mean_effect(rule: str, settings: dict[str, Any]) -> float:
    """Mean effect of the fixed mutations over that of the beneficial ones, which are exponential."""
    scale, number = settings["effect"], settings["num_offspring"]
    match rule:
        case "fixation":
            return (2 + scale) / (1 + scale)
        case "greedy":
            return 1.0
        case _:
            # The largest of k exponentials has the mean 1 + ½ + … + 1/k.
            k = np.arange(1, number + 1)
            chance = stats.binom.pmf(k, number, _BENEFICIAL)
            return float(chance @ np.cumsum(1 / k) / chance.sum())


def _fixed(rule: str, settings: dict[str, Any]) -> float:
    """How many of the runs fix a mutation, about."""
    share = {"fixation": _BENEFICIAL * settings["effect"], "greedy": _BENEFICIAL, "elitist": 1.0}[rule]
    return settings["runs"][_RULES.index(rule)] * share


def expect_moves(settings: dict[str, Any]) -> list[Expected]:
    """The intervals of K23-13."""
    stated, orr = [], _LARGER / (1 + _LARGER)
    for rule in _RULES:
        error = math.sqrt(orr * (1 - orr) / _fixed(rule, settings) / (2 if rule == "fixation" else 1))
        if rule == "fixation":
            order = abs(_share_of_larger(rule, settings) - orr)
            why = f"s_j/Σ s_k = {orr:g}, what fixation at s = {settings['effect']:g} lacks of it, {order:.1e}, and six errors"
            stated.append(near(_name("orr", rule), orr, order + PLANNED * error, "theory", why))
        else:
            why = f"s_j/Σ s_k = {orr:g}, and six errors"
            stated.append(near(_name("orr", rule), orr, PLANNED * error, "source", why))
    for rule in _RULES[1:]:
        share = _share_of_larger(rule, settings)
        error = math.sqrt(max(share * (1 - share), 1e-4) / _fixed(rule, settings))
        law = (
            "a half, each being taken as it comes"
            if rule == "greedy"
            else "that the larger is among the M, or only the smaller"
        )
        stated.append(near(_name("own", rule), share, PLANNED * error, "error", f"{law}; six errors", ours=True))
    for rule in _RULES:
        mean, spread = _mean_effect(rule, settings), {"fixation": math.sqrt(2), "greedy": 1.0, "elitist": 1.3}[rule]
        error = spread / math.sqrt(_fixed(rule, settings))
        law = {
            "fixation": "Gamma of shape 2, less the next order in s",
            "greedy": "exponential as the mutations",
            "elitist": "the largest of the beneficial ones among M",
        }[rule]
        stated.append(near(_name("mean", rule), mean, PLANNED * error, "error", f"{law}; six errors", ours=True))
    return stated


def _name(what: str, rule: str) -> str:
    named = {"fixation": "fixation probability", "greedy": "sequential GO-EA", "elitist": "(1+M) GO-EA"}[rule]
    return {
        "orr": f"share of moves to the larger of two effects, 3 to 1: s_j/Σ s_k, {named}",
        "own": f"share of moves to the larger of two effects, 3 to 1: its own law, {named}",
        "mean": f"mean effect of the fixed over that of the beneficial mutations, {named}",
    }[what]


def _moves(algorithm: mutagrad.Algorithm, loss_fn: Any, key: jax.Array, number: int) -> np.ndarray:
    """Changes of the loss by one generation from 0, of so many runs, where there was one."""

    @jax.jit
    def run(keys):
        def one(key):
            state, _ = algorithm.step(key, algorithm.init(jnp.zeros(1)), loss_fn)
            return loss_fn(state.params)

        return jax.vmap(one)(keys)

    parts = [np.asarray(run(keys)) for keys in jax.random.split(key, (max(1, number // 2**17), min(number, 2**17)))]
    changes = np.concatenate(parts)
    return changes[changes < 0]


def run_moves(job: Job) -> Outcome:
    """One generation from one place under each rule, many times: which mutation was fixed, and its effect."""
    import xarray

    scale, found, counts = job["effect"], {}, {}
    bins = np.linspace(0, 8, 33)
    for i, (rule, number) in enumerate(zip(_RULES, job["runs"], strict=True)):
        algorithm, key = _algorithm(rule, job.settings), jax.random.fold_in(job.key, i)
        two = _moves(algorithm, two_losses(scale), jax.random.fold_in(key, 0), number)
        larger = np.mean(two < -2 * scale)
        # A share that was seen as 0 or 1 has the error of one count.
        error = math.sqrt(max(larger * (1 - larger), 1 / len(two)) / len(two))
        found[_name("orr", rule)] = (larger, error)
        if rule != "fixation":
            found[_name("own", rule)] = (larger, error)
        effects = -_moves(algorithm, exponential_loss(scale), jax.random.fold_in(key, 1), number) / scale
        found[_name("mean", rule)] = (effects.mean(), effects.std(ddof=1) / math.sqrt(len(effects)))
        counts[rule] = np.histogram(effects, bins)[0] / len(effects) / np.diff(bins)
        job.progress((i + 1) / len(_RULES))
    data = xarray.Dataset(
        {"density": (("rule", "effect"), np.array([counts[rule] for rule in _RULES]))},
        coords={"rule": list(_RULES), "effect": (bins[1:] + bins[:-1]) / 2},
        attrs={
            "larger": [float(found[_name("orr", rule)][0]) for rule in _RULES],
            "num_offspring": job["num_offspring"],
        },
    )
    return Outcome(found, data, draw_moves)


def draw_moves(data: Any) -> Any:
    """Distribution of fixed effects under each rule, and the share of moves to the larger of two."""
    figure, (left, right) = panels(2)
    every = np.linspace(0, 8, 200)
    number, k = data.attrs["num_offspring"], np.arange(1, data.attrs["num_offspring"] + 1)
    chance = stats.binom.pmf(k, number, _BENEFICIAL)
    largest = (chance * k * np.exp(-every[:, None]) * (1 - np.exp(-every[:, None])) ** (k - 1)).sum(1) / chance.sum()
    names = {"fixation": "fixation", "greedy": "sequential", "elitist": f"(1+{number})"}
    laws = {"fixation": stats.gamma.pdf(every, 2), "greedy": np.exp(-every), "elitist": largest}
    for colour, rule in enumerate(data.rule.values):
        left.plot(data.effect, data.density.sel(rule=rule), "o", markersize=3, color=f"C{colour}", label=names[rule])
        left.plot(every, laws[rule], color=f"C{colour}", linewidth=1)
    left.set(
        xlabel="effect of a fixed mutation, over the mean of the beneficial", ylabel="density", xlim=(0, 8), ylim=(0, 1)
    )
    left.set_title("dots: measured; lines: exponential, Gamma(2), largest of M", fontsize=9)
    left.legend(frameon=False, fontsize=8)
    right.bar([names[rule] for rule in data.rule.values], data.attrs["larger"], color=["C0", "C1", "C2"], width=0.5)
    right.axhline(_LARGER / (1 + _LARGER), color="k", linestyle="--", linewidth=1, label="$s_j/Σ s_k$")
    right.set(ylabel="share of moves to the larger of two, 3 to 1", ylim=(0, 1.1))
    right.legend(frameon=False, fontsize=8)
    return figure


_MOVES = {
    "quick": {
        "effect": 0.01, "population": 1_000_000, "num_offspring": 20, "runs": (2**22, 2**17, 2**17), "key": 231317,
    },
    "paper": {
        "effect": 0.01, "population": 1_000_000, "num_offspring": 20, "runs": (2**26, 2**19, 2**19), "key": 231317,
    },
}  # fmt: skip

CLAIMS = [
    Claim(
        "K23-13",
        "kucharavy2023",
        "transfer",
        "of the beneficial mutations at hand j is fixed with probability s_j/Σ s_k; P: so it is under selection by fixation "
        "probability, while the sequential GO-EA takes each alike and (1+M) the best of M",
        _MOVES,
        run_moves,
        lambda settings: Needs(2.0 * sum(settings["runs"]), 1e9, 1e6),
        "one generation from one place, runs {runs}; population of {population} for fixation, (1+{num_offspring})",
        expect_moves,
    ),
]
