"""Time of a generation with its offspring mapped, vectorised or in chunks: the measurements behind "auto".

Run with ``python -m benchmarks.evaluation``.
"""

import math
import statistics
import time
from functools import partial

import jax
import jax.numpy as jnp

import mutagrad
from benchmarks import common
from mutagrad.evaluation.local import VECTORIZED_ON_CPU, resolve_mode

M = 20
SIGMA = 0.01
MODES = ("mapped", "vectorized", 4)


def problems() -> dict:
    """Name → (params, per-example losses, data)."""

    def quadratic(x, data):
        return jnp.sum(jnp.square(x))

    def random_inputs(number, width):
        x = jax.random.normal(jax.random.key(4), (number, width))
        return x, jax.random.randint(jax.random.key(5), (number,), 0, 10)

    params, losses, data = common.sine_net()
    found = {"net of 90 parameters, K = 1000": (params, losses, data)}
    for size in (100, 1000, 10_000, 100_000):
        found[f"quadratic, N = {size}"] = (jnp.ones(size), quadratic, None)
    found["MLP 64-32-10, batch 1437"] = (common.mlp([64, 32, 10]), common.mlp_losses, random_inputs(1437, 64))
    found["MLP 784-32-10, batch 1024"] = (common.mlp([784, 32, 10]), common.mlp_losses, random_inputs(1024, 784))
    for size in (64, 256):
        params, losses = common.classifier(common.ConvNet(jax.random.key(0)))
        found[f"ConvNet, batch {size}"] = (params, losses, common.random_images(size))
    return found


def milliseconds(params, losses, data, mode, seconds: float):
    """A run of about ``seconds``: milliseconds per generation. The loop's length is an argument: one program."""
    algorithm = mutagrad.elitist(SIGMA, M, evaluation=mode)

    @partial(jax.jit, donate_argnums=1)
    def loop(key, state, data, number):
        def body(index, state):
            generation_key = jax.random.fold_in(key, index)
            return algorithm.step(generation_key, state, lambda params: losses(params, data))[0]

        return jax.lax.fori_loop(0, number, body, state)

    held = {"state": jax.tree.map(jnp.copy, algorithm.init(params)), "number": 1}

    def timed(number):
        start = time.perf_counter()
        held["state"] = jax.block_until_ready(loop(jax.random.key(0), held["state"], data, number))
        return (time.perf_counter() - start) / number

    def run() -> float:
        if held["number"] == 1:  # the round of warming up: compile, then find how many generations fill the time
            timed(1)
            held["number"] = max(2, math.ceil(seconds / timed(2)))
            held["number"] = max(2, math.ceil(seconds / timed(held["number"])))
        return 1e3 * timed(held["number"])

    return run


def excess(threshold: float, rows: list[dict], alternative: str) -> tuple[float, float]:
    """Geometric mean and largest of time/fastest, if M·N up to the threshold is vectorised and the rest not."""
    ratios = [row["vectorized" if row["size"] <= threshold else alternative] / row["fastest"] for row in rows]
    return statistics.geometric_mean(ratios), max(ratios)


def main() -> None:
    args = common.arguments(__doc__, seconds=0.4)
    measured, lines = [], []
    for name, (params, losses, data) in problems().items():
        print(name, flush=True)
        runs = {str(mode): milliseconds(params, losses, data, mode, args.seconds) for mode in MODES}
        times = common.interleaved(runs, args.repetitions)
        medians = {mode: statistics.median(values) for mode, values in times.items()}
        fastest = min(medians, key=medians.get)
        chosen = resolve_mode("auto", params, M)
        size = M * mutagrad.tree.size(params)
        lines.append(
            [
                name,
                common.number(size),
                *(common.spread(times[str(mode)]) for mode in MODES),
                fastest,
                chosen,
                common.ratio(times[str(chosen)], times[fastest]),
            ]
        )
        measured.append({"size": size, "fastest": medians[fastest], **medians})
    head = ["problem", "M·N", *(f"chunk {m} [ms]" if isinstance(m, int) else f"{m} [ms]" for m in MODES)]
    thresholds = sorted({0, VECTORIZED_ON_CPU, *(row["size"] for row in measured)})
    rules = []
    for alternative in ("mapped", "4"):
        for threshold in thresholds:
            mean, worst = excess(threshold, measured, alternative)
            rules.append([common.number(threshold), alternative, f"{mean:.3f}", f"{worst:.2f}"])
    sections = [
        f"Milliseconds per generation, median (min to max), elitist with M = {M}; runs of {args.seconds} s. "
        f"The ConvNet is {common.CONVNET}.",
        common.table([*head, "fastest", "auto chose", "auto / fastest"], lines),
        "## Rules\n\nTime over the fastest way's, if populations of M·N up to a threshold are vectorised: geometric "
        f"mean and worst over the problems above. The library's threshold is {VECTORIZED_ON_CPU}.",
        common.table(["vectorise while M·N ≤", "otherwise", "mean excess", "worst excess"], rules),
    ]
    common.report("evaluation", sections, args)


if __name__ == "__main__":
    main()
