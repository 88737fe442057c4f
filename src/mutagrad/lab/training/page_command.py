"""`mutagrad report`: its arguments, and what it does."""

import argparse
import os
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from mutagrad.lab.training.options import path, whole
from mutagrad.run.signals import deferred

__all__ = ["add_parser", "report", "shower"]


def add_parser(commands: Any) -> None:
    """Add the subcommand."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "report",
        help="the page of a run, or of several side by side",
        description="Write one HTML file that needs no network: whether the run learned, whether σ was right and what to "
        "change; loss, accuracy, σ, s, share of signal and successes over the run; forecast, lineage, settings and versions; how "
        "to go on and to reproduce it. Several runs are compared on one page.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "runs", metavar="RUN", type=path, nargs="+", help="a folder that mutagrad train --out wrote, or mutagrad.evolve"
    )
    parser.add_argument(
        "--out", metavar="FILE", type=path, help="the file to write (report.html in the folder; of several runs, here)"
    )
    parser.add_argument("--open", action="store_true", help="show it in the browser")
    parser.add_argument(
        "--watch", action="store_true", help="serve it to this machine alone, and make it again when a folder changes"
    )
    parser.add_argument("--port", type=whole, default=0, metavar="N", help="for --watch (a free one)")
    parser.add_argument(
        "--diagnose", action="store_true", help="measure effective rank and slowdown at the last parameters too"
    )
    parser.add_argument(
        "--num-workers", type=whole, default=1, metavar="N", help="evaluations at the same time, for --diagnose (1)"
    )


def report(
    runs: list[str], out: str | None, open: bool, watch: bool, port: int, diagnose: bool, num_workers: int
) -> int:
    """Write the page, show it or serve it, and say where it is.

    Raises
    ------
    ImportError, FileNotFoundError, ValueError, OSError : what is refused, in one line.
    """
    if not 0 <= port < 2**16:
        raise ValueError(f"port: got {port}; pass one from 1 to 65535, or 0 for a free one")
    if port and not watch:
        raise ValueError(f"port: got {port} without --watch; pass both, or leave it out")
    # An exception within imports would make JAX abort.
    with deferred():
        from mutagrad.lab.training.page import page

    if watch:
        if out is not None:
            raise ValueError(f"out: got {out!r} with --watch, which serves the page; pass one of the two")
        return _watch(runs, open, port, diagnose, num_workers)
    made = page(*runs, out=_file_of(runs, out), diagnose=diagnose, num_workers=num_workers)
    print(f"page             {made.path} ({len(made.html.encode()) / 1e6:.1f} MB)", flush=True)
    if open:
        _show(Path(str(made.path)).resolve().as_uri())
    return 0


def _file_of(runs: list[str], out: str | None) -> Path:
    if out is not None:
        path = Path(out)
        # What is there may be a run's own file, or a device.
        if path.suffix not in (".html", ".htm") or (path.exists() and not path.is_file()):
            raise ValueError(f"out: got {out!r}; pass a file whose name ends in .html")
        return path
    return Path("report.html") if len(runs) > 1 else Path(os.path.expanduser(runs[0])) / "report.html"


def _watch(runs: list[str], open: bool, port: int, diagnose: bool, num_workers: int) -> int:
    from mutagrad.lab.training.page import page
    from mutagrad.report.page.watch import Watched

    def make(version: str) -> str:
        return page(*runs, diagnose=diagnose, num_workers=num_workers, version=version).html

    watched = Watched(make, [Path(os.path.expanduser(one)) for one in runs], port)
    watched.html()
    print(f"page             {watched.url} until Ctrl-C", flush=True)
    if open:
        _show(watched.url)
    # Ctrl-C is how it ends.
    with suppress(KeyboardInterrupt):
        watched.serve()
    return 0


def _show(url: str) -> None:
    if not webbrowser.open(url):
        print("no browser was found; open it by hand", flush=True)


def shower(out: str | None, open: bool) -> Callable[[], int]:
    """What shows the page of a training run at its end and returns 0; nothing, unless it is to be opened.

    Raises
    ------
    ValueError : before the run, without a folder. ImportError : before the run, without the report extra.
    """
    if not open:
        return lambda: 0
    from mutagrad.report.page.charts import extra

    if out is None:
        raise ValueError("open: got no run folder of which to make a page; pass --out DIR too")
    extra()
    return partial(report, [out], None, True, False, 0, False, 1)
