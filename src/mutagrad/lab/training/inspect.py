"""What a run folder says of the run's regime, from its history alone, and of the loss around its last parameters."""

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from mutagrad import diagnostics
from mutagrad.diagnostics.forecast import FEWEST
from mutagrad.diagnostics.looks import last_held
from mutagrad.diagnostics.plans import yardstick
from mutagrad.lab.tasks.data import load
from mutagrad.lab.training import figure
from mutagrad.lab.training.algorithm import definition_of, num_shared_layers, num_unit_groups
from mutagrad.lab.training.options import TrainConfig
from mutagrad.lab.training.problem import Problem, set_up
from mutagrad.lab.training.regime import groups, last_third, last_thirds
from mutagrad.lab.training.run_folder import read_config, read_history, read_inputs, read_settings
from mutagrad.report import figures
from mutagrad.report import landscape as landscape_figures
from mutagrad.report.page.folder import are_there, is_evolved, lost_of, of_evolve
from mutagrad.report.text import (
    best_strength_is_without,
    diagnosis_text,
    effects_text,
    flatness_text,
    forecast_text,
    regime_text,
)
from mutagrad.run.past import spans
from mutagrad.run.saved import last_state

__all__ = ["diagnosed", "diagnosis", "inspect", "landscape", "read"]

_WINDOWS = 40
_MOST_EXAMPLES = 10_000
"""Examples that a diagnosis looks at: Hessian-vector products keep what the network computes for all of them."""

_MOST_OF_MUTATIONS = 1000
"""Examples that a thousand mutations are judged on: a network is then evaluated on as many as for its profiles."""
_NUM_MUTATIONS = 1000


Say = Callable[[str], Any]


def _nobody(text: str) -> None:
    """Takes what is said where nobody listens."""


class _Last(NamedTuple):
    """A run at its end, and the examples of a generation: whether they are all there are, and whether parts take turns."""

    problem: Problem
    params: Any
    sigma: float
    batch: tuple
    is_sampled: bool
    takes_turns: bool


def inspect(folder: str | Path, say: Say = _nobody) -> str:
    """Draw inspect.png into a run folder, and return in sentences in which regime the run was.

    Parameters
    ----------
    folder : as `mutagrad train` wrote it. Nothing in it but inspect.png is written; where that cannot be, the text says so. Or
        what `mutagrad.evolve` had as ``checkpoint``, into which nothing is written.
    say : called with the text as far as it goes before the figure is drawn, and then with the rest.

    Returns
    -------
    Text; the kind of the loss at the last parameters is in it for runs of 500 generations or more, the forecast from 200 on.

    Raises
    ------
    FileNotFoundError, ValueError : if it holds no run, or one whose history lacks what is needed.
    """
    folder = Path(os.path.expanduser(folder))
    if is_evolved(folder):
        return _of_evolve(folder, say)
    settings, history = read(folder)
    definition = definition_of(settings)
    records = {name: values.values for name, values in history.items() if values.dims == ("generation",)}
    lines = [
        f"The last third of the run{name and ', ' + name}:\n{regime_text(found)}"
        for name, found in last_thirds(records, settings).items()
    ]
    generation, courses = history.generation.values, {}
    for name, kept in groups(settings, len(generation)).items():
        found = diagnostics.regime({key: values[kept] for key, values in records.items()}, num_windows=_WINDOWS)
        # Of windows of turns: the generations that they stand for.
        courses[name] = found._replace(generation=np.interp(found.generation, np.arange(kept.sum()), generation[kept]))
    if np.isfinite(records["loss"]).sum() >= FEWEST:
        lines.append(_forecast(records))
    outcome = read_config(folder).get("outcome")
    if met := outcome.get("loss_kind", "") if isinstance(outcome, dict) else "":
        lines.append(f"At the last parameters: {met}")
    condition = best_strength_is_without(definition, bool(np.any(records["is_resampled"])))
    caption = figure.title(settings, definition.num_offspring)
    best = yardstick(definition).strength
    path = folder / "inspect.png"
    return _said(say, lines, path, lambda: figures.windows(courses, path, caption, best, condition))


