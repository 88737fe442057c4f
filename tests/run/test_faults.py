"""Writes that fail, one at a time: the short form of verification/faults.py, through Python alone; and what it found."""

import contextlib
import errno
import os
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mutagrad
from mutagrad.run import chunks, journal, lock, saved, sums

KEY, START, NUMBER = jax.random.key(0), jnp.ones(6), 19
ALGORITHM = mutagrad.elitist(0.1, 6)
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def loss_fn(x):
    return jnp.sum(x**2)


def run(folder, number=NUMBER, start=START):
    return mutagrad.evolve(KEY, ALGORITHM, start, loss_fn, number, checkpoint=folder, progress=False)


@pytest.fixture(scope="module")
def whole():
    return run(None)


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """Chunks of 1, 2 and 16 generations, each followed by a checkpoint."""
    monkeypatch.setattr(saved, "_SECONDS", 0.0)
    monkeypatch.setattr(chunks, "_CHUNK_SECONDS", 1e6)


@pytest.fixture
def killed(monkeypatch):
    """Runs end as if they had been killed: nothing is saved at the end."""
    monkeypatch.setattr(saved.Saved, "close", lambda own: own.release())


def failing(monkeypatch, place, name, numbers):
    """Let the calls of these numbers, from 1, fail for want of room; returns the list of all calls."""
    real, calls = getattr(place, name), []

    def call(*arguments, **options):
        calls.append(arguments)
        if len(calls) in numbers:
            raise OSError(*FULL.args)
        return real(*arguments, **options)

    monkeypatch.setattr(place, name, call)
    return calls


def assert_same(result, whole):
    np.testing.assert_array_equal(result.params, whole.params)
    for name, column in whole.history.items():
        np.testing.assert_array_equal(result.history[name], column, err_msg=name)


@pytest.mark.parametrize(
    ("name", "number"),
    [("pwrite", 2), ("pwrite", 5), ("fsync", 3), ("fsync", 40), ("rename", 2)],
)
def test_a_call_that_fails_ends_nothing(name, number, whole, tmp_path, monkeypatch, capfd):
    """The run ends as the one that nothing befell, says so in a line, and its folder is gone on with and replayed."""
    calls = failing(monkeypatch, os, name, {number})
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert_same(run(tmp_path), whole)
    assert len(calls) >= number
    assert [str(one.message).count("cannot be written now (No space left on device)") for one in said] == [1]
    assert capfd.readouterr().err == ""
    monkeypatch.undo()
    assert_same(run(tmp_path), whole)
    np.testing.assert_array_equal(mutagrad.replay(tmp_path, ALGORITHM, START).params, whole.params)


@pytest.mark.parametrize("numbers", [{2, 3}, {1, 2}, {3}])
@pytest.mark.filterwarnings("ignore:checkpoint:UserWarning")
def test_a_kill_after_seals_failed(numbers, whole, tmp_path, monkeypatch, killed):
    """Older checkpoints stay until newer ones have their sums: there is always one that is whole, or none at all."""
    failing(monkeypatch, sums, "write_signed", numbers)
    with contextlib.suppress(mutagrad.RunError):
        run(tmp_path)
    assert len(list(tmp_path.glob("*.json"))) == 3 - len(numbers)
    monkeypatch.undo()
    assert_same(run(tmp_path), whole)


@pytest.mark.filterwarnings("ignore:checkpoint:UserWarning")
def test_a_state_waits_for_its_history(whole, tmp_path, monkeypatch, killed):
    """What could not be appended is appended before a state is saved that lies behind it; a kill loses no generation."""
    failing(monkeypatch, journal.Journal, "append", set(range(3, 100)))
    run(tmp_path)
    monkeypatch.undo()
    assert_same(run(tmp_path), whole)


@pytest.mark.filterwarnings("ignore:checkpoint:UserWarning")
@pytest.mark.parametrize("name", ["_write", "append"])
def test_the_history_of_a_result_is_written_although_the_disk_was_full(name, whole, tmp_path, monkeypatch):
    failing(monkeypatch, journal.Journal, name, {1})
    assert_same(run(tmp_path, start=run(None, 3)), whole)
    monkeypatch.undo()
    assert_same(run(tmp_path), whole)


@pytest.mark.filterwarnings("ignore:checkpoint:UserWarning")
def test_a_checkpoint_that_failed_leaves_nothing(tmp_path, monkeypatch, killed):
    """Neither room that it takes on a disk that is full, nor words of Orbax."""
    failing(monkeypatch, sums, "write_signed", {1, 2, 3})
    with pytest.raises(mutagrad.RunError, match="No space left on device when the run had ended"):
        run(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "history.journal", "lineage.journal"]


def test_errors_name_their_file(tmp_path, monkeypatch):
    """Calls on a file that is open know no name of it."""
    with journal.Journal(tmp_path / "a", {"x": np.zeros(0)}, sync_seconds=0) as file:
        for name in ("pwrite", "fsync"):
            with monkeypatch.context() as patched:
                failing(patched, os, name, {1})
                with pytest.raises(OSError, match="No space left on device: '.*a'"):
                    file.append(0, {"x": np.ones(3)})
    failing(monkeypatch, os, "fsync", {1})
    with pytest.raises(OSError, match="No space left on device: '.*b.json'"):
        sums.write_signed(tmp_path / "b.json", {})


def test_names_are_forced_to_the_disk_too(tmp_path, monkeypatch):
    """A file that is written outlives a power cut under its name."""
    synced, real = [], os.fsync

    def fsync(descriptor):
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        real(descriptor)

    if not Path("/proc/self/fd").exists():
        pytest.skip("tells files by /proc")
    monkeypatch.setattr(os, "fsync", fsync)
    sums.write_signed(tmp_path / "a.json", {})
    assert synced == ["a.json.tmp", tmp_path.name]
    journal.Journal(tmp_path / "b", {"x": np.zeros(0)}).close()
    assert synced[2:4] == ["b", tmp_path.name]
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "d").touch()
    sums.sums_of(tmp_path / "c", sync=True)
    assert synced[-2:] == ["d", "c"]


def test_a_full_disk_keeps_no_run_from_its_folder(tmp_path, monkeypatch):
    """The number of the process is for a message alone."""
    failing(monkeypatch, os, "pwrite", {1})
    with lock.locked(tmp_path, "checkpoint"), pytest.raises(ValueError, match="process another is writing to"):  # noqa: SIM117
        with lock.locked(tmp_path, "checkpoint"):
            pass
