"""``spec.tryUsernameVariants``: one more login with another form of the name, counted at the servers."""

import asyncio
import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cluster_facts
import msgspec
import pytest
import yaml
from certificates import pki
from hostile import Hostile
from programs import authority, login, manifest, ready, run as start, write

from smtpprobe.codec import encode_request
from smtpprobe.credentials import Credentials, fingerprint
from smtpprobe.model import (
    CredentialFiles,
    Envelope,
    ProbeRequest,
    ProbeResult,
    RefusedLogin,
    TlsOptions,
    TriedVariant,
    Variants,
)
from smtpprobe.probing import probe
from smtpprobe.vocabulary import Depth, Mode, Reason, StageOutcome

PASSWORD = "correct-horse-9"
AT = dt.datetime(2026, 11, 22, 12, 0, tzinfo=dt.UTC)
NO = "> 535 5.7.8 Error: authentication failed: UGFzc3dvcmQ6"
REFUSED = f"@hello AUTH PLAIN LOGIN\n< AUTH\n{NO}\n@rest"
TAKEN = "@hello AUTH PLAIN LOGIN\n< AUTH\n> 235 2.7.0 in\n@rest"


def request(port: int, mode: Mode = Mode.STARTTLS, **changes: Any) -> ProbeRequest:
    made = ProbeRequest(
        host="localhost",
        port=port,
        mode=mode,
        depth=Depth.AUTH,
        helo_name="probe.example.com",
        tls=TlsOptions(ca_file=pki().ca_file),
        envelope=Envelope(mail_from="noreply@shop.example.com"),
        timeout_seconds=20,
        variants=Variants(),
    )
    return msgspec.structs.replace(made, **changes)


def run(made: ProbeRequest, username: str = "sender", password: str = PASSWORD) -> ProbeResult:
    return asyncio.run(probe(made, Credentials(username, password)))


def reason(result: ProbeResult) -> tuple[str | None, str | None]:
    return result.stage, result.verdict.reason if result.verdict else None


@pytest.mark.parametrize("mode", [Mode.STARTTLS, Mode.SMTPS])
def test_the_form_that_works_is_the_verdict(mode: Mode) -> None:
    """Two sessions with one login each; the second is accepted: UsernameFormat, with the form in message and facts."""
    with Hostile([REFUSED, TAKEN], mode.value, pki().contexts) as server:
        result = run(request(server.port, mode))
    assert reason(result) == ("auth", Reason.USERNAME_FORMAT), result.message
    assert result.verdict is not None
    assert (result.verdict.confidence, result.verdict.rule) == (1.0, "experiment:username-variant")
    assert [heard.logins for heard in server.heard] == [1, 1]
    assert server.heard[1].lines[-1] == "QUIT"
    assert "accepted as sender@shop.example.com" in result.message
    auth = result.auth
    assert (auth.refused, auth.succeeded, auth.username) == (True, False, "sender@shop.example.com")
    assert auth.second is not None
    assert (auth.second.shape, auth.second.succeeded, auth.second.refused) == ("address", True, False)
    entry = next(known for known in result.stages if known.stage == "auth")
    assert entry.outcome is StageOutcome.FAILED
    assert entry.reply is not None
    assert entry.reply.code == 535
    assert "sender" not in (entry.detail or ""), "the pod's log prints this"
    assert [(one.name, one.answer) for one in result.experiments] == [("username-variant", "accepted")]


def test_a_wrong_password_is_two_refusals() -> None:
    """Both forms are refused: BadCredentials, two logins, no name suggested that has just been refused."""
    with Hostile([REFUSED], "starttls", pki().contexts) as server:
        result = run(request(server.port))
    assert reason(result) == ("auth", Reason.BAD_CREDENTIALS)
    assert server.logins == len(server.heard) == 2
    assert result.auth.second is not None
    assert (result.auth.refused, result.auth.second.refused, result.auth.username) == (True, True, None)
    assert result.auth.second.reason is Reason.BAD_CREDENTIALS


