r"""SASL logins as sans-IO exchanges (RFC 4954): one mechanism, one login, at most four answers.

Choice: PLAIN, LOGIN, SCRAM-SHA-256, CRAM-MD5, in this order, from what the server offers. A session has one login, so
it takes what most surely works: PLAIN and LOGIN work with every password store behind a server, while CRAM-MD5 and
SCRAM are often offered by the SASL library although the store behind it cannot do them (Postfix with saslauthd), which
would look like a wrong password. The password travels in TLS, or the user allowed plaintext. XOAUTH2 only when asked.
"""

import base64
import binascii
import os
from abc import ABC, abstractmethod
from typing import Final

import msgspec

from smtpprobe.credentials import Credentials
from smtpprobe.vocabulary import Mechanism, Reason

AUTO_ORDER: Final = (Mechanism.PLAIN, Mechanism.LOGIN, Mechanism.SCRAM_SHA_256, Mechanism.CRAM_MD5)
MAX_ANSWERS: Final = 4
MAX_CHALLENGE: Final = 12_288  # octets of one base64 line (RFC 4954 §4)
_COMMAND_LINE: Final = 510  # 512 octets with CRLF: a longer initial response must wait for the 334 (RFC 4954 §4)


def choose(wanted: Mechanism, offered: tuple[str, ...]) -> Mechanism | Reason:
    """Pick the one mechanism of this session from the names after AUTH in the EHLO reply.

    Returns AuthNotOffered where no name is offered, MechanismUnsupported where the wanted or every offered one is
    beyond us.
    """
    names = {name.strip().upper() for name in offered if name.strip()}
    if not names:
        return Reason.AUTH_NOT_OFFERED
    for mechanism in AUTO_ORDER if wanted is Mechanism.AUTO else (wanted,):
        if mechanism in names:
            return mechanism
    return Reason.MECHANISM_UNSUPPORTED


def explained(wanted: Mechanism, taken: Mechanism, offered: tuple[str, ...]) -> str:
    """Say which mechanism a session took and why, for people."""
    offer = " ".join(offered)
    offer = offer if len(offer) <= 100 else offer[:97] + "..."
    if wanted is not Mechanism.AUTO:
        return f"login by {taken}, as asked; the server offers {offer}"
    return f"login by {taken}, our first choice of what the server offers: {offer}"


def exchange(mechanism: Mechanism, credentials: Credentials) -> "Exchange":
    """Return a new exchange; ``mechanism`` is one that ``choose`` returned."""
    return _EXCHANGES[mechanism](credentials)


class Exchange(ABC):
    """One login. ``first`` is the AUTH command; ``answer`` is asked once for each 334 reply.

    ``finished`` is True when every response of the mechanism was given: a 235 before that is AuthSucceededEarly.
    ``problem`` says why ``answer`` gave up (None): send ``*`` (RFC 4954 §4) and end with ProtocolError. Beside an
    answer it says that the server has refused already: a 235 after it is no success.
    """

    mechanism: Mechanism

    def __init__(self, credentials: Credentials) -> None:
        self._user = credentials.username_bytes
        self._password = credentials.password_bytes
        self._answers = 0
        self.finished = False
        self.problem: str | None = None

    @abstractmethod
    def first(self) -> bytes:
        """Return the AUTH command without CRLF, with the initial response where the mechanism has one that fits."""

    def answer(self, payload: bytes) -> bytes | None:
        """Return the line for a 334 whose text (after ``334 ``, still base64) is ``payload``; None gives up."""
        self._answers += 1
        if self._answers > MAX_ANSWERS:
            return self._give_up(f"the server asked more than {MAX_ANSWERS} times")
        if len(payload) > MAX_CHALLENGE:
            return self._give_up(f"the challenge is longer than {MAX_CHALLENGE} octets")
        return self._respond(payload.strip())

    @abstractmethod
    def _respond(self, payload: bytes) -> bytes | None: ...

    def _give_up(self, problem: str) -> bytes | None:
        self.problem = problem
        return None

    def _command(self, response: bytes) -> bytes:
        name = b"AUTH " + self.mechanism.value.encode()
        line = name + b" " + base64.b64encode(response)
        return line if len(line) <= _COMMAND_LINE else name


def challenge(payload: bytes) -> bytes | None:
    """Decode a challenge strictly; None where it is no base64 or holds nothing."""
    try:
        return base64.b64decode(payload, validate=True) or None
    except binascii.Error:
        return None


