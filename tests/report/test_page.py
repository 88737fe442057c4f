"""The page of a run: well-formed, self-contained, of what the run recorded, and of nothing that a stranger put into a folder."""

import base64
import json
import re
import sys
import threading
import urllib.error
import urllib.request
from html.parser import HTMLParser

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mutagrad
from mutagrad.diagnostics import findings
from mutagrad.report.page import Told, page
from mutagrad.report.page.summary import learned, sigma_verdict, what_to_change
from mutagrad.report.page.watch import Watched, version_of
from mutagrad.report.text import regime_text

alt = pytest.importorskip("altair")
pytest.importorskip("vl_convert")

EMPTY = {"meta", "link", "img", "input", "br"}
RUN = "<script>alert(1)</script><img src=x onerror=alert(2)>"


class Parsed(HTMLParser):
    """Elements that are all closed, in order; texts by the element that they stand in."""

    def __init__(self, html):
        super().__init__()
        self.open, self.elements, self.text, self.scripts = [], [], [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append([dict(attrs), ""])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] == ["script"]:
            self.scripts[-1][1] += data
        elif self.open[-1:] != ["style"]:
            self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())

    def of(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]

    @property
    def specs(self):
        return json.loads(next(text for attrs, text in self.scripts if attrs.get("id") == "specs"))

    def rows(self, name):
        spec = self.specs[name]
        return spec.get("data", spec["layer"][0].get("data"))["values"]


ALGORITHM = mutagrad.elitist(sigma=0.01, num_offspring=8)


@pytest.fixture(scope="module")
def result():
    return mutagrad.evolve(jax.random.key(0), ALGORITHM, jnp.ones(50), lambda x: x @ x, 300, progress=False)


@pytest.fixture(scope="module")
def made(result):
    return page(result, algorithm=ALGORITHM).html


@pytest.fixture(scope="module")
def parsed(made):
    return Parsed(made)


@pytest.fixture(autouse=True)
def quick(monkeypatch, made):
    """Pictures and Vega itself are those of ``made`` alone: they take most of the time."""
    monkeypatch.setattr("mutagrad.report.page.charts.svg", lambda spec: "<svg/>")
    monkeypatch.setattr("mutagrad.report.page.charts.script", lambda: "")


def history_of(number=60, **columns):
    """A history of a quadratic, with other columns."""
    found = mutagrad.evolve(jax.random.key(1), ALGORITHM, jnp.ones(50), lambda x: x @ x, number, progress=False)
    return found.history | columns


# ----------------------------------------------------------------------------------------------------------------------
# The file
# ----------------------------------------------------------------------------------------------------------------------


def test_the_page_needs_nothing_else(made, parsed):
    assert made.startswith("<!doctype html>")
    assert len(made.encode()) < 5e6
    for tag, attrs in parsed.elements:
        for name in ("src", "href"):
            assert attrs.get(name, "data:").startswith(("data:", "#")), tag
    (policy,) = (one["content"] for one in parsed.of("meta") if "content" in one and "default-src" in one["content"])
    assert "default-src 'none'" in policy
    assert "connect-src 'none'" in policy


def test_every_chart_is_a_valid_specification_with_a_title_a_place_and_a_picture(parsed):
    places = [one for one in parsed.of("div") if one.get("class") == "chart"]
    assert [one["id"] for one in places] == list(parsed.specs)
    assert all(one["role"] == "img" and len(one["aria-label"]) > 20 for one in places)
    pictures = parsed.of("img")
    assert [one["alt"] for one in pictures] == [one["aria-label"] for one in places]
    for spec, picture in zip(parsed.specs.values(), pictures, strict=True):
        alt.LayerChart.from_dict(spec, validate=True)
        assert re.search(r"\[.+\]|won", spec["title"]), "the title has the unit"
        svg = base64.b64decode(picture["src"].removeprefix("data:image/svg+xml;base64,")).decode()
        assert svg.startswith("<svg")
        assert len(re.findall(r'<path[^>]* d="M[^"]{20,}"', svg)) > 1


def test_the_charts_show_what_was_recorded(parsed, result):
    rows = parsed.rows("chart-loss")
    loss = np.asarray(result.history["loss"], float)
    assert rows[0]["mid"] == pytest.approx(loss[0], rel=1e-5)
    assert rows[-1]["mid"] == pytest.approx(loss[-1], rel=1e-5)
    assert [(one["from"], one["to"]) for one in rows] == [(one + 1, one + 1) for one in range(300)]


