"""What a status keeps of mode auto: once for each generation, straight there afterwards, never to a lower mode."""

from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from runs_made import NOON, error, finished, login_spec, passed, refused, spec

from smtpprobe.conditions import judge
from smtpprobe.discovery import PORTS
from smtpprobe.found import as_found, looks, tls_seen, to_run
from smtpprobe.model import Certificate, Discovery, Features, PortFinding, ProbeResult, TlsFacts
from smtpprobe.report import from_status
from smtpprobe.resource import Spec, Status, decode_status, encode_status
from smtpprobe.spec import effective_depth, to_request
from smtpprobe.status import fold, limit, refold
from smtpprobe.trim import STATUS_LIMIT, size
from smtpprobe.vocabulary import ConditionType, Depth, Mode, Note, Reason, Stage

AUTO = spec(port=None, mode="auto")
WITH_LOGIN = login_spec(port=None, mode="auto")
STARTTLS = PortFinding(
    port=587,
    mode=Mode.STARTTLS,
    features=Features(before_tls=("STARTTLS",), after_tls=("AUTH PLAIN LOGIN", "SIZE 100")),
    tls=TlsFacts(
        protocol="TLSv1.3",
        verified=True,
        chain=(Certificate(subject="CN=a", issuer="CN=ca", not_before=NOON, not_after=NOON + timedelta(days=30)),),
    ),
)
NEW = Status()
CLOSED = PortFinding(port=465, reason=Reason.CONNECT_REFUSED, stage=Stage.CONNECT, detail="the port is closed")


def found(of: Spec, *ports: PortFinding, port: int | None = 587, mode: Mode | None = Mode.STARTTLS) -> ProbeResult:
    """A run of mode auto that passed on what it found."""
    used = msgspec.structs.replace(of, port=port or 587, mode=mode or Mode.STARTTLS)
    result = passed(used, ip="203.0.113.7")
    return msgspec.structs.replace(result, discovery=Discovery(port=port, mode=mode, why="it is good", ports=ports))


def after(of: Spec, result: ProbeResult, status: Status = NEW, *, generation: int = 1, at: datetime = NOON) -> Status:
    run = finished(of, result, f"slot:{int(at.timestamp())}", generation=generation)
    result = msgspec.structs.replace(result, finished_at=at, started_at=at - timedelta(seconds=3))
    run = msgspec.structs.replace(run, result=result)
    return fold(status, of, generation=generation, finished=run, now=at)


def request_of(of: Spec, status: Status, generation: int) -> Any:
    asked = to_run(of, status, generation)
    seen = tls_seen(of, status)
    return to_request(asked, default_helo=None, credentials_dir="/c", ca_file=None, refused=None, tls_seen=seen)


def test_the_first_run_looks_and_later_ones_go_straight() -> None:
    """Before anything is known the request leaves port and mode open; afterwards it names what was found."""
    first = request_of(AUTO, Status(), 1)
    assert (first.port, first.mode, first.tls_seen) == (0, Mode.AUTO, ())
    assert looks(AUTO, Status(), 1)
    status = after(AUTO, found(AUTO, STARTTLS, CLOSED))
    later = request_of(AUTO, status, 1)
    assert (later.port, later.mode, later.tls_seen) == (587, Mode.STARTTLS, (587,))
    assert not looks(AUTO, status, 1)


def test_a_new_generation_looks_again_and_remembers_where_tls_was() -> None:
    """Another generation, whatever has changed, leaves port and mode open again, with the ports that offered TLS."""
    status = after(AUTO, found(AUTO, STARTTLS, CLOSED))
    again = request_of(AUTO, status, 2)
    assert (again.port, again.mode, again.tls_seen) == (0, Mode.AUTO, (587,))
    other = spec(port=None, mode="auto", host="other.example.com")
    assert request_of(other, status, 2).tls_seen == ()


