"""Large models: peak memory and time of one generation, and how fast they are mutated.

Run with ``python -m benchmarks.large`` (Linux; 6 GB of free memory). Demanded of a hundred million float32 parameters: at most 3
times their bytes by ``step``, 4 by ``evolve``; of mutations: 8 times JAX's ``random.normal`` for signs, 1 for normal numbers.
"""

import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

import mutagrad
from benchmarks import common
from benchmarks.memory import TINY, Phases, fresh, memory, release
from mutagrad import tree

SIGMA = 0.001
M = 16
BATCH = 32
MODELS = {
    "float32": [784, 7000, 7000, 6488, 10],
    "bfloat16": [784, 16000, 16000, 16000, 16000, 13700, 10],
}
THRIFTY = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}
"""What `mutagrad.evolve` tells the compiler of a CPU of large states, for a step that is compiled by hand."""
DEMANDED = {"step": 3.0, "evolve": 4.0}
LEAF = (24_000, 4096)
METHOD = """
Every measurement is a fresh process: import everything; run a tiny model of the same kind through the same code; return
free memory to the system and take the resident memory as the baseline. Then make the parameters, which count, and run
one generation with `evaluation="mapped"`, which "auto" picks here. "Peak" is the kernel's high-water mark (VmHWM) above
the baseline over all phases, the compiler included (some 150 MB whatever the model), in units of the parameters' bytes
and in GB; "XLA temporary" is the compiled program's own figure (memory_analysis). The state of `step` is donated and
nobody else holds the parameters. The caller of `evolve` holds its parameters, one unit, but for the rows "params
dropped". "Compile" and "generation" are seconds; `evolve` has both in one.
""".strip()


# --- inside a measured process ----------------------------------------------------------------------------------------


def model(sizes: list[int], dtype: str) -> Any:
    """Weights and biases; the time does not depend on what they are."""
    return [(jnp.full((a, b), a**-0.5, dtype), jnp.zeros(b, dtype)) for a, b in itertools.pairwise(sizes)]


def batch(dtype: str) -> tuple[jax.Array, jax.Array]:
    return (jnp.ones((BATCH, 784)) / 784).astype(dtype), jnp.zeros(BATCH, jnp.int32)


def timed(function: Callable[[], Any], figures: dict[str, float], name: str) -> Any:
    start = time.perf_counter()
    value = jax.block_until_ready(function())
    figures[name] = time.perf_counter() - start
    return value


def compiled_generation(
    generation: Callable, state: list, dtype: str, phases: Phases, options: Any, runs: bool = True
) -> dict[str, float]:
    """The seconds to compile a generation with its state donated, and to run it once."""
    figures: dict[str, float] = {}
    arguments = (jax.random.key(0), state.pop(), batch(dtype))
    phases.end("created", now=True)
    lowered = jax.jit(generation, donate_argnums=1).lower(*arguments)
    program = timed(lambda: lowered.compile(compiler_options=options), figures, "compile")
    phases.end("compile")
    figures["temporary"] = program.memory_analysis().temp_size_in_bytes
    if runs:
        state, _ = timed(lambda: program(*arguments), figures, "generation")
        phases.end("run")
        if options is not None and dtype == "float32":
            # The measurement of memory is over.
            figures["slower"] = slowdown(lowered.compile(), program, arguments, state)
    return figures


def slowdown(default: Callable, program: Callable, arguments: tuple, state: Any) -> float:
    """Seconds of a generation over those of the default, interleaved: the median of three rounds after one."""
    ratios = []
    for _ in range(4):
        figures: dict[str, float] = {}
        for name, own in (("default", default), ("other", program)):
            state, _ = timed(lambda own=own, state=state: own(arguments[0], state, arguments[2]), figures, name)
        ratios.append(figures["other"] / figures["default"])
    return statistics.median(ratios[1:])


