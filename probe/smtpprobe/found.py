"""What a status remembers of mode auto and of TLS on offer, and what the next run makes of it. Pure.

Ports are looked at once for each generation: the result is kept in ``status.discovery``, and later runs go straight to
what it names. Where no port took a connection nobody was bothered and nothing is known: the next run looks again.
``status.tlsSeen`` outlives generations: an offer of STARTTLS that is gone is no reason for a lower mode.
"""

from datetime import datetime

import msgspec

from smtpprobe.discovery import logins, offers_tls
from smtpprobe.model import PortFinding, ProbeResult
from smtpprobe.replies import offered
from smtpprobe.resource import DiscoveryStatus, FoundPort, Spec, Status
from smtpprobe.runs import run_digest
from smtpprobe.vocabulary import Mode

KEPT_TLS = 8
_ISSUER_CHARS = 100


def after_run(
    status: Status, spec: Spec, result: ProbeResult, *, generation: int, at: datetime
) -> tuple[DiscoveryStatus | None, tuple[str, ...]]:
    """Return ``status.discovery`` and ``status.tlsSeen`` after a run of this spec."""
    known = status.discovery if spec.mode is Mode.AUTO else None
    if result.discovery is not None and spec.mode is Mode.AUTO:
        known = DiscoveryStatus(
            host=_host(spec),
            generation=generation,
            spec_digest=run_digest(spec),
            at=at,
            port=result.discovery.port,
            mode=result.discovery.mode,
            why=result.discovery.why,
            ports=tuple(_short(port) for port in result.discovery.ports),
        )
    ports = {found.port for found in result.discovery.ports if offers_tls(found)} if result.discovery else set()
    port = as_found(spec, known).port
    if port and (result.tls is not None or offered(result.features.before_tls or (), "STARTTLS")):
        ports.add(port)
    new = [f"{_host(spec)}:{port}" for port in sorted(ports)]
    return known, tuple(dict.fromkeys((*new, *status.tls_seen)))[:KEPT_TLS]


def as_found(spec: Spec, known: DiscoveryStatus | None) -> Spec:
    """Return the spec with the port and mode that were found for it, by which its answer is to be judged."""
    if spec.mode is not Mode.AUTO or known is None or not known.port or known.spec_digest != run_digest(spec):
        return spec
    mode = Mode(known.mode) if known.mode in set(Mode) else Mode.AUTO
    return msgspec.structs.replace(spec, port=known.port, mode=mode)


def to_run(spec: Spec, status: Status, generation: int) -> Spec:
    """Return the spec of the next session: as found where this very generation has looked already."""
    known = status.discovery
    return as_found(spec, known) if known is not None and known.generation == generation else spec


def looks(spec: Spec, status: Status, generation: int) -> bool:
    """Say whether the next run looks at several ports, two at a time."""
    return to_run(spec, status, generation).port is None


def tls_seen(spec: Spec, status: Status) -> tuple[int, ...]:
    """Return the ports of this host that offered TLS in an earlier run."""
    places = (entry.rpartition(":") for entry in status.tls_seen)
    return tuple(int(port) for host, _, port in places if host == _host(spec) and port.isdecimal())


def _host(spec: Spec) -> str:
    return spec.host.lower().rstrip(".")


def _short(found: PortFinding) -> FoundPort:
    tls = found.tls
    leaf = tls.chain[0] if tls is not None and tls.chain else None
    return FoundPort(
        port=found.port,
        mode=found.mode,
        reason=found.reason,
        auth=" ".join(logins(found)) or None,
        tls=tls.protocol if tls is not None else None,
        issuer=leaf.issuer[:_ISSUER_CHARS] if leaf is not None else None,
        not_after=leaf.not_after if leaf is not None else None,
        tls_errors=tuple(map(str, tls.errors)) if tls is not None else (),
    )
