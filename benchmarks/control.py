"""What automatic σ costs: time of a generation and bytes of state, beside the same algorithm with σ fixed.

A network of about 10⁴ parameters on batches of 256 digits. On one batch that stays, automatic σ evaluates as much as σ fixed. On
batches that change it evaluates the parent before too. There (1+21) with σ fixed, which evaluates as much, stands beside it, and
(1+20), for the price of knowing. Run with ``python -m benchmarks.control``.
"""

import itertools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from sklearn.datasets import load_digits

import mutagrad
from benchmarks import common

M = 20
WIDTHS = (64, 96, 32, 10)
CALLS = 20
GENERATIONS = 20


def network(key: jax.Array) -> dict[str, jax.Array]:
    params = {}
    for i, (rows, columns) in enumerate(itertools.pairwise(WIDTHS)):
        key, own = jax.random.split(key)
        params |= {f"w{i}": jax.random.normal(own, (rows, columns)) / rows**0.5, f"b{i}": jnp.zeros(columns)}
    return params


def cross_entropy(params: Any, batch: Any) -> jax.Array:
    hidden, labels = batch
    for i in range(len(WIDTHS) - 1):
        hidden = hidden @ params[f"w{i}"] + params[f"b{i}"]
        hidden = jax.nn.relu(hidden) if i < len(WIDTHS) - 2 else hidden
    return -jnp.take_along_axis(jax.nn.log_softmax(hidden), labels[:, None], axis=1)[:, 0]


def timed(algorithm: mutagrad.Algorithm, is_resampled: bool, data: Any) -> Callable[[], float]:
    """Seconds of a generation, in a compiled loop; each call goes on where the last one ended."""

    @jax.jit
    def run(state: Any, key: jax.Array) -> Any:
        def generation(state: Any, key: jax.Array) -> Any:
            step_key, batch_key = jax.random.split(key)
            rows = jax.random.randint(batch_key, (256,), 0, len(data[1])) if is_resampled else jnp.arange(256)
            batch = jax.tree.map(lambda leaf: leaf[rows], data)
            step = algorithm.step(step_key, state, lambda p: cross_entropy(p, batch), is_resampled=is_resampled)
            return step[0], None

        return jax.lax.scan(generation, state, jax.random.split(key, GENERATIONS))[0]

    state, calls = algorithm.init(network(jax.random.key(0))), iter(range(10**9))

    def measured() -> float:
        nonlocal state
        start = time.perf_counter()
        for _ in range(CALLS):
            state = jax.block_until_ready(run(state, jax.random.key(next(calls))))
        return (time.perf_counter() - start) / (CALLS * GENERATIONS)

    return measured


def size(algorithm: mutagrad.Algorithm) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(algorithm.init(network(jax.random.key(0)))))


def main() -> None:
    args = common.arguments(__doc__, repetitions=9)
    digits = load_digits()
    data = jnp.asarray(digits.data / 16, jnp.float32), jnp.asarray(digits.target)
    fixed = mutagrad.elitist(0.003, M)
    automatic = mutagrad.adapt_sigma(fixed)
    rows = []
    for is_resampled, others in (
        (False, {"(1+20)": fixed}),
        (True, {"(1+21)": mutagrad.elitist(0.003, M + 1), "(1+20)": fixed}),
    ):
        runs = {name: timed(one, is_resampled, data) for name, one in ({"automatic": automatic} | others).items()}
        found = common.interleaved(runs, args.repetitions)
        for name in others:
            ratios = [a / b for a, b in zip(found["automatic"], found[name], strict=True)]
            kind = "a fresh batch a generation" if is_resampled else "the same batch"
            rows.append(
                [kind, f"{name}, σ fixed", common.spread([1e3 * one for one in found[name]]), common.spread(ratios)]
            )
    params = sum(leaf.nbytes for leaf in jax.tree.leaves(network(jax.random.key(0))))
    text = (
        f"{params // 4:,} parameters, {params:,} bytes. State: {size(fixed):,} bytes with σ fixed, {size(automatic):,} with "
        "automatic σ. Ratios are of times measured in turns."
    )
    table = common.table(["losses on", "beside", "ms a generation", "time, automatic over that"], rows)
    common.report("control", [table, text], args, "in turns")


if __name__ == "__main__":
    main()
