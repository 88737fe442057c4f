"""W26-6: the largest curvatures of a convolutional network on MNIST: at its start, in training and trained."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from scipy.sparse import linalg

from mutagrad import theory
from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.lab.claims.unregistered import above, below, near
from mutagrad.lab.tasks.convnet import ConvNet
from mutagrad.lab.tasks.data import load
from mutagrad.lab.tasks.losses import cross_entropy
from mutagrad.report.figures import panels

__all__ = ["CLAIMS"]

_KOLMOGOROV = 1.36
"""√n times the Kolmogorov distance above which n samples of a law are found at a level of 5 %."""


@partial(jax.jit, static_argnums=0)
def _linearized(gradient: Callable, x: jax.Array, data: tuple) -> Any:
    # The data are an argument: as constants they would be convolved by the compiler.
    return jax.linearize(lambda x: gradient(x, *data), x)[1]


@jax.jit
def _apply(product: Any, vector: jax.Array) -> jax.Array:
    return product(vector)


def largest_eigenvalues(job: Job, gradient: Callable, x: jax.Array, number: int, *data: jax.Array) -> np.ndarray:
    """The largest eigenvalues of the Hessian by sign, decreasing, by Lanczos with restarts, each to within 3 % for certain.

    Parameters
    ----------
    gradient : ``gradient(x, *data)``, of which the Hessian is the derivative in x.
    number : how many.
    """
    linear, done, expected = _linearized(gradient, x, data), 0, 4 * number

    def product(vector):
        nonlocal done
        done += 1
        job.progress(min(done / expected, 1.0))
        return np.asarray(_apply(linear, jnp.asarray(vector.ravel(), x.dtype)), float)

    hessian = linalg.LinearOperator((x.size, x.size), product, dtype=float)
    start = np.random.default_rng(0).standard_normal(x.size)
    values = linalg.eigsh(
        hessian, number, which="LA", ncv=5 * number // 2, tol=0.03, v0=start, return_eigenvectors=False
    )
    return np.sort(values)[::-1]


def _distance(values: np.ndarray) -> float:
    """√n times Kolmogorov's distance of eigenvalues from the Pareto law that a power law of ranks is.

    The law's exponent is that of maximum likelihood for values above the smallest; as Xie et al. 2022 test for power laws.
    """
    lowest = values[-1]
    if lowest <= 0:
        return math.inf
    logs = np.sort(np.log(values[:-1] / lowest))
    number = len(logs)
    law = -np.expm1(-logs / logs.mean())
    steps = np.arange(number + 1) / number
    return float(math.sqrt(number) * max(np.max(steps[1:] - law), np.max(law - steps[:-1])))


def _accuracy(network: Any, inputs: jax.Array, labels: jax.Array) -> float:
    return float(jnp.mean(jnp.argmax(eqx.filter_jit(network)(inputs), axis=1) == labels))


def run_spectrum(job: Job) -> Outcome:
    """Power laws of the largest eigenvalues at three stages of a training by stochastic gradient descent."""
    import xarray

    data = load("mnist")
    inputs, labels = jnp.asarray(data.train_inputs), jnp.asarray(data.train_targets)
    params, static = eqx.partition(ConvNet(jax.random.key(0)), eqx.is_inexact_array)
    x, unravel = ravel_pytree(params)

    def mean_loss(x, inputs, labels):
        return jnp.mean(cross_entropy(eqx.combine(unravel(x), static)(inputs), labels))

    optimizer = optax.sgd(job["learning_rate"], momentum=0.9)

    @jax.jit
    def advance(x, state, key, first, steps, inputs, labels):
        def body(index, carry):
            x, state = carry
            rows = jax.random.randint(jax.random.fold_in(key, first + index), (job["batch"],), 0, len(labels))
            updates, state = optimizer.update(jax.grad(mean_loss)(x, inputs[rows], labels[rows]), state, x)
            return optax.apply_updates(x, updates), state

        return jax.lax.fori_loop(0, steps, body, (x, state))

    measured, number = slice(0, job["images"]), job["eigenvalues"]
    state, last, stages = optimizer.init(x), 0, job["steps"]
    values, losses, accuracies = np.empty((len(stages), number)), np.empty(len(stages)), np.empty(len(stages))

    loss_of = jax.jit(mean_loss)
    gradient, held = jax.grad(mean_loss), (inputs[measured], labels[measured])
    for index, steps in enumerate(stages):
        x, state = advance(x, state, jax.random.key(14), last, steps - last, inputs, labels)
        last = steps
        network = eqx.combine(unravel(x), static)
        losses[index] = float(loss_of(x, *held))
        accuracies[index] = _accuracy(
            network, jnp.asarray(data.test_inputs[:2000]), jnp.asarray(data.test_targets[:2000])
        )
        part = job.part(index / len(stages), 1 / len(stages))
        name = f"convnet {job['images']} images rate {job['learning_rate']:g} batch {job['batch']} step {steps} largest {number}"
        kept = job.load(name)
        if kept is None:
            kept = {"eigenvalue": largest_eigenvalues(part, gradient, x, number, *held)}
            job.keep(name, kept, is_last=True)
        values[index] = kept["eigenvalue"]
        part.progress(1.0)
    result = xarray.Dataset(
        {
            "eigenvalue": (("step", "rank"), values),
            "loss": ("step", losses),
            "accuracy": ("step", accuracies),
        },
        coords={"step": list(stages), "rank": np.arange(1, number + 1)},
        attrs={"first": job["first"]},
    )
    checks = []
    for index, steps in enumerate(stages):
        where = (
            f"after {steps} steps (loss {losses[index]:.2g}, test accuracy {accuracies[index]:.2f})"
            if steps
            else "at start"
        )
        distance = _distance(values[index])
        if not steps:
            found = theory.fit_power_law(values[index], job["first"])
            text = f"√n times the Kolmogorov distance of the {number} largest eigenvalues from a power law, {where}"
            text = f"{text} (a = {found.exponent:.2f} ± {found.error:.2f} from rank {job['first']})"
            checks.append(above(f"{text}: absent", distance, 0, _KOLMOGOROV))
            continue
        for first in (1, job["first"]):
            found = theory.fit_power_law(values[index], first)
            text = f"exponent a of λ_k ∝ k^−a from ranks {first} to {number}, {where}"
            checks.append(near(text, found.exponent, found.error, 1.05, 0.25))
        text = f"√n times the Kolmogorov distance of the {number} largest eigenvalues from a power law, {where}"
        checks.append(below(text, distance, 0, _KOLMOGOROV))
    return Outcome(checks, result, draw_spectrum)


def draw_spectrum(data: Any) -> Any:
    """Largest eigenvalues against their rank with the fitted laws, and the local exponents."""
    figure, (left, right) = panels(2)
    ranks, first = data["rank"].values, data.attrs["first"]
    for colour, step in enumerate(data.step.values):
        one = data.sel(step=step)
        values = one.eigenvalue.values
        label = f"{step:,} steps, loss {float(one.loss):.2g}, accuracy {float(one.accuracy):.2f}"
        left.plot(ranks, values, "o", markersize=3, color=f"C{colour}", label=label)
        if values[-1] <= 0:
            continue
        found = theory.fit_power_law(values, first)
        law = found.prefactor * ranks[first - 1 :] ** -found.exponent
        left.plot(ranks[first - 1 :], law, color=f"C{colour}", linewidth=1)
        edges = np.geomspace(1, len(ranks), 7).round().astype(int)
        local = -np.diff(np.log(values[edges - 1])) / np.diff(np.log(edges))
        right.plot(np.sqrt(edges[1:] * edges[:-1]), local, "o-", markersize=4, color=f"C{colour}")
    left.set(xscale="log", yscale="log", xlabel="rank k", ylabel="eigenvalue of the Hessian λ$_k$")
    left.legend(frameon=False, fontsize=8)
    right.axhspan(0.8, 1.3, color="0.9")
    right.set(
        xscale="log", xlabel="rank k", ylabel="local exponent −d ln λ/d ln k", ylim=(0, None), xlim=(1, len(ranks))
    )
    right.minorticks_off()
    right.set_title("shaded: 0.8 to 1.3", fontsize=10)
    return figure


_SPECTRUM = {
    "quick": {
        "images": 512, "eigenvalues": 100, "first": 10, "learning_rate": 0.02, "batch": 32, "steps": (0, 300, 1500),
    },
    "paper": {
        "images": 512, "eigenvalues": 1000, "first": 10, "learning_rate": 0.02, "batch": 32, "steps": (0, 300, 1875, 18_750),
    },
}  # fmt: skip


def _needs(settings: dict[str, Any]) -> Needs:
    products = 3 * 4 * settings["eigenvalues"] * len(settings["steps"]) * settings["images"] / 512
    return Needs(products + 3 * settings["steps"][-1] * settings["batch"] / 512, 4e9, 1e6)


CLAIMS = [
    Claim(
        "W26-6",
        "whitelam2026",
        "spectra",
        "Hessians of networks have power-law spectra with exponents from 0.8 to 1.3, but not at a random start",
        _SPECTRUM,
        run_spectrum,
        _needs,
        "ConvNet of 9,854 parameters, cross-entropy on {images} images of MNIST; SGD, batch {batch}, rate {learning_rate}, "
        "momentum 0.9",
    ),
]
