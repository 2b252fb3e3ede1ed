"""Requests and results as JSON: whole where they fit, cut in order where not, readable years later."""

import json
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from smtpprobe import codec, shorten
from smtpprobe.codec import RequestUnreadable, ResultUnreadable
from smtpprobe.model import (
    AddressAttempt,
    Alternative,
    AuthFacts,
    Certificate,
    CredentialFiles,
    Discovery,
    EgressAddress,
    EgressFinding,
    Envelope,
    Experiment,
    Features,
    PortFinding,
    ProbeRequest,
    ProbeResult,
    RefusedLogin,
    Reply,
    StageResult,
    TlsFacts,
    TlsOptions,
    Verdict,
)
from smtpprobe.vocabulary import (
    ConditionStatus,
    Depth,
    EgressMethod,
    EgressReason,
    Mechanism,
    Mode,
    Note,
    Outcome,
    Reason,
    Stage,
    StageOutcome,
)

GOLDEN = sorted((Path(__file__).parent / "golden").glob("result-*.json"))
NOW = datetime(2026, 11, 22, 14, 3, 22, tzinfo=UTC)

text = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=60)
long_text = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=2000)
times = st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
ips = st.ip_addresses().map(str)
replies = st.builds(
    Reply,
    code=st.integers(200, 599),
    enhanced=st.none() | st.just("5.7.1"),
    lines=st.lists(long_text, max_size=6).map(tuple),
)
stage_results = st.builds(
    StageResult,
    stage=st.sampled_from(Stage),
    outcome=st.sampled_from(StageOutcome),
    after_tls=st.booleans(),
    elapsed_ms=st.integers(0, 120_000),
    reply=st.none() | replies,
    recipient=st.none() | text,
    detail=st.none() | long_text,
)
certificates = st.builds(
    Certificate,
    subject=long_text,
    issuer=text,
    not_before=times,
    not_after=times,
    sans=st.lists(text, max_size=60).map(tuple),
    key=text,
    sha256=st.just("ab" * 32),
)
features = st.builds(
    Features,
    before_tls=st.none() | st.lists(long_text, max_size=30).map(tuple),
    after_tls=st.none() | st.lists(text, max_size=30).map(tuple),
)
tls_facts = st.none() | st.builds(
    TlsFacts,
    protocol=st.none() | st.just("TLSv1.3"),
    cipher=st.none() | text,
    verified=st.booleans(),
    chain=st.lists(certificates, max_size=5).map(tuple),
    errors=st.lists(st.sampled_from(Reason), max_size=4).map(tuple),
)
port_findings = st.builds(
    PortFinding,
    port=st.integers(1, 65535),
    mode=st.none() | st.sampled_from(Mode),
    reason=st.none() | st.sampled_from(Reason),
    stage=st.none() | st.sampled_from(Stage),
    detail=st.none() | long_text,
    features=features,
    tls=tls_facts,
    notes=st.lists(st.sampled_from(Note), max_size=4).map(tuple),
)
results = st.builds(
    ProbeResult,
    outcome=st.sampled_from(Outcome),
    started_at=times,
    finished_at=times,
    verdict=st.none()
    | st.builds(
        Verdict,
        reason=st.sampled_from(Reason),
        confidence=st.floats(0, 1),
        alternatives=st.lists(
            st.builds(Alternative, reason=st.sampled_from(Reason), confidence=st.floats(0, 1)), max_size=10
        ).map(tuple),
        rule=text,
    ),
    stage=st.none() | st.sampled_from(Stage),
    message=long_text,
    stages=st.lists(stage_results, max_size=16).map(tuple),
    addresses=st.lists(
        st.builds(
            AddressAttempt, ip=ips, tried=st.booleans(), connected=st.booleans(), elapsed_ms=st.integers(0, 9999)
        ),
        max_size=40,
    ).map(tuple),
    server_ip=st.none() | ips,
    local_port=st.none() | st.integers(1, 65535),
    features=features,
    tls=tls_facts,
    auth=st.builds(
        AuthFacts,
        mechanism=st.none() | st.sampled_from(Mechanism),
        sent=st.booleans(),
        refused=st.booleans(),
        salt=st.none() | st.just("00" * 16),
        fingerprint=st.none() | st.just("870c"),
    ),
    egress=st.builds(
        EgressFinding,
        status=st.sampled_from(ConditionStatus),
        reason=st.sampled_from(EgressReason),
        addresses=st.lists(
            st.builds(
                EgressAddress,
                ip=ips,
                family=st.sampled_from([4, 6]),
                rank=st.just("A1"),
                method=st.sampled_from(EgressMethod),
            ),
            max_size=4,
        ).map(tuple),
    ),
    experiments=st.lists(st.builds(Experiment, name=text, showed=long_text), max_size=5).map(tuple),
    notes=st.lists(st.sampled_from(Note), max_size=8).map(tuple),
    discovery=st.none()
    | st.builds(
        Discovery,
        port=st.none() | st.integers(1, 65535),
        mode=st.none() | st.sampled_from(Mode),
        why=long_text,
        ports=st.lists(port_findings, min_size=1, max_size=6).map(tuple),
    ),
)
requests = st.builds(
    ProbeRequest,
    host=text,
    port=st.integers(1, 65535),
    mode=st.sampled_from(Mode),
    depth=st.sampled_from(Depth),
    mechanism=st.sampled_from(Mechanism),
    tls=st.builds(TlsOptions, server_name=st.none() | text, ca_file=st.none() | text),
    envelope=st.none() | st.builds(Envelope, mail_from=text, rcpt_to=st.lists(text, max_size=5).map(tuple)),
    credentials=st.none() | st.builds(CredentialFiles, directory=text, secret_name=text),
    refused=st.none()
    | st.builds(
        RefusedLogin, salt=st.just("00" * 16), fingerprint=st.just("870c"), reason=st.sampled_from(Reason), since=times
    ),
    timeout_seconds=st.floats(5, 120),
)
slow = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@given(requests)
@settings(max_examples=100, deadline=None)
def test_requests_come_back_as_they_were(request):
    """A request survives the way through the pod's environment."""
    raw = codec.encode_request(request)
    assert raw.isascii()
    assert b"\n" not in raw
    assert codec.decode_request(raw) == request


