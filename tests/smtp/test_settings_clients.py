"""Settings as printed, in the hands of the real clients, against a real Postfix with Dovecot: what arrives, and how.

A client's driver is in ``tests/support/mail_clients.py``. Grafana and MailKit cannot be had from a registry here.
"""

import dataclasses
import email
import re
import time
from email.message import Message
from pathlib import Path
from typing import NamedTuple

import cluster_facts
import pytest
from mail import TOKEN_KEY
from mail_clients import DRIVERS_BY_CLIENT, SENDER, Case, Place
from tokens import token

from smtpprobe.cli import main
from smtpprobe.settings import Snippet, Working, clients, snippet
from smtpprobe.vocabulary import Mechanism, Mode

INBOX = "inbox.corp.test"
HELO = "shop.example.com"


class Try(NamedTuple):
    """A service of ``mail.py``, and what is written for it; ``ca`` and ``name`` as the command's --ca, --server-name."""

    service: str
    mode: Mode
    mechanism: Mechanism | None = Mechanism.AUTO
    ca: bool = True
    name: str | None = None


SENT = {
    "starttls": Try("submission", Mode.STARTTLS),
    "smtps": Try("submissions", Mode.SMTPS),
    "relay": Try("relay", Mode.PLAIN, None),
    "relay-starttls": Try("relay", Mode.STARTTLS, None),
    "plain-login": Try("plain-auth", Mode.PLAIN, Mechanism.LOGIN),
    "plain": Try("mechanisms", Mode.STARTTLS, Mechanism.PLAIN),
    "login": Try("mechanisms", Mode.STARTTLS, Mechanism.LOGIN),
    "cram-md5": Try("mechanisms", Mode.STARTTLS, Mechanism.CRAM_MD5),
    "scram-sha-256": Try("mechanisms", Mode.STARTTLS, Mechanism.SCRAM_SHA_256),
    "server-name": Try("wrong-name", Mode.STARTTLS, name="other.example"),
}
REFUSED = {  # by the client, before it says a name or a password
    "unknown-ca": Try("submission", Mode.STARTTLS, ca=False),
    "unknown-ca-smtps": Try("submissions", Mode.SMTPS, ca=False),
    "wrong-name": Try("wrong-name", Mode.STARTTLS),
    "no-starttls": Try("plain-auth", Mode.STARTTLS),
}
TRIES = REFUSED | SENT  # in this order: a later login that Dovecot has written down tells that it wrote all before
# for these the snippet is a comment that says why not
CANNOT = {
    "smtplib": {"scram-sha-256"},
    "aiosmtplib": {"scram-sha-256"},
    "jakarta-mail": {"cram-md5", "scram-sha-256"},
    "spring-boot": {"cram-md5", "scram-sha-256"},
    "nodemailer": {"scram-sha-256"},
    "go": {"plain-login", "login", "scram-sha-256"},
    "django": {"scram-sha-256"},
    "rails": {"scram-sha-256"},
    "phpmailer": {"scram-sha-256"},
    "alertmanager": {"plain-login", "cram-md5", "scram-sha-256"},
    "msmtp": set(),
}
UNTRIED = {"msmtp": {"scram-sha-256"}}  # the root's msmtp, 1.8.28, fails before it sends anything; a comment says so
NO_NAME = {"smtplib", "aiosmtplib", "jakarta-mail", "spring-boot", "django", "rails"}  # a remark says so
NO_HELO = {"django"}
OWN_CHOICE = {"django", "alertmanager"}  # of the mechanism


