"""Evaluation on many devices, of one machine or of many: each makes and evaluates its share of the candidates."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, PartitionSpec

from mutagrad import check
from mutagrad.evaluation.local import Evaluator
from mutagrad.evaluation.losses import Losses, of_values, per_example
from mutagrad.evaluation.low_rank.candidates import is_factored, values_of
from mutagrad.offspring import Offspring

__all__ = ["sharded"]


def sharded(mesh: Any = None, axis: str = "offspring", *, chunk: int = 1) -> Evaluator:
    """Evaluate the candidates of a generation on the devices of a mesh.

    What a device is given are keys, indices and the parent; it makes its own candidates. What it hands back are losses. The run
    with a key is the run on one device, up to the rounding of a device's own programs.

    Parameters
    ----------
    mesh : a ``jax.sharding.Mesh``; all devices in one row unless given. With `jax.distributed` it may be of many processes, which
        all run the same program (docs/many_devices.md).
    axis : the axis of the mesh among whose devices the candidates are divided. Along other axes parameters may be sharded, by the
        sharding that they come with: the compiler follows it through the loss.
    chunk : how many candidates a device evaluates at a time.

    Returns
    -------
    Evaluator, for the ``evaluation`` argument of `mutagrad.evolve` and of ``step``. If the devices do not divide the M + 1
    candidates, some evaluate the last one again.

    Raises
    ------
    ValueError : if ``mesh`` is none, or has no such axis.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> algorithm = mutagrad.elitist(sigma=0.1, num_offspring=15)
    >>> result = mutagrad.evolve(
    ...     jax.random.key(0), algorithm, jnp.ones(5), lambda x: jnp.sum(x**2), 100, evaluation=mutagrad.sharded(), progress=False
    ... )
    >>> bool(result.history["loss"][-1] < 0.1)
    True
    """
    if mesh is None:
        mesh = jax.make_mesh((jax.device_count(),), (axis,), axis_types=(AxisType.Auto,))
    if not isinstance(mesh, Mesh):
        raise ValueError(f"mesh: got {mesh!r}; pass a jax.sharding.Mesh, such as jax.make_mesh((8,), ('offspring',))")
    if axis not in mesh.shape:
        raise ValueError(f"axis: got {axis!r}; the mesh has {', '.join(map(repr, mesh.axis_names))}")
    chunk = check.count("chunk", chunk)
    return Evaluator(_Sharded(mesh, axis, chunk))


def _formed(loss_fn: Callable[..., Any], offspring: Offspring) -> Callable[[jax.Array], jax.Array]:
    """A function of the index of a candidate: its per-example losses."""
    values_fn = per_example(loss_fn)
    return lambda index: values_fn(offspring.candidate(index))


class _Sharded:
    """The evaluator's function. A run with the same evaluator finds its programs compiled."""

    def __init__(self, mesh: Mesh, axis: str, chunk: int):
        self.mesh, self.axis, self.chunk = mesh, axis, chunk

    def __call__(self, loss_fn: Callable[..., Any], offspring: Offspring) -> Losses:
        reference = offspring.parent_losses
        number, devices = len(offspring), self.mesh.shape[self.axis]
        each = -(-number // devices)

        def part(offspring: Offspring) -> jax.Array:
            indices = jnp.minimum(jax.lax.axis_index(self.axis) * each + jnp.arange(each), number - 1)
            values_fn = values_of(loss_fn, offspring) if is_factored(offspring) else _formed(loss_fn, offspring)
            own = jax.lax.map(values_fn, indices, batch_size=self.chunk)
            # So that every device, and every process, tells the same.
            return jax.lax.all_gather(own, self.axis, tiled=True)

        # Along the other axes of the mesh nothing is said here: the compiler divides there as the parameters are divided.
        whole = PartitionSpec()
        evaluate = jax.shard_map(
            part, mesh=self.mesh, in_specs=whole, out_specs=whole, axis_names={self.axis}, check_vma=False
        )
        values = evaluate(offspring)
        return of_values(values[:number], reference, reference is not None)

    def __repr__(self) -> str:
        return f"sharded({dict(self.mesh.shape)}, axis={self.axis!r}, chunk={self.chunk})"