def run_step(sizes: list[int], dtype: str, phases: Phases, options: Any = None) -> dict[str, float]:
    algorithm = mutagrad.elitist(SIGMA, M)
    generation = common.our_generation(algorithm, common.mlp_losses)
    return compiled_generation(generation, [algorithm.init(model(sizes, dtype))], dtype, phases, options)


def run_thrifty_step(sizes: list[int], dtype: str, phases: Phases) -> dict[str, float]:
    return run_step(sizes, dtype, phases, THRIFTY)


def run_evolve(sizes: list[int], dtype: str, phases: Phases, is_dropped: bool = False) -> dict[str, float]:
    figures: dict[str, float] = {}
    held, batches = [model(sizes, dtype)], mutagrad.minibatches(batch(dtype), None)
    phases.end("created", now=True)

    def run() -> Any:
        params = held.pop if is_dropped else lambda: held[0]
        return mutagrad.evolve(
            jax.random.key(0), mutagrad.elitist(SIGMA, M), params(), common.mlp_losses, 1, batches, progress=False
        ).params

    timed(run, figures, "generation")
    phases.end("run")
    return figures


def run_dropping_evolve(sizes: list[int], dtype: str, phases: Phases) -> dict[str, float]:
    return run_evolve(sizes, dtype, phases, is_dropped=True)


def run_evosax(sizes: list[int], dtype: str, phases: Phases) -> dict[str, float]:
    """Compiled and not run: it takes more memory than there is."""
    loss_fn = common.mean_of(common.mlp_losses)
    generation, state = common.evosax_hill_climbing(model(sizes, dtype), loss_fn, SIGMA, M)
    return compiled_generation(generation, [state], dtype, phases, None, runs=False)


BILLION = ("thrifty", "evolve")
"""Runs of the billion, whose generation takes minutes."""
PATHS = {
    "step": ("step", run_step),
    "thrifty": ("step, memory-optimised scheduler", run_thrifty_step),
    "evolve": ("evolve", run_evolve),
    "dropped": ("evolve, params dropped", run_dropping_evolve),
    "evosax": ("evosax HillClimbing, compiled only", run_evosax),
}


def measure(path: str, dtype: str) -> dict[str, float]:
    """Peaks above the baseline in units of the parameters' bytes, and seconds."""
    run, sizes = PATHS[path][1], MODELS[dtype]
    run(TINY, dtype, Phases())
    release()
    phases = Phases()
    baseline = memory("VmRSS")
    figures = run(sizes, dtype, phases)
    unit = number_of(sizes) * jnp.dtype(dtype).itemsize
    if "temporary" in figures:
        figures["temporary"] /= unit
    peak = max(phases.peaks.values()) - baseline
    return figures | {"peak": peak / unit, "gigabytes": peak / 1e9}


def number_of(sizes: list[int]) -> int:
    return sum(a * b + b for a, b in itertools.pairwise(sizes))


def mutations(repetitions: int) -> dict[str, list[float]]:
    """Elements per second: noise by itself, and added to a leaf in place."""
    key, held = jax.random.key(0), [jnp.zeros(LEAF)]
    draws = {
        "jax.random.normal": lambda key: jax.random.normal(key, LEAF),
        "one number for all": lambda key: jnp.full(LEAF, jax.random.normal(key)),
    }
    for name in ("gaussian", "rademacher", "low_rank"):
        sample_fn = getattr(mutagrad.mutation, name)().sample_fn
        draws[name] = lambda key, sample_fn=sample_fn: sample_fn(key, jnp.zeros(LEAF))
    runs: dict[str, Callable] = {}

    def added(draw_fn: Callable) -> Callable:
        @partial(jax.jit, donate_argnums=0)
        def add(leaf: jax.Array, key: jax.Array) -> jax.Array:
            return tree.add_scaled(leaf, draw_fn(key), jnp.float32(SIGMA))

        return lambda: held.append(jax.block_until_ready(add(held.pop(), key)))

    def alone(draw_fn: Callable) -> Callable:
        drawn = jax.jit(draw_fn)
        return lambda: jax.block_until_ready(drawn(key))

    for name, draw_fn in draws.items():
        runs |= {f"{name}, noise": alone(draw_fn), f"{name}, leaf + σ noise in place": added(draw_fn)}
    size = held[0].size

    def rate(run: Callable) -> float:
        start = time.perf_counter()
        run()
        return size / (time.perf_counter() - start)

    return common.interleaved({name: lambda run=run: rate(run) for name, run in runs.items()}, repetitions)


