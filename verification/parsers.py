"""Files that no run wrote, in one process: each is read rightly, or refused in one line, in time and in little memory.

Every file that mutagrad reads is mutated: bytes are changed, cut, moved and taken from another run's; numbers claim
terabytes; and what has a sum is forged, so that the sum is right and the contents are not. Its reader is then called. Right is
a ValueError or an OSError of one line that names the file or the setting, or a reading: what had a sum that was not forged is
read as it was written, less what is said to be lost. Wrong is any other exception, another reading, no end after 10 s of the
processor or 60 s of the clock, and more than 512 MiB of memory more than before the case; the process is allowed 2 GiB of
addresses more than it has after its warming up.

A sample is whole commands: files of a run folder replaced by pipes, links, folders, devices, empty files and files of a terabyte.

    python -m verification.parsers

writes verification/results/parsers.md; with --no-write it only prints. ``--share`` is the percentage of the cases to try.
"""

import collections
import contextlib
import dataclasses
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from mutagrad.lab.claims import verdicts
from mutagrad.lab.tasks.data import load
from mutagrad.lab.training import inspect, observers, problem, replay, resume, run_folder, train
from mutagrad.lab.training.options import TrainConfig
from mutagrad.run import journal, lineage, past
from mutagrad.run.checkpoint import Checkpoints
from mutagrad.run.evolve import Result
from mutagrad.run.identity import identity_of
from verification import common, mutations, reliability

SECONDS, MOST, ADDRESSES = 10, 2**29, 2**31
SETTINGS_OF_A_RUN = {field.name for field in dataclasses.fields(TrainConfig)} - {"data", "out"} | {"params"}
KINDS = ("pipe", "link", "dangling link", "folder", "device", "empty", "terabyte", "gone")


class Hang(BaseException):
    """A case that has not ended in time."""


class Parser(NamedTuple):
    """A reader of files.

    Attributes
    ----------
    cases : how many. files : of the folder, one of which is mutated. read : the folder -> what was read, by name, as arrays.
    forged : (bytes, random numbers) -> other bytes with right sums; ``None`` if the file has none.
    keeps : whether what is read of a file that was not forged is what was written, or less.
    """

    cases: int
    files: str
    read: Callable[[Path], dict[str, Any]]
    forged: Callable[[bytes, random.Random], bytes] | None
    keeps: bool = True


