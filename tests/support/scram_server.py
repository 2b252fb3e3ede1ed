"""The server's side of SCRAM-SHA-256 (RFC 5802 §3), written from the RFC and not from the code that it tests."""

import base64
import hashlib
import hmac

PASSWORD = b"correct-horse-9"
SALT, ROUNDS, SUFFIX = b"salt-of-the-tests", 4096, b"-and-the-servers-part"


class ScramServer:
    """One login; the texts are those inside the base64."""

    def __init__(self, client_first: bytes) -> None:
        self._bare = client_first.split(b",", 2)[2]
        nonce = self._bare.rpartition(b"r=")[2] + SUFFIX
        self.first = b"r=" + nonce + b",s=" + base64.b64encode(SALT) + b",i=%d" % ROUNDS
        self._salted = hashlib.pbkdf2_hmac("sha256", PASSWORD, SALT, ROUNDS)

    def knows(self, client_final: bytes) -> bool:
        """Whether the client's proof is that of the password."""
        without_proof, _, proof = client_final.rpartition(b",p=")
        client_key = hmac.digest(self._salted, b"Client Key", "sha256")
        signature = hmac.digest(hashlib.sha256(client_key).digest(), self._message(without_proof), "sha256")
        return base64.b64decode(proof) == bytes(a ^ b for a, b in zip(client_key, signature, strict=True))

    def final(self, client_final: bytes) -> bytes:
        """The server's own proof."""
        server_key = hmac.digest(self._salted, b"Server Key", "sha256")
        without_proof = client_final.rpartition(b",p=")[0]
        return b"v=" + base64.b64encode(hmac.digest(server_key, self._message(without_proof), "sha256"))

    def _message(self, without_proof: bytes) -> bytes:
        return self._bare + b"," + self.first + b"," + without_proof
