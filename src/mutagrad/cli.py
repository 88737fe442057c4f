"""The command line: arguments in, one call out. Errors are one line and exit status 2."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from mutagrad.lab.training.options import TrainConfig, add_arguments, whole

__all__ = ["main"]


class _Parser(argparse.ArgumentParser):
    """argparse, but an error is one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _parser() -> _Parser:
    parser = _Parser(
        prog="mutagrad", description="Train by mutation and selection, and know which gradient descent it is."
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    train = commands.add_parser(
        "train",
        help="train a network and leave a run folder",
        description="Train a network by mutation and selection, to classify or to predict a number. With nothing set: the "
        "digits, an MLP, (1+20), σ automatic, 2000 generations. Ctrl-C ends a run cleanly with everything saved.",
        allow_abbrev=False,
    )
    add_arguments(train)
    train.add_argument("--quiet", action="store_true", help="no progress bar")
    inspect = commands.add_parser(
        "inspect",
        help="in which regime a run was, and what would do better",
        description="Say from the history of a run folder in which regime the run was: s, slope, curvature and sampling "
        "noise over its course, with a figure, inspect.png, in the folder. With --diagnose also what the best σ and number "
        "of offspring are at its end, and what gradients would have bought, with diagnosis.png. With --landscape also how flat "
        "the loss is there, and what mutations do to it, with landscape.png.",
        allow_abbrev=False,
    )
    inspect.add_argument("run", metavar="RUN", help="a folder that mutagrad train --out wrote")
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
    listed = commands.add_parser("claims", help="all claims with their last verdicts", allow_abbrev=False)
    listed.add_argument(
        "--html",
        nargs="?",
        const="claims.html",
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
    reproduce.add_argument("--key", type=int, metavar="N", help="another key than the registered one: a trial")
    reproduce.add_argument("--out", default="claims", metavar="DIR", help="where the claims are written (claims)")
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
    0, or 2 after one line of explanation on standard error.

    >>> from mutagrad.cli import main
    >>> main(["train", "--generations", "0"])
    2
    """
    options = vars(_parser().parse_args(arguments))
    command = options.pop("command")
    try:
        if command == "train":
            return _train(**options)
        if command == "inspect":
            return _inspect(**options)
        return _reproduce(**options) if command == "reproduce" else _claims(**options)
    except ModuleNotFoundError as error:
        return _refused(command, f"{error}; install the lab extra: pip install 'mutagrad[lab]'")
    except (ValueError, OSError, ImportError) as error:
        return _refused(command, error)
    except RuntimeError as error:
        from mutagrad.run.evolve import RunError

        if not isinstance(error, RunError):
            raise
        return _refused(command, error)


def _refused(command: str, error: Exception | str) -> int:
    print(f"mutagrad {command}: {error}", file=sys.stderr)
    return 2


# Imports are inside, so that --help and a mistyped argument do not wait for JAX.


def _train(quiet: bool, **given: Any) -> int:
    from mutagrad.lab.training.summary import sentences
    from mutagrad.lab.training.train import resumed, train

    config = TrainConfig(**given)
    if config.resume:
        # The folder stands behind --resume or behind --out.
        folders = {str(one) for one in (config.resume, config.out) if isinstance(one, str)}
        if len(folders) != 1:
            raise ValueError(f"resume: got {' and '.join(sorted(folders)) or 'no folder'}; pass the folder of one run")
        config = resumed(folders.pop(), given)
    outcome = train(config, progress=not quiet)
    print(sentences(outcome))
    if config.out is not None:
        print(f"run folder       {config.out}")
    return 0


def _inspect(run: str, diagnose: bool, landscape: bool, num_workers: int) -> int:
    from mutagrad.lab.training import inspect as inspection

    print(inspection.inspect(run), flush=True)
    if diagnose:
        print("measuring slope, curvature and λ_max at the last parameters …", file=sys.stderr)
        print(inspection.diagnosis(run, num_workers), flush=True)
    if landscape:
        print("evaluating mutants around the last parameters …", file=sys.stderr)
        print(inspection.landscape(run))
    return 0


def _claims(html: str | None) -> int:
    from mutagrad.lab.claims import page, words

    if html is None:
        print(words.table())
    else:
        page.write(Path(html))
        print(f"page             {html}")
    return 0


def _reproduce(claim: str, scale: str, key: int | None, out: str, plan: bool, quiet: bool) -> int:
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
