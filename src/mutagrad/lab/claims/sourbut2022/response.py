"""S22-9: Price's equation in every generation, and Lande's: gradient descent preconditioned by the standing variation."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import mutagrad
from mutagrad import theory
from mutagrad.algorithms.genomes import bits
from mutagrad.lab.claims.checks import PLANNED, Expected, below, near
from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.lab.claims.sourbut2022.turnover import turnover_of
from mutagrad.report.figures import panels

__all__ = ["CLAIMS"]

_POPULATIONS: dict[str, dict[str, Any]] = {
    "free": {},
    "none": {"recombination": "none"},
    "crossover": {"recombination": "crossover", "recombination_rate": 1.0},
    "transfer": {"recombination": "transfer", "recombination_rate": 0.2},
    "demes": {"num_demes": 3, "migration": 0.1},
    "one birth at a time": {"num_replaced": 1},
}
_OTHERS = ("truncation", "weighted recombination")
_ALONG, _ACROSS = "selection along −βG∇U", "selection across ∇U, along the part of −βG∇U there"
_MIXING = {"free": "free recombination", "none": "no recombination"}


def _identity(kind: str) -> str:
    return f"largest difference of Price's two parts from the change of the mean, over its bound by rounding, {kind}"


def _response(what: str, kind: str) -> str:
    return f"{what}, less the next order in β: slope over 1, {_MIXING[kind]}"


def _after(kind: str) -> str:
    return f"next order of selection in β along −βG∇U: slope over 1, {_MIXING[kind]}"


def _spread(settings: dict[str, Any]) -> float:
    """β²∇U·G∇U: the variance of the logarithm of fitness, G = (n − 1)μσ² in equilibrium."""
    return settings["effect"] ** 2 * settings["rate"] / (4 * (settings["population"] - 1))


def expect_response(settings: dict[str, Any]) -> list[Expected]:
    """The intervals of S22-9.

    Parents are drawn by e^{−βU}, so that the mean of what they pass on is the derivative of the cumulants of U and x among the
    genomes, −βG∇U + ½β²κ(x, U, U) − …, in which G is over n and not over n − 1.
    """
    why = (
        "exact if genomes are what the record of parents, of what comes from which and of new mutations makes; a sum of n "
        "numbers of 24 binary digits is wrong by n·2⁻²⁴ of the largest at most; four means"
    )
    stated = [below(_identity(kind), 1.0, "identity", why, exact=True) for kind in (*_POPULATIONS, *_OTHERS)]
    size, spread = settings["population"], _spread(settings)
    # Drift spreads a mean by G/n, so that each generation tells the slope to 1/√(n spread).
    error = 1 / math.sqrt(size * spread * settings["generations"] * settings["runs"])
    skew = math.sqrt(6 * spread / size) / 2
    for kind in _MIXING:
        for what, more in ((_ALONG, 1.0), (_ACROSS, 3.0)):
            why = f"1; the order after it is V/6 times the excess of kurtosis, V = {spread:.2g}: with 3, as of exponentials on "
            why += f"both sides, {spread / 2:.2g}; six planned errors of {more * error:.2g}; G over n − 1 would have "
            why += f"{1 - 1 / size:.3g}, and gradient descent without G 0 across ∇U"
            room = spread / 2 + PLANNED * more * error
            stated.append(near(_response(what, kind), 1, room, "theory", why, ours=True))
        why = "third cumulants of n normal numbers have the mean square 6V³/n, so that by Cauchy and Schwarz the slope is no "
        why += f"larger than ½√(6V/n) = {skew:.2g}; six planned errors of {error * math.sqrt(spread):.2g}"
        room = skew + PLANNED * error * math.sqrt(spread)
        stated.append(near(_after(kind), 0, room, "theory", why, ours=True))
    return stated


def _wrong_by(before: np.ndarray, after: np.ndarray, price: Any) -> float:
    """How far Price's parts are from the change of the mean, over the bound by rounding."""
    scale = max(np.abs(before).max(), np.abs(after).max())
    change = after.mean(0) - before.mean(0)
    return float(np.abs(np.asarray(price.change, float) - change).max() / (4 * len(before) * 2.0**-24 * scale))


def parents_of(info: Any) -> np.ndarray:
    """(n, 2) the genomes before that each genome comes from, as a run records them."""
    return np.asarray(info.turnover.parents)


def _children(before: Any, after: Any, info: Any) -> np.ndarray:
    """(n, N) what the record of a generation says that genomes are: what they have from each parent, and what is new.

    before, after : the genomes of the generation before, and of this one, of which only the effects of new mutations are used.
    """
    carried, from_second = (np.asarray(bits.unpack(one), bool) for one in (before.carriers, info.turnover.from_second))
    mothers, fathers = parents_of(info).T
    inherited = np.where(from_second, carried[fathers], carried[mothers])
    children = np.asarray(before.ancestor, float) + inherited @ np.asarray(before.effects, float)
    owners = np.asarray(info.turnover.owners)
    is_new = owners >= 0
    np.add.at(children, owners[is_new], np.asarray(after.effects, float)[is_new])
    return children


