"""Peak memory of one generation of ten million parameters and 64 offspring, in units of the parameters' bytes.

Run with ``python -m benchmarks.memory`` (Linux). Demanded of ours: at most 6 times the parameters.
"""

import ctypes
import gc
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp

import mutagrad
from benchmarks import common

SIGMA = 0.01
BATCH = 8
DEMANDED = 6.0
CACHED = ", compiled before"
BIG = [784, 3000, 2400, 200, 10]
TINY = [784, 6, 5, 4, 10]
METHOD = """
Every measurement is a fresh process: import everything; run a tiny model of the same kind through the same code, so
that imports, compiler and thread pools are warm; return free memory to the system (as before each phase) and take the
resident memory as the baseline. Then create the parameters and run one generation. Figures are resident memory above
the baseline in units of the parameters' bytes. "Created" is what is resident once parameters and state exist, the code
compiled for making them included; "compile" and "run" are peaks, the kernel's high-water mark (VmHWM, reset before each
phase), and evolve has both in one. The compiler takes about 160 MB whatever the model, so every path is measured twice:
cold, and with the programs read from a compilation cache that an earlier process filled. "XLA temporary" is the
compiled program's own figure (memory_analysis), without parameters and state.
""".strip()


# --- inside a measured process ----------------------------------------------------------------------------------------


def memory(name: str) -> int:
    """A memory figure of this process from the kernel [bytes]."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))


def release() -> None:
    """Return memory that nobody holds to the system."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


class Phases:
    """Peak resident memory of each phase of a run [bytes]."""

    def __init__(self):
        self.peaks: dict[str, int] = {}
        self.begin()

    def begin(self) -> None:
        release()
        Path("/proc/self/clear_refs").write_text("5")

    def end(self, phase: str, now: bool = False) -> None:
        if now:
            release()
        self.peaks[phase] = memory("VmRSS" if now else "VmHWM")
        self.begin()


def batch() -> tuple[jax.Array, jax.Array]:
    return jnp.ones((BATCH, 784)) / 784, jnp.zeros(BATCH, jnp.int32)


def compiled_generation(generation, state: list, phases: Phases) -> None:
    """Compile ``generation(key, state, data)`` with its state donated, then run it once."""
    arguments = (jax.random.key(0), state.pop(), batch())
    phases.end("created", now=True)
    program = jax.jit(generation, donate_argnums=1).lower(*arguments).compile()
    phases.end("compile")
    phases.peaks["temporary"] = program.memory_analysis().temp_size_in_bytes
    state.append(jax.block_until_ready(program(*arguments)))
    phases.end("run")


def run_step(params: list, num_offspring: int, phases: Phases, evaluation: str | int) -> None:
    algorithm = mutagrad.elitist(SIGMA, num_offspring, evaluation=evaluation)
    generation = common.our_generation(algorithm, common.mlp_losses)
    compiled_generation(generation, [algorithm.init(params.pop())], phases)


def run_evolve(params: list, num_offspring: int, phases: Phases, evaluation: str | int) -> None:
    algorithm = mutagrad.elitist(SIGMA, num_offspring, evaluation=evaluation)
    batches = mutagrad.minibatches(batch(), None)
    phases.end("created", now=True)
    mutagrad.evolve(jax.random.key(0), algorithm, params[0], common.mlp_losses, 1, batches, progress=False)
    phases.end("run")


def run_evosax(params: list, num_offspring: int, phases: Phases) -> None:
    loss_fn = common.mean_of(common.mlp_losses)
    generation, state = common.evosax_hill_climbing(params.pop(), loss_fn, SIGMA, num_offspring)
    compiled_generation(generation, [state], phases)


PATHS = {
    "ours, jitted step, mapped": partial(run_step, evaluation="mapped"),
    "ours, evolve, mapped": partial(run_evolve, evaluation="mapped"),
    "ours, jitted step, chunk 4": partial(run_step, evaluation=4),
    "evosax HillClimbing": run_evosax,
}


def measure(path: str, num_offspring: int) -> dict[str, float]:
    """Peaks above the baseline, in units of the parameters' bytes."""
    PATHS[path]([common.mlp(TINY)], num_offspring, Phases())
    phases = Phases()
    baseline = memory("VmRSS")
    # Compiled, so that making them takes no more memory than they have.
    params = [jax.block_until_ready(jax.jit(lambda: common.mlp(BIG))())]
    unit = 4 * mutagrad.tree.size(params)
    PATHS[path](params, num_offspring, phases)
    temporary = phases.peaks.pop("temporary", None)
    units = {phase: (peak - baseline) / unit for phase, peak in phases.peaks.items()}
    units["peak"] = max(units.values())
    if temporary is not None:
        units["temporary"] = temporary / unit
    return units | {"baseline": baseline / unit}


# --- outside ----------------------------------------------------------------------------------------------------------


def fresh(module: str, arguments: list[str], cache: str | None = None) -> dict:
    """The figures of one fresh process, which prints them on its last line."""
    command = [sys.executable, "-m", module, *arguments]
    caching = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
    environment = os.environ | (caching | {"JAX_COMPILATION_CACHE_DIR": cache} if cache else {})
    root = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: exit status {done.returncode}\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    args = common.arguments(__doc__, repetitions=5, num_offspring=64, child="", skip="")
    if args.child:
        print(json.dumps(measure(args.child, args.num_offspring)))
        return
    paths = [path for path in PATHS if not args.skip or args.skip not in path]
    figures: dict[str, list[dict]] = {path + how: [] for path in paths for how in ("", CACHED)}
    with tempfile.TemporaryDirectory() as cache:

        def measured_in(path: str, cache: str | None) -> dict:
            return fresh("benchmarks.memory", ["--child", path, "--num-offspring", str(args.num_offspring)], cache)

        for path in paths:
            measured_in(path, cache)
        for repetition in range(args.repetitions):
            for name, measured in figures.items():
                is_cached = name.endswith(CACHED)
                measured.append(measured_in(name.removesuffix(CACHED), cache if is_cached else None))
                print(repetition, name, measured[-1], file=sys.stderr, flush=True)
    phases = ("peak", "created", "compile", "run", "temporary")
    rows = []
    for path, measured in figures.items():
        cells = [common.spread([one[phase] for one in measured]) if phase in measured[0] else "" for phase in phases]
        theirs = "evosax HillClimbing" + (CACHED if path.endswith(CACHED) else "")
        peaks = [one["peak"] for one in measured]
        ratio = common.ratio(peaks, [one["peak"] for one in figures[theirs]]) if theirs in figures else ""
        rows.append([path, *cells, ratio])
    number = sum(a * b + b for a, b in itertools.pairwise(BIG))
    verdicts = []
    for path in [path + how for path in list(PATHS)[:2] for how in ("", CACHED)]:
        peak = statistics.median(one["peak"] for one in figures[path])
        verdicts.append(f"{path}: {peak:.2f} ({'met' if peak <= DEMANDED else 'NOT MET'})")
    sections = [
        f"MLP {'-'.join(map(str, BIG))}: N = {number} float32 parameters ({4 * number / 1e6:.1f} MB), "
        f"M = {args.num_offspring}, batch of {BATCH}. {METHOD}".replace("\n", " "),
        common.table(["run", *phases[:4], "XLA temporary", "peak / evosax's peak"], rows),
        f"Demanded of ours: at most {DEMANDED:g}. {'; '.join(verdicts)}.",
    ]
    common.report("memory", sections, args, "each a process of its own")


if __name__ == "__main__":
    main()
