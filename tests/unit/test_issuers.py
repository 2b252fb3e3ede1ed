"""The issuers of one host's certificates over runs and nodes: a middlebox is suspected, a renewal is not."""

from datetime import timedelta

import msgspec
import pytest
from hypothesis import given, settings, strategies as st
from runs_made import NOON, finished, passed, refused, spec

from smtpprobe.issuers import KEPT, KEPT_NODES, compare, name_of
from smtpprobe.model import Certificate, ProbeResult, TlsFacts
from smtpprobe.resource import Status, decode_status, encode_status
from smtpprobe.status import fold
from smtpprobe.trim import size
from smtpprobe.vocabulary import ConditionType, Note, Outcome, Reason, Stage

SPEC = spec()
PUBLIC = "CN=R11,O=Let's Encrypt,C=US"
RENEWED = "CN=E5,O=Let's Encrypt,C=US"
OTHER_PUBLIC = "CN=DigiCert TLS RSA 2020,O=DigiCert Inc,C=US"
BOX = "CN=Corp Proxy CA,O=Corp\\, Ltd.,C=KR"
BOX_AGAIN = "CN=Corp Proxy CA 2,O=CORP Ltd,C=KR"


def seen(issuer: str, minute: int, error: Reason | None = None, of=SPEC) -> ProbeResult:
    at = NOON + timedelta(minutes=minute)
    result = passed(of, at) if error is None else refused(of, error, Stage.TLS, at, code=None)
    leaf = Certificate(
        subject="CN=smtp.example.com",
        issuer=issuer,
        not_before=NOON - timedelta(days=9),
        not_after=NOON + timedelta(days=60),
        sha256=f"{minute:064x}",
    )
    facts = TlsFacts(
        protocol="TLSv1.3", verified=error is None, chain=(leaf,), errors=() if error is None else (error,)
    )
    return msgspec.structs.replace(result, tls=facts)


def story(*runs, of=SPEC, status: Status = Status()) -> Status:  # noqa: B008
    """Fold runs: (node, issuer, error), ten minutes apart."""
    begin = len(status.history)
    for number, (node, issuer, error) in enumerate(runs, begin):
        end = finished(of, seen(issuer, 10 * number, error, of), f"slot:{1 + number}", node=node)
        status = fold(status, of, generation=1, finished=end, now=end.result.finished_at)
    return decode_status(encode_status(status))


def suspected(status: Status) -> bool:
    (location,) = status.locations
    noted = Note.MIDDLEBOX_SUSPECTED in ((location.evidence or {}).get("notes") or ())
    found = compare(status.certificates)
    assert noted is (found is not None and found.suspected)
    return noted


def message(status: Status) -> str:
    return next(known.message for known in status.conditions if known.type is ConditionType.READY)


BAD = Reason.CERTIFICATE_INVALID
STORIES = {
    "a certificate that is not trusted where another node's was": (
        [("node-a", PUBLIC, None), ("node-b", BOX, BAD)],
        True,
    ),
    "one that is not trusted where it was on the same node": ([("node-a", PUBLIC, None), ("node-a", BOX, BAD)], True),
    "nodes in turns, A-B-A-B, at the end of B": (
        [("node-a", PUBLIC, None), ("node-b", BOX, BAD)] * 2,
        True,
    ),
    "nodes in turns, at the end of A: its own path is good": (
        [("node-a", PUBLIC, None), ("node-b", BOX, BAD), ("node-a", PUBLIC, None)],
        False,
    ),
    "nodes in turns, both trusted: the place decides": (
        [("node-a", PUBLIC, None), ("node-b", BOX, None)] * 2,
        True,
    ),
    "nodes in turns, both trusted, too few runs": (
        [("node-a", PUBLIC, None), ("node-b", BOX, None), ("node-a", PUBLIC, None)],
        False,
    ),
    "both trusted, but once each: a server may have changed": (
        [("node-a", PUBLIC, None), ("node-b", OTHER_PUBLIC, None)],
        False,
    ),
    "two servers behind one name, seen from every node": (
        [(node, issuer, None) for node in ("node-a", "node-b") for issuer in (PUBLIC, OTHER_PUBLIC)] * 2,
        False,
    ),
    "a renewal by the same authority": ([("node-a", PUBLIC, None), ("node-b", RENEWED, None)] * 2, False),
    "the same authority, written otherwise": ([("node-a", BOX, None), ("node-b", BOX_AGAIN, None)] * 2, False),
    "a renewal that its server does not send whole": ([("node-a", PUBLIC, None), ("node-a", RENEWED, BAD)], False),
    "another public authority that is trusted": ([("node-a", PUBLIC, None), ("node-a", OTHER_PUBLIC, None)], False),
    "expired under another authority": (
        [("node-a", PUBLIC, None), ("node-a", OTHER_PUBLIC, Reason.CERTIFICATE_EXPIRED)],
        False,
    ),
    "never trusted: a private authority": ([("node-a", BOX, BAD), ("node-b", BOX, BAD)] * 2, False),
    "never trusted, but other certificates in turns": (
        [("node-a", BOX, BAD), ("node-b", "CN=mx", BAD), ("node-a", BOX, BAD), ("node-b", "CN=mx", BAD)],
        True,
    ),
    "one run": ([("node-a", BOX, BAD)], False),
}


