"""The command line: arguments in, one call out. Errors are one line on standard error; `main` has the exit statuses."""

import argparse
import errno
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from mutagrad.lab.training import page_command
from mutagrad.lab.training.options import TrainConfig, add_arguments, path, whole
from mutagrad.run.signals import EXIT_STATUS, NAMES, Terminated, deferred, heard

__all__ = ["main"]

_FAILED = 1
_REFUSED = 2
_OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
"""Errors of the system that come while something is written, whatever was asked for."""


class _Parser(argparse.ArgumentParser):
    """argparse, but an error is one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


@cache
def _parser() -> _Parser:
    parser = _Parser(
        prog="mutagrad", description="Train by mutation and selection, and know which gradient descent it is."
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    train = commands.add_parser(
        "train",
        help="train a network and leave a run folder",
        description="Train a network by mutation and selection, to classify or to predict a number. With nothing set: the "
        "digits, an MLP, (1+20), σ automatic, 2000 generations. Ctrl-C, SIGTERM and SIGHUP end a run cleanly, with everything "
        "saved.",
        allow_abbrev=False,
    )
    add_arguments(train)
    train.add_argument("--quiet", action="store_true", help="no progress bar")
    train.add_argument("--open", action="store_true", help="show the page of the run in the browser at its end")
    page_command.add_parser(commands)
    inspect = commands.add_parser(
        "inspect",
        help="in which regime a run was, and what would do better",
        description="Say from the history of a run folder in which regime the run was: s, slope, curvature and sampling "
        "noise over its course, with a figure, inspect.png, in the folder. With --diagnose also what the best σ and number "
        "of offspring are at its end, and what gradients would have bought, with diagnosis.png. With --landscape also how flat "
        "the loss is there, and what mutations do to it, with landscape.png.",
        allow_abbrev=False,
    )
    either = "a folder that mutagrad train --out wrote, or a checkpoint of mutagrad.evolve"
    inspect.add_argument("run", metavar="RUN", type=path, help=either)
    inspect.add_argument(
        "--diagnose", action="store_true", help="evaluate some hundred mutants, and gradients, at the last parameters"
    )
    inspect.add_argument(
        "--landscape",
        action="store_true",
        help="evaluate a hundred places around the last parameters, and a thousand mutants of them",
    )
    inspect.add_argument(
        "--num-workers", type=whole, default=1, metavar="N", help="evaluations at the same time, for --diagnose (1)"
    )
    again = commands.add_parser(
        "replay",
        help="make a generation of a run again from its lineage",
        description="Make the parameters of a generation again from the start of a run and the winners that it wrote down, "
        "without evaluating the loss; hold each generation against its checksum, and the last against the checkpoint.",
        allow_abbrev=False,
    )
    again.add_argument("run", metavar="RUN", type=path, help="a folder that mutagrad train --out wrote")
    again.add_argument("--generation", type=whole, metavar="N", help="up to which (the last)")
    again.add_argument("--out", metavar="FILE", type=path, help="a .safetensors file to write its parameters to")
    listed = commands.add_parser("claims", help="all claims with their last verdicts", allow_abbrev=False)
    listed.add_argument(
        "--html",
        nargs="?",
        const="claims.html",
        type=path,
        metavar="FILE",
        help="write them, with figures, as a page (claims.html)",
    )
    reproduce = commands.add_parser(
        "reproduce",
        help="decide claims by simulation",
        description="Decide a claim: write its figure, data and verdict into OUT/ID. A claim that has a verdict there for the "
        "same settings is not run again, so that a series can be interrupted and continued.",
        allow_abbrev=False,
    )
    reproduce.add_argument("claim", metavar="CLAIM", help="an id such as W21-9, a work such as whitelam2021, or all")
    reproduce.add_argument("--scale", default="quick", metavar="NAME", help="quick, long or paper (quick)")
    reproduce.add_argument("--key", type=whole, metavar="N", help="another key than the registered one: a trial")
    reproduce.add_argument(
        "--out", default="claims", type=path, metavar="DIR", help="where the claims are written (claims)"
    )
    reproduce.add_argument("--plan", action="store_true", help="only say what it needs and how long it takes")
    reproduce.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Parameters
    ----------
    arguments : the words after ``mutagrad``; those of the process unless given.

    Returns
    -------
    0 : done.
    1 : it failed on the way, for want of disk or memory say; a training run has saved what it had. Also where whoever read the
        output went away.
    2 : it was refused: an argument is wrong, or what it names is missing or damaged. Nothing was done.
    129 : SIGHUP ended it, as a closed terminal sends, 130 : Ctrl-C did, and 143 : SIGTERM did. A training run has first saved
        everything.

    Whatever is not 0 comes with one line on standard error, but where nobody reads, and for a run that was ended by a signal,
    which says so in its summary.

    >>> from mutagrad.cli import main
    >>> main(["train", "--generations", "0"])
    2
    """
    with _streams(), heard(), warnings.catch_warnings():
        warnings.showwarning = _warned
        command = ""
        try:
            try:
                options = vars(_parser().parse_args(arguments))
                command = options.pop("command")
                # argparse of Python 3.11 and 3.12 takes the "--" of --out=-- away, and leaves nothing; that of 3.13 leaves it.
                for name in (name for name, value in options.items() if value == [] or str(value) == "--"):
                    _parser().error(f"argument --{name.replace('_', '-')}: expected one argument")
                status = _run(command, options)
            except SystemExit as stop:
                status = stop.code if isinstance(stop.code, int) else 0
            _flush()
            return status
        except KeyboardInterrupt:
            return _ended(command, "interrupted")
        except Terminated as ended:
            return _ended(command, ended.reason)
        except BrokenPipeError:
            _discard()
            return _FAILED
        except OSError as error:
            # Standard output cannot be written: what is left in its buffer would be tried again at the end of the process.
            _discard()
            return _refused(command, error, _FAILED)


