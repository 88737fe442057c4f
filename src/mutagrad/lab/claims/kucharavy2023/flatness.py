"""What K23-4 states and measures: how the loss rises along filter-normalised directions (Fig. 8 to 14)."""

import itertools
import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mutagrad.diagnostics.landscape.directions import direction
from mutagrad.lab.claims.checks import Expected, above, near
from mutagrad.lab.claims.kucharavy2023.archetypes import HIDDEN, SIX, SOURCES, Network, of_structure, over_seeds
from mutagrad.lab.tasks.losses import cross_entropy
from mutagrad.report.figures import panels

__all__ = [
    "DISTANCES",
    "HALFWAY",
    "Profiles",
    "draw_flatness",
    "expect_flatness",
    "found_flatness",
    "parabola",
    "profiles",
]

DISTANCES = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
"""Of the profiles, in lengths of the weights, filter by filter."""
HALFWAY = ("Robust Wide", "Brittle Wide")
"""Those that are measured after half of the training too."""
_SMALL = 0.1
"""Where a profile is held against a parabola: at the two smallest distances."""
_POWER = "power of r by which the rise grows from r = 0.05 to 0.1, mean over archetypes"
_SLOPE = "rise at r = 0.1 over r/2 times the slope there, mean over archetypes"
_HESSIAN = "rise at r = 0.1 over r²/2 times the mean of d·Hd, mean over archetypes"


def expect_flatness(settings: dict[str, Any]) -> list[Expected]:
    """The intervals of K23-4, of those archetypes that there are."""
    there, freedom = set(settings["archetypes"]), settings["seeds"] - 1
    stated = []
    if set(SOURCES) <= there:
        why = "flatter by dropout, width and small batches together, and by width alone: less than 0 is steeper"
        stated += [above(_ratio(*pair), 0, "source", why, freedom=freedom) for pair in itertools.pairwise(SOURCES)]
        why = "no effect of the length of training: less than a factor of two"
        stated.append(near(_LENGTH, 0, math.log(2), "source", why, freedom=freedom))
    if {"Robust Wide", "Plain Wide", "Robust Narrow", "Plain Narrow"} <= there:
        why = "dropout flattens: more than none, where trials had 0.3 to 0.9"
        stated.append(above(_DROPOUT, 0, "source", why, freedom=freedom))
    if {"Plain Wide", "Plain Narrow"} <= there:
        why = "width flattens, by batches of 4 too: more than none"
        stated.append(above(_ratio("Plain Wide", "Plain Narrow"), 0, "source", why, freedom=freedom))
    if {"Plain Wide", "Brittle Wide"} <= there:
        why = "small batches flatten: more than none"
        stated.append(above(_ratio("Plain Wide", "Brittle Wide"), 0, "source", why, freedom=freedom))
    why = "a parabola, 2, and the next order log2(1 + 3br²/a) of a rise ar² + br⁴, up to 0.1 in trials; a kink has 1"
    stated.append(near(_POWER, 2, 0.15, "theory", why, ours=True, freedom=freedom))
    why = "exactly 1 for a quadratic loss; the next order is −br²/a, up to 0.05 by the rises of trials at twice the distance"
    stated.append(near(_SLOPE, 1, 0.06, "theory", why, ours=True, freedom=freedom))
    why = "1 but for the kinks of ReLU, which H has not, and the next order: 1.05 to 1.26 in trials; a factor lost is 2 or ½"
    stated.append(near(_HESSIAN, 1, 0.5, "trial", why, ours=True, freedom=freedom))
    return stated


_LENGTH = "log of the rise at r = 1 after half of the training over that after all, mean of Robust and Brittle Wide"
_DROPOUT = "log of the rise at r = 1 of plain networks over that of robust ones, mean over widths"


def _ratio(flat: str, steep: str) -> str:
    return f"log of the rise at r = 1 of {steep} over that of {flat}"


class Profiles(NamedTuple):
    """Losses along directions d, means over images of the digits that are not hidden.

    Attributes
    ----------
    loss : at the params [nat].
    changes : (directions, 2, distances) losses at −t and t less that at the params [nat].
    slopes : (directions, 2, distances) derivatives by t at −t and t [nat].
    curvatures : (directions,) d·Hd at the params, without what the kinks of ReLU add [nat].
    """

    loss: float
    changes: np.ndarray
    slopes: np.ndarray
    curvatures: np.ndarray

    @property
    def rises(self) -> np.ndarray:
        """(distances,) mean over directions and both sides [nat]."""
        return self.changes.mean((0, 1))


def parabola(distance: Any, slope: Any) -> Any:
    """Rise of a parabola at a distance where it has a slope: r/2 times the slope, exact for a quadratic loss."""
    return distance * slope / 2


def profiles(network: Network, params: Any, distances: tuple[float, ...], directions: int, images: int) -> Profiles:
    """Profiles of a network with its spectral norms held, as PyTorch's evaluation holds u and v.

    Weights are those that multiply, W/σ(W), and directions are as long as these, filter by filter; biases stay.
    """
    plain = of_structure(network.archetype, of_structure(network.archetype, params).normalized(), is_normalized=False)
    data = network.task.data
    shown = np.flatnonzero(~np.isin(data.train_targets, HIDDEN))[:images]
    batch = (jnp.asarray(data.train_inputs[shown]), jnp.asarray(data.train_targets[shown]))
    found = _profiles(network.key, plain, batch, jnp.asarray(distances), directions)
    return Profiles(float(found[0]), *(np.asarray(one, np.float64) for one in found[1:]))


