"""How flat the loss is around the params: its profile along random directions (theory.md 7)."""

import itertools
import math
from collections.abc import Callable
from os import PathLike
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mutagrad import check, tree
from mutagrad.diagnostics.findings import describe, draw
from mutagrad.diagnostics.jackknife import jackknife
from mutagrad.diagnostics.landscape.directions import check_directions, direction
from mutagrad.diagnostics.landscape.points import evaluate_points
from mutagrad.estimate import Estimate
from mutagrad.types import Params

__all__ = ["Flatness", "flatness"]


class Flatness(NamedTuple):
    """The loss along random directions; `print` says it in sentences.

    Attributes
    ----------
    loss : at the params [loss].
    distances : (points,) from −distance to distance, 0 in the middle; see ``unit``.
    changes : losses less that of the params, paired example by example: (directions, points), or (planes, points, points) of
        two dimensions, the first direction of a plane along the rows. NaN where a loss is not finite [loss].
    curvature : mean over directions of the even second difference at the smallest distance h,
        (U(h) + U(−h) − 2U(0))/h², with its standard error over directions [loss/distance²].
    rises : at each of the positive distances, the mean over directions of (U(t) + U(−t))/2 − U(0), an `Estimate` of arrays
        (points//2,) with standard errors over directions [loss].
    width : the distance at which the mean rise has reached ``rise``, with its standard error over directions (a jackknife);
        infinite if it has not, as far as was looked.
    rise : see ``width`` [loss].
    unit : of distances: "length of the params" or "parameter".
    normalize, vectors : as asked.
    dims : 1 or 2.
    num_directions : directions that numbers are means over: two for each plane.
    num_moved, num_parameters : parameters that directions move, and all floating ones.
    num_failed, num_evaluations : points without a finite loss, and all that were evaluated.
    num_examples : per-example losses; 1 for a scalar loss.
    """

    loss: float
    distances: np.ndarray
    changes: np.ndarray
    curvature: Estimate
    rises: Estimate
    width: Estimate
    rise: float
    unit: str
    normalize: str
    vectors: str
    dims: int
    num_directions: int
    num_moved: int
    num_parameters: int
    num_failed: int
    num_evaluations: int
    num_examples: int

    @property
    def profiles(self) -> np.ndarray:
        """(directions, points) changes along single directions; of a plane those along its two axes."""
        if self.dims == 1:
            return self.changes
        middle = len(self.distances) // 2
        return np.concatenate([self.changes[:, :, middle], self.changes[:, middle, :]])

    def __repr__(self) -> str:
        return describe(self)

    def figure(self, path: str | PathLike) -> None:
        """Draw the profiles, or the planes, and write them as an image (needs the ``lab`` extra)."""
        draw(self, path)


