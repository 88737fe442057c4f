"""Mutations that differ between parameters: the coordinates in which they are radial (theory.md 1)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mutagrad import tree
from mutagrad.law import Ball, DensityLaw, Masked, Scaled, Sphere
from mutagrad.theory.definition import density_law
from mutagrad.theory.moments import moments_at
from mutagrad.theory.quadrature import Moments
from mutagrad.types import Definition, Params


class Geometry(NamedTuple):
    """Coordinates in which the mutations of an algorithm are radial: parameters in units of their scale.

    Attributes
    ----------
    scales : pytree of the params' structure, the scale of each parameter; 0 where it is not mutated.
    definition : of the algorithm with the density under scales and masks.
    num_parameters : N where the density asks for it.
    """

    scales: Params
    definition: Definition
    num_parameters: int | None

    @classmethod
    def of(cls, definition: Any, params: Params) -> "Geometry":
        """The geometry of an algorithm on these params (or a gradient of their structure)."""
        law, base = density_law(definition), radial(definition)
        knows_size = isinstance(base.mutation.law, Sphere | Ball)
        # A radial density sees the mutated leaves only, so that its number of dimensions is not that of the tree.
        if knows_size and _is_masked(law):
            raise ValueError(
                f"algorithm: got {definition.mutation.name} mutations, whose number of dimensions is not that of the "
                "params; use gaussian ones, the limit of many parameters"
            )
        return cls(_scales(law, params), base, tree.size(params) if knows_size else None)

    def moments(self, slope: jax.Array, sigma: Any = None) -> tuple[jax.Array, jax.Array, Moments]:
        """The slope and σ as arrays, and the moments there in units of σ."""
        return moments_at(self.definition, slope, sigma, self.num_parameters)

    def slope(self, gradient: Params) -> tuple[jax.Array, Params]:
        """Norm of the gradient in these coordinates, and its direction (zeros where the norm is 0)."""
        scaled = self.to_params(gradient)
        leaves = tree.floating_only(scaled)
        wide = [leaf.astype(tree.compute_dtype(leaf)) for leaf in leaves]
        dtype = jnp.result_type(*wide)
        # Relative to the largest entry: squares of what float32 holds would leave its range.
        largest = jnp.max(jnp.stack([jnp.max(jnp.abs(leaf), initial=0).astype(dtype) for leaf in wide]))
        unit = jax.lax.stop_gradient(jnp.maximum(largest, jnp.finfo(dtype).tiny))
        relative = [leaf / unit.astype(leaf.dtype) for leaf in wide]
        norm = jnp.sqrt(tree.squared_norm(relative))
        direction = tree.scale(relative, jnp.where(norm > 0, 1 / jnp.where(norm > 0, norm, 1), 0))
        rounded = [leaf.astype(own.dtype) for leaf, own in zip(direction, leaves, strict=True)]
        return unit * norm, tree.with_floating(scaled, rounded)

    def to_params(self, vector: Params) -> Params:
        """A vector of these coordinates as a change of the params; leaves that are not floating become zeros."""

        def multiply(leaf, scale):
            if not tree.is_floating(leaf):
                return jnp.zeros_like(leaf)
            return leaf * jnp.asarray(scale, leaf.dtype)

        return jax.tree.map(multiply, vector, self.scales)


def radial(definition: Any) -> Definition:
    """The definition with the density under scales and masks in place of its own."""
    law = density_law(definition)
    while isinstance(law, Scaled | Masked):
        law = law.law
    return definition._replace(mutation=definition.mutation._replace(law=law))


def _is_masked(law: DensityLaw) -> bool:
    return isinstance(law, Masked) or (isinstance(law, Scaled) and _is_masked(law.law))


def _scales(law: DensityLaw, params: Params) -> Params:
    """Standard deviation of every parameter in units of σ, a number or an array for each leaf."""
    match law:
        case Scaled():
            own = tree.broadcast_prefix("scale", law.scale, params, "number or array")
        case Masked():
            own = jax.tree.map(float, tree.broadcast_prefix("mask", law.mask, params, "boolean"))
        case _:
            return jax.tree.map(lambda _: 1.0, params)
    return jax.tree.map(lambda a, b: jnp.asarray(a) * b, own, _scales(law.law, params))
