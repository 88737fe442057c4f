"""Figures of W21-1 to W21-3: the layouts of Figs. 1 and 2."""

from typing import Any

import numpy as np

from mutagrad.report.figures import panels

__all__ = ["draw_loss", "draw_ratios", "draw_weights"]


def draw_weights(data: Any) -> Any:
    """Four weights against t, and all of them at the end: the layout of Fig. 1a and 1b."""
    figure, (left, right) = panels(2, 5.4)
    time = data.time.values
    for colour, weight in enumerate(data.attrs["four"]):
        for run in range(min(25, data.sizes["run"])):
            left.plot(time, data.weights.values[run, :, weight], color=f"C{colour}", alpha=0.15, linewidth=0.6)
        left.plot(time, data.weights.values[:, :, weight].mean(0), color=f"C{colour}", linewidth=1.6)
        left.plot(time, data.descent.values[:, weight], color="k", linestyle="--", linewidth=1)
    left.set(xlabel="t", ylabel="weight", title="four weights: runs, their mean, gradient descent (dashed)")
    order = np.argsort(data.descent.values[-1])
    place = np.arange(data.sizes["weight"])
    last = data.weights.values[:, -1, order]
    expected, spread = data.expected.values[-1, order], data.expected_spread.values[-1, order]
    right.fill_between(
        place, expected - spread, expected + spread, color="C3", alpha=0.15, linewidth=0, label="law ± spread"
    )
    right.errorbar(
        place, last.mean(0), last.std(0), fmt="o", color="C0", markersize=2.5, elinewidth=0.7, label="runs ± spread"
    )
    right.plot(place, data.descent.values[-1, order], color="k", linewidth=1, label="gradient descent")
    right.set(xlabel="weights in order of gradient descent", title=f"all weights at t = {time[-1]:g}")
    right.legend(frameon=False, fontsize=8)
    for axis in (left, right):
        axis.title.set_fontsize(10)
    return figure


def draw_loss(data: Any) -> Any:
    """Loss against t, the layout of Fig. 1c, and by how much its mean differs from gradient descent's, on two nets."""
    figure, (left, right, small) = panels(3, 4.4)
    time, losses, descent = data.time.values, data.loss.values, data.descent_loss.values
    for run in range(min(25, len(losses))):
        left.plot(time, losses[run], color="C0", alpha=0.2, linewidth=0.6)
    left.plot(time, losses.mean(0), color="C0", linewidth=1.8, label="mean of runs")
    left.plot(time, descent, "k--", linewidth=1.2, label="gradient descent")
    left.set(xlabel="t", ylabel="loss", yscale="log")
    left.legend(frameon=False, fontsize=8)
    errors = 3 * losses.std(0, ddof=1) / np.sqrt(len(losses))
    right.errorbar(
        time,
        losses.mean(0) - descent,
        errors,
        fmt="o",
        markersize=3,
        elinewidth=0.8,
        color="C0",
        label="measured, ±3 errors",
    )
    right.plot(time, data.expected_excess, color="C3", label="∇U·m + ½Tr(HC)")
    right.axhline(0, color="k", linewidth=0.8, linestyle=":")
    right.set(xlabel="t", ylabel="mean loss less gradient descent's")
    right.legend(frameon=False, fontsize=8)
    small.errorbar(
        data.small_time, data.small_excess, 3 * data.small_error, fmt="o", markersize=3, elinewidth=0.8, color="C0"
    )
    small.plot(data.small_time, data.small_expected, color="C3", label="∇U·m + ½Tr(HC)")
    small.plot(data.small_time, data.small_curvature, color="C1", linestyle="--", label="½Tr(HC) alone")
    small.axhline(0, color="k", linewidth=0.8, linestyle=":")
    small.set(xlabel="t", ylabel="the same over λα", ylim=(-2.5, 0.3), title="a net of three units")
    small.title.set_fontsize(10)
    small.legend(frameon=False, fontsize=8)
    return figure


def draw_ratios(data: Any) -> Any:
    """A weight and Δ(t) for each λ, the layout of Fig. 2, the loss, and Δ against λα on the net of three units."""
    figure, (left, middle, right, small) = panels(4, 3.6)
    for colour, ratio in enumerate(data.ratio.values):
        one = data.sel(ratio=ratio)
        left.plot(data.time, one.weight, color=f"C{colour}", label=f"λ = {ratio:.3g}")
        middle.errorbar(data.time, one.delta, one.error, color=f"C{colour}", elinewidth=0.6, label=f"λ = {ratio:.3g}")
        middle.plot(data.time, one.expected, color=f"C{colour}", linestyle="--", linewidth=1)
        right.plot(data.time, one.loss, color=f"C{colour}")
    middle.plot(data.time, data.attrs["floor"] * data.time, "k:", linewidth=1, label="$D_⊥t/n$, smallest λ")
    left.plot(data.time, data.descent, "k--", label="gradient descent")
    right.plot(data.time, data.descent_loss, "k--")
    left.set(xlabel="t", ylabel="mean of the weight that moves most")
    middle.set(xlabel="t", ylabel="Δ(t), dashed: its law", yscale="log")
    right.set(xlabel="t", ylabel="mean loss", ylim=(0, None))
    for colour, (name, label) in enumerate(
        (
            ("whole", f"{data.attrs['small_runs']:,} runs, t = 0.6"),
            ("few", f"means of {data.attrs['few']} runs, t = 0.2"),
        )
    ):
        small.plot(data.step, data[name], "o", color=f"C{colour}", markersize=4, label=label)
        small.plot(data.step, data[f"{name}_law"], "--", color=f"C{colour}", linewidth=1)
    small.set(xlabel="λα", ylabel="Δ", xscale="log", yscale="log", title="a net of three units")
    small.title.set_fontsize(10)
    small.minorticks_off()
    small.set_xticks(data.step.values, [f"{step:g}" for step in data.step.values])
    for axis in (left, small):
        axis.legend(frameon=False, fontsize=8)
    middle.legend(frameon=False, fontsize=8, loc=(0.55, 0.3))
    return figure
