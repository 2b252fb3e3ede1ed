"""What a status remembers of experiments, so that none is made twice for one spec, reason and server address. Pure.

The pod knows this file too: no import of ``resource`` here.
"""

from collections.abc import Sequence
from datetime import datetime

from msgspec.structs import asdict

from smtpprobe import settling
from smtpprobe.model import AuthFacts, Experiment, ProbeResult, TriedVariant
from smtpprobe.vocabulary import Outcome

KEPT_EXPERIMENTS = 8
REFUSALS_THAT_PAUSE = 2  # logins in a row (design §9)
CLIENT_HELLO, PLAIN_GREETING, OLD_TLS = "client-hello", "plain-greeting", "old-tls"
CERTIFICATE, USERNAME_VARIANT = "certificate", "username-variant"
# The one answer that is kept, of experiments with answers that are not: a certificate needs no connection, a variant is
# remembered with the login (``VariantRecord``), and each pod has first seconds of its own.
_KEPT_ANSWER = {
    CERTIFICATE: None,
    USERNAME_VARIANT: None,
    settling.ADDRESS_AGAIN: settling.REFUSED,
    settling.NETWORK_AGAIN: settling.SAME,
}


class ExperimentRecord(Experiment, frozen=True, kw_only=True):
    """An experiment that was made, and for which spec."""

    spec_digest: str = ""


class VariantRecord(TriedVariant, frozen=True, kw_only=True):
    """The form of a user name that was tried, and for which spec."""

    spec_digest: str = ""


def experiments_after(
    known: Sequence[ExperimentRecord], result: ProbeResult, digest: str, at: datetime
) -> tuple[ExperimentRecord, ...]:
    """Return what is remembered after a run, newest first: of this spec only, and nothing from before a pass.

    A server that has taken us in between has changed, so what it said before decides no later failure.
    """
    if result.outcome is Outcome.PASSED:
        return ()
    kept = [one for one in known if one.spec_digest == digest]
    asked = {(one.name, one.reason, one.server) for one in kept}
    new = [
        ExperimentRecord(**asdict(one) | {"since": at, "spec_digest": digest})
        for one in result.experiments
        if one.answer and one.since is None and _KEPT_ANSWER.get(one.name, one.answer) == one.answer
    ]
    fresh = [one for one in new if (one.name, one.reason, one.server) not in asked]
    return (*fresh, *kept)[:KEPT_EXPERIMENTS]


def known_for(known: Sequence[ExperimentRecord], digest: str) -> tuple[Experiment, ...]:
    """Return what a run of this spec need not ask again."""
    return tuple(_plain(one) for one in known if one.spec_digest == digest)


def variant_after(known: VariantRecord | None, auth: AuthFacts, digest: str, at: datetime) -> VariantRecord | None:
    """Return what is remembered of a second login: this run's, if there was one whose credentials are marked."""
    second = auth.second
    if second is None or not auth.salt or not auth.fingerprint:
        return known
    return VariantRecord(
        salt=auth.salt,
        fingerprint=auth.fingerprint,
        shape=second.shape,
        succeeded=second.succeeded,
        since=at,
        username=auth.username or "",
        spec_digest=digest,
    )


def _plain(one: ExperimentRecord) -> Experiment:
    fields = asdict(one)
    del fields["spec_digest"]
    return Experiment(**fields)
