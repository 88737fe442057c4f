"""K23-3: population and edit distance (Fig. 7)."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import mutagrad
from mutagrad.lab.claims.checks import Expected, above, below, near
from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.lab.claims.kucharavy2023.curve import LOSSES
from mutagrad.lab.claims.kucharavy2023.networks import network_task
from mutagrad.lab.training import go_ea
from mutagrad.report.figures import panels

__all__ = ["CLAIMS"]

EACH_WAY = 8.0
"""By how much the edit distance is multiplied and divided."""
STALL = 1 / 3
"""Of the decrease of the loss at the edit distance itself: less is a stall."""
TRIED = 1.24
"""s at the start of training, by the speed at ED / 8 in a trial on 64 images."""
TARGETS = (0.25, 0.75)
"""Speeds are compared at the losses that the source's population has in this part of its generations."""


def speed_law(number: int, other: int, strength: float = 0.0) -> float:
    """Speed of (1+M) over that of (1+M'), a generation: G_M(s)/G_M'(s), at small s c_M/c_M' with c_M = E max(0, Z_(M))."""
    if strength == 0:
        return mutagrad.theory.best_of_moment(number) / mutagrad.theory.best_of_moment(other)
    return float(mutagrad.theory.expected_gain(strength, number) / mutagrad.theory.expected_gain(strength, other))


def strength_of(slowness: float, number: int) -> float:
    """The s at which an edit distance divided by 8 has this share of the speed of (1+M): G_M(s/8)/G_M(s), 1/8 at small s."""
    grid = np.linspace(0.02, 4, 400)
    shares = mutagrad.theory.expected_gain(grid / EACH_WAY, number) / mutagrad.theory.expected_gain(grid, number)
    return float(np.interp(slowness, np.asarray(shares), grid, left=0.0))


def _populations(settings: dict[str, Any]) -> tuple[int, int, int]:
    few, middle, many = settings["populations"]
    return few, middle, many


def _variants(settings: dict[str, Any]) -> dict[str, tuple[int, float, int]]:
    """Population, edit distance and generations of every variant; the first is the source's.

    A small population runs twice as long, so that it too reaches the losses at which speeds are compared.
    """
    (few, middle, many), sigma, length = _populations(settings), settings["sigma"], settings["generations"]
    return {
        f"M = {middle}, ED = {sigma:g}": (middle, sigma, length),
        f"M = {few}": (few, sigma, 2 * length),
        f"M = {many}": (many, sigma, length),
        f"ED × {EACH_WAY:g}": (middle, sigma * EACH_WAY, length),
        f"ED / {EACH_WAY:g}": (middle, sigma / EACH_WAY, length),
    }


def _name(what: str, settings: dict[str, Any]) -> str:
    few, middle, many = _populations(settings)
    return {
        "moderate": f"speed with M = {many} over that with M = {few}",
        "law": f"speed with M = {many} over that with M = {few}, over G_{many}(s)/G_{few}(s), s from ED / {EACH_WAY:g}",
        "learns": f"decrease of the loss with M = {middle} and ED, over that of the source's run",
        "large": f"ln of the decrease of the loss at ED × {EACH_WAY:g} over that at ED",
        "small": f"ln of the decrease of the loss at ED / {EACH_WAY:g} over that at ED",
    }[what]


def _decrease_of_source(settings: dict[str, Any]) -> float:
    """Of the loss of the run of Fig. 2 after as many generations [nat]."""
    return LOSSES[0] - float(np.interp(settings["generations"], list(LOSSES), list(LOSSES.values())))


