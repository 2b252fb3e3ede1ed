"""What the transport did, as verdicts: refused, silent, closed, broken TLS, bytes that are no SMTP. No I/O.

A reply's text is for ``classify``; everything here is decided by facts that need no reading.
"""

import re
import ssl
from typing import NamedTuple

import msgspec

from smtpprobe.model import Alternative, Reply, Verdict
from smtpprobe.redact import sanitize
from smtpprobe.replies import Malformed
from smtpprobe.tls import Seen, verify_reason
from smtpprobe.vocabulary import Mode, Note, Reason, Stage
from smtpprobe.wire import Cut, Ended, Handshake, Limit

SILENT_GREETING = "greeting-silent"
DOT_TIMEOUT, DOT_CLOSED = "transport:dot-timeout", "transport:dot-closed"
UNSOLICITED = "transport:unsolicited-reply"
_EXCERPT = 64
_BANNERS: tuple[tuple[bytes, str], ...] = (
    (rb"HTTP/|<!DOCTYPE|<html", "an HTTP server"),
    (rb"SSH-", "an SSH server"),
    (rb"\+OK", "a POP3 server"),
    (rb"\* (OK|BYE|PREAUTH)", "an IMAP server"),
    (rb"-ERR", "a POP3 or Redis server"),
    (rb"RFB \d", "a VNC server"),
    (rb"@RSYNCD", "an rsync server"),
    (rb"\xff[\xfb-\xfe]", "a Telnet server"),
    (rb"AMQP", "an AMQP server"),
    (rb"<\?xml|<stream", "an XMPP server"),
    (rb".\x00\x00\x00(\x0a|$)", "a MySQL server"),
)
_PROTOCOL_WORDS = ("UNSUPPORTED_PROTOCOL", "ALERT_PROTOCOL_VERSION", "NO_PROTOCOLS_AVAILABLE", "VERSION_TOO_LOW")
_ALERT_HANDSHAKE_FAILURE, _ALERT_INSUFFICIENT_SECURITY, _ALERT_CERTIFICATE_REQUIRED = 40, 71, 116
_ALERT_BAD_CERTIFICATE, _ALERT_PROTOCOL_VERSION, _ALERT_UNRECOGNIZED_NAME = 42, 70, 112


class Fault(NamedTuple):
    """A stage that did not pass: the verdict, our sentence, the reply if there was one.

    ``stage`` where it belongs to another stage than the one in which it showed.
    """

    verdict: Verdict
    detail: str = ""
    reply: Reply | None = None
    notes: frozenset[Note] = frozenset()
    stage: Stage | None = None


def said(found: Fault) -> str:
    """Quote the reply that a fault came with, code first; empty where none came."""
    return f"{found.reply.code} {' '.join(found.reply.lines)}" if found.reply is not None else ""


def fault(
    reason: Reason,
    rule: str,
    detail: str,
    *others: Reason,
    confidence: float = 1.0,
    notes: frozenset[Note] = frozenset(),
    reply: Reply | None = None,
) -> Fault:
    """Make a fault whose verdict is a fact of the transport; ``others`` share the rest of the confidence."""
    share = round((1.0 - confidence) / len(others), 2) if others else 0.0
    alternatives = tuple(Alternative(reason=other, confidence=share) for other in others)
    verdict = Verdict(reason=reason, confidence=confidence, alternatives=alternatives, rule=f"transport:{rule}")
    return Fault(verdict, detail, reply, notes)


def excerpt(raw: bytes) -> str:
    """Return the begin of what a server said, fit to store (design §9)."""
    return sanitize(raw[:_EXCERPT].rstrip(b"\r\n"))[0]


def foreign(raw: bytes) -> str | None:
    """Name the service whose greeting this is; None for what begins like an SMTP reply, well formed or not."""
    for pattern, name in _BANNERS:
        if re.match(pattern, raw, re.DOTALL | re.IGNORECASE):
            return name
    return None if re.match(rb"[ \t+-]?\d", raw) or not raw.strip() else "no SMTP server"


def other_service(banner: str) -> str | None:
    """Name the service that greets with 220 like a mail server, and then knows no EHLO; None for a mail server."""
    if re.search("SMTP|mail", banner, re.IGNORECASE):
        return None
    if re.search(r"\bLMTP\b", banner):
        return "an LMTP server"
    return "an FTP server" if re.search("FTP|FileZilla", banner, re.IGNORECASE) else None


