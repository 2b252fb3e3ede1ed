"""One result as text for people: what happened, what was said, who must act, what to do, and proof for the mail admin.

Everything here comes from a ``ProbeResult``, or from a status alone, hours later (``from_status``). Server text is
already sanitized; ``charset.readable`` shows its letters.
"""

import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

from smtpprobe.advice import OWNERS, SHAPES, AdviceFacts, Lang, advise, failed_stage, more, utc
from smtpprobe.charset import readable
from smtpprobe.evidence import result_of
from smtpprobe.model import Certificate, ProbeRequest, ProbeResult, StageResult, TlsFacts, TranscriptLine
from smtpprobe.resource import Spec, Status
from smtpprobe.runs import run_digest
from smtpprobe.vocabulary import (
    REASONS,
    ConditionType,
    EgressMethod,
    Outcome,
    StageOutcome,
    StateReason,
)

__all__ = ["evidence", "from_status", "text", "wrapped"]

WIDTH = 100
_HEADS: dict[Lang, dict[str, str]] = {
    "en": {
        "also": "also possible",
        "stages": "STAGES",
        "said": "THE SERVER SAID",
        "who": "WHO MUST ACT",
        "todo": "WHAT TO DO",
        "proof": "FOR THE MAIL ADMIN",
        "tls": "TLS",
        "egress": "EGRESS",
        "experiments": "EXPERIMENTS",
        "notes": "NOTES",
        "transcript": "TRANSCRIPT",
        "history": "HISTORY",
        "none": "No finished run is in this status yet.",
    },
    "ko": {
        "also": "다른 가능성",
        "stages": "단계",
        "said": "서버의 응답",
        "who": "조치할 사람",
        "todo": "조치 방법",
        "proof": "메일 관리자에게 보낼 내용",
        "tls": "TLS",
        "egress": "출구 주소",
        "experiments": "추가 실험",
        "notes": "참고",
        "transcript": "대화 기록",
        "history": "실행 이력",
        "none": "이 상태에는 아직 끝난 실행이 없습니다.",
    },
}
_PROOF: dict[Lang, dict[str, str]] = {
    "en": {
        "intro": "Please look up this SMTP session in the server's log:",
        "time": "time",
        "server": "server",
        "client": "client",
        "helo": "EHLO name",
        "login": "login",
        "envelope": "envelope",
        "stopped": "stopped at",
        "reply": "reply",
        "unseen": "address not named by the server",
        "port": "local port",
        "seen": "as the server named it",
        "accepted": "accepted",
        "refused": "refused",
        "unanswered": "sent, not answered",
        "unsent": "none sent",
    },
    "ko": {
        "intro": "아래 SMTP 세션을 서버 로그에서 확인해 주시기 바랍니다.",
        "time": "시각",
        "server": "서버",
        "client": "클라이언트",
        "helo": "EHLO 이름",
        "login": "로그인",
        "envelope": "봉투",
        "stopped": "중단 단계",
        "reply": "응답",
        "unseen": "서버가 주소를 밝히지 않음",
        "port": "로컬 포트",
        "seen": "서버가 밝힌 주소",
        "accepted": "성공",
        "refused": "거절됨",
        "unanswered": "보냈으나 응답 없음",
        "unsent": "보내지 않음",
    },
}
_COLOURS = {"red": "31", "green": "32", "yellow": "33", "bold": "1", "dim": "2"}


class _Paint:
    """Colours where a terminal wants them, plain text else."""

    def __init__(self, colour: bool) -> None:
        self.colour = colour

    def __call__(self, text: str, name: str) -> str:
        return f"\x1b[{_COLOURS[name]}m{text}\x1b[0m" if self.colour else text


def text(
    result: ProbeResult,
    request: ProbeRequest | None,
    *,
    lang: Lang = "en",
    colour: bool = False,
    transcript: Sequence[TranscriptLine] = (),
    now: datetime | None = None,
) -> str:
    """Return the whole diagnosis of one result for a terminal; ``now`` (default: the run's end) counts days left."""
    paint, heads = _Paint(colour), _HEADS[lang]
    blocks = [_headline(result, request, paint, lang)]
    blocks.append(_block(paint(heads["stages"], "bold"), (_row(stage, paint) for stage in result.stages)))
    failed = failed_stage(result)
    if failed is not None and failed.reply is not None:
        blocks.append(_block(paint(heads["said"], "bold"), _reply_lines(failed)))
    if result.verdict is not None:
        reason = result.verdict.reason
        advice = advise(reason, AdviceFacts.of(request, result), lang, pointer=False)
        told = wrapped([advice.text, more(reason, lang)])
        blocks.append(_block(paint(heads["who"], "bold"), [OWNERS[lang][REASONS[reason].owner]]))
        blocks.append(_block(paint(heads["todo"], "bold"), told))
    if result.outcome is Outcome.FAILED:
        blocks.append(_block(paint(heads["proof"], "bold"), evidence(result, request, lang).splitlines()))
    if result.tls is not None:
        blocks.append(_block(paint(heads["tls"], "bold"), _tls_lines(result.tls, now or result.finished_at, lang)))
    blocks.append(_block(paint(heads["egress"], "bold"), _egress_lines(result)))
    experiments = [f"{e.name}: {e.showed}" + (f" → {e.decided}" if e.decided else "") for e in result.experiments]
    blocks.append(_block(paint(heads["experiments"], "bold"), wrapped(experiments)))
    blocks.append(_block(paint(heads["notes"], "bold"), [", ".join(result.notes)] if result.notes else []))
    blocks.append(_block(paint(heads["transcript"], "bold"), (_spoken(line, paint) for line in transcript)))
    return "\n\n".join(filter(None, blocks))


