"""A steady state: who is judged against whom, by NumPy and by `evolve`; kills, noise, failures and what is refused."""

import os
import random
import signal
import threading
import time
from concurrent.futures import Executor, Future

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mutagrad

KEY = jax.random.key(3)


class Shuffled(Executor):
    """So many at a time, of which a random one ends next; it notes who was born when, and who ended when."""

    def __init__(self, number, seed, total, in_order=False):
        self.number, self.random, self.in_order, self.total = number, random.Random(seed), in_order, total
        self.pending, self.born, self.order, self.lock = [], [], [], threading.Lock()
        self.is_over = False
        threading.Thread(target=self._drain, daemon=True).start()

    def submit(self, own, candidates):
        future: Future = Future()
        with self.lock:
            self.pending.append((len(self.born), own, candidates, future))
            self.born.append((len(self.order), candidates[0]))
            if len(self.pending) == self.number:
                self._end_one()
        return future

    def _end_one(self):
        place = 0 if self.in_order else self.random.randrange(len(self.pending))
        index, own, candidates, future = self.pending.pop(place)
        self.order.append(index)
        future.set_result(own(candidates))

    def _drain(self):
        while not self.is_over:
            time.sleep(0.002)
            with self.lock:
                # At the start and at the end there are fewer than go at a time.
                if self.pending and len(self.born) in (2, self.total):
                    self._end_one()


def slope(params):
    return float(params["x"][0])


def quadratic(params):
    return float(np.sum(np.square(params["x"])))


@pytest.mark.parametrize(("number", "in_order"), [(1, True), (3, False), (7, False), (7, True)])
def test_who_is_judged_against_whom(number, in_order):
    """NumPy, told the mutants in the order of their births and who ended when, has the same parents."""
    pool = Shuffled(number, 0, 152, in_order)
    result = mutagrad.evolve_asynchronously(
        KEY,
        mutagrad.elitist(0.5, 5),
        {"x": np.zeros(2), "n": np.arange(3)},
        slope,
        30,
        evaluation=mutagrad.executor(pool),
        num_in_flight=number,
        progress=False,
    )
    pool.is_over = True
    assert result.num_evaluations == len(pool.order) == 152
    assert result.history["loss"].shape == (30,)
    # Nobody is born before the parent is known, and each as soon as somebody has ended.
    assert [born for born, _ in pool.born[2 : 2 + number]] == [2] * number
    assert [born for born, _ in pool.born[2 + number :]] == list(range(3, 153 - number))
    parent, accepted, noise = np.zeros(2, np.float32), 0, {}
    for ended, index in enumerate(pool.order):
        for one, (born, candidate) in enumerate(pool.born):
            if born == ended and one >= 2:
                noise[one] = candidate["x"] - parent
        if index >= 2 and pool.born[index][1]["x"][0] <= parent[0]:
            parent, accepted = pool.born[index][1]["x"], accepted + 1
    np.testing.assert_array_equal(result.params["x"], parent)
    np.testing.assert_array_equal(result.params["n"], np.arange(3))
    assert result.history["num_accepted"].sum() == accepted
    assert result.history["loss"].min() == result.history["loss"][-1] == np.float32(parent[0])
    # Mutations are normal and their σ is 0.5: each is a difference to the parent of the moment of birth.
    drawn = np.concatenate([noise[one] for one in sorted(noise)])
    assert abs(np.mean(drawn**2) / 0.25 - 1) < 5 * np.sqrt(2 / len(drawn))
    assert len(np.unique(drawn)) == len(drawn)


def test_one_at_a_time_is_evolve_bit_for_bit():
    """With one offspring a generation, each is judged against its parent."""
    algorithm, params = mutagrad.elitist(0.3, 1), {"x": np.ones(4, np.float32)}
    ours = mutagrad.evolve_asynchronously(KEY, algorithm, params, quadratic, 60, progress=False)
    theirs = mutagrad.evolve(KEY, algorithm, params, quadratic, 60, evaluation=mutagrad.executor(), progress=False)
    np.testing.assert_array_equal(ours.params["x"], theirs.params["x"])
    np.testing.assert_array_equal(ours.history["success"], theirs.history["success"])
    np.testing.assert_array_equal(ours.history["is_accepted"], theirs.history["is_accepted"])


def test_staleness_is_what_ended_since_birth():
    pool = Shuffled(4, 0, 102, in_order=True)
    result = mutagrad.evolve_asynchronously(
        KEY,
        mutagrad.elitist(0.5, 5),
        {"x": np.zeros(2)},
        slope,
        20,
        evaluation=mutagrad.executor(pool),
        num_in_flight=4,
        progress=False,
    )
    pool.is_over = True
    # In order: three others end between, but for the first four.
    assert result.history["staleness"][0] == np.float32((0 + 1 + 2 + 3 + 3) / 5)
    np.testing.assert_array_equal(result.history["staleness"][1:], 3.0)


