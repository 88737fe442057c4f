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
baseline. Then create the parameters and call effective_rank once. "Peak" is the kernel's high-water mark (VmHWM) above
the baseline, the parameters and the compiler included, in units of the parameters' bytes. Probes and Lanczos steps run one
after another, so that their number does not matter to the memory.
""".strip()


def measure() -> dict[str, float]:
    """Peak above the baseline in units of the parameters' bytes, seconds, and the rank that was found."""

    def rank(sizes: list[int]) -> mutagrad.theory.EffectiveRank:
        params = jax.block_until_ready(jax.jit(lambda: common.mlp(sizes))())
        data = batch()

        def loss_fn(params):
            return common.mlp_losses(params, data)

        found = mutagrad.theory.effective_rank(loss_fn, params, jax.random.key(0), NUM_PROBES, NUM_STEPS)
        return jax.block_until_ready(found)

    rank(TINY)
    phases = Phases()
    baseline = memory("VmRSS")
    start = time.perf_counter()
    found = rank(BIG)
    seconds = time.perf_counter() - start
    phases.end("run")
    figures = {"rank": float(found.rank), "error": float(found.error), "seconds": seconds}
    return figures | {"peak": (phases.peaks["run"] - baseline) / (4 * NUMBER)}


def fresh() -> dict[str, float]:
    """The figures of one fresh process."""
    command = [sys.executable, "-m", "benchmarks.curvature", "--child", "yes"]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"exit status {done.returncode}\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    args = common.arguments(__doc__, repetitions=5, child="")
    if args.child:
        print(json.dumps(measure()))
        return
    measured = [fresh() for _ in range(args.repetitions)]
    peaks = [one["peak"] for one in measured]
    cells = [common.spread([one[name] for one in measured]) for name in ("peak", "seconds", "rank", "error")]
    sections = [
        f"MLP {'-'.join(map(str, BIG))}: N = {NUMBER} float32 parameters ({4 * NUMBER / 1e6:.1f} MB), {NUM_PROBES} probes, "
        f"{NUM_STEPS} Lanczos steps at most. {METHOD}".replace("\n", " "),
        common.table(["peak", "seconds, compilation included", "r", "its standard error"], [cells]),
        f"Demanded: at most {DEMANDED:g}; the largest is {max(peaks):.2f} ({'met' if max(peaks) <= DEMANDED else 'NOT MET'}).",
    ]
    common.report("curvature", sections, args)


if __name__ == "__main__":
    main()
