"""Two figures: the final loss against σ with where each controller ends, and σ in the course of automatic runs.

Six kinds of loss, one problem each: smooth, of sign units, of rounded weights, of hard attention, of minibatches, and of a
noisy simulator. Runs, controllers and fixed σ are those of benchmarks/sigma_kinds.py, the problems those of
benchmarks/sigma_problems.py, and a smooth twin of the one with sign units.

σ_r is the scale below which the slope drowns. For opposite mutations of scale σ, half the difference a of their losses has
E[a²] = σ²|g|² + κσ^(2h) (docs/theory.md 9.1), and the two terms are equal at σ_r.
Run with ``python -m benchmarks.sigma_figure``; it draws into docs/figures.
"""

import io
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.ticker import LogLocator
from PIL import Image

import mutagrad
from benchmarks import common
from benchmarks.sigma_kinds import FIRST_SIGMA, GRID, M, controllers, runs
from benchmarks.sigma_problems import REPORTED, Problem, digits, supervised
from mutagrad.diagnostics.probes import Prober
from mutagrad.report.figures import panels
from mutagrad.tree import add_scaled, size

FIGURES = Path(__file__).parent.parent / "docs" / "figures"
NUM_PAIRS = 256
PAIR_SIGMAS = np.logspace(-5, 0, 16)
AS_GOOD = 1.25
"""A fixed σ is in the band if its median final loss is at most so many times the best."""


class Kind(NamedTuple):
    """A problem, the unit of its loss, and whether the loss, on a batch that stays the same, is smooth."""

    make: Callable[[], Problem]
    is_smooth: bool = False
    unit: str = "nats"


KINDS = {
    "smooth: tanh units, digits": Kind(lambda: supervised(digits(200), (8, 10)), is_smooth=True),
    "rough: sign units, digits": Kind(REPORTED["sign units, digits 64-8-10"]),
    "rounded: 4-bit weights, breast cancer": Kind(REPORTED["4-bit weights, breast cancer 30-8-2"]),
    "hard attention: argmax, recall": Kind(REPORTED["argmax attention, 8 pairs of 16"]),
    "minibatches: mean loss of 32, MNIST": Kind(REPORTED["batches of 32, mean, MNIST 196-16-10"], is_smooth=True),
    "noisy: simulator, fresh numbers": Kind(REPORTED["simulator, fresh random numbers"], unit="squared distance"),
}

# Colours of Okabe and Ito, which the colour-blind tell apart.
STYLES: dict[str, dict[str, Any]] = {
    "automatic": {"color": "#0072B2", "marker": "o", "markersize": 10},
    "strength": {"color": "#E69F00", "marker": "s", "markersize": 8.5},
    "successes": {"color": "#009E73", "marker": "^", "markersize": 8},
    "1/5 rule, (1+1)": {"color": "#CC79A7", "marker": "D", "markersize": 6},
    "cumulative, (1,20)": {"color": "black", "marker": "X", "markersize": 7.5},
}
NAMES = {"automatic": "automatic (validated progress)", "successes": "share of successes"}
BAND = "#B8B8B8"
ROUGH = "#D55E00"
SCALE = "$\\sigma_r$: below it the slope drowns (measured at start and end; bars: all keys)"


class Found(NamedTuple):
    """What is drawn of a kind.

    Attributes
    ----------
    start : the loss at the start.
    fixed : (σ, keys), final losses with σ fixed.
    ends : of each controller, final σ and loss, (2, keys).
    course : (keys, generations + 1), the automatic σ.
    roughness : (2, keys), σ_r at the start and at the end of the automatic runs; ``None`` where the loss is smooth.
    """

    start: float
    fixed: np.ndarray
    ends: dict[str, np.ndarray]
    course: np.ndarray
    roughness: np.ndarray | None


# --- what is measured -------------------------------------------------------------------------------------------------


