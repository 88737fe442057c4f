"""Running means; the regression of the response to selection on the differential; how the load grows with σ (theory.md 9)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

__all__ = ["Response", "Running", "Stay", "nothing"]


def nothing(kind: Any, like: jax.Array) -> Any:
    """A memory of this kind, one of the tuples below, before anything was seen."""
    return kind(*[jnp.zeros_like(like)] * len(kind._fields))


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

    def carried(self, factor: jax.Array) -> "Running":
        """To a scale where what is observed is larger by a factor, and its noise is not: what was seen then has less weight."""
        mean, variance = self.mean * factor, jnp.maximum(self.square - jnp.square(self.mean), 0)
        return Running(mean, variance + jnp.square(mean), self.number / jnp.square(factor))

    @property
    def ratio(self) -> jax.Array:
        """The mean over its standard error."""
        variance = jnp.maximum(self.square - jnp.square(self.mean), 1e-9)
        return self.mean * jnp.sqrt(self.number / variance)


class Stay(NamedTuple):
    """How the mean of ΔU grows with σ while the parent stays: sums of squares within stays, of logarithms, that fade.

    Curvature gives the mean the exponent 2. The luck of the parent grows more slowly.

    Attributes
    ----------
    number, log_sigma, log_mean : generations of this stay, and their means.
    squares, products, mean_squares : about the means of each stay, of ln σ, of both, and of ln E[ΔU].
    freedom : generations in these sums, less one for each stay.
    """

    number: jax.Array
    log_sigma: jax.Array
    log_mean: jax.Array
    squares: jax.Array
    products: jax.Array
    mean_squares: jax.Array
    freedom: jax.Array

    def with_(self, sigma: jax.Array, mean: jax.Array, is_new: jax.Array, window: float) -> "Stay":
        """After one more generation; a new parent begins a stay of its own. A mean that is not positive says nothing."""
        kept = 1 - 1 / window
        x, y = jnp.log(sigma), jnp.log(jnp.where(mean > 0, mean, 1))
        is_seen = (mean > 0).astype(sigma.dtype)
        before = jnp.where(is_new, 0, self.number)
        number = before + is_seen
        weight = is_seen / jnp.maximum(number, 1)
        # The first of a stay is its mean, and adds nothing.
        dx, dy = x - self.log_sigma, y - self.log_mean
        rest = jnp.where(before > 0, is_seen - weight, 0)
        return Stay(
            number=number,
            log_sigma=self.log_sigma + weight * dx,
            log_mean=self.log_mean + weight * dy,
            squares=self.squares * kept + rest * dx * dx,
            products=self.products * kept + rest * dx * dy,
            mean_squares=self.mean_squares * kept + rest * dy * dy,
            freedom=self.freedom * kept + (rest > 0).astype(sigma.dtype),
        )

    def exponent(self) -> tuple[jax.Array, jax.Array]:
        """d ln E[ΔU]/d ln σ at one parent, and its standard error."""
        squares = jnp.maximum(self.squares, 1e-9)
        slope = self.products / squares
        rest = jnp.maximum(self.mean_squares - slope * self.products, 1e-6)
        return slope, jnp.sqrt(rest / (squares * jnp.maximum(self.freedom - 1, 1)))


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

    def estimate(self) -> tuple[jax.Array, jax.Array]:
        """By how much the load is luck of the chosen parent, and its standard error, in units of the spread."""
        number = jnp.maximum(self.number, 1e-3)
        mean, response, load = (one / number for one in (self.differential, self.response, self.load))
        spread = jnp.maximum(self.squares / number - mean**2, 1e-3)
        joint = self.products / number - mean * response
        heritability = jnp.clip(joint / spread, 0, 1)
        rest = jnp.maximum(self.response_squares / number - response**2 - heritability * joint, 1e-3)
        error = mean * jnp.sqrt(rest / (spread * jnp.maximum(number, 1)))
        return response + load - heritability * mean, error

    def luck(self) -> jax.Array:
        """Luck over its standard error; 0 if there is none."""
        value, error = self.estimate()
        return jnp.maximum(value, 0) / (error + 1e-6)
