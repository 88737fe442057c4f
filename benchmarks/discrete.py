"""Networks with int8, ternary and sign weights on the digits, by mutation alone: σ automatic beside fixed ones.

A network 64–32–10 (relu; sign units for sign weights) with real biases and one real factor; cross-entropy of 1,437 digits, test
accuracy on the 360 others. σ of int8 weights is 32 times that of the real parameters, as one of them counts 1/32. Every run has
as many generations of (1+20). The automatic σ starts at 0.01, and at 10⁻⁴ and 10⁴ times that. A network of the same shape with
real weights stands beside them. Run with ``python -m benchmarks.discrete``.
"""

import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

import mutagrad
from benchmarks import common
from benchmarks.sigma_kinds import FIRST_SIGMA, M, runs
from benchmarks.sigma_problems import Problem
from mutagrad.mutation import categories, discrete, scaled

GRID = np.logspace(-3, 0.5, 8)
HIDDEN = 32
UNIT = 32.0
"""int8 weights that count as 1."""
NUM_GENERATIONS = 1500


class Kind(NamedTuple):
    """A kind of weights: how they are made of normal numbers, what a unit of them is, and their mutation."""

    weights_fn: Any
    unit: float
    mutation: mutagrad.Mutation


def of(domain: Any, scale: float = 1.0) -> mutagrad.Mutation:
    weights = {"in": scale, "out": scale}
    rest = {"bias": False, "top": False, "factor": False}
    return scaled(weights | dict.fromkeys(rest, 1.0), discrete({"in": domain, "out": domain} | rest))


KINDS = {
    "int8": Kind(lambda z: jnp.clip(jnp.round(z * UNIT), -127, 127).astype(jnp.int8), UNIT, of(range(-127, 128), UNIT)),
    "ternary": Kind(lambda z: jnp.clip(jnp.round(z), -1, 1).astype(jnp.int8), 1.0, of(range(-1, 2))),
    "signs, and sign units": Kind(
        lambda z: jnp.where(z > 0, 1, -1).astype(jnp.int8), 1.0, of(categories(range(-1, 2, 2)))
    ),
    "real": Kind(lambda z: z, 1.0, mutagrad.mutation.gaussian()),
}


def forward(kind: Kind, has_signs: bool, params: Any, inputs: jax.Array) -> jax.Array:
    first, second = (params[name].astype(jnp.float32) / kind.unit for name in ("in", "out"))
    hidden = inputs @ first / 8 + params["bias"]
    hidden = jnp.sign(hidden) if has_signs else jax.nn.relu(hidden)
    return params["factor"] * (hidden @ second) / np.sqrt(HIDDEN) + params["top"]


def problem(name: str, kind: Kind) -> tuple[Problem, Any]:
    """Training on the digits, and test accuracy as a function of the params."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.data))
    inputs, labels = jnp.asarray(digits.data[order] / 16, jnp.float32), jnp.asarray(digits.target[order])
    keys = jax.random.split(jax.random.key(7))
    start = {
        "in": kind.weights_fn(jax.random.normal(keys[0], (64, HIDDEN))),
        "out": kind.weights_fn(jax.random.normal(keys[1], (HIDDEN, 10))),
        "bias": jnp.zeros(HIDDEN),
        "top": jnp.zeros(10),
        "factor": jnp.ones(()),
    }
    has_signs = name.startswith("signs")

    def loss_fn(params: Any, batch: Any) -> jax.Array:
        del batch
        logits = forward(kind, has_signs, params, inputs[:1437])
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:1437, None], 1)[:, 0]

    def accuracy(params: Any) -> jax.Array:
        return jnp.mean(jnp.argmax(forward(kind, has_signs, params, inputs[1437:]), axis=1) == labels[1437:])

    own = Problem(loss_fn, start, None, lambda params: jnp.mean(loss_fn(params, None)), NUM_GENERATIONS)
    return own, own._replace(measure_fn=accuracy)


def measure(name: str, kind: Kind, keys: jax.Array) -> list[str]:
    own, tested = problem(name, kind)
    fixed = mutagrad.elitist(FIRST_SIGMA, M, mutation=kind.mutation)
    losses = np.median(runs(fixed, own, GRID, keys).losses, axis=1)
    best = losses.min()
    automatic = mutagrad.adapt_sigma(fixed)
    starts = FIRST_SIGMA * np.array([1.0, 1e-4, 1e4])
    found, ends, *_ = runs(automatic, own, starts, keys)
    accuracies = runs(automatic, tested, starts[:1], keys).losses
    cells = [common.spread([float(one) for one in row / best]) for row in found]
    return [
        name,
        f"{float(own.measure_fn(own.start)):.3g}",
        f"{best:.3g}",
        f"{GRID[losses.argmin()]:.2g}",
        *cells,
        f"{np.median(ends[0]):.2g}",
        common.spread([100 * float(one) for one in accuracies.ravel()]),
    ]


def main() -> None:
    args = common.arguments(__doc__, repetitions=3, key=1, only="")
    keys = jax.random.split(jax.random.key(args.key), args.repetitions)
    rows = []
    for name, kind in KINDS.items():
        if args.only in name:
            rows.append(measure(name, kind, keys))
            print(rows[-1], file=sys.stderr, flush=True)
    head = [
        "weights",
        "loss at the start",
        "best fixed σ's",
        "which σ",
        "automatic",
        "… from 10⁻⁴ times that",
        "… from 10⁴ times that",
        "σ at the end",
        "test accuracy [%]",
    ]
    text = (
        f"Final loss over that of the best of {len(GRID)} fixed σ from {GRID[0]:g} to {GRID[-1]:.2g}: median (min to max) over "
        f"{args.repetitions} keys; (1+{M}), {NUM_GENERATIONS:,} generations."
    )
    common.report("discrete", [common.table(head, rows), text], args, "one key after another")


if __name__ == "__main__":
    main()
