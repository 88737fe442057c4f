"""Two classes of 4×4 images that differ in mean."""

import numpy as np


def save_blobs(folder):
    """An .npz file of them, whose labels are 1 and 2."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    images = (rng.normal(size=(200, 4, 4)) + 2.0 * labels[:, None, None]).astype(np.float32)
    path = folder / "blobs.npz"
    np.savez(path, x_train=images[:150], y_train=labels[:150] + 1, x_test=images[150:], y_test=labels[150:] + 1)
    return str(path)
