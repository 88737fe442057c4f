"""Random command lines, in one process: each ends with a known status, at most one line of complaint, and in time.

Arguments are drawn from what is right, what is at a bound and what is neither: numbers of 20 digits, words for numbers, paths
that are missing, damaged or of another kind, flags that do not exist. What costs time is replaced: reading data, making a
network, generations, drawing, and the simulation of a claim. In place of one of them a line in five meets what may happen to a
run: Ctrl-C, SIGTERM, a full disk, no memory. Streams are of UTF-8, Latin-1 or ASCII, some of them closed at the other end.

    python -m verification.command_line

writes verification/results/command_line.md; with --no-write it only prints. ``--lines`` is for each command.
"""

import collections
import contextlib
import errno
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import types
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np

import mutagrad
from mutagrad import cli
from mutagrad.lab.claims import page, reproduction, verdicts, words
from mutagrad.lab.tasks.data import load
from mutagrad.lab.training import inspect, problem, replay, train
from mutagrad.lab.training import page as page_of_run
from mutagrad.lab.training.options import TrainConfig
from mutagrad.report.page.watch import Watched
from mutagrad.run import lineage
from mutagrad.run.evolve import RunError
from mutagrad.run.signals import Terminated

COMMANDS = ("train", "inspect", "report", "replay", "reproduce", "claims", "")
STATUSES = (0, 1, 2, 130, 143)
SECONDS = 10
"""Of the processor, for one line; and six times as many of the clock, since other processes may be at work."""
CLAIMS = ("W21-9", "W26-1", "K23-8")
INTEGERS = (
    *(
        "0",
        "1",
        "2",
        "3",
        "-1",
        "7",
        "100",
        "4096",
        str(2**31 - 1),
        str(2**31),
        str(2**32),
        str(2**63),
        "9" * 20,
        "-" + "9" * 20,
    ),
    *("1e3", "2.5", "", " 3", "٣", "nan", "0x10", "1_000", "9" * 5000, "seven"),
)
REALS = (
    "0",
    "1",
    "-1",
    "0.5",
    "1e-3",
    "1e-300",
    "1e300",
    "inf",
    "-inf",
    "nan",
    "auto",
    "",
    "9" * 20,
    "1,5",
    "β",
    "1e-46",
)
WORDS = (
    *("digits", "mnist", "mlp", "convnet", "lecun", "pytorch", "elitist", "comma", "greedy", "metropolis", "logistic"),
    *(
        "boltzmann",
        "fixation",
        "truncation",
        "weighted_recombination",
        "shared",
        "separate",
        "classification",
        "regression",
    ),
    *("", "σ", "-", "--", "\x00", "\udce9", "a b", "*", "None", "true", "a" * 5000, "line\nbreak"),
)
WIDTHS = ("4", "8,4", "", ",", "0", "-3", "4,x", "4," * 40 + "4", "9" * 20, "1000000,1000000", "2.5")
OTHERS = ("--help", "-h", "--version", "--sigm", "--", "-x", "--quiet", "--quiet=1", "extra", "--no-quiet", "@file")


class Hang(BaseException):
    """A command that has not ended in time."""


def paths(root: Path) -> tuple[str, ...]:
    """Places that a command may be given: runs, data, claims, and what is none of them."""
    places = [str(path.relative_to(root)) for path in sorted(root.iterdir())]
    others = (
        "new",
        "~/new",
        "new/deeper",
        "good/new",
        "data.npz/new",
        "/proc/none/new",
        "/dev/null",
        "~nobody-there/x",
        ".",
    )
    return (*places, *others, *WORDS[-12:])


