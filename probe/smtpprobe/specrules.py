"""What the CRD's CEL rules say about a spec, in the same sentences, and what only Python can see.

Each function of this file has its counterpart in ``crds/smtpprobes.yaml``; a test puts the same manifests to both.
Only here: time zones by name, ranges and dates of a cron text, and the real gap between its runs.
"""

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from smtpprobe import cron
from smtpprobe.specshape import Problem, items

_LABEL = "[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_STRICT_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}[.])*{_LABEL}[.]?")
_NUMERIC_END = re.compile(r"(?:^|[.])[0-9]+[.]?\Z")
_FULL_NAME = re.compile(rf"(?:{_STRICT_LABEL}[.])+{_STRICT_LABEL}")
_ADDRESS = re.compile(rf"[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~.-]{{1,64}}@(?:{_LABEL}[.])*{_LABEL}")
_SPACES = re.compile(r"[\s<>\x00-\x1F\x7F]", re.ASCII)
_OBJECT_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:[.][a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*")
_DATA_KEY = re.compile(r"[A-Za-z0-9._-]+")
_LABEL_KEY = re.compile(r"(?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)?")
_INTERVAL = re.compile(r"(?:[0-9]{1,5}[hms])+", re.ASCII)
_TIME_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+){0,2}")
_CONTROL_PLANE = {f"node-role.kubernetes.io/{role}" for role in ("control-plane", "controlplane", "master", "etcd")}
_TOO_OFTEN = "credentials or an envelope: servers lock out who tries too often"

Judge = Callable[[str], str | None]


def check(spec: dict[str, Any]) -> Iterator[Problem]:
    """Judge the usable part of a raw spec, field by field and across fields."""
    yield from _fields(spec, "spec", {"host": host, "mode": _mode, "mechanism": _mechanism, "depth": _depth})
    yield from _fields(spec, "spec", {"heloName": helo_name})
    yield from _bounds(spec)
    reference = spec.get("credentialsSecretRef", {})
    names = {"name": _object_name, "usernameKey": _data_key, "passwordKey": _data_key}
    yield from _fields(reference, "spec.credentialsSecretRef", names)
    yield from _tls_fields(spec.get("tls", {}))
    yield from _envelope(spec.get("envelope", {}))
    yield from _schedule(spec.get("schedule", {}))
    yield from _location(spec.get("location", {}))
    for index, text in items(spec.get("egress", {}).get("expectedCIDRs", [])):
        yield from _said(f"spec.egress.expectedCIDRs[{index}]", _range(text))
    yield from _across(spec)


def _said(field: str, message: str | None) -> Iterator[Problem]:
    if message is not None:
        yield Problem(field, message)


def _fields(values: dict[str, Any], path: str, judges: Mapping[str, Judge]) -> Iterator[Problem]:
    for name, judge in judges.items():
        if name in values:
            yield from _said(f"{path}.{name}", judge(values[name]))


# ---------------------------------------------------------------------------------------------------- words and names


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


def _mode(text: str) -> str | None:
    words = ("plain", "starttls", "smtps")
    if text in words:
        return None
    if _lower(text) in words:
        return "write the mode in lower case: plain, starttls or smtps"
    if _lower(text) in {"ssl", "tls", "ssl/tls", "implicit", "explicit"}:
        return (
            "write smtps where TLS begins with the first byte (usual on port 465), "
            "starttls where the client asks for it (usual on port 587)"
        )
    if text == "auto":
        return "this version does not find the mode out by itself: write plain, starttls or smtps"
    return "write plain, starttls or smtps"


def _mechanism(text: str) -> str | None:
    if text in {"auto", "PLAIN", "LOGIN"}:
        return None
    if _lower(text) in {"auto", "plain", "login"}:
        return "write auto in lower case, PLAIN and LOGIN in upper case"
    return "write auto, PLAIN or LOGIN"


def _depth(text: str) -> str | None:
    if text in {"greeting", "ehlo", "tls", "auth", "envelope"}:
        return None
    if text == "message":
        return "this version sends no message: write greeting, ehlo, tls, auth or envelope"
    return "write greeting, ehlo, tls, auth or envelope"


