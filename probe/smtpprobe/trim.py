"""Keep a status below 32 KiB: the oldest evidence goes first, what schedule and login pause need never. Pure."""

from collections.abc import Callable

import msgspec

from smtpprobe.resource import AuthPause, FoundPort, LastRun, LocationStatus, StageStatus, Status, encode_status

STATUS_LIMIT = 32 * 1024
MARK = "..."


def size(status: Status) -> int:
    """Return the bytes of the JSON form."""
    return len(msgspec.json.encode(encode_status(status)))


def limit(status: Status) -> Status:
    """Cut a status to 32 KiB of JSON, oldest evidence first, with ``truncated: true``."""
    if size(status) <= STATUS_LIMIT:
        return status
    for cut in _CUTS:
        status = msgspec.structs.replace(cut(status), truncated=True)
        if size(status) <= STATUS_LIMIT:
            break
    return status


def _clip(text: str, most: int) -> str:
    # A character outside ASCII may take 12 bytes of JSON where somebody escapes it.
    return text if len(text) <= most else text[: most - len(MARK)] + MARK


def _old_outages(status: Status) -> Status:
    rows = tuple(msgspec.structs.replace(row, evidence=None) for row in status.outages[1:])
    return msgspec.structs.replace(status, outages=(*status.outages[:1], *rows))


def _outages(status: Status) -> Status:
    rows = tuple(msgspec.structs.replace(row, evidence=None, reason=_clip(row.reason, 64)) for row in status.outages)
    return msgspec.structs.replace(status, outages=rows[:10])


def _replies(status: Status) -> Status:
    return _locations(status, lambda location: _stages(location, 300))


def _evidence(status: Status) -> Status:
    """Keep of an answer what its conditions are judged from."""
    return _locations(
        status,
        lambda location: msgspec.structs.replace(
            _stages(location, 120),
            evidence={key: value for key, value in (location.evidence or {}).items() if key in _JUDGED},
        ),
    )


def _chain(status: Status) -> Status:
    def leaf(location: LocationStatus) -> LocationStatus:
        tls = location.tls
        chain = tls.get("chain") if tls else None
        return msgspec.structs.replace(location, tls={**tls, "chain": chain[:1]} if tls and chain else tls)

    return _locations(status, leaf)


def _texts(status: Status) -> Status:
    conditions = tuple(msgspec.structs.replace(c, message=_clip(c.message, 400)) for c in status.conditions)
    advice = status.advice and msgspec.structs.replace(status.advice, text=_clip(status.advice.text, 1000))
    history = tuple(msgspec.structs.replace(h, trigger=_clip(h.trigger, 70)) for h in status.history[:10])
    found = status.discovery
    if found is not None:
        ports = tuple(FoundPort(port=p.port, mode=p.mode, reason=p.reason) for p in found.ports[:8])
        found = msgspec.structs.replace(found, ports=ports, why=_clip(found.why, 200) if found.why else None)
    return msgspec.structs.replace(status, conditions=conditions, advice=advice, history=history, discovery=found)


def _bare(status: Status) -> Status:
    """Leave what is read by machines; an answer without its result is judged anew by the next run."""
    auth, last = status.auth, status.last_run
    locations = tuple(
        msgspec.structs.replace(known, stages=(), tls=None, evidence=None, name=_clip(known.name, 63), node=None,
                                zone=None, pod=None)
        for known in status.locations[:10]
    )  # fmt: skip
    return msgspec.structs.replace(
        _texts(status),
        conditions=tuple(msgspec.structs.replace(c, message=_clip(c.message, 100)) for c in status.conditions),
        advice=None,
        locations=locations,
        history=status.history[:3],
        outages=(),
        experiments=tuple(msgspec.structs.replace(one, showed=_clip(one.showed, 40)) for one in status.experiments),
        tls_seen=status.tls_seen[:2],
        certificates=(),
        egress=msgspec.structs.replace(status.egress, addresses=status.egress.addresses[:1]),
        auth=_short_auth(auth),
        last_run=_short_run(last) if last else None,
    )


def _short_auth(auth: AuthPause) -> AuthPause:
    return msgspec.structs.replace(auth, message=_clip(auth.message, 200) if auth.message else None)


def _short_run(last: LastRun) -> LastRun:
    return msgspec.structs.replace(last, message=_clip(last.message, 200) if last.message else None)


def _locations(status: Status, change: Callable[[LocationStatus], LocationStatus]) -> Status:
    return msgspec.structs.replace(status, locations=tuple(change(location) for location in status.locations))


def _stages(location: LocationStatus, most: int) -> LocationStatus:
    def short(entry: StageStatus) -> StageStatus:
        return msgspec.structs.replace(
            entry,
            text=_clip(entry.text, most) if entry.text else None,
            detail=_clip(entry.detail, most) if entry.detail else None,
        )

    return msgspec.structs.replace(location, stages=tuple(short(entry) for entry in location.stages[:24]))


_JUDGED = {
    "startedAt",
    "finishedAt",
    "schemaVersion",
    "verdict",
    "stage",
    "message",
    "serverIp",
    "auth",
    "egress",
    "notes",
}
_CUTS: tuple[Callable[[Status], Status], ...] = (_old_outages, _outages, _replies, _chain, _evidence, _texts, _bare)
