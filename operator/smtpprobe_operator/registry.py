"""The SmtpProbes that exist, as the API server last showed them: one dict by uid.

A uid, never a name, says who a probe is: a namesake made after a deletion is another probe.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import msgspec

from smtpprobe.resource import RUN_NOW_ANNOTATION, Spec, Status, decode_status
from smtpprobe.spec import Parsed, Problem, parse

LoginKey = tuple[str, str, str]


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """One SmtpProbe. ``spec`` is None where ``problems`` says why it cannot be used."""

    uid: str
    namespace: str
    name: str
    generation: int
    resource_version: str
    created: datetime
    run_now: str | None = None
    spec: Spec | None = None
    problems: tuple[Problem, ...] = ()
    status: Status = Status()
    deleting: bool = False

    @property
    def path(self) -> str:
        """``namespace/name``, for logs."""
        return f"{self.namespace}/{self.name}"


def from_body(body: Mapping[str, Any]) -> Probe:
    """Read a resource as the API server sent it; what is wrong with its spec is data, not an exception."""
    meta = body["metadata"]
    try:
        parsed = parse(body.get("spec"))
    except Exception as error:  # noqa: BLE001 - one spec that our reader breaks on must not stop all other probes
        parsed = Parsed(None, (Problem("spec", f"cannot be read by this operator: {type(error).__name__}"),))
    return Probe(
        uid=meta["uid"],
        namespace=meta["namespace"],
        name=meta["name"],
        generation=int(meta.get("generation", 1)),
        resource_version=str(meta.get("resourceVersion", "")),
        created=datetime.fromisoformat(meta["creationTimestamp"]),
        run_now=(meta.get("annotations") or {}).get(RUN_NOW_ANNOTATION),
        spec=parsed.spec,
        problems=parsed.problems,
        status=decode_status(body.get("status")),
        deleting="deletionTimestamp" in meta,
    )


def is_newer(one: str, other: str) -> bool:
    """Whether resourceVersion ``one`` is later than ``other`` (KEP-5504: decimal numbers that grow)."""
    if one.isdecimal() and other.isdecimal():
        return int(one) > int(other)
    return one != other


class Registry:
    """Probes by uid. An older body than the one held changes nothing: watches and answers to patches overtake."""

    def __init__(self) -> None:
        self._probes: dict[str, Probe] = {}
        self._uids: dict[tuple[str, str], str] = {}
        self._logins: dict[LoginKey, set[str]] = {}

    def put(self, probe: Probe) -> bool:
        """Take in a probe; returns False where the one held is the same or newer."""
        held = self._probes.get(probe.uid)
        if held and not is_newer(probe.resource_version, held.resource_version):
            return False
        namesake = self._uids.get((probe.namespace, probe.name))
        if namesake and namesake != probe.uid:
            if self._probes[namesake].created > probe.created:
                return False
            self.remove(namesake)
        if held:
            self._forget_login(held)
        self._probes[probe.uid] = probe
        self._uids[probe.namespace, probe.name] = probe.uid
        if (key := login_key(probe)) is not None:
            self._logins.setdefault(key, set()).add(probe.uid)
        return True

    def remove(self, uid: str) -> Probe | None:
        """Forget a probe that is gone."""
        probe = self._probes.pop(uid, None)
        if probe:
            self._forget_login(probe)
            if self._uids.get((probe.namespace, probe.name)) == uid:
                del self._uids[probe.namespace, probe.name]
        return probe

    def get(self, uid: str) -> Probe | None:
        return self._probes.get(uid)

    def siblings(self, probe: Probe) -> tuple[Probe, ...]:
        """Return the other probes of the namespace that log in to the same host with the same Secret."""
        key = login_key(probe)
        uids = self._logins.get(key, set()) if key else set()
        return tuple(self._probes[uid] for uid in sorted(uids) if uid != probe.uid)

    def snapshot(self) -> tuple[Probe, ...]:
        """Return what is known now; the values are immutable, so any thread may read them."""
        return tuple(self._probes.values())

    def __iter__(self) -> Iterator[Probe]:
        return iter(tuple(self._probes.values()))

    def __len__(self) -> int:
        return len(self._probes)

    def _forget_login(self, probe: Probe) -> None:
        key = login_key(probe)
        if key and (uids := self._logins.get(key)):
            uids.discard(probe.uid)
            if not uids:
                del self._logins[key]


def login_key(probe: Probe) -> LoginKey | None:
    """Say which account a probe would log in to: one namespace, Secret and host share a pause."""
    if probe.spec is None or probe.spec.credentials_secret_ref is None:
        return None
    return probe.namespace, probe.spec.credentials_secret_ref.name, probe.spec.host.lower().rstrip(".")