def _lower(text: str) -> str:
    """Lower-case ASCII letters only, as CEL's lowerAscii does."""
    return "".join(chr(ord(char) + 32) if "A" <= char <= "Z" else char for char in text)


def _object_name(text: str) -> str | None:
    if _OBJECT_NAME.fullmatch(text):
        return None
    if "/" in text:
        return "write only the name; the object is always in the namespace of the SmtpProbe"
    return "write the metadata.name of the object: lower-case letters, digits, hyphens and dots"


def _data_key(text: str) -> str | None:
    if _DATA_KEY.fullmatch(text) and text != "." and not text.startswith(".."):
        return None
    return "write a key of the object's data: letters, digits, hyphens, underscores and dots"


def _range(text: str) -> str | None:
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


# ------------------------------------------------------------------------------------------------------------- groups


def _bounds(spec: dict[str, Any]) -> Iterator[Problem]:
    if not 1 <= spec.get("port", 1) <= 65535:
        said = "write a port from 1 to 65535: 587 is usual for starttls, 465 for smtps, 25 for plain"
        yield Problem("spec.port", said)
    if not 5 <= spec.get("timeoutSeconds", 60) <= 120:
        yield Problem("spec.timeoutSeconds", "write 5 to 120 seconds")


def _tls_fields(tls: dict[str, Any]) -> Iterator[Problem]:
    yield from _fields(tls, "spec.tls", {"serverName": host})
    authority = tls.get("caRef", {})
    yield from _fields(authority, "spec.tls.caRef", {"name": _object_name, "key": _data_key})
    if authority.get("kind", "Secret") not in {"ConfigMap", "Secret"}:
        yield Problem("spec.tls.caRef.kind", "write ConfigMap or Secret")
    if tls.get("minVersion", "1.2") not in {"1.2", "1.3"}:
        yield Problem("spec.tls.minVersion", 'write "1.2" or "1.3"; older versions are never offered (RFC 8996)')


def _envelope(envelope: dict[str, Any]) -> Iterator[Problem]:
    yield from _fields(envelope, "spec.envelope", {"from": sender})
    for index, text in items(envelope.get("to", [])):
        yield from _said(f"spec.envelope.to[{index}]", recipient(text))


def _schedule(schedule: dict[str, Any]) -> Iterator[Problem]:
    if ("interval" in schedule) + ("cron" in schedule) + bool(schedule.get("once")) > 1:
        yield Problem("spec.schedule", "write only one of interval, cron and once")
    if "interval" in schedule and not _INTERVAL.fullmatch(schedule["interval"]):
        yield Problem("spec.schedule.interval", "write a duration in h, m and s, for example 30m")
    if "cron" in schedule:
        yield from _said("spec.schedule.cron", cron.fault(schedule["cron"]))
    if "timeZone" in schedule:
        zone = schedule["timeZone"]
        if not _TIME_ZONE.fullmatch(zone) or _lower(zone) == "local" or not cron.is_zone(zone):
            yield Problem("spec.schedule.timeZone", "write the IANA name of a time zone, for example Asia/Seoul")
        if "cron" not in schedule:
            said = "a time zone belongs to cron only; remove it or write cron"
            yield Problem("spec.schedule.timeZone", said)


def _location(location: dict[str, Any]) -> Iterator[Problem]:
    path = "spec.location.nodeSelector"
    selector = location.get("nodeSelector", {})
    if not all(_LABEL_KEY.fullmatch(key) for key in selector):
        yield Problem(path, "write each key as a label of the node, for example topology.kubernetes.io/zone")
    if _CONTROL_PLANE & selector.keys():
        yield Problem(path, "write the labels of a worker node: probes do not run on control planes")
    for key, value in selector.items():
        yield from _said(f"{path}[{key}]", _label_value(value))
    for index, toleration in items(location.get("tolerations", [])):
        yield from _toleration(f"spec.location.tolerations[{index}]", toleration)
    yield from _fields(location, "spec.location", {"serviceAccountName": _object_name})


