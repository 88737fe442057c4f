"""What trackers write, read back: the numbers of the history, once each, whatever happens in between."""

import csv
import json
import math
import resource
import struct
import sys
import warnings
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

import mutagrad
from mutagrad import trackers
from mutagrad.trackers import tracker as common

KEY = jax.random.key(0)
ALGORITHM = mutagrad.elitist(0.1, 4)


def loss_fn(x):
    return jnp.sum(jnp.square(x))


def record(state, info):
    """Numbers of every kind, those that JSON has not among them."""
    odd = jnp.where(state.generation % 3 == 0, jnp.nan, jnp.where(state.generation % 3 == 1, jnp.inf, -jnp.inf))
    return {
        "loss": info.parent_loss,
        "odd": odd,
        "is_accepted": jnp.any(info.is_accepted),
        "number": info.num_nonfinite,
    }


def evolved(observer, number=100, **options):
    options = {"record": record, "progress": False} | options
    return mutagrad.evolve(KEY, ALGORITHM, jnp.ones(3), loss_fn, number, observers=[observer], **options)


def chunk(number, start=0, **columns):
    columns = columns or {"loss": np.arange(start, start + number, dtype=np.float32)}
    return mutagrad.Chunk(ALGORITHM.init(jnp.ones(3))._replace(generation=start + number), columns, number)


def number_of(text):
    """A value of a file as a number."""
    return math.nan if text is None else {"True": True, "False": False}.get(text, text)


def of_json(path):
    first, *rows, last = map(json.loads, path.read_text().splitlines())
    return first["config"], rows, last["summary"]


def of_csv(path):
    beside = json.loads((path.parent / (path.name + ".json")).read_text())
    return beside["config"], list(csv.DictReader(path.read_text().splitlines())), beside["summary"]


FILES = [(trackers.json_lines, of_json), (trackers.csv, of_csv)]


def check_equal(rows, history, generations):
    """Rows have every number of the history at these generations, bit for bit."""
    assert [int(row["generation"]) for row in rows] == list(generations)
    for name, column in history.items():
        found = np.array([float(number_of(row[name])) for row in rows])
        np.testing.assert_array_equal(found, column[list(generations)].astype(np.float64))


@pytest.mark.parametrize(("tracker", "read"), FILES)
@pytest.mark.parametrize("every", [1, 7])
def test_a_file_has_the_numbers_of_the_history(tmp_path, tracker, read, every):
    path = tmp_path / "new" / "run"
    result = evolved(tracker(path, every=every, algorithm=ALGORITHM, config={"note": 'a, "b"\n'}))
    config, rows, summary = read(path)
    check_equal(rows, result.history, range(0, 100, every))
    assert config["note"] == 'a, "b"\n'
    assert config["num_offspring"] == 4
    assert config["sigma"] == 0.1
    assert "0x" not in config["algorithm"]
    assert summary["num_generations"] == 100
    assert summary["loss"] == result.history["loss"][-1]


@pytest.mark.parametrize(("tracker", "read"), FILES)
def test_unless_told_one_row_a_chunk(tmp_path, tracker, read):
    path, ends = tmp_path / "run", []
    observer = tracker(path)

    def both(chunk):
        ends.append(chunk.generation - 1)
        observer(chunk)
        if chunk.generation == 300:
            observer.close()

    result = evolved(both, 300)
    check_equal(read(path)[1], result.history, ends)


def test_every_line_is_json_as_its_standard_has_it(tmp_path):
    evolved(trackers.json_lines(tmp_path / "run", every=1), 6)

    def refuse(token):
        raise AssertionError(f"{token} is not JSON")

    odd = [json.loads(line, parse_constant=refuse).get("odd") for line in (tmp_path / "run").read_text().splitlines()]
    assert odd[1:7] == ["Infinity", "-Infinity", None] * 2