def _of_population(key: jax.Array, options: dict[str, Any], settings: dict[str, Any]) -> float:
    """Traits of children are those that the record of parents, recombination and mutations makes; the change is measured."""
    number = 24
    algorithm = mutagrad.population(0.2, 0.5, number, 0.3, **options)
    state, worst = algorithm.init(jnp.ones(4)), 0.0
    ask, step = jax.jit(algorithm.ask), jax.jit(algorithm.step, static_argnums=2)
    genomes = ask(key, state)
    for generation in range(settings["price_generations"]):
        before = genomes
        state, info = step(jax.random.fold_in(key, generation), state, _sphere)
        genomes = ask(key, state)
        parents, children = parents_of(info), _children(before, genomes, info)
        traits = np.asarray(before.stacked(), float)
        halves, sums = np.bincount(parents.reshape(-1), minlength=number) / 2, np.zeros_like(traits)
        for column in parents.T:
            np.add.at(sums, column, children / 2)
        price = theory.population.price(halves, traits, sums / np.maximum(halves, 0.5)[:, None])
        worst = max(worst, _wrong_by(traits, np.asarray(genomes.stacked(), float), price))
    return worst


def _sphere(x: jax.Array) -> jax.Array:
    return jnp.sum(jnp.square(x))


def _of_truncation(key: jax.Array, settings: dict[str, Any]) -> float:
    """From parents to the parents after: w counts the mutants of each that survive."""
    number, kept = 24, 6
    algorithm = mutagrad.truncation(0.2, number, kept)
    state, worst = algorithm.init(jnp.ones(4)), 0.0
    ask, step = jax.jit(algorithm.ask), jax.jit(algorithm.step, static_argnums=2)
    for generation in range(settings["price_generations"]):
        own = jax.random.fold_in(key, generation)
        offspring = ask(own, state)
        after_state, info = step(own, state, _sphere)
        before, after = np.asarray(state.parents, float), np.asarray(after_state.parents, float)
        mothers = np.asarray(offspring.parent_of)[np.asarray(info.winner)]
        counts, sums = np.bincount(mothers, minlength=kept), np.zeros_like(before)
        np.add.at(sums, mothers, after)
        traits = sums / np.maximum(counts, 1)[:, None]
        worst = max(worst, _wrong_by(before, after, theory.population.price(counts, before, traits)))
        state = after_state
    return worst


def _of_weights(key: jax.Array, settings: dict[str, Any]) -> float:
    """From mutants to the parent after, w the weights of their ranks; none is negative here."""
    number = 12
    weights = np.arange(number, 0, -1.0) / (number * (number + 1) / 2)
    algorithm = mutagrad.weighted_recombination(0.2, number, weights)
    state, worst = algorithm.init(jnp.ones(4)), 0.0
    ask, step = (
        jax.jit(lambda key, state: algorithm.ask(key, state).stacked()),
        jax.jit(algorithm.step, static_argnums=2),
    )
    for generation in range(settings["price_generations"]):
        own = jax.random.fold_in(key, generation)
        mutants = np.asarray(ask(own, state), float)[-number:]
        state, info = step(own, state, _sphere)
        own_weights = np.empty(number)
        own_weights[np.argsort(np.asarray(info.loss_differences), kind="stable")] = weights
        after = np.broadcast_to(np.asarray(state.params, float), mutants.shape)
        worst = max(worst, _wrong_by(mutants, after, theory.population.price(own_weights, mutants)))
    return worst


def _selection(key: jax.Array, kind: str, settings: dict[str, Any]) -> np.ndarray:
    """(runs, 6) sums over generations: of products with Lande's change of the realised one, of the next order and of itself.

    The first three are along ∇U and across it together, the others across it.
    """
    number, sigma = settings["population"], settings["sigma"]
    norm = settings["effect"] / (2 * (number - 1) * sigma)
    slope = norm * jnp.ones(settings["size"]) / math.sqrt(settings["size"])
    algorithm = mutagrad.population(
        sigma, 1.0, number, settings["rate"], recombination=kind, capacity=settings["capacity"]
    )
    directions = jnp.eye(settings["size"])

    @jax.jit
    def run(keys):
        def one(key):
            def body(i, carry):
                state, sums = carry
                own = jax.random.fold_in(key, i)
                genomes = algorithm.ask(own, state)
                rows = genomes.stacked()
                state, info = algorithm.tell(own, state, rows @ slope)
                # What parents pass on: half of each, before recombination and mutation.
                moved = jnp.mean(rows[turnover_of(info).parents.reshape(-1)], axis=0) - jnp.mean(rows, axis=0)
                law = theory.population.breeders_equation(genomes.covariance(directions), slope)
                apart = rows - jnp.mean(rows, axis=0)
                further = jnp.square(apart @ slope) @ apart / number / 2
                changes = jnp.stack([moved, further, law])
                unit = slope / norm
                across = changes - (changes @ unit)[:, None] * unit
                products = jnp.concatenate([changes @ law, across @ across[2]])
                return state, sums + jnp.where(i >= settings["burn"], products, 0)

            start = algorithm.init(jnp.zeros(settings["size"])), jnp.zeros(6)
            return jax.lax.fori_loop(0, settings["burn"] + settings["generations"], body, start)[1]

        return jax.vmap(one)(keys)

    return np.asarray(run(jax.random.split(key, settings["runs"])), float)


