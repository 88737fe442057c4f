"""A steady state: failures, observers, noise, and what is refused."""

import numpy as np
import pytest
from steady_pool import KEY, slope

import mutagrad


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
    assert first.startswith("loss_fn: an evaluation raised RuntimeError: no (test_asynchronous_refused.py, line ")
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
