"""S22-12: replicator dynamics of strategies in a population without mutation, and mixtures that are not fixed."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

import mutagrad
from mutagrad import theory
from mutagrad.lab.claims.checks import PLANNED, Expected, near
from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.lab.claims.sourbut2022.natural import Natural, natural
from mutagrad.lab.claims.sourbut2022.turnover import turnover_of
from mutagrad.report.figures import panels

__all__ = ["CLAIMS", "copies_of_two", "hawks_and_doves", "paths_of_shares", "shares_after"]

_GAMES = {
    "symmetric": ((2.0, 1.0, 3.0), (1.0, 4.0, 1.0), (3.0, 1.0, 1.0)),
    "other": ((2.0, 1.0, 3.0), (1.0, 2.0, 1.0), (2.0, 2.0, 2.0)),
}
_ALONG = "mean change times f̄ along the natural gradient of f̄, over half of it, symmetric payoffs"
_OFF = "mean change times f̄ at right angles to the natural gradient of f̄, over half of it, symmetric payoffs"
_TOWARDS = "mean change from the law, towards half of the natural gradient (1 there), other payoffs"
_SIDES = ("share of hawks at the end, from few", "share of hawks at the end, from many")
_LOSSES = (
    "share of populations that lost a strategy, hawks and doves",
    "share of populations that lost an allele, neutral",
)


def _change(strategy: int, game: str) -> str:
    return f"mean change of strategy {strategy} over p(f − f̄)/f̄, {game} payoffs"


def _variance(strategy: int, game: str) -> str:
    return f"variance of the change of strategy {strategy} over p′(1 − p′)/n, {game} payoffs"


def hawks_and_doves(settings: dict[str, Any]) -> np.ndarray:
    """Payoffs of hawk and dove: ½(V − C), V, 0, ½V, above what everyone has."""
    value, cost = settings["value"], settings["cost"]
    return settings["base"] + np.array([[(value - cost) / 2, value], [0.0, value / 2]])


def _chain(payoffs: np.ndarray, size: int) -> np.ndarray:
    """Wright and Fisher's chain of the number of carriers of the first strategy."""
    p = np.arange(size + 1) / size
    first, second = (payoffs[i, 0] * p + payoffs[i, 1] * (1 - p) for i in (0, 1))
    return stats.binom.pmf(np.arange(size + 1)[None], size, (p * first / (p * first + (1 - p) * second))[:, None])


def shares_after(payoffs: np.ndarray, size: int, copies: int, generations: int) -> np.ndarray:
    """Law of the number of carriers after so many generations."""
    return np.linalg.matrix_power(_chain(payoffs, size), generations)[copies]


def _weights(one: Natural) -> dict[str, np.ndarray]:
    """What a change of shares is multiplied with: for its part along half of the gradient, and at right angles to it."""
    covector = one.metric @ one.gradient
    square = one.gradient @ covector
    normal = np.cross(np.ones(3), covector)
    normal *= math.sqrt(square / (normal @ one.metric @ normal))
    return {_ALONG: 2 * covector / square, _OFF: 2 * one.metric @ normal / square}


def expect_strategies(settings: dict[str, Any]) -> list[Expected]:
    """The intervals of S22-12."""
    size, runs, stated = settings["population"], settings["draws"], []
    for game, payoffs in _GAMES.items():
        p = np.array(settings["shares"])
        mean, variance = (
            np.asarray(one, float) for one in theory.population.replicator_moments(p, np.array(payoffs), size)
        )
        for i in range(3):
            error = math.sqrt(variance[i] / runs) / abs(mean[i])
            stated.append(
                near(_change(i, game), 1, PLANNED * error, "error", f"exact; six planned errors of {error:.2g}")
            )
            error = math.sqrt(2 / runs)
            why = f"exact; six planned errors of {error:.2g}; p(1 − p)/n of before selection is another"
            stated.append(near(_variance(i, game), 1, PLANNED * error, "error", why))
    p = np.array(settings["shares"])
    table = np.array(_GAMES["symmetric"])
    after = p * (table @ p) / (p @ table @ p)
    spread = (np.diag(after) - np.outer(after, after)) / size
    for what, weights in _weights(natural(settings["shares"], table)).items():
        error = math.sqrt(weights @ spread @ weights / runs) * (p @ table @ p)
        why = f"exact, since ∂f̄/∂p = 2f for symmetric payoffs; six planned errors of {error:.2g}; the whole natural gradient "
        why += "would be 2 along itself, and the slope of f̄ with no metric has another direction"
        stated.append(near(what, 1 if what == _ALONG else 0, PLANNED * error, "error", why))
    table = np.array(_GAMES["other"])
    apart = natural(settings["shares"], table).gradient / 2 - _replicators(p, table)
    error = math.sqrt(np.max(p) / size / runs) * (p @ table @ p) / np.linalg.norm(apart)
    why = f"0 for replicators and 1 for the natural gradient; six planned errors of {error:.2g} at most"
    stated.append(near(_TOWARDS, 0, PLANNED * error, "error", why))
    hawks, number = hawks_and_doves(settings), settings["small"]
    rest = settings["value"] / settings["cost"]
    for what, share in zip(_SIDES, settings["sides"], strict=True):
        law = shares_after(hawks, size, round(share * size), settings["settling"])
        places = np.arange(size + 1) / size
        mean = law @ places
        error = math.sqrt((law @ places**2 - mean**2) / settings["paths"])
        why = f"V/C = {rest:.3g}, from which the exact chain is {abs(mean - rest):.2g}, and six planned errors of {error:.2g}"
        stated.append(near(what, rest, abs(mean - rest) + PLANNED * error, "theory", why))
    for what, game_of_two in zip(_LOSSES, (hawks, np.ones((2, 2))), strict=True):
        law = shares_after(game_of_two, number, round(rest * number), settings["waiting"])
        lost = law[0] + law[-1]
        error = math.sqrt(lost * (1 - lost) / settings["paths"])
        why = f"the exact chain of {number}, {lost:.3g}, and six planned errors of {error:.2g}"
        stated.append(near(what, lost, PLANNED * error, "error", why))
    return stated


