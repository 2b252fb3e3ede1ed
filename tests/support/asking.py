"""Requests of the tests' sessions, to a server on loopback."""

import msgspec
from certificates import pki

from smtpprobe.model import Envelope, ProbeRequest, TlsOptions
from smtpprobe.vocabulary import Depth, Mode


def request(port: int, mode: Mode, depth: Depth = Depth.ENVELOPE, **changes: object) -> ProbeRequest:
    """Ask a port of localhost for a recipient of somebody else's, trusting the tests' CA."""
    made = ProbeRequest(
        host="localhost",
        port=port,
        mode=mode,
        depth=depth,
        helo_name="probe.example.com",
        tls=TlsOptions(ca_file=pki().ca_file),
        envelope=Envelope(mail_from="noreply@shop.example.com", rcpt_to=("postmaster@other.example.org",)),
        timeout_seconds=20,
    )
    return msgspec.structs.replace(made, **changes)
