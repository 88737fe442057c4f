"""Run folders of somebody else: nothing in them decides what is run, written, or how much memory is taken."""

import json

import numpy as np
import pytest
from safetensors import SafetensorError

from mutagrad.lab.training import run_folder
from mutagrad.run import journal

pytestmark = pytest.mark.permissive


@pytest.fixture
def exported(tmp_path):
    """A folder whose history is in history.zarr alone."""
    number = np.arange(30.0)
    columns = {"loss": number, "sigma": number + 1, "num_examples": np.ones(30, int), "is_resampled": number > 9}
    run_folder.write_history(tmp_path, run_folder.as_dataset(columns, {}), {"score": "accuracy"})
    return tmp_path


def test_what_was_exported_comes_back(exported):
    assert run_folder.read_history(exported).loss.values.tolist() == list(range(30))


PICKLE = {"name": "numcodecs.pickle", "configuration": {}}
FOREIGN = {
    "a codec": lambda said: {"codecs": [said["codecs"][0], PICKLE]},
    "another codec": lambda said: {"codecs": [said["codecs"][0], {"name": "gzip"}, said["codecs"][2]]},
    "objects": lambda said: {"data_type": "object"},
    "text": lambda said: {"data_type": {"name": "fixed_length_utf32", "configuration": {"length_bytes": 2**40}}},
    "terabytes": lambda said: {"shape": [2**38]},
    "a chunk of terabytes": lambda said: {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2**38]}}},
    "a transformer": lambda said: {"storage_transformers": [PICKLE]},
    "attributes": lambda said: {"attributes": {"units": "days since 1"}},
    "no axis": lambda said: {"shape": []},
}


@pytest.mark.parametrize("name", FOREIGN)
def test_metadata_that_no_run_writes_are_refused_before_zarr_sees_them(name, exported, monkeypatch):
    path = exported / "history.zarr" / "loss" / "zarr.json"
    said = json.loads(path.read_text())
    path.write_text(json.dumps(said | FOREIGN[name](said)))
    monkeypatch.setattr("xarray.open_zarr", lambda *given, **options: pytest.fail("it was opened"))
    with pytest.raises(ValueError, match=r"^run: got '.*history.zarr.*' with .*; restore it") as caught:
        run_folder.read_history(exported)
    assert "\n" not in str(caught.value)


def test_a_chunk_that_says_more_than_its_array(exported):
    path = exported / "history.zarr" / "loss" / "c" / "0"
    path.write_bytes(b"\x28\xb5\x2f\xfd\xe0" + (2**40).to_bytes(8, "little") + path.read_bytes()[13:])
    with pytest.raises(ValueError, match=r"a chunk that does not say that it holds 524,288 bytes"):
        run_folder.read_history(exported)


def test_a_chunk_of_another_run_is_not_taken_for_its_own(exported):
    """Its checksum is right; the manifest says what the run had."""
    run_folder.seal(exported)
    chunks = [exported / "history.zarr" / name / "c" / "0" for name in ("loss", "sigma")]
    chunks[0].write_bytes(chunks[1].read_bytes())
    with pytest.raises(ValueError, match=r"in which history.zarr/loss/c/0 was altered; restore it"):
        run_folder.read_history(exported)
    (exported / "manifest.json").unlink()
    assert run_folder.read_history(exported).loss.values.tolist() == list(range(1, 31))


def test_what_a_file_says_is_shown_without_what_a_terminal_obeys(exported):
    path = exported / "history.zarr" / "loss" / "zarr.json"
    said = json.loads(path.read_text())
    path.write_text(json.dumps(said | {"codecs": [{"name": "a\n\x1b[2J"}]}))
    with pytest.raises(ValueError, match="restore it") as caught:
        run_folder.read_history(exported)
    assert str(caught.value).isprintable()


def test_a_link_in_place_of_a_temporary_folder_is_not_followed(exported, tmp_path_factory):
    victim = tmp_path_factory.mktemp("victim")
    (victim / "file").write_text("mine")
    for name in ("history.zarr.tmp", "history.zarr.old"):
        (exported / name).symlink_to(victim)
    run_folder.write_history(exported, run_folder.read_history(exported), {})
    assert (victim / "file").read_text() == "mine"


@pytest.mark.parametrize("name", ["checkpoint", "inspect.png", "training.png", "manifest.json", "config.json"])
def test_links_in_a_run_folder_are_refused(name, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    (tmp_path / "run" / name).unlink(missing_ok=True)
    (tmp_path / "run" / name).symlink_to(tmp_path)
    with pytest.raises(ValueError, match=rf"^run: got '.*run', whose {name} is a link, a pipe or a device; remove it$"):
        run_folder.read_config(tmp_path / "run")


def test_lost_measurements_are_said_and_cost_their_rows_only(tmp_path):
    columns = {"measured_generation": np.array([0]), "test_loss": np.array([0.5])}
    with journal.Journal(tmp_path / run_folder.MEASUREMENTS, columns) as file:
        for place in range(4):
            file.append(place, {name: one + place for name, one in columns.items()})
    path = tmp_path / run_folder.MEASUREMENTS
    data = path.read_bytes()
    place = data.rfind(b"MGJ1", 0, data.rfind(b"MGJ1") - 1)
    path.write_bytes(data[: place + 30] + b"?" + data[place + 31 :])
    with pytest.warns(UserWarning, match="1 of its measurements are lost to damage"):
        found = run_folder.read_measurements(tmp_path)
    assert found["measured_generation"].tolist() == [0, 1, 3]
    path.write_bytes(b"?")
    with pytest.warns(UserWarning, match="its measurements are damaged at their head"):
        assert run_folder.read_measurements(tmp_path) == {}


def test_parameters_that_a_full_disk_refuses_are_named(tmp_path, monkeypatch):
    def full(arrays, path):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.flax.save_file", full)
    with pytest.raises(OSError, match=r"^params.safetensors: cannot be written .*No space left.*; make room"):
        run_folder.write_arrays(tmp_path, "params", {"w": np.zeros(3)})