def test_without_the_option_the_form_is_suggested_only() -> None:
    """One login; the form to try stands in the facts of the login, and the form is an alternative."""
    with Hostile([REFUSED], "starttls", pki().contexts) as server:
        result = run(request(server.port, variants=None))
    assert server.logins == len(server.heard) == 1
    assert reason(result) == ("auth", Reason.BAD_CREDENTIALS)
    assert result.auth.username == "sender@shop.example.com"
    assert result.experiments == ()
    assert result.verdict is not None
    assert Reason.USERNAME_FORMAT in {other.reason for other in result.verdict.alternatives}


def refused(password: str) -> RefusedLogin:
    mark = fingerprint(Credentials("sender", password), "00" * 16)
    return RefusedLogin(salt="00" * 16, fingerprint=mark, reason=Reason.BAD_CREDENTIALS, since=AT)


@pytest.mark.parametrize(
    "reply, changes, words",
    [
        ("> 535 5.7.8 account temporarily locked", {}, ""),
        ("> 535 5.7.8 authentication failed, too many attempts", {}, ""),
        ("> 535 5.7.139 SmtpClientAuthentication is disabled for the Tenant", {}, ""),
        ("> 454 4.7.0 Temporary authentication failure", {}, ""),
        ("close", {}, ""),
        (NO, {"variants": Variants(refused=2)}, "refused before (2)"),
        (NO, {"mode": Mode.PLAIN, "allow_plaintext_auth": True}, "never in plaintext"),
    ],
)
def test_when_no_second_login_is_sent(reply: str, changes: dict[str, Any], words: str) -> None:
    """Locked, throttled, disabled, temporary, cut, refused before, nothing to try, plaintext: one login, and why."""
    mode = changes.get("mode", Mode.STARTTLS)
    with Hostile([f"@hello AUTH PLAIN\n< AUTH\n{reply}\n"], mode.value, pki().contexts) as server:
        result = run(request(server.port, mode, **{k: v for k, v in changes.items() if k != "mode"}))
    assert server.logins == 1, result.message
    assert result.auth.second is None
    if words:
        assert words in result.experiments[0].showed
        assert result.experiments[0].decided is None


def test_the_option_may_come_after_the_first_refusal() -> None:
    """Who sets the option after one refused run gets the second login all the same: three refusals are the most."""
    with Hostile([REFUSED, TAKEN], "starttls", pki().contexts) as server:
        result = run(request(server.port, variants=Variants(refused=1)))
    assert reason(result) == ("auth", Reason.USERNAME_FORMAT)
    assert server.logins == 2


def test_nothing_to_try_is_said() -> None:
    """Where neither sender nor server gives a domain for a bare name there is no second login, and the result says so."""
    silent = f"> 220 ready\n< EHLO\n> 250-ready\n> 250 AUTH PLAIN\n< AUTH\n{NO}\n@rest"
    with Hostile([silent], "smtps", pki().contexts) as server:
        result = run(request(server.port, Mode.SMTPS, envelope=None, host="127.0.0.1"))
    assert server.logins == len(server.heard) == 1
    assert "no other form to try" in result.experiments[0].showed


def test_paused_credentials_are_not_tried_in_another_form() -> None:
    """While logins are paused neither form is sent."""
    with Hostile([REFUSED], "starttls", pki().contexts) as server:
        result = run(request(server.port, refused=refused(PASSWORD), variants=Variants(refused=2)))
    assert server.logins == 0
    assert (result.auth.paused, result.auth.second) == (True, None)
    assert result.auth.username == "sender@shop.example.com"


def test_changed_credentials_may_be_tried_in_another_form() -> None:
    """A Secret that changed since the refusals is a new account: its first refusal may be followed by a second login."""
    with Hostile([REFUSED, TAKEN], "starttls", pki().contexts) as server:
        result = run(request(server.port, refused=refused("the old one"), variants=Variants(refused=2)))
    assert server.logins == 2
    assert reason(result) == ("auth", Reason.USERNAME_FORMAT)


@pytest.mark.parametrize("succeeded", [True, False])
def test_a_form_is_tried_once(succeeded: bool) -> None:
    """What an earlier run has tried with these credentials is listed and decides again, with no second login."""
    mark = fingerprint(Credentials("sender", PASSWORD), "11" * 16)
    tried = TriedVariant(
        salt="11" * 16, fingerprint=mark, shape="address", succeeded=succeeded, since=AT, username="sender@x.example"
    )
    with Hostile([REFUSED], "starttls", pki().contexts) as server:
        result = run(request(server.port, variants=Variants(refused=1, tried=tried)))
        assert server.logins == 1
        assert [(one.answer, one.since) for one in result.experiments] == [("accepted" if succeeded else "refused", AT)]
        assert reason(result)[1] is (Reason.USERNAME_FORMAT if succeeded else Reason.BAD_CREDENTIALS)
        assert result.auth.second is None
        other = run(request(server.port, variants=Variants(tried=tried)), password="another-password")
        assert server.logins == 3, "another password is another Secret"
        assert other.auth.second is not None


