"""The table of tiers names tests, and pages of docs, that exist."""

import ast
from pathlib import Path

import pytest
from tiers import KEPT


@pytest.mark.parametrize("test", sorted(KEPT))
def test_every_entry_is_a_test(test):
    file, name = test.split("::")
    if file.startswith("docs/"):
        assert (Path(__file__).parents[1] / file).name == name
        assert (Path(__file__).parents[1] / file).is_file()
        return
    nodes = ast.walk(ast.parse((Path(__file__).parent / file).read_text()))
    assert [node.name for node in nodes if isinstance(node, ast.FunctionDef) and node.name == name] == [name]