def _label_value(text: str) -> str | None:
    if _LABEL_VALUE.fullmatch(text):
        return None
    return "write a label's value: letters, digits, hyphens, underscores and dots, at most 63 characters"


def _toleration(path: str, toleration: dict[str, Any]) -> Iterator[Problem]:
    key, how = toleration.get("key", ""), toleration.get("operator", "Equal")
    effect = toleration.get("effect", "")
    if key and not _LABEL_KEY.fullmatch(key):
        yield Problem(f"{path}.key", "write the key of a taint, for example dedicated")
    if how not in {"Equal", "Exists"}:
        yield Problem(f"{path}.operator", "write Equal or Exists")
    yield from _said(f"{path}.value", _label_value(toleration.get("value", "")))
    if effect not in {"", "NoSchedule", "PreferNoSchedule", "NoExecute"}:
        said = "write NoSchedule, PreferNoSchedule or NoExecute, or leave it out for all of them"
        yield Problem(f"{path}.effect", said)
    if toleration.get("value") and how == "Exists":
        yield Problem(f"{path}.value", "Exists takes any value; remove the value or write operator Equal")
    if not key and how != "Exists":
        yield Problem(f"{path}.key", "write the key of a taint, or operator Exists for every taint")
    if "tolerationSeconds" in toleration and effect != "NoExecute":
        said = "only effect NoExecute has seconds; remove them or write effect NoExecute"
        yield Problem(f"{path}.tolerationSeconds", said)


# ------------------------------------------------------------------------------------------------------ across fields


def _across(spec: dict[str, Any]) -> Iterator[Problem]:
    depth, plain, tls = spec.get("depth"), spec.get("mode") == "plain", spec.get("tls", {})
    login, envelope = "credentialsSecretRef" in spec, "envelope" in spec
    if depth == "auth" and not login:
        yield Problem("spec.depth", "depth auth logs in: add spec.credentialsSecretRef, or write a lower depth")
    if depth == "envelope" and not envelope:
        yield Problem("spec.depth", "depth envelope sends MAIL FROM: add spec.envelope, or write a lower depth")
    if depth == "tls" and plain:
        yield Problem("spec.depth", "mode plain has no TLS: write depth ehlo, or mode starttls or smtps")
    if plain and (tls.keys() & {"serverName", "caRef", "minVersion"} or tls.get("insecureSkipVerify")):
        yield Problem("spec.tls", "mode plain has no TLS: remove spec.tls, or write mode starttls or smtps")
    if login and tls.get("insecureSkipVerify"):
        yield Problem(
            "spec.tls.insecureSkipVerify",
            "a login is never sent after an unverified certificate: remove insecureSkipVerify and give the CA in "
            "spec.tls.caRef, or remove spec.credentialsSecretRef",
        )
    if spec.get("mechanism", "auto") != "auto" and not login:
        yield Problem("spec.mechanism", "a mechanism belongs to a login: add spec.credentialsSecretRef, or write auto")
    yield from _often(spec.get("schedule", {}), minimum(login=login, envelope=envelope))


def minimum(*, login: bool, envelope: bool) -> int:
    """Return the shortest allowed time between two runs, in seconds (design §4)."""
    return 300 if login or envelope else 60


def _often(schedule: dict[str, Any], least: int) -> Iterator[Problem]:
    interval, text = schedule.get("interval"), schedule.get("cron")
    if interval is not None and _INTERVAL.fullmatch(interval) and interval_seconds(interval) < least:
        said = f"write at least 5m with {_TOO_OFTEN}" if least > 60 else "write at least 1m"
        yield Problem("spec.schedule.interval", said)
    if text is not None and cron.fault(text) is None and cron.shortest_gap(text) < least:
        yield Problem("spec.schedule.cron", f"write at least 5 minutes between two runs with {_TOO_OFTEN}")


def interval_seconds(text: str) -> int:
    """Return the seconds of a Go duration in h, m and s, such as ``1h30m``."""
    units = {"h": 3600, "m": 60, "s": 1}
    return sum(int(number) * units[unit] for number, unit in re.findall("([0-9]+)([hms])", text))