def prepare(root: Path) -> None:
    """Runs that are whole, damaged in many ways or barely begun, and data."""
    rng = np.random.default_rng(0)
    np.savez(root / "data.npz", x_train=rng.normal(size=(40, 3)), y_train=np.arange(40) % 2)
    (root / "broken.npz").write_bytes(b"PK\x03\x04 and no more")
    (root / "empty").mkdir()
    (root / "file").write_text("")
    with contextlib.chdir(root):
        config = TrainConfig(data="data.npz", widths=(3,), num_offspring=4, sigma=0.01, generations=12, out="good")
        train.train(config, progress=False)
    (root / "good" / "training.png").write_bytes(b"")
    mutagrad.evolve(
        jax.random.key(0),
        mutagrad.elitist(0.1, 4),
        np.ones(3),
        lambda x: x @ x,
        12,
        checkpoint=root / "evolved",
        progress=False,
    )
    shutil.copytree(root / "evolved", root / "evolved-damaged")
    (root / "evolved-damaged" / "history.journal").write_bytes(b"{")
    whole = json.loads((root / "good" / "config.json").read_text(encoding="utf-8"))
    settings = whole["settings"]
    contents = {
        "list": [],
        "string": "run",
        "number": 3,
        "null": None,
        "nothing": {},
        "settings-list": whole | {"settings": [1]},
        "settings-null": whole | {"settings": None},
        "settings-kinds": whole | {"settings": settings | {"widths": "32"}},
        "settings-nan": whole | {"settings": settings | {"sigma": None}},
        "settings-fewer": whole | {"settings": {"data": "digits"}},
        "outcome-list": whole | {"outcome": [1]},
        "outcome-kinds": whole | {"outcome": whole["outcome"] | {"generations": "many"}},
        "unfinished": {name: value for name, value in whole.items() if name != "outcome"},
        "elsewhere": whole | {"versions": whole["versions"] | {"jax": "0.1"}, "device": "abacus"},
        "versions-list": whole | {"versions": [], "device": 3},
    }
    for name, content in contents.items():
        shutil.copytree(root / "good", root / name)
        (root / name / "config.json").write_text(json.dumps(content))
    (root / "unfinished" / "params.safetensors").unlink()
    for name, text in {"cut": '{"settings": {', "binary": "\udcff", "deep": "[" * 100_000}.items():
        shutil.copytree(root / "good", root / name)
        (root / name / "config.json").write_text(text, errors="surrogateescape")
    shutil.copytree(root / "good", root / "no-history")
    shutil.rmtree(root / "no-history" / "history.zarr")
    shutil.copytree(root / "good", root / "bad-history")
    for path in (root / "bad-history" / "history.zarr").rglob("*"):
        if path.is_file():
            path.write_bytes(b"{")
    begun = root / "begun"
    begun.mkdir()
    (begun / "config.tmp").write_text("{")


def fault(generator: random.Random) -> BaseException | None:
    """What may happen to a run: nothing, four times in five."""
    faults = (
        KeyboardInterrupt(),
        Terminated("terminated"),
        OSError(errno.ENOSPC, "No space left on device", "history.zarr"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "history.zarr"),
        MemoryError(),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nAnd more."),
        RunError("evolve: ValueError: no after generation 3\n; error.result holds the run up to it", None),  # type: ignore[arg-type]
        ValueError("some: got\nlines"),
        ModuleNotFoundError("No module named 'zarr'"),
    )
    return generator.choice(faults) if generator.random() < 0.2 else None


class Seams:
    """What stands in for work that costs time."""

    def __init__(self, root: Path, generator: random.Random):
        self._generator = generator
        self._data = load(str(root / "data.npz"))
        config = TrainConfig(data=str(root / "data.npz"), widths=(3,), num_offspring=4, sigma=0.01, generations=12)
        self._problem = problem.set_up(config, self._data)
        self._run = train._run(config, self._problem, None, False)
        self._claims = [claim for claim in reproduction.claims() if claim.id in CLAIMS]

    def _or_fault(self, value: Any) -> Any:
        error = fault(self._generator)
        if error is not None:
            raise error
        return value() if callable(value) else value

    def _load(self, name: Any, *rest: Any) -> Any:
        return self._or_fault(self._data if name in ("digits", "mnist") else lambda: load(name, *rest))

    def _set_up(self, config: TrainConfig, data: Any) -> Any:
        problem._check_room(config, problem._inputs(config, data).data)
        return self._or_fault(self._problem)

    def _advance(self, key: Any, state: Any, previous: Any, rows: Any) -> Any:
        """Generations that are not made, and pass for the run's own."""
        return state, previous, np.ones(len(rows["checksum"]), bool)

    def _reproduce(self, claim: Any, folder: Path, scale: str, progress: bool) -> Any:
        """As far as what is found there."""
        done = folder / claim.id / "verdict.json"
        if done.exists():
            return verdicts.read(done)
        return self._or_fault(lambda: next(one for key, one in verdicts.committed().items() if key[0] == claim.id))

    def _page(self, *told: Any, out: Any = None, version: str = "") -> Any:
        if out is not None:
            Path(out).write_text("<html>", encoding="utf-8")
        return self._or_fault(types.SimpleNamespace(html="<html>", path=out))

    def patched(self) -> contextlib.ExitStack:
        """The library with all of them in place."""
        stack = contextlib.ExitStack()
        for owner, name, value in (
            (train, "load", self._load),
            (train, "set_up", self._set_up),
            (train, "_run", lambda *rest: self._or_fault(self._run)),
            (train.figure, "draw", lambda path, *rest: self._or_fault(lambda: path.write_bytes(b""))),
            (inspect.figures, "windows", lambda courses, path, *rest: self._or_fault(lambda: path.write_bytes(b""))),
            (inspect, "diagnosis", lambda folder, number, say: self._or_fault(lambda: say(f"{number} at a time"))),
            (inspect, "landscape", lambda folder, say: self._or_fault(lambda: say("flat"))),
            (page_of_run, "diagnosed", lambda folder, number: self._or_fault(lambda: None)),
            (page_of_run.report_page, "page", self._page),
            (Watched, "serve", lambda watched: self._or_fault(watched._server.server_close)),
            (webbrowser, "open", lambda address: self._or_fault(True)),
            (replay, "load", self._load),
            (replay, "set_up", self._set_up),
            (lineage, "_advance_of", lambda *rest: self._or_fault(lambda: self._advance)),
            (reproduction, "claims", lambda: self._claims),
            (words, "claims", lambda: self._claims),
            (reproduction, "reproduce", self._reproduce),
            (page, "write", lambda path: self._or_fault(lambda: path.write_text(words.table(), encoding="utf-8"))),
        ):
            stack.enter_context(mock.patch.object(owner, name, value))
        return stack


