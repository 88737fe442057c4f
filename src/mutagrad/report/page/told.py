"""What a page shows of a run, as data: read from a folder by whoever knows its form."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from mutagrad import diagnostics
from mutagrad.diagnostics.forecast import FEWEST
from mutagrad.diagnostics.plans import yardstick
from mutagrad.diagnostics.verdicts import without_law
from mutagrad.report.page.ancestors import Winners, winners_of
from mutagrad.report.text import best_strength_is_without
from mutagrad.run.past import spans
from mutagrad.types import Algorithm, Definition

__all__ = ["Told"]

_WINDOWS = 40


class Told:
    """A run, for a page.

    Parameters
    ----------
    name : what the page calls it. title : what was trained and how; "" if nothing says so.
    records : columns (generations,) by name, as `mutagrad.default_record` has them; others, and missing ones, are allowed.
    first : generations before those.
    regimes : by the name of the group of parameters, of its end; ``None`` has them made of all generations.
    groups : which generations mutated which group, masks by its name.
    measured : columns (measurements,): ``measured_generation``, test_loss and the like.
    loss_unit : of the training loss. loss_kind : what was found of the loss at the end, in a sentence.
    algorithm : of the run, or of one turn of it.
    lineage : columns of the lineage, with the generation that it began with.
    diagnosis : (where, Diagnosis) at the last parameters, or ``None``.
    how_it_ended : in a sentence. results, settings, versions : names and values as text. defaults : settings that were not
        changed. commands : what each does, and the words to type.
    how_to_diagnose : the words to type for a diagnosis. lost : generations that are lost, as ranges from 0. notes : sentences.
    of : what the losses are of, by which runs are told apart that cannot be compared; "" if nothing says so.
    """

    def __init__(
        self,
        name: str,
        records: Mapping[str, Any],
        *,
        title: str = "",
        first: int = 0,
        regimes: Mapping[str, diagnostics.Regime] | None = None,
        groups: Mapping[str, np.ndarray] | None = None,
        measured: Mapping[str, Any] | None = None,
        loss_unit: str = "loss",
        loss_kind: str = "",
        algorithm: Algorithm | None = None,
        lineage: tuple[Mapping[str, np.ndarray], int] | None = None,
        diagnosis: tuple[str, diagnostics.Diagnosis] | None = None,
        how_it_ended: str = "",
        results: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
        defaults: Mapping[str, str] | None = None,
        versions: Mapping[str, str] | None = None,
        commands: Mapping[str, str] | None = None,
        how_to_diagnose: str = "",
        lost: list[range] | None = None,
        notes: list[str] | None = None,
        of: str = "",
    ):
        self.name, self.title, self.first = name, title, first
        self.records = {key: np.asarray(one) for key, one in records.items() if np.ndim(one) == 1}
        self.number = max(map(len, self.records.values()), default=0)
        if not self.number:
            raise ValueError(f"run: got {name!r}, which holds no history yet; let the run save itself first")
        self.groups = dict(groups or {"": np.ones(self.number, bool)})
        self._regimes = regimes
        self.measured = {key: np.asarray(one) for key, one in (measured or {}).items()}
        self.loss_unit, self.loss_kind = loss_unit, loss_kind
        self.algorithm, self._lineage, self.diagnosis = algorithm, lineage, diagnosis
        self.how_it_ended, self.how_to_diagnose, self.of = how_it_ended, how_to_diagnose, of
        self.results, self.settings, self.defaults = dict(results or {}), dict(settings or {}), dict(defaults or {})
        self.versions, self.commands = dict(versions or {}), dict(commands or {})
        self.notes = list(notes or [])
        if lost:
            self.notes.append(f"{spans(lost, first).capitalize()} are lost to damage, and left out of every chart.")
        self.why_no_regime = ""

    def __repr__(self) -> str:
        return f"Told({self.name!r}, {self.number:,} generations)"

    @property
    def definition(self) -> Definition | None:
        """What the algorithm is assembled from, where that is known."""
        found = None if self.algorithm is None else self.algorithm.definition
        return found if isinstance(found, Definition) else None

    @property
    def is_resampled(self) -> bool:
        """Whether batches changed."""
        return bool(np.any(self.records.get("is_resampled", np.zeros(1))))

    @cached_property
    def regimes(self) -> dict[str, diagnostics.Regime]:
        """The regime at the end, of each group; empty where the history does not tell, and ``why_no_regime`` then says why."""
        if self._regimes is not None:
            if not self._regimes:
                self.why_no_regime = "One generation tells no regime."
            return dict(self._regimes)
        try:
            return {"": diagnostics.regime(self.records, algorithm=self.algorithm)}
        except ValueError as error:
            self.why_no_regime = f"The regime is not told: {error}."
            return {}

    @cached_property
    def windows(self) -> dict[str, diagnostics.Regime]:
        """The regime in windows, of each group, at the generations of the run; empty where the history does not tell."""
        generation, found = self.first + np.arange(self.number) + 1, {}
        for name, kept in self.groups.items():
            own = {key: values[kept] for key, values in self.records.items()}
            try:
                one = diagnostics.regime(own, num_windows=_WINDOWS)
            except ValueError:
                continue
            found[name] = one._replace(generation=np.interp(one.generation, np.arange(kept.sum()), generation[kept]))
        return found

    @cached_property
    def best(self) -> tuple[float, str] | None:
        """The s at which a generation gains most and what that leaves out; ``None`` where the algorithm is not known."""
        definition = self.definition
        if definition is None or without_law(definition):
            return None
        return yardstick(definition).strength, best_strength_is_without(definition, self.is_resampled)

    @cached_property
    def forecast(self) -> diagnostics.RunForecast | str:
        """When the loss will be a tenth lower, or why that is not told."""
        finite = int(np.isfinite(self.records.get("loss", np.zeros(0))).sum())
        if finite < FEWEST:
            return f"A forecast needs {FEWEST} generations with a finite loss; this run has {finite:,}."
        try:
            return diagnostics.forecast(self.records)
        except ValueError:
            return "The loss is 0."

    @cached_property
    def winners(self) -> Winners | None:
        """Who won the generations; ``None`` without a lineage that can be read."""
        if self._lineage is None:
            return None
        definition, (columns, first) = self.definition, self._lineage
        return winners_of(columns, None if definition is None else definition.num_offspring, first)
