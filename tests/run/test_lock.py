"""One writer a folder; whoever dies holds nothing."""

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


def test_it_is_let_go_at_the_end_and_at_an_error(tmp_path):
    for _ in range(2):
        with pytest.raises(KeyError), locked(tmp_path, "out"):
            raise KeyError
    with locked(tmp_path, "out"), pytest.raises(ValueError, match="is writing to"), locked(tmp_path, "out"):
        pass
