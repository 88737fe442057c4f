"""Registrations and verdicts: what is stated before the run, by which code, what goes stale, and what is put aside."""

import json
import math
import subprocess
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pytest
import xarray

from mutagrad.lab.claims import digest, page, registration, reproduction, verdicts, words
from mutagrad.lab.claims.checks import above, near
from mutagrad.lab.claims.claims import Claim, Needs, Outcome

pytestmark = pytest.mark.permissive


def run(job):
    found = {"x": (job.settings["value"], 0.01)}
    return Outcome(found, xarray.Dataset({"x": ("time", [1.0, 2.0])}), lambda data: plt.figure())


def toy(value=1.0, key=1, tolerance=0.1, why="the next order"):
    return Claim(
        "T-1", "whitelam2021", "Fig. 0", "x is 1", {"quick": {"value": value, "key": key}}, run,
        lambda settings: Needs(1e6, 1e6, 1e6), "key {key}",
        lambda settings: [near("x", 1.0, tolerance, "theory", why)],
    )  # fmt: skip


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """Registrations and verdicts of their own, and digests of code that a test may change."""
    monkeypatch.setattr(registration, "FOLDER", tmp_path / "registrations")
    monkeypatch.setattr(registration, "VERDICTS", tmp_path / "verdicts")
    monkeypatch.setattr(verdicts, "FOLDER", tmp_path / "verdicts")
    code = SimpleNamespace(own="a", whole="b")
    monkeypatch.setattr(registration, "digest", lambda *modules, follow=True: code.own)
    for module in (reproduction, verdicts):
        monkeypatch.setattr(module, "digest", lambda module: code.whole)
    return SimpleNamespace(folder=tmp_path, code=code)


def kept(shelf, claim, out):
    reproduction.reproduce(claim, shelf.folder / out, progress=False)
    return verdicts.keep(claim, shelf.folder / out / claim.id, shelf.folder / "figures")


def test_a_trial_is_not_kept(shelf):
    verdict = reproduction.reproduce(toy(), shelf.folder / "out", progress=False)
    assert verdict["registration"] == 0
    assert "a trial: what was run is not what was registered" in words.sentences(verdict)
    with pytest.raises(ValueError, match="verdict: got a trial of T-1, which was not registered as it was run"):
        verdicts.keep(toy(), shelf.folder / "out" / "T-1", shelf.folder / "figures")


def test_what_was_registered_is_kept_and_goes_stale(shelf):
    claim = toy()
    assert registration.register(claim)["number"] == 1
    verdict = kept(shelf, claim, "out")
    assert (verdict["registration"], verdict["verdict"]) == (1, "holds")
    assert (shelf.folder / "figures" / "T-1.quick.png").stat().st_size < 100_000
    assert verdicts.last_of(claim) == verdict
    assert words.standing(claim, verdict) == "registered"
    shelf.code.whole = "c"
    assert words.standing(claim, verdict) == "stale"
    with pytest.raises(ValueError, match="got one of T-1 whose code has changed since; run it again"):
        verdicts.keep(claim, shelf.folder / "out" / "T-1", shelf.folder / "figures")


@pytest.mark.parametrize(
    "changed",
    [toy(tolerance=0.2), toy(why="another reason"), toy(key=2), toy(value=1.01), toy()._replace(statement="x is 2")],
)
def test_whatever_is_changed_makes_a_trial(shelf, changed):
    registration.register(toy())
    assert registration.is_registered(toy(), "quick") == 1
    assert registration.is_registered(changed, "quick") == 0
    shelf.code.own = "b"
    assert registration.is_registered(toy(), "quick") == 0


def test_rounding_makes_no_trial(shelf):
    """Intervals that another order of sums gives are those registered, whose digits the verdict has."""
    registration.register(toy(tolerance=0.1))
    rounded = toy(tolerance=0.1 * (1 + 1e-12))
    assert registration.is_registered(rounded, "quick") == 1
    assert registration.is_registered(toy(tolerance=0.1001), "quick") == 0
    verdict = kept(shelf, rounded, "out")
    (stated,) = registration.registrations(rounded)[0]["scales"]["quick"]["expected"]
    assert (verdict["checks"][0]["low"], verdict["checks"][0]["high"]) == (stated["low"], stated["high"])


