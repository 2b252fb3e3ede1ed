"""Our address as the mail server itself saw it, and what one session proves about it (design §6 a to g).

Only the server's own words about this TCP session count: its EHLO reply, or a refusal that quotes an address.
"""

import ipaddress
import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import msgspec

from smtpprobe.model import (
    AuthFacts,
    EgressAddress,
    EgressFinding,
    Envelope,
    Features,
    Reply,
    StageResult,
    Value,
    Verdict,
)
from smtpprobe.providers import first_word, refuses_at_dot
from smtpprobe.vocabulary import (
    EGRESS_RANK,
    REASONS,
    ConditionStatus,
    EgressMethod,
    EgressReason,
    Outcome,
    Reason,
    Stage,
    StageOutcome,
)

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

# Not ``is_private``: that counts the documentation ranges too, which stand for public addresses in examples and tests.
_NETS4: Final = ("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12")
_NETS: Final = (*_NETS4, "192.168.0.0/16", "::1/128", "fc00::/7", "fe80::/10")
_INTERNAL: Final = tuple(ipaddress.ip_network(net) for net in _NETS)
_CODE: Final = re.compile(r"\s*[2-5]\d\d[ -]")
_TOKEN: Final = re.compile(r"[\[\]()]|[^\s\[\](),;]+")
# Compiled when first asked: they are for refusals, and most sessions pass.
_QUOTED: Final = (  # best first; each captures what may be an address
    r"(?i:(?<!@)\[\s*(?:IPv6:)?([0-9A-Fa-f:.]+)(?:\s+\d+)?\s*\])",
    r"(?i:\b(?:ip|address|client|host|from|source)\s*[:=(]?\s*(?:IPv6:)?([0-9A-Fa-f:.]{3,}))",
    r"(?i:(?<![\w.:@\[-])(?:IPv6:)?([0-9A-Fa-f:.]{3,})(?![\w@-]))",
)


# --------------------------------------------------------------------------------------------------------- addresses


def is_public(address: str) -> bool:
    """Tell whether an address is one of the open internet: not private, CGNAT, loopback or link-local."""
    ip = _address(address)
    return ip is not None and not _internal(ip)


def is_loopback(address: str) -> bool:
    """Tell whether an address never leaves this machine."""
    ip = _address(address)
    return ip is not None and ip.is_loopback


def echoed(first_line: str, own_helo: str, server_ip: str | None = None) -> str | None:
    """Return the address that the first line of the EHLO reply puts in brackets, whatever it may be worth.

    The server's name and our own EHLO argument are left out, as several servers repeat them; of several addresses the
    last counts, as the name before it is the one that the client claims or the resolver knows. The server's own
    address is taken only where there is no other.
    """
    line = _CODE.sub("", first_line, count=1).strip()
    line = line.partition(" ")[2]
    if own_helo:
        line = re.sub(rf"(?<![\w.\-]){re.escape(own_helo)}(?![\w.\-])", " ", line, flags=re.IGNORECASE)
    found = list(_bracketed(line))
    others = [ip for ip in found if str(ip) != server_ip]
    return str((others or found)[-1]) if found else None


def from_ehlo(first_line: str, own_helo: str, server_is_public: bool, server_ip: str | None = None) -> str | None:
    """Return our egress address from the first line of the EHLO reply (with or without its code), or None.

    None also where ``echo_is_proxy``: that address is a load balancer's or sidecar's, not ours.
    """
    ip = echoed(first_line, own_helo, server_ip)
    return None if ip is None or (server_is_public and not is_public(ip)) else ip


def echo_is_proxy(first_line: str, own_helo: str, server_is_public: bool) -> bool:
    """Tell whether a server at a public address echoed an internal one (note EchoIsProxy)."""
    ip = echoed(first_line, own_helo)
    return ip is not None and server_is_public and not is_public(ip)


def from_reply(
    text: str, own_helo: str = "", server_is_public: bool = False, server_ip: str | None = None
) -> str | None:
    """Return the client address that a refusal quotes, or None; ``text`` is the whole reply, lines joined by a space.

    Bracketed addresses count first, then those after words such as IP, host or from, then bare ones. Address literals
    of recipients (``@[``), the server's own address and our EHLO argument do not count.
    """
    if own_helo:
        text = text.replace(own_helo, " ")
    for pattern in _QUOTED:
        for hit in re.finditer(pattern, text):
            ip = _address(hit[1].rstrip(".:"))
            if ip is None or str(ip) == server_ip or (server_is_public and _internal(ip)):
                continue
            return str(ip)
    return None


