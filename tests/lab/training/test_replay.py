"""Where a replay writes: one file for each name, known before anything is replayed, and nothing else is touched."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from mutagrad.lab.training import replay, run_folder


def test_names_with_dots_are_files_of_their_own(tmp_path):
    names = ["sigma0.1_gen5", "sigma0.1_gen9", "plain", "plain.safetensors", "a.npz"]
    files = [replay._file(str(tmp_path / name)) for name in names]
    assert [path.name.removesuffix(".safetensors") for path in files] == [*names[:3], "plain", "a.npz"]
    for number, path in enumerate(files):
        run_folder.write_arrays(path.parent, path.stem, {"w": np.full(2, number, np.float32)})
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in files}
    assert [load_file(path)["['w']"][0] for path in files] == [0, 1, 3, 3, 4]


@pytest.mark.parametrize("name", ["missing/params", "", ".safetensors", "folder.safetensors"])
def test_what_cannot_be_written_is_refused_before_anything_is_replayed(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.safetensors").mkdir()
    # The run is not there either, which would be found later.
    with pytest.raises(FileNotFoundError, match=r"^out: got .*; pass a file's name"):
        replay.replay(tmp_path / "no run", out=name)


def test_files_of_the_user_stay(tmp_path):
    (tmp_path / "params.tmp").write_text("mine")
    run_folder.write_arrays(tmp_path, "params", {"w": np.zeros(3, np.float32)})
    (tmp_path / "taken.safetensors").mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        run_folder.write_arrays(tmp_path, "taken", {"w": np.zeros(3, np.float32)})
    assert (tmp_path / "params.tmp").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"params.tmp", "params.safetensors", "taken.safetensors"}
