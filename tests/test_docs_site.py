"""The site's sources: every public name is in the reference, every page in the contents, and no page is without an example."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS / "_ext"))

import laws  # noqa: E402
import needs  # noqa: E402
import reference  # noqa: E402

PAGES = sorted(
    path.relative_to(DOCS).as_posix()
    for path in DOCS.rglob("*.md")
    if not path.relative_to(DOCS).as_posix().startswith(("_", ".")) and path != DOCS / "README.md"
)
TOCTREE = re.compile(r"```\{toctree\}\n(.*?)```", re.DOTALL)
GENERATED = {"claims/index.md", "results/index.md", "project/contributing.md", "project/changelog.md"}
"""Pages that docs/_ext/stage.py makes."""
ELSEWHERE = ("gallery/", "run_page.md", "trackers.md")
"""Pages of others, which are shown where they are there."""


def in_contents(page: str = "index.md") -> set[str]:
    """Pages that can be reached from the root by tables of contents."""
    found = {page}
    for block in TOCTREE.findall((DOCS / page).read_text()):
        for line in block.splitlines():
            if line.strip() and not line.startswith(":"):
                child = (Path(page).parent / f"{line.strip()}.md").as_posix()
                found |= in_contents(child) if (DOCS / child).exists() else {child}
    return found


def test_every_public_name_is_in_the_reference():
    assert not reference.missing(sorted((DOCS / "reference").glob("*.md")))


def test_a_missing_name_is_seen(tmp_path):
    text = (DOCS / "reference" / "theory.md").read_text().replace("\ndrift\n", "\ndrifft\n")
    (tmp_path / "theory.md").write_text(text)
    faults = reference.missing([tmp_path / "theory.md"])
    assert "mutagrad.theory.drift is in no page of the reference" in faults
    assert "mutagrad.theory.drifft is listed, and not public" in faults


def test_every_page_is_in_a_table_of_contents():
    reached = in_contents()
    assert not {page for page in PAGES if not page.startswith(ELSEWHERE)} - reached
    assert {page for page in reached - set(PAGES) if not page.startswith(ELSEWHERE)} == GENERATED


def test_every_page_is_in_the_index_that_github_shows():
    text = (DOCS / "README.md").read_text()
    linked = set(re.findall(r"\]\(([^)#]+\.md)", text))
    wanted = {page for page in PAGES if not page.startswith(ELSEWHERE)} - {"index.md"}
    assert not wanted - linked
    assert not {page for page in linked if not (DOCS / page).exists()}


@pytest.mark.parametrize("page", PAGES)
def test_no_page_is_without_an_example(page):
    text = (DOCS / page).read_text()
    blocks = re.findall(r"^ *```(.*)\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    is_command = re.search(r"`(mutagrad|python -m|make|pip) [^`]+`", text)
    assert is_command or any(not kind.startswith("{toctree}") for kind, _ in blocks)


def test_every_law_that_a_claim_tests_is_on_the_page_of_theory():
    from mutagrad.lab.claims.reproduction import claims

    sections = set(re.findall(r"^### (\d+\.\d+) ", (DOCS / "theory.md").read_text(), re.MULTILINE))
    assert not set(laws.LAWS) - sections
    assert {name for names in laws.LAWS.values() for name in names} <= {claim.id for claim in claims()}


def test_docstrings_become_restructured_text():
    made = reference.as_rest(
        [
            "Slope |∇U| of `elitist` at c_M.",
            "",
            "Parameters",
            "----------",
            "sigma, key : σ > 0; see ``x``.",
            "    More.",
            "",
            ">>> 1",
            "1",
        ],
        {"elitist": "mutagrad.elitist"},
        "mutagrad",
    )
    assert made[0] == r"Slope \|∇U\| of :py:obj:`elitist <mutagrad.elitist>` at c\_M."
    assert "``sigma``, ``key``" in made
    assert "    σ > 0; see ``x``." in made
    assert "    More." in made
    assert "   >>> 1" in made


def test_pages_that_need_what_is_not_here_are_left_out(tmp_path, monkeypatch):
    """And what is left of the link to one says what it needs."""
    monkeypatch.setenv("MUTAGRAD_DATA", str(tmp_path))
    for name, need in {"a": "no_such_module", "b": "mnist", "c": "json"}.items():
        (tmp_path / f"{name}.md").write_text(f"---\nneeds: {need}\nkernelspec:\n  name: python3\n---\n\n# {name}\n")
    (tmp_path / "d.md").write_text("# d\n\nneeds: no_such_module\n")
    absent = needs.absent_in(tmp_path)
    assert absent == {"a.md": "no_such_module", "b.md": "MNIST in $MUTAGRAD_DATA"}
    text = needs.unlinked("- [A](../gallery/a.md)\n- [C](c.md)", absent)
    assert text == "- A (not made here: it needs no_such_module)\n- [C](c.md)"
    (tmp_path / "train-images-idx3-ubyte.gz").touch()
    assert "b.md" not in needs.absent_in(tmp_path)
