"""What the CRD's CEL rules say about a spec, in the same sentences, and what only Python can see.

Each rule has its counterpart in ``crds/smtpprobes.yaml``; a test puts the same manifests to both. Single names and
addresses are judged in ``specwords``.
Only here: time zones by name, ranges and dates of a cron text, and the real gap between its runs.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from smtpprobe import cron, specwords as words
from smtpprobe.specshape import Problem, items

_LABEL_KEY = re.compile(r"(?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)?")
_INTERVAL = re.compile(r"(?:[0-9]{1,5}[hms])+", re.ASCII)
_TIME_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+){0,2}")
_CONTROL_PLANE = {f"node-role.kubernetes.io/{role}" for role in ("control-plane", "controlplane", "master", "etcd")}
_TOO_OFTEN = "with credentials or an envelope: servers lock out who tries too often"
_A_MAIL = "with depth message: each run sends a mail"

Judge = Callable[[str], str | None]


def check(spec: dict[str, Any], *, port: bool) -> Iterator[Problem]:
    """Judge the usable part of a raw spec, field by field and across fields; ``port``: one is given, usable or not."""
    if not port and spec.get("mode") != "auto":
        usual = "587 is usual for starttls, 465 for smtps, 25 for plain"
        yield Problem("spec.port", f"write the TCP port: {usual}; only mode auto finds it by itself")
    yield from _fields(
        spec, "spec", {"host": words.host, "mode": words.mode, "mechanism": words.mechanism, "depth": words.depth}
    )
    yield from _fields(spec, "spec", {"heloName": words.helo_name, "language": words.language})
    yield from _bounds(spec)
    reference = spec.get("credentialsSecretRef", {})
    names = {"name": words.object_name, "usernameKey": words.data_key, "passwordKey": words.data_key}
    yield from _fields(reference, "spec.credentialsSecretRef", names)
    yield from _tls_fields(spec.get("tls", {}))
    yield from _envelope(spec.get("envelope", {}))
    yield from _schedule(spec.get("schedule", {}))
    yield from _location(spec.get("location", {}))
    for index, text in items(spec.get("egress", {}).get("expectedCIDRs", [])):
        yield from _said(f"spec.egress.expectedCIDRs[{index}]", words.address_range(text))
    yield from _across(spec)


def _said(field: str, message: str | None) -> Iterator[Problem]:
    if message is not None:
        yield Problem(field, message)


def _fields(values: dict[str, Any], path: str, judges: Mapping[str, Judge]) -> Iterator[Problem]:
    for name, judge in judges.items():
        if name in values:
            yield from _said(f"{path}.{name}", judge(values[name]))


# ------------------------------------------------------------------------------------------------------------- groups


def _bounds(spec: dict[str, Any]) -> Iterator[Problem]:
    if not 1 <= spec.get("port", 1) <= 65535:
        said = "write a port from 1 to 65535: 587 is usual for starttls, 465 for smtps, 25 for plain"
        yield Problem("spec.port", said)
    if not 5 <= spec.get("timeoutSeconds", 60) <= 120:
        yield Problem("spec.timeoutSeconds", "write 5 to 120 seconds")


def _tls_fields(tls: dict[str, Any]) -> Iterator[Problem]:
    yield from _fields(tls, "spec.tls", {"serverName": words.host})
    authority = tls.get("caRef", {})
    yield from _fields(authority, "spec.tls.caRef", {"name": words.object_name, "key": words.data_key})
    if authority.get("kind", "Secret") not in {"ConfigMap", "Secret"}:
        yield Problem("spec.tls.caRef.kind", "write ConfigMap or Secret")
    if tls.get("minVersion", "1.2") not in {"1.2", "1.3"}:
        yield Problem("spec.tls.minVersion", 'write "1.2" or "1.3"; older versions are never offered (RFC 8996)')


def _envelope(envelope: dict[str, Any]) -> Iterator[Problem]:
    yield from _fields(envelope, "spec.envelope", {"from": words.sender})
    for index, text in items(envelope.get("to", [])):
        yield from _said(f"spec.envelope.to[{index}]", words.recipient(text))


def _schedule(schedule: dict[str, Any]) -> Iterator[Problem]:
    if ("interval" in schedule) + ("cron" in schedule) + bool(schedule.get("once")) > 1:
        yield Problem("spec.schedule", "write only one of interval, cron and once")
    if "interval" in schedule and not _INTERVAL.fullmatch(schedule["interval"]):
        yield Problem("spec.schedule.interval", "write a duration in h, m and s, for example 30m")
    if "cron" in schedule:
        yield from _said("spec.schedule.cron", cron.fault(schedule["cron"]))
    if "timeZone" in schedule:
        zone = schedule["timeZone"]
        if not _TIME_ZONE.fullmatch(zone) or words.lower(zone) == "local" or not cron.is_zone(zone):
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
    yield from _fields(location, "spec.location", {"serviceAccountName": words.object_name})


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
    if depth == "message" and not spec.get("envelope", {}).get("to"):
        said = "depth message sends a mail: add spec.envelope with at least one recipient, or write a lower depth"
        yield Problem("spec.depth", said)
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
    yield from _variants(spec, login=login, plain=plain)
    yield from _often(spec.get("schedule", {}), minimum(login=login, envelope=envelope, message=depth == "message"))


def _variants(spec: dict[str, Any], *, login: bool, plain: bool) -> Iterator[Problem]:
    field = "spec.tryUsernameVariants"
    if spec.get("tryUsernameVariants") and not login:
        said = "a user name belongs to a login: add spec.credentialsSecretRef, or remove tryUsernameVariants"
        yield Problem(field, said)
    if spec.get("tryUsernameVariants") and plain:
        said = "write mode starttls or smtps, or remove tryUsernameVariants"
        yield Problem(field, f"a second login is never sent in plaintext: {said}")


def minimum(*, login: bool, envelope: bool, message: bool) -> int:
    """Return the shortest allowed time between two runs, in seconds (design §4)."""
    return 900 if message else 300 if login or envelope else 60


def _often(schedule: dict[str, Any], least: int) -> Iterator[Problem]:
    interval, text = schedule.get("interval"), schedule.get("cron")
    why = _A_MAIL if least > 300 else _TOO_OFTEN
    if interval is not None and _INTERVAL.fullmatch(interval) and interval_seconds(interval) < least:
        said = f"write at least {least // 60}m {why}" if least > 60 else "write at least 1m"
        yield Problem("spec.schedule.interval", said)
    if text is not None and cron.fault(text) is None and cron.shortest_gap(text) < least:
        yield Problem("spec.schedule.cron", f"write at least {least // 60} minutes between two runs {why}")


def interval_seconds(text: str) -> int:
    """Return the seconds of a Go duration in h, m and s, such as ``1h30m``."""
    units = {"h": 3600, "m": 60, "s": 1}
    return sum(int(number) * units[unit] for number, unit in re.findall("([0-9]+)([hms])", text))