@pytest.mark.parametrize("name", STORIES)
def test_a_middlebox_is_suspected_where_the_issuers_say_so(name):
    """The note stands exactly where the story of issuers and nodes suggests that something opens TLS."""
    runs, expected = STORIES[name]
    assert suspected(story(*runs)) is expected


def test_the_message_names_both_issuers_the_node_and_the_other_explanation():
    """Ready says whose certificate was shown, which node had whose, when, and what else it can be."""
    status = story(("node-a", PUBLIC, None), ("node-b", BOX, BAD))
    for words in ("Corp Proxy CA", "R11, Let's Encrypt", "node node-a", "2026-11-22 12:00 UTC", "may open TLS", "else"):
        assert words in message(status)
    assert status.advice is not None
    assert "Corp Proxy CA" in status.advice.text
    assert "TLS inspection" in status.advice.text
    korean = compare(status.certificates, "ko")
    assert korean is not None
    for words in ("Corp Proxy CA", "R11, Let's Encrypt", "노드 node-a", "2026-11-22 12:00 UTC"):
        assert words in korean.text


def test_a_changed_authority_that_is_trusted_is_told_without_a_note():
    """The comparison names both, for the report; the message for kubectl stays as it was."""
    status = story(("node-a", PUBLIC, None), ("node-a", OTHER_PUBLIC, None))
    found = compare(status.certificates)
    assert found is not None
    assert "DigiCert" in found.text
    assert "Let's Encrypt" in found.text
    assert "DigiCert" not in message(status)


def test_another_spec_begins_anew():
    """Certificates of an earlier spec, perhaps of another host, say nothing about this one."""
    other = spec(host="smtp2.example.com")
    status = story(("node-a", PUBLIC, None))
    status = story(("node-b", BOX, BAD), of=other, status=status)
    assert not suspected(status)
    assert [one.issuer for one in status.certificates] == [BOX]


def test_a_session_without_a_certificate_changes_nothing():
    """A closed port and a reset handshake leave what is known, and no note."""
    status = story(("node-a", PUBLIC, None))
    closed = refused(SPEC, Reason.CONNECT_REFUSED, Stage.CONNECT, NOON + timedelta(minutes=50), code=None)
    after = fold(status, SPEC, generation=1, finished=finished(SPEC, closed, "slot:9"), now=closed.finished_at)
    assert after.certificates == status.certificates
    wanted = seen(BOX, 50, Reason.CLIENT_CERTIFICATE_REQUIRED)
    after = fold(status, SPEC, generation=1, finished=finished(SPEC, wanted, "slot:9"), now=wanted.finished_at)
    assert after.certificates == status.certificates


@given(
    st.lists(
        st.tuples(
            st.sampled_from([f"node-{n}" for n in range(12)]),
            st.sampled_from([PUBLIC, RENEWED, OTHER_PUBLIC, BOX, "CN=a", "CN=" + "x" * 197, ""]),
            st.sampled_from([None, BAD, Reason.CERTIFICATE_EXPIRED]),
        ),
        max_size=14,
    )
)
@settings(max_examples=60, deadline=None)
def test_what_is_remembered_is_bounded_whatever_comes(runs):
    """At most four certificates of eight nodes each, under 4 KiB, newest first, and no story breaks the fold."""
    status = story(*runs)
    assert len(status.certificates) <= KEPT
    assert all(len(one.nodes) <= KEPT_NODES for one in status.certificates)
    assert size(Status(certificates=status.certificates)) < 4096
    times = [one.last_seen for one in status.certificates]
    assert times == sorted(times, reverse=True)
    if runs:
        assert len(message(status)) < 700
        suspected(status)
        assert status.locations[0].outcome is (Outcome.PASSED if runs[-1][2] is None else Outcome.FAILED)


@pytest.mark.parametrize(
    ("issuer", "name"),
    [
        (PUBLIC, "R11, Let's Encrypt"),
        (BOX, "Corp Proxy CA, Corp\\, Ltd."),
        ("CN=localhost", "localhost"),
        ("O=Example,CN=Example", "Example"),
        ("1.2.3=x", "1.2.3=x"),
        ("CN=" + "x" * 90, "x" * 37 + "..."),
    ],
)
def test_an_issuer_is_called_as_people_call_it(issuer, name):
    """Common name and organisation, at most 40 characters."""
    assert name_of(issuer) == name
