"""Amazon SES against its stand-in on loopback: what a session at depth envelope can prove there, and what its words mean."""

import asyncio

import msgspec
import pytest
from certificates import pki
from fake_ses import SIMULATOR, THROTTLED, Ses, ca_file, fake_ses
from stock import stock_server

from smtpprobe import ses
from smtpprobe.classify import SessionFacts, classify
from smtpprobe.credentials import Credentials
from smtpprobe.model import Envelope, ProbeRequest, ProbeResult, TlsOptions
from smtpprobe.plan import by_port
from smtpprobe.probing import probe
from smtpprobe.vocabulary import ConditionStatus, Depth, EgressReason, Mode, Note, Outcome, Reason, Stage, StageOutcome

KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
SENDER, RECIPIENT = "orders@shop.example.com", "user@example.net"
BOTH_MODES = pytest.mark.parametrize("mode", [Mode.STARTTLS, Mode.SMTPS])
pytestmark = pytest.mark.filterwarnings("ignore:Session.login_data is deprecated:DeprecationWarning")


def account(**changes: object) -> Ses:
    return Ses(**{"keys": {KEY: SECRET}, "verified": ("shop.example.com",), **changes})  # type: ignore[arg-type]


def request(server: Ses, mode: Mode = Mode.STARTTLS, **changes: object) -> ProbeRequest:
    made = ProbeRequest(
        host="127.0.0.1",
        port=server.port,
        mode=mode,
        depth=Depth.ENVELOPE,
        helo_name="probe.shop.example.com",
        tls=TlsOptions(ca_file=ca_file(), server_name=server.host),
        envelope=Envelope(mail_from=SENDER, rcpt_to=(RECIPIENT,)),
        timeout_seconds=20,
    )
    return msgspec.structs.replace(made, **changes)


def run(made: ProbeRequest, password: str | None) -> ProbeResult:
    return asyncio.run(probe(made, None if password is None else Credentials(KEY, password)))


@BOTH_MODES
def test_an_accepted_envelope_proves_nothing_at_ses(mode: Mode) -> None:
    """Login and envelope pass, also in the sandbox with a stranger as recipient: EgressAuthorized stays Unknown."""
    with fake_ses(account(sandbox=True, permitted=False), mode) as server:
        result = run(request(server, mode), ses.smtp_password(SECRET, server.region))
    assert result.outcome is Outcome.PASSED, result.message
    assert (result.egress.status, result.egress.reason) == (ConditionStatus.UNKNOWN, EgressReason.ENVELOPE_ONLY)
    assert len(server.logins) == 1
    assert server.messages == []


@BOTH_MODES
def test_a_pasted_iam_secret_is_never_sent(mode: Mode) -> None:
    """The IAM secret itself fails at auth without a login, says what it is, and counts as no refusal."""
    with fake_ses(account(), mode) as server:
        result = run(request(server, mode), SECRET)
    assert result.outcome is Outcome.FAILED
    assert result.stage is Stage.AUTH
    assert result.verdict is not None
    assert (result.verdict.reason, result.verdict.rule) == (Reason.BAD_CREDENTIALS, "ses-iam-secret")
    assert result.verdict.confidence == 1.0
    assert Note.NOT_SENT in result.notes
    assert server.logins == []
    assert not result.auth.sent
    assert not result.auth.refused
    assert not result.auth.paused
    assert result.auth.fingerprint is None
    entry = next(entry for entry in result.stages if entry.stage is Stage.AUTH)
    assert entry.outcome is StageOutcome.FAILED
    assert entry.reply is None
    assert "IAM secret key" in result.message
    assert result.message.endswith("smtpprobe ses-password --region eu-central-1")
    assert SECRET not in msgspec.json.encode(result).decode()


def test_the_sentence_about_a_pasted_secret_fits_the_message_at_the_longest_name() -> None:
    """With a region of the longest name the message keeps the command to its end."""
    with fake_ses(account(region="ap-southeast-2")) as server:
        result = run(request(server), SECRET)
    assert result.message.endswith("--region ap-southeast-2")


def test_elsewhere_the_same_password_is_tried() -> None:
    """40 characters are no reason to hold back a login from a server that is not of SES."""
    with stock_server("starttls", pki().contexts["good"], SECRET) as server:
        made = request(Ses(port=server.port), tls=TlsOptions(ca_file=pki().ca_file, server_name="localhost"))
        result = run(made, SECRET)
    assert result.outcome is Outcome.PASSED, result.message
    assert server.logins == [(KEY.encode(), SECRET.encode())]


@pytest.mark.parametrize("region", ["eu-west-1", "us-east-1"])
def test_the_password_of_another_region_is_bad_credentials(region: str) -> None:
    """SES says the same for a wrong password and for another region's: one login, BadCredentials by the SES rule."""
    with fake_ses(account()) as server:
        result = run(request(server), ses.smtp_password(SECRET, region))
    assert result.verdict is not None
    assert (result.verdict.reason, result.verdict.rule) == (Reason.BAD_CREDENTIALS, "ses-credentials")
    assert len(server.logins) == 1
    assert result.auth.refused


