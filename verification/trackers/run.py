"""A run written by one tracker and read back, in the environment of `make trackers`: prints what was found as JSON.

Run by verification/trackers.py with the name of a tracker and a number of generations. The run is made in two parts. The second
goes on from two thirds of the first, as after a kill: a third of the generations reach the tracker twice.
"""

import json
import os
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Found = dict[str, list[tuple[int, float]]]
"""By name: generations and values, in the order that they were found in."""


def options(name: str, folder: Path, part: int) -> dict[str, Any]:
    """Arguments of a tracker; a second part goes on with what the first wrote."""
    if name in ("json_lines", "csv"):
        return {"path": folder / "run"}
    if name == "tensorboard":
        return {"folder": folder}
    if name == "wandb":
        import wandb

        # Two parts of one open run: what is offline cannot be gone on with by another.
        return {"run": wandb.run or wandb.init(project="verification", dir=folder, mode="offline")}
    if name == "trackio":
        return {"init": {"project": "verification", "name": "run", "resume": "allow" if part else "never"}}
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db" if name == "mlflow (sqlite)" else folder.as_uri())
    mlflow.set_experiment("verification")
    runs = mlflow.search_runs(output_format="list")
    return {"start": {"run_id": runs[0].info.run_id} if part else {"run_name": "run"}}


def of_pandas(read: str, folder: Path, **arguments: Any) -> Found:
    import pandas

    table = getattr(pandas, read)(folder / "run", **arguments)
    table = table[table["generation"].notna()]
    columns = [name for name in table if name not in ("generation", "config", "summary")]
    generations = table["generation"].astype(int)
    return {name: list(zip(generations, pandas.to_numeric(table[name]).astype(float), strict=True)) for name in columns}


def of_tensorboard(folder: Path) -> Found:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {name: [(one.step, one.value) for one in events.Scalars(name)] for name in events.Tags()["scalars"]}


def records_of(data: bytes) -> list[bytes]:
    """The records of a log in LevelDB's format: blocks of 32 KiB of pieces, each with a checksum, a length and a type."""
    found, piece, place = [], b"", 7
    while place + 7 <= len(data):
        if place % 32768 > 32768 - 7:
            place += -place % 32768
            continue
        length, kind = struct.unpack("<HB", data[place + 4 : place + 7])
        piece += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            found.append(piece)
            piece = b""
    return found


def of_wandb(folder: Path) -> Found:
    import wandb
    from wandb.proto.wandb_internal_pb2 import Record

    wandb.finish()
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    # Its service, another process, writes the last records when the run has finished already.
    for _ in range(300):
        records = [Record.FromString(data) for data in records_of(path.read_bytes())]
        if any(record.HasField("exit") for record in records):
            break
        time.sleep(0.1)
    found: Found = {}
    for record in records:
        row = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
        for name, value in row.items():
            if name[0] != "_" and name != "generation":
                found.setdefault(name, []).append((row["generation"], float(value)))
    return found


def of_trackio(folder: Path) -> Found:
    from trackio.sqlite_storage import SQLiteStorage

    found: Found = {}
    for row in SQLiteStorage.get_logs("verification", "run"):
        for name, value in row.items():
            if name not in ("step", "timestamp"):
                found.setdefault(name, []).append((row["step"], float(value)))
    return found


def of_mlflow(folder: Path) -> Found:
    import mlflow

    (run,) = mlflow.search_runs(output_format="list")
    names = [name for name in run.data.metrics if name != "num_generations"]
    history = mlflow.MlflowClient().get_metric_history
    return {name: [(one.step, one.value) for one in history(run.info.run_id, name)] for name in names}


READ: dict[str, Callable[[Path], Found]] = {
    "json_lines": lambda folder: of_pandas("read_json", folder, lines=True, precise_float=True),
    "csv": lambda folder: of_pandas("read_csv", folder),
    "tensorboard": of_tensorboard,
    "wandb": of_wandb,
    "trackio": of_trackio,
    "mlflow (files)": of_mlflow,
    "mlflow (sqlite)": of_mlflow,
}


def main() -> None:
    """Write, read and compare."""
    name, number = sys.argv[1], int(sys.argv[2])
    with tempfile.TemporaryDirectory() as held:
        folder = Path(held)
        os.chdir(folder)
        os.environ |= {"TRACKIO_DIR": held, "WANDB_SILENT": "true", "MLFLOW_ALLOW_FILE_STORE": "true"}
        print(json.dumps(compared(name, number, folder)), flush=True)


def compared(name: str, number: int, folder: Path) -> dict[str, Any]:
    import jax
    import jax.numpy as jnp

    import mutagrad
    from mutagrad import trackers

    algorithm, key = mutagrad.adapt_sigma(mutagrad.elitist(sigma=0.1, num_offspring=8)), jax.random.key(0)
    tracker, seconds = getattr(trackers, name.split()[0]), 0.0

    def record(state: Any, info: mutagrad.Info) -> Any:
        odd = jnp.stack([jnp.nan, jnp.inf, -jnp.inf])[state.generation % 3]
        return mutagrad.default_record(state, info) | {"odd": odd}

    def evolved(start: Any, until: int, observers: tuple = ()) -> mutagrad.Result:
        return mutagrad.evolve(
            key,
            algorithm,
            start,
            lambda x: jnp.sum(x**2),
            until,
            record=record,
            observers=observers,
            progress=False,
        )

    starts = [jnp.ones(9), evolved(jnp.ones(9), number // 3)]
    for part, (start, until) in enumerate(zip(starts, (number // 2, number), strict=True)):
        observer = tracker(**options(name, folder, part), every=1, algorithm=algorithm)

        def timed(chunk: mutagrad.Chunk, observer: Any = observer) -> None:
            nonlocal seconds
            begin = time.perf_counter()
            observer(chunk)
            seconds += time.perf_counter() - begin

        result = evolved(start, until, (timed,))
        observer.close()
    found = READ[name](folder)
    history = {column: values.astype(float) for column, values in result.history.items()}
    if name == "mlflow (sqlite)":
        # Its database has no infinity, and holds the largest number.
        history = {column: np.nan_to_num(values, nan=np.nan) for column, values in history.items()}
    is_same = found.keys() == history.keys() and all(
        [generation for generation, _ in rows] == list(range(number))
        and np.array_equal(np.array([value for _, value in rows]), history[column], equal_nan=True)
        for column, rows in found.items()
    )
    rows = {len(rows) for rows in found.values()}
    written = number // 2 + number - number // 3
    return {"columns": len(found), "rows": sorted(rows), "is_same": is_same, "milliseconds": 1000 * seconds / written}


if __name__ == "__main__":
    main()
