"""Damage, kills and rivals: a run folder is continued as the run that was never stopped, or refused in one line.

The digits, an MLP of 4 hidden units, (1+6) with automatic σ on batches of 64, saved twice a second. A run of 120 generations is
damaged, then continued to 200, in this process. Allowed: one line that refuses; or the parameters of the run that was never
stopped, bit for bit. Kills are SIGKILL at a random moment of a run in a process of its own, again and again until it has ended;
pairs are two processes that are started on one folder at once.
Run with ``python -m verification.reliability``; ``--damages 10000 --kills 200 --pairs 50`` is the whole of it, in hours.
"""

import collections
import contextlib
import dataclasses
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from mutagrad.cli import main as command
from mutagrad.lab.training import train
from mutagrad.lab.training.options import TrainConfig
from mutagrad.lab.training.run_folder import read_history
from mutagrad.run import saved
from verification import common

SETTINGS = [
    "--widths", "4", "--num-offspring", "6", "--batch-size", "64", "--unit-groups", "1", "--quiet", "--seed", "3",
]  # fmt: skip
CUT, NUMBER, KILLED = 120, 200, 4000
OFTEN = (
    "import sys; from mutagrad.run import saved; saved._SECONDS = 0.5; "
    "from mutagrad.cli import main; sys.exit(main(sys.argv[1:]))"
)
KINDS = ("flip a bit", "cut off the end", "remove", "take another run's", "fill with zeros", "append")


def light() -> None:
    """Programs are compiled once for all runs of this process, and figures are not drawn."""
    made: dict[str, Any] = {}

    def set_up(config: TrainConfig, dataset: Any) -> Any:
        own = dataclasses.replace(config, out=None, resume=False, generations=None)
        if repr(own) not in made:
            made[repr(own)] = real(config, dataset)
        return made[repr(own)]

    real, train.set_up = train.set_up, set_up
    train.figure = SimpleNamespace(draw=lambda path, *rest: path.write_bytes(b"figure"))


def called(*words: str) -> tuple[int, str]:
    """Exit status, and what stood on standard error; an exception that came through is its own text."""
    output = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(output), warnings.catch_warnings():
        warnings.simplefilter("always")
        try:
            return command(words), output.getvalue()
        except BaseException as error:
            return -1, f"TRACEBACK {type(error).__name__}: {error}"


def begun(folder: Path, generations: int, seed: str = "3") -> Path:
    status, text = called("train", *SETTINGS[:-1], seed, "--generations", str(generations), "--out", str(folder))
    assert status == 0, text
    return folder


def params(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "params.safetensors")


def is_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def is_history(folder: Path, courses: Any, may_lack: bool) -> bool:
    """Whether a run's history is that of the run that was never stopped, but for what it said is lost."""
    found = read_history(folder)
    own, wanted = found.loss.values, courses.loss.values
    is_lost = np.isnan(own)
    return (
        len(own) == len(wanted) and np.array_equal(own[~is_lost], wanted[~is_lost]) and (may_lack or not is_lost.any())
    )


def damage(folder: Path, other: Path, rng: random.Random) -> str:
    """Damage a file of a run folder; what was done."""
    names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    name, kind = rng.choice(names), rng.choice(KINDS)
    path = folder / name
    data = bytearray(path.read_bytes())
    if kind == "remove":
        path.unlink()
    elif kind == "take another run's":
        others = other / str(name).replace(f"/{CUT}", f"/{CUT + 1}")
        path.write_bytes(others.read_bytes() if others.is_file() else b"")
    elif kind == "append":
        path.write_bytes(data + rng.randbytes(rng.randint(1, 100)))
    elif kind == "cut off the end":
        path.write_bytes(data[: rng.randrange(len(data))] if data else b"")
    elif kind == "fill with zeros":
        path.write_bytes(bytes(len(data)))
    elif data:
        place = rng.randrange(len(data))
        data[place] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
    top = name.parts[-1] if name.parts[0] == "checkpoint" and len(name.parts) == 2 else name.parts[0]
    where = "a checkpoint" if name.parts[0] == "checkpoint" and len(name.parts) > 2 else top
    return f"{kind}, {where}"


