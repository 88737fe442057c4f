"""The command line: options stated once, what a run says, and going on."""

import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from blobs import save_blobs

from mutagrad.cli import main
from mutagrad.lab.training.inspect import inspect
from mutagrad.lab.training.options import TrainConfig, from_saved
from mutagrad.lab.training.run_folder import write_config
from mutagrad.run import sums

pytestmark = pytest.mark.permissive  # the networks have JAX's default promotion


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    return save_blobs(tmp_path_factory.mktemp("data"))


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
    assert main(["train", "--help"]) == 0
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
    s = printed.split("s = σTrH/|∇U| = ")[1].split(" (last ")[0]
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


def test_resume_with_nothing_to_do_says_so_and_changes_nothing(run, tmp_path, capsys):
    out = shutil.copytree(run[0], tmp_path / "run")
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.rglob("*") if path.is_file()}
    for more in ([], ["--generations", "40"], ["--generations", "500", "--target", "0.01"]):
        assert main(["train", "--resume", str(out), *more]) == 0
        shown = capsys.readouterr()
        assert shown.out.startswith("nothing to do: ")
        assert shown.out.count("\n") == 1
        assert shown.err == ""
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["params.safetensors", "training.png", "manifest.json"])
def test_what_a_power_cut_took_of_the_end_is_written_anew(name, run, tmp_path):
    """Files that lost what they held, in a run that has its generations."""
    out = shutil.copytree(run[0], tmp_path / "run")
    before = (out / "params.safetensors").read_bytes()
    if name == "manifest.json":
        write_config(out, json.loads((out / "config.json").read_text()))
        (out / "params.safetensors").write_bytes(b"")
    else:
        (out / name).write_bytes(b"")
    assert main(["train", "--quiet", "--resume", str(out)]) == 0
    assert (out / "params.safetensors").read_bytes() == before
    assert (out / "training.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.filterwarnings("default")
def test_resume_says_what_has_changed(run, tmp_path, capsys):
    out = shutil.copytree(run[0], tmp_path / "run")
    for path in (out / "checkpoint").glob("*.json"):
        described = sums.read_signed(path)
        now, other = described["versions"], {"jax": "0.1", "equinox": "0.2", "device": "abacus"}
        assert now["jaxlib"]
        sums.write_signed(path, described | {"versions": now | other})
    config = json.loads((out / "config.json").read_text())
    write_config(out, config | {"versions": config["versions"] | {"jax": "0.1", "equinox": "0.2"}, "device": "abacus"})
    assert main(["train", "--quiet", "--resume", str(out), "--generations", "91"]) == 0
    told = capsys.readouterr().err
    then, now = (", ".join(f"{name} {one[name]}" for name in sorted(other)) for one in (other, now))
    assert f"it was written with {then}, and this is {now}: the run goes on" in told
    assert told.count("\n") == 1
    assert json.loads((out / "config.json").read_text())["device"] == config["device"]


def test_a_folder_that_holds_nothing_of_worth_is_a_new_run(blobs, tmp_path, capsys):
    """As a run leaves it that was killed before its config.json was there."""
    out = tmp_path / "run"
    (out / "checkpoint").mkdir(parents=True)
    (out / "config.json.tmp").write_text("{")
    assert main(["train", "--resume", str(out)]) == 2
    assert f"where nothing has been saved; begin with --out {out}" in capsys.readouterr().err
    assert train("--data", blobs, "--widths", 4, "--generations", 3, "--sigma", 0.01, "--out", out) == 0
    assert (out / "params.safetensors").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("")
    assert train("--data", blobs, "--out", tmp_path / "mine") == 2
    assert os.listdir(tmp_path / "mine") == ["notes.txt"]


def test_home_is_found_in_every_path(run, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(run[0].parent))
    assert main(["inspect", f"~/{run[0].name}"]) == 0
    assert f"figure: {run[0]}" in capsys.readouterr().out
    for arguments in (
        ["--resume", f"~/{run[0].name}"],
        [f"--resume=~/{run[0].name}"],
        ["--resume", f"--out=~/{run[0].name}"],
    ):
        assert main(["train", *arguments]) == 0
        assert str(run[0]) in capsys.readouterr().out
    config = TrainConfig(data="~/a.npz", data_dir="~/b", out="~/c")
    assert (config.data, config.data_dir, config.out) == tuple(
        str(run[0].parent / name) for name in ("a.npz", "b", "c")
    )


@pytest.mark.parametrize(("asked", "status"), [("Ctrl-C", 130), ("SIGTERM", 143), ("SIGHUP", 129), ("generations", 0)])
def test_a_run_that_was_ended_has_its_summary_and_its_status(asked, status, run, monkeypatch, capsys):
    outcome = json.loads((run[0] / "config.json").read_text())["outcome"] | {"stopped": asked}
    monkeypatch.setattr("mutagrad.lab.training.train.train", lambda config, progress: outcome)
    assert main(["train"]) == status
    assert f"stopped by       {asked}" in capsys.readouterr().out


def test_a_terminal_without_sigma_gets_a_question_mark(run, monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    assert main(["inspect", str(run[0])]) == 0
    sys.stdout.flush()
    assert "s = ?TrH/|?U|" in raw.getvalue().decode("ascii")


def test_inspect_speaks_before_it_draws(run, tmp_path, capsys):
    out = shutil.copytree(run[0], tmp_path / "run")
    (out / "inspect.png").unlink(missing_ok=True)
    (out / "inspect.png").mkdir()
    assert main(["inspect", str(out)]) == 0
    *text, last = capsys.readouterr().out.splitlines()
    assert "Φ(−s/2)" in "".join(text)
    assert last.startswith(f"figure: none, {out / 'inspect.png'} cannot be written (")
    said = []
    assert inspect(out, said.append) == "\n".join(said)
    assert len(said) == 2


@pytest.mark.parametrize(
    "content", ["[]", '"run"', "3", "null", "[" * 10**5, '{"settings": [1]}', '{"settings": null}', "\xff"]
)
def test_a_configuration_of_another_kind_is_one_line(content, run, tmp_path, capsys):
    out = shutil.copytree(run[0], tmp_path / "run")
    (out / "config.json").write_text(content, encoding="latin-1")
    for arguments in (["inspect", str(out)], ["train", "--resume", str(out)]):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert str(out) in error
        assert error.count("\n") == 1


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
    assert "whose config.json was altered since the run wrote it" in capsys.readouterr().err
    (out / "manifest.json").unlink()
    assert main(["train", "--resume", str(out)]) == 2
    assert "settings: got those of another version, with or without task" in capsys.readouterr().err
    (out / "config.json").write_text("{")
    assert main(["train", "--resume", str(out)]) == 2
    assert "damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    "algorithm", ["comma", "greedy", "metropolis", "logistic", "boltzmann", "fixation", "truncation"]
)
def test_every_algorithm_trains(blobs, algorithm):
    arguments = ["--algorithm", algorithm, "--sigma", 0.01, "--beta", 1e4, "--num-parents", 2]
    if algorithm not in ("greedy", "metropolis", "logistic", "fixation"):
        arguments += ["--num-offspring", 6]
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
