"""What a reply means: (stage, text, session facts) to a verdict, by rules that are data (``rules/*.toml``).

The first rule that matches decides. The files are read in the order of their names: client-side errors, providers'
own words, words of any server, enhanced codes, stage and code. What the last ones know is little, and their confidence
says so. Codes alone are right in a third of real replies at best; the words decide.
"""

import functools
import re
import tomllib
from importlib import resources

import msgspec

from smtpprobe.model import Alternative, Value, Verdict
from smtpprobe.normalize import Normal, normalize, quoted_address
from smtpprobe.vocabulary import Mode, Reason, Stage

__all__ = ["Rule", "SessionFacts", "classify", "quoted_address", "rules"]

_METACHARACTERS = re.compile(
    r"\([^()]*\)\??|\[[^\]]*\](?:\{[^}]*\}|\?)?|\.\{[^}]*\}|\\[bdws.](?:\{[^}]*\}|\?)?|.\?|[.^$|]"
)


class SessionFacts(Value, frozen=True, kw_only=True):
    """What the session knows and a reply does not say. ``own_ips`` are addresses that may be ours as the server sees us."""

    host: str = ""
    banner: str = ""
    mode: Mode | None = None
    tls_active: bool = False
    login_sent: bool = False
    own_ips: tuple[str, ...] = ()
    mail_from: str | None = None
    rcpt_to: tuple[str, ...] = ()


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One rule: every condition given must hold; ``text`` holds if one of its patterns is found.

    ``stages``: where it can stand. ``codes``: prefixes of the basic code, ``enhanced`` of the enhanced one. ``host``: the
    server's name or banner contains one of these. ``names``: the text names this party of the envelope (``mail_from`` or
    ``rcpt_to``). ``login``, ``tls``: AUTH was sent, TLS was up. ``client``: only for texts without a reply code, which
    are errors of a client library. ``also``: the other reasons that the same words can have, likeliest first.
    """

    id: str
    reason: Reason
    confidence: float
    example: tuple[str, str]
    also: tuple[Reason, ...] = ()
    text: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()
    stages: frozenset[Stage] = frozenset()
    codes: tuple[str, ...] = ()
    enhanced: tuple[str, ...] = ()
    host: tuple[str, ...] = ()
    names: str = ""
    login: bool | None = None
    tls: bool | None = None
    client: bool = False
    facts: SessionFacts = SessionFacts()


class _Pattern:
    """A pattern that is compiled when its longest literal first turns up in a text."""

    __slots__ = ("_search", "literal", "source")

    def __init__(self, source: str) -> None:
        self.source = source
        self.literal = max(_METACHARACTERS.split(source), key=len)
        self._search = None if self.literal != source else self._contains

    def _contains(self, text: str) -> bool:
        return self.literal in text

    def found(self, text: str) -> bool:
        if self.literal not in text:
            return False
        if self._search is None:
            self._search = re.compile(self.source).search
        return bool(self._search(text))


class _Prepared:
    __slots__ = ("patterns", "rule", "unless", "verdict")

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.patterns = [_Pattern(source) for source in rule.text]
        self.unless = [_Pattern(source) for source in rule.unless]
        self.verdict = Verdict(
            reason=rule.reason, confidence=rule.confidence, alternatives=_alternatives(rule), rule=rule.id
        )


def classify(stage: Stage, text: str, facts: SessionFacts | None = None) -> Verdict:
    """Return the verdict on a reply (code and all lines) or a client-side error text that came at ``stage``."""
    normal = normalize(text)
    for prepared in _prepared()[stage]:
        if _holds(prepared, normal, facts or _NO_FACTS):
            return prepared.verdict
    return _UNKNOWN


_NO_FACTS = SessionFacts()
_UNKNOWN = Verdict(reason=Reason.UNKNOWN, confidence=0.0, rule="unknown")


def _holds(prepared: _Prepared, normal: Normal, facts: SessionFacts) -> bool:
    rule = prepared.rule
    if prepared.patterns:
        for pattern in prepared.patterns:
            if pattern.found(normal.text):
                break
        else:
            return False
    if rule.client and (normal.code or not normal.client):
        return False
    if rule.codes and not (normal.code and str(normal.code).startswith(rule.codes)):
        return False
    if rule.enhanced and not _enhanced(rule.enhanced, normal.enhanced):
        return False
    if prepared.unless and any(pattern.found(normal.text) for pattern in prepared.unless):
        return False
    return _context(rule, normal, facts)


def _enhanced(wanted: tuple[str, ...], seen: str) -> bool:
    return any(seen == code or (code.endswith(".") and seen.startswith(code)) for code in wanted)


def _context(rule: Rule, normal: Normal, facts: SessionFacts) -> bool:
    if rule.login is not None and rule.login is not facts.login_sent:
        return False
    if rule.tls is not None and rule.tls is not facts.tls_active:
        return False
    if rule.host:
        server = f"{facts.host} {facts.banner}".casefold()
        if not any(name in server for name in rule.host):
            return False
    if rule.names:
        raw = normal.raw.casefold()
        named = facts.rcpt_to if rule.names == "rcpt_to" else (facts.mail_from or "",)
        return any(address and address.casefold() in raw for address in named)
    return True


def _alternatives(rule: Rule) -> tuple[Alternative, ...]:
    rest, found = 1 - rule.confidence, []
    for reason in rule.also:
        found.append(Alternative(reason=reason, confidence=round(rest * 0.6, 3)))
        rest *= 0.4
    return tuple(found)


@functools.cache
def rules() -> tuple[Rule, ...]:
    """Return all rules in the order in which they are tried."""
    found: list[Rule] = []
    folder = resources.files("smtpprobe") / "rules"
    for file in sorted((f for f in folder.iterdir() if f.name.endswith(".toml")), key=lambda f: f.name):
        found += msgspec.convert(tomllib.loads(file.read_text("utf-8")), dict[str, list[Rule]])["rule"]
    return tuple(found)


@functools.cache
def _prepared() -> dict[Stage, list[_Prepared]]:
    all_rules = [_Prepared(rule) for rule in rules()]
    return {s: [p for p in all_rules if not p.rule.stages or s in p.rule.stages] for s in Stage}
