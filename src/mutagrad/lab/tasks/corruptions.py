"""Fifteen corruptions of images of digits, those of MNIST-C, made here.

They follow Mu and Gilmer 2019 (arXiv 1906.02337) and the severities with which its code makes the published files: the kinds and
the parameters named below are theirs. The pixels are not those of the published files: other random numbers, SciPy's filters and
interpolation in place of those of three other libraries, and floating numbers in place of 8 bits. Where the original
calls a program whose effect is not written down (motion blur) or another library (Canny edges) the details are our own. Glass
blur moves pixels to all sides, where the original moves them up and to the left.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy import ndimage

from mutagrad import check

__all__ = ["CORRUPTIONS", "corrupt"]

_SIZE = 28
_CENTER = (_SIZE - 1) / 2

_SHOT = 3.0  # photons at full brightness
_IMPULSE = 0.17  # share of pixels
_GLASS = (0.7, 1, 2)  # blur [pixel], largest shift, rounds
_MOTION = (10, 3.0)  # half length and standard deviation of the streak [pixel]
_SHEAR = 0.4  # angle [rad]
_SCALE = 0.7  # size
_ROTATE = 0.4  # angle [rad]
_BRIGHTNESS = 0.5
_TRANSLATE = 3  # [pixel]
_STRIPE = slice(7, 21)  # columns that stay
_FOG = (3.0, 1.4)  # thickness, decay of roughness with each halving of the scale
_SPATTER = (0.65, 0.3, 1.0, 0.65, 1.5, 63 / 255)  # mean, deviation, blur, threshold, blur of the edge, colour
_SPATTER_KEPT = 0.8
_LINE = 2.3  # reach of a line [pixel]
_ZIGZAG = 2.0  # half length and height of a tooth [pixel]
_CANNY = (1.0, 0.1, 0.2)  # blur, low and high threshold


def corrupt(name: str, images: np.ndarray, seed: int = 0) -> np.ndarray:
    """Corrupt images of digits as MNIST-C does.

    Parameters
    ----------
    name : of `CORRUPTIONS`, in the order of the source.
    images : (n, 28, 28) in [0, 1].
    seed : the same seed, name and image, at the same place among the images, give the same corruption.

    Returns
    -------
    (n, 28, 28) float32 in [0, 1]. Pixels are not those of the published files; see the module.

    Raises
    ------
    ValueError : if the name is unknown, or images have another shape or range.

    Source: N. Mu, J. Gilmer 2019, arXiv 1906.02337, and its code, google-research/mnist-c.

    >>> import numpy as np
    >>> from mutagrad.lab.tasks.corruptions import CORRUPTIONS, corrupt
    >>> len(CORRUPTIONS), corrupt("stripe", np.zeros((2, 28, 28))).mean()
    (15, np.float32(0.5))
    """
    check.choice("name", name, CORRUPTIONS)
    given = np.asarray(images)
    if given.ndim != 3 or given.shape[1:] != (_SIZE, _SIZE):
        raise ValueError(f"images: got shape {given.shape}; pass (n, {_SIZE}, {_SIZE})")
    given = given.astype(np.float64)
    if given.size and not (given.min() >= 0 and given.max() <= 1):
        raise ValueError(f"images: got values from {given.min():.3g} to {given.max():.3g}; pass values in [0, 1]")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"seed: got {seed!r}; pass a whole number of 0 or more")
    place = list(CORRUPTIONS).index(name)
    function = CORRUPTIONS[name]
    corrupted = np.empty(given.shape, np.float32)
    for index, image in enumerate(given):
        corrupted[index] = np.clip(function(image, np.random.default_rng([seed, place, index])), 0, 1)
    return corrupted


def _shot_noise(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.poisson(image * _SHOT) / _SHOT


def _impulse_noise(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    is_hit, is_white = rng.random(image.shape) < _IMPULSE, rng.random(image.shape) < 0.5
    return np.where(is_hit, is_white, image)


def _glass_blur(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    blur, reach, rounds = _GLASS
    image = ndimage.gaussian_filter(image, blur, mode="nearest")
    places = range(_SIZE - reach - 1, reach - 1, -1)
    for _ in range(rounds):
        is_swapped = rng.random((_SIZE, _SIZE)) < 0.5
        shifts = rng.integers(-reach, reach + 1, (_SIZE, _SIZE, 2))
        for row in places:
            for column in places:
                if is_swapped[row, column]:
                    other = row + shifts[row, column, 0], column + shifts[row, column, 1]
                    image[row, column], image[other] = image[other], image[row, column]
    return ndimage.gaussian_filter(image, blur, mode="nearest")


def _motion_blur(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A streak to one side whose weight falls like a normal density, at an angle within 45° of the rows."""
    reach, deviation = _MOTION
    angle = math.radians(rng.uniform(-45, 45))
    steps = np.arange(reach + 1)
    weights = np.exp(-(steps**2) / (2 * deviation**2))
    shifted = [
        ndimage.shift(image, (step * math.sin(angle), step * math.cos(angle)), order=1, mode="constant")
        for step in steps
    ]
    return np.tensordot(weights / weights.sum(), np.stack(shifted), axes=1)


def _affine(image: np.ndarray, matrix: np.ndarray, offset: tuple[float, float] | None = None) -> np.ndarray:
    """The image whose pixel at (row, column) is that of the original at matrix · (row, column), the centre kept."""
    center = np.full(2, _CENTER)
    shift = center - matrix @ center if offset is None else np.array(offset)
    return ndimage.affine_transform(image, matrix, shift, order=1, mode="constant")


def _sign(rng: np.random.Generator) -> int:
    return 1 if rng.random() < 0.5 else -1


