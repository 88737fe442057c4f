"""The page of a training run: the findings of `mutagrad inspect`, its commands, and what the command line refuses."""

import sys
import warnings
from html.parser import HTMLParser

import pytest

from mutagrad.cli import _parser, main
from mutagrad.lab.training.inspect import inspect
from mutagrad.lab.training.options import TrainConfig
from mutagrad.lab.training.page import page, reproduce
from mutagrad.lab.training.train import train

pytest.importorskip("altair")
pytest.importorskip("vl_convert")
pytestmark = pytest.mark.permissive  # the networks have JAX's default promotion


class Words(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.said, self.skips = [], 0
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.skips += tag in ("script", "style")

    def handle_endtag(self, tag):
        self.skips -= tag in ("script", "style")

    def handle_data(self, data):
        if not self.skips:
            self.said.append(data)

    def __str__(self):
        return " ".join(" ".join(self.said).split())


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for name, others in (("full", {}), ("batches", {"batch_size": 64, "seed": 1}), ("one", {"generations": 1})):
        train(TrainConfig(**{"generations": 60, "sigma": 0.01, "out": str(folder / name)} | others), progress=False)
    return folder


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("mutagrad.report.page.charts.svg", lambda spec: "<svg/>")
    monkeypatch.setattr("mutagrad.report.page.charts.script", lambda: "")


@pytest.mark.parametrize("name", ["full", "batches"])
def test_the_page_says_line_for_line_what_inspect_says(runs, name):
    words = str(Words(page(runs / name).html))
    said = inspect(runs / name).split("\n")[:-1]  # without the place of the figure
    assert len(said) > 6
    for line in said:
        assert " ".join(line.removesuffix(":").split()) in words


def test_the_share_of_signal_is_drawn_where_it_was_measured(runs):
    assert 'id="chart-signal"' in page(runs / "batches").html
    assert 'id="chart-signal"' not in page(runs / "full").html


def test_one_generation_is_a_page(runs):
    words = str(Words(page(runs / "one").html))
    assert "One generation tells no regime." in words


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"data": "my data.npz", "widths": (64, 32), "sigma": 0.01, "standardize": False, "target": 0.5},
        {"model": "convnet", "spectral_normalization": True, "beta": 100.0, "algorithm": "metropolis", "seed": 7},
        {"sigma": 1e-7, "components": 0, "generations": 12345, "seconds": 3.5},
    ],
)
def test_the_command_that_reproduces_has_the_settings_of_the_run(given):
    import shlex

    config = TrainConfig(**given)
    options = vars(_parser().parse_args(shlex.split(reproduce(config))[1:]))
    assert options.pop("out") == "NEW"
    for name in ("command", "quiet", "open"):
        options.pop(name)
    assert TrainConfig(**options) == config


def test_the_command_writes_into_the_run_or_where_it_is_told(runs, tmp_path, capsys, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url) or True)
    assert main(["report", str(runs / "full"), "--open"]) == 0
    assert opened == [(runs / "full" / "report.html").as_uri()]
    assert "report.html" in capsys.readouterr().out
    out = tmp_path / "both.html"
    assert main(["report", str(runs / "full"), str(runs / "batches"), "--out", str(out)]) == 0
    assert "Verdicts" in out.read_text()
    assert main(["inspect", str(runs / "full")]) == 0


def test_train_opens_the_page_of_its_run(runs, monkeypatch, capsys):
    """Also of one that has nothing left to do."""
    opened, out = [], runs / "one"
    monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url) or True)
    for words in (["--resume", str(out)], ["--resume", str(out), "--generations", "2"]):
        assert main(["train", "--quiet", "--open", *words]) == 0
        assert opened.pop() == (out / "report.html").as_uri()
    assert "2 generations; stopped by: generations." in str(Words((out / "report.html").read_text()))


def test_train_refuses_to_open_what_there_will_not_be_before_it_runs(tmp_path, monkeypatch, capsys):
    assert main(["train", "--open"]) == 2
    assert (
        capsys.readouterr().err
        == "mutagrad train: open: got no run folder of which to make a page; pass --out DIR too\n"
    )
    monkeypatch.setitem(sys.modules, "altair", None)
    assert main(["train", "--open", "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err == "mutagrad train: page: needs altair; pip install 'mutagrad[report]'\n"
    assert not (tmp_path / "run").exists()


def test_what_is_no_run_is_refused_in_a_line(runs, tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("")
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "config.json").write_text("{")
    for words in (
        [str(tmp_path / "none")],
        [str(tmp_path)],
        [str(file)],
        [str(damaged)],
        [str(runs / "full"), "--port", "80"],
        [str(runs / "full"), "--port", "70000", "--watch"],
        [str(runs / "full"), "--watch", "--out", "x.html"],
        [str(runs / "full"), "--out", str(tmp_path)],
        [str(runs / "full"), "--out", str(runs / "full" / "config.json")],
        [str(runs / "full"), "--out", "/dev/null"],
    ):
        assert main(["report", *words]) == 2, words
        error = capsys.readouterr().err
        assert error.startswith("mutagrad report: ")
        assert error.count("\n") == 1


def test_runs_on_other_data_are_not_compared(runs, tmp_path, capsys):
    import numpy as np

    generator = np.random.default_rng(0)
    data = tmp_path / "mine.npz"
    np.savez(data, x_train=generator.standard_normal((80, 4)), y_train=generator.standard_normal(80))
    train(TrainConfig(data=str(data), generations=5, sigma=0.01, out=str(tmp_path / "own")), progress=False)
    assert main(["report", str(runs / "full"), str(tmp_path / "own")]) == 2
    assert "losses of different tasks, 'full' is of cross-entropies on digits" in capsys.readouterr().err


def test_damaged_rows_are_said_and_the_rest_is_shown(runs, tmp_path):
    import re
    import shutil

    folder = tmp_path / "run"
    shutil.copytree(runs / "full", folder)
    path = folder / "checkpoint" / "history.journal"
    data = bytearray(path.read_bytes())
    starts = [one.start() for one in re.finditer(b"MGJ1", data)][2:]  # two blocks describe the others
    assert len(starts) > 1
    data[starts[0] + 40] ^= 255
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        words = str(Words(page(folder).html))
    assert "Generations 1 to " in words
    assert "are lost to damage, and left out of every chart." in words