class Home:
    """What is mutated, and what the readers need to know."""

    def __init__(self, root: Path):
        self.root, self.run, self.other = root, root / "run", root / "other"
        reliability.begun(self.run, 60, "3")
        reliability.called("train", "--quiet", "--resume", str(self.run), "--generations", "90")
        reliability.begun(self.other, 90, "4")
        self.data = root / "data"
        self.data.mkdir()
        rng = np.random.default_rng(0)
        inputs, labels = rng.normal(size=(40, 3)).astype(np.float32), np.arange(40) % 2
        np.savez_compressed(self.data / "a.npz", x_train=inputs, y_train=labels)
        np.savez(self.data / "b.npz", x_train=inputs, y_train=labels, x_test=inputs[:9], y_test=labels[:9])
        mutations.write_mnist(self.data)
        shutil.copy(sorted(verdicts.FOLDER.glob("*.json"))[0], self.data / "verdict.json")
        self.settings = run_folder.read_settings(self.run)
        self.problem = problem.set_up(self.settings, load("digits"))
        self.identity = identity_of(self.problem.key, self.problem.algorithm, self.problem.state)
        self.start = Result(self.problem.state.params, self.problem.state, None, "")

    def npz(self, folder: Path) -> dict[str, Any]:
        return {name: _data(load(str(folder / name))) for name in ("a.npz", "b.npz")}

    def mnist(self, folder: Path) -> dict[str, Any]:
        found = load("mnist", folder)
        assert np.abs(found.train_inputs).max() <= 1
        return {"mnist": _data(found)}

    def config(self, folder: Path) -> dict[str, Any]:
        config = run_folder.read_settings(folder)
        problem.check_settings(config)
        resume.nothing_left(train.resumed(folder, {}))
        return {"config": np.array(repr(config))}

    def described(self, folder: Path) -> dict[str, Any]:
        checkpoints = Checkpoints(folder / "checkpoint", self.identity)
        described = checkpoints.newest()
        if described is None:
            return {}
        history = past.history_of(folder / "checkpoint", described)
        return history.columns | _leaves(checkpoints.restore(described, self.problem.state), described["generation"])

    def history(self, folder: Path) -> dict[str, Any]:
        path = folder / "checkpoint" / past.HISTORY
        found = journal.read(path)
        journal.Journal(path, found.columns, found.attributes).close()
        history = run_folder.read_history(folder)
        if history is not None and random.Random(len(found.lost)).random() < 0.1:
            inspect.inspect(folder)
        return {} if history is None else {name: one.values for name, one in history.variables.items()}

    def lineage(self, folder: Path) -> dict[str, Any]:
        place, algorithm = folder / "checkpoint", self.problem.algorithm
        last = lineage.replay(place, algorithm, self.start, int(self.start.state.generation)).last
        if self.generator.random() < 0.02:
            found = lineage.replay(place, algorithm, self.start)
            return _leaves(found.params, found.generation)
        return {"last": np.zeros(last)}

    def measurements(self, folder: Path) -> dict[str, Any]:
        measured = observers.Measurements(self.problem, folder)
        columns = {name: np.asarray(one) for name, one in measured.columns.items()}
        measured.measure(self.problem.state._replace(inner=self.problem.state.inner._replace(generation=np.int32(91))))
        return {} if not len(columns["measured_generation"]) else columns

    def zarr(self, folder: Path) -> dict[str, Any]:
        history = run_folder.read_history(folder)
        return {} if history is None else {name: one.values for name, one in history.variables.items()}

    def verdict(self, folder: Path) -> dict[str, Any]:
        return {"verdict": np.array(json.dumps(verdicts.read(folder / "verdict.json"), sort_keys=True))}

    generator = random.Random(0)

    def parsers(self) -> dict[str, tuple[Path, Parser]]:
        """Where the whole files are, and how they are read."""
        steps = "checkpoint/90/**/*"
        return {
            ".npz": (self.data, Parser(2200, "*.npz", self.npz, mutations.npz)),
            "MNIST's IDX": (self.data, Parser(1000, "*ubyte*", self.mnist, mutations.idx, False)),
            "config.json": (self.run, Parser(1000, "config.json", self.config, mutations.json_bytes)),
            "manifest.json": (self.run, Parser(1000, "manifest.json", self.config, mutations.signed)),
            "STEP.json": (self.run, Parser(600, "checkpoint/90.json", self.described, mutations.signed)),
            "STEP": (self.run, Parser(100, steps, self.described, mutations.any_bytes)),
            "history.journal": (self.run, Parser(1000, "checkpoint/history.journal", self.history, mutations.journal)),
            "lineage.journal": (self.run, Parser(1000, "checkpoint/lineage.journal", self.lineage, mutations.journal)),
            "measurements.journal": (
                self.run,
                Parser(1000, "measurements.journal", self.measurements, mutations.journal),
            ),
            "history.zarr": (self.run, Parser(1000, "history.zarr/**/*", self.zarr, mutations.zarr)),
            "verdict.json": (self.data, Parser(1000, "verdict.json", self.verdict, mutations.json_bytes, False)),
        }


def _data(found: Any) -> np.ndarray:
    return np.concatenate([np.ravel(one).astype(np.float64) for one in found[:4]])


def _leaves(tree: Any, generation: int) -> dict[str, Any]:
    return {f"{generation} {place}": np.asarray(leaf) for place, leaf in enumerate(jax.tree.leaves(tree))}


def others(found: dict[str, Any], whole: dict[str, Any]) -> list[str]:
    """The names of what is not as it was written; rows may be missing at the end, be NaN or be 0."""

    def is_in(one: np.ndarray, other: np.ndarray) -> bool:
        if one.ndim != other.ndim or len(np.atleast_1d(one)) > len(np.atleast_1d(other)):
            return False
        if one.ndim != 1:
            return np.array_equal(one, other)
        same = one == other[: len(one)]
        return bool(np.all(same | (one != one) if one.dtype.kind == "f" else same | (one == 0)))

    return [name for name, one in found.items() if name not in whole or not is_in(one, whole[name])]


