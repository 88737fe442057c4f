"""Fifteen corruptions of digits: deterministic, in range, and each what it is called."""

import numpy as np
import pytest
from scipy import ndimage

from mutagrad.lab.tasks.corruptions import CORRUPTIONS, corrupt


def digits():
    """A bar with a hook, and an empty image."""
    image = np.zeros((28, 28))
    image[6:22, 12:16] = 1
    image[18:22, 12:22] = 0.7
    return np.stack([image, np.zeros((28, 28)), image.T])


IMAGES = digits()


def center(image):
    return np.array(ndimage.center_of_mass(image))


def axis(image):
    """Angle of the long axis [degree]."""
    rows, columns = np.indices(image.shape) - 13.5
    moments = [np.sum(image * a * b) for a, b in ((rows, rows), (rows, columns), (columns, columns))]
    return np.degrees(np.arctan2(2 * moments[1], moments[0] - moments[2])) / 2


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_corruption(name):
    """Shape, range and dtype; the same for the same seed; another one for another seed and place, where there is chance."""
    found = corrupt(name, IMAGES, 3)
    assert (found.shape, found.dtype) == ((3, 28, 28), np.float32)
    assert found.min() >= 0
    assert found.max() <= 1
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found, corrupt(name, IMAGES, 3))
    np.testing.assert_array_equal(found[:1], corrupt(name, IMAGES[:1], 3))
    assert np.abs(found[0] - IMAGES[0]).max() > 0.1
    many = corrupt(name, np.repeat(IMAGES[:1], 8, axis=0), 3)
    is_fixed = all(np.array_equal(many[0], one) for one in many[1:])
    assert is_fixed == (name in ("scale", "brightness", "stripe", "canny_edges"))
    if not is_fixed:
        assert not np.array_equal(many, corrupt(name, np.repeat(IMAGES[:1], 8, axis=0), 4))


def test_noise():
    """Photon counts have mean and variance x/3 each; a share 0.17 of pixels is hit, half of them white."""
    flat = np.full((60, 28, 28), 0.2)
    counts = 3 * corrupt("shot_noise", flat).astype(float)
    assert abs(counts.mean() - 0.6) < 4 * (0.6 / counts.size) ** 0.5 + 0.003
    np.testing.assert_allclose(counts, np.round(counts), atol=1e-6)
    hit = corrupt("impulse_noise", np.full((60, 28, 28), 0.5))
    for value in (0.0, 1.0):
        assert abs(np.mean(hit == value) - 0.085) < 4 * (0.085 / hit.size) ** 0.5


def test_moves_keep_the_centre_and_do_what_they_say():
    image = np.zeros((1, 28, 28))
    image[0, 6:22, 12:16] = 1
    np.testing.assert_allclose(center(image[0]), 13.5)
    turned = {round(axis(corrupt("rotate", image, seed)[0]), 0) for seed in range(8)}
    assert turned == {-23.0, 23.0}
    for name, area in (("rotate", 1), ("scale", 0.49), ("shear", 1 / np.cos(0.4))):
        found = corrupt(name, image)[0]
        np.testing.assert_allclose(center(found), 13.5, atol=0.05)
        assert found.sum() == pytest.approx(area * image.sum(), rel=0.03)
    shifts = {tuple(np.round(center(corrupt("translate", image, seed)[0]) - 13.5).astype(int)) for seed in range(20)}
    assert shifts == {(a, b) for a in (-3, 3) for b in (-3, 3)}


def test_light():
    np.testing.assert_allclose(corrupt("brightness", IMAGES), np.clip(IMAGES + 0.5, 0, 1))
    striped = corrupt("stripe", IMAGES)
    np.testing.assert_allclose(striped[:, :, 7:21], IMAGES[:, :, 7:21], atol=1e-7)
    np.testing.assert_allclose(striped[:, :, :7], 1 - IMAGES[:, :, :7], atol=1e-7)
    # Fog lightens the dark and leaves an image that is black: it is scaled by the brightest pixel.
    fog = corrupt("fog", IMAGES)
    assert fog[0][IMAGES[0] == 0].mean() > 0.1
    assert fog[1].max() == 0
    assert fog[0].max() <= 1


def test_blurs_keep_the_light():
    """Of a digit away from the border, but for glass's swaps, which keep it too; the largest value falls."""
    for name in ("glass_blur", "motion_blur"):
        found = corrupt(name, IMAGES[:1])[0]
        assert found.sum() == pytest.approx(IMAGES[0].sum(), rel=0.02)
        assert np.abs(np.diff(found, axis=0)).max() < 0.8 * np.abs(np.diff(IMAGES[0], axis=0)).max()
    # A streak goes one way: the centre moves along it.
    assert center(corrupt("motion_blur", IMAGES[:1])[0])[1] > center(IMAGES[0])[1] + 1


def test_lines_and_spatter():
    """Lines are added to the left and right of the digit, dots with gaps of two columns; spatter is grey."""
    black = np.zeros((4, 28, 28))
    dotted = corrupt("dotted_line", black)
    is_drawn = dotted.max(axis=1) > 0.3
    np.testing.assert_array_equal(is_drawn[:, :27], np.tile(np.arange(27) % 4 >= 2, (4, 1)))
    zigzag = corrupt("zigzag", black)
    rows = zigzag.argmax(axis=1)
    inside = (rows[:, 4:24] > 0).all(axis=1)
    assert inside.any()
    assert (np.ptp(rows[inside][:, 4:24], axis=1) >= 3).all()
    spatter = corrupt("spatter", np.tile(black, (5, 1, 1)))
    assert 0.05 < np.mean(spatter > 0) < 0.6
    assert spatter.max() <= 63 / 255 + 1e-6


def test_edges():
    """A square has one closed edge, thin, at its border; a faint one has none."""
    square = np.zeros((2, 28, 28))
    square[0, 8:20, 8:20] = 1
    square[1, 8:20, 8:20] = 0.05
    found = corrupt("canny_edges", square)
    assert set(np.unique(found)) == {0, 1}
    assert found[1].sum() == 0
    near = ndimage.binary_dilation(square[0]) & ~ndimage.binary_erosion(square[0], iterations=1)
    assert found[0][~near].sum() == 0
    assert 36 <= found[0].sum() <= 60
    assert ndimage.label(found[0], np.ones((3, 3)))[1] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("snow", IMAGES), "name: got 'snow'; pass one of shot_noise"),
        (("fog", IMAGES[0]), "images: got shape (28, 28); pass (n, 28, 28)"),
        (("fog", 255 * IMAGES), "images: got values from 0 to 255; pass values in [0, 1]"),
        (("fog", IMAGES * np.nan), "images: got values from nan"),
        (("fog", IMAGES, -1), "seed: got -1"),
    ],
)
def test_refusals(arguments, words):
    with pytest.raises(ValueError) as refused:
        corrupt(*arguments)
    assert words in str(refused.value)
