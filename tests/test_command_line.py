"""The short form of verification/command_line.py: random command lines end with a known status and a line at most."""

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from verification import command_line

pytestmark = pytest.mark.permissive  # the networks have JAX's default promotion


def test_random_command_lines_end_as_they_should():
    rows, failures = command_line.run(number=40, seed=7)
    assert failures == {}
    assert [row[0] for row in rows] == ["train", "inspect", "replay", "reproduce", "claims", "none, or another"]
    # Something of everything is met.
    met = [sum(int(row[2 + place]) for row in rows) for place in range(len(command_line.STATUSES))]
    assert all(met)


def test_the_check_sees_what_is_wrong(monkeypatch):
    """A traceback, a hang, two lines, none, and a status that nobody knows."""
    generator = random.Random(0)

    def ends(what, words):
        monkeypatch.setattr(command_line.cli, "main", what)
        assert words in command_line.outcome(generator, [])[1]

    def raises(arguments):
        raise TypeError("this\nand that")

    def hangs(arguments):
        raise command_line.Hang

    def says(*lines, status=2):
        return lambda arguments: [print(line, file=sys.stderr) for line in lines] and status

    ends(raises, "TypeError: this and that (")
    ends(hangs, "no end in 10 s")
    ends(says("mutagrad train: a", "mutagrad train: b"), "2 lines of complaint")
    ends(says("a"), "refused without a line")
    ends(says("Traceback (most recent call last)", "mutagrad train: a"), "a traceback")
    ends(says("a", status=3), "status 3")
    monkeypatch.setattr(command_line.cli, "main", says("mutagrad train: a"))
    assert command_line.outcome(generator, []) == (2, "")