@pytest.mark.parametrize("number", [1, 6])
def test_automatic_sigma_finds_its_way(number):
    """From a σ that is 10⁴ times too small, or 10² times too large, to a 200th of the loss; s near the best in the end."""
    for sigma in (1e-5, 30.0):
        pool = Shuffled(number, 1, 2502)
        result = mutagrad.evolve_asynchronously(
            KEY,
            mutagrad.adapt_sigma(mutagrad.elitist(sigma, 10)),
            {"x": np.ones(20, np.float32)},
            quadratic,
            250,
            evaluation=mutagrad.executor(pool) if number > 1 else None,
            num_in_flight=number,
            progress=False,
        )
        pool.is_over = True
        assert quadratic(result.params) < 0.1
        assert 0.3 < np.median(result.history["normalized_mutation_strength"][100:]) < 4


class Stop(Exception):
    pass


def test_a_run_that_ends_in_the_middle_goes_on_from_every_evaluation(tmp_path):
    """In one process the end is that of a run without a break, bit for bit; nothing that ended is evaluated again."""
    algorithm, calls = mutagrad.adapt_sigma(mutagrad.elitist(0.1, 4)), []

    def counted(params):
        calls.append(params["x"].copy())
        return quadratic(params)

    def run(number, **options):
        return mutagrad.evolve_asynchronously(
            KEY, algorithm, {"x": np.ones(6, np.float32)}, counted, number, progress=False, **options
        )

    whole = run(30)
    assert len(calls) == whole.num_evaluations == 122
    calls.clear()
    first = run(11, checkpoint=tmp_path / "run")
    again = run(30, checkpoint=tmp_path / "run")
    assert len(calls) == 122
    assert again.num_evaluations == 122
    assert len(first.history["loss"]) == 11
    for name, column in whole.history.items():
        np.testing.assert_array_equal(again.history[name], column)
    np.testing.assert_array_equal(again.params["x"], whole.params["x"])
    assert run(30, checkpoint=tmp_path / "run").num_evaluations == 122 == len(calls)
    with pytest.raises(ValueError, match=r"^checkpoint: got .* began otherwise"):
        mutagrad.evolve_asynchronously(
            jax.random.key(4),
            algorithm,
            {"x": np.ones(6, np.float32)},
            counted,
            30,
            checkpoint=tmp_path / "run",
            progress=False,
        )


@pytest.mark.parametrize("cut", [0.3, 0.77, 0.999])
def test_a_torn_file_costs_what_is_behind_the_tear(tmp_path, cut):
    def run(number, folder):
        return mutagrad.evolve_asynchronously(
            KEY,
            mutagrad.elitist(0.1, 4),
            {"x": np.ones(6, np.float32)},
            quadratic,
            number,
            checkpoint=folder,
            progress=False,
        )

    whole = run(20, tmp_path / "whole")
    run(12, tmp_path / "torn")
    path = tmp_path / "torn" / "arrivals.journal"
    path.write_bytes(path.read_bytes()[: int(cut * path.stat().st_size)])
    np.testing.assert_array_equal(run(20, tmp_path / "torn").params["x"], whole.params["x"])


def test_what_was_in_flight_is_evaluated_again(tmp_path):
    """Stopped by an observer with six in flight; what had ended stays as it was."""

    def run(pool, **options):
        found = mutagrad.evolve_asynchronously(
            KEY,
            mutagrad.elitist(0.3, 5),
            {"x": np.ones(6, np.float32)},
            quadratic,
            40,
            evaluation=mutagrad.executor(pool),
            num_in_flight=6,
            checkpoint=tmp_path,
            progress=False,
            **options,
        )
        pool.is_over = True
        return found

    first = run(Shuffled(6, 0, 202), observers=[mutagrad.stop_at_loss(3.0)])
    assert first.stopped == "loss 3"
    assert len(first.history["loss"]) < 40
    pool = Shuffled(6, 1, 202 - first.num_evaluations)
    last = run(pool)
    for name, column in first.history.items():
        np.testing.assert_array_equal(last.history[name][: len(column)], column)
    assert last.stopped == "generations"
    assert last.num_evaluations == 202
    assert len(pool.order) == 202 - first.num_evaluations


def test_results_go_on_with_other_mutations():
    """Each sitting is ended in the middle of a generation, by a parent that no mutant beats; no mutation comes twice."""
    seen, start = [], np.zeros(3, np.float32)

    def noted(params):
        if np.array_equal(params["x"], start):
            return 0.0
        seen.append(tuple(params["x"]))
        if len(seen) % 17 == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return 1.0

    algorithm, result = mutagrad.elitist(0.3, 10), {"x": start}
    for number in (17, 34, 51):
        result = mutagrad.evolve_asynchronously(KEY, algorithm, result, noted, 100, progress=False)
        assert result.stopped == "interrupted"
        assert len(seen) == number
    assert len(set(seen)) == 51
    assert len(result.history["loss"]) == int(result.state.generation) == 3
    assert result.num_evaluations == 51 + 6