def odd_squares(key: jax.Array, params: Any, problem: Problem) -> np.ndarray:
    """E[a²] for every σ of `PAIR_SIGMAS`."""
    batch = None if problem.draw_fn is None else problem.draw_fn(key)
    prober = Prober(key, lambda params: problem.loss_fn(params, batch), params, mutagrad.mutation.gaussian())
    return np.array([np.mean(prober.pairs(sigma, NUM_PAIRS).odd ** 2) for sigma in PAIR_SIGMAS])


def drowning(squares: np.ndarray) -> float:
    """σ_r, with 0 ≤ h ≤ ½, of least squares of the logarithms.

    Fitted from where E[a²]/σ² is largest to where, at a larger σ, it is smallest: at a smaller σ no jump is met, at a larger
    one the slope itself changes.
    """
    relative = squares / PAIR_SIGMAS**2
    # The last few are no peak that something could follow.
    first = int(relative[:-3].argmax())
    last = first + int(relative[first:].argmin())
    sigmas, values = PAIR_SIGMAS[first : last + 1], squares[first : last + 1]

    def misfit(scale: float, exponent: float) -> float:
        law = sigmas**2 + scale**2 * (sigmas / scale) ** (2 * exponent)
        return float(np.var(np.log(values / law)))

    scales, exponents = np.geomspace(PAIR_SIGMAS[0], 10 * PAIR_SIGMAS[-1], 241), np.linspace(0, 0.5, 6)
    return min((misfit(scale, exponent), float(scale)) for scale in scales for exponent in exponents)[1]


def measure(kind: Kind, keys: jax.Array) -> Found:
    problem, first = kind.make(), np.array([FIRST_SIGMA])
    fixed = runs(mutagrad.elitist(FIRST_SIGMA, M), problem, GRID, keys).losses
    found = {
        title: runs(make(), problem, first, keys, is_recorded=title == "automatic")
        for title, make in controllers(size(problem.start)).items()
    }
    own = found["automatic"]
    starts, ends = [near(key, problem.start) for key in keys], [at(own.params, index) for index in range(len(keys))]
    roughness = None
    if not kind.is_smooth:
        pairs = [zip(keys, params, strict=True) for params in (starts, ends)]
        roughness = np.array([[drowning(odd_squares(*pair, problem)) for pair in ones] for ones in pairs])
    return Found(
        float(problem.measure_fn(problem.start)),
        counted(fixed),
        {title: np.stack([one.sigmas[0], counted(one.losses[0])]) for title, one in found.items()},
        np.concatenate([np.full((len(keys), 1), FIRST_SIGMA), own.course[0]], axis=1),
        roughness,
    )


def counted(losses: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(losses), np.inf, losses)


def at(params: Any, index: int) -> Any:
    """Those of one key."""
    return jax.tree.map(lambda leaf: leaf[0, index], params)


def near(key: jax.Array, params: Any) -> Any:
    """A mutant of the first σ. About zero itself opposite parameters have bits of one sum, and a simulator's noise is alike."""
    noise = mutagrad.mutation.gaussian().sample_fn(jax.random.fold_in(key, 1), params)
    return add_scaled(params, noise, jnp.float32(FIRST_SIGMA))


# --- what is drawn ----------------------------------------------------------------------------------------------------


def medians(found: Found) -> np.ndarray:
    return np.median(found.fixed, axis=1)


def band(found: Found) -> tuple[float, float]:
    """The σ around the best of the grid that are about as good, between those of the grid by interpolation of logarithms."""
    sigmas = np.geomspace(GRID[0], GRID[-1], 1001)
    losses = np.exp(np.interp(np.log(sigmas), np.log(GRID), np.log(medians(found))))
    is_worse = losses > AS_GOOD * medians(found).min()
    best = int(losses.argmin())
    first = best - int(np.append(is_worse[best::-1], True).argmax()) + 1
    last = best + int(np.append(is_worse[best:], True).argmax()) - 1
    return float(sigmas[first]), float(sigmas[last])


