"""The client's side of SCRAM-SHA-256 (RFC 5802, 7677), without channel binding: messages in, messages out."""

import base64
import binascii
import hmac
import re
import stringprep
import unicodedata
from hashlib import pbkdf2_hmac, sha256
from typing import Final

MIN_ITERATIONS: Final = 4096  # RFC 7677 §4; fewer would hand a hostile server a password that is cheap to guess
MAX_ITERATIONS: Final = 1_000_000  # about half a second of one core

_GS2: Final = b"n,,"
_SERVER_FIRST: Final = re.compile(rb"r=([!-+\--~]+),s=([A-Za-z0-9+/]+={0,2}),i=([1-9][0-9]{0,9})(?:,.*)?", re.DOTALL)
_PROHIBITED: Final = (
    stringprep.in_table_c12, stringprep.in_table_c21_c22, stringprep.in_table_c3, stringprep.in_table_c4,
    stringprep.in_table_c5, stringprep.in_table_c6, stringprep.in_table_c7, stringprep.in_table_c8,
    stringprep.in_table_c9,
)  # fmt: skip


class Client:
    """One login. Each method is called once, in the order ``first``, ``final``, ``server_knows``."""

    def __init__(self, username: bytes, password: bytes, nonce: str) -> None:
        name = saslprep(username).replace(b"=", b"=3D").replace(b",", b"=2C")
        self._password = saslprep(password)
        self._nonce = nonce.encode("ascii")
        self._first_bare = b"n=" + name + b",r=" + self._nonce
        self._expected = b""

    def first(self) -> bytes:
        """Return client-first-message."""
        return _GS2 + self._first_bare

    def final(self, server_first: bytes) -> bytes | None:
        """Return client-final-message, or None for a server-first-message that is malformed or not ours to answer."""
        match = _SERVER_FIRST.fullmatch(server_first)
        if match is None:
            return None
        nonce, iterations = match[1], int(match[3])
        if not nonce.startswith(self._nonce) or nonce == self._nonce:
            return None
        if not MIN_ITERATIONS <= iterations <= MAX_ITERATIONS:
            return None
        try:
            salt = base64.b64decode(match[2], validate=True)
        except binascii.Error:
            return None
        salted = pbkdf2_hmac("sha256", self._password, salt, iterations)
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        without_proof = b"c=" + base64.b64encode(_GS2) + b",r=" + nonce
        message = self._first_bare + b"," + server_first + b"," + without_proof
        signature = hmac.digest(sha256(client_key).digest(), message, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        self._expected = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), message, "sha256")
        return without_proof + b",p=" + base64.b64encode(proof)

    def server_knows(self, server_final: bytes) -> bool:
        """Tell whether server-final-message proves that the server knows the password."""
        signature = server_final.removeprefix(b"v=").split(b",")[0]
        return server_final.startswith(b"v=") and hmac.compare_digest(signature, base64.b64encode(self._expected))


def saslprep(value: bytes) -> bytes:
    """Prepare a name or password (RFC 4013); what is no UTF-8 or is prohibited is used as it is."""
    if value.isascii():
        return value
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        return value
    mapped = "".join(" " if stringprep.in_table_c12(c) else c for c in text if not stringprep.in_table_b1(c))
    prepared = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    if not prepared or any(check(char) for char in prepared for check in _PROHIBITED):
        return value
    right_to_left = [stringprep.in_table_d1(char) for char in prepared]
    if any(right_to_left):
        mixed = any(stringprep.in_table_d2(char) for char in prepared)
        if mixed or not (right_to_left[0] and right_to_left[-1]):
            return value
    return prepared.encode("utf-8")