def _alarm(number: int, frame: Any) -> None:
    raise Hang


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Addresses are limited, and an alarm ends what does not end."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    handlers = {number: signal.signal(number, _alarm) for number in (signal.SIGALRM, signal.SIGPROF)}
    resource.setrlimit(resource.RLIMIT_AS, (used + ADDRESSES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def memory(is_new: bool = False) -> int:
    """Bytes of the process: at most since it was last asked anew, or now."""
    if is_new:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


class Outcome(NamedTuple):
    """How a case ended: "read", "refused", or in words what was wrong; what was read, its time and memory."""

    words: str
    found: Any
    seconds: float
    bytes: int


def tried(read: Callable[[], Any], root: Path) -> Outcome:
    before, start, found = memory(), time.process_time(), None
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, 6 * SECONDS)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(None), contextlib.redirect_stderr(None):
            warnings.simplefilter("ignore")
            found = read()
        words = "read"
    except (ValueError, OSError) as error:
        is_named = str(root) in str(error) or str(error).split(":")[0] in SETTINGS_OF_A_RUN
        is_right = "\n" not in str(error).strip() and is_named
        words = "refused" if is_right else f"not one line with the file: {type(error).__name__}: {error}"[:300]
    except Hang:
        words = f"no end in {SECONDS} s"
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        words = (
            f"{type(error).__name__}: {' '.join(str(error).split())[:160]} ({Path(place.filename).name}:{place.lineno})"
        )
    finally:
        for timer in (signal.ITIMER_PROF, signal.ITIMER_REAL):
            signal.setitimer(timer, 0)
    taken = max(memory() - before, 0)
    if taken > MOST:
        words = f"{taken / 2**20:.0f} MiB; {words}"
    return Outcome(words, found, time.process_time() - start, taken)


def mutated(folder: Path, parser: Parser, other: Path, generator: random.Random) -> tuple[str, bool]:
    """Change a file of a folder; which, and whether its sums were forged."""
    paths = sorted(path for path in folder.glob(parser.files) if path.is_file())
    path = generator.choice(paths)
    name = path.relative_to(folder)
    is_forged = parser.forged is not None and generator.random() < 0.6
    data = path.read_bytes()
    if is_forged:
        path.write_bytes(parser.forged(data, generator))  # type: ignore[misc]
        mutations.sign_again(folder, name, generator)
    else:
        # Whole blocks of another run's journal have right sums.
        is_forged = path.suffix == ".journal" and generator.random() < 0.2
        others = (
            (other / name).read_bytes()
            if (other / name).is_file() and (is_forged or path.suffix != ".journal")
            else b""
        )
        path.write_bytes(mutations.any_bytes(data, generator, others))
    return str(name), is_forged


def files(home: Home, share: int, say: Callable[[str], Any]) -> list[list[str]]:
    """A row for each parser."""
    rows = []
    for number, (name, (whole, parser)) in enumerate(home.parsers().items()):
        generator, counts, slowest, most = random.Random(number), collections.Counter(), 0.0, 0  # type: ignore[var-annotated]
        # history.zarr is read where the journals are not at hand.
        leave_out = shutil.ignore_patterns("checkpoint" if name == "history.zarr" else "", "training.png")
        folder = home.root / "tried"
        memory(is_new=True)
        expected: dict[str, Any] = {}
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder, ignore=leave_out)
        for index in range(-1, max(parser.cases * share // 100, 1)):
            changed, is_forged = mutated(folder, parser, home.other, generator) if index >= 0 else ("", False)
            outcome = tried(lambda: parser.read(folder), folder)  # noqa: B023
            if index < 0:
                assert outcome.words == "read", outcome.words
                shutil.rmtree(folder)
                shutil.copytree(whole, folder, ignore=leave_out)
                expected = outcome.found | ({} if name != "lineage.journal" else _whole_lineage(home, folder))
                continue
            restore(folder, whole, changed)
            slowest, most = max(slowest, outcome.seconds), max(most, outcome.bytes)
            words = outcome.words
            if words == "read" and parser.keeps and not is_forged:
                other = wrong_names(name, outcome.found, expected)
                words = f"another reading of {', '.join(other)}"[:200] if other else words
            counts[words if words in ("read", "refused") else "wrong"] += 1
            if words not in ("read", "refused"):
                say(f"{name} {index} ({changed}, {'forged' if is_forged else 'changed'}): {words}")
        total = sum(counts.values())
        rows.append(
            [
                name,
                *(f"{counts[one]:,}" for one in ("read", "refused", "wrong")),
                f"{slowest:.1f}",
                f"{most / 2**20:.0f}",
            ]
        )
        rows[-1].insert(1, f"{total:,}")
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def restore(folder: Path, whole: Path, changed: str) -> None:
    """The file that was changed, what has its sums, and what a reader has put aside, are as they were."""
    for name in {changed, "manifest.json", "checkpoint/90.json"}:
        if (whole / name).is_file() and (folder / name).parent.is_dir():
            shutil.copyfile(whole / name, folder / name)
    for path in folder.glob("damaged-*"):
        path.unlink()


def _whole_lineage(home: Home, folder: Path) -> dict[str, Any]:
    found = lineage.replay(folder / "checkpoint", home.problem.algorithm, home.start)
    return _leaves(found.params, found.generation) | {"last": np.zeros(found.last)}


def wrong_names(name: str, found: dict[str, Any], whole: dict[str, Any]) -> list[str]:
    """What is another in a reading of a file that was not forged than in what was written."""
    if name in ("STEP.json", "STEP"):
        # The checkpoint before is another, whole one.
        found = {key: value for key, value in found.items() if key.startswith("90 ") or not key[0].isdigit()}
    if name == "lineage.journal":
        # What follows the last whole block is not known.
        found = {key: value for key, value in found.items() if key.startswith("90 ") or key == "last"}
    if name == "measurements.journal" and found:
        rows, all_rows = (
            set(zip(*(map(float, one[key]) for key in sorted(whole)), strict=True)) for one in (found, whole)
        )
        return sorted(found) if rows - all_rows else []
    return others(found, whole)


def commands(home: Home, share: int, say: Callable[[str], Any]) -> list[list[str]]:
    """Rows for whole commands on folders in which files are something else."""
    rows, generator = [], random.Random(0)
    names = sorted(path.relative_to(home.run) for path in home.run.rglob("*") if path.name != ".lock")
    names = [name for name in names if len(name.parts) < 4] + [
        Path("inspect.png"),
        Path("history.zarr.tmp"),
        Path("config.json.tmp"),
    ]
    victim = home.root / "victim"
    for kind in KINDS:
        counts: collections.Counter = collections.Counter()
        for _ in range(max(13 * share // 100, 1)):
            folder, name = home.root / "tried", generator.choice(names)
            shutil.rmtree(folder, ignore_errors=True)
            shutil.rmtree(victim, ignore_errors=True)
            shutil.copytree(home.run, folder)
            victim.mkdir()
            (victim / "file").write_text("mine")
            is_folder = (folder / name).is_dir()
            put(folder / name, kind, victim if is_folder else victim / "file")
            command = generator.choice(
                (["inspect"], ["replay"], ["train", "--quiet", "--generations", "95", "--resume"])
            )
            outcome = tried(lambda: reliability.called(*command, str(folder)), folder)  # noqa: B023
            words = outcome.words
            if words == "read":
                status, text = outcome.found
                lines = text.strip().splitlines()
                words = {0: "done", 2: "refused"}.get(status, f"status {status}")
                if (
                    "TRACEBACK" in text
                    or "Traceback" in text
                    or (status == 2 and sum("mutagrad " in one for one in lines) != 1)
                ):
                    words = f"{words}: {text[:300]}"
            if [path.name for path in victim.iterdir()] != ["file"] or (victim / "file").read_text() != "mine":
                words = "wrote through a link"
            counts[words if words in ("done", "refused") else "wrong"] += 1
            if words not in ("done", "refused"):
                say(f"{kind} {name} {command[0]}: {words}")
        rows.append([kind, f"{sum(counts.values())}", *(f"{counts[one]}" for one in ("done", "refused", "wrong"))])
    return rows


def put(path: Path, kind: str, victim: Path) -> None:
    """Something else in place of a file."""
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(victim)
    elif kind == "dangling link":
        path.symlink_to(victim.parent / "none")
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind != "gone":
        path.touch()
        os.truncate(path, 2**40 if kind == "terabyte" else 0)


def light() -> None:
    """Programs are compiled once, and nothing is drawn."""
    reliability.light()
    replay.set_up = inspect.set_up = train.set_up  # type: ignore[attr-defined]
    for name in ("windows", "diagnosis"):
        setattr(inspect.figures, name, lambda found, path, *rest: path.write_bytes(b"figure"))


def main() -> None:
    from benchmarks.common import table

    args = common.arguments(__doc__, share=100)
    light()
    start, wrong = time.process_time(), []

    def say(text: str) -> None:
        wrong.append(text)
        print(text, file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as place:
        home = Home(Path(place))
        for command in (["inspect"], ["replay"], ["train", "--quiet", "--generations", "95", "--resume"]):
            shutil.copytree(home.run, home.root / "warm", dirs_exist_ok=True)
            status, text = reliability.called(*command, str(home.root / "warm"))
            assert status == 0, text
        with limited():
            first, second = files(home, args.share, say), commands(home, args.share, say)
    total = sum(int(row[1].replace(",", "")) for row in (*first, *second))
    sections = [
        f"{total:,} cases, {len(wrong)} wrong. Memory is by how much the process grew at most, and seconds are of the processor.",
        table(["file", "cases", "read", "refused", "wrong", "slowest, s", "memory, MiB"], first),
        "Whole commands (`inspect`, `replay`, `train --resume`) on a run folder with a file or a folder of it replaced:",
        table(["replaced by", "cases", "done", "refused", "wrong"], second),
        *wrong[:20],
    ]
    common.report("parsers", sections, args, "", time.process_time() - start, [common.versions("jax", "numpy", "zarr")])


if __name__ == "__main__":
    main()
