"""W26-6: the largest curvatures of networks: at their start, in training and trained.

33 checks at scale quick raise one false alarm or more with a chance of 9 % if all values lie on their bounds, since each does so
once in 370; values well inside raise none.
"""

import math
from typing import Any

import jax
import numpy as np

from mutagrad import theory
from mutagrad.lab.claims.checks import Expected, above, below, near
from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.lab.claims.whitelam2026.laws import PLANNED, rounded
from mutagrad.lab.claims.whitelam2026.networks import NETWORKS, curvatures, network, train
from mutagrad.report.figures import panels

__all__ = ["CLAIMS", "distance", "null_distances", "power_against"]

_LOW, _HIGH = 0.8, 1.3
"""The exponents that the source names."""
_STAGES = ("at start", "in training", "trained")
_SAMPLES = 4000
"""Spectra that are drawn for the level and the power of the test."""
_BLOCKS = 5
"""Blocks of ranks from which the errors of the exponents of half a window are taken."""


# --- a test of power laws ----------------------------------------------------------------------------------------------


def distance(spacings: np.ndarray) -> np.ndarray:
    """Kolmogorov's distance of the shares that the spacings k ln(λ_k/λ_(k+1)) add up to from a straight line.

    Independent values of a power law have spacings that are exponential with one mean, the exponent, and shares that are the
    order statistics of uniform numbers: nothing is fitted, and a bend in the exponent bends the line.

    Parameters
    ----------
    spacings : (..., n), from the largest eigenvalue on.

    >>> import numpy as np
    >>> from mutagrad.lab.claims.whitelam2026.spectrum import distance
    >>> float(distance(np.ones(9)).round(3))
    0.111
    """
    shares = np.cumsum(spacings, axis=-1)
    shares = shares[..., :-1] / shares[..., -1:]
    number = shares.shape[-1]
    steps = np.arange(number + 1) / number
    return np.maximum((steps[1:] - shares).max(-1), (shares - steps[:-1]).max(-1))


def null_distances(number: int, samples: int = _SAMPLES) -> np.ndarray:
    """Distances of so many spacings of independent values of a power law, sorted."""
    random = np.random.default_rng((number, 1))
    return np.sort(distance(random.standard_exponential((samples, number))))


def power_against(first: int, last: int, samples: int = _SAMPLES) -> tuple[float, float]:
    """Chance that the test at a level of 5 % sees an exponent that bends from 0.8 to 1.3 in the middle of the window's logs."""
    random, ranks = np.random.default_rng((last, 2)), np.arange(first, last)
    exponents = np.where(ranks < math.sqrt(first * last), _LOW, _HIGH)
    drawn = distance(exponents * random.standard_exponential((samples, len(ranks))))
    share = float(np.mean(drawn > np.quantile(null_distances(len(ranks), samples), 0.95)))
    return share, math.sqrt(max(share * (1 - share), 1 / samples) / samples)


def _spacings(values: np.ndarray, first: int) -> np.ndarray:
    ranks = np.arange(first, len(values))
    return ranks * -np.diff(np.log(values[first - 1 :]))


# --- the claim ---------------------------------------------------------------------------------------------------------


def _exponent_name(name: str, stage: int, first: int, last: int) -> str:
    return f"exponent a of λ_k ∝ k^−a from ranks {first} to {last}, {name}, {_STAGES[stage]}"


def _names(name: str, first: int, last: int) -> tuple[str, str, str]:
    return (
        f"score of what is called trained, {name}",
        f"exponent of the second half of ln k less that of the first, ranks {first} to {last}, {name}, trained",
        f"effective rank r = TrH/λ_max, {name}, trained",
    )


_REJECTED = "share of spectra whose power law is rejected at a level of 5 %"
_POWER = "least power of that test, over the windows, against a bend from 0.8 to 1.3"
_WIDE = "MLP on MNIST"
"""The network whose Hessian is taken on four times as many images too."""
_SUBSET = f"exponent on four times as many images less that on as many as are used, {_WIDE}, trained"