@given(results)
@slow
def test_results_come_back_as_they_were(result):
    """An uncut result decodes to the same value."""
    assert codec.decode_result(codec.encode_result(result, limit=None)) == result


@given(results)
@slow
def test_any_result_fits_and_keeps_what_is_never_cut(result):
    """Whatever a session collected, the message is ASCII, at most 3,500 bytes, and keeps verdict and evidence."""
    raw = codec.encode_result(result)
    assert len(raw) <= 3500
    assert all(0x20 <= byte <= 0x7E for byte in raw)
    back = codec.decode_result(raw)
    assert (back.outcome, back.stage, back.auth) == (result.outcome, result.stage, result.auth)
    assert (back.verdict and back.verdict.reason) == (result.verdict and result.verdict.reason)
    assert back.egress == result.egress
    assert _modes(back) == _modes(result)
    kept, was = shorten.refusing(back), shorten.refusing(result)
    assert (kept is None) == (was is None)
    if was is not None and was.reply is not None:
        assert kept.reply.code == was.reply.code
        assert "".join(was.reply.lines)[:300].startswith("".join(kept.reply.lines)[:300])
        assert len("".join(kept.reply.lines)) >= min(300, len("".join(was.reply.lines))) - len(was.reply.lines)
    assert back.truncated == (back != result)


def _modes(result):
    """What later runs go by: the port and mode that were chosen, and how TLS came in on each port."""
    found = result.discovery
    return found and (found.port, found.mode, [(port.port, port.mode) for port in found.ports])


@pytest.fixture
def large() -> ProbeResult:
    """A session in which everything is long."""
    leaf = Certificate(
        subject="mail.example.com", issuer="Example CA", not_before=NOW, not_after=NOW,
        sans=tuple(f"san{i}.example.com" for i in range(40)), key="RSA 2048", sha256="ab" * 32,
    )  # fmt: skip
    ehlo = tuple(f"250 KEYWORD{i} {'x' * 40}" for i in range(20))
    return ProbeResult(
        outcome=Outcome.FAILED, started_at=NOW, finished_at=NOW, stage=Stage.RCPT,
        verdict=Verdict(reason=Reason.RELAY_DENIED, rule="relay.postfix"), message="m",
        stages=(
            StageResult(stage=Stage.GREETING, outcome=StageOutcome.PASSED, reply=Reply(code=220, lines=("g" * 400,))),
            StageResult(stage=Stage.EHLO, outcome=StageOutcome.PASSED, reply=Reply(code=250, lines=("mail Hello [203.0.113.7]", *ehlo))),
            StageResult(stage=Stage.RCPT, outcome=StageOutcome.FAILED, recipient="x@y.example", reply=Reply(code=554, enhanced="5.7.1", lines=("r" * 500, "second"))),
        ),
        addresses=tuple(AddressAttempt(ip=f"198.51.100.{i}", tried=True, connected=i == 9) for i in range(40)),
        features=Features(before_tls=("STARTTLS",), after_tls=("AUTH PLAIN", "SIZE 1000")),
        tls=TlsFacts(protocol="TLSv1.3", verified=True, chain=(leaf, leaf, leaf)),
    )  # fmt: skip


