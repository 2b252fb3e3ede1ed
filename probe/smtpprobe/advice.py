"""What to do about a reason, in English or Korean, with the values of this session in it.

Texts: ``advice.toml`` by reason; ``advice_rules.toml`` where a rule or the session knows more than its reason.
"""

import functools
import re
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from smtpprobe import memory, ses
from smtpprobe.charset import readable
from smtpprobe.issuers import name_of
from smtpprobe.model import ProbeRequest, ProbeResult, Reply, StageResult, Value
from smtpprobe.replies import mechanisms
from smtpprobe.resource import Advice
from smtpprobe.summary import endpoint
from smtpprobe.vocabulary import REASONS, EgressMethod, Mechanism, Mode, Note, Owner, Reason, Stage, StageOutcome

__all__ = ["OWNERS", "SHAPES", "AdviceFacts", "Lang", "advise", "more", "reply_text", "session_line"]

Lang = Literal["en", "ko"]
MAX_CHARS = 600
REPLY_CHARS = 140
OWNERS: dict[Lang, dict[Owner, str]] = {
    "en": {owner: owner.value for owner in Owner},
    "ko": {Owner.APP: "애플리케이션 개발자", Owner.CLUSTER: "클러스터 관리자", Owner.MAIL: "메일 관리자"},
}
SHAPES: dict[Lang, dict[str, str]] = {
    "en": {"bare": "a bare name", "address": "an address", "domain": "of the form DOMAIN\\name"},
    "ko": {"bare": "이름만", "address": "메일 주소", "domain": "DOMAIN\\이름"},
}
_POINTER: dict[Lang, str] = {"en": "More: smtpprobe explain {}", "ko": "자세히: smtpprobe explain {}"}
# What stands for a value that is not known and without which the sentence would not be one.
_FALLBACK: dict[Lang, dict[str, str]] = {
    "en": {"host": "the mail server", "server": "the mail server", "time": "the time of the run"},
    "ko": {"host": "메일 서버", "server": "메일 서버", "time": "실행 시각"},
}
# OpenSSL's numbers for a key of the server, a key of an authority and a signature that are too weak.
_SAME_TEXT = {f"transport:certificate-{number}": "certificate-weak" for number in (66, 67, 68)}
_RIEUL = 8
_PARTICLES = {
    "이(가)": ("이", "가"),
    "을(를)": ("을", "를"),
    "은(는)": ("은", "는"),
    "과(와)": ("과", "와"),
    "(으)로": ("으로", "로"),
}
_PARTICLE = re.compile(r"(.)(이\(가\)|을\(를\)|은\(는\)|과\(와\)|\(으\)로)")
_VALUE = re.compile(r"\{(\w+)\}")
_CHOICE = re.compile(r"\[([^\[\]]*)\]")


class AdviceFacts(Value, frozen=True, kw_only=True):
    """The values that advice may name. Whatever is None falls out of the text."""

    host: str | None = None
    port: int | None = None
    mode: str | None = None
    server_ip: str | None = None
    egress_ip: str | None = None
    user_shape: str | None = None
    username: str | None = None
    service: str | None = None
    helo: str | None = None
    time: datetime | None = None
    stage: str | None = None
    reply: str | None = None
    sender: str | None = None
    recipient: str | None = None
    mechanism: str | None = None
    rule: str | None = None
    ses_region: str | None = None
    issuer: str | None = None
    names: str | None = None
    begins: str | None = None
    ends: str | None = None
    others: str | None = None
    fits: str | None = None
    situations: tuple[str, ...] = ()

    @classmethod
    def of(cls, request: ProbeRequest | None, result: ProbeResult) -> "AdviceFacts":
        """Collect the values of one session; without the request, those that the result holds itself."""
        failed = failed_stage(result)
        envelope = request.envelope if request else None
        to = (
            failed.recipient
            if failed and failed.recipient
            else (envelope.rcpt_to[0] if envelope and envelope.rcpt_to else None)
        )
        return cls(
            host=request.host if request else None,
            port=(request.port or None) if request else None,
            mode=request.mode.value if request else None,
            server_ip=result.server_ip,
            egress_ip=proven_address(result),
            user_shape=result.auth.user_shape,
            username=result.auth.username,
            service=result.auth.service,
            helo=request.helo_name if request else None,
            time=result.finished_at,
            stage=result.stage.value if result.stage else None,
            reply=reply_text(failed.reply) if failed and failed.reply else None,
            sender=envelope.mail_from or None if envelope else None,
            recipient=to,
            mechanism=result.auth.mechanism.value if result.auth.mechanism else None,
            rule=result.verdict.rule if result.verdict else None,
            ses_region=ses_region(request.host, request.tls.server_name) if request else None,
            fits=_fitting_mode(result),
            situations=_situations(request, result),
            **_certificate(result),
        )


