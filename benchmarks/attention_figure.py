"""The figure of `benchmarks.attention`: where networks look."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from matplotlib.patches import Rectangle

from mutagrad.report.figures import panels, save

COLORS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7")


def draw(path: Path, hard: Any, soft: Any, test: tuple, side: int, others: dict[str, Any] | None = None) -> None:
    """One test image of each class: the squares that are read, what is seen of it, and the weights of soft attention.

    ``others`` are networks whose squares are drawn too, by the names of their rows.
    """
    rows = [int(np.flatnonzero(np.asarray(test[1]) == label)[0]) for label in range(10)]
    shown = test[0][jnp.array(rows)]
    low, high = float(jnp.min(shown)), float(jnp.max(shown))
    weights, corners = np.asarray(soft.weights(shown)).mean(axis=1), np.asarray(soft._corners)
    number = 3 + len(others or {})
    sheet, axes = panels(10, width=0.82, rows=number, height=0.9)
    squares(axes[:10], shown, hard, side)
    places = np.asarray(hard.places(shown))
    for column, image in enumerate(np.asarray(shown)):
        middle, bottom = axes[10 + column], axes[10 * (number - 1) + column]
        seen, heat = np.full(image.shape, np.nan), np.zeros(image.shape)
        for (row, left), weight in zip(corners, weights[column].ravel(), strict=True):
            heat[row : row + side, left : left + side] += weight
        for row, left in places[column]:
            seen[row : row + side, left : left + side] = image[row : row + side, left : left + side]
        middle.set_facecolor("#f0d9a8")
        middle.imshow(seen, cmap="gray_r", vmin=low, vmax=high)
        bottom.imshow(heat, cmap="viridis", vmin=0)
    for index, network in enumerate((others or {}).values()):
        squares(axes[20 + 10 * index : 30 + 10 * index], shown, network, side)
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_visible(False)
    for index, label in enumerate(("glimpses", "what is read", *(others or {}), "soft weights")):
        axes[10 * index].set_ylabel(label, fontsize=7)
    save(sheet, path)


def squares(axes: Any, images: Any, network: Any, side: int) -> None:
    """Images, the squares that a network reads of each, smaller the later they are read, and what it says."""
    places, predicted = np.asarray(network.places(images)), np.asarray(jnp.argmax(network(images), axis=1))
    for axis, image, own, says in zip(axes, np.asarray(images), places, predicted, strict=True):
        axis.imshow(image, cmap="gray_r")
        for number, (row, left) in enumerate(own):
            corner = (left - 0.5 + 0.12 * number, row - 0.5 + 0.12 * number)
            length = side - 0.24 * number
            axis.add_patch(Rectangle(corner, length, length, fill=False, edgecolor=COLORS[number % 4], linewidth=1.4))
        axis.set_title(f"says {says}", fontsize=8)