def expect_spectrum(settings: dict[str, Any]) -> list[Expected]:
    """The intervals of W26-6."""
    stated, first = [], settings["first"]
    # Scatter over seeds alone, and with the errors of the fits: Welch and Satterthwaite's where it is twice as large as these.
    spread = settings["seeds"] - 1
    fitted = 2 * spread
    span = "the source's own range of exponents"
    for name, last, size in zip(settings["networks"], settings["last"], settings["parameters"], strict=True):
        for stage in range(len(_STAGES)):
            text = _exponent_name(name, stage, first, last)
            stated.append(Expected(text, _LOW, _HIGH, "source", span, freedom=fitted))
        score, bend, rank = _names(name, first, last)
        why = "what is asked of a trained network: 97 % right, or explained"
        stated.append(above(score, 0.97, "source", why, ours=True, freedom=spread))
        why = f"{span}: one exponent that changes by more than its width over the window is none"
        stated.append(near(bend, 0.0, _HIGH - _LOW, "source", why, ours=True, freedom=fitted))
        ends = [float(np.sum(np.arange(1, size + 1, dtype=float) ** -a)) for a in (_HIGH, _LOW)]
        why = f"Σ k^−a over the {size} parameters with the ends of {span}"
        stated.append(Expected(rank, rounded(ends[0]), rounded(ends[1]), "source", why, True, freedom=spread))
    number = len(settings["networks"]) * settings["seeds"]
    error = math.sqrt(0.05 * 0.95 / number)
    why = (
        f"the level of the test, and six errors of {number} trainings at that level, {error:.1e}, as if the spectra of one "
        "training were one; less says that values repel"
    )
    stated.append(
        below(_REJECTED, rounded(0.05 + PLANNED * error), "error", why, ours=True, freedom=max(number - 1, 1))
    )
    chance = 0.0027
    power = 1 - chance ** (1 / settings["seeds"])
    why = f"that {settings['seeds']} spectra with such a bend all pass is then as rare as three errors, {chance:.2g}"
    stated.append(above(_POWER, rounded(power), "error", why, ours=True))
    why = f"half the width of {span}, below which the images that are left out decide nothing"
    if _WIDE in settings["networks"]:
        stated.append(near(_SUBSET, 0.0, (_HIGH - _LOW) / 2, "source", why, ours=True, freedom=fitted))
    return stated


def _measured(job: Job, index: int) -> dict[str, np.ndarray]:
    """Spectra, traces and scores of one network for every seed and stage."""
    name, last, seeds = job["networks"][index], job["last"][index], job["seeds"]
    one, images = network(name), job["images"][index]
    gradient, found = jax.grad(one.loss_fn), []
    for seed in range(seeds):
        part = f"{name} steps {job['steps'][index]} images {images} largest {last} seed {seed} key {job['key']}"
        kept = job.load(part)
        if kept is None:
            key = jax.random.fold_in(jax.random.fold_in(job.key, index), seed)
            lists: dict[str, list] = {"eigenvalue": [], "trace": [], "trace_error": [], "score": []}
            # Images of its own for every seed: what they decide is in the scatter over seeds.
            rows = slice(seed * images, (seed + 1) * images) if seeds * images <= len(one.targets) else slice(images)
            for stage, x in enumerate(train(one, key, job["steps"][index], job["batch"])):
                measured = curvatures(
                    gradient, x, last, jax.random.fold_in(key, stage), one.inputs[rows], one.targets[rows]
                )
                for field, value in zip(lists, (*measured, float(one.score(x))), strict=True):
                    lists[field].append(value)
            kept = {field: np.asarray(value) for field, value in lists.items()}
            if name == _WIDE:
                wide = slice(len(one.targets) - 4 * images, None)
                more = curvatures(gradient, x, last, key, one.inputs[wide], one.targets[wide])
                kept["more"] = more.eigenvalues
            job.keep(part, kept, is_last=True)
        found.append(kept)
        job.progress((seed + 1) / seeds)
    return {field: np.stack([one[field] for one in found]) for field in found[0]}


def _over_seeds(values: np.ndarray, errors: np.ndarray) -> tuple[float, float]:
    """Mean over seeds; its error has the scatter over seeds and the errors of each, though these are in the scatter too."""
    squares = values.var(ddof=1) + np.mean(np.square(errors))
    return float(values.mean()), math.sqrt(squares / len(values))