def evidence(result: ProbeResult, request: ProbeRequest | None, lang: Lang = "en") -> str:
    """Return what a mail admin needs to find the session in a log, for a mail or a ticket; no credentials in it."""
    words, facts = _PROOF[lang], AdviceFacts.of(request, result)
    rows: list[tuple[str, str | None]] = [(words["time"], f"{utc(result.started_at)} ~ {utc(result.finished_at)}")]
    if facts.host:
        address = f" [{result.server_ip}]" if result.server_ip else ""
        rows.append((words["server"], f"{facts.host}{address}:{facts.port} ({facts.mode})"))
    else:
        rows.append((words["server"], result.server_ip))
    seen = [
        f"{a.ip} ({words['seen']}: {a.method})" for a in result.egress.addresses if a.method is not EgressMethod.SOCKET
    ]
    port = f", {words['port']} {result.local_port}" if result.local_port else ""
    rows.append((words["client"], (", ".join(seen) or words["unseen"]) + port))
    rows += [(words["helo"], facts.helo), (words["login"], _login(result, words, lang))]
    if request is not None and request.envelope is not None:
        to = " ".join(f"RCPT TO:<{address}>" for address in request.envelope.rcpt_to)
        rows.append((words["envelope"], f"MAIL FROM:<{request.envelope.mail_from}> {to}".rstrip()))
    failed = failed_stage(result)
    if failed is not None:
        rows.append((words["stopped"], failed.stage.value + (" (TLS)" if failed.after_tls else "")))
        said = [*_reply_lines(failed), *([failed.detail] if failed.detail else [])]
        rows += [(words["reply"] if not number else "", line) for number, line in enumerate(said)]
    width = max(_columns(name) for name, _ in rows) + 2
    lines = [f"  {name}{' ' * (width - _columns(name))}{value}" for name, value in rows if value]
    return "\n".join([words["intro"], *lines])


def from_status(
    status: Status,
    spec: Spec | None = None,
    *,
    request: ProbeRequest | None = None,
    lang: Lang = "en",
    colour: bool = False,
    now: datetime | None = None,
) -> str:
    """Return the diagnosis from a status alone: each location's last result, the conditions, the history.

    ``request`` (or ``spec``, for host, port and mode) names what the status does not hold.
    """
    paint, heads = _Paint(colour), _HEADS[lang]
    blocks = []
    ready = next((c for c in status.conditions if c.type is ConditionType.READY), None)
    if ready is not None:
        blocks.append(f"{paint('Ready=' + ready.status, 'bold')} {ready.reason}  {ready.message}".rstrip())
    asked, named = run_digest(spec) if spec is not None else "", request
    if request is None and spec is not None:
        request = _request_of(spec)
    results = [(location, result_of(location)) for location in status.locations]
    for location, result in results:
        if result is None:
            continue
        at = ", ".join(filter(None, (location.name, location.node, location.zone)))
        blocks.append(paint(f"── {at}, {utc(location.finished_at)}", "dim"))
        # The answer to an earlier spec came perhaps from another host: its proof must not carry this one's name.
        of_this = asked in ("", location.spec_digest)
        blocks.append(text(result, request if of_this else named, lang=lang, colour=colour, now=now))
    if not any(result for _, result in results):
        blocks.append(heads["none"])
        if status.advice is not None:
            blocks.append(_block(paint(heads["who"], "bold"), [status.advice.owner]))
            blocks.append(_block(paint(heads["todo"], "bold"), wrapped([status.advice.text])))
    rows = [
        f"{utc(entry.at)}  {entry.outcome:7}{entry.reason}"
        + (f" ({entry.stage}{f' {entry.code}' if entry.code else ''})" if entry.stage else "")
        for entry in status.history
    ]
    blocks.append(_block(paint(heads["history"], "bold"), rows))
    return "\n\n".join(filter(None, blocks))


# ------------------------------------------------------------------------------------------------------------ pieces


