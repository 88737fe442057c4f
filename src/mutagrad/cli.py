"""The command line: arguments in, one call out. Errors are one line and exit status 2."""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

__all__ = ["main"]


class _Parser(argparse.ArgumentParser):
    """argparse, but an error is one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _number(kind: type, remedy: str) -> Any:
    def parse(text: str) -> Any:
        try:
            return kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"got {text!r}, pass {remedy}") from None

    return parse


_whole = _number(int, "a whole number")
_real = _number(float, "a number")


def _sigma(text: str) -> str | float:
    return text if text == "auto" else _number(float, "'auto' or a positive number")(text)


def _widths(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text!r}, pass whole numbers such as 32 or 64,32") from None


def _parser() -> _Parser:
    parser = _Parser(
        prog="mutagrad", description="Train by mutation and selection, and know which gradient descent it is."
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    train = commands.add_parser(
        "train",
        help="train a network on images and leave a run folder",
        description="Train a network on images by mutation and selection. With nothing set: the digits, an MLP, (1+20), σ "
        "automatic, 2000 generations. Ctrl-C ends a run cleanly with everything saved.",
        allow_abbrev=False,
    )
    add = train.add_argument
    add("--data", default="digits", metavar="NAME", help="digits, mnist or the path of an .npz file (digits)")
    add("--data-dir", metavar="DIR", help="folder of MNIST's files (MUTAGRAD_DATA, or ../shared/data)")
    add("--model", default="mlp", metavar="NAME", help="mlp or convnet (mlp)")
    add("--widths", type=_widths, default=(32,), metavar="N,N", help="hidden units of the MLP, per layer (32)")
    add("--initial", default="lecun", metavar="NAME", help="scale of the initial weights: lecun or pytorch (lecun)")
    add("--algorithm", default="elitist", metavar="NAME", help="elitist, comma, greedy, metropolis, … (elitist)")
    add("--sigma", type=_sigma, default="auto", metavar="σ", help="mutation strength per parameter, or auto (auto)")
    add("--beta", type=_real, default=math.inf, metavar="β", help="inverse temperature of rules that have one (inf)")
    add("--num-offspring", type=_whole, default=20, metavar="M", help="mutants per generation (20)")
    add("--num-parents", type=_whole, default=1, metavar="K", help="survivors per generation, for truncation (1)")
    add("--population-size", type=_whole, default=100, metavar="n", help="population of the fixation rule (100)")
    add(
        "--shared-layers",
        type=_whole,
        metavar="L",
        help="first layers that are mutated in turns with the others (2 of the convnet, 0 of the mlp)",
    )
    add(
        "--shared-generations",
        type=_whole,
        default=9,
        metavar="N",
        help="generations in which they are shared, for each in which they are mutated (9)",
    )
    add(
        "--unit-groups",
        type=_whole,
        metavar="G",
        help="groups in which the hidden units are mutated in turns (of 16 units, for an mlp on more than 4096 examples)",
    )
    add(
        "--turn-generations",
        type=_whole,
        metavar="N",
        help="generations of a group's turn (4; 1 where offspring recombine)",
    )
    add(
        "--components",
        type=_whole,
        metavar="K",
        help="principal components in place of the inputs; 0 for none (40 for an mlp on inputs longer than 100)",
    )
    add(
        "--batch-size",
        type=_whole,
        metavar="B",
        help="examples per generation (all up to 4096; of more, grows with the share of sampling noise)",
    )
    add(
        "--generations", type=_whole, metavar="N", help="stop after so many generations (2000 if nothing else stops it)"
    )
    add("--seconds", type=_real, metavar="S", help="stop after so many seconds of this sitting")
    add("--target-accuracy", type=_real, metavar="A", help="stop at this test accuracy, from 0 to 1")
    add("--seed", type=_whole, default=0, metavar="N", help="of initial weights, mutations and batches (0)")
    add("--out", metavar="DIR", help="run folder to write, new (none)")
    add("--resume", action="store_true", help="go on with the run in --out")
    add("--quiet", action="store_true", help="no progress bar")
    inspect = commands.add_parser(
        "inspect",
        help="in which regime a run was, and what would do better",
        description="Say from the history of a run folder in which regime the run was: s, slope, curvature and sampling "
        "noise over its course, with a figure, inspect.png, in the folder. With --diagnose also what the best σ and number "
        "of offspring are at its end, and what gradients would have bought, with diagnosis.png.",
        allow_abbrev=False,
    )
    inspect.add_argument("run", metavar="RUN", help="a folder that mutagrad train --out wrote")
    inspect.add_argument(
        "--diagnose", action="store_true", help="evaluate some hundred mutants, and gradients, at the last parameters"
    )
    inspect.add_argument(
        "--num-workers", type=_whole, default=1, metavar="N", help="evaluations at the same time, for --diagnose (1)"
    )
    commands.add_parser("claims", help="all claims with their last verdicts", allow_abbrev=False)
    reproduce = commands.add_parser(
        "reproduce",
        help="decide claims by simulation",
        description="Decide a claim: write its figure, data and verdict into OUT/ID. A claim that has a verdict there for the "
        "same settings is not run again, so that a series can be interrupted and continued.",
        allow_abbrev=False,
    )
    reproduce.add_argument("claim", metavar="CLAIM", help="an id such as W21-9, a work such as whitelam2021, or all")
    reproduce.add_argument("--scale", default="quick", metavar="NAME", help="quick or paper (quick)")
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
        return _reproduce(**options) if command == "reproduce" else _claims()
    except (ValueError, OSError, ImportError) as error:
        print(f"mutagrad {command}: {error}", file=sys.stderr)
        return 2


# Imports are inside, so that --help and a mistyped argument do not wait for JAX.


def _train(quiet: bool, **options: Any) -> int:
    from mutagrad.lab.problem import TrainConfig
    from mutagrad.lab.summary import sentences
    from mutagrad.lab.train import train

    outcome = train(TrainConfig(**options), progress=not quiet)
    print(sentences(outcome))
    if options["out"] is not None:
        print(f"run folder       {options['out']}")
    return 0


def _inspect(run: str, diagnose: bool, num_workers: int) -> int:
    from mutagrad.lab.inspect import diagnosis, inspect

    print(inspect(run), flush=True)
    if diagnose:
        print("measuring slope, curvature and λ_max at the last parameters …", file=sys.stderr)
        print(diagnosis(run, num_workers))
    return 0


def _claims() -> int:
    from mutagrad.lab.claims.reproduction import table

    print(table())
    return 0


def _reproduce(claim: str, scale: str, out: str, plan: bool, quiet: bool) -> int:
    from mutagrad.lab.claims import reproduction

    found = reproduction.find(claim)
    reproduction.check_scale(found, scale)
    if plan:
        print("\n".join(reproduction.plan(one, scale) for one in found))
        return 0
    for one in found:
        if not quiet:
            print(reproduction.plan(one, scale), file=sys.stderr)
        print(reproduction.sentences(reproduction.reproduce(one, Path(out), scale, progress=not quiet)), flush=True)
    print(f"figures          {Path(out) / found[0].id / 'figure.png'}" + (" and beside it" if len(found) > 1 else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
