"""Ctrl-C, SIGTERM and SIGHUP: a run that is asked to end does so between two chunks of generations, and keeps everything."""

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

__all__ = [
    "EXIT_STATUS",
    "NAMES",
    "Request",
    "Terminated",
    "deferred",
    "heard",
    "interruptible",
    "is_heard",
    "seconds_asked",
]

_REASONS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
if hasattr(signal, "SIGHUP"):  # not on Windows
    _REASONS[signal.SIGHUP] = "hung up"
EXIT_STATUS = {reason: 128 + number for number, reason in _REASONS.items()}
"""What a process that was asked to end exits with: 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP."""
NAMES = {"interrupted": "Ctrl-C", "terminated": "SIGTERM", "hung up": "SIGHUP"}
"""What asked, in words."""
_APART = 0.5
"""Seconds within which a second Ctrl-C is the first again, as one that a terminal and a parent process both pass on."""
_PATIENCE = 1.0
"""Seconds after which a signal that has had no effect is sent again, and the user told."""
_NOTE = b"\nmutagrad: ends as soon as this step is done; Ctrl-C again ends at once\n"


class Terminated(BaseException):
    """SIGTERM or SIGHUP where no run goes on, as ``KeyboardInterrupt`` is Ctrl-C there; the command line has it raised."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


class Request:
    """Whether a run is asked to end: ``reason`` is "" until then, and after it "interrupted", "terminated" or "hung up".

    ``is_noted`` says that a thread has asked for a Ctrl-C whose handler waits, which is then no second one.
    """

    def __init__(self) -> None:
        self.reason = ""
        self.since = 0.0
        self.is_noted = False

    def make(self, number: int) -> None:
        """Ask, unless that has been done."""
        global _is_taken
        _is_taken = True
        if not self.reason:
            self.reason, self.since = _REASONS[signal.Signals(number)], time.monotonic()


def seconds_asked() -> float:
    """Seconds since the run that goes on was asked to end; 0 if it was not."""
    return time.monotonic() - _current.since if _current is not None and _current.reason else 0.0


_current: Request | None = None
_is_taken = False
"""Whether a run has taken note of a signal, which then need not be sent again."""
_is_heard = False


def is_heard() -> bool:
    """Whether the process is one of its own, as within `heard`, which says itself what ended it."""
    return _is_heard


@contextmanager
def interruptible() -> Iterator[Request]:
    """A request that signals make, so that a run can stop between two chunks; a second Ctrl-C interrupts as usual.

    Raising from the middle of a chunk would lose the state, which the chunk has already consumed. Within another such block
    the request is that one's, so that what is asked for while a run is saved stops what comes after it. A signal that is
    ignored stays so, as SIGHUP under nohup, and a handler of SIGTERM or SIGHUP that is neither Python's nor the command line's
    keeps it.
    """
    global _current
    if threading.current_thread() is not threading.main_thread():
        yield Request()
        return
    if _current is not None:
        yield _current
        return
    request = _current = Request()
    previous = {number: signal.getsignal(number) for number in _REASONS}
    for number, handler in list(previous.items()):
        is_open = handler not in (None, signal.SIG_IGN) if number == signal.SIGINT else _is_default(handler)
        if not is_open:
            del previous[number]

    def handle(number: int, frame: Any) -> None:
        if number != signal.SIGINT:
            request.make(number)
        elif request.is_noted:
            request.is_noted = False
        elif request.reason and time.monotonic() - request.since > _APART:
            usual = previous[signal.SIGINT]
            signal.signal(signal.SIGINT, usual)
            # Called and not sent: the listener of `heard` would count one that is sent.
            usual(number, frame) if callable(usual) else signal.raise_signal(signal.SIGINT)
        else:
            request.make(number)

    for number in previous:
        signal.signal(number, handle)
    try:
        yield request
    finally:
        _current = None
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def deferred() -> Iterator[None]:
    """What signals ask for within this block is done at its end: there are imports that an exception makes abort."""
    came: list[int] = []
    previous: dict[signal.Signals, Callable[[int, Any], Any]] = {}
    if threading.current_thread() is threading.main_thread():
        for number in _REASONS:
            handler = signal.getsignal(number)
            if callable(handler) and not isinstance(handler, int):
                previous[number] = handler
    for number in previous:
        signal.signal(number, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if came:
        previous[signal.Signals(came[0])](came[0], None)


def _terminate(number: int, frame: Any) -> None:
    raise Terminated(_REASONS[signal.Signals(number)])


def _is_default(handler: Any) -> bool:
    return handler in (signal.SIG_DFL, _terminate)


@contextmanager
def heard() -> Iterator[None]:
    """For a process of its own: SIGTERM and SIGHUP raise `Terminated`, a second Ctrl-C ends it at once, even while XLA compiles.

    Python runs its handlers between two steps of its own, and a compilation is one step. So a thread listens too.
    """
    if threading.current_thread() is not threading.main_thread() or os.name == "nt":
        yield
        return
    global _is_taken, _is_heard
    _is_taken, _is_heard, was_heard = False, True, _is_heard
    ours = [one for one in _REASONS if one != signal.SIGINT and signal.getsignal(one) == signal.SIG_DFL]
    for number in ours:
        signal.signal(number, _terminate)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    hook, sys.unraisablehook = sys.unraisablehook, _unraisable(sys.unraisablehook)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    listener = threading.Thread(target=_listen, args=(reading,), daemon=True)
    listener.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writing)
        listener.join()
        os.close(reading)
        sys.unraisablehook = hook
        _is_heard = was_heard
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _unraisable(hook: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def quiet(what: Any) -> None:
        if not issubclass(what.exc_type, KeyboardInterrupt | Terminated):
            hook(what)

    return quiet


def _listen(descriptor: int) -> None:
    """Ends the process at the second Ctrl-C, and sees to it that the first signal is not lost.

    What a handler raises may be swallowed where Python has nobody to tell, as in what it calls when it collects garbage.
    """
    first, asked, own, has_told = 0.0, signal.SIGINT, 0, False
    while True:
        if first and not select.select([descriptor], [], [], _PATIENCE)[0]:
            own += _asked_again(asked)
            if not has_told:
                has_told = True
                with suppress(OSError):
                    os.write(2, _NOTE)
            continue
        came = os.read(descriptor, 64)
        if not came:
            return
        now = time.monotonic()
        for number in came:
            if number not in _REASONS:
                continue
            if own and number == asked:
                own -= 1
            elif not first:
                first, asked = now, signal.Signals(number)
            elif number == signal.SIGINT and now - first > _APART:
                os._exit(EXIT_STATUS["interrupted"])


def _asked_again(number: signal.Signals) -> int:
    """Asks once more what a signal asked for; how many signals that sends."""
    if _is_taken:
        return 0
    if _current is not None:
        # Its handler waits behind what the main thread does, a chunk or a compilation.
        _current.is_noted = number == signal.SIGINT
        _current.make(number)
        return 0
    # A signal of its own to the main thread, so that a call that waits there is woken.
    signal.pthread_kill(threading.main_thread().ident or 0, number)
    return 1
