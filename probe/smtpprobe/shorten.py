"""The steps by which a result becomes short enough for a termination message, in their order (design §7).

Never cut: outcome, reason, stage, the refusing reply's code and first 300 characters, egress, the login's fingerprint.
"""

from collections.abc import Callable, Iterator
from typing import Final

from msgspec.structs import replace

from smtpprobe.model import (
    Certificate,
    Discovery,
    Experiment,
    Features,
    PortFinding,
    ProbeResult,
    Reply,
    StageResult,
    TlsFacts,
)
from smtpprobe.redact import clip
from smtpprobe.vocabulary import Stage, StageOutcome

KEPT_REPLY: Final = 300
KEPT_SANS: Final = 4
KEPT_EGRESS: Final = 8
KEPT_PORTS: Final = 6


def refusing(result: ProbeResult) -> StageResult | None:
    """Return the entry that carries the verdict: the last failed one, of the result's stage where there is one."""
    failed = [s for s in result.stages if s.outcome is StageOutcome.FAILED]
    at_stage = [s for s in failed if s.stage is result.stage]
    return (at_stage or failed)[-1] if failed else None


def _each_stage(result: ProbeResult, change: Callable[[StageResult], StageResult]) -> ProbeResult:
    kept = refusing(result)
    return replace(result, stages=tuple(s if s is kept else change(s) for s in result.stages))


def _reply_lines(stage: StageResult, lines: Callable[[tuple[str, ...]], tuple[str, ...]]) -> StageResult:
    return replace(stage, reply=replace(stage.reply, lines=lines(stage.reply.lines))) if stage.reply else stage


def _chain(result: ProbeResult, change: Callable[[tuple[Certificate, ...]], tuple[Certificate, ...]]) -> ProbeResult:
    return replace(result, tls=replace(result.tls, chain=change(result.tls.chain))) if result.tls else result


def _clip(text: str | None, limit: int) -> str | None:
    return None if text is None else clip(text, limit)


def _ehlo_texts(result: ProbeResult) -> ProbeResult:
    """Keep the first line of EHLO replies: the keywords stand in ``features`` again."""
    return _each_stage(result, lambda s: _reply_lines(s, lambda ls: ls[:1]) if s.stage is Stage.EHLO else s)


def _ports(result: ProbeResult, change: Callable[[PortFinding], PortFinding]) -> ProbeResult:
    found = result.discovery
    return replace(result, discovery=replace(found, ports=tuple(map(change, found.ports)))) if found else result


def _port_facts(result: ProbeResult) -> ProbeResult:
    """Keep of each port that was looked at what the status keeps: logins on offer, the leaf's issuer and end."""

    def short(found: PortFinding) -> PortFinding:
        tls = found.tls and replace(found.tls, cipher=None, chain=tuple(map(_end, found.tls.chain[:1])))
        return replace(found, features=_telling(found.features), tls=tls, detail=_clip(found.detail, 80))

    return _ports(result, short)


def _end(certificate: Certificate) -> Certificate:
    return replace(certificate, subject="", issuer=clip(certificate.issuer, 60), sans=(), key="", sha256="")


def _bare_ports(result: ProbeResult) -> ProbeResult:
    """Keep of each port its mode, or why it cannot be used."""
    return _ports(result, lambda p: PortFinding(port=p.port, mode=p.mode, reason=p.reason, stage=p.stage))


def _sans(result: ProbeResult) -> ProbeResult:
    return _chain(result, lambda chain: tuple(replace(c, sans=c.sans[:KEPT_SANS]) for c in chain))


def _issuer_names(result: ProbeResult) -> ProbeResult:
    """Keep of issuers their names and dates."""
    return _chain(result, lambda chain: (*chain[:1], *(replace(c, sans=(), key="", sha256="") for c in chain[1:4])))


def _leaf_only(result: ProbeResult) -> ProbeResult:
    return _chain(result, lambda chain: chain[:1])


def _other_replies_short(result: ProbeResult) -> ProbeResult:
    return _each_stage(result, lambda s: _reply_lines(s, lambda ls: tuple(clip(line, 120) for line in ls[:1])))


def _other_replies(result: ProbeResult) -> ProbeResult:
    return _each_stage(result, lambda s: _reply_lines(s, lambda _: ()))


def _addresses(result: ProbeResult) -> ProbeResult:
    """Keep the address that was talked to, else the first that was tried."""
    tried = [a for a in result.addresses if a.tried]
    return replace(result, addresses=tuple([a for a in tried if a.connected] or tried)[:1])


def _details(result: ProbeResult) -> ProbeResult:
    shorter = _each_stage(result, lambda s: replace(s, detail=_clip(s.detail, 60)))
    return replace(shorter, experiments=tuple(replace(e, showed=clip(e.showed, 100)) for e in result.experiments[:4]))


