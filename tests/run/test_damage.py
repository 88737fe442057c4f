"""Whatever happens to the folder of a run: it goes on as the run that was never stopped, or is refused in one line."""

import contextlib
import shutil
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mutagrad
from mutagrad.run import past, saved, sums

KEY, START, CUT, NUMBER = jax.random.key(0), jnp.ones(6), 40, 60
ALGORITHM = mutagrad.adapt_sigma(mutagrad.elitist(0.1, 6))


def loss_fn(x):
    return jnp.sum(x**2)


def run(folder, number=NUMBER, key=KEY, algorithm=ALGORITHM, start=START, **options):
    return mutagrad.evolve(key, algorithm, start, loss_fn, number, checkpoint=folder, progress=False, **options)


def one_chunk(chunk):
    return "one chunk"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run with two checkpoints."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(folder, CUT // 2)
    run(folder, CUT)
    return folder


@pytest.fixture(scope="module")
def whole():
    return run(None)


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Another run, of the same key and algorithm, from another start."""
    folder = tmp_path_factory.mktemp("other") / "run"
    run(folder, CUT // 2, start=2 * START)
    run(folder, CUT, start=2 * START)
    return folder


def flipped(path, other, rng):
    data = bytearray(path.read_bytes())
    if data:
        data[rng.integers(len(data))] ^= 1 << rng.integers(8)
    path.write_bytes(data)


def cut(path, other, rng):
    path.write_bytes(path.read_bytes()[: rng.integers(path.stat().st_size + 1)])


def removed(path, other, rng):
    path.unlink()


def swapped(path, other, rng):
    if other.exists():
        path.write_bytes(other.read_bytes())


def emptied(path, other, rng):
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize("damage", [flipped, cut, removed, swapped, emptied])
def test_every_file_damaged_in_turn(damage, folder, whole, other, tmp_path):
    """Every file of the folder, damaged one at a time: the same run, or one line; and what is lost is said."""
    rng, went_on, refused = np.random.default_rng(0), 0, []
    names = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock"]
    assert len(names) > 10
    for name in names:
        shutil.rmtree(tmp_path / "tried", ignore_errors=True)
        shutil.copytree(folder, tmp_path / "tried")
        damage(tmp_path / "tried" / name, other / name, rng)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                result = run(tmp_path / "tried")
            except ValueError as error:
                refused.append(str(error))
                continue
        went_on += 1
        np.testing.assert_array_equal(result.params, whole.params)
        lost = np.isnan(result.history["loss"])
        np.testing.assert_array_equal(result.history["loss"][~lost], whole.history["loss"][~lost])
        assert said or not lost.any()
    assert went_on > len(refused)
    assert not any("\n" in text for text in refused)


def test_the_newest_whole_checkpoint_is_taken_and_the_other_kept(folder, whole, tmp_path):
    tried = shutil.copytree(folder, tmp_path / "tried")
    victim = max((tried / str(CUT)).rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0)
    flipped(victim, None, np.random.default_rng(1))
    made = []
    with pytest.warns(UserWarning, match=rf"{CUT}/.* was altered; the run goes on from generation {CUT // 2}") as said:
        result = run(tried, observers=[lambda chunk: made.append(chunk.num_generations)])
    assert "\n" not in str(said[0].message)
    assert sum(made) == NUMBER - CUT // 2
    np.testing.assert_array_equal(result.params, whole.params)
    np.testing.assert_array_equal(result.history["loss"], whole.history["loss"])
    assert (tried / f"damaged-{CUT}").is_dir()


def test_a_damaged_history_stays_as_it_is_when_nothing_is_left_to_do(folder, tmp_path):
    """What is lost is lost once: the rest outlives sittings without a generation."""
    tried = shutil.copytree(folder, tmp_path / "tried")
    whole = (tried / past.HISTORY).read_bytes()
    block = next(one for one in saved.journal._blocks(whole) if one.first == 1)
    (tried / past.HISTORY).write_bytes(whole[: block.start] + b"?" + whole[block.start + 1 :])
    with pytest.warns(UserWarning, match="of its history are lost to damage"):
        lost = np.isnan(run(tried, CUT).history["loss"])
    assert lost.sum() == block.rows
    for number in (CUT, NUMBER):
        np.testing.assert_array_equal(np.isnan(run(tried, number).history["loss"])[:CUT], lost)


@pytest.mark.parametrize("how", ["removed", "altered"])
def test_a_checkpoint_that_was_lost_is_written_again(how, folder, tmp_path):
    tried = shutil.copytree(folder, tmp_path / "tried")
    if how == "removed":
        shutil.rmtree(tried / str(CUT))
    else:
        next(path for path in (tried / str(CUT)).rglob("*") if path.is_file()).write_bytes(b"?")
    with pytest.warns(UserWarning, match=f"the run goes on from generation {CUT // 2}"):
        run(tried, CUT)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(tried, CUT)
    shutil.rmtree(tried / str(CUT))
    shutil.rmtree(tried / str(CUT // 2))
    with pytest.raises(ValueError, match="no checkpoint is whole"):
        run(tried, CUT)


def test_a_kill_after_the_lineage_was_lost(folder, whole, tmp_path, monkeypatch):
    """A lineage that began anew is gone on with, although no checkpoint knows of it."""
    tried = shutil.copytree(folder, tmp_path / "tried")
    (tried / "lineage.journal").unlink()
    monkeypatch.setattr(saved.Saved, "close", lambda own: own.release())
    with pytest.warns(UserWarning, match="its lineage is damaged or missing"):
        run(tried, CUT + 5)
    monkeypatch.undo()
    np.testing.assert_array_equal(run(tried).params, whole.params)
    assert mutagrad.replay(tried, ALGORITHM, run(None, CUT)).last == NUMBER


@pytest.mark.parametrize("name", [".lock", "5.json.tmp", past.HISTORY])
def test_links_are_not_written_through(name, tmp_path):
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(tmp_path / "victim")
    with warnings.catch_warnings(), contextlib.suppress(ValueError):
        warnings.simplefilter("ignore")
        run(tmp_path / "run", 5)
    assert (tmp_path / "victim").read_text() == "mine"


def test_a_result_without_history_goes_on_in_a_folder(tmp_path):
    """Its history begins where it begins, and evaluations are counted once."""
    earlier = run(None, CUT)._replace(history=None)
    earlier = earlier._replace(num_evaluations=0)
    run(tmp_path / "run", 50, start=earlier)
    result, uncut = run(tmp_path / "run", start=earlier), run(None, start=earlier)
    np.testing.assert_array_equal(result.history["loss"], uncut.history["loss"])
    assert result.num_evaluations == uncut.num_evaluations == (NUMBER - CUT) * 7


def test_leaves_that_are_no_plain_numbers(tmp_path):
    start = {"x": START, "key": jax.random.key(3), "small": jnp.array([1, -2], jnp.int4)}

    def run(folder, number):
        options = {"checkpoint": folder, "progress": False}
        return mutagrad.evolve(KEY, ALGORITHM, start, lambda p: jnp.sum(p["x"] ** 2), number, **options)

    run(tmp_path, 5)
    again = run(tmp_path, 9)
    np.testing.assert_array_equal(again.params["x"], run(None, 9).params["x"])
    assert again.params["key"] == start["key"]
    assert mutagrad.replay(tmp_path, ALGORITHM, start).generation == 9


def test_no_whole_checkpoint_is_an_error_and_touches_nothing(folder, tmp_path):
    tried = shutil.copytree(folder, tmp_path / "tried")
    for step in (CUT // 2, CUT):
        removed(next(path for path in (tried / str(step)).rglob("*") if path.is_file()), None, None)
    before = sorted(path.relative_to(tried) for path in tried.rglob("*"))
    with pytest.raises(ValueError, match=r"^checkpoint: got '.*', in which no checkpoint is whole \(.* is missing"):
        run(tried)
    assert sorted(path.relative_to(tried) for path in tried.rglob("*")) == before


def test_a_checkpoint_of_another_version_of_the_library_is_refused(folder, tmp_path):
    tried = shutil.copytree(folder, tmp_path / "tried")
    for path in tried.glob("*.json"):
        described = sums.read_signed(path)
        del described["identity"]["program"]
        sums.write_signed(path, described)
    with pytest.raises(ValueError, match=r"in which no checkpoint is whole \(.* is of another version of this library"):
        run(tried)


def test_other_algorithms_are_refused(folder, tmp_path):
    """σ, M and the rule are told apart; the key and the model are too (tests/run/test_continue.py)."""
    tried = shutil.copytree(folder, tmp_path / "tried")
    for algorithm in (
        mutagrad.elitist(0.1, 6),
        mutagrad.adapt_sigma(mutagrad.comma(0.1, 6)),
        mutagrad.adapt_sigma(mutagrad.elitist(0.1, 7)),
        mutagrad.adapt_sigma(mutagrad.elitist(0.1, 6, mutation=mutagrad.mutation.sphere())),
    ):
        with pytest.raises(
            ValueError, match=r"^checkpoint: got '.*', saved by a run of .*; continue with the algorithm"
        ):
            run(tried, algorithm=algorithm)
    fixed = mutagrad.elitist(0.1, 6)
    run(tmp_path / "fixed", 5, algorithm=fixed)
    with pytest.raises(ValueError, match=r"^checkpoint: got '.*', saved by a run of .*σ = 0.1.* and this is .*σ = 0.2"):
        run(tmp_path / "fixed", algorithm=mutagrad.elitist(0.2, 6))


@pytest.mark.parametrize("other", ["beta", "rate", "sigma", "turns", "schedule"])
def test_what_no_words_tell_is_told_by_the_program(other, tmp_path):
    """Populations, turns and schedules have no definition in words; their numbers are told apart all the same."""

    def made(changed):
        value = 2.0 if changed else 1.0
        if other in ("turns", "schedule"):
            turns = [mutagrad.elitist(0.1, 6), mutagrad.elitist(0.01, 6)]
            if other == "turns":
                return mutagrad.alternate(turns, [1, 2 + changed])
            return mutagrad.schedule_sigma(turns[0], lambda generation: value * 0.9 ** generation.astype(jnp.float32))
        numbers = {"sigma": 0.1, "beta": 1.0, "rate": 0.1} | {
            other: {"sigma": 0.1, "beta": 1.0, "rate": 0.1}[other] * value
        }
        return mutagrad.population(numbers["sigma"], numbers["beta"], 20, numbers["rate"], capacity=64)

    run(tmp_path, 5, algorithm=made(False))
    run(tmp_path, 6, algorithm=made(False))
    with pytest.raises(
        ValueError, match=r"^checkpoint: got '.*', saved by .*; continue with the algorithm that it was saved"
    ):
        run(tmp_path, 9, algorithm=made(True))


def test_other_versions_are_said(folder, whole, tmp_path, monkeypatch):
    tried = shutil.copytree(folder, tmp_path / "tried")
    monkeypatch.setattr("mutagrad.run.identity.versions", lambda: {"jax": "0.0.1"})
    with pytest.warns(
        UserWarning, match=r"it was written with .*jax 0\.\d+.*, and this is .*jax 0\.0\.1.*need not be the one"
    ):
        result = run(tried)
    np.testing.assert_array_equal(result.params, whole.params)


def test_a_full_disk_is_said_once_and_the_run_goes_on(whole, tmp_path, monkeypatch):
    """Nothing can be appended for a while; in the end everything is there."""
    appended, failures = saved.journal.Journal.append, [OSError(28, "No space left on device")] * 3

    def append(journal, first, columns):
        if failures:
            raise failures.pop()
        appended(journal, first, columns)

    monkeypatch.setattr(saved.journal.Journal, "append", append)
    with pytest.warns(
        UserWarning, match=r"it cannot be written now \(No space left on device\); the run goes on"
    ) as said:
        result = run(tmp_path / "run")
    assert len(said) == 1
    np.testing.assert_array_equal(result.params, whole.params)
    monkeypatch.undo()
    np.testing.assert_array_equal(run(tmp_path / "run").history["loss"], whole.history["loss"])
    np.testing.assert_array_equal(mutagrad.replay(tmp_path / "run", ALGORITHM, START).params, whole.params)


def test_two_runs_of_a_folder(tmp_path):
    """A run within an observer of another one, on the same folder, is refused, and harms nothing."""
    errors = []

    def rival(chunk):
        with pytest.raises(ValueError, match="is writing to") as caught:
            run(tmp_path / "run")
        errors.append(str(caught.value))

    run(tmp_path / "run", observers=[rival])
    assert errors
    run(tmp_path / "run", 70)


def test_saving_all_the_time_changes_nothing(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(saved, "_SECONDS", 0.0)
    for number in range(10, NUMBER + 1, 10):
        result = run(tmp_path / "run", number)
    np.testing.assert_array_equal(result.params, whole.params)
    np.testing.assert_array_equal(result.history["loss"], whole.history["loss"])
    steps = [path for path in (tmp_path / "run").iterdir() if path.name.isdigit()]
    assert len(steps) == len(list((tmp_path / "run").glob("*.json"))) == 2