def test_a_password_that_cannot_be_one_of_ses_is_told_apart() -> None:
    """Refused by SES and not of the shape of its SMTP passwords: the rule says so, and no region is suspected."""
    with fake_ses(account()) as server:
        result = run(request(server), "correct-horse-battery")
    assert result.verdict is not None
    assert (result.verdict.reason, result.verdict.rule) == (Reason.BAD_CREDENTIALS, "ses-not-derived")
    assert result.auth.refused


def test_without_login_ses_wants_one() -> None:
    """MAIL FROM without AUTH is AuthRequired."""
    with fake_ses(account()) as server:
        result = run(request(server), None)
    assert (result.stage, result.verdict and result.verdict.reason) == (Stage.MAIL, Reason.AUTH_REQUIRED)


def test_plain_mode_without_tls_is_told_to_use_it() -> None:
    """MAIL FROM before STARTTLS is TlsRequired."""
    with fake_ses(account()) as server:
        result = run(request(server, Mode.PLAIN), None)
    assert (result.stage, result.verdict and result.verdict.reason) == (Stage.MAIL, Reason.TLS_REQUIRED)


@pytest.mark.parametrize(
    "changes, stage, reason, refused",
    [
        ({"busy_at": "auth"}, Stage.AUTH, Reason.SERVICE_UNAVAILABLE, False),
        ({"subscribed": False}, Stage.AUTH, Reason.ACCOUNT_INACTIVE, True),
        ({"busy_at": "greeting"}, Stage.GREETING, Reason.RATE_LIMITED, False),
    ],
)
def test_refusals_before_the_envelope(changes: dict[str, object], stage: Stage, reason: Reason, refused: bool) -> None:
    """Busy servers and accounts without SES have their own reasons; what SES calls temporary counts as no refusal."""
    with fake_ses(account(**changes)) as server:
        result = run(request(server), ses.smtp_password(SECRET, server.region))
    assert (result.stage, result.verdict and result.verdict.reason) == (stage, reason), result.message
    assert result.auth.refused is refused


@BOTH_MODES
@pytest.mark.parametrize(
    "changes, sender, reason, alternative",
    [
        ({"sandbox": True}, SENDER, Reason.SANDBOX_RESTRICTED, Reason.SENDER_NOT_VERIFIED),
        ({}, "orders@other.example", Reason.SENDER_NOT_VERIFIED, Reason.SANDBOX_RESTRICTED),
        ({"permitted": False}, SENDER, Reason.PERMISSION_DENIED, Reason.SENDER_NOT_VERIFIED),
        ({"busy_at": "dot"}, SENDER, Reason.RATE_LIMITED, None),
        ({"verified": ()}, SENDER, Reason.SENDER_NOT_VERIFIED, Reason.SANDBOX_RESTRICTED),
    ],
)
def test_words_at_the_dot_are_told_apart_by_the_envelope(
    changes: dict[str, object], sender: str, reason: Reason, alternative: Reason | None, mode: Mode
) -> None:
    """Envelope and DATA pass, each refusal comes at stage dot and has its own reason: sandbox, unverified sender, IAM,
    throttling. None of them says anything about the address."""
    with fake_ses(account(**changes), mode) as server:
        made = request(server, mode, depth=Depth.MESSAGE, envelope=Envelope(mail_from=sender, rcpt_to=(RECIPIENT,)))
        result = run(made, ses.smtp_password(SECRET, server.region))
    assert (result.outcome, result.stage) == (Outcome.FAILED, Stage.DOT), result.message
    assert result.verdict is not None
    assert result.verdict.reason is reason
    assert alternative is None or alternative in {a.reason for a in result.verdict.alternatives}
    passed = {entry.stage for entry in result.stages if entry.outcome is StageOutcome.PASSED}
    assert passed >= {Stage.AUTH, Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.QUIT}
    assert result.egress.status is ConditionStatus.UNKNOWN
    assert len(server.logins) == 1
    assert server.messages == []


@pytest.mark.parametrize("at", [("127.0.25.87", 2587), ("127.0.24.65", 2465)])
def test_a_message_to_the_simulator_proves_the_sender(at: tuple[str, int]) -> None:
    """On Amazon's own ports 2587 and 2465, in the mode that each stands for, a mail to the mailbox simulator is taken in
    the sandbox too, and only then EgressAuthorized is True."""
    mode = by_port(at[1])
    with fake_ses(account(sandbox=True), mode.value, at) as server:
        simulator = Envelope(mail_from=SENDER, rcpt_to=(f"success@{SIMULATOR}",))
        made = request(server, mode, host=at[0], envelope=simulator)
        password = ses.smtp_password(SECRET, server.region)
        before = run(made, password)
        result = run(msgspec.structs.replace(made, depth=Depth.MESSAGE), password)
    assert before.egress.reason is EgressReason.ENVELOPE_ONLY
    assert result.outcome is Outcome.PASSED, result.message
    assert (result.egress.status, result.egress.reason) == (ConditionStatus.TRUE, EgressReason.MESSAGE_ACCEPTED)
    (content,) = server.messages
    assert b"X-SmtpProbe: run " in content


def test_throttling_is_rate_limited_without_the_host_too() -> None:
    """The throttling text is understood wherever it comes from."""
    verdict = classify(Stage.DOT, THROTTLED, SessionFacts())
    assert verdict.reason is Reason.RATE_LIMITED
