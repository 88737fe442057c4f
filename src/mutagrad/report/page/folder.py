"""A run that `mutagrad.evolve` saved, for a page."""

from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from mutagrad import check
from mutagrad.report.page.told import Told
from mutagrad.run import journal, lineage, sums
from mutagrad.run.begun import are_rows, begun
from mutagrad.run.checkpoint import folder_of
from mutagrad.run.described import is_description
from mutagrad.run.files import shown
from mutagrad.run.past import HISTORY
from mutagrad.types import Algorithm

__all__ = ["are_there", "is_evolved", "lineage_of", "lost_of", "of_evolve"]


def is_evolved(folder: str | PathLike) -> bool:
    """Whether `mutagrad.evolve` kept a run in a folder."""
    return (Path(folder).expanduser() / HISTORY).is_file()


def of_evolve(folder: str | PathLike, algorithm: Algorithm | None = None) -> Told:
    """A run that `mutagrad.evolve` keeps, while it goes on or not.

    Parameters
    ----------
    folder : that it was given as ``checkpoint``. algorithm : of the run, which the folder does not hold; with it σ is held
        against the best one.

    Raises
    ------
    FileNotFoundError, ValueError : if the folder holds no run, or one whose history is damaged throughout; one line.
    """
    place = folder_of(folder)
    if not is_evolved(place):
        raise FileNotFoundError(
            f"run: got {str(folder)!r}, which holds no run (no {HISTORY}); pass a folder that mutagrad wrote"
        )
    if algorithm is not None:
        check.algorithm(algorithm)
    try:
        found = journal.read(place / HISTORY)
    except ValueError as error:
        raise ValueError(f"run: {error}") from None
    described = _described(place)
    first = described["first"] if described else 0
    results = {"generations": f"{max(map(len, found.columns.values()), default=0):,}"}
    if described:
        results |= {
            "algorithm": shown(described["identity"]["algorithm"]),
            "first σ": f"{float(described['identity']['sigma']):.4g}",
            "key": shown(described["identity"]["key"]),
            "newest checkpoint": f"after generation {described['generation']:,}",
            "evaluations up to it": f"{described['evaluations']:,}",
        }
    notes = (
        [] if described else ["No whole checkpoint is in the folder: the run cannot go on from it, and starts again."]
    )
    return Told(
        place.name,
        found.columns,
        title=results.get("algorithm", ""),
        first=first,
        algorithm=algorithm,
        lineage=lineage_of(place),
        results=results,
        versions={name: shown(one) for name, one in described["versions"].items()} if described else {},
        commands={
            "Go on, with the key, algorithm, params and loss of the run:": "mutagrad.evolve(key, algorithm, params, loss_fn, "
            f"{2 * (first + max(map(len, found.columns.values()), default=0))}, checkpoint={str(place)!r})",
            "Make a generation again without evaluating the loss:": f"mutagrad.replay({str(place)!r}, algorithm, params, "
            "generation)",
            "Hold σ against the best one, which takes the algorithm:": "mutagrad.report.page.page("
            f"{str(place)!r}, algorithm=algorithm)",
        },
        how_to_diagnose="mutagrad.diagnose(key, loss_fn, params, algorithm, use_gradient=True)",
        lost=lost_of(place),
        notes=notes,
    )


def _described(place: Path) -> dict[str, Any] | None:
    """What the newest whole STEP.json says."""
    steps = sorted(
        (int(one.stem) for one in place.glob("*.json") if one.stem.isascii() and one.stem.isdecimal()), reverse=True
    )
    for step in steps:
        found = sums.read_signed(place / f"{step}.json")
        if found is not None and is_description(found):
            return found
    return None


def lineage_of(place: Path) -> tuple[dict[str, np.ndarray], int] | None:
    """The rows of a lineage that were not lost, and the generation that it began with; ``None`` where it cannot be read."""
    try:
        rows = journal.read(place / lineage.NAME)
        start = begun({name: value for name, value in rows.attributes.items() if name != "run"})
    except (OSError, ValueError):
        return None
    if not are_rows(rows.columns):
        return None
    number = max(map(len, rows.columns.values()), default=0)
    is_there = are_there(number, rows.lost)
    return {name: column[is_there] for name, column in rows.columns.items()}, start.generation


def are_there(number: int, lost: Iterable[range]) -> np.ndarray:
    """Which of so many rows are not lost."""
    found = np.ones(number, bool)
    for gap in lost:
        found[gap.start : gap.stop] = False
    return found


def lost_of(place: Path) -> list[range]:
    """Generations that are lost of a history, from 0; those at its end too that a checkpoint knows of."""
    try:
        found = journal.read(place / HISTORY)
    except (OSError, ValueError):
        return []
    number, described = max(map(len, found.columns.values()), default=0), _described(place)
    known = described["generation"] - described["first"] if described else 0
    return [*found.lost, *([range(number, known)] if known > number else [])]
