"""Claims: verdicts from values and errors, what a run writes and skips, and one line for what does not exist."""

import json
import math

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import pytest
import scipy.stats
import xarray

import mutagrad
from mutagrad.cli import main
from mutagrad.lab.claims import reproduction, verdicts, words
from mutagrad.lab.claims.checks import above, allowed, below, combine, compare, near
from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.lab.claims.ensemble import Experiment, descend, simulate

pytestmark = pytest.mark.permissive


def test_a_check_of_few_runs_raises_as_few_false_alarms():
    """Means of 3 normal values with the error from their own spread: outside by t in 1 of 370, by 3 errors in 1 of 10."""
    random, number = np.random.default_rng(0), 200_000
    values = random.standard_normal((number, 3))
    means, errors = values.mean(1), values.std(1, ddof=1) / math.sqrt(3)
    for freedom, share in ((2, 2 * scipy.stats.norm.sf(3)), (None, 2 * scipy.stats.t.sf(3, 2))):
        alarms = np.mean(np.abs(means) > allowed(freedom) * errors)
        assert alarms == pytest.approx(share, abs=4 * math.sqrt(share / number))
    stated = near("x", 1.0, 0.1, "error", "y", freedom=2)
    assert [check.verdict for check in compare([stated], {"x": (1.5, 0.1)})] == ["undecided"]
    assert [check.verdict for check in compare([stated], {"x": (1.5, 0.02)})] == ["does not hold"]


@pytest.mark.parametrize(
    ("stated", "value", "error", "verdict"),
    [
        (near("x", 1.0, 0.05, "theory", "y"), 1.0, 0.01, "holds"),
        (near("x", 1.0, 0.05, "theory", "y"), 1.0, 0.02, "undecided"),
        (near("x", 1.0, 0.05, "theory", "y"), 1.2, 0.01, "does not hold"),
        (near("x", 1.0, 0.05, "theory", "y"), 1.06, 0.01, "undecided"),
        (below("x", 1.0, "identity", "y", exact=True), 1.0, 0.0, "holds"),
        (below("x", 1.0, "identity", "y", exact=True), 1.1, 0.0, "does not hold"),
        (above("x", 0.5, "source", "y"), 1.0, 0.1, "holds"),
        (above("x", 0.5, "source", "y"), 0.1, 0.1, "does not hold"),
        (above("x", 0.5, "source", "y"), math.nan, 0.1, "undecided"),
        (above("x", 0.5, "source", "y"), 1.0, math.inf, "undecided"),
    ],
)
def test_a_check_needs_three_errors(stated, value, error, verdict):
    (check,) = compare([stated], {"x": (value, error)})
    assert check.verdict == verdict


def test_what_was_missing_to_decide_decides_it():
    """With so many times the samples, and the value as it was, the check is on the edge of a verdict."""
    stated = near("x", 1.0, 0.1, "theory", "y")
    for value in (1.03, 1.13):
        (check,) = compare([stated], {"x": (value, 0.05)})
        assert check.verdict == "undecided"
        for share, verdict in ((1.01, False), (0.99, True)):
            (again,) = compare([stated], {"x": (value, 0.05 / math.sqrt(share * check.missing))})
            assert (again.verdict == "undecided") == verdict


STATED = [near("x", 1.0, 0.1, "theory", "y"), above("z", 0.0, "identity", "y", exact=True)]


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"x": (1.0, 0.1)}, r"found: got \['x'\]; pass a value for each that was stated \(\['z'\] differ\)"),
        ({"x": (1.0, 0.1), "z": (1, 0), "w": (0, 0)}, r"\(\['w'\] differ\)"),
        ({"x": (1.0, 0.0), "z": (1, 0)}, "got error 0 for 'x'; pass its standard error, since it has chance"),
        ({"x": (1.0, 0.1), "z": (1, 0.1)}, "got error 0.1 for 'z'; pass 0, since it was stated without chance"),
    ],
)
def test_what_is_found_is_what_was_stated(found, words):
    with pytest.raises(ValueError, match=words):
        compare(STATED, found)


