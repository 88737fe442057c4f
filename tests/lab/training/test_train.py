"""What a run leaves in its folder: checkpoint, history and parameters are of the same generation, however it ended."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import orbax.checkpoint as ocp
import pytest
from safetensors.numpy import load_file

import mutagrad
from mutagrad.lab.tasks.data import load
from mutagrad.lab.tasks.inputs import principal_components
from mutagrad.lab.training import observers, resume
from mutagrad.lab.training.inspect import inspect
from mutagrad.lab.training.options import TrainConfig
from mutagrad.lab.training.problem import set_up
from mutagrad.lab.training.run_folder import read_history, read_inputs, read_measurements, write_history
from mutagrad.lab.training.summary import sentences
from mutagrad.lab.training.train import resumed, train
from mutagrad.run import saved
from mutagrad.run.evolve import RunError

pytestmark = pytest.mark.permissive  # the networks have JAX's default promotion


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """40 images in two classes that differ in mean, as an .npz file."""
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    path = tmp_path_factory.mktemp("data") / "blobs.npz"
    np.savez(path, x_train=(rng.normal(size=(40, 2, 2)) + labels[:, None, None]).astype(np.float32), y_train=labels)
    return str(path)


def config(data, folder, generations, **others):
    return TrainConfig(
        data=data, widths=(3,), num_offspring=4, generations=generations, out=str(folder), seed=5, **others
    )


def checkpointed(folder):
    """The newest checkpoint: its generation and its parameters, by their names in params.safetensors."""
    with ocp.CheckpointManager((folder / "checkpoint").resolve()) as manager:
        step = manager.latest_step()
        state = manager.restore(step, args=ocp.args.StandardRestore())
    return step, {name.split("params", 1)[1]: leaf for name, leaf in state.items() if "params" in name}


def assert_consistent(folder, generation):
    step, params = checkpointed(folder)
    written = load_file(folder / "params.safetensors")
    assert step == generation
    assert written.keys() == params.keys()
    assert written
    assert all(np.array_equal(written[name], params[name]) for name in written)
    history = read_history(folder)
    outcome = json.loads((folder / "config.json").read_text())["outcome"]
    assert list(history.generation) == list(range(1, generation + 1))
    assert np.all(np.diff(history.measured_generation) > 0)
    assert history.measured_generation[0] == 0
    assert history.measured_generation[-1] == generation == outcome["generations"]
    assert history.test_accuracy[-1] == outcome["test_accuracy"]
    assert (folder / "training.png").exists()


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """One run of 30 generations that was never stopped: its folder and outcome."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return folder, train(config(data, folder, 30, batch_size=16), progress=False)


def assert_same_run(one, other):
    first, second = (load_file(folder / "params.safetensors") for folder in (one, other))
    assert all(np.array_equal(first[name], second[name]) for name in first)
    first, second = read_history(one), read_history(other)
    for name in ("loss", "sigma", "is_accepted", "num_nonfinite", "num_examples", "is_resampled"):
        assert first[name].dtype == second[name].dtype
        np.testing.assert_array_equal(first[name], second[name])


def test_the_folder_holds_one_run(whole):
    folder, outcome = whole
    assert_consistent(folder, 30)
    # Parent, parent before and offspring, since batches change.
    assert outcome["evaluations"] == 30 * 6
    assert json.loads((folder / "config.json").read_text())["outcome"] == outcome
    (regime,) = outcome["regime"].values()
    assert regime["learning_rate"] == pytest.approx(outcome["drift"] * regime["sigma"])
    arrays = load_file(folder / "inputs.safetensors")
    assert {name: array.shape for name, array in arrays.items()} == {"['mean']": (2, 2), "['factor']": (2, 2)}


def test_generations_that_are_lost_to_damage_had_no_batches_of_none(data, whole, tmp_path):
    folder, outcome = shutil.copytree(whole[0], tmp_path / "run"), whole[1]
    os.truncate(folder / "checkpoint" / "history.journal", 0)
    with pytest.warns(UserWarning, match="of its history are lost to damage"):
        after = train(resumed(folder, {"generations": 34}), progress=False)
    assert after["batch_sizes"] == outcome["batch_sizes"] == [16, 16]


