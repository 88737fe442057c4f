"""This version beside another one: generations per second and peak memory of the same runs.

Run with ``python -m benchmarks.versions --other PATH``, where PATH is the ``src`` of a checkout of the other version, such as
``git worktree add ../before a42f63d`` makes. Demanded: no run slower than 0.97, no peak memory higher. Every measurement is a
process of its own: one call that compiles, then the median of several.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp

import mutagrad
from benchmarks import common

DEMANDED = 0.97
TOLERATED = 1.02
"""Peak memory of one program, measured again, spreads by about a hundredth."""
CALLS = 3
SIGMA = 0.01
TEN_MILLION = [784, 3000, 2400, 200, 10]


def convnet():
    params, losses = common.classifier(common.PlainConvNet(jax.random.key(0)))
    return mutagrad.elitist(SIGMA, 20), params, losses, common.random_images(256), 2


def sine():
    params, losses, data = common.sine_net()
    return mutagrad.elitist(SIGMA, 20), params, losses, data, 300


def perceptron():
    data = (jnp.ones((8, 784)) / 784, jnp.zeros(8, jnp.int32))
    return mutagrad.elitist(SIGMA, 8), common.mlp(TEN_MILLION), common.mlp_losses, data, 2


MODELS = {"ConvNet, M = 20": convnet, "net of 90 parameters, M = 20": sine, "MLP of 10⁷ parameters, M = 8": perceptron}
WAYS = ("step in a scan", "evolve")


def measured(model: str, way: str) -> dict:
    """Generations per second, and peak resident memory [bytes], of this process."""
    algorithm, params, losses, data, number = MODELS[model]()
    if way == "evolve":
        batches = mutagrad.minibatches(data, None)

        # A run of one generation takes what every run takes beside its generations, compilation included.
        def run() -> float:
            seconds: list[float] = []
            for generations in (1, 1 + 3 * number):
                start = time.perf_counter()
                mutagrad.evolve(jax.random.key(0), algorithm, params, losses, generations, batches, progress=False)
                seconds.append(time.perf_counter() - start)
            return 3 * number / (seconds[1] - seconds[0])
    else:
        run = common.looped(common.our_generation(algorithm, losses), algorithm.init(params), data, number)
    run()
    rates = [run() for _ in range(CALLS)]
    peak = next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
    return {"rate": statistics.median(rates), "peak": 1024.0 * peak, "source": str(Path(mutagrad.__file__).parents[1])}


def in_a_process(source: Path, model: str, way: str) -> dict:
    command = [sys.executable, "-m", "benchmarks.versions", "--measure", model, way]
    environment = {**os.environ, "PYTHONPATH": str(source)}
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    one = json.loads(found.stdout.splitlines()[-1])
    assert Path(one["source"]) == source.resolve(), f"measured {one['source']} in place of {source}"
    return one


def main() -> None:
    if "--measure" in sys.argv:
        parser = argparse.ArgumentParser()
        parser.add_argument("--measure", nargs=2)
        print(json.dumps(measured(*parser.parse_args().measure)))
        return
    args = common.arguments(__doc__, repetitions=5, other="")
    sources = {"this": Path(mutagrad.__file__).parents[1], "other": Path(args.other).resolve()}
    if not (sources["other"] / "mutagrad").is_dir():
        sys.exit(f"--other: got {args.other!r}, which holds no mutagrad; pass the src folder of another checkout")
    rows = []
    for model in MODELS:
        for way in WAYS:
            runs = {who: partial(in_a_process, source, model, way) for who, source in sources.items()}
            found = common.interleaved(runs, args.repetitions, rounds_before=0)
            rates, peaks = ({who: [one[of] for one in found[who]] for who in found} for of in ("rate", "peak"))
            faster = statistics.median(a / b for a, b in zip(rates["this"], rates["other"], strict=True))
            larger = statistics.median(a / b for a, b in zip(peaks["this"], peaks["other"], strict=True))
            # Interpreter and compiler are most of the memory of a small model.
            is_met = faster >= DEMANDED and (larger <= TOLERATED or "10⁷" not in model)
            ratios = [common.ratio(found["this"], found["other"]) for found in (rates, peaks)]
            row = [model, way, common.spread(rates["other"]), common.spread(rates["this"]), *ratios]
            rows.append([*row, "met" if is_met else "NOT MET"])
    head = [
        "model",
        "run",
        "other [generations/s]",
        "this [generations/s]",
        "ratio of speed",
        "ratio of memory",
        "demand",
    ]
    text = f"Demanded: a ratio of speed of at least {DEMANDED}, of the peak memory of 10⁷ parameters of at most {TOLERATED}."
    common.report("versions", [text, common.table(head, rows)], args, "each a process of its own, interleaved")


if __name__ == "__main__":
    main()