def seen(ip: str, method: EgressMethod) -> EgressAddress:
    """Return an address with its family and the rank of the method."""
    parsed = ipaddress.ip_address(ip)
    return EgressAddress(ip=str(parsed), family=parsed.version, rank=EGRESS_RANK[method], method=method)


def expected(addresses: Iterable[EgressAddress], cidrs: Iterable[str]) -> tuple[ConditionStatus, EgressReason]:
    """Compare proven addresses (rank A) with ``expectedCIDRs``: one outside makes it False, none known Unknown."""
    networks = [ipaddress.ip_network(cidr, strict=False) for cidr in cidrs]
    proven = [ip for seen in addresses if seen.rank.startswith("A") and (ip := _address(seen.ip)) is not None]
    if not proven or not networks:
        return ConditionStatus.UNKNOWN, EgressReason.NOT_OBSERVABLE
    if all(any(ip in network for network in networks) for ip in proven):
        return ConditionStatus.TRUE, EgressReason.IN_EXPECTED_RANGE
    return ConditionStatus.FALSE, EgressReason.OUTSIDE_EXPECTED_RANGE


def _bracketed(line: str) -> Iterator[IPAddress]:
    depth = 0
    for token in _TOKEN.findall(line):
        if token in "[(":
            depth += 1
        elif token in "])":
            depth = max(0, depth - 1)
        elif depth and (ip := _address(token)) is not None:
            yield ip


def _address(text: str) -> IPAddress | None:
    bare = text.lower().removeprefix("ipv6:").partition("%")[0]
    try:
        ip = ipaddress.ip_address(bare)
    except ValueError:
        return None
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return None if ip.is_unspecified or ip.is_multicast else ip


def _internal(ip: IPAddress) -> bool:
    return any(ip in net for net in _INTERNAL)


# ----------------------------------------------------------------------------------------------------------- finding


class EgressFacts(Value, frozen=True, kw_only=True):
    """What one session showed.

    ``verdict`` and ``stage`` are those of the result, ``stages`` all entries with their replies. ``banner`` is the
    text of the greeting, ``ehlo_line`` the first line of the last EHLO reply, both without the code. ``exchangers``
    are names and addresses of the hosts that take mail for the recipients' domains (in lower case), as far as DNS
    answered. ``envelope`` is None where the depth stops before it. ``lasted`` is False where a later session of the
    same pod was not refused any more.
    """

    host: str
    outcome: Outcome
    verdict: Verdict | None = None
    stage: Stage | None = None
    stages: tuple[StageResult, ...] = ()
    features: Features = Features()
    auth: AuthFacts = AuthFacts()
    envelope: Envelope | None = None
    banner: str = ""
    ehlo_line: str = ""
    helo_name: str = ""
    server_ip: str | None = None
    exchangers: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    addresses: tuple[EgressAddress, ...] = ()
    lasted: bool = True


class _Answer(NamedTuple):
    status: ConditionStatus
    reason: EgressReason


_PATH_BLOCKED: Final = frozenset(
    {Reason.CONNECT_REFUSED, Reason.CONNECT_TIMEOUT, Reason.CONNECT_PROHIBITED, Reason.CONNECT_RESET}
)
_ADDRESS_CAUSES: Final = frozenset(
    {Reason.EGRESS_IP_NOT_AUTHORIZED, Reason.EGRESS_IP_BLOCKLISTED, Reason.REVERSE_DNS_MISSING}
)
_RELAY_CAUSES: Final = frozenset({Reason.RELAY_DENIED, Reason.EGRESS_IP_NOT_AUTHORIZED})
# Below, the reply does not speak of relaying: other causes are too likely for a word about our address.
SURE_OF_RELAY: Final = 0.7
_NAMES_US: Final = r"(?i:\b(?:client host|(?:your|sending|connecting|source) (?:ip|host|server|address|mail server))\b)"
_RATE: Final = r"(?i:rate.?limit|too many|too much|try again later|temporarily deferred|busy)"
# Google's Workspace relay says so also where the address is right and the sender's domain or the EHLO name is not.
_IDENTITY: Final = r"(?i:invalid credentials for relay|mail relay denied)"


