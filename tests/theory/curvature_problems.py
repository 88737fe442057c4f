"""Losses of known Hessian, and all estimates of their curvature at once: for the tests of curvature and of spectra."""

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy import stats

from mutagrad import theory
from mutagrad.theory import ranks as rank_estimates

KEY = jax.random.key(0)
FALSE_ALARM = 1e-4
"""Chance that a bound on a count, on a mean or on a variance fails though all is well."""


def agrees(found, truth, num_probes=64, allowance=0.0):
    """Within the standard errors that a Student t passes with probability 1 − 10⁻⁴, and informative."""
    wide = stats.t.isf(FALSE_ALARM / 2, num_probes - 1)
    return abs(float(found.value) - truth) <= wide * float(found.error) + allowance * abs(truth)


def quadratic(curvatures):
    """½ Σ λ_k x_k²; probes have no preferred axes, so that a diagonal stands for every Hessian of its spectrum."""
    return lambda x: jnp.sum(curvatures * jnp.square(x)) / 2


def ranks(loss, params, key, num_probes=64, num_steps=64, tolerance=1e-4):
    """The three ranks by their public functions' own code, from one search and one set of probes."""

    def combine(moments):
        rank = moments.effective_rank()
        return {
            "rank": theory.Estimate(rank.rank, rank.error),
            "trace": rank.hessian_trace,
            "largest": rank.largest_eigenvalue,
            "participation": moments.participation_ratio(),
            "stable": moments.stable_rank(),
        }

    return rank_estimates._moments(loss, params, key, num_probes, num_steps, tolerance, combine)


def truth_of(spectrum):
    """What `ranks` estimates, from all eigenvalues."""
    trace, square, top = spectrum.sum(), (spectrum**2).sum(), spectrum.max()
    return {
        "rank": trace / top,
        "trace": trace,
        "largest": top,
        "participation": trace**2 / square,
        "stable": square / top**2,
    }


@cache
def compiled(size, tolerance=1e-4):
    """`ranks` of ½ Σ λ_k x_k² + ½ (u·x)² for any λ and u of this size."""

    @jax.jit
    def measured(curvatures, direction, key):
        def loss(x):
            return (jnp.sum(curvatures * jnp.square(x)) + jnp.square(jnp.sum(direction * x))) / 2

        return ranks(loss, jnp.ones(size), key, num_steps=80, tolerance=tolerance)

    # By NumPy, so that no weak type compiles it again.
    return lambda curvatures, direction, key: measured(np.asarray(curvatures), np.asarray(direction), key)


@cache
def compiled_spectrum():
    """`hessian_spectrum` of ½ Σ λ_k x_k² for any 1000 λ."""
    return jax.jit(lambda curvatures, key: theory.hessian_spectrum(quadratic(curvatures), jnp.ones(1000), key, 40, 16))


def thousand(curvatures):
    """Ranks and spectrum of ½ Σ λ_k x_k², N = 1000; the search asked for far more digits than float32 has."""
    return compiled(1000, 1e-12)(curvatures, jnp.zeros(1000), KEY), compiled_spectrum()(np.asarray(curvatures), KEY)


def line(error):
    message = str(error.value)
    assert "\n" not in message
    return message


# --- a small network, whose Hessian is known ----------------------------------------------------------------------------


class Net(NamedTuple):
    """A network with 31 parameters in a nested tree, with leaves that are not floating, and its exact eigenvalues."""

    params: dict
    losses: object
    eigenvalues: np.ndarray


@cache
def network():
    keys = jax.random.split(jax.random.key(1), 5)
    images, target = jax.random.normal(keys[0], (50, 4)), jax.random.normal(keys[1], (50,))
    params = {
        "hidden": [jax.random.normal(keys[2], (4, 5)), jnp.zeros(5)],
        "out": (jax.random.normal(keys[3], (5,)), {"scale": jnp.float32(1.5), "count": jnp.int32(3)}),
        "is_used": jnp.array([True, False]),
    }

    def losses(params):
        weight, bias = params["hidden"]
        out, extra = params["out"]
        hidden = jnp.tanh(images @ weight + bias.reshape(1, -1))
        return jnp.square(extra["scale"] * (hidden @ out) - target) * extra["count"].astype(jnp.float32)

    floating = [*params["hidden"], params["out"][0], params["out"][1]["scale"]]
    flat, unravel = ravel_pytree(floating)

    def loss(flat):
        weight, bias, out, scale = unravel(flat)
        return jnp.mean(losses({"hidden": [weight, bias], "out": (out, {"scale": scale, "count": jnp.int32(3)})}))

    return Net(params, losses, np.linalg.eigvalsh(np.asarray(jax.jit(jax.hessian(loss))(flat), float)))
