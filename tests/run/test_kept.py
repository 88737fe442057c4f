"""Evaluations of an unfinished generation: kept on disk, and not made again by the run that goes on."""

import os
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mutagrad
from mutagrad.failures import Failure
from mutagrad.run import journal
from mutagrad.run.kept import KeptEvaluations, fingerprint

ALGORITHM = mutagrad.elitist(sigma=0.1, num_offspring=4)
KEY = jax.random.key(0)


class Counting:
    """A noisy loss, slow enough to be kept, that stops the run at a call by an error that no policy catches."""

    def __init__(self, stop_at=None, seconds=0.002):
        self.calls, self.stop_at, self.seconds = 0, stop_at, seconds
        self.rng = np.random.default_rng()

    def __call__(self, params):
        """Another number at every call."""
        if self.calls == self.stop_at:
            raise KeyboardInterrupt
        self.calls += 1
        time.sleep(self.seconds)
        return float(np.sum(np.square(params)) + 0.01 * self.rng.normal())


def run(loss_fn, number=6, **options):
    return mutagrad.evolve(
        KEY, ALGORITHM, jnp.ones(3), loss_fn, number, evaluation=mutagrad.executor(), progress=False, **options
    )


def test_a_run_killed_within_a_generation_makes_no_evaluation_twice(tmp_path):
    """Five candidates a generation: 13 calls are two generations and three candidates. The noise is another every time."""
    first = Counting(stop_at=13)
    with pytest.raises(KeyboardInterrupt):
        run(first, checkpoint=tmp_path)
    second = Counting()
    result = run(second, checkpoint=tmp_path)
    assert first.calls + second.calls == 6 * 5
    # The same again, from the evaluations of both.
    found = mutagrad.evolve(KEY, ALGORITHM, jnp.ones(3), second, 6, evaluation=mutagrad.executor(), checkpoint=tmp_path)
    assert first.calls + second.calls == 6 * 5
    np.testing.assert_array_equal(found.history["loss"], result.history["loss"])


def test_from_a_checkpoint_on_and_for_a_third_time(tmp_path):
    calls = []
    for stop_at in (None, 8, 4, None):
        loss_fn = Counting(stop_at)
        calls.append(loss_fn)
        number = 3 if len(calls) == 1 else 9
        if stop_at is None:
            result = run(loss_fn, number, checkpoint=tmp_path)
        else:
            with pytest.raises(KeyboardInterrupt):
                run(loss_fn, number, checkpoint=tmp_path)
    # Of nine generations of five candidates none is made twice, wherever the checkpoints of the runs that failed are.
    assert [one.calls for one in calls] == [15, 8, 4, 30 - 12]
    assert int(result.state.generation) == 9


