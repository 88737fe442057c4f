"""One writer a folder; whoever dies holds nothing."""

import errno
import fcntl
import os
import signal
import subprocess
import sys

import pytest

from mutagrad.run.lock import locked

HOLD = """
import pathlib, sys, time
from mutagrad.run.lock import locked
with locked(pathlib.Path(sys.argv[1]), "out"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_process_that_is_killed_holds_nothing(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        refused = pytest.raises(ValueError, match=f"^out: got '.*', which process {holder.pid} is writing to; wait")
        with refused as caught, locked(tmp_path, "out"):
            pass
        assert "\n" not in str(caught.value)
        holder.kill()
    with locked(tmp_path, "out"):
        pass


FORK = """
import concurrent.futures, multiprocessing, os, pathlib, sys, time
from mutagrad.run.lock import locked

def work(seconds):
    os.write(1, b"%d\\n" % os.getpid())
    time.sleep(seconds)

with locked(pathlib.Path(sys.argv[1]), "out"):
    fork = multiprocessing.get_context("fork")
    if sys.argv[2] == "process":
        fork.Process(target=work, args=(600,)).start()
    else:
        concurrent.futures.ProcessPoolExecutor(1, fork).submit(work, 600)
    time.sleep(600)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing is forked")
@pytest.mark.parametrize("how", ["process", "pool"])
def test_a_forked_worker_that_outlives_its_parent_holds_nothing(how, tmp_path):
    command = [sys.executable, "-c", FORK, str(tmp_path), how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        worker = int(holder.stdout.readline())
        try:
            with pytest.raises(ValueError, match=f"which process {holder.pid} is writing to"), locked(tmp_path, "out"):
                pass
            holder.kill()
            holder.wait()
            os.kill(worker, 0)  # it is there
            with locked(tmp_path, "out"):
                pass
        finally:
            holder.kill()
            os.kill(worker, signal.SIGKILL)


LEAVE = """
import os, pathlib, sys
from mutagrad.run.lock import locked

with locked(pathlib.Path(sys.argv[1]), "out"):
    child = os.fork()
    if not child:
        other = os.open(os.devnull, os.O_RDONLY)  # it has the number of the lock's file, which is closed
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
os.fstat(other)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing is forked")
def test_a_child_that_leaves_the_block_closes_no_file_of_its_own(tmp_path):
    subprocess.run([sys.executable, "-c", LEAVE, str(tmp_path)], check=True, timeout=60)


def test_it_is_let_go_at_the_end_and_at_an_error(tmp_path):
    for _ in range(2):
        with pytest.raises(KeyError), locked(tmp_path, "out"):
            raise KeyError
    with locked(tmp_path, "out"), pytest.raises(ValueError, match="is writing to"), locked(tmp_path, "out"):
        pass


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EWOULDBLOCK, "which process .* is writing to; wait until it has ended"),
        (errno.ENOLCK, "whose file system has no locks .*; pass a folder on another one"),
        (errno.ENOTSUP, "whose file system has no locks .*; pass a folder on another one"),
    ],
)
def test_a_file_system_without_locks_is_not_a_busy_folder(tmp_path, monkeypatch, number, words):
    def flock(descriptor, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(ValueError, match=f"^checkpoint: got .*, {words}"), locked(tmp_path, "checkpoint"):
        pass
