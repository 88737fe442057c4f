"""Peak memory of the effective rank of ten million parameters, in units of the parameters' bytes.

Run with ``python -m benchmarks.curvature`` (Linux). Demanded: at most 8 times the parameters.
"""

import itertools
import json
import subprocess
import sys
import time
from pathlib import Path

import jax

import mutagrad
from benchmarks import common
from benchmarks.memory import BIG, TINY, Phases, batch, memory

DEMANDED = 8.0
NUM_PROBES, NUM_STEPS = 4, 20
NUMBER = sum(a * b + b for a, b in itertools.pairwise(BIG))
METHOD = """
Every measurement is a fresh process: import everything; run a tiny model of the same kind through the same code, so that
imports, compiler and thread pools are warm; return free memory to the system and take the resident memory as the
baseline. Then create the parameters, compile effective_rank and call it twice. "Compile" and "first call" are peaks of
resident memory (VmHWM, reset before each phase) above that baseline; the compiler takes what it takes whatever the size
of the model, and keeps a part of it. "Second call" is the peak of the second call above what was resident before it, and
the parameters: what the computation itself holds. "Compiler's count" is the compiled program's own figure
(memory_analysis): arguments, results and temporaries. Probes and Lanczos steps run one after another, so that their
number does not matter to the memory.
""".strip()


def measure(sizes: list[int]) -> dict[str, float]:
    """Peaks in units of the parameters' bytes, the seconds of the second call, and the rank that was found."""
    phases = Phases()
    baseline, unit = memory("VmRSS"), 4 * NUMBER
    # Compiled, so that making them takes no more memory than they have.
    params = jax.block_until_ready(jax.jit(lambda: common.mlp(sizes))())
    data, key = batch(), jax.random.key(0)

    def rank(params, key):
        return mutagrad.theory.effective_rank(
            lambda params: common.mlp_losses(params, data), params, key, NUM_PROBES, NUM_STEPS
        )

    program = jax.jit(rank).lower(params, key).compile()
    phases.end("compile")
    found = jax.block_until_ready(program(params, key))
    phases.end("first call")
    resident, start = memory("VmRSS"), time.perf_counter()
    jax.block_until_ready(program(params, key))
    seconds = time.perf_counter() - start
    phases.end("second call")
    peaks = {phase: (peak - baseline) / unit for phase, peak in phases.peaks.items()}
    peaks["second call"] = (phases.peaks["second call"] - resident) / unit + 1
    counted = program.memory_analysis()
    sums = counted.temp_size_in_bytes + counted.argument_size_in_bytes + counted.output_size_in_bytes
    figures = {"rank": float(found.rank), "error": float(found.error), "seconds": seconds}
    return peaks | {"compiler's count": sums / unit} | figures


def fresh() -> dict[str, float]:
    """The figures of one fresh process."""
    command = [sys.executable, "-m", "benchmarks.curvature", "--child", "yes"]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"exit status {done.returncode}\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    args = common.arguments(__doc__, repetitions=3, child="")
    if args.child:
        measure(TINY)
        print(json.dumps(measure(BIG)))
        return
    measured = [fresh() for _ in range(args.repetitions)]
    names = ["compile", "first call", "second call", "compiler's count", "seconds", "rank", "error"]
    cells = [common.spread([one[name] for one in measured]) for name in names]
    peak = max(max(one["second call"], one["compiler's count"]) for one in measured)
    sections = [
        f"MLP {'-'.join(map(str, BIG))}: N = {NUMBER} float32 parameters ({4 * NUMBER / 1e6:.1f} MB), {NUM_PROBES} probes, "
        f"{NUM_STEPS} Lanczos steps at most. {METHOD}".replace("\n", " "),
        common.table([*names[:4], "seconds of the second call", "r", "its standard error"], [cells]),
        f"Demanded: at most {DEMANDED:g}. The second call and the compiler's count have {peak:.2f} at most: "
        f"{'met' if peak <= DEMANDED else 'NOT MET'}.",
    ]
    common.report("curvature", sections, args)


if __name__ == "__main__":
    main()
