"""Amazon SES as a client meets it: its greeting, its EHLO, its replies word for word, each at the stage where SES gives it.

Every envelope is taken; what SES thinks of sender, recipient, rights and rate it says after the final dot (source: AWS
SES developer guide, "Amazon SES SMTP issues"). The password is checked as SES does: derived for this region from the
key's secret.
"""

import asyncio
import contextlib
import dataclasses
import functools
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import trustme
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from stock import served

from smtpprobe import ses

ACCOUNT = "111122223333"
SIMULATOR = "simulator.amazonses.com"
THROTTLED = "454 Throttling failure: Maximum sending rate exceeded."


@dataclasses.dataclass
class Ses:
    """The account behind the endpoint, and what the server saw of its client."""

    region: str = "eu-central-1"
    keys: dict[str, str] = dataclasses.field(default_factory=dict)  # access key id → secret
    verified: tuple[str, ...] = ()  # addresses and domains
    sandbox: bool = False
    permitted: bool = True
    subscribed: bool = True
    busy_at: str = ""  # "greeting", "auth" or "dot": where the server says that it is too much
    logins: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    messages: list[bytes] = dataclasses.field(default_factory=list)
    port: int = 0

    @property
    def host(self) -> str:
        """The name that the certificate carries."""
        return f"email-smtp.{self.region}.amazonaws.com"

    def login(self, user: str, password: str) -> str:
        """Answer a login."""
        self.logins.append((user, password))
        if self.busy_at == "auth":
            return "454 Temporary authentication failure"
        secret = self.keys.get(user)
        if secret is None or ses.smtp_password(secret, self.region) != password:
            return "535 Authentication Credentials Invalid"
        return "235 Authentication successful." if self.subscribed else "535 Account not subscribed to SES"

    def send(self, sender: str, recipients: list[str], content: bytes) -> str:
        """Answer the final dot."""
        if self.busy_at == "dot":
            return THROTTLED
        if not self.permitted:
            arn = f"arn:aws:ses:{self.region}:{ACCOUNT}:identity/{sender}"
            return (
                f"554 Access denied: User `arn:aws:iam::{ACCOUNT}:user/mailer' is not authorized to perform "
                f"`ses:SendRawEmail' on resource `{arn}'"
            )
        wanted = [sender]
        if self.sandbox:
            wanted += [to for to in recipients if not to.endswith("@" + SIMULATOR)]
        unknown = [address for address in wanted if not {address, address.rpartition("@")[2]} & set(self.verified)]
        if unknown:
            return (
                "554 Message rejected: Email address is not verified. The following identities failed the check in "
                f"region {self.region.upper()}: {', '.join(unknown)}"
            )
        self.messages.append(content)
        return "250 Ok 0100018c3f1e2d4a-7b6c5d4e-0000"


class _Smtp(SMTP):
    """aiosmtpd with the words of SES where its own differ."""

    def __init__(self, account: Ses, **options: Any) -> None:
        super().__init__(_Handler(account), hostname="email-smtp.amazonaws.com", **options)
        self.__ident__ = "ESMTP SimpleEmailService-d-AB1CD2EF3"

    async def check_auth_needed(self, caller_method: str) -> bool:
        assert self.session is not None
        if self.tls_context is not None and self._tls_protocol is None:
            await self.push("530 Must issue a STARTTLS command first")
            return True
        if not self.session.authenticated:
            await self.push("530 Authentication required")
            return True
        return False


class _Handler:
    def __init__(self, account: Ses) -> None:
        self._account = account

    async def handle_EHLO(self, server: Any, session: Any, _envelope: Any, name: str, lines: list[str]) -> list[str]:  # noqa: N802 - aiosmtpd's name
        session.host_name = name
        keep = [line for line in lines if "AUTH" not in line and "HELP" not in line and "UTF8" not in line]
        return [*keep, "250-AUTH PLAIN LOGIN", "250 Ok"]

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        return self._account.send(envelope.mail_from, envelope.rcpt_tos, envelope.content)


class _Busy(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(b"421 Too many concurrent SMTP connections\r\n")
        transport.close()


@functools.cache
def _authority() -> tuple[trustme.CA, str]:
    path = Path(tempfile.mkdtemp(prefix="smtpprobe-ses-")) / "ca.pem"
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(path))
    return authority, str(path)


def ca_file() -> str:
    """The PEM file of the CA that signs the endpoints' certificates."""
    return _authority()[1]


@contextlib.contextmanager
def fake_ses(account: Ses, mode: str = "starttls", at: tuple[str, int] = ("127.0.0.1", 0)) -> Iterator[Ses]:
    """Serve the account's endpoint on loopback, in mode starttls (587, 2587) or smtps (465, 2465); port 0 is a free one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _authority()[0].issue_cert(account.host).configure_cert(context)
    loop = asyncio.new_event_loop()

    def authenticate(_server: object, _session: object, _envelope: object, _mechanism: str, data: object) -> AuthResult:
        assert isinstance(data, LoginPassword)
        answer = account.login(data.login.decode(), data.password.decode())
        return AuthResult(success=answer.startswith("235"), handled=False, message=answer, auth_data=data)

    def factory() -> asyncio.BaseProtocol:
        if account.busy_at == "greeting":
            return _Busy()
        return _Smtp(
            account,
            loop=loop,
            authenticator=authenticate,
            auth_require_tls=mode == "starttls",
            tls_context=context if mode == "starttls" else None,
        )

    with served(factory, loop, context if mode == "smtps" else None, at) as port:
        account.port = port
        yield account