def run_spectrum(job: Job) -> Outcome:
    """Exponents of the largest curvatures of every network at three stages, over seeds."""
    import xarray

    first, found, rejected, powers = job["first"], {}, [], []
    names, shape = job["networks"], (len(job["networks"]), len(_STAGES), job["seeds"])
    values = np.full((*shape, max(job["last"])), np.nan)
    exponents, scores, ranks = np.empty((2, *shape)), np.empty(shape), np.empty(shape)
    starts = np.array([one for one in (1, 2, 3, 5, 7, 10, 14, 20) if one <= 2 * first])
    from_rank = np.full((2, len(names), len(_STAGES), len(starts)), np.nan)
    costs = np.cumsum([0.0, *job["share"]]) / sum(job["share"])
    for i, (name, last) in enumerate(zip(names, job["last"], strict=True)):
        one = _measured(job.part(costs[i], costs[i + 1] - costs[i]), i)
        spectra = one["eigenvalue"]
        null, powers_here = null_distances(last - first), power_against(first, last)
        powers.append(powers_here)
        for stage in range(len(_STAGES)):
            fits = [theory.fit_power_law(spectrum, first) for spectrum in spectra[:, stage]]
            own = np.array([[fit.exponent, fit.error] for fit in fits]).T
            exponents[:, i, stage] = own
            found[_exponent_name(name, stage, first, last)] = _over_seeds(*own)
            values[i, stage, :, :last] = spectra[:, stage]
            for k, start in enumerate(starts):
                each = [
                    theory.fit_power_law(spectrum, int(start), num_blocks=_BLOCKS) for spectrum in spectra[:, stage]
                ]
                from_rank[:, i, stage, k] = _over_seeds(*np.array([[fit.exponent, fit.error] for fit in each]).T)
            apart = distance(np.stack([_spacings(spectrum, first) for spectrum in spectra[:, stage]]))
            rejected.append(apart > np.quantile(null, 0.95))
        scores[i], ranks[i] = one["score"].T, (one["trace"] / spectra[:, :, 0]).T
        score, bend, rank = _names(name, first, last)
        # At the least one image of ten thousand.
        error = math.hypot(scores[i, -1].std(ddof=1) / math.sqrt(job["seeds"]), 1e-4)
        found[score] = (scores[i, -1].mean(), error)
        middle = round(math.sqrt(first * last))
        halves = [
            [theory.fit_power_law(spectrum, early, late, _BLOCKS) for early, late in ((first, middle), (middle, last))]
            for spectrum in spectra[:, -1]
        ]
        bends = np.array(
            [(late.exponent - early.exponent, math.hypot(late.error, early.error)) for early, late in halves]
        )
        found[bend] = _over_seeds(*bends.T)
        found[rank] = _over_seeds(ranks[i, -1], one["trace_error"][:, -1] / spectra[:, -1, 0])
        if "more" in one:
            more = [theory.fit_power_law(spectrum, first) for spectrum in one["more"]]
            differences = np.array([fit.exponent for fit in more]) - exponents[0, i, -1]
            found[_SUBSET] = _over_seeds(differences, np.array([fit.error for fit in more]))
    # The spectra of one training are no independent ones: its share is one number.
    shares = np.array(rejected, float).reshape(shape).mean(1).ravel()
    count = len(shares)
    found[_REJECTED] = (shares.mean(), max(shares.std(ddof=1), 1 / math.sqrt(count)) / math.sqrt(count))
    found[_POWER] = min(powers)
    dims = ("network", "stage", "seed")
    data = xarray.Dataset(
        {
            "eigenvalue": ((*dims, "rank"), values),
            "exponent": (dims, exponents[0]), "exponent_error": (dims, exponents[1]),
            "from_rank": (("network", "stage", "start"), from_rank[0]),
            "from_rank_error": (("network", "stage", "start"), from_rank[1]),
            "score": (dims, scores), "effective_rank": (dims, ranks),
        },
        coords={
            "network": list(names), "stage": list(_STAGES), "rank": np.arange(1, values.shape[-1] + 1), "start": starts,
        },
        attrs={"first": first},
    )  # fmt: skip
    return Outcome(found, data, draw_spectrum)