def test_other_starts_are_refused(tmp_path):
    """The numbers of a start are not those of another one; nor is a Result, or a run of `evolve`, what a folder began with."""
    algorithm, start = mutagrad.elitist(0.1, 4), {"x": np.zeros(5, np.float32)}

    def run(params, number, folder=tmp_path / "run", of=algorithm):
        return mutagrad.evolve_asynchronously(KEY, of, params, quadratic, number, checkpoint=folder, progress=False)

    first = run(start, 5)
    for other in ({"x": np.full(5, 100, np.float32)}, first):
        with pytest.raises(ValueError, match=r"^checkpoint: got .* pass what it began with, which is not its Result"):
            run(other, 10)
    mutagrad.evolve(
        KEY, algorithm, start, lambda p: jnp.sum(p["x"] ** 2), 3, checkpoint=tmp_path / "old", progress=False
    )
    with pytest.raises(ValueError, match=r"^checkpoint: got .*, which holds a run of mutagrad.evolve"):
        run(start, 5, tmp_path / "old")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"^checkpoint: got .*, which is a file"):
        run(start, 5, tmp_path / "file")


def test_results_of_others_are_refused():
    algorithm, start = mutagrad.elitist(0.1, 4), {"x": np.zeros(5, np.float32)}

    def run(params, of=algorithm):
        return mutagrad.evolve_asynchronously(KEY, of, params, quadratic, 8, progress=False)

    theirs = mutagrad.evolve(KEY, algorithm, start, quadratic, 3, evaluation=mutagrad.executor(), progress=False)
    with pytest.raises(
        ValueError, match=r"^params: got a Result with the history of mutagrad.evolve; start from result.params"
    ):
        run(theirs)
    assert len(run(theirs._replace(history=None)).history["loss"]) == 5
    plain, adapted = run(start), run(start, mutagrad.adapt_sigma(algorithm))
    for result, of in ((plain, mutagrad.adapt_sigma(algorithm)), (adapted, algorithm)):
        with pytest.raises(ValueError, match="^params: got the Result of another algorithm"):
            run(result, of)
    with pytest.warns(UserWarning, match=r"^sigma: the run goes on with 0.1, which its state has, and not with 0.7"):
        mutagrad.evolve_asynchronously(KEY, mutagrad.elitist(0.7, 4), plain, quadratic, 9, progress=False)


def test_observers_that_fail_leave_the_result():
    """All are closed, the first error is told with its kind, and what the last of them says counts."""
    closed = []

    class Closing:
        def __init__(self, error):
            self.error = error

        def __call__(self, chunk):
            return None

        def close(self):
            closed.append(self)
            raise self.error

    def run(*observers):
        return mutagrad.evolve_asynchronously(
            KEY, mutagrad.elitist(0.1, 4), {"x": np.zeros(2)}, slope, 5, observers=observers, progress=False
        )

    with pytest.raises(
        mutagrad.RunError, match=r"^evolve_asynchronously: OSError: full after generation 5; "
    ) as caught:
        run(Closing(OSError("full")), Closing(KeyError("x")))
    assert len(closed) == 2
    assert len(caught.value.result.history["loss"]) == 5
    assert run(mutagrad.stop_at_loss(1000)).stopped == "loss 1000"


def test_vectors_of_another_length_stop():
    def loss_fn(params):
        return np.ones(3 if params["x"][0] == 0 else 2)

    with pytest.raises(mutagrad.RunError, match="got 2 losses back where the first evaluation gave 3"):
        mutagrad.evolve_asynchronously(KEY, mutagrad.elitist(0.1, 4), {"x": np.zeros(2)}, loss_fn, 5, progress=False)


def test_failures_lose_and_are_counted():
    def fragile(params):
        if params["x"][1] > 0.5:
            raise RuntimeError("no")
        return float("nan") if params["x"][1] < -0.5 else slope(params)

    with pytest.warns(UserWarning, match="^loss_fn: ") as warned:
        result = mutagrad.evolve_asynchronously(
            KEY, mutagrad.elitist(0.5, 10), {"x": np.zeros(2)}, fragile, 20, progress=False
        )
    first, last = (str(one.message) for one in warned)
    number = result.history["num_exceptions"].sum()
    assert first.startswith("loss_fn: an evaluation raised RuntimeError: no (test_asynchronous.py, line ")
    assert last == f"loss_fn: {number} evaluations failed ({number} raised); the history counts them"
    assert abs(result.params["x"][1]) <= 0.5
    assert result.history["num_exceptions"].sum() > 5
    assert result.history["num_nonfinite"].sum() > result.history["num_exceptions"].sum()
    with pytest.raises(
        mutagrad.RunError, match=r"ValueError: loss_fn: an evaluation raised RuntimeError: no .*; the run stops there"
    ) as caught:
        mutagrad.evolve_asynchronously(
            KEY,
            mutagrad.elitist(0.5, 10),
            {"x": np.zeros(2)},
            fragile,
            20,
            evaluation=mutagrad.executor(on_failure={"exception": "stop"}),
            progress=False,
        )
    assert slope(caught.value.result.params) <= 0