def _start(algorithm: mutagrad.Algorithm, copies: np.ndarray) -> mutagrad.GenomeState:
    """Genomes of which so many carry no mutation, the first one, the second one."""
    state = algorithm.init(jnp.zeros(2))
    assert isinstance(state, mutagrad.GenomeState)
    carried = jnp.asarray(np.repeat([0, 1, 2], copies)[:, None], jnp.uint32)
    slots = jnp.arange(state.births.size)
    seeds = jnp.stack([slots, slots + 1], axis=1).astype(jnp.uint32)
    kept = slots < 2
    return state._replace(
        carriers=carried, seeds=seeds, births=jnp.where(kept, 0, -1), scales=jnp.where(kept, 1.0, 0.0)
    )


def _game(algorithm: mutagrad.Algorithm, start: mutagrad.GenomeState, payoffs: np.ndarray) -> Any:
    """The loss −ln payoff of a genome among all of them, and the function that tells which strategy a genome has."""
    effects = algorithm.ask(jax.random.key(0), start).effects[:2]
    table = jnp.concatenate([jnp.zeros((1, 2)), effects])[: len(payoffs)]
    matrix = jnp.asarray(payoffs, jnp.float32)

    def shares(genomes):
        which = jnp.argmin(jnp.sum(jnp.square(genomes[..., None, :] - table), axis=-1), axis=-1)
        return jax.nn.one_hot(which, len(payoffs))

    def loss_fn(x, everyone):
        return -jnp.log(shares(x) @ (matrix @ jnp.mean(shares(everyone), axis=0)))

    return loss_fn, shares


def paths_of_shares(
    key: jax.Array, payoffs: np.ndarray, copies: np.ndarray, number: int, generations: int
) -> np.ndarray:
    """(number, generations, k) shares of every strategy after each generation.

    A mutation that all carry becomes part of the ancestor, and the table of strategies would be another: the shares are those of
    births, by who descends from whom, and a population that lost a strategy stays as it is.
    """
    algorithm = mutagrad.population(1.0, 1.0, int(copies.sum()), 0.0, recombination="none", capacity=32)
    start = _start(algorithm, copies)
    loss_fn, shares = _game(algorithm, start, payoffs)

    @jax.jit
    def run(keys):
        def one(key):
            def body(carry, i):
                state, found = carry
                genomes = algorithm.ask(jax.random.fold_in(key, i), state).stacked()
                own = shares(genomes)
                after, info = algorithm.step(jax.random.fold_in(key, i), state, loss_fn, evaluation=mutagrad.contest())
                moved = jnp.mean(own[turnover_of(info).parents[:, 0]], axis=0)
                is_over = jnp.max(found) == 1
                found = jnp.where(is_over, found, moved)
                return (after, found), found

            first = jnp.mean(shares(algorithm.ask(key, start).stacked()), axis=0)
            return jax.lax.scan(body, (start, first), jnp.arange(generations))[1]

        return jax.vmap(one)(keys)

    return np.asarray(run(jax.random.split(key, number)), float)


def copies_of_two(copies: int, size: int) -> np.ndarray:
    """(3,) copies of the first, the second and no third strategy."""
    return np.array([copies, size - copies, 0])


def _replicators(p: np.ndarray, payoffs: np.ndarray) -> np.ndarray:
    return np.asarray(theory.population.replicator(p, payoffs), float)


def _mean(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))


