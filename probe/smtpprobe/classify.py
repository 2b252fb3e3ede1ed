"""What a reply means: (stage, text, session facts) to a verdict, by rules that are data (``rules/*.toml``).

The first rule that matches decides. The files are read in the order of their names: client-side errors, providers'
own words, words of any server, enhanced codes, stage and code. What the last ones know is little, and their confidence
says so. Codes alone are right in a third of real replies at best; the words decide.

What is loaded is ``rules.json``, made from those files by ``tools/compile_rules.py``: no TOML to parse, and for each
few letters the patterns that have a chance in a text with them. Patterns are compiled when first needed.
"""

import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import structs

from smtpprobe.model import Alternative, Value, Verdict
from smtpprobe.normalize import Normal, normalize, quoted_address
from smtpprobe.vocabulary import Reason, Stage

__all__ = ["Rule", "SessionFacts", "classify", "quoted_address"]


class SessionFacts(Value, frozen=True, kw_only=True):
    """What the session knows and a reply does not say."""

    host: str = ""
    banner: str = ""
    tls_active: bool = False
    login_sent: bool = False
    login_offered: bool = False
    mail_from: str | None = None
    rcpt_to: tuple[str, ...] = ()


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One rule: every condition given must hold; ``text`` holds if one of its patterns is found, ``unless`` if none is.

    ``stages``: where it can stand. ``codes``: prefixes of the basic code. ``enhanced``: whole enhanced codes. ``host``:
    the server's name or banner contains one of these. ``names``: the text names this party of the envelope
    (``mail_from`` or ``rcpt_to``). ``login``, ``offered``, ``tls``: AUTH was sent, AUTH was announced, TLS was up.
    ``client``: only for texts without a reply code, which are errors of a client library. ``also``: the other reasons
    that the same words can have, likeliest first.
    """

    id: str
    reason: Reason
    confidence: float
    also: tuple[Reason, ...] = ()
    text: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()
    stages: tuple[Stage, ...] = ()
    codes: tuple[str, ...] = ()
    enhanced: tuple[str, ...] = ()
    host: tuple[str, ...] = ()
    names: str = ""
    login: bool | None = None
    offered: bool | None = None
    tls: bool | None = None
    client: bool = False

    def verdict(self) -> Verdict:
        """Return what this rule says; the doubt that is left is shared out among ``also``."""
        rest, found = 1 - self.confidence, []
        for reason in self.also:
            found.append(Alternative(reason=reason, confidence=round(rest * 0.6, 3)))
            rest *= 0.4
        return Verdict(reason=self.reason, confidence=self.confidence, alternatives=tuple(found), rule=self.id)


class _Book(msgspec.Struct, frozen=True):
    rules: tuple[Rule, ...]
    grams: dict[str, list[tuple[int, int]]]


_NO_FACTS = SessionFacts()
_NOT_UNDER_TLS = frozenset({Reason.TLS_REQUIRED, Reason.TLS_NOT_OFFERED, Reason.WRONG_TLS_MODE})
_NOT_BEHIND_LOGIN = frozenset({Reason.AUTH_REQUIRED, Reason.AUTH_NOT_OFFERED, Reason.BAD_CREDENTIALS})
_BEHIND_LOGIN = frozenset({Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.DOT})
_NOBODY_SPEAKS = frozenset({Stage.DNS, Stage.CONNECT, Stage.TLS})
_CONTRADICTED = 0.5
_CODELESS = 0.6
_UNKNOWN = Verdict(reason=Reason.UNKNOWN, confidence=0.0, rule="unknown")


def classify(stage: Stage, text: str, facts: SessionFacts | None = None) -> Verdict:
    """Return the verdict on a reply (code and all lines) or a client-side error text that came at ``stage``.

    Linear in the length of the text, of which 4,096 characters count.
    """
    normal, book, facts = normalize(text), _book(), facts or _NO_FACTS
    places: dict[int, list[int]] = {}
    for gram in book.grams.keys() & _grams(normal.text):
        for number, place in book.grams[gram]:
            places.setdefault(number, []).append(place)
    holding, wordless = _holding(stage, normal.code, normal.enhanced, normal.client)
    found = _first(sorted((*(holding & places.keys()), *wordless)), places, normal, facts)
    if found is not None:
        return _settled(_verdict(found), stage, facts)
    if not normal.code and not normal.enhanced and stage not in _NOBODY_SPEAKS:
        # A library may have dropped the code: the words of a server are tried without it, and believed less.
        coded = [
            n for n in sorted(places) if book.rules[n].codes and _holds(book.rules[n], stage, normal, codeless=True)
        ]
        found = _first(coded, places, normal, facts)
        if found is not None:
            verdict = _verdict(found)
            return _settled(structs.replace(verdict, confidence=min(verdict.confidence, _CODELESS)), stage, facts)
    return _UNKNOWN


def _first(
    numbers: Iterable[int],
    places: Mapping[int, Sequence[int]],
    normal: Normal,
    facts: SessionFacts,
) -> int | None:
    """Return the first of the rules numbered, which hold, that fits and says it."""
    rules = _book().rules
    for number in numbers:
        rule = rules[number]
        if _fits(rule, normal, facts) and _says(rule, places.get(number, ()), normal.text):
            return number
    return None


def _settled(verdict: Verdict, stage: Stage, facts: SessionFacts) -> Verdict:
    """Leave out what the session itself has shown to be otherwise: TLS is up, the login was accepted."""
    shown: frozenset[Reason] = _NOT_UNDER_TLS if facts.tls_active else frozenset()
    if facts.login_sent and stage in _BEHIND_LOGIN:
        shown |= _NOT_BEHIND_LOGIN
    left = tuple(a for a in verdict.alternatives if a.reason not in shown)
    if verdict.reason in shown:
        return structs.replace(verdict, alternatives=left, confidence=min(verdict.confidence, _CONTRADICTED))
    return structs.replace(verdict, alternatives=left) if len(left) < len(verdict.alternatives) else verdict


def _grams(text: str) -> set[str]:
    """Return what the index may hold of a text: rows of four and three characters, of two where they are not ASCII."""
    size = len(text)
    grams = {text[i : i + 4] for i in range(size - 3)} | {text[i : i + 3] for i in range(size - 2)}
    if not text.isascii():
        grams |= {text[i : i + 2] for i in range(size - 1) if not text[i].isascii()}
    return grams


def _holds(rule: Rule, stage: Stage, normal: Normal, *, codeless: bool = False) -> bool:
    """Say whether stage and codes are the rule's."""
    if rule.stages and stage not in rule.stages:
        return False
    if rule.client and (normal.code or not normal.client):
        return False
    if rule.codes and not codeless and not _has_code(rule, normal):
        return False
    return not rule.enhanced or normal.enhanced in rule.enhanced


