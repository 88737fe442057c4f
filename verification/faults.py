"""Faults in every write of a saved run: whatever goes wrong, no state is left that cannot be read again.

A small library in C (faults.c, compiled with cc when this starts) stands between the run and libc. It counts the calls that
change what is on disk below the folder of the run, those of Orbax and TensorStore included, and lets the n-th one go wrong:

- the process is killed (SIGKILL) before the call, after it, or when half of a write is done;
- the call fails: no space (once, over 40 calls, or from then on), an input/output error, or a write of half its bytes;
- the disk is gone: this call and all later ones fail, which leaves what a kill before the call leaves;
- the power is cut: of what that leaves, every file has only what had been forced to the disk.

The run is then started again without a fault. It has to end with the parameters and the history of the run that nothing befell,
bit for bit, and its lineage has to make the same parameters again. A call that fails ends nothing: that run itself has to end so,
or to say in one line what could not be written. Lineage that had been forced to the disk has to be there after a kill.
Run with ``python -m verification.faults``; ``--evolve``, ``--others`` and ``--train`` are every how many calls go wrong, 0 for
none; ``--kills`` is every how many of these are kills too, which cost a process each, and ``--minutes`` ends a section early.
"""

import collections
import contextlib
import ctypes
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint  # noqa: F401, so that children have it
from safetensors.numpy import load_file

import mutagrad
from mutagrad.lab.training import run_folder
from mutagrad.run import chunks, journal, lineage, past, saved
from verification import common, reliability

NUMBER = 19
"""Generations, in chunks of 1, 2 and 16, after each of which the state is saved."""
FAULTS = {
    "killed before": (1, 1), "killed after": (2, 1), "killed half way": (3, 1), "half a write": (4, 1),
    "no space": (5, 1), "no space over 40 calls": (5, 40), "no space from then on": (5, 2**40),
    "input/output error": (6, 1), "disk gone": (6, 2**40),
}  # fmt: skip
"""What goes wrong, as faults.c numbers it, and over how many calls."""
CUT = "power cut"
WRITES = ("write", "pwrite", "writev", "pwritev", "sendfile", "copy_file_range")
START = np.ones(6, np.float32)


class Ended(NamedTuple):
    """How a run ended: "" as it should, or "refused", "failed", "TRACEBACK"; what it said; and what it came to."""

    how: str
    lines: list[str]
    params: dict[str, np.ndarray] | None = None
    history: dict[str, np.ndarray] | None = None


class Lost(Exception):
    """A process that is no more: what ended it."""