def _shear(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    angle = _SHEAR * _sign(rng)
    return _affine(image, np.array([[math.cos(angle), 0.0], [-math.sin(angle), 1.0]]))


def _scale(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return _affine(image, np.eye(2) / _SCALE)


def _rotate(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    angle = _ROTATE * _sign(rng)
    cosine, sine = math.cos(angle), math.sin(angle)
    return _affine(image, np.array([[cosine, sine], [-sine, cosine]]))


def _brightness(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return image + _BRIGHTNESS


def _translate(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return _affine(image, np.eye(2), (_TRANSLATE * _sign(rng), _TRANSLATE * _sign(rng)))


def _stripe(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    inverse = 1 - image
    inverse[:, _STRIPE] = image[:, _STRIPE]
    return inverse


def _fog(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    thickness, decay = _FOG
    brightest = image.max()
    return (image + thickness * _plasma(decay, rng)) * brightest / (brightest + thickness)


def _plasma(decay: float, rng: np.random.Generator) -> np.ndarray:
    """A height map from 0 to 1 by the diamond-square algorithm on a torus of 32 × 32."""
    size = 32
    heights = np.zeros((size, size))
    step, wobble = size, 100.0
    while step >= 2:
        half = step // 2
        # As in the source the amplitude is the square of the wobble.
        corners = heights[::step, ::step]
        sums = corners + np.roll(corners, -1, 0)
        sums = sums + np.roll(sums, -1, 1)
        heights[half::step, half::step] = sums / 4 + wobble * rng.uniform(-wobble, wobble, sums.shape)
        centers = heights[half::step, half::step]
        across = centers + np.roll(centers, 1, 0) + corners + np.roll(corners, -1, 1)
        heights[::step, half::step] = across / 4 + wobble * rng.uniform(-wobble, wobble, across.shape)
        down = centers + np.roll(centers, 1, 1) + corners + np.roll(corners, -1, 0)
        heights[half::step, ::step] = down / 4 + wobble * rng.uniform(-wobble, wobble, down.shape)
        step, wobble = half, wobble / decay
    heights -= heights.min()
    return (heights / heights.max())[:_SIZE, :_SIZE]


def _spatter(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    mean, deviation, blur, threshold, edge, color = _SPATTER
    liquid = ndimage.gaussian_filter(rng.normal(mean, deviation, image.shape), blur, mode="nearest")
    mask = ndimage.gaussian_filter((liquid > threshold).astype(float), edge, mode="nearest")
    mask[mask < _SPATTER_KEPT] = 0
    return image * (1 - mask) + color * mask


def _line(start: tuple[float, float], end: tuple[float, float]) -> np.ndarray:
    """A soft line between two places (column, row); the distance to it is taken along the column."""
    columns, rows = np.meshgrid(np.arange(_SIZE), np.arange(_SIZE))
    if end[0] == start[0]:
        return np.zeros((_SIZE, _SIZE))
    middle = start[1] + (end[1] - start[1]) / (end[0] - start[0]) * (columns - start[0])
    distance = np.minimum(np.abs(rows - middle), _LINE * (1 - 1e-12))
    line = np.clip(np.log(1 - distance / _LINE) + 1, 0, 1)
    return np.where((columns >= math.floor(start[0])) & (columns < math.ceil(end[0])), line, 0)


def _dotted_line(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    first, last = rng.integers(0, 27, 2)
    line = _line((0, first), (27, last))
    return image + np.where(np.arange(_SIZE) % 4 < 2, 0, line)


def _zigzag(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    start, end = 2, 25
    row = rng.integers(0, 27)
    angle = math.atan(rng.integers(-5, 5) / (end - start))
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    along = np.array(list(_teeth((end - start) / math.cos(angle))))
    corners = along @ rotation.T + np.array([start, row])
    for one, other in itertools.pairwise(corners):
        image = np.clip(image + _line(tuple(one), tuple(other)), 0, 1)
    return image


def _teeth(length: float) -> Iterator[tuple[float, float]]:
    """Corners of a zigzag along a straight line."""
    yield (0.0, 0.0)
    for number in range(int((length - _ZIGZAG) // (2 * _ZIGZAG)) + 1):
        yield ((2 * number + 1) * _ZIGZAG, (-1) ** number * _ZIGZAG)
    yield (length, 0.0)


def _canny_edges(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Edges one pixel wide: largest slope of the smoothed image across the edge, kept where it joins a strong one."""
    blur, low, high = _CANNY
    smooth = ndimage.gaussian_filter(image, blur, mode="constant")
    slopes = np.stack([ndimage.sobel(smooth, axis) / 4 for axis in (0, 1)])
    size = np.hypot(*slopes)
    unit = slopes / np.where(size > 0, size, 1)
    places = np.indices(size.shape)
    ahead, behind = (
        ndimage.map_coordinates(size, places + sign * unit, order=1, mode="constant") for sign in (1.0, -1.0)
    )
    is_ridge = (size >= ahead) & (size > behind) & (size > low)
    labels, _ = ndimage.label(is_ridge, np.ones((3, 3)))
    strong = np.unique(labels[is_ridge & (size > high)])
    return (np.isin(labels, strong[strong > 0])).astype(float)


CORRUPTIONS: dict[str, Callable[[np.ndarray, Any], np.ndarray]] = {
    "shot_noise": _shot_noise,
    "impulse_noise": _impulse_noise,
    "glass_blur": _glass_blur,
    "motion_blur": _motion_blur,
    "shear": _shear,
    "scale": _scale,
    "rotate": _rotate,
    "brightness": _brightness,
    "translate": _translate,
    "stripe": _stripe,
    "fog": _fog,
    "spatter": _spatter,
    "dotted_line": _dotted_line,
    "zigzag": _zigzag,
    "canny_edges": _canny_edges,
}
"""What makes each corruption of one image."""