def expect_population(settings: dict[str, Any]) -> list[Expected]:
    """The intervals of K23-3."""
    (few, _, many), freedom = _populations(settings), settings["seeds"] - 1
    root = math.sqrt(many / few)
    why = f"a speed like √M, as of a mean over M, would be {root:g} times as high; c_{many}/c_{few} is {speed_law(many, few):.2f}"
    stated = [below(_name("moderate", settings), root, "theory", why, freedom=freedom)]
    why = (
        f"the source's population and edit distance train: its own run fell by {_decrease_of_source(settings):.3f} nat (Fig. 2), "
        "and less than a third of that is a stall"
    )
    stated.append(above(_name("learns", settings), STALL, "source", why, freedom=freedom))
    moment, square = (one / speed_law(many, few, TRIED) for one in (speed_law(many, few), root))
    why = (
        "one s for all: slope and curvature as they are for Hessians with many eigenvalues (theory.md 3), by the speed at ED / "
        f"{EACH_WAY:g}; half way, as a factor, to c_{many}/c_{few}, {moment:.2f} at the s of {TRIED:g} of a trial; √M "
        f"has {square:.2f}"
    )
    room = math.sqrt(moment)
    own = near(_name("law", settings), 1, 1 - room, "theory", why, ours=True, freedom=freedom)
    stated.append(own._replace(high=1 / room))
    stall = math.log(STALL)
    eighth = -math.log(EACH_WAY)
    why = f"a stall: under ln 1/3; where the slope decides a generation moves by c_M σ, which would give {eighth:.2f}"
    stated.append(below(_name("small", settings), stall, "theory", why, ours=True, freedom=freedom))
    why = "a stall: under ln 1/3; where s grows past 2 Z_(M) hardly an offspring is better"
    stated.append(below(_name("large", settings), stall, "theory", why, ours=True, freedom=freedom))
    return stated


def _run_fn(loss_fn: Any) -> Callable:
    @partial(jax.jit, static_argnums=(4, 5))
    def run(key: jax.Array, params: Any, data: Any, sigma: Any, number: int, length: int) -> Any:
        """Losses of the parent at generations 0 to ``length``. Edit distances share a program, and so do seeds."""
        algorithm = go_ea.as_run(sigma, number)

        def body(state: Any, index: Any) -> Any:
            own = mutagrad.generation_key(key, index)
            # One after another, whatever their number: convolutions of several networks at once are slower.
            state, info = algorithm.step(own, state, lambda params: loss_fn(params, data), evaluation="mapped")
            return state, info.parent_loss

        return jax.lax.scan(body, algorithm.init(params), jnp.arange(length + 1))[1]

    return run


