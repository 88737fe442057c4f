"""|g_l|²/TrH_l of every layer of the ConvNet on MNIST, by gradients: which layers gain most from a generation?

At its best σ a generation that mutates layer l alone gains G_M(s*) |g_l|²/TrH_l. Traces are Hutchinson's, with their
standard errors; the points lie on a run of SGD from each start.

    python -m verification.layers
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from mutagrad.lab.datasets import load
from mutagrad.lab.models import ConvNet, cross_entropy, lecun

NUM_PROBES = 20
BATCH = 512
STEPS = (0, 60, 120, 600)


def main() -> None:
    """Print one table per start."""
    data = load("mnist")
    inputs, labels = jnp.asarray(data.train_inputs[:BATCH]), jnp.asarray(data.train_labels[:BATCH])
    for start in ("pytorch", "lecun"):
        params, static = eqx.partition(ConvNet(jax.random.key(0)), eqx.is_array)
        params = lecun(params) if start == "lecun" else params

        def loss_fn(params, inputs, labels, static=static):
            return jnp.mean(cross_entropy(eqx.combine(params, static)(inputs), labels))

        gradient = jax.jit(jax.grad(loss_fn))

        @jax.jit
        def products(key, params, gradient=gradient):
            leaves, structure = jax.tree.flatten(params)
            keys = jax.random.split(key, len(leaves))
            probe = [jax.random.rademacher(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)]
            slope = lambda at: gradient(at, inputs, labels)  # noqa: E731
            image = jax.jvp(slope, (params,), (structure.unflatten(probe),))[1]
            return jnp.stack([jnp.vdot(v, hv) for v, hv in zip(probe, jax.tree.leaves(image), strict=True)])

        optimizer = optax.sgd(0.05, momentum=0.9)
        state = optimizer.init(params)
        names = [f"convolution {i + 1}" for i in range(4)] + ["linear 1", "linear 2"]
        print(f"\n{start} start: |g|²/TrH ± standard error, × 1000\n")
        print("| step | loss | " + " | ".join(names) + " | all |\n|" + "---|" * (len(names) + 3))
        for step in range(max(STEPS) + 1):
            if step in STEPS:
                squares = np.array([float(jnp.sum(g**2)) for g in jax.tree.leaves(gradient(params, inputs, labels))])
                keys = jax.random.split(jax.random.key(step), NUM_PROBES)
                probes = np.array([products(key, params) for key in keys])
                squares, probes = squares.reshape(-1, 2).sum(1), probes.reshape(NUM_PROBES, -1, 2).sum(2)
                squares, probes = np.append(squares, squares.sum()), np.column_stack([probes, probes.sum(1)])
                traces, errors = probes.mean(0), probes.std(0, ddof=1) / NUM_PROBES**0.5
                cells = [
                    f"{1e3 * g / t:.1f} ± {1e3 * g / t**2 * e:.1f}" if t > 2 * e else "TrH ≤ 0 within 2 errors"
                    for g, t, e in zip(squares, traces, errors, strict=True)
                ]
                print(f"| {step} | {loss_fn(params, inputs, labels):.3f} | " + " | ".join(cells) + " |", flush=True)
            rows = (np.arange(256) + 256 * step) % 60_000
            slope = gradient(params, data.train_inputs[rows], data.train_labels[rows])
            updates, state = optimizer.update(slope, state)
            params = optax.apply_updates(params, updates)


if __name__ == "__main__":
    main()