def no_greeting(ended: Ended, pending: bytes, limit: Limit, *, begun: bool) -> Fault:
    """Judge a connection on which no whole greeting came; ``pending`` is what came of its last line."""
    if pending and foreign(pending) is not None:
        return not_smtp(pending)
    if ended.how is Cut.TIMEOUT:
        if begun:
            said = f": '{excerpt(pending)}'" if pending else ""
            return fault(Reason.BANNER_TIMEOUT, "greeting-unfinished", f"half a greeting within {limit.words}{said}")
        return fault(Reason.BANNER_TIMEOUT, SILENT_GREETING, f"no greeting within {limit.words}")
    if begun:
        said = f" after '{excerpt(pending)}'" if pending else ""
        return fault(Reason.CONNECTION_CLOSED, "closed-in-greeting", f"closed in the middle of the greeting{said}")
    how = "reset" if ended.how is Cut.RESET else "closed"
    detail = f"accepted, then {how} before the greeting: no mail server behind the port, or it bars this address"
    others = (Reason.EGRESS_IP_NOT_AUTHORIZED, Reason.SERVICE_UNAVAILABLE)
    return fault(Reason.CONNECT_RESET, f"{how}-before-greeting", detail, *others, confidence=0.8)


def not_smtp(raw: bytes) -> Fault:
    """Judge a greeting of another protocol."""
    kind = foreign(raw) or "no SMTP server"
    return fault(Reason.NOT_SMTP, "not-smtp", f"this is {kind}: '{excerpt(raw)}'")


def no_reply(ended: Ended, limit: Limit, *, begun: bool) -> Fault:
    """Judge a command that was not answered."""
    if ended.how is Cut.TIMEOUT:
        half = "the reply was not whole" if begun else "no reply"
        return fault(Reason.COMMAND_TIMEOUT, "reply-timeout", f"{half} within {limit.words}")
    if ended.how is Cut.TLS and ended.error is not None:
        detail = f"TLS broke: {words(ended.error)}"
        return fault(Reason.CONNECTION_CLOSED, "tls-broke", detail, Reason.TLS_HANDSHAKE_FAILED, confidence=0.8)
    how = "reset" if ended.how is Cut.RESET else "closed"
    where = "in the middle of a reply" if begun else "instead of a reply"
    return fault(Reason.CONNECTION_CLOSED, f"{how}-in-session", f"the server {how} the connection {where}")


def unanswered_message(found: Fault) -> Fault:
    """Say of a session that broke between the final dot and its reply that the message may have been taken.

    RFC 5321 §4.5.3.2.6: from the dot on the server alone knows.
    """
    rules = {"transport:reply-timeout": DOT_TIMEOUT, "transport:closed-in-session": DOT_CLOSED}
    rules["transport:reset-in-session"] = DOT_CLOSED
    rule = rules.get(found.verdict.rule, found.verdict.rule)
    verdict = msgspec.structs.replace(found.verdict, rule=rule)
    return found._replace(verdict=verdict, detail=f"{found.detail}; the message may have been delivered")


def is_alert(raw: bytes) -> bool:
    """Tell whether these bytes are one fatal TLS alert: a server that cannot speak TLS at all does not wait for us."""
    return re.fullmatch(rb"\x15\x03[\x00-\x04]\x00\x02\x02.", raw, re.DOTALL) is not None


def no_starttls(*, masked: bool, before: bool) -> Fault:
    """Judge an EHLO without STARTTLS; ``masked`` where the reply looks rewritten, ``before`` where it was offered once.

    An offer that vanishes is no reason to go on in plain: whoever took it away may want just that (RFC 3207 §6).
    """
    if before:
        detail = "the server does not offer STARTTLS, and did in an earlier run: something on the way seems to hide it"
        notes = frozenset({Note.MIDDLEBOX_SUSPECTED})
        return fault(Reason.TLS_NOT_OFFERED, "starttls-vanished", detail, notes=notes)
    hidden = "; a middlebox seems to hide it" if masked else ""
    return fault(Reason.TLS_NOT_OFFERED, "starttls-absent", f"the server does not offer STARTTLS{hidden}")


def malformed(bad: Malformed, stage: Stage) -> Fault:
    """Judge what the reply reader refused."""
    said = f"{bad.detail}: '{excerpt(bad.excerpt)}'"
    if stage is Stage.GREETING and bad.reason is Reason.MALFORMED_REPLY:
        if bad.excerpt[1:2] == b"\x03" and bad.excerpt[0] < 0x20:
            detail = "the server speaks TLS from the first byte: use mode smtps"
            return fault(Reason.WRONG_TLS_MODE, "tls-record-in-greeting", detail)
        if foreign(bad.excerpt) is not None and Note.CODE_MISMATCH not in bad.notes:
            return not_smtp(bad.excerpt)._replace(notes=bad.notes)
    rule = "reply-too-long" if bad.reason is Reason.REPLY_TOO_LONG else "malformed-reply"
    return fault(bad.reason, rule, said, notes=bad.notes)


