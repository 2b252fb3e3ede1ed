"""Two wrong passwords never become three logins, as the server counts them: over restarts, spread over two probes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from cluster_facts import Logins
from conftest import condition
from shop import Shop

USER = "user13@corp.test"
PROBES = ("orders", "invoices")
ROUNDS = 4


@dataclass
class Seen:
    """Dovecot's counts after each step, and the statuses that belong to them."""

    counts: list[Logins] = field(default_factory=list)
    statuses: list[dict[str, Any]] = field(default_factory=list)


@pytest.fixture(scope="module")
def seen(restart: Callable[[], None], make_shop: Callable[[], Shop]) -> Seen:
    """Runs of two probes with one Secret, each after a restart of the operator; then a new password in the Secret."""
    shop, seen = make_shop(), Seen()
    mail = shop.facts.mail
    assert mail
    mark = mail.mark()

    def each(number: int) -> None:
        # A new spec runs at once and by the rules of a scheduled run: run-now would allow a login each time.
        for name in PROBES:
            login = {"name": "login"}
            shop.probe(name, "submission", "starttls", credentialsSecretRef=login, heloName=f"run{number}.corp.test")
        seen.statuses += [shop.judged(name) for name in PROBES]
        seen.counts.append(mail.logins(USER, since=mark))

    shop.secret("login", USER, "not-the-password")
    for number in range(ROUNDS):
        if number:
            restart()
        each(number)
    shop.secret("login", USER, mail.users[USER])
    each(ROUNDS)
    return seen


def test_wrong_password_is_never_tried_a_third_time(seen: Seen) -> None:
    """Eight runs of two probes over three restarts: the server saw the wrong password once or twice, and no more."""
    wrong = seen.counts[:ROUNDS]
    assert len(wrong) == ROUNDS
    assert all(count.accepted == 0 and 1 <= count.refused <= 2 for count in wrong), wrong


def test_refusal_stays_in_every_status(seen: Seen) -> None:
    """While no login is sent both probes keep saying that the login is refused, and why."""
    for status in seen.statuses[: ROUNDS * len(PROBES)]:
        assert condition(status, "Ready")["reason"] == "BadCredentials"
        assert condition(status, "Authenticated")["status"] == "False"
        assert condition(status, "Secure")["status"] == "True"


def test_new_secret_is_tried_at_the_next_run(seen: Seen) -> None:
    """The next run after the Secret changed logs in, though the logins were held back, and both probes pass."""
    for status in seen.statuses[-len(PROBES) :]:
        assert condition(status, "Ready")["reason"] == "Succeeded"
    assert seen.counts[-1].accepted == len(PROBES)
    assert seen.counts[-1].refused == seen.counts[-2].refused


def test_login_that_somebody_asks_for_is_one(make_shop: Callable[[], Shop]) -> None:
    """Run-now allows one login, once: the operator's own rules hold for all runs after it."""
    shop = make_shop()
    mail = shop.facts.mail
    assert mail
    user, mark = "user14@corp.test", mail.mark()
    shop.secret("login", user, "not-the-password")
    shop.probe("asked", "submission", "starttls", credentialsSecretRef={"name": "login"})
    shop.judged("asked")
    assert mail.logins(user, since=mark).refused == 1
    shop.run_now("asked", "please")
    assert mail.logins(user, since=mark).refused == 2
    shop.probe("asked", "submission", "starttls", credentialsSecretRef={"name": "login"}, heloName="other.corp.test")
    status = shop.judged("asked")
    assert status["auth"]["paused"] is True
    assert mail.logins(user, since=mark).refused == 2
