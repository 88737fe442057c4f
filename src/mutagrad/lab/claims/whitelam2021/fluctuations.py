"""How far runs spread about gradient descent, and how far their mean is from it: the Langevin equation to next order.

Runs of greedy selection with the normalised learning rate h = λα a generation are x = x_GD + hm + √h ξ (theory.md 5.3), where
x_GD follows dx/dt = f, f = −∇U/|∇U|, and with J the derivative of f and D the noise per unit of t

    dC/dt = JC + CJᵀ + D,   C the covariance of ξ,        dm/dt = Jm + ½ Σ C_jk ∂_j∂_k f.

Both are deterministic, so that what runs are compared with has no chance.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mutagrad.lab.claims.claims import Job
from mutagrad.lab.claims.tanh_nets import POINTS, shallow_losses

__all__ = ["Fluctuations", "fluctuations"]

_STEP, _DESCENT_STEP = 1e-2, 1e-4
"""Steps of t: of the equations (second order; C and m move by 0.2 % when it is halved), and of descent in them."""
_ACROSS, _ALONG = math.pi, math.pi - 1
"""D for h = 1, across and along the gradient: σ²/2 a generation, less h² along it, at σ = h√2π."""


class Fluctuations(NamedTuple):
    """At R times, in float64.

    Attributes
    ----------
    start : (N,). descent : (R, N), gradient descent. losses : (R,), its loss.
    covariance : (R, N, N), of runs over h. shift : (R, N), of their mean from gradient descent over h.
    slopes, curvatures : (R, N) and (R, N, N), gradient and Hessian along gradient descent.
    """

    start: np.ndarray
    descent: np.ndarray
    losses: np.ndarray
    covariance: np.ndarray
    shift: np.ndarray
    slopes: np.ndarray
    curvatures: np.ndarray

    @property
    def excess(self) -> np.ndarray:
        """(R,), mean loss of runs less that of gradient descent, over h: ∇U·m + ½Tr(HC)."""
        spread = np.einsum("tij,tij->t", self.curvatures, self.covariance) / 2
        return np.einsum("ti,ti->t", self.slopes, self.shift) + spread


def _derivatives(x: jax.Array, points: int = POINTS) -> tuple[jax.Array, jax.Array]:
    """Gradient and Hessian of the shallow net's loss. Its output is a sum over units: few second derivatives are not 0."""
    theta = jnp.arange(points, dtype=x.dtype) / points

    def at_all(of_unit):
        return jax.vmap(jax.vmap(of_unit, (None, 0)), (0, None))(x.reshape(-1, 3), theta)

    def unit(weights, theta):
        return weights[0] * jnp.tanh(weights[1] * theta + weights[2])

    residuals = jnp.sum(at_all(unit), axis=0) - jnp.sin(2 * jnp.pi * theta)
    outputs = at_all(jax.grad(unit)).transpose(0, 2, 1).reshape(x.size, -1)
    bends = jnp.einsum("ukij,k->uij", at_all(jax.hessian(unit)), residuals)
    units = jnp.arange(x.size // 3)
    blocks = jnp.zeros((units.size, 3, units.size, 3), x.dtype).at[units, :, units, :].set(bends)
    hessian = outputs @ outputs.T + blocks.reshape(x.size, x.size)
    return 2 * outputs @ residuals / points, 2 * hessian / points


def _descend(x: jax.Array, time: float, points: int) -> jax.Array:
    """Normalised gradient descent for a time."""
    steps = math.ceil(time / _DESCENT_STEP)

    def body(_, x):
        slope = jax.grad(lambda x: jnp.mean(shallow_losses(x, points)))(x)
        return x - time / steps * slope / jnp.linalg.norm(slope)

    return jax.lax.fori_loop(0, steps, body, x)


@partial(jax.jit, static_argnums=(3, 4))
def _advance(x: jax.Array, covariance: jax.Array, shift: jax.Array, step: float, points: int) -> tuple[jax.Array, ...]:
    """Everything a step later, by the implicit midpoint rule, which narrow valleys do not upset."""
    middle = _descend(x, step / 2, points)
    slope, hessian = _derivatives(middle, points)
    norm = jnp.linalg.norm(slope)
    unit, one = slope / norm, jnp.eye(x.size, dtype=x.dtype)
    along = jnp.outer(unit, unit)
    across = one - along
    inverse = jnp.linalg.inv(one + step / 2 * across @ hessian / norm)
    forward = inverse @ (one - step / 2 * across @ hessian / norm)
    noise = inverse @ (_ACROSS * across + _ALONG * along) @ inverse.T
    after = forward @ covariance @ forward.T + step * noise
    # The second derivative of −ĝ along C: of g itself, of its length, and of both.
    between = (covariance + after) / 2
    third = jax.grad(lambda x: jnp.vdot(between, _derivatives(x, points)[1]))(middle)
    slopes = hessian @ between @ hessian
    bend = -across @ third / 2 / norm + (across @ slopes @ unit + jnp.trace(across @ slopes) * unit / 2) / norm**2
    return _descend(middle, step / 2, points), after, forward @ shift + step * inverse @ bend


def fluctuations(job: Job, start: jax.Array, time: float, records: int, points: int = POINTS) -> Fluctuations:
    """The fluctuations of runs on the shallow net that start at ``start``, at ``records`` times up to ``time``.

    Parameters
    ----------
    job : keeps what is found. start : (3n,), of a net of n units. time : t of the last record. records : R.
    points : at which the net is to learn.
    """
    name = f"fluctuations of {len(start)} weights at {points} points to {time:g} at {records}"
    kept = job.load(name)
    if kept is None:
        number = math.ceil(time / records / _STEP)
        found = []
        with jax.enable_x64(True):
            x = jnp.asarray(np.asarray(start), jnp.float64)
            covariance, shift = jnp.zeros((x.size, x.size)), jnp.zeros(x.size)
            for record in range(records):
                for _ in range(number):
                    x, covariance, shift = _advance(x, covariance, shift, time / records / number, points)
                found.append((x, jnp.mean(shallow_losses(x, points)), covariance, shift, *_derivatives(x, points)))
                job.progress((record + 1) / records)
            arrays = [np.stack([np.asarray(part) for part in parts]) for parts in zip(*found, strict=True)]
        kept = dict(zip(Fluctuations._fields, [np.asarray(start, float), *arrays], strict=True))
        job.keep(name, kept, is_last=True)
    return Fluctuations(**kept)
