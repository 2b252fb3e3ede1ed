"""Specs, results and probes for tests of pure decisions: short to write, complete enough to be real."""

from datetime import UTC, datetime, timedelta
from typing import Any

from smtpprobe.model import AuthFacts, EgressAddress, EgressFinding, ProbeResult, Reply, StageResult, Verdict
from smtpprobe.plan import stages
from smtpprobe.resource import RunRef, Spec, Status
from smtpprobe.spec import effective_depth, parse
from smtpprobe.status import Finished, run_digest
from smtpprobe.vocabulary import (
    ConditionStatus,
    EgressMethod,
    EgressReason,
    Outcome,
    Reason,
    Stage,
    StageOutcome,
)
from smtpprobe_operator.registry import Probe

NOON = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


def spec(**fields: Any) -> Spec:
    raw = {"host": "smtp.example.com", "port": 587, "mode": "starttls", **fields}
    parsed = parse(raw)
    assert parsed.spec is not None, parsed.problems
    return parsed.spec


def login_spec(**fields: Any) -> Spec:
    return spec(**{"credentialsSecretRef": {"name": "order-mail-smtp"}, **fields})


def probe(of: Spec | None = None, status: Status | None = None, **fields: Any) -> Probe:
    known = {
        "uid": "0b0f4a4e-6c5e-4d8e-9a55-1d8c5e8a7a11",
        "namespace": "shop",
        "name": "order-mail",
        "generation": 1,
        "resource_version": "1",
        "created": NOON - timedelta(hours=1),
    }
    return Probe(**{**known, "spec": of or spec(), "status": status or Status(), **fields})


def passed(of: Spec, at: datetime = NOON, *, ip: str | None = None) -> ProbeResult:
    login = of.credentials_secret_ref is not None
    walked = _walk(of, None)
    seen = (EgressAddress(ip=ip, family=4, rank="A1", method=EgressMethod.EHLO_REPLY),) if ip else ()
    finding = EgressFinding(addresses=seen, reason=EgressReason.NOT_REQUESTED)
    if of.envelope is not None:
        finding = EgressFinding(
            status=ConditionStatus.TRUE, reason=EgressReason.RELAY_ACCEPTED_NO_CONTROL, addresses=seen
        )
    return ProbeResult(
        outcome=Outcome.PASSED,
        started_at=at - timedelta(seconds=2),
        finished_at=at,
        message=f"{of.host}:{of.port} {of.mode}: passed",
        stages=walked,
        auth=AuthFacts(sent=login, succeeded=login),
        egress=finding,
        server_ip="198.51.100.5",
    )


def refused(
    of: Spec,
    reason: Reason,
    stage: Stage,
    at: datetime = NOON,
    *,
    code: int | None = 550,
    after_tls: bool = True,
    auth: AuthFacts | None = None,
    egress: EgressFinding | None = None,
) -> ProbeResult:
    walked = _walk(of, stage, code, after_tls=after_tls)
    said = f" {code} no" if code else ""
    return ProbeResult(
        outcome=Outcome.FAILED,
        started_at=at - timedelta(seconds=2),
        finished_at=at,
        verdict=Verdict(reason=reason, rule="test"),
        stage=stage,
        message=f"{of.host}:{of.port} {of.mode}, {stage}:{said}",
        stages=walked,
        auth=auth or AuthFacts(),
        egress=egress or EgressFinding(),
        server_ip="198.51.100.5",
    )


def bad_login(
    of: Spec,
    at: datetime = NOON,
    *,
    salt: str = "5a",
    fingerprint: str = "beef",
    reason: Reason = Reason.BAD_CREDENTIALS,
) -> ProbeResult:
    auth = AuthFacts(sent=True, refused=True, salt=salt, fingerprint=fingerprint)
    return refused(of, reason, Stage.AUTH, at, code=535, auth=auth)


def skipped_login(of: Spec, at: datetime = NOON, *, reason: Reason = Reason.BAD_CREDENTIALS) -> ProbeResult:
    return refused(of, reason, Stage.AUTH, at, code=None, auth=AuthFacts(paused=True))


def error(reason: Reason, at: datetime = NOON, text: str = "the image cannot be pulled") -> ProbeResult:
    return ProbeResult(
        outcome=Outcome.ERROR,
        started_at=at,
        finished_at=at,
        verdict=Verdict(reason=reason, rule="operator"),
        message=text,
    )


def finished(
    of: Spec, result: ProbeResult, trigger: str = "slot:0", *, generation: int = 1, attempt: int = 0, **where: Any
) -> Finished:
    run = RunRef(trigger=trigger, generation=generation, attempt=attempt, spec_digest=run_digest(of))
    return Finished(run=run, result=result, **{"node": "node-a", "zone": "zone-a", "pod": "order-mail-x", **where})


def _walk(of: Spec, stop: Stage | None, code: int | None = None, *, after_tls: bool = True) -> tuple[StageResult, ...]:
    walked: list[StageResult] = []
    over = False
    for step in stages(of.mode, effective_depth(of), login=of.credentials_secret_ref is not None):
        names = of.envelope.to if of.envelope and step.stage is Stage.RCPT else (None,)
        for recipient in names:
            last = step.stage is stop and not over and (step.stage is not Stage.EHLO or step.after_tls is after_tls)
            reply = Reply(code=code, lines=("no",)) if last and code else None
            skipped = StageOutcome.SKIPPED if step.stage is Stage.AUTH and code is None else StageOutcome.FAILED
            outcome = StageOutcome.NOT_REACHED if over else skipped if last else StageOutcome.PASSED
            walked.append(
                StageResult(
                    stage=step.stage,
                    outcome=outcome,
                    after_tls=step.after_tls,
                    elapsed_ms=0 if over else 10,
                    reply=reply,
                    recipient=recipient,
                )
            )
            over = over or last
    return tuple(walked)