def _slope(realised: np.ndarray, law: np.ndarray) -> tuple[float, float]:
    """Sum over sum, and its error over runs by the delta method."""
    ratio = realised.sum() / law.sum()
    rest = realised - ratio * law
    return float(ratio), float(rest.std(ddof=1) / math.sqrt(len(rest)) / law.mean())


def run_response(job: Job) -> Outcome:
    """Price's identity in runs of every algorithm, and the regression of selection on Lande's equation."""
    import xarray

    found: dict[str, tuple[float, float]] = {}
    for row, (kind, options) in enumerate(_POPULATIONS.items()):
        found[_identity(kind)] = (_of_population(jax.random.fold_in(job.key, row), options, job.settings), 0.0)
    for row, (kind, of) in enumerate(zip(_OTHERS, (_of_truncation, _of_weights), strict=True)):
        found[_identity(kind)] = (of(jax.random.fold_in(job.key, 10 + row), job.settings), 0.0)
    job.progress(0.3)
    slopes = np.empty((2, 2, 2, 2))
    for row, kind in enumerate(_MIXING):
        products = _selection(jax.random.fold_in(job.key, 20 + row), kind, job.settings)
        for column, what in enumerate((_ALONG, _ACROSS)):
            moved, further, law = products[:, 3 * column : 3 * column + 3].T
            slopes[row, column] = _slope(moved, law), _slope(moved - further, law)
            found[_response(what, kind)] = (slopes[row, column, 1, 0], slopes[row, column, 1, 1])
        found[_after(kind)] = _slope(products[:, 1], products[:, 2])
        job.progress(0.65 + 0.35 * row)
    kinds = [*_POPULATIONS, *_OTHERS]
    data = xarray.Dataset(
        {
            "wrong": ("algorithm", [found[_identity(kind)][0] for kind in kinds]),
            "slope": (("mixing", "part", "order", "what"), slopes),
        },
        coords={
            "algorithm": kinds,
            "mixing": ["free", "none"],
            "part": ["whole", "across ∇U"],
            "order": ["all", "less the next"],
            "what": ["mean", "error"],
        },
        attrs={"population": job["population"]},
    )
    return Outcome(found, data, draw_response)


def draw_response(data: Any) -> Any:
    """What rounding leaves of Price's equation, and the slopes of selection on Lande's."""
    figure, (left, right) = panels(2)
    left.barh(data.algorithm.values, data.wrong.values)
    left.axvline(1, color="k", linestyle="--", linewidth=1)
    left.set(xlabel="largest difference over its bound by rounding")
    for row, (kind, label) in enumerate(_MIXING.items()):
        for column, (order, fill) in enumerate((("less the next", "full"), ("all", "none"))):
            one = data.slope.sel(mixing=kind, order=order)
            places = np.arange(2) + 0.2 * (row - 0.5) + 0.07 * (column - 0.5)
            words = label + (", less the next order" if column == 0 else ", as it is")
            right.errorbar(
                places, one.sel(what="mean"), 3 * one.sel(what="error"), fmt="o", color=f"C{row}", fillstyle=fill, markersize=5,
                label=words,
            )  # fmt: skip
    right.axhline(1, color="k", linestyle="--", linewidth=1)
    right.axhline(1 - 1 / data.attrs["population"], color="0.6", linestyle=":", linewidth=1, label="were G over n − 1")
    right.set_xticks([0, 1], ["whole change", "part across ∇U"])
    right.set(ylabel="slope of selection on −βG∇U", ylim=(0.77, 1.06), xlim=(-0.5, 1.5))
    right.legend(frameon=False, fontsize=8, loc="lower center")
    return figure


_SETTINGS = {
    "quick": {
        "size": 4, "population": 10, "rate": 0.5, "sigma": 0.02, "effect": 1.2, "runs": 64, "generations": 6000, "burn": 200,
        "capacity": 96, "price_generations": 60, "key": 229_071,
    },
    "paper": {
        "size": 4, "population": 10, "rate": 0.5, "sigma": 0.02, "effect": 1.2, "runs": 512, "generations": 40_000, "burn": 200,
        "capacity": 96, "price_generations": 1000, "key": 229_072,
    },
}  # fmt: skip

CLAIMS = [
    Claim(
        "S22-9",
        "sourbut2022",
        "Price equation",
        "the mean of any trait changes by Cov(w, z)/w̄ + E[wΔz]/w̄ in every generation of every algorithm; P: for small effects "
        "selection moves the mean genome by −βG∇U, G the covariance of genomes, and to next order by ½β²κ(x, U, U) more",
        _SETTINGS,
        run_response,
        lambda settings: Needs(2.0 * settings["runs"] * settings["generations"] * settings["population"], 1e9, 1e6),
        "Price: {price_generations} generations of each algorithm; Lande: n = {population}, μ = {rate}, {runs} populations of "
        "{generations} generations, νβσ|∇U| = {effect}",
        expect_response,
    ),
]