def test_the_status_shows_what_was_found_and_the_answer_is_judged_by_it() -> None:
    """status.discovery has port, mode, reason and every port in short; conditions, message and report speak of it."""
    status = after(WITH_LOGIN, found(WITH_LOGIN, STARTTLS, CLOSED))
    known = status.discovery
    assert known is not None
    assert (known.port, known.mode, known.generation, known.why) == (587, "starttls", 1, "it is good")
    assert [(port.port, port.mode, port.reason, port.auth) for port in known.ports] == [
        (587, "starttls", None, "PLAIN LOGIN"),
        (465, None, "ConnectRefused", None),
    ]
    assert (known.ports[0].tls, known.ports[0].issuer, known.ports[0].not_after) == (
        "TLSv1.3",
        "CN=ca",
        NOON + timedelta(days=30),
    )
    said = {condition.type: condition for condition in status.conditions}
    assert said[ConditionType.READY].reason == "Succeeded"
    assert said[ConditionType.SECURE].status == "True"
    assert said[ConditionType.AUTHENTICATED].status == "True"
    assert "mode auto found starttls on port 587: it is good" in said[ConditionType.ACCEPTED].message
    text = from_status(status, WITH_LOGIN)
    assert "smtp.example.com:587 starttls" in text
    assert "465  -         -        -     ConnectRefused" in text
    assert "discovery" not in str(status.locations) + str(status.outages)


def test_plain_that_was_found_has_no_tls_to_be_secure() -> None:
    """An answer in plain is judged as one: Secure is NotApplicable, and the default depth ends with EHLO."""
    port = PortFinding(port=25, mode=Mode.PLAIN, features=Features(before_tls=("SIZE 1",)))
    status = after(AUTO, found(AUTO, port, port=25, mode=Mode.PLAIN))
    secure = next(c for c in status.conditions if c.type is ConditionType.SECURE)
    assert secure.reason == "NotApplicable"
    assert effective_depth(to_run(AUTO, status, 1)) is Depth.EHLO
    assert status.tls_seen == ()


@pytest.mark.parametrize("port", [None, 587])
def test_a_run_without_an_answer_leaves_what_is_known(port: int | None) -> None:
    """A pod that was lost changes nothing; before anything is known the next run looks."""
    known = after(AUTO, found(AUTO, STARTTLS)) if port else Status()
    status = after(AUTO, error(Reason.POD_LOST), known, at=NOON + timedelta(minutes=30))
    assert to_run(AUTO, status, 1).port == port


def test_where_nothing_took_a_connection_the_next_run_looks_again() -> None:
    """Nobody was bothered and nothing is known: a server that was down at first is found later."""
    result = refused(spec(), Reason.CONNECT_REFUSED, Stage.CONNECT, code=None)
    result = msgspec.structs.replace(result, discovery=Discovery(why="no port can be used", ports=(CLOSED,)))
    status = after(AUTO, result)
    assert status.discovery is not None
    assert looks(AUTO, status, 1)
    failing = refused(spec(), Reason.CERTIFICATE_EXPIRED, Stage.TLS, code=None)
    failing = msgspec.structs.replace(
        failing, discovery=Discovery(port=587, mode=Mode.STARTTLS, why="none", ports=(STARTTLS, CLOSED))
    )
    status = after(AUTO, failing)
    assert (to_run(AUTO, status, 1).port, to_run(AUTO, status, 1).mode) == (587, Mode.STARTTLS)
    assert status.conditions[0].reason == "CertificateExpired"


def test_a_silent_port_is_kept_with_its_mode_open() -> None:
    """A port that took a connection and said nothing is the one to ask; how TLS comes in there is still to be found."""
    silent = PortFinding(port=587, reason=Reason.BANNER_TIMEOUT, stage=Stage.GREETING)
    result = refused(spec(), Reason.BANNER_TIMEOUT, Stage.GREETING, code=None)
    result = msgspec.structs.replace(result, discovery=Discovery(port=587, why="none", ports=(silent,)))
    asked = request_of(AUTO, after(AUTO, result), 1)
    assert (asked.port, asked.mode) == (587, Mode.AUTO)