def test_a_result_that_was_seen_needs_a_fresh_key_and_a_reason(shelf):
    registration.register(toy())
    with pytest.raises(ValueError, match="claim: got T-1, which is registered as it is; nothing is to be done"):
        registration.register(toy(), "again")
    with pytest.raises(ValueError, match="reason: got ''; pass why T-1 is registered anew"):
        registration.register(toy(tolerance=0.2, key=2))
    with pytest.raises(ValueError, match="key: got 1 for T-1 at quick, which was used before; pass a fresh one"):
        registration.register(toy(tolerance=0.2), "the next order was wrong")
    assert registration.register(toy(tolerance=0.2, key=2), "the next order was wrong")["number"] == 2


def test_a_verdict_without_registration_is_replaced_for_a_reason(shelf):
    (shelf.folder / "verdicts").mkdir()
    (shelf.folder / "verdicts" / "T-1.quick.json").write_text("{}")
    with pytest.raises(ValueError, match="reason: got ''; pass why T-1, which has a verdict, is registered now"):
        registration.register(toy())
    assert registration.register(toy(), "its interval was a round number")["number"] == 1


def test_the_verdict_before_is_put_aside_with_the_reason(shelf):
    registration.register(toy(value=2.0))
    assert kept(shelf, toy(value=2.0), "first")["verdict"] == "does not hold"
    after = toy(value=1.0, key=2)
    registration.register(after, "the simulation had a factor of 2")
    assert kept(shelf, after, "second")["verdict"] == "holds"
    (before,) = verdicts.superseded(after)
    assert kept(shelf, after, "second") == verdicts.last_of(after)
    assert len(verdicts.superseded(after)) == 1
    assert (before["verdict"], before["superseded"]) == ("does not hold", "the simulation had a factor of 2")
    assert verdicts.last_of(after)["registration"] == 2


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        (
            [near("x", 1.0, 0.1, "taste", "y")],
            "basis: got 'taste' for 'x' of T-1; pass one of theory, error, trial, source, identity",
        ),
        ([near("x", 1.0, 0.1, "theory", " ")], "why: got ' ' for 'x' of T-1; pass how the interval was derived"),
        ([near("x", 1.0, 0.0, "theory", "y")], "interval: got 1 to 1 for 'x' of T-1; pass one with room"),
        ([above("x", 1.0, "theory", "y")] * 2, "expected: got two values of one name for T-1; pass a name for each"),
    ],
)
def test_an_interval_needs_room_and_a_reason(shelf, stated, said):
    with pytest.raises(ValueError, match=said):
        registration.register(toy()._replace(expected=lambda settings: stated))


def test_a_digest_follows_what_is_used_and_nothing_else(tmp_path, monkeypatch):
    """A change of a module counts where it is used; docstrings, comments and pictures do not."""
    for cached in (digest._tree, digest._used_by, digest._of_module):
        monkeypatch.setattr(digest, cached.__name__, cached.__wrapped__)
    monkeypatch.setattr(digest, "_SOURCE", tmp_path)
    files = {
        "__init__": "",
        "room/__init__": "from mutagrad.room.used import f\nfrom mutagrad.room.apart import h",
        "room/used": "def f():\n    return 1",
        "room/apart": "def h():\n    return 1",
        "lab/claims/own": "from mutagrad import room\n\ndef run():\n    return room.f()\n\n\ndef draw_it():\n    return 1",
    }

    def found(**changed):
        for name, text in (files | {key.replace("__", "/"): value for key, value in changed.items()}).items():
            path = tmp_path / f"{name}.py"
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_text(text)
        return digest.digest("mutagrad.lab.claims.own")

    plain = found()
    assert found(room__used="def f():\n    return 2") != plain
    assert found(room__apart="def h():\n    return 2") == plain
    assert found(room__used='def f():\n    """Words."""\n    # more\n\n    return 1') == plain
    own = files["lab/claims/own"]
    assert found(lab__claims__own=own.replace("return 1", "return 2")) == plain  # the picture
    assert found(lab__claims__own=own.replace("room.f()", "room.h()")) != plain


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("def draw(key):\n    return 1", "def draw(key):\n    return 2"),  # of random numbers, and no picture
        ("for x in y:\n    a(x)\n    b(x)", "for x in y:\n    a(x)\nb(x)"),
    ],
)
def test_a_digest_sees_what_draws_mutations_and_what_is_in_a_loop(tmp_path, monkeypatch, before, after):
    for cached in (digest._tree, digest._of_module):
        monkeypatch.setattr(digest, cached.__name__, cached.__wrapped__)
    monkeypatch.setattr(digest, "_SOURCE", tmp_path)
    found = []
    for text in (before, after):
        (tmp_path / "noise.py").write_text(text)
        found.append(digest.digest("mutagrad.noise", follow=False))
    assert found[0] != found[1]


