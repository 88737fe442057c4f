"""Files that no run wrote: what is no file, is too large or is no plain JSON is refused before it is read."""

import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mutagrad
from mutagrad.evaluation.local import resolve
from mutagrad.lab.training.options import TrainConfig
from mutagrad.lab.training.train import train
from mutagrad.run import files, journal, past, saved, sums

KEY, START = jax.random.key(0), jnp.ones(6)
ALGORITHM = mutagrad.adapt_sigma(mutagrad.elitist(0.1, 6))


def run(folder, number=30):
    return mutagrad.evolve(KEY, ALGORITHM, START, lambda x: jnp.sum(x**2), number, checkpoint=folder, progress=False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(folder, 20)
    for path in folder.glob("1*"):  # an earlier checkpoint, of a slow machine
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return folder


def put(path, kind):
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(path.with_name("victim"))
        path.with_name("victim").write_text("mine")
    elif kind == "folder":
        path.mkdir()
    else:
        path.touch()
        os.truncate(path, 2**40)


@pytest.mark.parametrize("kind", ["pipe", "link", "folder", "terabyte"])
def test_what_is_no_file_is_refused_and_not_waited_for(kind, tmp_path):
    put(tmp_path / "a", kind)
    for read in (journal.read, lambda path: files.read_json(path, "run"), lambda path: journal.Journal(path, {})):
        with pytest.raises(ValueError, match=r"^\w+: got '.*/a'"):
            read(tmp_path / "a")
    assert sums.read_signed(tmp_path / "a") is None
    # That of a terabyte would be read for hours.
    assert sums.damaged(tmp_path, {"a": "0"}, is_all=False) in (["a was altered"], ["a is missing"])


def test_a_history_of_a_terabyte_is_put_aside_and_not_copied(whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "run")
    put(folder / past.HISTORY, "terabyte")
    with pytest.warns(UserWarning, match="1 to 20 of its history are lost to damage"):
        result = run(folder)
    assert np.isnan(result.history["loss"][:20]).all()
    assert np.isfinite(result.history["loss"][20:]).all()
    assert (folder / f"damaged-{past.HISTORY}").stat().st_size == 2**40


@pytest.mark.parametrize("kind", ["pipe", "link"])
@pytest.mark.parametrize("name", ["20.json", "20", past.HISTORY, "lineage.journal"])
def test_a_folder_in_which_files_are_pipes_or_links_is_refused(name, kind, whole, tmp_path):
    tried = shutil.copytree(whole, tmp_path / "tried")
    if (tried / name).is_dir():
        shutil.rmtree(tried / name)
    put(tried / name, kind)
    for call in (run, lambda folder: mutagrad.replay(folder, ALGORITHM, START)):
        with pytest.raises(
            ValueError, match=rf"^checkpoint: got '.*', whose {name} is a link, a pipe or a device; remove it$"
        ):
            call(tried)


@pytest.mark.parametrize(
    "text", ['{"a": 1, "a": 2}', "NaN", "[" * 100_000, '{"a": Infinity}', "9" * 5000, "\udcff", ""]
)
def test_json_that_no_writer_makes(text, tmp_path):
    (tmp_path / "a").write_text(text, errors="surrogateescape")
    with pytest.raises(ValueError, match=r"^run: got '.*/a', which is damaged \(.*\); restore it$"):
        files.read_json(tmp_path / "a", "run")


WRONG = {
    "identity": [], "leaves": {"a": 1}, "files": {"a": 1}, "versions": [], "run": 3, "start": [],
    "records": {"a": ["float32", [2**40]]}, "first": -(10**20), "evaluations": "9", "generation": 20.0,
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_description_of_other_kinds_is_passed_over(name, whole, tmp_path):
    """Its sum is right: somebody else wrote it. History of 10²⁰ generations is not made."""
    tried = shutil.copytree(whole, tmp_path / "tried")
    described = sums.read_signed(tried / "20.json")
    sums.write_signed(tried / "20.json", described | {name: WRONG[name]})
    with pytest.raises(ValueError, match=r"no checkpoint is whole \(20.json is of another version of this library"):
        run(tried)


def test_a_checkpoint_that_has_its_sums_and_no_contents_is_one_line(whole, tmp_path):
    tried = shutil.copytree(whole, tmp_path / "tried")
    for path in (tried / "20" / "default").rglob("*"):
        if path.is_file():
            path.write_bytes(b"{}")
    described = sums.read_signed(tried / "20.json")
    sums.write_signed(tried / "20.json", described | {"files": sums.sums_of(tried / "20")})
    with pytest.raises(ValueError, match=r"^checkpoint: got '.*20', which has its sums and cannot be read") as caught:
        run(tried)
    assert "\n" not in str(caught.value)


HEADS = {
    "evaluation": [0, -1, True, "batched", [], 1.5], "generation": [-1, 0.0, "0", None], "checksum": ["1", 2.5],
    "key": ["x", [[1]], [1], {}, [2**40, 1]], "generator": ["none", 3],
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in HEADS.items() for value in values])
def test_a_lineage_that_says_something_else_of_its_start(name, value, whole, tmp_path):
    found = journal.read(whole / "lineage.journal")
    with journal.Journal(tmp_path / "lineage.journal", found.columns, found.attributes | {name: value}) as file:
        file.append(0, found.columns)
    with pytest.raises(ValueError, match=r"^lineage: got '.*', which does not say how its run began; restore it$"):
        mutagrad.replay(tmp_path, ALGORITHM, START)


@pytest.mark.parametrize("name", ["winner", "sigma", "checksum"])
def test_a_lineage_of_other_rows(name, whole, tmp_path):
    found = journal.read(whole / "lineage.journal")
    columns = found.columns | {name: found.columns[name][:, None].astype(np.complex64)}
    with journal.Journal(tmp_path / "lineage.journal", columns, found.attributes) as file:
        file.append(0, columns)
    with pytest.raises(ValueError, match=r"which holds other rows than a lineage has; restore it$"):
        mutagrad.replay(tmp_path, ALGORITHM, START)


def test_blocks_far_apart_take_no_memory(tmp_path):
    """Each is near the one before; all together they would be of 10¹⁰ generations."""
    columns = {"x": np.zeros(1, np.int8)}
    with journal.Journal(tmp_path / "a", columns) as file:
        file.append(0, columns)
    data = (tmp_path / "a").read_bytes()
    blocks = [journal._block(1, 10**5 * (place + 1), b"1") for place in range(10**5)]
    (tmp_path / "a").write_bytes(data + b"".join(blocks))
    assert len(journal.read(tmp_path / "a").columns["x"]) < 10**7


def test_everything_that_is_set_aside_is_kept(tmp_path):
    """Three runs that ended before their first checkpoint: the journals of each are there."""
    for text in ("one", "two", "three"):
        (tmp_path / past.HISTORY).write_text(text)
        state = ALGORITHM.init(START)
        own = saved.Saved(tmp_path, KEY, ALGORITHM, state, None, resolve("auto"))
        with pytest.warns(UserWarning, match="its journals are kept"):
            own.restore(state, None, 0)
        own.release()
    kept = [tmp_path / f"earlier{number}-{past.HISTORY}" for number in ("", "-2", "-3")]
    assert [path.read_text() for path in kept] == ["one", "two", "three"]


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=400), place=st.integers(0, 400), length=st.integers(0, 400))
def test_bytes_at_random(data, place, length, tmp_path_factory):
    """Signed JSON and a journal of which a part is something else: what was written, or nothing."""
    folder = tmp_path_factory.mktemp("random")
    sums.write_signed(folder / "a", {"some": [1, 2.5, "σ"]})
    columns = {"x": np.arange(9.0)}
    with journal.Journal(folder / "b", columns, {"run": "a"}) as file:
        file.append(0, columns)
    for path in (folder / "a", folder / "b"):
        whole = path.read_bytes()
        path.write_bytes(whole[:place] + data + whole[place + length :])
    assert sums.read_signed(folder / "a") in (None, {"some": [1, 2.5, "σ"]})
    try:
        found = journal.read(folder / "b").columns
    except ValueError:
        return
    assert all(value != value or value == columns["x"][place] for place, value in enumerate(found["x"]))


def test_what_a_file_says_is_shown_in_one_line(whole, tmp_path):
    tried = shutil.copytree(whole, tmp_path / "tried")
    described = sums.read_signed(tried / "20.json")
    identity = described["identity"] | {"algorithm": "some\nlines \x1b[2J"}
    sums.write_signed(tried / "20.json", described | {"identity": identity})
    with pytest.raises(ValueError, match=r"saved by a run of some lines \?\[2J, and this is"):
        run(tried)


@pytest.mark.parametrize("name", ["run[1]", "[ab]", "[[]"])
def test_a_folder_that_orbax_would_not_find_again_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"checkpoint: got .*; pass a folder without \[ and \]") as refused:
        run(tmp_path / name / "checkpoint")
    assert not (tmp_path / name).exists()
    assert "\n" not in str(refused.value)
    with pytest.raises(ValueError, match=r"out: got .*; pass a folder without"):
        train(TrainConfig(sigma=0.01, generations=2, out=str(tmp_path / name)), progress=False)
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("name", ["run[", "run]", "a*b?"])
def test_other_signs_in_the_name_of_a_folder_are_read_back(tmp_path, name):
    run(tmp_path / name, 3)
    assert int(run(tmp_path / name, 5).state.generation) == 5
