"""The figure of `benchmarks.attention`: where networks look."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from matplotlib.patches import Rectangle

from mutagrad.report.figures import panels, save


def draw(path: Path, hard: Any, soft: Any, test: tuple, side: int) -> None:
    """One test image of each class: the squares that are read, what is seen of it, and the weights of soft attention."""
    rows = [int(np.flatnonzero(np.asarray(test[1]) == label)[0]) for label in range(10)]
    shown = test[0][jnp.array(rows)]
    predicted = np.asarray(jnp.argmax(hard(shown), axis=1))
    places, weights = np.asarray(hard.places(shown)), np.asarray(soft.weights(shown)).mean(axis=1)
    corners = np.asarray(soft._corners)
    sheet, axes = panels(10, width=0.82, rows=3, height=0.9)
    for column, image in enumerate(np.asarray(shown)):
        top, middle, bottom = axes[column], axes[10 + column], axes[20 + column]
        seen, heat = np.full(image.shape, np.nan), np.zeros(image.shape)
        for (row, left), weight in zip(corners, weights[column].ravel(), strict=True):
            heat[row : row + side, left : left + side] += weight
        top.imshow(image, cmap="gray_r")
        for number, (row, left) in enumerate(places[column]):
            seen[row : row + side, left : left + side] = image[row : row + side, left : left + side]
            corner = (left - 0.5 + 0.12 * number, row - 0.5 + 0.12 * number)
            color = ("#D55E00", "#0072B2", "#009E73", "#CC79A7")[number % 4]
            length = side - 0.24 * number
            top.add_patch(Rectangle(corner, length, length, fill=False, edgecolor=color, linewidth=1.4))
        middle.set_facecolor("#f0d9a8")
        middle.imshow(seen, cmap="gray_r", vmin=-1, vmax=1)
        bottom.imshow(heat, cmap="viridis", vmin=0)
        top.set_title(f"says {predicted[column]}", fontsize=8)
        for axis in (top, middle, bottom):
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
    for place, label in ((0, "glimpses"), (10, "what is read"), (20, "soft weights")):
        axes[place].set_ylabel(label, fontsize=7)
    save(sheet, path)
