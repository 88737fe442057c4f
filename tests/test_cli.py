"""mutagrad train: the run folder, going on, Ctrl-C, and one line for every wrong argument."""

import json
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import xarray
from safetensors.numpy import load_file

from mutagrad.cli import main
from mutagrad.lab.run_folder import append_history, read_history

pytestmark = pytest.mark.permissive  # the networks have JAX's default promotion


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    """Two classes of 4×4 images that differ in mean, as an .npz file."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    images = (rng.normal(size=(200, 4, 4)) + 2.0 * labels[:, None, None]).astype(np.float32)
    path = tmp_path_factory.mktemp("data") / "blobs.npz"
    np.savez(path, x_train=images[:150], y_train=labels[:150], x_test=images[150:], y_test=labels[150:])
    return str(path)


def train(*arguments):
    return main(["train", "--quiet", *map(str, arguments)])


def test_run_folder(blobs, tmp_path, capsys):
    out = tmp_path / "run"
    assert train("--data", blobs, "--widths", 4, "--generations", 60, "--num-offspring", 5, "--out", out) == 0
    printed = capsys.readouterr().out
    for words in ("test accuracy", "loss evaluations", "regime", "Φ(−s/2)", "learning rate", "stopped by"):
        assert words in printed
    outcome = json.loads((out / "config.json").read_text())["outcome"]
    assert outcome["generations"] == 60
    assert outcome["evaluations"] == 60 * 6
    assert outcome["test_accuracy"] > 0.9
    assert outcome["regime"]["learning_rate"] == pytest.approx(outcome["drift"] * outcome["regime"]["sigma"])
    with xarray.open_zarr(out / "history.zarr", consolidated=True) as history:
        assert history.sizes["generation"] == 60
        assert float(history.test_accuracy[-1]) == pytest.approx(outcome["test_accuracy"])
        assert {"loss", "sigma", "normalized_mutation_strength", "success", "num_nonfinite"} <= set(history)
    parameters = load_file(out / "params.safetensors")
    assert sum(array.size for array in parameters.values()) == outcome["num_parameters"] == 16 * 4 + 4 + 4 * 2 + 2
    assert (out / "training.png").read_bytes().startswith(b"\x89PNG")
    # A second run does not touch the first.
    before = (out / "config.json").read_bytes()
    assert train("--data", blobs, "--out", out) == 2
    assert (out / "config.json").read_bytes() == before


def test_resumed_run_is_the_run_that_never_stopped(blobs, tmp_path):
    settings = ("--data", blobs, "--widths", 4, "--num-offspring", 5, "--batch-size", 32, "--seed", 3)
    assert train(*settings, "--generations", 50, "--out", tmp_path / "whole") == 0
    assert train(*settings, "--generations", 20, "--out", tmp_path / "parts") == 0
    assert train(*settings, "--generations", 50, "--out", tmp_path / "parts", "--resume") == 0
    whole, parts = (load_file(tmp_path / name / "params.safetensors") for name in ("whole", "parts"))
    assert all(np.array_equal(whole[name], parts[name]) for name in whole)
    np.testing.assert_array_equal(read_history(tmp_path / "parts").loss, read_history(tmp_path / "whole").loss)
    assert list(read_history(tmp_path / "parts").generation) == list(range(1, 51))


def test_history_drops_what_a_killed_sitting_wrote_after_its_checkpoint(tmp_path):
    # Records to generation 10, a checkpoint at 8: the next sitting goes on from 8 and measures accuracy there.
    for first, last in ((0, 6), (6, 10), (8, 12)):
        measured = {"measured_generation": [first, last], "test_accuracy": [first / 100, last / 100]}
        append_history(tmp_path, {"loss": np.full(last - first, float(last))}, measured, {}, last)
    history = read_history(tmp_path)
    assert list(history.generation) == list(range(1, 13))
    assert list(history.loss) == [6] * 6 + [10] * 2 + [12] * 4
    assert list(history.measured_generation) == [0, 6, 8, 12]


def test_a_killed_run_goes_on_with_its_history(blobs, tmp_path):
    """SIGKILL leaves what was saved with the last checkpoint, and resuming gives the run that was never killed."""
    settings = ["--data", blobs, "--widths", "4", "--num-offspring", "5", "--seed", "3"]
    code = "import sys, mutagrad.lab.train as t; t._CHECKPOINT_SECONDS = 0.5; from mutagrad.cli import main; main(sys.argv[1:])"
    out = tmp_path / "killed"
    command = [
        sys.executable,
        "-c",
        code,
        "train",
        "--quiet",
        *settings,
        "--generations",
        "1000000000",
        "--out",
        str(out),
    ]
    process = subprocess.Popen(command)
    while not (out / "checkpoint").exists() or not (out / "history.zarr").exists():
        assert process.poll() is None
        time.sleep(0.1)
    time.sleep(1.0)
    process.kill()
    process.wait()
    number = int(read_history(out).generation[-1]) + 50
    assert train(*settings, "--generations", number, "--out", out, "--resume") == 0
    assert train(*settings, "--generations", number, "--out", tmp_path / "whole") == 0
    np.testing.assert_array_equal(read_history(out).loss, read_history(tmp_path / "whole").loss)
    assert list(read_history(out).generation) == list(range(1, number + 1))


@pytest.mark.parametrize(
    "algorithm", ["comma", "greedy", "metropolis", "boltzmann", "truncation", "weighted_recombination"]
)
def test_every_algorithm_trains(blobs, algorithm):
    arguments = ("--algorithm", algorithm, "--beta", 1e4, "--num-offspring", 6, "--num-parents", 2)
    assert train("--data", blobs, "--widths", 4, "--generations", 30, *arguments) == 0


def test_stops_by_accuracy(blobs, capsys):
    assert train("--data", blobs, "--widths", 4, "--target-accuracy", 0.4, "--generations", 10**6) == 0
    assert "stopped by       test accuracy 0.4" in capsys.readouterr().out


def test_convnet_on_images_of_its_own_size(tmp_path, capsys):
    path = tmp_path / "images.npz"
    rng = np.random.default_rng(0)
    np.savez(path, x_train=rng.normal(size=(20, 8, 8)), y_train=np.arange(20) % 2)
    assert train("--data", path, "--model", "convnet", "--generations", 11, "--num-offspring", 2) == 0
    assert "the first 2 mutated in one generation of 10" in capsys.readouterr().out
    np.savez(path, x_train=rng.normal(size=(20, 9)), y_train=np.arange(20) % 2)
    assert train("--data", path, "--model", "convnet", "--generations", 2) == 2
    assert "model: got 'convnet'" in capsys.readouterr().err


def test_ctrl_c_ends_cleanly_with_everything_saved(blobs, tmp_path):
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
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "stopped by       Ctrl-C" in printed
    for name in ("config.json", "history.zarr", "params.safetensors", "training.png", "checkpoint"):
        assert (out / name).exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--sigma", "-1"], "sigma: got -1.0; pass a positive finite number"),
        (["--sigma", "nan"], "sigma: got nan"),
        (["--sigma", "abc"], "got 'abc', pass 'auto' or a positive number"),
        (["--beta", "-2", "--algorithm", "metropolis"], "beta: got -2.0"),
        (["--num-offspring", "0"], "num_offspring: got 0"),
        (["--num-offspring", "2.5"], "got '2.5', pass a whole number"),
        (["--algorithm", "truncation", "--num-offspring", "4", "--num-parents", "9"], "num_parents: got 9"),
        (["--algorithm", "annealing"], "algorithm: got 'annealing'; pass one of elitist"),
        (["--model", "transformer"], "model: got 'transformer'; pass one of mlp, convnet"),
        (["--data", "cifar"], "data: got 'cifar'"),
        (["--data", "missing.npz"], "missing.npz"),
        (["--widths", "a,b"], "got 'a,b'"),
        (["--initial", "he"], "initial: got 'he'; pass one of lecun, pytorch"),
        (["--shared-layers", "2"], "shared_layers: got 2 of 2 layers; pass 0 to 1"),
        (["--shared-layers", "1", "--shared-generations", "0"], "shared_generations: got 0"),
        (["--unit-groups", "3"], "unit_groups: got 3 for 32 hidden units; pass a divisor of 32"),
        (["--unit-groups", "2", "--widths", "8,8"], "unit_groups: got 2; pass 1, or an mlp of one hidden layer"),
        (
            ["--unit-groups", "2", "--algorithm", "truncation", "--num-parents", "2"],
            "algorithm: got truncation with 2 parents",
        ),
        (["--unit-groups", "0"], "unit_groups: got 0"),
        (["--turn-generations", "0"], "turn_generations: got 0"),
        (["--components", "-1"], "components: got -1"),
        (["--components", "65"], "components: got 65; pass 1 to 64"),
        (["--widths", "0"], "widths: got 0"),
        (["--batch-size", "0"], "batch_size: got 0"),
        (["--generations", "0"], "generations: got 0"),
        (["--seconds", "-3"], "seconds: got -3.0"),
        (["--target-accuracy", "95"], "target_accuracy: got 95.0"),
        (["--seed", "-1"], "seed: got -1"),
        (["--resume"], "out: got none with --resume"),
        (["--resume", "--out", "nowhere"], "out: got 'nowhere', which holds no run"),
        (["--out", "/proc/none/run"], "out: got '/proc/none/run', which cannot be written"),
        (["--data", "mnist", "--data-dir", "nowhere"], "nowhere"),
        (["--sgima", "1"], "unrecognized arguments: --sgima 1"),
    ],
)
def test_wrong_arguments_get_one_line_and_status_2(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        status = main(["train", *arguments])
    except SystemExit as stop:
        status = stop.code
    printed = capsys.readouterr()
    assert status == 2
    assert words in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert os.listdir(tmp_path) == []


def test_resume_refuses_other_settings(blobs, tmp_path, capsys):
    assert train("--data", blobs, "--widths", 4, "--generations", 5, "--out", tmp_path / "run") == 0
    capsys.readouterr()
    assert train("--data", blobs, "--widths", 8, "--generations", 9, "--out", tmp_path / "run", "--resume") == 2
    assert "widths: got (8,)" in capsys.readouterr().err
    (tmp_path / "run" / "config.json").write_text("{")
    assert train("--data", blobs, "--widths", 4, "--out", tmp_path / "run", "--resume") == 2
    assert "damaged" in capsys.readouterr().err


def test_patch_convolution_is_the_convolution():
    from mutagrad.lab.tasks.models import jax_convolution, patch_convolution

    keys = jax.random.split(jax.random.key(0))
    values = jax.random.normal(keys[0], (3, 8, 12, 5))
    weight = jax.random.normal(keys[1], (4, 3, 5, 5))
    for pool in (False, True):
        expected = jax_convolution(weight, values, pool)
        np.testing.assert_allclose(patch_convolution(weight, values, pool), expected, rtol=1e-4, atol=1e-4)


def test_inspect_reads_a_run_folder(blobs, tmp_path, capsys):
    out = tmp_path / "run"
    # A small σ, so that the slope stands out of the noise of its batches to the end.
    settings = (
        "--data",
        blobs,
        "--widths",
        4,
        "--num-offspring",
        5,
        "--batch-size",
        32,
        "--generations",
        90,
        "--sigma",
        3e-3,
    )
    assert train(*settings, "--out", out) == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert main(["inspect", str(out)]) == 0
    printed = capsys.readouterr().out
    for words in ("s = σTrH/|∇U| =", "Φ(−s/2)", "TrH =", "gradient noise scale", "batches of 32", "inspect.png"):
        assert words in printed
    assert "nan" not in printed
    assert (out / "inspect.png").read_bytes().startswith(b"\x89PNG")
    assert all(path.read_bytes() == content for path, content in before.items())


def test_inspect_tells_layers_that_take_turns_apart(blobs, tmp_path, capsys):
    out = tmp_path / "run"
    settings = ("--data", blobs, "--widths", 4, "--num-offspring", 1, "--shared-layers", 1, "--shared-generations", 2)
    assert train(*settings, "--generations", 200, "--out", out) == 0
    capsys.readouterr()
    assert main(["inspect", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "The other layers" in printed
    assert "The first 1 layers" in printed
    assert "the batch stayed the same" in printed


@pytest.mark.parametrize("shared_layers", [0, 1])
def test_inspect_diagnoses_the_last_parameters(blobs, tmp_path, capsys, shared_layers):
    """On as many examples as a batch has; the folder is left as it was, but for the figures."""
    out = tmp_path / "run"
    settings = ("--data", blobs, "--widths", 4, "--num-offspring", 5, "--batch-size", 50, "--sigma", 3e-3)
    assert train(*settings, "--shared-layers", shared_layers, "--generations", 60, "--out", out) == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert main(["inspect", str(out), "--diagnose", "--num-workers", "4"]) == 0
    captured = capsys.readouterr()
    told = captured.out[captured.out.index("At the last parameters, on 50 examples") :]
    for words in (
        "What gradients would have bought: the effective rank TrH/λ_max",
        "With 4 evaluations at a time",
        "sampling noise",
    ):
        assert words in told
    assert ("all parameters at once" in told) == (shared_layers > 0)
    assert ("σ = 0.003 is" in told) == (shared_layers == 0)
    assert (out / "diagnosis.png").read_bytes().startswith(b"\x89PNG")
    assert all(path.read_bytes() == content for path, content in before.items() if path.name != "inspect.png")
    assert "λ_max at the last parameters" in captured.err

    (out / "checkpoint").rename(tmp_path / "lost")
    assert main(["inspect", str(out), "--diagnose"]) == 2
    assert "holds no checkpoint" in capsys.readouterr().err


def test_inspect_refuses_what_is_no_run(tmp_path, capsys):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for folder, words in (
        (tmp_path / "nowhere", "no run"),
        (tmp_path / "empty", "no run"),
        (tmp_path / "file", "no run"),
        (tmp_path, "no history.zarr"),
        (tmp_path / "broken", "damaged"),
    ):
        assert main(["inspect", str(folder)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("mutagrad inspect: ")
        assert words in error
        assert error.count("\n") == 1


def test_history_goes_on_with_records_that_it_began_without(tmp_path):
    measured = {"measured_generation": [0, 2], "test_accuracy": [0.1, 0.2]}
    append_history(tmp_path, {"loss": np.ones(2)}, measured, {}, 2)
    later = {"measured_generation": [2, 4], "test_accuracy": [0.2, 0.3]}
    append_history(tmp_path, {"loss": np.ones(2), "hessian_trace": np.ones(2)}, later, {}, 4)
    np.testing.assert_array_equal(read_history(tmp_path).hessian_trace, [np.nan, np.nan, 1, 1])
