"""The command line: options stated once, going on, Ctrl-C, and one line for every wrong argument."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from mutagrad.cli import main
from mutagrad.lab.training.options import TrainConfig, from_saved

pytestmark = pytest.mark.permissive  # the networks have JAX's default promotion


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    """Two classes of 4×4 images that differ in mean, as an .npz file whose labels are 1 and 2."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    images = (rng.normal(size=(200, 4, 4)) + 2.0 * labels[:, None, None]).astype(np.float32)
    path = tmp_path_factory.mktemp("data") / "blobs.npz"
    np.savez(path, x_train=images[:150], y_train=labels[:150] + 1, x_test=images[150:], y_test=labels[150:] + 1)
    return str(path)


def train(*arguments):
    return main(["train", "--quiet", *map(str, arguments)])


@pytest.fixture(scope="module")
def run(blobs, tmp_path_factory):
    """A run of 90 generations on batches of 32, and what it printed. A small σ keeps the slope above its noise."""
    out = tmp_path_factory.mktemp("runs") / "run"
    settings = ("--data", blobs, "--widths", 4, "--num-offspring", 5, "--batch-size", 32, "--sigma", 3e-3)
    with pytest.MonkeyPatch.context() as patch:
        printed = []
        patch.setattr("builtins.print", lambda *words, **options: printed.append(" ".join(map(str, words))))
        assert train(*settings, "--generations", 90, "--out", out) == 0
    return out, "\n".join(printed)