def flags(command: str) -> list[tuple[str, tuple[str, ...] | None]]:
    """The options of a command and what their values are drawn from: words of its own parser, so that none is forgotten."""
    parser = cli._parser()
    actions: list[Any] = next(action for action in parser._actions if action.choices).choices[command]._actions  # type: ignore[union-attr,index]
    found: list[tuple[str, tuple[str, ...] | None]] = []
    for action in actions:
        kinds = {"whole": INTEGERS, "real": REALS, "_sigma": REALS, "_widths": WIDTHS}
        for option in action.option_strings:
            name = getattr(action.type, "__name__", "")
            if action.nargs == 0:
                found.append((option, None))
            elif action.metavar in ("N", "K", "M", "n", "L", "G", "B"):
                found.append((option, INTEGERS))
            elif action.metavar in ("DIR", "RUN", "FILE"):
                found.append((option, ()))
            elif name == "parse":
                found.append((option, REALS))
            else:
                found.append((option, kinds.get(name, WORDS)))
    return found


def line(generator: random.Random, command: str, known: list, places: tuple[str, ...]) -> list[str]:
    """A command line, drawn at random."""
    if not command:
        pool = (*COMMANDS[:-1], *OTHERS, *WORDS, *INTEGERS)
        return [generator.choice(pool) for _ in range(generator.randrange(4))]
    words = [command]
    if command in ("inspect", "report", "replay") and generator.random() < 0.95:
        words += [generator.choice(places) for _ in range(1 + (command == "report") * generator.randrange(3))]
    if command == "reproduce" and generator.random() < 0.95:
        words.append(generator.choice((*CLAIMS, "all", "whitelam2021", "w21-9", *WORDS)))
    for _ in range(min(int(generator.expovariate(0.6)), 12)):
        if generator.random() < 0.04:
            words.append(generator.choice(OTHERS))
            continue
        option, values = generator.choice(known)
        if option in ("--help", "-h") and generator.random() < 0.9:
            continue
        if values is None:
            words.append(option)
            continue
        value = generator.choice(values or places)
        if option == "--scale":
            value = generator.choice(("quick", "long", "paper", value))
        words += generator.choice(([f"{option}={value}"], [option, value], [option, value], [option, value]))
        if generator.random() < 0.02:
            words.pop()
    return words


class Closed(io.RawIOBase):
    """The end of a pipe that nobody reads."""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


@contextlib.contextmanager
def streams(generator: random.Random) -> Iterator[tuple[Any, Any]]:
    """Standard output and error of some encoding, their contents in memory, or nowhere."""
    encoding = generator.choice(("utf-8", "utf-8", "ascii", "latin-1"))
    raw: Any = io.BufferedWriter(Closed()) if generator.random() < 0.05 else io.BytesIO()
    out, err = io.TextIOWrapper(raw, encoding=encoding), io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = out, err
    try:
        yield out, err
    finally:
        sys.stdout, sys.stderr = before
        with contextlib.suppress(OSError, ValueError):
            out.detach()


def _alarm(number: int, frame: Any) -> None:
    raise Hang


