"""What each tracker wrote, read back by the library that its format belongs to, offline.

(1+8) with automatic σ, every generation written, in two parts that overlap as after a kill. All recorded numbers must come back
bit for bit, once each: NaN and infinities too. Needs the environment of ``make trackers``.
Run with ``python -m verification.trackers``.
"""

import json
import subprocess
import time
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from verification import common

ROOT = Path(__file__).parent.parent
ENVIRONMENT = ROOT / ".trackers"
TRACKERS = {
    "json_lines": "pandas",
    "csv": "pandas",
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "trackio": "trackio",
    "mlflow (files)": "mlflow-skinny",
    "mlflow (sqlite)": "mlflow-skinny",
}
"""Each with the package that reads it."""


def outcome(name: str, generations: int) -> Any:
    """What a run of verification/trackers/run.py printed."""
    command = [str(ENVIRONMENT / "bin" / "python"), "verification/trackers/run.py", name, str(generations)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert lines, done.stderr[-2000:]
    return json.loads(lines[-1])


def main() -> None:
    args = common.arguments(__doc__, generations=300)
    if not ENVIRONMENT.exists():
        raise SystemExit("trackers: not installed; run make trackers")
    (packages,) = ENVIRONMENT.glob("lib/python*/site-packages")
    versions = {one.name: one.version for one in distributions(path=[str(packages)])}
    start, rows, is_same = time.perf_counter(), [], True
    for name, package in TRACKERS.items():
        found = outcome(name, args.generations)
        is_same &= found["is_same"]
        read_by = f"{package} {versions[package]}" if package in versions else common.versions(package)
        said = "bit for bit, once each" if found["is_same"] else "NO"
        said += ", but for infinities" * (name == "mlflow (sqlite)")
        counted = ", ".join(map(str, found["rows"]))
        rows.append(f"| {name} | {read_by} | {found['columns']} | {counted} | {said} | {found['milliseconds']:.2g} |")
    sections = [
        f"{args.generations} generations, of which {args.generations // 2 - args.generations // 3} reach the tracker twice. The "
        "last column is the time that the run waits for the tracker. MLflow's databases hold an infinity as the largest number.",
        "\n".join(
            [
                "| tracker | read by | columns | rows | numbers of the history | ms a row |",
                "| --- | --- | --- | --- | --- | --- |",
                *rows,
            ]
        ),
        f"All the same: {'yes' if is_same else 'NO'}.",
    ]
    common.report("trackers", sections, args, "", time.perf_counter() - start)
    raise SystemExit(not is_same)


if __name__ == "__main__":
    main()
