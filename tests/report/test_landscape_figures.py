"""Figures of a loss landscape: drawn of what was found, and of what was not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mutagrad
import mutagrad.report
from mutagrad.diagnostics.landscape import flatness, gaussian_corruption, mutational_effects, robustness, update_angles

KEY = jax.random.key(0)
PARAMS = jnp.ones((2, 3))


def half_square(x):
    return float(np.sum(np.square(x))) / 2


def constant(x):
    return 3.0


def with_nan(x):
    return float(np.nan) if x[0, 0] > 1.05 else half_square(x)


FOUND = {
    "flatness": lambda loss_fn, **kwargs: flatness(KEY, loss_fn, PARAMS, num_points=3, num_directions=2, **kwargs),
    "plane": lambda loss_fn, **kwargs: flatness(KEY, loss_fn, PARAMS, num_points=3, num_directions=1, dims=2, **kwargs),
    "effects": lambda loss_fn, **kwargs: mutational_effects(KEY, loss_fn, PARAMS, 0.1, num_mutations=40, **kwargs),
    "angles": lambda loss_fn, **kwargs: update_angles(KEY, loss_fn, PARAMS, sigma=0.1, num_mutations=20, **kwargs),
    "robustness": lambda loss_fn, evaluation: robustness(
        KEY, lambda params, x: loss_fn(x), None, PARAMS, {"noise": gaussian_corruption}, (0.1, 0.2), compiled=False
    ),
}


@pytest.mark.parametrize("loss_fn", [half_square, constant, with_nan])
@pytest.mark.parametrize("name", FOUND)
def test_every_finding_is_drawn_and_said(name, loss_fn, tmp_path):
    """Warnings are errors here, those of empty and of constant data too."""
    found = FOUND[name](loss_fn, evaluation=mutagrad.executor())
    found.figure(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert "nan" not in str(found).replace("(NaN", "")
