"""Amazon SES: its endpoints, the shape of its passwords, and the SMTP password made from an IAM secret. Pure.

An SMTP password is base64 of the byte 0x04 and a SigV4-like HMAC chain: 44 characters, bound to one region. Source: AWS
SES developer guide, "Obtaining Amazon SES SMTP credentials by converting existing AWS credentials".
"""

import base64
import binascii
import re
from typing import Final, NamedTuple

RULE_IAM_SECRET: Final = "ses-iam-secret"
RULE_CREDENTIALS: Final = "ses-credentials"  # the classifier's, for the 535 of SES
RULE_NOT_DERIVED: Final = "ses-not-derived"
SIMULATOR: Final = "success@simulator.amazonses.com"
SECRET_LENGTH: Final = 40
_VERSION: Final = b"\x04"
_CHAIN: Final = ("11111111", None, "ses", "aws4_request", "SendRawEmail")  # None is the region's place
_REGION: Final = r"[a-z]{2,4}(?:-[a-z]{2,12}){1,3}-\d{1,2}"
# Compiled when first asked: every login passes here, few with an IAM secret.
_ENDPOINT: Final = (
    rf"(?i:(?:email-smtp(?P<fips>-fips)?\.(?P<region>{_REGION})"
    rf"|[a-z0-9-]{{1,63}}\.email-smtp(?:-fips)?\.(?P<vpce>{_REGION})\.vpce)\.amazonaws\.com(?:\.cn)?\.?)"
)
_SECRET: Final = rf"[A-Za-z0-9+/]{{{SECRET_LENGTH}}}"


class Endpoint(NamedTuple):
    """An SMTP endpoint of SES. ``private``: an endpoint inside a VPC, where AWS shows no public source address."""

    region: str
    fips: bool = False
    private: bool = False


def endpoint(host: str) -> Endpoint | None:
    """Recognise ``email-smtp[-fips].REGION.amazonaws.com[.cn]`` and the names of VPC endpoints; else None."""
    found = re.fullmatch(_ENDPOINT, host.strip())
    if found is None:
        return None
    return Endpoint(
        (found["region"] or found["vpce"]).lower(),
        fips="email-smtp-fips." in host.lower(),
        private=found["vpce"] is not None,
    )


def is_region(text: str) -> bool:
    """Tell whether a text is written like a region (``eu-central-1``); the list of regions is Amazon's and grows."""
    return re.fullmatch(_REGION, text) is not None


def is_smtp_password(password: str) -> bool:
    """Tell whether a password has the shape of a derived one: 44 characters, base64 of 33 bytes, the first 0x04."""
    try:
        raw = base64.b64decode(password, validate=True)
    except (binascii.Error, ValueError):
        return False
    return len(password) == 44 and len(raw) == 33 and raw[:1] == _VERSION


def is_access_key_id(text: str) -> bool:
    """Say whether this is the id of an access key, of a user or temporary: a name, and no secret."""
    return re.fullmatch(r"(?:AKIA|ASIA)[A-Z0-9]{16}", text) is not None


def is_iam_secret(password: str) -> bool:
    """Tell whether a password has the shape of an IAM secret access key; blanks around it do not hide it."""
    bare = password.strip()
    return len(bare) == SECRET_LENGTH and re.fullmatch(_SECRET, bare) is not None


def pasted_secret(password: str, *hosts: str | None) -> Endpoint | None:
    """Return the SES endpoint that would get an IAM secret as its password, by the first of ``hosts`` that is one.

    There no login can succeed: every SMTP password of SES has 44 characters.
    """
    if not is_iam_secret(password):
        return None
    return next((known for host in hosts if host and (known := endpoint(host)) is not None), None)


def smtp_password(secret: str, region: str) -> str:
    """Derive the SMTP password of an IAM secret access key for one region.

    Keys of HMAC-SHA256 in turn: ``AWS4`` and the secret, over a fixed date; each result keys the next, over region,
    service, terminal word and message.
    """
    import hmac  # by need: no session derives one

    key = ("AWS4" + secret).encode("utf-8", "surrogateescape")
    for part in _CHAIN:
        key = hmac.digest(key, (region if part is None else part).encode("ascii"), "sha256")
    return base64.b64encode(_VERSION + key).decode("ascii")
