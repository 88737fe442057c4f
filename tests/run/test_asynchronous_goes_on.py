"""A steady state that is broken off: from a folder, from a Result, and from what belongs to another run."""

import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from steady_pool import KEY, Shuffled, quadratic

import mutagrad


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