def finding(facts: EgressFacts) -> EgressFinding:
    """Return what the session says about EgressAuthorized: design §6 (a) to (g), the first that matches."""
    answer = _decide(facts)
    return EgressFinding(status=answer.status, reason=answer.reason, addresses=facts.addresses)


def _decide(facts: EgressFacts) -> _Answer:
    if not facts.lasted:
        return _Answer(ConditionStatus.UNKNOWN, EgressReason.TRANSIENT)
    reason = facts.verdict.reason if facts.verdict else None
    reply = _reply(facts)
    refusal = " ".join(reply.lines) if reply else ""
    identity = refusal != "" and re.search(_IDENTITY, refusal) is not None
    rate_limit = 400 <= _refusing_code(facts) < 500 and re.search(_RATE, refusal) is not None
    if reason in _ADDRESS_CAUSES and not identity and not rate_limit and _names_us(refusal, facts):
        return _Answer(ConditionStatus.FALSE, EgressReason.SERVER_NAMED_IP)
    if reason in _RELAY_CAUSES or (identity and reason is not None):
        return _relay_refused(facts, identity)
    if facts.stage in (Stage.DATA, Stage.DOT):
        reason_word = EgressReason.TRANSIENT if _transient(facts) else EgressReason.ENVELOPE_ONLY
        return _Answer(ConditionStatus.UNKNOWN, reason_word)
    accepted = _accepted_recipients(facts)
    if accepted and not facts.auth.succeeded:
        if any(_served_elsewhere(recipient, facts) for recipient in accepted):
            return _Answer(ConditionStatus.TRUE, EgressReason.RELAY_ACCEPTED_NO_CONTROL)
        return _Answer(ConditionStatus.UNKNOWN, EgressReason.RECIPIENT_MAY_BE_LOCAL)
    if accepted:
        # Before (d): a message that was taken says more than its envelope, also where refusals come at the dot only.
        if _passed(facts, Stage.DOT):
            return _Answer(ConditionStatus.TRUE, EgressReason.MESSAGE_ACCEPTED)
        if refuses_at_dot(facts.host, facts.banner, facts.ehlo_line) is not None:
            return _Answer(ConditionStatus.UNKNOWN, EgressReason.ENVELOPE_ONLY)
        return _Answer(ConditionStatus.TRUE, EgressReason.ENVELOPE_ACCEPTED)
    return _Answer(ConditionStatus.UNKNOWN, _why_unknown(facts, reason))


def _relay_refused(facts: EgressFacts, identity: bool) -> _Answer:
    if facts.auth.succeeded:
        return _Answer(ConditionStatus.UNKNOWN, EgressReason.RELAY_DENIED_AUTHENTICATED)
    if identity:
        return _Answer(ConditionStatus.UNKNOWN, EgressReason.RELAY_IDENTITY_MISMATCH)
    if facts.stage is Stage.GREETING:
        return _Answer(ConditionStatus.UNKNOWN, EgressReason.REJECTED_AT_GREETING)
    if auth_offered(facts.features):
        return _Answer(ConditionStatus.UNKNOWN, EgressReason.LOGIN_NOT_TRIED)
    if facts.verdict is not None and facts.verdict.confidence < SURE_OF_RELAY:
        # The words fit an unknown recipient as well: OpenSMTPD says "Invalid recipient" to both.
        return _Answer(ConditionStatus.UNKNOWN, EgressReason.RECIPIENT_MAY_BE_LOCAL)
    if not all(_is_own(recipient, facts) for recipient in _accepted_recipients(facts)):
        # One refused as relay, one taken: foreign as well, or at home there? The two contradict each other.
        return _Answer(ConditionStatus.UNKNOWN, EgressReason.RECIPIENT_MAY_BE_LOCAL)
    return _Answer(ConditionStatus.FALSE, EgressReason.ANONYMOUS_RELAY_DENIED)