def first_times(course: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Generations at which a course of losses that never rise reaches the targets, interpolated.

    What it does not reach is extrapolated at its mean pace to the end.

    >>> import numpy as np
    >>> from mutagrad.lab.claims.kucharavy2023.population import first_times
    >>> first_times(np.array([1.0, 0.8, 0.8, 0.4]), np.array([0.9, 0.6, 0.2])).round(3)
    array([0.5, 2.5, 4. ])
    """
    falls, wanted = course[0] - course, course[0] - targets
    # The last of the generations at which it is still above the target, and the share of the next step.
    before = np.array([np.nonzero(falls < one)[0][-1] for one in wanted])
    after = np.minimum(before + 1, len(course) - 1)
    steps = np.where(after > before, falls[after] - falls[before], 1)
    inside = before + (wanted - falls[before]) / steps
    return np.where(after > before, inside, (len(course) - 1) * wanted / max(falls[-1], 1e-9))


def _ratio(courses: dict[str, np.ndarray]) -> float:
    """Speed of the large population over that of the small one, a mean over targets."""
    middle, few, many = list(courses.values())[:3]
    at = np.arange(*(round(share * (len(middle) - 1)) for share in TARGETS))
    # A target is below the start of all, which is the same.
    targets = middle[at][middle[at] < middle[0]]
    return float(np.mean(first_times(few, targets) / first_times(many, targets)))


def run_population(job: Job) -> Outcome:
    """GO-EA with other populations and other edit distances, from the same starts on the same images, seed by seed."""
    import xarray

    variants = _variants(job.settings)
    courses = np.full((len(variants), job["seeds"], 2 * job["generations"] + 1), np.nan)
    run: Callable | None = None
    for seed in range(job["seeds"]):
        key = jax.random.fold_in(job.key, seed)
        first = 0 if job["images"] == 60_000 else seed * job["images"] % (60_000 - job["images"])
        task = network_task("Base", jax.random.fold_in(key, 0), job["images"], first=first)
        run = run or _run_fn(task.loss_fn)
        batch = (jnp.asarray(task.data.train_inputs), jnp.asarray(task.data.train_targets))
        for i, (name, (number, sigma, length)) in enumerate(variants.items()):
            part = f"population {name} seed {seed} " + " ".join(
                f"{one} {job[one]}" for one in ("images", "generations", "sigma", "key")
            )
            kept = job.load(part)
            if kept is None:
                own = jax.random.fold_in(jax.random.fold_in(key, 1), i)
                kept = {"losses": np.asarray(run(own, task.start, batch, sigma, number, length))}
                job.keep(part, kept, is_last=True)
            courses[i, seed, : length + 1] = kept["losses"]
            job.progress((seed + (i + 1) / len(variants)) / job["seeds"])
    data = xarray.Dataset(
        {"loss": (("variant", "seed", "generation"), courses)},
        coords={"variant": list(variants), "generation": np.arange(courses.shape[-1])},
    )
    return Outcome(found_population(job.settings, courses), data, draw_population)


def found_population(settings: dict[str, Any], courses: np.ndarray) -> dict[str, tuple[float, float]]:
    """What the claim states, from losses of (variant, seed, generation), NaN where a variant has ended."""
    few, middle, many = _populations(settings)
    lengths = {name: length for name, (_, _, length) in _variants(settings).items()}
    own = [
        {name: courses[i, seed, : length + 1].astype(float) for i, (name, length) in enumerate(lengths.items())}
        for seed in range(settings["seeds"])
    ]
    ratios, length = np.array([_ratio(one) for one in own]), settings["generations"]
    # The share of its generations in which the edit distance itself falls as far as an eighth of it.
    slow = np.array([_slowness(one, length) for one in own])
    decrease = (courses[..., 0] - courses[..., length]).T
    values = {
        "moderate": ratios,
        "learns": decrease[:, 0] / _decrease_of_source(settings),
        "large": np.log(np.maximum(decrease[:, 3] / decrease[:, 0], 1e-3)),
        "small": np.log(np.maximum(decrease[:, 4] / decrease[:, 0], 1e-3)),
    }
    root = math.sqrt(settings["seeds"])
    found = {what: (float(one.mean()), float(one.std(ddof=1)) / root) for what, one in values.items()}

    def over_law(kept: Any) -> float:
        strength = strength_of(float(slow[kept].mean()), middle)
        return float(ratios[kept].mean()) / speed_law(many, few, strength)

    seeds = np.arange(settings["seeds"])
    without = np.array([over_law(seeds != one) for one in seeds])
    # The jackknife's error.
    found["law"] = over_law(seeds), float(without.std()) * math.sqrt(len(seeds) - 1)
    return {_name(what, settings): one for what, one in found.items()}


def _slowness(courses: dict[str, np.ndarray], length: int) -> float:
    own, _, _, _, small = courses.values()
    return float(first_times(own, small[-1:])[0]) / length if small[-1] < small[0] else 0.0


def draw_population(data: Any) -> Any:
    """Loss on the training images against the generation: populations, and edit distances."""
    figure, axes = panels(2)
    names = list(data.variant.values)
    for axis, shown in zip(axes, ((1, 0, 2), (3, 0, 4)), strict=True):
        for at in shown:
            one = data.loss.sel(variant=names[at]).dropna("generation")
            low, high = one.quantile((0.1, 0.9), "seed").values
            axis.fill_between(one.generation, low, high, color=f"C{at}", alpha=0.2, linewidth=0)
            axis.plot(one.generation, one.mean("seed"), color=f"C{at}", linewidth=1.8, label=names[at])
        axis.set(xlabel="generation", ylabel="cross-entropy on the training images [nat]")
        axis.legend(frameon=False, fontsize=8)
    figure.suptitle("lines: means of the seeds; bands: from a tenth to nine tenths of them", fontsize=9)
    return figure


_POPULATION = {
    "quick": {
        "images": 32, "generations": 60, "populations": (5, 20, 80), "seeds": 64, "sigma": 0.01, "key": 230311,
    },
    "paper": {
        "images": 60_000, "generations": 764, "populations": (5, 20, 80), "seeds": 5, "sigma": 0.01, "key": 230312,
    },
}  # fmt: skip


def _needs(settings: dict[str, Any]) -> Needs:
    candidates = sum((number + 1) * (length + 1) for number, _, length in _variants(settings).values())
    return Needs(settings["seeds"] * candidates * settings["images"] / 1000, 2e9, 1e6)


CLAIMS = [
    Claim(
        "K23-3",
        "kucharavy2023",
        "Fig. 7",
        "the edit distance of GO-EA carries over, and population has a moderate effect; P: speed grows like G_M(s), and an edit "
        "distance eight times as large or as small stalls",
        _POPULATION,
        run_population,
        _needs,
        "GO-EA as run on {images} images, {generations} generations, the small population twice as many; populations "
        "{populations}, ED = {sigma}; {seeds} seeds",
        expect_population,
    ),
]