@pytest.mark.parametrize("client", DRIVERS_BY_CLIENT)
def test_a_client_sends_with_the_printed_settings(client: str) -> None:
    """In each mode and mechanism the message arrives, over TLS where the mode says so, with one login of the right name;
    without STARTTLS or with a certificate that does not verify, the same settings send no login at all."""
    facts = cluster_facts.load()
    assert facts.clients
    folder = Path(facts.clients.share) / client
    folder.mkdir()
    first = list(DRIVERS_BY_CLIENT).index(client) * len(TRIES)
    logins = dict(zip(TRIES, facts.clients.logins[first:], strict=False))
    made = {name: working(facts, one, logins[name]) for name, one in TRIES.items()}
    cases = [
        Case(name, f"{client}-{name}@{INBOX}", snippet(client, one), one.ca_file is not None)
        for name, one in made.items()
    ]
    cannot = {case.name for case in cases if all(line[0] in "#/" for line in case.snippet.text.splitlines())}
    assert cannot == CANNOT[client]
    left_out = cannot | UNTRIED.get(client, set())
    outcomes = DRIVERS_BY_CLIENT[client](
        Place(facts.clients, folder), [case for case in cases if case.name not in left_out]
    )
    sent = SENT.keys() - left_out - ({"server-name"} if client in NO_NAME else set())
    table = "\n".join(f"{name:18} {outcome}" for name, outcome in outcomes.items())
    assert {name for name, outcome in outcomes.items() if outcome == "sent"} == sent, table
    assert facts.mail
    arrived = arrivals(Path(facts.logs) / "postfix-files/inbox", client, sent)
    assert arrived.keys() == sent
    for name in reversed(outcomes):
        assert counted(facts.mail, logins[name], 1 if name in sent and TRIES[name].mechanism else 0), outcomes[name]
    for name in sent:
        check(client, made[name], arrived[name])
        one = made[name].mechanism
        if made[name].username and one is not Mechanism.AUTO and client not in OWN_CHOICE:
            assert used(facts.mail, logins[name]) == one.value


@pytest.mark.parametrize("client", ["jakarta-mail", "nodemailer", "msmtp"])
def test_a_client_logs_in_with_a_token(client: str) -> None:
    """With mechanism XOAUTH2 the secret in SMTP_PASSWORD is an access token, and the message arrives."""
    facts = cluster_facts.load()
    assert facts.clients
    assert facts.mail
    folder = Path(facts.clients.share) / f"{client}-token"
    folder.mkdir()
    login = facts.clients.logins[len(DRIVERS_BY_CLIENT) * len(TRIES) + list(DRIVERS_BY_CLIENT).index(client)]
    made = working(facts, Try("mechanisms", Mode.STARTTLS, Mechanism.XOAUTH2), login)
    case = Case("token", f"token-{client}@{INBOX}", snippet(client, made), own_ca=True)
    place = Place(dataclasses.replace(facts.clients, password=token(login, TOKEN_KEY)), folder)
    assert DRIVERS_BY_CLIENT[client](place, [case]) == {"token": "sent"}
    check(client, made, arrivals(Path(facts.logs) / "postfix-files/inbox", "token", {client})[client])
    assert used(facts.mail, login) == "XOAUTH2"


