"""Who issued the certificates that one host showed, over runs and places, and when a change is suspicious. Pure.

What is remembered (``SeenCertificate``, newest first) is one entry for each authority and end of the verification, so
that a renewal by the same authority is no change. Judged is the newest one beside the others:

====================  ==================================  ====================================================
the newest            another authority's                 judgement
====================  ==================================  ====================================================
not trusted           verified, at any place or time      suspected: something opens TLS, or a server changed
any                   the same end, seen by other nodes   suspected: the place decides (A-B-A-B)
                      before and after this one
verified              verified before                     changed: told, but a public authority may change
verified              not trusted, elsewhere or before    told: that place is suspicious, not this one
====================  ==================================  ====================================================
"""

import re
from datetime import datetime
from typing import Literal, NamedTuple

import msgspec

from smtpprobe.model import ProbeResult, TlsFacts
from smtpprobe.resource import SeenCertificate
from smtpprobe.vocabulary import Note, Reason, Stage

RULE = "middlebox-certificate"
KEPT = 4
KEPT_NODES = 8
_NAME_CHARS = 40
_ABOUT_CERTIFICATES = frozenset(
    {
        *(Reason.CERTIFICATE_INVALID, Reason.CERTIFICATE_EXPIRED),
        *(Reason.CERTIFICATE_NOT_YET_VALID, Reason.CERTIFICATE_HOSTNAME_MISMATCH),
    }
)
# One attribute of a distinguished name as RFC 4514 writes it; a comma inside a value stands behind a backslash.
_ATTRIBUTE = re.compile(r"(?:^|[,+])([A-Za-z][\w.]*)=((?:\\.|[^,+\\])*)")


class Comparison(NamedTuple):
    """What the certificates of one host say beside each other; ``suspected`` where it is worth a note."""

    suspected: bool
    text: str


def remember(
    known: tuple[SeenCertificate, ...], result: ProbeResult, node: str | None, at: datetime
) -> tuple[tuple[SeenCertificate, ...], ProbeResult]:
    """Return what is remembered after an answer, and the answer: with a note and why, where the rest suggests it.

    At most four certificates are remembered, of each at most eight nodes.
    """
    facts = result.tls
    if facts is None or not facts.chain or not _judged(result, facts):
        return known, result
    known = _added(known, facts, node, at)
    found = compare(known)
    if found is None or not found.suspected:
        return known, result
    notes = tuple(dict.fromkeys((*result.notes, Note.MIDDLEBOX_SUSPECTED)))
    verdict = result.verdict
    if verdict is not None and verdict.reason is Reason.CERTIFICATE_INVALID:
        verdict = msgspec.structs.replace(verdict, rule=RULE)  # it has advice of its own
    message = f"{result.message}; {found.text}"
    return known, msgspec.structs.replace(result, notes=notes, message=message, verdict=verdict)


def _added(
    known: tuple[SeenCertificate, ...], facts: TlsFacts, node: str | None, at: datetime
) -> tuple[SeenCertificate, ...]:
    leaf = facts.chain[0]
    new = SeenCertificate(
        issuer=leaf.issuer,
        sha256=leaf.sha256,
        verified=facts.verified,
        error=str(facts.errors[0]) if facts.errors else None,
        nodes=(node,) if node else (),
        first_seen=at,
        last_seen=at,
    )
    old = next((one for one in known if _kind(one) == _kind(new)), None)
    if old is not None:
        nodes = tuple(dict.fromkeys((*new.nodes, *old.nodes)))[:KEPT_NODES]
        new = msgspec.structs.replace(new, nodes=nodes, first_seen=old.first_seen, count=old.count + 1)
    return (new, *(one for one in known if one is not old))[:KEPT]


def compare(known: tuple[SeenCertificate, ...], lang: Literal["en", "ko"] = "en") -> Comparison | None:
    """Judge the newest certificate beside those of other authorities; None where there are none."""
    if not known:
        return None
    newest, *older = known
    others = [one for one in older if _authority(one.issuer) != _authority(newest.issuer)]
    if not others:
        return None
    verified = next((one for one in others if one.verified), None)
    if _untrusted(newest) and verified is not None:
        return Comparison(True, _words("opened", newest, verified, lang))
    for one in others:
        if (one.verified, one.error) == (newest.verified, newest.error) and _apart(newest, one):
            return Comparison(True, _words("places", newest, one, lang))
    untrusted = next((one for one in others if _untrusted(one)), None)
    if newest.verified and untrusted is not None:
        return Comparison(False, _words("elsewhere", newest, untrusted, lang))
    return Comparison(False, _words("changed", newest, others[0], lang))


