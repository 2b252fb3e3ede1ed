"""The fixed message: what RFC 5321 and 5322 want of it, for every envelope that a spec can hold."""

import email
import email.policy
import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, strategies as st

from smtpprobe import specwords as words
from smtpprobe.message import BODY, SUBJECT, Message, compose
from smtpprobe.model import Envelope

NOW = datetime(2026, 3, 1, 9, 5, 7, tzinfo=timezone(timedelta(hours=9)))
LOCAL = st.text("abcXYZ019!#$%&'*+/=?^_`{|}~.-", min_size=1, max_size=64)
DOMAIN = st.sampled_from(["shop.example.com", "a.b", "x" * 63 + "." + "y" * 63 + "." + "z" * 60])
ADDRESS = st.builds("{}@{}".format, LOCAL, DOMAIN).filter(lambda text: words.recipient(text) is None)


def parsed(made: Message) -> email.message.EmailMessage:
    return email.message_from_bytes(made.text, policy=email.policy.default)  # type: ignore[return-value]


def test_headers_and_text_are_the_fixed_ones() -> None:
    """Date, From, To, Subject, Message-ID, and the marks by which programs and people know what it is."""
    envelope = Envelope(mail_from="noreply@shop.example.com", rcpt_to=("a@b.test", "c@d.test"))
    made = compose(envelope, "shop.example.com", "0123456789abcdef", NOW)
    assert made.text.decode() == (
        "Date: Sun, 1 Mar 2026 00:05:07 +0000\n"
        "From: SmtpProbe <noreply@shop.example.com>\n"
        "To: <a@b.test>,\n <c@d.test>\n"
        f"Subject: {SUBJECT}\n"
        "Message-ID: <smtpprobe.0123456789abcdef@shop.example.com>\n"
        "Auto-Submitted: auto-generated\n"
        "X-Auto-Response-Suppress: All\n"
        "X-SmtpProbe: run 0123456789abcdef\n"
        "MIME-Version: 1.0\n"
        "Content-Type: text/plain; charset=us-ascii\n"
        "Content-Transfer-Encoding: 7bit\n"
        f"\n{BODY}"
    ).replace("\n", "\r\n")


def test_a_null_sender_has_the_name_of_ehlo() -> None:
    """Without a sender From and Message-ID carry the EHLO name, as the notices of mail servers do."""
    made = compose(Envelope(rcpt_to=("a@b.test",)), "probe.example.com", "1", NOW)
    assert made.id == "<smtpprobe.1@probe.example.com>"
    assert parsed(made)["From"] == "SmtpProbe <mailer-daemon@probe.example.com>"


@given(st.lists(ADDRESS, min_size=1, max_size=5), ADDRESS, st.datetimes(timezones=st.just(UTC)))
def test_every_usable_envelope_gives_a_whole_message(to: list[str], sender: str, now: datetime) -> None:
    """Whatever addresses a spec allows: ASCII in CRLF lines of at most 998 characters, and the same addresses again."""
    made = compose(Envelope(mail_from=sender, rcpt_to=tuple(to)), "probe.example.com", "0123456789abcdef", now)
    assert made.text.isascii()
    assert made.text.endswith(b"\r\n")
    assert b"\n" not in made.text.replace(b"\r\n", b"")
    assert max(map(len, made.text.split(b"\r\n"))) <= 998
    again = parsed(made)
    assert [one.addr_spec.replace('"', "") for one in again["To"].addresses] == to
    assert again["From"].addresses[0].addr_spec.replace('"', "") == sender
    assert again.get_content().replace("\r\n", "\n") == BODY


@given(st.lists(st.sampled_from(["", ".", "..", ".x", "x.", "x", "From ", ". "]), max_size=12))
def test_dots_are_stuffed_and_come_back(lines: list[str]) -> None:
    """A line that begins with a dot gets one more; the lone dot ends the message and stands nowhere before."""
    text = "".join(f"{line}\r\n" for line in lines).encode()
    sent = Message("1", "<1@x>", text).on_the_wire()
    assert sent.endswith(b".\r\n")
    body = sent[:-3]
    assert b"\r\n.\r\n" not in b"\r\n" + body
    assert re.sub(rb"(?m)^\.", b"", body) == text


@pytest.mark.parametrize("word", ["SmtpProbe", "answer", "X-SmtpProbe"])
def test_the_text_says_what_it_is(word: str) -> None:
    """Whoever finds it in a mailbox reads who sent it and that nothing is expected."""
    assert word in BODY
    assert BODY.isascii()
    assert max(map(len, BODY.splitlines())) <= 78
