"""Ctrl-C, SIGTERM and SIGHUP: what a run is asked for, and what a process does that has no run."""

import os
import signal
import subprocess
import sys
import threading
import warnings

import jax
import jax.numpy as jnp
import pytest

import mutagrad
from mutagrad.run import signals

ASKED = [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated"), (signal.SIGHUP, "hung up")]


@pytest.mark.parametrize(("number", "reason"), ASKED)
def test_a_signal_is_a_request_and_raises_nothing(number, reason):
    before = [signal.getsignal(one) for one, _ in ASKED]
    with signals.interruptible() as request:
        assert request.reason == ""
        signal.raise_signal(number)
        assert request.reason == reason
        with signals.interruptible() as inner:
            assert inner is request
    assert [signal.getsignal(one) for one, _ in ASKED] == before


def test_a_second_ctrl_c_interrupts_unless_it_is_the_first_again():
    with pytest.raises(KeyboardInterrupt), signals.interruptible() as request:  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert request.reason == "interrupted"
        request.since -= 1
        signal.raise_signal(signal.SIGINT)


def test_a_ctrl_c_of_which_the_listener_knows_is_no_second_one(monkeypatch):
    monkeypatch.setattr(signals, "_is_taken", False)
    with signals.interruptible() as request:
        # The main thread is within a chunk, so that the handler waits.
        signals._asked_again(signal.SIGINT)
        assert request.reason == "interrupted"
        request.since -= 1
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_what_is_ignored_or_handled_elsewhere_stays():
    came = []
    handlers = (signal.SIG_IGN, lambda *rest: came.append(1), signal.SIG_IGN)  # SIGHUP as under nohup
    before = [signal.signal(one, handler) for (one, _), handler in zip(ASKED, handlers, strict=True)]
    try:
        with signals.heard(), signals.interruptible() as request:
            for one, _ in ASKED:
                signal.raise_signal(one)
        assert (request.reason, came) == ("", [1])
    finally:
        for (one, _), handler in zip(ASKED, before, strict=True):
            signal.signal(one, handler)


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


def ended_by(number):
    """A run that a signal ends, and what it warns of."""

    def record(state, info):
        jax.debug.callback(lambda generation: generation == 3 and os.kill(os.getpid(), number), state.generation)
        return info.parent_loss

    algorithm = mutagrad.elitist(0.1, 4)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        result = mutagrad.evolve(
            jax.random.key(0), algorithm, jnp.ones(3), lambda x: jnp.sum(x**2), 10**7, record=record, progress=False
        )
    assert len(result.history) == int(result.state.generation) < 10**7
    return result, [str(one.message) for one in said]


@pytest.mark.parametrize(("number", "reason"), ASKED)
def test_a_signal_ends_evolve_with_what_there_is(number, reason):
    """A script goes on after a signal that would have ended it, and is told so; who types Ctrl-C knows."""
    result, said = ended_by(number)
    assert result.stopped == reason
    if number == signal.SIGINT:
        assert said == []
    else:
        assert said == [
            f"evolve: {number.name} ended the run after generation {int(result.state.generation):,}, and not the program; look "
            f"at result.stopped, which is {reason!r}"
        ]


def test_the_command_line_says_itself_what_ended_it():
    with signals.heard():
        assert ended_by(signal.SIGTERM)[1] == []


def test_signals_wait_for_the_end_of_an_import():
    order = []
    with pytest.raises(KeyboardInterrupt), signals.deferred():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        order.append("imported")
    assert order == ["imported"]
    for number, reason in ASKED[1:]:
        with signals.heard(), pytest.raises(signals.Terminated) as caught, signals.deferred():
            signal.raise_signal(number)
        assert caught.value.reason == reason


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
import os, signal, sys, time
from mutagrad.run.signals import heard

with heard():
    # Not print, which may not be entered again while it says "ready".
    signal.signal(signal.SIGINT, lambda *rest: os.write(1, b"first\\n"))
    print("ready", flush=True)
    while True:
        time.sleep(0.1)
"""
LONG_CHUNK = """
import hashlib, time
from mutagrad.run.signals import heard, interruptible

start = time.monotonic()
hashlib.pbkdf2_hmac("sha256", b"", b"", 20_000)
number = round(20_000 * 2 / (time.monotonic() - start))
with heard(), interruptible() as request:
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", number)  # two seconds, as one step of Python
    time.sleep(0.1)
    print(request.reason, flush=True)
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


def test_one_ctrl_c_in_a_chunk_of_two_seconds_ends_the_run_and_not_the_process():
    command, pipe = [sys.executable, "-c", LONG_CHUNK], subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
        assert process.wait(timeout=20) == 0
