"""What a pod's first seconds may have spoilt, and what a second look makes of it."""

import datetime as dt

import pytest

from smtpprobe.memory import experiments_after, known_for
from smtpprobe.model import Experiment, ProbeResult, Verdict
from smtpprobe.settling import address_again, address_seen, flapped, lasted, may_lack_network, network_again
from smtpprobe.vocabulary import Outcome, Reason

AT = dt.datetime(2026, 11, 22, 12, 0, tzinfo=dt.UTC)
DENIED, BLOCKED = Reason.EGRESS_IP_NOT_AUTHORIZED, Reason.EGRESS_IP_BLOCKLISTED


@pytest.mark.parametrize(
    "rule, may",
    [
        ("transport:dns-servfail", True),
        ("transport:connect-refused", True),
        ("transport:connect-prohibited", True),
        ("transport:dns-no-such-name", False),
        ("transport:connect-timeout", False),
    ],
)
def test_no_network_is_said_at_once(rule: str, may: bool) -> None:
    """A name that does not exist was answered by a network, and silence outlasts the first seconds by itself."""
    assert may_lack_network(Verdict(reason=Reason.DNS_FAILURE, rule=rule)) is may


@pytest.mark.parametrize(
    "second, answer, words",
    [
        (None, "worked", "at first: no way; 5 s after the start: it works"),
        (Reason.CONNECT_REFUSED, "same", "the same"),
        (Reason.CONNECT_TIMEOUT, "other", "ConnectTimeout"),
    ],
)
def test_second_try_of_the_network(second: Reason | None, answer: str, words: str) -> None:
    """The experiment says what was at first, and what a few seconds later."""
    one = network_again(Reason.CONNECT_REFUSED, second, "no way", 5.0)
    assert (one.answer, one.reason) == (answer, Reason.CONNECT_REFUSED)
    assert words in one.showed


@pytest.mark.parametrize(
    "second, before, after, answer",
    [
        (None, "203.0.113.7", None, "accepted"),
        (DENIED, "203.0.113.7", "203.0.113.7", "refused"),
        (DENIED, None, "203.0.113.7", "refused"),
        (DENIED, "203.0.113.7", "203.0.113.8", "moved"),
        (BLOCKED, "203.0.113.7", "203.0.113.8", "other"),
    ],
)
def test_second_look_at_a_refusal(second: Reason | None, before: str | None, after: str | None, answer: str) -> None:
    """Only two addresses in the server's own words are two addresses; another reason decides nothing."""
    assert address_again(DENIED, second, before, after) == answer


def test_address_in_the_servers_words() -> None:
    """The last EHLO reply counts before the refusal; a balancer's internal address is not ours."""
    ehlo = ["mx.corp.test Hello shop.example.com [203.0.113.7]"]
    refusal = "554 5.7.1 <unknown[203.0.113.8]>: Client host rejected"
    assert address_seen(ehlo, refusal, "shop.example.com", "198.51.100.5") == "203.0.113.7"
    assert address_seen(["mx.corp.test"], refusal, "shop.example.com", "198.51.100.5") == "203.0.113.8"
    assert address_seen(["mx.corp.test Hello [10.1.2.3]"], "", "shop.example.com", "8.8.8.8") is None


@pytest.mark.parametrize(
    "answer, flaps, stands", [("accepted", True, False), ("moved", True, True), ("refused", False, True)]
)
def test_what_is_reported_and_what_counts(answer: str, flaps: bool, stands: bool) -> None:
    """Two addresses are a flap; only a refusal that was taken back does not count."""
    made = (Experiment(name="address-again", showed="x", answer=answer),)
    assert (flapped(made), lasted(made)) == (flaps, stands)


@pytest.mark.parametrize(
    "name, answer, kept",
    [
        ("address-again", "refused", True),
        ("address-again", "accepted", False),
        ("address-again", "moved", False),
        ("network-again", "same", True),
        ("network-again", "worked", False),
    ],
)
def test_each_pod_has_first_seconds_of_its_own(name: str, answer: str, kept: bool) -> None:
    """What lasted is remembered and not asked again; what passed was this pod's, and the next one asks for itself."""
    one = Experiment(name=name, showed="x", answer=answer, reason=DENIED)
    result = ProbeResult(outcome=Outcome.FAILED, started_at=AT, finished_at=AT, experiments=(one,))
    assert bool(known_for(experiments_after((), result, "digest", AT), "digest")) is kept