def _of_evolve(folder: Path, say: Say) -> str:
    """Of a checkpoint of `mutagrad.evolve`, which knows neither the algorithm nor the loss."""
    told = of_evolve(folder)
    lost = lost_of(folder)
    is_there = are_there(max(map(len, told.records.values()), default=0), lost)
    records = {name: np.asarray(values)[is_there] for name, values in told.records.items()}
    if "loss" not in records or (found := last_third(records, None)) is None:
        raise ValueError(f"run: got {str(folder)!r}, whose history has no losses of two generations or more")
    lines = [f"The last third of the run:\n{regime_text(found)}"]
    if np.isfinite(records["loss"]).sum() >= FEWEST:
        lines.append(_forecast(records))
    if lost:
        lines.append(f"{spans(lost, told.first).capitalize()} of what is kept are lost to damage, and left out.")
    lines.append(f"Its page, with figures: mutagrad report {shlex.quote(str(folder))}")
    say("\n".join(lines))
    return "\n".join(lines)


def _said(say: Say, lines: list[str], path: Path, draw: Callable[[], Any]) -> str:
    """The text and where its figure is; what is known is said before anything is drawn."""
    text = "\n".join(lines)
    say(text)
    try:
        draw()
        last = f"figure: {path}"
    except OSError as error:
        last = f"figure: none, {path} cannot be written ({error.strerror or error})"
    say(last)
    return f"{text}\n{last}"


def diagnosis(folder: str | Path, num_workers: int = 1, say: Say = _nobody) -> str:
    """Diagnose the loss at a run's last parameters, gradient included, draw diagnosis.png, and return the text.

    Parameters
    ----------
    folder : as `mutagrad train` wrote it; its data are read again. Nothing in it but diagnosis.png is written.
    num_workers : evaluations at the same time. say : as in `inspect`.

    Returns
    -------
    What `mutagrad.diagnose` says of the σ of the last generation on as many examples as its batch had, 10,000 at most. Where
    parts of the network took turns it is of all parameters at once, and of their best σ.

    Raises
    ------
    FileNotFoundError, ValueError : as `inspect`, and if the data are not found or the run has saved no state.
    """
    folder = Path(os.path.expanduser(folder))
    where, found = diagnosed(folder, num_workers)
    lines = [f"{where}:", diagnosis_text(found)]
    if found.plans:
        path = folder / "diagnosis.png"
        return _said(say, lines, path, lambda: figures.diagnosis(found, path))
    text = "\n".join(lines)
    say(text)
    return text


def diagnosed(folder: str | Path, num_workers: int = 1) -> tuple[str, diagnostics.Diagnosis]:
    """Diagnose the loss at a run's last parameters, gradient included; what `diagnosis` says, as data.

    Parameters
    ----------
    folder, num_workers : as in `diagnosis`; nothing is written.

    Returns
    -------
    Where it was diagnosed, in words, and the diagnosis.

    Raises
    ------
    FileNotFoundError, ValueError : as `diagnosis`.
    """
    last = _last(Path(os.path.expanduser(folder)))
    found = diagnostics.diagnose(
        jax.random.key(0),
        last.problem.task.loss_fn,
        last.params,
        None if last.takes_turns else last.problem.algorithm,
        last.problem.definition.num_offspring,
        sigma=None if last.takes_turns else last.sigma,
        batch=last.batch,
        resampled=last.is_sampled,
        num_workers=num_workers,
        use_gradient=True,
    )
    where = (
        f"At the last parameters, on {len(last.batch[1]):,} examples" + ", all parameters at once" * last.takes_turns
    )
    return where, found


