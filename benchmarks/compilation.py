"""How long a step of a network of many leaves takes to compile, beside a step of Adam on the same network and loss.

Run with ``python -m benchmarks.compilation``. Demanded: at most twice Adam with 200 leaves, at most 60 s with 2,000.
Every compilation is a process of its own. Both times include tracing.
"""

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import time
from functools import partial

import jax
import jax.numpy as jnp
import optax

import mutagrad
from benchmarks import common

M = 20
DEMANDED_RATIO, DEMANDED_SECONDS = 2.0, 60.0


def layered(widths):
    """Layers of tanh between these widths."""
    params = [{"w": jnp.full(shape, 0.01), "b": jnp.zeros(shape[1])} for shape in itertools.pairwise(widths)]

    def losses(params):
        x = jnp.ones((32, widths[0]))
        for layer in params:
            x = jnp.tanh(x @ layer["w"] + layer["b"])
        return jnp.mean(jnp.square(x), axis=1)

    return params, losses


def perceptron(leaves: int):
    """Square layers, all of one shape."""
    return layered([64] * (leaves // 2 + 1))


def residual(leaves: int):
    """Blocks of convolutions and scales, in four widths."""
    params = [
        {
            "conv": jnp.full((3, 3, width, width), 0.01),
            "scale": jnp.ones(width),
            "shift": jnp.zeros(width),
            "mix": jnp.full((width, width), 0.01),
            "bias": jnp.zeros(width),
        }
        for width in (16, 32, 64, 128)
        for _ in range(leaves // 20)
    ]

    def losses(params):
        x = jnp.ones((4, 4, 4, 16))
        for block in params:
            if x.shape[-1] != block["bias"].size:
                x = jnp.concatenate([x, x], axis=-1)
            y = jax.lax.conv_general_dilated(
                x, block["conv"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            x = x + jax.nn.relu(y * block["scale"] + block["shift"]) @ block["mix"] + block["bias"]
        return jnp.mean(jnp.square(x), axis=(1, 2, 3))

    return params, losses


def pyramid(leaves: int):
    """Layers, each of a shape of its own."""
    return layered(range(40, 41 + leaves // 2))


MODELS = {"perceptron": perceptron, "residual": residual, "pyramid": pyramid}


def compiled_in(name: str, leaves: int, who: str) -> float:
    """Seconds to trace and compile a step."""
    params, losses = MODELS[name](leaves)
    # The compiler is warm for both.
    jax.jit(lambda params: jax.tree.map(jnp.sin, params)).lower(params).compile()
    if who == "adam":
        optimizer = optax.adam(1e-3)

        def step(params, state):
            grads = jax.grad(lambda params: jnp.mean(losses(params)))(params)
            updates, state = optimizer.update(grads, state, params)
            return optax.apply_updates(params, updates), state

        args = (params, optimizer.init(params))
    else:
        algorithm = mutagrad.elitist(0.01, M)

        def step(key, state):
            return algorithm.step(key, state, losses)

        args = (jax.random.key(0), algorithm.init(params))
    jax.block_until_ready(args)
    start = time.perf_counter()
    jax.jit(step).lower(*args).compile()
    return time.perf_counter() - start


def in_a_process(name: str, leaves: int, who: str) -> float:
    command = [sys.executable, "-m", "benchmarks.compilation", "--measure", name, str(leaves), who]
    environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(found.stdout.split()[-1])


def main() -> None:
    if "--measure" in sys.argv:
        parser = argparse.ArgumentParser()
        parser.add_argument("--measure", nargs=3)
        name, leaves, who = parser.parse_args().measure
        print(compiled_in(name, int(leaves), who))
        return
    args = common.arguments(__doc__, repetitions=3)
    rows = []
    for name, leaves in (("perceptron", 200), ("residual", 200), ("pyramid", 200), ("perceptron", 2000)):
        runs = {who: partial(in_a_process, name, leaves, who) for who in ("ours", "adam")}
        seconds = common.interleaved(runs, args.repetitions, rounds_before=0)
        ours, adam = seconds["ours"], seconds["adam"]
        ratio = statistics.median(a / b for a, b in zip(ours, adam, strict=True))
        is_met = ratio <= DEMANDED_RATIO if leaves == 200 else statistics.median(ours) <= DEMANDED_SECONDS
        row = [name, str(leaves), common.spread(adam), common.spread(ours), common.ratio(ours, adam)]
        rows.append([*row, "met" if is_met else "NOT MET"])
    head = ["network", "leaves", "Adam [s]: median (min to max)", "elitist, M = 20 [s]", "ratio", "demand"]
    text = (
        f"Demanded: a ratio of at most {DEMANDED_RATIO:g} with 200 leaves, at most {DEMANDED_SECONDS:g} s with 2,000."
    )
    common.report("compilation", [text, common.table(head, rows)], args, "each a process of its own, interleaved")


if __name__ == "__main__":
    main()