def test_a_plateau_is_left_alone_by_automatic_sigma():
    """σ grows, and the parent stays; with a fixed σ the parent drifts along it."""

    def flat(params):
        return 1.0

    start = {"x": np.zeros(3, np.float32)}
    adapted = mutagrad.adapt_sigma(mutagrad.elitist(0.1, 5))
    kept = mutagrad.evolve_asynchronously(KEY, adapted, start, flat, 20, progress=False)
    np.testing.assert_array_equal(kept.params["x"], 0)
    assert kept.history["sigma"][-1] > 0.1
    drifted = mutagrad.evolve_asynchronously(KEY, mutagrad.elitist(0.1, 5), start, flat, 20, progress=False)
    assert drifted.history["num_accepted"].sum() == 100


def test_per_example_losses_and_other_dtypes():
    params = {"w": jnp.ones(4, jnp.bfloat16), "n": jnp.asarray([3, 4], jnp.int32), "deep": [np.ones((2, 2))]}

    def loss_fn(params):
        assert params["n"].dtype == np.int32
        assert str(params["w"].dtype) == "bfloat16"
        return np.square(np.asarray(params["w"], np.float32)) + np.sum(params["deep"][0] ** 2)

    result = mutagrad.evolve_asynchronously(KEY, mutagrad.elitist(0.1, 5), params, loss_fn, 30, progress=False)
    assert np.mean(loss_fn(jax.tree.map(np.asarray, result.params))) < 4
    assert result.params["w"].dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("algorithm", "options", "message"),
    [
        (mutagrad.comma(0.1, 4), {}, "^algorithm: got comma selection, where a mutant is judged by itself"),
        (mutagrad.metropolis(0.1, 1.0), {}, "^algorithm: got metropolis selection"),
        (mutagrad.weighted_recombination(0.1, 4), {}, "^algorithm: got "),
        (mutagrad.elitist(0.1, 4), {"evaluation": "mapped"}, "^evaluation: got 'mapped'; pass mutagrad.executor"),
        (
            mutagrad.elitist(0.1, 4),
            {"evaluation": mutagrad.executor(is_batched=True)},
            "^evaluation: .* is_batched=True",
        ),
        (mutagrad.elitist(0.1, 4), {"evaluation": mutagrad.executor(2)}, "^num_in_flight: got None with a pool"),
        (mutagrad.elitist(0.1, 4), {"num_in_flight": 3}, "^num_in_flight: got 3 without a pool"),
        (mutagrad.elitist(0.1, 4), {"num_in_flight": 0}, "^num_in_flight: got 0"),
        (mutagrad.elitist(0.1, 4, reevaluate_parent=False), {}, "^algorithm: got one with reevaluate_parent=False"),
        (mutagrad.elitist(0.1, 4), {"observers": None}, "^observers: got something else"),
        (mutagrad.elitist(0.1, 4), {"observers": [3]}, "^observers: got something else"),
        (mutagrad.alternate([mutagrad.elitist(0.1, 4)] * 2), {}, "^algorithm: "),
        ("elitist", {}, "^algorithm: got 'elitist'"),
    ],
)
def test_what_is_refused(algorithm, options, message):
    with pytest.raises(ValueError, match=message):
        mutagrad.evolve_asynchronously(KEY, algorithm, {"x": np.zeros(2)}, slope, 3, progress=False, **options)


def test_a_loss_with_noise_is_refused_before_anything_is_born():
    generator = np.random.default_rng(0)

    def noisy(params):
        return slope(params) + generator.normal()

    with pytest.raises(ValueError, match=r"^loss_fn: got .* for the same params; a loss with noise would keep"):
        mutagrad.evolve_asynchronously(KEY, mutagrad.elitist(0.1, 4), {"x": np.zeros(2)}, noisy, 3, progress=False)
    with pytest.raises(ValueError, match="^loss_fn: the evaluation of the params to start from gave nan; start where"):
        mutagrad.evolve_asynchronously(
            KEY, mutagrad.elitist(0.1, 4), {"x": np.zeros(2)}, lambda params: float("nan"), 3, progress=False
        )
