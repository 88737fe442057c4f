"""Ctrl-C and SIGTERM: what a run is asked for, and what a process does that has no run."""

import os
import signal
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import pytest

import mutagrad
from mutagrad.run import signals


@pytest.mark.parametrize(("number", "reason"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")])
def test_a_signal_is_a_request_and_raises_nothing(number, reason):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with signals.interruptible() as request:
        assert request.reason == ""
        signal.raise_signal(number)
        assert request.reason == reason
        with signals.interruptible() as inner:
            assert inner is request
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_second_ctrl_c_interrupts_unless_it_is_the_first_again():
    with pytest.raises(KeyboardInterrupt), signals.interruptible() as request:  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert request.reason == "interrupted"
        request.since -= 1
        signal.raise_signal(signal.SIGINT)


def test_what_is_ignored_or_handled_elsewhere_stays():
    came = []
    before = signal.signal(signal.SIGINT, signal.SIG_IGN), signal.signal(signal.SIGTERM, lambda *rest: came.append(1))
    try:
        with signals.interruptible() as request:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
        assert (request.reason, came) == ("", [1])
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGTERM, before[1])


def test_a_thread_has_a_request_of_its_own():
    found = []

    def work():
        with signals.interruptible() as request:
            found.append(request)

    with signals.interruptible() as request:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert found[0] is not request


def test_sigterm_ends_evolve_with_what_there_is():
    def record(state, info):
        jax.debug.callback(
            lambda generation: generation == 3 and os.kill(os.getpid(), signal.SIGTERM), state.generation
        )
        return info.parent_loss

    algorithm = mutagrad.elitist(0.1, 4)
    result = mutagrad.evolve(
        jax.random.key(0), algorithm, jnp.ones(3), lambda x: jnp.sum(x**2), 10**7, record=record, progress=False
    )
    assert result.stopped == "terminated"
    assert len(result.history) == int(result.state.generation) < 10**7


def test_signals_wait_for_the_end_of_an_import():
    order = []
    with pytest.raises(KeyboardInterrupt), signals.deferred():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        order.append("imported")
    assert order == ["imported"]
    with signals.heard(), pytest.raises(signals.Terminated), signals.deferred():
        signal.raise_signal(signal.SIGTERM)


SWALLOWED = """
import signal, sys, time
from mutagrad.run.signals import heard

with heard():
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        print("swallowed", flush=True)
    try:
        time.sleep(30)
    except KeyboardInterrupt:
        print("sent again", flush=True)
"""
STUCK = """
import signal, sys, time
from mutagrad.run.signals import heard

with heard():
    signal.signal(signal.SIGINT, lambda *rest: print("first", flush=True))
    print("ready", flush=True)
    while True:
        time.sleep(0.1)
"""


def test_a_signal_that_is_swallowed_is_sent_again():
    found = subprocess.run([sys.executable, "-c", SWALLOWED], capture_output=True, text=True, timeout=20, check=True)
    assert found.stdout.split("\n")[:2] == ["swallowed", "sent again"]


def test_a_second_ctrl_c_ends_a_process_that_is_stuck():
    command, pipe = [sys.executable, "-c", STUCK], subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "first\n"
        # It is told that the first one waits, a second later.
        while "Ctrl-C again ends at once" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130