def advise(reason: Reason, facts: AdviceFacts | None = None, lang: Lang = "en", *, pointer: bool = True) -> Advice:
    """Say who must act on ``reason`` and what exactly to do, in at most 600 characters.

    ``pointer``: end with the command that tells more, where there is more.
    """
    facts = facts or AdviceFacts()
    special = _rule_texts().get(_SAME_TEXT.get(facts.rule or "", facts.rule or ""))
    if special is None and facts.mechanism == Mechanism.XOAUTH2:
        special = _rule_texts()["xoauth2-token"]
    if special is None or special["reason"] != reason:
        found = (_rule_texts().get(f"{reason}:{situation}") for situation in facts.situations)
        special = next((text for text in found if text is not None), None)
    template = special[lang] if special and special["reason"] == reason else _texts()[reason.value][lang]
    end = f" {_POINTER[lang].format(reason)}" if pointer and more(reason, lang) else ""
    text = fill(template, facts, lang)
    if len(text) + len(end) > MAX_CHARS and facts.reply:
        room = max(20, len(facts.reply) - (len(text) + len(end) - MAX_CHARS))
        text = fill(template, msgspec.structs.replace(facts, reply=cut(facts.reply, room)), lang)
    return Advice(owner=REASONS[reason].owner.value, text=cut(text, MAX_CHARS - len(end)) + end)


def more(reason: Reason, lang: Lang = "en") -> str:
    """Return what ``smtpprobe explain`` tells beyond the advice, or nothing."""
    return _texts()[reason.value].get(f"more_{lang}", "")


def session_line(facts: AdviceFacts, lang: Lang = "en") -> str | None:
    """Name the session as a mail admin finds it in a log: server, time, EHLO name; None if nothing is known."""
    if not facts.host:
        return None
    server = (
        facts.host + (f" [{facts.server_ip}]" if facts.server_ip else "") + (f":{facts.port}" if facts.port else "")
    )
    parts = [f"server {server}" if lang == "en" else f"서버 {server}"]
    if facts.time:
        parts.append(utc(facts.time))
    if facts.helo:
        parts.append(f"EHLO name {facts.helo}" if lang == "en" else f"EHLO 이름 {facts.helo}")
    return ", ".join(parts)


def ses_region(*hosts: str | None) -> str | None:
    """Return the region of the first of the names that is an endpoint of Amazon SES."""
    return next((known.region for host in hosts if host and (known := ses.endpoint(host)) is not None), None)


def utc(time: datetime) -> str:
    """Write a time as logs do, in UTC."""
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def reply_text(reply: Reply, limit: int = REPLY_CHARS) -> str:
    """Return a reply in one line, cut to ``limit`` characters."""
    lines = (readable(line) for line in reply.lines)
    return cut(" ".join(part for part in (str(reply.code), reply.enhanced or "", *lines) if part), limit)


def failed_stage(result: ProbeResult) -> StageResult | None:
    """Return the stage that the run stopped at."""
    stopped = [s for s in result.stages if s.stage is result.stage and s.outcome is not StageOutcome.PASSED]
    return stopped[-1] if stopped else None


def proven_address(result: ProbeResult) -> str | None:
    """Return our address as the server itself named it, never the socket's own."""
    return next((a.ip for a in result.egress.addresses if a.method is not EgressMethod.SOCKET), None)


def cut(text: str, limit: int) -> str:
    """Shorten a text at its end, with a mark."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def fill(template: str, facts: AdviceFacts, lang: Lang) -> str:
    """Put the values into a template: choices first (see ``advice.toml``), then words for the unknown."""
    values = _values(facts, lang)
    fallback = _FALLBACK[lang]

    def choose(found: re.Match[str]) -> str:
        *first, last = str(found.group(1)).split("|")
        for part in (*first, last):
            known = values.keys() | (fallback.keys() if first and part is last else set())
            if known >= set(_VALUE.findall(part)):
                return part
        return ""

    text: str = _CHOICE.sub(choose, template)
    text = " ".join(_VALUE.sub(lambda m: values.get(m.group(1)) or fallback[m.group(1)], text).split())
    return _PARTICLE.sub(_particle, text) if lang == "ko" else re.sub(r"^the ", "The ", text)


def _certificate(result: ProbeResult) -> dict[str, str]:
    """Return what advice names of the server's own certificate, or of the one above it that has ended."""
    if result.tls is None or not result.tls.chain:
        return {}
    leaf = result.tls.chain[0]
    late = next((one for one in result.tls.chain if one.not_after < result.finished_at), None)
    ends = "" if late is None else utc(late.not_after)
    reason = result.verdict.reason if result.verdict is not None else None
    return {
        "issuer": readable(name_of(leaf.issuer)),
        "names": ", ".join(cut(name, 60) for name in leaf.sans[:3]),
        "begins": utc(leaf.not_before),
        "ends": ends if late is None or late is leaf else f"{ends}: {readable(name_of(late.subject))}",
        "others": ", ".join(error for error in result.tls.errors if error is not reason),
    }


