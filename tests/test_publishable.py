"""License, citation and package metadata say the same."""

import hashlib
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
STANDARD_TEXT = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
"""SHA-256 of the Apache License 2.0 as its authors publish it."""


def test_the_license_is_the_standard_text_with_its_owner():
    text = (ROOT / "LICENSE").read_text()
    owner = re.search(r"Copyright (\d{4}) (The mutagrad authors)\n", text)
    assert owner
    assert owner[2] == PROJECT["authors"][0]["name"]
    blank = text.replace(owner[0], "Copyright [yyyy] [name of copyright owner]\n")
    assert hashlib.sha256(blank.encode()).hexdigest() == STANDARD_TEXT
    assert PROJECT["license"] == "Apache-2.0"
    assert PROJECT["license-files"] == ["LICENSE"]


def test_the_citation_is_of_this_version():
    text = (ROOT / "CITATION.cff").read_text()
    fields = dict(re.findall(r"^([\w-]+): (\S.*)$", text, re.MULTILINE))
    assert fields["title"] == PROJECT["name"]
    assert fields["version"] == PROJECT["version"]
    assert fields["license"] == PROJECT["license"]
    assert f"- name: {PROJECT['authors'][0]['name']}\n" in text