def test_another_loss_or_key_takes_none_over(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(Counting(stop_at=13), checkpoint=tmp_path)

    def other(params):
        other.calls += 1
        return float(np.sum(np.abs(params)))

    other.calls = 0
    run(other, checkpoint=tmp_path)
    # The first generation had been saved.
    assert other.calls == 25


def test_failures_are_kept_as_what_they_were(tmp_path):
    errors = []
    params = [np.ones(2), np.zeros(2), {"a": np.float32(3.0)}]
    outcomes = [np.asarray([1.0, 2.0]), Failure("raised", "timeout"), np.asarray([np.nan, 4.0])]
    kept = KeptEvaluations(tmp_path, 0, "this", errors.append)
    for index, (one, outcome) in enumerate(zip(params, outcomes, strict=True)):
        kept.mark(index, one)
        kept.add(index, outcome)
    kept.close()
    again = KeptEvaluations(tmp_path, 0, "this", errors.append)
    found = [again.take(index, one) for index, one in enumerate(params)]
    np.testing.assert_array_equal(found[0], outcomes[0])
    assert isinstance(found[1], Failure)
    assert found[1].kind == "timeout"
    np.testing.assert_array_equal(found[2], outcomes[2])
    assert not errors
    assert again.has_some()
    again.ended()
    assert not again.has_some()
    # At another place, of another run, or from a later generation, they are not known.
    for other in (
        KeptEvaluations(tmp_path, 0, "that", errors.append),
        KeptEvaluations(tmp_path, 1, "this", errors.append),
    ):
        assert not other.has_some()
    assert KeptEvaluations(tmp_path, 0, "this", errors.append).take(1, params[0]) is None


def test_what_is_damaged_is_made_again_and_nothing_else(tmp_path):
    errors = []
    kept = KeptEvaluations(tmp_path, 0, "this", errors.append)
    for index in range(20):
        kept.mark(index, np.full(3, index))
        kept.add(index, np.asarray(float(index)))
    kept.close()
    path = next(tmp_path.glob("evaluations-*"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    again = KeptEvaluations(tmp_path, 0, "this", errors.append)
    found = [again.take(index, np.full(3, index)) for index in range(20)]
    assert 0 < found.index(None) < 19
    assert found.count(None) <= 2
    assert all(one is None or float(one) == index for index, one in enumerate(found))


def _damaged(rng, folder):
    """One of the files is cut, altered or removed."""
    if not (paths := sorted(folder.glob("evaluations-*"))):
        return
    path = paths[rng.integers(len(paths))]
    data, what = bytearray(path.read_bytes()), rng.integers(3)
    place = rng.integers(len(data))
    if what == 0:
        path.unlink()
        return
    data[place] ^= 255
    path.write_bytes(data[:place] if what == 1 else data)


@pytest.mark.parametrize("is_damaged", [False, True])
def test_no_evaluation_is_taken_for_that_of_another_generation(is_damaged, tmp_path, monkeypatch):
    """Of a noisy loss: each value is told apart, so that what is taken is known to be of this candidate of this generation.

    The parent stays as it is in most generations. Runs end at random moments, and go on from one of two checkpoints. Without
    damage nothing is made twice.
    """
    monkeypatch.setattr("mutagrad.run.kept._WORTH", 0.0)
    for seed in range(30):
        rng, made = np.random.default_rng([seed, is_damaged]), []
        (folder := tmp_path / str(seed)).mkdir()
        checkpoints = [(0, 0.0)]
        for _ in range(6):
            generation, parent = checkpoints[-1 if rng.random() < 0.6 else 0]
            checkpoints = [one for one in checkpoints if one[0] <= generation]
            kept = KeptEvaluations(folder, generation, "this", pytest.fail)
            for _ in range(rng.integers(1, 8)):
                candidates = [np.full(2, parent), *(np.full(2, [parent, 1000 * generation + 10 * i]) for i in (1, 2))]
                found = [kept.take(i, one) if kept.has_some() else None for i, one in enumerate(candidates)]
                todo = [i for i in rng.permutation(3) if found[i] is None]
                is_killed = rng.random() < 0.2
                for i in todo[: rng.integers(len(todo) + 1) if is_killed else None]:
                    kept.mark(int(i), candidates[i])
                    found[i] = np.float64(len(made))
                    made.append((generation, i, candidates[i].tobytes()))
                    kept.add(int(i), found[i])
                if is_killed:
                    break
                for i, one in enumerate(candidates):
                    assert made[int(found[i])] == (generation, i, one.tobytes())
                kept.ended()
                # Another parent now and then, by what the noise was.
                parent = float(found[1]) if found[1] % 4 == 0 else parent
                generation += 1
                if rng.random() < 0.2:
                    kept.begin()
                    checkpoints = [*checkpoints[-1:], (generation, parent)]
                    kept.forget(checkpoints[0][0])
            kept.close()
            if is_damaged:
                _damaged(rng, folder)
        assert is_damaged or len(set(made)) == len(made)


def test_losses_of_changing_kinds_and_failures_fill_few_files(tmp_path):
    kept = KeptEvaluations(tmp_path, 0, "this", pytest.fail)
    outcomes = [np.asarray(1.0), Failure("raised"), np.zeros(3, np.float32), np.asarray(1)] * 10
    for index, outcome in enumerate(outcomes):
        kept.mark(index, np.ones(2))
        kept.add(index, outcome)
    kept.close()
    assert len(list(tmp_path.glob("evaluations-*"))) == 3
    again = KeptEvaluations(tmp_path, 0, "this", pytest.fail)
    for index, outcome in enumerate(outcomes):
        assert repr(again.take(index, np.ones(2))) == repr(outcome)


def test_a_file_that_cannot_be_synced_does_not_end_the_run(tmp_path, monkeypatch):
    errors = []
    kept = KeptEvaluations(tmp_path, 0, "this", errors.append)
    kept.mark(0, np.ones(2))
    kept.add(0, np.asarray(1.0))

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    kept.begin()
    assert [error.errno for error in errors] == [28]


def test_quick_evaluations_are_not_kept_and_old_ones_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("mutagrad.run.kept._WORTH", 5.0)
    run(Counting(seconds=0.0), 40, checkpoint=tmp_path)
    files = [journal.read(path) for path in tmp_path.glob("evaluations-*")]
    # Of 40 generations the first.
    assert sum(len(one.columns["kind"]) for one in files) == 5
    errors = []
    kept = KeptEvaluations(tmp_path, 1, "this", errors.append)
    kept.forget(1000)
    assert not list(tmp_path.glob("evaluations-*"))


def test_a_disk_without_room_is_said_once_and_the_run_goes_on(tmp_path, monkeypatch):
    errors = []
    kept = KeptEvaluations(tmp_path, 0, "this", errors.append)
    real = os.pwrite

    def full(descriptor, data, place):
        raise OSError(28, "No space left on device")

    for index in range(4):
        monkeypatch.setattr(os, "pwrite", full if index == 2 else real)
        kept.mark(index, np.full(3, index))
        kept.add(index, np.asarray(1.0))
    kept.ended()
    assert [error.errno for error in errors] == [28]
    kept.close()
    assert KeptEvaluations(tmp_path, 0, "this", errors.append).take(1, np.full(3, 1)) == 1.0


def test_the_fingerprint_is_of_the_body_of_a_loss():
    def make(text):
        space = {}
        exec(text, space)
        return space["loss"]

    one, other = make("def loss(x):\n    return x + 1"), make("def loss(x):\n    return x + 2")
    assert fingerprint(one) == fingerprint(make("\n\ndef loss(x):\n    return x + 1"))
    assert fingerprint(one) != fingerprint(other)


def test_the_fingerprint_is_the_same_in_every_process_and_of_the_call_of_an_object():
    """A set in the code has another order in every process; these two have in this one."""
    assert repr(frozenset([0, 8])) != repr(frozenset([8, 0]))
    assert fingerprint(eval("lambda x: x in {0, 8}")) == fingerprint(eval("lambda x: x in {8, 0}"))
    assert fingerprint(eval("lambda x: x in {0, 8}")) != fingerprint(eval("lambda x: x in {0, 9}"))

    def of_body(text):
        space = {}
        exec(f"class Loss:\n    func = 'no partial'\n    def __call__(self, x):\n        return {text}", space)
        return fingerprint(space["Loss"]())

    assert of_body("x + 1") == of_body("x + 1") != of_body("x + 2")


SCRIPT = """
import sys, jax, jax.numpy as jnp, mutagrad, outside_losses
if __name__ == "__main__":
    mutagrad.evolve(jax.random.key(0), mutagrad.elitist(0.1, 4), jnp.ones(3), outside_losses.stuck, 60,
                    evaluation=mutagrad.executor(2), checkpoint=sys.argv[1], progress=False)
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    """Whatever they evaluate, and with the programs that it has started."""
    (tmp_path / "script.py").write_text(SCRIPT)
    path = os.pathsep.join([os.path.join(os.path.dirname(__file__), "..", "evaluation"), *sys.path])
    folder = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py"), str(folder)], env=os.environ | {"PYTHONPATH": path}
    )
    try:
        while not list(folder.glob("evaluations-*")):
            assert process.poll() is None
            time.sleep(0.05)

        def children_of(parent):
            found = subprocess.run(["pgrep", "-P", str(parent)], stdout=subprocess.PIPE, text=True).stdout
            return [int(one) for one in found.split()]

        children = children_of(process.pid)
        until = time.monotonic() + 20
        while not (programs := [one for child in children for one in children_of(child)]) and time.monotonic() < until:
            time.sleep(0.05)
        children += programs
        assert programs
        assert len(children) >= 2
    finally:
        process.kill()
        process.wait()
    until = time.monotonic() + 10
    while any(os.path.exists(f"/proc/{child}") for child in children) and time.monotonic() < until:
        time.sleep(0.05)
    assert not [child for child in children if os.path.exists(f"/proc/{child}")]