def _has_code(rule: Rule, normal: Normal) -> bool:
    """Say whether the code is one of the rule's; where only an enhanced code is left, its first digit is the class."""
    if normal.code:
        return str(normal.code).startswith(rule.codes)
    if rule.text:
        return any(code[0] == normal.enhanced[:1] for code in rule.codes)
    return normal.enhanced[:1] in rule.codes


def _fits(rule: Rule, normal: Normal, facts: SessionFacts) -> bool:
    """Say whether the session is one that the rule speaks of."""
    if rule.login is not None and rule.login is not facts.login_sent:
        return False
    if rule.offered is not None and rule.offered is not facts.login_offered:
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


def _says(rule: Rule, places: Sequence[int], text: str) -> bool:
    if rule.text and not any(_pattern(rule.text[place])(text) for place in places):
        return False
    return not any(_pattern(source)(text) for source in rule.unless)


@functools.cache
def _pattern(source: str) -> Callable[[str], object]:
    return re.compile(source).search


@functools.cache
def _book() -> _Book:
    return msgspec.json.decode(Path(__file__).with_name("rules.json").read_bytes(), type=_Book)


@functools.cache
def _verdict(number: int) -> Verdict:
    return _book().rules[number].verdict()


@functools.lru_cache(maxsize=1024)
def _holding(stage: Stage, code: int, enhanced: str, client: bool) -> tuple[frozenset[int], tuple[int, ...]]:
    """Return the rules that hold for stage and codes: those that look at words, and those that look at nothing else."""
    normal, rules = Normal("", "", code, enhanced, client=client), _book().rules
    holding = [number for number, rule in enumerate(rules) if _holds(rule, stage, normal)]
    return frozenset(n for n in holding if rules[n].text), tuple(n for n in holding if not rules[n].text)