def test_headings_go_down_a_step_at_a_time(parsed):
    levels = [int(tag[1]) for tag, _ in parsed.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert max(np.diff(levels)) <= 1


def test_nothing_from_a_run_becomes_markup(result):
    poison = {RUN: RUN}
    told = Told(
        RUN, result.history, title=RUN, algorithm=ALGORITHM, how_it_ended=RUN, results=poison, settings=poison, defaults=poison,
        versions=poison, commands=poison, notes=[RUN], loss_kind=RUN, loss_unit=RUN, how_to_diagnose=RUN,
    )  # fmt: skip
    one, other = Told("other", result.history, of="x"), Told(RUN, result.history, of="x", settings=poison)
    for html in (page(told).html, page(one, other).html):
        found = Parsed(html)
        assert len(found.scripts) == 4
        assert all("onerror" not in attrs for _, attrs in found.elements)
        assert RUN in found.words
        assert "</script><img" not in html
    assert found.rows("chart-loss")[-1]["series"] == RUN


def test_without_the_extra_a_line_says_what_to_install(monkeypatch, result):
    monkeypatch.setitem(sys.modules, "altair", None)
    with pytest.raises(ImportError, match=r"^page: needs altair; pip install 'mutagrad\[report\]'$"):
        page(result)


def test_a_page_is_written_whole_and_shown_by_a_notebook(result, tmp_path):
    found = page(result, out=tmp_path / "a.html")
    assert found.path.read_text() == found.html
    assert list(tmp_path.iterdir()) == [found.path]
    assert found._repr_html_().startswith("<iframe ")
    with pytest.raises(OSError, match="out: got .*, which cannot be written"):
        page(result, out=tmp_path / "none" / "a.html")


# ----------------------------------------------------------------------------------------------------------------------
# What it says
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [1e-4, 0.2, 3.0])
def test_the_verdict_on_sigma_is_that_of_the_findings(sigma):
    algorithm = mutagrad.elitist(sigma=sigma, num_offspring=20)
    found = mutagrad.evolve(jax.random.key(2), algorithm, jnp.ones(99), lambda x: x @ x, 40, progress=False)
    told = Told("run", found.history, algorithm=algorithm)
    regime = mutagrad.diagnostics.regime(found.history, algorithm=algorithm)
    follows = {one.name: one.follows for one in findings(regime)}["mutation scale"]
    answer = sigma_verdict(told).answer
    assert (follows or "Not told").removeprefix("may be ") in {"Yes": "right", "It may be": "right"}.get(answer, answer)
    assert answer.startswith("It may be") == follows.startswith("may be")
    words = Parsed(page(told).html).words
    for line in regime_text(regime).split("\n"):
        assert " ".join(line.split()) in words
    verb = {"small": "Raise", "large": "Lower"}.get(follows.split(" ")[-1], "Leave")
    assert any(line.startswith(f"{verb} σ") for line in what_to_change(told).lines) == bool(follows)


def test_learned_tells_a_fall_from_a_rise_and_from_neither():
    noise = np.random.default_rng(0).standard_normal(2000)
    answers = [
        learned(Told("run", {"loss": 10 + slope * np.arange(2000) + noise})).answer for slope in (-1e-3, 0, 1e-3)
    ]
    assert answers == ["Yes", "No change is told", "No, the loss rose"]


def test_losses_that_are_not_finite_are_counted_and_left_out():
    history = history_of()
    loss = np.asarray(history["loss"], float).copy()
    loss[[3, 4, 9]] = np.nan, np.inf, -np.inf
    found = Parsed(page(Told("run", history | {"loss": loss})).html)
    assert "In 3 of 60 generations the parent's loss was NaN, infinite or lost." in found.words
    rows = found.rows("chart-loss")
    assert [place for place, row in enumerate(rows) if row["mid"] is None] == [3, 4, 9]


def test_no_finite_loss_at_all_is_said():
    found = Parsed(page(Told("run", history_of() | {"loss": np.full(60, np.nan)})).html)
    assert "chart-loss" not in found.specs
    assert "The history holds no loss with a finite value." in found.words


def test_one_generation_tells_no_regime(result):
    found = Parsed(page(Told("run", {name: one[:1] for name, one in result.history.items()})).html)
    assert found.words.count("Not told") == 3
    assert "chart-loss" in found.specs
    assert "s is unmeasured" in found.words


def test_a_share_of_signal_that_was_not_measured_is_unmeasured(parsed):
    assert "chart-signal" not in parsed.specs
    assert "Unmeasured: the batch stayed the same, or the loss is a scalar" in parsed.words


def test_a_history_of_other_records_has_what_it_has():
    found = Parsed(page(Told("run", {"loss": np.linspace(2, 1, 50), "own": np.arange(50)})).html)
    assert list(found.specs) == ["chart-loss"]
    assert "The regime is not told: history: got one without 'sigma'" in found.words


def test_two_runs_are_compared_by_name(result):
    other = mutagrad.evolve(jax.random.key(3), ALGORITHM, jnp.ones(50), lambda x: x @ x, 60, progress=False)
    html = page(
        Told("left", result.history, settings={"seed": "0"}), Told("right", other.history, settings={"seed": "3"})
    ).html
    found = Parsed(html)
    for name in ("chart-loss", "chart-sigma", "chart-strength"):
        assert {row["series"] for row in found.rows(name)} == {"left", "right"}
    assert "seed 0 3" in found.words