def test_a_claim_is_as_good_as_its_checks():
    assert combine(["holds", "holds"]) == "holds"
    assert combine(["holds", "undecided"]) == "undecided"
    assert combine(["undecided", "does not hold"]) == "does not hold"
    assert combine([]) == "undecided"


HOLDS = ((above("x", 0.5, "identity", "y", exact=True), 1.0),)
LITTLE = Needs(1e6, 1e6, 1e6)


def toy(calls, checks=HOLDS, needs=LITTLE):
    def run(job):
        calls.append(job.settings)
        job.progress(0.5)
        found = {stated.what: (value, 0.0) for stated, value in checks}
        return Outcome(found, xarray.Dataset({"x": ("time", [1.0, 2.0])}), lambda data: plt.figure())

    return Claim(
        "T-1", "toy", "Fig. 0", "x is at least ½", {"quick": {"n": (1, 2)}}, run, lambda settings: needs, "n = {n}",
        lambda settings: [stated for stated, value in checks],
    )  # fmt: skip


def test_reproduce_writes_everything_and_does_not_run_twice(tmp_path):
    calls = []
    verdict = reproduction.reproduce(toy(calls), tmp_path, progress=False)
    assert verdict["verdict"] == "holds"
    assert {path.name for path in (tmp_path / "T-1").iterdir()} == {
        "data.zarr",
        "figure.png",
        "figure.svg",
        "small.png",
        "verdict.json",
    }
    written = json.loads((tmp_path / "T-1" / "verdict.json").read_text())
    assert written["checks"][0]["high"] is None
    assert reproduction.reproduce(toy(calls), tmp_path, progress=False)["date"] == verdict["date"]
    assert len(calls) == 1
    changed = toy(calls)._replace(settings={"quick": {"n": (3, 4)}})
    reproduction.reproduce(changed, tmp_path, progress=False)
    assert len(calls) == 2
    assert "T-1 holds" in words.sentences(verdict)
    assert "expected ≥ 0.5" in words.sentences(verdict)


@pytest.mark.parametrize(
    "damage",
    [
        lambda verdict: [],
        lambda verdict: "holds",
        lambda verdict: 3,
        lambda verdict: None,
        lambda verdict: {},
        lambda verdict: verdict | {"settings": []},
        lambda verdict: verdict | {"seconds": "long"},
        lambda verdict: verdict | {"checks": [3]},
        lambda verdict: verdict | {"checks": [{"what": "x", "verdict": "holds", "is_ours": False}]},
    ],
)
def test_a_damaged_verdict_is_named_in_one_line_and_kept(damage, tmp_path):
    verdict = reproduction.reproduce(toy([]), tmp_path, progress=False)
    path = tmp_path / "T-1" / "verdict.json"
    assert verdicts.read(path)["verdict"] == "holds"
    path.write_text(json.dumps(damage(verdict)))
    before = path.read_bytes()
    with pytest.raises(
        ValueError, match=r"^verdict: got '.*verdict.json', which is damaged \(.*\); delete it and run"
    ) as caught:
        reproduction.reproduce(toy([]), tmp_path, progress=False)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize("key", [-1, 2**32, 10**20])
def test_a_key_that_is_none_is_refused(key):
    with pytest.raises(ValueError, match=f"key: got {key}; pass a whole number from 0"):
        reproduction.with_key(toy([]), key)


def test_an_addition_has_a_verdict_of_its_own(tmp_path):
    checks = (
        (near("x", 1.0, 0.1, "identity", "y", exact=True), 1.0),
        (near("y", 1.0, 0.1, "identity", "y", ours=True, exact=True), 2.0),
    )
    verdict = reproduction.reproduce(toy([], checks), tmp_path, progress=False)
    assert (verdict["verdict"], verdict["addition"]) == ("holds", "does not hold")
    text = words.sentences(verdict)
    assert "T-1 holds (P: does not hold)" in text
    assert "P: y: 2 ± 0, expected 0.9 to 1.1" in text


