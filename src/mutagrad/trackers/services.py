"""Trackers that hand rows to another library: tensorboardX, Weights & Biases, Trackio and MLflow."""

import json
import logging
import time
from collections.abc import Mapping
from os import PathLike, fspath
from typing import Any

from mutagrad.trackers.tracker import Row, Tracker

__all__ = ["mlflow", "tensorboard", "trackio", "wandb"]

_MOST_METRICS = 1000
"""Metrics of one request to an MLflow server."""


class tensorboard(Tracker):
    """Write scalars as TensorBoard's event files, by tensorboardX (the ``trackers`` extra).

    Settings and summary are texts, of the tags "config" and "summary". TensorBoard holds 32-bit floats: those that are
    recorded so are exact.

    Parameters
    ----------
    folder : of the event files. A run that goes on from generation t writes a file of its own, and TensorBoard then takes what
        earlier files have from t on for void.
    options : ``every``, ``algorithm`` and ``config``, as `Tracker` has them.

    >>> import pathlib, tempfile, jax, jax.numpy as jnp, mutagrad
    >>> from mutagrad import trackers
    >>> folder = tempfile.mkdtemp()
    >>> result = mutagrad.evolve(
    ...     jax.random.key(0), mutagrad.elitist(sigma=0.1, num_offspring=4), jnp.ones(3), lambda x: jnp.sum(x**2), 100,
    ...     progress=False, observers=[trackers.tensorboard(folder)],
    ... )
    >>> len(list(pathlib.Path(folder).glob("events.out.tfevents.*")))
    1
    """

    def __init__(self, folder: str | PathLike, **options: Any):
        super().__init__(**options)
        try:
            import tensorboardX  # noqa: F401
        except ImportError:
            raise _missing("tensorboardX", "mutagrad[trackers]") from None
        self._folder = fspath(folder)

    def open(self, start: int) -> None:
        """A new file, which makes void what others have from ``start`` on."""
        import tensorboardX

        # Of a NaN tensorboardX logs a line each time, and here it is a value as any other.
        logging.getLogger("tensorboardX.x2num").setLevel(logging.ERROR)
        # Names of files have whole seconds, and one of the same second would be overwritten.
        own = f".{time.time_ns()}"
        self._writer = tensorboardX.SummaryWriter(self._folder, purge_step=start or None, filename_suffix=own)
        if self.config:
            self._writer.add_text("config", _indented(self.config), start)

    def write(self, rows: list[Row]) -> None:
        """Write rows."""
        while rows:
            row = dict(rows[0])
            generation = row.pop("generation")
            for name, value in row.items():
                self._writer.add_scalar(name, value, generation)
            del rows[0]
        self._writer.flush()

    def end(self, summary: Row) -> None:
        """Write the summary."""
        self._writer.add_text("summary", _indented(summary), summary["generation"])
        self._writer.close()


class wandb(Tracker):
    """Log to a run of Weights & Biases.

    Every metric is drawn against "generation", whatever else your program logs to the run.

    Parameters
    ----------
    run : what ``wandb.init(...)`` returned, which stays open; ``None`` takes the run that is open, or opens one with ``init`` and
        finishes it at the end.
    init : arguments of ``wandb.init``, such as ``{"project": "mine", "mode": "offline"}``. To go on with a run, give it an ``id``
        and ``resume="allow"``: generations that it has are not logged again.
    options : ``every``, ``algorithm`` and ``config``, as `Tracker` has them. ``config`` and the algorithm's settings update the
        run's.

    Raises
    ------
    ImportError : if wandb is not installed. Whatever ``wandb.init`` raises.
    """

    def __init__(self, run: Any = None, *, init: Mapping[str, Any] | None = None, **options: Any):
        super().__init__(**options)
        self._run, self._is_own = run, False
        if run is None:
            try:
                import wandb as library
            except ImportError:
                raise _missing("wandb", "wandb") from None
            self._run = library.run
            if self._run is None:
                self._run, self._is_own = library.init(**(init or {})), True

    def open(self, start: int) -> None:
        """Say what the axis is, and how far the run has come."""
        self._run.define_metric("generation", hidden=True)
        for name in self._last:
            if name != "generation":
                self._run.define_metric(name, step_metric="generation")
        if self.config:
            self._run.config.update(self.config, allow_val_change=True)
        done = self._run.summary.get("generation", -1) if start else -1
        self._from = start if done is None else max(start, int(done) + 1)

    def write(self, rows: list[Row]) -> None:
        """Log rows."""
        while rows:
            if rows[0]["generation"] >= self._from:
                self._run.log(rows[0])
            del rows[0]

    def end(self, summary: Row) -> None:
        """Write the summary."""
        self._run.summary.update(summary)
        if self._is_own:
            self._run.finish()