class Plain(Exchange):
    r"""PLAIN (RFC 4616): ``\0user\0password`` with the command; said again where the server ignored it and asks."""

    mechanism = Mechanism.PLAIN

    def first(self) -> bytes:
        line = self._command(self._response())
        self.finished = b" " in line[5:]
        return line

    def _respond(self, payload: bytes) -> bytes | None:  # noqa: ARG002 - whatever the prompt says, there is one answer
        if self._answers > 1:
            return self._give_up("the server asked again after the whole PLAIN response")
        self.finished = True
        return base64.b64encode(self._response())

    def _response(self) -> bytes:
        return b"\0" + self._user + b"\0" + self._password


class Login(Exchange):
    """LOGIN (draft-murchison-sasl-login): username, then password; prompts are read only where they speak clearly."""

    mechanism = Mechanism.LOGIN
    _step = 0

    def first(self) -> bytes:
        return b"AUTH LOGIN"

    def _respond(self, payload: bytes) -> bytes | None:
        prompt = (challenge(payload) or payload).lower()
        asks = 1 if b"pass" in prompt else 0 if b"user" in prompt or b"name" in prompt else None
        # A password given to a username prompt ends up in the server's log as a username.
        if self._step > 1 or (asks is not None and asks != self._step):
            return self._give_up("the server's LOGIN prompts are out of order")
        self._step += 1
        self.finished = self._step == 2
        return base64.b64encode((self._user, self._password)[self._step - 1])


class CramMd5(Exchange):
    """CRAM-MD5 (RFC 2195): the digest leaves only for a challenge that is one."""

    mechanism = Mechanism.CRAM_MD5

    def first(self) -> bytes:
        return b"AUTH CRAM-MD5"

    def _respond(self, payload: bytes) -> bytes | None:
        if self.finished:
            return self._give_up("the server asked again after the CRAM-MD5 digest")
        asked = challenge(payload)
        if asked is None:
            return self._give_up("the CRAM-MD5 challenge is empty or no base64")
        self.finished = True
        import hmac  # by need: few logins pay for it

        digest = hmac.new(self._password, asked, "md5").hexdigest().encode()
        return base64.b64encode(self._user + b" " + digest)


class ScramSha256(Exchange):
    """SCRAM-SHA-256 without channel binding (RFC 5802, 7677); ``nonce`` is for tests with published vectors."""

    mechanism = Mechanism.SCRAM_SHA_256

    def __init__(self, credentials: Credentials, nonce: str | None = None) -> None:
        from smtpprobe import scram  # here, as its tables cost time at the start and few logins need them

        super().__init__(credentials)
        self._client = scram.Client(self._user, self._password, nonce or base64.b64encode(os.urandom(18)).decode())
        self._proven = False

    def first(self) -> bytes:
        return self._command(self._client.first())

    def _respond(self, payload: bytes) -> bytes | None:
        asked = challenge(payload)
        if asked is not None and asked.startswith(b"e="):
            self.problem = "the server took the login that it had refused in its SCRAM message"
            return b""  # its error (RFC 5802 §7): the refusal itself, 535, comes after an empty response
        if self._proven:
            if asked is None or not self._client.server_knows(asked):
                return self._give_up("the server could not prove that it knows the password")
            self.finished = True
            return b""
        if asked is None and not payload.strip(b"="):
            return base64.b64encode(self._client.first()) if self._answers == 1 else self._give_up("empty challenge")
        final = self._client.final(asked) if asked is not None else None
        if final is None:
            return self._give_up("the SCRAM challenge is malformed, or asks for too few or too many iterations")
        self._proven = True
        return base64.b64encode(final)


class XOAuth2(Exchange):
    """XOAUTH2 (Google, Microsoft): the password is the access token; a JSON challenge tells why it was refused."""

    mechanism = Mechanism.XOAUTH2

    def first(self) -> bytes:
        line = self._command(self._response())
        self.finished = b" " in line[5:]
        return line

    def _respond(self, payload: bytes) -> bytes | None:
        if _is_json(challenge(payload)):
            return b""  # the refusal itself, 535, comes only after an empty response
        if self._answers > 1:
            return self._give_up("the server asked again after the whole XOAUTH2 response")
        self.finished = True
        return base64.b64encode(self._response())

    def _response(self) -> bytes:
        return b"user=" + self._user + b"\x01auth=Bearer " + self._password + b"\x01\x01"


def _is_json(text: bytes | None) -> bool:
    try:
        return isinstance(msgspec.json.decode(text or b""), dict)
    except (ValueError, RecursionError):
        return False


_EXCHANGES: Final[dict[Mechanism, type[Exchange]]] = {
    kind.mechanism: kind for kind in (Plain, Login, CramMd5, ScramSha256, XOAuth2)
}