@pytest.mark.parametrize("of", [spec(), AUTO], ids=["starttls", "auto"])
def test_an_offer_of_tls_is_remembered_over_failures_and_edits(of: Spec) -> None:
    """Where STARTTLS was on offer once, each later request says so: after failures, and after an edit of the spec."""
    good = found(of, STARTTLS) if of is AUTO else msgspec.structs.replace(passed(of), features=STARTTLS.features)
    status = after(of, good)
    assert status.tls_seen == ("smtp.example.com:587",)
    for number in range(1, 5):
        later = NOON + timedelta(minutes=30 * number)
        status = after(of, refused(spec(), Reason.CONNECT_TIMEOUT, Stage.CONNECT, code=None), status, at=later)
    edited = msgspec.structs.replace(of, helo_name="shop.example.com")
    gone = refused(spec(), Reason.TLS_NOT_OFFERED, Stage.STARTTLS, code=None)
    gone = msgspec.structs.replace(gone, notes=(Note.MIDDLEBOX_SUSPECTED,))
    status = after(edited, gone, status, generation=2, at=NOON + timedelta(hours=9))
    assert tls_seen(edited, status) == (587,)
    assert next(c for c in status.conditions if c.type is ConditionType.READY).reason == "TlsNotOffered"
    assert tls_seen(spec(host="other.example.com"), status) == ()


def test_what_is_remembered_is_bounded() -> None:
    """Eight places of TLS; a status with six ports of long names stays below its limit, port and mode of each kept."""
    leaf = Certificate(subject="s" * 200, issuer="i" * 200, not_before=NOON, not_after=NOON, sans=("n" * 200,) * 100)
    ports = tuple(
        PortFinding(
            port=port,
            mode=Mode.STARTTLS,
            features=Features(before_tls=("STARTTLS",), after_tls=("AUTH " + "X" * 500,)),
            tls=TlsFacts(protocol="TLSv1.3", chain=(leaf,), errors=(Reason.CERTIFICATE_EXPIRED,) * 6),
        )
        for port in PORTS
    )
    status = Status()
    for number in range(4):
        of = spec(port=None, mode="auto", host=f"h{number}.example.com")
        status = after(of, found(of, *ports), status, generation=number + 1, at=NOON + timedelta(hours=number))
    assert len(status.tls_seen) == 8
    assert size(status) <= STATUS_LIMIT
    assert decode_status(encode_status(status)) == status
    huge = msgspec.structs.replace(
        status,
        conditions=tuple(msgspec.structs.replace(c, message="m" * 6000) for c in status.conditions),
        tls_seen=("x" * 260,) * 8,
    )
    small = limit(huge)
    assert size(small) <= STATUS_LIMIT
    assert small.discovery is not None
    assert [(port.port, port.mode) for port in small.discovery.ports] == [(port.port, "starttls") for port in ports]


def test_another_mode_forgets_what_was_found() -> None:
    """Who writes port and mode after all gets just these, and the status no longer speaks of what was found."""
    status = after(AUTO, found(AUTO, STARTTLS))
    fixed = spec(port=465, mode="smtps")
    assert to_run(fixed, status, 2) is fixed
    assert as_found(fixed, status.discovery) is fixed
    assert after(fixed, passed(fixed), status, generation=2, at=NOON + timedelta(hours=1)).discovery is None


def test_a_schedule_change_keeps_the_answer_and_its_mode() -> None:
    """A change that needs no run folds the last answer with the mode that it was found in."""
    status = after(AUTO, found(AUTO, STARTTLS))
    later = msgspec.structs.replace(AUTO, suspend=True)
    folded = refold(status, later, generation=2, now=NOON + timedelta(hours=1))
    assert folded.discovery == status.discovery
    assert next(c for c in folded.conditions if c.type is ConditionType.SECURE).status == "True"
    assert judge(as_found(AUTO, status.discovery), passed(spec()), status.auth)[ConditionType.SECURE].status == "True"


def test_only_mode_auto_demands_tls_of_a_port_for_a_login() -> None:
    """The request says that no port without TLS will do where a login follows, or where depth tls was asked for."""
    for of, wanted in (
        (AUTO, False),
        (WITH_LOGIN, True),
        (spec(port=None, mode="auto", depth="tls"), True),
        (login_spec(), False),
        (login_spec(port=587, mode="auto", allowPlaintextAuth=True), True),
    ):
        assert request_of(of, Status(), 1).tls_required is wanted
