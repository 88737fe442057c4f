"""What K23-5 states and measures: accuracy where inputs and features are corrupted (Fig. 3)."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mutagrad.diagnostics.landscape import robustness
from mutagrad.lab.claims.checks import Expected, above, near
from mutagrad.lab.claims.kucharavy2023.archetypes import SIX, SOURCES, Network, of_structure, over_seeds
from mutagrad.report.figures import panels

__all__ = ["accuracies", "draw_robustness", "expect_robustness", "found_robustness"]

LEVELS = (0.1, 0.25, 0.5)
SOURCE = {
    "Robust Wide": (79.7, 79.5, 79.1, 76.1),
    "Brittle Wide": (78.3, 66.5, 47.5, 25.8),
    "Brittle Narrow": (76.5, 50.5, 30.0, 17.5),
}
"""Accuracies of Fig. 3 [%], without corruption and at the three levels."""
_APART = 4.3 / 76.5
"""By how much trainings of one archetype of the source differ, of their accuracy: Fig. 15 before transfer."""


def kept(name: str, level: float) -> float:
    """The share of its accuracy that an archetype of the source keeps at a level."""
    return SOURCE[name][1 + LEVELS.index(level)] / SOURCE[name][0]


def expect_robustness(settings: dict[str, Any]) -> list[Expected]:
    """The intervals of K23-5, of those archetypes that there are."""
    there, freedom = set(settings["archetypes"]), settings["seeds"] - 1
    stated = []
    if set(SOURCES) <= there:
        robust, wide = (kept("Robust Wide", 0.5), kept("Brittle Wide", 0.5))
        why = "the order of Fig. 3: 0.992, 0.607 and 0.392 of their accuracy at 25 %, 0.955, 0.330 and 0.229 at 50 %"
        pairs = (
            ("Robust Wide", "Brittle Wide", 0.25),
            ("Brittle Wide", "Brittle Narrow", 0.25),
            ("Brittle Wide", "Brittle Narrow", 0.5),
        )
        stated += [above(_less(*pair), 0, "source", why, freedom=freedom) for pair in pairs]
        gap = robust - wide
        why = f"Fig. 3 has {gap:.3f}: from half to one and a half of it, nearer to it than to none or twice as much"
        stated.append(near(_less("Robust Wide", "Brittle Wide", 0.5), gap, gap / 2, "source", why, freedom=freedom))
        for level in (0.25, 0.5):
            own, other = kept("Robust Wide", level), kept("Brittle Wide", level)
            why = f"nearer to the {own:.3f} that Fig. 3 has of it than to the {other:.3f} of Brittle Wide"
            stated.append(above(_kept("Robust Wide", level), (own + other) / 2, "source", why, freedom=freedom))
        if settings["images"] == 60_000:
            for name in SOURCES:
                for level in LEVELS:
                    why = f"Fig. 3, to the {_APART:.3f} by which the source's trainings of one archetype differ in Fig. 15"
                    own = kept(name, level)
                    stated.append(near(_kept(name, level), own, _APART, "source", why, freedom=freedom)._replace(
                        what=f"{_kept(name, level)}, to the source's precision"))  # fmt: skip
    if {"Robust Wide", "Plain Wide", "Brittle Wide"} <= there:
        why = "half, as trials had 0.43 to 0.67: neither all of the difference (dropout alone) nor none (batches alone)"
        stated.append(near(_SHARE, 0.5, 0.25, "trial", why, ours=True, freedom=freedom))
    why = "dropout is trained against itself: more than none, where trials had about a quarter"
    for width in ("Wide", "Narrow"):
        if {f"Robust {width}", f"Plain {width}"} <= there:
            what = _less(f"Robust {width}", f"Plain {width}", 0.5)
            stated.append(above(what, 0, "trial", why, ours=True, freedom=freedom))
    for kind in ("Robust", "Plain"):
        if {f"{kind} Wide", f"{kind} Narrow"} <= there:
            why = "noise of more features averages out better: more than none, where trials had about a quarter"
            what = _less(f"{kind} Wide", f"{kind} Narrow", 0.5)
            stated.append(above(what, 0, "trial", why, ours=True, freedom=freedom))
    return stated


_SHARE = "share of dropout in what Robust Wide keeps more than Brittle Wide at 50 %; batches of 4 are the rest"


def _kept(name: str, level: float) -> str:
    return f"share of its accuracy that {name} keeps at {100 * level:g} %"


def _less(name: str, other: str, level: float) -> str:
    return f"{_kept(name, level)}, less that of {other}"


@jax.jit
def _is_right(network: Any, batch: tuple, key: jax.Array | None = None) -> jax.Array:
    return (jnp.argmax(network(batch[0], key), axis=1) == batch[1]).astype(jnp.float32)


def accuracies(network: Network, levels: tuple[float, ...] = LEVELS) -> np.ndarray:
    """Test accuracy [%] without corruption and at each level, at which every input and feature is dropped: (1 + levels,).

    The corruption is dropout as in training, at all of its sites: values that stay are divided by the share that stays.
    """
    own, data = network.archetype, network.task.data

    def clean(params: Any, batch: tuple) -> Any:
        return _is_right(of_structure(own, params), batch)

    def corrupted(params: Any, batch: tuple, key: jax.Array, level: float) -> Any:
        return _is_right(of_structure(own, params, rate=level), batch, key)

    batch = (jnp.asarray(data.test_inputs), jnp.asarray(data.test_targets))
    # Compiled by itself, once for a width and a level.
    found = robustness(
        network.key,
        clean,
        network.whole,
        batch,
        levels=levels,
        measures={"dropout": corrupted},
        num_draws=1,
        compiled=False,
    )
    return 100 * np.append(found.clean.value, found.scores.value[0])


def found_robustness(settings: dict[str, Any], data: Any) -> dict[str, tuple[float, float]]:
    """What the claim states, from accuracies of (seed, archetype, level)."""
    values = data.accuracy / data.accuracy.sel(level=0.0)
    share = {
        (name, level): values.sel(archetype=name, level=level).values
        for name in settings["archetypes"]
        for level in LEVELS
    }
    every = {}
    for (name, level), own in share.items():
        every[_kept(name, level)] = own
        every[f"{_kept(name, level)}, to the source's precision"] = own
        for other in settings["archetypes"]:
            every[_less(name, other, level)] = own - share[other, level]
    if {"Robust Wide", "Plain Wide", "Brittle Wide"} <= set(settings["archetypes"]):
        robust, plain, brittle = (share[f"{kind} Wide", 0.5] for kind in ("Robust", "Plain", "Brittle"))
        every[_SHARE] = (robust - plain) / (robust - brittle)
    return {one.what: over_seeds(every[one.what]) for one in expect_robustness(settings)}


def draw_robustness(data: Any) -> Any:
    """Accuracy against the level of corruption, wide and narrow networks, with the source's points: Fig. 3."""
    figure, axes = panels(2, width=4.6)
    colours = {"Robust": "C2", "Plain": "C0", "Brittle": "C3"}
    words = {
        "Robust": "dropout, batches of 4",
        "Plain": "no dropout, batches of 4",
        "Brittle": "no dropout, batches of 128",
    }
    for axis, width in zip(axes, ("Wide", "Narrow"), strict=True):
        for name in (name for name in SIX if name.endswith(width) and name in data.archetype):
            kind, own = name.split()[0], data.accuracy.sel(archetype=name)
            for seed in range(data.sizes["seed"]):
                axis.plot(100 * data.level, own[seed], color=colours[kind], alpha=0.25, linewidth=0.7)
            axis.plot(
                100 * data.level, own.mean("seed"), color=colours[kind], linewidth=1.8, label=f"{kind}: {words[kind]}"
            )
            if name in SOURCE:
                label = "Kucharavy et al., Fig. 3" if kind == "Brittle" else None
                axis.plot(
                    100 * data.level,
                    SOURCE[name],
                    "o",
                    color=colours[kind],
                    markeredgecolor="k",
                    markersize=6,
                    label=label,
                )
        axis.set(xlabel="inputs and features dropped [%]", ylabel="test accuracy [%]", ylim=(0, 84), title=width)
        axis.legend(frameon=False, fontsize=8, loc="lower left")
    return figure
