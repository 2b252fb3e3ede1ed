"""Bring a reply, or a client's error text, into the one form that rules are matched on.

A library or a log mangles a reply: it folds lines, repeats codes in mid-text, drops the code, shows GBK as Latin-1.
``normalize`` undoes that. What comes out is lower-case words in single spaces: no brackets, quotes, hyphens; addresses
become ``<>`` or ``addr``, IP addresses ``ipaddr``, so that a mailbox called ``relay`` decides nothing.
"""

import ipaddress
import re

import msgspec

from smtpprobe import egress
from smtpprobe.unwrap import unwrap

MAX_CHARS = 4096
_CODE = re.compile(r"([2-4][0-5]\d|5\d\d)(?:[ \-]|$)")
# A code apart from its reply: "SMTP Error (535): ...", "... SMTP code: 550", "responseCode: 535"
_CODE_APART = re.compile(
    r"(?:\bsmtp|code|error|status|reply|said|failed|exception)[ :=\"'(\[]{0,4}([45][0-5]\d)\b(?!\.\d)", re.IGNORECASE
)
# What may not stand before is looked at after the first character: a pattern that begins with it is searched faster.
_ENHANCED = re.compile(r"[#245](?<![\d.:/].)(?:(?<=#)[245])?(?<=[245])\.\d{1,3}\.\d{1,3}(?![\d.]*\d)")
_LINE_CODE = re.compile(r"[2-5](?<!\S.)[0-5]\d(?:-(?=\S)|[ \-](?=#?[245]\.\d{1,3}\.\d))")
_IPV4 = re.compile(r"(\d(?<![\d.\w-].)\d{0,2}(?:\.\d{1,3}){3})(?!\.?\d)")
_IPV6 = re.compile(r"(?<![\w:.])([0-9a-fA-F]{0,4}(?::[0-9a-fA-F]{0,4}){2,7})(?![\w:])")
_ANGLE = re.compile(r"<([^<>]{0,320})>")
_MAILBOX = re.compile(r"[^\s<>()\[\]:;,'\"=@]{1,64}@[^\s<>()\[\]:;,'\"]{1,255}")
_ESCAPED = re.compile(r"\\x([0-9a-fA-F]{2})")
_SESSION_ID = re.compile(r"\[[^\[\]\s]{1,80}\.outlook\.com[^\[\]]{0,80}\]| - gs(?:mtp)?\b", re.IGNORECASE)
_BASE64_TAIL = re.compile(r":\s+(?:[A-Za-z0-9+/]{4}){2,40}={0,2}\s*$")
_PUNCTUATION = str.maketrans(
    {**dict.fromkeys("[](){}\"'`\u00b4\u2018\u2019\u201c\u201d", None), **dict.fromkeys("-_\t\r\n\u2013\u2014", " ")}
)


class Normal(msgspec.Struct, frozen=True):
    """What a rule sees: ``code`` 0, ``enhanced`` "" where the text shows none; ``raw`` is unfolded, its case kept."""

    text: str
    raw: str
    code: int
    enhanced: str
    client: bool


def normalize(text: str) -> Normal:
    """Return the matchable form of one reply (all its lines) or one error text; 4,096 characters of it count."""
    whole = recover(text[:MAX_CHARS])
    text = unwrap(whole)
    code, client = _code_of(text)
    if code and "\n" in text:
        text = re.sub(rf"\n\s*{code}(?:[ \-]|$)", "\n", text)
    raw = " ".join(text.split())
    found = _ENHANCED.search(raw)
    enhanced = found.group().lstrip("#") if found else ""
    folded = raw[4:] if _CODE.match(raw) else raw
    if len(raw) != len(text) or found:
        folded = _LINE_CODE.sub("", folded)
    if ".outlook.com" in folded or " - gs" in folded:
        folded = _SESSION_ID.sub(" ", folded)
    if folded.endswith(("=", "6", "M")):
        folded = _BASE64_TAIL.sub("", folded)
    folded = _ANGLE.sub(_angle, folded) if "<" in folded else folded
    folded = _MAILBOX.sub("addr", folded) if "@" in folded else folded
    folded = _IPV4.sub(_ipv4, folded)
    if folded.count(":") > 1:
        folded = _IPV6.sub(_ipv6, folded)
    if found:
        folded = _ENHANCED.sub("", folded)
    folded = folded.casefold().replace("e-mail", "email").translate(_PUNCTUATION)
    seen = raw if text is whole else " ".join(whole.split())
    return Normal(" ".join(folded.split()), seen, code, enhanced, client)


def quoted_address(text: str) -> str | None:
    """Return the client address that a server's reply quotes, canonical, or None: as ``egress.from_reply`` reads it.

    A client-side error names the server's address, not ours: it counts as none.
    """
    text = text[:MAX_CHARS]
    code, client = _code_of(text)
    if client and not code and not _ENHANCED.match(text.lstrip()):
        return None
    return egress.from_reply(" ".join(text.split()))


def recover(text: str) -> str:
    r"""Append what the bytes of a non-ASCII reply say in UTF-8, GB18030 or EUC-KR, to an otherwise unchanged text.

    Works on ``\xNN`` escapes (our sanitizer), surrogate escapes (libraries) and Latin-1 mojibake. GBK and EUC-KR share
    their byte range, so both readings are kept: a rule knows its words in either.
    """
    if text.isascii() and "\\x" not in text:
        return text
    raw = _ESCAPED.sub(lambda m: chr(int(m.group(1), 16)), text)
    try:
        data = raw.encode("latin-1", "surrogateescape")
    except UnicodeEncodeError:
        return text
    readings = []
    for encoding in ("utf-8", "gb18030", "euc-kr"):
        try:
            reading = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if not reading.isascii() and reading not in readings:
            readings.append(reading)
        if encoding == "utf-8":
            break
    return " ".join([text, *readings])


def _code_of(text: str) -> tuple[int, bool]:
    head = text.lstrip()
    if found := _CODE.match(head):
        return int(found.group(1)), False
    found = _CODE_APART.search(head)
    return (int(found.group(1)) if found else 0), not _ENHANCED.match(head)


def _address(text: str) -> str | None:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None


def _angle(found: re.Match[str]) -> str:
    inner = found.group(1)
    if " " in inner.strip() and "@" not in inner:  # a program's words, such as Ruby's #<EOFError: end of file reached>
        return inner
    quoted = _IPV4.search(inner) or _IPV6.search(inner)
    return "<ipaddr>" if quoted and _address(quoted.group(1)) else "<>"


def _ipv4(found: re.Match[str]) -> str:
    return "ipaddr" if _address(found.group(1)) else found.group()


def _ipv6(found: re.Match[str]) -> str:
    return "ipaddr" if _address(found.group(1)) else found.group()
