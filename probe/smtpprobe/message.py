"""The one message of depth ``message``: fixed, short, marked as a test, the same for every server. Pure.

Headers follow RFC 5322; Auto-Submitted (RFC 3834 §5) keeps vacation programs silent. All of it is printable ASCII in
lines of CRLF, so that no server needs 8BITMIME, SMTPUTF8 or BDAT.
"""

import re
from datetime import UTC, datetime
from typing import Final, NamedTuple

from smtpprobe.model import Envelope

SUBJECT: Final = "SmtpProbe test message, no answer needed"
BODY: Final = """\
This is an automatic test message of SmtpProbe. Somebody who runs an
application asked SmtpProbe to find out whether a mail server takes mail
from the place where that application runs, and under which login.

Nobody needs to read, answer or keep it. It carries no data, no links and
no attachments. The header X-SmtpProbe names the run that sent it.
"""
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DOT_ATOM: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")


class Message(NamedTuple):
    """``text`` has CRLF lines and no dot-stuffing; ``id`` is the Message-ID in angle brackets."""

    run: str
    id: str
    text: bytes

    def on_the_wire(self) -> bytes:
        """Return what follows the 354: lines that begin with a dot get a second one, then the lone dot (RFC 5321)."""
        return re.sub(rb"(?m)^\.", b"..", self.text) + b".\r\n"


def compose(envelope: Envelope, helo_name: str, run: str, now: datetime) -> Message:
    """Write the message from the envelope's sender to all its recipients.

    ``run`` marks the run (letters and digits). A null sender has no domain of its own: From and Message-ID then carry
    the EHLO name.
    """
    sender = envelope.mail_from or f"mailer-daemon@{helo_name}"
    name = f"<smtpprobe.{run}@{sender.rpartition('@')[2]}>"
    recipients = ",\n ".join(f"<{_addr_spec(to)}>" for to in envelope.rcpt_to)
    head = (
        f"Date: {_date(now)}",
        _folded("From: SmtpProbe", f"<{_addr_spec(sender)}>"),
        f"To: {recipients}",
        f"Subject: {SUBJECT}",
        _folded("Message-ID:", name),
        "Auto-Submitted: auto-generated",
        "X-Auto-Response-Suppress: All",  # what Exchange obeys in place of Auto-Submitted
        f"X-SmtpProbe: run {run}",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=us-ascii",
        "Content-Transfer-Encoding: 7bit",
    )
    return Message(run, name, ("\n".join(head) + "\n\n" + BODY).replace("\n", "\r\n").encode("ascii"))


def _folded(name: str, value: str) -> str:
    """Put a value on the header's line, or on the next where the line would be longer than 78 characters."""
    return f"{name} {value}" if len(name) + len(value) < 78 else f"{name}\n {value}"


def _addr_spec(address: str) -> str:
    """Quote a local part that servers take and RFC 5322 §3.4.1 does not (``a..b@example.com``)."""
    local, _, domain = address.rpartition("@")
    return address if _DOT_ATOM.fullmatch(local) else f'"{local}"@{domain}'


def _date(now: datetime) -> str:
    """Write a time as RFC 5322 §3.3 wants it, whatever the locale."""
    at = now.astimezone(UTC)
    return f"{_DAYS[at.weekday()]}, {at.day} {_MONTHS[at.month - 1]} {at:%Y %H:%M:%S} +0000"