def test_every_option_is_in_the_help_and_in_the_configuration(run, capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    shown = capsys.readouterr().out
    saved = json.loads((run[0] / "config.json").read_text())["settings"]
    for field in dataclasses.fields(TrainConfig):
        assert f"--{field.name.replace('_', '-')}" in shown
        assert field.name in saved
    assert set(saved) == {field.name for field in dataclasses.fields(TrainConfig)}
    assert from_saved(saved) == TrainConfig(
        data=saved["data"], widths=(4,), num_offspring=5, batch_size=32, sigma=3e-3, generations=90, out=str(run[0])
    )
    assert "NaN" not in (run[0] / "config.json").read_text()


def test_help_waits_for_no_heavy_library():
    code = "import sys, mutagrad.cli; mutagrad.cli._parser(); print({'jax', 'numpy', 'xarray'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "set()\n"


def test_a_run_says_how_it_went(run):
    out, printed = run
    for words in (
        "test accuracy",
        "90 generations, 540 loss evaluations on batches of 32",
        "150 examples to train on, 50 to test with; 2 classes, labelled 1 to 2",
        "16 standardised to mean 0 and deviation 1",
        "Φ(−s/2)",
        "learning rate",
        "stopped by       generations",
        f"run folder       {out}",
    ):
        assert words in printed
    for name in ("training.png", "history.zarr", "params.safetensors", "inputs.safetensors", "checkpoint"):
        assert (out / name).exists()
    before = (out / "config.json").read_bytes()
    assert train("--data", "digits", "--out", out) == 2
    assert (out / "config.json").read_bytes() == before


def test_train_and_inspect_say_the_same_s(run, capsys):
    out, printed = run
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert main(["inspect", str(out)]) == 0
    told = capsys.readouterr().out
    s = printed.split("s = σTrH/|∇U| = ")[1].split(" in the")[0]
    assert told.split("s = σTrH/|∇U| = ")[1].startswith(s)
    assert "±" in s
    for words in ("Φ(−s/2)", "TrH =", "inspect.png"):
        assert words in told
    assert "nan" not in told
    assert (out / "inspect.png").read_bytes().startswith(b"\x89PNG")
    assert all(path.read_bytes() == content for path, content in before.items())


def test_inspect_diagnoses_the_last_parameters(run, tmp_path, capsys):
    """On as many examples as a batch has."""
    out = shutil.copytree(run[0], tmp_path / "run")
    assert main(["inspect", str(out), "--diagnose", "--num-workers", "4"]) == 0
    captured = capsys.readouterr()
    told = captured.out[captured.out.index("At the last parameters, on 32 examples") :]
    for words in ("the effective rank TrH/λ_max", "4 evaluations at a time", "sampling noise", "σ = 0.003 is"):
        assert words in told
    assert (out / "diagnosis.png").read_bytes().startswith(b"\x89PNG")
    assert "λ_max at the last parameters" in captured.err
    capsys.readouterr()
    assert main(["inspect", str(out), "--landscape"]) == 0
    told = capsys.readouterr().out.partition("Around the last parameters:")[2]
    for words in ("5 random directions move", "on 150 examples", "Of 1,000 mutations", "Φ(−s/2)", "landscape.png"):
        assert words in told
    assert "nan" not in told
    assert (out / "landscape.png").read_bytes().startswith(b"\x89PNG")
    (out / "checkpoint").rename(tmp_path / "lost")
    assert main(["inspect", str(out), "--diagnose"]) == 2
    assert "holds no checkpoint" in capsys.readouterr().err


def test_resume_needs_the_folder_only_and_refuses_other_settings(run, tmp_path, capsys):
    out = shutil.copytree(run[0], tmp_path / "run")
    assert main(["train", "--quiet", "--resume", str(out), "--generations", "95"]) == 0
    assert "95 generations, 570 loss evaluations" in capsys.readouterr().out
    assert main(["train", "--quiet", "--resume", "--out", str(out)]) == 0
    assert "95 generations" in capsys.readouterr().out
    for arguments, words in (
        (["--widths", "8"], "widths: got (8,) where the run in"),
        (["--no-standardize"], "standardize: got False where the run in"),
        (["--out", "elsewhere"], "resume: got"),
    ):
        assert main(["train", "--resume", str(out), *arguments]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
    config = json.loads((out / "config.json").read_text())
    del config["settings"]["task"]
    (out / "config.json").write_text(json.dumps(config))
    assert main(["train", "--resume", str(out)]) == 2
    assert "settings: got those of another version, with or without task" in capsys.readouterr().err
    (out / "config.json").write_text("{")
    assert main(["train", "--resume", str(out)]) == 2
    assert "damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    "algorithm", ["comma", "greedy", "metropolis", "logistic", "boltzmann", "fixation", "truncation"]
)
def test_every_algorithm_trains(blobs, algorithm):
    arguments = ("--algorithm", algorithm, "--sigma", 0.01, "--beta", 1e4, "--num-offspring", 6, "--num-parents", 2)
    assert train("--data", blobs, "--widths", 4, "--generations", 3, *arguments) == 0


def test_stops_by_accuracy(blobs, capsys):
    assert train("--data", blobs, "--widths", 4, "--target", 0.4, "--generations", 10**6) == 0
    assert "stopped by       test accuracy 0.4" in capsys.readouterr().out


def test_convnet_on_images_of_its_own_size(tmp_path, capsys):
    path = tmp_path / "images.npz"
    rng = np.random.default_rng(0)
    np.savez(path, x_train=rng.normal(size=(20, 8, 8)), y_train=np.arange(20) % 2)
    assert train("--data", path, "--model", "convnet", "--generations", 21, "--num-offspring", 2) == 0
    printed = capsys.readouterr().out
    for words in ("the first 2 mutated in one generation of 10", "of the other layers", "of the first 2 layers"):
        assert words in printed
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
        (["--dropout", "1"], "dropout: got 1.0; pass a share from 0 to below 1"),
        (["--dropout", "0.1"], "dropout: got 0.1 for an mlp; pass 0.0, or --model convnet"),
        (["--model", "convnet", "--num-maps", "1"], "num_maps: got 1; pass a whole number of 2 or more"),
        (["--masks", "none"], "masks: got 'none'; pass one of shared, separate"),
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
        (["--target", "95"], "target: got 95.0"),
        (["--seed", "-1"], "seed: got -1"),
        (["--resume"], "resume: got no folder; pass the folder of one run"),
        (["--resume", "--out", "nowhere"], "run: got 'nowhere', which holds no run"),
        (["--task", "ranking"], "task: got 'ranking'; pass one of classification, regression"),
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
        (tmp_path, "another version"),
        (tmp_path / "broken", "damaged"),
    ):
        assert main(["inspect", str(folder)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("mutagrad inspect: ")
        assert words in error
        assert error.count("\n") == 1