@pytest.mark.parametrize(("tracker", "read"), FILES)
def test_a_run_that_goes_on_continues_its_file(tmp_path, tracker, read):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    evolved(tracker(whole, every=3, algorithm=ALGORITHM), 100)
    folder = tmp_path / "checkpoint"
    evolved(tracker(parts, every=3, algorithm=ALGORITHM), 50, checkpoint=folder)
    # Rows of a run that was killed after its last checkpoint, the last of them cut off.
    last = parts.read_text().splitlines()[2]
    with parts.open("a") as file:
        for generation in (51, 54):
            file.write(last.replace("3", str(generation), 1) + "\n")
        file.write(last[:5])
    evolved(tracker(parts, every=3, algorithm=ALGORITHM), 100, checkpoint=folder)
    assert parts.read_text() == whole.read_text()
    assert read(parts) == read(whole)


@pytest.mark.parametrize(("tracker", "read"), FILES)
@pytest.mark.parametrize("goes_on", [False, True])
def test_the_file_of_another_run_is_kept(tmp_path, tracker, read, goes_on):
    path = tmp_path / "run.txt"
    evolved(tracker(path, every=1, config={"run": 1}), 5)
    before = read(path)
    start = evolved(lambda chunk: None, 5) if goes_on else jnp.ones(3)
    with pytest.warns(UserWarning, match="run.txt held another run; it is run.1.txt now"):
        mutagrad.evolve(
            KEY, ALGORITHM, start, loss_fn, 9, record=record, progress=False,
            observers=[tracker(path, every=1, config={"run": 2})],
        )  # fmt: skip
    assert read(tmp_path / "run.1.txt") == before
    assert [int(row["generation"]) for row in read(path)[1]] == list(range(5 if goes_on else 0, 9))


# ----------------------------------------------------------------------------------------------------------------------
# Failures
# ----------------------------------------------------------------------------------------------------------------------


