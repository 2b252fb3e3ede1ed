"""What a reply means: (stage, text, session facts) to a verdict, by rules that are data (``rules/*.toml``).

The first rule that matches decides. The files are read in the order of their names: client-side errors, providers'
own words, words of any server, enhanced codes, stage and code. What the last ones know is little, and their confidence
says so. Codes alone are right in a third of real replies at best; the words decide.

What is loaded is ``rules.json``, made from those files by ``tools/compile_rules.py``: no TOML to parse, and for each
few letters the patterns that have a chance in a text with them. Patterns are compiled when first needed.
"""

import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set as AbstractSet
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
    normal, facts = normalize(text), facts or _NO_FACTS
    grams = _grams(normal.text)
    holding, wordless = _holding(stage, normal.code, normal.enhanced, normal.client)
    places = _places(grams, holding)
    found = _first(sorted((*places, *wordless)), places, normal, facts)
    if found is not None:
        return _settled(_verdict(found), stage, facts)
    if not normal.code and not normal.enhanced and stage not in _NOBODY_SPEAKS:
        # A library may have dropped the code: the words of a server are tried without it, and believed less.
        places = _places(grams, _coded(stage, normal.client))
        found = _first(sorted(places), places, normal, facts)
        if found is not None:
            verdict = _verdict(found)
            return _settled(structs.replace(verdict, confidence=min(verdict.confidence, _CODELESS)), stage, facts)
    return _UNKNOWN


def _places(grams: AbstractSet[str], wanted: AbstractSet[int]) -> dict[int, list[int]]:
    """Return which patterns of the wanted rules have a chance in a text with these grams."""
    index, places = _book().grams, dict[int, list[int]]()
    for gram in grams:
        for number, place in index[gram]:
            if number in places:
                places[number].append(place)
            elif number in wanted:
                places[number] = [place]
    return places


def _first(
    numbers: Iterable[int],
    places: Mapping[int, Sequence[int]],
    normal: Normal,
    facts: SessionFacts,
) -> int | None:
    """Return the first of the rules numbered, which hold, that fits and says it."""
    rules, particular, text = _book().rules, _particular(), normal.text
    for number in numbers:
        rule = rules[number]
        if number in particular and not _fits(rule, normal, facts):
            continue
        if _says(rule, places.get(number, ()), text):
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


def _grams(text: str) -> frozenset[str]:
    """Return what the index holds of a text: rows of four characters, and the few shorter ones."""
    long, short, foreign = _indexed()
    found = [gram for gram in (short if text.isascii() else foreign) if gram in text]
    return long.intersection(map("".join, zip(text, text[1:], text[2:], text[3:], strict=False))).union(found)


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
    if rule.text:
        for place in places:
            if _pattern(rule.text[place])(text):
                break
        else:
            return False
    for source in rule.unless:  # noqa: SIM110 - a generator for each rule costs a tenth of a classification
        if _pattern(source)(text):
            return False
    return True


@functools.cache
def _pattern(source: str) -> Callable[[str], object]:
    return re.compile(source).search


@functools.cache
def _book() -> _Book:
    return msgspec.json.decode(Path(__file__).with_name("rules.json").read_bytes(), type=_Book)


@functools.cache
def _particular() -> frozenset[int]:
    """Return the rules that ask for something of the session."""
    return frozenset(
        number
        for number, rule in enumerate(_book().rules)
        if rule.host or rule.names or not rule.login is rule.offered is rule.tls is None
    )


@functools.cache
def _indexed() -> tuple[frozenset[str], tuple[str, ...], tuple[str, ...]]:
    """Return the index's rows of four, its shorter ones in ASCII, and all shorter ones."""
    short = tuple(gram for gram in _book().grams if len(gram) < 4)
    return frozenset(_book().grams).difference(short), tuple(filter(str.isascii, short)), short


@functools.cache
def _verdict(number: int) -> Verdict:
    return _book().rules[number].verdict()


@functools.lru_cache(maxsize=1024)
def _holding(stage: Stage, code: int, enhanced: str, client: bool) -> tuple[frozenset[int], tuple[int, ...]]:
    """Return the rules that hold for stage and codes: those that look at words, and those that look at nothing else."""
    normal, rules = Normal("", "", code, enhanced, client=client), _book().rules
    holding = [number for number, rule in enumerate(rules) if _holds(rule, stage, normal)]
    return frozenset(n for n in holding if rules[n].text), tuple(n for n in holding if not rules[n].text)


@functools.lru_cache(maxsize=64)
def _coded(stage: Stage, client: bool) -> frozenset[int]:
    """Return the rules that ask for a code, and would hold at this stage if the text had it."""
    normal = Normal("", "", 0, "", client=client)
    rules = enumerate(_book().rules)
    return frozenset(n for n, rule in rules if rule.codes and _holds(rule, stage, normal, codeless=True))
