"""|g_l|²/TrH_l of every layer of the ConvNet on MNIST, by gradients: which layers gain most from a generation?

At its best σ a generation that mutates layer l alone gains G_M(s*) |g_l|²/TrH_l. Traces are Hutchinson's, with their
standard errors; the points lie on a run of SGD from each start.

    python -m verification.layers

writes verification/results/layers.md; with --no-write it only prints.
"""

import platform
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.common import table
from mutagrad.lab.tasks.convnet import ConvNet
from mutagrad.lab.tasks.data import load
from mutagrad.lab.tasks.losses import cross_entropy
from mutagrad.lab.tasks.models import lecun
from mutagrad.mutation import rademacher
from verification.common import arguments, report, versions

NUM_PROBES = 20
BATCH = 512
"""Images on which gradient and traces are taken."""
SGD_BATCH = 128
STEPS = (0, 60, 120, 600)
LAYERS = [*(f"convolution {i}" for i in range(1, 5)), "linear 1", "linear 2"]
GROUPS = {"first two": slice(0, 2), "other four": slice(2, None), "all": slice(None)}
"""The two that `mutagrad train` mutates in turns, and all together."""

PARAMS, STATIC = eqx.partition(ConvNet(jax.random.key(0)), eqx.is_array)
STARTS = {"pytorch": PARAMS, "lecun": lecun(PARAMS)}


def loss_fn(params, inputs, labels):
    return jnp.mean(cross_entropy(eqx.combine(params, STATIC)(inputs), labels))


def per_layer(first, second):
    """The inner product of two trees, layer by layer: a weight and a bias each."""
    products = jax.tree.map(lambda a, b: jnp.sum(a * b), first, second)
    return jnp.stack(jax.tree.leaves(products)).reshape(-1, 2).sum(1)


@jax.jit
def measure(key, params, inputs, labels):
    """Loss, |g_l|² (layers,) and vᵀHv layer by layer (probes, layers)."""

    def gradient(params):
        return jax.grad(loss_fn)(params, inputs, labels)

    def product(key):
        probe = rademacher().sample_fn(key, params)
        return per_layer(probe, jax.jvp(gradient, (params,), (probe,))[1])

    slope = gradient(params)
    products = jax.lax.map(product, jax.random.split(key, NUM_PROBES))
    return loss_fn(params, inputs, labels), per_layer(slope, slope), products


def cell(square, products):
    """1000 |g|²/TrH ± standard error, unless TrH is lost in its own."""
    trace, error = products.mean(), products.std(ddof=1) / len(products) ** 0.5
    if trace < 2 * error:
        return "unresolved"
    return f"{1e3 * square / trace:.1f} ± {1e3 * square / trace**2 * error:.1f}"


def trajectory(params, data):
    """Parameters along a run of SGD, at each of `STEPS`."""
    optimizer = optax.sgd(0.05, momentum=0.9)

    @jax.jit
    def advance(params, state, inputs, labels):
        updates, state = optimizer.update(jax.grad(loss_fn)(params, inputs, labels), state)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    for step in range(max(STEPS) + 1):
        if step in STEPS:
            yield step, params
        rows = np.arange(step * SGD_BATCH, (step + 1) * SGD_BATCH) % len(data.train_targets)
        params, state = advance(params, state, data.train_inputs[rows], data.train_targets[rows])


def main():
    args = arguments(__doc__)
    began = time.perf_counter()
    data = load("mnist")
    inputs, labels = data.train_inputs[:BATCH], data.train_targets[:BATCH]
    rows = []
    for start, first in STARTS.items():
        for step, params in trajectory(first, data):
            loss, squares, products = map(np.asarray, measure(jax.random.key(step), params, inputs, labels))
            cells = [cell(squares[layer], products[:, layer]) for layer in range(len(LAYERS))]
            cells += [cell(squares[group].sum(), products[:, group].sum(1)) for group in GROUPS.values()]
            rows.append([start, str(step), f"{loss:.3f}", *cells])
            print(*rows[-1], sep=" | ", flush=True)
    note = (
        f"1000 |g|²/TrH ± the standard error of TrH's {NUM_PROBES} probes, on the first {BATCH} training images, along SGD "
        f"(rate 0.05, momentum 0.9, batches of {SGD_BATCH}). Unresolved: TrH is below two standard errors. It took "
        f"{time.perf_counter() - began:.0f} s."
    )
    report(
        "layers",
        [table(["start", "step", "loss", *LAYERS, *GROUPS], rows), note],
        args,
        machine=f"; backend {jax.default_backend()}",
        software=[f"python {platform.python_version()}, {versions('jax', 'numpy', 'mutagrad')}"],
    )


if __name__ == "__main__":
    main()
