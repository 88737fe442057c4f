"""Who won the generations of a run, and whether any offspring's place won more often than chance allows."""

import itertools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy import stats

__all__ = ["Winners", "winners_of"]

_WINDOWS = 40
_FEWEST = 5
"""Expected wins of a place from which on the test of χ² holds."""


class Winners(NamedTuple):
    """Who won.

    Attributes
    ----------
    number : generations of the lineage. stayed : of them, those in which the parent stayed.
    num_offspring : M.
    wins : of each place of an offspring, (M,).
    p_value : of χ² against equal chances of all places; NaN where a place has too few wins for it, or there is one place.
    generation : the middle of each window, (windows,). place, error : mean place of the winner there, and its standard error.
    """

    number: int
    stayed: int
    num_offspring: int
    wins: np.ndarray
    p_value: float
    generation: np.ndarray
    place: np.ndarray
    error: np.ndarray


def winners_of(columns: Mapping[str, np.ndarray], num_offspring: int | None = None, first: int = 0) -> Winners | None:
    """Who won each generation, by the columns of a lineage.

    Where several offspring have a share in the next parent the winner is the one with the lowest loss, or the first ancestor.

    Parameters
    ----------
    columns : of the journal, as `mutagrad.run.lineage` writes them. num_offspring : M; what the columns show unless given.
    first : generations before those of the lineage.

    Returns
    -------
    Winners; ``None`` where there is no generation.

    >>> import numpy as np
    >>> from mutagrad.report.page.ancestors import winners_of
    >>> found = winners_of({"winner": np.array([0, 2, -1, 1])}, num_offspring=3)
    >>> found.stayed, found.wins.tolist()
    (1, [1, 1, 1])
    """
    if not max(map(len, columns.values()), default=0):
        return None
    if "winner" in columns:
        winner = columns["winner"].reshape(len(columns["winner"]), -1)[:, 0].astype(np.int64)
    elif "losses" in columns:
        losses = np.where(np.isfinite(columns["losses"]), columns["losses"], np.inf).astype(np.float64)
        winner = np.where(np.isfinite(losses).any(axis=1), losses.argmin(axis=1), -1)
        num_offspring = losses.shape[1]
    elif "ancestors" in columns:
        winner = columns["ancestors"].reshape(len(columns["ancestors"]), -1)[:, 0].astype(np.int64)
    else:
        return None
    most = int(winner.max()) + 1
    num_offspring = max(num_offspring or most, most, 1)
    won = winner[winner >= 0]
    wins = np.bincount(won, minlength=num_offspring)
    p_value = float("nan")
    if num_offspring > 1 and len(won) >= _FEWEST * num_offspring:
        p_value = float(stats.chisquare(wins).pvalue)
    rows = []
    at = np.unique(np.linspace(0, len(winner), _WINDOWS + 1).astype(int))
    for start, stop in itertools.pairwise(at):
        own = winner[start:stop][winner[start:stop] >= 0]
        if own.size > 1:
            rows.append((first + (start + stop + 1) / 2, own.mean(), own.std(ddof=1) / np.sqrt(own.size)))
    middle, place, error = np.array(rows).reshape(-1, 3).T
    return Winners(len(winner), int(np.sum(winner < 0)), num_offspring, wins, p_value, middle, place, error)