@pytest.mark.parametrize(
    "second",
    [
        "hang",
        "close",
        "> 554 no",
        "@hello\n@rest",
        "@hello AUTH PLAIN\n< AUTH\nhang",
        "@hello AUTH PLAIN\n< AUTH\nreset",
        "@hello AUTH PLAIN\n< AUTH\nflood 535-x\\r\\n",
    ],
)
def test_a_hostile_second_session_is_bounded(second: str) -> None:
    """Whatever the second session meets: the first verdict stays, one second connection, an end in time, and a login
    that was sent and not answered counts as refused."""
    with Hostile([REFUSED, second], "smtps", pki().contexts) as server:
        result = run(request(server.port, Mode.SMTPS, timeout_seconds=6))
    assert reason(result) == ("auth", Reason.BAD_CREDENTIALS), result.message
    assert len(server.heard) == 2
    sent = "AUTH" in second
    assert (result.auth.second is not None and result.auth.second.refused) is sent
    assert server.logins == 1 + sent


def test_nothing_secret_is_named() -> None:
    """A user name that is a token is tried and never shown; the password stands nowhere."""
    token = "9f86d081884c7d659a2feaa0c55ad015"
    with Hostile([REFUSED, TAKEN], "starttls", pki().contexts) as server:
        result = run(request(server.port), token)
    assert reason(result)[1] is Reason.USERNAME_FORMAT
    assert result.auth.username == "NAME@shop.example.com"
    assert token not in repr(result)
    assert PASSWORD not in repr(result)


# ---------------------------------------------------------------------------------------------- our programs, by hand


def test_check_says_the_form_that_works(tmp_path: Path) -> None:
    """``check --try-username-variants``: the advice names the form; in plaintext and without a login it is refused."""
    secret = tmp_path / "password"
    secret.write_text(PASSWORD)
    with Hostile([REFUSED, TAKEN], "starttls", pki().contexts) as server:
        words = ("--username", "sender", "--password-file", str(secret), "--from", "noreply@shop.example.com")
        done = start(
            *("smtpprobe", "check", f"localhost:{server.port}", "--mode", "starttls", "--ca", pki().ca_file, *words),
            *("--depth", "auth", "--try-username-variants", "--output", "json"),
        )
    assert done.returncode == 2, done.stderr
    said = yaml.safe_load(done.stdout)
    assert said["reason"] == "UsernameFormat"
    assert "user name sender@shop.example.com" in said["advice"]["text"]
    assert [one["name"] for one in said["experiments"]] == ["username-variant"]
    plain = start("smtpprobe", "check", "localhost:1", "--mode", "plain", *words, "--try-username-variants")
    assert plain.returncode == 3
    assert "--try-username-variants: a second login is never sent in plaintext" in plain.stderr


def test_the_pods_log_names_no_form(tmp_path: Path) -> None:
    """The pod's log shows both sessions, and neither the password nor a user name; its result names the form."""
    (tmp_path / "username").write_text("sender")
    (tmp_path / "password").write_text(PASSWORD)
    with Hostile([REFUSED, TAKEN], "starttls", pki().contexts) as server:
        made = request(server.port, credentials=CredentialFiles(directory=str(tmp_path), secret_name="smtp"))
        environment = {"SMTPPROBE_REQUEST": encode_request(made).decode(), "SMTPPROBE_TERMINATION_LOG": "/dev/stderr"}
        done = start("python", "-m", "smtpprobe.pod", **environment)
    assert done.returncode == 0
    assert done.stdout.count("AUTH PLAIN [credentials]") == 2
    for secret in ("sender", PASSWORD):
        assert secret not in done.stdout
    assert "sender@shop.example.com" in done.stderr
    assert PASSWORD not in done.stderr