class trackio(Tracker):
    """Log to a run of Trackio, with the generation as its step.

    Trackio has no summary: the last generation is logged as its last row.

    Parameters
    ----------
    run : what ``trackio.init(...)`` returned, which stays open; ``None`` opens one with ``init`` and finishes it at the end.
    init : arguments of ``trackio.init``, such as ``{"project": "mine", "name": "first"}``. To go on with a run, give its ``name``
        and ``resume="allow"``: generations that it has are not logged again.
    options : ``every``, ``algorithm`` and ``config``, as `Tracker` has them.

    Raises
    ------
    ImportError : if trackio is not installed. Whatever ``trackio.init`` raises.
    """

    def __init__(self, run: Any = None, *, init: Mapping[str, Any] | None = None, **options: Any):
        super().__init__(**options)
        self._run, self._is_own = run, run is None
        if run is None:
            try:
                import trackio as library
            except ImportError:
                raise _missing("trackio", "trackio") from None
            self._run = library.init(**(init or {}))

    def open(self, start: int) -> None:
        """How far the run has come; its settings go with its first row."""
        # Trackio has no public name for the step that comes next.
        self._from = max(start, getattr(self._run, "_next_step", 0)) if start else 0
        self._run.config.update(self.config)

    def write(self, rows: list[Row]) -> None:
        """Log rows."""
        while rows:
            row = dict(rows[0])
            if (generation := row.pop("generation")) >= self._from:
                self._run.log(row, step=generation)
                self._from = generation + 1
            del rows[0]

    def end(self, summary: Row) -> None:
        """Log the last generation, if it is not there."""
        self.write([self._last])
        if self._is_own:
            self._run.finish()


class mlflow(Tracker):
    """Log to a run of MLflow, with the generation as the step of its metrics; settings are its parameters.

    Parameters
    ----------
    run : what ``mlflow.start_run(...)`` returned, which stays open; ``None`` takes the active run, or starts one with ``start``
        and ends it at the end.
    start : arguments of ``mlflow.start_run``, such as ``{"run_name": "first"}``. To go on with a run, give its ``run_id``:
        generations that it has are not logged again.
    options : ``every``, ``algorithm`` and ``config``, as `Tracker` has them. MLflow refuses a parameter of another value than the
        run has.

    Raises
    ------
    ImportError : if mlflow (or mlflow-skinny) is not installed. Whatever ``mlflow.start_run`` raises.
    """

    def __init__(self, run: Any = None, *, start: Mapping[str, Any] | None = None, **options: Any):
        super().__init__(**options)
        try:
            import mlflow as library
        except ImportError:
            raise _missing("mlflow", "mlflow") from None
        self._library, self._client, self._is_own = library, library.MlflowClient(), False
        active = run or library.active_run()
        if active is None:
            active, self._is_own = library.start_run(**(start or {})), True
        self._id = active.info.run_id

    def open(self, start: int) -> None:
        """Write the settings, and ask how far the run has come."""
        for name, value in self.config.items():
            self._client.log_param(self._id, name, value)
        self._from = 0
        if start:
            name = next(name for name in self._last if name != "generation")
            steps = [metric.step for metric in self._client.get_metric_history(self._id, name)]
            self._from = max(steps, default=-1) + 1

    def write(self, rows: list[Row]) -> None:
        """Log rows, as many at once as a server takes."""
        most = max(_MOST_METRICS // len(rows[0]), 1)
        while rows:
            now = int(time.time() * 1000)
            metrics = [
                self._library.entities.Metric(name, float(value), now, row["generation"])
                for row in rows[:most]
                if row["generation"] >= self._from
                for name, value in row.items()
                if name != "generation"
            ]
            if metrics:
                self._client.log_batch(self._id, metrics=metrics, synchronous=True)
            self._from = max(self._from, rows[:most][-1]["generation"] + 1)
            del rows[:most]

    def end(self, summary: Row) -> None:
        """Log the last generation, if it is not there, and how many there were."""
        self.write([self._last])
        self._client.log_batch(
            self._id,
            metrics=[
                self._library.entities.Metric(
                    "num_generations", summary["num_generations"], int(time.time() * 1000), summary["generation"]
                )
            ],
        )
        if self._is_own:
            self._library.end_run()


def _missing(package: str, installed: str) -> ImportError:
    return ImportError(f"{package}: not installed; pip install '{installed}'")


def _indented(values: Mapping[str, Any]) -> str:
    """A text that TensorBoard, which reads Markdown, shows as it is."""
    return "\n".join(
        f"    {line}" for line in json.dumps(values, indent=2, default=str, ensure_ascii=False).split("\n")
    )
