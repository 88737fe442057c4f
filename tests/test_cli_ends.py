"""How a command ends: Ctrl-C, a signal, a closed terminal or pipe, a full disk; all is saved, in one line and with a status."""

import errno
import json
import signal
import subprocess
import sys

import pytest
from blobs import save_blobs

from mutagrad.cli import main
from mutagrad.run.evolve import RunError
from mutagrad.run.signals import Terminated

pytestmark = pytest.mark.permissive  # the networks have JAX's default promotion


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    return save_blobs(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize(
    ("raised", "status", "words"),
    [
        (KeyboardInterrupt(), 130, "ended by Ctrl-C; what had been saved stays"),
        (Terminated("terminated"), 143, "ended by SIGTERM; what had been saved stays"),
        (Terminated("hung up"), 129, "ended by SIGHUP; what had been saved stays"),
        (OSError(errno.ENOSPC, "No space left on device", "x"), 1, "No space left on device: 'x'"),
        (FileNotFoundError(errno.ENOENT, "No such file", "x"), 2, "No such file: 'x'"),
        (RunError("evolve: OSError: full after generation 9;\n error.result", None), 1, "generation 9; error.result"),
        (MemoryError(), 1, "not enough memory"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory\nallocating"), 1, "Out of memory allocating"),
        (BrokenPipeError(), 1, ""),
    ],
)
def test_what_ends_a_command_is_one_line_and_a_status(raised, status, words, monkeypatch, capsys):
    def fail(config, progress):
        raise raised

    monkeypatch.setattr("mutagrad.lab.training.train.train", fail)
    monkeypatch.setattr("mutagrad.cli._discard", lambda: None)
    assert main(["train"]) == status
    shown = capsys.readouterr()
    assert words in shown.err
    assert shown.err.count("\n") == bool(words)
    assert shown.out == ""


def test_a_closed_pipe_is_no_traceback():
    """More than a buffer holds, so that it fails while it is printed, and less, so that it fails when all is."""
    code = "import sys, mutagrad.cli as c; c._claims = lambda html: print('x' * {}) or 0; sys.exit(c.main(['claims']))"
    for number in (10, 10**6):
        command, pipe = [sys.executable, "-c", code.format(number)], subprocess.PIPE
        with subprocess.Popen(command, stdout=pipe, stderr=pipe) as process:
            process.stdout.close()
            assert process.stderr.read() == b""
        assert process.returncode == 1


@pytest.mark.parametrize(
    ("asked", "status", "words"),
    [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM")],
    ids=["int", "term"],
)
def test_a_run_that_is_asked_to_end_saves_everything(asked, status, words, blobs, tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "mutagrad.cli", "train", "--data", blobs, "--out", str(out), "--widths", "4"]
    process = subprocess.Popen(
        [*command, "--generations", "1000000000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    shown = ""
    while "loss=" not in shown:  # the progress bar shows that generations are running
        character = process.stderr.read(1)
        assert character, shown
        shown += character
    process.send_signal(asked)
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == status, errors
    assert f"stopped by       {words}" in printed
    for name in ("config.json", "history.zarr", "params.safetensors", "training.png", "checkpoint"):
        assert (out / name).exists()


TERMINAL = """
import os, pty, sys, termios

child, terminal = pty.fork()
if not child:
    os.execv(sys.executable, [sys.executable, "-m", "mutagrad.cli", "train", *sys.argv[1:]])
termios.tcsetwinsize(terminal, (24, 200))
shown = b""
while b"loss=" not in shown:
    shown += os.read(terminal, 1000)
os.close(terminal)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 129
"""


def test_a_closed_terminal_ends_a_run_with_everything_saved(blobs, tmp_path):
    """Nobody reads any more, and writing fails: the status is that of SIGHUP, and the folder is whole."""
    out = tmp_path / "run"
    arguments = ["--data", blobs, "--out", str(out), "--widths", "4", "--generations", "1000000000"]
    subprocess.run([sys.executable, "-c", TERMINAL, *arguments], timeout=120, check=True)
    assert json.loads((out / "config.json").read_text())["outcome"]["stopped"] == "SIGHUP"
    for name in ("history.zarr", "params.safetensors", "training.png", "checkpoint"):
        assert (out / name).exists()