def _run(command: str, options: dict[str, Any]) -> int:
    """Run a command; what it refuses is said in one line."""
    commands: dict[str, Callable[..., int]] = {
        "train": _train,
        "report": page_command.report,
        "inspect": _inspect,
        "replay": _replay,
        "reproduce": _reproduce,
        "claims": _claims,
    }
    try:
        return commands[command](**options)
    except BrokenPipeError:
        raise
    except ModuleNotFoundError as error:
        return _refused(command, f"{error}; install the lab extra: pip install 'mutagrad[lab]'")
    except MemoryError as error:
        return _refused(command, f"not enough memory ({error or 'for what was asked'}); ask for less", _FAILED)
    except OSError as error:
        return _refused(command, error, _FAILED if error.errno in _OF_DISKS else _REFUSED)
    except (ValueError, ImportError) as error:
        return _refused(command, error)
    except RuntimeError as error:
        from mutagrad.run.evolve import RunError

        if "RESOURCE_EXHAUSTED" in str(error):
            return _refused(command, f"not enough memory ({error}); ask for less", _FAILED)
        if not isinstance(error, RunError):
            raise
        return _refused(command, error, _FAILED)


def _refused(command: str, error: Exception | str, status: int = _REFUSED) -> int:
    with suppress(OSError):
        print(f"mutagrad {command}: {_one_line(error) or type(error).__name__}", file=sys.stderr)
    return status


def _warned(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,
    line: str | None = None,
) -> None:
    """A warning is a line without the place in the program that it came from."""
    with suppress(OSError):
        print(f"mutagrad: {_one_line(message)}", file=sys.stderr)


def _ended(command: str, reason: str) -> int:
    try:
        print(f"mutagrad {command}: ended by {NAMES[reason]}; what had been saved stays", file=sys.stderr)
        sys.stdout.flush()
    except OSError:
        _discard(sys.stdout, sys.stderr)
    return EXIT_STATUS[reason]


