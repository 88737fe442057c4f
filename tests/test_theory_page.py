"""docs/theory.md keeps its promises: cited tests exist, sections that the code cites exist, sources are in the bibliography."""

import ast
import re
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "theory.md").read_text()
SOURCES = sorted((ROOT / "src").rglob("*.py"))
NUM_SECTIONS = 11
FIELDS = ("Derivation", "Domain", "Source", "Test")


def sections(page):
    """The numbers of the page's sections, in order."""
    return [int(number) for number in re.findall(r"^## (\d+)\. ", page, re.MULTILINE)]


def laws(page):
    """The text of every law under its number, such as "3.2"."""
    parts = re.split(r"^### (\d+\.\d+) ", page.split("\n## Bibliography")[0], flags=re.MULTILINE)[1:]
    return {number: text.split("\n## ")[0] for number, text in zip(parts[::2], parts[1::2], strict=True)}


def cited_tests(text):
    """(path, function) of every test that a text names; the function is empty where a file is named."""
    return re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text)


@lru_cache
def functions_of(path):
    """Names of the test functions of a file, or ``None`` if there is no such file."""
    file = ROOT / path
    if not file.exists():
        return None
    return {node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef)}


def missing_tests(text):
    """Tests that a text names and that do not exist."""
    return [
        f"{path}::{name}"
        for path, name in cited_tests(text)
        if (known := functions_of(path)) is None or (name and (name not in known or not name.startswith("test_")))
    ]


def citations(code):
    """The sections and laws that a text cites as "theory.md 3, 4.1 and 8"; ``None`` without a number, unless it names docs/."""
    joined = re.sub(r"\s*\n\s*#?\s*", " ", code)
    found = []
    for match in re.finditer(r"(docs/)?theory\.md((?:(?:,| and)? ?\b\d+(?:\.\d+)?\b)*)", joined):
        numbers = [number if "." in number else int(number) for number in re.findall(r"\d+(?:\.\d+)?", match[2])]
        found += numbers or ([] if match[1] else [None])
    return found


def keys(text):
    """Keys of sources, such as [W21]."""
    return set(re.findall(r"\[([A-Z][A-Za-z]{0,3}\d{2})\]", text))


def test_sections_are_those_that_the_code_counts():
    assert sections(PAGE) == list(range(1, NUM_SECTIONS + 1))


def test_laws_are_numbered_within_their_sections():
    numbers = [tuple(map(int, number.split("."))) for number in laws(PAGE)]
    expected = [
        (section, law) for section in sections(PAGE) for law in range(1, 1 + sum(n[0] == section for n in numbers))
    ]
    assert numbers == expected
    assert {section for section, _ in numbers} == set(range(1, NUM_SECTIONS + 1))


@pytest.mark.parametrize("number", laws(PAGE))
def test_every_law_has_its_parts(number):
    """A derivation, a domain and a source of its own, and a test that exists."""
    text = laws(PAGE)[number]
    missing = [field for field in FIELDS if not re.search(rf"^- {field}: \S", text, re.MULTILINE)]
    assert not missing
    after = text.split("\n- Test: ")[1]
    assert cited_tests(after), f"{number} names no test"
    # Every path in it is one that the pattern reads.
    assert len(cited_tests(after)) == after.count("tests/")
    assert all(name for _, name in cited_tests(after)), f"{number} names a file and no function"
    assert missing_tests(text) == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_the_code_cites_sections_that_exist(path):
    known = [*sections(PAGE), *laws(PAGE)]
    unknown = [number for number in citations(path.read_text()) if number not in known]
    assert not unknown, f"{path.name} cites theory.md {unknown}"


def test_the_code_cites_the_page():
    """The pattern finds what is there: dozens of citations, of the sections 1 to 6 and 8 to 10 at least."""
    found = [number for path in SOURCES for number in citations(path.read_text())]
    assert len(found) > 50
    assert set(range(1, 6)) | {6, 8, 9, 10, "3.10", "6.6", "11.1"} <= set(found)


def test_sources_are_in_the_bibliography():
    body, bibliography = PAGE.split("\n## Bibliography")
    entries = re.findall(r"^- \*\*\[(\w+)\]\*\* ", bibliography, re.MULTILINE)
    assert entries == sorted(set(entries), key=str)
    code = "".join(path.read_text() for path in SOURCES)
    assert keys(body) | keys(code) <= set(entries)
    assert set(entries) <= keys(body) | keys(code)


def test_the_checks_see_what_is_wrong():
    assert missing_tests("`tests/test_drift.py::test_moments`") == []
    assert missing_tests("`tests/test_drift.py::test_no_such_law`") == ["tests/test_drift.py::test_no_such_law"]
    assert missing_tests("`tests/test_drift.py::build_metropolis`") == ["tests/test_drift.py::build_metropolis"]
    assert missing_tests("`tests/no_such_file.py::test_moments`") == ["tests/no_such_file.py::test_moments"]
    assert citations("(theory.md 3, 4 and 8); theory.md 12, derived in 2005") == [3, 4, 8, 12]
    assert citations("# of theory.md 3\n    # and 4: the rest 5") == [3, 4]
    assert citations("theory.md has no number; theory.md 3 (M = 1)") == [None, 3]
    assert citations("theory.md 4. The estimator; docs/theory.md has laws; docs/theory.md 9") == [4, 9]
    assert citations("theory.md 3.10 and 4; docs/theory.md 4.2. The rest") == ["3.10", 4, "4.2"]
    assert laws("## 1. A\n### 1.1 B\nx\n## 2. C\n### 2.1 D\ny\n## Bibliography\n") == {"1.1": "B\nx", "2.1": "D\ny"}
    assert keys("[W21] eq. 3, [Hu90] and x[10], [lab]") == {"W21", "Hu90"}
