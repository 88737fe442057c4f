"""Every registered claim says "does not hold" of a wrong law, and does not say it of the right one, by the same code."""

import pytest
from twins_kucharavy2023 import TWINS as KUCHARAVY2023
from twins_sourbut2022 import TWINS as SOURBUT2022
from twins_whitelam2021 import TWINS as WHITELAM2021
from twins_whitelam2026 import TWINS as WHITELAM2026

from mutagrad.lab.claims import reproduction
from mutagrad.lab.claims.checks import compare
from mutagrad.lab.claims.claims import Job

pytestmark = pytest.mark.permissive

TWINS = [*WHITELAM2021, *WHITELAM2026, *KUCHARAVY2023, *SOURBUT2022]


def checks_of(claim, settings):
    return compare(claim.expected(settings), dict(claim.run(Job(settings)).found))


@pytest.mark.parametrize("twin", TWINS, ids=lambda twin: f"{twin.claim} {twin.wrong}")
def test_a_wrong_law_does_not_hold(twin, monkeypatch):
    (claim,) = reproduction.find(twin.claim)
    assert set(twin.small) <= set(claim.settings["quick"])
    settings = claim.settings["quick"] | twin.small
    # What does not hold of the right law either is a result, and another check.
    right = [check for check in checks_of(claim, settings) if check.what.startswith(twin.caught_by)]
    assert right
    assert not [check for check in right if check.verdict == "does not hold"]
    twin.make_wrong(monkeypatch)
    # What is stated of a wrong law is its own: intervals are derived anew where they come from theory.
    wrong = checks_of(claim, settings)
    assert [check for check in wrong if check.what.startswith(twin.caught_by) and check.verdict == "does not hold"]


def test_every_claim_has_a_twin():
    every = {claim.id for claim in reproduction.claims()}
    assert every == {twin.claim for twin in TWINS}