def test_runs_of_the_same_name_are_told_apart(result):
    found = Parsed(page(Told("run", result.history), Told("run", result.history)).html)
    assert {row["series"] for row in found.rows("chart-loss")} == {"run (1)", "run (2)"}


def test_losses_of_other_tasks_are_not_compared(result):
    left, right = Told("left", result.history, of="one task"), Told("right", result.history, of="another")
    with pytest.raises(
        ValueError, match="^runs: got losses of different tasks, 'left' is of one task and 'right' is of another"
    ):
        page(left, right)


@pytest.mark.parametrize("given", [3, None, {}])
def test_what_is_no_run_is_refused(given):
    with pytest.raises(ValueError, match="^run: got "):
        page(given)
    with pytest.raises(ValueError, match="^runs: got none"):
        page()


# ----------------------------------------------------------------------------------------------------------------------
# Folders of mutagrad.evolve
# ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    mutagrad.evolve(
        jax.random.key(0), ALGORITHM, jnp.ones(50), lambda x: x @ x, 300, progress=False, checkpoint=tmp_path / "run"
    )
    return tmp_path / "run"


def test_a_folder_of_evolve_has_its_history_lineage_and_identity(folder, result):
    found = Parsed(page(folder, algorithm=ALGORITHM).html)
    rows = found.rows("chart-loss")
    assert rows[-1]["mid"] == pytest.approx(float(result.history["loss"][-1]), rel=1e-5)
    wins = found.rows("chart-winners-0")
    accepted = np.asarray(result.history["is_accepted"])
    assert sum(row["wins"] for row in wins) == accepted.sum()
    assert "Algorithm(8 offspring" in found.words


def test_damaged_rows_are_named_and_left_out(folder):
    path = folder / "history.journal"
    data = bytearray(path.read_bytes())
    blocks = [one.start() for one in re.finditer(b"MGJ1", data)]
    assert len(blocks) > 3
    data[blocks[2] + 40] ^= 255  # the first block of rows; two describe it
    path.write_bytes(data)
    found = Parsed(page(folder).html)
    last = int(re.search(r"Generations 1 to (\d+) are lost to damage", found.words)[1])
    assert 0 < last < 300
    assert [row["mid"] is None for row in found.rows("chart-loss")] == [place < last for place in range(300)]


def test_a_history_damaged_at_its_head_and_folders_without_one_are_refused(folder, tmp_path):
    (folder / "history.journal").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"^run: journal: got .*damaged at its head"):
        page(folder)
    for other in (tmp_path / "none", tmp_path):
        with pytest.raises(FileNotFoundError, match=r"^run: got .*, which holds no run"):
            page(other)


# ----------------------------------------------------------------------------------------------------------------------
# A page that is watched
# ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def served(tmp_path):
    (tmp_path / "history.journal").write_text("1")
    state = {"fails": False, "made": []}

    def make(version):
        if state["fails"]:
            raise ValueError("not now")
        state["made"].append(version)
        return f"page {version}"

    watched = Watched(make, [tmp_path])
    thread = threading.Thread(target=watched.serve)
    thread.start()
    yield watched, tmp_path, state
    watched.close()
    thread.join()


def asked(url, **headers):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5) as answer:
        return answer.read().decode()


def test_a_page_is_made_again_when_the_folder_has_changed(served, monkeypatch):
    watched, folder, state = served
    monkeypatch.setattr("mutagrad.report.page.watch._SECONDS", -1.0)
    first = asked(watched.url)
    assert asked(watched.url) == first == f"page {asked(watched.url + 'version')}"
    assert len(state["made"]) == 1
    (folder / "report.html").write_text("a look at the run is no change of it")
    assert asked(watched.url) == first
    (folder / "history.journal").write_text("12")
    second = asked(watched.url)
    assert second != first
    assert second == f"page {version_of([folder])}"
    state["fails"] = True
    (folder / "history.journal").write_text("123")
    assert asked(watched.url) == second


def test_only_this_machine_is_answered_and_only_about_the_page(served):
    watched, _, _ = served
    assert watched.url.startswith("http://127.0.0.1:")
    for url, headers, status in ((watched.url, {"Host": "elsewhere.example"}, 403), (watched.url + "../etc", {}, 404)):
        with pytest.raises(urllib.error.HTTPError) as refused:
            asked(url, **headers)
        assert refused.value.code == status
        refused.value.close()


def test_a_port_that_is_taken_is_refused(served):
    with pytest.raises(OSError, match="^.*port: got .*, which cannot be listened on"):
        Watched(lambda version: "", [], served[0].port)