def damages(number: int) -> str:
    rng, counts = random.Random(0), collections.Counter()
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        whole, courses = params(begun(home / "whole", NUMBER)), read_history(home / "whole")
        cut, other = begun(home / "cut", CUT // 2), begun(home / "other", CUT + 1, "4")
        called("train", "--quiet", "--resume", str(cut), "--generations", str(CUT))
        for index in range(number):
            folder = home / "tried"
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(cut, folder)
            done = damage(folder, other, rng)
            status, text = called("train", "--quiet", "--resume", str(folder), "--generations", str(NUMBER))
            lines = text.strip().splitlines()
            if status == 2 and len(lines) == 1 and "TRACEBACK" not in text:
                outcome = "refused in one line"
            elif status == 0 and is_same(params(folder), whole) and is_history(folder, courses, bool(lines)):
                outcome = "went on, and said what was lost" if lines else "harmless"
            else:
                outcome = "WRONG"
                wrong.append(f"{index}: {done}: status {status}: {text[:300]!r}")
            counts[outcome] += 1
    rows = "\n".join(f"| {outcome} | {count} |" for outcome, count in sorted(counts.items()))
    return "\n".join([f"{number} damages:\n", "| outcome | times |", "| --- | --- |", rows, "", *wrong[:20]])


@contextlib.contextmanager
def process(*words: str) -> Iterator[subprocess.Popen]:
    with subprocess.Popen(
        [sys.executable, "-c", OFTEN, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as one:
        yield one


def kills(number: int) -> str:
    """Kill at random moments and resume, until so many kills have been."""
    rng, done, runs, same, replayed, lost = random.Random(1), 0, 0, 0, 0, []
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        start = time.monotonic()
        whole = params(begun(home / "whole", KILLED))
        longest = time.monotonic() - start + 4
        while done < number:
            folder, runs = home / f"run{runs}", runs + 1
            while True:
                going = (
                    ["--resume", str(folder)]
                    if (folder / "config.json").exists()
                    else [*SETTINGS, "--out", str(folder)]
                )
                with process("train", "--quiet", *going, "--generations", str(KILLED)) as one:
                    try:
                        _, text = one.communicate(timeout=rng.uniform(1.0, longest) if done < number else None)
                    except subprocess.TimeoutExpired:
                        before = generation_of(folder)
                        one.send_signal(signal.SIGKILL)
                        one.communicate()
                        done += 1
                        lost.append(before - checkpoint_of(folder))
                        continue
                assert one.returncode == 0, text
                break
            same += is_same(params(folder), whole)
            status, text = called("replay", str(folder))
            replayed += status == 0
            shutil.rmtree(folder)
    return (
        f"{done} kills in {runs} runs of {KILLED:,} generations: {same} of {runs} ended with the parameters of the run that was "
        f"never killed, and {replayed} of {runs} are replayed from their lineage. From the last whole checkpoint to the last "
        f"generation in the history: {np.median(lost):.0f} generations in the median, {max(lost)} at most."
    )


def generation_of(folder: Path) -> int:
    try:
        history = read_history(folder)
    except (OSError, ValueError):
        return 0
    return 0 if history is None else int(history.generation[-1])


def checkpoint_of(folder: Path) -> int:
    return max((int(path.stem) for path in folder.glob("checkpoint/*.json") if path.stem.isdigit()), default=0)


def pairs(number: int) -> str:
    """Two processes at once on a folder, new for half of them and to go on with for the others."""
    counts: collections.Counter = collections.Counter()
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        whole, begun_folder = params(begun(home / "whole", KILLED)), begun(home / "begun", CUT)
        for index in range(number):
            folder = home / "tried"
            shutil.rmtree(folder, ignore_errors=True)
            words = [*SETTINGS, "--out", str(folder)]
            if index % 2:
                shutil.copytree(begun_folder, folder)
                words = ["--quiet", "--resume", str(folder)]
            with process("train", *words, "--generations", str(KILLED)) as one:
                time.sleep(random.Random(index).uniform(0, 1))
                with process("train", *words, "--generations", str(KILLED)) as other:
                    texts = [each.communicate()[1].strip() for each in (one, other)]
            statuses = sorted([one.returncode, other.returncode])
            lines = [len(text.splitlines()) for text in texts]
            is_right = statuses == [0, 2] and sorted(lines) == [0, 1] and is_same(params(folder), whole)
            # The second may come when the first has ended.
            late = statuses == [0, 0] and is_same(params(folder), whole)
            counts[
                "one ran, the other was refused in one line" if is_right else "one after the other" if late else "WRONG"
            ] += 1
            if not (is_right or late):
                wrong.append(f"{index}: statuses {statuses}, {texts!r}")
    rows = "; ".join(f"{outcome}: {count}" for outcome, count in sorted(counts.items()))
    return "\n".join([f"{number} pairs of processes on one folder: {rows}.", *wrong[:10]])


def main() -> None:
    args = common.arguments(__doc__, damages=300, kills=20, pairs=6)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    saved._SECONDS = 0.5
    light()
    start = time.monotonic()
    sections = []
    asked = ((damages, args.damages), (kills, args.kills), (pairs, args.pairs))
    for what, number in asked:
        if number:
            sections.append(what(number))
            print(sections[-1], flush=True)
    common.report("reliability", sections, args, "", time.monotonic() - start)


if __name__ == "__main__":
    main()
