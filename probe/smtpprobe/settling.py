"""A pod's first seconds: its network may not be there yet, or let it out at another address (design §6). Pure.

So what a fresh pod is refused for its address, or for want of a network, is asked for once more after them. Known of
the egress gateways of Cilium and Antrea, of kube-vip, and of network policies that reach a node after its pod.
"""

from collections.abc import Iterable

from smtpprobe import egress
from smtpprobe.model import Experiment, Verdict
from smtpprobe.vocabulary import Reason, Stage

SECONDS = 5.0
NETWORK_AGAIN, ADDRESS_AGAIN = "network-again", "address-again"
WORKED, SAME, ACCEPTED, MOVED, REFUSED, OTHER = "worked", "same", "accepted", "moved", "refused", "other"
RULE_FLAPPED = f"experiment:{ADDRESS_AGAIN}"
# What a resolver or the kernel says at once where there is no way out; silence outlasts these seconds anyhow.
_NO_NETWORK = frozenset(
    f"transport:{fact}" for fact in ("dns-servfail", "dns-error", "connect-refused", "connect-prohibited")
)
_ABOUT_OUR_ADDRESS = frozenset(
    {
        *(Reason.EGRESS_IP_NOT_AUTHORIZED, Reason.EGRESS_IP_BLOCKLISTED),
        *(Reason.REVERSE_DNS_MISSING, Reason.RELAY_DENIED),
    }
)
_BEFORE_LOGIN = frozenset({Stage.GREETING, Stage.EHLO, Stage.MAIL, Stage.RCPT})


def may_lack_network(verdict: Verdict) -> bool:
    """Say whether a fault of dns or connect is what a pod without a network sees as well."""
    return verdict.rule in _NO_NETWORK


def may_be_other_address(verdict: Verdict, stage: Stage) -> bool:
    """Say whether a refusal is about the address that the server saw."""
    return stage in _BEFORE_LOGIN and verdict.reason in _ABOUT_OUR_ADDRESS


def network_again(first: Reason, second: Reason | None, detail: str, seconds: float) -> Experiment:
    """Describe the second try of dns or connect; ``detail`` is the first one's."""
    answer = WORKED if second is None else SAME if second is first else OTHER
    then = {WORKED: "it works", SAME: "the same"}.get(answer, f"{second}")
    showed = f"at first: {detail}; {seconds:g} s after the start: {then}"
    return Experiment(name=NETWORK_AGAIN, showed=showed, answer=answer, reason=first)


def address_again(first: Reason, second: Reason | None, before: str | None, after: str | None) -> str:
    """Return the word for what a second session met; ``before``, ``after``: what the server called us, if it did."""
    if second is None:
        return ACCEPTED
    if second is not first:
        return OTHER
    return MOVED if before and after and before != after else REFUSED


def address_seen(ehlo_lines: Iterable[str], refusal: str, helo_name: str, server_ip: str) -> str | None:
    """Return the address at which a server says to have seen us: by its last EHLO reply, else by its refusal."""
    public = egress.is_public(server_ip)
    server = None if egress.is_loopback(server_ip) else server_ip
    echoes = (egress.from_ehlo(line, helo_name, public, server) for line in reversed(list(ehlo_lines)))
    return next(filter(None, echoes), None) or egress.from_reply(refusal, helo_name, public, server)


def flapped(experiments: Iterable[Experiment]) -> bool:
    """Say whether the server saw this pod at two addresses, or refused it and then did not."""
    return any(one.name == ADDRESS_AGAIN and one.answer in {ACCEPTED, MOVED} for one in experiments)


def lasted(experiments: Iterable[Experiment]) -> bool:
    """Say whether no later session of this pod took a refusal back."""
    return not any(one.name == ADDRESS_AGAIN and one.answer == ACCEPTED for one in experiments)
