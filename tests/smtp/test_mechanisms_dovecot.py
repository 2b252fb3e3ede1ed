"""Every mechanism against a real SASL server: Dovecot behind Postfix, which counts the logins it was asked for."""

import asyncio
import time

import cluster_facts
import pytest
from cluster_facts import Facts, Logins
from mail import TOKEN_KEY
from tokens import token

from smtpprobe.credentials import Credentials
from smtpprobe.model import Envelope, ProbeRequest, ProbeResult, TlsOptions
from smtpprobe.probing import probe
from smtpprobe.vocabulary import Depth, Mechanism, Mode, Outcome, Reason, Stage

CASES = [(mechanism, good) for mechanism in Mechanism for good in (True, False)]
USERS = {case: f"user{number}@corp.test" for number, case in enumerate(CASES, 31)}


def session(facts: Facts, mechanism: Mechanism, user: str, password: str) -> ProbeResult:
    assert facts.mail
    service = facts.mail.services["mechanisms"]
    made = ProbeRequest(
        host=service.host,
        port=service.port,
        mode=Mode.STARTTLS,
        depth=Depth.ENVELOPE,
        mechanism=mechanism,
        helo_name="probe.corp.test",
        tls=TlsOptions(ca_file=facts.ca_file),
        envelope=Envelope(mail_from=user, rcpt_to=("someone@elsewhere.test",)),
    )
    return asyncio.run(probe(made, Credentials(user, password)))


def play(mechanism: Mechanism, *, good: bool) -> tuple[ProbeResult, Logins]:
    """Return one session and the logins that Dovecot counted for it, under a name that no other test uses.

    A further login, certain to be accepted, follows: when Dovecot has written that, it has written all before it.
    """
    facts = cluster_facts.load()
    mail, user = facts.mail, USERS[mechanism, good]
    assert mail
    mark = mail.mark()
    password = mail.users[user] if good else "not-the-password"
    if mechanism is Mechanism.XOAUTH2:
        password = token(user, TOKEN_KEY if good else b"another key")
    result = session(facts, mechanism, user, password)
    assert session(facts, Mechanism.PLAIN, user, mail.users[user]).outcome is Outcome.PASSED
    deadline = time.monotonic() + 60
    while (counted := mail.logins(user, since=mark)).accepted < 1 + result.auth.succeeded:
        assert time.monotonic() < deadline, "Dovecot wrote nothing of the last login"
        time.sleep(0.05)
    return result, Logins(counted.accepted - 1, counted.refused)


@pytest.mark.parametrize("mechanism", Mechanism)
def test_right_secret_is_one_login(mechanism: Mechanism) -> None:
    """With the right secret the session passes by just that mechanism, and the server saw one login in all."""
    result, logins = play(mechanism, good=True)
    assert result.outcome is Outcome.PASSED, result.message
    assert result.auth.mechanism is (Mechanism.PLAIN if mechanism is Mechanism.AUTO else mechanism)
    assert logins == Logins(accepted=1, refused=0)


@pytest.mark.parametrize("mechanism", Mechanism)
def test_wrong_secret_is_one_login(mechanism: Mechanism) -> None:
    """A wrong secret is one refused login, whatever else the server offers: no second mechanism is tried with it."""
    result, logins = play(mechanism, good=False)
    assert (result.outcome, result.stage) == (Outcome.FAILED, Stage.AUTH)
    assert result.verdict is not None
    assert result.verdict.reason is Reason.BAD_CREDENTIALS, result.message
    assert result.auth.refused
    assert logins == Logins(accepted=0, refused=1)