def _why_unknown(facts: EgressFacts, reason: Reason | None) -> EgressReason:
    if facts.stage is Stage.CONNECT and reason in _PATH_BLOCKED:
        return EgressReason.PATH_BLOCKED
    if facts.outcome is Outcome.ERROR or facts.stage in (Stage.DNS, Stage.CONNECT):
        return EgressReason.NOT_REACHED
    if reason is Reason.AUTH_REQUIRED:
        return EgressReason.AUTH_REQUIRED
    if _transient(facts):
        return EgressReason.TRANSIENT
    if facts.stage is Stage.GREETING and reason in (Reason.GREETING_REJECTED, Reason.CONNECT_RESET, *_ADDRESS_CAUSES):
        return EgressReason.REJECTED_AT_GREETING
    if facts.auth.refused or facts.auth.paused:
        return EgressReason.LOGIN_REFUSED
    return EgressReason.NOT_REQUESTED if facts.outcome is Outcome.PASSED else EgressReason.NOT_REACHED


def _reply(facts: EgressFacts) -> Reply | None:
    for entry in facts.stages:
        if entry.outcome is StageOutcome.FAILED and entry.stage is facts.stage and entry.reply is not None:
            return entry.reply
    return None


def _refusing_code(facts: EgressFacts) -> int:
    reply = _reply(facts)
    return reply.code if reply else 0


def _names_us(refusal: str, facts: EgressFacts) -> bool:
    public = facts.server_ip is not None and is_public(facts.server_ip)
    known = any(address.rank.startswith("A") and address.ip in refusal for address in facts.addresses)
    quoted = from_reply(refusal, facts.helo_name, public, facts.server_ip)
    return known or bool(re.search(_NAMES_US, refusal)) or quoted is not None


def _transient(facts: EgressFacts) -> bool:
    if facts.verdict is None:
        return False
    return 400 <= _refusing_code(facts) < 500 or REASONS[facts.verdict.reason].transient


def _passed(facts: EgressFacts, stage: Stage) -> bool:
    return any(entry.stage is stage and entry.outcome is StageOutcome.PASSED for entry in facts.stages)


def _accepted_recipients(facts: EgressFacts) -> list[str]:
    return [
        entry.recipient
        for entry in facts.stages
        if entry.stage is Stage.RCPT
        and entry.outcome is StageOutcome.PASSED
        and entry.recipient is not None
        and (entry.reply is None or entry.reply.code in (250, 251))
    ]


def _is_own(recipient: str, facts: EgressFacts) -> bool:
    """Tell whether names or DNS speak for the server or the sender being at home in the recipient's domain."""
    domain = _domain(recipient).lower()
    servers = (facts.host, first_word(facts.banner), first_word(facts.ehlo_line))
    names = [server.lower().strip(".") for server in servers if server.strip(".")]
    sender = _domain(facts.envelope.mail_from) if facts.envelope else ""
    known = facts.exchangers.get(domain, ())
    if not domain or facts.server_ip in known or same_domain_or_parent(domain, sender):
        return True
    return any(_related(name, own) for name in (domain, *known) for own in names)


def _related(domain: str, server: str) -> bool:
    """Tell whether a domain stands above the server's name, below it, or below its parent of two labels or more."""
    parent = server.partition(".")[2]
    above = (server, parent) if "." in parent else (server,)
    return same_domain_or_parent(domain, server) or any(same_domain_or_parent(name, domain) for name in above)


def _served_elsewhere(recipient: str, facts: EgressFacts) -> bool:
    return _domain(recipient).lower() in facts.exchangers and not _is_own(recipient, facts)


def same_domain_or_parent(domain: str, name: str) -> bool:
    """Tell whether ``domain`` is ``name`` or a parent of it (``example.com`` for ``mail.example.com``)."""
    domain, name = domain.lower().strip("."), name.lower().strip(".")
    return bool(domain) and (name == domain or name.endswith("." + domain))


def auth_offered(features: Features) -> bool:
    """Tell whether AUTH was announced anywhere in the session, before or after TLS."""
    keywords = (*(features.before_tls or ()), *(features.after_tls or ()))
    return any(re.match(r"AUTH\b", keyword, re.IGNORECASE) for keyword in keywords)


def _domain(address: str) -> str:
    return address.rpartition("@")[2] if "@" in address else ""