class Worker:
    """A process of its own that calls functions, forked before JAX has any threads."""

    def __init__(self) -> None:
        self._pipe, other = multiprocessing.Pipe()
        self._pid = os.fork()
        if not self._pid:
            self._pipe.close()
            try:
                while True:
                    function, arguments = other.recv()
                    other.send(function(*arguments))
            finally:
                os._exit(1)
        other.close()

    def __call__(self, function: Callable, *arguments: Any, seconds: float = 300) -> Any:
        self._pipe.send((function, arguments))
        try:
            if not self._pipe.poll(seconds):
                raise Lost("HANGS")
            return self._pipe.recv()
        except (EOFError, ConnectionResetError):
            raise Lost("") from None

    def end(self) -> int:
        """End it; by which signal it had ended, if by one."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        self._pipe.close()
        return os.waitpid(self._pid, 0)[1]


@contextlib.contextmanager
def heard() -> Iterator[list[str]]:
    """Lines that are said on standard error, by libraries in C too, and warnings."""
    lines: list[str] = []
    before = os.dup(2)
    with tempfile.TemporaryFile("w+") as file, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        os.dup2(file.fileno(), 2)
        try:
            yield lines
        finally:
            sys.stderr.flush()
            os.dup2(before, 2)
            os.close(before)
            file.seek(0)
            lines += [*file.read().splitlines(), *(str(one.message) for one in said)]


def loss_fn(x: jax.Array) -> jax.Array:
    return jnp.sum(x**2)


class Evolve:
    """`mutagrad.evolve` in a folder: new, on from a folder that is damaged, or on from a result."""

    def __init__(self, name: str):
        self.name = name
        self._algorithm = mutagrad.elitist(0.1, 6)
        self._result: Any = None

    def _evolve(self, folder: Path | None, number: int) -> mutagrad.Result:
        start = START
        if self.name == "evolve, on from a result":
            if self._result is None:
                self._result = mutagrad.evolve(jax.random.key(0), self._algorithm, START, loss_fn, 3, progress=False)
            start = self._result
        return mutagrad.evolve(
            jax.random.key(0), self._algorithm, start, loss_fn, number, checkpoint=folder, progress=False
        )

    def prepare(self, folder: Path) -> None:
        if self.name == "evolve, on from damage":
            self._evolve(folder, 3)
            next(path for path in (folder / "3").rglob("*") if path.is_file()).write_bytes(b"?")
            data = (folder / past.HISTORY).read_bytes()
            block = next(one for one in journal._blocks(data) if one.rows)
            (folder / past.HISTORY).write_bytes(data[: block.start] + b"?" + data[block.start + 1 :])

    def run(self, folder: Path) -> Ended:
        result, how, text = None, "", []
        with heard() as lines:
            try:
                result = self._evolve(folder, NUMBER)
            except mutagrad.RunError as error:
                result, how, text = error.result, "failed", [str(error)]
            except (ValueError, OSError) as error:
                how, text = "refused", [str(error)]
            except Exception as error:
                how, text = "TRACEBACK", [f"{type(error).__name__}: {error}"]
        if result is None:
            return Ended(how, lines + text)
        return Ended(how, lines + text, {"": np.asarray(result.params)}, dict(result.history))

    def replay(self, folder: Path) -> Ended:
        start = START if self._result is None else self._result
        with heard() as lines:
            try:
                params = mutagrad.replay(folder, self._algorithm, start).params
            except (ValueError, OSError) as error:
                return Ended("refused", [*lines, str(error)])
        return Ended("", lines, {"": np.asarray(params)})

    def lineage(self, folder: Path) -> Path:
        return folder / lineage.NAME


class Train:
    """`mutagrad train` on the digits: new, or on with a run that ended at its third generation."""

    def __init__(self, name: str):
        self.name = name

    def prepare(self, folder: Path) -> None:
        if self.name == "train, on":
            reliability.begun(folder, 3)
        else:
            shutil.rmtree(folder)

    def run(self, folder: Path) -> Ended:
        going = (
            ["--resume", str(folder)]
            if (folder / "config.json").exists()
            else [*reliability.SETTINGS, "--out", str(folder)]
        )
        with heard() as lines:
            status, text = reliability.called("train", "--quiet", *going, "--generations", str(NUMBER))
        lines = lines + text.strip().splitlines()
        how = {0: "", 1: "failed", 2: "refused"}.get(status, "TRACEBACK")
        try:
            found = reliability.params(folder), run_folder.read_history(folder).load()
        except (OSError, ValueError, AttributeError):
            return Ended(how, lines)
        wrong = run_folder.damage(folder) if not how else []
        names = [one for one in found[1].data_vars if found[1][one].dims == ("generation",)]
        return Ended(how, lines + wrong, found[0], {one: found[1][one].values for one in names})

    def replay(self, folder: Path) -> Ended:
        place = folder.with_name("replayed.safetensors")
        with heard() as lines:
            status, text = reliability.called("replay", str(folder), "--out", str(place))
        lines = lines + text.strip().splitlines()
        if status:
            return Ended({1: "failed", 2: "refused"}.get(status, "TRACEBACK"), lines)
        return Ended("", lines, load_file(place))

    def lineage(self, folder: Path) -> Path:
        return folder / "checkpoint" / lineage.NAME


SCENARIOS: dict[str, Evolve | Train] = {
    one.name: one
    for one in (
        Evolve("evolve, new"), Evolve("evolve, on from damage"), Evolve("evolve, on from a result"),
        Train("train, new"), Train("train, on"),
    )
}  # fmt: skip


def called(method: str, name: str, folder: Path) -> Ended:
    """A method of a scenario, for a worker."""
    return getattr(SCENARIOS[name], method)(folder)


def faulty(name: str, folder: Path, shadow: Path, listing: Path, kind: int, n: int, span: int) -> Ended:
    """A run whose calls from the n-th on go wrong."""
    library = ctypes.CDLL(None)
    words = [os.fsencode(one) for one in (folder, shadow, listing)]
    library.faults_arm(*words, kind, ctypes.c_long(n), ctypes.c_long(span))
    try:
        return SCENARIOS[name].run(folder)
    finally:
        library.faults_disarm()


def prepared(template: Path, home: Path) -> tuple[Path, Path, Path]:
    """A folder as a run finds it, copies of what is on its disk for certain, and a file for the list of calls."""
    folder, shadow, listing = home / "run", home / "shadow", home / "calls"
    for one in (folder, shadow):
        shutil.rmtree(one, ignore_errors=True)
    listing.unlink(missing_ok=True)
    shadow.mkdir()
    if template.exists():
        shutil.copytree(template, folder)
    for path in folder.rglob("*"):
        if path.is_file():
            shutil.copyfile(path, shadow / str(path.stat().st_ino))
    return folder, shadow, listing


def cut_off(folder: Path, shadow: Path, to: Path) -> None:
    """Copy what had been forced to the disk of every file; names are kept, as a file system with a journal keeps them."""

    def copied(source: str, target: str) -> None:
        kept = shadow / str(os.stat(source).st_ino)
        Path(target).write_bytes(kept.read_bytes() if kept.exists() else b"")

    shutil.rmtree(to, ignore_errors=True)
    if folder.exists():
        shutil.copytree(folder, to, copy_function=copied)


def lineage_of(path: Path) -> tuple[str, tuple[bytes, ...]]:
    """How the lineage in a journal began, whatever its run is called, and its rows."""
    try:
        found = journal.read(path)
    except (OSError, ValueError):
        return "", ()
    began = str({name: one for name, one in found.attributes.items() if name != "run"})
    columns = ([one.tobytes() for one in column] for column in found.columns.values())
    return began, tuple(b"".join(row) for row in zip(*columns, strict=True))


def is_same(one: Ended, other: Ended) -> bool:
    """Whether two runs came to the same, bit for bit."""
    if one.params is None or one.history is None or other.params is None or other.history is None:
        return False
    return all(
        mine.keys() == theirs.keys() and all(mine[name].tobytes() == theirs[name].tobytes() for name in mine)
        for mine, theirs in ((one.params, other.params), (one.history, other.history))
    )


def what_is_wrong_with(lines: list[str], how: str) -> str:
    """Of what was said: a traceback, or an end without a word."""
    if how == "TRACEBACK" or any("Traceback" in line or 'File "' in line for line in lines):
        return f"a traceback: {lines[-3:]}"
    if how and not lines:
        return "ended without a word"
    return ""


class Campaign:
    """All trials of a scenario, and what they came to."""

    def __init__(self, name: str, home: Path):
        self.name, self._home, self._template = name, home, home / "template"
        self.worker = Worker()
        self.counts: collections.Counter[tuple[str, str, str]] = collections.Counter()
        self.wrong: list[str] = []
        self._template.mkdir(parents=True)
        self.worker(called, "prepare", name, self._template)
        folder, shadow, listing = prepared(self._template, home)
        self.whole: Ended = self.worker(faulty, name, folder, shadow, listing, 0, 0, 0)
        assert is_same(self.whole, self.whole), self.whole
        self.calls = [line.split(" ")[1] for line in listing.read_text().splitlines()]
        self._lineage = lineage_of(SCENARIOS[name].lineage(folder))
        self._replayed: dict[Any, str] = {}
        assert self._lineage[1], "the run without a fault has no lineage"
        assert not self._no_replay(folder, self.whole), self._replayed

    def asked(self, method: str, folder: Path) -> Ended:
        """A method of the scenario in the worker; a process that hangs or dies is replaced."""
        try:
            return self.worker(called, method, self.name, folder)
        except Lost as lost:
            return self._replaced(lost)

    def _replaced(self, lost: Lost) -> Ended:
        self.worker.end()
        self.worker = Worker()
        return Ended("TRACEBACK", [str(lost) or "the process died"])

    def tried(self, fault: str, n: int) -> None:
        """One fault at the n-th call, and what became of the run."""
        kind, span = FAULTS[fault]
        folder, shadow, listing = prepared(self._template, self._home)
        arguments = (faulty, self.name, folder, shadow, listing, kind, n, span)
        is_killed = fault.startswith("killed")
        ended = self._killed(*arguments) if is_killed else self._failed(*arguments)
        lines = listing.read_text().splitlines()
        call, path = lines[n - 1].split(" ")[1:3] if len(lines) >= n else (self.calls[n - 1], "")
        cut = self._home / "cut" / "run"
        cut_off(folder, shadow, cut)
        outcome, why = self._outcome_of_kill(ended) if is_killed else self._outcome_of_error(ended)
        why = why or self._lost_lineage(folder, shadow) or self._goes_on_wrongly(folder)
        self._counted(fault, n, call, path, outcome, why)
        if fault == "disk gone":
            self._counted(CUT, n, call, path, "went on", self._goes_on_wrongly(cut))

    def _counted(self, fault: str, n: int, call: str, path: str, outcome: str, why: str) -> None:
        self.counts[fault, call, "WRONG" if why else outcome] += 1
        if why:
            self.wrong.append(f"{fault}, call {n} ({call} {path}): {why}")
            print(self.name, self.wrong[-1][:700], flush=True)

    def _killed(self, *arguments: Any) -> Ended:
        """In a process of its own."""
        child = Worker()
        try:
            ended = child(*arguments)
            return ended._replace(how="not reached" if not ended.how else ended.how)
        except Lost as lost:
            return Ended(str(lost) or "killed", [])
        finally:
            child.end()

    def _failed(self, *arguments: Any) -> Ended:
        try:
            return self.worker(*arguments)
        except Lost as lost:
            return self._replaced(lost)

    def _outcome_of_kill(self, ended: Ended) -> tuple[str, str]:
        """Which it is, and what is wrong with it, if something is."""
        if ended.how == "killed":
            return "went on", ""
        return ended.how, "" if ended.how == "not reached" else f"ended by itself: {ended.how}, {ended.lines}"

    def _outcome_of_error(self, ended: Ended) -> tuple[str, str]:
        if why := what_is_wrong_with(ended.lines, ended.how):
            return "", why
        must_be = not ended.how or (ended.how == "failed" and isinstance(SCENARIOS[self.name], Evolve))
        if must_be and not is_same(ended, self.whole):
            return "", f"{ended.how or 'ended'}, and is another: {ended.lines}"
        if not ended.how:
            return "ended the same, and said it" if ended.lines else "ended the same", ""
        return "failed in a line, with its result" if must_be else f"{ended.how} in a line", ""

    def _lost_lineage(self, folder: Path, shadow: Path) -> str:
        """Rows that had been forced to the disk and are not there."""
        path = SCENARIOS[self.name].lineage(folder)
        if not path.exists() or not (kept := shadow / str(path.stat().st_ino)).exists():
            return ""
        certain, there = lineage_of(kept)[1], lineage_of(path)[1]
        return "" if there[: len(certain)] == certain else "lineage is gone that had been forced to the disk"

    def _goes_on_wrongly(self, folder: Path) -> str:
        """What is wrong with the replay of what is left, the run that goes on without a fault, and its lineage."""
        if folder.exists() and (why := self._no_replay(folder, None)):
            return why
        again = self.asked("run", folder)
        if why := what_is_wrong_with(again.lines, again.how):
            return f"the next run: {why}"
        if again.how or not is_same(again, self.whole):
            return f"the next run: {again.how or 'another'}, {again.lines}"
        found = lineage_of(SCENARIOS[self.name].lineage(folder))
        if found != self._lineage:
            return f"the lineage is another, of {len(found[1])} generations: {again.lines}"
        return ""

    def _no_replay(self, folder: Path, whole: Ended | None) -> str:
        """What is wrong with the replay of a folder; each lineage is replayed once."""
        found = lineage_of(SCENARIOS[self.name].lineage(folder))
        if found not in self._replayed:
            made = self.asked("replay", folder)
            why = what_is_wrong_with(made.lines, made.how)
            if whole is not None and whole.params is not None and made.params is not None:
                same = [one.tobytes() for one in made.params.values()] == [
                    one.tobytes() for one in whole.params.values()
                ]
                why = why or ("" if same else "its lineage makes other parameters")
            self._replayed[found] = why and f"replay: {why}"
        return self._replayed[found]

    def table(self) -> str:
        outcomes = sorted({outcome for *_, outcome in self.counts})
        rows = []
        for fault in (*FAULTS, CUT):
            for call in dict.fromkeys(self.calls):
                numbers = [self.counts[fault, call, outcome] for outcome in outcomes]
                if any(numbers):
                    rows.append(f"| {fault} | {call} | {' | '.join(str(number or '') for number in numbers)} |")
        head = f"| fault | call | {' | '.join(outcomes)} |\n" + (2 + len(outcomes)) * "| --- " + "|"
        return "\n".join([head, *rows, "", *self.wrong[:20]])


def run(name: str, every: int, kills: int, minutes: int, home: Path) -> str:
    """Every so many calls of a scenario, with every fault; a kill at every so many of them."""
    campaign, start, done = Campaign(name, home), time.monotonic(), 0
    # Scattered, so that those that there is time for are of all parts of the run.
    numbers = sorted(range(1, len(campaign.calls) + 1, every), key=lambda n: n * 0.618034 % 1)
    for n in numbers:
        if minutes and time.monotonic() - start > 60 * minutes:
            break
        for fault, (kind, _) in FAULTS.items():
            if campaign.calls[n - 1] not in WRITES and kind in (3, 4):
                continue
            if kind > 3 or (kills and done % kills == 0):
                campaign.tried(fault, n)
        done += 1
    campaign.worker.end()
    told = f"Of {len(campaign.calls)} calls, {done} went wrong, and at one of {kills} of these the process was killed."
    wrong = f"WRONG: {len(campaign.wrong)}." if campaign.wrong else "Nothing was wrong."
    return f"## {name}\n\n{told} {wrong}\n\n{campaign.table()}"


def preloaded() -> int:
    """Start this again with the library in place, which is compiled first."""
    compiler = next((one for one in ("cc", "gcc", "clang") if shutil.which(one)), None)
    if compiler is None:
        print("faults: got no C compiler on the PATH (cc, gcc or clang); install one", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as place:
        library = f"{place}/faults.so"
        source = str(Path(__file__).with_suffix(".c"))
        subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, source, "-ldl", "-lpthread"], check=True)
        own = {"LD_PRELOAD": library, "JAX_COMPILATION_CACHE_DIR": f"{place}/cache", "TF_CPP_MIN_LOG_LEVEL": "3"}
        own |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
        words = [sys.executable, "-m", "verification.faults", *sys.argv[1:]]
        return subprocess.run(words, env={"JAX_PLATFORMS": "cpu"} | os.environ | own, check=False).returncode


def main() -> None:
    args = common.arguments(__doc__, evolve=1, others=5, train=10, kills=5, minutes=0)
    if not os.environ.get("LD_PRELOAD", "").endswith("/faults.so"):
        sys.exit(preloaded())
    saved._SECONDS, chunks._CHUNK_SECONDS = 0.0, 1e6
    reliability.light()
    start, sections = time.monotonic(), []
    # In memory, where there is such a folder: what is forced to a disk takes its time there.
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as place:
        for index, name in enumerate(SCENARIOS):
            every = args.train if name.startswith("train") else args.evolve if not index else args.others
            if every:
                sections.append(run(name, every, args.kills, args.minutes, Path(place) / str(index)))
                print(sections[-1], flush=True)
    common.report("faults", sections, args, "", time.monotonic() - start)


if __name__ == "__main__":
    main()
