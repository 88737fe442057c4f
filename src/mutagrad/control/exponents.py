"""How the losses of offspring grow with σ, from generations that look at a smaller one: where a loss is rough, and not curved.

Once in a while a generation has a quarter of the σ. Its spread and its load, against those of the generations before, give the
exponents a and p of std(ΔU) ~ σᵃ and E[ΔU] ~ σᵖ. A slope and its curvature have 1 and 2; many independent jumps have ½ and 1;
noise of its own has 0 and 2; a loss that is bounded, and σ far too large, 0 and 0; jumps that most looks do not meet show an a
above 1. See theory.md 9.5.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

__all__ = ["LOOK", "Exponents", "look"]

LOOK = 1.4
"""By how much ln σ is smaller in a generation that looks: a factor of 4."""
_QUICK = 10.0
"""Generations of the running means against which a look is held."""
_LOOKS = 2
"""Looks before anything is known."""
_UNKNOWN = 0.7
"""Share of the load that counts until then."""
_LEAST = 0.01
"""Share of the load that a quarter of σ has at least."""
_VISIBLE = 3.0
"""Standard errors above 0 from which on a load is seen."""
_BEATEN = 0.3
"""Share of a load that counts where hardly an offspring wins: σ is to fall slowly, since jumps are rarer at a look."""
_FAR = 4.0
"""How much faster σ rises where a quarter of it meets no jumps."""
_FEW = 0.3
"""Load of few jumps, over what the best of the offspring has, at most: of curvature along one direction it is 0.38 for M = 20."""
_SPARSE = 1.3
"""A spread that grows with a larger exponent is made of jumps that a quarter of σ hardly meets; a slope has 1."""


def look(generation: jax.Array) -> jax.Array:
    """By how much ln σ is to be smaller in this generation: `LOOK` in every 4th of the first 16, every 8th of the first 64, and
    every 16th after that; 0 otherwise."""
    period = jnp.where(generation <= 16, 4, jnp.where(generation <= 64, 8, 16))
    return jnp.where(generation % period == period - 1, LOOK, 0.0).astype(generation.dtype)


class Exponents(NamedTuple):
    """Running means, and sums that fade of what differs from them; x is ln σ, y is ln std(ΔU), z is E[ΔU]/std(ΔU).

    Attributes
    ----------
    number : generations in the sums.
    x, y, z : their means over the last few.
    looks, dx, dy, dz : looks, and the sums of their differences.
    xx, xy, yy, xz, zz : sums of squares over all generations.
    """

    number: jax.Array
    x: jax.Array
    y: jax.Array
    z: jax.Array
    looks: jax.Array
    dx: jax.Array
    dy: jax.Array
    dz: jax.Array
    xx: jax.Array
    xy: jax.Array
    yy: jax.Array
    xz: jax.Array
    zz: jax.Array

    def with_(self, seen: tuple[Any, Any, Any], is_look: jax.Array, is_usable: jax.Array, window: Any) -> "Exponents":
        """After one more generation, x, y and z of which were ``seen``."""
        weight = is_usable.astype(self.number.dtype)
        means = (self.x, self.y, self.z)
        before = [jnp.where(self.number > 0, mean, one) for mean, one in zip(means, seen, strict=True)]
        dx, dy, dz = (jnp.where(is_usable, one - mean, 0) for one, mean in zip(seen, before, strict=True))
        rate = jnp.maximum(1 / _QUICK, 1 / (self.number + 1))
        following = [mean + rate * one for mean, one in zip(before, (dx, dy, dz), strict=True)]
        of_look = jnp.where(is_look, weight, 0)
        kept = 1 - weight / window
        new = (of_look, of_look * dx, of_look * dy, of_look * dz, dx * dx, dx * dy, dy * dy, dx * dz, dz * dz)
        sums = [kept * old + one for old, one in zip(self[4:], new, strict=True)]
        updated = Exponents(kept * self.number + weight, *following, *sums)
        return jax.tree.map(lambda one, old: jnp.where(is_usable, one, old), updated, self)

    def spread(self) -> tuple[jax.Array, jax.Array]:
        """a, and its standard error."""
        return self._slope(self.dy, self.xy, self.yy)

    def load(self, load: jax.Array) -> tuple[jax.Array, jax.Array]:
        """p, and what it is at least: where the load, in units of the spread, is off by a standard error at a quarter of σ."""
        (a, _), (slope, error) = self.spread(), self._slope(self.dz, self.xz, self.zz)
        mean = jnp.maximum(load, 1e-3)

        def exponent(at_look: jax.Array) -> jax.Array:
            return a - jnp.log(jnp.maximum(at_look / mean, _LEAST)) / LOOK

        return exponent(mean - LOOK * slope), exponent(mean - LOOK * (slope - error))

    def _slope(self, dy: jax.Array, xy: jax.Array, yy: jax.Array) -> tuple[jax.Array, jax.Array]:
        # σ moves by itself too, as the loss falls; looks do not depend on the loss.
        dx = jnp.minimum(self.dx, -1e-3)
        slope = dy / dx
        rest = jnp.maximum(yy - 2 * slope * xy + jnp.square(slope) * self.xx, 1e-4) / jnp.maximum(self.number - 2, 1)
        return slope, jnp.sqrt(rest * self.looks) / -dx

    def is_known(self) -> jax.Array:
        """Whether there were looks enough."""
        return self.looks > _LOOKS - 0.5

    def share(self, load: jax.Array, ratio: jax.Array, best: float) -> jax.Array:
        """The share of the load that is to count as curvature: what falls with σ faster than the spread does.

        Parameters
        ----------
        load, ratio : mean load in units of the spread, and the same over its standard error.
        best : by how much the best of the offspring is above their mean, in units of the spread.
        """
        (a, _), (p, least) = self.spread(), self.load(load)
        of_load = jnp.where(ratio > _VISIBLE, jnp.clip((least - 1.3) / 0.3, 0, 1), 1)
        of_slope = jnp.clip((a - 0.8) / 0.2, 0, 1)
        # Bounded losses far from their parent: there the load must count.
        bounded = jnp.clip((0.5 - a) / 0.15, 0, 1) * jnp.clip((0.85 - p) / 0.2, 0, 1) * jnp.clip(2 * load - 2, 0, 1)
        # Hardly an offspring wins, and at a smaller σ more would.
        beaten = _BEATEN * jnp.clip(4 * load / best - 3, 0, 1) * jnp.clip((p - a - 0.1) / 0.2, 0, 1)
        share = jnp.maximum(jnp.maximum(of_load, of_slope), jnp.maximum(bounded, beaten))
        return jnp.where(self.is_known(), share, _UNKNOWN)

    def below(self, load: jax.Array, ratio: jax.Array, best: float) -> jax.Array:
        """How fast σ is to rise to the scale on which a rough loss has a slope, 0 where it is not below it; see `share`.

        Up to 1 where a is about ½: slope has less than half of the variance, and noise of its own not most of it. `_FAR` where a
        is above 1 and the load small, so that it is no curvature: a quarter of σ meets no jumps.
        """
        a, error = self.spread()
        is_rough = (a + 0.5 * error < 0.75) & (a - 0.5 * error > 0.25) & (ratio > 1)
        is_sparse = (a - error > _SPARSE) & (self.z < _FEW * best)
        of_rough = jnp.where(is_rough, 1 - self.share(load, ratio, best), 0)
        return jnp.where(self.is_known(), jnp.where(is_sparse, _FAR, of_rough), 0)
