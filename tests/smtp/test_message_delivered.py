"""Depth message against Postfix, Exim and OpenSMTPD, which deliver into files: one mail, as it was written."""

import asyncio
import email
import email.policy
import time
from pathlib import Path

import cluster_facts
import pytest

from smtpprobe import message
from smtpprobe.credentials import Credentials
from smtpprobe.model import Envelope, ProbeRequest, TlsOptions
from smtpprobe.probing import probe
from smtpprobe.vocabulary import ConditionStatus, Depth, EgressReason, Mode, Outcome, Stage

# service: where its server delivers, and who logs in; without a login the recipient counts as the server's own
SERVERS = {
    "relay": ("postfix", None),
    "submissions": ("postfix", "user44@corp.test"),
    "exim": ("exim", None),
    "exim-submission": ("exim", "user45@corp.test"),
    "opensmtpd": ("opensmtpd", None),
}


def delivered(inbox: Path, name: str) -> bytes:
    """Wait for the mail with this Message-ID, whole, and return it; two of them are a fault."""
    deadline = time.monotonic() + 60
    end = message.BODY.splitlines()[-1].encode()
    while True:
        raw = inbox.read_bytes().replace(b"\r\n", b"\n") if inbox.exists() else b""
        head, found, rest = raw.partition(f"Message-ID: {name}\n".encode())
        if found and end in rest:
            assert raw.count(name.encode()) == 1
            start = max(head.rfind(b"\nFrom ") + 1, head.rfind(b"\nReturn-Path:") + 1)
            return head[start:] + found + rest[: rest.index(end) + len(end) + 1]
        assert time.monotonic() < deadline, f"no mail {name} in {inbox}"
        time.sleep(0.05)


@pytest.mark.parametrize("service", SERVERS)
def test_one_mail_arrives_as_it_was_written(service: str) -> None:
    """The server delivers exactly one mail whose marks and text are the fixed ones, and MessageAccepted needs a login."""
    facts = cluster_facts.load()
    assert facts.mail
    place, user = SERVERS[service]
    at = facts.mail.services[service]
    made = ProbeRequest(
        host=at.host,
        port=at.port,
        mode=Mode(at.tls),
        depth=Depth.MESSAGE,
        helo_name="probe.corp.test",
        tls=TlsOptions(ca_file=facts.ca_file),
        envelope=Envelope(mail_from="sender@corp.test", rcpt_to=("someone@inbox.corp.test",)),
    )
    result = asyncio.run(probe(made, Credentials(user, facts.mail.users[user]) if user else None))
    assert result.outcome is Outcome.PASSED, result.message
    data = next(entry for entry in result.stages if entry.stage is Stage.DATA)
    name = (data.detail or "").removeprefix("Message-ID ")
    inbox = Path(facts.state) / "log" / f"{place}-files" / "inbox"
    raw = delivered(inbox, name)
    parsed = email.message_from_bytes(raw.partition(b"\n")[2] if raw.startswith(b"From ") else raw)
    assert parsed.defects == []
    run = name.removeprefix("<smtpprobe.").partition("@")[0]
    assert {key: parsed[key] for key in ("From", "To", "Subject", "Auto-Submitted", "X-SmtpProbe", "Content-Type")} == {
        "From": "SmtpProbe <sender@corp.test>",
        "To": "<someone@inbox.corp.test>",
        "Subject": message.SUBJECT,
        "Auto-Submitted": "auto-generated",
        "X-SmtpProbe": f"run {run}",
        "Content-Type": "text/plain; charset=us-ascii",
    }
    assert "probe.corp.test" in parsed["Received"]
    assert parsed.get_payload() == message.BODY
    if user:
        assert (result.egress.status, result.egress.reason) == (ConditionStatus.TRUE, EgressReason.MESSAGE_ACCEPTED)
    else:
        assert result.egress.reason is EgressReason.RECIPIENT_MAY_BE_LOCAL
