"""The command line: one line and status 2 for every wrong argument."""

import os

import pytest

from mutagrad.cli import main

pytestmark = pytest.mark.permissive  # the networks have JAX's default promotion


@pytest.mark.parametrize("words", [["train"], ["report", "x"], ["reproduce", "W21-9"]])
def test_an_option_whose_value_argparse_takes_away_is_one_line(words, capsys):
    assert main([*words, "--out=--"]) == 2
    assert capsys.readouterr().err == "mutagrad: argument --out: expected one argument; see mutagrad --help\n"


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
        (["--generations", "9" * 20], "generations: got 99999999999999999999; pass a whole number up to 2,147,483,647"),
        (["--num-offspring", str(2**31 - 1), "--algorithm", "weighted_recombination"], "offspring need about"),
        (
            ["--batch-size", "1000000000"],
            "2,410 parameters and batches of 1,000,000,000 examples need about",
        ),
        (["--widths", "4000000,4000000"], "of memory where"),
        (["--model", "convnet", "--num-maps", "100000000"], "num_maps: got 100000000"),
        (["--beta", "nan"], "beta: got nan"),
        (["--num-parents", "0"], "num_parents: got 0"),
        (["--out", "~nobody-there/run"], "whose home folder is not known"),
    ],
)
def test_wrong_arguments_get_one_line_and_status_2(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status = main(["train", *arguments])
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