@partial(jax.jit, static_argnums=4)
def _profiles(key: jax.Array, params: Any, batch: tuple, distances: jax.Array, directions: int) -> tuple:
    images, targets = batch
    here = cross_entropy(params(images), targets)
    places = jnp.stack([-distances, distances])

    def one(index: jax.Array) -> tuple:
        own = direction(jax.random.fold_in(key, index), params, "filter", "zero", 0)

        def rise(t: jax.Array) -> jax.Array:
            moved = jax.tree.map(
                lambda leaf, step: leaf if step is None else leaf + t * step, params, own, is_leaf=lambda x: x is None
            )
            # Paired image by image, so that small rises keep their digits.
            return jnp.mean(cross_entropy(moved(images), targets) - here)

        def with_slope(t: jax.Array) -> tuple[jax.Array, jax.Array]:
            return jax.jvp(rise, (t,), (jnp.ones_like(t),))

        zero = jnp.zeros((), places.dtype)
        curvature = jax.jvp(lambda t: with_slope(t)[1], (zero,), (jnp.ones_like(zero),))[1]
        changes, slopes = jax.lax.map(with_slope, places.ravel())
        return changes.reshape(places.shape), slopes.reshape(places.shape), curvature

    return (jnp.mean(here), *jax.lax.map(one, jnp.arange(directions)))


def found_flatness(settings: dict[str, Any], data: Any) -> dict[str, tuple[float, float]]:
    """What the claim states, from rises and slopes of (seed, archetype, distance)."""
    names, rise = settings["archetypes"], data.rise
    ends = {name: np.log(rise.sel(archetype=name, distance=1.0).values) for name in names}
    every: dict[str, Any] = {_ratio(name, other): ends[other] - ends[name] for name in names for other in names}
    here, half = rise.sel(distance=_SMALL), rise.sel(distance=_SMALL / 2)
    every[_POWER] = np.log2(here / half).values.mean(1)
    every[_SLOPE] = (here / parabola(_SMALL, data.slope.sel(distance=_SMALL))).values.mean(1)
    every[_HESSIAN] = (here / parabola(_SMALL, _SMALL * data.curvature)).values.mean(1)
    if set(SOURCES) <= set(names):
        first = np.log(data.half.sel(archetype=list(HALFWAY), distance=1.0)).values.mean(1)
        every[_LENGTH] = first - (ends["Robust Wide"] + ends["Brittle Wide"]) / 2
    if {"Robust Wide", "Plain Wide", "Robust Narrow", "Plain Narrow"} <= set(names):
        plain, robust = ((ends[f"{kind} Wide"] + ends[f"{kind} Narrow"]) / 2 for kind in ("Plain", "Robust"))
        every[_DROPOUT] = plain - robust
    return {one.what: over_seeds(every[one.what]) for one in expect_flatness(settings)}


def draw_flatness(data: Any) -> Any:
    """Profiles of each archetype, mean and seeds, beside parabolas of d·Hd, on both scales: the layout of Fig. 8 to 14."""
    figure, axes = panels(3, width=4.2)
    colours = {"Robust": "C2", "Plain": "C0", "Brittle": "C3"}
    both = np.concatenate([-data.distance.values[::-1], [0], data.distance.values])
    for axis, width in zip(axes, ("Wide", "Narrow"), strict=False):
        for name in (name for name in SIX if name.endswith(width) and name in data.archetype):
            colour, own = colours[name.split()[0]], data.profile.sel(archetype=name)
            lines = np.concatenate([own[:, 0, ::-1], np.zeros((data.sizes["seed"], 1)), own[:, 1]], axis=1)
            axis.plot(both, lines.T, color=colour, alpha=0.25, linewidth=0.7)
            axis.plot(both, lines.mean(0), color=colour, linewidth=1.8, label=name)
        axis.set(
            xlabel="distance r [length of the weights]", ylabel="rise of the loss [nat]", title=width, ylim=(0, None)
        )
        axis.legend(frameon=False, fontsize=8, loc="upper center")
    for name in (name for name in SIX if name in data.archetype):
        own = data.sel(archetype=name)
        style = {"color": colours[name.split()[0]], "linestyle": "-" if name.endswith("Wide") else "--"}
        axes[2].loglog(
            data.distance,
            own.rise.mean("seed"),
            "o",
            markersize=4,
            label=name,
            **{**style, "linestyle": style["linestyle"]},
        )
        axes[2].loglog(
            data.distance,
            parabola(data.distance, data.distance * float(own.curvature.mean())),
            color="0.5",
            linewidth=0.8,
        )
    axes[2].set(
        xlabel="distance r [length of the weights]", ylabel="rise of the loss [nat]", title="grey: r²/2 times mean d·Hd"
    )
    axes[2].title.set_fontsize(10)
    axes[2].legend(frameon=False, fontsize=7, handlelength=4)
    return figure
