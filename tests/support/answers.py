"""Results that played pods write."""

from __future__ import annotations

from datetime import UTC, datetime

from smtpprobe.model import AuthFacts, ProbeResult, Reply, StageResult, Verdict
from smtpprobe.vocabulary import Outcome, Reason, Stage, StageOutcome

FAR = {"cron": "0 0 1 1 *"}
PLAIN = {"host": "smtp.example.com", "port": 25, "mode": "plain", "schedule": FAR}
LOGIN = {
    "host": "smtp.example.com",
    "port": 587,
    "mode": "starttls",
    "credentialsSecretRef": {"name": "mail"},
    "schedule": FAR,
}


def _stages(upto: Stage, last: StageOutcome, reply: Reply | None = None) -> tuple[StageResult, ...]:
    order = [Stage.DNS, Stage.CONNECT, Stage.GREETING, Stage.EHLO, Stage.AUTH, Stage.MAIL, Stage.RCPT]
    done = [StageResult(stage=stage, outcome=StageOutcome.PASSED) for stage in order[: order.index(upto)]]
    return (*done, StageResult(stage=upto, outcome=last, reply=reply))


def passed() -> ProbeResult:
    """A session that went as far as it was asked to."""
    now = datetime.now(UTC)
    stages = _stages(Stage.EHLO, StageOutcome.PASSED)
    return ProbeResult(outcome=Outcome.PASSED, started_at=now, finished_at=now, message="ok", stages=stages)


def failed(reason: Reason, stage: Stage = Stage.RCPT, code: int = 554, text: str = "5.7.1 denied") -> ProbeResult:
    """A session that the server refused."""
    now = datetime.now(UTC)
    return ProbeResult(
        outcome=Outcome.FAILED,
        started_at=now,
        finished_at=now,
        verdict=Verdict(reason=reason),
        stage=stage,
        message=f"{code} {text}",
        stages=_stages(stage, StageOutcome.FAILED, Reply(code=code, lines=(text,))),
    )


def refused_login(fingerprint: str = "beef") -> ProbeResult:
    """A session whose login was refused."""
    now = datetime.now(UTC)
    auth = AuthFacts(sent=True, refused=True, salt="00" * 16, fingerprint=fingerprint)
    text = "5.7.8 authentication failed"
    return ProbeResult(
        outcome=Outcome.FAILED,
        started_at=now,
        finished_at=now,
        verdict=Verdict(reason=Reason.BAD_CREDENTIALS),
        stage=Stage.AUTH,
        message=f"535 {text}",
        stages=_stages(Stage.AUTH, StageOutcome.FAILED, Reply(code=535, lines=(text,))),
        auth=auth,
    )