def test_what_a_check_prints_sends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``smtpprobe check --settings`` finds the mode by itself, and what it prints for Nodemailer and msmtp sends a mail."""
    facts = cluster_facts.load()
    assert facts.clients
    assert facts.mail
    login, service = facts.clients.logins[-1], facts.mail.services["submission"]
    (tmp_path / "password").write_text(facts.clients.password, "utf-8")
    options = ["--username", login, "--password-file", str(tmp_path / "password"), "--ca", facts.clients.ca_file]
    assert (
        main(["check", f"{service.host}:{service.port}", *options, "--from", SENDER, "--helo", HELO, "--settings"]) == 0
    )
    out = capsys.readouterr().out
    assert facts.clients.password not in out
    sections = dict(re.findall(r"^--- (\S+): .*\n\n((?:(?!--- ).*\n)*)", out, re.MULTILINE))
    assert list(sections) == list(clients())
    for client in ("nodemailer", "msmtp"):
        folder = Path(facts.clients.share) / f"{client}-checked"
        folder.mkdir()
        made = Snippet(client=client, title="", file="settings.mjs", text=sections[client])
        case = Case("checked", f"checked-{client}@{INBOX}", made, own_ca=True)
        assert DRIVERS_BY_CLIENT[client](Place(facts.clients, folder), [case]) == {"checked": "sent"}
    for message in arrivals(Path(facts.logs) / "postfix-files/inbox", "checked", {"nodemailer", "msmtp"}).values():
        assert "using TLSv1." in message["Received"]
        assert "Authenticated sender: corp" in message["Received"]


def working(facts: cluster_facts.Facts, one: Try, login: str) -> Working:
    """What the command line would say for a try."""
    assert facts.clients
    assert facts.mail
    service = facts.mail.services[one.service]
    return Working(
        host=service.host,
        port=service.port,
        mode=one.mode,
        username=login if one.mechanism else None,
        mechanism=one.mechanism or Mechanism.AUTO,
        mail_from=SENDER,
        helo=HELO,
        ca_file=facts.clients.ca_file if one.ca and one.mode is not Mode.PLAIN else None,
        server_name=one.name,
    )


def arrivals(inbox: Path, client: str, wanted: set[str]) -> dict[str, Message]:
    """Return the messages to CLIENT-NAME@… by name, once all that are wanted have come."""
    deadline = time.monotonic() + 60
    while True:
        found = {}
        if inbox.exists():
            for text in re.split(rb"^From (?=\S+ )", inbox.read_bytes(), flags=re.MULTILINE)[1:]:
                message = email.message_from_bytes(text.partition(b"\n")[2])
                address = (message["X-Original-To"] or message["Delivered-To"]).removesuffix(f"@{INBOX}")
                if address.startswith(f"{client}-"):
                    found[address.removeprefix(f"{client}-")] = message
        if found.keys() >= wanted:
            return found
        assert time.monotonic() < deadline, f"not arrived: {wanted - found.keys()}"
        time.sleep(0.1)


def check(client: str, working: Working, message: Message) -> None:
    """What Postfix wrote down of the session in which the message came."""
    received = " ".join(message.get_all("Received", [""])[0].split())
    assert message["Return-Path"] == f"<{SENDER}>"
    assert ("using TLSv1." in received) is (working.mode is not Mode.PLAIN), received
    assert ("Authenticated sender: " in received) is (working.username is not None), received
    if working.username:
        shown = working.username.replace("\\", "?")  # Postfix writes no backslash into a header
        assert f"Authenticated sender: {shown})" in received
    if client not in NO_HELO:
        assert received.startswith(f"from {HELO} ("), received


def counted(mail: cluster_facts.Mail, login: str, accepted: int) -> bool:
    """Whether Dovecot wrote of just so many logins with this name, all accepted."""
    deadline = time.monotonic() + 30
    while (seen := mail.logins(login)).accepted < accepted and time.monotonic() < deadline:
        time.sleep(0.05)
    return seen == cluster_facts.Logins(accepted, 0)


def used(mail: cluster_facts.Mail, login: str) -> str:
    """Return the mechanism with which Postfix saw this login."""
    written, deadline = (
        re.compile(rf"sasl_method=(\S+), sasl_username={re.escape(login)}$", re.MULTILINE),
        time.monotonic() + 30,
    )
    while not (found := written.findall(Path(mail.logs["postfix"]).read_text("utf-8"))):
        assert time.monotonic() < deadline, f"Postfix wrote of no login of {login}"
        time.sleep(0.05)
    return str(found[-1])


def test_every_client_that_can_be_had_has_a_driver() -> None:
    """Only Grafana and MailKit, which no registry here has, go without a real client."""
    assert set(clients()) - set(DRIVERS_BY_CLIENT) == {"grafana", "mailkit"}


def test_no_snippet_holds_the_password() -> None:
    """The texts above name where the password is to be found, never itself."""
    facts = cluster_facts.load()
    assert facts.clients
    for client in clients():
        for one in TRIES.values():
            text = snippet(client, working(facts, one, facts.clients.logins[0])).text
            assert facts.clients.password not in text
