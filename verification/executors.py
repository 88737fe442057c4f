"""The same run through loky, Dask, Ray and submitit, each started as a cluster of two local processes.

(1+7) on a loss in NumPy of 20 ms that raises outside of a domain, by `mutagrad.executor` with the cluster's pool, against the run
without one: parameters, losses and failures must be the same. Needs the environment of ``make clusters``.
Run with ``python -m verification.executors``.
"""

import json
import subprocess
import time
from itertools import product
from pathlib import Path
from typing import Any

from verification import common

ROOT = Path(__file__).parent.parent
PYTHON = ROOT / ".clusters" / "bin" / "python"
CLUSTERS = ("loky", "dask", "ray", "submitit")
CANDIDATES = 8


def outcome(name: str, generations: int, per_task: int = 1) -> Any:
    """What a run of verification/clusters/run.py printed."""
    command = [str(PYTHON), "-m", "verification.clusters.run", name, str(generations), str(per_task)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert lines, done.stderr[-2000:]
    return json.loads(lines[-1])


def main() -> None:
    args = common.arguments(__doc__, generations=30, submitit_generations=6)
    if not PYTHON.exists():
        raise SystemExit("clusters: not installed; run make clusters")
    start, rows, is_same = time.perf_counter(), [], True
    for name, per_task in product(CLUSTERS, (1, CANDIDATES // 2)):
        generations = args.submitit_generations if name == "submitit" else args.generations
        alone, found = outcome("none", generations), outcome(name, generations, per_task)
        same = all(alone[key] == found[key] for key in ("x", "losses", "failed"))
        is_same &= same
        seconds = found["seconds"]
        beside = 1000 * (seconds - alone["seconds"] / 2) / CANDIDATES
        said = "bit for bit" if same else "NO"
        rows.append(
            f"| {name} | {per_task} | {generations} | {found['failed']} | {said} | {seconds:.3g} | {beside:.2g} |"
        )
    sections = [
        "Each run is compared with the one whose candidates are evaluated one by one in its own process: parameters, losses of "
        "all generations, and how many evaluations failed. The last column is milliseconds an evaluation beside its own 20.",
        "\n".join(
            [
                "| cluster | evaluations in a task | generations | failed evaluations | the run alone | s per generation | "
                "ms beside its own |",
                "| --- | --- | --- | --- | --- | --- | --- |",
                *rows,
            ]
        ),
        f"All the same: {'yes' if is_same else 'NO'}.",
    ]
    common.report("executors", sections, args, ", two processes each", time.perf_counter() - start)
    raise SystemExit(not is_same)


if __name__ == "__main__":
    main()