def test_two_runs_of_the_local_operator(tmp_path: Path) -> None:
    """A wrong password with the option pauses after the first run; a form that works is remembered, and its run counts
    one refusal."""
    ca = {"tls": {"caRef": {"kind": "ConfigMap", "name": "ca"}}}
    fields = ca | {"tryUsernameVariants": True, "envelope": {"from": "noreply@shop.example.com"}, "depth": "auth"}
    with (
        Hostile([REFUSED], "starttls", pki().contexts) as wrong,
        Hostile([REFUSED, TAKEN, REFUSED], "starttls", pki().contexts) as form,
    ):

        def specs(**more: Any) -> None:
            write(
                tmp_path / "probes.yaml",
                authority("ca", pki().ca_file),
                login("a", "sender", PASSWORD),
                login("b", "sender", PASSWORD),
                manifest("wrong", wrong.port, "starttls", credentialsSecretRef={"name": "a"}, **fields, **more),
                manifest("form", form.port, "starttls", credentialsSecretRef={"name": "b"}, **fields, **more),
            )

        def after() -> tuple[dict[str, Any], dict[str, Any]]:
            done = start("smtpprobe-operator", "local", str(tmp_path), "--once")
            assert done.returncode == 0, done.stderr
            files = [tmp_path / f"{name}.status.yaml" for name in ("wrong", "form")]
            first, second = (yaml.safe_load(file.read_text()) for file in files)
            return first, second

        specs()
        first, second = after()
        assert (wrong.logins, form.logins) == (2, 2)
        assert (ready(first), ready(second)) == ("BadCredentials", "UsernameFormat")
        assert (first["status"]["auth"]["refused"], first["status"]["auth"]["paused"]) == (2, True)
        assert second["status"]["auth"]["refused"] == 1
        assert second["status"]["auth"]["variant"]["username"] == "sender@shop.example.com"
        assert "sender@shop.example.com" in second["status"]["advice"]["text"]
        assert PASSWORD not in yaml.safe_dump([first, second])
        specs(suspend=True)
        after()
        specs()
        asked = yaml.safe_load_all((tmp_path / "probes.yaml").read_text())
        documents = [d | {"metadata": d["metadata"] | _now(d["kind"])} for d in asked]
        write(tmp_path / "probes.yaml", *documents)
        first, second = after()
        # Run-now allows one login each; nothing is tried in another form again.
        assert (wrong.logins, form.logins) == (3, 3)
        assert (ready(first), ready(second)) == ("BadCredentials", "UsernameFormat")


def _now(kind: str) -> dict[str, Any]:
    return {"annotations": {"smtpprobe.dev/run-now": "again"}} if kind == "SmtpProbe" else {}


# ------------------------------------------------------------------------------------------------ Postfix and Dovecot


@pytest.fixture
def mail() -> cluster_facts.Mail:
    known = cluster_facts.load().mail
    assert known is not None, "launch with --mail"
    return known


Ask = Callable[[str, str], ProbeResult]


@pytest.mark.parametrize(
    "service, mode, user",  # a user each: the logins of both are counted in one log, at the same time
    [("submission", Mode.STARTTLS, "user52"), ("submissions", Mode.SMTPS, "user53")],
)
def test_dovecot_counts_two_logins(mail: cluster_facts.Mail, service: str, mode: Mode, user: str) -> None:
    """A bare name at a server that knows only name@corp.test: one refused, one accepted, and the form is named."""
    at, full = mail.services[service], f"{user}@corp.test"
    made = request(
        at.port,
        mode,
        host=at.host,
        tls=TlsOptions(ca_file=cluster_facts.load().ca_file),
        envelope=Envelope(mail_from="orders@corp.test"),
    )
    mark = mail.mark()
    result = run(made, user, mail.users[full])
    assert reason(result) == ("auth", Reason.USERNAME_FORMAT), result.message
    assert result.auth.username == full
    assert mail.logins(user, since=mark) == cluster_facts.Logins(accepted=0, refused=1)
    assert mail.logins(full, since=mark) == cluster_facts.Logins(accepted=1, refused=0)
    mark = mail.mark()
    result = run(made, user, "not-the-password")
    assert reason(result) == ("auth", Reason.BAD_CREDENTIALS)
    assert mail.logins(user, since=mark).refused == mail.logins(full, since=mark).refused == 1
