"""Every manifest of tests/manifests, put to the Python check."""

import pytest
from manifest_cases import Case, load, pairs

from smtpprobe import spec as specs
from smtpprobe.model import CredentialFiles, Envelope, ProbeRequest, TlsOptions
from smtpprobe.resource import CaRef, Spec
from smtpprobe.vocabulary import Depth, Mechanism, Mode

GOOD, BAD = load("good"), load("bad")
SERVER = {"host": "smtp.example.com", "port": 587, "mode": "starttls"}
LOGIN = {"credentialsSecretRef": {"name": "order-mail-smtp"}}
ENVELOPE = {"envelope": {"from": "a@b.test", "to": ["c@d.test", "e@f.test"]}}


def good(**fields: object) -> Spec:
    parsed = specs.parse(SERVER | fields)
    assert parsed.spec is not None, parsed.problems
    return parsed.spec


@pytest.mark.parametrize("case", GOOD, ids=str)
def test_a_good_manifest_becomes_a_typed_spec(case: Case) -> None:
    """A good manifest has no problem and keeps host, port and mode as they were written."""
    parsed = specs.parse(case.spec)
    assert parsed.problems == ()
    assert parsed.spec is not None
    assert (parsed.spec.host, parsed.spec.port, parsed.spec.mode) == (
        case.spec["host"],
        case.spec.get("port"),
        case.spec["mode"],
    )


@pytest.mark.parametrize("case", BAD, ids=str)
def test_a_bad_manifest_gets_its_sentence_and_no_other(case: Case) -> None:
    """Each fault is named once, at its field, with what to write instead."""
    parsed = specs.parse(case.spec)
    assert parsed.spec is None
    assert [tuple(problem) for problem in parsed.problems] == list(case.expected)


def test_no_refusal_hides_another() -> None:
    """Any two faults in one manifest are both named."""
    combined = pairs(BAD)
    assert len(combined) > 5000
    for case in combined:
        named = {problem.field for problem in specs.parse(case.spec).problems}
        assert named >= {field for field, _ in case.expected}, case


@pytest.mark.parametrize(
    "raw", [None, {}, [], "host", 5, {1: 2}, {"host": {"a": []}, "location": {"nodeSelector": {1: None}}}]
)
def test_whatever_stands_under_spec_gives_problems_and_no_exception(raw: object) -> None:
    """A spec that is missing, empty or no object at all is refused in words."""
    parsed = specs.parse(raw)
    assert parsed.spec is None
    assert parsed.problems


def test_a_broken_object_counts_as_given() -> None:
    """Credentials that cannot be read are no missing credentials: depth auth is not refused as well."""
    problems = specs.parse(SERVER | {"credentialsSecretRef": "mail", "depth": "auth"}).problems
    assert [problem.field for problem in problems] == ["spec.credentialsSecretRef"]


def test_defaults_are_filled_in() -> None:
    """A minimal spec has the documented defaults, at every level."""
    spec = good(tls={"caRef": {"kind": "Secret", "name": "ca"}}, **LOGIN)
    assert spec.mechanism is Mechanism.AUTO
    assert not spec.allow_plaintext_auth
    assert not spec.suspend
    assert spec.timeout_seconds == 60
    assert spec.tls.ca_ref == CaRef(kind="Secret", name="ca", key="ca.crt")
    assert spec.tls.min_version == "1.2"
    assert spec.credentials_secret_ref is not None
    assert (spec.credentials_secret_ref.username_key, spec.credentials_secret_ref.password_key) == (
        "username",
        "password",
    )


@pytest.mark.parametrize(
    ("fields", "depth"),
    [
        ({}, Depth.TLS),
        ({"mode": "smtps"}, Depth.TLS),
        ({"mode": "plain"}, Depth.EHLO),
        (LOGIN, Depth.AUTH),
        ({"mode": "plain"} | LOGIN, Depth.AUTH),
        (ENVELOPE, Depth.ENVELOPE),
        (ENVELOPE | LOGIN, Depth.ENVELOPE),
        (ENVELOPE | LOGIN | {"depth": "greeting"}, Depth.GREETING),
    ],
)
def test_depth_follows_what_is_given(fields: dict[str, object], depth: Depth) -> None:
    """Without a depth a session goes as far as the spec has something to try."""
    assert specs.effective_depth(good(**fields)) is depth


@pytest.mark.parametrize(
    ("fields", "seconds"), [({}, 60), (LOGIN, 300), (ENVELOPE, 300), (ENVELOPE | {"depth": "message"}, 900)]
)
def test_minimum_interval(fields: dict[str, object], seconds: int) -> None:
    """Whoever sends mail waits fifteen minutes, whoever logs in or sends an envelope five, others one."""
    assert good(**fields, schedule={"interval": f"{seconds}s"})
    assert specs.parse(SERVER | fields | {"schedule": {"interval": f"{seconds - 1}s"}}).problems


@pytest.mark.parametrize(
    ("text", "seconds"), [("30m", 1800), ("1h30m", 5400), ("90s", 90), ("1h1m1s", 3661), ("0m60s", 60)]
)
def test_interval_seconds(text: str, seconds: int) -> None:
    """An interval is the sum of its hours, minutes and seconds."""
    assert specs.interval_seconds(text) == seconds


def test_request_carries_the_spec_and_the_paths_of_the_secret() -> None:
    """The request of a full spec has every field of it, and paths in place of secrets."""
    spec = good(
        **LOGIN,
        **ENVELOPE,
        mechanism="LOGIN",
        allowPlaintextAuth=True,
        tls={"serverName": "mx.example.com", "minVersion": "1.3"},
        heloName="shop.example.com",
        timeoutSeconds=30,
    )
    request = specs.to_request(
        spec, default_helo="other.example.com", credentials_dir="/c", ca_file="/ca/ca.crt", refused=None
    )
    assert request == ProbeRequest(
        host="smtp.example.com",
        port=587,
        mode=Mode.STARTTLS,
        depth=Depth.ENVELOPE,
        mechanism=Mechanism.LOGIN,
        allow_plaintext_auth=True,
        tls=TlsOptions(server_name="mx.example.com", ca_file="/ca/ca.crt", min_version="1.3"),
        helo_name="shop.example.com",
        envelope=Envelope(mail_from="a@b.test", rcpt_to=("c@d.test", "e@f.test")),
        credentials=CredentialFiles(directory="/c", secret_name="order-mail-smtp"),
        timeout_seconds=30.0,
    )


@pytest.mark.parametrize(
    ("own", "default", "name"),
    [
        ("a.example.com", "b.example.com", "a.example.com"),
        (None, "b.example.com", "b.example.com"),
        (None, None, "smtpprobe.invalid"),
    ],
)
def test_helo_name_is_the_spec_s_then_the_operator_s_then_invalid(
    own: str | None, default: str | None, name: str
) -> None:
    """heloName wins over the operator's setting; without both the name says that none was set."""
    spec = good(heloName=own)
    request = specs.to_request(spec, default_helo=default, credentials_dir=None, ca_file=None, refused=None)
    assert request.helo_name == name


def test_a_whole_number_with_a_point_is_a_whole_number() -> None:
    """587.0 in YAML is the port 587, as it is for kubectl; 58.7 is none."""
    assert good(port=587.0).port == 587
    assert specs.parse(SERVER | {"port": 58.7}).spec is None