def _fitting_mode(result: ProbeResult) -> str | None:
    """Return the mode that the session has shown to fit the port."""
    for one in result.experiments:
        if one.name == memory.CLIENT_HELLO and one.answer.startswith("tls"):
            return Mode.SMTPS.value
        if one.name == memory.PLAIN_GREETING and one.answer in {Mode.STARTTLS, Mode.PLAIN}:
            return one.answer
    return Mode.SMTPS.value if result.verdict and result.verdict.rule == "transport:tls-record-in-greeting" else None


def _situations(request: ProbeRequest | None, result: ProbeResult) -> tuple[str, ...]:
    """Name what this session knows that makes other advice right than its reason's alone (``advice_rules.toml``)."""
    answers = {(one.name, one.answer) for one in result.experiments}
    before, after = result.features.before_tls, result.features.after_tls
    heard = before is not None or after is not None  # a status keeps no EHLO
    own = request is not None and (
        (result.auth.mechanism is None and request.mechanism is not Mechanism.AUTO)
        or (request.tls.min_version == "1.3" and (memory.OLD_TLS, "old") in answers)
    )
    known = {
        "white-space": Note.CREDENTIAL_HAS_WHITESPACE in result.notes,
        "after-login": result.auth.succeeded,
        "our-own-choice": own,
        "at-tls": result.stage is Stage.TLS,
        "in-tls": result.tls is not None and result.tls.protocol is not None,
        "no-tls-either": (memory.CLIENT_HELLO, "silent") in answers,
        "no-login-offered": result.stage is Stage.RCPT and heard and not mechanisms((*(before or ()), *(after or ()))),
    }
    return tuple(situation for situation, holds in known.items() if holds)


def _particle(found: re.Match[str]) -> str:
    """Choose the Korean particle by the sound before it; after Latin letters both forms stay, as is usual in print."""
    before, both = str(found.group(1)), str(found.group(2))
    if "가" <= before <= "힣":
        tail = (ord(before) - ord("가")) % 28
    elif before.isdigit():
        tail = {"1": _RIEUL, "7": _RIEUL, "8": _RIEUL}.get(before, int(before in "036"))
    else:
        return before + both
    closed, opened = _PARTICLES[both]
    return before + (opened if tail == 0 or (both == "(으)로" and tail == _RIEUL) else closed)


def _fields(facts: AdviceFacts) -> dict[str, object]:
    return {name: getattr(facts, name) for name in facts.__struct_fields__ if name != "situations"}


def _values(facts: AdviceFacts, lang: Lang) -> dict[str, str]:
    values = {name: str(value) for name, value in _fields(facts).items() if value not in (None, "")}
    if facts.time:
        values["time"] = utc(facts.time)
    if facts.host:
        values["server"] = endpoint(facts.host, facts.port) if facts.port else facts.host
    if facts.user_shape:
        values["user_shape"] = SHAPES[lang].get(facts.user_shape, facts.user_shape)
    if facts.service:
        values |= _service(facts.service, lang)
    if line := session_line(facts, lang):
        values["session"] = line
    return values


def _service(name: str, lang: Lang) -> dict[str, str]:
    from smtpprobe.usernames import service_named  # by need: few verdicts are about user names

    known = service_named(name)
    return {} if known is None else {"service_form": known.ko if lang == "ko" else known.en}


@functools.cache
def _texts() -> dict[str, dict[str, str]]:
    return tomllib.loads(Path(__file__).with_name("advice.toml").read_text("utf-8"))


@functools.cache
def _rule_texts() -> dict[str, dict[str, str]]:
    return tomllib.loads(Path(__file__).with_name("advice_rules.toml").read_text("utf-8"))
