"""One result as text for people: what happened, what was said, who must act, what to do, and proof for the mail admin.

Everything here comes from a ``ProbeResult``, or from a status alone, hours later (``from_status``). Server text is
already sanitized; ``charset.readable`` shows its letters.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

from smtpprobe.advice import OWNERS, SHAPES, AdviceFacts, Lang, advise, failed_stage, more, utc
from smtpprobe.charset import readable
from smtpprobe.discovery_text import kept_rows, rows
from smtpprobe.evidence import outage_result, result_of
from smtpprobe.found import as_found
from smtpprobe.issuers import compare
from smtpprobe.layout import WIDTH, columns, fit, paragraphs
from smtpprobe.model import Certificate, Experiment, ProbeRequest, ProbeResult, StageResult, TlsFacts, TranscriptLine
from smtpprobe.proof import needs_message
from smtpprobe.replies import mechanisms
from smtpprobe.report_words import HEADS, PROOF, TLS, note_text
from smtpprobe.resource import Outage, SeenCertificate, Spec, Status
from smtpprobe.runs import run_digest
from smtpprobe.summary import EXPIRES_SOON, endpoint
from smtpprobe.vocabulary import (
    REASONS,
    ConditionType,
    EgressMethod,
    Outcome,
    Owner,
    StageOutcome,
    StateReason,
)

__all__ = ["evidence", "from_status", "request_of", "text"]

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
    width: int | None = None,
) -> str:
    """Return the whole diagnosis of one result; ``now`` (default: the run's end) counts days left.

    ``width``: of a terminal, which no line exceeds. Without it prose has 100 columns, and what was said stays whole.
    """
    paint, heads = _Paint(colour), HEADS[lang]
    prose = (width or WIDTH) - 2
    blocks = [_headline(result, request, paint, lang)]
    if result.outcome is Outcome.ERROR:
        blocks.append("\n".join(paragraphs([readable(result.message)], prose)))
    if result.discovery is not None and len(result.discovery.ports) > 1:
        blocks.append(_block(paint(heads["ports"], "bold"), rows(result.discovery, lang)))
    blocks.append(_block(paint(heads["stages"], "bold"), (_row(stage, paint) for stage in result.stages)))
    failed = failed_stage(result)
    if failed is not None and failed.reply is not None:
        blocks.append(_block(paint(heads["said"], "bold"), _reply_lines(failed)))
    if result.verdict is not None:
        reason = result.verdict.reason
        advice = advise(reason, AdviceFacts.of(request, result), lang, pointer=False)
        told = paragraphs([advice.text, more(reason, lang)], prose)
        blocks.append(_block(paint(heads["who"], "bold"), [OWNERS[lang][REASONS[reason].owner]]))
        blocks.append(_block(paint(heads["todo"], "bold"), told))
    if result.outcome is Outcome.FAILED:
        blocks.append(_block(paint(heads["proof"], "bold"), evidence(result, request, lang).splitlines()))
    if result.tls is not None:
        blocks.append(_block(paint(heads["tls"], "bold"), _tls_lines(result.tls, now or result.finished_at, lang)))
    blocks.append(_block(paint(heads["egress"], "bold"), _egress_lines(result, request, lang, prose)))
    experiments = [_experiment(one, lang) for one in result.experiments]
    blocks.append(_block(paint(heads["experiments"], "bold"), paragraphs(experiments, prose)))
    notes = [note_text(note, lang) for note in result.notes]
    blocks.append(_block(paint(heads["notes"], "bold"), paragraphs(notes, prose)))
    blocks.append(_block(paint(heads["transcript"], "bold"), (_spoken(line, paint) for line in transcript)))
    return _joined(blocks, width)


def evidence(result: ProbeResult, request: ProbeRequest | None, lang: Lang = "en") -> str:
    """Return what a mail admin needs to find the session in a log, for a mail or a ticket; no credentials in it."""
    words, facts = PROOF[lang], AdviceFacts.of(request, result)
    rows: list[tuple[str, str | None]] = [(words["time"], f"{utc(result.started_at)} ~ {utc(result.finished_at)}")]
    if facts.host:
        address = f" [{result.server_ip}]" if result.server_ip else ""
        rows.append((words["server"], f"{facts.host}{address}{f':{facts.port}' if facts.port else ''} ({facts.mode})"))
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
    width = max(columns(name) for name, _ in rows) + 2
    lines = [f"  {name}{' ' * (width - columns(name))}{value}" for name, value in rows if value]
    return "\n".join([words["intro"], *lines])


def from_status(
    status: Status,
    spec: Spec | None = None,
    *,
    request: ProbeRequest | None = None,
    lang: Lang = "en",
    colour: bool = False,
    now: datetime | None = None,
    width: int | None = None,
) -> str:
    """Return the diagnosis from a status alone: each location's last result, the conditions, issuers, history.

    ``request`` (or ``spec``, for host, port and mode) names what the status does not hold; ``now`` and ``width`` as in
    ``text``.
    """
    paint, heads = _Paint(colour), HEADS[lang]
    blocks = []
    ready = next((c for c in status.conditions if c.type is ConditionType.READY), None)
    if ready is not None:
        blocks.append(f"{paint('Ready=' + ready.status, 'bold')} {ready.reason}  {ready.message}".rstrip())
    blocks += _present(status, paint, lang, (width or WIDTH) - 2)
    asked, named = run_digest(spec) if spec is not None else "", request
    if request is None and spec is not None:
        request = request_of(as_found(spec, status.discovery))
    if status.discovery is not None:
        blocks.append(_block(paint(heads["ports"], "bold"), kept_rows(status.discovery, lang)))
    results = [(location, result_of(location)) for location in status.locations]
    for location, result in results:
        if result is None:
            continue
        at = ", ".join(filter(None, (location.name, location.node, location.zone)))
        blocks.append(paint(f"── {at}, {utc(location.finished_at)}", "dim"))
        # The answer to an earlier spec came perhaps from another host: its proof must not carry this one's name.
        of_this = asked in ("", location.spec_digest)
        known = request if of_this else named
        blocks.append(text(result, known, lang=lang, colour=colour, now=now, width=width))
    if not any(result for _, result in results):
        blocks.append(heads["none"])
    blocks.append(_block(paint(heads["certificates"], "bold"), _issuers(status.certificates, lang)))
    blocks.append(_block(paint(heads["outages"], "bold"), (_outage(row, lang) for row in status.outages)))
    rows = [
        f"{utc(entry.at)}  {entry.outcome:7}{entry.reason}"
        + (f" ({entry.stage}{f' {entry.code}' if entry.code else ''})" if entry.stage else "")
        for entry in status.history
    ]
    blocks.append(_block(paint(heads["history"], "bold"), rows))
    return _joined(blocks, width)


# ------------------------------------------------------------------------------------------------------------ pieces


def _headline(result: ProbeResult, request: ProbeRequest | None, paint: _Paint, lang: Lang) -> str:
    where = ""
    if request is not None:
        where = f"{endpoint(request.host, request.port) if request.port else request.host} {request.mode}  "
    tone = {Outcome.PASSED: "green", Outcome.FAILED: "red", Outcome.ERROR: "yellow"}[result.outcome]
    verdict = result.verdict
    if verdict is None:
        return f"{where}{paint(result.outcome.value, tone)}  {StateReason.SUCCEEDED}"
    sure = f" ({verdict.confidence:.0%})" if verdict.confidence < 1 else ""
    stage = f" @ {result.stage}" if result.stage else ""
    line = f"{where}{paint(result.outcome.value, tone)}  {paint(verdict.reason.value, 'bold')}{sure}{stage}"
    if verdict.alternatives:
        others = ", ".join(f"{a.reason} ({a.confidence:.0%})" for a in verdict.alternatives)
        line += f"\n  {HEADS[lang]['also']}: {others}"
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


def _experiment(one: Experiment, lang: Lang) -> str:
    since = f" ({PROOF[lang]['since'].format(utc(one.since))})" if one.since else ""
    return f"{one.name}: {one.showed}{since}" + (f" → {one.decided}" if one.decided else "")


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
    offered = " ".join(mechanisms(result.features.after_tls or result.features.before_tls or ()))
    taken = f"{auth.mechanism or ''} ({words['offered']}: {offered})" if offered else auth.mechanism
    return ", ".join(filter(None, (taken, SHAPES[lang].get(auth.user_shape or ""), words[how])))


def _present(status: Status, paint: _Paint, lang: Lang, prose: int) -> list[str]:
    """Say who must act where that follows from no session: the last run could not take place, or none did yet."""
    lost = status.last_run is not None and status.last_run.outcome is Outcome.ERROR
    if status.advice is None or (status.locations and not lost):
        return []
    owner = next((OWNERS[lang][known] for known in Owner if known == status.advice.owner), status.advice.owner)
    return [
        _block(paint(HEADS[lang]["who"], "bold"), [owner]),
        _block(paint(HEADS[lang]["todo"], "bold"), paragraphs([status.advice.text], prose)),
    ]


def _tls_lines(tls: TlsFacts, now: datetime, lang: Lang) -> list[str]:
    verified = TLS[lang]["verified" if tls.verified else "unverified"]
    lines = [", ".join(filter(None, (tls.protocol, tls.cipher, verified, *map(str, tls.errors))))]
    for number, certificate in enumerate(tls.chain):
        lines.append(f"[{number}] {readable(certificate.subject)}")
        lines += [f"    {line}" for line in _certificate_lines(certificate, now, lang)]
    return lines


def _certificate_lines(certificate: Certificate, now: datetime, lang: Lang) -> list[str]:
    days = (certificate.not_after - now).days
    left = TLS[lang]["over" if days < 0 else "soon" if days < EXPIRES_SOON else "days"].format(abs(days))
    dates = f"{utc(certificate.not_before)} ~ {utc(certificate.not_after)} ({left})"
    lines = [f"issuer {readable(certificate.issuer)}", dates]
    if certificate.sans:
        lines.append("SAN " + ", ".join(certificate.sans))
    if certificate.key or certificate.sha256:
        lines.append(
            " ".join(filter(None, (certificate.key, f"sha256 {certificate.sha256}" if certificate.sha256 else "")))
        )
    return lines


def _issuers(known: tuple[SeenCertificate, ...], lang: Lang) -> list[str]:
    """Tell the certificates of several authorities beside each other, and what that may mean."""
    found = compare(known, lang)
    if found is None:
        return []
    words, lines = TLS[lang], [found.text]
    for one in known:
        end = words["verified"] if one.verified else one.error or words["unverified"]
        lines.append(f"{readable(one.issuer)}: {end}, {words['runs'].format(one.count)}")
        nodes = words["on"].format(", ".join(one.nodes)) if one.nodes else ""
        lines.append("    " + ", ".join(filter(None, (f"{utc(one.first_seen)} ~ {utc(one.last_seen)}", nodes))))
        lines += [f"    sha256 {one.sha256}"] if one.sha256 else []
    return lines


def _outage(row: Outage, lang: Lang) -> str:
    words, first = TLS[lang], outage_result(row)
    until = utc(row.until) if row.until else words["now"]
    told = f"{utc(row.since)} ~ {until}, {words['runs'].format(row.runs)}: {row.reason}"
    return f"{told}  {readable(first.message)}" if first is not None and first.message else told


def _egress_lines(result: ProbeResult, request: ProbeRequest | None, lang: Lang, prose: int) -> list[str]:
    found = result.egress
    lines = [f"EgressAuthorized={found.status} {found.reason}"]
    lines += [f"{address.ip}  {address.method} ({address.rank})" for address in found.addresses]
    hosts = (request.host, request.tls.server_name) if request else ()
    return lines + paragraphs(filter(None, [needs_message(result, *hosts, lang=lang)]), prose)


def _spoken(line: TranscriptLine, paint: _Paint) -> str:
    mark = paint(f"{line.at_ms:6} {line.who}:", "dim")
    return f"{mark} {readable(line.text)}"


def _joined(blocks: Iterable[str], width: int | None) -> str:
    whole = "\n\n".join(filter(None, blocks))
    return whole if width is None else fit(whole, width)


def _block(head: str, lines: Iterable[str]) -> str:
    body = [f"  {line}" for line in lines]
    return "\n".join([head, *body]) if body else ""


def request_of(spec: Spec) -> ProbeRequest:
    """Return the request of a spec, as far as the spec alone tells: an EHLO name that it does not have is empty."""
    from smtpprobe.spec import to_request  # needless weight for a plain result

    request = to_request(spec, default_helo=None, credentials_dir=None, ca_file=None, refused=None)
    return msgspec.structs.replace(request, helo_name=spec.helo_name or "")