def outcome(generator: random.Random, arguments: list[str]) -> tuple[Any, str]:
    """The status of a command line, and what was wrong with how it ended; "" if nothing was."""
    with streams(generator) as (_, err):
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.setitimer(signal.ITIMER_REAL, 6 * SECONDS)
        trace, status = "", None
        try:
            status = cli.main(arguments)
        except Hang:
            trace = f"no end in {SECONDS} s"
        except BaseException as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            trace = f"{type(error).__name__}: {' '.join(str(error).split())[:90]} ({Path(place.filename).name}:{place.lineno})"
        finally:
            for timer in (signal.ITIMER_PROF, signal.ITIMER_REAL):
                signal.setitimer(timer, 0)
        err.flush()
        shown = err.buffer.getvalue().decode(err.encoding, "replace")  # type: ignore[attr-defined]
    if trace:
        return None, trace
    if status not in STATUSES:
        return status, f"status {status!r}"
    complaints = [one for one in shown.splitlines() if one.startswith("mutagrad")]
    if "Traceback" in shown:
        return status, "a traceback on standard error"
    if len(complaints) > 1:
        return status, f"{len(complaints)} lines of complaint"
    if status == 2 and len(complaints) != 1:
        return status, "refused without a line"
    return status, ""


def restore(root: Path, before: dict[str, float]) -> None:
    """The folder as it was."""
    for path in root.iterdir():
        if path.name not in before:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def run(
    number: int, seed: int, say: Callable[[str], Any] = lambda text: None
) -> tuple[list[list[str]], dict[str, list]]:
    """Rows of the table, and for each kind of failure how often it came and the first command line.

    Parameters
    ----------
    number : of lines for each command. seed : of all that is drawn. say : called with what goes wrong, as it does.
    """
    rows, failures = [], collections.defaultdict(list)
    generator = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        prepare(root)
        seams = Seams(root, generator)
        copy = root.parent / f"{root.name}-copy"
        shutil.copytree(root, copy)
        handlers = {number: signal.signal(number, _alarm) for number in (signal.SIGALRM, signal.SIGPROF)}
        kept = {path.name: 0.0 for path in root.iterdir()}
        verdict_folder = verdicts.FOLDER
        for one in sorted(verdict_folder.glob("*.json")):
            if one.name.split(".")[0] in CLAIMS:
                shutil.copy(one, copy)
        try:
            with (
                seams.patched(),
                contextlib.chdir(root),
                mock.patch.dict(os.environ, HOME=str(root / "empty")),
                mock.patch.object(verdicts, "FOLDER", copy),
            ):
                for command in COMMANDS:
                    known = flags(command) if command else []
                    places = paths(root)
                    counts: collections.Counter = collections.Counter()
                    wrong, slowest = 0, 0.0
                    for _ in range(number):
                        arguments = line(generator, command, known, places)
                        start = time.process_time()
                        status, problem_found = outcome(generator, arguments)
                        slowest = max(slowest, time.process_time() - start)
                        counts[status] += 1
                        if problem_found:
                            wrong += 1
                            failures[f"{command}: {problem_found}"].append(arguments)
                            say(f"{problem_found}: {arguments}")
                        restore(root, kept)
                        if not (root / "good" / "config.json").exists() or generator.random() < 0.002:
                            shutil.rmtree(root / "good", ignore_errors=True)
                            shutil.copytree(copy / "good", root / "good")
                    shown = [f"{counts[status]:,}" for status in STATUSES]
                    rows.append([command or "none, or another", f"{number:,}", *shown, f"{wrong:,}", f"{slowest:.1f}"])
        finally:
            for number_of_signal, handler in handlers.items():
                signal.signal(number_of_signal, handler)
            shutil.rmtree(copy)
    return rows, dict(failures)


def main() -> None:
    from benchmarks.common import table
    from verification.common import arguments, report, versions

    args = arguments(__doc__, lines=10_000, seed=0)
    start = time.process_time()
    rows, failures = run(args.lines, args.seed, lambda text: print(text, file=sys.stderr))
    head = ["command", "lines", *(f"status {status}" for status in STATUSES), "wrong", "slowest, s"]
    found = "\n".join(f"- {len(all_of)} of {what}; first `{all_of[0]}`" for what, all_of in failures.items())
    text = (
        "Wrong is a line whose status is another, which shows a traceback or more than one line of complaint, is refused "
        f"without one, or has not ended after {SECONDS} s. Seconds are of the processor."
    )
    sections = [text, table(head, rows), *([found] if found else [])]
    report("command_line", sections, args, "", time.process_time() - start, [versions("jax", "numpy")])


if __name__ == "__main__":
    main()
