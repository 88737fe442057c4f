"""Candidates divided among devices, and among processes: the run is the one on one device."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mutagrad

SCRIPT = Path(__file__).parent / "several_devices.py"
ALL = "elitist,adapted,several parents,low rank"


def started(num_devices, *arguments):
    flags = f"--xla_force_host_platform_device_count={num_devices}"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def said(process):
    out = process.communicate(timeout=300)[0]
    assert process.returncode == 0, out
    # Where a clock stops a run is not the same every time.
    return [line for line in out.splitlines() if not line.startswith(("[Gloo]", "stopped"))], out


@pytest.mark.parametrize("names", ["elitist,low rank", ALL])
def test_four_devices_make_the_run_of_one(names):
    """Parameters bit for bit, and with parameters that are divided too; the script asserts it."""
    lines, _ = said(started(4, names))
    assert len(lines) == len(names.split(","))


def test_two_processes_make_one_run():
    """Two processes end with the same parameters as four devices of one, and the clock of one stops both in one generation."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    alone, _ = said(started(4, ALL))
    both = [said(process) for process in [started(1, ALL, which, 2, port) for which in range(2)]]
    assert both[0][0] == both[1][0] == alone
    stops = [next(line for line in out.splitlines() if line.startswith("stopped")) for _, out in both]
    assert stops[0] == stops[1]
    assert "1.5 seconds" in stops[0]


def test_one_device_is_a_mesh_too():
    algorithm = mutagrad.metropolis(0.1, 2.0)
    state = algorithm.init(jnp.ones(3))
    runs = [
        algorithm.step(jax.random.key(0), state, lambda x: jnp.sum(x**2), evaluation=evaluation)
        for evaluation in (mutagrad.sharded(), "mapped")
    ]
    np.testing.assert_array_equal(runs[0][0].params, runs[1][0].params)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: mutagrad.sharded(8), r"^mesh: got 8; pass a jax.sharding.Mesh"),
        (lambda: mutagrad.sharded(axis="offspring", chunk=0), "^chunk: got 0"),
        (lambda: mutagrad.sharded(jax.make_mesh((1,), ("data",))), "^axis: got 'offspring'; the mesh has 'data'"),
    ],
)
def test_what_is_no_mesh_is_refused(made, words):
    with pytest.raises(ValueError, match=words):
        made()
