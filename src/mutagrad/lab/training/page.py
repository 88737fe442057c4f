"""The page of a training run: its folder as data, and with it the findings of `mutagrad inspect`."""

import dataclasses
import os
import shlex
import warnings
from pathlib import Path
from typing import Any

from mutagrad.diagnostics import Diagnosis
from mutagrad.lab.training import figure
from mutagrad.lab.training.algorithm import definition_of, one_turn
from mutagrad.lab.training.inspect import diagnosed, read
from mutagrad.lab.training.options import MAY_CHANGE, TrainConfig
from mutagrad.lab.training.regime import groups, last_thirds
from mutagrad.lab.training.run_folder import read_config
from mutagrad.report import page as report_page
from mutagrad.report.page.folder import lineage_of, lost_of
from mutagrad.report.text.numbers import number
from mutagrad.run.files import shown

__all__ = ["page", "reproduce", "told_of"]

_NOT_SHOWN = ("regime", "loss_kind", "drift", "num_examples", "batch_sizes", "not_drawn")
"""What an outcome holds that the page says elsewhere, or in other words."""


def page(
    *runs: Any, out: str | os.PathLike | None = None, diagnose: bool = False, num_workers: int = 1, version: str = ""
) -> report_page.Page:
    """The page of a training run, or of several runs that are compared.

    Parameters
    ----------
    runs : each a folder of ``mutagrad train``, or whatever `mutagrad.report.page.page` takes.
    out : a file to write it to, or ``None``. diagnose : measure effective rank and slowdown at the last parameters of the runs
        of ``mutagrad train``, as ``mutagrad inspect --diagnose`` does, with so many evaluations at the same time.
    version : of what is shown, for a page that is watched.

    Returns
    -------
    `mutagrad.report.page.Page`; a notebook shows it.

    Raises
    ------
    ImportError, FileNotFoundError, ValueError, OSError : as `mutagrad.report.page.page`.
    """
    told: list[Any] = []
    for one in runs:
        is_training = isinstance(one, str | os.PathLike) and not report_page.is_evolved(one)
        if is_training:
            found = diagnosed(one, num_workers) if diagnose else None
            told.append(told_of(Path(os.path.expanduser(one)), found))
        else:
            told.append(one)
    return report_page.page(*told, out=out, version=version)


def told_of(folder: Path, diagnosis: tuple[str, Diagnosis] | None = None) -> report_page.Told:
    """A training run, for a page.

    Parameters
    ----------
    folder : as ``mutagrad train`` wrote it, while the run goes on or not. diagnosis : as `diagnosed` gives it.

    Raises
    ------
    FileNotFoundError, ValueError : as `mutagrad.lab.training.inspect.inspect`.
    """
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        settings, history = read(folder)
        config = read_config(folder)
    records = {name: values.values for name, values in history.items() if values.dims == ("generation",)}
    measured = {name: values.values for name, values in history.items() if values.dims == ("measurement",)}
    outcome = config.get("outcome")
    outcome = outcome if isinstance(outcome, dict) else {}
    is_regression = "test_r2" in measured
    number_of = len(history.generation)
    own, others = _settings(settings)
    return report_page.Told(
        folder.resolve().name,
        records,
        title=figure.title(settings, definition_of(settings).num_offspring),
        regimes=last_thirds(records, settings),
        groups=groups(settings, number_of),
        measured=measured,
        loss_unit="squared error of the scaled target" if is_regression else "nat",
        loss_kind=shown(str(outcome.get("loss_kind", "")), 1000),
        algorithm=one_turn(settings),
        lineage=lineage_of(folder / "checkpoint"),
        diagnosis=diagnosis,
        how_it_ended=_ended(outcome, number_of),
        results=_results(outcome),
        settings=own,
        defaults=others,
        versions=_texts(config.get("versions")),
        commands=_commands(folder, settings, number_of, measured),
        how_to_diagnose=f"mutagrad report {shlex.quote(str(folder))} --diagnose",
        lost=lost_of(folder / "checkpoint"),
        notes=list(dict.fromkeys(shown(str(one.message), 400) for one in said)),
        of=_of(settings, config, is_regression),
    )


def _ended(outcome: dict[str, Any], number_of: int) -> str:
    if not outcome:
        return f"{number_of:,} generations so far: the run goes on, or was interrupted before it ended."
    return f"{number_of:,} generations; stopped by: {shown(str(outcome.get('stopped', 'unknown')))}."


def _of(settings: TrainConfig, config: dict[str, Any], is_regression: bool) -> str:
    """What the losses are of: data, kind of loss, and a sum of the examples."""
    kind = "squared errors" if is_regression else "cross-entropies"
    examples = config.get("examples")
    of = f" ({examples[:8]})" if isinstance(examples, str) and examples else ""
    return shown(f"{kind} on {settings.data}{of}")


def _texts(found: Any) -> dict[str, str]:
    return {shown(str(name)): shown(str(value)) for name, value in found.items()} if isinstance(found, dict) else {}


def _results(outcome: dict[str, Any]) -> dict[str, str]:
    return {
        shown(str(name).replace("_", " ")): shown(number(value) if isinstance(value, float) else str(value))
        for name, value in outcome.items()
        if name not in _NOT_SHOWN and isinstance(value, str | int | float)
    }


def _settings(settings: TrainConfig) -> tuple[dict[str, str], dict[str, str]]:
    """What was set otherwise than by default, and the other settings."""
    default = TrainConfig()
    own: dict[str, str] = {}
    others: dict[str, str] = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if field.name in ("resume", "out"):
            continue
        is_own = value != getattr(default, field.name)
        (own if is_own else others)[field.name] = shown(_value(value, field.metadata.get("unset", "")))
    return own, others


def _value(value: Any, unset: str) -> str:
    if value is None:
        return f"default: {unset}" if unset else "none"
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def reproduce(settings: TrainConfig) -> str:
    """The command line that makes a run of the same settings; those that are as by default are left out.

    >>> from mutagrad.lab.training.options import TrainConfig
    >>> from mutagrad.lab.training.page import reproduce
    >>> reproduce(TrainConfig(widths=(64, 32), sigma=0.01, standardize=False))
    'mutagrad train --no-standardize --widths 64,32 --sigma 0.01 --out NEW'
    """
    default, words = TrainConfig(), ["mutagrad", "train"]
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if field.name in ("out", "resume") or value == getattr(default, field.name):
            continue
        flag = field.name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", shlex.quote(_value(value, ""))]
    return " ".join([*words, "--out", "NEW"])


def _commands(folder: Path, settings: TrainConfig, number_of: int, measured: dict[str, Any]) -> dict[str, str]:
    where = shlex.quote(str(folder))
    limits = [name for name in MAY_CHANGE[:3] if getattr(settings, name) is not None]
    exact = " (its limit of time is not exact: hold the number of generations)" if "seconds" in limits else ""
    exact_settings = dataclasses.replace(settings, seconds=None, generations=number_of) if exact else settings
    return {
        "Go on with it, for as many generations again:": f"mutagrad train --resume {where} --generations {2 * number_of}",
        f"Make it again, bit for bit with the same versions on the same kind of device{exact}:": reproduce(
            exact_settings
        ),
        "Make its last generation again from its lineage, without evaluating the loss:": f"mutagrad replay {where}",
        "Say in sentences what this page shows:": f"mutagrad inspect {where}",
    }
