"""Peers beside us: generations and evaluations per second, memory, compilation, and what a target costs.

Run with ``make peers``. A measurement is a process of its own; peers take turns, and ratios are taken within each round. What
was measured is kept, so that a run that was stopped goes on: with ``--kept FILE``, JSON lines, one a measurement.
"""

import datetime
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from benchmarks import common
from benchmarks.peers.lines import LINES
from benchmarks.peers.peers import PEERS

_LARGE = {"MLP, 1 million", "MLP, 10 million", "MLP, 100 million", "transformer, 10.9 million"}
_OF_MATRICES = {"mutagrad elitist, low rank": _LARGE}
_OF_VECTORS = {"evosax CMA_ES", "pycma CMA-ES", "nevergrad CMA", "nevergrad OnePlusOne", "PyGAD GA"}
REFERENCE = "evosax HillClimbing"


def is_asked(line: str, peer: str) -> bool:
    """Whether a peer has anything to do with a line."""
    if peer.startswith("optax"):
        return LINES[line]().has_gradient
    if peer in _OF_MATRICES:
        return line in _OF_MATRICES[peer]
    return peer not in _OF_VECTORS or line not in _LARGE


class Kept(NamedTuple):
    """Measurements of earlier sittings with these settings, and the file that further ones go to; none without a file."""

    file: Path | None
    settings: dict
    found: dict[tuple[str, str, int], dict]
    days: set[str]

    @classmethod
    def of(cls, args) -> "Kept":
        """What a file holds."""
        settings = {name: getattr(args, name) for name in ("seconds", "to_target", "limit", "gigabytes")}
        kept = cls(Path(args.kept) if args.kept else None, settings, {}, set())
        for text in kept.file.read_text().splitlines() if kept.file and kept.file.exists() else []:
            row = json.loads(text)
            if row["settings"] == settings:
                kept._take(row)
        return kept

    def _take(self, row: dict) -> None:
        self.found[row["line"], row["peer"], row["repetition"]] = row["outcome"]
        self.days.add(row["day"])

    def outcome(self, line: str, peer: str, repetition: int, args) -> dict:
        """Of a measurement: the kept one, or a new one that is then kept."""
        if (line, peer, repetition) not in self.found:
            outcome = outcome_of(line, peer, args)
            day = datetime.date.today().isoformat()
            row = {"line": line, "peer": peer, "repetition": repetition, "settings": self.settings, "day": day}
            self._take(row | {"outcome": outcome})
            if self.file:
                with self.file.open("a") as file:
                    print(json.dumps(row | {"outcome": outcome}), file=file)
            print(repetition, line, peer, outcome, file=sys.stderr, flush=True)
        return self.found[line, peer, repetition]


def outcome_of(line: str, peer: str, args) -> dict:
    """Of one process."""
    command = [sys.executable, "-m", "benchmarks.peers.one", line, peer, args.seconds, args.to_target, args.gigabytes]
    try:
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=args.limit)
    except subprocess.TimeoutExpired:
        return {"failed": f"took more than {args.limit:.0f} s"}
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        last = (done.stderr.strip().splitlines() or [""])[-1][:120]
        return {"failed": f"ended with status {done.returncode}: {last}"}
    return json.loads(lines[-1])


def cell(found: list[dict], name: str) -> str:
    """Median and spread of a figure, or how often there was none."""
    values = [one[name] for one in found if one.get(name) is not None]
    if not values:
        return "not reached"
    missing = "" if len(values) == len(found) else f", {len(values)} of {len(found)}"
    return common.spread(values) + missing


def table_of(line: str, measured: dict[str, list[dict]], has_target: bool) -> str:
    """The rows of a line."""
    rows = []
    for peer, found in measured.items():
        failed = [one["failed"] for one in found if "failed" in one]
        if failed:
            rows.append([peer, f"failed: {failed[0]}", *[""] * (5 + 2 * has_target)])
            continue
        reference = measured.get(REFERENCE, [])
        ratio = "–"
        if len(reference) == len(found) and not any("failed" in one for one in reference):
            ratios = [a["evaluated"] / b["evaluated"] for a, b in zip(found, reference, strict=True)]
            ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        row = [
            peer,
            cell(found, "generations"),
            cell(found, "evaluated"),
            ratio,
            cell(found, "memory"),
            cell(found, "compile"),
        ]
        rows.append([*row, *([cell(found, "time"), cell(found, "evaluations")] if has_target else [])])
    head = [
        "who",
        "generations/s",
        "evaluations/s",
        f"evaluations/s, times {REFERENCE}",
        "memory [MiB]",
        "first generation [s]",
    ]
    return common.table(head + (["time to target [s]", "evaluations to target"] if has_target else []), rows)


def main() -> None:
    """Measure all lines and write the table."""
    args = common.arguments(
        __doc__, repetitions=3, seconds=2.0, to_target=15.0, limit=180.0, gigabytes=20.0, lines="", peers="", kept=""
    )
    kept = Kept.of(args)
    sections = [
        "One model a line, the same for all, written as its user would; the same first σ and number of offspring. "
        "Ours evaluate the parent too, which counts as an evaluation, and set σ by themselves; optax makes one gradient a "
        "generation. Memory is the peak of the process above what it had with the model in memory. EvoTorch and EvoX "
        "are not here: they need PyTorch, whose package brings CUDA."
    ]
    for line, make in LINES.items():
        if args.lines and not any(part in line for part in args.lines.split(";")):
            continue
        peers = [
            peer
            for peer in PEERS
            if is_asked(line, peer) and (not args.peers or any(part in peer for part in args.peers.split(";")))
        ]
        measured: dict[str, list[dict]] = {peer: [] for peer in peers}
        for repetition in range(args.repetitions):
            for peer in peers:
                if any("failed" in one for one in measured[peer]):
                    continue
                measured[peer].append(kept.outcome(line, peer, repetition, args))
        one = make()
        target = "" if one.target is None else f" Target: a loss of {one.target:g}, within {args.to_target:g} s."
        sections += [
            f"## {line}",
            f"M = {one.num_offspring}, σ = {one.sigma:g}.{target}",
            table_of(line, measured, bool(target)),
        ]
    days = sorted(kept.days)
    sections.insert(1, f"Measured on {' and '.join(days)}.")
    common.report(
        "peers", sections, args, "interleaved, each in a process of its own; ratios are taken within each round"
    )


if __name__ == "__main__":
    main()