def draw_spectrum(data: Any) -> Any:
    """Largest eigenvalues against their rank for every network and stage, and the exponent from which rank on."""
    names = list(data.network.values)
    figure, axes = panels(len(names), 2.9, rows=2, height=3.1)
    for column, name in enumerate(names):
        top, bottom = axes[column], axes[len(names) + column]
        for colour, stage in enumerate(data.stage.values):
            one = data.sel(network=name, stage=stage)
            for seed in range(data.sizes["seed"]):
                values = one.eigenvalue.isel(seed=seed).values
                top.plot(data["rank"], values, ".", markersize=3, color=f"C{colour}")
            place = data.start * 1.05 ** (colour - 1)
            bottom.errorbar(
                place,
                one.from_rank,
                one.from_rank_error,
                fmt="o-",
                markersize=3,
                linewidth=1,
                color=f"C{colour}",
                label=stage,
            )
        top.set(xscale="log", yscale="log")
        top.axvline(data.attrs["first"], color="0.8", linewidth=1)
        scores = ", ".join(f"{max(float(one), 0):.2f}" for one in data.score.sel(network=name).mean("seed"))
        top.set_title(f"{name}\nscores {scores}", fontsize=10)
        bottom.axhspan(0.8, 1.3, color="0.9")
        bottom.set(xscale="log", ylim=(0, 2))
        bottom.set_xlabel("from rank")
        top.set_xlabel("rank k")
    axes[0].set_ylabel("eigenvalue λ$_k$ of the Hessian")
    axes[len(names)].set_ylabel("exponent a, ±1 error")
    axes[len(names)].legend(frameon=False, fontsize=8, loc="upper right", ncols=3, columnspacing=0.8, handlelength=1)
    return figure


_SPECTRUM = {
    "quick": {
        "networks": NETWORKS, "seeds": 3, "first": 10, "last": (60, 100, 100, 30, 60),
        "parameters": (9854, 79_510, 2410, 90, 7489), "images": (200, 1000, 1437, 0, 0),
        "batch": 64, "share": (300, 60, 30, 5, 40),
        "steps": ((0, 300, 4000), (0, 300, 30_000), (0, 100, 4000), (0, 1000, 10_000), (0, 30, 3000)), "key": 26621,
    },
    "long": {
        "networks": NETWORKS, "seeds": 5, "first": 10, "last": (300, 500, 300, 30, 300),
        "parameters": (9854, 79_510, 2410, 90, 7489), "images": (4000, 10_000, 1437, 0, 0),
        "batch": 64, "share": (300, 60, 30, 5, 40),
        "steps": ((0, 300, 10_000), (0, 300, 30_000), (0, 100, 4000), (0, 1000, 10_000), (0, 30, 10_000)), "key": 26621,
    },
    "paper": {
        "networks": NETWORKS, "seeds": 10, "first": 10, "last": (1000, 1000, 1000, 30, 1000),
        "parameters": (9854, 79_510, 2410, 90, 7489), "images": (6000, 6000, 1437, 0, 0),
        "batch": 64, "share": (300, 60, 30, 5, 40),
        "steps": ((0, 300, 10_000), (0, 300, 30_000), (0, 100, 4000), (0, 1000, 10_000), (0, 30, 10_000)), "key": 26621,
    },
}  # fmt: skip


def _needs(settings: dict[str, Any]) -> Needs:
    """Evaluations of the ConvNet on 200 images."""
    products = 3 * 4 * settings["last"][0] * 3 * settings["seeds"] * settings["images"][0] / 200
    return Needs(products + 3 * settings["seeds"] * settings["steps"][0][-1] * settings["batch"] / 200, 4e9, 1e7)


CLAIMS = [
    Claim(
        "W26-6",
        "whitelam2026",
        "spectra",
        "Hessians of networks have power-law spectra with exponents from 0.8 to 1.3 (of many, the source says; asked here of "
        "each of five, at start, in training and trained); P: without a bend, which a test would see, and with the effective "
        "rank that follows",
        _SPECTRUM,
        run_spectrum,
        _needs,
        "{seeds} seeds; Adam on minibatches of {batch}; Hessians on {images} images; score: share of images that are right, or "
        "of the variance of the curve that is explained",
        expect_spectrum,
    ),
]
