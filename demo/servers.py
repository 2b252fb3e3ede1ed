"""Embedded SMTP servers on loopback, each with the fault of one story; certificates are made in memory."""

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NAME = "localhost"


class Certificates(NamedTuple):
    """A CA and a server certificate for localhost, as PEM files."""

    ca: Path
    server: Path


def make_certificates(folder: Path) -> Certificates:
    """Write a CA and a server certificate for localhost and 127.0.0.1, valid for a week."""
    now = datetime.now(UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "SmtpProbe demo CA")])

    def builder(subject: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca_name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=7))
        )

    identity = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    ca = (
        builder(ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=True,
                crl_sign=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(identity, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    names = [x509.DNSName(NAME), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    server = (
        builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)]), key.public_key())
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    files = Certificates(folder / "ca.pem", folder / "server.pem")
    files.ca.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    files.server.write_bytes(private + server.public_bytes(serialization.Encoding.PEM))
    return files


class Ses(SMTP):
    """Amazon SES's own texts: the banner, the EHLO reply without an echo, and its 535."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, ident="ESMTP SimpleEmailService-d-DEMO", **kwargs)


class _Users:
    """Accepts one user; the refusal is Postfix's."""

    def __init__(self, user: str, password: str, refusal: str) -> None:
        self._accepted = (user.encode(), password.encode())
        self._refusal = refusal

    def __call__(self, _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: Any) -> AuthResult:
        if isinstance(data, LoginPassword) and (data.login, data.password) == self._accepted:
            return AuthResult(success=True)
        return AuthResult(success=False, handled=False, message=self._refusal)


class _Relay:
    """Takes mail from nobody that is not on its list, and says which address it saw."""

    async def handle_RCPT(  # noqa: N802
        self, _server: SMTP, session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        seen = session.peer[0]
        return f"554 5.7.1 <unknown[{seen}]>: Client host rejected: Access denied"


class _Sink:
    """Takes every recipient; no message is ever sent by a probe."""

    async def handle_RCPT(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"


class Ports(NamedTuple):
    """Where the stories' servers listen on 127.0.0.1."""

    submission: int
    smtps: int
    relay: int
    ses: int


@asynccontextmanager
async def running(certificates: Certificates) -> AsyncIterator[Ports]:
    """Run the servers while the block runs."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.server)
    loop = asyncio.get_running_loop()
    submission = {"auth_required": True, "auth_require_tls": True, "tls_context": context, "require_starttls": True}
    users = _Users("sender@corp.test", "correct-horse", "535 5.7.8 Error: authentication failed: UGFzc3dvcmQ6")
    ses = _Users("AKIADEMOIOSFODNN7", "none-fits", "535 Authentication Credentials Invalid")
    async with AsyncExitStack() as stack:

        async def listen(factory: Callable[[], SMTP], tls: ssl.SSLContext | None = None) -> int:
            server = await loop.create_server(factory, "127.0.0.1", 0, ssl=tls)
            stack.callback(server.close)
            return int(server.sockets[0].getsockname()[1])

        yield Ports(
            submission=await listen(lambda: SMTP(_Sink(), hostname=NAME, authenticator=users, loop=loop, **submission)),
            smtps=await listen(
                lambda: SMTP(_Sink(), hostname=NAME, authenticator=users, auth_require_tls=False, loop=loop), context
            ),
            relay=await listen(lambda: SMTP(_Relay(), hostname=NAME, loop=loop)),
            ses=await listen(lambda: Ses(_Sink(), hostname=NAME, authenticator=ses, loop=loop, **submission)),
        )
