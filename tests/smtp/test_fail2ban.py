"""fail2ban's stock filters over real servers' logs: production's address is never barred because of a probe."""

import asyncio
import concurrent.futures
from collections import Counter

import msgspec
import procs
import pytest
from ban_clock import half_lost, lost, most_runs, no, wrong_password
from jails import BAN_AT, STOCK, STRICT, Logs
from refusals import Case, cases
from refusing import asked, play, talking
from runs_made import login_spec, spec

from smtpprobe.credentials import Credentials
from smtpprobe.probing import probe
from smtpprobe.vocabulary import Mode, Outcome

ENVELOPE = {"from": "app@corp.test", "to": ["somebody@outside.test"]}
UIDS = [f"uid-{number}" for number in range(6)]  # each has its own place in the half hour


@pytest.fixture(scope="module")
def logs() -> Logs:
    """One session of each case, experiments and all, and the ends of all of them in the logs."""
    with talking(alone=True):
        made = Logs()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(play, made.cases))
        procs.wait("a session of each case", lambda: all(made.sessions(case) for case in made.cases), seconds=60)
        made.settle()
        return made.kept()


def bans(case: Case) -> list[int]:
    """How many matches its session may have."""
    given = case.entry.get("bans", 0)
    return given if isinstance(given, list) else [given]


def worst(logs: Logs, server: str, jails: dict[str, tuple[str, ...]]) -> Counter[str]:
    """The matches of each case in the jail that counts most of them."""
    found: Counter[str] = Counter()
    for jail in jails[server]:
        found |= logs.matches(server, jail)
    return found


@pytest.mark.parametrize("server", STOCK)
def test_what_each_session_counts_for(server: str, logs: Logs) -> None:
    """A passing session matches no stock filter; a refused one as often as its entry says, so the filters do work."""
    found = worst(logs, server, STOCK)
    for case in (known for known in logs.cases if known.server == server):
        assert found[case.name] in bans(case), (case.name, found[case.name], logs.lines(case))
        assert bans(case) == [0] or "expect" in case.entry


@pytest.mark.parametrize("server", STRICT)
def test_the_strictest_mode_has_nothing_against_a_session_that_passes(server: str, logs: Logs) -> None:
    """Also in mode aggressive a passing session matches nothing, and a refused one at most twice."""
    found = worst(logs, server, STRICT)
    for case in (known for known in logs.cases if known.server == server):
        most = 2 if "expect" in case.entry else 0
        assert found[case.name] <= most, (case.name, logs.lines(case))


@pytest.mark.parametrize(("password", "most"), [("correct-horse-battery", 0), ("wrong-horse", 1)])
def test_mode_auto_counts_for_no_more_than_its_one_login(password: str, most: int) -> None:
    """All looks of discovery at a host's ports match nothing; with a wrong password its one login counts once."""
    request, _ = asked(next(case for case in cases() if case.name == "postfix-587"))
    request = msgspec.structs.replace(request, mode=Mode.AUTO, port=0)
    with talking(alone=True):
        logs = Logs()
        result = asyncio.run(probe(request, Credentials("sender@corp.test", password)))
        logs.settle()
        found = worst(logs, "postfix", STOCK)
    assert result.discovery is not None
    assert {port.port for port in result.discovery.ports} >= {25, 465, 587}
    assert (result.outcome is Outcome.PASSED) == (most == 0), result.message
    assert found.total() == most


def test_no_ban_at_half_an_hour(logs: Logs) -> None:
    """Matches of a session times the runs that the schedule can put into ten minutes stay under five: after the
    server's no, after wrong passwords, when every pod is lost and when every second is."""
    refusals = max(max(bans(case)) for case in logs.cases)
    logins = max(max(bans(case)) for case in logs.cases if "password" in case.entry["ask"])
    assert (refusals, logins) == (2, 1)
    for uid in UIDS:
        for ending in (no, lost, half_lost):
            assert refusals * most_runs(spec(envelope=ENVELOPE), ending, uid=uid) < BAN_AT, (ending, uid)
        for ending in (wrong_password, lost, half_lost):
            assert logins * most_runs(login_spec(), ending, uid=uid) < BAN_AT, (ending, uid)


def test_the_reckoning_would_see_a_ban() -> None:
    """Every five minutes, the least that is allowed, the same reckoning finds more runs than at half an hour."""
    often = spec(envelope=ENVELOPE, schedule={"interval": "5m"})
    assert max(most_runs(often, no, uid=uid) for uid in UIDS) > max(
        most_runs(spec(envelope=ENVELOPE), no, uid=uid) for uid in UIDS
    )