def _one_line(text: Any) -> str:
    return " ".join(str(text).split())


@contextmanager
def _streams() -> Iterator[None]:
    """Where the terminal has no σ it gets a question mark, and no error."""
    changed = []
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure") and stream.errors == "strict":
            stream.reconfigure(errors="replace")
            changed.append(stream)
    try:
        yield
    finally:
        for stream in changed:
            with suppress(OSError, ValueError):
                stream.reconfigure(errors="strict")


def _flush() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()


def _discard(*streams: Any) -> None:
    """These streams, or standard output, lead nowhere from here on."""
    for stream in streams or (sys.stdout,):
        with suppress(OSError, ValueError, AttributeError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


# Imports are inside, so that --help and a mistyped argument do not wait for JAX; an exception within them would make it abort.


def _train(quiet: bool, open: bool, **given: Any) -> int:
    with deferred():
        from mutagrad.lab.training import resume
        from mutagrad.lab.training.summary import sentences
        from mutagrad.lab.training.train import resumed, train

    done = ""
    if "resume" not in given:
        config = TrainConfig(**given)
    else:
        # The folder stands behind --resume or behind --out.
        folders = {one for one in (given["resume"], given.get("out")) if isinstance(one, str)}
        if len(folders) != 1:
            raise ValueError(f"resume: got {' and '.join(sorted(folders)) or 'no folder'}; pass the folder of one run")
        config = resumed(folders.pop(), given | {"resume": True})
        done = resume.nothing_left(config)
    show = page_command.shower(config.out if open else None, open)
    if done:
        print(done)
        return show()
    outcome = train(config, progress=not quiet)
    status = {NAMES[reason]: status for reason, status in EXIT_STATUS.items()}.get(outcome["stopped"], 0)
    try:
        print(sentences(outcome))
        if config.out is not None:
            print(f"run folder       {config.out}")
        _flush()
    except OSError:
        # Its terminal is gone.
        if status != EXIT_STATUS.get("hung up"):
            raise
        _discard(sys.stdout, sys.stderr)
    return status or show()


def _inspect(run: str, diagnose: bool, landscape: bool, num_workers: int) -> int:
    with deferred():
        from mutagrad.lab.training import inspect as inspection

    def say(text: str) -> None:
        print(text, flush=True)

    inspection.inspect(run, say)
    if diagnose:
        print("measuring slope, curvature and λ_max at the last parameters …", file=sys.stderr)
        inspection.diagnosis(run, num_workers, say)
    if landscape:
        print("evaluating mutants around the last parameters …", file=sys.stderr)
        inspection.landscape(run, say)
    return 0


def _replay(run: str, generation: int | None, out: str | None) -> int:
    with deferred():
        from mutagrad.lab.training.replay import replay

    print(replay(run, generation, out))
    return 0


def _claims(html: str | None) -> int:
    with deferred():
        from mutagrad.lab.claims import page, words

    if html is None:
        print(words.table())
    else:
        page.write(Path(html))
        print(f"page             {html}")
    return 0


def _reproduce(claim: str, scale: str, key: int | None, out: str, plan: bool, quiet: bool) -> int:
    with deferred():
        from mutagrad.lab.claims import reproduction, words

    found = reproduction.find(claim)
    reproduction.check_scale(found, scale)
    if key is not None:
        found = [reproduction.with_key(one, key) for one in found]
    if plan:
        print("\n".join(reproduction.plan(one, scale) for one in found))
        return 0
    for one in found:
        if not quiet:
            print(reproduction.plan(one, scale), file=sys.stderr)
        print(words.sentences(reproduction.reproduce(one, Path(out), scale, progress=not quiet)), flush=True)
    print(f"figures          {Path(out) / found[0].id / 'figure.png'}" + (" and beside it" if len(found) > 1 else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