def test_a_run_that_is_saved_all_the_time_is_the_same(data, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(saved, "_SECONDS", 0.0)
    train(config(data, tmp_path / "often", 30, batch_size=16), progress=False)
    assert_consistent(tmp_path / "often", 30)
    assert_same_run(tmp_path / "often", whole[0])


def test_a_run_goes_on_from_its_folder_alone(data, whole, tmp_path):
    """Stopped after 12 generations, it takes its settings from the folder and ends as the run that never stopped."""
    folder = tmp_path / "parts"
    train(config(data, folder, 12, batch_size=16), progress=False)
    settings = resumed(folder, {"generations": 30})
    assert (settings.num_offspring, settings.widths, settings.data, settings.resume) == (4, (3,), data, True)
    outcome = train(settings, progress=False)
    assert_consistent(folder, 30)
    assert_same_run(folder, whole[0])
    assert {**outcome, "seconds": 0} == {**whole[1], "seconds": 0}
    with pytest.raises(ValueError, match=r"num_offspring: got 5 where the run in .* has 4; leave it out"):
        resumed(folder, {"num_offspring": 5})
    with pytest.raises(ValueError, match=r"seed: got 4 where the run"):
        train(TrainConfig(data=data, widths=(3,), num_offspring=4, batch_size=16, out=str(folder), resume=True, seed=4))


def test_a_run_goes_on_where_principal_components_have_other_last_digits(data, tmp_path, monkeypatch):
    """As on another kind of CPU: it goes on, in the components that it has."""
    settings = config(data, tmp_path / "run", 2, components=2)
    monkeypatch.setattr("mutagrad.lab.training.figure.draw", lambda *given: None)
    train(settings, progress=False)
    seen, kept = set_up(settings, load(data)).task.data, read_inputs(tmp_path / "run")
    before = (tmp_path / "run" / "inputs.safetensors").read_bytes()

    def other(data, number):
        found = principal_components(data, number)
        return found._replace(data=found.data._replace(train_inputs=found.data.train_inputs * np.float32(1.001)))

    monkeypatch.setattr("mutagrad.lab.training.problem.principal_components", other)
    assert not np.array_equal(set_up(settings, load(data)).task.data.train_inputs, seen.train_inputs)
    again = set_up(settings, load(data), kept).task.data
    np.testing.assert_array_equal(again.train_inputs, seen.train_inputs)
    np.testing.assert_array_equal(again.test_inputs, seen.test_inputs)
    assert train(resumed(tmp_path / "run", {"generations": 3}), progress=False)["generations"] == 3
    assert (tmp_path / "run" / "inputs.safetensors").read_bytes() == before
    # Where they are damaged they are made anew.
    (tmp_path / "run" / "inputs.safetensors").write_bytes(before[:-1] + b"!")
    assert read_inputs(tmp_path / "run") is None


def test_examples_are_known_by_their_sum_as_they_were_loaded_or_as_earlier_versions_had_it(data):
    own, settings = load(data), TrainConfig(data=data, widths=(3,), components=2)
    seen = set_up(settings, own).task.data
    for one, are_others in ((None, False), (own, False), (seen, False), (load("digits"), True)):
        saved = {} if one is None else {"examples": resume.examples(one)}
        assert resume.are_others(saved, own, seen) == are_others


def test_resuming_with_nothing_left_to_do_completes_the_folder(whole, tmp_path):
    """As a run leaves it that was killed after its checkpoint: without what is written at the end."""
    folder = shutil.copytree(whole[0], tmp_path / "run")
    shutil.rmtree(folder / "history.zarr")
    (folder / "params.safetensors").unlink()
    outcome = train(resumed(folder, {}), progress=False)
    assert_consistent(folder, 30)
    assert_same_run(folder, whole[0])
    assert {**outcome, "seconds": 0} == {**whole[1], "seconds": 0}


def test_a_killed_run_goes_on_with_its_history(data, tmp_path):
    """SIGKILL leaves what was saved last, and resuming gives the run that was never killed."""
    code = "import sys, mutagrad.run.saved as s; s._SECONDS = 0.3; from mutagrad.cli import main; main(sys.argv[1:])"
    out, settings = tmp_path / "killed", ["--data", data, "--widths", "3", "--num-offspring", "4", "--seed", "5"]
    command = [sys.executable, "-c", code, "train", "--quiet", *settings, "--generations", "1000000000"]
    process = subprocess.Popen([*command, "--out", str(out)])
    while not list(out.glob("checkpoint/*.json")):
        assert process.poll() is None
        time.sleep(0.1)
    process.kill()
    process.wait()
    number = checkpointed(out)[0] + 50
    train(resumed(out, {"generations": number}), progress=False)
    train(config(data, tmp_path / "whole", number), progress=False)
    assert_consistent(out, number)
    assert_same_run(out, tmp_path / "whole")


def test_an_error_on_the_way_leaves_everything_up_to_it(data, tmp_path, monkeypatch):
    class Full(observers.Measurements):
        def __call__(self, chunk):
            if chunk.generation > 1:
                raise OSError("no space")

    monkeypatch.setattr(observers, "Measurements", Full)
    with pytest.raises(RunError, match="OSError: no space after generation"):
        train(config(data, tmp_path / "run", 4000), progress=False)
    number = len(read_history(tmp_path / "run").generation)
    assert 1 < number < 4000
    assert_consistent(tmp_path / "run", number)


def test_history_zarr_is_what_the_journals_hold(whole):
    """For other tools: format 3, with checksums, and closed in its metadata about what it is of."""
    import xarray

    history = read_history(whole[0])
    with xarray.open_zarr(whole[0] / "history.zarr", consolidated=False) as written:
        assert written.identical(history.assign_attrs(written.attrs))
        assert written.attrs == {"evaluations_per_generation": 6, "score": "accuracy"}


def test_history_zarr_outlives_a_kill_between_its_renames(whole, tmp_path, monkeypatch):
    """Killed when the old one has been moved away and the new one is not yet in place: neither is lost."""
    history = read_history(whole[0])
    write_history(tmp_path, history, {})
    rename = type(tmp_path).rename

    def killed(path, target):
        if path.name.endswith(".tmp"):
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(type(tmp_path), "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        write_history(tmp_path, history.isel(generation=slice(9)), {})
    monkeypatch.undo()
    assert {path.name for path in tmp_path.iterdir()} == {"history.zarr.old", "history.zarr.tmp"}
    write_history(tmp_path, history, {})
    assert [path.name for path in tmp_path.iterdir()] == ["history.zarr"]


def test_measurements_later_than_where_a_run_goes_on_are_dropped(data, tmp_path):
    problem = set_up(TrainConfig(data=data, widths=(3,), sigma=0.01), load(data))

    def measured(*generations):
        found = observers.Measurements(problem, tmp_path)
        for generation in generations:
            found.measure(SimpleNamespace(generation=generation, params=problem.state.params))
        return found

    assert measured(0, 6, 9).columns["measured_generation"] == [0, 6, 9]
    again = measured(6, 6)
    assert again.columns["measured_generation"] == [0, 6]
    assert again.columns["test_accuracy"][-1] == again.test.score
    assert read_measurements(tmp_path)["measured_generation"].tolist() == [0, 6]
    assert measured(12).columns["measured_generation"] == [0, 6, 12]


def test_measurements_are_a_curve_however_long_the_run(data, monkeypatch):
    """Of ten seconds nearly every chunk is measured; of eleven days 200 times for every factor e of time, and not more."""
    problem, clock = set_up(TrainConfig(data=data, widths=(3,), sigma=0.01), load(data)), [0.0]
    monkeypatch.setattr(observers.time, "perf_counter", lambda: clock[0])
    found = observers.Measurements(problem)
    measured = []

    def measure(state):
        measured.append(clock[0])
        found._last = clock[0]

    monkeypatch.setattr(found, "measure", measure)
    for _ in range(40):
        clock[0] += 0.25
        found(SimpleNamespace(state=None))
    assert len(measured) >= 39
    while clock[0] < 1e6:
        clock[0] += max(0.25, clock[0] / 2000)
        found(SimpleNamespace(state=None))
    assert 200 * np.log(1e6 / 50) * 0.8 < len(measured) < 200 * np.log(1e6 / 50) + 300


def test_more_offspring_than_a_rule_judges_are_refused(data):
    with pytest.raises(ValueError, match="^num_offspring: got 8 with greedy, which judges one offspring"):
        set_up(TrainConfig(data=data, algorithm="greedy", num_offspring=8), load(data))


def test_a_regression_learns_a_line(tmp_path):
    """R², and an error in the unit of the target, that of the noise around a plane; goes on, and is inspected."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(200, 3)) * [1, 100, 0.01]
    noise = rng.normal(size=200)
    targets = 1e4 + inputs @ [10, 0.1, 1000] + noise
    np.savez(
        tmp_path / "plane.npz", x_train=inputs[:150], y_train=targets[:150], x_test=inputs[150:], y_test=targets[150:]
    )
    settings = {"data": str(tmp_path / "plane.npz"), "widths": (), "out": str(tmp_path / "run")}
    train(TrainConfig(generations=50, **settings), progress=False)
    outcome = train(resumed(tmp_path / "run", {"generations": 250}), progress=False)
    best = np.std(noise[150:])
    assert best / 1.2 < outcome["test_loss"] < 1.2 * best
    assert outcome["test_r2"] == pytest.approx(1 - outcome["test_loss"] ** 2 / np.var(targets[150:]), abs=1e-4)
    text = sentences(outcome)
    assert text.startswith("test R² ")
    for words in ("in the unit of the target", "to test with; regression", "3 standardised to mean 0"):
        assert words in text
    history = read_history(tmp_path / "run")
    assert history.test_r2[0] < history.test_r2[-1] == outcome["test_r2"]
    assert "last third" in inspect(tmp_path / "run")


def test_the_summary_says_of_s_what_inspect_says(data, tmp_path):
    """One verdict of a run, in one form of words: where it is told, and where it is not."""
    told = set()
    for sigma in (1e-3, 0.3, 30.0):
        folder = tmp_path / str(sigma)
        outcome = train(
            TrainConfig(data=data, widths=(3,), sigma=sigma, generations=60, out=str(folder)), progress=False
        )
        (regime,) = outcome["regime"].values()
        told.add(regime["verdict"] or bool(regime["not_told"]))
        (line,) = [one for one in sentences(outcome).splitlines() if one.startswith("regime")]
        words = line.removeprefix("regime           ").split(" (last ")[0].removeprefix("not told: ")
        assert words in inspect(folder)
    assert len(told) > 1


def test_recombination_trains_the_digits_and_is_inspected(tmp_path):
    """Evaluations counted with the parent and the one before, learning rate Σ w E[Z] σ, and its own words in inspect."""
    outcome = train(TrainConfig(algorithm="weighted_recombination", generations=150, out=str(tmp_path / "run")), False)
    assert outcome["evaluations"] == 150 * 22
    assert outcome["test_accuracy"] > 0.9
    scores = mutagrad.selection.normal_scores(20)
    np.testing.assert_allclose(outcome["drift"], np.sum(scores**2), rtol=1e-6)
    assert "recombination of 20 gains most" in inspect(tmp_path / "run")


def test_a_run_whose_hidden_units_take_turns_goes_on_where_it_was(data, tmp_path):
    def grouped(folder, generations):
        return TrainConfig(
            data=data, widths=(6,), unit_groups=3, num_offspring=4, generations=generations, out=str(folder)
        )

    train(grouped(tmp_path / "whole", 13), progress=False)
    train(grouped(tmp_path / "parts", 5), progress=False)
    parts = train(resumed(tmp_path / "parts", {"generations": 13}), progress=False)
    assert_consistent(tmp_path / "parts", 13)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert "in 3 groups that are mutated in turns" in sentences(parts)
    assert "last third of the run" in inspect(tmp_path / "parts")


def test_a_regularised_convnet_goes_on(tmp_path):
    """Widths, masks and normalisation are the run's own: 2 and 2 generations more are the run of 4."""
    rng, path = np.random.default_rng(0), tmp_path / "images.npz"
    np.savez(path, x_train=rng.normal(size=(12, 4, 4)), y_train=np.arange(12) % 2)
    options = {"num_maps": 2, "num_linear": 3, "input_dropout": 0.1, "dropout": 0.2, "spectral_normalization": True}
    whole_config = TrainConfig(
        data=str(path), model="convnet", sigma=0.01, num_offspring=2, shared_layers=0, generations=4, **options
    )
    whole = train(dataclasses.replace(whole_config, out=str(tmp_path / "whole")), progress=False)
    train(dataclasses.replace(whole_config, out=str(tmp_path / "parts"), generations=2), progress=False)
    parts = train(resumed(tmp_path / "parts", {"generations": 4}), progress=False)
    assert whole["train_loss"] == parts["train_loss"]
    histories = [read_history(tmp_path / name) for name in ("whole", "parts")]
    np.testing.assert_array_equal(histories[0]["loss"], histories[1]["loss"])
    assert histories[0]["is_resampled"].values.all()  # masks make each generation's loss another one
    with pytest.raises(ValueError, match="dropout: got 0.3 where the run in .* has 0.2; leave it out"):
        resumed(tmp_path / "parts", {"dropout": 0.3})