def flatness(
    key: jax.Array,
    loss_fn: Callable,
    params: Params,
    *,
    num_directions: int = 5,
    distance: float = 1.0,
    num_points: int = 21,
    dims: int = 1,
    normalize: str = "filter",
    vectors: str = "zero",
    filter_axis: int = 0,
    rise: float | None = None,
    batch: Any = None,
    evaluation: Any = "auto",
) -> Flatness:
    r"""Say how the loss rises along random directions from the params.

    A direction $d$ is gaussian and then normalised, and the loss is evaluated at $x + td$, $|t| \le$ ``distance``. With "filter"
    each filter of $d$ is as long as the same filter of $x$, so that the profile does not depend on how a ReLU network shares
    its scale among layers, and t = 1 is a step as long as the params.

    Parameters
    ----------
    key : a key; the same key gives the same directions.
    loss_fn : ``loss_fn(params)``, or ``loss_fn(params, batch)`` where there is a batch; a scalar or per-example losses.
    params : pytree; leaves that are not floating stay as they are.
    num_directions : directions; planes for two dimensions.
    distance : the largest t: in units of the params' length, or for "none" [parameter].
    num_points : points along a direction, odd, the params in the middle. Two dimensions take num_points² for each plane.
    dims : 1 or 2.
    normalize : "filter"; "leaf", each leaf of the direction as long as that of the params; "none", the direction has length 1.
    vectors : for "filter", what is done with biases and all other leaves that have one number for each output. "zero" leaves
        them as they are, as Li et al. do. "leaf" scales them to the length of the leaf. "entry" takes every number as a filter.
        Weights of a single input, of shape (out, 1), are vectors too.
    filter_axis : the axis of outputs, whose entries a filter belongs to: 0 for weights (out, in) and (out, in, height, width), as
        in Equinox and PyTorch; -1 for (in, out) and (height, width, in, out), as in Flax and Keras.
    rise : for ``width``; the loss at the params, so that width is where the loss has doubled, unless given. To compare networks,
        pass the same for all [loss].
    batch : examples for ``loss_fn``.
    evaluation : ``mutagrad.executor(pool)`` for a loss that is ordinary Python.

    Returns
    -------
    Flatness

    Raises
    ------
    ValueError : if an argument is outside its domain, a direction would move nothing, or the loss is not finite at the params.

    Domain: the curvature is that of the smallest step, off by h²/12 times the mean fourth derivative along directions; on a
    quadratic loss all three numbers are exact but for rounding. For gaussian directions of length 1 the curvature is TrH/N in
    the mean. Errors are over directions: other examples may give other losses. Directions that fail at a distance are left out
    of the mean there.

    Memory: a few models. Source: [Li18]; theory.md 7; tested in tests/diagnostics/test_flatness.py.

    >>> import jax, jax.numpy as jnp
    >>> from mutagrad.diagnostics.landscape import flatness
    >>> loss_fn = lambda params: 1 + jnp.sum(params["weight"] ** 2) / 2
    >>> found = flatness(jax.random.key(0), loss_fn, {"weight": jnp.ones((4, 25)), "bias": jnp.ones(4)})
    >>> print(round(found.curvature.value, 2))                                       # along d, |d|² = 100
    100.0
    """
    params = tree.check_params(params)
    num_directions = check.count("num_directions", num_directions)
    check.positive("distance", distance)
    if check.count("num_points", num_points, 3) % 2 == 0:
        raise ValueError(f"num_points: got {num_points}; pass an odd number, so that the params are in the middle")
    check.choice("dims", dims, (1, 2))
    if rise is not None:
        check.positive("rise", rise)
    num_moved = check_directions(params, normalize, vectors, filter_axis)

    distances = np.linspace(-distance, distance, num_points)
    distances[num_points // 2] = 0.0
    grid = np.array(list(itertools.product(distances, repeat=dims)))
    # The params themselves are evaluated once.
    places = jnp.asarray(grid[np.any(grid != 0, axis=1)], jnp.result_type(float))
    number = len(places)

    def one(key: jax.Array, params: Params) -> Params:
        return direction(key, params, normalize, vectors, filter_axis)

    def make(params: Params, key: jax.Array, index: jax.Array, is_params: jax.Array) -> Params:
        place = jnp.where(is_params, 0, places[index % number])
        whole = None
        for axis in range(dims):
            own = one(jax.random.fold_in(key, dims * (index // number) + axis), params)
            step = jax.tree.map(lambda leaf, t=place[axis]: leaf * t.astype(leaf.dtype), own)
            whole = step if whole is None else jax.tree.map(jnp.add, whole, step)
        return tree.add_scaled(params, whole, jnp.ones((), jnp.result_type(float)))

    noise = jax.eval_shape(one, jax.random.key(0), params)
    key = check.key(key)
    found = evaluate_points(
        loss_fn, params, make, key, num_directions * number, noise=noise, batch=batch, evaluation=evaluation
    )
    changes = np.insert(found.changes.reshape(num_directions, number), number // 2, 0.0, axis=1)
    changes = changes.reshape(num_directions, *([num_points] * dims))
    rise = abs(found.loss) if rise is None else float(rise)
    result = Flatness(
        loss=found.loss,
        distances=distances,
        changes=changes,
        curvature=Estimate(math.nan, math.nan),
        rises=Estimate(math.nan, math.nan),
        width=Estimate(math.nan, math.nan),
        rise=rise,
        unit="parameter" if normalize == "none" else "length of the params",
        normalize=normalize,
        vectors=vectors,
        dims=dims,
        num_directions=dims * num_directions,
        num_moved=num_moved,
        num_parameters=tree.size(params),
        num_failed=int(np.sum(np.isnan(found.changes))),
        num_evaluations=1 + len(found.changes),
        num_examples=found.num_examples,
    )
    return _with_numbers(result)


def _with_numbers(found: Flatness) -> Flatness:
    """Curvature, rises and width from the profiles."""
    middle, profiles = len(found.distances) // 2, found.profiles
    steps = found.distances[middle + 1 :]
    rises = (profiles[:, middle + 1 :] + profiles[:, :middle][:, ::-1]) / 2
    first = rises[:, 0][np.isfinite(rises[:, 0])] * 2 / steps[0] ** 2
    unit = "loss/distance²" if found.normalize != "none" else "loss/parameter²"
    (width,), (error,) = jackknife(
        lambda rows: np.array([_reached(steps, _mean(rows["rises"]), found.rise)]), {"rises": rises}, len(rises)
    )
    columns = np.array([_with_error(column[np.isfinite(column)]) for column in rises.T])
    is_known = math.isfinite(error) and math.isfinite(width) and len(rises) > 1
    return found._replace(
        curvature=Estimate(*_with_error(first), unit),
        rises=Estimate(columns[:, 0], columns[:, 1], "loss"),
        width=Estimate(float(width), float(error) if is_known else math.nan, found.unit),
    )


def _with_error(values: np.ndarray) -> tuple[float, float]:
    """The mean and its standard error; NaN for that of one."""
    number = len(values)
    mean = float(values.mean()) if number else math.nan
    return mean, float(values.std(ddof=1) / math.sqrt(number)) if number > 1 else math.nan


def _mean(rises: np.ndarray) -> np.ndarray:
    number = np.isfinite(rises).sum(axis=0)
    return np.where(number > 0, np.nansum(rises, axis=0) / np.maximum(number, 1), np.nan)


def _reached(steps: np.ndarray, rises: np.ndarray, amount: float) -> float:
    """Where a curve through 0 first reaches an amount: linear in t², as a parabola is."""
    squares, rises = np.insert(steps**2, 0, 0.0), np.insert(rises, 0, 0.0)
    (reached,) = np.nonzero(rises >= amount)
    if not len(reached) or amount <= 0:
        return math.inf if amount > 0 else math.nan
    last = int(reached[0])
    before = max(index for index in range(last) if np.isfinite(rises[index]))
    share = (amount - rises[before]) / (rises[last] - rises[before])
    return math.sqrt(squares[before] + share * (squares[last] - squares[before]))