def handshake(result: Handshake, seen: Seen, mode: Mode, limit: Limit) -> Fault:
    """Judge a handshake that failed."""
    if result.plaintext is not None:
        return _plaintext(result.plaintext, mode)
    if isinstance(result.error, ssl.SSLCertVerificationError):
        reason = verify_reason(result.error)
        return fault(reason, f"certificate-{result.error.verify_code}", result.error.verify_message)
    if result.error is not None:
        return tls_error(result.error, seen)
    ended = result.ended or Ended(Cut.CLOSED)
    if ended.how is Cut.TIMEOUT:
        stuck = "the handshake stopped half way" if result.received else "no answer to the ClientHello"
        notes = frozenset({Note.MTU_SUSPECTED}) if mode is Mode.STARTTLS or result.received else frozenset[Note]()
        return fault(Reason.COMMAND_TIMEOUT, "tls-timeout", f"{stuck} within {limit.words}", notes=notes)
    how = "reset" if ended.how is Cut.RESET else "closed"
    detail = f"the server {how} the connection in the handshake"
    if seen.wants_client_certificate and seen.server_hello:
        detail += "; it had asked for a client certificate"
        return fault(
            Reason.CONNECT_RESET, f"{how}-in-handshake", detail, Reason.CLIENT_CERTIFICATE_REQUIRED, confidence=0.6
        )
    return fault(Reason.CONNECT_RESET, f"{how}-in-handshake", detail, Reason.TLS_PROTOCOL_UNSUPPORTED, confidence=0.7)


def _plaintext(raw: bytes, mode: Mode) -> Fault:
    if mode is Mode.STARTTLS:
        detail = f"plaintext in answer to the ClientHello: '{excerpt(raw)}'"
        return fault(Reason.STARTTLS_INJECTION, "plaintext-in-handshake", detail)
    if foreign(raw) is not None:
        return not_smtp(raw)
    detail = f"the server speaks plaintext here: '{excerpt(raw)}'. Use mode starttls"
    return fault(Reason.WRONG_TLS_MODE, "plaintext-on-tls-port", detail)


def tls_error(error: ssl.SSLError, seen: Seen) -> Fault:
    """Judge OpenSSL's error, with what the server had said until then."""
    said = words(error)
    name = (error.reason or "").upper()
    if seen.alert == _ALERT_CERTIFICATE_REQUIRED or (
        seen.wants_client_certificate and seen.alert in {_ALERT_HANDSHAKE_FAILURE, _ALERT_BAD_CERTIFICATE}
    ):
        detail = f"the server wants a client certificate ({said})"
        return fault(Reason.CLIENT_CERTIFICATE_REQUIRED, "client-certificate", detail)
    if seen.alert == _ALERT_PROTOCOL_VERSION or any(word in name for word in _PROTOCOL_WORDS):
        detail = f"no TLS version in common ({said})"
        return fault(Reason.TLS_PROTOCOL_UNSUPPORTED, "tls-version", detail)
    if not seen.server_hello and seen.alert in {_ALERT_HANDSHAKE_FAILURE, _ALERT_INSUFFICIENT_SECURITY}:
        detail = f"no TLS version or cipher in common ({said})"
        return fault(Reason.TLS_PROTOCOL_UNSUPPORTED, "tls-no-shared-cipher", detail)
    if seen.alert == _ALERT_UNRECOGNIZED_NAME:
        said += ": the server has no certificate for this name"
    return fault(Reason.TLS_HANDSHAKE_FAILED, "tls-handshake", said)


def unsolicited(said: str) -> Fault:
    """Judge a reply that answers no command; ``said`` is fit to store."""
    detail = f"the server spoke before it was asked ('{said}'): its replies cannot be told apart any more"
    return fault(Reason.PROTOCOL_ERROR, UNSOLICITED.removeprefix("transport:"), detail)


def after_handshake(ended: Ended, seen: Seen) -> Fault | None:
    """Judge what ends a session before its first encrypted byte; None where that is no matter of TLS.

    In TLS 1.3 the server judges our side of the handshake, so also a missing certificate, after we have ended it.
    """
    if ended.how is Cut.TLS and ended.error is not None:
        return tls_error(ended.error, seen)._replace(stage=Stage.TLS)
    if ended.how is not Cut.TIMEOUT and seen.wants_client_certificate:
        detail = "the server asked for a client certificate, got none, and closed the connection"
        others = (Reason.CONNECT_RESET,)
        end = fault(Reason.CLIENT_CERTIFICATE_REQUIRED, "client-certificate-closed", detail, *others, confidence=0.7)
        return end._replace(stage=Stage.TLS)
    return None


def words(error: ssl.SSLError) -> str:
    """Return OpenSSL's own short words for an error."""
    return (error.reason or str(error.args[-1] if error.args else "TLS error")).replace("_", " ").lower()