def landscape(folder: str | Path, say: Say = _nobody) -> str:
    """Look at the loss around a run's last parameters, draw landscape.png, and return the text.

    Parameters
    ----------
    folder : as `mutagrad train` wrote it; its data are read again. Nothing in it but landscape.png is written.
    say : as in `inspect`.

    Returns
    -------
    The profiles of the loss along five filter-normalised directions, on 10,000 training examples at most, and the effects of a
    thousand mutations of the last σ, on 1,000 at most. Where parts of the network took turns mutations are of all of it.

    Raises
    ------
    FileNotFoundError, ValueError : as `diagnosis`.
    """
    folder = Path(os.path.expanduser(folder))
    last = _last(folder)
    data, loss_fn = last.problem.task.data, last.problem.task.loss_fn
    order = np.random.default_rng(0).permutation(len(data.train_targets))
    flatness_key, effects_key = jax.random.split(jax.random.key(0))

    def batch(number: int) -> tuple:
        return data.train_inputs[order[:number]], data.train_targets[order[:number]]

    flat = diagnostics.landscape.flatness(flatness_key, loss_fn, last.params, batch=batch(_MOST_EXAMPLES))
    effects = diagnostics.landscape.mutational_effects(
        effects_key,
        loss_fn,
        last.params,
        None if last.takes_turns else last.problem.algorithm,
        sigma=last.sigma,
        num_mutations=_NUM_MUTATIONS,
        batch=batch(_MOST_OF_MUTATIONS),
    )
    title = f"{figure.title(read_settings(folder), last.problem.definition.num_offspring)}; at the last parameters"
    lines = [
        f"Around the last parameters:\n{flatness_text(flat)}",
        f"Mutations at the last parameters:\n{effects_text(effects)}",
    ]
    path = folder / "landscape.png"
    return _said(say, lines, path, lambda: landscape_figures.overview(flat, effects, path, title))


def _last(folder: Path) -> _Last:
    """A run at its end, with as many examples as its last batch had, 10,000 at most."""
    settings, history = read(folder)
    if not (folder / "checkpoint").exists():
        raise FileNotFoundError(f"run: got {str(folder)!r}, which holds no checkpoint; let the run save itself first")
    problem = set_up(settings, load(settings.data, settings.data_dir, settings.task), read_inputs(folder))
    state = last_state(folder / "checkpoint", problem.key, problem.algorithm, problem.state)
    data = problem.task.data
    number, size = len(data.train_targets), int(history.num_examples[-1])
    chosen = np.random.default_rng(0).permutation(number)[: min(size, _MOST_EXAMPLES)]
    return _Last(
        problem,
        state.params,
        last_held(history.sigma),
        (data.train_inputs[chosen], data.train_targets[chosen]),
        size < number,
        num_shared_layers(settings) > 0 or num_unit_groups(settings, number) > 1,
    )


def _forecast(records: dict[str, Any]) -> str:
    """When the loss will be a tenth lower; of one that is 0 there is no tenth."""
    try:
        return forecast_text(diagnostics.forecast(records))
    except ValueError:
        return "Forecast: the loss is 0."


def read(folder: Path) -> tuple[TrainConfig, Any]:
    """Settings and history of a run."""
    if is_evolved(folder):
        raise ValueError(
            f"run: got {str(folder)!r}, a checkpoint of mutagrad.evolve, which holds no loss to evaluate; call "
            "mutagrad.diagnose or mutagrad.diagnostics.landscape with the loss function"
        )
    try:
        settings, history = read_settings(folder), read_history(folder)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(
            f"run: got {str(folder)!r}, which holds no run (no config.json); pass a folder that mutagrad train --out wrote"
        ) from None
    except KeyError as error:
        raise ValueError(f"run: got {str(folder)!r}, whose history.zarr is damaged ({error})") from None
    if history is None:
        raise FileNotFoundError(f"run: got {str(folder)!r}, which holds no history yet; let the run save itself first")
    return settings, history
