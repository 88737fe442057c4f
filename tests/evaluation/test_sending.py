"""What is sent to worker processes: any loss, by its name or with all that it needs, once; what cannot be is refused."""

import os
import subprocess
import sys
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import outside_losses as losses
import pytest

import mutagrad

ALGORITHM = mutagrad.elitist(sigma=0.1, num_offspring=4)


def run(loss_fn, evaluation, number=4):
    return mutagrad.evolve(
        jax.random.key(0), ALGORITHM, jnp.ones(3), loss_fn, number, evaluation=evaluation, progress=False
    )


def test_what_cannot_be_sent_is_refused():
    lock = threading.Lock()
    evaluation = mutagrad.executor(1)
    for _ in range(2):
        with pytest.raises(ValueError, match="^loss_fn: could not be sent to the pool") as caught:
            run(lambda params: float(lock.locked()), evaluation)
        assert "\n" not in str(caught.value)


class Unloadable:
    """Raises where it is loaded."""

    def __call__(self, params):
        return 0.0

    def __reduce__(self):
        return (int, ("no number",))


def test_a_loss_that_no_worker_can_load_does_not_keep_the_next_one_waiting():
    whole = run(losses.square, mutagrad.executor())
    evaluation = mutagrad.executor(1)
    start = time.monotonic()
    for _ in range(2):
        with pytest.raises(ValueError, match="^loss_fn: could not be sent to the pool"):
            run(Unloadable(), evaluation)
    np.testing.assert_array_equal(run(losses.square, evaluation).history["loss"], whole.history["loss"])
    assert time.monotonic() - start < 60


def test_what_no_worker_can_import_goes_there_with_all_that_it_needs():
    power = 2

    def loss_fn(params):
        return float(np.sum(np.abs(params) ** power))

    wanted = run(losses.square, mutagrad.executor())
    found = run(lambda params: loss_fn(params), mutagrad.executor(2))
    np.testing.assert_allclose(found.history["loss"], wanted.history["loss"], rtol=1e-6)


def test_a_loss_is_sent_once_unless_it_changes():
    calls = []  # as a simulator that is loaded at the first call; of a worker it is another list

    def loss_fn(params):
        calls.append(os.getpid())
        return float(len(calls))

    evaluation = mutagrad.executor(1)
    result = run(loss_fn, evaluation, 5)
    # (1+4), the parent before once more in the beginning: calls are counted on from generation to generation.
    assert result.history["loss"][-1] > 4 * 5 - 4
    changed = mutagrad.evolve(
        jax.random.key(0), ALGORITHM, jnp.ones(3), lambda params, batch: float(batch), 5,
        batches=range(5), evaluation=evaluation, progress=False,
    )  # fmt: skip
    assert changed.history["loss"].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("how", ["-c", "stdin", "guarded"])
def test_what_is_defined_at_a_prompt_or_in_a_notebook_can_be_evaluated_by_workers(how, tmp_path):
    lines = [
        "import jax, numpy as np, mutagrad",
        "target = np.arange(3.0)",
        "def loss(x): return float(np.sum((x - target) ** 2))",
        "result = mutagrad.evolve(jax.random.key(0), mutagrad.elitist(0.1, 6), np.zeros(3), loss, 20,",
        "    evaluation=mutagrad.executor(2), progress=False)",
        "print(loss(result.params) < loss(np.zeros(3)))",
    ]
    program = "\n".join(lines)
    if how == "guarded":
        # The loss too is behind the guard, so that no worker finds it by its name.
        program = "if __name__ == '__main__':\n    " + "\n    ".join(lines) + "\n"
        (tmp_path / "script.py").write_text(program)
    where = {"-c": ["-c", program], "stdin": ["-"], "guarded": [tmp_path / "script.py"]}[how]
    done = subprocess.run([sys.executable, *where], input=program, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("True\n", 0), done.stderr
