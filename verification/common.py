"""What the verifications share: the command line, and the record of a run."""

import argparse
import datetime
import importlib.metadata
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def arguments(description: str | None, **numbers: int) -> argparse.Namespace:
    """The command line: ``--no-write``, and whatever numbers the verification has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-write", action="store_true", help="print only; leave verification/results alone")
    for name, default in numbers.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
    return parser.parse_args()


def versions(*packages: str) -> str:
    return ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)


def report(
    name: str,
    sections: list[str],
    args: argparse.Namespace,
    machine: str,
    seconds: float | None = None,
    software: Sequence[str] = (),
) -> None:
    """Print the sections under a header that says when, on what and how they were found, and write them down.

    Parameters
    ----------
    machine : what to say of it beside its kind and its cores.
    seconds : that the run took, unless a section says so.
    software : lines on it, where there is more than fits beside the machine.
    """
    lines = [
        f"date: {datetime.date.today().isoformat()}",
        f"machine: {platform.machine()}, {_cores()}{machine}",
        *software,
        f"command: `{shlex.join(['python', '-m', f'verification.{name}', *sys.argv[1:]])}`"
        + ("" if seconds is None else f", {seconds:.0f} s"),
    ]
    header = "\n".join(f"- {line}" for line in lines)
    text = "\n\n".join([f"# verification/{name}.py", header, *sections]) + "\n"
    print(text)
    if not args.no_write:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.md").write_text(text)


def _cores() -> str:
    number = len(os.sched_getaffinity(0))
    return f"{number} core{'s' * (number != 1)}"
