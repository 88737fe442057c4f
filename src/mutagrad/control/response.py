"""Running means, and the regression of the response to selection on the selection differential (theory.md 9)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

__all__ = ["Response", "Running"]


class Running(NamedTuple):
    """Mean and mean square over a moving window, and the number of observations in it."""

    mean: jax.Array
    square: jax.Array
    number: jax.Array

    def with_(self, value: jax.Array, window: Any) -> "Running":
        """After one more observation."""
        number = jnp.minimum(self.number + 1, window)
        return Running(
            self.mean + (value - self.mean) / number, self.square + (value * value - self.square) / number, number
        )

    @property
    def ratio(self) -> jax.Array:
        """The mean over its standard error."""
        variance = jnp.maximum(self.square - jnp.square(self.mean), 1e-9)
        return self.mean * jnp.sqrt(self.number / variance)


class Response(NamedTuple):
    """Sums over accepted generations, of weights that fade: what the regression of the response on the differential needs."""

    number: jax.Array
    differential: jax.Array
    response: jax.Array
    load: jax.Array
    squares: jax.Array
    products: jax.Array
    response_squares: jax.Array

    def with_(self, weight: jax.Array, differential: Any, response: Any, load: Any, window: float) -> "Response":
        """After one more generation, of weight 0 or 1."""
        observed = (1.0, differential, response, load, differential**2, differential * response, response**2)
        kept = 1 - weight / window
        return Response(*(old * kept + weight * new for old, new in zip(self, observed, strict=True)))

    def luck(self) -> jax.Array:
        """By how much the load is luck of the chosen parent, over its standard error."""
        number = jnp.maximum(self.number, 1e-3)
        mean, response, load = (one / number for one in (self.differential, self.response, self.load))
        spread = jnp.maximum(self.squares / number - mean**2, 1e-3)
        joint = self.products / number - mean * response
        heritability = jnp.clip(joint / spread, 0, 1)
        rest = jnp.maximum(self.response_squares / number - response**2 - heritability * joint, 1e-3)
        error = mean * jnp.sqrt(rest / (spread * jnp.maximum(number, 1)))
        return jnp.maximum(response + load - heritability * mean, 0) / (error + 1e-6)