def name_of(issuer: str) -> str:
    """Return the words of a distinguished name by which people know an authority: organisation and common name."""
    found = dict(reversed(_ATTRIBUTE.findall(issuer)))
    words = list(dict.fromkeys(value for key in ("CN", "O") if (value := found.get(key, "").strip())))
    text = ", ".join(words) or issuer
    return text if len(text) <= _NAME_CHARS else text[: _NAME_CHARS - 3] + "..."


def _judged(result: ProbeResult, facts: TlsFacts) -> bool:
    """Whether the certificate was looked at: verified, refused for itself, or taken by insecureSkipVerify."""
    return facts.verified or result.stage is not Stage.TLS or bool(_ABOUT_CERTIFICATES & set(facts.errors[:1]))


def _authority(issuer: str) -> str:
    """Mark who issues: the organisation where it is named, else the whole name; without case, blanks and dots."""
    organisation = next((value for key, value in _ATTRIBUTE.findall(issuer) if key == "O"), "")
    return re.sub(r"[\W_]+", "", organisation.casefold()) or issuer


def _kind(one: SeenCertificate) -> tuple[str, bool, str | None]:
    return (_authority(one.issuer), one.verified, one.error)


def _untrusted(one: SeenCertificate) -> bool:
    return not one.verified and one.error == Reason.CERTIFICATE_INVALID


def _apart(one: SeenCertificate, other: SeenCertificate) -> bool:
    """Tell whether other nodes saw the other one while this one was being seen: the place decides, not the time."""
    if not one.nodes or not other.nodes or KEPT_NODES in (len(one.nodes), len(other.nodes)):
        return False
    if min(one.count, other.count) < 2:  # two servers behind one name would often look the same
        return False
    in_turns = one.first_seen < other.last_seen and other.first_seen < one.last_seen
    return in_turns and not set(one.nodes) & set(other.nodes)


_TEXTS = {
    "en": {
        "opened": "the certificate shown here is from {now}, but {where} had a verified one from {other} ({when}): "
        "something on the way may open TLS, else the server has another certificate since",
        "places": "{here} always gets a certificate from {now}, {where} one from {other} ({when}): something on the "
        "way may open TLS, else the name leads to different servers",
        "elsewhere": "{where} was shown a certificate from {other} that is not trusted ({when})",
        "changed": "the certificate is from {now}, before it was from {other} ({when})",
        "this": "this probe",
        "node": "node {}",
    },
    "ko": {
        "opened": "지금 받은 인증서는 {now} 발급이고, {where}에서 검증된 인증서는 {other} 발급이었습니다({when}). "
        "중간 장비가 TLS를 열어 보거나, 그 뒤에 서버 인증서가 바뀐 것일 수 있습니다",
        "places": "{here}에서는 늘 {now} 발급 인증서를, {where}에서는 {other} 발급 인증서를 받습니다({when}). "
        "중간 장비가 TLS를 열어 보거나, 같은 이름이 다른 서버로 연결되는 것일 수 있습니다",
        "elsewhere": "{where}에서는 신뢰할 수 없는 {other} 발급 인증서를 받았습니다({when})",
        "changed": "지금 인증서는 {now} 발급이며, 이전에는 {other} 발급이었습니다({when})",
        "this": "이 프로브",
        "node": "노드 {}",
    },
}


def _words(kind: str, newest: SeenCertificate, other: SeenCertificate, lang: Literal["en", "ko"]) -> str:
    texts = _TEXTS[lang]
    elsewhere = [node for node in other.nodes if node not in newest.nodes]
    return texts[kind].format(
        now=f"'{name_of(newest.issuer)}'",
        other=f"'{name_of(other.issuer)}'",
        here=texts["node"].format(newest.nodes[0]) if newest.nodes else texts["this"],
        where=texts["node"].format(elsewhere[0]) if elsewhere else texts["this"],
        when=f"{other.last_seen:%Y-%m-%d %H:%M} UTC",
    )
