"""What of a request must never reach the wire; the CRD and ``spec`` have said so before, in friendlier words. Pure."""

import re

from smtpprobe import tls
from smtpprobe.credentials import Credentials
from smtpprobe.model import ProbeRequest
from smtpprobe.vocabulary import Depth, Mode, Reason

# What may stand in a command: printable ASCII without blank, < and > (RFC 5321 §4.1.2; more never works anywhere).
_SENDABLE = re.compile(r"[!-;=?-~]*")


def problem(
    request: ProbeRequest, credentials: Credentials | None, server_name: str, *, login: bool
) -> tuple[Reason, str] | None:
    """Return why a request cannot be carried out, or None; ``login``: its plan holds AUTH."""
    envelope = request.envelope
    wants_login = request.credentials is not None or credentials is not None
    if request.depth in {Depth.ENVELOPE, Depth.MESSAGE} and envelope is None:
        return Reason.SPEC_INVALID, f"depth {request.depth} needs spec.envelope"
    if request.depth is Depth.AUTH and not wants_login:
        return Reason.SPEC_INVALID, "depth auth needs spec.credentialsSecretRef"
    if login and credentials is None:
        return Reason.SECRET_NOT_FOUND, "the request names credentials and none were given"
    if login and request.tls.insecure_skip_verify and request.mode is not Mode.PLAIN:
        return Reason.SPEC_INVALID, "no login without a verified certificate: drop insecureSkipVerify"
    if not tls.is_server_name(server_name):
        return Reason.SPEC_INVALID, "spec.tls.serverName is no host name"
    words = [("heloName", request.helo_name)]
    if envelope is not None:
        words += [("envelope.to", to) for to in envelope.rcpt_to]
    if envelope is not None and envelope.mail_from:
        words.append(("envelope.from", envelope.mail_from))
    for field, value in words:
        if not value or not _SENDABLE.fullmatch(value):
            return Reason.SPEC_INVALID, f"spec.{field} may hold printable ASCII only, no blanks, no < or >"
    return None