def run_strategies(job: Job) -> Outcome:
    """One generation from given shares, many times; and the course of hawks and doves, and of a neutral allele."""
    import xarray

    settings, found = job.settings, {}
    size, p = settings["population"], np.array(settings["shares"])
    for row, (game, payoffs) in enumerate(_GAMES.items()):
        key = jax.random.fold_in(job.key, row)
        changes = (
            paths_of_shares(key, np.array(payoffs), np.round(p * size).astype(int), settings["draws"], 1)[:, 0] - p
        )
        laws = [np.asarray(one, float) for one in theory.population.replicator_moments(p, np.array(payoffs), size)]
        for i in range(3):
            values, squares = changes[:, i], (changes[:, i] - changes[:, i].mean()) ** 2
            mean, error = values.mean() / laws[0][i], values.std(ddof=1) / math.sqrt(len(values)) / abs(laws[0][i])
            found[_change(i, game)] = (mean, error)
            found[_variance(i, game)] = (
                values.var(ddof=1) / laws[1][i], squares.std(ddof=1) / math.sqrt(len(values)) / laws[1][i],
            )  # fmt: skip
        # By f̄, so that the change is that of the equation in time: p(f − f̄).
        scaled, one = changes * (p @ np.array(payoffs) @ p), natural(settings["shares"], np.array(payoffs))
        if game == "symmetric":
            for what, weights in _weights(one).items():
                found[what] = _mean(scaled @ weights)
        else:
            law = _replicators(p, np.array(payoffs))
            apart = one.gradient / 2 - law
            found[_TOWARDS] = _mean((scaled - law) @ apart / (apart @ apart))
    job.progress(0.3)
    hawks, number = hawks_and_doves(settings), settings["small"]
    sides = [
        paths_of_shares(
            jax.random.fold_in(job.key, 10 + i), hawks, copies_of_two(round(share * size), size), settings["paths"],
            settings["settling"],
        )
        for i, share in enumerate(settings["sides"])
    ]  # fmt: skip
    for what, paths in zip(_SIDES, sides, strict=True):
        ends = paths[:, -1, 0]
        found[what] = (ends.mean(), ends.std(ddof=1) / math.sqrt(len(ends)))
    job.progress(0.6)
    copies = copies_of_two(round(settings["value"] / settings["cost"] * number), number)
    waits = [
        paths_of_shares(jax.random.fold_in(job.key, 20 + i), payoffs, copies, settings["paths"], settings["waiting"])
        for i, payoffs in enumerate((hawks, np.ones((2, 2))))
    ]
    lost = np.array([(paths.max(-1) == 1).mean(0) for paths in waits])
    for what, one in zip(_LOSSES, lost[:, -1], strict=True):
        found[what] = (one, max(math.sqrt(one * (1 - one) / settings["paths"]), 1 / settings["paths"]))
    data = xarray.Dataset(
        {
            "hawks": (("side", "settled"), np.array([paths[..., 0].mean(0) for paths in sides])),
            "lost": (("kind", "generation"), lost),
        },
        coords={"side": list(settings["sides"]), "kind": ["hawks and doves", "neutral"]},
        attrs={"rest": settings["value"] / settings["cost"]},
    )
    return Outcome(found, data, draw_strategies)


def draw_strategies(data: Any) -> Any:
    """The mixture from both sides, and how many populations have lost a strategy."""
    figure, (left, right) = panels(2)
    for side in data.side.values:
        left.plot(1 + np.arange(data.sizes["settled"]), data.hawks.sel(side=side), label=f"from {side:g}")
    left.axhline(data.attrs["rest"], color="k", linestyle="--", linewidth=1, label="V/C")
    left.set(xlabel="generation", ylabel="mean share of hawks", ylim=(0, 1))
    for kind in data.kind.values:
        right.plot(1 + np.arange(data.sizes["generation"]), data.lost.sel(kind=kind), label=str(kind))
    right.set(xlabel="generation", ylabel="share of populations that lost one of two", ylim=(0, 1.02))
    for axis in (left, right):
        axis.legend(frameon=False, fontsize=8)
    return figure


_SETTINGS = {
    "quick": {
        "shares": (0.2, 0.3, 0.5), "population": 100, "draws": 20_000, "value": 2.0, "cost": 4.0, "base": 1.2,
        "sides": (0.1, 0.9), "settling": 60, "small": 20, "waiting": 100, "paths": 2000, "key": 2_212_061,
    },
    "paper": {
        "shares": (0.2, 0.3, 0.5), "population": 100, "draws": 200_000, "value": 2.0, "cost": 4.0, "base": 1.2,
        "sides": (0.1, 0.9), "settling": 60, "small": 20, "waiting": 100, "paths": 20_000, "key": 2_212_062,
    },
}  # fmt: skip

CLAIMS = [
    Claim(
        "S22-12",
        "sourbut2022",
        "mixed strategies",
        "shares of strategies change by p(f − f̄)/f̄ with the variance p′(1 − p′)/n, half of the natural gradient of mean payoff "
        "if payoffs are symmetric and not else; an evolutionarily stable mixture is reached from both sides and outlasts a "
        "neutral allele",
        _SETTINGS,
        run_strategies,
        lambda settings: Needs(
            float(settings["population"] * (2 * settings["draws"] + 2 * settings["paths"] * settings["settling"])),
            2e9,
            1e6,
        ),
        "n = {population}, {draws} generations from shares {shares}; hawks and doves with V = {value}, C = {cost} above {base}; "
        "losses in populations of {small}",
        expect_strategies,
    ),
]
