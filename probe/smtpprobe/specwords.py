"""Names, addresses and words of a spec: each function returns what to write instead, or None for a usable text.

The counterparts are the CEL rules of the same fields in ``crds/smtpprobes.yaml``, with the same sentences.
"""

import ipaddress
import re

_LABEL = "[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_STRICT_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}[.])*{_LABEL}[.]?")
_NUMERIC_END = re.compile(r"(?:^|[.])[0-9]+[.]?\Z")
_FULL_NAME = re.compile(rf"(?:{_STRICT_LABEL}[.])+{_STRICT_LABEL}")
_ADDRESS = re.compile(rf"[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~.-]{{1,64}}@(?:{_LABEL}[.])*{_LABEL}")
_SPACES = re.compile(r"[\s<>\x00-\x1F\x7F]", re.ASCII)
_OBJECT_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:[.][a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*")
_DATA_KEY = re.compile(r"[A-Za-z0-9._-]+")


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address, or None also for what Kubernetes' isIP refuses: zones and IPv4 inside IPv6."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and (address.scope_id or address.ipv4_mapped):
        return None
    return address


def _can_serve(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return not (
        address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or address == ipaddress.IPv4Address("255.255.255.255")
    )


def host(text: str) -> str | None:
    """Judge the name or address of a server; None where it can be used."""
    address = _ip(text)
    if address is not None and _can_serve(address):
        return None
    if address is None and _HOST.fullmatch(text) and not _NUMERIC_END.search(text):
        return None
    if text == "":
        return "write the name or address of the mail server, for example smtp.example.com"
    if _SPACES.search(text):
        return "write only the name or address, without spaces, line breaks, control characters or < >"
    if "://" in text:
        return "write only the name or address, without smtp:// and without a path"
    if text.startswith("["):
        return "write an IPv6 address without brackets, for example 2001:db8::25"
    if re.fullmatch("[^:]*:[0-9]*", text):
        return "write only the name or address; the port belongs into spec.port"
    if not text.isascii():
        return "write the name in its ASCII form, which begins with xn--"
    if address is not None:
        return "write an address that a mail server can have; this one is link-local, multicast or unspecified"
    if re.fullmatch("[0-9.]+", text):
        return "write all four numbers of the address, each 0 to 255 without leading zeros"
    return "write a name of letters, digits, hyphens and dots, for example smtp.example.com, or an address"


def helo_name(text: str) -> str | None:
    """Judge the name for EHLO; None where it can be used."""
    if _FULL_NAME.fullmatch(text) and not re.search(r"[.][0-9]+\Z", text):
        return None
    if _SPACES.search(text):
        return "write only the name, without spaces, line breaks, control characters or < >"
    if _ip(text) is not None or text.startswith("[") or re.search(r"[.][0-9]+\Z", text):
        return "write a full name, not an address, for example shop.example.com"
    if "." not in text:
        return "write the full name with its domain, for example shop.example.com"
    return "write a full name of letters, digits, hyphens and dots, for example shop.example.com"


def sender(text: str) -> str | None:
    """Judge a MAIL FROM address; the empty one is the null sender."""
    return None if text == "" else recipient(text)


def recipient(text: str) -> str | None:
    """Judge a RCPT TO address; None where it can be put between angle brackets as it is."""
    if _ADDRESS.fullmatch(text) and not re.search(r"[@.][0-9]+\Z", text):
        return None
    if text == "<>":
        return 'write "" for the null sender'
    if _SPACES.search(text):
        return (
            "write only the address, without spaces, line breaks, control characters or < >, "
            "for example noreply@shop.example.com"
        )
    local, at, _ = text.rpartition("@")
    if not at:
        return "write the whole address with its domain, for example noreply@shop.example.com"
    if not local.isascii():
        return "write an address whose part before the @ is ASCII: SMTPUTF8 (RFC 6531) is not supported"
    if not text.isascii():
        return "write the domain in its ASCII form, which begins with xn--"
    return (
        "write an address like noreply@shop.example.com: no quotes, no address in brackets, "
        "at most 64 characters before the @"
    )


def mode(text: str) -> str | None:
    words = ("plain", "starttls", "smtps", "auto")
    if text in words:
        return None
    if lower(text) in words:
        return "write the mode in lower case: plain, starttls, smtps or auto"
    if lower(text) in {"ssl", "tls", "ssl/tls", "implicit", "explicit"}:
        return (
            "write smtps where TLS begins with the first byte (usual on port 465), "
            "starttls where the client asks for it (usual on port 587)"
        )
    return "write plain, starttls, smtps or auto"


def mechanism(text: str) -> str | None:
    if text in {"auto", "PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256", "XOAUTH2"}:
        return None
    if lower(text) == "auto":
        return "write auto in lower case"
    if lower(text) in {"plain", "login", "cram-md5", "scram-sha-256", "xoauth2"}:
        return "write the name of the mechanism in upper case"
    return "write auto, PLAIN, LOGIN, CRAM-MD5, SCRAM-SHA-256 or XOAUTH2"


def depth(text: str) -> str | None:
    if text in {"greeting", "ehlo", "tls", "auth", "envelope", "message"}:
        return None
    return "write greeting, ehlo, tls, auth, envelope or message"


def language(text: str) -> str | None:
    return None if text in {"en", "ko"} else "write en or ko"


def lower(text: str) -> str:
    """Lower-case ASCII letters only, as CEL's lowerAscii does."""
    return "".join(chr(ord(char) + 32) if "A" <= char <= "Z" else char for char in text)


def object_name(text: str) -> str | None:
    if _OBJECT_NAME.fullmatch(text):
        return None
    if "/" in text:
        return "write only the name; the object is always in the namespace of the SmtpProbe"
    return "write the metadata.name of the object: lower-case letters, digits, hyphens and dots"


def data_key(text: str) -> str | None:
    if _DATA_KEY.fullmatch(text) and text != "." and not text.startswith(".."):
        return None
    return "write a key of the object's data: letters, digits, hyphens, underscores and dots"


def address_range(text: str) -> str | None:
    address, slash, bits = text.partition("/")
    if _ip(text) is not None:
        return "write the address as a range, with /32 (IPv4) or /128 (IPv6) behind it"
    if slash and _ip(address) is not None and re.fullmatch("0|[1-9][0-9]{0,2}", bits):
        try:
            network = ipaddress.ip_network(text, strict=False)
        except ValueError:
            network = None
        if network is not None and network.network_address == ipaddress.ip_address(address):
            return None
        if network is not None:
            return "write the first address of the range: bits behind the prefix length must be 0"
    return "write a range, for example 203.0.113.0/24 or 2001:db8:7::/48"
