"""Random servers: whatever comes, the session ends in time with a result, and nobody is told that it passed."""

import asyncio
import random
import ssl
import time
from pathlib import Path

import pytest
from certificates import pki
from hostile import Hostile
from hypothesis import given, settings, strategies as st

from smtpprobe.codec import decode_result, encode_result
from smtpprobe.credentials import Credentials
from smtpprobe.model import Envelope, ProbeRequest, TlsOptions
from smtpprobe.probing import probe
from smtpprobe.tls import Seen, certificate_message, described
from smtpprobe.vocabulary import Depth, Mode, Outcome

PIECES = [
    *(
        "220 mx\\r\\n",
        "250 ok\\r\\n",
        "250-STARTTLS\\r\\n",
        "250 AUTH PLAIN LOGIN\\r\\n",
        "235 in\\r\\n",
        "334 \\r\\n",
        "554 no\\r\\n",
    ),
    *(
        "421 bye\\r\\n",
        "354 go\\r\\n",
        "250-",
        "2",
        "\\r\\n",
        "\\n",
        "\\x00",
        "\\xff\\xfe",
        "\\x16\\x03\\x01\\x02\\x00",
        "\\x15\\x03\\x03\\x00\\x02\\x02\\x28",
    ),
    *("HTTP/1.1 200 OK\\r\\n", "+OK\\r\\n", "334 VXNlcm5hbWU6\\r\\n", "250 " + "x" * 3000 + "\\r\\n"),
]


def script(seed: int) -> str:
    """Return a server that mixes good and bad pieces, sometimes reads a line, and closes at last."""
    chance = random.Random(seed)
    steps = ["> 220 mx"] if chance.random() < 0.7 else ["@raw"]
    for _ in range(chance.randint(0, 8)):
        kind = chance.random()
        if kind < 0.4:
            steps.append("< ")
        elif kind < 0.5:
            steps += ["< ", "> 250-mx", "> 250-AUTH PLAIN", "> 250 STARTTLS"]
        elif kind < 0.55:
            steps += ["> 220 go", "tls"]
        else:
            steps.append(">> " + "".join(chance.choices(PIECES, k=chance.randint(1, 3))))
    return "\n".join([*steps, chance.choice(["close", "reset", "hang"])])


@pytest.mark.parametrize("seed", range(60))
def test_random_server(seed: int) -> None:
    """No mixture of replies, bytes, cuts and silence raises, hangs or passes, or sends two logins."""
    mode = [Mode.PLAIN, Mode.STARTTLS, Mode.SMTPS][seed % 3]
    with Hostile([script(seed)], mode.value, pki().contexts) as server:
        made = ProbeRequest(
            host="localhost",
            port=server.port,
            mode=mode,
            depth=Depth.ENVELOPE,
            allow_plaintext_auth=True,
            tls=TlsOptions(ca_file=pki().ca_file),
            envelope=Envelope(mail_from="", rcpt_to=("postmaster@other.example.org",)),
            timeout_seconds=2,
        )
        began = time.monotonic()
        result = asyncio.run(probe(made, Credentials("sender", "correct-horse-9")))
    assert result.outcome is Outcome.FAILED, result.message
    assert time.monotonic() - began < 15
    assert server.logins <= 1
    assert result.message.isascii()
    assert decode_result(encode_result(result)).verdict == result.verdict


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_any_certificate_message(data: bytes, tls13: bool) -> None:
    """A Certificate message of any bytes is cut without an error, and what is no certificate is left out."""
    seen = Seen()
    seen.chain = certificate_message(data, tls13=tls13)
    assert described(seen) == ()


@settings(max_examples=300, deadline=None)
@given(st.integers(min_value=0, max_value=10_000), st.integers(min_value=0, max_value=255))
def test_any_broken_certificate(at: int, value: int) -> None:
    """A certificate with one byte changed is described or left out, never an error."""
    der = bytearray(ssl.PEM_cert_to_DER_cert(Path(pki().ca_file).read_text()))
    der[at % len(der)] = value
    seen = Seen()
    seen.chain = (bytes(der),)
    assert len(described(seen)) <= 1
