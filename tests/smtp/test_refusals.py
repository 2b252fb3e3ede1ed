"""Every entry of ``refusals.toml``: a real server that is configured to refuse, and what the probe makes of it."""

import pytest
import refusals
from refusing import play, talking

from smtpprobe.vocabulary import REASONS, Outcome, StageOutcome

CASES = [case for case in refusals.cases() if case.played]
ENTRY = {"name", "server", "port", "config", "service", "acl", "authenticators", "backend"}
ENTRY |= {"ask", "expect", "egress", "bans"}


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
def test_refusal(case: refusals.Case) -> None:
    """Stage, reason, alternatives and owner are those of the entry, and so is what it says of our address."""
    assert set(case.entry) <= ENTRY
    with talking():
        result = play(case)
    story = (result.message, result.verdict, [(s.stage, s.outcome, s.reply, s.detail) for s in result.stages])
    expect = case.entry.get("expect")
    if expect is None:
        assert result.outcome is Outcome.PASSED, story
    else:
        assert result.outcome is Outcome.FAILED, story
        assert result.verdict is not None
        assert (result.stage, result.verdict.reason) == (expect["stage"], expect["reason"]), story
        others = {other.reason for other in result.verdict.alternatives}
        assert set(expect.get("alternatives", [])) <= others, story
        assert REASONS[result.verdict.reason].owner == expect.get("owner", REASONS[result.verdict.reason].owner), story
        failed = {known.stage for known in result.stages if known.outcome is StageOutcome.FAILED}
        assert failed == {result.stage}, story
    if "egress" in case.entry:
        assert f"{result.egress.status} {result.egress.reason}" == case.entry["egress"], story