@contextmanager
def heard():
    """All warnings of a block."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        yield told


class Failing(trackers.Tracker):
    """Writes half of what waits and fails, for some times."""

    def __init__(self, times, **options):
        super().__init__(every=1, **options)
        self.times, self.written, self.summary = times, [], None

    def write(self, rows):
        while rows:
            if self.times and len(rows) < 6:
                self.times -= 1
                raise ConnectionError("no\nnetwork")
            self.written.append(rows.pop(0))

    def end(self, summary):
        self.summary = summary


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(common, "_PAUSES", (0.0, 0.0))


@pytest.mark.usefixtures("at_once")
def test_a_failure_is_one_warning_and_no_row_is_lost():
    observer = Failing(2)
    with heard() as told:
        for start in range(0, 40, 10):
            assert observer(chunk(10, start)) is None
        observer.close()
        observer.close()
    assert [str(one.message) for one in told] == [
        "Failing: ConnectionError: no network; the run goes on, and its rows are tried again"
    ]
    assert [row["generation"] for row in observer.written] == list(range(40))
    assert observer.summary == {"num_generations": 40, "generation": 39, "loss": 39.0}


@pytest.mark.usefixtures("at_once")
def test_rows_that_were_never_written_are_counted(monkeypatch):
    monkeypatch.setattr(common, "_MOST_WAITING", 8)
    observer = Failing(math.inf)
    with heard() as told:
        observer(chunk(10))
        observer(chunk(10, 10))
        observer.close()
    assert str(told[-1].message) == f"Failing: {20 - len(observer.written)} of 20 rows were not written"
    assert len(told) == 2


def test_of_several_processes_the_first_one_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    observer = trackers.json_lines(tmp_path / "run", every=1)
    observer(chunk(3))
    observer.close()
    assert not (tmp_path / "run").exists()


def test_what_failed_is_not_tried_again_at_once():
    observer = Failing(1)
    with pytest.warns(UserWarning, match="no network"):
        observer(chunk(10))
    written = len(observer.written)
    observer(chunk(10, 10))
    assert len(observer.written) == written
    observer.close()
    assert len(observer.written) == 20


def test_a_run_goes_on_without_its_tracker():
    class Broken(trackers.Tracker):
        def open(self, start):
            raise OSError("no space left")

    with heard() as told:
        result = evolved(Broken(every=1), 100)
    assert result.stopped == "generations"
    assert [str(one.message).split(":")[1] for one in told] == [" OSError", " 100 of 100 rows were not written"]


@contextmanager
def nearly_full(path):
    """A disk on which a file may grow by 100 bytes; its size."""
    size, limits = path.stat().st_size, resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, limits[1]))
    try:
        yield size
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(("tracker", "read"), FILES)
def test_a_file_that_cannot_grow_for_a_while_is_whole_in_the_end(tmp_path, tracker, read):
    path, observer = tmp_path / "run", tracker(tmp_path / "run", every=1)
    loss = np.linspace(0, 1, 60, dtype=np.float32)
    observer(chunk(20, loss=loss[:20]))
    with nearly_full(path) as size, pytest.warns(UserWarning, match="File too large; the run goes on"):
        observer(chunk(20, 20, loss=loss[20:40]))
    # A part was written, in the middle of a row.
    assert path.stat().st_size == size + 100
    observer(chunk(20, 40, loss=loss[40:]))
    observer.close()
    check_equal(read(path)[1], {"loss": loss}, range(60))


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(("tracker", "read"), FILES)
def test_a_disk_that_stays_full_leaves_whole_rows(tmp_path, tracker, read):
    path, observer = tmp_path / "run", tracker(tmp_path / "run", every=1)
    loss = np.linspace(0, 1, 40, dtype=np.float32)
    observer(chunk(20, loss=loss[:20]))
    with nearly_full(path), heard() as told:
        observer(chunk(20, 20, loss=loss[20:]))
        observer.close()
    # The summary of JSON lines is shorter than what is left of the disk.
    assert path.read_text().endswith("\n")
    assert len(read(path)[1]) == 20
    assert str(told[-1].message).endswith("20 of 40 rows were not written")


def test_settings_are_json_and_the_same_in_every_process(tmp_path):
    config = {
        "rate": np.float32(0.5),
        "sizes": (np.int64(3), jnp.arange(2)),
        "loss": loss_fn,
        "name": "\ud800",
        1: {"x": None},
    }
    observer = trackers.json_lines(tmp_path / "run", config=config, every=1)
    observer(chunk(2))
    observer.close()
    found = of_json(tmp_path / "run")[0]
    assert found["rate"] == 0.5
    assert found["sizes"] == [3, [0, 1]]
    assert found["loss"] == "<function loss_fn>"
    assert found["name"] == "\ud800"
    assert found["1"] == {"x": None}


def test_what_is_no_scalar_is_left_out(tmp_path):
    observer = trackers.csv(tmp_path / "run", every=1)
    with pytest.warns(UserWarning, match="^csv: x left out, which are no scalars$"):
        observer(chunk(3, loss=np.zeros(3), x=np.zeros((3, 2))))
    observer(chunk(3, 3, loss=np.zeros(3), x=np.zeros((3, 2))))
    observer.close()
    assert (tmp_path / "run").read_text().splitlines()[0] == "generation,loss"
    with pytest.raises(ValueError, match="^record: got no scalars, and csv writes scalars; record a dictionary"):
        trackers.csv(tmp_path / "other")(chunk(3, x=np.zeros((3, 2))))


@pytest.mark.parametrize("every", [0, 2.5, True])
def test_arguments_are_checked(tmp_path, every):
    with pytest.raises(ValueError, match="^every: got"):
        trackers.json_lines(tmp_path / "run", every=every)
    with pytest.raises(ValueError, match="^config: got 'x'; pass a dictionary"):
        trackers.csv(tmp_path / "run", config="x")
    with pytest.raises(ValueError, match="^algorithm: got 3; pass an algorithm"):
        trackers.csv(tmp_path / "run", algorithm=3)
    with pytest.raises(ValueError, match="^path: got the folder"):
        trackers.csv(tmp_path)
    with pytest.raises(ValueError, match="^path: got None; pass the name of a file"):
        trackers.json_lines(None)
    with pytest.raises(ValueError, match="^path: got the pipe or device /dev/null"):
        trackers.json_lines("/dev/null")
    circle = {}
    circle["itself"] = circle
    with pytest.raises(ValueError, match="^config: got a setting that holds itself"):
        trackers.csv(tmp_path / "run", config=circle)
    with pytest.raises(ValueError, match="^record: got one named generation"):
        trackers.csv(tmp_path / "run")(chunk(2, generation=np.zeros(2), loss=np.zeros(2)))


@pytest.mark.parametrize("name", ["tensorboardX", "wandb", "trackio", "mlflow"])
def test_a_library_that_is_not_installed_is_named(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    arguments = ("folder",) if name == "tensorboardX" else ()
    with pytest.raises(ImportError, match=f"^{name}: not installed; pip install '"):
        getattr(trackers, name.lower().removesuffix("x"))(*arguments)


# ----------------------------------------------------------------------------------------------------------------------
# TensorBoard
# ----------------------------------------------------------------------------------------------------------------------


def events(path):
    """The events of a file: records of a length, a checksum, the data and a checksum."""
    data = path.read_bytes()
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        yield Event.FromString(data[12 : 12 + length])
        data = data[16 + length :]


def of_tensorboard(folder):
    """Scalars by name and generation, as TensorBoard has them: a new file makes void what others have from its step on."""
    found, texts = {}, {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for event in events(path):
            if event.session_log.status == event.session_log.START:
                found = {(name, step): value for (name, step), value in found.items() if step < event.step}
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    assert (value.tag, event.step) not in found, "twice"
                    found[value.tag, event.step] = value.simple_value
                else:
                    texts[value.tag.split("/")[0]] = value.tensor.string_val[0].decode()
    return found, texts


def check_tensorboard(folder, history, generations):
    found, texts = of_tensorboard(folder)
    assert set(found) == {(name, generation) for name in history for generation in generations}
    for name, column in history.items():
        own = np.array([found[name, generation] for generation in generations])
        np.testing.assert_array_equal(own, column[list(generations)].astype(np.float64))
    return texts


def test_tensorboard_has_the_numbers_of_the_history(tmp_path):
    result = evolved(trackers.tensorboard(tmp_path, every=5, algorithm=ALGORITHM))
    texts = check_tensorboard(tmp_path, result.history, range(0, 100, 5))
    assert json.loads(texts["config"])["num_offspring"] == 4
    assert json.loads(texts["summary"])["num_generations"] == 100


def test_a_run_that_goes_on_makes_void_what_tensorboard_had_from_there(tmp_path):
    writer = trackers.tensorboard(tmp_path, every=1)
    history = {"loss": np.arange(60, dtype=np.float32)}
    writer(chunk(40))
    writer.close()
    # As after a kill: the checkpoint is of generation 30, and the file has forty rows.
    again = trackers.tensorboard(tmp_path, every=1)
    again(chunk(30, 30))
    again.close()
    check_tensorboard(tmp_path, history, range(60))


def test_a_tracker_that_is_used_again_says_that_it_writes_nothing(tmp_path):
    tracker = trackers.json_lines(tmp_path / "run.jsonl", every=1)

    def run(start, number):
        return mutagrad.evolve(
            jax.random.key(0), mutagrad.elitist(0.1, 4), start, lambda x: jnp.sum(x**2), number, progress=False,
            observers=[tracker],
        )  # fmt: skip

    result = run(jnp.ones(3), 5)
    with pytest.warns(UserWarning, match="json_lines: its run has ended, and nothing of this one is written") as said:
        run(result, 10)
    assert len(said) == 1