def test_cuts_follow_the_order(large):
    """Each smaller limit gives up the next thing in the order of design §7, and nothing before its turn."""

    def at(limit: int) -> ProbeResult:
        return codec.decode_result(codec.encode_result(large, limit))

    def sizes(result: ProbeResult) -> dict[str, int]:
        chain = result.tls.chain if result.tls else ()
        return {
            "ehlo": sum(len(s.reply.lines) for s in result.stages if s.stage is Stage.EHLO and s.reply),
            "sans": max((len(c.sans) for c in chain), default=0),
            "chain": len(chain),
            "replies": sum(len(s.reply.lines) for s in result.stages if s.stage is Stage.GREETING and s.reply),
            "addresses": len(result.addresses),
        }

    whole = len(codec.encode_result(large, None))
    before = sizes(large)
    order: list[str] = []
    for limit in range(whole, 1200, -25):
        now = sizes(at(limit))
        order.extend(name for name in now if now[name] < before[name] and name not in order)
    assert order == ["ehlo", "sans", "chain", "replies", "addresses"]


def test_what_stays_is_the_useful_part(large):
    """At 3,500 bytes the refusal stands in full length first, the EHLO echo and the talked-to address stay."""
    back = codec.decode_result(codec.encode_result(large))
    assert back.truncated
    ehlo = next(s for s in back.stages if s.stage is Stage.EHLO)
    assert ehlo.reply.lines == ("mail Hello [203.0.113.7]",)
    assert back.tls.chain[0].sans == large.tls.chain[0].sans[:4]
    small = codec.decode_result(codec.encode_result(large, 1500))
    assert [a.ip for a in small.addresses] in ([], ["198.51.100.9"])


@pytest.mark.parametrize("path", GOLDEN, ids=[path.stem for path in GOLDEN])
def test_old_results_decode(path):
    """Every result that an older probe wrote still decodes, and means the same when written again."""
    raw = path.read_bytes()
    result = codec.decode_result(raw)
    known = json.loads(raw)
    known.pop("addedLater", None)
    assert json.loads(codec.encode_result(result)) == known


def test_there_are_golden_results():
    """Golden results exist for passed, refused, cut, could not run, and one of a newer probe."""
    assert {path.stem.removeprefix("result-") for path in GOLDEN} >= {
        "passed", "relay-denied", "login-refused", "certificate", "secret-missing", "cut", "newer-field"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"{", "no JSON"),
        (b"panic: runtime error", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b'"\x80"', "no JSON"),
        (b"[]", "does not follow"),
        (b"null", "does not follow"),
        (b"{}", "does not follow"),
        (b'{"schemaVersion":2}', "same version"),
        (
            b'{"outcome":"Maybe","startedAt":"2026-11-22T14:03:22Z","finishedAt":"2026-11-22T14:03:22Z"}',
            "does not follow",
        ),
        (b'{"outcome":"Passed","startedAt":"yesterday","finishedAt":"2026-11-22T14:03:22Z"}', "does not follow"),
        (b"x" * 300_000, "300000 bytes"),
        (b"[" * 10_000, "no JSON"),
    ],
)
def test_unreadable_results_say_why(raw, sentence):
    """What is no result raises ResultUnreadable with one printable sentence, nothing else."""
    with pytest.raises(ResultUnreadable) as caught:
        codec.decode_result(raw)
    assert sentence in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400
    with pytest.raises(RequestUnreadable):
        codec.decode_request(raw)


@given(st.one_of(st.binary(max_size=300), st.text(max_size=200)))
@settings(max_examples=300, deadline=None)
def test_any_bytes_decode_or_are_refused(raw):
    """No input makes the decoder raise anything but ResultUnreadable."""
    with pytest.raises(ResultUnreadable):
        codec.decode_result(raw)


def test_forged_results_cannot_carry_control_characters():
    """Texts of a result that no probe of ours wrote are escaped again before anybody sees them."""
    raw = json.dumps(
        {
            "outcome": "Failed", "startedAt": "2026-11-22T14:03:22Z", "finishedAt": "2026-11-22T14:03:22Z",
            "message": "\x1b]0;pwned\x07 \u202e 메일", "stages": [{"stage": "auth", "outcome": "Failed", "detail": "a\r\nb\u2028"}],
        }
    )  # fmt: skip
    result = codec.decode_result(raw)
    assert result.message == "\\x1b]0;pwned\\x07 \\u{202e} 메일"
    assert result.stages[0].detail == "a\\x0d\\x0ab\\u{2028}"


def test_lone_surrogates_do_not_reach_the_api_server():
    """Text with undecodable bytes is written as escapes, which every JSON reader keeps."""
    result = ProbeResult(outcome=Outcome.ERROR, started_at=NOW, finished_at=NOW, message="caf\udce9 \ud800 ok")
    raw = codec.encode_result(result)
    assert b"\\ud" not in raw.lower()
    assert codec.decode_result(raw).message == "caf\\xe9 \\u{d800} ok"


def test_ascii_json_is_one_ascii_line():
    """A stage for the pod's log is one line of ASCII JSON, whatever it holds."""
    line = codec.ascii_json(StageResult(stage=Stage.RCPT, outcome=StageOutcome.PASSED, recipient="n…@x.example\n"))
    assert line.isascii()
    assert b"\n" not in line
    assert msgspec.json.decode(line)["recipient"] == "n…@x.example\n"
