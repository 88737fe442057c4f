"""The page of a run: one file of HTML with its verdicts, its charts, and how to go on and to reproduce it."""

from collections.abc import Mapping
from html import escape
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from mutagrad import check
from mutagrad.report.page.folder import is_evolved, of_evolve
from mutagrad.report.page.html import html_of
from mutagrad.report.page.told import Told
from mutagrad.types import Algorithm

__all__ = ["Page", "Told", "check_comparable", "page", "write"]


class Page(NamedTuple):
    """A page; a notebook shows it.

    Attributes
    ----------
    html : all of it. path : where it was written, or ``None``.
    """

    html: str
    path: Path | None = None

    def __repr__(self) -> str:
        where = "" if self.path is None else f", {str(self.path)!r}"
        return f"Page({len(self.html):,} characters{where})"

    def _repr_html_(self) -> str:
        return (
            f'<iframe title="run page" style="width:100%;height:80vh;border:0" srcdoc="{escape(self.html)}"></iframe>'
        )


def page(*runs: Any, out: str | PathLike | None = None, algorithm: Algorithm | None = None, version: str = "") -> Page:
    """The page of a run, or of several that are compared.

    Parameters
    ----------
    runs : each a folder that `mutagrad.evolve` was given as ``checkpoint``, its `mutagrad.Result`, a history, or a `Told`.
        Folders of ``mutagrad train`` are read by `mutagrad.lab.training.page.page`, which takes these, too.
    out : a file to write it to, or ``None``.
    algorithm : of the runs, where the folder does not say; with it σ is held against the best one.
    version : of what is shown, for a page that is watched.

    Returns
    -------
    Page

    Raises
    ------
    ImportError : without the ``report`` extra.
    FileNotFoundError, ValueError : if a folder holds no run, or runs cannot be compared; one line.
    OSError : if it cannot be written.

    Domain: histories as `mutagrad.default_record` makes them; what another history lacks is said on the page.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> from mutagrad.report.page import Told
    >>> algorithm = mutagrad.elitist(sigma=0.1, num_offspring=20)
    >>> result = mutagrad.evolve(jax.random.key(0), algorithm, jnp.ones(99), lambda x: x @ x, 40, progress=False)
    >>> Told("a sphere", result.history, algorithm=algorithm)
    Told('a sphere', 40 generations)
    """
    from mutagrad.report.page.charts import extra

    extra()
    if not runs:
        raise ValueError("runs: got none; pass a folder, a result or a history")
    told = [_told(one, algorithm, place) for place, one in enumerate(runs)]
    told = _named(told, runs)
    check_comparable(told)
    made = Page(html_of(told, version))
    return made if out is None else write(made, out)


def write(made: Page, out: str | PathLike) -> Page:
    """Write a page, whole or not at all; an OSError in one line if that cannot be."""
    from mutagrad.run.sums import write_whole

    path = Path(out).expanduser()
    try:
        write_whole(path, made.html)
    except OSError as error:
        raise OSError(
            error.errno, f"out: got {str(path)!r}, which cannot be written ({error.strerror or error})"
        ) from None
    return made._replace(path=path)


def check_comparable(runs: list[Told]) -> None:
    """Refuse runs whose losses are known to be of different tasks."""
    of: dict[str, str] = {}
    for told in runs:
        if told.of:
            of.setdefault(told.of, told.name)
    if len(of) > 1:
        each = " and ".join(f"{name!r} is of {one}" for one, name in list(of.items())[:2])
        raise ValueError(f"runs: got losses of different tasks, {each}; make a page of each")


def _told(one: Any, algorithm: Algorithm | None, place: int) -> Told:
    if isinstance(one, Told):
        return one
    if isinstance(one, str | PathLike):
        folder = Path(one).expanduser()
        if not is_evolved(folder) and (folder / "config.json").is_file():
            raise ValueError(
                f"run: got {str(one)!r}, a folder of mutagrad train; pass it to mutagrad.lab.training.page.page"
            )
        return of_evolve(folder, algorithm)
    history = getattr(one, "history", one)
    if not isinstance(history, Mapping):
        raise ValueError(f"run: got {type(one).__name__}; pass a folder, a Result with a history, or a history")
    if algorithm is not None:
        check.algorithm(algorithm)
    return Told(f"run {place + 1}", history, algorithm=algorithm)


def _named(told: list[Told], runs: Any) -> list[Told]:
    """Runs under different names: the folder above, and a number where even that is the same."""
    for name in {one.name for one in told if sum(other.name == one.name for other in told) > 1}:
        for number, (one, given) in enumerate(zip(told, runs, strict=True), 1):
            if one.name == name:
                parent = Path(given).resolve().parent.name if isinstance(given, str | PathLike) else ""
                one.name = f"{parent}/{name} ({number})" if parent else f"{name} ({number})"
    return told
