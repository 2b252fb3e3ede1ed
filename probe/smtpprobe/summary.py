"""What a finished session adds up to: where it was seen from, and the one line for ``kubectl get``. Pure."""

import msgspec

from smtpprobe import egress, settling
from smtpprobe.model import EgressAddress, ProbeRequest, ProbeResult, StageResult
from smtpprobe.vocabulary import EgressMethod, Note, Outcome, Stage, StageOutcome

MESSAGE_CHARS = 200
RULE_USERNAME = "experiment:username-variant"
EXPIRES_SOON = 14  # days left of a certificate that are worth a word


def with_egress(
    result: ProbeResult,
    request: ProbeRequest,
    banner: str,
    ehlo_lines: tuple[str, ...],
    exchangers: dict[str, tuple[str, ...]],
) -> ProbeResult:
    """Fill ``egress``: our addresses in the server's words, and what the session says of their rights (design §6).

    ``ehlo_lines`` are the first lines of the EHLO replies, in plaintext first: a middlebox may have written that one,
    so a later line comes first. ``exchangers``: see ``EgressFacts``.
    """
    public = result.server_ip is not None and egress.is_public(result.server_ip)
    # A server's own address in its words is not ours, unless both ends of the session share it.
    server = None if result.server_ip is None or egress.is_loopback(result.server_ip) else result.server_ip
    found: dict[str, EgressAddress] = {}
    notes = list(result.notes)
    for line in reversed(ehlo_lines):
        ip = egress.from_ehlo(line, request.helo_name, public, server)
        if ip is not None:
            found.setdefault(ip, egress.seen(ip, EgressMethod.EHLO_REPLY))
        elif egress.echo_is_proxy(line, request.helo_name, public) and Note.ECHO_IS_PROXY not in notes:
            notes.append(Note.ECHO_IS_PROXY)
    for entry in result.stages:
        if entry.outcome is StageOutcome.FAILED and entry.reply is not None:
            ip = egress.from_reply(" ".join(entry.reply.lines), request.helo_name, public, server)
            if ip is not None:
                found.setdefault(ip, egress.seen(ip, EgressMethod.QUOTED_IN_REPLY))
    facts = egress.EgressFacts(
        host=request.host,
        outcome=result.outcome,
        verdict=result.verdict,
        stage=result.stage,
        stages=result.stages,
        features=result.features,
        auth=result.auth,
        envelope=request.envelope,
        banner=banner,
        ehlo_line=ehlo_lines[-1] if ehlo_lines else "",
        helo_name=request.helo_name,
        server_ip=result.server_ip,
        exchangers=exchangers,
        addresses=tuple(found.values()),
        lasted=settling.lasted(result.experiments),
    )
    if settling.flapped(result.experiments):
        notes.append(Note.EGRESS_FLAPPED)
    return msgspec.structs.replace(result, egress=egress.finding(facts), notes=tuple(notes))


def endpoint(host: str, port: int) -> str:
    """Write HOST:PORT, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def message(result: ProbeResult, request: ProbeRequest, problem: str | None = None) -> str:
    """Say in one line how the session ended: where, at which stage, in whose words; at most 200 characters.

    ``problem`` is the sentence of a probe that could not run.
    """
    where = endpoint(request.host, request.port)
    if problem is not None:
        return cut(f"{problem} ({where})")
    if result.outcome is Outcome.PASSED:
        return cut(f"{where} {request.mode}: {_achieved(result)}")
    entry = next((known for known in result.stages if known.outcome in _STOPS and known.stage is result.stage), None)
    said = _words(entry) if entry is not None else ""
    if result.verdict is not None and result.verdict.rule == RULE_USERNAME and result.auth.username:
        said = f"accepted as {result.auth.username}, with the same password; {said}"
    return cut(f"{where} {request.mode}, {result.stage}: {said}")


_STOPS = (StageOutcome.FAILED, StageOutcome.SKIPPED)


def _words(entry: StageResult) -> str:
    reply = entry.reply
    said = ""
    if reply is not None:
        parts = [str(reply.code), reply.enhanced or "", " ".join(reply.lines)]
        said = " ".join(part for part in parts if part)
    return "; ".join(part for part in (said, entry.detail or "") if part)


def _achieved(result: ProbeResult) -> str:
    passed = {entry.stage for entry in result.stages if entry.outcome is StageOutcome.PASSED}
    did = ["greeting"]
    if Stage.EHLO in passed:
        did = ["EHLO"]
    if result.tls is not None:
        did.append(f"{result.tls.protocol}{'' if result.tls.verified else ' (certificate not verified)'}")
        did += [f"certificate {words}"] if (words := ends_soon(result)) else []
    if result.auth.succeeded:
        did.append(f"login by {result.auth.mechanism}")
    recipients = sum(entry.stage is Stage.RCPT for entry in result.stages if entry.outcome is StageOutcome.PASSED)
    if Stage.DOT in passed:
        did.append("message accepted")
    elif Stage.MAIL in passed:
        did.append(f"sender and {recipients} recipient{'' if recipients == 1 else 's'} accepted")
    return ", ".join(did)


def ends_soon(result: ProbeResult) -> str:
    """Say how long a verified certificate is still good where that is less than two weeks, else nothing.

    Only the server's own: of the rest servers send roots that ended long ago and that nobody needs.
    """
    if result.tls is None or not result.tls.verified or not result.tls.chain:
        return ""
    end = result.tls.chain[0].not_after
    days = (end - result.finished_at).days
    return f"ends in {days} day{'' if days == 1 else 's'} ({end:%Y-%m-%d})" if days < EXPIRES_SOON else ""


def cut(text: str) -> str:
    """Make one line of at most 200 characters."""
    text = " ".join(text.split())
    return text if len(text) <= MESSAGE_CHARS else text[: MESSAGE_CHARS - 3] + "..."