@pytest.mark.parametrize(("needs", "what"), [(Needs(1, 1e18), "memory"), (Needs(1, 0, 1e18), "disk")])
def test_what_does_not_fit_is_refused_before_it_starts(needs, what, tmp_path):
    calls = []
    with pytest.raises(
        ValueError, match=rf"scale: got 'quick' for T-1, which needs 1e\+09 GB of {what} where there are"
    ):
        reproduction.reproduce(toy(calls, needs=needs), tmp_path / "new", progress=False)
    assert not calls
    assert not list(tmp_path.iterdir())


def test_the_plan_scales_the_time_of_the_committed_run():
    claim = reproduction.find("W21-4")[0]
    (last,) = (one for (id, _), one in reproduction.committed().items() if id == claim.id)
    run, paper = (claim.needs(claim.settings[scale]).evaluations for scale in (last["settings"]["scale"], "paper"))
    text = reproduction.plan(claim, "paper")
    assert f"{paper:.3g} loss evaluations" in text
    assert f"{last['seconds'] * paper / run / 3600:.3g} hours" in text


def quadratic(x):
    return jnp.arange(1.0, 4.0) * jnp.square(x)


def test_an_interrupted_simulation_goes_on_where_it_was(tmp_path, monkeypatch):
    """Stopped after its third record and begun again, it ends with the very numbers of a run that was not stopped."""
    monkeypatch.setattr("mutagrad.lab.claims.claims._KEEP_SECONDS", 0.0)
    toy = Experiment("toy", mutagrad.greedy(0.1), quadratic, jnp.ones(3), 5, 60, 6)
    whole = simulate(Job({}), toy)

    def stop(share):
        if share >= 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(Job({}, tmp_path, stop), toy)
    shares = []
    again = simulate(Job({}, tmp_path, shares.append), toy)
    assert len(shares) == 3
    for one, other in zip(whole, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert simulate(Job({}, tmp_path, shares.append), toy).params.tolist() == whole.params.tolist()
    assert len(shares) == 3


def test_simulated_losses_are_those_of_the_params():
    runs = simulate(Job({}), Experiment("toy", mutagrad.greedy(0.1), quadratic, jnp.ones(3), 70, 20, 2))
    assert runs.params.shape == (70, 2, 3)
    np.testing.assert_allclose(runs.losses, (runs.params**2 * [1, 2, 3]).mean(-1), rtol=1e-6)
    assert len(np.unique(runs.params[:, 1, 0])) > 60  # runs have mutations of their own


def test_descend_is_plain_gradient_descent():
    runs = descend(optax.sgd(0.1), quadratic, jnp.ones(3), 30, 3)
    slopes = 2 * np.array([1, 2, 3]) / 3
    expected = np.array([(1 - 0.1 * slopes) ** steps for steps in (10, 20, 30)])
    np.testing.assert_allclose(runs.params[0], expected, rtol=1e-5)


def test_every_claim_has_both_scales_and_a_name_of_its_own():
    every = reproduction.claims()
    assert len({claim.id for claim in every}) == len(every)
    for claim in every:
        assert {"quick", "paper"} <= set(claim.settings) <= {"quick", "long", "paper"}
        assert claim.run.__doc__
        for scale, settings in claim.settings.items():
            assert claim.needs(settings).evaluations > 0
            assert reproduction._caption(claim, scale)


def test_a_caption_shows_settings_in_words_or_as_it_says():
    claim = toy([])._replace(
        caption="n = {n}, first {n[0]}, {rate:.1f}, {rate}, {slopes}",
        settings={"quick": {"n": (1000, 2), "rate": 0.25, "slopes": {"steep": 2.0}}},
    )
    assert reproduction._caption(claim, "quick") == "n = 1,000, 2, first 1,000, 0.2, 0.25, steep 2"


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
    assert all(claim.id in printed for claim in reproduction.claims())