def short(value: float) -> str:
    if not 1e-3 <= value < 1e4:
        digits, power = f"{value:.0e}".split("e")
        return rf"${digits}\times10^{{{int(power)}}}$"
    return f"{value:.2g}" if value < 100 else f"{value:.0f}"


def place(value: float, limits: tuple[float, float], arrows: str) -> tuple[float, str]:
    """Where a value is drawn on a logarithmic axis: at the edge, with an arrow and its number, if it is outside."""
    if limits[0] <= value <= limits[1]:
        return value, ""
    is_above = not value < limits[0]
    edge = 0.96 if is_above else 0.04
    return limits[0] * (limits[1] / limits[0]) ** edge, f"{arrows[is_above]} {short(value)}"


def draw_kinds(everything: dict[str, Found], path: Path) -> None:
    """Final loss against fixed σ, and the final σ and loss of each controller."""
    sheet, axes = panels(3, width=3.7, rows=2, height=3.3)
    across = (GRID[0] / 1.6, GRID[-1] * 1.6)
    for axis, (title, found) in zip(axes, everything.items(), strict=True):
        ends = {name: np.median(values, axis=1) for name, values in found.ends.items()}
        losses = np.concatenate([found.fixed.ravel(), [loss for _, loss in ends.values()]])
        upwards = (losses.min() / 1.5, 1.5 * max(found.start, losses[losses < 10 * found.start].max()))
        axis.axhline(found.start, color="0.5", linestyle=":", linewidth=1, label="loss at the start")
        low, high = (np.minimum(one, 10 * upwards[1]) for one in (found.fixed.min(axis=1), found.fixed.max(axis=1)))
        axis.fill_between(GRID, low, high, color=BAND, alpha=0.6, linewidth=0, label="σ fixed, all keys")
        axis.plot(GRID, medians(found), ".-", color="0.3", linewidth=1.2, label="σ fixed, median")
        for name, (sigma, loss) in ends.items():
            x, beside = place(sigma, across, "←→")
            y, above = place(loss, upwards, "↓↑")
            axis.plot(
                x,
                y,
                linestyle="none",
                markeredgecolor="white",
                markeredgewidth=0.8,
                zorder=3 + 1 / STYLES[name]["markersize"],  # the smaller ones above the larger ones
                label=NAMES.get(name, name),
                **STYLES[name],
            )
            if beside or above:
                is_right = x > np.sqrt(across[0] * across[1])
                axis.annotate(
                    " ".join(filter(None, [beside, above])),
                    (x, y),
                    xytext=(-6 if is_right else 6, 0),
                    textcoords="offset points",
                    ha="right" if is_right else "left",
                    va="center",
                    fontsize=8,
                    color=STYLES[name]["color"],
                )
        axis.set(xscale="log", yscale="log", xlim=across, ylim=upwards, xlabel="mutation scale σ [parameter]")
        _finish(axis, title, f"final loss [{KINDS[title].unit}]")
    _save(
        sheet,
        axes[0],
        4,
        f"Final loss against σ, and where each controller ends (medians over {_keys(everything)} keys)",
        path,
    )


def draw_runs(everything: dict[str, Found], path: Path) -> None:
    """The automatic σ against the generation, the fixed σ that are about as good as the best, and σ_r."""
    sheet, axes = panels(3, width=3.7, rows=2, height=3.3)
    for axis, (title, found) in zip(axes, everything.items(), strict=True):
        number = found.course.shape[1] - 1
        low, high = band(found)
        axis.axhspan(
            low, high, color=BAND, alpha=0.6, linewidth=0, label=f"fixed σ with at most {AS_GOOD} times the best loss"
        )
        for course in found.course:
            axis.plot(
                course, color=STYLES["automatic"]["color"], linewidth=0.5, alpha=0.5, label="automatic σ, each key"
            )
        middle = np.median(found.course, axis=0)
        axis.plot(middle, color=STYLES["automatic"]["color"], linewidth=1.6, label="automatic σ, median")
        axis.set(yscale="log", xlim=(-0.03 * number, 1.03 * number), xlabel="generation")
        if found.roughness is not None:
            low, middle, high = np.quantile(found.roughness, [0, 0.5, 1], axis=1)
            axis.errorbar(
                (0, number),
                middle,
                (middle - low, high - middle),
                fmt="--o",
                markersize=5,
                color=ROUGH,
                linewidth=1.4,
                label=SCALE,
            )
        note = " (no $\\sigma_r$)" if found.roughness is None else ""
        _finish(axis, title + note, "mutation scale σ [parameter]")
    _save(sheet, axes[1], 2, f"Automatic σ in the course of {_keys(everything)} runs", path)


