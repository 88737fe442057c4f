"""For authors of claims: `python -m mutagrad.lab.claims register ID…` before a run, `keep DIR ID…` after it."""

import argparse
from pathlib import Path

from mutagrad.lab.claims.page import FIGURES
from mutagrad.lab.claims.registration import register
from mutagrad.lab.claims.reproduction import find
from mutagrad.lab.claims.verdicts import keep
from mutagrad.lab.claims.words import sentences


def main() -> None:
    """Register claims as they state themselves now, or take verdicts of `mutagrad reproduce` into the package."""
    parser = argparse.ArgumentParser(prog="python -m mutagrad.lab.claims", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    first = commands.add_parser("register", help="write down what claims state, to be committed before they are run")
    first.add_argument("claims", nargs="+", metavar="ID")
    first.add_argument("--reason", default="", help="why they are registered anew")
    second = commands.add_parser("keep", help="take verdicts and small figures into the package")
    second.add_argument("folder", type=Path, metavar="DIR", help="what mutagrad reproduce --out was given")
    second.add_argument("claims", nargs="+", metavar="ID")
    options = parser.parse_args()
    for name in options.claims:
        for claim in find(name):
            if options.command == "register":
                new = register(claim, options.reason)
                print(f"{claim.id}: registration {new['number']}; commit it before the run")
            else:
                print(sentences(keep(claim, options.folder / claim.id, FIGURES)))


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from None
