"""Peak memory of one generation of ten million parameters and 64 offspring, in units of the parameters' bytes.

Run with ``python -m benchmarks.memory`` (Linux). Demanded of ours: at most 6 times the parameters.
"""

import ctypes
import gc
import json
import statistics
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp

import mutagrad
from benchmarks import common

SIGMA = 0.01
BATCH = 8
DEMANDED = 6.0
BIG = [784, 3000, 2400, 200, 10]
TINY = [784, 6, 5, 4, 10]
METHOD = """Every measurement is a fresh process: import everything; run a tiny model of the same kind through the same
code, so that imports, compiler and thread pools are warm; collect garbage, return free memory to the system, and take
the resident memory as the baseline. Then create the parameters and run one generation, compilation included. Peaks are
the kernel's high-water mark of resident memory (VmHWM, reset through /proc/self/clear_refs before each phase) above the
baseline, in units of the parameters' bytes. "Created" is what is resident before compiling: the parameters and the
algorithm's state. "Compile" and "run" are the peaks while compiling ahead of time and while running; evolve does both in
one. "XLA temporary" is the compiled program's own figure (memory_analysis)."""


# --- inside a measured process ----------------------------------------------------------------------------------------


def memory(name: str) -> int:
    """A memory figure of this process from the kernel [bytes]."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))


class Phases:
    """Peak resident memory of each phase of a run [bytes]."""

    def __init__(self):
        self.peaks: dict[str, int] = {}
        self.begin()

    def begin(self) -> None:
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")

    def end(self, phase: str, now: bool = False) -> None:
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
    "ours, jitted step, auto": partial(run_step, evaluation="auto"),
    "ours, evolve, auto": partial(run_evolve, evaluation="auto"),
    "ours, jitted step, mapped": partial(run_step, evaluation="mapped"),
    "ours, jitted step, chunk 4": partial(run_step, evaluation=4),
    "evosax HillClimbing": run_evosax,
}


def measure(path: str, num_offspring: int) -> dict[str, float]:
    """Peaks above the baseline, in units of the parameters' bytes."""
    PATHS[path]([common.mlp(TINY)], num_offspring, Phases())
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    baseline = memory("VmRSS")
    phases = Phases()
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


def fresh(path: str, num_offspring: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.memory", "--child", path, "--num-offspring", str(num_offspring)]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{path}:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    args = common.arguments(__doc__, num_offspring=64, child="")
    if args.child:
        print(json.dumps(measure(args.child, args.num_offspring)))
        return
    figures: dict[str, list[dict]] = {path: [] for path in PATHS}
    for repetition in range(args.repetitions):
        for path, measured in figures.items():
            measured.append(fresh(path, args.num_offspring))
            print(repetition, path, measured[-1], file=sys.stderr, flush=True)
    phases = ("peak", "created", "compile", "run", "temporary")
    rows = []
    for path, measured in figures.items():
        cells = [common.spread([one[phase] for one in measured]) if phase in measured[0] else "" for phase in phases]
        peaks, theirs = ([one["peak"] for one in figures[name]] for name in (path, "evosax HillClimbing"))
        rows.append([path, *cells, common.ratio(peaks, theirs)])
    number = sum(a * b + b for a, b in zip(BIG[:-1], BIG[1:], strict=True))
    verdicts = []
    for path in list(PATHS)[:2]:
        peak = statistics.median(one["peak"] for one in figures[path])
        verdicts.append(f"{path}: {peak:.2f} ({'met' if peak <= DEMANDED else 'NOT MET'})")
    sections = [
        f"MLP {'-'.join(map(str, BIG))}: N = {number} float32 parameters ({4 * number / 1e6:.1f} MB), "
        f"M = {args.num_offspring}, batch of {BATCH}. {METHOD}".replace("\n", " "),
        common.table(["run", *phases[:4], "XLA temporary", "peak / evosax's peak"], rows),
        f"Demanded of ours: at most {DEMANDED:g}. {'; '.join(verdicts)}.",
    ]
    common.report("memory", sections, args)


if __name__ == "__main__":
    main()
