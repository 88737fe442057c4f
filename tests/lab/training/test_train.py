"""What a run leaves in its folder: checkpoint, history and parameters are of the same generation, however it ended."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from safetensors.numpy import load_file

import mutagrad
from mutagrad.lab import train as module
from mutagrad.lab.tasks.data import Dataset
from mutagrad.lab.inspect import inspect
from mutagrad.lab.tasks.models import MLP, GroupedMLP
from mutagrad.lab.problem import TrainConfig, num_unit_groups, set_up
from mutagrad.lab.run_folder import append_history, read_history
from mutagrad.lab.summary import sentences
from mutagrad.lab.train import train

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
        state = manager.restore(step, args=ocp.args.StandardRestore())["state"]
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


def test_a_run_that_has_just_been_saved_still_leaves_everything(data, tmp_path, monkeypatch):
    train(config(data, tmp_path / "once", 30), progress=False)
    monkeypatch.setattr(module, "_CHECKPOINT_SECONDS", 0.0)
    train(config(data, tmp_path / "often", 30), progress=False)
    for name in ("once", "often"):
        assert_consistent(tmp_path / name, 30)
    once, often = (load_file(tmp_path / name / "params.safetensors") for name in ("once", "often"))
    assert all(np.array_equal(once[name], often[name]) for name in once)
    once, often = (read_history(tmp_path / name) for name in ("once", "often"))
    for name in ("loss", "sigma", "is_accepted", "num_nonfinite"):
        assert once[name].dtype == often[name].dtype
        np.testing.assert_array_equal(once[name], often[name])


def test_resuming_with_nothing_left_to_do_completes_the_folder(data, tmp_path):
    folder = tmp_path / "run"
    first = train(config(data, folder, 12), progress=False)
    history = read_history(folder)
    # As a run leaves it that was killed after its history, to generation 15, and before its checkpoint and parameters.
    late = {name: history[name].values[:3] for name in history if history[name].dims == ("generation",)}
    measured = {name: history[name].values[-1:] for name in history if history[name].dims == ("measurement",)}
    append_history(folder, late, measured | {"measured_generation": [14]}, history.attrs, 15)
    (folder / "params.safetensors").unlink()
    second = train(config(data, folder, 12, resume=True), progress=False)
    assert_consistent(folder, 12)
    assert read_history(folder).identical(history)
    assert {**second, "seconds": 0} == {**first, "seconds": 0}


def test_resuming_with_nothing_left_and_no_history_says_so(data, tmp_path):
    train(config(data, tmp_path / "run", 2), progress=False)
    (tmp_path / "run" / "history.zarr").rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match=r"out: got '.*run', which has lost its history.zarr"):
        train(config(data, tmp_path / "run", 2, resume=True), progress=False)


def test_recombination_trains_the_digits_and_is_inspected(tmp_path):
    """150 generations of 20 that recombine: evaluations counted, learning rate Σ w E[Z] σ, and its own words in inspect."""
    outcome = train(TrainConfig(algorithm="weighted_recombination", generations=150, out=str(tmp_path / "run")), False)
    assert outcome["evaluations"] == 150 * 22
    assert outcome["test_accuracy"] > 0.9
    scores = mutagrad.selection.normal_scores(20)
    np.testing.assert_allclose(outcome["drift"], np.sum(scores**2), rtol=1e-6)
    text = inspect(tmp_path / "run")
    assert "recombination of 20 gains most" in text
    assert (tmp_path / "run" / "inspect.png").exists()


def test_a_run_whose_hidden_units_take_turns_goes_on_where_it_was(data, tmp_path):
    def grouped(folder, generations, **others):
        return TrainConfig(
            data=data, widths=(6,), unit_groups=3, num_offspring=4, generations=generations, out=str(folder), **others
        )

    whole = train(grouped(tmp_path / "whole", 13), progress=False)
    train(grouped(tmp_path / "parts", 5), progress=False)
    parts = train(grouped(tmp_path / "parts", 13, resume=True), progress=False)
    assert_consistent(tmp_path / "parts", 13)
    assert parts["test_accuracy"] == whole["test_accuracy"]
    once, twice = (load_file(tmp_path / name / "params.safetensors") for name in ("whole", "parts"))
    assert all(np.array_equal(once[name], twice[name]) for name in once)
    assert "in 3 groups that are mutated in turns" in sentences(parts)
    assert "in the last third of the run" in inspect(tmp_path / "parts")


def test_groups_of_hidden_units_are_the_layer_that_they_make_up():
    """The logits of an MLP with the same units, however often the groups are turned round; the start has its variance."""
    grouped = GroupedMLP(jax.random.key(0), 300, 600, 10, number=6)
    whole = MLP(jax.random.key(1), 300, (600,), 10)
    layers = [group.layers for group in grouped.groups]
    joined = eqx.tree_at(
        lambda model: [leaf for layer in model.layers for leaf in (layer.weight, layer.bias)],
        whole,
        [
            jnp.concatenate([first.weight for first, _ in layers]),
            jnp.concatenate([first.bias for first, _ in layers]),
            jnp.concatenate([second.weight for _, second in layers], axis=1),
            sum(second.bias for _, second in layers),
        ],
    )
    inputs = jax.random.normal(jax.random.key(2), (20, 300))
    for turned in (grouped, grouped.rotated(), grouped.rotated().rotated()):
        np.testing.assert_allclose(turned(inputs), joined(inputs), rtol=1e-4, atol=1e-5)
    assert not np.array_equal(grouped.groups[0].layers[0].weight, grouped.rotated().groups[0].layers[0].weight)
    # Variances of 3000 weights or more, each within 5 errors of a uniform one's √(4/5n).
    for position in (0, 1):
        found, wanted = (float(jnp.var(model.layers[position].weight)) for model in (joined, whole))
        size = whole.layers[position].weight.size
        assert abs(found / wanted - 1) < 5 * (2 * 0.8 / size) ** 0.5


def test_groups_by_default_where_offspring_share_something():
    assert num_unit_groups(TrainConfig(widths=(128,)), 60_000) == 8
    for one in (
        TrainConfig(widths=(128,), num_offspring=1),
        TrainConfig(widths=(128,), algorithm="truncation", num_parents=2),
        TrainConfig(widths=(100,)),
        TrainConfig(widths=(64, 64)),
        TrainConfig(model="convnet"),
    ):
        assert num_unit_groups(one, 60_000) == 1
    assert num_unit_groups(TrainConfig(widths=(128,)), 1437) == 1


@pytest.mark.parametrize(
    ("number", "settings", "sizes"),
    [
        (1437, {}, (1437,)),
        (6000, {}, (4096, 6000)),
        (60_000, {}, (4096, 8192, 60_000)),
        (60_000, {"turn_generations": 1}, (4096, 8192, 16_384, 32_768, 60_000)),
        (60_000, {"algorithm": "weighted_recombination"}, (4096, 8192, 16_384, 32_768, 60_000)),
        (60_000, {"algorithm": "greedy"}, (16_384,)),
        (60_000, {"model": "convnet"}, (512, 2048, 8192)),
        (6000, {"model": "convnet"}, (512, 2048, 6000)),
    ],
)
def test_sizes_of_batches_by_default(number, settings, sizes):
    """Where turns are long, all the data are a batch after a fifth of them."""
    images = np.zeros((number, 4, 4), np.float32)
    labels = np.arange(number, dtype=np.int32) % 2
    data = Dataset(images, labels, images[:4], labels[:4], num_classes=2, name="zeros")
    assert set_up(TrainConfig(**settings), data).batches.sizes == sizes


def test_a_history_outlives_a_kill_between_its_renames(data, tmp_path, monkeypatch):
    """Killed when the old history has been moved away and the new one is not yet in place: the old one is read."""
    folder = tmp_path / "run"
    train(config(data, folder, 6), progress=False)
    before = read_history(folder)
    rename = type(folder).rename

    def killed(path, target):
        if path.name.endswith(".tmp"):
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(type(folder), "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        train(config(data, folder, 9, resume=True), progress=False)
    monkeypatch.undo()
    assert not (folder / "history.zarr").exists()
    np.testing.assert_array_equal(read_history(folder).loss, before.loss)
    train(config(data, folder, 9, resume=True), progress=False)
    assert list(read_history(folder).generation) == list(range(1, 10))