def _headline(result: ProbeResult, request: ProbeRequest | None, paint: _Paint, lang: Lang) -> str:
    where = f"{request.host}:{request.port} {request.mode}  " if request else ""
    tone = {Outcome.PASSED: "green", Outcome.FAILED: "red", Outcome.ERROR: "yellow"}[result.outcome]
    verdict = result.verdict
    if verdict is None:
        return f"{where}{paint(result.outcome.value, tone)}  {StateReason.SUCCEEDED}"
    sure = f" ({verdict.confidence:.0%})" if verdict.confidence < 1 else ""
    stage = f" @ {result.stage}" if result.stage else ""
    line = f"{where}{paint(result.outcome.value, tone)}  {paint(verdict.reason.value, 'bold')}{sure}{stage}"
    if verdict.alternatives:
        others = ", ".join(f"{a.reason} ({a.confidence:.0%})" for a in verdict.alternatives)
        line += f"\n  {_HEADS[lang]['also']}: {others}"
    return line


def _row(stage: StageResult, paint: _Paint) -> str:
    name = " ".join(filter(None, (stage.stage.value, "(TLS)" if stage.after_tls else "")))
    if stage.outcome is StageOutcome.NOT_REACHED:
        return paint(f"{name:14} {stage.outcome}", "dim")
    tone = {StageOutcome.PASSED: "green", StageOutcome.FAILED: "red", StageOutcome.SKIPPED: "yellow"}[stage.outcome]
    said = " ".join(_reply_lines(stage)) if stage.reply else ""
    told = "; ".join(filter(None, (f"<{stage.recipient}>" if stage.recipient else "", stage.detail, said)))
    told = told if len(told) <= 120 else told[:119] + "…"
    return f"{name:14} {paint(f'{stage.outcome.value:7}', tone)} {stage.elapsed_ms:6} ms  {told}".rstrip()


def _reply_lines(stage: StageResult) -> list[str]:
    """Return the reply as it stood on the wire, line by line."""
    reply = stage.reply
    if reply is None:
        return []
    lines = reply.lines or ("",)
    marks = ["-"] * (len(lines) - 1) + [" "]
    enhanced = f"{reply.enhanced} " if reply.enhanced else ""
    return [f"{reply.code}{mark}{enhanced}{readable(line)}".rstrip() for mark, line in zip(marks, lines, strict=True)]


def _login(result: ProbeResult, words: dict[str, str], lang: Lang) -> str:
    auth = result.auth
    if not auth.sent:
        return words["unsent"]
    how = "accepted" if auth.succeeded else "refused" if auth.refused else "unanswered"
    return ", ".join(
        filter(
            None,
            (auth.mechanism.value if auth.mechanism else None, SHAPES[lang].get(auth.user_shape or ""), words[how]),
        )
    )


def _tls_lines(tls: TlsFacts, now: datetime, lang: Lang) -> list[str]:
    verified = {"en": ("verified", "NOT verified"), "ko": ("검증됨", "검증되지 않음")}[lang][not tls.verified]
    lines = [", ".join(filter(None, (tls.protocol, tls.cipher, verified, *map(str, tls.errors))))]
    for number, certificate in enumerate(tls.chain):
        lines.append(f"[{number}] {certificate.subject}")
        lines += [f"    {line}" for line in _certificate_lines(certificate, now, lang)]
    return lines


def _certificate_lines(certificate: Certificate, now: datetime, lang: Lang) -> list[str]:
    days = (certificate.not_after - now).days
    left = f"{days} days left" if lang == "en" else f"{days}일 남음"
    lines = [f"issuer {certificate.issuer}", f"{utc(certificate.not_before)} ~ {utc(certificate.not_after)} ({left})"]
    if certificate.sans:
        lines.append("SAN " + ", ".join(certificate.sans))
    if certificate.key or certificate.sha256:
        lines.append(
            " ".join(filter(None, (certificate.key, f"sha256 {certificate.sha256}" if certificate.sha256 else "")))
        )
    return lines


def _egress_lines(result: ProbeResult) -> list[str]:
    found = result.egress
    lines = [f"EgressAuthorized={found.status} {found.reason}"]
    lines += [f"{address.ip}  {address.method} ({address.rank})" for address in found.addresses]
    return lines


def _spoken(line: TranscriptLine, paint: _Paint) -> str:
    mark = paint(f"{line.at_ms:6} {line.who}:", "dim")
    return f"{mark} {readable(line.text)}"


def wrapped(paragraphs: Iterable[str]) -> list[str]:
    """Return the lines of some paragraphs, 100 columns wide; Korean letters take two."""
    found: list[str] = []
    for part in filter(None, paragraphs):
        width = WIDTH if sum("가" <= letter <= "힣" for letter in part) * 4 < len(part) else WIDTH * 2 // 3
        found += textwrap.wrap(part, width, break_on_hyphens=False)
    return found


def _columns(text: str) -> int:
    return sum(1 + (unicodedata.east_asian_width(letter) in "WF") for letter in text)


def _block(head: str, lines: Iterable[str]) -> str:
    body = [f"  {line}" for line in lines]
    return "\n".join([head, *body]) if body else ""


def _request_of(spec: Spec) -> ProbeRequest:
    from smtpprobe.spec import to_request  # needless weight for a plain result

    request = to_request(spec, default_helo=None, credentials_dir=None, ca_file=None, refused=None)
    return msgspec.structs.replace(request, helo_name=spec.helo_name or "")