def _keywords(result: ProbeResult) -> ProbeResult:
    """Keep the keywords that verdicts and advice speak of."""
    return replace(result, features=_telling(result.features))


def _telling(seen: Features) -> Features:
    def kept(words: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if words is None:
            return None
        return tuple(clip(w, 80) for w in words if w.upper().startswith(("AUTH", "STARTTLS", "SIZE")))[:3]

    return Features(before_tls=kept(seen.before_tls), after_tls=kept(seen.after_tls))


def _refusing_reply(result: ProbeResult) -> ProbeResult:
    kept = refusing(result)
    if kept is None:
        return result
    shorter = replace(_reply_lines(kept, lambda ls: tuple(_first(ls, KEPT_REPLY))), detail=_clip(kept.detail, 200))
    return replace(result, stages=tuple(shorter if s is kept else s for s in result.stages))


def _first(lines: tuple[str, ...], budget: int) -> Iterator[str]:
    for line in lines:
        if budget <= 0:
            return
        yield line[:budget]
        budget -= max(1, len(line))


def _leaf(certificate: Certificate) -> Certificate:
    return replace(
        certificate,
        subject=clip(certificate.subject, 100),
        issuer=clip(certificate.issuer, 100),
        sans=tuple(clip(name, 80) for name in certificate.sans[:2]),
        key=clip(certificate.key, 40),
        sha256=certificate.sha256[:64],
    )


def _bare_experiment(one: Experiment) -> Experiment:
    """Keep what the next run needs, so that none is made twice."""
    return replace(one, name=clip(one.name, 20), showed=clip(one.showed, 40), answer=clip(one.answer, 20))


def _long_names(result: ProbeResult) -> ProbeResult:
    """Bound everything that a spec, a certificate or a rule can make long."""
    tls = result.tls and TlsFacts(
        protocol=_clip(result.tls.protocol, 20),
        cipher=_clip(result.tls.cipher, 60),
        verified=result.tls.verified,
        chain=tuple(_leaf(c) for c in result.tls.chain[:1]),
        errors=result.tls.errors[:6],
    )
    verdict = result.verdict
    if verdict is not None:
        verdict = replace(verdict, alternatives=verdict.alternatives[:3], rule=clip(verdict.rule, 80))
    return replace(
        result,
        tls=tls,
        verdict=verdict,
        egress=replace(result.egress, addresses=result.egress.addresses[:KEPT_EGRESS]),
        message=clip(result.message, 200),
        discovery=result.discovery
        and replace(result.discovery, why=clip(result.discovery.why, 160), ports=result.discovery.ports[:KEPT_PORTS]),
        experiments=tuple(_bare_experiment(e) for e in result.experiments[:2]),
        notes=tuple(dict.fromkeys(result.notes)),
        addresses=(),
    )


def _bare_stages(result: ProbeResult) -> ProbeResult:
    """Keep of each other stage its worst entry: outcome, time and code."""
    kept = refusing(result)
    worst: dict[tuple[Stage, bool], StageResult] = {}
    for s in result.stages:
        key = (s.stage, s.after_tls)
        if s is kept or key not in worst or (worst[key] is not kept and s.outcome is StageOutcome.FAILED):
            worst[key] = s
    bare = (
        s if s is kept else replace(s, detail=None, recipient=None, reply=s.reply and Reply(code=s.reply.code))
        for s in worst.values()
    )
    return replace(result, stages=tuple(bare))


def _last_resort(result: ProbeResult) -> ProbeResult:
    kept = refusing(result)
    return ProbeResult(
        outcome=result.outcome,
        started_at=result.started_at,
        finished_at=result.finished_at,
        verdict=result.verdict,
        stage=result.stage,
        message=clip(result.message, 100),
        stages=(replace(kept, detail=_clip(kept.detail, 60)),) if kept else (),
        server_ip=result.server_ip,
        local_port=result.local_port,
        auth=result.auth,
        egress=result.egress,
        notes=result.notes,
        discovery=_least(result.discovery) if result.discovery else None,
    )


def _least(found: Discovery) -> Discovery:
    ports = tuple(PortFinding(port=p.port, mode=p.mode) for p in found.ports[:KEPT_PORTS])
    return Discovery(port=found.port, mode=found.mode, why=clip(found.why, 60), ports=ports)


STEPS: Final[tuple[Callable[[ProbeResult], ProbeResult], ...]] = (
    _ehlo_texts,
    _port_facts,
    _sans,
    _issuer_names,
    _leaf_only,
    _other_replies_short,
    _other_replies,
    _addresses,
    _details,
    _keywords,
    _bare_ports,
    _refusing_reply,
    _long_names,
    _bare_stages,
    _last_resort,
)
