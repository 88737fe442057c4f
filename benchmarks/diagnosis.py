"""What `mutagrad.diagnose` takes: the ConvNet on 512 images, and an MLP of ten million parameters, each in a fresh process.

Run with ``python -m benchmarks.diagnosis`` (Linux). Demanded: 10 s for the ConvNet; for the MLP 60 s, and 8 times the memory of
its parameters beside what any diagnosis takes.
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax

import mutagrad
from benchmarks import common
from benchmarks.memory import BIG, TINY, Phases, memory
from mutagrad.lab.tasks.convnet import ConvNet
from mutagrad.lab.tasks.data import load
from mutagrad.lab.tasks.losses import cross_entropy
from mutagrad.lab.tasks.models import lecun

DEMANDED = {"convnet": 10.0, "mlp": 60.0}
DEMANDED_MEMORY = 8.0
EXAMPLES = 64
METHOD = (
    "Every row is a fresh process. Seconds are those of the call, compilation included, on the clock and of all cores together; "
    "again: a second call, which compiles again. Memory is the peak of resident memory (VmHWM) during the first call above what "
    "was resident before the parameters were made, in units of their bytes. Alone: all that the first diagnosis of a process "
    "takes, SciPy and the compiler's own with it, whatever the model. After another: a model of 5,000 parameters was diagnosed "
    "before, as benchmarks/memory.py does it, so that what is left grows with the model; this is what is demanded."
)


def convnet() -> tuple[Any, Any, Any]:
    """Losses, parameters and a batch."""
    data = load("mnist")
    params, static = eqx.partition(ConvNet(jax.random.key(0)), eqx.is_array)

    def losses(params, batch):
        return cross_entropy(eqx.combine(params, static)(batch[0]), batch[1])

    return losses, lecun(params), jax.tree.map(jax.numpy.asarray, (data.train_inputs[:512], data.train_targets[:512]))


def mlp(sizes: list[int]) -> tuple[Any, Any, Any]:
    params = jax.block_until_ready(jax.jit(lambda: common.mlp(sizes))())
    keys = jax.random.split(jax.random.key(1))
    data = jax.random.normal(keys[0], (EXAMPLES, sizes[0])), jax.random.randint(keys[1], (EXAMPLES,), 0, sizes[-1])
    return common.mlp_losses, params, data


def diagnosed(make: Any) -> dict[str, float]:
    """Seconds and memory of two diagnoses."""
    phases, before = Phases(), memory("VmRSS")
    losses, params, data = make()
    found = {}
    for name in ("first", "again"):
        start, used = time.perf_counter(), _cpu()
        diagnosis = mutagrad.diagnose(jax.random.key(0), losses, params, batch=data)
        found[name] = time.perf_counter() - start
        found[f"{name} cpu"] = _cpu() - used
        phases.end(name)
    size = 4 * mutagrad.tree.size(params)
    return found | {"memory": (phases.peaks["first"] - before) / size, "evaluations": diagnosis.num_evaluations}


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def fresh(case: str) -> dict[str, float]:
    """The figures of one fresh process."""
    command = [sys.executable, "-m", "benchmarks.diagnosis", "--child", case]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"exit status {done.returncode}\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    args = common.arguments(__doc__, repetitions=3, child="")
    if args.child == "convnet":
        print(json.dumps(diagnosed(convnet)))
        return
    if args.child:
        mlp(TINY)
        if args.child == "after another":
            diagnosed(lambda: mlp(TINY))
        print(json.dumps(diagnosed(lambda: mlp(BIG))))
        return
    rows, verdicts = [], []
    for case, demanded in DEMANDED.items():
        measured = [fresh(case) for _ in range(args.repetitions)]
        cells = [common.spread([one[name] for one in measured]) for name in ("first", "first cpu", "again")]
        # Beside a small network the compiler's memory is all that there is.
        memories = ["", ""]
        if case == "mlp":
            after = [fresh("after another")["memory"] for _ in range(args.repetitions)]
            memories = [common.spread([one["memory"] for one in measured]), common.spread(after)]
        rows.append([case, *cells, *memories, str(measured[0]["evaluations"])])
        seconds = max(one["first"] for one in measured)
        verdicts.append(f"{case}: at most {demanded:g} s, {seconds:.1f} s at most, {_met(seconds <= demanded)}")
        if case == "mlp":
            peak = max(after)
            verdicts.append(f"memory: at most {DEMANDED_MEMORY:g}, {peak:.2f} at most, {_met(peak <= DEMANDED_MEMORY)}")
        print(rows[-1], flush=True)
    head = ["model", "seconds", "seconds of all cores", "again", "memory alone", "memory after another", "evaluations"]
    common.report("diagnosis", [METHOD, common.table(head, rows), f"Demanded: {'; '.join(verdicts)}."], args)


def _met(is_met: bool) -> str:
    return "met" if is_met else "NOT MET"


if __name__ == "__main__":
    main()