# --- outside ----------------------------------------------------------------------------------------------------------


def cell(figures: dict[str, float], name: str) -> str:
    return common.number(figures[name]) if name in figures else ""


def main() -> None:
    args = common.arguments(__doc__, repetitions=5, child="", dtype="", skip="")
    if args.child:
        found = mutations(args.repetitions) if args.child == "mutations" else measure(args.child, args.dtype)
        print(json.dumps(found))
        return
    sections = [METHOD.replace("\n", " ")]
    for dtype, sizes in MODELS.items():
        rows, verdicts = [], []
        paths = [path for path in PATHS if path != args.skip and (dtype == "float32" or path in BILLION)]
        for path in paths:
            figures = fresh("benchmarks.large", ["--child", path, "--dtype", dtype])
            print(dtype, path, figures, file=sys.stderr, flush=True)
            columns = ("peak", "gigabytes", "temporary", "compile", "generation")
            rows.append([PATHS[path][0], *(cell(figures, name) for name in columns)])
            if dtype == "float32" and path in DEMANDED:
                is_met = "met" if figures["peak"] <= DEMANDED[path] else "NOT MET"
                verdicts.append(f"Demanded: {path} at most {DEMANDED[path]:g}: {figures['peak']:.2f} ({is_met}).")
            if "slower" in figures:
                verdicts.append(
                    f"Seconds of a generation with the memory-optimised scheduler over those with the default one, interleaved: "
                    f"{figures['slower']:.2f}. (Those in the table are of one generation each, under the load of the moment.)"
                )
        number = number_of(sizes)
        sections += [
            f"## MLP {'-'.join(map(str, sizes))}: {number / 1e6:,.1f} million {dtype} parameters, "
            f"{number * jnp.dtype(dtype).itemsize / 1e9:.2f} GB; M = {M}, batch of {BATCH}",
            common.table(["run", "peak", "peak, GB", "XLA temporary", "compile, s", "generation, s"], rows),
            *([" ".join(verdicts)] if verdicts else []),
        ]
    rates = fresh("benchmarks.large", ["--child", "mutations", "--repetitions", str(args.repetitions)])
    reference = {name.split(", ")[1]: values for name, values in rates.items() if name.startswith("jax")}
    rows = [
        [name, common.spread([rate / 1e6 for rate in values]), common.ratio(values, reference[name.split(", ")[1]])]
        for name, values in rates.items()
    ]
    in_place = "leaf + σ noise in place"
    plain = rates[f"jax.random.normal, {in_place}"]
    verdicts = []
    for name, least in (("rademacher", 8), ("gaussian", 1)):
        own = statistics.median(a / b for a, b in zip(rates[f"{name}, {in_place}"], plain, strict=True))
        verdicts.append(f"{name} at least {least}: {own:.1f} ({'met' if own >= least else 'NOT MET'})")
    sections += [
        f"## Mutations of a float32 leaf of {LEAF[0] * LEAF[1] / 1e6:.0f} million",
        "Noise by itself is written to new memory, which the system hands out no faster than the row of one number for all says. "
        "A mutation in place is a pass over the leaf, as a generation has it.",
        common.table(["run", "million elements/s: median (min to max)", "times jax.random.normal, same form"], rows),
        f"Demanded in place: {'; '.join(verdicts)}.",
    ]
    common.report("large", sections, args, "of mutations, interleaved; all else once, each a process of its own")


if __name__ == "__main__":
    main()