def _keys(everything: dict[str, Found]) -> int:
    return len(next(iter(everything.values())).course)


def _finish(axis: Any, title: str, label: str) -> None:
    axis.set_title(title, fontsize=10)
    axis.set_ylabel(label)
    axis.grid(alpha=0.25)
    low, high = axis.get_ylim()
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 60 * low else (1,)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter("")


def _save(sheet: Any, complete: Any, columns: int, title: str, path: Path) -> None:
    """With one legend of what the complete panel has, below all of them."""
    entries = dict(zip(*reversed(complete.get_legend_handles_labels()), strict=True))
    sheet.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=columns, frameon=False, fontsize=9)
    sheet.suptitle(title, fontsize=12)
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = io.BytesIO()
    sheet.savefig(drawn, dpi=120)
    # A palette makes the file a third as large.
    Image.open(drawn).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


# --- what is written --------------------------------------------------------------------------------------------------


def spread(values: np.ndarray) -> str:
    return common.spread([float(value) for value in values])


def tables(everything: dict[str, Found]) -> list[str]:
    fixed = [
        [f"{sigma:.2g}", *(spread(found.fixed[row]) for found in everything.values())] for row, sigma in enumerate(GRID)
    ]
    ends = [
        [title, *(f"{spread(sigmas)}; {spread(losses)}" for sigmas, losses in found.ends.values())]
        for title, found in everything.items()
    ]
    scales = [
        [
            title,
            f"{found.start:.3g}",
            "{:.2g} to {:.2g}".format(*band(found)),
            *(["none"] * 2 if found.roughness is None else map(spread, found.roughness)),
        ]
        for title, found in everything.items()
    ]
    return [
        "Final loss with σ fixed: median (min to max) over the keys.",
        common.table(["σ", *everything], fixed),
        "Where each controller ends: σ; loss.",
        common.table(["kind", *STYLES], ends),
        f"The band of fixed σ whose median final loss is within {AS_GOOD} of the best, and the scale σ_r below which the slope "
        "drowns, about the start and at the end of the automatic runs; 10 where no slope is seen up to σ = 1.",
        common.table(["kind", "loss at the start", "band", "σ_r at the start", "σ_r at the end"], scales),
    ]


def main() -> None:
    args = common.arguments(__doc__, repetitions=7, key=3)
    keys = jax.random.split(jax.random.key(args.key), args.repetitions)
    begin, everything = time.perf_counter(), {}
    for title, kind in KINDS.items():
        everything[title] = measure(kind, keys)
        print(f"  {(time.perf_counter() - begin) / 60:.1f} min: {title}", file=sys.stderr, flush=True)
    if not args.no_write:
        draw_kinds(everything, FIGURES / "sigma_kinds.png")
        draw_runs(everything, FIGURES / "sigma_runs.png")
    minutes = (time.perf_counter() - begin) / 60
    text = (
        f"M = {M}; controllers start at σ = {FIRST_SIGMA}; {NUM_PAIRS} opposite pairs for each of {len(PAIR_SIGMAS)} σ. The "
        f"whole took {minutes:.0f} minutes. Drawn in docs/figures/sigma_kinds.png and docs/figures/sigma_runs.png."
    )
    common.report("sigma_figure", [*tables(everything), text], args, "one key after another")


if __name__ == "__main__":
    main()
