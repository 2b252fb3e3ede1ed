"""Access tokens as the tests' Dovecot takes them."""

import base64
import hmac
import json
import time


def token(user: str, key: bytes) -> str:
    """Make one as an identity provider does: a JWT (RFC 7519) with HS256, good for ten minutes."""

    def part(raw: bytes) -> bytes:
        return base64.urlsafe_b64encode(raw).rstrip(b"=")

    now = int(time.time())
    claims = {"sub": user, "iat": now - 5, "exp": now + 600}
    signed = b".".join(part(json.dumps(value).encode()) for value in ({"alg": "HS256", "typ": "JWT"}, claims))
    return (signed + b"." + part(hmac.digest(key, signed, "sha256"))).decode()