def test_committed_verdicts_are_of_registrations_that_are_kept():
    """Every registered verdict has its registration, with the same settings and the very intervals that were stated."""
    registered = 0
    for (id, scale), verdict in verdicts.committed().items():
        (claim,) = reproduction.find(id)
        if not verdict.get("registration"):
            continue
        registered += 1
        one = next(one for one in registration.registrations(claim) if one["number"] == verdict["registration"])
        stated = one["scales"][scale]
        assert verdict["settings"] == {"scale": scale} | stated["settings"]
        intervals = {check["what"]: (check["low"], check["high"], check["is_ours"]) for check in verdict["checks"]}
        assert intervals == {item["what"]: (item["low"], item["high"], item["is_ours"]) for item in stated["expected"]}
        assert one["date"] <= verdict["date"]
        figure = page.FIGURES / f"{id}.{scale}.png"
        assert figure.stat().st_size < 100_000
    assert registered


def git(*words):
    done = subprocess.run(["git", *words], cwd=page.FIGURES.parents[1], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else None


def first_commit_with(path, text):
    """The oldest commit that brought a text into a file, merges too; "" where it is in no commit."""
    words = ("log", "--reverse", "--format=%H", "--full-history", "-m", f"-S{text}", "--", git_path(path))
    return next(iter((git(*words) or "").split()), "")


def git_path(path):
    return str(path.relative_to(page.FIGURES.parents[1]))


def test_registrations_were_committed_before_their_verdicts():
    """The commit that added a registration comes before the one that added its verdict, and it said then what it says now."""
    if git("rev-parse", "--is-shallow-repository") != "false\n":
        pytest.skip("there is no history here to read")
    for (id, scale), verdict in verdicts.committed().items():
        number, path = verdict.get("registration"), verdicts.FOLDER / f"{id}.{scale}.json"
        if not number or not git("ls-files", git_path(path)):
            continue  # a verdict that is not committed yet comes later still
        registered = registration.FOLDER / f"{id}.json"
        first = first_commit_with(registered, f'"number": {number},')
        second = first_commit_with(path, f'"registration": {number},')
        assert first, f"{id}: the registration is in no commit"
        if second:
            assert first != second, f"{id}: registered with its verdict"
            assert git("merge-base", "--is-ancestor", first, second) is not None, f"{id}: registered after its verdict"
        then, now = (
            next(one for one in json.loads(text) if one["number"] == number)
            for text in (git("show", f"{first}:{git_path(registered)}"), registered.read_text(encoding="utf-8"))
        )
        # What is stated may not be edited; the digest of its code may be told in another form.
        assert then | {"source": ""} == now | {"source": ""}, f"{id}: registration {number} was edited"


def test_the_page_shows_every_claim_and_stands_alone(tmp_path):
    page.write(tmp_path / "claims.html")
    text = (tmp_path / "claims.html").read_text(encoding="utf-8")
    for claim in reproduction.claims():
        assert f'<h3 id="{claim.id}">' in text
    assert "http" not in text.replace("http-equiv", "")
    assert text.count("data:image/png;base64") == len(list(page.FIGURES.glob("*.png")))


def test_numbers_of_a_page_are_those_of_the_verdict():
    verdict = json.loads((verdicts.FOLDER / "W26-4.quick.json").read_text(encoding="utf-8"))
    (claim,) = reproduction.find("W26-4")
    section = page._section(claim, page.FIGURES)
    for check in verdict["checks"]:
        assert words.number(check["value"]) in section


@pytest.mark.parametrize(
    ("change", "is_same"),
    [
        ({}, True),
        ({"value": 0.5 * (1 + 1e-9)}, True),
        ({"value": 0.5 + 2e-5}, True),
        ({"value": 0.5 + 2e-3}, False),
        ({"verdict": "undecided"}, False),
        ({"low": None}, False),
        ({"error": 0.06}, False),
    ],
)
def test_verdicts_that_differ_by_rounding_say_the_same(change, is_same):
    """Up to 10⁻⁶ of a number, or 10⁻³ of its standard error; a word, or a number that is another one, makes another verdict."""
    check = {"what": "a slope", "value": 0.5, "error": 0.05, "low": math.nan, "verdict": "holds", "is_ours": False}
    assert verdicts._agree([check], [check | change]) is is_same
    assert not verdicts._agree([check], [])
