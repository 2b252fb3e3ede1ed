"""Everything that is wrong with a certificate chain, at once. Pure.

OpenSSL's verification stops at its first error: an expired, self-signed certificate for another name is only
"self-signed". But the handshake that failed has shown the whole chain, so the rest is looked at here, and no second
handshake without verification is needed for it.
"""

from collections.abc import Sequence
from datetime import datetime

from smtpprobe.model import Certificate
from smtpprobe.tls import name_matches

_SHOWN_SANS = 3


def faults_of(
    chain: Sequence[Certificate], server_name: str, now: datetime, *, untrusted: bool = False, said: str = ""
) -> tuple[str, ...]:
    """Return a phrase for each fault of a chain as sent, leaf first.

    OpenSSL builds the chain to a trusted issuer before it looks at names and dates: its first error tells whether the
    chain is ``untrusted``. ``said`` is that error where it is none of those that are seen here.
    """
    if not chain:
        return ()
    leaf = chain[0]
    found = [f"{'expired' if one is leaf else 'expired issuer ' + one.subject} {_day(one.not_after)}"
             for one in chain if one.not_after < now]  # fmt: skip
    if now < leaf.not_before:
        found.append(f"not valid before {_day(leaf.not_before)}")
    if not name_matches(server_name, leaf.sans):
        names = ", ".join(leaf.sans[:_SHOWN_SANS]) or "no name at all"
        found.append(f"not for {server_name} (for {names})")
    if untrusted:
        found.append(_trust(chain))
    return (*found, said) if said else tuple(found)


def told(
    chain: Sequence[Certificate], server_name: str, now: datetime, *, untrusted: bool = False, said: str = ""
) -> str:
    """Say in one sentence what the failed handshake itself showed."""
    count = f"{len(chain)} certificate{'' if len(chain) == 1 else 's'}"
    found = faults_of(chain, server_name, now, untrusted=untrusted, said=said)
    what = "; ".join(found) or "nothing else is wrong with it"
    return f"the failed handshake itself showed the chain ({count}), so no second connection was made: {what}"


def _trust(chain: Sequence[Certificate]) -> str:
    leaf = chain[0]
    if leaf.subject == leaf.issuer:
        return "not trusted: self-signed"
    at, rest = leaf, list(chain[1:])
    while (above := next((one for one in rest if one.subject == at.issuer), None)) is not None:
        if above.subject == above.issuer:
            return f"not trusted: the root {above.subject} is not known here"
        rest.remove(above)
        at = above
    if at is leaf:
        return f"not trusted: incomplete chain (the intermediate {leaf.issuer} was not sent), or that issuer is unknown"
    return f"not trusted: the issuer {at.issuer} is not known here"


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
