"""The history of a saved run: on the disk and not in memory while it goes on, and whole in the result whatever happens."""

import dataclasses
import os
import shutil
import tracemalloc
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mutagrad
from mutagrad.run import past, saved

KEY, START, NUMBER = jax.random.key(0), jnp.ones(6), 60
ALGORITHM = mutagrad.adapt_sigma(mutagrad.elitist(0.1, 6))
FULL = OSError(28, "No space left on device")


def run(folder, number=NUMBER, start=START, **options):
    return mutagrad.evolve(
        KEY, ALGORITHM, start, lambda x: jnp.sum(x**2), number, checkpoint=folder, progress=False, **options
    )


@pytest.fixture(scope="module")
def whole():
    return run(None)


def assert_whole(result, whole):
    assert result.history.keys() == whole.history.keys()
    for name, column in whole.history.items():
        assert result.history[name].dtype == column.dtype
        np.testing.assert_array_equal(result.history[name], column, err_msg=name)


def test_memory_does_not_grow_with_the_history(tmp_path):
    """40,000 generations of 256 bytes, in chunks of a tenth of that at most: what grows is less than two chunks."""
    marks = []

    def record(state, info):
        return {"many": jnp.full(64, info.parent_loss)}

    def measure(chunk):
        tracemalloc.start()
        marks.append(tracemalloc.get_traced_memory()[0])

    try:
        result = run(tmp_path / "run", 40_000, record=record, observers=[measure])
    finally:
        tracemalloc.stop()
    assert result.history["many"].shape == (40_000, 64)
    assert len(marks) > 8
    assert max(marks) - marks[0] < 2 * 4096 * 256 < result.history["many"].nbytes / 4


@pytest.mark.parametrize("before", [0, 20])
def test_the_result_outlives_its_folder(before, whole, tmp_path, monkeypatch):
    """Deleted after the first chunk of a sitting."""
    monkeypatch.setattr(saved, "_FIRST_SECONDS", saved._SECONDS)
    if before:
        run(tmp_path / "run", before)

    def delete(chunk):
        shutil.rmtree(tmp_path / "run", ignore_errors=True)

    with pytest.raises(mutagrad.RunError, match="the folder is gone") as caught:
        run(tmp_path / "run", observers=[delete])
    assert "\n" not in str(caught.value)
    assert_whole(caught.value.result, whole)
    np.testing.assert_array_equal(caught.value.result.params, whole.params)


def test_the_history_outlives_a_disk_that_is_full_to_the_end(whole, tmp_path, monkeypatch):
    """Some of it is on the disk, and the rest was never written."""
    appended, calls = saved.journal.Journal.append, []

    def append(journal, first, columns):
        calls.append(first)
        if first:
            raise FULL
        appended(journal, first, columns)

    monkeypatch.setattr(saved.journal.Journal, "append", append)
    with (
        pytest.warns(UserWarning, match="it cannot be written now"),
        pytest.raises(mutagrad.RunError, match="No space left on device") as caught,
    ):
        run(tmp_path / "run")
    assert any(calls)
    assert_whole(caught.value.result, whole)


@pytest.mark.parametrize("failing", ["__init__", "_write", "append"])
def test_an_earlier_history_waits_for_a_disk_that_was_full_at_first(failing, whole, tmp_path, monkeypatch):
    """A Result goes on in a new folder whose first write fails: its own history is written later, and first."""
    real, failures = getattr(saved.journal.Journal, failing), [FULL] * 2

    def fails(*arguments, **options):
        if failures:
            raise failures.pop()
        return real(*arguments, **options)

    earlier = run(None, 20)
    monkeypatch.setattr(saved.journal.Journal, failing, fails)
    with pytest.warns(UserWarning, match="it cannot be written now"):
        assert_whole(run(tmp_path / "run", start=earlier), whole)
    monkeypatch.undo()
    assert_whole(run(tmp_path / "run", start=earlier), whole)


def test_what_cannot_be_read_back_is_said_and_is_nan(whole, tmp_path):
    """Another process cuts the file: the rest is there, and so is everything else."""

    def cut(chunk):
        if chunk.generation == 1:
            os.truncate(tmp_path / "run" / past.HISTORY, 10)

    with pytest.warns(UserWarning, match="generations 1 to 60 of its history cannot be read back") as said:
        result = run(tmp_path / "run", observers=[cut])
    assert sum("read back" in str(one.message) for one in said) == 1
    assert np.isnan(result.history["loss"]).all()
    np.testing.assert_array_equal(result.params, whole.params)


def test_an_error_keeps_the_history_so_far(whole, tmp_path):
    def broken(chunk):
        if chunk.generation > 1:
            raise KeyError("broken")

    with pytest.raises(mutagrad.RunError, match="KeyError") as caught:
        run(tmp_path / "run", observers=[broken])
    number = int(caught.value.result.state.generation)
    np.testing.assert_array_equal(caught.value.result.history["loss"], whole.history["loss"][:number])


def test_other_start_parameters_are_not_taken_in_silence(tmp_path, whole, recwarn):
    """The run of the folder goes on; that it does is said. The same parameters, and the run's own result, need no word."""
    half = run(tmp_path / "run", NUMBER // 2)
    run(tmp_path / "run", NUMBER - 10)
    run(tmp_path / "run", NUMBER - 5, half)
    assert not recwarn.list
    with pytest.warns(UserWarning, match="began with other parameters than those given"):
        result = run(tmp_path / "run", NUMBER, 2 * START)
    assert_whole(result, whole)


@dataclasses.dataclass
class Own:
    """A record with equality of its own, which has no hash."""

    name: str

    def __call__(self, state, info):
        return {self.name: info.parent_loss}


def test_a_record_without_a_hash_is_kept(tmp_path):
    result = run(tmp_path, 8, record=Own("loss"))
    np.testing.assert_array_equal(result.history["loss"], run(None, 8).history["loss"])


def test_a_result_that_goes_on_in_a_new_folder_keeps_its_history_whatever_sync_fails(whole, tmp_path, monkeypatch):
    sync, calls = os.fsync, []

    def failing(descriptor):
        calls.append(descriptor)
        if len(calls) == 1:
            raise FULL
        sync(descriptor)

    first = run(None, 20)
    monkeypatch.setattr("mutagrad.run.journal.os.fsync", failing)
    with pytest.warns(UserWarning, match="it cannot be written now"):
        assert_whole(run(tmp_path, start=first), whole)
    assert_whole(run(tmp_path), whole)


def test_sums_of_a_checkpoint_that_is_gone_are_removed(whole, tmp_path):
    run(tmp_path, 20)
    (tmp_path / "90.json").write_text((tmp_path / "20.json").read_text())
    with pytest.warns(UserWarning, match="the run goes on from generation 20"):
        assert_whole(run(tmp_path), whole)
    assert sorted(path.name for path in tmp_path.glob("*.json")) == ["20.json", "60.json"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(tmp_path)
