"""Claims: verdicts from values and errors, what a run writes and skips, and one line for what does not exist."""

import json
import math

import matplotlib.pyplot as plt
import pytest
import xarray

from mutagrad.cli import main
from mutagrad.lab import claims, whitelam2021
from mutagrad.lab.claims import Check, Claim, Outcome, above, below, combine, near

pytestmark = pytest.mark.permissive


@pytest.mark.parametrize(
    ("check", "verdict"),
    [
        (near("x", 1.0, 0.01, 1.0, 0.05), "holds"),
        (near("x", 1.0, 0.02, 1.0, 0.05), "undecided"),
        (near("x", 1.2, 0.01, 1.0, 0.05), "does not hold"),
        (near("x", 1.06, 0.01, 1.0, 0.05), "undecided"),
        (below("x", 1.0, 0.0, 1.0), "holds"),
        (below("x", 1.1, 0.0, 1.0), "does not hold"),
        (above("x", 1.0, 0.1, 0.5), "holds"),
        (above("x", 0.1, 0.1, 0.5), "does not hold"),
        (above("x", math.nan, 0.1, 0.5), "undecided"),
        (above("x", 1.0, math.inf, 0.5), "undecided"),
    ],
)
def test_a_check_needs_three_errors(check, verdict):
    assert check.verdict == verdict


def test_a_claim_is_as_good_as_its_checks():
    assert combine(["holds", "holds"]) == "holds"
    assert combine(["holds", "undecided"]) == "undecided"
    assert combine(["undecided", "does not hold"]) == "does not hold"
    assert combine([]) == "undecided"


def toy(calls, value=1.0):
    def run(settings, progress):
        calls.append(settings)
        progress(0.5)
        data = xarray.Dataset({"x": ("time", [1.0, 2.0])})
        return Outcome([Check("x", value, 0.0, 0.5, math.inf)], data, lambda data: plt.figure())

    return Claim("T-1", "toy", "Fig. 0", "x is at least ½", {"quick": {"n": (1, 2)}}, run)


def test_reproduce_writes_everything_and_does_not_run_twice(tmp_path):
    calls = []
    verdict = claims.reproduce(toy(calls), tmp_path, progress=False)
    assert verdict["verdict"] == "holds"
    assert {path.name for path in (tmp_path / "T-1").iterdir()} == {
        "data.zarr",
        "figure.png",
        "figure.svg",
        "verdict.json",
    }
    written = json.loads((tmp_path / "T-1" / "verdict.json").read_text())
    assert written["checks"][0]["high"] is None
    assert claims.reproduce(toy(calls), tmp_path, progress=False)["date"] == verdict["date"]
    assert len(calls) == 1
    changed = toy(calls)._replace(settings={"quick": {"n": (3, 4)}})
    claims.reproduce(changed, tmp_path, progress=False)
    assert len(calls) == 2
    assert "T-1 holds" in claims.sentences(verdict)
    assert "expected ≥ 0.5" in claims.sentences(verdict)


def test_every_claim_has_both_scales_and_a_name_of_its_own():
    every = claims.claims()
    assert len({claim.id for claim in every}) == len(every)
    for claim in every:
        assert set(claim.settings) == {"quick", "paper"}
        assert claim.run.__doc__


def test_crossover_holds_at_a_small_scale(tmp_path):
    claim = claims.find("W21-9")[0]
    small = claim._replace(settings={"quick": {"sigma": 1e-5, "mutations": 20_000, "slopes": 3}})
    assert claims.reproduce(small, tmp_path, progress=False)["verdict"] == "holds"


def test_a_wrong_law_does_not_hold(tmp_path, monkeypatch):
    """The crossover's check has power: with half the drift it says so."""
    monkeypatch.setattr(whitelam2021.special, "erfcx", lambda x: 2 / (1 + x))
    claim = claims.find("W21-9")[0]
    small = claim._replace(settings={"quick": {"sigma": 1e-5, "mutations": 2000, "slopes": 3}})
    assert claims.reproduce(small, tmp_path, progress=False)["verdict"] == "does not hold"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["reproduce", "W99-1", "--out", "x"], "claim: got 'W99-1'; pass one of W21-1, W21-2"),
        (
            ["reproduce", "W21-9", "--scale", "huge", "--out", "x"],
            "scale: got 'huge' for W21-9; pass one of quick, paper",
        ),
    ],
)
def test_what_does_not_exist_is_one_line(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert words in printed.err
    assert printed.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_table_has_a_line_for_every_claim(capsys):
    assert main(["claims"]) == 0
    printed = capsys.readouterr().out
    assert all(claim.id in printed for claim in claims.claims())
